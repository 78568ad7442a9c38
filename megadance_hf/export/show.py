"""A dance in a notebook: the stage of the web page as one piece of HTML, with everything in it, the sound too.

    dance = pipe("song.mp3", genre="waltz")
    dance                                     # the last line of a cell: the dancer, to play, turn and jump
    dance.show(music="song.mp3", body="smooth")

It asks nothing of any server and runs in a frame of its own, which cannot reach the page around it.
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

# What draws and exports is imported when it is needed: the pipeline notes its songs here, and should not wait for it.

WEB = Path(__file__).parent / "web"
RATE = 22050  # Hz of the sound in the page: a minute takes 3.5 MB
LONGEST = 60.0  # seconds that the last line of a cell shows; they are kept in the notebook's file
HEIGHT = 540  # of the frame, in pixels

# The song that a dance was made to, for as long as both are there; see `remember`.
_songs: weakref.WeakKeyDictionary[Motion, tuple[Any, float]] = weakref.WeakKeyDictionary()


def remember(motion: Motion, song: Any, start: float) -> None:
    """Note what a dance was made to, so that it can be heard. Nothing is kept in memory for it: of a file its path, of an array only
    for as long as somebody else has it."""
    if isinstance(song, str | os.PathLike):
        _songs[motion] = (Path(song), start)
    elif isinstance(song, tuple) and len(song) == 2 and isinstance(song[0], np.ndarray) and np.ndim(song[1]) == 0:
        _songs[motion] = ((weakref.ref(song[0]), song[1]), start)


def song_of(motion: Motion) -> tuple[Any, float] | None:
    """The song and the second of it that the dance begins at, where both are known and still there."""
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
    """A whole HTML page with the dancer in 3D, that needs nothing beside itself.

    Args:
        music: a file (path or bytes), or (waveform, rate), as for a video; silence when None.
        music_start: seconds of the song that belong to frame 0.
        body: "mannequin" or "smooth".
        notice: a line of text below.

    Raises:
        MotionError, AudioError, RenderError: the body or the song cannot be used.
    """
    from megadance_hf.render.camera import follow_camera

    from .gltf import save_glb

    with scratch() as folder:
        figure = save_glb(motion, folder / "dance.glb", body).read_bytes()
    what = {
        "seconds": motion.seconds,
        "song": None if music is None else _encoded(_sound(motion, music, music_start)),
        "dances": [
            {
                "genre": motion.genre or "",
                "glb": _encoded(figure),
                "heading": follow_camera(motion[: math.ceil(motion.fps)]).heading,
            }
        ],
    }
    parts = {
        "TITLE": html.escape(f"A dance of {motion.seconds:.1f} seconds"),
        "STYLE": (WEB / "stage.css").read_text(encoding="utf-8"),
        "SCRIPT": _script(),
        # so that no text of the dance ends the script
        "SHOW": json.dumps(what).replace("<", "\\u003c"),
        "NOTICE": html.escape(notice),
    }
    return re.sub("@([A-Z]+)@", lambda match: parts[match[1]], _PAGE)


def frame(page: str) -> str:
    """A page as an element of another one, shut off from it: its scripts run, and can do nothing outside."""
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
        music: what is heard, see `stage_page`; when None the song that the pipeline danced to, if that is still where it was.
        music_start: seconds of `music` that belong to frame 0; when None 0, or where the pipeline began.
        body: "mannequin" or "smooth".
        seconds: how much of the dance; all of it when None.
    """
    page = stage_page(*_heard(motion, music, music_start, seconds), body, _notice(motion, seconds))
    if in_notebook():
        from IPython.display import HTML, display

        display(HTML(frame(page)))
        return
    with tempfile.NamedTemporaryFile("w", suffix=".html", prefix="dance-", delete=False, encoding="utf-8") as file:
        file.write(page)
    print(f"the dance is in {file.name}")
    webbrowser.open(Path(file.name).as_uri())


def representation(motion: Motion) -> str:
    """What a notebook shows where a dance is the last line of a cell: HTML. Without sound where that cannot be had."""
    notice = _notice(motion, LONGEST)
    try:
        return frame(stage_page(*_heard(motion, None, None, LONGEST), notice=notice))
    except (ValueError, OSError):  # the song's file is another one by now
        return frame(stage_page(_cut(motion, LONGEST), notice=f"{notice} Its song cannot be read any more.".strip()))


def in_notebook() -> bool:
    """Whether this runs where HTML is shown."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is not None


def _heard(motion: Motion, music: Any, start: float | None, seconds: float | None) -> tuple[Motion, Any, float]:
    """What is shown, its music, and where that begins."""
    if music is None and (known := song_of(motion)) is not None:
        music, start = known[0], known[1] if start is None else start
    return _cut(motion, seconds), music, start or 0.0


def _cut(motion: Motion, seconds: float | None) -> Motion:
    if seconds is None:
        return motion
    if not (isinstance(seconds, int | float | np.number) and seconds > 0):
        raise ValueError(f"seconds={seconds!r}: give a number above 0")
    return motion if seconds >= motion.seconds else motion[: max(1, round(seconds * motion.fps))]


def _notice(motion: Motion, seconds: float | None) -> str:
    if seconds is None or seconds >= motion.seconds:
        return ""
    return f"The first {seconds:g} of {motion.seconds:.1f} seconds; show() has all of them."


def _sound(motion: Motion, music: Any, start: float) -> bytes:
    """The piece of the song that belongs to a dance, as a .wav: no decoder's delay, frame 0 is sample 0."""
    import soundfile
    import soxr

    from megadance_hf.render.video import cut_music

    waveform, rate = cut_music(music, start, Fraction(len(motion)) / Fraction(motion.fps).limit_denominator(1001))
    mono = waveform.mean(0)
    if rate != RATE:
        mono = soxr.resample(mono, rate, RATE)
    file = io.BytesIO()
    soundfile.write(file, np.clip(mono, -1, 1), RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _script() -> str:
    """The stage's modules as one script: a page without a server has no addresses to import from."""
    library, count = re.subn(
        r"export\s*\{([^{}]*)\};?\s*$",
        lambda match: "return {" + re.sub(r"([\w$]+) as ([\w$]+)", r"\2: \1", match[1]) + "};",
        (WEB / "three.js").read_text(encoding="utf-8"),
    )
    stage, taken = re.subn(
        r'import (\{[^{}]*\}) from "\./three\.js";',
        r"const \1 = three;",
        (WEB / "stage.js").read_text(encoding="utf-8"),
    )
    if count != 1 or taken != 1:
        raise RuntimeError("web/three.js or web/stage.js is not written as expected: see web/README.md")
    stage = re.sub(r"^export ", "", stage, flags=re.MULTILINE)
    return f"const three = (() => {{ {library} }})();\n{stage}"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>@TITLE@</title>
<style>
:root { --body-text-color: #1f2733; font: 14px system-ui, sans-serif; background: #fff; }
body { margin: 0; }
@STYLE@
.megadance-stage .view { height: calc(100vh - 7.5rem); min-height: 12rem; }
#notice { margin: .4rem 0 0; color: #4a5361; }
</style>
</head>
<body>
<div id="stage"></div>
<p id="notice">@NOTICE@</p>
<script type="module">
@SCRIPT@

const show = @SHOW@;

function address(encoded, type) {
  const bytes = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
  return URL.createObjectURL(new Blob([bytes], { type }));
}

/** The stage moves by the clock of a sound; where there is none, by that of silence. */
function silence(seconds) {
  const rate = 8000, samples = Math.ceil(seconds * rate), wav = new DataView(new ArrayBuffer(44 + samples));
  const text = (at, letters) => [...letters].forEach((letter, i) => wav.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF"); wav.setUint32(4, 36 + samples, true); text(8, "WAVEfmt "); wav.setUint32(16, 16, true);
  wav.setUint16(20, 1, true); wav.setUint16(22, 1, true); wav.setUint32(24, rate, true); wav.setUint32(28, rate, true);
  wav.setUint16(32, 1, true); wav.setUint16(34, 8, true); text(36, "data"); wav.setUint32(40, samples, true);
  new Uint8Array(wav.buffer, 44).fill(128);
  return URL.createObjectURL(new Blob([wav], { type: "audio/wav" }));
}

const stage = new Stage(document.getElementById("stage"));
window.megadanceStage = stage;
if (show.song === null) document.querySelector(".loudness").remove();
show.song = show.song === null ? silence(show.seconds) : address(show.song, "audio/wav");
for (const dance of show.dances) dance.glb = address(dance.glb, "model/gltf-binary");
stage.show(show);
</script>
</body>
</html>
"""
