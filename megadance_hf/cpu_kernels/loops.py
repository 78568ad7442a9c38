"""The two halves of an expert as loops that numba compiles: `mix_in_time`, the Mambas of the three streams, and
`attention_block`, which follows.

`rows` are the items of the batch, `steps` the new positions, `inner` the channels of a Mamba, `states` its states per
channel. All arrays are float32, but for keys and values in the cache.
"""

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic

from .compiled import (
    INDEX,
    REAL,
    WORD,
    broadcast_float,
    call_llvm,
    compiled,
    keep_alive,
    read_vector,
    to_float32,
    to_type_of,
    write_vector,
)
from .products import LANES, SERIAL_SIZE, product

_CHANNEL_BLOCK = 256  # channels of a convolution or scan that are a thread's task
_GELU_BLOCK = 2048  # elements of a GELU, likewise

_LOG2E = 1.4426950408889634
# Coefficients of 2^f for |f| <= 1/2, relative error 1e-7 (Chebyshev); of atanh (Taylor); of erf, absolute error 1.5e-7
# (Abramowitz and Stegun, 7.1.26)
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
    """2^x for x < 127, in arithmetic that compilers vectorise, unlike a call of the library's."""
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
    """log(1 + e^x) = max(x, 0) + log(1 + z) with z = e^-|x| and log(1 + z) = 2 atanh(z / (2 + z))."""
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


# The loop over a vector is a function of its own: inside a loop over rows it is not always vectorised.


@compiled()
def _layer_norm_row(x, weight, bias, eps, y):
    size = len(x)
    mean = np.float32(0)
    for k in range(size):
        mean += x[k]
    mean /= size
    squares = np.float32(0)
    for k in range(size):
        squares += (x[k] - mean) * (x[k] - mean)
    factor = np.float32(1 / np.sqrt(squares / size + eps))
    for k in range(size):
        y[k] = (x[k] - mean) * factor * weight[k] + bias[k]


@compiled()
def _gelu_row(x):
    for k in range(len(x)):
        x[k] = _gelu(x[k])


@compiled(parallel=True)
def _gelu_in_place(x):
    """x [size] is overwritten."""
    blocks = (len(x) + _GELU_BLOCK - 1) // _GELU_BLOCK
    for block in prange(blocks):
        _gelu_row(x[block * _GELU_BLOCK : (block + 1) * _GELU_BLOCK])


@compiled()
def _copy_row(x, y):
    for k in range(len(x)):
        y[k] = x[k]


@compiled()
def _streams_first(x, streams):
    """x [rows, streams, steps, hidden] -> streams [streams, rows, steps, hidden]."""
    for row in range(x.shape[0]):
        for stream in range(x.shape[1]):
            for t in range(x.shape[2]):
                _copy_row(x[row, stream, t], streams[stream, row, t])


@compiled()
def _add_row(x, y):
    for k in range(len(x)):
        y[k] += x[k]


@compiled()
def _convolve_block(projected, weight, channels, history, u, stream, row, item, start):
    steps, inner, width = u.shape[2], u.shape[3], weight.shape[1]
    stop = min(start + _CHANNEL_BLOCK, inner)
    count = stop - start
    for t in range(steps):
        total, output = channels[stream, 0, start:stop].copy(), u[stream, row, t, start:stop]
        for k in range(width):
            tap, source = weight[stream, k, start:stop], t + k - (width - 1)
            if source < 0:
                past = history[stream, item, width - 1 + source, start:stop]
                for c in range(count):
                    total[c] += tap[c] * past[c]
            else:
                new = projected[stream, row, source, start:stop]
                for c in range(count):
                    total[c] += tap[c] * new[c]
        for c in range(count):
            output[c] = _silu(total[c])
    for k in range(width - 1):
        past, source = history[stream, item, k, start:stop], steps - (width - 1) + k
        for c in range(count):
            if source < 0:
                past[c] = history[stream, item, width - 1 + source, start + c]
            else:
                past[c] = projected[stream, row, source, start + c]


@compiled(parallel=True)
def _convolve(projected, weight, channels, history, first_row, u):
    """u [streams, rows, steps, inner] = SiLU of the causal depthwise convolution of projected[..., :inner].

    Args:
        projected: [streams, rows, steps, 2 * inner]. weight, channels: `conv` and `channels` of `arrange_mambas`.
        history: [streams, batch, width - 1, inner], the inputs before, overwritten.
        first_row: item of the batch that is row 0.
    """
    streams, rows, steps, inner = u.shape
    blocks = (inner + _CHANNEL_BLOCK - 1) // _CHANNEL_BLOCK
    for task in prange(streams * rows * blocks):
        stream, row, start = task // (rows * blocks), task // blocks % rows, task % blocks * _CHANNEL_BLOCK
        _convolve_block(projected, weight, channels, history, u, stream, row, first_row + row, start)


@intrinsic
def _advance_states(context, channels, states, delta, input_, output, rates, h, stride, b, c):
    """For each channel and state: h = 2^(delta * rate) * h + input * b, output += h * c.

    `channels` is a multiple of `LANES`. The others but `states` are addresses: of delta, input and output [channels],
    of rates and h [states, channels] with rows `stride` bytes apart, of b and c [states]. The inner loop is over
    states, so that all but rates and h stays in registers; compilers do not find that.
    """

    def code(context, builder, signature, arguments):
        channels, states, delta, input_, output, rates, h, stride, b, c = arguments
        reals, words = (ir.VectorType(element, LANES) for element in (REAL, WORD))

        def function(name, *arguments):
            return call_llvm(builder, f"llvm.{name}.v{LANES}f32", reals, *arguments)

        def read(address, offset):
            return read_vector(builder, builder.add(address, offset), REAL, LANES)

        def write(value, address, offset):
            write_vector(builder, value, builder.add(address, offset))

        def broadcast(address, index):
            return broadcast_float(builder, builder.add(address, builder.mul(index, INDEX(4))), LANES)

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
        channel = builder.phi(INDEX)  # bytes, as all offsets
        channel.add_incoming(INDEX(0), before)
        delta_vector, input_vector, first_total = (read(address, channel) for address in (delta, input_, output))
        builder.branch(inner)
        builder.position_at_end(inner)
        n, offset, total = builder.phi(INDEX), builder.phi(INDEX), builder.phi(reals)
        for phi, value in ((n, INDEX(0)), (offset, channel), (total, first_total)):
            phi.add_incoming(value, outer)
        decay = exp2(builder.fmul(delta_vector, read(rates, offset)))
        new_h = function("fma", decay, read(h, offset), builder.fmul(input_vector, broadcast(b, n)))
        write(new_h, h, offset)
        new_total = function("fma", new_h, broadcast(c, n), total)
        next_n = builder.add(n, INDEX(1))
        for phi, value in ((n, next_n), (offset, builder.add(offset, stride)), (total, new_total)):
            phi.add_incoming(value, inner)
        builder.cbranch(builder.icmp_signed("<", next_n, states), inner, between)
        builder.position_at_end(between)
        write(new_total, output, channel)
        next_channel = builder.add(channel, INDEX(4 * LANES))
        channel.add_incoming(next_channel, between)
        builder.cbranch(builder.icmp_signed("<", next_channel, builder.mul(channels, INDEX(4))), outer, after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 10), code


@compiled()
def _begin_step(raw_delta, u, skip, delta, input_, output):
    for c in range(len(delta)):
        delta[c] = _softplus(raw_delta[c])
        input_[c] = delta[c] * u[c]
        output[c] = skip[c] * u[c]


@compiled()
def _gate(x, gate, output):
    for c in range(len(x)):
        output[c] = x[c] * _silu(gate[c])


@compiled()
def _scan_block(u, raw_delta, bc, projected, decay, channels, ssm, y, stream, row, item, start):
    steps, inner, states = u.shape[2], u.shape[3], decay.shape[1]
    rank = bc.shape[3] - 2 * states
    stop = min(start + _CHANNEL_BLOCK, inner)
    count = stop - start
    full = count - count % LANES
    skip = channels[stream, 1, start:stop]
    delta, input_, output = np.empty(count, np.float32), np.empty(count, np.float32), np.empty(count, np.float32)
    h, rates = ssm[stream, item, :, start:stop], decay[stream, :, start:stop]
    of_channels = delta.ctypes.data, input_.ctypes.data, output.ctypes.data
    of_states = rates.ctypes.data, h.ctypes.data, inner * h.itemsize
    buffer = np.empty((2, states, full), np.float32)
    if steps > 1:  # rows a power of two apart evict each other from the cache
        for n in range(states):
            _copy_row(rates[n, :full], buffer[0, n])
            _copy_row(h[n, :full], buffer[1, n])
        of_states = buffer[0].ctypes.data, buffer[1].ctypes.data, full * buffer.itemsize
    for t in range(steps):
        u_t, raw_delta_t = u[stream, row, t, start:stop], raw_delta[stream, row, t, start:stop]
        b_and_c = bc[stream, row, t, rank:]
        _begin_step(raw_delta_t, u_t, skip, delta, input_, output)
        if full > 0:
            b = b_and_c.ctypes.data
            _advance_states(full, states, *of_channels, *of_states, b, b + states * b_and_c.itemsize)
        for n in range(states):
            for c in range(full, count):
                h[n, c] = _exp2(delta[c] * rates[n, c]) * h[n, c] + input_[c] * b_and_c[n]
                output[c] += h[n, c] * b_and_c[states + n]
        _gate(output, projected[stream, row, t, inner + start : inner + stop], y[stream, row, t, start:stop])
    if steps > 1:
        for n in range(states):
            _copy_row(buffer[1, n], h[n, :full])
    keep_alive(buffer)


@compiled(parallel=True)
def _scan(u, raw_delta, bc, projected, decay, channels, ssm, first_row, y):
    """y [streams, rows, steps, inner]: the selective scan of u, plus D u, gated.

    Args:
        u, raw_delta (before softplus): [streams, rows, steps, inner].
        bc: [streams, rows, steps, rank + 2 * states], dt, B, C. projected: [..., 2 * inner], its second half the gate.
        ssm: [streams, batch, states, inner], the states, overwritten. decay, channels: see `arrange_mambas`.
    """
    streams, rows, steps, inner = u.shape
    blocks = (inner + _CHANNEL_BLOCK - 1) // _CHANNEL_BLOCK
    for task in prange(streams * rows * blocks):
        stream, row, start = task // (rows * blocks), task // blocks % rows, task % blocks * _CHANNEL_BLOCK
        _scan_block(u, raw_delta, bc, projected, decay, channels, ssm, y, stream, row, first_row + row, start)


@compiled()
def _attend_head(query, key, value, cached_keys, cached_values, first_row, position, row, head, output):
    streams, steps = key.shape[1:3]
    context, size = cached_keys.shape[2], cached_keys.shape[4]
    past, queries = min(position, context), query.shape[2]
    scale = np.float32(1 / np.sqrt(size))
    start = head * size
    key_ring, value_ring = cached_keys[first_row + row, head], cached_values[first_row + row, head]
    buffer = np.empty((2, (past + steps) * streams, size), np.float32)
    keys, values = buffer[0], buffer[1]  # of the context and the new positions, in order
    for i in range(past * streams):
        slot, stream = (position - past + i // streams) % context, i % streams
        old_key, old_value, key_i, value_i = key_ring[slot, stream], value_ring[slot, stream], keys[i], values[i]
        for k in range(size):
            key_i[k] = to_float32(old_key[k])
        for k in range(size):
            value_i[k] = to_float32(old_value[k])
    for t in range(steps):
        for stream in range(streams):
            i, slot = (past + t) * streams + stream, (position + t) % context
            new_key, new_value = key[row, stream, t, start : start + size], value[row, stream, t, start : start + size]
            key_i, value_i, old_key, old_value = keys[i], values[i], key_ring[slot, stream], value_ring[slot, stream]
            for k in range(size):
                key_i[k], value_i[k] = new_key[k], new_value[k]
                old_key[k], old_value[k] = to_type_of(old_key, new_key[k]), to_type_of(old_value, new_value[k])
    scaled, scores = np.empty((3, size), np.float32), np.empty((3, context * streams), np.float32)
    largest = np.empty(3, np.float32)
    for t in range(queries):
        now = past + steps - queries + t
        first = max(0, now + 1 - context) * streams
        count = (now + 1) * streams - first
        for stream in range(streams):
            query_t = query[row, stream, t, start : start + size]
            for k in range(size):
                scaled[stream, k] = query_t[k] * scale
        upper, lower, music = scaled[0], scaled[1], scaled[2]
        largest[:] = -np.inf
        for i in range(count):
            key_i = keys[first + i]
            a = b = c = np.float32(0)
            for k in range(size):
                a += upper[k] * key_i[k]
                b += lower[k] * key_i[k]
                c += music[k] * key_i[k]
            scores[0, i], scores[1, i], scores[2, i] = a, b, c
            largest[0], largest[1], largest[2] = max(largest[0], a), max(largest[1], b), max(largest[2], c)
        for stream in range(streams):
            weights, attended = scores[stream, :count], np.zeros(size, np.float32)
            most, total = largest[stream], np.float32(0)
            for i in range(count):
                weights[i] = _exp(weights[i] - most)
            for i in range(count):
                total += weights[i]
            for i in range(count):
                value_i, weight = values[first + i], weights[i] / total
                for k in range(size):
                    attended[k] += weight * value_i[k]
            output_t = output[row, stream, t, start : start + size]
            for k in range(size):
                output_t[k] = attended[k]


@compiled(parallel=True)
def _attend(query, key, value, cached_keys, cached_values, first_row, position, output):
    """Attention of new positions within a sliding window, over themselves and the cache, into which they are written.

    Args:
        key, value: [rows, streams, steps, hidden]. query, output: the same, or of the last positions only.
        cached_keys, cached_values: [batch, heads, context, streams, hidden / heads], float32 or bfloat16's bits; rings
            in which position p is in slot p % context. first_row: item of the batch that is row 0.
        position: number of positions before the new ones.
    """
    heads = cached_keys.shape[1]
    for task in prange(len(key) * heads):
        row, head = task // heads, task % heads
        _attend_head(query, key, value, cached_keys, cached_values, first_row, position, row, head, output)


@compiled()
def _norm_mambas_row(x, norms, eps, mixed, out, i):
    streams, steps = x.shape[1:3]
    row, stream, t = i // (streams * steps), i // steps % streams, i % steps
    total = mixed[stream, row * steps + t]
    _add_row(x[row, stream, t], total)
    _layer_norm_row(total, norms[stream, 0], norms[stream, 1], eps, out[row, stream, t])


@compiled(parallel=True)
def _norm_mambas(x, norms, eps, mixed, out):
    """out is the norm of x + mixed, of each stream; mixed [streams, rows * steps, hidden] is overwritten.

    x, out: [rows, streams, steps, hidden]. norms: [streams, 2, hidden].
    """
    count = x.shape[0] * x.shape[1] * x.shape[2]
    if x.size <= SERIAL_SIZE:
        for i in range(count):
            _norm_mambas_row(x, norms, eps, mixed, out, i)
    else:
        for i in prange(count):
            _norm_mambas_row(x, norms, eps, mixed, out, np.int64(i))


@compiled()
def mix_in_time(
    weight_type, matrices, offsets, scales, biases, conv_weight, decay, channels, norms, eps, threads,
    x, conv, ssm, first_row, out,
):  # fmt: skip
    """What `mix_in_time` of the modules computes with a cache, which is written in place.

    Args:
        weight_type, ..., eps: see `arrange_mambas`.
        x: [rows, 3, steps, hidden]. out: the same, written.
        conv, ssm: the states of the whole batch: see `_convolve`, `_scan`. first_row: item of the batch that is row 0.
    """
    zero = offsets[0]  # not a constant, for each of which numba would compile `product` anew
    rows, _, steps, hidden = x.shape
    inner, count = conv_weight.shape[2], rows * steps
    weights = weight_type, matrices, offsets, scales, biases
    streams, mixed = np.empty((3, rows, steps, hidden), np.float32), np.empty((3, count, hidden), np.float32)
    projected = np.empty((3, rows, steps, 2 * inner), np.float32)
    shape = 3, rows, steps, inner
    u, delta, scanned = np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.float32)
    bc = np.empty((3, rows, steps, offsets[4] - offsets[3]), np.float32)  # x_proj's output: dt, B, C
    rank = bc.shape[3] - 2 * decay.shape[1]
    dt = np.zeros((3, count, bc.shape[3]), np.float32)  # as wide as dt_proj; B and C would coarsen its quantization
    _streams_first(x, streams)
    product(*weights, zero, streams.reshape(3, count, hidden), threads, projected.reshape(3, count, 2 * inner))
    _convolve(projected, conv_weight, channels, conv, first_row, u)
    flat_bc = bc.reshape(3, count, bc.shape[3])
    product(*weights, zero + 3, u.reshape(3, count, inner), threads, flat_bc)
    for stream in range(3):
        for row in range(count):
            _copy_row(flat_bc[stream, row, :rank], dt[stream, row, :rank])
    product(*weights, zero + 6, dt, threads, delta.reshape(3, count, inner))
    _scan(u, delta, bc, projected, decay, channels, ssm, first_row, scanned)
    product(*weights, zero + 9, scanned.reshape(3, count, inner), threads, mixed)
    _norm_mambas(x, norms, eps, mixed, out)


@compiled()
def _norm_stream_row(x, norms, eps, normed, i):
    streams, steps = x.shape[1:3]
    row, stream, t = i // (streams * steps), i // steps % streams, i % steps
    _layer_norm_row(x[row, stream, t], norms[stream, 0], norms[stream, 1], eps, normed[row, stream, t])


@compiled(parallel=True)
def _norm_streams(x, norms, eps, normed):
    """normed is the norm of each stream of x; both [rows, streams, steps, hidden], norms [streams, 2, hidden]."""
    count = x.shape[0] * x.shape[1] * x.shape[2]
    if x.size <= SERIAL_SIZE:
        for i in range(count):
            _norm_stream_row(x, norms, eps, normed, i)
    else:
        for i in prange(count):
            _norm_stream_row(x, norms, eps, normed, np.int64(i))


@compiled()
def _add_last(x, y):
    """y [rows, streams, steps, hidden] += the last positions of x."""
    rows, streams, steps, _ = y.shape
    for row in range(rows):
        for stream in range(streams):
            for t in range(steps):
                _add_row(x[row, stream, x.shape[2] - steps + t], y[row, stream, t])


@compiled()
def attention_block(
    weight_type, matrices, offsets, scales, biases, norms, eps, threads,
    x, cached_keys, cached_values, first_row, position, out,
):  # fmt: skip
    """What `Expert.forward` computes with a cache, which is written in place, but for the Mambas.

    Args:
        weight_type, ..., eps: see `arrange_attention`.
        x: [rows, 3, steps, hidden]. out: the same, or of the last positions only; written.
        cached_keys, cached_values: of the whole batch, see `_attend`. first_row: item of the batch that is row 0.
        position: number of positions before x.
    """
    zero = offsets[0]  # as in `mix_in_time`
    rows, _, steps, hidden = x.shape
    kept = out.shape[2]
    weights = weight_type, matrices, offsets, scales, biases
    count, kept_count, middle_size = 3 * rows * steps, 3 * rows * kept, offsets[5] - offsets[4]
    normed, qkv = np.empty(x.shape, np.float32), np.empty((3, count, hidden), np.float32)
    _norm_streams(x, norms[0], eps, normed)
    product(*weights, zero, normed.reshape(1, count, hidden), threads, qkv)
    by_row = qkv.reshape(3, rows, 3, steps, hidden)
    query, key, value = by_row[0], by_row[1], by_row[2]
    if kept < steps:
        query = query[:, :, steps - kept :].copy()
    attended, summed = np.empty(out.shape, np.float32), np.empty(out.shape, np.float32)
    _attend(query, key, value, cached_keys, cached_values, first_row, position, attended)
    product(*weights, zero + 3, attended.reshape(1, kept_count, hidden), threads, summed.reshape(1, kept_count, hidden))
    normed_sum = attended  # the memory is free again
    _add_last(x, summed)
    _norm_streams(summed, norms[1], eps, normed_sum)
    middle = np.empty((1, kept_count, middle_size), np.float32)
    product(*weights, zero + 4, normed_sum.reshape(1, kept_count, hidden), threads, middle)
    _gelu_in_place(middle.reshape(middle.size))
    product(*weights, zero + 5, middle, threads, out.reshape(1, kept_count, hidden))
    _add_row(summed.reshape(summed.size), out.reshape(out.size))


__all__ = ["attention_block", "mix_in_time"]
