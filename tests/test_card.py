"""The page of a prepared data set: tables, noisy and left-out clips, from `info.json`; and what the Hub would say to every page here."""

import importlib

import pytest
from card_rules import card_errors
from huggingface_hub import DatasetCard

from megadance_hf.data.card import NAMED_CLIPS, Card, card_text, genre_table, noisy_clips
from megadance_hf.data.sources import OWN


def noise(jumps=0, discontinuities=0, **values):
    known = {
        "largest_root_step_m": 0.02,
        "root_frame": 3,
        "largest_turn_degrees": 12.0,
        "turn_joint": "head",
        "turn_frame": 4,
    }
    return known | {"jumps": jumps, "discontinuities": discontinuities} | values


def split(clips, frames):
    total = {"clips": sum(clips.values()), "frames": sum(frames.values()), "paired_clips": 0, "paired_frames": 0}
    return total | {"clips_by_genre": clips, "frames_by_genre": frames}


@pytest.fixture
def info():
    return {
        "genres": ["waltz", "tango", "rumba"],
        "splits": {
            "train": split({"rumba": 2, "waltz": 1}, {"rumba": 5400, "waltz": 1800}),
            "test": split({"none": 1}, {"none": 900}),
        },
        "noise": {"a": noise(), "b": noise(0, 3), "c": noise(1, 1, largest_root_step_m=2.5), "d": noise(0, 4)},
        "left_out": {"x": "only 5 frames"},
    }


def test_genres_stand_in_the_order_of_their_ids(info):
    assert genre_table(info) == [
        ["genre", "train", "test"],
        ["waltz", "1 (1.0 min)", "-"],
        ["rumba", "2 (3.0 min)", "-"],
        ["none", "-", "1 (0.5 min)"],
        ["all", "3 (4.0 min)", "1 (0.5 min)"],
    ]


def test_the_worst_clips_come_first_and_good_ones_not_at_all(info):
    lines = noisy_clips(info)
    assert [line.split(":")[0] for line in lines] == ["c", "d", "b"]
    assert lines[0] == (
        "c: 1 jumps, 1 discontinuities; the root's largest step is 2.50 m (frame 3), the largest turn 12 degrees (head, frame 4)"
    )


def test_the_page(info):
    text = card_text(Card("My dances", "Mine.", "All mine.", "cc0-1.0"), info)
    front, page = text.split("---\n", 2)[1:]
    assert 'pretty_name: "My dances"' in front and "license: cc0-1.0" in front and "path: test.parquet" in front
    data = DatasetCard(text).data
    assert data.size_categories == ["n<1K"] and data.configs[0]["data_files"][1]["path"] == "test.parquet"
    assert card_errors(text, "dataset") == [], "what the Hub would object to"
    assert "| rumba | 2 (3.0 min) | - |" in page and "waltz, tango, rumba" in page
    assert "3 of 4 clips have a step" in page and "- c: 1 jumps" in page and "- a: " not in page
    assert "1 clips could not be used" in page and "- x: only 5 frames" in page


def test_only_so_many_noisy_clips_are_named(info):
    info["noise"] = {f"n{index:02d}": noise(1) for index in range(NAMED_CLIPS + 5)}
    text = card_text(Card("T", "D", "L"), info)
    assert text.count(": 1 jumps") == NAMED_CLIPS and f"{NAMED_CLIPS + 5} of {NAMED_CLIPS + 5} clips have" in text


@pytest.mark.parametrize(
    ("kind", "path"),
    [("model", "megadance_hf/pretrained/ballroom/README.md"), ("space", "examples/space/README.md")],
)
def test_the_hub_takes_our_pages(repository, kind, path):
    assert card_errors((repository / path).read_text(encoding="utf-8"), kind) == []


@pytest.mark.parametrize("name", OWN)
def test_the_hub_takes_the_pages_of_our_sources(info, name):
    card = importlib.import_module(f"megadance_hf.datasets_scripts.{name}").CARD
    text = card_text(card, info)
    assert card_errors(text, "dataset") == [] and DatasetCard(text).data.license == card.licence_id
