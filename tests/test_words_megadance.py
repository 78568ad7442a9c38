"""Wishes in words: what the table and the grammar make of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompts import DATA, GENRES, load_phrases, mistakes, read_phrase

from megadance_hf.modeling.attributes_megadance import ATTRIBUTES
from megadance_hf.modeling.vocabulary_megadance import VOCABULARY
from megadance_hf.modeling.words_megadance import QUANTILES, read_prompt

STEPS = {
    "very low": -3,
    "low": -2,
    "slightly low": -1,
    "slightly high": 1,
    "high": 2,
    "very high": 3,
    "done": 2,
    "dial": 2,
}


def steps(text: str) -> dict[str, int]:
    """The attributes that a text asks for, in steps from the usual."""
    levels = {value: step for step, value in QUANTILES.items()}
    return {name: levels[value] for name, value in read_prompt(text, GENRES).attributes.items()}


@pytest.mark.parametrize("path", sorted(DATA.glob("prompts_*.json")), ids=lambda path: path.stem)
def test_phrases_that_were_written_before(path):
    phrases = load_phrases(path)
    wrong = {phrase["text"]: found for phrase in phrases if (found := mistakes(phrase, read_phrase(phrase)))}
    assert len(wrong) <= 0.1 * len(phrases), wrong


def test_each_word_of_the_table_means_what_its_row_says():
    for attribute, rows in VOCABULARY.items():
        for row, words in rows.items():
            for phrase in (" ".join(entry.split()) for entry in words.replace("|", ",").split(",")):
                directions, asked = read_prompt(phrase, GENRES), steps(phrase)
                assert asked.get(attribute) == STEPS.get(row), (attribute, row, phrase, asked)
                assert not directions.not_understood and not directions.corrected and not directions.parts, phrase


def test_the_attributes_are_those_of_the_model():
    assert list(VOCABULARY) == list(ATTRIBUTES)
    directions = read_prompt("slow, many turns, arms high", GENRES, ["speed", "arm_height"])
    assert directions.attributes == {"speed": 0.15, "arm_height": 0.85} and directions.not_understood == ["turns"]


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("very slow", {"speed": -3}),
        ("sloooow", {"speed": -2}),
        ("a bit slower", {"speed": -1}),
        ("much faster", {"speed": 3}),
        ("the fastest you can", {"speed": 3}),
        ("as slow as possible", {"speed": -3}),
        ("not slow", {"speed": 1}),
        ("not too fast", {"speed": -1}),
        ("it was too fast", {"speed": -2}),
        ("neither fast nor slow", {"speed": 0}),
        ("no faster than now", {}),
        ("medium speed", {"speed": 0}),
        ("moderately fast", {"speed": 1}),
        ("keep the tempo of the music", {}),
        ("no turns", {"turns": -3}),
        ("without turns or jumps", {"turns": -3, "bounce": -3}),
        ("no turns, big arms", {"turns": -3, "expansion": 2}),
        ("no jumping about like a rabbit", {"bounce": -2}),
        ("never, ever spin", {"turns": -3}),
        ("never stop turning", {"turns": 3}),
        ("not many turns", {"turns": -2}),
        ("a few turns", {"turns": 1}),
        ("few turns", {"turns": -2}),
        ("only a few turns", {"turns": -2}),
        ("hardly any turns", {"turns": -2}),
        ("fewer turns and jumps", {"turns": -2, "bounce": -2}),
        ("as few turns as possible", {"turns": -3}),
        ("don't spin so much", {"turns": -1}),
        ("turn a lot less", {"turns": -2}),
        ("turns: none, energy: low", {"turns": -3, "energy": -2}),
        ("energy 80%, speed 2/10", {"energy": 2, "speed": -2}),
        ("high arms, low energy", {"arm_height": 2, "energy": -2}),
        ("the arms are high and the energy is low", {"arm_height": 2, "energy": -2}),
        ("big steps", {"travel": 2}),
        ("big arms", {"expansion": 2}),
        ("in a small room", {"travel": -2}),
        ("cover less ground", {"travel": -2}),
        ("energetic but not too energetic", {"energy": 1}),
        ("fast but small", {"speed": 2, "expansion": -2}),
        ("energy++ turns--", {"energy": 2, "turns": -2}),
        ("+speed, -bounce", {"speed": 2, "bounce": -2}),
        ("tango-rumba", {}),
        ("- speed: high\n- turns: none", {"speed": 2, "turns": -3}),
        ("energy 2 out of 10, speed 80", {"energy": -2, "speed": 2}),
        ("jumps: no, spins? no thanks", {"bounce": -3, "turns": -3}),
        ("w/o turns", {"turns": -3}),
        ("slightly below-average energy", {"energy": -1}),
        ("speed above average", {"speed": 2}),
        ("not fast enough", {"speed": 2}),
        ("not enough turns", {"turns": 2}),
        ("as fast as usual", {}),
        ("same energy, bigger arms", {"expansion": 2}),
        ("don't jump so high", {"bounce": -1}),
        ("chill on the spins", {"turns": -2}),
        ("tone down the arms", {"expansion": -2}),
        ("soft bounce", {"bounce": 1}),
        ("soft, bouncy", {"energy": -2, "bounce": 2}),
        ("arms modestly low", {"arm_height": -1}),
        ("at a gentle pace", {"speed": -2}),
        ("crazy fast", {"speed": 3}),
        ("calm energy", {"energy": -2}),
        ("arms wide energy high", {"expansion": 2, "energy": 2}),
        ("less turning, jumping and travelling", {"turns": -2, "bounce": -2, "travel": -2}),
        ("turn-free, kill the bounce", {"turns": -3, "bounce": -3}),
        ("spin like crazy", {"turns": 3}),
        ("quick like a bunny", {"speed": 2}),
        ("the energy of a sloth", {"energy": -3}),
        ("slower than a tango", {"speed": -2}),
        ("one spin", {"turns": -2}),
        ("at least five turns", {"turns": 2}),
        ("spin around the room", {"turns": 2, "travel": 2}),
        ("turn your head", {}),
        ("big circles with your arms", {"expansion": 2}),
        ("the feet barely move", {"travel": -2}),
        ("the arms hardly move", {"expansion": -2}),
        ("lots of bounce but the arms stay down", {"bounce": 2, "arm_height": -2}),
        ("fastish", {"speed": 1}),
        ("way more bouncey", {"bounce": 3}),
        ("Hände hoch, keine Drehungen, sehr langsam", {"arm_height": 2, "turns": -3, "speed": -3}),
        ("plus vite, sans tours", {"speed": 2, "turns": -3}),
        ("más rápido, con los brazos en alto", {"speed": 2, "arm_height": 2}),
    ],
)
def test_grammar_of_attributes(text, asked):
    assert steps(text) == asked


@pytest.mark.parametrize(
    ("text", "genres", "not_genres", "parts"),
    [
        ("Cha-Cha-Cha!", {"chacha": 1.0}, [], []),
        ("half rumba, half waltz", {"rumba": 0.5, "waltz": 0.5}, [], []),
        ("30% tango and 70% waltz", {"tango": 0.3, "waltz": 0.7}, [], []),
        ("60/40 tango and rumba", {"tango": 0.6, "rumba": 0.4}, [], []),
        ("mostly tango with a touch of waltz", {"tango": 0.8, "waltz": 0.2}, [], []),
        ("a waltz with tango influences", {"waltz": 0.8, "tango": 0.2}, [], []),
        ("anything but tango", {}, ["tango"], []),
        ("not a waltz but a rumba", {"rumba": 1.0}, ["waltz"], []),
        ("rumba instead of tango", {"rumba": 1.0}, ["tango"], []),
        ("tango at the chorus", {}, [], [("tango", "chorus", None)]),
        ("waltz, tango in the chorus", {"waltz": 1.0}, [], [("tango", "chorus", None)]),
        ("chorus: tango, the rest waltz", {"waltz": 1.0}, [], [("tango", "chorus", None)]),
        ("waltz until the chorus, then rumba", {}, [], [("waltz", "start", "chorus"), ("rumba", "chorus", None)]),
        ("at 0:45 switch to rumba", {}, [], [("rumba", 45.0, None)]),
        ("after a minute and a half: rumba", {}, [], [("rumba", 90.0, None)]),
        ("rumba from 0:20 to 0:40, otherwise waltz", {"waltz": 1.0}, [], [("rumba", 20.0, 40.0)]),
        ("tango for the first 20 seconds, then rumba", {}, [], [("tango", "start", 20.0), ("rumba", 20.0, None)]),
        ("waltz, but tango for the last ten seconds", {"waltz": 1.0}, [], [("tango", -10.0, None)]),
        ("first half waltz second half rumba", {}, [], [("waltz", "first half", None), ("rumba", "second half", None)]),
        (
            "waltz for the first half, tango for the second",
            {},
            [],
            [("waltz", "first half", None), ("tango", "second half", None)],
        ),
        ("waltz → tango", {}, [], [("waltz", "start", None), ("tango", "second half", None)]),
        ("tango/rumba 50:50", {"tango": 0.5, "rumba": 0.5}, [], []),
        ("30 s of waltz then 30 s of tango", {}, [], [("waltz", "start", 30.0), ("tango", 30.0, 60.0)]),
        ("first waltz, then tango", {}, [], [("waltz", "start", None), ("tango", "second half", None)]),
        ("start with tango and end with waltz", {}, [], [("tango", "start", None), ("waltz", "end", None)]),
        (
            "half rumba half waltz in the second half",
            {},
            [],
            [({"rumba": 0.5, "waltz": 0.5}, "second half", None)],
        ),
    ],
)
def test_grammar_of_genres(text, genres, not_genres, parts):
    directions = read_prompt(text, GENRES)
    assert directions.genres == pytest.approx(genres)
    assert (directions.not_genres, directions.parts) == (not_genres, parts)
    assert not directions.attributes and not directions.not_understood


def test_attributes_of_a_part_of_the_dance():
    directions = read_prompt("start slowly and finish fast, no turns", GENRES)
    assert directions.timed == [("speed", 0.15, "start", None), ("speed", 0.85, "end", None)]
    assert directions.attributes == {"turns": 0.03}
    assert read_prompt("start low energy end high energy", GENRES).timed == [
        ("energy", 0.15, "start", None),
        ("energy", 0.85, "end", None),
    ]
    directions = read_prompt("calm, at the chorus more energy", GENRES)
    assert (directions.attributes, directions.timed) == ({"energy": 0.15}, [("energy", 0.85, "chorus", None)])


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("please make it a nice dance for me", []),
        ("a salsa in a red dress on the beach", ["salsa", "red dress on the beach"]),
        ("hip hop, slow fox or paso doble", ["hip hop", "slow fox", "paso doble"]),
        ("high", ["high"]),
        ("no foot sliding", ["foot sliding"]),
        ("eyes closed in high heels", ["eyes closed", "high heels"]),
        ("floating arms", ["floating"]),
    ],
)
def test_what_is_not_understood(text, unknown):
    directions = read_prompt(text, GENRES)
    assert directions.not_understood == unknown and not directions.attributes and not directions.genres


def test_misspelt_words_only_where_there_is_one_near():
    directions = read_prompt("slwo tnago with mroe enrgy", GENRES)
    assert directions.genres == {"tango": 1.0} and directions.attributes == {"energy": 0.85, "speed": 0.15}
    assert directions.corrected == {"slwo": "slow", "tnago": "tango", "mroe": "more", "enrgy": "energy"}
    for word in ("smart", "tiger", "horse", "salsa", "samba", "event", "black"):
        assert not read_prompt(word, GENRES).attributes and read_prompt(word, GENRES).not_understood == [word]


def test_genres_of_other_models_by_their_names():
    directions = read_prompt("a slow han tang, then breaking; no hip-hop", ["HanTang", "Breaking", "Hiphop"])
    assert directions.parts == [("HanTang", "start", None), ("Breaking", "second half", None)]
    assert directions.not_genres == ["Hiphop"] and directions.attributes == {"speed": 0.15}


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from("no not very slow , and 20 seconds tango chorus then § % 1/0 of a".split())).map(
        " ".join
    )
)
def test_any_text_can_be_read(text):
    directions = read_prompt(text, GENRES)
    assert directions == read_prompt(text, GENRES)
    assert set(directions.attributes.values()) <= set(QUANTILES.values())
    assert directions.genres == {} or sum(directions.genres.values()) == pytest.approx(1)
