"""Where something faster than the modules comes in, behind one interface.

A backend computes new positions of a dance from embeddings to the last layer's output, may bring a head of its own, and updates the same
cache as the modules do. It is asked once for each dance (`prepare`); where no backend serves, the modules compute. A package registers
its backends when it is imported; where only this folder is there, as remote code, none is. `generate(backend=...)` chooses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from .cache_megadance import MegaDanceCache
    from .modeling_megadance import MegaDanceForMotionGeneration


class Stepper(Protocol):
    """What a backend computes new positions of a dance with.

    Attributes:
        head: the model's head, `model.output_mlp`, or what computes the same (`code_head_megadance.py`).
    """

    head: Any

    def __call__(self, hidden_states: Tensor, keep: int) -> Tensor:
        """Hidden states [batch sorted by genre, 3, time, hidden] -> those of the two code streams that the head scores, [batch, 2,
        kept, hidden]: the last `keep` positions, or all of them when that is 0."""
        ...


@dataclass(frozen=True)
class Backend:
    """
    Args:
        prepare: gives a stepper for a model and an empty cache, or None where it cannot compute this model, type or device.
        pays: whether `backend="auto"` should ask it for this model; always when None.
    """

    prepare: Callable[[MegaDanceForMotionGeneration, MegaDanceCache], Stepper | None]
    pays: Callable[[MegaDanceForMotionGeneration], bool] | None = None


_BACKENDS: dict[str, Backend] = {}
_QUANTIZATIONS: dict[str, Callable[[], Any]] = {}


def register_backend(name: str, backend: Backend) -> None:
    """Make a backend known as `generate(backend=name)`; "auto" asks the backends in the order in which they were registered.

    Raises:
        ValueError: the name has a meaning already.
    """
    if name in ("auto", "torch"):
        raise ValueError(f"name={name!r} has a meaning already: give the backend another")
    _BACKENDS[name] = backend


def register_quantization(name: str, make_config: Callable[[], Any]) -> None:
    """Make `from_pretrained(quantization=name)` short for `quantization_config=make_config()`."""
    _QUANTIZATIONS[name] = make_config


def quantization_config(name: str) -> Any:
    """The `quantization_config` that `quantization=name` is short for. Raises ValueError for an unknown name."""
    if name not in _QUANTIZATIONS:
        known = f"use one of {', '.join(_QUANTIZATIONS)}, or" if _QUANTIZATIONS else "there is none here; use"
        raise ValueError(f"quantization={name!r} is unknown; {known} a quantization_config of transformers")
    return _QUANTIZATIONS[name]()


def check_backend(name: str) -> None:
    """Raises ValueError for a backend that nobody registered."""
    names = ("auto", "torch", *_BACKENDS)
    if name not in names:
        raise ValueError(f"backend={name!r} is unknown; use one of {', '.join(names)}")


def prepare_stepper(model: MegaDanceForMotionGeneration, cache: MegaDanceCache, name: str) -> Stepper | None:
    """What computes a dance with this model and cache; None: the modules do.

    Raises:
        ValueError: the backend is unknown, or was asked for by name and cannot compute this model.
    """
    check_backend(name)
    # of a model that a device_map has spread, only the modules know where the weights are
    backends = _BACKENDS if len({weight.device for weight in model.parameters()}) == 1 else {}
    if name == "auto":
        willing = (backend for backend in backends.values() if backend.pays is None or backend.pays(model))
        return next(filter(None, (backend.prepare(model, cache) for backend in willing)), None)
    stepper = backends[name].prepare(model, cache) if name in backends else None
    if stepper is None and name != "torch":
        raise ValueError(
            f"backend={name!r} cannot compute this model as {model.dtype} on {model.device} in this process; use 'auto' or 'torch'"
        )
    return stepper
