"""What files of other tools mean: one real dance, written as each of them writes it, comes back as it was."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from megadance_hf.modeling.kinematics_megadance import NUM_JOINTS
from megadance_hf.motion import layouts, up_axis
from megadance_hf.motion.layouts import UncertainNote, interpret
from megadance_hf.motion.motion import Motion
from megadance_hf.motion.up_axis import LayoutError

pytestmark = pytest.mark.versions

SMPL, SMPLX = np.array(layouts.SMPL_PELVIS), np.array(layouts.SMPLX_PELVIS)
UP = {axis: up_axis.y_up_rotation(axis).T for axis in up_axis.UPS}  # from Y up


@pytest.fixture(scope="module")
def dance(ballroom_dir) -> Motion:
    return Motion.load(ballroom_dir / "motions" / "chacha_2a.npz")[300:420]


def world(dance: Motion, up: str, pelvis=(0, 0, 0), joints: int = 24, fps: float | None = None):
    """Poses (T, 3 x joints) and a path of the dance in a world with another axis up, placed from `pelvis`."""
    turn = UP[up]
    poses = np.zeros((len(dance), max(joints, 24), 3))
    poses[:, :24] = dance.poses
    poses[:, 0] = (Rotation.from_matrix(turn) * Rotation.from_rotvec(dance.poses[:, 0])).as_rotvec()
    if joints != 24:
        poses[:, 22:] = 0.2  # fingers and faces
    return poses[:, :joints].reshape(len(dance), -1), dance.translation @ turn.T - np.array(pelvis)


def edge(dance):
    poses, path = world(dance, "z")
    return {"smpl_poses": poses, "smpl_trans": path, "full_pose": np.zeros((len(dance), 24, 3))}


def popdg(dance):
    content = edge(dance)
    return {**content, "smpl_poses": content["smpl_poses"][:, None]}  # (T, 1, 72)


def aistpp(dance):
    poses, path = world(dance, "y", SMPL)
    scaling = np.array([93.8])
    return {
        "smpl_poses": poses,
        "smpl_trans": (path + [0, 0.9, 0]) * scaling,
        "smpl_scaling": scaling,
        "smpl_loss": 1.0,
    }


def amass(dance):
    poses, path = world(dance, "z", SMPL, 52)
    return {"poses": poses, "trans": path, "mocap_framerate": 30.0, "gender": "male", "betas": np.zeros(16), "dmpls": 0}


def amass_cut(dance):
    content = amass(dance)
    return {**content, "poses": content["poses"][:, :72]}


def amass_x(dance):
    poses, path = world(dance, "z", SMPLX, 55)
    return {"poses": poses, "trans": path, "mocap_frame_rate": 30.0, "surface_model_type": "smplx"}


def beat2(dance):
    poses, path = world(dance, "y", SMPLX, 55)
    return {"poses": poses, "trans": path, "mocap_frame_rate": 30, "expressions": np.zeros((len(dance), 100))}


def smplx_arguments(dance, hands: bool = True):
    poses, path = world(dance, "y", SMPLX if hands else SMPL, 24)
    body = poses[:, 3:66] if hands else poses[:, 3:]
    content = {"global_orient": poses[:, :3], "body_pose": body, "transl": path, "frame_rate": 30}
    return content | ({"jaw_pose": poses[:, :3], "left_hand_pose": poses[:, :45]} if hands else {})


def amass_parts(dance):
    poses, path = world(dance, "z", SMPLX, 55)
    return {
        "root_orient": poses[:, :3],
        "pose_body": poses[:, 3:66],
        "pose_hand": poses[:, 75:],
        "trans": path,
        "fps": 30,
    }


def tracker(dance):
    """A video tracker: parts inside, in the axes of a camera."""
    poses, path = world(dance, "-y", SMPL)
    params = {"global_orient": poses[:, :3], "body_pose": poses[:, 3:66], "transl": path, "betas": np.zeros(10)}
    return {"smpl_params_global": params, "K": np.eye(3), "fps": 30}


def joints_22(dance):
    poses, path = world(dance, "y")
    return {"poses": poses.reshape(-1, 24, 3)[:, :22], "translation": path, "framerate": 30}


def columns_66(dance):
    poses, path = world(dance, "z")
    return {"poses": poses[:, :66], "trans": path, "mocap_fps": 30}


def joints_55(dance):
    content = beat2(dance)
    return {**content, "poses": content["poses"].reshape(-1, 55, 3)}


def matrices(dance):
    poses, path = world(dance, "y")
    turns = Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)
    return {"poses": turns, "root_trans": path, "fps": 30}


def matrix_parts(dance):
    turns = matrices(dance)["poses"]
    return {"global_orient": turns[:, :1], "body_pose": turns[:, 1:], "transl": dance.translation - SMPL, "fps": 30}


def six(dance):
    turns = matrices(dance)["poses"]
    return {"poses_6d": turns[..., :2, :].reshape(len(dance), -1), "trans": dance.translation, "fps": 30}


def six_columns(dance):
    turns = matrices(dance)["poses"].swapaxes(-1, -2)
    return {"poses": turns[..., :2, :].reshape(len(dance), 24, 6), "trans": dance.translation, "fps": 30}


def quaternions(dance):
    turns = Rotation.from_matrix(matrices(dance)["poses"].reshape(-1, 3, 3)).as_quat().reshape(-1, 24, 4)
    return {"smpl_poses_quat": turns[..., [3, 0, 1, 2]], "smpl_trans": dance.translation, "fps": 30}


def quaternions_xyzw(dance):
    turns = Rotation.from_matrix(matrices(dance)["poses"].reshape(-1, 3, 3)).as_quat()
    return {"poses_quat_xyzw": turns.reshape(len(dance), -1), "trans": dance.translation, "fps": 30}


def lists(dance):
    poses, path = world(dance, "y")
    return {"poses": poses.tolist(), "trans": path.tolist(), "fps": "30"}


WRITERS = [edge, popdg, aistpp, amass, amass_cut, amass_x, beat2, smplx_arguments, amass_parts, tracker, joints_22]
WRITERS += [columns_66, joints_55, matrices, matrix_parts, six, six_columns, quaternions, quaternions_xyzw, lists]


def joints(found: layouts.LoadedMotion) -> np.ndarray:
    return Motion(found.poses, found.translation).joints()


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_each_layout_gives_the_same_dance_upright_on_the_floor(dance, write):
    found = interpret(write(dance))
    body = slice(None, 22)
    difference = joints(found)[:, body] - dance.joints()[:, body]
    assert np.ptp(difference, axis=(0, 1)).max() < 1e-4, "the same dance"
    assert abs(difference[0, 0, 1]) < layouts.FLOOR_TOLERANCE
    assert abs(difference[0, 0, [0, 2]]).max() < 0.03
    assert found.fps == (60 if write is aistpp else 30)
    fingers = np.shape(write(dance).get("poses"))[-1:] in ((156,), (165,))
    assert any("hands at rest" in note for note in found.notes) >= fingers


@pytest.mark.parametrize("up", up_axis.UPS)
@pytest.mark.parametrize("keys", [("poses", "trans"), ("smpl_poses", "smpl_trans"), ("pose", "transl")])
def test_any_up_axis_is_detected_and_noted(dance, up, keys):
    found = interpret({**dict(zip(keys, world(dance, up), strict=True)), "fps": 30})
    np.testing.assert_allclose(joints(found), dance.joints(), atol=1e-4)
    assert any("turned from" in note for note in found.notes) == (up != "y")


def test_arguments_take_precedence(dance):
    poses, path = world(dance, "z")
    content = {"poses": poses, "trans": path, "fps": 30}
    lying = interpret(content, up="y")
    assert up_axis.detect_up_axis(joints(lying)) == "z" and not any("turned" in note for note in lying.notes)
    told = interpret(content, fps=25, up="+Z")
    assert told.fps == 25 and any("as told" in note for note in told.notes)
    with pytest.raises(LayoutError, match="up='w'.*one of y, z, x"):
        interpret(content, up="w")


def test_acrobatics_do_not_change_the_up_axis(dance):
    """A third of the time on the hands, another on the back: the median still knows."""
    poses, path = world(dance, "y")
    poses[:35, :3], poses[40:55, :3] = [np.pi, 0, 0], [-np.pi / 2, 0, 0]
    assert not any("turned" in note for note in interpret({"poses": poses, "trans": path, "fps": 30}).notes)


def test_an_unclear_up_axis_is_an_error(dance):
    poses, path = world(dance, "y")
    poses[:, :3] = Rotation.from_euler("zy", [90, 45], degrees=True).as_rotvec()
    poses[:, 3:] = 0
    content = {"poses": poses, "trans": path * 0, "fps": 30}
    with pytest.raises(LayoutError, match="the up axis cannot be detected: give up='y' or up='z'"):
        interpret(content)
    assert not any("turned" in note for note in interpret(content, up="y").notes)
    known = interpret({**content, "smpl_scaling": [1.0]})
    assert not any("turned" in note for note in known.notes), "AIST++ has Y up, also where that is not seen"


def test_the_floor_is_found_under_jumps_and_lost_frames(dance):
    poses, path = world(dance, "y")
    path[:, 1] += 0.9
    path[50:60, 1] += 0.4
    path[10, 1] -= 5  # tracking was lost in one frame
    found = interpret({"poses": poses, "trans": path, "fps": 30})
    difference = joints(found)[:, :, 1] - dance.joints()[:, :, 1]
    assert abs(np.median(difference)) < 0.03 and 0.35 < np.median(difference[50:60]) < 0.45
    assert any("put on the floor: lowered by 0.9" in note for note in found.notes)


def test_degrees_are_refused(dance):
    poses, path = world(dance, "y")
    with pytest.raises(LayoutError, match="cannot be radians: give np.radians"):
        interpret({"poses": np.clip(np.degrees(poses), -99, 99), "trans": path, "fps": 30})


def test_a_translation_in_centimetres_is_warned_of(dance):
    poses, path = world(dance, "y")
    doubts = [
        note
        for note in interpret({"poses": poses, "trans": 100 * path, "fps": 30}).notes
        if isinstance(note, UncertainNote)
    ]
    assert len(doubts) == 1 and "m/s on average" in doubts[0] and "in metres" in doubts[0]


# --- rates -----------------------------------------------------------------------------------------------------------

RATES = "fps FPS framerate frame_rate frameRate mocap_framerate mocap_frame_rate mocap_fps motion_fps frames_per_second".split()


@pytest.mark.parametrize("key", RATES)
@pytest.mark.parametrize("value", [50, np.array([50.0]), np.array(50), "50"])
def test_frame_rate_under_any_key(dance, key, value):
    poses, path = world(dance, "y")
    found = interpret({"poses": poses, "trans": path, key: value})
    assert found.fps == 50 and found.notes == []


def test_frame_rate_from_seconds_per_frame_or_by_default(dance):
    poses, path = world(dance, "y")
    assert interpret({"poses": poses, "trans": path, "frame_time": 0.02}).fps == 50
    found = interpret({"poses": poses, "trans": path, "audio_fps": 44100})
    assert found.fps == 30 and found.notes == ["no frame rate in the file: 30 fps assumed"]
    assert any("60 fps, that of AIST++" in note for note in interpret(aistpp(dance)).notes)


def test_frame_rates_that_differ_are_an_error(dance):
    poses, path = world(dance, "y")
    content = {"poses": poses, "trans": path, "fps": 30, "mocap_framerate": 120}
    with pytest.raises(LayoutError, match="differ .fps 30, mocap_framerate 120.*give the right one, fps="):
        interpret(content)
    assert interpret(content, fps=120).fps == 120


# --- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fps": 1e300}, r"fps=1e\+300: give frames per second from 1 to 1000"),
        ({"fps": 1e19}, r"fps=1e\+19"),
        ({"fps": -30}, "fps=-30.0"),
        ({"fps": 30j}, "give one number"),
        ({"fps": [30, 60]}, "give one number"),
        ({"fps": "soon"}, "fps='soon'"),
        ({"frame_time": 0, "fps": None}, "frame_time"),
        ({"poses": np.full((120, 72), 1e38)}, r"poses has 1e\+38 in frame 0.*degrees"),
        ({"poses": np.full((120, 72), 180.0)}, "poses has 180 .*degrees"),
        ({"poses": np.zeros((120, 72), complex)}, "poses is not an array of numbers: it holds complex"),
        ({"poses": np.full((120, 72), np.nan)}, "poses has NaN"),
        ({"poses": np.zeros((120, 72), bool)}, "true and false"),
        ({"poses": "dance"}, "poses is not an array of numbers: it holds text"),
        ({"poses": [[1, 2], [3]]}, "poses is not an array"),
        ({"poses": np.zeros((120, 69))}, r"poses has shape \(120, 69\), 23 joints: known are 22"),
        ({"poses": np.zeros((120, 159))}, r"53 joints: known are"),
        ({"poses": np.zeros((120, 70))}, r"poses has shape \(120, 70\)"),
        ({"poses": np.zeros(72)}, r"poses has shape \(72,\)"),
        ({"poses": np.zeros((0, 72))}, "no frames"),
        ({"poses": None}, "it has no poses .*only .*known layouts: megadance.*AIST.*EDGE.*AMASS"),
        ({"trans": None}, "it has no trans"),
        ({"trans": np.zeros((119, 3))}, r"trans has shape \(119, 3\), poses has 120 frames"),
        ({"trans": np.zeros((120, 2))}, r"trans has shape \(120, 2\)"),
        ({"trans": np.full((120, 3), 1e20)}, r"translation has 1e\+20"),
        ({"smpl_poses": np.ones((120, 72))}, "poses and smpl_poses differ"),
        ({"transl": np.ones((120, 3))}, "trans and transl differ"),
        ({"smpl_scaling": [0.0]}, "smpl_scaling is .0.0.: one number above 0"),
        ({"smpl_scaling": np.array([np.nan])}, "smpl_scaling"),
        ({"smpl_scaling": [1, 2]}, "smpl_scaling"),
        ({"poses": None, "body_pose": np.zeros((120, 69))}, "no global_orient"),
        ({"poses": None, "body_pose": np.zeros((120, 60)), "global_orient": np.zeros((120, 3))}, "21 or 23"),
        ({"poses": np.full((120, 24, 3, 3), 0.4)}, "no rotations"),
        ({"poses": np.full((120, 24, 4), 0.1)}, "not of length 1"),
    ],
)
def test_errors_are_one_line_with_key_and_value(dance, change, message):
    poses, path = world(dance, "y")
    with pytest.raises(LayoutError, match=message) as caught:
        interpret({"poses": poses, "trans": path, "fps": 30} | change)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_files_with_two_people_are_refused(dance):
    with pytest.raises(LayoutError, match="several motions, 0, 1: keep one"):
        interpret({0: edge(dance), 1: edge(dance)})
    assert joints(interpret({"person": edge(dance)})).shape == (len(dance), NUM_JOINTS, 3)
