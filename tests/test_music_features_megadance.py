"""Music features: equal to librosa's, in blocks and threads as well as at once."""

import librosa
import numpy as np
import pytest
import torch
from helpers import noisy_song as song
from hypothesis import given, settings
from hypothesis import strategies as st

from megadance_hf.modeling import music_features_megadance as module
from megadance_hf.modeling.music_features_megadance import (
    BEAT,
    CHROMA,
    MFCC,
    ONSET_ENVELOPE,
    PEAK,
    SAMPLING_RATE,
    SHORT_TEMPO_PRIOR,
    TEMPO_PRIOR,
    harmonic_percussive_masks,
    music_features,
    onset_peaks,
    pitches,
    running_median,
    song_features,
    track_beats,
)


@pytest.mark.parametrize(
    ("sampling_rate", "hop_length", "seconds"),
    [(SAMPLING_RATE, 512, 4.0), (SAMPLING_RATE, 256, 3.0), (SAMPLING_RATE, 320, 3.0), (22050, 512, 3.0)],
)
def test_equals_plain_librosa(sampling_rate, hop_length, seconds):
    """librosa called column by column on the whole sound gives the same numbers."""
    waveform = song(seconds, sampling_rate)
    columns = {"sr": sampling_rate, "hop_length": hop_length}
    spectrum = librosa.stft(waveform, hop_length=hop_length)
    harmonic, percussive = (
        librosa.istft(part, hop_length=hop_length, length=len(waveform)) for part in librosa.decompose.hpss(spectrum)
    )
    decibels = librosa.power_to_db(librosa.feature.melspectrogram(y=waveform, **columns), ref=np.max)
    envelope = librosa.onset.onset_strength(y=percussive, aggregate=np.median, **columns)
    features = music_features(waveform, sampling_rate, hop_length)
    np.testing.assert_allclose(features[:, MFCC], librosa.feature.mfcc(S=decibels, n_mfcc=20).T, atol=1e-3)
    chroma = librosa.feature.chroma_cqt(y=harmonic, n_octaves=4, **columns)
    np.testing.assert_allclose(features[:, CHROMA], chroma.T, atol=1e-5)
    np.testing.assert_allclose(features[:, ONSET_ENVELOPE], envelope, atol=1e-4)
    _, beats = librosa.beat.beat_track(onset_envelope=envelope, **columns)
    np.testing.assert_array_equal(np.flatnonzero(features[:, BEAT]), beats)
    np.testing.assert_array_equal(np.flatnonzero(features[:, PEAK]), onset_peaks(features[:, ONSET_ENVELOPE]))


def spectrum(frames: int, frequencies: int, seed: int) -> np.ndarray:
    """complex64 `[frames, frequencies]`, a fifth of the frames silent."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((frames, frequencies)) + 1j * rng.standard_normal((frames, frequencies))
    values[rng.random(frames) < 0.2] = 0
    return values.astype("c8")


@settings(max_examples=25)
# SciPy's own median, on axes shorter than half its window, reads beyond them now and then
@given(st.integers(16, 60), st.integers(16, 90), st.integers(0, 2**16))
def test_harmonic_and_percussive_shares_are_librosas_bit_for_bit(frequencies, frames, seed):
    magnitude = np.abs(spectrum(frames, frequencies, seed))
    theirs = librosa.decompose.hpss(magnitude.T, mask=True)
    for ours, expected in zip(harmonic_percussive_masks(magnitude), theirs, strict=True):
        np.testing.assert_array_equal(ours.T, expected)


@settings(max_examples=50)
@given(st.integers(1, 120), st.integers(1, 9), st.integers(1, 40), st.integers(0, 2**16))
def test_running_median_sorts_each_window(rows, width, different, seed):
    """Few different values, so that many are equal."""
    values = np.random.default_rng(seed).integers(0, different, (rows, width)).astype(np.float32)
    mirrored = np.pad(values, ((15, 15), (0, 0)), mode="symmetric")
    slow = [np.sort(mirrored[row : row + 31], axis=0)[15] for row in range(rows)]
    np.testing.assert_array_equal(running_median(values), slow)


@pytest.mark.parametrize("sampling_rate", [11025, 15360, 44100])
def test_pitches_are_those_of_librosa(sampling_rate):
    magnitude = np.abs(spectrum(50, 1025, seed=0))
    frequency, strength = librosa.piptrack(S=magnitude.T, sr=sampling_rate)
    found = frequency.T > 0
    ours = pitches(magnitude, sampling_rate)
    np.testing.assert_allclose(ours[0], frequency.T[found], rtol=1e-5)
    np.testing.assert_allclose(ours[1], strength.T[found], rtol=1e-5)


@settings(max_examples=40)
@given(st.integers(4, 400), st.floats(0, 1), st.integers(3, 60), st.sampled_from([256, 512]), st.integers(0, 2**16))
def test_beats_and_peaks_are_those_of_librosa(rows, noise, distance, hop_length, seed):
    """Clicks in noise, with silence at the beginning; noise alone is the worst case: many beats are nearly as good."""
    rng = np.random.default_rng(seed)
    envelope = noise * rng.random(rows) + (np.arange(rows) % distance == 0)
    envelope[: rng.integers(1, rows)] *= rng.random() < 0.5
    envelope = (3 * envelope).astype(np.float32)
    envelope[0] = 0
    options = {"sr": SAMPLING_RATE, "hop_length": hop_length}
    tempo, beats = librosa.beat.beat_track(onset_envelope=envelope, **options)
    ours, our_beats = track_beats(envelope, SAMPLING_RATE, hop_length)
    assert ours == pytest.approx(float(np.max(tempo)))
    np.testing.assert_array_equal(our_beats, beats)
    peaks = librosa.util.peak_pick(envelope, pre_max=3, post_max=3, pre_avg=3, post_avg=5, delta=0.5, wait=10)
    np.testing.assert_array_equal(onset_peaks(envelope), peaks)


def test_volume_does_not_matter():
    np.testing.assert_allclose(music_features(song()), music_features(0.25 * song()), atol=2e-2)


def test_beats_follow_the_clicks():
    tempo, beats = track_beats(music_features(song(10.0))[:, ONSET_ENVELOPE])
    assert tempo == pytest.approx(120, abs=3)
    assert np.abs((beats / 30 + 0.25) % 0.5 - 0.25).max() < 0.07
    assert track_beats(np.zeros(90)) == (0.0, pytest.approx([]))


def test_a_short_sound_gets_the_more_usual_tempo(monkeypatch):
    envelope = np.zeros(600)
    envelope[5::11], envelope[5::22] = 0.7, 1.0  # every other beat is stronger: 82 or 164 a minute
    assert track_beats(envelope)[0] == pytest.approx(163.6, abs=0.1)
    assert track_beats(envelope, tempo_prior=SHORT_TEMPO_PRIOR)[0] == pytest.approx(81.8, abs=0.1)

    asked = []
    monkeypatch.setattr(module, "music_features", lambda *_, tempo_prior: asked.append(tempo_prior) or envelope)
    for seconds in (1, 20, 20.1, 60):
        song_features(np.zeros(round(seconds * SAMPLING_RATE)))
    assert asked == [SHORT_TEMPO_PRIOR] * 2 + [TEMPO_PRIOR] * 2


@pytest.fixture
def threads():
    """Sets torch's number of threads, which the blocks are shared among."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 3])
def test_blocks_and_threads_do_not_change_the_features(threads, count):
    waveform = song(21.4)
    whole = music_features(waveform, block_frames=64 * 11)
    threads(count)
    blocks = music_features(waveform, block_frames=64)
    np.testing.assert_allclose(blocks, whole, atol=1e-4)  # MFCC reach 500
    np.testing.assert_allclose(blocks[:, CHROMA], whole[:, CHROMA], atol=1e-5)
    np.testing.assert_array_equal(blocks[:, [BEAT, PEAK]], whole[:, [BEAT, PEAK]])


@settings(max_examples=10)
@given(st.integers(1, 5 * SAMPLING_RATE), st.sampled_from([256, 512]))
def test_blocks_of_any_length_and_hop(samples, hop_length):
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
