"""The README is short, and each of its commands and pieces of Python runs by itself. What all pages have in common: test_docs.py."""

import pytest
from documents import PAGES, run_megadance, run_python

pytest_plugins = ("documents",)
PAGE = PAGES[0]
COMMANDS = PAGE.shell_lines()


def test_it_is_short_and_has_what_is_tested_here():
    assert PAGE.name == "README.md" and PAGE.text.count("\n") <= 200
    assert len(PAGE.python()) == 1 and sum(language == "mermaid" for language, _, _ in PAGE.blocks) == 1
    assert {command.split()[0] for command in COMMANDS} == {"make", "pip", "megadance", "accelerate"}


@pytest.mark.slow
@pytest.mark.parametrize("code", [pytest.param(code, id=f"line{line}") for code, line in PAGE.python()])
def test_python_runs_and_leaves_what_it_says(code, workplace, in_reach):
    in_reach(code)
    run_python(code, workplace, PAGE)


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("megadance ")])
def test_megadance_command_runs_and_leaves_what_it_says(command, workplace, capsys, request, in_reach, monkeypatch):
    in_reach(command)
    run_megadance(command, workplace, request, monkeypatch, capsys)
