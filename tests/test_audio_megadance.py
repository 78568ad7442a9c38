"""Reading of sound files: every kind, in pieces, and what cannot be read."""

import io
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import soxr
from helpers import noisy_song as song
from transformers.dynamic_module_utils import get_imports

from megadance_hf.modeling import audio_megadance as module
from megadance_hf.modeling.audio_megadance import AudioError, load_audio
from megadance_hf.modeling.music_features_megadance import SAMPLING_RATE

RATE = SAMPLING_RATE


def encoded(waveform: np.ndarray, rate: int, kind: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, format=kind, subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize(
    "kind, subtype, rate",
    [("WAV", "PCM_16", 44100), ("FLAC", None, 22050), ("OGG", "VORBIS", 48000), ("MP3", None, 44100)],
)
def test_any_file_stereo_and_resampled(tmp_path, kind, subtype, rate):
    mono = song(3.0, rate)
    data = encoded(np.stack([1.2 * mono, 0.8 * mono], axis=1), rate, kind, subtype)
    path = tmp_path / f"song.{kind.lower()}"
    path.write_bytes(data)
    waveform, sampling_rate = load_audio(path)
    assert sampling_rate == RATE and waveform.dtype == np.float32 and waveform.shape == (3 * RATE,)
    assert np.corrcoef(waveform, song(3.0))[0, 1] > 0.98  # also: not a sample too early or late
    assert np.array_equal(load_audio(data)[0], waveform)
    assert np.array_equal(load_audio(io.BytesIO(data))[0], waveform)
    own, own_rate = load_audio(str(path), sampling_rate=None, mono=False)
    assert own.shape == (3 * rate, 2) and own_rate == rate


@pytest.mark.parametrize("kind", ["WAV", "MP3"])
def test_files_are_read_in_pieces_without_seams(monkeypatch, kind):
    mono = song(3.0, 44100)
    data = encoded(np.stack([1.2 * mono, 0.8 * mono], axis=1), 44100, kind)
    decoded, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    monkeypatch.setattr(module, "_PIECE", 10_007)
    assert np.array_equal(load_audio(data)[0], soxr.resample(decoded.mean(axis=1), rate, RATE))
    assert np.array_equal(load_audio(data, sampling_rate=None, mono=False)[0], decoded)
    stereo = load_audio(data, mono=False, start=1, duration=1.5)[0]
    assert np.array_equal(stereo, soxr.resample(decoded[44100 : round(2.5 * 44100)], rate, RATE))


def test_start_and_duration():
    waveform = song(4.0)
    data = encoded(waveform, RATE, subtype="FLOAT")
    assert np.array_equal(load_audio(data, start=1.5, duration=1.0)[0], waveform[round(1.5 * RATE) : round(2.5 * RATE)])
    assert np.array_equal(load_audio(data, start=3, duration=60)[0], waveform[3 * RATE :])


def test_numbers_of_a_file_need_neither_torch_nor_compiled_loops(tmp_path):
    """A new process answers in two seconds because none of these is imported: librosa alone compiles for most of a minute."""
    path = tmp_path / "song.wav"
    path.write_bytes(encoded(song(2.0, 44100), 44100))
    code = (
        "import sys\n"
        "from megadance_hf import MegaDanceFeatureExtractor\n"
        "from megadance_hf.modeling.audio_megadance import load_audio\n"
        "from megadance_hf.modeling.music_features_megadance import music_features\n"
        "waveform, rate = load_audio(sys.argv[1])\n"
        "features = music_features(waveform)\n"
        "print(features.shape, [m for m in ('librosa', 'numba', 'scipy', 'torch') if m in sys.modules])\n"
        "MegaDanceFeatureExtractor()(waveform, sampling_rate=rate)\n"  # transformers itself asks for torch
        "print([m for m in ('librosa', 'numba', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "(61, 35) []\n[]\n"
    assert not {"librosa", "soundfile", "soxr"} & set(get_imports(module.__file__))  # optional to the Hub's scanner


def holed() -> np.ndarray:
    waveform = song()
    waveform[7680:] = np.nan
    return waveform


WAV = encoded(song(), RATE)


@pytest.mark.parametrize(
    "source, options, message",
    [
        ("nowhere.mp3", {}, r"'nowhere.mp3' does not exist: give the path"),
        (".", {}, r"'\.' is a folder"),
        (7, {}, r"source of type int: give a path"),
        (b"", {}, r"is empty \(0 bytes\): give"),
        (b"hello " * 99, {}, r"594 bytes is not audio.*: give a wav, mp3, ogg or flac"),
        (WAV[: len(WAV) // 2], {}, r"is cut short.*: fetch it again, or pass a duration"),
        (WAV[: len(WAV) // 2], {"duration": 2}, r"is cut short.*1\.50 s are there"),
        (WAV[: len(WAV) // 2], {"start": 2, "duration": 0.5}, r"start=2: .*ends at 1.50 s; give an earlier start"),
        (encoded(song(), RATE, "FLAC")[:9000], {}, r"is cut short or damaged.*: fetch"),
        (encoded(song(), 44100, "MP3")[:9000], {}, r"is cut short.*: fetch"),
        (encoded(song(), 44100, "OGG")[:9000], {}, r"is cut short.*: fetch"),
        (encoded(song(0.1), RATE), {}, r"lasts 0\.1 s, which is too short: give at least 0\.25 s"),
        (encoded(song(), RATE), {"start": 2.9}, r"from 2\.9 s on lasts 0\.1 s.*too short"),
        (encoded(np.zeros(RATE), RATE), {}, r"is silent \(peak 0.*: give a sound that can be heard"),
        (encoded(holed(), RATE, subtype="FLOAT"), {}, r"holds NaN or infinity in 83% .*first at 0\.50 s: export"),
        (WAV, {"start": -1}, r"start=-1: give 0 or more seconds"),
        (WAV, {"start": float("nan")}, r"start=nan: give 0 or more"),
        (WAV, {"start": 3.0}, r"start=3: .* ends at 3\.00 s; give an earlier start"),
        (WAV, {"duration": -2}, r"duration=-2: give more than 0 seconds"),
        (WAV, {"duration": 0}, r"duration=0: give more than 0"),
        (WAV, {"duration": "1"}, r"duration='1': give more than 0"),
    ],
)
def test_unusable_files_say_so_in_one_line(source, options, message):
    with pytest.raises(AudioError, match=message) as caught:
        load_audio(source, **options)
    assert "\n" not in str(caught.value) and isinstance(caught.value, ValueError)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "MP3", "OGG"])
def test_what_is_left_of_a_cut_file_can_be_read(kind):
    data = encoded(song(20.0, 44100), 44100, kind)
    waveform, _ = load_audio(data[: len(data) // 2], duration=2.0)
    assert np.corrcoef(waveform, song(20.0)[: 2 * RATE])[0, 1] > 0.98
