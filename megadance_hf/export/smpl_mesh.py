"""Meshes of the user's own SMPL model, which is neither free nor included: `.npz`, or a folder of `.obj` files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from megadance_hf.modeling.kinematics_megadance import NUM_JOINTS
from megadance_hf.motion.motion import Motion, MotionError, atomic_path
from megadance_hf.motion.safe_files import load_npz, load_pickle


def save_smpl_mesh(
    motion: Motion,
    path: str | os.PathLike,
    model_path: str | os.PathLike,
    betas: np.ndarray | None = None,
    batch_size: int = 256,
) -> Path:
    """The motion as meshes of the user's own SMPL model (https://smpl.is.tue.mpg.de, non-commercial research licence).

    Args:
        path: `NAME.npz` for `vertices` (T, V, 3) float32, `faces` (F, 3), `joints` (T, 24, 3) and `fps`; a name without
            suffix for a new folder with one `frame_00000.obj` per frame.
        model_path: an SMPL model file, `.pkl` (cleaned of chumpy; no code in it is run) or `.npz`, or the folder with
            `SMPL_NEUTRAL.pkl`.
        betas: body shape, up to 10 numbers; zeros when None. They change the bone lengths, so feet may leave the floor.
        batch_size: frames per forward pass.

    Raises:
        MotionError: smplx is not installed, the model cannot be read, or `path` cannot be written.
    """
    path, model_path = Path(path), Path(model_path)
    if path.suffix not in ("", ".npz"):
        raise MotionError(f"path={str(path)!r}: end it in .npz, or give a folder name without suffix for .obj files")
    if path.suffix == "" and path.exists():
        raise MotionError(f"path={str(path)!r} exists: give the name of a new folder")
    if not path.parent.is_dir():
        raise MotionError(f"path={str(path)!r}: the folder {str(path.parent)!r} does not exist; create it first")
    vertices, joints, faces = _smpl_forward(motion, model_path, betas, batch_size)
    if path.suffix == ".npz":
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, vertices=vertices, faces=faces, joints=joints, fps=np.float64(motion.fps))
        return path
    triangles = "".join("f {} {} {}\n".format(*face) for face in faces + 1)
    with atomic_path(path) as temporary:
        temporary.mkdir()
        for frame, points in enumerate(vertices):
            lines = "".join(f"v {x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in points)
            (temporary / f"frame_{frame:05d}.obj").write_text(lines + triangles, encoding="ascii")
    return path


def _smpl_forward(
    motion: Motion, model_path: Path, betas: np.ndarray | None, batch_size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (T, V, 3) and joints (T, 24, 3) in metres, and faces (F, 3)."""
    import torch

    try:
        import smplx
        from smplx.utils import Struct
    except ImportError as error:
        raise MotionError(f"SMPL meshes need the package smplx ({error}): pip install smplx") from None
    try:
        file = model_path / "SMPL_NEUTRAL.pkl" if model_path.is_dir() else model_path
        # read by us: smplx would unpickle the file, and run what is in it
        content = load_npz(file) if file.suffix == ".npz" else load_pickle(file)
        model = smplx.SMPL(str(file), data_struct=Struct(**content), gender="neutral")
    except Exception as error:  # smplx asserts and indexes: whatever fails, the file is the cause
        raise MotionError(
            f"model_path={str(model_path)!r} is not a readable SMPL model ({type(error).__name__}: {error}); "
            "give SMPL_NEUTRAL.pkl, cleaned of chumpy objects, or the folder with it"
        ) from None

    shape = torch.zeros(1, model.num_betas)
    if betas is not None:
        given = torch.as_tensor(np.asarray(betas, np.float32).reshape(1, -1))
        if given.shape[1] > shape.shape[1]:
            raise MotionError(f"betas has {given.shape[1]} numbers: this model takes up to {shape.shape[1]}")
        shape[:, : given.shape[1]] = given
    vertices, joints = [], []
    with torch.no_grad():
        # SMPL rotates about the rest pelvis, which stays where it is; our translation is the position of the posed pelvis.
        shaped = model.v_template + torch.einsum("bl,vkl->bvk", shape, model.shapedirs)[0]
        pelvis = (model.J_regressor @ shaped)[0]
        for first in range(0, len(motion), batch_size):
            poses = torch.from_numpy(motion.poses[first : first + batch_size])
            output = model(
                betas=shape.expand(len(poses), -1),
                global_orient=poses[:, 0],
                body_pose=poses[:, 1:].flatten(1),
                transl=torch.from_numpy(motion.translation[first : first + batch_size]) - pelvis,
            )
            vertices.append(output.vertices.numpy())
            joints.append(output.joints[:, :NUM_JOINTS].numpy())
    return np.concatenate(vertices), np.concatenate(joints), np.asarray(model.faces, np.int64)
