"""Kernels that are there, half there or not. There is no GPU here: stand-ins for the packages, written from their documentation, check
what they are called with and answer in plain torch.

mamba_ssm: docstrings of `selective_scan_ref` and `selective_state_update`, checks of csrc/selective_scan. causal_conv1d: docstrings of
`causal_conv1d_fn` and `causal_conv1d_update`, checks of csrc/causal_conv1d.cpp.
"""

import copy
import logging
import sys
from collections import Counter
from types import ModuleType, SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from helpers import tiny_generator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import PreTrainedModel
from transformers.integrations import hub_kernels

from megadance_hf.modeling import kernels_megadance as kernels
from megadance_hf.modeling.cache_megadance import MambaState
from megadance_hf.modeling.configuration_megadance import MegaDanceConfig
from megadance_hf.modeling.mamba_megadance import Mamba, causal_convolution
from megadance_hf.modeling.scan_megadance import selective_scan

pytestmark = pytest.mark.versions

TYPES = (torch.float32, torch.float16, torch.bfloat16)


def require(condition: bool, message: str) -> None:
    if not condition:
        raise RuntimeError(message)


def require_shape(name: str, tensor: torch.Tensor, *shape: int) -> None:
    require(tuple(tensor.shape) == shape, f"{name} must have shape {shape}, it has {tuple(tensor.shape)}")


def selective_scan_fn(
    u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False
):
    """u, delta r(B D L), A r(D N) float32, B, C r(B N L) or r(B G N L); all but A of one type. Time is contiguous. The last state
    r(B D N) has no gradient."""
    require(u.dtype in TYPES and u.dtype == delta.dtype == B.dtype == C.dtype, "u, delta, B and C are of one type")
    require(A.dtype == torch.float32 and A.dim() == 2, "A is a real float32 matrix")
    batch, channels, steps = u.shape
    states = A.shape[1]
    require(states <= 256, "only state dimension <= 256")
    require_shape("delta", delta, batch, channels, steps)
    require_shape("A", A, channels, states)
    B, C = (tensor.unsqueeze(1) if tensor.dim() == 3 else tensor for tensor in (B, C))
    groups = B.shape[1]
    for name, tensor in (("B", B), ("C", C)):
        require_shape(name, tensor, batch, groups, states, steps)
    for name, tensor in (("u", u), ("delta", delta), ("B", B), ("C", C)):
        require(tensor.stride(-1) == 1 or steps == 1, f"{name}: the last dimension is contiguous")
    require(D is None and z is None and delta_bias is None and not delta_softplus, "not asked for here")
    B, C = (tensor.float().repeat_interleave(channels // groups, dim=1) for tensor in (B, C))  # [B D N L]
    h, outputs = A.new_zeros(batch, channels, states), []
    for t in range(steps):
        now = delta[:, :, t, None].float()
        h = torch.exp(now * A) * h + now * B[..., t] * u[:, :, t, None].float()
        outputs.append((h * C[..., t]).sum(-1))
    y = torch.stack(outputs, dim=2).to(u.dtype)
    return (y, h.detach()) if return_last_state else y


def selective_state_update(state, x, dt, A, B, C, D=None, z=None, dt_bias=None, dt_softplus=False):
    """state (batch, dim, dstate) or (batch, nheads, dim, dstate), overwritten; x, dt (batch, dim) or (batch, nheads, dim); A (dim,
    dstate) or (nheads, dim, dstate); B, C (batch, dstate) or (batch, ngroups, dstate). It has no gradient."""
    require(not torch.is_grad_enabled(), "it has no gradient")
    require(D is None and z is None and dt_bias is None and not dt_softplus, "not asked for here")
    whole, has_heads = state, state.dim() == 4
    if not has_heads:
        state, x, dt, B, C = (tensor.unsqueeze(1) for tensor in (state, x, dt, B, C))
        A = A.unsqueeze(0)
    batch, heads, channels, states = state.shape
    groups = B.shape[1]
    require(heads % groups == 0, "nheads must be divisible by ngroups")
    for name, tensor, shape in (
        ("x", x, (batch, heads, channels)),
        ("dt", dt, (batch, heads, channels)),
        ("A", A, (heads, channels, states)),
        ("B", B, (batch, groups, states)),
        ("C", C, (batch, groups, states)),
    ):
        require_shape(name, tensor, *shape)
    B, C = (tensor.float().repeat_interleave(heads // groups, dim=1).unsqueeze(2) for tensor in (B, C))
    dt = dt.float().unsqueeze(-1)
    state = torch.exp(dt * A.float()) * state.float() + dt * B * x.float().unsqueeze(-1)
    y = (state * C).sum(-1).to(x.dtype)
    whole.copy_(state if has_heads else state.squeeze(1))
    return y if has_heads else y.squeeze(1)


def check_convolution(x, weight, bias):
    batch, channels, _ = x.shape
    width = weight.shape[-1]
    require(x.dtype in TYPES and x.dtype == weight.dtype == bias.dtype, "x, weight and bias are of one type")
    require(2 <= width <= 4, "only width between 2 and 4")
    require_shape("weight", weight, channels, width)
    require_shape("bias", bias, channels)
    require(bias.stride(-1) == 1, "bias is contiguous")


def causal_conv1d_fn(
    x,
    weight,
    bias=None,
    seq_idx=None,
    initial_states=None,
    return_final_states=False,
    final_states_out=None,
    activation=None,
):
    """x (batch, dim, seqlen), weight (dim, width), bias (dim,); out as x. Time or channels are contiguous; where channels are, their
    number and the strides are multiples of eight."""
    check_convolution(x, weight, bias)
    require(x.stride(2) == 1 or x.stride(1) == 1, "time or channels are contiguous")
    if x.stride(1) == 1 and x.stride(2) > 1:
        require(x.shape[1] % 8 == 0, "channel dimension divisible by 8")
        require(x.stride(0) % 8 == 0 and x.stride(2) % 8 == 0, "strides are multiples of 8")
    require(seq_idx is None and initial_states is None and not return_final_states, "not asked for here")
    require(activation in (None, "silu", "swish"), "activation must be None, silu, or swish")
    channels, width = weight.shape
    y = F.conv1d(x.float(), weight.float().unsqueeze(1), bias.float(), padding=width - 1, groups=channels)
    y = y[..., : x.shape[2]]
    return (y if activation is None else F.silu(y)).to(x.dtype)


def causal_conv1d_update(
    x, conv_state, weight, bias=None, activation=None, cache_seqlens=None, conv_state_indices=None
):
    """x (batch, dim), conv_state (batch, dim, state_len >= width - 1), overwritten and of x's type. It has no gradient."""
    require(not torch.is_grad_enabled(), "it has no gradient")
    require(x.dim() == 2, "one step")
    check_convolution(x.unsqueeze(-1), weight, bias)
    require(conv_state.dtype == x.dtype, "conv_state is of x's type")
    channels, width = weight.shape
    state_len = conv_state.shape[-1]
    require(state_len >= width - 1, "state_len >= width - 1")
    require_shape("conv_state", conv_state, x.shape[0], channels, state_len)
    whole = torch.cat((conv_state, x.unsqueeze(-1)), dim=-1)
    conv_state.copy_(whole[..., -state_len:])
    y = (whole[..., -width:].float() * weight.float()).sum(-1) + bias.float()
    return (y if activation is None else F.silu(y)).to(x.dtype)


STAND_INS = {
    function.__name__: function
    for function in (selective_scan_fn, selective_state_update, causal_conv1d_fn, causal_conv1d_update)
}


@pytest.fixture(autouse=True)
def untried(monkeypatch):
    """No trial was made yet, and nobody asked the Hub; CPUs count as devices with kernels."""
    monkeypatch.setattr(kernels, "runs_kernels", lambda tensor: tensor.device.type == "cpu")
    monkeypatch.setattr(kernels, "_from_hub", False)
    kernels._tried.cache_clear()
    kernels.logger.warning_once.cache_clear()
    yield
    kernels._tried.cache_clear()


@pytest.fixture
def install(monkeypatch):
    """Puts stand-ins where the packages would be; the calls of each are counted."""

    def install(**replaced) -> Counter:
        calls = Counter()

        def counted(name, function):
            def call(*args, **kwargs):
                calls[name] += 1
                return function(*args, **kwargs)

            return call

        for name, path in kernels._MODULES.items():
            parts = path.split(".")
            for end in range(1, len(parts) + 1):
                if ".".join(parts[:end]) not in sys.modules:
                    monkeypatch.setitem(sys.modules, ".".join(parts[:end]), ModuleType(parts[end - 1]))
            function = replaced.get(name, STAND_INS[name])
            if function is not None:
                setattr(sys.modules[path], name, counted(name, function))
        return calls

    return install


@pytest.fixture
def plain(monkeypatch):
    """What a function computes without any kernel."""

    def compute(function, *args):
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "runs_kernels", lambda tensor: False)
            return function(*args)

    return compute


def tiny_mamba() -> Mamba:
    torch.manual_seed(0)
    mamba = Mamba(MegaDanceConfig(hidden_size=16, num_attention_heads=2, state_size=4))
    with torch.no_grad():
        mamba.init_weights()
        mamba.dt_proj.bias += 2  # long steps: the states matter
    return mamba


def tried(calls: Counter) -> Counter:
    """Makes the trials, and forgets their calls."""
    for name in STAND_INS:
        assert kernels.find_kernel(name, torch.device("cpu"), torch.float32) is not None, name
    before = Counter(calls)
    calls.clear()
    return before


# --- the contract -------------------------------------------------------------------------------------------------------------------


def test_a_trial_is_made_once_for_each_device_and_type(install, caplog):
    calls = install()
    assert min(tried(calls).values()) >= 1
    for name in STAND_INS:
        assert kernels.find_kernel(name, torch.device("cpu"), torch.float32) is not None
    assert not calls, "tried again"
    assert kernels.find_kernel("causal_conv1d_fn", torch.device("cpu"), torch.bfloat16) is not None
    assert kernels.find_kernel("causal_conv1d_fn", torch.device("cpu"), torch.float16) is not None
    assert set(calls) == {"causal_conv1d_fn"}
    assert kernels.find_kernel("causal_conv1d_fn", torch.device("cpu"), torch.float64) is None
    assert not caplog.records


def test_training_with_kernels_equals_torch(install, plain):
    calls = install()
    mamba, x = tiny_mamba(), torch.randn(2, 7, 16)

    def train():
        inputs = x.clone().requires_grad_()
        y = mamba(inputs)
        return y, *torch.autograd.grad(y.square().sum(), [inputs, *mamba.parameters()])

    expected = plain(train)
    tried(calls)
    for result, wanted in zip(train(), expected, strict=True):
        torch.testing.assert_close(result, wanted, atol=1e-5, rtol=1e-5)
    assert calls == {"selective_scan_fn": 1, "causal_conv1d_fn": 1}


@pytest.mark.parametrize("inference", [torch.no_grad, torch.inference_mode])
def test_pieces_of_a_sequence_with_kernels_equal_torch(install, plain, inference):
    """A step has kernels of its own; several steps after a state have those of training."""
    calls = install()
    mamba, x = tiny_mamba(), torch.randn(2, 10, 16)

    def pieces():
        state = MambaState(torch.zeros(2, 3, 32), torch.zeros(2, 4, 32))
        return torch.cat([mamba(piece, state) for piece in x.split((1, 2, 1, 5, 1), dim=1)], dim=1), *state

    with inference():
        expected = plain(pieces)
        results = pieces()
        tried(calls)
        pieces()
    for result, wanted in zip(results, expected, strict=True):
        torch.testing.assert_close(result, wanted, atol=1e-5, rtol=1e-5)
    assert calls == {
        "selective_scan_fn": 2,
        "causal_conv1d_fn": 2,
        "selective_state_update": 3,
        "causal_conv1d_update": 3,
    }


def test_gradients_after_a_state_with_kernels_equal_torch(install, plain):
    install()
    mamba, x = tiny_mamba(), torch.randn(2, 4, 16)

    def train():
        torch.manual_seed(1)
        state = MambaState(torch.randn(2, 3, 32), torch.randn(2, 4, 32))
        y = torch.cat([mamba(piece, state) for piece in x.split((1, 3), dim=1)], dim=1)
        return y, *torch.autograd.grad(y.square().sum(), list(mamba.parameters())), *state

    for result, wanted in zip(train(), plain(train), strict=True):
        torch.testing.assert_close(result, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16_with_kernels_equals_torch(install, plain, autocast):
    """What types the results have, and how far they are off, is as without kernels."""
    calls = install()
    mamba, x = tiny_mamba(), torch.randn(2, 9, 16)
    if not autocast:
        mamba, x = mamba.bfloat16(), x.bfloat16()

    def both():
        state = MambaState(torch.zeros(2, 3, 32), torch.zeros(2, 4, 32))
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            return [mamba(x), *(mamba(piece, state) for piece in x.split((5, 1, 3), dim=1))]

    for result, wanted in zip(both(), plain(both), strict=True):
        assert result.dtype == wanted.dtype
        torch.testing.assert_close(result, wanted, atol=0.02, rtol=0.02)
    assert set(calls) == set(STAND_INS)


@given(
    streams=st.sampled_from([(), (3,), (1,)]),
    batch=st.integers(1, 3),
    steps=st.integers(1, 9),
    channels=st.integers(1, 9),
    states=st.integers(1, 5),
    has_state=st.booleans(),
)
@settings(max_examples=40, deadline=None)
@torch.no_grad()
def test_scans_with_kernels_equal_torch(streams, batch, steps, channels, states, has_state):
    u, delta = (torch.randn(*streams, batch, steps, channels) for _ in range(2))
    A = -3 * torch.rand(*streams, *(1 for _ in streams), channels, states)
    B, C = (torch.randn(*streams, batch, steps, states) for _ in range(2))
    state = torch.randn(*streams, batch, states, channels) if has_state else None
    inputs = (u, delta.abs(), A, B, C)
    expected = selective_scan(*inputs, state)
    results = kernels._scan_with(selective_scan_fn, *inputs, state)
    for result, wanted in zip(results, expected, strict=True):
        torch.testing.assert_close(result, wanted, atol=1e-5, rtol=1e-5)
    if has_state and steps == 1:
        torch.testing.assert_close(
            kernels._step_with(selective_state_update, *inputs, state), expected[0], atol=1e-5, rtol=1e-5
        )
        torch.testing.assert_close(state, expected[1], atol=1e-5, rtol=1e-5)


@given(
    batch=st.integers(1, 3),
    steps=st.integers(1, 9),
    channels=st.sampled_from([8, 24]),
    width=st.integers(2, 4),
    part=st.sampled_from([1, 2]),
    has_history=st.booleans(),
)
@settings(max_examples=40, deadline=None)
@torch.no_grad()
def test_convolutions_with_kernels_equal_torch(batch, steps, channels, width, part, has_history):
    x = torch.randn(batch, steps, part * channels)[..., :channels]
    weight, bias = torch.randn(channels, width).t(), torch.randn(channels)
    history = torch.randn(batch, width - 1, channels) if has_history else None
    other, third = copy.deepcopy(history), copy.deepcopy(history)
    expected = causal_convolution(x, weight, bias, history)
    result = kernels._convolve_with(causal_conv1d_fn, x, weight, bias, other)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)
    if has_history:
        torch.testing.assert_close(other, history)
    if has_history and steps == 1:
        result = kernels._convolve_step_with(causal_conv1d_update, x, weight, bias, third)
        torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(third, history)


@pytest.mark.parametrize("backend", ["torch", "stacked"])
def test_dances_with_kernels_equal_those_without(install, plain, backend):
    import megadance_hf.cpu_kernels  # noqa: F401  registers the backend

    calls = install()
    torch.manual_seed(0)
    model = tiny_generator(context_codes=4, slide_codes=2)
    music, genres = torch.randn(2, 80, 35), torch.tensor([2, 0])

    def dance():
        output = model.generate(music, genres, do_sample=False, backend=backend)
        return torch.stack((output.upper_codes, output.lower_codes))

    assert torch.equal(dance(), plain(dance))
    stacked = {"selective_scan_fn", "selective_state_update"}  # the convolutions of stacked weights have no kernel
    assert set(calls) == (stacked if backend == "stacked" else set(STAND_INS))


def test_limits_of_the_packages_are_kept_without_a_trial(install):
    calls = install()
    x, weight = torch.randn(2, 5, 12), torch.randn(12, 4).t()
    causal_convolution(x, weight, torch.randn(12))  # twelve channels
    causal_convolution(torch.randn(2, 5, 16), torch.randn(16, 5).t(), torch.randn(16))  # width 5
    u = torch.rand(2, 5, 3)
    selective_scan(u, u, -torch.rand(3, 257), torch.rand(2, 5, 257), torch.rand(2, 5, 257))
    assert not calls


def test_fake_tensors_and_compiled_graphs_have_no_kernels(install):
    calls = install()
    with FakeTensorMode():
        u, B = torch.rand(2, 5, 3), torch.rand(2, 5, 4)
        assert selective_scan(u, u, -torch.rand(3, 4), B, B)[0].shape == (2, 5, 3)
    assert not calls
    u, B, A = torch.rand(2, 5, 3), torch.rand(2, 5, 4), -torch.rand(3, 4)
    compiled = torch.compile(lambda u, B: selective_scan(u, u, A, B, B)[0], fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(u, B), selective_scan(u, u, A, B, B)[0])
    assert calls == {"selective_scan_fn": calls["selective_scan_fn"]}
    before = calls["selective_scan_fn"]
    compiled(u, B)
    assert calls["selective_scan_fn"] == before


# --- half there, and not there --------------------------------------------------------------------------------------------------------


def fails(*args, **kwargs):
    raise AttributeError("'NoneType' object has no attribute 'fwd'")


def wrong(*args, **kwargs):
    y, last = selective_scan_fn(*args, **kwargs)
    return 1.001 * y, last


def without_gradient(*args, **kwargs):
    y, last = selective_scan_fn(*(value.detach() for value in args), **kwargs)
    return y + 0 * args[0].sum(), last


def without_last_state(u, delta, A, B, C):
    return selective_scan_fn(u, delta, A, B, C)


def not_a_number(*args, **kwargs):
    return tuple(torch.nan * value for value in selective_scan_fn(*args, **kwargs))


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (fails, "AttributeError: 'NoneType' object has no attribute 'fwd'"),
        (wrong, "ValueError: its numbers differ from torch's by 0.00"),
        (without_gradient, "RuntimeError: "),
        (without_last_state, "TypeError: "),
        (not_a_number, "ValueError: its numbers differ from torch's by nan"),
        (None, "AttributeError: module 'selective_scan_interface' has no attribute 'selective_scan_fn'"),
    ],
)
def test_a_half_installed_package_is_told_once_and_torch_computes(install, plain, caplog, broken, reason):
    calls = install(selective_scan_fn=broken)
    mamba, x = tiny_mamba(), torch.randn(2, 7, 16)
    with caplog.at_level(logging.WARNING):
        results = [mamba(x) for _ in range(3)]
    for result in results:
        torch.testing.assert_close(result, plain(mamba, x), atol=1e-6, rtol=1e-5)
    assert calls["selective_scan_fn"] == (broken is not None and 1) or broken in (wrong, without_gradient)
    (line,) = caplog.messages
    assert line.startswith("selective_scan_fn of mamba_ssm can't be used on cpu in torch.float32, plain torch computes")
    assert reason in line and "\n" not in line


@pytest.mark.parametrize("name", list(STAND_INS))
def test_each_kernel_falls_back_for_itself(install, plain, caplog, name):
    calls = install(**{name: fails})
    mamba, x = tiny_mamba(), torch.randn(2, 4, 16)

    def pieces():
        state = MambaState(torch.zeros(2, 3, 32), torch.zeros(2, 4, 32))
        with torch.no_grad():
            return torch.cat([mamba(piece, state) for piece in x.split((3, 1), dim=1)], dim=1), *state

    with caplog.at_level(logging.WARNING):
        results = pieces()
    for result, wanted in zip(results, plain(pieces), strict=True):
        torch.testing.assert_close(result, wanted, atol=1e-5, rtol=1e-5)
    (line,) = caplog.messages
    assert line.startswith(f"{name} of ") and calls[name] == 1


def test_a_package_that_does_not_import_is_told(monkeypatch, tmp_path, caplog):
    (tmp_path / "mamba_ssm").mkdir()
    (tmp_path / "mamba_ssm" / "__init__.py").write_text(
        "raise ImportError('undefined symbol: _ZN3c104cuda9SetDeviceEi')"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with caplog.at_level(logging.WARNING):
        tiny_mamba()(torch.randn(1, 3, 16))
    assert [line.partition(" ")[0] for line in caplog.messages] == ["selective_scan_fn"]
    assert "undefined symbol" in caplog.messages[0]


def test_packages_that_are_not_there_are_no_failure(caplog):
    if any(name.partition(".")[0] in sys.modules for name in kernels._MODULES.values()):
        pytest.skip("the packages are installed")
    mamba, x = tiny_mamba(), torch.randn(1, 3, 16)
    with caplog.at_level(logging.WARNING):
        mamba(x)
    assert all(kernels.find_kernel(name, torch.device("cpu"), torch.float32) is None for name in STAND_INS)
    assert not caplog.messages


# --- the Hub --------------------------------------------------------------------------------------------------------------------------


class HubScan(nn.Module):
    """The Hub's layer has other names for its arguments and some more of them."""

    def forward(self, hidden_states, dt, A, B, C, D=None, z=None, return_last_state=False, use_mambapy=False, **kwargs):
        return selective_scan_fn(hidden_states, dt, A, B, C, D, z, return_last_state=return_last_state)


@pytest.mark.parametrize("state", ["loads", "fails"])
def test_kernels_of_the_hub_come_first_where_they_are_asked_for(install, monkeypatch, caplog, state):
    calls, loaded = install(), []

    def load():
        loaded.append(state)
        if state == "fails":
            raise FileNotFoundError("no build variant for torch 9")
        return HubScan

    mapping = {"selective_scan_fn": {"cpu": {"training": SimpleNamespace(load=load)}}}
    monkeypatch.setattr(hub_kernels, "get_kernel_mapping_transformers", lambda: mapping, raising=False)
    monkeypatch.setattr(PreTrainedModel, "set_use_kernels", lambda self, use_kernels, kernel_config=None: None)
    find = lambda name: kernels.find_kernel(name, torch.device("cpu"), torch.float32)  # noqa: E731
    model = tiny_generator()
    model.set_use_kernels(False)
    find("selective_scan_fn")
    assert not loaded, "nobody asked for it"
    model.set_use_kernels(True)
    calls.clear()
    with caplog.at_level(logging.WARNING):
        kernel = find("selective_scan_fn")
    assert loaded == [state]
    if state == "loads":
        assert isinstance(kernel, HubScan) and not calls and not caplog.messages
    else:
        assert kernel is not None and calls["selective_scan_fn"] > 0
        (line,) = caplog.messages
        assert line.startswith("selective_scan_fn of the Hub can't be used") and "no build variant" in line
    assert find("causal_conv1d_fn") is not None, "what the Hub lacks comes from the package"
