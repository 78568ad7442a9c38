"""The web page in a real browser with a real song, and its accessibility."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from browser import REMEDY, find_browser
from helpers import click_song, skip_outside_ci, write_song
from scipy.spatial.transform import Rotation, Slerp

from megadance_hf import Motion
from megadance_hf.demo.limits import Limits
from megadance_hf.demo.server import launch
from megadance_hf.export.notebook import WEB
from megadance_hf.modeling.kinematics_megadance import JOINT_NAMES
from megadance_hf.motion.bodies import body_mesh, skin
from megadance_hf.motion.mannequin import SOLE_THICKNESS

ONE_FRAME = 1000 / 30  # milliseconds


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    return str(write_song(tmp_path_factory.mktemp("song") / "my song.wav", seconds=4, rate=22050, channels=2))


def test_the_vendored_script_says_where_it_is_from(repository):
    note, script = (WEB / "README.md").read_text(encoding="utf-8"), (WEB / "three.js").read_text(encoding="utf-8")
    (version,) = set(re.findall(r"three@0\.(\d+)\.\d+", note))
    assert f'"{version}"' in script and "SPDX-License-Identifier: MIT" in script[:2000]
    assert "The MIT License" in note and "npx esbuild three.entry.js" in note
    wanted = re.findall(r"\b[A-Z]\w+\b", re.search(r"import \{(.*?)\} from \"\./three\.js\"", stage_js(), re.S)[1])
    offered = (WEB / "three.entry.js").read_text(encoding="utf-8")
    assert len(wanted) > 10 and all(re.search(rf"\b{name}\b", offered) for name in wanted)


def stage_js() -> str:
    return (WEB / "stage.js").read_text(encoding="utf-8")


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    found = find_browser()
    if found is None:
        skip_outside_ci(f"no browser: {REMEDY}")
    # 3D without a graphics card; sound may play without a click; a microphone that beeps
    options = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--autoplay-policy=no-user-gesture-required"]
    options += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--no-sandbox"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(args=options, **found)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address():
    """The page of the bundled model."""
    page = launch(block=False, limits=Limits(song_seconds=20, megabytes=8))
    yield page.local_url
    page.close()


class Visit:
    """A page in the browser, and what it asked of whom."""

    def __init__(self, browser, address, **options):
        self.context = browser.new_context(permissions=["microphone"], **options)
        self.page, self.address = self.context.new_page(), address
        self.page.set_default_timeout(120_000)
        self.asked, self.errors = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address)
        self.page.wait_for_selector(".megadance-stage .play")

    def upload(self, song):
        self.page.set_input_files("#song input[type=file]", song)
        self.page.wait_for_selector("#song .playback")

    def seconds(self, count):
        self.page.locator("#seconds input[type=number]").fill(str(count))
        self.page.keyboard.press("Tab")

    def dance(self):
        """Press the button and wait for the dance or an error; the message on the page."""
        self.page.evaluate("megadanceStage.shown = null")
        before = self.page.inner_text("#news")
        self.page.click("#go")
        self.page.wait_for_function(
            "before => megadanceStage.shown || document.querySelector('#news [role=alert]')?.innerText"
            " && document.querySelector('#news').innerText !== before",
            arg=before,
        )
        return self.page.inner_text("#news")

    def violations(self):
        """Serious findings of axe: what keeps people from using the page as it is now."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        serious = [finding for finding in found if finding["impact"] in ("serious", "critical")]
        return [(finding["id"], [node["html"][:200] for node in finding["nodes"]]) for finding in serious]


@pytest.fixture
def visit(browser, address):
    visits = []

    def begin(**options):
        visits.append(Visit(browser, address, **options))
        return visits[-1]

    yield begin
    for one in visits:
        one.context.close()


RECORD = """names => {
  const stage = megadanceStage, joints = names.map((name) => stage.dancers[0].figure.getObjectByName(name));
  const read = () => [stage.audio.currentTime, ...joints.flatMap((joint) => joint.quaternion.toArray())];
  window.recorded = [];
  const draw = stage.draw.bind(stage);
  stage.draw = (time) => { draw(time); recorded.push(read()); };
  window.poseNow = read;
}"""


class Dance:
    """What time a pose is from: the dance in the downloaded .npz, interpolated as a glTF player does."""

    def __init__(self, npz):
        motion = Motion.load(npz)
        times = np.arange(len(motion)) / motion.fps
        self.grid = np.arange(0, times[-1], 0.001)
        turns = [Slerp(times, Rotation.from_rotvec(motion.poses[:, joint]))(self.grid) for joint in range(24)]
        self.quaternions = np.stack([turn.as_quat() for turn in turns], axis=1)

    def apart(self, rows):
        """Milliseconds between the clock of the sound and the time that fits the drawn pose best, for each row."""
        found = []
        for clock, *numbers in rows:
            near = slice(*np.searchsorted(self.grid, [clock - 0.5, clock + 0.5]))
            likeness = np.abs((self.quaternions[near] * np.reshape(numbers, (24, 4))).sum(-1)).sum(1)
            found.append(1000 * abs(self.grid[near][likeness.argmax()] - clock))
        return np.array(found)


@pytest.mark.slow
def test_a_real_song_danced_in_the_browser(visit, ballroom_dir, tmp_path):
    """Upload, generate, play, seek: the pose is the sound's within a frame. Downloads; nothing from elsewhere."""
    one = visit(viewport={"width": 1280, "height": 900})
    page = one.page
    one.upload(ballroom_dir / "music" / "rumba_2.ogg")
    page.click("#genre label:has-text('Rumba')")
    page.click("#beside label:has-text('Waltz')")
    one.seconds(12)
    assert "Rumba and waltz, 12 seconds, seed 0. The song lasts 94 seconds; 12 of them are danced." in one.dance()
    assert page.evaluate("megadanceStage.dancers.length") == 2
    page.wait_for_function("document.querySelectorAll('#downloads a').length === 8")

    names = {}
    for link in page.locator("#downloads a").all():
        with page.expect_download() as download:
            link.click()
        names[download.value.suggested_filename] = download.value.path()
    suffixes = (".mp4", ".glb", ".bvh", ".npz")
    assert set(names) == {f"rumba_2-{genre}-0{suffix}" for genre in ("rumba", "waltz") for suffix in suffixes}
    assert names["rumba_2-rumba-0.glb"].read_bytes()[:4] == b"glTF"
    assert b"ftyp" in names["rumba_2-waltz-0.mp4"].read_bytes()[:12]
    npz = tmp_path / "dance.npz"
    npz.write_bytes(names["rumba_2-rumba-0.npz"].read_bytes())
    dance = Dance(npz)

    page.evaluate(RECORD, list(JOINT_NAMES))
    page.evaluate(
        "megadanceStage.audio.loop = true"
    )  # a busy machine may draw fewer pictures than are wanted before the end
    page.click(".play")
    apart = {}
    for name, action in {
        "playing": None,
        "after seeking back": "megadanceStage.seekTo(2.3)",
        "after seeking on": "megadanceStage.seekTo(5.5)",
        "at another speed": "megadanceStage.speed.value = '0.5', megadanceStage.speed.onchange(), megadanceStage.seekTo(4)",
    }.items():
        if action:
            page.evaluate(action)
        page.evaluate("recorded.length = 0")
        page.wait_for_function("recorded.length >= 8 && !megadanceStage.audio.seeking")
        apart[name] = dance.apart(page.evaluate("recorded")[2:])
    page.click(".play")
    assert page.evaluate("megadanceStage.audio.paused")
    page.wait_for_function("document.querySelector('.play').innerText === 'Play'")
    for place in (10.41, 1.07):
        page.evaluate(f"megadanceStage.seekTo({place})")
        page.wait_for_function(f"!megadanceStage.audio.seeking && Math.abs(megadanceStage.time - {place}) < 0.01")
        apart[f"paused at {place}"] = dance.apart([page.evaluate("poseNow()")])
    print({name: f"median {np.median(values):.1f}, most {values.max():.1f} ms" for name, values in apart.items()})
    assert max(values.max() for values in apart.values()) <= ONE_FRAME, apart

    strangers = [url for url in one.asked if not url.startswith((one.address, "blob:", "data:"))]
    assert strangers == [] and one.errors == []


SKIN = """count => {
  const dancer = megadanceStage.dancers[0], meshes = [];
  dancer.pose(1);
  dancer.figure.traverse((node) => { if (node.isSkinnedMesh) meshes.push(node); });
  const [mesh] = meshes, all = mesh.geometry.attributes.position.count, point = dancer.where.clone();
  const positions = [...Array(count).keys()].map((index) => {
    mesh.getVertexPosition(Math.floor(index * all / count), point);
    return dancer.figure.worldToLocal(mesh.localToWorld(point)).toArray();
  });
  return [meshes.length, all, positions];
}"""


def test_the_smooth_body_dances_on_the_page(browser, song):
    """Where three.js puts the skin is where we do."""
    served = launch(block=False, body="smooth", limits=Limits(song_seconds=4))
    try:
        one = Visit(browser, served.local_url, viewport={"width": 1000, "height": 800})
        one.upload(song)
        one.seconds(3)
        assert "3 seconds" in one.dance()
        meshes, count, positions = one.page.evaluate(SKIN, 500)
        motion = Motion.load(next(Path(served.studio.dances_folder).rglob("*.npz")))
        vertices, _ = skin(body_mesh("smooth"), motion.joints()[30], motion.global_rotations()[30])
        assert (meshes, count) == (1, len(vertices))
        expected = vertices[np.arange(500) * count // 500] + [0, SOLE_THICKNESS, 0]
        np.testing.assert_allclose(positions, expected, atol=2e-3)
        assert not one.errors
        one.context.close()
    finally:
        served.close()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 360])
def test_accessibility(visit, tmp_path, width):
    """axe finds nothing serious, empty, with a dance, and with an error; nothing is wider than the screen."""
    one = visit(viewport={"width": width, "height": 800}, color_scheme="dark" if width == 360 else "light")
    assert one.violations() == []
    one.page.click("text=More choices")
    one.upload(write_song(tmp_path / "song.wav", seconds=3))
    one.dance()
    one.page.wait_for_selector("#downloads a[href$='.npz']")
    one.page.wait_for_timeout(500)  # messages fade in
    assert one.violations() == []
    assert one.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    box = one.page.locator(".megadance-stage .view").bounding_box()
    assert box["width"] > 0.8 * min(width, 360) and box["x"] >= 0
    (tmp_path / "text.wav").write_text("no music " * 100, encoding="utf-8")
    one.page.click("#song button[aria-label=Clear]")
    one.page.set_input_files("#song input[type=file]", tmp_path / "text.wav")
    one.page.wait_for_selector("#song [data-testid*=waveform]")
    message = one.dance()
    assert re.search("'text.wav' is not audio.*give a wav", message) and "gradio" not in message
    one.page.wait_for_timeout(1000)
    assert one.violations() == []


@pytest.mark.slow
def test_by_keyboard_alone(visit, tmp_path):
    """Everything can be reached with Tab, and the keys of the stage do what its label says."""
    one = visit(viewport={"width": 1000, "height": 800})
    page = one.page
    one.upload(write_song(tmp_path / "song.wav", seconds=4))
    page.focus("#song .playback")
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.name || ''"))
        if reached[-1] == "go":
            break
    assert reached[-1] == "go", reached
    page.keyboard.press("Enter")
    page.wait_for_function("megadanceStage.shown")
    page.focus(".megadance-stage .view")
    heading = "Math.atan2(megadanceStage.camera.position.x, megadanceStage.camera.position.z)"
    distance = "megadanceStage.camera.position.length()"
    assert page.evaluate(heading) == pytest.approx(0, abs=1e-6)
    before = page.evaluate(distance)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("-")
    assert page.evaluate(heading) == pytest.approx(0.3) and page.evaluate(distance) > 1.05 * before
    page.keyboard.press("0")
    assert page.evaluate(heading) == pytest.approx(0, abs=1e-6) and page.evaluate(distance) == pytest.approx(before)
    page.keyboard.press(".")
    page.keyboard.press("Space")
    page.wait_for_function("!megadanceStage.audio.paused && megadanceStage.audio.currentTime > 1")
    page.keyboard.press("Space")
    assert page.evaluate("megadanceStage.audio.paused")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "play"
    page.check(".loop")
    page.evaluate("megadanceStage.seekTo(3.8)")
    page.click(".play")
    page.wait_for_function("megadanceStage.audio.currentTime < 3")
    assert not page.evaluate("megadanceStage.audio.paused"), "it goes on from the beginning"


@pytest.mark.slow
def test_recording_and_limits(visit, tmp_path):
    one = visit(viewport={"width": 1000, "height": 800})
    page = one.page
    assert "There is no song yet" in one.dance()
    rate = 44100
    soundfile.write(tmp_path / "long.wav", np.tile(click_song(1.0, rate), 120), rate)  # 10.6 MB
    page.set_input_files("#song input[type=file]", tmp_path / "long.wav")
    page.wait_for_selector(".toast-wrap, .toast-body")
    assert "size" in page.inner_text(".toast-body").lower()
    page.reload()
    page.wait_for_selector(".megadance-stage .play")
    page.click("#song button[aria-label='Record audio']")
    page.click("#song button:has-text('Record')")
    page.wait_for_timeout(3000)
    with page.expect_response(lambda answer: "/upload" in answer.url):  # the player is there before
        page.click("#song button:has-text('Stop')")
    page.wait_for_selector("#song .playback")
    assert re.search(r"Waltz, [2-9] seconds", one.dance())
    answer = page.request.get(page.evaluate("megadanceStage.audio.src"))
    sound, rate = soundfile.read(io.BytesIO(answer.body()))
    assert 2 < len(sound) / rate < 10 and np.abs(sound).max() > 0.01
