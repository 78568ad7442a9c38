"""The studio behind the web page: songs, takes, what is kept of them, projects, downloads, and what stays on the disk."""

import hashlib
import io
import itertools
import json
import os
import re
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers import GENRES, save_tiny_model, tiny_generator, write_song

from megadance_hf import Motion, MusicToDancePipeline
from megadance_hf.demo.jobs import DemoError
from megadance_hf.demo.limits import Limits
from megadance_hf.demo.poses import Held, read_poses, write_poses
from megadance_hf.demo.requests import Keep, Range, Redo, Wish
from megadance_hf.demo.studio import KEPT_SECONDS, Studio
from megadance_hf.modeling.audio_megadance import AudioError
from megadance_hf.modeling.kinematics_megadance import BODY_PARTS

CODE = 8 / 30  # seconds
ME, SHE = "1" * 32, "2" * 32


class Report:
    """What a job would be told."""

    def __init__(self):
        self.steps, self.shares, self.looks = [], [], []

    def check(self):
        pass

    def course(self, steps):
        self.planned = list(steps)

    def begin(self, words):
        self.steps.append(words)
        self.shares.append([])

    def at(self, share):
        self.shares[-1].append(share)

    def show(self, glb, seconds, dancer):
        self.looks.append((glb, seconds, dancer))


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return MusicToDancePipeline.from_pretrained(save_tiny_model(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_song(tmp_path_factory.mktemp("song") / "my song.wav", seconds=4, rate=22050, channels=2)


@pytest.fixture
def studio(pipe, tmp_path):
    return Studio(pipe, tmp_path / "kept", Limits(song_seconds=6))


def give(studio, file, visitor=ME):
    """A song as it is uploaded."""
    place = studio.new_song_folder() / f"given{file.suffix}"
    place.write_bytes(file.read_bytes())
    return studio.listen(place, file.name, visitor)


@pytest.fixture
def song(studio, file):
    return give(studio, file)


def wish(plan=(("waltz", 0.0),), seconds=4.0, start=0.0, **more):
    return Wish(start, seconds, None if plan is None else list(plan), **more)


def dance(studio, song, *args, **options):
    return studio.dance(song.visitor, song.id, wish(*args, **options), Report())


def holds(take):
    """What each dancer holds."""
    return [one["hold"] for one in take["dances"]]


def motions(studio, take):
    return [Motion.load(path) for path in sorted((studio.dances_folder / take["id"]).glob("?.npz"))]


def kept(studio):
    return sorted(path.name for path in studio.dances_folder.glob("*/*"))


# --- songs -----------------------------------------------------------------------------------------------------------


def test_a_song_is_read(studio, song, file):
    shown = song.shown()
    assert json.loads(json.dumps(shown)) == shown
    assert shown["name"] == "my song.wav" and shown["seconds"] == 4 and shown["notice"] is None
    assert len(shown["peaks"]) == 1000 and max(shown["peaks"]) == 1 and min(shown["peaks"]) >= 0
    assert shown["tempo"] == pytest.approx(120, rel=0.05) and np.diff(shown["beats"]) == pytest.approx(0.5, abs=0.04)
    assert shown["bars"] == [] and shown["heard"] is None, "this model has no ear for either"
    sound, rate = soundfile.read(song.folder / "sound.wav", dtype="int16")
    np.testing.assert_array_equal(sound, soundfile.read(file, dtype="int16")[0])
    assert rate == 22050 and song.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert len(song.id) > 20, "cannot be guessed"


def test_the_beginning_of_a_long_song_is_used(pipe, tmp_path, file):
    studio = Studio(pipe, tmp_path, Limits(listening_seconds=2))
    song = give(studio, file)
    assert song.seconds == 2 and song.notice == "The song lasts 0:04; the first 0:02 of it are used."
    with pytest.raises(DemoError, match="The song ends after 2 seconds: begin earlier than at 3"):
        dance(studio, song, start=3.0)


def test_what_is_no_song_leaves_nothing(studio, tmp_path):
    text = tmp_path / "text.mp3"
    text.write_text("no music", encoding="utf-8")
    with pytest.raises(AudioError, match="is not audio"):
        give(studio, text)
    assert list(studio.songs_folder.iterdir()) == []


def test_a_genre_that_is_heard_is_danced(studio, file, monkeypatch):
    """Where the model can hear; else it is said that one was assumed."""
    assumed = dance(studio, give(studio, file), plan=None)
    assert (
        assumed["plan"] == [["chacha", 0.0]]
        and "cannot hear what the song is, so it dances chacha" in assumed["notice"]
    )
    monkeypatch.setattr(studio.pipe, "hear_genre", lambda _: {"rumba": 0.9, "waltz": 0.1})
    song = give(studio, file)
    take = dance(studio, song, plan=None)
    assert song.heard == take["heard"] == {"rumba": 0.9, "waltz": 0.1}
    assert take["plan"] == [["rumba", 0.0]] and take["notice"] is None


# --- dances ----------------------------------------------------------------------------------------------------------


@pytest.mark.versions
def test_a_dance_is_the_pipeline_s(studio, pipe, song, file):
    report = Report()
    plan = [("waltz", 0.0), ({"rumba": 0.7, "chacha": 0.3}, 3 * CODE)]
    options = {"seed": 7, "temperature": 0.8, "mode": "stream"}
    take = studio.dance(ME, song.id, wish(plan, 2.5, 0.5, **options), report)
    folder = studio.dances_folder / take["id"]
    (made,) = motions(studio, take)
    expected = pipe(str(file), plan=plan, duration=2.5, start=0.5, **options)
    np.testing.assert_array_equal(made.poses, expected.poses)
    np.testing.assert_array_equal(made.translation, expected.translation)
    assert kept(studio) == ["1.glb", "1.npz", "song.wav"]
    sound, rate = soundfile.read(folder / "song.wav", dtype="int16")
    original, _ = soundfile.read(file, dtype="int16")
    assert rate == 22050
    np.testing.assert_array_equal(sound, original[11025 : 11025 + round(2.5 * 22050)])
    (shown,) = take["dances"]
    assert take["name"] == "my song.wav" and take["seconds"] == 2.5 and take["start"] == 0.5 and take["seed"] == 7
    assert take["plan"] == [["waltz", 0.0], [{"rumba": 0.7, "chacha": 0.3}, 0.8]] and take["parent"] is None
    assert take["song"] == f"dances/{take['id']}/song.wav" and take["song_id"] == song.id and take["fps"] == 30
    assert len(take["onset"]) == len(shown["speed"]) == 75 and set(shown["genres"]) == set(GENRES)
    assert json.loads(json.dumps(take)) == take and studio.take(take["id"], ME).shown == take
    assert report.steps == ["Listening to the song", "Dancing waltz, then rumba and chacha", "Dressing the dancer"]
    assert [name for name, _ in report.planned] == ["listening", "dancing", "dressing"]
    listening, dancing, dressing = report.shares
    assert listening == [] and dancing == sorted(dancing) and dancing[-1] == 1 and len(dancing) > 5
    assert dressing == sorted(dressing) and len(dressing) == len(GENRES)


def test_two_genres_side_by_side(studio, pipe, song, file):
    take = dance(studio, song, seconds=2, seed=3, beside="rumba")
    assert [shown["genre"] for shown in take["dances"]] == ["waltz", "rumba"]
    np.testing.assert_array_equal(motions(studio, take)[1].poses, pipe(str(file), "rumba", seed=3, duration=2).poses)


def test_without_a_seed_one_is_drawn(studio, pipe, song, file):
    one, other = (dance(studio, song, seconds=2) for _ in range(2))
    assert one["seed"] != other["seed"]
    expected = pipe(str(file), "waltz", seed=one["seed"], duration=2)
    np.testing.assert_array_equal(motions(studio, one)[0].poses, expected.poses)


def test_a_loop_ends_as_it_begins(studio, song):
    take = dance(studio, song, seed=1, loop=True)

    def closes(take):
        (made,) = motions(studio, take)
        np.testing.assert_allclose(made.poses[-1], made.poses[0], atol=1e-5)
        np.testing.assert_allclose(made.translation[-1], made.translation[0], atol=1e-5)
        return take["loop"] and made.metadata["loop"]

    assert closes(take) and not dance(studio, song, seed=1)["loop"]
    # what is danced anew, or around what is kept, leaves its ends alone
    (redone,) = studio.redo(ME, Redo(take["id"], Range(0.0, 4.0), 1, 1, 3, {}, None), Report())
    assert closes(redone) and [redone["redone"][name] for name in ("start", "end")] == [0.2667, 3.7333]
    keep = Keep(take["id"], (Range(1.0, 2.0),))
    assert closes(dance(studio, song, seed=2, loop=True, keep=keep))
    assert not dance(studio, song, seed=2, keep=keep)["loop"], "its ends are danced anew"
    for made in motions(studio, dance(studio, song, seconds=2, seed=1, loop=True, beside="rumba")):
        np.testing.assert_allclose(made.poses[-1], made.poses[0], atol=1e-5)
    with pytest.raises(DemoError, match="so its ends stay: choose a passage between them"):
        studio.redo(ME, Redo(take["id"], Range(3.8, 4.0), 1, 1, 3, {}, None), Report())
    plain = dance(studio, song, seed=1)
    with pytest.raises(DemoError, match="does not end where it begins: unlock it"):
        dance(studio, song, loop=True, keep=Keep(plain["id"], (Range(1.0, 2.0),)))


def pose_of(studio, take, second, dancer=0):
    return studio.pose(take["id"], ME, second, dancer)["poses"]


def test_poses_that_are_held(studio, pipe, song, file):
    """The likeliest of four dances of the pipeline; they stay while all else is danced again."""
    source = dance(studio, song, [("rumba", 0.0)], seed=5, beside="chacha")
    (first, second) = motions(studio, source)
    np.testing.assert_array_equal(read_poses(pose_of(studio, source, 2.0)), first.poses[60:61])
    np.testing.assert_array_equal(read_poses(pose_of(studio, source, 9.0, 1)), second.poses[-1:])
    clip = write_poses(first.poses[10:25])
    hold = (
        Held(0.0, pose_of(studio, source, 1.0)),
        Held(1.5, clip, "clip.bvh"),
        Held(4 - 1 / 30, pose_of(studio, source, 3.0)),
    )
    take = dance(studio, song, seed=1, hold=hold)
    (made,) = motions(studio, take)
    asked = {0.0: hold[0].array, 1.5: hold[1].array, "end": hold[2].array}
    expected = pipe(str(file), "waltz", seed=1, hold=asked, candidates=4)
    np.testing.assert_array_equal(made.poses, expected.poses)
    assert holds(take)[0] == made.metadata["hold"] == [[0.0, 0.0333], [1.5, 2.0], [3.9667, 4.0]]
    assert json.loads(json.dumps(take)) == take

    keep = Keep(take["id"], (Range(2.7, 3.2),))
    (around,) = motions(studio, dance(studio, song, seed=2, hold=hold, keep=keep))
    there = [*range(0, 8), *range(40, 64), *range(112, 120), *range(81, 96)]
    np.testing.assert_array_equal(around.poses[there], made.poses[there])
    assert np.abs(around.poses - made.poses)[12:40].max() > 1e-3 and around.metadata["hold"] == holds(take)[0]
    fewer = dance(studio, song, seed=2, hold=hold[:1], keep=keep)
    assert (
        holds(fewer)[0] == [[0.0, 0.0333]] and np.abs(motions(studio, fewer)[0].poses - made.poses)[46:60].max() > 1e-3
    )

    for more, message in (
        ((*hold[:2], Held(3.0, clip)), "The dance is locked where the clip at 0:03.0 is to be held: unlock it there"),
        ((*hold[:2], Held(2.3, hold[0].poses)), "The pose at 0:02.3 has too little room between what stays, 0.6 s on"),
        (
            (Held(2.3, hold[0].poses), hold[2]),
            "the pose at 0:02.3: hold it at 0:02.0 or earlier, or unlock more around",
        ),
    ):
        with pytest.raises(DemoError, match=message):
            dance(studio, song, hold=more, keep=keep)
    with pytest.raises(DemoError, match="In this passage the clip at 0:01.5 is held: take it away"):
        studio.redo(ME, Redo(take["id"], Range(1.0, 1.7, "upper"), 1, 1, 0, {}, None), Report())
    (anew,) = studio.redo(ME, Redo(take["id"], Range(2.2, 3.7), 1, 1, 0, {}, None), Report())
    assert holds(anew)[0] == holds(take)[0]
    two = dance(studio, song, seed=1, hold=hold, beside="chacha")
    assert [one.metadata.get("hold") for one in motions(studio, two)] == [holds(take)[0], None], "by the first dancer"


@pytest.mark.parametrize("part", ["all", "upper", "lower"])
def test_a_new_pose_beside_a_lock(studio, pipe, song, part):
    """What is locked and what is held already stay to the last bit; the free halves of the body meet what is new."""
    old, clip = Held(3.9, pose_of(studio, dance(studio, song, seed=5), 1.0)), Held(1.2, "")
    before = dance(studio, song, seed=1, hold=(old,))
    clip = replace(clip, poses=write_poses(motions(studio, dance(studio, song, seed=6))[0].poses[20:23]))
    ranges = (Range(2.4, 3.0), *(() if part == "all" else (Range(0.0, 2.4, "lower" if part == "upper" else "upper"),)))
    take = dance(studio, song, seed=2, hold=(clip, old), keep=Keep(before["id"], ranges))
    (first,), (made,) = motions(studio, before), motions(studio, take)
    free = [joint for name in BODY_PARTS if part in ("all", name) for joint in BODY_PARTS[name]]
    above = [joint for joint in free if joint in BODY_PARTS["upper"] and joint]  # feet are put on the floor
    np.testing.assert_allclose(made.poses[36:39][:, above], clip.array[:, above], atol=1e-3)
    assert np.abs(made.poses[36:39][:, free] - first.poses[36:39][:, free]).max() > 0.01
    others = [joint for joint in range(24) if joint not in free]
    np.testing.assert_array_equal(made.poses[:72][:, others], first.poses[:72][:, others])
    for stays in (slice(72, 96), slice(112, 120)):
        np.testing.assert_array_equal(made.poses[stays], first.poses[stays])
    assert holds(take)[0] == made.metadata["hold"] == [[1.2, 1.3], [3.9, 3.9333]] and take["locks"] == list(
        map(vars, ranges)
    )
    # from now on it stays as well
    (again,) = motions(studio, dance(studio, song, seed=3, hold=(clip, old), keep=Keep(take["id"], ranges[:1])))
    np.testing.assert_array_equal(again.poses[32:40], made.poses[32:40])
    assert again.metadata["hold"] == made.metadata["hold"] and np.abs(again.poses - made.poses)[:32].max() > 1e-3
    gone = dance(studio, song, seed=3, hold=(clip,), keep=Keep(take["id"], ranges[:1]))
    assert holds(gone)[0] == [[1.2, 1.3]]


def test_each_of_two_dancers_has_poses_and_locks(studio, pipe, song, file):
    """Each meets its own poses; danced again, each keeps what is locked of it and dances the rest."""
    source = dance(studio, song, seed=5)
    one, other = Held(1.0, pose_of(studio, source, 1.0)), Held(1.0, pose_of(studio, source, 3.0), dancer=1)
    take = dance(studio, song, seed=1, hold=(one, other), beside="chacha")
    first, second = motions(studio, take)
    assert holds(take) == [[[1.0, 1.0333]], [[1.0, 1.0333]]]
    for made, genre, pose in ((first, "waltz", one), (second, "chacha", other)):
        expected = pipe(str(file), genre, seed=1, hold={1.0: pose.array}, candidates=4)
        np.testing.assert_array_equal(made.poses, expected.poses)

    # of each another passage is kept; the second meets something new
    new = Held(3.2, pose_of(studio, source, 2.0), dancer=1)
    ranges = (Range(2.0, 3.0), Range(1.6, 2.4, dancer=1))
    options = {"beside": "chacha", "hold": (one, other, new)}
    again = dance(studio, song, [("rumba", 0.0)], seed=2, keep=Keep(take["id"], ranges), **options)
    for old, made, stays in zip((first, second), motions(studio, again), ((56, 96), (48, 72)), strict=True):
        kept = np.zeros(len(old), dtype=bool)
        kept[slice(*stays)] = kept[24:32] = True  # what is locked, and what is held
        np.testing.assert_array_equal(made.poses[kept], old.poses[kept])
        assert (np.abs(made.poses - old.poses).max((1, 2)) > 1e-4)[~kept].mean() > 0.9
    assert holds(again) == [[[1.0, 1.0333]], [[1.0, 1.0333], [3.2, 3.2333]]]
    assert again["locks"] == [vars(kept) for kept in ranges] and again["locks"][1]["dancer"] == 1
    assert [shown["genre"] for shown in again["dances"]] == ["rumba", "chacha"]
    # who has nothing locked dances all of it again
    rest = dance(studio, song, seed=3, keep=Keep(take["id"], ranges[1:]), beside="rumba")
    expected = pipe(str(file), "waltz", seed=3)
    np.testing.assert_array_equal(motions(studio, rest)[0].poses, expected.poses)
    np.testing.assert_array_equal(motions(studio, rest)[1].poses[48:72], second.poses[48:72])
    assert rest["dances"][1]["genre"] == "rumba" and holds(rest) == [[], []]
    # one may stay as a whole
    whole = dance(studio, song, seed=3, keep=Keep(take["id"], (Range(0.0, 4.0, dancer=1),)), **options | {"hold": ()})
    np.testing.assert_array_equal(motions(studio, whole)[1].poses, second.poses)
    assert np.abs(motions(studio, whole)[0].poses - first.poses).max() > 0.01

    with pytest.raises(DemoError, match="In this passage the second dancer's pose at 0:01.0 is held"):
        studio.redo(ME, Redo(take["id"], Range(0.8, 1.5, dancer=1), 1, 1, 0, {}, None), Report())
    later = dance(studio, song, seed=1, hold=(one,), beside="chacha")
    assert studio.redo(ME, Redo(later["id"], Range(0.8, 1.5, dancer=1), 1, 1, 0, {}, None), Report())

    opened_again = opened(studio, song, studio.project(again["id"], ME))
    assert holds(opened_again) == holds(again) and opened_again["locks"] == again["locks"]
    for made, old in zip(motions(studio, opened_again), motions(studio, again), strict=True):
        np.testing.assert_array_equal(made.poses, old.poses)


def test_what_two_dancers_cannot_have(studio, song):
    take, alone = dance(studio, song, seed=1, beside="chacha"), dance(studio, song, seed=1)
    pose = Held(1.0, pose_of(studio, take, 1.0, 1), dancer=1)
    locked, both = Keep(take["id"], (Range(0.0, 2.0, dancer=1),)), {"beside": "chacha"}
    everything = Keep(take["id"], (Range(0.0, 4.0), Range(0.0, 4.0, dancer=1)))
    for more, message in (
        (
            {"hold": (pose,)},
            "The second dancer's pose at 0:01.0 needs a second dancer: choose one (the plan has to be a single dance), or take it away.",
        ),
        (
            {"keep": locked},
            "Something of the second dancer is locked, and there is none: choose one (the plan has to be a single dance), or",
        ),
        ({"keep": replace(locked, take=alone["id"]), **both}, "There is no second dancer whose dance could be locked"),
        ({"keep": locked, "hold": (pose,), **both}, "locked where the second dancer's pose at 0:01.0 is to be held"),
        ({"keep": everything, **both}, "All of the dance is kept"),
    ):
        with pytest.raises(DemoError, match=re.escape(message)):
            dance(studio, song, **more)
    # the first dancer's pose has nothing to do with what is locked of the second
    first = replace(pose, dancer=0)
    assert holds(dance(studio, song, seed=2, keep=locked, hold=(first,), **both)) == [[[1.0, 1.0333]], []]


def test_a_project_from_before_there_were_two(studio, song):
    """What was held and locked without saying of whom is the first dancer's."""
    held = Held(1.0, pose_of(studio, dance(studio, song, seed=5), 2.0))
    take = dance(studio, song, seed=1, hold=(held,), beside="chacha")
    kept = dance(studio, song, seed=2, hold=(held,), beside="chacha", keep=Keep(take["id"], (Range(2.0, 3.0),)))
    project = studio.project(kept["id"], ME)
    for one in (*project["hold"], *project["locks"]):
        assert one.pop("dancer") == 0
    again = opened(studio, song, project)
    assert holds(again) == [[[1.0, 1.0333]], []]
    assert again["locks"] == [{"start": 2.0, "end": 3.0, "part": "all", "dancer": 0}]


def test_what_is_held_in_a_loop(studio, song):
    pose = Held(0.0, pose_of(studio, dance(studio, song, seed=5), 2.0))
    take = dance(studio, song, seed=1, hold=(pose,), loop=True)
    (made,) = motions(studio, take)
    np.testing.assert_allclose(made.poses[-1], made.poses[0], atol=1e-5)
    np.testing.assert_allclose(made.poses[0, 3:], pose.array[0, 3:], atol=0.05)
    with pytest.raises(DemoError, match="nothing can be held in its last 0.6 s"):
        dance(studio, song, hold=(replace(pose, second=3.5),), loop=True)
    keep, more = Keep(take["id"], (Range(2.0, 3.0),)), (pose, replace(pose, second=1.1))
    beside = dance(studio, song, seed=2, hold=more, loop=True, keep=keep)
    assert holds(beside)[0] == [[0.0, 0.0333], [1.1, 1.1333]] and beside["loop"]
    np.testing.assert_allclose(motions(studio, beside)[0].poses[-1], made.poses[0], atol=1e-5)
    with pytest.raises(DemoError, match="goes on after the dance, which lasts 3 s"):
        dance(studio, song, start=1.0, hold=(replace(pose, second=3.5),))


def test_poses_of_files_and_of_others(studio, song, tmp_path):
    take = dance(studio, song, seconds=1)
    for ask in (lambda: studio.pose(take["id"], SHE, 0.0, 0), lambda: studio.pose(take["id"], ME, 0.0, 1)):
        with pytest.raises(DemoError, match="not here any more|no second dancer"):
            ask()
    motions(studio, take)[0].save(tmp_path / "clip.bvh")
    given = studio.read_pose((tmp_path / "clip.bvh").read_bytes(), "my clip.BVH")
    assert given["frames"] == 30 == len(read_poses(given["poses"])) and given["name"] == "my clip.BVH"
    before = sorted(studio.folder.rglob("*"))
    for name in ("my clip.mp3", "my clip", "x.b/h"):
        with pytest.raises(DemoError, match="is no file with a pose"):
            studio.read_pose(b"", name)
    with pytest.raises(DemoError, match="x.npz cannot be read"):
        studio.read_pose(b"PK", "x.npz")
    assert sorted(studio.folder.rglob("*")) == before


def test_changes_at_bars(studio, song):
    """At the nearest of the song's bars, to the beginning of a code; where there are none, as they were asked for."""
    plan = [("waltz", 0.0), ("rumba", 1.2)]
    take = dance(studio, song, plan, 3, changes="bar", seed=0)
    assert take["plan"][1][1] == pytest.approx(4 * CODE, abs=1e-3) and "No bars were found" in take["notice"]
    song.bars = np.array([0.4, 2.4])
    take = dance(studio, song, plan, 3, 0.5, changes="bar", seed=0)
    assert take["plan"][1][1] == pytest.approx(7 * CODE, abs=1e-3) and take["notice"] is None, "1.9 s of the dance"
    assert take["bars"] == [1.9]


def test_looks_at_the_dance_so_far(studio, song, monkeypatch):
    monkeypatch.setattr("megadance_hf.demo.reports.PREVIEW_SECONDS", 0.0)
    monkeypatch.setattr("megadance_hf.demo.reports.PREVIEW_COST", 1e9)
    report = Report()
    take = studio.dance(ME, song.id, wish(seed=0), report)
    seconds = [second for _, second, _ in report.looks]
    assert len(seconds) >= 14 and seconds == sorted(seconds) and seconds[0] < 0.3 and seconds[-1] == take["seconds"]
    there = [studio.folder / glb for glb, *_ in report.looks if (studio.folder / glb).is_file()]
    assert [path.read_bytes()[:4] for path in there] == [b"glTF"] * 2, "older ones are gone"
    two = Report()
    studio.dance(ME, song.id, wish(seed=0, beside="rumba", seconds=2.0), two)
    assert [dancer for *_, dancer in two.looks] == [0] * 8 + [1] * 8, "whose it is"
    os.utime(there[0].parent, (0, 0))
    studio.tidy()
    assert not there[0].parent.exists() and studio.take(take["id"], ME)


def test_songs_and_takes_are_their_owner_s(studio, song):
    take = dance(studio, song, seconds=1)
    for find in (
        lambda: studio.song(song.id, SHE),
        lambda: studio.take(take["id"], SHE),
        lambda: studio.project(take["id"], SHE),
        lambda: studio.pose(take["id"], SHE, 0.0, 0),
        lambda: studio.export(SHE, take["id"], False, Report()),
        lambda: studio.redo(SHE, Redo(take["id"], Range(0, 1), 1, 1, 0, {}, None), Report()),
        lambda: studio.dance(SHE, song.id, wish(), Report()),
        lambda: studio.take("../../etc", ME),
    ):
        with pytest.raises(DemoError, match="not kept any more|not here any more") as caught:
            find()
        assert caught.value.status == 404


def test_a_dance_that_takes_too_long_is_cancelled(pipe, file, tmp_path):
    studio = Studio(pipe, tmp_path, Limits(compute_seconds=1e-6))
    with pytest.raises(DemoError, match="This takes longer than 1e-06 seconds, so it was stopped"):
        dance(studio, give(studio, file), seed=0)
    assert kept(studio) == []


def test_what_the_model_does_not_know_is_refused(studio, song):
    with pytest.raises(DemoError, match="In words this model can be asked for dances"):
        dance(studio, song, prompt="slowly")
    with pytest.raises(DemoError, match="knows no sliders"):
        dance(studio, song, attributes={"speed": 0.5})
    assert kept(studio) == []


# --- what is kept, and danced anew -----------------------------------------------------------------------------------


def joints_of(part):
    return list(range(24)) if part == "all" else BODY_PARTS[part]


@pytest.mark.parametrize(
    "ranges",
    [
        [Range(1.0, 2.1)],
        [Range(0.0, 1.0, "lower")],
        [Range(2.5, 4.0, "upper"), Range(1.0, 1.2)],
        [Range(0.0, 4.0, "lower"), Range(0.0, 0.9, "upper"), Range(3.0, 4.0)],
    ],
)
def test_what_is_kept_stays_to_the_last_bit(studio, song, ranges):
    old = dance(studio, song, seed=1)
    new = dance(studio, song, [("rumba", 0.0)], seed=2, keep=Keep(old["id"], tuple(ranges)))
    (before,), (after,) = motions(studio, old), motions(studio, new)
    changed = np.ones((len(before), 24), dtype=bool)
    for kept_range in ranges:
        first, last = int(kept_range.start / CODE) * 8, -int(-kept_range.end // CODE) * 8
        joints = joints_of(kept_range.part)
        changed[first:last, joints] = False
        np.testing.assert_array_equal(after.poses[first:last][:, joints], before.poses[first:last][:, joints])
        if kept_range.part != "upper":
            np.testing.assert_array_equal(after.translation[first:last], before.translation[first:last])
    moved = np.abs(after.poses - before.poses).max(-1) > 1e-4
    assert not moved[~changed].any() and moved[changed].mean() > 0.5
    assert new["parent"] == old["id"] and new["plan"] == [["rumba", 0.0]] and new["seed"] == 2
    assert new["locks"] == [vars(one) for one in ranges]


def test_what_cannot_be_kept(studio, song):
    old = dance(studio, song, seconds=3)
    keep = Keep(old["id"], (Range(0.0, 1.0),))
    for more in ({"start": 0.5, "seconds": 3.0}, {"seconds": 2.0}):
        with pytest.raises(DemoError, match="belongs to another piece of the song"):
            dance(studio, song, keep=keep, **more)
    with pytest.raises(DemoError, match="All of the dance is kept"):
        dance(studio, song, seconds=3.0, keep=Keep(old["id"], (Range(0.0, 3.0),)))
    with pytest.raises(DemoError, match="not here any more"):
        dance(studio, song, seconds=3.0, keep=Keep("other", (Range(0.0, 1.0),)))


def test_a_passage_danced_anew_is_the_pipeline_s(studio, pipe, song, file):
    old = dance(studio, song, seed=1, beside="rumba")
    wanted = Redo(old["id"], Range(1.0, 2.5, "upper", 1), 4, 2, 5, {}, None)
    takes = studio.redo(ME, wanted, Report())
    first, second = motions(studio, old)
    expected = pipe.redo(second, str(file), 1.0, 2.5, "upper", candidates=4, num=2, seed=5)
    assert len(takes) == 2 and takes[0]["log_likelihood"] is None, "of the first dancer, who stays"
    for take, motion in zip(takes, expected, strict=True):
        stays, anew = motions(studio, take)
        np.testing.assert_array_equal(stays.poses, first.poses)
        np.testing.assert_array_equal(anew.poses, motion.poses)
        assert take["parent"] == old["id"] and take["seed"] == 1
        assert take["redone"] == {"start": 1.0667, "end": 2.4, "part": "upper", "seed": 5, "dancer": 1}
    with pytest.raises(DemoError, match="There is no second dancer"):
        studio.redo(ME, Redo(dance(studio, song)["id"], Range(1.0, 2.0, dancer=1), 1, 1, 0, {}, None), Report())


def test_the_likeliest_comes_first(studio, song):
    old = dance(studio, song, seed=1)
    # of the upper body, which is led nowhere: else what is likeliest also has to end near to where the dance goes on
    takes = studio.redo(ME, Redo(old["id"], Range(1.0, 2.5, "upper"), 6, 3, None, {}, None), Report())
    scores = [take["log_likelihood"] for take in takes]
    assert scores == sorted(scores, reverse=True)


# --- projects --------------------------------------------------------------------------------------------------------


def opened(studio, song, project):
    given = json.loads(json.dumps(project))
    return studio.open(song, studio.read_project(given, song), Report())


def test_a_project_opens_as_it_was_saved(studio, song, file):
    """A dance, with a second dancer, danced anew, a loop: by another visitor, on another day."""
    plain = dance(studio, song, [("waltz", 0.0), ({"rumba": 0.5, "chacha": 0.5}, 1.6)], 3, 0.5, seed=1)
    beside = dance(studio, song, seed=2, beside="chacha")
    redone = studio.redo(ME, Redo(beside["id"], Range(1.0, 2.0), 1, 1, 0, {}, None), Report())[0]
    keeping = dance(studio, song, [("rumba", 0.0)], seed=3, keep=Keep(beside["id"], (Range(0.0, 2.0, "lower"),)))
    loop = dance(studio, song, seed=4, loop=True)
    new = (Held(1.0, pose_of(studio, plain, 1.0)),)
    met = dance(studio, song, seed=5, hold=new, keep=Keep(loop["id"], (Range(2.0, 4.0), Range(0.0, 2.0, "lower"))))
    holding = dance(studio, song, seed=4, hold=(Held(1.0, pose_of(studio, loop, 2.0), "pose.npz"),), beside="chacha")
    her_song = give(studio, file, SHE)
    for take in (plain, beside, redone, keeping, loop, met, holding):
        project = studio.project(take["id"], ME)
        again = opened(studio, her_song, project)
        for before, after in itertools.zip_longest(motions(studio, take), motions(studio, again)):
            np.testing.assert_array_equal(after.poses, before.poses)
            np.testing.assert_array_equal(after.translation, before.translation)
            for name in ("codes", "loop", "hold"):
                assert after.metadata.get(name) == before.metadata.get(name), name
            for name in ("entrance", "ending"):  # a dancer who stands still at first does so again
                assert bool(after.metadata["clean_up"][name]) == bool(before.metadata["clean_up"][name])
            assert after.genre == before.genre
        same = ("start", "seconds", "plan", "seed", "locks", "beats", "changes", "loop")
        assert holds(again) == holds(take)
        assert {name: again[name] for name in same} == {name: take[name] for name in same}
        assert (project["motion"] is None) == (take in (plain, beside)), "the codes alone say it"
        assert studio.project(again["id"], SHE) == project
        assert studio.redo(SHE, Redo(again["id"], Range(1.1, 2.0), 1, 1, 0, {}, None), Report())


def test_projects_that_cannot_be_opened(studio, song, tmp_path):
    project = studio.project(dance(studio, song, seconds=2, seed=1, beside="rumba")["id"], ME)
    other = give(studio, write_song(tmp_path / "other.wav", seconds=4))
    with pytest.raises(DemoError, match="saved to the song 'my song.wav': give that file"):
        studio.read_project(project, other)
    upper = project["codes"]["upper"]
    alone = {**project, "beside": None, "beside_dance": None}
    wrong = [
        (None, "no dance that was saved here"),
        ([1], "no dance that was saved here"),
        ({}, "no dance that was saved here"),
        ({**project, "megadance_project": 2}, "no dance that was saved here"),
        ({**project, "model": "another"}, "saved with another model"),
        ({**project, "song": None}, "damaged"),
        ({**project, "plan": []}, "damaged"),
        ({**project, "plan": [["polka", 0]]}, "'polka' is unknown here"),
        ({**project, "frames": 7}, "damaged"),
        ({**project, "frames": 1e300}, "number of frames"),
        ({**project, "codes": {"upper": upper}}, "damaged"),
        ({**project, "codes": {"upper": upper, "lower": [*upper[:-1], 27]}}, "damaged"),
        ({**project, "codes": {"upper": upper, "lower": [*upper[:-1], True]}}, "damaged"),
        ({**project, "codes": {"upper": upper, "lower": upper[:-1]}}, "damaged"),
        ({**project, "motion": "AAAA"}, "damaged"),
        ({**project, "motion": "!"}, "damaged"),
        ({**project, "motion": "f39/" * (60 * 75)}, "damaged"),
        ({**project, "beside_dance": None}, "cannot be read|damaged"),
        ({**project, "locks": [{"start": 1, "end": 0}]}, "must end after it begins"),
        ({**project, "start": 3.5}, "damaged"),
        ({**project, "seconds": 600}, "from 0.25 to 6"),
        ({**project, "stands": [1, 0]}, "damaged"),
        ({**project, "hold": [{"second": 1, "poses": "AAAA"}]}, "A pose cannot be read"),
        ({**alone, "locks": [{"start": 0, "end": 1, "dancer": 1}]}, "damaged"),
        ({**project, "next": 3}, "damaged"),
        ({**project, "next": {"hold": [{"second": 1}]}}, "A pose cannot be read"),
        ({**project, "next": {"plan": [["polka", 0]]}}, "'polka' is unknown here"),
    ]
    before = kept(studio)
    for given, message in wrong:
        with pytest.raises(DemoError, match=message):
            studio.read_project(given, song)
    with pytest.raises(DemoError, match="damaged"):  # found when the excerpt is read
        opened(studio, song, {**project, "start": 2.5, "seconds": 2.1})
    assert kept(studio) == before


# --- downloads -------------------------------------------------------------------------------------------------------


def test_everything_in_one_zip(studio, song, tmp_path):
    take = dance(studio, song, seconds=1, seed=9, beside="rumba")
    report = Report()
    address = studio.export(ME, take["id"], True, report)
    folder, files = studio.folder / Path(address).parent, {}
    with zipfile.ZipFile(studio.folder / address) as archive:
        assert archive.testzip() is None
        files = {name: archive.read(name) for name in archive.namelist()}
    top = "my_song-waltz-rumba-9"
    inner = {"HOWTO.txt", "dance.bvh", "dance.glb", "dance.mp4", "dance.npz", "dance.vrma", "dance_mixamo.bvh"}
    inner |= {"open_in_blender.py", "song.wav"}
    expected = {f"{top}/{part}/{name}" for part in ("1-waltz", "2-rumba") for name in inner}
    assert set(files) == expected | {f"{top}/README.txt", f"{top}/project.json"}
    assert json.loads(files[f"{top}/project.json"]) == studio.project(take["id"], ME)
    (tmp_path / "dance.npz").write_bytes(files[f"{top}/2-rumba/dance.npz"])
    np.testing.assert_array_equal(Motion.load(tmp_path / "dance.npz").poses, Motion.load(folder / "2.npz").poses)
    assert b"mixamorig:Hips" in files[f"{top}/1-waltz/dance_mixamo.bvh"]
    assert b"ftyp" in files[f"{top}/1-waltz/dance.mp4"][:12]
    sound, rate = soundfile.read(io.BytesIO(files[f"{top}/1-waltz/song.wav"]))
    assert len(sound) == rate
    assert report.steps == ["Drawing the video"] * 2 + ["Packing"] * 2
    again = Report()
    assert studio.export(ME, take["id"], True, again) == address and again.steps == ["Packing"] * 2, "videos are kept"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["1.glb", "1.mp4", "1.npz", "2.glb", "2.mp4", "2.npz", "megadance-video.zip", "song.wav"]
    )


# --- the disk --------------------------------------------------------------------------------------------------------


def test_old_songs_and_dances_are_deleted(studio, file, song):
    first, second = (dance(studio, song, seconds=1, seed=0)["id"] for _ in range(2))
    forgotten = give(studio, file)
    old = time.time() - KEPT_SECONDS - 1
    for path in (studio.dances_folder / first / "1.npz", forgotten.file, song.file):
        os.utime(path, (old, old))
    studio.song(song.id, ME)  # somebody still dances to it
    studio.tidy()
    assert os.listdir(studio.dances_folder) == [second] and os.listdir(studio.songs_folder) == [song.id]
    with pytest.raises(DemoError, match="not here any more"):
        studio.take(first, ME)


def test_the_disk_has_a_budget(studio, song, file):
    """The oldest are deleted first, those that somebody may still look at stay, and then nothing more is accepted."""
    ids = [dance(studio, song, seconds=4, seed=0)["id"] for _ in range(3)]
    for age, name in zip((2000, 1000, 0), ids, strict=True):
        made = time.time() - age
        os.utime(studio.dances_folder / name / "1.npz", (made, made))
    used = sum(path.stat().st_size / path.stat().st_nlink for path in studio.folder.glob("*/*/*")) / 1e6
    studio.limits = Limits(song_seconds=6, disk_megabytes=0.99 * used)
    studio.tidy()
    assert set(os.listdir(studio.dances_folder)) == set(ids[1:]) and not studio.is_full()
    studio.limits = Limits(song_seconds=6, disk_megabytes=0.1 * used)
    for ask in (lambda: dance(studio, song, seconds=1), lambda: give(studio, file)):
        with pytest.raises(DemoError, match="no room for another song just now: come back in some minutes") as caught:
            ask()
        assert caught.value.status == 507
    assert os.listdir(studio.dances_folder) == ids[2:]


def test_takes_of_an_excerpt_share_its_sound(studio, song):
    folders = [studio.dances_folder / dance(studio, song, seconds=2)["id"] for _ in range(2)]
    assert len({(folder / "song.wav").stat().st_ino for folder in folders}) == 1
    assert re.fullmatch(r"0-44100.wav", next(song.folder.glob("*-*.wav")).name)


# --- in words, and with sliders --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def obeying(tmp_path_factory):
    """A model with attributes."""
    folder = save_tiny_model(tmp_path_factory.mktemp("obeying"))
    torch.manual_seed(0)
    tiny_generator(attributes=["energy", "speed"]).save_pretrained(folder)
    return MusicToDancePipeline.from_pretrained(folder)


@pytest.fixture
def wordy(obeying, tmp_path, file):
    studio = Studio(obeying, tmp_path / "kept", Limits(song_seconds=6))
    return studio, give(studio, file)


def test_a_dance_in_words(wordy, file):
    studio, song = wordy
    words = "slow rumba please, with zorblax"
    take = dance(studio, song, None, seed=1, prompt=words, attributes={"energy": 0.9})
    expected = studio.pipe(str(file), prompt=words, attributes={"energy": 0.9}, seed=1)
    np.testing.assert_array_equal(motions(studio, take)[0].poses, expected.poses)
    assert take["plan"] == [["rumba", 0.0]] and take["prompt"] == words and take["attributes"] == {"energy": 0.9}
    understood = take["understood"]
    assert understood["genres"] == {"rumba": 1.0} and understood["attributes"].keys() == {"speed"}
    assert understood["not_understood"] == ["zorblax"] and understood == expected.metadata["prompt"]
    assert studio.understand(words) == understood and studio.options()["reads_words"] is True
    assert studio.options()["attributes"] == ["energy", "speed"]
    project = studio.project(take["id"], ME)
    assert project["prompt"] == words and project["attributes"] == {"energy": 0.9}
    assert opened(studio, song, project)["understood"] == understood


def test_words_about_parts_of_the_song(wordy):
    studio, song = wordy
    take = dance(studio, song, None, prompt="waltz, rumba in the second half")
    assert [genre for genre, _ in take["plan"]] == ["waltz", "rumba"] and take["plan"][1][1] == pytest.approx(
        2, abs=0.3
    )


def test_without_a_dance_in_the_words_the_song_chooses(wordy):
    studio, song = wordy
    assert dance(studio, song, None, prompt="slow")["plan"] == [["chacha", 0.0]]
    assert dance(studio, song, None, prompt="no chacha")["plan"] == [["rumba", 0.0]]
    song.heard = {"waltz": 0.8, "chacha": 0.1, "rumba": 0.1}
    assert dance(studio, song, None, prompt="slow")["plan"] == [["waltz", 0.0]]
    assert dance(studio, song, None, prompt="no waltz")["plan"] == [["chacha", 0.0]]


def test_words_for_the_rest_and_for_a_passage(wordy):
    studio, song = wordy
    old = dance(studio, song, seed=1)
    keep = Keep(old["id"], (Range(0.0, 2.0),))
    new = dance(studio, song, None, seed=2, keep=keep, prompt="slow rumba")
    assert new["plan"] == [["rumba", 0.0]] and new["understood"]["attributes"].keys() == {"speed"}
    np.testing.assert_array_equal(motions(studio, new)[0].poses[:56], motions(studio, old)[0].poses[:56])
    (redone,) = studio.redo(ME, Redo(old["id"], Range(1.0, 3.0), 2, 1, 3, {"energy": 0.1}, "faster"), Report())
    assert redone["understood"]["attributes"].keys() == {"speed"} and redone["attributes"] == {"energy": 0.1}


def test_words_that_cannot_be_danced(wordy, studio, song):
    its, given = wordy
    old = dance(its, given)
    keep = Keep(old["id"], (Range(0.0, 2.0),))
    plan = [("waltz", 0.0)]
    for prompt, more, message in (
        ("zorblax", {"plan": None}, "None of these words tells how to dance"),
        ("rumba", {"plan": plan}, "take them out of one of the two"),
        ("no waltz", {"plan": plan}, "say no waltz, which the plan has"),
        ("arms high", {"plan": plan}, "but not for arm height"),
        ("no waltz, no rumba, no chacha", {"plan": None}, "leave no dance"),
        ("rumba in the second half", {"plan": None, "keep": keep}, "cannot be about a part of the song"),
    ):
        with pytest.raises(DemoError, match=message):
            dance(its, given, prompt=prompt, **more)
    with pytest.raises(DemoError, match="leave the names of dances out"):
        its.redo(ME, Redo(old["id"], Range(1.0, 3.0), 1, 1, 3, {}, "rumba"), Report())
    with pytest.raises(DemoError, match="In words this model can be asked for dances, but not for speed"):
        dance(studio, song, None, prompt="slow")
    assert dance(studio, song, None, prompt="rumba")["plan"] == [["rumba", 0.0]], "a model without sliders"
