"""Loops of `kernels_megadance.py`, compiled by numba at the first call, which takes seconds; the result is kept on disk.

Indices of matrices are those of `StepWeights`. `rows` are items of the batch (three times as many where the streams are joined).
"""

import numpy as np

try:
    import numba
    from llvmlite import binding, ir
    from numba import prange, types
    from numba.extending import intrinsic, overload
except ImportError as error:
    raise ImportError("numba is missing, which compiles the code steps of large models; pip install numba") from error

# a step has some hundred short parallel loops: with OpenMP they took half the time of those with TBB
numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]

_CHANNELS = 256  # channels of the scan that a thread takes at once
_OUTPUTS = 32  # outputs of a product of eight bits that a thread takes at once
_LANES = 16  # products of an instruction that adds pairs of them
# elsewhere (ARM, older processors) weights of eight bits are made floats
_HAS_PAIRS = binding.get_host_cpu_features().get("avx2", False)

_LOG2E = 1.4426950408889634
# 2^f for |f| <= 1/2, to 4e-9 of it (Taylor), and erf to 1.5e-7 (Abramowitz and Stegun, 7.1.26)
_EXP2 = (1.0, 0.693147180559, 0.240226506959, 0.0555041086648, 0.0096181291076, 0.0013333558146, 0.000154035303933)
_ATANH = (1.0, 1 / 3, 1 / 5, 1 / 7, 1 / 9, 1 / 11, 1 / 13)
_ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


def _compiled(**options):
    # divisions as numpy has them: a check for zero in each keeps loops from becoming vectors
    return numba.njit(nogil=True, cache=True, fastmath=True, error_model="numpy", **options)


def _real(value):
    return np.float32(value)


@overload(_real, inline="always")
def _real_of(value):
    if value == numba.uint16:  # bfloat16 is the upper half of a float32
        return lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)
    return lambda value: np.float32(value)


@intrinsic
def _pointer(context, kind, address):
    def code(context, builder, signature, arguments):
        return builder.inttoptr(arguments[1], context.get_value_type(signature.return_type))

    return types.CPointer(kind.dtype)(kind, address), code


@numba.njit
def _matrix(kind, address, outputs, inputs):
    return numba.carray(_pointer(kind, address), (outputs, inputs))


@_compiled(inline="always")
def _exp(x):
    """e^x for x <= 80 in arithmetic that a compiler turns into vectors; a library's it does not."""
    scaled = max(x, np.float32(-87.0)) * np.float32(_LOG2E)
    whole = np.floor(scaled + np.float32(0.5))
    f = scaled - whole
    power = np.float32(_EXP2[6])
    for k in (5, 4, 3, 2, 1, 0):
        power = power * f + np.float32(_EXP2[k])
    return power * np.uint32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)


@_compiled(inline="always")
def _silu(x):
    return x / (np.float32(1.0) + _exp(min(-x, np.float32(80.0))))


@_compiled(inline="always")
def _softplus(x):
    """log(1 + e^x) = max(x, 0) + log(1 + z) with z = e^-|x|, and log(1 + z) = 2 atanh(z / (2 + z)) by its series."""
    z = _exp(-abs(x))
    s = z / (np.float32(2.0) + z)
    square, series = s * s, np.float32(_ATANH[6])
    for k in (5, 4, 3, 2, 1, 0):
        series = series * square + np.float32(_ATANH[k])
    return max(x, np.float32(0.0)) + np.float32(2.0) * s * series


@_compiled(inline="always")
def _gelu(x):
    z = abs(x) * np.float32(0.7071067811865476)
    t = np.float32(1.0) / (np.float32(1.0) + np.float32(0.3275911) * z)
    tail = np.float32(_ERF[4])
    for k in (3, 2, 1, 0):
        tail = tail * t + np.float32(_ERF[k])
    return np.float32(0.5) * (x + abs(x) * (np.float32(1.0) - tail * t * _exp(-z * z)))


def _sums_of_pairs(rows):
    """Make sums[o * rows + r] = sum over k < count of weights[o][k] lines[r][k], int8 by int16 in 32 bits, of four weights and `rows` lines.

    All are addresses; `count` is a multiple of `_LANES`, above 0. Compilers do not find this instruction by themselves: it
    multiplies sixteen pairs and adds neighbours, where floats would have to be made of the weights first.
    """

    @intrinsic
    def sums_of_pairs(context, weights, lines, count, sums):
        def code(context, builder, signature, arguments):
            weights, lines, count, sums = arguments
            byte, short, word, index = (ir.IntType(bits) for bits in (8, 16, 32, 64))
            bytes_, shorts, words = (
                ir.VectorType(*kind) for kind in ((byte, _LANES), (short, _LANES), (word, _LANES // 2))
            )

            def function(name, *types_):
                known = builder.module.globals.get(name)
                return known or ir.Function(builder.module, ir.FunctionType(types_[0], types_[1:]), name)

            multiply = function("llvm.x86.avx2.pmadd.wd", words, shorts, shorts)
            add_up = function(f"llvm.vector.reduce.add.v{_LANES // 2}i32", word, words)

            def at(addresses, which, k, kind, size):
                address = builder.extract_value(addresses, which)
                address = builder.add(address, builder.mul(k, ir.Constant(index, size)))
                return builder.load(builder.inttoptr(address, kind.as_pointer()), align=1)

            before, loop, after = builder.block, *map(builder.append_basic_block, ("pairs", "summed"))
            builder.branch(loop)
            builder.position_at_end(loop)
            k = builder.phi(index)
            totals = [builder.phi(words) for _ in range(4 * rows)]
            heard = [at(lines, r, k, shorts, 2) for r in range(rows)]
            new = []
            for o in range(4):
                weight = builder.sext(at(weights, o, k, bytes_, 1), shorts)
                new += [
                    builder.add(totals[o * rows + r], builder.call(multiply, [weight, heard[r]])) for r in range(rows)
                ]
            following = builder.add(k, ir.Constant(index, _LANES))
            for place, start, value in zip(
                [k, *totals], [index(0), *[words(None)] * len(new)], [following, *new], strict=True
            ):
                place.add_incoming(start, before)
                place.add_incoming(value, loop)
            builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
            builder.position_at_end(after)
            for place, total in enumerate(new):
                address = builder.add(sums, ir.Constant(index, 4 * place))
                builder.store(builder.call(add_up, [total]), builder.inttoptr(address, word.as_pointer()))
            return context.get_dummy_value()

        return types.void(
            types.UniTuple(types.int64, 4), types.UniTuple(types.int64, rows), types.int64, types.int64
        ), code

    return sums_of_pairs


_sums_of_one, _sums_of_three = _sums_of_pairs(1), _sums_of_pairs(3)


@_compiled()
def _in_sixteen_bits(x, whole, steps):
    """x = whole * steps, to half a step, where no sum of products with weights up to 127 can leave 32 bits."""
    size = x.shape[2]
    for part in range(x.shape[0]):
        for row in range(x.shape[1]):
            line, rounded = x[part, row], whole[part, row]
            largest = total = np.float32(0)
            for k in range(size):
                largest = max(largest, abs(line[k]))
                total += abs(line[k])
            step = max(largest / np.float32(32767), total / np.float32(2**31 / 128 - size))
            steps[part, row] = step
            factor = np.float32(1) / step if step > 0 else np.float32(0)
            for k in range(size):
                rounded[k] = np.int16(np.floor(line[k] * factor + np.float32(0.5)))


@_compiled(parallel=True)
def _integer_product(kind, addresses, outputs, scales, first, bias, x, y):
    """`product` of weights of eight bits: its inputs are rounded to sixteen."""
    parts, rows, size = y.shape
    inputs = x.shape[2]
    blocks = (size + _OUTPUTS - 1) // _OUTPUTS
    count = inputs // _LANES * _LANES
    whole, steps = np.empty(x.shape, np.int16), np.empty(x.shape[:2], np.float32)
    _in_sixteen_bits(x, whole, steps)
    for item in prange(parts * blocks):
        part, low = item // blocks, item % blocks * _OUTPUTS
        source, start = min(part, len(x) - 1), addresses[first + part]
        weight = _matrix(kind, start, size, inputs)
        heard, said, sums = whole[source], y[part], np.zeros(12, np.int32)
        for o in range(low, min(low + _OUTPUTS, size), 4):
            # where the outputs end, the last one is computed again; so are rows below
            p, q, r = min(o + 1, size - 1), min(o + 2, size - 1), min(o + 3, size - 1)
            lines = start + o * inputs, start + p * inputs, start + q * inputs, start + r * inputs
            for row in range(0, rows, 3):
                second, third = min(row + 1, rows - 1), min(row + 2, rows - 1)
                together = 1 if rows == 1 else 3
                if count > 0 and rows == 1:
                    _sums_of_one(lines, (heard.ctypes.data,), count, sums.ctypes.data)
                elif count > 0:
                    origins = heard[row].ctypes.data, heard[second].ctypes.data, heard[third].ctypes.data
                    _sums_of_three(lines, origins, count, sums.ctypes.data)
                for which in range(min(4, size - o)):
                    index = o + which
                    factor = scales[outputs[first + part] + index]
                    offset = bias[part * size + index] if len(bias) > 0 else np.float32(0)
                    for r in range(min(together, rows - row)):
                        total = sums[which * together + r]
                        for k in range(count, inputs):
                            total += np.int32(weight[index, k]) * np.int32(heard[row + r, k])
                        said[row + r, index] = np.float32(total) * (factor * steps[source, row + r]) + offset


@_compiled()
def _float_lines(kind, addresses, outputs, scales, first, bias, x, y, part, block):
    rows, size, inputs = y.shape[1], y.shape[2], x.shape[2]
    weight = _matrix(kind, addresses[first + part], size, inputs)
    heard, said = x[min(part, len(x) - 1)], y[part]
    # where the outputs end, the last one is computed again
    o = block * 4
    p, q, r = min(o + 1, size - 1), min(o + 2, size - 1), min(o + 3, size - 1)
    if rows > 3:  # the same numbers for many rows: made ready once
        ready = np.empty((4, inputs), np.float32)
        for k in range(inputs):
            ready[0, k], ready[1, k] = _real(weight[o, k]), _real(weight[p, k])
        for k in range(inputs):
            ready[2, k], ready[3, k] = _real(weight[q, k]), _real(weight[r, k])
        w0, w1, w2, w3 = ready[0], ready[1], ready[2], ready[3]
        for row in range(0, rows, 3):
            second, third = min(row + 1, rows - 1), min(row + 2, rows - 1)  # where rows end, the last one once more
            x0, x1, x2 = heard[row], heard[second], heard[third]
            oa = ob = oc = pa = pb = pc = qa = qb = qc = ra = rb = rc = np.float32(0)
            for k in range(inputs):
                a, b, c = x0[k], x1[k], x2[k]
                oa += w0[k] * a
                ob += w0[k] * b
                oc += w0[k] * c
                pa += w1[k] * a
                pb += w1[k] * b
                pc += w1[k] * c
                qa += w2[k] * a
                qb += w2[k] * b
                qc += w2[k] * c
                ra += w3[k] * a
                rb += w3[k] * b
                rc += w3[k] * c
            said[row, o], said[row, p], said[row, q], said[row, r] = oa, pa, qa, ra
            said[second, o], said[second, p], said[second, q], said[second, r] = ob, pb, qb, rb
            said[third, o], said[third, p], said[third, q], said[third, r] = oc, pc, qc, rc
    elif rows > 1:
        x0, x1, x2 = heard[0], heard[1], heard[rows - 1]
        oa = ob = oc = pa = pb = pc = qa = qb = qc = ra = rb = rc = np.float32(0)
        for k in range(inputs):
            a, b, c = x0[k], x1[k], x2[k]
            w = _real(weight[o, k])
            oa += w * a
            ob += w * b
            oc += w * c
            w = _real(weight[p, k])
            pa += w * a
            pb += w * b
            pc += w * c
            w = _real(weight[q, k])
            qa += w * a
            qb += w * b
            qc += w * c
            w = _real(weight[r, k])
            ra += w * a
            rb += w * b
            rc += w * c
        said[0, o], said[0, p], said[0, q], said[0, r] = oa, pa, qa, ra
        said[1, o], said[1, p], said[1, q], said[1, r] = ob, pb, qb, rb
        said[rows - 1, o], said[rows - 1, p], said[rows - 1, q], said[rows - 1, r] = oc, pc, qc, rc
    else:
        oa = pa = qa = ra = np.float32(0)
        for k in range(inputs):
            a = heard[0, k]
            oa += _real(weight[o, k]) * a
            pa += _real(weight[p, k]) * a
            qa += _real(weight[q, k]) * a
            ra += _real(weight[r, k]) * a
        said[0, o], said[0, p], said[0, q], said[0, r] = oa, pa, qa, ra
    for index in range(o, min(o + 4, size)):
        factor = scales[outputs[first + part] + index] if len(scales) > 0 else np.float32(1)
        offset = bias[part * size + index] if len(bias) > 0 else np.float32(0)
        for row in range(rows):
            said[row, index] = said[row, index] * factor + offset


@_compiled(parallel=True)
def _float_product(kind, addresses, outputs, scales, first, bias, x, y):
    """Four outputs and up to three rows at a time: a weight comes from memory once and meets three rows, a row comes from the cache
    once for four weights, and no sum waits for another.
    """
    parts, rows, size = y.shape
    blocks = (size + 3) // 4
    for item in prange(parts * blocks):
        _float_lines(kind, addresses, outputs, scales, first, bias, x, y, item // blocks, item % blocks)


def _product(kind, addresses, outputs, scales, first, bias, x, y):
    raise NotImplementedError


@overload(_product)
def _product_of(kind, addresses, outputs, scales, first, bias, x, y):
    function = _integer_product if kind.dtype == types.int8 and _HAS_PAIRS else _float_product

    def call(kind, addresses, outputs, scales, first, bias, x, y):
        function(kind, addresses, outputs, scales, first, bias, x, y)

    return call


@_compiled()
def product(kind, addresses, outputs, scales, first, bias, x, y):
    """y[i] = (x[i] weight^T) scale + bias, with the matrices `first`, `first + 1`, ... of one shape; all take x[0] if x has no more.

    [parts, rows, inputs] -> [parts, rows, outputs].
    """
    _product(kind, addresses, outputs, scales, first, bias, x, y)


@_compiled()
def _normalise(x, norm, eps, first, every, y):
    """Layer norm of rows `first`, `first + every`, ..."""
    for row in range(first, x.shape[0], every):
        mean = np.float32(0)
        for k in range(x.shape[1]):
            mean += x[row, k]
        mean /= x.shape[1]
        spread = np.float32(0)
        for k in range(x.shape[1]):
            spread += (x[row, k] - mean) * (x[row, k] - mean)
        factor = np.float32(1 / np.sqrt(spread / x.shape[1] + eps))
        for k in range(x.shape[1]):
            y[row, k] = _stored((x[row, k] - mean) * factor * norm[0, k] + norm[1, k], y)


@_compiled()
def _gather(x, first, every, y):
    """Rows `first`, `first + every`, ... of x."""
    for row in range(y.shape[0]):
        for k in range(y.shape[1]):
            y[row, k] = x[first + every * row, k]


@_compiled()
def _add(x, first, every, y):
    """Add x to the rows `first`, `first + every`, ... of y."""
    for row in range(x.shape[0]):
        for k in range(x.shape[1]):
            y[first + every * row, k] += x[row, k]


@_compiled()
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
                    total[c] += tap[c] * _real(new[c])
        for c in range(count):
            heard[c] = _silu(total[c])
    for k in range(width - 1):
        past, source = history[stream, item_row, k, low:high], steps - (width - 1) + k
        for c in range(count):
            if source < 0:
                past[c] = history[stream, item_row, width - 1 + source, low + c]
            else:
                past[c] = _real(projected[stream][row, source, low + c])


@_compiled(parallel=True)
def convolve(projected, weight, channels, history, first_row, u):
    """Causal depthwise convolution, then SiLU, of the first half of [rows, time, 2 * inner] of each stream; the history moves on."""
    streams, rows, steps, inner = u.shape
    blocks = (inner + _CHANNELS - 1) // _CHANNELS
    for item in prange(streams * rows * blocks):
        stream, row, low = item // (rows * blocks), item // blocks % rows, item % blocks * _CHANNELS
        _convolve_part(projected, weight, channels, history, u, stream, row, first_row + row, low)


@_compiled()
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
            said[c] = _stored(total[c] * _silu(_real(gate[c])), said)


@_compiled(parallel=True)
def scan(u, delta, bc, projected, decay, channels, ssm, first_row, y):
    """The recurrence of [streams, rows, time, inner], with softplus before and the gate after it."""
    streams, rows, steps, inner = u.shape
    blocks = (inner + _CHANNELS - 1) // _CHANNELS
    for item in prange(streams * rows * blocks):
        stream, row, low = item // (rows * blocks), item // blocks % rows, item % blocks * _CHANNELS
        _scan_part(u, delta, bc, projected, decay, channels, ssm, y, stream, row, first_row + row, low)


@_compiled()
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
            line[k] = _real(old[k])
        for k in range(size):
            weighed[k] = _real(other[k])
    for t in range(steps):
        for stream in range(streams):
            place, slot = (past + t) * streams + stream, (position + t) % context
            new, other = key[row, stream, t, at : at + size], value[row, stream, t, at : at + size]
            line, weighed, old, older = known[place], worth[place], ring[slot, stream], store[slot, stream]
            for k in range(size):
                line[k], weighed[k] = _real(new[k]), _real(other[k])
                old[k], older[k] = _stored_as(new[k], old), _stored_as(other[k], older)
    asking, score = np.empty((3, size), np.float32), np.empty((3, context * streams), np.float32)
    for t in range(asked):
        now = past + steps - asked + t
        low = max(0, now + 1 - context) * streams
        count = (now + 1) * streams - low
        for stream in range(streams):
            new = query[row, stream, t, at : at + size]
            for k in range(size):
                asking[stream, k] = _real(new[k]) * scale
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
                answer[k] = _stored(said[k], answer)


@_compiled(parallel=True)
def attend(query, key, value, keys, values, first_row, position, result):
    """Attention with a sliding window of new positions, [rows, streams, time, hidden], over themselves and those in the ring of keys and
    values, into which the new ones are written. Of the queries only the last ones may be given.
    """
    heads = keys.shape[1]
    for item in prange(len(key) * heads):
        _attend_head(query, key, value, keys, values, first_row, position, item // heads, item % heads, result)


@_compiled()
def _join_line(x, mixed, norms, eps, out, normed, row, stream, t):
    streams, steps, hidden = x.shape[1:]
    first = steps - out.shape[2]
    old, new = x[row, stream, t], mixed[stream][row * steps + t]
    line = np.empty((1, hidden), np.float32)
    for k in range(hidden):
        line[0, k] = _real(old[k]) + _real(new[k])
    _normalise(line, norms[stream], eps, 0, 1, line)
    if t >= first:
        out[row, stream, t - first] = line[0]
    _normalise(line, norms[3], eps, 0, 1, normed[row, stream, t : t + 1])


@_compiled(parallel=True)
def join_mambas(x, mixed, norms, eps, out, normed):
    """The norm of its stream of x + mixed, of the last positions only, and of all positions the attention's norm of that.

    x, out, normed: [rows, streams, time, hidden]; mixed: [rows * time, hidden] of each stream.
    """
    rows, streams, steps, _ = x.shape
    for item in prange(rows * streams * steps):
        _join_line(x, mixed, norms, eps, out, normed, item // (streams * steps), item // steps % streams, item % steps)


@_compiled()
def expert(kind, addresses, outputs, scales, conv_weight, decay, channels, norms, biases, eps, x, conv, ssm, keys, values, first_row, position, out):  # fmt: skip
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
    product(kind, addresses, outputs, scales, zero, none, streams, projected.reshape(3, rows, 2 * inner))
    of_each = projected[0], projected[1], projected[2]
    convolve(of_each, conv_weight, channels, conv, first_row, u)
    flat = bc.reshape(3, rows, bc.shape[3])
    product(kind, addresses, outputs, scales, zero + 3, none, u.reshape(3, rows, inner), flat)
    for stream in range(3):
        _gather(flat[stream], zero, one, dt[stream])
    product(kind, addresses, outputs, scales, zero + 6, none, dt, delta.reshape(3, rows, inner))
    scan(u, delta, bc, of_each, decay, channels, ssm, first_row, heard)
    product(kind, addresses, outputs, scales, zero + 9, none, heard.reshape(3, rows, inner), mixed)
    _gather(x, zero, one, out)
    for stream in range(3):
        _add(mixed[stream], stream, zero + 3, out)
        _normalise(out, norms[stream], eps, stream, zero + 3, out)

    # query, key, value
    qkv = np.empty((3, 3 * rows, hidden), np.float32)
    normed = np.empty((1, 3 * rows, hidden), np.float32)
    _normalise(out, norms[3], eps, zero, one, normed[0])
    product(kind, addresses, outputs, scales, zero + 12, biases, normed, qkv)
    query, key, value = (
        qkv[0].reshape(rows, 3, 1, hidden),
        qkv[1].reshape(rows, 3, 1, hidden),
        qkv[2].reshape(rows, 3, 1, hidden),
    )
    attend(query, key, value, keys, values, first_row, position, normed.reshape(rows, 3, 1, hidden))
    product(kind, addresses, outputs, scales, zero + 15, biases[3 * hidden :], normed, qkv[:1])
    _add(qkv[0], zero, one, out)

    _normalise(out, norms[4], eps, zero, one, normed[0])
    middle = np.empty((1, 3 * rows, outputs[17] - outputs[16]), np.float32)
    product(kind, addresses, outputs, scales, zero + 16, biases[4 * hidden :], normed, middle)
    for row in range(3 * rows):
        line = middle[0, row]
        for k in range(len(line)):
            line[k] = _gelu(line[k])
    product(kind, addresses, outputs, scales, zero + 17, biases[4 * hidden + middle.shape[2] :], middle, qkv[:1])
    _add(qkv[0], zero, one, out)


def _stored(value, like):
    return value


@overload(_stored, inline="always")
def _stored_of(value, like):
    if like.dtype == numba.uint16:  # rounded to the nearest, ties to even, as torch does

        def bits(value, like):
            word = np.float32(value).view(np.uint32)
            return np.uint16((word + np.uint32(0x7FFF) + ((word >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))

        return bits
    return lambda value, like: value


def _stored_as(value, like):
    """`_stored` of a number that may be stored that way already."""


@overload(_stored_as, inline="always")
def _stored_as_of(value, like):
    if value == like.dtype:
        return lambda value, like: value
    return lambda value, like: _stored(value, like)


__all__ = ["attend", "convolve", "expert", "join_mambas", "product", "scan"]
