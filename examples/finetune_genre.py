"""Add a genre to a trained model from a handful of clips.

    python examples/finetune_genre.py --model DIR --data PREPARED --genre salsa --like chacha --output DIR

The data are prepared like any other (see README); only clips of the new genre are used. One new expert in each layer learns
them; the universal expert and all other parts stay as they are, so the other genres dance bit for bit as before. The model's
own tokenizer must know the movements: a dance that it cannot reconstruct cannot be learned (look at `score` of
train_tokenizer.py). What it writes is a complete model folder for `MusicToDancePipeline.from_pretrained(DIR)`.
"""

from functools import partial
from pathlib import Path

import torch
from common import check_repository, dry_run, run, train_and_publish

from megadance_hf import MegaDanceForMotionGeneration, MusicToDancePipeline
from megadance_hf.data import CodeSegments, DataError, MusicAugmentation, Statistics, encode_clips, read_info
from megadance_hf.data.attributes import attribute_quantiles
from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE
from megadance_hf.models import DEFAULT_MODEL
from megadance_hf.training import NewGenreTask, TrainingConfig, TrainingData, TrainingError, dance_sampler
from megadance_hf.training import arguments as shared
from megadance_hf.training.checkpoints import check_output
from megadance_hf.training.processes import is_main_process, print_once, processes
from megadance_hf.training.samples import make_pipeline
from megadance_hf.training.training_data import clips_of_genre, fit_batch, fit_length, validation_segments

STRETCHES = (0.92, 1.0, 1.08)


def add_expert(model: MegaDanceForMotionGeneration, genre: str, like: str | None) -> torch.Tensor | None:
    """Add the genre and freeze everything else; returns the rows of the genre embedding to keep, if there is one."""
    embedding = model.model.genre_embedding
    rows = None if embedding is None else embedding.weight.detach().clone()
    try:
        added = model.add_genre(genre, like)
    except ValueError as error:
        raise TrainingError(f"--genre {genre!r}: {error}") from error
    model.requires_grad_(False)
    for parameter in added:
        parameter.requires_grad_(True)
    if rows is not None:
        model.model.genre_embedding.weight.requires_grad_(True)
    return rows


def main(argv: list[str] | None = None) -> dict[str, float]:
    parser = shared.make_parser(__doc__)
    parser.add_argument("--model", required=True, help="folder or Hub id of a trained model, or 'bundled'")
    parser.add_argument("--data", required=True, help="prepared folder with clips of the new genre")
    parser.add_argument("--genre", required=True, help="name of the new genre")
    parser.add_argument("--like", help="begin with this genre's expert; with the mean of all experts when not given")
    parser.add_argument("--output", required=True, help="folder for checkpoints, curves and the new model")
    parser.add_argument("--learning-rate", metavar="X", type=float, default=3e-4)
    parser.add_argument("--batch-size", metavar="N", type=shared.positive_int, default=16)
    default = "what the model was trained with when not given"
    parser.add_argument("--length", metavar="N", type=shared.positive_int, help=f"frames of a segment; {default}")
    shared.add_run_arguments(parser)
    arguments = parser.parse_args(argv)
    training = TrainingConfig(
        epochs=40,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        schedule="cosine",
        warmup_steps=10,
        evaluate_every=5,
        save_every=5,
        sample_every=20,
    )
    training = shared.with_run_arguments(training, arguments)
    check_repository(arguments)
    genre, output = arguments.genre, Path(arguments.output)

    # data, before the model, which takes longer to load
    clips, held_out = (clips_of_genre(arguments.data, split, genre) for split in ("train", "validation"))
    if not clips:
        known = ", ".join(read_info(arguments.data)["genres"]) or "none"
        raise TrainingError(f"--genre {genre!r}: {arguments.data} has no training clip of it; its genres are {known}")
    if not any(clip.paired for clip in clips):
        raise DataError(
            f"{arguments.data}: none of {len(clips)} clips of {genre} has music, and dances are made to music"
        )
    if not held_out:
        print_once(
            f"{arguments.data} has no {genre} to measure by: the score tells only how well the clips are known by heart"
        )

    # model
    device = processes().device
    source = DEFAULT_MODEL if arguments.model == "bundled" else arguments.model
    pipe = MusicToDancePipeline.from_pretrained(source, device=device)
    model, tokenizer, extractor = pipe.model, pipe.tokenizer, pipe.processor.feature_extractor
    rows = add_expert(model, genre, arguments.like)
    check_output(output, arguments.resume, model.config)
    wanted = arguments.length or model.config.training_codes * model.config.frames_per_code
    if wanted % FRAMES_PER_CODE:
        raise TrainingError(f"--length {wanted}: give a multiple of {FRAMES_PER_CODE}")
    length = fit_length({"length": wanted}, wanted, clips)["length"]
    if arguments.dry_run:
        data = TrainingData(clips, held_out, [genre])
        return dry_run(arguments, model, [data], make_pipeline(model, tokenizer, extractor))

    # data: the clips as codes, normalised as the model normalises, whatever the new clips are like
    statistics = Statistics(
        tokenizer.motion_mean.cpu(),
        tokenizer.motion_std.cpu(),
        model.model.music_mean.float().cpu(),
        model.model.music_std.float().cpu(),
    )
    genres, encoders = model.config.genres, {"encode_rhythm": model.model.encode_rhythm, "device": device}
    if names := model.config.attributes:
        encoders["attributes"] = True
        known = model.config.attribute_quantiles or {}
        model.config.attribute_quantiles = {**known, **attribute_quantiles(clips, [genre], names)}
    encoded = encode_clips(tokenizer, clips, stretches=STRETCHES, progress=is_main_process(), **encoders)
    segments = CodeSegments(encoded, genres, statistics, length, augmentation=MusicAugmentation(), seed=training.seed)
    training = fit_batch(training, segments)

    # task
    validation = validation_segments(tokenizer, held_out or clips, genres, statistics, length, **encoders)
    task = NewGenreTask(validation, code_noise=0.3, rows=rows)

    # training
    draw = dance_sampler(tokenizer, held_out or clips, output / "samples")
    whole = partial(make_pipeline, tokenizer=tokenizer, extractor=extractor)
    parts = (extractor, output), (tokenizer, output / "tokenizer")
    return train_and_publish(arguments, model, task, segments, training, *parts, draw=draw, whole=whole)


if __name__ == "__main__":
    run(main)
