"""What the web page can do, without the page: listen to songs, dance to them, dance passages anew, save and open, gather files.

    studio = Studio(pipe, "folder", Limits(song_seconds=60))
    song = studio.listen(file, "my.mp3", visitor)
    take = studio.dance(visitor, song.id, read_wish({"plan": [["waltz", 0]], "seconds": 20}, ...), job)
    takes = studio.redo(visitor, read_redo({"take": take["id"], "start": 4, "end": 8, "show": 3}, ...), job)

A take is one dance, or two side by side, to an excerpt of a song; what is changed makes a new take, which knows its parent. Songs and
takes belong to the visitor who made them, and their names cannot be guessed. `jobs.py` does one thing after the other, `server.py` has
the addresses.
"""

from __future__ import annotations

import hashlib
import math
import os
import secrets
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE, MOTION_FPS
from megadance_hf.modeling.files_megadance import scratch
from megadance_hf.modeling.holds_megadance import held_seconds
from megadance_hf.modeling.kinematics_megadance import BODY_PARTS
from megadance_hf.modeling.plans_megadance import first_codes
from megadance_hf.modeling.words_megadance import read_prompt
from megadance_hf.motion.motion import Motion
from megadance_hf.pipeline import MusicToDancePipeline
from megadance_hf.render.camera import follow_camera
from megadance_hf.render.video import render_video

from .curves import dance_curves, song_curves
from .jobs import GONE, DemoError
from .keeping import NEAR, Passage, free_passages
from .limits import Limits
from .packing import pack, plain_name
from .poses import Held, capital, check_held, read_pose_file, write_poses
from .reports import PREVIEW, Deadline, Preview, Report
from .requests import DAMAGED, PROJECT_VERSION, Project, Range, Redo, Wish, read_project, write_motion
from .songs import Song, listen, rounded

KEPT_SECONDS = 3600.0  # how long a song is kept after it was last danced to, and a dance after it was made
SAFE_SECONDS = 300.0  # kept at least so long, also when the disk is full
NO_ROOM = "The server has no room for another song just now: come back in some minutes."
# Seconds that a step takes per second of dance, before it has been measured.
SPEEDS = {"listening": 0.02, "dancing": 0.1, "dancing anew": 0.03, "dressing": 0.02, "drawing": 0.3, "packing": 0.02}
_DRESSED = 0.15  # share of the time that the figure's file takes; the rest is for the curves
_PREVIEW_KEPT = 60.0  # seconds that looks at the dance so far are kept
_TRIES = 4  # dances of which the likeliest is kept where poses are held: what comes before one does not foresee it
_EXCERPTS = 4  # whose music features are remembered


@dataclass
class Take:
    """One dance, or two side by side; in its folder are `1.npz`, `1.glb`, ..., `song.wav`.

    Attributes:
        wish: how it was asked for; the plan is as it was danced.
        locks: ranges that were kept from its parent.
        shown: as JSON for the page.
    """

    id: str
    visitor: str
    song: str
    folder: Path
    wish: Wish
    locks: list[dict[str, Any]]
    shown: dict[str, Any]

    def motion(self, dancer: int = 0) -> Motion:
        return Motion.load(self.folder / f"{dancer + 1}.npz")


class Studio:
    """Listens, dances, and keeps what it has made.

    Attributes:
        folder: where songs and dances are kept for `kept_seconds`.
        body: who dances, "mannequin" or "smooth".
        kept_seconds: see `KEPT_SECONDS`.
        attributes: names of the sliders that the model has.
    """

    def __init__(
        self,
        pipe: MusicToDancePipeline,
        folder: str | os.PathLike,
        limits: Limits | None = None,
        body: str = "mannequin",
        kept_seconds: float = KEPT_SECONDS,
    ) -> None:
        self.pipe, self.folder, self.limits, self.body = pipe, Path(folder), limits or Limits(), body
        self.kept_seconds = kept_seconds
        self.attributes = list(pipe.model.config.attributes)
        self.songs_folder, self.dances_folder = self.folder / "songs", self.folder / "dances"
        for place in (self.songs_folder, self.dances_folder):
            place.mkdir(parents=True, exist_ok=True)
        self._songs: dict[str, Song] = {}
        self._takes: dict[str, Take] = {}
        self._excerpts: dict[tuple[str, float, float], dict[str, Any]] = {}
        self._hearing, self._listening = threading.Lock(), threading.Lock()
        self._fingerprint: str | None = None
        self._hashing = threading.Lock()

    def options(self) -> dict[str, Any]:
        """What the page can offer."""
        limits = self.limits
        return {
            "genres": self.pipe.genres,
            "attributes": self.attributes,
            "hears_genre": self.pipe.hears_genres,
            "reads_words": True,
            "limits": {
                "song_seconds": limits.song_seconds,
                "megabytes": limits.megabytes,
                "listening_seconds": limits.listening_seconds,
            },
            "second_per_code": FRAMES_PER_CODE / MOTION_FPS,
            "fps": MOTION_FPS,
        }

    def understand(self, prompt: str) -> dict[str, Any]:
        """What words are taken for, as in `metadata["prompt"]`: `text`, `not_understood`, and what there is of `genres` (weights), `not_genres`,
        `parts` (genre, from, to), `attributes`, `timed` (attribute, level, from, to), `corrected`.

        Raises:
            DemoError: nothing of it means anything, or it asks for what the model does not know.
        """
        names = self.pipe.model.config.genres
        found = asdict(read_prompt(prompt, names))
        wanted = {*found["attributes"], *(name for name, *_ in found["timed"])}
        if not any(found[name] for name in ("genres", "not_genres", "parts", "attributes", "timed")):
            if found["not_understood"]:
                raise DemoError(
                    f"None of these words tells how to dance: name a dance ({', '.join(names)}), or say something like "
                    '"slow and wide, more turns".'
                )
        if missing := sorted(wanted - set(self.attributes)):
            words = " and ".join(name.replace("_", " ") for name in missing)
            raise DemoError(f"In words this model can be asked for dances, but not for {words}: leave that out.")
        return {"text": prompt} | {name: value for name, value in found.items() if value or name == "not_understood"}

    # --- songs -------------------------------------------------------------------------------------------------------

    def new_song_folder(self) -> Path:
        """A place for a song that is being uploaded."""
        self.tidy()
        if self.is_full():
            raise DemoError(NO_ROOM, 507)
        folder = self.songs_folder / secrets.token_urlsafe(16)
        folder.mkdir()
        return folder

    def drop(self, folder: Path) -> None:
        """Delete the folder of a song that did not come."""
        shutil.rmtree(folder, ignore_errors=True)

    def listen(self, file: str | os.PathLike, name: str, visitor: str) -> Song:
        """Read a song whose file lies in a folder of `new_song_folder`; if it cannot be read, the folder is deleted.

        Raises:
            DemoError, AudioError: in words for visitors.
        """
        file = Path(file)
        try:
            with self._listening:  # one after the other: a song takes much memory for a moment
                song = listen(self.pipe, file, name, visitor, self.limits.listening_seconds)
        except BaseException:
            self.drop(file.parent)
            raise
        self._songs[song.id] = song
        return song

    def song(self, identity: str, visitor: str) -> Song:
        """A visitor's own song, which is kept from now on as long as a new one.

        Raises:
            DemoError: the visitor has no such song.
        """
        song = self._songs.get(identity)
        if song is None or song.visitor != visitor or not song.file.is_file():
            raise DemoError("There is no song yet, or it is not kept any more: give it again.", 404)
        os.utime(song.file)
        return song

    def take(self, identity: str, visitor: str) -> Take:
        """A visitor's own take.

        Raises:
            DemoError: the visitor has no such take.
        """
        take = self._takes.get(identity)
        if take is None or take.visitor != visitor or not (take.folder / "1.npz").is_file():
            raise DemoError(GONE, 404)
        return take

    # --- dances ------------------------------------------------------------------------------------------------------

    def dance(self, visitor: str, song_id: str, wish: Wish, report: Report) -> dict[str, Any]:
        """A take of a song: as JSON for the page, see `_keep_take`.

        Raises:
            DemoError, AudioError, DirectionError: in words for visitors.
        """
        song = self.song(song_id, visitor)
        self.check(song, wish)
        parent = None if wish.keep is None else self.take(wish.keep.take, visitor)
        if parent is not None:  # to the frame
            wish = replace(wish, start=parent.wish.start, seconds=parent.wish.seconds)
        seconds = min(wish.seconds, song.seconds - wish.start)
        dancers = _dancers(wish)
        spans = [
            [seconds] if passages is None else [one.end - one.start for one in passages]
            for passages in self._passages(parent, wish)
        ]
        dancing = [("dancing", span) for own in spans for span in own]
        report.course([("listening", seconds), *dancing, *[("dressing", seconds)] * len(dancers)])
        report.begin("Listening to the song")
        inputs = self._excerpt(song, wish.start, wish.seconds)
        words = None if wish.prompt is None else self.understand(wish.prompt)
        wish, notice = self._with_plan(song, wish, parent, words)
        timed = Deadline(report, self.limits.compute_seconds)
        motions = [self._danced(parent, dancer, inputs, wish, words, timed) for dancer in dancers]
        locks = [] if wish.keep is None else [vars(one) for one in wish.keep.ranges]
        return self._keep_take(song, wish, motions, inputs, timed, parent=parent, locks=locks, notice=notice)

    def redo(self, visitor: str, wanted: Redo, report: Report) -> list[dict[str, Any]]:
        """Takes in which a passage is danced anew, the likeliest first.

        Raises:
            DemoError, DirectionError: in words for visitors.
        """
        parent = self.take(wanted.take, visitor)
        self.check_redo(parent, wanted, visitor)
        song, passage, shown = self.song(parent.song, visitor), self._between_ends(parent, wanted.passage), wanted.show
        seconds, dancers = parent.shown["seconds"], len(parent.shown["dances"])
        dressing = [("dressing", seconds)] * dancers * shown
        report.course([("dancing anew", (passage.end - passage.start) * wanted.candidates), *dressing])
        inputs = self._excerpt(song, parent.wish.start, parent.wish.seconds)
        timed = Deadline(report, self.limits.compute_seconds)
        old = [parent.motion(index) for index in range(dancers)]
        options = {"candidates": wanted.candidates, "num": shown, "seed": _seed(wanted.seed)}
        options |= self._sampling(parent.wish) | _directions(wanted.attributes, wanted.prompt)
        report.begin(f"Dancing {_passage_words(passage.part)} anew")
        made = self.pipe.redo(
            old[passage.dancer],
            inputs,
            passage.start,
            passage.end,
            passage.part,
            **options,
            progress=timed.progress,
            streamer=self._preview(len(old[0]), passage.dancer, timed),
        )
        takes = []
        try:
            for motion in made if isinstance(made, list) else [made]:
                motions = [motion if index == passage.dancer else other for index, other in enumerate(old)]
                redone = {**motion.metadata["redone"][-1], "dancer": passage.dancer}
                wish = replace(parent.wish, attributes=wanted.attributes, prompt=wanted.prompt)
                takes.append(
                    self._keep_take(song, wish, motions, inputs, timed, parent, locks=parent.locks, redone=redone)
                )
        except BaseException:
            for take in takes:
                self._drop_take(take["id"])
            raise
        return takes

    def pose(self, identity: str, visitor: str, second: float, dancer: int) -> dict[str, Any]:
        """The pose that a take has at a second, as `poses` of what is held.

        Raises:
            DemoError: the visitor has no such take, or it has no such dancer.
        """
        take = self.take(identity, visitor)
        if not 0 <= dancer < len(take.shown["dances"]):
            raise DemoError("There is no second dancer here.")
        motion = take.motion(dancer)
        frame = min(max(round(second * MOTION_FPS), 0), len(motion) - 1)
        return {"poses": write_poses(motion.poses[frame : frame + 1]), "frames": 1, "name": ""}

    def read_pose(self, content: bytes, name: str) -> dict[str, Any]:
        """A pose or a clip from a file that the visitor calls `name`, as `pose`.

        Raises:
            DemoError: it holds none.
        """
        suffix = Path(name).suffix.lower()
        with self._listening, scratch(self.folder) as folder:
            path = folder / f"pose{suffix if suffix.isascii() and suffix[1:].isalnum() else '.bin'}"
            path.write_bytes(content)
            poses = read_pose_file(path, name)
        return {"poses": write_poses(poses), "frames": len(poses), "name": name}

    def check_redo(self, parent: Take, wanted: Redo, visitor: str) -> None:
        """Find mistakes before anything slow.

        Raises:
            DemoError: there is one.
        """
        self._check_room()
        self.song(parent.song, visitor)
        self._check_words(wanted.attributes, wanted.prompt)
        if wanted.prompt is not None and _named(self.understand(wanted.prompt)):
            raise DemoError("A passage is danced anew as the dance it is: leave the names of dances out of your words.")
        if wanted.passage.dancer >= len(parent.shown["dances"]):
            raise DemoError("There is no second dancer here.")
        passage = self._between_ends(parent, wanted.passage)
        frames, code = round(parent.shown["seconds"] * MOTION_FPS), FRAMES_PER_CODE / MOTION_FPS
        first, last = round(passage.start / code), round(passage.end / code)
        for one in parent.wish.hold:
            if one.dancer == passage.dancer and any(first <= place < last for place in one.codes(frames)):
                raise DemoError(
                    f"In this passage {one} is held: take it away and dance again, or choose another passage."
                )

    @staticmethod
    def _between_ends(parent: Take, passage: Range) -> Range:
        """The passage without the first and the last code of a dance that ends where it begins.

        Raises:
            DemoError: nothing is left of it.
        """
        if not parent.wish.loop:
            return passage
        code = FRAMES_PER_CODE / MOTION_FPS
        last = math.ceil(parent.shown["seconds"] / code - NEAR) - 1
        inner = replace(passage, start=max(passage.start, code), end=min(passage.end, last * code))
        if inner.end - inner.start < code / 2:
            raise DemoError("The dance ends where it begins, so its ends stay: choose a passage between them.")
        return inner

    def check(self, song: Song, wish: Wish) -> None:
        """Find mistakes before anything slow.

        Raises:
            DemoError: there is one.
        """
        self._check_room()
        if wish.start >= song.seconds - 0.25:
            raise DemoError(f"The song ends after {song.seconds:.0f} seconds: begin earlier than at {wish.start:g}.")
        self._check_words(wish.attributes, wish.prompt)
        seconds = min(wish.seconds, song.seconds - wish.start)
        check_held(wish.hold, seconds, wish.loop)
        if wish.beside is None:
            if lost := [one for one in wish.hold if one.dancer]:
                raise DemoError(
                    f"{capital(lost[0])} needs a second dancer: choose one (the plan has to be a single dance), or take it away."
                )
            if wish.keep is not None and any(one.dancer for one in wish.keep.ranges):
                raise DemoError(
                    "Something of the second dancer is locked, and there is none: choose one (the plan has to be a single dance), or unlock it."
                )
        if wish.prompt is not None:
            words = self.understand(wish.prompt)
            if wish.plan is not None and _named(words):
                raise DemoError(
                    "Your words name dances, and the plan names some as well: take them out of one of the two."
                )
            planned = {
                name for genres, _ in wish.plan or [] for name in ([genres] if isinstance(genres, str) else genres)
            }
            if refused := sorted(planned & set(words.get("not_genres", ()))):
                raise DemoError(f"Your words say no {refused[0]}, which the plan has: take it out of one of the two.")
            if wish.keep is not None and (words.get("parts") or words.get("timed")):
                raise DemoError(
                    "While something is kept, words cannot be about a part of the song: put that on the plan."
                )
        if wish.keep is not None:
            parent = self.take(wish.keep.take, song.visitor)
            apart = (wish.start - parent.wish.start, seconds - parent.shown["seconds"])
            if song.id != parent.song or max(map(abs, apart)) > 1 / MOTION_FPS:
                raise DemoError("What is kept belongs to another piece of the song: choose that piece, or let it go.")
            if wish.loop and not parent.wish.loop:
                raise DemoError(
                    "What is locked is of a dance that does not end where it begins: unlock it, or let the new one end anywhere."
                )
            if any(one.dancer >= len(parent.shown["dances"]) for one in wish.keep.ranges):
                raise DemoError("There is no second dancer whose dance could be locked: unlock it.")
            if not any(passages is None or passages for passages in self._passages(parent, wish)):
                raise DemoError("All of the dance is kept, so there is nothing to dance anew: let something go.")

    def _check_room(self) -> None:
        self.tidy()
        if self.is_full():
            raise DemoError(NO_ROOM, 507)

    def _check_words(self, attributes: Mapping[str, Any], prompt: str | None) -> None:
        if prompt is not None:
            self.understand(prompt)
        if attributes and not self.attributes:
            raise DemoError("This model knows no sliders: leave them as they are.")

    def _with_plan(
        self, song: Song, wish: Wish, parent: Take | None, words: dict[str, Any] | None
    ) -> tuple[Wish, str | None]:
        """The wish with a seed and a plan, whose changes are at bars if that is asked for, and what the visitor should know of it.
        Without a plan it is what words say, or that of the take that is kept, or the genre that was heard. Words about parts of the
        song are left to the pipeline, which knows its sections."""
        wish, notice = replace(wish, seed=_seed(wish.seed)), None
        named, unwanted = (words or {}).get("genres"), (words or {}).get("not_genres", ())
        if wish.plan is None and named and parent is not None:
            wish = replace(wish, plan=[(named if len(named) > 1 else next(iter(named)), 0.0)])
        elif wish.plan is None and parent is not None:
            wish = replace(wish, plan=parent.wish.plan)
        elif wish.plan is None and not (words and _named(words)):
            likely = [genre for genre in song.heard or self.pipe.genres if genre not in unwanted]
            if not likely:
                raise DemoError("Your words leave no dance: allow one of them.")
            genre = likely[0]
            if not song.heard and not unwanted:
                notice = f"This model cannot hear what the song is, so it dances {genre}: choose another dance if it is another."
            wish = replace(wish, plan=[(genre, 0.0)])
        if wish.plan is not None and len(wish.plan) > 1:
            bars = song.bars - wish.start
            if wish.changes == "bar" and not len(bars):
                notice = "No bars were found in this song, so the changes are where you put them."
            at_bars = [round(bar * MOTION_FPS) for bar in bars if bar >= 0] if wish.changes == "bar" else []
            codes = -(-round(min(wish.seconds, song.seconds - wish.start) * MOTION_FPS) // FRAMES_PER_CODE)
            firsts = first_codes(wish.plan, codes, FRAMES_PER_CODE, MOTION_FPS, at_bars)
            seconds = [first * FRAMES_PER_CODE / MOTION_FPS for first in firsts]
            wish = replace(wish, plan=[(genre, second) for (genre, _), second in zip(wish.plan, seconds, strict=True)])
        return wish, notice

    def _excerpt(self, song: Song, start: float, seconds: float) -> dict[str, Any]:
        """The excerpt as a song for the pipeline; the latest ones are remembered."""
        key = (song.id, start, seconds)
        with self._hearing:
            if key not in self._excerpts:
                hear = self.pipe.processor.feature_extractor.listen_to_excerpt
                inputs = hear(song.file, start, min(seconds, song.seconds - start), addresses=False)
                while len(self._excerpts) >= _EXCERPTS:
                    del self._excerpts[next(iter(self._excerpts))]
                self._excerpts[key] = {**inputs, "name": song.name}
            return self._excerpts[key]

    def _preview(self, frames: int, dancer: int, report: Deadline) -> Preview:
        return Preview(self.pipe, self.dances_folder, self.body, frames, dancer, report)

    @staticmethod
    def _sampling(wish: Wish) -> dict[str, Any]:
        return {} if wish.temperature is None else {"temperature": wish.temperature}

    def _danced(
        self,
        parent: Take | None,
        dancer: int,
        inputs: dict[str, Any],
        wish: Wish,
        words: dict[str, Any] | None,
        report: Deadline,
    ) -> Motion:
        """The dance of one of the dancers: around what is kept of it, or, where nothing is, as if there were no other."""
        own = _of_dancer(wish, dancer)
        if parent is not None and own.keep is not None:
            return self._danced_around(parent, dancer, inputs, own, words if dancer == 0 else None, report)
        options: dict[str, Any] = {"seed": own.seed, "mode": own.mode, "plan": own.plan}
        options |= self._sampling(own) | _directions(own.attributes, own.prompt)
        if own.loop:
            options["loop"] = True
        options |= _hold_options(own.hold, len(inputs["input_features"]))
        report.begin(f"Dancing {_names(own.plan)}".rstrip())
        preview = self._preview(len(inputs["input_features"]), dancer, report)
        dance = self.pipe(inputs, **options, progress=report.progress, streamer=preview)
        dance.metadata["start"] = own.start
        return dance

    def _passages(self, parent: Take | None, wish: Wish) -> list[list[Passage] | None]:
        """For each dancer what of a take is not kept, with the new poses that it meets; None where all is danced.

        Raises:
            DemoError: they cannot be held there.
        """
        own = [_of_dancer(wish, dancer) for dancer in _dancers(wish)]
        return [None if parent is None or one.keep is None else self._free_passages(parent, one) for one in own]

    @staticmethod
    def _free_passages(parent: Take, wish: Wish) -> list[Passage]:
        assert wish.keep is not None
        frames = round(parent.shown["seconds"] * MOTION_FPS)
        new = [one for one in wish.hold if one not in parent.wish.hold]
        return free_passages(frames, wish.keep.ranges, _stays(parent, wish), new, wish.loop)

    def _danced_around(
        self,
        parent: Take,
        dancer: int,
        inputs: dict[str, Any],
        wish: Wish,
        words: dict[str, Any] | None,
        report: Deadline,
    ) -> Motion:
        """One of a take's dances with its free passages danced anew, one after the other; the rest stays to the last bit."""
        motion = parent.motion(dancer)
        old = ("plan", "changes", "attributes", "prompt", "hold", "loop")
        notes = {name: value for name, value in motion.metadata.items() if name not in old}
        if wish.plan is not None:
            weights: dict[str, float] = {}
            ends = [*(second for _, second in wish.plan[1:]), parent.shown["seconds"]]
            for (genres, second), end in zip(wish.plan, ends, strict=True):
                parts = {genres: 1.0} if isinstance(genres, str) else genres
                for name, share in parts.items():
                    weights[name] = weights.get(name, 0.0) + share / sum(parts.values()) * (end - second)
            notes["genre"] = max(weights, key=lambda name: weights[name])
            if len(wish.plan) > 1 or not isinstance(wish.plan[0][0], str):
                notes["plan"] = [list(entry) for entry in wish.plan]
        attributes = (words or {}).get("attributes", {}) | wish.attributes
        if attributes:
            notes["attributes"] = attributes
        notes |= self._held_notes(_stays(parent, wish), wish.loop, len(motion))  # each passage adds what it meets
        notes |= {"seed": wish.seed} | ({} if wish.mode is None else {"mode": wish.mode})
        motion = Motion(motion.poses, motion.translation, motion.fps, notes["genre"], notes)
        options = {"seed": wish.seed} | self._sampling(wish)
        for passage in self._free_passages(parent, wish):
            report.begin(f"Dancing {_names(wish.plan)} around what is kept")
            motion = self.pipe.redo(
                motion,
                inputs,
                passage.start,
                passage.end,
                passage.part,
                **options,
                **_hold_options(passage.hold, len(motion)),
                progress=report.progress,
                streamer=self._preview(len(motion), dancer, report),
            )
        return motion

    @staticmethod
    def _held_notes(hold: Sequence[Held], loop: bool, frames: int) -> dict[str, Any]:
        """What the metadata say of poses that are held, and of a loop, as the pipeline says it."""
        held = held_seconds([(one.first(frames), one.array) for one in hold], MOTION_FPS)
        return ({"hold": held} if held else {}) | ({"loop": True} if loop else {})

    def _keep_take(
        self,
        song: Song,
        wish: Wish,
        motions: list[Motion],
        inputs: dict[str, Any],
        report: Report | Deadline,
        parent: Take | None = None,
        locks: Sequence[dict[str, Any]] = (),
        redone: dict[str, Any] | None = None,
        notice: str | None = None,
    ) -> dict[str, Any]:
        """Write a take's files; what the page needs to know about it, ready for JSON.

        Returns:
            `id`, `name` (of the song), `song` (address of the excerpt's sound), `song_id`, `start`, `seconds`, `fps`, `seed`, `plan`, `heard`,
            `attributes`, `prompt`, `loop`, `understood`, `parent`, `redone`, `locks`, `log_likelihood`, `notice`, `onset`, `beats`, `bars`
            (seconds of the dance), `tempo`, and for each of `dances`: `genre`, `glb` (address), `hold` (begin and end of what is held), `heading` (radians about Y from +Z, the dancer's at the beginning), `speed`, `meanSpeed` (m/s), `genres`. Addresses
            are relative to the page.
        """
        folder = self.dances_folder / secrets.token_urlsafe(16)
        folder.mkdir(parents=True)
        try:
            sound = song.excerpt(wish.start, wish.seconds)
            try:
                os.link(sound, folder / "song.wav")
            except OSError:  # a file system without hard links
                shutil.copyfile(sound, folder / "song.wav")
            shown = [self._save(motion, folder, str(index), inputs, report) for index, motion in enumerate(motions, 1)]
            report.check()
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        first, frames = motions[0].metadata, len(motions[0])
        curves = song_curves(inputs["input_features"][:frames])
        seconds = frames / MOTION_FPS
        bars = song.bars - wish.start
        plan = [list(entry) for entry in first.get("plan") or [(motions[0].genre, 0.0)]]
        wish = replace(wish, plan=[(genre, second) for genre, second in plan], keep=None)
        take = {
            "id": folder.name,
            "name": song.name,
            "song": f"dances/{folder.name}/song.wav",
            "song_id": song.id,
            "start": wish.start,
            "seconds": seconds,
            "fps": MOTION_FPS,
            "seed": wish.seed,
            "plan": plan,
            "changes": wish.changes,
            "heard": song.heard,
            "attributes": wish.attributes,
            "prompt": wish.prompt,
            "loop": wish.loop,
            "understood": (redone or first).get("prompt") or (wish.prompt and self.understand(wish.prompt)),
            "parent": None if parent is None else parent.id,
            "redone": redone,
            "locks": list(locks),
            "log_likelihood": first.get("log_likelihood"),
            "notice": notice,
            "onset": rounded(curves["onset"]),
            "beats": rounded(curves["beats"]),
            "bars": rounded(bars[(bars >= 0) & (bars < seconds)]),
            "tempo": curves["tempo"],
            "dances": shown,
        }
        self._takes[folder.name] = Take(folder.name, song.visitor, song.id, folder, wish, list(locks), take)
        return take

    def _drop_take(self, identity: str) -> None:
        take = self._takes.pop(identity, None)
        if take is not None:
            shutil.rmtree(take.folder, ignore_errors=True)

    def _save(self, motion: Motion, folder: Path, name: str, inputs: dict[str, Any], report: Report) -> dict[str, Any]:
        """Write one dance as .npz and .glb; what the stage needs to know about it."""
        report.begin("Dressing the dancer")
        motion.save(folder / f"{name}.npz")
        motion.save(folder / f"{name}.glb", body=self.body)
        curves = dance_curves(
            self.pipe, motion, inputs["input_features"], lambda share: report.at(_DRESSED + (1 - _DRESSED) * share)
        )
        return {
            "genre": motion.genre,
            "glb": f"dances/{folder.name}/{name}.glb",
            "hold": motion.metadata.get("hold", []),
            "heading": follow_camera(motion[: math.ceil(motion.fps)]).heading,
            "speed": rounded(curves["speed"]),
            "meanSpeed": float(curves["speed"].mean()),
            "genres": {genre: rounded(values) for genre, values in curves["genres"].items()},
        }

    # --- saving and opening ------------------------------------------------------------------------------------------

    def project(self, identity: str, visitor: str) -> dict[str, Any]:
        """A take as JSON to be saved, without its song: what `read_project` reads.

        Raises:
            DemoError: the visitor has no such take, or its song is not there any more.
        """
        take = self.take(identity, visitor)
        song, wish = self.song(take.song, visitor), take.wish
        dances = []
        for dancer in range(len(take.shown["dances"])):
            motion = take.motion(dancer)
            codes = motion.metadata["codes"]
            cleaned = motion.metadata.get("clean_up") or {}
            stands = [bool(cleaned.get(name)) for name in ("entrance", "ending")]
            decoded, _ = self._decoded(codes, len(motion), self._excerpt(song, wish.start, wish.seconds), stands)
            same = np.array_equal(decoded[0], motion.poses) and np.array_equal(decoded[1], motion.translation)
            dances.append(
                {
                    "genre": motion.genre,
                    "codes": codes,
                    # what was danced anew is joined to the rest, which the codes do not say
                    "motion": None if same else write_motion(motion.poses, motion.translation),
                    "redone": motion.metadata.get("redone", []),
                    "stands": stands,
                }
            )
        return {
            "megadance_project": PROJECT_VERSION,
            "model": self.fingerprint(),
            "song": {"name": song.name, "seconds": song.seconds, "sha256": song.sha256},
            "start": wish.start,
            "seconds": take.shown["seconds"],
            "frames": len(motion),
            "plan": take.shown["plan"],
            "changes": wish.changes,
            "seed": wish.seed,
            "temperature": wish.temperature,
            "mode": take.motion().metadata.get("mode"),
            "attributes": wish.attributes,
            "asked": take.motion().metadata.get("attributes"),  # by sliders and in words
            "prompt": wish.prompt,
            "loop": wish.loop,
            "hold": [asdict(one) for one in wish.hold],
            "locks": take.locks,
            **dances[0],
            "beside": wish.beside,
            "beside_dance": dances[1] if len(dances) > 1 else None,
        }

    def read_project(self, given: Any, song: Song) -> Project:
        """A saved project of this model and this song, from JSON.

        Raises:
            DemoError: it is none.
        """
        tokenizer = self.pipe.tokenizer.config
        sizes = {"fps": MOTION_FPS, "frames_per_code": FRAMES_PER_CODE, "codebook_size": tokenizer.codebook_size}
        names = (self.pipe.genres, self.attributes)
        project = read_project(given, *names, self.limits, model=self.fingerprint(), **sizes)
        if project.sha256 != song.sha256:
            raise DemoError(f"This dance was saved to the song {project.name!r}: give that file, and open it again.")
        if project.wish.start + project.wish.seconds > song.seconds + 1:
            raise DemoError(DAMAGED)
        return project

    def open(self, song: Song, project: Project, report: Report) -> dict[str, Any]:
        """The take of a project, from its codes.

        Raises:
            DemoError, AudioError: in words for visitors.
        """
        self._check_room()
        wish, seconds = project.wish, project.wish.seconds
        report.course([("listening", seconds), *[("dressing", seconds)] * len(project.dancers)])
        report.begin("Opening the dance")
        inputs = self._excerpt(song, wish.start, wish.seconds)
        if len(inputs["input_features"]) != project.frames:
            raise DemoError(DAMAGED)
        motions = []
        for index, dancer in enumerate(project.dancers):
            arrays, notes = self._decoded(dancer.codes, project.frames, inputs, dancer.stands)
            notes |= {"genre": dancer.genre, "model": Path(self.pipe.model.name_or_path).name, "song": song.name}
            notes |= {"start": wish.start, "seed": wish.seed, "mode": wish.mode or "paper", "codes": dancer.codes}
            if project.asked and index == 0:
                notes["attributes"] = project.asked
            if dancer.redone:
                notes["redone"] = dancer.redone
            notes |= self._held_notes(_of_dancer(wish, index).hold, wish.loop, project.frames)
            if index == 0 and wish.plan and (len(wish.plan) > 1 or not isinstance(wish.plan[0][0], str)):
                notes["plan"] = [list(entry) for entry in wish.plan]
            motions.append(Motion(*(dancer.motion or arrays), MOTION_FPS, dancer.genre, notes))
        return self._keep_take(song, wish, motions, inputs, report, locks=project.locks)

    def _decoded(
        self, codes: Mapping[str, list[int]], frames: int, inputs: Mapping[str, Any], stands: Sequence[bool]
    ) -> tuple[tuple[np.ndarray, np.ndarray], dict[str, Any]]:
        """The poses and the path of codes, as the pipeline makes them where nothing is held, and what the clean-up says; `stands`: whether
        the dancer leaves a standing position, and comes to one, where the song begins and ends."""
        streams = tuple(torch.tensor([codes[part]]) for part in BODY_PARTS)
        ends = {name: bool(inputs[name]) and stand for name, stand in zip(("begins", "ends"), stands, strict=True)}
        (dance,) = self.pipe.processor.post_process_motion(streams, self.pipe.tokenizer, frames, **ends)
        return (dance["poses"], dance["translation"]), dance["metadata"]

    def fingerprint(self) -> str:
        """A digest of the model: codes mean something to the model that made them only."""
        with self._hashing:
            if self._fingerprint is None:
                digest = hashlib.sha256()
                for part in (self.pipe.tokenizer, self.pipe.model):
                    for name, weights in part.state_dict().items():
                        digest.update(f"{name} {tuple(weights.shape)} {weights.dtype}".encode())
                        digest.update(weights.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
                self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def download_name(self, take_id: str) -> str:
        """What a take's files are called, without suffix: song, genres, seed."""
        take = self._takes.get(take_id)
        if take is None:
            return "dance"
        genres = [dance["genre"] for dance in take.shown["dances"]]
        return "-".join(map(plain_name, (Path(take.shown["name"]).stem, *genres, str(take.wish.seed))))

    def export(self, visitor: str, take_id: str, video: bool, report: Report) -> str:
        """Everything of a take as one zip; its address. Videos that have been drawn are kept.

        Raises:
            DemoError: in words for visitors.
        """
        take = self.take(take_id, visitor)
        self._check_room()
        seconds, dances = take.shown["seconds"], take.shown["dances"]
        motions = [take.motion(dancer) for dancer in range(len(dances))]
        videos = [take.folder / f"{number}.mp4" for number in range(1, len(dances) + 1)] if video else []
        missing = [path for path in videos if not path.is_file()]
        report.course([*[("drawing", seconds)] * len(missing), *[("packing", seconds)] * len(dances)])
        for path in missing:
            report.begin("Drawing the video")
            render_video(
                motions[videos.index(path)],
                path,
                music=take.folder / "song.wav",
                body=self.body,
                progress=lambda done, total: report.at(done / total),
            )
        target = take.folder / ("megadance-video.zip" if video else "megadance.zip")
        about = {"name": take.shown["name"], "start": take.wish.start, "loop": take.wish.loop}
        project, name = self.project(take_id, visitor), self.download_name(take_id)
        pack(target, name, motions, take.folder / "song.wav", videos, project, about, self.body, report)
        return f"dances/{take.id}/{target.name}"

    # --- what is kept, and for how long --------------------------------------------------------------------------------

    def tidy(self) -> None:
        """Delete songs and dances that have been kept long enough; then, if the disk is full, the oldest."""
        now = time.time()
        for path in self.dances_folder.glob(f"{PREVIEW}*"):
            with suppress(OSError):
                if now - path.stat().st_mtime > _PREVIEW_KEPT:
                    shutil.rmtree(path, ignore_errors=True)
        kept = sorted(self._kept())
        used, budget = sum(size for _, size, _ in kept), self.limits.disk_megabytes * 1e6
        for used_last, size, path in kept:
            age = now - used_last
            if age <= self.kept_seconds and (used <= budget or age < SAFE_SECONDS):
                break
            shutil.rmtree(path, ignore_errors=True)
            used -= size
        for folders, known in ((self.songs_folder, self._songs), (self.dances_folder, self._takes)):
            for identity in [identity for identity in list(known) if not (folders / identity).is_dir()]:
                known.pop(identity, None)

    def is_full(self) -> bool:
        """Whether songs and dances take more of the disk than they may."""
        return sum(size for _, size, _ in self._kept()) > self.limits.disk_megabytes * 1e6

    def _kept(self) -> list[tuple[float, float, Path]]:
        """Time since 1970 of the last use of each song, and of the making of each dance; bytes, and path."""
        entries = []
        for path in (*self.songs_folder.glob("*"), *self.dances_folder.glob("*")):
            try:
                states = {file.name: file.stat() for file in path.iterdir()}
                # a folder has another time after each file that is added
                own = [state for name, state in states.items() if name.startswith("given.") or name == "1.npz"]
                changed = own[0].st_mtime if own else path.stat().st_mtime
                # what several folders share counts in part in each
                entries.append(
                    (changed, sum(state.st_size / max(state.st_nlink, 1) for state in states.values()), path)
                )
            except OSError:
                continue  # it has just been deleted
        return entries


def _named(words: Mapping[str, Any]) -> bool:
    """Whether words name dances that are wanted."""
    return bool(words.get("genres") or words.get("parts"))


def _directions(attributes: Mapping[str, Any], prompt: str | None) -> dict[str, Any]:
    """Options for the pipeline; none that is not asked for, which a model may not know."""
    return ({"attributes": dict(attributes)} if attributes else {}) | ({"prompt": prompt} if prompt else {})


def _dancers(wish: Wish) -> range:
    """The numbers of those who dance."""
    return range(1 if wish.beside is None else 2)


def _of_dancer(wish: Wish, dancer: int) -> Wish:
    """What is asked of one of the dancers. Words, sliders and the plan are for the first one; the second dances the genre `beside`."""
    keep, hold = wish.keep, tuple(one for one in wish.hold if one.dancer == dancer)
    if keep is not None:
        ranges = tuple(one for one in keep.ranges if one.dancer == dancer)
        keep = replace(keep, ranges=ranges) if ranges else None
    own = replace(wish, keep=keep, hold=hold)
    if dancer == 0 or wish.beside is None:
        return own
    return replace(own, plan=[(wish.beside, 0.0)], attributes={}, prompt=None)


def _stays(parent: Take, wish: Wish) -> list[Held]:
    """What is held by a take already, and still wanted."""
    return [one for one in wish.hold if one in parent.wish.hold]


def _hold_options(hold: Sequence[Held], frames: int) -> dict[str, Any]:
    """Options for the pipeline, where something is held."""
    if not hold:
        return {}
    return {"hold": {one.first(frames) / MOTION_FPS: one.array for one in hold}, "candidates": _TRIES}


def _seed(seed: int | None) -> int:
    """A seed, drawn where there is none."""
    return int.from_bytes(os.urandom(4), "little") if seed is None else seed


def _passage_words(part: str) -> str:
    return "the passage" if part == "all" else f"the {part} body of the passage"


def _names(plan: Any) -> str:
    """The genres of a plan in words: "waltz, then rumba and tango"."""
    names = [genre if isinstance(genre, str) else " and ".join(genre) for genre, _ in plan or []]
    return ", then ".join(names[:4]) + (", ..." if len(names) > 4 else "")
