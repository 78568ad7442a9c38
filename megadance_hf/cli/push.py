"""`megadance push`: a model or a prepared data set goes to the Hub."""

import argparse
from pathlib import Path

from .console import quiet_libraries
from .options import CommandError, add_values

HELP = "upload a model or a prepared data set to the Hub"
DESCRIPTION = """\
Upload a model with all it needs (code, card, handler for Inference Endpoints, one file per genre), or a
prepared data set, to the Hub."""
EXAMPLES = """\
examples:
  megadance push runs/generator OWNER/NAME --report runs/report/report.json --licence cc-by-nc-4.0
  megadance push prepared/synthetic OWNER/NAME                    a prepared data set, music only where allowed

Log in first: hf auth login. The card is made from the report; your own README.md in DIR is kept, and the numbers are added.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    add_values(
        parser,
        ("folder", "DIR", str, None, "trained or converted model, tokenizer, classifier; prepared data set"),
        ("repo", "REPO", str, None, "OWNER/NAME; created if it does not exist"),
    )
    parser.add_argument("--private", action="store_true", help="create a private repository; a data set's always is")
    add_values(
        parser,
        ("--revision", "BRANCH", str, None, "branch to push to, created if it does not exist"),
        ("--report", "FILE", str, None, "report.json of `megadance evaluate`, for the card"),
        ("--licence", "ID", str, None, "the Hub's name for it, such as apache-2.0 or cc-by-nc-4.0"),
    )
    trained_on = "data set that the model was trained on; may be given several times"
    parser.add_argument("--dataset", metavar="REPO", action="append", default=[], help=trained_on)
    parser.add_argument("--song", metavar="SONG", help="song of the card's sample video (default: one is composed)")
    parser.add_argument("--no-sample", action="store_true", help="no sample video")
    parser.add_argument("--dry-run", action="store_true", help="upload nothing, list the files and their sizes")


def run(arguments: argparse.Namespace) -> None:
    """Upload, and print the address."""
    folder = Path(arguments.folder)
    if not folder.is_dir():
        raise CommandError(
            f"argument DIR: {arguments.folder!r} is no folder: give that of a model or a prepared data set"
        )
    if (folder / "info.json").is_file():
        for name in ("revision", "report", "licence", "dataset", "song", "no_sample"):
            if getattr(arguments, name):
                option = "--" + name.replace("_", "-")
                raise CommandError(
                    f"argument {option}: {arguments.folder!r} is a data set, and that is for models: leave it out"
                )
        from megadance_hf.hub.datasets import push_dataset

        answer, note = push_dataset(folder, arguments.repo, arguments.dry_run), " (private)"
    else:
        from megadance_hf.hub.push import push_to_hub
        from megadance_hf.hub.repository import COMPOSED

        quiet_libraries()
        note = ""
        answer = push_to_hub(
            folder,
            arguments.repo,
            private=arguments.private or None,
            revision=arguments.revision,
            report=arguments.report,
            song=None if arguments.no_sample else arguments.song or COMPOSED,
            licence=arguments.licence,
            datasets=arguments.dataset,
            dry_run=arguments.dry_run,
        )
    print(answer if arguments.dry_run else f"pushed to {answer}{note}")
