"""Embeddings of codes, and scores of the next one: one softmax, one for each level, or levels that see each other."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers import tiny_generator
from hypothesis import given, settings
from hypothesis import strategies as st

from megadance_hf.modeling.code_head_megadance import (
    FactorisedHead,
    JointHead,
    LevelEmbedding,
    SequentialHead,
    code_embedding,
    code_head,
)
from megadance_hf.modeling.configuration_megadance import MegaDanceConfig
from megadance_hf.modeling.quantizers_megadance import codes_to_digits, digits_to_codes

JOINT = {}
FACTORISED = {"code_head": "factorised", "levels": [5, 3, 3]}
SEQUENTIAL = {**FACTORISED, "level_decoding": "sequential"}
HEADS = {"joint": JOINT, "factorised": FACTORISED, "sequential": SEQUENTIAL}
CODES = torch.arange(45)


def config(kind, **overrides):
    sizes = {"codebook_size": 45, "hidden_size": 8, "output_hidden_size": 12, "num_attention_heads": 2}
    return MegaDanceConfig(**{**sizes, **HEADS[kind], **overrides})


def head(kind, **overrides):
    torch.manual_seed(0)
    made = code_head(config(kind, **overrides))
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return made


def generator(kind, **overrides):
    torch.manual_seed(0)
    return tiny_generator(**{"codebook_size": 45, "initializer_range": 0.5, **HEADS[kind], **overrides})


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(2, 9), min_size=1, max_size=5))
def test_digits_and_codes(levels):
    codes = torch.arange(math.prod(levels))
    digits = codes_to_digits(codes, levels)
    assert torch.equal(digits_to_codes(digits, levels), codes)
    assert (digits >= 0).all() and (digits < torch.tensor(levels)).all()
    assert digits[min(1, len(codes) - 1), 0] == 1  # the first digit changes fastest


def test_a_factorised_embedding_is_the_sum_of_its_digits():
    table = code_embedding(config("factorised"))
    assert isinstance(table, LevelEmbedding) and [len(level.weight) for level in table] == [5, 3, 3]
    code = 4 + 5 * 1 + 15 * 2
    expected = table[0].weight[4] + table[1].weight[1] + table[2].weight[2]
    torch.testing.assert_close(table(torch.tensor([[code]]))[0, 0], expected)
    assert isinstance(code_embedding(config("joint")), torch.nn.Embedding)


@pytest.mark.parametrize(
    ("kind", "kind_of_head", "outputs"), [("joint", JointHead, 45), ("factorised", FactorisedHead, 11)]
)
def test_each_configuration_has_its_head(kind, kind_of_head, outputs):
    made = head(kind)
    assert type(made) is kind_of_head and made(torch.randn(2, 6, 8)).shape == (2, 6, outputs)
    assert made.over_codes(torch.randn(2, 6, 8)).shape == (2, 6, 45)
    assert type(head("sequential")) is SequentialHead


def test_independent_levels_add_up():
    made, states = head("factorised"), torch.randn(3, 8)
    levels = [part.log_softmax(-1) for part in made(states).split((5, 3, 3), -1)]
    digits = codes_to_digits(CODES, (5, 3, 3))
    expected = sum(part[:, digits[:, index]] for index, part in enumerate(levels))
    torch.testing.assert_close(made.over_codes(states).log_softmax(-1), expected)
    # the likeliest code is the likeliest digit of each level, as released
    likeliest = torch.stack([part.argmax(-1) for part in levels], -1)
    assert torch.equal(made.over_codes(states).argmax(-1), digits_to_codes(likeliest, (5, 3, 3)))


def test_sequential_levels_follow_the_chain_rule():
    made, states = head("sequential"), torch.randn(3, 8)
    joint = made.over_codes(states)
    torch.testing.assert_close(joint.exp().sum(-1), torch.ones(3))
    every = states[:, None].expand(3, 45, 8)  # each code scored alone, level by level
    alone = -made.cross_entropy(made(every, CODES.expand(3, 45)), CODES.expand(3, 45))
    torch.testing.assert_close(joint, alone, atol=1e-5, rtol=1e-5)
    # a level sees the digits before it, and no other
    one, other = (made(states, torch.full((3,), code)) for code in (0, 1))
    assert torch.equal(one[:, :5], other[:, :5]) and not torch.allclose(one[:, 5:], other[:, 5:])
    one, other = (made(states, torch.full((3,), code)) for code in (0, 15))
    assert torch.equal(one, other)  # nothing comes after the last digit


def test_an_unknown_code_is_scored_along_its_likeliest_digits():
    made, states = head("sequential"), torch.randn(3, 8)
    greedy = [part.argmax(-1) for part in made(states).split((5, 3, 3), -1)]
    torch.testing.assert_close(made(states), made(states, digits_to_codes(torch.stack(greedy, -1), (5, 3, 3))))


@pytest.mark.parametrize("kind", HEADS)
def test_cross_entropy_is_that_of_whole_codes(kind):
    made, states, labels = head(kind), torch.randn(2, 6, 8), torch.randint(45, (2, 6))
    labels[0, 2] = -100
    found = made.cross_entropy(made(states, labels), labels)
    expected = F.cross_entropy(made.over_codes(states).mT, labels, reduction="none")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert found[0, 2] == 0


@pytest.mark.parametrize("kind", HEADS)
def test_smoothed_labels_give_a_share_to_every_digit(kind):
    made, states, labels = head(kind), torch.randn(2, 6, 8), torch.randint(45, (2, 6))
    labels[0, 2] = -100
    logits = made(states, labels)
    expected = 0.8 * made.cross_entropy(logits, labels)
    for part in logits.split((45,) if kind == "joint" else (5, 3, 3), -1):
        expected = expected - 0.2 * part.log_softmax(-1).mean(-1) * (labels >= 0)
    torch.testing.assert_close(made.cross_entropy(logits, labels, 0.2), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", HEADS)
def test_guessing_evenly_costs_the_same_with_every_head(kind):
    model = generator(kind)
    for weight in model.output_mlp.parameters():
        torch.nn.init.zeros_(weight)
    codes = torch.randint(45, (2, 2, 5))
    loss = model(torch.randn(2, 40, 35), genre_ids=torch.tensor([0, 1]), labels=codes).loss
    assert loss.item() == pytest.approx(2 * math.log(45), rel=1e-5)


def test_only_levels_that_see_each_other_learn_what_goes_together():
    """Two codes, 0 and 44, whose digits always change together: independent levels mix them."""
    losses = {}
    for kind in HEADS:
        made = head(kind)
        optimizer = torch.optim.Adam(made.parameters(), 0.02)
        labels = torch.tensor([0, 44]).repeat(16)
        states = torch.ones(32, 8)  # which of the two comes cannot be known
        for _ in range(150):
            optimizer.zero_grad()
            loss = made.cross_entropy(made(states, labels), labels).mean()
            loss.backward()
            optimizer.step()
        losses[kind] = loss.item()
    assert losses["joint"] == pytest.approx(math.log(2), abs=0.02)
    assert losses["sequential"] == pytest.approx(math.log(2), abs=0.02)
    assert losses["factorised"] == pytest.approx(3 * math.log(2), abs=0.02)


def test_scores_of_codes_are_as_fine_as_those_of_levels():
    made, states = head("factorised").bfloat16(), torch.randn(64, 8).bfloat16()
    levels = [part.argmax(-1) for part in made(states).split((5, 3, 3), -1)]
    assert made.over_codes(states).dtype == torch.float32
    assert torch.equal(made.over_codes(states).argmax(-1), digits_to_codes(torch.stack(levels, -1), (5, 3, 3)))


def test_labels_that_leave_codes_out_are_not_the_codes():
    model, labels = generator("factorised"), torch.randint(45, (2, 2, 5))
    inputs = {"input_features": torch.randn(2, 40, 35), "genre_ids": torch.tensor([0, 1])}
    labels[1, 0, 3] = -100
    with pytest.raises(ValueError, match="labels have -100.*give upper_codes and lower_codes too"):
        model(**inputs, labels=labels)
    codes = labels.clamp(min=0)
    loss = model(**inputs, labels=labels, upper_codes=codes[:, 0], lower_codes=codes[:, 1]).loss
    assert torch.isfinite(loss)


# --- generation --------------------------------------------------------------------------------------------------------

MUSIC, GENRES = torch.randn(3, 80, 35, generator=torch.Generator().manual_seed(0)), torch.tensor([2, 0, 2])


@pytest.mark.parametrize("mode", ["paper", "released", "stream"])
@pytest.mark.parametrize("kind", HEADS)
def test_caches_and_backends_change_nothing(kind, mode):
    model = generator(kind, context_codes=4, slide_codes=2, mamba_placement="layers", norm_per_stream=True)
    options = {"do_sample": True, "seed": 3, "mode": mode, "output_logits": True}
    cached = model.generate(MUSIC, GENRES, backend="torch", **options)
    anew = model.generate(MUSIC, GENRES, use_cache=False, **options)
    assert torch.equal(cached.upper_codes, anew.upper_codes) and torch.equal(cached.lower_codes, anew.lower_codes)
    torch.testing.assert_close(cached.upper_logits, anew.upper_logits, atol=2e-3, rtol=1e-3)
    if mode == "stream":  # the logits are those that forward gives for the finished dance
        with torch.no_grad():
            whole = model(MUSIC, cached.upper_codes, cached.lower_codes, GENRES)
        torch.testing.assert_close(cached.upper_logits, whole.upper_logits[:, :-1], atol=2e-3, rtol=1e-3)
        torch.testing.assert_close(cached.lower_logits, whole.lower_logits[:, :-1], atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", HEADS)
def test_processors_see_codes_and_sampling_options_choose_among_them(kind):
    model, seen = generator(kind), []

    def look(input_ids, scores):
        seen.append((input_ids.shape, scores.shape))
        return scores

    options = {"do_sample": True, "seed": 0, "output_scores": True}
    output = model.generate(MUSIC, GENRES, logits_processor=[look], top_k=4, temperature=0.5, **options)
    assert seen[0] == ((6, 1), (6, 45)) and output.upper_scores.shape == (3, 9, 45)
    assert (torch.isfinite(output.upper_scores).sum(-1) == 4).all()
    plain = model.generate(MUSIC, GENRES, **options).upper_scores[:, 0]
    warm = model.generate(MUSIC, GENRES, temperature=0.5, **options).upper_scores[:, 0]
    torch.testing.assert_close(warm, plain * 2, atol=1e-4, rtol=1e-4)
    nucleus = model.generate(MUSIC, GENRES, top_p=0.5, **options).upper_scores[:, 0]
    kept = (plain.softmax(-1) * torch.isfinite(nucleus)).sum(-1)
    assert (kept >= 0.5).all()
    greedy = model.generate(MUSIC, GENRES, do_sample=False, output_scores=True)
    assert torch.equal(greedy.upper_scores[:, 0].argmax(-1), greedy.upper_codes[:, 1])
    forbidden = model.generate(MUSIC, GENRES, suppress_tokens=list(range(40)), **options)
    assert (forbidden.upper_codes[:, 1:] >= 40).all()


@pytest.mark.parametrize("kind", ["factorised", "sequential"])
def test_codes_are_drawn_from_the_heads_distribution(kind):
    model = generator(kind, initializer_range=0.3)
    start = {"upper_codes": torch.tensor([[7]]), "lower_codes": torch.tensor([[30]])}
    many = model.generate(
        MUSIC[:1, :16], GENRES[:1], do_sample=True, seed=0, num_return_sequences=4000, output_scores=True, **start
    )
    expected = many.upper_scores[0, 0].softmax(-1)
    found = torch.bincount(many.upper_codes[:, 1], minlength=45) / 4000
    assert float((found - expected).abs().sum()) < 0.12
