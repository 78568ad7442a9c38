"""`megadance prepare`: a downloaded data set as one to train and measure with."""

import argparse
from functools import partial
from typing import Any

from megadance_hf.data.sources import InstalledSource, Option, find_sources

from .options import CommandError, is_for_users, number

HELP = "turn a downloaded data set into one to train and measure with"
DESCRIPTION = "Turn a downloaded data set into a folder of Parquet files to train and measure with."
EXAMPLES = """\
examples:
  megadance prepare finedance FineDance prepared/finedance --num-proc 4
  megadance prepare aistpp aist_plusplus_final prepared/aistpp --music all_musics
  megadance prepare synthetic prepared/synthetic --clips 80

A clip that cannot be used is named and left out. The same command again makes only what is missing or has changed.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    sets = parser.add_subparsers(dest="data_set", metavar="SET", required=True)
    for found in find_sources():
        text = " ".join((found.source.description if found.source else f"cannot be used: {found.problem}").split())
        texts: dict[str, Any] = {"help": text.replace("%", "%%"), "description": f"{text[:1].upper()}{text[1:]}."}
        sets.add_parser(found.name, fill=partial(_add_arguments, found=found), **texts)


def _add_arguments(parser: argparse.ArgumentParser, found: InstalledSource) -> None:
    if found.source is None:
        parser.exit(2, f"{parser.prog}: error: {found.problem}\n")
    parser.set_defaults(found=found)
    if found.source.has_raw:
        parser.add_argument("raw", metavar="RAW", help="the folder as it was downloaded")
    parser.add_argument("out", metavar="OUT", help="folder to write; an earlier run's is brought up to date")
    parser.add_argument("--num-proc", metavar="N", type=number(1, whole=True), default=1, help="processes (default 1)")
    parser.add_argument(
        "--push",
        metavar="REPO",
        help="upload to this private data set repository of the Hub (music only where allowed)",
    )
    parser.add_argument("--dry-run", action="store_true", help="with --push: only tell what would be uploaded")
    if found.source.has_raw:
        parser.add_argument(
            "--keep-jumps",
            action="store_const",
            dest="jumps",
            const="keep",
            default="leave_out",
            help="keep clips with a sudden jump, which are otherwise left out; they are reported either way",
        )
    for option in found.source.options:
        _add_option(parser, option)


def _add_option(parser: argparse.ArgumentParser, option: Option) -> None:
    values: dict[str, Any] = {"default": option.default, "help": option.help.replace("%", "%%")}
    if option.kind is bool:
        values |= {"action": "store_true"}
    elif option.choices:
        values |= {"choices": option.choices}
    else:
        kind = str if option.kind is str else number(option.minimum, whole=option.kind is int)
        values |= {"metavar": option.metavar or ("TEXT" if kind is str else "N"), "type": kind}
    parser.add_argument(f"--{option.name.replace('_', '-')}", **values)


def run(arguments: argparse.Namespace) -> None:
    """Prepare a data set and say what is in it; push it when asked to."""
    if arguments.dry_run and not arguments.push:
        raise CommandError("argument --dry-run: it is about --push REPO: give that, or leave both out")
    if arguments.push and not arguments.dry_run:
        from megadance_hf.hub.connection import check_hub

        check_hub(arguments.push)
    prepare, source = arguments.found.load(), arguments.found.source
    names = ["out", "num_proc", *(["raw", "jumps"] if source.has_raw else [])]
    names += [option.name for option in source.options]
    try:
        print(prepare(**{name: getattr(arguments, name) for name in names}))
    except KeyboardInterrupt as stop:
        stop.args = ("stopped; what is done is kept, the same command goes on from there",)
        raise
    except OSError as error:
        if is_for_users(error):
            raise
        raise CommandError(f"{error}: check that RAW can be read and OUT written") from error
    if arguments.push:
        from megadance_hf.hub.datasets import push_dataset

        answer = push_dataset(arguments.out, arguments.push, arguments.dry_run)
        print(answer if arguments.dry_run else f"pushed to {answer} (private)")
