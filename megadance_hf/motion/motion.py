"""`Motion`: a dance as SMPL poses and a root path, and the files it is kept in."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from megadance_hf.modeling import kinematics_megadance as kinematics
from megadance_hf.modeling.files_megadance import real_place, whole

from . import formats, layouts
from .formats import KNOWN_SUFFIXES


class MotionError(ValueError):
    """A motion, or a file with one, cannot be used; the message is one line that says what to do."""


@dataclass(eq=False)
class Motion:
    """A dance: one pose of the 24-joint SMPL skeleton a frame.

    Attributes:
        poses: (T, 24, 3) float32, axis-angle in radians, each joint relative to its parent. (T, 72) is taken as well.
        translation: (T, 3) float32, position of the pelvis joint in metres, Y up; the body faces +Z at zero rotation.
        fps: frames per second.
        genre: name of the dance genre, if known.
        metadata: anything else worth keeping that JSON can hold (seed, model, song).

    Raises:
        MotionError: shapes disagree, no frames; numbers that are not finite, or out of range: angles up to 100 radians,
            places up to 10 km, 1 to 1000 fps, a genre of up to 100 printable characters.
    """

    poses: np.ndarray
    translation: np.ndarray
    fps: float = 30.0
    genre: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with _of_a_motion():
            self.poses, self.translation = (
                layouts.real_array(name, getattr(self, name)) for name in ("poses", "translation")
            )
        joints = kinematics.NUM_JOINTS
        if self.poses.ndim == 2 and self.poses.shape[1] == joints * 3:
            self.poses = self.poses.reshape(-1, joints, 3)
        if self.poses.ndim != 3 or self.poses.shape[1:] != (joints, 3):
            raise MotionError(f"poses has shape {self.poses.shape}: give axis-angle poses (frames, {joints}, 3)")
        if self.translation.shape != (len(self.poses), 3):
            raise MotionError(
                f"translation has shape {self.translation.shape}: "
                f"give one pelvis position a frame, ({len(self.poses)}, 3)"
            )
        if not len(self.poses):
            raise MotionError("poses has no frames: a motion needs at least one")
        with _of_a_motion():
            layouts.check_numbers("poses", self.poses, layouts.MAX_ANGLE, "radians: are these degrees?")
            layouts.check_numbers("translation", self.translation, layouts.MAX_DISTANCE, "metres")
            self.fps = layouts.check_rate("fps", self.fps)
            self.genre = layouts.check_genre(self.genre)
        self.poses = np.ascontiguousarray(self.poses, np.float32)
        self.translation = np.ascontiguousarray(self.translation, np.float32)

    def __len__(self) -> int:
        return len(self.poses)

    def __repr__(self) -> str:
        genre = f", genre={self.genre!r}" if self.genre else ""
        return f"Motion({len(self)} frames, {self.seconds:.2f} s at {self.fps:g} fps{genre})"

    @property
    def seconds(self) -> float:
        """Duration: frames / fps."""
        return len(self) / self.fps

    @property
    def duration(self) -> float:
        """The same as `seconds`."""
        return self.seconds

    def show(self, music: Any = None, **options: Any) -> None:
        """Show the dancer in 3D, with sound: in a notebook below the cell, elsewhere in the browser. See `megadance_hf.export.show`."""
        formats.resolve(formats.SHOW)(self, music, **options)

    def _repr_html_(self) -> str:
        return formats.resolve(formats.NOTEBOOK_HTML)(self)

    def __getitem__(self, frames: slice) -> Motion:
        """`motion[a:b]`: the frames from a up to b. For another rate use `resampled`."""
        if not isinstance(frames, slice) or frames.step not in (None, 1):
            raise TypeError(
                f"motion[{frames!r}]: give a slice of frames such as motion[30:90]; a rate is changed by resampled()"
            )
        return self._with(self.poses[frames].copy(), self.translation[frames].copy())

    def joints(self) -> np.ndarray:
        """Joint positions by forward kinematics on the neutral SMPL rest skeleton: (T, 24, 3) float32, metres."""
        rotations = kinematics.axis_angle_to_matrix(torch.from_numpy(self.poses))
        return kinematics.forward_kinematics(rotations, torch.from_numpy(self.translation)).numpy()

    def global_rotations(self) -> np.ndarray:
        """Rotation of each joint relative to the world: (T, 24, 3, 3) float32."""
        rotations = kinematics.axis_angle_to_matrix(torch.from_numpy(self.poses))
        return kinematics.global_rotations(rotations).numpy()

    def mirrored(self) -> Motion:
        """The left-right mirror image."""
        return self._with(
            kinematics.mirror_poses(torch.from_numpy(self.poses)).numpy(),
            kinematics.mirror_translation(torch.from_numpy(self.translation)).numpy(),
        )

    def resampled(self, fps: float) -> Motion:
        """The same dance at another frame rate: rotations by spherical, the path by linear interpolation.

        Frame 0 stays where it is and the duration stays the same to within half a frame; after the last frame of the
        original its pose is held.
        """
        from scipy.spatial.transform import Rotation

        with _of_a_motion():
            fps = layouts.check_rate("fps", fps)
        count = max(1, round(self.seconds * fps))
        at = np.minimum(np.arange(count) * (self.fps / fps), len(self) - 1)  # in frames of this motion
        before = np.minimum(at.astype(int), max(len(self) - 2, 0))
        after = np.minimum(before + 1, len(self) - 1)
        share = at - before
        first = Rotation.from_rotvec(self.poses[before].reshape(-1, 3))
        turn = (first.inv() * Rotation.from_rotvec(self.poses[after].reshape(-1, 3))).as_rotvec()
        turn *= np.repeat(share, kinematics.NUM_JOINTS)[:, None]
        poses = (first * Rotation.from_rotvec(turn)).as_rotvec().reshape(count, -1, 3)
        share = share[:, None]
        translation = (1 - share) * self.translation[before] + share * self.translation[after]
        return replace(self._with(poses, translation), fps=float(fps))

    def grounded(self, window: float = 1.0) -> Motion:
        """The dance with its root height corrected so that the lowest joint, a supporting foot as a rule, is at y = 0.

        Nothing ends below the floor; steps and jumps shorter than `window` seconds keep their height
        (`kinematics.ground_translation`).
        """
        if not (np.isfinite(window) and window > 0):
            raise MotionError(f"window={window!r}: give a positive number of seconds")
        poses, translation = torch.from_numpy(self.poses), torch.from_numpy(self.translation)
        grounded = kinematics.ground_translation(poses, translation, self.fps, window)
        return self._with(self.poses.copy(), grounded.numpy())

    def save(self, path: str | os.PathLike, music: Any = None, **options: Any) -> Path:
        """Write the motion in the format that the suffix of `path` names; the file appears whole or not at all.

        `.npz` AMASS-like poses; `.smplx.npz` the same for Blender's SMPL-X add-on; `.pkl` for dance code that wants one; `.bvh` for Blender and other animation tools;
        `.glb` an animated figure for any glTF viewer; `.vrma` the dance for VRM avatars; `.joints.npz`, `.json` joint
        positions; `.mp4` a video. `music` is what a video sounds like (a path, bytes or (waveform, rate)); other formats
        ignore it. `body="smooth"` shows a human figure instead of the mannequin (`.glb`, `.mp4`).
        `options` go to the writer (see `megadance_hf.export`, `megadance_hf.render`).

        Raises:
            MotionError: unknown suffix, or a folder that does not exist or cannot be written to.
        """
        path = Path(path)
        formats.write(self, path, check_output(path), music, options)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike, fps: float | None = None, up: str | None = None) -> Motion:
        """Read a motion of this package or another tool: `.npz`, `.pkl`, `.npy`, `.json`, `.bvh`.

        - Poses and a path by name (`.npz`, `.pkl`, `.json`): AIST++, AMASS, EDGE, POPDG, BEAT2, and any with `poses` of SMPL,
          SMPL-H or SMPL-X (66, 72, 156, 165 columns, or joints x 3) or `global_orient` and `body_pose`, and `trans`.
          `megadance_hf/motion/layouts.py` lists what each of them means.
        - FineDance's and Motion-X' columns, or positions of joints (T, 24, 3) (`.npy`).
        - Positions of joints by name (`joints`, `joint_names`), and bones of known names (`.bvh`: ours, Mixamo's, CMU's, SMPL's
          and others'). Turns are fitted to them.

        The path becomes that of the pelvis in metres. The axis that carries the head above the feet over the whole clip is
        turned to Y. Where a file does not say that its floor is at y = 0, the dance is put on it. Fingers and faces are left
        out. What was turned, moved, fitted or assumed is told in `metadata["notes"]`.

        Args:
            path: the file. A pickle may hold only numpy arrays and plain containers; anything else is refused, unrun.
            fps: frame rate, if the file does not say or is wrong. Without either: 60 for AIST++, else 30, with a warning
                where that is a guess.
            up: the axis that points up in the file ("y", "z", "x", "-y", ...), where that cannot be seen or is seen wrongly.

        Raises:
            MotionError: no such file, another format, not readable, a pickle with code, keys or shapes missing, numbers out of
                range, or no axis that is clearly up.
        """
        motion, notes = cls.load_with_notes(path, fps, up)
        for doubt in (note for note in notes if isinstance(note, layouts.UncertainNote)):
            warnings.warn(f"{os.fspath(path)}: {doubt} (Motion.load takes fps= and up=)", stacklevel=2)
        return motion

    @classmethod
    def load_with_notes(
        cls, path: str | os.PathLike, fps: float | None = None, up: str | None = None
    ) -> tuple[Motion, list[str]]:
        """What `load` gives, and what it turned, moved, fitted or assumed this time, without a warning."""
        from .files import read_motion

        read = read_motion(path, fps, up, MotionError)
        metadata = read.metadata
        if read.notes:
            earlier = metadata.get("notes", [])
            metadata = {**metadata, "notes": [*(earlier if isinstance(earlier, list) else [earlier]), *read.notes]}
        try:
            return cls(read.poses, read.translation, read.fps, read.genre, metadata), read.notes
        except MotionError as error:
            raise MotionError(f"path={str(path)!r}: {error}") from None

    def _with(self, poses: np.ndarray, translation: np.ndarray) -> Motion:
        return Motion(poses, translation, fps=self.fps, genre=self.genre, metadata=dict(self.metadata))


def check_output(path: str | os.PathLike) -> str:
    """The suffix by which `Motion.save(path)` will choose its writer; raises `MotionError` if it could not write there.

    Ask before a long computation, not after.
    """
    path = Path(path)
    suffix = formats.suffix_of(path.name)
    if suffix is None:
        found = f"suffix {path.suffix!r} is not known" if path.suffix else "it has no suffix"
        raise MotionError(f"path={str(path)!r}: {found}; end the name in one of {', '.join(KNOWN_SUFFIXES)}")
    if path.is_dir():
        raise MotionError(f"path={str(path)!r} is a folder: give the name of a file in it")
    try:
        place = real_place(path)
    except OSError as error:
        raise MotionError(f"path={str(path)!r} cannot be written: {error.strerror}") from None
    folder = place.parent
    if not folder.is_dir():
        raise MotionError(f"path={str(path)!r}: the folder {str(folder)!r} does not exist; create it first")
    if place.is_file() and not os.access(place, os.W_OK):
        raise MotionError(f"path={str(path)!r}: the file that is there is read-only; choose another name")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise MotionError(f"path={str(path)!r}: no permission to write into {str(folder)!r}; choose another folder")
    return suffix


def atomic_path(path: str | os.PathLike) -> AbstractContextManager[Path]:
    """A name to write to; moved onto `path` when the block ends well, removed when it does not: `whole` with our error."""
    return whole(path, MotionError)


@contextmanager
def _of_a_motion() -> Iterator[None]:
    try:
        yield
    except layouts.LayoutError as error:
        raise MotionError(str(error)) from None
