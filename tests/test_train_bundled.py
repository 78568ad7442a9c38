"""`examples/train_bundled.sh`: its own commands and recipes, with sizes that train in seconds."""

import json
import os
import stat
import subprocess
import sys

import pytest
import torch
from documents import SMALL
from test_ballroom import RawFolder as Waltzes
from test_ballroom2 import RawFolder

from megadance_hf import MegaDanceTokenizer, MusicToDancePipeline
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration

GENRES = ["waltz", "tango", "rumba", "chacha"]


def raw_folders(root):
    raw, old = RawFolder(root / "ballroom2"), Waltzes(root / "ballroom")
    for split, count in (("train", 2), ("val", 1)):
        for genre in ("tango", "rumba", "chacha"):
            for number in range(count):
                raw.add(f"{genre}_{split}_{number}", frames=270, split=split, start=number + 0.3, genre=genre)
    raw.add("salsa_60_1", frames=270, genre="salsa", source="CMU 60_1")
    for name in ("waltz_20", "waltz_21"):  # 21 is of the validation split
        old.add(name, frames=270, paired=True)
    return [str(raw.write()), str(old.write())]


def small_python(folder, python):
    """A `python` whose trainings are small: what the recipes say, with other sizes."""
    lines = ["#!/usr/bin/env bash", 'case "${1:-}" in']
    for name in ("train_tokenizer", "train_generator"):
        words = " ".join(f"'--set={key}={json.dumps(value)}'" for key, value in SMALL[name].items())
        lines.append(f'*{name}.py) set -- "$@" {words} ;;')
    file = folder / "python"
    file.write_text("\n".join([*lines, "esac", f'exec "{python}" "$@"\n']), encoding="utf-8")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


@pytest.mark.slow
def test_from_raw_folders_to_the_files_of_a_bundled_model(repository, tmp_path, forked_python):
    command = ["bash", str(repository / "examples" / "train_bundled.sh"), *raw_folders(tmp_path), str(tmp_path / "out")]
    environment = {
        **os.environ,
        "PYTHON": small_python(tmp_path, forked_python),
        "PYTHON_EXEC": forked_python,
        "EPOCHS": "1",
        "OMP_NUM_THREADS": "1",
    }
    run = {"env": environment, "capture_output": True, "text": True}
    first = subprocess.run(command, timeout=900, **run)
    assert first.returncode == 0, first.stdout + first.stderr
    out = tmp_path / "out"
    trained, made = out / "generator", out / "model"
    assert {file.relative_to(made).as_posix() for file in made.rglob("*") if file.is_file()} == {
        *("config.json", "generation_config.json", "preprocessor_config.json", "model.safetensors"),
        *("tokenizer/config.json", "tokenizer/model.safetensors"),
    }
    sizes = [sum(file.stat().st_size for file in folder.rglob("*.safetensors")) for folder in (made, trained)]
    assert sizes[0] < 0.7 * sizes[1]

    pipe = MusicToDancePipeline.from_pretrained(made)
    assert pipe.genres == GENRES and set(pipe.model.generation_config.start_codes) == set(GENRES)
    assert (pipe.model.config.code_head, pipe.model.config.level_decoding) == ("factorised", "sequential")
    assert pipe.tokenizer.config.contacts and pipe.tokenizer.config.heading == "turn"
    parts = MegaDanceForMotionGeneration.from_pretrained(trained), MegaDanceTokenizer.from_pretrained(out / "tokenizer")
    for part, original in zip((pipe.model, pipe.tokenizer), parts, strict=True):
        rounded = {name: value.bfloat16().float() for name, value in original.state_dict().items()}
        assert all(torch.equal(value, rounded[name]) for name, value in part.state_dict().items())
        original.load_state_dict(rounded)
    features, genre = torch.rand(1, 48, 35), torch.tensor([1])
    codes, expected = (
        model.eval().generate(features, genre, seed=0, do_sample=True) for model in (pipe.model, parts[0])
    )
    assert torch.equal(codes.upper_codes, expected.upper_codes) and torch.equal(codes.lower_codes, expected.lower_codes)
    decoded, motion = (
        tokenizer.eval().decode(codes.upper_codes, codes.lower_codes) for tokenizer in (pipe.tokenizer, parts[1])
    )
    torch.testing.assert_close(decoded, motion)

    stamps = {file: file.stat().st_mtime_ns for file in out.glob("*.log")}
    again = subprocess.run(command, timeout=120, **run)
    assert again.returncode == 0 and again.stdout.count("\n") == 1, again.stdout + again.stderr
    assert len(stamps) == 3 and all(file.stat().st_mtime_ns == when for file, when in stamps.items())


def test_a_failure_is_told_and_ends_it(repository, tmp_path):
    (waltzes := Waltzes(tmp_path / "ballroom")).add("waltz_20")
    command = ["bash", str(repository / "examples" / "train_bundled.sh"), str(tmp_path / "none"), str(waltzes.write())]
    done = subprocess.run(
        [*command, str(tmp_path / "out")],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0 and "none" in done.stderr and "error" in done.stderr
    assert not (tmp_path / "out" / "data.done").exists() and "tokenizer" not in done.stdout
