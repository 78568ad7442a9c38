"""Other tools' skeletons, made here from real dances: names, rest poses, rotation orders, units, axes."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from megadance_hf.modeling.kinematics_megadance import JOINT_NAMES, PARENTS, REST_OFFSETS
from megadance_hf.motion import skeletons, up_axis
from megadance_hf.motion.humanoid import straightening
from megadance_hf.motion.motion import Motion, MotionError

# What tools call the joints, in SMPL's order without hands: pelvis, hips, spine, knees, ...
NAMES = {
    "mixamo": "mixamorig:Hips mixamorig:*UpLeg mixamorig:Spine mixamorig:*Leg mixamorig:Spine1 mixamorig:*Foot mixamorig:Spine2 "
    "mixamorig:*ToeBase mixamorig:Neck mixamorig:*Shoulder mixamorig:Head mixamorig:*Arm mixamorig:*ForeArm mixamorig:*Hand",
    "cmu": "Hips *UpLeg LowerBack *Leg Spine *Foot Spine1 *ToeBase Neck *Shoulder Head *Arm *ForeArm *Hand",
    "smpl": "Pelvis L_Hip Spine1 L_Knee Spine2 L_Ankle Spine3 L_Foot Neck L_Collar Head L_Shoulder L_Elbow L_Wrist",
    "fbx of smpl": "m_avg_Pelvis m_avg_L_Hip m_avg_Spine1 m_avg_L_Knee m_avg_Spine2 m_avg_L_Ankle m_avg_Spine3 m_avg_L_Foot "
    "m_avg_Neck m_avg_L_Collar m_avg_Head m_avg_L_Shoulder m_avg_L_Elbow m_avg_L_Wrist",
    "bandai": "Hips UpperLeg_L Spine LowerLeg_L Chest Foot_L UpperChest Toes_L Neck Shoulder_L Head UpperArm_L LowerArm_L Hand_L",
    "3ds max": "Bip01_Pelvis Bip01_L_Thigh Bip01_Spine Bip01_L_Calf Bip01_Spine1 Bip01_L_Foot Bip01_Spine2 Bip01_L_Toe0 "
    "Bip01_Neck Bip01_L_Clavicle Bip01_Head Bip01_L_UpperArm Bip01_L_Forearm Bip01_L_Hand",
    "poser": "hip lThigh abdomen lShin waist lFoot chest lToe neck lCollar head lShldr lForeArm lHand",
    "unreal": "pelvis thigh_l spine_01 calf_l spine_02 foot_l spine_03 ball_l neck_01 clavicle_l head upperarm_l lowerarm_l hand_l",
    "vroid": "J_Bip_C_Hips J_Bip_L_UpperLeg J_Bip_C_Spine J_Bip_L_LowerLeg J_Bip_C_Chest J_Bip_L_Foot J_Bip_C_UpperChest "
    "J_Bip_L_ToeBase J_Bip_C_Neck J_Bip_L_Shoulder J_Bip_C_Head J_Bip_L_UpperArm J_Bip_L_LowerArm J_Bip_L_Hand",
    "blender": "pelvis thigh.L spine.001 shin.L spine.002 foot.L spine.003 toe.L neck shoulder.L head upper_arm.L forearm.L hand.L",
    "small letters": "hips leftupleg spine leftleg spine1 leftfoot spine2 lefttoebase neck leftshoulder head leftarm leftforearm "
    "lefthand",
}


UPRIGHT = np.eye(3)


def names_of(tool: str) -> list[str]:
    """22 names, SMPL's order: each sided one twice."""
    names = []
    for joint, name in zip(
        (j for j in JOINT_NAMES[:22] if not j.startswith("right")), NAMES[tool].split(), strict=True
    ):
        if joint.startswith("left"):
            names.append((joint, name.replace("*", "Left")))
            other = name.replace("*", "Right")
            if other == name:
                other = re.sub(r"left", "right", name)
            if other == name:
                other = re.sub(r"(?<![A-Za-z])L(?![A-Za-z])", "R", name)
            if other == name:
                other = re.sub(r"(?<=_)l$|^l(?=[A-Z])", "r", name)
            assert other != name
            names.append((joint.replace("left", "right"), other))
        else:
            names.append((joint, name))
    by_joint = dict(names)
    return [by_joint[joint] for joint in JOINT_NAMES[:22]]


def rest_frames(rest: str, up: np.ndarray) -> np.ndarray:
    """(22, 3, 3): how each bone's own frame is turned at rest, which is what tools differ in."""
    turns = straightening()[:22]
    if rest == "smpl":
        turns = np.tile(np.eye(3), (22, 1, 1))
    elif rest == "a":  # arms 45 degrees down
        for joint, sign in ((16, -1), (18, -1), (20, -1), (17, 1), (19, 1), (21, 1)):
            turns[joint] = Rotation.from_euler("z", sign * 45, degrees=True).as_matrix() @ turns[joint]
    elif rest == "along x":  # as LaFAN1 has it: each bone's first child lies on its x axis
        for joint in range(22):
            child = next((c for c in range(22) if PARENTS[c] == joint), None)
            if child is not None:
                bone = np.array(REST_OFFSETS[child])
                turns[joint] = Rotation.align_vectors([[1, 0, 0]], [bone])[0].as_matrix()
    return up @ turns


def other_bvh(
    motion: Motion,
    names: list[str],
    rest: str = "t",
    order: str = "ZYX",
    scale: float = 100.0,
    up: np.ndarray = UPRIGHT,
    everywhere: bool = False,
    hip_joints: bool = False,
    rest_up: np.ndarray | None = None,
    fingers: bool = True,
) -> str:
    """The motion as another tool would write it: its places are the same, its rotations and rest are not."""
    frames = rest_frames(rest, up if rest_up is None else rest_up)
    world = up @ motion.global_rotations()[:, :22].astype(float) @ frames.transpose(0, 2, 1)
    root = scale * motion.translation.astype(float) @ up.T
    lines, columns = ["HIERARCHY"], [root]

    def vector(values) -> str:
        return " ".join(f"{scale * value:.7f}" for value in values)

    def write(joint: int, depth: int, offset: np.ndarray) -> None:
        pad = "  " * depth
        head = "ROOT" if depth == 0 else "JOINT"
        positions = "Xposition Yposition Zposition " if depth == 0 or everywhere else ""
        lines.append(f"{pad}{head} {names[joint]}\n{pad}{{\n{pad}  OFFSET {vector(offset)}")
        count = 6 if positions else 3
        lines.append(f"{pad}  CHANNELS {count} {positions}" + " ".join(f"{axis}rotation" for axis in order))
        if depth and everywhere:
            columns.append(np.tile(scale * offset, (len(motion), 1)))
        parent = PARENTS[joint]
        local = world[:, joint] if parent < 0 else world[:, parent].transpose(0, 2, 1) @ world[:, joint]
        columns.append(Rotation.from_matrix(local).as_euler(order, degrees=True))
        children = [child for child in range(22) if PARENTS[child] == joint]
        for child in children:
            below = frames[joint] @ np.array(REST_OFFSETS[child])
            if hip_joints and child in (1, 2):  # a bone that does nothing, as CMU has
                side = "L" if child == 1 else "R"
                lines.append(
                    f"{pad}  JOINT {side}HipJoint\n{pad}  {{\n{pad}    OFFSET {vector(below / 2)}\n{pad}    CHANNELS 0"
                )
                write(child, depth + 2, below / 2)
                lines.append(f"{pad}  }}")
            else:
                write(child, depth + 1, below)
        if joint in (20, 21) and fingers:
            lines.append(f"{pad}  JOINT {names[joint]}Index1\n{pad}  {{\n{pad}    OFFSET 1 0 0\n{pad}    CHANNELS 0")
            lines.append(f"{pad}    End Site\n{pad}    {{\n{pad}      OFFSET 1 0 0\n{pad}    }}\n{pad}  }}")
        if not children:
            lines.append(f"{pad}  End Site\n{pad}  {{\n{pad}    OFFSET 0 {scale * 0.1:.3f} 0\n{pad}  }}")
        lines.append(f"{pad}}}")

    write(0, 0, np.zeros(3))
    rows = np.concatenate(columns, axis=1)
    lines += ["MOTION", f"Frames: {len(motion)}", f"Frame Time: {1 / motion.fps:.6f}"]
    return "\n".join([*lines, *(" ".join(f"{value:.6f}" for value in row) for row in rows)]) + "\n"


# Bones as tools list them, parents before children; what each is for us, or "-".
LISTS = {
    "rokoko": "Hips=pelvis Spine=spine1 Spine2=spine3 Neck=neck Head=head LeftShoulder=left_collar LeftArm=left_shoulder "
    "LeftForeArm=left_elbow LeftHand=left_wrist LeftThigh=left_hip LeftShin=left_knee LeftFoot=left_ankle LeftToe=left_foot",
    "kinect": "SpineBase=- SpineMid=- Head=head ShoulderLeft=left_shoulder ElbowLeft=left_elbow WristLeft=left_wrist HandLeft=left_hand "
    "HipLeft=left_hip KneeLeft=left_knee AnkleLeft=left_ankle FootLeft=left_foot",
    "xsens": "Pelvis=pelvis L5=- Neck=neck Head=head LeftShoulder=left_collar LeftUpperArm=left_shoulder LeftForeArm=left_elbow "
    "LeftHand=left_wrist LeftUpperLeg=left_hip LeftLowerLeg=left_knee LeftFoot=left_ankle LeftToe=left_foot",
    "daz": "pelvis=pelvis abdomenLower=- chestLower=- neckLower=neck head=head lCollar=left_collar lShldrBend=left_shoulder "
    "lShldrTwist=- lForearmBend=left_elbow lHand=left_wrist lThumb1=- lThighBend=left_hip lThighTwist=- lShin=left_knee "
    "lFoot=left_ankle lToe=left_foot",
    "makehuman": "root=- spine01=- neck01=neck neck02=- head=head clavicle.L=left_collar shoulder01.L=- upperarm01.L=left_shoulder "
    "upperarm02.L=- lowerarm01.L=left_elbow wrist.L=left_wrist upperleg01.L=left_hip upperleg02.L=- lowerleg01.L=left_knee foot.L=left_ankle",
    "iclone": "CC_Base_Hip=- CC_Base_Pelvis=pelvis CC_Base_NeckTwist01=neck CC_Base_Head=head CC_Base_L_Clavicle=left_collar "
    "CC_Base_L_Upperarm=left_shoulder CC_Base_L_UpperarmTwist01=- CC_Base_L_Forearm=left_elbow CC_Base_L_Hand=left_wrist "
    "CC_Base_L_Thigh=left_hip CC_Base_L_Calf=left_knee CC_Base_L_Foot=left_ankle CC_Base_L_ToeBase=left_foot CC_Base_L_BigToe1=-",
    "arkit": "hips_joint=pelvis neck_1_joint=neck head_joint=head left_shoulder_1_joint=left_collar left_arm_joint=left_shoulder "
    "left_forearm_joint=left_elbow left_hand_joint=left_wrist left_upLeg_joint=left_hip left_leg_joint=left_knee "
    "left_foot_joint=left_ankle left_toes_joint=left_foot",
    "asf": "root=- thorax=- lowerneck=neck head=head lclavicle=left_collar lhumerus=left_shoulder lradius=left_elbow lwrist=left_wrist "
    "lhand=left_hand lhipjoint=- lfemur=left_hip ltibia=left_knee lfoot=left_ankle ltoes=left_foot",
    "unity": "Hips=pelvis Spine=- Chest=- Head=head LeftShoulder=left_collar LeftUpperArm=left_shoulder LeftLowerArm=left_elbow "
    "LeftHand=left_wrist LeftIndexProximal=- LeftUpperLeg=left_hip LeftLowerLeg=left_knee LeftFoot=left_ankle LeftToes=left_foot",
}


@pytest.mark.parametrize("tool", LISTS)
def test_bone_names_of_more_tools(tool):
    pairs = [pair.split("=") for pair in LISTS[tool].split()]
    for bone, joint in list(pairs):
        if joint.startswith("left"):
            other = bone.replace("Left", "Right").replace("left_", "right_")
            for left, right in (("_L_", "_R_"), (".L", ".R")):
                other = other.replace(left, right)
            other = "r" + other[1:] if other == bone else other
            pairs.append([other, joint.replace("left", "right")])
    found = skeletons.match_bones([bone for bone, _ in pairs])
    for index, (bone, joint) in enumerate(pairs):
        named = {name for name, place in found.items() if place == index and not name.startswith("spine")}
        if not joint.startswith("spine") and joint != "-":
            assert named == {joint}, bone
        elif joint == "-":
            assert not named, bone


@pytest.fixture(scope="module")
def dance(ballroom_dir) -> Motion:
    return Motion.load(ballroom_dir / "motions" / "chacha_2a.npz")[300:345]


def check(dance: Motion, text: str, path, **options) -> Motion:
    """Loaded, its joints (but hands) are where they were, to 2 mm; the twists of thighs and arms too where rotations are known."""
    path.write_text(text)
    loaded = Motion.load(path, **options)
    np.testing.assert_allclose(loaded.joints()[:, :22], dance.joints()[:, :22], atol=2e-3)
    assert loaded.fps == dance.fps
    return loaded


def same_rotations(one: Motion, other: Motion, joints=range(20)) -> bool:
    pair = [Rotation.from_rotvec(m.poses[:, list(joints)].reshape(-1, 3)) for m in (one, other)]
    return (pair[0].inv() * pair[1]).magnitude().max() < 0.01


@pytest.mark.parametrize("tool", NAMES)
def test_bvh_of_every_tool(tmp_path, dance, tool):
    loaded = check(dance, other_bvh(dance, names_of(tool)), tmp_path / "a.bvh")
    assert same_rotations(loaded, dance)
    assert any("fitted to its joints" in note for note in loaded.metadata["notes"])


@pytest.mark.parametrize("order", ["XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX"])
@pytest.mark.parametrize("scale", [1, 100, 1000, 39.37])
def test_channel_orders_and_units(tmp_path, dance, order, scale):
    assert same_rotations(
        check(dance, other_bvh(dance, names_of("cmu"), order=order, scale=scale), tmp_path / "a.bvh"), dance
    )


@pytest.mark.parametrize("rest", ["smpl", "t", "a", "along x"])
@pytest.mark.parametrize("up", ["y", "z", "-z", "x"])
def test_rest_poses_and_axes(tmp_path, dance, rest, up):
    turn = up_axis.y_up_rotation(up).T
    loaded = check(dance, other_bvh(dance, names_of("cmu"), rest=rest, up=turn), tmp_path / "a.bvh")
    assert any("turned from" in note for note in loaded.metadata["notes"]) == (up != "y")
    assert any("estimated" in note for note in loaded.metadata["notes"]) == (rest == "along x")
    if rest != "along x":
        assert same_rotations(loaded, dance)


def test_a_rest_pose_that_faces_elsewhere(tmp_path, dance):
    around = Rotation.from_euler("y", 90, degrees=True).as_matrix()
    assert same_rotations(check(dance, other_bvh(dance, names_of("cmu"), rest_up=around), tmp_path / "a.bvh"), dance)


def test_position_channels_in_every_bone_and_unused_bones(tmp_path, dance):
    for options in ({"everywhere": True}, {"hip_joints": True}, {"fingers": False}):
        assert same_rotations(check(dance, other_bvh(dance, names_of("cmu"), **options), tmp_path / "a.bvh"), dance)


def test_our_bvh_as_blender_writes_it(tmp_path, dance):
    """Z up, and rest offsets turned with it."""
    text = other_bvh(dance, names_of("cmu"), rest="smpl", order="XYZ", scale=1, up=up_axis.y_up_rotation("z").T)
    loaded = check(dance, text, tmp_path / "a.bvh")
    assert "turned from Z up to Y up: that is where the head is above the feet" in loaded.metadata["notes"]


def test_our_bvh_is_read_exactly(tmp_path, dance):
    for options in ({}, {"units": "cm"}, {"bones": "mixamo"}, {"bones": "mixamo", "units": "cm"}):
        dance.save(tmp_path / "a.bvh", **options)
        loaded = check(dance, (tmp_path / "a.bvh").read_text(), tmp_path / "b.bvh")
        assert same_rotations(loaded, dance, range(20)) and loaded.metadata == {}, "nothing was changed"


def test_a_body_of_other_proportions_stands_on_the_floor(tmp_path, dance):
    text = other_bvh(dance, names_of("cmu"))

    def longer(match):
        return "OFFSET " + " ".join(f"{float(value) * 1.2:.6f}" for value in match[1].split())

    text = re.sub(r"OFFSET (.*)", longer, text, count=6)  # hip, knee, ankle, toe and some
    (tmp_path / "a.bvh").write_text(text)
    loaded = Motion.load(tmp_path / "a.bvh")
    notes = " ".join(loaded.metadata["notes"])
    assert "fitted to its joints" in notes and "brought to metres" in notes
    low = loaded.joints()[..., 1].min(-1)
    assert -0.03 < np.percentile(low, 1) < 0.03


@pytest.mark.parametrize("seconds", ["0.0333333", "0.0333", "0.033333333333", ".033"])
def test_rounded_frame_times_give_whole_rates(tmp_path, dance, seconds):
    text = re.sub(r"Frame Time: .*", f"Frame Time: {seconds}", other_bvh(dance, names_of("cmu")))
    assert check(dance, text, tmp_path / "a.bvh").fps == 30


def test_unusual_syntax(tmp_path, dance):
    text = other_bvh(dance, names_of("cmu"))
    for changed in (
        text.replace("\n", "\r\n"),
        "\ufeff" + text,
        text.replace("Frames:", "Frames :"),
        text.replace("CHANNELS", "channels").replace("rotation", "ROTATION"),
        re.sub(r"\n *\{", " {", text),
    ):
        check(dance, changed, tmp_path / "a.bvh")


@pytest.mark.parametrize(
    ("find", "put", "message"),
    [
        ("HIERARCHY", "nothing", "is no BVH"),
        ("MOTION", "", "is no BVH"),
        ("Frames: 45", "Frames: 46", "Frames: 46 of .* it is cut off"),
        ("Frames: 45", "", "no Frames"),
        (r"Frame Time: \S+", "Frame Time: soon", "Frame Time is 'soon'"),
        (r"Frame Time: \S+", "Frame Time: 0", "Frame Time is 0"),
        (r"Frame Time: \S+", "Frame Time: 1e-300", "1 / Frame Time"),
        ("(?s)JOINT Neck(.*)JOINT Head", r"JOINT Hals\1JOINT Kopf", "head or neck"),
        ("LeftUpLeg", "Bein", "no bone is named like left_hip"),
        ("OFFSET", "OFFSET oh", "hierarchy is damaged"),
        ("Zrotation", "Wrotation", "is not understood"),
        (r"\n\}", "\n", "braces"),
        (r"-?\d+\.\d+\n$", "1e30\n", "1e\\+30"),
        (r"-?\d+\.\d+\n$", "nan\n", "NaN or infinite"),
        (r"-?\d+\.\d+\n$", "abc\n", "something else than numbers|cut off"),
    ],
)
def test_errors_of_damaged_files_are_one_line(tmp_path, dance, find, put, message):
    path = tmp_path / "a.bvh"
    path.write_text(re.sub(find, put, other_bvh(dance, names_of("cmu")), count=1))
    with pytest.raises(MotionError, match=message) as caught:
        Motion.load(path)
    assert "a.bvh" in str(caught.value) and "\n" not in str(caught.value)


# --- positions -----------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), frames=st.integers(1, 12), spread=st.sampled_from([0.1, 0.5, 2.0]))
def test_fit_to_our_own_joint_positions(seed, frames, spread):
    generator = np.random.default_rng(seed)
    motion = Motion(generator.normal(0, spread, (frames, 24, 3)), generator.normal(0, 1, (frames, 3)))
    fit = skeletons.from_positions(dict(zip(JOINT_NAMES, motion.joints().transpose(1, 0, 2), strict=True)), up="y")
    np.testing.assert_allclose(Motion(fit.poses, fit.translation).joints(), motion.joints(), atol=1e-4)
    assert fit.error < 1e-4


def test_knees_and_elbows_bend_about_their_hinges(dance):
    fit = skeletons.from_positions(dict(zip(JOINT_NAMES, dance.joints().transpose(1, 0, 2), strict=True)))
    between = Rotation.from_rotvec(fit.poses.reshape(-1, 3)).inv() * Rotation.from_rotvec(dance.poses.reshape(-1, 3))
    degrees = np.degrees(np.median(between.magnitude().reshape(-1, 24), axis=0))
    assert degrees[[1, 2, 4, 5]].max() < 20 and degrees[[16, 17, 18, 19]].max() < 30


def test_joints_of_a_body_without_spine_and_feet(dance):
    joints = dict(zip(JOINT_NAMES, 100 * dance.joints().transpose(1, 0, 2), strict=True))
    for name in ("spine1", "spine2", "left_foot", "right_foot", "left_hand", "right_hand", "pelvis"):
        del joints[name]
    fit = skeletons.from_positions(joints)
    kept = [JOINT_NAMES.index(name) for name in joints]
    assert fit.scale == 0.01
    np.testing.assert_allclose(Motion(fit.poses, fit.translation).joints()[:, kept], dance.joints()[:, kept], atol=0.05)
