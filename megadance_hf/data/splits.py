"""Which clips to train on and which to validate on: whole songs, never pieces of one on both sides."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from megadance_hf.modeling.music_features_megadance import MFCC

from .clip import Clip


def songs_of(clips: Sequence[Clip]) -> list[int]:
    """Which song each clip is danced to, numbered in the order in which they come.

    Clips say it (`song`); of those that do not, clips whose music begins alike have one song, and one without music is alone.
    """
    numbers: dict[Any, int] = {}
    heads: list[tuple[int, Clip]] = []
    result = []
    for clip in clips:
        key: Any = clip.song
        if key is None and clip.paired:
            key = next((number for number, known in heads if begin_alike(clip, known)), None)
            if key is None:
                key = -1 - len(heads)
                heads.append((key, clip))
        elif key is None:
            key = (clip.id,)
        result.append(numbers.setdefault(key, len(numbers)))
    return result


def begin_alike(first: Clip, second: Clip, frames: int = 60) -> bool:
    """Whether the music of two clips is the same for up to so many frames (several dances of AIST++ have one song): by their MFCC."""
    frames = min(len(first), len(second), frames)
    one, other = (clip.input_features[:frames, MFCC] for clip in (first, second))
    return float(np.abs(one - other).mean()) < 0.02 * float(np.abs(one).mean() + 1e-9)


def hold_back(clips: Sequence[Clip], share: float = 0.1) -> tuple[list[Clip], list[Clip]]:
    """Clips to train on and clips to measure by: whole songs, `share` of all (at least one), evenly spread over the list.

    Always the same ones for the same clips. Of songs with and without music the former are held back, and the only song of a genre
    only where each is. Nothing is held back where there is a single song (with music, if any has).
    """
    songs = songs_of(clips)
    genres: dict[int, set] = {}
    for clip, song in zip(clips, songs, strict=True):
        genres.setdefault(song, set()).add(clip.genre)
    count: dict[Any, int] = {}
    for found in genres.values():
        for genre in found:
            count[genre] = count.get(genre, 0) + 1
    paired = {song for clip, song in zip(clips, songs, strict=True) if clip.paired}
    free = [song for song in genres if not paired or song in paired]
    wanted = min(max(1, round(share * len(free))), len(free) - 1) if share > 0 else 0
    held: set[int] = set()
    spread = [free[int((index + 0.5) * len(free) / wanted)] for index in range(wanted)]
    # evenly spread ones first, then the others, as some may be the only ones of their genre
    for song in [*spread, *free]:
        if len(held) < wanted and song not in held and all(count[genre] > 1 for genre in genres[song]):
            held.add(song)
            for genre in genres[song]:
                count[genre] -= 1
    held = held or set(spread[:1])
    train = [clip for clip, song in zip(clips, songs, strict=True) if song not in held]
    return train, [clip for clip, song in zip(clips, songs, strict=True) if song in held]
