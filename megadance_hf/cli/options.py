"""What the subcommands share on the way in: numbers with bounds, common options, and mistakes of one line."""

import argparse
import sys
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


def held(text: str) -> tuple[float | str, str]:
    """An argparse type: a second of the dance, or "end", and the file of what is held there, 12.5=pose.npz."""
    second, at, path = (word.strip() for word in text.partition("="))
    if not at or not second or not path:
        raise argparse.ArgumentTypeError(
            f"{text!r} cannot be used: give SECOND=FILE or end=FILE, such as 12.5=pose.npz or end=pose.npz"
        )
    return ("end" if second.lower() == "end" else float(number(0)(second))), path


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
