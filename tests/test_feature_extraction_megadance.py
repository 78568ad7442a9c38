"""Music features: librosa's numbers, the length rule, reading of files, padding, and unusable sound."""

import io
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import soxr
import torch
from helpers import noisy_song as song
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.dynamic_module_utils import get_imports

from megadance_hf.modeling import feature_extraction_megadance as module
from megadance_hf.modeling.feature_extraction_megadance import AudioError, MegaDanceFeatureExtractor, load_audio
from megadance_hf.modeling.music_features_megadance import BEAT, CHROMA, PEAK, SAMPLING_RATE

RATE = SAMPLING_RATE


def encoded(waveform: np.ndarray, rate: int, kind: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, format=kind, subtype=subtype)
    return file.getvalue()


@pytest.fixture(scope="module")
def extractor() -> MegaDanceFeatureExtractor:
    return MegaDanceFeatureExtractor()


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


@pytest.mark.parametrize("kind", ["WAV", "MP3"])
def test_files_are_read_in_pieces_without_seams(monkeypatch, kind):
    mono = song(3.0, 44100)
    data = encoded(np.stack([1.2 * mono, 0.8 * mono], axis=1), 44100, kind)
    decoded, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    monkeypatch.setattr(module, "_PIECE", 10_007)
    assert np.array_equal(load_audio(data)[0], soxr.resample(decoded.mean(axis=1), rate, RATE))
    assert np.array_equal(load_audio(data, sampling_rate=None, mono=False)[0], decoded)
    stereo = load_audio(data, mono=False, start=1, duration=1.5)[0]
    assert np.array_equal(stereo, soxr.resample(decoded[44100 : round(2.5 * 44100)], rate, RATE))


def test_start_and_duration():
    waveform = song(4.0)
    data = encoded(waveform, RATE, subtype="FLOAT")
    assert np.array_equal(load_audio(data, start=1.5, duration=1.0)[0], waveform[round(1.5 * RATE) : round(2.5 * RATE)])
    assert np.array_equal(load_audio(data, start=3, duration=60)[0], waveform[3 * RATE :])


def test_numbers_of_a_file_need_neither_torch_nor_compiled_loops(tmp_path):
    """A new process answers in two seconds because none of these is imported: librosa alone compiles for most of a minute."""
    path = tmp_path / "song.wav"
    path.write_bytes(encoded(song(2.0, 44100), 44100))
    code = (
        "import sys\n"
        "from megadance_hf import MegaDanceFeatureExtractor\n"
        "from megadance_hf.modeling.feature_extraction_megadance import load_audio\n"
        "from megadance_hf.modeling.music_features_megadance import music_features\n"
        "waveform, rate = load_audio(sys.argv[1])\n"
        "features = music_features(waveform)\n"
        "print(features.shape, [m for m in ('librosa', 'numba', 'scipy', 'torch') if m in sys.modules])\n"
        "MegaDanceFeatureExtractor()(waveform, sampling_rate=rate)\n"  # transformers itself asks for torch
        "print([m for m in ('librosa', 'numba', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "(61, 35) []\n[]\n"
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
