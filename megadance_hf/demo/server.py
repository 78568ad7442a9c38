"""Serving the web page, and its folder of songs and dances.

    launch()                                # http://127.0.0.1:7860

Songs and dances are kept in a private folder of this server, for an hour and within a budget. The folder is deleted with the server;
what a killed server left, the next one deletes.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import shutil
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .page import build_page, theme  # says how to install gradio, which brings starlette along

# isort: split
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from megadance_hf.export.notebook import WEB
from megadance_hf.modeling.errors_megadance import reason_of
from megadance_hf.modeling.files_megadance import Scratch
from megadance_hf.models import DEFAULT_MODEL
from megadance_hf.pipeline import MusicToDancePipeline

from .limits import Limits
from .studio import NO_ROOM, DemoError, Studio

if TYPE_CHECKING:
    import gradio as gr

logger = logging.getLogger(__name__)

TIDY_SECONDS = 60.0  # between two runs of `Studio.tidy`


class _UploadLimit:
    """Middleware that refuses uploads while there is no room."""

    def __init__(self, app: Any, studio: Studio) -> None:
        self.app, self.studio = app, studio

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"].rstrip("/").endswith("/upload"):
            self.studio.tidy()
            if self.studio.is_full():
                await PlainTextResponse(NO_ROOM, status_code=507)(scope, receive, send)
                return
        await self.app(scope, receive, send)


class _Storage:
    """The folder of a page's songs and dances: tidied while the page is served, deleted with it.

    Gradio reads from the environment where to put uploads, also while it serves. So all pages of a process share one folder, which
    exists as long as any of them; each has its own folder of dances in it.
    """

    home: Scratch | None = None
    before: str | None = None
    pages = 0
    lock = threading.Lock()

    def __init__(self) -> None:
        with _Storage.lock:
            if _Storage.home is None:
                _Storage.before = os.environ.get("GRADIO_TEMP_DIR")
                if _Storage.before:
                    Path(_Storage.before).mkdir(parents=True, exist_ok=True)
                _Storage.home = Scratch(_Storage.before or None)
                os.environ["GRADIO_TEMP_DIR"] = os.fspath(_Storage.home.folder.resolve() / "songs")
            _Storage.pages += 1
        self.uploads = Path(os.environ["GRADIO_TEMP_DIR"])
        self.dances = self.uploads.parent / f"dances-{secrets.token_hex(4)}"
        self.studio: Studio | None = None
        self.ended = threading.Event()
        atexit.register(self.close)

    def keep_tidy(self, studio: Studio) -> None:
        """Tidy regularly from now on, also while there are no visitors."""
        self.studio = studio
        threading.Thread(target=self._tidy, name="megadance-tidy", daemon=True).start()

    def _tidy(self) -> None:
        while not self.ended.wait(min(TIDY_SECONDS, self.studio.kept_seconds / 4)):
            try:
                self.studio.tidy()
            except Exception:  # a disk that is unavailable for a moment must not end the thread
                logger.exception("tidying failed")

    def close(self) -> None:
        """Delete everything."""
        with _Storage.lock:
            if self.ended.is_set():
                return
            self.ended.set()
            if self.studio is not None:
                self.studio.closed = True
            shutil.rmtree(self.dances, ignore_errors=True)
            _Storage.pages -= 1
            if _Storage.pages == 0:
                _Storage.home.close()
                _Storage.home = None
                if _Storage.before is None:
                    os.environ.pop("GRADIO_TEMP_DIR", None)
                else:
                    os.environ["GRADIO_TEMP_DIR"] = _Storage.before
        atexit.unregister(self.close)


def routes(studio: Studio) -> list[Mount]:
    """What the page loads besides Gradio's own files: the stage's scripts, and the dances."""
    studio.folder.mkdir(parents=True, exist_ok=True)
    return [Mount("/stage", StaticFiles(directory=WEB)), Mount("/dances", StaticFiles(directory=studio.folder))]


def _check_address(host: str | None, port: int | None) -> None:
    """Checked before a model is loaded; and Gradio would try a hundred ports of a host that does not exist."""
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
        host: address to listen at; when None, GRADIO_SERVER_NAME (a Space sets it), or else this machine only.
        port: the first free one from 7860 on when None.
        limits: for each visitor.
        body: who dances, "mannequin" or "smooth".
        open_browser: show the page.
        block: return only when the server is stopped, by Ctrl-C or another KeyboardInterrupt. (`megadance demo` turns SIGTERM into
            one; by default it ends the process at once, and the next server deletes the folder that is left.)
        load: passed to `MusicToDancePipeline.from_pretrained`.

    Raises:
        ModelError: the model cannot be loaded. DemoError: the port is taken, or host or port do not exist.
    """
    _check_address(host, port)
    pipe = MusicToDancePipeline.from_pretrained(model, **load)
    storage = _Storage()
    try:
        studio = Studio(pipe, storage.dances, limits, body, storage.uploads)
        page = build_page(studio)
        page.storage = storage
        page.launch(
            server_name=host,
            server_port=port,
            inbrowser=open_browser,
            share=False,
            quiet=True,  # it would suggest changes to a script that does not exist
            ssr_mode=False,
            pwa=False,
            footer_links=[],
            theme=theme(),
            css_paths=WEB / "stage.css",
            max_file_size=round(studio.limits.megabytes * 2**20),
            app_kwargs={"routes": routes(studio), "middleware": [Middleware(_UploadLimit, studio=studio)]},
            prevent_thread_lock=True,
        )
    except BaseException as error:
        storage.close()
        if isinstance(error, OSError):
            where = f"port {port} of {host or 'this machine'}"
            raise DemoError(f"The page cannot be served at {where} ({error}): choose another.") from error
        raise
    storage.keep_tidy(studio)
    stop_serving = page.close

    def close(verbose: bool = True) -> None:
        try:
            stop_serving(verbose)
        finally:
            storage.close()

    page.close = close
    if block:
        try:
            print(f"The page is at {page.local_url} (Ctrl-C stops it)", flush=True)
            page.block_thread()
        finally:
            page.close(verbose=False)
    return page
