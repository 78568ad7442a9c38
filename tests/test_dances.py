"""The dances that are compared: baselines, wrong music and genres, batches, and the numbers of one dance."""

import numpy as np
import pytest
import torch
from helpers import GENRES, tiny_generator, tiny_tokenizer
from test_synchrony import song

from megadance_hf.data.clip import clip_motion
from megadance_hf.evaluation import dances
from megadance_hf.evaluation.dances import Dance, Dancer, Excerpt, NearestMusic, excerpts_of
from megadance_hf.modeling.feature_extraction_megadance import MegaDanceFeatureExtractor
from megadance_hf.modeling.processing_megadance import MegaDanceProcessor
from megadance_hf.pipeline import MusicToDancePipeline


@pytest.fixture(scope="module")
def pipe():
    torch.manual_seed(0)
    processor = MegaDanceProcessor(MegaDanceFeatureExtractor(), list(GENRES))
    return MusicToDancePipeline(tiny_generator(), tiny_tokenizer(), processor)


@pytest.fixture
def excerpts():
    return excerpts_of([song(0), song(1, 260, 0.7, "rumba"), song(2, 64, 0.6, "chacha")], 96)


# --- generated -----------------------------------------------------------------------------------------------------------


def test_dances_have_their_excerpts_lengths_and_seeds(pipe, excerpts):
    counted = []
    made = Dancer(pipe, 3, 0, counted.append)("right", dances.own_music(excerpts))
    assert [(d.excerpt, d.seed, d.genre, len(d.joints)) for d in made] == [
        (index, seed, genre, frames)
        for index, (genre, frames) in enumerate([("waltz", 96), ("rumba", 96), ("chacha", 64)])
        for seed in range(3)
    ]
    assert sum(counted) == 9
    assert all(np.isfinite(dance.joints).all() for dance in made)
    assert not np.array_equal(made[0].poses, made[1].poses)


def test_dances_are_fixed_by_key_and_seed_alone(pipe, excerpts):
    wishes = dances.own_music(excerpts)
    first, again = (Dancer(pipe, 2, 5)("right", wishes) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.poses, other.poses)
    for dancer, key in ((Dancer(pipe, 2, 6), "right"), (Dancer(pipe, 2, 5), "forced")):
        assert not np.array_equal(dancer(key, wishes)[0].poses, first[0].poses)


def test_batches_are_no_larger_than_allowed(pipe, excerpts, monkeypatch):
    monkeypatch.setattr(dances, "DANCES_AT_ONCE", 4)
    sizes = []
    Dancer(pipe, 3, 0, sizes.append)("right", dances.own_music(excerpts))
    assert sizes == [4, 4, 1]


def test_wrong_music_is_cut_where_the_excerpt_is():
    whole = [song(0, 300, 0.4), song(1, 300, 0.6)]
    excerpts = [excerpts_of([clip], 96, 48)[2] for clip in whole]
    shifted = dances.wrong_music(excerpts, [1, 0], "shifted", np.zeros(35))
    np.testing.assert_array_equal(shifted[0][1], whole[0].input_features[96 - 18 : 192 - 18])
    swapped = dances.wrong_music(excerpts, [1, None], "swapped", np.zeros(35))
    assert [wish[0] for wish in swapped] == [0]
    np.testing.assert_array_equal(swapped[0][1], whole[1].input_features[96:192])
    assert swapped[0][2] == "waltz"


def test_wrong_genres_are_four_others_drawn_once():
    excerpts = [Excerpt(song(n, genre="g0"), song(n)) for n in range(30)]
    names = [f"g{n}" for n in range(9)]
    wishes = dances.wrong_genres(excerpts, names, 0)
    by_excerpt = [{genre for index, _, genre in wishes if index == n} for n in range(30)]
    assert all(len(genres) == 4 and "g0" not in genres for genres in by_excerpt)
    assert set.union(*by_excerpt) == set(names[1:]) and len(set(map(frozenset, by_excerpt))) > 10
    again = dances.wrong_genres(excerpts, names, 0)
    assert [w[2] for w in again] == [w[2] for w in wishes] != [w[2] for w in dances.wrong_genres(excerpts, names, 1)]
    assert {genre for _, _, genre in dances.wrong_genres(excerpts[:1], ["g0", "g1", "g2"], 0)} == {"g1", "g2"}


# --- baselines -----------------------------------------------------------------------------------------------------------


def test_retrieval_finds_the_music_itself_and_dances_on():
    training = [song(number, 400) for number in range(3)]
    nearest = NearestMusic(training)
    heard = np.concatenate([training[2].input_features[32:272], training[0].input_features[64:112]])
    poses, path = nearest(heard)
    assert poses.shape == (288, 24, 3) and path.shape == (288, 3)
    np.testing.assert_allclose(poses[:240].reshape(240, -1), training[2].poses[32:272], atol=1e-5)
    np.testing.assert_allclose(poses[240:].reshape(48, -1), training[0].poses[64:112], atol=1e-5)
    assert np.abs(np.diff(path[:, [0, 2]], axis=0)).max() < 1e-6  # both stand on their place


def test_retrieval_needs_training_music():
    with pytest.raises(ValueError, match="no training clip with music has 240 frames"):
        NearestMusic([song(0, 200)])


def test_baselines_of_every_excerpt(pipe, excerpts):
    rows, notes = dances.baselines(pipe, excerpts, [1, 0, None], [song(7, 300)])
    assert {name: len(found) for name, found in rows.items()} == {
        "ground_truth": 3,
        "other_song": 2,
        "nearest_music": 3,
        "frozen_pose": 3,
        "tokenizer": 3,
    }
    np.testing.assert_array_equal(rows["other_song"][0].poses.reshape(96, 72), excerpts[1].song.poses[:96])
    frozen = rows["frozen_pose"][1]
    assert (frozen.joints == frozen.joints[0]).all()
    np.testing.assert_allclose(frozen.joints[0], rows["ground_truth"][1].joints[0])
    assert notes == ["ground truth of another song leaves out song2: no other song is as long"]
    rows, notes = dances.baselines(pipe, excerpts, [1, 0, 0], [])
    assert "nearest_music" not in rows and notes[0].startswith("nearest music is left out")


# --- numbers -------------------------------------------------------------------------------------------------------------


def test_the_floor_is_where_the_feet_are():
    clip = song(1)
    high = Dance(0, clip.poses, clip.translation + np.float32([0, 3, 0]))
    slide = Dance(0, np.zeros_like(clip.poses), np.arange(300, dtype=np.float32)[:, None] * np.float32([0.04, 0, 0]))
    numbers = dances.physical_numbers(slide)
    assert numbers["foot_skating_ratio"] == 1 and numbers["foot_speed_on_floor"] == pytest.approx(1.2, rel=1e-3)
    usual, lifted = (dances.physical_numbers(d) for d in (Dance(0, clip.poses, clip.translation), high))
    assert lifted == pytest.approx(usual, rel=1e-2, abs=1e-4)  # float32 three metres up


def test_what_is_not_known_of_the_beat_is_left_out():
    clip = song(1, beat_period_s=None, first_beat_s=None)
    row = dances.measure_dance(
        Dance(0, clip.poses, clip.translation, "waltz"), Excerpt(clip, clip), {"waltz": np.ones(16)}
    )
    assert row["bar"] is None and row["bas_over_music_known_beats"] is None
    assert row["beat_over_music"]["own"] > 0  # with the features' own beats
    known = song(1)
    row = dances.measure_dance(Dance(0, known.poses, known.translation, "waltz"), Excerpt(known, known), {})
    assert row["bar"] is None and row["bar_of_the_song"]["own"] == pytest.approx(1)


def test_a_cut_is_a_clip_of_its_own():
    whole = song(3, 200)
    piece = dances.cut(whole, 50, 64)
    np.testing.assert_array_equal(piece.poses, whole.poses[50:114])
    assert piece.first_beat_s == pytest.approx(0.1 - 50 / 30) and piece.check(GENRES) is piece
    np.testing.assert_allclose(clip_motion(piece)[:-1], clip_motion(whole)[50:113], atol=1e-6)
    assert dances.cut(whole, 0, 64).id == "song3"
