"""The mannequin: a body in code, which shows a dance without a licensed body model.

Two representations of a wooden artist's mannequin on the neutral SMPL rest skeleton (metres, Y up, facing +Z, its left is +X,
pelvis at the origin):

- `SEGMENTS`: tapered capsules, each rigid with one joint, for the renderer.
- `mannequin_mesh()`: one closed, smoothly skinned triangle mesh around those capsules, for glTF files.

The soles lie `SOLE_THICKNESS` below the foot joints. In motion data those joints are at y = 0 when a foot stands, so a floor under
the mannequin belongs at y = -SOLE_THICKNESS, or the figure is raised by as much.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from megadance_hf.modeling.kinematics_megadance import JOINT_INDEX, PARENTS, REST_OFFSETS

from .humanoid import sum_offsets

SOLE_THICKNESS = 0.028  # metres from a foot joint down to the ground

# The colours of the body in every picture (video, glTF, web page): part -> in front, behind; sRGB, 0..1. Wood, light in front and dark
# behind, with a dark visor; the left limbs are painted blue, the right ones red. Joints are darker, hands and toes lighter.
PART_COLOURS = {
    "head": ((0.94, 0.81, 0.63), (0.36, 0.24, 0.16)),
    "visor": ((0.14, 0.16, 0.20), (0.14, 0.16, 0.20)),
    "torso": ((0.92, 0.77, 0.57), (0.45, 0.31, 0.21)),
    "left_arm": ((0.28, 0.54, 0.76), (0.28, 0.54, 0.76)),
    "left_hand": ((0.50, 0.71, 0.86), (0.50, 0.71, 0.86)),
    "left_leg": ((0.28, 0.54, 0.76), (0.18, 0.37, 0.56)),
    "left_foot": ((0.13, 0.27, 0.42), (0.13, 0.27, 0.42)),
    "left_toe": ((0.50, 0.71, 0.86), (0.50, 0.71, 0.86)),
    "left_joint": ((0.15, 0.32, 0.49), (0.15, 0.32, 0.49)),
    "right_arm": ((0.86, 0.40, 0.26), (0.86, 0.40, 0.26)),
    "right_hand": ((0.96, 0.62, 0.46), (0.96, 0.62, 0.46)),
    "right_leg": ((0.86, 0.40, 0.26), (0.63, 0.25, 0.15)),
    "right_foot": ((0.47, 0.17, 0.10), (0.47, 0.17, 0.10)),
    "right_toe": ((0.96, 0.62, 0.46), (0.96, 0.62, 0.46)),
    "right_joint": ((0.54, 0.21, 0.13), (0.54, 0.21, 0.13)),
}
# Which way the front of a part faces at rest: a surface that faces away from it is behind. The crown of the head is behind, too.
_FACES, _FACES_DOWN = (0.0, 0.0, 1.0), {"head": (0.0, -0.45, 0.893)}


@dataclass(frozen=True)
class Segment:
    """A tapered capsule that moves rigidly with one joint.

    `start` and `end` are offsets from that joint in the rest pose (metres). A sphere has `start == end`.
    """

    name: str
    joint: int
    start: tuple[float, float, float]
    end: tuple[float, float, float]
    start_radius: float
    end_radius: float
    part: str  # a key of PART_COLOURS


REST_JOINTS = sum_offsets(REST_OFFSETS)  # (24, 3)


def _across(name: str, joint: str, half_width: float, y: float, z: float, radius: float) -> Segment:
    """A capsule across the body, which makes the torso wider than deep."""
    return Segment(name, JOINT_INDEX[joint], (half_width, y, z), (-half_width, y, z), radius, radius, "torso")


def _flanks(
    name: str, joint: str, start, end, start_radius: float, end_radius: float, part: str = "torso"
) -> list[Segment]:
    """A capsule on the left of trunk or head (as given) and its mirror image on the right."""
    flip = np.array([-1.0, 1.0, 1.0])
    return [
        Segment(f"{side}_{name}", JOINT_INDEX[joint], *ends, start_radius, end_radius, part)
        for side, ends in (("left", (start, end)), ("right", (tuple(start * flip), tuple(end * flip))))
    ]


def _limbs(side: str) -> list[Segment]:
    """Collar to fingers and hip to toes of one side. Offsets are given for the left, where outwards is +x."""
    out = 1.0 if side == "left" else -1.0
    hip, knee, ankle, foot = (JOINT_INDEX[f"{side}_{joint}"] for joint in ("hip", "knee", "ankle", "foot"))
    collar, shoulder, elbow, wrist, hand = (
        JOINT_INDEX[f"{side}_{joint}"] for joint in ("collar", "shoulder", "elbow", "wrist", "hand")
    )
    segments = []

    def add(name, joint, start, end, start_radius, end_radius, part):
        ends = [(out * x, y, z) for x, y, z in (start, end)]
        part = part if part in PART_COLOURS else f"{side}_{part}"
        segments.append(Segment(f"{side}_{name}", joint, *ends, start_radius, end_radius, part))

    def towards(child: int, share: float = 1.0) -> tuple[float, float, float]:
        x, y, z = (share * float(value) for value in REST_OFFSETS[child])
        return out * x, y, z  # add() flips it back

    centre = (0.0, 0.0, 0.0)
    add("trapezius", collar, (-0.050, 0.045, -0.010), towards(shoulder, 0.75), 0.046, 0.042, "torso")
    add("chest", collar, (-0.010, -0.015, 0.012), towards(shoulder, 0.80), 0.062, 0.052, "torso")
    add("shoulder_ball", shoulder, centre, centre, 0.056, 0.056, "joint")
    add("upper_arm", shoulder, towards(elbow, 0.16), towards(elbow, 0.90), 0.050, 0.037, "arm")
    add("elbow_ball", elbow, centre, centre, 0.039, 0.039, "joint")
    add("forearm", elbow, towards(wrist, 0.14), towards(wrist, 0.94), 0.041, 0.026, "arm")
    add("wrist_ball", wrist, centre, centre, 0.028, 0.028, "joint")
    # At rest the palm faces down: a hand is thin along y and wide along z, its thumb in front.
    add("palm_front", wrist, (0.028, -0.004, 0.012), (0.085, -0.008, 0.010), 0.019, 0.019, "hand")
    add("palm_back", wrist, (0.028, -0.004, -0.014), (0.085, -0.010, -0.034), 0.019, 0.017, "hand")
    add("thumb", wrist, (0.030, -0.006, 0.022), (0.082, -0.014, 0.056), 0.014, 0.010, "hand")
    add("fingers_front", hand, (0.000, 0.002, 0.024), (0.082, -0.006, 0.020), 0.017, 0.010, "hand")
    add("fingers_back", hand, (0.000, 0.000, -0.014), (0.072, -0.008, -0.004), 0.016, 0.010, "hand")

    add("thigh", hip, (0.022, -0.030, 0.004), towards(knee, 0.92), 0.086, 0.054, "leg")
    add("knee_ball", knee, (0.0, 0.0, 0.006), (0.0, 0.0, 0.006), 0.055, 0.055, "joint")
    add("shin", knee, towards(ankle, 0.13), towards(ankle, 0.93), 0.051, 0.034, "leg")
    add("calf", knee, (0.004, -0.085, -0.022), (0.002, -0.190, -0.024), 0.043, 0.038, "leg")
    add("ankle_ball", ankle, centre, centre, 0.036, 0.036, "joint")
    # The foot joint is the ball of the foot. Heel, ball and toes rest on one plane, SOLE_THICKNESS below that joint.
    along = np.array(towards(foot))
    drop, along = along[1], np.array([along[0], 0.0, along[2]]) / np.hypot(along[0], along[2])
    across = np.array([along[2], 0.0, -along[0]])

    # Where overlapping capsules blend into one mesh, it swells by about 5 mm: they stay that much above the floor.
    def sole(forward: float, outward: float, radius: float, up: float) -> tuple[float, float, float]:
        return tuple(forward * along + outward * across + [0.0, up + radius - SOLE_THICKNESS + 0.005, 0.0])

    ball = float(np.hypot(*np.array(towards(foot))[[0, 2]]))
    add("heel", ankle, sole(-0.045, 0.000, 0.033, drop), sole(ball, 0.014, 0.028, drop), 0.033, 0.028, "foot")
    add("instep", ankle, (0.0, -0.012, 0.006), sole(ball, -0.016, 0.030, drop), 0.037, 0.030, "foot")
    add("big_toe", foot, sole(0.0, -0.018, 0.028, 0.0), sole(0.066, -0.012, 0.022, 0.0), 0.028, 0.022, "toe")
    add("small_toes", foot, sole(0.0, 0.020, 0.026, 0.0), sole(0.046, 0.018, 0.020, 0.0), 0.026, 0.020, "toe")
    return segments


SEGMENTS: tuple[Segment, ...] = (
    _across("hips", "pelvis", 0.062, -0.052, -0.018, 0.090),
    *_flanks("loins", "pelvis", (0.062, -0.050, -0.018), (0.040, 0.100, -0.012), 0.088, 0.076),
    _across("waist", "spine1", 0.036, 0.005, 0.028, 0.077),
    *_flanks("ribs", "spine2", (0.038, -0.085, 0.006), (0.058, 0.060, -0.002), 0.076, 0.084),
    _across("belly", "spine2", 0.050, 0.010, 0.002, 0.084),
    _across("breast", "spine3", 0.074, 0.060, -0.006, 0.086),
    *_flanks("breast", "spine3", (0.054, -0.040, 0.000), (0.078, 0.075, -0.008), 0.084, 0.080),
    Segment("neck", JOINT_INDEX["neck"], (0.0, -0.035, 0.004), (0.008, 0.085, 0.040), 0.057, 0.050, "head"),
    # A tapered capsule shorter than its radii is an egg: jaw in front below, skull behind above.
    Segment("head", JOINT_INDEX["head"], (-0.003, 0.022, 0.024), (-0.003, 0.080, 0.002), 0.080, 0.093, "head"),
    Segment("chin", JOINT_INDEX["head"], (-0.003, -0.016, 0.058), (-0.003, 0.030, 0.054), 0.036, 0.058, "head"),
    Segment("nose", JOINT_INDEX["head"], (-0.003, 0.026, 0.110), (-0.003, 0.060, 0.098), 0.013, 0.007, "head"),
    *_flanks("visor", "head", (-0.003, 0.066, 0.080), (0.058, 0.066, 0.050), 0.026, 0.024, "visor"),
    *_limbs("left"),
    *_limbs("right"),
)


def pose_segments(joints: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Both ends of every capsule of `SEGMENTS` in a posed body.

    Args:
        joints: joint positions, (..., 24, 3), metres.
        rotations: global joint rotations, (..., 24, 3, 3).

    Returns:
        (..., len(SEGMENTS), 2, 3), metres. Their radii are constant: `RADII`, (len(SEGMENTS), 2).
    """
    offsets = np.einsum("...sij,sej->...sei", rotations[..., SEGMENT_JOINTS, :, :], _OFFSETS)
    return offsets + joints[..., SEGMENT_JOINTS, None, :]


@dataclass(frozen=True)
class SkinnedMesh:
    """A closed triangle mesh with linear blend skinning weights. Arrays get the types below and are read-only: caches share them."""

    vertices: np.ndarray  # (V, 3) float32, metres, pelvis joint at the origin
    normals: np.ndarray  # (V, 3) float32, unit, outward
    faces: np.ndarray  # (F, 3) uint32, counter-clockwise seen from outside
    joints: np.ndarray  # (V, 4) uint8, no joint twice with a weight; unused entries are joint 0 with weight 0
    weights: np.ndarray  # (V, 4) float32, descending, each row sums to 1
    colours: np.ndarray  # (V, 3) float32, sRGB 0..1

    def __post_init__(self) -> None:
        for name, value in list(vars(self).items()):
            if isinstance(value, np.ndarray):
                dtype = {"faces": np.uint32, "joints": np.uint8}.get(name, np.float32)
                array = np.ascontiguousarray(value, dtype)
                array.setflags(write=False)
                object.__setattr__(self, name, array)


@lru_cache(maxsize=2)
def mannequin_mesh(resolution: float = 0.0125) -> SkinnedMesh:
    """The skinned mannequin in the rest pose as one closed mesh (takes about a second, then cached).

    The capsules are blended into one distance field, its zero level set is meshed by naive surface nets (Gibson 1998), and the
    vertices are projected onto the surface.

    Args:
        resolution: edge length of the grid in metres, 0.005 to 0.03; triangles are about this large. The default gives
            15 thousand vertices and a clean manifold; coarser grids may pinch a few edges between the fingers.

    Raises:
        ValueError: `resolution` is out of range.
    """
    if not 0.005 <= resolution <= 0.03:
        raise ValueError(f"resolution={resolution!r}: give an edge length in metres between 0.005 and 0.03")
    low, field = _grid(resolution)
    vertices, faces = _surface_nets(field)
    vertices = low + vertices * resolution
    for _ in range(2):  # Newton steps along the gradient
        distance, gradient = _body_distance(vertices)
        step = distance[:, None] * gradient / np.maximum((gradient**2).sum(-1, keepdims=True), 0.25)
        vertices = vertices - np.clip(step, -resolution / 2, resolution / 2)
    _, normals = _body_distance(vertices)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)

    distances = np.stack([_capsule_distance(vertices, index)[0] for index in range(len(SEGMENTS))], -1)  # [V, segments]
    shares = np.exp((distances.min(-1, keepdims=True) - distances) / _COLOUR_BLEND)
    shares /= shares.sum(-1, keepdims=True)
    behind = np.clip(0.5 - (normals @ SEGMENT_FRONTS.T) / _EDGE_BLEND, 0.0, 1.0)  # [V, segments]
    colours = (shares * (1 - behind)) @ SEGMENT_COLOURS[:, 0] + (shares * behind) @ SEGMENT_COLOURS[:, 1]
    return SkinnedMesh(vertices, normals, faces, *_skin(distances), colours)


RADII = np.array([(segment.start_radius, segment.end_radius) for segment in SEGMENTS])
SEGMENT_JOINTS = np.array([segment.joint for segment in SEGMENTS])
SEGMENT_COLOURS = np.array([PART_COLOURS[segment.part] for segment in SEGMENTS])  # (segments, 2, 3): in front, behind
SEGMENT_FRONTS = np.array(
    [_FACES_DOWN.get(segment.part, _FACES) for segment in SEGMENTS]
)  # (segments, 3), unit, at rest
_OFFSETS = np.array([(segment.start, segment.end) for segment in SEGMENTS])  # (segments, 2, 3)
_REST_STARTS, _REST_ENDS = np.moveaxis(REST_JOINTS[SEGMENT_JOINTS][:, None] + _OFFSETS, 1, 0)
# Blend radius between capsules, metres. The trunk becomes one smooth shape, limbs keep their joints visible.
_TRUNK = np.array([segment.part == "torso" for segment in SEGMENTS])
_TRUNK_BLEND, _BLEND = 0.018, 0.007
# Colours are blended over the width of a triangle, or edges would be ragged: metres between segments, and cosines of the normal.
_COLOUR_BLEND, _EDGE_BLEND = 0.0018, 0.2
_SKIN_BLEND = 0.014  # metres: how far the skinning weights of one bone reach over the next


def _capsule_distance(points: np.ndarray, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Signed distance of points (..., 3) to one capsule at rest (...), negative inside, and its gradient (..., 3)."""
    start, (first, last) = _REST_STARTS[index], RADII[index]
    axis, offset = _REST_ENDS[index] - start, points - start
    along = offset @ axis / max(float(axis @ axis), 1e-12)
    slope = (last - first) * axis / max(float(axis @ axis), 1e-12)  # of the radius, between the ends
    within = ((along > 0) & (along < 1))[..., None]
    along = np.clip(along, 0.0, 1.0)
    away = offset - along[..., None] * axis
    length = np.linalg.norm(away, axis=-1)
    gradient = away / np.maximum(length, 1e-12)[..., None] - within * slope
    return length - (first + along * (last - first)), gradient


def _smooth_union(trunk: np.ndarray, limbs: np.ndarray) -> np.ndarray:
    """Smooth union from the sums of exp(-distance / blend radius) over the trunk's and over the other capsules."""
    with np.errstate(divide="ignore"):
        return -_BLEND * np.log(trunk ** (_TRUNK_BLEND / _BLEND) + limbs)


def _body_distance(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smooth union of the capsules: points (n, 3) -> signed distances (n,) and their gradient (n, 3)."""
    each = [_capsule_distance(points, index) for index in range(len(SEGMENTS))]
    distances, gradients = (np.stack(x, 1) for x in zip(*each, strict=True))
    sums = np.exp(-distances / np.where(_TRUNK, _TRUNK_BLEND, _BLEND))  # [n, segments]
    trunk, limbs = sums[:, _TRUNK].sum(-1), sums[:, ~_TRUNK].sum(-1)
    # The derivative of the logarithm by each distance; the trunk's sum is raised to a power.
    raised = trunk ** (_TRUNK_BLEND / _BLEND)
    shares = sums * np.where(_TRUNK, (raised / trunk)[:, None], 1.0) / (raised + limbs)[:, None]
    return _smooth_union(trunk, limbs), np.einsum("ns,nsk->nk", shares, gradients)


def _grid(resolution: float) -> tuple[np.ndarray, np.ndarray]:
    """`_body_distance` on a grid around the body: its lower corner (3,) and the field. Each capsule is evaluated near it only."""
    ends = np.stack([_REST_STARTS, _REST_ENDS])  # [2, segments, 3]
    reach = RADII.max(1, keepdims=True) + np.where(_TRUNK, 5 * _TRUNK_BLEND, 5 * _BLEND)[:, None] + 2 * resolution
    lows, highs = ends.min(0) - reach, ends.max(0) + reach
    low, high = lows.min(0), highs.max(0)
    axes = [np.arange(a, b, resolution) for a, b in zip(low, high, strict=True)]
    trunk, limbs = (np.zeros([len(axis) for axis in axes]) for _ in range(2))
    for index in range(len(SEGMENTS)):
        box = tuple(
            slice(*np.searchsorted(axis, ends)) for axis, *ends in zip(axes, lows[index], highs[index], strict=True)
        )
        points = np.stack(np.meshgrid(*(axis[part] for axis, part in zip(axes, box, strict=True)), indexing="ij"), -1)
        sums, radius = (trunk, _TRUNK_BLEND) if _TRUNK[index] else (limbs, _BLEND)
        sums[box] += np.exp(-_capsule_distance(points, index)[0] / radius)
    return low, np.minimum(_smooth_union(trunk, limbs), 1.0)


def _surface_nets(field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Naive surface nets: one vertex in each cell that the surface cuts, one quad around each grid edge it crosses.

    Returns vertices in grid units (V, 3) and triangles (F, 3), counter-clockwise seen from outside (field > 0).
    """
    inside = field < 0
    total = np.zeros([n - 1 for n in field.shape] + [3])
    count = np.zeros([n - 1 for n in field.shape])
    quads, step = [], np.eye(3, dtype=int)
    index = np.arange(count.size).reshape(count.shape)
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        edges = np.argwhere(np.diff(inside, axis=axis))  # the lower end of each grid edge that is crossed
        a, b = field[tuple(edges.T)], field[tuple((edges + step[axis]).T)]
        crossings = edges.astype(float)
        crossings[:, axis] += a / (a - b)
        # The four cells around the edge, counter-clockwise about +axis.
        cells = [tuple((edges - back).T) for back in (0, step[u], step[u] + step[v], step[v])]
        for cell in cells:
            np.add.at(total, cell, crossings)
            np.add.at(count, cell, 1)
        quad = np.stack([index[cell] for cell in cells], -1)
        quads.append(
            np.where((a < 0)[:, None], quad, quad[:, ::-1])
        )  # the surface faces +axis where the lower end is inside
    used, quads = np.unique(np.concatenate(quads), return_inverse=True)
    quads = quads.reshape(-1, 4)
    vertices = total.reshape(-1, 3)[used] / count.reshape(-1)[used, None]
    # Cut each quad along its shorter diagonal.
    first, second = (np.linalg.norm(vertices[quads[:, i]] - vertices[quads[:, i + 2]], axis=-1) for i in (0, 1))
    quads = np.where((second < first)[:, None], np.roll(quads, -1, axis=1), quads)
    return vertices, np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def _skin(distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joints and skinning weights (V, 4) from distances to the capsules (V, segments): a soft minimum over joints, the top four."""
    per_joint = np.full((len(distances), len(PARENTS)), np.inf)
    for segment, joint in enumerate(SEGMENT_JOINTS):
        per_joint[:, joint] = np.minimum(per_joint[:, joint], distances[:, segment])
    soft = np.exp(-(per_joint - per_joint.min(-1, keepdims=True)) / _SKIN_BLEND)
    joints = np.argsort(-soft, axis=-1, kind="stable")[:, :4]
    weights = np.take_along_axis(soft, joints, -1)
    weights /= weights.sum(-1, keepdims=True)
    weights[weights < 0.01] = 0.0  # traces of far bones only cost time
    weights = weights / weights.sum(-1, keepdims=True)
    return np.where(weights > 0, joints, 0), weights
