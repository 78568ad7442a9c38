"""Run the tests marked `versions` with other versions than the pinned ones: `python tests/versions.py newest` (or `lowest`).

`newest` installs everything without constraints, as users get it today; `lowest` all lower bounds of `setup.py` together. Each
has an environment of its own in the checkout (.venv-newest, .venv-lowest), with the newest or the oldest Python found on this
machine among those that `setup.py` names. A failure names the versions. An environment takes up to 7 GB, most of it CUDA's libraries;
TORCH_INDEX=URL takes torch from another index, e.g. PyTorch's own with the small builds for machines without a GPU, and --remove
removes the environment afterwards.
"""

import argparse
import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = dict.fromkeys(("lowest", "newest"), ("train", "smplx", "study", "demo"))
TOOLS = ("pytest", "hypothesis", "httpx")
REPORTED = ("torch", "transformers", "huggingface_hub", "numpy", "numba", "av", "accelerate", "datasets")


def declared(setup: Path = ROOT / "setup.py") -> dict[str, object]:
    """The constants of setup.py, without executing it."""
    constants = {}
    for node in ast.parse(setup.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                constants[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:  # computed from others
                continue
    return constants


def lower_bounds() -> list[str]:
    """`name==bound` for each requirement of the library and of its tested extras."""
    constants = declared()
    required = [
        *constants["REQUIREMENTS"],
        *(line for extra in EXTRAS["lowest"] for line in constants["EXTRAS"][extra]),
    ]
    return list(dict.fromkeys(line.replace(">=", "==") for line in required))  # extras share some


def find_python(kind: str) -> str:
    """The oldest (`lowest`) or newest Python of this machine among those that setup.py names."""
    versions = declared()["PYTHON_VERSIONS"]
    managed = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in versions if kind == "lowest" else reversed(versions):
        installed = sorted(managed.glob(f"{version}.*/bin/python{version}"))
        for candidate in (shutil.which(f"python{version}"), *map(str, installed)):
            if candidate and subprocess.run([candidate, "-c", ""], capture_output=True).returncode == 0:
                return candidate
    return sys.executable


def install(kind: str, folder: Path) -> Path:
    """Create the environment and install everything; returns its Python."""
    subprocess.run([find_python(kind), "-m", "venv", "--clear", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    if kind == "lowest":
        bounds = folder / "lowest.txt"
        bounds.write_text("\n".join(lower_bounds()) + "\n", encoding="utf-8")
        pip += ["-c", str(bounds)]
    index = os.environ.get("TORCH_INDEX")
    torch = [*(["--index-url", index] if index else []), "torch"]
    for wanted in (torch, ["-e", f".[{','.join(EXTRAS[kind])}]", *TOOLS]):
        code = subprocess.run([*pip, *wanted], cwd=ROOT).returncode
        if code:
            free = shutil.disk_usage(folder).free / 1e9
            sys.exit(
                f"could not install the {kind} versions into {folder} (pip ended with {code}; {free:.1f} GB are free there)"
            )
    return python


def files() -> list[str]:
    """Test files with marked tests; others may need tools that are not installed."""
    return [
        str(path) for path in sorted((ROOT / "tests").glob("test_*.py")) if "mark.versions" in path.read_text("utf-8")
    ]


def versions_of(python: Path) -> str:
    code = (
        "import sys; from importlib.metadata import version\n"
        f"print('Python', sys.version.split()[0], *(f'{{name}} {{version(name)}}' for name in {REPORTED!r}), sep=', ')"
    )
    done = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    return done.stdout.strip().replace("Python, ", "Python ")


def run(folder: Path, options: argparse.Namespace) -> int:
    """Install what is not there, run the tests; returns pytest's exit status."""
    python = folder / "bin" / "python"
    if not (options.keep and python.exists()):
        print(f"Installing the {options.kind} versions into {folder.name} (some minutes)", flush=True)
        python = install(options.kind, folder)
    found = versions_of(python)
    print(f"{options.kind} versions: {found}", flush=True)
    environment = {**os.environ, "MEGADANCE_VERSIONS": f"{options.kind}: {found}"}
    # Old versions deprecate things of each other that have been fixed since.
    deprecations = (
        ["-W", "ignore::DeprecationWarning", "-W", "ignore::FutureWarning"] if options.kind == "lowest" else []
    )
    command = [
        str(python),
        "-m",
        "pytest",
        "-q",
        "-m",
        "versions",
        *deprecations,
        *files(),
        *options.pytest,
    ]
    code = subprocess.run(command, cwd=ROOT, env=environment).returncode
    if code:
        print(f"FAILED with the {options.kind} versions: {found}", flush=True)
    return code


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("newest", "lowest"))
    parser.add_argument("--keep", action="store_true", help="use the environment as it is, if it is there")
    parser.add_argument("--remove", action="store_true", help="remove the environment at the end, whatever the outcome")
    parser.add_argument("pytest", nargs="*", help="further arguments for pytest, after --")
    options = parser.parse_args(arguments)
    folder = ROOT / f".venv-{options.kind}"
    try:
        return run(folder, options)
    finally:
        if options.remove:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
