"""Augmentation: motion mirrored or corrupted, clips played slower or faster, music transposed, remixed or silent. Pure functions."""

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


# --- faults of recordings ------------------------------------------------------------------------------------------------
# The kinds that the paper names in appendix A.4. Each changes frames `start` to `stop` - 1 of a motion (T, 147) and returns a copy.

# Collar, shoulder, elbow, wrist and hand.
_ARM_JOINTS = ((13, 16, 18, 20, 22), (14, 17, 19, 21, 23))
_ARM_COLUMNS = [
    np.ravel([range(ROOT_SIZE + ROTATION_SIZE * j, ROOT_SIZE + ROTATION_SIZE * (j + 1)) for j in arm]).tolist()
    for arm in _ARM_JOINTS
]


def displace_root(motion: np.ndarray, start: int, stop: int, offset: np.ndarray) -> np.ndarray:
    """The root jumps by `offset` (3,), metres, and back. The steps there are those of frames `start` - 1 and `stop` - 1.

    With `start` 0 only the way back is seen, with `stop` beyond the end only the way there.
    """
    motion = motion.copy()
    if start > 0:
        motion[start - 1, :ROOT_SIZE] += offset
    if stop <= len(motion):
        motion[stop - 1, :ROOT_SIZE] -= offset
    return motion


def hold_frames(motion: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Frames drop out: frame `start` is held, and the step after the last one leads to where the body has been going."""
    motion = motion.copy()
    way = motion[start:stop, :ROOT_SIZE].sum(0)
    motion[start:stop] = motion[start]
    motion[start:stop, :ROOT_SIZE] = 0
    motion[min(stop, len(motion)) - 1, :ROOT_SIZE] = way
    return motion


def freeze_arm(motion: np.ndarray, start: int, stop: int, arm: int) -> np.ndarray:
    """The joints of the left (`arm` 0) or right (1) arm keep the rotations of frame `start` relative to the body."""
    motion = motion.copy()
    motion[start:stop, _ARM_COLUMNS[arm]] = motion[start, _ARM_COLUMNS[arm]]
    return motion


@dataclass(frozen=True)
class MotionCorruption:
    """Random faults of a recording, for inputs whose targets stay clean. Not in the paper, which only names such faults (A.4).

    Attributes:
        jumps: share of frames, on average, in which the root is displaced by 0.3 to 1 m, for up to half a second.
        dropouts: share of frames that dropped out: 4 to 15 frames show the first of them.
        frozen_arms: share of frames in which an arm is frozen, for half a second to two.
    """

    jumps: float = 0.0
    dropouts: float = 0.0
    frozen_arms: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__dict__:
            if not 0 <= getattr(self, name) <= 0.5:
                raise ValueError(f"{name}={getattr(self, name)!r} is a share of frames: give 0 to 0.5")

    def __bool__(self) -> bool:
        return any(self.__dict__.values())

    def __call__(self, motion: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Motion (T, 147) -> a corrupted copy, and which frames (T,) bool were touched."""
        frames, touched = len(motion), np.zeros(len(motion), dtype=bool)
        # a stream for each kind, so that switching one off does not change the others
        for name, (shortest, longest), seed in zip(
            ("jumps", "dropouts", "frozen_arms"),
            ((2, 15), (4, 15), (15, 60)),
            generator.integers(2**62, size=3),
            strict=True,
        ):
            own = np.random.default_rng(seed)
            mean = (shortest + longest) / 2
            # a fault may begin before the first frame, so that all frames are touched equally often
            for _ in range(own.poisson(getattr(self, name) * (frames + mean - 1) / mean)):
                length = int(own.integers(shortest, longest + 1))
                start = int(own.integers(1 - length, frames))
                first, stop = max(0, start), min(start + length, frames)
                if name == "jumps":
                    way = own.normal(size=3) * [1, 0.5, 1]
                    offset = (own.uniform(0.3, 1.0) * way / np.linalg.norm(way)).astype(np.float32)
                    motion = displace_root(motion, first, start + length, offset)
                    first = max(0, first - 1)
                elif name == "dropouts":
                    motion = hold_frames(motion, first, stop)
                else:
                    motion = freeze_arm(motion, first, stop, int(own.integers(2)))
                touched[first:stop] = True
        return motion, touched


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
