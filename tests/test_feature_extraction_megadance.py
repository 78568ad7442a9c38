"""Music features: librosa's numbers, the length rule, reading of files, padding, and unusable sound."""

import io
import subprocess
import sys

import librosa
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.dynamic_module_utils import get_imports

from megadance_hf.modeling import feature_extraction_megadance as module
from megadance_hf.modeling.feature_extraction_megadance import (
    BEAT,
    CHROMA,
    MFCC,
    ONSET_ENVELOPE,
    PEAK,
    AudioError,
    MegaDanceFeatureExtractor,
    load_audio,
    music_features,
    onset_peaks,
    track_beats,
)

RATE = 15360


def song(seconds: float = 3.0, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Mono float32: a click every half second over three tones and a little noise."""
    t = np.arange(round(seconds * rate)) / rate
    tones = sum(np.sin(2 * np.pi * f * t) for f in (220.0, 277.2, 329.6))
    clicks = np.exp(-(t % 0.5) / 0.02) * np.sin(2 * np.pi * 1000 * (t % 0.5))
    noise = np.random.default_rng(seed).standard_normal(len(t))
    return (0.1 * tones + 0.5 * clicks + 0.003 * noise).astype(np.float32)


def encoded(waveform: np.ndarray, rate: int, kind: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, format=kind, subtype=subtype)
    return file.getvalue()


@pytest.fixture(scope="module")
def extractor() -> MegaDanceFeatureExtractor:
    return MegaDanceFeatureExtractor()


# --- the numbers -----------------------------------------------------------------------------------------------------


def test_equals_plain_librosa():
    """The shared spectrum and the padding change nothing against librosa called column by column."""
    waveform = song(4.0)
    harmonic, percussive = librosa.effects.hpss(waveform)
    decibels = librosa.power_to_db(librosa.feature.melspectrogram(y=waveform, sr=RATE, hop_length=512), ref=np.max)
    envelope = librosa.onset.onset_strength(y=percussive, sr=RATE, hop_length=512, aggregate=np.median)
    features = music_features(waveform)
    np.testing.assert_allclose(features[:, MFCC], librosa.feature.mfcc(S=decibels, n_mfcc=20).T, atol=1e-3)
    chroma = librosa.feature.chroma_cqt(y=harmonic, sr=RATE, hop_length=512, n_octaves=4)
    np.testing.assert_allclose(features[:, CHROMA], chroma.T, atol=1e-5)
    np.testing.assert_allclose(features[:, ONSET_ENVELOPE], envelope, atol=1e-4)
    np.testing.assert_array_equal(np.flatnonzero(features[:, BEAT]), track_beats(features[:, ONSET_ENVELOPE])[1])
    np.testing.assert_array_equal(np.flatnonzero(features[:, PEAK]), onset_peaks(features[:, ONSET_ENVELOPE]))


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 90), st.integers(0, 2**16))
def test_harmonic_and_percussive_parts_are_librosas_bit_for_bit(frequencies, frames, seed):
    rng = np.random.default_rng(seed)
    spectrum = (rng.standard_normal((frequencies, frames)) + 1j * rng.standard_normal((frequencies, frames))).astype(
        "c8"
    )
    spectrum[:, rng.random(frames) < 0.2] = 0  # silence
    for ours, theirs in zip(module._harmonic_percussive(spectrum), librosa.decompose.hpss(spectrum), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_volume_does_not_matter():
    np.testing.assert_allclose(music_features(song()), music_features(0.25 * song()), atol=2e-2)


def test_beats_follow_the_clicks():
    tempo, beats = track_beats(music_features(song(10.0))[:, ONSET_ENVELOPE])
    assert tempo == pytest.approx(120, abs=3)
    assert np.abs((beats / 30 + 0.25) % 0.5 - 0.25).max() < 0.07
    assert track_beats(np.zeros(90)) == (0.0, pytest.approx([]))


# --- lengths and batches ---------------------------------------------------------------------------------------------


@given(st.integers(1, 10**9))
def test_rows_are_the_nearest_number_and_always_there(samples):
    frames = MegaDanceFeatureExtractor().num_frames(samples)
    assert abs(frames - samples / 512) <= 0.5
    assert frames <= 1 + samples // 512  # rows that music_features computes


@settings(max_examples=8)
@given(st.integers(RATE // 4, 3 * RATE), st.sampled_from([8000, 15360, 22050, 44100, 48000]))
def test_any_length_and_rate(samples, rate):
    features = MegaDanceFeatureExtractor()(song(1.0 * samples / RATE, rate), sampling_rate=rate)["input_features"][0]
    assert features.dtype == np.float32 and features.shape[1] == 35
    assert abs(len(features) - samples / 512) <= 0.6
    assert np.isfinite(features).all()
    assert np.isin(features[:, [BEAT, PEAK]], (0, 1)).all()


@pytest.mark.filterwarnings("error")
def test_shortest_sound(extractor):
    assert extractor(song(0.25), sampling_rate=RATE)["input_features"][0].shape == (8, 35)


def test_padding_and_mask(extractor):
    long, short = song(2.0), song(1.0, seed=1)
    batch = extractor([long, short], sampling_rate=RATE, return_tensors="pt")
    assert batch["input_features"].shape == (2, 60, 35) and batch["input_features"].dtype == torch.float32
    assert batch["attention_mask"].sum(dim=1).tolist() == [60, 30]
    assert not batch["input_features"][1, 30:].any()
    alone = extractor(short, sampling_rate=RATE, return_tensors="pt")["input_features"][0]
    assert torch.equal(batch["input_features"][1, :30], alone)

    codes = extractor(long, sampling_rate=RATE, pad_to_multiple_of=8, return_tensors="np")
    assert codes["input_features"].shape == (1, 64, 35) and codes["attention_mask"].sum() == 60
    cut = extractor([long, short], sampling_rate=RATE, max_length=24, truncation=True, return_tensors="np")
    assert cut["input_features"].shape == (2, 24, 35)
    ragged = extractor([long, short], sampling_rate=RATE, padding=False, return_attention_mask=False)
    assert [len(rows) for rows in ragged["input_features"]] == [60, 30] and "attention_mask" not in ragged


def test_channels_integers_and_lists_are_the_same_sound(extractor):
    def features(waveform):
        return extractor(waveform, sampling_rate=RATE, return_tensors="np")["input_features"]

    mono = song(1.0)
    expected = features(mono)
    assert np.array_equal(features(np.stack([mono, mono])), expected)
    assert np.array_equal(features(np.stack([1.5 * mono, 0.5 * mono], axis=1)), expected)
    assert np.array_equal(features(torch.from_numpy(mono)), expected)
    assert np.array_equal(features(mono.tolist()), expected)
    assert np.allclose(features((mono * 2**31).astype(np.int32))[..., CHROMA], expected[..., CHROMA], atol=1e-3)


def test_save_and_load(tmp_path):
    MegaDanceFeatureExtractor(hop_length=256, padding_value=-1.0).save_pretrained(tmp_path)
    loaded = MegaDanceFeatureExtractor.from_pretrained(tmp_path)
    assert (loaded.hop_length, loaded.padding_value, loaded.frame_rate) == (256, -1.0, 60.0)
    assert loaded(song(1.0), sampling_rate=RATE)["input_features"][0].shape == (60, 35)
    with pytest.raises(ValueError, match="feature_size=34.*35"):
        MegaDanceFeatureExtractor(feature_size=34)


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, subtype, rate",
    [("WAV", "PCM_16", 44100), ("FLAC", None, 22050), ("OGG", "VORBIS", 48000), ("MP3", None, 44100)],
)
def test_any_file_stereo_and_resampled(tmp_path, kind, subtype, rate):
    mono = song(3.0, rate)
    data = encoded(np.stack([1.2 * mono, 0.8 * mono], axis=1), rate, kind, subtype)
    path = tmp_path / f"song.{kind.lower()}"
    path.write_bytes(data)
    waveform, sampling_rate = load_audio(path)
    assert sampling_rate == RATE and waveform.dtype == np.float32 and waveform.shape == (3 * RATE,)
    assert np.corrcoef(waveform, song(3.0))[0, 1] > 0.98  # also: not a sample too early or late
    assert np.array_equal(load_audio(data)[0], waveform)
    assert np.array_equal(load_audio(io.BytesIO(data))[0], waveform)
    own, own_rate = load_audio(str(path), sampling_rate=None, mono=False)
    assert own.shape == (3 * rate, 2) and own_rate == rate


def test_start_and_duration():
    waveform = song(4.0)
    data = encoded(waveform, RATE, subtype="FLOAT")
    assert np.array_equal(load_audio(data, start=1.5, duration=1.0)[0], waveform[round(1.5 * RATE) : round(2.5 * RATE)])
    assert np.array_equal(load_audio(data, start=3, duration=60)[0], waveform[3 * RATE :])


def test_import_is_light():
    code = "import sys, megadance_hf.modeling.feature_extraction_megadance; print('librosa' in sys.modules, 'numba' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "False False\n"
    )
    assert not {"librosa", "soundfile", "soxr"} & set(get_imports(module.__file__))  # optional to the Hub's scanner


def holed() -> np.ndarray:
    waveform = song()
    waveform[7680:] = np.nan
    return waveform


WAV = encoded(song(), RATE)


@pytest.mark.parametrize(
    "source, options, message",
    [
        ("nowhere.mp3", {}, r"'nowhere.mp3' does not exist: give the path"),
        (".", {}, r"'\.' is a folder"),
        (7, {}, r"source of type int: give a path"),
        (b"", {}, r"is empty \(0 bytes\): give"),
        (b"hello " * 99, {}, r"594 bytes is not audio.*: give a wav, mp3, ogg or flac"),
        (WAV[: len(WAV) // 2], {}, r"is cut short.*: fetch it again, or pass a duration"),
        (WAV[: len(WAV) // 2], {"duration": 2}, r"is cut short.*1\.50 s are there"),
        (WAV[: len(WAV) // 2], {"start": 2, "duration": 0.5}, r"start=2: .*ends at 1.50 s; give an earlier start"),
        (encoded(song(), RATE, "FLAC")[:9000], {}, r"is cut short or damaged.*: fetch"),
        (encoded(song(), 44100, "MP3")[:9000], {}, r"is cut short.*: fetch"),
        (encoded(song(), 44100, "OGG")[:9000], {}, r"is cut short.*: fetch"),
        (encoded(song(0.1), RATE), {}, r"lasts 0\.1 s, which is too short: give at least 0\.25 s"),
        (encoded(song(), RATE), {"start": 2.9}, r"from 2\.9 s on lasts 0\.1 s.*too short"),
        (encoded(np.zeros(RATE), RATE), {}, r"is silent \(peak 0.*: give a sound that can be heard"),
        (encoded(holed(), RATE, subtype="FLOAT"), {}, r"holds NaN or infinity in 83% .*first at 0\.50 s: export"),
        (WAV, {"start": -1}, r"start=-1: give 0 or more seconds"),
        (WAV, {"start": float("nan")}, r"start=nan: give 0 or more"),
        (WAV, {"start": 3.0}, r"start=3: .* ends at 3\.00 s; give an earlier start"),
        (WAV, {"duration": -2}, r"duration=-2: give more than 0 seconds"),
        (WAV, {"duration": 0}, r"duration=0: give more than 0"),
        (WAV, {"duration": "1"}, r"duration='1': give more than 0"),
    ],
)
def test_unusable_files_say_so_in_one_line(source, options, message):
    with pytest.raises(AudioError, match=message) as caught:
        load_audio(source, **options)
    assert "\n" not in str(caught.value) and isinstance(caught.value, ValueError)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "MP3", "OGG"])
def test_what_is_left_of_a_cut_file_can_be_read(kind):
    data = encoded(song(20.0, 44100), 44100, kind)
    waveform, _ = load_audio(data[: len(data) // 2], duration=2.0)
    assert np.corrcoef(waveform, song(20.0)[: 2 * RATE])[0, 1] > 0.98


@pytest.mark.parametrize(
    "waveform, message",
    [
        ([], "raw_speech holds no samples"),
        (np.zeros(RATE), "raw_speech is silent"),
        (np.full(RATE, np.nan), "raw_speech holds NaN or infinity in 100%"),
        (np.ones(100), "raw_speech lasts 0.00651 s, which is too short"),
        ([song(), np.zeros(RATE)], r"raw_speech\[1\] is silent"),
        ("song.wav", "raw_speech is a file.*load_audio"),
        ({}, "raw_speech of type dict is no array of numbers"),
        (np.ones((9, RATE)), r"raw_speech has shape \(9, 15360\): give .* a batch as a list"),
    ],
)
def test_unusable_waveforms_say_so(extractor, waveform, message):
    with pytest.raises(AudioError, match=message):
        extractor(waveform, sampling_rate=RATE)
    with pytest.raises(AudioError, match="sampling_rate=None: give"):
        extractor(song())
