"""Models in evaluation mode with all of their weights, and the device that a name or number means."""

import os
import warnings
from typing import Any

import torch
from transformers.modeling_utils import PreTrainedModel

from .errors_megadance import ModelError, reason_of


def load_weights(cls: type[PreTrainedModel], source: str, **kwargs: Any) -> Any:
    """`cls.from_pretrained`, in evaluation mode. Missing weights are an error; transformers would warn and initialise them.

    Raises:
        ModelError: weights are missing or have other sizes.
    """
    # a folder is checked before it is loaded; for a repository, all wrong sizes are collected and reported below
    kwargs = kwargs if os.path.isdir(source) else {**kwargs, "ignore_mismatched_sizes": True}
    model, info = cls.from_pretrained(source, output_loading_info=True, **kwargs)
    for kind, keys in (
        ("lacks", info["missing_keys"]),
        ("has other sizes than its config.json for", info["mismatched_keys"]),
    ):
        if keys:
            names = sorted(key if isinstance(key, str) else key[0] for key in keys)
            raise ModelError(
                f"model={source!r} {kind} {len(names)} weights of {cls.__name__} ({names[0]}, ...): save it again"
            )
    return model.eval()


def find_device(device: Any, name: str = "device") -> torch.device | None:
    """The device by its name or number, after a test that it works; None as it is.

    Numbers are as in transformers: -1 is the CPU, 0 the first accelerator, or, with a warning, the CPU if there is none.

    Raises:
        ValueError: there is no such device.
    """
    if device is None:
        return None
    if isinstance(device, int) and not isinstance(device, bool):
        if device < 0:
            return torch.device("cpu")
        kind = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        if kind is None:
            warnings.warn(f"{name}={device}: there is no accelerator here, so the CPU is used", stacklevel=3)
            return torch.device("cpu")
        found = torch.device(kind.type, device)
    else:
        try:
            found = torch.device(device)
        except (RuntimeError, TypeError):
            raise ValueError(f"{name}={device!r} is unknown: give 'cpu', 'cuda', 'cuda:1', 'mps', ...") from None
    try:
        if found.type == "meta":
            raise RuntimeError("nothing is computed there")
        torch.ones(1, device=found).cpu()
    except Exception as error:  # each type of device raises its own errors
        reason = reason_of(error, 200).rstrip(".")
        raise ValueError(f"{name}={device!r} cannot be used here ({reason}): give {name}='cpu'") from None
    return found
