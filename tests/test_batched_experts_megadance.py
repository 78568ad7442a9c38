"""Experts side by side against module by module, and how many launches that takes."""

import copy

import pytest
import torch
from helpers import tiny_generator
from hypothesis import given, settings
from hypothesis import strategies as st
from launches import Launches

from megadance_hf.modeling import batched_experts_megadance, scan_megadance
from megadance_hf.modeling.batched_experts_megadance import bundles
from megadance_hf.modeling.configuration_megadance import MegaDanceConfig
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration

ARRANGEMENTS = {
    "released_2025": {},
    "paper": {
        "expert_composition": "parallel",
        "genre_embedding": True,
        "music_lookahead": 1,
        "mlp_activation": "gelu",
    },
    "released_2026": {
        "code_head": "factorised",
        "levels": [3, 3, 3],
        "mamba_placement": "layers",
        "norm_per_stream": True,
    },
}


@pytest.fixture
def side_by_side(monkeypatch):
    """What an accelerator computes, on the CPU."""
    monkeypatch.setattr(batched_experts_megadance, "is_worth_it", lambda x: True)
    monkeypatch.setattr(scan_megadance, "_goes_step_by_step", lambda x: False)


def batch_of(genre_ids, codes=8, device="cpu"):
    rows = len(genre_ids)
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(27, (rows, 2, codes), generator=generator)
    features = torch.randn(rows, 8 * codes, 35, generator=generator)
    return {"labels": labels.to(device), "input_features": features.to(device), "genre_ids": torch.tensor(genre_ids)}


def loss_and_gradients(model, batch):
    model.zero_grad()
    output = model(**batch)
    output.loss.backward()
    gradients = {name: None if one.grad is None else one.grad.clone() for name, one in model.named_parameters()}
    return output.upper_logits.detach(), output.loss.detach(), gradients


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("genre_ids", [[1] * 4, [2, 0, 2, 0], [0, 2, 2, 2, 2, 2]], ids=["one genre", "even", "uneven"])
def test_side_by_side_equals_module_by_module(request, arrangement, genre_ids):
    torch.manual_seed(0)
    model = tiny_generator(dropout=0.0, num_hidden_layers=2, **ARRANGEMENTS[arrangement]).train()
    batch = batch_of(genre_ids)
    logits, loss, gradients = loss_and_gradients(model, batch)
    request.getfixturevalue("side_by_side")
    other_logits, other_loss, other_gradients = loss_and_gradients(model, batch)
    torch.testing.assert_close(other_logits, logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(other_loss, loss)
    for name, gradient in gradients.items():
        if gradient is None:  # experts of genres that the batch lacks
            assert other_gradients[name] is None, name
        else:
            torch.testing.assert_close(other_gradients[name], gradient, atol=1e-5, rtol=1e-3, msg=name)
            weight = dict(model.named_parameters())[name]
            assert weight.grad.stride() == weight.stride(), name  # else each would have been copied


def test_more(side_by_side):
    pass
