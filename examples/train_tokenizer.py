"""Train the motion tokenizer (first stage) on one or more prepared data sets.

    python examples/train_tokenizer.py --config examples/configs/ballroom_tokenizer.yaml --data DIR [DIR ...] --output DIR
    accelerate launch examples/train_tokenizer.py ...             # on several GPUs
    torchrun --nproc_per_node 2 examples/train_tokenizer.py ...   # in several processes without any

Prepare data with `megadance prepare ballroom RAW OUT`. Stop it whenever you like and add `--resume`.
"""

import torch
from common import check_repository, dry_run, run, train_and_publish

from megadance_hf import MegaDanceTokenizer, MegaDanceTokenizerConfig
from megadance_hf.data import MotionCorruption, MotionSegments, Statistics, collate
from megadance_hf.data.segments import SEGMENT_FRAMES
from megadance_hf.training import TokenizerTask, read_data
from megadance_hf.training.arguments import read_settings, recipe_parser
from megadance_hf.training.checkpoints import check_output
from megadance_hf.training.recipes import ValidationSettings
from megadance_hf.training.training_data import fit_batch, fit_length, held_out_windows, report_dropped, report_masked


def main(argv: list[str] | None = None) -> dict[str, float]:
    parser = recipe_parser(__doc__, "model, data, windows, validation, corruption, task, training")
    parser.add_argument("--data", required=True, nargs="+", help="prepared folders; the first one's validation is used")
    arguments, recipe, training, settings = read_settings(parser, "tokenizer", argv)
    check_repository(arguments)
    with recipe.using("model"):
        config = MegaDanceTokenizerConfig(**recipe.section("model"))
    check_output(arguments.output, arguments.resume, config)

    # data
    data = [read_data(arguments.data[0], settings)]
    data += [read_data(folder, validation=False) for folder in arguments.data[1:]]
    clips = [clip for one in data for clip in one.train]
    options = fit_length(recipe.section("windows"), SEGMENT_FRAMES, clips)
    report_dropped(clips, options)
    mask_noise = options.get("mask_noise", False)
    report_masked(clips, mask_noise)
    with recipe.using("corruption"):
        corruption = MotionCorruption(**recipe.section("corruption"))
    with recipe.using("validation"):
        held_out = held_out_windows(data[0].held_out, ValidationSettings(**recipe.section("validation")))
    with recipe.using("windows"):
        if options.get("length", SEGMENT_FRAMES) % config.frames_per_code:
            raise ValueError(f"length={options['length']} is not possible: give a multiple of {config.frames_per_code}")
        segments = MotionSegments(clips, seed=training.seed, corruption=corruption, **options)
    training = fit_batch(training, segments)
    if settings.statistics == "released":
        statistics = Statistics.released(clips, segments.length, segments.stride)
    else:
        statistics = Statistics.from_clips(clips, segments.mirror, config.heading, mask_noise)

    # model
    torch.manual_seed(training.seed)
    model = MegaDanceTokenizer(config)
    model.set_statistics(statistics.motion_mean, statistics.motion_std)
    model.calibrate(collate([segments[i] for i in range(0, len(segments), max(1, len(segments) // 64))])["motion"])

    # task
    with recipe.using("task"):
        task = TokenizerTask(held_out, **recipe.section("task"))
    if arguments.dry_run:
        return dry_run(arguments, model, data, model)
    return train_and_publish(arguments, model, task, segments, training)


if __name__ == "__main__":
    run(main)
