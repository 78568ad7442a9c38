"""Poses and short clips that a dance meets: as the page sends them, and from files.

    pose = read_pose_file("pose.bvh", "pose.bvh")  # (frames, 24, 3) at the model's frame rate
    check_held([Held(4.0, write_poses(pose))], seconds=20.0, loop=False)

Whatever a visitor could mend is a `DemoError`.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE, MOTION_FPS
from megadance_hf.modeling.joining_megadance import FADE
from megadance_hf.modeling.kinematics_megadance import NUM_JOINTS
from megadance_hf.motion.motion import Motion, MotionError

from .jobs import DemoError

MOST_HELD, LONGEST = 24, 4.0  # poses and clips of a dance; seconds of a clip
POSE_FILES = (".npz", ".json", ".bvh", ".npy", ".pkl")
DAMAGED_POSE = "A pose cannot be read: take it from the dance again, or from its file."
_ANGLE = 100.0  # radians, as in `Motion`
_UNPACKED = 16_000_000  # bytes of an .npz: minutes of computing time for a small file would be too much
_ROUNDING = 2  # frames by which something may begin too late: it is moved to the end


@dataclass(frozen=True)
class Held:
    """A pose or a clip that a dance meets.

    Attributes:
        second: of the dance, at which it begins.
        poses: as `write_poses` gives them.
        name: of the file that it is from; "" where it is from a dance.
        dancer: which of two meets it.
    """

    second: float
    poses: str
    name: str = ""
    dancer: int = 0

    @cached_property
    def array(self) -> np.ndarray:
        """(frames, 24, 3) float32, axis-angle."""
        return read_poses(self.poses)

    @property
    def seconds(self) -> float:
        return len(self.array) / MOTION_FPS

    @property
    def end(self) -> float:
        return self.second + self.seconds

    def first(self, frames: int) -> int:
        """Its first frame in a dance of so many."""
        return min(round(self.second * MOTION_FPS), max(frames - len(self.array), 0))

    def codes(self, frames: int) -> range:
        """The codes of a dance of so many frames that it is part of."""
        first = self.first(frames)
        return range(first // FRAMES_PER_CODE, (first + len(self.array) - 1) // FRAMES_PER_CODE + 1)

    def __str__(self) -> str:
        whose = "the second dancer's" if self.dancer else "the"
        return f"{whose} {'pose' if len(self.array) == 1 else 'clip'} at {clock(self.second)}"


def clock(seconds: float) -> str:
    """75.26 -> "1:15.3"."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths % 600 / 10:04.1f}"


def write_poses(poses: np.ndarray) -> str:
    """Poses (frames, 24, 3) as text: base64 of float32."""
    return base64.b64encode(np.asarray(poses, "<f4").tobytes()).decode("ascii")


def read_poses(given: Any) -> np.ndarray:
    """What `write_poses` has written.

    Raises:
        DemoError: it is something else.
    """
    longest = round(LONGEST * MOTION_FPS)
    size = NUM_JOINTS * 3 * 4
    if not isinstance(given, str) or len(given) > 4 * -(-longest * size // 3):
        raise DemoError(DAMAGED_POSE)
    try:
        content = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if not content or len(content) % size:
        raise DemoError(DAMAGED_POSE)
    poses = np.frombuffer(content, dtype="<f4").astype(np.float32).reshape(-1, NUM_JOINTS, 3)
    if len(poses) > longest or not (np.isfinite(poses).all() and np.abs(poses).max() <= _ANGLE):
        raise DemoError(DAMAGED_POSE)
    return poses


def check_held(held: Sequence[Held], seconds: float, loop: bool) -> None:
    """Whether dances of so many seconds can meet all that their dancers are to meet; they are in their order.

    Raises:
        DemoError: it cannot.
    """
    frames = round(seconds * MOTION_FPS)
    for one in held:
        if round(one.second * MOTION_FPS) + len(one.array) > frames + _ROUNDING:
            raise DemoError(
                f"{capital(one)} goes on after the dance, which lasts {seconds:g} s: move it to an earlier place."
            )
        if loop and one.first(frames) + len(one.array) > frames - FADE * MOTION_FPS:
            raise DemoError(
                f"The dance is to end where it begins, so nothing can be held in its last {FADE:g} s: move {one}, or let the dance end anywhere."
            )
    for one, other in itertools.pairwise(sorted(held, key=lambda one: one.dancer)):
        if one.dancer == other.dancer and one.codes(frames)[-1] >= other.codes(frames)[0]:
            raise DemoError(f"{capital(one)} and {other} are too near to each other: move one of them.")


def read_pose_file(path: str | os.PathLike, name: str) -> np.ndarray:
    """A pose or a clip (frames, 24, 3) from a file, at the model's frame rate.

    Args:
        name: what the visitor calls the file.

    Raises:
        DemoError: it holds none, or one that is too long.
    """
    path = Path(path)
    if path.suffix.lower() not in POSE_FILES:
        raise DemoError(f'"{name}" is no file with a pose: give one of {", ".join(POSE_FILES)}.')
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if sum(member.file_size for member in archive.infolist()) > _UNPACKED:
                    raise DemoError(f'"{name}" holds too much: cut the clip, or give a single pose.')
        motion = Motion.load(path)
        if motion.seconds > LONGEST + 1 / motion.fps and len(motion) > 1:
            raise DemoError(f'"{name}" lasts {motion.seconds:.1f} s, and {LONGEST:g} s at most can be held: cut it.')
        poses = motion.poses if motion.fps == MOTION_FPS else motion.resampled(MOTION_FPS).poses
    except zipfile.BadZipFile:
        raise DemoError(f'"{name}" is damaged: make it again.') from None
    except MotionError as error:
        text = str(error).replace(f"path={str(path)!r}", f'"{name}"').replace(str(path), name)
        raise DemoError(f"{text}." if text[-1] not in ".!?" else text) from None
    return poses[: round(LONGEST * MOTION_FPS)]


def capital(one: Held) -> str:
    """What is held, at the beginning of a sentence."""
    text = str(one)
    return text[:1].upper() + text[1:]
