"""Small trainings of every kind, for tests in this process and, as a script, in others, one after the other:

python tests/runs.py OUTPUT '{"generator": {"epochs": 2}, "rhythm": {"resume": true}}'
"""

import functools
import json
import os
import sys
from dataclasses import fields, replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from accelerate import DistributedType, PartialState

from megadance_hf.data.augmentation import MusicAugmentation
from megadance_hf.data.clip import Clip
from megadance_hf.data.codes import encode_clips
from megadance_hf.data.sampling import EpochSampler, collate
from megadance_hf.data.segments import CodeSegments, MotionSegments, RhythmSegments
from megadance_hf.data.statistics import Statistics, segment_statistics
from megadance_hf.modeling import batched_experts_megadance, scan_megadance
from megadance_hf.modeling.configuration_megadance import (
    MegaDanceClassifierConfig,
    MegaDanceConfig,
    MegaDanceTokenizerConfig,
)
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration
from megadance_hf.modeling.modeling_megadance_classifier import MegaDanceForGenreClassification
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizer
from megadance_hf.training import loop
from megadance_hf.training.config import TrainingConfig
from megadance_hf.training.tasks import ClassifierTask, GeneratorTask, RhythmTask, TokenizerTask

GENRES = ("waltz", "rumba", "tango", "samba")
TINY_TOKENIZER = {"hidden_size": 16, "code_size": 8, "levels": [3, 3], "normalize_scalars": True}
TINY_GENERATOR = {
    "codebook_size": 9,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "state_size": 4,
    "music_hidden_size": 8,
    "output_hidden_size": 16,
    "dropout": 0.2,
    "id2label": dict(enumerate(GENRES)),
}
TINY_CLASSIFIER = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}


def clips(count: int = 4, frames: int = 120) -> list[Clip]:
    """Smooth swings at a tempo of their own, with music features; two genres of four."""
    generator = np.random.default_rng(0)
    result = []
    for number in range(count):
        time = np.arange(frames)[:, None] / 30 * (1 + 0.2 * number)
        swing = np.sin(2 * np.pi * time + generator.uniform(0, 6, (1, 72))) * generator.uniform(0, 0.5, (1, 72))
        translation = [0.2 * np.sin(time), 1 + 0.05 * np.sin(9 * time), 0.1 * time]
        result.append(
            Clip(
                id=f"clip{number}",
                poses=swing.astype(np.float32),
                translation=np.concatenate(translation, 1).astype(np.float32),
                input_features=generator.random((frames, 35), dtype=np.float32),
                genre=GENRES[number % 2],
            )
        )
    return result


def _split(options: dict, **defaults) -> tuple[TrainingConfig, dict, dict]:
    """Settings of the training, of the model, and the arguments of `train` among `options`."""
    defaults = {"epochs": 2, "batch_size": 4, "seed": 3, **defaults, **options}
    model = defaults.pop("model", {})
    known = {field.name for field in fields(TrainingConfig)}
    settings = {name: defaults.pop(name) for name in list(defaults) if name in known}
    return TrainingConfig(**settings), model, defaults


def _run(model, task, segments, config, output, options):
    """Curves are drawn where that is tested (`curves=True`): it takes longer than these trainings."""
    draw = loop.plot_curves if options.pop("curves", False) else lambda metrics, picture: None
    with mock.patch.object(loop, "plot_curves", draw):
        sampler = EpochSampler(segments, config.seed)
        return loop.train(model, task, segments, sampler, collate, config, output, **options), model


def tokenizer_run(output, **options):
    config, sizes, options = _split(options, ema_decay=0.9, learning_rate=3e-3)
    segments = MotionSegments(clips(), length=64, stride=16, seed=config.seed)
    torch.manual_seed(0)
    model = MegaDanceTokenizer(MegaDanceTokenizerConfig(**TINY_TOKENIZER | sizes))
    statistics = Statistics.from_clips(clips())
    model.set_statistics(statistics.motion_mean, statistics.motion_std)
    model.calibrate(collate([segments[index] for index in range(4)])["motion"])
    return _run(model, TokenizerTask(clips()[:1], soft_share=0.2, ramp_share=0.1), segments, config, output, options)


def vq_run(output, **options):
    return tokenizer_run(output, **options | {"model": {"quantizer": "vq"} | options.get("model", {})})


def generator_run(output, **options):
    settings = {"schedule": "cosine", "warmup_steps": 2, "weight_decay": 0.01, "keep_best": True}
    config, sizes, options = _split(options, **settings)
    torch.manual_seed(0)
    codec = MegaDanceTokenizer(MegaDanceTokenizerConfig(**TINY_TOKENIZER)).eval()
    statistics = Statistics.from_clips(clips())
    segments = CodeSegments(
        encode_clips(codec, clips()), GENRES, statistics, length=64, augmentation=MusicAugmentation(), seed=config.seed
    )
    held_out = CodeSegments(encode_clips(codec, clips(2), mirror=False), GENRES, statistics, length=64, random=False)
    model = MegaDanceForMotionGeneration(MegaDanceConfig(**TINY_GENERATOR | sizes))
    model.set_music_statistics(statistics.input_mean, statistics.input_std)
    return _run(model, GeneratorTask(held_out, code_noise=0.3), segments, config, output, options)


def rhythm_run(output, **options):
    config, sizes, options = _split(options, learning_rate=3e-3)
    known = {"first_beat_s": 0.1, "beat_period_s": 0.4}
    # of one song in two the bar is known as well
    songs = [
        replace(clip, **known, beats_per_bar=3 * (n % 2), first_beat_is_downbeat=True) for n, clip in enumerate(clips())
    ]
    statistics = Statistics.from_clips(songs)
    segments = RhythmSegments(songs, statistics, length=48, augmentation=MusicAugmentation(), tempo=1.2, seed=3)
    torch.manual_seed(0)
    model = MegaDanceForMotionGeneration(
        MegaDanceConfig(**TINY_GENERATOR | {"rhythm_size": 8, "rhythm_layers": 2} | sizes)
    )
    model.requires_grad_(False)
    model.model.rhythm_encoder.requires_grad_(True)
    return _run(model, RhythmTask(songs[:2]), segments, config, output, options)


def classifier_run(output, **options):
    config, sizes, options = _split(options, learning_rate=1e-3, keep_best=True)
    segments = MotionSegments(clips(), length=64, seed=3, genres=GENRES)
    held_out = MotionSegments(clips(2), length=64, random=False, mirror=False, genres=GENRES)
    torch.manual_seed(0)
    labels = {"num_outputs": len(GENRES), "id2label": dict(enumerate(GENRES))}
    model = MegaDanceForGenreClassification(MegaDanceClassifierConfig(**TINY_CLASSIFIER | labels | sizes))
    model.set_statistics(*segment_statistics(held_out))
    return _run(model, ClassifierTask(held_out), segments, config, output, options)


RUNS = {
    "classifier": classifier_run,
    "tokenizer": tokenizer_run,
    "vq": vq_run,
    "generator": generator_run,
    "rhythm": rhythm_run,
}


if __name__ == "__main__":
    torch.set_num_threads(1)
    if os.environ.get("ACCELERATE_USE_FSDP"):
        # Accelerate shards on accelerators only, torch on CPUs as well: what follows takes this one for the other
        PartialState(cpu=True)
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    if os.environ.get("MEGADANCE_SIDE_BY_SIDE"):
        # what GPUs compute: experts side by side, scans in logarithmic depth
        batched_experts_megadance.is_worth_it = lambda x: True
        scan_megadance._goes_step_by_step = lambda x: False
    # what is compiled stays a graph: machine code takes minutes
    one_graph = functools.partial(torch.compile, fullgraph=True, backend="aot_eager")
    batched_experts_megadance._in_one_graph = functools.cache(one_graph)
    for kind, settings in json.loads(sys.argv[2]).items():
        RUNS[kind](Path(sys.argv[1]) / kind, **settings)
