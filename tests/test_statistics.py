"""Statistics are those of all frames, with floors."""

import numpy as np
import pytest
import torch
from toy_clips import dance

from megadance_hf.data.augmentation import (
    mirror_motion,
)
from megadance_hf.data.clip import clip_motion
from megadance_hf.data.statistics import (
    FEATURE_STD_FLOOR,
    ROTATION_STD_FLOOR,
    TURN_STD_FLOOR,
    VELOCITY_STD_FLOOR,
    Statistics,
)
from megadance_hf.modeling.kinematics_megadance import to_body_motion


def test_statistics_are_those_of_all_frames():
    clips = [dance("a", 90, 1), dance("b", 40, 2, music=False), dance("c", 60, 3)]
    for clip in clips:
        clip.poses[:, 60:] = 0  # hands that never move
        clip.translation[:, 1] = 1
    motions = [clip_motion(clip) for clip in clips]
    for mirror in (True, False):
        rows = np.concatenate([*motions, *(mirror_motion(m) for m in motions)] if mirror else motions)
        statistics = Statistics.from_clips(iter(clips), mirror=mirror)
        np.testing.assert_allclose(statistics.motion_mean, rows.mean(0), atol=1e-6)
        floor = np.where(np.arange(147) < 3, VELOCITY_STD_FLOOR, ROTATION_STD_FLOOR)
        np.testing.assert_allclose(statistics.motion_std, np.maximum(rows.std(0), floor), rtol=1e-4)
        assert statistics.motion_std[1] == pytest.approx(VELOCITY_STD_FLOOR)
        assert statistics.motion_std[-1] == pytest.approx(ROTATION_STD_FLOOR)
    features = np.concatenate([clips[0].input_features, clips[2].input_features])
    np.testing.assert_allclose(statistics.input_mean, features.mean(0), atol=1e-6)
    np.testing.assert_allclose(statistics.input_std, np.maximum(features.std(0), FEATURE_STD_FLOOR), rtol=1e-4)
    buffers = statistics.buffers()
    assert {name: (tuple(t.shape), t.dtype) for name, t in buffers.items()} == {
        "motion_mean": ((147,), torch.float32),
        "motion_std": ((147,), torch.float32),
        "input_mean": ((35,), torch.float32),
        "input_std": ((35,), torch.float32),
    }


@pytest.mark.parametrize("heading", ["absolute", "turn"])
def test_statistics_without_noise(heading):
    clips = [dance("a", 90, 1, marked_frames=[7]), dance("b", 40, 2)]
    clips[1].translation[20:] += 3
    statistics = Statistics.from_clips(clips, heading=heading, mask_noise=True)
    rows = []
    for clip, noise in zip(clips, ([6, 7], [19, 20]), strict=True):
        for motion in (clip_motion(clip), mirror_motion(clip_motion(clip))):
            motion = to_body_motion(torch.from_numpy(motion)).numpy() if heading == "turn" else motion
            rows.append(np.delete(motion, noise, axis=0))
    np.testing.assert_allclose(statistics.motion_mean, np.concatenate(rows).mean(0), atol=1e-6)
    np.testing.assert_allclose(statistics.motion_std[0], np.concatenate(rows)[:, 0].std(), rtol=1e-4)


def test_statistics_of_turns_are_those_of_body_motion():
    clips = [dance("a", 90, 1), dance("b", 40, 2)]
    statistics = Statistics.from_clips(clips, heading="turn")
    motions = [image for clip in clips for image in (clip_motion(clip), mirror_motion(clip_motion(clip)))]
    rows = np.concatenate([to_body_motion(torch.from_numpy(motion)).numpy() for motion in motions])
    np.testing.assert_allclose(statistics.motion_mean, rows.mean(0), atol=1e-6)
    floors = [*[VELOCITY_STD_FLOOR] * 3, *[ROTATION_STD_FLOOR] * 144, TURN_STD_FLOOR]
    np.testing.assert_allclose(statistics.motion_std, np.maximum(rows.std(0), floors), rtol=1e-4)
    assert statistics.motion_mean[-1] == pytest.approx(0, abs=1e-6), "a mirrored turn is one to the other side"


def test_statistics_without_music_and_without_clips():
    statistics = Statistics.from_clips([dance(music=False)])
    assert statistics.input_mean.eq(0).all() and statistics.input_std.eq(1).all()
    with pytest.raises(ValueError, match="at least one clip"):
        Statistics.from_clips([])


def test_released_statistics_are_those_of_windows():
    """One number for all velocities, one for all rotations, every window counted."""
    clips = [dance("a", 90, 1), dance("b", 40, 2, music=False), dance("c", 75, 3)]
    windows = []
    for clip in clips:
        for start in range(0, len(clip) - 32 + 1, 8):
            window = clip_motion(clip)[start : start + 32].astype(np.float64)
            window[-1, :3] = 0
            windows.append(window)
    statistics = Statistics.released(clips, 32, 8)
    rows = np.concatenate(windows)
    for columns in (slice(0, 3), slice(3, 147)):
        np.testing.assert_allclose(statistics.motion_mean[columns], rows[:, columns].mean(), rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(statistics.motion_std[columns], rows[:, columns].std(ddof=1), rtol=1e-5)
    music = [c.input_features[s : s + 32] for c in (clips[0], clips[2]) for s in range(0, len(c) - 31, 8)]
    rows = np.concatenate(music).astype(np.float64)
    np.testing.assert_allclose(statistics.input_mean, rows.mean(0), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(statistics.input_std, rows.std(0, ddof=1), rtol=1e-5)
    still = dance(frames=40)
    still.input_features[:] = 3
    assert Statistics.released([still], 32, 8).input_std.gt(0).all()
    with pytest.raises(ValueError, match="none of 1 clips has 240 frames; use a smaller length"):
        Statistics.released([still], 240, 16)
