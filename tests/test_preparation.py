"""Preparing: what a second, an interrupted or a failing run does."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from toy_clips import CARD, GENRES, assert_equal, make_clip

from megadance_hf.data.clip import Clip
from megadance_hf.data.preparation import RawClip, prepare_clips
from megadance_hf.data.prepared import DataError, read_info, read_prepared


class Raw:
    """A raw folder of four .npy motions, and `make` with a memory of what it made."""

    def __init__(self, folder: Path):
        self.folder, self.calls = folder, []
        folder.mkdir()
        for i, name in enumerate("abcd"):
            np.save(folder / f"{name}.npy", make_clip(frames=20 + i, seed=i).poses)
        self.names = list("abcd")

    def raws(self, split="train"):
        return [RawClip(name, split, (self.folder / f"{name}.npy",), {"genre": "waltz"}) for name in self.names]

    def make(self, raw):
        self.calls.append(raw.id)
        return make(raw)

    def prepare(self, out, **values):
        self.calls.clear()
        return prepare_clips(self.raws(), self.make, out, card=CARD, genres=GENRES, progress=False, **values)


def make(raw):
    poses = np.load(raw.files[0])
    return Clip(raw.id, poses, np.zeros((len(poses), 3)), genre=raw.record["genre"], split=raw.split, audio=b"sound")


@pytest.fixture
def raw(tmp_path):
    return Raw(tmp_path / "raw")


def state(folder):
    return {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.iterdir()}


def test_a_second_run_does_nothing(raw, tmp_path):
    out = tmp_path / "out"
    report = raw.prepare(out)
    assert report.made == raw.calls == list("abcd") and report.kept == [] and report.left_out == {}
    assert "4 clips made" in str(report) and not (out / ".parts").exists()
    before = state(out)
    report = raw.prepare(out)
    assert raw.calls == [] and report.kept == list("abcd") and report.info == read_info(out)
    assert state(out) == before


def test_only_what_changed_is_made_again(raw, tmp_path):
    out = tmp_path / "out"
    raw.prepare(out)
    np.save(raw.folder / "b.npy", make_clip(frames=31, seed=9).poses)
    raw.names.remove("c")
    report = raw.prepare(out)
    assert raw.calls == ["b"] and report.made == ["b"] and report.kept == ["a", "d"]
    clips = read_prepared(out, audio=True)
    assert [(clip.id, len(clip), clip.audio) for clip in clips] == [
        ("a", 20, b"sound"),
        ("b", 31, b"sound"),
        ("d", 23, b"sound"),
    ]
    # a lost file is made again from the raw clips
    (out / "train.parquet").unlink()
    raw.prepare(out)
    assert raw.calls == ["a", "b", "d"]


def test_an_interrupted_run_goes_on(raw, tmp_path):
    out = tmp_path / "out"
    whole = Raw(tmp_path / "raw2")
    whole.prepare(tmp_path / "whole")

    def interrupted(item):
        if item.id == "c":
            raise KeyboardInterrupt
        return make(item)

    with pytest.raises(KeyboardInterrupt):
        prepare_clips(raw.raws(), interrupted, out, card=CARD, genres=GENRES, progress=False)
    with pytest.raises(FileNotFoundError):
        read_prepared(out)
    report = raw.prepare(out)
    assert raw.calls == ["c", "d"] and report.kept == ["a", "b"]
    for got, expected in zip(read_prepared(out), read_prepared(tmp_path / "whole"), strict=True):
        assert_equal(got, expected)


def test_bad_clips_are_left_out_by_name(raw, tmp_path):
    (raw.folder / "a.npy").write_bytes(b"not an array")
    (raw.folder / "b.npy").unlink()
    np.save(raw.folder / "c.npy", np.full((20, 72), np.nan))
    report = raw.prepare(tmp_path / "out")
    assert set(report.left_out) == {"a", "b", "c"} and report.made == ["d"]
    assert "FileNotFoundError" in report.left_out["b"] and "NaN" in report.left_out["c"]
    assert read_info(tmp_path / "out")["left_out"] == report.left_out
    assert "left out c: poses hold NaN" in str(report)
    # unchanged, they are not tried again, and are named again
    assert raw.prepare(tmp_path / "out").left_out == report.left_out and raw.calls == []
    (raw.folder / "d.npy").unlink()
    with pytest.raises(ValueError, match="none of 4 clips could be used; a: "):
        raw.prepare(tmp_path / "nothing")
    assert not (tmp_path / "nothing" / "info.json").exists()


def test_a_genre_nobody_knows_leaves_the_clip_out(raw, tmp_path):
    raws = [*raw.raws(), RawClip("e", "train", (raw.folder / "a.npy",), {"genre": "polka"})]
    report = prepare_clips(raws, make, tmp_path / "out", card=CARD, genres=GENRES, progress=False)
    assert report.left_out == {"e": "genre 'polka' is none of waltz, rumba"}


def test_jumping_clips_are_left_out_or_kept(raw, tmp_path):
    poses = np.load(raw.folder / "b.npy")
    poses[9:, 30] += 3
    np.save(raw.folder / "b.npy", poses)
    out = tmp_path / "out"
    assert set(raw.prepare(out).left_out) == {"b"} and "b" not in read_info(out)["noise"]
    # the option alone makes the clip, and only it
    report = raw.prepare(out, jumps="keep")
    assert raw.calls == report.made == ["b"] and report.kept == ["a", "c", "d"] and report.left_out == {}
    assert read_info(out)["noise"]["b"]["jumps"] == 1 and "  1 of 4 clips have jumps" in str(report)
    assert [clip.id for clip in read_prepared(out)] == list("abcd")
    before = state(out)
    assert raw.prepare(out, jumps="keep").made == raw.calls == [] and state(out) == before
    report = raw.prepare(out)
    assert raw.calls == ["b"] and report.made == [] and set(report.left_out) == {"b"}
    assert [clip.id for clip in read_prepared(out)] == list("acd")


def test_a_set_of_before_the_noise_was_measured_is_brought_up_to_date(raw, tmp_path):
    """Its clips stay, only the files are written again."""
    out = tmp_path / "out"
    raw.prepare(out)
    info = read_info(out)
    for name in ("noise", "jumps", "ignored", "share_audio"):
        del info[name]
    (out / "info.json").write_text(json.dumps(info))
    report = raw.prepare(out)
    assert raw.calls == [] and report.kept == list("abcd") and set(read_info(out)["noise"]) == set("abcd")


def test_ignored_clips_are_told(raw, tmp_path):
    ignored = {"x": "by the split", "y": "by the split", "z": "in a list"}
    report = raw.prepare(tmp_path / "out", ignored=ignored)
    assert report.ignored == read_info(tmp_path / "out")["ignored"] == ignored
    assert "2 not used, by the split: x, y" in str(report) and "1 not used, in a list: z" in str(report)
    assert raw.prepare(tmp_path / "out", ignored=ignored).ignored == ignored and raw.calls == []
    assert " not used, " not in str(raw.prepare(tmp_path / "out")) and raw.calls == []


def test_the_report_has_a_table(raw, tmp_path):
    raws = [dataclasses.replace(item, split="test") if item.id == "d" else item for item in raw.raws()]
    report = prepare_clips(raws, make, tmp_path / "out", card=CARD, genres=GENRES, progress=False)
    lines = [line.split("  ") for line in str(report).splitlines()]
    assert [[cell.strip() for cell in line if cell.strip()] for line in lines[1:4]] == [
        ["genre", "train", "test"],
        ["waltz", "3 (0.0 min)", "1 (0.0 min)"],
        ["all", "3 (0.0 min)", "1 (0.0 min)"],
    ]
    assert "no clip is in the validation split" in str(report)


def die(raw):
    os._exit(1)


@pytest.mark.slow
def test_a_dying_process_is_told(raw, tmp_path, forked_pools):
    with pytest.raises(DataError, match="one of num_proc=2 processes died .* run it again with fewer"):
        prepare_clips(raw.raws(), die, tmp_path / "out", card=CARD, genres=GENRES, num_proc=2, progress=False)


@pytest.mark.slow
def test_two_processes_write_what_one_does(raw, tmp_path, forked_pools):
    for count in (1, 2):
        out = tmp_path / str(count)
        prepare_clips(raw.raws(), make, out, card=CARD, genres=GENRES, num_proc=count, progress=False)
    assert sorted(os.listdir(tmp_path / "1")) == sorted(os.listdir(tmp_path / "2"))
    assert (tmp_path / "1" / "info.json").read_text() == (tmp_path / "2" / "info.json").read_text()
    for got, expected in zip(read_prepared(tmp_path / "2"), read_prepared(tmp_path / "1"), strict=True):
        assert_equal(got, expected)


def test_a_fingerprint_depends_on_everything(raw):
    base = raw.raws()[0]
    others = [
        dataclasses.replace(base, id="z"),
        dataclasses.replace(base, split="test"),
        dataclasses.replace(base, record={"genre": "rumba"}),
        dataclasses.replace(base, files=(raw.folder / "b.npy",)),
        dataclasses.replace(base, files=(raw.folder / "none.npy",)),
    ]
    assert base.fingerprint() == raw.raws()[0].fingerprint()
    assert len({item.fingerprint() for item in [base, *others]}) == 6
    before = base.fingerprint()
    np.save(base.files[0], make_clip(frames=20, seed=7).poses)
    assert base.fingerprint() != before, "the same name and size, another content"


def test_ids_must_differ(raw, tmp_path):
    with pytest.raises(ValueError, match="same id"):
        prepare_clips(raw.raws() * 2, make, tmp_path / "out", card=CARD, genres=GENRES, progress=False)
