"""Plans: genres by name and weight, changes at codes and at bars, the weights of each code."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megadance_hf.modeling.genres_megadance import GenreError
from megadance_hf.modeling.plans_megadance import code_weights, first_codes, read_genres, read_plan

GENRES = ["chacha", "rumba", "waltz"]


def test_genres_by_name_and_by_weight():
    assert read_genres("Cha-Cha", GENRES) == "chacha"
    assert read_genres({"Cha-Cha": 1, "waltz": 3}, GENRES) == {"chacha": 1.0, "waltz": 3.0}
    assert read_genres({"rumba": 0, "waltz": 3}, GENRES) == "waltz", "one genre costs what it does alone"


@pytest.mark.parametrize(
    ("genre", "message"),
    [
        ({"waltz": 0}, "give a genre a weight above 0"),
        ({"waltz": float("inf")}, "give a weight of 0 or more"),
        ({"waltz": 1, "Waltz": 2}, "genre names 'waltz' twice: give it one weight"),
    ],
)
def test_weights_that_are_not_possible(genre, message):
    with pytest.raises(ValueError, match=message):
        read_genres(genre, GENRES)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("waltz", "give pairs of a genre and the second"),
        ([], "give pairs of a genre and the second"),
        (["waltz"], "plan has 'waltz': give pairs"),
        ([("waltz", "0")], "plan='0': give seconds of 0 or more"),
        ([("waltz", 1)], "plan begins at 1 s: give the genre at 0"),
        ([("waltz", 0), ("rumba", 2), ("waltz", 2)], "plan has 2 s after 2 s: give seconds that rise"),
    ],
)
def test_plans_that_are_not_possible(plan, message):
    with pytest.raises(ValueError, match=message):
        read_plan(plan, GENRES)
    with pytest.raises(GenreError, match="'polka' is unknown"):
        read_plan([("polka", 0)], GENRES)


def test_the_weights_of_each_code():
    plan = read_plan([("waltz", 0), ({"rumba": 3, "chacha": 1}, 0.5)], GENRES)
    weights = code_weights(plan, [0, 2], 4, GENRES)
    assert torch.equal(weights, torch.tensor([[0, 0, 1.0]] * 2 + [[0.25, 0.75, 0]] * 2))


@given(st.lists(st.integers(10, 75), min_size=1, max_size=5, unique=True))
def test_each_change_is_at_the_nearest_code(tenths):
    """The slow twin: every code is tried."""
    seconds = [0.0, *(tenth / 10 + 0.013 for tenth in sorted(tenths))]  # never in the middle between two codes
    plan = [(GENRES[index % 2], second) for index, second in enumerate(seconds)]
    nearest = [min(range(30), key=lambda code: abs(code * 8 / 30 - second)) for second in seconds]
    if len(set(nearest)) < len(nearest):
        with pytest.raises(ValueError, match="leave at least one code"):
            first_codes(plan, 30, 8, 30.0)
    else:
        assert first_codes(plan, 30, 8, 30.0) == nearest
