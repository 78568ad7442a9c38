"""Products of rows with many weights, as fast as memory gives the weights, which are taken from where they lie.

Compilers do not find these loops by themselves, so their innermost ones are written as LLVM's code: four lines of weights meet up to
six rows, and no sum waits for another.

A few rows are bound by memory. Their four lines are a quarter of a thread's weights away from each other: a processor fetches ahead once
within a page of memory, so that lines next to each other come half as fast. What is needed 2 kB later is asked for besides.

Many rows are bound by arithmetic. Four lines next to each other are made the type of the rows, once, and meet as many rows as stay in the
second level of the cache; meanwhile the next four are asked for. Weights of eight bits meet rows of as many, where there are instructions
for that: twice as many products as of sixteen, which a few rows have for nothing.
"""

import numpy as np

try:
    import numba
    from llvmlite import ir
    from numba import prange, types
    from numba.extending import intrinsic, overload
except ImportError as error:
    raise ImportError("numba is missing, which compiles the code steps of large models; pip install numba") from error

from .compiled import (
    BFLOAT16,
    BYTE,
    FEATURES,
    INDEX,
    REAL,
    SHORT,
    WORD,
    call_llvm,
    compiled,
    fetch,
    keep,
    read_everywhere,
    read_vector,
    real,
    shuffle,
    stored,
    write_vector,
)

_WIDE = {"avx512f", "avx512bw"} <= FEATURES
# Instructions that multiply pairs of numbers and add both: of sixteen bits (elsewhere, on ARM and older processors, weights of eight bits are
# made floats), and of bfloat16, which matrix registers do themselves. And one that does it with four bytes, the first ones unsigned.
HAS_PAIRS = "avx2" in FEATURES
HAS_BFLOAT16 = _WIDE and "avx512bf16" in FEATURES
HAS_BYTES = HAS_PAIRS and ("avx512vnni" in FEATURES if _WIDE else not FEATURES.isdisjoint({"avxvnni", "avx512vnni"}))
LANES = 16 if _WIDE else 8 if HAS_PAIRS else 4  # sums in a register
# rows of a tile, as many as there are registers for: products of whole numbers need one more where they are not added in one instruction
_MOST_ROWS = 6 if _WIDE else 3
_MOST_ROWS_OF_PAIRS = _MOST_ROWS - (not HAS_BYTES)
_AHEAD = 2048  # bytes
_NEAR = 2**14  # bytes of weights that are to stay in the first level of the cache
_NEXT = 3 * 2**16  # bytes of rows in the second
_PADDING = 16  # numbers: lines a power of two apart push each other out of the cache
_LEAST = 16  # outputs that are worth a thread
SMALL = 2**13  # numbers to pass through once that are not: to begin takes as long


@intrinsic
def _pointer(context, kind, address):
    def code(context, builder, signature, arguments):
        return builder.inttoptr(arguments[1], context.get_value_type(signature.return_type))

    return types.CPointer(kind.dtype)(kind, address), code


@numba.njit
def _matrix(kind, address, outputs, inputs):
    return numba.carray(_pointer(kind, address), (outputs, inputs))


def _tile(rows: int):
    """Make tile(here, lines, weights, ahead, row, last, origin, wide, count, factors, sums, steps, starts, before, below, target, stride).

    For four outputs o and the rows r from `row` on, of which `last` is the last (where they end, it is computed again): y[r][o] = before[r][o] + factors[o] steps[r] sum over k < count of
    weights[o][k] lines[r][k]. Where `lines` are of int16 (where `HAS_PAIRS`) or uint8 (where `HAS_BYTES`; with weights of int8) the sums are whole
    numbers; where they are bfloat16's bits (where `HAS_BFLOAT16`), so are the weights. Of uint8 comes sums[o] starts[r] besides.

    All else are addresses: `weights` of four lines, of the type of the array `here`; `origin` of rows, of the type of the array `lines`,
    `wide` bytes apart; `before` and the result, `target`, with lines that are `below` and `stride` bytes apart. `count` is a multiple of
    `_vector(lines)`, above 0. While k moves on, so do the addresses `ahead`, from which is fetched.
    """

    @intrinsic
    def tile(context, here, lines, weights, ahead, row, last, origin, wide, count, factors, sums, steps, starts, before, below, target, stride):  # fmt: skip
        in_bytes, halves = lines.dtype == types.uint8, lines.dtype == types.uint16
        whole, lanes = in_bytes or lines.dtype == types.int16, LANES * 32 // lines.dtype.bitwidth
        element = {8: BYTE, 16: SHORT, 32: REAL}[lines.dtype.bitwidth]
        shorts, words, floats, of_bfloat16 = (ir.VectorType(of, lanes) for of in (SHORT, WORD, REAL, BFLOAT16))
        total = ir.VectorType(WORD if whole else REAL, LANES)

        def weights_at(builder, address):
            if here.dtype.bitwidth == lines.dtype.bitwidth:
                return read_vector(builder, address, element, lanes)
            if here.dtype == types.uint16:
                bits = builder.zext(read_vector(builder, address, SHORT, lanes), words)
                return builder.bitcast(builder.shl(bits, words([16] * lanes)), floats)
            bits = read_vector(builder, address, BYTE, lanes)
            return builder.sext(bits, shorts) if whole else builder.sitofp(builder.sext(bits, words), floats)

        def add_product(builder, sum_, weight, heard):
            if halves:
                pair = (builder.bitcast(each, of_bfloat16) for each in (weight, heard))
                return call_llvm(builder, "llvm.x86.avx512bf16.dpbf16ps.512", total, sum_, *pair)
            if not whole:
                return call_llvm(builder, f"llvm.fma.v{lanes}f32", floats, weight, heard, sum_)
            if in_bytes:
                four = f"llvm.x86.avx512.vpdpbusd.{32 * LANES}"
                return call_llvm(builder, four, total, sum_, heard, weight)
            pairs = "llvm.x86.avx512.pmaddw.d.512" if _WIDE else "llvm.x86.avx2.pmadd.wd"
            return builder.add(sum_, call_llvm(builder, pairs, total, weight, heard))

        def four_sums(builder, vectors):
            """The sums of four vectors, as a vector."""

            def add(one, other, *masks):
                return (builder.add if whole else builder.fadd)(*(shuffle(builder, one, other, mask) for mask in masks))

            count = total.count
            # neighbours, within each four lanes, which processors do at once: a01 a23 b01 b23, then a b c d
            even = [place + lane for lane in range(0, count, 4) for place in (0, 2, count, count + 2)]
            odd = [place + 1 for place in even]
            ab, cd = add(*vectors[:2], even, odd), add(*vectors[2:], even, odd)
            sums = add(ab, cd, even, odd)
            while sums.type.count > 4:
                half = sums.type.count // 2
                sums = add(sums, sums, list(range(half)), list(range(half, 2 * half)))
            return sums

        def code(context, builder, signature, arguments):
            _, _, weights, ahead, row, last, origin, wide, count, factors, sums, steps, starts, *places = arguments
            before, below, target, stride = places

            def each(addresses):
                return [builder.extract_value(addresses, which) for which in range(len(addresses.type))]

            def line(address, number, apart):
                return builder.add(address, builder.mul(number, apart))

            start, loop, after = builder.block, *map(builder.append_basic_block, ("tile", "summed"))
            numbers = [builder.add(row, INDEX(r)) for r in range(rows)]
            numbers = [call_llvm(builder, "llvm.smin.i64", INDEX, number, last) for number in numbers]
            rows_at = [line(origin, number, wide) for number in numbers]
            weights, ahead = each(weights), each(ahead)
            builder.branch(loop)
            builder.position_at_end(loop)
            moved = builder.phi(INDEX)  # bytes of lines
            totals = [builder.phi(total) for _ in range(4 * rows)]
            moved_weights = builder.udiv(moved, INDEX(lines.dtype.bitwidth // here.dtype.bitwidth))
            heard = [read_vector(builder, builder.add(address, moved), element, lanes) for address in rows_at]
            for address in ahead:
                fetch(builder, builder.add(address, moved_weights))
            new = []
            for o, address in enumerate(weights):
                weight = weights_at(builder, builder.add(address, moved_weights))
                new += [add_product(builder, totals[o * rows + r], weight, heard[r]) for r in range(rows)]
            size = lines.dtype.bitwidth // 8
            following = builder.add(moved, INDEX(lanes * size))
            for phi, value in zip([moved, *totals], [following, *new], strict=True):
                phi.add_incoming(phi.type(0 if phi is moved else None), start)
                phi.add_incoming(value, loop)
            builder.cbranch(builder.icmp_signed("<", following, builder.mul(count, INDEX(size))), loop, after)
            builder.position_at_end(after)
            factor, of_weights = (read_vector(builder, address, REAL, 4) for address in (factors, sums))

            def add_to(offset, one, other):
                return call_llvm(builder, "llvm.fma.v4f32", factor.type, one, other, offset)

            results = []  # all before the first is written: a row may be there twice
            for r, number in enumerate(numbers):
                of_products = four_sums(builder, new[r::rows])
                of_products = builder.sitofp(of_products, factor.type) if whole else of_products
                step, begin = (
                    read_everywhere(builder, line(of_row, number, INDEX(4)), 4) for of_row in (steps, starts)
                )
                result = read_vector(builder, line(before, number, below), REAL, 4)
                result = add_to(result, of_weights, begin) if in_bytes else result
                results.append(add_to(result, of_products, builder.fmul(factor, step)))
            for number, result in zip(numbers, results, strict=True):
                write_vector(builder, result, line(target, number, stride))
            return context.get_dummy_value()

        number = types.int64
        return types.void(here, lines, types.UniTuple(number, 4), ahead, *[number] * 13), code

    return tile


_TILES = {rows: _tile(rows) for rows in sorted({1, 3, 4, _MOST_ROWS, _MOST_ROWS_OF_PAIRS})}


def _most_rows(lines):
    """Of a tile."""


@overload(_most_rows, inline="always")
def _most_rows_of(lines):
    most = _MOST_ROWS_OF_PAIRS if lines.dtype == types.int16 else _MOST_ROWS
    return lambda lines: most


@compiled(inline="always")
def _rows_of_next(left, most):
    """Rows of the next tile, where so many are left: 22 are 6, 6, 6, 4 and 8 are 4, 4."""
    rows = left if left == 1 else 3 if left <= 3 else 4 if left == 4 or left == 7 or left == 8 else most
    return min(rows, most)


def _meet(here, lines, row, rows, weights, ahead, places):
    """The tile of so many rows, from `row` on."""


@overload(_meet, inline="always")
def _meet_of(here, lines, row, rows, weights, ahead, places):
    several = _MOST_ROWS_OF_PAIRS if lines.dtype == types.int16 else _MOST_ROWS
    one, three, four, many = _TILES[1], _TILES[3], _TILES[4], _TILES[several]
    has_three, has_four = several > 3, several > 4  # known to the compiler, which would make the same code twice

    def meet(here, lines, row, rows, weights, ahead, places):
        last = len(lines) - 1
        if rows == 1:
            one(here, lines, weights, ahead, row, last, *places)
        elif has_three and rows == 3:
            three(here, lines, weights, ahead, row, last, *places)
        elif has_four and rows == 4:
            four(here, lines, weights, ahead, row, last, *places)
        else:
            many(here, lines, weights, ahead, row, last, *places)

    return meet


def _vector(line):
    """Numbers of a line that an instruction takes."""


@overload(_vector, inline="always")
def _vector_of(line):
    lanes = LANES * 32 // line.dtype.bitwidth
    return lambda line: lanes


@compiled()
def _few(kind, start, factors, sums, biases, lines, steps, starts, y, low, high):
    """Outputs `low` to `high` of a matrix that lies at `start`: y = (lines * steps) weight^T factors + biases.

    lines [rows, inputs], steps [rows], y [rows, outputs], factors and biases [outputs]; `sums` and `starts` are for `_many`.
    """
    rows, inputs = lines.shape
    weight = _matrix(kind, start, high, inputs)
    count = inputs - inputs % _vector(lines)
    size, quarter = inputs * weight.itemsize, (high - low + 3) // 4
    most = _most_rows(lines)
    of_four, totals = np.empty((2, 4), np.float32), np.zeros((rows, 4), np.float32)
    factor, step = of_four.ctypes.data, steps.ctypes.data
    of_rows = lines.ctypes.data, inputs * lines.itemsize, count, factor, factor, step, step  # lines begin with zero
    places = of_rows + (factor + 16, 0, totals.ctypes.data, 16)
    for first in range(low, low + quarter):
        last = high - 1  # where the outputs end, the last one is computed again
        o = first, min(first + quarter, last), min(first + 2 * quarter, last), min(first + 3 * quarter, last)
        weights = start + o[0] * size, start + o[1] * size, start + o[2] * size, start + o[3] * size
        ahead = weights[0] + _AHEAD, weights[1] + _AHEAD, weights[2] + _AHEAD, weights[3] + _AHEAD
        for which in range(4):
            of_four[0, which], of_four[1, which] = factors[o[which]], biases[o[which]]
        if count > 0:
            row = 0
            while row < rows:
                together = _rows_of_next(rows - row, most)
                _meet(kind, lines, row, together, weights, ahead, places)
                row += together
        for which in range(4):
            output = o[which]
            for row in range(rows):
                if count == 0:
                    totals[row, which] = of_four[1, which]
                rest = np.float32(0)
                for k in range(count, inputs):
                    rest += real(weight[output, k]) * real(lines[row, k])
                y[row, output] = totals[row, which] + rest * (factors[output] * steps[row])
    keep(totals)
    keep(of_four)


def _like(number, line):
    """A weight as an element of `line`."""


@overload(_like, inline="always")
def _like_of(number, line):
    if line.dtype != types.float32:
        return lambda number, line: number
    return lambda number, line: real(number)


@compiled()
def _copy_weights(weight, line):
    for k in range(len(weight)):
        line[k] = _like(weight[k], line)


def _four_lines(kind, weight, ready, start, o, k, count):
    """`count` weights of each of four lines, from [o, k] on, as the rows are, in `ready` if they are not; their addresses."""


@overload(_four_lines)
def _four_lines_of(kind, weight, ready, start, o, k, count):
    if kind.dtype.bitwidth == ready.dtype.bitwidth:

        def there(kind, weight, ready, start, o, k, count):
            size = weight.shape[1] * ready.itemsize
            place = start + o * size + k * ready.itemsize
            return place, place + size, place + 2 * size, place + 3 * size

        return there

    def copied(kind, weight, ready, start, o, k, count):
        for which in range(4):
            _copy_weights(weight[o + which, k : k + count], ready[which])
        place, size = ready.ctypes.data, ready.strides[0]
        return place, place + size, place + 2 * size, place + 3 * size

    return copied


@compiled()
def _many(kind, start, factors, sums, biases, lines, steps, starts, y, low, high):
    """As `_few`, of a multiple of four outputs, and of inputs that fill instructions. Lines of uint8 are lines * steps + starts; what the
    weights of an output add up to, times its factor, is in `sums`.
    """
    rows, inputs = lines.shape
    weight, here = _matrix(kind, start, high, inputs), lines[0, :0]
    long = min(inputs, _NEAR // 4 // lines.itemsize)
    most = _most_rows(lines)
    group = max(1, _NEXT // (long * lines.itemsize * most)) * most
    size, near = inputs * weight.itemsize, np.empty((4, long + _PADDING), lines.dtype)
    origin, wide, target, stride = lines.ctypes.data, inputs * lines.itemsize, y.ctypes.data, y.shape[1] * y.itemsize
    factor, bias, step, begin = factors.ctypes.data, biases.ctypes.data, steps.ctypes.data, starts.ctypes.data
    all_sums, nothing = sums.ctypes.data, np.zeros(4, np.float32)
    for first in range(0, rows, group):
        for o in range(low, high, 4):
            for k in range(0, inputs, long):
                count, following = min(long, inputs - k), k + long
                weights = _four_lines(kind, weight, near, start, o, k, count)
                later = start + (o * size + following * weight.itemsize if following < inputs else (o + 4) * size)
                before, below = (bias + 4 * o, 0) if k == 0 else (target + 4 * o, stride)
                of_weights = all_sums + 4 * o if k == 0 else nothing.ctypes.data
                of_rows = origin + k * lines.itemsize, wide, count, factor + 4 * o, of_weights, step, begin
                places = of_rows + (before, below, target + 4 * o, stride)
                row, which = first, 0
                while row < min(first + group, rows):
                    # smaller ones would be compiled for little
                    together = max(_rows_of_next(rows - row, most), min(4, most))
                    _meet(here, lines, row, together, weights, (later + which % 4 * size,), places)
                    row, which = row + together, which + 1
    keep(near)
    keep(nothing)


@compiled()
def _few_or_many(kind, start, factors, sums, biases, lines, steps, starts, y, low, high):
    many = len(lines) > 2 * _most_rows(lines) and lines.shape[1] % _vector(lines) == 0
    middle = high - (high - low) % 4 if many else low
    if low < middle:
        _many(kind, start, factors, sums, biases, lines, steps, starts, y, low, middle)
    if middle < high:
        _few(kind, start, factors, sums, biases, lines, steps, starts, y, middle, high)


def _meet_lines(kind, start, factors, sums, biases, lines, steps, starts, y, low, high):
    """Few or many. Of eight bits only many, and then of sixteen bits only few, so that no code is made that is not used."""


@overload(_meet_lines, inline="always")
def _meet_lines_of(kind, start, factors, sums, biases, lines, steps, starts, y, low, high):
    meet = _many if lines.dtype == types.uint8 else _few if lines.dtype == types.int16 and HAS_BYTES else _few_or_many
    return lambda kind, start, factors, sums, biases, lines, steps, starts, y, low, high: meet(
        kind, start, factors, sums, biases, lines, steps, starts, y, low, high
    )


@compiled()
def _multiply_share(kind, addresses, outputs, scales, biases, first, lines, steps, blocks, low, high, y, item):
    share = ((high - low + blocks - 1) // blocks + 3) // 4 * 4
    part, begin = item // blocks, low + item % blocks * share
    end, source, place = min(begin + share, high), min(part, len(lines) - 1), outputs[first + part]
    of_part = slice(place, place + y.shape[2])
    factors, sums, line_steps, starts = scales[0, of_part], scales[1, of_part], steps[0, source], steps[1, source]
    start, offsets, said = addresses[first + part], biases[of_part], y[part]
    if begin < end:
        _meet_lines(kind, start, factors, sums, offsets, lines[source], line_steps, starts, said, begin, end)


@compiled(parallel=True)
def multiply(kind, addresses, outputs, scales, biases, first, lines, steps, threads, low, high, y):
    """Outputs `low` to `high` of `product`, of lines that are ready: [parts, rows, inputs] of float32 or bfloat16, or of whole numbers.

    steps [2, parts, rows]: what they are multiplied with and, of uint8, what is added then.
    """
    blocks = max(1, min(threads, (high - low) // _LEAST))
    for item in prange(y.shape[0] * blocks):  # what is inside of such a loop takes the compiler three times as long
        _multiply_share(
            kind, addresses, outputs, scales, biases, first, lines, steps, blocks, low, high, y, np.int64(item)
        )


@compiled(inline="always")
def _ordered(bits):
    """Bits of floats as whole numbers in the same order, and back. Of floats compilers look for the largest one by one."""
    return bits ^ (bits >> np.int32(31) & np.int32(0x7FFFFFFF))


@compiled()
def _to_bytes(line, rounded):
    bits, least, most = line.view(np.int32), np.int32(0x7FFFFFFF), np.int32(-0x80000000)
    for k in range(len(line)):
        number = _ordered(bits[k])
        least, most = min(least, number), max(most, number)
    lowest, highest = np.int32(_ordered(least)).view(np.float32), np.int32(_ordered(most)).view(np.float32)
    step = (highest - lowest) / np.float32(255)
    factor = np.float32(1) / step if step > 0 else np.float32(0)
    for k in range(len(line)):
        rounded[k] = np.uint8(np.int32((line[k] - lowest) * factor + np.float32(0.5)))
    return step, lowest


@compiled()
def _to_pairs(line, rounded):
    """So that no sum of products with weights up to 127 can leave 32 bits."""
    bits, largest_bits, total = line.view(np.int32), np.int32(0), np.float32(0)
    for k in range(len(line)):
        largest_bits = max(largest_bits, bits[k] & np.int32(0x7FFFFFFF))
        total += abs(line[k])
    largest = np.int32(largest_bits).view(np.float32)
    step = max(largest / np.float32(32767), total / np.float32(2**31 / 128 - len(line)))
    factor = np.float32(1) / step if step > 0 else np.float32(0)
    for k in range(len(line)):
        rounded[k] = np.int16(np.floor(line[k] * factor + np.float32(0.5)))
    return step, np.float32(0)


@compiled()
def _to_bfloat16(line, rounded):
    for k in range(len(line)):
        rounded[k] = stored(line[k], rounded)
    return np.float32(1), np.float32(0)


def _round_line(line, rounded):
    """line = rounded * step + start, to half a step. Returns these two."""


@overload(_round_line, inline="always")
def _round_line_of(line, rounded):
    round_line = {types.uint8: _to_bytes, types.int16: _to_pairs, types.uint16: _to_bfloat16}[rounded.dtype]
    return lambda line, rounded: round_line(line, rounded)


@compiled()
def _round_one(x, rounded, steps, line):
    steps[0, line], steps[1, line] = _round_line(x[line], rounded[line])


@compiled(parallel=True)
def _round_lines(x, rounded, steps):
    """Each line of [lines, inputs]; steps [2, lines]."""
    if x.size <= SMALL:
        for line in range(len(x)):
            _round_one(x, rounded, steps, line)
    else:
        for line in prange(len(x)):
            _round_one(x, rounded, steps, np.int64(line))


@compiled()
def _rounded(x, like):
    """Lines of the type of `like`, and what they are multiplied with and begin with."""
    parts, rows, inputs = x.shape
    lines, steps = np.empty(x.shape, like.dtype), np.empty((2, parts, rows), np.float32)
    _round_lines(x.reshape(parts * rows, inputs), lines.reshape(parts * rows, inputs), steps.reshape(2, parts * rows))
    return lines, steps


@compiled()
def _as_it_is(x):
    return x, np.ones((2, x.shape[0], x.shape[1]), np.float32)


def _ready(kind, x):
    """Lines of float32 as a few of them meet the weights, and their steps."""


@overload(_ready)
def _ready_of(kind, x):
    if kind.dtype == types.int8 and HAS_PAIRS:
        return lambda kind, x: _rounded(x, np.empty(0, np.int16))
    if kind.dtype == types.uint16 and HAS_BFLOAT16:
        return lambda kind, x: _rounded(x, kind)
    return lambda kind, x: _as_it_is(x)


def _in_bytes(kind, addresses, outputs, scales, biases, first, x, threads, y):
    """As many outputs as fill tiles, with rows of eight bits, where that pays. Returns how many."""


@overload(_in_bytes)
def _in_bytes_of(kind, addresses, outputs, scales, biases, first, x, threads, y):
    if kind.dtype != types.int8 or not HAS_BYTES:
        return lambda kind, addresses, outputs, scales, biases, first, x, threads, y: 0

    def multiply_bytes(kind, addresses, outputs, scales, biases, first, x, threads, y):
        many, done = np.empty(0, np.uint8), y.shape[2] - y.shape[2] % 4
        if y.shape[1] <= 2 * _most_rows(many) or x.shape[2] % _vector(many) > 0:
            return 0
        lines, steps = _rounded(x, many)
        multiply(kind, addresses, outputs, scales, biases, first, lines, steps, threads, 0, done, y)
        return done

    return multiply_bytes


@compiled()
def product(kind, addresses, outputs, scales, biases, first, x, threads, y):
    """y[i] = (x[i] weight^T) scale + bias, with the matrices `first`, `first + 1`, ... of one shape; all take x[0] if x has no more.

    [parts, rows, inputs] -> [parts, rows, outputs]. `kind` is an empty array of the weights' type: float32, uint16 (the bits of
    bfloat16) or int8. Where these are multiplied as whole numbers, inputs are rounded to sixteen bits, or to eight if rows are many; where there are
    instructions for bfloat16, to that. `outputs` tells where a matrix has its biases and `scales`: [2, outputs], the second ones times
    what the weights of an output add up to.
    """
    size = y.shape[2]
    done = _in_bytes(kind, addresses, outputs, scales, biases, first, x, threads, y)
    if done < size:
        lines, steps = _ready(kind, x)
        multiply(kind, addresses, outputs, scales, biases, first, lines, steps, threads, done, size, y)


__all__ = ["HAS_BFLOAT16", "HAS_BYTES", "HAS_PAIRS", "LANES", "SMALL", "multiply", "product"]
