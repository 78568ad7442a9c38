"""The feature extractor: number of rows, padding, saving, unusable sound."""

import numpy as np
import pytest
import torch
from helpers import noisy_song as song
from hypothesis import given, settings
from hypothesis import strategies as st

from megadance_hf.modeling.audio_megadance import AudioError
from megadance_hf.modeling.feature_extraction_megadance import MegaDanceFeatureExtractor
from megadance_hf.modeling.music_features_megadance import BEAT, CHROMA, PEAK, SAMPLING_RATE

RATE = SAMPLING_RATE


@pytest.fixture(scope="module")
def extractor() -> MegaDanceFeatureExtractor:
    return MegaDanceFeatureExtractor()


# --- lengths and batches ---------------------------------------------------------------------------------------------


@given(st.integers(1, 10**9))
def test_number_of_rows_is_rounded_to_the_nearest(samples):
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


@pytest.mark.parametrize(
    ("start", "duration", "begins", "ends"),
    [
        (0.0, None, True, True),
        (0.4, 1.6, True, True),
        (0.6, 1.0, False, False),
        (0.6, 1.2, False, True),
        (0.0, 1.0, True, False),
    ],
)
def test_an_excerpt_knows_whether_its_song_begins_and_ends_with_it(extractor, start, duration, begins, ends):
    sound = (song(2.2), RATE)
    found = extractor.listen_to_excerpt(sound, start, duration)
    assert (found["begins"], found["ends"]) == (begins, ends)
    assert np.array_equal(found["input_features"], extractor.listen(sound, start, duration))
    whole = np.concatenate([found[name] for name in ("before", "input_features", "after")])
    assert np.array_equal(whole, extractor.listen(sound)) and len(found["before"]) == 30 * start


def test_save_and_load(tmp_path):
    MegaDanceFeatureExtractor(hop_length=256, padding_value=-1.0).save_pretrained(tmp_path)
    loaded = MegaDanceFeatureExtractor.from_pretrained(tmp_path)
    assert (loaded.hop_length, loaded.padding_value, loaded.frame_rate) == (256, -1.0, 60.0)
    assert loaded(song(1.0), sampling_rate=RATE)["input_features"][0].shape == (60, 35)
    with pytest.raises(ValueError, match="feature_size=34.*35"):
        MegaDanceFeatureExtractor(feature_size=34)


@pytest.mark.parametrize(
    "waveform, message",
    [
        ([], "raw_speech holds no samples"),
        (np.zeros(RATE), "raw_speech is silent"),
        (np.full(RATE, np.nan), "raw_speech holds NaN or infinity in 100%"),
        (np.ones(100), "raw_speech lasts 0.00651 s, which is too short"),
        ([song(), np.zeros(RATE)], r"raw_speech\[1\] is silent"),
        ("nowhere.wav", "raw_speech 'nowhere.wav' does not exist"),
        ({}, r"raw_speech has the keys \[\]: give 'array'"),
        (np.ones((9, RATE)), r"raw_speech has shape \(9, 15360\): give .* a batch as a list"),
    ],
)
def test_unusable_waveforms_are_named(extractor, waveform, message):
    with pytest.raises(AudioError, match=message):
        extractor(waveform, sampling_rate=RATE)
    with pytest.raises(AudioError, match="sampling_rate=None: give"):
        extractor(song())
