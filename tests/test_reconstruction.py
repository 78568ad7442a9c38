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
    assert captured.clips.longest_run(joints) == pytest.approx(296 / 30, abs=0.11)  # whole codes
    assert (
        captured.clips.longest_run(joints[:, list(MIRROR_JOINTS)] * [-1, 1, 1], tolerance=0.1) > 5
    )  # the skeleton is not symmetric
    with torch.no_grad():
        rebuilt = tokenizer.decode(*(torch.from_numpy(stream)[None] for stream in codes[0]))[0]
    decoded = motion_to_joints(rebuilt, torch.zeros(len(rebuilt), 3)).numpy()
    assert coded.clips.longest_run(decoded, tolerance=1e-3) == pytest.approx(296 / 30, abs=0.11)


def test_where_turns_are_coded_windows_begin_with_the_true_heading():
    clip, perfect = song(1, 496), tiny_tokenizer(heading="turn")
    motion = torch.from_numpy(clip_motion(clip)[None])
    perfect.encode = lambda m: type("Codes", (), {"upper_codes": None, "lower_codes": None})
    perfect.decode = lambda upper, lower: turn_motion(motion, torch.ones(1, 496))
    assert max(tokenizer_errors(perfect, [clip]).values()) < 1e-5


def test_units_of_training_clips_are_read_in_their_own_clip():
    clip, generator = song(1, 300, period=0.5), np.random.default_rng(0)
    clip.poses = np.cumsum(generator.normal(size=(300, 72), scale=0.03), axis=0).astype(np.float32)
    clip.units = [
        {"name": "A", "start_s": 0.0, "beats": 6},
        {"name": "HOLD", "start_s": 3.0, "beats": 2},
        {"name": "B", "start_s": 4.0, "beats": 8},
    ]
    alone = song(2, 300)  # of a genre without units
    alone.genre = "tango"
    captured, coded, _ = training_motion(tiny_tokenizer(), [clip, alone])
    assert set(captured.units) == set(coded.units) == {"waltz"}
    joints = Motion(clip.poses, clip.translation).joints()
    names = captured.units["waltz"].read(joints)
    assert names[:29] == ["A"] * 29 and names[43:79] == ["B"] * 36  # steps of three frames
    assert captured.units["waltz"].joins(joints)["new"] == 0
    mirrored = captured.units["waltz"].read(joints[:, list(MIRROR_JOINTS)] * [-1, 1, 1])
    assert {name for name in mirrored if name} <= {"A mirrored", "B mirrored"}
