import os
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from megadance_hf.modeling import kinematics_megadance as kinematics
from megadance_hf.motion import formats
from megadance_hf.motion.formats import KNOWN_SUFFIXES, register_format
from megadance_hf.motion.motion import Motion, MotionError, atomic_path, check_output

pytestmark = pytest.mark.versions


def random_motion(frames: int = 20, seed: int = 0, fps: float = 30.0) -> Motion:
    """A smooth random dance."""
    generator = np.random.default_rng(seed)
    poses = np.cumsum(generator.normal(0, 0.05, (frames, 24, 3)), 0) + generator.normal(0, 0.3, (24, 3))
    translation = np.cumsum(generator.normal(0, 0.02, (frames, 3)), 0) + (0, 0.95, 0)
    return Motion(poses, translation, fps=fps, genre="waltz", metadata={"seed": seed})


def assert_same_rotations(one: np.ndarray, other: np.ndarray, atol: float) -> None:
    between = Rotation.from_rotvec(one.reshape(-1, 3)).inv() * Rotation.from_rotvec(other.reshape(-1, 3))
    assert between.magnitude().max() < atol


# --- what a motion is ----------------------------------------------------------------------------------------------


def test_arrays_become_float32_and_72_columns_are_taken():
    motion = Motion(np.zeros((5, 72)), torch.zeros(5, 3, dtype=torch.float64))
    assert motion.poses.shape == (5, 24, 3) and motion.poses.dtype == np.float32
    assert motion.translation.dtype == np.float32 and motion.fps == 30.0 and motion.genre is None
    assert len(motion) == 5 and motion.seconds == pytest.approx(5 / 30)
    assert repr(motion) == "Motion(5 frames, 0.17 s at 30 fps)"


@pytest.mark.parametrize(
    ("poses", "translation", "fps", "message"),
    [
        (np.zeros((5, 23, 3)), np.zeros((5, 3)), 30, r"poses has shape \(5, 23, 3\).*\(frames, 24, 3\)"),
        (np.zeros((5, 24, 3)), np.zeros((4, 3)), 30, r"translation has shape \(4, 3\).*\(5, 3\)"),
        (np.zeros((0, 24, 3)), np.zeros((0, 3)), 30, "no frames"),
        (np.zeros((5, 24, 3)), np.full((5, 3), np.nan), 30, "translation has NaN.*5 frames, the first is 0"),
        (np.zeros((5, 24, 3)), np.zeros((5, 3)), 0, "fps=0.0"),
        (np.zeros((5, 24, 3)), np.zeros((5, 3)), float("nan"), "fps=nan"),
        (np.zeros((5, 24, 3)), np.zeros((5, 3)), 1e300, r"fps=1e\+300: give frames per second from 1 to 1000"),
        (np.zeros((5, 24, 3)), np.zeros((5, 3)), 1j, "fps=.*give one number"),
        (np.full((5, 24, 3), 1e38), np.zeros((5, 3)), 30, r"poses has 1e\+38 in frame 0.*100 radians"),
        (np.zeros((5, 24, 3)), np.full((5, 3), 1e20), 30, r"translation has 1e\+20.*10000 metres"),
        (np.zeros((5, 24, 3)), np.full((5, 3), 1e300), 30, r"translation has 1e\+300"),
        (np.zeros((5, 24, 3), complex), np.zeros((5, 3)), 30, "poses is not an array of numbers: .*complex"),
        (np.full((5, 24, 3), "1"), np.zeros((5, 3)), 30, "poses is not an array of numbers: .*text"),
        ("dance", np.zeros((5, 3)), 30, "poses is not an array of numbers"),
    ],
)
def test_what_is_not_a_motion_is_refused(poses, translation, fps, message):
    with pytest.raises(MotionError, match=message):
        Motion(poses, translation, fps=fps)


@pytest.mark.parametrize("genre", ["x" * 1_000_000, "wal\ntz", "\x1b[31m", "\udc80", 5, ["waltz"]])
def test_genres_are_short_printable_names(genre):
    with pytest.raises(MotionError, match="genre=.*give a name of at most 100 printable characters") as caught:
        Motion(np.zeros((5, 24, 3)), np.zeros((5, 3)), genre=genre)
    assert len(str(caught.value)) < 200 and str(caught.value).isprintable()


def test_joints_equal_a_loop_down_the_tree():
    motion = random_motion(3)
    joints, rotations = motion.joints(), motion.global_rotations()
    for frame in range(3):
        turned, at = [], []
        for joint, parent in enumerate(kinematics.PARENTS):
            own = Rotation.from_rotvec(motion.poses[frame, joint])
            if parent < 0:
                turned.append(own)
                at.append(motion.translation[frame].astype(float))
            else:
                turned.append(turned[parent] * own)
                at.append(at[parent] + turned[parent].apply(kinematics.REST_OFFSETS[joint]))
        np.testing.assert_allclose(joints[frame], at, atol=1e-5)
        np.testing.assert_allclose(rotations[frame], [r.as_matrix() for r in turned], atol=1e-5)


def test_slices_are_motions_of_their_own():
    motion = random_motion()
    part = motion[5:9]
    assert len(part) == 4 and part.genre == "waltz" and part.metadata == {"seed": 0}
    np.testing.assert_array_equal(part.poses, motion.poses[5:9])
    part.poses[:] = 0
    part.metadata["seed"] = 1
    assert motion.poses[5:9].any() and motion.metadata == {"seed": 0}
    assert len(motion[-3:]) == 3
    with pytest.raises(TypeError, match=r"motion\[30:90\]"):
        motion[3]
    with pytest.raises(TypeError, match="resampled"):
        motion[::2]
    with pytest.raises(MotionError, match="no frames"):
        motion[9:5]


def test_mirroring_twice_is_nothing_and_once_swaps_the_sides():
    motion = random_motion()
    mirrored = motion.mirrored()
    np.testing.assert_array_equal(mirrored.mirrored().poses, motion.poses)
    np.testing.assert_array_equal(mirrored.translation, motion.translation * np.float32([-1, 1, 1]))
    left_elbow, right_elbow = 18, 19
    for joint, partner in ((left_elbow, right_elbow), (0, 0)):
        mirror = np.diag([-1.0, 1.0, 1.0])
        expected = mirror @ Rotation.from_rotvec(motion.poses[:, joint]).as_matrix() @ mirror
        np.testing.assert_allclose(Rotation.from_rotvec(mirrored.poses[:, partner]).as_matrix(), expected, atol=1e-6)


@settings(max_examples=25)
@given(frames=st.integers(1, 40), fps=st.sampled_from([12.5, 24.0, 30.0, 60.0, 120.0]), seed=st.integers(0, 99))
def test_resampling_keeps_duration_ends_and_shape(frames, fps, seed):
    motion = random_motion(frames, seed)
    other = motion.resampled(fps)
    assert other.fps == fps and other.genre == motion.genre
    assert abs(other.seconds - motion.seconds) <= 0.5 / fps + 1e-9 or len(other) == 1
    assert_same_rotations(other.poses[0], motion.poses[0], 1e-5)
    np.testing.assert_allclose(other.translation[0], motion.translation[0], atol=1e-6)
    assert other.translation.min() >= motion.translation.min() - 1e-6


def test_resampling_there_and_back_hits_every_frame_and_lies_between():
    motion = random_motion(30)
    double = motion.resampled(60)
    assert len(double) == 60
    assert_same_rotations(double.poses[::2], motion.poses, 1e-5)
    np.testing.assert_allclose(double.resampled(30).translation, motion.translation, atol=1e-6)
    np.testing.assert_allclose(double.translation[1], (motion.translation[0] + motion.translation[1]) / 2, atol=1e-6)
    first, middle, last = (
        Rotation.from_rotvec(poses) for poses in (motion.poses[0, 16], double.poses[1, 16], motion.poses[1, 16])
    )
    half = (first.inv() * last).magnitude() / 2
    assert (first.inv() * middle).magnitude() == pytest.approx(half, abs=1e-5)
    assert (middle.inv() * last).magnitude() == pytest.approx(half, abs=1e-5)


def test_resampling_takes_the_short_way_round():
    """Axis-angles just under and just over half a turn name nearly the same rotation; between them nothing spins."""
    poses = np.zeros((2, 24, 3))
    poses[0, 0, 1], poses[1, 0, 1] = 3.1, -3.1
    between = Motion(poses, np.zeros((2, 3))).resampled(60).poses[1, 0]
    assert np.linalg.norm(between) == pytest.approx(np.pi, abs=1e-3)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_resampling_refuses_what_is_no_rate(fps):
    with pytest.raises(MotionError, match="fps="):
        random_motion().resampled(fps)


@settings(max_examples=25)
@given(seed=st.integers(0, 999), frames=st.integers(1, 90), window=st.sampled_from([0.2, 1.0, 3.0]))
def test_grounding_leaves_no_foot_below_the_floor(seed, frames, window):
    motion = random_motion(frames, seed)
    grounded = motion.grounded(window)
    lowest = grounded.joints()[:, [10, 11], 1].min(-1)
    assert lowest.min() > -1e-5
    np.testing.assert_array_equal(grounded.poses, motion.poses)
    np.testing.assert_array_equal(grounded.translation[:, [0, 2]], motion.translation[:, [0, 2]])


def test_grounding_removes_drift_but_keeps_jumps(ballroom_dir):
    with np.load(ballroom_dir / "motions" / "chacha_2a.npz") as archive:
        motion = Motion(archive["smpl_poses"][:600], archive["smpl_trans"][:600])
    drifting = motion.translation.copy()
    drifting[:, 1] += np.linspace(0.3, -0.2, 600)
    jump = np.zeros(600)
    jump[300:312] = 0.25 * np.sin(np.linspace(0, np.pi, 12))
    grounded = Motion(motion.poses, drifting + jump[:, None] * (0, 1, 0)).grounded()
    reference = motion.grounded()
    difference = grounded.translation[:, 1] - reference.translation[:, 1]
    assert np.abs(np.delete(difference, np.s_[295:317])).max() < 0.03, "half a metre of drift is gone"
    assert 0.2 < difference[305:307].max() < 0.3, "the jump is as high as before"
    assert np.percentile(grounded.joints()[:, [10, 11], 1].min(-1), 50) < 0.03, "feet are on the floor"


# --- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npz", ".pkl"])
def test_save_and_load_give_back_the_same(tmp_path, suffix):
    motion = random_motion(fps=24)
    path = motion.save(tmp_path / f"dance{suffix}")
    loaded = Motion.load(path)
    np.testing.assert_array_equal(loaded.poses, motion.poses)
    np.testing.assert_array_equal(loaded.translation, motion.translation)
    assert (loaded.fps, loaded.genre, loaded.metadata) == (24.0, "waltz", {"seed": 0})
    assert [p.name for p in tmp_path.iterdir()] == [f"dance{suffix}"], "no temporary file is left"
    bare = Motion(motion.poses, motion.translation)
    assert Motion.load(bare.save(path)).genre is None, "an existing file is replaced"


def test_ballroom_files_load(ballroom_dir):
    motion = Motion.load(ballroom_dir / "motions" / "waltz_8.npz")
    assert motion.fps == 30 and len(motion) > 300 and motion.metadata == {}
    assert 0.7 < motion.translation[:, 1].mean() < 1.1


class Evil:
    """Its pickle runs a command when it is loaded by the ordinary unpickler."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("inside", [False, True])
def test_pickles_with_code_are_refused_unrun(tmp_path, inside):
    marker = tmp_path / "ran"
    evil = Evil(marker)
    content = {"smpl_poses": np.array([evil], dtype=object), "smpl_trans": np.zeros((1, 3))} if inside else evil
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(MotionError, match="only numpy arrays and plain containers are read"):
        Motion.load(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "name", ["builtins eval", "numpy load", "numpy.core.multiarray fromfile", "_codecs decode", "os system"]
)
def test_other_globals_of_pickles_are_refused(tmp_path, name):
    module, function = name.split()
    path = tmp_path / "names.pkl"
    path.write_bytes(f"c{module}\n{function}\n.".encode())
    with pytest.raises(MotionError, match="only numpy arrays and plain containers are read"):
        Motion.load(path)


def test_errors_of_bad_files_are_one_clear_line(tmp_path):
    whole = random_motion().save(tmp_path / "whole.npz").read_bytes()
    pickled = random_motion().save(tmp_path / "whole.pkl").read_bytes()
    cases = {
        "missing.npz": (None, "no such file"),
        "empty.npz": (b"", "cannot be read"),
        "cut.npz": (whole[: len(whole) // 2], "cannot be read"),
        "text.npz": (b"hello", "cannot be read"),
        "empty.pkl": (b"", "cannot be read"),
        "cut.pkl": (pickled[: len(pickled) // 2], "cannot be read"),
        "list.pkl": (pickle.dumps([1, 2]), "holds a list"),
        "keys.pkl": (pickle.dumps({"music": 1}), "no poses .* no trans .*only music; known layouts: .*AIST"),
        "dance.fbx": (b"Kaydara", r"from \.npz, \.pkl, .*\.bvh, not '\.fbx'"),
        "empty.bvh": (b"", "is no BVH"),
        "text.json": (b"{", "cannot be read"),
        "list.json": (b"[1, 2]", "holds a list"),
        "deep.json": (b"[" * 100_000, "cannot be read"),
        "text.npy": (b"hello", "cannot be read"),
        "shape.pkl": (
            pickle.dumps({"poses": np.zeros((3, 69)), "trans": np.zeros((3, 3))}),
            r"shape \(3, 69\), 23 joints",
        ),
    }
    for name, (content, message) in cases.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(MotionError, match=message) as caught:
            Motion.load(path)
        assert name in str(caught.value) and "\n" not in str(caught.value)


def test_an_archive_without_a_motion_names_what_it_holds(tmp_path):
    np.savez(tmp_path / "music.npz", features=np.zeros(3))
    with pytest.raises(MotionError, match="only features; known"):
        Motion.load(tmp_path / "music.npz")


def test_outputs_are_checked_by_suffix_and_folder(tmp_path):
    motion = random_motion()
    for suffix in KNOWN_SUFFIXES:
        assert check_output(tmp_path / f"a.b{suffix.upper()}") == suffix
    for name, message in {
        "dance.fbx": r"suffix '\.fbx' is not known; end the name in one of \.npz, \.pkl, \.bvh, \.glb",
        "dance": "has no suffix",
        "nowhere/dance.npz": "does not exist; create it first",
        ".": "has no suffix|is a folder",
    }.items():
        with pytest.raises(MotionError, match=message):
            motion.save(tmp_path / name)
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(MotionError, match="is a folder"):
        motion.save(tmp_path / "folder.npz")
    (tmp_path / "file").write_text("")
    with pytest.raises(MotionError, match="does not exist"):
        motion.save(tmp_path / "file" / "dance.npz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.npz"]


def test_a_format_from_outside_is_written_like_ours(tmp_path):
    """All that another package needs: its function, and `register_format`."""
    calls = []

    def save_csv(motion, path, music=None, digits=3):
        calls.append((music, digits))
        with atomic_path(path) as temporary:
            np.savetxt(temporary, motion.translation, fmt=f"%.{digits}f", delimiter=",")

    def save_length(motion, path):  # takes no music, and is given none
        path.write_text(str(len(motion)))

    motion = random_motion()
    try:
        register_format(".path.CSV", save_csv)
        register_format(".length", save_length)
        path = motion.save(tmp_path / "dance.path.csv", music="song.mp3", digits=2)
        np.testing.assert_allclose(np.loadtxt(path, delimiter=","), motion.translation, atol=0.0051)
        assert calls == [("song.mp3", 2)]
        assert motion.save(tmp_path / "dance.LENGTH", music="song.mp3").read_text() == "20"
        with pytest.raises(MotionError, match=r"'\.csv' is not known; end the name in one of .*\.path\.csv, \.length"):
            motion.save(tmp_path / "dance.csv")
    finally:
        for suffix in (".path.csv", ".length"):
            formats._WRITERS.pop(suffix, None)
    for suffix, writer, message in [
        ("csv", save_csv, "suffix='csv': give .* its dot"),
        (".csv", "save", "writer='save'"),
    ]:
        with pytest.raises(ValueError, match=message):
            register_format(suffix, writer)


def test_every_writer_exists():
    for reference in (*formats._WRITERS.values(), formats.SHOW, formats.NOTEBOOK_HTML):
        assert formats.resolve(reference).__module__ == reference.partition(":")[0]


def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "megadance_hf.motion.motion.os.access", lambda *_: False
    )  # root, in containers, may write everywhere
    with pytest.raises(MotionError, match="no permission to write into"):
        random_motion().save(tmp_path / "dance.npz")


def test_a_writer_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "dance.npz"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="in the middle"), atomic_path(path) as temporary:
        assert temporary.name == path.name
        temporary.write_text("half")
        raise RuntimeError("in the middle")
    with pytest.raises(MotionError, match="cannot be written .No space left"), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.mkdir()
        (temporary / "frame.obj").write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_metadata_that_json_cannot_hold_is_refused(tmp_path):
    motion = random_motion()
    motion.metadata["model"] = object()
    for suffix in (".npz", ".pkl"):
        with pytest.raises(MotionError, match="metadata must hold what JSON can hold"):
            motion.save(tmp_path / f"dance{suffix}")
    assert not list(tmp_path.iterdir())
