"""Windows, statistics, codes and augmentation: aligned to the frame, reproducible, and quick."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from megadance_hf.data.augmentation import (
    MusicAugmentation,
    jitter_mfcc,
    mirror_motion,
    rotate_chroma,
    stretch_features,
    time_stretch,
)
from megadance_hf.data.clip import Clip, clip_motion
from megadance_hf.data.codes import encode_clips
from megadance_hf.data.rhythm import bar_phase, beat_phase, rhythm_labels
from megadance_hf.data.sampling import EpochSampler, collate
from megadance_hf.data.segments import CodeSegments, MotionSegments, RhythmSegments, fitting_length
from megadance_hf.data.splits import hold_back, songs_of
from megadance_hf.data.statistics import (
    FEATURE_STD_FLOOR,
    ROTATION_STD_FLOOR,
    VELOCITY_STD_FLOOR,
    Statistics,
    segment_statistics,
)
from megadance_hf.modeling.kinematics_megadance import (
    axis_angle_to_matrix,
    mirror_poses,
    mirror_translation,
    motion_to_poses,
    poses_to_motion,
)

GENRES = ("chacha", "rumba", "waltz")
TICK = 1e-3  # metres: the root of `ruler` moves this much further in every frame


def dance(name="a", frames=100, seed=0, music=True, genre="waltz", **values) -> Clip:
    generator = np.random.default_rng(seed)
    poses = np.cumsum(generator.normal(size=(frames, 72), scale=0.03), axis=0).astype(np.float32)
    translation = np.cumsum(generator.normal(size=(frames, 3), scale=0.01), axis=0).astype(np.float32)
    features = None
    if music:
        features = generator.normal(size=(frames, 35)).astype(np.float32)
        features[:, 33:] = generator.random((frames, 2)) < 0.1
    return Clip(name, poses, translation, features, genre=genre, **values)


def ruler(name="r", frames=100, **values) -> Clip:
    """A clip that can be read like a ruler: the root's step at frame t is t * TICK along x, and music column 0 is t."""
    clip = dance(name, frames, **values)
    step = np.arange(frames) * TICK
    clip.translation = np.stack([np.cumsum(step) - step, 0 * step, 0 * step], axis=1).astype(np.float32)
    clip.poses = np.zeros_like(clip.poses)
    if clip.input_features is not None:
        clip.input_features[:, 0] = np.arange(frames)
    return clip


def ruler_encode(motion):
    """A tokenizer for rulers: the code of 8 frames is the number of the first; the lower code says whether it is mirrored."""
    assert motion.shape[0] == 1 and motion.shape[1] % 8 == 0 and motion.shape[2] == 147
    first = torch.round(motion[:, ::8, 0] / TICK).long()
    return SimpleNamespace(upper_codes=first.abs(), lower_codes=(motion[:, 4::8, 0] < 0).long())


def ruler_rhythm(features):
    """A rhythm encoder for rulers: it reads four multiples of the place in the music."""
    return features[..., :1] * torch.tensor([1.0, 2.0, 3.0, 4.0])


def same(left: dict, right: dict) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


# --- motion --------------------------------------------------------------------------------------------------------


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


@given(st.integers(0, 10_000))
def test_mirroring_motion_is_mirroring_poses(seed):
    generator = torch.Generator().manual_seed(seed)
    poses = torch.randn(7, 24, 3, generator=generator)
    translation = torch.randn(7, 3, generator=generator)
    mirrored = mirror_motion(poses_to_motion(poses, translation).numpy())
    slow = poses_to_motion(mirror_poses(poses), mirror_translation(translation))
    np.testing.assert_allclose(mirrored, slow.numpy(), atol=1e-5)
    np.testing.assert_array_equal(mirror_motion(mirrored), poses_to_motion(poses, translation).numpy())


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


def test_statistics_without_music_and_without_clips():
    statistics = Statistics.from_clips([dance(music=False)])
    assert statistics.input_mean.eq(0).all() and statistics.input_std.eq(1).all()
    with pytest.raises(ValueError, match="at least one clip"):
        Statistics.from_clips([])


# --- windows of motion -----------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(16, 70), min_size=1, max_size=4),
    st.integers(2, 40),
    st.integers(1, 20),
    st.booleans(),
)
def test_exhaustive_windows_are_all_slices(lengths, length, stride, mirror):
    clips = [dance(str(i), frames, i, music=False) for i, frames in enumerate(lengths)]
    motions = [clip_motion(clip) for clip in clips]
    expected = [m[s : s + length] for m in motions for s in range(0, len(m) - length + 1, stride)]
    if not expected:
        with pytest.raises(ValueError, match=f"none of {len(clips)} clips has {length} frames"):
            MotionSegments(clips, length, stride, mirror, random=False)
        return
    if mirror:
        expected += [mirror_motion(window) for window in expected]
    windows = MotionSegments(clips, length, stride, mirror, random=False)
    assert len(windows) == len(expected)
    for got, window in zip(windows, expected, strict=True):
        np.testing.assert_array_equal(got["motion"], window)
    assert windows.left_out == [clip.id for clip in clips if len(clip) < length]
    with pytest.raises(IndexError):
        windows[len(windows)]


def starts_of(windows):
    """Start frame and whether it is mirrored, of every window over one ruler."""
    firsts = [float(item["motion"][1, 0]) / TICK for item in windows]
    for item in windows:
        np.testing.assert_allclose(np.diff(item["motion"][:, 0].abs() / TICK), 1, atol=1e-3)
    return [(round(abs(first)) - 1, first < 0) for first in firsts]


def test_random_windows_cover_the_clip_evenly():
    # the last step is held (the next frame is not known), so the ruler is read up to the one before
    windows = MotionSegments([ruler(frames=64, music=False)], length=16, stride=8, random=True)
    assert len(windows) == 7
    seen, mirrored = [set() for _ in range(7)], 0
    for epoch in range(60):
        windows.set_epoch(epoch)
        for i in range(7):
            motion = windows[i]["motion"]
            assert motion.shape == (16, 147)
            seen[i].add(round(abs(float(motion[1, 0])) / TICK) - 1)
            mirrored += float(motion[1, 0]) < 0
    assert [min(s) for s in seen] == list(range(0, 49, 8))
    assert [max(s) for s in seen] == [7, 15, 23, 31, 39, 47, 48]
    assert 0.4 < mirrored / 420 < 0.6


def test_every_window_of_a_ruler_is_unbroken():
    windows = MotionSegments([ruler(frames=60, music=False)], length=16, stride=1, random=False)
    pairs = starts_of([windows[i] for i in range(44)] + [windows[45 + i] for i in range(44)])
    assert pairs == [(i, False) for i in range(44)] + [(i, True) for i in range(44)]


def test_windows_depend_on_seed_epoch_and_index_alone():
    clips = [dance("a", 100, 1), dance("b", 130, 2)]
    one, two = MotionSegments(clips, 32, seed=5), MotionSegments(clips, 32, seed=5)
    for windows in (one, two):
        windows.set_epoch(3)
    order = np.random.default_rng(0).permutation(len(one))
    shuffled = {int(i): two[int(i)] for i in order}
    assert all(same(one[i], shuffled[i]) for i in range(len(one)))
    assert same(one[-1], one[len(one) - 1])
    two.set_epoch(4)
    assert not all(same(one[i], two[i]) for i in range(len(one)))
    three = MotionSegments(clips, 32, seed=6)
    three.set_epoch(3)
    assert not all(same(one[i], three[i]) for i in range(len(one)))


def test_short_clips_are_left_out_or_played_forth_and_back():
    clips = [dance("short", 20, 1, music=False), dance("long", 64, 2, music=False)]
    windows = MotionSegments(clips, 64, random=False, mirror=False)
    assert windows.left_out == ["short"] and windows.clip_ids == ["long"] and len(windows) == 1
    windows = MotionSegments(clips, 64, random=False, mirror=False, short="reflect")
    assert windows.left_out == [] and windows.clip_ids == ["short", "long"]
    motion, whole = windows[0]["motion"].numpy(), clip_motion(clips[0])
    np.testing.assert_array_equal(motion[:19], whole[:19])
    np.testing.assert_array_equal(motion[19:38, 3:], whole[:0:-1, 3:])
    np.testing.assert_allclose(motion[19:38, :3], -whole[18::-1, :3], atol=1e-6)
    # nothing freezes: the held last pose would have steps of zero
    assert np.abs(motion[:, :3]).max(1).min() > 0
    with pytest.raises(ValueError, match="short='hold' is neither"):
        MotionSegments(clips, 64, short="hold")


@pytest.mark.parametrize("values", [{"length": 0}, {"stride": 0}])
def test_windows_need_a_length_and_a_stride(values):
    with pytest.raises(ValueError, match="must be at least 1"):
        MotionSegments([dance()], **values)


# --- rhythm --------------------------------------------------------------------------------------------------------


def test_phases_follow_the_beat_grid():
    grid = {"beat_period_s": 0.5, "first_beat_s": 0.1, "beats_per_bar": 3, "first_beat_is_downbeat": True}
    clip = dance(frames=90, **grid, phase_confidence="high")
    seconds = np.arange(90) / 30
    for phase, period in ((beat_phase(clip), 0.5), (bar_phase(clip), 1.5)):
        assert phase.dtype == np.float32 and phase.min() >= 0 and phase.max() < 1
        turns = (seconds - 0.1) / period - phase
        np.testing.assert_allclose(turns, np.round(turns), atol=1e-5)
    assert bar_phase(dataclasses.replace(clip, first_beat_is_downbeat=False)) is None
    assert beat_phase(dataclasses.replace(clip, first_beat_is_downbeat=False)) is not None
    assert beat_phase(dataclasses.replace(clip, phase_confidence="low")) is None
    assert beat_phase(dance()) is None and bar_phase(dance()) is None


@given(st.floats(0.2, 1.5), st.floats(-1, 1))
def test_phases_stay_below_one(period, first):
    phase = beat_phase(dance(frames=300, beat_period_s=period, first_beat_s=first, music=False))
    assert phase.min() >= 0 and phase.max() < 1


# --- augmentation --------------------------------------------------------------------------------------------------


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


# --- codes ---------------------------------------------------------------------------------------------------------


def test_codes_of_every_offset():
    (plain, mirrored) = encode_clips(SimpleNamespace(encode=ruler_encode), [ruler(frames=43)])
    assert (plain.mirrored, mirrored.mirrored, plain.stretch) == (False, True, 1.0)
    for item in (plain, mirrored):
        assert len(item.upper) == len(item.lower) == 8
        for offset, codes in enumerate(item.upper):
            np.testing.assert_array_equal(codes, np.arange(offset, 43 - 7, 8))
            assert item.lower[offset].shape == codes.shape and (item.lower[offset] == item.mirrored).all()


@pytest.mark.parametrize("random", [False, True])
def test_codes_and_music_are_of_the_same_frames(random):
    clips = [ruler("a", 100), ruler("b", 75, genre="rumba")]
    encoded = encode_clips(ruler_encode, clips)
    windows = CodeSegments(encoded, GENRES, Statistics.from_clips(clips), length=40, stride=4, random=random)
    assert len(windows) == (16 + 9) * (1 if random else 2)
    mirrored = 0
    for epoch in range(3):
        windows.set_epoch(epoch)
        for i in range(len(windows)):
            item = windows[i]
            assert item["input_features"].shape == (40, 35) and item["upper_codes"].shape == (5,)
            np.testing.assert_array_equal(item["upper_codes"], item["input_features"][::8, 0].long())
            assert item["genre_ids"] == windows.genre_ids[i] and bool(item["has_music"])
            mirrored += int(item["lower_codes"][0])
    assert windows.genre_ids.tolist().count(1) == 9 * (1 if random else 2)
    assert 0.3 < mirrored / (3 * len(windows)) < 0.7


def test_exhaustive_code_windows_are_all_of_them():
    encoded = encode_clips(ruler_encode, [ruler(frames=60)], mirror=False)
    windows = CodeSegments(encoded, GENRES, Statistics.from_clips([ruler()]), length=24, stride=1, random=False)
    assert [int(item["upper_codes"][0]) for item in windows] == list(range(37))


def test_stretched_variants_stand_in_at_the_same_place():
    clip = ruler(frames=400)
    options = {"mirror": False, "stretches": (0.8, 1.0, 1.25), "encode_rhythm": ruler_rhythm}
    encoded = encode_clips(ruler_encode, [clip], **options)
    assert [(item.stretch, len(item.clip)) for item in encoded] == [(0.8, 320), (1.0, 400), (1.25, 500)]
    windows = CodeSegments(encoded, GENRES, Statistics.from_clips([clip]), length=80, stride=16)
    assert len(windows) == 21  # counted on the clip itself
    seen = set()
    for epoch in range(4):
        windows.set_epoch(epoch)
        for i in range(len(windows)):
            features, rhythm = windows[i]["input_features"].numpy(), windows[i]["rhythm"].numpy()
            speed = round(float(features[70, 0] - features[0, 0]) / 70, 2)
            seen.add(speed)
            np.testing.assert_allclose(rhythm[:, 2], 3 * features[:, 0], rtol=1e-6)  # read where the music is
            if i < 15:
                assert 16 * i - 1 <= features[0, 0] < 16 * (i + 1) + 1
    assert seen == {0.8, 1.0, 1.25}
    exhaustive = CodeSegments(encoded, GENRES, windows.statistics, length=80, stride=80, random=False)
    assert len(exhaustive) == 4 + 5 + 6


def test_missing_music_is_the_mean_and_has_no_rhythm():
    clips = [ruler("none", music=False), ruler("song")]
    statistics = Statistics.from_clips(clips)
    encoded = encode_clips(ruler_encode, clips, encode_rhythm=ruler_rhythm)
    windows = CodeSegments(encoded, GENRES, statistics, length=80, stride=80)
    assert [bool(item["has_music"]) for item in windows] == [False, True]
    torch.testing.assert_close(windows[0]["input_features"], statistics.input_mean.expand(80, 35))
    assert windows[0]["rhythm"].eq(0).all() and windows[1]["rhythm"].ne(0).any()
    silenced = CodeSegments(encoded, GENRES, statistics, length=80, augmentation=MusicAugmentation(dropout=1.0))
    assert silenced[1]["rhythm"].eq(0).all() and not silenced[1]["has_music"]
    batch = collate(list(windows))
    assert {key: tuple(value.shape) for key, value in batch.items()} == {
        "input_features": (2, 80, 35),
        "upper_codes": (2, 10),
        "lower_codes": (2, 10),
        "genre_ids": (2,),
        "has_music": (2,),
        "rhythm": (2, 80, 4),
    }
    assert "rhythm" not in CodeSegments(encode_clips(ruler_encode, clips), GENRES, statistics, length=80)[0]
    assert batch["upper_codes"].dtype == batch["genre_ids"].dtype == torch.int64
    assert batch["has_music"].dtype == torch.bool


def test_timbre_dropout_leaves_only_the_rhythm():
    generator = np.random.default_rng(0)
    features = generator.random((50, 35), dtype=np.float32)
    statistics = Statistics(torch.zeros(147), torch.ones(147), torch.arange(35.0), torch.ones(35))
    varied, has_music = MusicAugmentation(dropout=0, timbre_dropout=1)(features, statistics, generator)
    assert has_music
    assert np.array_equal(varied[:, 32:], features[:, 32:])
    assert np.array_equal(varied[:, :32], np.tile(np.arange(32, dtype=np.float32), (50, 1)))


def test_augmented_windows_are_reproducible_and_leave_the_data_alone():
    clip = dance(frames=200)
    before = clip.input_features.copy()
    encoded = encode_clips(ruler_encode, [clip])
    statistics = Statistics.from_clips([clip])
    augmentation = MusicAugmentation(transpose=1.0, dropout=0.3)
    one, two = (CodeSegments(encoded, GENRES, statistics, 80, 8, augmentation=augmentation, seed=3) for _ in range(2))
    items = [one[i] for i in range(len(one))]
    assert all(same(items[i], two[i]) for i in reversed(range(len(two))))
    assert {bool(item["has_music"]) for item in items} == {True, False}
    one.set_epoch(1)
    assert not all(same(items[i], one[i]) for i in range(len(one)))
    np.testing.assert_array_equal(clip.input_features, before)
    # exhaustive windows are for measuring: never augmented
    exact = CodeSegments(encoded, GENRES, statistics, 80, 8, random=False, augmentation=augmentation)
    np.testing.assert_array_equal(exact[1]["input_features"], before[8:88])


def test_rare_genres_come_more_often_and_never_the_same():
    clips = [ruler("a", 100, genre="chacha"), ruler("b", 100)]
    encoded = encode_clips(ruler_encode, clips)
    windows = CodeSegments(encoded, GENRES, Statistics.from_clips(clips), 40, 16, repeats={"chacha": 3})
    assert np.bincount(windows.genre_ids).tolist() == [12, 0, 4]
    windows = CodeSegments(encoded, GENRES, windows.statistics, 40, 61, repeats={"chacha": 9})
    assert len({(int(item["upper_codes"][0]), int(item["lower_codes"][0])) for item in windows}) > 5


def test_windows_of_codes_that_cannot_be_made():
    clips = [ruler(frames=50, genre="polka")]
    statistics = Statistics.from_clips(clips)
    with pytest.raises(ValueError, match="clip 'r' has genre 'polka', which is none of chacha, rumba, waltz"):
        CodeSegments(encode_clips(ruler_encode, clips), GENRES, statistics)
    encoded = encode_clips(ruler_encode, [ruler(frames=50), ruler("long", frames=100)], mirror=False)
    assert CodeSegments(encoded, GENRES, statistics, length=80).left_out == ["r"]
    with pytest.raises(ValueError, match="none of 2 encoded clips has 240 frames"):
        CodeSegments(encoded, GENRES, statistics)
    with pytest.raises(ValueError, match="length=100 must be a multiple of 8"):
        CodeSegments(encoded, GENRES, statistics, length=100)


# --- music alone -----------------------------------------------------------------------------------------------------

GRID = {"beat_period_s": 0.5, "first_beat_s": 0.3, "beats_per_bar": 3, "first_beat_is_downbeat": True}


def test_rhythm_labels_say_where_the_beat_and_the_bar_are():
    labels = rhythm_labels(dance(**GRID))
    assert labels.shape == (100, 4) and labels.dtype == np.float32
    for frame in (9, 24, 39, 54):  # 0.3 s and each half second after
        np.testing.assert_allclose(labels[frame, :2], [1, 0], atol=1e-4)
    np.testing.assert_allclose(labels[[9, 54], 2:], [[1, 0], [1, 0]], atol=1e-4)
    np.testing.assert_allclose(np.hypot(labels[:, 2], labels[:, 3]), 1, atol=1e-6)
    unknown = rhythm_labels(dance(**(GRID | {"first_beat_is_downbeat": False})))
    assert np.isnan(unknown[:, 2:]).all() and np.isfinite(unknown[:, :2]).all()
    assert np.isnan(rhythm_labels(dance())).all()


@pytest.mark.parametrize("tempo", [1.0, 1.4])
def test_rhythm_windows_keep_music_and_beat_together(tempo):
    clip = ruler(frames=400, **GRID)
    clips = [clip, ruler("no grid", 400), ruler("no music", 400, music=False, **GRID), ruler("short", 50, **GRID)]
    windows = RhythmSegments(clips, Statistics.from_clips([clip]), length=80, tempo=tempo)
    truth, speeds = rhythm_labels(clip), set()
    for epoch in range(3):
        windows.set_epoch(epoch)
        for item in windows:
            assert item["input_features"].shape == (80, 35) and item["rhythm_labels"].shape == (80, 4)
            place = item["input_features"][:, 0].numpy()  # frame of the clip
            speeds.add(round(float(place[70] - place[0]) / 70, 1))
            whole = np.abs(place - place.round()) < 1e-3
            assert whole.any()
            np.testing.assert_allclose(item["rhythm_labels"][whole], truth[place[whole].round().astype(int)], atol=2e-3)
    assert (len(speeds) > 3) == (tempo > 1)
    assert same(windows[2], windows[2])
    windows.set_epoch(7)
    assert not same(windows[2], RhythmSegments(clips, windows.statistics, length=80, tempo=tempo)[2])


def test_rhythm_windows_without_music_have_no_rhythm():
    clip = ruler(frames=200, **GRID)
    windows = RhythmSegments(
        [clip], Statistics.from_clips([clip]), length=80, augmentation=MusicAugmentation(dropout=1.0)
    )
    assert all(item["rhythm_labels"].eq(0).all() for item in windows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 400}, "none of 1 clips has music with beats that are known or clear and 401 frames"),
        ({"tempo": 0.5}, "tempo=0.5"),
    ],
)
def test_rhythm_windows_that_cannot_be_made(options, message):
    clip = ruler(frames=100, **GRID)
    with pytest.raises(ValueError, match=message):
        RhythmSegments([clip], Statistics.from_clips([clip]), **options)


@given(factor=st.floats(0.6, 1.6), frames=st.integers(4, 60))
def test_stretched_features_keep_every_beat(factor, frames):
    features = ruler(frames=frames).input_features
    features[:, 33] = 0
    features[1::4, 33] = 1
    stretched = stretch_features(features, factor)
    assert len(stretched) == round((frames - 1) * factor) + 1 and set(np.unique(stretched[:, 33])) <= {0, 1}
    beats = np.flatnonzero(stretched[:, 33])
    np.testing.assert_allclose(beats, np.arange(1, frames, 4) * factor, atol=0.51)


# --- batches -------------------------------------------------------------------------------------------------------


def epoch_of(windows, epoch, **values):
    sampler = EpochSampler(windows, seed=1)
    sampler.set_epoch(epoch)
    return list(DataLoader(windows, batch_size=4, sampler=sampler, collate_fn=collate, **values))


def test_an_epoch_is_the_same_however_it_is_loaded():
    clips = [dance("a", 100, 1), dance("b", 130, 2)]
    windows = MotionSegments(clips, 32, seed=5)
    first = epoch_of(windows, 2)
    assert len(first) == -(-len(windows) // 4)
    windows.set_epoch(7)  # something else happens in between
    for again in (epoch_of(MotionSegments(clips, 32, seed=5), 2), epoch_of(windows, 2, num_workers=2)):
        assert all(same(left, right) for left, right in zip(first, again, strict=True))
    order = [list(EpochSampler(windows, seed)) for seed in (1, 2)]
    assert sorted(order[0]) == list(range(len(windows))) and order[0] != order[1]
    assert not same(first[0], epoch_of(windows, 3)[0])


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(2, 8), st.integers(0, 3))
def test_runs_of_a_genre_visit_every_window_once(counts, run, epoch):
    class Windows(list):
        epoch, set_epoch = 0, lambda self, epoch: None

    windows = Windows(range(sum(counts)))
    windows.genre_ids = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    sampler = EpochSampler(windows, 1, genre_run=run)
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert sorted(order) == list(windows) and order == list(sampler)
    whole = sum(count // run for count in counts)
    for first in range(0, whole * run, run):
        assert len(set(windows.genre_ids[order[first : first + run]])) == 1
    if whole > 6:  # another epoch has another order, of runs and inside them
        sampler.set_epoch(epoch + 1)
        assert list(sampler) != order


def test_runs_need_genres():
    with pytest.raises(ValueError, match="genre_run=4: give 1, or more with segments that know their genres"):
        EpochSampler(MotionSegments([dance("a", 60, seed=1)], 32), genre_run=4)


def test_accelerate_passes_the_epoch_on_and_skips_batches():
    from accelerate import Accelerator, skip_first_batches

    clips = [dance("a", 200, 1)]
    windows = MotionSegments(clips, 32, seed=5)
    expected = epoch_of(windows, 3)
    windows.set_epoch(0)
    loader = DataLoader(windows, batch_size=4, sampler=EpochSampler(windows, seed=1), collate_fn=collate)
    loader = Accelerator(cpu=True).prepare(loader)
    loader.set_epoch(3)
    assert all(same(left, right) for left, right in zip(expected, loader, strict=True))
    # a run resumed after one batch sees the rest
    loader.set_epoch(3)
    rest = list(skip_first_batches(loader, 1))
    assert all(same(left, right) for left, right in zip(expected[1:], rest, strict=True))


# --- for the genre classifier --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("random", [False, True])
def test_windows_with_genres_hold_positions_that_begin_at_the_origin(random):
    clips = [dance("a", 60, seed=1), dance("b", 50, seed=2, genre="rumba")]
    before = [clip.translation.copy() for clip in clips]
    windows = MotionSegments(clips, length=32, stride=4, random=random, genres=GENRES)
    seen = set()
    for item in windows:
        motion, label = item["motion"], int(item["labels"])
        seen.add(label)
        assert motion[0, 0] == motion[0, 2] == 0
        clip = clips[0] if GENRES[label] == "waltz" else clips[1]
        heights = torch.from_numpy(clip.translation[:, 1])
        starts = [t for t in range(len(clip) - 31) if torch.equal(heights[t : t + 32], motion[:, 1])]
        assert len(starts) == 1
        expected = torch.from_numpy(clip.translation[starts[0] : starts[0] + 32, [0, 2]])
        path = motion[:, [0, 2]] + expected[0]
        mirrored = motion[:, [0, 2]] * torch.tensor([-1.0, 1.0]) + expected[0]
        assert torch.allclose(path, expected, atol=1e-6) or torch.allclose(mirrored, expected, atol=1e-6)
    assert seen == {1, 2}
    assert all(np.array_equal(clip.translation, old) for clip, old in zip(clips, before, strict=True))
    mean, std = segment_statistics(windows)
    frames = torch.cat([item["motion"] for item in windows])
    torch.testing.assert_close(mean, frames.mean(0), atol=1e-4, rtol=1e-4)
    assert (std >= ROTATION_STD_FLOOR - 1e-6).all()
    with pytest.raises(ValueError, match="clip 'a' has genre 'waltz', which is none of tango"):
        MotionSegments(clips, length=32, genres=["tango"])


# --- songs, held-back songs, lengths that fit ----------------------------------------------------------------------------


def sung(name: str, song: str | None = None, genre: str = "waltz", seed: int | None = None, frames: int = 40) -> Clip:
    """A clip of a song; with a seed its music is that seed's, without it has none."""
    features = None if seed is None else np.random.default_rng(seed).normal(size=(frames, 35)).astype(np.float32)
    still = np.zeros((frames, 72), np.float32)
    return Clip(name, still, still[:, :3], input_features=features, genre=genre, song=song)


def test_a_songs_clips_are_known_by_name_or_by_how_they_begin():
    clips = [sung("a", "x"), sung("b", "y", seed=1), sung("c", "x", seed=2)]
    clips += [sung("d", seed=3), sung("e", seed=4), sung("f", seed=3, frames=30), sung("g"), sung("h")]
    clips[5].input_features = clips[3].input_features[:30] + 1e-3  # another encoder's
    assert songs_of(clips) == [0, 1, 0, 2, 3, 2, 4, 5]


def test_whole_songs_are_held_back_the_same_ones_always():
    clips = [sung(f"{song}{part}", f"song{song}", seed=song) for song in range(20) for part in range(2)]
    train, held = hold_back(clips)
    names = {clip.song for clip in held}
    assert len(names) == 2 and len(held) == 4 and names.isdisjoint(clip.song for clip in train)
    assert [clip.id for clip in train] == [clip.id for clip in clips if clip.song not in names]
    again, same = hold_back(list(clips))
    assert [c.id for c in same] == [c.id for c in held] and [c.id for c in again] == [c.id for c in train]
    assert hold_back(clips, 0) == (clips, [])


def test_the_only_song_of_a_genre_and_songs_without_music_are_kept_where_that_can_be():
    clips = [
        sung("a", "a", "waltz", 1),
        sung("b", "b", "rumba", 2),
        sung("c", "c", "rumba", 3),
        sung("d", "d", "rumba"),
    ]
    for share in (0.1, 0.5, 0.9):
        train, held = hold_back(clips, share)
        assert {clip.genre for clip in train} == {"waltz", "rumba"} and all(clip.paired for clip in held) and held
    alone = [sung(name, name, name, seed) for seed, name in enumerate(("a", "b", "c"))]
    train, held = hold_back(alone)
    assert len(train) == 2 and len(held) == 1, "each is the only one of its genre"
    assert hold_back(alone[:1]) == (alone[:1], [])
    assert hold_back([alone[0], sung("d", "d")])[1] == [], "else there would be no music to train on"
    silent = [sung("a", "a"), sung("b", "b")]
    assert [len(part) for part in hold_back(silent)] == [1, 1]


@pytest.mark.parametrize(
    ("lengths", "length"),
    [([300, 300], 240), ([100, 240, 300], 240), ([100, 100, 300], 96), ([20], 16), ([15, 15, 300], None), ([], None)],
)
def test_windows_fit_half_of_the_clips(lengths, length):
    assert fitting_length(lengths, 240) == length
