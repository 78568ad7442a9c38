"""`Motion`: a dance as SMPL poses and a translation, loaded from and saved to files."""

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
from megadance_hf.modeling.clean_up_megadance import clean_motion
from megadance_hf.modeling.files_megadance import real_place, whole

from . import formats, layouts
from .formats import KNOWN_SUFFIXES


class MotionError(ValueError):
    """A motion, or a file with one, cannot be used; the message is one line with the remedy."""


@dataclass(eq=False)
class Motion:
    """A dance: one pose of the 24-joint SMPL skeleton per frame.

    Attributes:
        poses: (T, 24, 3) float32, axis-angle in radians, each joint relative to its parent. (T, 72) is accepted as well.
        translation: (T, 3) float32, position of the pelvis joint in metres, Y up; the body faces +Z at zero rotation.
        fps: frames per second.
        genre: name of the dance genre, if known.
        metadata: other facts that JSON can hold (seed, model, song).

    Raises:
        MotionError: shapes that do not fit, no frames; values that are not finite or out of range: angles up to 100 radians,
            positions up to 10 km, 1 to 1000 fps, a genre of up to 100 printable characters.
    """

    poses: np.ndarray
    translation: np.ndarray
    fps: float = 30.0
    genre: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with _as_motion_error():
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
                f"give one pelvis position per frame, ({len(self.poses)}, 3)"
            )
        if not len(self.poses):
            raise MotionError("poses has no frames: a motion needs at least one")
        with _as_motion_error():
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
        """Alias of `seconds`."""
        return self.seconds

    def show(self, music: Any = None, **options: Any) -> None:
        """Show the dancer in 3D, with sound: in a notebook below the cell, elsewhere in the browser; see `megadance_hf.export.show`."""
        formats.resolve(formats.SHOW)(self, music, **options)

    def _repr_html_(self) -> str:
        return formats.resolve(formats.NOTEBOOK_HTML)(self)

    def __getitem__(self, frames: slice) -> Motion:
        """`motion[a:b]`: the frames from a up to b. For another frame rate use `resampled`."""
        if not isinstance(frames, slice) or frames.step not in (None, 1):
            raise TypeError(
                f"motion[{frames!r}]: give a slice of frames such as motion[30:90]; a rate is changed by resampled()"
            )
        return self._with(self.poses[frames].copy(), self.translation[frames].copy(), same_codes=False)

    def joints(self) -> np.ndarray:
        """Joint positions by forward kinematics on the neutral SMPL rest skeleton: (T, 24, 3) float32, metres."""
        rotations = kinematics.axis_angle_to_matrix(torch.from_numpy(self.poses))
        return kinematics.forward_kinematics(rotations, torch.from_numpy(self.translation)).numpy()

    def global_rotations(self) -> np.ndarray:
        """World rotation of each joint: (T, 24, 3, 3) float32."""
        rotations = kinematics.axis_angle_to_matrix(torch.from_numpy(self.poses))
        return kinematics.global_rotations(rotations).numpy()

    def mirrored(self) -> Motion:
        """The left-right mirror image."""
        return self._with(
            kinematics.mirror_poses(torch.from_numpy(self.poses)).numpy(),
            kinematics.mirror_translation(torch.from_numpy(self.translation)).numpy(),
            same_codes=False,
        )

    def resampled(self, fps: float) -> Motion:
        """The same dance at another frame rate: spherical interpolation of rotations, linear interpolation of the translation.

        Frame 0 is kept, and the duration to within half a frame; after the original's last frame its pose is held.
        """
        from scipy.spatial.transform import Rotation

        with _as_motion_error():
            fps = layouts.check_rate("fps", fps)
        count = max(1, round(self.seconds * fps))
        times = np.minimum(np.arange(count) * (self.fps / fps), len(self) - 1)  # in frames of this motion
        before = np.minimum(times.astype(int), max(len(self) - 2, 0))
        after = np.minimum(before + 1, len(self) - 1)
        weight = times - before
        start = Rotation.from_rotvec(self.poses[before].reshape(-1, 3))
        step = (start.inv() * Rotation.from_rotvec(self.poses[after].reshape(-1, 3))).as_rotvec()
        step *= np.repeat(weight, kinematics.NUM_JOINTS)[:, None]
        poses = (start * Rotation.from_rotvec(step)).as_rotvec().reshape(count, -1, 3)
        weight = weight[:, None]
        translation = (1 - weight) * self.translation[before] + weight * self.translation[after]
        return replace(self._with(poses, translation, same_codes=False), fps=float(fps))

    def grounded(self, window: float = 1.0) -> Motion:
        """The dance with its height corrected so that the lowest joint, usually a supporting foot, is at y = 0.

        No joint ends up below the floor; steps and jumps shorter than `window` seconds keep their height
        (`kinematics.ground_translation`).
        """
        if not (np.isfinite(window) and window > 0):
            raise MotionError(f"window={window!r}: give a positive number of seconds")
        poses, translation = torch.from_numpy(self.poses), torch.from_numpy(self.translation)
        grounded = kinematics.ground_translation(poses, translation, self.fps, window)
        return self._with(self.poses.copy(), grounded.numpy())

    def cleaned(
        self, floor: bool = True, contacts: np.ndarray | None = None, begins: bool = False, ends: bool = False
    ) -> Motion:
        """The dance without glitches: spins and jumps are bridged, feet in contact with the floor stand, toes stay above it.

        `metadata["clean_up"]` says what was changed (`CleanUpReport`), and `metadata["notes"]` has it as a sentence. Sound motion is
        hardly changed.

        Args:
            floor: correct the height as `grounded` does; without, the floor has to be at y = 0.
            contacts: (T, 2) or (T, 4) probabilities that toes, or ankles and toes, touch the floor; found from the motion when None.
            begins, ends: leave a standing position at the beginning, come to one at the end, as a dance to a whole song does; not
                if it is shorter than 3 s.

        Raises:
            MotionError: `contacts` has another shape.
        """
        given = None if contacts is None else torch.as_tensor(np.asarray(contacts, np.float32))
        arrays = torch.from_numpy(self.poses), torch.from_numpy(self.translation)
        try:
            poses, translation, report = clean_motion(*arrays, self.fps, floor, given, begins, ends)
        except ValueError as error:
            raise MotionError(str(error)) from None
        motion = self._with(poses.numpy(), translation.numpy())
        motion.metadata |= {"clean_up": report.to_dict(), "notes": self._notes([str(report)])}
        return motion

    def _notes(self, new: list[str]) -> list[str]:
        """The notes in the metadata, and new ones."""
        earlier = self.metadata.get("notes", [])
        return [*(earlier if isinstance(earlier, list) else [earlier]), *new]

    def save(self, path: str | os.PathLike, music: Any = None, **options: Any) -> Path:
        """Write the motion in the format of the suffix of `path`; the file appears whole or not at all.

        `.npz` AMASS-like poses; `.smplx.npz` for Blender's SMPL-X add-on; `.pkl` for dance code that reads pickles; `.bvh` for
        Blender and other animation tools; `.glb` an animated figure for glTF viewers; `.vrma` for VRM avatars; `.joints.npz` and
        `.json` joint positions; `.mp4` a video. `megadance_hf/motion/formats.py` lists them and takes more.

        Args:
            path: the file to write.
            music: the song of a video (a path, bytes or (waveform, rate)); other formats ignore it.
            options: for the writer, such as `body="smooth"`, a human figure instead of the mannequin (`.glb`, `.mp4`); see
                `megadance_hf.export` and `megadance_hf.render`.

        Raises:
            MotionError: unknown suffix, or a folder that does not exist or cannot be written to.
        """
        path = Path(path)
        formats.write(self, path, check_output(path), music, options)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike, fps: float | None = None, up: str | None = None) -> Motion:
        """Read a motion of this package or another tool: `.npz`, `.pkl`, `.npy`, `.json`, `.bvh`.

        - Named poses and a translation (`.npz`, `.pkl`, `.json`): AIST++, AMASS, EDGE, POPDG, BEAT2, and others with `poses` of
          SMPL, SMPL-H or SMPL-X (66, 72, 156, 165 columns, or joints x 3) or `global_orient` and `body_pose`, and `trans`.
          `megadance_hf/motion/layouts.py` lists what each of them means.
        - The columns of FineDance and Motion-X, or joint positions (T, 24, 3) (`.npy`).
        - Named joint positions (`joints`, `joint_names`), and bones with known names (`.bvh`: ours, Mixamo's, CMU's, SMPL's and
          others'). Poses are fitted to them.

        The translation becomes that of the pelvis in metres. The axis that carries the head above the feet over the whole clip
        becomes Y. The floor is moved to y = 0, unless the format says that it is there. Fingers and faces are left out.
        `metadata["notes"]` lists what was rotated, moved, fitted or assumed.

        Args:
            path: the file. A pickle may hold only numpy arrays and plain containers; anything else is refused, and no code is run.
            fps: frame rate, if the file does not say or is wrong. Without either: 60 for AIST++, else 30, with a warning
                where that is a guess.
            up: the axis that points up in the file ("y", "z", "x", "-y", ...), if detection fails or is wrong.

        Raises:
            MotionError: no such file, unknown format, not readable, a pickle with code, missing keys, wrong shapes, values out of
                range, or no clear up axis.
        """
        motion, notes = cls.load_with_notes(path, fps, up)
        for note in notes:
            if isinstance(note, layouts.UncertainNote):
                warnings.warn(f"{os.fspath(path)}: {note} (Motion.load takes fps= and up=)", stacklevel=2)
        return motion

    @classmethod
    def load_with_notes(
        cls, path: str | os.PathLike, fps: float | None = None, up: str | None = None
    ) -> tuple[Motion, list[str]]:
        """As `load`, without warnings: the motion, and the notes of this time."""
        from .files import read_motion

        loaded = read_motion(path, fps, up, MotionError)
        try:
            motion = cls(loaded.poses, loaded.translation, loaded.fps, loaded.genre, dict(loaded.metadata))
        except MotionError as error:
            raise MotionError(f"path={str(path)!r}: {error}") from None
        if loaded.notes:
            motion.metadata["notes"] = motion._notes(loaded.notes)
        return motion, loaded.notes

    def _with(self, poses: np.ndarray, translation: np.ndarray, same_codes: bool = True) -> Motion:
        """Other poses with the same metadata; without `codes`, where these are no longer the codes of the poses."""
        metadata = {name: value for name, value in self.metadata.items() if same_codes or name != "codes"}
        return Motion(poses, translation, fps=self.fps, genre=self.genre, metadata=metadata)


def check_output(path: str | os.PathLike) -> str:
    """The suffix by which `Motion.save(path)` will choose its writer; raises `MotionError` if it could not write there.

    Call it before a long computation.
    """
    path = Path(path)
    suffix = formats.suffix_of(path.name)
    if suffix is None:
        problem = f"suffix {path.suffix!r} is not known" if path.suffix else "it has no suffix"
        raise MotionError(f"path={str(path)!r}: {problem}; end the name in one of {', '.join(KNOWN_SUFFIXES)}")
    if path.is_dir():
        raise MotionError(f"path={str(path)!r} is a folder: give the name of a file in it")
    try:
        target = real_place(path)
    except OSError as error:
        raise MotionError(f"path={str(path)!r} cannot be written: {error.strerror}") from None
    folder = target.parent
    if not folder.is_dir():
        raise MotionError(f"path={str(path)!r}: the folder {str(folder)!r} does not exist; create it first")
    if target.is_file() and not os.access(target, os.W_OK):
        raise MotionError(f"path={str(path)!r}: the file that is there is read-only; choose another name")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise MotionError(f"path={str(path)!r}: no permission to write into {str(folder)!r}; choose another folder")
    return suffix


def atomic_path(path: str | os.PathLike) -> AbstractContextManager[Path]:
    """A temporary name to write to, moved to `path` if the block succeeds and removed otherwise: `whole` with `MotionError`."""
    return whole(path, MotionError)


@contextmanager
def _as_motion_error() -> Iterator[None]:
    try:
        yield
    except layouts.LayoutError as error:
        raise MotionError(str(error)) from None
