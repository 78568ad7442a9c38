"""Training segments: aligned to the frame, reproducible, of every clip."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_clips import GRID, TICK, dance, ruler, ruler_encode, same

from megadance_hf.data.attributes import clip_attributes
from megadance_hf.data.augmentation import (
    MotionCorruption,
    MusicAugmentation,
    mirror_motion,
)
from megadance_hf.data.clip import clip_motion
from megadance_hf.data.codes import encode_clips
from megadance_hf.data.rhythm import rhythm_labels
from megadance_hf.data.sampling import collate
from megadance_hf.data.segments import CodeSegments, MotionSegments, RhythmSegments, fitting_length
from megadance_hf.data.statistics import (
    ROTATION_STD_FLOOR,
    Statistics,
    segment_statistics,
)

GENRES = ("chacha", "rumba", "waltz")


def ruler_rhythm(features):
    """A rhythm encoder for rulers: it reads four multiples of the place in the music."""
    return features[..., :1] * torch.tensor([1.0, 2.0, 3.0, 4.0])


@given(
    st.lists(st.integers(16, 70), min_size=1, max_size=4),
    st.integers(2, 40),
    st.integers(1, 20),
    st.booleans(),
)
def test_exhaustive_segments_are_all_slices(lengths, length, stride, mirror):
    clips = [dance(str(i), frames, i, music=False) for i, frames in enumerate(lengths)]
    motions = [clip_motion(clip) for clip in clips]
    expected = [m[s : s + length] for m in motions for s in range(0, len(m) - length + 1, stride)]
    if not expected:
        with pytest.raises(ValueError, match=f"none of {len(clips)} clips has {length} frames"):
            MotionSegments(clips, length, stride, mirror, random=False)
        return
    if mirror:
        expected += [mirror_motion(segment) for segment in expected]
    segments = MotionSegments(clips, length, stride, mirror, random=False)
    assert len(segments) == len(expected)
    for got, segment in zip(segments, expected, strict=True):
        np.testing.assert_array_equal(got["motion"], segment)
    assert segments.left_out == [clip.id for clip in clips if len(clip) < length]
    with pytest.raises(IndexError):
        segments[len(segments)]


def starts_of(segments):
    """Start frame and whether it is mirrored, of every segment over one ruler."""
    firsts = [float(item["motion"][1, 0]) / TICK for item in segments]
    for item in segments:
        np.testing.assert_allclose(np.diff(item["motion"][:, 0].abs() / TICK), 1, atol=1e-3)
    return [(round(abs(first)) - 1, first < 0) for first in firsts]


def test_random_segments_cover_the_clip_evenly():
    # the last step is held (the next frame is not known), so the ruler is read up to the one before
    segments = MotionSegments([ruler(frames=64, music=False)], length=16, stride=8, random=True)
    assert len(segments) == 7
    seen, mirrored = [set() for _ in range(7)], 0
    for epoch in range(60):
        segments.set_epoch(epoch)
        for i in range(7):
            motion = segments[i]["motion"]
            assert motion.shape == (16, 147)
            seen[i].add(round(abs(float(motion[1, 0])) / TICK) - 1)
            mirrored += float(motion[1, 0]) < 0
    assert [min(s) for s in seen] == list(range(0, 49, 8))
    assert [max(s) for s in seen] == [7, 15, 23, 31, 39, 47, 48]
    assert 0.4 < mirrored / 420 < 0.6


def test_every_segment_of_a_ruler_is_unbroken():
    segments = MotionSegments([ruler(frames=60, music=False)], length=16, stride=1, random=False)
    pairs = starts_of([segments[i] for i in range(44)] + [segments[45 + i] for i in range(44)])
    assert pairs == [(i, False) for i in range(44)] + [(i, True) for i in range(44)]


def test_segments_depend_on_seed_epoch_and_index_alone():
    clips = [dance("a", 100, 1), dance("b", 130, 2)]
    one, two = MotionSegments(clips, 32, seed=5), MotionSegments(clips, 32, seed=5)
    for segments in (one, two):
        segments.set_epoch(3)
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
    segments = MotionSegments(clips, 64, random=False, mirror=False)
    assert segments.left_out == ["short"] and segments.clip_ids == ["long"] and len(segments) == 1
    segments = MotionSegments(clips, 64, random=False, mirror=False, short="reflect")
    assert segments.left_out == [] and segments.clip_ids == ["short", "long"]
    motion, whole = segments[0]["motion"].numpy(), clip_motion(clips[0])
    np.testing.assert_array_equal(motion[:19], whole[:19])
    np.testing.assert_array_equal(motion[19:38, 3:], whole[:0:-1, 3:])
    np.testing.assert_allclose(motion[19:38, :3], -whole[18::-1, :3], atol=1e-6)
    # nothing freezes: the held last pose would have steps of zero
    assert np.abs(motion[:, :3]).max(1).min() > 0
    with pytest.raises(ValueError, match="short='hold' is neither"):
        MotionSegments(clips, 64, short="hold")


@pytest.mark.parametrize("values", [{"length": 0}, {"stride": 0}])
def test_segments_need_a_length_and_a_stride(values):
    with pytest.raises(ValueError, match="must be at least 1"):
        MotionSegments([dance()], **values)


@pytest.mark.parametrize("random", [False, True])
def test_codes_and_music_are_of_the_same_frames(random):
    clips = [ruler("a", 100), ruler("b", 75, genre="rumba")]
    encoded = encode_clips(ruler_encode, clips)
    segments = CodeSegments(encoded, GENRES, Statistics.from_clips(clips), length=40, stride=4, random=random)
    assert len(segments) == (16 + 9) * (1 if random else 2)
    mirrored = 0
    for epoch in range(3):
        segments.set_epoch(epoch)
        for i in range(len(segments)):
            item = segments[i]
            assert item["input_features"].shape == (40, 35) and item["upper_codes"].shape == (5,)
            np.testing.assert_array_equal(item["upper_codes"], item["input_features"][::8, 0].long())
            assert item["genre_ids"] == segments.genre_ids[i] and bool(item["has_music"])
            mirrored += int(item["lower_codes"][0])
    assert segments.genre_ids.tolist().count(1) == 9 * (1 if random else 2)
    assert 0.3 < mirrored / (3 * len(segments)) < 0.7


def test_exhaustive_code_segments_are_all_of_them():
    encoded = encode_clips(ruler_encode, [ruler(frames=60)], mirror=False)
    segments = CodeSegments(encoded, GENRES, Statistics.from_clips([ruler()]), length=24, stride=1, random=False)
    assert [int(item["upper_codes"][0]) for item in segments] == list(range(37))


def test_stretched_variants_stand_in_at_the_same_place():
    clip = ruler(frames=400)
    options = {"mirror": False, "stretches": (0.8, 1.0, 1.25), "encode_rhythm": ruler_rhythm}
    encoded = encode_clips(ruler_encode, [clip], **options)
    assert [(item.stretch, len(item.clip)) for item in encoded] == [(0.8, 320), (1.0, 400), (1.25, 500)]
    segments = CodeSegments(encoded, GENRES, Statistics.from_clips([clip]), length=80, stride=16)
    assert len(segments) == 21  # counted on the clip itself
    seen = set()
    for epoch in range(4):
        segments.set_epoch(epoch)
        for i in range(len(segments)):
            features, rhythm = segments[i]["input_features"].numpy(), segments[i]["rhythm"].numpy()
            speed = round(float(features[70, 0] - features[0, 0]) / 70, 2)
            seen.add(speed)
            np.testing.assert_allclose(rhythm[:, 2], 3 * features[:, 0], rtol=1e-6)  # read where the music is
            if i < 15:
                assert 16 * i - 1 <= features[0, 0] < 16 * (i + 1) + 1
    assert seen == {0.8, 1.0, 1.25}
    exhaustive = CodeSegments(encoded, GENRES, segments.statistics, length=80, stride=80, random=False)
    assert len(exhaustive) == 4 + 5 + 6


def test_missing_music_is_the_mean_and_has_no_rhythm():
    clips = [ruler("none", music=False), ruler("song")]
    statistics = Statistics.from_clips(clips)
    encoded = encode_clips(ruler_encode, clips, encode_rhythm=ruler_rhythm)
    segments = CodeSegments(encoded, GENRES, statistics, length=80, stride=80)
    assert [bool(item["has_music"]) for item in segments] == [False, True]
    torch.testing.assert_close(segments[0]["input_features"], statistics.input_mean.expand(80, 35))
    assert segments[0]["rhythm"].eq(0).all() and segments[1]["rhythm"].ne(0).any()
    silenced = CodeSegments(encoded, GENRES, statistics, length=80, augmentation=MusicAugmentation(dropout=1.0))
    assert silenced[1]["rhythm"].eq(0).all() and not silenced[1]["has_music"]
    batch = collate(list(segments))
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


def test_attributes_are_those_of_the_frame_in_the_middle_of_a_code():
    clips = [dance(frames=200)]
    encoded = encode_clips(ruler_encode, clips, stretches=(1.0, 1.25), mirror=True, attributes=True)
    statistics = Statistics.from_clips(clips)
    segments = CodeSegments(encoded, GENRES, statistics, length=80, stride=19, random=False)
    measured = clip_attributes(clips[0])
    assert segments[0]["attributes"].shape == (10, 7)
    np.testing.assert_array_equal(segments[0]["attributes"], measured[4:80:8])
    np.testing.assert_array_equal(segments[1]["attributes"], measured[19 + 4 : 99 : 8])
    plain, mirrored, slower, _ = encoded
    np.testing.assert_array_equal(plain.attributes, mirrored.attributes)
    travel = [item.attributes[:, 2].mean() for item in (plain, slower)]
    assert travel[1] < travel[0], "a slower dance travels slower"
    assert "attributes" not in CodeSegments(encode_clips(ruler_encode, clips), GENRES, statistics, length=80)[0]


def test_augmented_segments_are_reproducible_and_leave_the_data_alone():
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
    # exhaustive segments are for measuring: never augmented
    exact = CodeSegments(encoded, GENRES, statistics, 80, 8, random=False, augmentation=augmentation)
    np.testing.assert_array_equal(exact[1]["input_features"], before[8:88])


def test_rare_genres_come_more_often_and_never_the_same():
    clips = [ruler("a", 100, genre="chacha"), ruler("b", 100)]
    encoded = encode_clips(ruler_encode, clips)
    segments = CodeSegments(encoded, GENRES, Statistics.from_clips(clips), 40, 16, repeats={"chacha": 3})
    assert np.bincount(segments.genre_ids).tolist() == [12, 0, 4]
    segments = CodeSegments(encoded, GENRES, segments.statistics, 40, 61, repeats={"chacha": 9})
    assert len({(int(item["upper_codes"][0]), int(item["lower_codes"][0])) for item in segments}) > 5


def test_segments_of_codes_that_cannot_be_made():
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


@pytest.mark.parametrize("tempo", [1.0, 1.4])
def test_rhythm_segments_keep_music_and_beat_together(tempo):
    clip = ruler(frames=400, **GRID)
    clips = [clip, ruler("no grid", 400), ruler("no music", 400, music=False, **GRID), ruler("short", 50, **GRID)]
    segments = RhythmSegments(clips, Statistics.from_clips([clip]), length=80, tempo=tempo)
    truth, speeds = rhythm_labels(clip), set()
    for epoch in range(3):
        segments.set_epoch(epoch)
        for item in segments:
            assert item["input_features"].shape == (80, 35) and item["rhythm_labels"].shape == (80, 4)
            place = item["input_features"][:, 0].numpy()  # frame of the clip
            speeds.add(round(float(place[70] - place[0]) / 70, 1))
            whole = np.abs(place - place.round()) < 1e-3
            assert whole.any()
            np.testing.assert_allclose(item["rhythm_labels"][whole], truth[place[whole].round().astype(int)], atol=2e-3)
    assert (len(speeds) > 3) == (tempo > 1)
    assert same(segments[2], segments[2])
    segments.set_epoch(7)
    assert not same(segments[2], RhythmSegments(clips, segments.statistics, length=80, tempo=tempo)[2])


def test_rhythm_segments_without_music_have_no_rhythm():
    clip = ruler(frames=200, **GRID)
    segments = RhythmSegments(
        [clip], Statistics.from_clips([clip]), length=80, augmentation=MusicAugmentation(dropout=1.0)
    )
    assert all(item["rhythm_labels"].eq(0).all() for item in segments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 400}, "none of 1 clips has music with beats that are known or clear and 401 frames"),
        ({"tempo": 0.5}, "tempo=0.5"),
    ],
)
def test_rhythm_segments_that_cannot_be_made(options, message):
    clip = ruler(frames=100, **GRID)
    with pytest.raises(ValueError, match=message):
        RhythmSegments([clip], Statistics.from_clips([clip]), **options)


@pytest.mark.parametrize("random", [False, True])
def test_segments_with_genres_hold_positions_that_begin_at_the_origin(random):
    clips = [dance("a", 60, seed=1), dance("b", 50, seed=2, genre="rumba")]
    before = [clip.translation.copy() for clip in clips]
    segments = MotionSegments(clips, length=32, stride=4, random=random, genres=GENRES)
    seen = set()
    for item in segments:
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
    mean, std = segment_statistics(segments)
    frames = torch.cat([item["motion"] for item in segments])
    torch.testing.assert_close(mean, frames.mean(0), atol=1e-4, rtol=1e-4)
    assert (std >= ROTATION_STD_FLOOR - 1e-6).all()
    with pytest.raises(ValueError, match="clip 'a' has genre 'waltz', which is none of tango"):
        MotionSegments(clips, length=32, genres=["tango"])


@pytest.mark.parametrize(
    ("lengths", "length"),
    [([300, 300], 240), ([100, 240, 300], 240), ([100, 100, 300], 96), ([20], 16), ([15, 15, 300], None), ([], None)],
)
def test_segments_fit_half_of_the_clips(lengths, length):
    assert fitting_length(lengths, 240) == length


def place(item) -> int:
    """First frame of a segment of a ruler."""
    return round(float(item["motion"][1, 0]) / TICK) - 1


@pytest.mark.parametrize("random", [False, True])
def test_segments_without_marked_frames(random):
    clip = ruler(frames=100, music=False, marked_frames=[40, 200])
    segments = MotionSegments([clip], 16, 8, mirror=False, random=random, drop_marked=True)
    free = {start for start in range(85) if not start <= 40 < start + 16}
    seen = set()
    for epoch in range(150 if random else 1):
        segments.set_epoch(epoch)
        seen |= {place(item) for item in segments}
    assert seen == {start for start in free if random or start % 8 == 0}
    with pytest.raises(ValueError, match="none of 1 clips has 80 frames without a marked one; use a smaller length"):
        MotionSegments([clip], 80, drop_marked=True)


def test_segments_end_where_the_muq_features_do():
    clips = [ruler("a", 100, music=False, muq_frames=63), ruler("b", 100, music=False)]
    segments = MotionSegments(clips, 16, 8, mirror=False, random=False, until_muq=True)
    assert [place(item) for item in segments] == [*range(0, 41, 8), *range(0, 81, 8)]
    # a clip that is played forth and back has no such end
    assert len(MotionSegments(clips, 120, 8, mirror=False, short="reflect", until_muq=True)) == 2


def test_segments_with_genres_are_not_isolated():
    with pytest.raises(ValueError, match="isolated=True is about velocities"):
        MotionSegments([dance()], 16, genres=GENRES, isolated=True)


def test_isolated_segments_end_with_a_stop():
    clip = ruler(frames=60, music=False)
    whole, isolated = (MotionSegments([clip], 16, 8, random=False, isolated=alone) for alone in (False, True))
    for with_end, without in zip(whole, isolated, strict=True):
        assert without["motion"][-1, :3].eq(0).all() and with_end["motion"][-1, 0] != 0
        assert torch.equal(with_end["motion"][:-1], without["motion"][:-1])
        assert torch.equal(with_end["motion"][:, 3:], without["motion"][:, 3:])


def test_no_variant_of_a_code_segment_has_a_marked_frame():
    clip = ruler(frames=400, marked_frames=[150, 290])
    encoded = encode_clips(ruler_encode, [clip], mirror=False, stretches=(0.8, 1.0, 1.25))
    statistics = Statistics.from_clips([clip])
    segments = CodeSegments(encoded, GENRES, statistics, length=80, stride=16, drop_marked=True)
    every = CodeSegments(encoded, GENRES, statistics, length=80, stride=16)
    assert len(segments) < len(every)
    speeds = set()
    for epoch in range(6):
        segments.set_epoch(epoch)
        for item in segments:
            frames = item["input_features"][:, 0].numpy()
            speeds.add(round(float(frames[70] - frames[0]) / 70, 1))
            for marked in clip.marked_frames:
                assert not frames[0] + 1 < marked < frames[-1] - 1  # a stretched mark may move by half a frame
    assert len(speeds) == 3


@pytest.mark.parametrize("random", [False, True])
def test_segments_say_which_frames_are_noise(random):
    clip = ruler(frames=100, music=False, marked_frames=[40])
    segments = MotionSegments([clip], 16, 8, mirror=True, random=random, mask_noise=True)
    plain = MotionSegments([clip], 16, 8, mirror=True, random=random)
    for item, other in zip(segments, plain, strict=True):
        assert torch.equal(item["motion"], other["motion"]) and other.keys() == {"motion"}
        start = round(abs(float(item["motion"][1, 0])) / TICK) - 1
        assert (~item["loss_mask"]).nonzero()[:, 0].tolist() == [f - start for f in (39, 40) if 0 <= f - start < 16]


def test_inputs_of_segments_are_corrupted_anew_in_every_epoch():
    clip, corruption = dance(frames=100, music=False), MotionCorruption(0.1, 0.1, 0.1)
    plain = MotionSegments([clip], 32, 8, seed=3)
    one, two = (MotionSegments([clip], 32, 8, seed=3, corruption=corruption) for _ in range(2))
    seen = []
    for epoch in (0, 1):
        for segments in (plain, one, two):
            segments.set_epoch(epoch)
        assert all(same(left, right) for left, right in zip(one, two, strict=True))
        assert all(torch.equal(left["motion"], right["motion"]) for left, right in zip(one, plain, strict=True))
        seen.append([not torch.equal(item["input_motion"], item["motion"]) for item in one])
    assert any(seen[0]) and any(seen[1]) and seen[0] != seen[1]
    assert "input_motion" not in MotionSegments([clip], 32, corruption=MotionCorruption())[0]
    with pytest.raises(ValueError, match="random=False gives the same segments .*; leave corruption out"):
        MotionSegments([clip], 32, random=False, corruption=corruption)
    for options in ({"mask_noise": True}, {"corruption": corruption}):
        with pytest.raises(ValueError, match="mask_noise and corruption are about the tokenizer's losses"):
            MotionSegments([clip], 32, genres=GENRES, **options)


@pytest.mark.parametrize("random", [False, True])
def test_codes_with_noise_are_no_labels(random):
    clip = ruler(frames=120, marked_frames=[60])
    statistics, encoded = Statistics.from_clips([clip]), encode_clips(ruler_encode, [clip], mask_noise=True)
    segments = CodeSegments(encoded, GENRES, statistics, length=40, stride=4, random=random)
    masked = 0
    for item in segments:
        first = item["input_features"][::8, 0].long()  # of the eight frames of each code
        noisy = torch.tensor([any(frame in range(f, f + 8) for frame in (59, 60)) for f in first.tolist()])
        for part in ("upper", "lower"):
            codes = item[f"{part}_codes"]
            assert torch.equal(item[f"{part}_labels"], torch.where(noisy, -100, codes))
        assert torch.equal(item["upper_codes"], first)
        masked += int(noisy.sum())
    assert masked > 0
    assert "upper_labels" not in CodeSegments(encode_clips(ruler_encode, [clip]), GENRES, statistics, length=40)[0]


def test_inputs_of_code_segments_are_those_of_the_corrupted_copy():
    clip = ruler(frames=120)
    encoded = encode_clips(ruler_encode, [clip], mirror=False, corruption=MotionCorruption(dropouts=0.4))
    segments = CodeSegments(encoded, GENRES, Statistics.from_clips([clip]), length=40, stride=4, random=False)
    differ = 0
    for start, item in zip(range(0, 81, 4), segments, strict=True):
        step, offset = divmod(start, 8)
        assert torch.equal(item["upper_labels"], item["input_features"][::8, 0].long())
        np.testing.assert_array_equal(item["upper_codes"], encoded[0].inputs[0][offset][step : step + 5])
        differ += int((item["upper_codes"] != item["upper_labels"]).sum())
    assert differ > 0
