"""A clip: its checks, and its motion as models read it."""

import numpy as np
import pytest
import torch
from toy_clips import dance, make_clip

from megadance_hf.data.clip import ClipError, check_motion, clip_motion
from megadance_hf.modeling.kinematics_megadance import (
    axis_angle_to_matrix,
    motion_to_poses,
)


def test_a_whole_clip_has_true_velocities():
    clip = dance(frames=50)
    motion = clip_motion(clip)
    assert motion.shape == (50, 147) and motion.dtype == np.float32
    np.testing.assert_allclose(motion[:-1, :3], np.diff(clip.translation, axis=0), atol=1e-6)
    np.testing.assert_array_equal(motion[-1, :3], motion[-2, :3])
    poses, translation = motion_to_poses(torch.from_numpy(motion), torch.from_numpy(clip.translation[0]))
    np.testing.assert_allclose(translation.numpy(), clip.translation, atol=1e-5)
    matrices = axis_angle_to_matrix(torch.from_numpy(clip.poses).unflatten(-1, (24, 3)))
    torch.testing.assert_close(axis_angle_to_matrix(poses), matrices, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("poses", "translation", "message"),
    [
        (np.zeros((20, 71)), np.zeros((20, 3)), r"poses have shape \(20, 71\), expected \(frames, 72\)"),
        (np.zeros((20, 24, 3)), np.zeros((20, 3)), "poses have shape"),
        (np.zeros((20, 72)), np.zeros((19, 3)), r"translation has shape \(19, 3\), expected \(20, 3\)"),
        (np.zeros((15, 72)), np.zeros((15, 3)), "only 15 frames, at least 16"),
        (np.zeros((20, 72)), np.full((20, 3), np.inf), "translation hold NaN or infinite numbers, first in frame 0"),
        (np.array([["a"] * 72] * 20), np.zeros((20, 3)), "not an array of numbers"),
        (None, np.zeros((20, 3)), "poses have shape"),
    ],
)
def test_bad_motion_is_told(poses, translation, message):
    with pytest.raises(ClipError, match=message):
        check_motion(poses, translation)


def test_jumps_are_told_unless_they_are_to_be_kept():
    clip = make_clip(frames=30)
    clip.translation[12:] += [0, 0.9, 0]
    with pytest.raises(ClipError, match=r"the root jumps 0\.\d+ m between frames 11 and 12"):
        check_motion(clip.poses, clip.translation)
    assert check_motion(clip.poses, clip.translation, jumps="keep")[1] is clip.translation
