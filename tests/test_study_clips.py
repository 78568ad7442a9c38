"""The clips of a study: one length, one loudness, one size; distortions; mistakes in what is given."""

import av
import numpy as np
import pytest
import soundfile
from helpers import save_tiny_data, write_song
from study_raters import make_study, write_dances

from megadance_hf import Motion
from megadance_hf.cli import command as cli
from megadance_hf.modeling.audio_megadance import AudioError
from megadance_hf.study.clips import SHIFT_SECONDS, distorted, even_out, excerpt_at_loudness, new_study, placed
from megadance_hf.study.design import DISTORTIONS, PRACTICE, Study, StudyError

pyloudnorm = pytest.importorskip("pyloudnorm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("clips"), songs=4)


def streams(path):
    """Frames, size and seconds of the picture, and the sound: (channels, samples)."""
    with av.open(str(path)) as container:
        frames = [frame for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        sound = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    return frames, sound


@pytest.mark.versions
def test_every_clip_has_the_same_length_size_and_date(folder):
    study = Study(folder)
    paths = [folder / "videos" / clip.file for clip in study.clips]
    assert len(paths) == len(list((folder / "videos").iterdir())) == 4 * 3 + 4 * 3 + 2
    assert len({path.stat().st_size for path in paths}) == len({path.stat().st_mtime for path in paths}) == 1
    shapes, sounds = set(), {}
    for clip, path in zip(study.clips, paths, strict=True):
        frames, sound = streams(path)
        shapes.add((len(frames), frames[0].width, frames[0].height, sound.shape))
        sounds.setdefault(clip.song, []).append(sound)
    ((count, width, height, _),) = shapes
    assert (count, width, height) == (30, 64, 64)
    for own in sounds.values():
        assert len(own) > 3 and all(np.array_equal(own[0], sound) for sound in own), "the sound would tell"


def test_names_say_nothing(folder, tmp_path):
    """Neither the song, nor the system, nor the seed: another study of the same things has other names."""
    names = [clip.file for clip in Study(folder).clips]
    assert all(len(name) == 20 and int(name[:16], 16) >= 0 for name in names) and names == sorted(names)
    order = [(clip.song, clip.system, clip.distortion or "") for clip in Study(folder).clips]
    assert order != sorted(order)
    again = [clip.file for clip in Study(make_study(tmp_path, songs=2, catch=0)).clips]
    assert not set(names) & set(again)
    for name in names:
        content = (folder / "videos" / name).read_bytes()
        assert not any(
            word in content
            for word in (b"ours", b"nearest", b"truth", b"song0", *(kind.encode() for kind in DISTORTIONS))
        )


def test_distorted_and_practice_clips(folder):
    study = Study(folder)
    kinds = [(clip.distortion, clip.song) for clip in study.clips if clip.distortion not in (None, PRACTICE)]
    assert all(
        study.clips[index].system == 2 for index, clip in enumerate(study.clips) if clip.distortion in DISTORTIONS
    )
    assert {kind for kind, _ in kinds} == set(DISTORTIONS) and len(set(kinds)) == 12
    practice = study.clips[study.practice().clips[0]]
    assert practice.distortion == PRACTICE


@pytest.mark.versions
def test_loudness(tmp_path):
    """-23 LUFS, whatever the song's; softer where peaks would clip; EBU Tech 3341: a sine at -23 dBFS on both sides is -23 LUFS."""
    moment = np.arange(3 * 48000) / 48000
    sine = np.stack([10 ** (-23 / 20) * np.sin(2 * np.pi * 1000 * moment)] * 2, 1)
    soundfile.write(tmp_path / "sine.wav", sine, 48000, subtype="FLOAT")
    found, rate = excerpt_at_loudness(tmp_path / "sine.wav", 2.0)
    assert rate == 48000 and found.shape == (96000, 2)
    np.testing.assert_allclose(np.abs(found).max(), 10 ** (-23 / 20), rtol=0.02)
    meter = pyloudnorm.Meter(48000)
    for scale in (0.3, 1.0):
        soundfile.write(tmp_path / "song.wav", scale * sine * (1 + np.sin(3 * moment))[:, None], 48000, subtype="FLOAT")
        assert meter.integrated_loudness(excerpt_at_loudness(tmp_path / "song.wav", 2.0)[0]) == pytest.approx(
            -23, abs=0.1
        )
    clicks = np.zeros(3 * 48000)
    clicks[::24000] = 0.9
    soundfile.write(tmp_path / "clicks.wav", clicks, 48000, subtype="FLOAT")
    found, _ = excerpt_at_loudness(tmp_path / "clicks.wav", 2.0)
    assert 0.8 < np.abs(found).max() < 10 ** (-1 / 20) + 1e-6 and meter.integrated_loudness(found) < -23.5


def test_songs_that_cannot_be_used(tmp_path):
    with pytest.raises(StudyError, match=r"song.wav lasts 1.0 s: give songs of 5 s or more"):
        excerpt_at_loudness(write_song(tmp_path / "song.wav", seconds=1), 5.0)
    soundfile.write(tmp_path / "quiet.wav", 1e-6 * np.random.default_rng(0).normal(size=48000), 48000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"quiet.wav' from 0 s on is silent"):
        excerpt_at_loudness(tmp_path / "quiet.wav", 0.5)


# --- dances ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def dance(tmp_path):
    return Motion.load(write_dances(tmp_path, 1, 4.0) / "song0.npz")


def test_dances_are_placed(dance):
    """At 30 frames per second, in the middle, on the floor, and as long as asked for."""
    moved = Motion(dance.poses, dance.translation + [3, 2, -1], fps=60)
    short = placed(moved, 2.0)
    assert len(short) == 60 and short.fps == 30 and short.translation[0, [0, 2]].tolist() == [0, 0]
    np.testing.assert_allclose(short.joints()[..., 1].min(), 0, atol=0.05)
    np.testing.assert_allclose(short.poses[10], moved.resampled(30).poses[10], atol=1e-6)
    assert len(placed(dance[:119], 4.0)) == 120, "one frame is rounding"
    assert placed(dance[:100], 4.0) is None


def test_distortions(dance):
    random = np.random.default_rng(0)
    made = {kind: distorted(dance, kind, random) for kind in DISTORTIONS}
    assert all(len(motion) == len(dance) for motion in made.values())
    late = round(SHIFT_SECONDS * 30)
    np.testing.assert_array_equal(made["shift"].poses[late:], dance.poses[:-late])
    assert np.ptp(made["frozen"].poses, axis=0).max() == 0 == np.ptp(made["frozen"].translation, axis=0).max()
    np.testing.assert_array_equal(made["slide"].poses, dance.poses)
    assert np.ptp(made["slide"].translation[:, 0]) == pytest.approx(1.6, abs=0.05)
    assert (made["jitter"].poses - dance.poses).std() == pytest.approx(0.12, rel=0.05)
    with pytest.raises(StudyError, match="kind='upside down': give one of jitter, shift, frozen, slide"):
        distorted(dance, "upside down", random)


def test_sizes_are_evened_out(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.mp4").write_bytes(bytes(70_000 + 7 * number))
    even_out(tmp_path)
    content = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    assert {len(one) for one in content} == {131072}
    assert all(one[70_000 + 7 * number :][4:8] == b"free" for number, one in enumerate(content))
    assert all(
        int.from_bytes(one[70_000 + 7 * n :][:4], "big") == 131072 - 70_000 - 7 * n for n, one in enumerate(content)
    )


# --- the command -----------------------------------------------------------------------------------------------------


def test_models_folders_and_retrieval_by_the_command(tmp_path, capsys):
    """The bundled model, captured dances, and nearest music from a prepared data set."""
    for number, name in enumerate(("rumba_1", "other")):
        (tmp_path / "songs").mkdir(exist_ok=True)
        write_song(tmp_path / "songs" / f"{name}.wav", seconds=3)
        dances = write_dances(tmp_path / f"dances{number}", 1, 1.5)
        (tmp_path / "truth").mkdir(exist_ok=True)
        (dances / "song0.npz").rename(tmp_path / "truth" / f"{name}.npz")
    command = ["study", "new", str(tmp_path / "study"), "--songs", str(tmp_path / "songs"), "--contact", "A. Name"]
    command += ["--system", "ours=ballroom", "--system", f"truth={tmp_path / 'truth'}"]
    assert (
        cli.main([*command, "--seconds", "1", "--size", "64x64", "--catch", "1", "--seed", "3", "--raters", "5"]) == 0
    )
    out = capsys.readouterr().out
    assert "other.wav: dancing" in out and "--genre other=GENRE chooses" in out and "rumba_1.wav" not in out
    assert "is ready: 4 trials and 1 catch trials for each of 5 raters" in out and "megadance study serve" in out
    design = Study(tmp_path / "study").design
    assert (design.seed, design.reference, design.songs, design.trials) == (3, "truth", ["other", "rumba_1"], 4)
    assert cli.main([*command, "--seconds", "1"]) == 2
    assert "exists already: give the name of a new folder" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dances0", "dances1", "songs", "study", "truth"]


def test_retrieval_needs_clips_of_eight_seconds(tmp_path):
    with pytest.raises(ValueError, match="no training clip with music has 240 frames"):
        data = save_tiny_data(tmp_path / "prepared") or tmp_path / "prepared"
        sources = {"near": f"nearest:{data}", "truth": str(write_dances(tmp_path / "truth", 2, 1.0))}
        for number in range(2):
            (tmp_path / "songs").mkdir(exist_ok=True)
            write_song(tmp_path / "songs" / f"song{number}.wav", seconds=2)
        new_study(
            tmp_path / "study",
            tmp_path / "songs",
            sources,
            reference="truth",
            seconds=1.0,
            title="",
            contact="",
            trials=4,
        )


def test_mistakes_of_the_experimenter(tmp_path, capsys):
    songs = tmp_path / "songs"
    songs.mkdir()
    command = ["study", "new", str(tmp_path / "study"), "--songs", str(songs), "--seconds", "1"]
    truth = ["--system", f"truth={write_dances(tmp_path / 'truth', 2, 1.0)}"]
    few = write_dances(tmp_path / "few", 1, 1.0)
    short = write_dances(tmp_path / "short", 2, -0.7)

    def mistake(options, message):
        assert cli.main([*command, *options]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error

    contact = ["--contact", "A. Name"]
    mistake(["--system", "a"], "argument --system: 'a' is not NAME=SOURCE")
    mistake(truth, "argument --system: give two or more")
    mistake([*truth, *truth], "'truth' is given twice")
    mistake(["--system", "a=x", "--system", "b=y"], "argument --reference: 'truth' is none of a, b: name one")
    mistake([*truth, "--system", "a=ballroom"], "argument --contact: raters have to know who is responsible")
    mistake([*truth, "--system", "a=ballroom", *contact], "holds 0 songs: give a folder with two or more")
    for number in range(2):
        write_song(songs / f"song{number}.wav", seconds=2)
    mistake(
        [*truth, "--system", f"a={few}", *contact],
        "system a lacks 1 of 2 songs (song1): put a motion named as the song",
    )
    mistake(
        [*truth, "--system", f"a={short}", *contact],
        "system a has dances of less than 1 s (song0, song1): give longer ones",
    )
    mistake([*truth, "--system", "a=nothing/here/at all", *contact], "is no folder here")
    mistake([*truth, "--system", f"a={few}", *contact, "--trials", "5"], "from 1 to 4, songs x systems")
    mistake([*truth, "--system", "a=ballroom", *contact, "--genre", "polka"], "genre='polka' is unknown")
    (few / "song1.npz").write_bytes(b"nothing")
    mistake([*truth, "--system", f"a={few}", *contact], "song1.npz")
    write_song(songs / "song1.flac", seconds=2)
    mistake([*truth, "--system", f"a={few}", *contact], "has two files named song1: rename one")
    assert not (tmp_path / "study").exists()
