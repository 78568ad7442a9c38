"""Clean-up of decoded dances: glitches are bridged, supporting feet stand, toes stay above the floor.

    poses, translation, report = clean_motion(poses, translation)

A code can follow another that never followed it in training. Then the body spins within a frame, a limb or the root jumps, and feet
slide. Deviation: the paper decodes codes (section 3.2) and leaves the motion as it is.

1. Glitches (`_bridge`). A step between two frames is an outlier if it is faster than dancers are, or if it stands out from the steps
   around it. A joint's rotation is bridged from the last good frame to the next by a cubic that keeps its angular velocity at both
   ends; outliers of the root's velocity are interpolated, so a jump of the root vanishes from its path.
2. Ends (`_smooth_ends`). The decoder sees nothing beyond its ends: the first and last frames are smoothed if they are rougher than the
   others.
3. Floor: `ground_translation`.
4. Entrance and ending (`_ease_in_and_out`), where the song begins or ends: the dance leaves a standing position, and slows down onto
   one. Time runs slower there, so that every pose is one of the dance's.
5. Feet (`_plant`). Contacts are those that were decoded, or found by height and speed of the toe joints, with hysteresis. The root
   follows the feet in contact (for some seconds only: in the long run the path is the decoded one). Two-bone inverse kinematics does
   the rest: the toe stays at its anchor, the foot keeps its orientation, the knee bends in its own plane. Corrections ease in and out
   between contacts, and a foot that moves fast is lifted off the floor.

`CleanUpStream` is the part of it that needs no future frames.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .kinematics_megadance import (
    BLOCK,
    FOOT_JOINTS,
    NUM_JOINTS,
    PARENTS,
    REST_OFFSETS,
    axis_angle_to_matrix,
    forward_kinematics,
    ground_path,
    matrix_to_axis_angle,
    rotation_angle,
)

# Steps per frame at 30 frames per second, in radians and metres. Captured ballroom dances reach 0.64, 0.41 and 0.11.
_FASTEST_TURN, _FASTEST_JOINT, _FASTEST_ROOT = 0.66, 0.38, 0.13
# A smaller step is an outlier if it exceeds this, and so many times the usual step around it.
_SMALL_TURN, _SMALL_ROOT, _STANDS_OUT = 0.38, 0.06, 4.0
_BRIDGE_TURN = 0.28  # mean turn of a bridge
_BRIDGE_ROUNDS = 5  # each one wider than the last, while steps are too large
_END_FRAMES, _END_PASSES = 8, 8
# Seconds from the ends to the standing position; the dance runs slower for twice as long.
_EARLIEST_STAND, _USUAL_STAND, _LATEST_STAND = 0.23, 0.4, 0.67
_SHORTEST_EASED = 3.0  # seconds of a dance

# Of a toe joint, metres and m/s: a contact is a run of frames below the second numbers, and somewhere below the first.
_CONTACT_HEIGHT, _CONTACT_SPEED = (0.03, 0.05), (0.2, 0.4)
_SLIDING_SPEED = (0.6, 1.0)  # the same for the root's correction: before it, supporting feet slide
_GIVEN_CONTACT = (0.6, 0.4)  # the same of given probabilities, above these
_SHORTEST_CONTACT = 0.12  # seconds
_TRUST_SPEED = 0.3  # m/s: of two feet in contact the root follows the one that is slower than this
_ROOT_SMOOTHING, _ROOT_MEMORY = 0.07, 2.0  # seconds
_EASE = 0.27  # seconds in which a correction ends after a contact
_LONGEST_SLIDE = 0.12  # metres of steady sliding within a contact that are taken away
_LARGEST_CORRECTION = 0.15  # metres
# The same two where motions are joined: a passage may have to be led a metre elsewhere within four seconds.
_LONGEST_LED_SLIDE, _LARGEST_LED_CORRECTION = 0.3, 0.25
_SWELL = 0.2  # seconds in which the pelvis goes down, or a foot up, where motions are joined
_RAISED = 0.07  # metres: a toe above it stands no longer, whatever it did in the motion that was joined
_NEAR_END = 0.13  # seconds from the end of a passage: a contact that is nearer begins or ends with the passage
# m/s from which on, and at which, a moving foot is lifted this high. Of captured feet at .5 m/s a quarter is below 4 cm, half below 5.7;
# decoded ones, whose lift the codes flatten, are at 2 and 3.5.
_SWING_SPEED, _SWING_HEIGHT = (0.4, 0.8), 0.05
# Share of a leg's length up to which corrections may stretch it freely, and at all: a knee near the end of its range pops.
_SOFT_REACH, _FULL_REACH = 0.95, 0.985

_HIPS, _KNEES, _ANKLES, _TOES = [1, 2], [4, 5], [7, 8], list(FOOT_JOINTS)


@dataclass
class CleanUpReport:
    """What a clean-up changed.

    Attributes:
        changed: share of frames in which a joint moved by more than a centimetre relative to the pelvis.
        bridged: share of frames that were replaced because of a glitch.
        planted: share of frames with a foot in contact with the floor.
        largest_move: the farthest that a joint moved relative to the pelvis, metres.
        largest_shift: the farthest that the pelvis moved, metres.
        entrance, ending: seconds in which the dance leaves a standing position, and comes to one; 0 where it does not. What they
            move counts in `changed` only.
    """

    changed: float
    bridged: float
    planted: float
    largest_move: float
    largest_shift: float
    entrance: float = 0.0
    ending: float = 0.0

    def __str__(self) -> str:
        text = (
            f"cleaned up: {self.changed:.0%} of the frames changed by more than 1 cm, {self.bridged:.1%} bridged; joints moved by up to "
            f"{self.largest_move:.2f} m, the path by up to {self.largest_shift:.2f} m"
        )
        if self.entrance:
            text += f"; a standing position is left within {self.entrance:.1f} s"
        if self.ending:
            text += f"; the dance comes to rest within {self.ending:.1f} s"
        return text

    def to_dict(self) -> dict[str, float]:
        """The attributes, rounded, for JSON."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


class Cleaned(NamedTuple):
    """A motion that was cleaned.

    Attributes:
        rotations: [T, 24, 3, 3], each joint relative to its parent. path: [T, 3] of the pelvis, metres.
        contacts: [T, 2], which toes stand. bridged: [T], which frames were replaced because of a glitch.
        eased: frames at the beginning and at the end in which the dance leaves a standing position, and comes to one.
    """

    rotations: Tensor
    path: Tensor
    contacts: Tensor
    bridged: Tensor
    eased: tuple[int, int]


@torch.no_grad()
def clean_motion(
    poses: Tensor,
    translation: Tensor,
    fps: float = 30.0,
    floor: bool = True,
    contacts: Tensor | None = None,
    begins: bool = False,
    ends: bool = False,
) -> tuple[Tensor, Tensor, CleanUpReport]:
    """Remove glitches, sliding feet and joints below the floor, on the CPU. A motion without any is hardly changed.

    Args:
        poses: [T, 24, 3] float32, axis-angle, radians.
        translation: [T, 3] float32, of the pelvis, metres, Y up.
        fps: frames per second.
        floor: put the dance on the floor as well (`ground_translation`); without, its floor is taken to be y = 0.
        contacts: probabilities of contact [T, 2] of the toes, or [T, 4] in the order of `CONTACT_JOINTS` (the toes count); None finds
            contacts by height and speed.
        begins, ends: the song begins, or ends, with the dance: it leaves a standing position, or comes to one, within about a second.
            A dance that is shorter than 3 seconds does not.

    Returns:
        poses and translation of the same shapes, and what was changed. The pelvis of the first frame keeps its x and z.

    Raises:
        ValueError: `contacts` has another shape.
    """
    frames = len(poses)
    if contacts is not None and tuple(contacts.shape) not in ((frames, 2), (frames, 4)):
        raise ValueError(f"contacts has shape {tuple(contacts.shape)}: give ({frames}, 2) or ({frames}, 4)")
    before = _in_blocks(axis_angle_to_matrix, poses)
    cleaned = clean_rotations(before, translation, fps, floor, contacts, begins, ends)
    turned = (cleaned.rotations != before).flatten(2).any(-1)
    poses = poses.clone()
    poses[turned] = matrix_to_axis_angle(cleaned.rotations[turned])
    moved = _in_blocks(_farthest_move, before, cleaned.rotations)
    between = slice(cleaned.eased[0], frames - cleaned.eased[1])
    report = CleanUpReport(
        changed=float((moved > 0.01).float().mean()),
        bridged=float(cleaned.bridged.float().mean()),
        planted=float(cleaned.contacts.any(-1).float().mean()),
        largest_move=float(moved[between].max()),
        largest_shift=float((cleaned.path - translation)[between].norm(dim=-1).max()),
        entrance=cleaned.eased[0] / fps,
        ending=cleaned.eased[1] / fps,
    )
    return poses, cleaned.path, report


@torch.no_grad()
def clean_rotations(
    rotations: Tensor,
    path: Tensor,
    fps: float,
    floor: bool = True,
    contacts: Tensor | None = None,
    begins: bool = False,
    ends: bool = False,
    cut: tuple[bool, bool] = (False, False),
) -> Cleaned:
    """As `clean_motion`, of rotations [T, 24, 3, 3] and the path [T, 3] of the pelvis; without a report.

    `cut`: the motion is cut out of a longer one at its beginning, at its end: that end is not smoothed.
    """
    place, given = path[0], None if contacts is None else contacts[:, -2:]
    rotations, path, bridged = _bridge(rotations, path, fps)
    rotations, path = _smooth_ends(rotations, path, cut)
    if floor:
        path = ground_path(rotations, path, fps)
    rotations, path, given, still, eased = _ease_in_and_out(rotations, path, fps, given, begins, ends)
    path = path + (place - path[0]) * path.new_tensor([1, 0, 1])
    rotations, path, standing = _plant(rotations, path, fps, given, still)
    return Cleaned(rotations, path, standing, bridged, eased)


def _in_blocks(function: Callable[..., Tensor], *arrays: Tensor) -> Tensor:
    """`function` of arrays [T, ...], a few thousand frames at a time: what it needs meanwhile is many times as large."""
    return torch.cat([function(*block) for block in zip(*(array.split(BLOCK) for array in arrays), strict=True)])


def _farthest_move(before: Tensor, after: Tensor) -> Tensor:
    """The farthest that a joint is from where it was, relative to the pelvis, [T]."""
    joints = forward_kinematics(torch.stack((before, after)), before.new_zeros(3))
    return (joints[1] - joints[0]).norm(dim=-1).amax(-1)


# --- glitches --------------------------------------------------------------------------------------------------------


def _outliers(steps: Tensor, fastest: float, small: float) -> Tensor:
    """Which steps [N, columns] are too large, or stand out from the six steps beside them.

    They are compared with the third largest of the six, because a glitch of one or two frames makes two large steps.
    """
    beside = F.pad(steps.T[None], (3, 3), mode="replicate")[0].unfold(-1, 7, 1)
    usual = beside[..., [0, 1, 2, 4, 5, 6]].topk(3).values[..., 2].T
    return (steps > fastest) | ((steps > small) & (steps > _STANDS_OUT * usual))


def _bridge(rotations: Tensor, path: Tensor, fps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Rotations and path without outliers, and which frames were replaced [T]."""
    frames, scale = len(path), 30 / fps
    bridged = torch.zeros(frames, dtype=torch.bool)
    if frames < 3:
        return rotations, path, bridged
    steps = path.diff(dim=0)
    bad = _outliers(steps.norm(dim=-1, keepdim=True), _FASTEST_ROOT * scale, _SMALL_ROOT * scale)[:, 0]
    if bad.any() and not bad.all():
        path = torch.cat((path[:1], path[0] + _interpolate(steps, ~bad).cumsum(0)))
        bridged[1:] |= bad
    rotations = rotations.clone()
    for attempt in range(_BRIDGE_ROUNDS):
        turns = rotation_angle(rotations[:-1], rotations[1:])
        # what is left after the first round only has to be slow enough
        small = _SMALL_TURN if attempt == 0 else _FASTEST_TURN
        bad = _outliers(turns, _FASTEST_TURN * scale, small * scale)
        far = forward_kinematics(rotations, path).diff(dim=0).norm(dim=-1) > _FASTEST_JOINT * scale
        for joint in far.any(0).nonzero()[:, 0].tolist():
            above = joint
            while (above := PARENTS[above]) >= 0:
                bad[:, above] |= far[:, joint]
        if not bad.any():
            break
        for joint in bad.any(0).nonzero()[:, 0].tolist():
            for first, last in _runs(bad[:, joint], gap=round(4 / scale)):
                turn = max(
                    float(turns[first, joint]),
                    float(rotation_angle(rotations[first, joint], rotations[last + 1, joint])),
                )
                missing = max(0.0, turn / (_BRIDGE_TURN * scale) - (last - first))
                width = round((1 + 2 * attempt) / scale + missing / 2)
                begin, end = max(0, first - width), min(frames - 1, last + 1 + width)
                rotations[begin : end + 1, joint] = _lead(rotations[:, joint], begin, end, 0.2 * scale)
                bridged[begin + 1 : end] = True
    return rotations, path, bridged


def _lead(rotations: Tensor, begin: int, end: int, fastest: float) -> Tensor:
    """[end - begin + 1, 3, 3]: from the rotation of one frame to another's, with the angular velocities there, up to `fastest`."""

    def turn(first: int, second: int) -> Tensor:
        if first < 0 or second >= len(rotations):
            return rotations.new_zeros(3)
        return matrix_to_axis_angle(rotations[first].T @ rotations[second])

    frames = end - begin
    t = torch.arange(frames + 1, dtype=rotations.dtype)[:, None] / frames
    before, after = (
        speed * (fastest / speed.norm().clamp(min=fastest)) for speed in (turn(begin - 1, begin), turn(end, end + 1))
    )
    # the four functions of a cubic Hermite spline
    across = axis_angle_to_matrix(t * t * (3 - 2 * t) * turn(begin, end))
    leave, arrive = frames * t * (1 - t) ** 2 * before, frames * t * t * (t - 1) * after
    return rotations[begin] @ across @ axis_angle_to_matrix(leave) @ axis_angle_to_matrix(arrive)


def _runs(marked: Tensor, gap: int = 1) -> list[tuple[int, int]]:
    """First and last index of each run of marked entries [N]; runs at most `gap` indices apart are one."""
    index = marked.nonzero()[:, 0]
    cuts = (index.diff() > max(gap, 1)).nonzero()[:, 0]
    firsts, lasts = (
        index[F.pad(cuts + 1, (1, 0))[: len(index)]],
        index[torch.cat((cuts, cuts.new_tensor([-1])))[: len(index)]],
    )
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def _nearest(known: Tensor) -> tuple[Tensor, Tensor]:
    """For each entry [N] the indices of the known ones before and after it, or itself; beyond the ends the other one."""
    index, count = torch.arange(len(known)), len(known)
    before = torch.where(known, index, -1).cummax(0).values
    after = torch.where(known, index, count).flip(0).cummin(0).values.flip(0)
    return torch.where(before < 0, after, before), torch.where(after == count, before, after)


def _interpolate(values: Tensor, known: Tensor) -> Tensor:
    """The `known` values [N, columns], linear between them and constant beyond."""
    before, after = _nearest(known)
    weight = (torch.arange(len(values)) - before) / (after - before).clamp(min=1)
    return torch.lerp(values[before], values[after], weight.clamp(0, 1)[:, None])


# --- ends ------------------------------------------------------------------------------------------------------------


def _smooth_ends(rotations: Tensor, path: Tensor, cut: tuple[bool, bool]) -> tuple[Tensor, Tensor]:
    """The first and last frames, smoothed while they are rougher than the others; not those at which the motion is `cut`."""
    count = _END_FRAMES
    if len(path) < 6 * count or all(cut):
        return rotations, path
    # three quarters of all other windows of as many frames are smoother than this
    roughness = forward_kinematics(rotations, path).diff(n=3, dim=0).norm(dim=-1).mean(-1)
    usual = F.avg_pool1d(roughness[None, count:-count], count - 1, stride=1).quantile(0.75)
    columns = torch.cat((rotations.flatten(1), path), 1)
    head, tail = (
        end if is_cut else _smooth_start(end, usual)
        for end, is_cut in zip((columns[: 2 * count], columns[-2 * count :].flip(0)), cut, strict=True)
    )
    columns = torch.cat((head, columns[2 * count : -2 * count], tail.flip(0)))
    return columns[:, :-3].unflatten(1, (NUM_JOINTS, 3, 3)), columns[:, -3:]


def _smooth_start(columns: Tensor, usual: Tensor) -> Tensor:
    """Whittaker's smoother, ever stronger: the nearer to the end, the less a frame counts against its third difference."""
    weight = torch.logspace(-2, 5, len(columns), dtype=torch.double)
    bend = torch.eye(len(columns), dtype=torch.double).diff(n=3, dim=0)
    smooth, joints = columns, _joints(columns)
    for strength in range(_END_PASSES):
        if _joints(smooth)[: _END_FRAMES + 2].diff(n=3, dim=0).norm(dim=-1).mean() <= usual:
            break
        system = weight.diag() + 0.01 * 4.0**strength * bend.T @ bend
        smoother = to_rotations(torch.linalg.solve(system, weight[:, None] * columns.double()).to(columns.dtype))
        if (_joints(smoother) - joints).norm(dim=-1).max() > _LARGEST_CORRECTION:
            break
        smooth = smoother
    return smooth


def _joints(columns: Tensor) -> Tensor:
    return forward_kinematics(columns[:, :-3].unflatten(1, (NUM_JOINTS, 3, 3)), columns[:, -3:])


def to_rotations(columns: Tensor) -> Tensor:
    """Columns whose matrices, almost rotations, are made rotations: Newton's iteration for the polar factor."""
    matrices = columns[:, :-3].unflatten(1, (NUM_JOINTS, 3, 3))
    for _ in range(4):
        matrices = 1.5 * matrices - 0.5 * matrices @ matrices.mT @ matrices
    return torch.cat((matrices.flatten(1), columns[:, -3:]), 1)


# --- entrance and ending ---------------------------------------------------------------------------------------------


def _ease_in_and_out(
    rotations: Tensor, path: Tensor, fps: float, given: Tensor | None, begins: bool, ends: bool
) -> tuple[Tensor, Tensor, Tensor | None, Tensor, tuple[int, int]]:
    """A dance that leaves a standing position if it `begins`, and comes to one if it `ends`.

    Returns:
        rotations, path and `given` contacts; how still the dance stands in each frame [T], 0 to 1; and the number of frames that are
        eased at both ends.
    """
    frames, eased = len(path), [0, 0]
    index = torch.arange(frames, dtype=torch.double)
    times, still = index.clone(), torch.zeros_like(index)
    columns = [rotations.flatten(1), path] + ([] if given is None else [given])
    for end, asked in enumerate((begins, ends)):
        if not asked or frames < _SHORTEST_EASED * fps:
            continue
        latest = min(round(_LATEST_STAND * fps), frames // 6)
        near = slice(latest + 1) if end == 0 else slice(frames - latest - 1, frames)
        awkward = _awkwardness(rotations[near], path[near], fps)
        stand = _find_stand(awkward if end == 0 else awkward.flip(0), fps)
        # Time begins with the standing position, speeds up, and has caught up with the dance twice as far from the end.
        distance = index if end == 0 else frames - 1 - index
        x = (distance / (2 * stand)).clamp(max=1)
        late = stand * (1 + 2 * x**3 - x**4 - 2 * x)
        times = times + (late if end == 0 else -late)
        still = torch.maximum(still, 1 - x * x * (3 - 2 * x))
        eased[end] = 2 * stand
    where = still > 0
    if where.any():
        tables = [table.clone() for table in columns]
        for table, source in zip(tables, columns, strict=True):
            table[where] = _between_frames(source, times[where])
        turned = to_rotations(torch.cat((tables[0], tables[1]), 1)[where])
        rotations, path = rotations.clone(), tables[1]
        rotations[where] = turned[:, :-3].unflatten(1, (NUM_JOINTS, 3, 3))
        given = None if given is None else tables[2]
    return rotations, path, given, still.to(path.dtype), (eased[0], eased[1])


def _awkwardness(rotations: Tensor, path: Tensor, fps: float) -> Tensor:
    """How little a dancer could stand still in each frame [T]: feet off the floor, pelvis not above them, in motion."""
    joints = forward_kinematics(rotations, path)
    height = joints[:, _TOES, 1].amax(-1).clamp(min=0)
    left, right, pelvis = (joints[:, joints_of][..., [0, 2]].mean(1) for joints_of in ([7, 10], [8, 11], [0]))
    across = right - left
    share = ((pelvis - left) * across).sum(-1) / across.square().sum(-1).clamp(min=1e-6)
    off = (left + share.clamp(0.2, 0.8)[:, None] * across - pelvis).norm(dim=-1)
    speed = F.pad(joints.diff(dim=0).norm(dim=-1).mean(-1) * fps, (0, 1))
    speed[-1:] = speed[-2:-1]
    return height / 0.05 + off / 0.1 + speed / 1.0


def _find_stand(awkward: Tensor, fps: float) -> int:
    """In which frame from the end on the dance stands best, and early."""
    earliest = round(_EARLIEST_STAND * fps)
    far = torch.arange(len(awkward)) / fps / _USUAL_STAND - 1
    return earliest + int((awkward + far.square())[earliest:].argmin())


def _between_frames(values: Tensor, times: Tensor) -> Tensor:
    """Values [T, columns] at `times` [n] in frames, between frames by Catmull and Rom's spline."""
    last = len(values) - 1
    first = times.floor().clamp(0, last)
    t = (times - first).to(values.dtype)[:, None]
    a, b, c, d = (values[(first.long() + step).clamp(0, last)] for step in (-1, 0, 1, 2))
    return b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))


# --- feet ------------------------------------------------------------------------------------------------------------


class _Legs(NamedTuple):
    """World rotations [T, 2, 3, 3] of the bones of both legs, and positions [T, 2, 3] of their joints."""

    thigh: Tensor
    shin: Tensor
    foot: Tensor
    hip: Tensor
    knee: Tensor
    ankle: Tensor
    toe: Tensor


def _pose_legs(rotations: Tensor, path: Tensor) -> _Legs:
    blocks = [_pose_block(*block) for block in zip(rotations.split(BLOCK), path.split(BLOCK), strict=True)]
    return blocks[0] if len(blocks) == 1 else _Legs(*map(torch.cat, zip(*blocks, strict=True)))


def _pose_block(rotations: Tensor, path: Tensor) -> _Legs:
    offsets = path.new_tensor(REST_OFFSETS)

    def end_of(joint: Tensor, bone: Tensor, ends: list[int]) -> Tensor:
        return joint + (bone @ offsets[ends][..., None])[..., 0]

    pelvis = rotations[:, :1]
    thigh = pelvis @ rotations[:, _HIPS]
    shin = thigh @ rotations[:, _KNEES]
    foot = shin @ rotations[:, _ANKLES]
    hip = end_of(path[:, None], pelvis, _HIPS)
    knee = end_of(hip, thigh, _KNEES)
    ankle = end_of(knee, shin, _ANKLES)
    return _Legs(thigh, shin, foot, hip, knee, ankle, end_of(ankle, foot, _TOES))


def _blur(values: Tensor, sigma: float) -> Tensor:
    """Gaussian mean over time of values [T, ...]; `sigma` in frames."""
    reach = round(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=values.dtype) / max(sigma, 1e-6)) ** 2)
    padded = F.pad(values.reshape(len(values), -1).T[:, None], (reach, reach), mode="replicate")
    return F.conv1d(padded, (kernel / kernel.sum())[None, None])[:, 0].T.reshape(values.shape)


def _speeds(toes: Tensor, fps: float) -> Tensor:
    """Horizontal speed [T, 2] of toes [T, 2, 3], m/s: the smaller one of the steps to a frame and from it."""
    if len(toes) < 2:
        return torch.zeros_like(toes[..., 0])
    steps = _blur(toes, 0.03 * fps)[..., [0, 2]].diff(dim=0).norm(dim=-1).T * fps
    return torch.minimum(F.pad(steps, (1, 0), mode="replicate"), F.pad(steps, (0, 1), mode="replicate")).T


def _find_contacts(toes: Tensor, fps: float, given: Tensor | None, speeds: tuple[float, float]) -> Tensor:
    """Which toes [T, 2, 3] are in contact with the floor, [T, 2]: runs of frames in which that is possible, and once sure."""
    if given is None:
        speed, height = _speeds(toes, fps), toes[..., 1]
        sure, possible = ((height < high) & (speed < fast) for high, fast in zip(_CONTACT_HEIGHT, speeds, strict=True))
    else:
        sure, possible = (given > probability for probability in _GIVEN_CONTACT)
    contact = torch.zeros_like(possible)
    shortest = min(len(toes), _SHORTEST_CONTACT * fps)
    for foot in range(2):
        seen = F.pad(sure[:, foot].cumsum(0), (1, 0)).tolist()
        for first, last in _runs(possible[:, foot]):
            contact[first : last + 1, foot] = last + 1 - first >= shortest and seen[last + 1] > seen[first]
    return contact


def _plant(
    rotations: Tensor, path: Tensor, fps: float, given: Tensor | None, still: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Rotations and path with which feet in contact stand, and the contacts [T, 2].

    Both feet are put down where the dance stands `still` [T], 0 to 1.
    """
    legs = _pose_legs(rotations, path)  # of which only the toes are to move with the path
    toes = legs.toe
    shift = _follow_feet(toes, _find_contacts(toes, fps, given, _SLIDING_SPEED), fps, sure=given is not None)
    path = path + shift
    toes = toes + shift[:, None]
    contact = _find_contacts(toes, fps, given, _CONTACT_SPEED)
    moves = _corrections(toes, contact, fps)
    if still.any():
        moves[..., 1] -= still[:, None] * (toes[..., 1] + moves[..., 1])
        dip = still * _out_of_reach(legs, moves).clamp(max=_LARGEST_CORRECTION)
        path = path - F.pad(dip[:, None], (1, 1))
        moves[..., 1] += dip[:, None]
    return _move_feet(rotations, legs, moves), path, contact


@torch.no_grad()
def find_contacts(toes: Tensor, fps: float) -> Tensor:
    """Which toes stand on the floor, bool [T, 2], by their height and speed: places [T, 2, 3] of `FOOT_JOINTS`, metres."""
    return _find_contacts(toes, fps, None, _CONTACT_SPEED)


@torch.no_grad()
def plant_feet(
    rotations: Tensor, path: Tensor, fps: float, contacts: Tensor, first: int, last: int
) -> tuple[Tensor, Tensor]:
    """Rotations [T, 24, 3, 3] and path [T, 3] with which, in frames `first` to `last` - 1, the toes stand where `contacts` [T, 2] say so
    and none is below the floor; other frames stay as they are.

    A foot that stands at an end of these frames stays where it is there, so that nothing is pushed at the ends. The pelvis goes down
    where a leg would be too short.
    """
    legs, moves = _pose_legs(rotations, path), torch.zeros(len(path), 2, 3)
    toes = legs.toe
    contact = _find_contacts(toes, fps, contacts.to(toes.dtype), _CONTACT_SPEED)
    # where motions pass into each other a foot may be off the floor, or move, that stands in one of them
    slow = (toes[..., 1] < _RAISED) & (_speeds(toes, fps) < _SLIDING_SPEED[1])
    for foot in range(2):
        for begin, end in _runs(contact[:, foot], gap=round(_NEAR_END * fps)):
            contact[begin : end + 1, foot] = False
            stands = slow[begin : end + 1, foot].nonzero()[:, 0].tolist()
            if stands and stands[-1] - stands[0] + 1 >= _SHORTEST_CONTACT * fps:
                contact[begin + stands[0] : begin + stands[-1] + 1, foot] = True
    kept = torch.ones(len(path), dtype=torch.bool)
    kept[first:last] = False
    near, ease = round(_NEAR_END * fps), max(1, round(_EASE * fps))
    for foot in range(2):
        for begin, end in _runs(contact[:, foot]):
            part = slice(max(begin, first - 1), min(end, last) + 1)
            if part.stop > first and part.start < last:
                run = toes[part, foot]
                moves[part, foot] = _anchors(run, begin < first + near, end >= last - near) - run
        moves[kept, foot] = 0
        moves[:, foot] = _ease(moves[:, foot], contact[:, foot] | kept, ease)
    # the largest ones are made smaller without a corner
    moves = moves / (1 + (moves.norm(dim=-1, keepdim=True) / _LARGEST_LED_CORRECTION) ** 4) ** 0.25
    index = torch.arange(len(path))
    inner = (torch.minimum(index - first + 1, last - index) / (_SWELL * fps)).clamp(0, 1)[:, None]
    inner = inner * inner * (3 - 2 * inner)
    moves[..., 1] += _swell(-(toes + moves)[..., 1].clamp(max=0), fps) * inner
    dip = _swell(_out_of_reach(legs, moves)[:, None].clamp(max=_LARGEST_CORRECTION), fps) * inner
    path = path - F.pad(dip, (1, 1))
    moves[..., 1] += dip
    return _move_feet(rotations, legs, moves), path


def _swell(needed: Tensor, fps: float) -> Tensor:
    """A smooth curve [T, columns] that is about as high as what is `needed`, and goes there and back within `_SWELL` seconds."""
    reach = round(_SWELL * fps / 2)
    high = F.max_pool1d(F.pad(needed.T, (reach, reach)), 2 * reach + 1, stride=1).T
    return _blur(high, reach / 2)


def _anchors(run: Tensor, begins: bool, ends: bool) -> Tensor:
    """Where a toe that is at `run` [n, 3] while it stands has to be: in one place, or if it slides too far, in two, from one to the other.

    It `begins` where it is in the first frame, and `ends` where it is in the last; else it stands about the middle of the run.
    """
    t = torch.linspace(0, 1, len(run), dtype=run.dtype)[:, None]
    t = t * t * (3 - 2 * t)
    way = (run[-1] - run[0]) * run.new_tensor([1, 0, 1])
    left = (1 - _LONGEST_LED_SLIDE / way.norm().clamp(min=_LONGEST_LED_SLIDE)) * way
    if begins and ends:
        return torch.lerp(run[:1], run[-1:], t)
    if begins:
        return run[:1] + t * left
    if ends:
        return run[-1:] - (1 - t) * left
    middle = run.median(0).values
    middle[1].clamp_(min=0)
    return middle + (t - 0.5) * left


def _follow_feet(toes: Tensor, contact: Tensor, fps: float, sure: bool) -> Tensor:
    """Horizontal shift of the root [T, 3] with which the feet in contact slide less; it begins with 0.

    If the contacts are not `sure`, the slower one of two feet counts more.
    """
    if len(toes) < 2 or not contact.any():
        return torch.zeros_like(toes[:, 0])
    steps = toes.diff(dim=0) * toes.new_tensor([1, 0, 1])
    weight = (contact[1:] & contact[:-1]).to(toes.dtype)
    if not sure:
        weight = weight / (1 + (_blur(steps, 0.03 * fps).norm(dim=-1) * fps / _TRUST_SPEED).square()).square()
    slide = _blur((steps * weight[..., None]).sum(1), _ROOT_SMOOTHING * fps)
    slide = slide / (_blur(weight.sum(1), _ROOT_SMOOTHING * fps) + 0.02)[:, None]
    shift = -F.pad(slide.cumsum(0), (0, 0, 1, 0))
    shift = shift - _blur(shift, _ROOT_MEMORY * fps)
    return shift - shift[0]


def _corrections(toes: Tensor, contact: Tensor, fps: float) -> Tensor:
    """By how much each toe has to move [T, 2, 3]: onto its anchor while in contact, and off the floor while it moves fast."""
    moves = torch.zeros_like(toes)
    for foot in range(2):
        toe, move = toes[:, foot], moves[:, foot]
        for first, last in _runs(contact[:, foot]):
            run = toe[first : last + 1]
            anchor = run.median(0).values
            anchor[1].clamp_(min=0)
            # a foot that slides too far goes on sliding, only slower
            t = torch.linspace(-0.5, 0.5, len(run), dtype=run.dtype)[:, None]
            slide = (t * (run - run.mean(0))).sum(0) / t.square().sum().clamp(min=1e-9) * run.new_tensor([1, 0, 1])
            left = (1 - _LONGEST_SLIDE / slide.norm().clamp(min=_LONGEST_SLIDE)) * slide
            move[first : last + 1] = anchor + t * left - run
        moves[:, foot] = _ease(move, contact[:, foot], max(1, round(_EASE * fps)))
    moves = moves * (_LARGEST_CORRECTION / moves.norm(dim=-1, keepdim=True).clamp(min=_LARGEST_CORRECTION))
    moved = toes + moves
    slow, fast = _SWING_SPEED
    swing = ((_speeds(moved, fps) - slow) / (fast - slow)).clamp(0, 1) * ~contact
    lift = (_SWING_HEIGHT * _blur(swing, 0.04 * fps) - moved[..., 1]).clamp(0, _LARGEST_CORRECTION)
    return moves + lift[..., None] * toes.new_tensor([0, 1, 0])


def _ease(moves: Tensor, contact: Tensor, ease: int) -> Tensor:
    """Moves [T, 3] of a foot in contact; elsewhere they go to 0 within `ease` frames, with the speed that they have at the contact."""
    if not contact.any():
        return moves
    index = torch.arange(len(moves))
    before, after = _nearest(contact)
    between = (before < index) & (after > index)
    span = torch.where(between, (after - before).clamp(max=ease), ease)
    eased = moves.clone()
    for near, sign in ((before, 1), (after, -1)):
        distance = (index - near) * sign
        t = (distance / span).clamp(max=1)[:, None]
        inside = (near - sign).clamp(0, len(moves) - 1)
        speed = torch.where(contact[inside][:, None], moves[near] - moves[inside], 0)
        speed = speed * (0.02 / speed.norm(dim=-1, keepdim=True).clamp(min=0.02))
        part = moves[near] * (1 - t * t * (3 - 2 * t)) + speed * span[:, None] * t * (1 - t) ** 2
        eased += torch.where(((distance > 0) & (distance < span))[:, None], part, 0)
    return eased


def _out_of_reach(legs: _Legs, moves: Tensor) -> Tensor:
    """By how much a leg would be stretched too far if the feet were moved by `moves` [T, 2, 3], metres, [T]."""
    stretched = (legs.knee - legs.hip).norm(dim=-1) + (legs.ankle - legs.knee).norm(dim=-1)
    now, goal = legs.ankle - legs.hip, legs.ankle + moves - legs.hip
    most = torch.maximum(now.norm(dim=-1), _SOFT_REACH * stretched)
    return (goal.norm(dim=-1) - most).clamp(min=0).amax(-1)


def _move_feet(rotations: Tensor, legs: _Legs, moves: Tensor) -> Tensor:
    """Rotations with which the feet are moved by `moves` [T, 2, 3] and keep their orientation: two-bone inverse kinematics of the `legs`,
    wherever the pelvis is."""
    changed = (moves.abs() > 1e-6).flatten(1).any(-1)
    if not changed.any():
        return rotations
    rotations = rotations.clone()
    rotations[changed] = _in_blocks(_bend_legs, rotations[changed], moves[changed], *(part[changed] for part in legs))
    return rotations


def _bend_legs(rotations: Tensor, moves: Tensor, *legs: Tensor) -> Tensor:
    """`_move_feet` of frames in which a foot moves."""
    # the angle of a knee that is almost straight needs the digits
    pelvis, moves, thigh, shin, foot, hip, knee, ankle, _ = (part.double() for part in (rotations[:, :1], moves, *legs))
    upper, lower, goal = knee - hip, ankle - knee, ankle + moves - hip
    long, short = upper.norm(dim=-1), lower.norm(dim=-1)
    stretched = long + short
    # no leg is stretched beyond _FULL_REACH, or beyond what it was
    now, wanted = (ankle - hip).norm(dim=-1) / stretched, goal.norm(dim=-1) / stretched
    soft = now.clamp(min=_SOFT_REACH)
    room = (now.clamp(min=_FULL_REACH) - soft).clamp(min=1e-9)
    reach = torch.where(wanted > soft, soft + room * (1 - torch.exp((soft - wanted) / room)), wanted) * stretched
    # The knee turns about the normal of the leg's plane, which the knee's hinge helps to find where the leg is straight.
    axis = F.normalize(torch.linalg.cross(upper, lower) / (long * short)[..., None] + 0.1 * thigh[..., 0], dim=-1)
    # Turned by an angle, the lower leg makes |upper + lower|^2 = long^2 + short^2 + 2 (along + radius cos(angle - straight)).
    along = (upper * axis).sum(-1) * (lower * axis).sum(-1)
    cosine, sine = (upper * lower).sum(-1) - along, (upper * torch.linalg.cross(axis, lower)).sum(-1)
    radius, straight = torch.hypot(cosine, sine), torch.atan2(sine, cosine)
    bend = torch.acos((((reach.square() - long.square() - short.square()) / 2 - along) / radius).clamp(-1, 1))
    # A knee that is bent backwards stays so if the leg keeps its length, and bends forwards as it becomes shorter.
    back = straight.clamp(min=0)
    forwards = (bend.square() - back.square()).clamp(min=0).sqrt()
    bend = torch.where(back > 0, forwards - back * (1 - forwards / 0.3).clamp(min=0), bend)
    turn = axis_angle_to_matrix(axis * (straight + bend)[..., None])
    swing = _shortest_turn(upper + (turn @ lower[..., None])[..., 0], goal)
    thigh, shin = swing @ thigh, swing @ turn @ shin
    rotations = rotations.clone()
    bent = torch.cat((pelvis.mT @ thigh, thigh.mT @ shin, shin.mT @ foot), 1)
    rotations[:, _HIPS + _KNEES + _ANKLES] = bent.to(rotations.dtype)
    return rotations


def _shortest_turn(first: Tensor, second: Tensor) -> Tensor:
    """The smallest rotation [..., 3, 3] that turns one vector [..., 3] into the direction of another."""
    axis = torch.linalg.cross(first, second)
    size = axis.norm(dim=-1, keepdim=True)
    angle = torch.atan2(size, (first * second).sum(-1, keepdim=True))
    return axis_angle_to_matrix(axis / size.clamp(min=1e-12) * angle)


# --- streams ---------------------------------------------------------------------------------------------------------

# Radians per frame at 30 frames per second: a joint that turns faster than the first follows with the second.
_STREAM_TURN, _CATCH_UP = 0.52, 0.3
# Per second: how fast the root follows the feet, a foot in contact is held, and its anchor goes with a foot that slides far.
_FOLLOW, _GRIP, _DRAG = 8.0, 9.0, 6.0
_STREAM_ENTRANCE = 0.8  # seconds
_MEMORY = 0.85  # of a foot's correction, per frame at 30 frames per second after its contact


class CleanUpStream:
    """The causal part of `clean_motion`, without delay: each frame is cleaned by the frames before it.

    A joint that turns too fast follows at a limited speed. A step of the root that is too large is replaced by the step before. A foot
    in contact is held where its contact began, and less the farther it slides; its correction fades after the contact. The dance begins
    at rest and catches up with the music within a second.

    Args:
        fps: frames per second.
    """

    def __init__(self, fps: float = 30.0) -> None:
        self.fps = fps
        self._beginning: Tensor | None = None  # the given frames of the entrance: rotations, path and contacts
        self._frames = 0
        self._rotations: Tensor | None = None  # of the last frame, as returned
        self._late = torch.zeros(NUM_JOINTS, dtype=torch.bool)  # which joints follow
        self._given, self._path, self._step = torch.zeros(3), torch.zeros(3), torch.zeros(3)
        self._toes, self._contact = torch.zeros(2, 3), torch.zeros(2, dtype=torch.bool)
        self._grip = torch.zeros(2)  # how firmly a foot in contact is held, 0 to 1
        self._slide, self._shift = torch.zeros(3), torch.zeros(3)
        self._anchors, self._moves = torch.zeros(2, 3), torch.zeros(2, 3)

    @torch.no_grad()
    def push(self, poses: Tensor, translation: Tensor, contacts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The next frames, cleaned: poses [frames, 24, 3] and translation [frames, 3], any number of frames.

        `contacts` [frames, 2 or 4] as in `clean_motion`.
        """
        if not len(poses):
            return poses, translation
        original = axis_angle_to_matrix(poses)
        given = None if contacts is None else contacts[:, -2:]
        before, translation, given = self._begin_slowly(original, translation, given)
        first = self._rotations is None
        if first:
            self._rotations, self._given, self._path = before[0], translation[0], translation[0]
        rotations = torch.stack([self._limit_turns(frame) for frame in before])
        path = torch.stack([self._limit_step(place) for place in translation])
        legs = _pose_legs(rotations, path)
        if first:
            self._toes = legs.toe[0]
        contact = [None] * len(poses) if given is None else given
        shifts, moves = zip(*[self._hold_feet(*foot) for foot in zip(legs.toe, contact, strict=True)], strict=True)
        rotations = _move_feet(rotations, legs, torch.stack(moves))
        turned = (rotations != original).flatten(2).any(-1)
        cleaned = poses.clone()
        cleaned[turned] = matrix_to_axis_angle(rotations[turned])
        return cleaned, path + torch.stack(shifts)

    def _begin_slowly(
        self, rotations: Tensor, path: Tensor, given: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The frames, as long as the dance is behind: it begins at rest, and catches up at up to 4/3 of its speed."""
        length, begin = max(1, round(_STREAM_ENTRANCE * self.fps)), self._frames
        self._frames += len(path)
        if begin >= length:
            self._beginning = None
            return rotations, path, given
        columns = torch.cat([rotations.flatten(1), path] + ([] if given is None else [given]), 1)
        known = columns if self._beginning is None else torch.cat((self._beginning, columns))
        self._beginning = known
        columns = columns.clone()
        for frame in range(begin, min(length, self._frames)):
            x = torch.tensor([frame / length], dtype=torch.double)
            # of later frames, which may not be there yet, none is used
            columns[frame - begin] = _between_frames(known[: frame + 1], length * x * x * (2 - x))[0]
        late = min(length - begin, len(path))
        size = path.shape[1] + rotations[0].numel()
        smooth = to_rotations(columns[:late, :size])
        rotations = torch.cat((smooth[:, :-3].unflatten(1, (NUM_JOINTS, 3, 3)), rotations[late:]))
        return rotations, columns[:, size - 3 : size], None if given is None else columns[:, size:]

    def _limit_turns(self, rotations: Tensor) -> Tensor:
        last, scale = self._rotations, 30 / self.fps
        assert last is not None
        angles = rotation_angle(last, rotations)
        self._late = (angles > _STREAM_TURN * scale) | (self._late & (angles > _CATCH_UP * scale))
        if self._late.any():
            turns = matrix_to_axis_angle(last.mT @ rotations) * (_CATCH_UP * scale / angles.clamp(min=1e-6))[:, None]
            rotations = torch.where(self._late[:, None, None], last @ axis_angle_to_matrix(turns), rotations)
        self._rotations = rotations
        return rotations

    def _limit_step(self, place: Tensor) -> Tensor:
        step = place - self._given
        if step.norm() > _FASTEST_ROOT * 30 / self.fps:
            step = torch.stack((self._step[0], step[1], self._step[2]))  # the height is that of the floor's correction
        self._given, self._step, self._path = place, step, self._path + step
        return self._path

    def _hold_feet(self, toes: Tensor, given: Tensor | None) -> tuple[Tensor, Tensor]:
        """Shift of the root [3] and moves of the toes [2, 3] in the frame with these toes [2, 3] and `given` contacts [2]."""
        flat, fps = toes.new_tensor([1, 0, 1]), self.fps
        steps, self._toes = (toes - self._toes) * flat, toes
        speeds = steps.norm(dim=-1) * fps
        if given is None:
            near = (toes[:, 1] < _CONTACT_HEIGHT[1]) & (speeds < _SLIDING_SPEED[1])
            weight = near / (1 + (speeds / _TRUST_SPEED).square()).square()
        else:
            weight = (given > _GIVEN_CONTACT[1]).to(toes.dtype)
        slide = (steps * weight[:, None]).sum(0) / (weight.sum() + 0.02)
        self._slide = torch.lerp(self._slide, slide, min(1.0, _FOLLOW / fps))
        last, self._shift = self._shift, (self._shift - self._slide) * max(0.0, 1 - 1 / (_ROOT_MEMORY * fps))
        toes, speeds = toes + self._shift, (steps + self._shift - last).norm(dim=-1) * fps
        if given is None:
            limits = zip(_CONTACT_HEIGHT, _CONTACT_SPEED, strict=True)
            sure, possible = ((toes[:, 1] < height) & (speeds < speed) for height, speed in limits)
        else:
            sure, possible = (given > probability for probability in _GIVEN_CONTACT)
        contact = torch.where(self._contact, possible, sure)
        moved = toes + self._moves
        moved[:, 1].clamp_(min=0)
        self._anchors = torch.where((contact & ~self._contact)[:, None], moved, self._anchors)
        fading = self._moves * _MEMORY ** (30 / fps)
        self._grip = torch.where(contact, (self._grip + _GRIP / fps).clamp(max=1), 0)
        moves = torch.where(
            contact[:, None], torch.lerp(self._moves, self._anchors - toes, self._grip[:, None]), fading
        )
        size = moves.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        moves = torch.where(
            contact[:, None], moves * (_LONGEST_SLIDE / size) * torch.tanh(size / _LONGEST_SLIDE), moves
        )
        moves[:, 1] = torch.maximum(moves[:, 1], -toes[:, 1])
        self._anchors = torch.lerp(self._anchors, toes + moves, min(1.0, _DRAG / fps))
        self._contact, self._moves = contact, moves
        return self._shift, moves
