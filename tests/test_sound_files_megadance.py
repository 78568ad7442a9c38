"""Sound files are decoded to their real end, whatever their headers say; limits; truncated files."""

import functools
import io
import struct
import warnings

import av
import numpy as np
import pytest
import soundfile
from helpers import noisy_song as song

from megadance_hf.modeling import sound_files_megadance as module
from megadance_hf.modeling.audio_megadance import load_audio
from megadance_hf.modeling.sound_files_megadance import AudioError, AudioWarning, check_rate

pytestmark = pytest.mark.versions

RATE = 44100


def by_sndfile(waveform: np.ndarray, rate: int = RATE, kind: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, format=kind, subtype=subtype)
    return file.getvalue()


def by_av(waveform, rate, container, codec, *, folder, bit_rate=128_000, codec_options=None, **options) -> bytes:
    path = folder / "song"
    with av.open(str(path), "w", format=container, options=options) as file:
        track = file.add_stream(codec, rate=rate, layout="mono", options=codec_options or {})
        track.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(waveform[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        file.mux([*track.encode(frame), *track.encode(None)])
    return path.read_bytes()


def likeness(part: np.ndarray, whole: np.ndarray) -> float:
    """The best correlation of 2**14 samples with what lies up to 4096 samples before or after its place 4096 in `whole`."""
    part = part[: 2**14]
    windows = np.lib.stride_tricks.sliding_window_view(whole[: len(part) + 8192], len(part))
    best = int(np.argmax(np.convolve(whole[: len(part) + 8192], part[::-1], mode="valid")))
    return float(np.corrcoef(part, windows[best])[0, 1])


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """Four seconds as encoders write them."""
    folder, mono = tmp_path_factory.mktemp("files"), song(4.0, RATE)
    quiet_first = mono * np.where(np.arange(len(mono)) < 2 * RATE, 1e-3, 1)  # variable rates begin with small frames
    made = functools.partial(by_av, folder=folder)
    return {
        "wav": by_sndfile(mono),
        "flac": by_sndfile(mono, kind="FLAC"),
        "ogg": by_sndfile(mono, kind="OGG", subtype="VORBIS"),
        "mp3": made(mono, RATE, "mp3", "libmp3lame"),
        "mp3 without a count": made(mono, RATE, "mp3", "libmp3lame", write_xing="0"),
        "mp3 of variable rate without a count": made(
            quiet_first,
            RATE,
            "mp3",
            "libmp3lame",
            bit_rate=0,
            codec_options={"flags": "+qscale", "global_quality": "236"},
            write_xing="0",
        ),
        "m4a": made(mono, RATE, "ipod", "aac"),
        "mp4": made(mono, RATE, "mp4", "aac", movflags="faststart"),
        "aac": made(mono, RATE, "adts", "aac"),
        "webm": made(song(4.0, 48000), 48000, "webm", "libopus"),
        "mkv": made(mono, RATE, "matroska", "aac"),
        "wma": made(mono, RATE, "asf", "wmav2"),
        "opus": by_sndfile(song(4.0, 48000), 48000, "OGG", "OPUS"),
        **{kind.lower(): by_sndfile(mono, kind=kind) for kind in ("AIFF", "AU", "CAF", "W64", "RF64")},
    }


KINDS = (
    "aac aiff au caf flac m4a mkv mp3 mp4 ogg opus rf64 w64 wav webm wma|mp3 without a count|"
    "mp3 of variable rate without a count"
)


@pytest.mark.parametrize("kind", [*KINDS.split("|")[0].split(), *KINDS.split("|")[1:]])
def test_every_format_to_its_end_and_from_the_middle(files, kind):
    waveform, rate = load_audio(files[kind], sampling_rate=None, mono=True)
    assert 3.96 <= len(waveform) / rate <= 4.06
    part = load_audio(files[kind], sampling_rate=None, start=2.5, duration=1)[0]
    assert len(part) == rate and np.allclose(part, waveform[round(2.5 * rate) :][:rate], atol=1e-4)
    expected = song(4.0, rate)[2 * rate : 3 * rate]
    assert likeness(expected, waveform[2 * rate - 4096 : 3 * rate + 8192]) > 0.97


# --- headers that are wrong --------------------------------------------------------------------------------------------


def resized(wav: bytes, riff: int | None, data: int | None, order: str = "<") -> bytes:
    """A wav (or aiff) whose two sizes say something else."""
    changed, place = bytearray(wav), max(wav.find(b"data"), wav.find(b"SSND"))
    for at, size in ((4, riff), (place + 4, data)):
        if size is not None:
            changed[at : at + 4] = struct.pack(order + "I", size)
    return bytes(changed)


@pytest.mark.parametrize(
    ("riff", "data"),
    [
        pytest.param(0x7FFFF024, 0x7FFFF000, id="sox"),
        pytest.param(0x80000024, 0x80000000, id="arecord"),
        pytest.param(0xFFFFFFFF, 0xFFFFFFFF, id="ffmpeg"),
        pytest.param(0x7FFFFFFF, 0x7FFFFFFF, id="others"),
        pytest.param(0, 0, id="switched off"),
        pytest.param(36, 0, id="switched off, with an honest header"),
        pytest.param(None, 0, id="no size of the sound"),
        pytest.param(0, None, id="no size of the file"),
        pytest.param(0xFFFFFFFF, None, id="unknown size of the file"),
        pytest.param(100_036, 100_000, id="written now and then"),
        pytest.param(8, None, id="a wrong size of the file"),
    ],
)
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "PCM_U8"])
def test_sizes_in_a_wav_are_hints(riff, data, subtype):
    mono = song(5.0, 22050)
    whole = by_sndfile(mono, 22050, subtype=subtype)
    waveform, _ = load_audio(resized(whole, riff, data), sampling_rate=None)
    assert np.array_equal(waveform, load_audio(whole, sampling_rate=None)[0]) and len(waveform) == len(mono)


@pytest.mark.parametrize("size", [0, 0x7F000008, 0x7FFFFFFF, 0xFFFFFFFF])
def test_sizes_in_an_aiff_are_hints(files, size):
    assert len(load_audio(resized(files["aiff"], size, size, ">"), sampling_rate=None)[0]) == 4 * RATE


def test_chunks_after_the_sound_are_not_sound(files):
    for tail in (b"LIST\x04\0\0\0INFO", b"id3 \x03\0\0\0abc\0", b"junk\0\0\0\0LIST\x04\0\0\0INFO", b"\0" * 64):
        assert len(load_audio(files["wav"] + tail, sampling_rate=None)[0]) == 4 * RATE


def tagged(mp3: bytes, picture: int = 200_000) -> bytes:
    """An mp3 with a cover in front, whose bytes look like frames now and then."""
    image = (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\xff\xfb\x90\x64" * (picture // 15 + 1))[:picture]
    frame = b"\0image/jpeg\0\x03\0" + image
    content = b"APIC" + struct.pack(">I", len(frame)) + b"\0\0" + frame
    size = bytes(len(content) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + size + content


@pytest.mark.parametrize("kind", ["mp3", "mp3 without a count", "mp3 of variable rate without a count"])
def test_covers_tags_and_junk_around_an_mp3(files, kind):
    plain = load_audio(files[kind], sampling_rate=None)[0]
    for spoilt in (
        tagged(files[kind]) + files[kind],
        files[kind] + b"TAG" + b"song".ljust(125, b"\0"),
        files[kind] + b"APETAGEX" + bytes(200),
        files[kind] + bytes(3000),
    ):
        assert np.allclose(load_audio(spoilt, sampling_rate=None)[0], plain, atol=1e-5)
    behind = load_audio(b"<html>not yet</html>\n" * 40 + files[kind], sampling_rate=None)[0]
    assert abs(len(behind) - len(plain)) < 2500 and np.abs(behind).max() > 0.1


@pytest.mark.parametrize("kind", ["aac", "aiff", "flac", "m4a", "ogg", "wav"])
def test_a_tag_before_any_format(files, kind):
    tagged_file = b"ID3\x03\0\0\0\0\0\x10" + bytes(16) + files[kind]
    plain = load_audio(files[kind], sampling_rate=None)[0]
    assert np.array_equal(load_audio(tagged_file, sampling_rate=None)[0], plain)


@pytest.mark.parametrize("subtype", ["ULAW", "IMA_ADPCM", "MS_ADPCM", "GSM610", "DOUBLE"])
@pytest.mark.parametrize("data", [None, 0])
def test_wavs_of_other_codecs(subtype, data):
    content = resized(by_sndfile(song(3.0, 8000), 8000, subtype=subtype), None, data)
    assert abs(len(load_audio(content, sampling_rate=None)[0]) / 8000 - 3) < 0.05


def test_eight_channels_of_a_wav_without_a_size():
    channels = np.stack([song(1.0, RATE) * (index + 1) / 8 for index in range(8)], axis=1)
    whole = by_sndfile(channels)
    expected = load_audio(whole, sampling_rate=None, mono=False)[0]
    assert np.array_equal(load_audio(resized(whole, 0, 0), sampling_rate=None, mono=False)[0], expected)
    twelve = resized(by_sndfile(np.repeat(channels, 2, axis=1)[:, :12]), 0, 0)
    with pytest.raises(AudioError, match="has 12 channels: give a sound of 1 to 8"):
        load_audio(twelve)


def test_a_wrong_count_of_frames_is_ignored(files):
    whole = bytearray(files["mp3"])
    place = max(whole.find(b"Info"), whole.find(b"Xing")) + 8
    count = int.from_bytes(whole[place : place + 4], "big")
    for wrong in (1, count // 2, count * 3):
        whole[place : place + 4] = struct.pack(">I", wrong)
        assert abs(len(load_audio(bytes(whole), sampling_rate=None)[0]) / RATE - 4) < 0.06


def test_a_flac_without_a_length(files):
    unknown = bytearray(files["flac"])
    unknown[21] &= 0xF0
    unknown[22:26] = bytes(4)
    assert np.array_equal(
        load_audio(bytes(unknown), sampling_rate=None)[0], load_audio(files["flac"], sampling_rate=None)[0]
    )


# --- joined files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["aac", "aiff", "flac", "m4a", "mp3", "mp3 without a count", "ogg", "opus", "wav"])
def test_joined_files_are_decoded_to_the_end(files, kind):
    rate = 48000 if kind == "opus" else RATE
    once = load_audio(files[kind], sampling_rate=None)[0]
    twice = load_audio(files[kind] * 2, sampling_rate=None)[0]
    assert abs(len(twice) - 2 * len(once)) < 0.08 * rate
    assert likeness(once[rate : 3 * rate], twice[len(once) + rate - 4096 : len(once) + 3 * rate + 8192]) > 0.97
    late = load_audio(files[kind] * 2, sampling_rate=None, start=5, duration=2)[0]
    assert np.allclose(late, twice[5 * rate : 7 * rate], atol=1e-4)


@pytest.mark.parametrize("kind", ["FLAC", "MP3", "OGG", "WAV"])
def test_joined_files_of_other_rates_and_channels(kind):
    other = by_sndfile(np.stack([song(2.0, 22050)] * 2, axis=1), 22050, kind)
    waveform, rate = load_audio(by_sndfile(song(3.0, RATE), RATE, kind) + other, sampling_rate=None, mono=False)
    assert rate == RATE and waveform.shape[1] == 1 and abs(len(waveform) / rate - 5) < 0.1
    assert np.abs(waveform[round(4 * rate) :]).max() > 0.1


# --- what is really cut, damaged or no sound ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["aiff", "au", "caf", "flac", "m4a", "mkv", "mp3", "mp4", "ogg", "opus", "rf64", "w64", "wav", "wma"]
)
def test_a_truncated_file_is_reported(files, kind):
    cut = files[kind][: len(files[kind]) // 2]
    with pytest.raises(AudioError, match="is cut short .*: fetch"):
        load_audio(cut)
    if kind != "m4a":  # its index was at the end
        assert len(load_audio(cut, duration=1)[0]) == pytest.approx(15360, abs=500)
        with pytest.raises(AudioError, match="is cut short .*: fetch"):
            load_audio(cut, duration=3)
        with pytest.raises(AudioError, match="start=3: .*ends at|is cut short"):
            load_audio(cut, start=3, duration=0.5)


@pytest.mark.parametrize("kind", ["aac", "mp3 without a count", "mp3 of variable rate without a count"])
def test_an_end_within_a_frame_is_a_warning(files, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_audio(files[kind])
        load_audio(files[kind][:30_000], duration=0.5)
    with pytest.warns(AudioWarning, match="ends within a frame of sound: it may have been cut short"):
        load_audio(files[kind][:-100])


@pytest.mark.parametrize(
    "content",
    [
        b"ID3",
        b"ID3\x03\0\0\0\0\0\x0a",
        b"RIFF",
        b"RIFF\0\0\0\0WAVE",
        b"OggS",
        b"OggS" + bytes(300),
        b"fLaC",
        b"\xff\xfb\x90\x64",
        b"FORM\0\0\0\x04AIFF",
        b"\0\0\0\x18ftypM4A ",
        b"\x1aE\xdf\xa3",
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n",
        b"ffconcat version 1.0\nfile /etc/hostname\n",
        bytes(10_000),
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20,
    ],
)
def test_files_without_sound_are_errors_of_one_line(content):
    with pytest.raises(AudioError, match=r"^audio of \d+ bytes .*: ") as caught:
        load_audio(content)
    assert "\n" not in str(caught.value)


def test_a_film_without_sound(tmp_path):
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as file:
        track = file.add_stream("libx264", rate=10)
        track.width = track.height = 32
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))
        file.mux([*track.encode(frame), *track.encode(None)])
    with pytest.raises(AudioError, match=r"film.mp4' has no sound in it"):
        load_audio(path)


def test_playlists_do_not_open_other_files(files, tmp_path):
    (tmp_path / "secret.wav").write_bytes(files["wav"])
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{tmp_path}/secret.wav\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.m3u8").write_text(playlist)
    with pytest.raises(AudioError, match="not audio"):
        load_audio(tmp_path / "list.m3u8")


@pytest.mark.parametrize("kind", ["aac", "flac", "m4a", "mp3", "ogg", "wav", "webm"])
def test_damaged_files_are_one_error_or_a_sound(files, kind):
    rng = np.random.default_rng(0)
    for _ in range(12):
        spoilt = np.frombuffer(files[kind][:40_000], np.uint8).copy()
        where = rng.integers(0, 200 if rng.random() < 0.5 else len(spoilt), rng.integers(1, 20))
        spoilt[where] = rng.integers(0, 256, len(where))
        try:
            assert np.isfinite(load_audio(spoilt.tobytes(), duration=1)[0]).all()
        except AudioError as error:
            assert "audio of" in str(error) and "\n" not in str(error)


# --- limits ------------------------------------------------------------------------------------------------------------


def with_fields(rate: int, channels: int, bits: int = 8, data: int = 88_000) -> bytes:
    """A wav whose header declares whatever it likes."""
    width = channels * bits // 8
    form = struct.pack("<HHIIHH", 1, channels, rate, min(rate * width, 2**32 - 1), width % 65536, bits)
    body = (
        b"fmt "
        + struct.pack("<I", len(form))
        + form
        + b"data"
        + struct.pack("<I", data)
        + bytes(range(250)) * (data // 250)
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


@pytest.mark.parametrize("rate", [0, 1, 999, 768_001, 2**31 - 1, 2**32 - 1])
def test_rates_have_limits(rate):
    with pytest.raises(AudioError, match="audio of .* bytes"):
        load_audio(with_fields(rate, 1))
    with pytest.raises(AudioError, match="sampling_rate"):
        load_audio((np.ones(10_000), rate))


@pytest.mark.parametrize("channels", [0, 65, 1025, 65535])
def test_channels_have_limits(channels):
    with pytest.raises(AudioError, match="audio of .* bytes"):
        load_audio(with_fields(44100, channels))


@pytest.mark.parametrize("kind", ["FLAC", "flac of unknown length", "OGG"])
def test_long_sounds_are_refused_before_they_are_read(kind, monkeypatch, files):
    monkeypatch.setattr(module, "MAX_SECONDS", 2.0)
    content = files[kind.split()[0].lower()]
    if "unknown" in kind:
        content = content[:21] + bytes([content[21] & 0xF0]) + bytes(4) + content[26:]
    with pytest.raises(AudioError, match="is longer than the 0 minutes .* give a duration"):
        load_audio(content)
    assert len(load_audio(content, duration=0.75, start=3)[0]) == round(0.75 * 15360)


def test_check_rate():
    assert [check_rate(rate) for rate in (1000, 44100.0, np.int64(768_000), np.array(22050))] == [
        1000,
        44100,
        768_000,
        22050,
    ]
    for rate in (None, True, "44100", 44100.5, float("nan"), float("inf"), -1, 999, 10**30, np.zeros(2), [44100]):
        with pytest.raises(AudioError, match="sampling_rate="):
            check_rate(rate)
