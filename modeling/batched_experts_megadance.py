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

Norms = tuple[Tensor, Tensor]  # weight and bias, [norms, 1 or 3, 1, hidden]: one for all streams, or one for each

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


def _contiguous(gradient: Tensor) -> Tensor:
    # one copy of all, where else each parameter would copy its own
    return gradient.contiguous()


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    stacked = torch.stack(tuple(tensors)) if len(tensors) > 1 else tensors[0].unsqueeze(0)
    if stacked.requires_grad:
        stacked.register_hook(_contiguous)
    return stacked


def _norm_weights(norms: Sequence[nn.Module]) -> Norms:
    per_stream = isinstance(norms[0], nn.ModuleDict)
    modules = [norm[stream] for norm in norms for stream in STREAMS] if per_stream else norms  # type: ignore[index]
    weight, bias = (
        _stack([getattr(module, name) for module in modules]).unflatten(0, (len(norms), -1)).unsqueeze(2)
        for name in ("weight", "bias")
    )
    return weight, bias


def _mamba_weights(mambas: Sequence[nn.ModuleDict]) -> dict[str, Tensor]:
    modules = [module[stream] for module in mambas for stream in STREAMS]
    names = [name for name, _ in modules[0].named_parameters()]
    of_each: list[dict[str, Tensor]] = [dict(module.named_parameters()) for module in modules]
    return {name: _stack([parameters[name] for parameters in of_each]) for name in names}


def _linear_weights(linears: Sequence[nn.Linear]) -> tuple[Tensor, Tensor]:
    return _stack([linear.weight for linear in linears]), _stack([linear.bias for linear in linears])


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
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    y = _Products.apply(x.flatten(1, -2), weight, bias)
    return y.unflatten(1, x.shape[1:-1])


def _norm(x: Tensor, weights: Norms, eps: float) -> Tensor:
    """x [experts, batch, 3, time, hidden]"""
    weight, bias = weights
    if weight.shape[:2] == (1, 1):
        return F.layer_norm(x, x.shape[-1:], weight.flatten(), bias.flatten(), eps)
    return F.layer_norm(x, x.shape[-1:], eps=eps) * weight.unsqueeze(1) + bias.unsqueeze(1)


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


def _mix_in_time(x: Tensor, mambas: dict[str, Tensor], norms: Norms, eps: float) -> Tensor:
    """`mix_in_time`, [experts, batch, 3, time, hidden] -> same."""
    mixed = _mamba(x.transpose(1, 2).flatten(0, 1), mambas).unflatten(0, (x.shape[0], len(STREAMS)))
    return _norm(x + mixed.transpose(1, 2), norms, eps)


def _compute(
    x: Tensor,
    weights: dict[str, Any],
    mask: Tensor | None,
    attention: nn.Module,
    function: Callable,
    heads: int,
    dropout: float,
    eps: float,
) -> Tensor:
    """`Expert.forward`, [experts, batch, 3, time, hidden] -> same."""
    if "mambas" in weights:
        x = _mix_in_time(x, weights["mambas"], weights["mamba_norms"], eps)
    shape, hidden = x.shape, x.shape[-1]
    rows = shape[:2].numel()
    projected = _linear(_norm(x, weights["attention_norm"], eps), *weights["qkv"])
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
    x = x + F.dropout(_linear(attended.reshape(shape), *weights["o_proj"]), dropout)
    middle = F.gelu(_linear(_norm(x, weights["mlp_norm"], eps), *weights["fc1"]))
    return x + F.dropout(_linear(middle, *weights["fc2"]), dropout)


def _eps(module: nn.Module) -> float:
    return next(norm.eps for norm in module.modules() if isinstance(norm, nn.LayerNorm))


# --- what layers call ---------------------------------------------------------------------------------------------------------------


def mix_side_by_side(
    mambas: nn.ModuleDict, norms: nn.ModuleDict, hidden_states: Tensor, compiled: bool = False
) -> Tensor:
    """`mix_in_time` without a state, [batch, 3, time, hidden] -> same."""
    mix = _in_one_graph(_mix_in_time) if compiled and torch.is_grad_enabled() else _mix_in_time
    weights = _mamba_weights([mambas]), _norm_weights([norms])
    return mix(hidden_states.unsqueeze(0), *weights, _eps(norms)).squeeze(0)


def compute_side_by_side(
    experts: Sequence[Any], hidden_states: Tensor, mask: Tensor | None, compiled: bool = False
) -> Tensor:
    """Each `Expert` on rows of its own: [experts, batch, 3, time, hidden] -> same."""
    first = experts[0]
    attentions, nets = [expert.attention for expert in experts], [expert.mlp for expert in experts]
    qkv = _linear_weights([layer for one in attentions for layer in (one.q_proj, one.k_proj, one.v_proj)])
    weights: dict[str, Any] = {
        "attention_norm": _norm_weights([expert.attention_norm for expert in experts]),
        "qkv": tuple(tensor.unflatten(0, (len(experts), 3)).flatten(1, 2) for tensor in qkv),
        "o_proj": _linear_weights([one.o_proj for one in attentions]),
        "mlp_norm": _norm_weights([expert.mlp_norm for expert in experts]),
        "fc1": _linear_weights([net.fc1 for net in nets]),
        "fc2": _linear_weights([net.fc2 for net in nets]),
    }
    if first.use_mamba:
        weights["mambas"] = _mamba_weights([expert.mambas for expert in experts])
        weights["mamba_norms"] = _norm_weights([expert.mamba_norms for expert in experts])
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
