"""The example scripts, run as a user runs them, on a small prepared data set."""

import importlib
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from helpers import tiny_generator, tiny_tokenizer, write_song

from megadance_hf.datasets_scripts.schema import Card, Clip, write_prepared
from megadance_hf.modeling.configuration_megadance import (
    MegaDanceClassifierConfig,
    MegaDanceConfig,
    MegaDanceTokenizerConfig,
)
from megadance_hf.modeling.feature_extraction_megadance import MegaDanceFeatureExtractor
from megadance_hf.modeling.modeling_megadance_classifier import MegaDanceForGenreClassification
from megadance_hf.pipeline import MusicToDancePipeline
from megadance_hf.training import TrainingConfig, TrainingError

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
    "sampler": {"genre_run": 2},
    "training": {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3, "sample_every": 5},
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


def run(repository, script, *arguments, **environment):
    command = [sys.executable, str(repository / "examples" / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_training_both_stages_makes_a_model_that_dances_and_is_pushed(repository, prepared, hub, tmp_path):
    for name, settings in (("tokenizer", TOKENIZER), ("generator", GENERATOR)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    codec, model = tmp_path / "codec", tmp_path / "model"
    run(
        repository, "train_tokenizer.py", "--config", tmp_path / "tokenizer.yaml", "--data", prepared, "--output", codec
    )
    run(
        repository,
        *("train_generator.py", "--config", tmp_path / "generator.yaml", "--data", prepared),
        *("--tokenizer", codec, "--output", model, "--epochs", 2, "--push-to-hub", "anna/dance"),
        **hub.environment(tmp_path / "home"),
    )
    repository = hub.repositories["model", "anna/dance"]
    assert repository.messages[1:] == ["Training, epoch 2", "Upload with megadance"]
    assert MusicToDancePipeline.from_pretrained("anna/dance").genres == ["rumba", "waltz"]
    pipe = MusicToDancePipeline.from_pretrained(model)
    assert pipe.genres == ["rumba", "waltz"]
    assert pipe.model.generation_config.do_sample and set(pipe.model.generation_config.start_codes) == {
        "rumba",
        "waltz",
    }
    dance = pipe(str(write_song(tmp_path / "song.wav", 2.0)), genre="waltz", seed=0)
    assert len(dance) == 60 and np.isfinite(dance.joints()).all()
    assert len(list((model / "samples").glob("epoch-0002.*"))) == 2


@pytest.mark.slow
def test_training_the_classifier(repository, prepared, tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    settings = {"model": sizes, "windows": {"length": 64}, "training": TOKENIZER["training"]}
    (tmp_path / "classifier.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    where = ("--config", tmp_path / "classifier.yaml", "--data", prepared, "--output", tmp_path / "out")
    run(repository, "train_classifier.py", *where)
    model = MegaDanceForGenreClassification.from_pretrained(tmp_path / "out")
    assert model.config.genres == ["rumba", "waltz"] and model.motion_std.lt(1).all()


def waltzes_called(genre: str, folder):
    """The same swings under the name of a genre that no model here knows."""
    clips = [swings(number, "validation" if number == 5 else "train") for number in (1, 3, 5)]
    for clip in clips:
        clip.genre = genre
    write_prepared(folder, clips, card=Card(title="New", description="Made by a test.", licence="none"), genres=[genre])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("embedding", [False, True])
def test_a_new_genre_leaves_the_others_bit_for_bit(repository, tmp_path, embedding):
    torch.manual_seed(0)
    tiny_generator(genre_embedding=embedding, use_genre_experts=not embedding).save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model" / "tokenizer")
    MegaDanceFeatureExtractor().save_pretrained(tmp_path / "model")
    arguments = (
        "--model",
        tmp_path / "model",
        "--data",
        waltzes_called("Tango", tmp_path / "data"),
        "--genre",
        "tango",
    )
    options = ("--like", "waltz", "--length", 64, "--epochs", 2, "--batch-size", 4, "--output", tmp_path / "new")
    run(repository, "finetune_genre.py", *arguments, *options)

    before, after = (MusicToDancePipeline.from_pretrained(tmp_path / name) for name in ("model", "new"))
    assert after.genres == [*before.genres, "tango"] and after.model.config.label2id["tango"] == 3
    old, new = before.model.state_dict(), after.model.state_dict()
    for name, value in old.items():
        assert torch.equal(new[name][: len(value)] if "genre_embedding" in name else new[name], value), name
    learned = {name for name in new if "genre_tango" in name or "genre_embedding" in name}
    assert learned and set(new) - set(old) == {name for name in learned if "genre_tango" in name}
    moved = [not torch.equal(new[name], old[name.replace("tango", "waltz")]) for name in learned if "tango" in name]
    assert embedding or sum(moved) > len(moved) / 2
    if embedding:
        rows = new["model.genre_embedding.weight"]
        assert not torch.equal(rows[3], rows[2])
    # the other genres dance as before, the new one from beginnings of its own
    features, genre = torch.rand(2, 64, 35), torch.tensor([0, 2])
    dances = [pipe.model.generate(features, genre, seed=1, do_sample=True) for pipe in (before, after)]
    assert torch.equal(dances[0].upper_codes, dances[1].upper_codes)
    assert torch.equal(dances[0].lower_codes, dances[1].lower_codes)
    assert after.model.generation_config.start_codes["tango"]
    dance = after(str(write_song(tmp_path / "song.wav", 2.0)), genre="tango", seed=0)
    assert len(dance) == 60 and dance.genre == "tango"
    assert len(list((tmp_path / "new" / "samples").glob("*.png"))) == 1


def test_a_genre_without_clips_is_an_error(repository, prepared, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "examples"))
    main = importlib.import_module("finetune_genre").main
    arguments = ["--model", "bundled", "--data", str(prepared), "--genre", "polka", "--output", str(tmp_path)]
    with pytest.raises(TrainingError, match="--genre 'polka': .* has no training clip of it"):
        main(arguments)


def test_only_the_main_process_publishes(repository, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "examples"))
    common = importlib.import_module("common")
    pushed, main = [], [True]
    state = SimpleNamespace(wait_for_everyone=lambda: None)
    monkeypatch.setattr(common, "push_to_hub", lambda *arguments: pushed.append(arguments))
    monkeypatch.setattr(common, "processes", lambda: SimpleNamespace(is_main_process=main[0], **vars(state)))
    parser = common.argument_parser("", "training")
    arguments = ["--config", "c.yaml", "--output", str(tmp_path / "out")]
    common.publish(parser.parse_args(arguments), (tiny_tokenizer(), tmp_path / "out" / "tokenizer"))
    assert (tmp_path / "out" / "tokenizer" / "config.json").is_file() and pushed == []
    with_push = parser.parse_args([*arguments, "--push-to-hub", "anna/dance"])
    common.publish(with_push)
    main[0] = False
    common.publish(with_push)
    assert pushed == [(str(tmp_path / "out"), "anna/dance")]


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
        made = config(**settings.get("model", {}))
        assert all(hasattr(config(), name) for name in settings.get("model", {})), (
            "a misspelt name would be taken silently"
        )
        assert made.model_type and TrainingConfig.from_dict(settings["training"]).epochs > 0
