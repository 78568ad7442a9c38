import av
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from test_export import Glb, random_motion
from test_mannequin import skin_vertices

from megadance_hf.modeling.kinematics_megadance import JOINT_NAMES, MIRROR_JOINTS, PARENTS
from megadance_hf.motion.bodies import BODIES, body_mesh, inverse_bind_matrices, skin
from megadance_hf.motion.mannequin import REST_JOINTS, SOLE_THICKNESS, mannequin_mesh
from megadance_hf.motion.motion import Motion, MotionError
from megadance_hf.render.camera import follow_camera
from megadance_hf.render.stage import RenderError, Stage
from megadance_hf.render.video import filmstrip, render_frames, render_video

AT_REST = np.tile(np.eye(3), (24, 1, 1))
MIRROR = np.array([-1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def smooth():
    return body_mesh("smooth")


@pytest.fixture(scope="module")
def dance(ballroom_dir) -> Motion:
    """Four seconds of a real dance."""
    return Motion.load(ballroom_dir / "motions" / "chacha_2a.npz")[300:420]


def dense(body) -> np.ndarray:
    weights = np.zeros((len(body.vertices), 24))
    np.add.at(weights, (np.arange(len(weights))[:, None], body.joints), body.weights)
    return weights


def directed_edges(faces: np.ndarray) -> np.ndarray:
    faces = faces.astype(np.int64)
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def poses(dance: Motion, count: int = 8):
    """Joints and global rotations of some frames of a real dance, and of a wilder one than anybody can dance."""
    for motion in (dance, random_motion(40, spread=0.6)):
        joints, rotations = motion.joints(), motion.global_rotations()
        for frame in np.linspace(0, len(motion) - 1, count).astype(int):
            yield joints[frame], rotations[frame]


# --- the mesh --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BODIES)
def test_each_body_is_one_closed_surface_facing_outward(name):
    body = body_mesh(name)
    edges = directed_edges(body.faces)
    unique, counts = np.unique(edges, axis=0, return_counts=True)
    assert counts.max() == 1, "an edge has two faces on the same side"
    assert np.array_equal(unique, np.unique(edges[:, ::-1], axis=0)), "a hole"
    assert len(body.vertices) - len(edges) // 2 + len(body.faces) == 2, (
        "not one sphere-like surface: something is inside"
    )
    a, b, c = (body.vertices[body.faces[:, corner]].astype(float) for corner in range(3))
    volume = (np.cross(a, b) * c).sum() / 6
    assert 0.045 < volume < 0.08, "a slim person's volume in cubic metres, positive when faces look outward"
    assert ((np.cross(b - a, c - a) * body.normals[body.faces].mean(1)).sum(-1) > 0).mean() > 0.999
    np.testing.assert_allclose(np.linalg.norm(body.normals, axis=-1), 1, atol=1e-5)
    assert not body.vertices.flags.writeable and 0 <= body.colours.min() and body.colours.max() <= 1


@pytest.mark.parametrize("name", BODIES)
def test_weights_sum_to_one_over_distinct_joints(name):
    body = body_mesh(name)
    np.testing.assert_allclose(body.weights.sum(1), 1, atol=1e-6)
    assert body.weights.min() >= 0 and body.joints.max() < 24
    assert (body.joints[body.weights == 0] == 0).all()
    for joints, weights in zip(body.joints[::17], body.weights[::17], strict=True):
        used = joints[weights > 0]
        assert len(set(used.tolist())) == len(used)
    assert (dense(body).max(0) > 0.4).all(), "each joint moves something"


def test_left_and_right_are_mirror_images(smooth):
    def rows(vertices, weights, colours):
        whole = np.concatenate([np.round(vertices / 5e-5), np.round(255 * weights), np.round(255 * colours)], 1) + 0.0
        return whole[np.lexsort(whole.T[::-1])]

    weights = dense(smooth)
    here = rows(smooth.vertices, weights, smooth.colours)
    there = rows(smooth.vertices * MIRROR, weights[:, list(MIRROR_JOINTS)], smooth.colours)
    np.testing.assert_allclose(here, there, atol=1.01)
    np.testing.assert_allclose(smooth.bind_joints, smooth.bind_joints[list(MIRROR_JOINTS)] * MIRROR, atol=1e-6)


def test_front_and_back_of_the_smooth_body_differ(smooth):
    """At a glance: the suit is light in front and dark behind; the face is light, crown and nape are dark."""
    weights, brightness, depth = dense(smooth), smooth.colours.mean(1), smooth.normals[:, 2]
    trunk = weights[:, [0, 3, 6, 9]].sum(1) > 0.9
    assert brightness[trunk & (depth > 0.5)].min() > 1.8 * brightness[trunk & (depth < -0.5)].max()
    head = weights[:, 15] > 0.95
    assert brightness[head & (depth > 0.9)].min() > 0.7 and brightness[head & (depth < -0.5)].max() < 0.3


def test_bones_have_our_lengths(smooth):
    """Where two joints of a limb stand in the pose of the mesh; the two sides of our skeleton differ by some millimetres."""
    for joint in (4, 5, 7, 8, 10, 11, 16, 17, 18, 19, 20, 21):
        ours = np.linalg.norm(REST_JOINTS[joint] - REST_JOINTS[PARENTS[joint]])
        theirs = np.linalg.norm(smooth.bind_joints[joint] - smooth.bind_joints[PARENTS[joint]])
        assert theirs == pytest.approx(ours, abs=0.012), JOINT_NAMES[joint]
    turns = smooth.bind_rotations
    np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), AT_REST, atol=1e-5)
    matrices = inverse_bind_matrices(smooth)
    places = np.concatenate([smooth.bind_joints, np.ones((24, 1))], 1)
    np.testing.assert_allclose(np.einsum("jab,jb->ja", matrices, places)[:, :3], 0, atol=1e-6)


def test_at_rest_it_is_an_adult_on_the_mannequin_s_floor(smooth):
    vertices, _ = skin(smooth, REST_JOINTS, AT_REST)
    for foot, side in ((10, vertices[:, 0] > 0), (11, vertices[:, 0] < 0)):
        sole = REST_JOINTS[foot, 1] - SOLE_THICKNESS
        assert vertices[side, 1].min() == pytest.approx(sole, abs=0.003)
        flat = vertices[side & (vertices[:, 1] < sole + 0.01)]
        assert np.ptp(flat[:, 2]) > 0.15, "heel and toes are both down"
    assert 1.6 < np.ptp(vertices[:, 1]) < 1.85
    assert np.ptp(vertices[:, 0]) > 1.5, "a T-pose"
    face = vertices[(dense(smooth)[:, 15] > 0.9) & (np.abs(vertices[:, 0]) < 0.02)]
    assert face[face[:, 2].argmax(), 1] > REST_JOINTS[15, 1], "the nose is in front"


# --- in a dance ------------------------------------------------------------------------------------------------------


def test_the_mannequin_is_posed_as_by_its_own_skinning(dance):
    for joints, rotations in poses(dance, 3):
        vertices, normals = skin(body_mesh("mannequin"), joints, rotations)
        np.testing.assert_allclose(vertices, skin_vertices(mannequin_mesh(), joints, rotations), atol=1e-4)
        np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-5)


def test_the_skin_follows_the_joints(smooth, dance):
    """The ring of skin between two bones, weighed by how much it belongs to both, lies round their joint."""
    weights = dense(smooth)
    for joints, rotations in poses(dance):
        vertices, _ = skin(smooth, joints, rotations)
        for joint, parent in enumerate(PARENTS[1:], start=1):
            ring = weights[:, joint] * weights[:, parent]
            centre = ring @ vertices / ring.sum()
            assert np.linalg.norm(centre - joints[joint]) < 0.06, JOINT_NAMES[joint]
    for joints, rotations in poses(dance, 4):
        vertices, _ = skin(smooth, joints, rotations)
        assert np.linalg.norm(vertices[:, None] - joints, axis=-1).min(1).max() < 0.27, "nothing far from every joint"


def test_nothing_is_torn(smooth, dance):
    edges = directed_edges(smooth.faces)

    def lengths(vertices):
        return np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=-1)

    stretch = np.stack(
        [lengths(skin(smooth, *pose)[0]) / (lengths(smooth.vertices) + 0.005) for pose in poses(dance)]
    )  # armpits stretch: the mesh was modelled with its arms half down
    assert stretch[:8].max() < 2.8 and np.quantile(stretch[:8], 0.999) < 1.7, "in a real dance"
    assert stretch.max() < 6, "in any"


def test_soles_are_where_the_mannequin_s_are(smooth, dance):
    """Each foot by itself: a raised one, too, is neither longer nor shorter than the one the floor was made for."""
    mannequin = body_mesh("mannequin")
    for joints, rotations in list(poses(dance))[:8]:
        for foot in (10, 11):
            lowest, wanted = (
                skin(body, joints, rotations)[0][dense(body)[:, [foot - 3, foot]].sum(1) > 0.6, 1].min()
                for body in (smooth, mannequin)
            )
            assert lowest == pytest.approx(wanted, abs=0.015), JOINT_NAMES[foot]


def test_a_global_rotation_rotates_the_body(smooth, dance):
    joints, rotations = next(poses(dance))
    turn = Rotation.from_rotvec([0.3, -1.1, 0.4]).as_matrix()
    vertices, normals = skin(smooth, joints, rotations)
    turned, normals_turned = skin(smooth, joints @ turn.T, turn @ rotations)
    np.testing.assert_allclose(turned, vertices @ turn.T, atol=1e-5)
    np.testing.assert_allclose(normals_turned, normals @ turn.T, atol=1e-5)


# --- in files --------------------------------------------------------------------------------------------------------


def test_glb_shows_it_as_it_is_skinned_here(tmp_path, smooth, dance):
    glb = Glb(dance.save(tmp_path / "dance.glb", body="smooth").read_bytes())
    joints, rotations = dance.joints(), dance.global_rotations()
    for frame in (0, 60, 119):
        vertices = glb.skinned(glb.world_matrices(frame / dance.fps))
        wanted = skin(smooth, joints[frame], rotations[frame])[0] + [0, SOLE_THICKNESS, 0]
        np.testing.assert_allclose(vertices, wanted, atol=1e-4)
    assert glb.json["meshes"][0]["name"] == "Smooth"
    mannequin = Glb(dance.save(tmp_path / "other.glb").read_bytes())
    assert mannequin.json["meshes"][0]["name"] == "Mannequin"
    assert mannequin.json["animations"][0]["channels"] == glb.json["animations"][0]["channels"]


def test_video_frames_show_it(dance, smooth):
    """Against the outline drawn by OpenCV: a pixel inside all triangles' union is the body's, one outside is not."""
    import cv2

    stage = Stage(dance, (320, 240), body="smooth")
    for frame in (0, 70):
        picture = stage.draw(frame, overlay=False).astype(int)
        floor = np.stack(stage.draw_floor(frame, stage.capsule_ends(frame)), -1).astype(int)
        drawn = np.abs(picture - floor).max(-1) > 12
        vertices, _ = skin(smooth, stage.joints[frame], dance.global_rotations()[frame])
        points = follow_camera(dance, (320, 240)).project(vertices + [0, SOLE_THICKNESS, 0], frame)[:, :2]
        outline = np.zeros(drawn.shape, np.uint8)
        for face in smooth.faces:
            cv2.fillConvexPoly(outline, np.rint(16 * points[face]).astype(np.int32), 1, shift=4)
        kernel = np.ones((3, 3), np.uint8)
        assert drawn[cv2.erode(outline, kernel) > 0].mean() > 0.99
        assert not drawn[cv2.dilate(outline, kernel) == 0].any()
        # the suit is blue, hands and face are not
        seen = follow_camera(dance, (320, 240)).project(stage.joints[frame] + [0, SOLE_THICKNESS, 0], frame)
        column, row = np.rint(seen[0, :2]).astype(int)
        assert picture[row, column, 2] > picture[row, column, 0] + 15
        assert not np.array_equal(picture, next(render_frames(dance[frame : frame + 1], size=(320, 240))))


def test_compiled_and_plain_loops_draw_it_alike(monkeypatch, dance):
    from megadance_hf.render import stage

    compiled = Stage(dance[:1], (48, 36), body="smooth").draw(0)
    monkeypatch.setattr(stage, "compiled", lambda function: function)
    difference = np.abs(compiled.astype(int) - Stage(dance[:1], (48, 36), body="smooth").draw(0)).max(-1)
    assert np.quantile(difference, 0.995) <= 2


def test_a_video_is_written(tmp_path, dance):
    path = dance[:6].save(tmp_path / "dance.mp4", body="smooth", size=(96, 64), progress=False)
    with av.open(str(path)) as container:
        assert len(list(container.decode(video=0))) == 6


def test_a_filmstrip_shows_it(tmp_path, dance):
    import cv2

    strips = [
        cv2.imread(str(filmstrip(dance, tmp_path / f"{body}.png", 2, size=(120, 160), body=body))) for body in BODIES
    ]
    assert strips[0].shape == strips[1].shape == (160, 240, 3)
    frame = Stage(dance, (120, 160), body="smooth").draw(0, overlay=False)[:100, :119, ::-1]
    assert np.array_equal(strips[1][:100, :119], frame) and not np.array_equal(strips[0][:100, :119], frame)


def test_unknown_bodies_are_named(tmp_path):
    motion = random_motion(2)
    with pytest.raises(ValueError, match="body='wooden'.*'mannequin', 'smooth'"):
        body_mesh("wooden")
    with pytest.raises(MotionError, match="body='wooden'.*'mannequin', 'smooth'"):
        motion.save(tmp_path / "dance.glb", body="wooden")
    with pytest.raises(RenderError, match="body='wooden'.*'mannequin', 'smooth'"):
        render_video(motion, tmp_path / "dance.mp4", body="wooden")
    with pytest.raises(RenderError, match="body='wooden'.*'mannequin', 'smooth'"):
        filmstrip(motion, tmp_path / "dance.png", body="wooden")
    assert not list(tmp_path.iterdir())
