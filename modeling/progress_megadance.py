"""Progress: a bar in a terminal or notebook, a line now and then in a log file or pipe."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any

# Seconds between lines: at most the first number; at least the second, when a tenth of the work is done. And one at the end.
_LONGEST, _SHORTEST = 60.0, 5.0


def progress_bar(
    iterable: Iterable | None = None,
    *,
    desc: str = "",
    total: float | None = None,
    initial: float = 0,
    unit: str = "",
    disable: bool = False,
    **layout: Any,
) -> Any:
    """tqdm's bar in a terminal or notebook; elsewhere, or if transformers' bars are disabled, `Lines`, with the same methods. A bar
    redraws itself many times per second, which would fill a log.

    Args:
        iterable, desc, total, initial, unit, disable: as in tqdm.
        layout: further arguments of tqdm, which `Lines` ignores.
    """
    if not disable and _is_watched():
        from transformers.utils import logging  # takes half a second, which log files do without

        if logging.is_progress_bar_enabled():
            return logging.tqdm(iterable, desc=desc or None, total=total, initial=initial, unit=unit, **layout)
    return Lines(iterable, desc=desc, total=total, initial=initial, unit=unit, disable=disable)


def _is_watched() -> bool:
    """Whether stderr goes to a terminal or a notebook."""
    ipython = sys.modules.get("IPython")
    in_notebook = ipython is not None and hasattr(ipython.get_ipython(), "kernel")
    return in_notebook or (sys.stderr is not None and sys.stderr.isatty())


class Lines:
    """tqdm's interface, writing lines to stderr."""

    def __init__(
        self,
        iterable: Iterable | None = None,
        *,
        desc: str = "",
        total: float | None = None,
        initial: float = 0,
        unit: str = "",
        disable: bool = False,
    ) -> None:
        self.iterable, self.desc, self.unit, self.disable = iterable, desc or "progress", unit, disable
        self.total = len(iterable) if total is None and isinstance(iterable, Sized) else total
        self.n = self.initial = initial
        self.note, self.began = "", time.monotonic()
        self._written_at, self._written_n = self.began, initial

    def __iter__(self) -> Iterator:
        assert self.iterable is not None, "a bar without an iterable counts by update()"
        with self:
            for item in self.iterable:
                yield item
                self.update()

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, n: float = 1) -> None:
        """Count `n` more as done."""
        self.n += n
        waited = time.monotonic() - self._written_at
        tenth = self.total is not None and self.n - self._written_n >= self.total / 10
        if waited >= _LONGEST or (waited >= _SHORTEST and tenth):
            self._write()

    def set_postfix(self, **values: Any) -> None:
        """Values to append to the lines from now on."""
        self.note = "".join(f", {name} {value}" for name, value in values.items())

    def write(self, text: str) -> None:
        """Print a separate line, to stdout as tqdm does."""
        print(text, flush=True)

    def close(self) -> None:
        """Write the last line, once."""
        if self.n != self._written_n:
            self._write()

    def _write(self) -> None:
        if self.disable:
            return
        self._written_at, self._written_n = time.monotonic(), self.n
        seconds = self._written_at - self.began
        unit = f" {self.unit}s" if len(self.unit) > 1 else f" {self.unit}".rstrip()
        if not self.total:
            line = f"{self.desc} {_plain(self.n)}{unit}, {_clock(seconds)} so far"
        elif self.n >= self.total:
            line = f"{self.desc} 100%, {_plain(self.n)}/{_plain(self.total)}{unit}, took {_clock(seconds)}"
        else:
            left = (self.total - self.n) * seconds / max(self.n - self.initial, 1e-9)
            line = f"{self.desc} {self.n / self.total:.0%}, {_plain(self.n)}/{_plain(self.total)}{unit}, {_clock(left)} left"
        print(f"{line}{self.note}", file=sys.stderr, flush=True)


def _plain(number: float) -> str:
    return f"{number:.0f}" if number == int(number) else f"{number:.1f}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
