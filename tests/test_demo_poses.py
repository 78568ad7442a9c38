"""Poses and clips that a dance is to meet: as text, from files, and whether a dance can meet them."""

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from megadance_hf import Motion
from megadance_hf.demo.jobs import DemoError
from megadance_hf.demo.poses import (
    DAMAGED_POSE,
    LONGEST,
    Held,
    check_held,
    clock,
    read_pose_file,
    read_poses,
    write_poses,
)

POSE = np.linspace(-1, 1, 72, dtype=np.float32).reshape(1, 24, 3)


def held(*places):
    """What is held: seconds, or (second, frames)."""
    pairs = [place if isinstance(place, tuple) else (place, 1) for place in places]
    return [Held(second, write_poses(np.repeat(POSE, frames, axis=0))) for second, frames in pairs]


@given(st.integers(1, 120), st.integers(0, 2**31))
def test_poses_as_text(frames, seed):
    poses = np.random.default_rng(seed).standard_normal((frames, 24, 3)).astype(np.float32)
    np.testing.assert_array_equal(read_poses(write_poses(poses)), poses)


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        "",
        "!",
        "AAAA",
        write_poses(POSE)[:-4],
        write_poses(POSE * np.float32("nan")),
        write_poses(POSE * 101),
        write_poses(np.repeat(POSE, 121, axis=0)),
        "A" * 10_000_000,
        base64.b64encode(bytes(289)).decode(),
    ],
)
def test_what_is_no_pose(text):
    with pytest.raises(DemoError) as caught:
        read_poses(text)
    assert str(caught.value) == DAMAGED_POSE


def test_what_a_dance_can_meet():
    check_held(held(0.0, 0.3, (5.0, 60), 10 - 1 / 30), 10.0, False)
    check_held(held(0.0, 9.3), 10.0, True)
    # seconds of the page are rounded: something that would end a frame too late ends with the dance
    (last,) = held((9.02, 30))
    check_held([last], 10.0, False)
    assert last.first(300) == 270 and last.codes(300) == range(33, 38)


@pytest.mark.parametrize(
    ("places", "loop", "message"),
    [
        ((10.0 + 0.1,), False, "The pose at 0:10.1 goes on after the dance, which lasts 10 s: move it"),
        (((9.5, 30),), False, "The clip at 0:09.5 goes on after the dance"),
        ((2.0, 2.1), False, "The pose at 0:02.0 and the pose at 0:02.1 are too near to each other: move one of them"),
        (((1.0, 60), 2.9), False, "The clip at 0:01.0 and the pose at 0:02.9 are too near"),
        ((9.5,), True, "nothing can be held in its last 0.6 s: move the pose at 0:09.5, or let the dance end anywhere"),
    ],
)
def test_what_a_dance_cannot_meet(places, loop, message):
    with pytest.raises(DemoError, match=message):
        check_held(held(*places), 10.0, loop)


def motion(frames, fps=30.0):
    turns = np.linspace(0, 0.4, frames, dtype=np.float32)[:, None, None] * np.ones((1, 24, 3), np.float32)
    return Motion(turns, np.zeros((frames, 3)), fps)


@pytest.mark.parametrize("suffix", [".npz", ".bvh", ".json", ".pkl"])
def test_clips_from_files(tmp_path, suffix):
    """Whatever the package writes and reads; at the model's frame rate."""
    made = motion(90, 60.0)
    made.save(tmp_path / f"clip{suffix}")
    poses = read_pose_file(tmp_path / f"clip{suffix}", f"my clip{suffix}")
    assert poses.shape == (45, 24, 3)
    expected = made.resampled(30)
    if suffix in (".npz", ".pkl"):
        np.testing.assert_allclose(poses, expected.poses, atol=1e-5)
    found = Motion(poses, expected.translation)
    np.testing.assert_allclose(found.joints(), expected.joints(), atol=0.02)


def test_one_pose_from_a_file(tmp_path):
    motion(2)[1:].save(tmp_path / "pose.npz")
    np.testing.assert_allclose(read_pose_file(tmp_path / "pose.npz", "pose.npz"), np.full((1, 24, 3), 0.4), atol=1e-6)


def test_files_without_a_pose(tmp_path):
    motion(round(30 * LONGEST) + 3).save(tmp_path / "long.npz")
    (tmp_path / "text.bvh").write_text("no bones", encoding="utf-8")
    (tmp_path / "broken.npz").write_bytes(b"PK\3\4" + bytes(100))
    np.savez_compressed(tmp_path / "packed.npz", poses=np.zeros((60_000, 72), np.float32))
    for name, message in (
        ("long.npz", '"my long.npz" lasts 4.1 s, and 4 s at most can be held: cut it.'),
        ("text.bvh", '"my text.bvh": it is no BVH'),
        ("broken.npz", "my broken.npz cannot be read"),
        ("packed.npz", '"my packed.npz" holds too much: cut the clip'),
        ("song.mp3", '"my song.mp3" is no file with a pose: give one of .npz, .json, .bvh, .npy, .pkl.'),
    ):
        with pytest.raises(DemoError) as caught:
            read_pose_file(tmp_path / name, f"my {name}")
        text = str(caught.value)
        assert text.startswith(message) and text.endswith(".") and str(tmp_path) not in text and "\n" not in text


def test_times_in_words():
    assert [clock(second) for second in (0, 4.04, 59.96, 75.26)] == ["0:00.0", "0:04.0", "1:00.0", "1:15.3"]
