"""How loops are compiled, by numba; what functions written as LLVM's code are made of; and numbers as they are stored: float32, or
the bits of a bfloat16.
"""

import hashlib
import os
from pathlib import Path

import numpy as np

try:
    import numba
    from llvmlite import binding, ir
    from numba import types
    from numba.extending import intrinsic, overload
except ImportError as error:
    raise ImportError("numba is missing, which compiles the code steps of large models; pip install numba") from error
if numba.version_info < (0, 61):  # whose llvmlite has pointers with types
    raise ImportError(
        f"numba {numba.__version__} is too old for the code steps of large models; pip install 'numba>=0.61'"
    )

# A step has some hundred short parallel loops: with OpenMP they took half the time of those with TBB or numba's own work queue. With TBB
# (12.8, numba 0.68) every call takes longer than the one before.
numba.config.THREADING_LAYER_PRIORITY = ["omp", "workqueue", "tbb"]


def _features() -> set[str]:
    """What the processor that numba compiles for can do: this one, unless its variables say otherwise."""
    named, listed = numba.config.CPU_NAME, numba.config.CPU_FEATURES
    if listed is not None:
        return {feature[1:] for feature in listed.split(",") if feature.startswith("+")}
    return {name for name, there in binding.get_host_cpu_features().items() if there and named in (None, "host")}


FEATURES = _features()


def _sources() -> str:
    """A name that changes with the modules whose functions are compiled into each other, and with numba."""
    code = b"".join(Path(__file__).with_name(name).read_bytes() for name in MODULES)
    return hashlib.sha256(code + numba.__version__.encode()).hexdigest()[:16]


MODULES = ("compiled.py", "products.py", "loops.py")


def cache_folder() -> Path:
    """Where machine code is kept: one folder for each version of these modules, since functions hold each other's code. It lies beside the
    modules, or, where nothing can be written there, in the user's cache. `NUMBA_CACHE_DIR` puts it elsewhere."""
    own = Path(__file__).parent / "__pycache__"
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "megadance_hf"
    given = numba.config.CACHE_DIR
    base = Path(given) if given else own if os.access(own if own.is_dir() else own.parent, os.W_OK) else users
    return base / f"numba-{_sources()}"


def compiled(**options):
    """numba's `njit`, kept on disk, with divisions as numpy has them: a check for zero in each keeps loops from becoming vectors.

    The number of a `prange` is unsigned: a function that is given it as it is, not as `np.int64`, is compiled twice.
    """

    def decorate(function):
        usual = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(cache_folder())
        try:
            return numba.njit(nogil=True, cache=True, fastmath=True, error_model="numpy", **options)(function)
        finally:
            numba.config.CACHE_DIR = usual

    return decorate


class _BFloat16(ir.Type):
    """A type that LLVM has, and llvmlite does not name."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat16)

    def __hash__(self) -> int:
        return hash(_BFloat16)


# What functions written as LLVM's code are made of. Addresses are numbers of 64 bits, vectors have elements of one of these types.
BFLOAT16 = _BFloat16()
BYTE, SHORT, WORD, INDEX, REAL = (*(ir.IntType(bits) for bits in (8, 16, 32, 64)), ir.FloatType())


def call_llvm(builder: ir.IRBuilder, name: str, returns: ir.Type, *arguments: ir.Value) -> ir.Value:
    """One of LLVM's own functions."""
    known = builder.module.globals.get(name)
    kind = ir.FunctionType(returns, [argument.type for argument in arguments])
    return builder.call(known or ir.Function(builder.module, kind, name), arguments)


def read_vector(builder: ir.IRBuilder, address: ir.Value, element: ir.Type, lanes: int) -> ir.Value:
    """A vector from anywhere."""
    kind = ir.VectorType(element, lanes)
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=1, typ=kind)


def write_vector(builder: ir.IRBuilder, value: ir.Value, address: ir.Value) -> None:
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=1)


def shuffle(builder: ir.IRBuilder, one: ir.Value, other: ir.Value, lanes: list[int]) -> ir.Value:
    """These lanes of two vectors one after the other."""
    return builder.shuffle_vector(one, other, ir.VectorType(WORD, len(lanes))(lanes))


def read_everywhere(builder: ir.IRBuilder, address: ir.Value, lanes: int) -> ir.Value:
    """The float32 that lies there, in each lane."""
    number = builder.load(builder.inttoptr(address, REAL.as_pointer()), typ=REAL)
    nothing = ir.VectorType(REAL, lanes)(ir.Undefined)
    return shuffle(builder, builder.insert_element(nothing, number, WORD(0)), nothing, [0] * lanes)


def fetch(builder: ir.IRBuilder, address: ir.Value, nearness: int = 3) -> None:
    """Ask for memory that is needed later."""
    place = builder.inttoptr(address, BYTE.as_pointer())
    call_llvm(builder, "llvm.prefetch.p0", ir.VoidType(), place, WORD(0), WORD(nearness), WORD(1))


@intrinsic
def keep(context, array):
    """Nothing; but until here the memory of `array` is not given back, although only its address was used."""

    def code(context, builder, signature, arguments):
        return context.get_dummy_value()

    return types.void(array), code


def real(value):
    """A number of any type, or the bits of a bfloat16 (uint16), as float32."""


@overload(real, inline="always")
def _real_of(value):
    if value == numba.uint16:  # bfloat16 is the upper half of a float32
        return lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)
    return lambda value: np.float32(value)


def stored(value, like):
    """A float32 as an element of the array `like`."""


@overload(stored, inline="always")
def _stored_of(value, like):
    if like.dtype == numba.uint16:  # rounded to the nearest, ties to even, as torch does

        def bits(value, like):
            word = np.float32(value).view(np.uint32)
            return np.uint16((word + np.uint32(0x7FFF) + ((word >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))

        return bits
    return lambda value, like: value


__all__ = [
    *("BFLOAT16", "BYTE", "FEATURES", "INDEX", "REAL", "SHORT", "WORD"),
    *("call_llvm", "fetch", "read_everywhere", "read_vector", "shuffle", "write_vector"),
    *("cache_folder", "compiled", "keep", "real", "stored"),
]
