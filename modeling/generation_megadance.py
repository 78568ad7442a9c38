"""All of generate(): sliding windows, caches, streaming (paper, sections 3.3.1 and A.1).

Code i is predicted from the codes and the music of a window that ends at i - 1. The three modes differ only in where that
window starts (`window_start`); everything computed inside a window can be kept, so a cache is good for as long as the
start stays where it is:

| mode | window of code i starts at | computed anew |
|---|---|---|
| `paper` | 0 up to code 29; then it keeps the last 22 codes, grows by 8, and slides on by 8 | with every slide |
| `released` | i - 22: it slides with every code, as the released code does | with every code after 22 |
| `stream` | 0, for ever | never: one step costs the same after an hour |

A window is also computed anew where the passes that its codes need change (`conditions_megadance.py`). Codes are chosen from left to right;
those that are known are kept where they are, and where both streams of all items are known nothing is chosen.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers.generation.configuration_utils import GenerationConfig
from transformers.generation.logits_process import LogitsProcessorList
from transformers.generation.stopping_criteria import MaxTimeCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer
from transformers.generation.utils import GenerationMixin
from transformers.utils import ModelOutput

from .arguments_megadance import (
    GUIDANCE_OPTIONS,
    check_generation,
    check_helpers,
    merge_generation,
    names_of,
    need_codes,
    need_counts,
    need_tensors,
    seed_number,
    whole_number,
)
from .attributes_megadance import check_attributes
from .backends_megadance import check_backend
from .cache_megadance import MegaDanceCache
from .conditions_megadance import Conditions, Passes, genre_weights, negative_genre_weights, pass_weights
from .configuration_megadance import RHYTHM_SIZE
from .errors_megadance import short
from .forks_megadance import warn_after_fork
from .host_megadance import NO_CODE_LEFT, NOT_FINITE, NUMBERS_TOO_LARGE, Faults, Streamed, copy_later
from .progress_megadance import progress_bar
from .routing_megadance import check_genre_id
from .static_generation_megadance import StaticSteps, static_options
from .static_step_megadance import draw_at, plain_warpers
from .threads_megadance import own_threads, use_one_thread

if TYPE_CHECKING:
    from .modeling_megadance import MegaDanceForMotionGeneration

MODES = ("paper", "released", "stream")
PREFILL_CODES = 256  # most codes of a prompt that are read at once
SCORED_NUMBERS = 2**24  # most numbers that the head of a model computes at once for `score`


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
            codebook_size], or of a factorised head the levels' logits side by side, [batch, generated codes, sum(levels)]. Generated are
            all codes but the first, without those that are known of both streams of all items.
        upper_scores, lower_scores: [batch, generated codes, codebook_size] after the logits processors, with `output_scores=True`.
        num_frames: [batch], frames of each item's music, where `generate` was told them, or of its codes where these are fewer.
        genre_ids: [batch], of a plan or a mixture the genre that has most weight in the dance.
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
    @own_threads()
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
        known_codes: torch.Tensor | None = None,
        known_mask: torch.Tensor | None = None,
        negative_genre_ids: torch.Tensor | None = None,
        attributes: torch.Tensor | None = None,
        **kwargs,
    ) -> MegaDanceGenerateOutput:
        """Dance to music: one pair of codes for each whole `frames_per_code` frames of it.

            output = model.generate(**processor("song.mp3", genre="waltz"), seed=0)
            dance = processor.decode(output)

        Args:
            input_features: [batch, frames, music_feature_size], raw features at `config.fps`.
            genre_ids: [batch], or a plan, [batch, codes], with a genre for each code of the longest music. Or weights of genres, of any
                floating point type: [batch, genres], or [batch, codes, genres]; see the head of `conditions_megadance.py`. Each further
                genre of a code is a forward pass more, and in mode `stream` a change computes the dance so far anew.
            upper_codes, lower_codes: [batch, prompt], the beginning of the dance: `known_codes` of both streams in the first places.
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
            known_codes: [batch, 2, codes], upper body first, 0 to codebook_size - 1: codes that are kept as they are. Codes are chosen from
                left to right, so what comes before a known code does not foresee it. Where the first code is not known, a pair of
                `generation_config.start_codes` ({genre: [[upper, lower], ...]}) is drawn (the first is taken without sampling); a
                genre without start codes begins with the middle code, where every scalar of the quantizer is 0.
            known_mask: [batch, 2, codes], bool, which of `known_codes` are known; all of them when None. What is not known may be any number.
            negative_genre_ids: the genres to move away from, in any form of `genre_ids`, with a `genre_guidance_scale`.
            attributes: [batch, attributes], or [batch, codes, attributes] of the longest music: how the dance is to move, as quantiles
                from 0 to 1 of what dancers of the genre did, in the order of `config.attributes`; NaN asks for nothing. It costs nothing.
            kwargs: fields of the generation configuration: do_sample, temperature, top_k (0: no limit), top_p,
                num_return_sequences, output_logits, use_cache, ... `use_cache=False` computes every window anew, with the
                same result. `max_new_tokens` (codes after the last known one), `max_length` (codes in all) and `max_time` (seconds
                of computing) end the dances before their music, which changes no code before the end. What would do
                nothing (`eos_token_id`, `num_beams`, ...) is refused. `guidance_scale` is of classifier-free guidance by music: 1 is
                none, more follows the music more closely, 0 dances without it; the second pass has features at their mean and no
                rhythm, as training's dropout of music. `genre_guidance_scale` is the same for the genre, whose second pass is of
                `negative_genre_ids`. `attribute_guidance_scale` is the same for attributes, whose second pass asks for nothing, and has no
                effect where nothing is asked. Each takes at most as long again. `cache_implementation="static"` and
                `compile_config=CompileConfig(...)` compute steps of a fixed size, on a GPU recorded as CUDA graphs, as they are there
                by default; `disable_compile` (`static_generation_megadance.py`).

        Raises:
            ValueError: an input is missing, music shorter than one code, known codes beyond the music or outside the
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
        mode = _mode(mode, generation_config)
        check_backend(backend)
        copies = generation_config.num_return_sequences or 1
        check_helpers(logits_processor, stopping_criteria, streamer, progress)
        static = static_options(self, generation_config, backend)
        features, lengths, counts = self._read_music(input_features, genre_ids, attention_mask, num_frames, rhythm)
        assert genre_ids is not None
        items, device, step = len(features), self.device, config.frames_per_code
        use_one_thread(self, items * copies)
        generator = _random_source(seed, generator, items, device)
        longest = int(lengths.max())
        genres = genre_weights(genre_ids, items, longest, config)
        scales = (getattr(generation_config, name, None) for name in GUIDANCE_OPTIONS)
        by_music, by_genre, by_attributes = (1.0 if scale is None else scale for scale in scales)
        asked = self._encode_attributes(attributes, items, longest)
        by_attributes = 1.0 if asked is None else by_attributes
        negative = negative_genre_weights(negative_genre_ids, by_genre, genres, longest, config)
        conditions = Conditions(pass_weights(genres, by_music, negative, by_genre, by_attributes), copies, device)
        if conditions.is_mixed and generation_config.output_logits:
            raise ValueError(
                "output_logits=True: several passes are mixed here, each with its own; use output_scores=True, or one genre with guidance_scale=1"
            )
        given_codes, given_mask = self._known_codes(upper_codes, lower_codes, known_codes, known_mask, lengths.tolist())
        in_dance = torch.arange(genres.shape[1])[:, None] < lengths.cpu()[:, None, None]
        features, lengths = features.repeat_interleave(copies, 0), lengths.repeat_interleave(copies, 0)
        # of each row: of the whole dance, and of its first code
        main_genres, first_genres = (
            weights.argmax(-1).to(device).repeat_interleave(copies, 0)
            for weights in ((genres * in_dance).sum(1), genres[:, 0])
        )

        if rhythm is not None:
            rhythm = rhythm.repeat_interleave(copies, 0)
        music = self._encode_music(features, lengths, rhythm)
        asked = None if asked is None else asked.repeat_interleave(copies, 0)
        last_known = 1 + max(given_mask.any(0).any(0).nonzero()[:, 0].tolist(), default=0)
        total = _most_codes(generation_config, last_known, longest)
        lengths = lengths.clamp(max=total)
        criteria = list(stopping_criteria or ())
        if generation_config.max_time is not None:
            criteria.append(MaxTimeCriteria(generation_config.max_time, began))
        missing = (0, total - given_codes.shape[-1])
        given_codes, given_mask = (torch.nn.functional.pad(x, missing) for x in (given_codes, given_mask))
        free = self._free_items(given_mask, lengths[::copies].cpu())
        known = next((index for index, some in enumerate(free) if some), total)
        # both streams as one batch, stream-major: [2 * batch, codes]
        codes, is_known = (
            x.to(device).repeat_interleave(copies, 0).transpose(0, 1).flatten(0, 1) for x in (given_codes, given_mask)
        )
        codes = torch.where(is_known, codes, 0)
        alike = bool((lengths == total).all())  # no item ends before the others
        self._begin(codes, is_known, first_genres, generation_config, generator)
        if not alike:
            codes = _repeat_last(codes, lengths)
        generation_config._eos_token_tensor = None  # a dance ends with its music; processors ask for it
        generation_config.guidance_scale = None  # transformers' own guidance knows one pass of text
        processors = self._get_logits_processor(
            generation_config, input_ids_seq_length=known, logits_processor=logits_processor, device=device
        )
        batch = len(features)
        streamed, faults = Streamed(streamer), Faults(device)
        streamed.put(codes[:, :known].unflatten(0, (2, batch)).transpose(0, 1))
        all_logits: list[torch.Tensor] = []
        all_scores: list[torch.Tensor] = []
        chosen_codes: list[int] = []
        pending: list[Callable[[], torch.Tensor]] = []  # the longest dance as it was known after each code
        report, close = _progress(progress, total)
        report(known)
        use_cache = bool(generation_config.use_cache)
        if backend not in ("auto", "torch") and not use_cache:
            raise ValueError(
                f"backend={backend!r} computes with a cache; leave use_cache=False out, or use backend='torch'"
            )
        windows = Windows(self, music, codes, conditions, mode, backend if use_cache else None, asked)
        with_logits = bool(generation_config.output_logits)
        of_steps = (
            with_logits and config.level_decoding != "sequential"
        )  # whose logits are those of chosen codes, below
        steps = None if static is None else StaticSteps(windows, static, of_steps)
        warpers = None if static is None or static.compile is None else plain_warpers(processors)
        rows_of = {}  # of the items that choose a code, where it is not all of them
        for some in {tuple(some) for some in free if 0 < len(some) < items}:
            rows = torch.arange(2 * batch).view(2, items, copies)[:, list(some)].flatten()
            rows_of[some] = rows.to(device)
        last_free = max((index for index, some in enumerate(free) if some), default=known - 1)
        for index in range(known, last_free + 1):
            free_items = free[index]
            is_chosen = steps is not None and warpers is not None and len(free_items) == items
            if free_items:
                code_scores, states, logits = self._score_next(windows, index, steps, faults)
                number = None
                if steps is not None and warpers is not None and is_chosen:
                    if generation_config.do_sample:
                        number = draw_numbers(2 * batch, generator, device)
                    scores = steps.choose(code_scores, warpers, is_known, lengths, number, faults)
                else:
                    scores = code_scores
                    for processor in processors:  # the list itself would look up its signature each time
                        scores = processor(codes[:, :index], scores)
                if scores.shape != code_scores.shape:
                    raise ValueError(
                        f"logits_processor gave scores of shape {tuple(scores.shape)}: give {tuple(code_scores.shape)}, as it got them"
                    )
                if is_chosen:
                    new = codes[:, index]
                elif len(free_items) == items:
                    new = choose(scores, generation_config.do_sample, generator, faults)
                else:  # no random numbers for the others: an item of a batch is the item alone
                    rows = rows_of[tuple(free_items)]
                    own = [generator[item] for item in free_items] if isinstance(generator, list) else generator
                    chosen = choose(scores[rows], generation_config.do_sample, own, faults)
                    new = codes[:, index].index_copy(0, rows, chosen)
                codes[:, index] = torch.where(is_known[:, index], codes[:, index], new)
            if not alike or criteria:
                ended = (index >= lengths).repeat(2)
                codes[:, index] = torch.where(ended, codes[:, index - 1], codes[:, index])
            if free_items:
                chosen_codes.append(index)
            if free_items and with_logits:
                if config.level_decoding == "sequential":  # a level's logits depend on the levels that were chosen
                    logits = self.output_mlp(states, codes[:, index])
                assert logits is not None
                all_logits.append(logits.float().to(device))
            if free_items and generation_config.output_scores:
                all_scores.append(scores)
            if pending and not faults.at_once and int(pending[-1]()) <= index:
                break  # this code came after the end, which was not known when it was begun
            streamed.put(codes[:, index].view(2, batch, 1).transpose(0, 1))
            report(index + 1)
            if not faults.at_once:
                faults.check(at_end=False)
            if criteria and free_items:
                given_scores = tuple(all_scores) or (scores,)
                stops = _stops(criteria, codes[:, : index + 1], given_scores).view(2, batch).any(0)
                lengths = torch.where(stops, lengths.clamp(max=index + 1), lengths)
                pending.append(copy_later(lengths.max()))
                if faults.at_once and int(pending[-1]()) <= index + 1:
                    break
        else:  # what is known to the end
            if last_free + 1 < total and (not pending or int(pending[-1]()) > last_free + 1):
                codes.copy_(_repeat_last(codes, lengths))
                streamed.put(codes[:, last_free + 1 :].unflatten(0, (2, batch)).transpose(0, 1))
                report(total)
        close()
        streamed.end()
        faults.check()
        last = int(lengths.max())
        chosen_before_end = sum(index < last for index in chosen_codes)
        all_logits, all_scores = all_logits[:chosen_before_end], all_scores[:chosen_before_end]

        def per_stream(steps):
            return torch.stack(steps, dim=1).chunk(2) if steps else (None, None)

        codes = codes[:, :last]
        frames = None
        if counts is not None:
            frames = torch.tensor(counts, device=device).repeat_interleave(copies, 0).minimum(lengths * step)
        scored = (*per_stream(all_logits), *per_stream(all_scores))
        return MegaDanceGenerateOutput(*codes.chunk(2), lengths, *scored, frames, main_genres)

    @torch.no_grad()
    @own_threads()
    def score(
        self,
        input_features: torch.Tensor | None = None,
        genre_ids: torch.Tensor | None = None,
        upper_codes: torch.Tensor | None = None,
        lower_codes: torch.Tensor | None = None,
        mode: str | None = None,
        attention_mask: torch.Tensor | None = None,
        num_frames: Sequence[int] | torch.Tensor | None = None,
        lengths: torch.Tensor | None = None,
        rhythm: torch.Tensor | None = None,
        backend: str = "auto",
        attributes: torch.Tensor | None = None,
        first: int = 1,
    ) -> torch.Tensor:
        """Log-likelihood of each code of finished dances, in nats, given the codes before it, music and genre.

            output = model.generate(**inputs, num_return_sequences=8, seed=0)
            scores = model.score(**inputs, upper_codes=output.upper_codes, lower_codes=output.lower_codes)
            likeliest = model.rank(scores, 8)[:, 0]

        It is the distribution that `generate` draws from without guidance, logits processors and temperature. The codes are read in
        pieces, so that memory does not grow with the dance's length.

        Args:
            input_features, genre_ids, mode, attention_mask, num_frames, rhythm, backend, attributes: as in `generate`.
            upper_codes, lower_codes: [batch, codes], no more than the music has. Several dances to each music, as
                `num_return_sequences` gives them, have rows beside each other.
            lengths: [batch], codes of each dance; those of its music when None.
            first: the first code to score, 1 or more; of dances that are alike before it, the others tell nothing.

        Returns:
            [batch, 2, codes], upper body first; 0 for codes before `first` (there is nothing before code 0), and beyond a dance's length.
            Their sum is the log-likelihood of the dance.

        Raises:
            ValueError: as `generate`; codes that are missing, do not fit to the music, or are outside the codebook.
        """
        config = self.config
        mode = _mode(mode, self.generation_config)
        check_backend(backend)
        features, of_music, _ = self._read_music(input_features, genre_ids, attention_mask, num_frames, rhythm)
        need_tensors("give the dance's codes", upper_codes=upper_codes, lower_codes=lower_codes)
        assert genre_ids is not None and upper_codes is not None and lower_codes is not None
        items, device = len(features), self.device
        shape, copies = tuple(upper_codes.shape), max(1, len(upper_codes) // items)
        fits = upper_codes.dim() == 2 and shape[0] == items * copies and 1 <= shape[1] <= int(of_music.max())
        if not fits:
            raise ValueError(
                f"upper_codes has shape {shape}; this music needs ({items} or a multiple, 1 to {int(of_music.max())})"
            )
        use_one_thread(self, len(upper_codes))
        known = torch.stack(self._both_streams(upper_codes, lower_codes, len(upper_codes)), 1)
        of_music = of_music.repeat_interleave(copies, 0)
        ends = of_music if lengths is None else lengths.to(device)
        if ends.shape != of_music.shape or bool((ends > of_music).any()):
            raise ValueError(f"lengths={ends.tolist()}: give one of each dance, at most {of_music.tolist()}")
        weights = genre_weights(genre_ids, items, int(of_music.max()), config)
        conditions = Conditions(pass_weights(weights), copies, device)
        music = self._encode_music(features, of_music[::copies], rhythm).repeat_interleave(copies, 0)
        asked = self._encode_attributes(attributes, items, music.shape[1])
        asked = None if asked is None else asked.repeat_interleave(copies, 0)
        codes = known.to(device).transpose(0, 1).flatten(0, 1)
        windows = Windows(self, music, codes, conditions, mode, backend, asked)
        scores = torch.zeros(codes.shape, device=device)
        index, most = whole_number("first", first, 1), self._codes_at_once(len(known), conditions)
        while index < shape[1]:
            stop = windows.same_until(index, min(index + most, shape[1]))
            scores[:, index:stop] = self._score_known(windows, index, stop)
            index = stop
        scores = torch.where(torch.arange(shape[1], device=device) < ends.repeat(2)[:, None], scores, 0.0)
        return scores.unflatten(0, (2, -1)).transpose(0, 1).contiguous()

    @staticmethod
    def rank(scores: torch.Tensor, num_return_sequences: int = 1, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Rows of the dances to each music, the likeliest first, by the mean log-likelihood of a code.

        Args:
            scores: [items * num_return_sequences, 2, codes], what `score` gives; a part of the codes (`scores[:, :, 20:40]`) ranks by
                these alone.
            lengths: [items * num_return_sequences], codes of each dance, where they are not equally long.

        Returns:
            [items, num_return_sequences], rows of the batch.

        Raises:
            ValueError: the rows are no multiple of `num_return_sequences`.
        """
        if len(scores) % num_return_sequences:
            raise ValueError(
                f"num_return_sequences={num_return_sequences}: scores have {len(scores)} rows; give a multiple"
            )
        likelihoods = scores.sum((1, 2))
        if lengths is not None:
            likelihoods = likelihoods / (lengths.to(scores.device) - 1).clamp(min=1)  # the first has none
        order = likelihoods.view(-1, num_return_sequences).argsort(dim=1, descending=True, stable=True)
        return order + num_return_sequences * torch.arange(len(order), device=order.device)[:, None]

    def _score_next(
        self, windows: "Windows", index: int, steps: StaticSteps | None, faults: Faults
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Scores of code `index`, [2 * batch, codebook_size], what the head scored, [2 * passes, hidden], and its logits. These may be
        left out by static steps."""
        found = None if steps is None else steps.scores(index)
        if found is not None:
            if self.dtype == torch.float16:
                faults.look(NUMBERS_TOO_LARGE, found.scores.isnan().any())
            return found
        for inputs in windows.inputs(index, index + 1):
            outputs = self(**inputs, output_code_scores=True, return_dict=True)
        scores, logits, states = (
            torch.cat(tuple(streams))[:, -1]
            for streams in (
                (outputs.upper_scores, outputs.lower_scores),
                (outputs.upper_logits, outputs.lower_logits),
                outputs.code_states.unbind(1),
            )
        )
        scores = scores.float()
        if self.dtype == torch.float16:
            faults.look(NUMBERS_TOO_LARGE, scores.isnan().any())
        return windows.conditions.passes(index).mix(scores), states, logits

    def _score_known(self, windows: "Windows", index: int, stop: int) -> torch.Tensor:
        """Log-likelihood of codes `index` to `stop` - 1, which share a window, [2 * batch, codes]."""
        for inputs in windows.inputs(index, stop):
            states, head, _ = self._code_states(inputs, inputs.pop("logits_to_keep"))
        codes = windows.codes[:, index:stop]
        states = states.transpose(0, 1).flatten(0, 1)  # [2 * passes, codes, hidden]
        if windows.conditions.passes(index).rows is None:
            return -self.output_mlp.cross_entropy(head(states, codes), codes)
        scores = (
            (head(states) if self.config.code_head == "joint" else head.over_codes(states)).float().to(codes.device)
        )
        mixed = [
            windows.conditions.passes(index + place).mix(scores[:, place]).log_softmax(-1)
            for place in range(codes.shape[1])
        ]
        return torch.stack(mixed, dim=1).gather(2, codes[..., None])[..., 0]

    def _codes_at_once(self, rows: int, conditions: Conditions) -> int:
        """Codes that `score` reads at once, so that what the head computes stays in memory."""
        config = self.config
        numbers = config.codebook_size
        if conditions.is_mixed and config.level_decoding == "sequential":  # see `over_codes`
            numbers = numbers // config.levels[-1] * config.output_hidden_size
        most_passes = int((conditions.weights != 0).sum((2, 3)).max()) * rows
        return max(1, min(PREFILL_CODES, SCORED_NUMBERS // (2 * most_passes * numbers)))

    def _read_music(
        self,
        input_features: torch.Tensor | None,
        genre_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None,
        num_frames: Sequence[int] | torch.Tensor | None,
        rhythm: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor, list[int] | None]:
        """Check the inputs. Gives features [items, frames of whole codes, columns], codes of each item's music [items], and
        `num_frames` as a list."""
        need_tensors(
            "give what the processor makes of a song and a genre, generate(**processor(song, genre=...))",
            input_features=input_features,
            genre_ids=genre_ids,
        )
        assert input_features is not None
        if attention_mask is not None:
            need_tensors("", attention_mask=attention_mask)
        if rhythm is not None:
            need_tensors("", rhythm=rhythm)
            shape = (*input_features.shape[:2], RHYTHM_SIZE)
            if rhythm.shape != shape:
                raise ValueError(f"rhythm has shape {tuple(rhythm.shape)}; input_features needs {shape}")
        if not torch.isfinite(input_features).all():
            raise ValueError("input_features has NaN or infinite numbers: make the features again")
        features = input_features.to(self.device)
        step, counts = self.config.frames_per_code, need_counts(num_frames, len(features))
        if counts is not None and attention_mask is None:
            ends = torch.tensor([min(-(-count // step) * step, features.shape[1]) for count in counts])
            attention_mask = torch.arange(features.shape[1]) < ends[:, None]
        lengths = self._code_lengths(features, attention_mask).to(self.device)
        for count, length in zip(counts or (), lengths.tolist(), strict=bool(counts)):
            if not (length - 1) * step < count <= length * step:
                raise ValueError(
                    f"num_frames has {count} for {length} codes of music: give {(length - 1) * step + 1} to {length * step}"
                )
        return features[:, : int(lengths.max()) * step], lengths, counts

    def _encode_music(self, features: torch.Tensor, lengths: torch.Tensor, rhythm: torch.Tensor | None) -> torch.Tensor:
        """Music of each code, [rows, codes, hidden_size]. Beat and bar are read from the whole songs, or given: a window alone tells less."""
        frames = features.shape[1]
        if rhythm is None:
            in_music = torch.arange(frames, device=features.device) < lengths[:, None] * self.config.frames_per_code
            rhythm = self.base_model.encode_rhythm(features, in_music)
        else:
            rhythm = rhythm.to(features.device)[:, :frames]
        return self.base_model.encode_music(features, rhythm)

    def _encode_attributes(self, attributes: torch.Tensor | None, items: int, codes: int) -> torch.Tensor | None:
        """What is added to the music of each code, [items, codes, hidden_size]; None where nothing is asked."""
        if attributes is None:
            return None
        asked = check_attributes(attributes, items, (codes,), self.config.attributes)
        return None if bool(asked.isnan().all()) else self.base_model.encode_attributes(asked, codes)

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

    def _known_codes(
        self,
        upper_codes: torch.Tensor | None,
        lower_codes: torch.Tensor | None,
        known_codes: torch.Tensor | None,
        known_mask: torch.Tensor | None,
        lengths: list[int],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes [items, 2, codes] and which of them are known, on the CPU, for music of these `lengths`."""
        items, shortest = len(lengths), min(lengths)
        if (upper_codes is None) != (lower_codes is None):
            raise ValueError("upper_codes and lower_codes must be given together, or neither of them")
        if known_mask is not None and known_codes is None:
            raise ValueError("known_mask does nothing alone: give known_codes, or leave it out")
        if upper_codes is not None and lower_codes is not None:
            if known_codes is not None:
                raise ValueError("upper_codes and lower_codes are the first of known_codes: give known_codes alone")
            need_codes(upper_codes=upper_codes, lower_codes=lower_codes)
            known = torch.stack(self._both_streams(upper_codes, lower_codes, items), 1)
            if known.shape[2] > shortest:
                raise ValueError(
                    f"upper_codes: {known.shape[2]} codes are given, but the shortest music lasts {shortest} codes; "
                    "give fewer codes or more music"
                )
            return known, torch.ones_like(known, dtype=torch.bool)
        if known_codes is None:
            known = torch.zeros(items, 2, 1, dtype=torch.long)
            return known, torch.zeros_like(known, dtype=torch.bool)
        need_codes(known_codes=known_codes)
        shape = tuple(known_codes.shape)
        if known_codes.dim() != 3 or shape[:2] != (items, 2) or shape[2] < 1:
            raise ValueError(f"known_codes has shape {shape}; expected ({items}, 2, 1 or more), the upper body first")
        known = known_codes.cpu().long()
        mask = torch.ones_like(known, dtype=torch.bool) if known_mask is None else known_mask
        need_tensors("", known_mask=mask)
        if mask.dtype != torch.bool or mask.shape != known.shape:
            raise ValueError(f"known_mask has shape {tuple(mask.shape)} of {mask.dtype}; give {shape} of torch.bool")
        mask = mask.cpu()
        if bool(((known < 0) | (known >= self.config.codebook_size))[mask].any()):
            raise ValueError(
                f"known_codes has codes outside 0 to {self.config.codebook_size - 1} where known_mask is True"
            )
        for item, length in enumerate(lengths):
            last = max(mask[item].any(0).nonzero()[:, 0].tolist(), default=0)
            if last >= length:
                raise ValueError(
                    f"known_codes: code {last} of item {item} is known, but its music lasts {length} codes; set known_mask to False "
                    "there, or give more music"
                )
        most = max(lengths)
        return known[:, :, :most], mask[:, :, :most]

    @staticmethod
    def _free_items(is_known: torch.Tensor, lengths: torch.Tensor) -> list[list[int]]:
        """For each code the items that choose one, of `is_known` [items, 2, codes]; none where all items that still dance know theirs."""
        free = (~is_known).any(1)
        free[:, 0] = False  # what a dance begins with is never chosen
        dances = torch.arange(free.shape[1]) < lengths[:, None]
        free &= (free & dances).any(0)
        return [[item for item, is_free in enumerate(place) if is_free] for place in free.T.tolist()]

    def _both_streams(
        self, upper_codes: torch.Tensor, lower_codes: torch.Tensor, batch: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The codes of both streams, checked and on the CPU."""
        size = self.config.codebook_size
        need_codes(upper_codes=upper_codes, lower_codes=lower_codes)
        for name, codes in (("upper_codes", upper_codes), ("lower_codes", lower_codes)):
            if codes.dim() != 2 or codes.shape[0] != batch or codes.shape[1] < 1 or codes.shape != upper_codes.shape:
                raise ValueError(
                    f"{name} has shape {tuple(codes.shape)}; expected ({batch}, 1 or more), alike for both streams"
                )
            if int(codes.min()) < 0 or int(codes.max()) >= size:
                raise ValueError(f"{name} has codes outside 0 to {size - 1}")
        return upper_codes.cpu().long(), lower_codes.cpu().long()

    def _begin(self, codes, is_known, genre_ids, generation_config, generator) -> None:
        """Fill in first codes that are not known, `codes` [2 * batch, codes], by the genre of each row, [batch]."""
        first = is_known[:, 0].view(2, -1).all(0)
        if not bool(first.all()):
            start = self._start_codes(genre_ids, generation_config, generator, (~first).tolist())
            codes[:, 0] = torch.where(is_known[:, 0], codes[:, 0], start[:, 0])
        is_known[:, 0] = True

    def _start_codes(self, genre_ids, generation_config, generator, wanted=None) -> torch.Tensor:
        """A first code of both streams by the genre of each row, [2 * batch, 1]; 0 where none is `wanted`, all are when None."""
        sources = generator if isinstance(generator, list) else [generator]
        sources = [source for source in sources for _ in range(len(genre_ids) // len(sources))]
        rows = zip(genre_ids.tolist(), sources, wanted or [True] * len(genre_ids), strict=True)
        pairs = [self._start_pair(index, generation_config, source) if want else [0, 0] for index, source, want in rows]
        return torch.tensor(pairs, device=genre_ids.device).T.reshape(-1, 1)

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


class Windows:
    """The codes of a batch as the model reads them: each in its window, and in the cache for as long as the window begins at the same
    place and is read by the same passes.

    Args:
        model: the generator.
        music: [batch, codes, hidden], of `encode_music`.
        codes: [2 * batch, codes], both streams, upper body first; looked at when it is read.
        conditions: of each code.
        mode: of the windows.
        backend: see `generate`; None: no cache.
        asked: [batch, codes, hidden], of `encode_attributes`; None where nothing is asked.
    """

    def __init__(
        self,
        model: "MegaDanceForMotionGeneration",
        music: torch.Tensor,
        codes: torch.Tensor,
        conditions: Conditions,
        mode: str,
        backend: str | None,
        asked: torch.Tensor | None = None,
    ):
        self.model, self.codes = model, codes
        # what parts of a model that is spread over several devices have made, where its codes are
        self.music, self.no_music = music.to(codes.device), model.base_model.encode_no_music().to(codes.device)
        self.asked = None if asked is None else asked.to(codes.device)
        self.conditions, self.mode, self.backend = conditions, mode, backend
        self.cache: MegaDanceCache | None = None
        self._genres: tuple[int, ...] = ()  # of the cache
        self._cached: tuple[int, int] | None = None  # start of the window in the cache, and number of its passes

    def window_of(self, index: int) -> tuple[int, int]:
        """Start of the window that code `index` is predicted from, and the number of the passes that read it."""
        config = self.model.config
        start = window_start(self.mode, index, config.context_codes, config.slide_codes)
        return start, self.conditions.batch_of(index)

    def _music_of(self, passes: Passes, first: int, last: int) -> torch.Tensor:
        """Music of some positions, and what is asked of their codes, [passes, positions, hidden]."""
        music = passes.select_music(self.music[:, first:last], self.no_music)
        if self.asked is None:
            return music
        return music + passes.select_attributes(self.asked[:, first:last], torch.zeros_like(self.no_music))

    def same_until(self, index: int, stop: int) -> int:
        """The first code after `index` that has another window, or `stop`."""
        window = self.window_of(index)
        return next((other for other in range(index + 1, stop) if self.window_of(other) != window), stop)

    def open(self, index: int) -> int:
        """Make the cache ready for the window that code `index` is predicted from; gives the first position that is still to be read."""
        window, genres = self.window_of(index), self.conditions.passes(index).genres
        if self.backend is None:
            return window[0]
        if self._cached == window:
            assert self.cache is not None
            return window[0] + self.cache.position
        if self.cache is not None and self._genres == genres:
            self.cache.reset()
        else:
            self.cache, self._genres = self.model.make_cache(torch.tensor(genres), self.backend), genres
        self._cached = window
        return window[0]

    def inputs(self, index: int, stop: int) -> Iterator[dict[str, Any]]:
        """Arguments of `forward` for the positions that are still to be read to predict codes `index` to `stop` - 1, which share a
        window. The last of them keep the positions that predict these codes."""
        passes, keep, begin = self.conditions.passes(index), stop - index, self.open(index)
        # attention over a long prompt at once would need memory that grows with its square
        piece = stop - 1 - begin if self.backend is None else PREFILL_CODES
        cuts = list(range(begin, stop - 1, piece))
        if len(cuts) > 1 and stop - 1 - cuts[-1] < keep:
            cuts.pop()
        for first, last in zip(cuts, [*cuts[1:], stop - 1], strict=True):
            upper, lower = self.codes[:, first:last].chunk(2)
            yield {
                "music_embeds": self._music_of(passes, first, last),
                "upper_codes": passes.select(upper),
                "lower_codes": passes.select(lower),
                "genre_ids": passes.genre_ids if self.cache is None else self.cache.genre_ids,
                "cache": self.cache,
                "logits_to_keep": keep if last == stop - 1 else 1,
            }


def _mode(mode: str | None, generation_config: GenerationConfig) -> str:
    mode = mode or getattr(generation_config, "mode", None) or "paper"
    if mode not in MODES:
        raise ValueError(f"mode={mode!r} is unknown; use one of {', '.join(MODES)}")
    return mode


def _most_codes(generation_config: GenerationConfig, known: int, of_music: int) -> int:
    """The most codes that a dance may have; `known` are given, and the longest music lasts `of_music`."""
    most, new = generation_config.max_length, generation_config.max_new_tokens
    if most is not None and most < known:
        raise ValueError(f"max_length={most}: {known} codes are given already; give {known} or more, or max_new_tokens")
    return min(of_music, of_music if most is None else most, of_music if new is None else known + new)


def _repeat_last(codes: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Codes [2 * batch, codes], after the `lengths` [batch] of which the last one is repeated."""
    places = torch.arange(codes.shape[1], device=codes.device)
    return codes.gather(1, places.minimum(lengths.to(codes.device)[:, None] - 1).repeat(2, 1))


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
    scores: torch.Tensor,
    do_sample: bool | None,
    generator: torch.Generator | list[torch.Generator] | None,
    faults: Faults | None = None,
) -> torch.Tensor:
    """One code per row, [rows], by its scores, [rows, codes]: the likeliest, or one that is drawn.

    Raises:
        ValueError: no code is left to choose, or a score is NaN or infinite; at once where no `faults` are given to collect them.
    """
    faults = Faults(scores.device, at_once=True) if faults is None else faults
    best = scores.amax(-1)
    if not faults.at_once or not torch.isfinite(best).all():
        faults.look(NO_CODE_LEFT, (best == -torch.inf).any())
        faults.look(NOT_FINITE, (~torch.isfinite(best)).any())
    new = draw(scores, generator) if do_sample else scores.argmax(-1)
    # of scores that are NaN a code beyond the codebook would be drawn, and looked up before the fault is raised
    return new if faults.at_once else new.clamp(max=scores.shape[-1] - 1)


def draw(scores: torch.Tensor, generator: torch.Generator | list[torch.Generator] | None) -> torch.Tensor:
    """One code per row, [rows], with the softmax of its scores, [rows, codes], as probabilities.

    Where one uniform number falls in their running sum. `torch.multinomial` draws a number for each code, which takes as long as an expert.
    With a list of generators, one for each item, an item's numbers are those that it would have alone; rows are both streams, upper first.
    """
    return draw_at(scores, draw_numbers(len(scores), generator, scores.device))


def draw_numbers(
    rows: int, generator: torch.Generator | list[torch.Generator] | None, device: torch.device
) -> torch.Tensor:
    """The random numbers of `draw`, [rows, 1]."""
    if not isinstance(generator, list):
        return _uniform(rows, generator, device)
    numbers = [_uniform(rows // len(generator), one, device).view(2, -1) for one in generator]
    return torch.cat(numbers, dim=1).view(-1, 1)


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
