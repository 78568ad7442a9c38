"""What the web page can do, without the page: dances to songs, their files, and how long these are kept.

    studio = Studio(pipe, "dances", Limits(song_seconds=60))
    show = studio.dance("song.mp3", "waltz", seed=0)
    for files in studio.files(show["id"]): ...

`page.py` is the page, `server.py` serves it.
"""

import io
import math
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from megadance_hf.modeling.audio_megadance import load_audio
from megadance_hf.modeling.configuration_megadance import MOTION_FPS
from megadance_hf.motion.motion import Motion
from megadance_hf.pipeline import MusicToDancePipeline
from megadance_hf.render.camera import follow_camera
from megadance_hf.render.video import render_video

from .curves import dance_curves, song_curves
from .limits import Limits

NOBODY = "nobody"  # in the list of genres for a second dancer: there is none
KEPT_SECONDS = 3600.0  # how long a song is kept after its upload, and a dance after it was made
SAFE_SECONDS = 300.0  # kept at least so long, also when the disk is full
NO_ROOM = "The server has no room for another song just now: come back in some minutes."


class DemoError(ValueError):
    """Something the visitor can put right; the message is a sentence for people who don't program."""


class Studio:
    """Makes dances and their files, each in a folder with a name that cannot be guessed.

    Attributes:
        folder: where the dances are kept for `kept_seconds`; the page serves it.
        body: who dances, "mannequin" or "smooth".
        uploads: where the uploaded songs are kept as long; None without a page.
        kept_seconds: see `KEPT_SECONDS`.
        closed: whether the server is shutting down.
    """

    def __init__(
        self,
        pipe: MusicToDancePipeline,
        folder: str | os.PathLike,
        limits: Limits | None = None,
        body: str = "mannequin",
        uploads: str | os.PathLike | None = None,
        kept_seconds: float = KEPT_SECONDS,
    ) -> None:
        self.pipe, self.folder, self.limits, self.body = pipe, Path(folder), limits or Limits(), body
        self.uploads, self.kept_seconds = None if uploads is None else Path(uploads), kept_seconds
        self.closed = False

    # --- dances --------------------------------------------------------------------------------------------------------

    def dance(
        self,
        song: str | None,
        genre: str,
        beside: str | None = None,
        *,
        seed: int | None = None,
        temperature: float | None = None,
        mode: str | None = None,
        start: float | None = None,
        seconds: float | None = None,
        report: Callable[[float, str], None] = lambda share, step: None,
    ) -> dict[str, Any]:
        """One dance to a song, or two of different genres side by side.

        Args:
            song: path of a sound file.
            genre, beside: what the first and the second dancer dance; no second one when `beside` is None or `NOBODY`.
            seed, temperature, mode: see `MusicToDancePipeline`.
            start, seconds: excerpt of the song; from its beginning, and as long as is allowed, when None.
            report: called with the progress, from 0 to 1, and the current step in words.

        Returns:
            what the stage shows, ready for JSON: `id`, `name` (of the song), `seed`, `song` (address), `seconds`, `fps`,
            `onset`, `beats`, `tempo`, `notice` (or None), and for each of `dances`: `genre`, `glb` (address), `heading` (radians
            about Y from +Z, the dancer's at the beginning), `speed`, `meanSpeed` (m/s), `genres`. Addresses are relative to the page.

        Raises:
            DemoError, AudioError, GenreError: in words for visitors.
        """
        start = float(start or 0.0)
        seconds = self.limits.song_seconds if seconds is None else float(seconds)
        genres = [genre] + ([beside] if beside not in (None, NOBODY) else [])
        length = self._check_request(song, genres, seed, start, seconds)
        self.tidy()
        if self.is_full():
            raise DemoError(NO_ROOM)
        deadline = time.monotonic() + self.limits.compute_seconds
        report(0.02, "listening to the song")
        excerpt = {"start": start, "duration": seconds, "addresses": False}
        waveform, rate = load_audio(song, sampling_rate=None, mono=False, **excerpt)
        inputs = self.pipe.processor.feature_extractor.listen_to_excerpt(song, **excerpt)
        features, name = inputs["input_features"], Path(song).name
        seed = int.from_bytes(os.urandom(4), "little") if seed is None else int(seed)

        dances = []
        for index, each in enumerate(genres):

            def progress(done: int, total: int, index: int = index, each: str = each) -> None:
                if time.monotonic() > deadline:
                    raise DemoError(
                        f"This takes longer than {self.limits.compute_seconds:g} seconds, so it was stopped: choose a shorter "
                        "piece of the song, or the usual way of looking back."
                    )
                report(0.15 + 0.75 * (index + done / total) / len(genres), f"dancing {each}")

            options = {"seed": seed, "temperature": temperature, "mode": mode}
            dances.append(self.pipe({**inputs, "name": name}, each, **options, progress=progress))
            dances[-1].metadata["start"] = start

        report(0.92, "dressing the dancer")
        folder = self.folder / secrets.token_urlsafe(16)
        folder.mkdir(parents=True)
        try:
            (folder / "song.wav").write_bytes(_wav(waveform, rate))
            shown = [self._save(motion, folder, str(index), features) for index, motion in enumerate(dances, start=1)]
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        curves, seconds = song_curves(features[: len(dances[0])]), len(waveform) / rate
        cut = length - start - seconds > 0.1
        return {
            "id": folder.name,
            "name": name,
            "seed": seed,
            "song": f"dances/{folder.name}/song.wav",
            "seconds": seconds,
            "fps": MOTION_FPS,
            "onset": _rounded(curves["onset"]),
            "beats": _rounded(curves["beats"]),
            "tempo": curves["tempo"],
            "dances": shown,
            "notice": f"The song lasts {length:.0f} seconds; {seconds:.0f} of them are danced." if cut else None,
        }

    def _check_request(
        self, song: str | None, genres: list[str], seed: int | None, start: float, seconds: float
    ) -> float:
        """Find mistakes before anything slow; the length of the song in seconds."""
        if not song:
            raise DemoError(
                "There is no song yet: upload a sound file, or record one with the microphone, and wait until it is there."
            )
        longest = self.limits.song_seconds
        if not 1 <= seconds <= longest:
            raise DemoError(f"The dance can last from 1 to {longest:g} seconds; {seconds:g} were asked for.")
        if not 0 <= start < 86400:
            raise DemoError(f"The dance cannot begin at second {start:g} of the song: choose 0 or more.")
        if seed is not None and not 0 <= seed < 2**32:
            raise DemoError(f"The seed is {seed}: choose a whole number from 0 to {2**32 - 1}.")
        if len(set(genres)) < len(genres):
            raise DemoError(f"Both dancers would dance {genres[0]}: choose another genre for one of them.")
        length = self.pipe.processor.feature_extractor.seconds(song, addresses=False)
        if start >= length:
            raise DemoError(f"The song ends after {length:.0f} seconds: begin earlier than at {start:g}.")
        return length

    def _save(self, motion: Motion, folder: Path, name: str, features: np.ndarray) -> dict[str, Any]:
        """Write one dance as .npz and .glb; what the stage needs to know about it."""
        motion.save(folder / f"{name}.npz")
        motion.save(folder / f"{name}.glb", body=self.body)
        curves = dance_curves(self.pipe, motion, features)
        return {
            "genre": motion.genre,
            "glb": f"dances/{folder.name}/{name}.glb",
            "heading": follow_camera(motion[: math.ceil(motion.fps)]).heading,
            "speed": _rounded(curves["speed"]),
            "meanSpeed": float(curves["speed"].mean()),
            "genres": {genre: _rounded(values) for genre, values in curves["genres"].items()},
        }

    def files(self, identity: str, check: Callable[[], None] = lambda: None) -> Iterator[list[Path]]:
        """The files of a dance for downloading. Yields the list of those that are there, first all but the videos, which take
        longest, then with one video more each time. `check` is called before each video; what it raises ends the iteration.

        Raises:
            DemoError: the dance has been deleted.
        """
        folder = self.folder / Path(identity).name
        if not identity or not (folder / "song.wav").is_file():
            raise DemoError("This dance is not kept any more: make it again.")
        dances = sorted(folder.glob("*.npz"))
        for path in dances:
            if not (skeleton := path.with_suffix(".bvh")).is_file():
                Motion.load(path).save(skeleton)
        files = [path.with_suffix(suffix) for path in dances for suffix in (".glb", ".bvh", ".npz")]
        yield files
        for path in dances:
            check()
            if not (video := path.with_suffix(".mp4")).is_file():
                render_video(Motion.load(path), video, music=folder / "song.wav", body=self.body, progress=False)
            files = [*files, video]
            yield files

    # --- what is kept, and for how long --------------------------------------------------------------------------------

    def tidy(self) -> None:
        """Delete songs and dances that have been kept long enough; then, if the disk is full, the oldest."""
        now, kept = time.time(), sorted(self._kept())
        used, budget = sum(size for _, size, _ in kept), self.limits.disk_megabytes * 1e6
        for created, size, path in kept:
            age = now - created
            if age <= self.kept_seconds and (used <= budget or age < SAFE_SECONDS):
                break
            _remove(path)
            used -= size

    def is_full(self) -> bool:
        """Whether songs and dances take more of the disk than they may."""
        return sum(size for _, size, _ in self._kept()) > self.limits.disk_megabytes * 1e6

    def _kept(self) -> list[tuple[float, int, Path]]:
        """Time of creation (seconds since 1970), bytes, and path of each dance and song."""
        entries = []
        uploads = [] if self.uploads is None else (file for file in self.uploads.rglob("*") if file.is_file())
        for path in (*self.folder.glob("*"), *uploads):
            try:
                song = path / "song.wav"  # a dance's folder has another time after each video
                created = (song if song.is_file() else path).stat().st_mtime
                files = path.iterdir() if path.is_dir() else [path]
                entries.append((created, sum(file.stat().st_size for file in files), path))
            except OSError:
                continue  # it has just been deleted
        return entries


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        return
    try:
        path.unlink()
        path.parent.rmdir()  # Gradio makes a folder for each upload
    except OSError:
        pass  # it has just been deleted, or is not empty


def _wav(waveform: np.ndarray, rate: int) -> bytes:
    """The very samples that the dance was made to: an mp3 decoder may begin some milliseconds later. Every browser plays wav and
    can seek to any sample of it; in flac, seeking sometimes fails in Chromium."""
    sound = waveform if waveform.shape[1] <= 2 else waveform.mean(1, keepdims=True)
    file = io.BytesIO()
    soundfile.write(file, np.clip(sound, -1, 1), rate, subtype="PCM_16", format="WAV")
    return file.getvalue()


def _rounded(values: np.ndarray) -> list[float]:
    return np.round(np.asarray(values, dtype=np.float64), 3).tolist()
