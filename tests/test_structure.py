"""The shape of the house: which way imports point, what `import megadance_hf` costs, and the linter."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Who may import whom: a room knows the rows before its own, nothing beside it and nothing after it.
ROWS = (
    ("modeling",),
    ("_lazy", "_serving", "cpu_kernels"),
    ("motion",),
    ("data", "render"),
    ("export", "metrics", "synthetic"),
    ("auto", "models", "processor"),
    ("pipeline",),
    ("training",),
    ("evaluation",),
    ("study",),
    ("hub",),
    ("demo",),
    ("cli",),
    ("datasets_scripts",),
    ("examples", "benchmarks", "tests"),
)
# Modules at the top of megadance_hf are rooms of one file; these know each other in this order.
TOP = ("models", "processor", "auto")
PACKAGES = ("modeling", "datasets_scripts", "megadance_hf", "examples", "benchmarks", "tests")

# What travels to the Hub beside the weights knows nothing else; the second group only inside `try`. transformers brings
# huggingface_hub, safetensors and tqdm along.
HUB_LIBRARIES = {"torch", "numpy", "transformers", "huggingface_hub", "safetensors"}
OPTIONAL_HUB_LIBRARIES = {
    "scipy",
    "librosa",
    "soundfile",
    "soxr",
    "av",
    "numba",
    "llvmlite",
    "mamba_ssm",
    "causal_conv1d",
}


def imports_of(path: Path, module: str) -> Iterator[tuple[str, int, bool]]:
    """Every import of a file, wherever it stands: dotted name, line, whether a `try` surrounds it. Imports for types only are left out."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]

    def walk(node: ast.AST, tried: bool) -> Iterator[tuple[str, int, bool]]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno, tried) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield from ((f"{base}.{alias.name}", node.lineno, tried) for alias in node.names)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, tried or isinstance(node, ast.Try))

    yield from walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path)), False)


def module_of(path: Path, root: Path) -> str:
    """`modeling/x.py` -> `megadance_hf.modeling.x`, as it is imported; `tests/x.py` -> `tests.x`."""
    parts = list(path.relative_to(root).with_suffix("").parts)
    if parts[0] in ("modeling", "datasets_scripts"):
        parts.insert(0, "megadance_hf")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str | None:
    """`megadance_hf.motion.files.x` -> `motion`, `examples.x` -> `examples`; None for the package itself and for other libraries."""
    first, _, rest = module.partition(".")
    room = rest.partition(".")[0] if first == "megadance_hf" else first
    return room if any(room in row for row in ROWS) else None


def row_of(room: str) -> int:
    return next(index for index, row in enumerate(ROWS) if room in row)


def wrong_imports(root: Path) -> list[str]:
    """Every import that points the wrong way, as `file:line: reason`."""
    wrong = []
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            module, where = module_of(path, root), path.relative_to(root).as_posix()
            room = room_of(module)
            if room is None and module != "megadance_hf":
                wrong.append(f"{where}:1: {module} has no place in ROWS of tests/test_structure.py")
            for name, line, tried in imports_of(path, module):
                target = room_of(name)
                if room == "modeling" and target is None:
                    library = name.split(".")[0]
                    known = library in sys.stdlib_module_names or library in HUB_LIBRARIES
                    if not (known or (tried and library in OPTIONAL_HUB_LIBRARIES)):
                        wrong.append(
                            f"{where}:{line}: modeling must not need {library}, except optionally inside `try`"
                        )
                elif room and target and target != room and row_of(target) >= row_of(room):
                    if not (room in TOP and target in TOP[: TOP.index(room)]):
                        wrong.append(f"{where}:{line}: {room} must not know {target} ({name})")
    return wrong


def hub_rule_breaches(root: Path) -> list[str]:
    """Relative imports of modeling/ that the Hub's copier does not follow, and absolute ones of this package."""
    wrong = []
    for path in sorted((root / "modeling").rglob("*.py")):
        if path.parent != root / "modeling":
            wrong.append(f"{path.name}: modeling is flat, the Hub serves no folders")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            line = f"modeling/{path.name}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.ImportFrom) and node.level:
                if node.level > 1 or not node.module or "." in node.module:
                    wrong.append(f"{line}: only `from .sibling import name` travels to the Hub")
                if any(alias.name == "*" for alias in node.names):
                    wrong.append(f"{line}: name what is imported")
            elif isinstance(node, ast.Import | ast.ImportFrom):
                names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
                if any((name or "").split(".")[0] in PACKAGES for name in names):
                    wrong.append(f"{line}: on the Hub there is no such package; use `from .sibling import name`")
    return wrong


def test_imports_point_one_way(repository):
    assert wrong_imports(repository) == []


def test_modeling_can_travel_to_the_hub(repository):
    assert hub_rule_breaches(repository) == []


def run_python(code: str, cwd: Path) -> str:
    result = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_the_package_is_light(repository, tmp_path):
    code = f"import sys; sys.path.insert(0, {str(repository)!r}); import megadance_hf; print(*sys.modules)"
    modules = {name.split(".")[0] for name in run_python(code, tmp_path).split()}
    heavy = {
        "librosa",
        "starlette",
        "matplotlib",
        "datasets",
        "accelerate",
        "av",
        "cv2",
        "numba",
        "smplx",
        "scipy",
        "torch",
    }
    assert "megadance_hf" in modules and not heavy & modules


def test_public_names_exist(repository, tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(repository)!r}); import megadance_hf\n"
        "for name in megadance_hf.__all__: assert getattr(megadance_hf, name) is not None, name\n"
        "print(*sys.modules)"
    )
    modules = {name.split(".")[0] for name in run_python(code, tmp_path).split()}
    # naming everything needs torch and transformers, but still nothing for music, pictures or training
    assert not {"librosa", "starlette", "matplotlib", "datasets", "av", "cv2"} & modules


def test_every_source_file_is_packaged(repository, tmp_path):
    """What `pip install` would put in place: every module, found under its installed name."""
    built = tmp_path / "build"
    command = [sys.executable, "setup.py", "-q", "egg_info", "-e", str(tmp_path), "build_py", "-d", str(built)]
    subprocess.run(command, cwd=repository, check=True, capture_output=True, timeout=300)
    for package, target in [
        ("modeling", "megadance_hf/modeling"),
        ("datasets_scripts", "megadance_hf/datasets_scripts"),
        ("megadance_hf", "megadance_hf"),
    ]:
        for source in (repository / package).rglob("*.py"):
            assert (built / target / source.relative_to(repository / package)).is_file(), (
                f"{package}/{source.name} would not be installed"
            )
    for folder in ("pretrained", "export/web", "motion/body", "study/page"):
        files = [path for path in (repository / "megadance_hf" / folder).rglob("*") if path.is_file()]
        missing = [path.name for path in files if not (built / path.relative_to(repository)).is_file()]
        assert files and not missing, f"{missing} would not be installed"


# --- habits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=["check", "format"])
def test_linter(repository, command):
    pytest.importorskip("ruff")
    result = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache", "."], cwd=repository, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


def text_files(repository: Path) -> Iterator[Path]:
    """What git has or would take: tracked files and new ones that are not ignored."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout: an unpacked archive has no list of files")
    for name in sorted({name for name in listing.stdout.split("\0") if name}):
        path = repository / name
        if path.is_file() and b"\0" not in path.read_bytes()[:8000]:
            yield path


# Somebody's own folders, and what keys of well-known services look like.
PRIVATE = re.compile(
    r"(?<![\w.])(/(?:home|Users|root|work|mnt)/\w|C:\\Users)"
    r"|\bhf_[A-Za-z0-9]{30,}|\bgh[pousr]_[A-Za-z0-9]{30,}|\bsk-[A-Za-z0-9-]{30,}|\bAKIA[A-Z0-9]{16}\b"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)


def test_no_private_paths_or_keys(repository):
    found = []
    for path in text_files(repository):
        if path == Path(__file__):
            continue  # it holds the patterns
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            if PRIVATE.search(line):
                found.append(f"{path.relative_to(repository)}:{number}: {line.strip()[:120]}")
    assert found == []


@pytest.mark.parametrize("text", ["open('/home/anna/x')", "root=/mnt/disk", "token = 'hf_" + "a" * 34 + "'"])
def test_private_things_are_recognised(text):
    assert PRIVATE.search(text)
    assert not PRIVATE.search("https://example.org/home/page and art/work of hf_hub_download")
