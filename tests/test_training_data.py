"""Clips to train on and to evaluate on, and settings that fit them; the scripts' own tests show the rest."""

from dataclasses import replace

import pytest
from runs import GENRES, clips

from megadance_hf.data.card import Card
from megadance_hf.data.prepared import DataError, write_prepared
from megadance_hf.training.config import TrainingConfig, TrainingError
from megadance_hf.training.recipes import DataSettings, ValidationSettings
from megadance_hf.training.training_data import (
    clips_of_genre,
    cut_held_out,
    fit_batch,
    fit_length,
    held_out_windows,
    read_data,
    report_dropped,
    report_masked,
)


def prepared(folder, made) -> str:
    write_prepared(folder, made, card=Card("Swings", "Made by a test.", "none"), genres=GENRES)
    return str(folder)


def ids(found) -> list[str]:
    return [clip.id for clip in found]


def test_the_validation_split_is_held_out_as_it_is(tmp_path, capsys):
    made = [replace(clip, split="validation" if number == 2 else "train") for number, clip in enumerate(clips())]
    folder = prepared(tmp_path, made)
    data = read_data(folder, needs_genre=True)
    assert (ids(data.train), ids(data.held_out)) == (["clip0", "clip1", "clip3"], ["clip2"])
    assert data.genres == list(GENRES)
    assert (
        capsys.readouterr().out == "no training clip is of tango, samba: what the model has for these stays untrained\n"
    )
    assert read_data(folder, validation=False).held_out == []


def test_whole_songs_are_held_back_where_there_is_no_validation_split(tmp_path, capsys):
    made = [replace(clip, song=f"song{number // 2}") for number, clip in enumerate(clips(8))]
    folder = prepared(tmp_path, made)
    data = read_data(folder, DataSettings(hold_back=0.25))
    assert len(data.held_out) == 2 and len({clip.song for clip in data.held_out}) == 1
    assert sorted(ids(data.train + data.held_out)) == sorted(ids(made))
    assert f"1 of 4 songs ({data.held_out[0].song})" in capsys.readouterr().out
    assert read_data(folder, DataSettings(hold_back=0)).held_out == []


def test_clips_that_are_of_no_use_are_left_out_or_an_error(tmp_path, capsys):
    first, *others = clips()
    folder = prepared(tmp_path / "one", [replace(first, genre=None), *others])
    assert "clip0" not in ids(read_data(folder, needs_genre=True, validation=False).train)
    assert "1 of 4 clips in train have no genre and are left out" in capsys.readouterr().out
    silent = prepared(tmp_path / "silent", [replace(clip, input_features=None) for clip in clips()])
    with pytest.raises(DataError, match="none of 4 clips in train has music"):
        read_data(silent, needs_music=True)


def test_only_the_genres_that_are_asked_for_in_their_order(tmp_path, capsys):
    first, second, third = GENRES[:3]
    made = [replace(clip, genre=genre) for clip, genre in zip(clips(), (first, second, None, first), strict=True)]
    folder = prepared(tmp_path, made)
    data = read_data(folder, DataSettings(genres=[third, second]), validation=False)
    assert (ids(data.train), data.genres) == (["clip1", "clip2"], [third, second])
    assert "2 of 4 clips in train are of other genres and are left out" in capsys.readouterr().out
    fewer = read_data(folder, DataSettings(genres=["ShenYun", second.title()]), needs_genre=True, validation=False)
    assert (ids(fewer.train), fewer.genres) == (["clip1"], [second])
    assert f"data.genres: {folder} has no ShenYun\n" in capsys.readouterr().out
    others = read_data(folder, DataSettings(genres=["salsa", "Sway"]), needs_genre=True, validation=False)
    assert (ids(others.train), others.genres) == (["clip0", "clip1", "clip3"], list(GENRES))
    assert f"data.genres: {folder} has no salsa, sway; all of its genres are trained on" in capsys.readouterr().out
    for name, near in (("polka", "genre='polka' is unknown: The genres"), ("ruumba", "did you mean 'rumba'")):
        with pytest.raises(DataError, match=f"data.genres: neither {folder} nor a known source has it: .*{near}"):
            read_data(folder, DataSettings(genres=[name, second]))
    for wrong in ([], [second, second]):
        with pytest.raises(ValueError, match="name at least one, each once"):
            DataSettings(genres=wrong)


def test_clips_of_a_genre_however_it_is_spelt(tmp_path):
    folder = prepared(tmp_path, clips())
    found = clips_of_genre(folder, "train", "Rumba")
    assert ids(found) == ["clip1", "clip3"] and {clip.genre for clip in found} == {"Rumba"}
    assert clips_of_genre(folder, "validation", "rumba") == []


def test_segments_become_as_long_as_half_of_the_clips(capsys):
    made = [*clips(2, 120), *clips(1, 60)]
    assert fit_length({"stride": 8}, 64, made) == {"stride": 8, "length": 64}
    assert capsys.readouterr().out == "1 of 3 clips have less than 64 frames and are left out\n"
    assert fit_length({"length": 500}, 64, made) == {"length": 120}
    assert fit_length({"length": 500, "short": "reflect"}, 64, made) == {"length": 500, "short": "reflect"}
    with pytest.raises(DataError, match="most of 1 clips are too short to train on: the longest has 12 frames"):
        fit_length({}, 64, clips(1, 12))


def test_batches_become_as_large_as_the_segments_can_fill(capsys):
    training = TrainingConfig(batch_size=4)
    assert fit_batch(training, range(4)) is training
    assert fit_batch(training, range(3), "rhythm.training").batch_size == 3
    assert capsys.readouterr().out == "rhythm.training.batch_size=3 instead of 4: there are 3 segments in all\n"
    with pytest.raises(TrainingError, match="0 segments are too few for 1 processes"):
        fit_batch(training, [])


def test_dropped_windows_are_told_by_clip(capsys):
    marked = {0: [50], 1: None, 2: [10, 110]}
    made = [replace(clip, marked_frames=marked.get(number)) for number, clip in enumerate(clips())]
    report_dropped(made, {"length": 64, "stride": 16, "drop_marked": True})
    line = "windows.drop_marked: 6 of 16 windows have a marked frame and are left out (clip0 4, clip2 2)\n"
    assert capsys.readouterr().out == line
    report_dropped(made, {"length": 64, "stride": 16})
    assert capsys.readouterr().out == ""


def test_masked_frames_are_told(capsys):
    made = [replace(clip, marked_frames=[50] if number == 1 else None) for number, clip in enumerate(clips())]
    report_masked(made, True)
    frames = sum(map(len, made))
    line = f"windows.mask_noise: 2 of {frames} frames are noise and no targets, in 1 of {len(made)} clips\n"
    assert capsys.readouterr().out == line
    report_masked(made, False)
    assert capsys.readouterr().out == ""


def test_held_out_clips_are_cut_as_the_recipe_says(capsys):
    made = [replace(clip, marked_frames=[70] if number == 1 else None) for number, clip in enumerate(clips(2))]
    assert cut_held_out(made, ValidationSettings()) == (made, None)
    settings = ValidationSettings(length=64, stride=48, drop_marked=True)
    pieces = held_out_windows(made, settings)
    assert ids(pieces) == ["clip0@0", "clip0@48", "clip1@0"] and {len(piece) for piece in pieces} == {64}
    assert ids(held_out_windows(made, ValidationSettings(length=40))) == [
        f"clip{n}@{s}" for n in (0, 1) for s in (0, 40, 80)
    ]
    assert held_out_windows(made, ValidationSettings(length=1024)) == made
    assert "validation.length=1024: no held-out clip has such a window" in capsys.readouterr().out
    for name in ("length", "stride"):
        with pytest.raises(ValueError, match=f"{name}=100 is not possible: give a multiple of 8, or 0"):
            ValidationSettings(**{name: 100})
    with pytest.raises(ValueError, match="drop_marked=True is not possible: it is of windows; give a length"):
        ValidationSettings(drop_marked=True)
