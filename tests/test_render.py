"""Videos and filmstrips: they decode, sound and picture start together, and the body is where forward kinematics puts it."""

import io
import itertools
import math
import time
from dataclasses import replace
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
import soundfile
from scipy.signal import correlate, resample_poly
from scipy.spatial.transform import Rotation

from megadance_hf.modeling.audio_megadance import AudioError
from megadance_hf.modeling.kinematics_megadance import PARENTS
from megadance_hf.motion.mannequin import SEGMENTS, SOLE_THICKNESS
from megadance_hf.motion.motion import Motion, MotionError
from megadance_hf.render import stage as stage_module
from megadance_hf.render import video as video_module
from megadance_hf.render.camera import PITCH, Camera, follow_camera
from megadance_hf.render.stage import RenderError, Stage
from megadance_hf.render.video import filmstrip, render_frames, render_video

SMALL = (192, 108)
HIP, ELBOW, SHOULDER, WRIST = (1, 2), (18, 19), (16, 17), (20, 21)  # left, right


def stand(frames: int = 24, fps: float = 30.0, **turns: tuple[float, float, float]) -> Motion:
    """A standing figure with its arms half down; `j18=(x, y, z)` turns a joint. It faces +Z, its foot joints are at y = 0."""
    poses = np.zeros((frames, 24, 3), np.float32)
    poses[:, 16, 2], poses[:, 17, 2] = -0.7, 0.7
    for name, turn in turns.items():
        poses[:, int(name[1:])] = turn
    motion = Motion(poses, np.zeros((frames, 3)), fps=fps, genre="waltz")
    motion.translation[:, 1] -= motion.joints()[0, [10, 11], 1].min()
    return motion


def dance(frames: int = 24, fps: float = 30.0) -> Motion:
    """Something that moves: a swing of the arms, a turn, a step to the side."""
    motion = stand(frames, fps)
    time = np.arange(frames) / fps
    motion.poses[:, 0, 1] = 0.8 * np.sin(3 * time)
    motion.poses[:, 16, 2] += 0.9 * np.sin(7 * time)
    motion.poses[:, 4, 0] = 0.5 - 0.5 * np.cos(5 * time)
    motion.translation[:, 0] = 0.4 * time
    return motion


def clicks(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """Bursts of low noise at uneven times, (samples, channels): a sound that fits itself at one shift only."""
    rng = np.random.default_rng(5)
    sound = rng.normal(size=(round(seconds * rate), channels))
    sound = cv2.blur(sound, (1, max(1, rate // 8000)))
    time = np.arange(len(sound)) / rate
    return (0.3 * sound * (np.sin(9 * time**1.7 + 1) > 0.3)[:, None]).astype(np.float32)


def decoded_sound(path) -> tuple[np.ndarray, int]:
    """Samples (samples, channels) by their time stamps: index 0 is time 0."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        parts, rate = [], stream.rate
        for frame in container.decode(stream):
            parts.append((round(frame.pts * frame.time_base * rate), frame.to_ndarray().T))
    sound = np.zeros((max(at + len(part) for at, part in parts), parts[0][1].shape[1]), np.float32)
    for at, part in parts:
        sound[max(at, 0) : at + len(part)] = part[max(-at, 0) :]
    return sound, rate


def resampled(sound: np.ndarray, rate: int, target: int) -> np.ndarray:
    return sound if rate == target else resample_poly(sound, target, rate)


def lag(heard: np.ndarray, played: np.ndarray, rate: int) -> tuple[float, float]:
    """Seconds by which `heard` is late against `played`, and their correlation at that shift."""
    heard, played = heard - heard.mean(), played - played.mean()
    products = correlate(heard, played, method="fft")
    best = int(products.argmax())
    return (best - len(played) + 1) / rate, products[best] / math.sqrt((heard**2).sum() * (played**2).sum())


def body_mask(stage: Stage, frame: int) -> np.ndarray:
    """Pixels that the body changes."""
    floor = floor_picture(stage, frame, stage.capsule_ends(frame))
    return np.abs(stage.draw(frame, overlay=False).astype(int) - floor).max(-1) > 12


def floor_picture(stage: Stage, frame: int, ends: np.ndarray) -> np.ndarray:
    return np.stack(stage.draw_floor(frame, ends), -1)


def bare_floor(stage: Stage, frame: int) -> np.ndarray:
    return floor_picture(stage, frame, stage.capsule_ends(frame) + [90.0, 0.0, 0.0])  # the shadow falls far away


# --- the file --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "dance.mp4"
    assert render_video(dance(), path, (clicks(2, 44100, 2), 44100), size=SMALL, progress=False) == path
    return path


@pytest.mark.versions
def test_the_video_is_what_players_expect(video):
    with av.open(str(video)) as container:
        picture, sound = container.streams.video[0], container.streams.audio[0]
        assert (picture.codec_context.name, picture.pix_fmt, picture.average_rate) == ("h264", "yuv420p", 30)
        assert (picture.width, picture.height) == SMALL
        assert sound.codec_context.name == "aac" and sound.rate == 44100 and sound.channels == 2
        assert [round(frame.time * 30) for frame in container.decode(picture)] == list(range(24))
    content = video.read_bytes()
    assert 0 < content.find(b"moov") < content.find(b"mdat")  # can be played while it is loaded


def test_the_video_shows_the_drawn_frames(video):
    with av.open(str(video)) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    drawn = list(render_frames(dance(), size=SMALL))
    assert len(shown) == len(drawn) == 24
    same = [np.abs(a.astype(int) - b).mean() for a, b in zip(shown, drawn, strict=True)]
    assert max(same) < 4  # what the encoder loses
    assert np.abs(drawn[0].astype(int) - drawn[20]).mean() > 1.5 * same[0]  # and the dance is not a still


@pytest.mark.versions
@pytest.mark.parametrize(("rate", "channels", "start"), [(44100, 2, 0.0), (22050, 1, 0.4), (30000, 1, 0.25)])
def test_sound_starts_with_frame_0_and_is_as_long_as_the_picture(tmp_path, rate, channels, start):
    song = clicks(3, rate, channels)
    path = render_video(stand(30), tmp_path / "a.mp4", (song, rate), music_start=start, size=(64, 36), progress=False)
    heard, heard_rate = decoded_sound(path)
    assert heard_rate == (44100 if rate == 44100 else 48000) and heard.shape[1] == channels
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        assert abs(stream.duration * stream.time_base - 1) < 0.001  # what the file says and players keep to;
    assert 0 <= len(heard) / heard_rate - 1 < 1 / 30  # a decoder that does not, plays the last block to its end
    part = resampled(song[round(start * rate) : round((start + 1) * rate), 0], rate, heard_rate)
    late, likeness = lag(heard[:, 0], part, heard_rate)
    assert abs(late) < 0.001 and likeness > 0.8


def test_after_a_short_song_there_is_silence(tmp_path):
    path = render_video(stand(30), tmp_path / "a.mp4", (clicks(0.5, 44100), 44100), size=(64, 36), progress=False)
    heard, rate = decoded_sound(path)
    assert abs(len(heard) / rate - 1.0) < 1 / 30
    assert np.abs(heard[: rate // 2]).max() > 0.1
    assert np.abs(heard[round(0.6 * rate) :]).max() < 1e-3


def test_a_song_is_a_file_or_bytes_or_an_array_either_way_round(tmp_path):
    song = clicks(1, 44100, 2)
    content = io.BytesIO()
    soundfile.write(content, song, 44100, format="wav", subtype="FLOAT")
    (tmp_path / "song.wav").write_bytes(content.getvalue())
    forms = (tmp_path / "song.wav", str(tmp_path / "song.wav"), content.getvalue(), (song, 44100), (song.T, 44100))
    made = [video_module.cut_music(form, 0.0, Fraction(1, 2)) for form in forms]
    assert all(rate == 44100 and np.array_equal(sound, song[:22050].T) for sound, rate in made)


def test_without_music_the_film_is_silent(tmp_path):
    path = render_video(stand(3), tmp_path / "a.mp4", size=(64, 36), progress=False)
    with av.open(str(path)) as container:
        assert not container.streams.audio
        assert sum(1 for _ in container.decode(video=0)) == 3


def test_other_rates_are_resampled(tmp_path):
    path = render_video(dance(40, fps=60), tmp_path / "a.mp4", size=(64, 36), progress=False)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 30
        assert sum(1 for _ in container.decode(video=0)) == 20
    slow, fast = list(render_frames(dance(20), size=SMALL)), list(render_frames(dance(40, fps=60), size=SMALL))
    assert np.abs(slow[7].astype(int) - fast[7]).mean() < 0.3


def test_motion_saves_itself_as_a_video(tmp_path):
    stand(4).save(tmp_path / "a.mp4", music=(clicks(1, 22050), 22050), size=(64, 36), progress=False)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert len(container.streams) == 2


def test_the_same_dance_gives_the_same_file(tmp_path, video):
    again = render_video(dance(), tmp_path / "b.mp4", (clicks(2, 44100, 2), 44100), size=SMALL, progress=False)
    assert again.read_bytes() == video.read_bytes()


def test_a_failure_leaves_nothing_and_keeps_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "dance.mp4"
    path.write_bytes(b"the last good one")
    whole = Stage.draw_planes

    def draw_planes(self, frame, *args):
        if frame == 200:
            raise RuntimeError("the lamp went out")
        return whole(self, frame, *args)

    monkeypatch.setattr(Stage, "draw_planes", draw_planes)
    threads = cv2.getNumThreads()
    with pytest.raises(RuntimeError, match="lamp"):
        render_video(dance(500), path, (clicks(1, 22050), 22050), size=(64, 36), progress=False)
    assert cv2.getNumThreads() == threads
    assert [file.name for file in tmp_path.iterdir()] == ["dance.mp4"]
    assert path.read_bytes() == b"the last good one"


def test_the_file_does_not_depend_on_number_or_timing_of_threads(tmp_path, monkeypatch):
    motion, files = dance(300), []
    whole = Stage.draw_planes
    for cores, slow in ((1, None), (2, 3), (3, 130), (8, None)):

        def draw_planes(self, frame, *args, slow=slow):
            if frame == slow:
                time.sleep(0.3)
            return whole(self, frame, *args)

        monkeypatch.setattr(Stage, "draw_planes", draw_planes)
        monkeypatch.setattr(video_module, "_cores", lambda cores=cores: cores)
        files.append(render_video(motion, tmp_path / f"{cores}.mp4", size=(64, 36), progress=False).read_bytes())
    assert files.count(files[0]) == 4


def test_a_video_tells_how_far_it_is_and_can_be_stopped(tmp_path):
    told = []
    render_video(dance(300), tmp_path / "a.mp4", size=(64, 36), progress=lambda *numbers: told.append(numbers))
    assert told == sorted(told) and told[-1] == (300, 300) and len(told) >= 3, "at least once a part"

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_video(dance(3000), tmp_path / "b.mp4", size=(64, 36), progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("frames", [1, 2, 120, 121, 122, 241, 300])
def test_parts_join_to_one_video(tmp_path, frames):
    """Every frame is there once and in order, and a player can start at each part."""
    motion = dance(frames)
    path = render_video(motion, tmp_path / "a.mp4", (clicks(1, 22050), 22050), size=(64, 36), progress=False)
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert sorted(packet.pts for packet in packets) == [packets[0].duration * index for index in range(frames)]
    assert all(a.dts < b.dts for a, b in itertools.pairwise(packets))
    keys = [index for index, packet in enumerate(packets) if packet.is_keyframe]
    assert keys == list(range(0, max(frames - 1, 1), 120))
    drawn = list(render_frames(motion, size=(64, 36)))
    with av.open(str(path)) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(shown) == frames
    for a, b in zip(shown, drawn, strict=True):
        assert np.abs(a.astype(int) - b).mean() < 4
    if frames == 300:
        with av.open(str(path)) as container:
            container.seek(packets[keys[-1]].pts, stream=container.streams.video[0])
            first = next(container.decode(video=0))
        assert np.array_equal(first.to_ndarray(format="rgb24"), shown[keys[-1]])


def test_progress_is_shown_or_not(tmp_path, capsys):
    render_video(stand(2), tmp_path / "a.mp4", size=(64, 36), progress=False)
    assert capsys.readouterr() == ("", "")
    render_video(stand(2), tmp_path / "a.mp4", size=(64, 36))
    assert "2/2" in capsys.readouterr().err


# --- the picture -----------------------------------------------------------------------------------------------------


def test_the_camera_is_a_pinhole():
    """Against a projection built another way: a homogeneous matrix with scipy's rotations."""
    camera = Camera((640, 360), 0.7, np.array([[0.3, 0.9, -0.2]]), np.array([5.0]))
    turn = Rotation.from_euler("YX", [camera.heading, -PITCH])  # the camera's axes in the world
    eye = camera.targets[0] + turn.apply([0.0, 0.0, 5.0])
    points = np.random.default_rng(0).normal(size=(50, 3))
    seen = turn.inv().apply(points - eye)
    intrinsics = np.array([[camera.focal, 0, 319.5], [0, camera.focal, 179.5], [0, 0, 1]])
    image = (seen * [1, -1, -1]) @ intrinsics.T
    np.testing.assert_allclose(camera.project(points, 0)[:, :2], image[:, :2] / image[:, 2:], atol=1e-6)
    np.testing.assert_allclose(camera.project(points, 0)[:, 2], image[:, 2], atol=1e-9)


def test_the_body_is_where_the_joints_are():
    stage = Stage(dance(), (320, 180))
    for frame in (0, 11, 23):
        mask = body_mask(stage, frame)
        seen = stage.camera.project(stage.joints[frame] + [0, SOLE_THICKNESS, 0], frame)
        columns, rows = np.rint(seen[:, :2]).astype(int).T
        assert mask[rows, columns].all()
        # and nowhere else: no pixel of the body is farther than 17 cm from the bones (the crown is 19 above its joint)
        bones = np.ones(mask.shape, np.uint8)
        for joint, parent in enumerate(PARENTS[1:], start=1):
            cv2.line(bones, (columns[joint], rows[joint]), (columns[parent], rows[parent]), 0)
        centimetre = stage.camera.focal / seen[0, 2] / 100
        cv2.circle(bones, (columns[15], int(rows[15] - 6 * centimetre)), 1, 0)
        assert cv2.distanceTransform(bones, cv2.DIST_L2, 5)[mask].max() < 17 * centimetre
        assert 0.03 < mask.mean() < 0.2


def test_the_figure_stands_upright_on_the_floor():
    stage = Stage(stand(2), (320, 180))
    mask = body_mask(stage, 0)
    rows = np.flatnonzero(mask.any(1))
    floor = stage.camera.project(np.array([[0.0, 0.0, 0.10], [0.0, 1.75, 0.0]]), 0)[:, 1]
    assert abs(rows[-1] - floor[0]) < 4  # the soles are on y = 0 ...
    assert abs(rows[0] - floor[1]) < 8  # ... and the crown is a person's height above
    lowest = min(
        end[1] - radius
        for ends, segment in zip(stage.capsule_ends(0), SEGMENTS, strict=True)
        for end, radius in zip(ends, (segment.start_radius, segment.end_radius), strict=True)
    )
    assert abs(lowest) < 0.006


def test_left_is_on_the_right_of_the_picture_and_blue():
    stage = Stage(stand(2, j16=(0.0, 0.0, 0.9)), (320, 180))  # the left arm is raised
    mask = body_mask(stage, 0)
    high = mask[: int(stage.camera.project(stage.joints[0, 15], 0)[1])]
    middle = stage.camera.project(stage.joints[0, 0], 0)[0]
    columns = np.flatnonzero(high.any(0))
    assert columns.max() > middle + 20 and columns.min() > middle - 15
    picture = stage.draw(0, overlay=False).astype(int)
    tints = []
    for elbow, wrist in zip(ELBOW, WRIST, strict=True):
        column, row, _ = stage.camera.project((stage.joints[0, elbow] + stage.joints[0, wrist]) / 2, 0)
        red, _, blue = picture[round(row), round(column)]
        tints.append(int(blue - red))
    assert tints[0] > 10 and tints[1] < -10


def test_front_and_back_differ_at_a_glance():
    """The chest is light, the back dark; the face has a dark visor. Both limbs keep their colour from behind."""
    seen = {}
    for name, turn in (("front", 0.0), ("back", math.pi)):
        stage = Stage(stand(2, j0=(0.0, turn, 0.0)), (480, 270))
        stage.camera = replace(stage.camera, heading=0.0)
        picture = stage.draw(0, overlay=False).astype(int)
        spots = {
            "chest": (9, (0, 0, 0)),
            "eyes": (15, (0, 0.066, 0)),
            "left": (4, (0, -0.15, 0)),
            "right": (5, (0, -0.15, 0)),
        }
        for spot, (joint, offset) in spots.items():
            column, row, _ = stage.camera.project(stage.joints[0, joint] + offset + [0, SOLE_THICKNESS, 0], 0)
            seen[name, spot] = picture[round(row) - 1 : round(row) + 2, round(column) - 1 : round(column) + 2].mean(
                (0, 1)
            )
    assert seen["front", "chest"].mean() > seen["back", "chest"].mean() + 60
    assert seen["front", "eyes"].mean() < seen["front", "chest"].mean() - 50
    for name in ("front", "back"):
        for spot, sign in (("left", 1), ("right", -1)):
            assert sign * (seen[name, spot][2] - seen[name, spot][0]) > 40


@pytest.mark.parametrize("travel", [0.0, 1.2])
def test_the_figure_has_three_quarters_of_the_height(travel):
    motion = stand(150)
    motion.translation[:, 0] += travel * np.arange(150) / 30
    motion.translation[:, 2] -= 0.5 * travel * np.arange(150) / 30
    stage = Stage(motion, SMALL)
    for frame in (0, 75, 149):
        rows = np.flatnonzero(body_mask(stage, frame).any(1))
        assert 0.68 < (rows[-1] - rows[0]) / SMALL[1] < 0.8


def test_the_nose_shows_which_way_the_head_looks():
    """A head that turns to its left shows more of its profile on the right of the picture."""
    faces = []
    for turn in (0.9, -0.9):
        stage = Stage(stand(2, j15=(0.0, turn, 0.0)), (480, 270))
        column, row, _ = stage.camera.project(stage.joints[0, 15], 0)
        faces.append(body_mask(stage, 0)[int(row) - 8 : int(row) + 4].nonzero()[1].mean() - column)
    assert faces[0] > faces[1] + 2


def test_shadow_lies_under_the_feet_and_fades_when_they_leave():
    motion = stand(2)
    motion.translation[1, 1] += 0.4  # a jump
    stage = Stage(motion, (640, 360))
    darker = []
    for frame in (0, 1):
        difference = bare_floor(stage, frame).astype(int) - floor_picture(stage, frame, stage.capsule_ends(frame))
        assert difference.min() >= -1  # a shadow only darkens
        spots = stage.joints[0, [10, 11]] * [1, 0, 1]
        at = np.rint(stage.camera.project(np.concatenate([spots, spots + [-1.0, 0, 0.3]]), frame)).astype(int)
        darker.append(difference[at[:, 1], at[:, 0]].mean(-1))
    assert darker[0][:2].min() > 30
    assert darker[1][:2].max() < 0.5 * darker[0][:2].min()
    assert np.abs(darker[0][2:]).max() < 3  # none towards the lamp


def test_the_camera_keeps_the_whole_body_in_the_picture_and_is_calm():
    frames = 240
    time = np.arange(frames) / 30
    motion = stand(frames)
    motion.translation[:, 0] += 2.0 * np.sin(1.5 * time)  # 3 m/s at most
    motion.translation[:, 2] += 1.5 * np.cos(1.1 * time)
    motion.translation[:, 1] += 0.6 * np.maximum(0, np.sin(4 * time))  # leaps
    motion.poses[:, 16, 2] += 1.8 * np.sin(6 * time)
    motion.poses[:, 17, 2] -= 1.8 * np.sin(6 * time)
    motion.poses[:, 0, 1] = 4 * time
    for size in ((192, 108), (108, 192)):
        stage = Stage(motion, size)
        for frame in range(frames):
            seen = stage.camera.project(stage.capsule_ends(frame), frame)
            reach = np.array([(s.start_radius, s.end_radius) for s in SEGMENTS]) * stage.camera.focal / seen[..., 2]
            for axis in (0, 1):
                assert (seen[..., axis] - reach).min() > 0 and (seen[..., axis] + reach).max() < size[axis] - 1
        place = stage.camera.targets + stage.camera.distances[:, None] * stage.camera.axes()[2]
        step = np.linalg.norm(np.diff(place, axis=0), axis=1)
        assert step.max() < 0.11  # metres a frame; the dancer's are up to 0.1
        assert np.abs(np.diff(place, n=2, axis=0)).max() < 0.02


def test_the_camera_stands_in_front_wherever_that_is():
    """A dance turned about the vertical gives the same pictures."""
    motion, turn = dance(6), Rotation.from_euler("y", 2.0)
    turned = Motion(motion.poses.copy(), turn.apply(motion.translation), fps=30, genre="waltz")
    turned.poses[:, 0] = (turn * Rotation.from_rotvec(motion.poses[:, 0])).as_rotvec()
    for one, other in zip(render_frames(motion, size=SMALL), render_frames(turned, size=SMALL), strict=True):
        assert np.abs(one.astype(int) - other).max() <= 8 and np.abs(one.astype(int) - other).mean() < 0.05


def test_frames_do_not_depend_on_each_other():
    stage = Stage(dance(140), SMALL)
    alone = Stage(dance(140), SMALL).draw(133)
    for frame in (0, 127, 128, 5):
        stage.draw(frame)
    assert np.array_equal(stage.draw(133), alone)
    assert alone.shape == (108, 192, 3) and alone.dtype == np.uint8


def test_compiled_and_plain_loops_draw_alike(monkeypatch):
    compiled = Stage(dance(), (64, 36)).draw(9)
    monkeypatch.setattr(stage_module, "compiled", lambda function: function)
    assert np.abs(compiled.astype(int) - Stage(dance(), (64, 36)).draw(9)).max() <= 1


def test_frames_for_video_are_the_pictures_in_other_colours():
    """Against the picture in RGB, converted with the matrix of BT.601 and the mean of four pixels' colours."""
    stage = Stage(dance(), (320, 180))
    for frame in (0, 23):
        rgb = stage.draw(frame) / 255
        red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
        y = 0.299 * red + 0.587 * green + 0.114 * blue
        planes = stage.draw_planes(frame)
        wanted = (16 + 219 * y, 128 + 112 * (blue - y) / 0.886, 128 + 112 * (red - y) / 0.701)
        for plane, exact in zip(planes, wanted, strict=True):
            if len(plane) == 90:
                exact = exact.reshape(90, 2, 160, 2).mean((1, 3))
            difference = np.abs(plane - exact)[: round(0.97 * len(plane))]  # the end of the time bar is rounded
            assert difference.mean() < 0.4 and np.quantile(difference, 0.99) < 1.5 and difference.max() < 4


def test_the_title_is_the_genre_a_text_or_nothing():
    titled, *others = (
        next(render_frames(stand(2), size=SMALL, title=title)) for title in (None, "waltz", "rumba", "", False)
    )
    plain = Stage(stand(2), SMALL).draw(0, overlay=False)
    above = round(0.98 * SMALL[1])  # of the time bar
    same, other, *without = ((titled[:above] != picture[:above]).any() for picture in others)
    assert (same, other, without) == (False, True, [True, True])
    assert all(np.array_equal(picture[:above], plain[:above]) for picture in others[2:])


# --- filmstrip -------------------------------------------------------------------------------------------------------


def test_filmstrip(tmp_path):
    path = filmstrip(dance(31), tmp_path / "strip.png", 4, size=(80, 120))
    strip = cv2.imread(str(path))[..., ::-1]
    assert strip.shape == (120, 320, 3)
    stage = Stage(dance(31), (80, 120))
    for index, frame in enumerate((0, 10, 20, 30)):
        part = strip[:, index * 80 : index * 80 + 79].astype(int)
        drawn = stage.draw(frame, overlay=False)[:, :79]
        assert np.array_equal(part[:100], drawn[:100])
        assert np.abs(part[100:] - drawn[100:]).max() > 40  # its time is written below
    assert [file.name for file in tmp_path.iterdir()] == ["strip.png"]


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (193, 108)}, r"size=\(193, 108\).*even.*\(194, 108\)"),
        ({"size": (8, 8)}, r"size=\(8, 8\).*32"),
        ({"size": "720p"}, "size='720p'"),
        ({"fps": 0}, "fps=0"),
        ({"fps": float("nan")}, "fps=nan"),
        ({"title": True}, "title=True.*False for none"),
        ({"music": (np.zeros(100), 22050), "music_start": -1.0}, "music_start=-1.0.*0 or more"),
        ({"music": (np.zeros(22050), 22050), "music_start": 2.0}, "music_start=2.0.*ends at 1.00 s"),
        ({"music": (np.full(100, np.nan), 22050)}, "NaN"),
        ({"music": (np.zeros((2, 2, 2)), 22050)}, r"music has shape \(2, 2, 2\)"),
        ({"music": (np.zeros(100), 0.5)}, "sampling_rate=0.5"),
    ],
)
def test_errors_name_the_argument_and_the_remedy(tmp_path, options, message):
    with pytest.raises((RenderError, AudioError), match=message) as caught:
        render_video(stand(2), tmp_path / "a.mp4", progress=False, **{"size": (64, 36), **options})
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_errors_about_files(tmp_path):
    small = {"size": (64, 36), "progress": False}
    with pytest.raises(RenderError, match="end the name in .mp4"):
        render_video(stand(2), tmp_path / "a.avi", **small)
    with pytest.raises(RenderError, match="end the name in .png"):
        filmstrip(stand(2), tmp_path / "a.jpg")
    with pytest.raises(RenderError, match="does not exist; create it"):
        render_video(stand(2), tmp_path / "no" / "a.mp4", **small)
    with pytest.raises(AudioError, match="does not exist"):
        render_video(stand(2), tmp_path / "a.mp4", tmp_path / "no.mp3", **small)
    with pytest.raises(AudioError, match="not audio"):
        render_video(stand(2), tmp_path / "a.mp4", b"these are words, not sound" * 20, **small)
    with pytest.raises(RenderError, match="count=0"):
        filmstrip(stand(2), tmp_path / "a.png", 0)
    with pytest.raises((RenderError, MotionError), match="no frames"):
        render_frames(stand(2)[:0])
    (tmp_path / "song.mp4").write_bytes(b"a song")
    with pytest.raises(RenderError, match="song.mp4' is the music itself"):
        render_video(stand(2), tmp_path / "song.mp4", tmp_path / "song.mp4", **small)
    (tmp_path / "song.mp4").unlink()
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(RenderError, match="is a folder"):
        render_video(stand(2), tmp_path / "folder.mp4", **small)
    assert [file.name for file in tmp_path.iterdir()] == ["folder.mp4"]


def test_size_of_frames_may_be_odd():
    assert next(render_frames(stand(2), size=(97, 55))).shape == (55, 97, 3)


# --- real dances -----------------------------------------------------------------------------------------------------


def test_a_real_dance_with_its_song(ballroom_dir, tmp_path):
    motion = Motion.load(ballroom_dir / "motions" / "rumba_2.npz")[300:345]
    song = ballroom_dir / "music" / "rumba_2.ogg"
    path = render_video(motion, tmp_path / "rumba.mp4", song, music_start=10.0, size=SMALL, progress=False)
    waveform, rate = soundfile.read(song, start=10 * 22050, frames=round(1.5 * 22050), dtype="float32")
    heard, heard_rate = decoded_sound(path)
    waveform = resampled(waveform, rate, heard_rate)
    late, likeness = lag(heard[:, 0], waveform, heard_rate)
    assert abs(len(heard) / heard_rate - 1.5) < 1 / 30 and abs(late) < 0.001 and likeness > 0.9
    stage = Stage(motion, SMALL)
    for frame in (0, 22, 44):
        seen = stage.camera.project(stage.joints[frame], frame)[:, 1]
        assert seen[15] < seen[0] < seen[[10, 11]].max()
        rows = np.flatnonzero(body_mask(stage, frame).any(1))
        assert 0.55 < (rows[-1] - rows[0]) / SMALL[1] < 0.9
    assert abs(follow_camera(motion).heading) < math.pi
