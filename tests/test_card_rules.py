"""Every page of ours that goes to the Hub meets the rules that it documents."""

import importlib

import pytest
from card_rules import card_errors
from huggingface_hub import DatasetCard

from megadance_hf.cli.prepare import DATA_SETS
from megadance_hf.data.card import card_text


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
