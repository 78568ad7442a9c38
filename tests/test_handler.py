"""What an Inference Endpoint answers: formats, limits, refusals. The handler is the one of a saved repository."""

import base64
import importlib.util
import io
import json

import numpy as np
import pytest
from helpers import GENRES, save_tiny_model, write_song

from megadance_hf import Motion, MusicToDancePipeline
from megadance_hf.hub import save_for_hub


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return MusicToDancePipeline.from_pretrained(save_tiny_model(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def repository_files(pipe, tmp_path_factory):
    return save_for_hub(pipe, tmp_path_factory.mktemp("hub") / "repository")


def load(folder):
    """As an Endpoint does: handler.py of the repository, by path."""
    spec = importlib.util.spec_from_file_location("handler", folder / "handler.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EndpointHandler(str(folder))


@pytest.fixture(scope="module")
def handler(repository_files):
    return load(repository_files)


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    return write_song(tmp_path_factory.mktemp("song") / "song.mp3", seconds=2.0).read_bytes()


def request(song, **parameters):
    return {"inputs": base64.b64encode(song).decode(), "parameters": parameters}


def test_npz_is_the_dance_of_the_pipeline(handler, pipe, song, tmp_path):
    answer = handler(request(song, genre="Rumba", seed=4))
    assert json.loads(json.dumps(answer)) == answer, "an Endpoint sends JSON"
    assert {k: answer[k] for k in ("format", "genre", "seed", "fps", "frames")} == {
        "format": "npz",
        "genre": "rumba",
        "seed": 4,
        "fps": 30,
        "frames": 60,
    }
    (tmp_path / "dance.npz").write_bytes(base64.b64decode(answer["data"]))
    loaded, expected = Motion.load(tmp_path / "dance.npz"), pipe(song, "rumba", seed=4)
    np.testing.assert_array_equal(loaded.poses, expected.poses)
    np.testing.assert_array_equal(loaded.translation, expected.translation)
    assert loaded.fps == 30 and loaded.genre == "rumba"


def test_the_sound_file_itself_and_a_part_of_it(handler, song):
    whole = handler({"inputs": song})
    assert whole["frames"] == 60 and whole["genre"] == GENRES[0]
    assert handler(request(song, start=0.5, duration=1.0, seed=0))["frames"] == 30


@pytest.mark.parametrize(("kind", "begins"), [("glb", b"glTF"), ("mp4", b"\x00\x00\x00")])
def test_files_for_viewers(handler, song, kind, begins):
    answer = handler(request(song, format=kind, seed=1, start=0.5, duration=0.6))
    made = base64.b64decode(answer["data"])
    assert made.startswith(begins) and len(made) > 1000 and answer["frames"] == 18
    assert answer["content_type"] == {"glb": "model/gltf-binary", "mp4": "video/mp4"}[kind]
    if kind == "mp4":
        import av

        with av.open(io.BytesIO(made)) as video:
            assert {stream.type for stream in video.streams} == {"video", "audio"}


def test_other_formats_need_the_package_and_say_so(handler, song, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "megadance_hf.motion", None)
    with pytest.raises(ValueError, match="format='glb' needs megadance-hf.*requirements.txt, or ask for npz"):
        handler(request(song, format="glb"))
    assert handler(request(song))["frames"] == 60


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"format": "exe"}, "format='exe': give one of npz, glb, mp4"),
        ({"genre": "polka"}, "genre='polka' is unknown.*chacha, rumba, waltz"),
        ({"speed": 3}, "parameters has 'speed': give some of duration, format, genre"),
        ({"duration": 61}, "61.0 s are to be danced to, more than 60: give a duration up to that"),
        ({"duration": -1}, "duration=-1"),
        ({"duration": float("nan")}, "duration=nan"),
        ({"seed": "one"}, "seed='one': give a number"),
        ({"start": 5}, "start=5"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(handler, song, parameters, message):
    with pytest.raises(ValueError, match=message) as caught:
        handler(request(song, **parameters))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (None, "inputs is missing"),
        ("", "inputs is missing"),
        ("not base64!", "inputs is not base64"),
        (b"no sound at all", "not audio"),
        ({"a": 1}, "inputs is missing"),
    ],
)
def test_what_is_no_song(handler, inputs, message):
    with pytest.raises(ValueError, match=message):
        handler({"inputs": inputs})


def test_limits_of_the_endpoint_s_own(repository_files, song, monkeypatch):
    monkeypatch.setenv("MEGADANCE_MAX_SECONDS", "1.5")
    monkeypatch.setenv("MEGADANCE_MAX_MEGABYTES", "0.5")
    strict = load(repository_files)
    with pytest.raises(ValueError, match="2.* s are to be danced to, more than 1.5"):
        strict({"inputs": song})
    assert strict(request(song, duration=1.0))["frames"] == 30
    assert strict(request(song, start=1.0))["frames"] in (30, 31)
    for inputs in (b"x" * 600_000, "x" * 700_000):
        with pytest.raises(ValueError, match="0.6 MB, more than 0.5|longer than 0.5 MB"):
            strict({"inputs": inputs})
