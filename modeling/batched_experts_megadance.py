"""Experts side by side: what a GPU computes in training, where each launch costs more than what it computes.

The three Mambas of an expert do the same with other weights, and so do the experts of the genres in a batch. Their weights are stacked here,
anew in each step, since each step changes them, and one product takes the place of many. The parameters stay what they are: gradients come
to those that took part, and to no others.

A CPU computes module by module (`experts_megadance.py`), where small products are the faster ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.utils.generic import maybe_autocast

from .cache_megadance import STREAMS
from .kernels_megadance import convolve_by_kernel
from .mamba_megadance import CausalConvolution, causal_convolution
from .routing_megadance import integers_on
from .scan_megadance import selective_scan

_PLAIN = (nn.Linear, nn.LayerNorm, CausalConvolution)


def is_worth_it(x: Tensor) -> bool:
    """Whether a launch costs more than a small product on the device of `x`."""
    return x.device.type != "cpu"


def computes_side_by_side(x: Tensor, modules: Iterable[nn.Module], compiled: bool = False) -> bool:
    """Whether these modules compute `x` here: it is worth it or asked for, and all weights are plain tensors where `x` is: not quantized, offloaded or
    spread, and without adapters."""
    if torch.compiler.is_compiling() or not (compiled or is_worth_it(x)):
        return False
    for module in modules:
        for layer in module.modules():
            weight = getattr(layer, "weight", None)
            if weight is None:
                continue
            plain = type(layer) in _PLAIN and type(weight) in (nn.Parameter, Tensor)
            if not plain or weight.device != x.device:
                return False
    return True


# --- weights ------------------------------------------------------------------------------------------------------------------------


def _stack(groups: dict[str, list[Tensor]], dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """The tensors of each name on top of each other, [tensors, ...]. All are copied in one go, and so are their gradients, of which each
    parameter then gets its piece."""
    flat = torch.cat([tensor.flatten() for group in groups.values() for tensor in group])
    if dtype is not None:
        flat = flat.to(dtype)
    parts = flat.split([len(group) * group[0].numel() for group in groups.values()])
    return {
        name: part.view(len(group), *group[0].shape) for part, (name, group) in zip(parts, groups.items(), strict=True)
    }


def _stack_all(x: Tensor, groups: dict[str, list[nn.Module]], mambas: Sequence[nn.ModuleDict]) -> dict[str, Tensor]:
    """Weights and biases of linear layers and norms, as "NAME.weight" and "NAME.bias", and those of the Mambas by their own names. What is
    multiplied is in the type of autocast then."""
    products: dict[str, list[Tensor]] = {}
    others: dict[str, list[Tensor]] = {}
    for module in (one[stream] for one in mambas for stream in STREAMS):
        for name, parameter in module.named_parameters():
            kind = products if name.partition(".")[0].endswith("_proj") else others
            kind.setdefault(name, []).append(parameter)
    for name, modules in groups.items():
        kind = products if isinstance(modules[0], nn.Linear) else others
        for part in ("weight", "bias"):
            kind[f"{name}.{part}"] = [getattr(module, part) for module in modules]
    dtype = torch.get_autocast_dtype(x.device.type) if _autocasts(x) else None
    return (_stack(products, dtype) if products else {}) | (_stack(others) if others else {})


def _each(norms: Iterable[nn.Module]) -> list[nn.Module]:
    """The norms themselves: one for all streams, or one for each."""
    return [
        one
        for norm in norms
        for one in ([norm[stream] for stream in STREAMS] if isinstance(norm, nn.ModuleDict) else [norm])
    ]


def _autocasts(x: Tensor) -> bool:
    device = x.device.type
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


# --- layers ------------------------------------------------------------------------------------------------------------------------


class _Products(torch.autograd.Function):
    """As many linear layers as there are in the stack. Its gradients of weights lie in memory as the weights do."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return torch.bmm(x, weight.mT) if bias is None else torch.baddbmm(bias.unsqueeze(1), x, weight.mT)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad  # of new genres the other experts are frozen
        return (
            torch.bmm(grad, weight) if of_x else None,
            torch.bmm(grad.mT, x) if of_weight else None,
            grad.sum(1) if of_bias else None,
        )


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [stacked, ..., inputs], weight [stacked, outputs, inputs], bias [stacked, outputs]."""
    y = _Products.apply(x.flatten(1, -2).to(weight.dtype), weight, bias)
    return y.unflatten(1, x.shape[1:-1])


def _norm(x: Tensor, weights: dict[str, Tensor], name: str, eps: float) -> Tensor:
    """x [experts, batch, 3, time, hidden]; as many weights as experts, or three times as many."""
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    if len(weight) == 1:
        return F.layer_norm(x, x.shape[-1:], weight.flatten(), bias.flatten(), eps)
    weight, bias = (tensor.unflatten(0, (x.shape[0], 1, -1)).unsqueeze(3) for tensor in (weight, bias))
    return F.layer_norm(x, x.shape[-1:], eps=eps) * weight + bias


def _convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`causal_convolution` in one call for all of the stack: x [stacked, batch, time, inner], weight [stacked, inner, 1, kernel], bias
    [stacked, inner]. In float32 or the type of the weights, whichever is wider, as there."""
    stacked, _, steps, inner = x.shape
    kernel = weight.shape[-1]
    if torch.compiler.is_compiling():  # which makes one kernel of all shifts
        return causal_convolution(x, weight.permute(0, 2, 3, 1), bias[:, None, None])
    dtype = torch.promote_types(x.dtype, weight.dtype)
    joined = x.permute(1, 2, 0, 3).reshape(-1, steps, stacked * inner)
    y = convolve_by_kernel(joined, weight.reshape(-1, kernel).t(), bias.flatten(), None)
    if y is None:
        with maybe_autocast(x.device.type, enabled=False):
            channels = joined.to(dtype).mT
            y = F.conv1d(channels, weight.flatten(0, 1), bias.flatten(), padding=kernel - 1, groups=stacked * inner)
            y = y[..., :steps].mT
    return y.unflatten(-1, (stacked, inner)).permute(2, 0, 1, 3)


def _mamba(x: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """`Mamba.forward`, [stacked, batch, time, hidden] -> same."""
    u, gate = _linear(x, weights["in_proj.weight"]).chunk(2, dim=-1)
    u = F.silu(_convolve(u, weights["conv1d.weight"], weights["conv1d.bias"])).contiguous()
    rank, states = weights["dt_proj.weight"].shape[-1], weights["A_log"].shape[-1]
    dt, B, C = _linear(u, weights["x_proj.weight"]).split((rank, states, states), dim=-1)
    delta = F.softplus(_linear(dt, weights["dt_proj.weight"], weights["dt_proj.bias"]).float())
    A = -torch.exp(weights["A_log"].float())
    y, _ = selective_scan(u, delta, A[:, None], B, C)
    y = (y + u * weights["D"][:, None, None]) * F.silu(gate)
    return _linear(y.to(x.dtype), weights["out_proj.weight"])


def _mix_in_time(x: Tensor, weights: dict[str, Tensor], eps: float) -> Tensor:
    """`mix_in_time`, [experts, batch, 3, time, hidden] -> same."""
    mixed = _mamba(x.transpose(1, 2).flatten(0, 1), weights).unflatten(0, (x.shape[0], len(STREAMS)))
    return _norm(x + mixed.transpose(1, 2), weights, "mamba_norms", eps)


def _compute(
    x: Tensor,
    weights: dict[str, Tensor],
    mask: Tensor | None,
    attention: nn.Module,
    function: Callable,
    heads: int,
    dropout: float,
    eps: float,
) -> Tensor:
    """`Expert.forward`, [experts, batch, 3, time, hidden] -> same."""
    if "A_log" in weights:
        x = _mix_in_time(x, weights, eps)

    def linear(x: Tensor, name: str) -> Tensor:
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        if name == "qkv":  # those of an expert in one product
            weight, bias = (tensor.unflatten(0, (len(x), 3)).flatten(1, 2) for tensor in (weight, bias))
        return _linear(x, weight, bias)

    shape, hidden = x.shape, x.shape[-1]
    rows = shape[:2].numel()
    projected = linear(_norm(x, weights, "attention_norm", eps), "qkv")
    query, key, value = (
        # streams one after the other, as in memory
        part.view(rows, -1, heads, hidden // heads).transpose(1, 2)
        for part in projected.chunk(3, dim=-1)
    )
    if mask is not None:
        streams = len(STREAMS)
        blocks = mask.unflatten(0, (-1, streams)).unflatten(-1, (-1, streams))
        mask = blocks.permute(1, 0, 3, 2).flatten(2).flatten(0, 1)
    attended, _ = function(attention, query, key, value, mask, dropout=dropout, scaling=(hidden // heads) ** -0.5)
    x = x + F.dropout(linear(attended.reshape(shape), "o_proj"), dropout)
    middle = F.gelu(linear(_norm(x, weights, "mlp_norm", eps), "fc1"))
    return x + F.dropout(linear(middle, "fc2"), dropout)


def _eps(module: nn.Module) -> float:
    return next(norm.eps for norm in module.modules() if isinstance(norm, nn.LayerNorm))


# --- what layers call ---------------------------------------------------------------------------------------------------------------


def mix_side_by_side(
    mambas: nn.ModuleDict, norms: nn.ModuleDict, hidden_states: Tensor, compiled: bool = False
) -> Tensor:
    """`mix_in_time` without a state, [batch, 3, time, hidden] -> same."""
    mix = _in_one_graph(_mix_in_time) if compiled and torch.is_grad_enabled() else _mix_in_time
    weights = _stack_all(hidden_states, {"mamba_norms": _each([norms])}, [mambas])
    return mix(hidden_states.unsqueeze(0), weights, _eps(norms)).squeeze(0)


def compute_side_by_side(
    experts: Sequence[Any], hidden_states: Tensor, mask: Tensor | None, compiled: bool = False
) -> Tensor:
    """Each `Expert` on rows of its own: [experts, batch, 3, time, hidden] -> same."""
    first = experts[0]
    attentions = [expert.attention for expert in experts]
    layers = {
        "attention_norm": _each(expert.attention_norm for expert in experts),
        "qkv": [layer for one in attentions for layer in (one.q_proj, one.k_proj, one.v_proj)],
        "o_proj": [one.o_proj for one in attentions],
        "mlp_norm": _each(expert.mlp_norm for expert in experts),
        "fc1": [expert.mlp.fc1 for expert in experts],
        "fc2": [expert.mlp.fc2 for expert in experts],
    }
    if first.use_mamba:
        layers["mamba_norms"] = _each(expert.mamba_norms for expert in experts)
    weights = _stack_all(hidden_states, layers, [expert.mambas for expert in experts] if first.use_mamba else [])
    attention = attentions[0]
    dropout = attention.dropout if first.training else 0.0
    compute = _in_one_graph(_compute) if compiled and torch.is_grad_enabled() else _compute
    return compute(
        hidden_states, weights, mask, attention, attention._function(), attention.num_heads, dropout, _eps(first)
    )


@functools.cache
def _in_one_graph(function: Callable) -> Callable:
    """Compiled once for all layers, which differ in their weights alone. Numbers of experts and rows vary from batch to batch."""
    return torch.compile(function, fullgraph=True)


def bundles(sizes: Sequence[int]) -> list[list[int]]:
    """Which groups are computed side by side: at most twice the rows that there are, with the padding to the largest of each bundle."""
    found: list[list[int]] = []
    rows = 0
    for index in sorted(range(len(sizes)), key=lambda group: -sizes[group]):
        if found and sizes[found[-1][0]] * (len(found[-1]) + 1) <= 2 * (rows + sizes[index]):
            found[-1].append(index)
            rows += sizes[index]
        else:
            found.append([index])
            rows = sizes[index]
    return found


@functools.lru_cache(maxsize=256)
def _places(sizes: tuple[int, ...], device: torch.device) -> tuple[list[Tensor], Tensor]:
    """Rows of the batch that each bundle of groups takes, padded with its last ones, and where the bundles have each row of the batch."""
    taken, places, begin = [], [0] * sum(sizes), 0
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    for bundle in bundles(sizes):
        longest = max(sizes[index] for index in bundle)
        rows = [starts[index] + min(row, sizes[index] - 1) for index in bundle for row in range(longest)]
        for place, row in reversed(list(enumerate(rows, begin))):
            places[row] = place
        taken.append(rows)
        begin += len(rows)
    with torch.inference_mode(False):  # they serve in training as well
        return [integers_on(device, rows) for rows in taken], integers_on(device, places)


def compute_groups(
    experts: Sequence[Any], sizes: Sequence[int], hidden_states: Tensor, mask: Tensor | None, compiled: bool = False
) -> Tensor:
    """Each `Expert` on its group of a batch in which groups lie one after the other: [batch, 3, time, hidden] -> same."""
    if len(set(sizes)) == 1:
        groups = hidden_states.unflatten(0, (len(sizes), -1))
        return compute_side_by_side(experts, groups, mask, compiled).flatten(0, 1)
    taken, places = _places(tuple(sizes), hidden_states.device)
    outputs = []
    for bundle, rows in zip(bundles(sizes), taken, strict=True):
        groups = hidden_states.index_select(0, rows).unflatten(0, (len(bundle), -1))
        bundled = [experts[index] for index in bundle]
        outputs.append(compute_side_by_side(bundled, groups, mask, compiled).flatten(0, 1))
    return (torch.cat(outputs) if len(outputs) > 1 else outputs[0]).index_select(0, places)


class _JoinAbsent(torch.autograd.Function):
    """What it is given first; the other weights get gradients of zero, all of them pieces of one tensor."""

    @staticmethod
    def forward(ctx, x, *weights):
        ctx.shapes = [weight.shape for weight in weights]
        ctx.like = weights[0].new_empty(0)
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        sizes = [shape.numel() for shape in ctx.shapes]
        zeros = ctx.like.new_zeros(sum(sizes)).split(sizes)
        return grad, *(zero.view(shape) for zero, shape in zip(zeros, ctx.shapes, strict=True))


def join_absent(x: Tensor, experts: Iterable[nn.Module]) -> Tensor:
    """`x`; the weights of `experts`, which have no part in it, get gradients of zero instead of none."""
    weights = [weight for expert in experts for weight in expert.parameters() if weight.requires_grad]
    return _JoinAbsent.apply(x, *weights) if weights else x
