"""Beats estimated from music features, for music whose beats are not annotated.

The features flag beats (`BEAT`), found by tracking the onset envelope. Compared with the known beats of the ballroom and the synthetic
data (docs/LOG.md), the tempo is doubled in a tenth of the songs, and the beats drift where onsets are weak. So an estimate comes with a
confidence, and training ignores those below `MIN_CONFIDENCE`.
"""

from dataclasses import dataclass

import numpy as np

from megadance_hf.modeling.configuration_megadance import MOTION_FPS as FPS
from megadance_hf.modeling.music_features_megadance import BEAT, ONSET_ENVELOPE

# Where beats come from: an annotated grid, or an estimate.
KNOWN, ESTIMATED = "known", "estimated"
# Of 60 clips whose beats are known, 54 reach this: 51 with the right tempo, 3 with twice the true one. Of the six below, three have
# the right tempo, but their beats drift.
MIN_CONFIDENCE = 0.5
_MIN_BEATS = 4
# A flag is on a whole frame and may be one off: a beat's time is that of a line fitted through so many beats on either side.
_NEIGHBOURS = 4
# Frames by which the onset envelope lags (librosa delays it by half an analysis window), on average over those 60 clips.
_LAG = 1.3
# Mean rank of the onset strength at beats (0.5 for random frames): 0.66 to 0.68 for noise and random clicks, 0.9 for clear songs.
_RANK_OF_NOISE, _RANK_OF_SONGS = 0.65, 0.90


@dataclass(frozen=True)
class EstimatedBeats:
    """Beats of a piece of music.

    Attributes:
        position: (T,) float64, for each frame the number of beats since the first one; a whole number on a beat.
        period_s: mean seconds from beat to beat.
        first_s: second of the first beat.
        confidence: 0 to 1, by how far the onsets at the beats stand out among all.
    """

    position: np.ndarray
    period_s: float
    first_s: float
    confidence: float


def estimate_beats(features: np.ndarray) -> EstimatedBeats | None:
    """Beats of music features (T, 35); None if fewer than four are flagged."""
    flags = np.flatnonzero(features[:, BEAT] > 0.5)
    if len(flags) < _MIN_BEATS:
        return None
    steps = np.diff(flags)
    # where a flag is missing, two periods are two beats
    numbers = np.concatenate([[0], np.cumsum(np.maximum(1, np.round(steps / np.median(steps))))])
    near = [slice(max(0, index - _NEIGHBOURS), index + _NEIGHBOURS + 1) for index in range(len(flags))]
    slopes, starts = np.array([np.polyfit(numbers[part], flags[part], 1) for part in near]).T
    times = starts + slopes * numbers  # of the beats, in frames
    frames = np.arange(len(features)) + _LAG
    position = np.interp(frames, times, numbers)
    before, after = frames < times[0], frames > times[-1]
    position[before] = numbers[0] + (frames[before] - times[0]) / slopes[0]
    position[after] = numbers[-1] + (frames[after] - times[-1]) / slopes[-1]
    period = (times[-1] - times[0]) / numbers[-1] / FPS
    return EstimatedBeats(position, float(period), float((times[0] - _LAG) / FPS), _confidence(features, flags))


def _confidence(features: np.ndarray, flags: np.ndarray) -> float:
    """From the mean rank, among all frames, of the onset strength at the beats, which may be a frame early or late."""
    envelope = np.pad(features[:, ONSET_ENVELOPE], 1, mode="edge")
    onsets = np.maximum(np.maximum(envelope[:-2], envelope[1:-1]), envelope[2:])
    ordered = np.sort(onsets)
    ranks = [np.searchsorted(ordered, onsets[flags], side) for side in ("left", "right")]
    rank = float(np.mean(ranks)) / len(onsets)
    return float(np.clip((rank - _RANK_OF_NOISE) / (_RANK_OF_SONGS - _RANK_OF_NOISE), 0, 1))
