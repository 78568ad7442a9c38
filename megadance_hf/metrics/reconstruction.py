"""How far a motion is from the one that it should be: joint error (MPJPE), and the errors of Table 4b."""

import numpy as np


def joint_error(predicted: np.ndarray, target: np.ndarray, align: str = "pelvis") -> float:
    """Mean distance in metres between the joints (T, 24, 3) of two motions (MPJPE).

    `align`: "none" compares in the world, "pelvis" moves each frame's pelvis to the origin, "rotation" also rotates each frame
    for the best fit (Kabsch), which shows errors that a wrong pelvis rotation hides.
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


def reconstruction_errors(predicted: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Mean squared and mean absolute error (Table 4b) of two arrays of equal shape: SMPL parameters, or joints in metres."""
    predicted, target = np.asarray(predicted, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if predicted.shape != target.shape or predicted.size == 0:
        raise ValueError(f"predicted and target have shapes {predicted.shape} and {target.shape}; expected equal ones")
    difference = predicted - target
    return {"mse": float((difference**2).mean()), "mae": float(np.abs(difference).mean())}
