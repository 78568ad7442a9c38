"""Reading the files of raw folders. What is missing or damaged is an error of one line that names the file."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from megadance_hf.modeling.errors_megadance import reading, reason_of
from megadance_hf.motion.safe_files import load_npy, load_pickle

from .clip import ClipError, as_float32
from .prepared import DataError, MissingDataError

MAX_LIST_BYTES = 1 << 26
_AS_DOWNLOADED = "give the folder as it was downloaded"


def is_clip_name(name: Any) -> TypeGuard[str]:
    """Whether `name` can name a clip. Files are named after clips, so slashes are refused: nothing outside the folder is opened."""
    plain = isinstance(name, str) and 0 < len(name) <= 200 and name.isprintable()
    return plain and name not in (".", "..") and "/" not in name and "\\" not in name


@contextmanager
def _list_text(raw: Path, name: str, remedy: str) -> Iterator[str]:
    file = raw / name
    if not file.is_file():
        raise MissingDataError(f"raw folder {str(raw)!r} has no {name}; {remedy}")
    with reading(file, "give the file as it was downloaded", DataError):
        if file.stat().st_size > MAX_LIST_BYTES:
            raise ValueError(f"it is longer than {MAX_LIST_BYTES >> 20} MB")
        yield file.read_text(encoding="utf-8")


def read_names(raw: Path, name: str, remedy: str = _AS_DOWNLOADED) -> list[str]:
    """The clip names in the text file `name` of a raw folder, such as the list of a split.

    Raises:
        MissingDataError: there is no such file; `remedy` ends the message.
        DataError: it cannot be read, or holds something that cannot name a clip.
    """
    with _list_text(raw, name, remedy) as text:
        for clip in (names := text.split()):
            if not is_clip_name(clip):
                raise ValueError(f"{clip[:80]!r} is no name of a clip")
        return names


def read_records(raw: Path, name: str = "metadata.jsonl") -> dict[str, dict[str, Any]]:
    """The JSON Lines file `name` of a raw folder: records by their `id`. Raises as `read_names` does."""
    records: dict[str, dict[str, Any]] = {}
    with _list_text(raw, name, _AS_DOWNLOADED) as text:
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number} is no JSON: {reason_of(error)}") from error
            clip = record.get("id") if isinstance(record, dict) else None
            if not is_clip_name(clip):
                raise ValueError(f"line {number} is no record of a clip with an id")
            if clip in records:
                raise ValueError(f"line {number} has the id {clip!r} once more")
            records[clip] = record
    return records


def check_exists(file: Path) -> None:
    """Raises `ClipError` if a file of a clip is missing."""
    if not file.is_file():
        raise ClipError(f"{file.parent.name}/{file.name} is missing")


def read_array(file: Path) -> np.ndarray:
    """The array of numbers in a .npy file; a pickled one is refused. Raises `ClipError`."""
    check_exists(file)
    with reading(file, error=ClipError):
        array = load_npy(file)
    if array.dtype.kind not in "fiu":
        raise ClipError(f"{file.name} is no array of numbers")
    return array


def read_arrays(file: Path, *keys: str) -> dict[str, np.ndarray]:
    """Arrays of numbers in a pickled dictionary, as float32; nothing in it is run. Raises `ClipError`."""
    check_exists(file)
    with reading(file, error=ClipError):
        content = load_pickle(file)
    if not isinstance(content, dict) or not set(keys) <= set(content):
        raise ClipError(f"{file.name} lacks one of {', '.join(keys)}")
    try:
        return {key: as_float32(key, content[key]) for key in keys}
    except ClipError as error:
        raise ClipError(f"{file.name} holds something else than numbers ({error})") from error
