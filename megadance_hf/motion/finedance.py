"""The columns of FineDance's motion files: path and rotations of a skeleton with fingers, as SMPL poses.

SMPL's 24 joints are the 22 of the body, which all these skeletons share, and two hands without a counterpart in SMPL-H or SMPL-X.
By default a hand turns as the first joint of its middle finger does, the nearest to how the palm is bent; or as that of its index
finger; or not at all.
"""

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch

from megadance_hf.modeling.kinematics_megadance import NUM_JOINTS, ROTATION_SIZE, rotation_6d_to_axis_angle

from .layouts import BODY_JOINTS
from .up_axis import LayoutError

Hands = Literal["middle", "index", "none"]
HANDS: tuple[Hands, ...] = get_args(Hands)
# Six numbers that are further from two orthogonal rows of length 1 are no rotation, but another layout or garbage.
MAX_ROW_ERROR = 0.5


@dataclass(frozen=True)
class Columns:
    """What the columns of a motion file are: `contacts` columns, translation (3), then `joints` rotations of `size` numbers.

    `hands` names for each option the joints that the left and the right hand take their rotation from.
    """

    contacts: int
    joints: int
    size: int
    hands: dict[str, tuple[int, int]] = field(default_factory=dict)


_SMPLH, _SMPLX = {"middle": (25, 40), "index": (22, 37)}, {"middle": (28, 43), "index": (25, 40)}
# By the number of columns.
LAYOUTS = {
    315: Columns(0, 52, ROTATION_SIZE, _SMPLH),
    319: Columns(4, 52, ROTATION_SIZE, _SMPLH),
    139: Columns(4, BODY_JOINTS, ROTATION_SIZE),
    168: Columns(0, 55, 3, _SMPLX),  # SMPL-X: jaw and eyes stand between body and fingers
}


def to_smpl(array: np.ndarray, name: str, hands: Hands = "middle") -> tuple[np.ndarray, np.ndarray]:
    """A motion (T, columns) of any layout in `LAYOUTS` as SMPL poses (T, 72) axis-angle and the path (T, 3), float32.

    The path is that of the body model, as the file has it: its pelvis is `layouts.SMPLX_PELVIS` away.

    Raises:
        LayoutError: another number of columns, or numbers that are not finite or no rotations; the message begins with `name`.
    """
    if array.ndim != 2 or array.shape[1] not in LAYOUTS:
        raise LayoutError(f"{name} has shape {array.shape}, expected (frames, {', '.join(map(str, LAYOUTS))})")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if bad.size:
        raise LayoutError(f"{name} holds NaN or infinite numbers, first in frame {bad[0]}")
    layout = LAYOUTS[array.shape[1]]
    root = layout.contacts + 3
    rotations = torch.from_numpy(array[:, root:].astype(np.float64)).unflatten(-1, (layout.joints, layout.size))
    chosen = [*range(BODY_JOINTS), *layout.hands.get(hands, ())]
    rotations = rotations[:, chosen]
    if layout.size == ROTATION_SIZE:
        _check_rotations(rotations, name)
        rotations = rotation_6d_to_axis_angle(rotations)
    poses = np.zeros((len(array), NUM_JOINTS, 3), np.float32)
    poses[:, : len(chosen)] = rotations.numpy()
    return poses.reshape(len(array), -1), array[:, layout.contacts : root].astype(np.float32)


def _check_rotations(rotations: torch.Tensor, name: str) -> None:
    """Raises LayoutError unless every six numbers (T, joints, 6) are nearly two orthogonal unit rows; Gram-Schmidt mends the rest."""
    first, second = rotations[..., :3], rotations[..., 3:]
    errors = torch.stack([first.norm(dim=-1) - 1, second.norm(dim=-1) - 1, (first * second).sum(-1)]).abs().amax(0)
    if len(errors) and errors.max() > MAX_ROW_ERROR:
        frame, joint = np.unravel_index(int(errors.argmax()), tuple(errors.shape))
        raise LayoutError(f"{name}: the six numbers of joint {joint} in frame {frame} are no rotation")
