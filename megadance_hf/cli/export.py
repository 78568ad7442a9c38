"""`megadance export`: a dance, or another tool's motion, in other formats."""

import argparse
import sys

from .options import CommandError, add_values, number, song_source
from .outputs import FORMATS, Outputs, add_output_options

HELP = "write a dance in other formats"
DESCRIPTION = """\
Write a dance, or the motion in a file of another tool, in other formats. What had to be rotated, moved or
assumed is reported."""
EXAMPLES = f"""\
{FORMATS}examples:
  megadance export dance.npz -o dance.glb -o dance.vrma
  megadance export dance.npz -o dance.bvh --bones mixamo
  megadance export dance.npz -o dance.glb --body smooth
  megadance export dance.npz --music song.mp3 -o dance.mp4 --bundle dance
  megadance export take.bvh -o take.glb                        motions of other tools
  megadance export motion.pkl --up z --fps 60 -o dance.smplx.npz
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    tools = "AIST++, AMASS, EDGE, BEAT2, FineDance, Mixamo, ..."
    dance = f"what `generate` wrote, or another tool's .npz, .pkl, .npy, .json or .bvh ({tools})"
    up = "axis that points up in DANCE: y, z, x, -y, -z or -x (default: from the feet to the head)"
    add_values(
        parser,
        ("dance", "DANCE", str, None, dance),
        ("--up", "AXIS", str, None, up),
        ("--fps", "N", number(1), None, "frames per second of DANCE, if the file does not say or is wrong"),
    )
    add_output_options(parser)
    add_values(
        parser,
        ("--music", "SONG", str, None, "sound of .mp4 and --bundle: any file that plays, its address, or - for a pipe"),
        ("--start", "S", number(0), None, "second of the song to begin at (default: as DANCE says)"),
    )


def run(arguments: argparse.Namespace) -> None:
    """Print a line for each file."""
    if arguments.bundle and not arguments.music:
        raise CommandError("argument --bundle: the sound belongs to it: give --music SONG")
    music = song_source(arguments.music, "--music")
    inputs = {"DANCE": arguments.dance, "--music": music}
    options = (arguments.bundle, arguments.bones, arguments.body, not arguments.no_title)
    outputs = Outputs(arguments.output, 1, *options, inputs=inputs)
    from megadance_hf.modeling.audio_megadance import open_sound
    from megadance_hf.motion.motion import Motion

    dance, notes = Motion.load_with_notes(arguments.dance, arguments.fps, arguments.up)
    for note in notes:
        print(f"megadance: {arguments.dance}: {note}", file=sys.stderr)
    start = dance.metadata.get("start", 0.0) if arguments.start is None else arguments.start
    song = None if music is None else open_sound(music)  # once: it may be a pipe
    print("\n".join(outputs.write([dance], song, start)))
