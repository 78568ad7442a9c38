"""Products of a few rows with many weights, as fast as memory gives the weights, which are taken from where they lie.

Compilers do not find these loops by themselves, so their innermost ones are written as LLVM's code: four lines of weights meet up to
six rows, and no sum waits for another. The four lines are a quarter of a thread's weights away from each other: a
processor fetches ahead once within a page of memory, so that lines next to each other come half as fast. What is needed 2 kB later
is asked for besides.
"""

import numpy as np

try:
    import numba
    from llvmlite import ir
    from numba import prange, types
    from numba.extending import intrinsic, overload
except ImportError as error:
    raise ImportError("numba is missing, which compiles the code steps of large models; pip install numba") from error

from .amx_megadance import HAS_AMX
from .amx_megadance import multiply as multiply_matrices
from .compiled_megadance import FEATURES, compiled, keep, real

_WIDE = {"avx512f", "avx512bw"} <= FEATURES
# elsewhere (ARM, older processors) weights of eight bits are made floats
HAS_PAIRS = "avx2" in FEATURES
LANES = 16 if _WIDE else 8 if HAS_PAIRS else 4  # sums in a register
_MOST_ROWS = 6 if _WIDE else 3  # of a tile: as many as there are registers for
_AHEAD = 2048  # bytes
_LEAST = 16  # outputs that are worth a thread
_MANY_ROWS = 5  # from which on matrix registers pay


@intrinsic
def _pointer(context, kind, address):
    def code(context, builder, signature, arguments):
        return builder.inttoptr(arguments[1], context.get_value_type(signature.return_type))

    return types.CPointer(kind.dtype)(kind, address), code


@numba.njit
def _matrix(kind, address, outputs, inputs):
    return numba.carray(_pointer(kind, address), (outputs, inputs))


def _function(module: ir.Module, name: str, returns: ir.Type, *takes: ir.Type) -> ir.Function:
    return module.globals.get(name) or ir.Function(module, ir.FunctionType(returns, takes), name)


def _tile(rows: int):
    """Make tile(kind, line, weights, lines, count, sums): sums[o * rows + r] = sum over k < count of weights[o][k] lines[r][k].

    `weights` are addresses of four lines, of the type of `kind`; `lines` of `rows` lines of the type of `line`; `sums` is one of numbers of
    32 bits, whole where `line` is of int16 (where `HAS_PAIRS`) and else float32. `count` is a multiple of `_vector(line)`, above 0.
    """

    @intrinsic
    def tile(context, kind, line, weights, lines, count, sums):
        whole = line.dtype == types.int16

        def code(context, builder, signature, arguments):
            _, _, weights, lines, count, sums = arguments
            byte, short, word, index = (ir.IntType(bits) for bits in (8, 16, 32, 64))
            lanes = 2 * LANES if whole else LANES
            shorts, words, floats = (
                ir.VectorType(*of) for of in ((short, lanes), (word, lanes), (ir.FloatType(), lanes))
            )
            size = kind.dtype.bitwidth // 8
            module = builder.module

            def place(addresses, which, k, size):
                return builder.add(builder.extract_value(addresses, which), builder.mul(k, index(size)))

            def read(address, element):
                vector = ir.VectorType(element, lanes)
                return builder.load(builder.inttoptr(address, vector.as_pointer()), align=1, typ=vector)

            def weights_at(address):
                if kind.dtype == types.float32:
                    return read(address, ir.FloatType())
                if kind.dtype == types.uint16:
                    bits = builder.zext(read(address, short), words)
                    return builder.bitcast(builder.shl(bits, words([16] * lanes)), floats)
                if whole:
                    return builder.sext(read(address, byte), shorts)
                return builder.sitofp(builder.sext(read(address, byte), words), floats)

            if whole:  # multiplies pairs and adds neighbours
                total = ir.VectorType(word, lanes // 2)
                name = "llvm.x86.avx512.pmaddw.d.512" if _WIDE else "llvm.x86.avx2.pmadd.wd"
                pairs = _function(module, name, total, shorts, shorts)
                reduce = _function(module, f"llvm.vector.reduce.add.v{lanes // 2}i32", word, total)

                def add(sum_, weight, heard):
                    return builder.add(sum_, builder.call(pairs, [weight, heard]))

                def add_up(sum_):
                    return builder.call(reduce, [sum_])

            else:
                total = floats
                fma = _function(module, f"llvm.fma.v{lanes}f32", floats, floats, floats, floats)
                reduce = _function(
                    module, f"llvm.vector.reduce.fadd.v{lanes}f32", ir.FloatType(), ir.FloatType(), floats
                )

                def add(sum_, weight, heard):
                    return builder.call(fma, [weight, heard, sum_])

                def add_up(sum_):
                    return builder.call(reduce, [ir.FloatType()(0.0), sum_], fastmath=("reassoc",))

            fetch = _function(module, "llvm.prefetch.p0", ir.VoidType(), byte.as_pointer(), word, word, word)

            before, loop, after = builder.block, *map(builder.append_basic_block, ("tile", "summed"))
            builder.branch(loop)
            builder.position_at_end(loop)
            k = builder.phi(index)
            totals = [builder.phi(total) for _ in range(4 * rows)]
            heard = [
                read(place(lines, r, k, line.dtype.bitwidth // 8), short if whole else ir.FloatType())
                for r in range(rows)
            ]
            new = []
            for o in range(4):
                address = place(weights, o, k, size)
                later = builder.inttoptr(builder.add(address, index(_AHEAD)), byte.as_pointer())
                builder.call(fetch, [later, word(0), word(3), word(1)])
                weight = weights_at(address)
                new += [add(totals[o * rows + r], weight, heard[r]) for r in range(rows)]
            following = builder.add(k, index(lanes))
            for phi, value in zip([k, *totals], [following, *new], strict=True):
                phi.add_incoming(phi.type(0 if phi is k else None), before)
                phi.add_incoming(value, loop)
            builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
            builder.position_at_end(after)
            for which, value in enumerate(new):
                address = builder.inttoptr(builder.add(sums, index(4 * which)), total.element.as_pointer())
                builder.store(add_up(value), address)
            return context.get_dummy_value()

        addresses, four = types.UniTuple(types.int64, rows), types.UniTuple(types.int64, 4)
        return types.void(kind, line, four, addresses, types.int64, types.int64), code

    return tile


_tile_of_one, _tile_of_three, _tile_of_six = _tile(1), _tile(3), _tile(6)


def _vector(line):
    """Numbers of a line that an instruction takes."""


@overload(_vector, inline="always")
def _vector_of(line):
    lanes = 2 * LANES if line.dtype == types.int16 else LANES
    return lambda line: lanes


def _sums_for(line, count):
    """Room for sums."""


@overload(_sums_for, inline="always")
def _sums_for_of(line, count):
    dtype = np.int32 if line.dtype == types.int16 else np.float32
    return lambda line, count: np.zeros(count, dtype)


@compiled()
def _block(kind, start, factors, biases, lines, steps, y, low, high):
    """Outputs `low` to `high` of a matrix that lies at `start`: y = (lines * steps) weight^T factors + biases.

    lines [rows, inputs], steps [rows], y [rows, outputs]; `factors` and `biases` [outputs] are empty where they are 1 and 0.
    """
    rows, inputs = lines.shape
    weight = _matrix(kind, start, high, inputs)
    count = inputs - inputs % _vector(lines)
    sums = _sums_for(lines, 4 * _MOST_ROWS)
    size, wide = inputs * weight.itemsize, lines.itemsize * inputs
    origin, quarter, last = lines.ctypes.data, (high - low + 3) // 4, rows - 1
    most = 1 if rows == 1 else 3 if rows <= 3 else _MOST_ROWS
    for first in range(low, low + quarter):
        # where the outputs end, the last one is computed again; so are rows below
        o = (
            first,
            min(first + quarter, high - 1),
            min(first + 2 * quarter, high - 1),
            min(first + 3 * quarter, high - 1),
        )
        weights = start + o[0] * size, start + o[1] * size, start + o[2] * size, start + o[3] * size
        for row in range(0, rows, most):
            if count > 0:
                a, b, c = (
                    origin + row * wide,
                    origin + min(row + 1, last) * wide,
                    origin + min(row + 2, last) * wide,
                )
                if most == 1:
                    _tile_of_one(kind, lines, weights, (a,), count, sums.ctypes.data)
                elif most == 3:
                    _tile_of_three(kind, lines, weights, (a, b, c), count, sums.ctypes.data)
                else:
                    d, e, f = (
                        origin + min(row + 3, last) * wide,
                        origin + min(row + 4, last) * wide,
                        origin + min(row + 5, last) * wide,
                    )
                    _tile_of_six(kind, lines, weights, (a, b, c, d, e, f), count, sums.ctypes.data)
            for which in range(4):
                output = o[which]
                factor = factors[output] if len(factors) > 0 else np.float32(1)
                offset = biases[output] if len(biases) > 0 else np.float32(0)
                for r in range(min(most, rows - row)):
                    total = sums[which * most + r]
                    for k in range(count, inputs):
                        total += real(weight[output, k]) * lines[row + r, k]
                    y[row + r, output] = np.float32(total) * (factor * steps[row + r]) + offset
    keep(sums)


@compiled()
def _multiply_share(kind, addresses, outputs, scales, first, bias, lines, steps, blocks, done, y, item):
    size = y.shape[2]
    share = (size - done + blocks - 1) // blocks
    part, low = item // blocks, done + item % blocks * share
    high, source, begin = min(low + share, size), min(part, len(lines) - 1), outputs[first + part]
    if low < high:
        factors = scales[begin : begin + size] if len(scales) > 0 else scales
        biases = bias[part * size : part * size + size] if len(bias) > 0 else bias
        _block(kind, addresses[first + part], factors, biases, lines[source], steps[source], y[part], low, high)


@compiled(parallel=True)
def multiply(kind, addresses, outputs, scales, first, bias, lines, steps, threads, done, y):
    """`product` of lines that are ready: [parts, rows, inputs] of float32, or of int16 with what they are multiplied with.

    Outputs from `done` on.
    """
    blocks = max(1, min(threads, (y.shape[2] - done) // _LEAST))
    for item in prange(y.shape[0] * blocks):  # what is inside of such a loop takes the compiler three times as long
        _multiply_share(kind, addresses, outputs, scales, first, bias, lines, steps, blocks, done, y, item)


@compiled()
def _round_line(line, rounded):
    """line = rounded * step, to half a step, where no sum of products with weights up to 127 can leave 32 bits. Returns the step."""
    # the bits of positive floats are in the order of the floats; of floats compilers look for the largest one by one
    bits, largest_bits, total = line.view(np.int32), np.int32(0), np.float32(0)
    for k in range(len(line)):
        largest_bits = max(largest_bits, bits[k] & np.int32(0x7FFFFFFF))
        total += abs(line[k])
    largest = np.int32(largest_bits).view(np.float32)
    step = max(largest / np.float32(32767), total / np.float32(2**31 / 128 - len(line)))
    factor = np.float32(1) / step if step > 0 else np.float32(0)
    for k in range(len(line)):
        rounded[k] = np.int16(np.floor(line[k] * factor + np.float32(0.5)))
    return step


@compiled(parallel=True)
def _in_sixteen_bits(x, whole, steps):
    """Each line of [parts, rows, inputs]."""
    rows = x.shape[1]
    for item in prange(x.shape[0] * rows):
        part, row = item // rows, item % rows
        steps[part, row] = _round_line(x[part, row], whole[part, row])


def _ready(kind, x):
    """Lines of float32 as they meet the weights, and what they are multiplied with."""


@overload(_ready)
def _ready_of(kind, x):
    if kind.dtype == types.int8 and HAS_PAIRS:

        def whole(kind, x):
            lines, steps = np.empty(x.shape, np.int16), np.empty(x.shape[:2], np.float32)
            _in_sixteen_bits(x, lines, steps)
            return lines, steps

        return whole
    return lambda kind, x: (x, np.ones(x.shape[:2], np.float32))


def _matrices(kind, addresses, outputs, scales, first, bias, lines, steps, threads, y):
    """With matrix registers."""


@overload(_matrices)
def _matrices_of(kind, addresses, outputs, scales, first, bias, lines, steps, threads, y):
    has = HAS_AMX and kind.dtype != types.float32

    def call(kind, addresses, outputs, scales, first, bias, lines, steps, threads, y):
        if has:  # known to the compiler: elsewhere it does not know the instructions
            multiply_matrices(kind, addresses, outputs, scales, first, bias, lines, steps, threads, y)

    return call


def _fits_matrices(kind, inputs, rows):
    """Whether matrix registers can be filled, and it pays."""


@overload(_fits_matrices)
def _fits_matrices_of(kind, inputs, rows):
    if not HAS_AMX or kind.dtype == types.float32:
        return lambda kind, inputs, rows: False
    return lambda kind, inputs, rows: rows >= _MANY_ROWS and inputs * kind.itemsize % 64 == 0


@compiled()
def product(kind, addresses, outputs, scales, first, bias, x, machine, y):
    """y[i] = (x[i] weight^T) scale + bias, with the matrices `first`, `first + 1`, ... of one shape; all take x[0] if x has no more.

    [parts, rows, inputs] -> [parts, rows, outputs]. `kind` is an empty array of the weights' type: float32, uint16 (the bits of
    bfloat16) or int8. Where these are multiplied as whole numbers, inputs are rounded to sixteen bits; where matrix registers multiply
    those of bfloat16, to bfloat16.
    """
    lines, steps = _ready(kind, x)
    done = y.shape[2] - y.shape[2] % 32 if machine.matrices and _fits_matrices(kind, x.shape[2], y.shape[1]) else 0
    if done > 0:
        _matrices(kind, addresses, outputs, scales, first, bias, lines, steps, machine.threads, y)
    if done < y.shape[2]:
        multiply(kind, addresses, outputs, scales, first, bias, lines, steps, machine.threads, done, y)


__all__ = ["HAS_PAIRS", "LANES", "multiply", "product"]
