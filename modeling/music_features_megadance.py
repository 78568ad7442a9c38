"""Music as numbers: a waveform becomes 35 columns at 30 rows a second (paper, section 3.1).

    features = music_features(waveform)               # (1 + samples // 512, 35), of a mono waveform at 15360 Hz
    features[:, ONSET_ENVELOPE]

Columns, in the released order: 20 MFCC, 12 chroma (of the harmonic part), onset envelope (of the percussive part), beat
and onset peak as 0/1. Sound is taken at 15360 Hz with a hop of 512 samples, so that a row is exactly one video frame: row
k describes the sound around k/30 s.

The numbers are librosa's. What is large (spectra: 8 kB a row) is made for a block of rows at a time, with as many more on
either side as can reach into it; so memory hardly grows with the song, and the blocks are shared among threads. Only what
is small is kept for the whole song: the waveform of the harmonic part and 128 mel bands a row.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

# Columns of `input_features`: index the last axis with them.
MFCC = slice(0, 20)
CHROMA = slice(20, 32)
ONSET_ENVELOPE = 32
BEAT = 33
PEAK = 34
NUM_FEATURES = 35

SAMPLING_RATE = 15360
HOP_LENGTH = 512  # 15360 / 512 = 30 rows a second

BLOCK_FRAMES = 512  # rows worked on at once: 17 s
_FFT = 2048
_MEDIAN = 31  # neighbours that decide what is harmonic and what percussive
_CHROMA_ALIGNMENT = (
    64  # rows; the constant-Q transform halves the rate several times, so a block starts at such a multiple
)
_CHROMA_SAMPLES = (
    32768  # shorter sounds do not fill the constant-Q transform's longest filter (24,000 samples at 15360 Hz)
)
_TEMPO_SECONDS = 8.0  # librosa's: the autocorrelation's window


def music_features(
    waveform: np.ndarray,
    sampling_rate: int = SAMPLING_RATE,
    hop_length: int = HOP_LENGTH,
    block_frames: int = BLOCK_FRAMES,
) -> np.ndarray:
    """The 35 columns of a mono waveform as the released code computes them (with librosa's defaults otherwise).

    Args:
        waveform: (samples,), floats.
        sampling_rate, hop_length: in Hz, in samples.
        block_frames: rows worked on at once, a multiple of 64. A sound of fewer rows is worked on as a whole.

    Returns:
        float32 `(1 + samples // hop_length, 35)`.
    """
    librosa = sound_library("librosa")
    rows, samples = 1 + len(waveform) // hop_length, len(waveform)
    starts = range(0, rows, block_frames)
    mel = librosa.filters.mel(sr=sampling_rate, n_fft=_FFT)
    harmonic = np.zeros(max(samples, _CHROMA_SAMPLES), waveform.dtype)

    def mels(first: int) -> tuple[np.ndarray, np.ndarray]:
        last = min(first + block_frames, rows)
        spectrum, harmonic_part, percussive = _separate(waveform, first, last, hop_length)
        end = min(last * hop_length, samples)
        harmonic[first * hop_length : end] = harmonic_part[: end - first * hop_length]
        return mel @ np.abs(spectrum) ** 2, mel @ np.abs(percussive) ** 2

    sound_mels, percussive_mels = (np.concatenate(parts, axis=1) for parts in zip(*_map(mels, starts), strict=True))
    envelope = librosa.onset.onset_strength(
        S=librosa.power_to_db(percussive_mels), sr=sampling_rate, hop_length=hop_length, aggregate=np.median
    )
    features = np.zeros((rows, NUM_FEATURES), dtype=np.float32)
    # decibels count from the loudest band of the whole sound, so a change of volume changes nothing
    features[:, MFCC] = librosa.feature.mfcc(S=librosa.power_to_db(sound_mels, ref=np.max), n_mfcc=20).T
    features[:, CHROMA] = _chroma(harmonic, rows, sampling_rate, hop_length, block_frames)
    features[:, ONSET_ENVELOPE] = envelope
    features[track_beats(envelope, sampling_rate, hop_length)[1], BEAT] = 1
    features[onset_peaks(envelope), PEAK] = 1
    return features


def track_beats(
    onset_envelope: np.ndarray, sampling_rate: int = SAMPLING_RATE, hop_length: int = HOP_LENGTH
) -> tuple[float, np.ndarray]:
    """Tempo in beats a minute (0 when there is no beat) and the rows of the beats, from an onset envelope `(frames,)`."""
    onset_envelope = np.asarray(onset_envelope)
    if not np.any(onset_envelope):
        return 0.0, np.zeros(0, dtype=np.int64)
    librosa = sound_library("librosa")
    # the mean of librosa's tempogram, a piece at a time
    window = int(librosa.time_to_frames(_TEMPO_SECONDS, sr=sampling_rate, hop_length=hop_length))
    rows, piece = len(onset_envelope), 8 * BLOCK_FRAMES
    padded = np.pad(onset_envelope, window // 2, mode="linear_ramp", end_values=0)
    total = np.zeros(window)
    for first in range(0, rows, piece):
        count = min(piece, rows - first)
        part = padded[first : first + count + window - 1]
        tempogram = librosa.feature.tempogram(
            onset_envelope=np.pad(part, (0, count + window - 1 - len(part))),
            sr=sampling_rate,
            hop_length=hop_length,
            win_length=window,
            center=False,
        )
        total += tempogram[:, :count].sum(axis=1)
    tempo = librosa.feature.tempo(tg=total[:, None] / rows, sr=sampling_rate, hop_length=hop_length)
    tempo, beats = librosa.beat.beat_track(
        onset_envelope=onset_envelope, sr=sampling_rate, hop_length=hop_length, bpm=tempo
    )
    return float(np.max(tempo)), beats


def onset_peaks(onset_envelope: np.ndarray) -> np.ndarray:
    """Rows of the onset peaks, from an onset envelope `(frames,)`: at most three a second.

    The parity data are met by librosa's picker with these numbers, not by `onset_detect`'s defaults.
    """
    return sound_library("librosa").util.peak_pick(
        np.asarray(onset_envelope), pre_max=3, post_max=3, pre_avg=3, post_avg=5, delta=0.5, wait=10
    )


def sound_library(name: str) -> Any:
    """librosa, scipy, soundfile and soxr are loaded when sound is first touched: they are slow to import, and a model that
    is fed ready features does without them. (The `try` also tells the Hub's scanner that they are optional.)"""
    try:
        if name == "librosa":
            import librosa as module
        elif name == "scipy.ndimage":
            import scipy.ndimage as module
        elif name == "soundfile":
            import soundfile as module
        else:
            import soxr as module
    except ImportError as error:
        raise ImportError(f"reading music needs {name} ({error}): pip install {name}") from error
    return module


# --- blocks ----------------------------------------------------------------------------------------------------------


def _map(function: Callable[[int], Any], starts: Iterable[int]) -> list[Any]:
    """The function of each block's first row, on as many threads as torch has."""
    starts = list(starts)
    threads = min(len(starts), torch.get_num_threads())
    if threads == 1:
        return [function(start) for start in starts]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, starts))


def _spectrum(piece: np.ndarray, origin: int, samples: int, first: int, last: int, hop_length: int) -> np.ndarray:
    """Columns `first` to `last` of a whole sound's centred spectrum, `[frequencies, last - first]`.

    Of the sound's `samples`, `piece` holds those from `origin` on, as far as they are needed; beyond its ends are zeros.
    """
    begin, end = first * hop_length - _FFT // 2, (last - 1) * hop_length + _FFT // 2
    inside = piece[max(begin, 0) - origin : min(end, samples) - origin]
    padded = np.pad(inside, (max(-begin, 0), end - max(begin, 0) - len(inside)))
    return sound_library("librosa").stft(padded, n_fft=_FFT, hop_length=hop_length, center=False)


def _separate(
    waveform: np.ndarray, first: int, last: int, hop_length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows `first` to `last`: spectrum of the sound, waveform of its harmonic part, spectrum of its percussive part."""
    librosa = sound_library("librosa")
    rows, samples, overlap = 1 + len(waveform) // hop_length, len(waveform), -(-_FFT // hop_length)
    start, stop = max(0, first - 2 * overlap), min(rows, last + 2 * overlap)  # added up, they give the rows' samples
    low, high = max(0, start - _MEDIAN // 2), min(rows, stop + _MEDIAN // 2)  # and what their medians look at
    spectrum = _spectrum(waveform, 0, samples, low, high, hop_length)
    origin = start * hop_length - _FFT // 2  # half a window before its first row; what lies before the sound is cut off
    harmonic, percussive = (
        librosa.istft(part[:, start - low : stop - low], hop_length=hop_length, center=False)[max(0, -origin) :]
        for part in harmonic_percussive(spectrum)
    )
    origin = max(0, origin)
    percussive = _spectrum(percussive, origin, samples, first, last, hop_length)
    harmonic = harmonic[first * hop_length - origin : last * hop_length - origin]
    return spectrum[:, first - low : last - low], harmonic, percussive


def harmonic_percussive(spectrum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A spectrum `[frequencies, frames]` in two of the same shape: `librosa.decompose.hpss` bit for bit, and faster."""
    librosa = sound_library("librosa")
    magnitude, phase = librosa.magphase(spectrum)
    steady = _running_median(magnitude)  # along time
    sudden = _running_median(np.ascontiguousarray(magnitude.T)).T  # along frequency
    masks = (librosa.util.softmask(a, b, power=2.0, split_zeros=True) for a, b in ((steady, sudden), (sudden, steady)))
    return tuple(magnitude * mask * phase for mask in masks)


def _running_median(rows: np.ndarray) -> np.ndarray:
    """Median over 31 neighbours along the last of two axes, mirrored at both ends.

    SciPy updates a window from place to place only in one dimension; in two it sorts each anew, which was 85 % of all time
    spent on features. So the rows, each with its own mirrored ends, are filtered as one long line.
    """
    half = _MEDIAN // 2
    line = np.pad(rows, ((0, 0), (half, half)), mode="symmetric")
    return sound_library("scipy.ndimage").median_filter(line.ravel(), _MEDIAN).reshape(line.shape)[:, half:-half]


# --- chroma ----------------------------------------------------------------------------------------------------------


def _chroma(
    harmonic: np.ndarray, rows: int, sampling_rate: int, hop_length: int, block_frames: int = BLOCK_FRAMES
) -> np.ndarray:
    """`[rows, 12]` of the harmonic part: librosa's chroma of the constant-Q transform over four octaves."""
    librosa = sound_library("librosa")
    tuning = _tuning(harmonic, sampling_rate, block_frames)
    reach = -(-_CHROMA_SAMPLES // (hop_length * _CHROMA_ALIGNMENT)) * _CHROMA_ALIGNMENT

    def part(first: int) -> np.ndarray:
        low, high = max(0, first - reach), first + block_frames + reach
        sound = harmonic[low * hop_length : high * hop_length]
        chroma = librosa.feature.chroma_cqt(
            y=sound, sr=sampling_rate, hop_length=hop_length, n_octaves=4, tuning=tuning
        )
        return chroma[:, first - low : min(first + block_frames, rows) - low].T

    return np.concatenate(_map(part, range(0, rows, block_frames)))


def _tuning(sound: np.ndarray, sampling_rate: int, block_frames: int) -> float:
    """`librosa.estimate_tuning` in thirds of a semitone; 0 for a sound without pitches, such as drums."""
    librosa = sound_library("librosa")
    hop_length = _FFT // 4
    rows = 1 + len(sound) // hop_length

    def pitches(first: int) -> tuple[np.ndarray, np.ndarray]:
        last = min(first + block_frames, rows)
        spectrum = np.abs(_spectrum(sound, 0, len(sound), first, last, hop_length))
        pitch, strength = librosa.piptrack(S=spectrum, sr=sampling_rate)
        found = pitch > 0
        return pitch[found], strength[found]

    pitch, strength = (
        np.concatenate(parts) for parts in zip(*_map(pitches, range(0, rows, block_frames)), strict=True)
    )
    if len(pitch) == 0:
        return 0.0
    return librosa.pitch_tuning(pitch[strength >= np.median(strength)], bins_per_octave=36)


__all__ = [
    "BEAT",
    "CHROMA",
    "HOP_LENGTH",
    "MFCC",
    "NUM_FEATURES",
    "ONSET_ENVELOPE",
    "PEAK",
    "SAMPLING_RATE",
    "harmonic_percussive",
    "music_features",
    "onset_peaks",
    "sound_library",
    "track_beats",
]
