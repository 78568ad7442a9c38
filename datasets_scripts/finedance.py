"""FineDance (Li et al., ICCV 2023): sixteen genres of dance with their songs, optical motion capture, 30 fps.

The raw folder is as downloaded: `motion/NNN.npy`, `music_wav/NNN.wav` (or where it is missing `music_npy/NNN.npy`, 35 columns, without
sound), `label_json/NNN.json` with the genre in `style2`. Or it is as the authors of MEGADance preprocess it: `motion/NAME.pkl`
(`smpl_poses` (T, 72), `smpl_trans` (T, 3)), `librosa/NAME.pkl` (`music` (T, 35)), `label/NAME.json`, `train.txt`, `test.txt`, and in
their download of 2026 also `muq/NAME.pkl` (`music` (T, columns), of which only the length matters), `anomaly/NAME.txt` (a bad frame per
line; no file where there is none) and `music/NAME.wav` (may be missing; the columns are librosa/'s all the same). The files tell which.

    megadance prepare finedance RAW OUT [--layout auto|downloaded|authors] [--split genre|dancer] [--validation N]
        [--hands middle|index|none]

With `--layout authors` a clip ends where their loaders end it: with the motion, or at the last whole code of the music. They keep clips
that jump, as `--keep-jumps` does.

`megadance_hf/motion/finedance.py` has the columns and the choice of SMPL's hands. Paths are those of the body *model* (SMPL-X) and are
moved to its pelvis; each dance is put on y = 0. Number 120 is both on the published test list and on the list of ignored numbers; it is
a test song here, since the paper tests on 20 songs.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from megadance_hf.data.card import Card
from megadance_hf.data.clip import FPS, MOST_FRAMES, Clip, ClipError, put_on_the_floor
from megadance_hf.data.preparation import RawClip, Report, prepare_clips
from megadance_hf.data.prepared import DataError, MissingDataError
from megadance_hf.data.raw_files import check_exists, read_array, read_arrays, read_names
from megadance_hf.data.songs import add_song, cut_to_music, excerpt, find_song
from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE, MUSIC_FEATURE_SIZE
from megadance_hf.modeling.errors_megadance import reading, reason_of
from megadance_hf.modeling.genres_megadance import FINEDANCE_GENRES as GENRES
from megadance_hf.modeling.genres_megadance import GenreError, match_genre
from megadance_hf.motion.finedance import HANDS, Hands, to_smpl
from megadance_hf.motion.layouts import SMPLX_PELVIS

Layout = Literal["auto", "downloaded", "authors"]
LAYOUTS = ("auto", "downloaded", "authors")
Split = Literal["genre", "dancer"]
# The folder in the authors' download that holds the clips, beside the lists.
INNER = "FineDance"
# Published lists; every other number is for training.
SPLITS: dict[str, dict[str, tuple[int, ...]]] = {
    "genre": {
        "test": (63, 132, 143, 36, 98, 198, 130, 12, 211, 193, 179, 65, 137, 161, 92, 120, 37, 109, 204, 144),
        "validation": (),
        "ignored": (*range(116, 124), 202),
    },
    "dancer": {
        "test": (*range(1, 14), 124, 126, 128, 130, 132),
        "validation": (115, 117, 119, 121, 122, 135, 137, 139, 141, 143, 145, 147),
        "ignored": (116, 118, 120, 123, 159, 202),
    },
}
# Spellings in the label files; capitals, spaces and hyphens never matter.
ALIASES = {"tai": "Dai", "uighur": "Wei", "uyghur": "Wei", "hmong": "Miao"}
MAX_MARK_BYTES = 1 << 24
LICENCE = "FineDance: research only, see the terms of the data set; the music is not to be redistributed"
CARD = Card(
    title="FineDance (SMPL, 30 fps)",
    description="The public part of FineDance (R. Li et al., *FineDance: A Fine-grained Choreography Dataset for 3D Full Body Dance "
    "Generation*, ICCV 2023), without fingers: the 22 body joints of SMPL-H, and hands as noted in `source`. The path is that of "
    "the pelvis, the floor at y = 0.",
    licence="Research only, under the terms of FineDance; do not redistribute the music.",
    licence_name="research-only",
)


# --- the raw folder ------------------------------------------------------------------------------------------------


def list_raw(
    raw: str | Path,
    split: Split = "genre",
    validation: int = 0,
    hands: Hands = "middle",
    layout: Layout = "auto",
) -> tuple[list[RawClip], dict[str, str]]:
    """Every clip of a raw folder of either layout, in the order of their names, and the ids ignored by the split."""
    if layout not in LAYOUTS:
        raise DataError(f"layout={layout!r} is not known: give auto, downloaded or authors")
    if split not in SPLITS:
        raise DataError(f"split={split!r} is not known: give {' or '.join(SPLITS)}")
    if hands not in HANDS:
        raise DataError(f"hands={hands!r} is not known: give {', '.join(HANDS[:-1])} or {HANDS[-1]}")
    raw = Path(raw)
    inside = raw / INNER if (raw / INNER / "motion").is_dir() else raw
    if not (inside / "motion").is_dir():
        raise MissingDataError(f"raw folder {str(raw)!r} has no folder motion/; give the folder of FineDance")
    if layout == "authors":
        _check_authors_folder(inside)
    elif layout == "downloaded" and not any((inside / "motion").glob("*.npy")):
        raise MissingDataError(
            f"layout='downloaded': {str(inside)!r} has no motion/*.npy; leave the layout out, or give auto"
        )
    authors = layout == "authors" or (layout == "auto" and any((inside / "motion").glob("*.pkl")))
    clips, ignored = _list_processed(inside, layout == "authors") if authors else _list_numbers(inside, split, hands)
    return _hold_back(clips, validation), ignored


def _check_authors_folder(raw: Path) -> None:
    """Raises `MissingDataError` that names what the authors' download of 2026 has and this folder lacks."""
    missing = [f"{name}/" for name in ("motion", "librosa", "muq", "label", "anomaly") if not (raw / name).is_dir()]
    missing += ["motion/*.pkl"] if not missing and not any((raw / "motion").glob("*.pkl")) else []
    missing += [f"{name}.txt" for name in ("train", "test") if not (_list_folder(raw, name) / f"{name}.txt").is_file()]
    if missing:
        raise MissingDataError(
            f"layout='authors': {str(raw)!r} has no {', '.join(missing)}; give the folder of the authors' download, or layout auto"
        )


def _list_folder(raw: Path, split: str) -> Path:
    """Where the list of a split lies: in the folder of the clips, or in the one that holds it."""
    inner = INNER in (raw.name, raw.resolve().name)
    outside = inner and not (raw / f"{split}.txt").is_file() and (raw.parent / f"{split}.txt").is_file()
    return raw.parent if outside else raw


def _list_numbers(raw: Path, split: Split, hands: Hands) -> tuple[list[RawClip], dict[str, str]]:
    lists, clips, ignored = SPLITS[split], [], {}
    for motion in sorted((raw / "motion").glob("*.npy")):
        name = motion.stem
        number = int(name) if name.isascii() and name.isdigit() else None
        target = next((part for part in ("test", "validation", "ignored") if number in lists[part]), "train")
        if target == "ignored":
            ignored[name] = f"by the {split} split"
            continue
        song = find_song([raw / "music_wav"], name)
        if not song.is_file() and (raw / "music_npy" / f"{name}.npy").is_file():
            song = raw / "music_npy" / f"{name}.npy"
        files = (motion, raw / "label_json" / f"{name}.json", song)
        clips.append(RawClip(name, target, files, {"layout": "raw", "hands": hands, "numbered": number is not None}))
    present = {clip.id for clip in clips}
    missing = [name for number in sorted(lists["test"]) if (name := f"{number:03d}") not in present]
    # named, since scores on fewer songs are not comparable with the paper's
    return clips, ignored | dict.fromkeys(missing, "on the published test list, but not in motion/")


def _list_processed(raw: Path, whole_codes: bool) -> tuple[list[RawClip], dict[str, str]]:
    split_of: dict[str, str] = {}
    for split in ("test", "train"):  # test songs are never trained on
        for line in read_names(_list_folder(raw, split), f"{split}.txt", "it names the clips of motion/*.pkl"):
            split_of.setdefault(line.removesuffix(".pkl").removesuffix(".npy"), split)
    clips = []
    for name in sorted(split_of):
        files = [raw / "motion" / f"{name}.pkl", raw / "label" / f"{name}.json", raw / "librosa" / f"{name}.pkl"]
        if (raw / "muq").is_dir():
            files.append(raw / "muq" / f"{name}.pkl")
        files += [
            file for file in (raw / "anomaly" / f"{name}.txt", find_song([raw / "music"], name)) if file.is_file()
        ]
        clips.append(RawClip(name, split_of[name], tuple(files), {"layout": "authors", "whole_codes": whole_codes}))
    present = sorted(file.stem for file in (raw / "motion").glob("*.pkl"))
    return clips, {name: "in neither train.txt nor test.txt" for name in present if name not in split_of}


def _hold_back(clips: list[RawClip], count: int) -> list[RawClip]:
    """Makes `count` train clips, evenly spread over the list, the validation split; the test split never changes."""
    if count == 0:
        return clips
    train = [clip.id for clip in clips if clip.split == "train"]
    if any(clip.split == "validation" for clip in clips):
        raise DataError(f"validation={count}: this split has a validation list of its own; leave it out")
    if not 0 < count < len(train):
        raise DataError(f"validation={count} of {len(train)} train clips cannot be held back: give a smaller number")
    chosen = {train[int((index + 0.5) * len(train) / count)] for index in range(count)}
    return [replace(clip, split="validation") if clip.id in chosen else clip for clip in clips]


# --- one clip ------------------------------------------------------------------------------------------------------


def make(raw: RawClip) -> Clip:
    """Reads one raw clip of either layout."""
    motion, label, music, *others = raw.files
    if raw.record["layout"] == "raw" and not raw.record["numbered"]:
        raise ClipError("its name is no number of FineDance")
    genre, source = read_genre(label), f"FineDance {raw.id}"
    if raw.record["layout"] == "authors":
        poses, translation = read_arrays(motion, "smpl_poses", "smpl_trans").values()
    else:
        hands = raw.record["hands"]
        poses, translation = to_smpl(read_array(motion), motion.name, hands)
        translation = translation + np.asarray(SMPLX_PELVIS, np.float32)
        source += f" (hands: {hands})"
    clip = Clip(raw.id, poses, translation, genre=genre, split=raw.split, source=source, licence=LICENCE, song=raw.id)
    clip.check(GENRES, jumps="keep")  # a bad motion is found before its song is analysed, which takes seconds
    put_on_the_floor(clip)
    if raw.record["layout"] == "authors":
        return _with_authors_music(clip, raw.record["whole_codes"], music, *others)
    if music.suffix == ".npy":
        clip.source += "; music features as downloaded (music_npy), no sound"
        return cut_to_music(clip, released_order(_features(read_array(music), music.name), music.name))
    return add_song(clip, music)


def _with_authors_music(clip: Clip, whole_codes: bool, music: Path, *others: Path) -> Clip:
    """Adds music features, and of the files that the download may have as well the length of muq/, the marked frames and the sound."""
    features = _features(read_arrays(music, "music")["music"], music.name)
    cut_to_music(clip, features[: len(features) // FRAMES_PER_CODE * FRAMES_PER_CODE] if whole_codes else features)
    for file in others:
        if file.parent.name == "muq":
            rows = read_arrays(file, "music")["music"]
            if rows.ndim == 0:
                raise ClipError(f"muq/{file.name} has a single number, expected (rows, columns)")
            clip.muq_frames = len(rows)
        elif file.parent.name == "anomaly":
            clip.marked_frames = read_marked_frames(file)
        else:
            clip.audio = excerpt(file, len(clip) / FPS)
            clip.source += "; music features as the authors computed them, sound from music/"
    return clip


def read_marked_frames(file: Path) -> list[int]:
    """The frame numbers in a text file, one per line, ascending and each once. Raises `ClipError`."""
    with reading(file, error=ClipError):
        if file.stat().st_size > MAX_MARK_BYTES:
            raise ValueError(f"it is longer than {MAX_MARK_BYTES >> 20} MB")
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").split("\n")]
    for number, line in enumerate(lines, 1):
        if line and not (line.isascii() and line.isdigit() and len(line) < 9 and int(line) < MOST_FRAMES):
            raise ClipError(
                f"anomaly/{file.name}: line {number} is {line[:40]!r}, not the number of a frame (0, 1, ...)"
            )
    return sorted({int(line) for line in lines if line})


def read_genre(file: Path) -> str:
    """`style2` of a label file as one of `GENRES`."""
    check_exists(file)
    try:
        style = json.loads(file.read_text(encoding="utf-8-sig"))["style2"]
        if not isinstance(style, str) or len(style) > 100:
            raise ValueError("it is no short text")
    except Exception as error:
        raise ClipError(f"{file.name} is no label with style2 ({reason_of(error)})") from error
    try:
        return match_genre(ALIASES.get(str(style).strip().casefold(), str(style)), GENRES)
    except GenreError as error:
        raise ClipError(f"{file.name}: style2 is no genre of FineDance: {error}") from None


def _features(array: Any, name: str) -> np.ndarray:
    if array.ndim != 2 or array.shape[1] != MUSIC_FEATURE_SIZE:
        raise ClipError(f"{name} has shape {array.shape}, expected (rows, {MUSIC_FEATURE_SIZE})")
    return array.astype(np.float32)


def released_order(features: np.ndarray, name: str) -> np.ndarray:
    """Downloaded music features (rows, 35) with their columns in the order of the models: 20 MFCC, 12 chroma, envelope, beat, peak.

    FineDance's own order, like that of AIST++, is envelope, 20 MFCC, 12 chroma, peak, beat. The chroma, which lies in [0, 1], tells the
    two apart.
    """

    def has_chroma(first: int) -> bool:
        chroma = features[:, first : first + 12]
        flags = np.isin(features[:, 33:], (0, 1)).all()
        return bool(flags and (chroma >= 0).all() and (chroma <= 1 + 1e-4).all())

    if has_chroma(21):
        return features[:, [*range(1, 33), 0, 34, 33]]
    if has_chroma(20):
        return features
    raise ClipError(f"{name}: its columns are in no known order (12 chroma from 0 to 1, two flags at the end)")


def prepare(
    raw: str | Path,
    out: str | Path,
    split: Split = "genre",
    validation: int = 0,
    hands: Hands = "middle",
    layout: Layout = "auto",
    **options: Any,
) -> Report:
    """Raw folder of either layout -> prepared data set; see `prepare_clips`.

    Args:
        raw, out: folders.
        split: "genre" (the paper's: 20 test songs, no validation) or "dancer" (no dancer is in two splits; with validation). The
            preprocessed layout has its own splits.
        validation: train clips to hold out for early stopping where the split has no validation list; 0 trains on all, as the paper
            does. The test split is the same either way.
        hands: the finger whose first joint gives SMPL's hands their rotation, "middle" or "index", or "none".
        layout: "downloaded", "authors" (their download of 2026, with clips that end as in their loaders; an error names what it
            lacks), or "auto", by the files.
        options: `jumps`, `num_proc`, `progress` of `prepare_clips`.

    Raises:
        DataError: an option does not fit, or the raw folder is not FineDance.
    """
    clips, ignored = list_raw(raw, split, validation, hands, layout)
    return prepare_clips(clips, make, out, card=CARD, genres=GENRES, ignored=ignored, **options)
