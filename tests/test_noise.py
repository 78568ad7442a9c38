"""Noise of a recording: what is measured, and what is called a jump or a discontinuity."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from megadance_hf.data.noise import find_jumps, measure_noise, noisy_frames
from megadance_hf.datasets_scripts.ballroom import read_motion
from megadance_hf.modeling.kinematics_megadance import JOINT_NAMES


def walk(frames=30, seed=0):
    generator = np.random.default_rng(seed)
    poses = np.cumsum(generator.normal(size=(frames, 72), scale=0.02), axis=0)
    return poses.astype(np.float32), np.cumsum(generator.normal(size=(frames, 3), scale=0.01), axis=0)


def test_a_steady_motion_has_none():
    noise = measure_noise(*walk())
    assert noise.jumps == noise.discontinuities == 0 and 0 < noise.largest_root_step_m < 0.1
    assert list(find_jumps(*walk())) == []


def test_jumps_have_place_and_size():
    poses, translation = walk()
    translation[12:] += [0, 0.9, 0]
    noise = measure_noise(poses, translation)
    assert (noise.jumps, noise.discontinuities, noise.root_frame) == (1, 1, 11)
    assert abs(noise.largest_root_step_m - 0.9) < 0.1
    assert next(find_jumps(poses, translation)).endswith("m between frames 11 and 12")
    turned = np.zeros((30, 72), np.float32)
    turned[7:, 18 * 3 + 1] = 2.5
    noise = measure_noise(turned, np.zeros((30, 3)))
    assert (noise.turn_joint, noise.turn_frame, noise.jumps) == ("left_elbow", 6, 1)
    assert list(find_jumps(turned, np.zeros((30, 3)))) == ["joint 18 turns 143 degrees between frames 6 and 7"]


def test_a_splice_is_no_jump_but_a_discontinuity():
    poses, translation = walk()
    poses[20:, 48] += 0.9  # 52 degrees: a body can do it, but not out of rest and back to rest within two frames
    noise = measure_noise(poses, translation)
    assert (noise.jumps, noise.discontinuities, noise.turn_joint) == (0, 1, JOINT_NAMES[16])
    # the same turn with a run-up is a fast movement
    poses, translation = walk()
    poses[:, 48] = np.interp(np.arange(30), [18, 19, 20, 21], [0, 0.4, 1.3, 1.7])
    assert measure_noise(poses, translation).discontinuities == 0


def test_a_glitch_of_one_frame_counts_both_its_steps_as_jumps():
    poses, translation = walk()
    translation[15] += [0, 0, 2.0]
    assert measure_noise(poses, translation).jumps == 2


def frames_of(marks) -> list[int]:
    return np.flatnonzero(marks).tolist()


def test_both_frames_of_a_jump_are_noise_and_what_lies_between_two():
    poses, translation = walk(80)
    assert not noisy_frames(poses, translation).any()
    there = translation.copy()
    there[12:] += [0.9, 0, 0]
    assert frames_of(noisy_frames(poses, there)) == [11, 12]
    there[20:] -= [0.9, 0, 0]
    assert frames_of(noisy_frames(poses, there)) == list(range(11, 21))
    there[20:40] += [0.9, 0, 0]  # so long that the root may really be there
    assert frames_of(noisy_frames(poses, there)) == [11, 12, 39, 40]


def test_a_glitch_of_one_frame_stands_out():
    poses, translation = walk()
    poses[15, 48] += 0.9  # 52 degrees, there and back
    assert measure_noise(poses, translation).jumps == 0 and measure_noise(poses, translation).discontinuities == 2
    assert frames_of(noisy_frames(poses, translation)) == [14, 15, 16]


@given(first=st.integers(1, 50), length=st.integers(4, 20), limb=st.sampled_from([(16, 18), (17, 19), (1, 4), (2, 5)]))
def test_limbs_that_stop_in_mid_movement_are_frozen(first, length, limb):
    poses, translation = walk(80)
    for joint in limb:
        held = slice(first, first + length), slice(3 * joint, 3 * joint + 3)
        poses[held] = poses[first, held[1]]
    marks = frames_of(noisy_frames(poses, translation))
    assert marks[0] == first and set(range(first, first + length)) <= set(marks) <= set(
        range(first, first + length + 1)
    )


def test_who_slows_down_and_stands_still_is_not_frozen():
    poses = np.zeros((60, 72), np.float32)
    speed = np.concatenate([np.linspace(0.05, 0, 20), np.zeros(20), np.linspace(0, 0.05, 20)])
    poses += np.cumsum(speed).astype(np.float32)[:, None] * np.random.default_rng(0).normal(size=72).astype(np.float32)
    assert not noisy_frames(poses, np.zeros((60, 3))).any()
    poses[:20] = poses[20]
    assert not noisy_frames(poses[:30], np.zeros((30, 3))).any(), "a limb that never moves"


def test_one_frame_has_no_steps():
    assert not noisy_frames(np.zeros((1, 72), np.float32), np.zeros((1, 3))).any()
    noise = measure_noise(np.zeros((1, 72), np.float32), np.zeros((1, 3)))
    assert noise.jumps == 0 and noise.largest_root_step_m == 0


@given(st.integers(0, 1000))
def test_a_turn_is_measured_as_scipy_does(seed):
    poses = np.random.default_rng(seed).normal(size=(2, 72)).astype(np.float32) * 2
    rotations = [Rotation.from_rotvec(frame.reshape(24, 3)) for frame in poses]
    degrees = np.degrees((rotations[0].inv() * rotations[1]).magnitude())
    found = list(find_jumps(poses, np.zeros((2, 3))))
    if degrees.max() < 119.9:
        assert found == []
    elif degrees.max() > 120.1:
        assert found[0].startswith(f"joint {degrees.argmax()} turns ")
        assert abs(float(found[0].split()[3]) - degrees.max()) < 0.6


def test_real_dances_are_clean(ballroom_dir):
    for name in ("waltz_21", "chacha_2a", "rumba_3"):
        motion = read_motion(ballroom_dir / "motions" / f"{name}.npz")
        noise = measure_noise(*motion)
        assert noise.jumps == noise.discontinuities == 0, name
        assert not noisy_frames(*motion).any(), name
