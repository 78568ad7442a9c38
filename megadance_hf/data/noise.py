"""Noise of recorded motion: jumps and discontinuities (dataset noise; paper, appendix A.4).

From one frame to the next the root moves by some metres and every joint turns by some degrees. A *jump* is more than a body can do; a
*discontinuity* is much larger than the steps before and after it, as a splice or a lost marker causes. Frames that the source itself
marks as bad are another thing, which people decided: `Clip.marked_frames`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from megadance_hf.modeling.kinematics_megadance import JOINT_NAMES, NUM_JOINTS, axis_angle_to_matrix

# More than this between two frames is a jump (15 m/s; the fastest real wrist in our data turns by 64 degrees).
MAX_ROOT_STEP = 0.5
MAX_TURN_DEGREES = 120.0
# A step is a discontinuity if it is this many times as large as both of its neighbours, and large enough to be visible.
STANDS_OUT = 3.0
MIN_ROOT_STEP = 0.1
MIN_TURN_DEGREES = 30.0


@dataclass(frozen=True)
class Noise:
    """Measurements of one motion; frame k stands for the step from frame k to k + 1.

    Attributes:
        largest_root_step_m, root_frame: the root's largest step in metres, and where.
        largest_turn_degrees, turn_joint, turn_frame: the largest turn of a joint relative to its parent, which and where.
        jumps: steps between frames that no body can do (`MAX_ROOT_STEP`, `MAX_TURN_DEGREES`).
        discontinuities: steps between frames that stand out from both neighbours (jumps among them, as a rule).
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
    jumps = (steps > MAX_ROOT_STEP) | (degrees > MAX_TURN_DEGREES).any(1)
    breaks = _stands_out(steps[:, None], MIN_ROOT_STEP) | _stands_out(degrees, MIN_TURN_DEGREES)
    return Noise(
        largest_root_step_m=round(float(steps.max()), 4),
        root_frame=int(steps.argmax()),
        largest_turn_degrees=round(float(degrees.max()), 2),
        turn_joint=JOINT_NAMES[int(joint)],
        turn_frame=int(frame),
        jumps=int(jumps.sum()),
        discontinuities=int(breaks.sum()),
    )


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
    # (frames, joints, 3, 3); the trace of R_t^T R_t+1 gives the angle
    matrices = axis_angle_to_matrix(torch.from_numpy(poses).unflatten(-1, (NUM_JOINTS, 3)))
    trace = (matrices[:-1] * matrices[1:]).sum((-1, -2)).numpy()
    return steps, np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))


def _stands_out(steps: np.ndarray, floor: float) -> np.ndarray:
    """Which of the steps (N, columns) are above `floor` and `STANDS_OUT` times both neighbours, in any column: (N,)."""
    beside = np.pad(steps, ((1, 1), (0, 0)))
    neighbours = np.maximum(beside[:-2], beside[2:])
    return ((steps > floor) & (steps > STANDS_OUT * neighbours)).any(1)
