"""Train the dance generator (second stage) on a prepared data set, with a trained tokenizer.

    python examples/train_generator.py --config examples/configs/ballroom_generator.yaml \
        --data DIR --tokenizer DIR --output DIR
    accelerate launch examples/train_generator.py ...      # several processes, mixed precision, ...

What it writes is a complete model folder: generator, generation configuration with start codes for each genre, feature
extractor, and the tokenizer in `tokenizer/`, ready for `MusicToDancePipeline.from_pretrained(DIR)`.
"""

import argparse
from pathlib import Path

import torch
import yaml
from tqdm import tqdm

from megadance_hf.data import (
    CodeWindows,
    EncodedClip,
    EpochSampler,
    MusicAugmentation,
    RhythmWindows,
    Statistics,
    beat_phase,
    collate,
    encode_clips,
)
from megadance_hf.datasets_scripts.composer import composed_clip
from megadance_hf.datasets_scripts.schema import Clip, read_info, read_prepared
from megadance_hf.modeling.configuration_megadance import MegaDanceConfig
from megadance_hf.modeling.feature_extraction_megadance import MegaDanceFeatureExtractor
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizer
from megadance_hf.training import GeneratorTask, RhythmTask, TrainingConfig, train

START_CODES_PER_GENRE = 16


def start_codes(encoded: list[EncodedClip], genres: list[str]) -> dict[str, list[list[int]]]:
    """How the training clips of each genre begin: [upper, lower] pairs that a dance may begin with."""
    result: dict[str, list[list[int]]] = {genre: [] for genre in genres}
    for item in encoded:
        pair = [int(item.upper[0][0]), int(item.lower[0][0])]
        found = result[item.clip.genre]
        if item.stretch == 1.0 and pair not in found and len(found) < START_CODES_PER_GENRE:
            found.append(pair)
    return result


def train_rhythm(
    model: MegaDanceForMotionGeneration,
    clips: list[Clip],
    held_out: list[Clip],
    statistics: Statistics,
    settings: dict,
    output: Path,
    resume: bool,
) -> None:
    """Train only the rhythm encoder, on the data's own songs and on composed ones, whose beats are known exactly."""
    composed = [composed_clip(seed) for seed in tqdm(range(settings.get("composed_songs", 0)), desc="composing")]
    training = TrainingConfig.from_dict(settings["training"])
    repeats = settings.get("repeats", {})
    windows = RhythmWindows(
        [clip for clip in clips for _ in range(repeats.get(clip.genre, 1))] + composed,
        statistics,
        augmentation=MusicAugmentation(**settings.get("augmentation", {})),
        seed=training.seed,
        **settings.get("windows", {}),
    )
    model.requires_grad_(False)
    model.model.rhythm_encoder.requires_grad_(True)
    known = [clip for clip in held_out if clip.paired and beat_phase(clip) is not None]
    sampler = EpochSampler(windows, training.seed)
    train(model, RhythmTask(known), windows, sampler, collate, training, output, resume=resume)
    model.requires_grad_(True)
    model.model.rhythm_encoder.requires_grad_(False)


def main(argv: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--config", required=True, help="YAML with sections model, rhythm, windows, augmentation, task, training"
    )
    parser.add_argument("--data", required=True, help="prepared folder")
    parser.add_argument("--tokenizer", required=True, help="folder of a trained tokenizer")
    parser.add_argument("--output", required=True, help="folder for checkpoints, curves and the trained model")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --output")
    parser.add_argument("--epochs", type=int, help="instead of the configuration's number")
    arguments = parser.parse_args(argv)
    settings = yaml.safe_load(Path(arguments.config).read_text(encoding="utf-8"))
    if arguments.epochs is not None:
        settings["training"]["epochs"] = arguments.epochs
    training = TrainingConfig.from_dict(settings["training"])
    window_settings = dict(settings.get("windows", {}))
    stretches = window_settings.pop("stretches", [1.0])

    tokenizer = MegaDanceTokenizer.from_pretrained(arguments.tokenizer).eval()
    genres = read_info(arguments.data)["genres"]
    clips = read_prepared(arguments.data, "train")
    statistics = Statistics.from_clips(clips)
    held_out_clips = read_prepared(arguments.data, "validation")
    torch.manual_seed(training.seed)
    model = MegaDanceForMotionGeneration(
        MegaDanceConfig(
            codebook_size=tokenizer.config.codebook_size,
            frames_per_code=tokenizer.config.frames_per_code,
            id2label=dict(enumerate(genres)),
            **settings.get("model", {}),
        )
    )
    model.set_music_statistics(statistics.input_mean, statistics.input_std)
    if "rhythm" in settings:
        output = Path(arguments.output) / "rhythm"
        train_rhythm(model, clips, held_out_clips, statistics, settings["rhythm"], output, arguments.resume)
    hear = model.eval().model.encode_rhythm
    encoded = encode_clips(tokenizer, clips, stretches=stretches, encode_rhythm=hear, progress=True)
    held_out = encode_clips(tokenizer, held_out_clips, mirror=False, encode_rhythm=hear)
    windows = CodeWindows(
        encoded,
        genres,
        statistics,
        augmentation=MusicAugmentation(**settings.get("augmentation", {})),
        seed=training.seed,
        **window_settings,
    )
    length = windows.length
    validation = CodeWindows(held_out, genres, statistics, length=length, stride=length // 2, random=False)

    model.generation_config.start_codes = start_codes(encoded, genres)
    for name, value in settings.get("generation", {}).items():
        setattr(model.generation_config, name, value)
    report = train(
        model,
        GeneratorTask(validation, **settings.get("task", {})),
        windows,
        EpochSampler(windows, training.seed),
        collate,
        training,
        arguments.output,
        resume=arguments.resume,
    )
    MegaDanceFeatureExtractor().save_pretrained(arguments.output)
    tokenizer.save_pretrained(Path(arguments.output) / "tokenizer")
    return report


if __name__ == "__main__":
    main()
