"""Clips of a prepared data set to train on and to evaluate on, and settings that fit them: segment length, batch size."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from megadance_hf.data.clip import Clip
from megadance_hf.data.codes import encode_clips
from megadance_hf.data.prepared import DataError, read_info, read_prepared
from megadance_hf.data.segments import SEGMENT_STRIDE, CodeSegments, fitting_length
from megadance_hf.data.sources import find_sources
from megadance_hf.data.splits import hold_back, songs_of
from megadance_hf.data.statistics import Statistics
from megadance_hf.data.windows import cut_clip, noise_of, window_starts
from megadance_hf.modeling.genres_megadance import GenreError, match_genre

from .config import TrainingConfig, TrainingError
from .processes import print_once, processes
from .recipes import DataSettings, ValidationSettings

# Clips with dropped windows beyond this number are only counted.
NAMED_CLIPS = 10


@dataclass
class TrainingData:
    """Clips to train on and to evaluate on, and the genres of the data set in the order of their ids."""

    train: list[Clip]
    held_out: list[Clip]
    genres: list[str]


def read_data(
    folder: str,
    settings: DataSettings | None = None,
    *,
    needs_genre: bool = False,
    needs_music: bool = False,
    validation: bool = True,
) -> TrainingData:
    """Read a prepared data set for training, and print what is held out. Without a validation split, whole songs are held back.

    Args:
        folder: the data set.
        settings: how much is held back.
        needs_genre: leave out clips without a genre.
        needs_music: some training clip must have music, and held-out clips without music are left out.
        validation: False reads the training clips only.

    Raises:
        DataError: it cannot be read or used.
    """
    settings = settings or DataSettings()
    info = read_info(folder)
    genres, splits = list(info["genres"]), list(info["splits"])
    if needs_genre and not genres:
        raise DataError(f"{folder}: it names no genres, which a generator and a classifier are trained with")
    chosen = _chosen(folder, genres, settings.genres)
    genres = chosen or genres
    train = _usable(folder, read_prepared(folder, "train"), needs_genre, chosen)
    if not train:
        raise DataError(
            f"{folder}: its split train has no clip{' with a genre' if needs_genre else ''}: prepare it with some"
        )
    if needs_music and not any(clip.paired for clip in train):
        raise DataError(f"{folder}: none of {len(train)} clips in train has music, and a generator dances to music")
    held_out: list[Clip] = []
    if validation:
        if "validation" in splits:
            held_out = _usable(folder, read_prepared(folder, "validation"), needs_genre, chosen)
            held_out = [clip for clip in held_out if clip.paired or not needs_music]
        if not held_out:
            missing = (
                "nothing to measure by in its validation split" if "validation" in splits else "no validation split"
            )
            train, held_out = _held_back(folder, missing, train, settings.hold_back, needs_music)
    missing_genres = [name for name in genres if all(clip.genre != name for clip in train)]
    if needs_genre and missing_genres:
        print_once(f"no training clip is of {', '.join(missing_genres)}: what the model has for these stays untrained")
    return TrainingData(train, held_out, genres)


def _chosen(folder: str, genres: list[str], names: Sequence[str] | None) -> list[str] | None:
    """Those of `names` that the data have, so that a recipe's `data.genres` fits other data too; None for all genres of the data.

    Raises:
        DataError: neither the data nor any registered source has such a genre.
    """
    if not names:
        return None
    others = [name for one in find_sources() if one.source for name in one.source.genres]
    try:
        meant = list(dict.fromkeys(match_genre(name, [*others, *genres]) for name in names))
    except GenreError as error:
        raise DataError(f"data.genres: neither {folder} nor a known source has it: {error}") from error
    found = [name for name in meant if name in genres]
    if missing := ", ".join(name for name in meant if name not in genres):
        print_once(f"data.genres: {folder} has no {missing}" + ("" if found else "; all of its genres are trained on"))
    return found or None


def _held_back(
    folder: str, missing: str, clips: list[Clip], share: float, needs_music: bool
) -> tuple[list[Clip], list[Clip]]:
    """Clips to train on and to evaluate on, where the data do not say; `missing` is why, for the message."""
    if not share:
        print_once(f"data.hold_back=0: all {len(clips)} clips are trained on, and nothing is measured meanwhile")
        return clips, []
    train, held_out = hold_back(clips, share)
    if held_out:
        names = ", ".join(dict.fromkeys(clip.song or clip.id for clip in held_out))
        held, total = (len(set(songs_of(part))) for part in (held_out, [*train, *held_out]))
        print_once(
            f"{folder} has {missing}: held back to measure by are {held} of {total} songs ({names}). "
            "data.hold_back=0 trains on all, as the paper does"
        )
    else:
        held_out = [clip for clip in train if clip.paired or not needs_music]
        print_once(
            f"{folder} has {missing}, and a single song, which is trained on: what is measured tells only how well it is known "
            "by heart"
        )
    return train, held_out


def _usable(folder: str, clips: list[Clip], needs_genre: bool, genres: Sequence[str] | None) -> list[Clip]:
    if genres is not None:
        wanted = [clip for clip in clips if clip.genre is None or clip.genre in genres]
        if len(wanted) < len(clips):
            left = len(clips) - len(wanted)
            print_once(
                f"data.genres: {left} of {len(clips)} clips in {clips[0].split} are of other genres and are left out"
            )
        clips = wanted
    usable = [clip for clip in clips if clip.genre is not None or not needs_genre]
    if len(usable) < len(clips):
        print_once(
            f"{folder}: {len(clips) - len(usable)} of {len(clips)} clips in {clips[0].split} have no genre and are left out"
        )
    return usable


def clips_of_genre(folder: str, split: str, genre: str) -> list[Clip]:
    """Clips of a genre, whichever way the data spell it; none where the data have no such split."""
    if split not in read_info(folder)["splits"]:
        return []
    clips = []
    for clip in read_prepared(folder, split):
        if clip.genre is None:
            continue
        try:
            match_genre(genre, [clip.genre])
        except GenreError:
            continue
        clips.append(replace(clip, genre=genre))
    return clips


# --- settings that fit the clips -----------------------------------------------------------------------------------


def fit_length(options: dict[str, Any], default: int, clips: Sequence[Clip]) -> dict[str, Any]:
    """Options of segments with a length that half of the clips have; a shorter length and clips left out are printed.

    Raises:
        DataError: the clips are too short for any segment.
    """
    wanted = options.get("length", default)
    if options.get("short") == "reflect":
        return options
    length = fitting_length([len(clip) for clip in clips], wanted)
    if length is None:
        longest = max(map(len, clips))
        raise DataError(f"most of {len(clips)} clips are too short to train on: the longest has {longest} frames")
    if length < wanted:
        print_once(f"windows.length={length} instead of {wanted}: most clips are shorter")
    short = sum(len(clip) < length for clip in clips)
    if short:
        print_once(f"{short} of {len(clips)} clips have less than {length} frames and are left out")
    return options | {"length": length}


def report_dropped(clips: Sequence[Clip], options: dict[str, Any]) -> None:
    """Print how many windows are left out for a marked frame, by clip; `options` are those of segments."""
    if not options.get("drop_marked"):
        return
    cut = (options["length"], options.get("stride", SEGMENT_STRIDE))
    until_muq = options.get("until_muq", False)
    counts = {clip.id: [len(window_starts(clip, *cut, drop, until_muq)) for drop in (False, True)] for clip in clips}
    dropped = {name: total - free for name, (total, free) in counts.items() if total > free}
    shown = ", ".join(f"{name} {count}" for name, count in list(dropped.items())[:NAMED_CLIPS])
    more = f" and {len(dropped) - NAMED_CLIPS} more clips" if len(dropped) > NAMED_CLIPS else ""
    total = sum(total for total, _ in counts.values())
    clip_by_clip = f" ({shown}{more})" if dropped else ""
    print_once(
        f"windows.drop_marked: {sum(dropped.values())} of {total} windows have a marked frame and are left out{clip_by_clip}"
    )


def report_masked(clips: Sequence[Clip], mask_noise: bool) -> None:
    """Print how many frames `windows.mask_noise` keeps out of the losses."""
    if mask_noise:
        counts = [int(noise_of(clip).sum()) for clip in clips]
        print_once(
            f"windows.mask_noise: {sum(counts)} of {sum(map(len, clips))} frames are noise and no targets, in "
            f"{sum(map(bool, counts))} of {len(clips)} clips"
        )


def cut_held_out(clips: Sequence[Clip], settings: ValidationSettings) -> tuple[list[Clip], dict[str, Any] | None]:
    """Held-out clips that have a window of section `validation`, and how these are cut; all clips and None without such a section."""
    if not settings.length:
        return list(clips), None
    windows = asdict(settings) | {"stride": settings.stride or settings.length}
    long_enough = [clip for clip in clips if window_starts(clip, **windows)]
    if clips and not long_enough:
        print_once(
            f"validation.length={settings.length}: no held-out clip has such a window; they are measured as they are"
        )
        return list(clips), None
    return long_enough, windows


def held_out_windows(clips: Sequence[Clip], settings: ValidationSettings) -> list[Clip]:
    """The windows of held-out clips that section `validation` asks for, or the clips."""
    clips, windows = cut_held_out(clips, settings)
    return clips if windows is None else [piece for clip in clips for _, piece in cut_clip(clip, **windows)]


def fit_batch(training: TrainingConfig, segments: Any, section: str = "training") -> TrainingConfig:
    """The settings with a batch size that the segments can fill.

    Raises:
        TrainingError: there are fewer segments than processes.
    """
    number = processes().num_processes
    if len(segments) >= training.batch_size * number:
        return training
    if len(segments) < number:
        raise TrainingError(f"{len(segments)} segments are too few for {number} processes: use fewer, or more data")
    size = len(segments) // number
    print_once(
        f"{section}.batch_size={size} instead of {training.batch_size}: there are {len(segments)} segments in all"
    )
    return replace(training, batch_size=size)


def validation_segments(
    tokenizer: nn.Module,
    clips: Sequence[Clip],
    genres: Sequence[str],
    statistics: Statistics,
    length: int,
    settings: ValidationSettings | None = None,
    *,
    encode_rhythm: Callable[[Tensor], Tensor | None] | None = None,
    attributes: bool = False,
    device: str | torch.device = "cpu",
) -> CodeSegments | None:
    """Segments of held-out clips for a generator, shorter than `length` where most clips are; None where no segment fits.

    Where `settings` have a length, they are its windows instead.
    """
    clips, windows = cut_held_out(clips, settings or ValidationSettings())
    shorter = fitting_length([len(clip) for clip in clips], length) if windows is None else windows["length"]
    if shorter is None or not clips:
        return None
    options = {"encode_rhythm": encode_rhythm, "attributes": attributes, "device": device}
    encoded = encode_clips(tokenizer, clips, mirror=False, windows=windows, **options)
    return CodeSegments(encoded, genres, statistics, shorter, stride=max(8, shorter // 2), random=False)
