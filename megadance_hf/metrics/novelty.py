"""How new a dance is: the longest run of its frames that repeats motion of a training set."""

from collections.abc import Iterable

import numpy as np

from megadance_hf.modeling.kinematics_megadance import JOINT_NAMES

# Metres. Captured figures that no training clip has follow one for 1 to 2 s within this, those that some clip has for 5 to 10 s.
POSE_TOLERANCE = 0.08
# Every so many frames of a dance are compared, with all frames of the training set.
STRIDE = 3
BLOCK = 16  # frames of a dance that are compared at once
_LIMBS = tuple(
    JOINT_NAMES.index(f"{side}_{joint}")
    for joint in ("knee", "ankle", "foot", "shoulder", "elbow", "wrist")
    for side in ("left", "right")
)


def body_poses(joints: np.ndarray) -> np.ndarray:
    """Limbs (T, 12, 3) of joints (T, 24, 3), metres, relative to the pelvis and turned about the vertical so that the hips face +Z."""
    across = (
        joints[:, 1, [0, 2]] - joints[:, 2, [0, 2]]
    )  # from the right hip to the left one, +X of a body that faces +Z
    cosine, sine = (across / np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 1e-9)).T
    limbs = joints[:, _LIMBS] - joints[:, :1]
    x, z = limbs[..., 0], limbs[..., 2]
    turned = (cosine[:, None] * x + sine[:, None] * z, limbs[..., 1], cosine[:, None] * z - sine[:, None] * x)
    return np.stack(turned, axis=-1).astype(np.float32)


class TrainingMotion:
    """Motion of a training set, to find the runs of a dance that repeat it.

    Args:
        joints: for each clip its joints (T, 24, 3), metres, at the frame rate of the dances; mirrored as well where these were
            learned from, and through the tokenizer for dances that came through it.
    """

    def __init__(self, joints: Iterable[np.ndarray]):
        rows = []
        for clip in joints:
            rows += [body_poses(clip[first::STRIDE]) for first in range(min(STRIDE, len(clip)))]
        lengths = [len(row) for row in rows]
        self._first = np.cumsum([0, *lengths[:-1]], dtype=np.int64)[: len(rows)]
        self._rows = (
            np.concatenate([row.reshape(len(row), -1) for row in rows]) if rows else np.zeros((0, 1), np.float32)
        )

    def longest_run(self, joints: np.ndarray, fps: float = 30, tolerance: float = POSE_TOLERANCE) -> float:
        """Seconds of the longest part of a dance (T, 24, 3) that follows one place of the training set frame by frame.

        Poses are compared relative to the pelvis and to where the hips face, so that place and direction do not matter: they are
        the same when their limbs are within `tolerance` metres of each other (root mean square). Resolution: a tenth of a second.
        """
        if len(self._rows) == 0 or len(joints) == 0:
            return 0.0
        poses = body_poses(joints[::STRIDE]).reshape(-1, self._rows.shape[1])
        limit = tolerance**2 * len(_LIMBS)
        squares = np.square(self._rows).sum(1)
        run, longest = np.zeros(len(self._rows), np.int32), 0
        for block in np.split(poses, range(BLOCK, len(poses), BLOCK)):
            distances = squares - 2 * (block @ self._rows.T) + np.square(block).sum(1)[:, None]
            for near in distances <= limit:
                run[1:] = run[:-1] + 1
                run[self._first] = 1
                run *= near
                longest = max(longest, int(run.max()))
        return longest * STRIDE / fps
