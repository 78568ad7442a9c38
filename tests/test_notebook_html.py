"""A dance in a notebook: one piece of HTML, with its sound, shut off from the page around it, and moving in a browser."""

import base64
import gc
import html
import io
import json
import re
import sys
import types

import numpy as np
import pytest
import soundfile
from browser import REMEDY, find_browser
from helpers import click_song, save_tiny_model, skip_outside_ci, write_song
from test_export import random_motion

from megadance_hf import Motion, MusicToDancePipeline
from megadance_hf.export import notebook as module
from megadance_hf.export.notebook import MAX_CELL_SECONDS, SAMPLE_RATE, song_of, stage_page
from megadance_hf.motion.motion import MotionError


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return MusicToDancePipeline.from_pretrained(save_tiny_model(tmp_path_factory.mktemp("tiny")))


def shown(page: str) -> dict:
    """What a page was told to show."""
    return json.loads(re.search(r"^const show = (\{.*\});$", page, re.MULTILINE)[1])


def within(framed: str) -> str:
    """The page in a frame."""
    return html.unescape(re.search(r'srcdoc="([^"]*)"', framed)[1])


def heard(page: str) -> tuple[np.ndarray, int]:
    return soundfile.read(io.BytesIO(base64.b64decode(shown(page)["song"])))


def test_the_page_holds_figure_and_sound(tmp_path):
    motion = random_motion(45)
    song = (click_song(3.0), 22050)
    page = stage_page(motion, song, 0.5)
    (dance,) = shown(page)["dances"]
    assert base64.b64decode(dance["glb"]) == motion.save(tmp_path / "dance.glb").read_bytes()
    sound, rate = heard(page)
    assert rate == SAMPLE_RATE and len(sound) == round(1.5 * SAMPLE_RATE)
    np.testing.assert_allclose(sound, song[0][11025 : 11025 + len(sound)], atol=4e-5)
    assert shown(page)["seconds"] == 1.5 and shown(stage_page(motion))["song"] is None
    smooth = shown(stage_page(motion, body="smooth"))["dances"][0]["glb"]
    assert base64.b64decode(smooth) == motion.save(tmp_path / "smooth.glb", body="smooth").read_bytes()
    with pytest.raises(MotionError, match="body='bear'"):
        stage_page(motion, body="bear")


def test_the_page_makes_no_request_and_escapes_text():
    motion = random_motion(10)
    motion.genre = "</script><script>alert(1)</script>\"'"
    page = stage_page(motion, notice="<b>&")
    assert not re.search(
        r"""(?:src|href)\s*=\s*["'](?!$)|\bimport\b[^(]*from|\bimport\(""", page.split("const show")[1]
    )
    assert (
        page.count("</script>") == 1 and shown(page)["dances"][0]["genre"] == motion.genre and "&lt;b&gt;&amp;" in page
    )
    framed = motion._repr_html_()
    assert framed.count("<") == 2 and 'sandbox="allow-scripts"' in framed, "one element, with a closing tag"
    assert shown(within(framed))["dances"][0]["genre"] == motion.genre


def test_a_cell_s_last_line_has_the_song_of_the_dance(pipe, tmp_path):
    path = write_song(tmp_path / "song.wav", seconds=2.0)
    dance = pipe(path, seed=0, start=0.5)
    sound, _ = heard(within(dance._repr_html_()))
    np.testing.assert_allclose(sound, soundfile.read(path)[0][11025 : 11025 + len(sound)], atol=4e-5)
    assert shown(within(dance[:20]._repr_html_()))["song"] is None, "another motion, of which nothing is known"
    path.write_bytes(b"no song any more")
    assert "Its song cannot be read any more." in within(dance._repr_html_())
    path.unlink()
    assert song_of(dance) is None and shown(within(dance._repr_html_()))["song"] is None

    waveform = click_song(1.0)
    dance = pipe((waveform, 22050), seed=0)
    assert len(heard(within(dance._repr_html_()))[0]) == SAMPLE_RATE
    del waveform
    gc.collect()
    assert song_of(dance) is None, "a dance keeps no song in memory"


def test_long_dances_are_shown_in_part():
    motion = Motion(np.zeros((75 * 30, 24, 3)), np.zeros((75 * 30, 3)))
    page = within(motion._repr_html_())
    assert (
        shown(page)["seconds"] == MAX_CELL_SECONDS and "The first 60 of 75.0 seconds; show() has all of them." in page
    )
    assert motion.duration == motion.seconds == 75


def test_show_in_a_notebook_and_elsewhere(monkeypatch, capsys, tmp_path):
    motion, opened = random_motion(30), []
    monkeypatch.setattr(module.webbrowser, "open", opened.append)
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    motion.show((click_song(1.0), 22050), seconds=0.5)
    (file,) = tmp_path.glob("dance-*.html")
    assert opened == [file.as_uri()] and str(file) in capsys.readouterr().out
    assert shown(file.read_text(encoding="utf-8"))["seconds"] == 0.5
    with pytest.raises(ValueError, match="seconds=0: give a number above 0"):
        motion.show(seconds=0)

    displayed = []
    notebook = types.ModuleType("IPython")
    notebook.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    notebook.display = types.SimpleNamespace(HTML=str, display=displayed.append)
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    monkeypatch.setitem(sys.modules, "IPython.display", notebook.display)
    motion.show()
    assert len(opened) == 1 and shown(within(displayed[0]))["seconds"] == 1


@pytest.mark.slow
def test_it_dances_in_a_browser(tmp_path):
    """In a page as notebooks have them: it moves with the sound, and reaches nothing outside."""
    from playwright.sync_api import sync_playwright

    found = find_browser()
    if found is None:
        skip_outside_ci(f"no browser: {REMEDY}")
    motion = random_motion(90)
    silent, sounding = motion._repr_html_(), module.iframe(stage_page(motion, (click_song(3.0), 22050)))
    (tmp_path / "notebook.html").write_text(f"<!doctype html><body>{silent}{sounding}</body>", encoding="utf-8")
    options = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]
    options += ["--autoplay-policy=no-user-gesture-required"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(args=options, **found)
        page, asked, errors = browser.new_page(viewport={"width": 1000, "height": 1200}), [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((tmp_path / "notebook.html").as_uri())
        for one in page.frames[1:]:
            one.wait_for_function("window.megadanceStage?.shown", timeout=120_000)
            assert one.evaluate("megadanceStage.audio.duration") == pytest.approx(3.0, abs=0.01)
            one.click(".play")
            one.wait_for_function("megadanceStage.audio.currentTime > 0.1", timeout=120_000)
            # at once, so that no frame of the page's own comes between
            poses = one.evaluate(
                "[0.5, 2.0].map((time) => { megadanceStage.draw(time); "
                "return megadanceStage.dancers[0].figure.getObjectByName('left_knee').quaternion.toArray(); })"
            )
            assert np.abs(np.subtract(*poses)).max() > 0.05
            assert (
                one.evaluate("(() => { try { return parent.document.title } catch { return 'shut off' } })()")
                == "shut off"
            )
        assert [one.locator(".loudness").is_visible() for one in page.frames[1:]] == [False, True]
        assert errors == [] and all(url.startswith(("file:", "blob:")) for url in asked)
        browser.close()
