"""Train the genre classifier, which style features, accuracy and F1 are measured with, on a prepared data set.

python examples/train_classifier.py --config examples/configs/ballroom_classifier.yaml --data DIR --output DIR
accelerate launch examples/train_classifier.py ...      # several processes, mixed precision, ...
"""

import argparse
from pathlib import Path

import torch
import yaml

from megadance_hf.data import EpochSampler, MotionWindows, collate, window_statistics
from megadance_hf.datasets_scripts.schema import read_info, read_prepared
from megadance_hf.modeling.configuration_megadance import MegaDanceClassifierConfig
from megadance_hf.modeling.modeling_megadance_classifier import MegaDanceForGenreClassification
from megadance_hf.training import ClassifierTask, TrainingConfig, train


def main(argv: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="YAML with sections model, windows, training")
    parser.add_argument("--data", required=True, help="prepared folder")
    parser.add_argument("--output", required=True, help="folder for checkpoints, curves and the trained classifier")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --output")
    parser.add_argument("--epochs", type=int, help="instead of the configuration's number")
    arguments = parser.parse_args(argv)
    settings = yaml.safe_load(Path(arguments.config).read_text(encoding="utf-8"))
    if arguments.epochs is not None:
        settings["training"]["epochs"] = arguments.epochs
    training = TrainingConfig.from_dict(settings["training"])
    options = settings.get("windows", {})

    genres = read_info(arguments.data)["genres"]
    clips = read_prepared(arguments.data, "train")
    windows = MotionWindows(clips, seed=training.seed, genres=genres, **options)
    held_out = MotionWindows(
        read_prepared(arguments.data, "validation"), **(options | {"random": False, "mirror": False}), genres=genres
    )
    torch.manual_seed(training.seed)
    config = MegaDanceClassifierConfig(
        **{"id2label": dict(enumerate(genres)), "num_outputs": len(genres), **settings.get("model", {})}
    )
    model = MegaDanceForGenreClassification(config)
    model.set_statistics(*window_statistics(MotionWindows(clips, **(options | {"random": False}), genres=genres)))
    return train(
        model,
        ClassifierTask(held_out),
        windows,
        EpochSampler(windows, training.seed),
        collate,
        training,
        arguments.output,
        resume=arguments.resume,
    )


if __name__ == "__main__":
    main()
