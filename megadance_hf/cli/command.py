"""The `megadance` command.

Only the standard library is imported until the arguments are understood, so that `--help` and mistakes answer at once.
Every mistake ends in one line on stderr and exit status 2, before anything is written.
"""

import argparse
import contextlib
import gc
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from megadance_hf import __version__

from .console import StreamError, sober_streams, status_of, stoppable
from .outputs import CommandError, Outputs

# Repeated here because their home imports torch; a test compares them.
MODES = ("released", "paper", "stream")
PRECISIONS = ("float32", "bfloat16", "int8")
PROTOCOLS = ("finedance", "aistpp")
BONES = ("smpl", "mixamo")
BODIES = ("mannequin", "smooth")
# Modules of datasets_scripts.
DATA_SETS = {
    "finedance": "FineDance, as downloaded or as the authors of MEGADance preprocess it",
    "aistpp": "AIST++, as downloaded",
    "ballroom": "waltz, rumba and cha-cha with their songs",
    "mocap": "dances without music",
    "synthetic": "composed songs and choreographed dances; needs no download",
}

DESCRIPTION = "Music in, 3D dance out (MEGADance). Ask `megadance COMMAND --help` for the options of a command."
EXAMPLES = """\
examples:
  megadance genres                                      which dances the bundled model knows
  megadance generate song.mp3 -o dance.mp4              a video with the song as its sound
  megadance generate song.mp3 --genre waltz -o dance.mp4 -o dance.bvh -o dance.glb
  megadance generate song.mp3 --bundle dance            a folder for Blender: figure, sound, a script that opens both
  megadance demo                                        the same as a web page on this machine
  megadance prepare synthetic prepared/synthetic        data to train on
  megadance evaluate --data prepared/ballroom --protocol finedance --out report
"""
FORMATS = """\
the suffix of OUT chooses the format:
  .mp4          video with the song                       .npz  SMPL poses, path, fps, genre (AMASS-like)
  .glb          animated figure for any 3D viewer         .pkl  the same for tools that want a pickle
  .bvh          skeleton for Blender, Maya, Unreal        .joints.npz, .json  joint positions, metres
  .vrma         VRM animation, for any VRM avatar         .smplx.npz  for Blender's SMPL-X add-on (as AMASS)

"""
GENERATE_EXAMPLES = f"""\
{FORMATS}examples:
  megadance generate song.mp3 -o dance.mp4
  megadance generate song.mp3 --genre waltz --seed 7 -o dance.mp4 -o dance.bvh
  megadance generate song.mp3 --start 30 --duration 20 -o dance.glb     seconds 30 to 50 of the song
  curl https://example.org/song.m4a | megadance generate - -o dance.mp4
  megadance generate song.mp3 --num 3 -o dance.mp4      three dances: dance-1.mp4, dance-2.mp4, dance-3.mp4
  megadance generate song.mp3 --bundle dance            for Blender: dance/ with the figure, the sound, a script, a HOWTO

The same seed gives the same dance. Without --seed one is drawn and told at the end.
"""
EXPORT_EXAMPLES = f"""\
{FORMATS}examples:
  megadance export dance.npz -o dance.glb -o dance.vrma
  megadance export dance.npz -o dance.bvh --bones mixamo
  megadance export dance.npz -o dance.glb --body smooth
  megadance export dance.npz --music song.mp3 -o dance.mp4 --bundle dance
  megadance export take.bvh -o take.glb                        motions of other tools
  megadance export motion.pkl --up z --fps 60 -o dance.smplx.npz
"""
CONVERT_EXAMPLES = """\
examples:
  megadance convert checkpoint.pt finedance --mean mean.pkl --std std.pkl
  megadance generate song.mp3 --model finedance --genre Popping -o dance.mp4
"""
PUSH_EXAMPLES = """\
examples:
  megadance push runs/generator OWNER/NAME --report runs/report/report.json --licence cc-by-nc-4.0
  megadance push prepared/synthetic OWNER/NAME                    a prepared data set, music only where allowed

Log in first: hf auth login. The card is made from the report; a README.md in DIR stays as it is and gets the numbers.
"""
PREPARE_EXAMPLES = """\
examples:
  megadance prepare finedance FineDance prepared/finedance --num-proc 4
  megadance prepare aistpp aist_plusplus_final prepared/aistpp --music all_musics
  megadance prepare synthetic prepared/synthetic --clips 80

A clip that cannot be used is named and left out. The same command again makes only what is missing or has changed.
"""
EVALUATE_EXAMPLES = """\
tables of the paper:
  1   comparison on FineDance (protocol finedance)      4a  generator without an expert, without Mamba
  2   comparison on AIST++ (protocol aistpp)            4b  tokenizer without a loss, with VQ for FSQ
  3   genre controllability (needs --classifier)

examples:
  megadance evaluate --data prepared/ballroom --protocol finedance --out runs/report
  megadance evaluate --model runs/generator --data prepared/finedance --protocol finedance --classifier runs/classifier \\
      --ablation no_mamba=runs/no_mamba --ablation vq=runs/vq_tokenizer --out runs/report
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # argparse would print the usage first; one line is easier to read
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


# --- arguments -----------------------------------------------------------------------------------------------------


def _number(lowest: float, *, whole: bool = False, above: bool = False) -> Any:
    """An argparse type: numbers of `lowest` or more (of more than `lowest`, if `above`)."""
    kind = "a whole number" if whole else "a number"
    bound = f"above {lowest:g}" if above else f"of {lowest:g} or more"

    def convert(text: str) -> int | float:
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            value = float("nan")
        if not (lowest < value or (value == lowest and not above)) or value == float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r} cannot be used: give {kind} {bound}")
        return value

    return convert


def _port(text: str) -> int:
    """An argparse type."""
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used: give a whole number from 1 to 65535")
    return int(text)


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog="megadance", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"megadance {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    generate = commands.add_parser(
        "generate",
        help="make a dance to a song",
        description="Make a dance to a song. It is as long as the song (or as --duration), to the frame.",
        epilog=GENERATE_EXAMPLES,
        formatter_class=raw,
    )
    generate.set_defaults(run=run_generate)
    generate.add_argument(
        "song",
        metavar="SONG",
        help="any file that plays (wav, mp3, m4a, ogg, flac, a film, ...), its http(s) address, or - for what comes through a "
        "pipe; up to 3 hours, 64 channels, 1 to 768 kHz",
    )
    _add_outputs(generate)
    generate.add_argument(
        "--genre", metavar="G", help="kind of dance, see `megadance genres`; the model's first when left out"
    )
    _add_model(generate)
    generate.add_argument("--seed", metavar="N", type=_number(0, whole=True), help="number that fixes the dance")
    generate.add_argument("--start", metavar="S", type=_number(0), default=0.0, help="second of the song to begin at")
    generate.add_argument(
        "--duration",
        metavar="S",
        type=_number(0, above=True),
        help="seconds to dance; to the end of the song when left out",
    )
    generate.add_argument(
        "--num",
        metavar="N",
        type=_number(1, whole=True),
        default=1,
        help="how many dances; -1, -2, ... go into the names",
    )
    generate.add_argument(
        "--mode",
        choices=MODES,
        help="how past and music are windowed: `paper` (fast), `released` (as the authors' code, slow), `stream` (state "
        "carried on for ever); the model's own choice when left out",
    )
    generate.add_argument(
        "--temperature", metavar="T", type=_number(0, above=True), help="below 1 safer, above 1 more surprising"
    )
    generate.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="how weights are kept: half or a quarter of the memory, and large models are faster",
    )
    generate.add_argument(
        "--top-k", metavar="K", type=_number(0, whole=True), help="choose among the K likeliest steps only; 0 among all"
    )

    export = commands.add_parser(
        "export",
        help="write a dance in other formats",
        description="Write a dance, or the motion in a file of another tool, in other formats. What was turned, moved or assumed "
        "is said.",
        epilog=EXPORT_EXAMPLES,
        formatter_class=raw,
    )
    export.set_defaults(run=run_export)
    export.add_argument(
        "dance",
        metavar="DANCE",
        help="what `generate` wrote, or a .npz, .pkl, .npy, .json or .bvh of others (AIST++, AMASS, EDGE, BEAT2, FineDance, Mixamo, ...)",
    )
    export.add_argument(
        "--up",
        metavar="AXIS",
        help="axis that points up in DANCE: y, z, x, -y, -z or -x; when left out, where the head is above the feet",
    )
    export.add_argument(
        "--fps", metavar="N", type=_number(1), help="frames a second of DANCE, if it does not say or is wrong"
    )
    _add_outputs(export)
    export.add_argument(
        "--music", metavar="SONG", help="sound of .mp4 and --bundle; any file that plays, its address, or -"
    )
    export.add_argument(
        "--start", metavar="S", type=_number(0), help="second of the song to begin at; what DANCE notes when left out"
    )

    demo = commands.add_parser(
        "demo",
        help="serve a web page: upload a song, watch the dance",
        description="Serve a web page on which people without Python upload a song, watch the dance in 3D and take its files away.\n"
        "Stop it with Ctrl-C. One dance is computed at a time; who comes meanwhile waits.",
        formatter_class=raw,
    )
    demo.set_defaults(run=run_demo)
    _add_model(demo)
    demo.add_argument(
        "--host", metavar="H", help="address to listen at; only this machine when left out, 0.0.0.0 for everybody"
    )
    demo.add_argument("--port", metavar="N", type=_port, help="the first free one from 7860 on when left out")
    _add_body(demo, "on the page")
    demo.add_argument("--open", action="store_true", help="show the page in the browser")
    demo.add_argument(
        "--max-seconds", metavar="S", type=_number(1), default=120.0, help="longest dance (default 120); songs are cut"
    )
    demo.add_argument(
        "--max-megabytes", metavar="N", type=_number(0, above=True), default=30.0, help="largest upload (default 30)"
    )
    demo.add_argument(
        "--time-limit",
        metavar="S",
        type=_number(0, above=True),
        default=300.0,
        help="give a dance up after (default 300)",
    )
    demo.add_argument(
        "--max-disk",
        metavar="N",
        type=_number(0, above=True),
        default=4000.0,
        help="megabytes that all songs and dances may take, which are kept for an hour (default 4000); the oldest go first",
    )

    genres = commands.add_parser("genres", help="list the genres of a model", description="List the genres of a model.")
    genres.set_defaults(run=run_genres)
    _add_model(genres)

    info = commands.add_parser(
        "info", help="describe a model", description="Describe a model: kind, sizes, genres, switches."
    )
    info.set_defaults(run=run_info)
    info.add_argument("place", metavar="MODEL", nargs="?", help="folder or Hub id; the bundled model when left out")
    info.add_argument("--model", metavar="MODEL", help="the same, as the other commands have it")

    convert = commands.add_parser(
        "convert",
        help="turn the authors' checkpoint into a model folder",
        description="Turn a checkpoint of the authors' code into a model folder: safetensors in one file a genre,\n"
        "configurations, statistics. Nothing in the checkpoint is run.",
        epilog=CONVERT_EXAMPLES,
        formatter_class=raw,
    )
    convert.set_defaults(run=run_convert)
    convert.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="their file: generator, tokenizer, classifier, or all"
    )
    convert.add_argument("output", metavar="OUT_DIR", help="folder to write; new, or empty")
    convert.add_argument("--mean", metavar="FILE", help="their file of means (.pkl, .npy, .npz, .pt)")
    convert.add_argument("--std", metavar="FILE", help="their file of standard deviations")
    convert.add_argument(
        "--genres", metavar="NAME", nargs="+", help="genre names in the order of their ids, if not those of the papers"
    )

    prepare = commands.add_parser(
        "prepare",
        help="turn a downloaded data set into one to train and measure with",
        description="Turn a downloaded data set into a folder of Parquet files to train and measure with.",
        epilog=PREPARE_EXAMPLES,
        formatter_class=raw,
    )
    _add_data_sets(prepare)

    push = commands.add_parser(
        "push",
        help="upload a model or a prepared data set to the Hub",
        description="Upload a model with all it needs (code, card, handler for Inference Endpoints, one file a genre), or a\n"
        "prepared data set, to the Hub.",
        epilog=PUSH_EXAMPLES,
        formatter_class=raw,
    )
    push.set_defaults(run=run_push)
    push.add_argument(
        "folder", metavar="DIR", help="trained or converted model, tokenizer, classifier; prepared data set"
    )
    push.add_argument("repo", metavar="REPO", help="OWNER/NAME; made when missing")
    push.add_argument("--private", action="store_true", help="make the repository private; a data set's always is")
    push.add_argument("--revision", metavar="BRANCH", help="branch to push to, made when missing")
    push.add_argument("--report", metavar="FILE", help="report.json of `megadance evaluate`, for the card")
    push.add_argument("--licence", metavar="ID", help="the Hub's name of it, such as apache-2.0 or cc-by-nc-4.0")
    push.add_argument(
        "--dataset", metavar="REPO", action="append", default=[], help="trained on; may be given several times"
    )
    push.add_argument("--song", metavar="SONG", help="song of the card's sample video; composed when left out")
    push.add_argument("--no-sample", action="store_true", help="no sample video")
    push.add_argument("--dry-run", action="store_true", help="only tell what would be uploaded, and its size")

    evaluate = commands.add_parser(
        "evaluate",
        help="measure a model on a prepared data set: the paper's tables, baselines, use of the music",
        description="Measure a model on a prepared data set: the paper's tables, beside ground truth and baselines, and whether\n"
        "the model uses its music. Writes report.json, tables.md and plots.",
        epilog=EVALUATE_EXAMPLES,
        formatter_class=raw,
    )
    evaluate.set_defaults(run=run_evaluate)
    _add_model(evaluate)
    evaluate.add_argument("--data", metavar="DIR", required=True, help="prepared data set")
    evaluate.add_argument("--protocol", choices=PROTOCOLS, required=True, help="which songs, how long, which columns")
    evaluate.add_argument("--out", metavar="DIR", required=True, help="folder for the report")
    evaluate.add_argument(
        "--tables", metavar="N,N", help="of 1, 2, 3, 4a, 4b; all that can be made from what is given when left out"
    )
    evaluate.add_argument("--classifier", metavar="DIR", help="trained genre classifier: style features and table 3")
    evaluate.add_argument(
        "--ablation",
        metavar="NAME=DIR",
        action="append",
        default=[],
        help="a model trained without something, for tables 4a (no_genre_experts, no_universal_experts, no_mamba: generators) and "
        "4b (no_kinematic_loss, no_dynamic_loss, vq: tokenizers); may be given several times",
    )
    evaluate.add_argument(
        "--reference",
        choices=("test", "all"),
        default="test",
        help="what FID compares with: the same excerpts' ground truth (as the paper), or excerpts of every split",
    )
    evaluate.add_argument(
        "--splits",
        metavar="SPLIT",
        nargs="+",
        choices=("train", "validation", "test"),
        default=["test"],
        help="whose songs",
    )
    evaluate.add_argument("--seeds", metavar="N", type=_number(1, whole=True), default=3, help="dances to each song")
    evaluate.add_argument(
        "--seed", metavar="N", type=_number(0, whole=True), default=0, help="number that fixes them all"
    )
    for name, what in (("clip-frames", "frames of an excerpt"), ("clip-stride", "frames between excerpts of a song")):
        evaluate.add_argument(
            f"--{name}", metavar="N", type=_number(1, whole=True), help=f"{what}; the protocol's if left out"
        )
    evaluate.add_argument("--songs", metavar="N", type=_number(1, whole=True), help="songs; the protocol's if left out")
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="MODEL", help="folder or Hub id; the bundled ballroom model when left out")


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        action="append",
        default=[],
        help="file to write; give several -o for several formats",
    )
    parser.add_argument(
        "--bundle",
        metavar="DIR",
        help="new folder with all for Blender: .glb, .bvh, the song cut to the dance, a script that opens them, a HOWTO",
    )
    parser.add_argument(
        "--bones",
        choices=BONES,
        default="smpl",
        help="of a .bvh: SMPL's 24 joints (default), or Mixamo's names and T-pose, for retargeting",
    )
    _add_body(parser, "of .mp4, .glb and --bundle")


def _add_body(parser: argparse.ArgumentParser, where: str) -> None:
    what = f"who dances {where}: a wooden mannequin (default), or a smooth human figure in a bodysuit"
    parser.add_argument("--body", choices=BODIES, default="mannequin", help=what)


def _add_data_sets(prepare: argparse.ArgumentParser) -> None:
    sets = prepare.add_subparsers(dest="data_set", metavar="SET", required=True)
    parsers = {}
    for name, what in DATA_SETS.items():
        parsers[name] = one = sets.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
        one.set_defaults(run=run_prepare)
        if name != "synthetic":
            one.add_argument("raw", metavar="RAW", help="the folder as it was downloaded")
        one.add_argument("out", metavar="OUT", help="folder to write; an earlier run's is brought up to date")
        one.add_argument(
            "--num-proc", metavar="N", type=_number(1, whole=True), default=1, help="processes (default 1)"
        )
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
        type=_number(0, whole=True),
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
    synthetic.add_argument(
        "--clips", metavar="N", type=_number(1, whole=True), default=80, help="how many (default 80)"
    )
    synthetic.add_argument("--seconds", metavar="S", type=_number(2), default=24.0, help="length of each (default 24)")
    synthetic.add_argument(
        "--seed", metavar="N", type=_number(0, whole=True), default=0, help="other number, other songs"
    )


# --- commands ------------------------------------------------------------------------------------------------------


def run_generate(arguments: argparse.Namespace) -> None:
    """Make dances and write them: all files or none."""
    given = _given(arguments.song, "SONG")
    options = (arguments.bundle, arguments.bones, arguments.body)
    outputs = Outputs(arguments.output, arguments.num, *options, inputs={"SONG": given})
    from megadance_hf.modeling.audio_megadance import load_excerpt, open_sound
    from megadance_hf.modeling.music_features_megadance import HOP_LENGTH, SAMPLING_RATE, song_features

    # Everything that can be wrong is found before anything slow: first of all the song, which needs no network.
    stretch = {"start": arguments.start, "duration": arguments.duration}
    song = open_sound(given)  # once: it may be a pipe
    with warnings.catch_warnings(record=True) as doubts:
        warnings.simplefilter("always")
        waveform, rows = load_excerpt(song, **stretch)
    for doubt in doubts:
        print(f"megadance {arguments.command}: {doubt.message}", file=sys.stderr)
    with _no_collection():
        from megadance_hf.modeling.configuration_megadance import match_genre
        from megadance_hf.models import DEFAULT_MODEL, load_config
        from megadance_hf.pipeline import MusicToDancePipeline
    _hush()
    model = arguments.model or DEFAULT_MODEL
    genres = load_config(model).built_genres
    genre = match_genre(arguments.genre, genres) if arguments.genre else genres[0]
    features = song_features(waveform, rows=rows)
    del waveform  # of a long song it is as large as the models
    # Only the experts of this genre: a large model opens in a fraction of its memory.
    rounded = {"quantization": "int8"} if arguments.precision == "int8" else {"dtype": arguments.precision}
    pipe = MusicToDancePipeline.from_pretrained(model, active_genres=[genre], **rounded)
    if not arguments.genre and len(genres) > 1:
        print(f"no --genre given: dancing {genre} (the others: {', '.join(genres[1:])})")
    options = {name: getattr(arguments, name) for name in ("seed", "mode", "temperature", "top_k", "num")}
    extractor = pipe.processor.feature_extractor
    if (SAMPLING_RATE, HOP_LENGTH) == (extractor.sampling_rate, extractor.hop_length):
        dances = pipe({"input_features": features}, genre, progress=True, **options)
    else:  # a model with music features of its own
        dances = pipe(song, genre, progress=True, **stretch, **options)
    dances = dances if isinstance(dances, list) else [dances]
    for dance in dances:
        dance.metadata |= {"song": _readable(song.title), "start": arguments.start}
    began = time.perf_counter()
    lines = outputs.write(dances, song, arguments.start)
    writing, seconds = time.perf_counter() - began, sum(dance.seconds for dance in dances)
    print("\n".join(lines))
    notes = dances[0].metadata
    print(
        f"{f'{len(dances)} dances' if len(dances) > 1 else 'dance'} of {dances[0].seconds:.1f} s, {notes['genre']}, seed "
        f"{notes['seed']}: computed in {notes['compute_seconds']:.1f} s "
        f"({notes['compute_seconds'] / seconds:.3f} s a second of dance), files in {writing:.1f} s"
    )


def _given(song: str | None, argument: str) -> Any:
    """A song as it is read: its path or address, or what comes in through a pipe for `-`."""
    if song != "-":
        return song
    if sys.stdin is None or sys.stdin.isatty():
        raise CommandError(f"argument {argument}: '-' is what comes in through a pipe, and none is there: give a file")
    return sys.stdin.buffer


def run_export(arguments: argparse.Namespace) -> None:
    """One line a file."""
    if arguments.bundle and not arguments.music:
        raise CommandError("argument --bundle: the sound belongs to it: give --music SONG")
    music = _given(arguments.music, "--music")
    inputs = {"DANCE": arguments.dance, "--music": music}
    outputs = Outputs(arguments.output, 1, arguments.bundle, arguments.bones, arguments.body, inputs)
    from megadance_hf.modeling.audio_megadance import open_sound
    from megadance_hf.motion.motion import Motion

    dance, notes = Motion.load_with_notes(arguments.dance, arguments.fps, arguments.up)
    for note in notes:
        print(f"megadance: {arguments.dance}: {note}", file=sys.stderr)
    start = dance.metadata.get("start", 0.0) if arguments.start is None else arguments.start
    song = None if music is None else open_sound(music)  # once: it may be a pipe
    print("\n".join(outputs.write([dance], song, start)))


def run_demo(arguments: argparse.Namespace) -> None:
    """Serve the web page until Ctrl-C."""
    from importlib.util import find_spec

    if find_spec("gradio") is None:
        raise CommandError("demo needs gradio: pip install 'megadance-hf[demo]'")
    from megadance_hf.demo.page import Limits, launch
    from megadance_hf.models import DEFAULT_MODEL

    _hush()
    limits = Limits(
        arguments.max_seconds, arguments.max_megabytes, arguments.time_limit, disk_megabytes=arguments.max_disk
    )
    model = arguments.model or DEFAULT_MODEL
    with contextlib.suppress(KeyboardInterrupt):  # this is how one ends it
        where = {"host": arguments.host, "port": arguments.port, "open_browser": arguments.open}
        launch(model, limits=limits, body=arguments.body, **where)


def run_genres(arguments: argparse.Namespace) -> None:
    """One genre a line."""
    from megadance_hf.models import DEFAULT_MODEL, load_config

    _hush()
    print("\n".join(load_config(arguments.model or DEFAULT_MODEL).built_genres))


def run_info(arguments: argparse.Namespace) -> None:
    """What a model is, read from its configuration; its weights are not loaded."""
    from megadance_hf.models import DEFAULT_MODEL
    from megadance_hf.pipeline import describe_model

    if arguments.model and arguments.place and arguments.model != arguments.place:
        raise CommandError(f"argument --model: {arguments.place!r} and {arguments.model!r} are two models: give one")
    _hush()
    lines = describe_model(arguments.model or arguments.place or DEFAULT_MODEL)
    width = max(map(len, lines))
    for name, value in lines.items():
        print(f"{name:<{width}}  {value}")


def run_convert(arguments: argparse.Namespace) -> None:
    """One line a network; all of the folder or nothing."""
    from megadance_hf.hub.convert import convert_checkpoint

    _hush()
    began = time.perf_counter()
    lines = convert_checkpoint(
        arguments.checkpoint, arguments.output, mean=arguments.mean, std=arguments.std, genres=arguments.genres
    )
    if arguments.mean is None:
        print("no --mean and --std: the networks take raw numbers as they are; their dances will be wrong without them")
    print("\n".join(lines))
    print(f"wrote {arguments.output} in {time.perf_counter() - began:.1f} s")


def run_prepare(arguments: argparse.Namespace) -> None:
    """Prepare a data set and say what is in it; push it when asked to."""
    import importlib

    if arguments.dry_run and not arguments.push:
        raise CommandError("argument --dry-run: it is about --push REPO: give that, or leave both out")
    if arguments.push and not arguments.dry_run:
        from megadance_hf.hub.push import check_hub

        check_hub(arguments.push)
    prepare = importlib.import_module(f"megadance_hf.datasets_scripts.{arguments.data_set}").prepare
    names = ("raw", "out", "num_proc", "jumps", "split", "validation", "hands", "music", "clips", "seconds", "seed")
    try:
        print(prepare(**{name: getattr(arguments, name) for name in names if hasattr(arguments, name)}))
    except KeyboardInterrupt as stop:
        stop.args = ("stopped; what is done is kept, the same command goes on from there",)
        raise
    except OSError as error:
        if _is_for_users(error):
            raise
        raise CommandError(f"{error}: check that RAW can be read and OUT written") from error
    if arguments.push:
        from megadance_hf.hub.push import push_dataset

        _say_pushed(push_dataset(arguments.out, arguments.push, arguments.dry_run), arguments.dry_run, " (private)")


def _say_pushed(said: str, dry_run: bool, seen: str = "") -> None:
    print(said if dry_run else f"pushed to {said}{seen}")


def run_push(arguments: argparse.Namespace) -> None:
    """Upload, and say where it is."""
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
        from megadance_hf.hub.push import push_dataset

        _say_pushed(push_dataset(folder, arguments.repo, arguments.dry_run), arguments.dry_run, " (private)")
        return
    from megadance_hf.hub.push import COMPOSED, push_to_hub

    _hush()
    address = push_to_hub(
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
    _say_pushed(address, arguments.dry_run)


def run_evaluate(arguments: argparse.Namespace) -> None:
    """Measure, write, and say where; what is wrong with the arguments is said before anything is computed."""
    from importlib.util import find_spec

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
    from megadance_hf.evaluation.evaluate import evaluate
    from megadance_hf.models import DEFAULT_MODEL

    _hush()
    began = time.perf_counter()
    options = {n: getattr(arguments, n) for n in ("classifier", "reference", "splits", "seeds", "seed", "clip_frames")}
    evaluation = evaluate(
        arguments.model or DEFAULT_MODEL,
        arguments.data,
        arguments.protocol,
        tables=arguments.tables.split(",") if arguments.tables else None,
        ablations=ablations,
        clip_stride=arguments.clip_stride,
        songs=arguments.songs,
        progress=True,
        **options,
    )
    files = evaluation.write(out)
    print((out / "tables.md").read_text(encoding="utf-8"))
    print(f"wrote {', '.join(str(file) for file in files)} in {time.perf_counter() - began:.0f} s")


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """To import large libraries makes a million objects and no garbage; to look for some takes a tenth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _readable(name: str | None) -> str | None:
    """A file's name as it was meant: in a locale without UTF-8 Python stands in for the letters that it does not know."""
    return name and name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _hush() -> None:
    """Reports and loading bars would stand around the one line of an error; bars of downloads, which take long, stay."""
    import logging

    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging as transformers_logging

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    transformers_logging.set_verbosity_error()
    downloads_are_shown = not are_progress_bars_disabled()
    transformers_logging.disable_progress_bar()  # the Hub's bars as well
    if downloads_are_shown:
        enable_progress_bars()


# --- entry ---------------------------------------------------------------------------------------------------------


def _is_for_users(error: Exception) -> bool:
    """Our own error classes (AudioError, GenreError, ModelError, ...) carry one line for users; any other is a bug."""
    package = __package__.partition(".")[0]
    return isinstance(error, CommandError) or type(error).__module__.partition(".")[0] == package


def _with_axes(argv: Sequence[str]) -> list[str]:
    """`--up -y` as `--up=-y`: argparse would take -y for an option."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1] == "--up" and word in ("-x", "-y", "-z"):
            joined[-1] = f"--up={word}"
        else:
            joined.append(word)
    return joined


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (`sys.argv[1:]` when None); returns the exit status: 0, 2 for bad input, 130 for Ctrl-C (and
    143 or 129 for SIGTERM or SIGHUP)."""
    try:
        with sober_streams(), stoppable():
            return _run(_with_axes(sys.argv[1:] if argv is None else argv))
    except StreamError as error:
        print(f"megadance: error: {error}", file=sys.stderr)
        return 2


def _run(argv: list[str]) -> int:
    arguments = build_parser().parse_args([*argv[1:], "--help"] if argv[:1] == ["help"] else argv)
    try:
        arguments.run(arguments)
    except KeyboardInterrupt as stop:
        print(f"\nmegadance: {str(stop) or 'stopped, nothing was written'}", file=sys.stderr)
        return status_of(stop)
    except Exception as error:
        if not _is_for_users(error):
            raise
        print(f"megadance {arguments.command}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0
