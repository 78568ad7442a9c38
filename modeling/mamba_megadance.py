"""Mamba: the selective state space layer that follows each stream through time (paper, section 3.3.3, Eq. 5-6).

On a GPU mamba_ssm's kernels do the scan where they are installed; the torch scan here is the implementation everywhere else.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable
from transformers import initialization as init

from .configuration_megadance import MegaDanceConfig
from .linear_megadance import Linear, dense_weight

try:  # the extra `cuda`: compiled kernels, importable only where there is a GPU
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn as _cuda_selective_scan
except Exception:  # a half-installed mamba_ssm fails in many ways; the torch scan below always works
    _cuda_selective_scan = None

# Elements of [chunk, batch, state, channels] that are worked on at once: few enough to stay in a CPU's cache, many
# enough to pay for the call. Only one fused multiply-add a time step is sequential.
_SCAN_CHUNK_ELEMENTS = 2**18


def _scan_chunks(steps: int, elements_per_step: int) -> list[tuple[int, int]]:
    size = max(1, _SCAN_CHUNK_ELEMENTS // max(1, elements_per_step))
    return [(start, min(start + size, steps)) for start in range(0, steps, size)]


def _scan_forward(u, delta, a, b, c, state, keep_states):
    """h_t = exp(delta_t A) h_{t-1} + (delta_t u_t) B_t;  y_t = C_t h_t.

    Time first: u, delta [time, streams, batch, channels], a [streams, 1, state, channels], b, c [time, streams, batch, state].
    """
    steps, num_states = u.shape[0], a.shape[-2]
    shape = (*u.shape[1:-1], num_states, u.shape[-1])
    y = torch.empty_like(u)
    states = u.new_empty(steps, *shape) if keep_states else None
    h = u.new_zeros(shape) if state is None else state
    for start, stop in _scan_chunks(steps, math.prod(shape)):
        decay = (delta[start:stop].unsqueeze(-2) * a).exp_()  # [chunk, streams, batch, state, channels]
        target = states[start:stop] if keep_states else torch.empty_like(decay)
        torch.mul((delta[start:stop] * u[start:stop]).unsqueeze(-2), b[start:stop].unsqueeze(-1), out=target)
        for now, factor in zip(target.unbind(0), decay.unbind(0), strict=True):
            h = now.addcmul_(factor, h)
        y[start:stop] = torch.matmul(c[start:stop].unsqueeze(-2), target).squeeze(-2)
    return y, h, states


class _SelectiveScan(torch.autograd.Function):
    """The scan with a backward written by hand: a time loop under autograd would record five nodes a step."""

    @staticmethod
    def forward(ctx, u, delta, a, b, c, state):
        # states are kept, decays are not: exp is cheaper than the memory
        y, h, states = _scan_forward(u, delta, a, b, c, state, keep_states=True)
        ctx.save_for_backward(u, delta, a, b, c, state, states)
        h = h.clone()
        ctx.mark_non_differentiable(h)
        return y, h

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_y, _):
        u, delta, a, b, c, state, states = ctx.saved_tensors
        with torch.autocast(device_type=u.device.type, enabled=False):
            grad_input, grad_delta = torch.empty_like(u), torch.empty_like(delta)
            grad_a, grad_b, grad_c = torch.zeros_like(a), torch.empty_like(b), torch.empty_like(c)
            carry = None  # decay_{t+1} * dL/dh_{t+1}
            for start, stop in reversed(_scan_chunks(u.shape[0], states[0].numel())):
                part = slice(start, stop)
                decay = (delta[part].unsqueeze(-2) * a).exp_()
                grad_h = grad_y[part].unsqueeze(-2) * c[part].unsqueeze(-1)
                for now, factor in zip(reversed(grad_h.unbind(0)), reversed(decay.unbind(0)), strict=True):
                    if carry is not None:
                        now.add_(carry)
                    carry = factor.mul_(now)  # from here on `decay` holds decay * grad_h
                carry = carry.clone()  # its storage is used up below
                grad_c[part] = torch.matmul(states[part], grad_y[part].unsqueeze(-1)).squeeze(-1)
                grad_b[part] = torch.matmul(grad_h, (delta[part] * u[part]).unsqueeze(-1)).squeeze(-1)
                grad_input[part] = torch.matmul(b[part].unsqueeze(-2), grad_h).squeeze(-2)
                # dL/d(delta A) = grad_h * decay * h_{t-1}
                decay[1:].mul_(states[start : stop - 1])
                if start > 0:
                    decay[0].mul_(states[start - 1])
                elif state is not None:
                    decay[0].mul_(state)
                else:
                    decay[0].zero_()
                grad_delta[part] = torch.mul(decay, a, out=grad_h).sum(-2)
                grad_a += decay.mul_(delta[part].unsqueeze(-2)).sum((0, 2)).unsqueeze(1)
            grad_delta += grad_input * u
            return grad_input * delta, grad_delta, grad_a, grad_b, grad_c, None


def selective_scan(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    state: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Selective state space recurrence of Mamba (Gu and Dao 2023), Eq. 5 of the paper, of several streams at once.

    `h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t`, `y_t = C_t h_t`. The input matrix is `delta B`, as mamba_ssm has it;
    Eq. 6 of the paper prints the full zero-order hold, with which no released checkpoint was trained.

    Args:
        u, delta: [streams, batch, time, channels]; delta positive (after softplus).
        A: [streams, channels, state], negative.
        B, C: [streams, batch, time, state].
        state: [streams, batch, state, channels], the state before the first step; zeros when None. No gradient flows into
            it.

    Returns:
        y [streams, batch, time, channels] and the last state [streams, batch, state, channels] (without gradient), in
        float32 or the type of `u`, whichever is wider.
    """
    dtype = torch.promote_types(u.dtype, torch.float32)
    u, delta, A, B, C = (tensor.to(dtype) for tensor in (u, delta, A, B, C))
    if _cuda_selective_scan is not None and u.is_cuda and state is None:
        streams, channels, num_states = A.shape
        # one call: the streams' channels side by side, a group of B and C for each
        y, last = _cuda_selective_scan(
            *(tensor.permute(1, 0, 3, 2).flatten(1, 2).contiguous() for tensor in (u, delta)),
            A.flatten(0, 1).contiguous(),
            *(tensor.permute(1, 0, 3, 2).contiguous() for tensor in (B, C)),
            return_last_state=True,
        )
        y, last = y.unflatten(1, (streams, channels)), last.unflatten(1, (streams, channels))
        return y.permute(1, 0, 3, 2), last.permute(1, 0, 3, 2)
    with torch.autocast(device_type=u.device.type, enabled=False):
        time_first = [tensor.permute(2, 0, 1, 3) for tensor in (u, delta, B, C)]
        arguments = (*time_first[:2], A.mT.unsqueeze(1).contiguous(), *time_first[2:], state)
        needs_grad = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (u, delta, A, B, C))
        y, last = _SelectiveScan.apply(*arguments) if needs_grad else _scan_forward(*arguments, keep_states=False)[:2]
    return y.permute(1, 2, 0, 3), last


class MambaWeights(NamedTuple):
    """The small weights of several Mambas behind each other, so that what is not a large product is done for all at once."""

    conv: torch.Tensor  # [streams, 1, kernel, inner]
    conv_bias: torch.Tensor  # [streams, 1, 1, inner]
    x_proj: torch.Tensor  # [streams, 1, inner, rank + 2 * state]
    dt_proj: torch.Tensor  # [streams, 1, rank, inner]
    dt_bias: torch.Tensor  # [streams, 1, 1, inner]
    A: torch.Tensor  # [streams, inner, state], float32 or wider
    D: torch.Tensor  # [streams, 1, 1, inner]
    in_proj: torch.Tensor | None = None  # [streams, hidden, 2 * inner], of small models without gradients
    out_proj: torch.Tensor | None = None  # [streams, inner, hidden]


class Mamba(nn.Module):
    """Selective state space layer with the parameter names and shapes of mamba_ssm's `Mamba`."""

    def __init__(self, config: MegaDanceConfig):
        super().__init__()
        inner, state, rank = config.inner_size, config.state_size, config.time_step_rank
        self.in_proj = Linear(config.hidden_size, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, config.conv_kernel, groups=inner, padding=config.conv_kernel - 1)
        self.x_proj = nn.Linear(inner, rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.empty(inner, state))
        self.D = nn.Parameter(torch.empty(inner))
        self.out_proj = Linear(inner, config.hidden_size, bias=False)

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

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """[batch, time, hidden] -> same."""
        return run_mambas([self], hidden_states[None])[0]


def mamba_weights(mambas: Sequence[Mamba], projections: bool = False) -> MambaWeights:
    """Collect the small weights; gradients flow back to each. Where none are wanted, in float32, whatever the model is in:
    rounding to bfloat16 after each small operation costs more time than it saves.

    `projections`: also the large ones, a second time in memory.
    """

    def stack(of: Callable[[Mamba], torch.Tensor]) -> torch.Tensor:
        stacked = torch.stack([of(mamba) for mamba in mambas])
        return stacked if torch.is_grad_enabled() else stacked.float()

    return MambaWeights(
        stack(lambda mamba: mamba.conv1d.weight[:, 0].t())[:, None],
        stack(lambda mamba: mamba.conv1d.bias)[:, None, None],
        stack(lambda mamba: dense_weight(mamba.x_proj).t())[:, None],
        stack(lambda mamba: dense_weight(mamba.dt_proj).t())[:, None],
        stack(lambda mamba: mamba.dt_proj.bias)[:, None, None],
        -torch.exp(stack(lambda mamba: mamba.A_log).float()),
        stack(lambda mamba: mamba.D)[:, None, None],
        torch.stack([mamba.in_proj.weight.t() for mamba in mambas]) if projections else None,
        torch.stack([mamba.out_proj.weight.t() for mamba in mambas]) if projections else None,
    )


def run_mambas(
    mambas: Sequence[Mamba],
    x: torch.Tensor,
    conv: torch.Tensor | None = None,
    ssm: torch.Tensor | None = None,
    weights: MambaWeights | None = None,
) -> torch.Tensor:
    """Several Mambas, each on its own stream: [streams, batch, time, hidden] -> same.

    Args:
        conv: [streams, batch, kernel - 1, inner], the convolutions' last inputs, overwritten.
        ssm: [streams, batch, state, inner], the states, overwritten.
        weights: `mamba_weights(mambas)`, when they are known already.
    """
    weights = weights or mamba_weights(mambas)
    projected = _project([mamba.in_proj for mamba in mambas], weights.in_proj, x)
    mixed = mix(projected, weights, conv, ssm)
    return _project([mamba.out_proj for mamba in mambas], weights.out_proj, mixed)


def _project(layers: Sequence[nn.Module], weight: torch.Tensor | None, x: torch.Tensor) -> torch.Tensor:
    """Each stream through its layer."""
    if weight is None:
        return torch.stack([layer(stream) for layer, stream in zip(layers, x.unbind(0), strict=True)])
    return torch.bmm(x.flatten(1, 2), weight).unflatten(1, x.shape[1:3])


def mix(
    projected: torch.Tensor, weights: MambaWeights, conv: torch.Tensor | None = None, ssm: torch.Tensor | None = None
) -> torch.Tensor:
    """What lies between the two large products: [streams, batch, time, 2 * inner] -> [streams, batch, time, inner]."""
    u, gate = projected.to(weights.D.dtype).chunk(2, dim=-1)
    u = F.silu(convolve(u, weights.conv, weights.conv_bias, conv))
    rank, states = weights.dt_proj.shape[2], weights.A.shape[2]
    dt, b, c = torch.matmul(u, weights.x_proj).split((rank, states, states), dim=-1)
    delta = F.softplus((torch.matmul(dt, weights.dt_proj) + weights.dt_bias).float())
    y, last = selective_scan(u, delta, weights.A, b, c, ssm)
    if ssm is not None:
        ssm.copy_(last)
    return (torch.addcmul(y, u, weights.D) * F.silu(gate)).to(projected.dtype)


def convolve(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, history: torch.Tensor | None = None
) -> torch.Tensor:
    """Causal depthwise convolution of [streams, batch, time, inner]. Shifted products: on a CPU three times faster than conv1d.

    `history` [streams, batch, kernel - 1, inner] is what came before, overwritten; zeros when None.
    """
    steps, width = x.shape[2], weight.shape[2]
    padded = F.pad(x, (0, 0, width - 1, 0)) if history is None else torch.cat((history, x), dim=2)
    if history is not None:
        history.copy_(padded[:, :, padded.shape[2] - (width - 1) :].detach())
    if steps == 1:
        return (padded * weight).sum(2, keepdim=True) + bias
    y = bias
    for shift in range(width):
        y = torch.addcmul(y, padded[:, :, shift : shift + steps], weight[:, :, shift : shift + 1])
    return y
