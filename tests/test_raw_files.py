"""Files of raw folders."""

import pytest

from megadance_hf.data.raw_files import is_clip_name


@pytest.mark.parametrize(
    ("name", "usable"),
    [
        ("gBR_sBM_cAll_d04_mBR0_ch01", True),
        ("Tanz é 7", True),
        *((wrong, False) for wrong in ("", ".", "..", "../a", "a/b", "a\\b", "a\nb", "a\0b", "x" * 201, None, 7)),
    ],
)
def test_names_of_clips_stay_in_their_folder(name, usable):
    assert is_clip_name(name) is usable
