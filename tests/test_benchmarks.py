"""Every benchmark runs on tiny sizes, prints its report, and checks what it compares. How fast the machine is, is not tested."""

import importlib.util
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers import GENRES, click_song, save_tiny_model, song, tiny_generator, write_song
from toy_clips import CARD, dance

from megadance_hf.data.clip import clip_motion
from megadance_hf.data.prepared import read_prepared, write_prepared
from megadance_hf.data.songs import encode_ogg
from megadance_hf.modeling.configuration_megadance import MegaDanceClassifierConfig
from megadance_hf.modeling.modeling_megadance_classifier import MegaDanceForGenreClassification
from megadance_hf.modeling.music_features_megadance import song_features
from megadance_hf.pipeline import MusicToDancePipeline


@pytest.fixture
def benchmark_of(repository, monkeypatch, forked_python):
    """The `main` of a benchmark. New processes that it starts are forked, but for those that have to compile anew."""
    monkeypatch.setattr(sys, "executable", forked_python)
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))

    def load(name: str):
        path = Path(repository) / "benchmarks" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.main

    return load


def test_mixed_batches(benchmark_of, capsys):
    sizes = ["--hidden", "16", "--layers", "1", "--batch", "8", "--genres", "4", "--codes", "6", "--runs", "5"]
    report = benchmark_of("mixed_batches")([*sizes, "--run-lengths", "4"])
    assert json.loads(capsys.readouterr().out) == report
    kinds = ("one_genre", "mixed", "runs_of_4")
    assert {f"{kind}_seconds" for kind in kinds} | {f"{kind}_over_one_genre" for kind in kinds[1:]} <= set(report)
    assert report["genres"] == 4 and report["runs"] == 5


def test_default_model(benchmark_of, capsys, tmp_path):
    """Songs of a folder, in every genre: a sheet for each, and numbers that are those of the dances."""
    (tmp_path / "songs").mkdir()
    for name, seconds in (("first", 2.5), ("second", 3)):
        write_song(tmp_path / "songs" / f"{name}.wav", seconds=seconds)
    model, out = save_tiny_model(tmp_path / "tiny"), tmp_path / "out"
    options = ["--model", str(model), "--seeds", "2", "--moments", "3", "--duration", "2", "--out", str(out)]
    report = benchmark_of("default_model")([str(tmp_path / "songs"), *options])
    assert json.loads(capsys.readouterr().out) == report
    assert report["songs"] == ["first", "second"] and report["dances"] == 4 and list(report["genres"]) == list(GENRES)
    rows = json.loads((out / "report.json").read_text())["rows"]
    for genre, found in report["genres"].items():
        assert cv2.imread(str(out / f"{genre}.png")).shape == (4 * 222, 3 * 200, 3)
        own = [row for row in rows if row["genre"] == genre]
        assert [(row["song"], row["seed"]) for row in own] == [(s, n) for s in ("first", "second") for n in (0, 1)]
        for kind in ("raw", "cleaned"):
            jerks = [row[kind]["jerk"] for row in own]
            ends = {"median": np.median(jerks), "lowest": min(jerks), "highest": max(jerks)}
            assert found[kind]["jerk"] == pytest.approx(ends)
        assert found["cleaned"]["depth_below_floor"]["highest"] < 0.01
    table = (out / "worst.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in table[4:]] == [
        f"| {g}, {kind}" for g in GENRES for kind in ("raw", "cleaned")
    ]


@pytest.mark.slow
def test_features(benchmark_of, capsys):
    report = benchmark_of("features")(["--seconds", "8", "--long", "60", "--runs", "1", "--threads", "1"])
    assert json.loads(capsys.readouterr().out) == report
    assert report["largest_difference_from_plain"] < 1e-2
    assert report["peak_mb_60_s"] < report["peak_mb_20_s"] + 60  # a spectrum alone would add 20 MB a copy


@pytest.mark.slow
def test_render(benchmark_of, capsys):
    report = benchmark_of("render")(["--frames", "12", "--size", "64", "36", "--runs", "1"])
    assert json.loads(capsys.readouterr().out) == report
    assert {"frames_per_second", "plain_over_ours", "encoded_per_second_one_thread", "first_video_seconds"} <= set(
        report
    )
    assert report["psnr"] > 35


def test_decode(benchmark_of, capsys):
    report = benchmark_of("decode")(["--size", "tiny", "--lengths", "20", "40", "--runs", "1", "--threads", "1"])
    assert json.loads(capsys.readouterr().out) == report
    assert set(report["seconds_per_minute"]) == {"whole_20s", "plain_20s", "whole_40s", "plain_40s"}


def test_gpu(benchmark_of, capfd, tmp_path):
    """All of it on a CPU, in a process of its own, but for what is compiled; each cell is measured against the limits of the machine."""
    out = tmp_path / "gpu.json"
    options = [
        "--device",
        "cpu",
        "--size",
        "tiny",
        "--out",
        str(out),
        "--skip",
        "compiled",
        "x64",
        "released",
        "float32",
    ]
    report = benchmark_of("gpu")(options)
    assert json.loads(out.read_text()) == report and list(tmp_path.iterdir()) == [out]
    assert report["complete"] and not report["left_out"]
    cells, limits = report["cells"], report["cells"]["limits"]
    assert limits["read_gb_per_s"] > 0.1 and set(limits["teraflops"]) == {"float32", "bfloat16"}
    for arrangement in ("2025", "2026"):
        parity = cells[f"parity_{arrangement}"]
        assert parity["logit_error"] < 1e-4 and parity["greedy"]["default"] == "12 of 12 the same"
        cell = cells[f"generation_{arrangement}_bfloat16_paper_x16_default"]
        assert cell["codes"] == 12 and cell["seconds_per_second"] == pytest.approx(cell["seconds"] / 3.2, rel=1e-3)
        one = cells[f"generation_{arrangement}_bfloat16_paper_x1_default"]
        assert cell["throughput_over_one"] == pytest.approx(16 * one["seconds"] / cell["seconds"], abs=0.01)
        training = cells[f"training_{arrangement}_bfloat16_eager"]
        assert training["windows_per_second"] == pytest.approx(8 / training["seconds"], rel=1e-3)
    plain, own = (cells[f"generation_2025_bfloat16_paper_x1_{way}"] for way in ("plain", "default"))
    assert own["faster_than_plain"] == pytest.approx(plain["seconds"] / own["seconds"], abs=0.01)
    assert "generation_2025_int8_paper_x1_default" in cells
    printed = capfd.readouterr().out
    assert "seconds per second" in printed and "windows per second" in printed


@pytest.mark.parametrize("arrangement", ["2025", "2026"])
def test_limits_of_a_gpu_count_the_products(benchmark_of, arrangement):
    """As torch counts those of a forward pass, but for the products of attention."""
    from torch.utils.flop_counter import FlopCounterMode

    script = benchmark_of("gpu").__globals__
    bench = script["Bench"]("cpu", script["SIZES"]["tiny"], tiny=True)
    model, codes = bench.model(arrangement, "float32"), torch.randint(100, (2, 1, 6))
    weights, of_position, of_head = bench.weights_and_operations(model)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(bench.music(1, 6, model.config), *codes, torch.tensor([0]), use_cache=False)
    counts = counter.get_flop_counts()["Global"]
    others = [count for name, count in counts.items() if not str(name).startswith(("aten.mm", "aten.addmm"))]
    assert 6 * (of_position + of_head) == sum(counts.values()) - sum(others) and sum(others) < 0.2 * sum(
        counts.values()
    )
    linear = [m for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and "rhythm" not in name]
    assert weights == sum(layer.weight.numel() for layer in linear)


def test_gpu_goes_on_after_a_cell_that_takes_too_long(benchmark_of, tmp_path):
    """It is ended with its process, the others are computed, and what has no time left is named."""
    out = tmp_path / "gpu.json"
    words = ["--only", "limits"]
    report = benchmark_of("gpu")(["--device", "cpu", "--size", "tiny", "--out", str(out), *words, "--cell", "0.01"])
    assert report["cells"]["limits"]["note"] == "failed: took longer than 0.01 s" and report["complete"]
    report = benchmark_of("gpu")(["--device", "cpu", "--size", "tiny", "--out", str(out), *words, "--budget", "0.01"])
    assert report["left_out"] == ["limits"] and not report["complete"] and json.loads(out.read_text()) == report


@pytest.mark.slow
def test_generation(benchmark_of, capsys):
    cases = ["paper_float32", "paper_float32_x4", "paper_int8", "paper_int8_24s", "plain_float32", "released_float32"]
    cases += ["released_2026_bfloat16", "torch_released_2026_float32"]
    report = benchmark_of("generation")(
        ["--tiny", "--runs", "1", "--seconds", "8", "--threads", "1", "--cases", *cases]
    )
    assert json.loads(capsys.readouterr().out) == report
    assert set(report["seconds_per_second"]) == set(cases)
    assert "paper_float32_x4" in report["batch_throughput"] and set(report["over_short"]) == {"paper_int8_24s"}
    assert set(report["torch_over"]) == {"released_2026_bfloat16", "torch_released_2026_float32"}
    for kind in ("bfloat16", "int8", "2026_bfloat16", "2026_int8"):
        assert 0.8 < report["agreement_with_float32"][kind]["same_likeliest_code"] <= 1
        assert 0 < report["agreement_with_float32"][kind]["logit_error"] < 0.1


@pytest.mark.slow
def test_end_to_end(benchmark_of, capsys):
    report = benchmark_of("end_to_end")(["--seconds", "1", "--long", "30", "--runs", "1"])
    assert json.loads(capsys.readouterr().out) == report
    assert {"import_seconds", "npz_seconds", "mp4_seconds", "first_npz_seconds"} <= set(report)
    assert report["peak_mb_30_s"] < report["peak_mb_20_s"] + 100


@pytest.mark.slow
def test_streaming(benchmark_of, capsys):
    report = benchmark_of("streaming")(["--model", "tiny", "--seconds", "2", "--threads", "1"])
    assert json.loads(capsys.readouterr().out) == report
    assert report["frames"] == 60 and report["chunks"] == 8
    # a chunk's music is 0.267 s long, and its first pose waits for the last of it
    assert report["delay_seconds"]["median"] > report["after_music_seconds"]["median"] + 0.2


@pytest.mark.slow
def test_noisy_capture(benchmark_of, capsys, tmp_path):
    train = [dance(f"t{number}", 200, number) for number in range(4)]
    held_out = [dance("v", 120, 9, split="validation")]
    write_prepared(tmp_path / "data", [*train, *held_out], card=CARD, genres=["waltz"])
    sizes = ["--steps", "2", "--shares", "0.2", "--set", "model.hidden_size=16", "--set", "training.batch_size=4"]
    report = benchmark_of("noisy_capture")(["--data", str(tmp_path / "data"), *sizes])
    out = capsys.readouterr().out
    assert json.loads(out[out.index("{\n") :]) == report
    noise = report["noise_0.2"]
    assert 0.1 < noise["frames"] < 0.3 and noise["recall"] > 0.8 and noise["false_alarms"] < 0.1
    assert report["clean"]["joint_error_mm"] > 0 and noise["plain"] != noise["robust"]


@pytest.mark.slow
def test_hearing(benchmark_of, capsys, tmp_path):
    clips = []
    for index in range(6):
        sound = click_song(13, 15360, 90 if index % 2 else 128 + index)
        features = song_features(sound)
        split = "train" if index < 4 else "validation"
        clip = dance(f"s{index}", len(features), genre=("waltz", "rumba")[index % 2], split=split, song=f"s{index}")
        clip.input_features, clip.audio = features, encode_ogg(sound, 15360)
        clips.append(clip)
    write_prepared(tmp_path / "data", clips, card=CARD, genres=["waltz", "rumba"])
    model = tiny_generator(rhythm_size=8, rhythm_layers=2, id2label={0: "waltz", 1: "rumba"})
    model.save_pretrained(tmp_path / "model")
    sizes = ["--seconds", "5", "--composed-songs", "0", "--noises", "0", "--others", "0"]
    command = ["--data", str(tmp_path / "data"), "--model", str(tmp_path / "model"), *sizes]
    report = benchmark_of("hearing")([*command, "--json"])
    out = capsys.readouterr().out
    assert json.loads(out[out.index("{\n") :]) == report
    assert report["songs"] == {"train": 4, "validation": 2}
    for way, splits in report["ways"].items():
        assert set(splits) == {"train, left out", "validation"}, way
        for split, numbers in splits.items():
            songs = 4 if split.startswith("train") else 2
            assert [row["pieces"] for row in numbers["cuts"].values()] == [songs, 2 * songs]  # whole, and two of 5 s
            assert sum(map(sum, numbers["confusion"])) == 3 * songs
            right = sum(numbers["confusion"][genre][genre] for genre in range(2))
            assert right / (3 * songs) == pytest.approx(
                sum(row["right"] * row["pieces"] for row in numbers["cuts"].values()) / (3 * songs), abs=1e-3
            )


def prepared_songs(folder: Path) -> Path:
    """Songs of 300 frames in the tiny model's genres, two of them to train on."""
    clips = []
    for number in range(5):
        clip = song(number, frames=300, period=0.4 + 0.05 * number, genre=GENRES[number % len(GENRES)])
        clip.split = "train" if number < 2 else "validation"
        clips.append(clip)
    write_prepared(folder, clips, card=CARD, genres=list(GENRES))
    return folder


def save_tiny_classifier(folder: Path) -> Path:
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "output_hidden_size": 8}
    config = MegaDanceClassifierConfig(**sizes, num_hidden_layers=1, num_outputs=4, id2label=dict(enumerate(GENRES)))
    MegaDanceForGenreClassification(config).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_directing(benchmark_of, capsys, tmp_path):
    data, model = prepared_songs(tmp_path / "data"), save_tiny_model(tmp_path / "tiny")
    classifier, out = save_tiny_classifier(tmp_path / "classifier"), tmp_path / "report.json"
    options = ["--data", str(data), "--model", str(model), "--classifier", str(classifier), "--out", str(out)]
    sizes = ["--songs", "2", "--seconds", "8", "--window", "1", "--seeds", "1", "--runs", "1", "--plans", "2"]
    report = benchmark_of("directing")([*options, *sizes])
    assert json.loads(out.read_text()) == report
    assert len(report["songs"]) == 2 and {"plan", "redo", "hold", "loop", "speed", "worst"} <= set(report)
    # a third of 8 s is 2.67 s; a window of a second fits twice, or twice after the second that is left out
    assert report["plan"]["windows"] == sum(
        2 if begin == 0 else 1 for d in report["plan"]["dances"] for _, begin in d["plan"]
    )
    assert (
        report["redo"]["exact"] and [row["part"] for row in report["redo"]["dances"]] == ["all", "upper", "lower"] * 2
    )
    assert report["loop"]["largest_distance_cm"] < 1e-3
    assert "all else is the same to the last bit" in capsys.readouterr().out


@pytest.mark.slow
def test_guidance(benchmark_of, capsys, tmp_path):
    """At scale 1 the true codes have the likelihood that `score` gives; music can only gain where there is other music."""
    data, model = prepared_songs(tmp_path / "data"), save_tiny_model(tmp_path / "tiny")
    options = ["--data", str(data), "--model", str(model), "--out", str(tmp_path / "report.json")]
    report = benchmark_of("guidance")([*options, "--scales", "1", "2", "--frames", "120", "--excerpts", "4"])
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert [row["dances"] for row in report["scales"].values()] == [8, 8]
    pipe, sums, count = MusicToDancePipeline.from_pretrained(model), 0.0, 0
    for clip in read_prepared(data, "validation"):
        codes = pipe.tokenizer.encode(torch.from_numpy(clip_motion(clip)[None, :296]))
        inputs = pipe.processor({"input_features": clip.input_features[:296]}, genre=clip.genre)
        scores = pipe.model.score(**inputs, upper_codes=codes.upper_codes, lower_codes=codes.lower_codes, mode="paper")
        sums, count = sums + float(scores.sum()), count + 36
    assert report["true_codes"]["1"]["right"] == pytest.approx(sums / count, rel=1e-4)
    found = report["true_codes"]["2"]
    assert found["gain_shifted"] == pytest.approx(found["right"] - found["shifted"])
    assert len(capsys.readouterr().out.strip().splitlines()) == 5, "two lines of head, the truth, two scales"
