"""A browser for the tests of the web page: one that is installed, or one of the tests' own.

    python tests/browser.py .venv/browser      # what `make test` runs: see to it that there is one

Playwright brings its own where its servers can be reached. Behind a mirror of the package registries, where they cannot, the npm
package @sparticuz/chromium holds one: Chromium, SwiftShader (3D without a graphics card) and the libraries that a bare
machine lacks, each as a Brotli file.
"""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import npm

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path(os.environ.get("MEGADANCE_BROWSER") or Path(sys.prefix) / "browser")
INSTALLED = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
NPM_PACKAGE = "@sparticuz/chromium@153.0.0"
REMEDY = "install one (on Debian: apt-get install chromium), or npm, then run `make test` again"


def find_browser() -> dict | None:
    """Keywords of Playwright's `chromium.launch` that say which browser and with what environment; None without any."""
    for name in INSTALLED:
        if path := shutil.which(name):
            return {"executable_path": path}
    if (own := FOLDER / "npm" / "chromium").is_file():
        libraries = os.pathsep.join(filter(None, (os.environ.get("LD_LIBRARY_PATH"), str(own.parent / "lib"))))
        return {"executable_path": str(own), "env": {**os.environ, "LD_LIBRARY_PATH": libraries}}
    names = ("chrome-headless-shell", "headless_shell", "Google Chrome for Testing")
    for path in sorted((FOLDER / "playwright").rglob("*")):
        if path.name in names and path.is_file():
            return {"executable_path": str(path)}
    return None


def install() -> None:
    """Fetch one into `FOLDER`.

    Raises:
        SystemExit: neither way works.
    """
    environment = {**os.environ, "PLAYWRIGHT_BROWSERS_PATH": str(FOLDER / "playwright")}
    command = [sys.executable, "-m", "playwright", "install", "chromium-headless-shell"]
    if subprocess.run(command, env=environment, capture_output=True).returncode == 0 and find_browser():
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = npm.fetch(NPM_PACKAGE, folder, "browser for the tests of the web page", REMEDY)
        unpack(archive, FOLDER / "npm")


def unpack(archive: Path, target: Path) -> None:
    """`chromium` with its libraries beside it and in `lib/`, whole or not at all."""
    import brotli

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder, tarfile.open(archive) as package:
        made = Path(folder) / "made"
        made.mkdir()
        for name in ("chromium", "swiftshader.tar", "al2023.tar"):
            content = brotli.decompress(package.extractfile(f"package/bin/{name}.br").read())
            if name == "chromium":
                (made / name).write_bytes(content)
                (made / name).chmod(0o755)
            else:
                with tarfile.open(fileobj=io.BytesIO(content)) as inner:
                    inner.extractall(made, filter="data")
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        FOLDER = Path(sys.argv[1])
    if find_browser() is None:
        print("Fetching a browser for the tests of the web page")
        install()
    found = find_browser()
    sys.exit(0 if found else f"no browser for the tests of the web page: {REMEDY}")
