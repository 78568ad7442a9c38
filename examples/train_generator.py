"""Train the dance generator (second stage) on a prepared data set, with a trained tokenizer.

    python examples/train_generator.py --config examples/configs/ballroom_generator.yaml \
        --data DIR --tokenizer DIR --output DIR
    accelerate launch examples/train_generator.py ...             # on several GPUs
    torchrun --nproc_per_node 2 examples/train_generator.py ...   # in several processes without any

What it writes is a complete model folder: generator, generation configuration with start codes for each genre, feature
extractor, and the tokenizer in `tokenizer/`, ready for `MusicToDancePipeline.from_pretrained(DIR)`.
"""

from functools import partial
from pathlib import Path

import torch
from common import check_repository, dry_run, run, train_and_publish

from megadance_hf import MegaDanceFeatureExtractor, MegaDanceForMotionGeneration, MegaDanceTokenizer
from megadance_hf.data import CodeSegments, EpochSampler, MotionCorruption, MusicAugmentation, Statistics, encode_clips
from megadance_hf.data.attributes import attribute_quantiles
from megadance_hf.data.segments import SEGMENT_FRAMES, SEGMENT_STRIDE
from megadance_hf.training import GeneratorTask, dance_sampler, read_data
from megadance_hf.training.arguments import load_part, read_settings, recipe_parser
from megadance_hf.training.checkpoints import check_output
from megadance_hf.training.hearing import HearingSettings, train_hearing
from megadance_hf.training.processes import is_main_process, processes
from megadance_hf.training.recipes import GenerationSettings, ValidationSettings, generator_config
from megadance_hf.training.rhythm import check_rhythm, train_rhythm
from megadance_hf.training.samples import make_pipeline
from megadance_hf.training.training_data import (
    fit_batch,
    fit_length,
    report_dropped,
    report_masked,
    validation_segments,
)


def main(argv: list[str] | None = None) -> dict[str, float]:
    parser = recipe_parser(
        __doc__,
        "model, data, rhythm, hearing, windows, validation, sampler, augmentation, corruption, task, training, generation",
    )
    parser.add_argument("--data", required=True, help="prepared folder")
    parser.add_argument("--tokenizer", required=True, help="folder of a trained tokenizer")
    parser.add_argument(
        "--rhythm", metavar="DIR", help="trained generator whose rhythm encoder is taken over instead of training one"
    )
    arguments, recipe, training, settings = read_settings(parser, "generator", argv)
    check_repository(arguments)
    with recipe.using("augmentation"):
        augmentation = MusicAugmentation(**recipe.section("augmentation"))
        changes = {name: value for name, value in recipe.section("augmentation").items() if value}
        if changes and recipe.section("windows").get("random") is False:
            name, value = next(iter(changes.items()))
            raise ValueError(f"{name}={value} is not possible: with windows.random=false music stays as it is; give 0")
    with recipe.using("corruption"):
        corruption = MotionCorruption(**recipe.section("corruption"))
    with recipe.using("generation"):
        GenerationSettings(**recipe.section("generation"))
    with recipe.using("hearing"):
        hearing = HearingSettings(**recipe.section("hearing"))
    with recipe.using("validation"):
        measured = ValidationSettings(**recipe.section("validation"))

    # What can be wrong is found before anything slow: the models, the data, and whether they fit one another.
    device, output = processes().device, Path(arguments.output)
    tokenizer = load_part(MegaDanceTokenizer, arguments.tokenizer, "--tokenizer").eval().to(device)
    teacher = load_part(MegaDanceForMotionGeneration, arguments.rhythm, "--rhythm") if arguments.rhythm else None
    data = read_data(arguments.data, settings, needs_genre=True, needs_music=True)
    config = generator_config(recipe, tokenizer.config, arguments.tokenizer, data.genres)
    if config.attributes:
        config.attribute_quantiles = attribute_quantiles(data.train, data.genres, config.attributes)
    check_rhythm(recipe, config, teacher, arguments.rhythm)
    check_output(output, arguments.resume, config)
    options = fit_length(recipe.section("windows"), SEGMENT_FRAMES, data.train)
    report_dropped(data.train, options)
    mask_noise = options.pop("mask_noise", False)
    report_masked(data.train, mask_noise)
    variants = {"stretches": options.pop("stretches", [1.0]), "mirror": options.pop("mirror", True)}
    variants |= {"mask_noise": mask_noise, "corruption": corruption, "seed": training.seed}
    if options.pop("isolated", False):
        cut = {name: options[name] for name in ("length", "stride", "drop_marked", "until_muq") if name in options}
        variants["windows"] = {"stride": SEGMENT_STRIDE, **cut}
    options["repeats"] = recipe.repeats("windows", data.genres)
    if settings.statistics == "released":  # the tokenizer's, whose windows they are
        statistics = Statistics.released(data.train, min(options["length"], SEGMENT_FRAMES), SEGMENT_STRIDE)
    else:
        statistics = Statistics.from_clips(data.train)

    # model
    torch.manual_seed(training.seed)
    model = MegaDanceForMotionGeneration(config)
    model.set_music_statistics(statistics.input_mean, statistics.input_std)
    if arguments.dry_run:
        return dry_run(arguments, model, [data], make_pipeline(model, tokenizer))
    if teacher is not None and config.rhythm_size:
        model.model.rhythm_encoder.load_state_dict(teacher.model.rhythm_encoder.state_dict())
        model.model.rhythm_encoder.requires_grad_(False)
    elif config.rhythm_size:
        limits = {"resume": arguments.resume, "max_steps": arguments.max_steps}
        model = train_rhythm(model, data, statistics, recipe, output / "rhythm", **limits)
    if config.hears_genres:
        train_hearing(model, data.train, hearing)
    for name, value in recipe.section("generation").items():
        setattr(model.generation_config, name, value)
    encoders = {"encode_rhythm": model.eval().model.encode_rhythm, "device": device}
    encoders["attributes"] = bool(config.attributes)

    # data: the clips as codes
    with recipe.using("windows"):
        encoded = encode_clips(tokenizer, data.train, progress=is_main_process(), **variants, **encoders)
        segments = CodeSegments(
            encoded, data.genres, statistics, augmentation=augmentation, seed=training.seed, **options
        )
    training = fit_batch(training, segments)
    # With many genres a freely mixed batch has a few segments for each of many experts, which is slow.
    with recipe.using("sampler"):
        mixing = {"genre_run": 8 if len(data.genres) > 4 else 1, **recipe.section("sampler")}
        sampler = EpochSampler(segments, training.seed, **mixing)

    # task
    validation = validation_segments(
        tokenizer, data.held_out, data.genres, statistics, segments.length, measured, **encoders
    )
    with recipe.using("task"):
        task = GeneratorTask(validation, **recipe.section("task"))

    # training
    draw = dance_sampler(tokenizer, data.held_out or data.train, output / "samples")
    parts = (MegaDanceFeatureExtractor(), output), (tokenizer, output / "tokenizer")
    whole = partial(make_pipeline, tokenizer=tokenizer)
    return train_and_publish(
        arguments, model, task, segments, training, *parts, sampler=sampler, draw=draw, whole=whole
    )


if __name__ == "__main__":
    run(main)
