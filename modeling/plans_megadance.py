"""Which genres are danced when, as people say it: names, weights and seconds to the weights of each code that `generate()` takes.

    genre   "waltz", or weights of several: {"rumba": 0.7, "waltz": 0.3}
    plan    [("waltz", 0.0), ("tango", 21.5)]: genres, each with the second of the dance from which on it is danced

Codes last 0.27 s, so changes are moved to the nearest beginning of a code.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from .arguments_megadance import real_number
from .errors_megadance import short
from .genres_megadance import match_genre

Genres = str | dict[str, float]  # one genre, or weights of several
Plan = list[tuple[Genres, float]]  # each with the second from which on it is danced

CHANGES = ("code", "bar")


class DirectionError(ValueError):
    """A plan, a passage or a pose that a dance cannot have; the message is one line."""


def read_genres(genre: Any, genres: Sequence[str]) -> Genres:
    """A genre's name, or the weights of several, with their names as in `genres`.

    Raises:
        GenreError: an unknown genre. DirectionError: weights that are negative or all 0, a genre that is named twice.
    """
    if not isinstance(genre, Mapping):
        return match_genre(genre, genres)
    weights: dict[str, float] = {}
    for name, weight in genre.items():
        known = match_genre(name, genres)
        if known in weights:
            raise DirectionError(f"genre names {known!r} twice: give it one weight")
        weights[known] = float(
            real_number(f"genre[{name!r}]", weight, "a weight of 0 or more", lambda number: number >= 0)
        )
    weights = {name: weight for name, weight in weights.items() if weight}
    if not weights:
        raise DirectionError(f"genre={short(repr(genre))}: give a genre a weight above 0")
    return weights if len(weights) > 1 else next(iter(weights))


def read_plan(plan: Any, genres: Sequence[str]) -> Plan:
    """Pairs of genres and seconds, checked.

    Raises:
        GenreError: an unknown genre. DirectionError: no list of pairs, the first not at 0, or seconds that do not rise.
    """
    example = "give pairs of a genre and the second at which it begins, such as [('waltz', 0.0), ('tango', 21.5)]"
    if isinstance(plan, str | Mapping) or not isinstance(plan, Sequence) or not len(plan):
        raise DirectionError(f"plan={short(repr(plan))}: {example}")
    read: Plan = []
    for pair in plan:
        if isinstance(pair, str | Mapping) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise DirectionError(f"plan has {short(repr(pair))}: {example}")
        second = real_number("plan", pair[1], "seconds of 0 or more", lambda number: number >= 0)
        if second and not read:
            raise DirectionError(f"plan begins at {second:g} s: give the genre at 0")
        if read and second <= read[-1][1]:
            raise DirectionError(f"plan has {second:g} s after {read[-1][1]:g} s: give seconds that rise")
        read.append((read_genres(pair[0], genres), float(second)))
    return read


def first_codes(plan: Plan, codes: int, frames_per_code: int, fps: float, downbeats: Sequence[int] = ()) -> list[int]:
    """The first code of each entry of a plan for a dance of so many codes; moved to the nearest of the `downbeats` (frames) where there
    are any.

    Raises:
        DirectionError: one begins after the dance's end, or two with the same code.
    """
    firsts = [0]
    for (genre, second), (before, _) in zip(plan[1:], plan, strict=False):
        frame = second * fps
        if frame >= codes * frames_per_code:
            raise DirectionError(
                f"plan has {short(repr(genre))} at {second:g} s, but the dance lasts {codes * frames_per_code / fps:.1f} s; leave it out"
            )
        if len(downbeats):
            frame = min(downbeats, key=lambda downbeat: abs(downbeat - frame))
        first = min(max(round(frame / frames_per_code), 1), codes - 1)
        if first <= firsts[-1]:
            raise DirectionError(
                f"plan has {short(repr(genre))} at {second:g} s too near to {short(repr(before))}: leave at least one code "
                f"({frames_per_code / fps:.2f} s), or one bar where changes are at bars, between them"
            )
        firsts.append(first)
    return firsts


def code_weights(plan: Plan, firsts: Sequence[int], codes: int, genres: Sequence[str]) -> torch.Tensor:
    """Weights of the genres for each code, [codes, genres], each code's with the sum 1."""
    weights = torch.zeros(codes, len(genres))
    for (genre, _), first, last in zip(plan, firsts, [*firsts[1:], codes], strict=True):
        parts = {genre: 1.0} if isinstance(genre, str) else genre
        for name, weight in parts.items():
            weights[first:last, genres.index(name)] = weight / sum(parts.values())
    return weights
