"""Cross-entropy of real dances given right and wrong music."""

import numpy as np
import pytest
import torch
from helpers import song, tiny_generator, tiny_tokenizer

from megadance_hf.data.clip import clip_motion
from megadance_hf.evaluation.cross_entropy import cross_entropy
from megadance_hf.evaluation.dances import MUSIC
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizerEncoderOutput


def test_cross_entropy_is_that_of_the_model_window_by_window():
    model, tokenizer = tiny_generator(music_lookahead=1), tiny_tokenizer()
    songs = [song(0, frames=560), song(1, period=0.7), song(2, frames=100)]
    found = cross_entropy(model, tokenizer, songs, [1, 0, 0])
    assert [len(found["windows"][c]) for c in MUSIC] == [2 + 1 + 1] * 4  # 70, 37 and 12 codes
    with torch.no_grad():
        codes = tokenizer.encode(torch.from_numpy(clip_motion(songs[0])[None]))
        piece = {"upper_codes": codes.upper_codes[:, 29:59], "lower_codes": codes.lower_codes[:, 29:59]}
        labels = {"upper_labels": piece["upper_codes"], "lower_labels": piece["lower_codes"]}
        features = torch.from_numpy(songs[0].input_features[None, 29 * 8 : 59 * 8])
        loss = model(features, genre_ids=torch.tensor([2]), **piece, **labels).loss
    assert found["windows"]["right"][1] == pytest.approx(float(loss), abs=1e-5)
    mean = found["mean"]["right"]
    assert mean["sum"] == pytest.approx(np.mean([row["right"]["sum"] for row in found["songs"]]))
    assert mean["perplexity_upper"] == pytest.approx(np.exp(mean["upper"]))
    assert {test["songs"]["pairs"] for test in found["tests"].values()} == {3}


def test_without_another_song_nothing_is_swapped():
    found = cross_entropy(tiny_generator(), tiny_tokenizer(), [song(0)], [None])
    assert list(found["mean"]) == ["right", "shifted", "zeroed"] and "swapped" not in found["tests"]


def test_a_rhythm_encoder_hears_the_whole_song_and_is_silent_without_music():
    model = tiny_generator(rhythm_size=8, rhythm_layers=1)
    encoded, read = [], []
    encode = model.model.encode_rhythm

    def listen(features):
        encoded.append(encode(features))
        return encoded[-1]

    model.model.encode_rhythm = listen
    model.register_forward_pre_hook(lambda m, a, kwargs: read.append(kwargs["rhythm"]), with_kwargs=True)
    cross_entropy(model, tiny_tokenizer(), [song(0, frames=560)], [None])
    assert [rhythm.shape[1] for rhythm in encoded] == [560] * 3
    segments = [slice(0, 240), slice(29 * 8, 29 * 8 + 240)]
    for rhythm, whole in zip(read, (*encoded[:2], torch.zeros_like(encoded[0])), strict=True):
        torch.testing.assert_close(rhythm, torch.stack([whole[0, segment] for segment in segments]))


def test_music_that_is_in_the_codes_is_found(monkeypatch):
    """A model whose music gives away the next code: the right music must win in every song."""
    tokenizer = tiny_tokenizer()
    songs = [song(n, frames=500, period=0.4 + n / 20) for n in range(8)]
    for clip in songs:
        codes = np.random.default_rng(len(clip.id) + int(clip.id[4:])).integers(0, 27, len(clip) // 8)
        clip.input_features[:, 0] = np.repeat(codes, 8).tolist() + [0] * (len(clip) % 8)
        clip.codes = torch.from_numpy(codes)[None]
    known = iter(songs)
    monkeypatch.setattr(
        type(tokenizer), "encode", lambda self, m: MegaDanceTokenizerEncoderOutput(*[next(known).codes] * 2)
    )
    model = tiny_generator(music_lookahead=1)

    def forward(features, upper, lower, genre_ids, rhythm):
        told = torch.cat((features[:, 8::8, 0], features[:, -1:, 0]), 1).long().clamp(0, 26)
        logits = 9 * torch.nn.functional.one_hot(told, 27).float()
        return type("Output", (), {"upper_logits": logits, "lower_logits": logits})

    monkeypatch.setattr(type(model), "forward", lambda self, *args, **kwargs: forward(*args, **kwargs))
    found = cross_entropy(model, tokenizer, songs, [(n + 1) % 8 for n in range(8)])
    assert found["mean"]["right"]["sum"] < 0.02
    assert all(test[over]["p"] < 0.01 for test in found["tests"].values() for over in ("songs", "windows"))
