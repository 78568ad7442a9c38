"""Which clips to train on and which to validate on: whole songs, never pieces of one on both sides."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from megadance_hf.modeling.music_features_megadance import MFCC

from .clip import Clip


def songs_of(clips: Sequence[Clip]) -> list[int]:
    """The number of each clip's song, in the order of first appearance.

    Clips with the same `song` share a number. Of those that name none, clips whose music begins alike share one, and a clip without
    music has its own.
    """
    numbers: dict[Any, int] = {}
    unnamed: list[tuple[int, Clip]] = []
    result = []
    for clip in clips:
        key: Any = clip.song
        if key is None and clip.paired:
            key = next((number for number, known in unnamed if begin_alike(clip, known)), None)
            if key is None:
                key = -1 - len(unnamed)
                unnamed.append((key, clip))
        elif key is None:
            key = (clip.id,)
        result.append(numbers.setdefault(key, len(numbers)))
    return result


def begin_alike(first: Clip, second: Clip, frames: int = 60) -> bool:
    """Whether the first `frames` frames of two clips' music are the same, by their MFCC (several dances of AIST++ share a song)."""
    frames = min(len(first), len(second), frames)
    assert first.input_features is not None and second.input_features is not None
    one, other = first.input_features[:frames, MFCC], second.input_features[:frames, MFCC]
    return float(np.abs(one - other).mean()) < 0.02 * float(np.abs(one).mean() + 1e-9)


def hold_back(clips: Sequence[Clip], share: float = 0.1) -> tuple[list[Clip], list[Clip]]:
    """Splits clips into training and validation: `share` of the songs (at least one), evenly spread over the list, is held back.

    Deterministic. If any clip has music, only songs with music are held back. The only song of a genre is held back only if every song
    is the only one of its genre. Nothing is held back if there is a single song to choose from.
    """
    songs = songs_of(clips)
    genres: dict[int, set] = {}
    for clip, song in zip(clips, songs, strict=True):
        genres.setdefault(song, set()).add(clip.genre)
    count = Counter(genre for found in genres.values() for genre in found)
    paired = {song for clip, song in zip(clips, songs, strict=True) if clip.paired}
    candidates = [song for song in genres if not paired or song in paired]
    wanted = min(max(1, round(share * len(candidates))), len(candidates) - 1) if share > 0 else 0
    held: set[int] = set()
    spread = [candidates[int((index + 0.5) * len(candidates) / wanted)] for index in range(wanted)]
    # the evenly spread ones first, then others in place of those that are the only ones of their genre
    for song in [*spread, *candidates]:
        if len(held) < wanted and song not in held and all(count[genre] > 1 for genre in genres[song]):
            held.add(song)
            count.subtract(genres[song])
    held = held or set(spread[:1])
    train = [clip for clip, song in zip(clips, songs, strict=True) if song not in held]
    return train, [clip for clip, song in zip(clips, songs, strict=True) if song in held]
