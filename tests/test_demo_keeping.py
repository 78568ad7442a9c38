"""What is danced again where parts of a dance are kept: passages, and the new poses that they meet."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megadance_hf.demo.jobs import DemoError
from megadance_hf.demo.keeping import free_passages
from megadance_hf.demo.poses import Held, write_poses
from megadance_hf.demo.requests import Range
from megadance_hf.modeling.plans_megadance import DirectionError
from megadance_hf.modeling.redo_megadance import _Passage, _place_in_passage

FRAMES = 300  # 38 codes, the last of which is not whole


def held(second, frames=1):
    return Held(second, write_poses(np.zeros((frames, 24, 3))))


def passages(kept, stays=(), new=(), loop=False):
    return free_passages(FRAMES, kept, stays, new, loop)


def spans(found):
    return [(one.first, one.last, one.part) for one in found]


def test_what_is_free():
    """Codes that are kept in part are kept; halves of the body; what is held already; the ends of a loop."""
    assert spans(passages([Range(2.0, 4.0)])) == [(0, 7, "all"), (15, 38, "all")]
    assert spans(passages([Range(0.0, 10.0, "upper"), Range(4.0, 4.26, "lower")])) == [
        (0, 15, "lower"),
        (16, 38, "lower"),
    ]
    assert spans(passages([Range(0.0, 4.0, "lower")])) == [(0, 15, "upper"), (15, 38, "all")]
    assert spans(passages([Range(8.0, 10.0)], stays=[held(4.0)], loop=True)) == [(1, 15, "all"), (16, 30, "all")]
    assert passages([Range(0.0, 10.0)]) == []


def test_each_passage_meets_what_lies_in_it():
    """Up to the ends of the dance, and 0.6 s from what stays."""
    new = [held(0.0), held(1.2), held(4.6), held(10 - 1 / 30)]
    found = passages([Range(2.0, 4.0)], new=new)
    assert [one.hold for one in found] == [tuple(new[:2]), tuple(new[2:])]
    half = passages([Range(2.0, 6.0, "upper")], new=[held(3.0, 15)])
    assert [(one.part, len(one.hold)) for one in half] == [("all", 0), ("lower", 1), ("all", 0)]


@pytest.mark.parametrize(
    ("kept", "stays", "new", "loop", "message"),
    [
        ([Range(2, 4)], [], held(3.0), False, "The dance is locked where the pose at 0:03.0 is to be held: unlock it"),
        ([Range(2, 4)], [], held(1.5, 30), False, "The dance is locked where the clip at 0:01.5 is to be held"),
        ([Range(2, 4)], [], held(4.5), False, "between what stays and the pose at 0:04.5: hold it at 0:04.6 or later"),
        ([Range(2, 4)], [], held(1.6), False, "and the pose at 0:01.6: hold it at 0:01.2 or earlier, or unlock more"),
        ([Range(2, 4)], [held(8)], held(7.2, 20), False, "the clip at 0:07.2: hold it at 0:06.7 or earlier"),
        ([Range(2, 4, "upper")], [], held(3.8), False, "hold it at 0:03.3 or earlier"),
        ([Range(2, 4, "upper")], [], held(1.8, 20), False, "hold it at 0:00.6 or earlier"),
        ([Range(2, 4), Range(5, 6)], [], held(4.4), False, "The pose at 0:04.4 has too little room between what stays"),
        ([Range(2, 4)], [], held(0.0), True, "hold it at 0:00.9 or later"),
    ],
)
def test_what_cannot_be_held_beside_a_lock(kept, stays, new, loop, message):
    with pytest.raises(DemoError, match=re.escape(message)) as caught:
        passages(kept, stays, [new], loop)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize(("second", "frames"), [(4.5, 1), (1.6, 1), (8.6, 20), (9.5, 5), (4.0, 60)])
def test_where_it_is_told_to_be_held_it_can_be(second, frames):
    """What the sentence says is possible."""
    kept, stays = [Range(2.0, 4.0)], [held(9.8)]
    with pytest.raises(DemoError) as caught:
        passages(kept, stays, [held(second, frames)])
    minutes, seconds = re.search(r"hold it at (\d+):([\d.]+)", str(caught.value)).groups()
    found = passages(kept, stays, [held(60 * int(minutes) + float(seconds), frames)])
    assert sum(len(one.hold) for one in found) == 1


@given(st.floats(0, 9), st.floats(0.1, 4), st.integers(0, 299), st.integers(1, 40), st.integers(270, FRAMES))
def test_the_page_refuses_what_the_pipeline_would(start, length, first, count, frames):
    """And nothing else, as far as it lies in one passage."""
    first = min(first, frames - count)
    one, kept = held(first / 30, count), Range(start, min(start + length, frames / 30))
    try:
        passages = free_passages(frames, [kept], [], [one], loop=False)
    except DemoError:
        passages, refused = free_passages(frames, [kept], [], [], loop=False), True
    else:
        refused = False
        passages = [passage for passage in passages if passage.hold]
        assert len(passages) == 1
    for passage in passages:
        asked = _Passage(passage.first, passage.last, "all", -(-frames // 8), frames, 30, 8)
        hold: dict[float | str, torch.Tensor] = {first / 30: torch.zeros(count, 24, 3)}
        if refused:
            with pytest.raises(DirectionError):
                _place_in_passage(hold, asked)
        else:
            _place_in_passage(hold, asked)
