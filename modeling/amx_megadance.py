"""Products in the matrix registers of newer Intel processors (AMX), of many rows with weights of bfloat16 or eight bits.

As in `products_megadance.py` the weights are taken from where they lie: a register takes 64 bytes of each of sixteen lines of them. The
rows they meet are put in the order that the instructions ask for (Intel's manual calls it VNNI), which is a transposition of words of
32 bits, and so are the results, on the way back. Two registers of weights meet two of rows.
"""

import ctypes
import sys

import numpy as np

try:
    from llvmlite import ir
    from numba import prange, types
    from numba.extending import intrinsic
except ImportError as error:
    raise ImportError("numba is missing, which compiles the code steps of large models; pip install numba") from error

from .compiled_megadance import (
    BYTE,
    FEATURES,
    INDEX,
    REAL,
    WORD,
    call_llvm,
    compiled,
    fetch,
    keep,
    read_everywhere,
    read_vector,
    shuffle,
    write_vector,
)

HAS_AMX = {"amx-tile", "amx-bf16", "amx-int8", "avx512f", "avx512bw"} <= FEATURES
_BYTES = 64  # of a line in a register, which has sixteen of them
_BLOCK = 32  # outputs that are computed together: two registers
_GROUP = 32  # rows, the same


def permitted() -> bool:
    """Whether this process may use the registers: their content is large, so that Linux wants to be asked."""
    request, registers = (158, 0x1023), 18  # arch_prctl, ARCH_REQ_XCOMP_PERM; XFEATURE_XTILEDATA
    return HAS_AMX and sys.platform == "linux" and ctypes.CDLL(None).syscall(*request, registers) == 0


def _x86(builder, name: str, *arguments) -> None:
    call_llvm(builder, f"llvm.x86.{name}", ir.VoidType(), *arguments)


@intrinsic
def _configure(context, configuration):
    """Registers as the 64 bytes at this address say."""

    def code(context, builder, signature, arguments):
        _x86(builder, "ldtilecfg", builder.inttoptr(arguments[0], BYTE.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64), code


@intrinsic
def _release(context):
    def code(context, builder, signature, arguments):
        _x86(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def _meet(context, kind, weights, stride, lines, steps, ahead, sums):
    """sums[r][o] = the sixteen outputs o of the register of rows r, for two of each: [2, 2, 16 outputs, 16 rows].

    `weights`: address of 32 lines `stride` bytes apart, of the type of `kind`, whose first `steps` times 64 bytes are used. `lines`: [steps, 2, 16, 64
    bytes]. What lies `ahead` bytes after the weights is fetched.
    """
    product = "tdpbsud" if kind.dtype == types.int8 else "tdpbf16ps"  # signed bytes with unsigned ones

    def code(context, builder, signature, arguments):
        _, weights, stride, lines, steps, ahead, sums = arguments
        number, index = BYTE, INDEX

        def place(address, offset):
            return builder.inttoptr(builder.add(address, index(offset)), BYTE.as_pointer())

        for register in range(4):
            _x86(builder, "tilezero", number(register))
        before, loop, after = builder.block, *map(builder.append_basic_block, ("meet", "met"))
        builder.branch(loop)
        builder.position_at_end(loop)
        step = builder.phi(index)
        step.add_incoming(index(0), before)
        here = builder.add(weights, builder.mul(step, index(_BYTES)))
        second = builder.add(here, builder.mul(stride, index(16)))
        there = builder.add(lines, builder.mul(step, index(2 * 16 * _BYTES)))
        for register, of_weights in ((4, here), (5, second)):
            _x86(builder, "tileloadd64", number(register), place(of_weights, 0), stride)
        for register, offset in ((6, 0), (7, 16 * _BYTES)):
            _x86(builder, "tileloadd64", number(register), place(there, offset), index(_BYTES))
        for rows in range(2):
            for outputs in range(2):
                registers = (2 * rows + outputs, 4 + outputs, 6 + rows)
                _x86(builder, product, *map(number, registers))
        # one after the other, as the processor's own prefetching likes it
        later = builder.add(builder.add(weights, ahead), builder.mul(step, index(_BLOCK * _BYTES)))
        for line in range(_BLOCK):
            fetch(builder, builder.add(later, index(_BYTES * line)), nearness=2)
        following = builder.add(step, index(1))
        step.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, steps), loop, after)
        builder.position_at_end(after)
        for register in range(4):
            _x86(builder, "tilestored64", number(register), place(sums, 16 * _BYTES * register), index(_BYTES))
        return context.get_dummy_value()

    return types.void(kind, *[types.int64] * 6), code


def _transposed(builder, lines: list) -> list:
    """Sixteen vectors of sixteen words."""
    lines = list(lines)
    for width in (1, 2, 4, 8):  # squares of this width beside the diagonal change places
        upper = [lane + 16 - width if lane & width else lane for lane in range(16)]
        lower = [lane + 16 if lane & width else lane + width for lane in range(16)]
        for line in range(16):
            if not line & width:
                pair = lines[line], lines[line + width]
                lines[line], lines[line + width] = (shuffle(builder, *pair, mask) for mask in (upper, lower))
    return lines


@intrinsic
def _order(context, kind, source, stride, target):
    """Sixteen lines, `stride` bytes apart, of what 64 bytes of weights meet -> words of 32 bits of theirs, transposed: [16, 64 bytes].

    Floats are rounded to bfloat16, bytes stay what they are.
    """

    def code(context, builder, signature, arguments):
        _, source, stride, target = arguments
        index, words = INDEX, ir.VectorType(WORD, 16)

        def rounded(bits):  # to the nearest, ties to even
            odd = builder.and_(builder.lshr(bits, words([16] * 16)), words([1] * 16))
            return builder.add(builder.add(bits, odd), words([0x7FFF] * 16))

        def of_floats(place):
            both = [read_vector(builder, builder.add(place, index(offset)), WORD, 16) for offset in (0, _BYTES)]
            even, odd = (rounded(shuffle(builder, *both, list(range(first, 32, 2)))) for first in range(2))
            upper = builder.and_(odd, words([0xFFFF0000] * 16))
            return builder.or_(builder.lshr(even, words([16] * 16)), upper)

        def of_bytes(place):
            return read_vector(builder, place, WORD, 16)

        places = [builder.add(source, builder.mul(stride, index(line))) for line in range(16)]
        lines = [(of_bytes if kind.dtype == types.int8 else of_floats)(place) for place in places]
        for line, value in enumerate(_transposed(builder, lines)):
            write_vector(builder, value, builder.add(target, index(_BYTES * line)))
        return context.get_dummy_value()

    return types.void(kind, types.int64, types.int64, types.int64), code


@intrinsic
def _finish(context, kind, products, factors, sums, biases, steps, starts, target, stride):
    """products [16 outputs, 16 rows] -> sixteen lines, `stride` bytes apart: products^T * factors * steps + sums * starts + biases."""

    def code(context, builder, signature, arguments):
        _, products, factors, sums, biases, steps, starts, target, stride = arguments
        index, whole, reals = INDEX, kind.dtype == types.int8, ir.VectorType(REAL, 16)

        def add_to(offset, one, other):
            return call_llvm(builder, "llvm.fma.v16f32", reals, one, other, offset)

        factor, of_weights, bias = (read_vector(builder, address, REAL, 16) for address in (factors, sums, biases))
        lines = [read_vector(builder, builder.add(products, index(_BYTES * line)), WORD, 16) for line in range(16)]
        for row, value in enumerate(_transposed(builder, lines)):
            of_products = builder.sitofp(value, reals) if whole else builder.bitcast(value, reals)
            step, begin = (
                read_everywhere(builder, builder.add(of_row, index(4 * row)), 16) for of_row in (steps, starts)
            )
            result = add_to(bias, of_weights, begin) if whole else bias
            result = add_to(result, of_products, builder.fmul(factor, step))
            write_vector(builder, result, builder.add(target, builder.mul(stride, index(row))))
        return context.get_dummy_value()

    return types.void(kind, *[types.int64] * 8), code


@compiled()
def _aligned(size):
    """Bytes that begin where a line of the cache does: registers take twice as long from in between."""
    room = np.empty(size + _BYTES, np.uint8)
    skipped = -room.ctypes.data % _BYTES
    return room[skipped : skipped + size]


@compiled()
def _block(kind, start, factors, sums, biases, ordered, steps, starts, y, low, high):
    """Outputs `low` to `high` of a matrix that lies at `start`; `steps` and `starts` have a number for each row of all groups."""
    configuration = np.zeros(64, np.uint8)
    configuration[0] = 1
    for register in range(8):
        configuration[16 + 2 * register] = _BYTES  # of each line
        configuration[48 + register] = 16  # lines
    _configure(configuration.ctypes.data)
    (groups, count), rows, size = ordered.shape[:2], len(y), y.shape[1] * y.itemsize
    stride, register_bytes = _BYTES * count, 16 * _BYTES
    products, spare = _aligned(4 * register_bytes), np.empty((16, 16), np.float32)
    # to ask an array for its address takes longer than to compute with it
    lines, results, target = ordered.ctypes.data, products.ctypes.data, y.ctypes.data
    factor, total, offset = factors.ctypes.data, sums.ctypes.data, biases.ctypes.data
    step, begin, scratch = steps.ctypes.data, starts.ctypes.data, spare.ctypes.data
    for group in range(groups):
        for o in range(low, high, _BLOCK):
            ahead = _BLOCK * stride if group == 0 else 0
            _meet(kind, start + o * stride, stride, lines + group * 2 * 16 * stride, count, ahead, results)
            for register in range(4):
                row, output = group * _GROUP + register // 2 * 16, o + 16 * (register % 2)
                source, place = results + register * register_bytes, target + row * size + 4 * output
                whole = row + 16 <= rows
                place, width = (place, size) if whole else (scratch, _BYTES)
                if row < rows:
                    of_outputs = factor + 4 * output, total + 4 * output, offset + 4 * output
                    _finish(kind, source, *of_outputs, step + 4 * row, begin + 4 * row, place, width)
                if row < rows and not whole:
                    for line in range(rows - row):
                        for k in range(16):
                            y[row + line, output + k] = spare[line, k]
    _release()
    keep(products)
    keep(configuration)


@compiled()
def _order_rows(kind, lines, ordered):
    """Up to sixteen lines; `ordered` begins with their register's place in each step."""
    inputs = lines.shape[1]
    source, target = lines.ctypes.data, ordered.ctypes.data
    whole = np.zeros((16, inputs if len(lines) < 16 else 0), lines.dtype)
    if len(lines) < 16:  # the rest is zero
        for line in range(len(lines)):
            for k in range(inputs):
                whole[line, k] = lines[line, k]
        source = whole.ctypes.data
    count = len(ordered)
    for step in range(count):
        _order(
            kind,
            source + inputs // count * lines.itemsize * step,
            inputs * lines.itemsize,
            target + 2 * 16 * _BYTES * step,
        )
    keep(whole)


@compiled()
def _order_register(kind, lines, ordered, item):
    groups, rows = ordered.shape[1], lines.shape[1]
    source, group, register = item // (groups * 2), item // 2 % groups, item % 2
    first = min(group * _GROUP + register * 16, rows)
    _order_rows(kind, lines[source, first : first + 16], ordered[source, group, :, register])


@compiled(parallel=True)
def _order_all(kind, lines, ordered):
    for item in prange(len(lines) * ordered.shape[1] * 2):
        _order_register(kind, lines, ordered, np.int64(item))


@compiled()
def _multiply_share(kind, addresses, outputs, scales, biases, first, ordered, steps, blocks, y, item):
    size = y.shape[2]
    share = (size // _BLOCK + blocks - 1) // blocks * _BLOCK
    part, low = item // blocks, item % blocks * share
    high, source, place = min(low + share, size // _BLOCK * _BLOCK), min(part, len(ordered) - 1), outputs[first + part]
    of_part = slice(place, place + size)
    of_outputs, of_rows = (
        (scales[0, of_part], scales[1, of_part], biases[of_part]),
        (steps[0, source], steps[1, source]),
    )
    if low < high:
        _block(kind, addresses[first + part], *of_outputs, ordered[source], *of_rows, y[part], low, high)


@compiled(parallel=True)
def _multiply_all(kind, addresses, outputs, scales, biases, first, ordered, steps, blocks, y):
    for item in prange(y.shape[0] * blocks):
        _multiply_share(kind, addresses, outputs, scales, biases, first, ordered, steps, blocks, y, np.int64(item))


@compiled()
def multiply(kind, addresses, outputs, scales, biases, first, lines, steps, threads, y):
    """The first outputs of `product` of `products_megadance.py`, a multiple of 32; inputs are a multiple of what 64 bytes hold.

    `lines` are floats or, where the weights are of int8, uint8; steps [2, sources, rows].
    """
    _, rows, size = y.shape
    sources = len(lines)
    groups, count = (rows + _GROUP - 1) // _GROUP, lines.shape[2] * kind.itemsize // _BYTES
    ordered = _aligned(sources * groups * count * 2 * 16 * _BYTES).reshape(sources, groups, count, 2, 16, _BYTES)
    _order_all(kind, lines, ordered)
    all_steps = np.zeros((2, sources, groups * _GROUP), np.float32)
    for which in range(2):
        for source in range(sources):
            for row in range(rows):
                all_steps[which, source, row] = steps[which, source, row]
    blocks = max(1, min(threads, size // _BLOCK))
    _multiply_all(kind, addresses, outputs, scales, biases, first, ordered, all_steps, blocks, y)


__all__ = ["HAS_AMX", "multiply", "permitted"]
