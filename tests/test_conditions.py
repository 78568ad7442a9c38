"""Right and wrong music, right and wrong genres: what the model is asked to dance to."""

import numpy as np
import pytest
from helpers import song

from megadance_hf.evaluation import conditions
from megadance_hf.evaluation.dances import Excerpt, excerpts_of
from megadance_hf.modeling.music_features_megadance import BEAT


def test_music_is_heard_as_said():
    one, other = song(1, period=0.4), song(2, frames=120)
    mean = np.arange(35.0)
    assert conditions.music_as("right", one, other, mean) is one.input_features
    shifted = conditions.music_as("shifted", one, other, mean)
    np.testing.assert_array_equal(shifted[18:], one.input_features[:-18])  # one and a half beats
    np.testing.assert_array_equal(conditions.music_as("swapped", one, other, mean)[120:240], other.input_features)
    np.testing.assert_array_equal(conditions.music_as("zeroed", one, None, mean), np.tile(mean, (300, 1)))


def test_the_shift_needs_no_known_beat():
    unknown = {"beat_period_s": None, "first_beat_s": None}
    assert conditions.beat_period(song(1, period=0.4, **unknown)) == pytest.approx(0.4)
    silent = song(1, **unknown)
    silent.input_features[:, BEAT] = 0
    shifted = conditions.music_as("shifted", silent, None, np.zeros(35))
    np.testing.assert_array_equal(shifted[21:], silent.input_features[:-21])


def test_another_song_is_long_enough_and_of_another_tempo():
    songs = [song(0), song(1), song(2, period=0.7), song(3, frames=200, period=0.7)]
    assert conditions.other_songs(songs, [300] * 4) == [2, 2, 0, 0]
    assert conditions.other_songs(songs, [200] * 4) == [2, 2, 0, 0]
    assert conditions.other_songs([songs[0], songs[3]], [300, 200]) == [1, 0]  # a short one is better than none
    same = song(0, genre="rumba")
    assert conditions.same_track(songs[0], same) and not conditions.same_track(songs[0], songs[1])
    assert conditions.other_songs([songs[0], same], [300, 300]) == [None, None]


def test_wrong_music_is_cut_where_the_excerpt_is():
    whole = [song(0, 300, 0.4), song(1, 300, 0.6)]
    excerpts = [excerpts_of([clip], 96, 48)[2] for clip in whole]
    shifted = conditions.wrong_music(excerpts, [1, 0], "shifted", np.zeros(35))
    np.testing.assert_array_equal(shifted[0][1], whole[0].input_features[96 - 18 : 192 - 18])
    swapped = conditions.wrong_music(excerpts, [1, None], "swapped", np.zeros(35))
    assert [wish[0] for wish in swapped] == [0]
    np.testing.assert_array_equal(swapped[0][1], whole[1].input_features[96:192])
    assert swapped[0][2] == "waltz"


def test_wrong_genres_are_four_others_drawn_once():
    excerpts = [Excerpt(song(n, genre="g0"), song(n)) for n in range(30)]
    names = [f"g{n}" for n in range(9)]
    requests = conditions.wrong_genres(excerpts, names, 0)
    by_excerpt = [{genre for index, _, genre in requests if index == n} for n in range(30)]
    assert all(len(genres) == 4 and "g0" not in genres for genres in by_excerpt)
    assert set.union(*by_excerpt) == set(names[1:]) and len(set(map(frozenset, by_excerpt))) > 10
    again = conditions.wrong_genres(excerpts, names, 0)
    assert (
        [w[2] for w in again] == [w[2] for w in requests] != [w[2] for w in conditions.wrong_genres(excerpts, names, 1)]
    )
    assert {genre for _, _, genre in conditions.wrong_genres(excerpts[:1], ["g0", "g1", "g2"], 0)} == {"g1", "g2"}
