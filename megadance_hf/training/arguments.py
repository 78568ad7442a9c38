"""The command line that the training scripts share."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from transformers.configuration_utils import PreTrainedConfig

from megadance_hf.modeling.errors_megadance import ModelError, one_line
from megadance_hf.modeling.loading_megadance import load_weights
from megadance_hf.models import find_model

from .checkpoints import CHECKPOINTS, check_output
from .config import TrainingConfig
from .processes import print_failure, print_once
from .recipes import DataSettings, Kind, Recipe, read_recipe


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print_failure(f"{self.prog}: error: {message} (see {self.prog} --help)")
        raise SystemExit(2)


def positive_int(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used: give a whole number of 1 or more")
    return int(text)


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser for the running script; its errors are one line, from one process."""
    name = Path(sys.argv[0]).stem
    return _Parser(prog=name, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def recipe_parser(description: str | None, sections: str) -> argparse.ArgumentParser:
    """The arguments of a script that reads a recipe; `sections` names the recipe's, for --help."""
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
    parser.add_argument("--epochs", metavar="N", type=positive_int, help="instead of the recipe's number")
    parser.add_argument("--max-steps", metavar="N", type=positive_int, help="end after so many steps, for a first try")
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


def read_settings(
    parser: argparse.ArgumentParser, kind: Kind, argv: Sequence[str] | None
) -> tuple[argparse.Namespace, Recipe, TrainingConfig, DataSettings]:
    """The arguments, the recipe with the changes of --set, and its sections `training` and `data`.

    Raises:
        RecipeError, TrainingError: one of them cannot be used, or the output cannot.
    """
    arguments = parser.parse_args(argv)
    recipe = read_recipe(arguments.config, kind, arguments.set)
    training = with_run_arguments(recipe.training(), arguments)
    with recipe.using("data"):
        return arguments, recipe, training, DataSettings(**recipe.section("data"))


def with_run_arguments(training: TrainingConfig, arguments: argparse.Namespace) -> TrainingConfig:
    """The settings with --epochs and --max-steps; also checks --output, and tells when --resume finds nothing there."""
    epochs, max_steps = arguments.epochs or training.epochs, arguments.max_steps or training.max_steps
    training = replace(training, epochs=epochs, max_steps=max_steps)
    check_output(arguments.output, arguments.resume)
    if arguments.resume and not Path(arguments.output, CHECKPOINTS).is_dir():
        print_once(f"--resume: there is no checkpoint in {arguments.output}, training begins at its beginning")
    return training


def load_part(cls: type, source: str, option: str) -> Any:
    """A trained model of class `cls`, from a folder or the Hub; `option` is how the script asks for it.

    Raises:
        ModelError: there is none, or it is of another kind.
    """
    folder = find_model(source)
    with one_line(source):
        content, _ = PreTrainedConfig.get_config_dict(folder)
    wanted, found = cls.config_class.model_type, content.get("model_type")
    if found != wanted:
        inside = Path(folder, "tokenizer", "config.json").is_file() and "tokenizer" in wanted
        remedy = f"give {Path(source) / 'tokenizer'}" if inside else f"give the folder of a trained {wanted}"
        raise ModelError(f"{option} {source}: it holds {found or 'no model'}: {remedy}")
    with one_line(source):
        return load_weights(cls, folder)
