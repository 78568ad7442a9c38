"""`megadance convert`: the authors' checkpoint as a model folder."""

import argparse
import time

from .console import quiet_libraries
from .options import add_values

HELP = "turn the authors' checkpoint into a model folder"
DESCRIPTION = """\
Turn a checkpoint of the authors' code into a model folder: safetensors with one file per genre,
configurations, statistics. Nothing in the checkpoint is executed."""
EXAMPLES = """\
examples:
  megadance convert checkpoint.pt finedance --mean mean.pkl --std std.pkl
  megadance generate song.mp3 --model finedance --genre Popping -o dance.mp4
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    add_values(
        parser,
        ("checkpoint", "CHECKPOINT", str, None, "their file: generator, tokenizer, classifier, or all"),
        ("output", "OUT_DIR", str, None, "folder to write; new, or empty"),
        ("--mean", "FILE", str, None, "their file of means (.pkl, .npy, .npz, .pt)"),
        ("--std", "FILE", str, None, "their file of standard deviations"),
    )
    genres = "genre names in the order of their ids, if not those of the papers"
    parser.add_argument("--genres", metavar="NAME", nargs="+", help=genres)


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
