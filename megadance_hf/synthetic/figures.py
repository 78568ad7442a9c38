"""What the five genres of movement consist of: figures (the body on one beat) and the moves that a bar is danced with."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

STANCE = 0.12  # metres from the middle to each foot
ACCENTS = (1.15, 0.5)  # size of the first beat of a bar, and of the others


@dataclass(frozen=True)
class Arm:
    """Directions of upper arm and forearm in the chest's frame, radians: `raised` from the horizontal, `forward` from the side."""

    raised: float = -1.25
    forward: float = 0.1
    fore_raised: float = -1.2
    fore_forward: float = 0.4


@dataclass(frozen=True)
class Figure:
    """The body on one beat. Lengths in metres, angles in radians; left is positive.

    Attributes:
        sway, push, dip: pelvis left and in front of the middle between the feet, and below standing height.
        hip, turn: roll and yaw of the pelvis.
        lean, tilt, twist: pitch, roll and yaw of the spine.
        nod, look: pitch and yaw of the head.
        bounce: how far the pelvis rises on the way to the next figure.
        left_foot, right_foot: where the foot steps, (left, front) of the dancer's position; None where it stays.
        lift: how high the left and the right foot are held.
        walk, heading: by how much the dancer's position moves (left, front) and turns.
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

# The figure of one beat: (beat of the bar, beats per bar, size) -> Figure. Mirroring alternates its sides, see `figures_of`.
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
    """A vocabulary of movement: its moves, how wide the dancer stands, and after how many beats a move changes sides."""

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


def figures_of(genre: Genre, beats: int, beats_per_bar: int, energy: float, rng: np.random.Generator) -> list[Figure]:
    """One figure per beat. Each bar is danced with a random move of the genre; sides alternate."""
    size = 0.55 + 0.55 * energy
    figures, move, side = [], genre.moves[0], int(rng.integers(2))
    # a move of two beats starts again with each bar: in 3/4 time the last beat is a first one again
    turns = -(-beats_per_bar // genre.side_beats)
    for beat in range(beats):
        bar, beat_of_bar = divmod(beat, beats_per_bar)
        if beat_of_bar == 0:
            move = genre.moves[rng.integers(len(genre.moves))]
        number = bar * turns + beat_of_bar // genre.side_beats + side
        figure = move(beat_of_bar, beats_per_bar, size * ACCENTS[beat_of_bar > 0])
        figures.append(figure.mirrored() if number % 2 else figure)
    return figures
