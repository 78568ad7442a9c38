"""Kinematics against scipy, smplx, finite differences, and real dances."""

import json
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch.autograd import gradcheck

from megadance_hf.modeling import kinematics_megadance as kinematics
from megadance_hf.modeling.kinematics_megadance import (
    BODY_PARTS,
    CONTACT_JOINTS,
    FOOT_JOINTS,
    JOINT_NAMES,
    MIRROR_JOINTS,
    MOTION_SIZE,
    NUM_JOINTS,
    PARENTS,
    REST_OFFSETS,
    axis_angle_to_matrix,
    axis_angle_to_rotation_6d,
    foot_contacts,
    foot_positions,
    forward_kinematics,
    from_body_motion,
    global_rotations,
    ground_translation,
    integrate_root_velocity,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    matrix_to_rotation_6d,
    mirror_poses,
    mirror_rest_offsets,
    mirror_translation,
    motion_to_joints,
    motion_to_poses,
    plant_root,
    poses_to_motion,
    root_heading,
    root_velocity,
    rotation_6d_to_axis_angle,
    rotation_6d_to_matrix,
    to_body_motion,
    turn_motion,
)

# Angles at which formulas break: none, tiny, ordinary, a hair from a half turn, a half turn.
ANGLES = [0.0, 1e-12, 1e-8, 1e-5, 1e-4, 1.1e-4, 1e-3, 0.5, 2.0, math.pi - 1e-3, math.pi - 1e-6, math.pi - 1e-9, math.pi]
AXES = torch.tensor(
    [
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 1],
        [-1, 0, 0],
        [0, -1, 0],
        [1, 1, 0],
        [0, -1, 1],
        [1, 2, 3],
        [-3, 1, -2],
        [1e-4, 1, 0],
    ],
    dtype=torch.float64,
)
AXES = AXES / AXES.norm(dim=-1, keepdim=True)

finite = st.floats(-10, 10, allow_nan=False, width=32)
vectors = st.tuples(finite, finite, finite)


def random_rotations(*shape: int, seed: int = 0) -> torch.Tensor:
    """Uniformly distributed rotation matrices in float64, from scipy."""
    matrices = Rotation.random(math.prod(shape), random_state=seed).as_matrix()
    return torch.from_numpy(matrices).reshape(*shape, 3, 3)


def angle_between(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Degrees between rotation matrices, by scipy."""
    difference = (first.double().mT @ second.double()).reshape(-1, 3, 3).numpy()
    return torch.from_numpy(np.degrees(Rotation.from_matrix(difference).magnitude()))


# --- the skeleton --------------------------------------------------------------------------------------------------


def test_skeleton_is_the_smpl_tree(shared_dir):
    reference = json.loads((shared_dir / "data" / "smpl_skeleton.json").read_text(encoding="utf-8"))
    assert list(JOINT_NAMES) == reference["names"]
    assert list(PARENTS) == reference["parents"]
    assert np.array(REST_OFFSETS).tolist() == np.array(reference["offsets_m"], dtype=float).tolist()


def test_body_parts_share_out_the_joints():
    assert sorted(sum(BODY_PARTS.values(), ())) == list(range(NUM_JOINTS))
    assert {part: len(joints) for part, joints in BODY_PARTS.items()} == {
        "upper": 15,
        "lower": 9,
    } and MOTION_SIZE == 147
    assert [JOINT_NAMES[joint] for joint in CONTACT_JOINTS] == ["left_ankle", "right_ankle", "left_foot", "right_foot"]


def test_mirror_joints_exchange_the_sides_and_keep_the_tree():
    assert [MIRROR_JOINTS[MIRROR_JOINTS[joint]] for joint in range(NUM_JOINTS)] == list(range(NUM_JOINTS))
    for joint, partner in enumerate(MIRROR_JOINTS):
        left_right = JOINT_NAMES[joint].replace("left", "?").replace("right", "left").replace("?", "right")
        assert JOINT_NAMES[partner] == left_right
        if joint:
            assert PARENTS[partner] == MIRROR_JOINTS[PARENTS[joint]]


# --- rotations against scipy ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", ANGLES)
def test_axis_angle_to_matrix_equals_scipy(angle):
    axis_angle = AXES * angle
    expected = torch.from_numpy(Rotation.from_rotvec(axis_angle.numpy()).as_matrix())
    torch.testing.assert_close(axis_angle_to_matrix(axis_angle), expected, atol=1e-14, rtol=0)
    torch.testing.assert_close(axis_angle_to_matrix(axis_angle.float()).double(), expected, atol=5e-7, rtol=0)


@pytest.mark.parametrize("angle", ANGLES)
def test_matrix_to_axis_angle_equals_scipy(angle):
    matrix = torch.from_numpy(Rotation.from_rotvec((AXES * angle).numpy()).as_matrix())
    result = matrix_to_axis_angle(matrix)
    torch.testing.assert_close(
        result.norm(dim=-1), torch.full((len(AXES),), angle, dtype=torch.float64), atol=1e-8, rtol=0
    )
    # compared as rotations: at a half turn an axis and its opposite are the same turn
    assert angle_between(torch.from_numpy(Rotation.from_rotvec(result.numpy()).as_matrix()), matrix).max() < 1e-5
    if angle < math.pi - 1e-3:
        torch.testing.assert_close(result, AXES * angle, atol=1e-13, rtol=1e-7)


@pytest.mark.parametrize("angle", ANGLES)
def test_single_precision_round_trip_keeps_the_rotation(angle):
    axis_angle = (AXES * angle).float()
    again = matrix_to_axis_angle(axis_angle_to_matrix(axis_angle))
    assert again.isfinite().all() and (again.norm(dim=-1) <= math.pi + 1e-6).all()
    assert angle_between(axis_angle_to_matrix(again.double()), axis_angle_to_matrix(axis_angle.double())).max() < 1e-3


def test_random_rotations_equal_scipy():
    matrix = random_rotations(500)
    reference = Rotation.from_matrix(matrix.numpy())
    torch.testing.assert_close(
        matrix_to_axis_angle(matrix), torch.from_numpy(reference.as_rotvec()), atol=1e-12, rtol=0
    )
    real_last = torch.from_numpy(reference.as_quat(canonical=True))
    torch.testing.assert_close(matrix_to_quaternion(matrix), real_last.roll(1, dims=-1), atol=1e-12, rtol=0)
    torch.testing.assert_close(rotation_6d_to_matrix(matrix_to_rotation_6d(matrix)), matrix, atol=1e-14, rtol=0)


def test_a_6d_rotation_is_the_first_two_rows():
    matrix = random_rotations(5)
    torch.testing.assert_close(matrix_to_rotation_6d(matrix), torch.cat([matrix[:, 0, :], matrix[:, 1, :]], -1))


@given(vectors)
def test_any_axis_angle_survives_6d(vector):
    axis_angle = torch.tensor(vector, dtype=torch.float64)
    again = rotation_6d_to_axis_angle(axis_angle_to_rotation_6d(axis_angle))
    assert again.norm() <= math.pi + 1e-9
    torch.testing.assert_close(axis_angle_to_matrix(again), axis_angle_to_matrix(axis_angle), atol=1e-9, rtol=0)


@given(vectors, vectors)
def test_six_numbers_become_a_rotation(first, second):
    rotation_6d = torch.tensor(first + second, dtype=torch.float64)
    length = torch.linalg.cross(rotation_6d[:3], rotation_6d[3:]).norm()
    if length < max(1e-3 * rotation_6d.square().sum(), 1e-6):  # (almost) parallel or zero vectors span no plane
        return
    matrix = rotation_6d_to_matrix(rotation_6d)
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3, dtype=torch.float64), atol=1e-9, rtol=0)
    assert torch.det(matrix) == pytest.approx(1, abs=1e-9)
    # Gram-Schmidt: the first row keeps its direction, the second stays in the plane and on its side
    assert matrix[0] @ rotation_6d[:3] == pytest.approx(rotation_6d[:3].norm().item(), abs=1e-9)
    assert abs(matrix[2] @ rotation_6d[3:]) < 1e-9 * max(1, rotation_6d.norm().item())
    assert matrix[1] @ rotation_6d[3:] > 0


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 3, 24)])
def test_any_leading_dimensions(shape):
    axis_angle = torch.randn(*shape, 3)
    matrix = axis_angle_to_matrix(axis_angle)
    assert matrix.shape == (*shape, 3, 3)
    assert matrix_to_axis_angle(matrix).shape == (*shape, 3)
    assert axis_angle_to_rotation_6d(axis_angle).shape == (*shape, 6)
    assert rotation_6d_to_axis_angle(matrix_to_rotation_6d(matrix)).shape == (*shape, 3)


# --- gradients -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [0.0, 1e-8, 1e-5, 9e-5, 1.1e-4, 1e-2, 1.0, math.pi - 1e-2, math.pi - 1e-4, math.pi])
def test_gradient_of_axis_angle_to_matrix(angle):
    axis_angle = (AXES * angle).requires_grad_()
    assert gradcheck(axis_angle_to_matrix, axis_angle)


@pytest.mark.parametrize("angle", [0.0, 1e-8, 1e-5, 1e-2, 1.0, math.pi - 1e-2, math.pi - 1e-4])
def test_gradient_of_rotation_6d_to_axis_angle(angle):
    # a step of the finite differences must not cross the half turn, where an axis jumps to its opposite
    rotation_6d = axis_angle_to_rotation_6d(AXES * angle).requires_grad_()
    assert gradcheck(rotation_6d_to_axis_angle, rotation_6d, eps=1e-7, atol=1e-4)


def test_gradients_are_finite_in_single_precision():
    angles = torch.tensor(ANGLES)[:, None, None] * AXES.float()
    for function, values in [
        (axis_angle_to_matrix, angles),
        (rotation_6d_to_axis_angle, axis_angle_to_rotation_6d(angles)),
        (rotation_6d_to_matrix, axis_angle_to_rotation_6d(angles)),
    ]:
        values = values.clone().requires_grad_()
        function(values).square().sum().backward()
        assert values.grad.isfinite().all(), function.__name__


def test_gradient_of_forward_kinematics():
    # two joints of one chain are free, the rest stands still: the full Jacobian would take a minute
    def joints(angles, translation, offsets):
        poses = torch.zeros(2, NUM_JOINTS, 3, dtype=torch.float64)
        poses = poses.index_copy(1, torch.tensor([0, 13]), angles)
        return forward_kinematics(axis_angle_to_matrix(poses), translation, offsets)

    angles = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    translation = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    offsets = torch.tensor(REST_OFFSETS, dtype=torch.float64, requires_grad=True)
    assert gradcheck(joints, (angles, translation, offsets))


# --- forward kinematics --------------------------------------------------------------------------------------------


def joints_one_by_one(rotations: torch.Tensor, translation: torch.Tensor, offsets: torch.Tensor):
    """The slow, obvious twin: down the tree with 4 x 4 transforms."""
    transforms = []
    for joint, parent in enumerate(PARENTS):
        local = torch.eye(4, dtype=rotations.dtype)
        local[:3, :3] = rotations[joint]
        local[:3, 3] = translation if parent < 0 else offsets[joint]
        transforms.append(local if parent < 0 else transforms[parent] @ local)
    transforms = torch.stack(transforms)
    return transforms[:, :3, 3], transforms[:, :3, :3]


def test_forward_kinematics_equals_its_slow_twin():
    rotations, translation = random_rotations(3, 2, NUM_JOINTS), torch.randn(3, 2, 3, dtype=torch.float64)
    offsets = torch.randn(NUM_JOINTS, 3, dtype=torch.float64)
    joints, turned = forward_kinematics(rotations, translation, offsets), global_rotations(rotations)
    assert joints.shape == (3, 2, NUM_JOINTS, 3)
    for batch in range(3):
        for frame in range(2):
            expected = joints_one_by_one(rotations[batch, frame], translation[batch, frame], offsets)
            torch.testing.assert_close(joints[batch, frame], expected[0], atol=1e-12, rtol=0)
            torch.testing.assert_close(turned[batch, frame], expected[1], atol=1e-12, rtol=0)


def test_rest_pose_stands_upright():
    joints = forward_kinematics(torch.eye(3).expand(NUM_JOINTS, 3, 3), torch.zeros(3))
    named = dict(zip(JOINT_NAMES, joints.tolist(), strict=True))
    assert named["pelvis"] == [0, 0, 0]
    assert named["head"][1] > 0.5 and named["left_foot"][1] < -0.8  # Y up
    assert named["left_hand"][0] > 0.7 and named["right_hand"][0] < -0.7  # its left is +X
    assert named["left_foot"][2] > named["left_ankle"][2]  # faces +Z


def test_a_turn_of_the_root_turns_the_body_about_the_pelvis():
    rotations, place = random_rotations(NUM_JOINTS), torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    turn = random_rotations(1, seed=1)[0]
    turned = rotations.clone()
    turned[0] = turn @ rotations[0]
    expected = (forward_kinematics(rotations, place) - place) @ turn.mT + place
    torch.testing.assert_close(forward_kinematics(turned, place), expected, atol=1e-12, rtol=0)


@pytest.fixture(scope="module")
def smpl_model(tmp_path_factory):
    """smplx's own SMPL, reading a model file of 24 vertices, one at each joint of the rest skeleton moved by J0."""
    smplx = pytest.importorskip("smplx")
    pelvis = np.array([0.01, -0.23, 0.03])  # SMPL's rest pelvis is not the origin either
    joints = np.tile(pelvis, (NUM_JOINTS, 1))
    for joint in range(1, NUM_JOINTS):
        joints[joint] = joints[PARENTS[joint]] + REST_OFFSETS[joint]
    content = {
        "v_template": joints,
        "shapedirs": np.zeros((NUM_JOINTS, 3, 10)),
        "posedirs": np.zeros((NUM_JOINTS, 3, 9 * (NUM_JOINTS - 1))),
        "J_regressor": np.eye(NUM_JOINTS),
        "weights": np.eye(NUM_JOINTS),
        "kintree_table": np.array([PARENTS, range(NUM_JOINTS)]),
        "f": np.array([[0, 1, 2]]),
    }
    path = tmp_path_factory.mktemp("smpl") / "SMPL_NEUTRAL.pkl"
    path.write_bytes(pickle.dumps(content))
    # the face, hand and foot points that smplx picks from the real mesh's 6890 vertices: here all vertex 0
    points = {name: 0 for name in smplx.vertex_ids.vertex_ids["smplh"]}
    model = smplx.SMPL(str(path), vertex_ids=points, dtype=torch.float64, batch_size=7)
    return model, torch.from_numpy(pelvis)


def test_forward_kinematics_equals_smplx(smpl_model):
    model, pelvis = smpl_model
    poses = matrix_to_axis_angle(random_rotations(7, NUM_JOINTS))
    translation = torch.randn(7, 3, dtype=torch.float64)
    output = model(
        global_orient=poses[:, 0], body_pose=poses[:, 1:].flatten(1), transl=translation - pelvis, return_verts=True
    )
    joints = forward_kinematics(axis_angle_to_matrix(poses), translation)
    torch.testing.assert_close(joints, output.joints[:, :NUM_JOINTS].detach(), atol=1e-6, rtol=0)


# --- root path, whole motions --------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(0, 1000))
def test_root_path_survives_velocity(frames, seed):
    path = torch.from_numpy(np.random.default_rng(seed).normal(size=(2, frames, 3)))
    velocity = root_velocity(path)
    assert velocity.shape == path.shape
    assert (velocity[:, -1] == 0).all()
    torch.testing.assert_close(integrate_root_velocity(velocity, path[:, 0]), path, atol=1e-12, rtol=0)
    torch.testing.assert_close(integrate_root_velocity(velocity), path - path[:, :1], atol=1e-12, rtol=0)


def test_the_last_velocity_moves_nothing():
    velocity = torch.randn(10, 3)
    other = velocity.clone()
    other[-1] += 1
    torch.testing.assert_close(integrate_root_velocity(velocity), integrate_root_velocity(other))


def test_motion_and_poses_are_inverse():
    poses = matrix_to_axis_angle(random_rotations(2, 9, NUM_JOINTS))
    path = torch.randn(2, 9, 3, dtype=torch.float64)
    motion = poses_to_motion(poses, path)
    assert motion.shape == (2, 9, MOTION_SIZE)
    poses_again, path_again = motion_to_poses(motion, path[:, 0])
    torch.testing.assert_close(poses_again, poses, atol=1e-10, rtol=0)
    torch.testing.assert_close(path_again, path, atol=1e-12, rtol=0)
    joints = forward_kinematics(axis_angle_to_matrix(poses), path)
    torch.testing.assert_close(motion_to_joints(motion, path), joints, atol=1e-10, rtol=0)


# --- the floor -----------------------------------------------------------------------------------------------------


@given(st.integers(1, 200), st.integers(0, 1000), st.floats(0.1, 3.0))
def test_nothing_ends_below_the_floor(frames, seed, window):
    rng = np.random.default_rng(seed)
    poses = torch.from_numpy(rng.normal(scale=0.3, size=(2, frames, NUM_JOINTS, 3)))
    path = torch.from_numpy(rng.normal(size=(2, frames, 3)).cumsum(1))
    grounded = ground_translation(poses, path, window=window)
    heights = forward_kinematics(axis_angle_to_matrix(poses), grounded)[..., 1]
    assert heights.min() > -1e-9
    assert torch.equal(grounded[..., [0, 2]], path[..., [0, 2]])
    one = ground_translation(poses[1], path[1], window=window)
    torch.testing.assert_close(one, grounded[1], atol=1e-12, rtol=0)


def test_grounding_takes_away_drift_and_keeps_jumps():
    poses, path = torch.zeros(300, NUM_JOINTS, 3), torch.zeros(300, 3)
    seconds = torch.arange(300) / 30
    jump = (0.4 - 5 * (seconds - 5).square()).clamp(min=0)  # off the floor for 0.57 s
    path[:, 1] = 3 + 0.1 * seconds + jump
    lowest = forward_kinematics(axis_angle_to_matrix(poses), ground_translation(poses, path))[..., 1].amin(-1)
    torch.testing.assert_close(lowest[30:-30], jump[30:-30], atol=0.02, rtol=0)
    assert (lowest - jump).abs().max() < 0.05  # at the ends there is only one side to look to


# --- mirroring -----------------------------------------------------------------------------------------------------

ACROSS = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)


def test_mirroring_twice_changes_nothing():
    poses, path = torch.randn(5, NUM_JOINTS, 3), torch.randn(5, 3)
    assert torch.equal(mirror_poses(mirror_poses(poses)), poses)
    assert torch.equal(mirror_translation(mirror_translation(path)), path)


def test_mirrored_pose_on_the_mirrored_skeleton_is_the_mirror_image():
    poses = matrix_to_axis_angle(random_rotations(6, NUM_JOINTS))
    path, offsets = torch.randn(6, 3, dtype=torch.float64), torch.tensor(REST_OFFSETS, dtype=torch.float64)
    image = forward_kinematics(axis_angle_to_matrix(poses), path, offsets)[:, list(MIRROR_JOINTS)] * ACROSS
    mirrored = forward_kinematics(
        axis_angle_to_matrix(mirror_poses(poses)), mirror_translation(path), mirror_rest_offsets(offsets)
    )
    torch.testing.assert_close(mirrored, image, atol=1e-10, rtol=0)


def test_a_real_dance_keeps_its_looks_in_the_mirror(ballroom_dir):
    with np.load(ballroom_dir / "motions" / "waltz_8.npz") as file:
        poses = torch.from_numpy(file["smpl_poses"]).unflatten(-1, (NUM_JOINTS, 3)).double()
        path = torch.from_numpy(file["smpl_trans"]).double()
    joints = forward_kinematics(axis_angle_to_matrix(poses), path)
    mirrored = forward_kinematics(axis_angle_to_matrix(mirror_poses(poses)), mirror_translation(path))
    # on the same, slightly lopsided skeleton: the mirror image up to the 2 cm by which its sides differ, a joint
    error = (mirrored - joints[:, list(MIRROR_JOINTS)] * ACROSS).norm(dim=-1)
    assert error.mean() < 0.03 and error.max() < 0.08
    feet = list(FOOT_JOINTS)
    assert abs(mirrored[:, feet, 1].min() - joints[:, feet, 1].min()) < 0.03
    assert (mirrored[:, 15, 1] - mirrored[:, 0, 1]).min() > 0.3  # upright: the head well above the pelvis


def test_long_dances_are_computed_in_blocks(monkeypatch):
    motion = torch.randn(2, 23, kinematics.MOTION_SIZE, generator=torch.Generator().manual_seed(0))
    poses, path = kinematics.motion_to_poses(motion)
    grounded = kinematics.ground_translation(poses, path)
    monkeypatch.setattr(kinematics, "BLOCK", 5)
    torch.testing.assert_close(kinematics.motion_to_poses(motion)[0], poses)
    torch.testing.assert_close(kinematics.ground_translation(poses, path), grounded)


# --- heading and feet ----------------------------------------------------------------------------------------------


def upright_motion(frames: int = 40) -> torch.Tensor:
    """A body that walks, turns and bends, in float64."""
    poses = torch.randn(frames, 24, 3, dtype=torch.double).cumsum(0) * 0.03
    return poses_to_motion(poses, torch.randn(frames, 3, dtype=torch.double).cumsum(0) * 0.02)


@given(st.floats(-10, 10), st.floats(-1.5, 1.5))
def test_the_heading_turns_with_the_body(angle, bend):
    bow = axis_angle_to_matrix(torch.tensor([bend, 0.0, 0.0], dtype=torch.double))
    motion = torch.cat([torch.zeros(3), matrix_to_rotation_6d(bow), torch.zeros(138)])
    assert root_heading(motion).item() == pytest.approx(0, abs=1e-9), "who bows faces where he faced"
    turned = root_heading(turn_motion(motion, torch.tensor(angle, dtype=torch.double)))
    assert math.remainder(turned.item() - angle, 2 * math.pi) == pytest.approx(0, abs=1e-9)


def test_a_turn_to_the_left_is_positive_and_moves_joints_and_path():
    motion = upright_motion()
    quarter = turn_motion(motion, torch.tensor(math.pi / 2, dtype=torch.double))
    path, turned_path = (integrate_root_velocity(m[:, :3]) for m in (motion, quarter))
    joints, turned = motion_to_joints(motion, path), motion_to_joints(quarter, turned_path)
    # what was in front (+Z) is now to the left (+X), what was to the left is behind
    torch.testing.assert_close(turned, torch.stack([joints[..., 2], joints[..., 1], -joints[..., 0]], -1))


@given(st.integers(1, 30), st.floats(-4, 4))
@settings(max_examples=20, deadline=None)
def test_body_motion_is_the_same_in_every_direction_and_has_an_inverse(frames, angle):
    motion = upright_motion(frames)
    angle = torch.tensor(angle, dtype=torch.double)
    body = to_body_motion(motion)
    assert body.shape == (frames, 148)
    torch.testing.assert_close(to_body_motion(turn_motion(motion, angle)), body)
    torch.testing.assert_close(from_body_motion(body, root_heading(motion[0])), motion)
    torch.testing.assert_close(from_body_motion(body, root_heading(motion[0]) + angle), turn_motion(motion, angle))


def test_no_body_motion_makes_a_jump_of_the_heading():
    body = to_body_motion(upright_motion(200))
    body[:, 3:9] += torch.randn(200, 6) * 0.3  # a decoder's error leaves a heading in the root rotation
    heading = root_heading(from_body_motion(body, torch.zeros((), dtype=torch.double)))
    steps = torch.remainder(heading.diff() + math.pi, 2 * math.pi) - math.pi
    torch.testing.assert_close(steps, body[:-1, -1])


def test_headings_upside_down_are_finite_and_the_motion_is_exact():
    poses = torch.zeros(12, 24, 3, dtype=torch.double)
    poses[:, 0, 0] = torch.linspace(0, 2 * math.pi, 12, dtype=torch.double)  # a somersault
    poses[6, 0, 0] = math.pi
    motion = poses_to_motion(poses, torch.zeros(12, 3, dtype=torch.double)).requires_grad_()
    body = to_body_motion(motion)
    rebuilt = from_body_motion(body, root_heading(motion[0]))
    others = [*range(6), *range(7, 12)]
    torch.testing.assert_close(rebuilt[others], motion[others])
    rebuilt.sum().backward()
    assert torch.isfinite(rebuilt).all() and torch.isfinite(motion.grad).all()


def test_foot_positions_are_those_of_forward_kinematics():
    motion = upright_motion(7)
    offsets = torch.randn(24, 3, dtype=torch.double)
    for rest in (None, offsets):
        joints = motion_to_joints(motion, torch.zeros(7, 3, dtype=torch.double), rest)
        torch.testing.assert_close(foot_positions(motion, rest), joints[:, list(CONTACT_JOINTS)])


def test_contacts_begin_low_and_slow_and_do_not_flicker():
    feet = torch.zeros(30, 4, 3)
    feet[:, :, 1] = torch.tensor([0.08, 0.5, 0.03, 0.03])
    feet[:, 2, 0] = (torch.arange(30) >= 15) * (torch.arange(30) - 15) * 0.03  # .9 m/s from frame 15 on
    speed = torch.full((30,), 0.01)
    speed[8:] = 0.009  # .27 m/s: between both thresholds
    feet[:, 3, 2] = speed.cumsum(0)
    feet[0, 3, 1] = 0.1  # lands in the first frame, at .3 m/s
    contacts = foot_contacts(feet)
    assert contacts[:, 0].all() and not contacts[:, 1].any(), "a low ankle stands, a high one does not"
    assert contacts[:15, 2].all() and not contacts[15:, 2].any()
    assert not contacts[:, 3].any(), "never slow enough to begin"
    feet[4:6, 3] = feet[4, 3]  # rests for one frame: from there on it stands
    assert foot_contacts(feet)[4:, 3].sum() >= 1
    assert not foot_contacts(feet[:1]).any()


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_a_planted_foot_stands(seed):
    torch.manual_seed(seed)
    motion = upright_motion()
    feet, velocity = foot_positions(motion), motion[:, :3]
    contacts = torch.zeros(40, 4, dtype=torch.double)
    contacts[5:20, 2], contacts[20:33, 3] = 1.0, 1.0
    planted = plant_root(velocity, feet, contacts)
    world = feet + integrate_root_velocity(planted)[:, None]
    assert (world[7:19, 2] - world[7, 2]).abs().max() < 1e-12
    assert (world[22:32, 3] - world[22, 3]).abs().max() < 1e-12
    assert torch.equal(planted[:4], velocity[:4]) and torch.equal(planted[34:], velocity[34:])
    assert torch.equal(plant_root(velocity, feet, contacts * 0.25), velocity), "an improbable contact plants nothing"
    assert torch.equal(plant_root(velocity[:1], feet[:1], contacts[:1]), velocity[:1])
