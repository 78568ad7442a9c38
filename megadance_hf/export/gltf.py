"""Binary glTF 2.0: an animated figure (`.glb`), and the animation alone for VRM avatars (`.vrma`)."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from megadance_hf.modeling.kinematics_megadance import JOINT_INDEX, JOINT_NAMES, NUM_JOINTS, PARENTS, REST_OFFSETS
from megadance_hf.motion.bodies import body_mesh, inverse_bind_matrices
from megadance_hf.motion.humanoid import VRM_BONES, sum_offsets, t_pose_offsets, t_pose_rotations
from megadance_hf.motion.mannequin import SOLE_THICKNESS
from megadance_hf.motion.motion import Motion, MotionError, atomic_path

_COMPONENT_TYPES = {"f4": 5126, "u2": 5123, "u4": 5125, "u1": 5121}
_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963


class _GltfBuffer:
    """One binary buffer with its buffer views and accessors."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, array: np.ndarray, kind: str, target: int | None = None, bounds: bool = False, **more: Any) -> int:
        """Append an array (count,), (count, n) or, of matrices, (count, 16); returns the index of its accessor.

        `kind` is glTF's accessor type; `bounds` adds the minimum and maximum, which POSITION and times must have.
        """
        self.data += b"\0" * (-len(self.data) % 4)
        content = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(content)}
        if target is not None:
            view["target"] = target
        accessor = {
            "bufferView": len(self.views),
            "componentType": _COMPONENT_TYPES[array.dtype.str[1:]],
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
    """Binary glTF 2.0: a skinned figure with one animation, for glTF viewers, game engines and Blender.

    Metres, Y up. The skeleton hangs under a node "Dancer" that is raised by `SOLE_THICKNESS`, so that the soles, not the foot
    joints, stand on y = 0; the pelvis node under it has `motion.translation` unchanged. Joint nodes have SMPL's joint names.
    Viewers without animation show the first frame.

    Args:
        body: "mannequin", or "smooth" for a human figure in a bodysuit (made from MakeHuman's base mesh, CC0 1.0).

    Raises:
        MotionError: no such `body`, or `path` cannot be written.
    """
    path = Path(path)
    try:
        mesh = body_mesh(body)
    except ValueError as error:
        raise MotionError(str(error)) from None
    buffer, title = _GltfBuffer(), body.capitalize()
    index_type = np.uint16 if len(mesh.vertices) < 65535 else np.uint32
    srgb = mesh.colours
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
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
    dancer, figure = NUM_JOINTS, NUM_JOINTS + 1
    nodes: list[dict[str, Any]] = []
    # of unit length in double precision: the validator is stricter about JSON than about buffers
    at_first = Rotation.from_quat(quaternions[0]).as_quat()
    outputs = [buffer.add(motion.translation, "VEC3")]
    for joint, name in enumerate(JOINT_NAMES):
        offset = motion.translation[0] if joint == 0 else REST_OFFSETS[joint]
        node = {
            "name": name,
            "translation": [float(value) for value in offset],
            "rotation": at_first[joint].tolist(),
        }
        if children := [child for child, parent in enumerate(PARENTS) if parent == joint]:
            node["children"] = children
        nodes.append(node)
        outputs.append(buffer.add(quaternions[:, joint], "VEC4"))
    nodes.append({"name": "Dancer", "translation": [0.0, SOLE_THICKNESS, 0.0], "children": [0]})
    nodes.append({"name": title, "mesh": 0, "skin": 0})  # a root: a skinned mesh ignores its parents

    content = {
        "scenes": [{"name": "Dance", "nodes": [dancer, figure]}],
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
    }
    return _write_glb(path, motion, buffer, times, outputs, content)


def save_vrma(motion: Motion, path: str | os.PathLike) -> Path:
    """VRM animation (.vrma), for any VRM avatar: glTF with the extension VRMC_vrm_animation 1.0, without a mesh.

    As the extension demands, the nodes rest in an exact T-pose, facing +Z, soles on y = 0; the animation rotates bones and moves
    the hips. Metres, Y up; players scale the path to their avatar's legs. The rotations of SMPL's two hand joints (all fingers as
    one) are left out.

    Raises:
        MotionError: `path` cannot be written.
    """
    path, buffer = Path(path), _GltfBuffer()
    bones = [JOINT_INDEX[joint] for joint in VRM_BONES.values()]
    matrices = Rotation.from_rotvec(motion.poses.reshape(-1, 3)).as_matrix().reshape(-1, NUM_JOINTS, 3, 3)
    quaternions = _continuous_quaternions(Rotation.from_matrix(t_pose_rotations(matrices).reshape(-1, 3, 3)))
    offsets = t_pose_offsets()
    offsets[0, 1] = SOLE_THICKNESS - sum_offsets(offsets)[:, 1].min()  # at rest the soles are on the floor

    nodes: list[dict[str, Any]] = []
    for joint in bones:
        node: dict[str, Any] = {"name": JOINT_NAMES[joint], "translation": offsets[joint].tolist()}
        if children := [bones.index(child) for child in bones if PARENTS[child] == joint]:
            node["children"] = children
        nodes.append(node)
    times = buffer.add((np.arange(len(motion)) / motion.fps).astype(np.float32), "SCALAR", bounds=True)
    hips = buffer.add(motion.translation + np.array([0, SOLE_THICKNESS, 0], np.float32), "VEC3")
    outputs = [hips, *(buffer.add(quaternions[:, joint], "VEC4") for joint in bones)]
    humanoid = {"humanBones": {name: {"node": node} for node, name in enumerate(VRM_BONES)}}
    content = {
        "extensionsUsed": ["VRMC_vrm_animation"],
        "extensions": {"VRMC_vrm_animation": {"specVersion": "1.0", "humanoid": humanoid}},
        "scenes": [{"name": "Dance", "nodes": [0]}],
        "nodes": nodes,
    }
    return _write_glb(path, motion, buffer, times, outputs, content)


def _write_glb(
    path: Path, motion: Motion, buffer: _GltfBuffer, times: int, outputs: list[int], content: dict[str, Any]
) -> Path:
    """Write `content` (scenes, nodes, ...) with what all our files have in common: one buffer, one scene, one animation.

    `outputs`: the accessors of the translation of node 0 and of the rotations of nodes 0, 1, ... at `times`.
    """
    samplers = [{"input": times, "output": output, "interpolation": "LINEAR"} for output in outputs]
    targets = [(0, "translation"), *((node, "rotation") for node in range(len(outputs) - 1))]
    channels = [{"sampler": i, "target": {"node": node, "path": kind}} for i, (node, kind) in enumerate(targets)]
    content = {
        "asset": {"version": "2.0", "generator": "megadance-hf"},
        "extras": {"fps": motion.fps, "genre": motion.genre or "", "frames": len(motion)},
        "scene": 0,
        **content,
        "animations": [{"name": motion.genre or "dance", "channels": channels, "samplers": samplers}],
        "buffers": [{"byteLength": len(buffer.data)}],
        "bufferViews": buffer.views,
        "accessors": buffer.accessors,
    }
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary = bytes(buffer.data) + b"\0" * (-len(buffer.data) % 4)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(binary)))
        file.write(struct.pack("<I4s", len(text), b"JSON") + text)
        file.write(struct.pack("<I4s", len(binary), b"BIN\0") + binary)
    return path


def _continuous_quaternions(rotations: Rotation) -> np.ndarray:
    """Rotations of all frames and joints, flattened in this order, as quaternions (T, 24, 4) float32: x, y, z, w."""
    quaternions = rotations.as_quat().reshape(-1, NUM_JOINTS, 4)
    # q and -q are the same rotation: take the sign nearest to the previous frame, or players interpolate the long way round.
    flips = np.cumprod(np.where((quaternions[1:] * quaternions[:-1]).sum(-1) < 0, -1.0, 1.0), axis=0)
    quaternions[1:] *= flips[..., None]
    return quaternions.astype(np.float32)
