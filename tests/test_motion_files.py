"""The doors: every suffix, what is noted, warned of and refused; at the command line too."""

import json
import pickle
import warnings

import numpy as np
import pytest
from raw_folders import RealClip, finedance_motion
from test_skeletons import names_of, other_bvh

from megadance_hf.cli.command import main
from megadance_hf.modeling.kinematics_megadance import JOINT_NAMES
from megadance_hf.motion import layouts, up_axis
from megadance_hf.motion.motion import Motion, MotionError

pytestmark = pytest.mark.versions


@pytest.fixture(scope="module")
def dance(ballroom_dir) -> Motion:
    return Motion.load(ballroom_dir / "motions" / "waltz_8.npz")[300:360]


def z_up(dance: Motion) -> dict:
    turned, path = up_axis.to_y_up(dance.poses, dance.translation, "-z")  # the way from Y up to Z up
    return {
        "smpl_poses": turned.reshape(len(dance), -1),
        "smpl_trans": path,
        "full_pose": np.zeros((len(dance), 24, 3)),
    }


def same(loaded: Motion, dance: Motion, atol: float = 1e-4) -> bool:
    return bool(np.abs(loaded.joints()[:, :22] - dance.joints()[:, :22]).max() < atol)


@pytest.mark.parametrize("suffix", [".npz", ".pkl", ".pickle", ".json", ".NPZ"])
def test_named_arrays_in_any_format(tmp_path, dance, suffix):
    path, content = tmp_path / f"edge{suffix}", z_up(dance)
    if suffix.lower() == ".npz":
        with path.open("wb") as file:
            np.savez(file, **content, junk=np.array([object()]))
    elif suffix == ".json":
        path.write_text(json.dumps({key: value.tolist() for key, value in content.items()}))
    else:
        path.write_bytes(pickle.dumps(content))
    loaded = Motion.load(path)
    assert same(loaded, dance) and loaded.fps == 30
    assert loaded.metadata["notes"] == [
        "no frame rate in the file: 30 fps, that of EDGE",
        "turned from Z up to Y up: that is where the head is above the feet",
    ]
    assert Motion.load(loaded.save(tmp_path / "ours.npz")).metadata == loaded.metadata, "kept, and not said twice"


@pytest.mark.parametrize("columns", [315, 319, 139, 168])
def test_finedance_columns(tmp_path, dance, columns):
    clip = RealClip(dance.poses.reshape(-1, 72), dance.translation, np.zeros(1), 1)
    np.save(tmp_path / "001.npy", finedance_motion(clip, columns))
    loaded = Motion.load(tmp_path / "001.npy")
    assert same(loaded, dance, 1e-3) and loaded.fps == 30
    np.testing.assert_allclose(loaded.translation, dance.translation, atol=1e-5)


def test_motion_x_columns(tmp_path, dance):
    array = np.zeros((len(dance), 322))
    array[:, :66] = dance.poses[:, :22].reshape(-1, 66)
    array[:, 309:312] = dance.translation - layouts.SMPLX_PELVIS
    np.save(tmp_path / "x.npy", array)
    assert same(Motion.load(tmp_path / "x.npy"), dance)


@pytest.mark.parametrize("count", [22, 24])
def test_unnamed_joint_positions(tmp_path, dance, count):
    np.save(tmp_path / "a.npy", 100 * dance.joints()[:, :count])
    with pytest.warns(UserWarning, match="a.npy: no frame rate in the file: 30 fps assumed .*fps="):
        loaded = Motion.load(tmp_path / "a.npy")
    assert same(loaded, dance, 0.002)
    assert "1 unit is 0.01 m" in loaded.metadata["notes"][0]
    np.save(tmp_path / "a.npy", dance.poses[:, :count])
    with pytest.raises(MotionError, match="no positions of joints.*store them with a translation in a .npz"):
        Motion.load(tmp_path / "a.npy")


def test_a_dictionary_in_a_npy(tmp_path, dance):
    np.save(tmp_path / "a.npy", z_up(dance), allow_pickle=True)
    assert same(Motion.load(tmp_path / "a.npy"), dance)


def test_joint_positions_with_names_of_other_tools(tmp_path, dance):
    order = list(range(21, -1, -1))
    content = {"joints": dance.joints()[:, order].tolist(), "fps": 25}
    content["joint_names"] = [names_of("cmu")[joint] for joint in order]
    (tmp_path / "a.json").write_text(json.dumps(content))
    loaded = Motion.load(tmp_path / "a.json")
    assert loaded.fps == 25 and same(loaded, dance)
    assert any("fitted to its joints" in note and "estimated" in note for note in loaded.metadata["notes"])
    del content["joint_names"]
    content["joints"] = dance.joints()[:, :17].tolist()
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(MotionError, match="17 joints and joint_names does not say which"):
        Motion.load(tmp_path / "a.json")


def test_our_own_files_are_loaded_unchanged(tmp_path, dance):
    """Even where a dance of ours hangs in the air or lies: its files say what they mean."""
    hanging = Motion(dance.poses, dance.translation + np.float32([0, 0.7, 0]), metadata={"seed": 1})
    for name in ("a.npz", "a.pkl", "a.smplx.npz", "a.bvh", "a.joints.npz", "a.json"):
        loaded = Motion.load(hanging.save(tmp_path / name))
        assert same(loaded, hanging)
        fitted = name in ("a.joints.npz", "a.json")
        assert len(loaded.metadata.get("notes", [])) == fitted, "only the fit is said"


def test_notes_tell_how_well_joints_were_fitted(tmp_path, dance):
    loaded = Motion.load(dance.save(tmp_path / "a.joints.npz"))
    assert "cm off on average" in loaded.metadata["notes"][0]
    assert tuple(JOINT_NAMES) == tuple(np.load(tmp_path / "a.joints.npz")["joint_names"])


def test_a_guessed_rate_is_warned_of_a_known_one_is_not(tmp_path, dance):
    np.savez(tmp_path / "a.npz", poses=dance.poses.reshape(-1, 72), trans=dance.translation)
    with pytest.warns(UserWarning, match="30 fps assumed"):
        assert "30 fps assumed" in Motion.load(tmp_path / "a.npz").metadata["notes"][0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Motion.load(tmp_path / "a.npz", fps=60).metadata == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"genre": "x" * 1_000_000}, "genre='xxx.*at most 100 printable"),
        ({"genre": "a\nb"}, "genre="),
        ({"fps": 1e300}, r"fps=1e\+300"),
        ({"poses": np.full((60, 72), 1e38)}, r"poses has 1e\+38"),
        ({"poses": np.zeros((60, 72), complex)}, "complex"),
        ({"trans": np.full((60, 3), 1e20)}, r"1e\+20"),
        ({"trans": np.zeros((61, 3))}, r"trans has shape \(61, 3\), poses has 60 frames"),
        ({"metadata": "[1]"}, "metadata holds no JSON object"),
        ({"metadata": "{" * 9999}, "metadata holds no JSON object"),
        ({"metadata": np.zeros(3)}, "metadata holds no JSON object"),
    ],
)
@pytest.mark.parametrize("suffix", [".npz", ".pkl"])
def test_errors_name_file_and_key(tmp_path, dance, suffix, change, message):
    content = {"poses": dance.poses.reshape(-1, 72), "trans": dance.translation, "fps": 30, "genre": "waltz"} | change
    path = tmp_path / f"odd{suffix}"
    if suffix == ".npz":
        np.savez(path, **content)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(MotionError, match=message) as caught:
        Motion.load(path)
    assert f"odd{suffix}" in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_too_long_and_too_large_are_refused_early(tmp_path, monkeypatch, dance):
    monkeypatch.setattr(layouts, "MAX_FRAMES", 50)
    monkeypatch.setattr("megadance_hf.motion.files.MAX_TEXT", 100)
    np.savez(tmp_path / "a.npz", poses=dance.poses, trans=dance.translation, fps=30)
    with pytest.raises(MotionError, match="60 frames, the limit is 50: cut it"):
        Motion.load(tmp_path / "a.npz")
    with pytest.raises(MotionError, match="the limit is 100: cut it"):
        Motion.load(dance.save(tmp_path / "a.json"))


def test_folders_and_unknown_suffixes(tmp_path):
    (tmp_path / "a.npz").mkdir()
    with pytest.raises(MotionError, match="is a folder; give a file with a motion"):
        Motion.load(tmp_path / "a.npz")
    for fps, up, message in ((0, None, "fps=0.0"), (1e19, None, r"fps=1e\+19"), (None, "sky", "up='sky'")):
        np.savez(tmp_path / "b.npz", poses=np.zeros((3, 72)), trans=np.zeros((3, 3)))
        with pytest.raises(MotionError, match=message):
            Motion.load(tmp_path / "b.npz", fps=fps, up=up)


# --- the command line ----------------------------------------------------------------------------------------------------


def test_export_prints_its_notes(tmp_path, dance, capsys):
    (tmp_path / "take.bvh").write_text(other_bvh(dance, names_of("unreal"), up=up_axis.y_up_rotation("z").T))
    assert main(["export", str(tmp_path / "take.bvh"), "-o", str(tmp_path / "a.npz")]) == 0
    out, err = capsys.readouterr()
    assert "wrote" in out and "take.bvh: turned from Z up to Y up" in err and "fitted to its joints" in err
    assert same(Motion.load(tmp_path / "a.npz"), dance, 2e-3)


def test_export_takes_an_axis_and_a_rate(tmp_path, dance, capsys):
    content = z_up(dance)
    np.savez(tmp_path / "in.npz", poses=content["smpl_poses"], trans=content["smpl_trans"])
    command = ["export", str(tmp_path / "in.npz"), "-o", str(tmp_path / "a.npz")]
    assert main([*command, "--up", "z", "--fps", "60"]) == 0
    assert "as told" in capsys.readouterr().err
    loaded = Motion.load(tmp_path / "a.npz")
    assert loaded.fps == 60 and same(loaded, dance)
    assert main(command) == 0 and "30 fps assumed" in capsys.readouterr().err
    for option, message in ((["--up", "w"], "up='w'"), (["--fps", "5000"], "fps=5000.0")):
        assert main([*command, *option]) == 2 and message in capsys.readouterr().err
    assert main([*command, "--up", "-y"]) == 0 and "turned from minus Y up" in capsys.readouterr().err
