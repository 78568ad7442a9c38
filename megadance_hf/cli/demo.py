"""`megadance demo`: the web page."""

import argparse
import contextlib
from importlib.util import find_spec

from .console import quiet_libraries
from .options import POSITIVE, CommandError, add_body_option, add_model_option, add_values, number, port

HELP = "serve a web page: upload a song, watch the dance"
DESCRIPTION = """\
Serve a web page on which people without Python upload a song, watch the dance in 3D and download its files.
Stop it with Ctrl-C. One dance is computed at a time; other visitors wait in a queue."""
EXAMPLES = None


def add_options(parser: argparse.ArgumentParser) -> None:
    add_model_option(parser)
    add_values(
        parser,
        ("--host", "H", str, None, "address to listen at (default: this machine only); 0.0.0.0 for everybody"),
        ("--port", "N", port, None, "port (default: the first free one from 7860 on)"),
    )
    add_body_option(parser, "on the page")
    parser.add_argument("--open", action="store_true", help="show the page in the browser")
    disk = "megabytes for all songs and dances, which are kept for an hour (default 4000); the oldest go first"
    add_values(
        parser,
        ("--max-seconds", "S", number(1), 120.0, "longest dance (default 120); longer songs are cut"),
        ("--max-megabytes", "N", POSITIVE, 30.0, "largest upload (default 30)"),
        ("--time-limit", "S", POSITIVE, 300.0, "stop computing a dance after this many seconds (default 300)"),
        ("--max-disk", "N", POSITIVE, 4000.0, disk),
    )


def run(arguments: argparse.Namespace) -> None:
    """Serve until Ctrl-C."""
    for library in ("starlette", "uvicorn"):
        if find_spec(library) is None:
            raise CommandError(f"demo needs {library}: pip install 'megadance-hf[demo]'")
    from megadance_hf.demo.limits import Limits
    from megadance_hf.demo.server import launch
    from megadance_hf.models import DEFAULT_MODEL

    quiet_libraries()
    limits = Limits(
        arguments.max_seconds, arguments.max_megabytes, arguments.time_limit, disk_megabytes=arguments.max_disk
    )
    with contextlib.suppress(KeyboardInterrupt):  # this is how one ends it
        launch(
            arguments.model or DEFAULT_MODEL,
            host=arguments.host,
            port=arguments.port,
            limits=limits,
            body=arguments.body,
            open_browser=arguments.open,
        )
