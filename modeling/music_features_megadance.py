"""Music features: a waveform becomes 35 columns at 30 rows per second (paper, section 3.1).

    features = music_features(waveform)               # (1 + samples // 512, 35), of a mono waveform at 15360 Hz
    features[:, ONSET_ENVELOPE]

Columns, in the released order: 20 MFCC, 12 chroma (of the harmonic part), onset envelope (of the percussive part), beat and onset
peak as 0/1. The sampling rate is 15360 Hz and the hop 512 samples, so that a row is exactly one video frame: row k describes the
sound around k/30 s.

The features equal librosa's, against which the tests compare them, but librosa is not needed: it compiles its loops at first use,
which takes longer than the features of a song. This module needs numpy, and soxr for resampling.

Spectra are large (8 kB per row), so they are computed for a block of rows at a time, with the margin that the block depends on.
Memory hardly grows with the song, and the blocks run in several threads. Only the waveform of the harmonic part and 128 mel bands
per row are kept for the whole song.
"""

import itertools
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

# Columns of `input_features` in the released order, by their number. Another feature is another entry, filled in by
# `music_features`; every size follows from here.
_WIDTHS = {"mfcc": 20, "chroma": 12, "onset_envelope": 1, "beat": 1, "peak": 1}
_ENDS = dict(zip(_WIDTHS, itertools.accumulate(_WIDTHS.values()), strict=True))
MUSIC_COLUMNS = {name: slice(_ENDS[name] - width, _ENDS[name]) for name, width in _WIDTHS.items()}
MUSIC_FEATURE_SIZE = sum(_WIDTHS.values())
# Index the last axis with these.
MFCC, CHROMA = MUSIC_COLUMNS["mfcc"], MUSIC_COLUMNS["chroma"]
ONSET_ENVELOPE, BEAT, PEAK = (MUSIC_COLUMNS[name].start for name in ("onset_envelope", "beat", "peak"))
EVENTS = [BEAT, PEAK]  # 0 or 1: what continues a song has none of them

SAMPLING_RATE = 15360
HOP_LENGTH = 512  # 15360 / 512 = 30 rows per second

BLOCK_FRAMES = 512  # rows per block: 17 s
_FFT = 2048
_MELS = 128
_MEDIAN = 31  # width of the median filters that separate harmonic from percussive
_GROUP = 16  # neighbouring medians that are computed together
_LANES = 8192  # numbers per step of that: few enough to stay in the cache, enough to outweigh the call
_TINY = np.finfo(np.float32).tiny

# librosa's constants of beat tracking
_TEMPO_SECONDS = 8.0  # length of the autocorrelation
_TEMPO_MAX = 320.0  # beats per minute
_TIGHTNESS = 100.0  # tempo-deviation penalty

# Prior of the tempo, log-normal: beats per minute, and the standard deviation in octaves.
TEMPO_PRIOR = (120.0, 1.0)  # librosa's
# The autocorrelation of a few seconds is often as high at twice the tempo. Of 294 excerpts of 49 ballroom songs, 10 s long, 48 got
# another tempo than the song; with this prior 22. (5, 15, 20 s: 75, 34, 28; with it 48, 23, 13.)
SHORT_TEMPO_PRIOR, SHORT_SECONDS = (115.0, 0.7), 20.0

# librosa's constants of its chroma
_OCTAVES, _BINS = 4, 36  # bins per octave
_LOWEST = 440 * 2 ** (-45 / 12)  # C1, 32.7 Hz
_HANN_BANDWIDTH = 1.50018310546875  # of the Hann window, in bins
# Shorter sounds, which do not fill the longest filter (24,000 samples at 15360 Hz), are padded with zeros.
_CHROMA_SAMPLES = 32768


def music_features(
    waveform: np.ndarray,
    sampling_rate: int = SAMPLING_RATE,
    hop_length: int = HOP_LENGTH,
    block_frames: int = BLOCK_FRAMES,
    tempo_prior: tuple[float, float] = TEMPO_PRIOR,
) -> np.ndarray:
    """The 35 columns of a mono waveform as the released code computes them (with librosa's defaults otherwise).

    Args:
        waveform: (samples,), floats.
        sampling_rate, hop_length: in Hz, in samples.
        block_frames: rows per block.
        tempo_prior: the likeliest tempo in beats per minute, and the standard deviation in octaves.

    Returns:
        float32 `(1 + samples // hop_length, 35)`.
    """
    waveform = np.asarray(waveform, dtype=np.float32)
    rows, samples = 1 + len(waveform) // hop_length, len(waveform)
    mel = _mel_filters(sampling_rate)
    harmonic = np.zeros(max(samples, _CHROMA_SAMPLES), np.float32)
    sound_mels, percussive_mels = np.empty((2, rows, _MELS), np.float32)

    def analyse(first: int) -> None:
        last = min(first + block_frames, rows)
        magnitude, harmonic_part, percussive = _separate(waveform, first, last, hop_length)
        end = min(last * hop_length, samples)
        harmonic[first * hop_length : end] = harmonic_part[: end - first * hop_length]
        sound_mels[first:last] = magnitude**2 @ mel
        percussive_mels[first:last] = np.abs(percussive) ** 2 @ mel

    _map(analyse, range(0, rows, block_frames))
    features = np.zeros((rows, MUSIC_FEATURE_SIZE), dtype=np.float32)
    # decibels are relative to the loudest band of the whole sound, so the volume has no influence
    features[:, MFCC] = _decibels(sound_mels, float(sound_mels.max())) @ _cosines(MFCC.stop)
    features[:, CHROMA] = _chroma(harmonic, rows, sampling_rate, hop_length, block_frames)
    envelope = _onset_envelope(_decibels(percussive_mels, 1.0), hop_length)
    features[:, ONSET_ENVELOPE] = envelope
    features[track_beats(envelope, sampling_rate, hop_length, tempo_prior)[1], BEAT] = 1
    features[onset_peaks(envelope), PEAK] = 1
    return features


def song_features(
    waveform: np.ndarray,
    sampling_rate: int = SAMPLING_RATE,
    hop_length: int = HOP_LENGTH,
    rows: slice | None = None,
) -> np.ndarray:
    """The features a dance is made to: the `rows` of an excerpt (see `load_excerpt`), by default as many as a dance to the whole
    song has frames, `num_rows`. In 20 s or less, the beat tracker prefers usual tempi more strongly.

    Args:
        waveform: (samples,), floats.
        sampling_rate, hop_length: in Hz, in samples.

    Returns:
        float32 (rows, 35).
    """
    short = len(waveform) <= SHORT_SECONDS * sampling_rate
    prior = SHORT_TEMPO_PRIOR if short else TEMPO_PRIOR
    features = music_features(waveform, sampling_rate, hop_length, tempo_prior=prior)
    return features[rows or slice(num_rows(len(waveform), hop_length))]


def num_rows(num_samples: int, hop_length: int = HOP_LENGTH) -> int:
    """Rows of a song: the nearest whole number of hops, halves rounded up."""
    return (num_samples + hop_length // 2) // hop_length


def sound_library(name: str) -> Any:
    """soundfile, soxr or av, imported at first use: a model that is given features does not need them.

    Raises:
        ImportError: it is not installed; the message says how to install it.
    """
    try:  # which also tells the Hub's scanner that they are optional
        if name == "soundfile":
            import soundfile as module
        elif name == "av":
            import av as module
        else:
            import soxr as module
    except ImportError as error:
        raise ImportError(f"reading music needs {name} ({error}): pip install {name}") from error
    return module


# --- blocks ----------------------------------------------------------------------------------------------------------


def _map(function: Callable[[int], Any], starts: Sequence[int]) -> list[Any]:
    """Call the function with each block's first row, in as many threads as torch uses."""
    # importing torch takes longer than the features of a song, so it is only asked if it is imported already
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):  # another thread may just be importing it
        threads = torch.get_num_threads()
    else:
        given = os.environ.get("OMP_NUM_THREADS", "")
        threads = int(given) if given.isdigit() else os.cpu_count() or 1
    threads = max(1, min(len(starts), threads))
    if threads == 1:
        return [function(start) for start in starts]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, starts))


@lru_cache
def _hann(size: int) -> np.ndarray:
    """The periodic Hann window, float64 (size,)."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)


def _frames(
    piece: np.ndarray, origin: int, samples: int, first: int, last: int, size: int, hop_length: int
) -> np.ndarray:
    """Frames `first` to `last` of a sound, `[last - first, size]`: frame k is centred on sample k * hop_length.

    `piece` holds the sound's samples from `origin` on, as far as they are needed; beyond the sound's ends are zeros.
    """
    begin, end = first * hop_length - size // 2, (last - 1) * hop_length + size // 2
    inside = piece[max(begin, 0) - origin : max(min(end, samples), 0) - origin]
    before = max(-begin, 0)
    padded = np.zeros(end - begin, piece.dtype)
    padded[before : before + len(inside)] = inside
    return sliding_window_view(padded, size)[::hop_length]


def _spectrum(piece: np.ndarray, origin: int, samples: int, first: int, last: int, hop_length: int) -> np.ndarray:
    """Rows `first` to `last` of a sound's short-time Fourier transform, complex64 `[last - first, frequencies]`."""
    frames = _frames(piece, origin, samples, first, last, _FFT, hop_length)
    return np.fft.rfft(frames * _hann(_FFT)).astype(np.complex64)


def _waveform(spectrum: np.ndarray, hop_length: int) -> np.ndarray:
    """Inverse transform of `[rows, frequencies]`: the samples from half a window before the first row on."""
    count = -(-_FFT // hop_length)  # hops per window

    def overlap_add(frames: np.ndarray) -> np.ndarray:
        total = np.zeros((len(spectrum) + count - 1, hop_length), np.float32)
        for step in range(count):
            part = frames[..., step * hop_length : (step + 1) * hop_length]
            total[step : step + len(spectrum), : part.shape[-1]] += part
        return total.ravel()

    window = _hann(_FFT).astype(np.float32)
    frames = np.fft.irfft(spectrum, n=_FFT).astype(np.float32, copy=False)
    frames *= window
    weight = overlap_add(window**2)
    weight[weight <= _TINY] = 1
    return overlap_add(frames) / weight


# --- harmonic and percussive parts -----------------------------------------------------------------------------------


def _separate(
    waveform: np.ndarray, first: int, last: int, hop_length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows `first` to `last`: magnitudes of the sound, waveform of its harmonic part, spectrum of its percussive part."""
    rows, samples, overlap = 1 + len(waveform) // hop_length, len(waveform), -(-_FFT // hop_length)
    # with the rows that overlap with those of the block, and those that their medians depend on
    start, stop = max(0, first - 2 * overlap), min(rows, last + 2 * overlap)
    low, high = max(0, start - _MEDIAN // 2), min(rows, stop + _MEDIAN // 2)
    spectrum = _spectrum(waveform, 0, samples, low, high, hop_length)
    magnitude = np.abs(spectrum)
    origin = start * hop_length - _FFT // 2  # half a window before the first row; samples before the sound are cut off
    harmonic, percussive = (
        _waveform(spectrum[start - low : stop - low] * mask[start - low : stop - low], hop_length)[max(0, -origin) :]
        for mask in harmonic_percussive_masks(magnitude)
    )
    origin = max(0, origin)
    percussive = _spectrum(percussive, origin, samples, first, last, hop_length)
    harmonic = harmonic[first * hop_length - origin : last * hop_length - origin]
    return magnitude[first - low : last - low], harmonic, percussive


def harmonic_percussive_masks(magnitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The harmonic and the percussive share of magnitudes `[frames, frequencies]`: two arrays of the same shape, in [0, 1], with
    the sum 1; bit for bit the masks of `librosa.decompose.hpss`."""
    steady = running_median(magnitude)  # along time
    sudden = running_median(np.ascontiguousarray(magnitude.T)).T  # along frequency
    larger = np.maximum(steady, sudden)
    silent = larger < _TINY
    larger[silent] = 1
    steady /= larger
    sudden = sudden / larger
    steady *= steady
    sudden *= sudden
    total = steady + sudden
    total[silent] = 1
    steady /= total
    sudden /= total
    steady[silent] = sudden[silent] = 0.5
    return steady, sudden


def running_median(values: np.ndarray) -> np.ndarray:
    """Median over 31 neighbours along the first of two axes, mirrored at both ends.

    Sixteen neighbouring windows have sixteen values in common. These are sorted once. Then the group is halved, and the further
    values that all windows of a half have in common are merged in, keeping only candidates for the median. That takes 40 minima
    and maxima of whole arrays per median, a fifth of the time of SciPy's filter, which moves one window at a time.
    """
    rows, width = values.shape
    groups = -(-rows // _GROUP)
    mirrored = np.pad(values, ((_MEDIAN // 2, _MEDIAN // 2), (0, 0)), mode="symmetric")
    filled = np.pad(mirrored, ((0, groups * _GROUP - rows), (0, 0)))
    result = np.empty((groups, _GROUP, width), values.dtype)
    at_once = max(1, _LANES // width)
    for first in range(0, groups, at_once):
        count = min(at_once, groups - first)
        # lines[k]: value k of each group's first window, hence value k - j of its window j
        starts = [first * _GROUP + k for k in range(_MEDIAN + _GROUP - 1)]
        lines = [filled[start : start + (count - 1) * _GROUP + 1 : _GROUP] for start in starts]
        _medians(lines, _sorted(lines[_GROUP - 1 : _MEDIAN]), 0, _GROUP, result[first : first + count])
    return result.reshape(groups * _GROUP, width)[:rows]


def _medians(lines: list, candidates: list, first: int, count: int, result: np.ndarray) -> None:
    """Fill columns `first` to `first + count` of the result, given the sorted candidates for their medians, `count` of them."""
    if count == 1:
        result[:, first] = candidates[0]
        return
    half = count // 2
    for start, more in ((first, first + half - 1), (first + half, first + _MEDIAN)):
        others = _sorted(lines[more : more + half])  # the further values that all windows of this half have
        smaller = _merged([np.minimum(a, b) for a, b in zip(candidates[half:], others[::-1], strict=True)])
        middle = _merged([np.maximum(a, b) for a, b in zip(candidates[:half], smaller[::-1], strict=True)])
        _medians(lines, middle, start, half, result)


def _sorted(lines: list) -> list:
    """Sort arrays of one shape elementwise: a bitonic sorting network; their number is a power of two."""
    if len(lines) == 1:
        return lines
    half = len(lines) // 2
    return _merged(_sorted(lines[:half]) + _sorted(lines[half:])[::-1])


def _merged(lines: list) -> list:
    """Sort arrays that first rise and then fall, or the other way round (a bitonic merge)."""
    if len(lines) == 1:
        return lines
    half = len(lines) // 2
    pairs = list(zip(lines[:half], lines[half:], strict=True))
    return _merged([np.minimum(a, b) for a, b in pairs]) + _merged([np.maximum(a, b) for a, b in pairs])


# --- mel bands -------------------------------------------------------------------------------------------------------


@lru_cache
def _mel_filters(sampling_rate: int) -> np.ndarray:
    """float32 `[frequencies, 128]`: triangles on Slaney's mel scale, of equal area."""
    linear, step = 1000 / (200 / 3), np.log(6.4) / 27  # 200/3 Hz per mel up to 1000 Hz, logarithmic above
    top = sampling_rate / 2
    top = top / (200 / 3) if top < 1000 else linear + np.log(top / 1000) / step
    mels = np.linspace(0, top, _MELS + 2)
    edges = np.where(mels < linear, mels * (200 / 3), 1000 * np.exp(step * (mels - linear)))
    frequencies = np.arange(_FFT // 2 + 1) * sampling_rate / _FFT
    widths = np.diff(edges)
    rising = (frequencies - edges[:-2, None]) / widths[:-1, None]
    falling = (edges[2:, None] - frequencies) / widths[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return np.ascontiguousarray((triangles * (2 / (edges[2:] - edges[:-2]))[:, None]).T, dtype=np.float32)


@lru_cache
def _cosines(count: int) -> np.ndarray:
    """float32 `[128, count]`: the first columns of the orthonormal cosine transform from decibels to MFCC."""
    angles = np.pi / _MELS * (np.arange(_MELS) + 0.5)[:, None] * np.arange(count)
    cosines = np.cos(angles) * np.sqrt(2 / _MELS)
    cosines[:, 0] /= np.sqrt(2)
    return cosines.astype(np.float32)


def mel_bands(edges: Sequence[int]) -> np.ndarray:
    """float64 `[20, bands]`: what MFCC are multiplied with for the mean decibels of mel bands between these numbers, 0 to 128."""
    cosines = _cosines(MFCC.stop).astype(np.float64)
    return np.stack([cosines[low:high].mean(0) for low, high in itertools.pairwise(edges)], axis=1)


def _decibels(power: np.ndarray, reference: float) -> np.ndarray:
    """Decibels of a power relative to the reference, at most 80 below the loudest."""
    decibels = 10 * np.log10(np.maximum(1e-10, power)) - 10 * np.log10(max(1e-10, reference))
    return np.maximum(decibels, decibels.max() - 80)


# --- onsets and beats ------------------------------------------------------------------------------------------------


def _onset_envelope(decibels: np.ndarray, hop_length: int) -> np.ndarray:
    """`[rows, 128]` -> `(rows,)`: the median increase over the bands, delayed by half a window as in librosa."""
    rows = len(decibels)
    delay = 1 + _FFT // (2 * hop_length)
    growth = np.median(np.maximum(0, np.diff(decibels, axis=0)), axis=1)
    return np.concatenate((np.zeros(delay, np.float32), growth))[:rows]


def onset_peaks(onset_envelope: np.ndarray) -> np.ndarray:
    """Rows of the onset peaks, from an onset envelope `(frames,)`: at most three per second.

    librosa's peak picker with these numbers reproduces the parity data; `onset_detect`'s defaults do not.
    """
    envelope = np.asarray(onset_envelope)
    before, after, mean_after, rise, wait = 3, 3, 5, 0.5, 10
    rows = len(envelope)
    near = sliding_window_view(np.pad(envelope, (before, after - 1), constant_values=-np.inf), before + after)
    wide = np.pad(envelope, (before, mean_after - 1))
    total = np.zeros(rows, envelope.dtype)
    for step in range(before + mean_after):
        total += wide[step : step + rows]
    index = np.arange(rows)
    mean = total / (np.minimum(index + mean_after, rows) - np.maximum(index - before, 0))
    peaks, next_row = [], 0
    for row in np.flatnonzero((envelope == near.max(axis=1)) & (envelope >= mean + rise)).tolist():
        if row >= next_row:
            peaks.append(row)
            next_row = row + wait + 1
    return np.array(peaks, dtype=np.int64)


def track_beats(
    onset_envelope: np.ndarray,
    sampling_rate: int = SAMPLING_RATE,
    hop_length: int = HOP_LENGTH,
    tempo_prior: tuple[float, float] = TEMPO_PRIOR,
) -> tuple[float, np.ndarray]:
    """Tempo in beats per minute (0 when there is no beat) and the rows of the beats, from an onset envelope `(frames,)`."""
    envelope = np.asarray(onset_envelope)
    if not np.any(envelope):
        return 0.0, np.zeros(0, dtype=np.int64)
    tempo = _tempo(envelope, sampling_rate, hop_length, tempo_prior)
    period = int(np.round(60 * sampling_rate / hop_length / tempo))  # rows
    # how well a beat fits each row: the envelope, smoothed by a thirty-second of the period; row 0 does not count
    strength = (envelope / (envelope.std(ddof=1) + _TINY)).astype(np.float64)
    strength[0] = 0
    window = np.exp(-0.5 * (np.arange(-period, period + 1) * 32 / period) ** 2)
    fit = np.convolve(strength, window)[period : period + len(strength)]

    total, previous = _best_paths(fit, period)
    peaks = np.append(False, total[1:] > total[:-1])  # never the first row
    peaks[:-1] &= total[:-1] >= total[1:]
    row = len(fit) - 1
    if peaks.any():
        good = peaks & (total >= 0.5 * np.median(total[peaks]))
        row = int(np.flatnonzero(good)[-1]) if good.any() else row
    path = []
    while row >= 0:
        path.append(row)
        row = int(previous[row])
    beats = np.array(path[::-1])
    # beats before the first and after the last loud row are dropped
    loudness = np.convolve(fit[beats], np.hanning(5))[2 : 2 + len(fit)]
    loud = np.flatnonzero(fit > 0.5 * np.sqrt(np.mean(loudness**2)))
    if len(loud) == 0:
        return tempo, np.zeros(0, dtype=np.int64)
    return tempo, beats[(beats >= loud[0]) & (beats <= loud[-1])]


def _tempo(envelope: np.ndarray, sampling_rate: int, hop_length: int, tempo_prior: tuple[float, float]) -> float:
    """Tempo in beats per minute with the highest mean autocorrelation over eight seconds, weighted by the prior."""
    window = int(_TEMPO_SECONDS * sampling_rate) // hop_length
    padded = np.pad(envelope, window // 2, mode="linear_ramp", end_values=0)
    frames = sliding_window_view(np.pad(padded, (0, window)), window)
    power = np.zeros(window + 1)
    for first in range(0, len(envelope), BLOCK_FRAMES):
        part = frames[first : min(first + BLOCK_FRAMES, len(envelope))] * _hann(window)
        energy = np.square(part).sum(axis=1)  # each autocorrelation is divided by its largest value, which is this
        weight = 1 / np.where(energy < np.finfo(np.float64).tiny, 1, energy)
        power += weight @ np.abs(np.fft.rfft(part, n=2 * window)) ** 2
    correlation = np.fft.irfft(power / len(envelope))[1:window]  # lags of 1 row and more
    tempi = 60 * sampling_rate / (hop_length * np.arange(1.0, window))
    usual, octaves = tempo_prior
    prior = np.where(tempi < _TEMPO_MAX, -0.5 * (np.log2(tempi / usual) / octaves) ** 2, -np.inf)
    return float(tempi[np.argmax(np.log1p(1e6 * correlation) + prior)])


def _best_paths(fit: np.ndarray, period: int) -> tuple[np.ndarray, np.ndarray]:
    """For every row, if it were a beat: the score of the best sequence of beats up to it, and the beat before it (-1: none).

    Beats are half a period or more apart, so that many rows are computed at once.
    """
    steps = np.arange(max(1, round(period / 2)), 2 * period + 1)
    penalty = _TIGHTNESS * (np.log(steps) - np.log(period)) ** 2
    longest = 2 * period
    total = np.full(longest + len(fit), -np.inf)  # no beats before the sound
    previous = np.full(len(fit), -1)
    # row k of `earlier`, reversed: the totals `steps` before row k
    earlier = sliding_window_view(total, len(steps))
    for first in range(0, len(fit), int(steps[0])):
        last = min(first + int(steps[0]), len(fit))
        score = earlier[first:last, ::-1] - penalty
        best = score.argmax(axis=1)
        gain = score[np.arange(last - first), best]
        found = np.isfinite(gain)
        total[longest + first : longest + last] = fit[first:last] + np.where(found, gain, 0)
        previous[first:last] = np.where(found, np.arange(first, last) - steps[best], -1)
    loud = np.flatnonzero(fit >= 0.01 * fit.max())
    previous[: loud[0]] = -1  # the first beat is not in silence
    return total[longest:], previous


# --- chroma ----------------------------------------------------------------------------------------------------------


def _chroma(
    harmonic: np.ndarray, rows: int, sampling_rate: int, hop_length: int, block_frames: int = BLOCK_FRAMES
) -> np.ndarray:
    """`[rows, 12]` of the harmonic part: a constant-Q transform over four octaves from C1 on, 36 bins each, folded.

    From octave to octave the sampling rate is halved, so that the same filters serve the next lower octave.
    """
    lowest = _LOWEST * 2 ** (_tuning(harmonic, sampling_rate, block_frames) / _BINS)
    frequencies = lowest * 2 ** (np.arange(_OCTAVES * _BINS) / _BINS)
    width = (2 ** (2 / _BINS) - 1) / (2 ** (2 / _BINS) + 1)  # of a bin, as a share of its frequency
    cutoff = frequencies[-1] * (1 + 0.5 * _HANN_BANDWIDTH * width)
    halvings = int(np.ceil(np.log2(sampling_rate / 2 / cutoff))) - 2  # of the rate, before the first octave
    divisions = (hop_length & -hop_length).bit_length() - 1  # how often the hop can be halved
    halvings = max(0, min(halvings, divisions - _OCTAVES + 1))

    sound, rate, hop = _resampled(harmonic, 2**halvings), sampling_rate / 2**halvings, hop_length >> halvings
    first_rate = rate
    octaves = []  # sound, hop, filters [size, 2 * 36]
    for octave in range(_OCTAVES):
        if octave and hop % 2 == 0:
            sound, rate, hop = _resampled(sound, 2), rate / 2, hop // 2
        bins = frequencies[::-1][octave * _BINS : (octave + 1) * _BINS][::-1]
        scale = np.sqrt(first_rate / rate) / np.sqrt(first_rate / (width * bins))
        octaves.append((sound, hop, _filters(bins / rate, width, scale)))

    def part(first: int) -> np.ndarray:
        last = min(first + block_frames, rows)
        chroma = np.zeros((last - first, 12), np.float32)
        for sound, hop, filters in octaves:
            response = _frames(sound, 0, len(sound), first, last, len(filters), hop) @ filters
            strength = np.sqrt(response[:, :_BINS] ** 2 + response[:, _BINS:] ** 2)
            # three bins per note, the middle one in tune: the last bin belongs to the first note
            chroma += np.roll(strength, 1, axis=1).reshape(last - first, 12, 3).sum(axis=2)
        largest = chroma.max(axis=1, keepdims=True)
        largest[largest < _TINY] = 1
        return chroma / largest

    return np.concatenate(_map(part, range(0, rows, block_frames)))


def _resampled(sound: np.ndarray, factor: int) -> np.ndarray:
    """A sound at its rate divided by the factor, with the same energy."""
    if factor == 1:
        return sound
    size = -(-len(sound) // factor)
    result = np.asarray(sound_library("soxr").resample(sound, factor, 1, quality="soxr_hq"))[:size]
    return np.pad(result, (0, size - len(result))) * np.float32(np.sqrt(factor))


def _filters(frequencies: np.ndarray, width: float, scale: np.ndarray) -> np.ndarray:
    """Filters of the constant-Q transform: float32 `[size, 2 * bins]`, real parts and imaginary parts.

    `frequencies` (bins,) in periods per sample. librosa multiplies spectra by filters whose smallest 1 % it sets to zero; to
    multiply the sound by these filters is the same, and faster.
    """
    lengths = 1 / (width * frequencies)
    size = int(2 ** np.ceil(np.log2(lengths.max())))
    filters = np.zeros((len(frequencies), size), np.complex128)
    for row, length, frequency in zip(filters, lengths, frequencies, strict=True):
        time = np.arange(-length // 2, length // 2)
        start = (size - len(time)) // 2
        window = _hann(len(time))
        row[start : start + len(time)] = np.exp(2j * np.pi * frequency * time) * window * (length / size / window.sum())
    spectra = np.fft.fft(filters)[:, : size // 2 + 1]
    magnitudes = np.abs(spectra)
    ascending = np.sort(magnitudes, axis=1)
    share = np.cumsum(ascending / ascending.sum(axis=1, keepdims=True), axis=1)
    smallest = np.take_along_axis(ascending, np.argmin(share < 0.01, axis=1)[:, None], axis=1)
    spectra[magnitudes < smallest] = 0
    filters = np.fft.fft(spectra, n=size).T * scale
    return np.concatenate((filters.real, filters.imag), axis=1).astype(np.float32)


def _tuning(sound: np.ndarray, sampling_rate: int, block_frames: int) -> float:
    """Deviation of the pitches from the scale, in thirds of a semitone (-0.5 to 0.5); 0 for a sound without pitches."""
    hop_length = _FFT // 4
    rows = 1 + len(sound) // hop_length

    def part(first: int) -> tuple[np.ndarray, np.ndarray]:
        last = min(first + block_frames, rows)
        return pitches(np.abs(_spectrum(sound, 0, len(sound), first, last, hop_length)), sampling_rate)

    parts = _map(part, range(0, rows, block_frames))
    pitch, strength = (np.concatenate(values) for values in zip(*parts, strict=True))
    if len(pitch) == 0:
        return 0.0
    pitch = pitch[strength >= np.median(strength)]
    deviation = np.mod(_BINS * np.log2(pitch / (440 / 16)), 1)
    deviation[deviation >= 0.5] -= 1
    counts, edges = np.histogram(deviation, np.linspace(-0.5, 0.5, 101))
    return float(edges[np.argmax(counts)])


def pitches(magnitude: np.ndarray, sampling_rate: int = SAMPLING_RATE) -> tuple[np.ndarray, np.ndarray]:
    """Frequency in Hz and strength of every peak between 150 and 4000 Hz of spectra `[rows, frequencies]` that reaches a
    tenth of its row's largest value: two `(peaks,)`, row by row; the peaks that `librosa.piptrack` finds."""
    size = 2 * (magnitude.shape[1] - 1)
    frequencies = np.arange(magnitude.shape[1]) * sampling_rate / size
    inside = np.flatnonzero((frequencies >= 150) & (frequencies < min(4000, sampling_rate / 2)))
    low, high = inside[0], inside[-1] + 1
    centre, below, above = magnitude[:, low:high], magnitude[:, low - 1 : high - 1], magnitude[:, low + 1 : high + 1]
    peak = (centre > 0.1 * magnitude.max(axis=1, keepdims=True)) & (centre > below) & (centre >= above)
    row, column = np.nonzero(peak)
    centre, below, above = centre[row, column], below[row, column], above[row, column]
    curvature, slope = above + below - 2 * centre, (above - below) / 2
    shift = np.where(np.abs(slope) < np.abs(curvature), -slope / np.where(curvature == 0, 1, curvature), 0)
    return (column + low + shift) * np.float32(sampling_rate / size), centre + 0.5 * slope * shift
