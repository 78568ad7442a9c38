"""Rotations, the SMPL skeleton, forward kinematics and the root path: pure, differentiable functions of tensors.

Conventions: metres, right-handed, Y up; at zero rotation the body faces +Z and its left is +X. Rotation matrices act on
column vectors. A 6D rotation is the first two *rows* of its matrix (Zhou et al. 2019, and the released code). A *motion*
has 147 numbers per frame: root velocity (3, metres per frame) and 24 joints x 6D rotation (paper, section 3.1).
"""

import itertools
import math
import re

import torch
import torch.nn.functional as F
from torch import Tensor

JOINT_NAMES = (
    *("pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle"),
    *("spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder"),
    *("right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand"),
)
JOINT_INDEX = {name: index for index, name in enumerate(JOINT_NAMES)}
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
# Offset of each joint from its parent in the neutral rest pose, metres. Not symmetric: left and right differ by up to 2 cm.
REST_OFFSETS = (
    (0.0, 0.0, 0.0),
    (0.05858135, -0.08228004, -0.01766408),
    (-0.06030973, -0.09051332, -0.01354254),
    (0.00443945, 0.12440352, -0.03838522),
    (0.04345142, -0.38646945, 0.008037),
    (-0.04325663, -0.38368791, -0.00484304),
    (0.00448844, 0.1379564, 0.02682033),
    (-0.01479032, -0.42687458, -0.037428),
    (0.01905555, -0.4200455, -0.03456167),
    (-0.00226458, 0.05603239, 0.00285505),
    (0.04105436, -0.06028581, 0.12204243),
    (-0.03483987, -0.06210566, 0.13032329),
    (-0.0133902, 0.21163553, -0.03346758),
    (0.07170245, 0.11399969, -0.01889817),
    (-0.08295366, 0.11247234, -0.02370739),
    (0.01011321, 0.08893734, 0.05040987),
    (0.12292141, 0.04520509, -0.019046),
    (-0.11322832, 0.04685326, -0.00847207),
    (0.2553319, -0.01564902, -0.02294649),
    (-0.26012748, -0.01436928, -0.03126873),
    (0.26570925, 0.01269811, -0.00737473),
    (-0.26910836, 0.00679372, -0.00602676),
    (0.08669055, -0.01063603, -0.01559429),
    (-0.0887537, -0.00865157, -0.01010708),
)

NUM_JOINTS = len(PARENTS)
ROTATION_SIZE = 6
ROOT_SIZE = 3
MOTION_SIZE = ROOT_SIZE + NUM_JOINTS * ROTATION_SIZE
BODY_MOTION_SIZE = MOTION_SIZE + 1  # see `to_body_motion`

# The paper's body parts (section 3.2) and their joints, in the order of the code streams; the root velocity goes with one of them.
BODY_PARTS: dict[str, tuple[int, ...]] = {
    "upper": (3, 6, 9, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23),
    "lower": (0, 1, 2, 4, 5, 7, 8, 10, 11),
}
ROOT_PART = "lower"
# Joints that touch the floor: both ankles, both feet.
CONTACT_JOINTS = (7, 8, 10, 11)
FOOT_JOINTS = (10, 11)
# A joint of these stands once it is below the first height (metres above the floor) and slower than the first speed (m/s), until it is
# above the second height or faster than the second speed. An ankle at rest is 6 cm above the foot joint.
CONTACT_HEIGHTS = ((0.10, 0.12), (0.10, 0.12), (0.04, 0.06), (0.04, 0.06))
CONTACT_SPEEDS = (0.20, 0.35)

BLOCK = 4096  # frames processed at once: intermediate results are several times as large as a dance


# The joint that replaces each joint when left and right are exchanged.
_OTHER_SIDE = {"left": "right", "right": "left"}
_MIRRORED = [re.sub("^(left|right)", lambda side: _OTHER_SIDE[side[0]], name) for name in JOINT_NAMES]
MIRROR_JOINTS = tuple(JOINT_INDEX[name] for name in _MIRRORED)


def _depth(joint: int) -> int:
    return 0 if joint == 0 else 1 + _depth(PARENTS[joint])


# Joints of equal depth are computed at once: 8 steps down the tree instead of 23.
_LEVELS = [list(level) for _, level in itertools.groupby(sorted(range(1, NUM_JOINTS), key=_depth), key=_depth)]


# --- rotations -----------------------------------------------------------------------------------------------------


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Rodrigues' formula. `axis_angle` (..., 3) in radians -> rotation matrices (..., 3, 3).

    Exact at and near zero (the two sine quotients are continued by their series), with finite gradients there.
    """
    squared = axis_angle.square().sum(-1)
    small = squared < 1e-8
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    # sin(a)/a, and (1 - cos(a))/a^2 written as a square so that nothing cancels for small angles
    first = torch.where(small, 1 - squared / 6, torch.sin(angle) / angle)
    second = torch.where(small, 0.5 - squared / 24, 2 * (torch.sin(angle / 2) / angle).square())
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    identity = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return identity + first[..., None, None] * cross + second[..., None, None] * (cross @ cross)


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) -> unit quaternions (..., 4), real part first and not negative.

    Of the four classical formulas it uses the one with the largest divisor, so that no square root or division is near zero, not
    even for half turns.
    """
    (xx, m01, m02), (m10, yy, m12), (m20, m21, zz) = (row.unbind(-1) for row in matrix.unbind(-2))
    w2, x2, y2, z2 = squares = 1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz
    wx, wy, wz = m21 - m12, m02 - m20, m10 - m01
    xy, xz, yz = m10 + m01, m02 + m20, m21 + m12
    # row k is the quaternion times 4 times its own k-th number
    rows = (w2, wx, wy, wz), (wx, x2, xy, xz), (wy, xy, y2, yz), (wz, xz, yz, z2)
    candidates = torch.stack([torch.stack(row, -1) for row in rows], dim=-2)
    best = torch.stack(squares, -1).argmax(-1)[..., None, None].expand(*xx.shape, 1, 4)
    quaternion = F.normalize(candidates.gather(-2, best).squeeze(-2), dim=-1)
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def quaternion_to_axis_angle(quaternion: Tensor) -> Tensor:
    """Unit quaternions (..., 4), real part first -> axis-angle (..., 3), angle in [0, pi] for a real part >= 0."""
    real, vector = quaternion[..., 0], quaternion[..., 1:]
    squared = vector.square().sum(-1)
    small = squared < 1e-10
    sine = torch.where(small, torch.ones_like(squared), squared).sqrt()
    factor = torch.where(small, 2 + squared / 3, 2 * torch.atan2(sine, real) / sine)
    return factor[..., None] * vector


def rotation_angle(first: Tensor, second: Tensor) -> Tensor:
    """Angles (...) between rotation matrices (..., 3, 3), radians."""
    # |R - S| = 2 sqrt(2) sin(angle / 2) is accurate near 0, where a trace is not
    return 2 * torch.asin(((second - first).flatten(-2).norm(dim=-1) / 8**0.5).clamp(max=1))


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) -> axis-angle (..., 3), angle in [0, pi]; accurate near 0 and near half turns.

    The released code loses accuracy within a degree of half turns; this does not (see the parity notes).
    """
    return quaternion_to_axis_angle(matrix_to_quaternion(matrix))


def matrix_to_rotation_6d(matrix: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) -> their first two rows (..., 6)."""
    return matrix[..., :2, :].flatten(-2)


def rotation_6d_to_matrix(rotation_6d: Tensor) -> Tensor:
    """Any six numbers (..., 6) -> the rotation matrix (..., 3, 3) that Gram-Schmidt makes of them (Zhou et al. 2019)."""
    first = F.normalize(rotation_6d[..., :3], dim=-1)
    second = rotation_6d[..., 3:]
    second = F.normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-2)


def axis_angle_to_rotation_6d(axis_angle: Tensor) -> Tensor:
    """Axis-angle (..., 3) -> 6D (..., 6)."""
    return matrix_to_rotation_6d(axis_angle_to_matrix(axis_angle))


def rotation_6d_to_axis_angle(rotation_6d: Tensor) -> Tensor:
    """6D (..., 6) -> axis-angle (..., 3)."""
    return matrix_to_axis_angle(rotation_6d_to_matrix(rotation_6d))


# --- forward kinematics --------------------------------------------------------------------------------------------


def _down_the_tree(rotations: Tensor, translation: Tensor, rest_offsets: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """World rotations [3, 3, n] and positions [3, n] of each joint, for n frames.

    With the frames last, the many 3x3 products are a few wide multiplications; matrix products with the frames first take twice
    as long on a CPU, forward and backward.
    """
    local = rotations.reshape(-1, NUM_JOINTS, 3, 3).permute(1, 2, 3, 0).contiguous().unbind(0)
    world: list[Tensor] = list(local)
    positions: list[Tensor] = [translation.reshape(-1, 3).T] * NUM_JOINTS
    for joints in _LEVELS:
        above = torch.stack([world[PARENTS[joint]] for joint in joints], dim=2)  # [3, 3, joints of this level, n]
        below = torch.stack([local[joint] for joint in joints], dim=2)
        turned = above[:, 0, None] * below[0] + above[:, 1, None] * below[1] + above[:, 2, None] * below[2]
        bone = rest_offsets[joints].T[..., None]  # [3, joints of this level, 1]
        moved = torch.stack([positions[PARENTS[joint]] for joint in joints], dim=1)
        moved = moved + above[:, 0] * bone[0] + above[:, 1] * bone[1] + above[:, 2] * bone[2]
        for slot, joint in enumerate(joints):
            world[joint], positions[joint] = turned[:, :, slot], moved[:, slot]
    return world, positions


def _rest_offsets(reference: Tensor) -> Tensor:
    return torch.tensor(REST_OFFSETS, dtype=reference.dtype, device=reference.device)


def global_rotations(rotations: Tensor) -> Tensor:
    """Rotations relative to the parent (..., 24, 3, 3) -> rotations relative to the world (..., 24, 3, 3)."""
    world, _ = _down_the_tree(rotations, rotations.new_zeros(rotations.shape[:-3] + (3,)), _rest_offsets(rotations))
    return torch.stack(world).permute(3, 0, 1, 2).reshape(rotations.shape)


def forward_kinematics(rotations: Tensor, translation: Tensor, rest_offsets: Tensor | None = None) -> Tensor:
    """Joint positions of the posed skeleton.

    Args:
        rotations: (..., 24, 3, 3), each relative to the parent joint.
        translation: (..., 3), metres; the pelvis joint lands exactly here.
        rest_offsets: (24, 3) offsets from the parent, metres; `REST_OFFSETS` when None. The pelvis' offset is not used.

    Returns:
        (..., 24, 3) positions in metres.
    """
    offsets = _rest_offsets(rotations) if rest_offsets is None else rest_offsets
    translation = translation.expand(*rotations.shape[:-3], 3)
    _, positions = _down_the_tree(rotations, translation, offsets)
    return torch.stack(positions).permute(2, 0, 1).reshape(*rotations.shape[:-3], NUM_JOINTS, 3)


# --- the root path -------------------------------------------------------------------------------------------------


def root_velocity(translation: Tensor) -> Tensor:
    """Root path (..., T, 3) -> the difference from each frame to the next (..., T, 3), zero in the last frame (as released)."""
    step = translation[..., 1:, :] - translation[..., :-1, :]
    return torch.cat([step, torch.zeros_like(translation[..., :1, :])], dim=-2)


def integrate_root_velocity(velocity: Tensor, start: Tensor | None = None) -> Tensor:
    """Inverse of `root_velocity`: cumulative sum from `start` (..., 3), the origin when None -> (..., T, 3)."""
    path = torch.cumsum(velocity, dim=-2) - velocity
    return path if start is None else path + start[..., None, :]


def ground_translation(poses: Tensor, translation: Tensor, fps: float = 30.0, window: float = 1.0) -> Tensor:
    """Root path with its height corrected so that the lowest joint (usually a supporting foot) touches y = 0.

    A decoded root path is a sum of velocities, so its height drifts by some centimetres per minute. The floor under a frame is
    the lowest joint height within half a window around it, smoothed over the same time. It never lies above a joint, so nothing
    ends below 0, and jumps shorter than the window keep their height. A second pass removes what the first leaves on a slope, so
    that a steady drift vanishes entirely.

    Args:
        poses: (..., T, 24, 3) axis-angle, radians.
        translation: (..., T, 3), metres.
        fps: frames per second.
        window: seconds; longer than the longest jump.

    Returns:
        (..., T, 3); x and z are unchanged.
    """
    blocks = zip(poses.split(BLOCK, dim=-3), translation.split(BLOCK, dim=-2), strict=True)
    heights = [forward_kinematics(axis_angle_to_matrix(pose), path)[..., 1].amin(-1) for pose, path in blocks]
    return translation - F.pad(floor_heights(torch.cat(heights, dim=-1), fps, window)[..., None], (1, 1))


def ground_path(rotations: Tensor, path: Tensor, fps: float = 30.0) -> Tensor:
    """As `ground_translation`, of rotations (T, 24, 3, 3) and a path (T, 3)."""
    blocks = zip(rotations.split(BLOCK), path.split(BLOCK), strict=True)
    lowest = torch.cat([forward_kinematics(*block)[..., 1].amin(-1) for block in blocks])
    return path - F.pad(floor_heights(lowest, fps)[:, None], (1, 1))


def floor_heights(lowest: Tensor, fps: float = 30.0, window: float = 1.0) -> Tensor:
    """Height (..., T) of the floor under each frame, by the height (..., T) of its lowest joint; see `ground_translation`."""
    shape, lowest = lowest.shape, lowest.reshape(-1, 1, lowest.shape[-1])
    half = max(1, round(window * fps / 4))
    floor = torch.zeros_like(lowest)
    for _ in range(2):
        minimum = -F.max_pool1d(floor - lowest, 4 * half + 1, stride=1, padding=2 * half)
        # two means, each half as wide as the minimum: the minimum of every value in them includes this frame
        smooth = F.pad(minimum, (2 * half, 2 * half), mode="replicate")
        for _ in range(2):
            smooth = F.avg_pool1d(smooth, 2 * half + 1, stride=1)
        floor = torch.minimum(floor + smooth, lowest)  # equal up to rounding
    return floor.reshape(shape)


# --- heading -------------------------------------------------------------------------------------------------------


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Matrix product without a matrix product, which training with mixed precision would round to three digits."""
    return (left[..., :, :, None] * right[..., None, :, :]).sum(-2)


def turn_matrix(angle: Tensor) -> Tensor:
    """Angles (...) about the vertical, radians -> rotation matrices (..., 3, 3); a positive angle turns from +Z to +X."""
    cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    rows = cosine, zero, sine, zero, zero + 1, zero, -sine, zero, cosine
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def _root_rotation(motion: Tensor) -> Tensor:
    return rotation_6d_to_matrix(motion[..., ROOT_SIZE : ROOT_SIZE + ROTATION_SIZE])


def rotation_heading(rotation: Tensor) -> Tensor:
    """`root_heading` of rotations of the pelvis (..., 3, 3)."""
    forward = rotation[..., 0, 0] + rotation[..., 2, 2]
    sideways = rotation[..., 0, 2] - rotation[..., 2, 0]
    return torch.atan2(sideways, forward + ((forward == 0) & (sideways == 0)))


def root_heading(motion: Tensor) -> Tensor:
    """Where the body faces (...), radians about the vertical, of motion (..., 147): 0 is +Z, a quarter turn to its left +X.

    It is the turn about the vertical that is nearest to the pelvis' rotation: that of its forward and its sideways axis, both projected
    onto the floor and added. The forward axis alone would be undefined for a body that bends forward by 90 degrees; the sum is so for a body
    that stands on its head only. Near there the heading may turn by any angle within a frame.
    """
    return rotation_heading(_root_rotation(motion))


def turn_motion(motion: Tensor, angle: Tensor) -> Tensor:
    """Motion (..., 147) turned about the vertical by `angle` (...), radians."""
    turn = turn_matrix(angle)
    velocity = _product(turn, motion[..., :ROOT_SIZE, None]).squeeze(-1)
    root = matrix_to_rotation_6d(_product(turn, _root_rotation(motion)))
    return torch.cat([velocity, root, motion[..., ROOT_SIZE + ROTATION_SIZE :]], dim=-1)


def to_body_motion(motion: Tensor) -> Tensor:
    """Motion (..., T, 147) -> *body motion* (..., T, 148), the same in whatever direction the body faces.

    The root velocity and the root rotation are seen from the body, that is, turned by minus its heading. The last column is the turn: by
    how much the heading changes until the next frame, radians in [-pi, pi]. The last frame repeats the turn before.
    """
    heading = root_heading(motion)
    turn = torch.remainder(heading.diff(dim=-1) + math.pi, 2 * math.pi) - math.pi
    turn = torch.cat([turn, turn[..., -1:] if turn.shape[-1] else torch.zeros_like(heading)], dim=-1)
    return torch.cat([turn_motion(motion, -heading), turn[..., None]], dim=-1)


def from_body_motion(body_motion: Tensor, heading: Tensor) -> Tensor:
    """Inverse of `to_body_motion`: (..., T, 148) and the heading (...) of the first frame, radians -> motion (..., T, 147).

    The heading is the sum of the turns alone: what a decoder leaves of a heading in the root rotation is removed.
    """
    motion, turn = body_motion[..., :MOTION_SIZE], body_motion[..., MOTION_SIZE]
    headings = heading[..., None] + turn.cumsum(-1) - turn
    upright = turn_motion(motion, -root_heading(motion))
    return turn_motion(torch.cat([motion[..., :ROOT_SIZE], upright[..., ROOT_SIZE:]], dim=-1), headings)


# --- feet ----------------------------------------------------------------------------------------------------------


def foot_positions(motion: Tensor, rest_offsets: Tensor | None = None) -> Tensor:
    """Positions (..., 4, 3) of `CONTACT_JOINTS` of a motion (..., 147), metres, with the pelvis at the origin."""
    offsets = _rest_offsets(motion) if rest_offsets is None else rest_offsets
    rotations = rotation_6d_to_matrix(motion[..., ROOT_SIZE:].unflatten(-1, (NUM_JOINTS, ROTATION_SIZE))[..., :9, :])
    world, position, found = rotations[..., :1, :, :], motion.new_zeros(3), []
    for joints in ([1, 2], [4, 5], [7, 8], [10, 11]):  # left and right, down the legs
        position = position + _product(world, offsets[joints][..., None]).squeeze(-1)
        found.append(position)
        if joints[0] < 9:
            world = _product(world, rotations[..., joints, :, :])
    return torch.cat(found[2:], dim=-2)


def foot_contacts(feet: Tensor, fps: float = 30.0) -> Tensor:
    """Which of `CONTACT_JOINTS` stand on the floor until the next frame: bool (..., T, 4).

    A joint begins to stand when it is both low and slow, and ends when it is no longer nearly so (`CONTACT_HEIGHTS`, `CONTACT_SPEEDS`):
    what hovers about one threshold does not flicker. Later frames have no influence but the next one.

    Args:
        feet: (..., T, 4, 3), metres, the floor at y = 0.
        fps: frames per second.
    """
    if feet.shape[-3] < 2:
        return torch.zeros_like(feet[..., 0], dtype=torch.bool)
    speed = feet.diff(dim=-3).norm(dim=-1) * fps
    speed = torch.cat([speed, speed[..., -1:, :]], dim=-2)
    height = feet[..., 1]
    below, above = feet.new_tensor(CONTACT_HEIGHTS).unbind(-1)
    begins = (height < below) & (speed < CONTACT_SPEEDS[0])
    ends = (height > above) | (speed > CONTACT_SPEEDS[1])
    frame = torch.arange(1, feet.shape[-3] + 1, device=feet.device)[:, None]
    last_begin, last_end = ((frame * event).cummax(dim=-2).values for event in (begins, ends))
    return last_begin > last_end


def plant_root(velocity: Tensor, feet: Tensor, contacts: Tensor) -> Tensor:
    """Root velocity (..., T, 3) that keeps feet in contact where they are.

    Where a foot stands, the pelvis has to move against the foot's step relative to it, up and down as well. Several feet count by
    their probability; over .25 to .75, and from one frame to the next, the decoded velocity passes into the planted one. The last frame,
    whose step is unknown, keeps its own.

    Args:
        velocity: (..., T, 3), metres per frame.
        feet: (..., T, 4, 3), relative to the pelvis, as `foot_positions` gives them.
        contacts: (..., T, 4), probability that the foot stands until the next frame.
    """
    if feet.shape[-3] < 2:
        return velocity
    weight = ((contacts[..., :-1, :] - 0.25) * 2).clamp(0, 1)
    weight = weight * weight * (3 - 2 * weight)
    padded = torch.cat([weight[..., :1, :], weight, weight[..., -1:, :]], dim=-2)
    weight = weight / 2 + (padded[..., :-2, :] + padded[..., 2:, :]) / 4
    planted = -(weight[..., None] * feet.diff(dim=-3)).sum(-2) / weight.sum(-1, keepdim=True).clamp(min=1e-6)
    step = torch.lerp(velocity[..., :-1, :], planted, weight.amax(-1, keepdim=True))
    return torch.cat([step, velocity[..., -1:, :]], dim=-2)


# --- whole motions -------------------------------------------------------------------------------------------------


def poses_to_motion(poses: Tensor, translation: Tensor) -> Tensor:
    """Axis-angle poses (..., T, 24, 3) and root path (..., T, 3) -> motion (..., T, 147)."""
    rotations = axis_angle_to_rotation_6d(poses).flatten(-2)
    return torch.cat([root_velocity(translation), rotations], dim=-1)


def motion_to_poses(motion: Tensor, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Motion (..., T, 147) -> axis-angle poses (..., T, 24, 3) and the root path (..., T, 3) from `start` (..., 3)."""
    velocity, rotations = motion.split([ROOT_SIZE, NUM_JOINTS * ROTATION_SIZE], dim=-1)
    blocks = rotations.unflatten(-1, (NUM_JOINTS, ROTATION_SIZE)).split(BLOCK, dim=-3)
    poses = torch.cat([rotation_6d_to_axis_angle(block) for block in blocks], dim=-3)
    return poses, integrate_root_velocity(velocity, start)


def motion_to_rotations(motion: Tensor, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """As `motion_to_poses`, with rotation matrices (..., T, 24, 3, 3) instead of poses."""
    velocity, rotations = motion.split([ROOT_SIZE, NUM_JOINTS * ROTATION_SIZE], dim=-1)
    matrices = rotation_6d_to_matrix(rotations.unflatten(-1, (NUM_JOINTS, ROTATION_SIZE)))
    return matrices, integrate_root_velocity(velocity, start)


def motion_to_joints(motion: Tensor, translation: Tensor, rest_offsets: Tensor | None = None) -> Tensor:
    """Joint positions (..., T, 24, 3) of a motion (..., T, 147) with its pelvis at `translation` (..., T, 3)."""
    rotations = rotation_6d_to_matrix(motion[..., ROOT_SIZE:].unflatten(-1, (NUM_JOINTS, ROTATION_SIZE)))
    return forward_kinematics(rotations, translation, rest_offsets)


def check_motion_statistics(mean: Tensor, std: Tensor, size: int = MOTION_SIZE) -> None:
    """Raises ValueError unless `mean` and `std` can normalise a motion: (147,), or `size`, finite numbers each, std above 0."""
    for name, values in (("mean", mean), ("std", std)):
        if tuple(values.shape) != (size,) or not torch.isfinite(values).all():
            raise ValueError(f"{name} must be {size} finite numbers, got shape {tuple(values.shape)}")
    if not (std > 0).all():
        raise ValueError(f"std must be positive, its smallest number is {std.min().item():g}")


def mirror_poses(poses: Tensor) -> Tensor:
    """Left-right mirror image of axis-angle poses (..., 24, 3): joints change sides, turns about Y and Z change sign."""
    sign = poses.new_tensor([1.0, -1.0, -1.0])
    return poses[..., list(MIRROR_JOINTS), :] * sign


def mirror_translation(translation: Tensor) -> Tensor:
    """Left-right mirror image of a root path (..., 3)."""
    return translation * translation.new_tensor([-1.0, 1.0, 1.0])


def mirror_rest_offsets(rest_offsets: Tensor) -> Tensor:
    """The mirrored skeleton (24, 3): a mirrored pose on it is the exact mirror image, the rest pose not being symmetric."""
    return mirror_translation(rest_offsets[..., list(MIRROR_JOINTS), :])
