"""Codes of whole clips at every offset."""

from types import SimpleNamespace

import numpy as np
from toy_clips import ruler, ruler_encode

from megadance_hf.data.clip import clip_motion
from megadance_hf.data.codes import encode_clips


def test_codes_of_every_offset():
    (plain, mirrored) = encode_clips(SimpleNamespace(encode=ruler_encode), [ruler(frames=43)])
    assert (plain.mirrored, mirrored.mirrored, plain.stretch) == (False, True, 1.0)
    for item in (plain, mirrored):
        assert len(item.upper) == len(item.lower) == 8
        for offset, codes in enumerate(item.upper):
            np.testing.assert_array_equal(codes, np.arange(offset, 43 - 7, 8))
            assert item.lower[offset].shape == codes.shape and (item.lower[offset] == item.mirrored).all()


def test_codes_of_windows_know_nothing_of_what_is_around_them():
    seen = []

    def encode(motion):
        seen.append(motion[0])
        return ruler_encode(motion)

    clip = ruler(frames=60, marked_frames=[33])
    rule = {"length": 16, "stride": 10, "drop_marked": True}
    encoded = encode_clips(encode, [clip], mirror=False, windows=rule)
    assert [item.start for item in encoded] == [0, 10, 40]
    for item, motion in zip(encoded, seen, strict=True):
        whole = clip_motion(clip)[item.start : item.start + 16]
        np.testing.assert_array_equal(motion[:-1], whole[:-1])
        np.testing.assert_array_equal(motion[-1, 3:], whole[-1, 3:])
        assert motion[-1, :3].eq(0).all() and whole[-1, 0] > 0
        (codes,) = item.upper
        np.testing.assert_array_equal(codes, [item.start, item.start + 8])
        assert len(item.clip) == 16 and len(item.lower) == 1
