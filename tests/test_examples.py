"""The example scripts, run as a user runs them, on a small prepared data set."""

import subprocess
import sys

import numpy as np
import pytest
import yaml
from helpers import write_song

from megadance_hf.datasets_scripts.schema import Card, Clip, write_prepared
from megadance_hf.modeling.configuration_megadance import (
    MegaDanceClassifierConfig,
    MegaDanceConfig,
    MegaDanceTokenizerConfig,
)
from megadance_hf.modeling.modeling_megadance_classifier import MegaDanceForGenreClassification
from megadance_hf.pipeline import MusicToDancePipeline
from megadance_hf.training import TrainingConfig

TOKENIZER = {
    "model": {"levels": [3, 3], "hidden_size": 8, "code_size": 8, "residual_depth": 1, "normalize_scalars": True},
    "windows": {"length": 64, "stride": 16},
    "task": {"soft_share": 0.5},
    "training": {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3},
}
GENERATOR = {
    "model": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "music_hidden_size": 8,
        "output_hidden_size": 16,
        "music_reduction": "stack",
        "music_lookahead": 1,
        "music_columns": [32, 33, 34],
        "music_to_codes": True,
        "rhythm_size": 8,
        "rhythm_layers": 2,
    },
    "rhythm": {
        "composed_songs": 1,
        "windows": {"length": 64, "tempo": 1.1},
        "training": {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3},
    },
    "windows": {"length": 64, "stride": 16, "stretches": [0.9, 1.0]},
    "training": {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3},
    "generation": {"do_sample": True, "temperature": 0.9},
}


def swings(number: int, split: str) -> Clip:
    generator = np.random.default_rng(number)
    time = np.arange(100)[:, None] / 30
    poses = np.sin(2 * np.pi * time + generator.uniform(0, 6, (1, 72))) * generator.uniform(0, 0.4, (1, 72))
    return Clip(
        id=f"swing{number}",
        poses=poses.astype(np.float32),
        translation=np.concatenate([0 * time, 1 + 0 * time, 0.1 * time], 1).astype(np.float32),
        input_features=generator.random((100, 35), dtype=np.float32),
        genre=("waltz", "rumba")[number % 2],
        split=split,
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    clips = [swings(number, "validation" if number > 3 else "train") for number in range(6)]
    card = Card(title="Swings", description="Made by a test.", licence="none")
    write_prepared(folder, clips, card=card, genres=["rumba", "waltz"])
    return folder


def run(repository, script, *arguments):
    command = [sys.executable, str(repository / "examples" / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_training_both_stages_makes_a_model_that_dances(repository, prepared, tmp_path):
    for name, settings in (("tokenizer", TOKENIZER), ("generator", GENERATOR)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    codec, model = tmp_path / "codec", tmp_path / "model"
    run(
        repository, "train_tokenizer.py", "--config", tmp_path / "tokenizer.yaml", "--data", prepared, "--output", codec
    )
    run(
        repository,
        *("train_generator.py", "--config", tmp_path / "generator.yaml", "--data", prepared),
        *("--tokenizer", codec, "--output", model, "--epochs", 2),
    )
    pipe = MusicToDancePipeline.from_pretrained(model)
    assert pipe.genres == ["rumba", "waltz"]
    assert pipe.model.generation_config.do_sample and set(pipe.model.generation_config.start_codes) == {
        "rumba",
        "waltz",
    }
    dance = pipe(str(write_song(tmp_path / "song.wav", 2.0)), genre="waltz", seed=0)
    assert len(dance) == 60 and np.isfinite(dance.joints()).all()


@pytest.mark.slow
def test_training_the_classifier(repository, prepared, tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    settings = {"model": sizes, "windows": {"length": 64}, "training": TOKENIZER["training"]}
    (tmp_path / "classifier.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    where = ("--config", tmp_path / "classifier.yaml", "--data", prepared, "--output", tmp_path / "out")
    run(repository, "train_classifier.py", *where)
    model = MegaDanceForGenreClassification.from_pretrained(tmp_path / "out")
    assert model.config.genres == ["rumba", "waltz"] and model.motion_std.lt(1).all()


def test_the_configurations_that_come_along_are_valid(repository):
    folder = repository / "examples" / "configs"
    kinds = {
        "tokenizer": MegaDanceTokenizerConfig,
        "generator": MegaDanceConfig,
        "classifier": MegaDanceClassifierConfig,
    }
    files = sorted(folder.glob("*.yaml"))
    assert len(files) >= 2
    for file in files:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
        config = kinds[file.stem.rsplit("_", 1)[1]]
        made = config(**settings["model"])
        assert all(hasattr(config(), name) for name in settings["model"]), "a misspelt name would be taken silently"
        assert made.model_type and TrainingConfig.from_dict(settings["training"]).epochs > 0
