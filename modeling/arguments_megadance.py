"""Checks of the arguments of models, generate() and the pipelines: one line for what is missing, misspelt or without effect.

transformers has some eighty generation options, most of them about text. An option without effect here is refused with the reason
and what to use instead, wherever it is given: as a keyword, in a `GenerationConfig`, or in the model's own.
"""

import difflib
import inspect
import math
import numbers
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from transformers.generation.configuration_utils import CompileConfig, GenerationConfig

from .errors_megadance import short

_LONGER = "a dance is never longer than its music: give more music"
_SPECIAL = "no code is special: a dance ends with its music, or sooner by stopping_criteria, max_new_tokens or max_time"
_BEAMS = "there is no beam search: use do_sample=True, with num_return_sequences for several dances"
_DRAFT = "no other model or text guesses the next codes: leave it out"
_CACHE = "the model keeps a cache of its own, of a fixed size: leave it out, or set use_cache=False"
_ENCODER = "the model reads no text: leave it out"
_NEGATIVE = (
    "guidance is by music, guidance_scale, by genre, genre_guidance_scale with negative_genre_ids, and by attributes, "
    "attribute_guidance_scale"
)
_COMPILE = "one process dances by itself: leave it out"
_START = (
    "a dance begins with the codes that are given: use upper_codes and lower_codes, or start_motion of the pipeline"
)
_GIVEN_UP = "there is no such search: use do_sample=True, with temperature, top_k or top_p"

# Options that have no effect, or fail deep inside, and why.
_NO_EFFECT = {
    **dict.fromkeys(("min_length", "min_new_tokens"), _LONGER),
    **dict.fromkeys(("eos_token_id", "pad_token_id", "forced_eos_token_id"), _SPECIAL),
    **dict.fromkeys(("stop_strings", "exponential_decay_length_penalty"), _SPECIAL),
    **dict.fromkeys(("bos_token_id", "decoder_start_token_id", "forced_bos_token_id"), _START),
    **dict.fromkeys(("num_beams", "num_beam_groups", "early_stopping", "length_penalty", "diversity_penalty"), _BEAMS),
    **dict.fromkeys(("constraints", "force_words_ids"), _BEAMS),
    **dict.fromkeys(("penalty_alpha", "dola_layers", "low_memory"), _GIVEN_UP),
    **dict.fromkeys(("assistant_model", "assistant_tokenizer", "is_assistant", "num_assistant_tokens"), _DRAFT),
    **dict.fromkeys(("num_assistant_tokens_schedule", "assistant_confidence_threshold"), _DRAFT),
    **dict.fromkeys(("assistant_early_exit", "assistant_lookbehind", "assistant_ensemble_weight"), _DRAFT),
    **dict.fromkeys(("prompt_lookup_num_tokens", "max_matching_ngram_size", "target_lookbehind"), _DRAFT),
    **dict.fromkeys(("speculation_type", "use_mtp", "tokenizer"), _DRAFT),
    **dict.fromkeys(("cache_config", "max_cache_len", "past_key_values", "cache"), _CACHE),
    **dict.fromkeys(("prefill_chunk_size", "continuous_batching_config"), _CACHE),
    **dict.fromkeys(("encoder_repetition_penalty", "encoder_no_repeat_ngram_size", "token_healing"), _ENCODER),
    **dict.fromkeys(("negative_prompt_ids", "negative_prompt_attention_mask"), _NEGATIVE),
    **dict.fromkeys(("watermarking_config", "custom_generate"), _ENCODER),
    "synced_gpus": _COMPILE,
    **dict.fromkeys(("output_attentions", "output_hidden_states"), "call the model itself on the codes for these"),
    "return_dict_in_generate": "there are two streams of codes, so a named output is what you always get: leave it out",
    "prefix_allowed_tokens_fn": "use logits_processor, which can forbid codes at each step",
    "input_ids": "a dance begins with upper_codes and lower_codes, and its music is input_features",
    "inputs": "give the music as input_features: generate(**processor(song, genre=...))",
    "inputs_embeds": "give the music as input_features: generate(**processor(song, genre=...))",
}
# The values of these that are accepted, since they ask for nothing.
_NEUTRAL = {
    **dict.fromkeys(("num_beams", "num_beam_groups", "length_penalty"), 1),
    **dict.fromkeys(("min_length", "min_new_tokens", "diversity_penalty", "encoder_no_repeat_ngram_size"), 0),
    **dict.fromkeys(("early_stopping", "token_healing", "output_attentions", "output_hidden_states"), False),
    **dict.fromkeys(("is_assistant", "low_memory", "synced_gpus", "use_mtp"), False),
    "encoder_repetition_penalty": 1,
    "return_dict_in_generate": True,
}
# Options of sampling, and their neutral value.
_SAMPLING = {
    "temperature": 1,
    "top_k": 0,
    "top_p": 1,
    "min_p": 0,
    "top_h": 1,
    "typical_p": 1,
    "epsilon_cutoff": 0,
    "eta_cutoff": 0,
}
_CODES = ("suppress_tokens", "begin_suppress_tokens", "bad_words_ids")
_OTHER = (
    *("do_sample", "repetition_penalty", "no_repeat_ngram_size", "sequence_bias", "renormalize_logits"),
    *("remove_invalid_values", "num_return_sequences", "output_scores", "output_logits", "use_cache"),
)
STEP_OPTIONS = ("cache_implementation", "compile_config", "disable_compile")  # how steps are computed
LENGTH_OPTIONS = ("max_length", "max_new_tokens", "max_time")
GUIDANCE_OPTIONS = ("guidance_scale", "genre_guidance_scale", "attribute_guidance_scale")  # all but the first are ours
GENERATION_OPTIONS = (
    *_SAMPLING,
    *_CODES,
    *LENGTH_OPTIONS,
    *GUIDANCE_OPTIONS,
    *STEP_OPTIONS,
    *_OTHER,
)  # those that have an effect
OWN_FIELDS = ("mode", "start_codes")  # of the generation configuration, in addition to those of transformers


# --- numbers ---------------------------------------------------------------------------------------------------------


def whole_number(name: str, value: Any, lowest: int = 0, highest: int | None = None) -> int:
    """Any kind of whole number (numpy's, a tensor of one element, 3.0) as an int.

    Raises:
        ValueError: it is no whole number, or not from `lowest` to `highest`.
    """
    number = _plain(value)
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if not isinstance(number, int) or number < lowest or (highest is not None and number > highest):
        wanted = f"of {lowest} or more" if highest is None else f"from {lowest} to {highest}"
        raise ValueError(f"{name}={short(repr(value))}: give a whole number {wanted}")
    return number


def real_number(name: str, value: Any, wanted: str, allowed: Callable[[float], bool]) -> float | int:
    """Any kind of finite number as an int or float.

    Args:
        wanted: the range in words, for the message.
        allowed: whether a number is in the range.

    Raises:
        ValueError: it is no number, or not in the range.
    """
    number = _plain(value)
    if number is None or not math.isfinite(number) or not allowed(number):
        raise ValueError(f"{name}={short(repr(value))}: give {wanted}")
    return number


def seed_number(value: Any) -> int:
    """A seed for torch: any whole number of 0 or more, modulo 2**64.

    Raises:
        ValueError: it is no such number.
    """
    return whole_number("seed", value) % 2**64


def random_seed() -> int:
    """A seed from torch's global random numbers, so that `torch.manual_seed` fixes what is made with it."""
    return int(torch.randint(2**32, ()))


def _plain(value: Any) -> int | float | None:
    """An int or float, or None if it is no number (True and False are none)."""
    if isinstance(value, torch.Tensor) or (hasattr(value, "item") and hasattr(value, "dtype")):
        if math.prod(value.shape) != 1:
            return None
        value = value.item()
    if isinstance(value, bool):
        return None
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else None


_RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "temperature": ("a number above 0", lambda number: number > 0),
    "top_p": ("a number above 0, up to 1", lambda number: 0 < number <= 1),
    "typical_p": ("a number above 0, up to 1", lambda number: 0 < number <= 1),
    "top_h": ("a number above 0, up to 1", lambda number: 0 < number <= 1),
    "min_p": ("a number from 0 to 1", lambda number: 0 <= number <= 1),
    "epsilon_cutoff": ("a number from 0 to below 1", lambda number: 0 <= number < 1),
    "eta_cutoff": ("a number from 0 to below 1", lambda number: 0 <= number < 1),
    "repetition_penalty": ("a number above 0", lambda number: number > 0),
    "max_time": ("seconds, a number above 0", lambda number: number > 0),
    **dict.fromkeys(GUIDANCE_OPTIONS, ("a number of 0 or more, 1 for none", lambda number: number >= 0)),
}
MOST_DANCES = 10_000  # to one song at once: more is a mistake, and runs out of memory
_WHOLE = {
    **{"top_k": (0,), "no_repeat_ngram_size": (0,), "num_return_sequences": (1, MOST_DANCES)},
    **{"max_length": (1,), "max_new_tokens": (1,)},
}
_SWITCHES = (
    "do_sample",
    "use_cache",
    "renormalize_logits",
    "remove_invalid_values",
    "output_scores",
    "output_logits",
    "disable_compile",
)


def _checked(name: str, value: Any) -> Any:
    """The checked value of an option that has an effect; numbers as int or float."""
    if value is None:
        return None
    if name in _WHOLE:
        return whole_number(name, value, *_WHOLE[name])
    if name in _RANGES:
        return real_number(name, value, *_RANGES[name])
    if name == "cache_implementation" and value not in ("static", "dynamic"):
        raise ValueError(
            f"{name}={short(repr(value))}: give 'static' or 'dynamic'; the cache is never larger than a window"
        )
    if name == "compile_config" and not isinstance(value, CompileConfig):
        raise ValueError(f"{name} of type {type(value).__name__}: give a transformers.CompileConfig")
    if name in _SWITCHES and not isinstance(value, bool):
        raise ValueError(f"{name}={short(repr(value))}: give True or False")
    return value


# --- options of generate() -------------------------------------------------------------------------------------------


def check_generation(
    options: Mapping[str, Any],
    own: GenerationConfig | None,
    known: Collection[str] = (),
    codebook_size: int | None = None,
    samples: bool = False,
    where: str = "generate()",
) -> dict[str, Any]:
    """Check all options before anything is computed.

    Args:
        options: keywords, which may include a `generation_config`.
        own: the model's own generation configuration.
        known: options that the caller checks itself; they are also suggested for a misspelt name.
        codebook_size: codes in options must be below it.
        samples: whether codes are sampled if neither the options nor `own` say.
        where: what takes the options, for messages.

    Returns:
        the options; numbers as int or float.

    Raises:
        ValueError: an option has no effect, is misspelt, or is out of range.
    """
    config = options.get("generation_config")
    if config is not None and not isinstance(config, GenerationConfig):
        raise ValueError(f"generation_config of type {type(config).__name__}: give a transformers.GenerationConfig")
    checked, given = {}, {}
    for name, value in options.items():
        if name in ("generation_config", "start_codes") or name in known:
            checked[name] = value
            continue
        if name not in GENERATION_OPTIONS:
            _refuse(name, value, known, where)
            continue  # it was neutral and can be dropped
        checked[name] = given[name] = _checked(name, value)
    given = {**_of_config(config, known, where), **given}
    _of_config(own, known, where, strict=False)
    _check_codes(given, codebook_size)
    do_sample = given.get("do_sample")
    if do_sample is None:
        do_sample = getattr(own, "do_sample", None)
    if not (samples if do_sample is None else do_sample):
        for name, neutral in _SAMPLING.items():
            if given.get(name) not in (None, neutral):
                raise ValueError(
                    f"{name}={given[name]!r} does nothing without sampling: add do_sample=True, or leave it out"
                )
    return checked


def merge_generation(
    own: GenerationConfig, config: GenerationConfig | None, options: Mapping[str, Any]
) -> GenerationConfig:
    """The model's own configuration, a given one and keywords in one, the later ones before the earlier.

    transformers' own way to do this validates as for text, and warns of what is right here.

    Raises:
        ValueError: several dances without sampling.
    """
    merged = GenerationConfig()
    merged.top_k, merged.use_cache = 50, True  # as transformers' defaults; those of the others do nothing
    layers = [{name: value for name, value in vars(one).items() if value is not None} for one in (own, config) if one]
    for layer in (*layers, options):
        if "max_length" in layer or "max_new_tokens" in layer:  # one of them is another length than the other before
            merged.max_length = merged.max_new_tokens = None
        for name, value in layer.items():
            setattr(merged, name, value)
    if (merged.num_return_sequences or 1) > 1 and not merged.do_sample:
        raise ValueError(
            f"num_return_sequences={merged.num_return_sequences}: without sampling all would be the same dance; add do_sample=True"
        )
    return merged


def _of_config(config: GenerationConfig | None, known: Collection[str], where: str, strict: bool = True) -> dict:
    """The checked options of a configuration. Unless `strict`, those that this version of transformers does not know are skipped."""
    given, defaults = {}, vars(GenerationConfig())
    for name, value in ({} if config is None else vars(config)).items():
        if name.startswith("_") or name in ("transformers_version", *OWN_FIELDS) or value is None:
            continue
        if name in GENERATION_OPTIONS:
            given[name] = _checked(name, value)
        elif value != defaults.get(name) and (strict or name in _NO_EFFECT):
            origin = "generation_config" if strict else "the model's generation_config"
            _refuse(name, value, known, where, f" in {origin}")
    return given


def _refuse(name: str, value: Any, known: Collection[str], where: str, origin: str = "") -> None:
    """Raise a ValueError that says why an option is refused, unless its value is neutral."""
    if value is None and (name in _NO_EFFECT or hasattr(GenerationConfig(), name)):
        return
    if name in _NO_EFFECT:
        if name in _NEUTRAL and value == _NEUTRAL[name]:
            return
        raise ValueError(f"{name}={short(repr(value))}{origin}: {_NO_EFFECT[name]}")
    unknown_option(name + origin, {*GENERATION_OPTIONS, *OWN_FIELDS, *known, "generation_config"}, where)


def unknown_option(name: str, names: Collection[str], where: str) -> None:
    """Raise a ValueError that suggests the nearest name."""
    near = difflib.get_close_matches(name.split()[0], sorted(names), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"give some of {', '.join(sorted(names))}"
    raise ValueError(f"{name} is no option of {where}: {hint}")


def _check_codes(given: Mapping[str, Any], codebook_size: int | None) -> None:
    """Raises ValueError if an option names a code that is not in the codebook."""
    if codebook_size is None:
        return
    named = {name: given[name] for name in _CODES if given.get(name) is not None}
    bias = given.get("sequence_bias")
    if bias is not None:
        named["sequence_bias"] = list(bias) if isinstance(bias, Mapping) else [entry[0] for entry in bias]
    for name, codes in named.items():
        try:
            flat = [_plain(code) for entry in codes for code in (entry if isinstance(entry, list | tuple) else [entry])]
        except TypeError:
            flat = [None]
        if not all(isinstance(code, int) and 0 <= code < codebook_size for code in flat):
            raise ValueError(f"{name}={short(repr(given[name]))}: give codes of 0 to {codebook_size - 1}, the codebook")


def check_helpers(
    logits_processor: Any = None, stopping_criteria: Any = None, streamer: Any = None, progress: Any = False
) -> None:
    """Raises ValueError unless what is called at each step can be called."""
    for name, value, kind in (
        ("logits_processor", logits_processor, "LogitsProcessorList"),
        ("stopping_criteria", stopping_criteria, "StoppingCriteriaList"),
    ):
        functions = value if isinstance(value, list | tuple) else [value]
        if value is not None and not (isinstance(value, list | tuple) and all(map(callable, functions))):
            raise ValueError(f"{name} of type {type(value).__name__}: give a {kind}, or a list of functions")
    if streamer is not None and not (hasattr(streamer, "put") and hasattr(streamer, "end")):
        raise ValueError(f"streamer of type {type(streamer).__name__}: give an object with put() and end()")
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise ValueError(f"progress={short(repr(progress))}: give True, False or a function")


def names_of(function: Callable) -> tuple[str, ...]:
    """The names of a function's parameters."""
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    parameters = inspect.signature(function).parameters.values()
    return tuple(one.name for one in parameters if one.kind not in kinds and one.name != "self")


# --- inputs of models ------------------------------------------------------------------------------------------------


def need_tensors(remedy: str, **tensors: Any) -> None:
    """Raises ValueError unless all of these are tensors; `remedy` says where they come from."""
    missing = [name for name, value in tensors.items() if value is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise ValueError(f"{' and '.join(missing)} {verb} missing: {remedy}")
    for name, value in tensors.items():
        if not isinstance(value, torch.Tensor):
            raise ValueError(
                f"{name} of type {type(value).__name__} is no tensor: give a torch.Tensor (return_tensors='pt')"
            )


def need_codes(**tensors: Any) -> None:
    """Raises ValueError unless those that are not None are tensors of whole numbers."""
    for name, value in tensors.items():
        if value is None:
            continue
        need_tensors("", **{name: value})
        if value.is_floating_point() or value.dtype == torch.bool:
            raise ValueError(f"{name} has numbers of type {value.dtype}: give whole numbers (torch.long)")


def need_counts(num_frames: Any, batch: int) -> list[int] | None:
    """`num_frames` as a list with one whole number per item of the batch; None as it is.

    Raises:
        ValueError: it is no number of 1 or more, or there is not one per item.
    """
    if num_frames is None:
        return None
    if isinstance(num_frames, torch.Tensor) or hasattr(num_frames, "tolist"):
        num_frames = num_frames.tolist()
    counts = list(num_frames) if isinstance(num_frames, list | tuple) else [num_frames]
    counts = [whole_number("num_frames", count, 1) for count in counts]
    if len(counts) != batch:
        raise ValueError(f"num_frames has {len(counts)} numbers for a batch of {batch}: give one for each")
    return counts
