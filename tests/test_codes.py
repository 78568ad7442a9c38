"""Codes of whole clips at every offset."""

from types import SimpleNamespace

import numpy as np
from toy_clips import ruler, ruler_encode

from megadance_hf.data.codes import encode_clips


def test_codes_of_every_offset():
    (plain, mirrored) = encode_clips(SimpleNamespace(encode=ruler_encode), [ruler(frames=43)])
    assert (plain.mirrored, mirrored.mirrored, plain.stretch) == (False, True, 1.0)
    for item in (plain, mirrored):
        assert len(item.upper) == len(item.lower) == 8
        for offset, codes in enumerate(item.upper):
            np.testing.assert_array_equal(codes, np.arange(offset, 43 - 7, 8))
            assert item.lower[offset].shape == codes.shape and (item.lower[offset] == item.mirrored).all()
