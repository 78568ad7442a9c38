"""Composed songs: exactly known beats that can be heard, a sound mix, the same song for the same seed, whole files."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st

from megadance_hf.modeling.errors_megadance import FileError
from megadance_hf.modeling.music_features_megadance import BEAT, music_features
from megadance_hf.synthetic.composer import STYLES, compose, composed_clip, main, write_song
from megadance_hf.synthetic.synthesizer import SAMPLING_RATE


@pytest.fixture(scope="module")
def rendered():
    """Every style once: {style: (score, waveform)}."""
    scores = {style: compose(12, style=style, seed=3) for style in STYLES}
    return {style: (score, score.render()) for style, score in scores.items()}


def f_measure(found: np.ndarray, known: np.ndarray, tolerance: float = 0.07) -> float:
    """Of beats in seconds; each known beat can be found once."""
    pairs = np.abs(found[:, None] - known[None]) <= tolerance
    hits = min(pairs.any(axis=0).sum(), pairs.any(axis=1).sum())
    return 2 * hits / (len(found) + len(known))


@pytest.mark.parametrize("style", STYLES)
def test_beats_are_heard(rendered, style):
    score, waveform = rendered[style]
    features = music_features(soxr.resample(waveform.mean(axis=1), SAMPLING_RATE, 15360))
    found = np.flatnonzero(features[:, BEAT]) / 30
    assert f_measure(found, score.beat_times) > 0.85
    assert f_measure(found, score.beat_times + 30 / score.tempo) < 0.3  # the measure can tell a beat from an off-beat


def test_sounds_start_exactly_on_the_beat():
    score = compose(4, style="disco", tempo=90, first_beat=0.3)
    kicks = tuple(note for note in score.notes if note.instrument == "kick")
    assert [note.time for note in kicks] == pytest.approx(score.beat_times)
    waveform = np.abs(dataclasses.replace(score, notes=kicks).render()).max(axis=1)
    assert waveform[: round(0.3 * SAMPLING_RATE) - 1].max() < 1e-9
    for beat in score.beat_times[:-1]:  # the last one lies in the fade-out
        sample = round(beat * SAMPLING_RATE)
        assert waveform[sample : sample + 88].max() > 10 * waveform[max(0, sample - 441) : sample].max()


def test_same_seed_same_song():
    one, same, other = (compose(3, style="rumba", seed=seed) for seed in (5, 5, 6))
    assert one == same and np.array_equal(one.render(), same.render())
    assert one.notes != other.notes
    given_tempo = compose(3, style="rumba", seed=5, tempo=100)  # one argument leaves the seed's other choices alone
    assert (given_tempo.key, given_tempo.energy) == (one.key, one.energy) and given_tempo.tempo == 100
    songs = [compose(8, seed=seed) for seed in range(20)]
    assert len({s.tempo for s in songs}) > 5 and len({s.key for s in songs}) > 5 and len({s.notes for s in songs}) == 20


@given(
    style=st.sampled_from(sorted(STYLES)),
    seconds=st.floats(1, 40),
    tempo=st.none() | st.floats(40, 240),
    energy=st.none() | st.floats(0, 1),
    first_beat=st.floats(0, 0.9),
    seed=st.integers(0, 2**40),
)
def test_any_score(style, seconds, tempo, energy, first_beat, seed):
    score = compose(seconds, style=style, tempo=tempo, energy=energy, first_beat=first_beat, seed=seed)
    beats = score.beat_times
    assert beats[0] == first_beat and beats[-1] < seconds <= beats[-1] + 60 / score.tempo + 1e-6
    assert np.allclose(np.diff(beats), 60 / score.tempo)
    assert np.array_equal(score.downbeat_times, beats[:: STYLES[style].beats_per_bar])
    times = np.array([note.time for note in score.notes])
    assert first_beat <= times.min() and times.max() < seconds and (np.diff(times) >= 0).all()
    assert all(0 < note.velocity <= 1 and (note.pitch == 0 or 28 <= note.pitch <= 90) for note in score.notes)
    sixteenths = (times - first_beat) * score.tempo / 15
    assert np.allclose(sixteenths, sixteenths.round(), atol=1e-6)
    bass_times = {note.time for note in score.notes if note.instrument == "bass"}
    assert all(any(abs(beat - time) < 1e-6 for time in bass_times) for beat in score.downbeat_times)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"style": "tango"}, "style='tango': give one of disco, pop, chacha, rumba, waltz"),
        ({"seconds": 0.5}, "seconds=0.5: give a number from 1"),
        ({"seconds": float("nan")}, "seconds=nan: give"),
        ({"tempo": 20}, "tempo=20: give a number from 40 to 240"),
        ({"energy": 1.5}, "energy=1.5: give a number from 0 to 1"),
        ({"key": "H"}, "key='H': give one of C, C#"),
        ({"seed": -1}, "seed=-1: give"),
        ({"first_beat": 30}, "first_beat=30: give"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        compose(**options)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_command_writes_song_and_beats(tmp_path, capsys, suffix):
    out, beats = tmp_path / f"song.{suffix}", tmp_path / "song.beats"
    assert main([str(out), "--seconds", "2", "--style", "waltz", "--tempo", "120", "--beats", str(beats)]) == 0
    assert "2 s of waltz" in capsys.readouterr().out
    waveform, rate = soundfile.read(out)
    assert rate == SAMPLING_RATE and abs(len(waveform) - 2 * rate) < 3000 and np.abs(waveform).max() > 0.3
    assert beats.read_text() == "0.000000\t1\n0.500000\t2\n1.000000\t3\n1.500000\t1\n"
    assert {path.name for path in tmp_path.iterdir()} == {out.name, "song.beats"}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["song.txt"], "end it in .wav, .flac, .ogg or .mp3"),
        (["nowhere/song.wav"], "there is no folder"),
        (["song.wav", "--tempo", "1000"], "tempo=1000.0: give"),
    ],
)
def test_command_refuses_in_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_teaches(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(style in text for style in STYLES) and "example:" in text and "%(prog)" not in text


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "song.wav"
    path.write_bytes(b"old")

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(FileError, match="song.wav cannot be written .No space"):
        write_song(path, 1)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_a_composed_clip_knows_its_beats():
    clip = composed_clip(3, seconds=12)
    assert clip.paired and len(clip) == 360 and clip.check().input_features.shape == (360, 35)
    envelope = clip.input_features[:, 32]
    beats = np.arange(clip.first_beat_s, 11.5, clip.beat_period_s) * 30
    # onsets are heard within a frame or two of the beats that the clip names, and not half a beat later
    near = [envelope[int(b) : int(b) + 4].max() for b in beats]
    between = [envelope[int(b) : int(b) + 4].max() for b in beats[:-1] + clip.beat_period_s * 7.5]
    assert np.mean(near) > 1.5 * np.mean(between)
    np.testing.assert_array_equal(composed_clip(3, seconds=12).input_features, clip.input_features)
