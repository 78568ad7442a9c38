"""Music features: librosa's numbers, in blocks and on threads as well as at once."""

import librosa
import numpy as np
import pytest
import torch
from helpers import noisy_song as song
from hypothesis import given, settings
from hypothesis import strategies as st

from megadance_hf.modeling.music_features_megadance import (
    BEAT,
    CHROMA,
    MFCC,
    ONSET_ENVELOPE,
    PEAK,
    SAMPLING_RATE,
    harmonic_percussive,
    music_features,
    onset_peaks,
    track_beats,
)


def test_equals_plain_librosa():
    """The shared spectrum and the padding change nothing against librosa called column by column."""
    waveform = song(4.0)
    harmonic, percussive = librosa.effects.hpss(waveform)
    decibels = librosa.power_to_db(
        librosa.feature.melspectrogram(y=waveform, sr=SAMPLING_RATE, hop_length=512), ref=np.max
    )
    envelope = librosa.onset.onset_strength(y=percussive, sr=SAMPLING_RATE, hop_length=512, aggregate=np.median)
    features = music_features(waveform)
    np.testing.assert_allclose(features[:, MFCC], librosa.feature.mfcc(S=decibels, n_mfcc=20).T, atol=1e-3)
    chroma = librosa.feature.chroma_cqt(y=harmonic, sr=SAMPLING_RATE, hop_length=512, n_octaves=4)
    np.testing.assert_allclose(features[:, CHROMA], chroma.T, atol=1e-5)
    np.testing.assert_allclose(features[:, ONSET_ENVELOPE], envelope, atol=1e-4)
    np.testing.assert_array_equal(np.flatnonzero(features[:, BEAT]), track_beats(features[:, ONSET_ENVELOPE])[1])
    np.testing.assert_array_equal(np.flatnonzero(features[:, PEAK]), onset_peaks(features[:, ONSET_ENVELOPE]))


@settings(max_examples=25)
@given(st.integers(3, 40), st.integers(3, 90), st.integers(0, 2**16))  # of two neighbours SciPy's own median is wrong
def test_harmonic_and_percussive_parts_are_librosas_bit_for_bit(frequencies, frames, seed):
    rng = np.random.default_rng(seed)
    spectrum = (rng.standard_normal((frequencies, frames)) + 1j * rng.standard_normal((frequencies, frames))).astype(
        "c8"
    )
    spectrum[:, rng.random(frames) < 0.2] = 0  # silence
    for ours, theirs in zip(harmonic_percussive(spectrum), librosa.decompose.hpss(spectrum), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_volume_does_not_matter():
    np.testing.assert_allclose(music_features(song()), music_features(0.25 * song()), atol=2e-2)


def test_beats_follow_the_clicks():
    tempo, beats = track_beats(music_features(song(10.0))[:, ONSET_ENVELOPE])
    assert tempo == pytest.approx(120, abs=3)
    assert np.abs((beats / 30 + 0.25) % 0.5 - 0.25).max() < 0.07
    assert track_beats(np.zeros(90)) == (0.0, pytest.approx([]))


@pytest.fixture
def threads():
    """Sets torch's number of threads, which the blocks are shared among."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 3])
def test_in_blocks_the_numbers_are_the_same(threads, count):
    waveform = song(21.4)
    whole = music_features(waveform, block_frames=64 * 11)
    threads(count)
    blocks = music_features(waveform, block_frames=64)
    np.testing.assert_allclose(blocks, whole, atol=1e-4)  # MFCC reach 500
    np.testing.assert_allclose(blocks[:, CHROMA], whole[:, CHROMA], atol=1e-5)
    np.testing.assert_array_equal(blocks[:, [BEAT, PEAK]], whole[:, [BEAT, PEAK]])


@settings(max_examples=10)
@given(st.integers(1, 5 * SAMPLING_RATE), st.sampled_from([256, 512]))
def test_in_blocks_any_length_and_hop(samples, hop_length):
    waveform = song(5.0)[:samples]
    whole, blocks = (music_features(waveform, hop_length=hop_length, block_frames=64 * n) for n in (99, 1))
    assert whole.shape == (1 + samples // hop_length, 35)
    np.testing.assert_allclose(blocks, whole, atol=1e-4)


def test_tempo_of_a_long_song_is_the_mean_of_its_tempogram():
    """Ten minutes, longer than the pieces that the tempogram is averaged over."""
    frames = np.arange(18000)
    envelope = np.exp(-(frames % 17.3) / 2) + 0.1 * np.random.default_rng(0).random(18000)
    tempo, beats = track_beats(envelope)
    expected, expected_beats = librosa.beat.beat_track(onset_envelope=envelope, sr=SAMPLING_RATE, hop_length=512)
    assert tempo == pytest.approx(float(expected[0]))
    np.testing.assert_array_equal(beats, expected_beats)
