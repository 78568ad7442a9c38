import json
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.spatial.transform import Rotation, Slerp
from test_mannequin import skin_vertices

from megadance_hf.export.bvh import _continuous_zxy, save_bvh
from megadance_hf.export.gltf import save_glb
from megadance_hf.export.smpl_mesh import save_smpl_mesh
from megadance_hf.modeling import kinematics_megadance as kinematics
from megadance_hf.motion.mannequin import SOLE_THICKNESS, mannequin_mesh
from megadance_hf.motion.motion import Motion, MotionError


def random_motion(frames: int = 40, seed: int = 0, spread: float = 0.5) -> Motion:
    generator = np.random.default_rng(seed)
    poses = np.cumsum(generator.normal(0, 0.08, (frames, 24, 3)), 0) + generator.normal(0, spread, (24, 3))
    translation = np.cumsum(generator.normal(0, 0.02, (frames, 3)), 0) + (0.3, 0.95, -0.2)
    return Motion(poses, translation, genre="waltz")


@pytest.fixture(scope="module")
def dance(ballroom_dir) -> Motion:
    """Four seconds of a real dance."""
    motion = Motion.load(ballroom_dir / "motions" / "chacha_2a.npz")[300:420]
    motion.genre = "chacha"
    return motion


# --- poses and joints ----------------------------------------------------------------------------------------------


def test_npz_is_what_smpl_tools_expect(tmp_path):
    motion = random_motion(7)
    with np.load(motion.save(tmp_path / "dance.npz"), allow_pickle=False) as archive:
        assert archive["poses"].shape == (7, 72) and archive["poses"].dtype == np.float32
        assert archive["trans"].shape == (7, 3)
        assert archive["fps"] == archive["mocap_framerate"] == 30
        assert str(archive["genre"]) == "waltz" and str(archive["gender"]) == "neutral"
        assert archive["betas"].shape == (10,) and not archive["betas"].any()


def test_pickle_is_a_dict_of_arrays(tmp_path):
    content = pickle.loads(random_motion(7).save(tmp_path / "dance.pkl").read_bytes())
    assert content["smpl_poses"].shape == (7, 72) and content["smpl_trans"].shape == (7, 3)
    assert content["fps"] == 30 and content["genre"] == "waltz"
    assert content["smpl_scaling"].shape == (1,) and content["smpl_scaling"] == 1, "AIST++'s loaders divide by it"


def test_smplx_is_what_blenders_add_on_opens(tmp_path, dance):
    """The keys that its Add Animation asks for, AMASS' Z up, and hands that are neither jaw nor eyes."""
    dance = Motion(dance.poses.copy(), dance.translation)
    dance.poses[:, 22:] = [[0, 0, 0.3], [0, 0, -0.3]]
    with np.load(dance.save(tmp_path / "dance.smplx.npz"), allow_pickle=False) as archive:
        content = dict(archive)
    assert {"trans", "gender", "mocap_frame_rate", "betas", "poses"} <= set(content)
    assert int(content["mocap_frame_rate"]) == 30 and str(content["gender"]) == "neutral"
    assert str(content["surface_model_type"]) == "smplx" and not content["betas"].any()
    poses = content["poses"].reshape(len(dance), 55, 3)
    np.testing.assert_array_equal(poses[:, 1:22], dance.poses[:, 1:22])
    assert not poses[:, 22:25].any(), "jaw and eyes"
    for joint in range(25, 55):
        hand, place = divmod(joint - 25, 15)
        turns = place % 3 == 0 and place < 12  # the first joint of each finger, not the thumb
        np.testing.assert_array_equal(
            poses[:, joint], dance.poses[:, 22 + hand] if turns else np.zeros((len(dance), 3))
        )
    # smplx: the pelvis is at its rest place plus trans, in the world where Z is up
    pelvis = content["trans"] + [0.00312326, -0.35140747, 0.01203655]
    np.testing.assert_allclose(pelvis[:, [0, 2]], dance.translation[:, [0, 1]], atol=1e-6)
    np.testing.assert_allclose(pelvis[:, 1], -dance.translation[:, 2], atol=1e-6)
    up = Rotation.from_rotvec(poses[:, 0]).apply([0, 1, 0])
    assert up[:, 2].mean() > 0.9, "upright along Z"


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 999),
    frames=st.integers(1, 30),
    spread=st.sampled_from([0.2, 1.0, 2.5]),
    fps=st.sampled_from([12.5, 24.0, 29.97, 30.0, 60.0, 120.0]),
    name=st.sampled_from(["a.npz", "a.smplx.npz", "a.pkl", "a.bvh", "a.json", "a.joints.npz"]),
)
def test_round_trip(tmp_path_factory, seed, frames, spread, fps, name):
    """Any motion, also one that lies, jumps, or hangs in the air: its joints come back where they were."""
    motion = random_motion(frames, seed, spread)
    motion = Motion(motion.poses, motion.translation, fps=fps, genre="waltz", metadata={"seed": seed})
    loaded = Motion.load(motion.save(tmp_path_factory.mktemp("again") / name))
    np.testing.assert_allclose(loaded.joints(), motion.joints(), atol=1e-4)
    assert loaded.fps == pytest.approx(fps, rel=1e-6)
    assert loaded.genre == (None if name == "a.bvh" else "waltz")
    if not name.endswith(("bvh", "json", "joints.npz")):
        assert loaded.metadata == motion.metadata
        rotations = [Rotation.from_rotvec(each.poses.reshape(-1, 3)) for each in (loaded, motion)]
        assert (rotations[0].inv() * rotations[1]).magnitude().max() < 1e-3


def test_joints_are_kept_as_archive_and_as_json(tmp_path):
    motion = random_motion(5)
    with np.load(motion.save(tmp_path / "dance.joints.npz"), allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["joints"], motion.joints())
        assert tuple(archive["joint_names"]) == kinematics.JOINT_NAMES
        assert tuple(archive["parents"]) == kinematics.PARENTS and archive["fps"] == 30
    content = json.loads(motion.save(tmp_path / "dance.json").read_text())
    np.testing.assert_allclose(content["joints"], motion.joints(), atol=1e-5)
    assert content["joint_names"] == list(kinematics.JOINT_NAMES) and content["fps"] == 30


# --- BVH: a reader of its own, written from the format alone ---------------------------------------------------------


def read_bvh(text: str) -> tuple[list[dict], np.ndarray, float]:
    """Joints (name, parent, offset, channels; end sites too), channel values (frames, channels), seconds a frame."""
    head, body = text.split("MOTION")
    tokens = head.split()
    assert tokens.pop(0) == "HIERARCHY"
    joints: list[dict] = []
    stack: list[int] = []
    while tokens:
        token = tokens.pop(0)
        if token in ("ROOT", "JOINT", "End"):
            name = tokens.pop(0)
            joints.append({"name": name, "parent": stack[-1] if stack else -1, "channels": [], "end": token == "End"})
        elif token == "{":
            stack.append(len(joints) - 1)
        elif token == "}":
            stack.pop()
        elif token == "OFFSET":
            joints[stack[-1]]["offset"] = np.array([float(tokens.pop(0)) for _ in range(3)])
        elif token == "CHANNELS":
            joints[stack[-1]]["channels"] = [tokens.pop(0) for _ in range(int(tokens.pop(0)))]
        else:
            raise AssertionError(f"unexpected {token!r}")
    assert not stack
    lines = body.strip().splitlines()
    count, seconds = int(lines[0].removeprefix("Frames:")), float(lines[1].removeprefix("Frame Time:"))
    values = np.array([[float(value) for value in line.split()] for line in lines[2:]])
    assert values.shape == (count, sum(len(joint["channels"]) for joint in joints))
    return joints, values, seconds


def bvh_positions(joints: list[dict], values: np.ndarray) -> np.ndarray:
    """World positions (frames, joints, 3): each channel is applied in the order in which it is written."""
    matrices, column = [], 0
    for joint in joints:
        local = np.tile(np.eye(4), (len(values), 1, 1))
        local[:, :3, 3] = joint["offset"]
        for channel in joint["channels"]:
            step = np.tile(np.eye(4), (len(values), 1, 1))
            if channel.endswith("position"):
                step[:, "XYZ".index(channel[0]), 3] = values[:, column]
            else:
                step[:, :3, :3] = Rotation.from_euler(channel[0], values[:, column, None], degrees=True).as_matrix()
            local = local @ step
            column += 1
        matrices.append(local if joint["parent"] < 0 else matrices[joint["parent"]] @ local)
    return np.stack([matrix[:, :3, 3] for matrix in matrices], 1)


BVH_ORDER = (
    "Hips LeftUpLeg LeftLeg LeftFoot LeftToeBase RightUpLeg RightLeg RightFoot RightToeBase Spine Spine1 Spine2 "
    "Neck Head LeftShoulder LeftArm LeftForeArm LeftHand LeftFingerBase RightShoulder RightArm RightForeArm RightHand "
    "RightFingerBase"
)
SMPL_ORDER = (0, 1, 4, 7, 10, 2, 5, 8, 11, 3, 6, 9, 12, 15, 13, 16, 18, 20, 22, 14, 17, 19, 21, 23)


@pytest.mark.parametrize(("units", "scale"), [("m", 1), ("cm", 100)])
def test_bvh_read_back_equals_forward_kinematics(tmp_path, dance, units, scale):
    for motion in (dance, random_motion(40, spread=2.0)):
        joints, values, seconds = read_bvh(save_bvh(motion, tmp_path / "dance.bvh", units=units).read_text())
        assert seconds == pytest.approx(1 / 30, abs=1e-7)
        moving = [index for index, joint in enumerate(joints) if not joint["end"]]
        assert [joints[index]["name"] for index in moving] == BVH_ORDER.split()
        positions = bvh_positions(joints, values)[:, moving] / scale
        np.testing.assert_allclose(positions, motion.joints()[:, SMPL_ORDER], atol=1e-3)
        np.testing.assert_allclose(positions, motion.joints()[:, SMPL_ORDER], atol=2e-5)  # in fact much better


def test_mixamo_bvh_has_the_same_joint_positions(tmp_path, dance):
    order = [name for name in BVH_ORDER.split() if "Finger" not in name]
    for motion in (dance, random_motion(40, spread=2.0)):
        ours = read_bvh(save_bvh(motion, tmp_path / "smpl.bvh").read_text())
        joints, values, seconds = read_bvh(save_bvh(motion, tmp_path / "mixamo.bvh", bones="mixamo").read_text())
        moving = [index for index, joint in enumerate(joints) if not joint["end"]]
        assert [joints[index]["name"] for index in moving] == [f"mixamorig:{name}" for name in order]
        assert seconds == ours[2]
        positions, others = bvh_positions(joints, values), bvh_positions(*ours[:2])
        names = [joint["name"] for joint in ours[0]]
        np.testing.assert_allclose(positions[:, moving], others[:, [names.index(name) for name in order]], atol=2e-5)
        for side in ("Left", "Right"):  # the knuckles, which are joints there and ends here
            (end,) = (
                i for i, j in enumerate(joints) if j["end"] and joints[j["parent"]]["name"].endswith(f"{side}Hand")
            )
            np.testing.assert_allclose(positions[:, end], others[:, names.index(f"{side}FingerBase")], atol=2e-5)


def test_mixamo_bvh_rests_in_a_t_pose(tmp_path):
    joints, _, _ = read_bvh(save_bvh(random_motion(1), tmp_path / "mixamo.bvh", bones="mixamo").read_text())
    offsets = {joint["name"].removeprefix("mixamorig:"): joint["offset"] for joint in joints if not joint["end"]}
    for side, outwards in (("Left", 1), ("Right", -1)):
        for name, direction in {
            "ForeArm": (outwards, 0, 0),
            "Hand": (outwards, 0, 0),
            "Leg": (0, -1, 0),
            "Foot": (0, -1, 0),
        }.items():
            bone = offsets[side + name]
            np.testing.assert_allclose(bone / np.linalg.norm(bone), direction, atol=1e-5)
            assert 0.2 < np.linalg.norm(bone) < 0.45, "limbs keep their length"
    assert offsets["Head"][1] > 0.05 and offsets["LeftToeBase"][2] > 0.1, "upright, facing +Z"


def test_bvh_has_an_end_for_each_chain(tmp_path):
    joints, _, _ = read_bvh(random_motion(1).save(tmp_path / "dance.bvh").read_text())
    ends = {joints[joint["parent"]]["name"] for joint in joints if joint["end"]}
    assert ends == {"Head", "LeftToeBase", "RightToeBase", "LeftFingerBase", "RightFingerBase"}
    assert all(np.linalg.norm(joint["offset"]) > 0.05 for joint in joints if joint["end"]), "Blender drops empty bones"


def test_bvh_units_are_checked(tmp_path):
    with pytest.raises(MotionError, match="units='inch': give one of 'm', 'cm'"):
        save_bvh(random_motion(2), tmp_path / "dance.bvh", units="inch")
    with pytest.raises(MotionError, match="bones='unreal': give one of 'smpl', 'mixamo'"):
        save_bvh(random_motion(2), tmp_path / "dance.bvh", bones="unreal")
    assert not list(tmp_path.iterdir())


@settings(max_examples=40)
@given(
    first=st.floats(-np.pi, np.pi),
    middle=st.sampled_from([-90.0, 90.0, -89.9999, 89.9999, 89.99, 45.0, 0.0, 135.0]),
    last=st.floats(-np.pi, np.pi),
)
def test_angles_give_the_same_rotation_also_in_gimbal_lock(first, middle, last):
    rotation = Rotation.from_euler("ZXY", [first, np.radians(middle), last])
    angles = _continuous_zxy(rotation.as_matrix()[None, None])[0, 0]
    assert (rotation.inv() * Rotation.from_euler("ZXY", angles)).magnitude() < 2e-5


def test_angles_stay_continuous_through_gimbal_lock_and_over_whole_turns():
    steps = 400
    through = Rotation.from_euler(
        "ZXY", np.stack([np.full(steps, 0.3), np.linspace(0, 2 * np.pi, steps), [0.2] * steps], 1)
    )
    turning = Rotation.from_euler("Y", np.linspace(0, 6 * np.pi, steps)[:, None])
    matrices = np.stack([through.as_matrix(), turning.as_matrix()], 1)
    angles = _continuous_zxy(matrices)
    assert np.abs(np.diff(angles, axis=0)).max() < 0.06, "no jump between frames"
    np.testing.assert_allclose(angles[-1, 1], [0, 0, 6 * np.pi], atol=1e-6)
    for joint, rotations in enumerate((through, turning)):
        assert (rotations.inv() * Rotation.from_euler("ZXY", angles[:, joint])).magnitude().max() < 2e-5


# --- glTF: a reader of its own, too ----------------------------------------------------------------------------------


class Glb:
    """Reads a .glb and evaluates its animation and skin as the glTF 2.0 specification says."""

    def __init__(self, data: bytes) -> None:
        magic, version, length = struct.unpack("<4sII", data[:12])
        assert (magic, version, length) == (b"glTF", 2, len(data))
        chunks, at = {}, 12
        while at < len(data):
            size, kind = struct.unpack("<I4s", data[at : at + 8])
            assert size % 4 == 0
            chunks[kind] = data[at + 8 : at + 8 + size]
            at += 8 + size
        self.json, self.binary = json.loads(chunks[b"JSON"]), chunks[b"BIN\0"]

    def accessor(self, index: int) -> np.ndarray:
        accessor = self.json["accessors"][index]
        view = self.json["bufferViews"][accessor["bufferView"]]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}[accessor["type"]]
        kind = {5121: "u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}[accessor["componentType"]]
        flat = np.frombuffer(self.binary, kind, accessor["count"] * width, view["byteOffset"])
        return flat.reshape(-1, width) if width > 1 else flat

    def world_matrices(self, seconds: float) -> list[np.ndarray]:
        """One matrix a node, the animation being at `seconds`."""
        nodes = [dict(node) for node in self.json["nodes"]]
        (animation,) = self.json["animations"]
        for channel in animation["channels"]:
            sampler = animation["samplers"][channel["sampler"]]
            assert sampler["interpolation"] == "LINEAR"
            times, values = self.accessor(sampler["input"]), self.accessor(sampler["output"])
            node, path = nodes[channel["target"]["node"]], channel["target"]["path"]
            at = float(np.clip(seconds, times[0], times[-1]))
            if path == "translation":
                node[path] = [np.interp(at, times, values[:, axis]) for axis in range(3)]
            else:
                before = min(np.searchsorted(times, at, side="right"), len(times) - 1) - 1
                pair = slice(max(before, 0), max(before, 0) + 2)
                node[path] = Slerp(times[pair], Rotation.from_quat(values[pair]))(at).as_quat()
        matrices: dict[int, np.ndarray] = {}

        def visit(index: int, parent: np.ndarray) -> None:
            local = np.eye(4)
            local[:3, :3] = Rotation.from_quat(nodes[index].get("rotation", [0, 0, 0, 1])).as_matrix()
            local[:3, 3] = nodes[index].get("translation", [0, 0, 0])
            matrices[index] = parent @ local
            for child in nodes[index].get("children", []):
                visit(child, matrices[index])

        for root in self.json["scenes"][self.json["scene"]]["nodes"]:
            visit(root, np.eye(4))
        return [matrices[index] for index in range(len(nodes))]

    def skinned(self, matrices: list[np.ndarray]) -> np.ndarray:
        skin = self.json["skins"][0]
        attributes = self.json["meshes"][0]["primitives"][0]["attributes"]
        inverse_bind = self.accessor(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)  # column-major
        joint_matrices = np.stack([matrices[node] for node in skin["joints"]]) @ inverse_bind
        positions = np.c_[self.accessor(attributes["POSITION"]), np.ones(len(self.accessor(attributes["POSITION"])))]
        joints, weights = self.accessor(attributes["JOINTS_0"]), self.accessor(attributes["WEIGHTS_0"])
        return np.einsum("vk,vkab,vb->va", weights, joint_matrices[joints], positions)[:, :3]


RAISED = np.array([0, SOLE_THICKNESS, 0])


def test_glb_animation_equals_forward_kinematics(tmp_path, dance):
    for motion in (dance, random_motion(20, spread=2.0)):
        glb = Glb(save_glb(motion, tmp_path / "dance.glb").read_bytes())
        names = {node["name"]: index for index, node in enumerate(glb.json["nodes"])}
        order = [names[name] for name in kinematics.JOINT_NAMES]
        expected = motion.joints() + RAISED
        for frame in (0, 1, len(motion) // 2, len(motion) - 1):
            matrices = glb.world_matrices(frame / motion.fps)
            np.testing.assert_allclose([matrices[index][:3, 3] for index in order], expected[frame], atol=1e-3)
        assert glb.json["extras"] == {"fps": 30.0, "genre": motion.genre, "frames": len(motion)}


def test_glb_interpolates_the_short_way(tmp_path):
    """Rotations beside a half turn: between two frames the joint must not spin round."""
    poses = np.zeros((40, 24, 3))
    poses[:, 0, 1] = np.linspace(0, 4 * np.pi, 40)  # two whole turns
    motion = Motion(poses, np.zeros((40, 3)))
    glb = Glb(save_glb(motion, tmp_path / "dance.glb").read_bytes())
    for sampler in glb.json["animations"][0]["samplers"][1:]:
        quaternions = glb.accessor(sampler["output"])
        assert ((quaternions[1:] * quaternions[:-1]).sum(-1) > 0).all()
    pelvis = glb.accessor(glb.json["animations"][0]["samplers"][1]["output"])
    np.testing.assert_allclose(np.abs(pelvis[-1]), [0, 0, 0, 1], atol=1e-6)


def test_glb_skin_moves_with_the_body(tmp_path, dance):
    glb, mesh = Glb(save_glb(dance, tmp_path / "dance.glb").read_bytes()), mannequin_mesh()
    joints, rotations = dance.joints(), dance.global_rotations()
    heights = []
    for frame in (0, 40, 80, 119):
        vertices = glb.skinned(glb.world_matrices(frame / dance.fps))
        np.testing.assert_allclose(vertices, skin_vertices(mesh, joints[frame], rotations[frame]) + RAISED, atol=1e-4)
        distance = np.linalg.norm(vertices[:, None] - (joints[frame] + RAISED), axis=-1).min(-1)
        assert distance.max() < 0.25, "no vertex is far from every joint"
        edges = np.linalg.norm(vertices[mesh.faces[:, 0]] - vertices[mesh.faces[:, 1]], axis=-1)
        assert edges.max() < 0.09, "no triangle is torn"
        heights.append(vertices[:, 1].max() - vertices[:, 1].min())
        assert vertices[:, 1].min() == pytest.approx(0, abs=0.09), "stands on y = 0, as well as the data does"
        assert vertices[vertices[:, 1].argmax(), 1] > 1.4, "upright"
    assert min(heights) > 1.5


def test_glb_at_rest_stands_on_the_floor(tmp_path):
    height = -min(
        np.cumsum([kinematics.REST_OFFSETS[joint][1] for joint in chain])[-1]
        for chain in ((1, 4, 7, 10), (2, 5, 8, 11))
    )
    motion = Motion(np.zeros((1, 24, 3)), [[0, height, 0]])
    glb = Glb(save_glb(motion, tmp_path / "dance.glb").read_bytes())
    assert glb.skinned([np.array(m) for m in still_matrices(glb)])[:, 1].min() == pytest.approx(0, abs=0.003)


def still_matrices(glb: Glb) -> list[np.ndarray]:
    """Node matrices without the animation: what a viewer of still models shows."""
    glb.json["animations"] = [{"channels": [], "samplers": []}]
    return glb.world_matrices(0.0)


def test_glb_colours_are_the_mesh_s_and_linear(tmp_path):
    glb = Glb(save_glb(random_motion(1), tmp_path / "dance.glb").read_bytes())
    accessor = glb.json["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]
    colours = glb.accessor(accessor)[:, :3] / 255
    srgb = np.where(colours <= 0.0031308, 12.92 * colours, 1.055 * colours ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(srgb, mannequin_mesh().colours, atol=0.02)


# --- VRM animation ---------------------------------------------------------------------------------------------------

# From the specification of VRMC_vrm 1.0: the bones every humanoid has, and each bone's nearest possible parents.
REQUIRED_VRM_BONES = "hips spine head " + " ".join(
    f"{side}{bone}" for side in ("left", "right") for bone in "UpperLeg LowerLeg Foot UpperArm LowerArm Hand".split()
)
VRM_PARENTS = {"spine": "hips", "chest": "spine", "upperChest": "chest", "neck": "upperChest", "head": "neck"}
for _side in ("left", "right"):
    VRM_PARENTS |= {
        f"{_side}{child}": parent if parent in ("hips", "upperChest") else f"{_side}{parent}"
        for child, parent in {
            "UpperLeg": "hips",
            "LowerLeg": "UpperLeg",
            "Foot": "LowerLeg",
            "Toes": "Foot",
            "Shoulder": "upperChest",
            "UpperArm": "Shoulder",
            "LowerArm": "UpperArm",
            "Hand": "LowerArm",
        }.items()
    }


def test_vrma_is_what_its_specification_asks_for(tmp_path, dance):
    """VRMC_vrm_animation 1.0: a T-pose facing +Z at rest; hips are moved and turned, other bones only turned."""
    glb = Glb(dance.save(tmp_path / "dance.vrma").read_bytes())
    extension = glb.json["extensions"]["VRMC_vrm_animation"]
    assert glb.json["extensionsUsed"] == ["VRMC_vrm_animation"] and extension["specVersion"] == "1.0"
    bones = {name: bone["node"] for name, bone in extension["humanoid"]["humanBones"].items()}
    assert set(bones) == {"hips", *VRM_PARENTS} >= set(REQUIRED_VRM_BONES.split())
    parents = {child: index for index, node in enumerate(glb.json["nodes"]) for child in node.get("children", [])}
    assert {bone: parents[bones[bone]] for bone in VRM_PARENTS} == {b: bones[p] for b, p in VRM_PARENTS.items()}
    targets = sorted((c["target"]["node"], c["target"]["path"]) for c in glb.json["animations"][0]["channels"])
    assert targets == sorted([(bones["hips"], "translation"), *((node, "rotation") for node in bones.values())])

    rest = np.array(still_matrices(glb))
    assert np.allclose(rest[:, :3, :3], np.eye(3)) and not any("scale" in node for node in glb.json["nodes"])
    place = {name: rest[node][:3, 3] for name, node in bones.items()}
    assert place["leftHand"][0] > 0.5 > -0.5 > place["rightHand"][0], "its left is +X: it faces +Z"
    assert min(position[1] for position in place.values()) == pytest.approx(SOLE_THICKNESS, abs=1e-6)
    assert place["hips"][1] > 0.8, "players scale by the height of the hips at rest"


def test_vrma_moves_an_avatar_as_the_dancer(tmp_path, dance):
    """Carried over to a stick figure of other proportions in a T-pose: its limbs point where the dancer's do."""
    pairs = {
        "left_shoulder": "left_elbow",
        "left_elbow": "left_wrist",
        "left_hip": "left_knee",
        "left_knee": "left_ankle",
    }
    pairs |= {a.replace("left", "right"): b.replace("left", "right") for a, b in pairs.items()}
    names = kinematics.JOINT_NAMES
    for motion in (dance, random_motion(20, spread=2.0)):
        glb = Glb(motion.save(tmp_path / "dance.vrma").read_bytes())
        by_name = {node["name"]: index for index, node in enumerate(glb.json["nodes"])}
        for frame in (0, len(motion) // 2, len(motion) - 1):
            matrices, joints = glb.world_matrices(frame / motion.fps), motion.joints()[frame]
            np.testing.assert_allclose(matrices[by_name["pelvis"]][:3, 3], joints[0] + RAISED, atol=1e-5)
            for start, end in pairs.items():
                limb = joints[names.index(end)] - joints[names.index(start)]
                straight = (0, -1, 0) if "hip" in start or "knee" in start else (1 if "left" in start else -1, 0, 0)
                pointing = matrices[by_name[start]][:3, :3] @ straight
                np.testing.assert_allclose(pointing, limb / np.linalg.norm(limb), atol=1e-4)


# --- SMPL ------------------------------------------------------------------------------------------------------------

PELVIS = np.array([0.01, -0.22, 0.03])  # where a real SMPL template has its pelvis: not at the origin


@pytest.fixture(scope="module")
def smpl_model(tmp_path_factory) -> dict:
    """A model in SMPL's format, made here: one small tetrahedron of vertices round each rest joint."""
    rest = np.zeros((24, 3))
    for joint, parent in enumerate(kinematics.PARENTS[1:], start=1):
        rest[joint] = rest[parent] + kinematics.REST_OFFSETS[joint]
    rest += PELVIS
    # smplx picks extra landmarks by fixed vertex numbers up to 6889, so there must be as many vertices as SMPL has.
    count = 6890
    owner = np.arange(count) % 24
    generator = np.random.default_rng(0)
    half = generator.normal(0, 0.02, (count // 2, 3))
    around = np.zeros((count, 3))
    first = np.arange(24 * 142)
    around[first] = np.where((first // 24 % 2 == 0)[:, None], 1, -1) * half[first // 48 * 24 + first % 24]  # in pairs
    template = rest[owner] + around
    regressor = np.zeros((24, count))
    regressor[owner[first], first] = 24 / len(first)
    shapes = np.zeros((count, 3, 10))
    shapes[:, 1, 0] = 0.1 * template[:, 1]  # the first shape number makes taller
    weights = np.zeros((count, 24))
    weights[np.arange(count), owner] = 1
    return {
        "v_template": template,
        "shapedirs": shapes,
        "posedirs": np.zeros((count, 3, 207)),
        "J_regressor": regressor,
        "kintree_table": np.array([[2**32 - 1, *kinematics.PARENTS[1:]], range(24)], dtype=np.int64),
        "weights": weights,
        "f": np.arange(300).reshape(-1, 3),
    }


@pytest.fixture(scope="module", params=["folder", "pkl", "npz"])
def smpl_path(request, smpl_model, tmp_path_factory):
    pytest.importorskip("smplx")
    folder = tmp_path_factory.mktemp("smpl")
    if request.param == "npz":
        np.savez(folder / "SMPL_NEUTRAL.npz", **smpl_model)
        return folder / "SMPL_NEUTRAL.npz"
    official = {**smpl_model, "J_regressor": sparse.csc_matrix(smpl_model["J_regressor"])}
    (folder / "SMPL_NEUTRAL.pkl").write_bytes(pickle.dumps(official, protocol=2))
    return folder if request.param == "folder" else folder / "SMPL_NEUTRAL.pkl"


def test_smpl_joints_equal_our_forward_kinematics(tmp_path, smpl_path, smpl_model):
    motion = random_motion(11)
    with np.load(save_smpl_mesh(motion, tmp_path / "mesh.npz", smpl_path, batch_size=4)) as archive:
        np.testing.assert_allclose(archive["joints"], motion.joints(), atol=1e-5)
        np.testing.assert_array_equal(archive["faces"], smpl_model["f"])
        assert archive["fps"] == 30
        # Each vertex is rigid with its joint here.
        owner, rotations = smpl_model["weights"].argmax(-1), motion.global_rotations()
        rest = smpl_model["J_regressor"] @ smpl_model["v_template"]
        offsets = smpl_model["v_template"] - rest[owner]
        expected = motion.joints()[:, owner] + np.einsum("tvab,vb->tva", rotations[:, owner], offsets)
        np.testing.assert_allclose(archive["vertices"], expected, atol=1e-5)


@pytest.mark.parametrize("smpl_path", ["npz"], indirect=True)
def test_smpl_pelvis_stays_on_the_path_for_any_shape(tmp_path, smpl_path):
    motion = random_motion(3)
    with np.load(save_smpl_mesh(motion, tmp_path / "tall.npz", smpl_path, betas=[2.0])) as archive:
        np.testing.assert_allclose(archive["joints"][:, 0], motion.translation, atol=1e-5)
        taller = np.linalg.norm(archive["joints"][:, 4] - archive["joints"][:, 1], axis=-1)
        shorter = np.linalg.norm(motion.joints()[:, 4] - motion.joints()[:, 1], axis=-1)
        np.testing.assert_allclose(taller / shorter, 1.2, atol=0.01)


@pytest.mark.parametrize("smpl_path", ["npz"], indirect=True)
def test_smpl_meshes_as_obj_files(tmp_path, smpl_path):
    motion = random_motion(3)
    folder = save_smpl_mesh(motion, tmp_path / "frames", smpl_path)
    assert sorted(path.name for path in folder.iterdir()) == [f"frame_0000{frame}.obj" for frame in range(3)]
    lines = (folder / "frame_00001.obj").read_text().splitlines()
    vertices = np.array([[float(x) for x in line.split()[1:]] for line in lines if line.startswith("v ")])
    faces = np.array([[int(x) for x in line.split()[1:]] for line in lines if line.startswith("f ")])
    assert vertices.shape == (6890, 3) and faces.min() == 1, "faces count from one"
    with np.load(save_smpl_mesh(motion, tmp_path / "mesh.npz", smpl_path)) as archive:
        np.testing.assert_allclose(vertices, archive["vertices"][1], atol=1e-5)
    with pytest.raises(MotionError, match="exists: give the name of a new folder"):
        save_smpl_mesh(motion, folder, smpl_path)
    with pytest.raises(MotionError, match="betas has 11 numbers"):
        save_smpl_mesh(motion, tmp_path / "mesh.npz", smpl_path, betas=np.zeros(11))


def test_errors_of_smpl_meshes(tmp_path):
    pytest.importorskip("smplx")
    motion = random_motion(1)
    (tmp_path / "broken.pkl").write_bytes(b"junk")
    for model in ("nothing.pkl", "broken.pkl", "nothing.npz", "."):
        with pytest.raises(MotionError, match="model_path=.*is not a readable SMPL model.*SMPL_NEUTRAL.pkl"):
            save_smpl_mesh(motion, tmp_path / "mesh.npz", tmp_path / model)
    with pytest.raises(MotionError, match="end it in .npz, or give a folder name"):
        save_smpl_mesh(motion, tmp_path / "mesh.ply", tmp_path)
    with pytest.raises(MotionError, match="does not exist"):
        save_smpl_mesh(motion, tmp_path / "nowhere" / "mesh.npz", tmp_path)
