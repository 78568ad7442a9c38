"""Loops of `compiled_steps.py`, compiled by numba at the first call, which takes seconds; the result is kept on disk.

Indices of matrices are those of `StepWeights`. `rows` are items of the batch (three times as many where the streams are joined).
"""

import numpy as np

try:
    from llvmlite import ir
    from numba import prange, types
    from numba.extending import intrinsic
except ImportError as error:
    raise ImportError("numba is missing, which compiles the code steps of large models; pip install numba") from error

from .compiled import (
    INDEX,
    REAL,
    WORD,
    call_llvm,
    compiled,
    keep,
    read_everywhere,
    read_vector,
    real,
    stored,
    write_vector,
)
from .products import LANES, SMALL, product

_CHANNELS = 256  # channels of the scan that a thread takes at once
_NUMBERS = 2048  # numbers of an activation, the same

_LOG2E = 1.4426950408889634
# 2^f for |f| <= 1/2, to 1e-7 of it (Chebyshev), and erf to 1.5e-7 (Abramowitz and Stegun, 7.1.26)
_EXP2 = (
    1.0000000754548972,
    0.6931471880262273,
    0.2402210748530968,
    0.05550357114222094,
    0.009676031918255982,
    0.001339086336353527,
)
_ATANH = (1.0, 1 / 3, 1 / 5, 1 / 7, 1 / 9, 1 / 11, 1 / 13)
_ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


@compiled(inline="always")
def _exp2(x):
    """2^x for x < 127 in arithmetic that a compiler turns into vectors; a library's it does not."""
    x = max(x, np.float32(-125.0))
    whole = np.floor(x + np.float32(0.5))
    f = x - whole
    power = np.float32(_EXP2[5])
    for k in (4, 3, 2, 1, 0):
        power = power * f + np.float32(_EXP2[k])
    return power * np.uint32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)


@compiled(inline="always")
def _exp(x):
    """e^x for x <= 80."""
    return _exp2(x * np.float32(_LOG2E))


@compiled(inline="always")
def _silu(x):
    return x / (np.float32(1.0) + _exp(min(-x, np.float32(80.0))))


@compiled(inline="always")
def _softplus(x):
    """log(1 + e^x) = max(x, 0) + log(1 + z) with z = e^-|x|, and log(1 + z) = 2 atanh(z / (2 + z)) by its series."""
    z = _exp(-abs(x))
    s = z / (np.float32(2.0) + z)
    square, series = s * s, np.float32(_ATANH[6])
    for k in (5, 4, 3, 2, 1, 0):
        series = series * square + np.float32(_ATANH[k])
    return max(x, np.float32(0.0)) + np.float32(2.0) * s * series


@compiled(inline="always")
def _gelu(x):
    z = abs(x) * np.float32(0.7071067811865476)
    t = np.float32(1.0) / (np.float32(1.0) + np.float32(0.3275911) * z)
    tail = np.float32(_ERF[4])
    for k in (3, 2, 1, 0):
        tail = tail * t + np.float32(_ERF[k])
    return np.float32(0.5) * (x + abs(x) * (np.float32(1.0) - tail * t * _exp(-z * z)))


# Loops over lines are functions of lines: in a loop over rows of a matrix compilers do not always find vectors.


@compiled()
def _normalise_line(x, weight, bias, eps, y):
    size = len(x)
    mean = np.float32(0)
    for k in range(size):
        mean += x[k]
    mean /= size
    spread = np.float32(0)
    for k in range(size):
        spread += (x[k] - mean) * (x[k] - mean)
    factor = np.float32(1 / np.sqrt(spread / size + eps))
    for k in range(size):
        y[k] = (x[k] - mean) * factor * weight[k] + bias[k]


@compiled()
def _activate_line(x):
    for k in range(len(x)):
        x[k] = _gelu(x[k])


@compiled(parallel=True)
def activate(x):
    """GELU of a line, in place."""
    blocks = (len(x) + _NUMBERS - 1) // _NUMBERS
    for block in prange(blocks):
        _activate_line(x[block * _NUMBERS : (block + 1) * _NUMBERS])


@compiled()
def _copy_line(x, y):
    for k in range(len(x)):
        y[k] = x[k]


@compiled()
def _part_streams(x, streams):
    """[rows, streams, time, hidden] -> streams first."""
    for row in range(x.shape[0]):
        for stream in range(x.shape[1]):
            for t in range(x.shape[2]):
                _copy_line(x[row, stream, t], streams[stream, row, t])


@compiled()
def _add_line(x, y):
    for k in range(len(x)):
        y[k] += x[k]


@compiled()
def _add_and_normalise_line(x, norm, eps, y, normed):
    _add_line(x, y)
    _normalise_line(y, norm[0], norm[1], eps, normed)


@compiled(parallel=True)
def _add_and_normalise(x, norm, eps, y, normed):
    """y += x, and the layer norm of that."""
    if x.size <= SMALL:
        for line in range(len(x)):
            _add_and_normalise_line(x[line], norm, eps, y[line], normed[line])
    else:
        for line in prange(len(x)):
            _add_and_normalise_line(x[line], norm, eps, y[line], normed[line])


@compiled()
def _convolve_part(projected, weight, channels, history, u, stream, row, item_row, low):
    steps, inner, width = u.shape[2], u.shape[3], weight.shape[1]
    high = min(low + _CHANNELS, inner)
    count = high - low
    for t in range(steps):
        total, heard = channels[stream, 0, low:high].copy(), u[stream, row, t, low:high]
        for k in range(width):
            tap, source = weight[stream, k, low:high], t + k - (width - 1)
            if source < 0:
                past = history[stream, item_row, width - 1 + source, low:high]
                for c in range(count):
                    total[c] += tap[c] * past[c]
            else:
                new = projected[stream, row, source, low:high]
                for c in range(count):
                    total[c] += tap[c] * new[c]
        for c in range(count):
            heard[c] = _silu(total[c])
    for k in range(width - 1):
        past, source = history[stream, item_row, k, low:high], steps - (width - 1) + k
        for c in range(count):
            if source < 0:
                past[c] = history[stream, item_row, width - 1 + source, low + c]
            else:
                past[c] = projected[stream, row, source, low + c]


@compiled(parallel=True)
def _convolve(projected, weight, channels, history, first_row, u):
    """Causal depthwise convolution, then SiLU, of the first half of [streams, rows, time, 2 * inner]; the history moves on."""
    streams, rows, steps, inner = u.shape
    blocks = (inner + _CHANNELS - 1) // _CHANNELS
    for item in prange(streams * rows * blocks):
        stream, row, low = item // (rows * blocks), item // blocks % rows, item % blocks * _CHANNELS
        _convolve_part(projected, weight, channels, history, u, stream, row, first_row + row, low)


@intrinsic
def _advance(context, channels, states, step, driven, total, rates, h, stride, b, c):
    """For each channel and state: h = 2^(step * rate) * h + driven * b; total += h * c.

    `channels` is a multiple of `LANES`; the others are addresses, of rates and h [states, ...] with lines `stride` bytes apart. With
    the state innermost all else stays in registers; compilers do not see that.
    """

    def code(context, builder, signature, arguments):
        channels, states, step, driven, total, rates, h, stride, b, c = arguments
        index, reals, words = INDEX, *(ir.VectorType(element, LANES) for element in (REAL, WORD))

        def function(name, *arguments):
            return call_llvm(builder, f"llvm.{name}.v{LANES}f32", reals, *arguments)

        def read(address, offset):
            return read_vector(builder, builder.add(address, offset), REAL, LANES)

        def write(value, address, offset):
            write_vector(builder, value, builder.add(address, offset))

        def everywhere(address, which):
            return read_everywhere(builder, builder.add(address, builder.mul(which, index(4))), LANES)

        def exp2(x):
            x = function("maxnum", x, reals([-125.0] * LANES))
            whole = function("rint", x)
            f, power = builder.fsub(x, whole), reals([_EXP2[5]] * LANES)
            for k in (4, 3, 2, 1, 0):
                power = function("fma", power, f, reals([_EXP2[k]] * LANES))
            exponent = builder.shl(builder.fptosi(whole, words), words([23] * LANES))
            return builder.bitcast(builder.add(builder.bitcast(power, words), exponent), reals)

        before = builder.block
        outer, inner, between, after = map(builder.append_basic_block, ("channels", "states", "next", "advanced"))
        builder.branch(outer)
        builder.position_at_end(outer)
        at = builder.phi(index)
        at.add_incoming(index(0), before)
        rate_of_time, input_, so_far = (read(address, at) for address in (step, driven, total))
        builder.branch(inner)
        builder.position_at_end(inner)
        n, place_of, sum_ = builder.phi(index), builder.phi(index), builder.phi(reals)
        for phi, start in ((n, index(0)), (place_of, at), (sum_, so_far)):
            phi.add_incoming(start, outer)
        decay = exp2(builder.fmul(rate_of_time, read(rates, place_of)))
        new = function("fma", decay, read(h, place_of), builder.fmul(input_, everywhere(b, n)))
        write(new, h, place_of)
        more = function("fma", new, everywhere(c, n), sum_)
        for phi, value in ((n, builder.add(n, index(1))), (place_of, builder.add(place_of, stride)), (sum_, more)):
            phi.add_incoming(value, inner)
        builder.cbranch(builder.icmp_signed("<", builder.add(n, index(1)), states), inner, between)
        builder.position_at_end(between)
        write(more, total, at)
        following = builder.add(at, index(4 * LANES))
        at.add_incoming(following, between)
        builder.cbranch(builder.icmp_signed("<", following, builder.mul(channels, index(4))), outer, after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 10), code


@compiled()
def _begin_step(raw, heard, skip, step, driven, total):
    for c in range(len(step)):
        step[c] = _softplus(raw[c])
        driven[c] = step[c] * heard[c]
        total[c] = skip[c] * heard[c]


@compiled()
def _gate_step(total, gate, said):
    for c in range(len(total)):
        said[c] = total[c] * _silu(gate[c])


@compiled()
def _scan_part(u, delta, bc, projected, decay, channels, ssm, y, stream, row, item_row, low):
    steps, inner, states = u.shape[2], u.shape[3], decay.shape[1]
    rank = bc.shape[3] - 2 * states
    high = min(low + _CHANNELS, inner)
    count = high - low
    full = count - count % LANES
    skip = channels[stream, 1, low:high]
    step, driven, total = np.empty(count, np.float32), np.empty(count, np.float32), np.empty(count, np.float32)
    h, rates = ssm[stream, item_row, :, low:high], decay[stream, :, low:high]
    of_time = step.ctypes.data, driven.ctypes.data, total.ctypes.data
    of_state = rates.ctypes.data, h.ctypes.data, inner * h.itemsize
    near = np.empty((2, states, full), np.float32)
    if steps > 1:  # lines a power of two apart push each other out of the cache
        for n in range(states):
            _copy_line(rates[n, :full], near[0, n])
            _copy_line(h[n, :full], near[1, n])
        of_state = near[0].ctypes.data, near[1].ctypes.data, full * near.itemsize
    for t in range(steps):
        heard, raw, factors = u[stream, row, t, low:high], delta[stream, row, t, low:high], bc[stream, row, t, rank:]
        _begin_step(raw, heard, skip, step, driven, total)
        if full > 0:
            b = factors.ctypes.data
            _advance(full, states, *of_time, *of_state, b, b + states * factors.itemsize)
        for n in range(states):
            for c in range(full, count):
                h[n, c] = _exp2(step[c] * rates[n, c]) * h[n, c] + driven[c] * factors[n]
                total[c] += h[n, c] * factors[states + n]
        _gate_step(total, projected[stream, row, t, inner + low : inner + high], y[stream, row, t, low:high])
    if steps > 1:
        for n in range(states):
            _copy_line(near[1, n], h[n, :full])
    keep(near)


@compiled(parallel=True)
def _scan(u, delta, bc, projected, decay, channels, ssm, first_row, y):
    """The recurrence of [streams, rows, time, inner], with softplus before and the gate after it."""
    streams, rows, steps, inner = u.shape
    blocks = (inner + _CHANNELS - 1) // _CHANNELS
    for item in prange(streams * rows * blocks):
        stream, row, low = item // (rows * blocks), item // blocks % rows, item % blocks * _CHANNELS
        _scan_part(u, delta, bc, projected, decay, channels, ssm, y, stream, row, first_row + row, low)


@compiled()
def _attend_head(query, key, value, keys, values, first_row, position, row, head, result):
    streams, steps = key.shape[1:3]
    context, size = keys.shape[2], keys.shape[4]
    past, asked = min(position, context), query.shape[2]
    scale = np.float32(1 / np.sqrt(size))
    at = head * size
    ring, store = keys[first_row + row, head], values[first_row + row, head]
    both = np.empty((2, (past + steps) * streams, size), np.float32)
    known, worth = both[0], both[1]
    for place in range(past * streams):
        slot, stream = (position - past + place // streams) % context, place % streams
        old, other, line, weighed = ring[slot, stream], store[slot, stream], known[place], worth[place]
        for k in range(size):
            line[k] = real(old[k])
        for k in range(size):
            weighed[k] = real(other[k])
    for t in range(steps):
        for stream in range(streams):
            place, slot = (past + t) * streams + stream, (position + t) % context
            new, other = key[row, stream, t, at : at + size], value[row, stream, t, at : at + size]
            line, weighed, old, older = known[place], worth[place], ring[slot, stream], store[slot, stream]
            for k in range(size):
                line[k], weighed[k] = new[k], other[k]
                old[k], older[k] = stored(new[k], old), stored(other[k], older)
    asking, score = np.empty((3, size), np.float32), np.empty((3, context * streams), np.float32)
    highest = np.empty(3, np.float32)
    for t in range(asked):
        now = past + steps - asked + t
        low = max(0, now + 1 - context) * streams
        count = (now + 1) * streams - low
        for stream in range(streams):
            new = query[row, stream, t, at : at + size]
            for k in range(size):
                asking[stream, k] = new[k] * scale
        first, second, third = asking[0], asking[1], asking[2]
        highest[:] = -np.inf
        for place in range(count):
            line = known[low + place]
            a = b = c = np.float32(0)
            for k in range(size):
                a += first[k] * line[k]
                b += second[k] * line[k]
                c += third[k] * line[k]
            score[0, place], score[1, place], score[2, place] = a, b, c
            highest[0], highest[1], highest[2] = max(highest[0], a), max(highest[1], b), max(highest[2], c)
        for stream in range(streams):
            share, said = score[stream, :count], np.zeros(size, np.float32)
            most, total = highest[stream], np.float32(0)
            for place in range(count):
                share[place] = _exp(share[place] - most)
            for place in range(count):
                total += share[place]
            for place in range(count):
                line, weight = worth[low + place], share[place] / total
                for k in range(size):
                    said[k] += weight * line[k]
            answer = result[row, stream, t, at : at + size]
            for k in range(size):
                answer[k] = said[k]


@compiled(parallel=True)
def _attend(query, key, value, keys, values, first_row, position, result):
    """Attention with a sliding window of new positions, [rows, streams, time, hidden], over themselves and those in the ring of keys and
    values, into which the new ones are written. Of the queries only the last ones may be given.
    """
    heads = keys.shape[1]
    for item in prange(len(key) * heads):
        _attend_head(query, key, value, keys, values, first_row, position, item // heads, item % heads, result)


@compiled()
def _join_line(x, mixed, norms, eps, out, normed, row, stream, t):
    streams, steps, hidden = x.shape[1:]
    first = steps - out.shape[2]
    old, new = x[row, stream, t], mixed[stream, row * steps + t]
    both = np.empty((2, hidden), np.float32)
    line, norm = both[0], norms[stream]
    for k in range(hidden):
        line[k] = old[k] + new[k]
    _normalise_line(line, norm[0], norm[1], eps, both[1])
    if t >= first:
        _copy_line(both[1], out[row, stream, t - first])
    _normalise_line(both[1], norms[3, 0], norms[3, 1], eps, normed[row, stream, t])


@compiled(parallel=True)
def _join_mambas(x, mixed, norms, eps, out, normed):
    """The norm of its stream of x + mixed, of the last positions only, and of all positions the attention's norm of that.

    x, out, normed: [rows, streams, time, hidden]; mixed: [streams, rows * time, hidden].
    """
    rows, streams, steps, _ = x.shape
    for item in prange(rows * streams * steps):
        _join_line(x, mixed, norms, eps, out, normed, item // (streams * steps), item // steps % streams, item % steps)


@compiled()
def expert(kind, addresses, outputs, scales, conv_weight, decay, channels, norms, biases, eps, threads, x, conv, ssm, keys, values, first_row, position, out):  # fmt: skip
    """An expert: [rows, 3, time, hidden] -> same, or the last positions; its states are written in place."""
    zero = outputs[0]  # numbers known at compile time would have each function compiled anew for each of them
    rows, _, steps, hidden = x.shape
    kept, inner = out.shape[2], conv_weight.shape[2]
    weights = kind, addresses, outputs, scales, biases
    count, asked, middle = rows * steps, 3 * rows * kept, outputs[17] - outputs[16]

    streams, mixed = np.empty((3, rows, steps, hidden), np.float32), np.empty((3, count, hidden), np.float32)
    projected, heard = np.empty((3, rows, steps, 2 * inner), np.float32), np.empty((3, rows, steps, inner), np.float32)
    u, delta = np.empty((3, rows, steps, inner), np.float32), np.empty((3, rows, steps, inner), np.float32)
    bc = np.empty((3, rows, steps, outputs[4] - outputs[3]), np.float32)
    rank = bc.shape[3] - 2 * decay.shape[1]
    dt = np.zeros(
        (3, count, bc.shape[3]), np.float32
    )  # as wide as the weights; without B and C, which would coarsen its rounding
    _part_streams(x, streams)
    of_all = streams.reshape(3, count, hidden)
    product(*weights, zero, of_all, threads, projected.reshape(3, count, 2 * inner))
    _convolve(projected, conv_weight, channels, conv, first_row, u)
    flat, small = u.reshape(3, count, inner), bc.reshape(3, count, bc.shape[3])
    product(*weights, zero + 3, flat, threads, small)
    for stream in range(3):
        for line in range(count):
            _copy_line(small[stream, line, :rank], dt[stream, line, :rank])
    product(*weights, zero + 6, dt, threads, delta.reshape(3, count, inner))
    _scan(u, delta, bc, projected, decay, channels, ssm, first_row, heard)
    flat = heard.reshape(3, count, inner)
    product(*weights, zero + 9, flat, threads, mixed)
    normed = streams.reshape(rows, 3, steps, hidden)  # done with these
    _join_mambas(x, mixed, norms, eps, out, normed)

    qkv = np.empty((3, 3 * count, hidden), np.float32)
    product(*weights, zero + 12, normed.reshape(1, 3 * count, hidden), threads, qkv)
    query, key, value = (
        qkv[0].reshape(rows, 3, steps, hidden),
        qkv[1].reshape(rows, 3, steps, hidden),
        qkv[2].reshape(rows, 3, steps, hidden),
    )
    if kept < steps:
        query = query[:, :, steps - kept :].copy()
    now, lines = out.reshape(asked, hidden), np.empty((1, asked, hidden), np.float32)
    more = np.empty((1, asked, hidden), np.float32)
    _attend(query, key, value, keys, values, first_row, position, lines.reshape(rows, 3, kept, hidden))
    product(*weights, zero + 15, lines, threads, more)
    _add_and_normalise(more[0], norms[4], eps, now, lines[0])

    wide = np.empty((1, asked, middle), np.float32)
    product(*weights, zero + 16, lines, threads, wide)
    activate(wide.reshape(wide.size))
    product(*weights, zero + 17, wide, threads, more)
    _add_line(more.reshape(more.size), now.reshape(now.size))


__all__ = ["expert"]
