"""How the body of one dance moves: speed, jerk, frozen seconds, drift, spins, jumps, and whether its feet hold the floor.

Joints are `(T, 24, 3)`, metres, Y up; the floor is y = 0 at the foot joints.
"""

import numpy as np
from scipy.spatial.transform import Rotation

from megadance_hf.modeling.kinematics_megadance import FOOT_JOINTS

FLOOR_HEIGHT = 0.05  # metres: a foot joint below this is on the floor
TOE_HEIGHT = 0.03  # metres: a toe joint below this carries weight, or brushes the floor
SPIN_DEGREES = 45.0  # more than this within a frame is no dancer's turn: the fastest captured ones reach 34 degrees
JUMP_DISTANCE = 0.4  # metres within a frame, 12 m/s at 30 frames/s
FROZEN_SPEED = 0.05  # m/s of the mean joint; breathing and sway of a standing person stay below it
SKATING_DISTANCE = 0.025  # metres per frame, at 30 frames/s


def mean_speed(joints: np.ndarray, fps: float = 30) -> float:
    """Mean speed of all joints, m/s."""
    return float(np.linalg.norm(np.diff(joints, axis=0), axis=-1).mean() * fps)


def jerk(joints: np.ndarray, fps: float = 30) -> float:
    """Mean magnitude of the third derivative of all joint positions, m/s^3; high values are jitter. 0 below four frames."""
    if len(joints) < 4:
        return 0.0
    return float(np.linalg.norm(np.diff(joints, n=3, axis=0), axis=-1).mean() * fps**3)


def frozen_share(joints: np.ndarray, fps: float = 30, threshold: float = FROZEN_SPEED) -> float:
    """Share of whole seconds in which the mean joint speed is below `threshold` m/s; 0 for less than a second."""
    speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1).mean(1) * fps
    seconds = int(len(speed) // fps)
    if seconds == 0:
        return 0.0
    per_second = speed[: int(seconds * fps)].reshape(seconds, -1).mean(1)
    return float((per_second < threshold).mean())


def root_drift(joints: np.ndarray, fps: float = 30) -> float:
    """Horizontal distance between the start and the end of the pelvis' path (means of one second each), metres per minute."""
    window = max(1, min(int(fps), len(joints) // 2))
    path = joints[:, 0, [0, 2]]
    minutes = (len(joints) - window) / fps / 60
    return float(np.linalg.norm(path[-window:].mean(0) - path[:window].mean(0)) / minutes) if minutes > 0 else 0.0


def pelvis_bob(joints: np.ndarray, fps: float = 30) -> float:
    """Standard deviation in metres of the pelvis' height about its two-second running mean: the rise and fall of a waltz."""
    height = joints[:, 0, 1]
    window = max(1, min(int(2 * fps), len(height)))
    padded = np.pad(height, (window // 2, window - 1 - window // 2), mode="edge")
    return float((height - np.convolve(padded, np.ones(window) / window, mode="valid")).std())


def largest_step(joints: np.ndarray) -> float:
    """The farthest that any joint moves between two frames, metres; above 0.5 or so it is a jump. 0 for a single frame."""
    return float(np.linalg.norm(np.diff(joints, axis=0), axis=-1).max(initial=0.0))


def count_jumps(joints: np.ndarray, distance: float = JUMP_DISTANCE) -> int:
    """Number of frames in which a joint moves farther than `distance` metres."""
    return int((np.linalg.norm(np.diff(joints, axis=0), axis=-1).max(-1) > distance).sum())


def body_turns(poses: np.ndarray) -> np.ndarray:
    """Degrees (T - 1,), 0 to 180, by which the pelvis turns about the vertical in each frame of poses (T, 24, 3), radians.

    The twist about Y of the rotation from one frame to the next, so a bow or a lean is no turn.
    """
    pelvis = Rotation.from_rotvec(np.asarray(poses, dtype=np.float64)[:, 0])
    _, y, _, w = (pelvis[1:] * pelvis[:-1].inv()).as_quat().T
    return np.degrees(2 * np.arctan2(np.abs(y), np.abs(w)))


def largest_turn(poses: np.ndarray) -> float:
    """The most that the body turns about the vertical within a frame, degrees; see `body_turns`. 0 for a single frame."""
    return float(body_turns(poses).max()) if len(poses) > 1 else 0.0


def count_spins(poses: np.ndarray, degrees: float = SPIN_DEGREES) -> int:
    """Number of frames in which the body turns about the vertical by more than `degrees`; see `body_turns`."""
    return int((body_turns(poses) > degrees).sum()) if len(poses) > 1 else 0


# --- feet ----------------------------------------------------------------------------------------------------------------


def _feet_on_floor(joints: np.ndarray, height: float) -> tuple[np.ndarray, np.ndarray]:
    """For each step between two frames and each foot joint: metres moved horizontally, and whether it stays on the floor."""
    feet = joints[:, list(FOOT_JOINTS)]
    moved = np.linalg.norm(np.diff(feet[..., [0, 2]], axis=0), axis=-1)
    return moved, np.maximum(feet[1:, :, 1], feet[:-1, :, 1]) < height


def foot_speed_on_floor(joints: np.ndarray, fps: float = 30, height: float = FLOOR_HEIGHT) -> float:
    """Mean horizontal speed (m/s) of foot joints while they are on the floor. 0 if they never are."""
    moved, low = _feet_on_floor(joints, height)
    return float((moved * fps)[low].mean()) if low.any() else 0.0


def toe_speeds(joints: np.ndarray, fps: float = 30, height: float = TOE_HEIGHT) -> tuple[float, float]:
    """Horizontal speed of toes on the floor, m/s: median and 90 % quantile over all frames that a toe begins below `height`.

    The median tells whether a standing foot stands, the 90 % how fast steps brush the floor. (0, 0) when no toe is ever so low.
    """
    feet = joints[:, list(FOOT_JOINTS)]
    speed = np.linalg.norm(np.diff(feet[..., [0, 2]], axis=0), axis=-1)[feet[:-1, :, 1] < height] * fps
    return (float(np.median(speed)), float(np.quantile(speed, 0.9))) if len(speed) else (0.0, 0.0)


def depth_below_floor(joints: np.ndarray) -> float:
    """How far the lowest joint of all frames is below y = 0, metres; 0 when none is."""
    return max(0.0, -float(joints[..., 1].min()))


def foot_skating_ratio(joints: np.ndarray, fps: float = 30, height: float = FLOOR_HEIGHT) -> float:
    """Share of frames in which a foot on the floor slips by more than 2.5 cm (at 30 frames/s; less at higher rates).

    A foot is on the floor while its toe joint stays below `height` from one frame to the next. 0 when none ever is.
    """
    moved, low = _feet_on_floor(joints, height)
    return float((low & (moved > SKATING_DISTANCE * 30 / fps)).any(-1).mean()) if len(moved) else 0.0


def physical_foot_contact(joints: np.ndarray, fps: float = 30) -> float:
    """Physical foot contact score, PFC (Tseng et al. 2023, EDGE), times 10,000 as there; lower is more plausible.

    A body accelerates because a foot pushes against the floor: the mean over frames of the pelvis' acceleration (relative to
    its maximum; gravity pulls down, so that part is left out) times the speed of each foot. 0 for a motion without
    acceleration, or of less than three frames.
    """
    if len(joints) < 3:
        return 0.0
    acceleration = np.diff(joints[:, 0], n=2, axis=0) * fps**2
    acceleration[:, 1] = np.maximum(acceleration[:, 1], 0)
    size = np.linalg.norm(acceleration, axis=-1)
    if size.max() == 0:
        return 0.0
    # a foot moves as little as the slower of its ankle and toe; speeds are displacements per frame, as in EDGE's code
    steps = np.linalg.norm(np.diff(joints[1:, [7, 10, 8, 11]][..., [0, 2]], axis=0), axis=-1)
    left, right = steps[:, :2].min(1), steps[:, 2:].min(1)
    return float((left * right * size / size.max()).mean() * 10000)
