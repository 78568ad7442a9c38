"""How loops are compiled by numba, building blocks for LLVM IR, and elements of weights and caches: float32, int8 or
the bits of a bfloat16 as uint16.
"""

import hashlib
import os
from pathlib import Path

import numba
import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic, overload

if numba.version_info < (0, 61):  # llvmlite before 0.44 has typed pointers
    raise ImportError(f"numba {numba.__version__} is too old for the backend 'cpu'; pip install 'numba>=0.61'")

# A step has some hundred short parallel loops. OpenMP runs them in half the time of TBB or numba's own work queue; with
# TBB (12.8, numba 0.68) every call takes longer than the one before.
numba.config.THREADING_LAYER_PRIORITY = ["omp", "workqueue", "tbb"]


def _features() -> set[str]:
    """Of the processor that numba compiles for: this one, unless NUMBA_CPU_NAME or NUMBA_CPU_FEATURES is set."""
    name, features = numba.config.CPU_NAME, numba.config.CPU_FEATURES
    if features is not None:
        return {feature[1:] for feature in features.split(",") if feature.startswith("+")}
    return {feature for feature, has in binding.get_host_cpu_features().items() if has and name in (None, "host")}


FEATURES = _features()
MODULES = ("compiled.py", "products.py", "loops.py")  # their functions are compiled into each other


def _source_hash() -> str:
    """Changes with any of these modules, and with numba."""
    code = b"".join(Path(__file__).with_name(name).read_bytes() for name in MODULES)
    return hashlib.sha256(code + numba.__version__.encode()).hexdigest()[:16]


def cache_folder() -> Path:
    """Where machine code is kept: a folder for each version of these modules, in `NUMBA_CACHE_DIR` if that is set, else
    in `__pycache__` beside them, or in the user's cache where that is read-only."""
    own = Path(__file__).parent / "__pycache__"
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "megadance_hf"
    base = own if os.access(own if own.is_dir() else own.parent, os.W_OK) else user_cache
    return Path(numba.config.CACHE_DIR or base) / f"numba-{_source_hash()}"


def compiled(**options):
    """numba's `njit`, kept on disk, with numpy's division: checks for zero would prevent vectorisation.

    The index of a `prange` is unsigned. A function that is given it as it is, and not as `np.int64`, is compiled twice.
    """

    def decorate(function):
        cache_dir = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(cache_folder())  # read while a function is decorated
        try:
            return numba.njit(nogil=True, cache=True, fastmath=True, error_model="numpy", **options)(function)
        finally:
            numba.config.CACHE_DIR = cache_dir

    return decorate


# Building blocks for LLVM IR. Addresses are integers of 64 bits; vectors have elements of one of these types.
BYTE, SHORT, WORD, INDEX, REAL = (*(ir.IntType(bits) for bits in (8, 16, 32, 64)), ir.FloatType())


def call_llvm(builder: ir.IRBuilder, name: str, returns: ir.Type, *arguments: ir.Value) -> ir.Value:
    """Call one of LLVM's intrinsic functions."""
    declared = builder.module.globals.get(name)
    signature = ir.FunctionType(returns, [argument.type for argument in arguments])
    return builder.call(declared or ir.Function(builder.module, signature, name), arguments)


def read_vector(builder: ir.IRBuilder, address: ir.Value, element: ir.Type, lanes: int) -> ir.Value:
    """Load a vector, aligned or not."""
    vector = ir.VectorType(element, lanes)
    return builder.load(builder.inttoptr(address, vector.as_pointer()), align=1, typ=vector)


def write_vector(builder: ir.IRBuilder, value: ir.Value, address: ir.Value) -> None:
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=1)


def shuffle(builder: ir.IRBuilder, one: ir.Value, other: ir.Value, lanes: list[int]) -> ir.Value:
    """These lanes of two concatenated vectors."""
    return builder.shuffle_vector(one, other, ir.VectorType(WORD, len(lanes))(lanes))


def broadcast_float(builder: ir.IRBuilder, address: ir.Value, lanes: int) -> ir.Value:
    """Load a float32 into each lane of a vector."""
    number = builder.load(builder.inttoptr(address, REAL.as_pointer()), typ=REAL)
    undefined = ir.VectorType(REAL, lanes)(ir.Undefined)
    return shuffle(builder, builder.insert_element(undefined, number, WORD(0)), undefined, [0] * lanes)


def prefetch(builder: ir.IRBuilder, address: ir.Value) -> None:
    """Prefetch a cache line, for reading, into all levels of the cache."""
    pointer = builder.inttoptr(address, BYTE.as_pointer())
    call_llvm(builder, "llvm.prefetch.p0", ir.VoidType(), pointer, WORD(0), WORD(3), WORD(1))


@intrinsic
def keep_alive(context, array):
    """Does nothing. An array whose address alone is used could be freed after its last other use; this is one."""

    def code(context, builder, signature, arguments):
        return context.get_dummy_value()

    return types.void(array), code


def to_float32(value):
    """A number, or a bfloat16 as the bits of a uint16, as float32."""


@overload(to_float32, inline="always")
def _to_float32_overload(value):
    if value == numba.uint16:  # bfloat16 is the upper half of a float32
        return lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)
    return lambda value: np.float32(value)


def to_type_of(array, value):
    """A float32 as an element of `array`, float32 or bfloat16's bits (uint16)."""


@overload(to_type_of, inline="always")
def _to_type_of_overload(array, value):
    if array.dtype == numba.uint16:  # rounded to the nearest, ties to even, as torch does

        def to_bfloat16(array, value):
            word = np.float32(value).view(np.uint32)
            return np.uint16((word + np.uint32(0x7FFF) + ((word >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))

        return to_bfloat16
    return lambda array, value: value


__all__ = [
    *("BYTE", "FEATURES", "INDEX", "REAL", "SHORT", "WORD", "MODULES"),
    *("broadcast_float", "call_llvm", "prefetch", "read_vector", "shuffle", "write_vector"),
    *("cache_folder", "compiled", "keep_alive", "to_float32", "to_type_of"),
]
