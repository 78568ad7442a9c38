"""The cache of a dance, as transformers' generation utilities use one, and as `torch.compile` does."""

import copy
import pickle

import pytest
import torch
from helpers import ARRANGEMENTS, tiny_generator
from transformers.cache_utils import Cache

ARRANGEMENTS = {**ARRANGEMENTS, "no_mamba": {"use_mamba": False}}
GENRES = torch.tensor([2, 0, 2, 1])
PAST, NEW = 7, 4  # more than the context, so that the rings have turned


@pytest.fixture(params=ARRANGEMENTS)
def model(request):
    torch.manual_seed(0)
    return tiny_generator(num_hidden_layers=2, context_codes=5, slide_codes=2, **ARRANGEMENTS[request.param])


@pytest.fixture
def dance(model):
    """The inputs of `PAST` + `NEW` positions, by position."""
    music = torch.randn(len(GENRES), PAST + NEW, model.config.hidden_size)
    upper, lower = torch.randint(27, (2, len(GENRES), PAST + NEW))
    return lambda first, last, rows=slice(None): {
        "music_embeds": music[rows, first:last],
        "upper_codes": upper[rows, first:last],
        "lower_codes": lower[rows, first:last],
    }


@torch.no_grad()
def filled(model, dance):
    cache = model.make_cache(GENRES)
    model(**dance(0, PAST), genre_ids=GENRES, cache=cache)
    return cache


@torch.no_grad()
def rest(model, dance, cache, rows=slice(None)):
    return model(**dance(PAST, PAST + NEW, rows), genre_ids=GENRES[rows], cache=cache).upper_logits


def test_it_is_a_cache_of_transformers(model, dance):
    cache = filled(model, dance)
    assert isinstance(cache, Cache) and len(cache) == 2 and bool(cache)
    assert cache.get_seq_length() == cache.get_seq_length(1) == PAST
    assert cache.get_max_length() == cache.get_max_cache_shape() == -1
    assert cache.max_batch_size == len(GENRES) and cache.max_cache_len == 5


@pytest.mark.parametrize("rows", [[3, 1, 0, 2], [1, 3], [2, 2, 0], [0, 0, 1, 1, 2, 2, 3, 3]])
def test_rows_can_be_chosen_repeated_and_reordered(model, dance, rows):
    expected = rest(model, dance, filled(model, dance))[rows]
    cache = filled(model, dance)
    if len(rows) == 8:
        cache.batch_repeat_interleave(2)
    elif len(rows) == len(GENRES):
        cache.reorder_cache(torch.tensor(rows))
    else:
        cache.batch_select_indices(torch.tensor(rows))
    torch.testing.assert_close(rest(model, dance, cache, rows), expected, atol=1e-5, rtol=1e-5)


def test_a_mask_chooses_rows(model, dance):
    chosen = torch.tensor([True, False, False, True])
    expected = rest(model, dance, filled(model, dance))[chosen]
    cache = filled(model, dance)
    cache.batch_select_indices(chosen)
    torch.testing.assert_close(rest(model, dance, cache, chosen), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda cache: pickle.loads(pickle.dumps(cache))])
def test_a_copy_goes_on_alone(model, dance, copied):
    cache = filled(model, dance)
    other = copied(cache)
    expected = rest(model, dance, cache)
    assert other.get_seq_length() == PAST
    torch.testing.assert_close(rest(model, dance, other), expected, atol=1e-5, rtol=1e-5)


def test_reset_forgets(model, dance):
    cache = filled(model, dance)
    cache.reset()
    assert cache.get_seq_length() == 0
    again, fresh = rest(model, dance, cache), rest(model, dance, model.make_cache(GENRES))
    torch.testing.assert_close(again, fresh)


def test_gradients_of_one_position_do_not_depend_on_a_cache(model, dance):
    step, gradients = dance(0, 1), []
    for options in ({}, {"use_cache": True}):
        model.zero_grad()
        model(**step, genre_ids=GENRES, **options).upper_logits.square().sum().backward()
        gradients.append([weight.grad for weight in model.parameters() if weight.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_the_configuration_asks_for_a_cache(model, dance):
    inputs = {**dance(0, 3), "genre_ids": GENRES}
    assert model(**inputs).cache is None
    model.config.use_cache = True
    assert model(**inputs).cache.get_seq_length() == 3 and model(**inputs, use_cache=False).cache is None
    assert model.train()(**inputs).cache is None


def test_what_a_state_cannot_do_is_refused(model, dance):
    cache = filled(model, dance)
    with pytest.raises(ValueError, match="can't be taken back: copy the cache before"):
        cache.crop(-1)
    with pytest.raises(ValueError, match="give it as `cache` of forward"):
        cache.update(torch.zeros(1), torch.zeros(1), 0)
    with pytest.raises(ValueError, match="genre_ids differ from those of the cache"):
        model(**dance(0, 1), genre_ids=GENRES.flip(0), cache=cache)


# --- torch.compile -----------------------------------------------------------------------------------------------------


def small_model(arrangement):
    torch._dynamo.reset()
    torch.manual_seed(0)
    return tiny_generator(context_codes=5, dropout=0.0, id2label={0: "a", 1: "b"}, **ARRANGEMENTS[arrangement])


TWO_GENRES = torch.tensor([1, 0, 1])


def test_a_generation_step_compiles_whole_and_once_for_all_positions():
    model, graphs = small_model("sequential"), []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(model, fullgraph=True, backend=count)
    caches = [model.make_cache(TWO_GENRES, "torch") for _ in range(2)]
    with torch.no_grad():
        for _ in range(8):
            upper, lower = torch.randint(27, (2, 3, 1))
            step = {"music_embeds": torch.randn(3, 1, 16), "upper_codes": upper, "lower_codes": lower}
            expected, found = (
                run(**step, genre_ids=TWO_GENRES, cache=cache)
                for run, cache in zip((model, compiled), caches, strict=True)
            )
            torch.testing.assert_close(found.upper_logits, expected.upper_logits, atol=1e-4, rtol=1e-4)
    assert len(graphs) == 2  # torch gives position 0 a graph of its own; the other is for all that follow


def test_a_training_step_compiles_whole():
    model, gradients = small_model("paper").train(), []
    inputs = {"music_embeds": torch.randn(3, 6, 16), "genre_ids": TWO_GENRES, "labels": torch.randint(27, (3, 2, 6))}
    for step in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
        model.zero_grad()
        step(**inputs).loss.backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, atol=1e-5, rtol=1e-4)
