"""Safe readers of untrusted `.pkl`, `.npz`, `.npy` and torch files: no code in them is run, no size in them is trusted.

A pickle is a program: `pickle.load` runs what its author wanted. An unpickler restricted to numpy's classes is not safe either,
since `numpy.ndarray` and `numpy.dtype` accept any strides and offsets. But dance data sets come as pickles. So they are read here by
an interpreter of our own, which knows plain data only and checks that the type, shape and bytes of an array fit each other.

Every error is a `FileError` of one line that names the file; `reading(path, error=...)` around a call raises other classes.
"""

import codecs
import contextlib
import io
import itertools
import math
import os
import pickle
import pickletools
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from megadance_hf.modeling.errors_megadance import FileError, reading, reason_of

MAX_BYTES = 1 << 29  # of a file; ten minutes of dance are 50 MB at most
# Unpacked bytes of one archive; beyond MAX_SMALL at most MAX_RATIO times the size of the file.
MAX_UNPACKED, MAX_RATIO, MAX_SMALL = 1 << 30, 200, 1 << 26
MAX_OPCODES = 5_000_000  # an array takes only one, so this is enough for long lists of numbers
MAX_DEPTH = 50  # of nested containers
MAX_SPARSE = 1 << 28  # bytes of sparse matrices made dense; those of body models take a few megabytes
MAX_EMPTY = 1_000_000  # product of the other dimensions of an empty array, whose shape no bytes confirm
_NUMPY = b"\x93NUMPY"  # the magic bytes of numpy's own files
# Numbers and text; no objects, records or dates.
_PLAIN_DTYPE = re.compile(r"(\?|b1|[iu][1248]|f(?:2|4|8|12|16)|c(?:8|16|24|32)|[SU][1-9][0-9]{0,8})")


# --- arrays from bytes ----------------------------------------------------------------------------------------------------


def _plain_dtype(code: str, order: str = "|") -> np.dtype:
    """The dtype of a code such as `f8` or `U5`; ValueError for all that is not numbers or text."""
    if not _PLAIN_DTYPE.fullmatch(code) or order not in ("<", ">", "|", "="):
        what = {"O": "objects", "V": "records"}.get(code[:1], f"type {(order + code)[:40]!r}")
        raise ValueError(f"it holds an array of {what}; only arrays of numbers and text are read")
    return np.dtype(("<" if order == "=" else order) + code)


def _check_shape(shape: Any, dtype: np.dtype, size: int) -> None:
    """Raises ValueError unless an array of this shape and type takes exactly `size` bytes (Python's integers do not overflow)."""
    if not isinstance(shape, tuple) or any(type(length) is not int or length < 0 for length in shape):
        raise ValueError(f"it holds an array of shape {str(shape)[:80]}, which is none")
    if math.prod(shape) * dtype.itemsize != size:
        raise ValueError(
            f"it promises an array of shape {str(shape)[:80]} and type {dtype}, "
            f"{math.prod(shape) * dtype.itemsize} bytes, but has {size}"
        )
    if math.prod(max(length, 1) for length in shape) > MAX_EMPTY and 0 in shape:
        raise ValueError(f"it holds an empty array of shape {str(shape)[:80]}")


def _array(data: Any, dtype: np.dtype, shape: tuple[int, ...], order: str = "C") -> np.ndarray:
    """A writable array in native byte order, copied from exactly as many bytes as it needs."""
    _check_shape(shape, dtype, len(data))
    native = dtype.newbyteorder("=")
    if not len(data):
        return np.empty(shape, native)
    if dtype.kind == "b":  # bytes other than 0 and 1 are no valid booleans
        return (np.frombuffer(data, np.uint8) != 0).reshape(shape, order=order)
    if dtype.kind == "U" and np.frombuffer(data, dtype.byteorder + "u4").max() > 0x10FFFF:
        raise ValueError("it holds text with characters that do not exist")
    return np.frombuffer(data, dtype).reshape(shape, order=order).astype(native, order="K")


# --- pickles --------------------------------------------------------------------------------------------------------------


class _DtypeStub:
    """Placeholder for a `numpy.dtype` while a pickle is read."""

    def __init__(self, code: Any, *_: Any):
        self.code = str(code, "latin1") if isinstance(code, (bytes, memoryview)) else code
        self.order = "|"
        if not isinstance(self.code, str):
            raise ValueError("it holds an array of no known type")
        if self.code[:1] in ("<", ">", "|", "="):
            self.order, self.code = self.code[0], self.code[1:]
        self.holds_objects = self.code in ("O", "O4", "O8")
        if not self.holds_objects:
            self.plain()

    def plain(self) -> np.dtype:
        return _plain_dtype(self.code, self.order)

    def build(self, state: Any) -> None:
        """(version, byte order, no sub-array, no names, no fields, item size of text, alignment, flags)."""
        if not isinstance(state, tuple) or len(state) < 8 or not isinstance(state[1], str):
            raise ValueError("it holds an array of no known type")
        if any(part is not None for part in state[2:5]):
            raise ValueError("it holds an array of records; only arrays of numbers and text are read")
        self.order = state[1]
        if not self.holds_objects and state[5] not in (-1, self.plain().itemsize):
            raise ValueError(f"it holds an array of {self.plain()} of {str(state[5])[:20]} bytes each")


class _ArrayStub:
    """Placeholder for an array, which a pickle creates before it sets its contents."""

    value: Any = None


class _SparseStub:
    """Placeholder for a sparse matrix of scipy, as in SMPL's model files; it becomes a dense array."""

    value: Any = None

    def __init__(self, by_columns: bool):
        self.by_columns = by_columns

    def build(self, state: Any, charge: Callable[[int], None]) -> None:
        """Set the contents from scipy's state: the shape and the data, indices and indptr of the CSR or CSC format."""
        names = ("data", "indices", "indptr")
        parts = [getattr(state.get(name), "value", None) for name in names] if isinstance(state, dict) else [None]
        if not all(isinstance(part, np.ndarray) and part.ndim == 1 and part.dtype.kind in "iuf" for part in parts):
            raise ValueError("it holds a sparse matrix that is none")
        data, indices, starts = parts
        shape = state.get("_shape")
        if not isinstance(shape, tuple) or len(shape) != 2 or any(type(n) is not int or n < 1 for n in shape):
            raise ValueError("it holds a sparse matrix of no shape")
        lines, width = shape[::-1] if self.by_columns else shape
        charge(8 * lines * width)
        counts = np.diff(starts.astype(np.int64))
        fits = len(starts) == lines + 1 and starts[0] == 0 and starts[-1] == len(data) == len(indices)
        if not fits or (counts < 0).any() or (len(indices) and not 0 <= indices.min() <= indices.max() < width):
            raise ValueError("it holds a sparse matrix whose parts do not fit each other")
        dense = np.zeros((lines, width), data.dtype)
        np.add.at(dense, (np.repeat(np.arange(lines), counts), indices.astype(np.int64)), data)
        self.value = np.ascontiguousarray(dense.T if self.by_columns else dense)


# Placeholders for classes that a pickle may name but not call: `object`, scipy's sparse matrices, `numpy.ndarray`.
_OBJECT, _CSR, _CSC, _NDARRAY = object(), object(), object(), object()


class _PlainUnpickler:
    """Interprets the opcodes that make plain data. https://github.com/python/cpython/blob/main/Lib/pickletools.py"""

    def __init__(self, data: bytes):
        self.file = io.BytesIO(data)
        self.data = memoryview(data)
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        # The memo could make many arrays of the same bytes. Honest files use them once, old protocols once more as text.
        self.byte_budget = 2 * len(data) + 1024
        self.sparse_budget = MAX_SPARSE
        self.functions: dict[tuple[str, str], Any] = {
            ("numpy", "ndarray"): _NDARRAY,
            ("numpy", "dtype"): _DtypeStub,
            ("_codecs", "encode"): self.encode,  # bytes, before protocol 3
            ("collections", "OrderedDict"): self.pairs,
        }
        for module in ("copy_reg", "copyreg"):
            self.functions[module, "_reconstructor"] = self.reconstructor
        for module in ("__builtin__", "builtins"):
            self.functions |= {
                (module, "bytes"): lambda: b"",
                (module, "bytearray"): self.mutable,
                (module, "object"): _OBJECT,
            }
        for kind, stand_in in (("csr", _CSR), ("csc", _CSC)):
            for module in (f"scipy.sparse.{kind}", f"scipy.sparse._{kind}"):
                self.functions[module, f"{kind}_matrix"] = self.functions[module, f"{kind}_array"] = stand_in
        for core in ("numpy.core", "numpy._core"):  # numpy 1 and 2
            self.functions[f"{core}.multiarray", "_reconstruct"] = self.reconstruct
            self.functions[f"{core}.multiarray", "scalar"] = self.scalar
            self.functions[f"{core}.numeric", "_frombuffer"] = self.frombuffer

    def run(self) -> Any:
        for _ in range(MAX_OPCODES):
            code = self.read(1)
            if code == b".":
                return self.stack.pop()
            operation = _OPCODES.get(bytes(code))
            if operation is None:  # instances of classes, out-of-band buffers, sets, or not a pickle at all
                raise ValueError(
                    f"it is no pickle of plain data: it has the opcode {bytes(code)!r}; only numpy arrays and plain containers are read"
                )
            operation(self)
        raise ValueError(f"it has more than {MAX_OPCODES} parts")

    # primitives of the opcodes

    def read(self, size: int) -> memoryview:
        start = self.file.tell()
        if size > len(self.data) - start:
            raise EOFError("it is no pickle, or is cut off")
        self.file.seek(size, io.SEEK_CUR)
        return self.data[start : start + size]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.read(struct.calcsize(form)))[0]

    def counted(self, form: str) -> memoryview:
        size = self.number(form)
        if size < 0:
            raise ValueError("it has a negative length")
        return self.read(size)

    def line(self) -> bytes:
        line = self.file.readline()
        if not line.endswith(b"\n"):
            raise EOFError("it is no pickle, or is cut off")
        return line[:-1]

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def push(self, item: Any) -> None:
        self.stack.append(item)

    def last(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise ValueError("it is no pickle, or is cut off")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    # operations

    def memoize(self, key: int) -> None:
        self.memo[key] = self.stack[-1]

    def extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("it puts something into what is no list")
        self.stack[-1].extend(items)

    def fill(self, target: Any, items: list[Any]) -> dict[Any, Any]:
        if type(target) is not dict or len(items) % 2:
            raise ValueError("it has keys without values, or values without a dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            key = bytes(key) if isinstance(key, memoryview) else key
            if not isinstance(key, (str, int, float, bytes, type(None))):  # hashing a nested tuple can take forever
                raise ValueError("it has a dictionary whose keys are neither text nor numbers")
            target[key] = value
        return target

    def set_items(self, items: list[Any]) -> None:
        self.fill(self.stack[-1], items)

    def find(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str) or (module, name) not in self.functions:
            requested = f"{module}.{name}".encode("ascii", "backslashreplace").decode()[:80]
            raise ValueError(f"it asks for {requested}; only numpy arrays and plain containers are read")
        self.push(self.functions[module, name])

    def call(self, function: Any, arguments: Any) -> None:
        known = any(function is known for known in self.functions.values())
        if not known or function in (_NDARRAY, _OBJECT, _CSR, _CSC):
            raise ValueError("it calls what is no function for plain data")
        if not isinstance(arguments, tuple):
            raise ValueError("it calls a function without arguments")
        self.push(function(*arguments))

    def build(self, state: Any) -> None:
        target = self.stack[-1]
        if isinstance(target, _DtypeStub):
            target.build(state)
        elif isinstance(target, _SparseStub):
            target.build(state, self.charge_sparse)
        elif isinstance(target, _ArrayStub):
            if not isinstance(state, tuple) or len(state) != 5:
                raise ValueError("it holds an array of another kind than numpy's own")
            _, shape, dtype, fortran, data = state  # the first is the version, 1
            if (
                isinstance(dtype, _DtypeStub)
                and dtype.holds_objects
                and shape == ()
                and isinstance(data, list)
                and len(data) == 1
            ):
                target.value = data[0]  # numpy.save wraps a dictionary in an array of one object
                return
            target.value = self.make(data, dtype, shape, "F" if fortran else "C")
        else:
            raise ValueError("it sets attributes of something else than an array")

    def new(self, kind: Any, arguments: Any) -> _SparseStub:
        if kind not in (_CSR, _CSC) or arguments != ():
            raise ValueError("it makes something else than arrays and plain containers")
        return _SparseStub(kind is _CSC)

    # functions that a pickle may call

    def charge(self, size: int) -> None:
        self.byte_budget -= size
        if self.byte_budget < 0:
            raise ValueError("it makes more arrays than its bytes are enough for")

    def charge_sparse(self, size: int) -> None:
        self.sparse_budget -= size
        if self.sparse_budget < 0:
            raise ValueError(f"it has sparse matrices that unfold to more than {MAX_SPARSE >> 20} MB")

    def reconstructor(self, kind: Any, base: Any, state: Any) -> _SparseStub:
        if base is not _OBJECT or state is not None:
            raise ValueError("it makes something else than arrays and plain containers")
        return self.new(kind, ())

    def make(self, data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
        if not isinstance(dtype, _DtypeStub):
            raise ValueError("it holds an array of no known type")
        if isinstance(data, str):  # Python 2's bytes
            data = data.encode("latin1")
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise ValueError("it holds an array of objects; only arrays of numbers and text are read")
        self.charge(len(data))
        return _array(data, dtype.plain(), shape, order)

    def reconstruct(self, kind: Any, *_: Any) -> _ArrayStub:
        if kind is not _NDARRAY:
            raise ValueError("it makes an array of another kind than numpy's own")
        return _ArrayStub()

    def frombuffer(self, data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> _ArrayStub:
        stub = _ArrayStub()
        if order not in ("C", "F", "K"):
            raise ValueError("it holds an array in no known order")
        stub.value = self.make(data, dtype, shape, "F" if order == "F" else "C")
        if order == "K" and axes is not None:
            if sorted(axes) != list(range(len(shape))):
                raise ValueError("it holds an array in no known order")
            stub.value = stub.value.transpose(axes)
        return stub

    def scalar(self, dtype: Any, data: Any = b"") -> _ArrayStub:
        stub = _ArrayStub()
        stub.value = self.make(data, dtype, (), "C")[()]
        return stub

    def encode(self, text: Any, encoding: Any = "latin1") -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise ValueError("it encodes something else than bytes")
        self.charge(len(text))
        return text.encode("latin1")

    def mutable(self, data: Any = b"") -> bytearray:
        if not isinstance(data, (bytes, memoryview)):
            raise ValueError("it makes bytes of something else")
        self.charge(len(data))
        return bytearray(data)

    def pairs(self, items: Any = ()) -> dict[Any, Any]:
        return self.fill({}, [part for key, value in items for part in (key, value)])


def _python2_string(line: bytes) -> str:
    if len(line) < 2 or line[:1] not in (b'"', b"'") or line[-1:] != line[:1]:
        raise ValueError("it has text without quotes")
    return codecs.escape_decode(line[1:-1])[0].decode("latin1")


def _text(data: memoryview) -> str:
    return str(data, "utf-8", "surrogatepass")


def _decimal(line: bytes) -> int | bool:
    return line == b"01" if line in (b"00", b"01") else int(line.rstrip(b"L"))


_OPCODES: dict[bytes, Callable[[_PlainUnpickler], Any]] = {
    b"\x80": lambda m: m.read(1),  # protocol number
    b"\x95": lambda m: m.read(8),  # frame size
    b"(": lambda m: m.mark(),
    b"0": lambda m: m.stack.pop() if m.stack else m.since_mark(),
    b"1": lambda m: m.since_mark(),
    b"2": lambda m: m.push(m.stack[-1]),
    # memo
    b"p": lambda m: m.memoize(int(m.line())),
    b"q": lambda m: m.memoize(m.number("<B")),
    b"r": lambda m: m.memoize(m.number("<I")),
    b"\x94": lambda m: m.memoize(len(m.memo)),
    b"g": lambda m: m.push(m.memo[int(m.line())]),
    b"h": lambda m: m.push(m.memo[m.number("<B")]),
    b"j": lambda m: m.push(m.memo[m.number("<I")]),
    # constants and numbers
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"I": lambda m: m.push(_decimal(m.line())),
    b"L": lambda m: m.push(_decimal(m.line())),
    b"J": lambda m: m.push(m.number("<i")),
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"\x8a": lambda m: m.push(pickle.decode_long(m.counted("<B"))),
    b"\x8b": lambda m: m.push(pickle.decode_long(m.counted("<i"))),
    b"F": lambda m: m.push(float(m.line())),
    b"G": lambda m: m.push(m.number(">d")),
    # text and bytes
    b"S": lambda m: m.push(_python2_string(m.line())),
    b"T": lambda m: m.push(str(m.counted("<i"), "latin1")),
    b"U": lambda m: m.push(str(m.counted("<B"), "latin1")),
    b"V": lambda m: m.push(m.line().decode("raw-unicode-escape")),
    b"\x8c": lambda m: m.push(_text(m.counted("<B"))),
    b"X": lambda m: m.push(_text(m.counted("<I"))),
    b"\x8d": lambda m: m.push(_text(m.counted("<Q"))),
    b"C": lambda m: m.push(m.counted("<B")),
    b"B": lambda m: m.push(m.counted("<I")),
    b"\x8e": lambda m: m.push(m.counted("<Q")),
    b"\x96": lambda m: m.push(m.counted("<Q")),
    # containers
    b"]": lambda m: m.push([]),
    b")": lambda m: m.push(()),
    b"}": lambda m: m.push({}),
    b"l": lambda m: m.push(m.since_mark()),
    b"t": lambda m: m.push(tuple(m.since_mark())),
    b"d": lambda m: m.push(m.fill({}, m.since_mark())),
    b"\x85": lambda m: m.push(tuple(m.last(1))),
    b"\x86": lambda m: m.push(tuple(m.last(2))),
    b"\x87": lambda m: m.push(tuple(m.last(3))),
    b"a": lambda m: m.extend(m.last(1)),
    b"e": lambda m: m.extend(m.since_mark()),
    b"s": lambda m: m.set_items(m.last(2)),
    b"u": lambda m: m.set_items(m.since_mark()),
    # arrays
    b"c": lambda m: m.find(str(m.line(), "utf-8"), str(m.line(), "utf-8")),
    b"\x93": lambda m: m.find(*m.last(2)),
    b"R": lambda m: m.call(*m.last(2)),
    b"\x81": lambda m: m.push(m.new(*m.last(2))),
    b"b": lambda m: m.build(m.stack.pop()),
}


def _resolve(item: Any, max_items: int, resolved: dict[int, tuple[Any, int]], depth: int = 0) -> tuple[Any, int]:
    """An unpickled object with arrays in the place of the stubs, and its number of items, counted with repetition.

    A list may contain another a hundred times, which contains another a hundred times: few bytes, but more items than fit in memory
    as soon as an array is made of them. Hence `max_items`. Shared containers stay shared: `resolved` has those that are done, by id.
    """
    if depth >= MAX_DEPTH:
        raise ValueError(f"it holds itself, or is nested more than {MAX_DEPTH} deep")
    if item is None or isinstance(item, (bool, int, float, str, bytes, bytearray)):
        return item, 1
    if isinstance(item, memoryview):
        return bytes(item), 1
    if isinstance(item, (_ArrayStub, _SparseStub)):
        if item.value is None:
            raise ValueError("it holds an array without contents")
        is_array = isinstance(item.value, (np.ndarray, np.generic))
        return (item.value, 1) if is_array else _resolve(item.value, max_items, resolved, depth + 1)
    if not isinstance(item, (list, tuple, dict)):
        raise ValueError("it holds something else than numbers, text, arrays and containers of them")
    if id(item) not in resolved:
        parts = item.values() if isinstance(item, dict) else item
        values, counts = (
            zip(*(_resolve(part, max_items, resolved, depth + 1) for part in parts), strict=True) if item else ((), ())
        )
        if 1 + sum(counts) > max_items:
            raise ValueError("it holds the same parts again and again")
        made = dict(zip(item, values, strict=True)) if isinstance(item, dict) else type(item)(values)
        resolved[id(item)] = made, 1 + sum(counts)
    return resolved[id(item)]


def load_pickle(path: str | os.PathLike | BinaryIO) -> Any:
    """The content of a pickle: numbers, strings, bytes, lists, tuples, dictionaries, and numpy arrays of numbers or text.

    It reads all protocols, of Python 2 and 3 and numpy 1 and 2; byte strings of Python 2 are decoded as latin1. A `.npy` that
    `numpy.save` made of a dictionary (a pickle behind a header) is read as well. Sparse matrices of scipy become dense arrays.

    Raises:
        FileError: the file cannot be opened, is cut off, is not a pickle or holds anything else; the shape, type and bytes of an array
            do not fit each other; it is longer than 512 MB. No code in it was run.
    """
    name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else str(getattr(path, "name", "the file"))
    with reading(name, "give a whole pickle of plain numpy arrays"):
        data = _read_bytes(path)
        if data[:6] == _NUMPY and len(data) > 12:
            form = "<H" if data[6] == 1 else "<I"
            data = data[8 + struct.calcsize(form) + struct.unpack_from(form, data, 8)[0] :]
        return _resolve(_PlainUnpickler(data).run(), 10 * len(data), {})[0]


def _read_bytes(path: str | os.PathLike | BinaryIO) -> bytes:
    if not isinstance(path, (str, os.PathLike)):
        data = path.read(MAX_BYTES + 1)
    else:
        _check_file(Path(path))
        data = Path(path).read_bytes()
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is longer than {MAX_BYTES >> 20} MB")
    return data


def _check_file(path: Path, limit: int | None = MAX_BYTES) -> None:
    """Raises ValueError for anything but a regular file of limited size: a device or a pipe may never end."""
    if path.exists() and not path.is_file():
        raise ValueError("it is a folder" if path.is_dir() else "it is no regular file")
    if limit is not None and path.stat().st_size > limit:
        raise ValueError(f"it is longer than {limit >> 20} MB")


# --- numpy's own files ------------------------------------------------------------------------------------------------------


def load_npy(path: str | os.PathLike) -> np.ndarray:
    """The array of numbers or text in a `.npy`.

    Raises:
        FileError: it cannot be opened, is cut off, is not a `.npy`, holds objects, or its header does not fit its length.
    """
    with reading(path):
        _check_file(Path(path))
        with Path(path).open("rb") as file:
            return _read_array(file, Path(path).stat().st_size)


def load_npz(path: str | os.PathLike, keys: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` by name.

    Args:
        path: the file.
        keys: the arrays to read, if present; all when None. Others may be broken or hold objects.

    Raises:
        FileError: it cannot be opened, is cut off, is not a `.npz`; an array holds objects, or its header does not fit its length; it
            unpacks to more than 1 GB, or to more than 64 MB and 200 times its size.
    """
    with reading(path), _archive(Path(path)) as archive:
        members = {name: info for name, info in _array_members(archive).items() if keys is None or name in keys}
        total = sum(info.file_size for info in members.values())
        if total > MAX_UNPACKED or total > max(MAX_SMALL, MAX_RATIO * Path(path).stat().st_size):
            raise ValueError(f"its {Path(path).stat().st_size} bytes promise {total} unpacked")
        arrays = {}
        for name, info in members.items():
            try:
                with archive.open(info) as file:
                    arrays[name] = _read_array(file, info.file_size)
            except Exception as error:
                raise ValueError(f"{name}: {reason_of(error)}") from error
        return arrays


def names_of_npz(path: str | os.PathLike) -> list[str]:
    """The names of the arrays in a `.npz`, without reading them. Raises FileError as `load_npz` does."""
    with reading(path), _archive(Path(path)) as archive:
        return list(_array_members(archive))


def _archive(path: Path) -> zipfile.ZipFile:
    _check_file(path)
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 16) - 42))
        end = file.read()
    # zipfile loads the whole central directory, which takes about a hundred bytes per array
    at = end.rfind(b"PK\5\6")
    if at < 0 or len(end) < at + 22:
        raise ValueError("it is no .npz, or is cut off")
    if struct.unpack_from("<I", end, at + 12)[0] > 1 << 20 or end[at - 20 : at - 16] == b"PK\6\7":
        raise ValueError("it has more members than a .npz of arrays")
    return zipfile.ZipFile(path)


def _array_members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members = {}
    for info in archive.infolist():
        if info.filename.endswith(".npy"):
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError("it is packed in a way that numpy does not use")
            members[info.filename.removesuffix(".npy")] = info
    return members


def _read_array(file: Any, size: int) -> np.ndarray:
    """An array in numpy's format from a stream of `size` bytes, as its archive claims."""
    start = file.read(8)
    if len(start) < 8 or start[:6] != _NUMPY:
        raise ValueError("it is no array of numpy, or is cut off")
    form = "<H" if start[6] == 1 else "<I"
    length = file.read(struct.calcsize(form))
    if len(length) < struct.calcsize(form) or struct.unpack(form, length)[0] > 10_000:
        raise ValueError("its header is cut off, or far too long")
    header = str(file.read(struct.unpack(form, length)[0]), "latin1")
    # matched, not evaluated: the header is untrusted
    descr = re.search(r"'descr'\s*:\s*'([<>|=]?)(\w+)'", header)
    order = re.search(r"'fortran_order'\s*:\s*(True|False)", header)
    shape = re.search(r"'shape'\s*:\s*\(((?:\s*\d{1,18}L?\s*,?)*)\s*\)", header)
    if not (descr and order and shape):
        raise ValueError("it holds an array of records, or its header is broken")
    dtype = _plain_dtype(descr[2], descr[1] or "|")
    lengths = tuple(int(number) for number in re.findall(r"\d+", shape[1]))
    rest = size - 8 - len(length) - len(header)
    _check_shape(lengths, dtype, rest)
    data = bytearray(rest)
    view, got = memoryview(data), 0
    while got < rest and (step := file.readinto(view[got:])):
        got += step
    if got < rest or file.read(1):
        raise ValueError("it is cut off" if got < rest else "it is longer than it says")
    return _array(data, dtype, lengths, "F" if order[1] == "True" else "C")


# --- torch's files ------------------------------------------------------------------------------------------------------------


def load_torch(path: str | os.PathLike) -> Any:
    """Tensors and plain containers from a file of `torch.save`, memory-mapped. No code in the file is run.

    Raises:
        FileError: it cannot be opened, is cut off, or asks for anything else.
    """
    import torch

    options = {"map_location": "cpu", "weights_only": True}
    with reading(path, "give a checkpoint of tensors that is whole"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickle protocols; the error is more precise
        _check_file(Path(path), None)
        try:
            if zipfile.is_zipfile(path):
                # memory-mapped, a tensor's storage is part of the file; copied, it would be as long as the pickle claims
                return torch.load(path, mmap=True, **options)
            return torch.load(path, **options)  # torch's format before 1.6
        except pickle.UnpicklingError as error:
            with contextlib.suppress(Exception):  # numpy's arrays instead of tensors, which torch would have to trust
                if isinstance(content := load_pickle(_pickle_of(Path(path))), dict):
                    return content
            # torch's message recommends to run the file
            asked = re.search(r"GLOBAL (\S+)", str(error))
            what = f"asks for {asked[1][:80]}" if asked else "holds something else"
            raise ValueError(f"it {what}; only tensors and plain containers are read, nothing in it was run") from error
        except FileNotFoundError:
            raise
        except Exception as error:
            reason = reason_of(error).partition(". ")[0]
            raise ValueError(f"it is no checkpoint of torch, or is cut off: {reason}") from error


def _pickle_of(path: Path) -> BinaryIO:
    """The pickle in a file of `torch.save`; any other file as it is."""
    if not zipfile.is_zipfile(path):
        _check_file(path)
        return io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        with archive.open(names[0] if names else "data.pkl") as file:
            return io.BytesIO(file.read(MAX_SMALL))


def text_in_pickle(path: str | os.PathLike) -> list[str]:
    """The texts in a pickle or a file of `torch.save`, such as keys and names of tensors, as far as it can be read; nothing is run.

    They say what a file is that no loader takes.
    """
    texts: list[str] = []
    with contextlib.suppress(Exception):
        file = _pickle_of(Path(path))
        for _ in range(5):  # torch's files before 1.6 are several pickles, one behind the other
            operations = itertools.islice(pickletools.genops(file), MAX_OPCODES // 5)
            texts.extend(argument for _, argument, _ in operations if isinstance(argument, str))
    return texts


__all__ = ["FileError", "load_npy", "load_npz", "load_pickle", "load_torch", "names_of_npz", "text_in_pickle"]
