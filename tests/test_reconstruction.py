"""Errors of the tokenizer (Table 4b)."""

import numpy as np
import pytest
import torch
from helpers import song, tiny_tokenizer

from megadance_hf.data.clip import clip_motion
from megadance_hf.evaluation.reconstruction import tokenizer_errors, training_motion
from megadance_hf.modeling.kinematics_megadance import MIRROR_JOINTS, motion_to_joints, turn_motion
from megadance_hf.motion.motion import Motion


def test_tokenizer_errors_are_of_windows_from_their_true_start():
    clip = song(1, 500)
    perfect = tiny_tokenizer()
    motion = torch.from_numpy(clip_motion(clip)[None, :496])
    moved = motion.clone()
    moved[..., 0] += 0.001  # a millimetre a frame to the side
    perfect.encode = lambda m: type("Codes", (), {"upper_codes": None, "lower_codes": None})
    perfect.decode = lambda upper, lower: moved
    found = tokenizer_errors(perfect, [clip])
    assert found["SMPL_MAE"] == pytest.approx(0.001 / 147, rel=1e-3)
    # windows of 240, 240 and 16 frames, each drifting from zero; one of three axes
    drift = 0.001 * np.concatenate([np.arange(240), np.arange(240), np.arange(16)]).mean() / 3
    assert found["world_MAE"] == pytest.approx(drift, rel=1e-3) and found["joint_MAE"] < 1e-6


def test_training_motion_is_known_as_captured_and_as_decoded():
    clip = song(1, 300)
    tokenizer = tiny_tokenizer()
    captured, coded, codes = training_motion(tokenizer, [clip])
    joints = Motion(clip.poses, clip.translation).joints()
    assert captured.longest_run(joints) == pytest.approx(296 / 30, abs=0.11)  # whole codes
    assert (
        captured.longest_run(joints[:, list(MIRROR_JOINTS)] * [-1, 1, 1], tolerance=0.1) > 5
    )  # the skeleton is not symmetric
    with torch.no_grad():
        rebuilt = tokenizer.decode(*(torch.from_numpy(stream)[None] for stream in codes[0]))[0]
    decoded = motion_to_joints(rebuilt, torch.zeros(len(rebuilt), 3)).numpy()
    assert coded.longest_run(decoded, tolerance=1e-3) == pytest.approx(296 / 30, abs=0.11)


def test_where_turns_are_coded_windows_begin_with_the_true_heading():
    clip, perfect = song(1, 496), tiny_tokenizer(heading="turn")
    motion = torch.from_numpy(clip_motion(clip)[None])
    perfect.encode = lambda m: type("Codes", (), {"upper_codes": None, "lower_codes": None})
    perfect.decode = lambda upper, lower: turn_motion(motion, torch.ones(1, 496))
    assert max(tokenizer_errors(perfect, [clip]).values()) < 1e-5
