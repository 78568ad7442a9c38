"""The pipeline that is pushed with a model: the dance of the package's pipeline, as arrays."""

import numpy as np
import pytest
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
