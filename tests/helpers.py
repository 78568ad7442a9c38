"""Things more than one test file needs: a whole tiny model and a song."""

import os
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import soundfile
import torch

from megadance_hf.data.card import Card
from megadance_hf.data.clip import Clip
from megadance_hf.data.prepared import write_prepared
from megadance_hf.modeling.configuration_megadance import (
    MegaDanceClassifierConfig,
    MegaDanceConfig,
    MegaDanceTokenizerConfig,
)
from megadance_hf.modeling.feature_extraction_megadance import MegaDanceFeatureExtractor
from megadance_hf.modeling.kinematics_megadance import MOTION_SIZE, NUM_JOINTS, ROOT_SIZE
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration
from megadance_hf.modeling.modeling_megadance_classifier import MegaDanceForGenreClassification
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizer
from megadance_hf.modeling.music_features_megadance import BEAT

GENRES = ("chacha", "rumba", "waltz")
# What `tiny_generator` takes for the arrangements of both releases, with both ways to decode levels, and of the paper.
LAYERS = {"code_head": "factorised", "levels": [3, 9], "mamba_placement": "layers", "norm_per_stream": True}
ARRANGEMENTS = {
    "released_2025": {},
    "released_2026": LAYERS,
    "sequential": {**LAYERS, "level_decoding": "sequential"},
    "paper": {"expert_composition": "parallel", "genre_embedding": True, "music_lookahead": 1},
}


class Streamer:
    """Keeps what `generate` gives to a streamer."""

    def __init__(self):
        self.codes, self.ended = [], False

    def put(self, codes):
        self.codes.append(codes)

    def end(self):
        self.ended = True


def skip_outside_ci(reason: str) -> NoReturn:
    """Something that the test needs is not there. In CI everything has to be, so there it fails."""
    pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


def tiny_tokenizer(**overrides) -> MegaDanceTokenizer:
    """27 codes, random weights; what it decodes are small turns about the rest pose and slow steps."""
    config = MegaDanceTokenizerConfig(levels=[3, 3, 3], hidden_size=8, code_size=8, residual_depth=1, **overrides)
    tokenizer = MegaDanceTokenizer(config).eval()
    mean, std = torch.zeros_like(tokenizer.motion_mean), torch.full_like(tokenizer.motion_std, 0.5)
    mean[ROOT_SIZE:MOTION_SIZE] = torch.tensor([1.0, 0, 0, 0, 1.0, 0]).repeat(NUM_JOINTS)
    std[:ROOT_SIZE] = 0.05
    tokenizer.set_statistics(mean, std)
    return tokenizer


def tiny_generator(**overrides) -> MegaDanceForMotionGeneration:
    """Three genres, random weights large enough that music and genre change what is sampled."""
    sizes = {"codebook_size": 27, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "state_size": 4}
    sizes |= {"intermediate_size": 16, "music_hidden_size": 16, "output_hidden_size": 16, "initializer_range": 0.3}
    return MegaDanceForMotionGeneration(
        MegaDanceConfig(**{**sizes, "id2label": dict(enumerate(GENRES)), **overrides})
    ).eval()


def tiny_classifier() -> MegaDanceForGenreClassification:
    """Three genres, random weights."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    labels = {"num_outputs": len(GENRES), "id2label": dict(enumerate(GENRES))}
    return MegaDanceForGenreClassification(MegaDanceClassifierConfig(**sizes, **labels)).eval()


def save_tiny_model(folder: Path) -> Path:
    """A folder like the bundled model's."""
    torch.manual_seed(0)
    tiny_generator().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder / "tokenizer")
    MegaDanceFeatureExtractor().save_pretrained(folder)
    return folder


def save_tiny_data(folder: Path) -> Path:
    """A prepared data set of four clips with music that may not be passed on."""
    rng = np.random.default_rng(0)
    clips = [
        Clip(
            f"clip{index}",
            rng.normal(size=(24, 72)).astype(np.float32) * 0.01,
            rng.normal(size=(24, 3)).astype(np.float32) * 0.001,
            input_features=rng.random((24, 35)).astype(np.float32),
            audio=b"OggS",
            genre=GENRES[index % 3],
            split="train" if index else "test",
        )
        for index in range(4)
    ]
    write_prepared(folder, clips, card=Card("Three dances", "Made up.", "Free.", "cc0-1.0"), genres=GENRES)
    return folder


def song(number: int, frames: int = 300, period: float = 0.5, genre: str = "waltz", **fields) -> Clip:
    """A clip that sways in place to music of its own; its beats are known unless `fields` say otherwise."""
    generator = np.random.default_rng(number)
    features = generator.standard_normal((frames, 35)).astype(np.float32)
    features[:, BEAT] = 0
    features[(30 * np.arange(0.1, frames / 30, period) + 1e-6).astype(int), BEAT] = 1
    grid = {"beat_period_s": period, "first_beat_s": 0.1, "beats_per_bar": 3, "first_beat_is_downbeat": True}
    poses = 0.2 * np.sin(np.arange(frames)[:, None] / 7 + generator.uniform(0, 6, 72))
    path = np.tile([0.0, 1.0, 0.0], (frames, 1))
    return Clip(
        f"song{number}", poses.astype(np.float32), path.astype(np.float32), features, genre=genre, **(grid | fields)
    )


def click_song(seconds: float, rate: int = 22050, bpm: float = 120) -> np.ndarray:
    """A chord and a click on every beat: float32 (samples,)."""
    time = np.arange(round(seconds * rate)) / rate
    chord = sum(np.sin(2 * np.pi * pitch * time) for pitch in (220.0, 277.2, 329.6))
    since_beat = time % (60 / bpm)
    click = np.exp(-60 * since_beat) * np.sin(2 * np.pi * 1500 * since_beat)
    return (0.1 * chord + 0.5 * click).astype(np.float32)


def noisy_song(seconds: float = 3.0, rate: int = 15360, seed: int = 0) -> np.ndarray:
    """A click every half second over three tones and a little noise: float32 (samples,)."""
    t = np.arange(round(seconds * rate)) / rate
    tones = sum(np.sin(2 * np.pi * f * t) for f in (220.0, 277.2, 329.6))
    clicks = np.exp(-(t % 0.5) / 0.02) * np.sin(2 * np.pi * 1000 * (t % 0.5))
    noise = np.random.default_rng(seed).standard_normal(len(t))
    return (0.1 * tones + 0.5 * clicks + 0.003 * noise).astype(np.float32)


def write_song(path: Path, seconds: float = 2.5, rate: int = 22050, channels: int = 1) -> Path:
    """A sound file; the suffix chooses the format."""
    waveform = click_song(seconds, rate)
    soundfile.write(path, np.stack([waveform] * channels, axis=1), rate)
    return path


def remember(function):
    """`function` of a waveform, computed once for each: the music features cost more than everything else a test does."""
    known = {}

    def remembered(waveform, *args, **options):
        key = (waveform.tobytes(), args, tuple(sorted(options.items())))
        if key not in known:
            known[key] = function(waveform, *args, **options)
        return known[key].copy()

    return remembered
