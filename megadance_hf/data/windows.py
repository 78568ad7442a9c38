"""Where the windows of a clip begin, by the rules of the released loaders, and clips cut into windows."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE

from .clip import Clip
from .noise import noisy_frames


def window_starts(
    clip: Clip, length: int, stride: int, drop_marked: bool = False, until_muq: bool = False
) -> list[int]:
    """First frames of the windows of a clip: 0, stride, 2 * stride, ... as long as `length` frames fit.

    Args:
        drop_marked: leave out windows with a marked frame.
        until_muq: the clip ends where its MuQ features end, at a whole code.
    """
    starts = range(0, usable_frames(clip, until_muq) - length + 1, stride)
    return free_starts(clip, starts, length) if drop_marked else list(starts)


def usable_frames(clip: Clip, until_muq: bool) -> int:
    """Frames of a clip in which windows are cut, see `window_starts`."""
    if not until_muq:
        return len(clip)
    return min(len(clip), clip.muq_frames or len(clip)) // FRAMES_PER_CODE * FRAMES_PER_CODE


def free_starts(clip: Clip, starts: Sequence[int], length: int) -> list[int]:
    """Those of `starts` whose window of `length` frames has no marked frame."""
    marked, first = np.array(clip.marked_frames or [], np.int64), np.asarray(starts, np.int64)
    free = np.searchsorted(marked, first) == np.searchsorted(marked, first + length)
    return first[free].tolist()


def noise_of(clip: Clip) -> np.ndarray:
    """Frames (T,) bool that are no targets of a training: those that `noisy_frames` finds, and those that the source marks, each with the
    frame before it, whose step leads there."""
    noisy = noisy_frames(clip.poses, clip.translation)
    for frame in clip.marked_frames or ():
        noisy[max(0, frame - 1) : frame + 1] = True
    return noisy


def cut_clip(
    clip: Clip, length: int, stride: int, drop_marked: bool = False, until_muq: bool = False
) -> list[tuple[int, Clip]]:
    """The windows of a clip, each with its first frame, as clips of their own without audio, beats and units; see `window_starts`."""
    names = ("audio", "muq_frames", "marked_frames", "units", "beat_period_s", "first_beat_s", "beat_source")
    unknown = dict.fromkeys(names)
    pieces = []
    for start in window_starts(clip, length, stride, drop_marked, until_muq):
        frames = slice(start, start + length)
        features = None if clip.input_features is None else clip.input_features[frames]
        arrays = {"poses": clip.poses[frames], "translation": clip.translation[frames], "input_features": features}
        pieces.append((start, replace(clip, id=f"{clip.id}@{start}", **arrays, **unknown)))
    return pieces
