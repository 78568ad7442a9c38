"""The one schema of a prepared data set: a folder with a Parquet file for each split, `README.md` and `info.json`.

One row is one clip: its motion, its music as the encoded file, and the 35 music features a model reads, frame by frame at
30 fps. `datasets.load_dataset(folder)` reads it as any other data set; `read_prepared` gives the same as numpy arrays.

Each data set's script lists its raw clips (`RawClip`), says how one is read (`make`), and leaves the rest to `prepare_clips`:
checking, skipping what an earlier run has done, several processes, the files, the card.
"""

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import Any, Literal

import numpy as np

from megadance_hf.modeling.audio_megadance import load_audio
from megadance_hf.modeling.configuration_megadance import MOTION_FPS as FPS
from megadance_hf.modeling.configuration_megadance import MUSIC_FEATURE_SIZE as FEATURE_SIZE
from megadance_hf.modeling.errors_megadance import reading, reason_of, short
from megadance_hf.modeling.feature_extraction_megadance import MegaDanceFeatureExtractor
from megadance_hf.modeling.files_megadance import all_or_none, sweep, whole
from megadance_hf.modeling.kinematics_megadance import NUM_JOINTS
from megadance_hf.modeling.music_features_megadance import BEAT, PEAK
from megadance_hf.modeling.progress_megadance import progress_bar
from megadance_hf.motion.layouts import on_the_floor

from .beats import ESTIMATED, KNOWN, hear_beats
from .card import NAMED_CLIPS, Card, beats_line, card_text, genre_table, noisy_clips
from .noise import Noise, find_jumps, measure_noise

POSE_SIZE = NUM_JOINTS * 3
SPLITS = ("train", "validation", "test")
INFO_FILE = "info.json"
# Part of every clip's fingerprint: raise it when the same raw files give other rows.
SCHEMA_VERSION = 2
# Two codes: a shorter clip has not even one transition to learn from.
MIN_FRAMES = 16
# Music may end this many frames before the motion (rounding of encoders); the last row is then repeated.
MAX_MISSING_ROWS = 3
# Rows are flushed to a Parquet row group when they hold this much, so that a reader never needs more than that at once.
ROW_GROUP_BYTES = 32 << 20
# Names and licences are shorter; what is longer would be repeated in every message.
MOST_LETTERS = 2000
MOST_LIST = 1 << 26
# A row group is read as one piece.
MOST_BYTES = 1 << 30
_REMEDY = "prepare or fetch the data set again"
# What happens to a clip that jumps: it is left out, or kept and told of all the same.
Jumps = Literal["leave_out", "keep"]


class DataError(ValueError):
    """A raw folder or a prepared set cannot be used; the message says why, and what helps, in one line."""


def is_clip_name(name: Any) -> bool:
    """Whether it can be a clip's. Files are named after it, so it has no slash: nothing outside the folder is opened."""
    plain = isinstance(name, str) and 0 < len(name) <= 200 and name.isprintable()
    return plain and name not in (".", "..") and "/" not in name and "\\" not in name


def read_names(path: Path, what: str) -> list[str]:
    """The names in a text file of a raw folder, as clips are listed for splits; DataError names the file."""
    with reading(path, f"give {what}", DataError):
        if path.stat().st_size > MOST_LIST:
            raise ValueError(f"it is longer than {MOST_LIST >> 20} MB")
        names = path.read_text(encoding="utf-8").split()
        for name in names:
            if not is_clip_name(name):
                raise ValueError(f"{name[:80]!r} is no name of a clip")
        return names


class MissingDataError(DataError, FileNotFoundError):
    """Something that every such folder has is not there."""


class ClipError(ValueError):
    """One clip cannot be used; the message says why in one line."""


@dataclass
class Clip:
    """One dance clip.

    Attributes:
        id: unique in its data set.
        poses: (T, 72) float32, axis-angle of the 24 SMPL joints, radians.
        translation: (T, 3) float32, position of the pelvis joint, metres, Y up.
        input_features: (T, 35) float32 music features, None without music.
        audio: the encoded music file; None without music, or when it was not read.
        genre: None when the source names none.
        split: one of `SPLITS`.
        source, licence: where the clip comes from, and on which terms.
        beat_period_s, first_beat_s, beats_per_bar: the known beat grid, beat k at `first_beat_s + k * beat_period_s`; of estimated
            beats the mean period and the first one.
        first_beat_is_downbeat: True when k = 0 begins a bar, False when the place in the bar is not known.
        phase_confidence: the source's own word on how well motion and music are aligned.
        song: name of what is danced to; clips with the same name are never divided between training and validation. None where it
            is not told: clips whose music begins alike are then taken to have one song.
        beat_source: "known" or "estimated" (from the features, see `beats.py`); None where no beat is known or heard.
        beat_confidence: of estimated beats, 0 to 1.
    """

    id: str
    poses: np.ndarray
    translation: np.ndarray
    input_features: np.ndarray | None = None
    audio: bytes | None = None
    genre: str | None = None
    split: str = "train"
    source: str = ""
    licence: str = ""
    fps: float = FPS
    beat_period_s: float | None = None
    first_beat_s: float | None = None
    beats_per_bar: int | None = None
    first_beat_is_downbeat: bool | None = None
    phase_confidence: str | None = None
    song: str | None = None
    beat_source: str | None = None
    beat_confidence: float | None = None

    def __len__(self) -> int:
        return len(self.poses)

    @property
    def paired(self) -> bool:
        """Whether the clip has music."""
        return self.input_features is not None

    def check(self, genres: Sequence[str] | None = None, jumps: Jumps = "leave_out") -> "Clip":
        """The clip itself with float32 arrays; raises `ClipError` on wrong shapes, NaN, jumps unless they are to be kept, an
        unknown split, a genre that is not in `genres`, or beats that cannot be."""
        self.poses, self.translation = check_motion(self.poses, self.translation, jumps)
        if self.input_features is not None:
            self.input_features = np.ascontiguousarray(self.input_features, dtype=np.float32)
            if self.input_features.shape != (len(self), FEATURE_SIZE):
                raise ClipError(
                    f"music features have shape {self.input_features.shape}, expected {(len(self), FEATURE_SIZE)}"
                )
            if not np.isfinite(self.input_features).all():
                raise ClipError("music features hold NaN or infinite numbers")
        self._check_words()
        if self.split not in SPLITS:
            raise ClipError(f"split {self.split!r} is none of {', '.join(SPLITS)}")
        if genres is not None and self.genre is not None and self.genre not in genres:
            raise ClipError(f"genre {self.genre!r} is none of {', '.join(genres)}")
        if self.beat_period_s is not None and not 0 < self.beat_period_s < np.inf:
            raise ClipError(f"beat_period_s={self.beat_period_s!r} must be seconds above 0, or None")
        if self.first_beat_s is not None and not np.isfinite(self.first_beat_s):
            raise ClipError(f"first_beat_s={self.first_beat_s!r} must be a number of seconds, or None")
        if self.beat_source not in (None, KNOWN, ESTIMATED):
            raise ClipError(f"beat_source={self.beat_source!r} must be {KNOWN!r}, {ESTIMATED!r} or None")
        return self

    def _check_words(self) -> None:
        """Raises `ClipError` for what is no text or number where one belongs, or is longer than any name."""
        for name in _TEXT:
            value = getattr(self, name)
            if value is None and name not in ("id", "split", "source", "licence"):
                continue
            if not isinstance(value, str) or len(value) > MOST_LETTERS or "\0" in value or not _can_be_written(value):
                raise ClipError(f"{name}={str(value)[:80]!r} must be text of {MOST_LETTERS} letters at most")
        if not self.id or not self.id.isprintable():
            raise ClipError(f"id={self.id[:80]!r} must be a name of printable letters")
        for name in _NUMBERS:
            value = getattr(self, name)
            kinds = {"bool": bool, "int32": int}.get(_NUMBERS[name], (int, float))
            if value is not None and (not isinstance(value, kinds) or isinstance(value, bool) is not (kinds is bool)):
                raise ClipError(
                    f"{name}={str(value)[:80]!r} must be a {'truth' if kinds is bool else 'number'}, or None"
                )
        if self.fps != FPS:
            raise ClipError(f"fps={self.fps!r} must be {FPS}, the rate of every prepared clip")
        if self.beats_per_bar is not None and not 1 <= self.beats_per_bar <= 64:
            raise ClipError(f"beats_per_bar={self.beats_per_bar!r} must be 1 to 64, or None")

    def with_beats(self) -> "Clip":
        """The clip itself; where nothing is told of its beats, they are estimated from its features."""
        if self.beat_source is None and self.beat_period_s is not None:
            self.beat_source = KNOWN
        elif self.beat_source is None and self.paired and (heard := hear_beats(self.input_features)) is not None:
            self.beat_period_s, self.first_beat_s = heard.period_s, heard.first_s
            self.beat_source, self.beat_confidence = ESTIMATED, heard.confidence
        return self


def _can_be_written(text: str) -> bool:
    try:
        return bool(text.encode("utf-8")) or not text
    except UnicodeEncodeError:  # half of a pair of surrogates
        return False


# --- checking ------------------------------------------------------------------------------------------------------


def numbers(name: str, values: Any) -> np.ndarray:
    """An array of real numbers as float32; numpy would also read them out of text, and leave out what is imaginary."""
    try:
        array = np.asarray(values)
        if array.dtype.kind in "cSUMmb":
            raise TypeError(f"it is one of {array.dtype}")
        with np.errstate(over="ignore"):  # infinite, and said to be so
            return np.asarray(array, dtype=np.float32, order="C")
    except (TypeError, ValueError, MemoryError) as error:
        raise ClipError(f"{name} is not an array of numbers ({error})") from error


def check_motion(poses: Any, translation: Any, jumps: Jumps = "leave_out") -> tuple[np.ndarray, np.ndarray]:
    """Motion as (T, 72) and (T, 3) float32; raises `ClipError` naming the first thing wrong with it."""
    poses, translation = numbers("poses", poses), numbers("translation", translation)
    if poses.ndim != 2 or poses.shape[1] != POSE_SIZE:
        raise ClipError(f"poses have shape {poses.shape}, expected (frames, {POSE_SIZE})")
    if translation.shape != (len(poses), 3):
        raise ClipError(f"translation has shape {translation.shape}, expected {(len(poses), 3)}")
    if len(poses) < MIN_FRAMES:
        raise ClipError(f"only {len(poses)} frames, at least {MIN_FRAMES} are needed")
    for name, array in (("poses", poses), ("translation", translation)):
        bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
        if bad.size:
            raise ClipError(f"{name} hold NaN or infinite numbers, first in frame {bad[0]}")
    if jumps == "leave_out":
        for jump in find_jumps(poses, translation):
            raise ClipError(jump)
    return poses, translation


def put_on_the_floor(clip: Clip) -> None:
    """Lowers or raises a clip whose floor is unknown so that it stands on y = 0; `source` says how far."""
    poses = clip.poses.reshape(len(clip), NUM_JOINTS, 3)
    translation, notes = on_the_floor(poses, clip.translation)
    clip.translation = np.asarray(translation, np.float32)
    clip.source = "; ".join([clip.source, *notes])


def fit_rows(features: np.ndarray, frames: int) -> np.ndarray:
    """Music features (N, 35) cut or padded to the motion's `frames` rows.

    Longer music is cut at its end. Up to `MAX_MISSING_ROWS` rows are added by repeating the last one without its beat and
    peak flags (a repeated flag would be a beat that is not there). Raises `ClipError` if more are missing.
    """
    missing = frames - len(features)
    if missing > MAX_MISSING_ROWS or len(features) == 0:
        raise ClipError(f"the music ends {missing} frames before the motion of {frames} frames")
    if missing <= 0:
        return features[:frames]
    tail = np.repeat(features[-1:], missing, axis=0)
    tail[:, [BEAT, PEAK]] = 0
    return np.concatenate([features, tail])


@lru_cache(maxsize=1)
def _extractor() -> MegaDanceFeatureExtractor:
    return MegaDanceFeatureExtractor()


def song_features(audio: bytes | str | Path) -> np.ndarray:
    """The (rows, 35) float32 features of a whole audio file given by path or content."""
    extractor = _extractor()
    waveform, rate = load_audio(audio, sampling_rate=extractor.sampling_rate)
    return np.asarray(extractor(waveform, sampling_rate=rate)["input_features"][0], dtype=np.float32)


def music_features(audio: bytes | str | Path, frames: int) -> np.ndarray:
    """The features (frames, 35) of an audio file whose music lasts as long as a motion of `frames` frames."""
    return fit_rows(song_features(audio), frames)


# --- files ---------------------------------------------------------------------------------------------------------

# A flipped bit in a page is found by its checksum, not by how the dance looks.
PARQUET = {"compression": "zstd", "write_page_checksum": True}
_TEXT = ("id", "genre", "split", "source", "licence", "phase_confidence", "song", "beat_source")
_OPTIONAL = ("song", "beat_source", "beat_confidence")  # sets of earlier versions have none
_ROWS = {"poses": POSE_SIZE, "translation": 3, "input_features": FEATURE_SIZE}
_NUMBERS = {
    "fps": "float32",
    "beat_period_s": "float64",
    "first_beat_s": "float64",
    "beats_per_bar": "int32",
    "first_beat_is_downbeat": "bool",
    "beat_confidence": "float32",
}


@lru_cache(maxsize=1)
def features_schema() -> Any:
    """The columns as `datasets.Features`, in the order of `Clip`."""
    from datasets import Audio, Features, List, Value

    def column(name: str) -> Any:
        if name in _ROWS:
            return List(List(Value("float32"), length=_ROWS[name]))
        if name == "audio":
            # not decoded: `datasets` would want torchcodec for it; soundfile reads the bytes
            return Audio(decode=False)
        return Value("string" if name in _TEXT else _NUMBERS[name])

    return Features({item.name: column(item.name) for item in fields(Clip)})


def _to_table(clip: Clip) -> Any:
    """One clip as a pyarrow table of one row, without Python lists in between."""
    import pyarrow as pa

    schema = features_schema().arrow_schema
    columns = []
    for column in schema:
        value = getattr(clip, column.name)
        if column.name in _ROWS and value is not None:
            rows = pa.FixedSizeListArray.from_arrays(pa.array(value.reshape(-1)), _ROWS[column.name])
            columns.append(pa.ListArray.from_arrays(pa.array([0, len(value)], pa.int32()), rows))
        elif column.name == "audio" and value is not None:
            columns.append(pa.array([{"bytes": value, "path": None}], column.type))
        else:
            columns.append(pa.array([value], column.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _from_table(table: Any) -> Iterator[Clip]:
    names = [item.name for item in fields(Clip) if item.name in table.column_names]
    for row in range(table.num_rows):
        values: dict[str, Any] = {}
        for name in names:
            scalar = table.column(name)[row]
            if name in _ROWS:
                values[name] = (
                    scalar.values.flatten().to_numpy().reshape(-1, _ROWS[name]).copy() if scalar.is_valid else None
                )
            elif name == "audio":
                values[name] = scalar["bytes"].as_py() if scalar.is_valid else None
            else:
                values[name] = scalar.as_py()
        yield Clip(**values).with_beats()  # sets of earlier versions have no columns of where beats come from


def write_prepared(
    path: str | Path,
    clips: Iterable[Clip],
    *,
    card: Card,
    genres: Sequence[str],
    jumps: Jumps = "leave_out",
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes `clips` as a prepared data set and returns its `info.json`.

    Clips are taken one by one and written in row groups, so the whole set is never in memory. The set is as it was before until
    all of its files are complete.

    Args:
        path: folder, made when missing.
        clips: with unique ids.
        card: texts of `README.md`.
        genres: in the order of their ids.
        jumps: whether a clip that jumps is refused or written.
        extra: further entries of `info.json`.

    Raises:
        ClipError: a clip is not valid, has a genre that is not in `genres`, or an id that came before.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    writers: dict[str, Any] = {}
    waiting: dict[str, list[Any]] = {}
    counts: dict[str, dict[str, Any]] = {}
    noise: dict[str, dict[str, Any]] = {}
    beats: dict[str, float | str | None] = {}

    def flush(split: str) -> None:
        if waiting[split]:
            writers[split].write_table(pa.concat_tables(waiting[split]).combine_chunks())
            waiting[split] = []

    with all_or_none(DataError) as beside, ExitStack() as files:
        for clip in clips:
            try:
                clip.check(genres, jumps)
                if clip.id in noise:
                    raise ClipError("the id came twice")
            except ClipError as error:
                raise ClipError(f"clip {clip.id!r}: {error}") from error
            clip.with_beats()
            noise[clip.id] = asdict(measure_noise(clip.poses, clip.translation))
            if clip.paired:
                beats[clip.id] = clip.beat_confidence if clip.beat_source == ESTIMATED else clip.beat_source
            if clip.split not in writers:
                place, columns = beside(path / f"{clip.split}.parquet"), features_schema().arrow_schema
                writers[clip.split] = files.enter_context(pq.ParquetWriter(place, columns, **PARQUET))
                waiting[clip.split] = []
            waiting[clip.split].append(_to_table(clip))
            if sum(table.nbytes for table in waiting[clip.split]) > ROW_GROUP_BYTES:
                flush(clip.split)
            _count(counts.setdefault(clip.split, {}), clip)
        if not noise:
            raise ClipError("there is no clip to write")
        for split in writers:
            flush(split)
        splits = {split: counts[split] for split in SPLITS if split in counts}
        info = {"schema": SCHEMA_VERSION, "fps": FPS, "genres": list(genres), "splits": splits, "jumps": jumps}
        info |= {"share_audio": card.share_audio, "noise": noise, "beats": beats, **(extra or {})}
        beside(path / "README.md").write_text(card_text(card, info), encoding="utf-8")
        text = json.dumps(info, indent=2, ensure_ascii=False) + "\n"
        beside(path / INFO_FILE).write_text(text, encoding="utf-8")
    for split in set(SPLITS) - set(writers):
        (path / f"{split}.parquet").unlink(missing_ok=True)
    return info


def _count(counts: dict[str, Any], clip: Clip) -> None:
    frames = len(clip)
    for key, value in (("clips", 1), ("frames", frames), ("paired_clips", int(clip.paired))):
        counts[key] = counts.get(key, 0) + value
    counts["paired_frames"] = counts.get("paired_frames", 0) + (frames if clip.paired else 0)
    for key, value in (("clips_by_genre", 1), ("frames_by_genre", frames)):
        genre = counts.setdefault(key, {})
        genre[clip.genre or "none"] = genre.get(clip.genre or "none", 0) + value


def read_info(path: str | Path) -> dict[str, Any]:
    """`info.json` of a prepared data set: genres in id order, fps, counts of each split."""
    file = Path(path) / INFO_FILE
    if not file.is_file():
        raise MissingDataError(
            f"{str(path)!r} is not a prepared data set: it has no {INFO_FILE}. "
            "Prepare it first, e.g. megadance prepare ballroom RAW OUT"
        )
    with reading(file, _REMEDY, DataError):
        if file.stat().st_size > MOST_BYTES:
            raise ValueError(f"it is longer than {MOST_BYTES >> 20} MB")
        info = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(info, dict):
            raise ValueError(f"it holds a {type(info).__name__}, not an object {{...}}")
        for name, kind in (("schema", int), ("genres", list), ("splits", dict), ("noise", dict)):
            if not isinstance(info.get(name), kind) and (name in info or name != "noise"):  # earlier versions have none
                raise ValueError(f"its {name} is {'missing' if name not in info else short(info[name])}")
        if info.get("fps") != FPS:
            raise ValueError(f"its fps is {info.get('fps')!r}, not {FPS}")
        if not all(isinstance(genre, str) and 0 < len(genre) <= MOST_LETTERS for genre in info["genres"]):
            raise ValueError("its genres are not all names")
        for split, counts in info["splits"].items():
            if split not in SPLITS or not isinstance(counts, dict):
                raise ValueError(f"it has the split {split[:60]!r} with {short(counts)}")
            for count in ("clips", "frames", "paired_clips", "paired_frames"):
                if type(counts.get(count)) is not int or not 0 <= counts[count] < 1 << 50:
                    raise ValueError(f"its {split} has {short(counts.get(count))} {count}")
            for count in ("clips_by_genre", "frames_by_genre"):
                if not isinstance(counts.get(count), dict) or any(type(n) is not int for n in counts[count].values()):
                    raise ValueError(f"its {split} has {short(counts.get(count))} {count}")
        measured = {item.name for item in fields(Noise)}
        for name, noise in info.get("noise", {}).items():
            if (
                not isinstance(noise, dict)
                or set(noise) != measured
                or any(isinstance(n, (list, dict, type(None))) for n in noise.values())
            ):
                raise ValueError(f"its noise of {name[:60]!r} is {short(noise)}")
        for name in ("beats", "left_out", "fingerprints", "ignored"):
            if not isinstance(info.get(name, {}), dict):
                raise ValueError(f"its {name} is {short(info[name])}")
        return info


def iter_prepared(path: str | Path, split: str | None = None, *, audio: bool = False) -> Iterator[Clip]:
    """The clips of a prepared data set one after the other, holding one row group at a time (see `read_prepared`)."""
    info = read_info(path)
    present = list(info["splits"])
    if split is not None and split not in present:
        remedy = "; hold clips back when preparing (FineDance: --validation N)" if split == "validation" else ""
        raise DataError(f"split {split!r} is not in {str(path)!r}, which has {', '.join(present) or 'none'}{remedy}")
    for name in present if split is None else [split]:
        yield from _read_split(Path(path) / f"{name}.parquet", name, info, audio)


def _read_split(path: Path, split: str, info: dict[str, Any], audio: bool) -> Iterator[Clip]:
    """The clips of one file, each checked: a damaged file is told by its name, not by what is trained on it."""
    import pyarrow as pa

    count = 0
    with ExitStack() as stack:
        with reading(path, _REMEDY, DataError):
            file = stack.enter_context(open_parquet(path))
            groups = [file.metadata.row_group(group) for group in range(file.num_row_groups)]
            if max((group.total_byte_size for group in groups), default=0) > MOST_BYTES:
                raise ValueError(f"a piece of it promises more than {MOST_BYTES >> 20} MB")
            columns = _columns_of(file.schema_arrow, audio)
        for group in range(len(groups)):
            with reading(path, _REMEDY, DataError):
                table = file.read_row_group(group, columns=columns).select(columns)
                table = table.cast(pa.schema([features_schema().arrow_schema.field(name) for name in columns]))
                table.validate(full=True)
                clips = [clip.check(info["genres"], jumps="keep") for clip in _from_table(table)]
                if wrong := [clip.id for clip in clips if clip.split != split]:
                    raise ValueError(f"the clip {wrong[0]!r} in it is of another split")
            count += len(clips)
            yield from clips
    if count != info["splits"][split]["clips"]:
        raise DataError(f"{path} has {count} clips, {INFO_FILE} beside it {info['splits'][split]['clips']}: {_REMEDY}")


def open_parquet(path: str | Path) -> Any:
    """A `pyarrow.parquet.ParquetFile` whose pages are held against their checksums, as far as they have some."""
    import pyarrow.parquet as pq

    limits = {"thrift_string_size_limit": 1 << 26, "thrift_container_size_limit": 1 << 22}
    return pq.ParquetFile(path, page_checksum_verification=True, **limits)


def _columns_of(schema: Any, audio: bool) -> list[str]:
    """The columns to read; ValueError where one is missing."""
    names = [item.name for item in fields(Clip) if audio or item.name != "audio"]
    for name in names:
        if name not in schema.names:
            if name in _OPTIONAL:
                continue
            raise ValueError(f"it has no column {name}")
    return [name for name in names if name in schema.names]


def read_prepared(path: str | Path, split: str | None = None, *, audio: bool = False) -> list[Clip]:
    """The clips of a prepared data set as numpy arrays.

    Args:
        path: folder written by one of the scripts here.
        split: "train", "validation" or "test"; every split when None.
        audio: also read the encoded music (not needed for training).

    Raises:
        FileNotFoundError: the folder is not a prepared data set.
        DataError: it has no such split, or one of its files is damaged; the message names the file.
    """
    return list(iter_prepared(path, split, audio=audio))


# --- from raw clips to a prepared set --------------------------------------------------------------------------------


@dataclass(frozen=True)
class RawClip:
    """A clip as it lies in a raw folder: `files` are what it is made of, `record` what is known about it beside them."""

    id: str
    split: str
    files: tuple[Path, ...]
    record: dict[str, Any] = field(default_factory=dict, hash=False)

    def fingerprint(self) -> str:
        """Changes when any input of the clip does; a missing file counts as empty (making the clip then says so)."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(json.dumps([SCHEMA_VERSION, self.id, self.split, self.record], sort_keys=True).encode())
        for file in self.files:
            digest.update(file.name.encode())
            if file.is_file():
                state = file.stat()
                digest.update(_file_digest(file, state.st_mtime_ns, state.st_size))
        return digest.hexdigest()


@lru_cache(maxsize=4096)
def _file_digest(file: Path, changed: int, size: int) -> bytes:
    """Of the content; many clips may share one song, which is then read once. The other arguments tell a changed file."""
    with file.open("rb") as stream:
        digest = hashlib.blake2b(digest_size=16)
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.digest()


@dataclass
class Report:
    """What `prepare_clips` did: ids that were `made` now, ids `kept` from an earlier run, why ids were `left_out`, and which
    ids were `ignored`, because the splits do not use them or name them in vain."""

    path: Path
    info: dict[str, Any]
    made: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{self.path}: {len(self.made)} clips made, {len(self.kept)} kept from an earlier run"]
        table = genre_table(self.info)
        widths = [max(len(cells[column]) for cells in table) for column in range(len(table[0]))]
        for cells in table:
            lines.append(
                "  " + "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
            )
        if "validation" not in self.info["splits"]:
            lines.append("  no clip is in the validation split: training holds whole songs back by itself")
        if beats := beats_line(self.info):
            lines.append(f"  {beats}")
        noisy = noisy_clips(self.info)
        lines.append(f"  {len(noisy)} of {len(self.info['noise'])} clips have jumps or discontinuities")
        lines += [f"    {line}" for line in noisy[:NAMED_CLIPS]]
        if len(noisy) > NAMED_CLIPS:
            lines.append(f"    and {len(noisy) - NAMED_CLIPS} more, see {INFO_FILE}")
        for reason in sorted(set(self.ignored.values())):
            names = [name for name, why in self.ignored.items() if why == reason]
            shown = ", ".join(names[:NAMED_CLIPS]) + (", ..." if len(names) > NAMED_CLIPS else "")
            lines.append(f"  {len(names)} not used, {reason}: {shown}")
        lines += [f"  left out {name}: {reason}" for name, reason in self.left_out.items()]
        return "\n".join(lines)


def _make_part(
    raw: RawClip, make: Callable[[RawClip], Clip], genres: Sequence[str], jumps: Jumps, part: Path
) -> str | None:
    """Makes one clip and keeps it as a one-row Parquet file; returns the reason when it must be left out."""
    try:
        clip = make(raw).check(genres, jumps)
    except Exception as error:  # one bad file, whatever is wrong with it, must not stop the others
        said = reason_of(error)
        return said if isinstance(error, ValueError) else f"{type(error).__name__}: {said}"
    _write_part(clip, part)
    return None


def _usable(clip: Clip, genres: Sequence[str], jumps: Jumps) -> bool:
    try:
        clip.check(genres, jumps)
    except ClipError:
        return False
    return True


def _write_part(clip: Clip, part: Path) -> None:
    import pyarrow.parquet as pq

    with whole(part) as temporary:
        pq.write_table(_to_table(clip), temporary, **PARQUET)


def _read_part(part: Path) -> Clip:
    with reading(part, "remove it, and run the same again", DataError), open_parquet(part) as file:
        return next(_from_table(file.read()))


def _earlier_run(out: Path) -> dict[str, Any]:
    """`info.json` of a complete earlier run; empty when there is none, or it was written by another version."""
    if not (out / INFO_FILE).is_file():
        return {}
    try:
        info = read_info(out)
    except DataError:  # damaged: all is made anew
        return {}
    complete = all((out / f"{split}.parquet").is_file() for split in info["splits"])
    complete &= all(isinstance(info.get(name), dict) for name in ("fingerprints", "left_out"))
    return info if complete and info["schema"] == SCHEMA_VERSION else {}


def prepare_clips(
    raws: Sequence[RawClip],
    make: Callable[[RawClip], Clip],
    out: str | Path,
    *,
    card: Card,
    genres: Sequence[str],
    jumps: Jumps = "leave_out",
    ignored: dict[str, str] | None = None,
    num_proc: int = 1,
    progress: bool = True,
) -> Report:
    """Makes a prepared data set from raw clips.

    Each finished clip is kept in `out/.parts` until the set is complete, so an interrupted run goes on where it stopped, and a later
    run makes only clips whose raw files changed. A clip that cannot be used is left out and named in the report and in `info.json`.

    Args:
        raws: in the order in which they are to be written.
        make: reads one raw clip; a module-level function, as it is sent to other processes.
        out: folder of the prepared data set.
        card, genres: see `write_prepared`.
        jumps: what happens to a clip that jumps (`noise.find_jumps`).
        ignored: ids that the splits of the data set do not use, with the reason; only told of.
        num_proc: processes to work with.
        progress: show a progress bar.

    Raises:
        DataError: no clip at all could be used, or one of the processes died.
    """
    out, ignored = Path(out), dict(ignored or {})
    wanted = {raw.id: raw.fingerprint() for raw in raws}
    if len(wanted) != len(raws):
        names = [raw.id for raw in raws]
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"the clip {twice!r} is listed twice, and two raw clips with the same id cannot be told apart")
    before = _earlier_run(out)
    done: dict[str, str] = before.get("fingerprints", {})
    terms = {"genres": list(genres), "jumps": jumps, "ignored": ignored, "share_audio": card.share_audio}
    if done == wanted and all(before.get(name) == value for name, value in terms.items()):
        left_out = before["left_out"]
        return Report(out, before, kept=[i for i in wanted if i not in left_out], left_out=left_out, ignored=ignored)

    parts = out / ".parts"
    parts.mkdir(parents=True, exist_ok=True)
    # a part made with its jumps is none for a set without
    part_of = {raw.id: parts / f"{wanted[raw.id]}.{jumps}.parquet" for raw in raws}
    if before:
        with suppress(DataError):  # what is damaged is made anew
            for clip in iter_prepared(out, audio=True):
                same = clip.id in wanted and wanted[clip.id] == done.get(clip.id)
                if same and not part_of[clip.id].exists() and _usable(clip, genres, jumps):
                    _write_part(clip, part_of[clip.id])
    kept = [raw.id for raw in raws if part_of[raw.id].exists()]
    todo = [raw for raw in raws if not part_of[raw.id].exists()]
    jobs = [(raw, make, tuple(genres), jumps, part_of[raw.id]) for raw in todo]
    reasons = {raw.id: reason for raw, reason in zip(todo, _run(jobs, num_proc, progress), strict=True)}
    left_out = {name: reason for name, reason in reasons.items() if reason is not None}
    if len(left_out) == len(raws):
        first = next(iter(left_out.items()), ("none", "the raw folder lists no clips"))
        raise DataError(f"none of {len(raws)} clips could be used; {first[0]}: {first[1]}")

    usable = [raw for raw in raws if raw.id not in left_out]
    clips = (_read_part(part_of[raw.id]) for raw in usable)
    extra = {"left_out": left_out, "ignored": ignored, "fingerprints": wanted}
    info = write_prepared(out, clips, card=card, genres=genres, jumps=jumps, extra=extra)
    shutil.rmtree(parts)
    made = [raw.id for raw in todo if raw.id not in left_out]
    return Report(out, info, made=made, kept=kept, left_out=left_out, ignored=ignored)


def _end_with_parent() -> None:
    """A worker would otherwise go on for a while when the process that it works for has been killed."""

    def watch() -> None:
        parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run(jobs: Sequence[tuple], num_proc: int, progress: bool) -> list[str | None]:
    """The results of `_make_part` in the order of `jobs`."""
    with progress_bar(total=len(jobs), unit="clip", desc="preparing", disable=not progress) as bar:
        if num_proc <= 1 or len(jobs) <= 1:
            results = []
            for job in jobs:
                results.append(_make_part(*job))
                bar.update()
            return results
        others = active_children()
        # spawned, not forked: torch and numba have threads that do not survive a fork
        with ProcessPoolExecutor(num_proc, get_context("spawn"), initializer=_end_with_parent) as pool:
            futures = [pool.submit(_make_part, *job) for job in jobs]
            try:
                for future in as_completed(futures):
                    future.result()
                    bar.update()
            except KeyboardInterrupt:
                for worker in active_children():  # a clip can take long
                    if worker not in others:
                        worker.terminate()
                pool.shutdown(cancel_futures=True)
                for folder in {part.parent for *_, part in jobs}:
                    sweep(folder)
                raise
            except BrokenProcessPool:
                raise DataError(
                    f"one of num_proc={num_proc} processes died (out of memory?); what was made is kept: "
                    "run it again with fewer"
                ) from None
            return [future.result() for future in futures]
