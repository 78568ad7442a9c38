"""The pages: links, paths and tables of all of them are true; those of docs/ are run from top to bottom, as a reader would follow them."""

import ast
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from documents import (
    CHECKS,
    PAGES,
    ROOT,
    Page,
    check_links,
    check_make,
    commands,
    run_example,
    run_megadance,
    run_python,
)
from helpers import skip_outside_ci, write_song

from megadance_hf import Motion
from megadance_hf import __all__ as public
from megadance_hf.cli import command as cli
from megadance_hf.modeling.configuration_megadance import MegaDanceConfig, MegaDanceTokenizerConfig

pytest_plugins = ("documents",)
BY_NAME = {page.name: page for page in PAGES}
# Pages with something to run. The README's pieces are run one by one: test_readme.py.
FOLLOWED = [page for page in PAGES if page.name.startswith("docs/") and (page.python() or page.shell_lines())]


def each(pages: list[Page]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in pages])


def my_dances(folder):
    """Five clips of swinging limbs with sound."""
    folder.mkdir()
    time = np.arange(120)[:, None] / 30
    for number in range(5):
        phases = np.random.default_rng(number).uniform(0, 6, (1, 72))
        Motion(0.3 * np.sin(2 * np.pi * time + phases), 0 * time + [[0, 0.95, 0]]).save(folder / f"{number}.npz")
        write_song(folder / f"{number}.wav", seconds=4)


@pytest.mark.slow
@each(FOLLOWED)
def test_a_page_can_be_followed(page, workplace, request, in_reach, monkeypatch, capsys):
    my_dances(workplace / "my_dances")
    if "prepared/mine" in page.text and page.name != "docs/own_data.md":  # made on that one
        (maker,) = (code for code, _ in BY_NAME["docs/own_data.md"].python() if "write_prepared(" in code)
        run_python(maker, workplace, page)
    names = {"__name__": "page"}
    for language, code, _ in page.blocks:
        if language == "python":
            in_reach(code)
            run_python(code, workplace, page, names)
        for command in commands(code) if language == "bash" else ():
            in_reach(command)
            program = command.split()[0]
            if program == "megadance":
                run_megadance(command, workplace, request, monkeypatch, capsys)
                continue
            if re.search(r"examples/\w+\.py", command):
                run_example(command, monkeypatch)


@each(PAGES)
def test_links_lead_somewhere(page):
    check_links(page)


def test_the_readme_leads_to_every_page():
    for name in BY_NAME:
        if name.startswith("docs/") and not name.startswith("docs/api/") and name != "docs/cli.md":
            assert f"]({name})" in BY_NAME["README.md"].text, name


@each(PAGES)
def test_commands_name_what_there_is(page):
    for command in page.shell_lines() + re.findall(r"`(make [^`]+)`", page.prose):
        program = command.split()[0]
        if program != "megadance":  # these are run
            CHECKS[program](command)


def test_workflows_make_what_there_is():
    (workflow,) = (ROOT / ".github" / "workflows").glob("*.yml")
    made = re.findall(r"run: (make .*)", workflow.read_text(encoding="utf-8"))
    assert len(made) == 3
    for command in made:
        check_make(re.sub(r"\$\{\{.*\}\}", "", command))


def options_of(parser) -> set[str]:
    """Of a command and all commands below it."""
    parser.complete()
    found = set()
    for action in parser._actions:
        found |= set(action.option_strings)
        for below in action.choices.values() if isinstance(action.choices, dict) else ():
            found |= options_of(below)
    return found


def test_options_in_prose_exist():
    folders = ROOT / "examples", ROOT / "benchmarks", ROOT / "megadance_hf" / "training"
    sources = [path for folder in folders for path in folder.rglob("*.py")]
    scripts = "".join(path.read_text(encoding="utf-8") for path in sources)
    known = options_of(cli.build_parser()) | set(re.findall(r'"(--[a-z-]+)"', scripts))
    for page in PAGES:
        if page.name not in ("CONTRIBUTING.md", "CHANGELOG.md"):  # options of other programs, and of earlier versions
            assert set(re.findall(r"`(--[a-z-]+)", page.prose)) <= known, page.name


@each([page for page in PAGES if page.python()])
def test_python_blocks_use_only_public_names(page):
    for code, line in page.python():
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module == "megadance_hf":
                for alias in node.names:
                    is_room = (ROOT / "megadance_hf" / alias.name / "__init__.py").is_file()
                    assert alias.name in public or is_room, f"{page.name} line {line}: {alias.name}"


def test_the_table_of_switches_is_true():
    text = BY_NAME["docs/paper_and_code.md"].text
    column = r" (?:`([^`]+)`|unsaid) \|"
    rows = re.findall(rf"^\| `(\w+)` \|{column * 3}", text, re.MULTILINE)
    assert len(rows) == 13
    generators = [MegaDanceConfig.released_2026(), MegaDanceConfig.released_2025(), MegaDanceConfig.paper()]
    tokenizers = [MegaDanceTokenizerConfig(), MegaDanceTokenizerConfig(), MegaDanceTokenizerConfig.paper()]
    for field, *values in rows:
        for config, value in zip(generators if hasattr(generators[0], field) else tokenizers, values, strict=True):
            assert not value or str(getattr(config, field)) == value, field


# `path`, or `path` (`Name`, `other_name`): a file or folder of the repository, and what it has.
PATH = re.compile(r"`((?:[\w.-]+/)+[\w.*-]*|[\w-]+\.(?:py|md|toml|yml|txt)|Makefile)`(?: \((`[^)]+`)\))?")


@each([BY_NAME["CONTRIBUTING.md"], BY_NAME["docs/architecture.md"]])
def test_paths_in_prose_exist_and_have_the_names_beside_them(page):
    for path, names in PATH.findall(page.prose):
        if not path.startswith(("build/", "../")):
            found = list(ROOT.glob(path.rstrip("/")))
            assert found or (ROOT / "megadance_hf" / path).exists(), f"{page.name} names {path}, which is not there"
            for name in re.findall(r"`([^`]+)`", names):
                assert any(re.search(rf"\b{re.escape(name)}\b", file.read_text("utf-8")) for file in found), (
                    path,
                    name,
                )


def test_the_map_has_every_folder():
    text = BY_NAME["docs/architecture.md"].text
    packages = [path.parent for path in ROOT.glob("*/*.py")] + [
        path.parent for path in ROOT.glob("megadance_hf/*/*.py")
    ]
    for folder in sorted({path.relative_to(ROOT).as_posix() for path in packages} - {"docs"}):
        assert f"| `{folder}/` |" in text, f"the map lacks {folder}"


@pytest.mark.slow
def test_the_site_builds_without_warnings(tmp_path):
    if subprocess.run([sys.executable, "-c", "import mkdocs, material, mkdocstrings_handlers.python"]).returncode:
        skip_outside_ci("mkdocs-material and mkdocstrings[python] are not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert built.returncode == 0 and "WARNING" not in built.stderr, built.stdout + built.stderr
    for page in PAGES[:3] + [page for page in PAGES if page.name.startswith("docs/")]:
        name = page.name.lower().removesuffix(".md").removeprefix("docs/").replace("readme", "")
        html = (tmp_path / "site" / name / "index.html").read_text(encoding="utf-8")
        assert "<h1" in html, page.name
    reference = (tmp_path / "site" / "api" / "pipeline" / "index.html").read_text(encoding="utf-8")
    assert "MusicToDancePipeline.from_pretrained" in reference
