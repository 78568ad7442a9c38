"""Clips made up for tests: random dances, and rulers whose numbers say where they were cut."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import torch

from megadance_hf.data.card import Card
from megadance_hf.data.clip import Clip

TICK = 1e-3  # metres: the root of `ruler` moves this much further in every frame
GENRES = ("waltz", "rumba")
CARD = Card(title="Test: dances", description="Made by a test.", licence="None needed.")
GRID = {"beat_period_s": 0.5, "first_beat_s": 0.3, "beats_per_bar": 3, "first_beat_is_downbeat": True}


def dance(name="a", frames=100, seed=0, music=True, genre="waltz", **values) -> Clip:
    generator = np.random.default_rng(seed)
    poses = np.cumsum(generator.normal(size=(frames, 72), scale=0.03), axis=0).astype(np.float32)
    translation = np.cumsum(generator.normal(size=(frames, 3), scale=0.01), axis=0).astype(np.float32)
    features = None
    if music:
        features = generator.normal(size=(frames, 35)).astype(np.float32)
        features[:, 33:] = generator.random((frames, 2)) < 0.1
    return Clip(name, poses, translation, features, genre=genre, **values)


def ruler(name="r", frames=100, **values) -> Clip:
    """A clip that can be read like a ruler: the root's step at frame t is t * TICK along x, and music column 0 is t."""
    clip = dance(name, frames, **values)
    step = np.arange(frames) * TICK
    clip.translation = np.stack([np.cumsum(step) - step, 0 * step, 0 * step], axis=1).astype(np.float32)
    clip.poses = np.zeros_like(clip.poses)
    if clip.input_features is not None:
        clip.input_features[:, 0] = np.arange(frames)
    return clip


def ruler_encode(motion):
    """A tokenizer for rulers: the code of 8 frames is the number of the first; the lower code says whether it is mirrored."""
    assert motion.shape[0] == 1 and motion.shape[1] % 8 == 0 and motion.shape[2] == 147
    first = torch.round(motion[:, ::8, 0] / TICK).long()
    return SimpleNamespace(upper_codes=first.abs(), lower_codes=(motion[:, 4::8, 0] < 0).long())


def same(left: dict, right: dict) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def make_clip(name="a", frames=20, seed=0, **values) -> Clip:
    generator = np.random.default_rng(seed)
    poses = np.cumsum(generator.normal(size=(frames, 72), scale=0.02), axis=0)
    translation = np.cumsum(generator.normal(size=(frames, 3), scale=0.01), axis=0)
    return Clip(name, poses.astype(np.float32), translation.astype(np.float32), **values)


def assert_equal(got: Clip, expected: Clip) -> None:
    for item in dataclasses.fields(Clip):
        left, right = getattr(got, item.name), getattr(expected, item.name)
        if isinstance(right, np.ndarray):
            assert left.dtype == np.float32 and left.flags.writeable
            np.testing.assert_array_equal(left, right)
        else:
            assert left == right, item.name
