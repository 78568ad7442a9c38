"""Khronos' glTF validator for the tests: the npm package, run by node.

python tests/gltf_validator.py .venv/gltf-validator      # what `make test` runs: see to it that there is one
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import npm

FOLDER = Path(os.environ.get("MEGADANCE_GLTF_VALIDATOR") or Path(sys.prefix) / "gltf-validator")
NPM_PACKAGE = "gltf-validator@2.0.0-dev.3.10"
REMEDY = "install node and npm (on Debian: apt-get install nodejs npm), then run `make test` again"
_SCRIPT = """
const fs = require("fs"), [folder, ...paths] = process.argv.slice(1), validator = require(folder);
Promise.all(paths.map(path => validator.validateBytes(new Uint8Array(fs.readFileSync(path)), {maxIssues: 0})))
  .then(reports => console.log(JSON.stringify(reports.map(report => report.issues))));
"""


def find_validator() -> bool:
    return shutil.which("node") is not None and (FOLDER / "package.json").is_file()


def validate(*paths: Path) -> list[dict]:
    """The report of each file: `numErrors`, `numWarnings`, `numInfos`, `numHints` and their `messages`."""
    command = ["node", "-e", _SCRIPT, str(FOLDER.resolve()), *map(str, paths)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def install() -> None:
    """Fetch it into `FOLDER`, whole or not at all.

    Raises:
        SystemExit: there is no node, or npm cannot fetch it.
    """
    if shutil.which("node") is None:
        sys.exit(f"no node to run the glTF validator of the tests: {REMEDY}")
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER.parent) as folder:
        archive = npm.fetch(NPM_PACKAGE, folder, "glTF validator for the tests", REMEDY)
        with tarfile.open(archive) as package:
            package.extractall(folder, filter="data")  # into package/
        shutil.rmtree(FOLDER, ignore_errors=True)
        (Path(folder) / "package").rename(FOLDER)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        FOLDER = Path(sys.argv[1])
    if not find_validator():
        print("Fetching the glTF validator of the tests")
        install()
