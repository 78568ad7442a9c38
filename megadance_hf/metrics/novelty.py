"""How new a dance is: the longest run of its frames that repeats motion of a training set, and its joins between known figures."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from megadance_hf.modeling.kinematics_megadance import JOINT_NAMES

# Metres. Captured figures that no training clip has follow one for 1 to 2 s within this, those that some clip has for 5 to 10 s.
POSE_TOLERANCE = 0.08
# Every so many frames of a dance are compared, with all frames of the training set.
STRIDE = 3
BLOCK = 16  # frames of a dance that are compared at once
# Of `TrainingUnits`, in units of a pose that is `POSE_TOLERANCE` away for one of every `STRIDE` frames: what it costs to leave a figure
# for another, and to dance none for a frame.
CHANGE_COST, NO_UNIT_COST = 6.0, 1.5
LONGEST_GAP = 1.0  # seconds: two figures with more unknown motion between them are not joined
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
        self._begins = np.zeros(sum(lengths), dtype=bool)
        self._begins[np.cumsum([0, *lengths[:-1]], dtype=np.int64)[: len(rows)]] = True
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
        followed = np.zeros(0, np.int64)
        for block in np.split(poses, range(BLOCK, len(poses), BLOCK)):
            distances = squares - 2 * (block @ self._rows.T) + np.square(block).sum(1)[:, None]
            for near in distances <= limit:
                rows = np.flatnonzero(near)  # few: the others need no work
                lengths = np.where(self._begins[rows], 1, run[rows - 1] + 1)
                run[followed], run[rows], followed = 0, lengths, rows
                longest = max(longest, int(lengths.max(initial=0)))
        return longest * STRIDE / fps


class TrainingUnits:
    """The units (figures) of training choreographies, to read a dance as a sequence of them.

    Args:
        units: name and joints (T, 24, 3), metres, of each performance of a unit, at the frame rate of the dances.
        pairs: names of units of which the second follows the first in a training choreography.
    """

    def __init__(self, units: Iterable[tuple[str, np.ndarray]], pairs: Iterable[tuple[str, str]]):
        rows, self._names, self._first = [], [], []
        for name, joints in units:
            self._first.append(len(self._names))
            self._names += [name] * len(joints)
            rows.append(body_poses(joints).reshape(len(joints), -1))
        self._rows = np.concatenate(rows) if rows else np.zeros((0, 1), np.float32)
        self._pairs = set(pairs)
        # how many frames of its unit lie before each row
        self._age = np.arange(len(self._names)) - np.repeat(self._first, np.diff([*self._first, len(self._names)]))

    def read(self, joints: np.ndarray) -> list[str | None]:
        """The unit that each third frame of a dance (T, 24, 3) belongs to, None where it resembles none.

        The cheapest path through all frames of all units (Viterbi): each frame costs the squared distance of its pose (as in
        `TrainingMotion`), going on in a unit is free, at two thirds to four thirds of its tempo, and a change costs the same wherever it
        leads. A change is as cheap to a unit that follows in a choreography as to any other.
        """
        if len(self._rows) == 0 or len(joints) == 0:
            return [None] * len(joints[::STRIDE])
        poses = body_poses(joints[::STRIDE]).reshape(-1, self._rows.shape[1])
        none, limit = len(self._rows), POSE_TOLERANCE**2 * len(_LIMBS)
        squares = np.square(self._rows).sum(1)
        cost, came = np.zeros(none + 1), np.empty((len(poses), none + 1), np.int8)
        best = np.empty(len(poses), np.int64)  # before each frame, the cheapest row
        for number, pose in enumerate(poses):
            best[number] = cost.argmin()
            changed = cost[best[number]] + CHANGE_COST
            after, came[number] = np.full(none + 1, changed), 0  # 0: from `best`; otherwise so many rows ahead
            for step in (STRIDE, STRIDE - 1, STRIDE + 1):
                going_on = np.where(self._age[step:] >= step, cost[: none - step], np.inf)
                better = going_on < after[step:none]
                after[step:none][better], came[number, step:none][better] = going_on[better], step
            if cost[none] < after[none]:
                after[none], came[number, none] = cost[none], -1  # none goes on
            distance = np.maximum(squares - 2 * (self._rows @ pose) + pose @ pose, 0)
            cost = after + np.append(distance / limit, NO_UNIT_COST)
        row, found = int(cost.argmin()), []
        for number in reversed(range(len(poses))):
            found.append(None if row == none else self._names[row])
            step = int(came[number, row])
            row = int(best[number]) if step == 0 else row if step < 0 else row - step
        return found[::-1]

    def joins(self, joints: np.ndarray, fps: float = 30) -> dict[str, float]:
        """The joins between different units of a dance: {"joins": their number, "new": those of pairs that no training choreography
        has, "in_units": share of the dance that is in some unit}."""
        names = self.read(joints)
        runs: list[tuple[str, int, int]] = []  # name, first and last step
        for step, name in enumerate(names):
            if name is None:
                continue
            if runs and runs[-1][0] == name and runs[-1][2] == step - 1:
                runs[-1] = (name, runs[-1][1], step)
            else:
                runs.append((name, step, step))
        found = [
            (one, other) not in self._pairs
            for (one, _, end), (other, start, _) in pairwise(runs)
            if one != other and (start - end - 1) * STRIDE / fps <= LONGEST_GAP
        ]
        known = sum(name is not None for name in names) / max(1, len(names))
        return {"joins": len(found), "new": int(sum(found)), "in_units": known}
