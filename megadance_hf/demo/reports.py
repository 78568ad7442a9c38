"""What is told while a dance is being made: how far it is, what there is so far, and whether it takes too long."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch

from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE, MOTION_FPS
from megadance_hf.motion.motion import Motion
from megadance_hf.pipeline import MusicToDancePipeline

from .jobs import DemoError

PREVIEW = "preview-"  # how the names of folders with looks at the dance so far begin
PREVIEW_SECONDS = 1.0  # of computing between two looks
PREVIEW_COST = 0.1  # of the time at most goes into them


class Report(Protocol):
    """What is told while something is being made; each call may raise to stop it. `jobs.Job` is one."""

    def check(self) -> None: ...
    def course(self, steps: Sequence[tuple[str, float]]) -> None: ...
    def begin(self, words: str) -> None: ...
    def at(self, share: float) -> None: ...
    def show(self, glb: str, seconds: float, dancer: int) -> None: ...


class Deadline:
    """A report that raises when too much time has passed."""

    def __init__(self, report: Report, seconds: float) -> None:
        self._report, self._seconds = report, seconds
        self._until = time.monotonic() + seconds
        self.begin, self.show = report.begin, report.show

    def check(self) -> None:
        self._report.check()
        if time.monotonic() > self._until:
            raise DemoError(
                f"This takes longer than {self._seconds:g} seconds, so it was stopped: choose a shorter piece of the song."
            )

    def course(self, steps: Sequence[tuple[str, float]]) -> None:
        self._report.course(steps)

    def at(self, share: float) -> None:
        self.check()
        self._report.at(share)

    def progress(self, done: int, total: int) -> None:
        """For `generate(progress=...)`."""
        self.at(done / max(total, 1))


class Preview:
    """A streamer for `generate()` that shows the dance so far, now and then: neither cleaned up nor with a caption.

    Args:
        folder: where it makes a folder for its files, of which it keeps the latest two.
        frames: of the whole dance.
        dancer: which of two dances it.
    """

    def __init__(
        self, pipe: MusicToDancePipeline, folder: Path, body: str, frames: int, dancer: int, report: Report | Deadline
    ) -> None:
        self.pipe, self.dances, self.body, self.report = pipe, folder, body, report
        self.frames, self.dancer = frames, dancer
        self.codes: list[torch.Tensor] = []
        self.folder: Path | None = None
        self.due = time.monotonic() + PREVIEW_SECONDS

    def put(self, codes: torch.Tensor) -> None:
        self.codes.append(codes[0])
        began = time.monotonic()
        if began < self.due:
            return
        known = torch.cat(self.codes, dim=1)
        frames = min(known.shape[1] * FRAMES_PER_CODE, self.frames)
        if not frames:
            return
        streams = (known[:1], known[1:])
        (dance,) = self.pipe.processor.post_process_motion(streams, self.pipe.tokenizer, frames, clean=False)
        if self.folder is None:
            self.folder = self.dances / f"{PREVIEW}{secrets.token_urlsafe(16)}"
            self.folder.mkdir()
        file = self.folder / f"{len(self.codes)}.glb"
        Motion(dance["poses"], dance["translation"], MOTION_FPS).save(file, body=self.body)
        for earlier in sorted(self.folder.glob("*.glb"), key=lambda path: path.stat().st_mtime)[:-2]:
            earlier.unlink(missing_ok=True)  # the latest two: a page may be loading the last but one
        self.report.show(f"dances/{self.folder.name}/{file.name}", frames / MOTION_FPS, self.dancer)
        now = time.monotonic()
        self.due = now + max(PREVIEW_SECONDS, (now - began) / PREVIEW_COST)

    def end(self) -> None:
        pass
