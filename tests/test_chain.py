"""From a downloaded folder to the paper's tables: prepare, an epoch of each training, evaluate, for FineDance and AIST++ layouts."""

import importlib
import json

import numpy as np
import pytest
import yaml
from raw_folders import AISTPP_NAMES, make_aistpp, make_finedance, make_finedance_processed, real_clips
from test_examples import GENERATOR, TOKENIZER

from megadance_hf.cli.command import main as megadance
from megadance_hf.data.prepared import read_prepared
from megadance_hf.data.songs import song_features
from megadance_hf.modeling.genres_megadance import AISTPP_GENRES, FINEDANCE_GENRES
from megadance_hf.pipeline import MusicToDancePipeline

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
CLASSIFIER = {"model": SIZES, "windows": {"length": 64}, "training": TOKENIZER["training"]}
PLAIN_GENERATOR = {name: part for name, part in GENERATOR.items() if name != "rhythm"} | {
    "model": {**GENERATOR["model"], "rhythm_size": 0}  # the rhythm is for data whose beats are known
}


@pytest.fixture(scope="module")
def dances(ballroom_dir):
    return real_clips(ballroom_dir, 6, seconds=4)


def finedance(folder, dances):
    return make_finedance(folder, dict(zip(("001", "002", "003", "004", "063", "132"), dances, strict=True)))


def processed(folder, dances):
    clips = dict(zip("12345678", [*dances, *dances[:2]], strict=True))  # the last quarter, two, is for testing
    made = make_finedance(folder / "as_downloaded", clips)
    features = {name: song_features(made / "music_wav" / f"{name}.wav") for name in clips}
    return make_finedance_processed(folder / "processed", clips, features)


def aistpp(folder, dances):
    return make_aistpp(folder, dict(zip(AISTPP_NAMES, dances, strict=True)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, make, options, genres, table",
    [
        ("finedance", finedance, ["--validation", "1"], FINEDANCE_GENRES, "1"),
        ("finedance", processed, ["--validation", "1"], FINEDANCE_GENRES, "1"),
        ("aistpp", aistpp, [], AISTPP_GENRES, "2"),
    ],
    ids=["finedance", "finedance preprocessed", "aistpp"],
)
def test_raw_folder_to_tables(kind, make, options, genres, table, dances, repository, tmp_path, monkeypatch):
    raw, data = make(tmp_path / "raw", dances), tmp_path / "data"
    assert megadance(["prepare", kind, str(raw), str(data), *options]) == 0
    assert [len(read_prepared(data, split)) for split in ("validation", "test")] == [1, 2]

    monkeypatch.syspath_prepend(str(repository / "examples"))
    for name, settings in (("tokenizer", TOKENIZER), ("generator", PLAIN_GENERATOR), ("classifier", CLASSIFIER)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        arguments = ["--config", f"{tmp_path}/{name}.yaml", "--data", str(data), "--output", str(tmp_path / name)]
        if name == "generator":
            arguments += ["--tokenizer", str(tmp_path / "tokenizer")]
        importlib.import_module(f"train_{name}").main(arguments)
    assert MusicToDancePipeline.from_pretrained(tmp_path / "generator").genres == list(genres)

    models = ["--model", str(tmp_path / "generator"), "--classifier", str(tmp_path / "classifier")]
    where = ["--data", str(data), "--protocol", kind, "--out", str(tmp_path / "report")]
    assert megadance(["evaluate", *models, *where, "--tables", f"{table},3", "--seeds", "1"]) == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert set(report["tables"]) == {table, "3"}
    rows = {row["row"]: row["values"] for row in report["tables"][table]["rows"]}
    assert rows["ground_truth"]["FID_k"] == pytest.approx(0, abs=1e-6) and np.isfinite(rows["megadance"]["FID_k"])
