"""The web page: a form for the song and its choices, the stage with the dancer in 3D, links to the files.

    build_page(Studio(pipe, folder))        # a `gradio.Blocks`; `server.launch` serves it

Gradio has the form, the queue and the progress. The stage is `export/web/stage.js`: Gradio's own 3D viewer has no clock, and a dance
needs the song's. Everything the page loads is part of this package; nothing comes from other servers.
"""

import html
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

# Gradio reads these when it is imported: no telemetry about visitors, no search for newer versions.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

try:
    import gradio as gr
except ImportError as error:
    raise ImportError(f"the web page needs gradio ({error}): pip install 'megadance-hf[demo]'") from None

from megadance_hf.modeling.audio_megadance import AudioError
from megadance_hf.modeling.errors_megadance import ModelError
from megadance_hf.modeling.files_megadance import readable_size
from megadance_hf.modeling.genres_megadance import GenreError
from megadance_hf.motion.motion import MotionError
from megadance_hf.render.stage import RenderError

from .studio import KEPT_SECONDS, NOBODY, DemoError, Studio

logger = logging.getLogger(__name__)

MOST_BUTTONS = 6  # more genres are a drop-down list
SUFFIXES = {".mp4": "video", ".glb": "3D figure", ".bvh": "skeleton", ".npz": "SMPL poses"}
MODES = {
    "Usual: looks back 6 seconds": "paper",
    "Endless: remembers everything": "stream",
    "As the authors' code: slow": "released",
}
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]  # those of the visitor's device
MONO_FONTS = ["ui-monospace", "Consolas", "monospace"]


class _VisitorLeft(Exception):
    """The visitor has closed the page, or the server is shutting down: nobody waits for this dance."""


def _in_plain_words(error: Exception, song: str | None = None) -> str:
    """The message for the visitor as HTML. A bug is written to the server's log in full."""
    if isinstance(error, (DemoError, AudioError, GenreError, ModelError, MotionError, RenderError)):
        text = str(error).replace(song, Path(song).name) if song else str(error)
        text = text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")
    else:
        logger.error("a dance failed", exc_info=error)
        text = "Something went wrong on the server; it has been written down there. Try again, or try another song."
    return f'<p role="alert" class="megadance-alert">{html.escape(text)}</p>'


def _links(show: dict[str, Any], files: list[Path]) -> str:
    """Links to the files as an HTML list, and whether videos are still missing."""
    song, lines = Path(show["name"]).stem, []
    for index, dance in enumerate(show["dances"], start=1):
        own = [path for path in files if path.stem == str(index)]
        if len(show["dances"]) > 1:
            lines.append(f'<li class="of">{html.escape(dance["genre"])}</li>')
        for path in sorted(own, key=lambda path: list(SUFFIXES).index(path.suffix)):
            name = html.escape(f"{song}-{dance['genre']}-{show['seed']}{path.suffix}", quote=True)
            lines.append(
                f'<li><a href="dances/{show["id"]}/{path.name}" download="{name}">{path.suffix} '
                f"({SUFFIXES[path.suffix]}, {readable_size(path.stat().st_size)})</a></li>"
            )
    missing = len(show["dances"]) - sum(path.suffix == ".mp4" for path in files)
    subject = "A video is" if missing == 1 else "Videos are"
    status = f'<p role="status">{subject} being drawn …</p>' if missing else ""
    return f'<ul class="megadance-files" aria-label="Downloads">{"".join(lines)}</ul>{status}'


# Run by Gradio when the stage's element has been created; `root` is the address of the page.
_ON_LOAD = """
const root = new URL((window.gradio_config?.root ?? "").replace(/[/]*$/, "/"), document.baseURI);
import(new URL("stage/page.js", root).href).then((page) => page.mount(element, props, watch));
"""


def _choice(names: list[str], **options: Any) -> gr.Radio | gr.Dropdown:
    """Names to choose from: as buttons if they are few; no keyboard pops up on a phone."""
    choices = [(name.capitalize(), name) for name in names]
    if len(names) <= MOST_BUTTONS:
        return gr.Radio(choices, **options)
    return gr.Dropdown(choices, filterable=False, **options)


def theme() -> gr.themes.Base:
    """Gradio's, with fonts of the visitor's device and colours with enough contrast (WCAG AA)."""
    base = gr.themes.Soft(primary_hue="blue", neutral_hue="slate", font=FONTS, font_mono=MONO_FONTS)
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
    return base.set(**light, **dark, **none)


def build_page(studio: Studio) -> gr.Blocks:
    """The page of a studio. It needs the routes of `server.routes(studio)`."""
    genres, limits = studio.pipe.genres, studio.limits

    left: dict[str, float] = {}  # when the visitor of a session has left

    def leave(request: gr.Request) -> None:
        left[request.session_hash] = time.time()
        for session in [session for session, when in left.items() if time.time() - when > KEPT_SECONDS]:
            del left[session]

    def check_visitor(request: gr.Request) -> None:
        if studio.closed or request.session_hash in left:
            raise _VisitorLeft

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
                beside = _choice([NOBODY, *genres], value=NOBODY, label="Second dancer", elem_id="beside")
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

        latest = gr.State(None)  # what `Studio.dance` returned, for the visitor's downloads

        def make(values, request: gr.Request, progress=gr.Progress()):  # noqa: B008
            def report(share: float, step: str) -> None:
                check_visitor(request)
                progress(share, desc=step)

            try:
                check_visitor(request)
                show = studio.dance(**{part.elem_id: value for part, value in values.items()}, report=report)
            except _VisitorLeft:
                return gr.skip(), gr.skip(), gr.skip(), None
            except Exception as error:
                return gr.skip(), _in_plain_words(error, values[song]), gr.skip(), None
            danced = " and ".join(dance["genre"] for dance in show["dances"])
            text = f"{danced.capitalize()}, {show['seconds']:.0f} seconds, seed {show['seed']}."
            text = html.escape(" ".join(filter(None, (text, show["notice"]))))
            return json.dumps(show), f'<p role="status">{text}</p>', "", show

        def collect(show, request: gr.Request):
            if show is None:  # no new dance: the links of the last one stay
                yield gr.skip()
                return
            try:
                for files in studio.files(show["id"], lambda: check_visitor(request)):
                    yield _links(show, files)
            except _VisitorLeft:
                yield gr.skip()
            except Exception as error:
                yield _in_plain_words(error)

        # One dance at a time: several would only slow each other down. Waiting visitors see their place in the queue.
        shared = {"concurrency_limit": 1, "concurrency_id": "dance", "api_visibility": "private"}
        inputs = {
            song,
            genre,
            beside,
            seconds,
            start,
            seed,
            temperature,
            mode,
        }  # named as the arguments of `Studio.dance`
        made = go.click(make, inputs, [stage, news, downloads, latest], show_progress_on=news, **shared)
        made.then(collect, latest, downloads, show_progress="hidden", **shared)
        page.unload(leave)
    page.queue(max_size=limits.waiting)
    for part in page.blocks.values():
        part.async_move_resource_to_block_cache = _only_uploads
    return page


async def _only_uploads(address: str | os.PathLike | None) -> str | None:
    """Replaces Gradio's own, which would download any address in a request. Here only files that were uploaded before pass."""
    if address is not None and not Path(address).is_file():
        raise DemoError("Only uploaded songs are danced to.")
    return None if address is None else os.fspath(address)
