"""Which expert computes what: whole sequences are routed by their genre (paper, section 3.3.1)."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from .configuration_megadance import MegaDanceConfig


def genre_key(genre: str) -> str:
    """Name of a genre's modules: prefixed, because `nn.ModuleDict` refuses names such as "pop", and without dots."""
    return "genre_" + re.sub(r"\W", "_", genre)


class GenreGroup(NamedTuple):
    """The rows of the sorted batch that share a genre: neighbours, or under `torch.compile` a mask, [batch]."""

    key: str
    rows: Any  # a slice, or a tensor


class Routing(NamedTuple):
    """A batch sorted by genre.

    Attributes:
        groups: runs of rows with the same genre, in sorted order.
        order, inverse: [batch], the sorting and the way back; None where the batch is sorted as it is.
    """

    groups: list[GenreGroup]
    order: torch.Tensor | None = None
    inverse: torch.Tensor | None = None

    def sort(self, x: torch.Tensor) -> torch.Tensor:
        """Rows in the order of `groups`."""
        return x if self.order is None else x[self.order.to(x.device)]

    def restore(self, x: torch.Tensor) -> torch.Tensor:
        """Sorted rows in the order in which they came."""
        return x if self.inverse is None else x[self.inverse.to(x.device)]

    def select(self, x: torch.Tensor, rows: slice | torch.Tensor) -> torch.Tensor:
        """The rows of `x` that a group's expert computes: its own, or all of them where the group is a mask."""
        return x[rows] if isinstance(rows, slice) else x

    def join(self, parts: list[torch.Tensor]) -> torch.Tensor:
        """What the groups' experts gave, in the order of `groups`, as one batch."""
        joined = parts[0]
        if len(parts) == 1:
            return joined
        if isinstance(self.groups[0].rows, slice):
            return torch.cat(parts)
        for (_, mask), part in zip(self.groups[1:], parts[1:], strict=True):
            joined = torch.where(mask.view(-1, *[1] * (part.dim() - 1)), part, joined)
        return joined


def known_numbers(genre_ids: Any) -> list[int] | None:
    """The genres of a batch where they are given as whole numbers and not as a tensor, which a device would have to be asked for."""
    if isinstance(genre_ids, list | tuple) and all(type(number) is int for number in genre_ids):
        return list(genre_ids)
    return None


def integers_on(device: torch.device, numbers: Sequence[int]) -> torch.Tensor:
    """Numbers as a tensor on a device, which nobody waits for."""
    tensor = torch.tensor(numbers, dtype=torch.long)
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def route(genre_ids: torch.Tensor, config: MegaDanceConfig, known: Sequence[int] | None = None) -> Routing:
    """Sort a batch, `genre_ids` [batch], by genre. `known` are the same numbers, where they need not be asked from the device.

    Under `torch.compile` shapes must not depend on what is in a tensor: each expert that is built then computes the whole batch, and its
    rows are chosen afterwards. `active_genres` of `from_pretrained` spares that, and so does a cache, which is routed beforehand.

    Raises:
        ValueError: an id is no genre, or its expert is not built. Unnoticed under `torch.compile`.
    """
    if torch.compiler.is_compiling():
        built = [(genre_key(genre), config.genres.index(genre)) for genre in config.built_genres]
        return Routing([GenreGroup(key, genre_ids == index) for key, index in built])
    ids = genre_ids.tolist() if known is None else list(known)
    groups, start = [], 0
    for index in sorted(set(ids)):
        check_genre_id(index, config)
        stop = start + ids.count(index)
        groups.append(GenreGroup(genre_key(config.genres[index]), slice(start, stop)))
        start = stop
    if sorted(ids) == ids:
        return Routing(groups)
    if known is not None:
        places = sorted(range(len(ids)), key=ids.__getitem__)
        back = sorted(range(len(ids)), key=places.__getitem__)
        return Routing(groups, integers_on(genre_ids.device, places), integers_on(genre_ids.device, back))
    order = torch.argsort(genre_ids, stable=True)
    return Routing(groups, order, torch.argsort(order))


def check_genre_id(index: int, config: MegaDanceConfig) -> None:
    """Raises ValueError where `index` is no genre of the configuration, or its expert is not built."""
    genres = config.genres
    if not 0 <= index < len(genres):
        listing = ", ".join(f"{number} {name}" for number, name in enumerate(genres))
        raise ValueError(f"genre_ids has {index}, which is no genre; the genres are {listing}")
    if config.use_genre_experts and genres[index] not in config.built_genres:
        raise ValueError(
            f"genre {genres[index]!r} (id {index}) is not among the genres this model was built with: "
            f"{', '.join(config.built_genres)}; name it in active_genres when loading"
        )
