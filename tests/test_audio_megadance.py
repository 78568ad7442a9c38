"""Loading songs: files, pipes, addresses, arrays, rows of data sets; excerpts; unusable sound."""

import http.server
import io
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import soxr
import torch
from helpers import noisy_song as song
from transformers.dynamic_module_utils import get_imports

from megadance_hf.modeling import audio_megadance as module
from megadance_hf.modeling import sound_files_megadance as decoding
from megadance_hf.modeling.audio_megadance import (
    AudioError,
    LiveMix,
    as_songs,
    is_same_file,
    load_audio,
    load_excerpt,
    open_sound,
    opened,
)
from megadance_hf.modeling.music_features_megadance import SAMPLING_RATE, song_features

pytestmark = pytest.mark.versions

RATE = SAMPLING_RATE


def encoded(waveform: np.ndarray, rate: int, kind: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, format=kind, subtype=subtype)
    return file.getvalue()


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
    monkeypatch.setattr(decoding, "_PIECE", 10_007)
    assert np.array_equal(load_audio(data)[0], soxr.resample(decoded.mean(axis=1), rate, RATE))
    assert np.array_equal(load_audio(data, sampling_rate=None, mono=False)[0], decoded)
    stereo = load_audio(data, mono=False, start=1, duration=1.5)[0]
    assert np.array_equal(stereo, soxr.resample(decoded[44100 : round(2.5 * 44100)], rate, RATE))


def test_start_and_duration():
    waveform = song(4.0)
    data = encoded(waveform, RATE, subtype="FLOAT")
    assert np.array_equal(load_audio(data, start=1.5, duration=1.0)[0], waveform[round(1.5 * RATE) : round(2.5 * RATE)])
    assert np.array_equal(load_audio(data, start=3, duration=60)[0], waveform[3 * RATE :])


def test_features_of_a_file_need_neither_torch_nor_compiled_loops(tmp_path):
    """A new process answers in two seconds because none of these is imported: librosa alone compiles for most of a minute."""
    path = tmp_path / "song.wav"
    path.write_bytes(encoded(song(2.0, 44100), 44100))
    code = (
        "import sys\n"
        "from megadance_hf import MegaDanceFeatureExtractor\n"
        "from megadance_hf.modeling.audio_megadance import load_audio\n"
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
def test_unusable_files_are_errors_of_one_line(source, options, message):
    with pytest.raises(AudioError, match=message) as caught:
        load_audio(source, **options)
    assert "\n" not in str(caught.value) and isinstance(caught.value, ValueError)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "MP3", "OGG"])
def test_the_existing_part_of_a_truncated_file_can_be_read(kind):
    data = encoded(song(20.0, 44100), 44100, kind)
    waveform, _ = load_audio(data[: len(data) // 2], duration=2.0)
    assert np.corrcoef(waveform, song(20.0)[: 2 * RATE])[0, 1] > 0.98


# --- what a song is handed in as ---------------------------------------------------------------------------------------

PCM = np.round(song(1.0) * 12000).astype(np.int16)  # the same sound in every kind of number that can hold it
FLOATS = (PCM / 32768).astype(np.float32)


@pytest.mark.parametrize(
    ("array", "tolerance"),
    [
        pytest.param(FLOATS, 0, id="float32"),
        pytest.param(FLOATS.astype(np.float64), 0, id="float64"),
        pytest.param(FLOATS.astype(np.float16), 1e-3, id="float16"),
        pytest.param(PCM, 0, id="int16"),
        pytest.param(PCM.astype(np.int32) << 16, 0, id="int32"),
        pytest.param((PCM // 256 + 128).astype(np.uint8), 1 / 127, id="uint8"),
        pytest.param((PCM // 256).astype(np.int8), 1 / 127, id="int8"),
        pytest.param((PCM.astype(np.int32) + 32768).astype(np.uint16), 0, id="uint16"),
        pytest.param(FLOATS.tolist(), 0, id="list"),
        pytest.param(FLOATS[::-1][::-1], 0, id="strides"),
        pytest.param(np.asfortranarray(np.stack([FLOATS] * 3, axis=1)), 1e-7, id="three channels"),
        pytest.param(FLOATS[None], 0, id="(1, samples)"),
        pytest.param(FLOATS[:, None], 0, id="(samples, 1)"),
        pytest.param(torch.from_numpy(FLOATS)[None], 0, id="tensor"),
        pytest.param(torch.from_numpy(FLOATS).bfloat16(), 4e-3, id="bfloat16"),
        pytest.param(torch.from_numpy(FLOATS).half(), 1e-3, id="half"),
        pytest.param(torch.from_numpy(FLOATS).requires_grad_(), 0, id="with gradients"),
        pytest.param(torch.from_numpy(FLOATS).requires_grad_() * 1, 0, id="inside a graph"),
        pytest.param(torch.from_numpy(PCM), 0, id="int16 tensor"),
    ],
)
def test_arrays_of_any_kind(array, tolerance):
    for source in ((array, RATE), (RATE, array), {"array": array, "sampling_rate": RATE}):
        waveform, rate = load_audio(source)
        assert rate == RATE and waveform.shape == FLOATS.shape and waveform.dtype == np.float32
        assert np.abs(waveform - FLOATS).max() <= tolerance
    with opened(array, RATE) as sound:
        assert np.array_equal(load_audio(sound)[0], waveform)


class Decoder:
    """As `datasets` 4 gives them (torchcodec's AudioDecoder)."""

    def get_all_samples(self):
        return SimpleNamespace(data=torch.from_numpy(FLOATS)[None], sample_rate=RATE)


def test_rows_of_data_sets_and_pipelines(tmp_path):
    content = encoded(FLOATS, RATE, subtype="FLOAT")
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    for source in (
        {"raw": FLOATS, "sampling_rate": RATE},
        {"array": FLOATS, "sampling_rate": RATE, "path": "gone.wav"},
        {"bytes": content, "path": None},
        {"bytes": content, "path": "gone.wav"},
        {"bytes": None, "path": str(path)},
        {"path": path},
        {"array": None, "sampling_rate": RATE, "bytes": content},
        Decoder(),
        Decoder().get_all_samples(),
        bytearray(content),
        memoryview(content),
        (RATE, FLOATS),
        (np.array(RATE), FLOATS),
        (torch.tensor(RATE), torch.from_numpy(FLOATS)),
    ):
        assert np.array_equal(load_audio(source)[0], FLOATS), source


def test_one_song_or_several():
    one = [
        FLOATS,
        "a.wav",
        {"path": "a.wav"},
        (FLOATS, RATE),
        (RATE, FLOATS),
        [0.1, 0.2],
        [np.float32(1)],
        Decoder(),
        b"RIFF",
        [],
    ]
    for song_ in one:
        assert as_songs(song_)[1] is False, song_
    for songs in ([FLOATS], ["a.wav", "b.wav"], ("a.wav", "b.wav"), [(FLOATS, RATE)], [[0.1, 0.2]], (FLOATS, FLOATS)):
        assert as_songs(songs) == (list(songs), True) or as_songs(songs)[1]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (FLOATS, r"audio is an array and sampling_rate=None: give its rate in Hz, or \(array, rate\)"),
        ((FLOATS, 1), "sampling_rate=1: give a whole number of Hz from 1000 to 768000"),
        ((FLOATS, 44100.5), "sampling_rate=44100.5"),
        ((FLOATS, "44100"), "source of type tuple|is an array|no array"),
        ((FLOATS.astype(np.complex64), RATE), "no array of numbers"),
        ((FLOATS > 0, RATE), "no array of numbers"),
        ((np.array(["a", "b"]), RATE), "no array of numbers"),
        (([[0.1], [0.1, 0.2]], RATE), "no array of numbers"),
        ((PCM.astype(np.int64), RATE), "array of int64, whose full scale is not known: give floats"),
        (([1, 2, 3], RATE), "a list of whole numbers: give floats"),
        ((np.zeros((9, RATE)), RATE), r"has shape \(9, 15360\)"),
        ((np.zeros((2, 3, RATE)), RATE), r"has shape \(2, 3, 15360\)"),
        ((torch.zeros(RATE, device="meta"), RATE), "no array of numbers"),
        ((PCM.astype(np.float32), RATE), "a peak of .* times full scale .*: floats go from -1 to 1; divide PCM"),
        ((np.where(np.arange(RATE) == 7680, 1e30, FLOATS), RATE), r"a peak of 1e\+30 times full scale at 0.50 s"),
        (
            (np.where(np.arange(RATE) == 7680, 1e300, FLOATS.astype(float)), RATE),
            "holds NaN or infinity .* first at 0.50 s",
        ),
        ((np.zeros(0), RATE), "holds no samples"),
        ({}, r"has the keys \[\]: give 'array'"),
        ({"array": FLOATS}, r"has the keys \['array'\]: give 'array' \(or 'raw'\) and 'sampling_rate'"),
        ({"bytes": None, "path": None}, "give 'array'"),
        (None, "source of type NoneType"),
        (object(), "source of type object"),
        ("a\0b.wav", "cannot be opened"),
        ("x" * 5000, "cannot be opened"),
        ("ftp://127.0.0.1/a.wav", "does not exist"),
    ],
)
def test_sources_that_are_no_song_are_named(source, message):
    with pytest.raises(AudioError, match=message) as caught:
        load_audio(source)
    assert "\n" not in str(caught.value)


def test_a_sampling_rate_for_a_song_that_has_one():
    assert open_sound((FLOATS, RATE), RATE).rate == RATE
    with pytest.raises(AudioError, match="sampling_rate=16000: audio comes with its own, 15360 Hz"):
        open_sound((FLOATS, RATE), 16000)


# --- pipes and addresses -----------------------------------------------------------------------------------------------


def test_pipes_of_every_kind(tmp_path):
    mp3 = encoded(song(2.0, 44100), 44100, "MP3")
    path = tmp_path / "song.mp3"
    path.write_bytes(mp3)
    expected = load_audio(path)[0]

    with subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.stdout.buffer.write(open({str(path)!r}, 'rb').read())"],
        stdout=subprocess.PIPE,
    ) as process:
        assert np.array_equal(load_audio(process.stdout)[0], expected)

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(mp3,))
    writer.start()
    with opened(fifo) as sound:  # read once, heard twice
        assert np.array_equal(load_audio(sound)[0], expected)
        assert np.array_equal(load_audio(sound, start=1)[0], load_audio(path, start=1)[0])
    writer.join()

    reading, writing = os.pipe()
    threading.Thread(target=lambda: (os.write(writing, mp3), os.close(writing))).start()
    assert np.array_equal(load_audio(f"/dev/fd/{reading}")[0], expected)
    os.close(reading)

    with path.open("rb") as file:  # one that stands somewhere is read from its beginning, and stays open
        file.seek(100)
        assert np.array_equal(load_audio(file)[0], expected) and not file.closed
    with path.open("r") as text:
        assert np.array_equal(load_audio(text)[0], expected)
    with pytest.raises(AudioError, match="text.*mode 'rb'"):
        load_audio(io.StringIO("hello"))
    with (tmp_path / "out").open("wb") as closed, pytest.raises(AudioError, match="out' cannot be read"):
        load_audio(closed)
    with pytest.raises(AudioError, match="cannot be read"):
        load_audio(closed)


def test_a_pipe_that_never_ends(monkeypatch):
    monkeypatch.setattr(module, "MAX_FILE", 3_000_000)
    with pytest.raises(AudioError, match="'/dev/zero' has more than 3 MB"):
        load_audio("/dev/zero")


@pytest.fixture(scope="module")
def address():
    """A server of this machine: /a b.wav is a song, /moved leads there, /file and /ftp lead elsewhere, /slow never ends."""
    content = encoded(song(1.0), RATE)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            leads = {
                "/moved": "/a%20b.wav",
                "/file": "file:///etc/hostname",
                "/ftp": "ftp://127.0.0.1/x",
                "/round": "/round",
            }
            if self.path in leads:
                self.send_response(302)
                self.send_header("Location", leads[self.path])
                self.end_headers()
            elif self.path.startswith("/a%20b.wav"):
                self.send_response(200)
                self.end_headers()
                self.wfile.write(content)
            elif self.path == "/slow":
                self.send_response(200)
                self.end_headers()
                try:
                    while not stop.wait(0.05):
                        self.wfile.write(b"RIFF")
                except OSError:
                    pass
            else:
                self.send_error(404)

        def log_message(self, *_):
            pass

    stop = threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        stop.set()
        server.shutdown()


def test_addresses(address, monkeypatch):
    expected = load_audio(encoded(song(1.0), RATE))[0]
    for path in ("/a%20b.wav", "/moved", "/a%20b.wav?token=secret"):
        assert np.array_equal(load_audio(address + path)[0], expected)
    assert np.array_equal(load_audio({"path": address + "/moved", "bytes": None})[0], expected)
    with opened(address + "/a%20b.wav") as sound:
        assert sound.title == "a b.wav"
    for path, message in (
        ("/none", "status 404"),
        ("/file", "cannot be fetched"),
        ("/ftp", "cannot be fetched"),
        ("/round", "cannot be fetched"),
    ):
        with pytest.raises(AudioError, match=message) as caught:
            load_audio(address + path)
        assert path in str(caught.value) and "\n" not in str(caught.value)
    for wrong in ("http://127.0.0.1:1/a.wav", "http://", "https://[", "HTTP://127.0.0.1:99999/a"):
        with pytest.raises(AudioError, match="cannot be fetched"):
            load_audio(wrong)
    monkeypatch.setattr(module, "_ADDRESS_SECONDS", 0.3)
    with pytest.raises(AudioError, match="has not come in 0 s"):
        load_audio(address + "/slow")
    for source in (address + "/moved", {"path": address + "/moved"}):
        with pytest.raises(AudioError, match="is an address: give the sound itself"):
            load_audio(source, addresses=False)
        with pytest.raises(AudioError, match="is an address"):
            load_excerpt(source, addresses=False)


# --- channels ----------------------------------------------------------------------------------------------------------


def test_channels_that_cancel_each_other_are_not_silence():
    left = song(2.0)
    for right, expected in ((-left, left), (-0.9 * left, left), (left * 0, left / 2), (0.5 * left, 0.75 * left)):
        waveform, _ = load_audio((np.stack([left, right]), RATE))
        assert np.allclose(waveform, expected, atol=1e-6)
    for start in (0, 0.5):
        waveform, rows = load_excerpt((np.stack([left, -left]), RATE), start=start, duration=1)
        assert np.allclose(waveform, left, atol=1e-6) and rows == slice(round(30 * start), round(30 * start) + 30)


@pytest.mark.parametrize("size", [100, 1024, 15360])
def test_live_mix_does_not_depend_on_the_size_of_blocks(size):
    left = song(1.0)
    for right in (-left, 0.5 * left, np.where(np.arange(len(left)) < 5000, left, -left)):
        both = np.stack([left, right], axis=1).astype(np.float32)
        once = LiveMix(RATE)(both)
        mix = LiveMix(RATE)
        assert np.array_equal(np.concatenate([mix(both[i : i + size]) for i in range(0, len(both), size)]), once)
        assert np.abs(once[:5000]).max() > 0.1
    assert np.array_equal(LiveMix(RATE)(np.stack([left, -left], axis=1)), left)
    with pytest.raises(AudioError, match="block has a peak of 1e"):
        LiveMix(RATE)(np.full(10, 1e20))


# --- excerpts ----------------------------------------------------------------------------------------------------------


def clicking(seconds: float, tempo: float) -> np.ndarray:
    """Clicks that are loud on every second beat: a few seconds of them are as well heard at half the tempo."""
    waveform = song(seconds) * 0.01
    for index, second in enumerate(np.arange(0.1, seconds - 0.1, 60 / tempo)):
        place = round(second * RATE)
        waveform[place : place + 200] += (0.9 if index % 2 else 0.5) * np.random.default_rng(0).normal(size=200) * 0.3
    return waveform.astype(np.float32)


def test_an_excerpt_has_the_features_of_its_song(monkeypatch):
    waveform = clicking(12.0, 100)
    whole = song_features(waveform)
    for start, duration, rows in (
        (0, None, 360),
        (0, 2.0, 60),
        (3.0, 2.5, 75),
        (9.99, 4.0, 60),
        (3.01, 1.0, 30),
        (11.7, None, 9),
    ):
        heard, where = load_excerpt((waveform, RATE), start, duration)
        assert where.stop - where.start == rows
        features = song_features(heard, rows=where)
        first = round(start * 30)
        if start * 30 == first:  # the same instants
            np.testing.assert_array_equal(features, whole[first : first + rows])
    monkeypatch.setattr(module, "SURROUNDINGS", 2.0)
    heard, where = load_excerpt((waveform, RATE), 5.0, 1.5)
    assert np.array_equal(heard, waveform[3 * RATE : round(8.5 * RATE)]) and where == slice(60, 105)


def test_errors_about_an_excerpt_name_it(tmp_path):
    quiet = np.concatenate([song(1.0), np.zeros(RATE), song(1.0)])
    with pytest.raises(AudioError, match="audio from 1.2 s on is silent"):
        load_excerpt((quiet, RATE), 1.2, 0.5)
    for start in (3, 99, 1e6):
        with pytest.raises(
            AudioError, match=rf"start={re.escape(f'{start:g}')}: audio ends at 3.00 s; give an earlier start"
        ):
            load_excerpt((quiet, RATE), start)
    with pytest.raises(AudioError, match="from 2.9 s on lasts 0.1 s, which is too short"):
        load_excerpt((quiet, RATE), 2.9)
    cut = WAV[: len(WAV) // 2]  # 1.5 s are there
    assert load_excerpt(cut, 0.5, 0.9)[1] == slice(15, 42)
    with pytest.raises(AudioError, match="is cut short"):
        load_excerpt(cut, 0.5, 2)


def test_the_same_file_by_any_name(tmp_path, monkeypatch):
    path = tmp_path / "song.wav"
    path.write_bytes(WAV)
    (tmp_path / "link.wav").symlink_to(path)
    os.link(path, tmp_path / "hard.wav")
    monkeypatch.chdir(tmp_path)
    with path.open("rb") as file, opened(path) as sound:
        for source in (path, "song.wav", "./link.wav", tmp_path / "hard.wav", file, sound, {"path": "song.wav"}):
            for target in ("song.wav", Path("link.wav"), f"../{tmp_path.name}/hard.wav"):
                assert is_same_file(target, source)
            assert not is_same_file("other.wav", source)
    assert not is_same_file("song.wav", None) and not is_same_file("song.wav", (FLOATS, RATE))
