"""The pages of docs/ are run from top to bottom, each in a folder of its own, as a reader would follow them."""

import re

import numpy as np
import pytest
from documents import (
    ROOT,
    Page,
    check_bundle_script,
    check_links,
    check_script,
    commands,
    run_example,
    run_megadance,
    run_python,
)
from helpers import write_song

from megadance_hf import Motion
from megadance_hf.cli import command as cli

pytest_plugins = ("documents",)
LOG = ROOT / "docs" / "LOG.md"  # what was, not what is
PAGES = {path.stem: Page(path) for path in sorted((ROOT / "docs").glob("*.md")) if path != LOG}


def my_dances(folder):
    """Five clips of swinging limbs with sound."""
    folder.mkdir()
    time = np.arange(120)[:, None] / 30
    for number in range(5):
        phases = np.random.default_rng(number).uniform(0, 6, (1, 72))
        Motion(0.3 * np.sin(2 * np.pi * time + phases), 0 * time + [[0, 0.95, 0]]).save(folder / f"{number}.npz")
        write_song(folder / f"{number}.wav", seconds=4)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_followed(name, workplace, request, monkeypatch, capsys):
    page = PAGES[name]
    my_dances(workplace / "my_dances")
    if "prepared/mine" in page.text and name != "own_data":  # made on that one
        (maker,) = (code for _, code, _ in PAGES["own_data"].blocks if "write_prepared(" in code)
        run_python(maker, workplace, page)
    done = 0
    for language, code, _ in page.blocks:
        if language == "python":
            run_python(code, workplace, page)
            done += 1
        for command in commands(code) if language == "bash" else ():
            if command.startswith("megadance "):
                run_megadance(command, workplace, request, monkeypatch, capsys)
            elif command.startswith(("accelerate launch examples/", "python examples/")):
                check_script(command)
                run_example(command, monkeypatch)
            else:
                check_bundle_script(command)
            done += 1
    assert done > 1


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere_and_the_readme_leads_here(name):
    assert check_links(PAGES[name]) > 0
    assert f"](docs/{name}.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


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
    scripts = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*.py"))
    known = options_of(cli.build_parser()) | set(re.findall(r'"(--[a-z-]+)"', scripts))
    for page in PAGES.values():
        assert set(re.findall(r"`(--[a-z-]+)", page.prose)) <= known, page.path.name
