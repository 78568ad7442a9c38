"""The database of a study: raters, what they were shown, what they answered. SQLite, one file in the study's folder.

What `join`, `answer` and `withdraw` have returned is on the disk: every change is one transaction of a write-ahead log with
`synchronous=FULL`, so that a killed server or a power cut loses nothing that was acknowledged. Nothing counts twice: a rater is
known by a secret of his own browser, an answer by rater and position, and repeating a request that has already succeeded changes
nothing.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .design import ANSWERS, SCALE, Design, Study, StudyError, Trial

SLACK_SECONDS = 0.25  # a browser's clock and the server's need not agree more closely
_SCHEMA = """
CREATE TABLE IF NOT EXISTS study (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS raters (
    id INTEGER PRIMARY KEY, secret TEXT UNIQUE NOT NULL, number INTEGER UNIQUE NOT NULL, language TEXT NOT NULL,
    experience TEXT NOT NULL, joined REAL NOT NULL);
CREATE TABLE IF NOT EXISTS trials (
    rater INTEGER NOT NULL REFERENCES raters ON DELETE CASCADE, position INTEGER NOT NULL, clips TEXT NOT NULL,
    catch INTEGER NOT NULL, PRIMARY KEY (rater, position)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tickets (
    rater INTEGER PRIMARY KEY REFERENCES raters ON DELETE CASCADE, ticket TEXT UNIQUE NOT NULL, position INTEGER NOT NULL,
    shown REAL NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
    rater INTEGER NOT NULL, position INTEGER NOT NULL, ticket TEXT UNIQUE NOT NULL, content TEXT NOT NULL, elapsed REAL NOT NULL,
    received REAL NOT NULL, PRIMARY KEY (rater, position),
    FOREIGN KEY (rater, position) REFERENCES trials ON DELETE CASCADE) WITHOUT ROWID;
"""
EXPERIENCE = ("none", "some", "years", "professional", "unsaid")
PRACTICE_POSITION = -1


class Refused(Exception):
    """A request that the study does not take. `reason` is a key of the page's texts, `status` that of HTTP."""

    def __init__(self, reason: str, status: int) -> None:
        full = "the answers cannot be written: make room on the disk, and see that the folder may be written to"
        super().__init__(full if reason == "full" else f"refused: {reason}")
        self.reason, self.status = reason, status


@dataclass(frozen=True)
class Shown:
    """What a rater is to see now: `position` counts from 0 (-1: practice), `ticket` is to be sent back with the answer. Without trial,
    all is done, or the study is closed."""

    state: str
    position: int
    total: int
    ticket: str | None = None
    trial: Trial | None = None


@dataclass(frozen=True)
class Answer:
    """An answer as it was given: what was asked, `content` as the page sent it (checked), seconds from showing to receiving."""

    rater: int
    position: int
    trial: Trial
    content: dict[str, Any]
    elapsed: float


def check_content(content: Any, design: Design) -> dict[str, Any]:
    """What a page may send as an answer, and nothing else.

    Raises:
        Refused: something is missing, unknown or out of range.
    """
    names = {"values", "played", "seconds", "focus", "plays", "sound"}
    if not isinstance(content, dict) or set(content) - names or not isinstance(content.get("values"), dict):
        raise Refused("malformed", 400)
    values = content["values"]
    highest = 2 if design.mode == "pairs" else SCALE
    whole = all(type(value) is int and 1 <= value <= highest for value in values.values())
    if set(values) != set(design.questions) or not whole:
        raise Refused("malformed", 400)
    checked: dict[str, Any] = {"values": {name: values[name] for name in design.questions}}
    for name, most in (("played", 1e5), ("seconds", 1e6), ("focus", 1e4), ("plays", 1e4)):
        number = content.get(name)
        if type(number) not in (int, float) or not 0 <= number <= most:
            raise Refused("malformed", 400)
        checked[name] = round(number, 3)
    sound = content.get("sound")
    if sound is not None:
        if sound not in ("headphones", "speakers"):
            raise Refused("malformed", 400)
        checked["sound"] = sound
    return checked


class Answers:
    """The database, opened. All methods may be called from any thread.

    Args:
        study: the study.
        clock: seconds since 1970; tests give another.
    """

    def __init__(self, study: Study, clock: Callable[[], float] = time.time) -> None:
        self.study, self.clock = study, clock
        self._lock = threading.Lock()
        path = study.folder / ANSWERS
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
                self._db.execute(f"PRAGMA {pragma}")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise StudyError(f"{path} cannot be opened ({error}): restore it from a copy") from None

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction; when the block has ended, it is on the disk."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
            except sqlite3.OperationalError as error:  # a full disk, a disk that fails
                raise Refused("full", 507) from error

    # --- the study ---

    def check_unchanged(self) -> None:
        """Remember the folder as it is while there are no raters; afterwards compare.

        Raises:
            StudyError: a file has been changed since the first rater came.
        """
        now = self.study.fingerprint()
        with self._changing() as db:
            (raters,) = db.execute(
                "SELECT count(*) + (SELECT count(*) FROM study WHERE name = 'withdrawn') FROM raters"
            ).fetchone()
            known = db.execute("SELECT value FROM study WHERE name = 'fingerprint'").fetchone()
            if not raters or known is None:
                db.execute("INSERT OR REPLACE INTO study VALUES ('fingerprint', ?)", [json.dumps(now)])
                return
        before = json.loads(known[0])
        changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        if changed:
            names = ", ".join(changed[:5]) + " ..." * (len(changed) > 5)
            raise StudyError(
                f"{self.study.folder} was changed after the first rater came ({names}): restore it, or make a new study"
            )

    def shut(self) -> None:
        """Close the study: nobody can join or answer any more, and its results may be seen."""
        with self._changing() as db:
            db.execute("INSERT OR IGNORE INTO study VALUES ('closed', ?)", [str(self.clock())])

    @property
    def is_closed(self) -> bool:
        with self._lock:
            return self._is_closed(self._db)

    @staticmethod
    def _is_closed(db: sqlite3.Connection) -> bool:
        return db.execute("SELECT 1 FROM study WHERE name = 'closed'").fetchone() is not None

    def secret(self) -> str:
        """The secret of the experimenter's page."""
        with self._changing() as db:
            db.execute("INSERT OR IGNORE INTO study VALUES ('secret', ?)", [secrets.token_hex(16)])
            return db.execute("SELECT value FROM study WHERE name = 'secret'").fetchone()[0]

    def progress(self) -> dict[str, int]:
        """All that the experimenter sees before the study is closed: numbers of raters and answers, nothing about systems."""
        design, total = self.study.design, self.study.design.trials + self.study.design.catch
        with self._lock:
            one = lambda query, *values: self._db.execute(query, values).fetchone()[0]  # noqa: E731
            finished = "SELECT count(*) FROM (SELECT rater FROM answers WHERE position >= 0 GROUP BY rater HAVING count(*) >= ?)"
            withdrawn = self._db.execute("SELECT value FROM study WHERE name = 'withdrawn'").fetchone()
            return {
                "wanted": design.raters,
                "joined": one("SELECT count(*) FROM raters"),
                "finished": one(finished, total),
                "withdrawn": int(withdrawn[0]) if withdrawn else 0,
                "answers": one("SELECT count(*) FROM answers WHERE position >= 0"),
            }

    # --- raters ---

    @property
    def refuses(self) -> str | None:
        """Why nobody new can take part: the study is "closed", or "complete" since enough do; None if there is a place."""
        with self._lock:
            return self._refuses(self._db)

    def _refuses(self, db: sqlite3.Connection) -> str | None:
        if self._is_closed(db):
            return "closed"
        joined = db.execute("SELECT count(*) FROM raters").fetchone()[0]
        return "complete" if joined >= self.study.design.raters else None

    def join(self, secret: str, language: str, experience: str) -> None:
        """Take a rater in, who gave consent. `secret` is drawn by his browser; the same one again is the same rater."""
        design = self.study.design
        if language not in design.languages or experience not in EXPERIENCE:
            raise Refused("malformed", 400)
        with self._changing() as db:
            if db.execute("SELECT 1 FROM raters WHERE secret = ?", [_digest(secret)]).fetchone():
                return
            if reason := self._refuses(db):
                raise Refused(reason, 403)
            taken = {number for (number,) in db.execute("SELECT number FROM raters")}
            number = next(
                number for number in range(design.raters) if number not in taken
            )  # of one who withdrew, if any
            values = [_digest(secret), number, language, experience, self.clock()]
            rater = db.execute(
                "INSERT INTO raters (secret, number, language, experience, joined) VALUES (?, ?, ?, ?, ?)", values
            ).lastrowid
            rows = [(rater, PRACTICE_POSITION, json.dumps(self.study.practice().clips), 0)]
            for position, trial in enumerate(self.study.trials(number)):
                rows.append((rater, position, json.dumps(trial.clips), int(trial.catch)))
            db.executemany("INSERT INTO trials VALUES (?, ?, ?, ?)", rows)

    def withdraw(self, secret: str) -> None:
        """Delete a rater and everything that he answered; only the number of those who withdrew is kept."""
        with self._changing() as db:
            rater = self._rater(db, secret)
            db.execute("DELETE FROM raters WHERE id = ?", [rater])
            db.execute(
                "INSERT INTO study VALUES ('withdrawn', 1) ON CONFLICT (name) DO UPDATE SET value = CAST(value AS INTEGER) + 1"
            )
        with self._lock:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log would still hold the deleted rows

    @staticmethod
    def _rater(db: sqlite3.Connection, secret: str) -> int:
        row = db.execute("SELECT id FROM raters WHERE secret = ?", [_digest(secret)]).fetchone()
        if row is None:
            raise Refused("unknown", 404)
        return row[0]

    # --- trials ---

    def next(self, secret: str) -> Shown:
        """What the rater is to see now, with a new ticket. A ticket of another tab is worthless from now on."""
        with self._changing() as db:
            rater = self._rater(db, secret)
            total = db.execute("SELECT count(*) FROM trials WHERE rater = ? AND position >= 0", [rater]).fetchone()[0]
            row = db.execute(
                "SELECT position, clips, catch FROM trials WHERE rater = ?1 AND position NOT IN "
                "(SELECT position FROM answers WHERE rater = ?1) ORDER BY position LIMIT 1",
                [rater],
            ).fetchone()
            if row is None:
                return Shown("done", total, total)
            if self._is_closed(db):
                return Shown("closed", row[0], total)
            ticket = secrets.token_hex(16)
            db.execute("INSERT OR REPLACE INTO tickets VALUES (?, ?, ?, ?)", [rater, ticket, row[0], self.clock()])
            return Shown("trial", row[0], total, ticket, Trial(tuple(json.loads(row[1])), bool(row[2])))

    def clip(self, ticket: str, side: int) -> int:
        """The clip on a side of what is shown under a ticket."""
        with self._lock:
            row = self._db.execute(
                "SELECT clips FROM tickets JOIN trials USING (rater, position) WHERE ticket = ?", [ticket]
            ).fetchone()
        clips = json.loads(row[0]) if row else []
        if not 0 <= side < len(clips):
            raise Refused("unknown", 404)
        return clips[side]

    def answer(self, secret: str, ticket: str, content: Any) -> None:
        """Take an answer. It is on the disk when this returns.

        Raises:
            Refused: no such rater; a ticket of another tab or rater, or made up ("stale"); given before the clips can have been played
                to their end ("early"); the study is closed; content that no page sends.
        """
        checked = check_content(content, self.study.design)
        text = json.dumps(checked)
        with self._changing() as db:
            rater = self._rater(db, secret)
            known = db.execute("SELECT content FROM answers WHERE rater = ? AND ticket = ?", [rater, ticket]).fetchone()
            if known is not None:
                if known[0] == text:  # the acknowledgement was lost on its way
                    return
                raise Refused("answered", 409)
            if self._is_closed(db):
                raise Refused("closed", 403)
            shown = db.execute(
                "SELECT position, shown, clips FROM tickets JOIN trials USING (rater, position) WHERE rater = ? AND ticket = ?",
                [rater, ticket],
            ).fetchone()
            if shown is None:
                raise Refused("stale", 409)
            position, when, clips = shown
            now = self.clock()
            if now - when < len(json.loads(clips)) * self.study.design.seconds - SLACK_SECONDS:
                raise Refused("early", 409)
            db.execute(
                "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?)", [rater, position, ticket, text, now - when, now]
            )
            db.execute("DELETE FROM tickets WHERE rater = ?", [rater])

    # --- results ---

    def results(self) -> tuple[list[dict[str, Any]], list[Answer]]:
        """Raters (`rater`, `language`, `experience`) and their answers, without practice.

        Raises:
            StudyError: the study is not closed yet.
        """
        if not self.is_closed:
            raise StudyError(
                f"the study is still open, and looking at results early spoils it: `megadance study close {self.study.folder}` ends it"
            )
        with self._lock:
            raters = self._db.execute("SELECT id, language, experience FROM raters ORDER BY id").fetchall()
            rows = self._db.execute(
                "SELECT rater, position, clips, catch, content, elapsed FROM answers JOIN trials USING (rater, position) "
                "WHERE position >= 0 ORDER BY rater, position"
            ).fetchall()
        answers = [
            Answer(rater, position, Trial(tuple(json.loads(clips)), bool(catch)), json.loads(content), elapsed)
            for rater, position, clips, catch, content, elapsed in rows
        ]
        return [
            {"rater": rater, "language": language, "experience": experience} for rater, language, experience in raters
        ], answers


def _digest(secret: str) -> str:
    """What is kept of a secret: whoever reads the database cannot answer for a rater."""
    return hashlib.sha256(secret.encode()).hexdigest()
