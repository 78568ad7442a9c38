"""Train the motion tokenizer (first stage) on one or more prepared data sets.

    python examples/train_tokenizer.py --config examples/configs/ballroom_tokenizer.yaml --data DIR [DIR ...] --output DIR
    accelerate launch examples/train_tokenizer.py ...             # on several GPUs
    torchrun --nproc_per_node 2 examples/train_tokenizer.py ...   # in several processes without any

Prepare data with `megadance prepare ballroom RAW OUT`. Stop it whenever you like and add `--resume`.
"""

import torch
from common import argument_parser, publish, read_settings, while_training

from megadance_hf.data import EpochSampler, MotionWindows, Statistics, collate
from megadance_hf.datasets_scripts.schema import read_prepared
from megadance_hf.modeling.configuration_megadance import MegaDanceTokenizerConfig
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizer
from megadance_hf.tasks import TokenizerTask
from megadance_hf.training import train


def main(argv: list[str] | None = None) -> dict[str, float]:
    parser = argument_parser(__doc__, "model, windows, task, training")
    parser.add_argument("--data", required=True, nargs="+", help="prepared folders; the first one's validation is used")
    arguments = parser.parse_args(argv)
    settings, training = read_settings(arguments)

    clips = [clip for folder in arguments.data for clip in read_prepared(folder, "train")]
    held_out = read_prepared(arguments.data[0], "validation")
    windows = MotionWindows(clips, seed=training.seed, **settings.get("windows", {}))
    statistics = Statistics.from_clips(clips, mirror=windows.mirror)

    torch.manual_seed(training.seed)
    model = MegaDanceTokenizer(MegaDanceTokenizerConfig(**settings.get("model", {})))
    model.set_statistics(statistics.motion_mean, statistics.motion_std)
    model.calibrate(collate([windows[i] for i in range(0, len(windows), max(1, len(windows) // 64))])["motion"])
    report = train(
        model,
        TokenizerTask(held_out, **settings.get("task", {})),
        windows,
        EpochSampler(windows, training.seed),
        collate,
        training,
        arguments.output,
        resume=arguments.resume,
        sample=while_training(arguments),
    )
    publish(arguments)
    return report


if __name__ == "__main__":
    main()
