"""The files of a prepared data set: a folder with a Parquet file per split, `README.md` and `info.json`.

One row is one clip: its motion, its music as the encoded file, and the music features that a model reads, frame by frame at 30 fps.
`datasets.load_dataset(folder)` reads it like any other data set; `read_prepared` gives the same as numpy arrays.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from megadance_hf.modeling.configuration_megadance import MUSIC_FEATURE_SIZE
from megadance_hf.modeling.errors_megadance import reading, short
from megadance_hf.modeling.files_megadance import all_or_none

from .beats import ESTIMATED
from .card import Card, card_text
from .clip import FPS, MAX_LETTERS, NUMBER_FIELDS, POSE_SIZE, SPLITS, TEXT_FIELDS, Clip, ClipError, Jumps
from .noise import Noise, measure_noise

INFO_FILE = "info.json"
# Part of every clip's fingerprint: raise it when the same raw files give other rows.
SCHEMA_VERSION = 2
# Rows are flushed to a Parquet row group when they hold this much, so that a reader never needs more than that at once.
ROW_GROUP_BYTES = 32 << 20
# A row group is read as one piece.
MAX_BYTES = 1 << 30
_REMEDY = "prepare or fetch the data set again"
# Checksums find a flipped bit that would otherwise be trained on.
PARQUET = {"compression": "zstd", "write_page_checksum": True}
# sets of earlier versions have none
_OPTIONAL = (
    *("song", "beat_source", "beat_confidence", "muq_frames", "marked_frames", "bar_confidence", "kind", "units"),
)
_ROWS = {"poses": POSE_SIZE, "translation": 3, "input_features": MUSIC_FEATURE_SIZE}


class DataError(ValueError):
    """A raw folder or a prepared set cannot be used; the message gives the reason and the remedy in one line."""


class MissingDataError(DataError, FileNotFoundError):
    """A file or folder that every such set has is missing."""


@lru_cache(maxsize=1)
def features_schema() -> Any:
    """The columns as `datasets.Features`, in the order of `Clip`."""
    from datasets import Audio, Features, List, Value

    # audio is not decoded: `datasets` needs torchcodec for that; soundfile reads the bytes
    types = dict.fromkeys(TEXT_FIELDS, Value("string")) | {"audio": Audio(decode=False)}
    types |= {name: Value(kind) for name, kind in NUMBER_FIELDS.items()}
    types |= {name: List(List(Value("float32"), length=size)) for name, size in _ROWS.items()}
    types["marked_frames"] = List(Value("int32"))
    types["units"] = List({"name": Value("string"), "start_s": Value("float64"), "beats": Value("float32")})
    return Features({item.name: types[item.name] for item in fields(Clip)})


def to_table(clip: Clip) -> Any:
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


def from_table(table: Any) -> Iterator[Clip]:
    """The clips of a pyarrow table, not yet checked."""
    names = [item.name for item in fields(Clip) if item.name in table.column_names]
    for row in range(table.num_rows):
        values: dict[str, Any] = {}
        for name in names:
            scalar = table.column(name)[row]
            if name in _ROWS and scalar.is_valid:
                values[name] = scalar.values.flatten().to_numpy().reshape(-1, _ROWS[name]).copy()
            elif name == "audio" and scalar.is_valid:
                values[name] = scalar["bytes"].as_py()
            else:
                values[name] = scalar.as_py()
        yield Clip(**values).with_beats()  # sets of earlier versions lack the columns of estimated beats


def write_prepared(
    path: str | Path,
    clips: Iterable[Clip],
    *,
    card: Card,
    genres: Sequence[str],
    jumps: Jumps = "leave_out",
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes `clips` as a prepared data set and returns the content of its `info.json`.

    Clips are consumed one by one and written in row groups, so the whole set is never in memory. An earlier set in the folder stays as
    it is until all files are complete.

    Args:
        path: folder, created if it does not exist.
        clips: with unique ids.
        card: texts of `README.md`.
        genres: in the order of their ids.
        jumps: "leave_out" refuses a clip that jumps, "keep" writes it.
        extra: further entries of `info.json`.

    Raises:
        ClipError: a clip is not valid, has a genre that is not in `genres`, or an id that was there before.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    writers: dict[str, Any] = {}
    waiting: dict[str, list[Any]] = defaultdict(list)
    counts: dict[str, dict[str, Any]] = defaultdict(dict)
    noise: dict[str, dict[str, Any]] = {}
    beats: dict[str, float | str | None] = {}
    marked: dict[str, dict[str, int]] = {}

    def flush(split: str) -> None:
        if tables := waiting.pop(split, None):
            writers[split].write_table(pa.concat_tables(tables).combine_chunks())

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
            if clip.marked_frames:
                inside = sum(frame < len(clip) for frame in clip.marked_frames)
                marked[clip.id] = {"frames": inside, "beyond_end": len(clip.marked_frames) - inside}
            if clip.paired:
                beats[clip.id] = clip.beat_confidence if clip.beat_source == ESTIMATED else clip.beat_source
            if clip.split not in writers:
                place, columns = beside(path / f"{clip.split}.parquet"), features_schema().arrow_schema
                writers[clip.split] = files.enter_context(pq.ParquetWriter(place, columns, **PARQUET))
            waiting[clip.split].append(to_table(clip))
            if sum(table.nbytes for table in waiting[clip.split]) > ROW_GROUP_BYTES:
                flush(clip.split)
            _count(counts[clip.split], clip)
        if not noise:
            raise ClipError("there is no clip to write")
        for split in writers:
            flush(split)
        splits = {split: counts[split] for split in SPLITS if split in counts}
        info = {"schema": SCHEMA_VERSION, "fps": FPS, "genres": list(genres), "splits": splits, "jumps": jumps}
        info |= {"share_audio": card.share_audio, "noise": noise, "beats": beats, "marked": marked, **(extra or {})}
        beside(path / "README.md").write_text(card_text(card, info), encoding="utf-8")
        text = json.dumps(info, indent=2, ensure_ascii=False) + "\n"
        beside(path / INFO_FILE).write_text(text, encoding="utf-8")
    for split in set(SPLITS) - set(writers):
        (path / f"{split}.parquet").unlink(missing_ok=True)
    return info


def _count(counts: dict[str, Any], clip: Clip) -> None:
    frames, paired = len(clip), int(clip.paired)
    sums = {"clips": 1, "frames": frames, "paired_clips": paired, "paired_frames": paired * frames}
    for key, value in sums.items():
        counts[key] = counts.get(key, 0) + value
    for key, value in (("clips_by_genre", 1), ("frames_by_genre", frames)):
        genre = counts.setdefault(key, {})
        genre[clip.genre or "none"] = genre.get(clip.genre or "none", 0) + value


def read_info(path: str | Path) -> dict[str, Any]:
    """`info.json` of a prepared data set: genres in id order, fps, counts per split. Raises `DataError` where it is damaged."""
    file = Path(path) / INFO_FILE
    if not file.is_file():
        raise MissingDataError(
            f"{str(path)!r} is not a prepared data set: it has no {INFO_FILE}. "
            "Prepare it first, e.g. megadance prepare ballroom RAW OUT"
        )
    with reading(file, _REMEDY, DataError):
        if file.stat().st_size > MAX_BYTES:
            raise ValueError(f"it is longer than {MAX_BYTES >> 20} MB")
        info = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(info, dict):
            raise ValueError(f"it holds a {type(info).__name__}, not an object {{...}}")
        optional = dict.fromkeys(("noise", "beats", "marked", "left_out", "fingerprints", "ignored"), dict)
        for name, kind in {"schema": int, "genres": list, "splits": dict, **optional}.items():
            if not isinstance(info.get(name), kind) and (name in info or name not in optional):
                raise ValueError(f"its {name} is {'missing' if name not in info else short(info[name])}")
        if info.get("fps") != FPS:
            raise ValueError(f"its fps is {info.get('fps')!r}, not {FPS}")
        if not all(isinstance(genre, str) and 0 < len(genre) <= MAX_LETTERS for genre in info["genres"]):
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
            complete = isinstance(noise, dict) and set(noise) == measured
            if not complete or any(isinstance(n, (list, dict, type(None))) for n in noise.values()):
                raise ValueError(f"its noise of {name[:60]!r} is {short(noise)}")
        for name, counts in info.get("marked", {}).items():
            complete = isinstance(counts, dict) and set(counts) == {"frames", "beyond_end"}
            if not complete or any(type(n) is not int for n in counts.values()):
                raise ValueError(f"its marked frames of {name[:60]!r} are {short(counts)}")
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
    """The clips of one file, each checked, so that a damaged file is reported by name instead of being trained on."""
    import pyarrow as pa

    count = 0
    with ExitStack() as stack:
        with reading(path, _REMEDY, DataError):
            file = stack.enter_context(open_parquet(path))
            groups = [file.metadata.row_group(group) for group in range(file.num_row_groups)]
            if max((group.total_byte_size for group in groups), default=0) > MAX_BYTES:
                raise ValueError(f"a piece of it promises more than {MAX_BYTES >> 20} MB")
            names = [item.name for item in fields(Clip) if audio or item.name != "audio"]
            columns = [name for name in names if name in file.schema_arrow.names]
            if lacking := [name for name in names if name not in (*columns, *_OPTIONAL)]:
                raise ValueError(f"it has no column {lacking[0]}")
        for group in range(len(groups)):
            with reading(path, _REMEDY, DataError):
                table = file.read_row_group(group, columns=columns).select(columns)
                table = table.cast(pa.schema([features_schema().arrow_schema.field(name) for name in columns]))
                table.validate(full=True)
                clips = [clip.check(info["genres"], jumps="keep") for clip in from_table(table)]
                if wrong := [clip.id for clip in clips if clip.split != split]:
                    raise ValueError(f"the clip {wrong[0]!r} in it is of another split")
            count += len(clips)
            yield from clips
    if count != info["splits"][split]["clips"]:
        raise DataError(f"{path} has {count} clips, {INFO_FILE} beside it {info['splits'][split]['clips']}: {_REMEDY}")


def open_parquet(path: str | Path) -> Any:
    """A `pyarrow.parquet.ParquetFile` that verifies the checksums of its pages where there are any."""
    import pyarrow.parquet as pq

    limits = {"thrift_string_size_limit": 1 << 26, "thrift_container_size_limit": 1 << 22}
    return pq.ParquetFile(path, page_checksum_verification=True, **limits)


def read_prepared(path: str | Path, split: str | None = None, *, audio: bool = False) -> list[Clip]:
    """The clips of a prepared data set as numpy arrays.

    Args:
        path: folder of `megadance prepare` or `write_prepared`.
        split: one of `SPLITS`; None reads all.
        audio: also read the encoded music (not needed for training).

    Raises:
        MissingDataError: the folder is not a prepared data set.
        DataError: it has no such split, or one of its files is damaged; the message names the file.
    """
    return list(iter_prepared(path, split, audio=audio))
