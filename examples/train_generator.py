"""Train the dance generator (second stage) on a prepared data set, with a trained tokenizer.

    python examples/train_generator.py --config examples/configs/ballroom_generator.yaml \
        --data DIR --tokenizer DIR --output DIR
    accelerate launch examples/train_generator.py ...             # on several GPUs
    torchrun --nproc_per_node 2 examples/train_generator.py ...   # in several processes without any

What it writes is a complete model folder: generator, generation configuration with start codes for each genre, feature
extractor, and the tokenizer in `tokenizer/`, ready for `MusicToDancePipeline.from_pretrained(DIR)`.
"""

from pathlib import Path

import torch
from common import (
    argument_parser,
    dance_sampler,
    publish,
    read_settings,
    start_codes,
    while_training,
    with_parts,
)
from tqdm import tqdm

from megadance_hf.data import (
    CodeWindows,
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
from megadance_hf.tasks import GeneratorTask, RhythmTask
from megadance_hf.training import TrainingConfig, processes, train


def train_rhythm(
    model: MegaDanceForMotionGeneration,
    clips: list[Clip],
    held_out: list[Clip],
    statistics: Statistics,
    settings: dict,
    output: Path,
    resume: bool,
) -> MegaDanceForMotionGeneration:
    """The model with only its rhythm encoder trained: on the data's own songs and on composed ones with exact beats."""
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
    model = MegaDanceForMotionGeneration.from_pretrained(output)  # after FSDP the one that was trained is in pieces
    model.model.rhythm_encoder.requires_grad_(False)
    return model.to(processes().device)


def main(argv: list[str] | None = None) -> dict[str, float]:
    parser = argument_parser(__doc__, "model, rhythm, windows, sampler, augmentation, task, training")
    parser.add_argument("--data", required=True, help="prepared folder")
    parser.add_argument("--tokenizer", required=True, help="folder of a trained tokenizer")
    parser.add_argument(
        "--rhythm", metavar="DIR", help="trained generator whose rhythm encoder is taken over instead of training one"
    )
    arguments = parser.parse_args(argv)
    settings, training = read_settings(arguments)
    window_settings = dict(settings.get("windows", {}))
    stretches = window_settings.pop("stretches", [1.0])

    device = processes().device
    tokenizer = MegaDanceTokenizer.from_pretrained(arguments.tokenizer).eval().to(device)
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
    if arguments.rhythm:
        teacher = MegaDanceForMotionGeneration.from_pretrained(arguments.rhythm).model.rhythm_encoder
        model.model.rhythm_encoder.load_state_dict(teacher.state_dict())
        model.model.rhythm_encoder.requires_grad_(False)
    elif "rhythm" in settings:
        output = Path(arguments.output) / "rhythm"
        model = train_rhythm(model, clips, held_out_clips, statistics, settings["rhythm"], output, arguments.resume)
    hear = model.eval().model.encode_rhythm
    encoded = encode_clips(tokenizer, clips, stretches=stretches, encode_rhythm=hear, device=device, progress=True)
    held_out = encode_clips(tokenizer, held_out_clips, mirror=False, encode_rhythm=hear, device=device)
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
    # With many genres a freely mixed batch has a few windows for each of many experts, which is slow.
    mixing = {"genre_run": 8 if len(genres) > 4 else 1, **settings.get("sampler", {})}
    output, extractor = Path(arguments.output), MegaDanceFeatureExtractor()
    report = train(
        model,
        GeneratorTask(validation, **settings.get("task", {})),
        windows,
        EpochSampler(windows, training.seed, **mixing),
        collate,
        training,
        arguments.output,
        resume=arguments.resume,
        sample=while_training(
            arguments,
            dance_sampler(tokenizer, held_out_clips, output / "samples"),
            with_parts(tokenizer, extractor),
        ),
    )
    publish(arguments, (extractor, output), (tokenizer, output / "tokenizer"))
    return report


if __name__ == "__main__":
    main()
