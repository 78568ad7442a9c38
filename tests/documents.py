"""The pages of the documentation, read and run: their Python, their commands; and what these need to find where they are run."""

import importlib
import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import write_song
from official import write_checkpoint, write_download_2026, write_statistics

from megadance_hf import Motion
from megadance_hf.cli import command as cli
from megadance_hf.datasets_scripts import ballroom
from megadance_hf.hub.convert import convert_checkpoint
from megadance_hf.hub.push import push_to_hub
from megadance_hf.modeling.configuration_megadance import MegaDanceClassifierConfig
from megadance_hf.modeling.modeling_megadance_classifier import MegaDanceForGenreClassification
from megadance_hf.training import loop

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / "docs" / "LOG.md"  # what was, not what is
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Page:
    """A page of the documentation.

    Attributes:
        text: all of it; `prose`: without its blocks of code.
        blocks: (language, code, line) of each block.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.text = path, path.read_text(encoding="utf-8")
        self.name = path.relative_to(ROOT).as_posix()
        self.blocks = [(m[1], m[2], self.text[: m.start()].count("\n") + 1) for m in FENCED.finditer(self.text)]
        self.prose = FENCED.sub("", self.text)

    def shell_lines(self) -> list[str]:
        """Every command of the shell blocks, and those of the numbered steps."""
        code = "".join(code for language, code, _ in self.blocks if language == "bash")
        return commands(code) + re.findall(r"`(megadance \w+ [^`]*-o [^`]+)`", self.prose)

    def python(self) -> list[tuple[str, int]]:
        """Blocks of Python, with the lines they begin in."""
        return [(code, line) for language, code, line in self.blocks if language == "python"]

    def headings(self) -> set[str]:
        """As links name them."""
        return {slug(line.lstrip("# ")) for line in self.prose.splitlines() if line.startswith("#")}


PAGES = [
    Page(ROOT / name) for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "megadance_hf/cpu_kernels/README.md")
]
PAGES += [Page(path) for path in sorted((ROOT / "docs").rglob("*.md")) if path != LOG]


def commands(code: str) -> list[str]:
    """Lines of a shell block, continued ones joined, comments cut."""
    lines = [shlex.split(line, comments=True) for line in code.replace("\\\n", " ").splitlines()]
    lines = [" ".join(shlex.quote(word) if " " in word else word for word in words) for words in lines]
    return [line for line in lines if line]


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def check_links(page: Page) -> int:
    """Every link leads somewhere in this checkout; how many there are."""
    targets = re.findall(r"\]\(([^)\s]+)\)", page.prose)
    for target in targets:
        if target.startswith("https://"):
            continue
        name, _, heading = target.partition("#")
        place = (page.path.parent / name).resolve() if name else page.path
        assert place.exists(), target
        assert not heading or heading in Page(place).headings(), target
    return len(targets)


def check_script(command: str) -> None:
    """A script of the examples or benchmarks is there and has the options."""
    words = shlex.split(command)
    script = next((ROOT / word for word in words if word.endswith(".py")), None)
    if script is None:
        module = words[words.index("-m") + 1].removeprefix("megadance_hf.").replace(".", "/")
        script = ROOT / f"{module}.py"
    source = script.read_text(encoding="utf-8")
    if "megadance_hf.training" in source:  # what the training scripts share
        shared = [*(ROOT / "megadance_hf" / "training").glob("*.py"), *(ROOT / "examples").glob("common.py")]
        source += "".join(path.read_text(encoding="utf-8") for path in shared)
    for word in words:
        if word.startswith("--"):
            assert f'"{word}"' in source, f"{script.name} has no option {word}"
        if word.endswith(".yaml"):
            assert (ROOT / word).is_file(), word


def check_make(command: str) -> None:
    """The Makefile has the targets and variables."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in command.split()[1:]:
        name, is_variable, _ = word.partition("=")
        if is_variable:
            assert re.search(rf"^{name} \?=", makefile, re.MULTILINE), f"the Makefile knows no variable {name}"
        elif word != "...":
            assert re.search(rf"^{name}:", makefile, re.MULTILINE), f"the Makefile knows no target {name}"


def check_install(command: str) -> None:
    """What is installed is this package, with extras that setup.py has."""
    assert command.startswith("pip install ."), command
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    for extra in re.findall(r"\[(\w+)\]", command):
        assert re.search(rf'^    "{extra}":|^EXTRAS\["{extra}"\]', setup, re.MULTILINE), extra


def check_shell_script(command: str) -> None:
    """It can be run. What they do: test_reproduce.py, test_train_bundled.py."""
    assert os.access(ROOT / command.split()[0], os.X_OK), command


def check_bundle_script(command: str) -> None:
    """Blender's command names options that the bundle's script has. What becomes of them: test_blender.py."""
    _, _, own = command.partition(" -- ")
    source = (ROOT / "megadance_hf" / "export" / "open_in_blender.py").read_text(encoding="utf-8")
    assert "open_in_blender.py" in command
    assert all(f'"{word}"' in source for word in own.split() if word.startswith("--"))


CHECKS = {
    "make": check_make,
    "pip": check_install,
    "accelerate": check_script,
    "python": check_script,
    "blender": check_bundle_script,
    "examples/reproduce.sh": check_shell_script,
    "examples/train_bundled.sh": check_shell_script,
}


def run_megadance(command: str, workplace: Path, request, monkeypatch, capsys) -> None:
    """Run a `megadance` command of a page in the workplace: it succeeds, says something, and leaves what it names."""
    words = shlex.split(command)
    if words[1] in ("prepare", "evaluate") or "prepared/" in command:
        download = request.getfixturevalue("ballroom_download")
        linked = {"RAW": "RAW", "runs/classifier": "classifier"}
        if words[1] != "prepare":
            linked["prepared"] = "prepared"
        for name, source in linked.items():
            if not (workplace / name).exists():
                (workplace / name).symlink_to(download / source)
        if words[1] == "evaluate":
            words += ["--clip-frames", "240", "--seeds", "1"]
    if "--num-proc" in words:
        request.getfixturevalue("forked_pools")
    if words[1:3] == ["study", "new"]:
        words += ["--seconds", "1", "--size", "64x64"]
    if words[1:3] == ["study", "serve"]:  # it serves until it is stopped; meanwhile people answer
        import uvicorn
        from study_raters import answer_directly

        monkeypatch.setattr(uvicorn.Server, "run", lambda *_, **__: answer_directly(Path(words[3]), raters=6))
    if words[1] == "demo":  # it serves until it is stopped
        from megadance_hf.demo.server import Page

        monkeypatch.setattr(Page, "block_thread", Page.close)
    if "--model finedance" in command and not Path("finedance").exists():  # the line before makes it
        convert_checkpoint("output", "finedance", mean="Pretrained/mean.pt", std="Pretrained/std.pt")
    assert cli.main(words[1:]) == 0, capsys.readouterr().err
    for name in [after for word, after in zip(words, words[1:], strict=False) if word == "-o"]:
        names = [name]
        if "--num" in words:
            stem, suffix = name.split(".", 1)
            names = [f"{stem}-{index + 1}.{suffix}" for index in range(int(words[words.index("--num") + 1]))]
        for each in names:
            assert (workplace / each).stat().st_size > 1000, each
    if "--bundle" in words:
        assert (workplace / words[words.index("--bundle") + 1] / "open_in_blender.py").is_file()
    assert capsys.readouterr().out.strip()


def run_python(code: str, workplace: Path, page: Page, names: dict | None = None) -> None:
    """Run a block; `names` are those of the blocks before it."""
    exec(compile(code, page.path.name, "exec"), {"__name__": "page"} if names is None else names)
    for name in re.findall(r'\.save\("([^"]+)"', code):
        assert (workplace / name).stat().st_size > 1000, name


_SMALL = {"model.hidden_size": 16, "training.mixed_precision": "no", "training.warmup_steps": 1}
_SMALL |= {"training.batch_size": 4, "windows.stride": 240}
# What makes a training of a page take seconds: sizes, fewer windows of the data, and fewer songs beside them.
SMALL = {
    "train_tokenizer": _SMALL | {"model.code_size": 8, "model.residual_depth": 1},
    "train_classifier": _SMALL | {"model.intermediate_size": 16},
    "train_generator": _SMALL
    | {f"model.{name}": 16 for name in ("intermediate_size", "music_hidden_size", "output_hidden_size", "rhythm_size")}
    | {
        "rhythm.composed_songs": 1,
        "hearing.composed_songs": 1,
        "hearing.noises": 2,
        "rhythm.windows": {"length": 64, "stride": 320, "tempo": 1.1},
        "rhythm.training": {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3},
    },
}


def run_example(command: str, monkeypatch) -> None:
    """Run a script of the examples, in this process; trainings small, and without the picture of their curves (test_examples.py)."""
    monkeypatch.setattr(loop, "plot_curves", lambda metrics, picture: None)
    words = shlex.split(command)
    place = next(index for index, word in enumerate(words) if word.endswith(".py"))
    name = Path(words[place]).stem
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    if name not in (*SMALL, "finetune_genre"):
        importlib.import_module(name).main(words[place + 1 :])
        return
    small = [f"--set={key}={json.dumps(value)}" for key, value in SMALL.get(name, {}).items()]
    if name == "finetune_genre":
        small = ["--batch-size", "2", "--length", "64"]
    output = Path(words[words.index("--output") + 1])
    if output.is_symlink():  # made by this very page
        output.unlink()
    importlib.import_module(name).main([*words[place + 1 :], "--epochs", "1", *small])


@pytest.fixture
def in_reach(request) -> Callable[[str], None]:
    """Called with what a page runs: what it needs of the Hub is there, on a stand-in."""

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
    write_download_2026(tmp_path)
    for name in ("song.mp3", "other.wav"):
        write_song(tmp_path / name, seconds=4)
    time = np.arange(96)[:, None] / 30
    Motion(0.3 * np.sin(2 * np.pi * time + np.arange(72)), np.zeros((96, 3))).save(tmp_path / "dance.npz")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
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
