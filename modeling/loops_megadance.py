"""Loops of `kernels_megadance.py`, compiled by numba at the first call, which takes seconds; the result is kept on disk.

Indices of matrices are those of `StepWeights`. `rows` are items of the batch (three times as many where the streams are joined).
"""

import numpy as np

try:
    import numba
    from numba import prange
    from numba.extending import overload
except ImportError as error:
    raise ImportError("numba is missing, which compiles the code steps of large models; pip install numba") from error

from .compiled_megadance import compiled, real, stored, stored_as
from .products_megadance import product

_CHANNELS = 256  # channels of the scan that a thread takes at once
_NUMBERS = 2048  # numbers of an activation, the same

_LOG2E = 1.4426950408889634
# 2^f for |f| <= 1/2, to 4e-9 of it (Taylor), and erf to 1.5e-7 (Abramowitz and Stegun, 7.1.26)
_EXP2 = (1.0, 0.693147180559, 0.240226506959, 0.0555041086648, 0.0096181291076, 0.0013333558146, 0.000154035303933)
_ATANH = (1.0, 1 / 3, 1 / 5, 1 / 7, 1 / 9, 1 / 11, 1 / 13)
_ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


@compiled(inline="always")
def _exp(x):
    """e^x for x <= 80 in arithmetic that a compiler turns into vectors; a library's it does not."""
    scaled = max(x, np.float32(-87.0)) * np.float32(_LOG2E)
    whole = np.floor(scaled + np.float32(0.5))
    f = scaled - whole
    power = np.float32(_EXP2[6])
    for k in (5, 4, 3, 2, 1, 0):
        power = power * f + np.float32(_EXP2[k])
    return power * np.uint32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)


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
        y[k] = stored((x[k] - mean) * factor * weight[k] + bias[k], y)


@compiled()
def _normalise(x, norm, eps, first, every, y):
    """Layer norm of rows `first`, `first + every`, ..."""
    for row in range(first, x.shape[0], every):
        _normalise_line(x[row], norm[0], norm[1], eps, y[row])


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
def _gather(x, first, every, y):
    """Rows `first`, `first + every`, ... of x."""
    for row in range(y.shape[0]):
        for k in range(y.shape[1]):
            y[row, k] = x[first + every * row, k]


@compiled()
def _add(x, first, every, y):
    """Add x to the rows `first`, `first + every`, ... of y."""
    for row in range(x.shape[0]):
        for k in range(x.shape[1]):
            y[first + every * row, k] += x[row, k]


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
                new = projected[stream][row, source, low:high]
                for c in range(count):
                    total[c] += tap[c] * real(new[c])
        for c in range(count):
            heard[c] = _silu(total[c])
    for k in range(width - 1):
        past, source = history[stream, item_row, k, low:high], steps - (width - 1) + k
        for c in range(count):
            if source < 0:
                past[c] = history[stream, item_row, width - 1 + source, low + c]
            else:
                past[c] = real(projected[stream][row, source, low + c])


@compiled(parallel=True)
def convolve(projected, weight, channels, history, first_row, u):
    """Causal depthwise convolution, then SiLU, of the first half of [rows, time, 2 * inner] of each stream; the history moves on."""
    streams, rows, steps, inner = u.shape
    blocks = (inner + _CHANNELS - 1) // _CHANNELS
    for item in prange(streams * rows * blocks):
        stream, row, low = item // (rows * blocks), item // blocks % rows, item % blocks * _CHANNELS
        _convolve_part(projected, weight, channels, history, u, stream, row, first_row + row, low)


@compiled()
def _scan_part(u, delta, bc, projected, decay, channels, ssm, y, stream, row, item_row, low):
    steps, inner, states = u.shape[2], u.shape[3], decay.shape[1]
    rank = bc.shape[3] - 2 * states
    high = min(low + _CHANNELS, inner)
    count = high - low
    dt_bias, skip = channels[stream, 1, low:high], channels[stream, 2, low:high]
    step, driven, total = np.empty(count, np.float32), np.empty(count, np.float32), np.empty(count, np.float32)
    for t in range(steps):
        heard, raw = u[stream, row, t, low:high], delta[stream, row, t, low:high]
        for c in range(count):
            step[c] = _softplus(raw[c] + dt_bias[c])
            driven[c] = step[c] * heard[c]
            total[c] = skip[c] * heard[c]
        for n in range(states):
            b, out = bc[stream, row, t, rank + n], bc[stream, row, t, rank + states + n]
            h, rate = ssm[stream, item_row, n, low:high], decay[stream, n, low:high]
            for c in range(count):
                new = _exp(step[c] * rate[c]) * h[c] + driven[c] * b
                h[c] = new
                total[c] += new * out
        gate, said = projected[stream][row, t, inner + low : inner + high], y[stream, row, t, low:high]
        for c in range(count):
            said[c] = stored(total[c] * _silu(real(gate[c])), said)


@compiled(parallel=True)
def scan(u, delta, bc, projected, decay, channels, ssm, first_row, y):
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
                line[k], weighed[k] = real(new[k]), real(other[k])
                old[k], older[k] = stored_as(new[k], old), stored_as(other[k], older)
    asking, score = np.empty((3, size), np.float32), np.empty((3, context * streams), np.float32)
    for t in range(asked):
        now = past + steps - asked + t
        low = max(0, now + 1 - context) * streams
        count = (now + 1) * streams - low
        for stream in range(streams):
            new = query[row, stream, t, at : at + size]
            for k in range(size):
                asking[stream, k] = real(new[k]) * scale
        first, second, third = asking[0], asking[1], asking[2]
        for place in range(count):
            line = known[low + place]
            a = b = c = np.float32(0)
            for k in range(size):
                a += first[k] * line[k]
                b += second[k] * line[k]
                c += third[k] * line[k]
            score[0, place], score[1, place], score[2, place] = a, b, c
        for stream in range(streams):
            share, said = score[stream, :count], np.zeros(size, np.float32)
            highest, total = share.max(), np.float32(0)
            for place in range(count):
                share[place] = _exp(share[place] - highest)
            for place in range(count):
                total += share[place]
            for place in range(count):
                line, weight = worth[low + place], share[place] / total
                for k in range(size):
                    said[k] += weight * line[k]
            answer = result[row, stream, t, at : at + size]
            for k in range(size):
                answer[k] = stored(said[k], answer)


@compiled(parallel=True)
def attend(query, key, value, keys, values, first_row, position, result):
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
    old, new = x[row, stream, t], mixed[stream][row * steps + t]
    line = np.empty((1, hidden), np.float32)
    for k in range(hidden):
        line[0, k] = real(old[k]) + real(new[k])
    _normalise(line, norms[stream], eps, 0, 1, line)
    if t >= first:
        out[row, stream, t - first] = line[0]
    _normalise(line, norms[3], eps, 0, 1, normed[row, stream, t : t + 1])


@compiled(parallel=True)
def join_mambas(x, mixed, norms, eps, out, normed):
    """The norm of its stream of x + mixed, of the last positions only, and of all positions the attention's norm of that.

    x, out, normed: [rows, streams, time, hidden]; mixed: [rows * time, hidden] of each stream.
    """
    rows, streams, steps, _ = x.shape
    for item in prange(rows * streams * steps):
        _join_line(x, mixed, norms, eps, out, normed, item // (streams * steps), item // steps % streams, item % steps)


@compiled()
def expert(kind, addresses, outputs, scales, conv_weight, decay, channels, norms, biases, eps, machine, x, conv, ssm, keys, values, first_row, position, out):  # fmt: skip
    zero = outputs[0]  # numbers known at compile time would have each function compiled anew for each of them
    one, hidden = zero + 1, x.shape[1]
    rows = x.shape[0] // 3
    inner = conv_weight.shape[2]
    none = biases[:0]
    streams, mixed = np.empty((3, rows, hidden), np.float32), np.empty((3, rows, hidden), np.float32)
    projected, heard = np.empty((3, rows, 1, 2 * inner), np.float32), np.empty((3, rows, 1, inner), np.float32)
    u, delta = np.empty((3, rows, 1, inner), np.float32), np.empty((3, rows, 1, inner), np.float32)
    bc = np.empty((3, rows, 1, outputs[4] - outputs[3]), np.float32)
    dt = np.empty((3, rows, bc.shape[3] - 2 * decay.shape[1]), np.float32)
    for stream in range(3):
        _gather(x, stream, zero + 3, streams[stream])
    product(kind, addresses, outputs, scales, zero, none, streams, machine, projected.reshape(3, rows, 2 * inner))
    of_each = projected[0], projected[1], projected[2]
    convolve(of_each, conv_weight, channels, conv, first_row, u)
    flat = bc.reshape(3, rows, bc.shape[3])
    product(kind, addresses, outputs, scales, zero + 3, none, u.reshape(3, rows, inner), machine, flat)
    for stream in range(3):
        _gather(flat[stream], zero, one, dt[stream])
    product(kind, addresses, outputs, scales, zero + 6, none, dt, machine, delta.reshape(3, rows, inner))
    scan(u, delta, bc, of_each, decay, channels, ssm, first_row, heard)
    product(kind, addresses, outputs, scales, zero + 9, none, heard.reshape(3, rows, inner), machine, mixed)
    _gather(x, zero, one, out)
    for stream in range(3):
        _add(mixed[stream], stream, zero + 3, out)
        _normalise(out, norms[stream], eps, stream, zero + 3, out)

    # query, key, value
    qkv = np.empty((3, 3 * rows, hidden), np.float32)
    normed = np.empty((1, 3 * rows, hidden), np.float32)
    _normalise(out, norms[3], eps, zero, one, normed[0])
    product(kind, addresses, outputs, scales, zero + 12, biases, normed, machine, qkv)
    query, key, value = (
        qkv[0].reshape(rows, 3, 1, hidden),
        qkv[1].reshape(rows, 3, 1, hidden),
        qkv[2].reshape(rows, 3, 1, hidden),
    )
    attend(query, key, value, keys, values, first_row, position, normed.reshape(rows, 3, 1, hidden))
    product(kind, addresses, outputs, scales, zero + 15, biases[3 * hidden :], normed, machine, qkv[:1])
    _add(qkv[0], zero, one, out)

    _normalise(out, norms[4], eps, zero, one, normed[0])
    middle = np.empty((1, 3 * rows, outputs[17] - outputs[16]), np.float32)
    product(kind, addresses, outputs, scales, zero + 16, biases[4 * hidden :], normed, machine, middle)
    activate(middle.reshape(middle.size))
    product(kind, addresses, outputs, scales, zero + 17, biases[4 * hidden + middle.shape[2] :], middle, machine, qkv[:1])
    _add(qkv[0], zero, one, out)


__all__ = ["attend", "convolve", "expert", "join_mambas", "scan"]
