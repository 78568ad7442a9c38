"""Ballroom: a raw folder in exactly the layout of the real one, with every fault a folder can have, and the real one."""

import json

import numpy as np
import pytest
import soundfile

from megadance_hf.data.clip import ClipError, check_motion
from megadance_hf.data.prepared import iter_prepared, read_info, read_prepared
from megadance_hf.datasets_scripts import ballroom
from megadance_hf.datasets_scripts.ballroom import GENRES, VALIDATION, list_raw, prepare

RATE = 22050
BEAT = 0.5  # seconds between the clicks of the music below


def motion(frames, seed=0):
    generator = np.random.default_rng(seed)
    poses = np.cumsum(generator.normal(size=(frames, 72), scale=0.01), axis=0).astype(np.float32)
    return {"smpl_poses": poses, "smpl_trans": np.zeros((frames, 3), np.float32), "fps": np.array(30)}


def clicks(seconds):
    """Short noise bursts on a quiet chord, one every `BEAT` seconds from 0 on."""
    time = np.arange(round(seconds * RATE)) / RATE
    chord = sum(np.sin(2 * np.pi * hertz * time) for hertz in (220, 277, 330)) * 0.02
    noise = np.random.default_rng(0).normal(size=len(time)) * np.exp(-(time % BEAT) / 0.02)
    return (chord + 0.2 * noise).astype(np.float32)


class RawFolder:
    """A raw ballroom folder; `add` writes one sequence as the real set has it."""

    def __init__(self, root):
        self.root, self.records, self.splits = root, [], {"train": [], "test": []}
        for name in ("motions", "music", "splits"):
            (root / name).mkdir(parents=True)

    def add(self, name, frames=60, split="train", paired=False, arrays=None, music_seconds=None, **record):
        np.savez(self.root / "motions" / f"{name}.npz", **(arrays or motion(frames)))
        known = {"id": name, "genre": name.split("_")[0], "frames": frames, "fps": 30, "paired": paired, "split": split}
        if paired:
            seconds = frames / 30 if music_seconds is None else music_seconds
            soundfile.write(self.root / "music" / f"{name}.ogg", clicks(seconds), RATE, format="OGG", subtype="VORBIS")
            known |= {"beat_period_s": BEAT, "first_beat_s": 0, "beats_per_bar": 3, "start_anchor": "downbeat"}
            known |= {"phase_confidence": "high", "source": f"DANCE_{name}"}
        self.records.append(known | record)
        self.splits[split].append(name)

    def write(self):
        lines = "".join(json.dumps(record) + "\n" for record in self.records)
        (self.root / "metadata.jsonl").write_text(lines)
        for split, names in self.splits.items():
            (self.root / "splits" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        return self.root


@pytest.fixture
def raw(tmp_path):
    return RawFolder(tmp_path / "raw")


@pytest.fixture
def quick_features(monkeypatch):
    """The real features take seconds; here only which music was read matters."""

    def features(audio, frames):
        assert audio[:4] == b"OggS"
        return np.full((frames, 35), 0.5, np.float32)

    monkeypatch.setattr(ballroom, "music_features", features)


def test_the_whole_way_with_real_features(raw, tmp_path):
    raw.add("waltz_7", frames=240, paired=True)
    raw.add("chacha_4", frames=50)
    report = prepare(raw.write(), tmp_path / "out", progress=False)
    assert report.made == ["waltz_7", "chacha_4"] and report.left_out == {}
    assert read_info(tmp_path / "out")["genres"] == ["chacha", "rumba", "waltz"]
    paired, unpaired = read_prepared(tmp_path / "out", audio=True)
    assert paired.audio == (raw.root / "music" / "waltz_7.ogg").read_bytes()
    np.testing.assert_array_equal(paired.poses, motion(240)["smpl_poses"])
    assert (paired.beat_period_s, paired.first_beat_s, paired.beats_per_bar) == (BEAT, 0, 3)
    assert paired.first_beat_is_downbeat is True and paired.phase_confidence == "high"
    # row k is the sound at k / 30 s: the onset envelope is largest at the clicks, every 15 rows
    assert paired.input_features.shape == (240, 35)
    envelope = paired.input_features[:, 32]
    folded = envelope[15:225].reshape(-1, 15).mean(0)
    assert folded.argmax() in (14, 0, 1) and folded.max() > 3 * np.median(folded)
    assert unpaired.input_features is None and unpaired.audio is None and unpaired.beat_period_s is None


def test_splits(raw, tmp_path, quick_features):
    raw.add("waltz_21", paired=True)
    raw.add("waltz_8")
    raw.add("rumba_2", split="test", paired=True)
    raw.add("waltz_25", split="test", paired=True)
    prepare(raw.write(), tmp_path / "out", progress=False)
    # a validation song comes out of train only: the test split stays as it is
    assert {clip.id: clip.split for clip in read_prepared(tmp_path / "out")} == {
        "waltz_8": "train",
        "waltz_21": "validation",
        "rumba_2": "test",
        "waltz_25": "test",
    }


def test_which_beat_begins_a_bar(raw, tmp_path, quick_features):
    raw.add("waltz_1", paired=True)
    raw.add("waltz_2", paired=True, start_anchor="beat")
    raw.add("waltz_3", paired=True, first_beat_s=0.0156)
    prepare(raw.write(), tmp_path / "out", progress=False)
    assert [clip.first_beat_is_downbeat for clip in read_prepared(tmp_path / "out")] == [True, False, False]


def test_faults_are_told_by_name_and_the_rest_goes_on(raw, tmp_path, quick_features):
    good = motion(60)
    raw.add("waltz_1", paired=True)
    raw.add("waltz_2", arrays=good | {"smpl_poses": np.full((60, 72), np.nan, np.float32)})
    raw.add("waltz_3", arrays=good | {"smpl_poses": good["smpl_poses"][:, :69]})
    raw.add("waltz_4", frames=9)
    raw.add("waltz_5", arrays={"smpl_poses": good["smpl_poses"], "fps": np.array(30)})
    raw.add("waltz_6", arrays=good | {"fps": np.array(25)})
    raw.add("waltz_7")
    raw.add("waltz_8")
    raw.add("waltz_9", paired=True)
    raw.add("polka_1")
    raw.add("waltz_12", genre=None)
    raw.add("waltz_10", arrays=good | {"smpl_trans": np.repeat([[0, 0, 0], [3, 0, 0]], 30, axis=0)})
    raw.add("waltz_11", arrays=good | {"smpl_poses": np.array([{"an": "object"}] * 60)})
    raw.write()
    (raw.root / "motions" / "waltz_7.npz").write_bytes((raw.root / "motions" / "waltz_8.npz").read_bytes()[:3000])
    (raw.root / "motions" / "waltz_8.npz").unlink()
    (raw.root / "music" / "waltz_9.ogg").unlink()
    with (raw.root / "splits" / "train.txt").open("a") as file:
        file.write("waltz_99\n")
    report = prepare(raw.root, tmp_path / "out", progress=False)
    assert report.made == ["waltz_1"]
    expected = {
        "waltz_2": "poses hold NaN or infinite numbers, first in frame 0",
        "waltz_3": "poses have shape (60, 69), expected (frames, 72)",
        "waltz_4": "only 9 frames",
        "waltz_5": "waltz_5.npz lacks an array",
        "waltz_6": "25 frames per second, expected 30",
        "waltz_7": "waltz_7.npz cannot be read",
        "waltz_8": "waltz_8.npz is missing",
        "waltz_9": "waltz_9.ogg is missing",
        "polka_1": "genre 'polka' is none of chacha, rumba, waltz",
        "waltz_12": "metadata.jsonl names no genre",
        "waltz_10": "the root jumps 3.00 m between frames 29 and 30",
        "waltz_11": "waltz_11.npz cannot be read",
        "waltz_99": "metadata.jsonl has no line for it",
    }
    assert set(report.left_out) == set(expected)
    for name, words in expected.items():
        assert words in report.left_out[name]


def test_bad_music_is_told(raw, tmp_path):
    raw.add("waltz_1")
    raw.add("waltz_2", frames=120, paired=True, music_seconds=3.0)
    raw.add("waltz_3", paired=True)
    raw.write()
    (raw.root / "music" / "waltz_3.ogg").write_bytes(b"no music at all")
    report = prepare(raw.root, tmp_path / "out", progress=False)
    assert report.made == ["waltz_1"] and set(report.left_out) == {"waltz_2", "waltz_3"}
    assert report.left_out["waltz_2"] == "the music ends 30 frames before the motion of 120 frames"
    assert "audio" in report.left_out["waltz_3"]


@pytest.mark.parametrize("missing", ["metadata.jsonl", "splits/test.txt"])
def test_another_folder_is_refused(raw, missing):
    raw.add("waltz_1")
    raw.write()
    (raw.root / missing).unlink()
    with pytest.raises(FileNotFoundError, match=f"has no {missing}; give the folder"):
        list_raw(raw.root)


# --- the real folder -----------------------------------------------------------------------------------------------


def test_the_real_folder(ballroom_dir):
    raws = list_raw(ballroom_dir)
    of_split = {split: [raw for raw in raws if raw.split == split] for split in ("train", "validation", "test")}
    assert {split: len(items) for split, items in of_split.items()} == {"train": 29, "validation": 3, "test": 6}
    assert [raw.id for raw in of_split["test"]] == (ballroom_dir / "splits" / "test.txt").read_text().split()
    assert sorted(raw.id for raw in of_split["validation"]) == sorted(VALIDATION)
    assert all(raw.record["paired"] for raw in of_split["validation"])
    assert {raw.record["genre"] for raw in raws} == set(GENRES)
    assert sum(raw.record["paired"] for raw in raws) == 31
    for raw in raws:
        assert all(file.is_file() for file in raw.files), raw.id
        poses, translation = check_motion(*ballroom.read_motion(raw.files[0]))
        assert len(poses) == len(translation) == raw.record["frames"]


def test_real_clips_without_features(ballroom_dir, tmp_path, quick_features, monkeypatch):
    wanted = ("chacha_2b", "chacha_4", "waltz_25")
    monkeypatch.setattr(ballroom, "list_raw", lambda raw: [item for item in list_raw(raw) if item.id in wanted])
    report = prepare(ballroom_dir, tmp_path / "out", progress=False)
    assert report.left_out == {}
    clips = {clip.id: clip for clip in iter_prepared(tmp_path / "out")}
    assert {name: clip.split for name, clip in clips.items()} == {
        "chacha_2b": "test",
        "chacha_4": "train",
        "waltz_25": "validation",
    }
    assert clips["chacha_2b"].first_beat_s == 0.0156 and clips["chacha_2b"].first_beat_is_downbeat is False
    assert clips["waltz_25"].first_beat_is_downbeat is True and clips["waltz_25"].beats_per_bar == 3
    assert not clips["chacha_4"].paired and clips["chacha_4"].beat_period_s is None


def test_a_message_about_a_strange_rate_is_one_line(tmp_path):
    rate = np.zeros((4, 5, 6))
    np.savez(tmp_path / "a.npz", smpl_poses=np.zeros((9, 72)), smpl_trans=np.zeros((9, 3)), fps=rate)
    with pytest.raises(ClipError, match=r"a\.npz has \[\[\[0.*frames per second, expected 30") as caught:
        ballroom.read_motion(tmp_path / "a.npz")
    assert "\n" not in str(caught.value)
