"""Prompts and attributes for one song: seconds of sections, plans, and what is asked of each code."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megadance_hf.modeling.plans_megadance import DirectionError
from megadance_hf.modeling.wishes_megadance import (
    Prompt,
    code_attributes,
    describe_prompt,
    find_chorus,
    plain_attributes,
    read_attributes,
)

GENRES, NAMES = ["chacha", "rumba", "tango", "waltz"], ["energy", "speed", "travel", "turns", "arm_height"]


def read(text, attributes=NAMES, loaded=GENRES):
    return Prompt.read(text, GENRES, attributes, loaded)


def test_attributes_of_codes():
    asked = read_attributes({"turns": 0.1, "speed": [(1.0, 0.2), (3, None), (4, 1)], "energy": None}, NAMES)
    assert asked == {"turns": [(0.0, 0.1)], "speed": [(1.0, 0.2), (3.0, None), (4.0, 1.0)]}
    assert read_attributes(plain_attributes(asked), NAMES) == asked
    values = code_attributes(asked, 6, 1.0, NAMES)
    nan = torch.nan
    assert values.shape == (6, 5)
    torch.testing.assert_close(values[:, 1], torch.tensor([nan, 0.2, 0.2, nan, 1.0, 1.0]), equal_nan=True)
    torch.testing.assert_close(values[:, 3], torch.full((6,), 0.1))
    assert values[:, [0, 2, 4]].isnan().all()


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"joy": 0.5}, "attributes has 'joy': the model's are energy, speed"),
        ({"speed": 2}, "give a quantile from 0 to 1, 0.5 is usual"),
        ({"speed": "fast"}, "give a quantile from 0 to 1"),
        ({"speed": [0.1, 0.2]}, "give quantiles from 0 to 1 by name"),
        ({"speed": []}, "give quantiles from 0 to 1 by name"),
        ({"speed": [(2, 0.1), (1, 0.2)]}, "has 1 s after 2 s: give seconds that rise"),
        ({"speed": [(-1, 0.1)]}, "give seconds of 0 or more"),
        (0.5, "attributes=0.5: give quantiles"),
    ],
)
def test_attributes_that_are_not_possible(attributes, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_attributes(attributes, NAMES)
    assert "\n" not in str(caught.value)


def test_a_model_without_attributes_says_what_helps():
    with pytest.raises(ValueError, match="this model was trained without attributes; leave them out, or use one"):
        read_attributes({"speed": 0.5}, [])
    with pytest.raises(
        DirectionError, match="prompt asks for speed, but this model was trained without attributes: name genres only"
    ):
        read("slow waltz", [])
    assert read("half waltz, half tango", []).directions.genres == {"waltz": 0.5, "tango": 0.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "prompt='': give words, such as"),
        (3, "prompt=3: give words"),
        ("salsa in a red dress", r"nothing that means something here: name a genre \(chacha, rumba, tango, waltz\)"),
    ],
)
def test_prompts_that_are_not_possible(text, message):
    with pytest.raises(ValueError, match=message):
        read(text)
    with pytest.raises(ValueError, match="prompt asks for tango, which is not loaded: the genres are waltz"):
        read("tango", loaded=["waltz"])


def test_genres_that_contradict_the_prompt():
    read("waltz, tango at the chorus").check_genres("waltz", None)
    read("tango at the chorus").check_genres("waltz", None)
    for text, genre, plan, message in (
        ("a waltz", "tango", None, "prompt asks for waltz, genre for tango: give one of them"),
        ("no tango", "tango", None, "prompt says no tango, which is asked for as well: leave one out"),
        ("waltz", None, [("tango", 0.0)], "prompt='waltz' names genres, and plan as well: give one of them"),
    ):
        with pytest.raises(ValueError, match=message):
            read(text).check_genres(genre, plan)
    assert read("no chacha").wanted_genres(GENRES) == ["rumba", "tango", "waltz"]
    with pytest.raises(ValueError, match="leaves no genre: the model has chacha"):
        read("no chacha").wanted_genres(["chacha"])


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("waltz", [("waltz", 0)]),
        ("tango at the chorus", [("rumba", 0), ("tango", 24), ("rumba", 36)]),
        ("waltz, tango at the chorus", [("waltz", 0), ("tango", 24), ("waltz", 36)]),
        ("waltz, tango after the chorus", [("waltz", 0), ("tango", 36)]),
        (
            "tango until the chorus, then waltz, chacha at the end",
            [("tango", 0), ("waltz", 24), ("rumba", 36), ("chacha", 45)],
        ),
        ("start with waltz, then tango after 20 s", [("waltz", 0), ("tango", 20)]),
        ("first waltz, then tango", [("waltz", 0), ("tango", 30)]),
        ("tango, but waltz at the beginning", [("waltz", 0), ("tango", 15)]),
        ("waltz, tango in the middle", [("waltz", 0), ("tango", 20), ("waltz", 40)]),
        ("rumba from 0:20 to 0:40, otherwise waltz", [("waltz", 0), ("rumba", 20), ("waltz", 40)]),
        ("waltz, but tango for the last 10 seconds", [("waltz", 0), ("tango", 50)]),
        ("tango from second 10 on, waltz at the chorus", [("rumba", 0), ("tango", 10), ("waltz", 24), ("tango", 36)]),
    ],
)
def test_plans_of_a_minute(text, plan):
    """The chorus lasts from 24 s to 36 s; rumba is danced where nothing is said."""
    if text.startswith("tango until"):
        plan = [("tango", 0), ("waltz", 24), ("tango", 36), ("chacha", 45)]
    assert read(text).plan("rumba", 60.0, (24.0, 36.0)) == plan


def test_attributes_of_sections():
    asked = read("slow, fast at the chorus, no turns, many turns at the end").asked(60.0, (24.0, 36.0))
    assert asked == {"speed": [(0.0, 0.15), (24.0, 0.85), (36.0, 0.15)], "turns": [(0.0, 0.03), (45.0, 0.85)]}
    assert read("fast in the second half").asked(60.0, None) == {"speed": [(0.0, None), (30.0, 0.85)]}


def test_the_chorus_is_where_the_sound_is_fullest():
    loudness = np.zeros(1800) + np.random.default_rng(0).normal(0, 0.5, 1800)
    loudness[600:1100] += 6.0  # seconds 20 to 36.7
    begin, end = find_chorus(loudness, 30.0)
    assert abs(begin - 20) < 2.5 and abs(end - 36.7) < 2.5


@given(st.integers(1, 900), st.integers(0, 9))
def test_a_chorus_lies_in_its_song(frames, seed):
    loudness = np.random.default_rng(seed).normal(size=frames)
    begin, end = find_chorus(loudness, 30.0)
    assert 0 <= begin < end <= frames / 30
    assert end - begin >= min(8.0, (frames // 2) / 30) - 1e-9


def test_a_prompt_in_one_line():
    notes = read("mostly waltz with a touch of tango, slwo, salsa, rumba at the chorus, no turns at the end").notes(
        (24.0, 36.0)
    )
    assert describe_prompt(notes) == (
        "understood: waltz 80% and tango 20%, rumba at the chorus (24.0 to 36.0 s, where the sound is fullest), speed 0.15, "
        "turns 0.03 at the end (read 'slwo' as 'slow'); not understood: salsa"
    )
