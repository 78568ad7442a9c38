"""The sound of composed songs: a mix that is sound, a limiter that holds its ceiling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_composer import rendered  # noqa: F401  (fixture)

from megadance_hf.synthetic import synthesizer
from megadance_hf.synthetic.composer import STYLES
from megadance_hf.synthetic.synthesizer import SAMPLING_RATE


@pytest.mark.parametrize("style", STYLES)
def test_mix_is_sound(rendered, style):  # noqa: F811
    score, waveform = rendered[style]
    assert waveform.shape == (12 * SAMPLING_RATE, 2) and waveform.dtype == np.float32
    assert np.isfinite(waveform).all() and 0.5 < np.abs(waveform).max() <= 0.9
    assert (np.abs(waveform) > 0.85).mean() < 0.01  # limited now and then, not flattened
    loudness = np.sqrt((waveform.reshape(12, -1) ** 2).mean(axis=1))  # of every second
    assert loudness[:10].min() > 0.05  # no hole before the fade-out
    assert np.abs(waveform[-200:]).max() < 1e-3
    assert np.abs(waveform.mean(axis=0)).max() < 1e-3  # no constant part
    assert 0.3 < np.corrcoef(waveform.T)[0, 1] < 0.999  # stereo that survives mono
    spectrum = np.abs(np.fft.rfft(waveform.mean(axis=1))) ** 2
    hertz = np.fft.rfftfreq(len(waveform), 1 / SAMPLING_RATE)
    shares = [
        spectrum[(hertz >= a) & (hertz < b)].sum() / spectrum.sum() for a, b in ((30, 150), (150, 2000), (2000, 2e4))
    ]
    assert shares[0] > 0.1 and shares[1] > 0.1 and shares[2] > 1e-3  # bass, chords and tune, hats


@given(st.integers(0, 2**32), st.floats(0.01, 5))
def test_limiter_never_exceeds_its_ceiling(seed, loudness):
    mix = loudness * np.random.default_rng(seed).standard_normal((2, 5000))
    limited = synthesizer._limit(mix, 0.9)
    assert np.abs(limited).max() <= 0.9 + 1e-9
    if np.abs(mix).max() <= 0.9:
        assert np.allclose(limited, mix)
