"""The layouts of motion files: which body model they pose, what the translation refers to, which axis is up, where the floor is.

Dance code, capture archives and video trackers all store "SMPL poses and a translation", with different meanings. `LAYOUTS` says
what each of them means and how its keys and shapes tell it apart. What the motion itself shows is measured instead: the up axis,
which carries the head above the feet, and the height of the floor.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from megadance_hf.modeling.errors_megadance import short
from megadance_hf.modeling.kinematics_megadance import JOINT_INDEX, NUM_JOINTS

from .up_axis import (
    FLOOR_TOLERANCE,
    NO_UP_AXIS,
    LayoutError,
    _floor_at_zero,
    axis_label,
    check_up,
    detect_up_axis,
    floor_height,
    sampled_joints,
    to_y_up,
    y_up_rotation,
)

# Rest position of the pelvis joint in each body model of mean shape, metres. SMPL and its successors rotate the body about this
# point and then add the translation, so that the pelvis is at rest + translation. Computed by the models themselves (smplx:
# `J_regressor @ v_template`).
SMPL_PELVIS = (-0.00217368, -0.24078917, 0.02858379)  # SMPL and SMPL-H
SMPLX_PELVIS = (0.00312326, -0.35140747, 0.01203655)
# The joints before SMPL's two hands, which all body models share.
BODY_JOINTS = JOINT_INDEX["left_hand"]
SMPLH_JOINTS, SMPLX_JOINTS = 52, 55
# Body models by their number of joints.
MODELS = {BODY_JOINTS: "SMPL body", NUM_JOINTS: "SMPL", SMPLH_JOINTS: "SMPL-H", SMPLX_JOINTS: "SMPL-X"}
MIDDLE_FINGERS = {SMPLH_JOINTS: (25, 40), SMPLX_JOINTS: (28, 43)}  # their first joints, left and right

MAX_ANGLE = 100.0  # radians: sixteen full turns
MAX_BEND = 6 * np.pi  # radians, median over the frames of the largest angle: in degrees, hanging arms alone have 60
MAX_DISTANCE = 1e4  # metres
MAX_SPEED = 12.0  # metres per second on average: the fastest sprinters
MIN_FPS, MAX_FPS = 1.0, 1000.0
MAX_FRAMES = 500_000  # four and a half hours at 30 fps
DEFAULT_FPS = 30.0
MAX_GENRE = 100  # characters


class UncertainNote(str):
    """A note about an assumption that may well be wrong: `Motion.load` warns of it."""


# --- layouts -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Signature:
    """What tells layouts apart: lower-case keys, number of joints, whether root and body rotations are separate arrays."""

    keys: frozenset[str]
    joints: int
    parts: bool = False


@dataclass(frozen=True)
class Layout:
    """What the numbers of one kind of file mean.

    Attributes:
        name: for notes and messages.
        matches: whether a file with this signature has the layout; the first one that matches is taken.
        pelvis: offset from the translation to the pelvis joint: a model's rest pelvis, or zeros where the translation is that of the
            pelvis. None where tools differ: whichever puts the feet on the floor, else zeros (the difference is constant).
        up: the up axis, where the motion itself does not show it; None if unknown.
        fps: where the file does not say; None if unknown.
        floor: whether the floor is at y = 0 (with Y up).
        hands: whether SMPL's hands take the rotations of the middle fingers; otherwise they stay at rest.
        scaled: whether the translation has to be divided by `smpl_scaling`.
    """

    name: str
    matches: Callable[[Signature], bool]
    pelvis: tuple[float, float, float] | None = None
    up: str | None = None
    fps: float | None = None
    floor: bool = False
    hands: bool = False
    scaled: bool = False


_ZERO = (0.0, 0.0, 0.0)
_SMPL_COUNTS = (BODY_JOINTS, NUM_JOINTS)
_OURS = {"metadata", "genre", "fps"}
_AMASS_X = {"surface_model_type", "mocap_time_length", "markers_latent", "num_betas"}
_SMPLX_PARTS = {"jaw_pose", "pose_jaw", "leye_pose", "pose_eye", "left_hand_pose", "pose_hand", "expression"}

LAYOUTS = (
    # What Motion.save writes; see megadance_hf/export/poses.py.
    Layout("megadance", lambda s: s.keys >= _OURS and s.joints == NUM_JOINTS, _ZERO, "y", floor=True),
    Layout(
        "megadance SMPL-X",
        lambda s: s.keys >= _OURS and s.joints == SMPLX_JOINTS,
        SMPLX_PELVIS,
        "z",
        floor=True,
        hands=True,
    ),
    # Li et al. 2021: smpl(poses) * scaling + trans, 60 fps, Y up. The cameras' calibration puts the floor about a metre below the
    # origin. https://github.com/google/aistplusplus_api
    Layout(
        "AIST++", lambda s: "smpl_scaling" in s.keys and s.joints == NUM_JOINTS, SMPL_PELVIS, "y", 60.0, scaled=True
    ),
    # EDGE (Tseng et al. 2023) rotates AIST++ to Z up, divides by the scaling, and stores the translation of the pelvis; POPDG (Luo et
    # al. 2024) builds on its code. `full_pose` holds joint positions. https://github.com/Stanford-TML/EDGE
    Layout("EDGE", lambda s: {"full_pose", "smpl_poses"} <= s.keys and s.joints == NUM_JOINTS, _ZERO, "z", 30.0),
    # MEGADance's and Bailando's preprocessing renames the translations of AIST++ and FineDance, whatever they refer to.
    Layout("smpl_poses and smpl_trans", lambda s: "smpl_poses" in s.keys and s.joints in _SMPL_COUNTS),
    # Mahmood et al. 2019: SMPL-H, and later SMPL-X, Z up, the floor mostly at 0. https://amass.is.tue.mpg.de
    Layout("AMASS", lambda s: s.joints == SMPLH_JOINTS and not s.parts, SMPL_PELVIS, "z"),
    Layout("AMASS, SMPL-X", lambda s: s.joints == SMPLX_JOINTS and bool(_AMASS_X & s.keys), SMPLX_PELVIS, "z"),
    # Liu et al. 2024 (EMAGE): SMPL-X with 100 expressions, Y up, 30 fps. https://github.com/PantoMatrix/PantoMatrix
    Layout("BEAT2", lambda s: s.joints == SMPLX_JOINTS and "expressions" in s.keys, SMPLX_PELVIS, "y", 30.0),
    Layout("SMPL-X poses", lambda s: s.joints == SMPLX_JOINTS, SMPLX_PELVIS),
    # 72 or 66 of AMASS' 156 columns: in the place of SMPL's hands are then two joints of the left index finger.
    Layout(
        "AMASS, cut", lambda s: s.joints in _SMPL_COUNTS and {"mocap_framerate", "gender"} <= s.keys, SMPL_PELVIS, "z"
    ),
    # Arguments of smplx' forward, and of AMASS' body models: root_orient, pose_body, pose_hand.
    Layout("SMPL-X parts", lambda s: s.parts and bool(_SMPLX_PARTS & s.keys), SMPLX_PELVIS),
    Layout("SMPL parts", lambda s: s.parts, SMPL_PELVIS),
    Layout("SMPL poses", lambda s: s.joints in _SMPL_COUNTS),
    Layout("SMPL-H poses", lambda s: s.joints == SMPLH_JOINTS, SMPL_PELVIS),
)
# Files without keys, by their number of columns. FineDance (Li et al. 2023) was retargeted to SMPL-X; Y up, 30 fps. Motion-X
# (Lin et al. 2023) has 322 columns: root 3, body 63, hands 90, jaw 3, face 50 and 100, translation 3, shape 10; Y up, 30 fps.
FINEDANCE = Layout("FineDance", lambda s: False, SMPLX_PELVIS, "y", 30.0, hands=True)
MOTIONX = Layout("Motion-X", lambda s: False, SMPLX_PELVIS, "y", 30.0)


@dataclass
class LoadedMotion:
    """The fields of a `Motion` (poses (T, 24, 3); pelvis translation (T, 3), metres, Y up), and notes on what was changed or assumed."""

    poses: np.ndarray
    translation: np.ndarray
    fps: float
    notes: list[str] = field(default_factory=list)
    genre: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


def standardise(
    poses: np.ndarray,
    translation: np.ndarray,
    layout: Layout,
    stored_fps: float | None = None,
    fps: float | None = None,
    up: str | None = None,
) -> LoadedMotion:
    """Bring poses (T, 24, 3) and a translation (T, 3) of a layout to our conventions.

    Args:
        stored_fps: frame rate in the file, if any.
        fps, up: given by the user, which take precedence.

    Raises:
        LayoutError: too many frames, numbers that are not finite or out of range, or an up axis that cannot be detected.
    """
    notes: list[str] = []
    if len(poses) > MAX_FRAMES:
        raise LayoutError(f"it has {len(poses)} frames, the limit is {MAX_FRAMES}: cut it into pieces")
    check_numbers("poses", poses, MAX_ANGLE, "radians: are these degrees?")
    check_numbers("translation", translation, MAX_DISTANCE, "metres")
    if not layout.floor and (bend := float(np.median(np.abs(poses[:, 1:]).max(axis=(1, 2))))) > MAX_BEND:
        raise LayoutError(
            f"poses bend joints by {bend:.3g} in half of the frames, which cannot be radians: give np.radians(poses)"
        )
    rate = _rate(layout, stored_fps, fps, notes)
    pelvis = np.array(layout.pelvis or _ZERO)
    if pelvis.any():
        translation = translation + pelvis
    axis = "y"
    if not layout.floor or up is not None or layout.up != "y":
        joints = sampled_joints(poses, translation)
        axis = _choose_up_axis(joints, layout, up, notes)
        poses, translation = to_y_up(poses, translation, axis)
    if not layout.floor:
        height = floor_height(joints @ y_up_rotation(axis).T)
        if layout.pelvis is None and abs(height) > FLOOR_TOLERANCE >= abs(height + SMPL_PELVIS[1]):
            # the translation is the pelvis' or the body model's: whichever puts the feet on the floor
            translation, height = translation + np.array(SMPL_PELVIS), height + SMPL_PELVIS[1]
            notes.append("its translation is that of the body model: moved to the pelvis")
        translation, moved = _floor_at_zero(translation, height)
        notes += moved
        notes += _speed_notes(translation, rate)
    return LoadedMotion(poses, translation, rate, notes)


def check_numbers(name: str, values: np.ndarray, limit: float, unit: str) -> None:
    """Raises LayoutError unless all numbers (T, ...) are finite and within +-limit."""
    flat = values.reshape(len(values), -1)
    if (bad := ~np.isfinite(flat).all(1)).any():
        raise LayoutError(
            f"{name} has NaN or infinite numbers in {int(bad.sum())} frames, the first is {int(bad.argmax())}: "
            "repair or cut those frames"
        )
    if len(flat) and (most := float(np.abs(flat).max())) > limit:
        raise LayoutError(
            f"{name} has {most:.3g} in frame {int(np.abs(flat).max(1).argmax())}, the limit is {limit:g} {unit}"
        )


def _rate(layout: Layout, stored: float | None, given: float | None, notes: list[str]) -> float:
    if given is not None or stored is not None:
        return stored if given is None else given
    if layout.fps is not None:
        notes.append(f"no frame rate in the file: {layout.fps:g} fps, that of {layout.name}")
        return layout.fps
    notes.append(UncertainNote(f"no frame rate in the file: {DEFAULT_FPS:g} fps assumed"))
    return DEFAULT_FPS


def _choose_up_axis(joints: np.ndarray, layout: Layout, given: str | None, notes: list[str]) -> str:
    if given is not None:
        axis, why = check_up(given), "as told"
    elif layout.floor and layout.up is not None:
        axis, why = layout.up, None
    elif (detected := detect_up_axis(joints)) is not None:
        axis, why = detected, "that is where the head is above the feet"
        if axis == "y" and layout.up not in (None, "y"):
            notes.append(f"Y is up already, although {layout.name} has {axis_label(layout.up)} up")
    elif layout.up is not None:
        axis, why = layout.up, f"as {layout.name} has it; the motion itself does not show it"
    else:
        raise LayoutError(NO_UP_AXIS)
    if axis != "y" and why is not None:
        notes.append(f"turned from {axis_label(axis)} up to Y up: {why}")
    return axis


def _speed_notes(translation: np.ndarray, fps: float) -> list[str]:
    speed = float(np.linalg.norm(np.diff(translation, axis=0), axis=1).mean() * fps) if len(translation) > 1 else 0.0
    if speed <= MAX_SPEED:
        return []
    return [
        UncertainNote(
            f"it moves at {speed:.3g} m/s on average, faster than anybody runs: check that its translation is in metres and its rate right"
        )
    ]


# --- from keys and shapes ------------------------------------------------------------------------------------------

_PREFIXES = ("smplx_", "smplh_", "smpl_")
_POSES = ("poses", "pose", "fullpose", "pose_aa", "thetas")
_ROOT = ("global_orient", "root_orient", "root_pose")
_BODY = ("body_pose", "pose_body")
_TRANSLATION = ("trans", "transl", "translation", "root_trans", "root_transl", "root_translation", "root_trans_offset")
_OTHER_KEYS = ("smpl_scaling", "genre", "metadata", "joints", "joint_names")
# How the end of a key tells the representation of its rotations.
_ENDINGS = {
    "6d": ("rotation_6d", "rot6d", "6d"),
    "quaternion": ("quaternions", "quaternion", "quats", "quat"),
    "wxyz": ("wxyz",),
    "xyzw": ("xyzw",),
    "matrix": ("rotmats", "rotmat", "matrices", "matrix"),
    "axis-angle": ("axis_angle", "aa"),
}
_KINDS = {ending: kind for kind, endings in _ENDINGS.items() for ending in endings}
_SIZES = {"axis-angle": 3, "quaternion": 4, "wxyz": 4, "xyzw": 4, "6d": 6, "matrix": 9}


def interpret(content: Mapping[Any, Any], fps: float | None = None, up: str | None = None) -> LoadedMotion:
    """The motion in the keys and arrays of a file; see `LAYOUTS`.

    Raises:
        LayoutError: keys or shapes that no layout has, or values that are not numbers, not finite or out of range.
    """
    content = _motion_in(content)
    names = {str(key).lower(): key for key, value in content.items() if value is not None}
    poses_key, root_key, body_key, translation_key = (
        _find_key(names, wanted) for wanted in (_POSES, _ROOT, _BODY, _TRANSLATION)
    )
    parts = poses_key is None
    if translation_key is None or (parts and (root_key is None or body_key is None)):
        known = ", ".join(layout.name for layout in LAYOUTS)
        missing = [
            "poses (or body_pose with global_orient)" if parts and body_key is None else "",
            "global_orient" if parts and body_key is not None and root_key is None else "",
            "trans (or transl, translation)" if translation_key is None else "",
        ]
        raise LayoutError(
            f"it has no {' and no '.join(filter(None, missing))}, only {_key_list(content)}; known layouts: {known}"
        )
    if parts:
        root = _rotations(root_key, content[names[root_key]], single=True)
        body = _rotations(body_key, content[names[body_key]])
        if root.shape[1] != 1 or body.shape[1] + 1 not in _SMPL_COUNTS or len(root) != len(body):
            raise LayoutError(
                f"{root_key} has {root.shape[:2]} rotations and {body_key} {body.shape[:2]}: "
                "(frames, 1) and (frames, 21 or 23) are needed"
            )
        poses = np.concatenate([root, body], axis=1)
    else:
        poses = _rotations(poses_key, content[names[poses_key]])
        if poses.shape[1] not in MODELS:
            known = ", ".join(f"{count} ({model})" for count, model in MODELS.items())
            shape = np.shape(content[names[poses_key]])
            raise LayoutError(f"{poses_key} has shape {shape}, {poses.shape[1]} joints: known are {known}")
    _check_duplicates(content, names, (_POSES, _ROOT, _BODY, _TRANSLATION))
    translation = real_array(translation_key, content[names[translation_key]])
    if translation.ndim == 3 and 1 in translation.shape[:2]:
        translation = translation.reshape(-1, translation.shape[-1])
    if translation.shape != (len(poses), 3):
        key = poses_key or body_key
        raise LayoutError(
            f"{translation_key} has shape {translation.shape}, {key} has {len(poses)} frames: one (x, y, z) per frame is needed"
        )
    if not len(poses):
        raise LayoutError(f"{poses_key or body_key} has no frames")
    signature = Signature(frozenset(str(key).lower() for key in content), poses.shape[1], parts)
    layout = next(layout for layout in LAYOUTS if layout.matches(signature))
    if layout.scaled:
        translation = translation / check_scaling(content[names["smpl_scaling"]])
    notes: list[str] = []
    body = to_smpl(poses, layout, notes)
    stored = None if fps is not None else stored_rate(content)
    motion = standardise(body, translation, layout, stored, fps, up)
    motion.notes[:0] = notes
    return motion


def to_smpl(poses: np.ndarray, layout: Layout, notes: list[str]) -> np.ndarray:
    """Axis-angle poses of any of `MODELS` -> (T, 24, 3), with a note if fingers and face are left out."""
    count = poses.shape[1]
    if count == NUM_JOINTS and layout.name != "AMASS, cut":
        return poses
    body = np.zeros((len(poses), NUM_JOINTS, 3), poses.dtype)
    body[:, :BODY_JOINTS] = poses[:, :BODY_JOINTS]
    if layout.hands and count in MIDDLE_FINGERS:
        body[:, BODY_JOINTS:] = poses[:, MIDDLE_FINGERS[count]]
    elif poses[:, BODY_JOINTS:].any():
        notes.append("hands at rest: fingers and face are left out")
    return body


def check_scaling(value: Any) -> float:
    """`smpl_scaling` of AIST++: one number above 0."""
    scaling = real_array("smpl_scaling", value).reshape(-1)
    if scaling.size != 1 or not np.isfinite(scaling[0]) or not 1e-3 <= scaling[0] <= 1e6:
        raise LayoutError(f"smpl_scaling is {scaling.tolist()[:4]}: one number above 0 is needed, 90 to 100 as a rule")
    return float(scaling[0])


def stored_rate(content: Mapping[Any, Any]) -> float | None:
    """The frame rate under any key (fps, framerate, frame_rate, mocap_*, or the seconds per frame); None without one."""
    rates: dict[str, float] = {}
    for key, value in content.items():
        name = _alphanumeric(key)
        if value is None:
            continue
        if _is_rate(name):
            rates[str(key)] = check_rate(str(key), value)
        elif name in _FRAME_TIMES:
            seconds = _one_number(str(key), value, "the seconds per frame")
            rates[str(key)] = check_rate(f"1 / {key}", 1 / seconds if seconds else float("inf"))
    if rates and max(rates.values()) > 1.001 * min(rates.values()):
        listed = ", ".join(f"{key} {rate:g}" for key, rate in rates.items())
        raise LayoutError(f"its frame rates differ ({listed}): give the right one, fps=")
    return next(iter(rates.values()), None)


_FRAME_TIMES = ("frametime", "secondsperframe")


def _alphanumeric(key: Any) -> str:
    return "".join(letter for letter in str(key).lower() if letter.isalnum())


def _is_rate(name: str) -> bool:
    of_frames = name.endswith("fps") or "framerate" in name or "framespersecond" in name
    return of_frames and "audio" not in name and "music" not in name


def is_relevant_key(key: str) -> bool:
    """Whether `interpret` uses the value of a key; of the others only their presence matters."""
    names, letters = {key.lower(): key}, _alphanumeric(key)
    arrays = any(_find_key(names, wanted) for wanted in (_POSES, _ROOT, _BODY, _TRANSLATION))
    return arrays or _is_rate(letters) or letters in _FRAME_TIMES or key.lower() in _OTHER_KEYS


def check_rate(name: str, value: Any) -> float:
    """Frames per second as a float from `MIN_FPS` to `MAX_FPS`; raises LayoutError for anything else."""
    rate = _one_number(name, value, "frames per second")
    if not MIN_FPS <= rate <= MAX_FPS:
        raise LayoutError(f"{name}={rate!r}: give frames per second from {MIN_FPS:g} to {MAX_FPS:g}")
    return rate


def _one_number(name: str, value: Any, meaning: str) -> float:
    try:
        array = np.asarray(value)
        if array.size != 1 or array.dtype.kind not in "fiuSU":
            raise ValueError
        return float(array.reshape(-1)[0])
    except (TypeError, ValueError, OverflowError):
        raise LayoutError(f"{name}={str(value)[:60]!r}: give one number, {meaning}") from None


def real_array(name: str, value: Any) -> np.ndarray:
    """`value` as an array of real numbers, float32 or float64; raises LayoutError if it is none."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.float().numpy() if value.dtype == torch.bfloat16 else value.numpy()
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise LayoutError(f"{name} is not an array of numbers: {error}") from None
    if array.dtype.kind not in "fiu":
        kinds = {"c": "complex numbers", "b": "true and false", "U": "text", "S": "text"}
        what = kinds.get(array.dtype.kind, "objects, or rows of different lengths")
        raise LayoutError(f"{name} is not an array of numbers: it holds {what}")
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


def has_poses(content: Mapping[Any, Any]) -> bool:
    """Whether any key names poses."""
    names = {str(key).lower(): key for key, value in content.items() if value is not None}
    return _find_key(names, _POSES) is not None or _find_key(names, _BODY) is not None


def check_genre(value: Any) -> str | None:
    """The name of a genre, at most `MAX_GENRE` printable characters; None for none. Raises LayoutError for anything else."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if value is None or (isinstance(value, str) and not value):
        return None
    value = str(value) if isinstance(value, str) else value  # a numpy string has another repr
    if not isinstance(value, str) or len(value) > MAX_GENRE or not value.isprintable():
        raise LayoutError(
            f"genre={short(ascii(value), 40)}: give a name of at most {MAX_GENRE} printable characters, or none"
        )
    return value


def _motion_in(content: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """The content itself, or the one dictionary in it that has poses (as trackers store one person or one coordinate frame)."""
    if has_poses(content):
        return content
    inside = {key: value for key, value in content.items() if isinstance(value, Mapping) and has_poses(value)}
    if len(inside) > 1:
        raise LayoutError(f"it holds several motions, {_key_list(inside)}: keep one of them in a file")
    return next(iter(inside.values()), content)


def _without_model(key: str) -> str:
    """A key without the name of a body model before it."""
    return next((key.removeprefix(prefix) for prefix in _PREFIXES if key.startswith(prefix)), key)


def _find_key(names: Mapping[str, Any], wanted: tuple[str, ...]) -> str | None:
    """The lower-case key that is one of `wanted`, optionally with a body model before or a rotation representation after it."""
    for name in wanted:
        for key in names:
            base = _without_model(key)
            if base == name or (base.startswith(f"{name}_") and _rotation_kind(base.removeprefix(f"{name}_"))):
                return key
    return None


def _check_duplicates(content: Mapping[Any, Any], names: Mapping[str, Any], kinds: tuple[tuple[str, ...], ...]) -> None:
    """Raises LayoutError where two keys name the same quantity but their values differ."""
    for wanted in kinds:
        duplicates = [key for key in names if _without_model(key) in wanted]
        values = [np.asarray(content[names[key]]) for key in duplicates]
        if any(value.shape != values[0].shape or not np.array_equal(value, values[0]) for value in values[1:]):
            raise LayoutError(f"{' and '.join(duplicates[:3])} differ: keep the one that is right")


def _rotation_kind(ending: str) -> str | None:
    return _KINDS.get(ending) or next((_KINDS[kind] for kind in ("wxyz", "xyzw") if ending.endswith(kind)), None)


def _rotations(key: str, value: Any, single: bool = False) -> np.ndarray:
    """Rotations in any representation as axis-angle (T, joints, 3); `single`: one joint only."""
    array = real_array(key, value)
    kind = next((_KINDS[ending] for ending in _KINDS if key.endswith(f"_{ending}")), None)
    array = _without_batch(array)
    if kind is None:
        kind = "axis-angle"
        if array.shape[-2:] == (3, 3) and (array.ndim == 4 or (array.ndim == 3 and single)):
            kind = "matrix"
        elif array.ndim == 3:
            kind = {4: "quaternion", 6: "6d"}.get(array.shape[-1], kind)
    size, frames = _SIZES[kind], array.shape[0] if array.ndim else 0
    if not frames and array.ndim:
        raise LayoutError(f"{key} has no frames")
    if not 2 <= array.ndim <= 4 or not array.size or array[0].size % size:
        raise LayoutError(f"{key} has shape {array.shape}: give (frames, joints x {size}), {kind} rotations")
    rotations = array.reshape(frames, -1, size)
    if kind == "axis-angle":
        return rotations
    check_numbers(key, rotations, 1e3, "for rotations")
    return _to_axis_angle(key, rotations, kind)


def _without_batch(array: np.ndarray) -> np.ndarray:
    """(1, T, ...) or (T, 1, columns) -> (T, ...): a batch of one."""
    if array.ndim == 3 and array.shape[-1] not in (3, 4, 6) and 1 in array.shape[:2]:
        return array.reshape(-1, array.shape[-1])
    if array.shape[:1] == (1,) and (array.ndim == 5 or (array.ndim == 4 and array.shape[-2:] != (3, 3))):
        return array[0]
    return array


def _to_axis_angle(key: str, rotations: np.ndarray, kind: str) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    shape = rotations.shape[:2]
    flat = rotations.reshape(-1, rotations.shape[-1]).astype(np.float64)
    if kind in ("quaternion", "wxyz", "xyzw"):
        if np.abs(np.linalg.norm(flat, axis=1) - 1).max() > 0.05:
            raise LayoutError(f"{key} has quaternions that are not of length 1: normalise them")
        # Most joints are bent by less than half a turn, so that the real part is the largest number on average.
        means = np.abs(flat).mean(0)
        real_first = kind == "wxyz" or (kind == "quaternion" and means[0] > means[3])
        converted = Rotation.from_quat(flat[:, [1, 2, 3, 0]] if real_first else flat)
    else:
        if kind == "6d":
            first, second = flat[:, :3], flat[:, 3:]
            matrices = np.stack(
                [first, second, np.cross(first, second)], axis=1
            )  # rows, as pytorch3d and FineDance have them
            if shape[1] >= 21 and _knees_bend_backwards(matrices.reshape(*shape, 3, 3)):
                matrices = matrices.transpose(0, 2, 1)  # columns, as Zhou et al. 2019 have them
        else:
            matrices = flat.reshape(-1, 3, 3)
        errors = np.abs(matrices @ matrices.transpose(0, 2, 1) - np.eye(3)).max()
        if errors > 0.5 or (np.linalg.det(matrices) < 0.1).any():
            raise LayoutError(f"{key} has numbers that are no rotations: give {kind} rotations or axis-angles")
        converted = Rotation.from_matrix(matrices)
    return converted.as_rotvec().reshape(*shape, 3)


def _knees_bend_backwards(rotations: np.ndarray) -> bool:
    """Whether the knees of local rotations (T, joints, 3, 3), with or without the root, bend the wrong way."""
    without_root = rotations.shape[1] + 1 in _SMPL_COUNTS
    knees = rotations[:, [JOINT_INDEX[f"{side}_knee"] - without_root for side in ("left", "right")]]
    return float((knees[..., 2, 1] - knees[..., 1, 2]).mean()) < 0


def _key_list(content: Mapping[Any, Any]) -> str:
    names = sorted(str(key)[:40] for key in content)
    return (", ".join(names[:12]) + (", ..." if len(names) > 12 else "")) or "nothing"
