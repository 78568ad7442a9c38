"""The dances that an evaluation compares: a model's to right and wrong music and genres, baselines, and each one's numbers."""

import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from megadance_hf import metrics
from megadance_hf.data.clip import Clip, clip_motion
from megadance_hf.data.rhythm import bar_phase
from megadance_hf.data.segments import SEGMENT_FRAMES
from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE, MOTION_FPS
from megadance_hf.modeling.kinematics_megadance import (
    NUM_JOINTS,
    axis_angle_to_matrix,
    forward_kinematics,
    ground_translation,
    motion_to_poses,
)

from . import synchrony

WRONG_GENRES = 4  # "four randomly sampled negative genres", section 4.4
DANCES_AT_ONCE = 64
RETRIEVAL_STRIDE = 16


@dataclass(frozen=True)
class Excerpt:
    """A piece of a test song: `clip` is what is cut out, from frame `start` of `song`."""

    clip: Clip
    song: Clip
    start: int = 0


@dataclass
class Dance:
    """One dance to one excerpt: poses (T, 24, 3), root path (T, 3), joints (T, 24, 3) metres; `genre` is what was asked for."""

    excerpt: int
    poses: np.ndarray
    translation: np.ndarray
    genre: str | None = None
    seed: int = 0
    joints: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.poses = self.poses.reshape(-1, NUM_JOINTS, 3)
        self.joints = synchrony.joints_of(self.poses, self.translation)


def cut(clip: Clip, start: int, frames: int) -> Clip:
    """A piece of a clip with its music and beat grid."""
    piece = slice(start, start + frames)
    return replace(
        clip,
        id=f"{clip.id}@{start}" if start else clip.id,
        poses=clip.poses[piece],
        translation=clip.translation[piece],
        input_features=None if clip.input_features is None else clip.input_features[piece],
        audio=None,
        first_beat_s=None if clip.first_beat_s is None else clip.first_beat_s - start / MOTION_FPS,
    )


def excerpts_of(clips: Sequence[Clip], length: int, stride: int | None = None) -> list[Excerpt]:
    """Pieces of `length` frames of each clip, one every `stride` frames, or only the first when None.

    A shorter clip gives one of all its whole codes, so its last frames can fall away.
    """
    found = []
    for clip in clips:
        frames = min(length, len(clip)) // FRAMES_PER_CODE * FRAMES_PER_CODE
        starts = range(0, len(clip) - frames + 1, stride) if stride else (0,)
        found.extend(Excerpt(cut(clip, start, frames), clip, start) for start in starts)
    return found


# --- dances --------------------------------------------------------------------------------------------------------------


class Dancer:
    """Generates dances in batches; the same key and seed give the same dances, whatever else is evaluated."""

    def __init__(self, pipe: Any, seeds: int, seed: int, progress: Callable[[int], Any] = lambda done: None):
        self.pipe, self.seeds, self.seed, self.progress = pipe, seeds, seed, progress

    def __call__(self, key: str, wishes: Sequence[tuple[int, np.ndarray, str]]) -> list[Dance]:
        """`wishes` are (excerpt, features, genre); gives `seeds` dances to each."""
        jobs = [(wish, number) for wish in wishes for number in range(self.seeds)]
        jobs.sort(key=lambda job: -len(job[0][1]))  # stable: batches of nearly equal length
        dances = []
        for first in range(0, len(jobs), DANCES_AT_ONCE):
            batch = jobs[first : first + DANCES_AT_ONCE]
            state = np.random.SeedSequence((self.seed, zlib.crc32(key.encode()), first)).generate_state(1)
            made = self._generate([job[0] for job in batch], int(state[0]))
            for ((excerpt, _, genre), number), dance in zip(batch, made, strict=True):
                dances.append(Dance(excerpt, dance["poses"], dance["translation"], genre, number))
            self.progress(len(batch))
        return sorted(dances, key=lambda dance: (dance.excerpt, dance.seed))

    def _generate(self, wishes: Sequence[tuple[int, np.ndarray, str]], seed: int) -> list[dict[str, np.ndarray]]:
        frames = [len(features) for _, features, _ in wishes]
        padded = np.stack([np.pad(f, ((0, max(frames) - len(f)), (0, 0)), mode="edge") for _, f, _ in wishes])
        mask = torch.arange(max(frames))[None] < torch.tensor(frames)[:, None]
        pipe = self.pipe
        # the pipeline's own default: the likeliest codes alone soon repeat themselves
        sampling = {"do_sample": True} if pipe.model.generation_config.do_sample is None else {}
        outputs = pipe.model.generate(
            torch.from_numpy(padded),
            torch.tensor([pipe.processor.genre_id(genre) for _, _, genre in wishes]),
            attention_mask=mask,
            seed=seed,
            **sampling,
        )
        return pipe.processor.post_process_motion(outputs, pipe.tokenizer, frames)


def own_music(excerpts: Sequence[Excerpt]) -> list[tuple[int, np.ndarray, str]]:
    return [(index, item.clip.input_features, item.clip.genre) for index, item in enumerate(excerpts)]


def wrong_music(
    excerpts: Sequence[Excerpt], others: Sequence[int | None], condition: str, mean: np.ndarray
) -> list[tuple[int, np.ndarray, str]]:
    wishes = []
    for index, (item, other) in enumerate(zip(excerpts, others, strict=True)):
        if other is None and condition == "swapped":
            continue
        heard = synchrony.music_as(condition, item.song, None if other is None else excerpts[other].song, mean)
        wishes.append((index, np.ascontiguousarray(heard[item.start : item.start + len(item.clip)]), item.clip.genre))
    return wishes


def wrong_genres(excerpts: Sequence[Excerpt], genres: Sequence[str], seed: int) -> list[tuple[int, np.ndarray, str]]:
    """Each excerpt with four other genres, drawn once for an evaluation; with all others where there are no more."""
    generator, wishes = np.random.default_rng((seed, 3)), []
    for index, item in enumerate(excerpts):
        others = [genre for genre in genres if genre != item.clip.genre]
        drawn = sorted(generator.permutation(len(others))[:WRONG_GENRES])
        wishes.extend((index, item.clip.input_features, others[number]) for number in drawn)
    return wishes


# --- baselines -----------------------------------------------------------------------------------------------------------


def _placed(motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Motion (T, 147) -> poses and root path on the floor, as generated dances are placed."""
    poses, translation = motion_to_poses(torch.from_numpy(motion))
    first = forward_kinematics(axis_angle_to_matrix(poses[0]), torch.zeros(3))
    translation = translation - torch.tensor([0.0, float(first[:, 1].min()), 0.0])
    return poses.numpy(), ground_translation(poses, translation).numpy()


class NearestMusic:
    """Retrieval: for every eight seconds of a song the motion of those of the training set whose music is nearest.

    Music features are standardised, averaged over each code's frames and stacked; the distance is Euclidean. The motions are
    put one after another with the root path going on; poses jump where they meet.
    """

    def __init__(self, clips: Sequence[Clip]):
        self._clips = [clip for clip in clips if clip.paired and len(clip) >= SEGMENT_FRAMES]
        if not self._clips:
            raise ValueError(f"no training clip with music has {SEGMENT_FRAMES} frames to be retrieved")
        every = np.concatenate([clip.input_features for clip in self._clips])
        self._mean, self._std = every.mean(0), np.maximum(every.std(0), 1e-3)
        self._places: list[tuple[int, int]] = []
        rows = []
        steps = SEGMENT_FRAMES // FRAMES_PER_CODE
        for index, clip in enumerate(self._clips):
            described = self._describe(clip.input_features)
            for start in range(0, len(clip) - SEGMENT_FRAMES + 1, RETRIEVAL_STRIDE):
                self._places.append((index, start))
                first = start // FRAMES_PER_CODE
                rows.append(described[first : first + steps].ravel())
        self._rows = np.stack(rows)

    def _describe(self, features: np.ndarray) -> np.ndarray:
        steps = len(features) // FRAMES_PER_CODE
        normal = (features[: steps * FRAMES_PER_CODE] - self._mean) / self._std
        return normal.reshape(steps, FRAMES_PER_CODE, -1).mean(1).astype(np.float32)

    def __call__(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Music (T, 35), T a multiple of 8 -> poses (T, 24, 3) and root path (T, 3)."""
        described, pieces = self._describe(features), []
        for first in range(0, len(described), SEGMENT_FRAMES // FRAMES_PER_CODE):
            wanted = described[first : first + SEGMENT_FRAMES // FRAMES_PER_CODE].ravel()
            rows = self._rows[:, : wanted.size]
            index, start = self._places[int(((rows - wanted) ** 2).sum(1).argmin())]
            length = wanted.size // features.shape[1] * FRAMES_PER_CODE
            pieces.append(clip_motion(self._clips[index])[start : start + length])
        return _placed(np.concatenate(pieces))


def baselines(
    pipe: Any, excerpts: Sequence[Excerpt], others: Sequence[int | None], training: Sequence[Clip]
) -> tuple[dict[str, list[Dance]], list[str]]:
    """The rows that need no generator, and why one is missing."""
    rows: dict[str, list[Dance]] = defaultdict(list)
    notes: list[str] = []
    nearest = None
    try:
        nearest = NearestMusic(training)
    except ValueError as error:
        notes.append(f"nearest music is left out: {error}")
    for index, (item, other) in enumerate(zip(excerpts, others, strict=True)):
        clip, genre = item.clip, item.clip.genre
        rows["ground_truth"].append(Dance(index, clip.poses, clip.translation, genre))
        if other is not None and len(excerpts[other].song) >= len(clip):
            song = excerpts[other].song
            start = min(item.start, len(song) - len(clip))
            piece = cut(song, start, len(clip))
            rows["other_song"].append(Dance(index, piece.poses, piece.translation, genre))
        else:
            notes.append(f"ground truth of another song leaves out {clip.id}: no other song is as long")
        if nearest is not None:
            rows["nearest_music"].append(Dance(index, *nearest(clip.input_features), genre))
        held = (np.repeat(clip.poses[:1], len(clip), 0), np.repeat(clip.translation[:1], len(clip), 0))
        rows["frozen_pose"].append(Dance(index, *held, genre))
        with torch.no_grad():
            codes = pipe.tokenizer.encode(torch.from_numpy(clip_motion(clip)[None]).to(pipe.tokenizer.device))
        decoded = pipe.processor.post_process_motion(codes, pipe.tokenizer, len(clip))[0]
        rows["tokenizer"].append(Dance(index, decoded["poses"], decoded["translation"], genre))
    return rows, notes


# --- numbers of one dance ---------------------------------------------------------------------------------------------


def physical_numbers(dance: Dance) -> dict[str, float]:
    """What no distribution shows. Feet are judged with the lowest joint put on the floor in every row, as in generated dances:
    data sets differ in where their floor is."""
    joints = dance.joints
    floor = ground_translation(torch.from_numpy(dance.poses), torch.from_numpy(dance.translation)).numpy()
    standing = joints + (floor - dance.translation)[:, None]
    return {
        "foot_skating_ratio": metrics.foot_skating_ratio(standing),
        "foot_speed_on_floor": metrics.foot_speed_on_floor(standing),
        "physical_foot_contact": metrics.physical_foot_contact(standing),
        "frozen_share": metrics.frozen_share(joints),
        "mean_speed": metrics.mean_speed(joints),
        "jerk": metrics.jerk(joints),
        "largest_step": metrics.largest_step(joints),
    }


def measure_dance(dance: Dance, excerpt: Excerpt, profiles: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """All numbers of one dance: physical, beat alignment with the features' beats and the data set's, beat and bar."""
    clip = excerpt.clip
    heard, known = synchrony.heard_beats(clip), synchrony.known_beats(clip)
    row: dict[str, Any] = {"song": excerpt.song.id, "excerpt": clip.id, "seed": dance.seed, "genre": dance.genre}
    row |= physical_numbers(dance)
    for over in ("music", "motion"):
        row[f"bas_over_{over}"] = metrics.beat_alignment(dance.joints, heard, over)
        row[f"bas_over_{over}_known_beats"] = (
            None if known is None else metrics.beat_alignment(dance.joints, known, over)
        )
    beats = synchrony.beat_synchrony(dance.joints, heard if known is None else known)
    for over in ("music", "motion"):
        row[f"beat_over_{over}"] = None if beats is None else beats[over]
    phase, own = bar_phase(clip), synchrony.joints_of(clip.poses, clip.translation)
    row["bar"] = row["bar_of_the_song"] = None
    if phase is not None:
        if clip.genre in profiles:
            row["bar"] = synchrony.bar_synchrony(dance.joints, phase, profiles[clip.genre])
        row["bar_of_the_song"] = synchrony.bar_synchrony(dance.joints, phase, metrics.bar_profile(own, phase))
    return row
