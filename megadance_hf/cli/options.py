"""What the subcommands share on the way in: numbers with bounds, common options, and mistakes of one line."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

MODEL = "folder or Hub id (default: the bundled ballroom model)"
BODIES = ("mannequin", "smooth")  # repeated, because their home imports torch; a test compares them


class CommandError(ValueError):
    """Something the user can put right; the message is one line."""


def is_for_users(error: Exception) -> bool:
    """Whether the message is one line for users: so are those of our own classes (AudioError, GenreError, ModelError, ...).
    Any other exception is a bug."""
    return type(error).__module__.partition(".")[0] == __package__.partition(".")[0]


def number(lowest: float, *, whole: bool = False, above: bool = False) -> Any:
    """An argparse type: numbers of `lowest` or more (of more than `lowest`, if `above`)."""
    kind = "a whole number" if whole else "a number"
    bound = f"above {lowest:g}" if above else f"of {lowest:g} or more"

    def convert(text: str) -> int | float:
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            value = float("nan")
        if not (lowest < value or (value == lowest and not above)) or value == float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r} cannot be used: give {kind} {bound}")
        return value

    return convert


COUNT, SEED, POSITIVE = number(1, whole=True), number(0, whole=True), number(0, above=True)


def genres(text: str) -> str | dict[str, float]:
    """An argparse type: a genre, or several with weights, rumba=.7,waltz=.3."""
    if "=" not in text:
        return text
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = (word.strip() for word in part.partition("="))
        if not name or name in weights:
            raise argparse.ArgumentTypeError(
                f"{text!r} cannot be used: name each genre once, such as rumba=.7,waltz=.3"
            )
        weights[name] = number(0)(weight)
    return weights


def plan(text: str) -> list[tuple[str | dict[str, float], float]]:
    """An argparse type: genres and the seconds at which they begin, "waltz@0 tango@21.5"."""
    pairs = []
    for word in text.split():
        genre, at, second = word.rpartition("@")
        if not at or not genre:
            raise argparse.ArgumentTypeError(f"{word!r} cannot be used: give GENRE@SECOND, such as tango@21.5")
        pairs.append((genres(genre), number(0)(second)))
    if not pairs:
        raise argparse.ArgumentTypeError("it is empty: give GENRE@SECOND for each genre, such as 'waltz@0 tango@21.5'")
    return pairs


def attributes(text: str) -> dict[str, float | list[tuple[float, float]]]:
    """An argparse type: attributes with quantiles, energy=.8,turns=.1; with seconds from which on they hold, speed=.2@0,speed=.9@12."""
    read: dict[str, list[tuple[float, float]]] = {}
    for part in text.split(","):
        name, equals, value = (word.strip() for word in part.partition("="))
        quantile, at, second = value.partition("@")
        if not equals or not name:
            raise argparse.ArgumentTypeError(f"{part.strip()!r} cannot be used: give NAME=QUANTILE, such as energy=.8")
        if name in read and not at:
            raise argparse.ArgumentTypeError(
                f"{name} is given twice: give it once, or with seconds, {name}=.2@0,{name}=.9@12"
            )
        read.setdefault(name, []).append((number(0)(second) if at else 0.0, number(0)(quantile)))
    return {name: pairs[0][1] if pairs == [(0.0, pairs[0][1])] else pairs for name, pairs in read.items()}


def add_wishes(parser: argparse.ArgumentParser, what: str) -> None:
    """--prompt and --attributes."""
    text = f"how {what} is to be, in words: 'slow and wide, more turns, no jumps'"
    parser.add_argument("--prompt", metavar="WORDS", help=text)
    text = "the same as numbers from 0 to 1, .5 is usual: energy=.8,turns=.1 (energy, speed, travel, turns, arm_height, bounce, expansion)"
    parser.add_argument("--attributes", metavar="A", type=attributes, help=text)


def held(text: str) -> tuple[float | str, str]:
    """An argparse type: a second of the dance, or "end", and the file of what is held there, 12.5=pose.npz."""
    second, at, path = (word.strip() for word in text.partition("="))
    if not at or not second or not path:
        raise argparse.ArgumentTypeError(
            f"{text!r} cannot be used: give SECOND=FILE or end=FILE, such as 12.5=pose.npz or end=pose.npz"
        )
    return ("end" if second.lower() == "end" else float(number(0)(second))), path


def add_hold_option(parser: argparse.ArgumentParser, what: str) -> None:
    text = f"pose or clip that {what} meets, with the second of the dance at which it begins, or `end`: 12.5=pose.npz; several --hold"
    parser.add_argument("--hold", metavar="S=FILE", type=held, action="append", help=text)


def read_hold(given: Sequence[tuple[float | str, str]] | None) -> dict[str, Any]:
    """What --hold asks for, as a keyword of the pipeline.

    Raises:
        CommandError: a file cannot be read, or a second is given twice.
    """
    if not given:
        return {}
    from megadance_hf.motion.motion import Motion, MotionError

    motions: dict[float | str, Any] = {}
    for second, path in given:
        if second in motions:
            raise CommandError(f"argument --hold: {second} is given twice: hold one pose or clip there")
        try:
            motions[second] = Motion.load(path)
        except MotionError as error:
            raise CommandError(f"argument --hold: {error}") from error
    return {"hold": motions}


def port(text: str) -> int:
    """An argparse type: number of a port."""
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used: give a whole number from 1 to 65535")
    return int(text)


def add_values(parser: argparse.ArgumentParser, *rows: tuple[str, str, Any, Any, str]) -> None:
    """Adds arguments that take a value, from rows of (name, metavar, type, default, help)."""
    for name, metavar, kind, default, text in rows:
        parser.add_argument(name, metavar=metavar, type=kind, default=default, help=text)


def add_model_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="MODEL", help=MODEL)


def add_body_option(parser: argparse.ArgumentParser, where: str) -> None:
    text = f"who dances {where}: a wooden mannequin (default), or a smooth human figure in a bodysuit"
    parser.add_argument("--body", choices=BODIES, default="mannequin", help=text)


def song_source(song: str | None, argument: str) -> Any:
    """A song as it is opened: its path or address, or standard input for `-`.

    Raises:
        CommandError: `-`, and nothing is piped in.
    """
    if song != "-":
        return song
    if sys.stdin is None or sys.stdin.isatty():
        raise CommandError(f"argument {argument}: '-' is what comes in through a pipe, and none is there: give a file")
    return sys.stdin.buffer
