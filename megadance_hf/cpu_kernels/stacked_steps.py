"""Steps of small models: where a call takes longer than its product, one call computes what several modules would.

The weights of the three Mambas are stacked and those of queries, keys and values joined, once for each dance. Everything else is done by
the modules. It is plain torch, for any device.
"""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megadance_hf.modeling.attention_megadance import mask_of_new_positions
from megadance_hf.modeling.backends_megadance import Stepper
from megadance_hf.modeling.cache_megadance import STREAMS, ExpertCache, MegaDanceCache
from megadance_hf.modeling.experts_megadance import Expert, StreamNorms
from megadance_hf.modeling.mamba_megadance import causal_convolution
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration
from megadance_hf.modeling.scan_megadance import continue_scan

from .walk import layer_steps, walk


def prepare(model: MegaDanceForMotionGeneration, cache: MegaDanceCache) -> Stepper | None:
    """None where weights are quantized or offloaded, or have adapters."""
    layers = [module for module in model.base_model.layers.modules() if hasattr(module, "out_features")]
    weights = [layer.weight.data for layer in layers if type(layer) is nn.Linear]
    if len(weights) < len(layers) or any(type(weight) is not Tensor or weight.is_meta for weight in weights):
        return None
    return StackedStepper(model, cache)


class StackedStepper:
    """The stepper; see `Stepper`."""

    def __init__(self, model: MegaDanceForMotionGeneration, cache: MegaDanceCache):
        self.cache, self.context, self.head = cache, model.config.context_codes, model.output_mlp
        self.mask: Tensor | None = None
        self.layers = layer_steps(model, cache, StackedMambas, lambda *expert: StackedAttention(*expert, self))

    def __call__(self, hidden_states: Tensor, keep: int) -> Tensor:
        steps, streams = hidden_states.shape[2], len(STREAMS)
        past, device = self.cache.position, hidden_states.device
        self.mask = mask_of_new_positions(steps, past, self.context, streams, device)
        return walk(self.layers, hidden_states, keep)[:, :2]


def _stack(tensors: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(tensors))


def _norm_function(norms: nn.Module) -> Callable[[Tensor], Tensor]:
    """What the norms compute, those of the streams at once."""
    if not isinstance(norms, StreamNorms):
        return norms
    modules = [norms[stream] for stream in STREAMS]
    weight, bias = (_stack(getattr(norm, name) for norm in modules)[:, None] for name in ("weight", "bias"))
    eps = modules[0].eps
    return lambda x: torch.addcmul(bias, F.layer_norm(x, x.shape[-1:], eps=eps), weight)


class StackedMambas:
    """What `mix_in_time` computes with a cache."""

    def __init__(self, mambas: nn.ModuleDict, norms: StreamNorms, cache: ExpertCache):
        self.cache, self.norms = cache, _norm_function(norms)
        modules = [mambas[stream] for stream in STREAMS]
        # [streams, ...]. Small weights are float32 in any model: rounding after each small operation takes time and precision.
        self.in_proj = _stack(mamba.in_proj.weight.t() for mamba in modules)
        self.out_proj = _stack(mamba.out_proj.weight.t() for mamba in modules)
        self.conv = _stack(mamba.conv1d.weight[:, 0].t() for mamba in modules).float()[:, None]
        self.conv_bias = _stack(mamba.conv1d.bias for mamba in modules).float()[:, None, None]
        self.x_proj = _stack(mamba.x_proj.weight.t() for mamba in modules).float()[:, None]
        self.dt_proj = _stack(mamba.dt_proj.weight.t() for mamba in modules).float()[:, None]
        self.dt_bias = _stack(mamba.dt_proj.bias for mamba in modules).float()[:, None, None]
        self.A = -torch.exp(_stack(mamba.A_log for mamba in modules).float())[:, None]
        self.D = _stack(mamba.D for mamba in modules).float()[:, None, None]

    def __call__(self, hidden_states: Tensor) -> Tensor:
        x = hidden_states.transpose(0, 1)  # streams first
        return self.norms((x + self._mix(x)).transpose(0, 1))

    def _mix(self, x: Tensor) -> Tensor:
        """[streams, batch, time, hidden] -> same."""
        shape = x.shape[1:3]
        projected = torch.bmm(x.flatten(1, 2), self.in_proj).unflatten(1, shape)
        u, gate = projected.float().chunk(2, dim=-1)
        u = F.silu(causal_convolution(u, self.conv, self.conv_bias, self.cache.conv))
        rank, states = self.dt_proj.shape[2], self.A.shape[3]
        dt, b, c = torch.matmul(u, self.x_proj).split((rank, states, states), dim=-1)
        delta = F.softplus(torch.matmul(dt, self.dt_proj) + self.dt_bias)
        y = continue_scan(u, delta, self.A, b, c, self.cache.ssm)
        mixed = (torch.addcmul(y, u, self.D) * F.silu(gate)).to(x.dtype)
        return torch.bmm(mixed.flatten(1, 2), self.out_proj).unflatten(1, shape)


class StackedAttention:
    """What `Expert.forward` computes with a cache after the Mambas."""

    def __init__(self, expert: Expert, cache: ExpertCache, stepper: StackedStepper):
        self.expert, self.cache, self.stepper = expert, cache, stepper
        self.norms = [_norm_function(norm) for norm in (expert.attention_norm, expert.mlp_norm)]
        layers = [expert.attention.q_proj, expert.attention.k_proj, expert.attention.v_proj]
        self.qkv = [torch.cat([getattr(layer, name) for layer in layers]) for name in ("weight", "bias")]

    def __call__(self, hidden_states: Tensor, keep: int) -> Tensor:
        expert, (attention_norm, mlp_norm) = self.expert, self.norms
        query, key, value = F.linear(attention_norm(hidden_states), *self.qkv).chunk(3, dim=-1)
        attended = expert.attention.attend(query[:, :, -keep:], key, value, self.stepper.mask, self.cache)
        hidden_states = hidden_states[:, :, -keep:] + attended
        return hidden_states + expert.mlp(mlp_norm(hidden_states))
