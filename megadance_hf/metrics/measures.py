"""Every number that papers on dance generation report, and the physical ones that users ask for.

Of one dance: functions of its joint positions `(T, 24, 3)` in metres, Y up, as `Motion.joints()` gives them. Of many: functions
of feature rows `(N, D)`, which `dance_features.py` (kinetic, geometric) and the genre classifier (style) make. All return plain
floats. Degenerate input has a documented value or is an error; no number is ever complex.
"""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter1d

from megadance_hf.modeling.kinematics_megadance import FOOT_JOINTS
from megadance_hf.modeling.quantizers_megadance import codebook_utilization  # noqa: F401  (also a metric: its home has the codes)

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


# --- foot contact ------------------------------------------------------------------------------------------------------

SKATING_DISTANCE = 0.025  # metres a frame


def foot_skating_ratio(joints: np.ndarray, fps: float = 30, height: float = FLOOR_HEIGHT) -> float:
    """Share of frames in which a foot on the floor slips by more than 2.5 cm (at 30 frames/s; less at higher rates).

    A foot is on the floor while its toe joint stays below `height` from one frame to the next. 0 when none ever is.
    """
    feet = joints[:, list(FOOT_JOINTS)]
    moved = np.linalg.norm(np.diff(feet[..., [0, 2]], axis=0), axis=-1)
    low = np.maximum(feet[1:, :, 1], feet[:-1, :, 1]) < height
    return float((low & (moved > SKATING_DISTANCE * 30 / fps)).any(-1).mean()) if len(feet) > 1 else 0.0


def physical_foot_contact(joints: np.ndarray, fps: float = 30) -> float:
    """Physical foot contact score, PFC (Tseng et al. 2023, EDGE): lower is better, and plausible; times 10,000 as there.

    A body speeds up because a foot pushes against the floor: the product of the pelvis' acceleration (relative to its
    largest; downwards gravity does it, so that is left out) and of how fast each foot moves, averaged over frames. 0 for a
    motion without acceleration, or of less than three frames.
    """
    if len(joints) < 3:
        return 0.0
    acceleration = np.diff(joints[:, 0], n=2, axis=0) * fps**2
    acceleration[:, 1] = np.maximum(acceleration[:, 1], 0)
    size = np.linalg.norm(acceleration, axis=-1)
    if size.max() == 0:
        return 0.0
    # each foot moves as little as the slower of its ankle and toe; speeds as displacements of a frame, as in EDGE's code
    steps = np.linalg.norm(np.diff(joints[1:, [7, 10, 8, 11]][..., [0, 2]], axis=0), axis=-1)
    left, right = steps[:, :2].min(1), steps[:, 2:].min(1)
    return float((left * right * size / size.max()).mean() * 10000)


# --- music -------------------------------------------------------------------------------------------------------------

BEAT_SPREAD = 3.0  # frames at 30 frames/s, sigma of a beat's tolerance


def motion_beats(joints: np.ndarray, smoothing: float = 5.0) -> np.ndarray:
    """Frames in which the dance pauses: strict local minima of the smoothed mean joint speed. May be none."""
    speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1).mean(1)
    if len(speed) < 3:
        return np.zeros(0, dtype=np.int64)
    speed = gaussian_filter1d(speed.astype(np.float64), smoothing)
    return np.flatnonzero((speed[1:-1] < speed[:-2]) & (speed[1:-1] < speed[2:])) + 1


def beat_alignment(joints: np.ndarray, music_beats: np.ndarray, over: str = "music") -> float:
    """Beat align score, 0 to 1: mean over beats of exp(-d^2 / 18), d frames to the nearest beat of the other kind.

    `over="music"` averages over the music's beats, as the released code of MEGADance (and Bailando) does: every beat of the
    song wants a pause. `over="motion"` averages over the motion's, as Li et al. 2021 define it: every pause wants a beat.
    The two are not comparable. `music_beats` are frames. 0 when either has no beats (the released code fails then).
    """
    if over not in ("music", "motion"):
        raise ValueError(f"over={over!r} is neither 'music' nor 'motion'")
    danced, heard = motion_beats(joints), np.asarray(music_beats)
    if len(danced) == 0 or len(heard) == 0:
        return 0.0
    distance = np.abs(heard[:, None] - danced[None]).min(1 if over == "music" else 0)
    return float(np.exp(-(distance**2) / (2 * BEAT_SPREAD**2)).mean())


# --- distributions -------------------------------------------------------------------------------------------------------


def _rows(name: str, features: np.ndarray, least: int) -> np.ndarray:
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or len(features) < least:
        raise ValueError(f"{name} has shape {features.shape}; expected ({least} or more clips, features)")
    if not np.isfinite(features).all():
        raise ValueError(f"{name} has numbers that are not finite")
    return features


def normalize_features(features: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Features (N, D) by mean and spread of the reference's rows (M, D), two or more: what FID_k, FID_g and DIV are taken of.

    A feature that is constant in the reference is divided by 1e-10, as the released code does: its differences explode.
    """
    reference = _rows("reference", reference, 2)
    return (np.asarray(features, dtype=np.float64) - reference.mean(0)) / (reference.std(0, ddof=1) + 1e-10)


def frechet_distance(features: np.ndarray, reference: np.ndarray) -> float:
    """Frechet distance (FID) of two sets of feature rows, two clips or more each; 0 for equal sets.

    By eigenvalues of symmetric matrices, so that it is real also where covariances are singular (fewer clips than
    features), where a matrix square root gets imaginary parts.
    """
    features, reference = _rows("features", features, 2), _rows("reference", reference, 2)
    if features.shape[1] != reference.shape[1]:
        raise ValueError(f"features have {features.shape[1]} columns, the reference {reference.shape[1]}")
    first, second = np.cov(reference, rowvar=False).reshape(2 * reference.shape[1:]), np.cov(features, rowvar=False)
    second = second.reshape(first.shape)  # one column: cov gives a number
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    apart = ((features.mean(0) - reference.mean(0)) ** 2).sum()
    return max(0.0, float(apart + np.trace(first) + np.trace(second) - 2 * shared))


def diversity(features: np.ndarray) -> float:
    """Mean distance of every two rows (DIV). One row has none: 0."""
    features = _rows("features", features, 1)
    if len(features) == 1:
        return 0.0
    squares = (features**2).sum(1)
    # the product's rounding can leave a tiny negative square for equal rows
    distances = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * features @ features.T, 0))
    return float(distances[np.triu_indices(len(features), 1)].mean())


# --- genres ----------------------------------------------------------------------------------------------------------------


def genre_accuracy(predicted: Sequence[int], labels: Sequence[int]) -> float:
    """Share of right answers (ACC)."""
    predicted, labels = _answers(predicted, labels)
    return float((predicted == labels).mean())


def genre_f1(predicted: Sequence[int], labels: Sequence[int]) -> float:
    """F1 averaged over the genres that occur in answers or labels (macro F1); a genre that is never hit counts 0."""
    predicted, labels = _answers(predicted, labels)
    scores = []
    for genre in np.union1d(predicted, labels):
        hits = int(((predicted == genre) & (labels == genre)).sum())
        scores.append(2 * hits / int((predicted == genre).sum() + (labels == genre).sum()))
    return float(np.mean(scores))


def _answers(predicted: Sequence[int], labels: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    predicted, labels = np.asarray(predicted), np.asarray(labels)
    if predicted.shape != labels.shape or predicted.ndim != 1 or len(labels) == 0:
        raise ValueError(f"predicted and labels have shapes {predicted.shape} and {labels.shape}; expected (N,) twice")
    return predicted, labels


# --- reconstruction ----------------------------------------------------------------------------------------------------------


def reconstruction_errors(predicted: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Mean squared and mean absolute error (Table 4b) of two arrays of equal shape: SMPL parameters, or joints in metres."""
    predicted, target = np.asarray(predicted, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if predicted.shape != target.shape or predicted.size == 0:
        raise ValueError(f"predicted and target have shapes {predicted.shape} and {target.shape}; expected equal ones")
    difference = predicted - target
    return {"mse": float((difference**2).mean()), "mae": float(np.abs(difference).mean())}
