"""Codes of whole clips at every offset."""

from types import SimpleNamespace

import numpy as np
import torch
from toy_clips import dance, ruler, ruler_encode

from megadance_hf.data.augmentation import MotionCorruption, mirror_motion
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


def test_noise_is_marked_in_every_variant():
    clip = ruler(frames=100, marked_frames=[33])
    assert {item.noisy for item in encode_clips(ruler_encode, [clip])} == {None}
    encoded = encode_clips(ruler_encode, [clip], stretches=(1.0, 1.5), mask_noise=True)
    for item in encoded:
        # stretched frames are blends of two, and noise if one of them is
        marks = [32, 33] if item.stretch == 1.0 else [47, 48, 49, 50]
        assert np.flatnonzero(item.noisy).tolist() == marks and len(item.noisy) == len(item.clip)
    rule = {"length": 16, "stride": 10}
    windows = encode_clips(ruler_encode, [clip], mirror=False, mask_noise=True, windows=rule)
    for item in windows:
        assert np.flatnonzero(item.noisy).tolist() == [f - item.start for f in (32, 33) if 0 <= f - item.start < 16]


def test_inputs_are_codes_of_a_corrupted_copy():
    seen = []

    def encode(motion):
        seen.append(motion[0].numpy())
        codes = motion.mean((1, 2))[:, None].expand(-1, motion.shape[1] // 8) * 1e6
        return SimpleNamespace(upper_codes=codes.long(), lower_codes=-codes.long())

    clip, corruption = dance(frames=64), MotionCorruption(0.2, 0.2, 0.2)
    assert {item.inputs for item in encode_clips(encode, [clip])} == {None}
    seen.clear()
    plain, mirrored = encode_clips(encode, [clip], corruption=corruption, seed=4)
    for number, item in enumerate((plain, mirrored)):
        motion = clip_motion(clip)
        motion = mirror_motion(motion) if item.mirrored else motion
        made, _ = corruption(motion, np.random.default_rng((4, number)))
        assert np.abs(made - motion).max() > 0.01
        for offset in range(8):
            frames = slice(offset, offset + (64 - offset) // 8 * 8)
            np.testing.assert_array_equal(seen[16 * number + offset], motion[frames])
            np.testing.assert_array_equal(seen[16 * number + 8 + offset], made[frames])
            target, given = encode(torch.from_numpy(motion[None, frames])), encode(torch.from_numpy(made[None, frames]))
            np.testing.assert_array_equal(item.upper[offset], target.upper_codes[0])
            np.testing.assert_array_equal(item.inputs[0][offset], given.upper_codes[0])
            np.testing.assert_array_equal(item.inputs[1][offset], given.lower_codes[0])
