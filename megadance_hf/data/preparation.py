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
from functools import lru_cache, partial
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import Any

from megadance_hf.modeling.errors_megadance import reading, reason_of
from megadance_hf.modeling.files_megadance import sweep, whole
from megadance_hf.modeling.progress_megadance import progress_bar

from .card import NAMED_CLIPS, Card, beats_line, genre_table, marked_clips, noisy_clips
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


@dataclass(frozen=True)
class RawClip:
    """A clip of a raw folder.

    Attributes:
        id: unique in its data set.
        split: one of `SPLITS`.
        files: what the clip is made from.
        record: what else `make` needs to know, as JSON values.
    """

    id: str
    split: str
    files: tuple[Path, ...]
    record: dict[str, Any] = field(default_factory=dict, hash=False)

    def fingerprint(self) -> str:
        """Changes when any input of the clip does. A missing file counts as empty; making the clip then fails."""
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
    """Digest of the content; a song that many clips share is read once. The other arguments tell a changed file from a cached one."""
    with file.open("rb") as stream:
        digest = hashlib.blake2b(digest_size=16)
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.digest()


@dataclass
class Report:
    """What `prepare_clips` did; `str(report)` is what `megadance prepare` prints.

    Attributes:
        path, info: the folder and its `info.json`.
        made, kept: ids of clips made now, and of those reused from an earlier run.
        left_out: why clips could not be used, by id.
        ignored: why clips were not asked for, by id: their split does not use them, or lists them without a file.
    """

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
            lines.append("  " + "  ".join(map(str.ljust, cells, widths)).rstrip())
        if "validation" not in self.info["splits"]:
            lines.append("  no clip is in the validation split: training holds whole songs back by itself")
        if beats := beats_line(self.info):
            lines.append(f"  {beats}")
        noisy = noisy_clips(self.info)
        lines.append(f"  {len(noisy)} of {len(self.info['noise'])} clips have jumps or discontinuities")
        lines += [f"    {line}" for line in noisy[:NAMED_CLIPS]]
        if len(noisy) > NAMED_CLIPS:
            lines.append(f"    and {len(noisy) - NAMED_CLIPS} more, see {INFO_FILE}")
        if marked := marked_clips(self.info):
            lines.append(f"  {len(marked)} of {len(self.info['noise'])} clips have frames that the source marks as bad")
            lines += [f"    {line}" for line in marked]
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

    Finished clips are kept in `out/.parts` until the set is complete, so an interrupted run continues where it stopped; a later run makes
    only clips whose raw files changed. A clip that cannot be used is left out, and named in the report and in `info.json`.

    Args:
        raws: in the order of the rows.
        make: reads one raw clip; a module-level function, since it is sent to other processes.
        out: folder of the prepared data set.
        card, genres: see `write_prepared`.
        jumps: "leave_out" or "keep" clips that jump (`noise.find_jumps`).
        ignored: ids that are not used and the reasons, only for the report.
        num_proc: number of processes.
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
    # a part that was made with its jumps must not end in a set without
    part_of = {raw.id: parts / f"{wanted[raw.id]}.{jumps}.parquet" for raw in raws}
    if before:
        with suppress(DataError):  # what is damaged is made again
            for clip in iter_prepared(out, audio=True):
                same = clip.id in wanted and wanted[clip.id] == done.get(clip.id)
                with suppress(ClipError):  # other genres, or jumps, may be asked for now
                    if same and not part_of[clip.id].exists():
                        _write_part(clip.check(genres, jumps), part_of[clip.id])
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
    """Makes one clip and writes it to `part`, a Parquet file of one row; returns the reason if it must be left out."""
    try:
        clip = make(raw).check(genres, jumps)
    except Exception as error:  # one bad file must not stop the others
        reason = reason_of(error)
        return reason if isinstance(error, ValueError) else f"{type(error).__name__}: {reason}"
    _write_part(clip, part)
    return None


def _write_part(clip: Clip, part: Path) -> None:
    import pyarrow.parquet as pq

    with whole(part) as temporary:
        pq.write_table(to_table(clip), temporary, **PARQUET)


def _read_part(part: Path) -> Clip:
    with reading(part, "remove it, and run the same again", DataError), open_parquet(part) as file:
        return next(from_table(file.read()))


def _earlier_run(out: Path) -> dict[str, Any]:
    """`info.json` of a complete earlier run; empty if there is none, or if another version wrote it."""
    try:
        info = read_info(out)
    except DataError:  # missing or damaged: everything is made again
        return {}
    complete = all((out / f"{split}.parquet").is_file() for split in info["splits"])
    complete &= all(isinstance(info.get(name), dict) for name in ("fingerprints", "left_out"))
    return info if complete and info["schema"] == SCHEMA_VERSION else {}


def _end_with_parent() -> None:
    """Ends a worker as soon as its parent process is gone; it would otherwise work on."""
    parent = parent_process()
    assert parent is not None, "called in a worker"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run(jobs: Sequence[tuple], num_proc: int, progress: bool) -> list[str | None]:
    """The results of `_make_part` in the order of `jobs`."""
    bar = partial(progress_bar, total=len(jobs), unit="clip", desc="preparing", disable=not progress)
    if num_proc <= 1 or len(jobs) <= 1:
        return [_make_part(*job) for job in bar(jobs)]
    others = active_children()
    # spawned, not forked: torch and numba have threads that do not survive a fork
    with ProcessPoolExecutor(num_proc, get_context("spawn"), initializer=_end_with_parent) as pool:
        futures = [pool.submit(_make_part, *job) for job in jobs]
        try:
            for future in bar(as_completed(futures)):
                future.result()
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
                f"one of num_proc={num_proc} processes died (out of memory?); what was made is kept: run it again with fewer"
            ) from None
        return [future.result() for future in futures]
