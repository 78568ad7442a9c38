"""The selective scan of Mamba (Gu and Dao 2023; paper, Eq. 5): a kernel where one serves, torch everywhere else.

Torch has two ways. A CPU takes one step after the other, in pieces that stay in its cache. On everything else a step is too little
work for a launch, and a compiler would unroll thousands: there pairs of steps are joined, then pairs of pairs, and so on, in a number
of operations that grows with the logarithm of the length.
"""

import math

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable
from transformers.utils.generic import maybe_autocast

from .kernels_megadance import scan_by_kernel, step_by_kernel

# Steps that one compiled kernel takes one after the other.
_BLOCK = 8

# Elements of [chunk, ..., state, channels] that are computed at once: few enough for a cache of the processor, many enough to pay for
# the call. Only one fused multiply-add per time step is sequential.
_CHUNK_ELEMENTS = 2**18


def _chunks(steps: int, elements_per_step: int) -> list[tuple[int, int]]:
    size = max(1, _CHUNK_ELEMENTS // max(1, elements_per_step))
    return [(start, min(start + size, steps)) for start in range(0, steps, size)]


def _scan_pieces(u, delta, a, b, c, state):
    """h_t = exp(delta_t A) h_{t-1} + (delta_t u_t) B_t;  y_t = C_t h_t.

    u, delta [..., time, channels], a [..., state, channels], b, c [..., time, state] -> y as u, and the last state.
    """
    steps, shape = u.shape[-2], (*u.shape[:-2], *a.shape[-2:])
    h = u.new_zeros(shape) if state is None else state
    pieces = []
    for start, stop in _chunks(steps, math.prod(shape)):
        part = slice(start, stop)
        decay = (delta[..., part, :].unsqueeze(-2) * a.unsqueeze(-3)).exp_()  # [..., chunk, state, channels]
        states = (delta[..., part, :] * u[..., part, :]).unsqueeze(-2) * b[..., part, :].unsqueeze(-1)
        for now, factor in zip(states.unbind(-3), decay.unbind(-3), strict=True):
            h = now.addcmul_(factor, h)
        pieces.append(torch.matmul(c[..., part, :].unsqueeze(-2), states).squeeze(-2))
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-2), h


def _scan_keeping_states(u, delta, a, b, c, state):
    """`_scan_pieces` for a backward pass: also all states, [time, ..., state, channels].

    Time first: u, delta [time, ..., channels], a [..., state, channels], b, c [time, ..., state]. The states of a step then lie together,
    and the backward pass goes through them step by step.
    """
    steps, shape = u.shape[0], (*u.shape[1:-1], *a.shape[-2:])
    y, states = torch.empty_like(u), u.new_empty(steps, *shape)
    h = u.new_zeros(shape) if state is None else state
    for start, stop in _chunks(steps, math.prod(shape)):
        part, piece = slice(start, stop), states[start:stop]
        decay = (delta[part].unsqueeze(-2) * a).exp_()  # [chunk, ..., state, channels]
        torch.mul((delta[part] * u[part]).unsqueeze(-2), b[part].unsqueeze(-1), out=piece)
        for now, factor in zip(piece.unbind(0), decay.unbind(0), strict=True):
            h = now.addcmul_(factor, h)
        y[part] = torch.matmul(c[part].unsqueeze(-2), piece).squeeze(-2)
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


class _SequentialScan(torch.autograd.Function):
    """One step after the other, with its backward pass."""

    @staticmethod
    def forward(ctx, u, delta, a, b, c, state):
        # states are kept, decays are not: exp is cheaper than the memory
        y, h, states = _scan_keeping_states(u, delta, a, b, c, state)
        ctx.save_for_backward(u, delta, a, b, c, state, states)
        h = h.clone()
        ctx.mark_non_differentiable(h)
        return y, h

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_y, _):
        with maybe_autocast(grad_y.device.type, enabled=False):
            return *_scan_backward(*ctx.saved_tensors, grad_y), None


# --- in logarithmic depth -------------------------------------------------------------------------------------------------------------


def _joins(steps: int, backwards: bool) -> list[tuple[slice, slice, bool]]:
    """Which steps take in which earlier ones, all of a pair of slices at once, and whether their decays are multiplied as well.

    Up: spans of 1, 2, 4, ... steps take in the span before, so that step 2, 4, 8, ... is done. Down: what lies between takes in the
    step before its span.
    """

    def every(first: int, count: int, stride: int) -> slice:
        if backwards:
            first = steps - 1 - first - stride * (count - 1)
        return slice(first, first + stride * (count - 1) + 1, stride)

    joins, span = [], 1
    while 2 * span <= steps:
        count = steps // (2 * span)
        # the first span has no other before it: the product of its decays is never asked for
        joins.append((every(2 * span - 1, count, 2 * span), every(span - 1, count, 2 * span), count > 1))
        span *= 2
    while span > 1:
        span //= 2
        count = (steps - span) // (2 * span)
        if count > 0:
            joins.append((every(3 * span - 1, count, 2 * span), every(2 * span - 1, count, 2 * span), False))
    return joins


def _accumulate(decay: torch.Tensor, h: torch.Tensor, backwards: bool = False) -> torch.Tensor:
    """h_t + decay_t h_{t-1} for all t [..., time, state, channels], or h_t + decay_t h_{t+1}; both are overwritten. Only products of
    decays up to 1, and sums: nothing can overflow, and nothing is divided."""
    if torch.compiler.is_compiling():
        return _accumulate_blocks(decay.flip(-3), h.flip(-3)).flip(-3) if backwards else _accumulate_blocks(decay, h)
    for target, source, has_more in _joins(h.shape[-3], backwards):
        factor = decay[..., target, :, :]
        h[..., target, :, :].addcmul_(factor, h[..., source, :, :])
        if has_more:
            factor.mul_(decay[..., source, :, :])
    return h


def _accumulate_blocks(decay: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """The same without overwriting. Of changes to every second step a compiler makes a pass over all of them; the steps of a block
    become one kernel instead, which computes even their decays anew rather than reading them."""
    steps = h.shape[-3]
    if steps <= _BLOCK:
        return torch.stack(_chain(decay.unbind(-3), h.unbind(-3), None), dim=-3)
    blocks = -(-steps // _BLOCK)
    padding = (0, 0, 0, 0, 0, blocks * _BLOCK - steps)
    decays, hs = (F.pad(tensor, padding).unflatten(-3, (blocks, _BLOCK)).unbind(-3) for tensor in (decay, h))
    product = decays[0]
    for factor in decays[1:]:
        product = product * factor
    ends = _accumulate_blocks(product, _chain(decays, hs, None)[-1])
    before = F.pad(ends[..., :-1, :, :], (0, 0, 0, 0, 1, 0))
    return torch.stack(_chain(decays, hs, before), dim=-3).flatten(-4, -3)[..., :steps, :, :]


def _chain(decays, hs, before):
    """One step after the other; `before` is what comes before the first, if anything does."""
    states = []
    for decay, h in zip(decays, hs, strict=True):
        before = h if before is None else torch.addcmul(h, decay, before)
        states.append(before)
    return states


def _parallel_forward(u, delta, a, b, c, state):
    """u, delta [..., time, channels], a [..., state, channels], b, c [..., time, state] -> y as u, and the states of all steps
    [..., time, state, channels]."""
    decay = (delta.unsqueeze(-2) * a.unsqueeze(-3)).exp()
    h = (delta * u).unsqueeze(-2) * b.unsqueeze(-1)
    if state is not None:
        h[..., 0, :, :].addcmul_(decay[..., 0, :, :], state)
    h = _accumulate(decay, h)
    return torch.matmul(c.unsqueeze(-2), h).squeeze(-2), h


class _ParallelScan(torch.autograd.Function):
    """In logarithmic depth, with its backward pass, which goes from the last step to the first in the same way."""

    @staticmethod
    def forward(ctx, u, delta, a, b, c, state):
        y, states = _parallel_forward(u, delta, a, b, c, state)
        ctx.save_for_backward(u, delta, a, b, c, state, states)
        last = states[..., -1, :, :].clone()
        ctx.mark_non_differentiable(last)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_y, _):
        u, delta, a, b, c, state, states = ctx.saved_tensors
        with maybe_autocast(grad_y.device.type, enabled=False):
            # nothing follows the last step: its decay there is never used
            following = torch.cat((delta[..., 1:, :], delta[..., :1, :]), dim=-2)
            grad_h = _accumulate(
                (following.unsqueeze(-2) * a.unsqueeze(-3)).exp(),
                grad_y.unsqueeze(-2) * c.unsqueeze(-1),
                backwards=True,
            )
            grad_c = torch.matmul(states, grad_y.unsqueeze(-1)).squeeze(-1)
            grad_b = torch.matmul(grad_h, (delta * u).unsqueeze(-1)).squeeze(-1)
            grad_input = torch.matmul(b.unsqueeze(-2), grad_h).squeeze(-2)
            first = torch.zeros_like(states[..., 0, :, :]) if state is None else state
            before = torch.cat((first.unsqueeze(-3), states[..., :-1, :, :]), dim=-3)
            # dL/d(delta A) = grad_h * decay * h_{t-1}
            grad_exponent = grad_h * (delta.unsqueeze(-2) * a.unsqueeze(-3)).exp() * before
            grad_delta = (grad_exponent * a.unsqueeze(-3)).sum(-2) + grad_input * u
            grad_a = (grad_exponent * delta.unsqueeze(-2)).sum(-3).sum_to_size(a.shape)
            return grad_input * delta, grad_delta, grad_a, grad_b, grad_c, None


def _goes_step_by_step(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


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
    computed = scan_by_kernel(u, delta, A, B, C, state)
    if computed is not None:
        return computed
    needs_grad = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (u, delta, A, B, C))
    a = A.mT.contiguous()
    with maybe_autocast(u.device.type, enabled=False):
        if not _goes_step_by_step(u):
            if needs_grad:
                return _ParallelScan.apply(u, delta, a, B, C, state)
            y, states = _parallel_forward(u, delta, a, B, C, state)
            return y, states[..., -1, :, :]
        if not needs_grad:
            return _scan_pieces(u, delta, a, B, C, state)
        u, delta, B, C = (tensor.movedim(-2, 0) for tensor in (u, delta, B, C))
        y, last = _SequentialScan.apply(u, delta, a, B, C, state)
    return y.movedim(0, -2), last


def continue_scan(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    state: torch.Tensor,
) -> torch.Tensor:
    """`selective_scan` from a state [..., state, channels] that is overwritten with the last one; returns y [..., time, channels]."""
    if u.shape[-2] == 1:
        y = step_by_kernel(u, delta, A, B, C, state)
        if y is not None:
            return y
    before = state.clone() if torch.is_grad_enabled() else state  # the backward pass needs it
    y, last = selective_scan(u, delta, A, B, C, before)
    state.copy_(last)
    return y
