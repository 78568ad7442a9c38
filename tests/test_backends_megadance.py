"""The one place where something else than the modules computes a dance."""

import pytest
import torch

from megadance_hf.modeling import backends_megadance as backends
from megadance_hf.modeling.backends_megadance import Backend, register_backend
from megadance_hf.modeling.configuration_megadance import MegaDanceConfig
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = MegaDanceConfig(
        codebook_size=15,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        context_codes=4,
        slide_codes=2,
        id2label={0: "waltz", 1: "rumba"},
    )
    return MegaDanceForMotionGeneration(config).eval()


@pytest.fixture
def asked(monkeypatch):
    """What the backend "mine" was asked for, and computed."""
    monkeypatch.setattr(backends, "_BACKENDS", dict(backends._BACKENDS))
    events = []

    def prepare(model, cache):
        events.append("prepare")

        def step(hidden_states, keep):
            events.append(tuple(hidden_states.shape))
            return hidden_states[:, :2, -keep:]

        # code 3 whatever comes
        step.head = lambda states, next_codes: torch.eye(15)[3].expand(*states.shape[:-1], 15)
        return step

    register_backend("mine", Backend(prepare))
    return events


MUSIC, GENRES = torch.zeros(2, 64, 35), torch.tensor([1, 0])


def test_a_backend_is_asked_once_a_dance_and_computes_its_steps(model, asked):
    output = model.generate(MUSIC, GENRES, mode="stream", backend="mine")
    assert (output.upper_codes[:, 1:] == 3).all() and (output.lower_codes[:, 1:] == 3).all()
    assert asked == ["prepare"] + 7 * [(2, 3, 1, 16)]


def test_paper_mode_resets_the_cache_and_keeps_the_stepper(model, asked):
    model.generate(MUSIC, GENRES, mode="paper", backend="mine")
    assert asked.count("prepare") == 1


def test_auto_takes_the_first_that_pays_and_can(model, asked):
    calls = []
    register_backend("never", Backend(lambda model, cache: calls.append("never")))
    register_backend("costly", Backend(lambda model, cache: calls.append("costly"), pays=lambda model: False))
    backends._BACKENDS = {name: backends._BACKENDS[name] for name in ("costly", "never", "mine")}
    assert (model.generate(MUSIC, GENRES).upper_codes[:, 1:] == 3).all()
    assert calls == ["never"]


def test_the_modules_compute_what_a_backend_does_not_give(model, asked):
    cache, codes = model.make_cache(GENRES, "mine"), torch.zeros(2, 4, dtype=torch.long)
    with torch.no_grad():
        expected = model(MUSIC[:, :32], codes, codes, GENRES)
        hidden = model(MUSIC[:, :32], codes, codes, GENRES, cache=cache, output_hidden_states=True)
    torch.testing.assert_close(hidden.upper_logits, expected.upper_logits)
    assert len(hidden.hidden_states) == 2 and asked == []
    with_gradient = model(MUSIC[:, :32], codes, codes, GENRES, cache=model.make_cache(GENRES, "mine"))
    torch.testing.assert_close(with_gradient.upper_logits, expected.upper_logits)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        model(MUSIC[:, :32], codes, codes, GENRES, cache=model.make_cache(GENRES, "mine"))
    model.train()  # with dropout
    with torch.no_grad():
        model(MUSIC[:, :32], codes, codes, GENRES, cache=model.make_cache(GENRES, "mine"))
    assert asked == []


@pytest.mark.parametrize("backend", ["torch", "stacked", "cpu"])
def test_every_backend_dances_the_same(model, backend):
    pytest.importorskip("numba")
    expected = model.generate(MUSIC, GENRES, do_sample=True, seed=0)
    output = model.generate(MUSIC, GENRES, do_sample=True, seed=0, backend=backend)
    assert torch.equal(output.upper_codes, expected.upper_codes) and torch.equal(
        output.lower_codes, expected.lower_codes
    )


def test_what_cannot_be_is_refused(model, monkeypatch):
    for name in ("auto", "torch"):
        with pytest.raises(ValueError, match=f"name='{name}' has a meaning already"):
            register_backend(name, Backend(lambda model, cache: None))
    with pytest.raises(ValueError, match="backend='gpu' is unknown; use one of auto, torch, cpu, stacked"):
        model.generate(MUSIC, GENRES, backend="gpu")
    monkeypatch.setattr(backends, "_BACKENDS", {"mine": Backend(lambda model, cache: None)})
    with pytest.raises(ValueError, match="backend='mine' cannot compute this model as torch.float32 on cpu"):
        model.generate(MUSIC, GENRES, backend="mine")
    with pytest.raises(ValueError, match="backend='mine' computes with a cache; leave use_cache=False out"):
        model.generate(MUSIC, GENRES, backend="mine", use_cache=False)
    monkeypatch.setattr(backends, "_QUANTIZATIONS", {})
    with pytest.raises(
        ValueError, match="quantization='int8' is unknown; there is none here; use a quantization_config"
    ):
        MegaDanceForMotionGeneration.from_pretrained("nowhere", quantization="int8")
