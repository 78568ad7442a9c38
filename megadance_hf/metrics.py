"""What can be measured of a dance without any model: errors of reconstruction and physical plausibility.

All functions take joint positions `(T, 24, 3)` in metres, Y up, as `Motion.joints()` gives them, and return plain floats.
"""

import numpy as np

from megadance_hf.modeling.kinematics_megadance import FOOT_JOINTS

# A foot joint this low (metres) counts as on the floor, where the floor is y = 0 at the foot joints.
FLOOR_HEIGHT = 0.05
# A second whose mean joint speed stays below this (m/s) is frozen: a standing person's breathing and sway are below it.
FROZEN_SPEED = 0.05


def joint_error(predicted: np.ndarray, target: np.ndarray, align: str = "pelvis") -> float:
    """Mean distance in metres between two motions' joints (MPJPE).

    `align`: "none" compares in the world, "pelvis" moves each frame's pelvis to the origin, "rotation" also turns each
    frame so that it fits best (Kabsch), which shows errors that a wrong pelvis rotation hides.
    """
    if align not in ("none", "pelvis", "rotation"):
        raise ValueError(f"align={align!r} is neither 'none', 'pelvis' nor 'rotation'")
    if align != "none":
        predicted, target = predicted - predicted[:, :1], target - target[:, :1]
    if align == "rotation":
        u, _, vt = np.linalg.svd(np.einsum("tji,tjk->tik", predicted, target))
        flip = np.ones(u.shape[:2])
        flip[:, 2] = np.sign(np.linalg.det(u @ vt))
        predicted = predicted @ (u * flip[:, None]) @ vt
    return float(np.linalg.norm(predicted - target, axis=-1).mean())


def mean_speed(joints: np.ndarray, fps: float = 30) -> float:
    """Mean speed of all joints, m/s."""
    return float(np.linalg.norm(np.diff(joints, axis=0), axis=-1).mean() * fps)


def jerk(joints: np.ndarray, fps: float = 30) -> float:
    """Mean magnitude of the third derivative of all joint positions, m/s^3; high values are jitter."""
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


def foot_speed_on_floor(joints: np.ndarray, fps: float = 30, height: float = FLOOR_HEIGHT) -> float:
    """Mean horizontal speed (m/s) of a foot joint in frames in which it is on the floor: skating. 0 if it never is."""
    feet = joints[:, list(FOOT_JOINTS)]
    speed = np.linalg.norm(np.diff(feet[..., [0, 2]], axis=0), axis=-1) * fps
    low = np.maximum(feet[1:, :, 1], feet[:-1, :, 1]) < height
    return float(speed[low].mean()) if low.any() else 0.0


def root_drift(joints: np.ndarray, fps: float = 30) -> float:
    """Horizontal distance per minute between where the pelvis' path begins and where it ends, from one-second means."""
    window = max(1, min(int(fps), len(joints) // 2))
    path = joints[:, 0, [0, 2]]
    minutes = (len(joints) - window) / fps / 60
    return float(np.linalg.norm(path[-window:].mean(0) - path[:window].mean(0)) / minutes) if minutes > 0 else 0.0


def pelvis_bob(joints: np.ndarray, fps: float = 30) -> float:
    """Standard deviation in metres of the pelvis' height about its two-second running mean: a waltz' rise and fall."""
    height = joints[:, 0, 1]
    window = max(1, min(int(2 * fps), len(height)))
    padded = np.pad(height, (window // 2, window - 1 - window // 2), mode="edge")
    return float((height - np.convolve(padded, np.ones(window) / window, mode="valid")).std())


def largest_step(joints: np.ndarray) -> float:
    """The farthest that any joint moves between two frames, metres; a jump when over 0.5 or so."""
    return float(np.linalg.norm(np.diff(joints, axis=0), axis=-1).max(initial=0.0))


def bar_profile(joints: np.ndarray, phase: np.ndarray, bins: int = 16, fps: float = 30) -> np.ndarray:
    """How the dance's speed rises and falls within a bar: (bins,) m/s about their mean.

    The mean speed of all joints, horizontally relative to the pelvis, averaged over all frames of a bin. `phase` (T,) in
    [0, 1) is each frame's place in its bar. Two dances in time with their music have profiles that correlate; a dance that
    does not keep time has a flat one, or one that leans on another beat. Sharper than beat alignment where motion is smooth.
    """
    steps = np.diff(joints - joints[:, :1] * [1, 0, 1], axis=0)
    speed = np.linalg.norm(steps, axis=-1).mean(1) * fps
    place = (phase[: len(speed)] * bins).astype(int) % bins
    counts = np.bincount(place, minlength=bins)
    sums = np.bincount(place, weights=speed, minlength=bins)
    profile = np.where(counts > 0, sums / np.maximum(counts, 1), speed.mean() if len(speed) else 0.0)
    return profile - profile.mean()


def profile_correlation(profile: np.ndarray, reference: np.ndarray) -> float:
    """Correlation of two bar profiles, -1 to 1; 0 when one of them is flat."""
    norm = np.linalg.norm(profile) * np.linalg.norm(reference)
    return float(profile @ reference / norm) if norm > 1e-12 else 0.0
