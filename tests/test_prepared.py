"""The files of a prepared set: written, read, damaged."""

import dataclasses
import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers import save_tiny_data
from hypothesis import given
from hypothesis import strategies as st
from toy_clips import CARD, GENRES, assert_equal, make_clip

from megadance_hf.data import prepared
from megadance_hf.data.clip import Clip, ClipError
from megadance_hf.data.prepared import DataError, iter_prepared, read_info, read_prepared, write_prepared


def with_music(clip: Clip, seed=0) -> Clip:
    features = np.random.default_rng(seed).normal(size=(len(clip), 35)).astype(np.float32)
    return dataclasses.replace(clip, input_features=features, audio=b"OggS\x00 not really")


def three_clips() -> list[Clip]:
    known = {"beat_period_s": 0.689123, "first_beat_s": 0.0, "beats_per_bar": 3, "first_beat_is_downbeat": True}
    return [
        with_music(make_clip("b", 33, 1, genre="waltz", source="S", licence="L", phase_confidence="high", **known)),
        make_clip("a", 17, 2, genre="rumba", split="test"),
        make_clip("c", 40, 3),
    ]


def write(path, clips, **values):
    return write_prepared(path, clips, card=CARD, genres=GENRES, **values)


@pytest.mark.versions
def test_written_clips_come_back(tmp_path):
    clips = three_clips()
    info = write(tmp_path / "set", iter(clips))
    assert info == read_info(tmp_path / "set")
    assert info["genres"] == ["waltz", "rumba"] and info["fps"] == 30
    assert info["splits"]["train"] == {
        "clips": 2,
        "frames": 73,
        "paired_clips": 1,
        "paired_frames": 33,
        "clips_by_genre": {"waltz": 1, "none": 1},
        "frames_by_genre": {"waltz": 33, "none": 40},
    }
    assert list(info["noise"]) == ["b", "a", "c"]
    for got, expected in zip(read_prepared(tmp_path / "set", audio=True), [clips[0], clips[2], clips[1]], strict=True):
        assert_equal(got, expected)
    assert [clip.id for clip in read_prepared(tmp_path / "set", "test")] == ["a"]
    assert read_prepared(tmp_path / "set", "train")[0].audio is None


@given(st.lists(st.tuples(st.integers(16, 40), st.booleans()), min_size=1, max_size=6), st.sampled_from([1, 20_000]))
def test_row_groups_change_nothing(tmp_path_factory, shapes, group_bytes):
    folder = tmp_path_factory.mktemp("groups")
    clips = [make_clip(str(i), frames, i) for i, (frames, _) in enumerate(shapes)]
    clips = [with_music(clip, 9) if paired else clip for clip, (_, paired) in zip(clips, shapes, strict=True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepared, "ROW_GROUP_BYTES", group_bytes)
        write(folder, clips)
    if group_bytes == 1:
        assert pq.ParquetFile(folder / "train.parquet").num_row_groups == len(clips)
    for got, expected in zip(iter_prepared(folder, audio=True), clips, strict=True):
        assert_equal(got, expected)


def test_marked_frames_are_kept_and_told(tmp_path):
    marks = {"a": [3, 19, 25], "b": [], "c": None}
    clips = [make_clip(name, marked_frames=frames, muq_frames=18 if frames else None) for name, frames in marks.items()]
    info = write(tmp_path, clips)
    assert info["marked"] == read_info(tmp_path)["marked"] == {"a": {"frames": 2, "beyond_end": 1}}
    found = read_prepared(tmp_path)
    assert {clip.id: clip.marked_frames for clip in found} == marks
    assert [clip.muq_frames for clip in found] == [18, None, None]
    card = (tmp_path / "README.md").read_text()
    assert "1 of 3 clips have frames that the source marks as bad" in card
    assert "- a: 2 marked frames, 1 beyond its end" in card


def test_units_are_kept(tmp_path):
    units = [{"name": "T-3-1", "start_s": 0.1, "beats": 4}, {"name": "HOLD", "start_s": 0.3, "beats": 2.5}]
    write(tmp_path, [make_clip("a", units=units, kind="take"), make_clip("b", units=[])])
    found = read_prepared(tmp_path)
    assert [(clip.units, clip.kind) for clip in found] == [(units, "take"), (None, None)]


@pytest.mark.parametrize(
    "unit",
    [
        {"name": "a", "start_s": 0.0},
        {"name": None, "start_s": 0, "beats": 1},
        {"name": "a", "start_s": np.nan, "beats": 1},
        "a",
    ],
)
def test_units_that_are_none_are_refused(unit):
    with pytest.raises(ClipError, match="must be a list of {'name', 'start_s', 'beats'}, or None"):
        make_clip(units=[unit]).check()


def test_sets_of_before_some_columns_are_read(tmp_path):
    write(tmp_path, [make_clip()])
    later = ["marked_frames", "muq_frames", "bar_confidence", "kind", "units"]
    _table(lambda table: table.drop_columns(later))(tmp_path)
    _info(marked=...)(tmp_path)
    (clip,) = read_prepared(tmp_path)
    assert all(getattr(clip, name) is None for name in later)


@pytest.mark.versions
@pytest.mark.parametrize("by_name", [True, False])
def test_load_dataset_reads_the_folder(tmp_path, by_name):
    from datasets import load_dataset

    clips = three_clips()
    write(tmp_path / "set", clips)
    folder = str(tmp_path / "set")
    data = load_dataset("parquet", data_dir=folder) if by_name else load_dataset(folder)
    assert {split: len(rows) for split, rows in data.items()} == {"train": 2, "test": 1}
    rows = data["train"].with_format("numpy")
    np.testing.assert_array_equal(rows[0]["poses"], clips[0].poses)
    np.testing.assert_array_equal(rows[0]["input_features"], clips[0].input_features)
    plain = data["train"][:]
    assert plain["id"] == ["b", "c"] and plain["audio"][0]["bytes"] == clips[0].audio
    assert plain["input_features"][1] is None and plain["genre"] == ["waltz", None]
    assert plain["beats_per_bar"] == [3, None] and plain["first_beat_is_downbeat"] == [True, None]


def test_the_card_lists_splits_and_genres(tmp_path):
    write(tmp_path, three_clips())
    text = (tmp_path / "README.md").read_text()
    front = text.split("---\n")[1]
    assert "path: train.parquet" in front and "path: test.parquet" in front and "validation" not in front
    assert "| waltz | 1 (0.0 min) | - |" in text and "| rumba | - | 1 (0.0 min) |" in text
    assert "0 of 3 clips have a step" in text
    assert "waltz, rumba" in text and "Made by a test." in text and "None needed." in text


def test_a_failed_write_leaves_the_earlier_set(tmp_path):
    write(tmp_path, three_clips())
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    bad = make_clip("bad")
    bad.poses[3, 5] = np.nan
    with pytest.raises(ClipError, match=r"clip 'bad': poses hold NaN.* frame 3"):
        write(tmp_path, [make_clip("new", genre="rumba"), bad])
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_split_that_is_gone_is_removed(tmp_path):
    write(tmp_path, three_clips())
    write(tmp_path, [make_clip("only", split="validation")])
    assert sorted(file.name for file in tmp_path.glob("*.parquet")) == ["validation.parquet"]
    assert [clip.id for clip in read_prepared(tmp_path)] == ["only"]


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ([make_clip("x", genre="polka")], "clip 'x': genre 'polka' is none of waltz, rumba"),
        ([make_clip("x", split="dev")], "clip 'x': split 'dev' is none of train, validation, test"),
        ([make_clip("x"), make_clip("x")], "clip 'x': the id came twice"),
        ([], "no clip to write"),
        (
            [make_clip("x", input_features=np.zeros((19, 35)))],
            r"music features have shape \(19, 35\), expected \(20, 35\)",
        ),
        ([make_clip("x", input_features=np.full((20, 35), np.inf))], "music features hold NaN or infinite"),
    ],
)
def test_clips_that_cannot_be_written(tmp_path, clips, message):
    with pytest.raises(ClipError, match=message):
        write(tmp_path, clips)
    assert list(tmp_path.iterdir()) == []


def test_reading_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a prepared data set.*Prepare it first"):
        read_prepared(tmp_path)
    write(tmp_path, [make_clip()])
    with pytest.raises(ValueError, match="split 'test' is not in .*, which has train"):
        read_prepared(tmp_path, "test")


def _info(**values):
    def change(folder):
        content = {**json.loads((folder / "info.json").read_text()), **values}
        kept = {name: value for name, value in content.items() if value is not ...}
        (folder / "info.json").write_text(json.dumps(kept))

    return change


def _table(change):
    def rewrite(folder):
        table = pq.read_table(folder / "train.parquet")
        pq.write_table(change(table), folder / "train.parquet")

    return rewrite


def _column(name, values):
    return _table(lambda table: table.set_column(table.column_names.index(name), name, [values]))


def _flip(folder):
    """One bit in the first page of numbers."""
    raw = bytearray((folder / "train.parquet").read_bytes())
    raw[len(raw) // 3] ^= 4
    (folder / "train.parquet").write_bytes(raw)


DAMAGES = {
    "info.json": {
        "no JSON": lambda folder: (folder / "info.json").write_text("{"),
        "no text": lambda folder: (folder / "info.json").write_bytes(b"\xff\xfe"),
        "a list": lambda folder: (folder / "info.json").write_text("[]"),
        "very deep": lambda folder: (folder / "info.json").write_text("[" * 100_000),
        "fps 1e19": _info(fps=1e19),
        "no genres": _info(genres=...),
        "genres that are numbers": _info(genres=[1, 2, 3]),
        "splits that are a list": _info(splits=["train"]),
        "a split that leads away": _info(splits={"../train": {"clips": 1}}),
        "a split without counts": _info(splits={"train": {}}),
        "noise that is text": _info(noise="loud"),
        "marks that are text": _info(marked={"clip1": {"frames": "many", "beyond_end": 0}}),
        "another number of clips": lambda folder: _info(
            splits={**(splits := read_info(folder)["splits"]), "train": {**splits["train"], "clips": 9}}
        )(folder),
    },
    "train.parquet": {
        "gone": lambda folder: (folder / "train.parquet").unlink(),
        "empty": lambda folder: (folder / "train.parquet").write_bytes(b""),
        "cut": lambda folder: (folder / "train.parquet").write_bytes((folder / "train.parquet").read_bytes()[:-100]),
        "a flipped bit": _flip,
        "no poses": _table(lambda table: table.drop_columns("poses")),
        "poses that are text": _column("poses", ["x"] * 3),
        "NaN": _column("translation", [[[float("nan")] * 3] * 24] * 3),
        "other lengths": _column("translation", [[[0.0] * 3] * 20] * 3),
        "marks before the beginning": _column("marked_frames", [[-1]] * 3),
        "marks out of order": _column("marked_frames", [[5, 3]] * 3),
        "no MuQ": _column("muq_frames", [0] * 3),
        "no such genre": _column("genre", ["tango"] * 3),
        "another split": _column("split", ["test"] * 3),
        "another rate": _column("fps", [60.0] * 3),
        "a name of a million letters": _column("source", ["x" * 10**6] * 3),
        "a row less": _table(lambda table: table.slice(0, 2)),
    },
}  # fmt: skip


@pytest.mark.parametrize(("file", "damage"), [(file, damage) for file in DAMAGES for damage in DAMAGES[file]])
def test_a_damaged_set_is_told_by_the_name_of_its_file(tmp_path, file, damage):
    folder = save_tiny_data(tmp_path / "set")
    DAMAGES[file][damage](folder)
    with pytest.raises(DataError, match=re.escape(file)) as caught:
        read_prepared(folder, audio=True)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 900


def test_pages_have_checksums(tmp_path):
    """With a bit flipped in a page, without them, the set would be read and trained on."""
    folder = save_tiny_data(tmp_path / "set")
    _flip(folder)
    with pytest.raises(DataError, match="checksum"):
        read_prepared(folder)
