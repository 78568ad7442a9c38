"""Add a genre to a trained model from a handful of clips.

    python examples/finetune_genre.py --model DIR --data PREPARED --genre tango --like waltz --output DIR

The data are prepared like any other (see README); only clips of the new genre are used. One new expert in each layer learns
them; the universal expert and all other parts stay as they are, so the other genres dance bit for bit as before. The model's
own tokenizer must know the movements: a dance that it cannot reconstruct cannot be learned (look at `score` of
train_tokenizer.py). What it writes is a complete model folder for `MusicToDancePipeline.from_pretrained(DIR)`.
"""

from dataclasses import replace
from pathlib import Path

import torch
from common import (
    TrainingData,
    add_run_arguments,
    check_places,
    dance_sampler,
    fit_batch,
    fit_windows,
    make_parser,
    publish,
    run,
    say,
    speaks,
    start_codes,
    tell,
    while_training,
    whole,
    with_limits,
    with_parts,
)

from megadance_hf.data.augmentation import MusicAugmentation
from megadance_hf.data.clip import Clip
from megadance_hf.data.codes import encode_clips
from megadance_hf.data.prepared import DataError, read_info, read_prepared
from megadance_hf.data.sampling import EpochSampler, collate
from megadance_hf.data.segments import CodeSegments, fitting_length
from megadance_hf.data.statistics import Statistics
from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE, GenreError, match_genre
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration
from megadance_hf.models import DEFAULT_MODEL
from megadance_hf.pipeline import MusicToDancePipeline
from megadance_hf.training.loop import TrainingConfig, TrainingError, check_output, processes, train
from megadance_hf.training.tasks import NewGenreTask

STRETCHES = (0.92, 1.0, 1.08)


def clips_of(folder: str, split: str, genre: str) -> list[Clip]:
    """Clips of a genre, however the data spell it; none where the data have no such split."""
    if split not in read_info(folder)["splits"]:
        return []
    found = []
    for clip in read_prepared(folder, split):
        if clip.genre is None:
            continue
        try:
            match_genre(genre, [clip.genre])
        except GenreError:
            continue
        found.append(replace(clip, genre=genre))
    return found


def window_length(wanted: int, clips: list[Clip]) -> int:
    """Frames of a window that most of the clips have.

    Raises:
        TrainingError, DataError: no window can be so long, or the clips are too short for any.
    """
    if wanted % FRAMES_PER_CODE:
        raise TrainingError(f"--length {wanted}: give a multiple of {FRAMES_PER_CODE}")
    return fit_windows({"length": wanted}, wanted, clips)["length"]


def new_expert(model: MegaDanceForMotionGeneration, genre: str, like: str | None) -> torch.Tensor | None:
    """Add the genre and freeze everything else; the embedding rows to keep, where there are any."""
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
    parser = make_parser(__doc__)
    parser.add_argument("--model", required=True, help="folder or Hub id of a trained model, or 'bundled'")
    parser.add_argument("--data", required=True, help="prepared folder with clips of the new genre")
    parser.add_argument("--genre", required=True, help="name of the new genre")
    parser.add_argument("--like", help="begin with this genre's expert; with the mean of all experts when not given")
    parser.add_argument("--output", required=True, help="folder for checkpoints, curves and the new model")
    parser.add_argument("--learning-rate", metavar="X", type=float, default=3e-4)
    parser.add_argument("--batch-size", metavar="N", type=whole, default=16)
    parser.add_argument(
        "--length", metavar="N", type=whole, help="frames of a window; what the model was trained with when not given"
    )
    add_run_arguments(parser)
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
    training = with_limits(training, arguments)
    check_places(arguments)
    # the data before the model, which takes longer to open
    clips = clips_of(arguments.data, "train", arguments.genre)
    if not clips:
        known = ", ".join(read_info(arguments.data)["genres"]) or "none"
        raise TrainingError(
            f"--genre {arguments.genre!r}: {arguments.data} has no training clip of it; its genres are {known}"
        )
    held_out = clips_of(arguments.data, "validation", arguments.genre)
    if not any(clip.paired for clip in clips):
        raise DataError(
            f"{arguments.data}: none of {len(clips)} clips of {arguments.genre} has music, and dances are made to music"
        )
    if not held_out:
        say(
            f"{arguments.data} has no {arguments.genre} to measure by: the score tells only how well the clips are known by heart"
        )
    device = processes().device
    source = DEFAULT_MODEL if arguments.model == "bundled" else arguments.model
    pipe = MusicToDancePipeline.from_pretrained(source, device=device)
    model, tokenizer = pipe.model, pipe.tokenizer
    rows = new_expert(model, arguments.genre, arguments.like)
    genres = model.config.genres
    check_output(arguments.output, arguments.resume, model.config)
    length = window_length(arguments.length or model.config.training_codes * model.config.frames_per_code, clips)
    if arguments.dry_run:
        data = TrainingData(arguments.data, clips, held_out, [arguments.genre])
        return tell(arguments, model, [data], with_parts(tokenizer, pipe.processor.feature_extractor)(model))
    # as the model normalises, whatever the new clips are like
    statistics = Statistics(
        tokenizer.motion_mean.cpu(),
        tokenizer.motion_std.cpu(),
        model.model.music_mean.float().cpu(),
        model.model.music_std.float().cpu(),
    )
    hear = model.model.encode_rhythm
    encoded = encode_clips(tokenizer, clips, stretches=STRETCHES, encode_rhythm=hear, device=device, progress=speaks())
    # without held-out clips the score only tells how well the clips are known by heart
    known = encode_clips(tokenizer, held_out or clips, mirror=False, encode_rhythm=hear, device=device)
    windows = CodeSegments(encoded, genres, statistics, length, augmentation=MusicAugmentation(), seed=training.seed)
    training = fit_batch(training, windows)
    shorter = fitting_length([len(clip) for clip in held_out or clips], length)
    validation = None
    if shorter is not None:
        validation = CodeSegments(known, genres, statistics, shorter, stride=max(8, shorter // 2), random=False)
    codes = getattr(model.generation_config, "start_codes", None) or {}
    model.generation_config.start_codes = {**codes, **start_codes(encoded, [arguments.genre])}

    output, extractor = Path(arguments.output), pipe.processor.feature_extractor
    report = train(
        model,
        NewGenreTask(validation, code_noise=0.3, rows=rows),
        windows,
        EpochSampler(windows, training.seed),
        collate,
        training,
        arguments.output,
        resume=arguments.resume,
        sample=while_training(
            arguments,
            dance_sampler(tokenizer, held_out or clips, output / "samples"),
            with_parts(tokenizer, extractor),
        ),
    )
    publish(arguments, (extractor, output), (tokenizer, output / "tokenizer"))
    return report


if __name__ == "__main__":
    run(main)
