"""`megadance convert`: the authors' checkpoint as a model folder."""

import argparse
import time
from typing import Any

from .console import quiet_libraries

EXAMPLES = """\
examples:
  megadance convert checkpoint.pt finedance --mean mean.pkl --std std.pkl
  megadance generate song.mp3 --model finedance --genre Popping -o dance.mp4
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "convert",
        help="turn the authors' checkpoint into a model folder",
        description="Turn a checkpoint of the authors' code into a model folder: safetensors with one file per genre,\n"
        "configurations, statistics. Nothing in the checkpoint is executed.",
        epilog=EXAMPLES,
    )
    parser.set_defaults(run=run)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="their file: generator, tokenizer, classifier, or all")
    parser.add_argument("output", metavar="OUT_DIR", help="folder to write; new, or empty")
    parser.add_argument("--mean", metavar="FILE", help="their file of means (.pkl, .npy, .npz, .pt)")
    parser.add_argument("--std", metavar="FILE", help="their file of standard deviations")
    parser.add_argument(
        "--genres", metavar="NAME", nargs="+", help="genre names in the order of their ids, if not those of the papers"
    )


def run(arguments: argparse.Namespace) -> None:
    """Write the whole folder or nothing, and print a line for each network."""
    from megadance_hf.hub.convert import convert_checkpoint

    quiet_libraries()
    began = time.perf_counter()
    lines = convert_checkpoint(
        arguments.checkpoint, arguments.output, mean=arguments.mean, std=arguments.std, genres=arguments.genres
    )
    if arguments.mean is None:
        print("no --mean and --std: the networks take raw numbers as they are; their dances will be wrong without them")
    print("\n".join(lines))
    print(f"wrote {arguments.output} in {time.perf_counter() - began:.1f} s")
