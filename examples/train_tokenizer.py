"""Train the motion tokenizer (first stage) on one or more prepared data sets.

    python examples/train_tokenizer.py --config examples/configs/ballroom_tokenizer.yaml --data DIR [DIR ...] --output DIR
    accelerate launch examples/train_tokenizer.py ...             # on several GPUs
    torchrun --nproc_per_node 2 examples/train_tokenizer.py ...   # in several processes without any

Prepare data with `megadance prepare ballroom RAW OUT`. Stop it whenever you like and add `--resume`.
"""

import torch
from common import (
    argument_parser,
    fit_batch,
    fit_windows,
    publish,
    read_data,
    read_settings,
    run,
    tell,
    while_training,
)

from megadance_hf.data.sampling import EpochSampler, collate
from megadance_hf.data.segments import SEGMENT_FRAMES, MotionSegments
from megadance_hf.data.statistics import Statistics
from megadance_hf.modeling.configuration_megadance import MegaDanceTokenizerConfig
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizer
from megadance_hf.training.loop import check_output, train
from megadance_hf.training.recipes import DataSettings
from megadance_hf.training.tasks import TokenizerTask


def main(argv: list[str] | None = None) -> dict[str, float]:
    parser = argument_parser(__doc__, "model, data, windows, task, training")
    parser.add_argument("--data", required=True, nargs="+", help="prepared folders; the first one's validation is used")
    arguments = parser.parse_args(argv)
    recipe, training = read_settings(arguments, "tokenizer")
    with recipe.using("model"):
        config = MegaDanceTokenizerConfig(**recipe.section("model"))
    with recipe.using("data"):
        settings = DataSettings(**recipe.section("data"))
    check_output(arguments.output, arguments.resume, config)

    data = [read_data(arguments.data[0], settings)]
    data += [read_data(folder, DataSettings(0), quiet=True) for folder in arguments.data[1:]]
    clips, held_out = [clip for one in data for clip in one.train], data[0].held_out
    options = fit_windows(recipe.section("windows"), SEGMENT_FRAMES, clips)
    with recipe.using("windows"):
        if options.get("length", SEGMENT_FRAMES) % config.frames_per_code:
            raise ValueError(f"length={options['length']} is not possible: give a multiple of {config.frames_per_code}")
        windows = MotionSegments(clips, seed=training.seed, **options)
    training = fit_batch(training, windows)
    statistics = Statistics.from_clips(clips, mirror=windows.mirror)

    torch.manual_seed(training.seed)
    model = MegaDanceTokenizer(config)
    model.set_statistics(statistics.motion_mean, statistics.motion_std)
    model.calibrate(collate([windows[i] for i in range(0, len(windows), max(1, len(windows) // 64))])["motion"])
    with recipe.using("task"):
        task = TokenizerTask(held_out, **recipe.section("task"))
    if arguments.dry_run:
        return tell(arguments, model, data, model)
    report = train(
        model,
        task,
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
    run(main)
