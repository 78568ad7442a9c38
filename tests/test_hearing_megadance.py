"""Hearing: what the statistics tell of tempo, metre and accents, and probabilities that depend on the music alone."""

import json
import math

import pytest
import torch
from helpers import GENRES, tiny_generator
from huggingface_hub.errors import StrictDataclassError
from hypothesis import given, settings
from hypothesis import strategies as st

from megadance_hf import MegaDanceForMotionGeneration, MegaDanceModel
from megadance_hf.modeling.hearing_megadance import (
    LEAST_FRAMES,
    STATISTICS,
    GenreHearing,
    describe_hearing,
    is_auto,
    replace_auto,
    share_none,
    song_statistics,
)
from megadance_hf.modeling.music_features_megadance import ONSET_ENVELOPE
from megadance_hf.modeling.rhythm_megadance import phase_vectors

HEARS = {"rhythm_size": 8, "rhythm_layers": 2, "hears_genres": True}


def music(bpm: float, beats: int, frames: int = 600, behind: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features with an onset in each beat, by this share of a beat behind it, and the rhythm: [frames, 35], [frames, 4]."""
    position = torch.arange(frames) / 30 * bpm / 60
    features = 0.1 * torch.randn(frames, 35, generator=torch.Generator().manual_seed(0))
    features[:, ONSET_ENVELOPE] = (3 * ((position - behind) * 2 * math.pi).cos()).exp()
    return features, phase_vectors(position % 1, position / beats % 1)


def hearing(seed: int = 0) -> MegaDanceForMotionGeneration:
    torch.manual_seed(seed)
    model = tiny_generator(**HEARS)
    model.hearing.weight.normal_()
    model.hearing.bias.normal_()
    return model


@given(bpm=st.floats(55, 190), beats=st.sampled_from([3, 4]), behind=st.floats(0, 1))
@settings(max_examples=25)
def test_statistics_tell_tempo_metre_and_where_onsets_are(bpm, beats, behind):
    heard = dict(zip(STATISTICS, song_statistics(*music(bpm, beats, behind=behind)).tolist(), strict=True))
    for tempo in (60, 70, 82, 96, 112, 128, 150, 176):
        expected = math.exp(-0.5 * (math.log2(bpm / tempo) / 0.12) ** 2)
        assert heard[f"tempo near {tempo}"] == pytest.approx(expected, abs=0.05)
    assert heard[f"{beats} beats a bar"] > 0.9 and heard[f"{7 - beats} beats a bar"] < 0.2
    place = math.atan2(-heard["all onsets behind beat"], heard["all onsets on beat"]) / (2 * math.pi)
    assert abs((place - behind + 0.5) % 1 - 0.5) < 0.03


@given(louder=st.floats(-40, 40), stronger=st.floats(0.2, 5))
@settings(max_examples=10)
def test_loudness_has_no_influence(louder, stronger):
    features, rhythm = music(100, 4)
    other = features.clone()
    other[:, 0] += louder  # the first MFCC
    other[:, ONSET_ENVELOPE] *= stronger
    expected, found = (song_statistics(one, rhythm) for one in (features, other))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@given(lengths=st.lists(st.integers(1, 200), min_size=1, max_size=4))
@settings(max_examples=25, deadline=None)
def test_probabilities_have_the_sum_1_and_padding_has_no_influence(lengths):
    model, most = hearing(), max(lengths)
    features = 30 * torch.randn(len(lengths), most, 35, generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(most) < torch.tensor(lengths)[:, None]).long()
    with torch.no_grad():
        together = model.hear_genre(features, mask)
        alone = [model.hear_genre(rows[None, :length]) for rows, length in zip(features, lengths, strict=True)]
    assert together.shape == (len(lengths), len(GENRES)) and together.dtype == torch.float32
    torch.testing.assert_close(together.sum(-1), torch.ones(len(lengths)))
    assert (together >= 0).all()
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=0)
    for row, length in zip(together, lengths, strict=True):
        if length < LEAST_FRAMES:
            torch.testing.assert_close(row, torch.full((3,), 1 / 3))


@pytest.mark.parametrize("value", [0.0, -500.0])
def test_music_without_anything_in_it_is_heard(value):
    with torch.no_grad():
        heard = hearing().hear_genre(torch.full((1, 100, 35), value))
    assert torch.isfinite(heard).all() and heard.sum() == pytest.approx(1)


def test_what_is_none_of_the_genres_is_equally_likely_for_each():
    torch.testing.assert_close(share_none(torch.tensor([0.6, 0.1, 0.3])), torch.tensor([0.75, 0.25]))
    model = hearing()
    model.hearing.bias[-1] = 1000.0
    with torch.no_grad():
        heard = model.hear_genre(torch.randn(1, 100, 35))
    torch.testing.assert_close(heard, torch.full((1, 3), 1 / 3))


def test_a_genre_that_is_added_is_not_heard():
    model = hearing()
    features = torch.randn(1, 100, 35)
    model.hearing.bias[-1] = -1000.0  # none
    with torch.no_grad():
        before = model.hear_genre(features)
        model.add_genre("salsa", like="waltz")
        after = model.hear_genre(features)
    torch.testing.assert_close(after, torch.cat((before, torch.zeros(1, 1)), dim=1))


def test_it_is_saved_with_the_model_and_off_by_default(tmp_path):
    model, features = hearing(), torch.randn(2, 100, 35)
    model.save_pretrained(tmp_path / "hears")
    with torch.no_grad():
        expected = model.hear_genre(features)
        loaded = MegaDanceForMotionGeneration.from_pretrained(tmp_path / "hears")
        torch.testing.assert_close(loaded.hear_genre(features), expected, atol=0, rtol=0)
        half = MegaDanceForMotionGeneration.from_pretrained(tmp_path / "hears", dtype=torch.bfloat16)
        torch.testing.assert_close(half.hear_genre(features), expected, atol=0.2, rtol=0)
    _, info = MegaDanceModel.from_pretrained(tmp_path / "hears", output_loading_info=True)
    assert not info["unexpected_keys"] and not info["missing_keys"]
    deaf = tiny_generator(rhythm_size=8, rhythm_layers=2)
    assert deaf.hear_genre(features) is None and not any("hearing" in name for name in deaf.state_dict())
    deaf.save_pretrained(tmp_path / "deaf")
    config = json.loads((tmp_path / "deaf" / "config.json").read_text())
    del config["hears_genres"]  # as earlier versions saved it
    (tmp_path / "deaf" / "config.json").write_text(json.dumps(config))
    assert MegaDanceForMotionGeneration.from_pretrained(tmp_path / "deaf").hear_genre(features) is None


def test_it_needs_the_rhythm_encoder():
    with pytest.raises(StrictDataclassError, match="hears_genres=True is not possible: it needs the rhythm encoder"):
        tiny_generator(hears_genres=True)


def test_before_it_is_fitted_every_genre_is_equally_likely():
    model = tiny_generator(**HEARS)
    assert isinstance(model.hearing, GenreHearing)
    torch.testing.assert_close(model.hear_genre(torch.randn(1, 100, 35)), torch.full((1, 3), 1 / 3))


def test_words():
    assert describe_hearing({"waltz": 0.934, "tango": 0.066}) == "heard: waltz (93 %)"
    line = describe_hearing({"waltz": 0.41, "tango": 0.35, "rumba": 0.24}, "--genre")
    assert line == "not sure: waltz 41 %, tango 35 %; give --genre if that is wrong"
    assert describe_hearing({"waltz": 0.6, "tango": 0.4}) == "heard: waltz (60 %)"
    assert is_auto("Auto", ["waltz"]) and not is_auto("auto", ["Auto"]) and not is_auto("waltz", ["waltz"])
    assert not is_auto(None, ["waltz"]) and not is_auto({"auto": 1.0}, ["waltz"])
    assert replace_auto([("auto", 0.0), ({"waltz": 1.0}, 2.0), ("auto", 3.0)], "tango") == [
        ("tango", 0.0),
        ({"waltz": 1.0}, 2.0),
        ("tango", 3.0),
    ]
