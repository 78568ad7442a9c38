"""What the training scripts share: their command line, samples while training, start codes, the way to the Hub."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from megadance_hf.data import EncodedClip
from megadance_hf.datasets_scripts.schema import Clip
from megadance_hf.hub import push_to_hub, push_while_training
from megadance_hf.modeling.feature_extraction_megadance import MegaDanceFeatureExtractor
from megadance_hf.modeling.processing_megadance import MegaDanceProcessor
from megadance_hf.motion import Motion
from megadance_hf.pipeline import MusicToDancePipeline
from megadance_hf.training import TrainingConfig, processes

START_CODES_PER_GENRE = 16
SAMPLE_SECONDS = 8


def argument_parser(description: str | None, sections: str) -> argparse.ArgumentParser:
    """The arguments that every training script has; `sections` are those of its configuration file."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help=f"YAML with sections {sections}")
    parser.add_argument("--output", required=True, help="folder for checkpoints, curves and the trained model")
    parser.add_argument(
        "--set",
        metavar="SECTION.NAME=VALUE",
        action="append",
        default=[],
        help="another value than the configuration's, such as model.use_mamba=false; may be given several times",
    )
    add_run_arguments(parser)
    return parser


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --output")
    parser.add_argument("--epochs", type=int, help="instead of the configuration's number")
    parser.add_argument(
        "--push-to-hub",
        metavar="OWNER/NAME",
        help="upload the result there, and what there is so far at every training.sample_every epochs; log in first with "
        "`hf auth login`",
    )


def read_settings(arguments: argparse.Namespace) -> tuple[dict[str, Any], TrainingConfig]:
    """The configuration file, and its section `training`."""
    settings = yaml.safe_load(Path(arguments.config).read_text(encoding="utf-8"))
    for change in arguments.set:
        place, _, value = change.partition("=")
        section, _, name = place.partition(".")
        if not value or not name or section not in settings:
            raise SystemExit(f"--set {change}: give SECTION.NAME=VALUE with a section of {', '.join(settings)}")
        settings[section][name] = yaml.safe_load(value)
    if arguments.epochs is not None:
        settings["training"]["epochs"] = arguments.epochs
    return settings, TrainingConfig.from_dict(settings["training"])


def start_codes(encoded: Sequence[EncodedClip], genres: Sequence[str]) -> dict[str, list[list[int]]]:
    """How the training clips of each genre begin: [upper, lower] pairs that a dance may begin with."""
    result: dict[str, list[list[int]]] = {genre: [] for genre in genres}
    for item in encoded:
        pair = [int(item.upper[0][0]), int(item.lower[0][0])]
        found = result[item.clip.genre]
        if item.stretch == 1.0 and pair not in found and len(found) < START_CODES_PER_GENRE:
            found.append(pair)
    return result


def with_parts(tokenizer: Any, extractor: MegaDanceFeatureExtractor) -> Callable[[nn.Module], MusicToDancePipeline]:
    """From a generator that is trained to all that its repository holds."""

    def whole(model: Any) -> MusicToDancePipeline:
        processor = MegaDanceProcessor(extractor, model.config.genres, model.config.frames_per_code)
        return MusicToDancePipeline(model, tokenizer, processor, device=model.device)

    return whole


def dance_sampler(tokenizer: Any, clips: Sequence[Clip], folder: Path) -> Callable[[nn.Module, int], None]:
    """What `train` calls now and then: a dance to the first held-out song, as pictures and as .npz."""
    songs = [clip for clip in clips if clip.paired]

    def sample(model: Any, epoch: int) -> None:
        from megadance_hf.render import filmstrip

        if not songs:
            return
        clip, config = songs[0], model.config
        frames = min(len(clip), SAMPLE_SECONDS * config.fps) // config.frames_per_code * config.frames_per_code
        features = torch.from_numpy(clip.input_features[None, :frames])
        genre = torch.tensor([model.genre_id(clip.genre)])
        codes = model.generate(features, genre, seed=0, do_sample=True)
        codes.upper_codes, codes.lower_codes = (
            codes.upper_codes.to(tokenizer.device),
            codes.lower_codes.to(tokenizer.device),
        )
        processor = MegaDanceProcessor(MegaDanceFeatureExtractor(), config.genres, config.frames_per_code)
        (dance,) = processor.post_process_motion(codes, tokenizer, frames)
        motion = Motion(**dance, fps=config.fps, genre=clip.genre)
        folder.mkdir(parents=True, exist_ok=True)
        motion.save(folder / f"epoch-{epoch:04d}.npz")
        filmstrip(motion, folder / f"epoch-{epoch:04d}.png", size=(200, 300))

    return sample


def while_training(
    arguments: argparse.Namespace,
    draw: Callable[[nn.Module, int], None] | None = None,
    whole: Callable[[nn.Module], Any] | None = None,
) -> Callable[[nn.Module, int], None]:
    """What `train` calls now and then: `draw`, and a push when one is asked for (`whole`: see `push_while_training`)."""
    steps = [] if draw is None else [draw]
    if arguments.push_to_hub:
        steps.append(push_while_training(arguments.push_to_hub, whole))

    def sample(model: nn.Module, epoch: int) -> None:
        for step in steps:
            step(model, epoch)

    return sample


def publish(arguments: argparse.Namespace, *parts: tuple[Any, Path]) -> None:
    """Save what belongs to the model beside it, and upload the folder when asked to; in one process of several."""
    if processes().is_main_process:
        for part, folder in parts:
            part.save_pretrained(folder)
        if arguments.push_to_hub:
            print(push_to_hub(arguments.output, arguments.push_to_hub))
    processes().wait_for_everyone()
