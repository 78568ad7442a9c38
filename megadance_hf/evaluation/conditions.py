"""What a model is asked to dance to: the right music, wrong music (shifted, another song's, none), and wrong genres."""

from collections.abc import Sequence

import numpy as np

from megadance_hf.data.clip import Clip
from megadance_hf.data.splits import begin_alike
from megadance_hf.modeling.configuration_megadance import MOTION_FPS

from .dances import Excerpt, Request
from .synchrony import feature_beats

# The song as it is; delayed by one and a half beats; another song; none (the mean of the training data).
MUSIC = ("right", "shifted", "swapped", "zeroed")
SHIFT_BEATS = 1.5
SHIFT_SECONDS = 0.7  # where no beat is known
# Tempos nearer than this are the same: a dance to one song then fits the other but for its phase.
SAME_TEMPO = 0.05
WRONG_GENRES = 4  # "four randomly sampled negative genres", section 4.4


def music_as(condition: str, song: Clip, other: Clip | None, mean: np.ndarray) -> np.ndarray:
    """Features (T, 35) of a whole song under a condition of `MUSIC`; `mean` (35,) is that of the training data.

    Shifted music is delayed, and what falls off the end comes first. A shorter other song is repeated.
    """
    features = song.input_features
    if condition == "shifted":
        period = beat_period(song)
        seconds = SHIFT_SECONDS if period is None else SHIFT_BEATS * period
        return np.roll(features, round(seconds * MOTION_FPS), axis=0)
    if condition == "swapped":
        return np.resize(other.input_features, features.shape)
    if condition == "zeroed":
        return np.broadcast_to(mean.astype(np.float32), features.shape).copy()
    return features


def beat_period(clip: Clip) -> float | None:
    """Seconds per beat: from the data set, else the median over the beats of the features; None without any."""
    if clip.beat_period_s is not None:
        return clip.beat_period_s
    intervals = np.diff(feature_beats(clip))
    return float(np.median(intervals)) / MOTION_FPS if len(intervals) else None


def same_track(first: Clip, second: Clip) -> bool:
    """Whether two clips have the same music (several dances of AIST++ do): their MFCCs start alike."""
    return begin_alike(first, second, frames=300)


def other_songs(clips: Sequence[Clip], frames: Sequence[int]) -> list[int | None]:
    """For each clip the index of another song to replace its music; None where all have the same track.

    Never the same track; preferably one that has as many `frames` as are needed, then one of another tempo. Among equals
    the next in order, so that all are used alike.
    """
    partners: list[int | None] = []
    for index, clip in enumerate(clips):
        period, best = beat_period(clip), None
        for step in range(1, len(clips)):
            candidate = (index + step) % len(clips)
            other = clips[candidate]
            if same_track(clip, other):
                continue
            other_period = beat_period(other)
            differs = period is not None and other_period is not None and abs(other_period / period - 1) > SAME_TEMPO
            rank = (len(other) >= frames[index], differs)
            if best is None or rank > best[0]:
                best = (rank, candidate)
        partners.append(None if best is None else best[1])
    return partners


def own_music(excerpts: Sequence[Excerpt]) -> list[Request]:
    """Each excerpt with its own music and genre."""
    return [(index, item.clip.input_features, item.clip.genre) for index, item in enumerate(excerpts)]


def wrong_music(
    excerpts: Sequence[Excerpt], others: Sequence[int | None], condition: str, mean: np.ndarray
) -> list[Request]:
    """Each excerpt with its own genre and the music of a condition; "swapped" skips excerpts without another song."""
    requests = []
    for index, (item, other) in enumerate(zip(excerpts, others, strict=True)):
        if other is None and condition == "swapped":
            continue
        music = music_as(condition, item.song, None if other is None else excerpts[other].song, mean)
        requests.append((index, np.ascontiguousarray(music[item.start : item.start + len(item.clip)]), item.clip.genre))
    return requests


def wrong_genres(excerpts: Sequence[Excerpt], genres: Sequence[str], seed: int) -> list[Request]:
    """Each excerpt with four other genres, drawn once per evaluation; with all others where there are no more."""
    generator, requests = np.random.default_rng((seed, 3)), []
    for index, item in enumerate(excerpts):
        others = [genre for genre in genres if genre != item.clip.genre]
        drawn = sorted(generator.permutation(len(others))[:WRONG_GENRES])
        requests.extend((index, item.clip.input_features, others[number]) for number in drawn)
    return requests
