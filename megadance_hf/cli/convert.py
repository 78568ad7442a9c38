"""`megadance convert`: the authors' checkpoints as a model folder."""

import argparse
import time

from .console import quiet_libraries
from .options import add_values

HELP = "turn the authors' checkpoints into a model folder"
DESCRIPTION = """\
Turn checkpoints of the authors' code, of either release, into a model folder: safetensors with one
file per genre, configurations, statistics. Nothing in the checkpoints is executed."""
EXAMPLES = """\
examples:
  megadance convert output finedance --mean Pretrained/mean.pt --std Pretrained/std.pt
  megadance convert output/gpt/90/Model/model.pth finedance --mean Pretrained/mean.pt --std Pretrained/std.pt
  megadance generate song.mp3 --model finedance --genre Popping -o dance.mp4
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    files = "their files: generator, tokenizer, classifier, or one with all; or a folder with their model.pth"
    parser.add_argument("checkpoints", metavar="CHECKPOINT", nargs="+", help=files)
    add_values(
        parser,
        ("output", "OUT_DIR", str, None, "folder to write; new, or empty"),
        ("--mean", "FILE", str, None, "their file of means (.pt, .pkl, .npy, .npz)"),
        ("--std", "FILE", str, None, "their file of standard deviations"),
        (
            "--classifier-mean",
            "FILE",
            str,
            None,
            "the classifier's means (default: cls/ beside --mean, or --mean itself)",
        ),
        ("--classifier-std", "FILE", str, None, "the classifier's standard deviations"),
    )
    genres = "genre names in the order of their ids, if not those of the papers"
    parser.add_argument("--genres", metavar="NAME", nargs="+", help=genres)


def run(arguments: argparse.Namespace) -> None:
    """Write the whole folder or nothing, and print a line for each network."""
    from megadance_hf.hub.convert import convert_checkpoint

    quiet_libraries()
    began = time.perf_counter()
    options = {
        name: getattr(arguments, name) for name in ("mean", "std", "classifier_mean", "classifier_std", "genres")
    }
    lines = convert_checkpoint(arguments.checkpoints, arguments.output, **options)
    if arguments.mean is None:
        print("no --mean and --std: the networks take raw numbers as they are; their dances will be wrong without them")
    print("\n".join(lines))
    print(f"wrote {arguments.output} in {time.perf_counter() - began:.1f} s")
