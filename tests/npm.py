"""Tools of the tests that come as npm packages."""

import shutil
import subprocess
import sys
from pathlib import Path


def fetch(package: str, folder: str | Path, purpose: str, remedy: str) -> Path:
    """The archive (.tgz) of a package, `name@version`, put into a folder.

    Raises:
        SystemExit: there is no npm, or it cannot fetch the package; says for what `purpose` and the `remedy`.
    """
    if shutil.which("npm") is None:
        sys.exit(f"no {purpose}: {remedy}")
    command = ["npm", "pack", "--silent", "--pack-destination", str(folder), package]
    if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
        sys.exit(f"npm cannot fetch {package}, {purpose}: {remedy}")
    (archive,) = Path(folder).glob("*.tgz")
    return archive
