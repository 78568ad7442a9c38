"""All of generate(): sliding windows, caches, streaming (paper, sections 3.3.1 and A.1).

Code i is predicted from the codes and the music of a window that ends at i - 1. The three modes differ only in where that
window starts (`window_start`); everything computed inside a window can be kept, so a cache is good for as long as the
start stays where it is:

| mode | window of code i starts at | computed anew |
|---|---|---|
| `paper` | 0 up to code 29; then it keeps the last 22 codes, grows by 8, and slides on by 8 | with every slide |
| `released` | i - 22: it slides with every code, as the released code does | with every code after 22 |
| `stream` | 0, for ever | never: one step costs the same after an hour |
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers.generation.configuration_utils import GenerationConfig
from transformers.generation.logits_process import LogitsProcessorList
from transformers.generation.stopping_criteria import MaxTimeCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer
from transformers.generation.utils import GenerationMixin
from transformers.utils import ModelOutput

from .arguments_megadance import (
    check_generation,
    check_helpers,
    merge_generation,
    names_of,
    need_codes,
    need_counts,
    need_tensors,
    seed_number,
)
from .backends_megadance import check_backend
from .configuration_megadance import RHYTHM_SIZE
from .errors_megadance import short
from .forks_megadance import warn_after_fork
from .progress_megadance import progress_bar
from .routing_megadance import check_genre_id

MODES = ("paper", "released", "stream")
PREFILL_CODES = 256  # most codes of a prompt that are read at once


def window_start(mode: str, index: int, context: int, slide: int) -> int:
    """First position of the window that code `index` is predicted from.

    It depends on nothing but the index, so that a dance which is continued goes on exactly as if it had never stopped.
    """
    if mode == "stream":
        return 0
    if mode == "released":
        return max(0, index - context)
    # paper, A.1: "autoregressive step 22, sliding window step 8": 30 codes, then 22 of them as context for 8 more
    return 0 if index < context + slide else (index - context) // slide * slide


@dataclass
class MegaDanceGenerateOutput(ModelOutput):
    """What [`~MegaDanceGenerationMixin.generate`] returns; batch = items times `num_return_sequences`.

    Args:
        upper_codes, lower_codes: [batch, codes], as many as the longest item has; beyond an item's length its last code is repeated.
        lengths: [batch], codes of each item: those of its music, or fewer where it was stopped.
        upper_logits, lower_logits: with `output_logits=True`, what `forward` gives for the generated codes: [batch, generated codes,
            codebook_size], or of a factorised head the levels' logits side by side, [batch, generated codes, sum(levels)].
        upper_scores, lower_scores: [batch, generated codes, codebook_size] after the logits processors, with `output_scores=True`.
        num_frames: [batch], frames of each item's music, where `generate` was told them, or of its codes where these are fewer.
        genre_ids: [batch].
    """

    upper_codes: torch.Tensor | None = None
    lower_codes: torch.Tensor | None = None
    lengths: torch.Tensor | None = None
    upper_logits: torch.Tensor | None = None
    lower_logits: torch.Tensor | None = None
    upper_scores: torch.Tensor | None = None
    lower_scores: torch.Tensor | None = None
    num_frames: torch.Tensor | None = None
    genre_ids: torch.Tensor | None = None


class MegaDanceGenerationMixin(GenerationMixin):
    """`generate()` for a model whose forward takes music, two code streams and genres."""

    @torch.no_grad()
    def generate(
        self,
        input_features: torch.Tensor | None = None,
        genre_ids: torch.Tensor | None = None,
        upper_codes: torch.Tensor | None = None,
        lower_codes: torch.Tensor | None = None,
        mode: str | None = None,
        generation_config: GenerationConfig | None = None,
        logits_processor: LogitsProcessorList | None = None,
        stopping_criteria: StoppingCriteriaList | None = None,
        streamer: BaseStreamer | None = None,
        attention_mask: torch.Tensor | None = None,
        seed: int | Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        progress: bool | Callable[[int, int], None] = False,
        num_frames: Sequence[int] | torch.Tensor | None = None,
        rhythm: torch.Tensor | None = None,
        backend: str = "auto",
        **kwargs,
    ) -> MegaDanceGenerateOutput:
        """Dance to music: one pair of codes for each whole `frames_per_code` frames of it.

            output = model.generate(**processor("song.mp3", genre="waltz"), seed=0)
            dance = processor.decode(output)

        Args:
            input_features: [batch, frames, music_feature_size], raw features at `config.fps`.
            genre_ids: [batch].
            upper_codes, lower_codes: [batch, prompt], the beginning of the dance, kept as it is. Without them a pair of
                `generation_config.start_codes` ({genre: [[upper, lower], ...]}) is drawn (the first is taken without
                sampling); a genre without start codes begins with the middle code, where every scalar of the
                quantizer is 0.
            mode: `"paper"` (default), `"released"` or `"stream"`; see the head of this module.
            generation_config: sampling parameters, and the own fields `mode` and `start_codes`.
            logits_processor: further processors. They see both streams as one batch of 2 * batch rows, upper first:
                codes so far [2 * batch, time] and logits [2 * batch, codebook_size].
            stopping_criteria: end dances before their music. They see the same rows, with the new codes, and a tuple of scores
                [2 * batch, codebook_size], the last one the new codes'; of all new codes with `output_scores=True`. An item ends
                with these codes where a criterion is true for either of its two rows.
            streamer: its `put` gets codes [batch, 2, new] as they come (the start first), then `end` is called.
            attention_mask: [batch, frames], 1 for music, then 0 for padding, when the items differ in length.
            seed, generator: source of all randomness (one of the two); torch's global one when both are None. A seed is
                any whole number of 0 or more (`seed_number`). With one for the whole batch, samples depend on the batch;
                with a list, one for each item, they do not.
            progress: True for a bar, or a function called with (codes done, codes in all).
            num_frames: [batch], frames of each item's own music, as the processor counts them: the last code may end after
                them. They go into the output, by which `processor.batch_decode` cuts the dances; where there is no
                `attention_mask`, they say how long the items are.
            rhythm: [batch, frames, 4], beat and bar of these frames as `model.encode_rhythm` reads them from the whole song, where
                `input_features` are an excerpt; read from these when None. Without meaning for a model without rhythm encoder.
            backend: what computes: "torch" is the modules, "auto" the fastest registered way that pays, other names as they were
                registered (`backends_megadance.py`): "stacked" and "cpu" of `megadance_hf`.
            kwargs: fields of the generation configuration: do_sample, temperature, top_k (0: no limit), top_p,
                num_return_sequences, output_logits, use_cache, ... `use_cache=False` computes every window anew, with the
                same result. `max_new_tokens` (codes after the given ones), `max_length` (codes in all) and `max_time` (seconds
                of computing) end the dances before their music, which changes no code before the end. What would do
                nothing (`eos_token_id`, `num_beams`, ...) is refused.

        Raises:
            ValueError: an input is missing, music shorter than one code, a prompt longer than the music or outside the
                codebook, an unknown mode, genre or keyword, an option that does nothing; no code is left to choose.
        """
        began = time.time()
        warn_after_fork()
        config = self.config
        if misplaced := config._get_generation_parameters():
            raise ValueError(f"config has {misplaced}: set these in model.generation_config")
        given = {**kwargs, **({} if generation_config is None else {"generation_config": generation_config})}
        names = names_of(MegaDanceGenerationMixin.generate)
        given = check_generation(given, self.generation_config, names, config.codebook_size)
        generation_config = merge_generation(self.generation_config, given.pop("generation_config", None), given)
        mode = mode or getattr(generation_config, "mode", None) or "paper"
        if mode not in MODES:
            raise ValueError(f"mode={mode!r} is unknown; use one of {', '.join(MODES)}")
        check_backend(backend)
        copies = generation_config.num_return_sequences or 1

        need_tensors(
            "give what the processor makes of a song and a genre, generate(**processor(song, genre=...))",
            input_features=input_features,
            genre_ids=genre_ids,
        )
        assert input_features is not None and genre_ids is not None
        need_codes(genre_ids=genre_ids, upper_codes=upper_codes, lower_codes=lower_codes)
        if attention_mask is not None:
            need_tensors("", attention_mask=attention_mask)
        if rhythm is not None:
            need_tensors("", rhythm=rhythm)
            if rhythm.shape != (*input_features.shape[:2], RHYTHM_SIZE):
                raise ValueError(
                    f"rhythm has shape {tuple(rhythm.shape)}; input_features needs {(*input_features.shape[:2], RHYTHM_SIZE)}"
                )
        check_helpers(logits_processor, stopping_criteria, streamer, progress)
        if not torch.isfinite(input_features).all():
            raise ValueError("input_features has NaN or infinite numbers: make the features again")
        device = self.device
        generator = _random_source(seed, generator, len(input_features), device)
        features, genre_ids = input_features.to(device), genre_ids.to(device)
        if genre_ids.shape != features.shape[:1]:
            raise ValueError(
                f"genre_ids has shape {tuple(genre_ids.shape)}; input_features needs {tuple(features.shape[:1])}"
            )
        step, counts = config.frames_per_code, need_counts(num_frames, len(features))
        if counts is not None and attention_mask is None:
            ends = torch.tensor([min(-(-count // step) * step, features.shape[1]) for count in counts])
            attention_mask = torch.arange(features.shape[1]) < ends[:, None]
        lengths = self._code_lengths(features, attention_mask).to(device)
        for count, length in zip(counts or (), lengths.tolist(), strict=bool(counts)):
            if not (length - 1) * step < count <= length * step:
                raise ValueError(
                    f"num_frames has {count} for {length} codes of music: give {(length - 1) * step + 1} to {length * step}"
                )
        features = features[:, : int(lengths.max()) * step].repeat_interleave(copies, 0)
        genre_ids, lengths = genre_ids.repeat_interleave(copies, 0), lengths.repeat_interleave(copies, 0)
        prompt = self._start(upper_codes, lower_codes, genre_ids, copies, generation_config, generator)
        known = prompt.shape[1]
        if known > int(lengths.min()):
            raise ValueError(
                f"upper_codes: {known} codes are given, but the shortest music lasts {int(lengths.min())} codes; "
                "give fewer codes or more music"
            )

        # beat and bar are read from each whole song: a window alone tells less
        if rhythm is None:
            in_music = torch.arange(features.shape[1], device=device) < lengths[:, None] * step
            rhythm = self.base_model.encode_rhythm(features, in_music)
        else:
            rhythm = rhythm.to(device)[:, : features.shape[1]].repeat_interleave(copies, 0)
        music = self.base_model.encode_music(features, rhythm)
        total = _most_codes(generation_config, known, int(lengths.max()))
        lengths = lengths.clamp(max=total)
        criteria = list(stopping_criteria or ())
        if generation_config.max_time is not None:
            criteria.append(MaxTimeCriteria(generation_config.max_time, began))
        generation_config._eos_token_tensor = None  # a dance ends with its music; processors ask for it
        processors = self._get_logits_processor(
            generation_config, input_ids_seq_length=known, logits_processor=logits_processor, device=device
        )
        # both streams as one batch, stream-major: [2 * batch, codes]
        codes = torch.cat((prompt, prompt.new_zeros(prompt.shape[0], total - known)), dim=1)
        batch = genre_ids.shape[0]
        if streamer is not None:
            streamer.put(prompt.unflatten(0, (2, batch)).transpose(0, 1).cpu())
        all_logits, all_scores = [], []
        report, close = _progress(progress, total)
        report(known)
        use_cache = bool(generation_config.use_cache)
        if backend not in ("auto", "torch") and not use_cache:
            raise ValueError(
                f"backend={backend!r} computes with a cache; leave use_cache=False out, or use backend='torch'"
            )
        cache = self.make_cache(genre_ids, backend) if use_cache else None
        steps = self._window_logits(music, codes, genre_ids, mode, known, total, cache)
        for index, code_scores, logits, states in steps:
            scores = processors(codes[:, :index], code_scores)
            if scores.shape != code_scores.shape:
                raise ValueError(
                    f"logits_processor gave scores of shape {tuple(scores.shape)}: give {tuple(code_scores.shape)}, as it got them"
                )
            new = choose(scores, generation_config.do_sample, generator)
            ended = (index >= lengths).repeat(2)
            codes[:, index] = torch.where(ended, codes[:, index - 1], new)
            if generation_config.output_logits:
                if config.level_decoding == "sequential":  # a level's logits depend on the levels that were chosen
                    logits = self.output_mlp(states, codes[:, index])
                all_logits.append(logits.float())
            if generation_config.output_scores:
                all_scores.append(scores)
            if streamer is not None:
                streamer.put(codes[:, index].view(2, batch, 1).transpose(0, 1).cpu())
            report(index + 1)
            if criteria:
                given_scores = tuple(all_scores) or (scores,)
                stops = _stops(criteria, codes[:, : index + 1], given_scores).view(2, batch).any(0)
                lengths = torch.where(stops, lengths.clamp(max=index + 1), lengths)
                if int(lengths.max()) <= index + 1:
                    break
        close()
        if streamer is not None:
            streamer.end()

        def per_stream(steps):
            return torch.stack(steps, dim=1).chunk(2) if steps else (None, None)

        codes = codes[:, : int(lengths.max())]
        frames = None
        if counts is not None:
            frames = torch.tensor(counts, device=device).repeat_interleave(copies, 0).minimum(lengths * step)
        scored = (*per_stream(all_logits), *per_stream(all_scores))
        return MegaDanceGenerateOutput(*codes.chunk(2), lengths, *scored, frames, genre_ids)

    def _window_logits(self, music, codes, genre_ids, mode, known, total, cache):
        """Yield the index of each code to come, the scores of codes [2 * batch, codebook_size], the head's logits and what it made
        these of [2 * batch, hidden]; the caller fills `codes[:, index]`."""
        config = self.config
        upper, lower = codes.chunk(2)  # views
        cache_start = None
        for index in range(known, total):
            start = window_start(mode, index, config.context_codes, config.slide_codes)
            begin, piece = start, index - start
            if cache is not None and cache_start == start:
                begin = index - 1
            elif cache is not None:
                cache_start = start
                cache.reset()
            if cache is not None:  # attention over a long prompt at once would need memory that grows with its square
                piece = PREFILL_CODES
            for first in range(begin, index, piece):
                last = min(first + piece, index)
                outputs = self(
                    music_embeds=music[:, first:last],
                    upper_codes=upper[:, first:last],
                    lower_codes=lower[:, first:last],
                    genre_ids=genre_ids,
                    cache=cache,
                    logits_to_keep=1,
                    output_code_scores=True,
                    return_dict=True,
                )
            scores, logits, states = (
                torch.cat(tuple(streams))[:, -1]
                for streams in (
                    (outputs.upper_scores, outputs.lower_scores),
                    (outputs.upper_logits, outputs.lower_logits),
                    outputs.code_states.unbind(1),
                )
            )
            scores = scores.float()
            if self.dtype == torch.float16 and scores.isnan().any():
                raise ValueError("dtype=float16: numbers of this model are too large for it; use bfloat16 or float32")
            yield index, scores, logits, states

    def _code_lengths(self, features: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """Whole code steps of music of each item, [batch]."""
        if features.dim() != 3:
            raise ValueError(f"input_features has shape {tuple(features.shape)}; expected (batch, frames, features)")
        if attention_mask is None:
            frames = torch.full(features.shape[:1], features.shape[1])
        else:
            attention_mask = attention_mask.cpu().bool()
            if attention_mask.shape != features.shape[:2]:
                raise ValueError(
                    f"attention_mask has shape {tuple(attention_mask.shape)}; input_features needs "
                    f"{tuple(features.shape[:2])}"
                )
            if (attention_mask[:, 1:] & ~attention_mask[:, :-1]).any():
                raise ValueError("attention_mask must be ones, then zeros: music is padded at its end")
            frames = attention_mask.sum(1)
        lengths = frames // self.config.frames_per_code
        if lengths.numel() == 0 or int(lengths.min()) < 1:
            shortest = int(frames.min()) if lengths.numel() else 0
            raise ValueError(
                f"input_features: {shortest} frames of music are shorter than one code "
                f"({self.config.frames_per_code} frames at {self.config.fps} per second); give longer music"
            )
        return lengths

    def _start(self, upper_codes, lower_codes, genre_ids, copies, generation_config, generator) -> torch.Tensor:
        """The codes that the dance begins with, [2 * batch, 1 or more]."""
        size = self.config.codebook_size
        if (upper_codes is None) != (lower_codes is None):
            raise ValueError("upper_codes and lower_codes must be given together, or neither of them")
        if upper_codes is None:
            sources = generator if isinstance(generator, list) else [generator]
            sources = [source for source in sources for _ in range(len(genre_ids) // len(sources))]
            rows = zip(genre_ids.tolist(), sources, strict=True)
            pairs = [self._start_pair(index, generation_config, source) for index, source in rows]
            return torch.tensor(pairs, device=genre_ids.device).T.reshape(-1, 1)
        expected = genre_ids.shape[0] // copies
        for name, codes in (("upper_codes", upper_codes), ("lower_codes", lower_codes)):
            if codes.dim() != 2 or codes.shape[0] != expected or codes.shape[1] < 1 or codes.shape != upper_codes.shape:
                raise ValueError(
                    f"{name} has shape {tuple(codes.shape)}; expected ({expected}, 1 or more), alike for both streams"
                )
            if int(codes.min()) < 0 or int(codes.max()) >= size:
                raise ValueError(f"{name} has codes outside 0 to {size - 1}")
        both = [codes.to(genre_ids.device).long().repeat_interleave(copies, 0) for codes in (upper_codes, lower_codes)]
        return torch.cat(both)

    def _start_pair(self, genre_id: int, generation_config, generator) -> list[int]:
        size = self.config.codebook_size
        check_genre_id(genre_id, self.config)
        genre = self.config.genres[genre_id]
        pairs = (getattr(generation_config, "start_codes", None) or {}).get(genre)
        if not pairs:
            return [size // 2, size // 2]
        which = 0
        if generation_config.do_sample:
            where = "cpu" if generator is None else generator.device
            which = int(torch.randint(len(pairs), (), generator=generator, device=where))
        pair = [int(code) for code in pairs[which]]
        if len(pair) != 2 or not all(0 <= code < size for code in pair):
            raise ValueError(f"start_codes[{genre!r}] has {pair}; expected [upper, lower], each 0 to {size - 1}")
        return pair


def _most_codes(generation_config: GenerationConfig, known: int, of_music: int) -> int:
    """The most codes that a dance may have; `known` are given, and the longest music lasts `of_music`."""
    most, new = generation_config.max_length, generation_config.max_new_tokens
    if most is not None and most < known:
        raise ValueError(f"max_length={most}: {known} codes are given already; give {known} or more, or max_new_tokens")
    return min(of_music, of_music if most is None else most, of_music if new is None else known + new)


def _stops(criteria: Sequence[Callable], codes: torch.Tensor, scores: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Whether each row of codes [rows, time] ends here by one of the criteria, [rows]."""
    stops = torch.zeros(len(codes), dtype=torch.bool, device=codes.device)
    for criterion in criteria:
        answer = criterion(codes, scores)
        answer = torch.tensor(answer) if isinstance(answer, bool) else answer
        fits = isinstance(answer, torch.Tensor) and answer.dtype == torch.bool and answer.numel() in (1, len(codes))
        if not fits:
            raise ValueError(
                f"stopping_criteria gave {short(repr(answer))}: give True or False, or a tensor with one of them for each of the "
                f"{len(codes)} rows of codes"
            )
        stops |= answer.to(stops.device).view(-1)
    return stops


def choose(
    scores: torch.Tensor, do_sample: bool | None, generator: torch.Generator | list[torch.Generator] | None
) -> torch.Tensor:
    """One code per row, [rows], by its scores, [rows, codes]: the likeliest, or one that is drawn.

    Raises:
        ValueError: no code is left to choose, or a score is NaN or infinite.
    """
    best = scores.amax(-1)
    if not torch.isfinite(best).all():
        if (best == -torch.inf).any():
            raise ValueError(
                "no code is left to choose: forbid fewer of them with suppress_tokens, bad_words_ids, no_repeat_ngram_size, "
                "sequence_bias or logits_processor"
            )
        raise ValueError(
            "the scores of codes are NaN or infinite: give a temperature and a repetition_penalty nearer to 1, and finite "
            "numbers as sequence_bias and from logits_processor"
        )
    return draw(scores, generator) if do_sample else scores.argmax(-1)


def draw(scores: torch.Tensor, generator: torch.Generator | list[torch.Generator] | None) -> torch.Tensor:
    """One code per row, [rows], with the softmax of its scores, [rows, codes], as probabilities.

    Where one uniform number falls in their running sum. `torch.multinomial` draws a number for each code, which takes as long as an expert.
    With a list of generators, one for each item, an item's numbers are those that it would have alone; rows are both streams, upper first.
    """
    running = scores.softmax(-1).cumsum(-1)
    running = running / running[:, -1:]  # so that the number is below the last one
    if isinstance(generator, list):
        own = len(scores) // len(generator)
        numbers = [_uniform(own, one, scores.device).view(2, -1) for one in generator]
        number = torch.cat(numbers, dim=1).view(-1, 1)
    else:
        number = _uniform(len(scores), generator, scores.device)
    return torch.searchsorted(running, number, right=True)[:, 0]


def _uniform(rows: int, generator: torch.Generator | None, device: torch.device) -> torch.Tensor:
    """Numbers from 0 to below 1, [rows, 1]; drawn where the generator is."""
    where = device if generator is None else generator.device
    return torch.rand(rows, 1, generator=generator, device=where).to(device)


def _random_source(
    seed: int | Sequence[int] | None,
    generator: torch.Generator | Sequence[torch.Generator] | None,
    batch: int,
    device: torch.device,
) -> torch.Generator | list[torch.Generator] | None:
    """One generator, or a list with one for each item."""
    if seed is not None and generator is not None:
        raise ValueError("seed and generator are both given; use one of them")
    for name, value in (("seed", seed), ("generator", generator)):
        if isinstance(value, list | tuple) and len(value) != batch:
            raise ValueError(f"{name} has {len(value)} entries for a batch of {batch}: give one, or one for each item")
    if isinstance(seed, list | tuple):
        return [torch.Generator(device).manual_seed(seed_number(one)) for one in seed]
    if seed is not None:
        return torch.Generator(device).manual_seed(seed_number(seed))
    generators: list = list(generator) if isinstance(generator, list | tuple) else [generator]
    for one in generators:
        if one is not None and not isinstance(one, torch.Generator):
            raise ValueError(f"generator of type {type(one).__name__}: give a torch.Generator, or seed={one!r}")
    return generators if isinstance(generator, list | tuple) else generators[0]


def _progress(progress: bool | Callable[[int, int], None], total: int) -> tuple[Callable[[int], None], Callable]:
    """Functions to report how many codes are done, and to end."""
    if callable(progress):
        return lambda done: progress(done, total), lambda: None
    if not progress:
        return lambda done: None, lambda: None
    bar = progress_bar(total=total, unit="code", desc="dance")
    return lambda done: bar.update(done - bar.n), bar.close
