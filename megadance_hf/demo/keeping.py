"""What of a dance is danced again where parts of it are kept: its free passages, and the new poses that each of them meets.

    passages = free_passages(300, [Range(2.0, 4.0)], stays=[], new=[Held(7.0, write_poses(pose))], loop=False)

A code that is kept in part is kept. Whatever a visitor could mend is a `DemoError`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE, MOTION_FPS
from megadance_hf.modeling.holds_megadance import room_in_passage
from megadance_hf.modeling.joining_megadance import FADE
from megadance_hf.modeling.kinematics_megadance import BODY_PARTS

from .jobs import DemoError
from .poses import Held, capital, clock
from .requests import Range

NEAR = 0.01  # of a code: seconds of the page are rounded
_CODE = FRAMES_PER_CODE / MOTION_FPS  # seconds


@dataclass(frozen=True)
class Passage:
    """What is danced anew: codes `first` to `last` - 1 of the whole body or of a half of it; `hold`: the new poses that it meets."""

    first: int
    last: int
    part: str
    hold: tuple[Held, ...] = ()

    @property
    def start(self) -> float:
        return self.first * _CODE

    @property
    def end(self) -> float:
        return self.last * _CODE

    def room(self, one: Held, frames: int) -> range:
        """The first frames that something can have in a dance of so many: it lies in the passage, and not where this passes over to what is
        kept."""
        last = min(self.last * FRAMES_PER_CODE, frames)
        begin, end = room_in_passage(self.first * FRAMES_PER_CODE, last, frames, MOTION_FPS)
        return range(begin, end - len(one.array) + 1)


def free_passages(
    frames: int, kept: Sequence[Range], stays: Sequence[Held], new: Sequence[Held], loop: bool
) -> list[Passage]:
    """The passages of a dance of so many frames that are danced anew, in their order.

    Args:
        kept: ranges that are kept.
        stays, new: what is held by the dance already, which is kept too, and what the passages are to meet.
        loop: the dance ends where it begins, so its ends are kept.

    Raises:
        DemoError: something new lies where the dance is kept, or too near to it.
    """
    free = _unlocked(frames, kept)
    for one in new:
        if not free[:, list(one.codes(frames))].any(axis=0).all():
            raise DemoError(f"The dance is locked where {one} is to be held: unlock it there, or move it.")
    for one in stays:
        free[:, list(one.codes(frames))] = False
    if loop:
        free[:, [0, -1]] = False
    passages, first = [], 0
    for halves, group in itertools.groupby(free.T.tolist()):
        last = first + len(list(group))
        if any(halves):
            passages.append(Passage(first, last, "all" if all(halves) else list(BODY_PARTS)[halves.index(True)]))
        first = last
    for one in new if passages else ():
        index = _passage_for(one, passages, frames)
        passages[index] = replace(passages[index], hold=(*passages[index].hold, one))
    return passages


def _unlocked(frames: int, kept: Sequence[Range]) -> np.ndarray:
    """Which codes of each half of the body are in no range that is kept: (halves, codes)."""
    free = np.ones((len(BODY_PARTS), -(-frames // FRAMES_PER_CODE)), dtype=bool)
    for one in kept:
        halves = [one.part in ("all", part) for part in BODY_PARTS]
        free[halves, math.floor(one.start / _CODE + NEAR) : math.ceil(one.end / _CODE - NEAR)] = False
    return free


def _passage_for(one: Held, passages: Sequence[Passage], frames: int) -> int:
    """Number of the passage that meets something new.

    Raises:
        DemoError: none can.
    """
    first, code = one.first(frames), one.first(frames) // FRAMES_PER_CODE
    apart = [max(passage.first - code, code - passage.last + 1, 0) for passage in passages]
    index = apart.index(min(apart))
    room = passages[index].room(one, frames)
    if first in room:
        return index
    if not room:
        raise DemoError(
            f"{capital(one)} has too little room between what stays, {FADE:g} s on each side: unlock more around it, or move it."
        )
    tenths = math.ceil(room[0] * 10 / MOTION_FPS) if first < room[0] else math.floor(room[-1] * 10 / MOTION_FPS)
    where = f"{clock(tenths / 10)} or {'later' if first < room[0] else 'earlier'}"
    raise DemoError(
        f"The dance needs {FADE:g} s between what stays and {one}: hold it at {where}, or unlock more around it."
    )
