"""From a prepared data set to training batches: statistics, windows, codes, augmentation, collators.

Everything is held in memory as float32 and a window is a slice, so one process gives thousands of windows a second and no
worker processes are needed. All randomness is derived from (seed, epoch, index): a run that is resumed in the middle of an
epoch sees exactly what an uninterrupted run sees, whatever the order or the number of workers.

    clips = read_prepared(folder, "train")
    windows = MotionWindows(clips)
    loader = DataLoader(windows, batch_size=32, sampler=EpochSampler(windows), collate_fn=collate)
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE, MOTION_FPS, MUSIC_FEATURE_SIZE
from megadance_hf.modeling.kinematics_megadance import (
    MIRROR_JOINTS,
    MOTION_SIZE,
    NUM_JOINTS,
    ROOT_SIZE,
    ROTATION_SIZE,
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    poses_to_motion,
)
from megadance_hf.modeling.modeling_megadance_classifier import classifier_motion
from megadance_hf.modeling.music_features_megadance import BEAT, CHROMA, MFCC, PEAK
from megadance_hf.modeling.progress_megadance import progress_bar
from megadance_hf.modeling.rhythm_megadance import RHYTHM_SIZE, phase_vectors

from .beats import ESTIMATED, MIN_CONFIDENCE, hear_beats
from .schema import Clip

# A training window (paper, appendix A.1): 240 frames, 8 seconds, 30 codes.
WINDOW = 240
STRIDE = 16
# Normalising must not blow up what hardly moves: 36 to 45 of the 147 channels are constant or nearly so. A rotation entry
# lies in [-1, 1]; velocities are metres a frame, so their floor is another one (0.03 m/s).
ROTATION_STD_FLOOR = 0.05
VELOCITY_STD_FLOOR = 0.001
FEATURE_STD_FLOOR = 0.01


# --- clips ---------------------------------------------------------------------------------------------------------


def songs_of(clips: Sequence[Clip]) -> list[int]:
    """Which song each clip is danced to, numbered in the order in which they come.

    Clips say it (`song`); of those that do not, clips whose music begins alike have one song, and one without music is alone.
    """
    numbers: dict[Any, int] = {}
    heads: list[tuple[int, Clip]] = []
    result = []
    for clip in clips:
        key: Any = clip.song
        if key is None and clip.paired:
            key = next((number for number, known in heads if begin_alike(clip, known)), None)
            if key is None:
                key = -1 - len(heads)
                heads.append((key, clip))
        elif key is None:
            key = (clip.id,)
        result.append(numbers.setdefault(key, len(numbers)))
    return result


def begin_alike(first: Clip, second: Clip, frames: int = 60) -> bool:
    """Whether the music of two clips is the same for up to so many frames (several dances of AIST++ have one song): by their MFCC."""
    frames = min(len(first), len(second), frames)
    one, other = (clip.input_features[:frames, MFCC] for clip in (first, second))
    return float(np.abs(one - other).mean()) < 0.02 * float(np.abs(one).mean() + 1e-9)


def hold_back(clips: Sequence[Clip], share: float = 0.1) -> tuple[list[Clip], list[Clip]]:
    """Clips to train on and clips to measure by: whole songs, `share` of all (at least one), evenly spread over the list.

    Always the same ones for the same clips. Of songs with and without music the former are held back, and the only song of a genre
    only where each is. Nothing is held back where there is a single song (with music, if any has).
    """
    songs = songs_of(clips)
    genres: dict[int, set] = {}
    for clip, song in zip(clips, songs, strict=True):
        genres.setdefault(song, set()).add(clip.genre)
    count: dict[Any, int] = {}
    for found in genres.values():
        for genre in found:
            count[genre] = count.get(genre, 0) + 1
    paired = {song for clip, song in zip(clips, songs, strict=True) if clip.paired}
    free = [song for song in genres if not paired or song in paired]
    wanted = min(max(1, round(share * len(free))), len(free) - 1) if share > 0 else 0
    held: set[int] = set()
    spread = [free[int((index + 0.5) * len(free) / wanted)] for index in range(wanted)]
    # evenly spread ones first, then the others, as some may be the only ones of their genre
    for song in [*spread, *free]:
        if len(held) < wanted and song not in held and all(count[genre] > 1 for genre in genres[song]):
            held.add(song)
            for genre in genres[song]:
                count[genre] -= 1
    held = held or set(spread[:1])
    train = [clip for clip, song in zip(clips, songs, strict=True) if song not in held]
    return train, [clip for clip, song in zip(clips, songs, strict=True) if song in held]


def fitting_length(lengths: Sequence[int], wanted: int, least: int = 2 * FRAMES_PER_CODE) -> int | None:
    """Frames of a window that half of the clips have, a multiple of 8: `wanted`, or where clips are shorter as many as they have.

    None where that is less than `least`.
    """
    if not lengths:
        return None
    middle = sorted(lengths)[len(lengths) // 2]
    length = wanted if middle >= wanted else middle // FRAMES_PER_CODE * FRAMES_PER_CODE
    return length if length >= least else None


# --- motion --------------------------------------------------------------------------------------------------------


def clip_motion(clip: Clip) -> np.ndarray:
    """Motion (T, 147) float32 of a whole clip, so that every window cut from it has true root velocities.

    The step after the last frame is not known; it repeats the one before (zero, as `root_velocity` has it, would be a stop).
    """
    poses = torch.from_numpy(clip.poses).unflatten(-1, (NUM_JOINTS, 3))
    motion = poses_to_motion(poses, torch.from_numpy(clip.translation))
    motion[-1, :ROOT_SIZE] = motion[-2, :ROOT_SIZE]
    return motion.numpy()


def clip_positions(clip: Clip) -> np.ndarray:
    """The same with where the root is instead of how fast it moves, as the genre classifier sees it."""
    return classifier_motion(torch.from_numpy(clip.poses), torch.from_numpy(clip.translation)).numpy()


def _mirror_tables() -> tuple[np.ndarray, np.ndarray]:
    # With S = diag(-1, 1, 1) a mirrored rotation is S R S: in the two rows of 6D the entries with exactly one x change sign.
    joints = [ROOT_SIZE + ROTATION_SIZE * joint + k for joint in MIRROR_JOINTS for k in range(ROTATION_SIZE)]
    sign = [-1.0, 1.0, 1.0] + [1.0, -1.0, -1.0, -1.0, 1.0, 1.0] * NUM_JOINTS
    return np.array([*range(ROOT_SIZE), *joints]), np.array(sign, dtype=np.float32)


MIRROR_CHANNELS, MIRROR_SIGN = _mirror_tables()


def mirror_motion(motion: np.ndarray) -> np.ndarray:
    """Left-right mirror image of a motion (..., 147): channels change places and signs, nothing is computed."""
    return motion[..., MIRROR_CHANNELS] * MIRROR_SIGN


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation by which a model normalises: motion (147,) and music features (35,), float32."""

    motion_mean: Tensor
    motion_std: Tensor
    input_mean: Tensor
    input_std: Tensor

    @classmethod
    def from_clips(cls, clips: Iterable[Clip], mirror: bool = True) -> "Statistics":
        """Statistics of every frame of `clips`, and of their mirror images when `mirror`.

        Standard deviations are floored (see the constants above). Without any music the features get mean 0 and std 1.

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


class _Moments:
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


# --- windows -------------------------------------------------------------------------------------------------------


class _Windows(Dataset):
    """Which frames item `index` holds: shared by the windows over motion and over codes.

    Every clip is cut every `stride` frames. When `random`, each epoch takes every such window once, moved on by less than a
    stride, so that all starts are met and an epoch still covers the data evenly; otherwise exactly the cut ones.
    """

    def __init__(self, length: int, stride: int, random: bool, seed: int):
        if length < 1 or stride < 1:
            raise ValueError(f"length={length} and stride={stride} must be at least 1")
        self.length, self.stride, self.random, self.seed = length, stride, random, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the random numbers of an epoch (a DataLoader with persistent workers would not see it: use none)."""
        self.epoch = epoch

    def _generator(self, index: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, self.epoch, index))

    def _table(self, lengths: Sequence[int]) -> list[tuple[int, int, int]]:
        """Rows of (item, start, number of starts to choose from) for clips of these lengths."""
        rows = []
        for item, frames in enumerate(lengths):
            for start in range(0, frames - self.length + 1, self.stride):
                rows.append((item, start, min(self.stride, frames - self.length + 1 - start) if self.random else 1))
        return rows


class MotionWindows(_Windows):
    """Windows of motion: items `{"motion": (length, 147) float32}`, views of the data: do not write to them.

    For the tokenizer; with `genres` for the genre classifier: `motion` then holds root positions, the window's first at
    x = z = 0, and items have `labels` () int64 as well.

    Args:
        clips: of any length, with or without music.
        length: frames of a window.
        stride: frames between windows.
        mirror: random: each window is mirrored with probability one half; exhaustive: every window also comes mirrored.
        random: see `_Windows`; False gives every window, always in the same order (mirrored ones in the second half).
        short: what to do with a clip shorter than a window: "leave_out" (its id is then in `left_out`), or "reflect": it is
            played forth and back until the window is full. Holding the last pose instead would teach the model to freeze.
        seed: of all randomness, together with epoch and index.
        genres: names in the order of their ids.

    Raises:
        ValueError: no window fits into any clip, or a clip's genre is not in `genres`.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        length: int = WINDOW,
        stride: int = STRIDE,
        mirror: bool = True,
        random: bool = True,
        short: Literal["leave_out", "reflect"] = "leave_out",
        seed: int = 0,
        genres: Sequence[str] | None = None,
    ):
        super().__init__(length, stride, random, seed)
        if short not in ("leave_out", "reflect"):
            raise ValueError(f"short={short!r} is neither 'leave_out' nor 'reflect'")
        self.mirror = mirror
        self.left_out = [clip.id for clip in clips if len(clip) < length and short == "leave_out"]
        used = [_reflect(clip, length) for clip in clips if len(clip) >= length or short == "reflect"]
        self.clip_ids = [clip.id for clip in used]
        # mirror images are kept, not made window by window: half the time for twice the memory (1 GB for 8 hours of dance)
        self._labels = None if genres is None else [_genre_index(clip, genres) for clip in used]
        motions = [clip_motion(clip) if genres is None else clip_positions(clip) for clip in used]
        self._motions = [motions, [mirror_motion(motion) for motion in motions] if mirror else []]
        self._rows = self._table([len(motion) for motion in motions])
        if len(self._rows) == 0:
            raise ValueError(
                f"none of {len(clips)} clips has {length} frames; use a smaller length, or short='reflect'"
            )

    def __len__(self) -> int:
        return len(self._rows) * (2 if self.mirror and not self.random else 1)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        index = range(len(self))[index]
        item, start, choices = self._rows[index % len(self._rows)]
        mirrored = index >= len(self._rows)
        if self.random:
            generator = self._generator(index)
            start += int(generator.integers(choices))
            mirrored = self.mirror and generator.random() < 0.5
        motion = self._motions[mirrored][item][start : start + self.length]
        if self._labels is None:
            return {"motion": torch.from_numpy(motion)}
        motion = motion.copy()
        motion[:, [0, 2]] -= motion[0, [0, 2]]
        return {"motion": torch.from_numpy(motion), "labels": torch.tensor(self._labels[item])}


def window_statistics(windows: MotionWindows) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (147,) of every frame of windows with root positions, for the genre classifier."""
    moments = _Moments(MOTION_SIZE)
    for index in range(len(windows)):
        moments.add(windows[index]["motion"].numpy())
    return moments.result(np.full(MOTION_SIZE, ROTATION_STD_FLOOR))


def _genre_index(clip: Clip, genres: Sequence[str]) -> int:
    if clip.genre not in genres:
        raise ValueError(f"clip {clip.id!r} has genre {clip.genre!r}, which is none of {', '.join(genres)}")
    return list(genres).index(clip.genre)


def _reflect(clip: Clip, length: int) -> Clip:
    missing = length - len(clip)
    if missing <= 0:
        return clip
    pad = ((0, missing), (0, 0))
    return replace(
        clip, poses=np.pad(clip.poses, pad, mode="reflect"), translation=np.pad(clip.translation, pad, mode="reflect")
    )


# --- rhythm --------------------------------------------------------------------------------------------------------


def beat_position(clip: Clip) -> np.ndarray | None:
    """For each frame (T,) float64 the number of beats since the clip's first one; None where the beat is unknown or only a guess.

    Known beats lie on a grid; estimated ones (`megadance_hf/data/beats.py`) wherever they are heard, as a band may speed up.
    """
    if clip.beat_source == ESTIMATED:
        heard = hear_beats(clip.input_features) if clip.paired else None
        return heard.position if heard is not None and clip.beat_confidence >= MIN_CONFIDENCE else None
    if clip.beat_period_s is None or clip.first_beat_s is None or clip.phase_confidence == "low":
        return None
    return (np.arange(len(clip)) / MOTION_FPS - clip.first_beat_s) / clip.beat_period_s


def beat_phase(clip: Clip) -> np.ndarray | None:
    """Phase (T,) in [0, 1) of each frame within its beat; None where the beat is unknown or only a guess."""
    position = beat_position(clip)
    return None if position is None else _phase(position)


def bar_phase(clip: Clip) -> np.ndarray | None:
    """Phase (T,) in [0, 1) of each frame within its bar; None where it is not known which beat begins a bar."""
    position = beat_position(clip)
    return None if position is None or not _knows_bars(clip) else _phase(position / clip.beats_per_bar)


def _knows_bars(clip: Clip) -> bool:
    return bool(clip.beats_per_bar and clip.first_beat_is_downbeat)


def rhythm_labels(clip: Clip) -> np.ndarray:
    """Beat and bar of a clip as `phase_vectors` has them, (T, 4) float32; NaN where they are not known."""
    return _labels(clip, beat_position(clip))


def _labels(clip: Clip, position: np.ndarray | None) -> np.ndarray:
    beat = np.full(len(clip) if position is None else len(position), np.nan, dtype=np.float32)
    bar = beat
    if position is not None:
        beat = _phase(position)
        bar = _phase(position / clip.beats_per_bar) if _knows_bars(clip) else bar
    return phase_vectors(torch.from_numpy(beat), torch.from_numpy(bar)).numpy()


def _phase(position: np.ndarray) -> np.ndarray:
    phase = (position % 1.0).astype(np.float32)
    return np.where(phase < 1.0, phase, 0.0).astype(np.float32)  # 0.99999999 is 1.0 in float32


# --- augmentation: pure functions ------------------------------------------------------------------------------------


def time_stretch(clip: Clip, factor: float) -> Clip:
    """The clip played `factor` times as long (1.1 is slower): motion, music features and beat grid together.

    Rotations are interpolated on the sphere, the root path and the continuous music columns linearly; each beat and peak flag
    goes to the frame nearest to its new time. The encoded audio, which would no longer fit, is dropped.
    """
    if not factor > 0:
        raise ValueError(f"factor={factor} must be above 0")
    before, share = _stretched_frames(len(clip), factor)
    return replace(
        clip,
        poses=_slerp(clip.poses, before, share),
        translation=_blend(clip.translation, before, share),
        input_features=None if clip.input_features is None else stretch_features(clip.input_features, factor),
        audio=None,
        beat_period_s=None if clip.beat_period_s is None else clip.beat_period_s * factor,
        first_beat_s=None if clip.first_beat_s is None else clip.first_beat_s * factor,
    )


def stretch_features(features: np.ndarray, factor: float) -> np.ndarray:
    """Music features (T, 35) played `factor` times as long: see `time_stretch`."""
    before, share = _stretched_frames(len(features), factor)
    stretched = _blend(features, before, share)
    for column in (BEAT, PEAK):
        stretched[:, column] = 0
        flags = np.round(np.flatnonzero(features[:, column]) * factor).astype(np.int64)
        stretched[np.minimum(flags, len(stretched) - 1), column] = 1
    return stretched


def _stretched_frames(frames: int, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """For each frame of the stretched clip the frame before it in the clip, and the share (T', 1) of the one after that."""
    longer = round((frames - 1) * factor) + 1
    position = np.minimum(np.arange(longer) / factor, frames - 1)
    before = np.minimum(position.astype(np.int64), frames - 2)
    return before, (position - before).astype(np.float32)[:, None]


def _blend(rows: np.ndarray, before: np.ndarray, share: np.ndarray) -> np.ndarray:
    return rows[before] * (1 - share) + rows[before + 1] * share


def _slerp(poses: np.ndarray, before: np.ndarray, share: np.ndarray) -> np.ndarray:
    # [frames, joints, 3, 3]
    matrices = axis_angle_to_matrix(torch.from_numpy(poses).unflatten(-1, (NUM_JOINTS, 3)))
    index = torch.from_numpy(before)
    turn = matrix_to_axis_angle(matrices[index].mT @ matrices[index + 1])
    part = axis_angle_to_matrix(turn * torch.from_numpy(share)[..., None])
    return matrix_to_axis_angle(matrices[index] @ part).flatten(-2).numpy()


def rotate_chroma(features: np.ndarray, semitones: int) -> np.ndarray:
    """Music features (..., T, 35) as if the song were transposed: the 12 chroma columns rotated, the rest as it is."""
    result, up = features.copy(), semitones % 12
    result[..., CHROMA.start + up : CHROMA.stop] = features[..., CHROMA.start : CHROMA.stop - up]
    result[..., CHROMA.start : CHROMA.start + up] = features[..., CHROMA.stop - up : CHROMA.stop]
    return result


def jitter_mfcc(features: np.ndarray, offset: np.ndarray, gain: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """As if recorded and mixed otherwise: MFCC columns scaled about `mean` by `gain` and moved by `offset` (20,) each."""
    # one pass over whole rows is faster than two over a part of each
    scale, shift = np.ones(MUSIC_FEATURE_SIZE, np.float32), np.zeros(MUSIC_FEATURE_SIZE, np.float32)
    scale[MFCC], shift[MFCC] = gain, mean * (1 - gain) + offset
    return features * scale + shift


@dataclass(frozen=True)
class MusicAugmentation:
    """How the music features of a training window are varied.

    Attributes:
        transpose: probability of a random transposition (1 to 11 semitones).
        mfcc_offset, mfcc_gain: spread of the random offset, in standard deviations of a column, and of the factor about 1.
        dropout: probability that a window loses its music (features at the mean of the data, `has_music` False).
        timbre_dropout: probability that only the rhythm is left: MFCC and chroma at the mean of the data. These tell one
            song from another, and a model of few songs would rather know them by heart than follow their beat.
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
        self, features: np.ndarray, statistics: Statistics, generator: np.random.Generator
    ) -> tuple[np.ndarray, bool]:
        """Features (T, 35) -> varied features (T, 35), and whether there still is music."""
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


# --- codes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EncodedClip:
    """A clip as codes: `upper[o]`, `lower[o]` (N,) int64 are its codes when encoding begins at frame o = 0 .. 7.

    `rhythm` (T, 4) is what a rhythm encoder reads from the clip's music; None without encoder or music.
    """

    clip: Clip
    upper: tuple[np.ndarray, ...]
    lower: tuple[np.ndarray, ...]
    mirrored: bool = False
    stretch: float = 1.0
    rhythm: np.ndarray | None = None


@torch.no_grad()
def encode_clips(
    tokenizer: Any,
    clips: Sequence[Clip],
    *,
    mirror: bool = True,
    stretches: Sequence[float] = (1.0,),
    encode_rhythm: Callable[[Tensor], Tensor | None] | None = None,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> list[EncodedClip]:
    """Codes of whole clips, for each of the 8 frames at which the first code can begin.

    Args:
        tokenizer: has `encode`, or is itself a function: motion (1, T, 147), T a multiple of 8 -> an output with
            `upper_codes` and `lower_codes` (1, T/8).
        clips: at least 16 frames each.
        mirror: also encode each clip's mirror image.
        stretches: time factors to encode each clip with (see `time_stretch`); 1.0 is the clip itself.
        encode_rhythm: a generator's `model.encode_rhythm`: music features (1, T, 35) -> (1, T, 4).
        device: where the tokenizer and the rhythm encoder are.
        progress: show a progress bar.

    Raises:
        ValueError: there is no stretch, or one that is more than a factor of 2.
    """
    if not stretches or not all(0.5 <= factor <= 2 for factor in stretches):
        raise ValueError(
            f"stretches={list(stretches)!r}: give factors from 0.5 to 2, 1.0 among them for the clips themselves"
        )
    encode: Callable[[Tensor], Any] = getattr(tokenizer, "encode", tokenizer)
    result = []
    for clip in progress_bar(clips, unit="clip", desc="encoding", disable=not progress):
        for factor in stretches:
            variant = clip if factor == 1.0 else time_stretch(clip, factor)
            variant = replace(variant, audio=None)
            motion, rhythm = clip_motion(variant), None
            if encode_rhythm is not None and variant.paired:
                read = encode_rhythm(torch.from_numpy(variant.input_features[None]).to(device))
                rhythm = None if read is None else read[0].float().cpu().numpy()
            for mirrored in (False, True) if mirror else (False,):
                if mirrored:
                    motion = mirror_motion(motion)
                upper, lower = [], []
                for offset in range(FRAMES_PER_CODE):
                    frames = (len(motion) - offset) // FRAMES_PER_CODE * FRAMES_PER_CODE
                    codes = encode(torch.from_numpy(motion[None, offset : offset + frames]).to(device))
                    upper.append(codes.upper_codes[0].cpu().numpy())
                    lower.append(codes.lower_codes[0].cpu().numpy())
                result.append(EncodedClip(variant, tuple(upper), tuple(lower), mirrored, float(factor), rhythm))
    return result


_FLAGS = (torch.tensor(False), torch.tensor(True))


@dataclass(frozen=True)
class _Variant:
    """An encoded clip with what every window of it needs."""

    encoded: EncodedClip
    genre_id: int


class CodeWindows(_Windows):
    """Windows of music and codes for the generator.

    Items, for `length` L frames (a multiple of 8): `input_features` (L, 35) float32, `upper_codes` and `lower_codes` (L/8,)
    int64, `genre_ids` () int64, `has_music` () bool (False: the features are the mean of the data), and, when any clip was
    encoded with a rhythm encoder, `rhythm` (L, 4) float32, zero without music. Tensors may be views of the data: do not
    write to them.

    Windows begin at any frame, not only at every eighth: the codes of the fitting offset are used.

    Args:
        encoded: from `encode_clips`. When `random`, the mirrored and stretched variants of a clip stand in for one another;
            otherwise each of them is cut into windows.
        genres: names in the order of their ids.
        statistics: of the training data (mean features for missing music, spread for the augmentation).
        length, stride, random, seed: see `MotionWindows`.
        augmentation: of the music; None leaves the features as they are.
        repeats: how often windows of a genre come in an epoch (1 when not named), each time with other random numbers;
            for genres with little data.

    Raises:
        ValueError: a clip's genre is not in `genres`, or no window fits into any clip.
    """

    def __init__(
        self,
        encoded: Sequence[EncodedClip],
        genres: Sequence[str],
        statistics: Statistics,
        length: int = WINDOW,
        stride: int = STRIDE,
        random: bool = True,
        augmentation: MusicAugmentation | None = None,
        repeats: Mapping[str, int] | None = None,
        seed: int = 0,
    ):
        super().__init__(length, stride, random, seed)
        if length % FRAMES_PER_CODE:
            raise ValueError(f"length={length} must be a multiple of {FRAMES_PER_CODE}")
        ids = {item.clip.id: _genre_index(item.clip, genres) for item in encoded}
        self.genres, self.statistics, self.augmentation = tuple(genres), statistics, augmentation
        self.left_out = sorted({item.clip.id for item in encoded if len(item.clip) < length})
        groups: dict[Any, list[_Variant]] = {}
        for number, item in enumerate(encoded):
            if len(item.clip) >= length:
                variant = _Variant(item, ids[item.clip.id])
                groups.setdefault(item.clip.id if random else number, []).append(variant)
        # the variant nearest to the clip itself leads its group: windows are counted on it
        self._groups = [
            sorted(group, key=lambda v: (v.encoded.mirrored, abs(v.encoded.stretch - 1))) for group in groups.values()
        ]
        rows = self._table([len(group[0].encoded.clip) for group in self._groups])
        if len(rows) == 0:
            raise ValueError(f"none of {len(encoded)} encoded clips has {length} frames; use a smaller length")
        for name, number in (repeats or {}).items():
            if number < 0:
                raise ValueError(f"repeats.{name}={number!r}: give 0 or more")
        times = [(repeats or {}).get(group[0].encoded.clip.genre, 1) for group in self._groups]
        self._rows = [row for row in rows for _ in range(times[row[0]])]
        if not self._rows:
            raise ValueError("repeats leave no window: give some genre of the data 1 or more")
        self._silence = statistics.input_mean.numpy()[None].repeat(length, axis=0)
        self._has_rhythm = any(item.rhythm is not None for item in encoded)
        self._no_rhythm = np.zeros((length, RHYTHM_SIZE), dtype=np.float32)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def genre_ids(self) -> np.ndarray:
        """Genre id (len(self),) of every item, without making it."""
        return np.array([self._groups[row[0]][0].genre_id for row in self._rows])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        index = range(len(self))[index]
        group, start, choices = self._rows[index]
        variants = self._groups[group]
        variant, generator = variants[0], None
        if self.random:
            generator = self._generator(index)
            start += int(generator.integers(choices))
            chosen = variants[generator.integers(len(variants))]
            # the same place in the music, in a variant that is longer or shorter
            start = round(start * chosen.encoded.stretch / variant.encoded.stretch)
            start = min(start, len(chosen.encoded.clip) - self.length)
            variant = chosen
        clip = variant.encoded.clip
        frames = slice(start, start + self.length)
        step, offset = divmod(start, FRAMES_PER_CODE)
        codes = slice(step, step + self.length // FRAMES_PER_CODE)
        has_music = clip.paired
        features = clip.input_features[frames] if has_music else self._silence
        if has_music and self.augmentation is not None and generator is not None:
            features, has_music = self.augmentation(features, self.statistics, generator)
        item = {
            "input_features": torch.from_numpy(features),
            "upper_codes": torch.from_numpy(variant.encoded.upper[offset][codes]),
            "lower_codes": torch.from_numpy(variant.encoded.lower[offset][codes]),
            "genre_ids": torch.tensor(variant.genre_id),
            "has_music": _FLAGS[has_music],
        }
        if self._has_rhythm:
            rhythm = variant.encoded.rhythm if has_music else None
            item["rhythm"] = torch.from_numpy(self._no_rhythm if rhythm is None else rhythm[frames])
        return item


class RhythmWindows(_Windows):
    """Windows of music with its beat and bar for the rhythm encoder; who dances does not matter.

    Items: `input_features` (length, 35) and `rhythm_labels` (length, 4) float32, see `rhythm_labels`.

    Args:
        clips: with music whose beats are known or clearly heard (see `beat_position`); the others are left out.
        statistics: of the training data, for the augmentation.
        length, stride, random, seed: see `MotionWindows`.
        augmentation: of the music; its `dropout` gives windows without any, whose rhythm is zero.
        tempo: when `random`, windows are played up to this factor slower or faster, so that tempos are known that no song
            of the data has.

    Raises:
        ValueError: no clip has such beats and `length * tempo` frames.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        statistics: Statistics,
        length: int = 320,
        stride: int = STRIDE,
        random: bool = True,
        augmentation: MusicAugmentation | None = None,
        tempo: float = 1.0,
        seed: int = 0,
    ):
        super().__init__(length, stride, random, seed)
        if not 1 <= tempo <= 2:
            raise ValueError(f"tempo={tempo} must be a factor from 1 (as it is) to 2")
        self.statistics, self.augmentation, self.tempo = statistics, augmentation, tempo if random else 1.0
        # a faster window needs more frames; one more, because the last frame has none after it to blend with
        self._span = int(np.ceil(length * self.tempo)) + 1
        self._clips, self._positions = [], []
        for clip in clips:
            position = beat_position(clip) if clip.paired and len(clip) >= self._span else None
            if position is not None:
                self._clips.append(clip)
                self._positions.append(position)
        self._rows = self._table([len(clip) - self._span + length for clip in self._clips])
        if len(self._rows) == 0:
            raise ValueError(
                f"none of {len(clips)} clips has music with beats that are known or clearly heard and {self._span} frames; use a "
                "smaller length"
            )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        index = range(len(self))[index]
        item, start, choices = self._rows[index]
        clip, factor, generator = self._clips[item], 1.0, None
        if self.random:
            generator = self._generator(index)
            start += int(generator.integers(choices))
            factor = float(np.exp(generator.uniform(-1, 1) * np.log(self.tempo)))
        features = clip.input_features[start : start + self._span]
        position = self._positions[item][start : start + self._span]
        if factor != 1.0:
            features = stretch_features(features, factor)
            before, share = _stretched_frames(self._span, factor)
            position = _blend(position[:, None], before, share)[:, 0]
        features, has_music = features[: self.length], True
        if self.augmentation is not None and generator is not None:
            features, has_music = self.augmentation(features, self.statistics, generator)
        labels = _labels(clip, position[: self.length])
        return {
            "input_features": torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32)),
            "rhythm_labels": torch.from_numpy(labels if has_music else np.zeros_like(labels)),
        }


# --- batches -------------------------------------------------------------------------------------------------------


class EpochSampler(Sampler[int]):
    """Every index once, in an order derived from (seed, epoch); `set_epoch` also sets the epoch of the windows.

    With `genre_run`, every so many windows in a row are of one genre, so that a batch of `batch_size` windows has at most
    `batch_size / genre_run` genres and the experts get more windows each (see `benchmarks/mixed_batches.py`). What is left
    over of each genre, less than a run, comes last in the epoch. 1 mixes freely; above needs windows with `genre_ids`.
    """

    def __init__(self, windows: MotionWindows | CodeWindows | RhythmWindows, seed: int = 0, genre_run: int = 1):
        if genre_run < 1 or (genre_run > 1 and not hasattr(windows, "genre_ids")):
            raise ValueError(
                f"genre_run={genre_run}: give 1, or more with windows that know their genres (CodeWindows)"
            )
        self.windows, self.seed, self.epoch, self.genre_run = windows, seed, windows.epoch, genre_run

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.windows.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.windows)

    def __iter__(self) -> Iterator[int]:
        # a third number keeps the order apart from the random numbers of item `index`
        generator = np.random.default_rng((self.seed, self.epoch, 0, 1))
        order = generator.permutation(len(self.windows))
        if self.genre_run > 1:
            order = _in_runs(order, self.windows.genre_ids[order], self.genre_run, generator)
        return iter(order.tolist())


def _in_runs(order: np.ndarray, genres: np.ndarray, run: int, generator: np.random.Generator) -> np.ndarray:
    runs, left = [], []
    for genre in np.unique(genres):
        own = order[genres == genre]
        whole = len(own) // run * run
        runs.extend(own[:whole].reshape(-1, run))
        left.append(own[whole:])
    return np.concatenate([*(runs[index] for index in generator.permutation(len(runs))), *left])


def collate(items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Items of equal shapes -> a batch."""
    return {key: torch.stack([item[key] for item in items]) for key in items[0]}
