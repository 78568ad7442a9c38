"""The web page: a song in, a dancer in 3D who moves to it in the browser, files to take away.

    launch()                                # http://127.0.0.1:7860
    build_page(Studio(pipe, folder))        # the page alone, a `gradio.Blocks`

Gradio has the form, the queue and the progress. The stage with the dancer is `web/stage.js`: Gradio's own 3D viewer has no clock,
and a dance needs the song's. Everything the page loads lies in this package; nothing comes from elsewhere.

Songs and dances lie in a folder of this server alone, for an hour and within a budget. The folder goes with the server; what a
killed one left, the next one sweeps.
"""

from __future__ import annotations

import atexit
import html
import io
import json
import logging
import math
import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

# Gradio reads these when it is imported: no news of the visitors to anybody, no question whether there is a newer version.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

try:
    import gradio as gr
except ImportError as error:
    raise ImportError(f"the web page needs gradio ({error}): pip install 'megadance-hf[demo]'") from None
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from megadance_hf.export.show import WEB
from megadance_hf.modeling.audio_megadance import AudioError, load_audio
from megadance_hf.modeling.configuration_megadance import MOTION_FPS, GenreError
from megadance_hf.modeling.errors_megadance import ModelError, reason_of
from megadance_hf.modeling.files_megadance import Scratch
from megadance_hf.models import DEFAULT_MODEL
from megadance_hf.motion.motion import Motion, MotionError
from megadance_hf.pipeline import MusicToDancePipeline
from megadance_hf.render.camera import follow_camera
from megadance_hf.render.stage import RenderError
from megadance_hf.render.video import render_video

from .curves import dance_curves, song_curves

logger = logging.getLogger(__name__)

FEW = 6  # so many genres are shown all at once
NOBODY = "nobody"  # the choice of no second dancer
SUFFIXES = {".mp4": "video", ".glb": "3D figure", ".bvh": "skeleton", ".npz": "SMPL poses"}
KEPT_SECONDS = 3600.0  # how long a song stays on the server after it came, and a dance after it was made
SAFE_SECONDS = 300.0  # so long at least, also when there is little room
TIDY_SECONDS = 60.0  # how often is looked for what has to go
MODES = {
    "Usual: looks back 6 seconds": "paper",
    "Endless: remembers everything": "stream",
    "As the authors' code: slow": "released",
}
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]  # those of the visitor's device
MONO_FONTS = ["ui-monospace", "Consolas", "monospace"]


class DemoError(ValueError):
    """Something the visitor can put right; the message is a sentence for people who don't program."""


class _Left(Exception):
    """The visitor has gone, or the server is about to end: nobody waits for this dance."""


@dataclass(frozen=True)
class Limits:
    """What one visitor may ask of the machine.

    Attributes:
        song_seconds: longest dance; of a longer song the beginning (or the chosen piece) is danced.
        megabytes: largest file to upload.
        compute_seconds: a dance that takes longer is given up.
        waiting: visitors in the queue; the next one is asked to come back later.
        disk_megabytes: what the songs and dances of all visitors may take. The oldest go first; when all of them are younger than
            `SAFE_SECONDS`, visitors are asked to come back later.
    """

    song_seconds: float = 120.0
    megabytes: float = 30.0
    compute_seconds: float = 300.0
    waiting: int = 20
    disk_megabytes: float = 4000.0


class Studio:
    """Makes dances and their files, each in a folder with a name that cannot be guessed.

    Attributes:
        folder: where the dances are kept for `kept_seconds`; the page serves it.
        body: who dances, "mannequin" or "smooth".
        uploads: where the songs that came are kept as long; None without a page.
        kept_seconds: see `KEPT_SECONDS`.
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
        self.closed = False  # the server is about to end

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
        report: Callable[[float, str], None] = lambda share, what: None,
    ) -> dict[str, Any]:
        """One dance to a song, or two of different genres side by side.

        Args:
            song: path of a sound file.
            genre, beside: what the dancers dance; no second one when `beside` is None or `NOBODY`.
            seed, temperature, mode: see `MusicToDancePipeline`.
            start, seconds: which piece of the song; from its beginning, as long as is allowed when None.
            report: told how far it is, as a share of 1 and a few words.

        Returns:
            what the stage shows, as JSON can hold it: `id`, `name` (of the song), `seed`, `song` (address), `seconds`, `fps`,
            `onset`, `beats`, `tempo`, `notice` (or None), and for each of `dances`: `genre`, `glb` (address), `heading` (radians
            about Y from +Z, the dancer's at the beginning), `speed`, `meanSpeed` (m/s), `genres`. Addresses are relative to the page.

        Raises:
            DemoError, AudioError, GenreError: in words for visitors.
        """
        if not song:
            raise DemoError(
                "There is no song yet: upload a sound file, or record one with the microphone, and wait until it is there."
            )
        start, longest = float(start or 0.0), self.limits.song_seconds
        wanted = longest if seconds is None else float(seconds)
        if not 1 <= wanted <= longest:
            raise DemoError(f"The dance can last from 1 to {longest:g} seconds; {wanted:g} were asked for.")
        if not 0 <= start < 86400:
            raise DemoError(f"The dance cannot begin at second {start:g} of the song: choose 0 or more.")
        if seed is not None and not 0 <= seed < 2**32:
            raise DemoError(f"The seed is {seed}: choose a whole number from 0 to {2**32 - 1}.")
        genres = [genre] + ([beside] if beside not in (None, NOBODY) else [])
        if len(set(genres)) < len(genres):
            raise DemoError(f"Both dancers would dance {genre}: choose another genre for one of them.")
        extractor = self.pipe.processor.feature_extractor
        length = extractor.seconds(song, addresses=False)
        if start >= length:
            raise DemoError(f"The song ends after {length:.0f} seconds: begin earlier than at {start:g}.")

        self.tidy()
        if self.is_full():
            raise DemoError(FULL)
        began = time.monotonic()
        report(0.02, "listening to the song")
        waveform, rate = load_audio(song, sampling_rate=None, start=start, duration=wanted, mono=False, addresses=False)
        name = Path(song).name
        features = extractor.listen(song, start, wanted, addresses=False)
        seed = int.from_bytes(os.urandom(4), "little") if seed is None else int(seed)

        dances = []
        for index, one in enumerate(genres):

            def progress(done: int, total: int, index: int = index, one: str = one) -> None:
                if time.monotonic() - began > self.limits.compute_seconds:
                    raise DemoError(
                        f"This takes longer than {self.limits.compute_seconds:g} seconds, so it was stopped: choose a shorter "
                        "piece of the song, or the usual way of looking back."
                    )
                report(0.15 + 0.75 * (index + done / total) / len(genres), f"dancing {one}")

            options = {"seed": seed, "temperature": temperature, "mode": mode}
            dances.append(self.pipe({"input_features": features, "name": name}, one, **options, progress=progress))
            dances[-1].metadata["start"] = start

        report(0.92, "dressing the dancer")
        folder = self.folder / secrets.token_urlsafe(16)
        folder.mkdir(parents=True)
        try:
            # The very samples that the model heard: an mp3 decoder may begin some milliseconds later. Every browser plays
            # wav and can jump to any sample of it; in flac Chromium's jumps fail now and then.
            sound = waveform if waveform.shape[1] <= 2 else waveform.mean(1, keepdims=True)
            memory = io.BytesIO()
            soundfile.write(memory, np.clip(sound, -1, 1), rate, subtype="PCM_16", format="WAV")
            (folder / "song.wav").write_bytes(memory.getbuffer())
            shown = [
                self._prepare(motion, folder, str(index), features) for index, motion in enumerate(dances, start=1)
            ]
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        music, seconds = song_curves(features[: len(dances[0])]), len(waveform) / rate
        cut = length - start - seconds > 0.1
        return {
            "id": folder.name,
            "name": name,
            "seed": seed,
            "song": f"dances/{folder.name}/song.wav",
            "seconds": seconds,
            "fps": MOTION_FPS,
            "onset": _rounded(music["onset"]),
            "beats": _rounded(music["beats"]),
            "tempo": music["tempo"],
            "dances": shown,
            "notice": f"The song lasts {length:.0f} seconds; {seconds:.0f} of them are danced." if cut else None,
        }

    def _prepare(self, motion: Motion, folder: Path, name: str, features: np.ndarray) -> dict[str, Any]:
        """Write one dance as .npz and .glb, and say what the stage must know of it."""
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
        """The files of a dance for taking away, as they come to be: first all but the videos, which take longest to make.
        `check` is called before each; what it raises ends it.

        Raises:
            DemoError: the dance is not kept any more.
        """
        folder = self.folder / Path(identity).name
        if not identity or not (folder / "song.wav").is_file():
            raise DemoError("This dance is not kept any more: make it again.")
        dances = sorted(folder.glob("*.npz"))
        for path in dances:
            if not (skeleton := path.with_suffix(".bvh")).is_file():
                Motion.load(path).save(skeleton)
        made = [path.with_suffix(suffix) for path in dances for suffix in (".glb", ".bvh", ".npz")]
        yield made
        for path in dances:
            check()
            if not (video := path.with_suffix(".mp4")).is_file():
                render_video(Motion.load(path), video, music=folder / "song.wav", body=self.body, progress=False)
            made = [*made, video]
            yield made

    # what is kept, and for how long

    def tidy(self) -> None:
        """What has been kept long enough goes; then, where room is short, the oldest."""
        now = time.time()
        kept = []
        for made, size, path in self._kept():
            if now - made > self.kept_seconds:
                _remove(path)
            else:
                kept.append((made, size, path))
        used, budget = sum(size for _, size, _ in kept), self.limits.disk_megabytes * 1e6
        for made, size, path in sorted(kept, key=lambda one: one[0]):
            if used <= budget or now - made < SAFE_SECONDS:
                break
            _remove(path)
            used -= size

    def is_full(self) -> bool:
        """Whether songs and dances take more than they may."""
        return sum(size for _, size, _ in self._kept()) > self.limits.disk_megabytes * 1e6

    def _kept(self) -> list[tuple[float, int, Path]]:
        """When it came or was made (seconds since 1970), bytes, and path of each dance and song."""
        found = []
        for folder in self.folder.glob("*"):
            try:
                mark = folder / "song.wav"  # a dance's folder changes when videos come
                made = (mark if mark.is_file() else folder).stat().st_mtime
                found.append((made, sum(file.stat().st_size for file in folder.iterdir()), folder))
            except OSError:
                continue  # it has just gone
        for file in [] if self.uploads is None else self.uploads.rglob("*"):
            try:
                if file.is_file():
                    found.append((file.stat().st_mtime, file.stat().st_size, file))
            except OSError:
                continue
        return found


FULL = "The server has no room for another song just now: come back in some minutes."


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        return
    try:
        path.unlink()
        path.parent.rmdir()  # Gradio makes a folder for each upload
    except OSError:
        pass  # it has just gone, or is not empty


def _rounded(values: np.ndarray) -> list[float]:
    return np.round(np.asarray(values, dtype=np.float64), 3).tolist()


# --- the page ------------------------------------------------------------------------------------------------------


def _in_plain_words(error: Exception, song: str | None = None) -> str:
    """What a visitor is told, HTML. What is a bug goes to the server's log in full."""
    if isinstance(error, (DemoError, AudioError, GenreError, ModelError, MotionError, RenderError)):
        text = str(error).replace(song, Path(song).name) if song else str(error)
        text = text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")
    else:
        logger.error("a dance failed", exc_info=error)
        text = "Something went wrong on the server; it has been written down there. Try again, or try another song."
    return f'<p role="alert" class="megadance-alert">{html.escape(text)}</p>'


def _links(show: dict[str, Any], files: list[Path]) -> str:
    """A list of links, HTML."""
    song, lines = Path(show["name"]).stem, []
    for index, dance in enumerate(show["dances"], start=1):
        mine = [path for path in files if path.stem == str(index)]
        if len(show["dances"]) > 1:
            lines.append(f'<li class="of">{html.escape(dance["genre"])}</li>')
        for path in sorted(mine, key=lambda path: list(SUFFIXES).index(path.suffix)):
            name = html.escape(f"{song}-{dance['genre']}-{show['seed']}{path.suffix}", quote=True)
            size = f"{path.stat().st_size / 1e6:.1f} MB"
            lines.append(
                f'<li><a href="dances/{show["id"]}/{path.name}" download="{name}">{path.suffix} '
                f"({SUFFIXES[path.suffix]}, {size})</a></li>"
            )
    missing = len(show["dances"]) - sum(path.suffix == ".mp4" for path in files)
    news = "A video is" if missing == 1 else "Videos are"
    news = f'<p role="status">{news} being drawn …</p>' if missing else ""
    return f'<ul class="megadance-files" aria-label="Downloads">{"".join(lines)}</ul>{news}'


# Run by Gradio when the stage's element is there; its `root` says where the page is served.
_ON_LOAD = """
const root = new URL((window.gradio_config?.root ?? "").replace(/[/]*$/, "/"), document.baseURI);
import(new URL("stage/page.js", root).href).then((page) => page.mount(element, props, watch));
"""


def _choice(names: list[str], **options: Any) -> gr.Radio | gr.Dropdown:
    """Names to choose from: all in view if they are few, and no keyboard that pops up on a phone."""
    choices = [(name.capitalize(), name) for name in names]
    if len(names) <= FEW:
        return gr.Radio(choices, **options)
    return gr.Dropdown(choices, filterable=False, **options)


def _theme() -> gr.themes.Base:
    """Gradio's, with fonts of the visitor's device and colours that can be read by everybody (WCAG AA)."""
    theme = gr.themes.Soft(primary_hue="blue", neutral_hue="slate", font=FONTS, font_mono=MONO_FONTS)
    plain = {"block_label": "*neutral_800", "block_title": "*neutral_800"}
    light = {f"{part}_text_color": colour for part, colour in plain.items()} | {
        "body_text_color_subdued": "*neutral_600",
        "block_info_text_color": "*neutral_600",
        "button_primary_background_fill": "*primary_700",
        "button_primary_background_fill_hover": "*primary_800",
        "slider_color": "*primary_700",
        "loader_color": "*primary_700",
        "checkbox_label_background_fill_selected": "*primary_700",
        "checkbox_label_text_color_selected": "white",
        "checkbox_border_color": "*neutral_500",
        "input_border_color": "*neutral_400",
        "input_border_width": "1px",
        "block_border_width": "1px",
        "block_border_color": "*neutral_300",
    }
    dark = {f"{part}_text_color_dark": "*neutral_100" for part in plain} | {
        "body_text_color_subdued_dark": "*neutral_300",
        "block_info_text_color_dark": "*neutral_300",
        "button_primary_background_fill_dark": "*primary_700",
        "button_primary_background_fill_hover_dark": "*primary_800",
    }
    none = {f"{part}_background_fill{mode}": "transparent" for part in plain for mode in ("", "_dark")}
    return theme.set(**light, **dark, **none)


def build_page(studio: Studio) -> gr.Blocks:
    """The page of a studio. `launch` serves it; it needs the routes of `routes(studio)`."""
    genres, limits = studio.pipe.genres, studio.limits

    left: dict[str, float] = {}  # sessions of visitors who have gone, and when

    def leave(request: gr.Request) -> None:
        left[request.session_hash] = time.time()
        for session in [session for session, when in left.items() if time.time() - when > KEPT_SECONDS]:
            del left[session]

    def stay(request: gr.Request) -> None:
        if studio.closed or request.session_hash in left:
            raise _Left

    with gr.Blocks(title="megadance: a dance to your song", analytics_enabled=False) as page:
        gr.Markdown(
            "# A dance to your song\n\nUpload or record a song, choose a dance, and a dancer moves to it. "
            f"A song is any file that plays (wav, mp3, m4a, ogg, flac, ...) of up to {limits.megabytes:g} MB; up to {limits.song_seconds:g} seconds of "
            "it are danced. It stays on the server for an hour, for you alone."
        )
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                song = gr.Audio(
                    sources=["upload", "microphone"],
                    type="filepath",
                    label="Song",
                    buttons=[],
                    editable=False,
                    elem_id="song",
                )
                genre = _choice(genres, value=genres[0], label="Dance", elem_id="genre")
                beside = _choice([NOBODY, *genres], value=NOBODY, label="Beside it", elem_id="beside")
                seconds = gr.Slider(
                    1,
                    limits.song_seconds,
                    value=min(60.0, limits.song_seconds),
                    step=1,
                    label="Seconds to dance",
                    elem_id="seconds",
                )
                with gr.Accordion("More choices", open=False):
                    start = gr.Number(0, label="Begin at this second of the song", minimum=0, elem_id="start")
                    seed = gr.Number(
                        0,
                        label="Seed",
                        info="The same number gives the same dance; none, another each time.",
                        precision=0,
                        elem_id="seed",
                    )
                    temperature = gr.Slider(
                        0.5,
                        1.5,
                        value=0.9,
                        step=0.05,
                        label="Temperature",
                        info="Low is safe, high is surprising.",
                        elem_id="temperature",
                    )
                    mode = gr.Radio(list(MODES.items()), value="paper", label="How it looks back", elem_id="mode")
                go = gr.Button("Dance", variant="primary", elem_id="go")
                news = gr.HTML("", elem_id="news", min_height=64)
            with gr.Column(scale=2, min_width=300):
                stage = gr.HTML(
                    None,
                    html_template='<div class="megadance-place"></div>',
                    js_on_load=_ON_LOAD,
                    elem_id="stage",
                    apply_default_css=False,
                )
                downloads = gr.HTML("", elem_id="downloads", apply_default_css=False)

        latest = gr.State(None)  # what `Studio.dance` gave, for the visitor's downloads

        def make(
            song,
            genre,
            beside,
            seconds,
            start,
            seed,
            temperature,
            mode,
            request: gr.Request,
            progress=gr.Progress(),  # noqa: B008
        ):
            def report(share: float, what: str) -> None:
                stay(request)
                progress(share, desc=what)

            try:
                stay(request)
                show = studio.dance(
                    song,
                    genre,
                    beside,
                    seed=None if seed is None else int(seed),
                    temperature=temperature,
                    mode=mode,
                    start=start,
                    seconds=seconds,
                    report=report,
                )
            except _Left:
                return gr.skip(), gr.skip(), gr.skip(), None
            except Exception as error:
                return gr.skip(), _in_plain_words(error, song), gr.skip(), None
            danced = " and ".join(dance["genre"] for dance in show["dances"])
            told = f"{danced.capitalize()}, {show['seconds']:.0f} seconds, seed {show['seed']}."
            told = html.escape(" ".join(filter(None, (told, show["notice"]))))
            return json.dumps(show), f'<p role="status">{told}</p>', "", show

        def collect(show, request: gr.Request):
            if show is None:  # there is no new dance; what lies there belongs to the last one
                yield gr.skip()
                return
            try:
                for files in studio.files(show["id"], lambda: stay(request)):
                    yield _links(show, files)
            except _Left:
                yield gr.skip()
            except Exception as error:
                yield _in_plain_words(error)

        # One dance at a time: they would only slow each other down. Who waits is told the place in the queue.
        shared = {"concurrency_limit": 1, "concurrency_id": "dance", "api_visibility": "private"}
        inputs = [song, genre, beside, seconds, start, seed, temperature, mode]
        made = go.click(make, inputs, [stage, news, downloads, latest], show_progress_on=news, **shared)
        made.then(collect, latest, downloads, show_progress="hidden", **shared)
        page.unload(leave)
    page.queue(max_size=limits.waiting)
    for part in page.blocks.values():
        part.async_move_resource_to_block_cache = _only_uploads
    return page


async def _only_uploads(address: str | os.PathLike | None) -> str | None:
    """Instead of Gradio's, which would fetch what a request names by its address. What comes here has been uploaded before."""
    if address is not None and not Path(address).is_file():
        raise DemoError("Only uploaded songs are danced to.")
    return None if address is None else os.fspath(address)


class _Doorman:
    """Sends uploads back while there is no room."""

    def __init__(self, app: Any, studio: Studio) -> None:
        self.app, self.studio = app, studio

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"].rstrip("/").endswith("/upload"):
            self.studio.tidy()
            if self.studio.is_full():
                await PlainTextResponse(FULL, status_code=507)(scope, receive, send)
                return
        await self.app(scope, receive, send)


class _Keeper:
    """The folder of a page's songs and dances: looked after while the page is served, removed with it.

    Gradio asks the environment where uploads go, also while it serves. So pages of one process have one folder, which lasts as
    long as any of them; what is below it is each page's own.
    """

    home: Scratch | None = None
    before: str | None = None
    pages = 0
    lock = threading.Lock()

    def __init__(self) -> None:
        with _Keeper.lock:
            if _Keeper.home is None:
                _Keeper.before = os.environ.get("GRADIO_TEMP_DIR")
                if _Keeper.before:
                    Path(_Keeper.before).mkdir(parents=True, exist_ok=True)
                _Keeper.home = Scratch(_Keeper.before or None)
                os.environ["GRADIO_TEMP_DIR"] = os.fspath(_Keeper.home.folder.resolve() / "songs")
            _Keeper.pages += 1
        self.uploads = Path(os.environ["GRADIO_TEMP_DIR"])
        self.dances = self.uploads.parent / f"dances-{secrets.token_hex(4)}"
        self.studio: Studio | None = None
        self.ended = threading.Event()
        atexit.register(self.close)

    def look_after(self, studio: Studio) -> None:
        """Begin to tidy, whether somebody comes or not."""
        self.studio = studio
        threading.Thread(target=self._tidy, name="megadance-tidy", daemon=True).start()

    def _tidy(self) -> None:
        while not self.ended.wait(min(TIDY_SECONDS, self.studio.kept_seconds / 4)):
            try:
                self.studio.tidy()
            except Exception:  # a disk that is away for a moment must not end it
                logger.exception("tidying failed")

    def close(self) -> None:
        """Remove what is kept."""
        with _Keeper.lock:
            if self.ended.is_set():
                return
            self.ended.set()
            if self.studio is not None:
                self.studio.closed = True
            shutil.rmtree(self.dances, ignore_errors=True)
            _Keeper.pages -= 1
            if _Keeper.pages == 0:
                _Keeper.home.close()
                _Keeper.home = None
                if _Keeper.before is None:
                    os.environ.pop("GRADIO_TEMP_DIR", None)
                else:
                    os.environ["GRADIO_TEMP_DIR"] = _Keeper.before
        atexit.unregister(self.close)


def routes(studio: Studio) -> list[Mount]:
    """What the page loads beside Gradio's own: the stage's scripts, and the dances."""
    studio.folder.mkdir(parents=True, exist_ok=True)
    return [Mount("/stage", StaticFiles(directory=WEB)), Mount("/dances", StaticFiles(directory=studio.folder))]


def _check_address(host: str | None, port: int | None) -> None:
    """Before a model is loaded; and Gradio would try a hundred ports of a host that there is not."""
    name = (host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1").strip("[]")
    try:
        if port is not None and not 1 <= port <= 65535:
            raise OverflowError("ports are numbers from 1 to 65535")
        family, kind, _, _, address = socket.getaddrinfo(name, port or 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except (OSError, OverflowError, UnicodeError) as error:
        where = f"port {port} of {host or 'this machine'}" if port is not None else name
        raise DemoError(f"The page cannot be served at {where} ({reason_of(error)}): choose another.") from None


def launch(
    model: str | os.PathLike = DEFAULT_MODEL,
    *,
    host: str | None = None,
    port: int | None = None,
    limits: Limits | None = None,
    body: str = "mannequin",
    open_browser: bool = False,
    block: bool = True,
    **load: Any,
) -> gr.Blocks:
    """Serve the page until it is stopped (with `block=False`: until `close()` of what is returned).

    Args:
        model: folder, Hub id, or name of a bundled model.
        host: address to listen at; this machine only when None (or what GRADIO_SERVER_NAME says: a Space's is set).
        port: the first free one from 7860 on when None.
        limits: of each visitor.
        body: who dances, "mannequin" or "smooth".
        open_browser: show the page.
        load: goes to `MusicToDancePipeline.from_pretrained`.

    Raises:
        ModelError: the model cannot be loaded. DemoError: the port is taken, or host or port are none.
    """
    _check_address(host, port)
    pipe = MusicToDancePipeline.from_pretrained(model, **load)
    keeper = _Keeper()
    try:
        studio = Studio(pipe, keeper.dances, limits, body, keeper.uploads)
        page = build_page(studio)
        page.kept = keeper
        page.launch(
            server_name=host,
            server_port=port,
            inbrowser=open_browser,
            share=False,
            quiet=True,  # it would advise Python that is not there to change
            ssr_mode=False,
            pwa=False,
            footer_links=[],
            theme=_theme(),
            css_paths=WEB / "stage.css",
            max_file_size=round(studio.limits.megabytes * 2**20),
            app_kwargs={"routes": routes(studio), "middleware": [Middleware(_Doorman, studio=studio)]},
            prevent_thread_lock=True,
        )
    except BaseException as error:
        keeper.close()
        if isinstance(error, OSError):
            where = f"port {port} of {host or 'this machine'}"
            raise DemoError(f"The page cannot be served at {where} ({error}): choose another.") from error
        raise
    keeper.look_after(studio)
    stop_serving = page.close

    def close(verbose: bool = True) -> None:
        try:
            stop_serving(verbose)
        finally:
            keeper.close()

    page.close = close
    if block:
        try:
            print(f"The page is at {page.local_url} (Ctrl-C stops it)", flush=True)
            page.block_thread()
        finally:
            page.close(verbose=False)
    return page
