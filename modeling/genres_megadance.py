"""The genres of the data sets of the paper, and how a genre's name is recognised."""

import difflib
from collections.abc import Sequence

# Order of the ids in the released checkpoints.
FINEDANCE_GENRES = (
    *("Dai", "ShenYun", "Wei", "Korean", "Urban", "Hiphop", "Popping", "Miao"),
    *("HanTang", "Breaking", "Kun", "Locking", "Jazz", "Choreography", "Chinese", "DunHuang"),
)
# Alphabetical order of AIST++'s two-letter codes: gBR gHO gJB gJS gKR gLH gLO gMH gPO gWA.
AISTPP_GENRES = (
    *("Break", "House", "BalletJazz", "StreetJazz", "Krump"),
    *("LAHiphop", "Lock", "MiddleHiphop", "Pop", "Waack"),
)


class GenreError(ValueError):
    """An unknown genre; the message lists the known ones."""


def match_genre(genre: str, genres: Sequence[str]) -> str:
    """The name in `genres` that matches `genre`. Capitals, spaces and hyphens do not matter: "Cha-Cha" is "chacha".

    Raises:
        GenreError: there is none; the message has the nearest spelling and the whole list.
    """
    names = {_plain(name): name for name in genres}
    if isinstance(genre, str) and _plain(genre) in names:
        return names[_plain(genre)]
    near = difflib.get_close_matches(_plain(str(genre)), list(names), n=1)
    hint = f"did you mean {names[near[0]]!r}? " if near else ""
    raise GenreError(f"genre={genre!r} is unknown: {hint}The genres are {', '.join(genres) or '(none)'}")


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())
