"""Beats that nobody wrote down: heard from features, told apart from noise, stored with where they come from."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from megadance_hf.data.augmentation import time_stretch
from megadance_hf.data.beats import ESTIMATED, KNOWN, MIN_CONFIDENCE, estimate_beats
from megadance_hf.data.card import Card
from megadance_hf.data.clip import Clip, ClipError
from megadance_hf.data.prepared import read_prepared, write_prepared
from megadance_hf.data.rhythm import bar_phase, beat_phase, rhythm_labels
from megadance_hf.data.segments import RhythmSegments
from megadance_hf.data.statistics import Statistics
from megadance_hf.evaluation.synchrony import known_beats
from megadance_hf.modeling.music_features_megadance import BEAT, ONSET_ENVELOPE, music_features
from megadance_hf.synthetic.composer import composed_clip


@pytest.fixture(scope="module")
def song() -> Clip:
    """A composed song, whose beats are known."""
    return composed_clip(3, seconds=16)


def untold(clip: Clip) -> Clip:
    """The clip as a data set has it that says nothing of beats."""
    nothing = dict.fromkeys(("beat_period_s", "first_beat_s", "beats_per_bar", "beat_source", "beat_confidence"))
    return replace(clip, **nothing, first_beat_is_downbeat=None, phase_confidence=None)


def error_of(phase: np.ndarray, truth: np.ndarray) -> float:
    """The mean difference of phases, in beats."""
    return float(np.abs((phase - truth + 0.5) % 1 - 0.5).mean())


def test_a_songs_beats_are_heard_where_they_are(song):
    clip = untold(song).with_beats()
    assert clip.beat_source == ESTIMATED and clip.beat_confidence > 0.7
    assert clip.beat_period_s == pytest.approx(song.beat_period_s, rel=0.01)
    assert error_of(beat_phase(clip), beat_phase(song)) < 0.04
    assert bar_phase(clip) is None and known_beats(clip) is None and known_beats(song) is not None
    labels = rhythm_labels(clip)
    assert np.isfinite(labels[:, :2]).all() and np.isnan(labels[:, 2:]).all()


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_a_stretched_songs_beats_are_stretched(song, factor):
    long, truth = time_stretch(untold(song).with_beats(), factor), time_stretch(song, factor)
    assert error_of(beat_phase(long), beat_phase(truth)) < 0.06


def test_a_band_that_speeds_up_is_followed():
    """From 2 to 2.5 beats a second: no grid fits, each beat does."""
    features, time = np.zeros((900, 35), np.float32), np.arange(900) / 30
    beats = 2 * time + time**2 / 120
    places = np.flatnonzero(np.diff(np.floor(beats))) + 1
    features[places, BEAT] = features[places, ONSET_ENVELOPE] = 1
    heard = estimate_beats(features)
    assert heard.confidence > 0.9 and heard.period_s == pytest.approx(30 / beats[-1], rel=0.02)
    error = (heard.position - beats + 0.5) % 1 - 0.5
    assert np.abs(error[30:-30] - error.mean()).max() < 0.06


def test_a_missing_flag_is_two_beats_and_a_few_are_none():
    features = np.zeros((300, 35), np.float32)
    features[10:300:15, BEAT] = features[10:300:15, ONSET_ENVELOPE] = 1
    whole = estimate_beats(features).position
    features[100, BEAT] = 0
    np.testing.assert_allclose(estimate_beats(features).position, whole, atol=1e-6)
    features[50:, BEAT] = 0
    assert estimate_beats(features) is None


def test_noise_has_no_beat_that_is_used():
    noise = np.random.default_rng(0).standard_normal(15360 * 12).astype(np.float32)
    clip = Clip("noise", np.zeros((360, 72)), np.zeros((360, 3)), music_features(0.1 * noise)[:360]).with_beats()
    assert clip.beat_source is None or clip.beat_confidence < MIN_CONFIDENCE
    assert beat_phase(clip) is None
    with pytest.raises(ValueError, match="beats that are known or clear"):
        RhythmSegments([clip], Statistics.from_clips([clip]), length=64)


def test_rhythm_is_learned_from_heard_beats_as_from_known_ones(song):
    heard, statistics = untold(song).with_beats(), Statistics.from_clips([song])
    segments = [RhythmSegments([clip], statistics, length=64, tempo=1.2, seed=1) for clip in (heard, song)]
    items = [[one[index]["rhythm_labels"][:, :2] for index in range(len(one))] for one in segments]
    assert len(items[0]) == len(items[1]) > 10
    cosines = [float((a * b).sum(-1).mean()) for a, b in zip(*items, strict=True)]
    assert np.mean(cosines) > 0.95


def test_where_beats_come_from_is_stored_and_told(song, tmp_path):
    silent = Clip("silent", song.poses, song.translation, genre="waltz")
    deaf = replace(untold(song), id="deaf", input_features=np.zeros_like(song.input_features))
    clips = [replace(song, id="told"), replace(untold(song), id="heard"), deaf, silent]
    clips = [replace(clip, genre="waltz") for clip in clips]
    clips[0].beat_source = None  # as a data set's script leaves it
    info = write_prepared(tmp_path, clips, card=Card("T", "D", "L"), genres=["waltz"])
    found = {clip.id: clip for clip in read_prepared(tmp_path, "train")}
    sources = {name: clip.beat_source for name, clip in found.items()}
    assert sources == {"told": KNOWN, "heard": ESTIMATED, "deaf": None, "silent": None}
    assert found["heard"].beat_confidence == pytest.approx(info["beats"]["heard"]) and found["told"].song == song.song
    line = "eats of 3 clips with music: 1 known, 1 estimated from the features (confidence "
    page = (tmp_path / "README.md").read_text()
    assert line in page and "0 below 0.5, which training does not use), 1 without." in page


def test_sets_without_the_columns_are_read_as_before(song, tmp_path):
    clips = [replace(song, id="told", genre="waltz"), replace(untold(song), id="heard", genre="waltz")]
    write_prepared(tmp_path, clips, card=Card("T", "D", "L"), genres=["waltz"])
    table = pq.read_table(tmp_path / "train.parquet").drop_columns(["song", "beat_source", "beat_confidence"])
    heard = table.column_names.index("beat_period_s")
    table = table.set_column(heard, "beat_period_s", [[song.beat_period_s, None]])
    pq.write_table(table, tmp_path / "train.parquet")
    told, heard = read_prepared(tmp_path, "train")
    assert (told.beat_source, heard.beat_source, told.song) == (KNOWN, ESTIMATED, None)
    assert error_of(beat_phase(heard), beat_phase(told)) < 0.04


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"beat_period_s": 0.0}, "beat_period_s=0.0 must be seconds above 0"),
        ({"beat_period_s": float("nan")}, "beat_period_s=nan must be"),
        ({"first_beat_s": float("inf")}, "first_beat_s=inf must be"),
        ({"beat_source": "guess"}, "beat_source='guess' must be 'known', 'estimated' or None"),
    ],
)
def test_beats_that_cannot_be(song, values, message):
    with pytest.raises(ClipError, match=message):
        replace(song, **values).check()
