"""`megadance study`: the paper's user study, from the clips to the table."""

import argparse
import contextlib
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .console import quiet_libraries
from .options import COUNT, POSITIVE, SEED, CommandError, add_body_option, add_values, number, port

HELP = "a study with people: clips, the raters' page, the table"
DESCRIPTION = """\
Ask people which dances are good, as the paper did: double-blind, on a five-point scale or in pairs, with catch
trials. `new` makes a folder with clips, `serve` shows them to raters, `close` ends that, `report` makes the table;
`power` says how many raters a study needs."""
EXAMPLES = """\
examples:
  megadance study power --systems 3 --songs 30 --difference 0.5
  megadance study new my_study --songs songs --system ours=ballroom --system truth=captured --contact "A. Name, a@example.org"
  megadance study serve my_study
  megadance study close my_study
  megadance study report my_study
"""
# Repeated, because their home imports numpy; a test compares them.
QUESTIONS = ("DQ", "DS", "DC")
MODES = ("ratings", "pairs")


def add_options(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="part", metavar="PART", required=True)
    for name, (text, fill, _) in PARTS.items():
        parts.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.", fill=fill)


def _add_folder(parser: argparse.ArgumentParser, text: str = "the study's folder") -> None:
    parser.add_argument("folder", metavar="DIR", help=text)


def _add_new(parser: argparse.ArgumentParser) -> None:
    _add_folder(parser, "folder to write; a new one")
    parser.add_argument(
        "--songs", metavar="DIR", required=True, help="folder of songs; the first --seconds of each are danced to"
    )
    parser.add_argument(
        "--system",
        metavar="NAME=SOURCE",
        action="append",
        default=[],
        help="whose dances are compared: a folder of motions named as the songs, a model (folder, Hub id, name of a bundled one), "
        "or nearest:DIR, retrieval from a prepared data set; two or more",
    )
    add_values(
        parser,
        ("--contact", "TEXT", str, None, "who is responsible, with an address; shown to raters (needed)"),
        ("--title", "TEXT", str, "A study of dances", "shown to raters (default: A study of dances)"),
        ("--reference", "NAME", str, None, "the system that catch trials distort (default: the one named truth)"),
    )
    parser.add_argument(
        "--mode", choices=MODES, default="ratings", help="rate one clip at a time (default), or choose between two"
    )
    parser.add_argument("--questions", choices=QUESTIONS, nargs="+", default=list(QUESTIONS), help="default: DQ DS DC")
    parser.add_argument("--languages", metavar="L", nargs="+", default=["en", "zh", "de"], help="default: en zh de")
    add_values(
        parser,
        ("--seconds", "S", POSITIVE, 34.0, "length of each clip (default 34, as in the paper)"),
        ("--raters", "N", COUNT, 30, "how many can take part (default 30, as in the paper)"),
        ("--trials", "N", COUNT, None, "clips or pairs that each rater sees (default: all, at most 40)"),
        ("--catch", "N", number(0, whole=True), 4, "catch trials of each rater (default 4)"),
        ("--size", "WxH", _size, (720, 720), "pixels of the videos (default 720x720)"),
        ("--seed", "N", SEED, 0, "number that fixes orders, sides and the models' dances (default 0)"),
    )
    parser.add_argument(
        "--genre",
        metavar="[SONG=]G",
        action="append",
        default=[],
        help="what models dance to a song, or to all others (default: the genre that the name of the file begins with)",
    )
    add_body_option(parser, "in the videos")


def _size(text: str) -> tuple[int, int]:
    """An argparse type."""
    width, by, height = text.partition("x")
    if not (by and width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used: give two numbers such as 720x720")
    return int(width), int(height)


def _add_serve(parser: argparse.ArgumentParser) -> None:
    _add_folder(parser)
    add_values(
        parser,
        ("--host", "H", str, "127.0.0.1", "address to listen at (default: this machine only); 0.0.0.0 for everybody"),
        ("--port", "N", port, None, "port (default: the first free one from 7870 on)"),
        ("--url", "URL", str, None, "address that raters use, where another server passes requests on; only printed"),
    )


def _add_report(parser: argparse.ArgumentParser) -> None:
    _add_folder(parser)
    add_values(parser, ("--out", "DIR", str, None, "folder for the report (default: report in the study's folder)"))


def _add_power(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--difference",
        metavar="D",
        type=POSITIVE,
        required=True,
        help="of two mean ratings that is to be found, in points",
    )
    add_values(
        parser,
        ("--systems", "N", number(2, whole=True), 4, "how many are compared (default 4)"),
        ("--songs", "N", number(2, whole=True), 30, "songs (default 30)"),
        ("--trials", "N", COUNT, None, "clips that each rater sees (default: all, at most 40)"),
        ("--power", "P", number(0, above=True), 0.8, "probability that it is found (default 0.8)"),
        ("--comparisons", "N", COUNT, None, "tests to correct for (default: all pairs of systems, three questions)"),
        ("--rater", "D", number(0), None, "deviation of raters' preferences for a system, in points (default 0.35)"),
        ("--song", "D", number(0), None, "deviation of what a song does to a system (default 0.35)"),
        ("--noise", "D", number(0), None, "deviation of single ratings around those (default 0.8)"),
        ("--from", "FILE", str, None, "report.json of an earlier study, from which these three are taken"),
    )


def _need(*libraries: str) -> None:
    for library in libraries:
        if find_spec(library) is None:
            raise CommandError(f"study needs {library}: pip install 'megadance-hf[study]'")


def _pairs(texts: list[str], option: str, needed: bool = True) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals and not needed:
            name, value = "", text
        if not value or (needed and not name):
            raise CommandError(f"argument {option}: {text!r} is not NAME=SOURCE")
        if name in found:
            raise CommandError(f"argument {option}: {name!r} is given twice; give each another name")
        found[name] = value
    return found


def _new(arguments: argparse.Namespace) -> None:
    _need("yaml", "pyloudnorm")
    systems = _pairs(arguments.system, "--system")
    if len(systems) < 2:
        raise CommandError(
            "argument --system: give two or more, such as --system ours=ballroom --system truth=captured"
        )
    reference = arguments.reference or "truth"
    if reference not in systems:
        raise CommandError(
            f"argument --reference: {reference!r} is none of {', '.join(systems)}: name one, best captured dances"
        )
    if not arguments.contact:
        raise CommandError("argument --contact: raters have to know who is responsible: give a name with an address")
    from megadance_hf.study.clips import find_songs, new_study

    quiet_libraries()
    songs = len(find_songs(Path(arguments.songs)))
    conditions = len(systems) * (len(systems) - 1) // 2 if arguments.mode == "pairs" else len(systems)
    trials = arguments.trials or min(songs * conditions, 40)
    names = ("title", "contact", "mode", "questions", "languages", "seconds", "raters", "seed", "size", "body")
    folder = new_study(
        arguments.folder,
        arguments.songs,
        systems,
        reference=reference,
        trials=trials,
        catch=min(arguments.catch, trials),
        genres=_pairs(arguments.genre, "--genre", needed=False),
        progress=True,
        **{name: getattr(arguments, name) for name in names},
    )
    print(
        f"{folder} is ready: {trials} trials and {min(arguments.catch, trials)} catch trials for each of {arguments.raters} raters."
    )
    print(
        f"Read and adapt {folder / 'study.yaml'} and the texts in {folder / 'page' / 'texts'}, then: megadance study serve {folder}"
    )


def _serve(arguments: argparse.Namespace) -> None:
    _need("yaml", "starlette", "uvicorn")
    from megadance_hf.study.server import serve

    with contextlib.suppress(KeyboardInterrupt):  # this is how one ends it
        serve(arguments.folder, arguments.host, arguments.port, arguments.url)


def _close(arguments: argparse.Namespace) -> None:
    _need("yaml")
    from megadance_hf.study.answers import Answers
    from megadance_hf.study.design import Study

    with contextlib.closing(Answers(Study(arguments.folder))) as answers:
        answers.shut()
        numbers = answers.progress()
    print(
        f"{arguments.folder} is closed: {numbers['joined']} raters, {numbers['finished']} of them finished, "
        f"{numbers['answers']} answers, {numbers['withdrawn']} withdrew."
    )


def _report(arguments: argparse.Namespace) -> None:
    _need("yaml", "matplotlib", "choix")
    from megadance_hf.study.report import markdown, report

    results = report(arguments.folder, arguments.out)
    print(markdown(results))
    print(f"wrote {arguments.out or Path(arguments.folder) / 'report'}")


def _power(arguments: argparse.Namespace) -> None:
    import json

    from megadance_hf.modeling.errors_megadance import reading
    from megadance_hf.study.statistics import Plan

    systems, songs = arguments.systems, arguments.songs
    trials = arguments.trials or min(systems * songs, 40)
    if trials > systems * songs:
        raise CommandError(
            f"argument --trials: {trials} is more than {systems * songs}, systems x songs: give at most that"
        )
    if arguments.power >= 1:
        raise CommandError(f"argument --power: {arguments.power:g} cannot be reached: give a number below 1")
    comparisons = arguments.comparisons or 3 * systems * (systems - 1) // 2
    deviations: dict[str, Any] = {name: getattr(arguments, name) for name in ("rater", "song", "noise")}
    earlier = getattr(arguments, "from")
    if earlier:
        with reading(earlier, "give the report.json of a study with ratings", CommandError):
            questions = json.loads(Path(earlier).read_text(encoding="utf-8"))["included"]["questions"].values()
            for name in deviations:
                values = [one["deviations_in_points"][name] for one in questions]
                if deviations[name] is None:
                    deviations[name] = (sum(value**2 for value in values) / len(values)) ** 0.5
    deviations = {name: value for name, value in deviations.items() if value is not None}
    plan = Plan(arguments.difference, systems, songs, trials, comparisons=comparisons, **deviations)
    print(
        f"{systems} systems, {songs} songs, {trials} trials a rater; deviations in points: raters {plan.rater:.2f}, songs "
        f"{plan.song:.2f}, single ratings {plan.noise:.2f}; corrected for {comparisons} comparisons"
    )
    print("\nraters   power")
    for raters in (10, 20, 30, 50, 100, 200):
        print(f"{raters:6d}   {plan.power(raters):.2f}")
    needed = plan.raters_needed(arguments.power)
    print()
    if needed is None:
        print(
            f"A difference of {plan.difference:g} points is not found with a power of {arguments.power:g} by 1000 raters: take more songs."
        )
    else:
        print(
            f"A difference of {plan.difference:g} points is found with a power of {arguments.power:g} by {needed} raters."
        )


PARTS = {
    "new": ("make a folder with the clips of a study", _add_new, _new),
    "serve": ("show a study to raters, until Ctrl-C", _add_serve, _serve),
    "close": ("end a study: nobody can answer any more, and it can be reported", partial(_add_folder), _close),
    "report": ("the table of a closed study, with intervals and tests", _add_report, _report),
    "power": ("how many raters a study needs", _add_power, _power),
}


def run(arguments: argparse.Namespace) -> None:
    """Do what the part of the command says."""
    PARTS[arguments.part][2](arguments)
