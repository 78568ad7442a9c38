"""`examples/reproduce.sh`, whole but very short."""

import json
import os
import subprocess
import sys

import pytest
from test_ballroom2 import RawFolder


def ballroom2(root):
    """A raw folder with a few songs of two genres in each split."""
    raw = RawFolder(root)
    for split, count in (("train", 3), ("val", 1), ("val_new_song", 1)):
        for genre in ("tango", "rumba"):
            for number in range(count):
                raw.add(f"{genre}_{split}_{number}", frames=270, split=split, start=number + 0.3, genre=genre)
    return raw.write()


@pytest.mark.slow
def test_every_table_comes_out_and_a_second_run_does_nothing_again(repository, tmp_path, forked_python):
    short = {"EPOCHS": "1", "EVALUATE": "--clip-frames 240 --seeds 1", "JOBS": "1", "SYNTHETIC": "no"}
    command = [
        "bash",
        str(repository / "examples" / "reproduce.sh"),
        str(tmp_path / "out"),
        str(tmp_path / "no ballroom"),
        str(ballroom2(tmp_path / "raw")),
    ]
    run = {"env": {**os.environ, **short, "PYTHON": forked_python}, "capture_output": True, "text": True}
    first = subprocess.run(command, timeout=900, **run)
    assert first.returncode == 0, first.stdout + first.stderr
    for table in ("Table 1", "Table 2", "Table 3", "Table 4 (a)", "Table 4 (b)"):
        assert first.stdout.count(f"## {table}") == 1, table
    report = json.loads((tmp_path / "out" / "ballroom2" / "report" / "report.json").read_text(encoding="utf-8"))
    ablated = [row["label"] for row in report["tables"]["4a"]["rows"]]
    assert ablated == ["ground truth", "w/o SE", "w/o UE", "w/o Mamba", "Ours"]
    assert len(report["tables"]["4b"]["rows"]) == 4 and report["settings"]["splits"] == ["validation", "new_song"]

    again = subprocess.run(command, timeout=60, **run)
    assert again.returncode == 0 and "  0 minutes" in f"  {again.stdout.splitlines()[-1]}"


def test_a_failure_is_told_and_ends_it(repository, tmp_path):
    wrong = {**os.environ, "PYTHON": sys.executable, "CLIPS": "none"}
    command = ["bash", str(repository / "examples" / "reproduce.sh"), str(tmp_path / "out"), "nowhere", "nowhere"]
    done = subprocess.run(command, env=wrong, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "'none' cannot be used" in done.stderr
    assert "only the synthetic tables" in done.stdout
