"""Dances made by rule: a person on the floor, whose accents are on the beat and whose genre can be seen."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from megadance_hf import metrics
from megadance_hf.data.clip import check_motion
from megadance_hf.modeling.kinematics_megadance import axis_angle_to_matrix, forward_kinematics
from megadance_hf.synthetic.choreographer import choreograph
from megadance_hf.synthetic.figures import GENRES


def joints_of(dance) -> np.ndarray:
    matrices = axis_angle_to_matrix(torch.from_numpy(dance.poses).unflatten(-1, (24, 3)))
    return forward_kinematics(matrices, torch.from_numpy(dance.translation)).numpy()


def beats(tempo: float, first: float, seconds: float) -> np.ndarray:
    times = first + np.arange(int(seconds * tempo / 60) + 1) * 60 / tempo
    return np.round(times[times < seconds] * 30)


@pytest.mark.parametrize("genre", GENRES)
@pytest.mark.parametrize("beats_per_bar", [3, 4])
def test_accents_are_on_the_beat_and_nowhere_else(genre, beats_per_bar):
    tempo, first = 92.0, 0.4
    joints = joints_of(choreograph(genre, 16, tempo, beats_per_bar, first_beat=first, seed=1))
    music = beats(tempo, first, 16)
    on, off = (metrics.beat_alignment(joints, music + shift, over="motion") for shift in (0, 30 * 30 / tempo))
    assert on > 0.75 and off < 0.15


@settings(max_examples=12)
@given(
    genre=st.sampled_from(sorted(GENRES)),
    tempo=st.floats(70, 115),
    beats_per_bar=st.sampled_from([3, 4]),
    first_beat=st.floats(0, 1.5),
    energy=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_any_dance_is_a_person_on_the_floor(genre, tempo, beats_per_bar, first_beat, energy, seed):
    dance = choreograph(genre, 6, tempo, beats_per_bar, first_beat=first_beat, energy=energy, seed=seed)
    check_motion(dance.poses, dance.translation)
    joints = joints_of(dance)
    assert len(joints) == 180 and dance.poses.dtype == np.float32
    assert joints[..., 1].min() > -0.005, "through the floor"
    lowest_foot = joints[:, [10, 11], 1].min(1)
    assert lowest_foot.max() < 0.12, "both feet in the air"
    assert (joints[:, 15, 1] > joints[:, 0, 1] + 0.4).all(), "head over heels"
    assert metrics.foot_skating_ratio(joints) < 0.12
    assert metrics.largest_step(joints) < 0.35


def test_knees_bend_forward_and_feet_stay_flat():
    joints = joints_of(choreograph("bounce", 8, 90, seed=3))
    for hip, knee, ankle, toe in ((1, 4, 7, 10), (2, 5, 8, 11)):
        middle = (joints[:, hip] + joints[:, ankle]) / 2
        assert (joints[:, knee, 2] > middle[:, 2] - 0.01).all()
        assert np.abs(joints[:, toe, 1]).max() < 0.01
        assert (joints[:, toe, 2] > joints[:, ankle, 2]).all()


def test_the_first_beat_of_a_bar_is_the_largest():
    tempo, frames = 90.0, 20
    speeds = np.zeros(4)
    for genre in GENRES:
        for seed in range(4):
            joints = joints_of(choreograph(genre, 32, tempo, 4, seed=seed))
            speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1).mean(1)
            way_to = speed[: len(speed) // (4 * frames) * 4 * frames].reshape(-1, 4, frames).mean((0, 2))
            speeds += np.roll(way_to, 1)  # the movement of beat k - 1 to k arrives on k
    assert speeds[:2].min() > 1.15 * speeds[2:].max(), "towards the first beat, and away from it"


def test_the_same_seed_gives_the_same_dance_and_another_seed_another():
    first, again, other = (choreograph("sway", 5, 100, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.poses, again.poses) and not np.allclose(first.poses, other.poses)


def test_more_energy_is_more_movement():
    quiet, loud = (joints_of(choreograph("reach", 10, 90, energy=energy, seed=0)) for energy in (0.0, 1.0))
    assert metrics.mean_speed(loud) > 1.2 * metrics.mean_speed(quiet)


def test_sides_alternate():
    joints = joints_of(choreograph("march", 12, 90, seed=0))
    lifted = joints[:, [10, 11], 1] > 0.05
    assert lifted[:, 0].any() and lifted[:, 1].any() and not lifted.all(1).any()


def test_genres_differ_in_what_the_body_does():
    poses = {genre: np.abs(choreograph(genre, 10, 90, seed=0).poses).mean(0) for genre in GENRES}
    names = sorted(poses)
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            assert np.abs(poses[one] - poses[other]).max() > 0.2, f"{one} looks like {other}"


@pytest.mark.parametrize(
    "arguments, named",
    [
        (("polka", 5, 90), "polka"),
        (("march", 0, 90), "seconds"),
        (("march", 5, -1), "tempo"),
        (("march", 5, 90, 1), "beats_per_bar"),
    ],
)
def test_wrong_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        choreograph(*arguments)
