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

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers.generation.configuration_utils import GenerationConfig
from transformers.generation.logits_process import LogitsProcessorList
from transformers.generation.streamers import BaseStreamer
from transformers.generation.utils import GenerationMixin
from transformers.utils import ModelOutput

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
        upper_codes, lower_codes: [batch, codes]; beyond an item's length its last code is repeated.
        lengths: [batch], codes of each item.
        upper_logits, lower_logits: [batch, generated codes, codebook_size] before the logits processors, with
            `output_logits=True`.
        upper_scores, lower_scores: the same after them, with `output_scores=True`.
    """

    upper_codes: torch.Tensor | None = None
    lower_codes: torch.Tensor | None = None
    lengths: torch.Tensor | None = None
    upper_logits: torch.Tensor | None = None
    lower_logits: torch.Tensor | None = None
    upper_scores: torch.Tensor | None = None
    lower_scores: torch.Tensor | None = None


class MegaDanceGenerationMixin(GenerationMixin):
    """`generate()` for a model whose forward takes music, two code streams and genres."""

    @torch.no_grad()
    def generate(
        self,
        input_features: torch.Tensor,
        genre_ids: torch.Tensor,
        upper_codes: torch.Tensor | None = None,
        lower_codes: torch.Tensor | None = None,
        mode: str | None = None,
        generation_config: GenerationConfig | None = None,
        logits_processor: LogitsProcessorList | None = None,
        streamer: BaseStreamer | None = None,
        attention_mask: torch.Tensor | None = None,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        progress: bool | Callable[[int, int], None] = False,
        **kwargs,
    ) -> MegaDanceGenerateOutput:
        """Dance to music: one pair of codes for each whole `frames_per_code` frames of it.

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
            streamer: its `put` gets codes [batch, 2, new] as they come (the start first), then `end` is called.
            attention_mask: [batch, frames], 1 for music, then 0 for padding, when the items differ in length.
            seed, generator: source of all randomness (one of the two); torch's global one when both are None. An item
                drawn in a batch is another one than the same item drawn alone.
            progress: True for a bar, or a function called with (codes done, codes in all).
            kwargs: fields of the generation configuration: do_sample, temperature, top_k, top_p, num_return_sequences,
                output_logits, use_cache, ... `use_cache=False` computes every window anew, with the same result.

        Raises:
            ValueError: music shorter than one code, a prompt longer than the music or outside the codebook, an unknown
                mode, genre or keyword.
        """
        config = self.config
        generation_config, unknown = self._prepare_generation_config(generation_config, **kwargs)
        if unknown:
            raise ValueError(f"{', '.join(sorted(unknown))}: generate() does not know these; see GenerationConfig")
        mode = mode or getattr(generation_config, "mode", None) or "paper"
        if mode not in MODES:
            raise ValueError(f"mode={mode!r} is unknown; use one of {', '.join(MODES)}")
        if (generation_config.num_beams or 1) > 1:
            raise ValueError(f"num_beams={generation_config.num_beams}: there is no beam search; use do_sample=True")
        copies = generation_config.num_return_sequences or 1
        if seed is not None and generator is not None:
            raise ValueError("seed and generator are both given; use one of them")

        device = self.device
        if seed is not None:
            generator = torch.Generator(device).manual_seed(seed)
        features, genre_ids = input_features.to(device), genre_ids.to(device)
        lengths = self._code_lengths(features, attention_mask).to(device)
        total = int(lengths.max())
        features = features[:, : total * config.frames_per_code].repeat_interleave(copies, 0)
        genre_ids, lengths = genre_ids.repeat_interleave(copies, 0), lengths.repeat_interleave(copies, 0)
        prompt = self._start(upper_codes, lower_codes, genre_ids, copies, generation_config, generator)
        known = prompt.shape[1]
        if known > int(lengths.min()):
            raise ValueError(
                f"upper_codes: {known} codes are given, but the shortest music lasts {int(lengths.min())} codes; "
                "give fewer codes or more music"
            )

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
        music = self.base_model.encode_music(features, self._rhythm(features, lengths))
        use_cache = bool(generation_config.use_cache)
        steps = self._window_logits(music, codes, genre_ids, mode, known, total, use_cache)
        for index, logits in steps:
            scores = processors(codes[:, :index], logits)
            if generation_config.do_sample:
                new = draw(scores, generator)
            else:
                new = scores.argmax(-1)
            ended = (index >= lengths).repeat(2)
            codes[:, index] = torch.where(ended, codes[:, index - 1], new)
            if generation_config.output_logits:
                all_logits.append(logits)
            if generation_config.output_scores:
                all_scores.append(scores)
            if streamer is not None:
                streamer.put(codes[:, index].view(2, batch, 1).transpose(0, 1).cpu())
            report(index + 1)
        close()
        if streamer is not None:
            streamer.end()

        def per_stream(steps):
            return torch.stack(steps, dim=1).chunk(2) if steps else (None, None)

        return MegaDanceGenerateOutput(*codes.chunk(2), lengths, *per_stream(all_logits), *per_stream(all_scores))

    def _rhythm(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor | None:
        """Beat and bar, read from each whole song: a window alone tells less."""
        frames = torch.arange(features.shape[1], device=features.device)
        return self.base_model.encode_rhythm(features, frames < lengths[:, None] * self.config.frames_per_code)

    def _window_logits(self, music, codes, genre_ids, mode, known, total, use_cache):
        """Yield (index, logits [2 * batch, codebook_size]) of each code to come; the caller fills `codes[:, index]`."""
        config = self.config
        upper, lower = codes.chunk(2)  # views
        # Made and held here: what a forward calls it in its output depends on the version of transformers.
        cache, cache_start = self.make_cache(genre_ids) if use_cache else None, None
        for index in range(known, total):
            start = window_start(mode, index, config.context_codes, config.slide_codes)
            begin, piece = start, index - start
            if use_cache and cache_start == start:
                begin = index - 1
            elif use_cache:
                cache_start = start
                cache.reset()
            if use_cache:  # attention over a long prompt at once would need memory that grows with its square
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
                )
            yield index, torch.cat((outputs.upper_logits, outputs.lower_logits))[:, -1].float()

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
                f"({self.config.frames_per_code} frames at {self.config.fps} a second); give longer music"
            )
        return lengths

    def _start(self, upper_codes, lower_codes, genre_ids, copies, generation_config, generator) -> torch.Tensor:
        """The codes that the dance begins with, [2 * batch, 1 or more]."""
        size = self.config.codebook_size
        if (upper_codes is None) != (lower_codes is None):
            raise ValueError("upper_codes and lower_codes must be given together, or neither of them")
        if upper_codes is None:
            pairs = [self._start_pair(index, generation_config, generator) for index in genre_ids.tolist()]
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
        if not 0 <= genre_id < len(self.config.genres):
            self._check_built(genre_id)
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


def draw(scores: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """A code a row, [rows], with the probabilities that are the softmax of its scores, [rows, codes].

    Where one uniform number falls in their running sum. `torch.multinomial` draws a number for each code, which takes as long as an expert.
    """
    running = scores.softmax(-1).cumsum(-1)
    running = running / running[:, -1:]  # so that the number is below the last one
    number = torch.rand(len(scores), 1, generator=generator, device=scores.device)
    return torch.searchsorted(running, number, right=True)[:, 0]


def _progress(progress: bool | Callable[[int, int], None], total: int) -> tuple[Callable[[int], None], Callable]:
    """Functions to report how many codes are done, and to end."""
    if callable(progress):
        return lambda done: progress(done, total), lambda: None
    if not progress:
        return lambda done: None, lambda: None
    from tqdm.auto import tqdm

    bar = tqdm(total=total, unit="code", desc="dance")
    return lambda done: bar.update(done - bar.n), bar.close


__all__ = ["MODES", "MegaDanceGenerateOutput", "MegaDanceGenerationMixin", "draw", "window_start"]
