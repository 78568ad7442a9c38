"""What a page may ask for, read from its JSON: every number in its range, every name known, in sentences for people.

wish = read_dance(given, genres, attributes, limits)
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from megadance_hf.modeling.generation_megadance import MODES
from megadance_hf.modeling.kinematics_megadance import BODY_PARTS, NUM_JOINTS
from megadance_hf.modeling.plans_megadance import CHANGES, Genres, Plan

from .jobs import DemoError
from .limits import Limits
from .poses import MOST_HELD, Held, check_held, read_poses

PARTS = ("all", *BODY_PARTS)
MOST_CHANGES = 100  # in a plan; as many ranges that are kept
MOST_CANDIDATES, MOST_SHOWN = 16, 4
MOST_REDONE = 1000
PROMPT_LETTERS = 500
MALFORMED = "The page sent something that cannot be read: load it again."
DAMAGED = "The saved dance is damaged: its parts do not fit together. Save it again."
PROJECT_VERSION = 1
_FURTHEST = 1000.0  # metres, and radians: what a saved motion may have


@dataclass(frozen=True)
class Range:
    """A range of a dance in seconds; of the whole body or of a half of it; of which of two dancers."""

    start: float
    end: float
    part: str = "all"
    dancer: int = 0


@dataclass(frozen=True)
class Keep:
    """What of an earlier take stays as it is."""

    take: str
    ranges: tuple[Range, ...]


@dataclass(frozen=True)
class Wish:
    """How to dance: what is common to dances, passages danced anew and projects."""

    start: float
    seconds: float
    plan: Plan | None = None
    changes: str = "code"
    seed: int | None = None
    temperature: float | None = None
    mode: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    prompt: str | None = None
    beside: str | None = None
    keep: Keep | None = None
    loop: bool = False
    hold: tuple[Held, ...] = ()


@dataclass(frozen=True)
class Redo:
    """A passage to dance anew."""

    take: str
    passage: Range
    candidates: int
    show: int
    seed: int | None
    attributes: dict[str, Any]
    prompt: str | None


@dataclass(frozen=True)
class Dancer:
    """A dance as a project has it: codes, and the motion itself where it is not what the codes decode to.

    Attributes:
        motion: poses (T, 24, 3) and path (T, 3).
        stands: whether the dancer leaves a standing position, and comes to one.
    """

    genre: str
    codes: dict[str, list[int]]
    motion: tuple[np.ndarray, np.ndarray] | None
    redone: list[dict[str, Any]]
    stands: tuple[bool, bool] = (True, True)


@dataclass(frozen=True)
class Project:
    """A take as it was saved, without its song, of which it has the digest."""

    sha256: str
    name: str
    frames: int
    wish: Wish
    asked: dict[str, Any]  # attributes, by sliders and in words
    locks: list[dict[str, Any]]
    dancers: tuple[Dancer, ...]


def read_json(content: bytes) -> dict[str, Any]:
    """An object, with finite numbers only.

    Raises:
        DemoError: it is none.
    """

    def refuse(_: str) -> Any:
        raise ValueError

    try:
        given = json.loads(content, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise DemoError(MALFORMED) from None
    if not isinstance(given, dict):
        raise DemoError(MALFORMED)
    return given


def _number(given: Any, what: str, low: float, high: float) -> float:
    """A number from `low` to `high`; `what` begins the sentence: "The seed"."""
    try:
        number = float(given) if isinstance(given, int | float) and not isinstance(given, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not low <= number <= high:
        asked = f"; {number:g} was asked for" if math.isfinite(number) else ""
        raise DemoError(f"{what} must be a number from {low:g} to {high:g}{asked}.")
    return number


def _whole(given: Any, what: str, low: int, high: int) -> int:
    number = _number(given, what, low, high)
    if number != int(number):
        raise DemoError(f"{what} must be a whole number from {low} to {high}; {number:g} was asked for.")
    return int(given)


def _text(given: Any, what: str, longest: int = 100) -> str:
    if not isinstance(given, str) or len(given) > longest:
        raise DemoError(f"{what} must be a text of at most {longest} letters.")
    return given


def _list(given: Any, what: str, most: int) -> Sequence[Any]:
    if not isinstance(given, list) or len(given) > most:
        raise DemoError(f"{what} must be a list of at most {most}.")
    return given


def _identity(given: Any) -> str:
    return _text(given, "The name of a song or a dance")


def _genre(given: Any, genres: Sequence[str]) -> str:
    if given not in genres:
        name = given if isinstance(given, str) and len(given) <= 40 else "that"
        raise DemoError(f"The dance {name!r} is unknown here: choose one of {', '.join(genres)}.")
    return str(given)


def _genres(given: Any, genres: Sequence[str]) -> Genres:
    if not isinstance(given, dict):
        return _genre(given, genres)
    weights = {_genre(name, genres): _number(share, "The share of a dance", 0, 1e6) for name, share in given.items()}
    weights = {name: share for name, share in weights.items() if share}
    if not weights:
        raise DemoError("A mixture of dances needs a share above 0.")
    return weights if len(weights) > 1 else next(iter(weights))


def _plan(given: Any, genres: Sequence[str], seconds: float) -> Plan | None:
    if given is None or given == []:
        return None
    plan: Plan = []
    for entry in _list(given, "The plan", MOST_CHANGES):
        if not isinstance(entry, list) or len(entry) != 2:
            raise DemoError(MALFORMED)
        second = _number(entry[1], "The second of a change", 0, 86400)
        if second >= seconds:
            raise DemoError(
                f"The plan changes at {second:g} seconds, but the dance lasts {seconds:g}: take that change out."
            )
        if not plan and second:
            raise DemoError("The plan must say what is danced at the beginning.")
        if plan and second <= plan[-1][1]:
            raise DemoError("The changes of the plan must come one after the other.")
        plan.append((_genres(entry[0], genres), second))
    return plan


def _attributes(given: Any, known: Sequence[str], seconds: float) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise DemoError(MALFORMED)
    read: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        if name not in known:
            choice = f"choose one of {', '.join(known)}" if known else "this model knows none"
            raise DemoError(f"The slider {name[:40]!r} is unknown here: {choice}.")
        words = name.capitalize().replace("_", " ")
        if isinstance(value, list):  # from a second on; None: as it comes
            read[name] = []
            for pair in value[:MOST_CHANGES]:
                if not isinstance(pair, list) or len(pair) != 2:
                    raise DemoError(MALFORMED)
                level = None if pair[1] is None else _number(pair[1], words, 0, 1)
                read[name].append((_number(pair[0], f"The second of {name}", 0, seconds), level))
        else:
            read[name] = _number(value, words, 0, 1)
    return read


def read_prompt_text(given: Any) -> str | None:
    """What somebody has written; None where it is nothing.

    Raises:
        DemoError: it is no text, or too long.
    """
    if given is None:
        return None
    return _text(given, "What you write", PROMPT_LETTERS).strip() or None


def _hold(given: Any, seconds: float, loop: bool) -> tuple[Held, ...]:
    held = []
    for one in _list(given or [], "What is held", MOST_HELD):
        if not isinstance(one, dict):
            raise DemoError(MALFORMED)
        second = _number(one.get("second"), "The second of a pose", 0, seconds)
        poses = one.get("poses")
        read_poses(poses)
        name = _text(one.get("name", ""), "The name of a pose")
        held.append(Held(second, str(poses), name, _dancer(one.get("dancer"))))
    held.sort(key=lambda one: (one.second, one.dancer))
    check_held(held, seconds, loop)
    return tuple(held)


def _seed(given: Any) -> int | None:
    return None if given is None else _whole(given, "The seed", 0, 2**32 - 1)


def _dancer(given: Any) -> int:
    """Which of two dancers; the first where it is not said."""
    return 0 if given is None else _whole(given, "The dancer", 0, 1)


def read_range(given: Any, seconds: float) -> Range:
    """A range of a dance of so many seconds.

    Raises:
        DemoError: it is none.
    """
    if not isinstance(given, dict):
        raise DemoError(MALFORMED)
    start = _number(given.get("start"), "The beginning of a passage", 0, seconds)
    end = _number(given.get("end"), "The end of a passage", 0, 86400)
    part = given.get("part", "all")
    if part not in PARTS:
        raise DemoError("A passage is of the whole body, of the upper or of the lower body.")
    if end <= start:
        raise DemoError("A passage must end after it begins.")
    return Range(start, min(end, seconds), str(part), _dancer(given.get("dancer")))


def read_wish(
    given: Mapping[str, Any], genres: Sequence[str], attributes: Sequence[str], limits: Limits, shortest: float = 1.0
) -> Wish:
    """How to dance, from JSON.

    Args:
        shortest: seconds that the dance must have.

    Raises:
        DemoError: something is missing, unknown or out of range.
    """
    start = 0.0 if given.get("start") is None else _number(given["start"], "The second at which it begins", 0, 86400)
    longest = limits.song_seconds
    seconds = longest if given.get("seconds") is None else given["seconds"]
    seconds = _number(seconds, "The length of the dance in seconds", shortest, longest)
    changes = given.get("changes") or "code"
    if changes not in CHANGES:
        raise DemoError("The plan changes at a bar or at once.")
    mode = given.get("mode")
    if mode is not None and mode not in MODES:
        raise DemoError(MALFORMED)
    temperature = given.get("temperature")
    if temperature is not None:
        temperature = _number(temperature, "The temperature", 0.05, 5)
    plan = _plan(given.get("plan"), genres, seconds)
    beside = given.get("beside")
    if beside is not None:
        beside = _genre(beside, genres)
        if plan == [(beside, 0.0)]:
            raise DemoError(f"Both dancers would dance {beside}: choose another dance for one of them.")
    keep = None
    if given.get("keep") is not None:
        if not isinstance(given["keep"], dict):
            raise DemoError(MALFORMED)
        ranges = _list(given["keep"].get("ranges"), "What is kept", MOST_CHANGES)
        if ranges:
            keep = Keep(_identity(given["keep"].get("take")), tuple(read_range(one, seconds) for one in ranges))
    loop = given.get("loop") or False
    if not isinstance(loop, bool):
        raise DemoError(MALFORMED)
    return Wish(
        start,
        seconds,
        plan,
        str(changes),
        _seed(given.get("seed")),
        temperature,
        mode,
        _attributes(given.get("attributes"), attributes, seconds),
        read_prompt_text(given.get("prompt")),
        beside,
        keep,
        loop,
        _hold(given.get("hold"), seconds, loop),
    )


def read_redo(given: Mapping[str, Any], attributes: Sequence[str], seconds: float) -> Redo:
    """A passage to dance anew in a dance of so many seconds, from JSON.

    Raises:
        DemoError: as `read_wish`.
    """
    show = 1 if given.get("show") is None else _whole(given["show"], "The number of dances to show", 1, MOST_SHOWN)
    candidates = 4 if given.get("candidates") is None else given["candidates"]
    candidates = max(show, _whole(candidates, "The number of tries", 1, MOST_CANDIDATES))
    return Redo(
        _identity(given.get("take")),
        read_range(given, seconds),
        candidates,
        show,
        _seed(given.get("seed")),
        _attributes(given.get("attributes"), attributes, seconds),
        read_prompt_text(given.get("prompt")),
    )


# --- projects --------------------------------------------------------------------------------------------------------


def write_motion(poses: np.ndarray, path: np.ndarray) -> str:
    """A motion as text: base64 of float32, each frame its poses and then its path."""
    rows = np.concatenate((poses.reshape(len(poses), -1), path), axis=1).astype("<f4")
    return base64.b64encode(rows.tobytes()).decode("ascii")


def _read_motion(given: Any, frames: int) -> tuple[np.ndarray, np.ndarray] | None:
    if given is None:
        return None
    columns = NUM_JOINTS * 3 + 3
    try:
        content = base64.b64decode(given, validate=True) if isinstance(given, str) else b""
    except (binascii.Error, ValueError):
        content = b""
    if len(content) != frames * columns * 4:
        raise DemoError(DAMAGED)
    rows = np.frombuffer(content, dtype="<f4").astype(np.float32).reshape(frames, columns)
    if not (np.isfinite(rows).all() and np.abs(rows).max() <= _FURTHEST):
        raise DemoError(DAMAGED)
    return rows[:, :-3].reshape(frames, NUM_JOINTS, 3).copy(), rows[:, -3:].copy()


def _codes(given: Any, count: int, size: int) -> dict[str, list[int]]:
    if not isinstance(given, dict):
        raise DemoError(DAMAGED)
    codes = {part: given.get(part) for part in BODY_PARTS}
    for row in codes.values():
        if not (
            isinstance(row, list) and len(row) == count and all(type(code) is int and 0 <= code < size for code in row)
        ):
            raise DemoError(DAMAGED)
    return codes  # type: ignore[return-value]


def read_project(
    given: Any,
    genres: Sequence[str],
    attributes: Sequence[str],
    limits: Limits,
    model: str,
    fps: float,
    frames_per_code: int,
    codebook_size: int,
) -> Project:
    """A saved project, from JSON; how many frames it has follows from its seconds.

    Raises:
        DemoError: it is none, or of another model, or something in it is not possible.
    """
    if not isinstance(given, dict) or given.get("megadance_project") != PROJECT_VERSION:
        raise DemoError("This file is no dance that was saved here: open one that this page has saved.")
    if given.get("model") != model:
        raise DemoError("This dance was saved with another model: open it there, or dance anew.")
    song = given.get("song")
    if not isinstance(song, dict):
        raise DemoError(DAMAGED)
    wish = read_wish({**given, "keep": None}, genres, attributes, limits, shortest=0.25)
    if wish.plan is None:
        raise DemoError(DAMAGED)
    later = given.get("next") or {}  # what was planned beyond this dance: the page reads it
    if not isinstance(later, dict):
        raise DemoError(DAMAGED)
    read_wish({"seconds": given.get("seconds"), **later}, genres, attributes, limits, shortest=0.25)
    frames = _whole(given.get("frames"), "The number of frames", 1, round(86400 * fps))
    if abs(frames / fps - wish.seconds) > 1:
        raise DemoError(DAMAGED)
    count = -(-frames // frames_per_code)
    beside = given.get("beside_dance")
    if (beside is None) != (wish.beside is None):
        raise DemoError(DAMAGED)
    dancers = []
    for one in [given, *([beside] if beside is not None else [])]:
        if not isinstance(one, dict):
            raise DemoError(DAMAGED)
        redone = []
        for passage in _list(one.get("redone") or [], "What was danced anew", MOST_REDONE):
            own = vars(read_range(passage, wish.seconds + 1))
            redone.append({name: own[name] for name in ("start", "end", "part")})  # it is the dancer's who has it
            if passage.get("seed") is not None:
                redone[-1] = {**redone[-1], "seed": _whole(passage["seed"], "The seed", 0, 2**64 - 1)}
        codes = _codes(one.get("codes"), count, codebook_size)
        motion, stands = _read_motion(one.get("motion"), frames), one.get("stands", [True, True])
        if not (isinstance(stands, list) and len(stands) == 2 and all(isinstance(end, bool) for end in stands)):
            raise DemoError(DAMAGED)
        dancers.append(Dancer(_genre(one.get("genre"), genres), codes, motion, redone, (stands[0], stands[1])))
    locks = [
        vars(read_range(lock, wish.seconds + 1))
        for lock in _list(given.get("locks") or [], "What is kept", MOST_CHANGES)
    ]
    if wish.beside is None and any([*(one.dancer for one in wish.hold), *(lock["dancer"] for lock in locks)]):
        raise DemoError(DAMAGED)
    asked = _attributes(given.get("asked"), attributes, wish.seconds + 1)
    digest = _text(song.get("sha256"), "The song's digest")
    return Project(digest, _text(song.get("name"), "The song's name", 200), frames, wish, asked, locks, tuple(dancers))
