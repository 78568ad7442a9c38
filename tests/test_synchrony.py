"""Whether dances keep time: beats and bars of clips, tests of significance over many dances."""

import numpy as np
import pytest
from helpers import song

from megadance_hf import metrics
from megadance_hf.data.rhythm import bar_phase
from megadance_hf.evaluation import synchrony
from megadance_hf.motion.motion import Motion


def test_dances_to_one_song_count_once_over_songs():
    dances = [{"song": f"s{n // 3}", "bar": {"own": n + 1.0, "moved": 0.0}} for n in range(12)]
    found = synchrony.synchrony_tests([*dances, {"song": "unknown", "bar": None}], "bar")
    assert (found["dances"]["pairs"], found["songs"]["pairs"]) == (12, 4)
    assert found["own"] == 6.5 and found["songs"]["p"] == pytest.approx(1 / 16)
    assert synchrony.synchrony_tests([{"song": "a", "bar": None}], "bar") is None


def test_right_and_wrong_music_are_paired_by_excerpt_and_seed():
    right = [{"excerpt": "a", "seed": s, "bar": {"own": 0.5 + s}} for s in range(5)]
    wrong = [{"excerpt": "a", "seed": s, "bar": {"own": 0.25 + s}} for s in reversed(range(4))]
    assert synchrony.compare_music(right, wrong, "bar") == {"pairs": 4, "difference": 0.25, "p": pytest.approx(1 / 16)}
    assert synchrony.compare_music(right, [], "bar") is None


def test_beats_of_features_and_of_the_data_set():
    clip = song(1)
    assert synchrony.feature_beats(clip)[:3].tolist() == [3, 18, 33]
    assert synchrony.known_beats(clip)[:3] == pytest.approx([3, 18, 33])
    assert synchrony.known_beats(song(1, phase_confidence="low")) is None
    early = song(1, first_beat_s=-0.65)  # an excerpt's first beat can lie before it
    assert synchrony.known_beats(early)[0] == pytest.approx(10.5)


def paused(beats: np.ndarray, frames: int, rest: np.ndarray) -> np.ndarray:
    """Joints (frames, 24, 3) that swing from one side to the other and stand still exactly on each beat."""
    every = np.concatenate(
        ([2 * beats[0] - beats[1]], beats, [2 * beats[-1] - beats[-2]], [3 * beats[-1] - 2 * beats[-2]])
    )
    place = np.interp(np.arange(frames), every, np.arange(len(every)))
    return rest + 0.2 * np.cos(np.pi * place)[:, None, None] * np.array([1.0, 0.3, 0.0])


def test_a_dance_that_pauses_on_the_beat_beats_its_own_shifts():
    rest = np.random.default_rng(0).uniform(-1, 1, (24, 3))
    rows = []
    for number in range(10):
        beats = np.arange(4.3 + number / 2, 300, 14 + number)  # between two frames
        rows.append({"song": number, "beat": metrics.beat_synchrony(paused(beats, 300, rest), beats)})
    for over in ("music", "motion"):
        found = synchrony.synchrony_tests([{"song": r["song"], over: r["beat"][over]} for r in rows], over)
        assert found["own"] > 0.9 > 0.6 > found["moved"]
        assert found["dances"]["p"] < 0.01 and found["songs"]["p"] < 0.01


def test_a_dance_that_pauses_anywhere_does_not():
    rows = []
    for number in range(24):
        generator = np.random.default_rng(number)
        pauses = np.cumsum(generator.uniform(8, 30, 30))
        rest = generator.uniform(-1, 1, (24, 3))
        beats = np.arange(generator.uniform(0, 15), 300, 15)
        rows.append({"song": number, "beat": metrics.beat_synchrony(paused(pauses, 300, rest), beats)})
    for over in ("music", "motion"):
        found = synchrony.synchrony_tests([{"song": r["song"], over: r["beat"][over]} for r in rows], over)
        assert found["dances"]["p"] > 0.05


def test_the_training_profile_of_one_clip_is_that_clip():
    clip = song(1, period=0.4)
    profiles = synchrony.training_profiles([clip, song(2, first_beat_is_downbeat=False), song(3, genre=None)])
    own = metrics.bar_profile(Motion(clip.poses, clip.translation).joints(), bar_phase(clip))
    np.testing.assert_allclose(profiles["waltz"], own)
    assert list(profiles) == ["waltz"]
