"""The numbers of one dance."""

import numpy as np
import pytest
from helpers import song

from megadance_hf.evaluation import scores
from megadance_hf.evaluation.dances import Dance, Excerpt


def test_the_floor_is_where_the_feet_are():
    clip = song(1)
    high = Dance(0, clip.poses, clip.translation + np.float32([0, 3, 0]))
    slide = Dance(0, np.zeros_like(clip.poses), np.arange(300, dtype=np.float32)[:, None] * np.float32([0.04, 0, 0]))
    numbers = scores.physical_numbers(slide)
    assert numbers["foot_skating_ratio"] == 1 and numbers["foot_speed_on_floor"] == pytest.approx(1.2, rel=1e-3)
    usual, lifted = (scores.physical_numbers(d) for d in (Dance(0, clip.poses, clip.translation), high))
    assert lifted == pytest.approx(usual, rel=1e-2, abs=1e-4)  # float32 three metres up


def test_what_is_not_known_of_the_beat_is_left_out():
    clip = song(1, beat_period_s=None, first_beat_s=None)
    row = scores.measure_dance(
        Dance(0, clip.poses, clip.translation, "waltz"), Excerpt(clip, clip), {"waltz": np.ones(16)}
    )
    assert row["bar"] is None and row["bas_over_music_known_beats"] is None
    assert row["beat_over_music"]["own"] == row["bas_over_music"]  # with the features' own beats
    known = song(1)
    row = scores.measure_dance(Dance(0, known.poses, known.translation, "waltz"), Excerpt(known, known), {})
    assert row["bar"] is None and row["bar_of_the_song"]["own"] == pytest.approx(1)
