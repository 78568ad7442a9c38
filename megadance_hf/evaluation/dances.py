"""Excerpts of test songs, and the dances that a model generates to them."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from megadance_hf.data.clip import Clip
from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE, MOTION_FPS
from megadance_hf.modeling.kinematics_megadance import NUM_JOINTS
from megadance_hf.motion.motion import Motion

DANCES_AT_ONCE = 64


@dataclass(frozen=True)
class Excerpt:
    """A piece of a test song: `clip` is cut out of `song` from frame `start`."""

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
        self.joints = Motion(self.poses, self.translation).joints()


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
    """Excerpts of `length` frames of each clip, one every `stride` frames, or only the first when None.

    A shorter clip gives one excerpt of all its whole codes; frames after the last whole code are dropped.
    """
    excerpts = []
    for clip in clips:
        frames = min(length, len(clip)) // FRAMES_PER_CODE * FRAMES_PER_CODE
        starts = range(0, len(clip) - frames + 1, stride) if stride else (0,)
        excerpts.extend(Excerpt(cut(clip, start, frames), clip, start) for start in starts)
    return excerpts


# What a dancer is asked for: index of the excerpt, music features (T, 35), genre.
Request = tuple[int, np.ndarray, str]


class Dancer:
    """Generates dances in batches; the same key and seed give the same dances, whatever else is evaluated."""

    def __init__(self, pipe: Any, seeds: int, seed: int, progress: Callable[[int], Any] = lambda done: None):
        self.pipe, self.seeds, self.seed, self.progress = pipe, seeds, seed, progress

    def __call__(self, key: str, requests: Sequence[Request]) -> list[Dance]:
        """`seeds` dances to each request, ordered by excerpt and seed."""
        jobs = [(request, number) for request in requests for number in range(self.seeds)]
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

    def _generate(self, requests: Sequence[Request], seed: int) -> list[dict[str, np.ndarray]]:
        frames = [len(features) for _, features, _ in requests]
        padded = np.stack([np.pad(f, ((0, max(frames) - len(f)), (0, 0)), mode="edge") for _, f, _ in requests])
        mask = torch.arange(max(frames))[None] < torch.tensor(frames)[:, None]
        pipe = self.pipe
        # the pipeline's own default: greedy decoding soon repeats itself
        sampling = {"do_sample": True} if pipe.model.generation_config.do_sample is None else {}
        outputs = pipe.model.generate(
            torch.from_numpy(padded),
            torch.tensor([pipe.processor.genre_id(genre) for _, _, genre in requests]),
            attention_mask=mask,
            seed=seed,
            **sampling,
        )
        return pipe.processor.post_process_motion(outputs, pipe.tokenizer, frames)
