"""Beat and bar of a clip, frame by frame: what the rhythm encoder learns, and what measures of synchrony compare with."""

import numpy as np
import torch

from megadance_hf.modeling.rhythm_megadance import phase_vectors

from .beats import ESTIMATED, MIN_CONFIDENCE, estimate_beats
from .clip import FPS, Clip


def beat_position(clip: Clip) -> np.ndarray | None:
    """For each frame (T,) float64 the number of beats since the clip's first one; None if beats are unknown or too uncertain.

    Known beats lie on a grid; estimated ones (beats.py) need not, since a band may speed up.
    """
    if clip.beat_source == ESTIMATED:
        if clip.input_features is None or (clip.beat_confidence or 0) < MIN_CONFIDENCE:
            return None
        beats = estimate_beats(clip.input_features)
        return None if beats is None else beats.position
    if clip.beat_period_s is None or clip.first_beat_s is None or clip.phase_confidence == "low":
        return None
    return (np.arange(len(clip)) / FPS - clip.first_beat_s) / clip.beat_period_s


def beat_phase(clip: Clip) -> np.ndarray | None:
    """Phase (T,) in [0, 1) of each frame within its beat; None where `beat_position` is."""
    position = beat_position(clip)
    return None if position is None else _phase(position)


def bar_phase(clip: Clip) -> np.ndarray | None:
    """Phase (T,) in [0, 1) of each frame within its bar; None if it is unknown which beat begins a bar."""
    position = beat_position(clip)
    return None if position is None or not _knows_bars(clip) else _phase(position / clip.beats_per_bar)


def rhythm_labels(clip: Clip) -> np.ndarray:
    """Beat and bar of a clip as `phase_vectors` (T, 4) float32; NaN where they are unknown."""
    return labels_at(clip, beat_position(clip))


def _knows_bars(clip: Clip) -> bool:
    return bool(clip.beats_per_bar and clip.first_beat_is_downbeat)


def labels_at(clip: Clip, position: np.ndarray | None) -> np.ndarray:
    """`rhythm_labels` at other beat positions (T',), such as those of a stretched piece of the clip."""
    beat = bar = np.full(len(clip) if position is None else len(position), np.nan, dtype=np.float32)
    if position is not None:
        beat = _phase(position)
        bar = _phase(position / clip.beats_per_bar) if _knows_bars(clip) else bar
    return phase_vectors(torch.from_numpy(beat), torch.from_numpy(bar)).numpy()


def _phase(position: np.ndarray) -> np.ndarray:
    phase = (position % 1.0).astype(np.float32)
    return np.where(phase < 1.0, phase, 0.0).astype(np.float32)  # 0.99999999 rounds to 1.0
