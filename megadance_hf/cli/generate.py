"""`megadance generate`: songs in, dances out."""

import argparse
import gc
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

from .console import quiet_libraries
from .options import (
    COUNT,
    POSITIVE,
    SEED,
    CommandError,
    add_hold_option,
    add_model_option,
    add_values,
    add_wishes,
    genres,
    is_for_users,
    number,
    plan,
    read_hold,
    song_source,
)
from .outputs import FORMATS, Outputs, add_output_options

MODES = ("released", "paper", "stream")  # repeated, because their home imports torch; a test compares them
CHANGES = ("code", "bar")  # as these
PRECISIONS = ("float32", "bfloat16", "int8")

HELP = "make a dance to a song"
DESCRIPTION = "Make a dance to a song, or to several. It is as long as the song (or as --duration), to the frame."
EXAMPLES = f"""\
{FORMATS}examples:
  megadance generate song.mp3 -o dance.mp4
  megadance generate song.mp3 --genre waltz --seed 7 -o dance.mp4 -o dance.bvh
  megadance generate song.mp3 --start 30 --duration 20 -o dance.glb     seconds 30 to 50 of the song
  curl https://example.org/song.m4a | megadance generate - -o dance.mp4
  megadance generate song.mp3 --num 3 -o dance.mp4      three dances: dance-1.mp4, dance-2.mp4, dance-3.mp4
  megadance generate song.mp3 --plan "waltz@0 tango@21.5" --changes bar -o dance.mp4      two genres in one dance
  megadance generate song.mp3 --hold 12.5=pose.npz --hold end=pose.npz -o dance.mp4       a pose that the dance meets, twice
  megadance generate song.mp3 --genre rumba=.7,waltz=.3 --candidates 8 -o dance.mp4       a mixture; the likeliest of 8
  megadance generate song.mp3 --prompt "a slow waltz, more turns, arms high" -o dance.mp4                         in words
  megadance generate songs/*.mp3 --out dances --format mp4 --format npz                   a dance to each of several songs
  megadance generate songs/ --genre auto --out dances                     the same to all songs of a folder, each in the genre heard
  megadance generate song.mp3 --bundle dance            for Blender: dance/ with the figure, the sound, a script, a HOWTO

The same seed gives the same dance. Without --seed a random one is used and printed at the end.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "song",
        metavar="SONG",
        nargs="+",
        help="any file that plays (wav, mp3, m4a, ogg, flac, a film, ...), its http(s) address, or - to read it from a pipe; "
        "up to 3 hours, 64 channels, 1 to 768 kHz. With --out several of them, or folders",
    )
    add_output_options(parser)
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="folder for the dances to all songs, each named like its song; made if it is not there",
    )
    parser.add_argument(
        "--format",
        metavar="SUFFIX",
        action="append",
        help="of the files in --out, such as mp4 (default) or npz; give several --format for several files",
    )
    genre = (
        "kind of dance, see `megadance genres`; or `auto` (default): the one heard in the song, the model's first if it cannot hear; or "
        "several with weights: rumba=.7,waltz=.3"
    )
    parser.add_argument("--genre", metavar="G", type=genres, help=genre)
    text = "several in one dance, each with the second of the dance at which it begins: 'waltz@0 tango@21.5'"
    parser.add_argument("--plan", metavar="P", type=plan, help=text)
    parser.add_argument(
        "--changes",
        choices=CHANGES,
        help="where the genres of --plan change: at the nearest step (`code`, default) or `bar`",
    )
    add_wishes(parser, "the dance")
    add_model_option(parser)
    num = "how many dances (default 1); if several, -1, -2, ... are added to the names of the files"
    add_values(
        parser,
        ("--seed", "N", SEED, None, "number that fixes the dance"),
        ("--start", "S", number(0), 0.0, "second of the song to begin at"),
        ("--duration", "S", POSITIVE, None, "seconds to dance (default: to the end of the song)"),
        ("--num", "N", COUNT, 1, num),
        ("--candidates", "N", COUNT, None, "make so many dances and keep the likeliest (the --num likeliest)"),
    )
    add_hold_option(parser, "the dance")
    parser.add_argument("--loop", action="store_true", help="end in the pose and the place of the beginning")
    parser.add_argument(
        "--mode",
        choices=MODES,
        help="what each step sees of the past and the music: `paper` (fast), `released` (as the authors' code, slow), "
        "`stream` (a state that is carried on without end); default: the model's own choice",
    )
    parser.add_argument("--temperature", metavar="T", type=POSITIVE, help="below 1 safer, above 1 more surprising")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="how the weights are stored (default float32); the others take half or a quarter of the memory, and large models "
        "are faster",
    )
    parser.add_argument(
        "--top-k", metavar="K", type=number(0, whole=True), help="sample from the K most likely codes only; 0: from all"
    )
    parser.add_argument(
        "--no-clean",
        action="store_true",
        help="leave the motion as it was decoded: spins and jumps are not bridged, feet not planted",
    )


def run(arguments: argparse.Namespace) -> None:
    """Make dances and write them: all files of a song or none."""
    if arguments.genre is not None and arguments.plan is not None:
        raise CommandError("argument --plan: --genre is given, too: give the plan alone")
    if arguments.changes and len(arguments.plan or ()) < 2 and arguments.prompt is None:
        raise CommandError(f"argument --changes: {arguments.changes!r} does nothing alone: give a --plan with changes")
    if arguments.candidates is not None and arguments.candidates < arguments.num:
        raise CommandError(
            f"argument --candidates: {arguments.candidates} are fewer than --num {arguments.num}: give more"
        )
    if arguments.out is not None:
        _dance_to_all(arguments)
        return
    if arguments.format:
        raise CommandError("argument --format: it is of the files in --out: give --out DIR, or -o with a suffix")
    if len(arguments.song) > 1:
        raise CommandError(f"argument SONG: {len(arguments.song)} songs are given: give --out DIR in place of -o")
    _dance_to_one(arguments, arguments.song[0])


def _dance_to_one(arguments: argparse.Namespace, name: str) -> None:
    source = song_source(name, "SONG")
    options = (arguments.bundle, arguments.bones, arguments.body, not arguments.no_title)
    outputs = Outputs(arguments.output, arguments.num, *options, inputs={"SONG": source})
    from megadance_hf.modeling.audio_megadance import begins_and_ends, load_excerpt, open_sound
    from megadance_hf.modeling.music_features_megadance import HOP_LENGTH, SAMPLING_RATE, num_rows, song_features

    # Everything that can be wrong is found before anything slow: first of all the song, which needs no network.
    excerpt = {"start": arguments.start, "duration": arguments.duration}
    song = open_sound(source)  # once: it may be a pipe
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        waveform, rows = load_excerpt(song, **excerpt)
    for warning in caught:
        print(f"megadance {arguments.command}: {warning.message}", file=sys.stderr)
    gc.disable()  # importing makes a million objects and no garbage; looking for some takes a tenth of the time
    from megadance_hf import pipeline  # noqa: F401

    gc.enable()
    from megadance_hf.modeling.hearing_megadance import describe_hearing
    from megadance_hf.modeling.wishes_megadance import describe_prompt

    choice = {**read_hold(arguments.hold), **_read_genres(arguments)}
    analysed = song_features(waveform)
    features = {"input_features": analysed[rows], "before": analysed[: rows.start], "after": analysed[rows.stop :]}
    limits = begins_and_ends(arguments.start, rows, num_rows(len(waveform), HOP_LENGTH), SAMPLING_RATE / HOP_LENGTH)
    features |= dict(zip(("begins", "ends"), limits, strict=True))
    del waveform  # of a long song it is as large as the models
    pipe = _load(arguments, choice)
    extractor = pipe.processor.feature_extractor
    options = {"progress": True, **choice, **_options(arguments)}
    if (SAMPLING_RATE, HOP_LENGTH) == (extractor.sampling_rate, extractor.hop_length):
        dances = pipe(features, **options)
    else:  # a model with music features of its own
        dances = pipe(song, **excerpt, **options)
    dances = dances if isinstance(dances, list) else [dances]
    # in a locale without UTF-8, Python has surrogates for the bytes of a name that it cannot decode
    title = song.title and song.title.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    for dance in dances:
        dance.metadata |= {"song": title, "start": arguments.start}
    began = time.perf_counter()
    lines = outputs.write(dances, song, arguments.start)
    writing, seconds = time.perf_counter() - began, sum(dance.seconds for dance in dances)
    print("\n".join(lines))
    metadata = dances[0].metadata
    if "heard" in metadata:
        print(describe_hearing(metadata["heard"], "--genre"))
    if "prompt" in metadata:
        print(describe_prompt(metadata["prompt"]))
    print(
        f"{f'{len(dances)} dances' if len(dances) > 1 else 'dance'} of {dances[0].seconds:.1f} s, {_name(metadata)}, seed "
        f"{metadata['seed']}: computed in {metadata['compute_seconds']:.1f} s "
        f"({metadata['compute_seconds'] / seconds:.3f} s per second of dance), files in {writing:.1f} s"
    )


def _dance_to_all(arguments: argparse.Namespace) -> None:
    """A dance to each of several songs. One that fails does not stop the others."""
    for option, given in (("-o", arguments.output), ("--bundle", arguments.bundle)):
        if given:
            raise CommandError(
                f"argument {option}: --out DIR is given, too: give --format for its files, or leave --out out"
            )
    folder, songs = Path(arguments.out), _find_songs(arguments.song)
    if folder.exists() and not folder.is_dir():
        raise CommandError(f"argument --out: {arguments.out!r} is a file: give a folder")
    made = [part for part in (folder, *folder.parents) if not part.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(
            f"argument --out: {arguments.out!r} cannot be made ({error.strerror}): give another"
        ) from None
    written = 0
    try:
        suffixes = [f".{suffix.lstrip('.')}" for suffix in arguments.format or ["mp4"]]
        options = (None, arguments.bones, arguments.body, not arguments.no_title)
        outputs = [
            Outputs(
                [str(folder / f"{song.stem}{suffix}") for suffix in suffixes], arguments.num, *options, {"SONG": song}
            )
            for song in songs
        ]
        written = _make_all(arguments, songs, outputs)
    finally:
        if not written:
            for part in made:
                part.rmdir()
    if written < len(songs):
        raise CommandError(f"{len(songs) - written} of {len(songs)} songs have no dance, for the reasons above")


def _make_all(arguments: argparse.Namespace, songs: list[Path], outputs: list[Outputs]) -> int:
    """Make and write the dances; how many songs have them."""
    from megadance_hf.modeling.audio_megadance import open_sound
    from megadance_hf.modeling.hearing_megadance import describe_hearing
    from megadance_hf.modeling.progress_megadance import progress_bar
    from megadance_hf.modeling.wishes_megadance import describe_prompt

    choice, written = {**read_hold(arguments.hold), **_read_genres(arguments)}, 0
    pipe = _load(arguments, choice)
    options = {**choice, **_options(arguments), "start": arguments.start, "duration": arguments.duration}
    try:
        with progress_bar(desc="songs", total=len(songs), unit="song") as bar:
            for index, (path, output) in enumerate(zip(songs, outputs, strict=True)):
                try:
                    song = open_sound(path)
                    with warnings.catch_warnings(record=True) as caught:
                        warnings.simplefilter("always")
                        made = pipe(song, progress=partial(_show, bar, index), **options)
                    dances = made if isinstance(made, list) else [made]
                    output.write(dances, song, arguments.start)
                    metadata = dances[0].metadata
                    lines = [f"{path}: {dances[0].seconds:.1f} s, {_name(metadata)}, seed {metadata['seed']}"]
                    if "heard" in metadata:
                        lines.append(f"{path}: {describe_hearing(metadata['heard'], '--genre')}")
                    if "prompt" in metadata:
                        lines.append(f"{path}: {describe_prompt(metadata['prompt'])}")
                    lines += [f"{path}: {warning.message}" for warning in caught]
                    written += 1
                except Exception as error:
                    if not is_for_users(error):
                        raise
                    lines = [f"{path}: no dance: {' '.join(str(error).split())}"]
                for line in lines:
                    bar.write(line)
                bar.update(index + 1 - bar.n)
    except KeyboardInterrupt as stop:
        stop.args = (f"stopped; dances to {written} of {len(songs)} songs were written",)
        raise
    return written


def _show(bar: Any, before: int, done: int, total: int) -> None:
    """Codes of one song as a part of all songs."""
    bar.update(before + done / total - bar.n)


def _find_songs(names: list[str]) -> list[Path]:
    """Songs and those in folders, in their order."""
    from megadance_hf.data.songs import SUFFIXES

    songs: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
            if not found:
                raise CommandError(f"argument SONG: there are no songs in {name!r}: give a folder with some, or files")
            songs += found
        elif not path.is_file():
            raise CommandError(f"argument SONG: {name!r} is no file here: with --out, give files and folders")
        else:
            songs.append(path)
    names_of = [song.stem for song in songs]
    if repeated := sorted({name for name in names_of if names_of.count(name) > 1}):
        raise CommandError(
            f"argument SONG: several songs are named {repeated[0]!r}, and so would be their dances: give them one by one"
        )
    return songs


def _read_genres(arguments: argparse.Namespace) -> dict[str, Any]:
    """The genre or plan, the prompt and the attributes, checked by what the model has, as keywords of the pipeline."""
    from megadance_hf.modeling.hearing_megadance import AUTO, is_auto
    from megadance_hf.modeling.plans_megadance import read_genres, read_plan
    from megadance_hf.modeling.wishes_megadance import Prompt, read_attributes
    from megadance_hf.models import DEFAULT_MODEL, load_config

    quiet_libraries()
    config = load_config(arguments.model or DEFAULT_MODEL)
    known = config.built_genres
    wishes = {name: getattr(arguments, name) for name in ("prompt", "attributes", "changes")}
    choice = {name: value for name, value in wishes.items() if value is not None}
    is_given = arguments.genre is not None and not is_auto(arguments.genre, known)
    if arguments.plan is not None:
        choice["plan"] = read_plan(arguments.plan, [*known, AUTO])
    elif is_given:
        choice["genre"] = read_genres(arguments.genre, known)
    if arguments.attributes is not None:
        read_attributes(arguments.attributes, config.attributes)
    names_genre, first = is_given or arguments.plan is not None, known[0]
    if arguments.prompt is not None:
        prompt = Prompt.read(arguments.prompt, config.genres, config.attributes, known)
        prompt.check_genres(choice.get("genre"), choice.get("plan"))
        names_genre = names_genre or bool(prompt.directions.genres)
        first = prompt.wanted_genres(known)[0]
    if not names_genre:
        choice["genre"] = AUTO if config.hears_genres else first
        if not config.hears_genres and len(known) > 1:
            why = "no --genre given" if arguments.genre is None else "--genre auto: this model cannot hear"
            print(f"{why}: dancing {first} (the others: {', '.join(name for name in known if name != first)})")
    return choice


def _load(arguments: argparse.Namespace, choice: dict[str, Any]) -> Any:
    """The pipeline, with the experts of these genres only: a large model is loaded in a fraction of its memory."""
    from megadance_hf.modeling.hearing_megadance import AUTO
    from megadance_hf.modeling.wishes_megadance import Prompt
    from megadance_hf.models import DEFAULT_MODEL, load_config
    from megadance_hf.pipeline import MusicToDancePipeline

    model = arguments.model or DEFAULT_MODEL
    config = load_config(model)
    known = config.built_genres
    parts = [choice["genre"]] if "genre" in choice else [genre for genre, _ in choice.get("plan", ())]
    used = {name for part in parts for name in ([part] if isinstance(part, str) else part)}
    if "prompt" in choice:
        used |= set(Prompt.read(choice["prompt"], config.genres, config.attributes, known).named_genres)
    used = set(known) if AUTO in used else used  # it is not known before the song is heard
    weights = {"quantization": "int8"} if arguments.precision == "int8" else {"dtype": arguments.precision}
    return MusicToDancePipeline.from_pretrained(
        model, active_genres=[name for name in known if name in used], **weights
    )


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    options = {name: getattr(arguments, name) for name in ("seed", "mode", "temperature", "top_k", "num", "candidates")}
    return {**options, "clean": not arguments.no_clean, "loop": arguments.loop}


def _name(metadata: dict[str, Any]) -> str:
    """The genre of a dance, or its plan, in words."""
    plan = metadata.get("plan") or [[metadata["genre"], 0.0]]
    names = [
        genre if isinstance(genre, str) else " and ".join(f"{name} {weight:g}" for name, weight in genre.items())
        for genre, _ in plan
    ]
    seconds = ["", *(f" at {second:.1f} s" for _, second in plan[1:])]
    return ", ".join(name + second for name, second in zip(names, seconds, strict=True))
