"""Blender opens what is written for it: joints where forward kinematics has them, the frames' rate and number, the sound
under the first frame. Blender is the installed one; `.ci/run` sees to it that there is one."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import save_tiny_model, skip_outside_ci, write_song

from megadance_hf.cli import command as cli
from megadance_hf.modeling.kinematics_megadance import JOINT_NAMES
from megadance_hf.motion.humanoid import BVH_NAMES, MIXAMO_NAMES
from megadance_hf.motion.mannequin import SOLE_THICKNESS
from megadance_hf.motion.motion import Motion

pytestmark = pytest.mark.slow
PROBE = Path(__file__).with_name("blender_probe.py")
SECONDS = 3.43  # of the song: not a whole number of frames


@pytest.fixture(scope="module")
def blender() -> str:
    if path := shutil.which("blender"):
        return path
    skip_outside_ci("no blender is installed (on Debian: apt-get install blender python3-numpy)")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """A folder as `megadance generate --bundle` makes it, and beside it the dance: dance.npz, dance.vrma, mixamo.bvh."""
    folder = tmp_path_factory.mktemp("dance")
    song = write_song(folder / "song.ogg", seconds=SECONDS, rate=44100, channels=2)
    model = save_tiny_model(folder / "tiny")
    outputs = ["-o", str(folder / "dance.npz"), "--bundle", str(folder / "bundle")]
    assert cli.main(["generate", str(song), "--model", str(model), "--genre", "waltz", "--seed", "3", *outputs]) == 0
    Motion.load(folder / "dance.npz").save(folder / "mixamo.bvh", bones="mixamo")
    return folder / "bundle"


@pytest.fixture(scope="module")
def dance(bundle) -> Motion:
    return Motion.load(bundle.parent / "dance.npz")


def run_blender(blender: str, out: Path, *arguments: str, file: Path | None = None) -> dict:
    """What the probe finds after Blender has opened `file` or has run with `arguments`."""
    environment = {**os.environ, "PROBE_OUT": str(out), **({"PROBE_IMPORT": str(file)} if file else {})}
    scripts = [*arguments[:2], "--python", str(PROBE), *arguments[2:]]
    command = [blender, "--background", "--factory-startup", "--python-exit-code", "1", *scripts]
    run = subprocess.run(command, env=environment, cwd=out.parent, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0 and out.is_file(), run.stdout[-3000:] + run.stderr[-3000:]
    return json.loads(out.read_text())


def check_places(scene: dict, dance: Motion, names: dict[str, str], raised: float) -> None:
    """Within a millimetre at ten frames. Blender's Z is up and its -Y in front: (x, y, z) here is (x, -z, y) there."""
    joints, expected = list(names), dance.joints() + np.array([0, raised, 0])
    assert len(scene["places"]) == 10 and {0, len(dance) - 1} <= set(map(int, scene["places"]))
    for frame, places in scene["places"].items():
        assert set(names.values()) <= set(places), "every joint is a bone"
        found = np.array([places[names[joint]] for joint in joints])
        ours = expected[int(frame)][[JOINT_NAMES.index(joint) for joint in joints]]
        np.testing.assert_allclose(found, ours[:, [0, 2, 1]] * [1, -1, 1], atol=1e-3, err_msg=f"frame {frame}")


def test_the_dance_is_as_long_as_its_song(dance):
    assert len(dance) == round(SECONDS * 30) == 103
    assert np.abs(np.diff(dance.joints(), axis=0)).max() > 0.01, "something moves, else places prove nothing"


@pytest.mark.parametrize(("file", "names"), [("bundle/dance.bvh", BVH_NAMES), ("mixamo.bvh", MIXAMO_NAMES)])
def test_bvh(blender, bundle, dance, tmp_path, file, names):
    scene = run_blender(blender, tmp_path / "out.json", file=bundle.parent / file)
    assert scene["fps"] == 30
    assert scene["action"] == [1, len(dance)], "as HOWTO.txt says"
    check_places(scene, dance, names, raised=0)


def test_glb(blender, bundle, dance, tmp_path):
    scene = run_blender(blender, tmp_path / "out.json", file=bundle / "dance.glb")
    assert scene["action"] == [0, len(dance) - 1], "as HOWTO.txt says"
    check_places(scene, dance, dict(zip(JOINT_NAMES, JOINT_NAMES, strict=True)), raised=SOLE_THICKNESS)


def test_the_bundles_script_opens_the_dance_in_time_with_its_sound(blender, bundle, dance, tmp_path):
    script = str(bundle / "open_in_blender.py")
    scene = run_blender(blender, tmp_path / "out.json", "--python", script, "--", "--fbx", "dance.fbx")
    frames = len(dance)
    assert scene["fps"] == 30 and scene["sync"] == "AUDIO_SYNC"
    assert scene["objects"] == ["ARMATURE", "MESH"], "Blender's own cube does not stand where the dancer dances"
    ((start, duration, path),) = scene["sounds"]
    assert start == scene["action"][0] == scene["range"][0], "the first sample is heard at the first pose"
    assert duration == frames and scene["action"][1] == scene["range"][1] == start + frames - 1
    assert Path(path) == bundle / "song.wav"
    assert soundfile.info(path).frames == frames * 44100 // 30
    names = dict(zip(JOINT_NAMES, JOINT_NAMES, strict=True))
    check_places(scene, dance, names, raised=SOLE_THICKNESS)

    back = run_blender(blender, tmp_path / "back.json", file=tmp_path / "dance.fbx")
    assert back["objects"] == ["ARMATURE", "MESH"] and np.ptp(back["action"]) == frames - 1
    check_places(back, dance, names, raised=SOLE_THICKNESS)
