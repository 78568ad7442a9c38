"""How a model dances: contact sheets of its dances to many songs, and the worst of them in each number, raw and cleaned.

    python benchmarks/default_model.py SONGS [SONGS ...] [--model DIR] [--out DIR] [--genres waltz tango] [--seeds 3] [--songs 8]

SONGS are sound files, folders of them, or a prepared data set, whose songs of --split are danced to. Every song is danced to in every
genre with every seed. In --out:

- GENRE.png, the contact sheet: a dance in each row, moments of it side by side (after the clean-up), its song, seed and numbers in
  the corner; of spins and jumps also the raw ones.
- worst.md: for each genre the median and the worst dance of each number. Where both too much and too little is bad, as of speed, from
  the lowest to the highest.
- report.json: the same, and the numbers of every dance; it is printed as well, without the single dances.

Landings are foot landings within an eighth of a beat of a beat (chance: .25), of dances with ten or more; for files the beats are those
that the model hears.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from timing import make_parser, print_report

from megadance_hf import metrics
from megadance_hf.data.prepared import INFO_FILE, read_prepared
from megadance_hf.data.songs import SUFFIXES
from megadance_hf.evaluation.dances import Dance, Dancer, Request, evenly
from megadance_hf.evaluation.scores import FEWEST_LANDINGS, physical_numbers
from megadance_hf.evaluation.synchrony import feature_beats, known_beats
from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE, MOTION_FPS
from megadance_hf.modeling.music_features_megadance import BEAT
from megadance_hf.models import DEFAULT_MODEL
from megadance_hf.motion.motion import Motion, atomic_path
from megadance_hf.pipeline import MusicToDancePipeline
from megadance_hf.render.stage import Stage, write_text

# Heading, decimals, and which dances are the worst.
NUMBERS = {
    "spins": ("spins", 0, "highest"),
    "largest_turn": ("largest turn, degrees", 0, "highest"),
    "jumps": ("jumps", 0, "highest"),
    "largest_step": ("largest step, m", 2, "highest"),
    "toe_median": ("toe on the floor, m/s", 2, "highest"),
    "toe_90": ("90 %", 2, "highest"),
    "depth_below_floor": ("below the floor, m", 3, "highest"),
    "frozen_share": ("frozen", 2, "highest"),
    "landings": ("landings on the beat", 2, "lowest"),
    "jerk": ("jerk, m/s^3", 0, "both"),
    "mean_speed": ("speed, m/s", 2, "both"),
    "pelvis_bob": ("bob, m", 3, "both"),
    "root_drift": ("drift, m/minute", 1, "highest"),
}
CELL = 200  # pixels, width and height of a picture
LINE = 22  # pixels of a row of the sheet that hold its text


@dataclass
class Song:
    """A piece of a song: music features (S, 35) of all of it, first and number of frames, and the piece's beats in frames."""

    name: str
    music: np.ndarray
    start: int
    frames: int
    beats: np.ndarray


def find_songs(paths: Sequence[str], split: str) -> list[Any]:
    """Paths of sound files, and clips of prepared sets, in the order given and by name within a folder."""
    found: list[Any] = []
    for path in map(Path, paths):
        if (path / INFO_FILE).is_file():
            found += [clip for clip in read_prepared(path, split) if clip.paired]
        elif path.is_dir():
            found += sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        else:
            found.append(path)
    return found


def read_song(song: Any, pipe: MusicToDancePipeline, start: float, duration: float | None) -> Song:
    """Its whole codes: up to 7 frames at the end are left out, as in an evaluation."""
    if isinstance(song, Path):
        name, music = song.stem, pipe.processor.feature_extractor.listen(song)
        beats = np.flatnonzero(music[:, BEAT] > 0.5)
    else:
        grid = known_beats(song)
        name, music, beats = song.id, song.input_features, feature_beats(song) if grid is None else grid
    first = round(start * MOTION_FPS)
    frames = len(music) - first if duration is None else min(len(music) - first, round(duration * MOTION_FPS))
    frames = frames // FRAMES_PER_CODE * FRAMES_PER_CODE
    beats = beats - first
    return Song(name, music, first, frames, beats[(beats >= 0) & (beats < frames)])


def measure(dance: Dance, beats: np.ndarray) -> dict[str, float | None]:
    """The `NUMBERS` of a dance; landings are None where there are too few."""
    numbers = physical_numbers(dance) | {"root_drift": metrics.root_drift(dance.joints)}
    found = metrics.landing_synchrony(dance.joints, beats)
    numbers["landings"] = found["own"] if found is not None and found["landings"] >= FEWEST_LANDINGS else None
    return {name: None if numbers[name] is None else float(numbers[name]) for name in NUMBERS}


def summarize(rows: Sequence[dict[str, float | None]]) -> dict[str, dict[str, float | None]]:
    """Median, lowest and highest of each number over many dances; None where no dance has it."""
    summary = {}
    for name in NUMBERS:
        values = [row[name] for row in rows if row[name] is not None]
        ends = {"median": np.median, "lowest": np.min, "highest": np.max}
        summary[name] = {end: float(take(values)) if values else None for end, take in ends.items()}
    return summary


def worst_table(report: dict[str, Any]) -> str:
    """Markdown: for each genre, raw and cleaned, the median and the worst of each number."""

    def cell(name: str, found: dict[str, float | None]) -> str:
        _, decimals, worst = NUMBERS[name]
        median, low, high = ("-" if found[end] is None else f"{found[end]:.{decimals}f}" for end in found)
        return f"{median} ({ {'highest': high, 'lowest': low, 'both': f'{low} to {high}'}[worst] })"

    header = ["", *(title for title, _, _ in NUMBERS.values())]
    lines = [header, ["---"] * len(header)]
    for genre, kinds in report["genres"].items():
        for kind in ("raw", "cleaned"):
            lines.append([f"{genre}, {kind}", *(cell(name, kinds[kind][name]) for name in NUMBERS)])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"Median of {report['dances']} dances by genre, and the worst in brackets.\n\n{table}\n"


def caption(name: str, seed: int, raw: dict[str, Any], cleaned: dict[str, Any]) -> str:
    landings = "-" if cleaned["landings"] is None else f"{cleaned['landings']:.2f}"
    return (
        f"{name}, seed {seed}:  spins {cleaned['spins']:.0f} (raw {raw['spins']:.0f}), jumps {cleaned['jumps']:.0f} "
        f"(raw {raw['jumps']:.0f}), toe {cleaned['toe_median']:.2f} / {cleaned['toe_90']:.2f} m/s, below "
        f"{100 * cleaned['depth_below_floor']:.1f} cm, frozen {cleaned['frozen_share']:.0%}, landings {landings}, "
        f"jerk {cleaned['jerk']:.0f}, speed {cleaned['mean_speed']:.2f}"
    )


def draw_row(dance: Dance, text: str, moments: int) -> np.ndarray:
    """Pictures of a dance side by side under a line of text: (rows, columns, 3) uint8 RGB."""
    stage = Stage(Motion(dance.poses, dance.translation, fps=MOTION_FPS), (CELL, CELL), title=False)
    frames = np.linspace(0, len(stage) - 1, moments).round().astype(int).tolist()
    pictures = np.concatenate([stage.draw(frame, overlay=False) for frame in frames], 1)
    pictures[:, CELL - 1 :: CELL] = 255
    row = np.full((LINE + CELL, pictures.shape[1], 3), 255, np.uint8)
    row[LINE:] = pictures
    write_text(row, text, 480, 4, LINE)
    return row


def write_sheet(path: Path, rows: Sequence[np.ndarray]) -> None:
    import cv2

    sheet = cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR)
    with atomic_path(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", sheet)[1].tobytes())


def main(argv: list[str] | None = None) -> dict:
    parser = make_parser(__doc__)
    parser.add_argument("paths", nargs="+", metavar="SONGS")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="folder or Hub id (default: the bundled model)")
    parser.add_argument("--split", default="validation", help="of a prepared set (default: validation)")
    parser.add_argument("--songs", type=int, help="at most so many, evenly spread (default: all)")
    parser.add_argument("--genres", nargs="+", help="default: all that the model knows")
    parser.add_argument("--seeds", type=int, default=3, help="dances per song and genre (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="of all dances (default 0)")
    parser.add_argument("--start", type=float, default=0.0, help="second of each song to begin at")
    parser.add_argument("--duration", type=float, help="seconds of each song")
    parser.add_argument("--moments", type=int, default=8, help="columns of a contact sheet (default 8)")
    parser.add_argument("--out", help="folder for contact sheets, worst.md and report.json")
    arguments = parser.parse_args(argv)
    pipe = MusicToDancePipeline.from_pretrained(arguments.model)
    genres = arguments.genres or pipe.genres
    for genre in genres:
        pipe.processor.genre_id(genre)  # an unknown one is an error now, not after the first dances
    found = evenly(find_songs(arguments.paths, arguments.split), arguments.songs)
    if not found:
        parser.error("no song found: give sound files, a folder of them, or a prepared set with such a --split")
    songs = [read_song(song, pipe, arguments.start, arguments.duration) for song in found]

    report: dict[str, Any] = {"model": str(arguments.model), "songs": [song.name for song in songs]}
    report |= {"seeds": arguments.seeds, "dances": len(songs) * arguments.seeds, "genres": {}}
    rows = []
    for genre in genres:
        requests = [Request(index, song.music, genre, song.start, song.frames) for index, song in enumerate(songs)]
        began = time.perf_counter()
        made = Dancer(pipe, arguments.seeds, arguments.seed)(genre, requests)
        seconds = (time.perf_counter() - began) / sum(len(dance.joints) / MOTION_FPS for dance in made)
        dances = {"raw": made, "cleaned": [dance.cleaned for dance in made]}
        measured = {k: [measure(dance, songs[dance.excerpt].beats) for dance in found] for k, found in dances.items()}
        report["genres"][genre] = {"compute_per_second": seconds} | {k: summarize(m) for k, m in measured.items()}
        pictures = []
        for dance, raw, cleaned in zip(dances["cleaned"], measured["raw"], measured["cleaned"], strict=True):
            name = songs[dance.excerpt].name
            rows.append({"genre": genre, "song": name, "seed": dance.seed, "raw": raw, "cleaned": cleaned})
            if arguments.out:
                pictures.append(draw_row(dance, caption(name, dance.seed, raw, cleaned), arguments.moments))
        if arguments.out:
            Path(arguments.out).mkdir(parents=True, exist_ok=True)
            write_sheet(Path(arguments.out) / f"{genre}.png", pictures)
    if arguments.out:
        (Path(arguments.out) / "worst.md").write_text(worst_table(report), encoding="utf-8")
        text = json.dumps({**report, "rows": rows}, indent=2)
        (Path(arguments.out) / "report.json").write_text(text + "\n", encoding="utf-8")
    return print_report(report)


if __name__ == "__main__":
    main()
