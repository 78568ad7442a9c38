"""Errors about files and models, in one line each. Quick to import, so that a command can report a wrong path at once."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_AGAIN, _GIVE = "fetch or make it again", "give the path of a file that does"
SAVE_AGAIN = "fetch or save the model again"
# The files of a model that may hold the settings of its feature extractor.
EXTRACTOR_FILES = ("preprocessor_config.json", "processor_config.json")
_MAX_JSON_BYTES = 1 << 26  # an index of a hundred thousand tensors is 10 MB


class FileError(ValueError):
    """A file that cannot be used; the message is one line naming the file and the remedy."""


@contextmanager
def reading(path: str | os.PathLike, remedy: str = _AGAIN, error: type[ValueError] = FileError) -> Iterator[None]:
    """Whatever goes wrong while a file is read becomes one line that names it: `PATH cannot be read (REASON): REMEDY`.

    Every loader uses this: damaged files raise nearly anything (struct.error, KeyError, UnicodeDecodeError, RecursionError,
    MemoryError, ...), and none of that tells a user which file to replace.

    Args:
        path: how the message names the file.
        remedy: what the user can do.
        error: the class to raise, a ValueError of this package. An error of this class raised inside passes unchanged, and a
            FileError keeps its message: both already name what is wrong.
    """
    try:
        yield
    except error:
        raise
    except FileError as inner:
        raise error(str(inner)) from inner
    except FileNotFoundError as missing:
        name = missing.filename if missing.filename is not None else path
        raise error(f"{os.fspath(name)} does not exist: {_GIVE if remedy == _AGAIN else remedy}") from missing
    except Exception as cause:
        raise error(f"{os.fspath(path)} cannot be read ({reason_of(cause)}): {remedy}") from cause


def short(value: object, limit: int = 60) -> str:
    """A value from a file for a message: in one line, cut to `limit` characters."""
    shown = " ".join(str(value).split())
    return shown if len(shown) <= limit else shown[:limit] + " ..."


def reason_of(error: BaseException, limit: int = 300) -> str:
    """An exception's message in one line, with its type where the message alone is not clear."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
    elif isinstance(error, MemoryError):
        text = "it asks for more memory than there is"
    elif isinstance(error, KeyError | IndexError) or not text:
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if len(text) <= limit else text[:limit] + " ..."


class ModelError(ValueError):
    """A model cannot be found or loaded; the message is one line naming it and the remedy."""


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """The object in a JSON file of a model.

    Raises:
        ModelError: it is missing, unreadable, not JSON, or not an object.
    """
    with reading(path, SAVE_AGAIN, ModelError):
        if os.path.getsize(path) > _MAX_JSON_BYTES:
            raise ValueError(f"it is longer than {_MAX_JSON_BYTES >> 20} MB")
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"it is not a valid JSON file: {error}") from error
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}, not an object {{...}}")
        return content


@contextmanager
def one_line(model: str | os.PathLike) -> Iterator[None]:
    """Whatever goes wrong while a model's files are fetched and read becomes a ModelError of one line that names the model."""
    try:
        yield
    except ModelError as error:
        if str(error).startswith("model="):
            raise
        raise ModelError(f"model={os.fspath(model)!r}: {error}") from error  # it names one of its files
    except Exception as error:
        if _is_from_the_hub(error):  # private, gated, offline, no such revision: its own message tells what to do
            reason = " ".join(str(error).split())
            raise ModelError(f"model={os.fspath(model)!r} cannot be loaded: {reason}") from error
        if isinstance(error, TypeError) and "unexpected keyword" in str(error):  # the caller's own
            raise
        raise ModelError(
            f"model={os.fspath(model)!r} cannot be loaded ({reason_of(error)}): give a folder with config.json, model.safetensors, "
            "preprocessor_config.json and tokenizer/, or the Hub id of such a model"
        ) from error


def _is_from_the_hub(error: BaseException | None) -> bool:
    hub = sys.modules.get("huggingface_hub.errors")  # imported already if it has raised anything
    if hub is None:
        return False
    while error is not None:
        if isinstance(error, hub.HfHubHTTPError | hub.LocalEntryNotFoundError | hub.OfflineModeIsEnabled):
            return True
        error = error.__cause__
    return False
