"""`megadance genres`: which dances a model knows."""

import argparse
from typing import Any

from .console import quiet_libraries
from .options import add_model_option


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("genres", help="list the genres of a model", description="List the genres of a model.")
    parser.set_defaults(run=run)
    add_model_option(parser)


def run(arguments: argparse.Namespace) -> None:
    """Print one genre per line."""
    from megadance_hf.models import DEFAULT_MODEL, load_config

    quiet_libraries()
    print("\n".join(load_config(arguments.model or DEFAULT_MODEL).built_genres))
