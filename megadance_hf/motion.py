"""`Motion`: a dance as SMPL poses and a root path, and the files it is kept in."""

from __future__ import annotations

import importlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .modeling import kinematics_megadance as kinematics
from .modeling.files_megadance import real_place, whole

# suffix -> (module of this package, function). Imported when used: a pose file must not need a video encoder.
_WRITERS = {
    ".npz": (".export", "save_npz"),
    ".pkl": (".export", "save_pkl"),
    ".bvh": (".export", "save_bvh"),
    ".glb": (".export", "save_glb"),
    ".vrma": (".export", "save_vrma"),
    ".joints.npz": (".export", "save_joints"),
    ".json": (".export", "save_joints"),
    ".mp4": (".render", "render_video"),
}
KNOWN_SUFFIXES = tuple(_WRITERS)
_POSE_KEYS, _TRANSLATION_KEYS = ("poses", "smpl_poses"), ("trans", "smpl_trans", "translation")
_FPS_KEYS = ("fps", "mocap_framerate", "mocap_frame_rate")
_OTHER_KEYS = ("genre", "smpl_scaling", "metadata")


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
        MotionError: shapes disagree, no frames, numbers that are not finite, fps not positive.
    """

    poses: np.ndarray
    translation: np.ndarray
    fps: float = 30.0
    genre: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.poses = _float_array("poses", self.poses)
        self.translation = _float_array("translation", self.translation)
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
        for name in ("poses", "translation"):
            bad = ~np.isfinite(getattr(self, name)).reshape(len(self.poses), -1).all(-1)
            if bad.any():
                raise MotionError(
                    f"{name} has NaN or infinite numbers in {int(bad.sum())} frames, the first is {int(bad.argmax())}: "
                    "repair or cut those frames"
                )
        self.fps = float(self.fps)
        if not (np.isfinite(self.fps) and self.fps > 0):
            raise MotionError(f"fps={self.fps!r}: give a positive number of frames per second")

    def __len__(self) -> int:
        return len(self.poses)

    def __repr__(self) -> str:
        genre = f", genre={self.genre!r}" if self.genre else ""
        return f"Motion({len(self)} frames, {self.seconds:.2f} s at {self.fps:g} fps{genre})"

    @property
    def seconds(self) -> float:
        """Duration: frames / fps."""
        return len(self) / self.fps

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

        if not (np.isfinite(fps) and fps > 0):
            raise MotionError(f"fps={fps!r}: give a positive number of frames per second")
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

        `.npz` AMASS-like poses; `.pkl` the same for tools that want one; `.bvh` for Blender and other animation tools;
        `.glb` an animated figure for any glTF viewer; `.vrma` the dance for VRM avatars; `.joints.npz`, `.json` joint
        positions; `.mp4` a video. `music` is what a video sounds like (a path, bytes or (waveform, rate)); other formats
        ignore it. `body="smooth"` shows a human figure instead of the mannequin (`.glb`, `.mp4`).
        `options` go to the writer (see `megadance_hf.export`, `megadance_hf.render`).

        Raises:
            MotionError: unknown suffix, or a folder that does not exist or cannot be written to.
        """
        path = Path(path)
        suffix = check_output(path)
        module, name = _WRITERS[suffix]
        writer = getattr(importlib.import_module(module, __package__), name)
        if suffix == ".mp4":
            options["music"] = music
        writer(self, path, **options)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike, fps: float | None = None) -> Motion:
        """Read a `.npz` or `.pkl`: this package's own, AIST++'s, AMASS', or any with `poses`/`smpl_poses` and
        `trans`/`smpl_trans`.

        AIST++ paths are divided by their `smpl_scaling`. Poses of SMPL-H or SMPL-X (156 or 165 columns: AMASS) keep the
        22 body joints, with hands at rest, and are turned from their Z up to Y up. Paths are taken as stored: where the
        SMPL *model* was moved rather than the pelvis, they are off by its rest pelvis (about 0.22 m in height), which
        `grounded()` cures.

        Args:
            path: the file. A pickle may hold only numpy arrays and plain containers; anything else is refused, unrun.
            fps: frame rate, if the file does not say or is wrong. Without either: 60 for AIST++, 30 for others.

        Raises:
            MotionError: no such file, another format, not readable, a pickle with code, keys or shapes missing.
        """
        path = Path(path)
        if not path.is_file():
            raise MotionError(f"path={str(path)!r}: no such file; give a .npz or .pkl with a motion")
        if path.suffix.lower() == ".npz":
            content = _read_npz(path)
        elif path.suffix.lower() in (".pkl", ".pickle"):
            content = _read_pickle(path)
        else:
            raise MotionError(
                f"path={str(path)!r}: motions are read from .npz and .pkl, not {path.suffix or 'no suffix'!r}"
            )
        try:
            return cls._from_content(content, fps)
        except (MotionError, TypeError) as error:
            raise MotionError(f"path={str(path)!r}: {error}") from None

    @classmethod
    def _from_content(cls, content: dict[str, Any], fps: float | None) -> Motion:
        poses = _first(content, _POSE_KEYS)
        translation = _first(content, _TRANSLATION_KEYS)
        if poses is None or translation is None:
            raise MotionError(
                f"a motion needs one of {_POSE_KEYS} and one of {_TRANSLATION_KEYS}; "
                f"here is {', '.join(sorted(map(str, content))) or 'nothing'}"
            )
        poses, translation = _float_array("poses", poses), _float_array("translation", translation)
        frames = len(poses) if poses.ndim else 0
        if poses.ndim == 2 and poses.shape[1] in (156, 165):
            if translation.shape != (frames, 3):
                raise MotionError(f"poses has shape {poses.shape} but translation {translation.shape}")
            poses, translation = _from_smplh_z_up(poses, translation)
        if (scaling := content.get("smpl_scaling")) is not None:
            translation = translation / np.float32(np.asarray(scaling).reshape(-1)[0])
        if fps is None:
            stored = _first(content, _FPS_KEYS)
            default = 60.0 if scaling is not None else 30.0
            fps = default if stored is None else float(np.asarray(stored).reshape(-1)[0])
        genre = content.get("genre")
        genre = None if genre is None else str(np.asarray(genre)) or None
        metadata = content.get("metadata")
        if isinstance(metadata, np.ndarray):  # .npz keeps it as JSON
            metadata = json.loads(str(metadata) or "{}")
        return cls(poses, translation, fps=fps, genre=genre, metadata=dict(metadata or {}))

    def _with(self, poses: np.ndarray, translation: np.ndarray) -> Motion:
        return Motion(poses, translation, fps=self.fps, genre=self.genre, metadata=dict(self.metadata))


def check_output(path: str | os.PathLike) -> str:
    """The suffix by which `Motion.save(path)` will choose its writer; raises `MotionError` if it could not write there.

    Ask before a long computation, not after.
    """
    path = Path(path)
    name = path.name.lower()
    suffix = max((known for known in KNOWN_SUFFIXES if name.endswith(known)), key=len, default=None)
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


def _float_array(name: str, value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().float().numpy()
    try:
        return np.ascontiguousarray(value, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise MotionError(f"{name} is not an array of numbers: {error}") from None


def _first(content: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((content[key] for key in keys if content.get(key) is not None), None)


def _from_smplh_z_up(poses: np.ndarray, translation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AMASS (frames, 156 or 165), Z up -> SMPL poses (frames, 72) and translation (frames, 3), Y up."""
    from scipy.spatial.transform import Rotation

    body = np.zeros((len(poses), 72), np.float32)
    body[:, :66] = poses[:, :66]
    turn = Rotation.from_euler("x", -90, degrees=True)
    body[:, :3] = (turn * Rotation.from_rotvec(body[:, :3])).as_rotvec()
    return body, turn.apply(translation).astype(np.float32)


def _read_npz(path: Path) -> dict[str, Any]:
    wanted = (*_POSE_KEYS, *_TRANSLATION_KEYS, *_FPS_KEYS, *_OTHER_KEYS)
    try:
        with np.load(path, allow_pickle=False) as archive:
            # Only what is needed: real AMASS files hold members that are slow or, as objects, refused.
            found = {key: archive[key] for key in wanted if key in archive.files}
            return found or dict.fromkeys(archive.files)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, TypeError, AttributeError) as error:
        raise MotionError(f"path={str(path)!r} is not a readable .npz ({type(error).__name__}: {error})") from None


class _PlainUnpickler(pickle.Unpickler):
    """Reads numpy arrays and plain containers. A pickle is a program: every other name it asks for is refused."""

    def find_class(self, module: str, name: str) -> Any:
        owner = module.replace("numpy._core", "numpy.core")  # numpy 2 and 1 write different names
        if (owner, name) in _PLAIN_GLOBALS:
            return _PLAIN_GLOBALS[owner, name]()
        raise pickle.UnpicklingError(
            f"it asks for {module}.{name}, only numpy arrays and plain containers are admitted"
        )


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


def _numpy_internal(module: str, name: str) -> Callable[[], Any]:
    return lambda: getattr(importlib.import_module(module), name)


_CORE = "numpy._core" if hasattr(np, "_core") else "numpy.core"
_PLAIN_GLOBALS: dict[tuple[str, str], Callable[[], Any]] = {
    ("numpy", "ndarray"): lambda: np.ndarray,
    ("numpy", "dtype"): lambda: np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _numpy_internal(f"{_CORE}.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"): _numpy_internal(f"{_CORE}.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"): _numpy_internal(f"{_CORE}.numeric", "_frombuffer"),
    ("_codecs", "encode"): lambda: _latin1,  # how old protocols write bytes
}


def _read_pickle(path: Path) -> dict[str, Any]:
    try:
        content = _PlainUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except Exception as error:  # broken pickles raise nearly anything: IndexError, KeyError, struct.error, ...
        raise MotionError(
            f"path={str(path)!r} is not a readable pickle of arrays ({type(error).__name__}: {error})"
        ) from None
    if not isinstance(content, dict):
        raise MotionError(
            f"path={str(path)!r}: the pickle holds a {type(content).__name__}, a dict of arrays is needed"
        )
    return content
