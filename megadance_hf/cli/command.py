"""The entry point of `megadance`: one parser with a module for each subcommand, and the exit status.

These modules import only the standard library until the arguments are understood, so that `--help` and mistakes answer at once.
Every mistake ends in one line on stderr and exit status 2, before anything is written.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from megadance_hf import __version__

from . import convert, demo, evaluate, export, generate, genres, info, prepare, push, redo, study
from .console import StreamError, safe_streams, status_of, stoppable
from .options import is_for_users

SUBCOMMANDS = (generate, redo, export, demo, genres, info, convert, prepare, push, evaluate, study)

DESCRIPTION = "Music in, 3D dance out (MEGADance). `megadance COMMAND --help` shows the options of a command."
EXAMPLES = """\
examples:
  megadance genres                                      which dances the bundled model knows
  megadance generate song.mp3 -o dance.mp4              a video with the song as its sound
  megadance generate song.mp3 --genre waltz -o dance.mp4 -o dance.bvh -o dance.glb
  megadance generate song.mp3 --bundle dance            a folder for Blender: figure, sound, a script that opens both
  megadance demo                                        the same as a web page on this machine
  megadance prepare synthetic prepared/synthetic        data to train on
  megadance evaluate --data prepared/ballroom --protocol finedance --out report
"""


class _Parser(argparse.ArgumentParser):
    """Subcommands are of this class, too: descriptions and examples keep their lines.

    `fill(parser)` adds arguments when the subcommand is chosen, so that no other one waits for them.
    """

    def __init__(self, *, fill: Callable[[argparse.ArgumentParser], None] | None = None, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self._fill = fill

    def complete(self) -> None:
        """Adds the arguments of `fill`, once."""
        if self._fill is not None:
            fill, self._fill = self._fill, None
            fill(self)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.complete()
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        # argparse would print the usage first; one line is easier to read
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command. Parsed arguments have `run`, a function that takes them."""
    parser = _Parser(prog="megadance", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("--version", action="version", version=f"megadance {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for subcommand in SUBCOMMANDS:
        name, texts = subcommand.__name__.rpartition(".")[2], {"help": subcommand.HELP, "epilog": subcommand.EXAMPLES}
        command = commands.add_parser(name, description=subcommand.DESCRIPTION, fill=subcommand.add_options, **texts)
        command.set_defaults(run=subcommand.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (`sys.argv[1:]` when None).

    Returns:
        the exit status: 0, 2 for bad input, 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.
    """
    try:
        with safe_streams(), stoppable():
            return _run(_join_axes(sys.argv[1:] if argv is None else argv))
    except StreamError as error:
        print(f"megadance: error: {error}", file=sys.stderr)
        return 2


def _run(argv: list[str]) -> int:
    arguments = build_parser().parse_args([*argv[1:], "--help"] if argv[:1] == ["help"] else argv)
    try:
        arguments.run(arguments)
    except KeyboardInterrupt as stop:
        print(f"\nmegadance: {str(stop) or 'stopped, nothing was written'}", file=sys.stderr)
        return status_of(stop)
    except Exception as error:
        if not is_for_users(error):
            raise
        print(f"megadance {arguments.command}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _join_axes(argv: Sequence[str]) -> list[str]:
    """`--up -y` as `--up=-y`: argparse would take -y for an option."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1] == "--up" and word in ("-x", "-y", "-z"):
            joined[-1] = f"--up={word}"
        else:
            joined.append(word)
    return joined
