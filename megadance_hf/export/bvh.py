"""Biovision hierarchy (`.bvh`): a skeleton and its motion, for animation tools."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from megadance_hf.modeling.kinematics_megadance import JOINT_NAMES, NUM_JOINTS, PARENTS, REST_OFFSETS
from megadance_hf.motion.humanoid import BVH_NAMES, MIXAMO_NAMES, t_pose_offsets, t_pose_rotations
from megadance_hf.motion.motion import Motion, MotionError, atomic_path

# End sites of joints without a child, metres from the joint.
_END_SITES = {
    "head": (0.0, 0.17, 0.0),
    "left_foot": (0.0, 0.0, 0.08),
    "right_foot": (0.0, 0.0, 0.08),
    "left_hand": (0.08, 0.0, 0.0),
    "right_hand": (-0.08, 0.0, 0.0),
}
_BVH_UNITS = {"m": 1.0, "cm": 100.0}
_BVH_BONES = {"smpl": BVH_NAMES, "mixamo": MIXAMO_NAMES}


def save_bvh(motion: Motion, path: str | os.PathLike, units: str = "m", bones: str = "smpl") -> Path:
    """Biovision hierarchy: the rest skeleton and, per frame, the pelvis position and the rotation of every joint.

    Rotations are degrees in the channel order Z, X, Y (matrix Rz Rx Ry). Of the angle triples of a rotation the one nearest to the
    previous frame is written, so that programs which interpolate angles do not spin.

    Args:
        units: "m" (life size in Blender with its default scale) or "cm" (Maya, MotionBuilder, Unreal, Mixamo).
        bones: "smpl": all 24 joints, named Hips, LeftUpLeg, ..., resting in the pose of the neutral SMPL body. "mixamo":
            mixamorig:Hips, ..., resting in an exact T-pose, for tools that retarget by name and compare rest poses; joint positions
            are the same, and the rotations of SMPL's two hand joints (all fingers as one) are left out.

    Raises:
        MotionError: other `units` or `bones`, or `path` cannot be written.
    """
    path = Path(path)
    if units not in _BVH_UNITS:
        raise MotionError(f"units={units!r}: give one of {', '.join(map(repr, _BVH_UNITS))}")
    if bones not in _BVH_BONES:
        raise MotionError(f"bones={bones!r}: give one of {', '.join(map(repr, _BVH_BONES))}")
    scale, names = _BVH_UNITS[units], _BVH_BONES[bones]
    rotations = Rotation.from_rotvec(motion.poses.reshape(-1, 3)).as_matrix().reshape(-1, NUM_JOINTS, 3, 3)
    offsets = np.array(REST_OFFSETS)
    if bones == "mixamo":
        offsets, rotations = t_pose_offsets(), t_pose_rotations(rotations)
    order: list[int] = []  # depth first, the order of the channels
    lines = ["HIERARCHY"]

    def offset(values: Sequence[float]) -> str:
        return "OFFSET " + " ".join(f"{scale * value:.6f}" for value in values)

    def write(joint: int, depth: int) -> None:
        order.append(joint)
        indent, name = "\t" * depth, JOINT_NAMES[joint]
        below = [child for child, parent in enumerate(PARENTS) if parent == joint]
        children = [child for child in below if JOINT_NAMES[child] in names]
        kind, path = ("JOINT", "3") if depth else ("ROOT", "6 Xposition Yposition Zposition")
        lines.extend([f"{indent}{kind} {names[name]}", f"{indent}{{", f"{indent}\t{offset(offsets[joint])}"])
        lines.append(f"{indent}\tCHANNELS {path} Zrotation Xrotation Yrotation")
        for child in children:
            write(child, depth + 1)
        if not children:
            end = offsets[below[0]] if below else _END_SITES[name]
            lines.extend([f"{indent}\tEnd Site", f"{indent}\t{{", f"{indent}\t\t{offset(end)}", f"{indent}\t}}"])
        lines.append(f"{indent}}}")

    write(0, 0)
    angles = _continuous_zxy(rotations)
    rows = np.concatenate([scale * motion.translation, np.degrees(angles[:, order]).reshape(len(motion), -1)], axis=1)
    lines += ["MOTION", f"Frames: {len(motion)}", f"Frame Time: {1 / motion.fps:.10f}"]
    lines += [" ".join(f"{value:.6f}" for value in row) for row in rows]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="ascii")
    return path


def _continuous_zxy(rotations: np.ndarray) -> np.ndarray:
    """Euler angles (T, joints, 3) in radians of rotations (T, joints, 3, 3) = Rz(a) Rx(b) Ry(c), continuous over frames.

    R[2,1] = sin b; R[0,1], R[1,1] = -sin a cos b, cos a cos b; R[2,0], R[2,2] = -cos b sin c, cos b cos c.
    (a + pi, pi - b, c + pi) is the same rotation. At cos b = 0 (gimbal lock) only a + c or a - c is determined.
    """
    sine = np.clip(rotations[..., 2, 1], -1.0, 1.0)
    cosine = np.hypot(rotations[..., 0, 1], rotations[..., 1, 1])
    middle = np.arctan2(sine, cosine)
    first = np.arctan2(-rotations[..., 0, 1], rotations[..., 1, 1])
    last = np.arctan2(-rotations[..., 2, 0], rotations[..., 2, 2])
    locked = cosine < 1e-5
    # In gimbal lock c keeps the value of the previous frame, and a = atan2(R10, R00) -+ c.
    combined = np.arctan2(rotations[..., 1, 0], rotations[..., 0, 0])  # a + c for b = 90 degrees, a - c for b = -90
    sign = np.sign(sine)

    result = np.empty((*sine.shape, 3))
    previous = np.zeros((sine.shape[1], 3))
    for frame in range(len(result)):
        kept = previous[:, 2]
        a = np.where(locked[frame], combined[frame] - sign[frame] * kept, first[frame])
        c = np.where(locked[frame], kept, last[frame])
        one = np.stack([a, middle[frame], c], -1)
        other = np.stack([a + np.pi, np.pi - middle[frame], c + np.pi], -1)
        candidates = np.stack([one, other])  # [2, joints, 3]
        # full turns towards the previous frame
        candidates += 2 * np.pi * np.round((previous - candidates) / (2 * np.pi))
        distance = np.abs(candidates - previous).sum(-1)
        result[frame] = previous = np.where((distance[0] <= distance[1])[:, None], *candidates)
    return result
