"""The selective scan against its plain recurrence."""

from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from launches import Launches

from megadance_hf.modeling import scan_megadance
from megadance_hf.modeling.scan_megadance import continue_scan, selective_scan


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


def test_continue_scan_overwrites_its_state():
    u, delta, a, b, c = (tensor.detach() for tensor in scan_inputs())
    state = torch.randn(3, 2, 3, 5)
    for steps in (1, 7):
        inputs = (u[:, :, :steps], delta[:, :, :steps], a, b[:, :, :steps], c[:, :, :steps])
        expected, last = selective_scan(*inputs, state)
        overwritten = state.clone()
        torch.testing.assert_close(continue_scan(*inputs, overwritten), expected, atol=0, rtol=0)
        torch.testing.assert_close(overwritten, last, atol=0, rtol=0)


def test_gradients_after_a_state_that_was_overwritten():
    inputs = scan_inputs()
    state = torch.randn(3, 2, 3, 5)
    expected = torch.autograd.grad(selective_scan(*inputs, state.clone())[0].square().sum(), inputs)
    results = torch.autograd.grad(continue_scan(*inputs, state).square().sum(), inputs)
    for result, wanted in zip(results, expected, strict=True):
        torch.testing.assert_close(result, wanted, atol=0, rtol=0)


# --- in logarithmic depth: what accelerators and compilers compute ----------------------------------------------------------------------


@contextmanager
def in_logarithmic_depth():
    original = scan_megadance._goes_step_by_step
    scan_megadance._goes_step_by_step = lambda tensor: False
    try:
        yield
    finally:
        scan_megadance._goes_step_by_step = original


def scan_and_gradients(inputs, state):
    y, last = selective_scan(*inputs, state)
    weight = torch.sin(torch.arange(y.numel(), dtype=y.dtype)).view_as(y)
    return y, last, torch.autograd.grad((y * weight).sum(), inputs)


@given(
    streams=st.integers(1, 3),
    batch=st.integers(1, 3),
    steps=st.integers(1, 70),
    channels=st.integers(1, 6),
    states=st.integers(1, 5),
    has_state=st.booleans(),
    rate=st.sampled_from([1e-3, 1.0, 30.0]),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=60, deadline=None)
def test_logarithmic_depth_equals_step_by_step(streams, batch, steps, channels, states, has_state, rate, seed):
    """Decays from nearly 1 to nothing, with a state and without."""
    torch.manual_seed(seed)
    u, delta, a, b, c = (tensor.detach() for tensor in scan_inputs(batch, steps, channels, states, streams=streams))
    inputs = [tensor.requires_grad_() for tensor in (u, delta, rate * a, b, c)]
    state = torch.randn(streams, batch, states, channels) if has_state else None
    expected, expected_last, expected_gradients = scan_and_gradients(inputs, state)
    with in_logarithmic_depth():
        y, last, gradients = scan_and_gradients(inputs, state)
        with torch.no_grad():
            torch.testing.assert_close(selective_scan(*inputs, state)[0], y, atol=0, rtol=0)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(last, expected_last, atol=1e-5, rtol=1e-5)
    assert not last.requires_grad
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, atol=1e-4, rtol=1e-4)


def test_gradients_in_logarithmic_depth():
    inputs = scan_inputs(steps=6, channels=3, state=2, dtype=torch.float64)
    state = torch.randn(3, 2, 2, 3, dtype=torch.float64)
    with in_logarithmic_depth():
        for before in (None, state):
            assert torch.autograd.gradcheck(lambda *tensors, h=before: selective_scan(*tensors, h)[0], inputs)


def test_logarithmic_depth_is_safe_over_very_many_steps():
    """Products of decays far below the smallest float, beside others that stay 1."""
    u, delta, a, b, c = (tensor.detach() for tensor in scan_inputs(batch=1, steps=3000))
    delta = torch.where(torch.arange(5) < 3, 20 * delta, 0 * delta)
    inputs = [tensor.requires_grad_() for tensor in (u, delta, 5 * a, b, c)]
    with in_logarithmic_depth():
        y, _, gradients = scan_and_gradients(inputs, None)
    torch.testing.assert_close(y, sequential_scan(*inputs)[0], atol=1e-4, rtol=1e-4)
    assert all(gradient.isfinite().all() for gradient in gradients)


def check_compiled(steps, has_state, backend):
    torch.manual_seed(0)
    torch.compiler.reset()
    inputs = scan_inputs(steps=steps)
    state = torch.randn(3, 2, 3, 5) if has_state else None
    expected, expected_last, expected_gradients = scan_and_gradients(inputs, state)
    compiled = torch.compile(selective_scan, fullgraph=True, dynamic=False, backend=backend)
    y, last = compiled(*inputs, state)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(last, expected_last, atol=1e-5, rtol=1e-5)
    weight = torch.sin(torch.arange(y.numel(), dtype=y.dtype)).view_as(y)
    gradients = torch.autograd.grad((y * weight).sum(), inputs)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*inputs, state)[0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 8, 9, 30, 70])  # a block holds eight
@pytest.mark.parametrize("has_state", [False, True])
def test_a_compiled_scan_is_one_graph(steps, has_state):
    check_compiled(steps, has_state, "aot_eager")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler itself
def test_a_scan_as_machine_code():
    check_compiled(19, True, "inductor")


def test_no_tensor_has_to_be_read_for_a_scan():
    """On meta tensors there is nothing to read; every device but the CPU goes this way."""
    inputs = [tensor.detach().to("meta").requires_grad_() for tensor in scan_inputs(steps=30)]
    y, last = selective_scan(*inputs, torch.empty(3, 2, 3, 5, device="meta"))
    y.sum().backward()
    assert y.shape == (3, 2, 30, 5) and last.shape == (3, 2, 3, 5)
    assert all(tensor.grad.shape == tensor.shape for tensor in inputs)


@pytest.mark.parametrize(("steps", "forward", "backward"), [(1, 7, 22), (30, 18, 33), (240, 27, 42)])
def test_launches_of_a_scan(steps, forward, backward):
    """Figures that may only fall; step by step 240 steps of one dance take 333 and 784."""
    inputs = scan_inputs(batch=1, steps=steps, channels=1024, state=16, streams=1)
    with in_logarithmic_depth():
        with Launches() as launches:
            y, _ = selective_scan(*inputs)
        assert launches.count <= forward
        weight = torch.ones_like(y)
        with Launches() as launches:
            torch.autograd.grad(y, inputs, weight)
        assert launches.count <= backward
