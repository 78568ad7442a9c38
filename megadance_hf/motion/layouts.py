"""What the numbers of a motion file mean: which body they turn, what the path places, which way is up, where the floor is.

Files of dance code, capture archives and video trackers all hold "SMPL poses and a translation", and no two mean the same by it.
`LAYOUTS` says what each of them means, and how it is recognised by its keys and shapes; what can be seen in the motion itself is
looked at rather than believed: the axis that carries the head above the feet, and the floor under them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from megadance_hf.modeling import kinematics_megadance as kinematics
from megadance_hf.modeling.errors_megadance import short

# Where the pelvis joint rests in each body model of mean shape, metres. SMPL and its kin turn the body about this point and then
# add the translation, so that the pelvis is at rest + translation. Printed by the models themselves (smplx: `J_regressor @
# v_template`); our REST_OFFSETS begin at the first.
SMPL_PELVIS = (-0.00217368, -0.24078917, 0.02858379)  # SMPL and SMPL-H
SMPLX_PELVIS = (0.00312326, -0.35140747, 0.01203655)
# How many joints a pose can have -> the model. Their first 22 are the same ones.
MODELS = {22: "SMPL body", 24: "SMPL", 52: "SMPL-H", 55: "SMPL-X"}
BODY_JOINTS = 22
HEAD, ANKLES = 15, [7, 8]
MIDDLE_FINGERS = {52: (25, 40), 55: (28, 43)}  # their first joints, left and right

MAX_ANGLE = 100.0  # radians: sixteen turns
MAX_BEND = 6 * np.pi  # of a joint on its parent, in half of the frames; in degrees hanging arms alone are 60
MAX_DISTANCE = 1e4  # metres
MAX_SPEED = 12.0  # metres a second on average: as fast as anybody ever ran
MIN_FPS, MAX_FPS = 1.0, 1000.0
MAX_FRAMES = 500_000  # four and a half hours at 30 a second
DEFAULT_FPS = 30.0
MAX_GENRE = 100  # characters
LOOKED_AT = 10_000  # frames at most
# The head is clearly above the feet when the median of the way from ankles to head is so long, and so much of it along one axis.
MIN_RISE, MIN_SHARE = 0.4, 0.8
# Feet that are so near to y = 0 stand there as well as motion capture can say.
FLOOR_TOLERANCE = 0.03

UNSEEN = (
    "no axis carries the head above the feet over the whole clip, so which way is up cannot be seen: give "
    "up='y' or up='z' (at the command line --up y or --up z)"
)

# Rotations that bring each axis up, (3, 3): the shortest turn; for -y the half turn about x, as cameras look.
_TURNS = {
    "y": np.eye(3),
    "z": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "x": np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]),
    "-y": np.diag([1.0, -1, -1]),
    "-z": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "-x": np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]),
}
UPS = tuple(_TURNS)


class LayoutError(ValueError):
    """What a file holds cannot be understood as a motion; the message is one line naming key, value and remedy."""


class Doubt(str):
    """A note that is to be warned of: what it says may well be wrong."""


# --- looking -------------------------------------------------------------------------------------------------------


def check_up(up: str) -> str:
    """`up` in the spelling of `UPS`."""
    known = str(up).strip().lower().removeprefix("+")
    if known not in _TURNS:
        raise LayoutError(f"up={str(up)[:40]!r}: give the axis that points up, one of {', '.join(UPS)}")
    return known


def joints_of(poses: np.ndarray, path: np.ndarray) -> np.ndarray:
    """(T, 24, 3) positions of the joints of poses (T, 24, 3) and a path of the pelvis (T, 3).

    Of a long motion every so many frames: `LOOKED_AT` show axis and floor as well as all.
    """
    step = -(-len(poses) // LOOKED_AT)
    poses, path, found = poses[::step], path[::step], []
    for start in range(0, len(poses), kinematics.BLOCK):
        block = slice(start, start + kinematics.BLOCK)
        rotations = kinematics.axis_angle_to_matrix(torch.from_numpy(np.array(poses[block], np.float64)))
        places = kinematics.forward_kinematics(rotations, torch.from_numpy(np.array(path[block], np.float64)))
        found.append(places.float())
    return torch.cat(found).numpy()


def seen_up(joints: np.ndarray, head: int = HEAD, ankles: list[int] = ANKLES) -> str | None:
    """The axis that carries the head above the ankles over the whole clip, of joint positions (T, J, 3), metres.

    The median over the frames, so that a handstand or a fall does not count; None where no axis clearly does, as for somebody
    who lies on the floor all the time.
    """
    rise = np.median(joints[:, head] - joints[:, ankles].mean(1), axis=0)
    axis, length = int(np.abs(rise).argmax()), float(np.linalg.norm(rise))
    if length < MIN_RISE or abs(rise[axis]) < MIN_SHARE * length:
        return None
    return ("-" if rise[axis] < 0 else "") + "xyz"[axis]


def floor_height(joints: np.ndarray) -> float:
    """Height of the floor under joint positions (T, J, 3), Y up: where the lowest joint is when it is lowest.

    The first percentile over the frames: single frames that tracking lost do not move the floor.
    """
    return float(np.percentile(joints[..., 1].min(-1), 1))


def turn_to_y_up(up: str) -> np.ndarray:
    """(3, 3): the turn that brings the axis `up` to Y."""
    return _TURNS[up]


def turned(poses: np.ndarray, path: np.ndarray, up: str) -> tuple[np.ndarray, np.ndarray]:
    """Poses (T, 24, 3) and path (T, 3) in a world in which `up` points up -> the same with Y up."""
    from scipy.spatial.transform import Rotation

    if up == "y":
        return poses, path
    turn, poses = Rotation.from_matrix(_TURNS[up]), poses.copy()
    poses[:, 0] = (turn * Rotation.from_rotvec(poses[:, 0])).as_rotvec()
    return poses, path @ _TURNS[up].T


def on_the_floor(poses: np.ndarray, path: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The path (T, 3) of poses (T, 24, 3) with the floor at y = 0, and a note of how far it was moved if it was."""
    return _lifted(path, floor_height(joints_of(poses, path)))


def _lifted(path: np.ndarray, height: float) -> tuple[np.ndarray, list[str]]:
    if abs(height) <= FLOOR_TOLERANCE:
        return path, []
    moved = f"{'lowered' if height > 0 else 'raised'} by {abs(height):.3f} m"
    return path - np.array([0, height, 0]), [f"put on the floor: {moved}"]


# --- layouts -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """What a layout is recognised by: keys in small letters, number of joints, whether root and body came apart."""

    keys: frozenset[str]
    joints: int
    parts: bool = False


@dataclass(frozen=True)
class Layout:
    """What the numbers of one kind of file mean.

    Attributes:
        name: how notes call it.
        recognised: by its facts; the first layout that says yes is taken.
        pelvis: from what the path places to the pelvis joint: a model's rest pelvis, zeros where it is the pelvis itself. None
            where tools differ: the one that stands on the floor, else the pelvis (the difference is constant).
        up: the axis that points up, where the motion itself does not show it; None: unknown.
        fps: where the file does not say; None: unknown.
        floor: whether the floor is at y = 0 (once Y is up).
        hands: whether the hand joints turn like the middle fingers, rather than not at all.
        scaled: whether the path is to be divided by `smpl_scaling`.
    """

    name: str
    recognised: Callable[[Facts], bool]
    pelvis: tuple[float, float, float] | None = None
    up: str | None = None
    fps: float | None = None
    floor: bool = False
    hands: bool = False
    scaled: bool = False


_ZERO = (0.0, 0.0, 0.0)
_OURS = {"metadata", "genre", "fps"}
_AMASS_X = {"surface_model_type", "mocap_time_length", "markers_latent", "num_betas"}
_SMPLX_PARTS = {"jaw_pose", "pose_jaw", "leye_pose", "pose_eye", "left_hand_pose", "pose_hand", "expression"}

LAYOUTS = (
    # What Motion.save writes; see megadance_hf/export/poses.py.
    Layout("megadance", lambda f: f.keys >= _OURS and f.joints == 24, _ZERO, "y", floor=True),
    Layout(
        "megadance SMPL-X",
        lambda f: f.keys >= _OURS and f.joints == 55,
        SMPLX_PELVIS,
        "z",
        floor=True,
        hands=True,
    ),
    # Li et al. 2021: smpl(poses) * scaling + trans, 60 fps, Y up. The floor is where the cameras' calibration put it: about a metre
    # below the origin. https://github.com/google/aistplusplus_api
    Layout(
        "AIST++",
        lambda f: "smpl_scaling" in f.keys and f.joints == 24,
        SMPL_PELVIS,
        "y",
        60.0,
        scaled=True,
    ),
    # EDGE (Tseng et al. 2023) turns AIST++ to Z up, divides, and places the pelvis itself; POPDG (Luo et al. 2024) goes on from its
    # code. `full_pose` are joint positions. https://github.com/Stanford-TML/EDGE
    Layout("EDGE", lambda f: {"full_pose", "smpl_poses"} <= f.keys and f.joints == 24, _ZERO, "z", 30.0),
    # MEGADance's and Bailando's preprocessing: their own names for AIST++'s and FineDance's paths, whatever they placed.
    Layout("smpl_poses and smpl_trans", lambda f: "smpl_poses" in f.keys and f.joints in (22, 24)),
    # Mahmood et al. 2019: SMPL-H, and later SMPL-X, Z up, the floor mostly at 0. https://amass.is.tue.mpg.de
    Layout("AMASS", lambda f: f.joints == 52 and not f.parts, SMPL_PELVIS, "z"),
    Layout("AMASS, SMPL-X", lambda f: f.joints == 55 and bool(_AMASS_X & f.keys), SMPLX_PELVIS, "z"),
    # Liu et al. 2024 (EMAGE): SMPL-X with 100 expressions, Y up, 30 fps. https://github.com/PantoMatrix/PantoMatrix
    Layout("BEAT2", lambda f: f.joints == 55 and "expressions" in f.keys, SMPLX_PELVIS, "y", 30.0),
    Layout("SMPL-X poses", lambda f: f.joints == 55, SMPLX_PELVIS),
    # 72 or 66 of AMASS' 156 columns: what stands in the place of SMPL's hands then are two joints of the left forefinger.
    Layout("AMASS, cut", lambda f: f.joints in (22, 24) and {"mocap_framerate", "gender"} <= f.keys, SMPL_PELVIS, "z"),
    # Arguments of smplx' forward, and the parts that AMASS' body models take: root_orient, pose_body, pose_hand.
    Layout("SMPL-X parts", lambda f: f.parts and bool(_SMPLX_PARTS & f.keys), SMPLX_PELVIS),
    Layout("SMPL parts", lambda f: f.parts, SMPL_PELVIS),
    Layout("SMPL poses", lambda f: f.joints in (22, 24)),
    Layout("SMPL-H poses", lambda f: f.joints == 52, SMPL_PELVIS),
)
# Files without keys, by the columns of their array. FineDance (Li et al. 2023) was retargeted to SMPL-X; Y up, 30 fps. Motion-X
# (Lin et al. 2023) has 322 columns: root 3, body 63, hands 90, jaw 3, face 50 and 100, path 3, shape 10; Y up, 30 fps.
FINEDANCE = Layout("FineDance", lambda f: False, SMPLX_PELVIS, "y", 30.0, hands=True)
MOTIONX = Layout("Motion-X", lambda f: False, SMPLX_PELVIS, "y", 30.0)


@dataclass
class Understood:
    """A motion in our own terms: poses (T, 24, 3), path of the pelvis (T, 3), metres, Y up; what was done is in `notes`."""

    poses: np.ndarray
    path: np.ndarray
    fps: float
    layout: str
    notes: list[str] = field(default_factory=list)


def place(
    poses: np.ndarray,
    path: np.ndarray,
    layout: Layout,
    stored_fps: float | None = None,
    fps: float | None = None,
    up: str | None = None,
) -> Understood:
    """Poses (T, 24, 3) and a path (T, 3) of a layout as an `Understood`.

    Args:
        stored_fps: what the file says.
        fps, up: what the user says, which decides.
    """
    notes: list[str] = []
    if len(poses) > MAX_FRAMES:
        raise LayoutError(f"it has {len(poses)} frames, the limit is {MAX_FRAMES}: cut it into pieces")
    check_numbers("poses", poses, MAX_ANGLE, "radians: are these degrees?")
    check_numbers("translation", path, MAX_DISTANCE, "metres")
    if not layout.floor and (bend := float(np.median(np.abs(poses[:, 1:]).max(axis=(1, 2))))) > MAX_BEND:
        raise LayoutError(f"poses bend joints by {bend:.3g} as a rule, which are no radians: give np.radians(poses)")
    rate = _rate(layout, stored_fps, fps, notes)
    pelvis = np.array(layout.pelvis or _ZERO)
    if pelvis.any():
        path = path + pelvis
    axis = "y"
    if not layout.floor or up is not None or layout.up != "y":
        joints = joints_of(poses, path)
        axis = _axis(joints, layout, up, notes)
        poses, path = turned(poses, path, axis)
    if not layout.floor:
        height = floor_height(joints @ turn_to_y_up(axis).T)
        if layout.pelvis is None and abs(height) > FLOOR_TOLERANCE >= abs(height + SMPL_PELVIS[1]):
            # body origin or pelvis: whichever stands on the floor
            path, height = path + np.array(SMPL_PELVIS), height + SMPL_PELVIS[1]
            notes.append("its path places the body model: moved to the pelvis")
        path, moved = _lifted(path, height)
        notes += moved
        notes += _too_fast(path, rate)
    return Understood(poses, path, rate, layout.name, notes)


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
    notes.append(Doubt(f"no frame rate in the file: {DEFAULT_FPS:g} fps assumed"))
    return DEFAULT_FPS


def _axis(joints: np.ndarray, layout: Layout, given: str | None, notes: list[str]) -> str:
    if given is not None:
        axis, why = check_up(given), "as told"
    elif layout.floor and layout.up is not None:
        axis, why = layout.up, "as it is written"
    elif (looked := seen_up(joints)) is not None:
        axis, why = looked, "that is where the head is above the feet"
        if axis == "y" and layout.up not in (None, "y"):
            notes.append(f"Y is up already, although {layout.name} has {spoken(layout.up)} up")
    elif layout.up is not None:
        axis, why = layout.up, f"as {layout.name} has it; the motion itself does not show it"
    else:
        raise LayoutError(UNSEEN)
    if axis != "y" and why != "as it is written":
        notes.append(f"turned from {spoken(axis)} up to Y up: {why}")
    return axis


def spoken(up: str) -> str:
    """An axis in words."""
    return up.upper().replace("-", "minus ")


def _too_fast(path: np.ndarray, fps: float) -> list[str]:
    speed = float(np.linalg.norm(np.diff(path, axis=0), axis=1).mean() * fps) if len(path) > 1 else 0.0
    if speed <= MAX_SPEED:
        return []
    return [
        Doubt(
            f"it moves at {speed:.3g} m/s on average, faster than anybody runs: is its path in metres, its rate right?"
        )
    ]


# --- from keys and shapes ------------------------------------------------------------------------------------------

_PREFIXES = ("smplx_", "smplh_", "smpl_")
_POSES = ("poses", "pose", "fullpose", "pose_aa", "thetas")
_ROOT = ("global_orient", "root_orient", "root_pose")
_BODY = ("body_pose", "pose_body")
_PATH = ("trans", "transl", "translation", "root_trans", "root_transl", "root_translation", "root_trans_offset")
_OTHERS = ("smpl_scaling", "genre", "metadata", "joints", "joint_names")
# How a key can say what its rotations are.
_KINDS = {
    "rotation_6d": "6d",
    "rot6d": "6d",
    "6d": "6d",
    "quaternions": "quaternion",
    "quaternion": "quaternion",
    "quats": "quaternion",
    "quat": "quaternion",
    "wxyz": "wxyz",
    "xyzw": "xyzw",
    "rotmats": "matrix",
    "rotmat": "matrix",
    "matrices": "matrix",
    "matrix": "matrix",
    "axis_angle": "axis-angle",
    "aa": "axis-angle",
}
_SIZES = {"axis-angle": 3, "quaternion": 4, "wxyz": 4, "xyzw": 4, "6d": 6, "matrix": 9}


def understand(content: Mapping[Any, Any], fps: float | None = None, up: str | None = None) -> Understood:
    """A motion out of the keys and arrays of a file; see `LAYOUTS`.

    Raises:
        LayoutError: nothing that is known, or numbers that are none, not finite or out of range.
    """
    content = _inner(content)
    names = {str(key).lower(): key for key, value in content.items() if value is not None}
    poses_key, root_key, body_key, path_key = (_find(names, wanted) for wanted in (_POSES, _ROOT, _BODY, _PATH))
    parts = poses_key is None
    if path_key is None or (parts and (root_key is None or body_key is None)):
        known = ", ".join(layout.name for layout in LAYOUTS)
        missing = _missing(parts, root_key, body_key, path_key)
        raise LayoutError(f"it has no {missing}; here is {_listed(content)}; known layouts: {known}")
    if parts:
        root = _rotations(root_key, content[names[root_key]], single=True)
        body = _rotations(body_key, content[names[body_key]])
        if root.shape[1] != 1 or body.shape[1] not in (21, 23) or len(root) != len(body):
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
    _check_twins(content, names, (_POSES, _ROOT, _BODY, _PATH))
    path = numbers(path_key, content[names[path_key]])
    if path.ndim == 3 and 1 in path.shape[:2]:
        path = path.reshape(-1, path.shape[-1])
    if path.shape != (len(poses), 3):
        key = poses_key or body_key
        raise LayoutError(
            f"{path_key} has shape {path.shape}, {key} has {len(poses)} frames: one (x, y, z) a frame is needed"
        )
    if not len(poses):
        raise LayoutError(f"{poses_key or body_key} has no frames")
    facts = Facts(frozenset(str(key).lower() for key in content), poses.shape[1], parts)
    layout = next(layout for layout in LAYOUTS if layout.recognised(facts))
    if layout.scaled:
        path = path / read_scaling(content[names["smpl_scaling"]])
    notes: list[str] = []
    body = to_smpl(poses, layout, notes)
    stored = None if fps is not None else stored_rate(content)
    found = place(body, path, layout, stored, fps, up)
    found.notes[:0] = notes
    return found


def to_smpl(poses: np.ndarray, layout: Layout, notes: list[str]) -> np.ndarray:
    """Axis-angle poses of any of `MODELS` -> (T, 24, 3)."""
    count = poses.shape[1]
    if count == 24 and layout.name != "AMASS, cut":
        return poses
    body = np.zeros((len(poses), 24, 3), poses.dtype)
    body[:, :BODY_JOINTS] = poses[:, :BODY_JOINTS]
    if layout.hands and count in MIDDLE_FINGERS:
        body[:, BODY_JOINTS:] = poses[:, MIDDLE_FINGERS[count]]
    elif poses[:, BODY_JOINTS:].any():
        notes.append("hands at rest: fingers and face are left out")
    return body


def read_scaling(value: Any) -> float:
    """`smpl_scaling` of AIST++: one number above 0."""
    scaling = numbers("smpl_scaling", value).reshape(-1)
    if scaling.size != 1 or not np.isfinite(scaling[0]) or not 1e-3 <= scaling[0] <= 1e6:
        raise LayoutError(f"smpl_scaling is {scaling.tolist()[:4]}: one number above 0 is needed, 90 to 100 as a rule")
    return float(scaling[0])


def stored_rate(content: Mapping[Any, Any]) -> float | None:
    """Frames a second as any key says it: fps, framerate, frame_rate, mocap_*, or the seconds of a frame; None without one."""
    found: dict[str, float] = {}
    for key, value in content.items():
        name = _letters(key)
        if value is None:
            continue
        if _is_rate(name):
            found[str(key)] = check_rate(str(key), value)
        elif name in _FRAME_TIMES:
            seconds = _number(str(key), value, "the seconds of a frame")
            found[str(key)] = check_rate(f"1 / {key}", 1 / seconds if seconds else float("inf"))
    if found and max(found.values()) > 1.001 * min(found.values()):
        said = ", ".join(f"{key} {rate:g}" for key, rate in found.items())
        raise LayoutError(f"its frame rates differ ({said}): give the right one, fps=")
    return next(iter(found.values()), None)


_FRAME_TIMES = ("frametime", "secondsperframe")


def _letters(key: Any) -> str:
    return "".join(letter for letter in str(key).lower() if letter.isalnum())


def _is_rate(name: str) -> bool:
    of_frames = name.endswith("fps") or "framerate" in name or "framespersecond" in name
    return of_frames and "audio" not in name and "music" not in name


def is_read(key: str) -> bool:
    """Whether the value of a key matters, rather than that it is there."""
    names, letters = {key.lower(): key}, _letters(key)
    parts = any(_find(names, wanted) for wanted in (_POSES, _ROOT, _BODY, _PATH))
    return parts or _is_rate(letters) or letters in _FRAME_TIMES or key.lower() in _OTHERS


def check_rate(name: str, value: Any) -> float:
    """Frames a second as a float within `MIN_FPS` and `MAX_FPS`."""
    rate = _number(name, value, "frames a second")
    if not MIN_FPS <= rate <= MAX_FPS:
        raise LayoutError(f"{name}={rate!r}: give frames a second from {MIN_FPS:g} to {MAX_FPS:g}")
    return rate


def _number(name: str, value: Any, meaning: str) -> float:
    try:
        array = np.asarray(value)
        if array.size != 1 or array.dtype.kind not in "fiuSU":
            raise ValueError
        return float(array.reshape(-1)[0])
    except (TypeError, ValueError, OverflowError):
        raise LayoutError(f"{name}={str(value)[:60]!r}: give one number, {meaning}") from None


def numbers(name: str, value: Any) -> np.ndarray:
    """An array of real numbers, float32 or float64."""
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
    return _find(names, _POSES) is not None or _find(names, _BODY) is not None


def check_genre(value: Any) -> str | None:
    """The name of a genre, text of at most `MAX_GENRE` printable characters; None without one."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if value is None or (isinstance(value, str) and not value):
        return None
    value = str(value) if isinstance(value, str) else value  # numpy's text prints otherwise
    if not isinstance(value, str) or len(value) > MAX_GENRE or not value.isprintable():
        raise LayoutError(
            f"genre={short(ascii(value), 40)}: give a name of at most {MAX_GENRE} printable characters, or none"
        )
    return value


def _inner(content: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """The content itself, or the one dictionary in it that has poses (as trackers keep one person or one frame of reference)."""
    if not isinstance(content, Mapping):
        raise LayoutError(f"it holds a {type(content).__name__}; a dictionary of arrays is needed")

    if has_poses(content):
        return content
    inside = {key: value for key, value in content.items() if isinstance(value, Mapping) and has_poses(value)}
    if len(inside) > 1:
        raise LayoutError(f"it holds several motions, {_listed(inside)}: keep one of them in a file")
    return next(iter(inside.values()), content)


def _plain(key: str) -> str:
    """A key without the model before it."""
    return next((key.removeprefix(prefix) for prefix in _PREFIXES if key.startswith(prefix)), key)


def _find(names: Mapping[str, Any], wanted: tuple[str, ...]) -> str | None:
    """The key, in small letters, that is one of `wanted`, perhaps with a model before it or a kind of rotation after it."""
    for plain in wanted:
        for key in names:
            base = _plain(key)
            if base == plain or (base.startswith(f"{plain}_") and _kind_of(base.removeprefix(f"{plain}_"))):
                return key
    return None


def _check_twins(content: Mapping[Any, Any], names: Mapping[str, Any], kinds: tuple[tuple[str, ...], ...]) -> None:
    """Raises LayoutError where two keys are names of the same thing, but what they hold differs."""
    for wanted in kinds:
        twins = [key for key in names if _plain(key) in wanted]
        values = [np.asarray(content[names[key]]) for key in twins]
        if any(value.shape != values[0].shape or not np.array_equal(value, values[0]) for value in values[1:]):
            raise LayoutError(f"{' and '.join(twins[:3])} differ: keep the one that is right")


def _kind_of(ending: str) -> str | None:
    return _KINDS.get(ending) or next((_KINDS[kind] for kind in ("wxyz", "xyzw") if ending.endswith(kind)), None)


def _rotations(key: str, value: Any, single: bool = False) -> np.ndarray:
    """Rotations of any kind as axis-angle (T, joints, 3); `single`: one a frame."""
    array = numbers(key, value)
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
        # Most joints are bent less than half a turn, so that the real part is the largest number.
        means = np.abs(flat).mean(0)
        first = kind == "wxyz" or (kind == "quaternion" and means[0] > means[3])
        turns = Rotation.from_quat(flat[:, [1, 2, 3, 0]] if first else flat)
    else:
        if kind == "6d":
            one, two = flat[:, :3], flat[:, 3:]
            matrices = np.stack([one, two, np.cross(one, two)], axis=1)  # rows, as pytorch3d and FineDance have them
            if shape[1] >= 21 and _knees_bend_backwards(matrices.reshape(*shape, 3, 3)):
                matrices = matrices.transpose(0, 2, 1)  # columns, as Zhou et al. 2019 have them
        else:
            matrices = flat.reshape(-1, 3, 3)
        errors = np.abs(matrices @ matrices.transpose(0, 2, 1) - np.eye(3)).max()
        if errors > 0.5 or (np.linalg.det(matrices) < 0.1).any():
            raise LayoutError(f"{key} has numbers that are no rotations: give {kind} rotations or axis-angles")
        turns = Rotation.from_matrix(matrices)
    return turns.as_rotvec().reshape(*shape, 3)


def _knees_bend_backwards(turns: np.ndarray) -> bool:
    """Of local rotations (T, joints, 3, 3) with or without the root: whether knees would bend as no knee does."""
    knees = turns[:, [4, 5] if turns.shape[1] not in (21, 23) else [3, 4]]
    return float((knees[..., 2, 1] - knees[..., 1, 2]).mean()) < 0


def _missing(parts: bool, root: str | None, body: str | None, path: str | None) -> str:
    missing = []
    if parts and body is None:
        missing.append("poses (or body_pose with global_orient)")
    elif parts and root is None:
        missing.append("global_orient")
    if path is None:
        missing.append("trans (or transl, translation)")
    return " and no ".join(missing)


def _listed(content: Mapping[Any, Any]) -> str:
    names = sorted(str(key)[:40] for key in content)
    return (", ".join(names[:12]) + (", ..." if len(names) > 12 else "")) or "nothing"
