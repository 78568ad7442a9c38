"""Fitting the hearing: genres that differ in tempo and metre are told apart, what is neither is not, and nothing else changes."""

import numpy as np
import pytest
import torch
from helpers import tiny_generator
from safetensors.torch import load_file
from toy_clips import dance

from megadance_hf import MegaDanceForMotionGeneration
from megadance_hf.modeling.errors_megadance import ModelError
from megadance_hf.modeling.modeling_megadance import MegaDanceModel
from megadance_hf.modeling.music_features_megadance import ONSET_ENVELOPE
from megadance_hf.modeling.rhythm_megadance import phase_vectors
from megadance_hf.synthetic.composer import STYLES
from megadance_hf.training.hearing import (
    Heard,
    HearingSettings,
    add_hearing,
    composed_style,
    fit_hearing,
    hear_songs,
    make_noise,
    train_hearing,
)

GENRES = ["waltz", "tango"]
NO_OTHERS = HearingSettings(composed_songs=0, noises=0)
RHYTHM = {"rhythm_size": 8, "rhythm_layers": 2, "id2label": dict(enumerate(GENRES))}


def song(bpm: float, beats: int, seed: int, frames: int = 1000) -> np.ndarray:
    """Features whose first four columns are the rhythm."""
    generator = np.random.default_rng(seed)
    position = torch.arange(frames) / 30 * bpm / 60 + generator.uniform()
    features = 0.1 * generator.standard_normal((frames, 35)).astype(np.float32)
    features[:, ONSET_ENVELOPE] += 1 + torch.cos(2 * torch.pi * position).numpy()
    features[:, :4] = phase_vectors(position % 1, position / beats % 1).numpy()
    return features


def clips(per_genre: int = 4) -> list:
    found = []
    for index in range(per_genre):
        for genre, features in (("waltz", song(86 + index, 3, index)), ("tango", song(126 + index, 4, 50 + index))):
            clip = dance(f"{genre}{index}", len(features), genre=genre, song=f"{genre}{index}")
            clip.input_features = features
            found.append(clip)
    return found


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setattr(MegaDanceModel, "read_rhythm", lambda self, features, mask=None: features[..., :4])
    return tiny_generator(**RHYTHM, hears_genres=True)


def test_genres_are_told_apart_and_others_are_not_sure(model, capsys):
    report = train_hearing(model, clips(), NO_OTHERS)
    assert report["songs"] == 8 and report["left_out"] > 0.95
    assert "hearing: 8 songs; left out, " in capsys.readouterr().out

    def hear(bpm, beats):
        return model.hear_genre(torch.from_numpy(song(bpm, beats, 99))[None])[0].tolist()

    assert hear(87.5, 3)[0] > 0.8 and hear(128, 4)[1] > 0.8
    assert max(hear(60, 4)) < 0.7 and max(hear(180, 4)) < 0.7, "none of them"
    weights = model.hearing.weight.clone()
    train_hearing(model, clips(), NO_OTHERS)
    torch.testing.assert_close(model.hearing.weight, weights, atol=0, rtol=0)


def test_songs_and_genres_weigh_the_same_however_much_there_is_of_them(model):
    """Longer clips of a song, and more clips of it, are no other music."""
    once = hear_songs(model, clips(), NO_OTHERS)
    twice = hear_songs(model, [*clips(), *clips()], NO_OTHERS)
    assert len(once.labels) == len(twice.labels)
    torch.testing.assert_close(once.statistics, twice.statistics, atol=0, rtol=0)
    doubled = Heard(
        *(
            torch.cat((values, values[once.songs == 0]))
            for values in (once.statistics, once.labels, once.songs, once.plain)
        )
    )
    weights = [fit_hearing(heard, 2, NO_OTHERS, temperature=1.0)[0] for heard in (once, doubled)]
    # the spread by which statistics are scaled is of windows, so not exactly
    torch.testing.assert_close(weights[0], weights[1], atol=0.05 * float(weights[0].abs().max()), rtol=0)


def test_the_only_song_of_a_genre_is_not_left_out(model):
    heard = hear_songs(model, clips(1), NO_OTHERS)
    _, _, report = fit_hearing(heard, 2, NO_OTHERS)
    assert report == {"songs": 2, "temperature": 2.0, "left_out": None}


def test_temperature_grows_where_songs_that_were_left_out_are_mistaken():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40).repeat_interleave(4) % 2
    songs, plain = torch.arange(40).repeat_interleave(4), torch.ones(160, dtype=torch.bool)
    # each song has a number of its own, of no use for others; a weak sign of the genre is in another
    own = torch.randn(40, 5, generator=generator).double().repeat_interleave(4, 0)
    reports = []
    for strength in (0.3, 3.0):
        sign = strength * (2.0 * labels - 1) + torch.randn(160, generator=generator)
        heard = Heard(torch.cat((own, sign[:, None]), 1).double(), labels, songs, plain)
        reports.append(fit_hearing(heard, 2, HearingSettings(shrinkage=1e-4))[2])
    assert reports[0]["temperature"] > 2 * reports[1]["temperature"]
    assert reports[0]["left_out"] < 0.75 < 0.95 < reports[1]["left_out"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_existing_model_learns_to_hear_and_stays_as_it_is(model, tmp_path, dtype):
    deaf = tiny_generator(**RHYTHM).to(dtype)
    deaf.save_pretrained(tmp_path)
    before = load_file(tmp_path / "model.safetensors")
    add_hearing(tmp_path, clips(2), NO_OTHERS)
    after = load_file(tmp_path / "model.safetensors")
    assert after.keys() - before.keys() == {"hearing.weight", "hearing.bias"}
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(tensor.dtype == dtype for tensor in after.values() if tensor.is_floating_point())
    hears = MegaDanceForMotionGeneration.from_pretrained(tmp_path)
    assert hears.config.hears_genres
    train_hearing(model, clips(2), NO_OTHERS)
    features = torch.from_numpy(song(87, 3, 99))[None]
    torch.testing.assert_close(hears.hear_genre(features), model.hear_genre(features), atol=0.02, rtol=0)


def test_what_cannot_learn_to_hear_is_refused(model, tmp_path):
    with pytest.raises(ModelError, match="none of 1 clips has 2 s of music of a genre; set hears_genres=False"):
        train_hearing(model, [dance("silent", music=False)], NO_OTHERS)
    with pytest.raises(ModelError, match="this model has no hearing to fit: set hears_genres=True"):
        train_hearing(tiny_generator(), clips(1), NO_OTHERS)
    tiny_generator().save_pretrained(tmp_path / "plain")
    with pytest.raises(ModelError, match="has no rhythm encoder, with which it would hear"):
        add_hearing(tmp_path / "plain", clips(1))
    with pytest.raises(ModelError, match=r"has no model\.safetensors: save it in one file"):
        add_hearing(tmp_path, clips(1))


@pytest.mark.parametrize("name, value", [("shrinkage", 0.0), ("none", -1.0), ("composed_songs", 1001), ("noises", -1)])
def test_impossible_settings(name, value):
    with pytest.raises(ValueError, match=f"^{name}={value} is not possible"):
        HearingSettings(**{name: value})


def test_other_music_is_of_other_styles(model):
    heard = hear_songs(model, clips(1), HearingSettings(composed_songs=1, noises=2))
    plain = hear_songs(model, clips(1), NO_OTHERS)
    # a composed song and noises of 30 s have two windows of each of two lengths
    assert len(heard.labels) == len(plain.labels) + 3 * 4
    assert (heard.labels[len(plain.labels) :] == len(GENRES)).all()
    assert {composed_style(seed) for seed in range(20)} == set(STYLES)
    for index in range(3):
        noise = make_noise(index, 0, 2.0)
        assert noise.dtype == np.float32 and np.abs(noise).max() == pytest.approx(0.5)
        np.testing.assert_array_equal(noise, make_noise(index, 0, 2.0))
