"""Augmentation: mirrored, stretched, transposed, remixed; against slow twins."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_clips import dance, ruler

from megadance_hf.data.augmentation import (
    MotionCorruption,
    MusicAugmentation,
    displace_root,
    freeze_arm,
    hold_frames,
    jitter_mfcc,
    mirror_motion,
    rotate_chroma,
    stretch_features,
    time_stretch,
)
from megadance_hf.data.clip import Clip, clip_motion
from megadance_hf.data.rhythm import beat_phase
from megadance_hf.data.statistics import (
    Statistics,
)
from megadance_hf.modeling.kinematics_megadance import (
    axis_angle_to_matrix,
    mirror_poses,
    mirror_translation,
    poses_to_motion,
)


@given(st.integers(0, 10_000))
def test_mirroring_motion_is_mirroring_poses(seed):
    generator = torch.Generator().manual_seed(seed)
    poses = torch.randn(7, 24, 3, generator=generator)
    translation = torch.randn(7, 3, generator=generator)
    mirrored = mirror_motion(poses_to_motion(poses, translation).numpy())
    slow = poses_to_motion(mirror_poses(poses), mirror_translation(translation))
    np.testing.assert_allclose(mirrored, slow.numpy(), atol=1e-5)
    np.testing.assert_array_equal(mirror_motion(mirrored), poses_to_motion(poses, translation).numpy())


def angles_between(left, right):
    """Angle in radians of each joint between two pose arrays (T, 72)."""
    a, b = (axis_angle_to_matrix(torch.from_numpy(poses).double().unflatten(-1, (24, 3))) for poses in (left, right))
    return torch.arccos((((a * b).sum((-1, -2)) - 1) / 2).clamp(-1, 1)).numpy()


def test_stretching_by_one_changes_nothing():
    clip = dance(audio=b"x", beat_period_s=0.5, first_beat_s=0.2)
    same_clip = time_stretch(clip, 1.0)
    assert angles_between(same_clip.poses, clip.poses).max() < 2e-3
    np.testing.assert_allclose(same_clip.translation, clip.translation, atol=1e-6)
    np.testing.assert_allclose(same_clip.input_features, clip.input_features, atol=1e-6)
    assert (same_clip.beat_period_s, same_clip.first_beat_s, same_clip.audio) == (0.5, 0.2, None)


@given(st.floats(0.7, 1.4), st.integers(0, 100))
def test_stretching_moves_everything_together(factor, seed):
    clip = dance(frames=120, seed=seed, beat_period_s=0.6, first_beat_s=0.1, music=True)
    clip.units = [{"name": "T-1", "start_s": 0.0, "beats": 2}, {"name": "T-2", "start_s": 1.2, "beats": 2}]
    # a body that turns evenly about a fixed axis, far beyond half a turn, must turn evenly afterwards
    clip.poses[:] = 0
    turned = (0.1 * np.arange(120) + np.pi) % (2 * np.pi) - np.pi
    clip.poses[:, 1] = turned
    clip.translation = np.stack([np.arange(120)] * 3, axis=1).astype(np.float32)
    clip.input_features[:, :33] = np.arange(120)[:, None]
    clip.input_features[:, 33:] = 0
    clip.input_features[::15, 33] = 1
    clip.input_features[5::20, 34] = 1
    result = time_stretch(clip, factor)
    frames = len(result)
    assert frames == round(119 * factor) + 1 and result.input_features.shape == (frames, 35)
    assert [unit["start_s"] for unit in result.units] == [0, pytest.approx(2 * result.beat_period_s)]
    time_in_clip = np.minimum(np.arange(frames) / factor, 119)
    np.testing.assert_allclose(result.translation[:, 0], time_in_clip, atol=1e-3)
    np.testing.assert_allclose(result.input_features[:, 7], time_in_clip, atol=1e-3)
    wanted = np.zeros((frames, 72), np.float32)
    wanted[:, 1] = 0.1 * time_in_clip
    assert angles_between(result.poses, wanted).max() < 2e-3
    for column, first, step in ((33, 0, 15), (34, 5, 20)):
        flags = np.flatnonzero(result.input_features[:, column])
        np.testing.assert_array_equal(flags, np.minimum(np.round(np.arange(first, 120, step) * factor), frames - 1))
    # the beat grid too: the same phase at the same place
    places = np.arange(0, 119, 10)
    moved = beat_phase(result)[np.minimum(np.round(places * factor).astype(int), frames - 1)]
    difference = (moved - beat_phase(clip)[places] + 0.5) % 1 - 0.5
    assert np.abs(difference).max() < 0.6 / (30 * 0.6 * min(factor, 1))


def test_a_real_dance_stays_smooth_when_stretched(ballroom_dir):
    with np.load(ballroom_dir / "motions" / "waltz_24.npz") as data:
        clip = Clip("waltz_24", data["smpl_poses"][:600], data["smpl_trans"][:600])
    for factor in (0.9, 1.1):
        result = time_stretch(clip, factor)
        turns = angles_between(clip.poses[1:], clip.poses[:-1])
        stretched = angles_between(result.poses[1:], result.poses[:-1])
        # no turn is larger than the clip's own at that speed, and the body goes through the same poses
        assert stretched.max() < turns.max() / min(factor, 1) * 1.02
        kept = np.round(np.arange(0, 590, 30) * factor).astype(int)
        apart = np.abs(kept / factor - np.arange(0, 590, 30)).max()
        assert angles_between(result.poses[kept], clip.poses[0:590:30]).max() < apart * turns.max() + 2e-3


def test_stretching_keeps_missing_music_missing_and_the_original_untouched():
    clip = dance(music=False)
    before = clip.poses.copy()
    assert time_stretch(clip, 1.1).input_features is None
    np.testing.assert_array_equal(clip.poses, before)
    for factor in (0, -1, float("nan")):
        with pytest.raises(ValueError, match=f"factor={factor} must be above 0"):
            time_stretch(clip, factor)


@given(st.integers(-30, 30))
def test_transposing_rotates_the_chroma(semitones):
    features = np.random.default_rng(0).normal(size=(2, 9, 35)).astype(np.float32)
    slow = features.copy()
    slow[..., 20:32] = np.roll(features[..., 20:32], semitones, axis=-1)
    np.testing.assert_array_equal(rotate_chroma(features, semitones), slow)
    np.testing.assert_array_equal(rotate_chroma(rotate_chroma(features, semitones), -semitones), features)


def test_jitter_moves_the_mfcc_only():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(9, 35)).astype(np.float32)
    offset, gain, mean = (generator.normal(size=20).astype(np.float32) for _ in range(3))
    result = jitter_mfcc(features, offset, gain, mean)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result[:, :20], (features[:, :20] - mean) * gain + mean + offset, atol=1e-5)
    np.testing.assert_array_equal(result[:, 20:], features[:, 20:])


def test_augmentation_switches():
    clip = dance(frames=64)
    statistics = Statistics.from_clips([clip])

    def run(seed=0, **values):
        off = {"transpose": 0.0, "mfcc_offset": 0.0, "mfcc_gain": 0.0, "dropout": 0.0} | values
        return MusicAugmentation(**off)(clip.input_features, statistics, np.random.default_rng(seed))

    features, has_music = run()
    assert has_music
    np.testing.assert_allclose(features, clip.input_features, atol=1e-6)
    features, has_music = run(dropout=1.0)
    assert not has_music and (features == statistics.input_mean.numpy()).all()
    features = run(transpose=1.0)[0]
    changed = np.abs(features - clip.input_features).max(0) > 1e-4
    assert changed[20:32].all() and not changed[:20].any() and not changed[32:].any()
    features = run(mfcc_offset=0.5)[0]
    moved = features - clip.input_features
    assert np.abs(moved[:, :20]).max() > 0.01 and np.abs(moved.std(0)).max() < 1e-5
    # what is switched on elsewhere does not change a draw
    np.testing.assert_allclose(run(mfcc_offset=0.5, transpose=1.0)[0][:, :20], features[:, :20], atol=1e-6)
    dropped = [not run(seed, dropout=0.3)[1] for seed in range(400)]
    assert 0.22 < np.mean(dropped) < 0.38


def test_timbre_dropout_leaves_only_the_rhythm():
    generator = np.random.default_rng(0)
    features = generator.random((50, 35), dtype=np.float32)
    statistics = Statistics(torch.zeros(147), torch.ones(147), torch.arange(35.0), torch.ones(35))
    varied, has_music = MusicAugmentation(dropout=0, timbre_dropout=1)(features, statistics, generator)
    assert has_music
    assert np.array_equal(varied[:, 32:], features[:, 32:])
    assert np.array_equal(varied[:, :32], np.tile(np.arange(32, dtype=np.float32), (50, 1)))


@given(factor=st.floats(0.6, 1.6), frames=st.integers(4, 60))
def test_stretched_features_keep_every_beat(factor, frames):
    features = ruler(frames=frames).input_features
    features[:, 33] = 0
    features[1::4, 33] = 1
    stretched = stretch_features(features, factor)
    assert len(stretched) == round((frames - 1) * factor) + 1 and set(np.unique(stretched[:, 33])) <= {0, 1}
    beats = np.flatnonzero(stretched[:, 33])
    np.testing.assert_allclose(beats, np.arange(1, frames, 4) * factor, atol=0.51)


# --- faults of recordings ------------------------------------------------------------------------------------------------


def path_of(motion):
    """Where the root is (T + 1, 3) before and after each step."""
    return np.concatenate([np.zeros((1, 3)), np.cumsum(motion[:, :3].astype(np.float64), axis=0)])


RUNS = st.tuples(st.integers(0, 39), st.integers(1, 20)).map(lambda run: (run[0], min(run[0] + run[1], 40)))


@given(RUNS)
def test_a_displaced_root_comes_back(run):
    motion, (start, stop) = clip_motion(dance(frames=40)), run
    made = displace_root(motion, start, stop, np.array([0.5, 0, -0.3], np.float32))
    np.testing.assert_array_equal(made[:, 3:], motion[:, 3:])
    apart = path_of(made) - path_of(motion)
    there = np.zeros((41, 3))
    if start > 0:
        there[start:stop] = [0.5, 0, -0.3]
    else:  # it begins displaced, and comes back to where it should be
        there[stop:] = [-0.5, 0, 0.3]
    np.testing.assert_allclose(apart, there, atol=1e-6)


@given(RUNS)
def test_held_frames_show_the_first_and_the_body_arrives_where_it_was_going(run):
    motion, (start, stop) = clip_motion(dance(frames=40)), run
    made = hold_frames(motion, start, stop)
    outside = np.r_[0:start, stop:40]
    np.testing.assert_array_equal(made[outside], motion[outside])
    np.testing.assert_array_equal(made[start:stop, 3:], np.tile(motion[start, 3:], (stop - start, 1)))
    path = path_of(made)
    np.testing.assert_allclose(path[start:stop], np.tile(path[start], (stop - start, 1)), atol=1e-9)
    np.testing.assert_allclose(path[stop:], path_of(motion)[stop:], atol=1e-6)


@given(RUNS, st.integers(0, 1))
def test_a_frozen_arm_keeps_its_rotations(run, arm):
    motion, (start, stop) = clip_motion(dance(frames=40)), run
    made = freeze_arm(motion, start, stop, arm)
    changed = np.zeros((40, 147), bool)
    for joint in ((13, 16, 18, 20, 22), (14, 17, 19, 21, 23))[arm]:
        columns = slice(3 + 6 * joint, 9 + 6 * joint)
        changed[start:stop, columns] = True
        np.testing.assert_array_equal(made[start:stop, columns], np.tile(motion[start, columns], (stop - start, 1)))
    np.testing.assert_array_equal(made[~changed], motion[~changed])


SHARES = st.sampled_from([0.0, 0.1, 0.4])


@given(st.integers(0, 1000), st.integers(1, 60), SHARES, SHARES, SHARES)
def test_corruption_is_seeded_and_leaves_other_frames_alone(seed, frames, jumps, dropouts, arms):
    motion, corruption = clip_motion(dance(frames=max(2, frames)))[:frames], MotionCorruption(jumps, dropouts, arms)
    before = motion.copy()
    made, touched = corruption(motion, np.random.default_rng(seed))
    again, _ = corruption(motion, np.random.default_rng(seed))
    np.testing.assert_array_equal(motion, before)
    np.testing.assert_array_equal(made, again)
    assert made.shape == motion.shape and made.dtype == np.float32 and touched.shape == (frames,)
    np.testing.assert_array_equal(made[~touched], motion[~touched])
    assert bool(corruption) == any((jumps, dropouts, arms)) >= touched.any()


def test_each_kind_touches_its_share_of_the_frames():
    motion = clip_motion(dance(frames=100))
    for name in ("jumps", "dropouts", "frozen_arms"):
        corruption = MotionCorruption(**{name: 0.1})
        marks = np.stack([corruption(motion, np.random.default_rng(seed))[1] for seed in range(1000)])
        # runs overlap, and a jump also touches the frame before it
        assert 0.075 < marks.mean() < 0.115, name
        everywhere = marks.mean(0)
        assert everywhere.min() > 0.5 * everywhere.mean() and everywhere.max() < 1.5 * everywhere.mean(), name
    # a kind that is added changes nothing of another
    one, _ = MotionCorruption(frozen_arms=0.3)(motion, np.random.default_rng(1))
    two, _ = MotionCorruption(jumps=0.3, frozen_arms=0.3)(motion, np.random.default_rng(1))
    np.testing.assert_array_equal(one[:, 3:], two[:, 3:])
    with pytest.raises(ValueError, match="jumps=0.6 is a share of frames: give 0 to 0.5"):
        MotionCorruption(jumps=0.6)
