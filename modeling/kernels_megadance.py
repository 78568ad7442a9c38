"""Experts on a CPU: a code step in a few compiled calls instead of a thousand, each weight read once from where it lies.

A step multiplies a few vectors with a hundred million weights, so it can be no faster than memory gives the weights.
Libraries for matrix products are made for many rows: with one row they are slower than that, above all in bfloat16, and the
small operations between the products cost as much again. Weights are taken as they are stored: float32, bfloat16, or int8
with a scale for each output. What int8 is multiplied with is rounded to sixteen bits, where the CPU has AVX2, and what bfloat16 is
multiplied with to bfloat16, where it has AVX-512's instruction for that; everything else is float32. `Expert.forward` is the
definition; the tests compare with it.

Many positions at once are bound by arithmetic. Where the processor has an instruction for products of bytes (VNNI), what int8 is multiplied
with is rounded to eight bits then. Where it has matrix registers (AMX), weights of bfloat16 and int8 are multiplied in these. Libraries
gain little or nothing with some dozens of rows: they put weights into an order of their own, in each call or as a second copy, and
without instructions for bfloat16 they multiply it six times as slowly as float32.

The loops are in `loops_megadance.py`, the products in `products_megadance.py` and `amx_megadance.py`. Without numba they are not used.
"""

import math
import threading
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from .forks_megadance import in_forked_process

SMALLEST = 2**20  # parameters of an expert below which calls, not weights, take the time: not worth the compilation

_lock = threading.Lock()  # one of numba's threading layers does not bear two callers


class Loops(NamedTuple):
    """The compiled functions."""

    expert: Callable
    product: Callable
    machine: Callable  # what it runs on now


@cache
def loops() -> Loops | None:
    """None without numba. To import it takes a quarter of a second, so that only large models do."""
    try:
        from .amx_megadance import permitted
        from .compiled_megadance import Machine, numba
        from .loops_megadance import expert
        from .products_megadance import product
    except ImportError:
        return None
    matrices = permitted()

    def machine() -> tuple:
        return Machine(numba.get_num_threads(), matrices)

    return Loops(expert, product, machine)


class StepWeights(NamedTuple):
    """An expert's weights as a step takes them. Matrices are views of the parameters, the small rest is copied.

    In `addresses`, `outputs` and `scales` the order is in_proj, x_proj, dt_proj, out_proj of the three Mambas (upper, lower, music
    each), then q, k, v, o, fc1, fc2.
    """

    matrices: list[
        np.ndarray
    ]  # [outputs, inputs] float32, uint16 (bfloat16's bits) or int8; dt_proj's inputs are padded
    addresses: np.ndarray  # [18]: where they lie; arrays themselves would take a compiler minutes
    outputs: np.ndarray  # [19]: how many outputs those before it have
    scales: np.ndarray  # [2, all outputs]: of each output, and that times what its weights add up to
    conv: np.ndarray  # [3, kernel, inner]
    decay: np.ndarray  # [3, state, inner]: A log2(e), so that decays are powers of two
    channels: np.ndarray  # [3, 2, inner]: of each stream the convolution's bias, D
    norms: np.ndarray  # [5, 2, hidden]: weight and bias of the norms of the Mambas, the attention, the feed-forward
    biases: np.ndarray  # [all outputs]
    eps: float


def usable(x: torch.Tensor) -> bool:
    """Whether the compiled functions can take `x`."""
    if in_forked_process():  # numba's threads end it
        return False
    return x.device.type == "cpu" and not (x.requires_grad or torch.is_autocast_enabled("cpu"))


class ExpertStep(NamedTuple):
    """An expert's part in a step, ready to be called."""

    weights: tuple  # first arguments of the compiled `expert`
    states: list[np.ndarray]  # of the `ExpertCache`
    rows: slice  # of the batch


def expert_step(expert: nn.Module, cache) -> ExpertStep | None:
    """Prepare an expert; `cache` is its `ExpertCache`. None where the modules of torch are to be used."""
    if "step" not in cache.arranged:
        cache.arranged["step"] = _arrange(expert)
    weights = cache.arranged["step"]
    if weights is None:
        return None
    return ExpertStep((weights.matrices[0][:0, 0], *weights[1:]), _states(cache), cache.rows)


@torch.no_grad()
def run_expert(expert: nn.Module, x: torch.Tensor, cache, keep: int) -> torch.Tensor | None:
    """New positions through one expert: [its items, 3, time, hidden] -> same, or the last `keep` positions when that is not 0.

    `cache` is its `ExpertCache`, written in place. None where the modules of torch are to be used.
    """
    step = expert_step(expert, cache)
    if step is None:
        return None
    now, then = _floats(x), _room_for(x.shape, keep)
    with _lock:
        _call(step, loops().machine(), now, cache.position, then)
    return torch.from_numpy(then).to(x.dtype)


def run_steps(steps: list[list[ExpertStep]], x: torch.Tensor, position: int, keep: int = 0) -> torch.Tensor:
    """New positions through experts one after the other, in each place those of the genres side by side; the rest as `run_expert`."""
    now, machine = _floats(x), loops().machine()
    with _lock:
        for index, place in enumerate(steps, start=1):
            then = _room_for(now.shape, keep if index == len(steps) else 0)
            for step in place:
                _call(step, machine, now[step.rows], position, then[step.rows])
            now = then
    return torch.from_numpy(now).to(x.dtype)


def _room_for(shape: tuple[int, ...], keep: int) -> np.ndarray:
    items, streams, time, hidden = shape
    return np.empty((items, streams, min(keep or time, time), hidden), np.float32)


def _call(step: ExpertStep, machine: tuple, x: np.ndarray, position: int, out: np.ndarray) -> None:
    loops().expert(*step.weights, machine, x, *step.states, step.rows.start, position, out)


def feed_forward_step(mlp: nn.Module, x: torch.Tensor, arranged: dict) -> torch.Tensor | None:
    """Rows through a `FeedForward`: [..., inputs] -> [..., outputs]. None where this is not the faster way.

    `arranged` is empty before the first call, and keeps what is the same for each.
    """
    if not usable(x):
        return None
    if "layers" not in arranged:
        layers = [mlp.fc1, mlp.fc2]
        arranged["layers"] = list(map(_linear_step, layers)) if _worth_it(layers) and loops() is not None else None
    if arranged["layers"] is None:
        return None
    first, second = arranged["layers"]
    rows = x.shape[:-1].numel()
    middle, out = torch.empty(1, rows, len(mlp.fc1.weight)), np.empty((1, rows, len(mlp.fc2.weight)), np.float32)
    with _lock:
        _multiply(first, _floats(x).reshape(1, rows, -1), middle.numpy())
        _multiply(second, mlp.act(middle).numpy(), out)
    return torch.from_numpy(out).to(x.dtype).view(*x.shape[:-1], -1)


def _linear_step(layer: nn.Module) -> tuple:
    """First arguments of the compiled `product`."""
    weight = _array(layer.weight)
    return weight[:0, 0], np.array([weight.ctypes.data]), np.array([0, len(weight)]), _scales(layer), _bias(layer), 0


def _multiply(step: tuple, x: np.ndarray, y: np.ndarray) -> None:
    call = loops()
    call.product(*step, x, call.machine(), y)


def _worth_it(layers: list[nn.Module]) -> bool:
    """Whether the weights take the time, not the calls, and are of one known type."""
    kinds = {layer.weight.dtype for layer in layers}
    known = len(kinds) == 1 and kinds <= {torch.float32, torch.bfloat16, torch.int8}
    return known and sum(layer.weight.numel() for layer in layers) >= SMALLEST


def _arrange(expert: nn.Module) -> StepWeights | None:
    """None for an expert that is computed otherwise."""
    if not expert.use_mamba:
        return None
    mambas, norms = list(expert.mambas.values()), [*expert.mamba_norms.values(), expert.attention_norm, expert.mlp_norm]
    attention, mlp = expert.attention, expert.mlp
    names = ("in_proj", "x_proj", "dt_proj", "out_proj")
    last = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj, mlp.fc1, mlp.fc2]
    layers = [getattr(mamba, name) for name in names for mamba in mambas] + last
    if not _worth_it(layers) or loops() is None:
        return None
    matrices = [_array(layer.weight) for layer in layers]
    # dt_proj with zeros, as wide as x_proj gives: its own lines are too short for matrix registers
    rest = layers[3].weight.shape[0] - layers[6].weight.shape[1]
    matrices[6:9] = [np.pad(matrix, ((0, 0), (0, rest))) for matrix in matrices[6:9]]
    return StepWeights(
        matrices,
        np.array([matrix.ctypes.data for matrix in matrices]),
        np.cumsum([0, *(len(matrix) for matrix in matrices)]),
        np.concatenate([_scales(layer) for layer in layers], axis=1),
        _copies(*(mamba.conv1d.weight[:, 0].t() for mamba in mambas)),
        _copies(*(-torch.exp(mamba.A_log.float()).t() for mamba in mambas)) * np.float32(math.log2(math.e)),
        _copies(*(torch.stack((mamba.conv1d.bias, mamba.D)) for mamba in mambas)),
        _copies(*(torch.stack((norm.weight, norm.bias)) for norm in norms)),
        np.concatenate([_bias(layer) for layer in layers]),
        expert.mlp_norm.eps,
    )


def _states(cache) -> list[np.ndarray]:
    """What an `ExpertCache` remembers; the same memory."""
    if "states" not in cache.arranged:
        cache.arranged["states"] = [_array(state) for state in (cache.conv, cache.ssm, cache.keys, cache.values)]
    return cache.arranged["states"]


def _array(tensor: torch.Tensor) -> np.ndarray:
    """A view in a type that numpy knows."""
    tensor = tensor.detach()
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


def _floats(x: torch.Tensor) -> np.ndarray:
    return x.detach().to(torch.float32).contiguous().numpy()


def _copies(*tensors: torch.Tensor) -> np.ndarray:
    """Stacked, in float32."""
    return torch.stack([tensor.detach().float() for tensor in tensors]).contiguous().numpy()


def _bias(layer: nn.Module) -> np.ndarray:
    """[outputs]"""
    return np.zeros(len(layer.weight), np.float32) if layer.bias is None else _floats(layer.bias)


def _scales(layer: nn.Module) -> np.ndarray:
    """[2, outputs]: 1 where weights are not quantized; and that times what they add up to, where it is used."""
    scale = getattr(layer, "scale", None)
    if scale is None:
        return np.ones((2, len(layer.weight)), np.float32)
    return torch.stack((scale, scale * layer.sums)).numpy()
