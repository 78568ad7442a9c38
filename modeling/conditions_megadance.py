"""What each code is conditioned on: a genre, a plan of genres, several genres mixed, and guidance by music, genre and attributes.

The log-probability of a code is a weighted sum over forward passes that differ in genre and in what they lack (all see the same codes):

    genres    sum over genres of weight x log p(code | past, music, genre); the weights of a code sum to 1
    guidance  + (guidance_scale - 1) x (genres - the same without music)
              + (genre_guidance_scale - 1) x (genres - the same sum over the negative genres)
              + (attribute_guidance_scale - 1) x (genres - the same without attributes)

This is classifier-free guidance of all of them at once; with one of them it is the usual `without + scale x (with - without)`. Weights of logarithms
are what scores can be added with: a mixture of waltz and tango prefers codes that both find likely. One genre without guidance is one
pass, whose scores are used as they are.

Whole sequences are routed by their genre (paper, section 3.3.1), so a pass computes its whole window with one genre, also the codes that
were danced to another. Where the passes change (a genre begins or ends), the window is therefore computed anew: the dance goes on as if
what was danced so far had been given as its beginning. A cache never holds what another genre's experts remember, and equals computing
without one. In the modes that slide the window is short; in mode `stream` it is the whole dance.
"""

from typing import NamedTuple

import torch

from .arguments_megadance import need_codes
from .configuration_megadance import MegaDanceConfig
from .routing_megadance import check_genre_id

# What a pass lacks: index into the third axis of weights of passes; 0 is nothing.
WITHOUT_MUSIC, WITHOUT_ATTRIBUTES = 1, 2


class Passes(NamedTuple):
    """The forward passes that one code of each row needs, side by side as a batch.

    Attributes:
        batch: number of this batch; passes with the same number may share a cache.
        genre_ids: [passes]. genres: the same numbers on the host.
        rows: [passes], the row that a pass is for; None where each row has one that lacks nothing, with weight 1: then nothing is mixed.
        lacks: [passes], 0, `WITHOUT_MUSIC` or `WITHOUT_ATTRIBUTES`.
        order, weights: [rows, most passes of a row], the passes of a row and their weights, 0 where it has fewer.
    """

    batch: int
    genre_ids: torch.Tensor
    genres: tuple[int, ...] = ()
    rows: torch.Tensor | None = None
    lacks: torch.Tensor | None = None
    order: torch.Tensor | None = None
    weights: torch.Tensor | None = None

    def select(self, x: torch.Tensor) -> torch.Tensor:
        """What each pass gets of [rows, ...]."""
        return x if self.rows is None else x[self.rows]

    def select_music(self, music: torch.Tensor, without: torch.Tensor) -> torch.Tensor:
        """Music of each pass, [passes, time, size], of that of each row and what stands for none, [size]."""
        return self._select(music, without, WITHOUT_MUSIC)

    def select_attributes(self, attributes: torch.Tensor, without: torch.Tensor) -> torch.Tensor:
        """What is asked of each pass, [passes, time, size], of that of each row and what stands for nothing, [size]."""
        return self._select(attributes, without, WITHOUT_ATTRIBUTES)

    def _select(self, x: torch.Tensor, without: torch.Tensor, lack: int) -> torch.Tensor:
        if self.rows is None or self.lacks is None:
            return x
        return torch.where((self.lacks == lack)[:, None, None], without, x[self.rows])

    def mix(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores of codes [2 * passes, ..., codes], upper body first -> [2 * rows, ..., codes]."""
        if self.rows is None or self.order is None or self.weights is None:
            return scores
        of_passes = scores.log_softmax(-1).unflatten(0, (2, -1))
        mixed = torch.zeros_like(of_passes[:, : len(self.order)])
        for which, weight in zip(self.order.unbind(1), self.weights.unbind(1), strict=True):
            mixed += weight.view(-1, *[1] * (mixed.dim() - 2)) * of_passes[:, which]
        return mixed.flatten(0, 1)


class Conditions:
    """The passes of each code of a batch.

    Args:
        weights: [items, codes or 1, 3, genres], as `pass_weights` gives them.
        copies: rows for each item, beside each other.
        device: where the passes are computed.
    """

    def __init__(self, weights: torch.Tensor, copies: int, device: torch.device):
        self.weights, self.copies, self.device = weights, copies, device
        active, last = weights != 0, weights.shape[1] - 1
        count = active.sum((2, 3))
        self.is_mixed = bool((count != 1).any() or (weights.amax((2, 3)) != 1).any())
        # numbers that change with the passes, and with their weights
        self._batches = _numbers((active[:, 1:] != active[:, :-1]).any(3).any(2).any(0)) if last else [0]
        self._mixtures = _numbers((weights[:, 1:] != weights[:, :-1]).any(3).any(2).any(0)) if last else [0]
        self._made: tuple[int, Passes] | None = None

    def batch_of(self, index: int) -> int:
        """Number of the batch of passes of code `index`."""
        return self._batches[min(index, len(self._batches) - 1)]

    def mixture_of(self, index: int) -> int:
        """As `batch_of`, but it changes with the weights, too."""
        return self._mixtures[min(index, len(self._mixtures) - 1)]

    def passes(self, index: int) -> Passes:
        """The passes of code `index`."""
        mixture = self.mixture_of(index)
        if self._made is None or self._made[0] != mixture:
            self._made = mixture, self._make(min(index, self.weights.shape[1] - 1))
        return self._made[1]

    def _make(self, index: int) -> Passes:
        weights = self.weights[:, index].repeat_interleave(self.copies, 0)
        rows, lacks, genres = weights.nonzero(as_tuple=True)
        chosen = weights[rows, lacks, genres]
        batch, genre_ids, on_host = self._batches[index], genres.to(self.device), tuple(genres.tolist())
        if len(rows) == len(weights) and not lacks.any() and bool((chosen == 1).all()):
            return Passes(batch, genre_ids, on_host)
        counts = rows.bincount(minlength=len(weights))
        place = torch.arange(len(rows)) - (counts.cumsum(0) - counts)[rows]  # of a pass among those of its row
        order = torch.zeros(len(weights), int(counts.max()), dtype=torch.long)
        of_order = torch.zeros(order.shape)
        order[rows, place], of_order[rows, place] = torch.arange(len(rows)), chosen
        tensors = (rows, lacks, order, of_order)
        return Passes(batch, genre_ids, on_host, *(tensor.to(self.device) for tensor in tensors))


def _numbers(changes: torch.Tensor) -> list[int]:
    """0, and one more with each change, [codes - 1]."""
    return [0, *changes.cumsum(0).tolist()]


def genre_weights(
    genre_ids: torch.Tensor, batch: int, codes: int, config: MegaDanceConfig, name: str = "genre_ids"
) -> torch.Tensor:
    """Weights of genres, [batch, codes, genres], or [batch, 1, genres] where they are the same for all codes; on the CPU.

    Args:
        genre_ids: whole numbers: a genre for each item, [batch], or for each code, [batch, codes]. Or weights of genres, of 0 or more:
            [batch, genres] or [batch, codes, genres]; those of a code are divided by their sum.
        name: of the argument, for messages.

    Raises:
        ValueError: another shape, a genre that is unknown or not built, weights that are negative, not finite or all 0; more than one
            genre for a model that does not tell genres apart.
    """
    shape, genres, genre_ids = tuple(genre_ids.shape), len(config.genres), genre_ids.detach().cpu()
    is_weights = genre_ids.is_floating_point() and genre_ids.dim() > 1
    if not is_weights:
        need_codes(**{name: genre_ids})
    if shape not in (((batch, genres), (batch, codes, genres)) if is_weights else ((batch,), (batch, codes))):
        other = f"weights ({batch}, {genres}) or ({batch}, {codes}, {genres})"
        raise ValueError(
            f"{name} has shape {shape}; input_features needs ({batch},), one for each code ({batch}, {codes}), or {other}"
        )
    if genre_ids.dim() > 1 and not (config.use_genre_experts or config.genre_embedding):
        raise ValueError(
            f"{name} has shape {shape}, but this model does not tell genres apart: give one each, ({batch},)"
        )
    if not is_weights:
        for index in genre_ids.unique().tolist():
            check_genre_id(index, config)
        weights = torch.nn.functional.one_hot(genre_ids.long(), genres).float()
        return weights.view(batch, -1, genres)
    weights = genre_ids.float().view(batch, -1, genres)
    if not torch.isfinite(weights).all() or bool((weights < 0).any()):
        raise ValueError(f"{name} has weights that are negative or not finite: give numbers of 0 or more")
    if not bool((weights > 0).any(2).all()):
        raise ValueError(f"{name} has only weights of 0 for some code: give one of its genres more")
    for index in weights.sum((0, 1)).nonzero()[:, 0].tolist():
        check_genre_id(index, config)
    return weights / weights.sum(2, keepdim=True)


def pass_weights(
    genres: torch.Tensor,
    guidance_scale: float = 1.0,
    negative: torch.Tensor | None = None,
    genre_guidance_scale: float = 1.0,
    attribute_guidance_scale: float = 1.0,
) -> torch.Tensor:
    """Weights of the passes with each genre, that lack nothing, music, or attributes: [items, codes or 1, 3, genres].

    `genres` and `negative` are as `genre_weights` gives them; the scales are those of the head of this module.
    """
    whole = (guidance_scale + genre_guidance_scale + attribute_guidance_scale - 2) * genres
    if negative is not None:
        whole = whole - (genre_guidance_scale - 1) * negative
    without_music = (1 - guidance_scale) * genres
    without_attributes = (1 - attribute_guidance_scale) * genres
    return torch.stack(torch.broadcast_tensors(whole, without_music, without_attributes), dim=2)


def negative_genre_weights(
    negative_genre_ids: torch.Tensor | None, scale: float, genres: torch.Tensor, codes: int, config: MegaDanceConfig
) -> torch.Tensor | None:
    """The weights of `negative_genre_ids`, in the forms of `genre_weights`; None without guidance by genre.

    Raises:
        ValueError: the scale and the negative genres do nothing without each other, or these are the genres of the dance; a model that
            does not tell genres apart; or as `genre_weights`.
    """
    if scale == 1:
        if negative_genre_ids is not None:
            raise ValueError(
                "negative_genre_ids do nothing alone: give a genre_guidance_scale other than 1, or leave them out"
            )
        return None
    if not (config.use_genre_experts or config.genre_embedding):
        raise ValueError(f"genre_guidance_scale={scale}: this model does not tell genres apart; leave it out")
    if negative_genre_ids is None:
        raise ValueError(
            f"genre_guidance_scale={scale}: no expert is of no genre; give the genre to move away from as negative_genre_ids, or "
            "weights of several"
        )
    negative = genre_weights(negative_genre_ids, len(genres), codes, config, "negative_genre_ids")
    if bool((negative == genres).all()):
        raise ValueError("negative_genre_ids are the genres of the dance itself: give others")
    return negative
