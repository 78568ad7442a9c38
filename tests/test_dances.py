"""Excerpts of songs, and the dances that are generated to them in batches."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import GENRES, song, tiny_generator, tiny_tokenizer

from megadance_hf.data.clip import clip_motion
from megadance_hf.data.rhythm import bar_phase
from megadance_hf.evaluation import dances
from megadance_hf.evaluation.dances import Dancer, Excerpt, excerpts_of
from megadance_hf.modeling.feature_extraction_megadance import MegaDanceFeatureExtractor
from megadance_hf.modeling.music_features_megadance import BEAT
from megadance_hf.modeling.processing_megadance import MegaDanceProcessor
from megadance_hf.pipeline import MusicToDancePipeline


@pytest.fixture(scope="module")
def pipe():
    torch.manual_seed(0)
    processor = MegaDanceProcessor(MegaDanceFeatureExtractor(), list(GENRES))
    return MusicToDancePipeline(tiny_generator(), tiny_tokenizer(), processor)


@pytest.fixture
def excerpts():
    return excerpts_of([song(0), song(1, 260, 0.7, "rumba"), song(2, 64, 0.6, "chacha")], 96)


def test_dances_have_their_excerpts_lengths_and_seeds(pipe, excerpts):
    counted = []
    made = Dancer(pipe, 3, 0, counted.append)("right", dances.own_music(excerpts))
    assert [(d.excerpt, d.seed, d.genre, len(d.joints)) for d in made] == [
        (index, seed, genre, frames)
        for index, (genre, frames) in enumerate([("waltz", 96), ("rumba", 96), ("chacha", 64)])
        for seed in range(3)
    ]
    assert sum(counted) == 9
    assert all(np.isfinite(dance.joints).all() for dance in made)
    for dance in made:  # the same codes, with the pipeline's clean-up
        codes = tuple(torch.from_numpy(stream)[None] for stream in dance.codes)
        (cleaned,) = pipe.processor.post_process_motion(
            codes, pipe.tokenizer, len(dance.joints), clean=True, begins=False, ends=False
        )
        np.testing.assert_allclose(dance.cleaned.translation, cleaned["translation"], atol=1e-5)
        assert not np.array_equal(dance.cleaned.translation, dance.translation)
        assert dance.cleaned.seed == dance.seed and dance.cleaned.codes is dance.codes
    assert not np.array_equal(made[0].poses, made[1].poses)


def test_dances_are_fixed_by_key_and_seed_alone(pipe, excerpts):
    requests = dances.own_music(excerpts)
    first, again = (Dancer(pipe, 2, 5)("right", requests) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.poses, other.poses)
    for dancer, key in ((Dancer(pipe, 2, 6), "right"), (Dancer(pipe, 2, 5), "forced")):
        assert not np.array_equal(dancer(key, requests)[0].poses, first[0].poses)


@pytest.mark.parametrize("tempo", ["free", "steady"])
def test_excerpts_are_heard_with_their_whole_song(pipe, tempo, monkeypatch):
    """The twin: a window of the whole song, one excerpt and one code after the other."""
    model = tiny_generator(rhythm_size=8, rhythm_layers=3, rhythm_tempo=tempo, music_columns=[], music_to_codes=True)
    model.generation_config.do_sample = False
    monkeypatch.setattr(pipe, "model", model)
    found = excerpts_of([song(0, 301), song(1, 261, 0.7, "rumba"), song(2, 101, 0.6, "chacha")], 96, 82)
    assert [item.start for item in found] == [0, 82, 164, 0, 82, 164, 0]
    made = Dancer(pipe, 1, 0)("right", dances.own_music(found))
    alone = Dancer(pipe, 1, 0)("right", [replace(r, music=r.input_features, start=0) for r in dances.own_music(found)])
    for item, dance in zip(found, made, strict=True):
        whole = torch.from_numpy(item.song.input_features[None])
        if len(item.song) == 101:  # the excerpt is the song
            whole = whole[:, :96]
        piece = slice(item.start, item.start + 96)
        with torch.no_grad():
            rhythm = model.model.encode_rhythm(whole)[:, piece]
            genre = torch.tensor([pipe.processor.genre_id(item.clip.genre)])
            codes = [torch.from_numpy(stream[None, :1]) for stream in dance.codes]
            for index in range(1, 12):
                output = model(whole[:, piece][:, : 8 * index], *codes, genre, rhythm=rhythm[:, : 8 * index])
                new = [logits[:, -1:].argmax(-1) for logits in (output.upper_logits, output.lower_logits)]
                codes = [torch.cat(pair, 1) for pair in zip(codes, new, strict=True)]
        for stream, expected in zip(dance.codes, codes, strict=True):
            np.testing.assert_array_equal(stream, expected[0])
    assert any(not np.array_equal(one.codes[0], other.codes[0]) for one, other in zip(made, alone, strict=True))


def test_batches_are_no_larger_than_allowed(pipe, excerpts, monkeypatch):
    monkeypatch.setattr(dances, "DANCES_AT_ONCE", 4)
    sizes = []
    Dancer(pipe, 3, 0, sizes.append)("right", dances.own_music(excerpts))
    assert sizes == [4, 4, 1]


def test_a_cut_is_a_clip_of_its_own():
    whole = song(3, 200)
    piece = dances.cut(whole, 50, 64)
    np.testing.assert_array_equal(piece.poses, whole.poses[50:114])
    assert piece.first_beat_s == pytest.approx(0.1 - 50 / 30) and piece.check(GENRES) is piece
    np.testing.assert_allclose(clip_motion(piece)[:-1], clip_motion(whole)[50:113], atol=1e-6)
    assert dances.cut(whole, 0, 64).id == "song3"


def test_an_excerpt_keeps_its_place_in_the_music():
    whole = song(1, 200, period=0.4)
    later = excerpts_of([whole], 80, 60)[1]
    assert (later.start, later.clip.id, len(later.clip)) == (60, "song1@60", 80)
    np.testing.assert_array_equal(later.clip.input_features, whole.input_features[60:140])
    phases = [bar_phase(clip) for clip in (later.clip, whole)]
    np.testing.assert_allclose(phases[0], phases[1][60:140], atol=1e-4)


def test_excerpts_with_a_marked_frame_are_left_out():
    whole = song(0, 260, 0.7, "rumba")
    whole.marked_frames = [100, 400]  # the second lies beyond its end
    assert [item.start for item in excerpts_of([whole], 80, 40)] == [0, 120, 160]
    assert excerpts_of([whole], 104) == []


# --- right and wrong music, right and wrong genres ------------------------------------------------------------------------


def test_music_is_heard_as_said():
    one, other = song(1, period=0.4), song(2, frames=120)
    mean = np.arange(35.0)
    assert dances.music_as("right", one, other, mean) is one.input_features
    shifted = dances.music_as("shifted", one, other, mean)
    np.testing.assert_array_equal(shifted[18:], one.input_features[:-18])  # one and a half beats
    np.testing.assert_array_equal(dances.music_as("swapped", one, other, mean)[120:240], other.input_features)
    np.testing.assert_array_equal(dances.music_as("zeroed", one, None, mean), np.tile(mean, (300, 1)))


def test_the_shift_needs_no_known_beat():
    unknown = {"beat_period_s": None, "first_beat_s": None}
    assert dances.beat_period(song(1, period=0.4, **unknown)) == pytest.approx(0.4)
    silent = song(1, **unknown)
    silent.input_features[:, BEAT] = 0
    shifted = dances.music_as("shifted", silent, None, np.zeros(35))
    np.testing.assert_array_equal(shifted[21:], silent.input_features[:-21])


def test_another_song_is_long_enough_and_of_another_tempo():
    songs = [song(0), song(1), song(2, period=0.7), song(3, frames=200, period=0.7)]
    assert dances.other_songs(songs, [300] * 4) == [2, 2, 0, 0]
    assert dances.other_songs(songs, [200] * 4) == [2, 2, 0, 0]
    assert dances.other_songs([songs[0], songs[3]], [300, 200]) == [1, 0]  # a short one is better than none
    same = song(0, genre="rumba")
    assert dances.same_track(songs[0], same) and not dances.same_track(songs[0], songs[1])
    assert dances.other_songs([songs[0], same], [300, 300]) == [None, None]


def test_wrong_music_is_cut_where_the_excerpt_is():
    whole = [song(0, 300, 0.4), song(1, 300, 0.6)]
    excerpts = [excerpts_of([clip], 96, 48)[2] for clip in whole]
    shifted = dances.wrong_music(excerpts, [1, 0], "shifted", np.zeros(35))
    np.testing.assert_array_equal(shifted[0].input_features, whole[0].input_features[96 - 18 : 192 - 18])
    swapped = dances.wrong_music(excerpts, [1, None], "swapped", np.zeros(35))
    assert [wish.excerpt for wish in swapped] == [0]
    np.testing.assert_array_equal(swapped[0].input_features, whole[1].input_features[96:192])
    assert swapped[0].genre == "waltz"


def test_wrong_genres_are_four_others_drawn_once():
    excerpts = [Excerpt(song(n, genre="g0"), song(n)) for n in range(30)]
    names = [f"g{n}" for n in range(9)]
    requests = dances.wrong_genres(excerpts, names, 0)
    by_excerpt = [{request.genre for request in requests if request.excerpt == n} for n in range(30)]
    assert all(len(genres) == 4 and "g0" not in genres for genres in by_excerpt)
    assert set.union(*by_excerpt) == set(names[1:]) and len(set(map(frozenset, by_excerpt))) > 10
    again = dances.wrong_genres(excerpts, names, 0)
    drawn = [
        [request.genre for request in found] for found in (again, requests, dances.wrong_genres(excerpts, names, 1))
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    few = dances.wrong_genres(excerpts[:1], ["g0", "g1", "g2"], 0)
    assert {request.genre for request in few} == {"g1", "g2"}
