"""Train the dance generator (second stage) on a prepared data set, with a trained tokenizer.

    python examples/train_generator.py --config examples/configs/ballroom_generator.yaml \
        --data DIR --tokenizer DIR --output DIR
    accelerate launch examples/train_generator.py ...             # on several GPUs
    torchrun --nproc_per_node 2 examples/train_generator.py ...   # in several processes without any

What it writes is a complete model folder: generator, generation configuration with start codes for each genre, feature
extractor, and the tokenizer in `tokenizer/`, ready for `MusicToDancePipeline.from_pretrained(DIR)`.
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path

import torch
from common import (
    TrainingData,
    argument_parser,
    dance_sampler,
    fit_batch,
    fit_windows,
    open_part,
    publish,
    read_data,
    read_settings,
    run,
    say,
    say_unmatched,
    speaks,
    start_codes,
    tell,
    while_training,
    with_parts,
)

from megadance_hf.data.augmentation import MusicAugmentation
from megadance_hf.data.clip import Clip
from megadance_hf.data.codes import encode_clips
from megadance_hf.data.rhythm import beat_position
from megadance_hf.data.sampling import EpochSampler, collate
from megadance_hf.data.segments import SEGMENT_FRAMES, CodeSegments, RhythmSegments, fitting_length
from megadance_hf.data.statistics import Statistics
from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE, MegaDanceConfig
from megadance_hf.modeling.errors_megadance import ModelError
from megadance_hf.modeling.feature_extraction_megadance import MegaDanceFeatureExtractor
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizer
from megadance_hf.modeling.progress_megadance import progress_bar
from megadance_hf.synthetic.composer import composed_clip
from megadance_hf.training.loop import check_output, processes, train
from megadance_hf.training.recipes import DataSettings, GenerationSettings, Recipe, RecipeError
from megadance_hf.training.tasks import GeneratorTask, RhythmTask

# Where the data have no song with clear beats, so many composed ones stand in.
COMPOSED_SONGS, COMPOSED_SECONDS = 24, 20.0
MOST_SONGS = 1000
# Frames of music in which a bar can be heard.
SHORTEST_RHYTHM = 64


def model_config(recipe: Recipe, tokenizer: MegaDanceTokenizer, source: str, genres: list[str]) -> MegaDanceConfig:
    """The generator's configuration by recipe, tokenizer and data, which must fit one another.

    Raises:
        ModelError: the tokenizer's codes last another time, or the recipe has another number of codes.
    """
    codec, settings = tokenizer.config, recipe.section("model")
    if codec.frames_per_code != FRAMES_PER_CODE:
        raise ModelError(
            f"--tokenizer {source}: its codes last {codec.frames_per_code} frames, a generator's {FRAMES_PER_CODE}: train one "
            "with model.num_downsamples=3"
        )
    if settings.get("codebook_size", codec.codebook_size) != codec.codebook_size:
        raise ModelError(
            f"model.codebook_size={settings['codebook_size']}, but --tokenizer {source} has {codec.codebook_size} codes: leave "
            "it out, the tokenizer's number is taken"
        )
    given = {
        "codebook_size": codec.codebook_size,
        "frames_per_code": FRAMES_PER_CODE,
        "id2label": dict(enumerate(genres)),
    }
    with recipe.using("model"):
        return MegaDanceConfig(**settings | given)


def check_rhythm(
    recipe: Recipe, config: MegaDanceConfig, teacher: MegaDanceForMotionGeneration | None, source: str
) -> None:
    """That a generator that hears a rhythm has where to learn it, and from one with an encoder of the same size.

    Raises:
        RecipeError, ModelError: it has not.
    """
    if teacher is None:
        if config.rhythm_size and "rhythm" not in recipe:
            raise RecipeError(
                f"{recipe.source}: model.rhythm_size={config.rhythm_size} needs a section rhythm, by which its encoder is "
                "trained: add one (see examples/configs/small_generator.yaml), or set model.rhythm_size=0"
            )
        if not config.rhythm_size and "rhythm" in recipe:
            say("model.rhythm_size=0: no rhythm encoder, section rhythm is not used")
        return
    for name in ("rhythm_size", "rhythm_layers", "music_feature_size"):
        theirs, ours = getattr(teacher.config, name), getattr(config, name)
        if not teacher.config.rhythm_size or theirs != ours:
            raise ModelError(
                f"--rhythm {source}: its {name} is {theirs}, the recipe's {ours}: set model.{name}={theirs}"
            )


def rhythm_clips(recipe: Recipe, data: TrainingData) -> tuple[list[Clip], dict]:
    """Songs with beats to learn from, the data's and composed ones, and the options of their windows."""
    options, composed = recipe.section("rhythm.windows"), recipe.section("rhythm").get("composed_songs", 0)
    with recipe.using("rhythm"):
        if not 0 <= composed <= MOST_SONGS:
            raise ValueError(f"composed_songs={composed} is not possible: give 0 to {MOST_SONGS}")
    repeats, strange = recipe.repeats("rhythm", data.genres)
    say_unmatched(strange, "rhythm")
    clear = [clip for clip in data.train if clip.paired and beat_position(clip) is not None]
    known = sum(clip.beat_source == "known" for clip in clear)
    say(f"rhythm: beats of {known} clips are known, of {len(clear) - known} clearly heard, of {len(data.train)}")
    wanted, tempo, seconds = options.get("length", 320), max(1.0, options.get("tempo", 1.0)), 40.0
    # one frame more than the fastest window has, as windows take it
    length = fitting_length([math.floor((len(clip) - 1) / tempo) for clip in clear], wanted, least=SHORTEST_RHYTHM)
    if length is None and not composed:
        composed, seconds = COMPOSED_SONGS, COMPOSED_SECONDS
        say(f"rhythm: too few or too short to learn from; {composed} composed songs stand in")
    elif length is not None and length < wanted:
        say(f"rhythm.windows.length={length} instead of {wanted}: most clips are shorter")
        options["length"] = length
    songs = [
        composed_clip(seed, seconds)
        for seed in progress_bar(range(composed), desc="composing", unit="song", disable=not speaks())
    ]
    if length is None:
        return songs, options
    return [clip for clip in clear for _ in range(repeats.get(clip.genre, 1))] + songs, options


def train_rhythm(
    model: MegaDanceForMotionGeneration,
    data: TrainingData,
    statistics: Statistics,
    recipe: Recipe,
    arguments: argparse.Namespace,
) -> MegaDanceForMotionGeneration:
    """The model with only its rhythm encoder trained: on the data's own songs and on composed ones with exact beats."""
    output, training = Path(arguments.output) / "rhythm", recipe.training("rhythm.training")
    training = replace(training, max_steps=arguments.max_steps or training.max_steps)
    check_output(output, arguments.resume, model.config)
    with recipe.using("rhythm.augmentation"):
        augmentation = MusicAugmentation(**recipe.section("rhythm.augmentation"))
    songs, options = rhythm_clips(recipe, data)
    with recipe.using("rhythm.windows"):
        windows = RhythmSegments(songs, statistics, augmentation=augmentation, seed=training.seed, **options)
    training = fit_batch(training, windows, "rhythm.training")
    model.requires_grad_(False)
    model.model.rhythm_encoder.requires_grad_(True)
    known = [clip for clip in data.held_out if clip.paired and beat_position(clip) is not None]
    sampler = EpochSampler(windows, training.seed)
    train(model, RhythmTask(known), windows, sampler, collate, training, output, resume=arguments.resume)
    model = MegaDanceForMotionGeneration.from_pretrained(output)  # after FSDP the one that was trained is in pieces
    model.model.rhythm_encoder.requires_grad_(False)
    return model.to(processes().device)


def main(argv: list[str] | None = None) -> dict[str, float]:
    parser = argument_parser(__doc__, "model, data, rhythm, windows, sampler, augmentation, task, training, generation")
    parser.add_argument("--data", required=True, help="prepared folder")
    parser.add_argument("--tokenizer", required=True, help="folder of a trained tokenizer")
    parser.add_argument(
        "--rhythm", metavar="DIR", help="trained generator whose rhythm encoder is taken over instead of training one"
    )
    arguments = parser.parse_args(argv)
    recipe, training = read_settings(arguments, "generator")
    with recipe.using("data"):
        settings = DataSettings(**recipe.section("data"))
    with recipe.using("augmentation"):
        augmentation = MusicAugmentation(**recipe.section("augmentation"))
    with recipe.using("generation"):
        GenerationSettings(**recipe.section("generation"))

    # what can be wrong is found before anything slow
    device = processes().device
    tokenizer = open_part(MegaDanceTokenizer, arguments.tokenizer, "--tokenizer").eval().to(device)
    teacher = open_part(MegaDanceForMotionGeneration, arguments.rhythm, "--rhythm") if arguments.rhythm else None
    data = read_data(arguments.data, settings, genre=True, music=True)
    genres = data.genres
    config = model_config(recipe, tokenizer, arguments.tokenizer, genres)
    check_rhythm(recipe, config, teacher, arguments.rhythm)
    check_output(arguments.output, arguments.resume, config)
    options = fit_windows(recipe.section("windows"), SEGMENT_FRAMES, data.train)
    stretches = options.pop("stretches", [1.0])
    repeats, strange = recipe.repeats("windows", genres)
    say_unmatched(strange, "windows")
    statistics = Statistics.from_clips(data.train)
    torch.manual_seed(training.seed)
    model = MegaDanceForMotionGeneration(config)
    model.set_music_statistics(statistics.input_mean, statistics.input_std)
    output, extractor = Path(arguments.output), MegaDanceFeatureExtractor()
    if arguments.dry_run:
        return tell(arguments, model, [data], with_parts(tokenizer, extractor)(model))

    if teacher is not None and config.rhythm_size:
        model.model.rhythm_encoder.load_state_dict(teacher.model.rhythm_encoder.state_dict())
        model.model.rhythm_encoder.requires_grad_(False)
    elif config.rhythm_size:
        model = train_rhythm(model, data, statistics, recipe, arguments)
    hear = model.eval().model.encode_rhythm
    with recipe.using("windows"):
        encoded = encode_clips(
            tokenizer, data.train, stretches=stretches, encode_rhythm=hear, device=device, progress=speaks()
        )
        windows = CodeSegments(
            encoded,
            genres,
            statistics,
            augmentation=augmentation,
            seed=training.seed,
            **options | {"repeats": repeats},
        )
    training = fit_batch(training, windows)
    validation, shorter = None, fitting_length([len(clip) for clip in data.held_out], windows.length)
    if shorter is not None:
        held_out = encode_clips(tokenizer, data.held_out, mirror=False, encode_rhythm=hear, device=device)
        validation = CodeSegments(
            held_out, genres, statistics, length=shorter, stride=max(8, shorter // 2), random=False
        )
    with recipe.using("task"):
        task = GeneratorTask(validation, **recipe.section("task"))
    # With many genres a freely mixed batch has a few windows for each of many experts, which is slow.
    with recipe.using("sampler"):
        mixing = {"genre_run": 8 if len(genres) > 4 else 1, **recipe.section("sampler")}
        sampler = EpochSampler(windows, training.seed, **mixing)

    model.generation_config.start_codes = start_codes(encoded, genres)
    for name, value in recipe.section("generation").items():
        setattr(model.generation_config, name, value)
    report = train(
        model,
        task,
        windows,
        sampler,
        collate,
        training,
        arguments.output,
        resume=arguments.resume,
        sample=while_training(
            arguments,
            dance_sampler(tokenizer, data.held_out or data.train, output / "samples"),
            with_parts(tokenizer, extractor),
        ),
    )
    publish(arguments, (extractor, output), (tokenizer, output / "tokenizer"))
    return report


if __name__ == "__main__":
    run(main)
