"""Simulated raters, whose preferences are known: they answer a study over HTTP as a browser would, or straight into its database."""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import httpx
import numpy as np
from helpers import write_song

from megadance_hf import Motion
from megadance_hf.study.answers import Answers, Refused
from megadance_hf.study.clips import new_study
from megadance_hf.study.design import DISTORTIONS, KEY, PAGE, PRACTICE, VIDEOS, Clip, Design, Study

ROOT = Path(__file__).resolve().parent.parent
SYSTEMS = ("ours", "nearest", "truth")
THRESHOLDS = (-3.0, -1.0, 1.0, 3.0)  # logits between Terrible, Bad, Fair, Good and Great
# How good the dances are, in logits; what a distortion costs.
WORTH = {"ours": 0.5, "nearest": -1.0, "truth": 2.0}
HARM = {"jitter": 4.0, "shift": 2.5, "frozen": 5.0, "slide": 4.0}


def write_dances(folder: Path, count: int, seconds: float, wider: int = 0) -> Path:
    """Dances of swinging limbs to `count` songs, `song0.npz`, ...; the larger `wider`, the wider they swing."""
    folder.mkdir(parents=True, exist_ok=True)
    moment = np.arange(round(seconds * 30) + 30)[:, None] / 30
    for number in range(count):
        phases = np.random.default_rng(number).uniform(0, 6, (1, 72))
        poses = (0.2 + 0.15 * wider) * np.sin(2 * np.pi * moment + phases)
        Motion(poses, 0 * moment + [[0, 0.95, 0]]).save(folder / f"song{number}.npz")
    return folder


def make_study(
    folder: Path, songs: int = 4, seconds: float = 1.0, systems=SYSTEMS, names: int | None = None, **settings
) -> Path:
    """A study of tiny clips in `folder / "study"`. Their names decide who sees what: drawn with the seed `names`, it is the same in each run."""
    for number in range(songs):
        (folder / "songs").mkdir(parents=True, exist_ok=True)
        write_song(folder / "songs" / f"song{number}.wav", seconds=seconds + 0.5)
    sources = {name: str(write_dances(folder / name, songs, seconds, wider)) for wider, name in enumerate(systems)}
    settings = {"contact": "A. Name, a@example.org", "title": "Dances", "trials": songs * len(systems)} | settings
    settings = {"reference": "truth", "size": (64, 64), "seconds": seconds} | settings
    random = np.random.default_rng(names)
    drawn = secrets if names is None else SimpleNamespace(token_hex=lambda size: random.bytes(size).hex())
    with mock.patch("megadance_hf.study.clips.secrets", drawn):
        return new_study(folder / "study", folder / "songs", sources, **settings)


@contextmanager
def serving(folder: Path, *options: str):
    """`megadance study serve` in a process of its own: yields the process and the address."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    command = [sys.executable, "-m", "megadance_hf.cli", "study", "serve", str(folder), *options]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(process.stderr.read())
        yield process, re.search(r"http://[^/\s]+", line)[0], re.search(r"http://\S+", process.stdout.readline())[0]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


class Rater:
    """What somebody thinks of clips. A careless one clicks anything.

    Attributes:
        taste: (systems,) own preferences beside those of everybody, in logits.
    """

    def __init__(self, study: Study, number: int, careless: bool = False, noise: float = 1.0):
        self.study, self.careless, self.noise = study, careless, noise
        self.random = np.random.default_rng([7, number])
        self.mildness = self.random.normal(0, 0.5)
        self.taste = self.random.normal(0, 0.3, len(study.design.systems))

    def score(self, clip: int, question: str) -> float:
        """How good a clip is to this rater now, in logits."""
        one = self.study.clips[clip]
        worth = WORTH[self.study.design.systems[one.system]] + 0.1 * one.song + self.taste[one.system]
        if one.distortion in HARM:
            worth -= HARM[one.distortion]
        return worth + self.noise * self.random.logistic()

    def content(self, clips) -> dict:
        """An answer as the page sends it."""
        design, pairs = self.study.design, len(clips) > 1
        values = {}
        for question in design.questions:
            if self.careless:
                values[question] = int(self.random.integers(1, 3 if pairs else 6))
            elif pairs:
                values[question] = 1 if self.score(clips[0], question) > self.score(clips[1], question) else 2
            else:
                rating = 1 + int((self.mildness + self.score(clips[0], question) > np.array(THRESHOLDS)).sum())
                values[question] = rating
        seconds = float(self.random.uniform(2, 9))
        return {"values": values, "played": design.seconds, "seconds": seconds, "focus": 0, "plays": len(clips)}


def answer_directly(folder: Path, raters: int, careless: int = 0, only: int | None = None) -> None:
    """Let raters answer everything (`only` so many trials), the last ones carelessly; without a server and without waiting."""
    study, now = Study(folder), [1e9]
    answers = Answers(study, clock=lambda: now[0])
    answers.check_unchanged()
    for number in range(raters):
        rater, secret = Rater(study, number, number >= raters - careless), secrets.token_hex(16)
        answers.join(secret, "en", "some")
        for _ in range(10_000 if only is None else only + 1):
            shown = answers.next(secret)
            if shown.trial is None:
                break
            now[0] += 1000
            answers.answer(secret, shown.ticket, rater.content(shown.trial.clips))
    answers.shut()
    answers.close()


class Browser:
    """The requests of a rater's browser, one after the other."""

    def __init__(self, address: str, secret: str | None = None):
        self.secret = secret or secrets.token_hex(16)
        self.client = httpx.Client(base_url=address, timeout=60, headers={"authorization": f"Bearer {self.secret}"})

    def post(self, path: str, content=None) -> dict:
        response = self.client.post(path, json=content or {})
        if response.status_code != 200:
            raise Refused(response.json()["refused"], response.status_code)
        return response.json()

    def join(self, language: str = "en") -> dict:
        return self.post("/join", {"consent": True, "language": language, "experience": "years"})

    def next(self) -> dict:
        return self.post("/next")

    def watch(self, shown: dict) -> list[httpx.Response]:
        return [self.client.get(address) for address in shown["clips"]]


def clips_in(folder: Path) -> dict[bytes, int]:
    """Index of each clip of a study by its file's content: what a rater sees in a video."""
    study = Study(folder)
    return {(folder / "videos" / clip.file).read_bytes(): index for index, clip in enumerate(study.clips)}


def answer_over_http(address: str, folder: Path, raters: int, careless: int = 0, trials: int | None = None) -> int:
    """Raters at once, each with requests of its own: how many answers of theirs were acknowledged, without practice."""
    study, known = Study(folder), clips_in(folder)
    browsers = [Browser(address) for _ in range(raters)]
    for browser in browsers:  # in their order, which decides who gets which trials
        browser.join()

    def one(number: int) -> int:
        rater, browser = Rater(study, number, number >= raters - careless), browsers[number]
        acknowledged = 0
        while trials is None or acknowledged < trials:
            shown = browser.next()
            if shown["state"] != "trial":
                break
            clips = [known[response.content] for response in browser.watch(shown)]
            time.sleep(len(clips) * study.design.seconds)
            saved = browser.post("/answer", rater.content(clips) | {"ticket": shown["ticket"]})
            assert saved == {"saved": True}
            acknowledged += not shown["practice"]
        browser.client.close()
        return acknowledged

    with ThreadPoolExecutor(raters) as pool:
        return sum(pool.map(one, range(raters)))


def made_up_study(folder: Path, songs: int = 4, systems=SYSTEMS, **settings) -> Path:
    """A study folder whose videos are no videos: all of it but the pictures."""
    settings = {"contact": "A. Name", "title": "Dances", "trials": songs * len(systems), "seconds": 0.5} | settings
    names = [f"song{number}" for number in range(songs)]
    design = Design(systems=list(systems), reference="truth", songs=names, **settings)
    truth, random = design.systems.index("truth"), np.random.default_rng(0)
    wanted = [(song, system, None) for song in range(songs) for system in range(len(systems))]
    wanted += [(song, truth, kind) for kind in DISTORTIONS for song in range(min(songs, 3))]
    wanted += [(0, truth, PRACTICE), (0, 0, PRACTICE)]
    (folder / VIDEOS).mkdir(parents=True)
    clips = []
    for index, (song, system, distortion) in enumerate(wanted):
        clips.append(Clip(f"{random.bytes(8).hex()}.mp4", song, system, distortion))
        (folder / VIDEOS / clips[-1].file).write_bytes(index.to_bytes(4, "big") + bytes(2000))
    shutil.copytree(ROOT / "megadance_hf" / "study" / "page", folder / PAGE)
    design.save(folder)
    rows = [vars(clip) for clip in clips]
    (folder / KEY).write_text(json.dumps({"clips": rows}), encoding="utf-8")
    return folder
