"""Windows of clips: where they begin, which are left out, and clips made of them."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_clips import GRID, dance, ruler

from megadance_hf.data.windows import cut_clip, noise_of, window_starts


@given(
    frames=st.integers(16, 200),
    length=st.integers(1, 60),
    stride=st.integers(1, 40),
    marked=st.lists(st.integers(0, 250), max_size=5, unique=True),
    muq=st.one_of(st.none(), st.integers(1, 250)),
)
def test_windows_are_those_that_fit_and_have_no_marked_frame(frames, length, stride, marked, muq):
    clip = dance(frames=frames, marked_frames=sorted(marked), muq_frames=muq)

    def plain(end, drop):
        starts = []
        for start in range(0, end, stride):
            window = range(start, start + length)
            if window.stop <= end and not (drop and any(frame in window for frame in marked)):
                starts.append(start)
        return starts

    for drop in (False, True):
        assert window_starts(clip, length, stride, drop) == plain(frames, drop)
        end = min(frames, muq or frames) // 8 * 8
        assert window_starts(clip, length, stride, drop, until_muq=True) == plain(end, drop)


def test_a_clip_without_marks_loses_no_window():
    assert window_starts(dance(frames=40), 16, 8, drop_marked=True) == [0, 8, 16, 24]


@pytest.mark.parametrize("music", [True, False])
def test_a_clip_is_cut_into_clips(music):
    clip = ruler(frames=60, music=music, marked_frames=[33], muq_frames=50, audio=b"OggS" if music else None, **GRID)
    clip.units = [{"name": "T-1", "start_s": 0.5, "beats": 2}]
    pieces = cut_clip(clip, 16, 10, drop_marked=True)
    assert [start for start, _ in pieces] == [0, 10, 40]
    for start, piece in pieces:
        frames = slice(start, start + 16)
        assert piece.id == f"r@{start}" and (piece.genre, piece.split) == (clip.genre, clip.split)
        np.testing.assert_array_equal(piece.poses, clip.poses[frames])
        np.testing.assert_array_equal(piece.translation, clip.translation[frames])
        if music:
            np.testing.assert_array_equal(piece.input_features[:, 0], np.arange(start, start + 16))
        assert piece.paired == music
        # what speaks of the whole clip is gone
        unknown = ("audio", "muq_frames", "marked_frames", "units", "beat_period_s", "first_beat_s", "beat_source")
        assert all(getattr(piece, name) is None for name in unknown)
        dataclasses.replace(piece).check()


def test_noise_is_what_is_found_and_what_the_source_marks_with_the_step_there():
    clip = dance(frames=40, marked_frames=[0, 12, 13, 99])
    clip.translation[30:] += 2
    assert np.flatnonzero(noise_of(clip)).tolist() == [0, 11, 12, 13, 29, 30]
