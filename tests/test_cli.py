"""The `megadance` command: what it writes and prints, how fast its help is, and every kind of bad input."""

import filecmp
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers import click_song, remember, save_tiny_model, skip_outside_ci, tiny_generator, write_song

from megadance_hf import __version__
from megadance_hf.cli import command as cli
from megadance_hf.cli import generate, options, outputs, redo
from megadance_hf.data.preparation import prepare_clips
from megadance_hf.data.prepared import read_prepared
from megadance_hf.data.sources import OWN
from megadance_hf.datasets_scripts import mocap
from megadance_hf.export import bvh as export
from megadance_hf.hub import connection, datasets
from megadance_hf.modeling import music_features_megadance
from megadance_hf.modeling.generation_megadance import MODES
from megadance_hf.modeling.kinematics_megadance import BODY_PARTS
from megadance_hf.modeling.plans_megadance import CHANGES
from megadance_hf.models import bundled_models
from megadance_hf.motion import bodies
from megadance_hf.motion.formats import KNOWN_SUFFIXES
from megadance_hf.motion.motion import Motion
from megadance_hf.pipeline import MusicToDancePipeline

_music_features = remember(music_features_megadance.music_features)


@pytest.fixture(autouse=True)
def _features_once(monkeypatch):
    monkeypatch.setattr(music_features_megadance, "music_features", _music_features)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    return write_song(tmp_path_factory.mktemp("song") / "my song.wav", seconds=2.5)


@pytest.fixture
def megadance(capfd, monkeypatch, tmp_path):
    """Runs the command in an empty folder: (status, stdout, stderr)."""
    home = tmp_path / "here"
    home.mkdir()
    monkeypatch.chdir(home)

    def run(*arguments):
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = stop.code
        return status, *capfd.readouterr()

    return run


def files() -> list[str]:
    return sorted(os.listdir())


# --- what it does ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "options"), [("bfloat16", {"dtype": "bfloat16"}), ("int8", {"quantization": "int8"})]
)
def test_generate_in_other_precisions(megadance, model, song, precision, options):
    command = ["generate", song, "-o", "a.npz", "--model", model, "--seed", "7", "--precision", precision]
    status, _, errors = megadance(*command)
    assert status == 0, errors
    expected = MusicToDancePipeline.from_pretrained(model, **options)(song, seed=7)
    assert np.array_equal(Motion.load("a.npz").poses, expected.poses)


@pytest.mark.versions
def test_generate_writes_the_dance_of_the_pipeline(megadance, model, song):
    status, output, errors = megadance(
        "generate",
        song,
        "--model",
        model,
        "--genre",
        "Waltz",
        "--seed",
        7,
        "-o",
        "a.npz",
        "-o",
        "b.bvh",
        "-o",
        "c.joints.npz",
    )
    assert status == 0, errors
    assert files() == ["a.npz", "b.bvh", "c.joints.npz"]
    dance, expected = Motion.load("a.npz"), MusicToDancePipeline.from_pretrained(model)(song, "waltz", seed=7)
    np.testing.assert_array_equal(dance.poses, expected.poses)
    np.testing.assert_array_equal(dance.translation, expected.translation)
    assert {**dance.metadata, "compute_seconds": 0} == {**expected.metadata, "compute_seconds": 0}
    lines = output.splitlines()
    sizes = [f"wrote {name} ({os.path.getsize(name) / 1e3:.1f} kB)" for name in files()]
    assert lines[:3] == sizes
    assert re.fullmatch(
        r"dance of 2\.5 s, waltz, seed 7: computed in \d+\.\d s \(\d+\.\d{3} s per second of dance\), files in \d+\.\d s",
        lines[3],
    )
    assert "dancing 100%" in errors, "a progress bar"


def test_options_reach_the_pipeline(megadance, model, song):
    options = ("--start", 0.5, "--duration", "1.2", "--mode", "stream", "--temperature", 0.7, "--top-k", 9, "--seed", 3)
    status, output, errors = megadance("generate", song, "--model", model, "--num", 2, *options, "-o", "d.npz")
    assert status == 0, errors
    assert files() == ["d-1.npz", "d-2.npz"]
    expected = MusicToDancePipeline.from_pretrained(model)(
        song, seed=3, start=0.5, duration=1.2, mode="stream", temperature=0.7, top_k=9, num=2
    )
    for name, dance in zip(files(), expected, strict=True):
        np.testing.assert_array_equal(Motion.load(name).poses, dance.poses)
        assert len(dance) == 36 and Motion.load(name).metadata["start"] == 0.5
    assert output.startswith("no --genre given: dancing chacha (the others: rumba, waltz)\n")
    assert "2 dances of 1.2 s, chacha, seed 3" in output


def test_the_genre_is_heard_where_none_is_given(megadance, song, tmp_path_factory):
    folder = save_tiny_model(tmp_path_factory.mktemp("hears"))
    hears = tiny_generator(rhythm_size=8, rhythm_layers=2, hears_genres=True)
    hears.hearing.bias[1] = 1.0
    hears.save_pretrained(folder)
    expected = "not sure: rumba 53 %, chacha 23 %; give --genre if that is wrong"
    for given in ((), ("--genre", "auto")):
        status, output, errors = megadance("generate", song, "--model", folder, "--seed", 1, *given, "-o", "d.npz")
        assert status == 0, errors
        assert expected in output.splitlines() and ", rumba, seed 1: " in output
        assert Motion.load("d.npz").metadata["heard"] == {"rumba": 0.5337, "chacha": 0.2332, "waltz": 0.2332}
    hears.hearing.bias[1] = 3.0
    hears.save_pretrained(folder)
    status, output, errors = megadance("generate", song, "--model", folder, "--out", "dances", "--format", "npz")
    assert status == 0, errors
    assert f"{song}: heard: rumba (88 %)" in (output + errors)


def test_auto_with_a_model_that_cannot_hear(megadance, model, song):
    status, output, errors = megadance("generate", song, "--model", model, "--genre", "auto", "-o", "d.npz")
    assert status == 0, errors
    assert output.startswith("--genre auto: this model cannot hear: dancing chacha (the others: rumba, waltz)\n")


def test_without_a_seed_the_printed_one_gives_the_dance_again(megadance, model, song):
    output = megadance("generate", song, "--model", model, "-o", "one.npz")[1]
    seed = re.search(r"seed (\d+)", output).group(1)
    megadance("generate", song, "--model", model, "--seed", seed, "-o", "two.npz")
    np.testing.assert_array_equal(Motion.load("one.npz").poses, Motion.load("two.npz").poses)


def test_an_existing_file_is_replaced(megadance, model, song):
    with open("d.npz", "w") as file:
        file.write("old")
    assert megadance("generate", song, "--model", model, "-o", "d.npz")[0] == 0
    assert len(Motion.load("d.npz")) == 75


def test_video_has_the_song_from_its_start(megadance, model, song, monkeypatch):
    saved = {}

    def save(self, path, **options):
        saved.update(options, frames=len(self))
        path.write_bytes(b"film")

    monkeypatch.setattr(Motion, "save", save)
    status, _, errors = megadance("generate", song, "--model", model, "--start", 1, "-o", "d.MP4")
    assert status == 0, errors
    assert saved.pop("music").source == str(song)
    assert saved == {"music_start": 1.0, "body": "mannequin", "title": None, "frames": 45}
    assert files() == ["d.MP4"]


def test_a_bundle_beside_files(megadance, model, song):
    command = ["generate", song, "--model", model, "--genre", "waltz", "--seed", 1, "--start", 0.5, "-o", "d.npz"]
    status, output, errors = megadance(*command, "--bundle", "dance", "--num", 2)
    assert status == 0, errors
    assert files() == ["d-1.npz", "d-2.npz", "dance-1", "dance-2"]
    assert re.search(r"^wrote dance-2/ \(5 files, \d\.\d MB\)$", output, re.MULTILINE)
    sound, rate = soundfile.read("dance-2/song.wav")
    whole, whole_rate = soundfile.read(song)
    assert rate == whole_rate
    np.testing.assert_allclose(sound, whole[rate // 2 :], atol=1e-4)
    dance = Motion.load("d-2.npz")
    assert len(dance) == 60 == len(sound) * 30 / rate
    dance.save("same.glb")
    assert filecmp.cmp("same.glb", "dance-2/dance.glb", shallow=False)


@pytest.mark.versions
def test_export_writes_a_dance_in_other_formats(megadance, model, song):
    assert megadance("generate", song, "--model", model, "--seed", 1, "--start", 0.5, "-o", "d.npz")[0] == 0
    outputs = ("-o", "d.vrma", "-o", "d.bvh", "--bundle", "dance")
    status, output, errors = megadance("export", "d.npz", "--music", song, "--bones", "mixamo", *outputs)
    assert status == 0, errors
    assert files() == ["d.bvh", "d.npz", "d.vrma", "dance"]
    lines = output.splitlines()
    assert [line.split()[1] for line in lines] == ["d.vrma", "d.bvh", "dance/"]
    Motion.load("d.npz").save("expected.bvh", bones="mixamo")
    assert filecmp.cmp("expected.bvh", "d.bvh", shallow=False)
    assert filecmp.cmp("expected.bvh", "dance/dance.bvh", shallow=False)
    sound, rate = soundfile.read("dance/song.wav")
    np.testing.assert_allclose(sound, soundfile.read(song)[0][rate // 2 :], atol=1e-4)  # from the start that it notes
    assert megadance("export", "d.npz", "--music", song, "--start", 0, "--bundle", "other")[0] == 0
    np.testing.assert_allclose(soundfile.read("other/song.wav")[0], soundfile.read(song)[0][: len(sound)], atol=1e-4)


def test_bodies(megadance, model, song):
    command = ["generate", song, "--model", model, "--genre", "waltz", "--seed", 1, "--duration", 1.5]
    outputs = ["-o", "d.npz", "-o", "d.glb", "-o", "d.mp4", "--bundle", "dance"]
    status, _, errors = megadance(*command, *outputs, "--body", "smooth")
    assert status == 0, errors
    dance = Motion.load("d.npz")
    dance.save("expected.glb", body="smooth")
    dance.save("expected.mp4", body="smooth", music=song)
    for name, expected in (("d.glb", "expected.glb"), ("dance/dance.glb", "expected.glb"), ("d.mp4", "expected.mp4")):
        assert filecmp.cmp(expected, name, shallow=False), name
    assert megadance("export", "d.npz", "-o", "other.glb")[0] == 0
    assert not filecmp.cmp("other.glb", "d.glb", shallow=False)
    assert megadance("export", "d.npz", "-o", "plain.mp4", "--no-title")[0] == 0
    dance.save("expected_plain.mp4", title=False)
    assert filecmp.cmp("expected_plain.mp4", "plain.mp4", shallow=False)
    status, _, errors = megadance("export", "d.npz", "-o", "other.glb", "--body", "steel")
    assert status == 2 and "--body" in errors and "smooth" in errors


def test_mistakes_of_export_are_one_line(megadance, song, tmp_path):
    Motion(np.zeros((5, 72)), np.zeros((5, 3))).save("d.npz")
    os.mkdir("there")
    cases = [
        (["d.npz"], "nothing to write: give -o OUT or --bundle DIR"),
        (["d.npz", "--bundle", "new"], "--bundle: the sound belongs to it: give --music SONG"),
        (["d.npz", "--music", song, "--bundle", "there"], "--bundle: .*there' exists: give the name of a new folder"),
        (["d.npz", "--music", song, "--bundle", "no/new"], "--bundle: .*'no' does not exist; create it first"),
        (["d.npz", "--music", "no.mp3", "--bundle", "new", "-o", "d.bvh"], "no.mp3.* does not exist"),
        (["d.npz", "--music", song, "--bundle", "e.bvh", "-o", "e.bvh"], "--bundle: 'e.bvh' is also a file to write"),
        (["d.npz", "-o", "d.fbx"], "'.fbx' is not known; end the name in one of"),
        (["no.npz", "-o", "d.bvh"], "no.npz': no such file"),
        (["d.npz", "-o", "d.bvh", "--bones", "maya"], "--bones.*'maya'.*mixamo"),
    ]
    for arguments, message in cases:
        status, output, errors = megadance("export", *arguments)
        assert (status, output) == (2, "") and re.search(message, errors) and errors.count("\n") == 1, errors
        assert files() == ["d.npz", "there"]


def test_genres_and_info(megadance, model):
    assert megadance("genres", "--model", model) == (0, "chacha\nrumba\nwaltz\n", "")
    status, output, errors = megadance("info", model)
    assert (status, errors) == (0, "") and "chacha, rumba, waltz" in output and "27 for the upper" in output


# --- directing -------------------------------------------------------------------------------------------------------


def test_a_plan_a_mixture_and_candidates(megadance, model, song):
    pipe = MusicToDancePipeline.from_pretrained(model)
    cases = {
        "plan.npz": (
            ["--plan", "waltz@0 rumba=.5,chacha=1@1.2"],
            {"plan": [("waltz", 0), ({"rumba": 0.5, "chacha": 1}, 1.2)]},
        ),
        "mixed.npz": (["--genre", "rumba=.7,waltz=.3"], {"genre": {"rumba": 0.7, "waltz": 0.3}}),
        "best.npz": (["--candidates", "3"], {"candidates": 3}),
        "loop.npz": (["--loop", "--genre", "Rumba"], {"loop": True, "genre": "rumba"}),
    }
    for name, (given, keywords) in cases.items():
        status, output, errors = megadance("generate", song, "--model", model, "--seed", 7, "-o", name, *given)
        assert status == 0, errors
        dance, expected = Motion.load(name), pipe(song, seed=7, **keywords)
        np.testing.assert_array_equal(dance.poses, expected.poses)
        assert dance.metadata.get("plan") == expected.metadata.get("plan")
        if name == "plan.npz":
            assert "dance of 2.5 s, waltz, rumba 0.5 and chacha 1 at 1.1 s, seed 7: " in output


def test_wishes_in_words_and_numbers(megadance, model, song, tmp_path):
    """Of a model with attributes; the one without takes the genres of a prompt."""
    obedient = MusicToDancePipeline.from_pretrained(model)
    torch.manual_seed(1)
    obedient.model = tiny_generator(attributes=["energy", "speed"])
    obedient.save_pretrained(tmp_path / "obedient")
    pipe = MusicToDancePipeline.from_pretrained(tmp_path / "obedient")
    given = ("--prompt", "a slow waltz in a red hat, rumba after 1 second", "--attributes", "energy=.3@0,energy=.9@1.2")
    status, output, errors = megadance(
        "generate", song, "--model", tmp_path / "obedient", "--seed", 7, "-o", "a.npz", *given
    )
    assert status == 0, errors
    line = "understood: waltz, rumba at 1 s, speed 0.15; not understood: red hat"
    assert line in output and "dancing chacha" not in output
    asked = {"speed": 0.15, "energy": [(0.0, 0.3), (1.2, 0.9)]}
    expected = pipe(song, plan=[("waltz", 0), ("rumba", 1)], attributes=asked, seed=7)
    dance = Motion.load("a.npz")
    np.testing.assert_array_equal(dance.poses, expected.poses)
    assert dance.metadata["prompt"]["not_understood"] == ["red hat"]
    assert dance.metadata["attributes"] == expected.metadata["attributes"]
    redo = (
        "redo",
        "a.npz",
        "--song",
        song,
        "--start",
        0.8,
        "--end",
        1.6,
        "--seed",
        1,
        "--model",
        tmp_path / "obedient",
    )
    status, output, errors = megadance(*redo, "--prompt", "faster", "-o", "b.npz")
    assert status == 0 and "understood: speed 0.85" in output, errors
    assert Motion.load("b.npz").metadata["redone"][0]["attributes"]["speed"] == 0.85
    status, output, errors = megadance(
        "generate", song, "--model", model, "--seed", 7, "--prompt", "no cha-cha", "-o", "c.npz"
    )
    assert status == 0 and "understood: no chacha" in output and Motion.load("c.npz").genre == "rumba"
    status, output, errors = megadance(
        "generate", song, "--model", model, "--prompt", "waltz", "--out", "all", "--format", "npz"
    )
    assert status == 0 and "understood: waltz" in output, errors


def test_a_dance_to_each_of_several_songs(megadance, model, song, tmp_path):
    """A song that cannot be read does not stop the others; it is reported."""
    folder = tmp_path / "songs"
    folder.mkdir()
    for name in ("a.wav", "b.wav"):
        (folder / name).write_bytes(song.read_bytes())
    (folder / "cover.jpg").write_bytes(b"a picture")
    command = ["generate", "--model", model, "--seed", 3, "--out", "new/dances", "--format", "npz", "--format", ".bvh"]
    status, output, _ = megadance(*command, folder, song)
    assert status == 0 and sorted(os.listdir("new/dances")) == [
        *("a.bvh", "a.npz", "b.bvh", "b.npz", "my song.bvh", "my song.npz"),
    ]
    assert f"{folder / 'a.wav'}: 2.5 s, chacha, seed 3" in output
    expected = MusicToDancePipeline.from_pretrained(model)(song, seed=3)
    np.testing.assert_array_equal(Motion.load("new/dances/b.npz").poses, expected.poses)

    (folder / "b.wav").write_bytes(b"no sound")
    command[command.index("new/dances")] = "others"
    status, output, errors = megadance(*command, folder, "--num", 2)
    assert status == 2 and sorted(os.listdir("others")) == ["a-1.bvh", "a-1.npz", "a-2.bvh", "a-2.npz"]
    assert f"{folder / 'b.wav'}: no dance: " in output
    assert errors.endswith("megadance generate: error: 1 of 2 songs have no dance, for the reasons above\n")
    command[command.index("others")] = "none/at/all"
    status, output, errors = megadance(*command, folder / "b.wav")
    assert status == 2 and not os.path.exists("none"), "nothing is left of it"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["SONG", "SONG", "-o", "d.npz"], "argument SONG: 2 songs are given: give --out DIR"),
        (["SONG", "-o", "d.npz", "--format", "npz"], "argument --format: it is of the files in --out"),
        (["SONG", "-o", "d.npz", "--out", "x"], "argument -o: --out DIR is given, too"),
        (["SONG", "SONG", "--out", "x"], "several songs are named 'my song'"),
        (["SONG", "no.wav", "--out", "x"], "'no.wav' is no file here: with --out"),
        ([".", "--out", "x"], "there are no songs in '.'"),
        (["SONG", "--out", "x", "--format", "mp5"], "'.mp5' is not known"),
        (["SONG", "-o", "d.npz", "--plan", "waltz"], "--plan: 'waltz' cannot be used: give GENRE@SECOND"),
        (
            ["SONG", "-o", "d.npz", "--plan", "waltz@0 tango@x"],
            "--plan: 'x' cannot be used: give a number of 0 or more",
        ),
        (["SONG", "-o", "d.npz", "--plan", "waltz@1"], "plan begins at 1 s: give the genre at 0"),
        (["SONG", "-o", "d.npz", "--plan", "waltz@0", "--genre", "rumba"], "argument --plan: --genre is given, too"),
        (["SONG", "-o", "d.npz", "--changes", "bar"], "argument --changes: 'bar' does nothing alone"),
        (["SONG", "-o", "d.npz", "--genre", "waltz=1,waltz=2"], "name each genre once"),
        (["SONG", "-o", "d.npz", "--prompt", "salsa"], "prompt='salsa' has nothing that means something here"),
        (["SONG", "-o", "d.npz", "--prompt", "slow"], "prompt asks for speed, but this model was trained without"),
        (["SONG", "-o", "d.npz", "--prompt", "waltz", "--genre", "rumba"], "prompt asks for waltz, genre for rumba"),
        (["SONG", "-o", "d.npz", "--attributes", "energy=.5"], "this model was trained without attributes"),
        (["SONG", "-o", "d.npz", "--attributes", "energy=7"], "this model was trained without attributes"),
        (["SONG", "-o", "d.npz", "--attributes", "energy"], "'energy' cannot be used: give NAME=QUANTILE"),
        (["SONG", "-o", "d.npz", "--attributes", "energy=.1,energy=.2"], "energy is given twice: give it once"),
        (["SONG", "-o", "d.npz", "--genre", "waltz=1,polka=2"], "genre='polka' is unknown"),
        (["SONG", "-o", "d.npz", "--num", "3", "--candidates", "2"], "--candidates: 2 are fewer than --num 3"),
    ],
)
def test_directions_that_are_not_possible(megadance, model, song, arguments, message):
    arguments = [song if word == "SONG" else word for word in arguments]
    status, output, errors = megadance("generate", "--model", model, *arguments)
    assert (status, output, files()) == (2, "", []), errors
    assert message in errors and errors.count("\n") == 1


def test_redo_keeps_the_rest(megadance, model, song):
    assert megadance("generate", song, "--model", model, "--seed", 7, "-o", "dance.npz")[0] == 0
    command = ["redo", "dance.npz", "--song", song, "--model", model, "--start", "0.6", "--end", "1.5"]
    status, output, errors = megadance(*command, "--part", "upper", "--seed", 2, "--num", 2, "-o", "better.npz")
    assert status == 0, errors
    assert output.endswith("seconds 0.53 to 1.60 of the upper body danced anew, seed 2\n")
    expected = MusicToDancePipeline.from_pretrained(model).redo("dance.npz", song, 0.6, 1.5, "upper", num=2, seed=2)
    for number, one in enumerate(expected, 1):
        np.testing.assert_array_equal(Motion.load(f"better-{number}.npz").poses, one.poses)
    for arguments, message in (
        (["-o", "dance.npz"], "argument -o: 'dance.npz' is DANCE itself"),
        (["-o", "x.npz", "--candidates", "1", "--num", "2"], "--candidates: 1 are fewer than --num 2"),
        (["-o", "x.npz", "--end", "0.5"], "start=0.6, end=0.5: there is no code between them"),
    ):
        status, output, errors = megadance(*command, *arguments)
        assert (status, output) == (2, "") and message in errors, errors
    assert files() == ["better-1.npz", "better-2.npz", "dance.npz"]


def test_poses_are_held(megadance, model, song):
    assert megadance("generate", song, "--model", model, "--seed", 7, "-o", "dance.npz")[0] == 0
    Motion.load("dance.npz")[40:41].save("pose.npz")
    command = ["generate", song, "--model", model, "--seed", 5]
    status, _, errors = megadance(*command, "--hold", "0.9=pose.npz", "--hold", "End=pose.npz", "-o", "held.npz")
    assert status == 0, errors
    pose = Motion.load("pose.npz").poses[0]
    held = MusicToDancePipeline.from_pretrained(model)(song, seed=5, hold={0.9: pose, "end": pose})
    np.testing.assert_array_equal(Motion.load("held.npz").poses, held.poses)
    assert Motion.load("held.npz").metadata["hold"] == [[0.9, 0.9333], [2.4667, 2.5]]
    for hold, message in (
        (
            ["pose.npz"],
            "argument --hold: 'pose.npz' cannot be used: give SECOND=FILE or end=FILE, such as 12.5=pose.npz",
        ),
        (["-1=pose.npz"], "argument --hold: '-1' cannot be used: give a number of 0 or more"),
        (["1=pose.npz", "1.0=pose.npz"], "argument --hold: 1.0 is given twice: hold one pose or clip there"),
        (["1=none.npz"], "none.npz"),
        (["9=pose.npz"], "hold has 1 frames at 9.0, but the dance has 75"),
    ):
        options = [f"--hold={text}" for text in hold]
        status, output, errors = megadance(*command, *options, "-o", "x.npz")
        assert status == 2 and message in errors and len(errors.strip().splitlines()) == 1, errors
    assert files() == ["dance.npz", "held.npz", "pose.npz"]
    command = ["redo", "held.npz", "--song", song, "--model", model, "--start", "0", "--end", "2.1", "--seed", 2]
    status, _, errors = megadance(*command, "--hold", "0.3=pose.npz", "-o", "met.npz")
    assert status == 0, errors
    assert Motion.load("met.npz").metadata["hold"] == [[0.3, 0.3333], [2.4667, 2.5]]
    status, output, errors = megadance(*command, "--hold", "1.7=pose.npz", "-o", "x.npz")
    assert (status, output) == (2, "") and "give some within 0.00 and 1.53 s, or a longer passage" in errors, errors


# --- help ------------------------------------------------------------------------------------------------------------


def test_help_has_examples_and_all_formats(megadance):
    status, output, _ = megadance("--help")
    assert (
        status == 0 and "megadance generate song.mp3 -o dance.mp4" in output and "genres" in output and "info" in output
    )
    status, output, _ = megadance("generate", "--help")
    assert status == 0
    assert all(suffix in output for suffix in KNOWN_SUFFIXES), "every format is explained"
    assert all(
        option in output for option in ("--genre", "--seed", "--start", "--duration", "--num", "--mode", "--top-k")
    )
    assert megadance("--version")[:2] == (0, f"megadance {__version__}\n")


def test_repeated_choices_are_those_of_the_library():
    assert sorted(generate.MODES) == sorted(MODES)
    assert generate.CHANGES == CHANGES
    assert redo.PARTS == ("all", *BODY_PARTS)
    assert outputs.BONES == tuple(export._BVH_BONES)
    assert options.BODIES == bodies.BODIES


def test_help_and_mistakes_import_nothing_heavy(repository):
    """As its own process, by its module name."""
    code = (
        "import runpy, sys\n"
        "sys.argv = ['megadance', *sys.argv[1:]]\n"
        "try: runpy.run_module('megadance_hf.cli', run_name='__main__')\n"
        "finally: print([m for m in ('torch', 'numpy', 'transformers', 'librosa') if m in sys.modules])\n"
    )
    helps = ((["generate", "--help"], 0), (["prepare", "finedance", "--help"], 0))
    for arguments, status in (*helps, (["generate", "x.wav", "--num", "0", "-o", "x.npz"], 2)):
        ran = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300, cwd=repository
        )
        assert ran.returncode == status, ran.stderr
        assert ran.stdout.splitlines()[-1] == "[]"


# --- data sets -------------------------------------------------------------------------------------------------------


def raw_mocap(folder, names=("cmu_05_01", "cmu_05_09", "short")):
    """The smallest raw folder: `cmu_05_09` is for testing, `short` cannot be used."""
    (folder / "motions").mkdir(parents=True)
    for name in names:
        poses = np.zeros((5 if name == "short" else 30, 72), np.float32)
        np.savez(folder / "motions" / f"{name}.npz", smpl_poses=poses, smpl_trans=poses[:, :3], fps=np.array(30))
    lines = [json.dumps({"id": name, "genre": "walk", "music": None}) for name in names]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def test_prepare_says_what_is_in_it(megadance, tmp_path):
    raw = raw_mocap(tmp_path / "raw")
    status, output, errors = megadance("prepare", "mocap", raw, "out/mocap")
    assert status == 0, errors
    assert output.startswith("out/mocap: 2 clips made, 0 kept from an earlier run\n") and "preparing 100%" in errors
    assert re.search(r"walk +1 \(0\.0 min\) +1 \(0\.0 min\)\n", output)
    assert "left out short: only 5 frames, at least 16 are needed\n" in output
    assert {clip.id: clip.split for clip in read_prepared("out/mocap")} == {"cmu_05_01": "train", "cmu_05_09": "test"}
    again = megadance("prepare", "mocap", raw, "out/mocap")
    assert again[0] == 0 and "0 clips made, 2 kept" in again[1]


def test_prepare_passes_its_options_on(megadance, monkeypatch):
    """Every data set takes the options that its command has, and those that are left out are its own defaults."""
    asked = {}
    for name in OWN:
        module = importlib.import_module(f"megadance_hf.datasets_scripts.{name}")
        signature = inspect.signature(module.prepare)

        def prepare(signature=signature, name=name, **options):
            signature.bind(**options)
            shared = inspect.signature(prepare_clips).parameters
            defaults = {key: item.default for key, item in {**shared, **signature.parameters}.items()}
            asked[name] = {key: value for key, value in options.items() if value != defaults[key]}
            return "done"

        monkeypatch.setattr(module, "prepare", prepare)
    assert megadance("prepare", "finedance", "RAW", "OUT")[:2] == (0, "done\n")
    assert asked["finedance"] == {"raw": "RAW", "out": "OUT"}
    options = ("--split", "dancer", "--validation", 4, "--hands", "none", "--num-proc", 3, "--keep-jumps")
    assert megadance("prepare", "finedance", "RAW", "OUT", *options)[0] == 0
    assert asked["finedance"] == {"raw": "RAW", "out": "OUT", "num_proc": 3, "jumps": "keep"} | {
        "split": "dancer",
        "validation": 4,
        "hands": "none",
    }
    assert megadance("prepare", "aistpp", "RAW", "OUT", "--music", "SONGS")[0] == 0
    assert asked["aistpp"] == {"raw": "RAW", "out": "OUT", "music": "SONGS"}
    assert megadance("prepare", "ballroom", "RAW", "OUT", "--keep-jumps")[0] == 0
    assert asked["ballroom"] == {"raw": "RAW", "out": "OUT", "jumps": "keep"}
    assert megadance("prepare", "synthetic", "OUT", "--clips", 3, "--seconds", 4, "--seed", 5)[0] == 0
    assert asked["synthetic"] == {"out": "OUT", "clips": 3, "seconds": 4, "seed": 5}


def test_prepare_pushes_when_asked(megadance, tmp_path, monkeypatch):
    calls, asked = [], []
    monkeypatch.setattr(datasets, "push_dataset", lambda *call: calls.append(call) or "https://hub/me/walks")
    monkeypatch.setattr(connection, "check_hub", asked.append)
    raw = raw_mocap(tmp_path / "raw")
    assert megadance("prepare", "mocap", raw, "out")[0] == 0 and calls == []
    status, output, _ = megadance("prepare", "mocap", raw, "out", "--push", "walks")
    assert (
        status == 0
        and output.endswith("pushed to https://hub/me/walks (private)\n")
        and calls == [("out", "walks", False)]
    )
    assert asked == ["walks"], "the Hub is asked before anything is prepared"


def test_prepare_tells_mistakes_in_one_line(megadance, tmp_path, monkeypatch):
    (tmp_path / "a file").touch()
    raw = raw_mocap(tmp_path / "raw")
    useless = raw_mocap(tmp_path / "useless", names=("short",))
    cases = [
        (["mocap", tmp_path, "out"], "has no metadata.jsonl; give the folder as it was downloaded"),
        (["finedance", tmp_path, "out"], "has no folder motion/"),
        (["aistpp", tmp_path, "out"], "has no splits/crossmodal_train.txt"),
        (["mocap", useless, "out"], "none of 1 clips could be used; short: only 5 frames"),
        (["mocap", raw, tmp_path / "a file" / "out"], "check that RAW can be read and OUT written"),
        (["mocap", raw], "required: OUT"),
        (["finedance", raw, "out", "--split", "music"], "--split.*'music'"),
        (["synthetic", "out", "--clips", "0"], "--clips: '0' cannot be used"),
        (["synthetic", "out", "--seconds", "1"], "--seconds: '1' cannot be used: give a number of 2 or more"),
        (["kinect", raw, "out"], "'kinect'.*finedance"),
        ([], "required: SET"),
    ]
    for arguments, message in cases:
        status, output, errors = megadance("prepare", *arguments)
        assert (status, output) == (2, "") and re.search(message, errors.splitlines()[-1]), (arguments, errors)
        assert re.fullmatch(r"megadance prepare.*: error: .+", errors.splitlines()[-1])
    assert not os.path.exists("out/info.json")

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(mocap, "prepare", interrupted)
    status, _, errors = megadance("prepare", "mocap", raw, "out")
    assert status == 130 and "what is done is kept, the same command goes on" in errors


# --- bad input -------------------------------------------------------------------------------------------------------

BAD_ARGUMENTS = [
    (["--num", "0"], "--num: '0' cannot be used: give a whole number of 1 or more"),
    (["--num", "1.5"], "--num: '1.5'"),
    (["--seed", "-1"], "--seed: '-1' cannot be used: give a whole number of 0 or more"),
    (["--seed", "x"], "--seed: 'x'"),
    (["--duration", "-3"], "--duration: '-3' cannot be used: give a number above 0"),
    (["--duration=0"], "--duration: '0'"),
    (["--duration", "nan"], "--duration: 'nan'"),
    (["--duration", "inf"], "--duration: 'inf'"),
    (["--start", "-0.5"], "--start: '-0.5' cannot be used: give a number of 0 or more"),
    (["--temperature", "0"], "--temperature: '0' cannot be used: give a number above 0"),
    (["--top-k", "-1"], "--top-k: '-1'"),
    (["--mode", "fast"], "--mode.*'fast'.*paper"),
    (["--colour", "red"], "--colour"),
    (["-o", "dance.mp5"], "-o: .*dance.mp5.*'.mp5' is not known; end the name in one of .npz"),
    (["-o", "dance"], "-o: .*no suffix"),
    (["-o", "no/such/folder/d.npz"], "-o: .*'no/such/folder' does not exist"),
    (["-o", "d.npz"], "-o: .*d.npz' is to be written twice"),
    (["--genre", "waltzz"], "genre='waltzz' is unknown: did you mean 'waltz'.*chacha, rumba, waltz"),
    (["--genre", "polka"], "genre='polka' is unknown: The genres are chacha, rumba, waltz"),
    (["--model", "no-such-model"], "model='no-such-model' is no folder here"),
    (["--model", "owner/no-such-model"], "model='owner/no-such-model' cannot be loaded"),
    (["--start", "2.6"], "start=2.6.*ends at 2.50 s; give an earlier start"),
    (["--duration", "0.1"], "too short"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS, ids=[" ".join(case[0]) for case in BAD_ARGUMENTS])
def test_bad_arguments(megadance, model, song, arguments, message):
    status, output, errors = megadance("generate", song, "--model", model, "-o", "d.npz", *arguments)
    assert (status, output, files()) == (2, "", [])
    assert re.fullmatch(r"megadance( generate)?: error: .+\n", errors) and re.search(message, errors), errors


def spoilt_song(kind, folder):
    path = folder / f"{kind.replace(' ', '_')}.wav"
    if kind == "missing":
        pass
    elif kind == "a folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "truncated":
        whole = write_song(folder / "whole.wav").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "truncated mp3":
        path = path.with_suffix(".mp3")
        whole = write_song(folder / "whole.mp3", seconds=4).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "silent":
        soundfile.write(path, np.zeros(22050), 22050)
    elif kind == "short":
        write_song(path, seconds=0.1)
    elif kind == "nan":
        waveform = click_song(1.0)
        waveform[1000:2000] = np.nan
        soundfile.write(path, waveform, 22050, subtype="FLOAT")
    elif kind == "text":
        path.write_text("this is not music\n" * 100, encoding="utf-8")
    elif kind == "picture":
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "does not exist: give the path"),
        ("a folder", "is a folder: give the path"),
        ("empty", r"is empty \(0 bytes\): give a sound file"),
        ("truncated", "is cut short .*fetch it again"),
        ("truncated mp3", "is cut short .*fetch it again"),
        ("silent", "is silent .*give a sound"),
        ("short", "lasts 0.1 s, which is too short: give at least"),
        ("nan", "holds NaN .*export the sound again"),
        ("text", "is not audio.*give a wav"),
        ("picture", "is not audio.*give a wav"),
    ],
)
def test_bad_songs(megadance, model, tmp_path, kind, message):
    path = spoilt_song(kind, tmp_path)
    status, output, errors = megadance("generate", path, "--model", model, "-o", "d.npz")
    assert (status, output, files()) == (2, "", [])
    assert re.fullmatch(r"megadance generate: error: .+\n", errors), errors
    assert re.search(message, errors) and path.name in errors


def test_stereo_at_44100_is_fine(megadance, model, tmp_path):
    path = write_song(tmp_path / "stereo.flac", seconds=1.5, rate=44100, channels=2)
    assert megadance("generate", path, "--model", model, "-o", "d.npz")[0] == 0
    assert len(Motion.load("d.npz")) == 45


def test_a_song_that_comes_through_a_pipe(megadance, model, song, monkeypatch):
    expected = MusicToDancePipeline.from_pretrained(model)(song, seed=3)

    def piped():
        reading, writing = os.pipe()
        threading.Thread(target=lambda: (os.write(writing, song.read_bytes()), os.close(writing))).start()
        return reading

    monkeypatch.setattr(sys, "stdin", open(piped()))  # noqa: SIM115
    assert (
        megadance("generate", "-", "--model", model, "--seed", 3, "-o", "a.npz", "-o", "a.mp4", "--bundle", "b")[0] == 0
    )
    assert sorted(os.listdir("b")) == ["HOWTO.txt", "dance.bvh", "dance.glb", "open_in_blender.py", "song.wav"]
    assert np.array_equal(Motion.load("a.npz").poses, expected.poses)
    status, _, errors = megadance("generate", f"/dev/fd/{piped()}", "--model", model, "--seed", 3, "-o", "b.npz")
    assert status == 0, errors
    assert np.array_equal(Motion.load("b.npz").poses, expected.poses)
    monkeypatch.setattr(sys, "stdin", open(piped()))  # noqa: SIM115
    assert megadance("export", "a.npz", "--music", "-", "-o", "c.mp4", "-o", "d.mp4")[0] == 0
    monkeypatch.setattr(sys, "stdin", None)
    status, _, errors = megadance("generate", "-", "--model", model, "-o", "e.npz")
    assert status == 2 and "argument SONG: '-' is what comes in through a pipe, and none is there" in errors


def test_the_song_is_not_replaced_by_its_dance(megadance, model, song):
    content = song.read_bytes()
    Path("song.mp4").write_bytes(content)
    Path("song-2.mp4").write_bytes(content)
    Path("link.mp4").symlink_to("song.mp4")
    os.link("song.mp4", "hard.mp4")
    Path("dance.npz").write_bytes(b"a dance")
    before = files()
    for arguments in (
        ["generate", "song.mp4", "-o", "song.mp4"],
        ["generate", "song.mp4", "-o", "a.npz", "-o", "../here/song.mp4"],
        ["generate", "song.mp4", "-o", "link.mp4"],
        ["generate", "song.mp4", "-o", "hard.mp4"],
        ["generate", "link.mp4", "-o", "song.mp4"],
        ["generate", "song-2.mp4", "-o", "song.mp4", "--num", "3"],
        ["export", "dance.npz", "-o", "./dance.npz"],
        ["export", "dance.npz", "--music", "song.mp4", "-o", "link.mp4"],
    ):
        status, output, errors = megadance(*arguments, *(["--model", model] if arguments[0] == "generate" else []))
        assert (status, output) == (2, "") and re.search(
            "-o: '.*' is .* itself, which would be replaced: give another", errors
        )
    assert files() == before and Path("song.mp4").read_bytes() == content


def test_unwritable_outputs(megadance, model, song, monkeypatch, tmp_path):
    (tmp_path / "a file").touch()
    os.mkdir("folder.npz")
    os.mkdir("taken-2.npz")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    cases = [
        (["-o", tmp_path / "a file" / "d.npz"], "does not exist"),
        (["-o", "folder.npz"], "is a folder"),
        (["--num", "2", "-o", "taken.npz"], "taken-2.npz' is a folder"),
        (["-o", "/proc/d.npz"], "cannot be written|no permission"),
    ]
    if os.geteuid() != 0:  # to root nothing is closed
        cases.append((["-o", closed / "d.npz"], "no permission"))
    for arguments, message in cases:
        began = time.perf_counter()
        status, output, errors = megadance("generate", song, "--model", model, *arguments)
        assert (status, output) == (2, "") and re.search(message, errors) and errors.count("\n") == 1, errors
        assert "-o" in errors and time.perf_counter() - began < 20
    assert files() == ["folder.npz", "taken-2.npz"] and not os.listdir("taken-2.npz")


def test_an_error_while_writing_leaves_nothing(megadance, model, song, monkeypatch):
    """The first file is finished, the second fails: none is there, and what stood there before still is."""
    with open("a.npz", "w") as file:
        file.write("old")
    from megadance_hf.export import bvh as export
    from megadance_hf.motion.motion import MotionError

    def full(motion, path, bones):
        raise MotionError(f"path={str(path)!r} cannot be written: No space left on device")

    monkeypatch.setattr(export, "save_bvh", full)
    status, output, errors = megadance(
        "generate", song, "--model", model, "--genre", "waltz", "-o", "a.npz", "-o", "b.bvh"
    )
    assert (status, output) == (2, "") and "No space left" in errors
    assert files() == ["a.npz"] and open("a.npz").read() == "old"


def test_ctrl_c_leaves_nothing(megadance, model, song, monkeypatch):
    from megadance_hf.export import bvh as export

    def interrupted(motion, path, bones):
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "save_bvh", interrupted)
    status, _, errors = megadance("generate", song, "--model", model, "-o", "a.npz", "-o", "b.bvh")
    assert status == 130 and "nothing was written" in errors and files() == []


def test_a_bug_is_raised_and_not_reported_as_a_mistake_of_the_user(megadance, model, song, monkeypatch):
    def broken(*args, **kwargs):
        raise ValueError("deep inside")

    monkeypatch.setattr(MusicToDancePipeline, "_forward", broken)
    with pytest.raises(ValueError, match="deep inside"):
        megadance("generate", song, "--model", model, "-o", "a.npz")
    assert files() == []


def test_other_commands_refuse_unknown_models(megadance, tmp_path):
    for command in (["genres", "--model", tmp_path], ["info", tmp_path], ["info", "nothing"]):
        status, output, errors = megadance(*command)
        assert (status, output) == (2, "") and errors.startswith(f"megadance {command[0]}: error: model=")
        assert errors.count("\n") == 1
    for command in ([], ["dance"], ["generate"], ["generate", "song.wav"]):
        status, output, errors = megadance(*command)
        assert (status, output) == (2, "") and re.fullmatch(r"megadance.*: error: .+\n", errors)


@pytest.mark.versions
def test_as_a_process(model, song, tmp_path, repository):
    """Once for real: status, streams and files of the installed command's module."""
    command = [sys.executable, "-m", "megadance_hf.cli", "generate"]
    environment = {**os.environ, "PYTHONPATH": str(repository)}

    def run(*arguments):
        return subprocess.run(
            [*command, *map(str, arguments)], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=600
        )

    bad = run(tmp_path / "no.wav", "--model", model, "-o", "d.npz")
    assert (bad.returncode, bad.stdout) == (2, "") and re.fullmatch(
        r"megadance generate: error: .+no.wav.+\n", bad.stderr
    )
    good = run(song, "--model", model, "--duration", 0.5, "-o", "d.npz")
    assert good.returncode == 0, good.stderr
    assert "Warning" not in good.stderr and "wrote d.npz" in good.stdout
    assert os.listdir(tmp_path) == ["d.npz"]


def test_the_bundled_model_is_the_default(megadance):
    if "ballroom" not in bundled_models():
        skip_outside_ci("the bundled model is not there yet")
    assert megadance("genres") == (0, "waltz\ntango\nrumba\nchacha\n", "")
    assert megadance("info")[0] == 0
