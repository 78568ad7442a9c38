"""What an Inference Endpoint answers: formats, limits, refusals. The handler is the one of a saved repository."""

import base64
import importlib.util
import io
import json
import re

import av
import numpy as np
import pytest
from helpers import GENRES, save_tiny_model, write_song

from megadance_hf import Motion, MusicToDancePipeline
from megadance_hf.hub import handler as handler_module
from megadance_hf.hub.repository import save_for_hub
from megadance_hf.modeling.generation_megadance import MODES


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


def test_wishes_beside_the_song(handler, pipe, song):
    answer = handler(request(song, prompt="waltz with a red hat", seed=4))
    assert answer["genre"] == "waltz" and answer["prompt"]["not_understood"] == ["red hat"]
    assert "attributes" not in answer
    with pytest.raises(ValueError, match="this model was trained without attributes"):
        handler(request(song, attributes={"energy": 0.8}))


@pytest.mark.parametrize(("kind", "begins"), [("glb", b"glTF"), ("mp4", b"\x00\x00\x00")])
def test_files_for_viewers(handler, song, kind, begins):
    answer = handler(request(song, format=kind, seed=1, start=0.5, duration=0.6))
    content = base64.b64decode(answer["data"])
    assert content.startswith(begins) and answer["frames"] == 18
    assert answer["content_type"] == {"glb": "model/gltf-binary", "mp4": "video/mp4"}[kind]
    if kind == "glb":
        assert int.from_bytes(content[8:12], "little") == len(content), "as its header says"
    else:
        with av.open(io.BytesIO(content)) as video:
            assert {stream.type for stream in video.streams} == {"video", "audio"}
            assert sum(1 for _ in video.decode(video=0)) == 18


def test_other_formats_need_the_package_and_say_so(handler, song, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "megadance_hf.motion.motion", None)
    with pytest.raises(ValueError, match="format='glb' needs megadance-hf.*requirements.txt, or ask for npz"):
        handler(request(song, format="glb"))
    assert handler(request(song))["frames"] == 60


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"format": "exe"}, "format='exe': give one of npz, glb, mp4"),
        ({"format": ["npz"]}, r"format=\['npz'\]: give one of npz, glb, mp4"),
        ({"genre": "polka"}, "genre='polka' is unknown.*chacha, rumba, waltz"),
        ({"genre": 3}, "genre=3: give a text"),
        ({"speed": 3}, "parameters has 'speed': give some of attributes, duration, format, genre"),
        ({"x" * 1000: 3}, "parameters has 'xxx.{50,60} ...: give some of"),
        ({"duration": 61}, "duration=61: give a number above 0, up to 60"),
        ({"duration": -1}, "duration=-1: give a number above 0"),
        ({"duration": 0}, "duration=0: give a number above 0"),
        ({"duration": float("nan")}, "duration=nan: give a number above 0"),
        ({"duration": True}, "duration=True: give a number above 0"),
        ({"seed": "7"}, "seed='7': give a whole number from 0 to"),
        ({"seed": 0.5}, "seed=0.5: give a whole number from 0"),
        ({"seed": 10**400}, "seed=10{55,60} ...: give a whole number from 0"),
        ({"top_k": {"a": 1}}, "top_k={'a': 1}: give a whole number"),
        ({"temperature": float("inf")}, "temperature=inf: give a number above 0, up to 100"),
        ({"mode": "fast"}, "mode='fast': give one of released, paper, stream"),
        ({"start": -1e300}, "start=-1e[+]300: give a number from 0 to 86400"),
        ({"start": 5}, "start=5"),
        ({"prompt": 5}, "prompt=5: give a text"),
        ({"attributes": "energy"}, "attributes='energy': give an object of names with numbers from 0 to 1"),
        ({"attributes": {"energy": 2}}, r"attributes\[energy\]=2: give a number from 0 to 1"),
    ],
)
def test_refusals_are_one_line(handler, song, parameters, message):
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
        (bytearray(), "inputs is missing"),
        ("https://example.org/song.mp3", "inputs is an address, which is not followed"),
        ("file:///etc/passwd", "inputs is an address, which is not followed"),
        ("/etc/passwd", "inputs is not base64"),
    ],
)
def test_inputs_that_are_no_song(handler, inputs, message):
    with pytest.raises(ValueError, match=message):
        handler({"inputs": inputs})


def test_requests_as_they_come(handler, song):
    """Bodies are bytearrays, base64 comes in lines and as a data address, null is as if left out, JavaScript has one number."""
    text = base64.encodebytes(song).decode()
    seed = {"seed": 3.0, "duration": 1, "genre": None, "format": None}
    answers = [
        handler({"inputs": inputs, "parameters": seed})
        for inputs in (song, bytearray(song), text, "data:audio/mpeg;base64," + base64.b64encode(song).decode())
    ]
    assert all(answer == answers[0] and answer["seed"] == 3 and answer["frames"] == 30 for answer in answers)
    for data, message in (
        ([1], "the request is of type list"),
        ({"inputs": song, "parameters": "x"}, "parameters is of type str"),
    ):
        with pytest.raises(ValueError, match=message):
            handler(data)


def test_one_table_for_checks_and_card(handler, repository_files):
    """Every parameter has its row, its range is what is checked, and the card shows the table."""
    assert handler_module.parameter_table(GENRES) in (repository_files / "README.md").read_text(encoding="utf-8")
    assert "one of chacha, rumba, waltz" in handler_module.parameter_table(GENRES)
    for name, parameter in handler_module.PARAMETERS.items():
        if parameter.kind is str:
            continue
        if parameter.kind is dict:
            assert handler._options({name: {"energy": parameter.high}}) == {name: {"energy": parameter.high}}
            for value in (parameter.high, [1], {"energy": parameter.high + 1}, {"energy": "1"}, {1: 1}):
                with pytest.raises(ValueError, match=f"{name}.*: give a"):
                    handler._options({name: value})
            continue
        assert handler._options({name: parameter.high}) == {name: parameter.high}
        wrong = [parameter.low - 1, parameter.high + 1, str(parameter.high), float("nan"), True, [1]]
        for value in wrong + ([parameter.low] if parameter.above else []):
            with pytest.raises(ValueError, match=f"{name}=.*: give {re.escape(parameter.allowed)}"):
                handler._options({name: value})
    assert sorted(handler_module.PARAMETERS["mode"].choices) == sorted(MODES)


def test_limits_of_the_endpoint_s_own(repository_files, song, monkeypatch):
    monkeypatch.setenv("MEGADANCE_MAX_SECONDS", "1.5")
    monkeypatch.setenv("MEGADANCE_MAX_MEGABYTES", "0.5")
    strict = load(repository_files)
    with pytest.raises(ValueError, match="2.* s are to be danced to, more than 1.5"):
        strict({"inputs": song})
    with pytest.raises(ValueError, match="duration=1.6: give a number above 0, up to 1.5"):
        strict(request(song, duration=1.6))
    assert strict(request(song, duration=1.0))["frames"] == 30
    assert strict(request(song, start=1.0))["frames"] in (30, 31)
    for inputs in (b"x" * 600_000, "x" * 700_000):
        with pytest.raises(ValueError, match="0.6 MB, more than 0.5|longer than 0.5 MB"):
            strict({"inputs": inputs})
    for value in ("nan", "-1", "many"):
        monkeypatch.setenv("MEGADANCE_MAX_SECONDS", value)
        with pytest.raises(
            ValueError, match=f"MEGADANCE_MAX_SECONDS='{value}' in the environment: give a number above 0"
        ):
            load(repository_files)
