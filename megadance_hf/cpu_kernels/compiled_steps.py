"""The backend "cpu": the Mambas of an expert or of a layer are one call of a compiled function that reads each weight
once, and so is the attention block that follows; see README.md beside this file. The modules are the definition, with
which the tests compare. Without numba there is no such backend.
"""

import math
import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn

from megadance_hf.modeling.backends_megadance import Stepper
from megadance_hf.modeling.cache_megadance import STREAMS, ExpertCache, MegaDanceCache
from megadance_hf.modeling.experts_megadance import Expert, FeedForward, StreamNorms
from megadance_hf.modeling.forks_megadance import in_forked_process
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration

from . import LARGE
from .walk import layer_steps, walk

WEIGHT_TYPES = {torch.float32, torch.bfloat16, torch.int8}
_lock = threading.Lock()  # numba's work queue is not thread-safe
_compiled_types: set[Any] = set()


class Loops(NamedTuple):
    """The compiled functions."""

    mix_in_time: Callable
    attention_block: Callable
    product: Callable
    num_threads: Callable[[], int]


@cache
def loops() -> Loops | None:
    """None without numba. It is imported here because that takes a quarter of a second, for large models only."""
    try:
        from numba import get_num_threads

        from .loops import attention_block, mix_in_time
        from .products import product
    except ImportError:
        return None
    return Loops(mix_in_time, attention_block, product, get_num_threads)


def _call(function: Callable, types: Any, *arguments: Any) -> None:
    """Call a compiled function. Its first call with these `types` of weights compiles it or loads it from disk, one
    process at a time: numba numbers the files of machine code, so that two would overwrite each other's."""
    with _lock:
        if (function, types) in _compiled_types:
            function(*arguments)
            return
        from .compiled import cache_folder

        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "compiling.lock"):
            function(*arguments)
        _compiled_types.add((function, types))


def prepare(model: MegaDanceForMotionGeneration, cache: MegaDanceCache) -> Stepper | None:
    """None without numba, on other devices, in a forked process (which numba's threads would end), for weights of other
    types, and where linear layers compute something else (LoRA, another quantization) or are offloaded."""
    if model.device.type != "cpu" or in_forked_process() or loops() is None:
        return None
    layers = [layer for layer in model.base_model.layers.modules() if hasattr(layer, "out_features")]
    types = {layer.weight.dtype for layer in layers}
    if len(types) != 1 or not types | {model.dtype} <= WEIGHT_TYPES or not all(map(_is_plain, layers)):
        return None
    return CompiledStepper(model, cache)


def _is_plain(layer: nn.Module) -> bool:
    """Whether it is a linear layer and no more, with its weight in memory."""
    weight = layer.weight.data
    is_linear = type(layer) is nn.Linear or weight.dtype == torch.int8
    return is_linear and type(weight) is Tensor and weight.device.type == "cpu"


class CompiledStepper:
    """The stepper; see `Stepper`."""

    def __init__(self, model: MegaDanceForMotionGeneration, cache: MegaDanceCache):
        self.layers = layer_steps(model, cache, CompiledMambas, CompiledAttention, np.concatenate)
        head, layers = model.output_mlp, (model.output_mlp.fc1, model.output_mlp.fc2)
        large = sum(layer.weight.numel() for layer in layers) >= LARGE and all(map(_is_plain, layers))
        self.head = CompiledFeedForward(head) if large and model.config.code_head == "joint" else head

    def __call__(self, hidden_states: Tensor, keep: int) -> Tensor:
        x = torch.from_numpy(walk(self.layers, _floats(hidden_states), keep))
        return x[:, :2].to(hidden_states.dtype)


class CompiledMambas:
    """What `mix_in_time` computes with a cache, in float32 whatever the model's type."""

    def __init__(self, mambas: nn.ModuleDict, norms: StreamNorms, cache: ExpertCache):
        self.weights, self.cache = arrange_mambas(mambas, norms), cache
        self.states = [_array(state) for state in cache.whole[:2]]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """[rows, 3, steps, hidden] -> same."""
        output = np.empty_like(x)
        arguments = loops().num_threads(), x, *self.states, self.cache.rows.start, output
        _call(loops().mix_in_time, self.weights.dtype, *self.weights.arguments, *arguments)
        return output


class CompiledAttention:
    """What `Expert.forward` computes with a cache after the Mambas, in float32 whatever the model's type."""

    def __init__(self, expert: Expert, cache: ExpertCache):
        self.weights, self.cache = arrange_attention(expert), cache
        self.states = [_array(state) for state in cache.whole[2:]]
        self.types = (self.weights.dtype, self.states[0].dtype)  # of weights, keys and values

    def __call__(self, x: np.ndarray, keep: int) -> np.ndarray:
        """[rows, 3, steps, hidden] -> same, or the last `keep` positions when that is not 0."""
        rows, streams, steps, hidden = x.shape
        output = np.empty((rows, streams, min(keep or steps, steps), hidden), np.float32)
        state = *self.states, self.cache.rows.start, self.cache.position
        arguments = loops().num_threads(), x, *state, output
        _call(loops().attention_block, self.types, *self.weights.arguments, *arguments)
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
    return *_matrices([layer], [_array(layer.weight)]), 0


def _matrices(layers: Sequence[nn.Module], arrays: list[np.ndarray]) -> tuple:
    """What `product` takes for linear layers: their weights' type, addresses, and where the outputs of each begin; scales; biases.

    `arrays` are their weights, which must live as long. As arguments they themselves would take minutes to compile.
    """
    return (
        arrays[0][:0, 0],
        np.array([array.ctypes.data for array in arrays]),
        np.cumsum([0, *(len(array) for array in arrays)]),
        np.concatenate([_scales(layer) for layer in layers], axis=1),
        np.concatenate([_bias(layer) for layer in layers]),
    )


class Weights(NamedTuple):
    """As the loops take them. Matrices are views of the parameters, [outputs, inputs] float32, uint16 (bfloat16's bits) or
    int8; the small rest is copied."""

    arrays: list[np.ndarray]  # whose addresses the arguments hold
    arguments: tuple

    @property
    def dtype(self) -> np.dtype:
        return self.arrays[0].dtype


def arrange_mambas(mambas: nn.ModuleDict, norms: StreamNorms) -> Weights:
    """The first arguments of the compiled `mix_in_time`.

    Matrices are in_proj, x_proj, dt_proj and out_proj, each of the Mambas of upper, lower and music. Then:
    conv [3, width, inner]; decay [3, states, inner], A log2(e), so that decays are powers of two;
    channels [3, 2, inner], the convolution's bias and D; norms [3, 2, hidden], weight and bias; eps.
    """
    modules = list(mambas.values())
    layers = [getattr(mamba, name) for name in ("in_proj", "x_proj", "dt_proj", "out_proj") for mamba in modules]
    arrays = [_array(layer.weight) for layer in layers]
    # dt_proj's inputs are padded with zeros to x_proj's outputs, 64 in the paper's size: a whole vector of uint8 with
    # AVX-512, so that its int8 weights, too, can go through `_many_rows`
    padding = layers[3].weight.shape[0] - layers[6].weight.shape[1]
    arrays[6:9] = [np.pad(array, ((0, 0), (0, padding))) for array in arrays[6:9]]
    arguments = (
        *_matrices(layers, arrays),
        _copies(*(mamba.conv1d.weight[:, 0].t() for mamba in modules)),
        _copies(*(-torch.exp(mamba.A_log.float()).t() for mamba in modules)) * np.float32(math.log2(math.e)),
        _copies(*(torch.stack((mamba.conv1d.bias, mamba.D)) for mamba in modules)),
        *_norms(norms),
    )
    return Weights(arrays, arguments)


def arrange_attention(expert: Expert) -> Weights:
    """The first arguments of the compiled `attention_block`.

    Matrices are q_proj, k_proj, v_proj, o_proj, fc1, fc2. Then norms [2, 3, 2, hidden], weight and bias for each stream before the
    attention and before the feed-forward net; eps.
    """
    attention, mlp = expert.attention, expert.mlp
    layers = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj, mlp.fc1, mlp.fc2]
    arrays = [_array(layer.weight) for layer in layers]
    (before, eps), (between, _) = _norms(expert.attention_norm), _norms(expert.mlp_norm)
    return Weights(arrays, (*_matrices(layers, arrays), np.stack((before, between)), eps))


def _norms(norms: nn.Module) -> tuple[np.ndarray, float]:
    """Weight and bias for each stream, [3, 2, hidden], and eps; one norm for all streams is three that are equal."""
    modules = [norms[stream] for stream in STREAMS] if isinstance(norms, StreamNorms) else [norms] * len(STREAMS)
    return _copies(*(torch.stack((norm.weight, norm.bias)) for norm in modules)), modules[0].eps


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
