"""`megadance info`: what a model is."""

import argparse

from .console import quiet_libraries
from .options import MODEL, CommandError

HELP, DESCRIPTION, EXAMPLES = "describe a model", "Describe a model: kind, sizes, genres, switches.", None


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="MODEL", nargs="?", help=MODEL)
    parser.add_argument("--model", metavar="MODEL", help="the same, as the other commands have it")


def run(arguments: argparse.Namespace) -> None:
    """Print what the configuration says; the weights are not loaded."""
    from megadance_hf.models import DEFAULT_MODEL
    from megadance_hf.pipeline import describe_model

    if arguments.model and arguments.source and arguments.model != arguments.source:
        raise CommandError(f"argument --model: {arguments.source!r} and {arguments.model!r} are two models: give one")
    quiet_libraries()
    lines = describe_model(arguments.model or arguments.source or DEFAULT_MODEL)
    width = max(map(len, lines))
    for name, value in lines.items():
        print(f"{name:<{width}}  {value}")
