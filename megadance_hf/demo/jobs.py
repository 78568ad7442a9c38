"""The queue of the web page: one worker makes one thing after the other, and says how far it is.

    jobs = Jobs(limits.waiting)
    job = jobs.add(visitor, "dance", lambda report: studio.dance(..., report=report))
    job.status()        # {"state", "place", "step", "share", "seconds_left", "preview", "takes", "zip", "error"}
    jobs.cancel(job.id, visitor)

A job knows whether anybody still waits for it: the page asks for its status again and again, and a job that nobody has asked for in
`LEFT_SECONDS` is cancelled.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from megadance_hf.modeling.audio_megadance import AudioError
from megadance_hf.modeling.errors_megadance import ModelError
from megadance_hf.modeling.genres_megadance import GenreError
from megadance_hf.modeling.plans_megadance import DirectionError
from megadance_hf.motion.motion import MotionError
from megadance_hf.render.stage import RenderError

logger = logging.getLogger(__name__)

LEFT_SECONDS = 15.0  # a visitor who has not asked for so long has left
KEPT_ENDED = 600.0  # seconds that the status of an ended job is kept
ENDED = ("done", "failed", "cancelled")
BUG = "Something went wrong on the server; it has been written down there. Try again, or try another song."
BUSY = "Many visitors are waiting just now: come back in some minutes."
GONE = "This is not here any more: begin again."
LEARNING = 0.5  # weight of the latest job in what is known about the time that a step takes
FIRST_SHARE = 0.05  # of a step, from which on its own speed tells how long it will take


class DemoError(ValueError):
    """Something the visitor can put right; the message is a sentence for people who don't program.

    Attributes:
        status: of the answer over HTTP.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Cancelled(Exception):
    """Nobody waits for this any more. Raised inside a job, by its report."""


def in_plain_words(error: BaseException, names: dict[str, str] | None = None) -> str:
    """The message for the visitor. A bug is written to the server's log in full.

    Args:
        names: what to say in place of paths of this machine.
    """
    if not isinstance(error, (DemoError, AudioError, DirectionError, GenreError, ModelError, MotionError, RenderError)):
        logger.error("a visitor's request failed", exc_info=error)
        return BUG
    text = str(error)
    for path, name in (names or {}).items():
        text = text.replace(path, name)
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


class Speeds:
    """How many seconds a step takes per second of dance on this machine; learned from the jobs before."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = dict(seconds)
        self._measured: set[str] = set()

    def learn(self, step: str, seconds: float) -> None:
        before = self.seconds.get(step, seconds) if step in self._measured else seconds
        self._measured.add(step)
        self.seconds[step] = before + LEARNING * (seconds - before)


class Job:
    """One thing that a visitor waits for. The worker reports through it: `check`, `begin`, `at`, `show`.

    Attributes:
        id: cannot be guessed.
        state: "waiting", "working", or one of `ENDED`.
    """

    def __init__(self, visitor: str, kind: str, work: Callable[[Job], Any], speeds: Speeds) -> None:
        self.id, self.visitor, self.kind = secrets.token_urlsafe(16), visitor, kind
        self.state, self.step = "waiting", ""
        self.error: str | None = None
        self.takes: list[dict[str, Any]] = []
        self.zip: str | None = None
        self.preview: dict[str, Any] | None = None
        self.names: dict[str, str] = {}
        self.asked = time.monotonic()  # when the visitor last asked
        self.ended: float | None = None
        self._work, self._speeds = work, speeds
        self._share, self._begun = 0.0, 0.0
        self._steps: list[tuple[str, float]] = []  # the current one first: name, seconds of dance
        self._step_begun = 0.0
        self._step_seconds: float | None = None  # by its speed so far

    # --- for the worker ----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises Cancelled where nobody waits for this job any more."""
        if self.state != "working" or time.monotonic() - self.asked > LEFT_SECONDS:
            raise Cancelled

    def course(self, steps: Sequence[tuple[str, float]]) -> None:
        """The steps that are to come, each with the seconds of dance it is about; from them the time that is left is known."""
        self._steps = [("", 0.0), *steps]

    def begin(self, words: str) -> None:
        """The next step of the course begins; `words` say to the visitor what it is."""
        self.check()
        self._learn()
        self._steps = self._steps[1:]
        self.step, self._step_begun, self._step_seconds = words, time.monotonic(), None

    def at(self, share: float) -> None:
        """So much of the current step is done, 0 to 1."""
        self.check()
        if share >= FIRST_SHARE:
            self._step_seconds = (time.monotonic() - self._step_begun) / share

    def show(self, glb: str, seconds: float, dancer: int) -> None:
        """What there is so far: address of a figure, its seconds, and which dancer it is."""
        version = 1 if self.preview is None else self.preview["version"] + 1
        self.preview = {"glb": glb, "seconds": round(seconds, 3), "dancer": dancer, "version": version}

    def _learn(self) -> None:
        if self._steps and self._steps[0][1] > 0 and self._step_begun:
            name, amount = self._steps[0]
            self._speeds.learn(name, (time.monotonic() - self._step_begun) / amount)

    def run(self) -> None:
        """Do the work; called by the worker."""
        self._begun, state = time.monotonic(), "done"
        try:
            self.check()
            self._work(self)
            self.check()
            self._learn()
        except Cancelled:
            state = "cancelled"
        except Exception as error:
            state, self.error = "failed", in_plain_words(error, self.names)
        self.end(state)

    def end(self, state: str) -> None:
        if self.state not in ENDED:
            self.state, self.ended = state, time.monotonic()
        if self.state != "done":
            self.takes, self.zip = [], None

    # --- for the visitor ---------------------------------------------------------------------------------------------

    def seconds_left(self) -> float | None:
        """Measured from the step's progress so far; of the steps to come, from the jobs before."""
        if self.state != "working" or not self._steps:
            return None
        (name, amount), *others = self._steps
        known = self._speeds.seconds
        takes = known.get(name, 0.0) * amount if self._step_seconds is None else self._step_seconds
        left = max(takes - (time.monotonic() - self._step_begun), 0.0)
        return left + sum(known.get(other, 0.0) * seconds for other, seconds in others)

    def status(self, place: int = 0) -> dict[str, Any]:
        """As JSON. `place`: number of jobs that come before it."""
        left = self.seconds_left()
        if self.state == "done":
            self._share = 1.0
        elif left is not None:
            elapsed = time.monotonic() - self._begun
            self._share = max(self._share, min(elapsed / max(elapsed + left, 1e-6), 0.99))
        return {
            "job": self.id,
            "kind": self.kind,
            "state": self.state,
            "place": place,
            "step": self.step,
            "share": round(self._share, 4),
            "seconds_left": None if left is None else round(left, 1),
            "preview": self.preview if self.state in ("working", "done") else None,
            "takes": self.takes,
            "zip": self.zip,
            "error": self.error,
        }


class Jobs:
    """The queue and its worker, one thread: several dances at a time would only slow each other down.

    Args:
        waiting: jobs in the queue behind the one that is worked on; one more is refused.
        speeds: seconds that each step takes per second of dance, a guess to begin with.
    """

    def __init__(self, waiting: int, speeds: dict[str, float] | None = None) -> None:
        self.waiting, self.speeds = waiting, Speeds(speeds or {})
        self._jobs: dict[str, Job] = {}
        self._queue: list[Job] = []
        self._working: Job | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="megadance-worker", daemon=True)
        self._thread.start()

    def add(self, visitor: str, kind: str, work: Callable[[Job], Any]) -> Job:
        """A new job; the visitor's other one is cancelled.

        Raises:
            DemoError: too many are waiting.
        """
        with self._changed:
            self._tidy()
            alive = [job for job in (self._working, *self._queue) if job is not None and job.state not in ENDED]
            if self._closed or sum(job.visitor != visitor for job in alive) > self.waiting:
                raise DemoError(BUSY, 503)
            for other in alive:
                if other.visitor == visitor:
                    self._cancel(other)
            job = Job(visitor, kind, work, self.speeds)
            self._jobs[job.id] = job
            self._queue.append(job)
            self._changed.notify_all()
            return job

    def find(self, identity: str, visitor: str) -> Job:
        """A visitor's own job.

        Raises:
            DemoError: the visitor has no such job.
        """
        job = self._jobs.get(identity)
        if job is None or job.visitor != visitor:
            raise DemoError(GONE, 404)
        return job

    def status(self, identity: str, visitor: str) -> dict[str, Any]:
        """The status of a visitor's own job, who is waiting for it."""
        with self._changed:
            job = self.find(identity, visitor)
            job.asked = time.monotonic()
            self._tidy()
            place = 0
            if job.state == "waiting":
                place = self._queue.index(job) + (self._working is not None)
            return job.status(place)

    def cancel(self, identity: str, visitor: str) -> None:
        """Cancel a visitor's own job; nothing happens where it has ended."""
        with self._changed:
            self._cancel(self.find(identity, visitor))

    def close(self) -> None:
        """Cancel everything and end the worker; what is being done is given up at its next report."""
        with self._changed:
            self._closed = True
            for job in [*self._queue, *filter(None, [self._working])]:
                self._cancel(job)
            self._changed.notify_all()
        self._thread.join(30)

    def _cancel(self, job: Job) -> None:
        if job in self._queue:
            self._queue.remove(job)
        job.end("cancelled")

    def _tidy(self) -> None:
        """Drop jobs in the queue that nobody waits for, and forget those that ended long ago."""
        now = time.monotonic()
        for job in [job for job in self._queue if now - job.asked > LEFT_SECONDS]:
            self._cancel(job)
        for job in [job for job in self._jobs.values() if job.ended is not None and now - job.ended > KEPT_ENDED]:
            del self._jobs[job.id]

    def _run(self) -> None:
        while True:
            with self._changed:
                self._working = None
                self._tidy()
                while not self._queue and not self._closed:
                    self._changed.wait(1.0)
                    self._tidy()
                if self._closed:
                    return
                job = self._working = self._queue.pop(0)
                job.state = "working"
            job.run()
