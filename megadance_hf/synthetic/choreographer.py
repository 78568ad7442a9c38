"""Choreograph dances to songs whose beats are known exactly: the dances of the `synthetic` data set.

A dance is a sequence of key figures, one per beat (`figures.py`). Between two beats the body moves from one figure to the next
and comes to rest on the beat, so the accents of the dance lie on the beats of the song, to the frame. The genre decides which
figures follow one another. The first beat of a bar is danced larger than the others, more energy makes all of them larger.

    dance = choreograph("march", seconds=20, tempo=96, beats_per_bar=4, seed=0)
    dance.poses, dance.translation      # (600, 72) axis-angle, (600, 3) metres, 30 frames per second

Feet that carry weight stay where they are: the legs are solved from the pelvis and the feet (inverse kinematics).
"""

from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
import torch

from megadance_hf.modeling.kinematics_megadance import NUM_JOINTS, REST_OFFSETS, matrix_to_axis_angle
from megadance_hf.motion.rotations import rotations_about, shortest_rotations, unit

from .figures import GENRES, STANCE, Arm, Figure, figures_of

FPS = 30
MOVING = (0.08, 0.95)  # the part of a beat in which the body moves; around the beat it rests
_OFFSETS = np.array(REST_OFFSETS)
LEGS = ((1, 4, 7, 10), (2, 5, 8, 11))  # hip, knee, ankle, toes
_ANKLE_HEIGHTS = -_OFFSETS[[10, 11], 1]  # of the left and right ankle when the toe joint is on the floor
_LEG_LENGTHS = {leg: tuple(float(np.linalg.norm(_OFFSETS[joint])) for joint in leg[1:3]) for leg in LEGS}
_STANDING = float(np.mean([sum(_LEG_LENGTHS[leg]) - _OFFSETS[leg[0], 1] for leg in LEGS]) + _ANKLE_HEIGHTS.mean())
ARMS = ((13, 16, 18, 20), (14, 17, 19, 21))  # collar, shoulder, elbow, wrist
_NUMBERS = ("sway", "push", "dip", "hip", "turn", "lean", "tilt", "twist", "nod", "look")
_ARM_NUMBERS = tuple(item.name for item in fields(Arm))


@dataclass(frozen=True)
class Dance:
    """Motion at 30 frames per second: `poses` (T, 72) axis-angle, radians; `translation` (T, 3) of the pelvis, metres, Y up."""

    poses: np.ndarray
    translation: np.ndarray


def choreograph(
    genre: str,
    seconds: float,
    tempo: float,
    beats_per_bar: int = 4,
    *,
    first_beat: float = 0.0,
    energy: float = 0.7,
    seed: int = 0,
) -> Dance:
    """A dance to a song of this tempo.

    Args:
        genre: one of `GENRES`.
        seconds: length; the dance has `round(30 * seconds)` frames.
        tempo: beats per minute.
        beats_per_bar: 3 or 4 (any number of 2 or more works).
        first_beat: seconds to the first downbeat. The dancer stands until one beat before it.
        energy: 0 to 1, how large the movements are.
        seed: of the moves, the sides and the dancer's own posture.

    Raises:
        ValueError: an unknown genre, or a number out of range.
    """
    if genre not in GENRES:
        raise ValueError(f"genre={genre!r}: give one of {', '.join(GENRES)}")
    if not (seconds > 0 and tempo > 0 and beats_per_bar >= 2 and 0 <= energy <= 1 and first_beat >= 0):
        raise ValueError(
            f"seconds={seconds}, tempo={tempo}, beats_per_bar={beats_per_bar}, energy={energy}, first_beat={first_beat}: "
            "give seconds and tempo above 0, 2 or more beats, energy from 0 to 1, first_beat of 0 or more"
        )
    rng = np.random.default_rng([seed, sum(map(ord, genre))])
    vocabulary, period = GENRES[genre], 60 / tempo
    count = int(np.ceil((seconds - first_beat) / period)) + 2
    ready = Figure(left_foot=(vocabulary.stance, 0.0), right_foot=(-vocabulary.stance, 0.0))
    figures = [ready, *figures_of(vocabulary, max(count, 1), beats_per_bar, energy, rng)]
    posture = {name: rng.normal(0, 0.03) for name in ("lean", "tilt", "twist", "nod", "look")}  # of this dancer
    figures = [replace(figure, **{k: getattr(figure, k) + v for k, v in posture.items()}) for figure in figures]

    time = np.arange(round(FPS * seconds)) / FPS
    beat = np.clip((time - first_beat) / period + 1, 0, len(figures) - 1.001)  # the ready figure is beat 0
    before = beat.astype(int)
    share = beat - before
    eased = _ease(np.clip((share - MOVING[0]) / (MOVING[1] - MOVING[0]), 0, 1))
    return _solve(figures, before, share, eased)


def _ease(share: np.ndarray) -> np.ndarray:
    """Minimum-jerk easing from 0 to 1, at rest at both ends."""
    return share**3 * (10 - 15 * share + 6 * share**2)


def _follow(figures: list[Figure]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """On each beat, in the world: the dancer's heading (beats,), both feet (beats, 2, 2) and their headings (beats, 2)."""
    position, heading = np.zeros(2), 0.0
    feet, feet_heading = np.array([[STANCE, 0.0], [-STANCE, 0.0]]), np.zeros(2)
    rows: list[tuple] = []
    for figure in figures:
        heading += figure.heading
        position = position + _turned(np.array(figure.walk), heading)
        for foot, target in enumerate((figure.left_foot, figure.right_foot)):
            if target is not None:
                feet[foot], feet_heading[foot] = position + _turned(np.array(target), heading), heading
        rows.append((heading, feet.copy(), feet_heading.copy()))
    return tuple(np.stack(column) for column in zip(*rows, strict=True))


def _turned(point: np.ndarray, heading) -> np.ndarray:
    """(left, front) of a dancer with this heading -> (x, z) of the world."""
    x, z = point[..., 0], point[..., 1]
    return np.stack((x * np.cos(heading) + z * np.sin(heading), z * np.cos(heading) - x * np.sin(heading)), axis=-1)


def _solve(figures: list[Figure], before: np.ndarray, share: np.ndarray, eased: np.ndarray) -> Dance:
    def between(values: np.ndarray) -> np.ndarray:
        weight = eased.reshape(-1, *[1] * (values.ndim - 1))
        return values[before] * (1 - weight) + values[before + 1] * weight

    body = dict(zip(_NUMBERS, between(np.array([[getattr(f, n) for n in _NUMBERS] for f in figures])).T, strict=True))
    arms = between(
        np.array([[[getattr(a, n) for n in _ARM_NUMBERS] for a in (f.left_arm, f.right_arm)] for f in figures])
    )
    heading, feet, feet_heading = _follow(figures)
    heading, lifts = between(heading), np.array([f.lift for f in figures])
    feet, feet_heading, lift = _move_feet(feet, feet_heading, lifts, before, share, eased)
    rise = np.array([f.bounce for f in figures])[before] * (1 - np.cos(2 * np.pi * share)) / 2

    rotations = np.tile(np.eye(3), (len(before), NUM_JOINTS, 1, 1))
    rotations[:, 0] = _about_y(heading + body["turn"]) @ _about_z(body["hip"])
    for joint in (3, 6, 9):
        rotations[:, joint] = (
            _about_y(body["twist"] / 3) @ _about_x(body["lean"] / 3) @ _about_z((body["tilt"] - body["hip"]) / 3)
        )
    for joint in (12, 15):
        rotations[:, joint] = _about_y(body["look"] / 2) @ _about_x(body["nod"] / 2)
    for number, (side, joints) in enumerate(zip((1.0, -1.0), ARMS, strict=True)):
        _pose_arm(rotations, joints, side, arms[:, number])

    middle = feet.mean(1) + _turned(np.stack((body["sway"], body["push"]), axis=-1), heading)
    root = np.stack((middle[:, 0], np.zeros(len(middle)), middle[:, 1]), axis=-1)
    ankles = np.stack((feet[..., 0], _ANKLE_HEIGHTS + lift, feet[..., 1]), axis=-1)  # (frames, 2, 3)
    root[:, 1] = np.minimum(_STANDING - body["dip"] + rise, _reachable(root, rotations[:, 0], ankles))
    for number, joints in enumerate(LEGS):
        _pose_leg(rotations, joints, root, ankles[:, number], feet_heading[:, number])

    poses = matrix_to_axis_angle(torch.from_numpy(rotations)).flatten(-2).numpy()
    return Dance(poses.astype(np.float32), root.astype(np.float32))


def _move_feet(
    feet: np.ndarray, headings: np.ndarray, lifts: np.ndarray, before: np.ndarray, share: np.ndarray, eased: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, headings and heights of both feet: (frames, 2, 2), (frames, 2), (frames, 2).

    A foot that was held up comes down in the first half of the beat, one that will be held up rises in the second: in
    between both carry weight. A foot that steps from one point on the floor to another leaves it on the way.
    """
    low, high = MOVING
    middle = (low + high) / 2
    falling = _ease(np.clip((share - low) / (middle - low), 0, 1))[:, None]
    rising = _ease(np.clip((share - middle) / (high - middle), 0, 1))[:, None]
    was_up, will_be_up = lifts[before] > 0, lifts[before + 1] > 0
    weight = np.where(was_up & ~will_be_up, falling, np.where(will_be_up & ~was_up, rising, eased[:, None]))
    way = np.linalg.norm(np.diff(feet, axis=0), axis=-1)[before]
    turning = np.abs(np.diff(headings, axis=0))[before]
    steps = ~was_up & ~will_be_up & ((way > 0.01) | (turning > 0.01))
    lift = lifts[before] * (1 - weight) + lifts[before + 1] * weight
    lift = lift + steps * (0.07 + 0.12 * way) * np.sin(np.pi * weight) ** 2
    # a foot rises before it moves, and arrives before it comes down
    weight = np.where(steps, _ease(np.clip((weight - 0.1) / 0.8, 0, 1)), weight)
    moved = feet[before] * (1 - weight[..., None]) + feet[before + 1] * weight[..., None]
    return moved, headings[before] * (1 - weight) + headings[before + 1] * weight, lift


def _reachable(root: np.ndarray, pelvis: np.ndarray, ankles: np.ndarray) -> np.ndarray:
    """Greatest height of the pelvis at which both feet reach their ankles' positions: (frames,)."""
    highest = np.full(len(root), np.inf)
    for number, leg in enumerate(LEGS):
        hip = pelvis @ _OFFSETS[leg[0]]
        aside = ankles[:, number][:, [0, 2]] - (root + hip)[:, [0, 2]]
        length = 0.995 * sum(_LEG_LENGTHS[leg])
        up = np.sqrt(np.maximum(length**2 - (aside**2).sum(-1), 0.01))
        highest = np.minimum(highest, ankles[:, number, 1] + up - hip[:, 1])
    return highest


def _pose_leg(rotations: np.ndarray, joints: tuple[int, ...], root: np.ndarray, ankle: np.ndarray, heading) -> None:
    """Solve hip, knee and ankle: the foot lies flat at `ankle` (frames, 3) and points to `heading`, the knee bends forward."""
    hip_joint, knee_joint, ankle_joint, _ = joints
    pelvis = rotations[:, 0]
    hip = root + pelvis @ _OFFSETS[hip_joint]
    thigh, shin = _LEG_LENGTHS[joints]
    line = ankle - hip
    distance = np.linalg.norm(line, axis=-1, keepdims=True)
    line = line / distance
    distance = np.minimum(distance, 0.999 * (thigh + shin))
    forward = np.stack((np.sin(heading), np.zeros_like(heading), np.cos(heading)), axis=-1)
    bend = unit(forward - (forward * line).sum(-1, keepdims=True) * line)
    along = (thigh**2 - shin**2 + distance**2) / (2 * distance)
    knee = hip + along * line + np.sqrt(np.maximum(thigh**2 - along**2, 0)) * bend
    upper = _frame(knee - hip, forward) @ _frame(_OFFSETS[knee_joint], np.array([0, 0, 1.0])).swapaxes(-1, -2)
    lower = _frame(ankle - knee, forward) @ _frame(_OFFSETS[ankle_joint], np.array([0, 0, 1.0])).swapaxes(-1, -2)
    rotations[:, hip_joint] = pelvis.swapaxes(-1, -2) @ upper
    rotations[:, knee_joint] = upper.swapaxes(-1, -2) @ lower
    rotations[:, ankle_joint] = lower.swapaxes(-1, -2) @ _about_y(heading)


def _pose_arm(rotations: np.ndarray, joints: tuple[int, ...], side: float, angles: np.ndarray) -> None:
    collar, shoulder, elbow, wrist = joints
    raised, forward, fore_raised, fore_forward = angles.T
    # the shoulder blade rises with the arm once that is above the horizontal
    lifted = _about_z(side * 0.35 * np.maximum(raised, 0))
    rotations[:, collar] = lifted
    upper = (lifted.swapaxes(-1, -2) @ _direction(raised, forward, side)[..., None])[..., 0]
    rotations[:, shoulder] = shortest_rotations(_OFFSETS[elbow], upper)
    chest_to_arm = (lifted @ rotations[:, shoulder]).swapaxes(-1, -2)
    fore = (chest_to_arm @ _direction(fore_raised, fore_forward, side)[..., None])[..., 0]
    rotations[:, elbow] = shortest_rotations(_OFFSETS[wrist], fore)


def _direction(raised: np.ndarray, forward: np.ndarray, side: float) -> np.ndarray:
    flat = np.cos(raised)
    return np.stack((side * flat * np.cos(forward), np.sin(raised), flat * np.sin(forward)), axis=-1)


# --- rotations, (frames, 3, 3) -------------------------------------------------------------------------------------------


_about_x, _about_y, _about_z = (partial(rotations_about, axis) for axis in range(3))


def _frame(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Orthonormal columns: along `first`, along the part of `second` orthogonal to it, and orthogonal to both."""
    a = unit(first)
    b = unit(second - (second * a).sum(-1, keepdims=True) * a)
    return np.stack((a, b, np.cross(a, b)), axis=-1)
