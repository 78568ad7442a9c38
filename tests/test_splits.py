"""Whole songs are held back, always the same."""

import numpy as np

from megadance_hf.data.clip import Clip
from megadance_hf.data.splits import hold_back, songs_of


def sung(name: str, song: str | None = None, genre: str = "waltz", seed: int | None = None, frames: int = 40) -> Clip:
    """A clip of a song; with a seed its music is that seed's, without it has none."""
    features = None if seed is None else np.random.default_rng(seed).normal(size=(frames, 35)).astype(np.float32)
    still = np.zeros((frames, 72), np.float32)
    return Clip(name, still, still[:, :3], input_features=features, genre=genre, song=song)


def test_a_songs_clips_are_known_by_name_or_by_how_they_begin():
    clips = [sung("a", "x"), sung("b", "y", seed=1), sung("c", "x", seed=2)]
    clips += [sung("d", seed=3), sung("e", seed=4), sung("f", seed=3, frames=30), sung("g"), sung("h")]
    clips[5].input_features = clips[3].input_features[:30] + 1e-3  # another encoder's
    assert songs_of(clips) == [0, 1, 0, 2, 3, 2, 4, 5]


def test_whole_songs_are_held_back_the_same_ones_always():
    clips = [sung(f"{song}{part}", f"song{song}", seed=song) for song in range(20) for part in range(2)]
    train, held = hold_back(clips)
    names = {clip.song for clip in held}
    assert len(names) == 2 and len(held) == 4 and names.isdisjoint(clip.song for clip in train)
    assert [clip.id for clip in train] == [clip.id for clip in clips if clip.song not in names]
    again, same = hold_back(list(clips))
    assert [c.id for c in same] == [c.id for c in held] and [c.id for c in again] == [c.id for c in train]
    assert hold_back(clips, 0) == (clips, [])


def test_the_only_song_of_a_genre_and_songs_without_music_are_kept_where_that_can_be():
    clips = [
        sung("a", "a", "waltz", 1),
        sung("b", "b", "rumba", 2),
        sung("c", "c", "rumba", 3),
        sung("d", "d", "rumba"),
    ]
    for share in (0.1, 0.5, 0.9):
        train, held = hold_back(clips, share)
        assert {clip.genre for clip in train} == {"waltz", "rumba"} and all(clip.paired for clip in held) and held
    alone = [sung(name, name, name, seed) for seed, name in enumerate(("a", "b", "c"))]
    train, held = hold_back(alone)
    assert len(train) == 2 and len(held) == 1, "each is the only one of its genre"
    assert hold_back(alone[:1]) == (alone[:1], [])
    assert hold_back([alone[0], sung("d", "d")])[1] == [], "else there would be no music to train on"
    silent = [sung("a", "a"), sung("b", "b")]
    assert [len(part) for part in hold_back(silent)] == [1, 1]
