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
        motion, features = _Moments(MOTION_SIZE), _Moments(MUSIC_FEATURE_SIZE)
        for clip in clips:
            whole = clip_motion(clip)
            motion.add(whole)
            if mirror:
                motion.add(mirror_motion(whole))
            if clip.input_features is not None:
                features.add(clip.input_features)
        if motion.count == 0:
            raise ValueError("statistics need at least one clip")
        floor = np.full(MOTION_SIZE, ROTATION_STD_FLOOR)
        floor[:ROOT_SIZE] = VELOCITY_STD_FLOOR
        motion_mean, motion_std = motion.result(floor)
        if features.count == 0:
            return cls(motion_mean, motion_std, torch.zeros(MUSIC_FEATURE_SIZE), torch.ones(MUSIC_FEATURE_SIZE))
        return cls(motion_mean, motion_std, *features.result(np.full(MUSIC_FEATURE_SIZE, FEATURE_STD_FLOOR)))

    def buffers(self) -> dict[str, Tensor]:
        """The four tensors by name, for the buffers of a model."""
        return dict(self.__dict__)


def segment_statistics(segments: "MotionSegments") -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (147,) of every frame of segments with root positions, for the genre classifier."""
    moments = _Moments(MOTION_SIZE)
    for index in range(len(segments)):
        moments.add(segments[index]["motion"].numpy())
    return moments.result(np.full(MOTION_SIZE, ROTATION_STD_FLOOR))


class _Moments:
    """Running sums over rows (N, size), in float64."""

    def __init__(self, size: int):
        self.count, self.sum, self.squares = 0, np.zeros(size), np.zeros(size)

    def add(self, rows: np.ndarray) -> None:
        rows = rows.astype(np.float64)
        self.count += len(rows)
        self.sum += rows.sum(0)
        self.squares += (rows * rows).sum(0)

    def result(self, floor: np.ndarray) -> tuple[Tensor, Tensor]:
        mean = self.sum / self.count
        std = np.maximum(np.sqrt(np.maximum(self.squares / self.count - mean * mean, 0)), floor)
        return torch.from_numpy(mean).float(), torch.from_numpy(std).float()
