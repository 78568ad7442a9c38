"""Beats of music whose beats nobody has written down, read from its features.

The features flag beats (`BEAT`), found by following the onset envelope. What they say is not always so: measured against the known
beats of the ballroom and the synthetic data (docs/LOG.md), the tempo is twice the true one in a tenth of the songs, and where the onsets are
weak the beats wander. So an estimate comes with a confidence, and training leaves out what is less than `MIN_CONFIDENCE`.
"""

from dataclasses import dataclass

import numpy as np

from megadance_hf.modeling.configuration_megadance import MOTION_FPS as FPS
from megadance_hf.modeling.music_features_megadance import BEAT, ONSET_ENVELOPE

# Where beats come from: the source's own grid, or an estimate.
KNOWN, ESTIMATED = "known", "estimated"
# Of 60 clips whose beats are known, 54 reach this; in 51 of them the tempo is right, in the others twice the true one. Of the six
# below it, three have the right tempo, but their beats wander.
MIN_CONFIDENCE = 0.5
# Fewer beats are no rhythm.
_FEWEST = 4
# A flag is on a whole frame and may be one off: a beat is where a line through so many neighbours on either side says.
_NEIGHBOURS = 4
# The onset envelope is late (librosa delays it by half a window); by so many frames on average over those 60 clips.
_LATE = 1.3
# Ranks of the onsets under the beats, 0.5 for any frames: of noise and of clicks at random 0.66 to 0.68, of clear songs 0.9.
_RANK_OF_NOISE, _RANK_OF_SONGS = 0.65, 0.90


@dataclass(frozen=True)
class HeardBeats:
    """Beats as they are heard.

    Attributes:
        position: (T,) float64, for each frame the number of beats since the first one that was heard; whole on a beat.
        period_s: seconds from beat to beat, on average.
        first_s: the first beat.
        confidence: 0 to 1, by how much the onsets under the beats stand out among all.
    """

    position: np.ndarray
    period_s: float
    first_s: float
    confidence: float


def hear_beats(features: np.ndarray) -> HeardBeats | None:
    """Beats of music features (T, 35); None where fewer than four are flagged."""
    flags = np.flatnonzero(features[:, BEAT] > 0.5)
    if len(flags) < _FEWEST:
        return None
    steps = np.diff(flags)
    # a flag may be missing: two periods are two beats
    numbers = np.concatenate([[0], np.cumsum(np.maximum(1, np.round(steps / np.median(steps))))])
    lines = [_line(numbers, flags, index) for index in range(len(flags))]
    places = np.array([start + slope * number for (slope, start), number in zip(lines, numbers, strict=True)])
    frames = np.arange(len(features)) + _LATE
    position = np.interp(frames, places, numbers)
    before, behind = frames < places[0], frames > places[-1]
    position[before] = numbers[0] + (frames[before] - places[0]) / lines[0][0]
    position[behind] = numbers[-1] + (frames[behind] - places[-1]) / lines[-1][0]
    period = (places[-1] - places[0]) / numbers[-1] / FPS
    return HeardBeats(position, float(period), float((places[0] - _LATE) / FPS), _confidence(features, flags))


def _line(numbers: np.ndarray, flags: np.ndarray, index: int) -> tuple[float, float]:
    """Frames a beat, and the frame of beat 0, by the flags around flag `index`."""
    near = slice(max(0, index - _NEIGHBOURS), index + _NEIGHBOURS + 1)
    slope, start = np.polyfit(numbers[near], flags[near], 1)
    return float(slope), float(start)


def _confidence(features: np.ndarray, flags: np.ndarray) -> float:
    """From the mean rank, among all frames, of the onsets at the beats, each a frame early or late as it may be."""
    envelope = np.pad(features[:, ONSET_ENVELOPE], 1, mode="edge")
    onsets = np.maximum(np.maximum(envelope[:-2], envelope[1:-1]), envelope[2:])
    ordered = np.sort(onsets)
    ranks = [np.searchsorted(ordered, onsets[flags], side) for side in ("left", "right")]
    rank = float(np.mean(ranks)) / len(onsets)
    return float(np.clip((rank - _RANK_OF_NOISE) / (_RANK_OF_SONGS - _RANK_OF_NOISE), 0, 1))
