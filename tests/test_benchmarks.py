"""The benchmark of timing, run on small data: what it reports, and that music which is heard is told from music which is not."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from helpers import save_tiny_model
from test_examples import swings

from megadance_hf.datasets_scripts.schema import Card, write_prepared

_spec = importlib.util.spec_from_file_location(
    "keeps_time", Path(__file__).resolve().parent.parent / "benchmarks" / "keeps_time.py"
)
keeps_time = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(keeps_time)

GRID = {"beat_period_s": 0.4, "first_beat_s": 0.1, "beats_per_bar": 3, "first_beat_is_downbeat": True}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("timed")
    clips = [swings(number, "test" if number > 3 else "train") for number in range(6)]
    for clip in clips:
        vars(clip).update(GRID)
    clips[5].first_beat_is_downbeat = False  # no bar, no measure
    write_prepared(
        folder,
        clips,
        card=Card(title="Swings", description="Made by a test.", licence="none"),
        genres=["rumba", "waltz"],
    )
    return folder


def test_every_row_is_measured(prepared, tmp_path, capsys):
    save_tiny_model(tmp_path / "model")
    out = tmp_path / "report.json"
    report = keeps_time.main(
        [str(prepared), "--model", str(tmp_path / "model"), "--splits", "test", "--seeds", "2", "--out", str(out)]
    )
    assert json.loads(out.read_text()) == report == json.loads(capsys.readouterr().out)
    assert set(report) == {"waltz"}
    rows = report["waltz"]
    assert {name: row["dances"] for name, row in rows.items()} == {"truth": 1, "tokenizer": 1, "music": 2, "shifted": 2}
    assert all(-1 <= row["bar_correlation"] <= 1 and row["jerk"] > 0 for row in rows.values())


def test_the_training_profile_of_one_clip_is_that_clip(prepared):
    clips = keeps_time.read_prepared(str(prepared), "train")
    waltz = [clip for clip in clips if clip.genre == "waltz"]
    profiles = keeps_time.training_profiles(waltz[:1])
    clip = waltz[0]
    own = keeps_time.metrics.bar_profile(keeps_time.joints_of(clip.poses, clip.translation), keeps_time.bar_phase(clip))
    np.testing.assert_allclose(profiles["waltz"], own)
