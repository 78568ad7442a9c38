"""AIST++: raw folders in exactly the users' layout, made from real dances; rates, scaling, splits, songs, every fault."""

import shutil

import numpy as np
import pytest
import soundfile
from raw_folders import AISTPP_NAMES, HANGING, SCALING, make_aistpp, write_pickle
from raw_folders import real_clips as read_real_clips

from megadance_hf.data import songs
from megadance_hf.data.clip import Clip, ClipError, put_on_the_floor
from megadance_hf.data.prepared import MissingDataError, read_prepared
from megadance_hf.data.songs import music_features
from megadance_hf.datasets_scripts.aistpp import GENRE_OF_CODE, GENRES, list_raw, prepare, read_motion
from megadance_hf.modeling.audio_megadance import load_audio
from megadance_hf.motion.layouts import SMPL_PELVIS
from megadance_hf.motion.motion import Motion
from megadance_hf.motion.safe_files import load_pickle


@pytest.fixture(scope="module")
def clips(ballroom_dir):
    real = read_real_clips(ballroom_dir, 5, seconds=3)
    # the second sequence dances to the song of the first
    return dict(zip(AISTPP_NAMES, [real[0], *real], strict=True))


@pytest.fixture
def counted(monkeypatch):
    """Quick features in place of the real ones, and which songs they were asked for."""
    asked = []

    def features(song):
        asked.append(song.name)
        waveform, rate = load_audio(song, sampling_rate=None)
        return np.full((round(len(waveform) / rate * 30), 35), 0.5, np.float32)

    monkeypatch.setattr(songs, "song_features", features)
    return asked


def test_the_whole_way(clips, tmp_path, counted):
    raw = make_aistpp(tmp_path / "raw", clips)
    report = prepare(raw, tmp_path / "out", progress=False)
    assert report.made == list(AISTPP_NAMES) and report.left_out == {} and report.ignored == {}
    found = {clip.id: clip for clip in read_prepared(tmp_path / "out", audio=True)}
    genres = ["Break", "Break", "House", "Pop", "LAHiphop", "BalletJazz"]
    splits = ["train"] * 3 + ["validation"] + ["test"] * 2
    for name, genre, split in zip(AISTPP_NAMES, genres, splits, strict=True):
        clip = found[name]
        assert (clip.genre, clip.split, clip.fps, len(clip)) == (genre, split, 30, 90)
        # every other frame of 60 a second, in metres
        np.testing.assert_allclose(clip.poses, clips[name].poses, atol=1e-5)
        moved = clip.translation - clips[name].translation
        np.testing.assert_allclose(moved[:, [0, 2]], 0, atol=1e-5)
        np.testing.assert_allclose(moved[:, 1], moved[0, 1], atol=1e-5)
        assert abs(moved[0, 1]) < 0.03, "on the floor, as it was"
        assert "; put on the floor: lowered by 0." in clip.source
        assert "CC BY 4.0" in clip.licence and clip.audio[:4] == b"OggS"
    assert sorted(counted) == ["mBR0.wav", "mHO3.wav", "mJB2.wav", "mLH4.wav", "mPO1.wav"], "each song once"


def test_real_features_are_those_of_the_song(clips, tmp_path):
    name = AISTPP_NAMES[0]
    raw = make_aistpp(tmp_path / "raw", {name: clips[name].cut(80)}, splits={"train": (name,)})
    prepare(raw, tmp_path / "out", progress=False)
    (clip,) = read_prepared(tmp_path / "out")
    np.testing.assert_array_equal(clip.input_features, music_features(raw / "music" / "mBR0.wav", 80))


def test_the_written_pickles_are_like_the_real_ones(clips, tmp_path):
    raw = make_aistpp(tmp_path / "raw", clips)
    content = load_pickle(raw / "motions" / f"{AISTPP_NAMES[0]}.pkl")
    assert content["smpl_poses"].shape == (180, 72) and content["smpl_trans"].shape == (180, 3)
    assert content["smpl_scaling"].shape == (1,)
    pelvis = content["smpl_trans"][::2] / SCALING + SMPL_PELVIS - [0, HANGING, 0]
    np.testing.assert_allclose(pelvis, clips[AISTPP_NAMES[0]].translation, atol=1e-5)


def test_motion_longer_than_its_song_is_cut(clips, tmp_path, counted):
    name = AISTPP_NAMES[2]
    raw = make_aistpp(tmp_path / "raw", {name: clips[name].cut(None, 48)}, splits={"test": (name,)})
    prepare(raw, tmp_path / "out", progress=False)
    (clip,) = read_prepared(tmp_path / "out", audio=True)
    assert len(clip) == len(clip.input_features) == 48
    assert clip.source.endswith("; motion cut from 90 to 48 frames, where the music ends")
    np.testing.assert_allclose(clip.poses, clips[name].poses[:48], atol=1e-5)


def test_a_song_longer_than_the_motion_is_not_kept_whole(clips, tmp_path, counted):
    name = AISTPP_NAMES[2]
    raw = make_aistpp(tmp_path / "raw", {name: clips[name].cut(30)}, splits={"test": (name,)})
    prepare(raw, tmp_path / "out", progress=False)
    (clip,) = read_prepared(tmp_path / "out", audio=True)
    waveform, rate = load_audio(clip.audio, sampling_rate=None)
    assert len(waveform) / rate == pytest.approx(1.0, abs=0.01)


def test_ignored_and_unlisted_sequences(clips, tmp_path, counted):
    listed = {"train": (*AISTPP_NAMES[:2], "gBR_sBM_cAll_d04_mBR0_ch99"), "test": AISTPP_NAMES[4:5]}
    raw = make_aistpp(tmp_path / "raw", clips, splits=listed, ignored=(AISTPP_NAMES[1], AISTPP_NAMES[2]))
    report = prepare(raw, tmp_path / "out", progress=False)
    assert report.made == [AISTPP_NAMES[0], AISTPP_NAMES[4]]
    assert report.ignored == {
        AISTPP_NAMES[1]: "in ignore_list.txt",
        AISTPP_NAMES[2]: "in ignore_list.txt",
        AISTPP_NAMES[3]: "in no cross-modal split",
        AISTPP_NAMES[5]: "in no cross-modal split",
    }
    assert report.left_out == {"gBR_sBM_cAll_d04_mBR0_ch99": "motions/gBR_sBM_cAll_d04_mBR0_ch99.pkl is missing"}
    assert "2 not used, in ignore_list.txt: gBR_sFM" in str(report)


@pytest.mark.parametrize("place", ["wav", "all_musics", "elsewhere"])
def test_songs_are_found_where_they_are(clips, tmp_path, counted, place):
    name = AISTPP_NAMES[0]
    raw = make_aistpp(tmp_path / "raw", {name: clips[name]}, splits={"train": (name,)})
    shutil.move(raw / "music", raw / place)
    soundfile.write(raw / place / "mBR0.mp3", clips[name].waveform, clips[name].rate)
    (raw / place / "mBR0.wav").unlink()
    if place == "elsewhere":
        with pytest.raises(MissingDataError, match="has no folder music/; name the folder.*--music"):
            prepare(raw, tmp_path / "out", progress=False)
    report = prepare(raw, tmp_path / "out", music=raw / place if place == "elsewhere" else None, progress=False)
    assert report.made == [name] and counted == ["mBR0.mp3"]


def test_genres_are_in_the_order_of_their_codes():
    assert list(GENRE_OF_CODE) == sorted(GENRE_OF_CODE) and tuple(GENRE_OF_CODE.values()) == GENRES
    assert (
        GENRE_OF_CODE["LH"] == "LAHiphop" and GENRE_OF_CODE["MH"] == "MiddleHiphop" and GENRE_OF_CODE["WA"] == "Waack"
    )


def test_another_folder_is_refused(clips, tmp_path):
    raw = make_aistpp(tmp_path / "raw", {})
    (raw / "splits" / "crossmodal_val.txt").unlink()
    with pytest.raises(MissingDataError, match="has no splits/crossmodal_val.txt"):
        list_raw(raw)


def test_without_an_ignore_list_nothing_is_ignored_and_that_is_said(clips, tmp_path, counted):
    name = AISTPP_NAMES[0]
    raw = make_aistpp(tmp_path / "raw", {name: clips[name]}, splits={"train": (name,)}, ignored=(name,))
    (raw / "ignore_list.txt").unlink()
    report = prepare(raw, tmp_path / "out", progress=False)
    assert report.made == [name]
    assert "broken tracking are not left out: ignore_list.txt" in str(report)


def test_the_real_file_stands_on_the_floor(shared_dir):
    """Prepared and loaded alike, its support is at 0 and the body upright."""
    file = shared_dir / "data" / "aistpp_sample" / "gBR_sBM_cAll_d04_mBR0_ch01.pkl"
    poses, translation = read_motion(file)
    clip = Clip("a", poses, translation)
    put_on_the_floor(clip)
    loaded = Motion.load(file)
    for motion in (loaded, Motion(clip.poses, clip.translation)):
        lowest = motion.joints()[..., 1].min(-1)
        assert abs(np.percentile(lowest, 1)) < 0.005 and np.median(lowest) < 0.05
        assert 1.3 < np.median(motion.joints()[:, 15, 1]) < 1.6
    assert loaded.fps == 60 and loaded.seconds == 12
    assert "lowered by 0.6" in clip.source and any("lowered by 0.6" in note for note in loaded.metadata["notes"])


class Evil:
    """Would write a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_faults_are_told_by_name_and_the_rest_goes_on(clips, tmp_path, counted):
    real = clips[AISTPP_NAMES[0]]
    faults = {
        "jump": "joint 16 turns",
        "NaN": "NaN or infinite numbers, first in frame 10",
        "short": "only 15 frames",
        "shape": "poses have shape (90, 69), expected (frames, 72)",
        "scaling": "smpl_scaling [0.0], expected one number above 0",
        "keys": "lacks one of smpl_poses, smpl_trans, smpl_scaling",
        "list": "lacks one of smpl_poses, smpl_trans, smpl_scaling",
        "text": "something else than numbers",
        "cutoff": "is no pickle, or is cut off",
        "evil": "only numpy arrays and plain containers are read",
        "song": "music/mXX9.wav is missing",
    }
    names = {fault: f"gBR_sBM_cAll_d04_{'mXX9' if fault == 'song' else 'mBR0'}_{fault}" for fault in faults}
    good, odd = AISTPP_NAMES[0], "gZZ_sBM_cAll_d04_mBR0_ch01"
    everything = dict.fromkeys([good, *names.values(), odd], real)
    raw = make_aistpp(tmp_path / "raw", everything, splits={"train": tuple(everything)})
    for fault, name in names.items():
        file = raw / "motions" / f"{name}.pkl"
        content = load_pickle(file)
        if fault == "jump":
            content["smpl_poses"][60:, 16 * 3] += 2.5
        elif fault == "NaN":
            content["smpl_trans"][20, 1] = np.nan
        elif fault == "short":
            content["smpl_poses"], content["smpl_trans"] = content["smpl_poses"][:30], content["smpl_trans"][:30]
        elif fault == "shape":
            content["smpl_poses"] = content["smpl_poses"][:, :69]
        elif fault == "scaling":
            content["smpl_scaling"] = np.zeros(1, np.float32)
        elif fault == "keys":
            del content["smpl_trans"]
        elif fault == "list":
            content = [content["smpl_poses"]]
        elif fault == "text":
            content["smpl_poses"] = "dance"
        elif fault == "evil":
            content["smpl_poses"] = Evil(tmp_path / "ran")
        write_pickle(file, content)
        if fault == "cutoff":
            file.write_bytes(file.read_bytes()[:-500])
    (raw / "music" / "mXX9.wav").unlink()
    report = prepare(raw, tmp_path / "out", progress=False)
    assert report.made == [good] and set(report.left_out) == {*names.values(), odd}
    for fault, name in names.items():
        assert faults[fault] in report.left_out[name], fault
    assert report.left_out[odd].startswith("its name is not of the form")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(("poses", "path"), [(1.0, 2.0), (np.zeros((40, 72)), np.zeros(3)), (np.zeros((40, 72)), 1.0)])
def test_numbers_without_frames(tmp_path, poses, path):
    write_pickle(tmp_path / "a.pkl", {"smpl_poses": poses, "smpl_trans": path, "smpl_scaling": np.ones(1)})
    with pytest.raises(ClipError, match="poses have shape"):
        read_motion(tmp_path / "a.pkl")
