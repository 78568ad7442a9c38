"""Synthetic dances: composed songs with choreographed dances, to test models and measures on.

There is no raw folder: every clip is a pure function of its number and the seed, free of third-party licences, with exactly known
beats, bars and genre. A genre is a vocabulary of movements (`choreographer.GENRES`), independent of the style of the song
(`composer.STYLES`) and of its metre (3/4 or 4/4). So a model can learn the genre only from its label, and the beat only from the music.
"""

from pathlib import Path
from typing import Any

import numpy as np
import soxr

from megadance_hf.data.card import Card
from megadance_hf.data.clip import Clip
from megadance_hf.data.preparation import RawClip, Report, prepare_clips
from megadance_hf.data.songs import encode_ogg, music_features
from megadance_hf.synthetic.choreographer import FPS, GENRES, choreograph
from megadance_hf.synthetic.composer import SAMPLING_RATE, STYLES, compose

# Beats per minute: figures on every beat would be dull below, and jittery above.
TEMPO = (76.0, 112.0)
# Of sixteen clips of a genre one is for validation and three are for testing.
TURNS = ("train", "test", "train", "train", "validation", *["train"] * 4, "test", *["train"] * 4, "test", "train")
LICENCE = "Apache-2.0"
# Part of every clip's fingerprint: raise it when the same number gives another song or dance.
VERSION = 2
CARD = Card(
    title="Synthetic dances (SMPL, 30 fps)",
    description="Songs composed and dances choreographed by megadance_hf: five genres of movement, danced to five styles of music in any "
    "combination, at 76 to 112 beats per minute. The dancer comes to rest on every beat and dances the first beat of a bar larger; "
    "beats, bars and genres are known exactly. A test bed, not a model of how people dance.",
    licence="Made by the code of megadance_hf, Apache-2.0.",
    licence_id="apache-2.0",
    share_audio=True,
)


def list_raw(clips: int = 80, seconds: float = 24.0, seed: int = 0) -> list[RawClip]:
    """`clips` clips, the genres in turn."""
    names, raws = list(GENRES), []
    for number in range(clips):
        turn, index = divmod(number, len(names))
        record = {"genre": names[index], "seconds": float(seconds), "seed": [seed, number], "version": VERSION}
        raws.append(RawClip(f"{names[index]}_{turn:03d}", TURNS[turn % len(TURNS)], (), record))
    return raws


def make(raw: RawClip) -> Clip:
    """Composes the song and choreographs the dance of one clip."""
    record = raw.record
    rng = np.random.default_rng(record["seed"])
    frames = round(FPS * record["seconds"])
    score = compose(
        frames / FPS,
        style=list(STYLES)[rng.integers(len(STYLES))],
        tempo=float(rng.uniform(*TEMPO)),
        energy=float(rng.uniform(0.3, 1)),
        first_beat=float(rng.uniform(0, 1)),
        seed=int(rng.integers(2**31)),
    )
    dance = choreograph(
        record["genre"],
        frames / FPS,
        score.tempo,
        score.beats_per_bar,
        first_beat=score.first_beat,
        energy=score.energy,
        seed=int(rng.integers(2**31)),
    )
    rate = SAMPLING_RATE // 2
    audio = encode_ogg(soxr.resample(score.render().mean(1), SAMPLING_RATE, rate).astype(np.float32), rate)
    return Clip(
        id=raw.id,
        poses=dance.poses,
        translation=dance.translation,
        input_features=music_features(audio, frames),
        audio=audio,
        genre=record["genre"],
        split=raw.split,
        source=f"composed ({score.style}, {score.tempo:.1f} beats a minute) and choreographed by megadance_hf",
        licence=LICENCE,
        song=raw.id,
        beat_period_s=60 / score.tempo,
        first_beat_s=score.first_beat,
        beats_per_bar=score.beats_per_bar,
        first_beat_is_downbeat=True,
        phase_confidence="high",
    )


def prepare(out: str | Path, clips: int = 80, seconds: float = 24.0, seed: int = 0, **options: Any) -> Report:
    """Makes the data set in the folder `out`, with the splits train, validation and test; see `prepare_clips`.

    Args:
        out: folder of the prepared data set.
        clips: how many; with fewer than 25 some genre has no test or no validation clip.
        seconds: length of each, 2 or more.
        seed: another number gives other songs and dances.
        options: `num_proc`, `progress` of `prepare_clips`.

    Raises:
        ValueError: a number out of range.
    """
    if clips < 1 or seconds < 2 or seed < 0:
        raise ValueError(f"clips={clips}, seconds={seconds}, seed={seed}: give 1 or more, 2 or more, 0 or more")
    raws = list_raw(clips, seconds, seed)
    return prepare_clips(raws, make, out, card=CARD, genres=list(GENRES), **options)
