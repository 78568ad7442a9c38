"""What a command owes to the terminal or script that it runs in: it can be stopped, piped, and read in any locale.

Only the standard library, as `cli.py` begins with it.
"""

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
    """The process was asked to end by SIGTERM or SIGHUP. As with Ctrl-C, everything is left tidy on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.status = 128 + number


def status_of(stop: KeyboardInterrupt) -> int:
    """The exit status that shells know: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
    return getattr(stop, "status", 130)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM and SIGHUP raise `Stopped` in this block; left to themselves they would end the process where it stands.

    A signal that the process was told to ignore (`nohup`) stays ignored. A second one does not interrupt the tidying.
    """
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():  # only there may they be set
        names = []
    numbers = [getattr(signal, name) for name in names]
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler == signal.SIG_DFL}

    def stop(number: int, frame: Any) -> NoReturn:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def sober_streams() -> Iterator[None]:
    """What is printed in this block gets through, or the block goes on without.

    Letters that the locale lacks are written as \\xfc. When nobody reads a stream any more (`megadance ... | head -1`), the rest is
    dropped and the work is done all the same: a progress bar must not end it.

    Raises:
        StreamError: standard output cannot be written for another reason, such as a full disk.
    """
    for number in (0, 1, 2):  # a closed one would be the next file that is opened, and be printed into
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    with contextlib.ExitStack() as stack:
        out = err = None
        if sys.stdout is not None:
            out = stack.enter_context(contextlib.redirect_stdout(_Sober(sys.stdout, must=True)))
        if sys.stderr is not None:
            err = stack.enter_context(contextlib.redirect_stderr(_Sober(sys.stderr, must=False)))
        try:
            yield
        finally:
            for stream in (out, err):
                if stream is not None:
                    stream.flush()


class _Sober:
    """A text stream that does not mind."""

    def __init__(self, stream: Any, must: bool) -> None:
        self._stream, self._must = stream, must

    def write(self, text: str) -> int:
        with self._patience():
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
        with self._patience():
            self._stream.flush()

    @contextlib.contextmanager
    def _patience(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # What is still in the buffer goes nowhere; else the interpreter would try, and complain, once more at the end.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)
            if self._must and not isinstance(error, BrokenPipeError):
                raise StreamError(f"standard output cannot be written ({error.strerror}): send it elsewhere") from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def file_size(count: int) -> str:
    """A number of bytes for people: 812 bytes, 4.2 kB, 13.0 MB, 1.5 GB."""
    if count < 1000:
        return f"{count} bytes"
    size, unit = next((count / one, unit) for one, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if count >= one)
    return f"{size:.1f} {unit}"
