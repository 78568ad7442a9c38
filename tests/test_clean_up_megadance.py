"""The clean-up: glitches vanish, feet stand, and what was right stays."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from megadance_hf import Motion, metrics
from megadance_hf.modeling import kinematics_megadance as kinematics
from megadance_hf.modeling.clean_up_megadance import CleanUpStream, clean_motion, clean_rotations
from megadance_hf.modeling.kinematics_megadance import axis_angle_to_matrix
from megadance_hf.synthetic.choreographer import choreograph

LEGS = ((1, 4, 7), (2, 5, 8))


def synthetic(genre: str = "sway", seconds: float = 6, seed: int = 0) -> Motion:
    dance = choreograph(genre, seconds, 96, seed=seed)
    return Motion(dance.poses, dance.translation)


@pytest.fixture(scope="module")
def captured(shared_dir) -> list[Motion]:
    """Captured dances of several genres."""
    folder = shared_dir / "data" / "ballroom2" / "motions"
    return [Motion.load(folder / f"{name}.npz")[:900] for name in ("rumba_1a", "chacha_1a", "tango_2_r3", "take_14b")]


def turns(motion: Motion) -> np.ndarray:
    """Degrees between neighbouring frames (T - 1, 24), of each joint relative to its parent."""
    matrices = kinematics.axis_angle_to_matrix(torch.from_numpy(motion.poses).double()).numpy()
    cosine = (np.einsum("tjab,tjab->tj", matrices[1:], matrices[:-1]) - 1) / 2
    return np.degrees(np.arccos(cosine.clip(-1, 1)))


def steps(motion: Motion) -> np.ndarray:
    """Metres that each joint moves between neighbouring frames (T - 1, 24)."""
    return np.linalg.norm(np.diff(motion.joints(), axis=0), axis=-1)


def knee_angles(motion: Motion) -> np.ndarray:
    """Degrees (T, 2), 0 for a straight leg."""
    joints = motion.joints()
    bones = [(joints[:, knee] - joints[:, hip], joints[:, ankle] - joints[:, knee]) for hip, knee, ankle in LEGS]
    cosines = [(a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1) for a, b in bones]
    return np.degrees(np.arccos(np.clip(cosines, -1, 1))).T


def moved(first: Motion, second: Motion) -> np.ndarray:
    """The farthest that a joint is from where it was, relative to the pelvis, in each frame (T,)."""
    joints = [motion.joints() - motion.translation[:, None] for motion in (first, second)]
    return np.linalg.norm(joints[0] - joints[1], axis=-1).max(1)


def toe_speeds(motion: Motion) -> np.ndarray:
    """Horizontal speeds of toes below 3 cm, m/s."""
    toes = motion.joints()[:, [10, 11]]
    speeds = np.linalg.norm(np.diff(toes[..., [0, 2]], axis=0), axis=-1) * motion.fps
    return speeds[np.maximum(toes[1:, :, 1], toes[:-1, :, 1]) < 0.03]


def roughness(motion: Motion) -> np.ndarray:
    """Jerk (T - 3,), m/s^3."""
    return np.linalg.norm(np.diff(motion.joints(), n=3, axis=0), axis=-1).mean(1) * motion.fps**3


def sliding(motion: Motion, speed: float = 0.35) -> Motion:
    """The dance on a floor that slides away under it, to and fro."""
    time = np.arange(len(motion)) / motion.fps
    offset = speed / 2 * np.stack((np.sin(2 * time), 0 * time, np.cos(1.5 * time)), axis=-1)
    return Motion(motion.poses, motion.translation + offset)


def turned(poses: np.ndarray, axis: tuple[float, float, float], degrees: float) -> np.ndarray:
    """Rotations of one joint (n, 3), turned further about an axis of its parent."""
    extra = kinematics.axis_angle_to_matrix(torch.tensor(axis) / np.linalg.norm(axis) * np.radians(degrees)).float()
    return kinematics.matrix_to_axis_angle(extra @ kinematics.axis_angle_to_matrix(torch.from_numpy(poses))).numpy()


# --- what is right stays ---------------------------------------------------------------------------------------------


def test_captured_dances_are_hardly_changed(captured):
    for motion in captured:
        motion = motion.grounded()
        cleaned = motion.cleaned()
        move = moved(motion, cleaned)
        assert np.median(move) < 0.035 and move.max() < 0.16
        assert np.abs(cleaned.translation - motion.translation).max() < 0.15
        assert cleaned.metadata["clean_up"]["bridged"] == 0
        arms = [*range(12, 24)]  # and trunk: nothing but the legs is touched, ends apart
        np.testing.assert_array_equal(cleaned.poses[16:-16, arms], motion.poses[16:-16, arms])
        assert roughness(cleaned).mean() < 1.15 * roughness(motion).mean()


def test_the_second_clean_up_changes_next_to_nothing(captured):
    for motion in [*captured, sliding(synthetic())]:
        once = motion.cleaned()
        twice = once.cleaned()
        move = moved(once, twice)
        assert np.median(move) < 0.008 and np.quantile(move, 0.9) < 0.03
        assert np.abs(np.diff(twice.translation - once.translation, axis=0)).max() < 0.005


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 7, 40])
def test_any_length(frames):
    motion = synthetic()[:frames]
    cleaned = motion.cleaned()
    assert len(cleaned) == frames and moved(motion, cleaned).max() < 0.1
    stream = CleanUpStream()
    poses, translation = stream.push(torch.from_numpy(motion.poses), torch.from_numpy(motion.translation))
    assert poses.shape == (frames, 24, 3) and translation.shape == (frames, 3)


def test_the_original_is_not_changed():
    motion = sliding(synthetic())
    poses, translation = motion.poses.copy(), motion.translation.copy()
    motion.cleaned()
    np.testing.assert_array_equal(motion.poses, poses)
    np.testing.assert_array_equal(motion.translation, translation)


# --- glitches --------------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    kind=st.sampled_from(["spin", "flash", "joint", "root", "there and back"]),
    frame=st.integers(2, 170),
    joint=st.sampled_from([1, 2, 4, 9, 13, 16, 17, 18, 19]),
    degrees=st.floats(60, 175),
    axis=st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda axis: np.linalg.norm(axis) > 0.2),
    seed=st.integers(0, 5),
)
def test_glitches_are_bridged(kind, frame, joint, degrees, axis, seed):
    motion = synthetic(seed=seed)
    poses, path = motion.poses.copy(), motion.translation.copy()
    if kind == "spin":  # and on with the new heading
        poses[frame:, 0] = turned(poses[frame:, 0], (0, 1, 0), degrees)
    elif kind == "flash":
        poses[frame, 0] = turned(poses[frame : frame + 1, 0], (0, 1, 0), 90)[0]
    elif kind == "joint":
        poses[frame : frame + 2, joint] = turned(poses[frame : frame + 2, joint], axis, degrees)
    elif kind == "root":
        path[frame:] += np.float32(axis) * degrees / 100
    else:
        path[frame] += np.float32(axis)
    cleaned = Motion(poses, path).cleaned()
    assert turns(cleaned)[:, 0].max() < 45 and turns(cleaned).max() < 60
    assert steps(cleaned).max() < 0.4
    assert cleaned.joints()[..., 1].min() > -0.01
    assert 0 < cleaned.metadata["clean_up"]["bridged"] < 0.25
    far = np.abs(np.arange(len(motion)) - frame) > 30
    assert np.median(moved(Motion(poses, path), cleaned)[far]) < 0.05


def test_a_jump_of_the_root_is_taken_out_of_the_path():
    motion = synthetic().grounded()
    path = motion.translation.copy()
    path[60:] += (1.5, 0.0, -0.7)
    cleaned = Motion(motion.poses, path).cleaned()
    assert np.abs(cleaned.translation - motion.cleaned().translation).max() < 0.1


# --- feet ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("genre", ["sway", "bounce", "sidestep"])
def test_feet_that_slide_are_planted(genre):
    motion = sliding(synthetic(genre))
    cleaned = motion.cleaned()
    assert np.median(toe_speeds(cleaned)) < 0.25 * np.median(toe_speeds(motion))
    assert cleaned.joints()[..., 1].min() > -0.01
    pop = np.abs(np.diff(knee_angles(cleaned), axis=0)).max()
    assert pop < np.abs(np.diff(knee_angles(motion), axis=0)).max() + 8
    assert np.abs(cleaned.translation - motion.translation).max() < 0.6
    assert cleaned.metadata["clean_up"]["planted"] > 0.5
    assert cleaned.metadata["clean_up"]["largest_move"] == pytest.approx(moved(motion, cleaned).max(), abs=1e-3)


def test_only_hips_knees_and_ankles_bend():
    motion = sliding(synthetic())
    cleaned = motion.cleaned()
    others = [joint for joint in range(24) if joint not in (1, 2, 4, 5, 7, 8)]
    np.testing.assert_array_equal(cleaned.poses[16:-16, others], motion.poses[16:-16, others])
    feet = [m.global_rotations()[16:-16, [7, 8]] for m in (motion, cleaned)]
    np.testing.assert_allclose(feet[0], feet[1], atol=1e-4)  # they keep their orientation


def test_knees_do_not_pop_where_legs_are_straight():
    """A standing dancer whose body is carried away from the feet, until the legs are stretched."""
    frames = 120
    poses = np.zeros((frames, 24, 3), np.float32)
    poses[:, [4, 5], 0] = 0.05
    path = np.zeros((frames, 3), np.float32)
    path[:, 0] = 0.1 * np.sin(np.arange(frames) / 12)
    path[:, 1] = 0.02 * np.sin(np.arange(frames) / 9)
    cleaned = Motion(poses, path).cleaned()
    assert np.abs(np.diff(knee_angles(cleaned), axis=0)).max() < 6
    assert np.median(toe_speeds(cleaned)) < 0.05


def test_given_contacts_plant_feet_that_no_rule_would():
    motion = sliding(synthetic(), speed=1.5)
    contact = np.zeros((len(motion), 4))
    contact[50:60, 2] = 1
    toes = [m.joints()[51:59, 10][:, [0, 2]] for m in (motion, motion.cleaned(contacts=contact))]
    assert np.ptp(toes[1], axis=0).max() < 0.35 * np.ptp(toes[0], axis=0).max()
    with pytest.raises(ValueError, match=r"contacts has shape \(5, 4\): give \(180, 2\) or \(180, 4\)"):
        motion.cleaned(contacts=contact[:5])


def test_without_floor_the_height_of_the_path_stays():
    motion = sliding(synthetic())
    path = motion.translation + np.float32([0, 0.02, 0])
    cleaned = Motion(motion.poses, path).cleaned(floor=False)
    np.testing.assert_allclose(cleaned.translation[16:-16, 1], path[16:-16, 1], atol=1e-6)


def test_a_mirrored_dance_gives_the_mirrored_result(monkeypatch, captured):
    offsets = torch.tensor(kinematics.REST_OFFSETS)
    symmetric = (offsets + kinematics.mirror_rest_offsets(offsets)) / 2
    monkeypatch.setattr(kinematics, "REST_OFFSETS", symmetric.tolist())
    monkeypatch.setattr("megadance_hf.modeling.clean_up_megadance.REST_OFFSETS", symmetric.tolist())
    for motion in captured[:2]:
        motion = sliding(motion)
        poses = motion.poses.copy()
        poses[100:, 0] = turned(poses[100:, 0], (0, 1, 0), 120)
        motion = Motion(poses, motion.translation)
        difference = np.abs(motion.mirrored().cleaned().joints() - motion.cleaned().mirrored().joints()).max((1, 2))
        assert np.median(difference) < 1e-3 and difference.max() < 0.02


def test_the_frame_rate_does_not_matter(captured):
    motion = sliding(captured[0])
    cleaned, fine = motion.cleaned(), motion.resampled(60).cleaned().resampled(30)
    assert np.median(moved(cleaned, fine)) < 0.02
    assert np.median(toe_speeds(fine)) < 0.25 * np.median(toe_speeds(motion))


# --- ends ------------------------------------------------------------------------------------------------------------


def rough_ends() -> Motion:
    motion = synthetic()
    poses = motion.poses.copy()
    for frame, size in ((0, 0.1), (1, 0.05), (2, 0.02), (-2, 0.05), (-1, 0.1)):
        poses[frame, 1:] += size * np.random.default_rng(frame % 9).normal(size=(23, 3)) / 3
    return Motion(poses, motion.translation)


@pytest.mark.parametrize("cut", [(True, False), (False, True), (True, True)])
def test_ends_at_which_a_motion_is_cut_out_stay_as_they_are(cut):
    rough = rough_ends()
    rotations, path = axis_angle_to_matrix(torch.from_numpy(rough.poses)), torch.from_numpy(rough.translation)
    above = slice(12, None)  # feet are planted all the same
    smooth, piece = (clean_rotations(rotations, path, 30, cut=one).rotations[:, above] for one in ((False, False), cut))
    whole = axis_angle_to_matrix(clean_motion(torch.from_numpy(rough.poses), path)[0])[:, above]
    torch.testing.assert_close(smooth, whole, atol=1e-5, rtol=0)
    for frame, is_cut in zip((0, -1), cut, strict=True):
        assert (smooth[frame] - rotations[frame, above]).abs().max() > 0.02
        torch.testing.assert_close(
            piece[frame], rotations[frame, above] if is_cut else smooth[frame], atol=1e-6, rtol=0
        )


def test_rough_ends_become_as_smooth_as_the_rest():
    rough = rough_ends()
    before, after = roughness(rough), roughness(rough.cleaned())
    for end in (slice(0, 6), slice(-6, None)):
        assert before[end].mean() > 3 * before[10:-10].mean()
        assert after[end].mean() < 1.6 * after[10:-10].mean()


# --- entrance and ending ---------------------------------------------------------------------------------------------


def speeds(motion: Motion) -> np.ndarray:
    """Mean speed of the joints (T - 1,), m/s."""
    return steps(motion).mean(1) * motion.fps


@pytest.mark.parametrize("fps", [30, 60])
def test_a_dance_leaves_a_standing_position_and_comes_to_one(captured, fps):
    for motion in [*(dance[100:400] for dance in captured), sliding(synthetic(seconds=10))]:
        motion = motion.resampled(fps)
        plain, eased = motion.cleaned(), motion.cleaned(begins=True, ends=True)
        report = eased.metadata["clean_up"]
        assert 0.4 < report["entrance"] < 1.5 and 0.4 < report["ending"] < 1.5
        assert speeds(eased)[[0, -1]].max() < 0.08
        toes = eased.joints()[[0, -1]][:, [10, 11], 1]
        assert np.abs(toes).max() < 0.01, "both feet are on the floor"
        assert eased.joints()[..., 1].min() > -0.01
        for end in (slice(0, fps), slice(-fps, None)):
            assert roughness(eased)[end].mean() < 1.1 * roughness(plain)[end].mean()
            changes = [np.abs(np.diff(knee_angles(each)[end], axis=0)).max() for each in (plain, eased)]
            assert changes[1] < changes[0] + 5 * 30 / fps
        middle = slice(3 * fps, -3 * fps)
        # the path follows the feet with a memory of 2 s, so what the ends change fades inwards
        assert moved(plain, eased)[middle].max() < 0.03, "elsewhere it is the same dance"
        np.testing.assert_allclose(eased.translation[0, [0, 2]], motion.translation[0, [0, 2]], atol=1e-5)


def test_each_end_is_eased_by_itself():
    motion = synthetic()
    for begins, ends in ((False, True), (True, False), (False, False)):
        report = motion.cleaned(begins=begins, ends=ends).metadata["clean_up"]
        assert (report["entrance"] > 0, report["ending"] > 0) == (begins, ends)
    assert motion[:89].cleaned(begins=True, ends=True).metadata["clean_up"]["ending"] == 0
    assert motion[:90].cleaned(begins=True, ends=True).metadata["clean_up"]["ending"] > 0


def test_given_contacts_are_eased_with_the_dance():
    """A foot that is in contact from frame 160 on stands longer where time runs slower."""
    motion = sliding(synthetic(), speed=1.5)
    contact = np.zeros((180, 2))
    contact[160:, 0] = 1
    eased = motion.cleaned(contacts=contact, ends=True)
    slide = np.ptp(eased.joints()[164:, 10][:, [0, 2]], axis=0).max()
    assert slide < 0.03


def test_the_pelvis_goes_down_if_a_raised_foot_cannot_reach_the_floor():
    """A dancer whose pelvis is tilted sideways, and so one of two straight legs in the air."""
    poses = np.zeros((120, 24, 3), np.float32)
    poses[:, 0, 2], poses[:, [1, 2], 2] = 0.6, -0.6
    path = np.zeros((120, 3), np.float32)
    path[:, 0] = 0.02 * np.sin(np.arange(120) / 9)
    cleaned = Motion(poses, path).cleaned(ends=True)
    heights = cleaned.joints()[:, [10, 11], 1]
    assert heights[60].max() > 0.06 and heights[-1].max() < 0.01
    assert np.abs(np.diff(knee_angles(cleaned), axis=0)).max() < 6


# --- streams ---------------------------------------------------------------------------------------------------------


def stream(motion: Motion, size: int) -> Motion:
    cleaner = CleanUpStream(motion.fps)
    arrays = torch.from_numpy(motion.poses), torch.from_numpy(motion.translation)
    chunks = [cleaner.push(*chunk) for chunk in zip(*(array.split(size) for array in arrays), strict=True)]
    return Motion(*(torch.cat(parts).numpy() for parts in zip(*chunks, strict=True)))


def test_a_stream_is_the_same_in_any_chunks():
    motion = sliding(synthetic())
    whole, pieces = stream(motion, 180), stream(motion, 7)
    np.testing.assert_allclose(whole.poses, pieces.poses, atol=1e-5)
    np.testing.assert_allclose(whole.translation, pieces.translation, atol=1e-5)


def test_a_stream_begins_at_rest_and_catches_up():
    motion = synthetic()[40:]
    cleaned = stream(motion, 8)
    assert speeds(cleaned)[0] < 0.3 * speeds(motion)[0]
    twin = Motion(motion.poses, motion.translation)  # 0.8 s later it is the dance, up to its feet
    np.testing.assert_array_equal(cleaned.poses[24:, 12:], twin.poses[24:, 12:])


def test_a_stream_holds_the_feet_whose_contacts_are_given():
    motion = sliding(synthetic(), speed=1.5)
    contact = torch.zeros(len(motion), 4)
    contact[50:65, 2] = 1
    cleaner = CleanUpStream()
    arrays = (torch.from_numpy(motion.poses), torch.from_numpy(motion.translation), contact)
    chunks = [cleaner.push(*chunk) for chunk in zip(*(array.split(7) for array in arrays), strict=True)]
    cleaned = Motion(*(torch.cat(parts).numpy() for parts in zip(*chunks, strict=True)))
    toes = [m.joints()[56:64, 10][:, [0, 2]] for m in (motion, cleaned)]
    assert np.ptp(toes[1], axis=0).max() < 0.5 * np.ptp(toes[0], axis=0).max()


def test_a_stream_plants_feet_and_limits_spins():
    motion = sliding(synthetic())
    poses, path = motion.poses.copy(), motion.translation.copy()
    poses[90:, 0] = turned(poses[90:, 0], (0, 1, 0), 170)
    path[40:] += (0.8, 0, 0)
    cleaned = stream(Motion(poses, path), 8)
    assert np.median(toe_speeds(cleaned)) < 0.5 * np.median(toe_speeds(motion))
    assert turns(cleaned)[:, 0].max() < 45
    assert steps(cleaned)[:, 0].max() < 0.2
    assert cleaned.joints()[..., 1].min() > -0.01
    assert np.abs(np.diff(knee_angles(cleaned), axis=0)).max() < np.abs(np.diff(knee_angles(motion), axis=0)).max() + 12
    np.testing.assert_allclose(cleaned.poses[120:, 12:], motion.poses[120:, 12:], atol=1e-6)


# --- the report ------------------------------------------------------------------------------------------------------


def test_the_report_is_in_the_metadata():
    motion = sliding(synthetic())
    motion.metadata["notes"] = ["fitted"]
    _, _, report = clean_motion(torch.from_numpy(motion.poses), torch.from_numpy(motion.translation))
    cleaned = motion.cleaned()
    assert cleaned.metadata == {"notes": ["fitted", str(report)], "clean_up": report.to_dict()}
    assert motion.metadata == {"notes": ["fitted"]}
    assert str(report).startswith("cleaned up: ") and metrics.foot_skating_ratio(cleaned.joints()) < 0.2
