"""Compiled kernels for the scan, its step and the convolution of a Mamba: of `mamba_ssm` and `causal_conv1d`, or of the Hub.

Whether a package is installed says little: it may import and fail at the first call, for want of a build for this card. So a kernel is
used after a trial only: a tiny input, whose results and gradients must be plain torch's, once for each device and type. What fails is
told in one line of the log, and torch computes. A package that is not installed is no failure.

The functions here take the layouts of `scan_megadance.py` and `mamba_megadance.py`, and return None where no kernel serves.
"""

import functools
import importlib
from collections.abc import Callable

import torch
from torch import Tensor
from transformers.utils import logging
from transformers.utils.generic import maybe_autocast

logger = logging.get_logger(__name__)

# Where the packages have them. The names are those of transformers' mapping of the Hub's kernels, too.
_MODULES = {
    "selective_scan_fn": "mamba_ssm.ops.selective_scan_interface",
    "selective_state_update": "mamba_ssm.ops.triton.selective_state_update",
    "causal_conv1d_fn": "causal_conv1d",
    "causal_conv1d_update": "causal_conv1d",
}
# How far a kernel may be from torch in a trial, whose numbers are about 1.
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
_LARGEST_STATE, _CONVOLUTION_WIDTHS, _CHANNEL_MULTIPLE = 256, (2, 3, 4), 8  # limits that the packages document

_from_hub = False


def ask_hub() -> None:
    """From now on kernels of the Hub come first, in the whole process, where transformers knows any: `use_kernels=True`."""
    global _from_hub
    _from_hub = True


def runs_kernels(tensor: Tensor) -> bool:
    """Whether there are kernels for the device of this tensor."""
    return tensor.is_cuda


def find_kernel(name: str, device: torch.device, dtype: torch.dtype) -> Callable | None:
    """The kernel of this name for tensors of this device and type; None where torch has to compute."""
    return _tried(name, device, dtype, _from_hub) if dtype in _TOLERANCE else None


def _has_none(tensor: Tensor) -> bool:
    """No kernel for this device; nor while a graph is compiled, since the compiler fuses what it can see; nor for tensors that have no
    memory of their own (fake ones, those spread over devices)."""
    return torch.compiler.is_compiling() or not runs_kernels(tensor) or type(tensor) is not Tensor


def scan_by_kernel(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor | None
) -> tuple[Tensor, Tensor] | None:
    """`selective_scan` with a kernel, all tensors of one type."""
    if _has_none(u) or A.shape[-1] > _LARGEST_STATE or not (A.dim() == 2 or _in_streams(u, A)):
        return None
    kernel = find_kernel("selective_scan_fn", u.device, u.dtype)
    return None if kernel is None else _scan_with(kernel, u, delta, A, B, C, state)


def step_by_kernel(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> Tensor | None:
    """One step of `selective_scan` with a kernel; `state` is overwritten. It has no gradient."""
    if _has_none(u) or torch.is_grad_enabled() or not ((A.dim() == 2 and u.dim() == 3) or _in_streams(u, A)):
        return None
    kernel = find_kernel("selective_state_update", state.device, state.dtype)
    if kernel is None:
        return None
    u, delta, A, B, C = (tensor.to(state.dtype) for tensor in (u, delta, A, B, C))
    return _step_with(kernel, u, delta, A, B, C, state)


def convolve_by_kernel(x: Tensor, weight: Tensor, bias: Tensor, history: Tensor | None) -> Tensor | None:
    """`causal_convolution` with a kernel; `history` is overwritten."""
    if _has_none(x) or x.dim() != 3 or weight.dim() != 2:
        return None
    if weight.shape[0] not in _CONVOLUTION_WIDTHS or x.shape[2] % _CHANNEL_MULTIPLE:
        return None
    if history is not None and x.shape[1] == 1 and not torch.is_grad_enabled():
        kernel = find_kernel("causal_conv1d_update", x.device, history.dtype)
        if kernel is not None:
            return _convolve_step_with(kernel, x, weight, bias, history)
    dtype = torch.promote_types(
        x.dtype, weight.dtype
    )  # under autocast weights stay float32, and so do torch's products
    kernel = find_kernel("causal_conv1d_fn", x.device, dtype)
    return None if kernel is None else _convolve_with(kernel, x.to(dtype), weight.to(dtype), bias.to(dtype), history)


def _in_streams(u: Tensor, A: Tensor) -> bool:
    """A scan for each stream: u [streams, batch, time, channels], A [streams, 1, channels, state]."""
    return u.dim() == A.dim() == 4 and A.shape[1] == 1


# --- layouts ------------------------------------------------------------------------------------------------------------------------
# The packages want channels before time, and no initial state for a scan. Arguments are positional: the Hub calls them otherwise.


def _scan_with(kernel, u, delta, A, B, C, state):
    """selective_scan_fn(u, delta [batch, channels, time], A [channels, state], B, C [batch, groups, state, time])."""
    streams, shape = 1 if A.dim() == 2 else A.shape[0], u.shape

    def channels_first(tensor: Tensor) -> Tensor:
        return tensor.reshape(streams, -1, *tensor.shape[-2:]).permute(1, 0, 3, 2).contiguous()

    def channels_last(tensor: Tensor) -> Tensor:
        tensor = tensor.unflatten(1, (streams, -1)).permute(1, 0, 3, 2)
        return tensor.reshape(*shape[:-2], *tensor.shape[-2:])

    y, last = kernel(
        channels_first(u).flatten(1, 2),
        channels_first(delta).flatten(1, 2),
        A.reshape(-1, A.shape[-1]).contiguous(),
        channels_first(B),
        channels_first(C),
        return_last_state=True,
    )
    y, last = channels_last(y), channels_last(last.detach())
    if state is not None:
        # The scan is linear: what the state before adds is its decay alone, products of numbers up to 1.
        with maybe_autocast(u.device.type, enabled=False):
            decay = (delta.cumsum(-2).unsqueeze(-2) * A.mT.unsqueeze(-3)).exp()
            before = decay * state.unsqueeze(-3)
            y = y + torch.matmul(C.unsqueeze(-2), before).squeeze(-2)
            last = last + before[..., -1, :, :].detach()
    return y, last


def _step_with(kernel, u, delta, A, B, C, state):
    """selective_state_update(state [batch, heads, channels, state], x, dt [batch, heads, channels], A [heads, channels, state],
    B, C [batch, heads, state]), or all without heads; the state is overwritten, so it is a view of ours."""
    u, delta, B, C = (tensor.squeeze(-2) for tensor in (u, delta, B, C))
    if A.dim() == 2:
        return kernel(state.mT, u, delta, A, B, C).unsqueeze(-2)
    u, delta, B, C = (tensor.transpose(0, 1) for tensor in (u, delta, B, C))
    return kernel(state.permute(1, 0, 3, 2), u, delta, A.squeeze(1), B, C).transpose(0, 1).unsqueeze(-2)


def _convolve_with(kernel, x, weight, bias, history):
    """causal_conv1d_fn(x [batch, channels, time], weight [channels, width], bias [channels]), all of one type. Channels may be what is
    contiguous, as here, if strides are multiples of eight."""
    steps, padded = x.shape[1], x
    if history is not None:
        padded = torch.cat((history.to(x.dtype), x), dim=1)
        history.copy_(padded[:, steps:].detach())
    if padded.stride(2) != 1 or padded.stride(0) % _CHANNEL_MULTIPLE or padded.stride(1) % _CHANNEL_MULTIPLE:
        padded = padded.contiguous()
    return kernel(padded.mT, weight.mT, bias).mT[:, padded.shape[1] - steps :]


def _convolve_step_with(kernel, x, weight, bias, history):
    """causal_conv1d_update(x [batch, channels], conv_state [batch, channels, width - 1], weight, bias), all of one type; the state is
    overwritten, so it is a view of ours."""
    dtype = history.dtype
    y = kernel(x[:, 0].to(dtype), history.mT, weight.mT.to(dtype), bias.to(dtype))
    return y.unsqueeze(1).to(torch.promote_types(x.dtype, weight.dtype))


# --- trials -------------------------------------------------------------------------------------------------------------------------


@functools.cache
def _tried(name: str, device: torch.device, dtype: torch.dtype, from_hub: bool) -> Callable | None:
    """The first kernel of this name that computes what torch does."""
    sources = [("the Hub", _hub_kernel)] if from_hub else []
    for source, load in (*sources, (_MODULES[name].partition(".")[0], _package_kernel)):
        try:
            kernel = load(name, device)
            if kernel is None:
                continue
            with torch.inference_mode(False), torch.enable_grad(), maybe_autocast(device.type, enabled=False):
                _TRIALS[name](kernel, device, dtype)
        except Exception as error:  # builds for another card, driver or torch fail in many ways
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            logger.warning_once(
                f"{name} of {source} can't be used on {device} in {dtype}, plain torch computes instead ({reason})"
            )
        else:
            return kernel
    return None


def _package_kernel(name: str, device: torch.device) -> Callable | None:
    package = _MODULES[name].partition(".")[0]
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name == package:
            return None
        raise
    return getattr(importlib.import_module(_MODULES[name]), name)


def _hub_kernel(name: str, device: torch.device) -> Callable | None:
    """What transformers itself would put in place of a function of this name (transformers.integrations.hub_kernels)."""
    from transformers.integrations import hub_kernels

    mapping: dict = getattr(hub_kernels, "get_kernel_mapping_transformers", dict)()
    kernels = mapping.get(name, {}).get("rocm" if torch.version.hip else device.type)
    if kernels is None:
        return None
    repository = next(iter(kernels.values())) if isinstance(kernels, dict) else kernels
    return repository.load()()


def _numbers(device: torch.device, dtype: torch.dtype, *shape: int, seed: int = 1) -> Tensor:
    """Numbers between -1 and 1 that leave the random generators alone."""
    count = torch.Size(shape).numel()
    return (
        torch.sin(torch.arange(1, count + 1, device=device, dtype=torch.float32) * (1.7 + seed)).view(shape).to(dtype)
    )


def _check(result: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    if result.shape != expected.shape:
        raise ValueError(f"a result of shape {tuple(result.shape)} instead of {tuple(expected.shape)}")
    tolerance = _TOLERANCE[dtype]
    if not torch.allclose(result.float(), expected.float(), atol=tolerance, rtol=tolerance):
        raise ValueError(f"its numbers differ from torch's by {(result.float() - expected.float()).abs().max():.3g}")


def _check_gradients(result: Tensor, expected: Tensor, inputs: list[Tensor], dtype: torch.dtype) -> None:
    weight = _numbers(result.device, result.dtype, *result.shape, seed=9)
    gradients = (torch.autograd.grad((y * weight).sum(), inputs) for y in (result, expected))
    for gradient, expected_gradient in zip(*gradients, strict=True):
        _check(gradient, expected_gradient, dtype)


def _recurrence(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The formula of `selective_scan`, step by step."""
    outputs = []
    for t in range(u.shape[-2]):
        now = [tensor[..., t, :] for tensor in (u, delta, B, C)]
        decay = torch.exp(now[1].unsqueeze(-2) * A.mT)
        state = decay * state + (now[0] * now[1]).unsqueeze(-2) * now[2].unsqueeze(-1)
        outputs.append((state * now[3].unsqueeze(-1)).sum(-2))
    return torch.stack(outputs, dim=-2), state


def _scan_inputs(device: torch.device, dtype: torch.dtype, steps: int, streams: tuple[int, ...]) -> list[Tensor]:
    """u, delta, A, B, C and a state, for one scan or for one in each stream."""

    def numbers(seed: int, *shape: int) -> Tensor:
        return _numbers(device, dtype, *shape, seed=seed)

    batch, channels, states = 2, 16, 4
    return [
        numbers(1, *streams, batch, steps, channels),
        numbers(2, *streams, batch, steps, channels).abs(),
        -1 - numbers(3, *streams, *(1 for _ in streams), channels, states).abs(),
        numbers(4, *streams, batch, steps, states),
        numbers(5, *streams, batch, steps, states),
        numbers(6, *streams, batch, states, channels),
    ]


def _try_scan(kernel: Callable, device: torch.device, dtype: torch.dtype) -> None:
    for streams in ((), (3,)):
        *inputs, state = _scan_inputs(device, dtype, 5, streams)
        inputs = [tensor.requires_grad_() for tensor in inputs]
        for before in (None, state):
            y, last = _scan_with(*[kernel, *inputs, before])
            expected, expected_last = _recurrence(*[*inputs, torch.zeros_like(state) if before is None else before])
            _check(y, expected, dtype)
            _check(last, expected_last, dtype)
            _check_gradients(y, expected, inputs, dtype)


@torch.no_grad()
def _try_step(kernel: Callable, device: torch.device, dtype: torch.dtype) -> None:
    for streams in ((), (3,)):
        inputs = _scan_inputs(device, dtype, 1, streams)
        expected, expected_last = _recurrence(*inputs)
        _check(_step_with(kernel, *inputs), expected, dtype)
        _check(inputs[-1], expected_last, dtype)


def _convolution_inputs(device: torch.device, dtype: torch.dtype, steps: int) -> list[Tensor]:
    """x, the half of a wider tensor; weight, bias and history."""
    x = _numbers(device, dtype, 2, steps, 32)[..., :16]
    weight, bias = _numbers(device, dtype, 16, 4, seed=2).mT, _numbers(device, dtype, 16, seed=3)
    return [x, weight, bias, _numbers(device, dtype, 2, 3, 16, seed=4)]


def _sum_of_products(*inputs: Tensor) -> Tensor:
    x, weight, bias, history = (tensor.float() for tensor in inputs)
    padded = torch.cat((history, x), dim=1)
    return bias + sum(padded[:, shift : shift + x.shape[1]] * weight[shift] for shift in range(len(weight)))


def _try_convolution(kernel: Callable, device: torch.device, dtype: torch.dtype) -> None:
    for steps in (2, 5):
        x, weight, bias, history = _convolution_inputs(device, dtype, steps)
        inputs = [tensor.detach().requires_grad_() for tensor in (x, weight, bias)]
        for before in (None, history):
            expected = _sum_of_products(*inputs, torch.zeros_like(history) if before is None else before.clone())
            y = _convolve_with(*[kernel, *inputs, before])
            _check(y, expected, dtype)
            _check_gradients(y, expected, inputs, dtype)


@torch.no_grad()
def _try_convolution_step(kernel: Callable, device: torch.device, dtype: torch.dtype) -> None:
    x, weight, bias, history = _convolution_inputs(device, dtype, 1)
    expected = _sum_of_products(x, weight, bias, history)
    expected_history = torch.cat((history[:, 1:], x), dim=1)
    _check(_convolve_step_with(kernel, x, weight, bias, history), expected, dtype)
    _check(history, expected_history, dtype)


_TRIALS = {
    "selective_scan_fn": _try_scan,
    "selective_state_update": _try_step,
    "causal_conv1d_fn": _try_convolution,
    "causal_conv1d_update": _try_convolution_step,
}
