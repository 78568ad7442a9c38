"""Training segments: data sets whose items are pieces of equal length, cut from clips of any length.

All data are held in memory as float32 and a segment is a slice, so one process makes thousands of segments per second and needs no
workers. All randomness is derived from (seed, epoch, index): a run that is resumed in the middle of an epoch sees exactly the same
items, whatever their order or the number of workers.

    clips = read_prepared(folder, "train")
    segments = MotionSegments(clips)
    loader = DataLoader(segments, batch_size=32, sampler=EpochSampler(segments), collate_fn=collate)
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from megadance_hf.modeling.code_head_megadance import IGNORED
from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE
from megadance_hf.modeling.kinematics_megadance import ROOT_SIZE
from megadance_hf.modeling.rhythm_megadance import RHYTHM_SIZE

from .augmentation import (
    MotionCorruption,
    MusicAugmentation,
    blend_frames,
    mirror_motion,
    stretch_features,
    stretched_frames,
)
from .clip import Clip, clip_motion, clip_positions
from .codes import EncodedClip
from .rhythm import beat_position, labels_at
from .statistics import Statistics
from .windows import free_starts, noise_of, usable_frames

# A training segment (paper, appendix A.1): 240 frames, 8 seconds, 30 codes.
SEGMENT_FRAMES = 240
SEGMENT_STRIDE = 16


class Segments(Dataset):
    """Which frames item `index` holds; subclasses fill `_rows` from `_table`.

    Every clip is cut every `stride` frames. With `random`, each epoch has every such segment once, shifted by less than a stride, so that
    every start occurs while an epoch still covers the data evenly. Without, there are exactly the segments of the cuts. With
    `drop_marked` no segment has a marked frame; with `until_muq` clips end as in `window_starts`.
    """

    _rows: list[tuple[int, Sequence[int]]]

    def __init__(
        self, length: int, stride: int, random: bool, seed: int, drop_marked: bool = False, until_muq: bool = False
    ):
        if length < 1 or stride < 1:
            raise ValueError(f"length={length} and stride={stride} must be at least 1")
        self.length, self.stride, self.random, self.seed = length, stride, random, seed
        self.drop_marked, self.until_muq = drop_marked, until_muq
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the random numbers of an epoch. Persistent workers of a DataLoader would not see it: use none."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def genre_ids(self) -> np.ndarray | None:
        """Genre id (len(self),) of every item, without making it; None where items have none."""
        return None

    def _draw(self, index: int) -> tuple[int, int, np.random.Generator | None]:
        """Clip and start of an item, and with `random` the generator of its further random numbers."""
        item, starts = self._rows[index % len(self._rows)]
        if not self.random:
            return item, starts[0], None
        generator = np.random.default_rng((self.seed, self.epoch, index))
        return item, starts[int(generator.integers(len(starts)))], generator

    def _table(self, clips: Sequence[Clip], spare: int = 0) -> list[tuple[int, Sequence[int]]]:
        """Rows of (clip, starts to choose from); a segment needs `spare` more frames than `length`."""
        rows = []
        for item, clip in enumerate(clips):
            end = usable_frames(clip, self.until_muq) - self.length - spare + 1
            for start in range(0, end, self.stride):
                starts: Sequence[int] = range(start, min(start + self.stride, end) if self.random else start + 1)
                if self.drop_marked:
                    starts = free_starts(clip, starts, self.length)
                if starts:
                    rows.append((item, starts))
        return rows

    def _no_segment(self, clips: str) -> ValueError:
        unmarked = " without a marked one" if self.drop_marked else ""
        return ValueError(f"none of {clips} has {self.length} frames{unmarked}; use a smaller length")


class MotionSegments(Segments):
    """Segments of motion for the tokenizer: items `{"motion": (length, 147) float32}`. They are views of the data: do not write to them.

    With `mask_noise` items also have `loss_mask` (length,) bool, False for frames of noise; with `corruption` they have `input_motion`, a
    corrupted copy of the motion.

    With `genres` for the genre classifier: `motion` then has root positions in place of velocities, beginning at x = z = 0, and items
    have `labels` () int64 as well.

    Args:
        clips: of any length, with or without music.
        length: frames of a segment.
        stride: frames between segments.
        mirror: with `random` each segment is mirrored with probability 0.5, without it every segment also comes mirrored.
        random: shift each segment by less than a stride, anew in every epoch. False gives the same segments in the same order, mirrored
            ones in the second half.
        short: what happens to a clip shorter than a segment: "leave_out" (its id is then in `left_out`), or "reflect", which plays it
            forwards and backwards until the segment is full. Holding the last pose would teach the model to freeze.
        seed: of all randomness, together with epoch and index.
        genres: names in the order of their ids.
        drop_marked: leave out segments with a frame that the source marks as bad.
        until_muq: clips end where their MuQ features end, at a whole code.
        isolated: a segment is cut from its clip before its velocities are made, so the last one is zero, as in the released loaders.
        mask_noise: leave frames of noise (see `noise_of`) out of the losses, instead of whole segments as `drop_marked` does.
        corruption: faults of a recording that the inputs get and the targets do not; None for none.

    Raises:
        ValueError: no segment fits into any clip, a clip's genre is not in `genres`, or what is asked does not go together.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        length: int = SEGMENT_FRAMES,
        stride: int = SEGMENT_STRIDE,
        mirror: bool = True,
        random: bool = True,
        short: Literal["leave_out", "reflect"] = "leave_out",
        seed: int = 0,
        genres: Sequence[str] | None = None,
        drop_marked: bool = False,
        until_muq: bool = False,
        isolated: bool = False,
        mask_noise: bool = False,
        corruption: MotionCorruption | None = None,
    ):
        super().__init__(length, stride, random, seed, drop_marked, until_muq)
        if isolated and genres is not None:
            raise ValueError("isolated=True is about velocities, which segments with genres do not have; leave it out")
        if genres is not None and (mask_noise or corruption):
            raise ValueError("mask_noise and corruption are about the tokenizer's losses; leave them out with genres")
        if corruption and not random:
            raise ValueError("random=False gives the same segments in every epoch; leave corruption out")
        if short not in ("leave_out", "reflect"):
            raise ValueError(f"short={short!r} is neither 'leave_out' nor 'reflect'")
        self.mirror, self.isolated, self.corruption = mirror, isolated, corruption
        self.left_out = [clip.id for clip in clips if len(clip) < length and short == "leave_out"]
        used = [_reflect(clip, length) for clip in clips if len(clip) >= length or short == "reflect"]
        self.clip_ids = [clip.id for clip in used]
        # mirror images are kept: half the time per segment for twice the memory (1 GB for 8 hours of dance)
        self._labels = None if genres is None else [_genre_index(clip, genres) for clip in used]
        motions = [clip_motion(clip) if genres is None else clip_positions(clip) for clip in used]
        self._clean = [~noise_of(clip) for clip in used] if mask_noise else None
        self._motions = [motions, [mirror_motion(motion) for motion in motions] if mirror else []]
        self._rows = self._table(used)
        if len(self._rows) == 0:
            raise ValueError(f"{self._no_segment(f'{len(clips)} clips')}, or short='reflect'")

    def __len__(self) -> int:
        return len(self._rows) * (2 if self.mirror and not self.random else 1)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        index = range(len(self))[index]
        item, start, generator = self._draw(index)
        mirrored = index >= len(self._rows) if generator is None else self.mirror and generator.random() < 0.5
        frames = slice(start, start + self.length)
        motion = self._motions[mirrored][item][frames]
        if self._labels is None:
            if self.isolated:
                motion = motion.copy()
                motion[-1, :ROOT_SIZE] = 0
            segment = {"motion": torch.from_numpy(motion)}
            if self._clean is not None:
                segment["loss_mask"] = torch.from_numpy(self._clean[item][frames])
            if self.corruption and generator is not None:
                segment["input_motion"] = torch.from_numpy(self.corruption(motion, generator)[0])
            return segment
        motion = motion.copy()
        motion[:, [0, 2]] -= motion[0, [0, 2]]
        return {"motion": torch.from_numpy(motion), "labels": torch.tensor(self._labels[item])}


def _genre_index(clip: Clip, genres: Sequence[str]) -> int:
    if clip.genre is None or clip.genre not in genres:
        raise ValueError(f"clip {clip.id!r} has genre {clip.genre!r}, which is none of {', '.join(genres)}")
    return list(genres).index(clip.genre)


def _reflect(clip: Clip, length: int) -> Clip:
    pad = ((0, max(0, length - len(clip))), (0, 0))
    poses, translation = (np.pad(rows, pad, mode="reflect") for rows in (clip.poses, clip.translation))
    muq_frames = clip.muq_frames if len(clip) >= length else None
    return replace(clip, poses=poses, translation=translation, muq_frames=muq_frames)


class CodeSegments(Segments):
    """Segments of music and codes for the generator.

    Items, for `length` L frames (a multiple of 8): `input_features` (L, 35) float32, `upper_codes` and `lower_codes` (L/8,)
    int64, `genre_ids` () int64, `attributes` (L/8, 7) float32 as measured, if the clips were encoded with them, `has_music` () bool (False: the features are the mean of the data) and, if any clip was encoded with a
    rhythm encoder, `rhythm` (L, 4) float32, zero without music. If clips were encoded with masked noise or corrupted,
    `upper_labels` and `lower_labels` (L/8,) are what to predict: codes of the clean motion, -100 where one has a frame of noise. Tensors may be views of the data: do not write to them.

    Segments begin at any frame, not only at multiples of 8: clips are encoded at all eight offsets.

    Args:
        encoded: from `encode_clips`. With `random`, each segment is taken from one of its clip's mirrored and stretched variants;
            without, all of them are cut into segments.
        genres: names in the order of their ids.
        statistics: of the training data: mean features stand for missing music, standard deviations scale the augmentation.
        length, stride, random, seed: see `MotionSegments`.
        augmentation: of the music; None leaves the features as they are.
        repeats: how often segments of a genre come in an epoch (default 1), each time with other random numbers; for genres with
            little data.
        drop_marked, until_muq: see `MotionSegments`.

    Raises:
        ValueError: a clip's genre is not in `genres`, or no segment fits into any clip.
    """

    def __init__(
        self,
        encoded: Sequence[EncodedClip],
        genres: Sequence[str],
        statistics: Statistics,
        length: int = SEGMENT_FRAMES,
        stride: int = SEGMENT_STRIDE,
        random: bool = True,
        augmentation: MusicAugmentation | None = None,
        repeats: Mapping[str, int] | None = None,
        seed: int = 0,
        drop_marked: bool = False,
        until_muq: bool = False,
    ):
        super().__init__(length, stride, random, seed, drop_marked, until_muq)
        if length % FRAMES_PER_CODE:
            raise ValueError(f"length={length} must be a multiple of {FRAMES_PER_CODE}")
        ids = {item.clip.id: _genre_index(item.clip, genres) for item in encoded}
        self.encoded, self.genres = tuple(encoded), tuple(genres)
        self.statistics, self.augmentation = statistics, augmentation
        self.left_out = sorted({item.clip.id for item in encoded if len(item.clip) < length})
        groups: dict[Any, list[EncodedClip]] = {}
        for number, item in enumerate(encoded):
            if len(item.clip) >= length:
                groups.setdefault(item.clip.id if random else number, []).append(item)
        # the variant nearest to the clip itself leads its group: segments are counted on it
        self._groups = [sorted(group, key=lambda v: (v.mirrored, abs(v.stretch - 1))) for group in groups.values()]
        self._genre_ids = [ids[group[0].clip.id] for group in self._groups]
        rows = self._table([group[0].clip for group in self._groups])
        if len(rows) == 0:
            raise self._no_segment(f"{len(encoded)} encoded clips")
        for name, number in (repeats or {}).items():
            if number < 0:
                raise ValueError(f"repeats.{name}={number!r}: give 0 or more")
        times = [(repeats or {}).get(genres[genre_id], 1) for genre_id in self._genre_ids]
        self._rows = [row for row in rows for _ in range(times[row[0]])]
        if not self._rows:
            raise ValueError("repeats leave no segment: give some genre of the data 1 or more")
        self._silence = statistics.input_mean.numpy()[None].repeat(length, axis=0)
        self._has_rhythm = any(item.rhythm is not None for item in encoded)
        self._has_labels = any(item.noisy is not None or item.inputs is not None for item in encoded)
        self._no_rhythm = np.zeros((length, RHYTHM_SIZE), dtype=np.float32)

    @property
    def genre_ids(self) -> np.ndarray:
        return np.array([self._genre_ids[row[0]] for row in self._rows])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        group, start, generator = self._draw(range(len(self))[index])
        variants = self._groups[group]
        variant = variants[0]
        if generator is not None:
            chosen = variants[generator.integers(len(variants))]
            # the same place in the music of a longer or shorter variant, unless a marked frame lies there
            place = min(round(start * chosen.stretch / variant.stretch), len(chosen.clip) - self.length)
            if not self.drop_marked or free_starts(chosen.clip, [place], self.length):
                variant, start = chosen, place
        clip = variant.clip
        frames = slice(start, start + self.length)
        step, offset = divmod(start, FRAMES_PER_CODE)
        codes = slice(step, step + self.length // FRAMES_PER_CODE)
        has_music = clip.input_features is not None
        features = self._silence if clip.input_features is None else clip.input_features[frames]
        if has_music and self.augmentation is not None and generator is not None:
            features, has_music = self.augmentation(features, self.statistics, generator)
        targets = (variant.upper, variant.lower)
        upper, lower = (torch.from_numpy(stream[offset][codes]) for stream in variant.inputs or targets)
        item = {
            "input_features": torch.from_numpy(features),
            "upper_codes": upper,
            "lower_codes": lower,
            "genre_ids": torch.tensor(self._genre_ids[group]),
            "has_music": torch.tensor(has_music),
        }
        if variant.attributes is not None:  # of the frame in the middle of each code
            item["attributes"] = torch.from_numpy(variant.attributes[frames][FRAMES_PER_CODE // 2 :: FRAMES_PER_CODE])
        if self._has_labels:
            noisy = np.zeros(self.length, dtype=bool) if variant.noisy is None else variant.noisy[frames]
            noisy = noisy.reshape(-1, FRAMES_PER_CODE).any(1)
            for name, stream in zip(("upper_labels", "lower_labels"), targets, strict=True):
                item[name] = torch.from_numpy(np.where(noisy, IGNORED, stream[offset][codes]))
        if self._has_rhythm:
            rhythm = variant.rhythm if has_music else None
            item["rhythm"] = torch.from_numpy(self._no_rhythm if rhythm is None else rhythm[frames])
        return item


class RhythmSegments(Segments):
    """Segments of music with its beats and bars, for the rhythm encoder. The dance does not matter.

    Items: `input_features` (length, 35) and `rhythm_labels` (length, 4) float32, see `rhythm_labels`.

    Args:
        clips: those with music whose beats are known or clear (see `beat_position`) are used.
        statistics: of the training data, for the augmentation.
        length, stride, random, seed: see `MotionSegments`.
        augmentation: of the music; where it drops the music, the rhythm is zero.
        tempo: with `random`, segments are played slower or faster by up to this factor, for tempos that no song of the data has.

    Raises:
        ValueError: no clip has such beats and `length * tempo` frames.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        statistics: Statistics,
        length: int = 320,
        stride: int = SEGMENT_STRIDE,
        random: bool = True,
        augmentation: MusicAugmentation | None = None,
        tempo: float = 1.0,
        seed: int = 0,
    ):
        super().__init__(length, stride, random, seed)
        if not 1 <= tempo <= 2:
            raise ValueError(f"tempo={tempo} must be a factor from 1 (as it is) to 2")
        self.statistics, self.augmentation, self.tempo = statistics, augmentation, tempo if random else 1.0
        # a faster segment needs more frames, and its last one needs a successor to blend with
        self._span = int(np.ceil(length * self.tempo)) + 1
        self._music: list[tuple[Clip, np.ndarray, np.ndarray]] = []
        for clip in clips:
            if clip.input_features is not None and len(clip) >= self._span:
                if (position := beat_position(clip)) is not None:
                    self._music.append((clip, clip.input_features, position))
        self._rows = self._table([clip for clip, _, _ in self._music], self._span - length)
        if len(self._rows) == 0:
            raise ValueError(
                f"none of {len(clips)} clips has music with beats that are known or clear and {self._span} frames; use a "
                "smaller length"
            )

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        item, start, generator = self._draw(range(len(self))[index])
        clip, features, position = self._music[item]
        factor = 1.0
        if generator is not None:
            factor = float(np.exp(generator.uniform(-1, 1) * np.log(self.tempo)))
        features, position = features[start : start + self._span], position[start : start + self._span]
        if factor != 1.0:
            features = stretch_features(features, factor)
            before, share = stretched_frames(self._span, factor)
            position = blend_frames(position[:, None], before, share)[:, 0]
        features, has_music = features[: self.length], True
        if self.augmentation is not None and generator is not None:
            features, has_music = self.augmentation(features, self.statistics, generator)
        labels = labels_at(clip, position[: self.length])
        return {
            "input_features": torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32)),
            "rhythm_labels": torch.from_numpy(labels if has_music else np.zeros_like(labels)),
        }


def fitting_length(lengths: Sequence[int], wanted: int, least: int = 2 * FRAMES_PER_CODE) -> int | None:
    """Segment length that half of the clips have: `wanted`, or the longest multiple of 8 where they are shorter; None below `least`."""
    if not lengths:
        return None
    middle = sorted(lengths)[len(lengths) // 2]
    length = wanted if middle >= wanted else middle // FRAMES_PER_CODE * FRAMES_PER_CODE
    return length if length >= least else None
