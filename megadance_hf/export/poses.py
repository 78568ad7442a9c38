"""Arrays that dance code reads: poses (`.npz`, `.pkl`, SMPL-X `.npz`) and joint positions (`.npz`, `.json`)."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from megadance_hf.modeling.kinematics_megadance import JOINT_INDEX, JOINT_NAMES, PARENTS
from megadance_hf.motion import layouts, up_axis
from megadance_hf.motion.motion import Motion, MotionError, atomic_path


def save_npz(motion: Motion, path: str | os.PathLike) -> Path:
    """AMASS-like archive: `poses` (T, 72) axis-angle, `trans` (T, 3) metres, `fps`, `mocap_framerate`, `genre`,
    `gender`, `betas` (10,) zeros, `metadata` (JSON).

    Unlike AMASS, Y is up and `trans` is the position of the pelvis joint: for an SMPL model subtract its rest pelvis.
    """
    path = Path(path)
    content = {
        "poses": motion.poses.reshape(len(motion), -1),
        "trans": motion.translation,
        "fps": np.float64(motion.fps),
        "mocap_framerate": np.float64(motion.fps),
        "genre": np.str_(motion.genre or ""),
        "gender": np.str_("neutral"),
        "betas": np.zeros(10, np.float32),
        "metadata": np.str_(_json(motion.metadata)),
    }
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **content)
    return path


def save_pkl(motion: Motion, path: str | os.PathLike) -> Path:
    """Pickled dict with the keys that dance code expects: `smpl_poses` (T, 72) axis-angle, `smpl_trans` (T, 3) metres,
    `smpl_scaling` (1,), always 1, and `fps`, `genre`, `metadata`.

    `smpl_trans` is the position of the pelvis joint, Y up. Prefer `.npz`: unpickling can run code in programs that are less careful
    than `Motion.load`.
    """
    path = Path(path)
    content = {
        "smpl_poses": motion.poses.reshape(len(motion), -1),
        "smpl_trans": motion.translation,
        "smpl_scaling": np.ones(1, np.float32),  # AIST++'s loaders divide by it
        "fps": motion.fps,
        "genre": motion.genre,
        "metadata": json.loads(_json(motion.metadata)),  # plain containers, or a clear error
    }
    with atomic_path(path) as temporary:
        temporary.write_bytes(pickle.dumps(content, protocol=4))
    return path


def save_smplx(motion: Motion, path: str | os.PathLike) -> Path:
    """SMPL-X archive in AMASS's layout, for Blender's SMPL-X add-on (Add Animation, format AMASS) and other readers of AMASS:
    `poses` (T, 165) axis-angle of 55 joints, `trans` (T, 3) metres, `betas` zeros, `gender`, `mocap_frame_rate`,
    `surface_model_type`.

    As in AMASS, **Z is up** and `trans` is the origin of the (neutral SMPL-X) body model, not its pelvis. SMPL's hand joints
    rotate the first joint of four fingers; jaw, eyes and thumbs stay at rest. SMPL-X has other proportions than SMPL: the pelvis
    keeps its position, so feet may be a few centimetres off the floor.
    """
    path, frames = Path(path), len(motion)
    to_z_up = up_axis.y_up_rotation("z").T
    poses = np.zeros((frames, 55, 3))
    poses[:, : layouts.BODY_JOINTS] = motion.poses[:, : layouts.BODY_JOINTS]
    poses[:, 0] = (Rotation.from_matrix(to_z_up) * Rotation.from_rotvec(motion.poses[:, 0])).as_rotvec()
    for hand, first in _SMPLX_HANDS.items():
        for finger in range(4):  # index, middle, pinky, ring: three joints each; the thumb comes last
            poses[:, first + 3 * finger] = motion.poses[:, JOINT_INDEX[hand]]
    content = {
        "poses": poses.reshape(frames, -1).astype(np.float32),
        "trans": (motion.translation @ to_z_up.T - np.array(layouts.SMPLX_PELVIS)).astype(np.float32),
        "betas": np.zeros(16, np.float32),
        "num_betas": np.int64(16),
        "gender": np.str_("neutral"),
        "surface_model_type": np.str_("smplx"),
        "mocap_frame_rate": np.float64(motion.fps),
        "mocap_time_length": np.float64(motion.seconds),
        "fps": np.float64(motion.fps),
        "genre": np.str_(motion.genre or ""),
        "metadata": np.str_(_json(motion.metadata)),
    }
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **content)
    return path


_SMPLX_HANDS = {"left_hand": 25, "right_hand": 40}  # first of the 15 joints of each hand; 22 to 24 are jaw and eyes


def save_joints(motion: Motion, path: str | os.PathLike) -> Path:
    """Joint positions in metres, Y up: `joints` (T, 24, 3), `fps`, `joint_names`, `parents`, `genre`; JSON if the name ends in
    `.json`, else `.npz`.
    """
    path = Path(path)
    content: dict[str, Any] = {"fps": motion.fps, "genre": motion.genre or ""}
    content.update(joint_names=JOINT_NAMES, parents=PARENTS)
    joints = motion.joints()
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        if path.suffix.lower() == ".json":
            rounded = np.round(joints.astype(float), 5).tolist()
            file.write(json.dumps({**content, "units": "metres, Y up", "joints": rounded}).encode())
        else:
            np.savez_compressed(file, **{key: np.asarray(value) for key, value in content.items()}, joints=joints)
    return path


def _json(metadata: Any) -> str:
    try:
        return json.dumps(metadata)
    except (TypeError, ValueError) as error:
        raise MotionError(f"metadata must hold what JSON can hold: {error}") from None
