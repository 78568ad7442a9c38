"""The training loop: that it learns, that a stopped run goes on as if it had not been stopped, alone and with others."""

import functools
import json
import multiprocessing
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import GENRES, RUNS, TINY_TOKENIZER, classifier_run, clips, generator_run, tokenizer_run
from safetensors.torch import load_file
from transformers import GenerationConfig

from megadance_hf.data.augmentation import mirror_motion
from megadance_hf.data.clip import clip_motion
from megadance_hf.data.sampling import EpochSampler, collate
from megadance_hf.data.segments import MotionSegments
from megadance_hf.modeling import batched_experts_megadance
from megadance_hf.modeling.configuration_megadance import MegaDanceTokenizerConfig
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizer
from megadance_hf.training.checkpoints import Progress, check_output
from megadance_hf.training.config import TrainingConfig, TrainingError
from megadance_hf.training.loop import train
from megadance_hf.training.schedule import learning_rate_at
from megadance_hf.training.tasks import TokenizerTask


def rows(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def timeless(folder) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "windows_per_second"} for row in rows(folder)]


def same_weights(first: Path, second: Path) -> bool:
    a, b = load_file(str(first)), load_file(str(second))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# --- stopping and going on -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", RUNS)
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, which):
    run = RUNS[which]
    run(tmp_path / "whole", epochs=3)
    run(tmp_path / "stopped", epochs=3, stop_after_steps=5)
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    run(tmp_path / "stopped", epochs=3, resume=True)
    assert same_weights(tmp_path / "whole" / "model.safetensors", tmp_path / "stopped" / "model.safetensors")
    assert timeless(tmp_path / "whole") == timeless(tmp_path / "stopped")


@pytest.mark.versions
def test_the_middle_of_an_epoch_can_be_resumed(tmp_path):
    settings = {"epochs": 2, "batch_size": 2, "save_every_steps": 3, "gradient_accumulation_steps": 2, "ema_decay": 0.9}
    generator_run(tmp_path / "whole", **settings)
    steps = rows(tmp_path / "whole")[0]["step"]
    assert steps > 3
    generator_run(tmp_path / "stopped", **settings, stop_after_steps=4)
    (checkpoint,) = (tmp_path / "stopped" / "checkpoints").iterdir()
    assert checkpoint.name == "step-00000003" and not (tmp_path / "stopped" / "metrics.jsonl").exists()
    with pytest.raises(
        TrainingError, match="batch_size=4: step-00000003 was made in the middle of an epoch with 4 segments per step"
    ):
        generator_run(tmp_path / "stopped", **settings | {"batch_size": 4}, resume=True)
    generator_run(tmp_path / "stopped", **settings, resume=True)
    assert same_weights(tmp_path / "whole" / "model.safetensors", tmp_path / "stopped" / "model.safetensors")
    assert timeless(tmp_path / "whole") == timeless(tmp_path / "stopped")


@pytest.mark.slow
def test_a_run_killed_five_times_ends_as_one_that_was_not(tmp_path):
    """SIGKILL at random moments, some of them while a checkpoint is written: one is written at every step."""
    settings = {"epochs": 7, "ema_decay": 0.9, "save_every_steps": 1, "keep_best": True, "schedule": "linear"}
    context = multiprocessing.get_context("forkserver")
    # imported once; not `runs` itself: where that is, the server is told too late
    context.set_forkserver_preload(
        ["megadance_hf.training.loop", "megadance_hf.training.tasks", "megadance_hf.data.codes"]
    )
    chance, folder = random.Random(4), tmp_path / "killed"

    def start(output: Path, resume: bool):
        process = context.Process(target=generator_run, args=(output,), kwargs={**settings, "resume": resume})
        process.start()
        return process

    def newest() -> int:
        names = [path.name for path in (folder / "checkpoints").glob("step-*")]
        return max((int(name.split("-")[1]) for name in names), default=0)

    whole = start(tmp_path / "whole", False)
    killed_at = []
    while len(killed_at) < 5:
        began, further, delay = newest(), chance.randint(1, 4), chance.uniform(0, 0.08)
        process = start(folder, resume=len(killed_at) > 0)
        until = time.monotonic() + 120
        while newest() < began + further and process.is_alive() and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(delay)
        assert process.is_alive(), "nothing was left to kill"
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        killed_at.append(newest())
    assert not (folder / "model.safetensors").exists()
    last = start(folder, resume=True)
    for process in (whole, last):
        process.join(120)
        assert process.exitcode == 0
    assert timeless(tmp_path / "whole") == timeless(folder) and len(rows(folder)) == 7
    for name in ("model.safetensors", "best.safetensors"):
        assert same_weights(tmp_path / "whole" / name, folder / name)
    ends = [sorted((output / "checkpoints").iterdir())[-1] for output in (tmp_path / "whole", folder)]
    assert ends[0].name == ends[1].name and same_weights(*(end / "model.safetensors" for end in ends))
    averages = [torch.load(end / "average-0.pt") for end in ends]
    assert all(torch.equal(a, b) for a, b in zip(*averages, strict=True))
    assert not list((folder / "checkpoints").glob("partial-*"))


def test_what_a_kill_may_leave_is_not_read(tmp_path):
    tokenizer_run(tmp_path, epochs=1)
    half = tmp_path / "checkpoints" / "partial-00000009"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    report, _ = tokenizer_run(tmp_path, epochs=2, resume=True)
    assert [row["epoch"] for row in rows(tmp_path)] == [1, 2] and not half.exists()
    again, _ = tokenizer_run(tmp_path, epochs=2, resume=True)  # nothing is left to do
    assert again == report


# --- an end after so many steps ----------------------------------------------------------------------------------------


def test_max_steps_end_a_training_as_its_last_epoch_does(tmp_path):
    """And what was ended is gone on with, to the bits of a training that was not."""
    settings = {"epochs": 2, "ema_decay": 0.9, "save_every": 1}
    generator_run(tmp_path / "whole", **settings)
    steps = rows(tmp_path / "whole")[0]["step"]
    report, _ = generator_run(tmp_path / "cut", **settings, max_steps=steps + 1)
    assert (tmp_path / "cut" / "model.safetensors").is_file() and np.isfinite(report["score"])
    assert [row["step"] for row in rows(tmp_path / "cut")] == [steps, steps + 1]
    again, _ = generator_run(tmp_path / "cut", **settings, max_steps=steps + 1, resume=True)
    assert again == report, "nothing is left to do"
    # the learning rate is a cosine over all steps, which were fewer: only what is constant can be the same
    constant = {**settings, "schedule": "constant", "warmup_steps": 0}
    for name, limits in (("one", [0]), ("two", [steps - 1, 0])):
        for number, limit in enumerate(limits):
            generator_run(tmp_path / name, **constant, max_steps=limit, resume=number > 0)
    assert same_weights(tmp_path / "one" / "model.safetensors", tmp_path / "two" / "model.safetensors")
    assert timeless(tmp_path / "one") == timeless(tmp_path / "two")


# --- outputs that are in use -----------------------------------------------------------------------------------------------


def test_a_second_training_does_not_overwrite_the_first(tmp_path):
    classifier_run(tmp_path / "run", epochs=1)
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    with pytest.raises(
        TrainingError, match=r"run' holds a training already \(checkpoints\): give another folder, or resume"
    ):
        classifier_run(tmp_path / "run", epochs=1)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before
    with pytest.raises(TrainingError, match=r"was begun with model.hidden_size=16, now it is 8: resume with the same"):
        classifier_run(tmp_path / "run", epochs=2, resume=True, model={"hidden_size": 8})
    with pytest.raises(
        TrainingError, match=r"was begun with genres=waltz, rumba, tango, samba, now it is waltz, .*, polka"
    ):
        names = dict(enumerate(("waltz", "rumba", "tango", "polka")))
        classifier_run(tmp_path / "run", epochs=2, resume=True, model={"id2label": names})


@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_damaged_checkpoint_is_named(tmp_path, damage):
    classifier_run(tmp_path, epochs=1)
    (newest,) = (tmp_path / "checkpoints").iterdir()
    weights = newest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100]) if damage == "cut" else weights.unlink()
    with pytest.raises(TrainingError, match=rf"{newest.name}.*: remove it: the one before is gone on from") as error:
        classifier_run(tmp_path, epochs=2, resume=True)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("what", ["a file", "below a file", "a model"])
def test_outputs_that_cannot_be(tmp_path, what):
    (tmp_path / "file").touch()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").touch()
    place, message = {
        "a file": ("file", "is a file: give a folder"),
        "below a file": ("file/new", "cannot be written"),
        "a model": ("model", r"holds a training already \(config.json\)"),
    }[what]
    with pytest.raises(TrainingError, match=message):
        check_output(tmp_path / place, resume=False)


def test_a_loss_that_is_no_number_ends_the_training(tmp_path):
    with pytest.raises(TrainingError, match="the loss is no number any more .*: use a smaller training.learning_rate"):
        classifier_run(tmp_path, epochs=2, learning_rate=1e30, max_grad_norm=0.0)


# --- several processes -----------------------------------------------------------------------------------------------


@pytest.fixture
def in_two_processes(repository, forked_python):
    return functools.partial(run_in_two_processes, forked_python, repository)


def run_in_two_processes(
    python: str, repository: Path, output: Path, runs: dict, *launcher: str, **environment: str
) -> None:
    """Each of `runs` with half the batch size in each of two processes that `accelerate launch` starts."""
    halves = {which: settings | {"batch_size": settings.get("batch_size", 4) // 2} for which, settings in runs.items()}
    command = [python, "-m", "accelerate.commands.launch", "--num_processes", "2", "--num_machines", "1"]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", *launcher]
    command += [str(repository / "tests" / "runs.py"), str(output), json.dumps(halves)]
    environment |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHON_EXEC": python}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | environment)
    assert done.returncode == 0, done.stderr


def assert_alike(one: Path, two: Path) -> None:
    a, b = (load_file(str(folder / "model.safetensors")) for folder in (one, two))
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(b[name], a[name], atol=1e-5, rtol=0, msg=f"{one.name}: {name}")
    for row, other in zip(timeless(one), timeless(two), strict=True):
        assert row.keys() == other.keys() and row["step"] == other["step"]
        assert all(row[name] == pytest.approx(other[name], rel=1e-3, abs=1e-4) for name in row)


NO_DROPOUT = {"model": {"dropout": 0.0}, "ema_decay": 0.9, "learning_rate": 5e-4}


@pytest.mark.slow
def test_two_processes_train_to_the_weights_of_one(in_two_processes, tmp_path):
    """Every model, with what makes it hard: absent genres, batch statistics, moving codebooks, uneven labels."""
    runs = {
        "generator": NO_DROPOUT | {"epochs": 3},
        "tokenizer": {"learning_rate": 5e-4},
        "vq": {"learning_rate": 5e-4},
        "classifier": NO_DROPOUT,
        "rhythm": {"model": {"rhythm_dropout": 0.0}},
    }
    in_two_processes(tmp_path / "two", runs, "--multi_gpu")
    for which, settings in runs.items():
        RUNS[which](tmp_path / "one" / which, **settings)
        assert_alike(tmp_path / "one" / which, tmp_path / "two" / which)
        assert len(list((tmp_path / "two" / which / "checkpoints").iterdir())) == 2


@pytest.mark.slow
def test_two_processes_with_compiled_experts(in_two_processes, tmp_path):
    settings = NO_DROPOUT | {"batch_size": 2, "max_steps": 3, "gradient_accumulation_steps": 2}
    in_two_processes(tmp_path / "two", {"generator": settings | {"compile": True}}, "--multi_gpu")
    generator_run(tmp_path / "one" / "generator", **settings)
    assert_alike(tmp_path / "one" / "generator", tmp_path / "two" / "generator")


@pytest.mark.slow
def test_weights_spread_over_two_processes_train_alike(in_two_processes, tmp_path):
    """FSDP: no process has all weights; steps, average, clipping, evaluation, checkpoints and saving all meet that."""
    # without decay: experts of genres that are nowhere in the data get zero gradients instead of none
    settings = NO_DROPOUT | {"weight_decay": 0.0, "gradient_checkpointing": True}
    sharded = ["--use_fsdp", "--fsdp_version", "2", "--fsdp_state_dict_type", "FULL_STATE_DICT"]
    sharded += ["--fsdp_reshard_after_forward", "true", "--fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP"]
    like_a_gpu = {"MEGADANCE_SIDE_BY_SIDE": "1"}
    stopped = {"generator": settings | {"stop_after_steps": 6}}
    in_two_processes(tmp_path / "two", stopped, *sharded, **like_a_gpu)
    checkpoint = tmp_path / "two" / "generator" / "checkpoints" / "step-00000004"
    assert {"average-0.pt", "average-1.pt", "pytorch_model_fsdp.bin"} <= {path.name for path in checkpoint.iterdir()}
    resumed = {"generator": settings | {"resume": True}}
    in_two_processes(tmp_path / "two", resumed, *sharded, **like_a_gpu)
    generator_run(tmp_path / "one" / "generator", **settings)
    assert_alike(tmp_path / "one" / "generator", tmp_path / "two" / "generator")


def test_accumulated_batches_are_one_batch(tmp_path):
    settings = {"model": {"dropout": 0.0}, "learning_rate": 5e-4}
    _, whole = generator_run(tmp_path / "whole", **settings)
    _, split = generator_run(tmp_path / "split", **settings, batch_size=1, gradient_accumulation_steps=4)
    for a, b in zip(whole.state_dict().values(), split.state_dict().values(), strict=True):
        torch.testing.assert_close(b, a, atol=1e-5, rtol=0)


def test_compiled_experts_train_alike(tmp_path, monkeypatch):
    """Accumulated, stopped and resumed. With batches of one nothing has to be compiled twice, and no machine code is made."""
    one_graph = functools.cache(functools.partial(torch.compile, fullgraph=True, backend="aot_eager"))
    monkeypatch.setattr(batched_experts_megadance, "_in_one_graph", one_graph)
    settings = NO_DROPOUT | {"gradient_accumulation_steps": 3, "batch_size": 1, "epochs": 1}
    generator_run(tmp_path / "plain", **settings)
    generator_run(tmp_path / "compiled", **settings, compile=True, stop_after_steps=2)
    _, model = generator_run(tmp_path / "compiled", **settings, compile=True, resume=True)
    assert_alike(tmp_path / "plain", tmp_path / "compiled")
    assert not any(getattr(module, "compiled", False) for module in model.modules())
    with pytest.raises(TrainingError, match="compile=True: MegaDanceTokenizer can't; set it to false"):
        tokenizer_run(tmp_path / "tokenizer", compile=True)


# --- what a run leaves -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", RUNS)
def test_the_loss_falls_and_the_folder_is_complete(tmp_path, which):
    report, model = RUNS[which](tmp_path, epochs=8, curves=True)
    history = rows(tmp_path)
    assert [row["epoch"] for row in history] == list(range(1, 9))
    assert history[-1]["train_loss"] < history[1]["train_loss"]  # the warm-up ends in the first epoch
    assert report["score"] == history[-1]["score"] and np.isfinite(report["score"])
    assert {"config.json", "model.safetensors", "curves.png", "metrics.jsonl"} <= {p.name for p in tmp_path.iterdir()}
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2
    loaded = type(model).from_pretrained(tmp_path)
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True)
    )


def test_the_best_weights_are_kept(tmp_path):
    _, model = generator_run(tmp_path, epochs=4)
    best = load_file(str(tmp_path / "best.safetensors"))
    assert all(torch.equal(value, best[name]) for name, value in model.state_dict().items())


def test_the_weights_of_an_epoch_are_kept(tmp_path):
    settings = {"keep_best": False, "save_every": 1, "keep_checkpoints": 9}
    generator_run(tmp_path / "three", epochs=3, schedule="constant", **settings)
    _, model = generator_run(
        tmp_path / "five", epochs=5, schedule="constant", keep_epoch=3, evaluate_every=2, **settings
    )
    assert same_weights(tmp_path / "three" / "model.safetensors", tmp_path / "five" / "model.safetensors")
    saved = load_file(str(tmp_path / "five" / "model.safetensors"))
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
    assert [row["epoch"] for row in rows(tmp_path / "five") if "score" in row] == [2, 4, 5]
    generator_run(
        tmp_path / "two", epochs=2, schedule="constant", keep_epoch=3, **settings
    )  # not reached: the last ones
    end = tmp_path / "two" / "checkpoints" / f"step-{rows(tmp_path / 'two')[-1]['step']:08d}"
    assert same_weights(end / "model.safetensors", tmp_path / "two" / "model.safetensors")


def test_the_last_batch_of_an_epoch_may_be_smaller(tmp_path):
    sizes = []

    class Counts(TokenizerTask):
        def loss(self, model, batch, draws):
            sizes.append(len(batch["motion"]))
            return super().loss(model, batch, draws)

    segments = MotionSegments(clips(), length=64, stride=16)
    assert len(segments) == 16
    for drop_last, expected in ((True, [6, 6]), (False, [6, 6, 4])):
        sizes.clear()
        model = MegaDanceTokenizer(MegaDanceTokenizerConfig(**TINY_TOKENIZER))
        config = TrainingConfig(epochs=2, batch_size=6, drop_last=drop_last, save_every_steps=2)
        train(model, Counts([]), segments, EpochSampler(segments), collate, config, tmp_path / str(drop_last))
        assert sizes == 2 * expected and rows(tmp_path / str(drop_last))[-1]["step"] == len(sizes)


def experts_moved(folder) -> dict[str, bool]:
    """Whether each genre's experts changed from the first step to the last."""
    first, *_, last = sorted((folder / "checkpoints").iterdir())
    before, after = (load_file(str(end / "model.safetensors")) for end in (first, last))
    names = [name for name in before if "genre_experts" in name and "weight" in name]
    return {
        genre: any(not torch.equal(before[name], after[name]) for name in names if f"genre_{genre}" in name)
        for genre in GENRES
    }


@pytest.mark.parametrize(
    ("optimizer", "betas"), [("adamw", [0.9, 0.99]), ("adam", [0.5, 0.999]), ("adan", [0.02, 0.08, 0.01])]
)
def test_absent_genres_stay_or_decay(tmp_path, optimizer, betas):
    """The clips are of two genres of four."""
    settings = {"optimizer": optimizer, "betas": betas, "weight_decay": 0.1, "epochs": 1}
    settings |= {"save_every_steps": 1, "keep_checkpoints": 99}
    generator_run(tmp_path / "skip", **settings)
    assert experts_moved(tmp_path / "skip") == {"waltz": True, "rumba": True, "tango": False, "samba": False}
    generator_run(tmp_path / "zero", **settings, missing_gradients="zero")
    assert experts_moved(tmp_path / "zero") == dict.fromkeys(GENRES, True)


def test_a_stopped_run_with_adan_goes_on_bit_for_bit(tmp_path):
    settings = {"optimizer": "adan", "betas": [0.02, 0.08, 0.01], "missing_gradients": "zero", "drop_last": False}
    settings |= {"schedule": "step", "step_epochs": 1, "epochs": 3, "batch_size": 5}
    generator_run(tmp_path / "whole", **settings)
    generator_run(tmp_path / "stopped", **settings, stop_after_steps=6)
    generator_run(tmp_path / "stopped", **settings, resume=True)
    assert same_weights(tmp_path / "whole" / "model.safetensors", tmp_path / "stopped" / "model.safetensors")
    assert timeless(tmp_path / "whole") == timeless(tmp_path / "stopped")
    rates = [row["learning_rate"] for row in rows(tmp_path / "whole")]
    np.testing.assert_allclose(rates, [3e-4 * 0.33**epoch for epoch in range(3)])


def test_the_average_is_what_is_measured_and_saved(tmp_path):
    """Against the plain twin: the average written down step by step."""
    seen = []
    _, model = classifier_run(
        tmp_path, keep_best=False, ema_decay=0.8, save_every_steps=1, keep_checkpoints=100, learning_rate=1e-2
    )
    for checkpoint in sorted((tmp_path / "checkpoints").iterdir()):
        seen.append(load_file(str(checkpoint / "model.safetensors")))
    average = dict(seen[0])
    for weights in seen[1:]:
        average = {name: 0.8 * average[name] + 0.2 * weights[name] for name in weights}
    for name, value in model.named_parameters():
        torch.testing.assert_close(value.detach(), average[name], atol=1e-6, rtol=1e-5)
    assert any(not torch.equal(value, seen[-1][name]) for name, value in model.named_parameters())


def test_samples_are_drawn_now_and_then_and_change_nothing(tmp_path):
    drawn = []

    def sample(model, epoch):
        drawn.append((epoch, model.training, torch.is_grad_enabled()))
        torch.rand(7)  # a sample may draw random numbers

    generator_run(tmp_path / "with", epochs=5, sample_every=2, evaluate_every=3, sample=sample)
    generator_run(tmp_path / "without", epochs=5, evaluate_every=3)
    assert drawn == [(2, False, False), (4, False, False), (5, False, False)]
    assert timeless(tmp_path / "with") == timeless(tmp_path / "without")


def test_a_generator_trained_through_the_api_has_start_codes(tmp_path):
    """Against the plain way: how each training clip and its mirror image begin."""
    generator_run(tmp_path, epochs=1)
    torch.manual_seed(0)
    codec = MegaDanceTokenizer(MegaDanceTokenizerConfig(**TINY_TOKENIZER)).eval()
    expected = {genre: [] for genre in GENRES}
    for clip in clips():
        for motion in (clip_motion(clip), mirror_motion(clip_motion(clip))):
            with torch.no_grad():
                codes = codec.encode(torch.from_numpy(motion[None]))
            pair = [int(codes.upper_codes[0, 0]), int(codes.lower_codes[0, 0])]
            if pair not in expected[clip.genre]:
                expected[clip.genre].append(pair)
    assert expected["waltz"] and expected["rumba"]
    assert GenerationConfig.from_pretrained(tmp_path).start_codes == expected


# --- settings --------------------------------------------------------------------------------------------------------


def test_workers_change_no_number(tmp_path):
    settings = {"epochs": 2, "batch_size": 2, "save_every_steps": 3, "gradient_accumulation_steps": 2}
    generator_run(tmp_path / "alone", **settings)
    generator_run(tmp_path / "workers", **settings, num_workers=2, stop_after_steps=4)
    generator_run(tmp_path / "workers", **settings, num_workers=1, resume=True)
    assert same_weights(tmp_path / "alone" / "model.safetensors", tmp_path / "workers" / "model.safetensors")
    assert timeless(tmp_path / "alone") == timeless(tmp_path / "workers")


def test_gradient_checkpointing_gives_the_same_gradients(tmp_path):
    _, plain = generator_run(tmp_path / "plain", epochs=1)
    _, saving = generator_run(tmp_path / "saving", epochs=1, gradient_checkpointing=True)
    for a, b in zip(plain.state_dict().values(), saving.state_dict().values(), strict=True):
        torch.testing.assert_close(b, a, atol=1e-6, rtol=0)  # dropout is on: the same masks are drawn again
    name = "is_activation_checkpointing"  # transformers before 5.23 call it otherwise
    assert not getattr(saving, name if hasattr(type(saving), name) else "is_gradient_checkpointing")
    with pytest.raises(TrainingError, match="gradient_checkpointing=True: MegaDanceTokenizer can't"):
        tokenizer_run(tmp_path / "tokenizer", gradient_checkpointing=True)


def test_learning_rates_of_the_schedules():
    def rates(**settings):
        config = TrainingConfig(learning_rate=1.0, **settings)
        return [round(learning_rate_at(config, step, 4), 4) for step in range(5)]

    assert rates() == [1, 1, 1, 1, 1]
    assert rates(schedule="linear") == [1, 0.755, 0.51, 0.265, 0.02]
    assert rates(schedule="cosine") == [1, 0.8565, 0.51, 0.1635, 0.02]
    config = TrainingConfig(learning_rate=1.0, schedule="step", step_epochs=2, step_factor=0.5)
    assert [learning_rate_at(config, 3 * epoch, 15, epoch) for epoch in range(5)] == [1, 1, 0.5, 0.5, 0.25]
    assert rates(schedule="linear", warmup_steps=2) == [0.5, 0.755, 0.51, 0.265, 0.02]


def test_bf16_after_full_precision_in_one_process(tmp_path):
    generator_run(tmp_path / "full", epochs=1)
    report, model = generator_run(tmp_path / "half", epochs=1, mixed_precision="bf16")
    assert np.isfinite(report["score"]) and next(model.parameters()).dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learningrate": 1}, "training.learningrate is not a setting; the settings are epochs, batch_size"),
        ({"learning_rate": "1e-3"}, "training.learning_rate='1e-3': give a number of 0 or more; in YAML write 1.0e-3"),
        ({"schedule": "cosin"}, "training.schedule='cosin': give one of constant, cosine, linear, step"),
        ({"mixed_precision": "fp8"}, "training.mixed_precision='fp8': give one of auto, no, bf16, fp16"),
        ({"batch_size": 0}, "training.batch_size=0: give a whole number of 1 or more"),
        ({"ema_decay": 1.0}, "training.ema_decay=1.0: give a number from 0 to below 1"),
        ({"optimizer": "sgd"}, "training.optimizer='sgd': give one of adam, adamw, adan"),
        ({"betas": [0.1, 0.2, 0.3]}, "training.betas=[0.1, 0.2, 0.3]: adamw takes two numbers from 0 to below 1"),
        ({"betas": [0.9, 1.0]}, "training.betas=[0.9, 1.0]: adamw takes two numbers from 0 to below 1"),
        ({"optimizer": "adan"}, "training.betas=(0.9, 0.99): adan takes three numbers above 0, to 1, such as [0.02,"),
        ({"optimizer": "adan", "betas": [0.0, 0.1, 0.1]}, "adan takes three numbers above 0, to 1"),
        ({"missing_gradients": "none"}, "training.missing_gradients='none': give one of skip, zero"),
        ({"keep_best": True, "keep_epoch": 3}, "training.keep_epoch=3: keep_best keeps another one; give one of them"),
        ({"trackers": "wandb"}, "training.trackers='wandb': give a list of names"),
    ],
)
def test_settings_that_cannot_be_are_errors(settings, message):
    with pytest.raises(TrainingError) as error:
        TrainingConfig.from_dict(settings)
    assert message in str(error.value)


def test_yaml_reads_a_bare_no_as_false():
    assert TrainingConfig.from_dict({"mixed_precision": False}).mixed_precision == "no"


def test_fp16_needs_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with pytest.raises(TrainingError, match="mixed_precision='fp16' needs a GPU; use 'bf16' or 'no'"):
        tokenizer_run(tmp_path, mixed_precision="fp16")


def test_progress_of_earlier_versions_is_understood():
    progress = Progress()
    progress.load_state_dict({"step": 7, "epoch_step": 3, "windows_a_step": 12})
    assert (progress.step, progress.epoch_step, progress.segments_per_step) == (7, 3, 12)


def test_too_few_segments_for_a_batch(tmp_path):
    segments = MotionSegments(clips(1, 64), length=64)
    config = TrainingConfig(epochs=1, batch_size=64)
    model = MegaDanceTokenizer(MegaDanceTokenizerConfig(**TINY_TOKENIZER))
    with pytest.raises(TrainingError, match="1 segments do not fill a batch of batch_size=64"):
        train(model, TokenizerTask([]), segments, EpochSampler(segments), collate, config, tmp_path)


# --- trackers and the Hub --------------------------------------------------------------------------------------------


def test_unknown_and_uninstalled_trackers_are_errors(tmp_path, monkeypatch):
    with pytest.raises(TrainingError, match="trackers: 'tensorbord' is unknown; Accelerate knows .*tensorboard"):
        tokenizer_run(tmp_path, trackers=["tensorbord"])
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: [])
    with pytest.raises(TrainingError, match="trackers: 'trackio' is not installed; pip install trackio, or leave it"):
        tokenizer_run(tmp_path, trackers=["trackio"])


def test_a_tracker_gets_every_row(tmp_path, monkeypatch):
    """A tracker of our own in TensorBoard's place: by its name, from the settings to the numbers of each epoch."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, LoggerType

    class Notebook(GeneralTracker):
        name, requires_logging_directory, main_process_only = "tensorboard", True, True
        written: list = []

        def __init__(self, run_name, logging_dir, **_):
            super().__init__()
            self.written.append(("run", run_name, Path(logging_dir)))

        tracker = property(lambda self: self)

        def store_init_configuration(self, values):
            self.written.append(("settings", values["epochs"]))

        def log(self, values, step=None, **_):
            self.written.append((step, values))

        def finish(self):
            self.written.append("finished")

    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "tensorboard", Notebook)
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: [LoggerType.TENSORBOARD])
    tokenizer_run(tmp_path, epochs=2, trackers=["tensorboard"])
    assert Notebook.written[0] == ("run", "megadance", tmp_path) and Notebook.written[1] == ("settings", "2")
    logged = [{**values, "step": step} for step, values in Notebook.written[2:-1]]
    assert logged == rows(tmp_path) and Notebook.written[-1] == "finished"


def test_tensorboard_writes_an_event_file(tmp_path):
    pytest.importorskip("tensorboard")
    tokenizer_run(tmp_path, epochs=1, trackers=["tensorboard"])
    assert list(tmp_path.rglob("events.out.tfevents.*"))
