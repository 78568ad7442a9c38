"""The README is run: its Python, its commands; and its links, its tree and its tables are true."""

import ast
import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import write_song
from official import write_checkpoint, write_statistics

from megadance_hf import Motion
from megadance_hf.convert import convert_checkpoint
from megadance_hf.datasets_scripts import ballroom
from megadance_hf.hub import push_to_hub
from megadance_hf.modeling.configuration_megadance import (
    MegaDanceClassifierConfig,
    MegaDanceConfig,
    MegaDanceTokenizerConfig,
)
from megadance_hf.modeling.modeling_megadance_classifier import MegaDanceForGenreClassification

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(match[1], match[2], README[: match.start()].count("\n") + 1) for match in FENCED.finditer(README)]
PROSE = FENCED.sub("", README)


def python_blocks() -> list:
    return [pytest.param(code, id=f"line{line}") for language, code, line in BLOCKS if language == "python"]


def shell_lines() -> list[str]:
    """Every command of the shell blocks, continued lines joined, comments cut, and those of the numbered steps."""
    text = "".join(code for language, code, _ in BLOCKS if language == "bash").replace("\\\n", " ")
    lines = [" ".join(shlex.split(line, comments=True)) for line in text.splitlines()]
    return [line for line in lines if line] + re.findall(r"`(megadance \w+ [^`]*-o [^`]+)`", PROSE)


def commands_of(program: str) -> list[str]:
    return [line for line in shell_lines() if line.split()[0] == program]


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.fixture
def in_reach(request) -> Callable[[str], None]:
    """Called with what the README runs: what it needs of the Hub is there, on a stand-in."""

    def reach(text: str) -> None:
        if "anna/" in text:
            request.getfixturevalue("hub")
            if "push" not in text:
                push_to_hub(ROOT / "megadance_hf" / "pretrained" / "ballroom", "anna/dance")

    return reach


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    """An empty folder with a song, where models lie as training, a download and converting would have left them."""
    monkeypatch.chdir(tmp_path)
    write_checkpoint(tmp_path / "checkpoint.pt")
    write_statistics(tmp_path)
    write_song(tmp_path / "song.mp3", seconds=4)
    Motion(np.zeros((30, 72)), np.zeros((30, 3))).save(tmp_path / "dance.npz")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "generator").symlink_to(ROOT / "megadance_hf" / "pretrained" / "ballroom")
    return tmp_path


@pytest.fixture(scope="module")
def ballroom_download(ballroom_dir, tmp_path_factory) -> Path:
    """A raw folder with three real dances, one for each split, and what `megadance prepare` makes of it."""
    folder = tmp_path_factory.mktemp("ballroom")
    names = {"train": ["waltz_22", "waltz_21"], "test": ["waltz_24"]}
    lines = (ballroom_dir / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    raw = folder / "RAW"
    for part in ("motions", "music", "splits"):
        (raw / part).mkdir(parents=True)
    for split, members in names.items():
        (raw / "splits" / f"{split}.txt").write_text("\n".join(members), encoding="utf-8")
        for name in members:
            (raw / "motions" / f"{name}.npz").symlink_to(ballroom_dir / "motions" / f"{name}.npz")
            (raw / "music" / f"{name}.ogg").symlink_to(ballroom_dir / "music" / f"{name}.ogg")
    kept = [line for line in lines if json.loads(line)["id"] in {m for members in names.values() for m in members}]
    (raw / "metadata.jsonl").write_text("\n".join(kept), encoding="utf-8")
    ballroom.prepare(raw, folder / "prepared" / "ballroom", progress=False)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    genres = {"num_outputs": 3, "id2label": dict(enumerate(ballroom.GENRES))}
    MegaDanceForGenreClassification(MegaDanceClassifierConfig(**sizes, **genres)).save_pretrained(folder / "classifier")
    return folder


def test_there_is_something_to_test():
    assert len(python_blocks()) >= 3
    programs = {line.split()[0] for line in shell_lines()}
    assert programs == {"make", "pip", "megadance", "python", "accelerate", "blender", "examples/reproduce.sh"}


@pytest.mark.slow
@pytest.mark.parametrize("code", python_blocks())
def test_python_runs_and_leaves_what_it_says(code, workplace, in_reach):
    in_reach(code)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    for name in re.findall(r'\.save\("([^"]+)"', code):
        assert (workplace / name).stat().st_size > 1000, name


@pytest.mark.slow
@pytest.mark.parametrize("command", commands_of("megadance"))
def test_megadance_command_runs_and_leaves_what_it_says(command, workplace, capsys, request, in_reach, monkeypatch):
    from megadance_hf import cli

    in_reach(command)

    words = shlex.split(command)
    if words[1] in ("prepare", "evaluate") or "prepared/" in command:
        download = request.getfixturevalue("ballroom_download")
        (workplace / "RAW").symlink_to(download / "RAW")
        (workplace / "runs" / "classifier").symlink_to(download / "classifier")
        if words[1] != "prepare":
            (workplace / "prepared").symlink_to(download / "prepared")
        if words[1] == "evaluate":
            words += ["--clip-frames", "240", "--seeds", "1"]
    if words[1] == "demo":  # it serves until it is stopped
        import gradio

        monkeypatch.setattr(gradio.Blocks, "block_thread", gradio.Blocks.close)
    if "--model finedance" in command:  # the line before has made it
        convert_checkpoint("checkpoint.pt", "finedance", mean="mean.pkl", std="std.pkl")
    assert cli.main(words[1:]) == 0, capsys.readouterr().err
    for name in [after for word, after in zip(words, words[1:], strict=False) if word == "-o"]:
        assert (workplace / name).stat().st_size > 1000, name
    if "--bundle" in words:
        assert (workplace / words[words.index("--bundle") + 1] / "open_in_blender.py").is_file()
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("command", commands_of("make") + re.findall(r"`(make [^`]+)`", PROSE))
def test_make_targets_and_variables_exist(command):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in command.split()[1:]:
        name, is_variable, _ = word.partition("=")
        if is_variable:
            assert re.search(rf"^{name} \?=", makefile, re.MULTILINE), f"the Makefile knows no variable {name}"
        elif word != "...":
            assert re.search(rf"^{name}:", makefile, re.MULTILINE), f"the Makefile knows no target {name}"


@pytest.mark.parametrize("command", commands_of("accelerate") + commands_of("python"))
def test_scripts_and_their_options_exist(command):
    words = shlex.split(command)
    script = next((ROOT / word for word in words if word.endswith(".py")), None)
    if script is None:
        module = words[words.index("-m") + 1].removeprefix("megadance_hf.").replace(".", "/")
        script = ROOT / f"{module}.py"
    source = script.read_text(encoding="utf-8")
    if "from common import" in source:
        source += (script.parent / "common.py").read_text(encoding="utf-8")
    for word in words:
        if word.startswith("--"):
            assert f'"{word}"' in source, f"{script.name} has no option {word}"
        if word.endswith(".yaml"):
            assert (ROOT / word).is_file(), word


@pytest.mark.parametrize("command", commands_of("blender"))
def test_the_script_of_a_bundle_knows_its_options(command):
    """What becomes of them: test_blender.py."""
    blenders, _, own = command.partition(" -- ")
    source = (ROOT / "megadance_hf" / Path(blenders.split()[-1]).name).read_text(encoding="utf-8")
    assert all(f'"{word}"' in source for word in own.split() if word.startswith("--"))


@pytest.mark.parametrize("command", commands_of("examples/reproduce.sh"))
def test_shell_scripts_can_be_run(command):
    assert os.access(ROOT / command.split()[0], os.X_OK)  # what it does: test_reproduce.py


def test_extras_exist():
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    for extra in re.findall(r"\[(\w+)\]'", "".join(code for _, code, _ in BLOCKS)) + ["smplx", "cuda", "dev"]:
        assert re.search(rf'(^    "{extra}":|EXTRAS\["{extra}"\])', setup, re.MULTILINE), extra


def test_links_lead_somewhere():
    headings = {slug(line.lstrip("# ")) for line in PROSE.splitlines() if line.startswith("#")}
    targets = re.findall(r"\]\(([^)\s]+)\)", PROSE)
    assert len(targets) > 10
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif not target.startswith("https://"):
            assert (ROOT / target).exists(), target


def test_the_contents_list_every_chapter():
    contents = README[: README.index("## Install")]
    for line in PROSE.splitlines():
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

    for language, code, line in BLOCKS:
        if language != "python":
            continue
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module == "megadance_hf":
                for alias in node.names:
                    is_module = (ROOT / "megadance_hf" / f"{alias.name}.py").is_file()
                    assert alias.name in public or is_module, f"README line {line}: {alias.name}"
