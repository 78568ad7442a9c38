"""Noise of recorded motion: jumps, discontinuities and frozen limbs (dataset noise; paper, appendix A.4).

From one frame to the next the root moves by some metres and every joint turns by some degrees. A *jump* is more than a body can do; a
*discontinuity* is much larger than the steps about it, as a splice or a lost marker causes. A limb is *frozen* where it does not turn at
all between frames and gets there, or away, in mid-movement: an arm whose markers were lost, or all limbs where frames dropped out and
the last one was held. A dancer who stands still trembles, and slows down before. Frames that the source itself marks as bad are another
thing, which people decided: `Clip.marked_frames`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from megadance_hf.modeling.kinematics_megadance import JOINT_NAMES, NUM_JOINTS, axis_angle_to_matrix, rotation_angle

# More than this between two frames is a jump (15 m/s; the fastest real wrist in our data turns by 64 degrees).
MAX_ROOT_STEP = 0.5
MAX_TURN_DEGREES = 120.0
# A step is a discontinuity if it is this many times as large as the second largest of the six about it (the largest may be the way back
# from a glitch), and large enough to be visible.
STANDS_OUT = 3.0
MIN_ROOT_STEP = 0.1
MIN_TURN_DEGREES = 30.0
# A limb is frozen if both of its joints turn by less than this in so many steps, and by more than that before or after.
STILL_DEGREES, STILL_STEPS, MOVING_DEGREES = 0.02, 3, 1.0
LIMBS = ((16, 18), (17, 19), (1, 4), (2, 5))  # shoulder and elbow, hip and knee
# What lies between two jumps that are no farther apart than this is displaced (half a second).
LONGEST_GLITCH = 15


@dataclass(frozen=True)
class Noise:
    """Measurements of one motion; frame k stands for the step from frame k to k + 1.

    Attributes:
        largest_root_step_m, root_frame: the root's largest step in metres, and where.
        largest_turn_degrees, turn_joint, turn_frame: the largest turn of a joint relative to its parent, which and where.
        jumps: steps between frames that no body can do (`MAX_ROOT_STEP`, `MAX_TURN_DEGREES`).
        discontinuities: steps between frames that stand out from those about them (jumps among them, as a rule).
    """

    largest_root_step_m: float
    root_frame: int
    largest_turn_degrees: float
    turn_joint: str
    turn_frame: int
    jumps: int
    discontinuities: int


def measure_noise(poses: np.ndarray, translation: np.ndarray) -> Noise:
    """`Noise` of a motion: `poses` (T, 72) axis-angle in radians, `translation` (T, 3) in metres, both finite."""
    steps, degrees = _steps(poses, translation)
    if len(steps) == 0:
        return Noise(0.0, 0, 0.0, JOINT_NAMES[0], 0, 0, 0)
    frame, joint = np.unravel_index(int(degrees.argmax()), degrees.shape)
    jumps, breaks = _jumps(steps, degrees), _breaks(steps, degrees)
    return Noise(
        largest_root_step_m=round(float(steps.max()), 4),
        root_frame=int(steps.argmax()),
        largest_turn_degrees=round(float(degrees.max()), 2),
        turn_joint=JOINT_NAMES[int(joint)],
        turn_frame=int(frame),
        jumps=int(jumps.sum()),
        discontinuities=int(breaks.sum()),
    )


def noisy_frames(poses: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Which frames (T,) bool of a motion are noise; `poses` and `translation` as in `measure_noise`.

    Both frames of a jump or a discontinuity, those between two that follow each other closely (`LONGEST_GLITCH`), and all frames in
    which a limb is frozen. Frames of which nothing of this can be seen, such as one dropped from a slow movement, are not found.
    """
    noisy = np.zeros(len(poses), dtype=bool)
    if len(poses) < 2:
        return noisy
    steps, degrees = _steps(poses, translation)
    bad = np.flatnonzero(_jumps(steps, degrees) | _breaks(steps, degrees))
    noisy[bad] = noisy[bad + 1] = True
    for first, second in zip(bad[:-1], bad[1:], strict=True):
        if second - first <= LONGEST_GLITCH:
            noisy[first : second + 1] = True
    for limb in LIMBS:
        turn = degrees[:, limb].max(1)
        edges = np.flatnonzero(np.diff(np.pad(turn < STILL_DEGREES, 1).astype(np.int8)))
        for first, last in edges.reshape(-1, 2):  # steps first to last - 1 are still
            beside = [turn[step] for step in (first - 1, last) if 0 <= step < len(turn)]
            if last - first >= STILL_STEPS and max(beside, default=0.0) > MOVING_DEGREES:
                noisy[first : last + 1] = True
    return noisy


def find_jumps(poses: np.ndarray, translation: np.ndarray) -> Iterator[str]:
    """A line of text for the root's largest jump and one for the joints' largest, if there are any."""
    steps, degrees = _steps(poses, translation)
    if steps.max(initial=0.0) > MAX_ROOT_STEP:
        frame = int(steps.argmax())
        yield f"the root jumps {steps[frame]:.2f} m between frames {frame} and {frame + 1}"
    if degrees.max(initial=0.0) > MAX_TURN_DEGREES:
        worst, joint = np.unravel_index(int(degrees.argmax()), degrees.shape)
        yield f"joint {joint} turns {degrees[worst, joint]:.0f} degrees between frames {worst} and {worst + 1}"


def _steps(poses: np.ndarray, translation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Steps of the root (T-1,) in metres and turns of the joints (T-1, 24) in degrees between neighbouring frames."""
    steps = np.linalg.norm(np.diff(np.asarray(translation, np.float64), axis=0), axis=1)
    # (frames, joints, 3, 3)
    matrices = axis_angle_to_matrix(torch.from_numpy(poses).unflatten(-1, (NUM_JOINTS, 3)))
    return steps, np.degrees(rotation_angle(matrices[:-1], matrices[1:]).numpy())


def _jumps(steps: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Which steps (T-1,) no body can do."""
    return (steps > MAX_ROOT_STEP) | (degrees > MAX_TURN_DEGREES).any(1)


def _breaks(steps: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Which steps (T-1,) are discontinuities."""
    return _stands_out(steps[:, None], MIN_ROOT_STEP) | _stands_out(degrees, MIN_TURN_DEGREES)


def _stands_out(steps: np.ndarray, floor: float) -> np.ndarray:
    """Which of the steps (N, columns) are above `floor` and `STANDS_OUT` times the usual of the six about them, in any column: (N,)."""
    about = np.lib.stride_tricks.sliding_window_view(np.pad(steps, ((3, 3), (0, 0))), 7, axis=0)
    usual = np.partition(np.delete(about, 3, axis=-1), 4, axis=-1)[..., 4]
    return ((steps > floor) & (steps > STANDS_OUT * usual)).any(1)
