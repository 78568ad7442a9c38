"""Mamba: the selective state space layer that follows each stream through time (paper, section 3.3.3, Eq. 5-6)."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init

from .cache_megadance import MambaState
from .configuration_megadance import MegaDanceConfig
from .kernels_megadance import convolve_by_kernel
from .scan_megadance import continue_scan, selective_scan


class CausalConvolution(nn.Conv1d):
    """A depthwise convolution along time that sees nothing later. A module that is called: offloaded weights come when it is."""

    def __init__(self, channels: int, kernel: int):
        super().__init__(channels, channels, kernel, groups=channels, padding=kernel - 1)

    def forward(self, x: torch.Tensor, history: torch.Tensor | None = None) -> torch.Tensor:
        """[..., time, channels] -> same; `history` as in `causal_convolution`."""
        assert self.bias is not None
        return causal_convolution(x, self.weight[:, 0].t(), self.bias, history)


class Mamba(nn.Module):
    """Selective state space layer with the parameter names and shapes of mamba_ssm's `Mamba`."""

    def __init__(self, config: MegaDanceConfig):
        super().__init__()
        inner, state, rank = config.inner_size, config.state_size, config.time_step_rank
        assert rank is not None  # the configuration has set it
        self.in_proj = nn.Linear(config.hidden_size, 2 * inner, bias=False)
        self.conv1d = CausalConvolution(inner, config.conv_kernel)
        self.x_proj = nn.Linear(inner, rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.empty(inner, state))
        self.D = nn.Parameter(torch.empty(inner))
        self.out_proj = nn.Linear(inner, config.hidden_size, bias=False)

    def init_weights(self) -> None:
        """Initialisation of mamba_ssm: time steps log-uniform in 0.001 to 0.1, A = -1..-state, D = 1."""
        for linear in (self.in_proj, self.x_proj, self.out_proj):
            bound = linear.in_features**-0.5
            init.uniform_(linear.weight, -bound, bound)
        bound = self.conv1d.kernel_size[0] ** -0.5
        init.uniform_(self.conv1d.weight, -bound, bound)
        init.uniform_(self.conv1d.bias, -bound, bound)
        bound = self.dt_proj.in_features**-0.5
        init.uniform_(self.dt_proj.weight, -bound, bound)
        low, high = math.log(0.001), math.log(0.1)
        dt = torch.exp(torch.rand_like(self.dt_proj.bias, dtype=torch.float32) * (high - low) + low)
        init.copy_(self.dt_proj.bias, dt + torch.log(-torch.expm1(-dt)))  # inverse of softplus
        rates = torch.arange(1, self.A_log.shape[1] + 1, dtype=torch.float32, device=self.A_log.device)
        init.copy_(self.A_log, torch.log(rates).expand_as(self.A_log))
        init.ones_(self.D)

    def forward(self, hidden_states: torch.Tensor, state: MambaState | None = None) -> torch.Tensor:
        """[batch, time, hidden] -> same. `state` is what came before, overwritten; nothing did when None."""
        u, gate = self.in_proj(hidden_states).chunk(2, dim=-1)
        u = F.silu(self.conv1d(u, None if state is None else state.conv))
        rank, states = self.dt_proj.in_features, self.A_log.shape[1]
        dt, B, C = self.x_proj(u).split((rank, states, states), dim=-1)
        delta = F.softplus(self.dt_proj(dt).float())
        A = -torch.exp(self.A_log.float())
        if state is None:
            y, _ = selective_scan(u, delta, A, B, C)
        else:
            y = continue_scan(u, delta, A, B, C, state.ssm)
        return self.out_proj(((y + u * self.D) * F.silu(gate)).to(hidden_states.dtype))


def causal_convolution(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, history: torch.Tensor | None = None
) -> torch.Tensor:
    """Causal depthwise convolution along time: [..., time, inner] -> same, as a sum of shifted products.

    Args:
        weight: [..., kernel, inner]. bias: [..., 1, inner] or [inner].
        history: [..., kernel - 1, inner], the inputs before, overwritten; zeros when None.
    """
    y = convolve_by_kernel(x, weight, bias, history)
    if y is not None:
        return y
    steps, width = x.shape[-2], weight.shape[-2]
    if history is None:
        padded = F.pad(x, (0, 0, width - 1, 0))
    else:
        padded = torch.cat((history.to(x.dtype), x), dim=-2)
        history.copy_(padded[..., steps:, :].detach())
    if steps == 1:
        return (padded * weight).sum(-2, keepdim=True) + bias
    y = bias
    for shift in range(width):
        y = torch.addcmul(y, padded[..., shift : shift + steps, :], weight[..., shift : shift + 1, :])
    return y
