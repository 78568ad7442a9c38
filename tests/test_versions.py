"""The tests with other versions: which versions are asked for, and what a failure says."""

import os
import re
import subprocess
import sys

from versions import EXTRAS, declared, find_python, lower_bounds


def test_lower_bounds_are_those_of_setup_py():
    bounds = lower_bounds()
    assert all(re.fullmatch(r"[\w-]+==\d[\w.]*\.\d+(\.\d+)*", line) for line in bounds), bounds
    names = [line.split("==")[0] for line in bounds]
    assert {"torch", "transformers", "accelerate", "smplx"} <= set(names) and len(names) == len(set(names))
    constants = declared()
    assert len(bounds) == len(constants["REQUIREMENTS"]) + sum(
        len(constants["EXTRAS"][extra]) for extra in EXTRAS["lowest"]
    )


def test_a_python_is_found_among_those_that_setup_py_names():
    versions = declared()["PYTHON_VERSIONS"]
    for kind in ("lowest", "newest"):
        code = "import sys; print('{}.{}'.format(*sys.version_info))"
        done = subprocess.run([find_python(kind), "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() in versions


def test_a_failure_names_the_versions(tmp_path, repository):
    (tmp_path / "test_it.py").write_text("def test_it():\n    assert False\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    command += ["-c", os.devnull, "--confcutdir", str(tmp_path), "-p", "conftest", str(tmp_path)]
    environment = {**os.environ, "MEGADANCE_VERSIONS": "newest: transformers 99.0"}
    environment["PYTHONPATH"] = os.pathsep.join([str(repository / "tests"), *sys.path])
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and "newest: transformers 99.0" in done.stdout
