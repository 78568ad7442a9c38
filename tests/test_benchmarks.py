"""Benchmarks that measure time, run on tiny sizes: that they report what they say."""

import importlib.util
import json
from pathlib import Path

import pytest


@pytest.fixture
def benchmark_of(repository):
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
    for name in ("one_genre", "mixed", "runs_of_4"):
        assert report[f"{name}_seconds"] > 0
    assert report["mixed_over_one_genre"] > 0 and report["runs_of_4_over_one_genre"] > 0
    assert report["genres"] == 4 and report["runs"] == 5


def test_segments(benchmark_of, capsys):
    report = benchmark_of("segments")(["--runs", "1"])
    assert json.loads(capsys.readouterr().out) == report
    assert report["codes_segments_per_second"] > 0 and report["motion_over_plain"] > 2


@pytest.mark.slow
def test_features(benchmark_of, capsys):
    report = benchmark_of("features")(["--seconds", "8", "--long", "60", "--runs", "1", "--threads", "1"])
    assert json.loads(capsys.readouterr().out) == report
    assert report["plain_over_ours"] > 1 and report["cold_start_seconds"] > 0
    assert report["largest_difference_from_plain"] < 1e-2
    assert report["peak_mb_60_s"] < report["peak_mb_20_s"] + 60  # a spectrum alone would add 20 MB a copy


@pytest.mark.slow
def test_render(benchmark_of, capsys):
    report = benchmark_of("render")(["--frames", "12", "--size", "64", "36", "--runs", "1"])
    assert json.loads(capsys.readouterr().out) == report
    for name in ("frames_per_second", "plain_frames_per_second", "plain_over_ours", "encoded_per_second_one_thread"):
        assert report[name] > 0
    assert report["psnr"] > 35
    assert 0 < report["first_video_seconds"] < report["first_video_seconds_compiling"]


def test_decode(benchmark_of, capsys):
    report = benchmark_of("decode")(["--size", "tiny", "--lengths", "20", "40", "--runs", "1", "--threads", "1"])
    assert json.loads(capsys.readouterr().out) == report
    assert set(report["seconds_a_minute"]) == {"whole_20s", "plain_20s", "whole_40s", "plain_40s"}
    assert all(value > 0 for value in report["seconds_a_minute"].values())


@pytest.mark.slow
def test_generation(benchmark_of, capsys):
    cases = ["paper_float32", "paper_float32_x4", "paper_int8", "paper_int8_60s", "plain_float32", "released_float32"]
    report = benchmark_of("generation")(
        ["--tiny", "--runs", "1", "--seconds", "8", "--threads", "1", "--cases", *cases]
    )
    assert json.loads(capsys.readouterr().out) == report
    assert set(report["seconds_a_second"]) == set(cases) and all(report["seconds_a_second"].values())
    assert report["batch_throughput"]["paper_float32_x4"] > 1
    assert set(report["over_short"]) == {"paper_int8_60s"} and report["over_short"]["paper_int8_60s"] > 0
    for kind in ("bfloat16", "int8"):
        assert 0.8 < report["agreement_with_float32"][kind]["same_likeliest_code"] <= 1
        assert 0 < report["agreement_with_float32"][kind]["logit_error"] < 0.1


@pytest.mark.slow
def test_end_to_end(benchmark_of, capsys):
    report = benchmark_of("end_to_end")(["--seconds", "4", "--long", "30", "--runs", "1"])
    assert json.loads(capsys.readouterr().out) == report
    assert 0 < report["import_seconds"] < report["npz_seconds"] < report["mp4_seconds"]
    assert report["peak_mb_30_s"] < report["peak_mb_20_s"] + 100


@pytest.mark.slow
def test_streaming(benchmark_of, capsys):
    report = benchmark_of("streaming")(["--model", "tiny", "--seconds", "2", "--threads", "1"])
    assert json.loads(capsys.readouterr().out) == report
    assert report["frames"] == 60 and report["chunks"] == 8
    # a chunk's music is 0.267 s long, and its first pose waits for the last of it
    assert report["delay_seconds"]["median"] > report["after_music_seconds"]["median"] + 0.2
    assert report["after_music_seconds"]["median"] >= report["compute_seconds"]["median"] > 0
