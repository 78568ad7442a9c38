"""Options of generate() have an effect or are refused in one line, in all three places where they can be given."""

import copy
import logging
import re

import numpy as np
import pytest
import torch
from helpers import GENRES, tiny_generator
from transformers import EosTokenCriteria, GenerationConfig, MaxLengthCriteria, StoppingCriteriaList

from megadance_hf.modeling.arguments_megadance import (
    _NEUTRAL,
    _NO_EFFECT,
    GENERATION_OPTIONS,
    LENGTH_OPTIONS,
    check_generation,
    need_counts,
    seed_number,
    whole_number,
)

pytestmark = pytest.mark.versions


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return tiny_generator()


INPUTS = {"input_features": torch.randn(2, 96, 35), "genre_ids": torch.tensor([0, 2])}

# One value for each option that would do nothing.
SAID = {
    "min_length": 4,
    "min_new_tokens": 4,
    "stop_strings": "end",
    "eos_token_id": 3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "num_beams": 4,
    "early_stopping": True,
    "length_penalty": 2.0,
    "prompt_lookup_num_tokens": 3,
    "forced_bos_token_id": 2,
    "forced_eos_token_id": 2,
    "token_healing": True,
    "encoder_repetition_penalty": 1.5,
    "penalty_alpha": 0.6,
    "output_attentions": True,
    "output_hidden_states": True,
    "exponential_decay_length_penalty": (2, 1.1),
}


@pytest.mark.parametrize("name", SAID)
def test_options_without_effect_are_refused_in_all_places(model, name):
    value = SAID[name]
    with pytest.raises(ValueError, match=rf"^{name}={re.escape(repr(value))}: ") as caught:
        model.generate(**INPUTS, **{name: value})
    assert "\n" not in str(caught.value)
    config = GenerationConfig()
    setattr(config, name, value)  # its constructor refuses some pairs by itself
    with pytest.raises(ValueError, match=rf"^{name}=.* in generation_config: "):
        model.generate(**INPUTS, generation_config=config)
    with pytest.raises(ValueError, match=rf"^{name}=.* in the model's generation_config: "):
        check_generation({}, config)


@pytest.mark.parametrize("name", ["assistant_model", "past_key_values", "input_ids", "synced_gpus"])
def test_other_keywords_of_transformers_are_refused(model, name):
    with pytest.raises(ValueError, match=f"^{name}="):
        model.generate(**INPUTS, **{name: object()})


def test_neutral_options_are_accepted(model):
    expected = model.generate(**INPUTS)
    nothing = {name: None for name in vars(GenerationConfig()) if not name.startswith("_")} | _NEUTRAL
    given = {name: value for name, value in nothing.items() if name not in ("transformers_version", "use_cache")}
    assert torch.equal(model.generate(**INPUTS, **given).upper_codes, expected.upper_codes)
    assert torch.equal(model.generate(**INPUTS, generation_config=GenerationConfig()).upper_codes, expected.upper_codes)


def test_every_field_of_a_generation_configuration_is_honoured_or_refused():
    """A new one of transformers is refused until somebody has looked at it; here is said which those are."""
    fields = {name for name in vars(GenerationConfig()) if not name.startswith("_")} - {"transformers_version"}
    assert fields - set(GENERATION_OPTIONS) - set(_NO_EFFECT) == set()
    assert not set(GENERATION_OPTIONS) & set(_NO_EFFECT)
    with pytest.raises(ValueError, match="shiny_new_field is no option"):
        check_generation({"shiny_new_field": 1}, None)


# What each option is given as; and what it is compared with.
HONOURED = {
    "temperature": 3.0,
    "top_k": 2,
    "top_p": 0.3,
    "min_p": 0.9,
    "top_h": 0.2,
    "typical_p": 0.2,
    "epsilon_cutoff": 0.3,
    "eta_cutoff": 0.9,
    "repetition_penalty": 30.0,
    "no_repeat_ngram_size": 1,
    "suppress_tokens": list(range(20)),
    "begin_suppress_tokens": list(range(26)),
    "bad_words_ids": [[code] for code in range(20)],
    "sequence_bias": {(3,): 50.0},
    "guidance_scale": 9.0,
    "do_sample": False,
}


@pytest.mark.parametrize("name", HONOURED)
def test_honoured_options_change_the_dance(model, name):
    def dance(**options):
        options = {"do_sample": True, "top_k": 0, "seed": 0, **options}
        return model.generate(**INPUTS, **options).upper_codes

    changed = dance(**{name: HONOURED[name]})
    assert not torch.equal(changed, dance())
    config = GenerationConfig(**{"do_sample": True, "top_k": 0, name: HONOURED[name]})
    assert torch.equal(model.generate(**INPUTS, generation_config=config, seed=0).upper_codes, changed)


def test_all_honoured_options_are_tested():
    elsewhere = {"num_return_sequences", "output_scores", "output_logits", "use_cache", "renormalize_logits"}
    elsewhere |= {"cache_implementation", "compile_config", "disable_compile"}
    elsewhere |= {"genre_guidance_scale", "attribute_guidance_scale"}  # with negative_genre_ids, with attributes
    assert set(HONOURED) | elsewhere | {"remove_invalid_values", *LENGTH_OPTIONS} == set(GENERATION_OPTIONS)


# --- lengths ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "codes"),
    [
        ({"max_length": 5}, 5),
        ({"max_length": 1}, 1),
        ({"max_new_tokens": 5}, 6),
        ({"max_new_tokens": 3, "max_length": 9}, 4),
        ({"max_new_tokens": 8, "max_length": 4}, 4),
        ({"max_time": 1e-9}, 2),
        ({"max_new_tokens": 100, "max_length": 100, "max_time": 1e6}, 12),
    ],
)
def test_a_dance_can_end_before_its_music_and_is_the_same_until_there(model, options, codes):
    inputs = {**INPUTS, "num_frames": [93, 30], "do_sample": True, "output_scores": True, "output_logits": True}
    whole = model.generate(**inputs, seed=0)
    config = GenerationConfig(do_sample=True, output_scores=True, return_dict_in_generate=True, **options)
    own = copy.deepcopy(model)
    own.generation_config.update(**options)
    for output in (
        model.generate(**inputs, seed=0, **options),
        model.generate(**INPUTS, num_frames=[93, 30], generation_config=config, seed=0),
        own.generate(**inputs, seed=0),
    ):
        assert output.lengths.tolist() == [codes, min(codes, 4)]
        assert output.num_frames.tolist() == [min(8 * codes, 93), min(8 * codes, 30)]
        assert torch.equal(output.upper_codes, whole.upper_codes[:, :codes])
        assert torch.equal(output.lower_codes, whole.lower_codes[:, :codes])
        if codes > 1:
            assert torch.equal(output.upper_scores, whole.upper_scores[:, : codes - 1])
            assert output.upper_logits is None or output.upper_logits.shape == output.upper_scores.shape
        else:
            assert output.upper_scores is None


def test_what_is_said_last_about_a_length_counts(model):
    own = copy.deepcopy(model)
    own.generation_config.max_length = 4
    config = GenerationConfig(max_new_tokens=6)
    assert own.generate(**INPUTS).lengths.tolist() == [4, 4]
    assert own.generate(**INPUTS, generation_config=config).lengths.tolist() == [7, 7]
    assert own.generate(**INPUTS, generation_config=config, max_length=9).lengths.tolist() == [9, 9]
    assert own.generate(**INPUTS, max_length=None).lengths.tolist() == [12, 12]


def test_lengths_count_what_is_given(model):
    prompt = {name: torch.zeros(2, 3, dtype=torch.long) for name in ("upper_codes", "lower_codes")}
    assert model.generate(**INPUTS, **prompt, max_new_tokens=2).lengths.tolist() == [5, 5]
    assert model.generate(**INPUTS, **prompt, max_length=3).upper_codes.tolist() == [[0, 0, 0]] * 2
    with pytest.raises(ValueError, match="max_length=2: 3 codes are given already; give 3 or more, or max_new_tokens"):
        model.generate(**INPUTS, **prompt, max_length=2)


def test_criteria_end_an_item_by_either_of_its_streams(model):
    seen = []

    def criterion(codes, scores):
        seen.append((tuple(codes.shape), len(scores), tuple(scores[-1].shape)))
        stops = torch.zeros(len(codes), dtype=torch.bool)
        if codes.shape[1] == 4:
            stops[2] = True  # lower body of item 0
        if codes.shape[1] == 7:
            stops[1] = True  # upper body of item 1
        return stops

    inputs = {**INPUTS, "num_frames": [93, 90], "do_sample": True, "seed": 0}
    whole = model.generate(**inputs)
    chunks = []
    streamer = type("Streamer", (), {"put": lambda self, codes: chunks.append(codes), "end": lambda self: None})()
    output = model.generate(**inputs, stopping_criteria=StoppingCriteriaList([criterion]), streamer=streamer)
    assert output.lengths.tolist() == [4, 7] and output.num_frames.tolist() == [32, 56]
    assert seen == [((4, length), 1, (4, 27)) for length in range(2, 8)], "it computes no longer than needed"
    assert torch.equal(output.upper_codes[1], whole.upper_codes[1, :7])
    assert torch.equal(output.lower_codes[0, :4], whole.lower_codes[0, :4])
    assert (output.lower_codes[0, 4:] == output.lower_codes[0, 3]).all()
    assert torch.equal(torch.cat(chunks, -1)[:, 0], output.upper_codes)
    seen.clear()
    model.generate(**inputs, stopping_criteria=[criterion], output_scores=True)
    assert [count for _, count, _ in seen] == [1, 2, 3, 4, 5, 6], "as transformers does it"


def test_criteria_of_transformers_and_of_all_kinds(model):
    prompt = {name: torch.zeros(2, 3, dtype=torch.long) for name in ("upper_codes", "lower_codes")}
    for criteria, codes in (
        ([MaxLengthCriteria(5)], 5),
        (StoppingCriteriaList([MaxLengthCriteria(9), StoppingCriteriaList([MaxLengthCriteria(6)])]), 6),
        ([lambda codes, scores: codes.shape[1] >= 8], 8),
        ([lambda codes, scores: False], 12),
        ([EosTokenCriteria(torch.arange(27))], 4),
        ([], 12),
    ):
        assert model.generate(**INPUTS, **prompt, stopping_criteria=criteria).lengths.tolist() == [codes] * 2
    for wrong, message in (
        ([lambda codes, scores: None], "stopping_criteria gave None: give True or False, or a tensor with one"),
        ([lambda codes, scores: torch.ones(4)], "stopping_criteria gave tensor.*: give True or False"),
        ([lambda codes, scores: torch.ones(3) > 0], "one of them for each of the 4 rows of codes"),
        (MaxLengthCriteria(5), "stopping_criteria of type MaxLengthCriteria: give a StoppingCriteriaList"),
    ):
        with pytest.raises(ValueError, match=message):
            model.generate(**INPUTS, stopping_criteria=wrong)


def test_nothing_is_logged_about_options_that_have_an_effect(model, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    own = copy.deepcopy(model)
    own.generation_config.output_scores, own.generation_config.temperature = True, 0.5
    for one in (model, own):
        output = one.generate(**INPUTS, output_logits=True, output_scores=True, do_sample=False)
        assert output.upper_logits.shape == output.upper_scores.shape == (2, 11, 27)
        config = GenerationConfig(do_sample=True, top_k=3)
        one.generate(**INPUTS, generation_config=config, output_logits=True)
    assert not caplog.records


def test_scores_can_be_normalised(model):
    options = {"do_sample": True, "seed": 0, "output_scores": True, "top_k": 0}
    plain, normal = (model.generate(**INPUTS, **options, renormalize_logits=flag) for flag in (False, True))
    torch.testing.assert_close(normal.upper_scores, plain.upper_scores.log_softmax(-1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temprature": 0.5}, "temprature is no option of generate.*: did you mean 'temperature'"),
        ({"atention_mask": None}, "did you mean 'attention_mask'"),
        (
            {"generation_config": GenerationConfig(temprature=0.5)},
            "temprature in generation_config is no option.*'temp",
        ),
        ({"generation_config": {"top_k": 3}}, "generation_config of type dict"),
        ({"temperature": 0.5}, "temperature=0.5 does nothing without sampling: add do_sample=True"),
        ({"top_k": 3, "do_sample": False}, "top_k=3 does nothing without sampling"),
        ({"do_sample": True, "top_k": -1}, "top_k=-1: give a whole number of 0 or more"),
        ({"do_sample": True, "top_k": True}, "top_k=True"),
        ({"do_sample": True, "temperature": "hot"}, "temperature='hot': give a number above 0"),
        ({"do_sample": True, "temperature": float("nan")}, "temperature=nan"),
        ({"do_sample": True, "top_p": 2}, "top_p=2"),
        ({"do_sample": True, "typical_p": 0}, "typical_p=0"),
        ({"do_sample": "yes"}, "do_sample='yes': give True or False"),
        ({"suppress_tokens": [5000]}, "suppress_tokens=.5000.: give codes of 0 to 26"),
        ({"bad_words_ids": [[1, 27]]}, "bad_words_ids="),
        ({"sequence_bias": {(99,): 1.0}}, "sequence_bias="),
        ({"num_return_sequences": 10**9}, "num_return_sequences=1000000000: give a whole number from 1 to 10000"),
        ({"seed": -1}, "seed=-1: give a whole number of 0 or more"),
        ({"seed": "a"}, "seed='a'"),
        ({"seed": [1, 2, 3]}, "seed has 3 entries for a batch of 2"),
        ({"generator": 5}, "generator of type int: give a torch.Generator"),
        ({"seed": 1, "generator": torch.Generator()}, "seed and generator are both given"),
        ({"num_frames": [96]}, "num_frames has 1 numbers for a batch of 2"),
        ({"rhythm": torch.zeros(2, 88, 4)}, r"rhythm has shape \(2, 88, 4\); input_features needs \(2, 96, 4\)"),
        ({"rhythm": [0.0]}, "rhythm of type list is no tensor"),
        ({"num_frames": [96, 80]}, "num_frames has 80 for 12 codes of music: give 89 to 96"),
        ({"genre_ids": None}, "genre_ids is missing: give what the processor makes"),
        ({"input_features": None, "genre_ids": None}, "input_features and genre_ids are missing"),
        ({"input_features": np.zeros((2, 96, 35))}, "input_features of type ndarray is no tensor: give a torch.Tensor"),
        ({"genre_ids": torch.tensor([0.0, 1.0])}, "genre_ids has numbers of type torch.float32: give whole numbers"),
        (
            {"upper_codes": np.zeros((2, 1)), "lower_codes": np.zeros((2, 1))},
            "upper_codes of type ndarray is no tensor",
        ),
        ({"attention_mask": np.ones((2, 96))}, "attention_mask of type ndarray is no tensor"),
        ({"input_features": torch.full((2, 96, 35), float("nan"))}, "input_features has NaN or infinite numbers"),
        ({"max_length": 0}, "max_length=0: give a whole number of 1 or more"),
        ({"max_new_tokens": 2.5}, "max_new_tokens=2.5: give a whole number"),
        ({"max_time": 0}, "max_time=0: give seconds, a number above 0"),
        ({"stopping_criteria": [3]}, "stopping_criteria of type list: give a StoppingCriteriaList"),
        ({"num_return_sequences": 2}, "num_return_sequences=2: without sampling all would be the same dance"),
        ({"logits_processor": 3}, "logits_processor of type int: give a LogitsProcessorList"),
        ({"streamer": 3}, "streamer of type int: give an object with put"),
        ({"progress": "yes"}, "progress='yes': give True, False or a function"),
        ({"genre_ids": torch.tensor([0])}, "genre_ids has shape .1,.; input_features needs .2,."),
    ],
)
def test_wrong_arguments_of_generate_are_named(model, options, message):
    inputs = {**INPUTS, "attention_mask": torch.ones(2, 96), **options}
    with pytest.raises(ValueError, match=message) as caught:
        model.generate(**inputs)
    assert "\n" not in str(caught.value)


def test_numbers_of_every_type(model):
    def dance(**options):
        return model.generate(**INPUTS, do_sample=True, seed=3, **options).upper_codes

    assert torch.equal(dance(top_k=0), dance(top_k=27)) and torch.equal(dance(top_k=None), dance(top_k=0))
    for number in (np.int64(3), torch.tensor(3), 3.0):
        assert torch.equal(dance(top_k=number), dance(top_k=3))
    assert torch.equal(dance(temperature=np.float32(0.5)), dance(temperature=0.5))


# --- seeds -----------------------------------------------------------------------------------------------------------


def test_seeds_of_any_size(model):
    def dance(seed):
        return model.generate(**INPUTS, do_sample=True, seed=seed).upper_codes

    for seed in (0, 7, 2**32 - 1, 2**63, 2**64 - 1, 2**64, 10**50, np.uint64(2**63), torch.tensor(5), 3.0):
        assert dance(seed).shape == (2, 12)
    assert torch.equal(dance(2**64 + 5), dance(5)) and torch.equal(dance(np.int32(5)), dance(5))
    assert seed_number(2**64 - 1) == 2**64 - 1 and seed_number(10**50) == 10**50 % 2**64
    for wrong in (-1, 1.5, True, None, "1", [1]):
        with pytest.raises(ValueError, match="give a whole number of 0 or more"):
            seed_number(wrong)


def test_seeds_per_item_give_the_samples_of_single_items(model):
    options = {"do_sample": True, "top_k": 0, "num_return_sequences": 2}
    generators = [torch.Generator().manual_seed(seed) for seed in (5, 8)]
    together = model.generate(**INPUTS, **options, seed=[5, 8])
    assert torch.equal(together.upper_codes, model.generate(**INPUTS, **options, generator=generators).upper_codes)
    for index, seed in enumerate((5, 8)):
        alone = {name: value[index : index + 1] for name, value in INPUTS.items()}
        codes = model.generate(**alone, **options, seed=seed)
        rows = slice(2 * index, 2 * index + 2)
        assert torch.equal(codes.upper_codes, together.upper_codes[rows])
        assert torch.equal(codes.lower_codes, together.lower_codes[rows])


# --- helpers ---------------------------------------------------------------------------------------------------------


def test_counts():
    assert need_counts(None, 3) is None
    assert need_counts(torch.tensor([4, 5]), 2) == need_counts(np.array([4, 5]), 2) == need_counts((4, 5), 2) == [4, 5]
    assert need_counts(7, 1) == [7] and whole_number("n", np.int8(3)) == 3
    with pytest.raises(ValueError, match="num_frames=0"):
        need_counts([0], 1)


def test_lengths_are_known_from_the_frames_alone(model):
    counts = torch.tensor([90, 35])
    output = model.generate(**INPUTS, num_frames=counts, num_return_sequences=2, do_sample=True, seed=0)
    assert output.lengths.tolist() == [12, 12, 5, 5] and output.num_frames.tolist() == [90, 90, 35, 35]
    assert output.genre_ids.tolist() == [0, 0, 2, 2] and len(GENRES) == 3
