"""`megadance evaluate`: the paper's tables for a model."""

import argparse
import time
from importlib.util import find_spec
from pathlib import Path

from .console import quiet_libraries
from .options import COUNT, SEED, CommandError, add_model_option, add_values

# Repeated, because their homes import torch; a test compares them.
PROTOCOLS = ("finedance", "aistpp")
SPLITS = ("train", "validation", "test", "new_song")
HELP = "measure a model on a prepared data set: the paper's tables, baselines, use of the music"
DESCRIPTION = """\
Measure a model on a prepared data set: the paper's tables, beside ground truth and baselines, and whether
the model uses its music. Writes report.json, tables.md and plots."""
EXAMPLES = """\
tables of the paper:
  1   comparison on FineDance (protocol finedance)      4a  generator without an expert, without Mamba
  2   comparison on AIST++ (protocol aistpp)            4b  tokenizer without a loss, with VQ for FSQ
  3   genre controllability (needs --classifier)

examples:
  megadance evaluate --data prepared/ballroom --protocol finedance --out runs/report
  megadance evaluate --model runs/generator --data prepared/finedance --protocol finedance --classifier runs/classifier \\
      --ablation no_mamba=runs/no_mamba --ablation vq=runs/vq_tokenizer --out runs/report
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    add_model_option(parser)
    parser.add_argument("--data", metavar="DIR", required=True, help="prepared data set")
    parser.add_argument(
        "--protocol", choices=PROTOCOLS, required=True, help="which songs, how long the excerpts are, which metrics"
    )
    parser.add_argument("--out", metavar="DIR", required=True, help="folder for the report")
    add_values(
        parser,
        ("--tables", "N,N", str, None, "of 1, 2, 3, 4a, 4b (default: all for which everything needed is given)"),
        ("--classifier", "DIR", str, None, "trained genre classifier: style features and table 3"),
    )
    parser.add_argument(
        "--ablation",
        metavar="NAME=DIR",
        action="append",
        default=[],
        help="a model trained without something, for tables 4a (no_genre_experts, no_universal_experts, no_mamba: generators) and "
        "4b (no_kinematic_loss, no_dynamic_loss, vq: tokenizers); may be given several times",
    )
    parser.add_argument(
        "--reference",
        choices=("test", "all"),
        default="test",
        help="what FID compares with: ground truth of the same excerpts (default; as the paper), or excerpts of every split",
    )
    parser.add_argument(
        "--splits",
        metavar="SPLIT",
        nargs="+",
        choices=SPLITS,
        default=["test"],
        help="splits that the songs are from: train, validation, test, new_song (default test)",
    )
    add_values(
        parser,
        ("--seeds", "N", COUNT, 3, "dances to each song (default 3)"),
        ("--seed", "N", SEED, 0, "number that fixes all of them (default 0)"),
        ("--clip-frames", "N", COUNT, None, "frames of an excerpt (default: the protocol's)"),
        ("--clip-stride", "N", COUNT, None, "frames between excerpts of a song (default: the protocol's)"),
        ("--songs", "N", COUNT, None, "number of songs (default: the protocol's)"),
    )
    parser.add_argument(
        "--clean",
        action="store_true",
        help="measure dances after the clean-up, not as they were decoded; one table always has both",
    )


def run(arguments: argparse.Namespace) -> None:
    """Measure, write, and say where. What is wrong with the arguments is found before anything is computed."""
    ablations = {}
    for text in arguments.ablation:
        name, equals, folder = text.partition("=")
        if not equals or not folder:
            raise CommandError(f"argument --ablation: {text!r} is not NAME=DIR")
        ablations[name] = folder
    out = Path(arguments.out)
    if out.exists() and not out.is_dir():
        raise CommandError(f"argument --out: {arguments.out!r} is a file: give a folder")
    for needed in ("pyarrow", "matplotlib"):
        if find_spec(needed) is None:
            raise CommandError(f"evaluate needs {needed}: pip install 'megadance-hf[train]'")
    from megadance_hf.evaluation.run import evaluate
    from megadance_hf.models import DEFAULT_MODEL

    quiet_libraries()
    began = time.perf_counter()
    names = ("classifier", "reference", "splits", "seeds", "seed", "clean", "clip_frames", "clip_stride", "songs")
    evaluation = evaluate(
        arguments.model or DEFAULT_MODEL,
        arguments.data,
        arguments.protocol,
        tables=arguments.tables.split(",") if arguments.tables else None,
        ablations=ablations,
        progress=True,
        **{name: getattr(arguments, name) for name in names},
    )
    files = evaluation.write(out)
    print((out / "tables.md").read_text(encoding="utf-8"))
    print(f"wrote {', '.join(str(file) for file in files)} in {time.perf_counter() - began:.0f} s")
