import numpy as np
import pytest
import torch

from megadance_hf.modeling import kinematics_megadance as kinematics
from megadance_hf.motion.mannequin import (
    PART_COLOURS,
    RADII,
    REST_JOINTS,
    SEGMENTS,
    SOLE_THICKNESS,
    SkinnedMesh,
    _body_distance,
    mannequin_mesh,
    pose_segments,
)

REST_ROTATIONS = np.tile(np.eye(3), (24, 1, 1))


def posed(axis_angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joint positions and global rotations of poses (..., 24, 3), pelvis at the origin."""
    rotations = kinematics.axis_angle_to_matrix(torch.as_tensor(axis_angle))
    joints = kinematics.forward_kinematics(rotations, torch.zeros(*axis_angle.shape[:-2], 3, dtype=rotations.dtype))
    return joints.numpy(), kinematics.global_rotations(rotations).numpy()


def skin_vertices(mesh: SkinnedMesh, joints: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """The mesh in a posed body, (..., V, 3), by linear blend skinning written out; joints (..., 24, 3), rotations (..., 24, 3, 3)."""
    offsets = joints - np.einsum("...jab,jb->...ja", rotations, REST_JOINTS)  # [..., 24, 3]
    weights = np.zeros((len(mesh.vertices), len(kinematics.PARENTS)), np.float32)
    np.add.at(weights, (np.arange(len(weights))[:, None], mesh.joints), mesh.weights)
    blended = np.einsum("vj,...jab->...vab", weights, rotations)
    return np.einsum("...vab,vb->...va", blended, mesh.vertices) + np.einsum("vj,...ja->...va", weights, offsets)


def directed_edges(faces: np.ndarray) -> np.ndarray:
    faces = faces.astype(np.int64)
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def test_segments_cover_every_joint_and_name_their_colour():
    assert {segment.joint for segment in SEGMENTS} == set(range(24))
    assert {segment.part for segment in SEGMENTS} == set(PART_COLOURS)
    assert len({segment.name for segment in SEGMENTS}) == len(SEGMENTS)
    assert 0 < RADII.min() and RADII.max() < 0.11


def test_segments_of_limbs_reach_from_joint_to_joint():
    """Each bone of a limb lies inside the capsules: nothing floats beside its skeleton."""
    for child in (4, 5, 7, 8, 18, 19, 20, 21):
        parent = kinematics.PARENTS[child]
        for share in np.linspace(0, 1, 11):
            point = REST_JOINTS[parent] * (1 - share) + REST_JOINTS[child] * share
            assert depth_in_capsules(point, *pose_segments(REST_JOINTS, REST_ROTATIONS).swapaxes(0, 1)) > 0.01


def depth_in_capsules(point: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> float:
    """How deep a point lies inside the deepest capsule; a slow twin of the field that the mesh is made from."""
    depths = []
    for start, end, (first, last) in zip(starts, ends, RADII, strict=True):
        axis = end - start
        along = 0.0 if not axis.any() else min(1.0, max(0.0, (point - start) @ axis / (axis @ axis)))
        depths.append(first + along * (last - first) - np.linalg.norm(point - start - along * axis))
    return max(depths)


def test_mesh_is_one_closed_manifold_facing_outward():
    mesh = mannequin_mesh()
    edges = directed_edges(mesh.faces)
    unique, counts = np.unique(edges, axis=0, return_counts=True)
    assert counts.max() == 1, "an edge has two faces on the same side"
    assert np.array_equal(unique, np.unique(edges[:, ::-1], axis=0)), "an edge has a face on one side only"
    assert len(mesh.vertices) - len(edges) // 2 + len(mesh.faces) == 2, "not one sphere-like surface (Euler)"
    a, b, c = (mesh.vertices[mesh.faces[:, corner]].astype(float) for corner in range(3))
    volume = (np.cross(a, b) * c).sum() / 6
    assert 0.045 < volume < 0.08, "a slim person's volume in cubic metres, positive when faces look outward"
    faces_out = (np.cross(b - a, c - a) * mesh.normals[mesh.faces].mean(1)).sum(-1) > 0
    assert faces_out.mean() > 0.999
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=-1), 1, atol=1e-5)
    assert not mesh.vertices.flags.writeable


def test_mesh_lies_on_the_capsules():
    mesh = mannequin_mesh()
    starts, ends = pose_segments(REST_JOINTS, REST_ROTATIONS).swapaxes(0, 1)
    depths = [depth_in_capsules(vertex, starts, ends) for vertex in mesh.vertices[::97].astype(float)]
    assert -0.03 < min(depths), "no vertex far outside the capsules (melting rounds inner corners, by up to 3 cm)"
    assert max(depths) < 0.002, "no vertex inside them"
    assert np.median(depths) > -0.008


def test_gradient_of_the_body_matches_differences():
    points = mannequin_mesh().vertices[::53].astype(float) + np.random.default_rng(0).normal(0, 0.005, 3)
    _, gradient = _body_distance(points)
    steps = np.eye(3) * 1e-6
    expected = np.stack([(_body_distance(points + d)[0] - _body_distance(points - d)[0]) / 2e-6 for d in steps], -1)
    close = np.abs(gradient - expected).max(-1) < 1e-4
    assert close.mean() > 0.99  # where a capsule ends, its distance has a kink


def test_colours_show_front_and_back_left_and_right():
    """On the mesh as on the capsules: a vertex well inside one part has that part's colour."""
    mesh = mannequin_mesh()
    trunk = (np.abs(mesh.vertices[:, 0]) < 0.1) & (np.abs(mesh.vertices[:, 1] - REST_JOINTS[6, 1]) < 0.1)
    for side, sign in enumerate((1, -1)):
        facing = trunk & (sign * mesh.normals[:, 2] > 0.5)
        assert facing.sum() > 100
        np.testing.assert_allclose(
            mesh.colours[facing], np.tile(PART_COLOURS["torso"][side], (facing.sum(), 1)), atol=0.02
        )
    for side, elbow, wrist in (("left", 18, 20), ("right", 19, 21)):
        middle = (REST_JOINTS[elbow] + REST_JOINTS[wrist]) / 2
        forearm = np.linalg.norm(mesh.vertices - middle, axis=1) < 0.06
        assert forearm.sum() > 20
        np.testing.assert_allclose(
            mesh.colours[forearm], np.tile(PART_COLOURS[f"{side}_arm"][0], (forearm.sum(), 1)), atol=0.02
        )


def test_proportions_are_those_of_a_person():
    mesh = mannequin_mesh()
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    assert 1.7 < high[1] - low[1] < 1.85
    assert 1.7 < high[0] - low[0] < 1.9
    head = mesh.vertices[mesh.vertices[:, 1] > REST_JOINTS[15, 1] + 0.02]
    assert head[:, 2].max() - REST_JOINTS[15, 2] > 0.1, "the nose points to +Z"
    soles = mesh.vertices[mesh.vertices[:, 1] < REST_JOINTS[10, 1]]
    assert soles[:, 2].max() > REST_JOINTS[10, 2] + 0.06, "toes point to +Z"
    assert soles[:, 2].min() < REST_JOINTS[7, 2] - 0.05, "there are heels behind the ankles"


def test_soles_lie_one_sole_thickness_below_the_foot_joints():
    vertices = mannequin_mesh().vertices
    for foot, side in ((10, 1), (11, -1)):
        lowest = vertices[vertices[:, 0] * side > 0][:, 1].min()
        assert REST_JOINTS[foot, 1] - lowest == pytest.approx(SOLE_THICKNESS, abs=0.002)


def test_weights_are_a_partition_of_one_over_distinct_joints():
    mesh = mannequin_mesh()
    assert mesh.joints.dtype == np.uint8 and mesh.weights.dtype == np.float32
    np.testing.assert_allclose(mesh.weights.sum(-1), 1, atol=1e-6)
    assert (mesh.weights >= 0).all() and (np.diff(mesh.weights, axis=-1) <= 0).all()
    for row, weights in zip(mesh.joints, mesh.weights, strict=True):
        used = row[weights > 0]
        assert len(set(used.tolist())) == len(used)
    assert (mesh.joints[mesh.weights == 0] == 0).all()
    influence = np.zeros(24)
    np.add.at(influence, mesh.joints, mesh.weights)
    assert (influence > 20).all(), "every joint moves some skin"


def test_limbs_are_not_pulled_by_the_other_side():
    mesh = mannequin_mesh()
    for joint, partner in enumerate(kinematics.MIRROR_JOINTS):
        if kinematics.JOINT_NAMES[joint].split("_")[-1] in (
            "knee",
            "ankle",
            "foot",
            "shoulder",
            "elbow",
            "wrist",
            "hand",
        ):
            mine = (mesh.joints == joint) & (mesh.weights > 0)
            theirs = ((mesh.joints == partner) & (mesh.weights > 0)).any(-1)
            assert not (mine.any(-1) & theirs).any()


def test_skinning_keeps_the_rest_pose_and_follows_rigid_moves():
    mesh = mannequin_mesh()
    np.testing.assert_allclose(skin_vertices(mesh, REST_JOINTS, REST_ROTATIONS), mesh.vertices, atol=1e-6)
    turn = np.zeros((24, 3))
    turn[0] = (0.3, -2.0, 0.4)
    joints, rotations = posed(turn)
    np.testing.assert_allclose(skin_vertices(mesh, joints, rotations), mesh.vertices @ rotations[0].T, atol=1e-5)


def test_skinning_equals_a_loop():
    mesh = mannequin_mesh()
    joints, rotations = posed(np.random.default_rng(0).normal(0, 0.4, (2, 24, 3)))
    skinned = skin_vertices(mesh, joints, rotations)
    assert skinned.shape == (2, *mesh.vertices.shape)
    for frame in range(2):
        for vertex in range(0, len(mesh.vertices), 501):
            expected = sum(
                weight * (rotations[frame, joint] @ (mesh.vertices[vertex] - REST_JOINTS[joint]) + joints[frame, joint])
                for joint, weight in zip(mesh.joints[vertex], mesh.weights[vertex], strict=True)
            )
            np.testing.assert_allclose(skinned[frame, vertex], expected, atol=1e-5)


def test_posed_segments_equal_a_loop():
    joints, rotations = posed(np.random.default_rng(1).normal(0, 0.5, (3, 24, 3)))
    starts, ends = np.moveaxis(pose_segments(joints, rotations), -2, 0)
    assert starts.shape == ends.shape == (3, len(SEGMENTS), 3)
    for index, segment in enumerate(SEGMENTS):
        frame = rotations[2, segment.joint]
        np.testing.assert_allclose(starts[2, index], joints[2, segment.joint] + frame @ segment.start, atol=1e-12)
        np.testing.assert_allclose(ends[2, index], joints[2, segment.joint] + frame @ segment.end, atol=1e-12)


def test_resolution_is_checked():
    with pytest.raises(ValueError, match=r"resolution=0\.5.*between 0\.005 and 0\.03"):
        mannequin_mesh(0.5)
