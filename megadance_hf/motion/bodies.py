"""The bodies that show a dance: the mannequin, and a smooth human figure in a bodysuit.

The smooth figure is MakeHuman's base mesh (CC0 1.0), fitted to our skeleton by `smooth_body.py`. `body/smooth.npz` holds its left
half, which is mirrored on loading.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from megadance_hf.modeling.kinematics_megadance import JOINT_NAMES, MIRROR_JOINTS, NUM_JOINTS

from .mannequin import REST_JOINTS, SkinnedMesh, mannequin_mesh

BODIES = ("mannequin", "smooth")

# sRGB, 0..1: in front, behind. A bodysuit, light in front and dark behind; face, hands and feet; dark hair on crown and nape.
SUIT = ((0.47, 0.62, 0.72), (0.19, 0.28, 0.37))
SKIN = ((0.87, 0.74, 0.63), (0.87, 0.74, 0.63))
HAIR = ((0.87, 0.74, 0.63), (0.25, 0.17, 0.12))
# As of the mannequin: what faces away from this direction is behind, blended over so many cosines of the normal.
_FACES, _HEAD_FACES, _EDGE_BLEND = (0.0, 0.0, 1.0), (0.0, -0.45, 0.893), 0.2


@dataclass(frozen=True)
class Body(SkinnedMesh):
    """A mesh bound to the 24 joints.

    The mesh is in its bind pose, which may differ from our rest pose: joint j is at `bind_joints[j]`, rotated by `bind_rotations[j]`
    relative to the rest pose. A body that was modelled with its arms half down deforms better that way.
    """

    bind_joints: np.ndarray  # (24, 3) float32, metres
    bind_rotations: np.ndarray  # (24, 3, 3) float32
    name: str  # one of BODIES


def body_mesh(name: str = "mannequin") -> Body:
    """The body `name`, one of `BODIES`, cached. Raises ValueError for other names."""
    if name not in BODIES:
        raise ValueError(f"body={name!r}: give one of {', '.join(map(repr, BODIES))}")
    return _mannequin() if name == "mannequin" else _smooth()


def skin(body: Body, joints: np.ndarray, rotations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The body in one pose, by linear blend skinning.

    Args:
        body: from `body_mesh`.
        joints: joint positions, (24, 3), metres.
        rotations: global joint rotations, (24, 3, 3).

    Returns:
        vertices (V, 3), metres, and normals (V, 3), unit; both float32.
    """
    from_bind = rotations @ body.bind_rotations.transpose(0, 2, 1)
    offsets = joints - np.einsum("jab,jb->ja", from_bind, body.bind_joints)
    transforms = np.concatenate([from_bind, offsets[..., None]], -1).astype(np.float32).reshape(NUM_JOINTS, 12)
    blended = (_dense_weights(body.name) @ transforms).reshape(-1, 3, 4)
    vertices = np.einsum("vab,vb->va", blended[..., :3], body.vertices) + blended[..., 3]
    normals = np.einsum("vab,vb->va", blended[..., :3], body.normals)
    return vertices, normals / np.linalg.norm(normals, axis=1, keepdims=True)


@lru_cache(maxsize=len(BODIES))
def _dense_weights(name: str) -> np.ndarray:
    """Skinning weights of every joint, (V, 24) float32."""
    body = body_mesh(name)
    weights = np.zeros((len(body.vertices), NUM_JOINTS), np.float32)
    np.add.at(weights, (np.arange(len(weights))[:, None], body.joints), body.weights)
    return weights


def inverse_bind_matrices(body: Body) -> np.ndarray:
    """From bind-pose coordinates to those of each joint: (24, 4, 4) float32, for column vectors."""
    matrices = np.tile(np.eye(4), (NUM_JOINTS, 1, 1))
    inverse = body.bind_rotations.transpose(0, 2, 1).astype(float)
    matrices[:, :3, :3] = inverse
    matrices[:, :3, 3] = -np.einsum("jab,jb->ja", inverse, body.bind_joints)
    return matrices.astype(np.float32)


@lru_cache(maxsize=1)
def _mannequin() -> Body:
    bind_rotations = np.tile(np.eye(3), (NUM_JOINTS, 1, 1))
    return Body(**vars(mannequin_mesh()), bind_joints=REST_JOINTS, bind_rotations=bind_rotations, name="mannequin")


@lru_cache(maxsize=1)
def _smooth() -> Body:
    with np.load(Path(__file__).parent / "body" / "smooth.npz", allow_pickle=False) as file:
        half = dict(file)
    left = half["vertices"].T * half["step"]
    quads, joints, weights = (half[key].T.astype(np.int64) for key in ("quads", "joints", "weights"))
    middle = int(half["middle"])  # the number of vertices at x = 0, which come first
    mirrored = np.arange(len(left))
    mirrored[middle:] += len(left) - middle  # indices of the mirror images
    vertices = np.concatenate([left, left[middle:] * [-1, 1, 1]]).astype(np.float32)
    faces = triangulate(quads)
    faces = np.concatenate([faces, mirrored[faces[:, ::-1]]])
    joints = np.concatenate([joints, np.where(weights > 0, np.array(MIRROR_JOINTS)[joints], 0)[middle:]])
    weights = np.concatenate([weights, weights[middle:]]) / 255

    dense = np.zeros((len(vertices), NUM_JOINTS))
    np.add.at(dense, (np.arange(len(vertices))[:, None], joints), weights)

    def share(*parts: str) -> np.ndarray:
        return dense[:, [name.endswith(parts) for name in JOINT_NAMES]].sum(1, keepdims=True)

    normals = _normals(vertices, faces)

    def paint(colour: tuple, faces: tuple[float, float, float]) -> np.ndarray:
        behind = np.clip(0.5 - normals @ np.array(faces) / _EDGE_BLEND, 0, 1)[:, None]
        return (1 - behind) * colour[0] + behind * colour[1]

    head = np.clip(2 * share("head") - 0.5, 0, 1)
    limbs = np.clip(2 * share("wrist", "hand", "ankle", "foot") - 0.5, 0, 1)
    colours = head * paint(HAIR, _HEAD_FACES) + limbs * paint(SKIN, _FACES) + (1 - head - limbs) * paint(SUIT, _FACES)
    bind = (half["bind_joints"], half["bind_rotations"])
    return Body(vertices, normals, faces, joints, weights, colours, *bind, name="smooth")


def triangulate(quads: np.ndarray) -> np.ndarray:
    """Quads (Q, 4), in which triangles repeat their last corner, as triangles (F, 3)."""
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return triangles[triangles[:, 1] != triangles[:, 2]]


def _normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Vertex normals (V, 3): means of the face normals, weighted by area."""
    a, b, c = (vertices[faces[:, corner]].astype(float) for corner in range(3))
    face_normals = np.cross(b - a, c - a)  # their lengths are twice the areas
    normals = np.zeros((len(vertices), 3))
    for corner in range(3):
        np.add.at(normals, faces[:, corner], face_normals)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)
