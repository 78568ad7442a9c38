"""Ballroom2: a raw folder in the layout of the real one, the waltzes of `ballroom` beside it, and the real one."""

import io
import json

import numpy as np
import pytest
import soundfile
from test_ballroom import BEAT, RATE, clicks, motion
from test_ballroom import RawFolder as OldFolder

from megadance_hf.data.prepared import DataError, iter_prepared, read_info, read_prepared
from megadance_hf.data.rhythm import bar_phase, beat_position
from megadance_hf.datasets_scripts import ballroom, ballroom2
from megadance_hf.datasets_scripts.ballroom2 import GENRES, list_raw, prepare
from megadance_hf.evaluation.synchrony import known_beats


class RawFolder:
    """A raw folder with the song `tango_1.ogg` of 20 s; `add` writes one sequence as the real set has it."""

    def __init__(self, root):
        self.root, self.records = root, []
        self.splits = {"train": [], "val": [], "val_new_song": []}
        for name in ("motions", "music", "splits"):
            (root / name).mkdir(parents=True)
        soundfile.write(root / "music" / "tango_1.ogg", clicks(20), RATE, format="OGG", subtype="VORBIS")

    def add(self, name, frames=60, split="train", start=None, arrays=None, **record):
        """A take, or with `start` (seconds) a sequence that is danced from there to the song, whose beats are `BEAT` apart."""
        np.savez(self.root / "motions" / f"{name}.npz", **(arrays or motion(frames)))
        known = {"id": name, "genre": "tango", "kind": "take", "paired": start is not None, "split": split}
        known |= {
            "source": "c3d take 9",
            "units": [["T-3-1", 0.0, 4], ["HOLD", 1.5, 2]],
            "beats_s": [],
            "downbeats_s": [],
        }
        if start is not None:
            beats = np.arange(np.ceil(start / BEAT) * BEAT, start + frames / 30, BEAT) - start
            known |= {"kind": "as_written", "source": "DANCE_T_1", "music": "tango_1.ogg", "music_start_s": start}
            known |= {"beats_s": np.round(beats, 4).tolist(), "downbeats_s": np.round(beats[2::4], 4).tolist()}
            known |= {"beats_per_bar": 4, "beat_period_s": BEAT, "first_beat_s": 0, "phase_confidence": "low"}
        self.records.append(known | record)
        self.splits.setdefault(split, []).append(name)

    def write(self):
        (self.root / "metadata.jsonl").write_text("".join(json.dumps(record) + "\n" for record in self.records))
        for split, names in self.splits.items():
            (self.root / "splits" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        return self.root


@pytest.fixture
def raw(tmp_path):
    return RawFolder(tmp_path / "raw")


@pytest.fixture
def quick_music(monkeypatch):
    """The real features take seconds; here only which music was read matters."""

    def add_excerpt(clip, song, start):
        clip.input_features, clip.audio = np.full((len(clip), 35), start, np.float32), song.read_bytes()
        return clip

    monkeypatch.setattr(ballroom2, "add_excerpt", add_excerpt)
    monkeypatch.setattr(ballroom, "music_features", lambda audio, frames: np.full((frames, 35), -1, np.float32))


def test_the_whole_way_with_real_features(raw, tmp_path):
    raw.add("tango_1a", frames=240, start=3.27)
    raw.add("take_9a", frames=90)
    report = prepare(raw.write(), tmp_path / "out", progress=False)
    assert report.made == ["tango_1a", "take_9a"] and report.left_out == {}
    assert read_info(tmp_path / "out")["genres"] == list(GENRES)
    paired, take = read_prepared(tmp_path / "out", audio=True)
    np.testing.assert_array_equal(paired.poses, motion(240)["smpl_poses"])
    assert (paired.kind, paired.song, paired.beat_source) == ("as_written", "DANCE_T_1", "known")
    assert paired.units == [{"name": "T-3-1", "start_s": 0.0, "beats": 4}, {"name": "HOLD", "start_s": 1.5, "beats": 2}]
    # rows and sound are those from 3.27 s on: the first click is at 3.5 s
    assert paired.input_features.shape == (240, 35)
    folded = paired.input_features[15:225, 32].reshape(-1, 15).mean(0)
    assert abs(folded.argmax() - 0.23 * 30) <= 1.5 and folded.max() > 3 * np.median(folded)
    sound, rate = soundfile.read(io.BytesIO(paired.audio))
    assert rate == RATE and len(sound) == 8 * RATE
    loudest = np.abs(sound[: RATE // 2]).argmax() / RATE
    assert loudest == pytest.approx(0.23, abs=0.02)
    assert (take.kind, take.song, take.paired, take.beat_source) == ("take", None, False, None)


def test_beats_are_the_source_s_and_bars_may_begin_later(raw, tmp_path, quick_music):
    raw.add("tango_1a", frames=300, start=4.3)
    raw.add("take_9a", frames=90, beats_s=[0.1643, 0.648, 1.1317, 1.6153])
    prepare(raw.write(), tmp_path / "out", progress=False)
    clip, take = read_prepared(tmp_path / "out")
    beats, downbeats = raw.records[0]["beats_s"], raw.records[0]["downbeats_s"]
    assert beats[0] == 0.2 and downbeats[0] == 1.2
    np.testing.assert_allclose(known_beats(clip) / 30, beats, atol=1e-4)
    frames = np.round(np.array(downbeats) * 30).astype(int)
    np.testing.assert_allclose(bar_phase(clip)[frames], 0, atol=1e-4)
    assert beat_position(clip)[0] == pytest.approx(-2.4, abs=1e-3)
    assert (clip.bar_confidence, clip.phase_confidence) == ("low", None)  # the beats are sure
    assert take.beat_period_s == pytest.approx(0.48367, abs=1e-5) and take.first_beat_s == pytest.approx(
        0.1643, abs=1e-4
    )
    assert bar_phase(take) is None and not take.first_beat_is_downbeat


def test_splits_genres_and_waltzes_of_the_old_set(raw, tmp_path, quick_music):
    raw.add("tango_1_r1", start=0.0, kind="rearranged")
    raw.add("take_1", genre="unknown")
    raw.add("salsa_60_12", split="val", genre="salsa", source="CMU 60_12")
    raw.add("tango_1a", split="val_new_song", start=2.0)
    old = OldFolder(tmp_path / "old")
    old.add("waltz_21", paired=True)
    old.add("waltz_8")
    old.add("waltz_2", split="test", paired=True)
    old.add("rumba_3", paired=True)
    report = prepare(raw.write(), tmp_path / "out", waltz=old.write(), progress=False)
    assert report.left_out == {}
    clips = {clip.id: clip for clip in read_prepared(tmp_path / "out")}
    assert {name: (clip.split, clip.genre) for name, clip in clips.items()} == {
        "tango_1_r1": ("train", "tango"),
        "take_1": ("train", None),
        "waltz_8": ("train", "waltz"),
        "salsa_60_12": ("validation", "salsa"),
        "waltz_21": ("validation", "waltz"),
        "waltz_2": ("test", "waltz"),
        "tango_1a": ("new_song", "tango"),
    }
    assert clips["tango_1_r1"].kind == "rearranged" and clips["waltz_21"].kind is None
    assert clips["tango_1a"].input_features[0, 0] == 2 and clips["waltz_21"].input_features[0, 0] == -1
    assert clips["salsa_60_12"].source == "CMU Graphics Lab Motion Capture Database, CMU 60_12"
    assert "resold" in clips["salsa_60_12"].licence and "research" in clips["tango_1a"].licence
    assert "state no licence" in (tmp_path / "out" / "README.md").read_text()
    assert [clip.id for clip in iter_prepared(tmp_path / "out", "new_song")] == ["tango_1a"]


def test_a_folder_without_waltz_is_no_old_set(raw, tmp_path):
    raw.add("tango_1_r1", start=0.0)
    old = OldFolder(tmp_path / "old")
    old.add("rumba_3")
    with pytest.raises(DataError, match="has no waltz: give the raw folder of ballroom"):
        list_raw(raw.write(), old.write())


def test_faults_are_told_by_name_and_the_rest_goes_on(raw, tmp_path):
    raw.add("take_1")
    raw.add("tango_2", start=1.0, music="../secret.ogg")
    raw.add("tango_3", start=1.0, music="tango_9.ogg")
    raw.add("tango_4", start=19.0)
    raw.add("take_5", beats_s=[0.1, 0.6, 1.3, 1.6])
    raw.add("take_6", units=[["T-1", "soon", 4]])
    raw.add("take_7", genre="polka")
    raw.write()
    with (raw.root / "splits" / "val.txt").open("a") as file:
        file.write("take_99\n")
    report = prepare(raw.root, tmp_path / "out", progress=False)
    assert report.made == ["take_1"]
    expected = {
        "tango_2": "music='../secret.ogg' in metadata.jsonl is no name of a file",
        "tango_3": "music/tango_9.ogg is missing",
        "tango_4": "the music ends 30 frames before the motion of 60 frames",
        "take_5": "beats_s in metadata.jsonl are not evenly spaced",
        "take_6": "must be a list of {'name', 'start_s', 'beats'}",
        "take_7": "genre 'polka' is none of waltz, tango",
        "take_99": "metadata.jsonl has no line for it",
    }
    assert set(report.left_out) == set(expected)
    for name, words in expected.items():
        assert words in report.left_out[name]


# --- the real folder -----------------------------------------------------------------------------------------------


def test_the_real_folder(ballroom2_dir, tmp_path, quick_music):
    raws = list_raw(ballroom2_dir)
    counts = {split: sum(raw.split == split for raw in raws) for split in ("train", "validation", "new_song", "test")}
    assert counts == {"train": 120, "validation": 13, "new_song": 5, "test": 0}
    report = prepare(ballroom2_dir, tmp_path / "out", progress=False)
    assert report.left_out == {}
    clips = {clip.id: clip for clip in iter_prepared(tmp_path / "out")}
    for raw in raws:
        clip, beats = clips[raw.id], [beat for beat in raw.record["beats_s"] if beat < raw.record["frames"] / 30 - 1e-3]
        assert len(clip) == raw.record["frames"] and len(clip.units or []) == len(raw.record["units"])
        if beats:
            np.testing.assert_allclose(known_beats(clip)[: len(beats)] / 30, beats, atol=2e-4)
        if raw.record["downbeats_s"]:
            assert clip.first_beat_s == pytest.approx(raw.record["downbeats_s"][0], abs=2e-4)
