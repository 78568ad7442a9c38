"""Bars of progress, and what stands for them in a file or a pipe: a line now and then."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from tqdm.auto import tqdm

# A line after so many seconds, or after a tenth of the work if that took so many; and one at the end.
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
    """tqdm's bar where somebody watches stderr (a terminal, a notebook); else the same methods, which write lines.

    A bar redraws itself many times a second, which in a log is as many lines.

    Args:
        iterable, desc, total, initial, unit, disable: as tqdm has them.
        layout: further arguments of tqdm, which only its bars know.
    """
    if disable or _is_watched():
        options = {"desc": desc or None, "total": total, "initial": initial, "unit": unit, "disable": disable}
        return tqdm(iterable, **options, **layout)
    return Lines(iterable, desc=desc, total=total, initial=initial, unit=unit)


def _is_watched() -> bool:
    in_notebook = any(base.__name__ == "tqdm_notebook" for base in tqdm.__mro__)
    return in_notebook or (sys.stderr is not None and sys.stderr.isatty())


class Lines:
    """What a bar does, as lines on stderr."""

    def __init__(
        self,
        iterable: Iterable | None = None,
        *,
        desc: str = "",
        total: float | None = None,
        initial: float = 0,
        unit: str = "",
    ) -> None:
        self.iterable, self.desc, self.unit = iterable, desc or "progress", unit
        self.total = len(iterable) if total is None and hasattr(iterable, "__len__") else total
        self.n = self.initial = initial
        self.note, self.began = "", time.monotonic()
        self._last, self._told = self.began, initial

    def __iter__(self) -> Iterator:
        with self:
            for item in self.iterable:
                yield item
                self.update()

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, n: float = 1) -> None:
        """So much more is done."""
        self.n += n
        waited = time.monotonic() - self._last
        tenth = self.total is not None and self.n - self._told >= self.total / 10
        if waited >= _LONGEST or (waited >= _SHORTEST and tenth):
            self._tell()

    def set_postfix(self, **values: Any) -> None:
        """What stands behind the numbers from now on."""
        self.note = "".join(f", {name} {value}" for name, value in values.items())

    def write(self, text: str) -> None:
        """A line of its own, on stdout as tqdm does it."""
        print(text, flush=True)

    def close(self) -> None:
        """The last line, once."""
        if self.n != self._told:
            self._tell()

    def _tell(self) -> None:
        self._last, self._told = time.monotonic(), self.n
        seconds = self._last - self.began
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


__all__ = ["Lines", "progress_bar"]
