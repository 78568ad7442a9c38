"""The web page in a real browser: working on a dance, its synchrony with the song, and its accessibility. Pictures of its states are
written to the test's folder."""

import io
import json
import re
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from browser import REMEDY, find_browser
from helpers import click_song, save_tiny_model, skip_outside_ci, write_song
from scipy.spatial.transform import Rotation, Slerp

from megadance_hf import Motion
from megadance_hf.demo import reports
from megadance_hf.demo.limits import Limits
from megadance_hf.demo.server import launch
from megadance_hf.export.notebook import WEB
from megadance_hf.modeling.kinematics_megadance import JOINT_NAMES
from megadance_hf.motion.bodies import body_mesh, skin
from megadance_hf.motion.mannequin import SOLE_THICKNESS

ONE_FRAME = 1000 / 30  # milliseconds
SECOND_PER_CODE = 8 / 30
HEARD = {"rumba": 0.9, "waltz": 0.08, "chacha": 0.02}
ATTRIBUTES = ["energy", "speed", "travel", "turns", "arm_height", "bounce", "expansion"]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def test_the_vendored_script_says_where_it_is_from(repository):
    note, script = (WEB / "README.md").read_text(encoding="utf-8"), (WEB / "three.js").read_text(encoding="utf-8")
    (version,) = set(re.findall(r"three@0\.(\d+)\.\d+", note))
    assert f'"{version}"' in script and "SPDX-License-Identifier: MIT" in script[:2000]
    assert "The MIT License" in note and "npx esbuild three.entry.js" in note
    stage = (WEB / "stage.js").read_text(encoding="utf-8")
    wanted = re.findall(r"\b[A-Z]\w+\b", re.search(r"import \{(.*?)\} from \"\./three\.js\"", stage, re.S)[1])
    offered = (WEB / "three.entry.js").read_text(encoding="utf-8")
    assert len(wanted) > 10 and all(re.search(rf"\b{name}\b", offered) for name in wanted)


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
def song(tmp_path_factory):
    return str(write_song(tmp_path_factory.mktemp("song") / "my song.wav", seconds=12, rate=22050, channels=2))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The page of a tiny model that hears a rumba in every song."""
    page = launch(
        save_tiny_model(tmp_path_factory.mktemp("tiny")), block=False, limits=Limits(song_seconds=10, megabytes=4)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page.studio.pipe, "hear_genre", lambda features: HEARD)
        yield page
    page.close()


class Visit:
    """A page in the browser, and what it asked of whom."""

    def __init__(self, browser, address, folder=None, **options):
        self.context = browser.new_context(permissions=["microphone"], **options)
        self.page, self.address, self.folder = self.context.new_page(), address, folder
        self.page.set_default_timeout(60_000)
        self.asked, self.errors = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._listen)
        self.page.goto(address)
        self.until("window.megadanceReady")

    def _listen(self, message):
        if message.type == "error" and "status of 4" not in message.text:  # refusals are shown on the page
            self.errors.append(message.text)

    def until(self, expression, seconds=60):
        """Wait until JavaScript is true. (Playwright's own way needs `eval`, which the page forbids.)"""
        end = time.monotonic() + seconds
        while not self.page.evaluate(expression):
            assert time.monotonic() < end, (expression, self.message())
            self.page.wait_for_timeout(50)

    def message(self):
        return self.page.inner_text("#message") if self.page.is_visible("#message") else ""

    def picture(self, name):
        if self.folder is not None:
            self.page.screenshot(path=Path(self.folder) / f"{name}.png")

    def upload(self, song):
        self.page.set_input_files("#song-file", song)
        self.until("!document.querySelector('#panel').hidden")

    def wait(self):
        """Until nothing is being made; the message on the page."""
        self.until("document.querySelector('.view .progress').hidden")
        self.page.wait_for_timeout(50)
        return self.message()

    def dance(self):
        self.page.click("#go")
        message = self.wait()
        self.until("megadanceStage.shown.dances[0]?.speed || document.querySelector('#message.error')")
        return message

    def select(self, start, end, part="All"):
        """Drag over the beats, from one share of the piece to another."""
        box = self.page.locator("#wave").bounding_box()
        self.page.mouse.move(box["x"] + start * box["width"], box["y"] + 20)
        self.page.mouse.down()
        self.page.mouse.move(box["x"] + end * box["width"], box["y"] + 30, steps=4)
        self.page.mouse.up()
        self.page.click(f"#passage label:has-text('{part}')")

    def drag(self, locator, way, down=0.0):
        """One finger, put on the middle of what is to be seen of something, moves by so many pixels."""
        locator.evaluate("(element) => element.scrollIntoView({ block: 'center' })")
        self.page.wait_for_timeout(100)
        box, touch = locator.bounding_box(), self.context.new_cdp_session(self.page)
        seen = max(box["x"], 0), min(box["x"] + box["width"], self.page.viewport_size["width"])
        x, y = sum(seen) / 2, box["y"] + box["height"] / 2
        for kind, share in [("touchStart", 0), *(("touchMove", step / 8) for step in range(1, 9)), ("touchEnd", None)]:
            points = [] if share is None else [{"x": x + share * way, "y": y + share * down}]
            self.page.wait_for_timeout(16 if points else 150)  # at rest when it is lifted: the page does not roll on
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        touch.detach()

    def press(self, text):
        self.page.click(f"button:visible:has-text('{text}')")

    def saved(self):
        """The saved dance."""
        with self.page.expect_download() as download:
            self.page.click("#save")
        return json.loads(Path(download.value.path()).read_text(encoding="utf-8"))

    def motion(self, served):
        """The dance on the stage, as the server has it."""
        identity = self.page.evaluate("megadanceStage.shown.dances[0].glb").split("/")[1]
        return Motion.load(next(Path(served.home.folder).rglob(f"{identity}/1.npz")))

    def violations(self):
        """Serious findings of axe: what keeps people from using the page as it is now."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        serious = [finding for finding in found if finding["impact"] in ("serious", "critical")]
        return [(finding["id"], [node["html"][:200] for node in finding["nodes"]]) for finding in serious]


@pytest.fixture
def visit(browser, served, tmp_path):
    visits = []

    def begin(**options):
        visits.append(Visit(browser, served.local_url, tmp_path, **options))
        return visits[-1]

    yield begin
    for one in visits:
        one.context.close()
        assert one.errors == []
        strangers = [url for url in one.asked if not url.startswith((one.address, "blob:", "data:"))]
        assert strangers == [], "nothing comes from other servers"


def codes(project):
    return np.array([project["codes"]["upper"], project["codes"]["lower"]])


def outside(start, end, count):
    """Which codes have nothing to do with a passage."""
    begins = np.arange(count) * SECOND_PER_CODE
    return (begins + SECOND_PER_CODE <= start - 0.14) | (begins >= end + 0.14)


@pytest.mark.slow
def test_working_on_a_dance(visit, song, monkeypatch):
    """Plan, lock, dance anew, compare, keep, undo, cancel, save, open, zip."""
    one = visit(viewport={"width": 1280, "height": 800})
    page = one.page
    one.picture("empty")
    one.upload(song)
    assert page.is_checked("#genres input[value=rumba]") and "rumba: 90 % sure" in page.inner_text("#heard")
    assert page.input_value("#seed") == "" and page.input_value("#beside") == ""
    assert page.get_attribute("#overview .piece", "aria-valuetext") == "from 0:00 to 0:10"

    # the piece of the song, chosen on the waveform
    page.focus("#overview .to")
    for _ in range(4):
        page.keyboard.press("Shift+ArrowLeft")
    assert page.get_attribute("#overview .to", "aria-valuetext") == "0:08.0"
    one.picture("song")

    # a plan: a change at a beat, moved, with another genre
    page.evaluate("megadanceStage.seekTo(4)")
    one.until("document.querySelector('#change').textContent.includes('0:04')")
    page.click("#change")
    assert page.is_checked("#genres input[value=waltz]"), "the next best that is heard"
    page.click("#genres label:has-text('Chacha')")
    before = float(page.get_attribute("#plan .change", "aria-valuenow"))
    box = page.locator("#plan .change").bounding_box()
    page.mouse.move(box["x"] + 12, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + 112, box["y"] + 10, steps=4)
    page.mouse.up()
    moved = float(page.get_attribute("#plan .change", "aria-valuenow"))
    assert moved > before + 0.4
    one.picture("plan")

    # the dance is made, and can be watched meanwhile
    put = reports.Preview.put
    monkeypatch.setattr(reports, "PREVIEW_SECONDS", 0.3)
    monkeypatch.setattr(reports.Preview, "put", lambda self, codes: (time.sleep(0.08), put(self, codes))[1])
    page.click("#go")
    one.until("megadanceStage.shown.dances.length")
    assert page.is_visible(".view .progress") and page.is_disabled("#go") and page.is_disabled("#save")
    one.picture("being made")
    assert one.wait() == ""
    plan = page.evaluate("megadanceStage.shown.dances[0].labels")
    assert [genre for genre, _ in plan] == ["rumba", "chacha"] and abs(plan[1][1] - moved) < 0.3
    assert page.inner_text("#go") == "Another dance"
    assert "pending" not in page.get_attribute("#plan", "class")
    page.evaluate("megadanceStage.seekTo(7)")
    one.until("document.querySelector('.captions').textContent === 'chacha'")
    first = one.saved()
    count = codes(first).shape[1]
    assert count == 30 and first["seconds"] == 8

    # cancelled: everything is as it was
    page.click("#go")
    one.until("!document.querySelector('.view .progress').hidden")
    page.click(".progress button")
    one.wait()
    assert one.saved() == first
    monkeypatch.setattr(reports.Preview, "put", put)

    # locked while all else is danced again
    one.select(0.1, 0.4)
    page.click("#passage button:has-text('Lock')")
    assert page.locator(".locked").count() == 2 and page.is_disabled("#passage button:has-text('Dance anew')")
    (lock,) = one.saved()["locks"]
    assert lock["part"] == "all" and lock["start"] == pytest.approx(1, abs=0.5)
    one.picture("locked")
    one.dance()
    second = one.saved()
    kept = ~outside(lock["start"], lock["end"], count)
    kept[[kept.argmax(), count - 1 - kept[::-1].argmax()]] = False  # at its ends a code may be half in it
    assert second["seed"] != first["seed"] and (codes(second) == codes(first))[:, kept].all()
    assert (codes(second) != codes(first))[:, ~kept].any()

    # half of the body anew; candidates side by side, one is kept
    one.select(0.55, 0.8, "Upper")
    monkeypatch.setattr(reports.Preview, "put", lambda self, codes: (time.sleep(0.05), put(self, codes))[1])
    page.click("#passage button:has-text('Dance anew')")
    one.until("document.querySelector('.captions').textContent === 'rumba, anew'")
    assert page.evaluate("megadanceStage.now() > 4") and page.is_visible(".view .progress")
    monkeypatch.setattr(reports.Preview, "put", put)
    one.until("!document.querySelector('.compare').hidden && megadanceStage.dancers.length === 3")
    assert page.locator(".captions button").all_inner_texts() == ["A", "B", "C"] and page.is_disabled("#go")
    one.picture("candidates")
    page.click(".captions button >> nth=1")
    assert page.evaluate("megadanceStage.seen().length") == 1
    page.click("button:has-text('Keep B')")
    one.until("megadanceStage.dancers.length === 1")
    third = one.saved()
    redone = page.get_attribute(".redone", "aria-label")
    start, end = (float(value) for value in re.findall(r"0:(\d\d\.\d)", redone))
    assert "upper body" in redone and 4 < start < end < 7
    changed = codes(third) != codes(second)
    assert changed[0].any() and not changed[1].any() and not changed[:, outside(start, end, count)].any()
    one.picture("kept")

    # back and forth
    assert page.get_attribute("#undo", "aria-label").startswith("Undo: dancing 0:0")
    page.click("#undo")
    assert one.saved()["codes"] == second["codes"] and page.locator(".redone").count() == 0
    for _ in range(2):
        page.click("#undo")
    assert one.saved()["codes"] == first["codes"] and page.locator(".locked").count() == 0
    for _ in range(3):
        page.click("#redo")
    assert one.saved()["codes"] == third["codes"] and page.is_disabled("#redo")

    # everything in one zip
    page.click("#download")
    one.picture("download")
    page.uncheck("#with-video")
    with page.expect_download() as download:
        page.click("#download-dialog button[value=yes]")
    assert re.fullmatch(r"my.song-rumba-\d+\.zip", download.value.suggested_filename)
    names = zipfile.ZipFile(download.value.path()).namelist()
    for suffix in (".glb", ".bvh", ".vrma", ".npz", ".json"):
        assert any(name.endswith(suffix) for name in names), (suffix, names)
    assert not any(name.endswith(".mp4") for name in names)

    # opened again by somebody else, who has the song
    file = one.folder / "saved.json"
    file.write_text(json.dumps(third), encoding="utf-8")
    other = visit(viewport={"width": 1280, "height": 800})
    other.page.set_input_files("#project-file", file)
    other.until("document.querySelector('.invitation').textContent.includes('my song.wav')")
    other.picture("song is missing")
    other.page.set_input_files("#song-file", song)
    other.until("document.querySelectorAll('.locked').length === 2")
    again = other.saved()
    assert again["codes"] == third["codes"] and again["plan"] == third["plan"] and again["locks"] == third["locks"]
    assert other.page.get_attribute("#overview .to", "aria-valuetext") == "0:08.0"
    (one.folder / "text.json").write_text("[]", encoding="utf-8")
    other.page.set_input_files("#project-file", one.folder / "text.json")
    other.until("document.querySelector('#message.error')")
    assert '"text.json" is not a dance that was saved here.' in other.message()


@pytest.mark.slow
def test_two_dancers_words_and_sliders(visit, song, monkeypatch, served):
    """What is asked of the server; and what it refuses is shown in its words."""
    offered = served.studio.options
    monkeypatch.setattr(served.studio, "options", lambda: offered() | {"attributes": ATTRIBUTES, "reads_words": True})
    unsure = {"rumba": 0.4, "waltz": 0.35, "chacha": 0.25}
    monkeypatch.setattr(served.studio.pipe, "hear_genre", lambda features: unsure)
    one = visit(viewport={"width": 1280, "height": 800})
    page, asked = one.page, []

    def refuse(route):
        asked.append(json.loads(route.request.post_data))
        route.fulfill(status=400, json={"error": "Not today."})

    one.upload(song)
    assert page.inner_text("#heard") == "Hard to say: rumba (40 %) or waltz (35 %)?"
    page.route("**/api/jobs", refuse)
    assert one.page.locator("#attributes .off").count() == 7, "as it comes"
    page.locator("[data-attribute=energy]").fill("85")
    page.locator("[data-attribute=turns]").fill("20")
    page.click("button[aria-label='Turns: as it comes']")
    understood = {"genres": {"waltz": 1.0}, "attributes": {"speed": 0.03}, "not_understood": ["blorp"]}
    page.route("**/api/words", lambda route: route.fulfill(json={"understood": understood}))
    page.fill("#words", "a very slow waltz, blorp")
    one.until("document.querySelector('#understood').innerText")
    assert page.locator("#understood p").all_inner_texts() == [
        "Understood: waltz, speed: very slow.",
        "Not understood: blorp.",
    ]
    assert page.inner_text("#plan .span") == "Waltz"
    page.click("summary:has-text('More')")
    page.locator("#daring").fill("1.1")
    page.fill("#seed", "7")
    one.picture("sliders")
    page.click("#go")
    one.until("document.querySelector('#message.error')")
    assert one.message() == "Not today."
    (wanted,) = asked
    assert (
        wanted["attributes"] == {"energy": 0.85}
        and wanted["prompt"] == "a very slow waltz, blorp"
        and wanted["seed"] == 7
    )
    assert wanted["temperature"] == 1.1 and wanted["plan"] is None and wanted["keep"] is None and "beside" not in wanted
    page.fill("#seed", "seven")
    page.click("#go")
    assert '"seven" is none' in one.message() and len(asked) == 1

    page.unroute("**/api/jobs")
    page.locator("[data-attribute=energy]").fill("50")
    page.fill("#words", "")
    page.fill("#seed", "7")
    page.select_option("#mixed", "waltz")
    assert page.inner_text("#plan .span") == "Rumba + waltz"
    page.select_option("#mixed", "")
    page.select_option("#beside", "waltz")
    assert page.is_visible("#beside")
    assert one.dance() == ""
    assert page.locator(".captions button").all_inner_texts() == ["rumba", "waltz"]
    assert page.evaluate("megadanceStage.dancers.length") == 2

    # a passage for one of them; the other is there to compare with, and stays
    before = one.saved()
    one.select(0.2, 0.5)
    page.click("#passage label:has-text('Waltz')")
    one.picture("two")
    page.click("#passage button:has-text('Dance anew')")
    one.until("!document.querySelector('.compare').hidden && megadanceStage.dancers.length === 4")
    captions = page.locator(".captions button").all_inner_texts()
    assert [text.lower() for text in captions] == ["a", "b", "c", "rumba"]
    assert page.inner_text(".compare p").startswith("Waltz, 0:0")
    one.picture("candidates of one")
    page.click("button:has-text('Keep B')")
    one.until("megadanceStage.dancers.length === 2")
    after = one.saved()
    assert after["codes"] == before["codes"] and after["beside_dance"]["codes"] != before["beside_dance"]["codes"]
    assert after["beside_dance"]["redone"] and page.get_attribute(".redone", "aria-label").startswith(
        "Waltz anew: whole body"
    )
    page.click("#passage label:has-text('Rumba')")
    assert page.is_enabled("#passage button:has-text('Dance anew')")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("phone", [False, True])
def test_two_dancers_with_poses_and_locks(visit, song, served, scheme, phone):
    """What is held and locked is of a dancer: chosen on the stage or below the timeline, told by row, number and name, danced, saved, opened."""
    wide = {"viewport": {"width": 1280, "height": 800}}
    one = visit(color_scheme=scheme, **(PHONE if phone else wide))
    page = one.page
    one.upload(song)
    page.click("summary:has-text('More')")
    page.select_option("#beside", "waltz")
    assert one.dance() == ""
    first = one.saved()

    # who is shown alone is whose pose is taken; it is given to the other one and back by keys
    page.evaluate("megadanceStage.seekTo(2)")
    page.click(".captions button:has-text('waltz')")
    page.click("#hold")
    page.locator("#poses .handle").wait_for()
    assert page.get_attribute("#poses .handle", "aria-label") == "Waltz: pose held, not danced yet"
    assert page.locator("#poses .row-name").all_inner_texts() == ["1 Rumba", "2 Waltz"]
    row = page.locator("#poses .handle").bounding_box()["y"]
    page.focus("#pose input:checked")
    page.keyboard.press("ArrowLeft")
    assert page.get_attribute("#poses .handle", "aria-label") == "Rumba: pose held, not danced yet"
    assert page.locator("#poses .handle").bounding_box()["y"] < row - 20 and page.is_checked("#pose input[value='0']")
    assert page.get_attribute("#undo", "aria-label") == "Undo: the pose at 0:02.0, rumba"
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#poses .number") == "2" and page.inner_text("#live") == "Waltz meets it."
    page.click("#pose button[aria-label=Deselect]")
    page.click(".captions button:has-text('waltz')")  # both are shown again

    # at the same place the other one holds something, too, and neither can be given away
    page.click("#hold")
    one.until("document.querySelectorAll('#poses .handle').length === 2")
    page.click("#pose label:has-text('Waltz')")
    assert one.message() == "At 0:02.0 the waltz holds something already: move one of the two first."
    assert page.is_checked("#pose input[value='0']")
    page.click("#pose button[aria-label=Deselect]")
    assert one.dance() == ""
    second = one.saved()
    assert [(held["second"], held["dancer"]) for held in second["hold"]] == [(2.0, 0), (2.0, 1)]
    assert page.evaluate("megadanceStage.shown.dances.map((dance) => dance.hold.length)") == [1, 1]

    # each has its own lock at the same place
    one.select(0.55, 0.75)
    page.click("#passage label:has-text('Rumba')")
    page.click("#passage button:has-text('Lock')")
    page.click("#passage label:has-text('Waltz')")
    assert page.inner_text("#passage button:has-text('ock')") == "Lock" and page.is_enabled("#passage .main")
    page.click("#passage label:has-text('Lower')")
    page.click("#passage button:has-text('Lock')")
    names = page.locator(".locked").evaluate_all("(all) => all.map((element) => element.ariaLabel.slice(0, 24))")
    assert names == ["Rumba locked: whole body", "Rumba locked: whole body", "Waltz locked: lower body"]
    one.picture("locks")
    assert one.violations() == [] and page.evaluate(SMALL_TARGETS) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.click("#passage button[aria-label=Deselect]")
    assert one.dance() == ""
    third = one.saved()
    for old, new, halves in ((second, third, [0, 1]), (second["beside_dance"], third["beside_dance"], [1])):
        same = codes(old) == codes(new)
        assert same[halves, 22:27].all() and not same.all(axis=1)[halves].any()
    assert [(lock["dancer"], lock["part"]) for lock in third["locks"]] == [(0, "all"), (1, "lower")]

    # without a second dancer neither can be; opened again, all is there
    page.select_option("#beside", "")
    assert page.locator("#poses .row-name").all_inner_texts() == ["1 Rumba", "2 Second dancer"]
    one.dance()
    assert (
        one.message()
        == "The second dancer's pose at 0:02.0 needs a second dancer: choose one (the plan has to be a single dance), or take it away."
    )
    file = one.folder / "saved.json"
    file.write_text(json.dumps(third), encoding="utf-8")
    page.set_input_files("#project-file", file)
    one.until("document.querySelector('#beside').value === 'waltz'")
    assert page.locator(".locked").count() == 3 and page.locator("#poses .handle").count() == 2
    again = one.saved()
    assert [again[name] for name in ("codes", "beside_dance", "locks", "hold")] == [
        third[name] for name in ("codes", "beside_dance", "locks", "hold")
    ]
    # saved before there were dancers to choose from: all of it is the first one's
    for mark in (*first["locks"], *first["hold"]):
        del mark["dancer"]
    file.write_text(json.dumps({**first, "locks": [{"start": 1, "end": 2, "part": "upper"}]}), encoding="utf-8")
    page.set_input_files("#project-file", file)
    one.until("document.querySelectorAll('.locked').length === 1")
    assert page.get_attribute(".locked", "aria-label").startswith("Rumba locked: upper body")


POSE = """(time) => {
  const [dancer] = megadanceStage.dancers, places = [];
  dancer.pose(time);
  for (const name of ["pelvis", "head", "left_hand", "right_foot"]) {
    dancer.figure.getObjectByName(name).getWorldPosition(dancer.where);
    places.push(...dancer.where.toArray());
  }
  return places;
}"""


@pytest.mark.slow
def test_a_dance_that_ends_where_it_begins(visit, song):
    """Chosen, danced, played without a jump, taken back, saved and opened; with what is locked only where that is possible."""
    one = visit(viewport={"width": 1280, "height": 800})
    page, ends = one.page, ", ends where it begins"
    one.upload(song)
    one.dance()
    page.click("summary:has-text('More')")
    page.fill("#seed", "7")
    page.check("#closed")
    assert page.inner_text("#go") == "Dance the new plan" and "pending" not in page.get_attribute("#plan", "class")
    assert one.saved()["next"] == {"plan": None, "loop": True, "hold": []} and one.saved()["loop"] is False
    one.dance()
    one.until(f"document.querySelector('.captions').textContent === 'rumba{ends}'")  # drawn after the dance has come
    assert page.inner_text("#go") == "Another dance"
    assert page.is_checked(".loop") and page.is_enabled("#closed")
    first, last = page.evaluate(POSE, 0), page.evaluate(POSE, 10 - 0.001)
    assert np.abs(np.subtract(first, last)).max() < 0.01, "also where the view looks"
    assert np.abs(np.subtract(first, page.evaluate(POSE, 5))).max() > 0.05

    one.select(0.3, 0.5)
    page.click("#passage button:has-text('Lock')")
    one.dance()
    assert page.inner_text(".captions") == f"Rumba{ends}", "what is locked is of a dance that ends where it begins"
    assert one.saved()["loop"] is True and one.saved()["next"] is None
    page.uncheck("#closed")
    one.dance()
    one.until("document.querySelector('.captions').textContent === 'rumba'")  # drawn after the dance has come
    assert page.is_disabled("#closed") and page.inner_text("#closed-note") == "Not possible while something is locked."
    for _ in range(2):
        page.click("#undo")
    one.until(f"document.querySelector('.captions').textContent === 'rumba{ends}'")
    assert page.is_checked("#closed")

    file = one.folder / "saved.json"
    file.write_text(json.dumps(one.saved()), encoding="utf-8")
    for _ in range(4):
        page.click("#undo")
    one.until("document.querySelector('.captions').textContent === 'rumba'")
    page.set_input_files("#project-file", file)
    one.until(f"document.querySelector('.captions').textContent === 'rumba{ends}'")
    assert page.is_checked("#closed") and page.locator(".locked").count() == 2


@pytest.mark.slow
def test_the_timeline_zooms(visit, song):
    """With buttons, keys and the wheel; it follows the music, and the song above it stays whole."""
    one = visit(viewport={"width": 1280, "height": 800})
    page = one.page
    one.upload(song)
    overview = page.locator("#overview .piece").bounding_box()
    assert page.is_disabled("#zoom-out") and page.is_hidden("#overview .window")
    page.evaluate("megadanceStage.seekTo(6)")
    one.until("Math.abs(megadanceStage.time - 6) < 0.01")
    place = page.locator(".now").bounding_box()["x"]
    for _ in range(2):
        page.click("#zoom-in")
    assert page.locator("#wave").bounding_box()["width"] == pytest.approx(796 * 2.25, abs=2)
    assert page.locator(".now").bounding_box()["x"] == pytest.approx(place, abs=2), "where the music is stays"
    assert page.is_visible("#overview .window") and page.locator("#overview .piece").bounding_box() == overview
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    one.picture("zoomed")
    for second in (9.5, 0.5):
        page.evaluate(f"megadanceStage.seekTo({second})")
        one.until(f"Math.abs(megadanceStage.time - {second}) < 0.01")
        assert 120 < page.locator(".now").bounding_box()["x"] < 930
    page.evaluate("megadanceStage.seekTo(4)")
    one.until("Math.abs(megadanceStage.time - 4) < 0.01")

    # a passage is selected where it is seen
    one.select(0.4, 0.5)
    assert float(page.get_attribute("#over .from", "aria-valuenow")) == pytest.approx(4, abs=0.3)
    page.focus("#over .to")
    page.keyboard.press("End")
    box = page.locator("#over .to").bounding_box()
    assert page.get_attribute("#over .to", "aria-valuetext") == "0:10.0" and 128 < box["x"] < 930
    page.keyboard.press("0")
    assert page.is_disabled("#zoom-out") and page.locator("#wave").bounding_box()["width"] == pytest.approx(796, abs=1)
    page.keyboard.press("+")
    page.keyboard.press("-")
    assert page.is_disabled("#zoom-out")
    box = page.locator("#wave").bounding_box()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 20)
    page.keyboard.down("Control")
    for _ in range(8):
        page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    one.until("document.querySelector('#zoom-in').disabled")
    near = page.locator("#wave").bounding_box()
    assert near["width"] == pytest.approx(5 * 796, abs=5), "two seconds"
    assert near["x"] + 0.75 * near["width"] == pytest.approx(box["x"] + 0.75 * box["width"], abs=6), "at the pointer"

    page.set_viewport_size({"width": 390, "height": 844})
    page.keyboard.press("0")
    page.click("#zoom-in")
    assert page.locator("#wave").bounding_box()["width"] == pytest.approx(342 * 1.5, abs=2)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.slow
def test_poses_that_are_held(visit, song, served):
    """Taken from the dance and from a file; moved by mouse and keys, undone, danced, saved, opened, taken away."""
    one = visit(viewport={"width": 1280, "height": 800})
    page, markers = one.page, one.page.locator("#poses .handle")
    one.upload(song)
    assert page.is_disabled("#hold") and page.is_enabled("#hold-file") and page.is_hidden("#poses")
    page.focus("#overview .to")
    for _ in range(8):
        page.keyboard.press("Shift+ArrowLeft")
    one.dance()
    first = one.motion(served)
    page.evaluate("megadanceStage.seekTo(2)")
    page.click("#hold")
    markers.first.wait_for()
    label = "document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(label) == "Pose held, not danced yet" and page.inner_text("#pose p") == "Pose at 0:02.0"
    assert page.inner_text("#go") == "Dance the new plan"

    # moved by keys and by mouse, and back
    page.keyboard.press("Shift+ArrowRight")
    assert markers.first.get_attribute("aria-valuetext") == "0:02.1"
    page.keyboard.press("Home")
    assert markers.first.get_attribute("aria-valuetext") == "0:00.0"
    page.click("#undo")  # keys in a row are one step
    assert markers.first.get_attribute("aria-valuetext") == "0:02.0"
    box = markers.first.bounding_box()
    page.mouse.move(box["x"] + 14, box["y"] + 14)
    page.mouse.down()
    page.mouse.move(box["x"] + 214, box["y"] + 14, steps=4)
    page.mouse.up()
    assert float(markers.first.get_attribute("aria-valuenow")) > 2.8
    page.click("#pose button:has-text('At the end')")
    assert markers.first.get_attribute("aria-valuetext") == "0:06.0"
    one.picture("pose")

    # a clip from a file, where nothing else is held
    clip = Motion(first.poses[30:45], first.translation[30:45])
    clip.save(one.folder / "my clip.bvh")
    page.set_input_files("#pose-file", one.folder / "my clip.bvh")
    one.until(
        "document.querySelectorAll('#poses .handle').length === 2 && document.querySelectorAll('#poses .clip').length === 1"
    )
    assert page.evaluate(label) == "Clip held, my clip.bvh, not danced yet"
    page.set_input_files("#pose-file", one.folder / "my clip.bvh")
    one.until("document.querySelector('#message.error')")
    assert one.message() == "Something is held here already: move it, or hold this somewhere else."
    page.set_input_files("#pose-file", song)
    one.until("document.querySelector('#message').textContent.includes('no file with a pose')")

    assert one.dance() == ""
    assert markers.nth(1).get_attribute("aria-label") == "Pose held" and page.inner_text("#go") == "Another dance"
    project = one.saved()
    assert [round(held["second"], 2) for held in project["hold"]] == [2.0, 5.97] and project["next"] is None
    danced = one.motion(served)
    np.testing.assert_allclose(danced.poses[-1, 12:], first.poses[60, 12:], atol=0.01)  # legs are put on the floor
    page.click("#pose button[aria-label=Deselect]")
    assert page.evaluate("document.activeElement.id") == "hold"
    one.select(0.2, 0.5)
    assert page.is_disabled("#passage button:has-text('Dance anew')") and "with the clip at 0:02.0" in page.inner_text(
        "#passage"
    )
    page.click("#passage button:has-text('Lock')")
    page.click("#passage button[aria-label=Deselect]")

    # something new where it is locked: refused in a sentence
    page.evaluate("megadanceStage.seekTo(1.5)")
    page.click("#hold")
    one.until("document.querySelectorAll('#poses .handle').length === 3")
    one.dance()
    assert one.message() == "The dance is locked where the pose at 0:01.5 is to be held: unlock it there, or move it."
    assert [len(one.saved()[name]) for name in ("hold", "locks")] == [2, 1] and len(one.saved()["next"]["hold"]) == 3
    file = one.folder / "saved.json"
    file.write_text(json.dumps(one.saved()), encoding="utf-8")
    markers.first.focus()
    page.keyboard.press("Delete")
    assert markers.count() == 2 and page.evaluate("document.activeElement.id") == "hold"
    one.dance()
    assert one.message() == "" and [held["poses"] for held in one.saved()["hold"]] == [
        held["poses"] for held in project["hold"]
    ]

    # beside what is locked it is met
    page.evaluate("megadanceStage.seekTo(4.5)")
    page.click("#hold")
    one.until("document.querySelectorAll('#poses .handle').length === 3")
    before = one.motion(served)
    assert one.dance() == "" and markers.nth(1).get_attribute("aria-label") == "Pose held"
    assert [round(held["second"], 1) for held in one.saved()["hold"]] == [2.0, 4.5, 6.0]
    np.testing.assert_array_equal(one.motion(served).poses[60:75], before.poses[60:75])

    page.set_input_files("#project-file", file)
    one.until("document.querySelector('#poses .handle').ariaLabel.endsWith('not danced yet')")
    names = [markers.nth(index).get_attribute("aria-label") for index in range(3)]
    assert names == ["Pose held, not danced yet", "Clip held, my clip.bvh", "Pose held"]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("phone", [False, True])
def test_accessibility(visit, song, tmp_path, scheme, phone):
    """axe finds nothing serious in any state; nothing is wider than the screen; targets are large; dark is dark."""
    wide = {"viewport": {"width": 1280, "height": 800}}
    one = visit(color_scheme=scheme, reduced_motion="reduce", **(PHONE if phone else wide))
    page = one.page
    (tmp_path / "text.wav").write_text("no music " * 100, encoding="utf-8")
    page.set_input_files("#song-file", tmp_path / "text.wav")
    one.until("document.querySelector('.invitation .error')")
    assert re.search("'text.wav' is not audio", page.inner_text(".invitation"), re.I)
    assert one.violations() == []
    one.picture("error")
    one.upload(song)
    one.dance()
    if phone:
        box = page.locator(".view").bounding_box()
        assert box["width"] == 390 and box["height"] > 0.55 * 844, "the dancer fills the stage"
    page.evaluate("megadanceStage.seekTo(4)")
    page.click("#change")
    page.click("#hold")
    page.click("#pose button[aria-label=Deselect]")
    page.evaluate("megadanceStage.seekTo(8)")
    page.click("#select")
    page.click("#passage button:has-text('Lock')")
    page.click("#zoom-in")
    page.click("summary:has-text('More')")
    page.click("summary:has-text('How it moves')")
    one.picture("all")
    assert one.violations() == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(SMALL_TARGETS) == []
    brightness = page.evaluate(BRIGHTNESS)
    assert all(value < 0.2 if scheme == "dark" else value > 0.6 for value in brightness.values()), brightness
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") != scheme
    if scheme == "light":
        return
    page.click("#passage button:has-text('Unlock')")
    page.click("#passage button:has-text('Dance anew')")
    one.until("!document.querySelector('.compare').hidden && megadanceStage.dancers.length === 3")
    assert page.evaluate("megadanceStage.seen().length") == (1 if phone else 3)
    one.picture("candidates")
    assert one.violations() == []


SMALL_TARGETS = """(() => {
  const targets = [...document.querySelectorAll("button, input, select, textarea, summary, [role=slider]")];
  return targets.filter((target) => target.offsetParent && !target.matches(".chip input")).flatMap((target) => {
    const { width, height } = target.getBoundingClientRect();
    return Math.min(width, height) < 23.9 ? [[target.outerHTML.slice(0, 100), width, height]] : [];
  });
})()"""
BRIGHTNESS = """(() => {
  const { background } = megadanceStage.scene;
  const bright = (text) => text.match(/[\\d.]+/g).slice(0, 3).reduce((sum, value) => sum + Number(value), 0) / 765;
  const of = (name) => bright(getComputedStyle(document.querySelector(name)).backgroundColor);
  return { page: of("body"), stage: bright(background.getStyle()), plot: of(".plot"), wave: of("#wave"), panel: of("#panel") };
})()"""


@pytest.mark.slow
def test_by_keyboard_alone(visit, song):
    """Everything can be reached with Tab, and keys do what names say."""
    one = visit(viewport={"width": 1000, "height": 800})
    page = one.page
    one.upload(song)
    page.focus("#go")
    page.keyboard.press("Enter")
    one.wait()
    page.click("summary:has-text('More')")
    page.focus("#open")
    reached = []
    for _ in range(70):
        reached.append(
            page.evaluate(
                "document.activeElement.id || document.activeElement.className || document.activeElement.name"
            )
        )
        page.keyboard.press("Tab")
    wanted = [
        "open",
        "save",
        "download",
        "theme",
        "view",
        "play",
        "seek",
        "speed",
        "loop",
        "volume",
        "front",
        "handle piece",
        "handle from",
    ]
    wanted += ["handle to", "span", "undo", "change", "select", "hold", "hold-file"]
    wanted += ["another-song", "genre", "mixed", "closed", "beside", "go"]
    assert [name for name in wanted if name not in reached] == []

    page.focus("#select")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Passage begins"
    page.keyboard.press("Tab")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert float(page.get_attribute("#over .to", "aria-valuenow")) > 2.5
    page.focus("#passage input:checked")
    page.keyboard.press("ArrowRight")
    assert page.is_checked("#passage input[value=upper]")
    page.focus("#passage button:has-text('Lock')")
    page.keyboard.press("Enter")
    page.focus(".locked")
    page.keyboard.press("Enter")
    page.focus("#passage button:has-text('Unlock')")
    page.keyboard.press("Enter")
    assert page.locator(".locked").count() == 0
    page.focus("#passage button[aria-label=Deselect]")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "select"
    page.focus("#change")
    page.keyboard.press("Enter")
    page.focus("#plan .change")
    place = float(page.get_attribute("#plan .change", "aria-valuenow"))
    page.keyboard.press("ArrowRight")
    assert float(page.get_attribute("#plan .change", "aria-valuenow")) > place
    page.keyboard.press("Delete")
    assert page.locator("#plan .change").count() == 0 and page.evaluate("document.activeElement.id") == "change"

    page.focus(".megadance-stage .view")
    distance = "megadanceStage.camera.position.length()"
    assert page.evaluate(HEADING) == pytest.approx(0, abs=1e-6)
    before = page.evaluate(distance)
    for key in ("ArrowRight", "ArrowRight", "-"):
        page.keyboard.press(key)
    assert page.evaluate(HEADING) == pytest.approx(0.3) and page.evaluate(distance) > 1.05 * before
    page.keyboard.press("0")
    assert page.evaluate(HEADING) == pytest.approx(0, abs=1e-6) and page.evaluate(distance) == pytest.approx(before)
    page.keyboard.press(".")
    page.keyboard.press("Space")
    one.until("!megadanceStage.audio.paused && megadanceStage.now() > 1")
    page.keyboard.press("Space")
    assert page.evaluate("megadanceStage.audio.paused")
    page.check(".loop")
    page.evaluate("megadanceStage.seekTo(9.7)")
    page.click(".play")
    one.until("megadanceStage.now() < 3")
    assert not page.evaluate("megadanceStage.audio.paused"), "it goes on from the beginning"
    one.select(0.5, 0.6)
    page.evaluate("megadanceStage.seekTo(5.8)")
    one.until("megadanceStage.now() < 5.5 && megadanceStage.now() > 4.4")
    assert page.evaluate("megadanceStage.passage[0]") == pytest.approx(5, abs=0.3), "a selected passage is looped"


HEADING = "Math.atan2(megadanceStage.camera.position.x, megadanceStage.camera.position.z)"


@pytest.mark.slow
def test_by_touch_alone(visit, song):
    """On a phone: handles, passages, poses and changes are dragged, the stage is turned; a swipe up scrolls the page wherever it begins."""
    one = visit(**PHONE)
    page = one.page
    one.upload(song)

    def value(name, attribute="aria-valuenow"):
        return float(page.get_attribute(name, attribute))

    # the piece of the song, by its handles and as a whole
    one.drag(page.locator("#overview .to"), -60)
    end = value("#overview .to")
    assert 7 < end < 9
    one.drag(page.locator("#overview .piece"), 45)
    assert value("#overview .piece") > 1 and value("#overview .to") == pytest.approx(end + value("#overview .piece"))
    page.tap("#go")
    assert one.wait() == ""
    one.until("megadanceStage.shown.dances[0]?.speed")

    # the stage
    before = page.evaluate(HEADING)
    one.drag(page.locator(".megadance-stage canvas"), 90)
    assert abs(page.evaluate(HEADING) - before) > 0.3

    # a passage, and one of its ends
    one.drag(page.locator("#wave"), 90)
    start, end = value("#over .from"), value("#over .to")
    assert end - start > 1 and page.is_visible("#passage")
    one.drag(page.locator("#over .to"), 60)
    assert value("#over .to") > end + 0.5 and value("#over .from") == start
    one.picture("passage")
    page.tap("#passage label:has-text('Upper')")
    page.tap("#passage button:has-text('Lock')")
    page.tap("#passage button[aria-label=Deselect]")
    assert page.locator(".locked").count() == 1 and page.is_hidden("#passage")
    page.tap(".locked")
    assert page.is_visible("#passage") and value("#over .from") == start
    page.tap("#passage button:has-text('Unlock')")
    page.tap("#passage button[aria-label=Deselect]")

    # where it is heard; a pose that is held there
    box = page.locator("#wave").bounding_box()
    page.touchscreen.tap(box["x"] + 0.25 * box["width"], box["y"] + 20)
    one.until("megadanceStage.now() > 1")
    page.tap("#hold")
    page.locator("#poses .handle").wait_for()
    before = value("#poses .handle")
    one.drag(page.locator("#poses .handle"), 70)
    assert value("#poses .handle") > before + 0.8 and "chosen" in page.get_attribute("#poses .handle", "class")
    one.picture("pose")
    page.tap("#pose button[aria-label=Deselect]")
    page.tap("#poses .handle")
    assert page.is_visible("#pose")
    page.tap("#pose button[aria-label=Deselect]")

    # a change of the plan
    page.tap("#change")
    before = value("#plan .change")
    one.drag(page.locator("#plan .change"), 70)
    assert value("#plan .change") > before + 0.4
    one.picture("change")

    # zoomed: what is not a handle scrolls, and handles are dragged as before
    page.tap("#zoom-in")
    page.tap("#zoom-in")
    scrolled = page.evaluate("document.querySelector('#scroll').scrollLeft")
    one.drag(page.locator("#ruler"), -80)
    one.until(f"document.querySelector('#scroll').scrollLeft > {scrolled} + 20")
    before = value("#plan .change")
    one.drag(page.locator("#plan .change"), -70)
    assert before - 1.2 < value("#plan .change") < before - 0.2

    # swipes up and down scroll the page
    piece = value("#overview .piece")
    for name in (".megadance-stage canvas", "#wave", "#plan .span", "#overview .piece", "#upper"):
        page.locator(name).first.evaluate("(element) => element.scrollIntoView({ block: 'center' })")
        page.wait_for_timeout(200)
        top = page.evaluate("scrollY")
        one.drag(page.locator(name).first, 0, -120 if top < 200 else 120)
        one.until(f"Math.abs(scrollY - {top}) > 30", seconds=10)
    assert page.locator("#passage").is_hidden() and value("#overview .piece") == piece, "nothing else came of that"


RECORD = """(names) => {
  const stage = megadanceStage, joints = names.map((name) => stage.dancers[0].figure.getObjectByName(name));
  const read = () => [stage.now(), ...joints.flatMap((joint) => joint.quaternion.toArray())];
  window.recorded = [];
  const draw = stage.draw.bind(stage);
  stage.draw = (time) => { draw(time); recorded.push(read()); };
  window.poseNow = read;
}"""


class Dance:
    """What time a pose is from: the dance in the downloaded .npz, interpolated as a glTF player does."""

    def __init__(self, motion):
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
def test_the_pose_is_the_sound_s(visit, served, song):
    """Playing, seeking, paused, at another speed: the pose is the sound's within a frame, in a piece from the middle of a song too."""
    one = visit(viewport={"width": 420, "height": 500})
    page = one.page
    one.upload(song)
    page.focus("#overview .piece")
    page.keyboard.press("End")
    assert page.get_attribute("#overview .piece", "aria-valuetext") == "from 0:02 to 0:12"
    one.dance()
    dance = Dance(one.motion(served))
    assert page.evaluate("megadanceStage.audio.currentTime") == pytest.approx(2, abs=0.05)

    page.evaluate(RECORD, list(JOINT_NAMES))
    page.check(".loop")  # a busy machine may draw fewer pictures than are wanted before the end
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
        one.until("recorded.length >= 8 && !megadanceStage.audio.seeking")
        apart[name] = dance.apart(page.evaluate("recorded")[2:])
    page.click(".play")
    assert page.evaluate("megadanceStage.audio.paused")
    one.until("document.querySelector('.play').innerText === 'Play'")
    for place in (8.41, 1.07):
        page.evaluate(f"megadanceStage.seekTo({place})")
        one.until(f"!megadanceStage.audio.seeking && Math.abs(megadanceStage.time - {place}) < 0.01")
        apart[f"paused at {place}"] = dance.apart([page.evaluate("poseNow()")])
    print({name: f"median {np.median(values):.1f}, most {values.max():.1f} ms" for name, values in apart.items()})
    assert max(values.max() for values in apart.values()) <= ONE_FRAME, apart


SKIN = """(count) => {
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


def test_the_smooth_body_dances_on_the_page(visit, served, song, monkeypatch):
    """Where three.js puts the skin is where we do."""
    monkeypatch.setattr(served.studio, "body", "smooth")
    one = visit(viewport={"width": 1000, "height": 800})
    one.upload(song)
    assert one.dance() == ""
    meshes, count, positions = one.page.evaluate(SKIN, 500)
    motion = one.motion(served)
    vertices, _ = skin(body_mesh("smooth"), motion.joints()[30], motion.global_rotations()[30])
    assert (meshes, count) == (1, len(vertices))
    expected = vertices[np.arange(500) * count // 500] + [0, SOLE_THICKNESS, 0]
    np.testing.assert_allclose(positions, expected, atol=2e-3)


@pytest.mark.slow
def test_recording_and_limits(visit, tmp_path):
    one = visit(viewport={"width": 1000, "height": 800})
    page = one.page
    rate = 44100
    soundfile.write(tmp_path / "long.wav", np.tile(click_song(1.0, rate), 60), rate)  # 5.3 MB
    page.set_input_files("#song-file", tmp_path / "long.wav")
    one.until("document.querySelector('.invitation .error')")
    assert '"long.wav" has 5 MB: at most 4 are taken.' in page.inner_text(".invitation")
    page.click("button:has-text('Record')")
    one.until("document.querySelector('.invitation').innerText.includes('(0:03)')")
    page.click("button:has-text('Stop recording')")
    one.until("!document.querySelector('#panel').hidden")
    one.dance()
    answer = page.request.get(page.evaluate("megadanceStage.audio.src"))
    sound, rate = soundfile.read(io.BytesIO(answer.body()))
    assert 2 < len(sound) / rate < 10 and np.abs(sound).max() > 0.01


@pytest.mark.slow
def test_who_leaves_is_not_danced_for(browser, served, song, monkeypatch):
    put = reports.Preview.put
    monkeypatch.setattr(reports.Preview, "put", lambda self, codes: (time.sleep(0.3), put(self, codes))[1])
    one = Visit(browser, served.local_url)
    one.upload(song)
    with one.page.expect_response("**/api/jobs") as answer:
        one.page.click("#go")
    identity = answer.value.json()["job"]
    visitor = one.page.evaluate("sessionStorage.megadance")
    one.until("!document.querySelector('.view .progress').hidden")
    one.page.goto("about:blank")
    end = time.monotonic() + 10
    while served.jobs.status(identity, visitor)["state"] != "cancelled":
        assert time.monotonic() < end
        time.sleep(0.1)
    one.context.close()
