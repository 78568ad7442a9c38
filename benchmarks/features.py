"""Cost of music features: seconds per minute of sound, against plain librosa; a cold start; memory against length; JSON out.

    python benchmarks/features.py [--seconds 60] [--long 600] [--runs 5] [--threads 2] [--plain-cold-start]

`plain` calls librosa column by column on the whole sound. The cold start is a new process of a fresh installation (numba's
cache is empty) from its first import to `music_features` of `--seconds`; `cold_start_imports_seconds` is the part of the imports,
nearly all transformers'. `with_extractor` continues to the first call of the feature extractor, for which transformers loads
torch. `--plain-cold-start` measures plain librosa's as well, once, because it compiles for a minute. Memory is what a process
adds at its peak, reading the sound from a 44.1 kHz stereo file (Linux only).
"""

import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch
from timing import make_parser, median, median_ratio, print_report, run_python, seconds_of

from megadance_hf.modeling.music_features_megadance import HOP_LENGTH, SAMPLING_RATE, music_features

CHILD = """
import json, sys, time
began = time.perf_counter()
from megadance_hf.modeling.audio_megadance import load_audio
from megadance_hf.modeling.music_features_megadance import music_features
imported = time.perf_counter() - began

def peak():
    fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(fields["VmHWM"].split()[0]) / 1024

if sys.argv[2] == "warm":
    import numpy
    music_features(numpy.sin(numpy.arange(46080) ** 1.1).astype("float32"))  # libraries are loaded
before = peak()
waveform, rate = load_audio(sys.argv[1])
music_features(waveform)
report = {"seconds": time.perf_counter() - began, "imports": imported, "added_mb": peak() - before}
from megadance_hf import MegaDanceFeatureExtractor
MegaDanceFeatureExtractor()(waveform[:rate], sampling_rate=rate)  # transformers asks for torch here
report["with_extractor"] = time.perf_counter() - began
print(json.dumps(report))
"""

PLAIN_CHILD = """
import json, runpy, sys, time
import numpy, soundfile, torch  # what this file imports is not librosa's
plain_features = runpy.run_path(sys.argv[2])["plain_features"]
began = time.perf_counter()
import librosa
plain_features(librosa.load(sys.argv[1], sr=15360)[0])
print(json.dumps({"seconds": time.perf_counter() - began}))
"""


def some_music(seconds: float, rate: int = SAMPLING_RATE) -> np.ndarray:
    """Chords that change every two seconds, a beat, a little noise: float32 (samples,)."""
    time_axis = np.arange(round(seconds * rate)) / rate
    root = 220 * 2 ** (np.array([0, 5, 7, 3])[(time_axis / 2).astype(int) % 4] / 12)
    chords = sum(np.sin(2 * np.pi * root * ratio * time_axis) for ratio in (1, 1.25, 1.5))
    noise = np.random.default_rng(0).standard_normal(len(time_axis))
    since_beat = time_axis % 0.5
    return (0.1 * chords + 0.3 * np.exp(-since_beat / 0.03) * noise + 0.003 * noise).astype(np.float32)


def plain_features(waveform: np.ndarray) -> np.ndarray:
    """The first 33 columns and the beats by librosa's own functions alone."""
    import librosa

    harmonic, percussive = librosa.effects.hpss(waveform)
    columns = {"sr": SAMPLING_RATE, "hop_length": HOP_LENGTH}
    mel = librosa.power_to_db(librosa.feature.melspectrogram(y=waveform, **columns), ref=np.max)
    chroma = librosa.feature.chroma_cqt(y=harmonic, n_octaves=4, **columns)
    envelope = librosa.onset.onset_strength(y=percussive, aggregate=np.median, **columns)
    librosa.beat.beat_track(onset_envelope=envelope, **columns)
    return np.concatenate((librosa.feature.mfcc(S=mel, n_mfcc=20), chroma, envelope[None])).T


def child(code: str, *arguments: str | Path) -> dict[str, float]:
    """What a new process says that has nothing compiled before."""
    with tempfile.TemporaryDirectory() as empty:
        return run_python(code, *arguments, NUMBA_CACHE_DIR=empty)


def main(argv: list[str] | None = None) -> dict:
    parser = make_parser(__doc__, runs=5, threads=2)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--long", type=float, default=600.0, help="seconds of the sound whose memory is measured")
    parser.add_argument("--plain-cold-start", action="store_true")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    music = some_music(arguments.seconds)
    difference = np.abs(music_features(music)[:, :33] - plain_features(music)).max()  # also loads and compiles

    ours, plain = [], []
    for _ in range(arguments.runs):  # in turn, so that a busy moment strikes both
        for function, times in ((music_features, ours), (plain_features, plain)):
            times.append(seconds_of(function, music) * 60 / arguments.seconds)

    with tempfile.TemporaryDirectory() as folder:
        files = {seconds: Path(folder) / f"{seconds}.wav" for seconds in (20.0, arguments.seconds, arguments.long)}
        for seconds, path in files.items():
            sound = some_music(seconds, 44100)
            soundfile.write(path, np.stack([sound, sound], axis=1), 44100)
        cold = [child(CHILD, files[arguments.seconds], "cold") for _ in range(arguments.runs)]
        plain_cold = child(PLAIN_CHILD, files[arguments.seconds], __file__) if arguments.plain_cold_start else None
        added = {seconds: child(CHILD, files[seconds], "warm")["added_mb"] for seconds in (20.0, arguments.long)}
    report = {
        "seconds_per_minute": median(ours, 3),
        "plain_seconds_per_minute": median(plain, 3),
        "plain_over_ours": median_ratio(plain, ours),
        "largest_difference_from_plain": float(difference),
        "cold_start_seconds": median([run["seconds"] for run in cold]),
        "cold_start_imports_seconds": median([run["imports"] for run in cold]),
        "cold_start_with_extractor_seconds": median([run["with_extractor"] for run in cold]),
        "plain_cold_start_seconds": round(plain_cold["seconds"], 2) if plain_cold else None,
        "peak_mb_20_s": round(added[20.0]),
        f"peak_mb_{arguments.long:g}_s": round(added[arguments.long]),
        "threads": arguments.threads,
        "runs": arguments.runs,
    }
    return print_report(report)


if __name__ == "__main__":
    main()
