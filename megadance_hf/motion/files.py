"""Readers of motion files, ours and other tools', by suffix.

`.npz`, `.pkl` and `.json` hold named arrays, `.npy` one array: `layouts.py` says what their numbers mean. Joint positions and the
bones of a `.bvh` become SMPL poses in `skeletons.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from megadance_hf.modeling.errors_megadance import reading
from megadance_hf.modeling.kinematics_megadance import JOINT_NAMES, NUM_JOINTS

from . import finedance, layouts, skeletons, up_axis
from .layouts import LoadedMotion
from .safe_files import load_npy, load_npz, load_pickle, names_of_npz

MAX_TEXT = 128 << 20  # bytes of a .bvh or .json, which take about ten times as much memory
MOTIONX_COLUMNS = 322
_JOINT_COUNTS = (layouts.BODY_JOINTS, NUM_JOINTS)


def read_motion(path: str | os.PathLike, fps: float | None, up: str | None, error: type[ValueError]) -> LoadedMotion:
    """The motion in a file, see `Motion.load`; every failure is raised as an `error` with a message of one line."""
    path = Path(path)
    name = path.name.lower()
    reader = next((reader for suffix, reader in _READERS.items() if name.endswith(suffix)), None)
    if reader is None:
        known = ", ".join(_READERS)
        raise error(f"path={str(path)!r}: motions are read from {known}, not {path.suffix or 'no suffix'!r}")
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "no such file"
        raise error(f"path={str(path)!r}: {problem}; give a file with a motion ({', '.join(_READERS)})")
    with reading(path, "give a whole file with a motion", error):
        try:
            fps = None if fps is None else layouts.check_rate("fps", fps)
            up = None if up is None else up_axis.check_up(up)
            return reader(path, fps, up)
        except layouts.LayoutError as cause:
            raise error(f"path={str(path)!r}: {cause}") from None


# --- named arrays ----------------------------------------------------------------------------------------------------


def _read_npz(path: Path, fps: float | None, up: str | None) -> LoadedMotion:
    names = names_of_npz(path)
    # The other names only tell the layout; their arrays may be broken, or hold objects, as in AMASS.
    wanted = {name for name in names if layouts.is_relevant_key(name)}
    return _from_content(dict.fromkeys(names) | load_npz(path, wanted), fps, up)


def _read_pickle(path: Path, fps: float | None, up: str | None) -> LoadedMotion:
    content = load_pickle(path)
    return _from_array(content, fps, up) if isinstance(content, np.ndarray) else _from_content(content, fps, up)


def _read_json(path: Path, fps: float | None, up: str | None) -> LoadedMotion:
    return _from_content(json.loads(_text(path)), fps, up)


def _read_npy(path: Path, fps: float | None, up: str | None) -> LoadedMotion:
    with path.open("rb") as file:
        start = file.read(200)
    if b"'O'" in start or b"'|O" in start:  # a dictionary, pickled by numpy.save
        return _read_pickle(path, fps, up)
    return _from_array(load_npy(path), fps, up)


def _from_content(content: Any, fps: float | None, up: str | None) -> LoadedMotion:
    if not isinstance(content, Mapping):
        raise layouts.LayoutError(f"it holds a {type(content).__name__}; a dictionary of arrays is needed")
    content = {str(key): value for key, value in content.items()}
    lower = {key.lower(): key for key, value in content.items() if value is not None}
    if "joints" in lower and not layouts.has_poses(content):
        motion = _from_joints(content, lower, fps, up)
    else:
        motion = layouts.interpret(content, fps, up)
    motion.genre = layouts.check_genre(content.get("genre"))
    motion.metadata = _metadata(content.get("metadata"))
    return motion


def _metadata(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):  # .npz stores it as JSON
        text = str(np.asarray(value)) if np.asarray(value).dtype.kind in "US" else None
        try:
            value = json.loads(text or "{}") if text is not None else None
        except (ValueError, RecursionError):
            value = None
    if not isinstance(value, Mapping):
        raise layouts.LayoutError("metadata holds no JSON object: leave it out, or make the file again")
    return dict(value)


# --- one array ---------------------------------------------------------------------------------------------------------


def _from_array(array: np.ndarray, fps: float | None, up: str | None) -> LoadedMotion:
    """FineDance's and Motion-X' columns; joint positions, if the bones keep their lengths."""
    array = layouts.real_array("the array", array)
    if array.ndim == 2 and array.shape[1] in finedance.LAYOUTS:
        layouts.check_numbers("the array", array, layouts.MAX_DISTANCE, "metres")
        poses, translation = finedance.to_smpl(array, "the array")
        return layouts.standardise(poses.reshape(-1, NUM_JOINTS, 3), translation, layouts.FINEDANCE, None, fps, up)
    if array.ndim == 2 and array.shape[1] == MOTIONX_COLUMNS:
        notes: list[str] = []
        poses = np.zeros((len(array), layouts.SMPLX_JOINTS, 3), array.dtype)  # jaw, eyes and hands are left out
        poses[:, : layouts.BODY_JOINTS] = array[:, : 3 * layouts.BODY_JOINTS].reshape(len(array), -1, 3)
        body = layouts.to_smpl(poses, layouts.MOTIONX, notes)
        return layouts.standardise(body, array[:, 309:312], layouts.MOTIONX, None, fps, up)
    if array.ndim == 2 and array.shape[1] in [3 * count for count in _JOINT_COUNTS]:
        array = array.reshape(len(array), -1, 3)
    if array.ndim == 3 and array.shape[1] in _JOINT_COUNTS and array.shape[2] == 3:
        layouts.check_numbers("the array", array, layouts.MAX_DISTANCE, "metres")
        if not skeletons.keeps_lengths(array):
            raise layouts.LayoutError(
                f"its array has shape {array.shape} and no positions of joints (the bones change their lengths): if these "
                "are poses, store them with a translation in a .npz, poses=..., trans=..., fps=..."
            )
        fit = skeletons.from_positions(dict(zip(JOINT_NAMES, array.transpose(1, 0, 2), strict=False)), up)
        return _standardised("joints", fit, None, fps, False)
    columns = ", ".join(map(str, [*finedance.LAYOUTS, MOTIONX_COLUMNS]))
    raise layouts.LayoutError(
        f"its array has shape {array.shape}: known are (frames, columns) with {columns} columns (FineDance, Motion-X) and "
        "positions of joints (frames, 22 or 24, 3); store poses with a translation in a .npz, poses=..., trans=..., fps=..."
    )


# --- joint positions -------------------------------------------------------------------------------------------------


def _from_joints(
    content: Mapping[str, Any], lower: Mapping[str, str], fps: float | None, up: str | None
) -> LoadedMotion:
    positions = layouts.real_array("joints", content[lower["joints"]])
    if positions.ndim != 3 or positions.shape[2] != 3 or not len(positions):
        raise layouts.LayoutError(f"joints has shape {positions.shape}: give positions (frames, joints, 3)")
    layouts.check_numbers("joints", positions, layouts.MAX_DISTANCE * 100, "metres or centimetres")
    names = content.get(lower.get("joint_names", ""), JOINT_NAMES if positions.shape[1] in _JOINT_COUNTS else None)
    if names is None:
        raise layouts.LayoutError(f"joints has {positions.shape[1]} joints and joint_names does not say which: add it")
    names = [str(name) for name in np.asarray(names).reshape(-1)]
    if "joint_names" in lower and len(names) != positions.shape[1]:
        raise layouts.LayoutError(f"joint_names has {len(names)} names, joints {positions.shape[1]} joints")
    ours = "joint_names" in lower and names == list(JOINT_NAMES) and skeletons.is_our_skeleton(positions)
    stored = None if fps is not None else layouts.stored_rate(content)
    joints = dict(zip(names, positions.transpose(1, 0, 2), strict=False))
    return _standardised(
        "joints", skeletons.from_positions(joints, "y" if ours and up is None else up), stored, fps, ours
    )


def _standardised(name: str, fit: skeletons.Fit, stored: float | None, fps: float | None, floor: bool) -> LoadedMotion:
    """A fit, which is Y up already, as a motion; `floor`: whether its floor is at y = 0."""
    layout = layouts.Layout(name, lambda signature: False, (0.0, 0.0, 0.0), "y", floor=floor)
    motion = layouts.standardise(fit.poses, fit.translation, layout, stored, fps, "y")
    motion.notes[:0] = fit.notes
    return motion


# --- bones ---------------------------------------------------------------------------------------------------------------


def _read_bvh(path: Path, fps: float | None, up: str | None) -> LoadedMotion:
    bvh = skeletons.parse_bvh(_text(path))
    stored = None
    if fps is None:
        if not bvh.seconds > 0:
            raise layouts.LayoutError(f"Frame Time is {bvh.seconds:g}: give the frame rate, fps=")
        stored = layouts.check_rate("1 / Frame Time", round(1 / bvh.seconds, 4))
    fit = skeletons.from_bvh(bvh, up)
    return _standardised("BVH", fit, stored, fps, fit.exact)


def _text(path: Path) -> str:
    if path.stat().st_size > MAX_TEXT:
        raise layouts.LayoutError(f"it has {path.stat().st_size} bytes, the limit is {MAX_TEXT}: cut it into pieces")
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


_READERS: dict[str, Callable[[Path, float | None, str | None], LoadedMotion]] = {
    ".npz": _read_npz,
    ".pkl": _read_pickle,
    ".pickle": _read_pickle,
    ".npy": _read_npy,
    ".json": _read_json,
    ".bvh": _read_bvh,
}
