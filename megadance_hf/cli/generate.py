"""`megadance generate`: a song in, dances out."""

import argparse
import gc
import sys
import time
import warnings

from .console import quiet_libraries
from .options import COUNT, POSITIVE, SEED, add_model_option, add_values, number, song_source
from .outputs import FORMATS, Outputs, add_output_options

MODES = ("released", "paper", "stream")  # repeated, because their home imports torch; a test compares them
PRECISIONS = ("float32", "bfloat16", "int8")

HELP = "make a dance to a song"
DESCRIPTION = "Make a dance to a song. It is as long as the song (or as --duration), to the frame."
EXAMPLES = f"""\
{FORMATS}examples:
  megadance generate song.mp3 -o dance.mp4
  megadance generate song.mp3 --genre waltz --seed 7 -o dance.mp4 -o dance.bvh
  megadance generate song.mp3 --start 30 --duration 20 -o dance.glb     seconds 30 to 50 of the song
  curl https://example.org/song.m4a | megadance generate - -o dance.mp4
  megadance generate song.mp3 --num 3 -o dance.mp4      three dances: dance-1.mp4, dance-2.mp4, dance-3.mp4
  megadance generate song.mp3 --bundle dance            for Blender: dance/ with the figure, the sound, a script, a HOWTO

The same seed gives the same dance. Without --seed a random one is used and printed at the end.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "song",
        metavar="SONG",
        help="any file that plays (wav, mp3, m4a, ogg, flac, a film, ...), its http(s) address, or - to read it from a pipe; "
        "up to 3 hours, 64 channels, 1 to 768 kHz",
    )
    add_output_options(parser)
    genre = "kind of dance, see `megadance genres` (default: the model's first)"
    parser.add_argument("--genre", metavar="G", help=genre)
    add_model_option(parser)
    num = "how many dances (default 1); if several, -1, -2, ... are added to the names of the files"
    add_values(
        parser,
        ("--seed", "N", SEED, None, "number that fixes the dance"),
        ("--start", "S", number(0), 0.0, "second of the song to begin at"),
        ("--duration", "S", POSITIVE, None, "seconds to dance (default: to the end of the song)"),
        ("--num", "N", COUNT, 1, num),
    )
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
    """Make dances and write them: all files or none."""
    source = song_source(arguments.song, "SONG")
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
    from megadance_hf.modeling.genres_megadance import match_genre
    from megadance_hf.models import DEFAULT_MODEL, load_config
    from megadance_hf.pipeline import MusicToDancePipeline

    gc.enable()
    quiet_libraries()
    model = arguments.model or DEFAULT_MODEL
    genres = load_config(model).built_genres
    genre = match_genre(arguments.genre, genres) if arguments.genre else genres[0]
    analysed = song_features(waveform)
    features = {"input_features": analysed[rows], "before": analysed[: rows.start], "after": analysed[rows.stop :]}
    limits = begins_and_ends(arguments.start, rows, num_rows(len(waveform), HOP_LENGTH), SAMPLING_RATE / HOP_LENGTH)
    features |= dict(zip(("begins", "ends"), limits, strict=True))
    del waveform  # of a long song it is as large as the models
    weights = {"quantization": "int8"} if arguments.precision == "int8" else {"dtype": arguments.precision}
    # Only the experts of this genre: a large model is loaded in a fraction of its memory.
    pipe = MusicToDancePipeline.from_pretrained(model, active_genres=[genre], **weights)
    if not arguments.genre and len(genres) > 1:
        print(f"no --genre given: dancing {genre} (the others: {', '.join(genres[1:])})")
    options = {name: getattr(arguments, name) for name in ("seed", "mode", "temperature", "top_k", "num")}
    options["clean"] = not arguments.no_clean
    extractor = pipe.processor.feature_extractor
    if (SAMPLING_RATE, HOP_LENGTH) == (extractor.sampling_rate, extractor.hop_length):
        dances = pipe(features, genre, progress=True, **options)
    else:  # a model with music features of its own
        dances = pipe(song, genre, progress=True, **excerpt, **options)
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
    print(
        f"{f'{len(dances)} dances' if len(dances) > 1 else 'dance'} of {dances[0].seconds:.1f} s, {metadata['genre']}, seed "
        f"{metadata['seed']}: computed in {metadata['compute_seconds']:.1f} s "
        f"({metadata['compute_seconds'] / seconds:.3f} s per second of dance), files in {writing:.1f} s"
    )
