"""What the training scripts share: their command line, data, samples while training, start codes, the way to the Hub."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn
from transformers.configuration_utils import PreTrainedConfig
from transformers.utils.logging import disable_progress_bar

from megadance_hf.cli.console import status_of, stoppable
from megadance_hf.data.clip import Clip
from megadance_hf.data.codes import EncodedClip
from megadance_hf.data.prepared import DataError, read_info, read_prepared
from megadance_hf.data.segments import fitting_length
from megadance_hf.data.splits import hold_back, songs_of
from megadance_hf.hub.push import check_hub, listing, push_to_hub, push_while_training, save_for_hub
from megadance_hf.modeling.errors_megadance import ModelError, one_line, reason_of
from megadance_hf.modeling.feature_extraction_megadance import MegaDanceFeatureExtractor
from megadance_hf.modeling.files_megadance import scratch
from megadance_hf.modeling.pipeline_megadance import load_weights
from megadance_hf.modeling.processing_megadance import MegaDanceProcessor
from megadance_hf.models import find_model
from megadance_hf.motion.motion import Motion
from megadance_hf.pipeline import MusicToDancePipeline
from megadance_hf.training.loop import CHECKPOINTS, TrainingConfig, TrainingError, check_output, processes
from megadance_hf.training.recipes import DataSettings, Recipe, read_recipe

START_CODES_PER_GENRE = 16
SAMPLE_SECONDS = 8


# --- the command line ----------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        if _is_first():
            print(f"{self.prog}: error: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def _is_first() -> bool:
    """Whether this process speaks for all, also before they have met."""
    return int(os.environ.get("RANK") or 0) == 0


def whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used: give a whole number of 1 or more")
    return int(text)


def make_parser(description: str | None) -> argparse.ArgumentParser:
    name = Path(sys.argv[0]).stem
    return _Parser(prog=name, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def argument_parser(description: str | None, sections: str) -> argparse.ArgumentParser:
    """The arguments that every training script has; `sections` are those of its configuration file."""
    parser = make_parser(description)
    parser.add_argument("--config", required=True, help=f"recipe: YAML with sections {sections}")
    parser.add_argument(
        "--output", required=True, help="folder for checkpoints, curves and the trained model; new, or --resume"
    )
    parser.add_argument(
        "--set",
        metavar="SECTION.NAME=VALUE",
        action="append",
        default=[],
        help="another value than the recipe's, such as model.use_mamba=false; may be given several times",
    )
    add_run_arguments(parser)
    return parser


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --output")
    parser.add_argument("--epochs", metavar="N", type=whole, help="instead of the recipe's number")
    parser.add_argument("--max-steps", metavar="N", type=whole, help="end after so many steps, for a first try")
    parser.add_argument(
        "--push-to-hub",
        metavar="OWNER/NAME",
        help="upload the result there, and what there is so far at every training.sample_every epochs; log in first with "
        "`hf auth login`",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check recipe, data and models, tell what would be trained and uploaded, and write nothing",
    )


def run(main: Callable[[], Any]) -> NoReturn:
    """What a script is when it is started: mistakes are one line on stderr, from one process, and exit status 2."""
    status = 0
    if not sys.stderr.isatty():  # transformers' bars; ours know it
        disable_progress_bar()
    try:
        with stoppable():
            main()
    except KeyboardInterrupt as stop:
        status, said = status_of(stop), "stopped; the same line with --resume goes on from the last checkpoint"
    except (MemoryError, torch.OutOfMemoryError) as error:
        status, said = 2, f"error: out of memory ({reason_of(error, 120)}): use a smaller training.batch_size or model"
    except Exception as error:
        if isinstance(error, RuntimeError) and "allocate memory" in str(error):  # torch's, on a CPU
            status, said = (
                2,
                f"error: out of memory ({reason_of(error, 120)}): use a smaller training.batch_size or model",
            )
        elif not (isinstance(error, OSError) or type(error).__module__.partition(".")[0] == "megadance_hf"):
            raise  # a bug: its traceback tells where
        else:
            status, said = 2, f"error: {' '.join(str(error).split())}"
    if status and _is_first():
        print(f"{Path(sys.argv[0]).stem}: {said}", file=sys.stderr)
    raise SystemExit(status)


def speaks() -> bool:
    """Whether this is the process that speaks for all."""
    return processes().is_main_process


def say(text: str) -> None:
    """A line, once for all processes."""
    if speaks():
        print(text, flush=True)


def read_settings(arguments: argparse.Namespace, kind: str) -> tuple[Recipe, TrainingConfig]:
    """The recipe with its changes, and its section `training`. What is wrong with the output or the Hub is said as well."""
    recipe = read_recipe(arguments.config, kind, arguments.set)
    training = with_limits(recipe.training(), arguments)
    check_places(arguments)
    return recipe, training


def with_limits(training: TrainingConfig, arguments: argparse.Namespace) -> TrainingConfig:
    """The settings with --epochs and --max-steps."""
    return replace(
        training,
        epochs=arguments.epochs or training.epochs,
        max_steps=arguments.max_steps or training.max_steps,
    )


def check_places(arguments: argparse.Namespace) -> None:
    """That the output can be written, and that the Hub can be reached and knows who we are, before hours of training."""
    check_output(arguments.output, arguments.resume)
    if arguments.resume and not Path(arguments.output, CHECKPOINTS).is_dir():
        say(f"--resume: there is no checkpoint in {arguments.output}, training begins at its beginning")
    if arguments.push_to_hub and not arguments.dry_run and processes().is_main_process:
        check_hub(arguments.push_to_hub)


# --- data ----------------------------------------------------------------------------------------------------------


@dataclass
class TrainingData:
    """Clips of a prepared data set to train on and to measure by, and its genres in the order of their ids."""

    folder: str
    train: list[Clip]
    held_out: list[Clip]
    genres: list[str]


def read_data(
    folder: str, settings: DataSettings, *, genre: bool = False, music: bool = False, quiet: bool = False
) -> TrainingData:
    """A prepared data set for training. Where it has no validation split, whole songs are held back.

    Args:
        folder: the data set.
        settings: how much is held back.
        genre: clips without a genre are of no use.
        music: there must be clips with music; what is measured needs it.
        quiet: nothing is measured by this one, and nobody needs to be told.

    Raises:
        DataError: it cannot be read or used.
    """
    info = read_info(folder)
    genres, splits = list(info["genres"]), list(info["splits"])
    if genre and not genres:
        raise DataError(f"{folder}: it names no genres, which a generator and a classifier are trained with")
    train = _usable(folder, read_prepared(folder, "train"), genre)
    if not train:
        raise DataError(
            f"{folder}: its split train has no clip{' with a genre' if genre else ''}: prepare it with some"
        )
    if music and not any(clip.paired for clip in train):
        raise DataError(f"{folder}: none of {len(train)} clips in train has music, and a generator dances to music")
    held_out: list[Clip] = []
    if "validation" in splits and not quiet:
        held_out = _usable(folder, read_prepared(folder, "validation"), genre)
        held_out = [clip for clip in held_out if clip.paired or not music]
    if not held_out and settings.hold_back:
        train, held_out = hold_back(train, settings.hold_back)
        reason = (
            "no validation split" if "validation" not in splits else "nothing to measure by in its validation split"
        )
        if held_out:
            names = ", ".join(dict.fromkeys(clip.song or clip.id for clip in held_out))
            counts = [len(set(songs_of(clips))) for clips in (held_out, [*train, *held_out])]
            say(
                f"{folder} has {reason}: held back to measure by are {counts[0]} of {counts[1]} songs ({names}). "
                "data.hold_back=0 trains on all, as the paper does"
            )
        else:
            held_out = [clip for clip in train if clip.paired or not music]
            say(
                f"{folder} has {reason}, and a single song, which is trained on: what is measured tells only how well it is known "
                "by heart"
            )
    elif not held_out and not quiet:
        say(f"data.hold_back=0: all {len(train)} clips are trained on, and nothing is measured meanwhile")
    missing = [name for name in genres if all(clip.genre != name for clip in train)]
    if genre and missing:
        say(f"no training clip is of {', '.join(missing)}: what the model has for these stays untrained")
    return TrainingData(folder, train, held_out, genres)


def _usable(folder: str, clips: list[Clip], genre: bool) -> list[Clip]:
    found = [clip for clip in clips if clip.genre is not None or not genre]
    if len(found) < len(clips):
        say(
            f"{folder}: {len(clips) - len(found)} of {len(clips)} clips in {clips[0].split} have no genre and are left out"
        )
    return found


def fit_windows(options: dict[str, Any], default: int, clips: Sequence[Clip], what: str = "windows") -> dict[str, Any]:
    """The options of a section with a length that half of the clips have; what is left out or changed is said.

    Raises:
        DataError: the clips are too short for any window.
    """
    wanted = options.get("length", default)
    if options.get("short") == "reflect":
        return options
    length = fitting_length([len(clip) for clip in clips], wanted)
    if length is None:
        longest = max(map(len, clips))
        raise DataError(f"most of {len(clips)} clips are too short to train on: the longest has {longest} frames")
    if length < wanted:
        say(f"{what}.length={length} instead of {wanted}: most clips are shorter")
    short = sum(len(clip) < length for clip in clips)
    if short:
        say(f"{short} of {len(clips)} clips have less than {length} frames and are left out")
    return options | {"length": length}


def fit_batch(training: TrainingConfig, windows: Any, what: str = "training") -> TrainingConfig:
    """The settings with a batch size that the windows fill."""
    number = processes().num_processes
    if len(windows) >= training.batch_size * number:
        return training
    if len(windows) < number:
        raise TrainingError(f"{len(windows)} windows are too few for {number} processes: use fewer, or more data")
    say(
        f"{what}.batch_size={len(windows) // number} instead of {training.batch_size}: there are {len(windows)} windows in all"
    )
    return replace(training, batch_size=len(windows) // number)


def say_unmatched(names: Sequence[str], place: str) -> None:
    if names:
        say(f"{place}.repeats: the data have no {', '.join(names)}; that changes nothing")


# --- models --------------------------------------------------------------------------------------------------------


def open_part(cls: type, source: str, option: str) -> Any:
    """A trained model of a certain kind, from a folder or the Hub; a wrong one is an error of one line.

    Raises:
        ModelError: there is none, or it is of another kind.
    """
    place = find_model(source)
    with one_line(source):
        content, _ = PreTrainedConfig.get_config_dict(place)
    wanted, found = cls.config_class.model_type, content.get("model_type")
    if found != wanted:
        inside = Path(place, "tokenizer", "config.json").is_file() and "tokenizer" in wanted
        remedy = f"give {Path(source) / 'tokenizer'}" if inside else f"give the folder of a trained {wanted}"
        raise ModelError(f"{option} {source}: it holds {found or 'no model'}: {remedy}")
    with one_line(source):
        return load_weights(cls, place)


def tell(arguments: argparse.Namespace, model: nn.Module, data: Sequence[TrainingData], whole: Any) -> dict[str, float]:
    """What --dry-run says: what would be trained on what, and what would be uploaded."""
    train, held_out = sum(len(one.train) for one in data), len(data[0].held_out)
    say(
        f"would train {type(model).__name__}, {model.num_parameters():,} parameters, on {train} clips, measured by {held_out}"
    )
    say(f"would write to {arguments.output}")
    if arguments.push_to_hub and processes().is_main_process:
        with scratch() as temporary:
            folder = save_for_hub(whole, temporary / "repository", repo=arguments.push_to_hub)
            print(listing(folder, arguments.push_to_hub, "model"))
    return {}


# --- while and after training --------------------------------------------------------------------------------------


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
        from megadance_hf.render.video import filmstrip

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
