"""The pipeline that is pushed with a model: the dance of the package's pipeline, as arrays."""

import numpy as np
import pytest
import torch
from helpers import save_tiny_model, tiny_generator, write_song

from megadance_hf import Motion, MusicToDancePipeline
from megadance_hf.modeling.checkpoints_megadance import source_of
from megadance_hf.modeling.errors_megadance import ModelError
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration
from megadance_hf.modeling.pipeline_megadance import DancePipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def pipe(folder):
    """What is missing comes from where the model came from."""
    return DancePipeline(MegaDanceForMotionGeneration.from_pretrained(folder))


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    return write_song(tmp_path_factory.mktemp("song") / "song.wav", seconds=1.5)


def test_arrays_equal_those_of_a_motion(pipe, folder, song):
    dances, motions = (
        one(song, "rumba", seed=3, num=2) for one in (pipe, MusicToDancePipeline.from_pretrained(folder))
    )
    for dance, motion in zip(dances, motions, strict=True):
        assert dance["poses"].shape == (45, 24, 3) and dance["translation"].shape == (45, 3) and dance["fps"] == 30
        np.testing.assert_array_equal(dance["poses"], motion.poses)
        made = Motion(**dance)
        np.testing.assert_array_equal(made.translation, motion.translation)
        notes = [{k: v for k, v in m.metadata.items() if k != "compute_seconds"} for m in (made, motion)]
        assert notes[0] == notes[1] and made.genre == "rumba"


def test_start_motion(pipe, song):
    beginning = pipe(song, seed=1)
    start = {name: beginning[name][:16] for name in ("poses", "translation")}
    again = pipe(song, "rumba", seed=2, start_motion=start)
    # Codes keep what they can: the same codes at the beginning, so the same poses up to the decoder's reach
    assert again["poses"].shape == (45, 24, 3) and not np.array_equal(
        again["poses"], pipe(song, "rumba", seed=2)["poses"]
    )
    with pytest.raises(ValueError, match="start_motion has 4 frames: give at least 8 and fewer than the song's 45"):
        pipe(song, start_motion={name: value[:4] for name, value in start.items()})


def test_all_parts_are_saved(pipe, song, tmp_path):
    pipe.save_pretrained(tmp_path / "saved")
    loaded = MusicToDancePipeline.from_pretrained(tmp_path / "saved")
    np.testing.assert_array_equal(loaded(song, seed=0).poses, pipe(song, seed=0)["poses"])


def test_a_model_without_a_source_needs_its_parts():
    assert source_of(tiny_generator()) == ("", {})
    with pytest.raises(ModelError, match="cannot be loaded"):
        DancePipeline(tiny_generator())


@pytest.mark.parametrize("wrong", ["waltz-model", 3])
def test_other_models_are_refused(wrong):
    with pytest.raises(ModelError, match="is no MegaDanceForMotionGeneration: give one, or use from_pretrained"):
        DancePipeline(wrong)


@pytest.fixture(scope="module")
def hearing(tmp_path_factory):
    """A pipeline whose model hears something different in different music."""
    folder = save_tiny_model(tmp_path_factory.mktemp("hears"))
    torch.manual_seed(1)
    model = tiny_generator(rhythm_size=8, rhythm_layers=2, hears_genres=True)
    model.hearing.weight.normal_()
    model.hearing.bias[-1] = -5.0
    model.save_pretrained(folder)
    return DancePipeline(MegaDanceForMotionGeneration.from_pretrained(folder))


def features(seed: int, frames: int = 160) -> dict:
    return {"input_features": np.random.default_rng(seed).normal(size=(frames, 35)).astype(np.float32)}


def test_without_a_genre_the_one_that_is_heard_is_danced(hearing):
    songs = [features(seed) for seed in range(4)]
    heard = [hearing.hear_genre(song) for song in songs]
    best = [next(iter(one)) for one in heard]
    assert len(set(best)) > 1, "the songs differ"
    for one in heard:
        assert set(one) == set(hearing.genres) and sum(one.values()) == pytest.approx(1, abs=1e-3)
        assert list(one.values()) == sorted(one.values(), reverse=True)
    for dances in (
        hearing(songs, seed=0),
        hearing(songs, "auto", seed=0, batch_size=4),
        hearing(songs, ["Auto"] * 4, seed=0),
    ):
        for dance, one, genre in zip(dances, heard, best, strict=True):
            assert dance["genre"] == dance["metadata"]["genre"] == genre
            assert dance["metadata"]["heard"] == one
            assert dance["metadata"]["assumed"] == "genre: heard in the song"
    np.testing.assert_array_equal(hearing(songs[0], seed=0)["poses"], hearing(songs[0], best[0], seed=0)["poses"])
    given = hearing(songs[:2], ["rumba", "auto"], seed=0)
    assert [dance["genre"] for dance in given] == ["rumba", best[1]]
    assert "heard" not in given[0]["metadata"] and "assumed" not in given[0]["metadata"]


def test_an_excerpt_is_heard_with_what_is_around_it(hearing):
    rows = features(1, 240)["input_features"]
    excerpt = {"input_features": rows[64:160], "before": rows[:64], "after": rows[160:]}
    assert hearing.hear_genre(excerpt) == hearing.hear_genre({"input_features": rows})
    assert hearing.hear_genre({"input_features": rows[64:160]}) != hearing.hear_genre(excerpt)
    assert hearing(excerpt, seed=0)["metadata"]["heard"] == hearing.hear_genre(excerpt)


def test_a_plan_takes_what_is_heard(hearing):
    song = features(2)
    best = next(iter(hearing.hear_genre(song)))
    other = next(genre for genre in hearing.genres if genre != best)
    dance = hearing(song, plan=[("auto", 0.0), (other, 1.6), ("auto", 3.2)], seed=0)
    assert [genre for genre, _ in dance["metadata"]["plan"]] == [best, other, best]
    assert "heard" in dance["metadata"]
    with pytest.raises(ValueError, match="plan mixes 'auto' with other genres: give it alone"):
        hearing(song, plan=[({"auto": 0.5, other: 0.5}, 0.0)])
    with pytest.raises(ValueError, match="genre='auto' is unknown"):
        hearing(song, {"auto": 0.5, other: 0.5})
    with pytest.raises(ValueError, match="genre and plan are both given"):
        hearing(song, "auto", plan=[(other, 0.0)])


def test_a_model_that_cannot_hear_says_so(pipe, song):
    assert not pipe.hears_genres and pipe.hear_genre(song) is None
    dance = pipe(song, "auto", seed=0)
    assert dance["genre"] == pipe.genres[0] and "heard" not in dance["metadata"]
    assert dance["metadata"]["assumed"] == "genre: the model's first, as it cannot hear"
    assert "assumed" not in pipe(song, pipe.genres[0], seed=0)["metadata"]


def test_only_genres_that_are_loaded_are_heard(hearing):
    folder = hearing.model.name_or_path
    some = DancePipeline(MegaDanceForMotionGeneration.from_pretrained(folder, active_genres=["waltz", "rumba"]))
    whole, part = (one.hear_genre(features(0)) for one in (hearing, some))
    assert set(part) == {"waltz", "rumba"} and sum(part.values()) == pytest.approx(1, abs=1e-3)
    assert part["waltz"] == pytest.approx(whole["waltz"] / (whole["waltz"] + whole["rumba"]), abs=1e-3)
    stream = MusicToDancePipeline.from_pretrained(folder)
    with pytest.raises(ValueError, match="genre='auto': a stream begins before its song is heard; give one of "):
        stream.stream([], 22050, "auto")
