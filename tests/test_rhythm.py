"""Beat and bar of every frame."""

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from toy_clips import GRID, dance

from megadance_hf.data.rhythm import bar_phase, beat_phase, rhythm_labels


def test_phases_follow_the_beat_grid():
    grid = {"beat_period_s": 0.5, "first_beat_s": 0.1, "beats_per_bar": 3, "first_beat_is_downbeat": True}
    clip = dance(frames=90, **grid, phase_confidence="high")
    seconds = np.arange(90) / 30
    for phase, period in ((beat_phase(clip), 0.5), (bar_phase(clip), 1.5)):
        assert phase.dtype == np.float32 and phase.min() >= 0 and phase.max() < 1
        turns = (seconds - 0.1) / period - phase
        np.testing.assert_allclose(turns, np.round(turns), atol=1e-5)
    assert bar_phase(dataclasses.replace(clip, first_beat_is_downbeat=False)) is None
    assert beat_phase(dataclasses.replace(clip, first_beat_is_downbeat=False)) is not None
    assert beat_phase(dataclasses.replace(clip, phase_confidence="low")) is None
    assert beat_phase(dance()) is None and bar_phase(dance()) is None


@given(st.floats(0.2, 1.5), st.floats(-1, 1))
def test_phases_stay_below_one(period, first):
    phase = beat_phase(dance(frames=300, beat_period_s=period, first_beat_s=first, music=False))
    assert phase.min() >= 0 and phase.max() < 1


def test_rhythm_labels_say_where_the_beat_and_the_bar_are():
    labels = rhythm_labels(dance(**GRID))
    assert labels.shape == (100, 4) and labels.dtype == np.float32
    for frame in (9, 24, 39, 54):  # 0.3 s and each half second after
        np.testing.assert_allclose(labels[frame, :2], [1, 0], atol=1e-4)
    np.testing.assert_allclose(labels[[9, 54], 2:], [[1, 0], [1, 0]], atol=1e-4)
    np.testing.assert_allclose(np.hypot(labels[:, 2], labels[:, 3]), 1, atol=1e-6)
    unknown = rhythm_labels(dance(**(GRID | {"first_beat_is_downbeat": False})))
    assert np.isnan(unknown[:, 2:]).all() and np.isfinite(unknown[:, :2]).all()
    assert np.isnan(rhythm_labels(dance())).all()
