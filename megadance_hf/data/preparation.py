"""From raw clips to a prepared data set: the part that all sources share.

A source lists its raw clips (`RawClip`) and says how one is read (`make`). `prepare_clips` does the rest: checks, reuse of what an
earlier run has made, several processes, the files, the card.
"""

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import Any

from megadance_hf.modeling.errors_megadance import reading, reason_of
from megadance_hf.modeling.files_megadance import sweep, whole
from megadance_hf.modeling.progress_megadance import progress_bar

from .card import NAMED_CLIPS, Card, beats_line, genre_table, noisy_clips
from .clip import Clip, ClipError, Jumps
from .prepared import (
    INFO_FILE,
    PARQUET,
    SCHEMA_VERSION,
    DataError,
    from_table,
    iter_prepared,
    open_parquet,
    read_info,
    to_table,
    write_prepared,
)

MOST_LIST = 1 << 26


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
        pq.write_table(to_table(clip), temporary, **PARQUET)


def _read_part(part: Path) -> Clip:
    with reading(part, "remove it, and run the same again", DataError), open_parquet(part) as file:
        return next(from_table(file.read()))


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
