"""`megadance genres`: which dances a model knows."""

import argparse

from .console import quiet_libraries
from .options import add_model_option

HELP, DESCRIPTION, EXAMPLES = "list the genres of a model", "List the genres of a model.", None
add_options = add_model_option


def run(arguments: argparse.Namespace) -> None:
    """Print one genre per line."""
    from megadance_hf.models import DEFAULT_MODEL, load_config

    quiet_libraries()
    print("\n".join(load_config(arguments.model or DEFAULT_MODEL).built_genres))
