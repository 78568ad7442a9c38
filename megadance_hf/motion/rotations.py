"""Rotations in numpy: about an axis, and the shortest ones between directions."""

import numpy as np
from scipy.spatial.transform import Rotation


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) scaled to length 1; zero stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def rotations_about(axis: int, angles: np.ndarray) -> np.ndarray:
    """Rotations (T, 3, 3) about x, y or z by angles (T,) in radians."""
    rotations = np.tile(np.eye(3), (len(angles), 1, 1))
    u, v = (axis + 1) % 3, (axis + 2) % 3
    rotations[:, u, u] = rotations[:, v, v] = np.cos(angles)
    rotations[:, v, u] = np.sin(angles)
    rotations[:, u, v] = -rotations[:, v, u]
    return rotations


def shortest_rotations(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The shortest rotations (..., 3, 3) from directions (..., 3) to others; one `start` may serve many `end`."""
    start, end = np.broadcast_arrays(unit(start), unit(end))
    axis = np.cross(start, end)
    sine, cosine = np.linalg.norm(axis, axis=-1), (start * end).sum(-1)
    # between opposite directions: about any perpendicular axis
    across = np.cross(start, np.where(np.abs(start[..., :1]) < 0.7, [1.0, 0, 0], [0, 1.0, 0]))
    axis = np.where((sine < 1e-9)[..., None], across, axis)
    return Rotation.from_rotvec(unit(axis) * np.arctan2(sine, cosine)[..., None]).as_matrix()
