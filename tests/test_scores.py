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


def row_with(landings, **values):
    numbers = dict.fromkeys((*scores.WORST, *scores.NUMBERS), 0.0) | values
    return numbers | {"landings": landings, "bar": None, "genre": "waltz", "song": "a", "seed": 0, "excerpt": "a"}


def test_means_of_landings_are_over_all_landings_and_the_worst_has_enough():
    rows = [
        row_with({"own": 0.5, "moved": 0.2, "landings": 30}, spins=2, frozen_share=0.1),
        row_with({"own": 0.3, "moved": 0.3, "landings": 10}, spins=0, frozen_share=0.5),
        row_with({"own": 0.0, "moved": 0.0, "landings": 2}),
        row_with(None),
    ]
    found = scores.summarize(rows, {})
    assert found["landings_on_beat"] == pytest.approx((15 + 3) / 42) and found["landings_moved"] == pytest.approx(
        9 / 42
    )
    assert found["worst"]["landings_on_beat"] == 0.3
    assert found["worst"]["spins"] == 2 and found["worst"]["frozen_share"] == 0.5
    assert found["dances_with"] == {"spins": 1, "jumps": 0} and found["frozen_share"] == pytest.approx(0.15)
    assert found["by_genre"]["waltz"]["landings_on_beat"] == found["landings_on_beat"]
    assert scores.summarize([row_with(None)], {})["landings_on_beat"] is None


def test_codes_in_use_are_a_share_of_the_training_clips():
    clip = song(1)
    dances = [
        Dance(0, clip.poses, clip.translation, codes=(np.array([1, 2]), np.array([5]))),
        Dance(0, clip.poses, clip.translation, codes=(np.array([9, 2]), np.array([6]))),
    ]
    training = [(np.array([1, 2, 3, 3]), np.array([5])), (np.array([4, 1, 1, 1]), np.array([5]))]
    assert scores.codes_in_use(dances, training) == {"upper": 0.5, "lower": 1.0}
    assert scores.codes_in_use([Dance(0, clip.poses, clip.translation)], training) is None
    assert scores.codes_in_use(dances, []) is None


def test_a_spin_and_a_jump_are_seen_in_their_dance():
    clip = song(1)
    poses, path = clip.poses.copy(), clip.translation.copy()
    poses[100:, 1] += 2.0
    path[200:] += np.float32([0.6, 0, 0])
    numbers = scores.physical_numbers(Dance(0, poses, path))
    before = scores.physical_numbers(Dance(0, clip.poses, clip.translation))
    assert (before["spins"], before["jumps"]) == (0, 0) and before["largest_turn"] < 20
    assert numbers["spins"] == 1 and numbers["jumps"] >= 1 and numbers["largest_turn"] > 90


def test_joins_are_counted_over_all_dances():
    rows = [row_with(None, joins=j) for j in ({"joins": 8, "new": 2}, {"joins": 2, "new": 2}, {"joins": 0, "new": 0})]
    found = scores.summarize([*rows, row_with(None, joins=None)], {})
    assert found["new_joins"] == pytest.approx(0.4) and found["joins"] == 10
    assert scores.summarize([row_with(None, joins=None)], {})["new_joins"] is None


def test_a_genre_without_songs_has_its_truth_from_the_first_clips_that_have_it():
    rows = [row_with(None, mean_speed=0.5)]
    salsa, faster = song(1, genre="salsa"), song(2, genre="salsa")
    faster.poses = faster.poses * 2
    found = scores.genre_truth(rows, ([song(0)], [salsa], [faster]), ["waltz", "salsa", "tango"], 96)
    assert list(found) == ["waltz", "salsa"] and found["waltz"]["mean_speed"] == 0.5
    dance = Dance(0, salsa.poses[:96], salsa.translation[:96], "salsa")
    assert found["salsa"]["mean_speed"] == scores.physical_numbers(dance)["mean_speed"]
    assert found["salsa"]["dances"] == 1 and found["salsa"]["landings_on_beat"] is None


def test_a_forced_genre_has_no_bar_of_the_song():
    clip = song(1)
    profiles = {"waltz": np.ones(16), "rumba": np.ones(16)}
    dance = Dance(0, clip.poses, clip.translation, "rumba")
    row = scores.measure_dance(dance, Excerpt(clip, clip), profiles)
    assert clip.genre == "waltz" and row["bar"] is row["bar_of_the_song"] is None
