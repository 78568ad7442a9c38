"""Attributes of clips: what a generator's `attributes` are trained on, and which values its genres have (`attributes_megadance.py`)."""

from collections.abc import Sequence

import numpy as np
import torch

from megadance_hf.modeling.attributes_megadance import ATTRIBUTES, frame_attributes, quantile_table
from megadance_hf.modeling.configuration_megadance import MOTION_FPS
from megadance_hf.modeling.kinematics_megadance import NUM_JOINTS, axis_angle_to_matrix, forward_kinematics

from .clip import Clip


def clip_attributes(clip: Clip) -> np.ndarray:
    """All attributes around each frame of a clip, (T, 7) float32, in the order and units of `ATTRIBUTES`."""
    rotations = axis_angle_to_matrix(torch.from_numpy(clip.poses).unflatten(-1, (NUM_JOINTS, 3)))
    joints = forward_kinematics(rotations, torch.from_numpy(clip.translation))
    return frame_attributes(joints, MOTION_FPS).numpy()


def attribute_quantiles(
    clips: Sequence[Clip], genres: Sequence[str], names: Sequence[str]
) -> dict[str, list[list[float]]]:
    """`config.attribute_quantiles`: for each genre that has clips, and each of the attributes `names`, its quantiles."""
    columns = [list(ATTRIBUTES).index(name) for name in names]
    tables = {}
    for genre in genres:
        if own := [clip_attributes(clip)[:, columns] for clip in clips if clip.genre == genre]:
            tables[genre] = quantile_table(torch.from_numpy(np.concatenate(own)))
    return tables
