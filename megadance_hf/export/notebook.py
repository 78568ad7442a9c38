"""A dance in a notebook: the 3D stage of the web page as one self-contained HTML document, with its sound.

    dance = pipe("song.mp3", genre="waltz")
    dance                                     # as the last line of a cell: the dancer, to play, turn and seek
    dance.show(music="song.mp3", body="smooth")

It makes no network request, and runs in a sandboxed frame that cannot reach the page around it.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
import os
import re
import sys
import tempfile
import weakref
import webbrowser
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from megadance_hf.modeling.files_megadance import scratch
from megadance_hf.motion.motion import Motion

# Drawing and exports are imported on first use: the pipeline imports `remember` from here and should not wait for them.

WEB = Path(__file__).parent / "web"
SAMPLE_RATE = 22050  # Hz of the sound in the page: 3.5 MB per minute
MAX_CELL_SECONDS = 60.0  # what a cell's last line shows at most: it is stored in the notebook file
HEIGHT = 540  # of the frame, in pixels

# The song that a dance was generated for, for as long as both exist; see `remember`.
_songs: weakref.WeakKeyDictionary[Motion, tuple[Any, float]] = weakref.WeakKeyDictionary()


def remember(motion: Motion, song: Any, start: float) -> None:
    """Remember which song a dance was generated for, so that `show` can play it.

    It keeps nothing in memory: of a file the path, of an array a weak reference.
    """
    if isinstance(song, str | os.PathLike):
        _songs[motion] = (Path(song), start)
    elif isinstance(song, tuple) and len(song) == 2 and isinstance(song[0], np.ndarray) and np.ndim(song[1]) == 0:
        _songs[motion] = ((weakref.ref(song[0]), song[1]), start)


def song_of(motion: Motion) -> tuple[Any, float] | None:
    """The song of a dance and the position in it, in seconds, of frame 0; None where it is unknown or no longer there."""
    song, start = _songs.get(motion, (None, 0.0))
    if isinstance(song, tuple):
        waveform = song[0]()
        song = None if waveform is None else (waveform, song[1])
    elif song is not None and not song.is_file():
        song = None
    return None if song is None else (song, start)


def stage_page(
    motion: Motion, music: Any = None, music_start: float = 0.0, body: str = "mannequin", notice: str = ""
) -> str:
    """A self-contained HTML page with the dancer in 3D.

    Args:
        music: a file (path or bytes), or (waveform, rate), as for a video; silence when None.
        music_start: position in the song, in seconds, of frame 0.
        body: "mannequin" or "smooth".
        notice: a line of text below the stage.

    Raises:
        MotionError, AudioError, RenderError: the body or the song cannot be used.
    """
    from megadance_hf.render.camera import follow_camera

    from .gltf import save_glb

    with scratch() as folder:
        figure = save_glb(motion, folder / "dance.glb", body).read_bytes()
    content = {
        "seconds": motion.seconds,
        "song": None if music is None else _base64(_song_as_wav(motion, music, music_start)),
        "dances": [
            {
                "genre": motion.genre or "",
                "glb": _base64(figure),
                "heading": follow_camera(motion[: math.ceil(motion.fps)]).heading,
            }
        ],
    }
    parts = {
        "TITLE": html.escape(f"A dance of {motion.seconds:.1f} seconds"),
        "STYLE": (WEB / "stage.css").read_text(encoding="utf-8"),
        "SCRIPT": _script(),
        # escaped, so that no text of the dance ends the script
        "SHOW": json.dumps(content).replace("<", "\\u003c"),
        "NOTICE": html.escape(notice),
    }
    return re.sub("@([A-Z]+)@", lambda match: parts[match[1]], (WEB / "stage.html").read_text(encoding="utf-8"))


def iframe(page: str) -> str:
    """A page as a sandboxed element of another one: its scripts run, but cannot reach outside."""
    return (
        f'<iframe srcdoc="{html.escape(page)}" sandbox="allow-scripts" title="A dance in 3D" '
        f'style="width: 100%; max-width: 960px; height: {HEIGHT}px; border: 0"></iframe>'
    )


def show(
    motion: Motion,
    music: Any = None,
    music_start: float | None = None,
    body: str = "mannequin",
    seconds: float | None = None,
) -> None:
    """Show a dance: in a notebook below the cell, elsewhere in the browser, from a file whose name is printed.

    Args:
        music: the song, see `stage_page`; when None the one that the pipeline generated the dance for, if it still exists.
        music_start: position in `music`, in seconds, of frame 0; when None 0, or where the pipeline began.
        body: "mannequin" or "smooth".
        seconds: show only the first seconds of the dance; all of it when None.

    Raises:
        ValueError: `seconds` is not above 0, and the errors of `stage_page`.
    """
    page = stage_page(*_with_song(motion, music, music_start, seconds), body, _notice(motion, seconds))
    if in_notebook():
        from IPython.display import HTML, display

        display(HTML(iframe(page)))
        return
    with tempfile.NamedTemporaryFile("w", suffix=".html", prefix="dance-", delete=False, encoding="utf-8") as file:
        file.write(page)
    print(f"the dance is in {file.name}")
    webbrowser.open(Path(file.name).as_uri())


def notebook_html(motion: Motion) -> str:
    """The HTML that a notebook shows for a dance as the last line of a cell; silent if its song cannot be read any more."""
    notice = _notice(motion, MAX_CELL_SECONDS)
    try:
        return iframe(stage_page(*_with_song(motion, None, None, MAX_CELL_SECONDS), notice=notice))
    except (ValueError, OSError):  # the song's file has been replaced or damaged
        return iframe(
            stage_page(_excerpt(motion, MAX_CELL_SECONDS), notice=f"{notice} Its song cannot be read any more.".strip())
        )


def in_notebook() -> bool:
    """Whether this runs in a notebook, which can show HTML."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is not None


def _with_song(motion: Motion, music: Any, start: float | None, seconds: float | None) -> tuple[Motion, Any, float]:
    """The excerpt to show, its song, and the position in it of frame 0."""
    if music is None and (known := song_of(motion)) is not None:
        music, start = known[0], known[1] if start is None else start
    return _excerpt(motion, seconds), music, start or 0.0


def _excerpt(motion: Motion, seconds: float | None) -> Motion:
    if seconds is None:
        return motion
    if not (isinstance(seconds, int | float | np.number) and seconds > 0):
        raise ValueError(f"seconds={seconds!r}: give a number above 0")
    return motion if seconds >= motion.seconds else motion[: max(1, round(seconds * motion.fps))]


def _notice(motion: Motion, seconds: float | None) -> str:
    if seconds is None or seconds >= motion.seconds:
        return ""
    return f"The first {seconds:g} of {motion.seconds:.1f} seconds; show() has all of them."


def _song_as_wav(motion: Motion, music: Any, start: float) -> bytes:
    """The excerpt of the song that belongs to a dance, as mono .wav without decoder delay: frame 0 is sample 0."""
    import soundfile
    import soxr

    from megadance_hf.render.video import cut_music

    waveform, rate = cut_music(music, start, Fraction(len(motion)) / Fraction(motion.fps).limit_denominator(1001))
    mono = waveform.mean(0)
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    file = io.BytesIO()
    soundfile.write(file, np.clip(mono, -1, 1), SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _script() -> str:
    """The stage's JavaScript modules as one script: a page without a server cannot import them."""
    library, exports = re.subn(
        r"export\s*\{([^{}]*)\};?\s*$",
        lambda match: "return {" + re.sub(r"([\w$]+) as ([\w$]+)", r"\2: \1", match[1]) + "};",
        (WEB / "three.js").read_text(encoding="utf-8"),
    )
    stage, imports = re.subn(
        r'import (\{[^{}]*\}) from "\./three\.js";',
        r"const \1 = three;",
        (WEB / "stage.js").read_text(encoding="utf-8"),
    )
    if exports != 1 or imports != 1:
        raise RuntimeError("web/three.js or web/stage.js is not written as expected: see web/README.md")
    stage = re.sub(r"^export ", "", stage, flags=re.MULTILINE)
    return f"const three = (() => {{ {library} }})();\n{stage}"
