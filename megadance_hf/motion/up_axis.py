"""Which way is up, and where the floor is: read from the motion itself, whatever its file says.

The up axis carries the head above the feet; the floor is where the lowest joint is.
"""

import numpy as np
import torch

from megadance_hf.modeling import kinematics_megadance as kinematics
from megadance_hf.modeling.kinematics_megadance import JOINT_INDEX

HEAD, ANKLES = JOINT_INDEX["head"], [JOINT_INDEX["left_ankle"], JOINT_INDEX["right_ankle"]]
MAX_SAMPLED_FRAMES = 10_000  # enough to find the up axis and the floor
# The up axis is clear if the median vector from ankles to head has this length in metres, and this share of it along one axis.
MIN_RISE, MIN_SHARE = 0.4, 0.8
FLOOR_TOLERANCE = 0.03  # metres: the accuracy of motion capture

NO_UP_AXIS = (
    "no axis carries the head above the feet over the whole clip, so the up axis cannot be detected: give "
    "up='y' or up='z' (at the command line --up y or --up z)"
)

# The shortest rotation (3, 3) that brings each axis to +Y; for -y the half turn about x, as in camera coordinates.
_Y_UP_ROTATIONS = {
    "y": np.eye(3),
    "z": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "x": np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]),
    "-y": np.diag([1.0, -1, -1]),
    "-z": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "-x": np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]),
}
UPS = tuple(_Y_UP_ROTATIONS)


class LayoutError(ValueError):
    """The content of a file cannot be interpreted as a motion; the message is one line naming key, value and remedy."""


def check_up(up: str) -> str:
    """The axis `up` as it is spelled in `UPS`; raises LayoutError for others."""
    known = str(up).strip().lower().removeprefix("+")
    if known not in _Y_UP_ROTATIONS:
        raise LayoutError(f"up={str(up)[:40]!r}: give the axis that points up, one of {', '.join(UPS)}")
    return known


def sampled_joints(poses: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Joint positions (S, 24, 3) of poses (T, 24, 3) and pelvis translation (T, 3); at most `MAX_SAMPLED_FRAMES` frames, evenly spaced."""
    step = -(-len(poses) // MAX_SAMPLED_FRAMES)
    poses, translation, positions = poses[::step], translation[::step], []
    for start in range(0, len(poses), kinematics.BLOCK):
        block = slice(start, start + kinematics.BLOCK)
        rotations = kinematics.axis_angle_to_matrix(torch.from_numpy(np.array(poses[block], np.float64)))
        pelvis = torch.from_numpy(np.array(translation[block], np.float64))
        positions.append(kinematics.forward_kinematics(rotations, pelvis).float())
    return torch.cat(positions).numpy()


def detect_up_axis(joints: np.ndarray, head: int = HEAD, ankles: list[int] = ANKLES) -> str | None:
    """The axis that carries the head above the ankles over the whole clip, from joint positions (T, J, 3) in metres.

    It uses the median over the frames, which handstands and falls do not change. None where no axis is clear, as when somebody lies
    on the floor all the time.
    """
    rise = np.median(joints[:, head] - joints[:, ankles].mean(1), axis=0)
    axis, length = int(np.abs(rise).argmax()), float(np.linalg.norm(rise))
    if length < MIN_RISE or abs(rise[axis]) < MIN_SHARE * length:
        return None
    return ("-" if rise[axis] < 0 else "") + "xyz"[axis]


def floor_height(joints: np.ndarray) -> float:
    """Height of the floor under joint positions (T, J, 3), Y up: the first percentile over the frames of the lowest joint.

    Not the minimum: single frames of failed tracking must not move the floor.
    """
    return float(np.percentile(joints[..., 1].min(-1), 1))


def y_up_rotation(up: str) -> np.ndarray:
    """The rotation (3, 3) that brings the axis `up` to Y."""
    return _Y_UP_ROTATIONS[up]


def to_y_up(poses: np.ndarray, translation: np.ndarray, up: str) -> tuple[np.ndarray, np.ndarray]:
    """Poses (T, 24, 3) and translation (T, 3) with the axis `up` upwards -> the same with Y up."""
    from scipy.spatial.transform import Rotation

    if up == "y":
        return poses, translation
    rotation, poses = Rotation.from_matrix(_Y_UP_ROTATIONS[up]), poses.copy()
    poses[:, 0] = (rotation * Rotation.from_rotvec(poses[:, 0])).as_rotvec()
    return poses, translation @ _Y_UP_ROTATIONS[up].T


def on_the_floor(poses: np.ndarray, translation: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The translation (T, 3) of poses (T, 24, 3), moved so that the floor is at y = 0, and a note if it was moved."""
    return _floor_at_zero(translation, floor_height(sampled_joints(poses, translation)))


def _floor_at_zero(translation: np.ndarray, height: float) -> tuple[np.ndarray, list[str]]:
    if abs(height) <= FLOOR_TOLERANCE:
        return translation, []
    moved = f"{'lowered' if height > 0 else 'raised'} by {abs(height):.3f} m"
    return translation - np.array([0, height, 0]), [f"put on the floor: {moved}"]


def axis_label(up: str) -> str:
    """An axis as it is written in notes: "Z", "minus Z"."""
    return up.upper().replace("-", "minus ")
