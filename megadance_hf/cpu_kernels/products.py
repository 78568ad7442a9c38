"""Products of activations with large weight matrices, which are read from where they lie, at the speed of memory.

The micro-kernel multiplies four rows of weights (four outputs) with up to six rows of activations. Its register tile
has an accumulator for each pair of rows, so that none waits for another. Compilers do not find this loop by
themselves; `_tile` writes it as LLVM IR.

`_few_rows` is bound by memory. Its four weight rows are a quarter of a thread's outputs apart: a processor's own
prefetcher follows one stream per page, so that adjacent rows come half as fast. It prefetches 2 kB ahead as well.

`_many_rows` is bound by arithmetic. It converts four adjacent weight rows to the activations' type once, multiplies
them with as many rows of activations as stay in the L2 cache, and prefetches the next four meanwhile. For int8
weights the activations are quantized to eight bits if the processor has byte dot products, which do twice the work of
the 16-bit ones; `_few_rows` would gain nothing from that.
"""

import numba
import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic, overload

from .compiled import (
    BYTE,
    FEATURES,
    INDEX,
    REAL,
    SHORT,
    WORD,
    broadcast_float,
    call_llvm,
    compiled,
    keep_alive,
    prefetch,
    read_vector,
    shuffle,
    to_float32,
    to_type_of,
    write_vector,
)

_AVX512 = {"avx512f", "avx512bw"} <= FEATURES
# Dot-product instructions: a 32-bit lane adds the products of two int16, two bfloat16, or four uint8 with four int8.
# Without the first, as on ARM, int8 weights are converted to float32.
HAS_INT16_DOT = "avx2" in FEATURES
HAS_BFLOAT16_DOT = _AVX512 and "avx512bf16" in FEATURES
HAS_UINT8_DOT = HAS_INT16_DOT and (
    "avx512vnni" in FEATURES if _AVX512 else not FEATURES.isdisjoint({"avxvnni", "avx512vnni"})
)
LANES = 16 if _AVX512 else 8 if HAS_INT16_DOT else 4  # 32-bit accumulators per register
# Rows of the largest register tile. Without VNNI an int16 dot product and its addition are two instructions, which
# take one more register.
_TILE_ROWS = 6 if _AVX512 else 3
_TILE_ROWS_INT16 = _TILE_ROWS - (not HAS_UINT8_DOT)
_AHEAD = 2048  # prefetch distance in bytes
_L1_BUDGET = 2**14  # bytes of converted weights that are to stay in the L1 cache
_L2_BUDGET = 3 * 2**16  # bytes of activations that are to stay in the L2 cache
_PADDING = 16  # elements between buffered rows: rows a power of two apart evict each other from the cache
_MIN_OUTPUTS_PER_THREAD = 16
SERIAL_SIZE = 2**13  # elements of an elementwise loop up to which starting threads takes longer than the loop


@intrinsic
def _pointer(context, weight_type, address):
    def code(context, builder, signature, arguments):
        return builder.inttoptr(arguments[1], context.get_value_type(signature.return_type))

    return types.CPointer(weight_type.dtype)(weight_type, address), code


@numba.njit
def _matrix(weight_type, address, outputs, inputs):
    return numba.carray(_pointer(weight_type, address), (outputs, inputs))


def _tile(rows: int):
    """Make the micro-kernel for a register tile of four outputs by `rows` rows of activations.

    For each of the four outputs o and each row r = row, row + 1, ... (past `last_row` that one is computed again):

        output[r, o] = initial[r, o] + scales[o] * row_scales[r] * sum over k < inputs of weights[o, k] * x[r, k]

    and, for x of uint8, + sums[o] * zero_points[r]. Arguments after the first two are addresses and sizes:

        weight_type, x: arrays of the types of weights and activations. x of int16 (needs `HAS_INT16_DOT`) or uint8
            (needs `HAS_UINT8_DOT`) goes with int8 weights, and is accumulated in int32; x of bfloat16's bits as uint16
            (needs `HAS_BFLOAT16_DOT`) goes with bfloat16 weights; x of float32 goes with weights of any type.
        weights: of the four weight rows. prefetched: of what to prefetch; they move on as k does.
        activations: of row 0 of x, with rows `row_stride` bytes apart. inputs: multiple of `_vector_length(x)`, > 0.
        scales, sums: float32, of the four outputs. row_scales, zero_points: float32, of all rows.
        initial, output: float32, of [rows, 4], with rows `initial_stride` and `output_stride` bytes apart.
    """

    @intrinsic
    def tile(
        context, weight_type, x, weights, prefetched, row, last_row, activations, row_stride, inputs,
        scales, sums, row_scales, zero_points, initial, initial_stride, output, output_stride,
    ):  # fmt: skip
        is_uint8, is_bfloat16 = x.dtype == types.uint8, x.dtype == types.uint16
        is_integer, lanes = is_uint8 or x.dtype == types.int16, LANES * 32 // x.dtype.bitwidth
        element = {8: BYTE, 16: SHORT, 32: REAL}[x.dtype.bitwidth]
        shorts, words, floats = (ir.VectorType(of, lanes) for of in (SHORT, WORD, REAL))
        accumulator, pairs = ir.VectorType(WORD if is_integer else REAL, LANES), ir.VectorType(WORD, LANES)

        def read_weights(builder, address):
            if weight_type.dtype.bitwidth == x.dtype.bitwidth:
                return read_vector(builder, address, element, lanes)
            if weight_type.dtype == types.uint16:
                bits = builder.zext(read_vector(builder, address, SHORT, lanes), words)
                return builder.bitcast(builder.shl(bits, words([16] * lanes)), floats)
            bits = read_vector(builder, address, BYTE, lanes)
            return builder.sext(bits, shorts) if is_integer else builder.sitofp(builder.sext(bits, words), floats)

        def multiply_add(builder, total, weight, activation):
            if is_bfloat16:  # LLVM before 16 takes pairs of bfloat16 as words; later ones convert the call
                operands = (builder.bitcast(vector, pairs) for vector in (weight, activation))
                return call_llvm(builder, "llvm.x86.avx512bf16.dpbf16ps.512", accumulator, total, *operands)
            if not is_integer:
                return call_llvm(builder, f"llvm.fma.v{lanes}f32", floats, weight, activation, total)
            if is_uint8:
                dot = f"llvm.x86.avx512.vpdpbusd.{32 * LANES}"
                return call_llvm(builder, dot, accumulator, total, activation, weight)
            dot = "llvm.x86.avx512.pmaddw.d.512" if _AVX512 else "llvm.x86.avx2.pmadd.wd"
            return builder.add(total, call_llvm(builder, dot, accumulator, weight, activation))

        def horizontal_sums(builder, vectors):
            """The sums of the lanes of four vectors, as one vector of four."""

            def add(one, other, *masks):
                operands = [shuffle(builder, one, other, mask) for mask in masks]
                return builder.add(*operands) if is_integer else builder.fadd(*operands)

            count = accumulator.count
            # adjacent lanes within each group of four, which is one instruction: a01 a23 b01 b23, then a b c d
            even = [group + lane for group in range(0, count, 4) for lane in (0, 2, count, count + 2)]
            odd = [lane + 1 for lane in even]
            ab, cd = add(*vectors[:2], even, odd), add(*vectors[2:], even, odd)
            sums = add(ab, cd, even, odd)
            while sums.type.count > 4:
                half = sums.type.count // 2
                sums = add(sums, sums, list(range(half)), list(range(half, 2 * half)))
            return sums

        def code(context, builder, signature, arguments):
            _, _, weights, prefetched, row, last_row, activations, row_stride, inputs, *addresses = arguments
            scales, sums, row_scales, zero_points, *addresses = addresses
            initial, initial_stride, output, output_stride = addresses

            def unpack(addresses):
                return [builder.extract_value(addresses, index) for index in range(len(addresses.type))]

            def row_address(address, number, stride):
                return builder.add(address, builder.mul(number, stride))

            start, loop, after = builder.block, *map(builder.append_basic_block, ("tile", "summed"))
            numbers = [builder.add(row, INDEX(r)) for r in range(rows)]
            numbers = [call_llvm(builder, "llvm.smin.i64", INDEX, number, last_row) for number in numbers]
            row_addresses = [row_address(activations, number, row_stride) for number in numbers]
            weights, prefetched = unpack(weights), unpack(prefetched)
            builder.branch(loop)
            builder.position_at_end(loop)
            offset = builder.phi(INDEX)  # bytes within a row of activations
            totals = [builder.phi(accumulator) for _ in range(4 * rows)]
            weight_offset = builder.udiv(offset, INDEX(x.dtype.bitwidth // weight_type.dtype.bitwidth))
            vectors = [read_vector(builder, builder.add(address, offset), element, lanes) for address in row_addresses]
            for address in prefetched:
                prefetch(builder, builder.add(address, weight_offset))
            new_totals = []
            for o, address in enumerate(weights):
                weight = read_weights(builder, builder.add(address, weight_offset))
                new_totals += [multiply_add(builder, totals[o * rows + r], weight, vectors[r]) for r in range(rows)]
            size = x.dtype.bitwidth // 8
            next_offset = builder.add(offset, INDEX(lanes * size))
            for phi, value in zip([offset, *totals], [next_offset, *new_totals], strict=True):
                phi.add_incoming(phi.type(0 if phi is offset else None), start)
                phi.add_incoming(value, loop)
            builder.cbranch(builder.icmp_signed("<", next_offset, builder.mul(inputs, INDEX(size))), loop, after)
            builder.position_at_end(after)
            scale, sum_of_weights = (read_vector(builder, address, REAL, 4) for address in (scales, sums))

            def fma(addend, one, other):
                return call_llvm(builder, "llvm.fma.v4f32", scale.type, one, other, addend)

            results = []  # all before the first is written: the last row may be there twice
            for r, number in enumerate(numbers):
                products = horizontal_sums(builder, new_totals[r::rows])
                products = builder.sitofp(products, scale.type) if is_integer else products
                row_scale, zero_point = (
                    broadcast_float(builder, row_address(address, number, INDEX(4)), 4)
                    for address in (row_scales, zero_points)
                )
                result = read_vector(builder, row_address(initial, number, initial_stride), REAL, 4)
                result = fma(result, sum_of_weights, zero_point) if is_uint8 else result
                results.append(fma(result, products, builder.fmul(scale, row_scale)))
            for number, result in zip(numbers, results, strict=True):
                write_vector(builder, result, row_address(output, number, output_stride))
            return context.get_dummy_value()

        number = types.int64
        return types.void(weight_type, x, types.UniTuple(number, 4), prefetched, *[number] * 13), code

    return tile


_TILES = {rows: _tile(rows) for rows in sorted({1, 3, 4, _TILE_ROWS, _TILE_ROWS_INT16})}


def _max_tile_rows(x):
    """Rows of the largest tile for activations of the type of `x`."""


@overload(_max_tile_rows, inline="always")
def _max_tile_rows_overload(x):
    rows = _TILE_ROWS_INT16 if x.dtype == types.int16 else _TILE_ROWS
    return lambda x: rows


@compiled(inline="always")
def _next_tile_rows(left, largest):
    """Rows of the next tile, where `left` rows are left: 22 are 6, 6, 6, 4 and 8 are 4, 4."""
    rows = left if left == 1 else 3 if left <= 3 else 4 if left == 4 or left == 7 or left == 8 else largest
    return min(rows, largest)


def _run_tile(weight_type, x, row, rows, weights, prefetched, arguments):
    """The micro-kernel for a tile of `rows` rows, from `row` on; `arguments` are those after `last_row`."""


@overload(_run_tile, inline="always")
def _run_tile_overload(weight_type, x, row, rows, weights, prefetched, arguments):
    most = _TILE_ROWS_INT16 if x.dtype == types.int16 else _TILE_ROWS
    one, three, four, largest = _TILES[1], _TILES[3], _TILES[4], _TILES[most]
    has_three, has_four = most > 3, most > 4  # constants, so that no tile is compiled twice

    def run_tile(weight_type, x, row, rows, weights, prefetched, arguments):
        last_row = len(x) - 1
        if rows == 1:
            one(weight_type, x, weights, prefetched, row, last_row, *arguments)
        elif has_three and rows == 3:
            three(weight_type, x, weights, prefetched, row, last_row, *arguments)
        elif has_four and rows == 4:
            four(weight_type, x, weights, prefetched, row, last_row, *arguments)
        else:
            largest(weight_type, x, weights, prefetched, row, last_row, *arguments)

    return run_tile


def _vector_length(x):
    """Elements of the type of `x` in a register."""


@overload(_vector_length, inline="always")
def _vector_length_overload(x):
    lanes = LANES * 32 // x.dtype.bitwidth
    return lambda x: lanes


@compiled()
def _few_rows(weight_type, matrix, scales, sums, biases, x, row_scales, zero_points, y, start, stop):
    """Outputs `start` to `stop` of y = (x weight^T) * scales * row_scales + biases, for few rows.

    Args:
        weight_type: an array of the weights' type. matrix: address of the weight, [outputs, inputs].
        scales, biases: float32 [outputs]. row_scales: float32 [rows].
        sums, zero_points: unused; they make the signature that of `_many_rows`.
        x: [rows, inputs] in a type that `_tile` takes, but uint8. y: float32 [rows, outputs], written.
    """
    rows, inputs = x.shape
    weight = _matrix(weight_type, matrix, stop, inputs)
    count = inputs - inputs % _vector_length(x)
    weight_stride, quarter = inputs * weight.itemsize, (stop - start + 3) // 4
    largest = _max_tile_rows(x)
    scales_and_biases, tile_output = np.empty((2, 4), np.float32), np.zeros((rows, 4), np.float32)
    scale, row_scale = scales_and_biases.ctypes.data, row_scales.ctypes.data
    operands = x.ctypes.data, inputs * x.itemsize, count, scale, scale, row_scale, row_scale  # no sums, no zero points
    arguments = operands + (scale + 16, 0, tile_output.ctypes.data, 16)
    for o0 in range(start, start + quarter):
        last = stop - 1  # where the outputs end, the last one is computed again
        o = o0, min(o0 + quarter, last), min(o0 + 2 * quarter, last), min(o0 + 3 * quarter, last)
        weights = (
            matrix + o[0] * weight_stride,
            matrix + o[1] * weight_stride,
            matrix + o[2] * weight_stride,
            matrix + o[3] * weight_stride,
        )
        prefetched = weights[0] + _AHEAD, weights[1] + _AHEAD, weights[2] + _AHEAD, weights[3] + _AHEAD
        for i in range(4):
            scales_and_biases[0, i], scales_and_biases[1, i] = scales[o[i]], biases[o[i]]
        if count > 0:
            row = 0
            while row < rows:
                tile_rows = _next_tile_rows(rows - row, largest)
                _run_tile(weight_type, x, row, tile_rows, weights, prefetched, arguments)
                row += tile_rows
        for i in range(4):
            output = o[i]
            for row in range(rows):
                if count == 0:
                    tile_output[row, i] = scales_and_biases[1, i]
                rest = np.float32(0)
                for k in range(count, inputs):
                    rest += to_float32(weight[output, k]) * to_float32(x[row, k])
                y[row, output] = tile_output[row, i] + rest * (scales[output] * row_scales[row])
    keep_alive(tile_output)
    keep_alive(scales_and_biases)


def _convert_weight(weight, converted):
    """A weight as an element of the array `converted`: int8 and bfloat16's bits as float32, or as they are."""


@overload(_convert_weight, inline="always")
def _convert_weight_overload(weight, converted):
    if converted.dtype != types.float32:
        return lambda weight, converted: weight
    return lambda weight, converted: to_float32(weight)


@compiled()
def _convert_weights(weights, converted):
    for k in range(len(weights)):
        converted[k] = _convert_weight(weights[k], converted)


def _four_weight_rows(weight_type, weight, buffer, matrix, o, k, count):
    """Addresses of weights [o : o + 4, k : k + count], in the type of `buffer` [4, >= count]; in it if converted."""


@overload(_four_weight_rows)
def _four_weight_rows_overload(weight_type, weight, buffer, matrix, o, k, count):
    if weight_type.dtype.bitwidth == buffer.dtype.bitwidth:

        def in_place(weight_type, weight, buffer, matrix, o, k, count):
            size = weight.shape[1] * buffer.itemsize
            address = matrix + o * size + k * buffer.itemsize
            return address, address + size, address + 2 * size, address + 3 * size

        return in_place

    def converted(weight_type, weight, buffer, matrix, o, k, count):
        for i in range(4):
            _convert_weights(weight[o + i, k : k + count], buffer[i])
        address, size = buffer.ctypes.data, buffer.strides[0]
        return address, address + size, address + 2 * size, address + 3 * size

    return converted


@compiled()
def _many_rows(weight_type, matrix, scales, sums, biases, x, row_scales, zero_points, y, start, stop):
    """As `_few_rows`, for many rows, a multiple of four outputs, and a multiple of `_vector_length(x)` inputs.

    x of uint8 stands for x * row_scales + zero_points, float32 [rows]; then `sums`, float32 [outputs], is scales times
    the sum of the weights of each output.
    """
    rows, inputs = x.shape
    weight, x_type = _matrix(weight_type, matrix, stop, inputs), x[0, :0]
    block = min(inputs, _L1_BUDGET // 4 // x.itemsize)
    largest = _max_tile_rows(x)
    group = max(1, _L2_BUDGET // (block * x.itemsize * largest)) * largest
    weight_stride, buffer = inputs * weight.itemsize, np.empty((4, block + _PADDING), x.dtype)
    activations, row_stride = x.ctypes.data, inputs * x.itemsize
    output, output_stride = y.ctypes.data, y.shape[1] * y.itemsize
    scale, row_scale, zero_point = scales.ctypes.data, row_scales.ctypes.data, zero_points.ctypes.data
    bias, weight_sum, zeros = biases.ctypes.data, sums.ctypes.data, np.zeros(4, np.float32)
    for first_row in range(0, rows, group):
        for o in range(start, stop, 4):
            for k in range(0, inputs, block):
                count, next_k = min(block, inputs - k), k + block
                weights = _four_weight_rows(weight_type, weight, buffer, matrix, o, k, count)
                next_o = o if next_k < inputs else o + 4
                following = matrix + next_o * weight_stride + (next_k * weight.itemsize if next_k < inputs else 0)
                initial, initial_stride = (bias + 4 * o, 0) if k == 0 else (output + 4 * o, output_stride)
                sum_ = weight_sum + 4 * o if k == 0 else zeros.ctypes.data
                operands = activations + k * x.itemsize, row_stride, count, scale + 4 * o, sum_, row_scale, zero_point
                arguments = operands + (initial, initial_stride, output + 4 * o, output_stride)
                row, i = first_row, 0
                while row < min(first_row + group, rows):
                    # tiles of fewer than four rows would be compiled for little
                    tile_rows = max(_next_tile_rows(rows - row, largest), min(4, largest))
                    _run_tile(x_type, x, row, tile_rows, weights, (following + i % 4 * weight_stride,), arguments)
                    row, i = row + tile_rows, i + 1
    keep_alive(buffer)
    keep_alive(zeros)


@compiled()
def _any_rows(weight_type, matrix, scales, sums, biases, x, row_scales, zero_points, y, start, stop):
    many = len(x) > 2 * _max_tile_rows(x) and x.shape[1] % _vector_length(x) == 0
    middle = stop - (stop - start) % 4 if many else start
    if start < middle:
        _many_rows(weight_type, matrix, scales, sums, biases, x, row_scales, zero_points, y, start, middle)
    if middle < stop:
        _few_rows(weight_type, matrix, scales, sums, biases, x, row_scales, zero_points, y, middle, stop)


def _multiply_matrix(weight_type, matrix, scales, sums, biases, x, row_scales, zero_points, y, start, stop):
    """`_few_rows` or `_many_rows`. uint8 has only many rows, and int16 then only few: no unused code is compiled."""


@overload(_multiply_matrix, inline="always")
def _multiply_matrix_overload(weight_type, matrix, scales, sums, biases, x, row_scales, zero_points, y, start, stop):
    few = x.dtype == types.int16 and HAS_UINT8_DOT
    loop = _many_rows if x.dtype == types.uint8 else _few_rows if few else _any_rows

    def multiply_matrix(weight_type, matrix, scales, sums, biases, x, row_scales, zero_points, y, start, stop):
        loop(weight_type, matrix, scales, sums, biases, x, row_scales, zero_points, y, start, stop)

    return multiply_matrix


@compiled()
def _multiply_block(weight_type, matrices, offsets, scales, biases, first, x, row_scales, blocks, start, stop, y, item):
    outputs = ((stop - start + blocks - 1) // blocks + 3) // 4 * 4
    part, block_start = item // blocks, start + item % blocks * outputs
    block_stop, source, offset = min(block_start + outputs, stop), min(part, len(x) - 1), offsets[first + part]
    own = slice(offset, offset + y.shape[2])
    own_scales, sums, zero_points = row_scales[0, source], scales[1, own], row_scales[1, source]
    if block_start < block_stop:
        _multiply_matrix(
            weight_type, matrices[first + part], scales[0, own], sums, biases[own],
            x[source], own_scales, zero_points, y[part], block_start, block_stop,
        )  # fmt: skip


@compiled(parallel=True)
def multiply_quantized(weight_type, matrices, offsets, scales, biases, first, x, row_scales, threads, start, stop, y):
    """Outputs `start` to `stop` of `product`, of activations that are quantized already.

    Args:
        x: [parts, rows, inputs] of float32, bfloat16's bits, int16 or uint8.
        row_scales: float32 [2, parts, rows], scales and zero points (which are added for uint8 only).
        The others are those of `product`.
    """
    blocks = max(1, min(threads, (stop - start) // _MIN_OUTPUTS_PER_THREAD))
    for item in prange(y.shape[0] * blocks):  # inlined here, the body would take three times as long to compile
        _multiply_block(
            weight_type, matrices, offsets, scales, biases, first, x, row_scales, blocks, start, stop, y, np.int64(item)
        )


@compiled(inline="always")
def _ordered(bits):
    """A float's bits as an int32 in the same order, and back: compilers vectorise minima of integers, not of floats."""
    return bits ^ (bits >> np.int32(31) & np.int32(0x7FFFFFFF))


@compiled()
def _quantize_uint8(x, quantized):
    bits, least, most = x.view(np.int32), np.int32(0x7FFFFFFF), np.int32(-0x80000000)
    for k in range(len(x)):
        number = _ordered(bits[k])
        least, most = min(least, number), max(most, number)
    lowest, highest = np.int32(_ordered(least)).view(np.float32), np.int32(_ordered(most)).view(np.float32)
    scale = (highest - lowest) / np.float32(255)
    inverse = np.float32(1) / scale if scale > 0 else np.float32(0)
    for k in range(len(x)):
        quantized[k] = np.uint8(np.int32((x[k] - lowest) * inverse + np.float32(0.5)))
    return scale, lowest


@compiled()
def _quantize_int16(x, quantized):
    """The scale is such that sums of products with weights up to 127 stay within 32 bits."""
    bits, largest_bits, total = x.view(np.int32), np.int32(0), np.float32(0)
    for k in range(len(x)):
        largest_bits = max(largest_bits, bits[k] & np.int32(0x7FFFFFFF))
        total += abs(x[k])
    largest = np.int32(largest_bits).view(np.float32)
    scale = max(largest / np.float32(32767), total / np.float32(2**31 / 128 - len(x)))
    inverse = np.float32(1) / scale if scale > 0 else np.float32(0)
    for k in range(len(x)):
        quantized[k] = np.int16(np.floor(x[k] * inverse + np.float32(0.5)))
    return scale, np.float32(0)


@compiled()
def _round_to_bfloat16(x, rounded):
    for k in range(len(x)):
        rounded[k] = to_type_of(rounded, x[k])
    return np.float32(1), np.float32(0)


def _quantize_row(x, quantized):
    """x [inputs] = quantized [inputs] * scale + zero point, up to half a scale. Returns scale and zero point."""


@overload(_quantize_row, inline="always")
def _quantize_row_overload(x, quantized):
    quantize = {types.uint8: _quantize_uint8, types.int16: _quantize_int16, types.uint16: _round_to_bfloat16}
    quantize_row = quantize[quantized.dtype]
    return lambda x, quantized: quantize_row(x, quantized)


@compiled()
def _quantize_one(x, quantized, row_scales, row):
    row_scales[0, row], row_scales[1, row] = _quantize_row(x[row], quantized[row])


@compiled(parallel=True)
def _quantize_rows(x, quantized, row_scales):
    """x [rows, inputs] -> quantized [rows, inputs] and row_scales [2, rows], scales and zero points."""
    if x.size <= SERIAL_SIZE:
        for row in range(len(x)):
            _quantize_one(x, quantized, row_scales, row)
    else:
        for row in prange(len(x)):
            _quantize_one(x, quantized, row_scales, np.int64(row))


@compiled()
def _quantize(x, quantized_type):
    """x [parts, rows, inputs] in the type of the array `quantized_type`, and its row_scales [2, parts, rows]."""
    parts, rows, inputs = x.shape
    quantized, row_scales = np.empty(x.shape, quantized_type.dtype), np.empty((2, parts, rows), np.float32)
    flat = parts * rows
    _quantize_rows(x.reshape(flat, inputs), quantized.reshape(flat, inputs), row_scales.reshape(2, flat))
    return quantized, row_scales


@compiled()
def _leave_float32(x):
    return x, np.ones((2, x.shape[0], x.shape[1]), np.float32)


def _quantize_for(weight_type, x):
    """float32 activations in the type in which few rows are multiplied with such weights, and their row_scales."""


@overload(_quantize_for)
def _quantize_for_overload(weight_type, x):
    if weight_type.dtype == types.int8 and HAS_INT16_DOT:
        return lambda weight_type, x: _quantize(x, np.empty(0, np.int16))
    if weight_type.dtype == types.uint16 and HAS_BFLOAT16_DOT:
        return lambda weight_type, x: _quantize(x, weight_type)
    return lambda weight_type, x: _leave_float32(x)


def _multiply_uint8(weight_type, matrices, offsets, scales, biases, first, x, threads, y):
    """`product` of as many outputs as fill tiles, with activations of eight bits, where that pays. Returns how many."""


@overload(_multiply_uint8)
def _multiply_uint8_overload(weight_type, matrices, offsets, scales, biases, first, x, threads, y):
    if weight_type.dtype != types.int8 or not HAS_UINT8_DOT:
        return lambda weight_type, matrices, offsets, scales, biases, first, x, threads, y: 0

    def multiply_uint8(weight_type, matrices, offsets, scales, biases, first, x, threads, y):
        uint8, done = np.empty(0, np.uint8), y.shape[2] - y.shape[2] % 4
        if y.shape[1] <= 2 * _max_tile_rows(uint8) or x.shape[2] % _vector_length(uint8) > 0:
            return 0
        quantized, row_scales = _quantize(x, uint8)
        multiply_quantized(
            weight_type, matrices, offsets, scales, biases, first, quantized, row_scales, threads, 0, done, y
        )
        return done

    return multiply_uint8


@compiled()
def product(weight_type, matrices, offsets, scales, biases, first, x, threads, y):
    """y[i] = (x[i] weight[first + i]^T) * scale + bias for each part i, with weight matrices of one shape.

    For int8 weights, activations are quantized to 16 bits, or to 8 if rows are many; for bfloat16 weights they are
    rounded to bfloat16; both only where there are instructions for that.

    Args:
        weight_type: an empty array of the weights' type: float32, uint16 (bfloat16's bits) or int8.
        matrices: int64 [matrices], addresses of weights [outputs, inputs].
        offsets: int64 [matrices or more]: where the outputs of each matrix begin in `scales` and `biases`.
        scales: float32 [2, all outputs]: the weights' scales, and these times the sums of the weights of each output.
        biases: float32 [all outputs]. first: index of part 0's matrix. threads: that share the outputs.
        x: float32 [parts, rows, inputs], or [1, rows, inputs] for all parts.
        y: float32 [parts, rows, outputs], written.
    """
    outputs = y.shape[2]
    done = _multiply_uint8(weight_type, matrices, offsets, scales, biases, first, x, threads, y)
    if done < outputs:
        quantized, row_scales = _quantize_for(weight_type, x)
        multiply_quantized(
            weight_type, matrices, offsets, scales, biases, first, quantized, row_scales, threads, done, outputs, y
        )


__all__ = [
    "HAS_BFLOAT16_DOT",
    "HAS_INT16_DOT",
    "HAS_UINT8_DOT",
    "LANES",
    "SERIAL_SIZE",
    "multiply_quantized",
    "product",
]
