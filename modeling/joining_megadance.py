"""Motions joined: a passage put into a dance, poses that a dance has to meet, a loop.

A passage that was danced anew is put into a dance whose other frames stay as they are, to the last bit.

Codes before and after the passage are the same in both dances, but the decoder looks beyond a code, and the path goes on from wherever
the passage ended. So the new dance is moved and turned to where the old one is before the passage, turned on its way and led so that it
ends where the old one goes on (`_lead_to`), and what is still different at the two ends fades within a few frames of the passage (`_fade`), in position, speed
and acceleration. Then the feet that stand are put down again, since leading and fading make them slide.

Everything here is [T, 24, 3, 3] rotations, each joint relative to its parent, and the pelvis' path [T, 3], metres, on the CPU.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .clean_up_megadance import find_contacts, plant_feet, to_rotations
from .kinematics_megadance import (
    BODY_PARTS,
    FOOT_JOINTS,
    ROOT_PART,
    axis_angle_to_matrix,
    forward_kinematics,
    matrix_to_axis_angle,
    rotation_heading,
    turn_matrix,
)

FADE = 0.6  # seconds in which differences at the ends of a passage fade
_SOFT = 12  # frames at the ends of a passage that are smoothed where a join is rougher than this share of the dance is
_ROUGH, _SOFTEST, _SOFT_MOVE = (
    0.9,
    8,
    0.04,
)  # at most so many times stronger, while no joint moves by more than this, metres
_SMOOTH = 4  # frames before and after, of the mean of speeds by which a dance is led
# Of the way, spans in which a dance is turned to where it has to face.
_TURN_SPANS = (
    (0, 1),
    (0, 0.7),
    (0.15, 0.85),
    (0.3, 1),
    (0, 0.5),
    (0.125, 0.625),
    (0.25, 0.75),
    (0.375, 0.875),
    (0.5, 1),
)
_DETOURS = (0.0, -0.3, 0.3, -0.6, 0.6, -1.0, 1.0, -1.5, 1.5)  # radians by which it is turned meanwhile, and back
# Radians and metres per second by which a passage is led: so much weighs as much as half a nat, and more as its square.
_USUAL_TURN, _USUAL_WAY = 0.2, 0.05
_STANDING = 0.001  # metres per frame: a dance in which the pelvis is slower is led evenly


@torch.no_grad()
def put_passage(
    old: tuple[Tensor, Tensor],
    new: tuple[Tensor, Tensor],
    first: int,
    last: int,
    fps: float,
    part: str | None = None,
    feet: bool = True,
) -> tuple[Tensor, Tensor]:
    """The old dance with frames `first` to `last` - 1 of the new one.

    Args:
        old: axis-angle poses [T, 24, 3] and path [T, 3]. new: rotations [T, 24, 3, 3] and path of a dance of the same length.
        part: "upper" or "lower": only these joints are the new dance's (and the path, with the lower body); both when None.
        feet: put feet that stand in the new dance down again.

    Returns:
        poses and path; those of all other frames and joints are the old ones, bit by bit.
    """
    frames = len(old[0])
    joints = [joint for name in BODY_PARTS if part in (None, name) for joint in BODY_PARTS[name]]
    (old_rotations, old_path), (rotations, path) = (axis_angle_to_matrix(old[0]), old[1]), new
    moves = part in (None, ROOT_PART)
    passage = slice(first, last)
    both = torch.stack((old_rotations, rotations)), torch.stack((old_path, path))
    old_joints, new_joints = forward_kinematics(*both)
    contacts = find_contacts(new_joints[:, list(FOOT_JOINTS)], fps) if moves and feet else None
    if moves:
        anchor = first - 1 if first else min(last, frames - 1)
        if first or last < frames:
            rotations, path = _move_to(rotations, path, anchor, old_rotations[anchor, 0], old_path[anchor])
        if first and last < frames:
            rotations, path = _lead_to(rotations, path, first - 1, last, old_rotations[last, 0], old_path[last], fps)
    else:
        path = old_path
    others = [joint for joint in range(rotations.shape[1]) if joint not in joints]
    rotations = rotations.clone()
    rotations[:, others] = old_rotations[:, others]
    fade = min(max(2, round(FADE * fps)), (last - first + 1) // 2)
    rotations, path = _fade(old_rotations, old_path, rotations, path, first, last, fade)
    if contacts is not None:
        before = find_contacts(old_joints[:, list(FOOT_JOINTS)], fps)
        stands = torch.cat((before[:first], contacts[passage], before[last:]))
        rotations, path = plant_feet(rotations, path, fps, stands, first, last)
    if frames > 3:
        usual = _roughness(old_joints).quantile(_ROUGH, dim=0)
        rotations, path = _soften(rotations, path, first, last, joints, moves, usual)
    poses, place = old[0].clone(), old[1].clone()
    turned = matrix_to_axis_angle(rotations[passage][:, joints])
    poses[passage] = poses[passage].index_copy(1, torch.tensor(joints), turned)
    if moves:
        place[passage] = path[passage]
    return poses, place


@torch.no_grad()
def price_of_leading(
    old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor], first: int, last: int, fps: float
) -> float:
    """What it costs to lead frames `first` to `last` - 1 of the new dance to where the old one goes on, in nats: half of one for each of
    `_USUAL_TURN` and `_USUAL_WAY`, and more as their squares. Arguments as in `put_passage`; 0 where the passage is at an end of the
    dance."""
    if not first or last >= len(old[0]):
        return 0.0
    (old_pelvis, old_path), (pelvis, path) = (axis_angle_to_matrix(old[0][:, :1]), old[1]), new
    pelvis, path = _move_to(pelvis[:, :1], path, first - 1, old_pelvis[first - 1, 0], old_path[first - 1])
    turn = _missing_turn(old_pelvis[last, 0], pelvis[last, 0])
    return _plan_turn(path[first - 1 : last + 1], turn, old_path[last], fps)[2]


@torch.no_grad()
def meet_poses(poses: Tensor, held: Sequence[tuple[int, Tensor]], fps: float) -> Tensor:
    """The poses [T, 24, 3] of a dance that meets the poses `held`: for each a first frame and [F, 24, 3], all axis-angle, in their order.

    The dance reaches and leaves them within `FADE` seconds, or less where the next ones are nearer. They are turned about the vertical to
    face as the dancer does in the first of their frames: a pose is held wherever the dance has turned to.
    """
    rotations, usual = axis_angle_to_matrix(poses), max(2, round(FADE * fps))
    changed = poses.clone()
    ends = [-usual, *(first + len(part) - 1 for first, part in held)]
    begins = [*(first for first, _ in held), len(poses) + usual]
    for index, (first, part) in enumerate(held):
        goal, last = axis_angle_to_matrix(part), first + len(part) - 1
        turn = turn_matrix(rotation_heading(rotations[first, 0]) - rotation_heading(goal[0, 0]))
        goal[:, 0] = turn @ goal[:, 0]
        gaps = (first - ends[index], begins[index + 1] - last)  # up to its neighbours
        for frame, pose, step, gap in ((first, goal[0], -1, gaps[0]), (last, goal[-1], 1, gaps[1])):
            difference = matrix_to_axis_angle(rotations[frame].mT @ pose)
            still, fade = torch.zeros_like(difference), min(usual, gap)
            count = min(fade, frame if step < 0 else len(poses) - 1 - frame)
            near = frame + step * torch.arange(1, count + 1)
            turns = axis_angle_to_matrix(_fading(difference, still, still, fade)[:count])
            rotations[near] = rotations[near] @ turns
            changed[near] = matrix_to_axis_angle(rotations[near])
        rotations[first : last + 1], changed[first : last + 1] = goal, matrix_to_axis_angle(goal)
    return changed


@torch.no_grad()
def close_loop(poses: Tensor, path: Tensor, fps: float) -> tuple[Tensor, Tensor]:
    """A dance, poses [T, 24, 3] and path [T, 3], whose last frame has the pose, the heading and the place of the first."""
    last, rotations = len(poses) - 1, axis_angle_to_matrix(poses)
    if last < 2:
        return poses, path
    rotations, path = _lead_to(rotations, path, 0, last, rotations[0, 0], path[0], fps)
    # after its last frame it goes on as it began; by itself it would go on with the speed that it has
    turn, step = rotations[-2].mT @ rotations[-1], path[-1] - path[-2]
    begun = [torch.cat((whole[:-1], whole[:3])) for whole in (rotations, path)]
    own = [
        torch.cat((rotations, (rotations[-1] @ turn)[None], (rotations[-1] @ turn @ turn)[None])),
        torch.cat((path, (path[-1] + step)[None], (path[-1] + 2 * step)[None])),
    ]
    fade = min(max(2, round(FADE * fps)), last // 2)
    rotations, path = _fade(begun[0], begun[1], own[0], own[1], 0, last, fade)
    closed = matrix_to_axis_angle(rotations[: last + 1])
    closed[0], closed[last] = poses[0], poses[0]
    return closed, path[: last + 1].clone()


def _move_to(rotations: Tensor, path: Tensor, frame: int, pelvis: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """A dance turned about the vertical and moved so that at a frame it faces and is as another one, whose pelvis has the rotation
    [3, 3] and the place [3]."""
    turn = turn_matrix(rotation_heading(pelvis) - rotation_heading(rotations[frame, 0]))
    rotations = rotations.clone()
    rotations[:, 0] = turn @ rotations[:, 0]
    path = (
        (path - path[frame]) @ turn.T + place * place.new_tensor([1, 0, 1]) + path[frame] * place.new_tensor([0, 1, 0])
    )
    return rotations, path


def _lead_to(
    rotations: Tensor, path: Tensor, first: int, last: int, pelvis: Tensor, place: Tensor, fps: float
) -> tuple[Tensor, Tensor]:
    """A dance that at frame `last` faces and is as another one, as `_move_to`, and up to frame `first` as it was. In between it is led
    there where it moves most, so that standing feet slide least."""
    missing = _missing_turn(pelvis, rotations[last, 0])
    angles, shares, _ = _plan_turn(path[first : last + 1], missing, place, fps)
    before, after = first, len(path) - last - 1
    turns = turn_matrix(torch.cat((angles.new_zeros(before), angles, angles[-1:].expand(after))))
    weight = torch.cat((shares.new_zeros(before), shares, shares.new_ones(after)))
    rotations = rotations.clone()
    rotations[:, 0] = turns @ rotations[:, 0]
    steps = path.diff(dim=0) * path.new_tensor([1, 0, 1])
    steps = (turns[:-1] @ steps[..., None])[..., 0]
    led = path[0] + F.pad(steps.cumsum(0), (0, 0, 1, 0))
    led = led + weight[:, None] * (place - led[last])
    return rotations, torch.stack((led[:, 0], path[:, 1], led[:, 2]), dim=1)


def _shares_of_moving(steps: Tensor) -> Tensor:
    """Which share of a way [n, 3] has been gone, [n + 1] from 0 to 1: slowly at first and at last, or a dance that is led by it would get a
    push at the ends."""
    speeds = steps.norm(dim=-1)
    speeds = speeds + speeds.mean().clamp(min=_STANDING)
    reach = min(_SMOOTH, len(speeds) - 1)
    speeds = F.avg_pool1d(F.pad(speeds[None], (reach, reach), mode="reflect"), 2 * reach + 1, stride=1)[0]
    t = torch.arange(1, len(speeds) + 1) / (len(speeds) + 1)
    speeds = speeds * (3 * torch.minimum(t, 1 - t)).clamp(max=1).square()
    return F.pad(speeds.cumsum(0) / speeds.sum(), (1, 0))


def _plan_turn(path: Tensor, missing: Tensor, place: Tensor, fps: float) -> tuple[Tensor, Tensor, float]:
    """How a dance whose pelvis goes along `path` [n, 3] is turned by the angle that is `missing` at its end, and led to a `place` [3].

    It can be turned either way round, at different times, and further meanwhile, and back: it then ends in different places. The turn is
    taken for which it has to be turned and led least: of 162, all at once.

    Returns:
        the angle in each frame [n]; which share of the way that is left it has been led [n], from 0 to 1; and the price of both.
    """
    steps = path.diff(dim=0) * path.new_tensor([1, 0, 1])
    weight = _shares_of_moving(steps)
    begins, ends = path.new_tensor(_TURN_SPANS).unbind(1)
    x = ((weight - begins[:, None]) / (ends - begins)[:, None]).clamp(0, 1)
    curves = torch.where((ends - begins == 1)[:, None], x, x * x * (3 - 2 * x))
    around = missing - 2 * math.pi * torch.sign(missing)  # the other way round
    turned = torch.stack((missing, around))[:, None, None, None] * curves[:, None]  # [2, spans, 1, n]
    detours = path.new_tensor(_DETOURS)[:, None] * (math.pi * weight).sin().square()  # [detours, n]
    angles = (turned + detours).flatten(0, 2)
    x, z = torch.stack((angles.cos(), angles.sin()))[..., :-1]
    led_x = (x * steps[:, 0] + z * steps[:, 2]).sum(-1)
    led_z = (x * steps[:, 2] - z * steps[:, 0]).sum(-1)
    goal = place - path[0]
    way = torch.hypot(goal[0] - led_x, goal[2] - led_z)
    rates = angles.diff(dim=-1) * fps
    prices = (rates.square().mean(-1) / _USUAL_TURN**2 + (way * fps / len(steps) / _USUAL_WAY).square()) / 2
    best = int(prices.argmin())
    return angles[best], weight, float(prices[best])


def _missing_turn(pelvis: Tensor, other: Tensor) -> Tensor:
    """By how much another pelvis' rotation [3, 3] has to turn about the vertical to face as this one, -pi to pi."""
    return torch.remainder(rotation_heading(pelvis) - rotation_heading(other) + math.pi, 2 * math.pi) - math.pi


def _fade(
    old_rotations: Tensor, old_path: Tensor, rotations: Tensor, path: Tensor, first: int, last: int, frames: int
) -> tuple[Tensor, Tensor]:
    """The old dance with the passage of the new one, which begins and ends with the poses and speeds of the old one; the differences
    fade in some frames."""
    rotations, path = rotations.clone(), path.clone()
    ends = [end for end in ((first - 1, 1), (last, -1)) if 0 <= end[0] < len(path)]
    # at each end, its frame and the two outside it: what is missing to the old dance, and how that grew
    near = torch.tensor([[frame - step * count for count in range(3)] for frame, step in ends], dtype=torch.long)
    near = near.view(-1, 3).clamp(0, len(path) - 1)
    frame, once, twice = near.unbind(1)
    pairs = (
        (rotations[frame], old_rotations[frame]),
        (old_rotations[once], old_rotations[frame]),
        (rotations[once], rotations[frame]),
        (old_rotations[twice], old_rotations[once]),
        (rotations[twice], rotations[once]),
    )
    begins, arrives = (torch.stack(ones) for ones in zip(*pairs, strict=True))
    turn, old_speed, speed, old_earlier, earlier = matrix_to_axis_angle(begins.mT @ arrives)
    turns = axis_angle_to_matrix(_fading(turn, old_speed - speed, old_earlier - earlier, frames))
    shift, shift_once, shift_twice = (old_path - path)[near].unbind(1)
    shifts = _fading(shift, shift - shift_once, shift_once - shift_twice, frames)
    for end, (outside, step) in enumerate(ends):
        inner = torch.arange(1, frames + 1) * step + outside
        rotations[inner] = rotations[inner] @ turns[:, end]
        path[inner] = path[inner] + shifts[:, end]
    for kept in (slice(0, first), slice(last, None)):
        rotations[kept], path[kept] = old_rotations[kept], old_path[kept]
    return rotations, path


def _soften(
    rotations: Tensor, path: Tensor, first: int, last: int, joints: list[int], moves: bool, usual: Tensor
) -> tuple[Tensor, Tensor]:
    """The dance with its passage, whose first and last frames are smoothed while a join is rougher than `usual`: Whittaker's smoother,
    ever stronger, of the `joints` that are new, and of the path if it `moves`. Frames outside the passage stay."""
    rotations, path = rotations.clone(), path.clone()
    for frame, step in ((first - 1, 1), (last, -1)):
        if not 2 <= frame < len(path) - 2:
            continue
        count = min(_SOFT, last - first)
        near = frame + step * torch.arange(-2, count + 1)
        near = near[(near >= 0) & (near < len(path))]
        before = forward_kinematics(rotations[near], path[near])
        if (_roughness(before)[:3].amax(0) <= usual).all():
            continue
        weight = path.new_ones(len(near)).double()
        weight[:3] = weight[-2:] = 1e6
        bend = torch.eye(len(near), dtype=torch.double).diff(n=3, dim=0)
        columns = torch.cat((rotations[near].flatten(1), path[near]), 1)
        strengths = 0.1 * 8.0 ** torch.arange(_SOFTEST, dtype=torch.double)
        systems = weight.diag() + strengths[:, None, None] * (bend.T @ bend)
        solved = torch.linalg.solve(systems, (weight[:, None] * columns.double()).expand(_SOFTEST, -1, -1))
        smooth = to_rotations(solved.flatten(0, 1).to(columns.dtype)).unflatten(0, (_SOFTEST, -1))
        softer, paths = (part.expand(_SOFTEST, *part.shape).clone() for part in (rotations[near], path[near]))
        softer[:, :, joints] = smooth[..., :-3].unflatten(2, rotations.shape[1:])[:, :, joints]
        if moves:
            paths = smooth[..., -3:]
        placed = forward_kinematics(softer, paths)
        near_enough = (placed - before).norm(dim=-1).amax((1, 2)) <= _SOFT_MOVE
        smooth_enough = (_roughness(placed)[:, :3].amax(1) <= usual).all(-1)
        # the weakest that is smooth enough; where none is, the strongest that moves no joint too far
        allowed = int(near_enough.cumprod(0).sum())
        best = min(int((~smooth_enough).cumprod(0).sum()), allowed - 1)
        if best >= 0:
            rotations[near[3:]], path[near[3:]] = softer[best, 3:], paths[best, 3:]
    return rotations, path


def _roughness(places: Tensor) -> Tensor:
    """Third differences of the joints of dances [..., T, 24, 3], metres per frame^3: their mean over joints, and the largest, [..., T - 3, 2]."""
    differences = places.diff(n=3, dim=-3).norm(dim=-1)
    return torch.stack((differences.mean(-1), differences.amax(-1)), dim=-1)


def _fading(difference: Tensor, speed: Tensor, speed_before: Tensor, frames: int) -> Tensor:
    """[frames, ...]: from a difference [...] that grew by these speeds in the last two frames, to none: a quintic Hermite curve, which
    begins with the difference, its speed and its acceleration, and ends with 0 of all."""
    t = (torch.arange(1, frames + 1, dtype=difference.dtype) / frames).view(-1, *[1] * difference.dim())
    keep = 1 - t**3 * (10 - 15 * t + 6 * t * t)
    slope = frames * (t - 6 * t**3 + 8 * t**4 - 3 * t**5)
    bend = frames**2 * t * t * (1 - t) ** 3 / 2
    return keep * difference + slope * speed + bend * (speed - speed_before)
