"""The shape of the house: which way imports point, what `import megadance_hf` costs, and the linter."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Who may import whom, the packages: each knows those before it and nothing after it.
PACKAGES = ("modeling", "datasets_scripts", "megadance_hf", "examples", "benchmarks", "tests")
# The same inside megadance_hf: a module may import modules of earlier rows only, and `data` and `training` need no
# pictures. A module that is not named here yet makes the test fail: give it its place.
ROWS = (
    ("console", "humanoid", "mannequin", "models", "open_in_blender", "rasterizer"),
    ("bodies", "camera", "motion"),
    ("export", "render", "metrics", "dance_features", "data", "processor", "skeletons"),
    ("auto", "motion_files", "show", "tasks", "bundle", "convert", "synchrony", "reports"),
    ("training", "dances"),
    ("pipeline", "handler", "recipes"),
    ("evaluation", "curves", "hub", "outputs"),
    ("demo",),
    ("cli",),
)
# Motion.save, load and show look the format's module up when they are called. This is the one arrow that points
# back, and only inside functions.
LAZY_ARROWS = {("motion", "export"), ("motion", "render"), ("motion", "motion_files"), ("motion", "show")}

# What travels to the Hub beside the weights knows nothing else; the second group only inside `try`. transformers brings
# huggingface_hub, safetensors and tqdm along.
HUB_LIBRARIES = {"torch", "numpy", "transformers", "huggingface_hub", "safetensors", "tqdm"}
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


class Import:
    """One imported module: its dotted name, the line, whether a function or a `try` surrounds it."""

    def __init__(self, name: str, line: int, inside: set[type]):
        self.name, self.line = name, line
        self.in_function = bool(inside & {ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda})
        self.in_try = ast.Try in inside
        self.for_types_only = ast.If in inside


def dotted_name(path: Path, root: Path) -> str:
    """`modeling/x.py` -> `megadance_hf.modeling.x`, as it is imported; `tests/x.py` -> `tests.x`."""
    parts = list(path.relative_to(root).with_suffix("").parts)
    if parts[0] in ("modeling", "datasets_scripts"):
        parts.insert(0, "megadance_hf")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, root: Path) -> Iterator[Import]:
    """Every import statement of a file, relative ones resolved, wherever it stands."""
    module = dotted_name(path, root)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]

    def walk(node: ast.AST, inside: set[type]) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, inside)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")
                above = above[: len(above) - node.level + 1]
                base = ".".join([*above, base]).rstrip(".")
            for (
                alias
            ) in node.names:  # `from package import module` names a module; `from module import name` is cut later
                yield Import(f"{base}.{alias.name}", node.lineno, inside)
        if isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            marks = inside
        else:
            marks = inside | {type(node)}
        for child in ast.iter_child_nodes(node):
            yield from walk(child, marks)

    yield from walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path)), set())


def package_of(name: str) -> str | None:
    """The package of this repository that a dotted name belongs to, or None for somebody else's."""
    parts = name.split(".")
    if parts[0] == "megadance_hf" and len(parts) > 1 and parts[1] in ("modeling", "datasets_scripts"):
        return parts[1]
    return parts[0] if parts[0] in PACKAGES else None


def room_of(name: str) -> str | None:
    """`megadance_hf.motion.Motion` -> `motion`; None for what is no module of megadance_hf itself."""
    parts = name.split(".")
    known = {module for row in ROWS for module in row}
    return parts[1] if parts[0] == "megadance_hf" and len(parts) > 1 and parts[1] in known else None


def row_of(room: str) -> int:
    return next(index for index, row in enumerate(ROWS) if room in row)


def sources(root: Path) -> Iterator[Path]:
    for package in PACKAGES:
        yield from sorted((root / package).rglob("*.py"))


def wrong_imports(root: Path) -> list[str]:
    """Every import that points the wrong way, as `file:line: reason`."""
    wrong = []
    for path in sources(root):
        package, where = path.relative_to(root).parts[0], path.relative_to(root).as_posix()
        siblings = {other.stem for other in (root / package).glob("*.py")}
        room = path.stem if package == "megadance_hf" and path.name != "__init__.py" else None
        if room is not None and not any(room in row for row in ROWS):
            wrong.append(f"{where}:1: megadance_hf.{room} has no place in ROWS of tests/test_structure.py")
            continue
        for imported in imports_of(path, root):
            line, target = f"{where}:{imported.line}", package_of(imported.name)
            if target is not None and PACKAGES.index(target) > PACKAGES.index(package):
                wrong.append(f"{line}: {package} must not know {target} ({imported.name})")
            elif package == "megadance_hf" and target == "megadance_hf" and room is not None:
                other = room_of(imported.name)
                if other is None or other == room or row_of(other) < row_of(room) or imported.for_types_only:
                    continue
                if not (imported.in_function and (room, other) in LAZY_ARROWS):
                    wrong.append(f"{line}: megadance_hf.{room} must not know megadance_hf.{other}")
            elif package == "modeling" and target is None:
                library = imported.name.split(".")[0]
                standard = library in sys.stdlib_module_names
                optional = library in OPTIONAL_HUB_LIBRARIES and imported.in_try
                if not (standard or library in HUB_LIBRARIES or optional):
                    wrong.append(f"{line}: modeling must not need {library}, except optionally inside `try`")
            elif package == "modeling" and target == "modeling":
                sibling = imported.name.split(".")[2] if imported.name.count(".") >= 2 else ""
                if sibling not in siblings:
                    wrong.append(f"{line}: modeling imports only `from .sibling import name` ({imported.name})")
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


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("modeling/bad.py", "from megadance_hf.motion import Motion", "modeling must not know megadance_hf"),
        ("modeling/bad.py", "def f():\n    import megadance_hf.data", "modeling must not know megadance_hf"),
        ("modeling/bad.py", "import scipy", "must not need scipy"),
        ("modeling/bad.py", "import librosa", "must not need librosa"),
        ("modeling/bad.py", "from megadance_hf.datasets_scripts import schema", "must not know datasets_scripts"),
        ("datasets_scripts/bad.py", "from megadance_hf import motion", "datasets_scripts must not know megadance_hf"),
        ("datasets_scripts/bad.py", "from ..motion import Motion", "datasets_scripts must not know megadance_hf"),
        ("megadance_hf/motion/motion.py", "from .pipeline import x", "motion must not know megadance_hf.pipeline"),
        ("megadance_hf/motion/motion.py", "from . import export", "motion must not know megadance_hf.export"),
        (
            "megadance_hf/data/windows.py",
            "def f():\n    from megadance_hf.training import x",
            "data must not know megadance_hf.training",
        ),
        ("megadance_hf/render/video.py", "from .export import x", "render must not know megadance_hf.export"),
        ("megadance_hf/cli/main.py", "import tests.conftest", "megadance_hf must not know tests"),
        ("megadance_hf/newroom.py", "", "no place in ROWS"),
    ],
)
def test_a_planted_wrong_arrow_is_found(tmp_path, file, text, reason):
    for package in PACKAGES:
        (tmp_path / package).mkdir()
    assert wrong_imports(tmp_path) == []
    (tmp_path / file).write_text(text + "\n", encoding="utf-8")
    found = wrong_imports(tmp_path)
    assert len(found) == 1 and reason in found[0] and found[0].startswith(file)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("modeling/good.py", "import math\nimport torch\nfrom transformers.utils import logging\nfrom .other import x"),
        ("modeling/good.py", "def f():\n    try:\n        import librosa\n    except ImportError:\n        raise"),
        ("datasets_scripts/good.py", "from megadance_hf.modeling.other import x\nimport pyarrow"),
        ("datasets_scripts/good.py", "from ..modeling.other import x\nfrom .schema import y"),
        ("megadance_hf/motion/motion.py", "def save():\n    from .export import save_bvh"),
        (
            "megadance_hf/cli/main.py",
            "from . import pipeline\nfrom .modeling.other import x\nfrom megadance_hf import Motion",
        ),
        ("tests/good.py", "import megadance_hf.cli"),
    ],
)
def test_right_arrows_are_let_through(tmp_path, file, text):
    for package in PACKAGES:
        (tmp_path / package).mkdir()
    (tmp_path / "modeling" / "other.py").write_text("x = 1\n", encoding="utf-8")
    (tmp_path / file).write_text(text + "\n", encoding="utf-8")
    assert wrong_imports(tmp_path) == [] == hub_rule_breaches(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "from . import other",
        "from ..motion import x",
        "from .deeper.other import x",
        "from .other import *",
        "import megadance_hf.modeling.other",
        "from megadance_hf.modeling.other import x",
    ],
)
def test_a_planted_hub_breach_is_found(tmp_path, text):
    (tmp_path / "modeling").mkdir()
    (tmp_path / "modeling" / "bad.py").write_text(text + "\n", encoding="utf-8")
    assert len(hub_rule_breaches(tmp_path)) == 1


def run_python(code: str, cwd: Path) -> str:
    result = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_the_package_is_light(repository, tmp_path):
    code = f"import sys; sys.path.insert(0, {str(repository)!r}); import megadance_hf; print(*sys.modules)"
    modules = {name.split(".")[0] for name in run_python(code, tmp_path).split()}
    heavy = {
        "librosa",
        "gradio",
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
    assert not {"librosa", "gradio", "matplotlib", "datasets", "av", "cv2"} & modules


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
        for source in (repository / package).glob("*.py"):
            assert (built / target / source.name).is_file(), f"{package}/{source.name} would not be installed"
    for folder in ("pretrained", "web"):
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
