"""`megadance redo`: a passage of a dance danced anew."""

import argparse

from .console import quiet_libraries
from .options import (
    COUNT,
    SEED,
    CommandError,
    add_hold_option,
    add_model_option,
    add_values,
    add_wishes,
    number,
    read_hold,
    song_source,
)
from .outputs import FORMATS, Outputs, add_output_options

PARTS = ("all", "upper", "lower")  # repeated, because their home imports torch; a test compares them

HELP = "dance a passage of a dance anew"
DESCRIPTION = """\
Dance a passage of a dance anew, all of the body or half of it. Everything else stays as it is, to the last bit. Of
several candidates the likeliest is kept."""
EXAMPLES = f"""\
{FORMATS}examples:
  megadance redo dance.npz --song song.mp3 --start 12 --end 16 -o better.npz -o better.mp4
  megadance redo dance.npz --song song.mp3 --start 12 --end 16 --part upper --candidates 8 -o better.npz
  megadance redo dance.npz --song song.mp3 --start 12 --end 16 --prompt "higher arms, fewer turns" -o better.npz
  megadance redo dance.npz --song song.mp3 --start 12 --end 16 --hold 14=pose.npz -o better.npz
  megadance redo dance.npz --song song.mp3 --start 12 --end 16 --num 3 -o try.mp4      try-1.mp4 (the likeliest), try-2.mp4, ...
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dance", metavar="DANCE", help="what `generate` wrote, as .npz, .pkl or .json")
    parser.add_argument(
        "--song", metavar="SONG", required=True, help="the song that it was made to, a file or its address"
    )
    for name, text in (("--start", "second of the dance at which the passage begins"), ("--end", "and ends")):
        parser.add_argument(name, metavar="S", type=number(0), required=True, help=text)
    parser.add_argument(
        "--part", choices=PARTS, default="all", help="half of the body to dance anew (default: all of it)"
    )
    add_output_options(parser)
    add_wishes(parser, "the passage")
    add_hold_option(parser, "the passage")
    add_model_option(parser)
    add_values(
        parser,
        ("--candidates", "N", COUNT, 4, "how many to make (default 4)"),
        ("--num", "N", COUNT, 1, "how many of them to keep, the likeliest first (default 1)"),
        ("--seed", "N", SEED, None, "number that fixes what is danced"),
    )


def run(arguments: argparse.Namespace) -> None:
    """Print a line for each file."""
    if arguments.candidates < arguments.num:
        raise CommandError(
            f"argument --candidates: {arguments.candidates} are fewer than --num {arguments.num}: give more"
        )
    source = song_source(arguments.song, "--song")
    options = (arguments.bundle, arguments.bones, arguments.body, not arguments.no_title)
    inputs = {"DANCE": arguments.dance, "--song": source}
    outputs = Outputs(arguments.output, arguments.num, *options, inputs=inputs)
    from megadance_hf.modeling.audio_megadance import open_sound
    from megadance_hf.modeling.wishes_megadance import describe_prompt
    from megadance_hf.models import DEFAULT_MODEL
    from megadance_hf.motion.motion import Motion
    from megadance_hf.pipeline import MusicToDancePipeline

    quiet_libraries()
    dance, song = Motion.load(arguments.dance), open_sound(source)
    pipe = MusicToDancePipeline.from_pretrained(arguments.model or DEFAULT_MODEL)
    given = {name: getattr(arguments, name) for name in ("candidates", "num", "seed", "prompt", "attributes")}
    given |= read_hold(arguments.hold)
    made = pipe.redo(dance, song, arguments.start, arguments.end, arguments.part, progress=True, **given)
    dances = made if isinstance(made, list) else [made]
    print("\n".join(outputs.write(dances, song, dance.metadata.get("start", 0.0))))
    redone = dances[0].metadata["redone"][-1]
    part = "" if redone["part"] == "all" else f" of the {redone['part']} body"
    if "prompt" in redone:
        print(describe_prompt(redone["prompt"]))
    print(f"seconds {redone['start']:.2f} to {redone['end']:.2f}{part} danced anew, seed {redone['seed']}")
