"""FineDance: raw folders in exactly the users' layouts, made from real dances; poses, genres, splits and every fault."""

import json
import re

import numpy as np
import pytest
import torch
from raw_folders import (
    INDEX,
    MIDDLE,
    finedance_motion,
    finger_poses,
    make_finedance,
    make_finedance_processed,
    write_pickle,
)
from raw_folders import real_clips as read_real_clips

from megadance_hf.data import songs
from megadance_hf.data.clip import ClipError
from megadance_hf.data.prepared import DataError, read_info, read_prepared
from megadance_hf.data.songs import music_features
from megadance_hf.datasets_scripts.finedance import (
    ALIASES,
    GENRES,
    SPLITS,
    list_raw,
    prepare,
    read_genre,
    released_order,
)
from megadance_hf.modeling.audio_megadance import load_audio
from megadance_hf.modeling.kinematics_megadance import axis_angle_to_matrix
from megadance_hf.motion.finedance import LAYOUTS, to_smpl
from megadance_hf.motion.layouts import SMPLX_PELVIS
from megadance_hf.motion.up_axis import LayoutError


@pytest.fixture(scope="module")
def clips(ballroom_dir):
    return read_real_clips(ballroom_dir, 4, seconds=3)


@pytest.fixture
def quick_features(monkeypatch):
    """The real features take seconds; here only how long the music lasts matters."""

    def features(song):
        waveform, rate = load_audio(song, sampling_rate=None)
        return np.full((round(len(waveform) / rate * 30), 35), 0.5, np.float32)

    monkeypatch.setattr(songs, "song_features", features)


def matrices(poses):
    return axis_angle_to_matrix(torch.from_numpy(np.asarray(poses, np.float32)).reshape(len(poses), -1, 3)).numpy()


def assert_same_turns(poses, expected):
    """Every rotation within 1e-4 rad, as matrices."""
    np.testing.assert_allclose(matrices(poses), matrices(expected), atol=1e-4)


def with_hands(clip, joints):
    poses = clip.poses.reshape(len(clip), 24, 3).copy()
    poses[:, 22:] = finger_poses(len(clip))[:, [joint - 22 for joint in joints]]
    return poses.reshape(len(clip), 72)


# --- the way as a whole ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_whole_way_with_real_features(clips, tmp_path):
    raw = make_finedance(tmp_path / "raw", dict(zip(["001", "063"], clips[:2], strict=True)))
    report = prepare(raw, tmp_path / "out", progress=False)
    assert report.made == ["001", "063"] and report.left_out == {}
    assert read_info(tmp_path / "out")["genres"] == list(GENRES)
    train, test = read_prepared(tmp_path / "out", audio=True)
    for clip, real, genre in ((train, clips[0], "Breaking"), (test, clips[1], "Jazz")):
        assert (clip.genre, clip.split, len(clip)) == (genre, {"001": "train", "063": "test"}[clip.id], 90)
        assert_same_turns(clip.poses, with_hands(real, MIDDLE))
        np.testing.assert_allclose(clip.translation, real.translation, atol=1e-6)
        expected = music_features(raw / "music_wav" / f"{clip.id}.wav", 90)
        np.testing.assert_array_equal(clip.input_features, expected)
        # the row has the piece that is danced to, as Ogg Vorbis
        waveform, rate = load_audio(clip.audio, sampling_rate=None)
        assert clip.audio[:4] == b"OggS" and rate == real.rate and abs(len(waveform) - len(real.waveform)) < rate / 100
        size = min(len(waveform), len(real.waveform))
        assert np.corrcoef(waveform[:size], real.waveform[:size])[0, 1] > 0.9
        assert len(clip.audio) < (raw / "music_wav" / f"{clip.id}.wav").stat().st_size / 5


def test_a_second_run_does_nothing_and_a_changed_file_is_made_again(clips, tmp_path, quick_features):
    raw = make_finedance(tmp_path / "raw", dict(zip(["001", "002", "063"], clips, strict=False)))
    prepare(raw, tmp_path / "out", progress=False)
    report = prepare(raw, tmp_path / "out", progress=False)
    assert report.made == [] and report.kept == ["001", "002", "063"]
    np.save(raw / "motion" / "002.npy", finedance_motion(clips[3].cut(60)))
    report = prepare(raw, tmp_path / "out", progress=False)
    assert report.made == ["002"] and report.kept == ["001", "063"]
    assert {clip.id: len(clip) for clip in read_prepared(tmp_path / "out")} == {"001": 90, "002": 60, "063": 90}
    report = prepare(raw, tmp_path / "out", hands="none", progress=False)
    assert report.made == ["001", "002", "063"] and not read_prepared(tmp_path / "out")[0].poses[:, 66:].any()


@pytest.mark.parametrize(("motion", "sound"), [(90, 80), (70, 90)])
def test_motion_and_music_are_cut_to_the_shorter(clips, tmp_path, quick_features, motion, sound):
    raw = make_finedance(tmp_path / "raw", {"001": clips[0].cut(motion, sound)})
    prepare(raw, tmp_path / "out", progress=False)
    (clip,) = read_prepared(tmp_path / "out", audio=True)
    frames = min(motion, sound)
    assert len(clip) == len(clip.translation) == len(clip.input_features) == frames
    assert_same_turns(clip.poses, with_hands(clips[0], MIDDLE)[:frames])
    waveform, rate = load_audio(clip.audio, sampling_rate=None)
    assert len(waveform) / rate == pytest.approx(frames / 30, abs=0.01)


# --- skeletons -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", LAYOUTS)
@pytest.mark.parametrize("hands", ["middle", "index", "none"])
def test_every_layout_gives_the_dance(clips, columns, hands):
    joints = {"middle": MIDDLE, "index": INDEX}.get(hands)
    poses, translation = to_smpl(finedance_motion(clips[0], columns), "001.npy", hands)
    expected = clips[0].poses if joints is None or columns == 139 else with_hands(clips[0], joints)
    assert poses.shape == (90, 72) and poses.dtype == translation.dtype == np.float32
    assert_same_turns(poses, expected)
    np.testing.assert_allclose(translation + SMPLX_PELVIS, clips[0].translation, atol=1e-6)


def test_a_rotation_is_read_from_rows():
    """A quarter turn about Y: x axis to -z. Its first row is (0, 0, 1), its first column (0, 0, -1)."""
    motion = np.tile([1.0, 0, 0, 0, 1, 0], (20, 52))
    motion[:, :6] = [0, 0, 1, 0, 1, 0]
    poses, _ = to_smpl(np.concatenate([np.zeros((20, 3)), motion], axis=1), "x")
    np.testing.assert_allclose(poses[:, :3], np.tile([0, np.pi / 2, 0], (20, 1)), atol=1e-6)
    assert np.abs(poses[:, 3:]).max() < 1e-6


def test_six_numbers_that_are_no_rotation_are_refused(clips):
    motion = finedance_motion(clips[0])
    motion[7, 3 + 6 * 4 : 3 + 6 * 5] = [1, 0, 0, 0.9, 0.1, 0]
    with pytest.raises(LayoutError, match="x.npy: the six numbers of joint 4 in frame 7 are no rotation"):
        to_smpl(motion, "x.npy")


# --- genres and splits -----------------------------------------------------------------------------------------------

SPELLINGS = {genre: genre for genre in GENRES} | {"jazz": "Jazz", "Tai": "Dai", "Uighur": "Wei", "Hmong": "Miao"}
SPELLINGS |= {"hip-hop": "Hiphop", "Dun Huang": "DunHuang", " hmong ": "Miao"}


@pytest.mark.parametrize(("spelling", "genre"), SPELLINGS.items())
def test_spellings_of_genres(tmp_path, spelling, genre):
    (tmp_path / "001.json").write_text(json.dumps({"name": "x", "style1": "Folk", "style2": spelling}))
    assert read_genre(tmp_path / "001.json") == genre


def test_aliases_are_genres():
    assert set(ALIASES.values()) <= set(GENRES) and len(GENRES) == 16


def touch_numbers(raw, numbers):
    (raw / "motion").mkdir(parents=True)
    for number in numbers:
        (raw / "motion" / f"{number:03d}.npy").touch()
    return raw


@pytest.mark.parametrize(
    ("split", "sizes"),
    [
        # 120 is on the published test list and on the list of ignored numbers; the paper tests on 20
        ("genre", {"train": 183, "validation": 0, "test": 20, "ignored": 8}),
        ("dancer", {"train": 175, "validation": 12, "test": 18, "ignored": 6}),
    ],
)
def test_the_published_splits(tmp_path, split, sizes):
    clips, ignored = list_raw(touch_numbers(tmp_path / "raw", range(1, 212)), split)
    found = {name: [int(clip.id) for clip in clips if clip.split == name] for name in ("train", "validation", "test")}
    assert {name: len(numbers) for name, numbers in found.items()} | {"ignored": len(ignored)} == sizes
    assert set(found["test"]) == set(SPLITS[split]["test"])
    assert set(found["validation"]) == set(SPLITS[split]["validation"])
    assert set(map(int, ignored)) == set(SPLITS[split]["ignored"]) - set(SPLITS[split]["test"])
    assert set(ignored.values()) == {f"by the {split} split"}


def test_validation_clips_come_out_of_train_only(tmp_path):
    raw = touch_numbers(tmp_path / "raw", range(1, 212))
    without, _ = list_raw(raw)
    with_some, _ = list_raw(raw, validation=10)
    moved = [a.id for a, b in zip(without, with_some, strict=True) if a.split != b.split]
    assert len(moved) == 10 and all(clip.split == "validation" for clip in with_some if clip.id in moved)
    assert np.diff([int(name) for name in moved]).min() > 10, "spread over the whole set"
    for count in (183, 500, -1):
        with pytest.raises(DataError, match=f"validation={count} of 183 train clips"):
            list_raw(raw, validation=count)
    with pytest.raises(DataError, match="validation list of its own"):
        list_raw(raw, "dancer", validation=3)


def test_clips_that_are_not_used_are_told(clips, tmp_path, quick_features):
    raw = make_finedance(tmp_path / "raw", dict(zip(["014", "118", "202"], clips, strict=False)))
    report = prepare(raw, tmp_path / "out", progress=False)
    assert report.made == ["014"] and report.left_out == {}
    assert report.ignored == read_info(tmp_path / "out")["ignored"]
    assert {name for name, reason in report.ignored.items() if reason == "by the genre split"} == {"118", "202"}
    assert "2 not used, by the genre split: 118, 202" in str(report)
    assert "20 not used, on the published test list, but not in motion/: 012, 036, " in str(report)
    # the other split ignores both as well, for a reason of its own
    report = prepare(raw, tmp_path / "out", split="dancer", progress=False)
    assert report.kept == ["014"] and report.ignored["118"] == "by the dancer split" and "063" not in report.ignored


@pytest.mark.parametrize(
    ("options", "message"),
    [({"split": "music"}, "split='music' is not known"), ({"hands": "thumb"}, "hands='thumb' is not known")],
)
def test_unknown_options(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        list_raw(touch_numbers(tmp_path / "raw", [1]), **options)


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no folder motion/"):
        list_raw(tmp_path)


# --- music without sound ---------------------------------------------------------------------------------------------


def downloaded_order(features):
    """As FineDance stores them: envelope, 20 MFCC, 12 chroma, peak, beat."""
    return features[:, [32, *range(32), 34, 33]]


@pytest.fixture(scope="module")
def real_features(clips, tmp_path_factory):
    raw = make_finedance(tmp_path_factory.mktemp("features"), {"001": clips[0]})
    return music_features(raw / "music_wav" / "001.wav", 90)


def test_downloaded_features_take_the_place_of_missing_sound(clips, real_features, tmp_path):
    raw = make_finedance(tmp_path / "raw", {"001": clips[0]})
    (raw / "music_wav" / "001.wav").unlink()
    (raw / "music_npy").mkdir()
    np.save(raw / "music_npy" / "001.npy", downloaded_order(real_features)[:85])
    assert prepare(raw, tmp_path / "out", progress=False).made == ["001"]
    (clip,) = read_prepared(tmp_path / "out", audio=True)
    assert clip.audio is None and "music features as downloaded (music_npy), no sound" in clip.source
    np.testing.assert_array_equal(clip.input_features, real_features[:85])
    assert len(clip.poses) == 85


def test_the_order_of_columns_is_found_out(real_features):
    np.testing.assert_array_equal(released_order(downloaded_order(real_features), "x"), real_features)
    np.testing.assert_array_equal(released_order(real_features, "x"), real_features)
    with pytest.raises(ClipError, match="x: its columns are in no known order"):
        released_order(real_features[:, ::-1], "x")


# --- the authors' preprocessed layout --------------------------------------------------------------------------------


def test_the_preprocessed_layout(clips, real_features, tmp_path):
    names = ["001", "017", "150", "201"]
    features = dict.fromkeys(names, real_features) | {"017": real_features[:70]}
    raw = make_finedance_processed(tmp_path / "raw", dict(zip(names, clips, strict=True)), features)
    (raw / "motion" / "unlisted.pkl").touch()
    report = prepare(raw, tmp_path / "out", validation=1, progress=False)
    assert report.left_out == {} and report.ignored == {"unlisted": "in neither train.txt nor test.txt"}
    found = {clip.id: clip for clip in read_prepared(tmp_path / "out", audio=True)}
    assert {name: clip.split for name, clip in found.items()} == {
        "001": "train",
        "017": "validation",
        "150": "train",
        "201": "test",
    }
    for name, real in zip(names, clips, strict=True):
        frames = min(90, len(features[name]))
        np.testing.assert_array_equal(found[name].poses, real.poses[:frames])
        np.testing.assert_array_equal(found[name].translation, real.translation[:frames])
        np.testing.assert_array_equal(found[name].input_features, features[name])
        assert found[name].audio is None
    assert [found[name].genre for name in names] == ["Breaking", "Jazz", "Dai", "Wei"]


def test_the_preprocessed_layout_needs_its_lists(clips, real_features, tmp_path):
    raw = make_finedance_processed(
        tmp_path / "raw", {"001": clips[0], "002": clips[1]}, dict.fromkeys(["001", "002"], real_features)
    )
    (raw / "test.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no test.txt; it names the clips of motion/\*.pkl"):
        list_raw(raw)


# --- the authors' download of 2026 -----------------------------------------------------------------------------------

MARKS = {"001": "40\n7\n40\n", "017": "", "150": "3\n200\n"}


@pytest.fixture
def download(clips, real_features, tmp_path):
    names = ["001", "017", "150", "201"]
    features = dict.fromkeys(names, real_features) | {"017": real_features[:70]}
    muq = {"001": 81, "017": 90, "150": 200, "201": 90}
    return make_finedance_processed(tmp_path / "raw", dict(zip(names, clips, strict=True)), features, muq, MARKS)


def test_the_download_of_2026(clips, real_features, download, tmp_path):
    report = prepare(download, tmp_path / "out", layout="authors", progress=False)
    assert report.left_out == {} and report.ignored == {}
    found = {clip.id: clip for clip in read_prepared(tmp_path / "out", audio=True)}
    assert {name: clip.split for name, clip in found.items()} == {
        **{"001": "train", "017": "train", "150": "train", "201": "test"},
    }
    # a clip ends with its motion, or at the last whole code of its music
    lengths = {"001": 88, "017": 64, "150": 88, "201": 88}
    assert {name: len(clip) for name, clip in found.items()} == lengths and len(real_features) == 90
    assert {name: clip.muq_frames for name, clip in found.items()} == {"001": 81, "017": 90, "150": 200, "201": 90}
    assert [found[name].marked_frames for name in lengths] == [[7, 40], [], [3, 200], None]
    for name, real in zip(lengths, clips, strict=True):
        np.testing.assert_array_equal(found[name].poses, real.poses[: lengths[name]])
        assert found[name].audio is None
    assert "2 of 4 clips have frames that the source marks as bad" in str(report)
    assert "001: 2 marked frames\n" in str(report) and "150: 1 marked frames, 1 beyond its end" in str(report)


def test_a_changed_mark_makes_its_clip_again(download, tmp_path):
    prepare(download, tmp_path / "out", layout="authors", progress=False)
    assert prepare(download, tmp_path / "out", layout="authors", progress=False).made == []
    (download / "FineDance" / "anomaly" / "201.txt").write_text("5")
    assert prepare(download, tmp_path / "out", layout="authors", progress=False).made == ["201"]
    assert read_prepared(tmp_path / "out", "test")[0].marked_frames == [5]


@pytest.mark.parametrize("lists", ["beside", "inside"])
@pytest.mark.parametrize("given", ["the folder that holds it", "FineDance"])
@pytest.mark.parametrize("layout", ["authors", "auto"])
def test_where_the_download_may_lie(download, lists, given, layout):
    inner = download / "FineDance"
    if lists == "inside":
        for name in ("train.txt", "test.txt"):
            (download / name).rename(inner / name)
    listed, _ = list_raw(inner if given == "FineDance" else download, layout=layout)
    assert [(clip.id, clip.split) for clip in listed] == [
        *((name, "train") for name in ("001", "017", "150")),
        ("201", "test"),
    ]
    assert {file.parent.parent for clip in listed for file in clip.files} == {inner}
    assert all(clip.record["whole_codes"] == (layout == "authors") for clip in listed)


def test_sound_of_the_download_is_the_song(clips, real_features, download, tmp_path):
    (download / "FineDance" / "music").mkdir()
    make_finedance(tmp_path / "other", {"001": clips[0]})
    (tmp_path / "other" / "music_wav" / "001.wav").rename(download / "FineDance" / "music" / "001.wav")
    prepare(download, tmp_path / "out", layout="authors", progress=False)
    found = {clip.id: clip for clip in read_prepared(tmp_path / "out", audio=True)}
    waveform, rate = load_audio(found["001"].audio, sampling_rate=None)
    assert rate == clips[0].rate and len(waveform) / rate == pytest.approx(88 / 30, abs=0.01)
    assert found["017"].audio is None
    assert "music features as the authors computed them, sound from music/" in found["001"].source
    np.testing.assert_array_equal(found["001"].input_features, real_features[:88])


@pytest.mark.parametrize("missing", ["librosa", "muq", "label", "anomaly", "train.txt", "test.txt"])
def test_what_the_download_lacks_is_named(download, missing):
    place = download if missing.endswith(".txt") else download / "FineDance"
    (place / missing).rename(tmp := download / "elsewhere")
    shown = missing if missing.endswith(".txt") else f"{missing}/"
    with pytest.raises(
        FileNotFoundError, match=f"layout='authors': .*FineDance' has no {shown}; give the folder"
    ) as caught:
        list_raw(download, layout="authors")
    assert "\n" not in str(caught.value) and tmp.exists()
    if not missing.endswith(".txt"):
        list_raw(download)  # what is there tells the layout


def test_a_layout_that_does_not_fit(clips, real_features, download, tmp_path):
    raw = make_finedance(tmp_path / "as downloaded", {"001": clips[0]})
    with pytest.raises(
        DataError, match="layout='authors': .* has no librosa/, muq/, label/, anomaly/, train.txt, test.txt; "
    ):
        list_raw(raw, layout="authors")
    assert list_raw(raw, layout="downloaded")[0][0].record["layout"] == "raw"
    with pytest.raises(
        DataError, match=r"layout='downloaded': .* has no motion/\*.npy; leave the layout out, or give auto"
    ):
        list_raw(download, layout="downloaded")
    with pytest.raises(DataError, match="layout='2026' is not known: give auto, downloaded or authors"):
        list_raw(download, layout="2026")


@pytest.mark.parametrize("text", ["12\n1.5\n", "-1", "seven", "1e3", "9" * 20, "3 4", "٣"])
def test_marks_that_are_no_frame_numbers(download, tmp_path, text):
    (download / "FineDance" / "anomaly" / "017.txt").write_text(text, encoding="utf-8")
    report = prepare(download, tmp_path / "out", layout="authors", progress=False)
    assert list(report.left_out) == ["017"]
    assert re.fullmatch(
        r"anomaly/017.txt: line \d is '.*', not the number of a frame \(0, 1, ...\)", report.left_out["017"]
    )


def test_a_file_of_the_download_that_is_missing(download, tmp_path):
    (download / "FineDance" / "muq" / "017.pkl").unlink()
    report = prepare(download, tmp_path / "out", layout="authors", progress=False)
    assert report.left_out == {"017": "muq/017.pkl is missing"}
    write_pickle(download / "FineDance" / "muq" / "017.pkl", {"music": np.float32(3)})
    report = prepare(download, tmp_path / "out", layout="authors", progress=False)
    assert report.left_out == {"017": "muq/017.pkl has a single number, expected (rows, columns)"}


# --- faults --------------------------------------------------------------------------------------------------------


def spoil(raw, number, fault):
    """One fault of each kind, as files have them."""
    motion, label, song = (
        raw / part for part in (f"motion/{number}.npy", f"label_json/{number}.json", f"music_wav/{number}.wav")
    )
    array = np.load(motion)
    if fault == "jump":
        array[40:, 0] += 2.0
    elif fault == "NaN":
        array[33, 100] = np.nan
    elif fault == "short":
        array = array[:15]
    elif fault == "wrong shape":
        array = array[:, :300]
    elif fault == "flat":
        array = array.reshape(-1)
    elif fault == "objects":
        array = np.array([{"an": "object"}] * 90)
    np.save(motion, array)
    if fault == "cut off":
        motion.write_bytes(motion.read_bytes()[:5000])
    elif fault == "no label":
        label.unlink()
    elif fault == "unknown genre":
        label.write_text(json.dumps({"style1": "Folk", "style2": "Polka"}))
    elif fault == "broken label":
        label.write_text('{"style2": ')
    elif fault == "no music":
        song.unlink()
    elif fault == "broken music":
        song.write_bytes(b"no music at all")


FAULTS = {
    "jump": "between frames 39 and 40",
    "NaN": "NaN or infinite numbers, first in frame 33",
    "short": "only 15 frames",
    "wrong shape": "has shape (90, 300), expected (frames, 315, 319, 139, 168)",
    "flat": "has shape (28350,)",
    "objects": "cannot be read",
    "cut off": "cannot be read",
    "no label": "label_json/008.json is missing",
    "unknown genre": "no genre of FineDance: genre='Polka'",
    "broken label": "010.json is no label with style2",
    "no music": "music_wav/011.wav is missing",
    "broken music": "is not audio",
}


def test_faults_are_told_by_name_and_the_rest_goes_on(clips, tmp_path, quick_features):
    numbers = {f"{index:03d}": fault for index, fault in enumerate(FAULTS, start=1)}
    raw = make_finedance(tmp_path / "raw", dict.fromkeys([*numbers, "099", "notes"], clips[0]))
    for number, fault in numbers.items():
        spoil(raw, number, fault)
    report = prepare(raw, tmp_path / "out", progress=False)
    assert report.made == ["099"] and set(report.left_out) == {*numbers, "notes"}
    for number, fault in numbers.items():
        assert FAULTS[fault] in report.left_out[number], fault
    assert report.left_out["notes"] == "its name is no number of FineDance"
    assert "left out 001: the root jumps" in str(report)
    assert "- 001: the root jumps" in (tmp_path / "out" / "README.md").read_text()
    # a jumping clip can be kept, and is told of; the others stay out
    report = prepare(raw, tmp_path / "out", jumps="keep", progress=False)
    assert report.made == ["001"] and report.kept == ["099"] and "001: 1 jumps, 1 discontinuities" in str(report)
    noise = read_info(tmp_path / "out")["noise"]
    assert noise["001"]["jumps"] == 1 and noise["001"]["root_frame"] == 39 and noise["099"]["jumps"] == 0
    # and left out again
    report = prepare(raw, tmp_path / "out", progress=False)
    assert report.kept == ["099"] and "the root jumps" in report.left_out["001"]


class Evil:
    """Would write a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_an_evil_pickle_is_not_run(clips, real_features, tmp_path):
    names = ["001", "002", "003"]
    raw = make_finedance_processed(
        tmp_path / "raw", dict(zip(names, clips, strict=False)), dict.fromkeys(names, real_features)
    )
    write_pickle(raw / "motion" / "002.pkl", {"smpl_poses": Evil(tmp_path / "ran"), "smpl_trans": 0})
    (raw / "librosa" / "003.pkl").write_bytes((raw / "librosa" / "003.pkl").read_bytes()[:-200])
    report = prepare(raw, tmp_path / "out", progress=False)
    assert report.made == ["001"] and not (tmp_path / "ran").exists()
    assert "io.open; only numpy arrays" in report.left_out["002"] and "cut off" in report.left_out["003"]
