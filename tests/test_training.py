"""The training loop: that it learns, and that a stopped run goes on as if it had not been stopped."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from megadance_hf.data import (
    CodeWindows,
    EpochSampler,
    MotionWindows,
    MusicAugmentation,
    RhythmWindows,
    Statistics,
    collate,
    encode_clips,
    rhythm_labels,
    window_statistics,
)
from megadance_hf.datasets_scripts.schema import Clip
from megadance_hf.modeling.configuration_megadance import (
    MegaDanceClassifierConfig,
    MegaDanceConfig,
    MegaDanceTokenizerConfig,
)
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration
from megadance_hf.modeling.modeling_megadance_classifier import MegaDanceForGenreClassification
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizer
from megadance_hf.training import (
    ClassifierTask,
    GeneratorTask,
    RhythmTask,
    TokenizerTask,
    TrainingConfig,
    reconstruction_report,
    train,
)

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
    "id2label": {0: "waltz", 1: "rumba"},
}


def clips(count: int = 4, frames: int = 120) -> list[Clip]:
    """Smooth swings at a tempo of their own, with music features."""
    generator = np.random.default_rng(0)
    result = []
    for number in range(count):
        time = np.arange(frames)[:, None] / 30 * (1 + 0.2 * number)
        swing = np.sin(2 * np.pi * time + generator.uniform(0, 6, (1, 72))) * generator.uniform(0, 0.5, (1, 72))
        result.append(
            Clip(
                id=f"clip{number}",
                poses=swing.astype(np.float32),
                translation=np.concatenate([0.2 * np.sin(time), 1 + 0.05 * np.sin(9 * time), 0.1 * time], 1).astype(
                    np.float32
                ),
                input_features=generator.random((frames, 35), dtype=np.float32),
                genre=("waltz", "rumba")[number % 2],
            )
        )
    return result


def tokenizer_run(output, epochs=2, **options):
    config = TrainingConfig(**{"epochs": epochs, "batch_size": 4, "ema_decay": 0.9, "learning_rate": 3e-3, "seed": 3})
    windows = MotionWindows(clips(), length=64, stride=16, seed=config.seed)
    torch.manual_seed(0)
    model = MegaDanceTokenizer(MegaDanceTokenizerConfig(**TINY_TOKENIZER))
    statistics = Statistics.from_clips(clips())
    model.set_statistics(statistics.motion_mean, statistics.motion_std)
    task = TokenizerTask(clips()[:1], soft_share=0.2, ramp_share=0.1)
    return train(model, task, windows, EpochSampler(windows, 3), collate, config, output, **options), model


def generator_run(output, epochs=2, **options):
    config = TrainingConfig(
        epochs=epochs, batch_size=4, schedule="cosine", warmup_steps=2, weight_decay=0.01, keep_best=True, seed=3
    )
    torch.manual_seed(0)
    codec = MegaDanceTokenizer(MegaDanceTokenizerConfig(**TINY_TOKENIZER)).eval()
    statistics = Statistics.from_clips(clips())
    genres = ["waltz", "rumba"]
    windows = CodeWindows(
        encode_clips(codec, clips()), genres, statistics, length=64, augmentation=MusicAugmentation(), seed=config.seed
    )
    held_out = CodeWindows(encode_clips(codec, clips(2), mirror=False), genres, statistics, length=64, random=False)
    model = MegaDanceForMotionGeneration(MegaDanceConfig(**TINY_GENERATOR))
    model.set_music_statistics(statistics.input_mean, statistics.input_std)
    task = GeneratorTask(held_out, code_noise=0.3)
    return train(model, task, windows, EpochSampler(windows, 3), collate, config, output, **options), model


def rhythm_run(output, epochs=2, **options):
    config = TrainingConfig(epochs=epochs, batch_size=4, learning_rate=3e-3, seed=3)
    songs = [replace(clip, first_beat_s=0.1, beat_period_s=0.4) for clip in clips()]
    statistics = Statistics.from_clips(songs)
    windows = RhythmWindows(songs, statistics, length=48, augmentation=MusicAugmentation(), tempo=1.2, seed=3)
    torch.manual_seed(0)
    model = MegaDanceForMotionGeneration(MegaDanceConfig(**TINY_GENERATOR, rhythm_size=8, rhythm_layers=2))
    model.requires_grad_(False)
    model.model.rhythm_encoder.requires_grad_(True)
    return train(
        model, RhythmTask(songs[:2]), windows, EpochSampler(windows, 3), collate, config, output, **options
    ), model


def classifier_run(output, epochs=2, **options):
    config = TrainingConfig(epochs=epochs, batch_size=4, learning_rate=1e-3, keep_best=True, seed=3)
    genres = ["waltz", "rumba"]
    windows = MotionWindows(clips(), length=64, seed=3, genres=genres)
    held_out = MotionWindows(clips(2), length=64, random=False, mirror=False, genres=genres)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    model = MegaDanceForGenreClassification(
        MegaDanceClassifierConfig(**sizes, num_outputs=2, id2label=dict(enumerate(genres)))
    )
    model.set_statistics(*window_statistics(held_out))
    return train(
        model, ClassifierTask(held_out), windows, EpochSampler(windows, 3), collate, config, output, **options
    ), model


RUNS = {"classifier": classifier_run, "tokenizer": tokenizer_run, "generator": generator_run, "rhythm": rhythm_run}


def rows(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("which", RUNS)
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, which):
    run = RUNS[which]
    run(tmp_path / "whole", epochs=3)
    run(tmp_path / "stopped", epochs=3, stop_after_steps=5)
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    run(tmp_path / "stopped", epochs=3, resume=True)
    whole, stopped = (load_file(str(tmp_path / name / "model.safetensors")) for name in ("whole", "stopped"))
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    timeless = [
        [{k: v for k, v in row.items() if k != "windows_per_second"} for row in rows(tmp_path / name)]
        for name in ("whole", "stopped")
    ]
    assert timeless[0] == timeless[1]


@pytest.mark.parametrize("which", RUNS)
def test_the_loss_falls_and_the_folder_is_complete(tmp_path, which):
    report, model = RUNS[which](tmp_path, epochs=8)
    history = rows(tmp_path)
    assert [row["epoch"] for row in history] == list(range(1, 9))
    assert history[-1]["train_loss"] < history[1]["train_loss"]  # the warm-up ends in the first epoch
    assert report["score"] == history[-1]["score"] and np.isfinite(report["score"])
    assert {"config.json", "model.safetensors", "curves.png", "metrics.jsonl"} <= {p.name for p in tmp_path.iterdir()}
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2
    loaded = type(model).from_pretrained(tmp_path)
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True)
    )


def test_the_best_weights_are_kept(tmp_path):
    _, model = generator_run(tmp_path, epochs=4)
    best = load_file(str(tmp_path / "best.safetensors"))
    assert all(torch.equal(value, best[name]) for name, value in model.state_dict().items())


def test_an_abandoned_checkpoint_is_not_resumed_from(tmp_path):
    tokenizer_run(tmp_path / "a", epochs=1)
    (tmp_path / "a" / "checkpoints" / "partial-000009").mkdir()
    report, _ = tokenizer_run(tmp_path / "a", epochs=1, resume=True)
    assert rows(tmp_path / "a")[-1]["epoch"] == 1


def test_reconstruction_report_of_a_perfect_codec():
    class Perfect(torch.nn.Module):
        config = MegaDanceTokenizerConfig(**TINY_TOKENIZER)
        motion_mean = torch.zeros(147)

        def encode(self, motion):
            self.motion = motion
            codes = torch.arange(motion.shape[1] // 8)[None] % 9
            return type("Codes", (), {"upper_codes": codes, "lower_codes": codes})

        def decode(self, upper, lower):
            return self.motion

    report = reconstruction_report(Perfect(), clips(2))
    for name in ("score", "joint_error_world", "joint_error_rotation_aligned", "root_error_30s"):
        assert report[name] == pytest.approx(0, abs=1e-6)
    assert report["jerk_ratio"] == pytest.approx(1) and report["bob_ratio"] == pytest.approx(1)
    assert report["upper_codes_used"] == 1.0


def test_settings_nobody_knows_are_errors():
    with pytest.raises(ValueError, match="training.learningrate is not a setting; the settings are epochs, batch_size"):
        TrainingConfig.from_dict({"learningrate": 1})


def test_too_few_windows_for_a_batch(tmp_path):
    windows = MotionWindows(clips(1, 64), length=64)
    config = TrainingConfig(epochs=1, batch_size=64)
    model = MegaDanceTokenizer(MegaDanceTokenizerConfig(**TINY_TOKENIZER))
    with pytest.raises(ValueError, match="1 windows do not fill a batch of batch_size=64"):
        train(model, TokenizerTask([]), windows, EpochSampler(windows), collate, config, tmp_path)


def test_the_rhythm_report_is_one_when_every_phase_is_right():
    class Right(torch.nn.Linear):
        @property
        def model(self):
            return self

        def encode_rhythm(self, features):
            return torch.from_numpy(rhythm_labels(song))[None].nan_to_num() * 0.3  # unsure, but right

    song = replace(clips(1)[0], first_beat_s=0.1, beat_period_s=0.4)
    report = RhythmTask([song]).evaluate(Right(1, 1))
    assert report == {"score": pytest.approx(0, abs=1e-6), "beat_cosine": pytest.approx(1)}
