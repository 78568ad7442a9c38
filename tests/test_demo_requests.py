"""What a page may ask for: numbers in range, known names, and a sentence for everything else."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megadance_hf.demo.jobs import DemoError
from megadance_hf.demo.limits import Limits
from megadance_hf.demo.poses import DAMAGED_POSE, Held, write_poses
from megadance_hf.demo.requests import (
    MALFORMED,
    Keep,
    Range,
    Redo,
    Wish,
    _read_motion,
    read_json,
    read_redo,
    read_wish,
    write_motion,
)

GENRES, ATTRIBUTES, LIMITS = ["waltz", "rumba"], ["energy", "arm_height"], Limits(song_seconds=60)
PLAN = [["waltz", 0], [{"rumba": 1, "waltz": 3}, 4.5]]
POSE = write_poses(np.zeros((1, 24, 3)))


def wish(**given):
    return read_wish(given, GENRES, ATTRIBUTES, LIMITS)


def test_a_wish():
    assert wish() == Wish(0.0, 60.0) and wish(plan=[], attributes=None, prompt=" ") == Wish(0.0, 60.0)
    given = {"start": 3, "seconds": 10, "plan": PLAN, "changes": "bar", "seed": 5, "temperature": 0.9, "mode": "stream"}
    given |= {"attributes": {"energy": 0.8, "arm_height": [[0, 0.1], [5, 1]]}, "prompt": " wide ", "beside": "rumba"}
    given |= {"keep": {"take": "x", "ranges": [{"start": 1, "end": 99, "part": "lower"}]}}
    assert wish(**given) == Wish(
        3.0,
        10.0,
        [("waltz", 0.0), ({"rumba": 1.0, "waltz": 3.0}, 4.5)],
        "bar",
        5,
        0.9,
        "stream",
        {"energy": 0.8, "arm_height": [(0.0, 0.1), (5.0, 1.0)]},
        "wide",
        "rumba",
        Keep("x", (Range(1.0, 10.0, "lower"),)),
    )
    assert wish(attributes={"energy": None}).attributes == {} and wish(keep={"take": "x", "ranges": []}).keep is None
    assert (
        wish(loop=True).loop
        and not wish(loop=False).loop
        and wish(plan=[[{"waltz": 1, "rumba": 0}, 0]]).plan == [("waltz", 0.0)]
    )


def test_what_is_held():
    """In the order of the dance."""
    given = [{"second": 4, "poses": POSE, "name": "a.bvh", "of the page": 1}, {"second": 1.5, "poses": POSE}]
    assert wish(hold=given).hold == (Held(1.5, POSE, ""), Held(4.0, POSE, "a.bvh")) and wish(hold=[]).hold == ()
    # two dancers may meet something at once
    both = [{"second": 1.5, "poses": POSE}, {"second": 1.6, "poses": POSE, "dancer": 1}]
    assert wish(hold=both).hold == (Held(1.5, POSE), Held(1.6, POSE, "", 1))


def test_a_passage():
    given = {"take": "x", "start": 1, "end": 99, "part": "upper", "candidates": 8, "show": 3, "seed": 1, "dancer": 1}
    assert read_redo(given, ATTRIBUTES, 20.0) == Redo("x", Range(1.0, 20.0, "upper", 1), 8, 3, 1, {}, None)
    assert read_redo({"take": "x", "start": 1, "end": 2, "show": 4, "candidates": 1}, (), 20.0).candidates == 4


BIG = 10**400
MISTAKES = [
    ({"seconds": 61}, "from 1 to 60; 61 was asked for"),
    ({"seconds": 0.2}, "from 1 to 60"),
    ({"seconds": "30"}, "from 1 to 60"),
    ({"seconds": True}, "from 1 to 60"),
    ({"seconds": BIG}, "from 1 to 60"),
    ({"seconds": float("nan")}, "from 1 to 60"),
    ({"start": -1}, "from 0 to 86400"),
    ({"start": [1]}, "from 0 to 86400"),
    ({"seed": -1}, "The seed must be a number from 0"),
    ({"seed": 1.5}, "a whole number"),
    ({"seed": 2**32}, "The seed must be"),
    ({"temperature": 0}, "The temperature"),
    ({"mode": "fast"}, MALFORMED),
    ({"changes": "beat"}, "at a bar or at once"),
    ({"plan": "waltz"}, "must be a list"),
    ({"plan": ["waltz"]}, MALFORMED),
    ({"plan": [["polka", 0]]}, "'polka' is unknown here: choose one of waltz, rumba"),
    ({"plan": [[["waltz"], 0]]}, "unknown here"),
    ({"plan": [[{"polka": 1}, 0]]}, "unknown here"),
    ({"plan": [[{}, 0]]}, "a share above 0"),
    ({"plan": [[{"waltz": -1}, 0]]}, "The share of a dance"),
    ({"plan": [["waltz", 1]]}, "at the beginning"),
    ({"plan": [["waltz", 0], ["rumba", 0]]}, "one after the other"),
    ({"plan": [["waltz", 0], ["rumba", 30]], "seconds": 30}, "changes at 30 seconds, but the dance lasts 30"),
    ({"plan": [["waltz", 0]] * 101}, "at most 100"),
    ({"beside": "nobody"}, "unknown here"),
    ({"beside": "waltz", "plan": [["waltz", 0]]}, "Both dancers would dance waltz"),
    ({"attributes": [1]}, MALFORMED),
    ({"attributes": {"grace": 1}}, "'grace' is unknown here: choose one of energy, arm_height"),
    ({"attributes": {"energy": 2}}, "Energy must be a number from 0 to 1; 2 was asked for"),
    ({"attributes": {"energy": [[0]]}}, MALFORMED),
    ({"attributes": {"energy": [["x", 1]]}}, "The second of energy"),
    ({"prompt": 3}, "What you write"),
    ({"prompt": "x" * 501}, "What you write must be a text of at most 500 letters"),
    ({"keep": "x"}, MALFORMED),
    ({"keep": {"take": "x", "ranges": {}}}, "What is kept must be a list"),
    ({"keep": {"take": 1, "ranges": [{"start": 0, "end": 1}]}}, "The name of a song or a dance"),
    ({"keep": {"take": "x", "ranges": [{"start": 2, "end": 1}]}}, "must end after it begins"),
    ({"keep": {"take": "x", "ranges": [{"start": 0, "end": 1, "part": "feet"}]}}, "upper or of the lower body"),
    ({"loop": 1}, MALFORMED),
    ({"hold": {"2": POSE}}, "What is held must be a list"),
    ({"hold": [POSE]}, MALFORMED),
    ({"hold": [{"second": 1}]}, DAMAGED_POSE),
    ({"hold": [{"second": "1", "poses": POSE}]}, "The second of a pose"),
    ({"hold": [{"second": 61, "poses": POSE}]}, "The second of a pose must be a number from 0 to 60"),
    ({"hold": [{"second": 1, "poses": POSE, "name": 3}]}, "The name of a pose"),
    ({"hold": [{"second": 1, "poses": POSE}] * 2}, "too near to each other"),
    ({"hold": [{"second": 1, "poses": POSE, "dancer": 2}]}, "The dancer must be a number from 0 to 1"),
    (
        {"hold": [{"second": second, "poses": POSE, "dancer": 1} for second in (1, 1.03)]},
        "The second dancer's pose at 0:01.0 and the second dancer's pose at 0:01.0 are too near to each other",
    ),
    ({"keep": {"take": "x", "ranges": [{"start": 0, "end": 1, "dancer": "she"}]}}, "The dancer must be a number"),
    ({"hold": [{"second": 1, "poses": POSE}] * 25}, "at most 24"),
    ({"hold": [{"second": 9.8, "poses": POSE}], "seconds": 10, "loop": True}, "is to end where it begins"),
]


@pytest.mark.parametrize(("given", "message"), MISTAKES)
def test_mistakes_are_told_in_a_sentence(given, message):
    with pytest.raises(DemoError) as caught:
        wish(**given)
    assert message in str(caught.value) and len(str(caught.value)) < 200 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b"\xff\xfe",
        b'{"seed": NaN}',
        b'{"seed": -Infinity}',
        b"[" * 100_000,
        b'{"a":' + b"9" * 9999 + b"}",
    ],
)
def test_what_is_no_json(content):
    with pytest.raises(DemoError, match="cannot be read"):
        read_json(content)
    assert read_json(b'{"seconds": 1e999}') == {"seconds": float("inf")}  # found when it is read as a number


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["waltz", "all"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["start", "end", "take", "waltz"]), inner)
    ),
    max_leaves=12,
)
NAMES = ["start", "seconds", "plan", "changes", "seed", "attributes", "prompt", "keep", "beside", "mode", "temperature"]
NAMES += ["loop", "hold"]


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), json_values))
def test_whatever_is_sent_is_a_wish_or_a_sentence(given):
    try:
        found = wish(**given)
    except DemoError as error:
        assert 0 < len(str(error)) < 300
    else:
        assert 1 <= found.seconds <= 60 and 0 <= found.start <= 86400
        json.dumps(found.attributes, allow_nan=False)


@given(st.integers(1, 20), st.integers(0, 2**31))
def test_a_motion_as_text(frames, seed):
    generator = np.random.default_rng(seed)
    poses = generator.standard_normal((frames, 24, 3)).astype(np.float32)
    path = generator.standard_normal((frames, 3)).astype(np.float32)
    read = _read_motion(write_motion(poses, path), frames)
    np.testing.assert_array_equal(read[0], poses)
    np.testing.assert_array_equal(read[1], path)
    path[-1, -1] = np.nan
    for text, count in ((write_motion(poses, path), frames), (write_motion(poses, path), frames + 1), (3, frames)):
        with pytest.raises(DemoError, match="damaged"):
            _read_motion(text, count)
