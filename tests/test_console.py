"""The command in its terminal: stopped by signals, with closed pipes, in a locale without its letters. As real processes."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from megadance_hf import Motion
from megadance_hf.cli import console

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and pipes of POSIX")

COMMAND = [sys.executable, "-m", "megadance_hf.cli"]


@pytest.fixture
def environment(repository):
    return {**os.environ, "PYTHONPATH": str(repository)}


@pytest.fixture
def dance(tmp_path):
    path = tmp_path / "dance.npz"
    Motion(np.zeros((1500, 72)), np.zeros((1500, 3))).save(path)
    return path


def test_stopped_in_the_middle_of_writing(dance, tmp_path, environment):
    """SIGTERM and Ctrl-C tidy up; what SIGKILL leaves, the next run sweeps."""
    running = {}
    for name in ("SIGTERM", "SIGINT", "SIGKILL"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "b.glb").write_text("old")
        command = [*COMMAND, "export", dance, "-o", "a.npz", "-o", "b.glb", "-o", "c.mp4"]
        running[name] = subprocess.Popen(
            command,
            cwd=tmp_path / name,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            # a shell ignores it in what it starts in the background, and so would what the tests start
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    for name, process in running.items():
        until = time.monotonic() + 120
        while not list((tmp_path / name).glob(".megadance-*/b.glb")):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(getattr(signal, name))
    errors = {name: process.communicate(timeout=120)[1] for name, process in running.items()}
    status = {name: process.returncode for name, process in running.items()}
    assert status == {"SIGTERM": 143, "SIGINT": 130, "SIGKILL": -9}
    for name in running:
        left = sorted(path.name for path in (tmp_path / name).iterdir())
        assert (tmp_path / name / "b.glb").read_text() == "old"
        if name == "SIGKILL":
            assert len(left) == 2 and left[0].startswith(".megadance-")
        else:
            assert left == ["b.glb"] and errors[name].endswith("\nmegadance: stopped, nothing was written\n")
            assert "Traceback" not in errors[name]
    again = [*COMMAND, "export", dance, "-o", "SIGKILL/a.npz"]
    ran = subprocess.run(again, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert sorted(os.listdir(tmp_path / "SIGKILL")) == ["a.npz", "b.glb"]


def test_signals_that_are_ignored_stay_so_and_handlers_are_given_back():
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with console.stoppable():
            os.kill(os.getpid(), signal.SIGHUP)
        with pytest.raises(console.Stopped) as caught, console.stoppable():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)  # does not disturb the tidying
        assert console.status_of(caught.value) == 143 and console.status_of(KeyboardInterrupt()) == 130
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN and signal.getsignal(signal.SIGTERM) == before
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def shell(script: str, folder: Path, environment: dict, **more) -> subprocess.CompletedProcess:
    script = script.replace("megadance ", f"{sys.executable} -m megadance_hf.cli ")
    options = {"capture_output": True, "text": True, "encoding": "utf-8", "timeout": 120}
    return subprocess.run(["bash", "-c", script], cwd=folder, env={**environment, **more}, **options)


@pytest.mark.parametrize(
    ("script", "status", "message"),
    [
        ("megadance --help | true; exit ${PIPESTATUS[0]}", 0, ""),
        ("megadance --help >&- 2>/dev/null", 0, ""),
        ("megadance dance 2>&1 >/dev/null | true; exit ${PIPESTATUS[0]}", 2, ""),
        ("megadance export ../dance.npz -o a.pkl -o b.bvh 2>&1 | true; exit ${PIPESTATUS[0]}", 0, ""),
        (
            "megadance --help > /dev/full",
            2,
            "megadance: error: standard output cannot be written (No space left on device): send it elsewhere\n",
        ),
    ],
)
def test_closed_pipes_and_full_disks(script, status, message, dance, environment, tmp_path):
    """The work is done all the same, and nothing complains."""
    (tmp_path / "here").mkdir()
    ran = shell(script, tmp_path / "here", environment)
    assert (ran.returncode, ran.stderr) == (status, message)
    assert sorted(os.listdir(tmp_path / "here")) == (["a.pkl", "b.bvh"] if "../dance" in script else [])


def test_letters_that_the_locale_lacks(dance, environment, tmp_path):
    dance.rename(tmp_path / "Tänzer 舞.npz")
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    ran = shell(
        "megadance export 'Tänzer 舞.npz' -o ö.npz -o ö.bvh -o ö.json -o ö.glb", tmp_path, environment, **locale
    )
    assert (ran.returncode, ran.stderr) == (0, "") and ran.stdout.count("wrote ") == 4 and ran.stdout.isascii()
    assert {"ö.npz", "ö.bvh", "ö.json", "ö.glb"} < set(os.listdir(tmp_path))


def test_letters_that_the_output_lacks():
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="ascii")
    with contextlib.redirect_stdout(stream), console.safe_streams():
        print("wrote ä 舞.mp4")
    assert written.getvalue() == b"wrote \\xe4 \\u821e.mp4\n"


def test_help_is_a_command_too(capsys):
    from megadance_hf.cli import command as cli

    for argv, begins in ((["help"], "usage: megadance [-h]"), (["help", "export"], "usage: megadance export")):
        with pytest.raises(SystemExit) as caught:
            cli.main(argv)
        assert caught.value.code == 0 and capsys.readouterr().out.startswith(begins)
