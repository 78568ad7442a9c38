"""The lower bounds of setup.py are versions that `tests/versions.py lowest` can install."""

import re
import subprocess

import pytest
import versions
from versions import EXTRAS, declared, lower_bounds


def test_every_requirement_has_one_lower_bound():
    bounds, constants = lower_bounds(), declared()
    assert all(re.fullmatch(r"[\w-]+==\d[\w.]*\.\d+(\.\d+)*", line) for line in bounds), bounds
    names = [line.split("==")[0] for line in bounds]
    assert {"torch", "transformers", "accelerate", "smplx"} <= set(names) and len(names) == len(set(names))
    extras = [line for extra in EXTRAS["lowest"] for line in constants["EXTRAS"][extra]]
    assert set(bounds) == {line.replace(">=", "==") for line in [*constants["REQUIREMENTS"], *extras]}


def test_what_cannot_be_installed_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    """pip has said why; what is left of the disk is the usual reason. CUDA's libraries fill it."""
    run = subprocess.run

    def no_pip(command, **options):
        return run(command, **options) if "venv" in command else subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(versions, "ROOT", tmp_path)
    monkeypatch.setattr(versions.subprocess, "run", no_pip)
    monkeypatch.setattr(versions, "find_python", lambda kind: versions.sys.executable)
    monkeypatch.setattr(versions, "lower_bounds", list)
    with pytest.raises(
        SystemExit, match=r"could not install the lowest versions into .*\(pip ended with 1; [\d.]+ GB are free there\)"
    ):
        versions.main(["lowest", "--remove"])
    assert not (tmp_path / ".venv-lowest").exists()
