"""Genre plans, mixtures, guidance and known codes: fast ways against one forward for each pass, code and item, without a cache."""

import pytest
import torch
from helpers import Streamer
from hypothesis import given, settings
from hypothesis import strategies as st
from test_generation_megadance import CODES, GENRES, MIXED, MODEL, song, start, tiny_model
from transformers import GenerationConfig, MaxLengthCriteria

from megadance_hf.modeling import generation_megadance
from megadance_hf.modeling.conditions_megadance import WITHOUT_MUSIC, Conditions, genre_weights, pass_weights
from megadance_hf.modeling.generation_megadance import MODES, window_start

ARRANGEMENTS = {
    "paper": {"expert_composition": "parallel", "genre_embedding": True, "mlp_activation": "gelu"},
    "released_2025": {"music_lookahead": 0, "music_reduction": "stride"},
    "released_2026": {
        "code_head": "factorised",
        "levels": [3, 5],
        "mamba_placement": "layers",
        "norm_per_stream": True,
    },
    "sequential": {"code_head": "factorised", "levels": [3, 5], "level_decoding": "sequential", "rhythm_size": 8},
}
ASKED = ["energy", "turns", "arm_height"]
MODELS = {name: tiny_model(**switches) for name, switches in ARRANGEMENTS.items()}
STEPS = 13
PLAN = torch.tensor([[0] * 3 + [2] * 6 + [1] * 4, [1] * 8 + [0] * 5])  # of two items


@torch.no_grad()
def slow_dance(
    model,
    features,
    weights,
    known,
    mask,
    mode,
    guidance=1.0,
    negative=None,
    by_genre=1.0,
    attributes=None,
    by_attributes=1.0,
):
    """The definition: codes [batch, 2, codes], the likeliest where none is known, and the scores they were chosen by.

    `weights` and `negative` are [batch, codes, genres]; the first codes are known.
    """
    config, base = model.config, model.base_model
    steps, codes, all_scores = known.shape[2], known.clone(), []
    for item in range(len(features)):
        music = features[item : item + 1, : 8 * steps]
        rhythm, no_music = base.encode_rhythm(music), base.music_mean.expand_as(music)

        def log_probabilities(index, genre, has_music, asks, music=music, rhythm=rhythm, no_music=no_music, item=item):
            first = window_start(mode, index, config.context_codes, config.slide_codes)
            rows = slice(8 * first, 8 * (index + config.music_lookahead))
            beat = None if rhythm is None else (rhythm if has_music else 0 * rhythm)[:, rows]
            window = codes[item : item + 1, :, first:index].unbind(1)
            output = model(
                (music if has_music else no_music)[:, rows],
                *window,
                torch.tensor([genre]),
                rhythm=beat,
                attributes=None if attributes is None or not asks else attributes[item : item + 1, first : index + 1],
                use_cache=False,
                output_code_scores=True,
            )
            return torch.stack((output.upper_scores[0, -1], output.lower_scores[0, -1])).log_softmax(-1)

        def mixed(index, of_item, has_music=True, asks=True, log_probabilities=log_probabilities):
            return sum(
                float(of_item[index, genre]) * log_probabilities(index, genre, has_music, asks)
                for genre in of_item[index].nonzero()[:, 0].tolist()
            )

        for index in range(1, steps):
            scores = plain = mixed(index, weights[item])
            if guidance != 1:
                scores = scores + (guidance - 1) * (plain - mixed(index, weights[item], has_music=False))
            if by_genre != 1:
                scores = scores + (by_genre - 1) * (plain - mixed(index, negative[item]))
            if by_attributes != 1:
                scores = scores + (by_attributes - 1) * (plain - mixed(index, weights[item], asks=False))
            codes[item, :, index] = torch.where(mask[item, :, index], known[item, :, index], scores.argmax(-1))
            all_scores.append(scores)
    return codes, torch.stack(all_scores).view(len(features), steps - 1, 2, -1).transpose(1, 2)


def some_known(seed=0, batch=2, steps=STEPS):
    """A first pair, some codes of both streams, some of one."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(batch, 2, steps, generator=generator) < 0.3
    mask[:, :, 0] = True
    return torch.randint(CODES, (batch, 2, steps), generator=generator), mask


def both(output):
    return torch.stack((output.upper_codes, output.lower_codes), 1)


def scores_of(output):
    return torch.stack((output.upper_scores, output.lower_scores), 1).log_softmax(-1)


def chosen_log_likelihood(output):
    """[batch, 2, generated codes], by the scores that `generate` gives."""
    return scores_of(output).gather(3, both(output)[:, :, 1:, None])[..., 0]


# --- against the slow twin -------------------------------------------------------------------------------------------


def one_hot(ids):
    return torch.nn.functional.one_hot(ids, len(GENRES)).float()


def fading(batch=2, steps=STEPS):
    """From the first genre to the second, which are mixed in the middle; the other item has the same mixture throughout."""
    share = ((torch.arange(steps) - 4) / 5).clamp(0, 1)
    fade = torch.stack((1 - share, share, torch.zeros(steps)), 1)
    steady = torch.tensor([0.2, 0.0, 0.8]).expand(steps, 3)
    return torch.stack((fade, steady))[:batch]


CASES = {
    "known": {},
    "plan": {"genre_ids": PLAN},
    "weights": {"genre_ids": fading()},
    "music": {"guidance_scale": 2.5},
    "without music": {"guidance_scale": 0.0},
    "genre": {"genre_guidance_scale": 1.7, "negative_genre_ids": torch.tensor([1, 2])},
    "all": {
        "genre_ids": fading(),
        "guidance_scale": 1.8,
        "genre_guidance_scale": 1.5,
        "negative_genre_ids": torch.tensor([[0.0, 0.5, 0.5], [0.0, 2.0, 0.0]]),
    },
}


def check_case(model, mode, options, **more):
    features, (known, mask) = song(STEPS, batch=2), some_known()
    options = {"genre_ids": torch.tensor([2, 0]), **options}
    forms = (
        genre_weights(options[name], 2, STEPS, model.config)
        for name in ("genre_ids", "negative_genre_ids")
        if name in options
    )
    weights, *negative = (form.expand(2, STEPS, -1) for form in forms)
    expected, scores = slow_dance(
        model,
        features,
        weights,
        known,
        mask,
        mode,
        options.get("guidance_scale", 1.0),
        *negative,
        by_genre=options.get("genre_guidance_scale", 1.0),
        attributes=options.get("attributes"),
        by_attributes=options.get("attribute_guidance_scale", 1.0),
    )
    result = model.generate(
        features, **options, known_codes=known, known_mask=mask, mode=mode, do_sample=False, output_scores=True, **more
    )
    assert torch.equal(both(result), expected)
    assert torch.equal(both(result)[mask], known[mask]) and len(expected[~mask].unique()) > 5
    torch.testing.assert_close(scores_of(result), scores.log_softmax(-1), atol=2e-4, rtol=0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_each_condition_is_its_slow_twin(case, mode):
    check_case(MODEL, mode, CASES[case])


@pytest.mark.versions
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_each_arrangement_is_its_slow_twin(arrangement, mode):
    check_case(MODELS[arrangement], mode, CASES["all"])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("arrangement", ["paper", "released_2025", "sequential"])
@pytest.mark.parametrize(("case", "scale"), [("known", 1.0), ("plan", 2.5), ("all", 1.0), ("all", 1.5)])
def test_attributes_of_each_code(case, scale, arrangement, mode):
    asked = torch.rand(2, STEPS, 3, generator=torch.Generator().manual_seed(3))
    asked[0, 4:9, 1] = asked[1, :, 2] = torch.nan
    model = tiny_model(**ARRANGEMENTS[arrangement], attributes=ASKED, music_to_codes=arrangement != "paper")
    check_case(model, mode, {**CASES[case], "attributes": asked, "attribute_guidance_scale": scale})


def test_attributes_of_a_whole_dance_and_none():
    model, inputs = (
        tiny_model(attributes=ASKED),
        {"input_features": song(STEPS), "genre_ids": MIXED, "do_sample": False},
    )
    asked = torch.tensor([[0.2, torch.nan, 0.9]]).expand(4, -1)
    of_codes = model.generate(**inputs, attributes=asked[:, None].expand(-1, STEPS, -1), output_scores=True)
    of_all = model.generate(**inputs, attributes=asked, output_scores=True)
    assert torch.equal(scores_of(of_codes), scores_of(of_all))
    plain = model.generate(**inputs, output_scores=True)
    assert (scores_of(plain) - scores_of(of_all)).abs().max() > 0.1
    nothing = model.generate(**inputs, attributes=torch.full((4, 3), torch.nan), output_scores=True)
    assert torch.equal(scores_of(plain), scores_of(nothing))
    scores = model.score(
        **{name: inputs[name] for name in ("input_features", "genre_ids")},
        **dict(zip(("upper_codes", "lower_codes"), both(of_all).unbind(1), strict=True)),
        attributes=asked,
    )
    torch.testing.assert_close(scores[:, :, 1:], chosen_log_likelihood(of_all), atol=2e-4, rtol=0)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (
            torch.rand(4, 2),
            r"attributes has shape \(4, 2\); input_features needs \(4, 3\) or \(4, 13, 3\), in the order energy, turns",
        ),
        (torch.rand(4, 12, 3), r"attributes has shape \(4, 12, 3\)"),
        (torch.full((4, 3), 1.1), "attributes has numbers outside 0 to 1: give quantiles"),
        (torch.full((4, 3), torch.inf), "attributes has numbers outside 0 to 1: give quantiles"),
        (torch.ones(4, 3).long(), "attributes: give a floating point tensor of quantiles"),
    ],
)
def test_bad_attributes(attributes, message):
    inputs = {"input_features": song(STEPS), "genre_ids": MIXED}
    with pytest.raises(ValueError, match=message):
        tiny_model(attributes=ASKED).generate(**inputs, attributes=attributes)
    with pytest.raises(ValueError, match="attributes: this model was trained without any; leave them out"):
        MODEL.generate(**inputs, attributes=attributes)


@pytest.mark.parametrize("mode", MODES)
def test_without_a_cache_and_in_pieces(monkeypatch, mode):
    check_case(MODEL, mode, CASES["all"], use_cache=False)
    monkeypatch.setattr(generation_megadance, "PREFILL_CODES", 3)
    check_case(MODEL, mode, CASES["all"])


# --- known codes -----------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000), mode=st.sampled_from(MODES), copies=st.integers(1, 2))
@settings(max_examples=10)
def test_known_codes_are_kept_wherever_they_are(seed, mode, copies):
    known, mask = some_known(seed, 4, 9)  # shorter than the music
    mask[:, :, 0] = torch.rand(4, 2, generator=torch.Generator().manual_seed(seed)) < 0.5
    junk = torch.where(mask, known, -7)  # what is not known may be anything
    result = MODEL.generate(
        song(STEPS),
        MIXED,
        known_codes=junk,
        known_mask=mask,
        mode=mode,
        do_sample=True,
        num_return_sequences=copies,
        seed=seed,
    )
    codes = both(result)[:, :, :9].unflatten(0, (4, copies))
    assert result.lengths.tolist() == [STEPS] * 4 * copies
    for copy in range(copies):
        assert torch.equal(codes[:, copy][mask], known[mask])
    free = ~mask[:, :, 0]
    assert (codes[:, 0, :, 0][free] == CODES // 2).all()  # the model has no start codes


@pytest.mark.parametrize("mode", MODES)
def test_known_codes_at_the_beginning_are_the_beginning(mode):
    options = {"mode": mode, "do_sample": True, "seed": 5, "output_scores": True}
    prompt = start(steps=6)
    by_prompt = MODEL.generate(song(STEPS), MIXED, **prompt, **options)
    known = torch.stack(tuple(prompt.values()), 1)
    longer = torch.nn.functional.pad(known, (0, 4))
    for codes, mask in ((known, None), (longer, torch.arange(10).expand(4, 2, 10) < 6)):
        result = MODEL.generate(song(STEPS), MIXED, known_codes=codes, known_mask=mask, **options)
        assert torch.equal(both(result), both(by_prompt)) and torch.equal(result.upper_scores, by_prompt.upper_scores)


@pytest.mark.parametrize("mode", MODES)
def test_redoing_a_middle(mode):
    """What is outside is kept, nothing is computed for it, and what is inside is what a continued dance would have there."""
    whole = MODEL.generate(song(20), MIXED, mode=mode, do_sample=True, seed=1)
    mask = torch.ones(4, 2, 20, dtype=torch.bool)
    mask[:, :, 8:13] = False
    calls = []
    hook = MODEL.register_forward_hook(lambda *_: calls.append(1))
    again = MODEL.generate(
        song(20), MIXED, mode=mode, known_codes=both(whole), known_mask=mask, do_sample=True, seed=2, output_scores=True
    )
    hook.remove()
    assert len(calls) == again.upper_scores.shape[1] == 5
    assert torch.equal(both(again)[mask], both(whole)[mask]) and not torch.equal(both(again), both(whole))
    prompt = {
        name: codes[:, :8] for name, codes in (("upper_codes", whole.upper_codes), ("lower_codes", whole.lower_codes))
    }
    continued = MODEL.generate(song(20), MIXED, mode=mode, **prompt, do_sample=True, seed=2)
    assert torch.equal(both(again)[:, :, 8:13], both(continued)[:, :, 8:13])
    lower_kept = MODEL.generate(
        song(20),
        MIXED,
        mode=mode,
        known_codes=both(whole),
        known_mask=torch.tensor([False, True])[:, None].expand(4, 2, 20),
        seed=3,
    )
    assert torch.equal(lower_kept.lower_codes, whole.lower_codes)
    assert not torch.equal(lower_kept.upper_codes, whole.upper_codes)


def test_items_with_seeds_of_their_own_do_not_depend_on_what_others_know():
    known, mask = some_known(3, 4, STEPS)
    mask[1, :, :9], mask[2] = True, False
    options = {"do_sample": True, "temperature": 2.0}
    together = MODEL.generate(
        song(STEPS), MIXED, known_codes=known, known_mask=mask, seed=[4, 5, 6, 7], num_return_sequences=2, **options
    )
    for item in range(4):
        row = slice(item, item + 1)
        alone = MODEL.generate(
            song(STEPS)[row],
            MIXED[row],
            known_codes=known[row],
            known_mask=mask[row],
            seed=[4 + item],
            num_return_sequences=2,
            **options,
        )
        assert torch.equal(both(together)[2 * item : 2 * item + 2], both(alone))


def test_nothing_is_computed_for_items_that_have_ended():
    mask = torch.ones(4, 2, 12, dtype=torch.bool)
    mask[:, :, 3:5] = False
    mask[1, :, 7:] = False
    known = some_known(0, 4, 12)[0]
    options = {"num_frames": [96, 56, 90, 96], "seed": [1, 2, 3, 4], "do_sample": True, "output_scores": True}
    result = MODEL.generate(song(12), MIXED, known_codes=known, known_mask=mask, **options)
    assert result.lengths.tolist() == [12, 7, 12, 12] and result.upper_scores.shape[1] == 2
    assert torch.equal(both(result)[[0, 2, 3]][:, :, 5:], known[[0, 2, 3]][:, :, 5:])
    assert (both(result)[1, :, 7:] == known[1, :, 6:7]).all()


def test_what_has_ended_repeats_its_last_code_wherever_the_others_begin_to_choose():
    """One item has ended before the others, whose beginning and end are known, choose their first code."""
    mask = torch.ones(4, 2, 12, dtype=torch.bool)
    mask[:, :, 8:10] = False
    mask[1, :, 5:] = False
    known, streamer = some_known(0, 4, 12)[0], Streamer()
    options = {"num_frames": [96, 40, 96, 96], "seed": [1, 2, 3, 4], "do_sample": True, "streamer": streamer}
    result = both(MODEL.generate(song(12), MIXED, known_codes=known, known_mask=mask, **options))
    assert (result[1, :, 5:] == known[1, :, 4:5]).all()
    others = [0, 2, 3]
    assert torch.equal(result[others][mask[others]], known[others][mask[others]])
    assert torch.equal(torch.cat(streamer.codes, dim=2), result)


def test_streamer_progress_and_criteria_see_known_codes():
    known, mask = some_known(0, 4, STEPS)
    mask[:, :, 5:8] = True
    chunks, done = [], []
    streamer = type("Streamer", (), {"put": lambda self, codes: chunks.append(codes), "end": lambda self: None})()
    options = {"known_codes": known, "known_mask": mask, "do_sample": False}
    result = MODEL.generate(song(STEPS), MIXED, streamer=streamer, progress=lambda *now: done.append(now), **options)
    assert torch.equal(torch.cat(chunks, -1), both(result))
    assert done == [(now, STEPS) for now in range(1, STEPS + 1)]
    stopped = MODEL.generate(song(STEPS), MIXED, stopping_criteria=[MaxLengthCriteria(9)], **options)
    assert torch.equal(both(stopped), both(result)[:, :, :9])


def test_lengths_count_from_the_last_known_code():
    known, mask = some_known(0, 4, STEPS)
    mask[:, :, 6:] = False
    mask[2, 1, 7] = True
    options = {"known_codes": known, "known_mask": mask}
    assert MODEL.generate(song(STEPS), MIXED, max_new_tokens=2, **options).lengths.tolist() == [10] * 4
    assert MODEL.generate(song(STEPS), MIXED, max_length=8, **options).lengths.tolist() == [8] * 4
    with pytest.raises(ValueError, match="max_length=7: 8 codes are given already; give 8 or more, or max_new_tokens"):
        MODEL.generate(song(STEPS), MIXED, max_length=7, **options)


# --- genres and guidance ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_one_genre_is_the_same_in_all_forms(mode):
    options = {"mode": mode, "do_sample": True, "seed": 0, "output_scores": True, "output_logits": True, **start()}
    plain = MODEL.generate(song(STEPS), MIXED, **options)
    for form in (
        MIXED[:, None].expand(4, STEPS),
        3 * one_hot(MIXED),
        one_hot(MIXED)[:, None].expand(4, STEPS, 3).double(),
    ):
        result = MODEL.generate(song(STEPS), form, guidance_scale=1, genre_guidance_scale=1.0, **options)
        for name in ("upper_codes", "lower_codes", "upper_scores", "lower_logits", "genre_ids"):
            assert torch.equal(result[name], plain[name]), name


def test_passes_by_hand():
    weights = genre_weights(torch.tensor([[3.0, 0.0, 1.0], [0.0, 2.0, 0.0]]), 2, 5, MODEL.config)
    assert weights.tolist() == [[[0.75, 0.0, 0.25]], [[0.0, 1.0, 0.0]]]
    negative = genre_weights(torch.tensor([1, 1]), 2, 5, MODEL.config)
    of_passes = pass_weights(weights, 3.0, negative, 2.0)
    assert of_passes[0, 0].tolist() == [[3.0, -1.0, 1.0], [-1.5, 0.0, -0.5], [0.0, 0.0, 0.0]]
    assert of_passes[1, 0].tolist() == [[0.0, 3.0, 0.0], [0.0, -2.0, 0.0], [0.0, 0.0, 0.0]]
    conditions = Conditions(of_passes, 1, torch.device("cpu"))
    passes = conditions.passes(4)
    assert conditions.is_mixed and passes.rows.tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert passes.genre_ids.tolist() == [0, 1, 2, 0, 2, 1, 1]
    assert passes.lacks.tolist() == [0, 0, 0, WITHOUT_MUSIC, WITHOUT_MUSIC, 0, WITHOUT_MUSIC]
    plain = Conditions(pass_weights(negative), 2, torch.device("cpu"))
    assert not plain.is_mixed and plain.passes(0).rows is None and plain.passes(0).genre_ids.tolist() == [1] * 4
    plan = Conditions(pass_weights(genre_weights(PLAN, 2, STEPS, MODEL.config)), 1, torch.device("cpu"))
    assert [plan.batch_of(index) for index in range(STEPS)] == [0] * 3 + [1] * 5 + [2] + [3] * 4
    assert not plan.is_mixed and plan.passes(8).genre_ids.tolist() == [2, 0]


def test_the_genre_of_a_plan_is_that_of_most_codes_and_it_begins_with_its_first():
    config = GenerationConfig(start_codes={"Popping": [[1, 2]], "Wei": [[3, 4]]}, do_sample=False)
    mask = torch.ones(2, 8 * STEPS)
    mask[1, 7 * 8 :] = 0  # the other genre of the second begins after its music
    plan = torch.tensor([[0] * 3 + [2] * 6 + [1] * 4, [1] * 7 + [0] * 6])
    result = MODEL.generate(song(STEPS, 2)[:, : 8 * STEPS], plan, attention_mask=mask, generation_config=config)
    assert result.genre_ids.tolist() == [2, 1]
    assert both(result)[:, :, 0].tolist() == [[1, 2], [3, 4]]


def test_guidance_of_the_configuration():
    options = {"do_sample": True, "seed": 0, **start()}
    expected = MODEL.generate(song(STEPS), MIXED, guidance_scale=3.0, **options)
    config = GenerationConfig(guidance_scale=3.0)
    assert torch.equal(both(MODEL.generate(song(STEPS), MIXED, generation_config=config, **options)), both(expected))
    model = tiny_model()
    model.generation_config.guidance_scale = 3.0
    assert torch.equal(both(model.generate(song(STEPS), MIXED, **options)), both(expected))
    assert not torch.equal(both(model.generate(song(STEPS), MIXED, guidance_scale=1, **options)), both(expected))
    assert model.generation_config.guidance_scale == 3.0


def test_no_music_is_what_training_gives_instead():
    model = MODELS["sequential"]
    features = song(6)[:, :48]
    without = model.model.music_mean.expand_as(features)
    codes = start(steps=6)
    with torch.no_grad():
        expected = model(without, **codes, genre_ids=MIXED, rhythm=torch.zeros(4, 48, 4))
        vectors = model.model.encode_no_music().expand(4, 6, -1)
        torch.testing.assert_close(
            model(music_embeds=vectors, **codes, genre_ids=MIXED).upper_logits, expected.upper_logits
        )


# --- scores of finished dances ---------------------------------------------------------------------------------------


@pytest.mark.versions
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("case", ["one genre", "plan", "weights"])
def test_scores_are_those_that_generate_draws_from(monkeypatch, arrangement, mode, case):
    model = MODELS[arrangement]
    genre_ids = {"one genre": torch.tensor([2, 0]), **{name: CASES[name]["genre_ids"] for name in ("plan", "weights")}}[
        case
    ]
    inputs = {"input_features": song(STEPS, 2), "genre_ids": genre_ids, "mode": mode}
    dance = model.generate(**inputs, do_sample=True, top_k=0, seed=0, num_return_sequences=2, output_scores=True)
    codes = {"upper_codes": dance.upper_codes, "lower_codes": dance.lower_codes}
    scores = model.score(**inputs, **codes)
    assert scores.shape == (4, 2, STEPS) and (scores[:, :, 0] == 0).all()
    torch.testing.assert_close(scores[:, :, 1:], chosen_log_likelihood(dance), atol=2e-4, rtol=0)
    monkeypatch.setattr(generation_megadance, "PREFILL_CODES", 3)
    torch.testing.assert_close(model.score(**inputs, **codes), scores, atol=2e-4, rtol=0)
    monkeypatch.setattr(generation_megadance, "SCORED_NUMBERS", 1)  # one code at a time
    torch.testing.assert_close(model.score(**inputs, **codes), scores, atol=2e-4, rtol=0)


def test_scores_end_with_the_dance():
    mask = torch.zeros(2, STEPS * 8)
    mask[0], mask[1, : 7 * 8] = 1, 1
    inputs = {"input_features": song(STEPS, 2)[:, : STEPS * 8], "genre_ids": MIXED[:2], "attention_mask": mask}
    dance = MODEL.generate(**inputs, do_sample=True, seed=0)
    codes = {"upper_codes": dance.upper_codes, "lower_codes": dance.lower_codes}
    scores = MODEL.score(**inputs, **codes)
    alone = MODEL.score(song(STEPS, 2)[1:, :56], MIXED[1:2], *(one[1:, :7] for one in codes.values()))
    torch.testing.assert_close(scores[1:, :, :7], alone, atol=1e-4, rtol=0)
    assert (scores[1, :, 7:] == 0).all() and (scores[0, :, 1:] < 0).all()
    late = MODEL.score(**inputs, **codes, first=5)
    torch.testing.assert_close(late[:, :, 5:], scores[:, :, 5:])
    assert not late[:, :, :5].any(), "codes before the first are not scored"
    shorter = MODEL.score(**inputs, **{name: one[:, :9] for name, one in codes.items()}, lengths=torch.tensor([9, 4]))
    torch.testing.assert_close(shorter[0], scores[0, :, :9], atol=1e-4, rtol=0)
    assert (shorter[1, :, 4:] == 0).all() and (shorter[1, :, 1:4] < 0).all()


def test_rank():
    scores = torch.tensor([-3.0, -1.0, -2.0, -5.0, -9.0, -4.0])[:, None, None].expand(6, 2, 10)
    assert MODEL.rank(scores, 3).tolist() == [[1, 2, 0], [5, 3, 4]]
    assert MODEL.rank(scores, 3, lengths=torch.tensor([10, 3, 9, 10, 100, 10])).tolist() == [[2, 0, 1], [4, 5, 3]]
    with pytest.raises(ValueError, match="num_return_sequences=4: scores have 6 rows; give a multiple"):
        MODEL.rank(scores, 4)


# --- errors ----------------------------------------------------------------------------------------------------------

KNOWN, MASK = some_known(0, 4, 10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"known_mask": MASK}, "known_mask does nothing alone: give known_codes"),
        ({"known_codes": KNOWN, **start()}, "are the first of known_codes: give known_codes alone"),
        ({"known_codes": KNOWN[:3]}, r"known_codes has shape \(3, 2, 10\); expected \(4, 2, 1 or more\)"),
        ({"known_codes": KNOWN.float()}, "known_codes has numbers of type torch.float32: give whole numbers"),
        ({"known_codes": KNOWN, "known_mask": MASK.long()}, r"of torch.int64; give \(4, 2, 10\) of torch.bool"),
        ({"known_codes": KNOWN, "known_mask": MASK[:, :, :9]}, r"known_mask has shape \(4, 2, 9\) of torch.bool; give"),
        ({"known_codes": KNOWN + CODES}, "known_codes has codes outside 0 to 14 where known_mask is True"),
        (
            {"known_codes": KNOWN, "num_frames": [80, 40, 80, 80]},
            "code 9 of item 1 is known, but its music lasts 5 codes; set known_mask to False there, or give more music",
        ),
        (
            {"genre_ids": MIXED[:, None].expand(4, 9)},
            r"shape \(4, 9\); input_features needs \(4,\), .* \(4, 10\), or weights",
        ),
        ({"genre_ids": torch.ones(4)}, "genre_ids has numbers of type torch.float32: give whole numbers"),
        ({"genre_ids": torch.ones(4, 3).bool()}, "genre_ids has numbers of type torch.bool"),
        (
            {"genre_ids": -torch.ones(4, 3)},
            "genre_ids has weights that are negative or not finite: give numbers of 0 or more",
        ),
        (
            {"genre_ids": torch.zeros(4, 10, 3)},
            "genre_ids has only weights of 0 for some code: give one of its genres more",
        ),
        ({"genre_ids": MIXED[:, None].expand(4, 10) + 1}, "genre_ids has 3, which is no genre"),
        ({"guidance_scale": -1.0}, "guidance_scale=-1.0: give a number of 0 or more, 1 for none"),
        ({"guidance_scale": 2.0, "output_logits": True}, "output_logits=True: several passes are mixed here"),
        (
            {"genre_guidance_scale": 2.0},
            "genre_guidance_scale=2.0: no expert is of no genre; give the genre to move away",
        ),
        (
            {"negative_genre_ids": MIXED},
            "negative_genre_ids do nothing alone: give a genre_guidance_scale other than 1",
        ),
        ({"negative_genre_ids": MIXED, "genre_guidance_scale": 2.0}, "are the genres of the dance itself: give others"),
        ({"negative_genre_ids": MIXED[:2], "genre_guidance_scale": 2.0}, r"negative_genre_ids has shape \(2,\)"),
    ],
)
def test_bad_conditions(changes, message):
    arguments = {"input_features": song(10)[:, :80], "genre_ids": MIXED, **changes}
    with pytest.raises(ValueError, match=message) as caught:
        MODEL.generate(**arguments)
    assert "\n" not in str(caught.value)


def test_a_model_that_does_not_tell_genres_apart():
    model = tiny_model(use_genre_experts=False)
    inputs = {"input_features": song(10)[:, :80], "do_sample": False}
    assert model.generate(**inputs, genre_ids=MIXED, guidance_scale=2.0).lengths.tolist() == [10] * 4
    with pytest.raises(ValueError, match=r"does not tell genres apart: give one each, \(4,\)"):
        model.generate(**inputs, genre_ids=torch.rand(4, 3))
    with pytest.raises(
        ValueError, match="genre_guidance_scale=2.0: this model does not tell genres apart; leave it out"
    ):
        model.generate(**inputs, genre_ids=MIXED, negative_genre_ids=MIXED.flip(0), genre_guidance_scale=2.0)


def test_genres_that_are_not_built():
    model = tiny_model(active_genres=["Popping", "Wei"])
    inputs = {"input_features": song(10)[:, :80], "do_sample": False}
    assert model.generate(**inputs, genre_ids=torch.tensor([[0.5, 0.5, 0.0]] * 4)).lengths.tolist() == [10] * 4
    for wrong in (torch.rand(4, 3), torch.full((4, 10), 2)):
        with pytest.raises(ValueError, match="genre 'Jazz' .id 2. is not among the genres this model was built with"):
            model.generate(**inputs, genre_ids=wrong)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"upper_codes": None}, "upper_codes is missing: give the dance's codes"),
        (
            {"upper_codes": KNOWN[:3, 0]},
            r"upper_codes has shape \(3, 10\); this music needs \(4 or a multiple, 1 to 10\)",
        ),
        ({"lower_codes": KNOWN[:, 1, :9]}, r"lower_codes has shape \(4, 9\); expected \(4, 1 or more\), alike"),
        ({"upper_codes": KNOWN[:, 0] + CODES}, "upper_codes has codes outside 0 to 14"),
        ({"lengths": torch.tensor([10, 11, 10, 10])}, "give one of each dance, at most"),
        ({"mode": "fast"}, "mode='fast' is unknown"),
        ({"backend": "gpu"}, "backend='gpu' is unknown"),
    ],
)
def test_bad_dances_to_score(changes, message):
    arguments = {
        "input_features": song(10)[:, :80],
        "genre_ids": MIXED,
        "upper_codes": KNOWN[:, 0],
        "lower_codes": KNOWN[:, 1],
    }
    with pytest.raises(ValueError, match=message):
        MODEL.score(**{**arguments, **changes})
