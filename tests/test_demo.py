"""The web page: the studio behind it, the page in a real browser with a real song, and its accessibility."""

import ast
import asyncio
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from browser import REMEDY, find_browser
from helpers import GENRES, click_song, save_tiny_model, skip_outside_ci, write_song
from scipy.spatial.transform import Rotation, Slerp

from megadance_hf import Motion, MusicToDancePipeline
from megadance_hf.cli import command as cli
from megadance_hf.demo import server
from megadance_hf.demo.limits import Limits
from megadance_hf.demo.server import launch
from megadance_hf.demo.studio import KEPT_SECONDS, DemoError, Studio
from megadance_hf.export.notebook import WEB
from megadance_hf.modeling.audio_megadance import AudioError
from megadance_hf.modeling.kinematics_megadance import JOINT_NAMES
from megadance_hf.motion.bodies import body_mesh, skin
from megadance_hf.motion.mannequin import SOLE_THICKNESS

ONE_FRAME = 1000 / 30  # milliseconds

# --- the studio ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def pipe(model):
    return MusicToDancePipeline.from_pretrained(model)


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    return str(write_song(tmp_path_factory.mktemp("song") / "my song.wav", seconds=4, rate=22050, channels=2))


@pytest.fixture
def studio(pipe, tmp_path):
    return Studio(pipe, tmp_path / "dances", Limits(song_seconds=6))


def kept(studio):
    return sorted(path.name for path in studio.folder.glob("*/*"))


@pytest.mark.versions
def test_a_dance_is_the_pipeline_s(studio, pipe, song):
    reports = []
    options = {"seed": 7, "temperature": 0.8, "mode": "stream", "start": 0.5}
    show = studio.dance(song, "waltz", seconds=2.5, **options, report=lambda *report: reports.append(report))
    folder = studio.folder / show["id"]
    dance, expected = Motion.load(folder / "1.npz"), pipe(song, "waltz", duration=2.5, **options)
    np.testing.assert_array_equal(dance.poses, expected.poses)
    np.testing.assert_array_equal(dance.translation, expected.translation)
    assert kept(studio) == ["1.glb", "1.npz", "song.wav"]
    sound, rate = soundfile.read(folder / "song.wav")
    original, _ = soundfile.read(song)
    assert rate == 22050 and sound.shape == (round(2.5 * 22050), 2)
    np.testing.assert_allclose(sound, original[11025 : 11025 + len(sound)], atol=2**-15)
    (shown,) = show["dances"]
    assert show["name"] == "my song.wav" and show["seconds"] == 2.5 and show["seed"] == 7 and show["notice"] is not None
    assert len(show["onset"]) == len(shown["speed"]) == 75 and set(shown["genres"]) == set(GENRES)
    assert json.loads(json.dumps(show)) == show
    shares = [share for share, _ in reports]
    assert shares == sorted(shares) and 0 < shares[0] and shares[-1] <= 1 and len(shares) > 5
    assert {"dancing waltz"} < {step for _, step in reports}


def test_two_genres_side_by_side(studio, pipe, song):
    show = studio.dance(song, "waltz", "rumba", seed=3, seconds=2)
    assert [dance["genre"] for dance in show["dances"]] == ["waltz", "rumba"]
    dance = Motion.load(studio.folder / show["id"] / "2.npz")
    np.testing.assert_array_equal(dance.poses, pipe(song, "rumba", seed=3, duration=2).poses)
    assert studio.dance(song, "waltz", "nobody", seconds=2, seed=1)["dances"][0]["genre"] == "waltz"


def test_without_a_seed_one_is_drawn(studio, pipe, song):
    show = studio.dance(song, "waltz", seconds=2)
    dance = Motion.load(studio.folder / show["id"] / "1.npz")
    np.testing.assert_array_equal(dance.poses, pipe(song, "waltz", seed=show["seed"], duration=2).poses)


def test_files_come_one_after_the_other(studio, song):
    show = studio.dance(song, "waltz", "rumba", seconds=1.5, seed=0)
    steps = [[path.name for path in files] for files in studio.files(show["id"])]
    quick = [f"{number}{suffix}" for number in (1, 2) for suffix in (".glb", ".bvh", ".npz")]
    assert steps == [quick, [*quick, "1.mp4"], [*quick, "1.mp4", "2.mp4"]]
    written = {path.name: path.stat().st_mtime_ns for path in (studio.folder / show["id"]).iterdir()}
    assert len(written) == 9 and len(list(studio.files(show["id"]))) == 3
    assert written == {path.name: path.stat().st_mtime_ns for path in (studio.folder / show["id"]).iterdir()}


def test_mistakes_of_visitors_leave_nothing(studio, song, tmp_path):
    text = tmp_path / "text.mp3"
    text.write_text("no music", encoding="utf-8")
    cases = [
        ((None, "waltz"), {}, "There is no song yet"),
        ((song, "waltz", "waltz"), {}, "Both dancers would dance waltz"),
        ((song, "waltz"), {"seconds": 7}, "from 1 to 6 seconds; 7 were asked for"),
        ((song, "waltz"), {"seconds": 0.2}, "from 1 to 6 seconds"),
        ((song, "waltz"), {"start": 4.5}, "The song ends after 4 seconds: begin earlier than at 4.5"),
        ((song, "waltz"), {"start": -1}, "choose 0 or more"),
        ((song, "waltz"), {"seed": -1}, "choose a whole number from 0"),
        ((str(text), "waltz"), {}, "is not audio"),
    ]
    for arguments, options, message in cases:
        with pytest.raises((DemoError, AudioError), match=re.escape(message)):
            studio.dance(*arguments, **options)
    with pytest.raises(DemoError, match="not kept any more"):
        next(studio.files("../../etc"))
    assert kept(studio) == []


def test_a_dance_that_takes_too_long_is_cancelled(pipe, song, tmp_path):
    studio = Studio(pipe, tmp_path, Limits(compute_seconds=1e-6))
    with pytest.raises(DemoError, match="This takes longer than 1e-06 seconds, so it was stopped"):
        studio.dance(song, "waltz", seed=0)
    assert kept(studio) == []


def test_old_songs_and_dances_are_deleted(studio, song, tmp_path):
    first = studio.dance(song, "waltz", seconds=1, seed=0)["id"]
    second = studio.dance(song, "waltz", seconds=1, seed=0)["id"]
    assert min(len(name) for name in (first, second)) > 20, "cannot be guessed"
    studio.uploads = tmp_path / "songs"
    old = time.time() - KEPT_SECONDS - 1
    for name in ("old", "new"):
        (studio.uploads / name).mkdir(parents=True)
        (studio.uploads / name / "song.mp3").touch()
    for path in (studio.folder / first / "song.wav", studio.uploads / "old" / "song.mp3"):
        os.utime(path, (old, old))
    studio.tidy()
    assert os.listdir(studio.folder) == [second] and os.listdir(studio.uploads) == ["new"]


def test_the_disk_has_a_budget(studio, song, tmp_path):
    """The oldest are deleted first, those that somebody may still look at stay, and then nothing more is accepted."""
    ids = [studio.dance(song, "waltz", seconds=1, seed=0)["id"] for _ in range(3)]
    for age, name in zip((2000, 1000, 0), ids, strict=True):
        made = time.time() - age
        os.utime(studio.folder / name / "song.wav", (made, made))
    size = sum(path.stat().st_size for path in (studio.folder / ids[0]).iterdir()) / 1e6
    studio.limits = Limits(song_seconds=6, disk_megabytes=2.5 * size)
    studio.tidy()
    assert {path.name for path in studio.folder.iterdir()} == set(ids[1:]) and not studio.is_full()
    studio.limits = Limits(song_seconds=6, disk_megabytes=0.5 * size)
    with pytest.raises(DemoError, match="no room for another song just now: come back in some minutes"):
        studio.dance(song, "waltz", seconds=1)
    assert [path.name for path in studio.folder.iterdir()] == ids[2:]


# --- the command, the vendored script, the Space ---------------------------------------------------------------------


def test_the_command_passes_its_options_on(monkeypatch, model):
    calls = []
    monkeypatch.setattr(server, "launch", lambda *args, **kwargs: calls.append((args, kwargs)))
    assert cli.main(["demo"]) == 0
    assert calls.pop()[1]["limits"] == Limits()
    options = "--host 0.0.0.0 --port 7000 --open --max-seconds 30 --max-megabytes 5 --time-limit 60 --max-disk 70 --body smooth".split()
    assert cli.main(["demo", "--model", str(model), *options]) == 0
    limits = Limits(song_seconds=30, megabytes=5, compute_seconds=60, disk_megabytes=70)
    assert calls == [
        ((str(model),), {"host": "0.0.0.0", "port": 7000, "limits": limits, "open_browser": True, "body": "smooth"})
    ]


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


def test_the_space_is_complete(repository, tmp_path):
    """What `gather.py` puts together runs by itself: with the package beside app.py, not the installed one."""
    space = repository / "examples" / "space"
    setup = ast.parse((repository / "setup.py").read_text(encoding="utf-8"))
    needed = next(
        ast.literal_eval(node.value)
        for node in setup.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "REQUIREMENTS"
    )
    lines = (space / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line[0] not in "#-"] == needed
    subprocess.run([sys.executable, space / "gather.py", tmp_path / "space"], check=True, capture_output=True)
    again = subprocess.run([sys.executable, space / "gather.py", tmp_path / "space"], capture_output=True, text=True)
    assert again.returncode == 1 and "give the name of a new folder" in again.stderr
    code = (
        "import app, megadance_hf.demo as demo, megadance_hf.modeling.configuration_megadance as modeling\n"
        "print(demo.__file__); print(modeling.__file__)\n"
        "page = demo.launch(block=False); print(page.local_url); page.close()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "space", capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count(str(tmp_path / "space")) == 2 and "http://127.0.0.1:" in ran.stdout
    front = (space / "README.md").read_text(encoding="utf-8").split("---")[1]
    (version,) = re.findall(r"sdk_version: (\S+)", front)
    assert f"gradio=={version}" in (repository / "constraints.txt").read_text(encoding="utf-8")


# --- the server ------------------------------------------------------------------------------------------------------


def upload(address: str, name: str, content: bytes):
    import httpx

    return httpx.post(f"{address}gradio_api/upload", files={"files": (name, content)}, timeout=60)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_nothing_stays_when_the_server_ends(model, song, repository, tmp_path):
    """SIGTERM removes songs and dances; what a killed server left, the next one sweeps; new pages know nothing of old ones."""
    environment = {**os.environ, "PYTHONPATH": str(repository), "TMPDIR": str(tmp_path)}
    code = "import os; from megadance_hf.modeling.files_megadance import Scratch; Scratch(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], env=environment)
    (left,) = os.listdir(tmp_path)
    command = [sys.executable, "-m", "megadance_hf.cli", "demo", "--model", str(model)]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    with server.stdout:
        address = re.search(r"http://\S+", server.stdout.readline())[0]
        (path,) = upload(address, "song.wav", Path(song).read_bytes()).json()
        (home,) = (name for name in os.listdir(tmp_path) if name.startswith(".megadance-"))
        assert home != left and Path(path).is_relative_to(tmp_path / home) and Path(path).is_file()
        assert (tmp_path / home).stat().st_mode & 0o77 == 0, "nobody else's business"
        server.terminate()
        assert server.wait(30) == 0
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".megadance-")]


def test_addresses_that_cannot_be_served(model):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        for where in ({"port": taken}, {"port": 99999}, {"host": "no such host"}, {"host": "192.0.2.1", "port": 7999}):
            with pytest.raises(
                DemoError, match=r"^The page cannot be served at .* \(.*\): choose another\.$"
            ) as caught:
                launch(model, block=False, **where)
            assert "\n" not in str(caught.value) and all(str(value) in str(caught.value) for value in where.values())


@pytest.fixture
def small_page(model, monkeypatch):
    """A page of the tiny model, kept for two seconds."""
    monkeypatch.setattr(server, "TIDY_SECONDS", 0.2)
    page = launch(model, block=False, limits=Limits(song_seconds=4, megabytes=2, disk_megabytes=1))
    page.storage.studio.kept_seconds = 2.0
    yield page
    page.close(verbose=False)


def gone(path: Path) -> bool:
    until = time.monotonic() + 30
    while path.exists() and time.monotonic() < until:
        time.sleep(0.1)
    return not path.exists()


def test_uploads_go_by_themselves_and_are_refused_when_there_is_no_room(small_page, song):
    page, content = small_page, Path(song).read_bytes()
    (path,) = upload(page.local_url, "song.wav", content).json()
    assert Path(path).is_file()
    for number in range(4):
        answer = upload(page.local_url, f"{number}.wav", bytes([number]) * 300_000)
    assert (answer.status_code, answer.text) == (
        507,
        "The server has no room for another song just now: come back in some minutes.",
    )
    dance = Path(page.storage.dances) / "dance"
    dance.mkdir()
    assert gone(dance) and gone(Path(path)), "nobody came"
    assert upload(page.local_url, "song.wav", content).status_code == 200
    home = page.storage.home.folder
    page.close(verbose=False)
    assert not home.exists() and "GRADIO_TEMP_DIR" not in os.environ


def test_only_what_was_uploaded_is_read(small_page, tmp_path):
    """A request that names a file of the server's, or an address: neither is opened."""
    import http.server
    import threading

    import httpx

    asked = []

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

    other = http.server.HTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    page = small_page.local_url
    secret = write_song(tmp_path / "secret.wav", seconds=2)
    (number,) = (index for index, function in small_page.fns.items() if function.name == "make")
    for place in (f"http://127.0.0.1:{other.server_port}/song.wav", str(secret), "file:///etc/passwd"):
        data = [{"path": place, "meta": {"_type": "gradio.FileData"}}, "waltz", "nobody", 2, 0, 0, 0.9, "paper"]
        joined = httpx.post(
            f"{page}gradio_api/queue/join", json={"data": data, "fn_index": number, "session_hash": "me"}
        )
        assert joined.status_code == 200
        events = ""
        with httpx.stream("GET", f"{page}gradio_api/queue/data", params={"session_hash": "me"}, timeout=60) as stream:
            for line in stream.iter_lines():
                events += line
                if "process_completed" in line or "close_stream" in line:
                    break
        assert '"success":false' in events, events
    other.shutdown()
    for part in small_page.blocks.values():
        with pytest.raises(DemoError, match="Only uploaded songs"):
            asyncio.run(part.async_move_resource_to_block_cache("https://example.org/song.wav"))
    assert asked == [] and list(Path(small_page.storage.dances).glob("*")) == []
    for path in (
        f"gradio_api/file={secret}",
        "dances/../../etc/passwd",
        "dances/%2e%2e/%2e%2e/etc/passwd",
        "stage/../show.py",
    ):
        assert httpx.get(f"{page}{path}").status_code in (403, 404), path


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
        motion = Motion.load(next(Path(served.storage.dances).rglob("*.npz")))
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


def test_nobody_dances_for_visitors_who_have_left(browser, small_page, song, monkeypatch):
    """The dance that is being made is given up, the one in the queue never begins."""
    import threading

    studio, began, ended = small_page.storage.studio, [], threading.Event()

    def dance(song, *choices, report, **more):
        began.append(song)
        try:
            for _ in range(300):
                report(0.5, "dancing")
                time.sleep(0.1)
        finally:
            ended.set()

    monkeypatch.setattr(studio, "dance", dance)
    visits = [Visit(browser, small_page.local_url) for _ in range(2)]
    visits[0].page.click("#go")
    visits[0].page.wait_for_function("document.querySelector('#news').innerText.includes('dancing')")
    visits[1].page.click("#go")
    visits[1].page.wait_for_timeout(500)
    for one in reversed(visits):
        one.context.close()
    assert ended.wait(15) and len(began) == 1
    time.sleep(1)
    assert len(began) == 1
