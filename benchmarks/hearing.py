"""How well a model hears which of its genres a song is for, and how honestly it says how sure it is.

    python benchmarks/hearing.py --data DIR [--model DIR] [--seconds 10 30] [--json]

The songs of a prepared data set are cut, as sound, into pieces of these lengths; the piece of a song that the data have is its whole. Each
song of the training split is heard by a classifier that was fitted without it (the rhythm encoder knew it), the songs of the other splits by
the model itself. Beside the model's own way there are two plain ones, fitted and measured alike: the tempo and metre nearest to those of a
genre's songs, which is always sure, and a softmax of the means and deviations of MFCC. Calibration is the mean difference between what a
classifier says and how often it is right, over tenths of what it says ("ECE"); surprise is the mean negative logarithm of what it gives to
the true genre (always equally likely genres: the logarithm of their number). Then what it says of music that is none of the genres, of
noise and of speech-like sounds: the share that it is sure of (.6 or more).
"""

import dataclasses
import io
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from timing import make_parser, print_report
from torch import Tensor

from megadance_hf import MegaDanceForMotionGeneration
from megadance_hf.data.clip import Clip
from megadance_hf.data.prepared import read_info, read_prepared
from megadance_hf.modeling.audio_megadance import load_audio
from megadance_hf.modeling.hearing_megadance import STATISTICS, SURE, share_none
from megadance_hf.modeling.music_features_megadance import MFCC, SAMPLING_RATE, song_features
from megadance_hf.models import DEFAULT_MODEL, find_model
from megadance_hf.synthetic import composer
from megadance_hf.training.hearing import Heard, HearingSettings, fit_hearing, hear_songs, listen, make_noise

# Rhythms that no composed song of the training has: drums in sixteenths, bass, chords, beats a minute.
_RHYTHMS = {
    "rock": (
        ("kick", "X...x...X.x....."),
        ("snare", "....X.......X..."),
        ("hat", "x.x.x.x.x.x.x.x."),
        "r.r.r.r.r.r.r.r.",
        90,
    ),
    "hip hop": (
        ("kick", "X..x......X..x.."),
        ("snare", "....X.......X..."),
        ("hat", "xoxoxoxoxoxoxxox"),
        "r..r......r.....",
        92,
    ),
    "reggae": (
        ("kick", "........X......."),
        ("snare", "........X......."),
        ("hat", "..x...x...x...x."),
        "r..r..5...r.5...",
        76,
    ),
    "march": (
        ("kick", "X.......X......."),
        ("snare", "....X.xx....X.xx"),
        ("hat", "x...x...x...x..."),
        "r.......5.......",
        116,
    ),
    "techno": (
        ("kick", "X...X...X...X..."),
        ("open_hat", "..X...X...X...X."),
        ("hat", "oooooooooooooooo"),
        "..r...r...r...r.",
        132,
    ),
    "samba": (
        ("kick", "x..xX..xx..xX..x"),
        ("shaker", "XooxXooxXooxXoox"),
        ("rim", "x..x..x...x..x.."),
        "r..rr..5r..rr..5",
        104,
    ),
    "salsa": (
        ("cowbell", "X.x.X.xxX.x.X.xx"),
        ("conga_slap", "....x..........."),
        ("rim", "..x.x...x..x..x."),
        "...r..5....r..5.",
        184,
    ),
    "drum and bass": (
        ("kick", "X.........X....."),
        ("snare", "....X.......X..."),
        ("hat", "x.x.x.x.x.x.x.x."),
        "r.........r.....",
        172,
    ),
}


@dataclass
class Piece:
    """A piece of a song: its true genre (None: none of them), how it was cut ("10", "30", "whole"), features (frames, 35)."""

    song: str
    genre: str | None
    cut: str
    features: np.ndarray


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = make_parser(__doc__)
    parser.add_argument("--data", required=True, help="prepared data set")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="generator with a rhythm encoder")
    parser.add_argument("--seconds", type=float, nargs="+", default=[10.0, 30.0], help="lengths of pieces")
    parser.add_argument("--composed-songs", type=int, default=HearingSettings.composed_songs)
    parser.add_argument("--noises", type=int, default=HearingSettings.noises)
    parser.add_argument("--others", type=int, default=3, help="songs of each rhythm that is none of the genres")
    parser.add_argument("--json", action="store_true", help="print the report instead of tables")
    arguments = parser.parse_args(argv)
    model = MegaDanceForMotionGeneration.from_pretrained(find_model(arguments.model)).eval()
    genres = model.config.genres
    settings = HearingSettings(composed_songs=arguments.composed_songs, noises=arguments.noises)
    splits = {
        split: [
            clip for clip in read_prepared(arguments.data, split, audio=True) if clip.paired and clip.genre in genres
        ]
        for split in read_info(arguments.data)["splits"]
    }
    pieces = {split: list(_pieces(clips, arguments.seconds)) for split, clips in splits.items()}
    others = list(_other_pieces(arguments.others, arguments.seconds))

    heard = hear_songs(model, splits["train"], settings)
    ways: dict[str, tuple[Callable[[np.ndarray], Tensor], Heard, Callable]] = {
        "the model": (partial(listen, model), heard, _softmax),
        "tempo and metre": (partial(listen, model), heard, _nearest),
        "MFCC": (
            _timbre,
            _without_foreign(hear_songs(model, splits["train"], settings, _timbre), len(genres)),
            _softmax,
        ),
    }
    report: dict[str, Any] = {"genres": genres, "songs": {}, "ways": {}}
    for split, some in pieces.items():
        report["songs"][split] = len({piece.song for piece in some})
    for name, (describe, windows, fit) in ways.items():
        shares = _left_out(pieces["train"], splits["train"], windows, describe, fit, genres, settings)
        one: dict[str, Any] = {"train, left out": _measure(pieces["train"], shares, genres)}
        whole = fit(windows, torch.ones_like(windows.plain), genres, settings)
        for split, some in pieces.items():
            if split != "train" and some:
                one[split] = _measure(some, torch.stack([whole(describe(piece.features)) for piece in some]), genres)
        if others:
            one["others"] = _measure_others(others, [whole(describe(piece.features)) for piece in others], genres)
        report["ways"][name] = one
    return print_report(report) if arguments.json else _print_tables(report)


# --- pieces --------------------------------------------------------------------------------------------------------


def _pieces(clips: list[Clip], lengths: list[float]) -> Iterator[Piece]:
    """Pieces of each song, of its longest clip."""
    longest: dict[str, Clip] = {}
    for clip in clips:
        name = clip.song or clip.id
        longest[name] = max(longest.get(name, clip), clip, key=len)
    for name, clip in longest.items():
        assert clip.audio is not None
        sound, _ = load_audio(io.BytesIO(clip.audio), sampling_rate=SAMPLING_RATE)
        yield from _cut(np.asarray(sound, np.float32), name, clip.genre, lengths)


def _cut(sound: np.ndarray, name: str, genre: str | None, lengths: list[float]) -> Iterator[Piece]:
    yield Piece(name, genre, "whole", song_features(sound))
    for length in lengths:
        size = round(length * SAMPLING_RATE)
        count = min(6, (len(sound) - SAMPLING_RATE) // size)
        for start in np.linspace(0, len(sound) - size, max(count, 0)).astype(int):
            yield Piece(name, genre, f"{length:g}", song_features(sound[start : start + size]))


def _other_pieces(count: int, lengths: list[float], seconds: float = 40.0) -> Iterator[Piece]:
    """Rhythms that are none of the genres, noise, a metronome, and sounds like speech."""
    import soxr

    for name, (*drums, bass, tempo) in _RHYTHMS.items():
        style = dataclasses.replace(
            composer.STYLES["pop"],
            drums=tuple((instrument, 0.0, pattern) for instrument, pattern in drums),
            bass=bass,
        )
        composer.STYLES[name] = style
        try:
            for seed in range(count):
                pace = tempo * (1 + 0.03 * (seed - 1))
                sound = composer.compose(seconds, style=name, tempo=pace, seed=100 + seed).render().mean(1)
                resampled = soxr.resample(sound, composer.SAMPLING_RATE, SAMPLING_RATE).astype(np.float32)
                yield from _cut(resampled, f"{name} {seed}", None, lengths)
        finally:
            del composer.STYLES[name]
    for seed in range(count):
        yield from _cut(make_noise(seed, 1000, seconds), f"noise {seed}", None, lengths)
        yield from _cut(_speech(seed, seconds), f"speech {seed}", None, lengths)
    if count:
        yield from _cut(_metronome(seconds), "metronome 0", None, lengths)


def _speech(seed: int, seconds: float) -> np.ndarray:
    """Voiced syllables through three formants that change, hisses, and pauses."""
    generator = np.random.default_rng([seed, 99])
    sound, second = np.zeros(round(seconds * SAMPLING_RATE)), 0.0
    while second < seconds - 0.6:
        length = generator.uniform(0.08, 0.3)
        first, time = round(second * SAMPLING_RATE), np.arange(round(length * SAMPLING_RATE)) / SAMPLING_RATE
        pitch = generator.uniform(95, 220) * (1 + 0.1 * np.sin(2 * np.pi * generator.uniform(1, 4) * time))
        phase, formants = (
            2 * np.pi * np.cumsum(pitch) / SAMPLING_RATE,
            generator.uniform([300, 900, 2200], [800, 2000, 3000]),
        )
        voice = np.zeros(len(time))
        for harmonic in range(1, 30):
            near = np.exp(-0.5 * ((harmonic * pitch.mean() - formants) / 180) ** 2).sum()
            voice += np.sin(harmonic * phase) * near / np.sqrt(harmonic)
        sound[first : first + len(time)] += voice * np.hanning(len(time)) * generator.uniform(0.4, 1)
        if generator.random() < 0.5:
            hiss = np.diff(generator.standard_normal(801)) * np.hanning(800)
            sound[first : first + 800] += 0.5 * hiss
        second += length * generator.uniform(0.8, 1.1) + (generator.uniform(0.3, 1) if generator.random() < 0.12 else 0)
    return (0.6 * sound / np.abs(sound).max()).astype(np.float32)


def _metronome(seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * SAMPLING_RATE)) / SAMPLING_RATE
    return (0.5 * np.exp(-80 * (time % 0.5)) * np.sin(2 * np.pi * 1500 * time)).astype(np.float32)


_temperatures: dict[int, float] = {}


# --- ways to hear --------------------------------------------------------------------------------------------------


def _timbre(features: np.ndarray) -> Tensor:
    columns = torch.from_numpy(features[:, MFCC][:, 1:]).double()
    return torch.cat((columns.mean(0), columns.std(0)))


def _without_foreign(heard: Heard, genres: int) -> Heard:
    """Without the songs that are played much slower or faster, whose timbre is the same."""
    kept = (heard.labels < genres) | ~torch.isin(heard.songs, heard.songs[heard.labels < genres])
    return Heard(*(getattr(heard, item.name)[kept] for item in dataclasses.fields(Heard)))


def _softmax(heard: Heard, chosen: Tensor, genres: list[str], settings: HearingSettings) -> Callable[[Tensor], Tensor]:
    if id(heard) not in _temperatures:  # one number, by all songs: fitted anew without each it would take an hour
        _temperatures[id(heard)] = fit_hearing(heard, len(genres), settings)[2]["temperature"]
    some = Heard(*(getattr(heard, item.name)[chosen] for item in dataclasses.fields(Heard)))
    weight, bias, _ = fit_hearing(some, len(genres), settings, _temperatures[id(heard)])
    return lambda statistics: share_none((weight @ statistics + bias).softmax(-1))


def _nearest(heard: Heard, chosen: Tensor, genres: list[str], _: HearingSettings) -> Callable[[Tensor], Tensor]:
    """The rule: the genre whose songs are nearest in tempo and metre."""
    rule = torch.tensor(
        [
            number
            for number, name in enumerate(STATISTICS)
            if name.startswith("tempo near") or name.endswith("beats a bar")
        ]
    )
    some = chosen & heard.plain
    means = [heard.statistics[some & (heard.labels == genre)][:, rule].mean(0) for genre in range(len(genres))]
    centres = torch.stack(means).nan_to_num(1e3)

    def say(statistics: Tensor) -> Tensor:
        distances = (statistics[rule] - centres).square().sum(-1)
        return torch.nn.functional.one_hot(distances.argmin(), len(genres)).double().clamp(min=1e-3)

    return say


# --- measures ------------------------------------------------------------------------------------------------------


def _left_out(
    pieces: list[Piece],
    clips: list[Clip],
    heard: Heard,
    describe: Callable[[np.ndarray], Tensor],
    fit: Callable,
    genres: list[str],
    settings: HearingSettings,
) -> Tensor:
    """What is said of each piece by a classifier that was fitted without its song."""
    from megadance_hf.data.splits import songs_of

    numbers = {clip.song or clip.id: number for clip, number in zip(clips, songs_of(clips), strict=True)}
    shares: dict[int, Tensor] = {}
    for name in dict.fromkeys(piece.song for piece in pieces):
        say = fit(heard, heard.songs != numbers[name], genres, settings)
        for index, piece in enumerate(pieces):
            if piece.song == name:
                shares[index] = say(describe(piece.features))
    return torch.stack([shares[index] for index in range(len(pieces))])


def _measure(pieces: list[Piece], shares: Tensor, genres: list[str]) -> dict[str, Any]:
    labels = torch.tensor([genres.index(piece.genre) for piece in pieces if piece.genre])
    best, found = shares.max(-1)
    right = found == labels
    result: dict[str, Any] = {"cuts": {}}
    for cut in dict.fromkeys(piece.cut for piece in pieces):
        some = torch.tensor([piece.cut == cut for piece in pieces])
        sure = some & (best >= SURE)
        of_genres = [right[some & (labels == genre)].double().mean() for genre in labels[some].unique()]
        result["cuts"][cut] = {
            "pieces": int(some.sum()),
            "right": round(float(right[some].double().mean()), 3),
            "right, mean of genres": round(float(torch.stack(of_genres).mean()), 3),
            "surprise": round(float(-shares[some].gather(1, labels[some][:, None]).clamp(min=1e-4).log().mean()), 3),
            "ECE": round(_calibration(best[some], right[some]), 3),
            "sure": round(float(sure.sum() / some.sum()), 3),
            "right when sure": round(float(right[sure].double().mean()), 3) if sure.any() else None,
        }
    confusion = torch.zeros(len(genres), len(genres), dtype=torch.long)
    for label, one in zip(labels.tolist(), found.tolist(), strict=True):
        confusion[label, one] += 1
    return {**result, "confusion": confusion.tolist()}


def _calibration(best: Tensor, right: Tensor) -> float:
    total, tenth = 0.0, (best * 10).long().clamp(max=9)
    for one in range(10):
        some = tenth == one
        if some.any():
            total += float(some.double().mean() * (right[some].double().mean() - best[some].mean()).abs())
    return total


def _measure_others(pieces: list[Piece], shares: list[Tensor], genres: list[str]) -> dict[str, Any]:
    kinds = defaultdict(list)
    for piece, share in zip(pieces, shares, strict=True):
        kinds[piece.song.rpartition(" ")[0]].append(share)
    result = {}
    for kind, some in kinds.items():
        rows = torch.stack(some)
        best = rows.max(-1).values
        result[kind] = {
            "pieces": len(rows),
            "likeliest": round(float(best.mean()), 2),
            "sure": round(float((best >= SURE).double().mean()), 2),
            "genre": genres[int(rows.mean(0).argmax())],
        }
    return result


def _print_tables(report: dict[str, Any]) -> dict[str, Any]:
    print(f"songs: {', '.join(f'{split} {count}' for split, count in report['songs'].items())}\n")
    print("| way | songs | piece | right | mean of genres | surprise | ECE | sure | right when sure |\n|" + "---|" * 9)
    for name, one in report["ways"].items():
        for split, numbers in one.items():
            for cut, row in numbers.get("cuts", {}).items():
                print(f"| {name} | {split} | {cut} | {' | '.join(str(value) for value in list(row.values())[1:])} |")
    for name, one in report["ways"].items():
        for split, numbers in one.items():
            if "confusion" in numbers:
                print(f"\n{name}, {split}: rows are true {', '.join(report['genres'])}: {numbers['confusion']}")
    print("\n| none of the genres | " + " | ".join(report["ways"]) + " |\n|" + "---|" * (len(report["ways"]) + 1))
    for kind in next(iter(report["ways"].values())).get("others", {}):
        cells = [one["others"][kind] for one in report["ways"].values()]
        print(f"| {kind} | " + " | ".join(f"{c['likeliest']} ({c['genre']}), sure {c['sure']}" for c in cells) + " |")
    return report


if __name__ == "__main__":
    main()
