"""The web page's server over HTTP: from a song to a zip, whose is what, what is refused, and what stays when it ends."""

import http.client
import http.server
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import zipfile

import httpx
import numpy as np
import pytest
import soundfile
from helpers import GENRES, save_tiny_model, write_song
from versions import declared

from megadance_hf.cli import command as cli
from megadance_hf.demo import jobs, server
from megadance_hf.demo.jobs import BUSY, GONE, DemoError
from megadance_hf.demo.limits import Limits
from megadance_hf.demo.requests import MALFORMED
from megadance_hf.demo.server import launch
from megadance_hf.demo.studio import NO_ROOM

ME, SHE = "a" * 32, "b" * 32
LIMITS = Limits(song_seconds=4, megabytes=1, waiting=3)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    path = write_song(tmp_path_factory.mktemp("song") / "song.wav", seconds=4, rate=22050)
    return path.read_bytes()


@pytest.fixture(scope="module")
def shared(model):
    """One page for most tests."""
    page = launch(model, block=False, limits=LIMITS)
    yield page
    page.close()


@pytest.fixture
def page(shared, monkeypatch):
    """The page of all, and that nothing goes wrong there that has to be written down."""
    yield shared


@pytest.fixture
def own_page(model, monkeypatch):
    """A page that may be broken."""
    monkeypatch.setattr(server, "TIDY_SECONDS", 0.2)
    page = launch(model, block=False, limits=LIMITS)
    yield page
    page.close()


class Visitor(httpx.Client):
    """What the page's scripts do."""

    def __init__(self, page, token=ME):
        super().__init__(base_url=page.local_url, headers={"x-visitor": token}, timeout=60)

    def give(self, content, name="my song.wav"):
        answer = self.post("api/songs", params={"name": name}, content=content)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def begin(self, kind, **wanted):
        answer = self.post("api/jobs", json={"kind": kind, **wanted})
        assert answer.status_code == 200, answer.text
        return answer.json()["job"]

    def wait(self, job):
        while True:
            status = self.get(f"api/jobs/{job}").json()
            if status["state"] in ("done", "failed", "cancelled"):
                return status
            time.sleep(0.05)

    def make(self, kind, **wanted):
        status = self.wait(self.begin(kind, **wanted))
        assert status["state"] == "done", status
        return status


def error_of(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error"}
    return answer.json()["error"]


def stored(page):
    return sorted(path.name for path in page.studio.folder.glob("*/*"))


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


class Endless:
    """Stands for a dance that goes on and on, at `Studio.dance`."""

    def __init__(self, studio, monkeypatch):
        self.began, self.stopped = [], []
        monkeypatch.setattr(studio, "dance", self)

    def __call__(self, visitor, song, wish, report):
        report.course([("dancing", 4.0)])
        report.begin("Dancing")
        self.began.append(visitor)
        try:
            while True:
                report.at(0.5)
                time.sleep(0.02)
        finally:
            self.stopped.append(visitor)


# --- from a song to a zip --------------------------------------------------------------------------------------------


def test_a_whole_visit(page, song):
    me = Visitor(page)
    options = me.get("api/options").json()
    assert options["genres"] == list(GENRES) and options["attributes"] == [] and options["hears_genre"] is False
    assert options["limits"] == {"song_seconds": 4, "megabytes": 1, "listening_seconds": 600}
    assert options["fps"] == 30 and options["second_per_code"] == pytest.approx(8 / 30)
    given = me.give(song, "../../röck/my 'song'.wav")
    assert given["name"] == "my 'song'.wav" and given["seconds"] == 4 and given["heard"] is None
    sound, rate = soundfile.read(io.BytesIO(me.get(given["sound"]).content))
    assert (len(sound), rate) == (4 * 22050, 22050)
    assert len(given["peaks"]) == 1000 and len(given["beats"]) > 5 and given["tempo"] == pytest.approx(120, rel=0.05)

    excerpt = {"song": given["song"], "start": 0.5, "seconds": 3}
    dance = me.make("dance", **excerpt, plan=[["waltz", 0], ["rumba", 1.6]], seed=1, beside="chacha")
    (take,) = dance["takes"]
    assert dance["share"] == 1 and dance["error"] is None and dance["zip"] is None and dance["kind"] == "dance"
    assert me.get(f"api/takes/{take['id']}").json() == take
    part = httpx.get(page.local_url + take["song"], headers={"range": "bytes=4-7"})
    assert part.status_code == 206 and len(part.content) == 4 and part.headers["content-type"] == "audio/wav"
    assert [me.get(shown["glb"]).content[:4] for shown in take["dances"]] == [b"glTF"] * 2
    assert httpx.get(page.local_url + f"dances/{take['id']}/1.npz").status_code == 200

    redone = me.make("redo", take=take["id"], start=1, end=2, part="upper", candidates=4, show=3)["takes"]
    assert len(redone) == 3 and {one["parent"] for one in redone} == {take["id"]}
    keep = {"take": redone[0]["id"], "ranges": [{"start": 1, "end": 2, "part": "all", "dancer": 0}]}
    (kept,) = me.make("dance", **excerpt, plan=[["chacha", 0]], keep=keep)["takes"]
    assert kept["parent"] == redone[0]["id"] and kept["locks"] == keep["ranges"]
    (loop,) = me.make("dance", **excerpt, loop=True)["takes"]
    assert loop["plan"] == [["chacha", 0.0]] and loop["loop"] is True and kept["loop"] is False

    pose = me.get(f"api/takes/{take['id']}/pose", params={"second": 1.5, "dancer": 1}).json()
    clip = httpx.get(page.local_url + f"dances/{take['id']}/2.npz").content
    both = me.post("api/poses", params={"name": "dance.npz"}, content=clip).json()
    assert (pose["frames"], both["frames"], both["name"]) == (1, 90, "dance.npz") and pose["poses"] != both["poses"][
        :384
    ]
    (held,) = me.make("dance", **excerpt, hold=[{"second": 2, **pose}])["takes"]
    assert held["dances"][0]["hold"] == [[2.0, 2.0333]]

    project = me.get(f"api/takes/{kept['id']}/project").json()
    assert project["megadance_project"] == 1 and project["song"]["name"] == given["name"]
    her = Visitor(page, SHE)
    (opened,) = her.make("open", song=her.give(song)["song"], project={**project, "of the page": 1})["takes"]
    assert opened["plan"] == [["chacha", 0.0]] and opened["locks"] == keep["ranges"] and opened["id"] != kept["id"]

    exported = me.make("export", take=take["id"], video=False)
    answer = httpx.get(page.local_url + exported["zip"])
    assert answer.headers["content-disposition"].startswith("attachment; filename")
    assert "my_song-rumba-chacha-1.zip" in answer.headers["content-disposition"]
    names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
    assert "my_song-rumba-chacha-1/project.json" in names and not [name for name in names if name.endswith(".mp4")]


def test_what_the_page_is_made_of(page):
    for path, kind in (("", "text/html"), ("stage/stage.js", "text/javascript"), ("stage/stage.css", "text/css")):
        answer = httpx.get(page.local_url + path)
        assert answer.status_code == 200 and answer.headers["content-type"].startswith(kind)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy and "http:" not in policy and "unsafe-eval" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers and "set-cookie" not in answer.headers


def test_a_song_that_is_no_wav(page, tmp_path):
    sound = write_song(tmp_path / "song.mp3", seconds=3, rate=44100, channels=2)
    given = Visitor(page).give(sound.read_bytes(), "song.MP3")
    assert given["seconds"] == pytest.approx(3, abs=0.1)
    played, rate = soundfile.read(io.BytesIO(httpx.get(page.local_url + given["sound"]).content))
    assert rate == 44100 and played.shape[1] == 2 and np.abs(played).max() > 0.1


# --- whose is what ---------------------------------------------------------------------------------------------------


def test_what_is_another_visitor_s_is_not_there(page, song):
    me, her = Visitor(page), Visitor(page, SHE)
    given = me.give(song)
    job = me.begin("dance", song=given["song"], seconds=1)
    (take,) = me.wait(job)["takes"]
    project = me.get(f"api/takes/{take['id']}/project").json()
    before = stored(page)
    for answer in (
        her.get(f"api/jobs/{job}"),
        her.delete(f"api/jobs/{job}"),
        her.get(f"api/takes/{take['id']}"),
        her.get(f"api/takes/{take['id']}/project"),
        her.get(f"api/takes/{take['id']}/pose?second=0"),
        her.post("api/jobs", json={"kind": "dance", "song": given["song"]}),
        her.post("api/jobs", json={"kind": "redo", "take": take["id"], "start": 0, "end": 1}),
        her.post("api/jobs", json={"kind": "open", "song": given["song"], "project": project}),
        her.post("api/jobs", json={"kind": "export", "take": take["id"]}),
    ):
        assert error_of(answer, 404) in (GONE, "There is no song yet, or it is not kept any more: give it again.")
    hers = her.give(song)["song"]
    keep = {"take": take["id"], "ranges": [{"start": 0, "end": 0.5}]}
    assert error_of(her.post("api/jobs", json={"kind": "dance", "song": hers, "seconds": 1, "keep": keep}), 404) == GONE
    assert len(stored(page)) == len(before) + 1
    assert me.get(f"api/takes/{take['id']}").status_code == 200


@pytest.mark.parametrize("token", [None, "", "a" * 31, "a" * 65, "A" * 32, "../" * 12, "g" * 32])
def test_nothing_without_a_visitor_s_token(page, song, token):
    before = stored(page)
    headers = {} if token is None else {"x-visitor": token}
    with httpx.Client(base_url=page.local_url, headers=headers) as nobody:
        for answer in (
            nobody.post("api/songs", params={"name": "song.wav"}, content=song),
            nobody.post("api/jobs", json={"kind": "dance", "song": "x"}),
            nobody.get("api/jobs/x"),
            nobody.delete("api/jobs/x"),
            nobody.get("api/takes/x"),
            nobody.get("api/takes/x/project"),
            nobody.get("api/takes/x/pose?second=0"),
            nobody.post("api/poses", params={"name": "x.npz"}, content=b"PK"),
        ):
            assert error_of(answer, 401) == MALFORMED
    assert stored(page) == before


def raw(page, request):
    """The status line's number of a request that is sent as it is: clients tidy addresses up."""
    place = httpx.URL(page.local_url)
    with socket.create_connection((place.host, place.port), timeout=10) as connection:
        connection.sendall(request)
        return int(connection.recv(100).split()[1])


def test_only_what_belongs_to_the_page_is_read(page, song, tmp_path):
    me = Visitor(page)
    take = me.make("dance", song=me.give(song)["song"], seconds=1)["takes"][0]["id"]
    for path in (
        "dances/../../etc/passwd",
        "dances/%2e%2e/%2e%2e/etc/passwd",
        f"dances/{take}/../../songs",
        f"dances/{take}/..%2f..%2f..%2f.lock",
        f"dances/{take}/%00",
        f"dances/{take}/",
        f"dances/{take}/.",
        f"dances/{take}/..",
        "dances/..%2fsongs/x",
        "songs/../dances.wav",
        "songs/..%2f..%2fx.wav",
        "songs/.wav",
        "stage/../notebook.py",
        "stage/..%2fnotebook.py",
        "web/..%2fserver.py",
        "web/../server.py",
        "web//etc/passwd",
        "api/takes/..%2f..",
        "//etc/passwd",
        "server.py",
    ):
        request = f"GET /{path} HTTP/1.1\r\nhost: x\r\nx-visitor: {ME}\r\nconnection: close\r\n\r\n"
        assert raw(page, request.encode()) in (400, 404), path
    link = page.studio.dances_folder / take / "link.txt"
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    assert httpx.get(f"{page.local_url}dances/{take}/link.txt").status_code == 404 and not link.exists()


def test_no_song_is_fetched_from_elsewhere(page, song, tmp_path):
    """A request that names a file of the server's, or an address: neither is opened."""
    asked = []

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

    other = http.server.HTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{other.server_port}/song.wav"
    secret = tmp_path / "secret.wav"
    secret.write_bytes(song)
    me, before = Visitor(page), stored(page)
    for place in (address, str(secret), "file:///etc/passwd", ["x"], {"path": str(secret)}, None):
        assert "give it again" in error_of(me.post("api/jobs", json={"kind": "dance", "song": place}), 404)
    playlist = f"#EXTM3U\n#EXTINF:10,\n{address}\n".encode()
    for content, name in (
        (playlist, "list.m3u8"),
        (address.encode(), "song.url"),
        (b"ffconcat version 1.0\nfile x", "a.wav"),
    ):
        assert "is not audio" in error_of(me.post("api/songs", params={"name": name}, content=content), 400)
    other.shutdown()
    assert asked == [] and stored(page) == before


# --- what is refused -------------------------------------------------------------------------------------------------


def test_songs_that_are_too_large(page, song):
    """Nothing is read beyond the limit, whatever the request says about its length."""
    me, before = Visitor(page), stored(page)
    place = httpx.URL(page.local_url)
    large = "The file is larger than 1 MB: give a shorter one, or an mp3."
    # honest: refused before anything is sent
    connection = http.client.HTTPConnection(place.host, place.port, timeout=10)
    connection.putrequest("POST", "/api/songs?name=x.wav")
    for name, value in (("x-visitor", ME), ("content-length", str(2**40))):
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["error"]) == (413, large)
    connection.close()

    # without a length
    sent = []

    def chunks():
        for _ in range(200):
            sent.append(1)
            yield bytes(100_000)
            time.sleep(0.005)

    try:
        assert error_of(me.post("api/songs", params={"name": "x.wav"}, content=chunks()), 413) == large
    except httpx.TransportError:
        pass  # the server has hung up
    assert len(sent) < 150
    until(lambda: stored(page) == before)
    assert error_of(me.post("api/jobs", content=b"[" * 9_000_000), 413) == MALFORMED
    answer = me.post("api/poses", params={"name": "x.bvh"}, content=bytes(2_000_001))
    assert "larger than 2 MB" in error_of(answer, 413) and stored(page) == before
    assert '"x.bvh": ' in error_of(me.post("api/poses", params={"name": "../x.bvh"}, content=b"x"), 400)
    for second in ("", "nan", "x", "inf"):
        assert error_of(me.get("api/takes/x/pose", params={"second": second}), 400) == MALFORMED


def test_a_song_that_breaks_off_leaves_nothing(page):
    before, place = stored(page), httpx.URL(page.local_url)
    with socket.create_connection((place.host, place.port)) as connection:
        head = f"POST /api/songs?name=x.wav HTTP/1.1\r\nhost: x\r\nx-visitor: {ME}\r\ncontent-length: 500000\r\n\r\n"
        connection.sendall(head.encode() + bytes(1000))
        until(lambda: len(stored(page)) == len(before) + 1)
    until(lambda: stored(page) == before)


def test_uploads_at_a_time_are_limited(own_page, song):
    """Slow ones would fill the disk beyond its budget."""
    place, open_ones = httpx.URL(own_page.local_url), []
    for number in range(LIMITS.waiting + 1):
        open_ones.append(socket.create_connection((place.host, place.port)))
        head = f"POST /api/songs?name=x.wav HTTP/1.1\r\nhost: x\r\nx-visitor: {number:032x}\r\ncontent-length: 500000\r\n\r\n"
        open_ones[-1].sendall(head.encode() + bytes(1000))
    until(lambda: len(stored(own_page)) == len(open_ones))
    me = Visitor(own_page)
    assert error_of(me.post("api/songs", params={"name": "x.wav"}, content=song), 503) == BUSY
    for connection in open_ones:
        connection.close()
    until(lambda: stored(own_page) == [])
    me.give(song)


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "x.wav", "The file is empty"),
        (b"no music " * 100, "/etc/text.mp3", "'text.mp3' is not audio"),
        (b"no music " * 100, "x" * 500 + ".wav\x00\n", "is not audio"),
        (b"no music " * 100, "", "'song' is not audio"),
    ],
)
def test_what_is_no_song(page, content, name, message):
    before = stored(page)
    text = error_of(Visitor(page).post("api/songs", params={"name": name}, content=content), 400)
    assert message in text and len(text) < 400 and "given" not in text and "/" not in text.replace("and/or", "")
    assert stored(page) == before


def test_silence_is_no_song(page):
    memory = io.BytesIO()
    soundfile.write(memory, np.zeros(44100), 22050, format="WAV")
    text = error_of(Visitor(page).post("api/songs", params={"name": "quiet.wav"}, content=memory.getvalue()), 400)
    assert "silent" in text and "quiet.wav" in text


def test_requests_that_make_no_sense(page, song):
    me = Visitor(page)
    given, before = me.give(song)["song"], None
    before = stored(page)
    for content in (
        b"",
        b"{",
        b"[]",
        b'"x"',
        b'{"kind": NaN}',
        b'{"kind": "dance", "seconds": 1e999}',
        b"\xff" * 10,
        b"[" * 99999,
    ):
        answer = me.post("api/jobs", content=content)
        assert error_of(answer, 400 if b"999}" not in content else 404)
    for wanted, message in (
        ({"kind": "fly"}, MALFORMED),
        ({"kind": ["dance"]}, MALFORMED),
        ({}, MALFORMED),
        ({"kind": "dance", "song": given, "seconds": 5}, "from 1 to 4; 5 was asked for"),
        ({"kind": "dance", "song": given, "seconds": 10**400}, "from 1 to 4"),
        ({"kind": "dance", "song": given, "start": 4}, "The song ends after 4 seconds"),
        ({"kind": "dance", "song": given, "plan": [["polka", 0]]}, "'polka' is unknown here"),
        ({"kind": "dance", "song": given, "prompt": "slowly"}, "In words this model can be asked for dances"),
        ({"kind": "dance", "song": given, "attributes": {"speed": 1}}, "'speed' is unknown here"),
        ({"kind": "open", "song": given, "project": {"megadance_project": 1}}, "another model"),
        ({"kind": "open", "song": given, "project": "x"}, "no dance that was saved here"),
    ):
        assert message in error_of(me.post("api/jobs", json=wanted), 400)
    assert error_of(me.get("api/jobs/x"), 404) == error_of(me.get("api/takes/x"), 404) == GONE
    for method, path, status in (
        ("PUT", "api/songs", 405),
        ("GET", "api/songs", 405),
        ("GET", "api/x", 404),
        ("POST", "", 405),
    ):
        assert me.request(method, path).status_code == status
    assert stored(page) == before


def test_changes_that_do_not_fit_fail_in_a_sentence(page, song):
    """Found by the pipeline, while the job is worked on."""
    me = Visitor(page)
    plan = [["waltz", 0], ["rumba", 1], ["chacha", 1.05]]
    status = me.wait(me.begin("dance", song=me.give(song)["song"], plan=plan))
    assert status["state"] == "failed" and status["takes"] == [] and "too near to 'rumba'" in status["error"]


def test_a_bug_is_written_down_and_not_told(own_page, song, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("secret reason")

    me = Visitor(own_page)
    monkeypatch.setattr(own_page.studio, "dance", broken)
    status = me.wait(me.begin("dance", song=me.give(song)["song"]))
    assert status["state"] == "failed" and "written down there" in status["error"] and "secret" in caplog.text
    monkeypatch.setattr(own_page.studio, "listen", broken)
    text = error_of(me.post("api/songs", params={"name": "x.wav"}, content=song), 500)
    assert "written down there" in text and "secret" not in text


# --- the queue -------------------------------------------------------------------------------------------------------


def test_cancelling_over_http(own_page, song, monkeypatch):
    endless, me = Endless(own_page.studio, monkeypatch), Visitor(own_page)
    job = me.begin("dance", song=me.give(song)["song"])
    until(lambda: endless.began)
    status = me.get(f"api/jobs/{job}").json()
    assert status["state"] == "working" and status["step"] == "Dancing" and status["seconds_left"] is not None
    began = time.monotonic()
    assert me.delete(f"api/jobs/{job}").json()["state"] == "cancelled"
    until(lambda: endless.stopped)
    assert time.monotonic() - began < 1
    assert me.get(f"api/jobs/{job}").json()["state"] == "cancelled"


def test_a_real_dance_is_cancelled(page, song):
    """In the middle of generating, whatever it is doing; nothing stays of it."""
    me = Visitor(page)
    given = me.give(song)["song"]
    me.make("dance", song=given)  # what is done once is done
    for _ in range(3):
        before = stored(page)
        job = me.begin(
            "redo", take=me.make("dance", song=given)["takes"][0]["id"], start=0, end=4, candidates=16, show=4
        )
        until(lambda job=job: me.get(f"api/jobs/{job}").json()["state"] == "working")
        me.delete(f"api/jobs/{job}")
        until(lambda: page.jobs._working is None, 5)
        assert me.get(f"api/jobs/{job}").json()["takes"] == [] and len(stored(page)) == len(before) + 1


def test_places_and_the_end_of_the_queue(own_page, song, monkeypatch):
    endless = Endless(own_page.studio, monkeypatch)
    visitors = [Visitor(own_page, f"{number:032x}") for number in range(5)]
    given = [visitor.give(song)["song"] for visitor in visitors]
    made = [visitor.begin("dance", song=one) for visitor, one in zip(visitors[:4], given, strict=False)]
    until(lambda: endless.began)
    places = [visitor.get(f"api/jobs/{job}").json()["place"] for visitor, job in zip(visitors, made, strict=False)]
    assert places == [0, 1, 2, 3]
    assert error_of(visitors[4].post("api/jobs", json={"kind": "dance", "song": given[4]}), 503) == BUSY
    again = visitors[0].begin("dance", song=given[0])  # in place of her first
    until(lambda: len(endless.stopped) == 1)
    assert visitors[0].get(f"api/jobs/{made[0]}").json()["state"] == "cancelled"
    assert visitors[0].get(f"api/jobs/{again}").json()["place"] == 3


def test_nobody_dances_for_visitors_who_have_left(own_page, song, monkeypatch):
    monkeypatch.setattr(jobs, "LEFT_SECONDS", 1.0)
    endless, (me, her) = Endless(own_page.studio, monkeypatch), (Visitor(own_page), Visitor(own_page, SHE))
    songs = [visitor.give(song)["song"] for visitor in (me, her)]
    mine = me.begin("dance", song=songs[0])
    until(lambda: endless.began)
    hers = her.begin("dance", song=songs[1])
    until(lambda: me.get(f"api/jobs/{mine}") and own_page.jobs.find(hers, SHE).state == "cancelled")
    assert me.get(f"api/jobs/{mine}").json()["state"] == "working", "somebody still asks"
    until(lambda: endless.stopped)
    assert endless.began == [ME] and own_page.jobs.find(mine, ME).state == "cancelled"


# --- the disk, and the end -------------------------------------------------------------------------------------------


def test_songs_go_by_themselves_and_are_refused_when_there_is_no_room(own_page, song):
    page, me = own_page, Visitor(own_page)
    given = me.give(song)
    page.studio.limits = Limits(song_seconds=4, megabytes=1, disk_megabytes=0.1)
    assert error_of(me.post("api/songs", params={"name": "x.wav"}, content=song), 507) == NO_ROOM
    assert error_of(me.post("api/jobs", json={"kind": "dance", "song": given["song"]}), 507) == NO_ROOM
    page.studio.kept_seconds = 1.0
    until(lambda: stored(page) == [])
    assert me.get(given["sound"]).status_code == 404
    me.give(song)
    home = page.home.folder
    page.close()
    page.close()
    assert not home.exists()
    with pytest.raises(httpx.ConnectError):
        me.get("")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_nothing_stays_when_the_server_ends(model, song, repository, tmp_path):
    """SIGTERM removes songs and dances; what a killed server left, the next one sweeps; new pages know nothing of old ones."""
    environment = {**os.environ, "PYTHONPATH": str(repository), "TMPDIR": str(tmp_path)}
    code = "import os; from megadance_hf.modeling.files_megadance import Scratch; Scratch(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], env=environment)
    (left,) = os.listdir(tmp_path)
    command = [sys.executable, "-m", "megadance_hf.cli", "demo", "--model", str(model)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    with process.stdout:
        address = re.search(r"http://\S+", process.stdout.readline())[0]
        answer = httpx.post(f"{address}api/songs?name=x.wav", content=song, headers={"x-visitor": ME}, timeout=60)
        (home,) = (name for name in os.listdir(tmp_path) if name.startswith(".megadance-"))
        assert home != left and list((tmp_path / home).rglob(f"{answer.json()['song']}/given.wav"))
        assert (tmp_path / home).stat().st_mode & 0o77 == 0, "nobody else's business"
        process.terminate()
        assert process.wait(30) == 0
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


def test_blocking_until_it_is_closed(model, monkeypatch, capsys):
    def interrupt(page):
        assert httpx.get(page.local_url).status_code == 200
        raise KeyboardInterrupt

    monkeypatch.setattr(server.Page, "block_thread", interrupt)
    with pytest.raises(KeyboardInterrupt):
        launch(model, body="smooth")
    address = re.search(r"http://\S+", capsys.readouterr().out)[0]
    with pytest.raises(httpx.ConnectError):
        httpx.get(address)


# --- the command, the Space ------------------------------------------------------------------------------------------


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


def test_the_space_is_complete(repository, tmp_path):
    """What `gather.py` puts together runs by itself: with the package beside app.py, not the installed one."""
    space = repository / "examples" / "space"
    constants = declared()
    lines = (space / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line[0] not in "#-"] == [*constants["REQUIREMENTS"], *constants["EXTRAS"]["demo"]]
    subprocess.run([sys.executable, space / "gather.py", tmp_path / "space"], check=True, capture_output=True)
    again = subprocess.run([sys.executable, space / "gather.py", tmp_path / "space"], capture_output=True, text=True)
    assert again.returncode == 1 and "give the name of a new folder" in again.stderr
    code = (
        "import app, httpx, megadance_hf.demo as demo, megadance_hf.modeling.configuration_megadance as modeling\n"
        "print(demo.__file__); print(modeling.__file__)\n"
        "page = demo.launch(block=False); print(httpx.get(page.local_url).status_code, page.local_url); page.close()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "space", capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count(str(tmp_path / "space")) == 2 and "200 http://127.0.0.1:" in ran.stdout
    front = (space / "README.md").read_text(encoding="utf-8").split("---")[1]
    (port,) = re.findall(r"app_port: (\d+)", front)
    docker = (tmp_path / "space" / "Dockerfile").read_text(encoding="utf-8")
    assert "sdk: docker" in front and f"EXPOSE {port}" in docker and 'CMD ["python", "app.py"]' in docker
    assert f'host="0.0.0.0", port={port}' in (space / "app.py").read_text(encoding="utf-8")
