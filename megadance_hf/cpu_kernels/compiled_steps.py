"""The backend "cpu": an expert is one call of a compiled function that reads each weight once; see README.md beside
this file. `Expert.forward` is the definition, with which the tests compare. Without numba there is no such backend.
"""

import math
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn

from megadance_hf.modeling.backends_megadance import Stepper
from megadance_hf.modeling.cache_megadance import ExpertCache, MegaDanceCache
from megadance_hf.modeling.experts_megadance import Expert, FeedForward
from megadance_hf.modeling.forks_megadance import in_forked_process
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration

from . import LARGE
from .walk import layer_steps, walk

WEIGHT_TYPES = {torch.float32, torch.bfloat16, torch.int8}
_lock = threading.Lock()  # numba's work queue is not thread-safe
_compiled_types: set[Any] = set()


class Loops(NamedTuple):
    """The compiled functions."""

    expert: Callable
    product: Callable
    num_threads: Callable[[], int]


@cache
def loops() -> Loops | None:
    """None without numba. It is imported here because that takes a quarter of a second, for large models only."""
    try:
        from numba import get_num_threads

        from .loops import expert
        from .products import product
    except ImportError:
        return None
    return Loops(expert, product, get_num_threads)


def _call(function: Callable, types: Any, *arguments: Any) -> None:
    """Call a compiled function. Its first call with these `types` of weights compiles it or loads it from disk, one
    process at a time: numba numbers the files of machine code, so that two would overwrite each other's."""
    with _lock:
        if types in _compiled_types:
            function(*arguments)
            return
        from .compiled import cache_folder

        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "compiling.lock"):
            function(*arguments)
        _compiled_types.add(types)


def prepare(model: MegaDanceForMotionGeneration, cache: MegaDanceCache) -> Stepper | None:
    """None without numba, on other devices, in a forked process (which numba's threads would end), for experts without
    Mamba and for weights of other types."""
    layers = model.base_model.layers
    if model.device.type != "cpu" or in_forked_process() or _is_other(model.config) or loops() is None:
        return None
    weights = [layer.weight.data for layer in layers.modules() if hasattr(layer, "out_features")]
    if len({weight.dtype for weight in weights}) != 1 or not {weights[0].dtype, model.dtype} <= WEIGHT_TYPES:
        return None
    if any(type(weight) is not Tensor for weight in weights):  # a quantization other than ours
        return None
    return CompiledStepper(model, cache)


def _is_other(config) -> bool:
    return not config.use_mamba or config.mamba_placement != "experts" or config.norm_per_stream


class CompiledStepper:
    """The stepper; see `Stepper`."""

    def __init__(self, model: MegaDanceForMotionGeneration, cache: MegaDanceCache):
        self.layers = layer_steps(model, cache, CompiledExpert, np.concatenate)
        joint = model.config.code_head == "joint"
        large = joint and sum(layer.weight.numel() for layer in (model.output_mlp.fc1, model.output_mlp.fc2)) >= LARGE
        self.head = CompiledFeedForward(model.output_mlp) if large else model.output_mlp

    def __call__(self, hidden_states: Tensor, keep: int) -> Tensor:
        x = torch.from_numpy(walk(self.layers, _floats(hidden_states), keep))
        return x[:, :2].to(hidden_states.dtype)


class CompiledExpert:
    """What `Expert.forward` computes with a cache, in one call, and in float32 whatever the model's type."""

    def __init__(self, expert: Expert, cache: ExpertCache):
        weights, self.cache = arrange(expert), cache
        self.matrices = weights.arrays  # whose addresses the others hold
        self.arguments = weights.arrays[0][:0, 0], *weights[1:]
        self.states = [_array(state) for state in cache.whole]
        self.types = (weights.arrays[0].dtype, self.states[2].dtype)  # of weights, keys and values

    def __call__(self, x: np.ndarray, keep: int) -> np.ndarray:
        """[rows, 3, steps, hidden] -> same, or the last `keep` positions when that is not 0."""
        rows, streams, steps, hidden = x.shape
        output = np.empty((rows, streams, min(keep or steps, steps), hidden), np.float32)
        state = *self.states, self.cache.rows.start, self.cache.position
        _call(loops().expert, self.types, *self.arguments, loops().num_threads(), x, *state, output)
        return output


class CompiledFeedForward:
    """What `JointHead.forward` computes."""

    def __init__(self, mlp: FeedForward):
        self.layers, self.act = [_product_arguments(layer) for layer in (mlp.fc1, mlp.fc2)], mlp.act
        self.sizes = [len(layer.weight) for layer in (mlp.fc1, mlp.fc2)]

    def __call__(self, x: Tensor, next_codes: Tensor | None = None) -> Tensor:
        """[..., inputs] -> [..., outputs], in the type of `x`."""
        rows = _floats(x).reshape(1, -1, x.shape[-1])
        middle, output = (torch.empty(1, rows.shape[1], size) for size in self.sizes)
        multiply(self.layers[0], rows, middle.numpy())
        multiply(self.layers[1], self.act(middle).numpy(), output.numpy())
        return output.to(x.dtype).view(*x.shape[:-1], -1)


def multiply(layer: tuple, x: np.ndarray, y: np.ndarray) -> None:
    """x [1, rows, inputs] -> y [1, rows, outputs], overwritten. `layer` is what `_product_arguments` gives."""
    _call(loops().product, layer[0].dtype, *layer, x, loops().num_threads(), y)


def _product_arguments(layer: nn.Module) -> tuple:
    """The first arguments of the compiled `product`, for a linear layer."""
    weight = _array(layer.weight)
    return weight[:0, 0], np.array([weight.ctypes.data]), np.array([0, len(weight)]), _scales(layer), _bias(layer), 0


class ExpertWeights(NamedTuple):
    """An expert's weights as the loops take them. Matrices are views of the parameters, the small rest is copied.

    Matrices are in_proj, x_proj, dt_proj and out_proj, each of the Mambas of upper, lower and music, then q_proj,
    k_proj, v_proj, o_proj, fc1, fc2.
    """

    arrays: list[np.ndarray]  # [outputs, inputs] float32, uint16 (bfloat16's bits) or int8
    matrices: np.ndarray  # int64 [18]: the addresses of `arrays`, which themselves would take minutes to compile
    offsets: np.ndarray  # int64 [19]: how many outputs the matrices before each have
    scales: np.ndarray  # [2, all outputs]: of the weights, and that times their sum
    conv: np.ndarray  # [3, width, inner]
    decay: np.ndarray  # [3, states, inner]: A log2(e), so that decays are powers of two
    channels: np.ndarray  # [3, 2, inner]: the convolution's bias, D
    norms: np.ndarray  # [5, 2, hidden]: weight and bias of the norms of the Mambas, the attention, the feed-forward
    biases: np.ndarray  # [all outputs]
    eps: float


def arrange(expert: Expert) -> ExpertWeights:
    mambas, norms = list(expert.mambas.values()), [*expert.mamba_norms.values(), expert.attention_norm, expert.mlp_norm]
    attention, mlp = expert.attention, expert.mlp
    names = ("in_proj", "x_proj", "dt_proj", "out_proj")
    last = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj, mlp.fc1, mlp.fc2]
    layers = [getattr(mamba, name) for name in names for mamba in mambas] + last
    arrays = [_array(layer.weight) for layer in layers]
    # dt_proj's inputs are padded with zeros to x_proj's outputs, 64 in the paper's size: a whole vector of uint8 with
    # AVX-512, so that its int8 weights, too, can go through `_many_rows`
    padding = layers[3].weight.shape[0] - layers[6].weight.shape[1]
    arrays[6:9] = [np.pad(array, ((0, 0), (0, padding))) for array in arrays[6:9]]
    return ExpertWeights(
        arrays,
        np.array([array.ctypes.data for array in arrays]),
        np.cumsum([0, *(len(array) for array in arrays)]),
        np.concatenate([_scales(layer) for layer in layers], axis=1),
        _copies(*(mamba.conv1d.weight[:, 0].t() for mamba in mambas)),
        _copies(*(-torch.exp(mamba.A_log.float()).t() for mamba in mambas)) * np.float32(math.log2(math.e)),
        _copies(*(torch.stack((mamba.conv1d.bias, mamba.D)) for mamba in mambas)),
        _copies(*(torch.stack((norm.weight, norm.bias)) for norm in norms)),
        np.concatenate([_bias(layer) for layer in layers]),
        expert.mlp_norm.eps,
    )


def _array(tensor: torch.Tensor) -> np.ndarray:
    """A view in a type that numpy has: bfloat16 as uint16."""
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
    """[2, outputs]: scales of the weights, and these times the sums of their weights; ones where not quantized."""
    scale = getattr(layer, "scale", None)
    if scale is None:
        return np.ones((2, len(layer.weight)), np.float32)
    return torch.stack((scale, scale * layer.sums)).numpy()
