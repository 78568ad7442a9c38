"""Reads pickles that hold arrays and plain containers, and refuses all others.

A pickle is a program: opening a downloaded one with `pickle.load` runs what its author wanted. Data sets of dance come as
pickles all the same, so they are read by an unpickler that can make numpy arrays and knows no other name.
"""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np

# How numpy pickles arrays and scalars, in the spellings of its versions.
_ALLOWED = {
    *(
        (module, name)
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name in ("_reconstruct", "scalar")
    ),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),  # bytes, in protocol 2
    ("collections", "OrderedDict"),
}


class UnsafePickleError(ValueError):
    """A pickle that asks for more than arrays and plain containers, or is none."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise UnsafePickleError(f"it asks for {module}.{name}; only numpy arrays and plain containers are read")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def load_pickle(path: str | os.PathLike) -> Any:
    """What a pickle file holds: numbers, strings, lists, tuples, dictionaries and numpy arrays (not of objects).

    Raises:
        UnsafePickleError: it wants to make anything else, or is cut off, or is no pickle. Nothing of it was run.
        OSError: the file cannot be opened.
    """
    with Path(path).open("rb") as file:
        try:
            content = _Unpickler(file, encoding="latin1").load()
        except UnsafePickleError as error:
            raise UnsafePickleError(f"{path}: {error}") from None
        except Exception as error:  # broken pickles raise nearly anything: IndexError, struct.error, MemoryError, ...
            raise UnsafePickleError(f"{path} is no pickle, or is cut off ({type(error).__name__}: {error})") from None
    _check(content, str(path))
    return content


def _check(content: Any, path: str) -> None:
    seen: set[int] = set()  # a pickled list can hold itself
    waiting = [content]
    while waiting:
        item = waiting.pop()
        if isinstance(item, np.ndarray) and item.dtype.hasobject:
            raise UnsafePickleError(f"{path} holds an array of objects; only arrays of numbers and text are read")
        if isinstance(item, (dict, list, tuple)) and id(item) not in seen:
            seen.add(id(item))
            waiting.extend(item.values() if isinstance(item, dict) else item)
