"""The example scripts, run as a user runs them, on a small prepared data set."""

import dataclasses
import functools
import importlib
import os
import subprocess

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from helpers import tiny_generator, tiny_tokenizer, write_song
from raw_folders import make_finedance, real_clips

from megadance_hf.data.card import Card
from megadance_hf.data.clip import Clip
from megadance_hf.data.prepared import to_table, write_prepared
from megadance_hf.datasets_scripts import finedance
from megadance_hf.modeling.configuration_megadance import (
    MegaDanceClassifierConfig,
    MegaDanceConfig,
    MegaDanceTokenizerConfig,
)
from megadance_hf.modeling.feature_extraction_megadance import MegaDanceFeatureExtractor
from megadance_hf.modeling.modeling_megadance_classifier import MegaDanceForGenreClassification
from megadance_hf.models import DEFAULT_MODEL
from megadance_hf.pipeline import MusicToDancePipeline
from megadance_hf.training import processes, rhythm
from megadance_hf.training.arguments import recipe_parser
from megadance_hf.training.config import TrainingConfig, TrainingError

TOKENIZER = {
    "model": {"levels": [3, 3], "hidden_size": 8, "code_size": 8, "residual_depth": 1, "normalize_scalars": True},
    "windows": {"length": 64, "stride": 16},
    "task": {"soft_share": 0.5},
    "training": {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3},
}
GENERATOR = {
    "model": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "music_hidden_size": 8,
        "output_hidden_size": 16,
        "music_reduction": "stack",
        "music_lookahead": 1,
        "music_columns": [32, 33, 34],
        "music_to_codes": True,
        "rhythm_size": 8,
        "rhythm_layers": 2,
    },
    "rhythm": {
        "composed_songs": 1,
        "windows": {"length": 64, "tempo": 1.1},
        "training": {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3},
    },
    "windows": {"length": 64, "stride": 16, "stretches": [0.9, 1.0]},
    "sampler": {"genre_run": 2},
    "training": {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3, "sample_every": 5},
    "generation": {"do_sample": True, "temperature": 0.9},
}


def swings(number: int, split: str) -> Clip:
    generator = np.random.default_rng(number)
    time = np.arange(100)[:, None] / 30
    poses = np.sin(2 * np.pi * time + generator.uniform(0, 6, (1, 72))) * generator.uniform(0, 0.4, (1, 72))
    return Clip(
        id=f"swing{number}",
        poses=poses.astype(np.float32),
        translation=np.concatenate([0 * time, 1 + 0 * time, 0.1 * time], 1).astype(np.float32),
        input_features=generator.random((100, 35), dtype=np.float32),
        genre=("waltz", "rumba")[number % 2],
        split=split,
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    clips = [swings(number, "validation" if number > 3 else "train") for number in range(6)]
    card = Card(title="Swings", description="Made by a test.", licence="none")
    write_prepared(folder, clips, card=card, genres=["rumba", "waltz"])
    return folder


@pytest.fixture
def run(forked_python):
    """`run(repository, script, arguments, NAME=value)` in a process of its own."""
    return functools.partial(run_with, forked_python)


def run_with(python, repository, script, *arguments, **environment):
    command = [python, str(repository / "examples" / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_training_both_stages_makes_a_model_that_dances_and_is_pushed(repository, prepared, hub, tmp_path, run):
    for name, settings in (("tokenizer", TOKENIZER), ("generator", GENERATOR)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    codec, model = tmp_path / "codec", tmp_path / "model"
    run(
        repository, "train_tokenizer.py", "--config", tmp_path / "tokenizer.yaml", "--data", prepared, "--output", codec
    )
    run(
        repository,
        *("train_generator.py", "--config", tmp_path / "generator.yaml", "--data", prepared),
        *("--tokenizer", codec, "--output", model, "--epochs", 2, "--push-to-hub", "anna/dance"),
        **hub.environment(tmp_path / "home"),
    )
    repository = hub.repositories["model", "anna/dance"]
    assert repository.messages[1:] == ["Training, epoch 2", "Upload with megadance"]
    assert MusicToDancePipeline.from_pretrained("anna/dance").genres == ["rumba", "waltz"]
    pipe = MusicToDancePipeline.from_pretrained(model)
    assert pipe.genres == ["rumba", "waltz"]
    assert pipe.model.generation_config.do_sample and set(pipe.model.generation_config.start_codes) == {
        "rumba",
        "waltz",
    }
    dance = pipe(str(write_song(tmp_path / "song.wav", 2.0)), genre="waltz", seed=0)
    assert len(dance) == 60 and np.isfinite(dance.joints()).all()
    assert len(list((model / "samples").glob("epoch-0002.*"))) == 2


@pytest.mark.slow
def test_training_the_classifier(repository, prepared, tmp_path, run):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    settings = {"model": sizes, "windows": {"length": 64}, "training": TOKENIZER["training"]}
    (tmp_path / "classifier.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    where = ("--config", tmp_path / "classifier.yaml", "--data", prepared, "--output", tmp_path / "out")
    run(repository, "train_classifier.py", *where)
    model = MegaDanceForGenreClassification.from_pretrained(tmp_path / "out")
    assert model.config.genres == ["rumba", "waltz"] and model.motion_std.lt(1).all()


def waltzes_called(genre: str, folder):
    """The same swings under the name of a genre that no model here knows."""
    clips = [swings(number, "validation" if number == 5 else "train") for number in (1, 3, 5)]
    for clip in clips:
        clip.genre = genre
    write_prepared(folder, clips, card=Card(title="New", description="Made by a test.", licence="none"), genres=[genre])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("embedding", [False, True])
def test_a_new_genre_leaves_the_others_bit_for_bit(repository, tmp_path, embedding, run):
    torch.manual_seed(0)
    tiny_generator(genre_embedding=embedding, use_genre_experts=not embedding).save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model" / "tokenizer")
    MegaDanceFeatureExtractor().save_pretrained(tmp_path / "model")
    arguments = (
        "--model",
        tmp_path / "model",
        "--data",
        waltzes_called("Tango", tmp_path / "data"),
        "--genre",
        "tango",
    )
    options = ("--like", "waltz", "--length", 64, "--epochs", 2, "--batch-size", 4, "--output", tmp_path / "new")
    run(repository, "finetune_genre.py", *arguments, *options)

    before, after = (MusicToDancePipeline.from_pretrained(tmp_path / name) for name in ("model", "new"))
    assert after.genres == [*before.genres, "tango"] and after.model.config.label2id["tango"] == 3
    old, new = before.model.state_dict(), after.model.state_dict()
    for name, value in old.items():
        assert torch.equal(new[name][: len(value)] if "genre_embedding" in name else new[name], value), name
    learned = {name for name in new if "genre_tango" in name or "genre_embedding" in name}
    assert learned and set(new) - set(old) == {name for name in learned if "genre_tango" in name}
    moved = [not torch.equal(new[name], old[name.replace("tango", "waltz")]) for name in learned if "tango" in name]
    assert embedding or sum(moved) > len(moved) / 2
    if embedding:
        rows = new["model.genre_embedding.weight"]
        assert not torch.equal(rows[3], rows[2])
    # the other genres dance as before, the new one from beginnings of its own
    features, genre = torch.rand(2, 64, 35), torch.tensor([0, 2])
    dances = [pipe.model.generate(features, genre, seed=1, do_sample=True) for pipe in (before, after)]
    assert torch.equal(dances[0].upper_codes, dances[1].upper_codes)
    assert torch.equal(dances[0].lower_codes, dances[1].lower_codes)
    assert after.model.generation_config.start_codes["tango"]
    dance = after(str(write_song(tmp_path / "song.wav", 2.0)), genre="tango", seed=0)
    assert len(dance) == 60 and dance.genre == "tango"
    assert len(list((tmp_path / "new" / "samples").glob("*.png"))) == 1


def test_a_genre_without_clips_is_an_error(repository, prepared, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "examples"))
    main = importlib.import_module("finetune_genre").main
    arguments = ["--model", "bundled", "--data", str(prepared), "--genre", "polka", "--output", str(tmp_path)]
    with pytest.raises(TrainingError, match="--genre 'polka': .* has no training clip of it"):
        main(arguments)


def test_only_the_main_process_publishes(repository, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "examples"))
    common = importlib.import_module("common")
    pushed, main = [], [True]
    monkeypatch.setattr(common, "push_to_hub", lambda *arguments: pushed.append(arguments))
    monkeypatch.setattr(common, "is_main_process", lambda: main[0])
    parser = recipe_parser("", "training")
    arguments = ["--config", "c.yaml", "--output", str(tmp_path / "out")]
    common.publish(parser.parse_args(arguments), (tiny_tokenizer(), tmp_path / "out" / "tokenizer"))
    assert (tmp_path / "out" / "tokenizer" / "config.json").is_file() and pushed == []
    with_push = parser.parse_args([*arguments, "--push-to-hub", "anna/dance"])
    common.publish(with_push)
    main[0] = False
    common.publish(with_push)
    assert pushed == [(str(tmp_path / "out"), "anna/dance")]


# --- as one line, and on any data ------------------------------------------------------------------------------------------


@pytest.fixture
def script(repository, monkeypatch, capsys):
    """`script("train_tokenizer", arguments)` in this process, as from a shell: exit status, stdout, stderr."""
    monkeypatch.syspath_prepend(str(repository / "examples"))

    def call(name, *arguments):
        monkeypatch.setattr("sys.argv", [f"{name}.py", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            importlib.import_module("common").run(importlib.import_module(name).main)
        return end.value.code, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def finedance_set(ballroom_dir, tmp_path_factory):
    """FineDance as it is prepared by default: no validation split, no known beats; and clips of only four seconds."""
    folder = tmp_path_factory.mktemp("finedance")
    raw = make_finedance(
        folder / "raw", dict(zip(("001", "002", "003", "063"), real_clips(ballroom_dir, 4, 4), strict=True))
    )
    finedance.prepare(raw, folder / "prepared", progress=False)
    return folder / "prepared"


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codec")
    tiny_tokenizer().save_pretrained(folder)
    return folder


TINY = ["training.mixed_precision=no", "model.hidden_size=16"]
TINY_BY_KIND = {
    "tokenizer": ["model.code_size=8"],
    "classifier": ["model.intermediate_size=16", "model.num_attention_heads=2"],
    "generator": [
        *("model.num_hidden_layers=1", "model.num_attention_heads=2", "model.intermediate_size=16"),
        *("model.music_hidden_size=16", "model.output_hidden_size=16"),
    ],
}


def tiny(kind: str) -> list[str]:
    return [f"--set={change}" for change in TINY + TINY_BY_KIND[kind]]


@pytest.mark.parametrize("kind", ["tokenizer", "classifier", "generator"])
@pytest.mark.parametrize("size", ["small", "ballroom", "paper", "released_2026"])
def test_every_recipe_trains_on_data_without_beats_and_validation(
    repository, script, finedance_set, codec, tmp_path, monkeypatch, size, kind
):
    arguments = ["--config", repository / "examples" / "configs" / f"{size}_{kind}.yaml", "--data", finedance_set]
    arguments += ["--output", tmp_path / "out", "--max-steps", 2, *tiny(kind)]
    if size == "released_2026":
        arguments.append("--set=data.hold_back=0.1")
    if kind == "generator":
        arguments += ["--tokenizer", codec]
        monkeypatch.setattr(rhythm, "COMPOSED_SONGS", 1)
        if size == "ballroom":
            arguments += [
                f"--set={key}" for key in ("rhythm.composed_songs=1", "hearing.composed_songs=1", "hearing.noises=2")
            ]
    status, output, error = script(f"train_{kind}", *arguments)
    assert status == 0, error
    assert "no validation split: held back to measure by are 1 of 3 songs (002)" in output
    assert (tmp_path / "out" / "model.safetensors").is_file() and (tmp_path / "out" / "curves.png").is_file()
    has_rhythm = kind == "generator" and size in ("small", "ballroom")
    assert ("beats of 0 clips are known" in output) == has_rhythm
    if kind == "generator":
        pipe = MusicToDancePipeline.from_pretrained(tmp_path / "out")
        assert (pipe.model.config.rhythm_size > 0) == has_rhythm
        if size == "released_2026":
            assert pipe.model.config.levels == pipe.tokenizer.config.levels
            assert pipe.model.config.arrangement == "released_2026"
    again, _, error = script(f"train_{kind}", *arguments)
    assert again == 2 and error.count("\n") == 1 and "give another folder, or resume it (--resume)" in error


def test_the_papers_protocol_holds_nothing_back(repository, script, finedance_set, tmp_path):
    where = ["--config", repository / "examples" / "configs" / "small_tokenizer.yaml", "--data", finedance_set]
    where += ["--output", tmp_path / "out", "--max-steps", 1, *tiny("tokenizer"), "--set=data.hold_back=0"]
    status, output, error = script("train_tokenizer", *where)
    assert status == 0, error
    assert (
        "data.hold_back=0: all 3 clips are trained on, and nothing is measured meanwhile" in output
        and "score" not in output
    )


def test_one_key_makes_a_generator_without_a_rhythm_encoder(repository, script, finedance_set, codec, tmp_path):
    where = ["--config", repository / "examples" / "configs" / "small_generator.yaml", "--data", finedance_set]
    where += ["--tokenizer", codec, "--output", tmp_path / "out", "--max-steps", 1, *tiny("generator")]
    status, output, error = script("train_generator", *where, "--set=model.rhythm_size=0")
    assert status == 0, error
    assert "no rhythm encoder, section rhythm is not used" in output and not (tmp_path / "out" / "rhythm").exists()
    assert MusicToDancePipeline.from_pretrained(tmp_path / "out").model.model.rhythm_encoder is None


def test_a_single_clip_is_enough_to_begin(repository, script, tmp_path):
    write_prepared(tmp_path / "set", [swings(0, "train")], card=Card("One", "Made up.", "None."), genres=["waltz"])
    where = ["--config", repository / "examples" / "configs" / "small_tokenizer.yaml", "--data", tmp_path / "set"]
    status, output, error = script(
        "train_tokenizer", *where, "--output", tmp_path / "out", "--max-steps", 1, *tiny("tokenizer")
    )
    assert status == 0 and "a single song, which is trained on" in output, error


def test_a_dry_run_checks_all_and_writes_nothing(repository, script, finedance_set, codec, tmp_path):
    where = ["--config", repository / "examples" / "configs" / "small_generator.yaml", "--data", finedance_set]
    where += ["--tokenizer", codec, "--output", tmp_path / "out", *tiny("generator"), "--dry-run"]
    status, output, error = script("train_generator", *where, "--push-to-hub", "anna/dance")
    assert status == 0, error
    assert "would train MegaDanceForMotionGeneration, " in output and "on 2 clips, measured by 1" in output
    assert "would upload to the model repository anna/dance:" in output and "tokenizer/model.safetensors" in output
    assert not (tmp_path / "out").exists()


CONFIG = "examples/configs/small_{}.yaml"


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("train_tokenizer", {"--data": "nowhere"}, "'nowhere' is not a prepared data set"),
        ("train_tokenizer", {"--config": "nowhere.yaml"}, "nowhere.yaml does not exist"),
        (
            "train_tokenizer",
            {"--set": "windows.length=100"},
            "small_tokenizer.yaml: windows.length=100 is not possible: give a mul",
        ),
        (
            "train_tokenizer",
            {"--set": "task.soft_share=2"},
            "small_tokenizer.yaml: task.soft_share=2 is a share: give 0 to 1",
        ),
        ("train_tokenizer", {"--set": "a.b.c=2"}, "--set a.b.c=2: a is not a setting"),
        (
            "train_tokenizer",
            {"--set": "model.levels=[4]"},
            "small_tokenizer.yaml: model.levels=[4] is not possible: each must be an",
        ),
        (
            "train_tokenizer",
            {"--epochs": "0"},
            "argument --epochs: '0' cannot be used: give a whole number of 1 or more",
        ),
        ("train_tokenizer", {"--ouptut": "x"}, "unrecognized arguments: --ouptut"),
        ("train_tokenizer", {"--push-to-hub": "anna/x..y"}, "repo='anna/x..y' is no name of a repository"),
        (
            "train_tokenizer",
            {"--data": "silent", "--set": "windows.length=2000", "+": "--set=windows.short=leave_out"},
            None,
        ),
        (
            "train_classifier",
            {"--set": "model.num_outputs=1"},
            "model.num_outputs=1 is not possible: 16 genres need as many",
        ),
        ("train_classifier", {"--data": "without genres"}, "it names no genres"),
        (
            "train_generator",
            {"--data": "silent"},
            "none of 2 clips in train has music, and a generator dances to music",
        ),
        (
            "train_generator",
            {"--data": "broken"},
            "train.parquet cannot be read (poses hold NaN or infinite numbers, first in frame 3)",
        ),
        ("train_generator", {"--tokenizer": "nowhere/at/all"}, "is no folder here"),
        ("train_generator", {"--tokenizer": "bundled"}, "it holds megadance: give "),
        ("train_generator", {"--set": "model.codebook_size=9"}, "model.codebook_size=9, but --tokenizer "),
        (
            "train_generator",
            {"--set": "model.hidden_size=97"},
            "model.hidden_size=97 is not possible: it must be a multiple of",
        ),
        (
            "train_generator",
            {"--set": "windows.repeats.polka=3"},
            "--set windows.repeats.polka: no such genre in the data",
        ),
        (
            "train_generator",
            {"--set": "rhythm.composed_songs=-1"},
            "rhythm.composed_songs=-1 is not possible: give 0 to 1000",
        ),
        (
            "train_generator",
            {"--rhythm": "bundled"},
            "its rhythm_size is 64, the recipe's 48: set model.rhythm_size=64",
        ),
        (
            "train_generator",
            {"--rhythm": "codec"},
            "it holds megadance_tokenizer: give the folder of a trained megadance",
        ),
        (
            "train_generator",
            {"--config": "examples/configs/paper_generator.yaml", "--set": "model.rhythm_size=8"},
            "model.rhythm_size=8 needs a section rhythm",
        ),
        (
            "train_generator",
            {"--config": "examples/configs/paper_generator.yaml", "--set": "augmentation.dropout=0.2"},
            "augmentation.dropout=0.2 is not possible: with windows.random=false music stays as it is; give 0",
        ),
        (
            "train_generator",
            {"--config": "examples/configs/released_2026_generator.yaml", "--set": "model.levels=[3, 5]"},
            "model.levels=[3, 5], but --tokenizer",
        ),
        ("train_classifier", {"--set": "windows.isolated=true"}, "windows.isolated is not a setting"),
        ("train_classifier", {"--set": "validation.stride=8"}, "validation.stride=8 is not possible: it is of windows"),
        ("train_tokenizer", {"--set": "training.betas=[0.9, 0.9, 0.9]"}, "adamw takes two numbers from 0 to below 1"),
        ("finetune_genre", {"--genre": "polka"}, "has no training clip of it; its genres are Dai, ShenYun"),
        ("finetune_genre", {"--genre": "Breaking", "--like": "polka"}, "--genre 'Breaking': genre='polka' is unknown"),
        ("finetune_genre", {"--genre": "Breaking", "--length": "100"}, "--length 100: give a multiple of 8"),
    ],
)
def test_mistakes_are_one_line(repository, script, finedance_set, codec, tmp_path, monkeypatch, name, changes, message):
    monkeypatch.chdir(repository)
    card = Card("Swings", "Made up.", "None.")
    options = {"--data": finedance_set, "--output": tmp_path / "out", "--max-steps": 1}
    if name == "finetune_genre":
        options["--model"] = "bundled"
    else:
        options["--config"] = CONFIG.format(name.removeprefix("train_"))
    if name == "train_generator":
        options["--tokenizer"] = codec
    options |= {key: value for key, value in changes.items() if key != "+"}
    if options["--data"] == "silent":
        clips = [dataclasses.replace(swings(number, "train"), input_features=None) for number in range(2)]
        write_prepared(tmp_path / "set", clips, card=card, genres=["rumba", "waltz"])
        options["--data"] = tmp_path / "set"
    elif options["--data"] == "without genres":
        write_prepared(tmp_path / "set", [dataclasses.replace(swings(0, "train"), genre=None)], card=card, genres=[])
        options["--data"] = tmp_path / "set"
    elif options["--data"] == "broken":
        broken = swings(0, "train")
        write_prepared(tmp_path / "set", [broken], card=card, genres=["rumba", "waltz"])
        broken.poses[3, 5] = np.nan
        pq.write_table(to_table(broken), tmp_path / "set" / "train.parquet")
        options["--data"] = tmp_path / "set"
    places = {"bundled": DEFAULT_MODEL, "codec": codec}
    for option in ("--tokenizer", "--rhythm"):
        if option in options:
            options[option] = places.get(options[option], options[option])
    words = [str(word) for pair in options.items() for word in pair]
    status, output, error = script(name, *words, *changes.get("+", "").split())
    if message is None:  # windows longer than any clip become as long as most are
        assert status == 0 and "windows.length=96 instead of 2000: most clips are shorter" in output, error
        return
    assert status == 2 and message in error and error.startswith(f"{name}: error: ")
    assert error.count("\n") == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(("rank", "waits"), [("0", []), ("1", [processes.GRACE])])
def test_who_tells_of_a_mistake(script, monkeypatch, rank, waits):
    """The first process at once; another one when that has not ended it meanwhile: what is wrong is wrong there alone."""
    waited = []
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(processes.time, "sleep", waited.append)
    status, _, error = script(
        "train_tokenizer", "--config", CONFIG.format("tokenizer"), "--data", "nowhere", "--output", "out"
    )
    assert (status, waited, error.count("\n")) == (2, waits, 1) and "error: 'nowhere' is not" in error


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["accelerate", "torchrun"])
def test_mistakes_are_one_line_of_one_process(repository, tmp_path, launcher, forked_python):
    """Accelerate's launcher has a traceback of its own, which `--quiet` leaves out; that of torch tells about processes."""
    script = [
        str(repository / "examples" / "train_tokenizer.py"),
        "--config",
        CONFIG.format("tokenizer"),
        "--data",
        "nowhere",
    ]
    launch = {
        "accelerate": ["accelerate.commands.launch", "--quiet", "--cpu", "--num_processes=1", "--num_machines=1"]
        + ["--mixed_precision=no", "--dynamo_backend=no"],
        "torchrun": ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
    }[launcher]
    command = [forked_python, "-m", *launch, *script, "--output", str(tmp_path / "out")]
    environment = os.environ | {"PYTHON_EXEC": forked_python}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=repository, env=environment)
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if "train_tokenizer: error: 'nowhere' is not a prepared" in line]
    assert len(lines) == 1 and "common.py" not in done.stderr, done.stderr
    if launcher == "accelerate":
        assert done.stderr.count("\n") == 1, done.stderr


def test_the_configurations_that_come_along_are_valid(repository):
    """A misspelt name would be taken silently by transformers."""
    kinds = {
        "tokenizer": MegaDanceTokenizerConfig,
        "generator": MegaDanceConfig,
        "classifier": MegaDanceClassifierConfig,
    }
    for file in sorted((repository / "examples" / "configs").glob("*.yaml")):
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
        config = kinds[file.stem.rsplit("_", 1)[1]]
        made = config(**settings.get("model", {}))
        for name, value in settings.get("model", {}).items():
            assert hasattr(config(), name) and getattr(made, name) == value, f"{file.name}: {name}"
        assert TrainingConfig.from_dict(settings["training"]).epochs == settings["training"]["epochs"]
