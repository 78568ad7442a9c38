"""Augmentation: mirrored motion, clips played slower or faster, music transposed, remixed or silent. Pure functions."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from megadance_hf.modeling.configuration_megadance import MUSIC_FEATURE_SIZE
from megadance_hf.modeling.kinematics_megadance import (
    MIRROR_JOINTS,
    NUM_JOINTS,
    ROOT_SIZE,
    ROTATION_SIZE,
    axis_angle_to_matrix,
    matrix_to_axis_angle,
)
from megadance_hf.modeling.music_features_megadance import BEAT, CHROMA, MFCC, PEAK

from .clip import Clip

if TYPE_CHECKING:
    from .statistics import Statistics


# With S = diag(-1, 1, 1) a mirrored rotation is S R S: in the two 6D rows the entries with exactly one x index change sign.
_JOINTS = [ROOT_SIZE + ROTATION_SIZE * joint + k for joint in MIRROR_JOINTS for k in range(ROTATION_SIZE)]
MIRROR_CHANNELS = np.array([*range(ROOT_SIZE), *_JOINTS])
MIRROR_SIGN = np.array([-1.0, 1.0, 1.0] + [1.0, -1.0, -1.0, -1.0, 1.0, 1.0] * NUM_JOINTS, dtype=np.float32)


def mirror_motion(motion: np.ndarray) -> np.ndarray:
    """Left-right mirror image of a motion (..., 147): a permutation and changes of sign."""
    return motion[..., MIRROR_CHANNELS] * MIRROR_SIGN


def time_stretch(clip: Clip, factor: float) -> Clip:
    """The clip lasting `factor` times as long (1.1 is slower): motion, music features and beat grid together.

    Rotations are interpolated spherically, the root path and continuous music columns linearly; each beat and peak flag moves to the
    frame nearest to its new time. The encoded audio, which no longer fits, is dropped.

    Raises:
        ValueError: `factor` is not above 0.
    """
    if not factor > 0:
        raise ValueError(f"factor={factor} must be above 0")
    before, share = stretched_frames(len(clip), factor)
    return replace(
        clip,
        poses=_slerp(clip.poses, before, share),
        translation=blend_frames(clip.translation, before, share),
        input_features=None if clip.input_features is None else stretch_features(clip.input_features, factor),
        audio=None,
        beat_period_s=None if clip.beat_period_s is None else clip.beat_period_s * factor,
        first_beat_s=None if clip.first_beat_s is None else clip.first_beat_s * factor,
        muq_frames=None if clip.muq_frames is None else round(clip.muq_frames * factor),
        units=None if clip.units is None else [unit | {"start_s": unit["start_s"] * factor} for unit in clip.units],
        marked_frames=None if clip.marked_frames is None else sorted({round(f * factor) for f in clip.marked_frames}),
    )


def stretch_features(features: np.ndarray, factor: float) -> np.ndarray:
    """Music features (T, 35) lasting `factor` times as long, see `time_stretch`."""
    before, share = stretched_frames(len(features), factor)
    stretched = blend_frames(features, before, share)
    for column in (BEAT, PEAK):
        stretched[:, column] = 0
        flags = np.round(np.flatnonzero(features[:, column]) * factor).astype(np.int64)
        stretched[np.minimum(flags, len(stretched) - 1), column] = 1
    return stretched


def stretched_frames(frames: int, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """For each stretched frame the original frame before it (T',), and the weight (T', 1) of the frame after that."""
    longer = round((frames - 1) * factor) + 1
    position = np.minimum(np.arange(longer) / factor, frames - 1)
    before = np.minimum(position.astype(np.int64), frames - 2)
    return before, (position - before).astype(np.float32)[:, None]


def blend_frames(rows: np.ndarray, before: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Linear interpolation of rows (T, n) at the frames of `stretched_frames`."""
    return rows[before] * (1 - share) + rows[before + 1] * share


def _slerp(poses: np.ndarray, before: np.ndarray, share: np.ndarray) -> np.ndarray:
    # (frames, joints, 3, 3)
    matrices = axis_angle_to_matrix(torch.from_numpy(poses).unflatten(-1, (NUM_JOINTS, 3)))
    index = torch.from_numpy(before)
    turn = matrix_to_axis_angle(matrices[index].mT @ matrices[index + 1])
    part = axis_angle_to_matrix(turn * torch.from_numpy(share)[..., None])
    return matrix_to_axis_angle(matrices[index] @ part).flatten(-2).numpy()


def rotate_chroma(features: np.ndarray, semitones: int) -> np.ndarray:
    """Music features (..., T, 35) of the transposed song: the chroma columns are rotated."""
    result, up = features.copy(), semitones % 12
    result[..., CHROMA.start + up : CHROMA.stop] = features[..., CHROMA.start : CHROMA.stop - up]
    result[..., CHROMA.start : CHROMA.start + up] = features[..., CHROMA.stop - up : CHROMA.stop]
    return result


def jitter_mfcc(features: np.ndarray, offset: np.ndarray, gain: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Features (..., T, 35) of another recording or mix: MFCC columns scaled about `mean` by `gain` and shifted by `offset`, (20,) each."""
    # one pass over whole rows is faster than two over parts of them
    scale, shift = np.ones(MUSIC_FEATURE_SIZE, np.float32), np.zeros(MUSIC_FEATURE_SIZE, np.float32)
    scale[MFCC], shift[MFCC] = gain, mean * (1 - gain) + offset
    return features * scale + shift


@dataclass(frozen=True)
class MusicAugmentation:
    """Random variation of the music features of a training segment.

    Attributes:
        transpose: probability of a random transposition (1 to 11 semitones).
        mfcc_offset, mfcc_gain: standard deviation of the random offset, in standard deviations of a column, and of the factor about 1.
        dropout: probability that a segment loses its music (features at the mean of the data, `has_music` False).
        timbre_dropout: probability that only the rhythm is left, with MFCC and chroma at the mean of the data. These identify a song,
            and with few songs a model would memorise them rather than follow the beat.
    """

    transpose: float = 0.5
    mfcc_offset: float = 0.3
    mfcc_gain: float = 0.1
    dropout: float = 0.1
    timbre_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("transpose", "dropout", "timbre_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)!r} is a probability: give 0 to 1")
        for name in ("mfcc_offset", "mfcc_gain"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)!r} is a spread: give 0 or more")

    def __call__(
        self, features: np.ndarray, statistics: "Statistics", generator: np.random.Generator
    ) -> tuple[np.ndarray, bool]:
        """Features (T, 35) -> varied features (T, 35), and whether there is still music."""
        # always the same number of draws, so that switching one off does not change the others
        chance = generator.random(3)
        semitones = int(generator.integers(1, 12))
        normal = generator.standard_normal((2, MFCC.stop), dtype=np.float32)
        mean, std = statistics.input_mean.numpy(), statistics.input_std.numpy()
        if chance[1] < self.dropout:
            return np.broadcast_to(mean, features.shape).copy(), False
        if chance[2] < self.timbre_dropout:
            features = features.copy()
            features[..., : CHROMA.stop] = mean[: CHROMA.stop]
            return features, True
        if chance[0] < self.transpose:
            features = rotate_chroma(features, semitones)
        offset, gain = normal[0] * std[MFCC] * self.mfcc_offset, 1 + normal[1] * self.mfcc_gain
        return jitter_mfcc(features, offset, gain, mean[MFCC]), True
