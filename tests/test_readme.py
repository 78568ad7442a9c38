"""The README is run: its Python, its commands; and its links, its tree and its tables are true. The pages of docs/: test_docs.py."""

import ast
import os
import re

import pytest
from documents import (
    FENCED,
    ROOT,
    Page,
    check_bundle_script,
    check_links,
    check_script,
    run_megadance,
    run_python,
    slug,
)

from megadance_hf.modeling.configuration_megadance import MegaDanceConfig, MegaDanceTokenizerConfig

pytest_plugins = ("documents",)
PAGE = Page(ROOT / "README.md")
README = PAGE.text


def python_blocks() -> list:
    return [pytest.param(code, id=f"line{line}") for language, code, line in PAGE.blocks if language == "python"]


def test_there_is_something_to_test():
    assert len(python_blocks()) >= 3
    programs = {line.split()[0] for line in PAGE.shell_lines()}
    assert programs == {"make", "pip", "megadance", "python", "accelerate", "blender", "examples/reproduce.sh"}


@pytest.mark.slow
@pytest.mark.parametrize("code", python_blocks())
def test_python_runs_and_leaves_what_it_says(code, workplace, in_reach):
    in_reach(code)
    run_python(code, workplace, PAGE)


@pytest.mark.slow
@pytest.mark.parametrize("command", PAGE.commands_of("megadance"))
def test_megadance_command_runs_and_leaves_what_it_says(command, workplace, capsys, request, in_reach, monkeypatch):
    in_reach(command)
    run_megadance(command, workplace, request, monkeypatch, capsys)


@pytest.mark.parametrize("command", PAGE.commands_of("make") + re.findall(r"`(make [^`]+)`", PAGE.prose))
def test_make_targets_and_variables_exist(command):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in command.split()[1:]:
        name, is_variable, _ = word.partition("=")
        if is_variable:
            assert re.search(rf"^{name} \?=", makefile, re.MULTILINE), f"the Makefile knows no variable {name}"
        elif word != "...":
            assert re.search(rf"^{name}:", makefile, re.MULTILINE), f"the Makefile knows no target {name}"


@pytest.mark.parametrize("command", PAGE.commands_of("accelerate") + PAGE.commands_of("python"))
def test_scripts_and_their_options_exist(command):
    check_script(command)


@pytest.mark.parametrize("command", PAGE.commands_of("blender"))
def test_the_script_of_a_bundle_knows_its_options(command):
    check_bundle_script(command)


@pytest.mark.parametrize("command", PAGE.commands_of("examples/reproduce.sh"))
def test_shell_scripts_can_be_run(command):
    assert os.access(ROOT / command.split()[0], os.X_OK)  # what it does: test_reproduce.py


def test_extras_exist():
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    for extra in re.findall(r"\[(\w+)\]'", "".join(code for _, code, _ in PAGE.blocks)) + ["smplx", "cuda", "dev"]:
        assert re.search(rf'(^    "{extra}":|EXTRAS\["{extra}"\])', setup, re.MULTILINE), extra


def test_links_lead_somewhere():
    assert check_links(PAGE) > 10


def test_the_contents_list_every_chapter():
    contents = README[: README.index("## Install")]
    for line in PAGE.prose.splitlines():
        if line.startswith("## "):
            assert f"(#{slug(line[3:])})" in contents, f"{line[3:]!r} is not in the table of contents"


def tree() -> set[str]:
    """The paths that the tree names."""
    chapter = README[README.index("## Where everything is") :]
    folder, paths = "", set()
    for line in FENCED.search(chapter)[2].splitlines():
        name = line.split()[0]
        if line.startswith(" "):
            paths.add(folder + name)
        else:
            folder = name
            paths.add(name)
    return paths


def test_the_tree_is_true():
    named = tree()
    for path in named:
        assert (ROOT / path).exists(), f"the tree names {path}, which is not there"
    for package in ("modeling", "megadance_hf", "datasets_scripts", "examples", "benchmarks"):
        for source in (ROOT / package).glob("*.py"):
            assert f"{package}/{source.name}" in named, f"the tree does not name {package}/{source.name}"
    top = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert top <= {path.split("/")[0] for path in named}


def test_the_table_of_switches_is_true():
    chapter = README[README.index("## Paper and released code") : README.index("## What the bundled model")]
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \| (?:`([^`]+)`|unsaid) \|", chapter, re.MULTILINE)
    assert len(rows) >= 9
    for field, released, paper in rows:
        kind = MegaDanceConfig if hasattr(MegaDanceConfig(), field) else MegaDanceTokenizerConfig
        released_config = kind.released() if kind is MegaDanceConfig else kind()
        assert str(getattr(released_config, field)) == released, field
        if paper:
            assert str(getattr(kind.paper(), field)) == paper, field


def test_python_blocks_use_only_public_names():
    from megadance_hf import __all__ as public

    for language, code, line in PAGE.blocks:
        if language != "python":
            continue
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module == "megadance_hf":
                for alias in node.names:
                    is_module = (ROOT / "megadance_hf" / alias.name / "__init__.py").is_file()
                    assert alias.name in public or is_module, f"README line {line}: {alias.name}"
