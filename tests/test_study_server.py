"""Serving a study: blindness, many raters at once, kills at any moment, two servers, and the page in a real browser."""

import asyncio
import json
import os
import re
import secrets
import signal
import socket
import sqlite3
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from browser import REMEDY, find_browser
from helpers import skip_outside_ci
from study_raters import (
    Browser,
    Rater,
    answer_over_http,
    clips_in,
    made_up_study,
    make_study,
    serving,
)

from megadance_hf.study.answers import Answers, Refused
from megadance_hf.study.design import Study, StudyError
from megadance_hf.study.server import application, only_server, serve

needs_signals = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


class Site:
    """The application without a network, at a time of its own."""

    def __init__(self, folder):
        self.now = 1e9
        self.study = Study(folder)
        self.answers = Answers(self.study, lambda: self.now)
        self.app = application(self.answers)

    def request(self, method, path, secret=None, **options):
        async def send():
            headers = {"authorization": f"Bearer {secret}"} if secret else {}
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://study") as client:
                return await client.request(method, path, headers=headers, **options)

        return asyncio.run(send())

    def post(self, path, secret=None, content=None):
        return self.request("POST", path, secret, json=content or {})

    def join(self):
        secret = secrets.token_hex(16)
        consent = {"consent": True, "language": "en", "experience": "some"}
        assert self.post("/join", secret, consent).json() == {"joined": True}
        return secret


@pytest.fixture
def site(tmp_path):
    made = Site(made_up_study(tmp_path / "study", trials=4, catch=1))
    yield made
    made.answers.close()


# --- what it answers -------------------------------------------------------------------------------------------------


@pytest.mark.versions
def test_a_rater_s_requests(site):
    secret = site.join()
    about = site.request("GET", "/about").json()
    assert about["trials"] == 5 and about["languages"] == ["en", "zh", "de"] and about["contact"] == "A. Name"
    for number in range(6):
        shown = site.post("/next", secret).json()
        assert (shown["state"], shown["number"], shown["total"]) == ("trial", number, 5)
        assert shown["practice"] is (number == 0)
        clip = site.request("GET", shown["clips"][0])
        assert clip.headers["content-type"] == "video/mp4" and clip.content in clips_in(site.study.folder)
        values = {"values": {"DQ": 1, "DS": 2, "DC": 3}, "played": 0.5, "seconds": 3, "focus": 0, "plays": 1}
        site.now += 1
        assert site.post("/answer", secret, values | {"ticket": shown["ticket"]}).json() == {"saved": True}
    assert site.post("/next", secret).json()["state"] == "done"
    assert site.post("/withdraw", secret).json() == {"deleted": True}
    assert site.post("/next", secret).status_code == 404


def test_who_comes_too_late_is_told_before_the_consent(tmp_path):
    site = Site(made_up_study(tmp_path / "study", raters=1))

    def refuses():
        return site.request("GET", "/about").json()["refuses"]

    assert refuses() is None
    secret = site.join()
    assert refuses() == "complete"
    site.post("/withdraw", secret)
    assert refuses() is None
    site.answers.shut()
    assert refuses() == "closed"
    site.answers.close()


@pytest.mark.versions
def test_requests_that_no_page_makes(site):
    secret = site.join()
    ticket = site.post("/next", secret).json()["ticket"]

    def refused(status, reason, method, path, **options):
        response = site.request(method, path, options.pop("secret", secret), **options)
        assert (response.status_code, response.json()) == (status, {"refused": reason}), path

    refused(401, "unknown", "POST", "/next", secret=None)
    refused(401, "unknown", "POST", "/next", secret="x")
    refused(404, "unknown", "POST", "/next", secret="0" * 32)
    refused(400, "malformed", "POST", "/join", content=b"{")
    refused(400, "malformed", "POST", "/join", json={"consent": "yes", "language": "en", "experience": "some"})
    refused(
        400, "malformed", "POST", "/join", secret="1" * 32, json={"consent": True, "language": [], "experience": {}}
    )
    refused(413, "malformed", "POST", "/answer", content=b" " * 20_000)
    refused(400, "malformed", "POST", "/answer", json={"ticket": ticket})
    refused(400, "malformed", "POST", "/answer", json={"ticket": 7})
    refused(400, "malformed", "POST", "/answer", json=[ticket])
    refused(404, "unknown", "GET", f"/clip/{ticket}/1")
    refused(404, "unknown", "GET", f"/progress/{secret}")
    for path in ("/page/../study.yaml", "/page/%2e%2e/key.json", "/page/nothing.js", "/page/texts/../../key.json"):
        assert site.request("GET", path).status_code == 404, path
    for path in ("/key.json", "/study.yaml", "/videos", f"/videos/{site.study.clips[0].file}", "/answers.sqlite"):
        assert site.request("GET", path).status_code == 404, path


def test_the_experimenter_sees_numbers_only(site):
    site.join()
    text = site.request("GET", f"/progress/{site.answers.secret()}").text
    cells = re.findall(r"<th scope=row>(\w+)</th><td>(\d+)</td>", text)
    assert cells == [("wanted", "30"), ("joined", "1"), ("finished", "0"), ("withdrawn", "0"), ("answers", "0")]
    assert not any(system in text for system in site.study.design.systems)


# --- blindness -------------------------------------------------------------------------------------------------------


def test_nothing_that_a_browser_gets_tells_the_system(tmp_path):
    """A classifier learns, from most raters, what goes with each system: addresses, headers, sizes, the order, the ends of files. On the
    other raters it guesses no better than chance."""
    site = Site(make_study(tmp_path, songs=4, raters=30))
    known, raters, rows, systems = clips_in(site.study.folder), 30, [], []
    page = "".join(site.request("GET", path).text for path in ("/", "/page/study.js", "/page/texts/en.json", "/about"))
    assert not re.search(r"\b(ours|nearest|jitter|distort|reference|catch trials?)\b", page)
    for rater in range(raters):
        secret, before = site.join(), 0.0
        while (shown := site.post("/next", secret)).json()["state"] == "trial":
            given = shown.json()
            clip = site.request("GET", given["clips"][0])
            one = site.study.clips[known[clip.content]]
            numbers = [given["number"], given["number"] % 2, len(shown.content), len(clip.content), len(clip.headers)]
            numbers += [zlib_number(clip.headers), zlib_number(shown.headers), int(given["ticket"][:4], 16), before]
            numbers += [
                int(given["ticket"][-4:], 16),
                len(given["clips"][0]),
                sum(clip.content[-8:]),
                rater % 3,
                rater % 4,
            ]
            if not given["practice"]:
                rows.append(numbers)
                systems.append((rater, "distorted" if one.distortion else site.study.design.systems[one.system]))
            before = float(int(given["ticket"][:2], 16))
            site.now += 2
            content = {"values": {"DQ": 3, "DS": 3, "DC": 3}, "played": 1, "seconds": 2, "focus": 0, "plays": 1}
            site.post("/answer", secret, content | {"ticket": given["ticket"]})
    site.answers.close()
    rows, raters_of = np.array(rows), np.array([rater for rater, _ in systems])
    truth = np.array([system for _, system in systems])
    right, count, chance = guesses(rows, truth, raters_of)
    print(f"guessed {right} of {count}, by chance {chance * count:.0f}")
    assert right < chance * count + 3.5 * np.sqrt(count * chance * (1 - chance))

    sizes = {path.stat().st_size for path in (site.study.folder / "videos").iterdir()}
    dates = {path.stat().st_mtime for path in (site.study.folder / "videos").iterdir()}
    assert len(sizes) == len(dates) == 1


def zlib_number(headers) -> int:
    import zlib

    return zlib.crc32(repr(sorted(headers.items())).encode())


def guesses(rows, truth, raters):
    """Five nearest neighbours among other raters: right ones, all, and the share that the commonest system alone would give."""
    scaled = (rows - rows.mean(0)) / np.maximum(rows.std(0), 1e-9)
    right = 0
    for row, system, rater in zip(scaled, truth, raters, strict=True):
        others = raters != rater
        near = np.argsort(((scaled[others] - row) ** 2).sum(1))[:5]
        right += Counter(truth[others][near]).most_common(1)[0][0] == system
    return right, len(truth), max(Counter(truth).values()) / len(truth)


def test_headers_are_those_of_every_clip(site):
    seen = set()
    for _ in range(3):
        secret = site.join()
        for _ in range(6):
            shown = site.post("/next", secret).json()
            response = site.request("GET", shown["clips"][0])
            seen.add(tuple(sorted(response.headers.items())))
            site.now += 1
            content = {"values": {"DQ": 3, "DS": 3, "DC": 3}, "played": 1, "seconds": 2, "focus": 0, "plays": 1}
            site.post("/answer", secret, content | {"ticket": shown["ticket"]})
    (headers,) = seen
    names = {name for name, _ in headers}
    assert not names & {"etag", "last-modified", "content-disposition", "accept-ranges", "server"}
    assert {"cache-control", "content-security-policy", "referrer-policy"} <= names


# --- the server as a process -------------------------------------------------------------------------------------------


def stored(folder):
    """Number of answers without practice, and whether the database is sound."""
    with sqlite3.connect(folder / "answers.sqlite") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return database.execute("SELECT count(*) FROM answers WHERE position >= 0").fetchone()[0]


@pytest.mark.slow
def test_two_hundred_raters_at_once(tmp_path):
    folder = made_up_study(tmp_path / "study", raters=200, trials=2, catch=1)
    with serving(folder) as (_, address, progress):
        acknowledged = answer_over_http(address, folder, raters=200)
        assert acknowledged == 200 * 3 == stored(folder)
        with pytest.raises(Refused, match="complete"):
            Browser(address).join()
        assert "<td>200</td>" in httpx.get(progress).text
    numbers = [number for (number,) in sqlite3.connect(folder / "answers.sqlite").execute("SELECT number FROM raters")]
    assert sorted(numbers) == list(range(200))


@needs_signals
@pytest.mark.slow
def test_no_acknowledged_answer_is_lost_or_counted_twice_when_the_server_is_killed(tmp_path):
    """SIGKILL at ten moments while twelve raters answer. They try again until they are acknowledged, as the page does."""
    folder = made_up_study(tmp_path / "study", raters=12, songs=8, trials=24, catch=0)
    study, port, done = Study(folder), free_port(), threading.Event()
    acknowledged, lock, repeated = {}, threading.Lock(), Counter()

    def rate(number):
        rater, browser = Rater(study, number), Browser(f"http://127.0.0.1:{port}")

        def surely(path, content=None):
            while True:
                try:
                    return browser.post(path, content)
                except httpx.TransportError:
                    repeated[path] += 1
                    time.sleep(0.1)

        surely("/join", {"consent": True, "language": "en", "experience": "none"})
        while (shown := surely("/next"))["state"] == "trial":
            time.sleep(study.design.seconds)
            content = rater.content([0])
            try:
                surely("/answer", content | {"ticket": shown["ticket"]})
            except Refused as refused:  # the server was killed between two answers of /next
                assert refused.reason in ("stale", "early")
                continue
            with lock:
                key = (number, shown["number"])
                assert key not in acknowledged, "the server asked for it again"
                acknowledged[key] = content["values"]
        browser.client.close()

    random, kills = np.random.default_rng(1), 0
    with ThreadPoolExecutor(12) as pool:
        raters = [pool.submit(rate, number) for number in range(12)]
        while not all(rater.done() for rater in raters):
            with serving(folder, "--port", str(port)) as (process, _, _):
                moment = time.monotonic() + (random.uniform(0.2, 1.5) if kills < 10 else 120)
                while time.monotonic() < moment and not all(rater.done() for rater in raters):
                    time.sleep(0.01)
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
        done.set()
        for rater in raters:
            rater.result()
    assert kills > 10
    with sqlite3.connect(folder / "answers.sqlite") as database:
        rows = database.execute("SELECT content FROM answers WHERE position >= 0").fetchall()
    assert stored(folder) == len(acknowledged) - 12 == 12 * 24  # without practice
    found = Counter(json.dumps(json.loads(content)["values"]) for (content,) in rows)
    told = Counter(json.dumps(values) for (_, number), values in acknowledged.items() if number)
    assert found == told
    print(f"{kills} kills, requests tried again: {dict(repeated)}")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@needs_signals
def test_one_server_a_folder(tmp_path):
    folder = made_up_study(tmp_path / "study")
    with serving(folder) as (process, address, progress):
        with pytest.raises(StudyError, match="is being served already: stop the other server first"):
            serve(folder)
        assert httpx.get(address).status_code == 200 and "joined" in httpx.get(progress).text
        process.send_signal(signal.SIGKILL)  # which frees the folder
        process.wait()
    with only_server(folder):  # the folder is free again
        pass
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        for where in ({"port": other.getsockname()[1]}, {"port": 99999}, {"host": "no such host"}):
            with pytest.raises(StudyError, match=r"^The study cannot be served at .* \(.*\): choose another$"):
                serve(folder, **where)


@needs_signals
def test_ctrl_c_ends_the_server(tmp_path):
    with serving(made_up_study(tmp_path / "study")) as (process, address, _):
        assert httpx.get(f"{address}/r/{'0' * 32}").status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0 and process.stderr.read() == ""


# --- in a browser ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    found = find_browser()
    if found is None:
        skip_outside_ci(f"no browser: {REMEDY}")
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        browser = playwright.chromium.launch(args=options, **found)
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=["ratings", "pairs"])
def served(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    study = make_study(folder, songs=2, trials=2, catch=1, size=(160, 160), mode=request.param)
    with serving(study) as (_, address, _):
        yield study, address


class Visit:
    """A rater's page."""

    def __init__(self, browser, address, **options):
        self.context = browser.new_context(bypass_csp=True, **options)  # or Playwright cannot wait for a condition
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.asked, self.errors, self.found = [], [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address)

    def screen(self, name):
        self.page.wait_for_selector(f"#{name}:not([hidden])")
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        self.found += [(name, one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found]
        width = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert width <= 0, f"{name} is {width} pixels too wide"

    def join(self):
        self.screen("welcome")
        self.page.check("input[value=years]")
        self.page.check("input[name=consent]")
        self.page.click("#joining button")
        self.screen("sound")

    def hear(self):
        """Listen, and try all numbers until one is right."""
        self.page.click("#tones")
        self.page.check("input[name=side][value=both]")
        for number in range(2, 6):
            self.page.check(f"input[name=count][value='{number}']")
            self.page.click("#hearing button")
            self.page.wait_for_function(
                "!document.querySelector('#trial').hidden || document.querySelector('#status').innerText"
            )
            if self.page.is_visible("#trial"):
                return
        raise AssertionError("no number of tones was right")

    def watch(self):
        for side in range(self.page.locator("video").count()):
            button = self.page.locator(".play").nth(side)
            button.and_(self.page.locator(":not([disabled])")).wait_for()
            assert not self.page.is_enabled("#rating .main")
            button.click()
            self.page.wait_for_function("side => document.querySelectorAll('video')[side].ended", arg=side)

    def rate(self, choice=0):
        heading = self.page.inner_text("#heading")
        for question in ("DQ", "DS", "DC"):
            self.page.locator(f"input[name={question}]").nth(choice).check()
        self.page.click("#rating .main")
        self.page.wait_for_function(
            "before => document.querySelector('#heading').innerText !== before || document.querySelector('#trial').hidden",
            arg=heading,
        )


@pytest.mark.slow
@pytest.mark.parametrize("width, language", [(1280, "en"), (390, "de")])
def test_a_rater_in_the_browser(browser, served, width, language):
    """All screens from consent to the end: nobody is kept from any of them (axe), and what is answered is stored."""
    study, address = served
    visit = Visit(browser, address, viewport={"width": width, "height": 844}, locale=language)
    page, before = visit.page, stored(study)
    visit.join()
    visit.hear()
    visit.screen("trial")
    visit.watch()
    visit.rate()
    for number in range(1, 4):
        assert re.search(rf"\b{number}\b.* 3", page.inner_text("#heading"))
        visit.watch()
        visit.rate(choice=1)
    visit.screen("done")
    assert stored(study) == before + 3
    link = page.get_attribute("#link", "href")
    page.goto(link)
    visit.screen("done")
    page.click("summary")
    page.click("#withdraw")
    page.wait_for_selector("dialog[open]")
    page.click("dialog button[value=no]")
    assert page.is_visible("#done")
    page.click("#withdraw")
    page.click("dialog button[value=yes]")
    visit.screen("message")
    assert stored(study) == before
    page.goto(link)
    page.wait_for_selector("#message:not([hidden])")
    strangers = [url for url in visit.asked if not url.startswith((address, "blob:", "data:"))]
    assert (strangers, visit.errors, visit.found) == ([], [], [])
    visit.context.close()


@pytest.mark.slow
def test_a_reload_another_tab_and_a_server_that_is_away(browser, served):
    study, address = served
    visit = Visit(browser, address, locale="en-GB")
    page, before = visit.page, stored(study)
    visit.join()
    visit.hear()
    visit.watch()
    visit.rate()
    page.reload()
    page.wait_for_function("document.querySelector('#heading').innerText.includes('1 of 3')")
    visit.watch()
    other = visit.context.new_page()
    other.goto(page.url)
    other.wait_for_selector("#trial:not([hidden])")
    for question in ("DQ", "DS", "DC"):
        page.locator(f"input[name={question}]").first.check()
    page.click("#rating .main")
    page.wait_for_selector("#message:not([hidden])")
    assert "another tab" in page.inner_text("#message") and stored(study) == before
    other.close()
    page.click("#again")
    page.wait_for_selector("#trial:not([hidden])")
    visit.watch()
    refusals = []

    def away(route):
        refusals.append(route.request.url)
        if len(refusals) == 1:
            route.abort()
        elif len(refusals) == 2:
            route.fulfill(status=507, json={"refused": "full"})
        else:
            route.continue_()

    page.route("**/answer", away)
    visit.rate()
    assert len(refusals) == 3 and stored(study) == before + 1
    visit.context.close()


@pytest.mark.slow
def test_by_keyboard_alone(browser, served):
    """Consent to the first answer with Tab, arrows, space and Enter; the heading of each screen has the focus when it appears."""
    study, address = served
    visit = Visit(browser, f"{address}?lang=zh", locale="en-GB")
    page, before = visit.page, stored(study)
    page.wait_for_selector("#welcome:not([hidden])")
    assert page.evaluate("document.documentElement.lang") == "zh"

    def focused():
        return page.evaluate("document.activeElement.closest('section')?.id + ' ' + document.activeElement.tagName")

    def press(*keys):
        for key in keys:
            page.keyboard.press(key)

    assert focused() == "welcome H1"
    press("Tab", "ArrowDown", "Tab", "Space", "Tab", "Enter")
    page.wait_for_selector("#sound:not([hidden])")
    assert focused() == "sound H1"
    press("Tab", "Enter", "Tab", "Space", "Tab", "ArrowLeft", "Tab")
    for _ in range(4):
        press("Enter")
        page.wait_for_function(
            "!document.querySelector('#trial').hidden || document.querySelector('#status').innerText"
        )
        if page.is_visible("#trial"):
            break
        press("Shift+Tab", "Shift+Tab", "ArrowRight", "Tab", "Tab")
    assert focused() == "trial H1"
    count = page.locator("video").count()
    page.wait_for_function("[...document.querySelectorAll('.play')].every((button) => !button.disabled)")
    for side in range(count):
        press("Tab", "Space")
        page.wait_for_function("side => document.querySelectorAll('video')[side].ended", arg=side)
    for _ in range(3):
        press("Tab", "Space")
    press("Tab", "Enter")
    page.wait_for_function("document.querySelector('#heading').innerText.includes('1')")
    assert stored(study) == before and visit.errors == []
    visit.context.close()


def test_the_page_obeys_its_own_policy(browser, tmp_path):
    """Without what tests may do: nothing of the page is blocked by the headers that it comes with."""
    with serving(made_up_study(tmp_path / "study")) as (_, address, _):
        context = browser.new_context(locale="en-GB")
        page, said = context.new_page(), []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(address)
        page.locator("#welcome h1").wait_for()
        assert page.title() == "Dances" and page.locator("#welcome h1").inner_text() == "How good are these dances?"
        assert said == []
        context.close()
