"""Errors of the tokenizer (Table 4b)."""

import numpy as np
import pytest
import torch
from helpers import song, tiny_tokenizer

from megadance_hf.data.clip import clip_motion
from megadance_hf.evaluation.reconstruction import tokenizer_errors
from megadance_hf.modeling.kinematics_megadance import turn_motion


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


def test_where_turns_are_coded_windows_begin_with_the_true_heading():
    clip, perfect = song(1, 496), tiny_tokenizer(heading="turn")
    motion = torch.from_numpy(clip_motion(clip)[None])
    perfect.encode = lambda m: type("Codes", (), {"upper_codes": None, "lower_codes": None})
    perfect.decode = lambda upper, lower: turn_motion(motion, torch.ones(1, 496))
    assert max(tokenizer_errors(perfect, [clip]).values()) < 1e-5
