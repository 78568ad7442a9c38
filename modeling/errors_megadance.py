"""What goes wrong with a model's files, in one line. Light, so that a command can say it at once."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, StrictDataclassError
from safetensors import SafetensorError


class ModelError(ValueError):
    """A model cannot be found or loaded; the message is one line naming it and the remedy."""


@contextmanager
def one_line(model: str | os.PathLike) -> Iterator[None]:
    """Whatever goes wrong while files are fetched and read becomes a ModelError of one line."""
    try:
        yield
    except ModelError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        if _is_from_the_hub(error):  # private, gated, offline, no such revision: it says itself what to do
            raise ModelError(f"model={os.fspath(model)!r} cannot be loaded: {reason}") from error
        if len(reason) > 300:
            reason = reason[:300] + " ..."
        raise ModelError(
            f"model={os.fspath(model)!r} cannot be loaded ({reason}): give a folder with config.json, model.safetensors, "
            "preprocessor_config.json and tokenizer/, or the Hub id of such a model"
        ) from error


def _is_from_the_hub(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled)):
            return True
        error = error.__cause__
    return False


__all__ = ["ModelError", "one_line"]
