"""Files that hold a `Motion`: poses (.npz, .pkl), BVH, animated glTF (.glb), VRM animation (.vrma), joints, SMPL meshes.

Each function takes (motion, path, options), writes the file whole or not at all, and returns the path. `Motion.save`
finds them by suffix.
"""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from megadance_hf.modeling.kinematics_megadance import JOINT_NAMES, NUM_JOINTS, PARENTS, REST_OFFSETS
from megadance_hf.motion import layouts
from megadance_hf.motion.bodies import body_mesh, inverse_bind_matrices
from megadance_hf.motion.humanoid import BVH_NAMES, MIXAMO_NAMES, VRM_BONES, t_pose_offsets, t_pose_rotations
from megadance_hf.motion.mannequin import SOLE_THICKNESS
from megadance_hf.motion.motion import Motion, MotionError, atomic_path
from megadance_hf.motion.safe_files import load_npz, load_pickle

# --- poses ---------------------------------------------------------------------------------------------------------


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
        "metadata": np.str_(_json(motion.metadata, "metadata")),
    }
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **content)
    return path


def save_pkl(motion: Motion, path: str | os.PathLike) -> Path:
    """Pickled dict with the keys that dance code expects: `smpl_poses` (T, 72), `smpl_trans` (T, 3), `smpl_scaling` (1,), which is
    1, and `fps`, `genre`, `metadata`. The path is that of the pelvis joint, Y up, metres. Prefer `.npz`: a stranger's pickle can run code in programs less careful than `Motion.load`.
    """
    path = Path(path)
    content = {
        "smpl_poses": motion.poses.reshape(len(motion), -1),
        "smpl_trans": motion.translation,
        "smpl_scaling": np.ones(1, np.float32),  # AIST++'s loaders divide by it
        "fps": motion.fps,
        "genre": motion.genre,
        "metadata": json.loads(_json(motion.metadata, "metadata")),  # plain containers, or a clear error
    }
    with atomic_path(path) as temporary:
        temporary.write_bytes(pickle.dumps(content, protocol=4))
    return path


def save_smplx(motion: Motion, path: str | os.PathLike) -> Path:
    """SMPL-X archive as AMASS has it, for Blender's SMPL-X add-on (Add Animation, format AMASS) and whatever reads AMASS:
    `poses` (T, 165) axis-angle of 55 joints, `trans` (T, 3) metres, `betas` zeros, `gender`, `mocap_frame_rate`,
    `surface_model_type`.

    As in AMASS, **Z is up** and `trans` is the place of the body model, not of its pelvis (for the neutral SMPL-X body). SMPL's
    hand joints turn four fingers at their first joints; jaw, eyes and thumbs are at rest. SMPL-X's body is not
    SMPL's: the pelvis is where it was, feet may be some centimetres off the floor.
    """
    path, frames = Path(path), len(motion)
    up = layouts.turn_to_y_up("z").T  # the way back
    poses = np.zeros((frames, 55, 3))
    poses[:, : layouts.BODY_JOINTS] = motion.poses[:, : layouts.BODY_JOINTS]
    poses[:, 0] = (Rotation.from_matrix(up) * Rotation.from_rotvec(motion.poses[:, 0])).as_rotvec()
    for hand, first in zip((22, 23), _SMPLX_HANDS, strict=True):
        for finger in range(4):  # index, middle, pinky, ring: three joints each; the thumb comes last
            poses[:, first + 3 * finger] = motion.poses[:, hand]
    content = {
        "poses": poses.reshape(frames, -1).astype(np.float32),
        "trans": (motion.translation @ up.T - np.array(layouts.SMPLX_PELVIS)).astype(np.float32),
        "betas": np.zeros(16, np.float32),
        "num_betas": np.int64(16),
        "gender": np.str_("neutral"),
        "surface_model_type": np.str_("smplx"),
        "mocap_frame_rate": np.float64(motion.fps),
        "mocap_time_length": np.float64(motion.seconds),
        "fps": np.float64(motion.fps),
        "genre": np.str_(motion.genre or ""),
        "metadata": np.str_(_json(motion.metadata, "metadata")),
    }
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **content)
    return path


_SMPLX_HANDS = (25, 40)  # where the 15 joints of each hand begin; 22 to 24 are jaw and eyes


def save_joints(motion: Motion, path: str | os.PathLike) -> Path:
    """Joint positions in metres, Y up: `joints` (T, 24, 3), `fps`, `joint_names`, `parents`, `genre`; a `.npz`, or JSON
    if the name ends in `.json`.
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


# --- BVH -----------------------------------------------------------------------------------------------------------

# Where bones without a child end, metres from the joint.
_BVH_ENDS = {
    "head": (0.0, 0.17, 0.0),
    "left_foot": (0.0, 0.0, 0.08),
    "right_foot": (0.0, 0.0, 0.08),
    "left_hand": (0.08, 0.0, 0.0),
    "right_hand": (-0.08, 0.0, 0.0),
}
_BVH_UNITS = {"m": 1.0, "cm": 100.0}
_BVH_BONES = {"smpl": BVH_NAMES, "mixamo": MIXAMO_NAMES}


def save_bvh(motion: Motion, path: str | os.PathLike, units: str = "m", bones: str = "smpl") -> Path:
    """Biovision hierarchy: a skeleton at rest and, per frame, pelvis position and the rotation of every joint.

    Rotations are degrees in the channel order Z, X, Y (matrix Rz Rx Ry). Of the angle triples of one rotation the
    one nearest to the frame before is written, so that programs which interpolate the angles do not spin.

    Args:
        units: "m" (what Blender reads as life size with its default scale) or "cm" (Maya, MotionBuilder, Unreal, Mixamo).
        bones: "smpl": all 24 joints, called Hips, LeftUpLeg, ..., at rest in the pose of the neutral SMPL body. "mixamo":
            mixamorig:Hips, ..., at rest in an exact T-pose, for tools that retarget by name and compare rest poses. Joints
            are at the same places; what SMPL's two hand joints do (all fingers as one) has no bone there and is left out.
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
        channels = "CHANNELS 3 Zrotation Xrotation Yrotation"
        if depth == 0:
            channels = "CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation"
        lines.append(f"{indent}{'ROOT' if depth == 0 else 'JOINT'} {names[name]}")
        lines.append(f"{indent}{{")
        lines.append(f"{indent}\t{offset(offsets[joint])}")
        lines.append(f"{indent}\t{channels}")
        for child in children:
            write(child, depth + 1)
        if not children:
            end = offsets[below[0]] if below else _BVH_ENDS[name]
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
    """Angles (T, joints, 3), radians, with rotations (T, joints, 3, 3) = Rz(a) Rx(b) Ry(c), continuous over frames.

    R[2,1] = sin b; R[0,1], R[1,1] = -sin a cos b, cos a cos b; R[2,0], R[2,2] = -cos b sin c, cos b cos c.
    (a + pi, pi - b, c + pi) is the same rotation, and at cos b = 0 only a + c or a - c is determined.
    """
    sine = np.clip(rotations[..., 2, 1], -1.0, 1.0)
    cosine = np.hypot(rotations[..., 0, 1], rotations[..., 1, 1])
    middle = np.arctan2(sine, cosine)
    first = np.arctan2(-rotations[..., 0, 1], rotations[..., 1, 1])
    last = np.arctan2(-rotations[..., 2, 0], rotations[..., 2, 2])
    locked = cosine < 1e-5
    # Locked: with c known, R[:2, 0] and R[:2, 2] turned back by Ry(c) give a = atan2(R10, R00) -+ c.
    whole = np.arctan2(rotations[..., 1, 0], rotations[..., 0, 0])  # a + c for b = 90 degrees, a - c for b = -90
    sign = np.sign(sine)

    result = np.empty((*sine.shape, 3))
    previous = np.zeros((sine.shape[1], 3))
    for frame in range(len(result)):
        keep = previous[:, 2]
        a = np.where(locked[frame], whole[frame] - sign[frame] * keep, first[frame])
        c = np.where(locked[frame], keep, last[frame])
        one = np.stack([a, middle[frame], c], -1)
        other = np.stack([a + np.pi, np.pi - middle[frame], c + np.pi], -1)
        candidates = np.stack([one, other])  # [2, joints, 3]
        candidates += (
            2 * np.pi * np.round((previous - candidates) / (2 * np.pi))
        )  # whole turns towards the frame before
        distance = np.abs(candidates - previous).sum(-1)
        result[frame] = previous = np.where((distance[0] <= distance[1])[:, None], *candidates)
    return result


# --- glTF ----------------------------------------------------------------------------------------------------------

_FLOAT, _USHORT, _UINT, _UBYTE = 5126, 5123, 5125, 5121
_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963


class _GltfBuffer:
    """Collects arrays into one binary buffer with their buffer views and accessors."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, array: np.ndarray, kind: str, target: int | None = None, bounds: bool = False, **more: Any) -> int:
        """Append an array (count,) or (count, n), or matrices (count, 16); returns the number of its accessor."""
        component = {"f4": _FLOAT, "u2": _USHORT, "u4": _UINT, "u1": _UBYTE}[array.dtype.str[1:]]
        self.data += b"\0" * (-len(self.data) % 4)
        content = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(content)}
        if target is not None:
            view["target"] = target
        accessor = {
            "bufferView": len(self.views),
            "componentType": component,
            "count": len(array),
            "type": kind,
            **more,
        }
        if bounds:
            accessor["min"] = np.atleast_1d(array.min(0)).tolist()
            accessor["max"] = np.atleast_1d(array.max(0)).tolist()
        self.data += content
        self.views.append(view)
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def save_glb(motion: Motion, path: str | os.PathLike, body: str = "mannequin") -> Path:
    """Binary glTF 2.0: a skinned figure with one animation, for any glTF viewer, game engine or Blender.

    Metres, Y up. The skeleton hangs under a node "Dancer" that is raised by `SOLE_THICKNESS`, so that soles, not foot
    joints, stand on y = 0; the pelvis node under it carries `motion.translation` unchanged. Joint nodes have the SMPL
    joint names. Unanimated viewers show the first frame.

    Args:
        body: "mannequin", or "smooth" for a human figure in a bodysuit (made from MakeHuman's base mesh, CC0 1.0).
    """
    path = Path(path)
    try:
        mesh = body_mesh(body)
    except ValueError as error:
        raise MotionError(str(error)) from None
    buffer, title = _GltfBuffer(), body.capitalize()
    index_type = np.uint16 if len(mesh.vertices) < 65535 else np.uint32
    linear = np.where(
        mesh.colours <= 0.04045, mesh.colours / 12.92, ((mesh.colours + 0.055) / 1.055) ** 2.4
    )  # from sRGB
    colours = np.concatenate([np.round(255 * linear), np.full((len(linear), 1), 255)], axis=1).astype(np.uint8)
    attributes = {
        "POSITION": buffer.add(mesh.vertices, "VEC3", _ARRAY_BUFFER, bounds=True),
        "NORMAL": buffer.add(mesh.normals, "VEC3", _ARRAY_BUFFER),
        "COLOR_0": buffer.add(colours, "VEC4", _ARRAY_BUFFER, normalized=True),
        "JOINTS_0": buffer.add(mesh.joints, "VEC4", _ARRAY_BUFFER),
        "WEIGHTS_0": buffer.add(mesh.weights, "VEC4", _ARRAY_BUFFER),
    }
    indices = buffer.add(mesh.faces.reshape(-1).astype(index_type), "SCALAR", _ELEMENT_ARRAY_BUFFER)

    inverse_bind = inverse_bind_matrices(mesh).transpose(0, 2, 1)  # glTF matrices are column-major
    inverse_bind_accessor = buffer.add(np.ascontiguousarray(inverse_bind).reshape(NUM_JOINTS, 16), "MAT4")

    quaternions = _continuous_quaternions(Rotation.from_rotvec(motion.poses.reshape(-1, 3)))
    times = buffer.add((np.arange(len(motion)) / motion.fps).astype(np.float32), "SCALAR", bounds=True)

    # Nodes: the joints are 0-23, then the node that carries them, then the mesh.
    dancer, body = NUM_JOINTS, NUM_JOINTS + 1
    nodes: list[dict[str, Any]] = []
    samplers = [{"input": times, "output": buffer.add(motion.translation, "VEC3"), "interpolation": "LINEAR"}]
    channels: list[dict[str, Any]] = [{"sampler": 0, "target": {"node": 0, "path": "translation"}}]
    for joint, name in enumerate(JOINT_NAMES):
        offset = motion.translation[0] if joint == 0 else REST_OFFSETS[joint]
        node = {
            "name": name,
            "translation": [float(value) for value in offset],
            "rotation": _unit_floats(quaternions[0, joint]),
        }
        if children := [child for child, parent in enumerate(PARENTS) if parent == joint]:
            node["children"] = children
        nodes.append(node)
        rotation = buffer.add(quaternions[:, joint], "VEC4")
        channels.append({"sampler": len(samplers), "target": {"node": joint, "path": "rotation"}})
        samplers.append({"input": times, "output": rotation, "interpolation": "LINEAR"})
    nodes.append({"name": "Dancer", "translation": [0.0, SOLE_THICKNESS, 0.0], "children": [0]})
    nodes.append({"name": title, "mesh": 0, "skin": 0})  # at the root: a skinned mesh ignores its parents

    content = {
        "asset": {"version": "2.0", "generator": "megadance-hf"},
        "extras": {"fps": motion.fps, "genre": motion.genre or "", "frames": len(motion)},
        "scene": 0,
        "scenes": [{"name": "Dance", "nodes": [dancer, body]}],
        "nodes": nodes,
        "meshes": [
            {"name": title, "primitives": [{"attributes": attributes, "indices": indices, "material": 0}]},
        ],
        "materials": [
            {
                "name": "Wood" if body == "mannequin" else "Suit",
                "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 0.65},
            }
        ],
        "skins": [
            {
                "name": "SMPL",
                "inverseBindMatrices": inverse_bind_accessor,
                "joints": list(range(NUM_JOINTS)),
                "skeleton": dancer,
            }
        ],
        "animations": [{"name": motion.genre or "dance", "channels": channels, "samplers": samplers}],
        "buffers": [{"byteLength": len(buffer.data)}],
        "bufferViews": buffer.views,
        "accessors": buffer.accessors,
    }
    return _write_glb(path, content, buffer)


def save_vrma(motion: Motion, path: str | os.PathLike) -> Path:
    """VRM animation (.vrma): the dance for any VRM avatar; glTF with the extension VRMC_vrm_animation 1.0, without a mesh.

    As the extension wants it, the nodes stand in an exact T-pose, facing +Z, soles on y = 0, and the animation turns bones
    and moves the hips. Metres, Y up; players scale the path to their avatar's legs. What SMPL's two hand joints do (all
    fingers as one) is left out.
    """
    path, buffer = Path(path), _GltfBuffer()
    bones = [JOINT_NAMES.index(joint) for joint in VRM_BONES.values()]
    matrices = Rotation.from_rotvec(motion.poses.reshape(-1, 3)).as_matrix().reshape(-1, NUM_JOINTS, 3, 3)
    quaternions = _continuous_quaternions(Rotation.from_matrix(t_pose_rotations(matrices).reshape(-1, 3, 3)))
    offsets = t_pose_offsets()
    height = np.zeros(NUM_JOINTS)
    for joint, parent in enumerate(PARENTS[1:], start=1):
        height[joint] = height[parent] + offsets[joint, 1]
    offsets[0, 1] = SOLE_THICKNESS - height.min()  # at rest the soles are on the floor

    nodes: list[dict[str, Any]] = []
    for joint in bones:
        node: dict[str, Any] = {"name": JOINT_NAMES[joint], "translation": offsets[joint].tolist()}
        if children := [bones.index(child) for child in bones if PARENTS[child] == joint]:
            node["children"] = children
        nodes.append(node)
    times = buffer.add((np.arange(len(motion)) / motion.fps).astype(np.float32), "SCALAR", bounds=True)
    hips = buffer.add(motion.translation + np.array([0, SOLE_THICKNESS, 0], np.float32), "VEC3")
    turns = [buffer.add(quaternions[:, joint], "VEC4") for joint in bones]
    samplers = [{"input": times, "output": output, "interpolation": "LINEAR"} for output in (hips, *turns)]
    channels = [{"sampler": 0, "target": {"node": 0, "path": "translation"}}]
    channels += [{"sampler": node + 1, "target": {"node": node, "path": "rotation"}} for node in range(len(bones))]
    humanoid = {"humanBones": {name: {"node": node} for node, name in enumerate(VRM_BONES)}}
    content = {
        "asset": {"version": "2.0", "generator": "megadance-hf"},
        "extensionsUsed": ["VRMC_vrm_animation"],
        "extensions": {"VRMC_vrm_animation": {"specVersion": "1.0", "humanoid": humanoid}},
        "extras": {"fps": motion.fps, "genre": motion.genre or "", "frames": len(motion)},
        "scene": 0,
        "scenes": [{"name": "Dance", "nodes": [0]}],
        "nodes": nodes,
        "animations": [{"name": motion.genre or "dance", "channels": channels, "samplers": samplers}],
        "buffers": [{"byteLength": len(buffer.data)}],
        "bufferViews": buffer.views,
        "accessors": buffer.accessors,
    }
    return _write_glb(path, content, buffer)


def _write_glb(path: Path, content: dict[str, Any], buffer: _GltfBuffer) -> Path:
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary = bytes(buffer.data) + b"\0" * (-len(buffer.data) % 4)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(binary)))
        file.write(struct.pack("<I4s", len(text), b"JSON") + text)
        file.write(struct.pack("<I4s", len(binary), b"BIN\0") + binary)
    return path


def _continuous_quaternions(rotations: Rotation) -> np.ndarray:
    """The rotations of all frames and joints, in this order, as quaternions (T, 24, 4) float32: x, y, z, w."""
    quaternions = rotations.as_quat().reshape(-1, NUM_JOINTS, 4)
    # q and -q are one rotation: keep each on the side of the frame before, else players turn the long way round.
    flips = np.cumprod(np.where((quaternions[1:] * quaternions[:-1]).sum(-1) < 0, -1.0, 1.0), axis=0)
    quaternions[1:] *= flips[..., None]
    return quaternions.astype(np.float32)


def _unit_floats(quaternion: np.ndarray) -> list[float]:
    """Unit length in double precision: the validator is stricter about numbers in JSON than about those in buffers."""
    quaternion = quaternion.astype(float)
    return (quaternion / np.linalg.norm(quaternion)).tolist()


# --- SMPL ----------------------------------------------------------------------------------------------------------


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
            suffix for a new folder with one `frame_00000.obj` a frame.
        model_path: an SMPL model file, `.pkl` (cleaned of chumpy; nothing in it is run) or `.npz`, or the folder with `SMPL_NEUTRAL.pkl`.
        betas: body shape, up to 10 numbers; zeros when None. Bones change with it, so feet may leave the floor.
        batch_size: frames computed at once.

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
    import torch

    try:
        import smplx
        from smplx.utils import Struct
    except ImportError as error:
        raise MotionError(f"SMPL meshes need the package smplx ({error}): pip install smplx") from None
    try:
        file = model_path / "SMPL_NEUTRAL.pkl" if model_path.is_dir() else model_path
        # smplx would run what is in a pickle
        content = load_npz(file) if file.suffix == ".npz" else load_pickle(file)
        model = smplx.SMPL(str(file), data_struct=Struct(**content), gender="neutral")
    except Exception as error:  # smplx asserts, unpickles and indexes; whatever fails, the file is to blame
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
        # SMPL turns the body about its rest pelvis J0 and leaves it there; our translation is where it should be.
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


def _json(value: Any, name: str) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError) as error:
        raise MotionError(f"{name} must hold what JSON can hold: {error}") from None
