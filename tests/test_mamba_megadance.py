"""Mamba: the scan against its plain recurrence, the convolution, names and shapes of mamba_ssm."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from megadance_hf.modeling import mamba_megadance
from megadance_hf.modeling.configuration_megadance import MegaDanceConfig
from megadance_hf.modeling.mamba_megadance import Mamba, convolve, mamba_weights, run_mambas, selective_scan
from megadance_hf.modeling.modeling_megadance import MegaDanceModel


def tiny_config(**overrides) -> MegaDanceConfig:
    return MegaDanceConfig(hidden_size=16, num_attention_heads=2, state_size=4, **overrides)


def sequential_scan(u, delta, A, B, C, state=None):
    """The plain recurrence, one stream, one step and one line of the formula at a time."""
    streams = []
    for s in range(len(A)):
        h = u.new_zeros(*u.shape[1:2], *A.shape[1:]) if state is None else state[s].mT
        outputs = []
        for t in range(u.shape[2]):
            step = delta[s, :, t, :, None]
            h = torch.exp(step * A[s]) * h + step * B[s, :, t, None, :] * u[s, :, t, :, None]
            outputs.append((h * C[s, :, t, None, :]).sum(-1))
        streams.append((torch.stack(outputs, 1), h.mT))
    return [torch.stack(parts) for parts in zip(*streams, strict=True)]


def scan_inputs(batch=2, steps=7, channels=5, state=3, dtype=torch.float32, streams=3):
    u, delta = (torch.randn(streams, batch, steps, channels, dtype=dtype) for _ in range(2))
    delta = delta.abs()
    a = -torch.rand(streams, channels, state, dtype=dtype) * 3
    b, c = (torch.randn(streams, batch, steps, state, dtype=dtype) for _ in range(2))
    return [tensor.requires_grad_() for tensor in (u, delta, a, b, c)]


@pytest.mark.parametrize("chunk", [1, 90, 2**20])  # one step, a few steps, everything at once
@pytest.mark.parametrize("steps", [1, 2, 7, 30])
def test_scan_equals_the_sequential_reference(monkeypatch, steps, chunk):
    monkeypatch.setattr(mamba_megadance, "_SCAN_CHUNK_ELEMENTS", chunk)
    inputs = scan_inputs(steps=steps)
    y, last = selective_scan(*inputs)
    expected, expected_last = sequential_scan(*inputs)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(last, expected_last.detach(), atol=1e-5, rtol=1e-5)
    weight = torch.randn_like(y)
    gradients = torch.autograd.grad((y * weight).sum(), inputs)
    expected_gradients = torch.autograd.grad((expected * weight).sum(), inputs)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(selective_scan(*inputs)[0], expected, atol=1e-5, rtol=1e-5)


def test_scan_gradients(monkeypatch):
    monkeypatch.setattr(mamba_megadance, "_SCAN_CHUNK_ELEMENTS", 40)
    inputs = scan_inputs(steps=5, channels=3, state=2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *tensors: selective_scan(*tensors)[0], inputs)
    state = torch.randn(3, 2, 2, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *tensors: selective_scan(*tensors, state)[0], inputs)


@given(first=st.integers(1, 9), second=st.integers(1, 9))
@settings(max_examples=15)
def test_scan_carries_its_state(first, second):
    inputs = [tensor.detach() for tensor in scan_inputs(steps=first + second)]
    u, delta, a, b, c = inputs
    whole, last = selective_scan(*inputs)
    one, state = selective_scan(u[:, :, :first], delta[:, :, :first], a, b[:, :, :first], c[:, :, :first])
    two, end = selective_scan(u[:, :, first:], delta[:, :, first:], a, b[:, :, first:], c[:, :, first:], state)
    torch.testing.assert_close(torch.cat((one, two), 2), whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(end, last, atol=1e-5, rtol=1e-5)


def test_scan_of_a_very_long_sequence_is_safe():
    u, delta, a, b, c = (tensor.detach() for tensor in scan_inputs(batch=1, steps=3000))
    y, _ = selective_scan(u, 20 * delta, 5 * a, b, c)  # decays far below the smallest float
    torch.testing.assert_close(y, sequential_scan(u, 20 * delta, 5 * a, b, c)[0], atol=1e-4, rtol=1e-4)


def test_scan_stays_in_float32_under_autocast():
    inputs = scan_inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, _ = selective_scan(*inputs)
        y.sum().backward()
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, sequential_scan(*inputs)[0], atol=1e-5, rtol=1e-5)


def test_mamba_convolution_equals_conv1d():
    mamba = Mamba(tiny_config())
    with torch.no_grad():
        mamba.init_weights()
        x = torch.randn(2, 9, 32)
        expected = mamba.conv1d(x.transpose(1, 2))[..., :9].transpose(1, 2)
        weights = mamba_weights([mamba])
        weights = weights.conv, weights.conv_bias
        torch.testing.assert_close(convolve(x[None], *weights)[0], expected, atol=1e-6, rtol=1e-5)
        history = torch.zeros(1, 2, 3, 32)
        pieces = [convolve(piece[None], *weights, history)[0] for piece in x.split((1, 2, 1, 5), dim=1)]
        torch.testing.assert_close(torch.cat(pieces, 1), expected, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(history[0], x[:, -3:])


def test_streams_do_not_meet_in_mambas():
    mambas = [Mamba(tiny_config()) for _ in range(3)]
    for mamba in mambas:
        mamba.init_weights()
    x = torch.randn(3, 2, 6, 16)
    together = run_mambas(mambas, x)
    for mamba, stream, result in zip(mambas, x, together, strict=True):
        torch.testing.assert_close(mamba(stream), result, atol=1e-6, rtol=1e-5)
    parameters = [parameter for mamba in mambas for parameter in mamba.parameters()]
    gradients = torch.autograd.grad(together[1].square().sum(), parameters, allow_unused=True)
    for owner, gradient in zip([0, 1, 2], torch.split(torch.stack([g.abs().sum() for g in gradients]), 9), strict=True):
        assert (gradient > 0).all() == (owner == 1)


def test_mamba_has_the_shapes_of_mamba_ssm():
    shapes = {name: tuple(value.shape) for name, value in Mamba(tiny_config()).state_dict().items()}
    assert shapes == {
        "A_log": (32, 4),
        "D": (32,),
        "in_proj.weight": (64, 16),
        "conv1d.weight": (32, 1, 4),
        "conv1d.bias": (32,),
        "x_proj.weight": (9, 32),
        "dt_proj.weight": (32, 1),
        "dt_proj.bias": (32,),
        "out_proj.weight": (16, 32),
    }


def test_mamba_initialisation_survives_the_model():
    model = MegaDanceModel(tiny_config(num_hidden_layers=2, intermediate_size=24, codebook_size=15))
    for module in (module for module in model.modules() if isinstance(module, Mamba)):
        steps = torch.nn.functional.softplus(module.dt_proj.bias)
        assert steps.min() >= 0.00099 and steps.max() <= 0.101 and steps.std() > 0
        torch.testing.assert_close(module.A_log.exp(), torch.arange(1.0, 5.0).expand(32, 4))
        assert (module.D == 1).all()
        assert module.in_proj.weight.abs().max() <= 0.25
