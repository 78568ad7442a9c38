"""Excerpts of test songs, what a model is asked to dance to (right and wrong music, right and wrong genres), and its dances."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from megadance_hf.data.clip import Clip
from megadance_hf.data.splits import begin_alike
from megadance_hf.data.windows import free_starts
from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE, MOTION_FPS
from megadance_hf.modeling.kinematics_megadance import NUM_JOINTS
from megadance_hf.motion.motion import Motion

from .synchrony import feature_beats

DANCES_AT_ONCE = 64
# The song as it is; delayed by one and a half beats; another song; none (the mean of the training data).
MUSIC = ("right", "shifted", "swapped", "zeroed")
SHIFT_BEATS = 1.5
SHIFT_SECONDS = 0.7  # where no beat is known
# Tempos nearer than this are the same: a dance to one song then fits the other but for its phase.
SAME_TEMPO = 0.05
WRONG_GENRES = 4  # "four randomly sampled negative genres", section 4.4


@dataclass(frozen=True)
class Excerpt:
    """A piece of a test song: `clip` is cut out of `song` from frame `start`."""

    clip: Clip
    song: Clip
    start: int = 0


@dataclass
class Dance:
    """One dance to one excerpt: poses (T, 24, 3), root path (T, 3), joints (T, 24, 3) metres; `genre` is what was asked for.

    `codes` are those of the upper and the lower body that it was decoded from, None where it was not. `cleaned` is the same dance after
    the clean-up, None where there is none.
    """

    excerpt: int
    poses: np.ndarray
    translation: np.ndarray
    genre: str | None = None
    seed: int = 0
    codes: tuple[np.ndarray, np.ndarray] | None = None
    cleaned: "Dance | None" = None
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
        units=None,
        first_beat_s=None if clip.first_beat_s is None else clip.first_beat_s - start / MOTION_FPS,
    )


def excerpts_of(clips: Sequence[Clip], length: int, stride: int | None = None) -> list[Excerpt]:
    """Excerpts of `length` frames of each clip, one every `stride` frames, or only the first when None.

    A shorter clip gives one excerpt of all its whole codes; frames after the last whole code are dropped. Excerpts with a marked frame
    are left out, as in the release of 2026.
    """
    excerpts = []
    for clip in clips:
        frames = min(length, len(clip)) // FRAMES_PER_CODE * FRAMES_PER_CODE
        starts = free_starts(clip, range(0, len(clip) - frames + 1, stride) if stride else (0,), frames)
        excerpts.extend(Excerpt(cut(clip, start, frames), clip, start) for start in starts)
    return excerpts


def evenly(items: Sequence[Any], count: int | None) -> list[Any]:
    """At most `count` of them, evenly spread: of a set that is sorted by genre all genres stay."""
    if count is None or len(items) <= count:
        return list(items)
    return [items[index] for index in np.linspace(0, len(items) - 1, count).round().astype(int)]


@dataclass(frozen=True, eq=False)
class Request:
    """What a dancer is asked for.

    Attributes:
        excerpt: its index.
        music: features (S, 35) of the whole song.
        genre: to be danced.
        start, frames: the piece of the music that is danced to; beat and bar are read from all of it.
        attributes: quantiles that are asked for, in the order of the model's attributes, None for those that are not.
    """

    excerpt: int
    music: np.ndarray
    genre: str
    start: int
    frames: int
    attributes: tuple[float | None, ...] = ()

    @property
    def input_features(self) -> np.ndarray:
        """Features (`frames`, 35) of the piece."""
        return self.music[self.start : self.start + self.frames]


# --- right and wrong music and genres -----------------------------------------------------------------------------------


def music_as(condition: str, song: Clip, other: Clip | None, mean: np.ndarray) -> np.ndarray:
    """Features (T, 35) of a whole song under a condition of `MUSIC`; `mean` (35,) is that of the training data.

    Shifted music is delayed, and what falls off the end comes first. A shorter other song is repeated.
    """
    features = song.input_features
    if condition == "shifted":
        period = beat_period(song)
        seconds = SHIFT_SECONDS if period is None else SHIFT_BEATS * period
        return np.roll(features, round(seconds * MOTION_FPS), axis=0)
    if condition == "swapped":
        return np.resize(other.input_features, features.shape)
    if condition == "zeroed":
        return np.broadcast_to(mean.astype(np.float32), features.shape).copy()
    return features


def beat_period(clip: Clip) -> float | None:
    """Seconds per beat: from the data set, else the median over the beats of the features; None without any."""
    if clip.beat_period_s is not None:
        return clip.beat_period_s
    intervals = np.diff(feature_beats(clip))
    return float(np.median(intervals)) / MOTION_FPS if len(intervals) else None


def same_track(first: Clip, second: Clip) -> bool:
    """Whether two clips have the same music (several dances of AIST++ do): their MFCCs start alike."""
    return begin_alike(first, second, frames=300)


def other_songs(clips: Sequence[Clip], frames: Sequence[int]) -> list[int | None]:
    """For each clip the index of another song to replace its music; None where all have the same track.

    Never the same track; preferably one that has as many `frames` as are needed, then one of another tempo. Among equals
    the next in order, so that all are used alike.
    """
    partners: list[int | None] = []
    for index, clip in enumerate(clips):
        period, best = beat_period(clip), None
        for step in range(1, len(clips)):
            candidate = (index + step) % len(clips)
            other = clips[candidate]
            if same_track(clip, other):
                continue
            other_period = beat_period(other)
            differs = period is not None and other_period is not None and abs(other_period / period - 1) > SAME_TEMPO
            rank = (len(other) >= frames[index], differs)
            if best is None or rank > best[0]:
                best = (rank, candidate)
        partners.append(None if best is None else best[1])
    return partners


def own_music(excerpts: Sequence[Excerpt]) -> list[Request]:
    """Each excerpt with its own music and genre."""
    return [
        Request(index, item.song.input_features, item.clip.genre, item.start, len(item.clip))
        for index, item in enumerate(excerpts)
    ]


def wrong_music(
    excerpts: Sequence[Excerpt], others: Sequence[int | None], condition: str, mean: np.ndarray
) -> list[Request]:
    """Each excerpt with its own genre and the music of a condition; "swapped" skips excerpts without another song."""
    requests: list[Request] = []
    made: dict[tuple[str, str | None], np.ndarray] = {}
    for index, (item, other) in enumerate(zip(excerpts, others, strict=True)):
        if other is None and condition == "swapped":
            continue
        swapped = None if other is None else excerpts[other].song
        key = (item.song.id, swapped and swapped.id)  # a song has many excerpts
        if key not in made:
            made[key] = music_as(condition, item.song, swapped, mean)
        requests.append(Request(index, made[key], item.clip.genre, item.start, len(item.clip)))
    return requests


def wrong_genres(excerpts: Sequence[Excerpt], genres: Sequence[str], seed: int) -> list[Request]:
    """Each excerpt with four other genres, drawn once per evaluation; with all others where there are no more."""
    generator, requests = np.random.default_rng((seed, 3)), []
    for right in own_music(excerpts):
        others = [genre for genre in genres if genre != right.genre]
        drawn = sorted(generator.permutation(len(others))[:WRONG_GENRES])
        requests.extend(replace(right, genre=others[number]) for number in drawn)
    return requests


def _attributes_of(requests: Sequence[Request]) -> torch.Tensor | None:
    """[requests, attributes], NaN where nothing is asked; None where nothing is asked at all. All or none of them ask."""
    if not requests[0].attributes:
        return None
    return torch.tensor([[np.nan if one is None else one for one in request.attributes] for request in requests])


# --- dancing -------------------------------------------------------------------------------------------------------------


def decoded_dance(
    excerpt: int, decoded: Mapping[str, Any], cleaned: Mapping[str, Any], genre: str, seed: int, codes: Any
) -> Dance:
    """A dance of two results of `post_process_motion`, without and with the clean-up."""
    dance, other = (Dance(excerpt, d["poses"], d["translation"], genre, seed, codes) for d in (decoded, cleaned))
    dance.cleaned = other
    return dance


class Dancer:
    """Generates dances in batches; the same key and seed give the same dances, whatever else is evaluated.

    They are as they were decoded, and `cleaned` of each is the same dance after the pipeline's clean-up. The rhythm encoder, if there is
    one, reads the whole song that an excerpt is a piece of.
    """

    def __init__(self, pipe: Any, seeds: int, seed: int, progress: Callable[[int], Any] = lambda done: None):
        self.pipe, self.seeds, self.seed, self.progress = pipe, seeds, seed, progress

    def __call__(self, key: str, requests: Sequence[Request]) -> list[Dance]:
        """`seeds` dances to each request, ordered by excerpt and seed."""
        jobs = [(request, number) for request in requests for number in range(self.seeds)]
        jobs.sort(key=lambda job: -job[0].frames)  # stable: batches of nearly equal length
        dances = []
        for first in range(0, len(jobs), DANCES_AT_ONCE):
            batch = jobs[first : first + DANCES_AT_ONCE]
            state = np.random.SeedSequence((self.seed, zlib.crc32(key.encode()), first)).generate_state(1)
            made = self._generate([job[0] for job in batch], int(state[0]))
            for (request, number), (codes, *versions) in zip(batch, made, strict=True):
                dances.append(decoded_dance(request.excerpt, *versions, request.genre, number, codes))
            self.progress(len(batch))
        return sorted(dances, key=lambda dance: (dance.excerpt, dance.seed))

    def _generate(self, requests: Sequence[Request], seed: int) -> list[tuple[Any, ...]]:
        """Codes of each dance, the dance as decoded, and cleaned."""
        pipe, frames = self.pipe, [request.frames for request in requests]

        def padded(pieces: list[np.ndarray]) -> torch.Tensor:
            return torch.from_numpy(
                np.stack([np.pad(one, ((0, max(frames) - len(one)), (0, 0)), mode="edge") for one in pieces])
            )

        mask = torch.arange(max(frames))[None] < torch.tensor(frames)[:, None]
        rhythms = self._rhythms(requests)
        # the pipeline's own default: greedy decoding soon repeats itself
        sampling = {"do_sample": True} if pipe.model.generation_config.do_sample is None else {}
        outputs = pipe.model.generate(
            padded([request.input_features for request in requests]),
            torch.tensor([pipe.processor.genre_id(request.genre) for request in requests]),
            attention_mask=mask,
            rhythm=None if rhythms is None else padded(rhythms),
            seed=seed,
            attributes=_attributes_of(requests),
            **sampling,
        )
        excerpts = {"begins": False, "ends": False}
        decoded, cleaned = (
            pipe.processor.post_process_motion(outputs, pipe.tokenizer, frames, clean=clean, **excerpts)
            for clean in (False, True)
        )
        upper, lower = (np.asarray(torch.as_tensor(c).cpu()) for c in (outputs.upper_codes, outputs.lower_codes))
        steps = [-(-count // FRAMES_PER_CODE) for count in frames]
        codes = [(u[:n], v[:n]) for u, v, n in zip(upper, lower, steps, strict=True)]
        return list(zip(codes, decoded, cleaned, strict=True))

    @torch.no_grad()
    def _rhythms(self, requests: Sequence[Request]) -> list[np.ndarray] | None:
        """Beat and bar (frames, 4) of each piece, read from all of its music; None without rhythm encoder."""
        model, read, rhythms = self.pipe.model, {}, []
        for one in requests:
            # a whole song is read to the end of its last whole code, as it is when it is danced to
            whole = one.start == 0 and len(one.music) - one.frames < FRAMES_PER_CODE
            key = (id(one.music), one.frames if whole else len(one.music))
            if key not in read:
                music = torch.from_numpy(np.ascontiguousarray(one.music[: key[1]]))
                rhythm = model.model.encode_rhythm(music[None].to(model.device))
                if rhythm is None:
                    return None
                read[key] = rhythm[0].float().cpu().numpy()
            rhythms.append(read[key][one.start : one.start + one.frames])
        return rhythms
