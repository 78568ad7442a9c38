"""The selective scan against its plain recurrence."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from megadance_hf.modeling import scan_megadance
from megadance_hf.modeling.scan_megadance import selective_scan


def sequential_scan(u, delta, A, B, C, state=None):
    """The plain recurrence, one stream, one step and one line of the formula at a time."""
    streams = []
    for s in range(len(A)):
        h = u.new_zeros(*u.shape[1:2], *A.shape[2:]) if state is None else state[s].mT
        outputs = []
        for t in range(u.shape[2]):
            step = delta[s, :, t, :, None]
            h = torch.exp(step * A[s, 0]) * h + step * B[s, :, t, None, :] * u[s, :, t, :, None]
            outputs.append((h * C[s, :, t, None, :]).sum(-1))
        streams.append((torch.stack(outputs, 1), h.mT))
    return [torch.stack(parts) for parts in zip(*streams, strict=True)]


def scan_inputs(batch=2, steps=7, channels=5, state=3, dtype=torch.float32, streams=3):
    u, delta = (torch.randn(streams, batch, steps, channels, dtype=dtype) for _ in range(2))
    delta = delta.abs()
    a = -torch.rand(streams, 1, channels, state, dtype=dtype) * 3
    b, c = (torch.randn(streams, batch, steps, state, dtype=dtype) for _ in range(2))
    return [tensor.requires_grad_() for tensor in (u, delta, a, b, c)]


@pytest.mark.parametrize("chunk", [1, 90, 2**20])  # one step, a few steps, everything at once
@pytest.mark.parametrize("steps", [1, 2, 7, 30])
def test_scan_equals_the_sequential_reference(monkeypatch, steps, chunk):
    monkeypatch.setattr(scan_megadance, "_CHUNK_ELEMENTS", chunk)
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


def test_one_scan_needs_no_leading_dimension():
    u, delta, a, b, c = scan_inputs(streams=1)
    y, last = selective_scan(u[0], delta[0], a[0, 0], b[0], c[0])
    expected, expected_last = sequential_scan(u, delta, a, b, c)
    torch.testing.assert_close(y, expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(last, expected_last[0].detach(), atol=1e-5, rtol=1e-5)
    (gradient,) = torch.autograd.grad(y.square().sum(), [a])
    (expected_gradient,) = torch.autograd.grad(expected.square().sum(), [a])
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-5, rtol=1e-5)


def test_scan_gradients(monkeypatch):
    monkeypatch.setattr(scan_megadance, "_CHUNK_ELEMENTS", 40)
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
