"""Every page of ours that goes to the Hub, and pages that it would refuse, before the rules it documents."""

import importlib

import pytest
import yaml
from card_rules import card_errors
from huggingface_hub import DatasetCard, ModelCard

from megadance_hf.cli.prepare import DATA_SETS
from megadance_hf.data.card import card_text

RESULT = {
    "task": {"type": "music-to-dance"},
    "dataset": {"name": "ballroom", "type": "anna/ballroom"},
    "metrics": [{"type": "fid_k", "value": 1.5}],
}
MODEL = {"license": "apache-2.0", "tags": ["dance"], "model-index": [{"name": "dance", "results": [RESULT]}]}
FILES = [{"split": "train", "path": "train.parquet"}]
DATA_SET = {
    "license": "cc0-1.0",
    "size_categories": ["n<1K"],
    "configs": [{"config_name": "default", "data_files": FILES}],
}
SPACE = {"title": "Dance", "emoji": "\N{DANCER}", "sdk": "gradio", "sdk_version": "6.0.1", "app_file": "app.py"}
RIGHT = {"model": MODEL, "dataset": DATA_SET, "space": SPACE}


def page(metadata):
    return f"---\n{yaml.safe_dump(metadata, allow_unicode=True)}---\n\n# A page\n"


@pytest.mark.parametrize(
    ("kind", "path"),
    [("model", "megadance_hf/pretrained/ballroom/README.md"), ("space", "examples/space/README.md")],
)
def test_pages_that_lie_here(repository, kind, path):
    assert card_errors((repository / path).read_text(encoding="utf-8"), kind) == []


@pytest.mark.parametrize("name", sorted(DATA_SETS))
def test_pages_of_prepared_data_sets(name):
    card = importlib.import_module(f"megadance_hf.datasets_scripts.{name}").CARD
    nothing = {"clips": 0, "frames": 0, "paired_clips": 0, "paired_frames": 0}
    info = {
        "genres": ["waltz"],
        "splits": {"train": nothing | {"clips_by_genre": {}, "frames_by_genre": {}}},
        "noise": {},
        "left_out": {},
    }
    text = card_text(card, info)
    assert card_errors(text, "dataset") == [] and DatasetCard(text).data.license == card.licence_id


@pytest.mark.parametrize("kind", RIGHT)
def test_right_ones_pass(kind):
    assert card_errors(page(RIGHT[kind]), kind) == []


@pytest.mark.parametrize(
    ("kind", "change", "about"),
    [
        ("model", {"license": "mine"}, "license"),
        ("model", {"license": "other"}, "license_name"),
        ("model", {"license": "other", "license_name": "My Licence"}, "license_name"),
        ("model", {"license": "other", "license_name": "mine", "license_link": "my licence"}, "license_link"),
        ("model", {"tags": "dance"}, "tags"),
        ("model", {"tags": [3]}, "tags"),
        ("model", {"language": "English"}, "language"),
        ("model", {"datasets": ["my own songs"]}, "datasets"),
        ("model", {"pipeline_tag": "music-to-dance"}, "pipeline_tag"),
        ("model", {"model-index": {"name": "dance"}}, "model-index"),
        ("model", {"model-index": [{"name": "dance", "results": []}]}, "name and results"),
        ("model", {"model-index": [{"name": "x", "results": [RESULT | {"task": {}}]}]}, "task.type"),
        ("model", {"model-index": [{"name": "x", "results": [RESULT | {"metrics": []}]}]}, "needs metrics"),
        ("model", {"model-index": [{"name": "x", "results": [RESULT | {"metrics": [{"type": "x"}]}]}]}, "a number"),
        ("dataset", {"size_categories": ["12 songs"]}, "size_categories"),
        ("dataset", {"task_categories": ["music-to-dance"]}, "task_categories"),
        ("dataset", {"configs": [{"data_files": FILES}]}, "config_name"),
        ("dataset", {"configs": [{"config_name": "default", "data_files": [{"path": "x"}]}]}, "split and path"),
        ("dataset", {"configs": [{"config_name": "default", "data_files": FILES * 2}]}, "twice"),
        ("space", {"sdk": "flask"}, "sdk"),
        ("space", {"sdk_version": "newest"}, "sdk_version"),
        ("space", {"colorFrom": "orange"}, "colorFrom"),
        ("space", {"emoji": "a"}, "emoji"),
        ("space", {"app_file": ""}, "app_file"),
        ("space", {"short_description": "dance " * 20}, "short_description"),
    ],
)
def test_wrong_ones_are_refused(kind, change, about):
    errors = card_errors(page(RIGHT[kind] | change), kind)
    assert errors and any(about in error for error in errors)


def test_what_is_no_metadata():
    assert card_errors("# A page\n", "model") == [] and card_errors("# A page\n", "space")
    assert "not YAML" in card_errors("---\na: [\n---\n", "model")[0]
    assert "mapping" in card_errors("---\n- a\n---\n", "dataset")[0]


def test_the_hub_s_own_call_asks_the_stand_in(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    ModelCard(page(MODEL)).validate()
    DatasetCard(page(DATA_SET)).validate()
    with pytest.raises(ValueError, match="license"):
        ModelCard(page(MODEL | {"license": "mine"})).validate()
