"""Excerpts of songs, and the dances that are generated to them in batches."""

import numpy as np
import pytest
import torch
from helpers import GENRES, song, tiny_generator, tiny_tokenizer

from megadance_hf.data.clip import clip_motion
from megadance_hf.data.rhythm import bar_phase
from megadance_hf.evaluation import conditions, dances
from megadance_hf.evaluation.dances import Dancer, excerpts_of
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


def test_dances_have_their_excerpts_lengths_and_seeds(pipe, excerpts):
    counted = []
    made = Dancer(pipe, 3, 0, counted.append)("right", conditions.own_music(excerpts))
    assert [(d.excerpt, d.seed, d.genre, len(d.joints)) for d in made] == [
        (index, seed, genre, frames)
        for index, (genre, frames) in enumerate([("waltz", 96), ("rumba", 96), ("chacha", 64)])
        for seed in range(3)
    ]
    assert sum(counted) == 9
    assert all(np.isfinite(dance.joints).all() for dance in made)
    assert not np.array_equal(made[0].poses, made[1].poses)


def test_dances_are_fixed_by_key_and_seed_alone(pipe, excerpts):
    requests = conditions.own_music(excerpts)
    first, again = (Dancer(pipe, 2, 5)("right", requests) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.poses, other.poses)
    for dancer, key in ((Dancer(pipe, 2, 6), "right"), (Dancer(pipe, 2, 5), "forced")):
        assert not np.array_equal(dancer(key, requests)[0].poses, first[0].poses)


def test_batches_are_no_larger_than_allowed(pipe, excerpts, monkeypatch):
    monkeypatch.setattr(dances, "DANCES_AT_ONCE", 4)
    sizes = []
    Dancer(pipe, 3, 0, sizes.append)("right", conditions.own_music(excerpts))
    assert sizes == [4, 4, 1]


def test_a_cut_is_a_clip_of_its_own():
    whole = song(3, 200)
    piece = dances.cut(whole, 50, 64)
    np.testing.assert_array_equal(piece.poses, whole.poses[50:114])
    assert piece.first_beat_s == pytest.approx(0.1 - 50 / 30) and piece.check(GENRES) is piece
    np.testing.assert_allclose(clip_motion(piece)[:-1], clip_motion(whole)[50:113], atol=1e-6)
    assert dances.cut(whole, 0, 64).id == "song3"


def test_an_excerpt_keeps_its_place_in_the_music():
    whole = song(1, 200, period=0.4)
    later = excerpts_of([whole], 80, 60)[1]
    assert (later.start, later.clip.id, len(later.clip)) == (60, "song1@60", 80)
    np.testing.assert_array_equal(later.clip.input_features, whole.input_features[60:140])
    phases = [bar_phase(clip) for clip in (later.clip, whole)]
    np.testing.assert_allclose(phases[0], phases[1][60:140], atol=1e-4)
