"""What `test_device_map.py` runs in a process of its own: a model whose parts are on two devices computes what it does on one."""

import copy
import pickle
import warnings

import fake_devices
import numpy as np
import torch
from accelerate import dispatch_model
from helpers import noisy_song, tiny_generator, tiny_tokenizer

from megadance_hf.modeling.feature_extraction_megadance import MegaDanceFeatureExtractor
from megadance_hf.modeling.generation_megadance import MODES
from megadance_hf.modeling.processing_megadance import MegaDanceProcessor
from megadance_hf.pipeline import MusicToDancePipeline

fake_devices.setup()
ZERO, ONE = (torch.device(fake_devices.NAME, index) for index in (0, 1))
LAYERS = {"code_head": "factorised", "levels": [3, 9], "mamba_placement": "layers", "norm_per_stream": True}
ARRANGEMENTS = {
    "sequential": {**LAYERS, "level_decoding": "sequential"},
    "paper": {"expert_composition": "parallel", "genre_embedding": True, "music_lookahead": 1, "rhythm_size": 8},
}
GENRES = torch.tensor([2, 0, 2])


def spread(model, main=ZERO):
    """The layers and every other part on one device after the other, as `from_pretrained(device_map=...)` would leave them."""
    parts = [name for name, _ in model.model.named_children() if name != "layers"]
    places = {f"model.{name}": index % 2 for index, name in enumerate(parts)}
    places |= {f"model.layers.{index}": index % 2 for index in range(2)} | {"output_mlp": 1}
    device_map = {name: str((ZERO, ONE)[index]) for name, index in places.items()}
    for name in ("music_mean", "music_std"):
        model.model._buffers[name] = model.model._buffers[name].to(ONE)
        device_map[f"model.{name}"] = str(ONE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        skip = model._skip_keys_device_placement
        return dispatch_model(model, device_map, main_device=str(main), skip_keys=skip)


def same(got, expected):
    torch.testing.assert_close(got.cpu(), expected, atol=1e-4, rtol=1e-4)


def check_generation(model, plain):
    music = torch.randn(3, 48, 35)
    options = ({"do_sample": True, "seed": 3, "top_k": 5}, {"use_cache": False}, {"guidance_scale": 2.0})
    for mode, asked in zip(MODES, options, strict=True):
        arguments = {"mode": mode, "output_scores": True, "output_logits": "guidance_scale" not in asked, **asked}
        expected, got = (one.generate(music, GENRES, **arguments) for one in (plain, model))
        assert torch.equal(got.upper_codes.cpu(), expected.upper_codes), mode
        same(got.lower_scores.nan_to_num(neginf=-9), expected.lower_scores.nan_to_num(neginf=-9))
        if got.upper_logits is not None:
            same(got.upper_logits, expected.upper_logits)
    codes = {"upper_codes": expected.upper_codes, "lower_codes": expected.lower_codes}
    plan = torch.tensor([0, 0, 1, 1, 1, 2]).expand(3, -1)
    assert torch.equal(
        model.generate(music, plan, mode="paper").upper_codes.cpu(),
        plain.generate(music, plan, mode="paper").upper_codes,
    )
    for genres in (GENRES, plan):
        same(model.score(music, genres, **codes), plain.score(music, genres, **codes, backend="torch"))


def check_forward(model, plain):
    music, (upper, lower) = torch.randn(3, 48, 35), torch.randint(27, (2, 3, 6))
    asked = {"upper_labels": upper, "lower_labels": lower, "use_cache": False}
    asked |= {"output_hidden_states": True, "output_attentions": True, "output_code_scores": True}
    if model.config.rhythm_size:
        asked["rhythm_labels"] = torch.randn(3, 48, 4)
    expected, got = (one(music, upper, lower, GENRES, **asked) for one in (plain, model))
    for name in ("loss", "upper_logits", "lower_scores"):
        same(got[name], expected[name])
    for name in ("hidden_states", "attentions"):
        assert len(got[name]) == len(expected[name]) > 0
        for one, other in zip(got[name], expected[name], strict=True):
            same(one, other)


def check_cache(model, plain):
    music, (upper, lower) = torch.randn(3, 7, 16), torch.randint(27, (2, 3, 7))
    inputs = {"music_embeds": music, "upper_codes": upper, "lower_codes": lower}

    def part(first, last, rows=slice(None)):
        return {name: value[rows, first:last] for name, value in inputs.items()}

    cache = model.make_cache(GENRES)
    model(**part(0, 4), genre_ids=GENRES, cache=cache)
    for states in (cache.conv, cache.ssm, cache.keys, cache.values):
        assert [state.device for state in states] == [ZERO, ONE]
    other, rows = copy.deepcopy(cache), [2, 0, 0]
    again = pickle.loads(pickle.dumps(plain.make_cache(GENRES)))
    assert again.conv.shape[0] == 2
    expected = plain(**inputs, genre_ids=GENRES, use_cache=False).upper_logits
    same(model(**part(4, 7), genre_ids=GENRES, cache=cache).upper_logits, expected[:, 4:])
    other.reorder_cache(torch.tensor(rows))
    assert [state.device for state in other.ssm] == [ZERO, ONE]
    kept = other.snapshot()
    for _ in range(2):  # the second time from the snapshot
        same(model(**part(4, 7, rows), genre_ids=GENRES[rows], cache=other).upper_logits, expected[rows, 4:])
        other.restore(kept)
    cache.reset()
    same(model(**inputs, genre_ids=GENRES, cache=cache).upper_logits, expected)


def check_pipeline(model, plain):
    dances = []
    for one in (plain, model):
        torch.manual_seed(1)
        extractor, tokenizer = MegaDanceFeatureExtractor(), tiny_tokenizer()
        processor = MegaDanceProcessor(extractor, one.config.genres, one.config.frames_per_code)
        pipe = MusicToDancePipeline(one, tokenizer, processor)
        sound = {"array": noisy_song(1.2), "sampling_rate": 15360}
        dance = pipe(sound, "waltz", seed=0)
        chunks = pipe.stream(np.split(sound["array"], 6), 15360, "waltz", seed=0, guess_codes=1)
        dances.append((dance.poses, np.concatenate([chunk.poses for chunk in chunks])))
    for got, expected in zip(dances[1], dances[0], strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-3)


def check_split_layer(model, plain):
    layer = model.model.layers[1]
    for part in layer.universal_expert.modules():
        if hasattr(part, "_hf_hook"):
            part._hf_hook.execution_device = str(ZERO)
    try:
        model.make_cache(GENRES)
    except ValueError as error:
        assert "device_map: layer 1 is on twin:0, twin:1; give each layer one device" in str(error)
    else:
        raise AssertionError("a layer on two devices was accepted")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    for name, arrangement in ARRANGEMENTS.items():
        torch.manual_seed(0)
        plain = tiny_generator(num_hidden_layers=2, context_codes=3, slide_codes=1, **arrangement)
        plain.model.set_music_statistics(torch.randn(35), torch.rand(35) + 0.5)
        with fake_devices.FakeDevices():
            model = spread(copy.deepcopy(plain))
            assert model.device == ZERO and {weight.device for weight in model.parameters()} == {ZERO, ONE}
            checks = [check_generation, check_forward, check_cache]
            for check in checks if name != "paper" else [*checks, check_pipeline, check_split_layer]:
                check(model, plain)
                print(name, check.__name__, flush=True)
