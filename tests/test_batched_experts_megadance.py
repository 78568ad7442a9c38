"""Experts side by side against module by module, and how many launches that takes."""

import functools

import pytest
import torch
from helpers import tiny_generator
from hypothesis import given, settings
from hypothesis import strategies as st

from megadance_hf.modeling import batched_experts_megadance, scan_megadance
from megadance_hf.modeling.batched_experts_megadance import _places, bundles

pytestmark = pytest.mark.versions

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


@pytest.mark.parametrize("arrangement", ["released_2025", pytest.param("released_2026", marks=pytest.mark.slow)])
def test_compiled_experts_are_one_graph_for_all_layers(monkeypatch, arrangement):
    from torch._dynamo.utils import counters

    one_graph = functools.cache(functools.partial(torch.compile, fullgraph=True, backend="aot_eager"))
    monkeypatch.setattr(batched_experts_megadance, "_in_one_graph", one_graph)
    torch.compiler.reset()
    torch.manual_seed(0)
    model = tiny_generator(dropout=0.0, num_hidden_layers=3, **ARRANGEMENTS[arrangement]).train()
    batch = batch_of([1, 0, 1, 0])
    logits, loss, gradients = loss_and_gradients(model, batch)
    for module in model.modules():
        if hasattr(module, "compiled"):
            module.compiled = True
    before = counters["stats"]["unique_graphs"]
    other_logits, other_loss, other_gradients = loss_and_gradients(model, batch)
    # the universal and the two genres' experts; Mambas that experts share have one of their own
    assert counters["stats"]["unique_graphs"] - before == (2 if arrangement == "released_2025" else 3)
    torch.testing.assert_close(other_logits, logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(other_loss, loss)
    for name, gradient in gradients.items():
        assert (gradient is None) == (other_gradients[name] is None), name
        if gradient is not None:
            torch.testing.assert_close(other_gradients[name], gradient, atol=1e-5, rtol=1e-3, msg=name)


def test_what_is_no_plain_layer_computes_by_itself(side_by_side):
    """Such as an adapter's layer, in one expert of two."""

    class Doubled(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    torch.manual_seed(0)
    model = tiny_generator(dropout=0.0).train()
    expert = model.base_model.layers[0].genre_experts["genre_rumba"]
    fc1, doubled = expert.mlp.fc1, Doubled(16, 16)
    doubled.load_state_dict({name: 0.5 * weight for name, weight in fc1.state_dict().items()})
    batch = batch_of([1, 0, 1, 0])
    logits, _, _ = loss_and_gradients(model, batch)
    expert.mlp.fc1 = doubled
    torch.testing.assert_close(loss_and_gradients(model, batch)[0], logits)


def test_frozen_experts_have_no_gradients(side_by_side):
    """As in the training of a new genre; those of the others are the same."""
    torch.manual_seed(0)
    model = tiny_generator(dropout=0.0).train()
    batch = batch_of([1, 0, 1, 0])
    _, _, gradients = loss_and_gradients(model, batch)
    model.requires_grad_(False)
    model.base_model.layers[0].genre_experts["genre_rumba"].requires_grad_(True)
    _, _, others = loss_and_gradients(model, batch)
    for name, gradient in others.items():
        if "genre_rumba" in name:
            torch.testing.assert_close(gradient, gradients[name])
        else:
            assert gradient is None


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=16))
def test_bundles_pad_to_twice_the_rows_at_most(sizes):
    found = bundles(sizes)
    assert sorted(index for bundle in found for index in bundle) == list(range(len(sizes)))
    for bundle in found:
        rows = [sizes[index] for index in bundle]
        assert len(rows) * max(rows) <= 2 * sum(rows)


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6))
@settings(max_examples=20)
def test_rows_come_back_in_their_order(sizes):
    taken, places = _places(tuple(sizes), torch.device("cpu"))
    batch = torch.arange(sum(sizes))
    assert torch.equal(torch.cat([batch[rows] for rows in taken])[places], batch)


def test_known_genres_are_routed_like_a_tensor_of_them():
    torch.manual_seed(0)
    model = tiny_generator(dropout=0.0).train()
    batch = batch_of([2, 0, 1, 0, 2])
    expected = model(**batch).upper_logits
    batch["genre_ids"] = batch["genre_ids"].tolist()
    assert torch.equal(model(**batch).upper_logits, expected)
    assert torch.equal(
        model.eval()(**batch, use_cache=True).upper_logits, model(**batch_of([2, 0, 1, 0, 2])).upper_logits
    )
