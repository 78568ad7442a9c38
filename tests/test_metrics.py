"""Measures of motion, on motions whose numbers are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from megadance_hf import metrics
from megadance_hf.metrics import novelty

RNG = np.random.default_rng(0)


def standing(frames: int = 300) -> np.ndarray:
    """A figure whose feet are on the floor and whose pelvis is a metre above it."""
    joints = np.tile(RNG.normal(size=(1, 24, 3)) * 0.2 + [0, 1, 0], (frames, 1, 1))
    joints[:, 0] = [0, 1, 0]
    joints[:, [10, 11], 1] = 0
    return joints


def moving(velocity: tuple[float, float, float], frames: int = 300) -> np.ndarray:
    return standing(frames) + np.arange(frames)[:, None, None] / 30 * np.array(velocity)


def test_joint_error_sees_what_its_alignment_leaves():
    truth = RNG.normal(size=(20, 24, 3))
    assert metrics.joint_error(truth, truth, "none") == 0
    shifted = truth + [0.3, 0, 0.4]
    assert metrics.joint_error(shifted, truth, "none") == pytest.approx(0.5)
    assert metrics.joint_error(shifted, truth) == pytest.approx(0, abs=1e-12)
    turned = np.einsum("tij,tnj->tni", Rotation.random(20, random_state=1).as_matrix(), truth - truth[:, :1])
    assert metrics.joint_error(turned, truth) > 0.5
    assert metrics.joint_error(turned, truth, "rotation") == pytest.approx(0, abs=1e-6)
    mirrored = truth * [-1, 1, 1]  # no rotation makes a mirror image fit
    assert metrics.joint_error(mirrored, truth, "rotation") > 0.1
    with pytest.raises(ValueError, match="align='hips'"):
        metrics.joint_error(truth, truth, "hips")


def test_speed_and_jerk_of_known_paths():
    assert metrics.mean_speed(moving((3, 0, 4))) == pytest.approx(5)
    assert metrics.jerk(moving((3, 0, 4))) == pytest.approx(0, abs=1e-6)
    time = np.arange(300) / 30
    cubic = standing() + (time**3)[:, None, None] * np.array([1, 0, 0])
    assert metrics.jerk(cubic) == pytest.approx(6, rel=1e-6)
    assert metrics.jerk(standing(3)) == 0


def test_frozen_share_counts_still_seconds():
    assert metrics.frozen_share(standing()) == 1
    assert metrics.frozen_share(moving((1, 0, 0))) == 0
    half = np.concatenate([standing(151), moving((1, 0, 0), 150)])
    assert metrics.frozen_share(half) == pytest.approx(0.5, abs=0.11)
    assert metrics.frozen_share(standing(10)) == 0


def test_only_feet_on_the_floor_skate():
    assert metrics.foot_speed_on_floor(moving((0.3, 0, 0.4))) == pytest.approx(0.5)
    assert metrics.foot_speed_on_floor(moving((0.3, 0, 0.4)) + [0, 0.5, 0]) == 0
    assert metrics.foot_speed_on_floor(standing()) == 0
    one_foot = moving((0.6, 0, 0))
    one_foot[:, 10, 1] = 0.4  # in the air
    one_foot[:, 11] = one_foot[0, 11]  # the other stands
    assert metrics.foot_speed_on_floor(one_foot) == 0


def test_root_drift_is_metres_per_minute():
    assert metrics.root_drift(moving((0.05, 0, 0), 900)) == pytest.approx(3, rel=1e-6)
    assert metrics.root_drift(moving((0, 1, 0), 900)) == pytest.approx(0, abs=1e-9)  # height is no drift
    circle = standing(900)
    angle = np.linspace(0, 2 * np.pi * 30, 900)[:, None]
    circle += np.stack([np.cos(angle), 0 * angle, np.sin(angle)], -1)
    assert metrics.root_drift(circle) < 0.3


def test_pelvis_bob_of_a_sine():
    joints = standing(600)
    joints[:, 0, 1] += 0.05 * np.sin(np.arange(600) / 30 * 2 * np.pi * 1.5)
    assert metrics.pelvis_bob(joints) == pytest.approx(0.05 / np.sqrt(2), rel=0.1)
    slow = standing(600)
    slow[:, 0, 1] += np.linspace(0, 0.1, 600)
    assert metrics.pelvis_bob(slow) < 0.005


def test_largest_step_finds_the_jump():
    joints = standing()
    joints[100:, 5] += [0, 0.7, 0]
    assert metrics.largest_step(joints) == pytest.approx(0.7)
    assert metrics.largest_step(joints[:1]) == 0


def swaying(phase: np.ndarray, delay: float = 0.0) -> np.ndarray:
    """Walking on, with arms that move fast once a bar: the speed's rise and fall belongs to the bar, the path does not."""
    joints = moving((0.7, 0, 0.2), len(phase))
    swing = np.cumsum(1 + np.cos(2 * np.pi * (phase - delay))) / 30
    joints[:, 16:] += swing[:, None, None] * [0, 0.5, 0.5]
    return joints


def test_bar_profile_follows_the_bar_and_not_the_path():
    phase = np.arange(600) / 57 % 1
    profile = metrics.bar_profile(swaying(phase), phase)
    assert profile.shape == (16,) and abs(profile.sum()) < 1e-9
    assert np.argmax(profile) in (15, 0) and profile.max() > 0.1
    np.testing.assert_allclose(metrics.bar_profile(swaying(phase) + [3, 0, 1], phase), profile, atol=1e-9)
    correlate = metrics.profile_correlation
    assert correlate(profile, metrics.bar_profile(swaying(phase), phase)) == pytest.approx(1)
    assert correlate(profile, metrics.bar_profile(swaying(phase, 0.5), phase)) < -0.95
    assert abs(correlate(profile, metrics.bar_profile(swaying(phase, 0.25), phase))) < 0.2
    drifting = swaying(np.arange(600) / 40 % 1)  # keeps a tempo of its own
    assert np.abs(metrics.bar_profile(drifting, phase)).max() < 0.3 * profile.max()


def test_bar_profile_of_no_motion_is_flat():
    still = metrics.bar_profile(standing(60), np.arange(60) / 50 % 1)
    assert np.abs(still).max() < 1e-12 and metrics.profile_correlation(still, np.arange(16.0) - 7.5) == 0
    assert metrics.bar_profile(standing(1), np.zeros(1)).tolist() == [0.0] * 16


# --- feet, beats ---------------------------------------------------------------------------------------------------------


def test_skating_is_a_foot_on_the_floor_that_slips():
    assert metrics.foot_skating_ratio(standing()) == 0
    assert metrics.foot_skating_ratio(moving((1.2, 0, 0))) == 1  # 4 cm per frame
    assert metrics.foot_skating_ratio(moving((0.5, 0, 0))) == 0  # 1.7 cm per frame
    assert metrics.foot_skating_ratio(moving((1.2, 0, 0)) + [0, 1, 0]) == 0  # in the air
    assert metrics.foot_skating_ratio(moving((1.2, 0, 0), 1)) == 0


def test_physical_foot_contact():
    time = np.arange(90) / 30
    planted = standing(90)
    planted[:, 0, 0] += 0.2 * np.sin(8 * time)  # the body sways, the feet stay: pushed against the floor
    assert metrics.physical_foot_contact(planted) == 0
    sliding = planted.copy()
    sliding[:, [7, 8, 10, 11], 0] += np.linspace(0, 1, 90)[:, None]
    size = np.abs(np.diff(planted[:, 0, 0], n=2))  # both feet slide 1/89 m per frame
    assert metrics.physical_foot_contact(sliding) == pytest.approx(10000 * (size / size.max()).mean() / 89**2)
    one_foot = planted.copy()
    one_foot[:, [7, 10], 0] += np.linspace(0, 1, 90)[:, None]
    assert metrics.physical_foot_contact(one_foot) == 0  # the other holds
    assert metrics.physical_foot_contact(standing(2)) == 0 == metrics.physical_foot_contact(standing(50))


def pausing(period: int, frames: int = 300) -> np.ndarray:
    """A dance that pauses every `period` frames: at period/2, 3/2 period, ..."""
    joints = standing(frames)
    path = np.cumsum(1.2 + np.cos(2 * np.pi * np.arange(frames) / period)) / 30
    joints[:, :, 0] += path[:, None]
    return joints


def test_beats_are_pauses_and_alignment_counts_from_either_side():
    beats = metrics.motion_beats(pausing(30))
    np.testing.assert_allclose(beats, np.arange(14, 290, 30), atol=1)
    assert metrics.beat_alignment(pausing(30), beats) == 1
    assert metrics.beat_alignment(pausing(30), beats + 3) == pytest.approx(np.exp(-0.5), abs=0.03)
    twice = np.sort(np.concatenate((beats, beats + 15)))  # the music beats twice as often
    assert metrics.beat_alignment(pausing(30), twice, over="motion") == 1
    assert metrics.beat_alignment(pausing(30), twice, over="music") == pytest.approx(0.5, abs=0.01)


def test_no_beats_align_with_nothing():
    assert len(metrics.motion_beats(standing())) == 0 == metrics.beat_alignment(standing(), [3, 9])
    assert metrics.beat_alignment(pausing(30), []) == 0
    assert len(metrics.motion_beats(standing(2))) == 0
    with pytest.raises(ValueError, match="neither 'music' nor 'motion'"):
        metrics.beat_alignment(pausing(30), [3], over="both")


@given(
    st.floats(8, 30),
    st.floats(0, 8),
    st.floats(0.01, 0.99),
)
def test_shifted_beats_of_an_even_grid_are_that_grid_later(period, first, part):
    frames = 200
    beats = np.arange(first, frames, period)
    moved = metrics.shift_beats(beats, part, frames)
    expected = np.arange(first + (part - 1) * period, frames, period)
    expected = expected[expected >= 0]
    # a beat within rounding of an end may be in or out
    assert abs(len(moved) - len(expected)) <= 1
    assert all(np.abs(expected - beat).min() < 1e-6 for beat in moved if 1e-6 < beat < frames - 1e-6)


def test_one_beat_is_no_tempo():
    assert metrics.beat_synchrony(np.zeros((100, 24, 3)), np.array([40])) is None


def test_a_dance_in_time_with_the_bar_is_told_from_itself_moved():
    frames, period = 480, 60
    phase = (np.arange(frames) / period) % 1
    speed = 1 + 0.8 * np.cos(2 * np.pi * phase)
    path = np.cumsum(speed) / 30
    joints = np.zeros((frames, 24, 3))
    joints[:, 1:, 1] = path[:, None]
    reference = metrics.bar_profile(joints, phase)
    found = metrics.bar_synchrony(joints, phase, reference)
    assert found["own"] == pytest.approx(1) and found["moved"] == pytest.approx(-1 / 11, abs=0.02)
    late = metrics.bar_synchrony(joints, (phase + 0.5) % 1, reference)
    assert late["own"] == pytest.approx(-1, abs=0.02)
    np.testing.assert_allclose(found["profile"], reference)


# --- distributions, genres, errors -------------------------------------------------------------------------------------------


def test_frechet_distance_of_gaussians_that_are_known():
    rows = RNG.normal(size=(400, 3))
    rows = (rows - rows.mean(0)) / rows.std(0, ddof=1)
    assert metrics.frechet_distance(rows, rows) == pytest.approx(0, abs=1e-9)
    assert metrics.frechet_distance(rows + [3, 0, 4], rows) == pytest.approx(25)
    line = rows[:, :1]
    assert metrics.frechet_distance(2 * line, line) == pytest.approx(1)  # (2 - 1)^2
    few = metrics.frechet_distance(rows[:2], rows)  # singular
    assert np.isfinite(few) and isinstance(few, float)


def test_too_few_rows_are_errors_and_constant_ones_are_not():
    rows = RNG.normal(size=(5, 4))
    for bad in (rows[:1], rows[0], rows * np.nan):
        with pytest.raises(ValueError, match="features has"):
            metrics.frechet_distance(bad, rows)
    with pytest.raises(ValueError, match="4 columns, the reference 3"):
        metrics.frechet_distance(rows, rows[:, :3])
    assert metrics.frechet_distance(np.ones((3, 4)), np.ones((2, 4))) == 0
    assert metrics.diversity(rows[:1]) == 0 == metrics.diversity(np.ones((3, 4)))


def test_diversity_is_the_mean_distance_of_pairs():
    rows = RNG.normal(size=(7, 4))
    pairs = [np.linalg.norm(rows[i] - rows[j]) for i in range(7) for j in range(i)]
    assert metrics.diversity(rows) == pytest.approx(np.mean(pairs))


def test_a_paired_test_is_one_sided():
    low = np.arange(10.0)
    assert metrics.paired_test(low + np.linspace(1, 2, 10), low)["p"] == pytest.approx(2**-10)
    assert metrics.paired_test(low, low + np.linspace(1, 2, 10))["p"] == 1.0
    assert metrics.paired_test(low, low) == {"pairs": 10, "difference": 0.0, "p": 1.0}
    assert metrics.paired_test([], []) == {"pairs": 0, "difference": 0.0, "p": 1.0}


def test_genre_scores():
    assert metrics.genre_accuracy([0, 1, 1, 2], [0, 1, 2, 2]) == 0.75
    assert metrics.genre_f1([0, 1, 1, 2], [0, 1, 2, 2]) == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
    assert metrics.genre_f1([1, 1], [0, 0]) == 0
    with pytest.raises(ValueError, match="expected"):
        metrics.genre_accuracy([], [])


def test_reconstruction_errors():
    assert metrics.reconstruction_errors(np.array([1.0, 4.0]), np.array([1.0, 2.0])) == {"mse": 2.0, "mae": 1.0}
    with pytest.raises(ValueError, match="expected equal ones"):
        metrics.reconstruction_errors(np.ones(2), np.ones(3))


def test_codes_in_use():
    import torch

    assert metrics.codebook_utilization(torch.tensor([0, 0, 3]), 8) == 0.25


# --- spins, jumps, toes, landings, novelty -------------------------------------------------------------------------------


def test_a_turn_about_the_vertical_is_a_spin_and_a_bow_is_none():
    poses = np.zeros((40, 24, 3))
    poses[:, 0] = Rotation.from_euler("y", 10 * np.arange(40)[:, None], degrees=True).as_rotvec()  # past half a turn
    np.testing.assert_allclose(metrics.body_turns(poses), 10, atol=1e-9)
    assert metrics.count_spins(poses) == 0
    poses[20:, 0] = Rotation.from_euler("y", 10 * np.arange(20, 40)[:, None] + 90, degrees=True).as_rotvec()
    assert metrics.largest_turn(poses) == pytest.approx(100) and metrics.count_spins(poses) == 1
    bow = np.zeros((3, 24, 3))
    bow[1, 0] = Rotation.from_euler("x", 80, degrees=True).as_rotvec()
    assert metrics.largest_turn(bow) == pytest.approx(0, abs=1e-9)
    leaning = np.zeros((2, 24, 3))
    leaning[:, 0] = Rotation.from_euler("YX", [[0, 30], [50, 30]], degrees=True).as_rotvec()
    assert metrics.largest_turn(leaning) == pytest.approx(50)
    assert metrics.largest_turn(poses[:1]) == 0 == metrics.count_spins(poses[:1])


def test_jumps_are_counted_by_frame():
    joints = standing()
    joints[100:, [5, 20]] += [0, 0.7, 0]
    joints[200:, 5] += [0.41, 0, 0]
    joints[250:, 5] += [0.39, 0, 0]
    assert metrics.count_jumps(joints) == 2
    assert metrics.count_jumps(joints[:1]) == 0


def test_toes_are_measured_where_they_are_low():
    joints = standing(101)
    joints[:, 10, 0] += np.concatenate([np.zeros(71), np.arange(1, 31) * 0.02])  # slides at 0.6 m/s in 30 of 100 frames
    joints[:, 11, 1] = 0.04  # the other is in the air
    assert metrics.toe_speeds(joints) == (pytest.approx(0), pytest.approx(0.6))
    joints[:, 11, 1] = 0
    assert metrics.toe_speeds(joints)[1] == pytest.approx(0.6)  # 15 % of both feet's frames
    assert metrics.toe_speeds(joints + [0, 0.1, 0]) == (0, 0)


def test_depth_below_the_floor():
    joints = standing()
    assert metrics.depth_below_floor(joints + [0, 1, 0]) == 0
    joints[7, 10, 1] = -0.02
    assert metrics.depth_below_floor(joints) == pytest.approx(max(0.02, -joints[..., 1].min()))


def stepping(times: np.ndarray, frames: int = 300, moving_frames: int = 6) -> np.ndarray:
    """A figure whose left foot moves at 1 m/s for 0.2 s before each of `times` (frames), and stands otherwise."""
    joints = standing(frames)
    speed = np.zeros(frames)
    for time in times:
        speed[time - moving_frames : time] = 1
    joints[1:, 10, 2] += np.cumsum(speed / 30)[:-1]
    return joints


def test_a_landing_is_where_a_fast_foot_becomes_slow():
    times = np.arange(20, 290, 15)
    found = metrics.foot_landings(stepping(times))
    assert len(found) == len(times) and np.abs(found - times).max() <= 1
    slow = standing()
    slow[:, 10, 2] += np.arange(300) * 0.4 / 30  # never fast
    assert len(metrics.foot_landings(slow)) == 0 == len(metrics.foot_landings(standing(1)))
    both = stepping(times)
    both[:, 11] = both[:, 10] + [0.2, 0, 0]
    assert len(metrics.foot_landings(both)) == 2 * len(times)


def test_landings_on_the_beat_are_told_from_landings_beside_it():
    times = np.arange(30, 270, 20)
    on, beats = stepping(times), np.arange(50, 230, 20)  # ends are extrapolated
    assert metrics.landing_synchrony(on, beats) == {"own": 1, "moved": 0, "landings": len(times)}
    beside = metrics.landing_synchrony(on, beats + 10)
    assert beside["own"] == 0 and beside["moved"] == pytest.approx(1 / 3)
    assert metrics.landing_synchrony(on, [50]) is None and metrics.landing_synchrony(standing(), beats) is None
    slower = np.cumsum(np.arange(12, 32))  # a tempo that slows down
    found = metrics.landing_synchrony(stepping(slower[1:], 450, 5), slower)
    assert found["own"] == 1


def wandering(frames: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    path = np.cumsum(generator.normal(size=(frames, 24, 3), scale=0.02), axis=0)
    joints = generator.normal(size=(24, 3), scale=0.3) + path
    joints[:, 1], joints[:, 2] = joints[:, 0] + [0.06, -0.08, 0], joints[:, 0] - [0.06, 0.08, 0]
    return joints


def test_a_dance_repeats_training_motion_wherever_it_stands_and_faces():
    training = [wandering(200, 1), wandering(150, 2)]
    library = metrics.TrainingMotion(training)
    assert library.longest_run(training[1]) == pytest.approx(5.0)
    elsewhere = Rotation.from_euler("y", 130, degrees=True).apply(training[0][40:130].reshape(-1, 3)).reshape(-1, 24, 3)
    dance = np.concatenate([wandering(80, 3), elsewhere + [3, 0, -2], wandering(60, 4)])
    assert library.longest_run(dance) == pytest.approx(3.0, abs=0.11)
    assert library.longest_run(wandering(100, 5)) == 0
    # where one clip ends and the next begins is no run
    joined = np.concatenate([training[0][-30:], training[1][:60]])
    assert library.longest_run(joined) == pytest.approx(2.0, abs=0.11)
    assert metrics.TrainingMotion([]).longest_run(dance) == 0


def read_slowly(units: list[tuple[str, np.ndarray]], dance: np.ndarray) -> list[str | None]:
    """Slow twin of `TrainingUnits.read`: the cheapest path, one state and one frame after the other."""
    states = [(number, frame) for number, (_, joints) in enumerate(units) for frame in range(len(joints))]
    poses = {(n, f): novelty.body_poses(units[n][1][f : f + 1])[0] for n, f in states}
    costs, paths = dict.fromkeys([*states, None], 0.0), dict.fromkeys([*states, None], ())
    for pose in novelty.body_poses(dance[:: novelty.STRIDE]):
        best = min(costs, key=costs.get)
        new_costs, new_paths = {}, {}
        for state in costs:
            before = [None] if state is None else [(state[0], state[1] - step) for step in (3, 2, 4)]
            ways = [(costs[best] + novelty.CHANGE_COST, best), *((costs[b], b) for b in before if b in costs)]
            cost, origin = min(ways, key=lambda way: way[0])
            distance = None if state is None else np.square(poses[state] - pose).sum(-1).mean()
            cost += novelty.NO_UNIT_COST if state is None else distance / novelty.POSE_TOLERANCE**2
            new_costs[state], new_paths[state] = cost, (*paths[origin], state)
        costs, paths = new_costs, new_paths
    found = paths[min(costs, key=costs.get)]
    return [None if state is None else units[state[0]][0] for state in found]


def test_a_dance_is_read_as_a_sequence_of_units():
    walks = {name: wandering(45, seed) for seed, name in enumerate("abc")}
    faster = walks["b"][np.arange(0, 45, 1.25).astype(int)]
    dance = np.concatenate([walks["a"], wandering(15, 9), faster, walks["c"][:30]])
    library = metrics.TrainingUnits(walks.items(), {("a", "b")})
    found = library.read(dance)
    assert found == read_slowly(list(walks.items()), dance)
    runs = [name for number, name in enumerate(found) if number == 0 or found[number - 1] != name]
    assert runs == ["a", None, "b", "c"]
    # half a second of unknown motion joins a and b, which a choreography has; b and c none
    joins = library.joins(dance)
    assert (joins["joins"], joins["new"]) == (2, 1) and joins["in_units"] == pytest.approx(37 / 42, abs=0.05)


def test_units_far_apart_are_not_joined_and_one_by_itself_has_no_join():
    walks = {name: wandering(60, seed) for seed, name in enumerate("ab")}
    library = metrics.TrainingUnits(walks.items(), set())
    apart = np.concatenate([walks["a"], wandering(45, 9), walks["b"]])
    assert library.joins(apart)["joins"] == 0
    assert library.joins(walks["a"]) == {"joins": 0, "new": 0, "in_units": 1.0}
    assert library.joins(wandering(60, 8)) == {"joins": 0, "new": 0, "in_units": 0.0}
    assert metrics.TrainingUnits([], set()).joins(walks["a"]) == {"joins": 0, "new": 0, "in_units": 0.0}
