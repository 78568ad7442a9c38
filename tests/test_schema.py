"""The schema of prepared data: files, checks, and what a second, an interrupted or a damaged run does."""

import dataclasses
import json
import os
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers import save_tiny_data
from hypothesis import given
from hypothesis import strategies as st

from megadance_hf.data import prepared
from megadance_hf.data.card import Card
from megadance_hf.data.clip import Clip, ClipError, check_motion
from megadance_hf.data.preparation import RawClip, prepare_clips
from megadance_hf.data.prepared import DataError, iter_prepared, read_info, read_prepared, write_prepared
from megadance_hf.data.raw_files import is_clip_name
from megadance_hf.data.songs import fit_rows

CARD = Card(title="Test: dances", description="Made by a test.", licence="None needed.")
GENRES = ("waltz", "rumba")


def make_clip(name="a", frames=20, seed=0, **values) -> Clip:
    generator = np.random.default_rng(seed)
    poses = np.cumsum(generator.normal(size=(frames, 72), scale=0.02), axis=0)
    translation = np.cumsum(generator.normal(size=(frames, 3), scale=0.01), axis=0)
    return Clip(name, poses.astype(np.float32), translation.astype(np.float32), **values)


def with_music(clip: Clip, seed=0) -> Clip:
    features = np.random.default_rng(seed).normal(size=(len(clip), 35)).astype(np.float32)
    return dataclasses.replace(clip, input_features=features, audio=b"OggS\x00 not really")


def assert_equal(got: Clip, expected: Clip) -> None:
    for item in dataclasses.fields(Clip):
        left, right = getattr(got, item.name), getattr(expected, item.name)
        if isinstance(right, np.ndarray):
            assert left.dtype == np.float32 and left.flags.writeable
            np.testing.assert_array_equal(left, right)
        else:
            assert left == right, item.name


def three_clips() -> list[Clip]:
    known = {"beat_period_s": 0.689123, "first_beat_s": 0.0, "beats_per_bar": 3, "first_beat_is_downbeat": True}
    return [
        with_music(make_clip("b", 33, 1, genre="waltz", source="S", licence="L", phase_confidence="high", **known)),
        make_clip("a", 17, 2, genre="rumba", split="test"),
        make_clip("c", 40, 3),
    ]


def write(path, clips, **values):
    return write_prepared(path, clips, card=CARD, genres=GENRES, **values)


# --- files ---------------------------------------------------------------------------------------------------------


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


# --- checks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("poses", "translation", "message"),
    [
        (np.zeros((20, 71)), np.zeros((20, 3)), r"poses have shape \(20, 71\), expected \(frames, 72\)"),
        (np.zeros((20, 24, 3)), np.zeros((20, 3)), "poses have shape"),
        (np.zeros((20, 72)), np.zeros((19, 3)), r"translation has shape \(19, 3\), expected \(20, 3\)"),
        (np.zeros((15, 72)), np.zeros((15, 3)), "only 15 frames, at least 16"),
        (np.zeros((20, 72)), np.full((20, 3), np.inf), "translation hold NaN or infinite numbers, first in frame 0"),
        (np.array([["a"] * 72] * 20), np.zeros((20, 3)), "not an array of numbers"),
        (None, np.zeros((20, 3)), "poses have shape"),
    ],
)
def test_bad_motion_is_told(poses, translation, message):
    with pytest.raises(ClipError, match=message):
        check_motion(poses, translation)


def test_jumps_are_told_unless_they_are_to_be_kept():
    clip = make_clip(frames=30)
    clip.translation[12:] += [0, 0.9, 0]
    with pytest.raises(ClipError, match=r"the root jumps 0\.\d+ m between frames 11 and 12"):
        check_motion(clip.poses, clip.translation)
    assert check_motion(clip.poses, clip.translation, jumps="keep")[1] is clip.translation


def test_music_rows_fit_the_motion():
    features = np.random.default_rng(0).random((50, 35)).astype(np.float32)
    features[-1, 33:] = 1
    np.testing.assert_array_equal(fit_rows(features, 50), features)
    np.testing.assert_array_equal(fit_rows(features, 44), features[:44])
    longer = fit_rows(features, 53)
    np.testing.assert_array_equal(longer[:50], features)
    np.testing.assert_array_equal(longer[50:, :33], np.repeat(features[-1:, :33], 3, axis=0))
    assert not longer[50:, 33:].any()
    with pytest.raises(ClipError, match="the music ends 4 frames before the motion of 54 frames"):
        fit_rows(features, 54)
    with pytest.raises(ClipError):
        fit_rows(features[:0], 2)


# --- preparing -----------------------------------------------------------------------------------------------------


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
def test_a_dying_process_is_told(raw, tmp_path):
    with pytest.raises(DataError, match="one of num_proc=2 processes died .* run it again with fewer"):
        prepare_clips(raw.raws(), die, tmp_path / "out", card=CARD, genres=GENRES, num_proc=2, progress=False)


@pytest.mark.slow
def test_two_processes_write_what_one_does(raw, tmp_path):
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


# --- damage ------------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("name", "usable"),
    [
        ("gBR_sBM_cAll_d04_mBR0_ch01", True),
        ("Tanz é 7", True),
        *((wrong, False) for wrong in ("", ".", "..", "../a", "a/b", "a\\b", "a\nb", "a\0b", "x" * 201, None, 7)),
    ],
)
def test_names_of_clips_stay_in_their_folder(name, usable):
    assert is_clip_name(name) is usable
