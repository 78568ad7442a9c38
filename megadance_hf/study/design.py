"""What a study asks whom: `study.yaml`, and the order in which a rater sees the clips.

A study is a folder:

    study.yaml        what is fixed before it begins: questions, raters, clips a rater, rules of exclusion, seed
    key.json          which clip is whose; the server reads it and shows it to nobody
    videos/           clips under random names, all of the same size and date
    page/             what raters see; its texts can be edited until the first rater has come
    answers.sqlite    answers of raters (`answers.py`)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from megadance_hf.modeling.errors_megadance import reading, short

SETTINGS, KEY, VIDEOS, PAGE, ANSWERS = "study.yaml", "key.json", "videos", "page", "answers.sqlite"
QUESTIONS = ("DQ", "DS", "DC")  # quality, synchronization, creativity: the order of table 1
MODES = ("ratings", "pairs")
SCALE = 5  # Terrible, Bad, Fair, Good, Great
# The distortions of catch trials, and the questions in which a clip has to lose by each.
DISTORTIONS: dict[str, tuple[str, ...]] = {
    "jitter": ("DQ",),
    "shift": ("DS",),
    "frozen": ("DQ", "DS", "DC"),
    "slide": ("DQ",),
}
PRACTICE = "practice"
_VERSION = 1


class StudyError(ValueError):
    """A study cannot be made, served or reported; the message is one line with the remedy."""


@dataclass
class Exclusions:
    """Whose answers do not count. Fixed before a study begins.

    Attributes:
        catch_margin: mean rating of a rater's undistorted reference clips minus that of the distorted ones, in points; below it the
            rater is excluded. As the paper's section A.3, which names no margin. (ratings)
        catch_share: share of catch trials in which the undistorted clip is preferred; below it the rater is excluded. (pairs)
        fastest_seconds: an answer sooner than this after the end of the clip is too fast.
        fast_share: share of answers that may be too fast; above it the rater is excluded.
        played_share: part of a clip that has to be played, or else the answer does not count.
        unplayed_share: share of answers that may not count for that reason; above it the rater is excluded.
    """

    catch_margin: float = 1.0
    catch_share: float = 0.75
    fastest_seconds: float = 1.0
    fast_share: float = 0.25
    played_share: float = 0.95
    unplayed_share: float = 0.25


@dataclass
class Design:
    """`study.yaml`.

    Attributes:
        title: shown to raters.
        contact: who is responsible for the study and its data, with an address; shown to raters.
        mode: "ratings" (one clip, five points) or "pairs" (two clips of one song, which is better).
        questions: of `QUESTIONS`.
        languages: of the texts in `page/texts/`; the first is the default.
        seconds: length of every clip.
        raters: how many can take part.
        trials: clips, or pairs, that each rater is asked about, without catch trials.
        catch: catch trials of each rater.
        systems: in the order of the table.
        reference: the system that the catch trials distort, usually ground truth.
        songs: their names.
        exclusions: who does not count.
        seed: of orders and sides.
    """

    title: str
    contact: str
    systems: list[str]
    reference: str
    songs: list[str]
    mode: str = "ratings"
    questions: list[str] = field(default_factory=lambda: list(QUESTIONS))
    languages: list[str] = field(default_factory=lambda: ["en", "zh", "de"])
    seconds: float = 34.0
    raters: int = 30
    trials: int = 40
    catch: int = 4
    exclusions: Exclusions = field(default_factory=Exclusions)
    seed: int = 0

    def __post_init__(self) -> None:
        def check(name: str, good: bool, remedy: str) -> None:
            if not good:
                raise StudyError(f"{name}={short(getattr(self, name))!r}: {remedy}")

        def names(value: Any) -> bool:
            good = isinstance(value, list) and all(isinstance(one, str) and one.strip() for one in value)
            return good and len(set(value)) == len(value)

        def whole(value: Any, lowest: int, highest: int) -> bool:
            return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest

        if isinstance(self.exclusions, dict):
            self.exclusions = _filled(Exclusions, self.exclusions, "exclusions")
        for name in ("title", "contact", "reference"):
            check(name, isinstance(getattr(self, name), str), "give a text")
        check("systems", names(self.systems) and len(self.systems) > 1, "give two or more different names")
        check("songs", names(self.songs) and len(self.songs) > 1, "give two or more different songs")
        check("reference", self.reference in self.systems, f"give one of the systems {', '.join(self.systems)}")
        check("mode", self.mode in MODES, f"give one of {', '.join(MODES)}")
        known = names(self.questions) and self.questions and set(self.questions) <= set(QUESTIONS)
        check("questions", bool(known), f"give some of {', '.join(QUESTIONS)}")
        check("languages", names(self.languages) and bool(self.languages), "give one or more languages, such as [en]")
        seconds = isinstance(self.seconds, int | float) and 0.5 <= self.seconds <= 600
        check("seconds", seconds, "give a number of seconds from 0.5 to 600")
        check("raters", whole(self.raters, 1, 100_000), "give a whole number from 1 to 100000")
        most = len(self.songs) * len(self.conditions)
        remedy = f"give a whole number from 1 to {most}, songs x {'pairs of ' * (self.mode == 'pairs')}systems"
        check("trials", whole(self.trials, 1, most), remedy)
        check("catch", whole(self.catch, 0, self.trials), f"give a whole number from 0 to {self.trials}, trials")
        check("seed", whole(self.seed, 0, 2**63), "give a whole number, 0 or more")
        for one in fields(Exclusions):
            value = getattr(self.exclusions, one.name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1000:
                raise StudyError(f"exclusions.{one.name}={value!r}: give a number, 0 or more")

    @property
    def conditions(self) -> list[tuple[int, ...]]:
        """What can be asked about a song: a system, or two of them."""
        count = range(len(self.systems))
        return list(combinations(count, 2)) if self.mode == "pairs" else [(system,) for system in count]

    def save(self, folder: Path) -> None:
        import yaml

        text = yaml.safe_dump({"version": _VERSION, **asdict(self)}, sort_keys=False, allow_unicode=True)
        (folder / SETTINGS).write_text(
            "# Fixed when the first rater has come; docs/study.md explains each line.\n" + text, encoding="utf-8"
        )


def _filled(kind: type, values: Any, name: str) -> Any:
    if not isinstance(values, dict):
        raise StudyError(f"{name} holds a {type(values).__name__}: give names with values")
    known = [one.name for one in fields(kind)]
    if unknown := [key for key in values if key not in known]:
        raise StudyError(f"{name}: {unknown[0]!r} is not known; there are {', '.join(known)}")
    try:
        return kind(**values)
    except TypeError as error:
        raise StudyError(f"{name}: {' '.join(str(error).split()[1:])}") from None


@dataclass(frozen=True)
class Clip:
    """One video: its file in `videos/`, indices of song and system, and how it was distorted."""

    file: str
    song: int
    system: int
    distortion: str | None = None


@dataclass(frozen=True)
class Trial:
    """What a rater sees at once: indices into the clips, left to right, and whether it is a catch trial."""

    clips: tuple[int, ...]
    catch: bool = False


class Study:
    """A study folder, opened: its design and its clips.

    Raises:
        StudyError: a file is missing or wrong.
    """

    def __init__(self, folder: Path | str) -> None:
        import yaml

        self.folder = Path(folder)
        if not (self.folder / SETTINGS).is_file():
            raise StudyError(f"{self.folder} is no study, it has no {SETTINGS}: make one with `megadance study new`")
        with reading(self.folder / SETTINGS, "mend it, or make the study again", StudyError):
            settings = yaml.safe_load((self.folder / SETTINGS).read_text(encoding="utf-8"))
            if not isinstance(settings, dict) or settings.pop("version", None) != _VERSION:
                raise ValueError(f"it is not of version {_VERSION}")
            self.design: Design = _filled(Design, settings, SETTINGS)
        with reading(self.folder / KEY, "make the study again", StudyError):
            content = json.loads((self.folder / KEY).read_text(encoding="utf-8"))
            self.clips = [Clip(**clip) for clip in content["clips"]]
        self._check()

    def _check(self) -> None:
        design = self.design
        have = {(clip.song, clip.system) for clip in self.clips if clip.distortion is None}
        for song, name in enumerate(design.songs):
            for system, label in enumerate(design.systems):
                if (song, system) not in have:
                    raise StudyError(f"{KEY} has no clip of {label} for {name}: make the study again")
        sizes = set()
        for clip in self.clips:
            path = self.folder / VIDEOS / clip.file
            if not path.is_file():
                raise StudyError(f"{path} is missing: put it back, or make the study again")
            sizes.add(path.stat().st_size)
        if len(sizes) > 1:
            raise StudyError(
                f"the files in {self.folder / VIDEOS} are not of one size, which tells them apart: make the study again"
            )
        if design.catch and not any(clip.distortion not in (None, PRACTICE) for clip in self.clips):
            raise StudyError("catch: there are no distorted clips; make the study again, or set catch to 0")
        for language in design.languages:
            self.texts(language)

    def texts(self, language: str) -> dict[str, str]:
        """What the page says in a language."""
        path = self.folder / PAGE / "texts" / f"{language}.json"
        with reading(path, "translate page/texts/en.json, or leave the language out of study.yaml", StudyError):
            texts = json.loads(path.read_text(encoding="utf-8"))
            if missing := sorted(english_texts().keys() - texts.keys()):
                raise ValueError(f"it lacks {', '.join(missing)}")
        return texts

    def practice(self) -> Trial:
        """The trial before the first one, whose answer does not count."""
        chosen = [index for index, clip in enumerate(self.clips) if clip.distortion == PRACTICE]
        return Trial(tuple(chosen[: 2 if self.design.mode == "pairs" else 1]))

    def fingerprint(self) -> dict[str, str]:
        """SHA-256 of everything that must not change once answers have been given, by file."""
        files = [self.folder / SETTINGS, self.folder / KEY]
        files += sorted(path for name in (VIDEOS, PAGE) for path in (self.folder / name).rglob("*") if path.is_file())
        found = {}
        for path in files:
            found[path.relative_to(self.folder).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def trials(self, number: int) -> list[Trial]:
        """The trials of rater `number`, who came as the number-th, from 0 on.

        Conditions (systems, or pairs) follow a Latin square: among as many raters as there are conditions, each song is seen in each
        condition equally often. Songs follow a Latin square in which each comes after each other one equally often (Williams, 1949).
        Sides of pairs are drawn. No song comes twice in a row; catch trials are spread.
        """
        design = self.design
        songs, conditions = len(design.songs), design.conditions
        clip_of = {(clip.song, clip.system): index for index, clip in enumerate(self.clips) if clip.distortion is None}
        rows = _williams(songs)
        labels = np.random.default_rng([design.seed, 1, number // songs]).permutation(songs)
        shuffled = np.random.default_rng([design.seed, 2, number // len(conditions)]).permutation(len(conditions))
        own = np.random.default_rng([design.seed, 3, number])
        order: list[tuple[int, tuple[int, ...]]] = []
        for turn in range(-(-design.trials // songs)):
            for row in range(songs):
                sequence = labels[rows[(number + turn + row) % songs]]
                if not order or sequence[0] != order[-1][0]:
                    break
            for song in sequence.tolist():
                condition = shuffled[(song + number + turn) % len(conditions)]
                order.append((song, conditions[condition]))
        order = order[: design.trials]
        trials = [
            Trial(tuple(own.permutation([clip_of[song, system] for system in systems]).tolist()))
            for song, systems in order
        ]
        return self._with_catches(trials, number, own)

    def _with_catches(self, trials: list[Trial], number: int, own: np.random.Generator) -> list[Trial]:
        design = self.design
        reference = design.systems.index(design.reference)
        plain = {(clip.song, clip.system): index for index, clip in enumerate(self.clips) if clip.distortion is None}
        distorted: dict[str, list[int]] = {}
        for index, clip in enumerate(self.clips):
            if clip.distortion not in (None, PRACTICE):
                distorted.setdefault(clip.distortion, []).append(index)
        kinds = [kind for kind in DISTORTIONS if kind in distorted]
        ends = np.linspace(0, len(trials), design.catch + 1).round().astype(int)
        shown: set[int] = set()
        result: list[Trial] = []
        for turn in range(design.catch):
            piece = trials[ends[turn] : ends[turn + 1]]
            after = trials[ends[turn + 1]] if turn + 1 < design.catch else None
            kind = kinds[(number + turn) % len(kinds)]
            # not before the first trial of its piece: catch trials are apart, and the first one is none
            choices = [(place, clip) for place in range(1, len(piece) + 1) for clip in distorted[kind]]
            own.shuffle(choices)

            def clash(
                choice: Sequence[int], piece: list[Trial] = piece, after: Trial | None = after
            ) -> tuple[int, bool]:
                place, clip = choice
                beside = [piece[place - 1], piece[place] if place < len(piece) else after]
                song = self.clips[clip].song
                return sum(one is not None and self.clips[one.clips[0]].song == song for one in beside), clip in shown

            place, clip = min(choices, key=clash)
            shown.add(clip)
            pair = (clip,)
            if design.mode == "pairs":
                pair = tuple(own.permutation([clip, plain[self.clips[clip].song, reference]]).tolist())
            result += [*piece[:place], Trial(pair, catch=True), *piece[place:]]
        return result or trials


def _williams(count: int) -> np.ndarray:
    """A Latin square (count, count) in whose rows neighbours are balanced: exactly if `count` is even, else nearly."""
    first = [0]
    for step in range(1, count):
        first.append((step + 1) // 2 if step % 2 else count - step // 2)
    return (np.array(first) + np.arange(count)[:, None]) % count


def english_texts() -> dict[str, str]:
    """The texts of this package in English: the keys that every language has to have."""
    path = Path(__file__).parent / PAGE / "texts" / "en.json"
    return json.loads(path.read_text(encoding="utf-8"))
