"""Serving a study to its raters.

    serve("my_study")                       # http://127.0.0.1:7870, until Ctrl-C

What a rater's browser gets says nothing about systems: a clip has an address that is drawn for each showing, all responses of a kind
have the same headers and the same length, and nothing says which trials are catch trials.
"""

from __future__ import annotations

import html
import json
import re
import socket
from collections.abc import Callable
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route
except ImportError as error:
    raise ImportError(f"a study needs starlette and uvicorn ({error}): pip install 'megadance-hf[study]'") from None

from filelock import FileLock, Timeout

from megadance_hf._serving import listen
from megadance_hf.modeling.errors_megadance import reason_of

from .answers import PRACTICE_POSITION, Answers, Refused
from .design import PAGE, VIDEOS, Study, StudyError

FIRST_PORT = 7870
_LOCK = "server.lock"
_MAX_BYTES = 10_000  # of a request
_SECRET = re.compile(r"[0-9a-f]{32}")
_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
# Nothing from other servers, nothing stored, and the personal link is not passed on.
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'self'; media-src 'self' blob:; img-src 'self' data:; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def application(answers: Answers) -> Starlette:
    """The web application of a study."""
    study, design = answers.study, answers.study.design
    # Read once: what is served cannot change under the raters.
    page = {
        path.relative_to(study.folder / PAGE).as_posix(): path.read_bytes()
        for path in (study.folder / PAGE).rglob("*.*")
    }
    experimenter = answers.secret()

    async def body(request: Request) -> Any:
        content = b""
        async for chunk in request.stream():
            content += chunk
            if len(content) > _MAX_BYTES:
                raise Refused("malformed", 413)
        try:
            return json.loads(content)
        except ValueError:
            raise Refused("malformed", 400) from None

    def secret(request: Request) -> str:
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or not _SECRET.fullmatch(value):
            raise Refused("unknown", 401)
        return value

    def endpoint(function: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def respond(request: Request) -> Response:
            try:
                result = await function(request)
            except Refused as refused:
                return JSONResponse({"refused": refused.reason}, refused.status, _HEADERS)
            return result if isinstance(result, Response) else JSONResponse(result, headers=_HEADERS)

        return respond

    async def file(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in page:
            raise Refused("unknown", 404)
        return Response(
            page[name], media_type=_TYPES.get(Path(name).suffix, "application/octet-stream"), headers=_HEADERS
        )

    async def about(request: Request) -> Any:
        names = ("title", "contact", "mode", "questions", "languages", "seconds")
        refuses = await run_in_threadpool(lambda: answers.refuses)
        return {name: getattr(design, name) for name in names} | {
            "trials": design.trials + design.catch,
            "refuses": refuses,
        }

    async def join(request: Request) -> Any:
        given = await body(request)
        if not isinstance(given, dict) or given.get("consent") is not True:
            raise Refused("malformed", 400)
        await run_in_threadpool(answers.join, secret(request), given.get("language"), given.get("experience"))
        return {"joined": True}

    async def following(request: Request) -> Any:
        shown = await run_in_threadpool(answers.next, secret(request))
        clips = len(shown.trial.clips) if shown.trial else 0
        return {
            "state": shown.state,
            "practice": shown.position == PRACTICE_POSITION,
            "number": shown.position + 1,
            "total": shown.total,
            "ticket": shown.ticket,
            "clips": [f"/clip/{shown.ticket}/{side}" for side in range(clips)],
        }

    async def clip(request: Request) -> Response:
        index = await run_in_threadpool(answers.clip, request.path_params["ticket"], request.path_params["side"])
        path = study.folder / VIDEOS / study.clips[index].file
        # Whole, not in ranges: how far a browser reads ahead depends on the clip.
        content = await run_in_threadpool(path.read_bytes)
        return Response(content, media_type="video/mp4", headers=_HEADERS)

    async def answer(request: Request) -> Any:
        given = await body(request)
        ticket = given.pop("ticket", None) if isinstance(given, dict) else None
        if not isinstance(ticket, str) or not _SECRET.fullmatch(ticket):
            raise Refused("malformed", 400)
        await run_in_threadpool(answers.answer, secret(request), ticket, given)
        return {"saved": True}

    async def withdraw(request: Request) -> Any:
        await run_in_threadpool(answers.withdraw, secret(request))
        return {"deleted": True}

    async def progress(request: Request) -> Response:
        if request.path_params["secret"] != experimenter:
            raise Refused("unknown", 404)
        numbers = await run_in_threadpool(answers.progress)
        rows = "".join(f"<tr><th scope=row>{name}</th><td>{number}</td></tr>" for name, number in numbers.items())
        text = f"<!doctype html><html lang=en><meta charset=utf-8><title>Progress</title><h1>{html.escape(design.title)}</h1>"
        return HTMLResponse(f"{text}<table>{rows}</table>", headers=_HEADERS)

    routes = [
        ("/", file, "GET"),
        ("/r/{link}", file, "GET"),
        ("/page/{name:path}", file, "GET"),
        ("/about", about, "GET"),
        ("/next", following, "POST"),
        ("/clip/{ticket}/{side:int}", clip, "GET"),
        ("/join", join, "POST"),
        ("/answer", answer, "POST"),
        ("/withdraw", withdraw, "POST"),
        ("/progress/{secret}", progress, "GET"),
    ]
    return Starlette(routes=[Route(path, endpoint(function), methods=[method]) for path, function, method in routes])


@contextmanager
def only_server(folder: Path) -> Any:
    """Whoever is in the block is the only one who serves this folder; the system ends that with the process, however it ends."""
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StudyError(f"{folder} is being served already: stop the other server first") from None
    except OSError as error:
        raise StudyError(f"{folder} cannot be written ({reason_of(error)}): a study keeps its answers there") from None
    try:
        yield
    finally:
        lock.release()


def _listen(host: str, port: int | None) -> socket.socket:
    """A listening socket: at `port`, or the first free one from `FIRST_PORT` on."""
    try:
        return listen(host, port, FIRST_PORT)
    except OSError as error:
        where = f"port {port} of {host}" if port is not None else host
        raise StudyError(f"The study cannot be served at {where} ({error}): choose another") from None


def serve(folder: Path | str, host: str = "127.0.0.1", port: int | None = None, url: str | None = None) -> None:
    """Serve a study until the process is stopped.

    Args:
        folder: of the study.
        host: address to listen at.
        port: the first free one from 7870 on when None.
        url: address that raters use, where a proxy stands before this server; for what is printed.

    Raises:
        StudyError: the folder is no study, was changed after the first rater came, or is served already; the port is taken.
    """
    study = Study(folder)
    with only_server(study.folder), closing(Answers(study)) as answers:
        answers.check_unchanged()
        app = application(answers)
        with closing(_listen(host, port)) as listening:
            url = (url or f"http://{host}:{listening.getsockname()[1]}").rstrip("/")
            print(f"The study is at {url}/ (Ctrl-C stops it; answers are kept)", flush=True)
            print(f"Its progress, for you alone: {url}/progress/{answers.secret()}", flush=True)
            # no log of requests: addresses of raters are nobody's business
            config = uvicorn.Config(
                app, log_level="error", access_log=False, server_header=False, timeout_graceful_shutdown=5
            )
            uvicorn.Server(config).run(sockets=[listening])
