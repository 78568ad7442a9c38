"""The selective scan of Mamba (Gu and Dao 2023; paper, Eq. 5): mamba_ssm's kernel where it is installed, torch everywhere else."""

import math

import torch
from torch.autograd.function import once_differentiable

try:  # the extra `cuda`: compiled kernels, importable only where there is a GPU
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn as _cuda_selective_scan
except Exception:  # a half-installed mamba_ssm fails in many ways; the torch scan below always works
    _cuda_selective_scan = None

# Elements of [chunk, ..., state, channels] that are computed at once: few enough for a cache of the processor, many enough to pay for
# the call. Only one fused multiply-add per time step is sequential.
_CHUNK_ELEMENTS = 2**18


def _chunks(steps: int, elements_per_step: int) -> list[tuple[int, int]]:
    size = max(1, _CHUNK_ELEMENTS // max(1, elements_per_step))
    return [(start, min(start + size, steps)) for start in range(0, steps, size)]


def _scan_forward(u, delta, a, b, c, state, keep_states):
    """h_t = exp(delta_t A) h_{t-1} + (delta_t u_t) B_t;  y_t = C_t h_t.

    Time first: u, delta [time, ..., channels], a [..., state, channels], b, c [time, ..., state].
    """
    steps, num_states = u.shape[0], a.shape[-2]
    shape = (*u.shape[1:-1], num_states, u.shape[-1])
    y = torch.empty_like(u)
    states = u.new_empty(steps, *shape) if keep_states else None
    h = u.new_zeros(shape) if state is None else state
    for start, stop in _chunks(steps, math.prod(shape)):
        decay = (delta[start:stop].unsqueeze(-2) * a).exp_()  # [chunk, ..., state, channels]
        target = states[start:stop] if keep_states else torch.empty_like(decay)
        torch.mul((delta[start:stop] * u[start:stop]).unsqueeze(-2), b[start:stop].unsqueeze(-1), out=target)
        for now, factor in zip(target.unbind(0), decay.unbind(0), strict=True):
            h = now.addcmul_(factor, h)
        y[start:stop] = torch.matmul(c[start:stop].unsqueeze(-2), target).squeeze(-2)
    return y, h, states


def _scan_backward(u, delta, a, b, c, state, states, grad_y):
    """Gradients of u, delta, a, b and c, written by hand: a time loop under autograd would record five nodes per step."""
    grad_input, grad_delta = torch.empty_like(u), torch.empty_like(delta)
    grad_a, grad_b, grad_c = torch.zeros_like(a), torch.empty_like(b), torch.empty_like(c)
    carry = None  # decay_{t+1} * dL/dh_{t+1}
    for start, stop in reversed(_chunks(u.shape[0], states[0].numel())):
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
        grad_a += decay.mul_(delta[part].unsqueeze(-2)).sum(0).sum_to_size(a.shape)
    grad_delta += grad_input * u
    return grad_input * delta, grad_delta, grad_a, grad_b, grad_c


class _SelectiveScan(torch.autograd.Function):
    """The scan with its backward pass."""

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
        with torch.autocast(device_type=grad_y.device.type, enabled=False):
            return *_scan_backward(*ctx.saved_tensors, grad_y), None


# `torch.compile` would unroll the loop over time, with thousands of operations in a model. As operators of its own it stays whole.


@torch.library.custom_op("megadance::selective_scan", mutates_args=())
def _scan_operator(
    u: torch.Tensor,
    delta: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    state: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    y, h, states = _scan_forward(u, delta, a, b, c, state, keep_states=True)
    return y, h.clone(), states


@_scan_operator.register_fake
def _(u, delta, a, b, c, state):
    shape = (*u.shape[1:-1], a.shape[-2], u.shape[-1])
    return torch.empty_like(u), u.new_empty(shape), u.new_empty(u.shape[0], *shape)


@torch.library.custom_op("megadance::selective_scan_backward", mutates_args=())
def _backward_operator(
    u: torch.Tensor,
    delta: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    state: torch.Tensor | None,
    states: torch.Tensor,
    grad_y: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    return _scan_backward(u, delta, a, b, c, state, states, grad_y)


@_backward_operator.register_fake
def _(u, delta, a, b, c, state, states, grad_y):
    return tuple(map(torch.empty_like, (u, delta, a, b, c)))


def _save(ctx, inputs, output):
    ctx.save_for_backward(*inputs, output[2])


_scan_operator.register_autograd(
    lambda ctx, grad_y, *_: (*_backward_operator(*ctx.saved_tensors, grad_y), None), setup_context=_save
)


def selective_scan(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    state: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Selective state space recurrence: `h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t`, `y_t = C_t h_t`.

    The input matrix is `delta B`, as mamba_ssm has it; Eq. 5 leaves the discretisation open.

    Args:
        u, delta: [..., time, channels]; delta positive (after softplus).
        A: [channels, state], negative; with leading dimensions where several scans are computed at once.
        B, C: [..., time, state].
        state: [..., state, channels], the state before the first step; zeros when None. No gradient flows into it.

    Returns:
        y [..., time, channels] and the last state [..., state, channels] (without gradient), in float32 or the type of `u`, whichever
        is wider.
    """
    dtype = torch.promote_types(u.dtype, torch.float32)
    u, delta, A, B, C = (tensor.to(dtype) for tensor in (u, delta, A, B, C))
    compiling = torch.compiler.is_compiling()  # mamba_ssm's kernel can't be part of a graph
    if _cuda_selective_scan is not None and u.is_cuda and state is None and A.dim() == 2 and not compiling:
        u, delta, B, C = (tensor.mT.contiguous() for tensor in (u, delta, B, C))
        y, last = _cuda_selective_scan(u, delta, A.contiguous(), B, C, return_last_state=True)
        return y.mT, last.mT
    with torch.autocast(device_type=u.device.type, enabled=False):
        u, delta, B, C = (tensor.movedim(-2, 0) for tensor in (u, delta, B, C))
        arguments = (u, delta, A.mT.contiguous(), B, C, state)
        if compiling:
            y, last, _ = _scan_operator(*arguments)
            return y.movedim(0, -2), last
        needs_grad = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (u, delta, A, B, C))
        y, last = _SelectiveScan.apply(*arguments) if needs_grad else _scan_forward(*arguments, keep_states=False)[:2]
    return y.movedim(0, -2), last
