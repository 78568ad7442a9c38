"""`megadance demo`: the web page."""

import argparse
import contextlib
from importlib.util import find_spec
from typing import Any

from .console import quiet_libraries
from .options import POSITIVE, CommandError, add_body_option, add_model_option, number


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="serve a web page: upload a song, watch the dance",
        description="Serve a web page on which people without Python upload a song, watch the dance in 3D and download its files.\n"
        "Stop it with Ctrl-C. One dance is computed at a time; other visitors wait in a queue.",
    )
    parser.set_defaults(run=run)
    add_model_option(parser)
    parser.add_argument(
        "--host", metavar="H", help="address to listen at (default: this machine only); 0.0.0.0 for everybody"
    )
    parser.add_argument("--port", metavar="N", type=_port, help="port (default: the first free one from 7860 on)")
    add_body_option(parser, "on the page")
    parser.add_argument("--open", action="store_true", help="show the page in the browser")
    parser.add_argument(
        "--max-seconds",
        metavar="S",
        type=number(1),
        default=120.0,
        help="longest dance (default 120); longer songs are cut",
    )
    parser.add_argument("--max-megabytes", metavar="N", type=POSITIVE, default=30.0, help="largest upload (default 30)")
    parser.add_argument(
        "--time-limit",
        metavar="S",
        type=POSITIVE,
        default=300.0,
        help="stop computing a dance after this many seconds (default 300)",
    )
    parser.add_argument(
        "--max-disk",
        metavar="N",
        type=POSITIVE,
        default=4000.0,
        help="megabytes for all songs and dances, which are kept for an hour (default 4000); the oldest go first",
    )


def _port(text: str) -> int:
    """An argparse type."""
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used: give a whole number from 1 to 65535")
    return int(text)


def run(arguments: argparse.Namespace) -> None:
    """Serve until Ctrl-C."""
    if find_spec("gradio") is None:
        raise CommandError("demo needs gradio: pip install 'megadance-hf[demo]'")
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
