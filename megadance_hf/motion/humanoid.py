"""The SMPL skeleton for other humanoids: their names of its joints, and its rotations relative to an exact T-pose.

SMPL's rest pose is nearly a T-pose: the arms point a few degrees down and back, the legs stand apart. Programs that retarget a
dance to another character compare rest poses and would rotate every limb by the difference. For them the rest pose is straightened,
arms along the X axis and legs straight down, and rotations are relative to that; joint positions stay the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from megadance_hf.modeling.kinematics_megadance import JOINT_INDEX, NUM_JOINTS, PARENTS, REST_OFFSETS

# The joints of SMPL, in the middle and on each side: their names in motion capture (MotionBuilder, Mixamo), which retargeting tools
# know, and the bones of the VRM humanoid, in its order.
_MIDDLE = {
    "pelvis": ("Hips", "hips"),
    "spine1": ("Spine", "spine"),
    "spine2": ("Spine1", "chest"),
    "spine3": ("Spine2", "upperChest"),
    "neck": ("Neck", "neck"),
    "head": ("Head", "head"),
}
_SIDED = {
    "hip": ("UpLeg", "UpperLeg"),
    "knee": ("Leg", "LowerLeg"),
    "ankle": ("Foot", "Foot"),
    "foot": ("ToeBase", "Toes"),
    "collar": ("Shoulder", "Shoulder"),
    "shoulder": ("Arm", "UpperArm"),
    "elbow": ("ForeArm", "LowerArm"),
    "wrist": ("Hand", "Hand"),
    "hand": ("FingerBase", ""),  # SMPL's one joint for all fingers, which other humanoids lack: they end at the wrists
}
_SIDES = ("left", "right")
_NAMES = _MIDDLE | {
    f"{side}_{joint}": (side.capitalize() + bvh, vrm and side + vrm)
    for side in _SIDES
    for joint, (bvh, vrm) in _SIDED.items()
}
BVH_NAMES = {joint: bvh for joint, (bvh, _) in _NAMES.items()}
MIXAMO_NAMES = {joint: f"mixamorig:{bvh}" for joint, (bvh, vrm) in _NAMES.items() if vrm}
VRM_BONES = {vrm: joint for joint, (_, vrm) in _NAMES.items() if vrm}


def sum_offsets(offsets: ArrayLike, parents: Sequence[int] = PARENTS) -> np.ndarray:
    """Positions (J, 3) of joints at rest from their offsets (J, 3) from their parents, relative to their root."""
    positions = np.zeros((len(parents), 3))
    for joint, parent in enumerate(parents):
        if parent >= 0:
            positions[joint] = positions[parent] + offsets[joint]
    return positions


def straightening() -> np.ndarray:
    """World rotations (24, 3, 3) of the bones from the rest pose to the T-pose."""
    rotations = np.tile(np.eye(3), (NUM_JOINTS, 1, 1))
    for side, outwards in (("left", 1.0), ("right", -1.0)):
        for joint, child, direction in (
            ("hip", "knee", (0, -1, 0)),
            ("knee", "ankle", (0, -1, 0)),
            ("shoulder", "elbow", (outwards, 0, 0)),
            ("elbow", "wrist", (outwards, 0, 0)),
        ):
            bone = np.array(REST_OFFSETS[JOINT_INDEX[f"{side}_{child}"]])
            rotations[JOINT_INDEX[f"{side}_{joint}"]] = _shortest_rotation(bone / np.linalg.norm(bone), direction)
    return rotations


def _shortest_rotation(start: np.ndarray, end: tuple[float, float, float]) -> np.ndarray:
    """The shortest rotation (3, 3) from one unit vector to another, which must not be its opposite."""
    x, y, z = np.cross(start, end)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + cross + cross @ cross / (1 + np.dot(start, end))


def t_pose_offsets() -> np.ndarray:
    """Offsets (24, 3) of the joints from their parents in the exact T-pose, metres; the root at the origin."""
    rotations, offsets = straightening(), np.array(REST_OFFSETS)
    offsets[1:] = np.einsum("jab,jb->ja", rotations[list(PARENTS[1:])], offsets[1:])
    return offsets


def t_pose_rotations(rotations: np.ndarray) -> np.ndarray:
    """Local rotations (T, 24, 3, 3) relative to SMPL's rest pose -> the same relative to the exact T-pose."""
    straight = straightening()
    above = np.concatenate([np.eye(3)[None], straight[list(PARENTS[1:])]])
    return above @ rotations @ straight.transpose(0, 2, 1)
