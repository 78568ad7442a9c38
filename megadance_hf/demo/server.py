"""Serving the web page, and its folder of songs and dances.

    launch()                                # http://127.0.0.1:7860

Songs and dances are kept in a private folder of this server, for an hour and within a budget. The folder is deleted with the server;
what a killed server left, the next one deletes.

A visitor is a random token that the page draws and sends in a header of its own, which other sites' pages cannot send. What has been made
belongs to the token. Sounds and figures are files whose names cannot be guessed, for elements that send no headers.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import re
import threading
import time
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import FileResponse, JSONResponse, Response
    from starlette.routing import Route
except ImportError as error:
    raise ImportError(f"the web page needs starlette and uvicorn ({error}): pip install 'megadance-hf[demo]'") from None

from megadance_hf._serving import listen
from megadance_hf.export.notebook import WEB
from megadance_hf.modeling.files_megadance import Scratch
from megadance_hf.models import DEFAULT_MODEL
from megadance_hf.pipeline import MusicToDancePipeline

from .jobs import BUG, BUSY, GONE, DemoError, Job, Jobs, in_plain_words
from .limits import Limits
from .requests import MALFORMED, read_json, read_prompt_text, read_redo, read_wish
from .studio import SPEEDS, Studio

logger = logging.getLogger(__name__)

FIRST_PORT = 7860
TIDY_SECONDS = 60.0  # between two runs of `Studio.tidy`
PAGE = Path(__file__).parent / "web"
POSE_BYTES = 2_000_000  # of a file with a pose or a clip
MOST_BYTES = 8_000_000  # of a request that is no song: a project of the longest dances
_VISITOR = re.compile(r"[0-9a-f]{32,64}")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}(\.[A-Za-z0-9]{1,8}){0,2}")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,5}")
_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".wav": "audio/wav",
    ".glb": "model/gltf-binary",
    ".mp4": "video/mp4",
    ".zip": "application/zip",
}
# Nothing from other servers. A Space is shown in a frame of huggingface.co.
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' blob:; "
        "connect-src 'self' blob: data:; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'self' https://huggingface.co"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def application(studio: Studio, jobs: Jobs) -> Starlette:
    """The web application: the page's files, and what it asks for as JSON."""
    limits, genres = studio.limits, studio.pipe.genres

    def visitor(request: Request) -> str:
        token = request.headers.get("x-visitor", "")
        if not _VISITOR.fullmatch(token):
            raise DemoError(MALFORMED, 401)
        return token

    async def read_body(request: Request, most: int, too_large: str, write: Callable[[bytes], Any]) -> None:
        """The body, as it comes; nothing beyond `most` bytes is read."""
        count = 0
        if int(request.headers.get("content-length", "0")) > most:  # the server has checked that it is a number
            raise DemoError(too_large, 413)
        async for chunk in request.stream():
            count += len(chunk)
            if count > most:
                raise DemoError(too_large, 413)
            write(chunk)

    async def given(request: Request) -> dict[str, Any]:
        content = bytearray()
        await read_body(request, MOST_BYTES, MALFORMED, content.extend)
        return read_json(bytes(content))

    def endpoint(function: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def respond(request: Request) -> Response:
            try:
                result = await function(request)
            except ClientDisconnect:
                return Response(status_code=400)
            except Exception as error:
                # too large a body must not be sent to its end
                close = {"connection": "close"} if getattr(error, "status", 0) == 413 else {}
                text = in_plain_words(error, getattr(request.state, "names", None))
                status = error.status if isinstance(error, DemoError) else 500 if text == BUG else 400
                return JSONResponse({"error": text}, status, {**_HEADERS, **close})
            return result if isinstance(result, Response) else JSONResponse(result, headers=_HEADERS)

        return respond

    # --- files -------------------------------------------------------------------------------------------------------

    def file_of(folder: Path, name: str, **more: Any) -> Response:
        """A file of exactly this folder."""
        path = folder / name
        if not _NAME.fullmatch(name) or not path.is_file():
            raise DemoError(GONE, 404)
        return FileResponse(
            path, media_type=_TYPES.get(path.suffix, "application/octet-stream"), headers=_HEADERS, **more
        )

    async def page(request: Request) -> Response:
        return file_of(PAGE, "index.html")

    async def web(request: Request) -> Response:
        return file_of(PAGE, request.path_params["name"])

    async def stage(request: Request) -> Response:
        return file_of(WEB, request.path_params["name"])

    async def sound(request: Request) -> Response:
        name, _, suffix = request.path_params["name"].rpartition(".")
        if suffix != "wav" or not _NAME.fullmatch(name):
            raise DemoError(GONE, 404)
        return file_of(studio.songs_folder / name, "sound.wav")

    async def dance_file(request: Request) -> Response:
        take = request.path_params["take"]
        if not _NAME.fullmatch(take):
            raise DemoError(GONE, 404)
        name = request.path_params["name"]
        more = {"filename": f"{studio.download_name(take)}.zip"} if name.endswith(".zip") else {}
        return file_of(studio.dances_folder / take, name, **more)

    # --- what the page asks for --------------------------------------------------------------------------------------

    async def options(request: Request) -> Any:
        return studio.options()

    uploads = 0

    async def add_song(request: Request) -> Any:
        nonlocal uploads
        owner = visitor(request)
        if uploads > limits.waiting:
            raise DemoError(BUSY, 503)
        uploads += 1
        try:
            return await receive_song(request, owner)
        finally:
            uploads -= 1

    async def receive_song(request: Request, owner: str) -> Any:
        name = _file_name(request.query_params.get("name", ""))
        folder = await run_in_threadpool(studio.new_song_folder)
        suffix = Path(name).suffix
        path = folder / f"given{suffix.lower() if _SUFFIX.fullmatch(suffix) else '.bin'}"
        request.state.names = {str(path): name, path.name: name}
        too_large = f"The file is larger than {limits.megabytes:g} MB: give a shorter one, or an mp3."
        try:
            with path.open("wb") as file:
                await read_body(request, round(limits.megabytes * 2**20), too_large, file.write)
            if not path.stat().st_size:
                raise DemoError("The file is empty: choose another one.")
        except BaseException:
            await run_in_threadpool(studio.drop, folder)
            raise
        song = await run_in_threadpool(studio.listen, path, name, owner)
        return song.shown()

    async def read_words(request: Request) -> Any:
        visitor(request)
        prompt = read_prompt_text((await given(request)).get("prompt"))
        return {"understood": None if prompt is None else await run_in_threadpool(studio.understand, prompt)}

    async def take_pose(request: Request) -> Any:
        """The pose of a take at a second."""
        owner, asked = visitor(request), request.query_params
        try:
            second, dancer = float(asked.get("second", "")), int(asked.get("dancer", "0"))
        except ValueError:
            second, dancer = math.nan, 0
        if not math.isfinite(second):
            raise DemoError(MALFORMED)
        return await run_in_threadpool(studio.pose, request.path_params["take"], owner, second, dancer)

    async def add_pose(request: Request) -> Any:
        """A pose or a clip from a file."""
        visitor(request)
        name, content = _file_name(request.query_params.get("name", "")), bytearray()
        too_large = f"The file is larger than {POSE_BYTES / 1e6:g} MB: cut the clip, or give a single pose."
        await read_body(request, POSE_BYTES, too_large, content.extend)
        return await run_in_threadpool(studio.read_pose, bytes(content), name)

    async def add_job(request: Request) -> Any:
        owner, wanted = visitor(request), await given(request)
        kind = wanted.get("kind")
        work = await run_in_threadpool(prepare, owner, kind, wanted)
        return {"job": jobs.add(owner, str(kind), work).id}

    def prepare(owner: str, kind: Any, wanted: dict[str, Any]) -> Callable[[Job], None]:
        """What a job will do; mistakes are found here, before it waits."""
        if kind == "dance":
            song = studio.song(_text(wanted.get("song")), owner)
            wish = read_wish(wanted, genres, studio.attributes, limits)
            studio.check(song, wish)
            return lambda job: job.takes.append(studio.dance(owner, song.id, wish, job))
        if kind == "redo":
            parent = studio.take(_text(wanted.get("take")), owner)
            redo = read_redo(wanted, studio.attributes, parent.shown["seconds"])
            studio.check_redo(parent, redo, owner)
            return lambda job: job.takes.extend(studio.redo(owner, redo, job))
        if kind == "open":
            song = studio.song(_text(wanted.get("song")), owner)
            project = studio.read_project(wanted.get("project"), song)
            return lambda job: job.takes.append(studio.open(song, project, job))
        if kind == "export":
            parent, video = studio.take(_text(wanted.get("take")), owner), wanted.get("video") is True

            def export(job: Job) -> None:
                job.zip = studio.export(owner, parent.id, video, job)

            return export
        raise DemoError(MALFORMED)

    async def job_status(request: Request) -> Any:
        return jobs.status(request.path_params["job"], visitor(request))

    async def cancel_job(request: Request) -> Any:
        jobs.cancel(request.path_params["job"], visitor(request))
        return jobs.status(request.path_params["job"], visitor(request))

    async def take(request: Request) -> Any:
        return studio.take(request.path_params["take"], visitor(request)).shown

    async def project(request: Request) -> Any:
        return await run_in_threadpool(studio.project, request.path_params["take"], visitor(request))

    routes = [
        ("/", page, "GET"),
        ("/web/{name}", web, "GET"),
        ("/stage/{name}", stage, "GET"),
        ("/songs/{name}", sound, "GET"),
        ("/dances/{take}/{name}", dance_file, "GET"),
        ("/api/options", options, "GET"),
        ("/api/songs", add_song, "POST"),
        ("/api/words", read_words, "POST"),
        ("/api/poses", add_pose, "POST"),
        ("/api/jobs", add_job, "POST"),
        ("/api/jobs/{job}", job_status, "GET"),
        ("/api/jobs/{job}", cancel_job, "DELETE"),
        ("/api/takes/{take}", take, "GET"),
        ("/api/takes/{take}/project", project, "GET"),
        ("/api/takes/{take}/pose", take_pose, "GET"),
    ]
    return Starlette(routes=[Route(path, endpoint(function), methods=[method]) for path, function, method in routes])


def _text(given: Any) -> str:
    return given if isinstance(given, str) else ""


def _file_name(name: str) -> str:
    """What a visitor's file is called, without folders and control characters."""
    name = re.split(r"[/\\]", name)[-1]
    name = "".join(letter for letter in name if letter.isprintable()).strip()[-100:]
    return name or "song"


class Page:
    """A page that is being served.

    Attributes:
        local_url: its address on this machine.
        studio, jobs: what is behind it.
        home: the private folder of its songs and dances.
    """

    def __init__(self, pipe: MusicToDancePipeline, listening: Any, limits: Limits | None, body: str) -> None:
        self.home = Scratch()
        self.studio = Studio(pipe, self.home.folder / "kept", limits, body)
        self.jobs = Jobs(self.studio.limits.waiting, SPEEDS)
        host, port = listening.getsockname()[:2]
        name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
        self.local_url = f"http://{name}:{port}/"
        # no log of requests: addresses of visitors are nobody's business
        config = uvicorn.Config(
            application(self.studio, self.jobs),
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        self._server, self._listening = uvicorn.Server(config), listening
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listening]}, name="megadance-server", daemon=True
        )
        self._thread.start()
        threading.Thread(target=self._tidy, name="megadance-tidy", daemon=True).start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.01)
        atexit.register(self.close)

    def _tidy(self) -> None:
        """Tidy regularly, also while there are no visitors."""
        while not self._ended.wait(min(TIDY_SECONDS, self.studio.kept_seconds / 4)):
            try:
                self.studio.tidy()
            except Exception:  # a disk that is unavailable for a moment must not end the thread
                logger.exception("tidying failed")

    def block_thread(self) -> None:
        """Return when the page is closed, or raise what interrupts it."""
        while not self._ended.wait(1.0):
            pass

    def close(self, verbose: bool = False) -> None:
        """Stop serving and delete all songs and dances."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._server.should_exit = True
        self.jobs.close()
        self._thread.join(10)
        self._listening.close()
        self.home.close()
        atexit.unregister(self.close)


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
) -> Page:
    """Serve the page until it is stopped (with `block=False`: until `close()` of what is returned).

    Args:
        model: folder, Hub id, or name of a bundled model.
        host: address to listen at; this machine only when None.
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
    try:
        listening = listen(host or "127.0.0.1", port, FIRST_PORT)
    except OSError as error:
        where = f"port {port} of {host or 'this machine'}" if port is not None else host or "this machine"
        raise DemoError(f"The page cannot be served at {where} ({error}): choose another.") from None
    try:  # the address is taken before a model is loaded
        page = Page(MusicToDancePipeline.from_pretrained(model, **load), listening, limits, body)
    except BaseException:
        listening.close()
        raise
    if open_browser:
        webbrowser.open(page.local_url)
    if block:
        try:
            print(f"The page is at {page.local_url} (Ctrl-C stops it)", flush=True)
            page.block_thread()
        finally:
            page.close()
    return page
