"""Features that distributions of dances are compared in: kinetic (Onuma et al. 2008) and geometric (Müller et al. 2005).

Two kinetic conventions exist: MEGADance's released code and the AIST++ toolkit differ in frame rate, in how ends are
smoothed, and in what "expenditure" means, so numbers of papers can only be compared within one of them. FID_k of the paper's
tables uses the released one. Geometric features are the same in both.

Joints are `(N, T, 24, 3)`, metres, Y up, at 30 frames/s, all clips at once.

Raises:
    ValueError: joints of another shape, too few frames, or numbers that are not finite.
"""

from typing import Any

import numpy as np

from megadance_hf.modeling.kinematics_megadance import NUM_JOINTS

HALF_WINDOW = 2  # velocities and accelerations are averaged over five frames


def _check(joints: np.ndarray, least: int) -> np.ndarray:
    joints = np.asarray(joints, dtype=np.float64)
    if joints.ndim != 4 or joints.shape[2:] != (NUM_JOINTS, 3) or joints.shape[1] < least:
        raise ValueError(
            f"joints has shape {joints.shape}; expected (clips, {least} or more frames, {NUM_JOINTS}, 3): for one clip, "
            "joints[None]"
        )
    if not np.isfinite(joints).all():
        raise ValueError("joints has numbers that are not finite")
    return joints


# --- kinetic -----------------------------------------------------------------------------------------------------------


def kinetic_features(joints: np.ndarray, fps: float = 30) -> np.ndarray:
    """Kinetic features (N, 72) of the released code: for each joint horizontal and vertical energy (mean squared velocity,
    m^2/s^2) and expenditure (mean acceleration, m/s^2).

    The first velocity and the first acceleration are repeated, so that there is one per frame, and both are smoothed over
    five frames with zeros beyond the ends. Two frames or more; a clip that stands still gives zeros.
    """
    joints = _check(joints, 2)
    velocity = _smooth(_repeat_first(np.diff(joints, axis=1) * fps))
    acceleration = _smooth(_repeat_first(np.diff(velocity, axis=1) * fps))
    return _interleave(velocity, np.linalg.norm(acceleration, axis=-1).mean(1))


def kinetic_features_aistpp(joints: np.ndarray, fps: float = 60) -> np.ndarray:
    """Kinetic features (N, 72) of the AIST++ toolkit, with its peculiarities, for comparison with its numbers.

    It assumes 60 frames/s whatever the motion. Smoothing windows shrink at the ends. Its acceleration misses a pair of brackets
    (the earlier position alone is divided by the frame time), so its expenditure measures mostly how far a joint is from the
    pelvis of the first frame. Three frames or more.
    """
    joints = _check(joints, 3)
    joints = joints - joints[:, :1, :1]
    step = 1 / fps
    frames = joints.shape[1] - 1
    velocity = _smooth(np.diff(joints, axis=1) / step, frames)
    after = (joints[:, 2:] - joints[:, 1:-1]) / step
    before = joints[:, 1:-1] - joints[:, :-2] / step  # sic
    acceleration = _smooth((after - before) / step, frames)
    return _interleave(velocity, np.linalg.norm(acceleration, axis=-1).mean(1))


def _interleave(velocity: np.ndarray, expenditure: np.ndarray) -> np.ndarray:
    horizontal = (velocity[..., [0, 2]] ** 2).sum(-1).mean(1)
    vertical = (velocity[..., 1] ** 2).mean(1)
    return np.stack((horizontal, vertical, expenditure), axis=-1).reshape(len(velocity), -1).astype(np.float32)


def _repeat_first(steps: np.ndarray) -> np.ndarray:
    return np.concatenate((steps[:, :1], steps), axis=1)


def _smooth(x: np.ndarray, frames: int | None = None) -> np.ndarray:
    """Mean over five frames, zeros beyond the ends; for each of `frames` frames the mean of those five that exist in `x`."""
    total, centre = np.pad(np.cumsum(x, axis=1), ((0, 0), (1, 0), (0, 0), (0, 0))), np.arange(frames or x.shape[1])
    begin, end = (np.clip(centre + edge, 0, x.shape[1]) for edge in (-HALF_WINDOW, HALF_WINDOW + 1))
    counts = np.maximum(end - begin, 1)[None, :, None, None] if frames else 2 * HALF_WINDOW + 1
    return (total[:, end] - total[:, begin]) / counts


# --- geometric -----------------------------------------------------------------------------------------------------------

# Units of the thresholds, metres: humerus, shoulder width and hip width of the toolkit's figure.
HUMERUS = 0.2568
SHOULDERS = 0.3909
HIPS = 0.1192
# The toolkit computes speeds as if a frame lasted 1/120 s, whatever the frame rate.
GEOMETRIC_FPS = 120

_NAMES = (
    "root lhip rhip belly lknee rknee spine lankle rankle chest ltoes rtoes neck linshoulder rinshoulder head lshoulder "
    "rshoulder lelbow relbow lwrist rwrist lhand rhand"
).split()
JOINT = {name: index for index, name in enumerate(_NAMES)}

# Each row is one feature: kind, the four points, threshold (a length, or an interval of degrees).
GEOMETRIC = (
    ("move_normal", "neck rhip lhip rwrist", 1.8 * HUMERUS),
    ("move_normal", "neck lhip rhip lwrist", 1.8 * HUMERUS),
    ("above", "chest neck neck rwrist", 0.2 * HUMERUS),
    ("above", "chest neck neck lwrist", 0.2 * HUMERUS),
    ("move", "belly chest chest rwrist", 1.8 * HUMERUS),
    ("move", "belly chest chest lwrist", 1.8 * HUMERUS),
    ("angle", "relbow rshoulder relbow rwrist", (0, 110)),
    ("angle", "lelbow lshoulder lelbow lwrist", (0, 110)),
    ("above", "lshoulder rshoulder lwrist rwrist", 2.5 * SHOULDERS),
    ("move", "lwrist rwrist rwrist lwrist", 1.4 * HUMERUS),
    ("move", "rwrist root lwrist root", 1.4 * HUMERUS),
    ("move", "lwrist root rwrist root", 1.4 * HUMERUS),
    ("fast", "rwrist", 2.5 * HUMERUS),
    ("fast", "lwrist", 2.5 * HUMERUS),
    ("plane", "root lhip ltoes rankle", 0.38 * HUMERUS),
    ("plane", "root rhip rtoes lankle", 0.38 * HUMERUS),
    ("above", "zero up lowest rankle", 1.2 * HUMERUS),
    ("above", "zero up lowest lankle", 1.2 * HUMERUS),
    ("above", "lhip rhip lankle rankle", 2.1 * HIPS),
    ("angle", "rknee rhip rknee rankle", (0, 110)),
    ("angle", "lknee lhip lknee lankle", (0, 110)),
    ("fast", "rankle", 2.5 * HUMERUS),
    ("fast", "lankle", 2.5 * HUMERUS),
    ("angle", "neck root rshoulder relbow", (25, 180)),
    ("angle", "neck root lshoulder lelbow", (25, 180)),
    ("angle", "neck root rhip rknee", (50, 180)),
    ("angle", "neck root lhip lknee", (50, 180)),
    ("plane", "rankle neck lankle root", 0.5 * HUMERUS),
    ("angle", "neck root zero up", (70, 110)),
    ("above", "zero down lowest rwrist", -1.2 * HUMERUS),
    ("above", "zero down lowest lwrist", -1.2 * HUMERUS),
    ("fast", "root", 2.3 * HUMERUS),
)


def geometric_features(joints: np.ndarray) -> np.ndarray:
    """Geometric features (N, 32): shares of frames in which a relation of the body's parts holds (`GEOMETRIC`).

    Each relation compares a distance, an angle, or a speed along a direction with a threshold. A relation whose direction has
    no length does not hold. Two frames or more.
    """
    joints = _check(joints, 2)
    now, before = joints[:, 1:], joints[:, :-1]
    columns = []
    with np.errstate(divide="ignore", invalid="ignore"):  # comparisons with NaN are false: the relation does not hold
        for kind, names, threshold in GEOMETRIC:
            points = [_point(name, now) for name in names.split()]
            past = [_point(name, before) for name in names.split()]
            columns.append(_holds(kind, points, past, threshold).mean(1))
    return np.stack(columns, axis=-1).astype(np.float32)


def _point(name: str, joints: np.ndarray) -> np.ndarray:
    if name in JOINT:
        return joints[:, :, JOINT[name]]
    point = np.zeros((*joints.shape[:2], 3))
    if name == "lowest":
        point[..., 1] = joints[..., 1].min(-1)
    else:
        point[..., 1] = {"zero": 0.0, "up": 1.0, "down": -1.0}[name]
    return point


def _along(vector: np.ndarray, direction: np.ndarray) -> np.ndarray:
    return (vector * direction).sum(-1) / np.linalg.norm(direction, axis=-1)


def _speed_along(p, p_past, a, a_past, direction):
    """Speed of p relative to a along a direction."""
    return _along((p - a) - (p_past - a_past), direction) * GEOMETRIC_FPS


def _holds(kind: str, points: list[np.ndarray], past: list[np.ndarray], threshold: Any) -> np.ndarray:
    """In which frames a relation of `GEOMETRIC` holds (N, T), of points now and a frame ago, each (N, T, 3)."""
    if kind == "fast":
        return np.linalg.norm(points[0] - past[0], axis=-1) * GEOMETRIC_FPS > threshold
    direction = points[1] - points[0]
    if kind == "angle":
        second = points[3] - points[2]
        lengths = np.linalg.norm(direction, axis=-1) * np.linalg.norm(second, axis=-1)
        degrees = np.degrees(np.arccos(np.clip((direction * second).sum(-1) / lengths, -1, 1)))
        return (degrees > threshold[0]) & (degrees < threshold[1])
    if kind == "above":
        return _along(points[3] - points[2], direction) > threshold
    if kind == "move":
        return _speed_along(points[2], past[2], points[0], past[0], direction) > threshold
    normal = np.cross(points[2] - points[0], direction)
    if kind == "plane":
        return _along(points[3] - points[0], normal) > threshold
    return _speed_along(points[3], past[3], points[0], past[0], normal) > threshold  # "move_normal"
