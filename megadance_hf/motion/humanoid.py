"""The SMPL skeleton as other humanoids see it: what they call its joints, and its motion told from an exact T-pose.

SMPL's rest pose is nearly a T-pose: arms hang some degrees down and back, legs stand astride. Programs that carry a dance
over to another character compare rest poses, and would turn every limb by the difference. So for them the rest pose is
straightened, arms along the X axis and legs straight down, and the rotations are told from there; every joint passes
through the same places.
"""

from __future__ import annotations

import numpy as np

from megadance_hf.modeling.kinematics_megadance import JOINT_NAMES, NUM_JOINTS, PARENTS, REST_OFFSETS

_SIDES = ("left", "right")

# The names that retargeting tools know from motion capture (MotionBuilder, Mixamo), by SMPL joint.
BVH_NAMES = {
    "pelvis": "Hips",
    "spine1": "Spine",
    "spine2": "Spine1",
    "spine3": "Spine2",
    "neck": "Neck",
    "head": "Head",
    **{
        f"{side}_{joint}": side.capitalize() + name
        for side in _SIDES
        for joint, name in {
            "hip": "UpLeg",
            "knee": "Leg",
            "ankle": "Foot",
            "foot": "ToeBase",
            "collar": "Shoulder",
            "shoulder": "Arm",
            "elbow": "ForeArm",
            "wrist": "Hand",
            "hand": "FingerBase",
        }.items()
    },
}
# SMPL moves all fingers by one joint, which no humanoid has: the skeletons below end at the wrists.
_HANDS = ("left_hand", "right_hand")
MIXAMO_NAMES = {joint: f"mixamorig:{name}" for joint, name in BVH_NAMES.items() if joint not in _HANDS}
# Bones of the VRM humanoid, in its order.
VRM_BONES = {
    "hips": "pelvis",
    "spine": "spine1",
    "chest": "spine2",
    "upperChest": "spine3",
    "neck": "neck",
    "head": "head",
    **{
        side + name: f"{side}_{joint}"
        for side in _SIDES
        for name, joint in {
            "UpperLeg": "hip",
            "LowerLeg": "knee",
            "Foot": "ankle",
            "Toes": "foot",
            "Shoulder": "collar",
            "UpperArm": "shoulder",
            "LowerArm": "elbow",
            "Hand": "wrist",
        }.items()
    },
}


def straightening() -> np.ndarray:
    """(24, 3, 3): how each bone of the rest pose is turned (in the world) to make it a T-pose."""
    turns = np.tile(np.eye(3), (NUM_JOINTS, 1, 1))
    for side, outwards in (("left", 1.0), ("right", -1.0)):
        for joint, child, direction in (
            ("hip", "knee", (0, -1, 0)),
            ("knee", "ankle", (0, -1, 0)),
            ("shoulder", "elbow", (outwards, 0, 0)),
            ("elbow", "wrist", (outwards, 0, 0)),
        ):
            bone = np.array(REST_OFFSETS[JOINT_NAMES.index(f"{side}_{child}")])
            turns[JOINT_NAMES.index(f"{side}_{joint}")] = _shortest_turn(bone / np.linalg.norm(bone), direction)
    return turns


def _shortest_turn(start: np.ndarray, end: tuple[float, float, float]) -> np.ndarray:
    """The matrix (3, 3) that takes one unit vector to another, not opposite one, about the axis across both."""
    x, y, z = np.cross(start, end)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + cross + cross @ cross / (1 + np.dot(start, end))


def t_pose_offsets() -> np.ndarray:
    """(24, 3): each joint relative to its parent in the exact T-pose, metres; the root at the origin."""
    turns, offsets = straightening(), np.array(REST_OFFSETS)
    offsets[1:] = np.einsum("jab,jb->ja", turns[list(PARENTS[1:])], offsets[1:])
    return offsets


def t_pose_rotations(rotations: np.ndarray) -> np.ndarray:
    """Rotations (T, 24, 3, 3) of the joints relative to their parents: from SMPL's rest pose -> from the exact T-pose."""
    turns = straightening()
    before = np.concatenate([np.eye(3)[None], turns[list(PARENTS[1:])]])
    return before @ rotations @ turns.transpose(0, 2, 1)
