"""Mean and standard deviation by which the models normalise motion and music features."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from megadance_hf.modeling.configuration_megadance import MUSIC_FEATURE_SIZE
from megadance_hf.modeling.kinematics_megadance import MOTION_SIZE, ROOT_SIZE, to_body_motion

from .augmentation import mirror_motion
from .clip import Clip, clip_motion
from .windows import noise_of, window_starts

if TYPE_CHECKING:
    from .segments import MotionSegments

# Floors keep normalisation from amplifying noise: 36 to 45 of the 147 channels are constant or nearly so. Rotation entries lie in
# [-1, 1]; velocities are in metres per frame, so their floor is smaller (0.03 m/s).
ROTATION_STD_FLOOR = 0.05
VELOCITY_STD_FLOOR = 0.001
TURN_STD_FLOOR = 0.001  # radians per frame
FEATURE_STD_FLOOR = 0.01
# The released statistics have none; a column that never changes must be divided by something all the same.
RELEASED_STD_FLOOR = 1e-6
# Columns that share a mean and a standard deviation in the released statistics.
RELEASED_PARTS = (slice(0, ROOT_SIZE), slice(ROOT_SIZE, MOTION_SIZE))


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of motion (147,) and music features (35,), float32."""

    motion_mean: Tensor
    motion_std: Tensor
    input_mean: Tensor
    input_std: Tensor

    @classmethod
    def from_clips(
        cls, clips: Iterable[Clip], mirror: bool = True, heading: str = "absolute", mask_noise: bool = False
    ) -> "Statistics":
        """Statistics of every frame of `clips` and, with `mirror`, of their mirror images; with `mask_noise` without frames of noise
        (`noise_of`), whose jumps would widen the spread of velocities.

        Standard deviations are floored (see above). Without any music the features get mean 0 and standard deviation 1. For a tokenizer
        with `heading="turn"` they are those of body motion (148,), see `to_body_motion`.

        Raises:
            ValueError: there is no clip.
        """
        clips = list(clips)
        if not clips:
            raise ValueError("statistics need at least one clip")
        motions = ((clip_motion(clip), ~noise_of(clip) if mask_noise else slice(None)) for clip in clips)
        if mirror:
            motions = ((image, kept) for motion, kept in motions for image in (motion, mirror_motion(motion)))
        floor = np.full(MOTION_SIZE, ROTATION_STD_FLOOR)
        floor[:ROOT_SIZE] = VELOCITY_STD_FLOOR
        if heading == "turn":
            motions = ((to_body_motion(torch.from_numpy(motion)).numpy(), kept) for motion, kept in motions)
            floor = np.append(floor, TURN_STD_FLOOR)
        features = [clip.input_features for clip in clips if clip.input_features is not None]
        no_music = torch.zeros(MUSIC_FEATURE_SIZE), torch.ones(MUSIC_FEATURE_SIZE)
        return cls(
            *_mean_and_std((motion[kept] for motion, kept in motions), floor),
            *(_mean_and_std(features, FEATURE_STD_FLOOR) if features else no_music),
        )

    @classmethod
    def released(cls, clips: Sequence[Clip], length: int, stride: int) -> "Statistics":
        """Statistics as the released tokenizer's loader makes them, of windows of `length` frames every `stride`.

        Frames count as often as windows have them, and the last velocity of a window is zero. One mean and standard deviation is for
        all velocities, one for all rotations; music has them by column.

        Raises:
            ValueError: no window fits into any clip.
        """
        windows = [(clip, start) for clip in clips for start in window_starts(clip, length, stride)]
        if not windows:
            raise ValueError(f"none of {len(clips)} clips has {length} frames; use a smaller length")
        features = [c.input_features[start : start + length] for c, start in windows if c.input_features is not None]
        no_music = torch.zeros(MUSIC_FEATURE_SIZE), torch.ones(MUSIC_FEATURE_SIZE)
        motion = released_motion_statistics(_windows_of_motion(clips, length, stride))
        return cls(*motion, *(_mean_and_std(features, RELEASED_STD_FLOOR, 1) if features else no_music))

    def buffers(self) -> dict[str, Tensor]:
        """The four tensors by name, for the buffers of a model."""
        return dict(self.__dict__)


def _windows_of_motion(clips: Iterable[Clip], length: int, stride: int) -> Iterator[np.ndarray]:
    for clip in clips:
        motion = clip_motion(clip)
        for start in window_starts(clip, length, stride):
            window = motion[start : start + length].copy()
            window[-1, :ROOT_SIZE] = 0
            yield window


def segment_statistics(segments: "MotionSegments", released: bool = False) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (147,) of every frame of segments with root positions, for the genre classifier."""
    windows = (segments[index]["motion"].numpy() for index in range(len(segments)))
    return released_motion_statistics(windows) if released else _mean_and_std(windows, ROTATION_STD_FLOOR)


def released_motion_statistics(windows: Iterable[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (147,) of motions (N, 147): one number for the root's columns, one for all rotations."""
    return _mean_and_std(windows, RELEASED_STD_FLOOR, 1, RELEASED_PARTS)


def _mean_and_std(
    arrays: Iterable[np.ndarray], floor: np.ndarray | float, ddof: int = 0, parts: Sequence[slice] = ()
) -> tuple[Tensor, Tensor]:
    """Of all rows of arrays (N, size), from sums in float64; the columns of a part share theirs."""
    count, total, squares = 0, 0.0, 0.0
    for rows in arrays:
        rows = rows.astype(np.float64)
        count, total, squares = count + len(rows), total + rows.sum(0), squares + (rows * rows).sum(0)
    counts = np.full_like(total, count)
    for part in parts:
        for sums in (counts, total, squares):
            sums[part] = sums[part].sum()
    mean = total / counts
    variance = (squares / counts - mean * mean) * (counts / (counts - ddof))
    std = np.maximum(np.sqrt(np.maximum(variance, 0)), floor)
    return torch.from_numpy(mean).float(), torch.from_numpy(std).float()
