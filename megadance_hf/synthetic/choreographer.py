"""Choreographs dances to songs whose beats are known exactly: the movers of the `synthetic` data set.

A dance is a row of key figures, one a beat. Between two beats the body moves from one figure to the next and comes to rest
on the beat, so the accents of the dance lie where the beats of the song are, to the frame. Which figures follow one another
is the genre's: each has a vocabulary of moves, of which every bar takes one at random. The first beat of a bar is danced
larger than the others; the music's energy makes all of them larger or smaller.

    dance = choreograph("march", seconds=20, tempo=96, beats_per_bar=4, seed=0)
    dance.poses, dance.translation      # (600, 72) axis-angle, (600, 3) metres, 30 frames a second

Feet that carry weight stay where they are: the legs are solved from the pelvis and the feet.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch

from megadance_hf.modeling.kinematics_megadance import NUM_JOINTS, REST_OFFSETS, matrix_to_axis_angle

FPS = 30
# Between two figures the body moves in this part of a beat and rests in what is left, around the beat.
MOVING = (0.08, 0.95)
# The first beat of a bar and the others.
ACCENTS = (1.15, 0.5)
STANCE = 0.12  # metres from the middle to each foot
_OFFSETS = np.array(REST_OFFSETS)
_LEFT, _RIGHT = 1.0, -1.0
LEGS = ((1, 4, 7, 10), (2, 5, 8, 11))  # hip, knee, ankle, toes
ARMS = ((13, 16, 18, 20), (14, 17, 19, 21))  # collar, shoulder, elbow, wrist


@dataclass(frozen=True)
class Arm:
    """Where an arm points, in the chest's frame, radians: `raised` from the horizontal, `forward` from the side."""

    raised: float = -1.25
    forward: float = 0.1
    fore_raised: float = -1.2
    fore_forward: float = 0.4


@dataclass(frozen=True)
class Figure:
    """The body on one beat. Lengths in metres, angles in radians; the left is positive.

    `sway`, `push`: pelvis to the left and to the front of the middle between the feet; `dip`: how far below standing; `hip`:
    pelvis rolled, `turn`: pelvis turned; `lean`, `tilt`, `twist`: of the spine; `nod`, `look`: of the head; `bounce`: how far the
    pelvis rises on the way to the next figure. `left_foot`, `right_foot`: (to the left, to the front) of the dancer's place
    when the foot steps, None where it stays; `lift`: how high it is held, left and right. `walk`: the dancer's place moves
    by (left, front), `heading`: and turns.
    """

    sway: float = 0.0
    push: float = 0.0
    dip: float = 0.04
    hip: float = 0.0
    turn: float = 0.0
    lean: float = 0.03
    tilt: float = 0.0
    twist: float = 0.0
    nod: float = 0.0
    look: float = 0.0
    bounce: float = 0.0
    left_arm: Arm = field(default_factory=Arm)
    right_arm: Arm = field(default_factory=Arm)
    left_foot: tuple[float, float] | None = None
    right_foot: tuple[float, float] | None = None
    lift: tuple[float, float] = (0.0, 0.0)
    walk: tuple[float, float] = (0.0, 0.0)
    heading: float = 0.0

    def mirrored(self) -> "Figure":
        """Left and right exchanged."""

        def flip(point: tuple[float, float] | None) -> tuple[float, float] | None:
            return None if point is None else (-point[0], point[1])

        signs = {name: -getattr(self, name) for name in ("sway", "hip", "turn", "tilt", "twist", "look", "heading")}
        return replace(
            self,
            **signs,
            left_arm=self.right_arm,
            right_arm=self.left_arm,
            left_foot=flip(self.right_foot),
            right_foot=flip(self.left_foot),
            lift=self.lift[::-1],
            walk=(-self.walk[0], self.walk[1]),
        )


# --- the genres ------------------------------------------------------------------------------------------------------

# A move gives the figure of one beat: (beat of the bar, beats a bar, how large) -> Figure. Sides alternate from beat to beat
# or from bar to bar by mirroring, see `_figures`.
Move = Callable[[int, int, float], Figure]


def _pump(beat: int, beats: int, size: float) -> Figure:
    up, down = Arm(-0.7, 0.9, 0.3 + 0.9 * size, 1.2), Arm(-1.1, 0.7, -0.4, 1.2)
    return Figure(dip=0.1 + 0.06 * size, bounce=0.08 * size, twist=0.25 * size, nod=0.2, left_arm=up, right_arm=down)


def _both_up(beat: int, beats: int, size: float) -> Figure:
    low = beat % 2 == 1
    arm = Arm(-0.9, 0.9, -0.5, 1.3) if low else Arm(-0.3, 0.8, 0.5 + 0.8 * size, 1.0)
    return Figure(
        dip=0.08 + 0.08 * size * low, bounce=0.07 * size, lean=0.12 * low, nod=0.25 * low, left_arm=arm, right_arm=arm
    )


def _cross(beat: int, beats: int, size: float) -> Figure:
    crossed = beat % 2 == 0
    arm = Arm(-0.5, 1.3, -0.1, 2.2) if crossed else Arm(-0.5, 0.3, -0.1 - 0.3 * size, 0.2)
    return Figure(dip=0.1 + 0.04 * size, bounce=0.09 * size, tilt=0.12 * size, left_arm=arm, right_arm=arm)


def _wave(beat: int, beats: int, size: float) -> Figure:
    high, low = Arm(0.5 * size, 0.05, 0.8 * size, 0.0), Arm(-0.45 * size, 0.05, -0.7 * size, 0.1)
    return Figure(sway=0.13 * size, hip=-0.12 * size, tilt=-0.3 * size, look=0.4 * size, left_arm=high, right_arm=low)


def _willow(beat: int, beats: int, size: float) -> Figure:
    over = Arm(1.1, 0.1, 1.3, 0.9 * size)
    return Figure(
        sway=0.15 * size,
        hip=-0.1 * size,
        tilt=-0.42 * size,
        left_arm=Arm(-0.6, 0.3, -0.9, 0.8),
        right_arm=over,
        look=0.2,
    )


def _lowered(beat: int, beats: int, size: float) -> Figure:
    swept = Arm(-0.75, 0.5 + 0.7 * size, -0.4, 1.1 + 0.6 * size)
    return Figure(
        sway=0.14 * size, dip=0.05 + 0.1 * size, turn=0.25 * size, twist=0.2 * size, left_arm=swept, right_arm=Arm(-0.5)
    )


def _march(beat: int, beats: int, size: float) -> Figure:
    back, front = Arm(-1.15, -0.5 * size, -1.0, -0.2), Arm(-0.95 + 0.3 * size, 1.5, -0.5 + 0.3 * size, 1.5)
    return Figure(
        sway=-0.07,
        lean=0.06,
        twist=0.2 * size,
        lift=(0.1 + 0.2 * size, 0.0),
        left_foot=(STANCE, 0.1),
        right_foot=(-STANCE, 0.0),
        left_arm=back,
        right_arm=front,
    )


def _march_on(beat: int, beats: int, size: float) -> Figure:
    return replace(_march(beat, beats, size), walk=(0.0, 0.12 * size))


def _wheel(beat: int, beats: int, size: float) -> Figure:
    return replace(_march(beat, beats, size), heading=0.45 if beats == 3 else 0.34)


def _side_touch(beat: int, beats: int, size: float) -> Figure:
    if beat % 2 == 0:  # out: step to the left, arms open
        arm = Arm(0.1 * size, 0.1, 0.2 * size, 0.1)
        return Figure(walk=(0.22 * size, 0.0), left_foot=(0.2, 0.0), dip=0.07, sway=0.05, left_arm=arm, right_arm=arm)
    clap = Arm(-0.75, 1.1, 0.1, 2.05)
    return Figure(right_foot=(0.2 - 2 * STANCE, 0.0), dip=0.05, left_arm=clap, right_arm=clap, nod=0.15)


def _side_high(beat: int, beats: int, size: float) -> Figure:
    figure = _side_touch(beat, beats, size)
    if beat % 2 == 1:
        return figure
    return replace(
        figure, left_arm=Arm(0.8 * size, 0.2, 1.1, 0.3), right_arm=Arm(-0.9, 0.3, -0.7, 0.8), tilt=0.15 * size
    )


def _point(beat: int, beats: int, size: float) -> Figure:
    return Figure(
        sway=0.09 * size,
        hip=-0.18 * size,
        dip=0.06,
        twist=-0.3 * size,
        look=0.5 * size,
        left_arm=Arm(0.35 + 0.6 * size, 0.25, 0.45 + 0.6 * size, 0.2),
        right_arm=Arm(-0.95, -0.2, -0.35, 1.9),  # the hand on the hip
    )


def _throw(beat: int, beats: int, size: float) -> Figure:
    if beat == 0:
        arm = Arm(0.9, 0.3, 1.1, 0.3)
        return Figure(dip=0.02, nod=-0.3, lean=-0.08, left_arm=arm, right_arm=arm)
    arm = Arm(-0.95, -0.2, -0.35, 1.9)
    return Figure(sway=0.08 * size, hip=-0.2 * size, dip=0.06, left_arm=arm, right_arm=arm)


def _dagger(beat: int, beats: int, size: float) -> Figure:
    down = Arm(-0.5, 1.3, -0.75 * size, 1.7)
    return Figure(
        dip=0.12 * size,
        lean=0.12,
        twist=-0.35 * size,
        hip=0.15 * size,
        left_arm=down,
        right_arm=Arm(0.2, -0.1, 0.6, 0.2),
        nod=0.3,
    )


@dataclass(frozen=True)
class Genre:
    """A vocabulary: its moves, how wide the dancer stands, and after how many beats a move changes its side."""

    moves: tuple[Move, ...]
    stance: float = STANCE
    side_beats: int = 1


GENRES: dict[str, Genre] = {
    "bounce": Genre((_pump, _both_up, _cross), stance=0.17),
    "march": Genre((_march, _march_on, _wheel)),
    "reach": Genre((_point, _throw, _dagger), stance=0.2),
    "sidestep": Genre((_side_touch, _side_high), side_beats=2),
    "sway": Genre((_wave, _willow, _lowered), stance=0.22),
}


def _figures(genre: Genre, beats: int, beats_per_bar: int, energy: float, rng: np.random.Generator) -> list[Figure]:
    """One figure a beat. Each bar takes one of the moves; sides alternate."""
    size = 0.55 + 0.55 * energy
    figures, move, side = [], genre.moves[0], int(rng.integers(2))
    # a move of two beats begins anew with the bar: in three four time the last beat is a first one again
    turns = -(-beats_per_bar // genre.side_beats)
    for beat in range(beats):
        bar, place = divmod(beat, beats_per_bar)
        if place == 0:
            move = genre.moves[rng.integers(len(genre.moves))]
        number = bar * turns + place // genre.side_beats + side
        figure = move(place, beats_per_bar, size * ACCENTS[place > 0])
        figures.append(figure.mirrored() if number % 2 else figure)
    return figures


# --- from figures to frames --------------------------------------------------------------------------------------------

_NUMBERS = ("sway", "push", "dip", "hip", "turn", "lean", "tilt", "twist", "nod", "look")
_ARM_NUMBERS = tuple(item.name for item in fields(Arm))


@dataclass(frozen=True)
class Dance:
    """Motion at 30 frames a second: `poses` (T, 72) axis-angle, radians; `translation` (T, 3) of the pelvis, metres, Y up."""

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
        tempo: beats a minute.
        beats_per_bar: 3 or 4 (any number of 2 or more works).
        first_beat: seconds; it is a downbeat. Until a beat before it the dancer stands.
        energy: 0 to 1, how large the movements are.
        seed: chooses moves, sides and the dancer's own way of holding the body.

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
    figures = [ready, *_figures(vocabulary, max(count, 1), beats_per_bar, energy, rng)]
    manner = {name: rng.normal(0, 0.03) for name in ("lean", "tilt", "twist", "nod", "look")}  # of this dancer
    figures = [replace(figure, **{k: getattr(figure, k) + v for k, v in manner.items()}) for figure in figures]

    time = np.arange(round(FPS * seconds)) / FPS
    beat = np.clip((time - first_beat) / period + 1, 0, len(figures) - 1.001)  # the ready figure is beat 0
    before = beat.astype(int)
    share = beat - before
    eased = _ease(np.clip((share - MOVING[0]) / (MOVING[1] - MOVING[0]), 0, 1))
    return _solve(figures, before, share, eased)


def _ease(share: np.ndarray) -> np.ndarray:
    """Minimum jerk: 0 to 1, at rest at both ends."""
    return share**3 * (10 - 15 * share + 6 * share**2)


@dataclass
class _Track:
    """Where the feet, the dancer's place and heading are on each beat, in the world."""

    place: np.ndarray  # [beats, 2] x, z
    heading: np.ndarray  # [beats]
    feet: np.ndarray  # [beats, 2 feet, 2]
    feet_heading: np.ndarray  # [beats, 2]


def _follow(figures: list[Figure]) -> _Track:
    place, heading = np.zeros(2), 0.0
    feet, feet_heading = np.array([[STANCE, 0.0], [-STANCE, 0.0]]), np.zeros(2)
    rows: list[tuple] = []
    for figure in figures:
        heading += figure.heading
        place = place + _turned(np.array(figure.walk), heading)
        for foot, target in enumerate((figure.left_foot, figure.right_foot)):
            if target is not None:
                feet[foot], feet_heading[foot] = place + _turned(np.array(target), heading), heading
        rows.append((place, heading, feet.copy(), feet_heading.copy()))
    return _Track(*(np.stack(column) for column in zip(*rows, strict=True)))


def _turned(point: np.ndarray, heading) -> np.ndarray:
    """(left, front) as seen by a dancer of this heading -> (x, z) of the world."""
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
    track = _follow(figures)
    heading = between(track.heading)
    feet, feet_heading, lift = _move_feet(track, np.array([f.lift for f in figures]), before, share, eased)
    rise = np.array([f.bounce for f in figures])[before] * (1 - np.cos(2 * np.pi * share)) / 2

    rotations = np.tile(np.eye(3), (len(before), NUM_JOINTS, 1, 1))
    rotations[:, 0] = _about_y(heading + body["turn"]) @ _about_z(body["hip"])
    for joint in (3, 6, 9):
        rotations[:, joint] = (
            _about_y(body["twist"] / 3) @ _about_x(body["lean"] / 3) @ _about_z((body["tilt"] - body["hip"]) / 3)
        )
    for joint in (12, 15):
        rotations[:, joint] = _about_y(body["look"] / 2) @ _about_x(body["nod"] / 2)
    for number, (side, joints) in enumerate(zip((_LEFT, _RIGHT), ARMS, strict=True)):
        _pose_arm(rotations, joints, side, arms[:, number])

    middle = feet.mean(1) + _turned(np.stack((body["sway"], body["push"]), axis=-1), heading)
    root = np.stack((middle[:, 0], np.zeros(len(middle)), middle[:, 1]), axis=-1)
    ankles = np.stack((feet[..., 0], _ankle_heights() + lift, feet[..., 1]), axis=-1)  # [frames, 2, 3]
    root[:, 1] = np.minimum(_standing_height() - body["dip"] + rise, _reachable(root, rotations[:, 0], ankles))
    for number, joints in enumerate(LEGS):
        _pose_leg(rotations, joints, root, ankles[:, number], feet_heading[:, number])

    poses = matrix_to_axis_angle(torch.from_numpy(rotations)).flatten(-2).numpy()
    return Dance(poses.astype(np.float32), root.astype(np.float32))


def _move_feet(
    track: _Track, lifts: np.ndarray, before: np.ndarray, share: np.ndarray, eased: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the feet are, where they point and how high they are: [frames, 2, 2], [frames, 2], [frames, 2].

    A foot that was held up comes down in the first half of the beat, one that will be held up rises in the second: in
    between both carry. A foot that goes from one place on the floor to another leaves it on the way.
    """
    low, high = MOVING
    middle = (low + high) / 2
    falling = _ease(np.clip((share - low) / (middle - low), 0, 1))[:, None]
    rising = _ease(np.clip((share - middle) / (high - middle), 0, 1))[:, None]
    was_up, will_be_up = lifts[before] > 0, lifts[before + 1] > 0
    weight = np.where(was_up & ~will_be_up, falling, np.where(will_be_up & ~was_up, rising, eased[:, None]))
    way = np.linalg.norm(np.diff(track.feet, axis=0), axis=-1)[before]
    turning = np.abs(np.diff(track.feet_heading, axis=0))[before]
    steps = ~was_up & ~will_be_up & ((way > 0.01) | (turning > 0.01))
    lift = lifts[before] * (1 - weight) + lifts[before + 1] * weight
    lift = lift + steps * (0.07 + 0.12 * way) * np.sin(np.pi * weight) ** 2
    # it goes up before it goes away, and is there before it comes down
    weight = np.where(steps, _ease(np.clip((weight - 0.1) / 0.8, 0, 1)), weight)
    feet = track.feet[before] * (1 - weight[..., None]) + track.feet[before + 1] * weight[..., None]
    return feet, track.feet_heading[before] * (1 - weight) + track.feet_heading[before + 1] * weight, lift


def _ankle_heights() -> np.ndarray:
    """Height of the left and right ankle when the toes' joint is on the floor."""
    return -_OFFSETS[[10, 11], 1]


def _leg_lengths(joints: tuple[int, ...]) -> tuple[float, float]:
    return float(np.linalg.norm(_OFFSETS[joints[1]])), float(np.linalg.norm(_OFFSETS[joints[2]]))


def _standing_height() -> float:
    return float(np.mean([sum(_leg_lengths(leg)) - _OFFSETS[leg[0], 1] for leg in LEGS]) + _ankle_heights().mean())


def _reachable(root: np.ndarray, pelvis: np.ndarray, ankles: np.ndarray) -> np.ndarray:
    """How high the pelvis can be so that both feet get where they are to be: [frames]."""
    highest = np.full(len(root), np.inf)
    for number, leg in enumerate(LEGS):
        hip = pelvis @ _OFFSETS[leg[0]]
        aside = ankles[:, number][:, [0, 2]] - (root + hip)[:, [0, 2]]
        length = 0.995 * sum(_leg_lengths(leg))
        up = np.sqrt(np.maximum(length**2 - (aside**2).sum(-1), 0.01))
        highest = np.minimum(highest, ankles[:, number, 1] + up - hip[:, 1])
    return highest


def _pose_leg(rotations: np.ndarray, joints: tuple[int, ...], root: np.ndarray, ankle: np.ndarray, heading) -> None:
    """Hip, knee and ankle so that the foot is flat at `ankle` [frames, 3] and points to `heading`; the knee bends forward."""
    hip_joint, knee_joint, ankle_joint, _ = joints
    pelvis = rotations[:, 0]
    hip = root + pelvis @ _OFFSETS[hip_joint]
    thigh, shin = _leg_lengths(joints)
    line = ankle - hip
    distance = np.linalg.norm(line, axis=-1, keepdims=True)
    line = line / distance
    distance = np.minimum(distance, 0.999 * (thigh + shin))
    forward = np.stack((np.sin(heading), np.zeros_like(heading), np.cos(heading)), axis=-1)
    bend = _unit(forward - (forward * line).sum(-1, keepdims=True) * line)
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
    # the shoulder blade goes up with the arm, once that is above the horizontal
    lifted = _about_z(side * 0.35 * np.maximum(raised, 0))
    rotations[:, collar] = lifted
    upper = (lifted.swapaxes(-1, -2) @ _direction(raised, forward, side)[..., None])[..., 0]
    rotations[:, shoulder] = _swing(_OFFSETS[elbow], upper)
    chest_to_arm = (lifted @ rotations[:, shoulder]).swapaxes(-1, -2)
    fore = (chest_to_arm @ _direction(fore_raised, fore_forward, side)[..., None])[..., 0]
    rotations[:, elbow] = _swing(_OFFSETS[wrist], fore)


def _direction(raised: np.ndarray, forward: np.ndarray, side: float) -> np.ndarray:
    flat = np.cos(raised)
    return np.stack((side * flat * np.cos(forward), np.sin(raised), flat * np.sin(forward)), axis=-1)


# --- rotations, [frames, 3, 3] -------------------------------------------------------------------------------------------


def _about(axis: int, angle: np.ndarray) -> np.ndarray:
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.zeros((len(angle), 3, 3))
    matrix[:, axis, axis] = 1
    matrix[:, first, first] = matrix[:, second, second] = np.cos(angle)
    matrix[:, second, first] = np.sin(angle)
    matrix[:, first, second] = -np.sin(angle)
    return matrix


def _about_x(angle: np.ndarray) -> np.ndarray:
    return _about(0, angle)


def _about_y(angle: np.ndarray) -> np.ndarray:
    return _about(1, angle)


def _about_z(angle: np.ndarray) -> np.ndarray:
    return _about(2, angle)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector, axis=-1, keepdims=True)


def _frame(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Columns: along `first`, along what of `second` is square to it, and square to both."""
    a = _unit(first)
    b = _unit(second - (second * a).sum(-1, keepdims=True) * a)
    return np.stack((a, b, np.cross(a, b)), axis=-1)


def _swing(start: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """The shortest turn of the direction `start` (3,) into `goal` [frames, 3] (Rodrigues); they must not be opposite."""
    start, goal = _unit(np.broadcast_to(start, goal.shape)), _unit(goal)
    axis, cosine = np.cross(start, goal), (start * goal).sum(-1)
    cross = np.zeros((len(goal), 3, 3))
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -axis[:, 2], axis[:, 1], -axis[:, 0]
    cross -= cross.swapaxes(-1, -2)
    return np.eye(3) + cross + cross @ cross / (1 + cosine)[:, None, None]
