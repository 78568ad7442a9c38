"""`megadance prepare`: a downloaded data set as one to train and measure with."""

import argparse
import importlib
from typing import Any

from .options import CommandError, is_for_users, number

# Modules of datasets_scripts.
DATA_SETS = {
    "finedance": "FineDance, as downloaded or as the authors of MEGADance preprocess it",
    "aistpp": "AIST++, as downloaded",
    "ballroom": "waltz, rumba and cha-cha with their songs",
    "mocap": "dances without music",
    "synthetic": "composed songs and choreographed dances; needs no download",
}
EXAMPLES = """\
examples:
  megadance prepare finedance FineDance prepared/finedance --num-proc 4
  megadance prepare aistpp aist_plusplus_final prepared/aistpp --music all_musics
  megadance prepare synthetic prepared/synthetic --clips 80

A clip that cannot be used is named and left out. The same command again makes only what is missing or has changed.
"""


def add_parser(commands: Any) -> None:
    prepare = commands.add_parser(
        "prepare",
        help="turn a downloaded data set into one to train and measure with",
        description="Turn a downloaded data set into a folder of Parquet files to train and measure with.",
        epilog=EXAMPLES,
    )
    sets = prepare.add_subparsers(dest="data_set", metavar="SET", required=True)
    parsers = {}
    for name, what in DATA_SETS.items():
        parsers[name] = one = sets.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
        one.set_defaults(run=run)
        if name != "synthetic":
            one.add_argument("raw", metavar="RAW", help="the folder as it was downloaded")
        one.add_argument("out", metavar="OUT", help="folder to write; an earlier run's is brought up to date")
        one.add_argument("--num-proc", metavar="N", type=number(1, whole=True), default=1, help="processes (default 1)")
        one.add_argument(
            "--push",
            metavar="REPO",
            help="upload to this private data set repository of the Hub (music only where allowed)",
        )
        one.add_argument("--dry-run", action="store_true", help="with --push: only tell what would be uploaded")
        if name != "synthetic":
            one.add_argument(
                "--keep-jumps",
                action="store_const",
                dest="jumps",
                const="keep",
                default="leave_out",
                help="keep clips with a sudden jump, which are otherwise left out; they are told of either way",
            )
    finedance, synthetic = parsers["finedance"], parsers["synthetic"]
    finedance.add_argument(
        "--split",
        choices=("genre", "dancer"),
        default="genre",
        help="published lists: all genres in the test (default; the paper's), or dancers who are in no other split",
    )
    finedance.add_argument(
        "--validation",
        metavar="N",
        type=number(0, whole=True),
        default=0,
        help="train songs to hold back for stopping early; the genre split has none of its own (default 0, as the paper)",
    )
    finedance.add_argument(
        "--hands",
        choices=("middle", "index", "none"),
        default="middle",
        help="finger by which SMPL's hands turn (default middle)",
    )
    parsers["aistpp"].add_argument("--music", metavar="FOLDER", help="where the songs are, if not in RAW/music")
    synthetic.add_argument("--clips", metavar="N", type=number(1, whole=True), default=80, help="how many (default 80)")
    synthetic.add_argument("--seconds", metavar="S", type=number(2), default=24.0, help="length of each (default 24)")
    synthetic.add_argument(
        "--seed", metavar="N", type=number(0, whole=True), default=0, help="other number, other songs"
    )


def run(arguments: argparse.Namespace) -> None:
    """Prepare a data set and say what is in it; push it when asked to."""
    if arguments.dry_run and not arguments.push:
        raise CommandError("argument --dry-run: it is about --push REPO: give that, or leave both out")
    if arguments.push and not arguments.dry_run:
        from megadance_hf.hub.connection import check_hub

        check_hub(arguments.push)
    prepare = importlib.import_module(f"megadance_hf.datasets_scripts.{arguments.data_set}").prepare
    names = ("raw", "out", "num_proc", "jumps", "split", "validation", "hands", "music", "clips", "seconds", "seed")
    try:
        print(prepare(**{name: getattr(arguments, name) for name in names if hasattr(arguments, name)}))
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
