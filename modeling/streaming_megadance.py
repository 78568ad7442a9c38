"""Streaming: a dance to live music, blocks of sound in, finished frames out, with a bounded delay.

    stream = DanceStream(model, tokenizer, feature_extractor, genre_id, sampling_rate=44100, seed=0)
    for block in microphone:
        for chunk in stream.push(block):
            chunk.poses, chunk.translation            # the next frames of the dance
    for chunk in stream.finish():                         # the last frames: the dance is as long as the music
        ...

`MusicToDancePipeline.stream` wraps this as a loop over `Motion`s. A whole song allows looking ahead; here the music of the future is
missing, in three places:

- Features (`LiveMusic`). With every code step, the features of the last three seconds are computed again and replace the former
  ones, except near their left edge. Beats are tracked in the last twenty seconds and an expected continuation, which repeats the
  onsets of one rhythmic period ago.
- Beat and bar (`live_rhythm`). The rhythm encoder looks eight seconds ahead, so the newest frames are uncertain. Phase grows
  linearly, so a straight line through the last twenty seconds is better than the newest frames themselves. With
  `rhythm_tempo="steady"` the tempo is fitted to these twenty seconds, not to the song, and kept on in what is expected.
- Future codes (`CodeStream.foresee`). A frame is decoded from its own code and several later ones; without these it is off by ten
  centimetres. So the generator continues with the expected music, its state is restored, and the foreseen codes are decoded after
  the final ones. It uses the random numbers of the final codes: where the music meets the expectation, the dance does.

Frames are final once returned. Where later codes would have changed them, the next frames continue from them in position and speed,
and reach the new course within `BLEND_FRAMES` (`PoseStream`). Each frame is cleaned up by those before it, which takes no further delay.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .arguments_megadance import (
    LENGTH_OPTIONS,
    STEP_OPTIONS,
    check_generation,
    merge_generation,
    seed_number,
    whole_number,
)
from .attributes_megadance import check_attributes
from .audio_megadance import AudioError, LiveMix
from .backends_megadance import check_backend
from .clean_up_megadance import CleanUpStream
from .codecs_megadance import decoder_reach
from .conditions_megadance import Conditions, genre_weights, pass_weights
from .feature_extraction_megadance import MegaDanceFeatureExtractor
from .generation_megadance import choose
from .kinematics_megadance import (
    MOTION_SIZE,
    ROOT_SIZE,
    axis_angle_to_matrix,
    forward_kinematics,
    ground_translation,
    motion_to_poses,
    root_heading,
    turn_motion,
)
from .music_features_megadance import (
    BEAT,
    EVENTS,
    MUSIC_FEATURE_SIZE,
    ONSET_ENVELOPE,
    PEAK,
    music_features,
    onset_peaks,
    sound_library,
    track_beats,
)
from .rhythm_megadance import steady_rhythm
from .sound_files_megadance import check_rate
from .threads_megadance import own_threads, use_one_thread

GUESS_CODES = 4  # default number of codes that are foreseen
BLEND_FRAMES = 12  # frames in which a dance blends from what was returned to what later codes make of it

_ANALYSED_ROWS = 96  # rows whose features are computed again with every code step
_EDGE_ROWS = 40  # rows to the left of a row that its spectrum, its medians and the longest chroma filter depend on
_HISTORY_ROWS = 600  # rows for beat tracking and the rhythm encoder: 20 s
_EXPECTED_ROWS = 60
_SHORTEST_PERIOD, _LONGEST_PERIOD, _COMPARED_ROWS = 24, 100, 120
# The line through the phase: number of rows, decay of the weights of older rows, number of newest rows left out.
_PHASE_ROWS, _PHASE_MEMORY, _PHASE_UNSURE = 600, 200.0, 15
_BEAT_FRAMES, _BAR_FRAMES = (8, 30), (30, 100)  # shortest and longest beat and bar
_FLOOR_ROWS = 72  # frames that the floor under a frame depends on, and a few more


# --- music -----------------------------------------------------------------------------------------------------------


class LiveMusic:
    """Features of live music, one code step at a time.

    Args:
        extractor: computes the features.
        sampling_rate: of the blocks, in Hz.
        step_rows: rows (frames) per code step.

    Attributes:
        steps: number of code steps so far, see `advance`.
        rows: (n, 35) float32, the last 20 s up to the newest step; the first of them is row `first_row` of the song.
    """

    def __init__(self, extractor: MegaDanceFeatureExtractor, sampling_rate: int, step_rows: int) -> None:
        rate = extractor.sampling_rate
        self.extractor, self.step_rows, self.steps = extractor, step_rows, 0
        self.rows, self.first_row = np.zeros((0, MUSIC_FEATURE_SIZE), np.float32), 0
        self._resampler = None
        if sampling_rate != rate:
            self._resampler = sound_library("soxr").ResampleStream(sampling_rate, rate, 1, dtype="float32")
        self._sound, self._first_sample = np.zeros(0, np.float32), 0
        self._last: tuple[int, np.ndarray] | None = None  # the previous analysis: its first row, its rows
        self._level = self._loudest = 0.0

    @property
    def samples(self) -> int:
        """Samples received so far, at the extractor's rate."""
        return self._first_sample + len(self._sound)

    def push(self, block: np.ndarray, last: bool = False) -> None:
        """Add a mono block (samples,); the `last` one flushes the resampler."""
        if self._resampler is not None:
            block = self._resampler.resample_chunk(block, last=last)
        self._sound = np.concatenate((self._sound, block))

    def ready(self) -> bool:
        """Whether there is music for another whole code step."""
        return self.samples >= (self.steps + 1) * self.step_rows * self.extractor.hop_length

    def advance(self, rows: int | None = None) -> None:
        """Compute the features of the next code step. Of the last one only `rows` may be music; it is completed as
        `MegaDanceProcessor` does it, by its last row, without beats."""
        hop, begin = self.extractor.hop_length, self.steps * self.step_rows
        end = begin + (self.step_rows if rows is None else rows)
        first = max(0, begin + self.step_rows - _ANALYSED_ROWS)
        self._sound = self._sound[first * hop - self._first_sample :]
        self._first_sample = first * hop
        count = end * hop - self._first_sample if rows is None else len(self._sound)
        recent = music_features(self._sound[:count], self.extractor.sampling_rate, hop)[: end - first]
        self._adjust_loudness(first, recent)
        valid = first if first == 0 else first + _EDGE_ROWS  # before that the previous analysis was better
        kept = self.rows[: max(0, valid - self.first_row)]
        self.rows = np.concatenate((kept, recent[valid - first :]))
        if rows is not None and rows < self.step_rows:
            rest = np.repeat(self.rows[-1:], self.step_rows - rows, axis=0)
            rest[:, EVENTS] = 0
            self.rows = np.concatenate((self.rows, rest))
        dropped = max(0, len(self.rows) - _HISTORY_ROWS)
        self.rows, self.first_row = self.rows[dropped:], self.first_row + dropped
        self.steps += 1

    def _adjust_loudness(self, first: int, recent: np.ndarray) -> None:
        """The first MFCC is relative to the loudest row of an analysis; make it relative to the loudest row so far.

        The rows that two analyses share, without their edges, show by how much their references differ.
        """
        if self._last is not None:
            before, rows = self._last
            shared = slice(first - before + 2, len(rows) - 3)
            differences = rows[shared, 0] - recent[2:, 0][: len(rows[shared])]
            if len(differences):
                self._level += float(np.median(differences))
        self._last = (first, recent.copy())
        if self._level > self._loudest:
            self.rows[:, 0] -= self._level - self._loudest
            self._loudest = self._level
        recent[:, 0] += self._level - self._loudest

    def with_expected(self, count: int) -> np.ndarray:
        """`rows` and `count` expected rows, with the beats and peaks of both: (n + count, 35)."""
        rows = np.concatenate((self.rows, expected_rows(self.rows, count)))
        envelope = rows[:, ONSET_ENVELOPE]
        rows[:, EVENTS] = 0
        if envelope.any():
            beats = track_beats(envelope, self.extractor.sampling_rate, self.extractor.hop_length)[1]
            rows[beats, BEAT] = 1
            rows[onset_peaks(envelope), PEAK] = 1
        return rows


def expected_rows(rows: np.ndarray, count: int) -> np.ndarray:
    """The expected continuation of music: `count` rows that repeat those of one rhythmic period ago.

    The period is the lag, 0.8 to 3.3 s, with the highest autocorrelation of the onset envelope over four seconds. If there are too
    few rows, the last one is repeated.
    """
    envelope = rows[:, ONSET_ENVELOPE]
    best, period = 0.0, 1
    for lag in range(_SHORTEST_PERIOD, min(_LONGEST_PERIOD, len(rows) // 2) + 1):
        compared = min(_COMPARED_ROWS, len(rows) - lag)
        now, then = envelope[-compared:], envelope[-compared - lag : -lag]
        now, then = now - now.mean(), then - then.mean()
        correlation = 2 * float(now @ then) / (float(now @ now + then @ then) or 1.0)
        if correlation > best:
            best, period = correlation, lag
    return rows[len(rows) - period + np.arange(count) % period]


# --- beat and bar ----------------------------------------------------------------------------------------------------


def live_rhythm(model: Any, rows: Tensor, frames: int) -> Tensor | None:
    """Beat and bar of live music, [n, 4] as those of `encode_rhythm`; None for a model without rhythm encoder.

    Args:
        model: a `MegaDanceForMotionGeneration`.
        rows: [n, features] of the last seconds and those that are expected.
        frames: number of the former, whole code steps. With `rhythm_tempo="steady"` they alone are fitted (`steady_rhythm`); the encoder
            hears the expected ones too, and beat and bar go on in them at the last tempo.
    """
    rhythm = model.base_model.read_rhythm(rows[None])
    if rhythm is None:
        return None
    if model.config.rhythm_tempo == "free":
        return steady_phase(rhythm[0].float(), frames)
    steady = steady_rhythm(rhythm[:, :frames].float())[0]
    beat_and_bar = torch.view_as_complex(steady.double().unflatten(-1, (2, 2)).contiguous())
    last, turns = beat_and_bar[-1], (beat_and_bar[-1] * beat_and_bar[-2].conj()).angle()
    after = torch.arange(1, len(rows) - frames + 1, dtype=turns.dtype, device=turns.device)[:, None]
    line = last * torch.polar(torch.ones_like(after), after * turns)
    return torch.cat((steady, torch.view_as_real(line).flatten(1).to(steady)))


def steady_phase(rhythm: Tensor, frames: int) -> Tensor:
    """Extrapolate beat and bar phase at and after the end of the music.

    Args:
        rhythm: [n, 4] of `encode_rhythm`: cosine and sine of the beat's phase, then of the bar's.
        frames: number of frames that are music; the others are ignored. With less than two seconds nothing is changed.

    Returns:
        [n, 4]. From half a second before the end of the music on, each vector turns at the constant rate that fits the last twenty
        seconds best, newer frames weighing more. The less these agree, the shorter it is.
    """
    fitted = frames - _PHASE_UNSURE
    if fitted < 2 * _SHORTEST_PERIOD:
        return rhythm
    rhythm = rhythm.clone()
    known = rhythm[max(0, fitted - _PHASE_ROWS) : fitted].double()
    before = torch.arange(1 - len(known), 1, dtype=torch.double, device=rhythm.device)
    weights = (before / _PHASE_MEMORY).exp()
    after = torch.arange(1, len(rhythm) - fitted + 1, dtype=torch.double, device=rhythm.device)
    for column, (shortest, longest) in ((0, _BEAT_FRAMES), (2, _BAR_FRAMES)):
        vectors = torch.complex(known[:, column], known[:, column + 1]) * weights
        # closer than twenty seconds can resolve
        turns = torch.linspace(1 / longest, 1 / shortest, 256, dtype=torch.double, device=rhythm.device)
        sums = torch.polar(torch.ones(()).to(before), -2 * math.pi * turns[:, None] * before) @ vectors
        best = int(sums.abs().argmax())
        line = sums[best] / weights.sum() * torch.polar(torch.ones_like(after), 2 * math.pi * turns[best] * after)
        rhythm[fitted:, column], rhythm[fitted:, column + 1] = line.real.to(rhythm), line.imag.to(rhythm)
    return rhythm


# --- codes -----------------------------------------------------------------------------------------------------------


# Options of `generate` that a stream has not: it is one dance, without a sliding window, and its output is codes.
_NOT_STREAMED = {
    *("generation_config", "mode", "num_return_sequences", "use_cache", "output_scores", "output_logits"),
    *STEP_OPTIONS,
}


class CodeStream:
    """`generate(mode="stream")` one code at a time: the same codes for the same features, rhythm and seed.

    Args:
        model: a `MegaDanceForMotionGeneration`.
        genre_id: see `model.genre_id`.
        seed: the same music and the same seed give the same codes.
        backend: as in `generate`.
        attributes: [attributes], quantiles that the whole dance is asked for, NaN where nothing is; see `generate`.
        generation: fields of the generation configuration, as `generate` takes them.

    Raises:
        ValueError: one of them has no effect, is misspelt, or is out of range.

    Attributes:
        codes: [2, n], upper and lower, beginning with the start codes.
    """

    def __init__(
        self,
        model: Any,
        genre_id: int,
        seed: int,
        backend: str = "auto",
        attributes: Tensor | None = None,
        **generation: Any,
    ) -> None:
        check_backend(backend)
        self.model = model
        self._asked = (
            None if attributes is None else check_attributes(attributes[None], 1, (1,), model.config.attributes)
        )
        for name in _NOT_STREAMED & generation.keys():
            raise ValueError(f"{name} is no option of a stream: leave it out")
        own = model.generation_config
        generation = check_generation(generation, own, codebook_size=model.config.codebook_size, where="a stream")
        self._generation = merge_generation(own, None, generation)
        for name in LENGTH_OPTIONS:
            if (value := getattr(self._generation, name)) is not None:
                raise ValueError(
                    f"{name}={value!r} is no option of a stream, which ends when its music does: leave it out"
                )
        if (value := getattr(self._generation, "genre_guidance_scale", None)) not in (None, 1):
            raise ValueError(
                f"genre_guidance_scale={value!r} is no option of a stream, which has no negative genres: leave it out"
            )
        self._generator = torch.Generator(model.device).manual_seed(seed_number(seed))
        genre_ids = torch.tensor([genre_id], device=model.device)
        weights = genre_weights(genre_ids, 1, 1, model.config)
        scales = (getattr(self._generation, name, None) for name in ("guidance_scale", "attribute_guidance_scale"))
        by_music, by_attributes = (1.0 if scale is None else scale for scale in scales)
        by_attributes = 1.0 if self._asked is None else by_attributes
        weights = pass_weights(weights, by_music, attribute_guidance_scale=by_attributes)
        self._passes = Conditions(weights, 1, model.device).passes(0)
        self._cache = model.make_cache(self._passes.genre_ids, backend)
        self.codes = model._start_codes(genre_ids, self._generation, self._generator)
        self._generation._eos_token_tensor = None  # processors ask for it
        self._generation.guidance_scale = None  # transformers' own guidance knows one pass of text
        self._processors = model._get_logits_processor(self._generation, input_ids_seq_length=1, device=model.device)

    @torch.no_grad()
    @own_threads()
    def extend(self, features: Tensor, rhythm: Tensor | None) -> None:
        """Generate the next code of both streams.

        Args:
            features: [frames, features] of the step before it and, for a model with `music_lookahead`, of its own.
            rhythm: [frames, 4] of the same frames; None for a model without rhythm encoder.
        """
        use_one_thread(self.model, 1)
        passes, last = self._passes, self.codes[:, -1:]
        features, rhythm = features[None].to(self.model.device), None if rhythm is None else rhythm[None]
        without = self.model.base_model.music_mean.to(features)
        outputs = self.model(
            passes.select_music(features, without),
            passes.select(last[:1]),
            passes.select(last[1:]),
            passes.genre_ids,
            cache=self._cache,
            logits_to_keep=1,
            rhythm=None if rhythm is None else passes.select_music(rhythm, torch.zeros_like(rhythm[0, 0])),
            attributes=None
            if self._asked is None
            else passes.select_attributes(self._asked, self._asked[0, 0] * torch.nan),
            output_code_scores=True,
            return_dict=True,
        )
        scores = torch.cat((outputs.upper_scores, outputs.lower_scores))[:, -1].float()
        scores = self._processors(self.codes, passes.mix(scores))
        new = choose(scores, self._generation.do_sample, self._generator)[:, None]
        self.codes = torch.cat((self.codes, new), dim=1)

    def foresee(self, pieces: list[tuple[Tensor, Tensor | None]]) -> Tensor:
        """Codes [2, len(pieces)] that `extend` would generate for these features, one after the other. The state is unchanged."""
        if not pieces:
            return self.codes[:, :0]
        codes, cache, random = self.codes, self._cache, self._generator.get_state()
        saved = cache.snapshot()  # a second cache would prepare the weights a second time
        for features, rhythm in pieces:
            self.extend(features, rhythm)
        foreseen = self.codes[:, codes.shape[1] :]
        cache.restore(saved)
        self.codes = codes
        self._generator.set_state(random)
        return foreseen


# --- poses -----------------------------------------------------------------------------------------------------------


@dataclass
class DanceChunk:
    """The next frames of a dance.

    Attributes:
        poses: (frames, 24, 3) float32, axis-angle, radians.
        translation: (frames, 3) float32, metres, Y up.
        first_frame: number of its first frame within the dance.
        heard: seconds of music received so far, in whole code steps.
        compute_seconds: time that this chunk took, with the features of its music.
    """

    poses: np.ndarray
    translation: np.ndarray
    first_frame: int
    heard: float = 0.0
    compute_seconds: float = 0.0

    def __len__(self) -> int:
        return len(self.poses)


class PoseStream:
    """Codes to frames that are final once returned.

    Args:
        tokenizer: a `MegaDanceTokenizer`.
        floor: keep the dancer on the floor, as far as the frames decoded so far determine it.
        clean: clean each frame up, by those before it (`CleanUpStream`).
    """

    def __init__(self, tokenizer: Any, floor: bool = True, clean: bool = True) -> None:
        self.tokenizer, self.floor, self.clean, self.frames = tokenizer, floor, clean, 0
        self._clean_up = CleanUpStream(tokenizer.config.fps)
        self._reach = decoder_reach(tokenizer.config)
        # The last seconds of the returned frames: motion vectors, the path they sum up to, heights subtracted for the floor.
        self._motion, self._path, self._heights = (torch.zeros(0, size) for size in (MOTION_SIZE, 3, 1))
        self._next = torch.zeros(3, dtype=torch.double)

    @torch.no_grad()
    @own_threads()
    def push(self, codes: Tensor, until: int) -> DanceChunk | None:
        """The frames from the end of the last chunk up to frame `until`; None if there are none.

        `codes` [2, n] are all codes of the dance, from the first to those after frame `until` that are known or foreseen.
        """
        begin, step = self.frames, self.tokenizer.config.frames_per_code
        if until <= begin:
            return None
        use_one_thread(self.tokenizer, 1)
        first = max(0, (begin - 2) // step - self._reach)
        last = -(-until // step) + self._reach + _FLOOR_ROWS // step
        upper, lower = codes[:, None, first:last].to(self.tokenizer.device)
        outputs = self.tokenizer.decode(upper, lower, output_contacts=True)
        decoded = outputs.motion[0].float().cpu()[max(0, begin - 2) - first * step :]
        if until % step:  # the music ends inside a code, and the dance with it
            decoded = decoded[: until - max(0, begin - 2)]
        if self.tokenizer.config.heading == "turn" and begin:  # its heading is that of the frame before
            last = min(2, begin) - 1
            decoded = turn_motion(decoded, root_heading(self._motion[-1]) - root_heading(decoded[last]))
        motion = _continued(self._motion[-2:], decoded)
        path = torch.cat((self._next[None], self._next + motion[:, :ROOT_SIZE].double().cumsum(0)))
        poses, _ = motion_to_poses(torch.cat((self._motion, motion)))
        if begin == 0:  # the lowest joint of the first frame stands on the floor
            joints = forward_kinematics(axis_angle_to_matrix(poses[:1]), torch.zeros(1, 3))
            path[:, 1] -= float(joints[..., 1].min())
        translation = torch.cat((self._path, path[:-1].float()))
        heights = torch.zeros(len(motion), 1)
        if self.floor:
            grounded = ground_translation(poses, translation, self.tokenizer.config.fps)
            floor = (translation - grounded)[max(0, len(self._path) - 2) :, 1:2]
            lowest = forward_kinematics(axis_angle_to_matrix(poses), translation)[-len(motion) :, :, 1].amin(1)
            heights = torch.minimum(_continued(self._heights[-2:], floor), lowest[:, None])
        count = until - begin
        chunk_poses = poses[len(self._motion) :][:count]
        chunk_path = path[:count].float() - F.pad(heights[:count], (1, 1))
        self._motion = torch.cat((self._motion, motion[:count]))[-_FLOOR_ROWS:]
        self._path = torch.cat((self._path, path[:count].float()))[-_FLOOR_ROWS:]
        self._heights = torch.cat((self._heights, heights[:count]))[-_FLOOR_ROWS:]
        self._next, self.frames = path[count], until
        if self.clean:
            contacts = outputs.contacts
            if contacts is not None:
                contacts = contacts[0, begin - first * step :][:count].float().cpu()
            chunk_poses, chunk_path = self._clean_up.push(chunk_poses, chunk_path, contacts)
        return DanceChunk(chunk_poses.numpy().copy(), chunk_path.numpy().copy(), begin)


def _continued(given: Tensor, course: Tensor) -> Tensor:
    """Blend from the frames that were returned into a new course, without a jump in position or speed.

    Args:
        given: [0 to 2, columns], the last frames returned.
        course: [as many + frames, columns]: the same frames in the new course, and those that follow.

    Returns:
        [frames, columns]. If the course has not changed, it is the course.
    """
    overlap = len(given)
    following = course[overlap:]
    if overlap == 0:
        return following
    off = given - course[:overlap]
    speed = off[-1] - off[0] if overlap == 2 else torch.zeros_like(off[0])
    t = torch.arange(1, len(following) + 1)[:, None].clamp(max=BLEND_FRAMES) / BLEND_FRAMES
    # the cubic from (off, speed) to (0, 0)
    return following + off[-1] * (1 + t * t * (2 * t - 3)) + speed * BLEND_FRAMES * t * (1 - t) ** 2


# --- the whole stream ------------------------------------------------------------------------------------------------


class DanceStream:
    """A dance to live music.

    A pose is returned as soon as the music of its code step (`frames_per_code` frames: 0.267 s) and of `wait_codes` more steps has
    arrived: the delay is at most (1 + wait_codes) * 0.267 s plus the time to compute a step.

    Args:
        model, tokenizer, extractor: a `MegaDanceForMotionGeneration`, its `MegaDanceTokenizer` and its feature extractor.
        genre_id: see `model.genre_id`.
        sampling_rate: of the blocks, in Hz.
        seed: the same music and the same seed give the same dance, whatever the size of the blocks.
        wait_codes: number of codes to wait for before frames are decoded; 0 or more.
        guess_codes: number of codes to foresee; 0 or more. Each costs a step of the generator.
        floor, clean: see `PoseStream`.
        generation: fields of the generation configuration, temperature, top_k, ..., and what else `CodeStream` takes.

    Raises:
        AudioError: `sampling_rate` is not possible. ValueError: another argument is out of range.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        extractor: MegaDanceFeatureExtractor,
        genre_id: int,
        sampling_rate: int,
        seed: int,
        wait_codes: int = 0,
        guess_codes: int = GUESS_CODES,
        floor: bool = True,
        clean: bool = True,
        **generation: Any,
    ) -> None:
        rate = check_rate(sampling_rate)
        self.model = model
        self.wait_codes = whole_number("wait_codes", wait_codes)
        self.guess_codes = whole_number("guess_codes", guess_codes)
        self._step, self._ahead = model.config.frames_per_code, model.config.music_lookahead
        self._codes = CodeStream(model, genre_id, seed, **generation)
        self._poses = PoseStream(tokenizer, floor, clean)
        self._music, self._mix = LiveMusic(extractor, rate, self._step), LiveMix(rate)
        self._pushed, self._finished = 0, False

    @property
    def frames(self) -> int:
        """Number of frames returned so far."""
        return self._poses.frames

    @torch.no_grad()
    def warm_up(self) -> None:
        """Load and compile now what would delay the first step. The stream's state is unchanged."""
        extractor = self._music.extractor
        music = LiveMusic(extractor, extractor.sampling_rate, self._step)
        samples = np.arange(2 * self._step * extractor.hop_length)
        music.push(np.sin(samples**1.2 / 99).astype(np.float32))
        while music.ready():
            music.advance()
        rows = torch.from_numpy(music.with_expected(_EXPECTED_ROWS)).to(self.model.device)
        rhythm = live_rhythm(self.model, rows, len(music.rows))
        piece = slice(0, (1 + self._ahead) * self._step)
        codes = self._codes.foresee([(rows[piece], None if rhythm is None else rhythm[piece])] * 2)
        PoseStream(self._poses.tokenizer, self._poses.floor, self._poses.clean).push(codes, self._step)

    def push(self, block: Any) -> Iterator[DanceChunk]:
        """Add a block of music, and yield a chunk of the dance for each code step that it completes.

        `block`: any number of samples, (samples,), or (samples, channels) with more samples than channels; an array as
        `open_sound` takes it, which may be silent. It is added at once; the chunks are computed as they are fetched.

        Raises:
            AudioError: the block is no array of samples, or has NaN, infinity or peaks far beyond full scale. ValueError: the
                stream is finished.
        """
        if self._finished:
            raise ValueError("block: the stream is finished; make a new one")
        sound = self._mix(block)
        self._pushed += len(sound)
        self._music.push(sound)
        return self._steps()

    def finish(self) -> Iterator[DanceChunk]:
        """End the music, and yield the rest of the dance, which is as long as the music, to the frame.

        Raises:
            AudioError: the music was shorter than half a frame.
        """
        if not self._finished:
            self._music.push(np.zeros(0, np.float32), last=True)
            self._finished = True
            if self._music.extractor.num_frames(self._music.samples) < 1:
                raise AudioError(f"blocks hold {self._pushed} samples in all: give at least 0.02 s of music")
        return self._steps()

    def _steps(self) -> Iterator[DanceChunk]:
        """The chunks of whole code steps; after the last block also the rest."""
        music, step = self._music, self._step
        while music.ready():
            began = time.perf_counter()
            music.advance()
            known = self._write_codes(self.guess_codes)
            yield from self._chunk(known, (music.steps - self.wait_codes) * step, began)
        if self._finished:
            began, frames = time.perf_counter(), music.extractor.num_frames(music.samples)
            if frames > music.steps * step:
                music.advance(frames - music.steps * step)
                self._write_codes(0)
            yield from self._chunk(self._codes.codes[:, : -(-frames // step)], frames, began)

    def _chunk(self, codes: Tensor, until: int, began: float) -> Iterator[DanceChunk]:
        if chunk := self._poses.push(codes, until):
            chunk.heard = self._music.steps * self._step / self._poses.tokenizer.config.fps
            chunk.compute_seconds = round(time.perf_counter() - began, 4)
            yield chunk

    @torch.no_grad()
    def _write_codes(self, guesses: int) -> Tensor:
        """Generate the final codes for the music so far. Returns all of them, followed by foreseen ones, up to `guesses` steps ahead."""
        music, steps = self._music, self._music.steps
        expected = max(_EXPECTED_ROWS, (guesses + 1) * self._step)
        rows = torch.from_numpy(music.with_expected(expected)).to(self.model.device)
        rhythm = live_rhythm(self.model, rows, len(music.rows))

        def music_for(index: int) -> tuple[Tensor, Tensor | None]:
            """The features and the rhythm that code `index` is predicted from."""
            first = (index - 1) * self._step - music.first_row
            piece = slice(first, first + (1 + self._ahead) * self._step)
            return rows[piece], None if rhythm is None else rhythm[piece]

        # code i depends on the music of step i - 1 and, with a lookahead of 1, of step i
        while self._codes.codes.shape[1] < steps + 1 - self._ahead:
            self._codes.extend(*music_for(self._codes.codes.shape[1]))
        written = self._codes.codes.shape[1]
        foreseen = self._codes.foresee([music_for(index) for index in range(written, steps + guesses)])
        return torch.cat((self._codes.codes, foreseen), dim=1)
