"""Train the motion tokenizer (first stage) on one or more prepared data sets.

    python examples/train_tokenizer.py --config examples/configs/ballroom_tokenizer.yaml --data DIR [DIR ...] --output DIR
    accelerate launch examples/train_tokenizer.py ...      # several processes, mixed precision, ...

Prepare data with `python -m megadance_hf.datasets_scripts.ballroom RAW OUT`. Stop it whenever you like and add `--resume`.
"""

import argparse
from pathlib import Path

import torch
import yaml

from megadance_hf.data import EpochSampler, MotionWindows, Statistics, collate
from megadance_hf.datasets_scripts.schema import read_prepared
from megadance_hf.modeling.configuration_megadance import MegaDanceTokenizerConfig
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizer
from megadance_hf.training import TokenizerTask, TrainingConfig, train


def main(argv: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="YAML with sections model, windows, task, training")
    parser.add_argument("--data", required=True, nargs="+", help="prepared folders; the first one's validation is used")
    parser.add_argument("--output", required=True, help="folder for checkpoints, curves and the trained tokenizer")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --output")
    parser.add_argument("--epochs", type=int, help="instead of the configuration's number")
    arguments = parser.parse_args(argv)
    settings = yaml.safe_load(Path(arguments.config).read_text(encoding="utf-8"))
    if arguments.epochs is not None:
        settings["training"]["epochs"] = arguments.epochs
    training = TrainingConfig.from_dict(settings["training"])

    clips = [clip for folder in arguments.data for clip in read_prepared(folder, "train")]
    held_out = read_prepared(arguments.data[0], "validation")
    windows = MotionWindows(clips, seed=training.seed, **settings.get("windows", {}))
    statistics = Statistics.from_clips(clips, mirror=windows.mirror)

    torch.manual_seed(training.seed)
    model = MegaDanceTokenizer(MegaDanceTokenizerConfig(**settings.get("model", {})))
    model.set_statistics(statistics.motion_mean, statistics.motion_std)
    model.calibrate(collate([windows[i] for i in range(0, len(windows), max(1, len(windows) // 64))])["motion"])
    return train(
        model,
        TokenizerTask(held_out, **settings.get("task", {})),
        windows,
        EpochSampler(windows, training.seed),
        collate,
        training,
        arguments.output,
        resume=arguments.resume,
    )


if __name__ == "__main__":
    main()
