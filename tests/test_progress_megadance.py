"""Progress in a terminal is a bar, in a file or a pipe a line now and then."""

import io
import re

import pytest

from megadance_hf.modeling import progress_megadance
from megadance_hf.modeling.progress_megadance import progress_bar


class Clock:
    """Seconds that pass only when they are told to."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(progress_megadance, "time", made)
    return made


def test_an_hour_gets_a_line_per_minute(clock, capsys):
    with progress_bar(desc="training", total=3600, unit="step") as bar:
        for second in range(3600):
            clock.now = second + 1.0
            bar.set_postfix(loss="1.5")
            bar.update()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 60
    assert lines[0] == "training 2%, 60/3600 steps, 0:59:00 left, loss 1.5"
    assert lines[-1] == "training 100%, 3600/3600 steps, took 1:00:00, loss 1.5"


def test_short_work_gets_one_line_and_a_minute_at_most_ten(clock, capsys):
    assert list(progress_bar(range(50), desc="encoding", unit="clip")) == list(range(50))
    assert capsys.readouterr().err == "encoding 100%, 50/50 clips, took 0:00:00\n"
    for _ in progress_bar(range(1000), desc="encoding", unit="clip"):
        clock.now += 0.06
    assert 9 <= len(capsys.readouterr().err.splitlines()) <= 11


def test_without_a_total(clock, capsys):
    bar = progress_bar(iter("abc"), desc="reading", unit="file")
    for _ in bar:
        clock.now += 61
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "reading 1 files, 0:01:01 so far" and len(lines) == 3


def test_nothing_is_written_if_disabled_or_nothing_was_done(capsys):
    assert list(progress_bar([1, 2], desc="x", disable=True)) == [1, 2]
    progress_bar(desc="x", total=3).close()
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("transformers.utils.logging._tqdm_active", True)  # the tests have disabled its bars
    with progress_bar(desc="dancing", total=4, unit="s", bar_format="{desc} {percentage:3.0f}%") as bar:
        bar.update(4)
    assert re.search(r"\rdancing 100%", terminal.getvalue())


def test_every_bar_of_the_package_is_this_one(repository):
    for package in ("modeling", "datasets_scripts", "megadance_hf", "examples"):
        for path in (repository / package).glob("*.py"):
            if path.name != "progress_megadance.py":
                assert "import tqdm" not in path.read_text(encoding="utf-8"), path
