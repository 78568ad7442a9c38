"""Wishes by name, as numbers and in words, for one song: attributes of each code, and the plan of a prompt's genres.

attributes   {"energy": 0.8}, or with the seconds from which on they hold: {"speed": [(0.0, 0.2), (12.0, 0.9)]}
prompt       what `read_prompt` understood, its sections of the song ("at the chorus") in seconds
"""

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from .errors_megadance import short
from .genres_megadance import GenreError
from .hearing_megadance import AUTO
from .plans_megadance import DirectionError, Genres, Plan
from .words_megadance import Directions, When, read_prompt

Asked = dict[
    str, list[tuple[float, float | None]]
]  # attribute: the second from which on, and its quantile (None: not asked for)

# Where the sections of a dance begin and end, as fractions of it.
_FRACTIONS: dict[str, tuple[float, float]] = {
    "start": (0.0, 0.25),
    "first half": (0.0, 0.5),
    "middle": (1 / 3, 2 / 3),
    "second half": (0.5, 1.0),
    "end": (0.75, 1.0),
}
_CHORUS_SECONDS = 8.0  # the shortest passage that is taken for the chorus


def read_attributes(attributes: Any, known: Sequence[str]) -> Asked:
    """Attributes by name, checked: quantiles from 0 to 1, or lists of (second, quantile).

    Raises:
        DirectionError: an attribute that the model does not have, or another number.
    """
    if not known:
        raise DirectionError(
            f"attributes={short(repr(attributes))}: this model was trained without attributes; leave them out, or use one that has some"
        )
    example = "give quantiles from 0 to 1 by name, such as {'energy': 0.8}, or {'speed': [(0.0, 0.2), (12.0, 0.9)]}"
    if not isinstance(attributes, Mapping):
        raise DirectionError(f"attributes={short(repr(attributes))}: {example}")
    asked: Asked = {}
    for name, value in attributes.items():
        if name not in known:
            raise DirectionError(f"attributes has {short(repr(name))}: the model's are {', '.join(known)}")
        if value is None:
            continue
        pairs = [(0.0, value)] if not isinstance(value, list | tuple) else value
        if not pairs or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
            raise DirectionError(f"attributes[{name!r}]={short(repr(value))}: {example}")
        read: list[tuple[float, float | None]] = []
        for second, number in pairs:
            if not _is_number(second) or second < 0:
                raise DirectionError(f"attributes[{name!r}] has {short(repr(second))}: give seconds of 0 or more")
            if number is not None and not (_is_number(number) and 0 <= number <= 1):
                raise DirectionError(
                    f"attributes[{name!r}] has {short(repr(number))}: give a quantile from 0 to 1, 0.5 is usual"
                )
            second, number = float(second), None if number is None else float(number)
            if read and second <= read[-1][0]:
                raise DirectionError(
                    f"attributes[{name!r}] has {second:g} s after {read[-1][0]:g} s: give seconds that rise"
                )
            read.append((second, number))
        asked[name] = read
    return asked


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def code_attributes(asked: Asked, codes: int, seconds_per_code: float, names: Sequence[str]) -> torch.Tensor:
    """What is asked of each code, [codes, attributes], for `generate(attributes=...)`; NaN where nothing is."""
    values = torch.full((codes, len(names)), torch.nan)
    for name, pairs in asked.items():
        for second, number in pairs:
            values[round(second / seconds_per_code) :, names.index(name)] = torch.nan if number is None else number
    return values


def plain_attributes(asked: Asked) -> dict[str, Any]:
    """`asked` as the metadata have it, and as `read_attributes` takes it again."""
    return {
        name: pairs[0][1] if len(pairs) == 1 and not pairs[0][0] else [list(pair) for pair in pairs]
        for name, pairs in asked.items()
    }


@dataclass
class Prompt:
    """A text and what it was taken for, for a model."""

    text: str
    directions: Directions

    @classmethod
    def read(cls, text: Any, genres: Sequence[str], attributes: Sequence[str], loaded: Sequence[str]) -> "Prompt":
        """
        Args:
            text: what the user wrote.
            genres, attributes: those of the model.
            loaded: the genres whose experts are loaded.

        Raises:
            DirectionError: nothing in it means anything, or it asks for what the model does not have; it is no text. GenreError: a genre that is not loaded.
        """
        if not isinstance(text, str) or not text.strip():
            raise DirectionError(
                f"prompt={short(repr(text))}: give words, such as 'slow and wide, tango at the chorus'"
            )
        directions = read_prompt(text, genres)
        wanted = [*directions.attributes, *(name for name, *_ in directions.timed)]
        understood = bool(wanted or directions.genres or directions.parts or directions.not_genres)
        if directions.not_understood and not understood:
            raise DirectionError(
                f"prompt={short(repr(text))} has nothing that means something here: name a genre ({', '.join(genres)}), or how to dance "
                "('slow', 'more turns', 'arms high')"
            )
        if missing := [name for name in dict.fromkeys(wanted) if name not in attributes]:
            raise DirectionError(
                f"prompt asks for {missing[0]}, but this model was trained {'without it' if attributes else 'without attributes'}: name genres only, "
                "or use a model that was trained with attributes"
            )
        prompt = cls(text, directions)
        if missing := [name for name in prompt.named_genres if name not in loaded]:
            raise GenreError(f"prompt asks for {missing[0]}, which is not loaded: the genres are {', '.join(loaded)}")
        return prompt

    @property
    def named_genres(self) -> list[str]:
        """All genres that it asks for."""
        parts: list[Genres] = [self.directions.genres, *(part for part, _, _ in self.directions.parts)]
        return list(dict.fromkeys(name for part in parts for name in ([part] if isinstance(part, str) else part)))

    def check_genres(self, genre: Genres | None, plan: Plan | None) -> None:
        """Refuse a genre or plan that contradicts the prompt.

        Raises:
            DirectionError: they name other genres.
        """
        named, unwanted = self.directions.genres, self.directions.not_genres
        if plan is not None and (named or self.directions.parts):
            raise DirectionError(f"prompt={short(repr(self.text))} names genres, and plan as well: give one of them")
        given = [genre] if genre is not None else [part for part, _ in plan or ()]
        names = {name for part in given for name in ([part] if isinstance(part, str) else part)} - {AUTO}
        if named and names and set(named) != names:
            raise DirectionError(
                f"prompt asks for {' and '.join(named)}, genre for {' and '.join(sorted(names))}: give one of them"
            )
        if names & set(unwanted):
            raise DirectionError(
                f"prompt says no {sorted(names & set(unwanted))[0]}, which is asked for as well: leave one out"
            )

    @property
    def needs_chorus(self) -> bool:
        whens = [when for _, *both in self.directions.parts for when in both]
        whens += [when for _, _, *both in self.directions.timed for when in both]
        return any(isinstance(when, str) and "chorus" in when for when in whens)

    @property
    def names_sections(self) -> bool:
        """Whether a genre begins or ends at a section of the song, not at a second."""
        return any(isinstance(when, str) for _, *both in self.directions.parts for when in both)

    def wanted_genres(self, genres: Sequence[str]) -> list[str]:
        """Those of the genres that are not unwanted.

        Raises:
            GenreError: it leaves none.
        """
        wanted = [name for name in genres if name not in self.directions.not_genres]
        if not wanted:
            raise GenreError(f"prompt={short(repr(self.text))} leaves no genre: the model has {', '.join(genres)}")
        return wanted

    def plan(self, genre: Genres, seconds: float, chorus: tuple[float, float] | None) -> Plan:
        """The plan for a dance of so many seconds; `genre` is danced where the prompt names none."""
        named = self.directions.genres
        base: Genres = (next(iter(named)) if len(named) == 1 else named) if named else genre
        parts = self.directions.parts
        if not named and parts and any(begin in ("start", "first half") for _, begin, _ in parts):
            base = next(part for part, begin, _ in parts if begin in ("start", "first half"))
        spans: list[tuple[float, float, Genres]] = [(0.0, seconds, base)]
        for part, begin, until in parts:
            spans.append((*_span(begin, until, seconds, chorus), part))
        return [(part, begin) for begin, part in _changes(spans)]

    def asked(self, seconds: float, chorus: tuple[float, float] | None) -> Asked:
        """The attributes for a dance of so many seconds."""
        spans: dict[str, list[tuple[float, float, float | None]]] = {}
        for name, number in self.directions.attributes.items():
            spans[name] = [(0.0, seconds, number)]
        for name, number, begin, until in self.directions.timed:
            spans.setdefault(name, [(0.0, seconds, None)]).append((*_span(begin, until, seconds, chorus), number))
        asked: Asked = {name: [(begin, number) for begin, number in _changes(of)] for name, of in spans.items()}
        return asked

    def notes(self, chorus: tuple[float, float] | None) -> dict[str, Any]:
        """What the metadata say: the text, what it was taken for, and what was not understood."""
        found = {name: value for name, value in asdict(self.directions).items() if value or name == "not_understood"}
        found |= {name: [list(entry) for entry in found[name]] for name in ("parts", "timed") if name in found}
        if chorus is not None and self.needs_chorus:
            found["chorus"] = [round(second, 3) for second in chorus]
        return {"text": self.text, **found}


def _span(begin: When, until: When | None, seconds: float, chorus: tuple[float, float] | None) -> tuple[float, float]:
    """When a part is danced: seconds from and to."""

    def limits(when: When) -> tuple[float, float]:
        if not isinstance(when, str):
            return (when if when >= 0 else max(seconds + when, 0.0)), seconds
        if "chorus" in when:
            first, last = chorus or (0.0, seconds)
            return (last, seconds) if when.startswith("after") else (first, last)
        first, last = _FRACTIONS[when]
        return first * seconds, last * seconds

    first, last = limits(begin)
    if until is not None:
        last = limits(until)[0]
    return first, last


def _changes(spans: list[tuple[float, float, Any]]) -> list[tuple[float, Any]]:
    """When what changes, of spans (from, to, what); where several overlap, the one that began last is meant, or that was said last."""
    end = spans[0][1]
    changes: list[tuple[float, Any]] = []
    for second in sorted({begin for begin, _, _ in spans} | {last for _, last, _ in spans if last < end}):
        inside = [span for span in spans if span[0] <= second < span[1] or (span[0] == second and second >= end)]
        if inside:
            latest = max(begin for begin, _, _ in inside)
            what = [span[2] for span in inside if span[0] == latest][-1]
            if not changes or changes[-1][1] != what:
                changes.append((second, what))
    return changes


def find_chorus(loudness: np.ndarray, fps: float) -> tuple[float, float]:
    """The passage with the fullest sound, in seconds, which is taken for the chorus: where the mean loudness of 8 s around is among the
    highest quarter of its range, about the loudest; at least 8 s, or half of a short song.

    loudness: of each frame, in any unit that is logarithmic.
    """
    frames = len(loudness)
    size = max(min(round(_CHORUS_SECONDS * fps), frames // 2), 1)
    sums = np.concatenate(([0.0], np.cumsum(np.asarray(loudness, dtype=np.float64))))
    means = (sums[size:] - sums[:-size]) / size  # of the frames from each on
    best = int(means.argmax())
    high = means >= means.max() - 0.25 * (means.max() - means.min())
    first = last = best
    while first > 0 and high[first - 1] and best - first < 2 * size:
        first -= 1
    while last + 1 < len(means) and high[last + 1] and last - best < 2 * size:
        last += 1
    # a window half of which is louder is still among the highest; the passage is where their middles are, and no shorter than one
    begin, end = first + size // 4, last + size - size // 4
    if end - begin < size:
        begin, end = best, best + size
    return begin / fps, min(end, frames) / fps


def describe_prompt(notes: Mapping[str, Any]) -> str:
    """`metadata["prompt"]` in one line: what a text was taken for, and what was not understood."""

    def genre(part: Any) -> str:
        return part if isinstance(part, str) else " and ".join(f"{name} {weight:.0%}" for name, weight in part.items())

    def when(begin: Any, until: Any) -> str:
        text = (
            f" at {begin:g} s"
            if not isinstance(begin, str)
            else f" at the {begin}"
            if "after" not in begin
            else f" {begin}"
        )
        if begin == "chorus" and "chorus" in notes:
            text += " ({:.1f} to {:.1f} s, where the sound is fullest)".format(*notes["chorus"])
        return text + ("" if until is None else f" until {until if isinstance(until, str) else f'{until:g} s'}")

    found = (
        [genre(notes["genres"])] if notes.get("genres") and len(notes["genres"]) > 1 else list(notes.get("genres", ()))
    )
    found += [f"no {name}" for name in notes.get("not_genres", ())]
    found += [genre(part) + when(begin, until) for part, begin, until in notes.get("parts", ())]
    found += [f"{name.replace('_', ' ')} {value:g}" for name, value in notes.get("attributes", {}).items()]
    found += [
        f"{name.replace('_', ' ')} {value:g}{when(begin, until)}"
        for name, value, begin, until in notes.get("timed", ())
    ]
    text = f"understood: {', '.join(found) or 'nothing in particular'}"
    if notes.get("corrected"):
        text += f" (read {', '.join(f'{wrong!r} as {right!r}' for wrong, right in notes['corrected'].items())})"
    if notes.get("not_understood"):
        text += f"; not understood: {', '.join(notes['not_understood'])}"
    return text
