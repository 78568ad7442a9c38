"""What a command owes to the terminal or script that it runs in: it can be stopped and piped, and prints in any locale."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any, NoReturn


class StreamError(Exception):
    """Standard output cannot be written; the message is one line."""


class Stopped(KeyboardInterrupt):
    """The process was asked to end by SIGTERM or SIGHUP. As with Ctrl-C, everything is cleaned up on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.status = 128 + number


def status_of(stop: KeyboardInterrupt) -> int:
    """The exit status that shells know: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
    return getattr(stop, "status", 130)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM and SIGHUP raise `Stopped` in this block; by default they would end the process without cleaning up.

    A signal that the process was told to ignore (`nohup`) stays ignored. A second one does not interrupt the cleaning up.
    """
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    may_set = threading.current_thread() is threading.main_thread()
    ours = [number for number in numbers if may_set and signal.getsignal(number) == signal.SIG_DFL]

    def handle(handler: Any) -> None:
        for number in ours:
            signal.signal(number, handler)

    def stop(number: int, frame: Any) -> NoReturn:
        handle(signal.SIG_IGN)
        raise Stopped(number)

    handle(stop)
    try:
        yield
    finally:
        handle(signal.SIG_DFL)


@contextlib.contextmanager
def safe_streams() -> Iterator[None]:
    """Printing never ends the work of this block.

    Letters that the locale lacks are written as \\xfc. When nobody reads a stream any more (`megadance ... | head -1`), the rest is
    dropped: a progress bar must not raise BrokenPipeError.

    Raises:
        StreamError: standard output cannot be written for another reason, such as a full disk.
    """
    for number in (0, 1, 2):  # the next file that is opened would get the number of a closed one, and be printed into
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    with contextlib.ExitStack() as stack:
        for redirect, stream in ((contextlib.redirect_stdout, sys.stdout), (contextlib.redirect_stderr, sys.stderr)):
            if stream is not None:
                safe = stack.enter_context(redirect(_SafeStream(stream, required=stream is sys.stdout)))
                stack.callback(safe.flush)
        yield


class _SafeStream:
    """A text stream that raises at most StreamError, and only if it is `required`."""

    def __init__(self, stream: Any, required: bool) -> None:
        self._stream, self._required = stream, required

    def write(self, text: str) -> int:
        with self._guard():
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                encoding = self._stream.encoding
                self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with self._guard():
            self._stream.flush()

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # What is still in the buffer is dropped; otherwise the interpreter would try again, and complain, when it exits.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self._stream.fileno())
                os.close(null)
            if self._required and not isinstance(error, BrokenPipeError):
                raise StreamError(f"standard output cannot be written ({error.strerror}): send it elsewhere") from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def quiet_libraries() -> None:
    """No logs and loading bars of libraries around the one line of an error; bars of downloads, which take long, stay."""
    import logging

    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging as transformers_logging

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    transformers_logging.set_verbosity_error()
    downloads_are_shown = not are_progress_bars_disabled()
    transformers_logging.disable_progress_bar()  # the Hub's bars as well
    if downloads_are_shown:
        enable_progress_bars()
