"""The synthetic data set: composed songs, choreographed dances, and the truth about both."""

import numpy as np
import pytest
import torch

from megadance_hf import metrics
from megadance_hf.data.prepared import read_info, read_prepared
from megadance_hf.data.rhythm import bar_phase, beat_phase
from megadance_hf.datasets_scripts.synthetic import GENRES, list_raw, make, prepare
from megadance_hf.modeling.audio_megadance import load_audio
from megadance_hf.modeling.kinematics_megadance import axis_angle_to_matrix, forward_kinematics
from megadance_hf.modeling.music_features_megadance import ONSET_ENVELOPE


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    report = prepare(folder, clips=6, seconds=6, seed=3, progress=False)
    return folder, report


def test_clips_are_whole_and_say_where_their_beats_are(prepared):
    folder, report = prepared
    assert not report.left_out and read_info(folder)["genres"] == sorted(GENRES)
    clips = read_prepared(folder, audio=True)
    assert len(clips) == 6 and {clip.genre for clip in clips} == set(GENRES)
    for clip in clips:
        assert len(clip) == 180 and clip.paired and bar_phase(clip) is not None
        waveform, rate = load_audio(clip.audio)
        assert abs(len(waveform) / rate - 6) < 0.01
        assert 0.5 < clip.beat_period_s < 0.8 and clip.licence == "Apache-2.0"


def test_the_dance_and_the_song_are_in_time(prepared):
    folder, _ = prepared
    for clip in read_prepared(folder):
        matrices = axis_angle_to_matrix(torch.from_numpy(clip.poses).unflatten(-1, (24, 3)))
        joints = forward_kinematics(matrices, torch.from_numpy(clip.translation)).numpy()
        grid = np.arange(clip.first_beat_s, 6, clip.beat_period_s) * 30
        half = clip.beat_period_s * 15
        assert (
            metrics.beat_alignment(joints, grid, "motion") > metrics.beat_alignment(joints, grid + half, "motion") + 0.4
        )
    # of all songs together the sound rises on the beat
    phases, envelopes = [], []
    for clip in read_prepared(folder):
        phases.append(beat_phase(clip))
        envelopes.append(clip.input_features[:, ONSET_ENVELOPE])
    phase, envelope = np.concatenate(phases), np.concatenate(envelopes)
    near = (phase < 0.15) | (phase > 0.92)
    assert envelope[near].mean() > 1.3 * envelope[~near].mean()


def test_every_clip_is_a_pure_function_of_its_number():
    raw = list_raw(7, seconds=2.5, seed=1)[6]
    first, again = make(raw), make(raw)
    assert first.audio == again.audio and np.array_equal(first.poses, again.poses)
    other = make(list_raw(7, seconds=2.5, seed=2)[6])
    assert other.audio != first.audio and not np.array_equal(other.poses, first.poses)


def test_splits_hold_every_genre_and_genre_says_nothing_about_style():
    raws = list_raw(80)
    for split, count in (("train", 60), ("validation", 5), ("test", 15)):
        chosen = [raw for raw in raws if raw.split == split]
        assert len(chosen) == count and {raw.record["genre"] for raw in chosen} == set(GENRES)
    assert len({raw.id for raw in raws}) == 80


def test_numbers_out_of_range_are_refused(tmp_path):
    for wrong in ({"clips": 0}, {"seconds": 1}, {"seed": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            prepare(tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()
