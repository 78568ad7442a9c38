"""Mean and standard deviation by which the models normalise motion and music features."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from megadance_hf.modeling.configuration_megadance import MUSIC_FEATURE_SIZE
from megadance_hf.modeling.kinematics_megadance import MOTION_SIZE, ROOT_SIZE

from .augmentation import mirror_motion
from .clip import Clip, clip_motion

if TYPE_CHECKING:
    from .segments import MotionSegments

# Floors keep normalisation from amplifying noise: 36 to 45 of the 147 channels are constant or nearly so. Rotation entries lie in
# [-1, 1]; velocities are in metres per frame, so their floor is smaller (0.03 m/s).
ROTATION_STD_FLOOR = 0.05
VELOCITY_STD_FLOOR = 0.001
FEATURE_STD_FLOOR = 0.01


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of motion (147,) and music features (35,), float32."""

    motion_mean: Tensor
    motion_std: Tensor
    input_mean: Tensor
    input_std: Tensor

    @classmethod
    def from_clips(cls, clips: Iterable[Clip], mirror: bool = True) -> "Statistics":
        """Statistics of every frame of `clips` and, with `mirror`, of their mirror images.

        Standard deviations are floored (see above). Without any music the features get mean 0 and standard deviation 1.

        Raises:
            ValueError: there is no clip.
        """
        clips = list(clips)
        if not clips:
            raise ValueError("statistics need at least one clip")
        motions = map(clip_motion, clips)
        if mirror:
            motions = (image for motion in motions for image in (motion, mirror_motion(motion)))
        floor = np.full(MOTION_SIZE, ROTATION_STD_FLOOR)
        floor[:ROOT_SIZE] = VELOCITY_STD_FLOOR
        features = [clip.input_features for clip in clips if clip.input_features is not None]
        no_music = torch.zeros(MUSIC_FEATURE_SIZE), torch.ones(MUSIC_FEATURE_SIZE)
        return cls(
            *_mean_and_std(motions, floor), *(_mean_and_std(features, FEATURE_STD_FLOOR) if features else no_music)
        )

    def buffers(self) -> dict[str, Tensor]:
        """The four tensors by name, for the buffers of a model."""
        return dict(self.__dict__)


def segment_statistics(segments: "MotionSegments") -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (147,) of every frame of segments with root positions, for the genre classifier."""
    return _mean_and_std((segments[index]["motion"].numpy() for index in range(len(segments))), ROTATION_STD_FLOOR)


def _mean_and_std(arrays: Iterable[np.ndarray], floor: np.ndarray | float) -> tuple[Tensor, Tensor]:
    """Of all rows of arrays (N, size), from sums in float64."""
    count, total, squares = 0, 0.0, 0.0
    for rows in arrays:
        rows = rows.astype(np.float64)
        count, total, squares = count + len(rows), total + rows.sum(0), squares + (rows * rows).sum(0)
    mean = total / count
    std = np.maximum(np.sqrt(np.maximum(squares / count - mean * mean, 0)), floor)
    return torch.from_numpy(mean).float(), torch.from_numpy(std).float()
