"""Sources: what `megadance prepare NAME` can make a data set from, found through the entry point group `megadance.sources`.

A package of your own adds a source beside ours. Its pyproject.toml names it,

    [project.entry-points."megadance.sources"]
    tango = "my_package:TANGO"

and `my_package/__init__.py` declares it. Only this is imported for `megadance prepare --help`, so it should import nothing heavy:

    from megadance_hf.data.sources import Option, Source

    TANGO = Source(
        "tango, captured in my kitchen",
        prepare="my_package.tango:prepare",
        options=(Option("couple", "whose dances", choices=("leader", "follower"), default="leader"),),
    )

`prepare(raw, out, *, num_proc, jumps, couple)` is imported when the source is chosen. It makes the data set, as a rule with
`prepare_clips`, and returns a report to print. A `DataError` that it raises is shown as one line.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

GROUP = "megadance.sources"
PACKAGE = "megadance-hf"
# What setup.py registers. Known here as well, since a checkout that is only on PYTHONPATH has no entry points.
OWN_NAMES = ("finedance", "aistpp", "ballroom", "ballroom2", "mocap", "synthetic")
OWN = {name: f"megadance_hf.datasets_scripts:{name.upper()}" for name in OWN_NAMES}
# Arguments that every source has, and what the command keeps beside them.
RESERVED = set("out raw jumps num_proc push dry_run keep_jumps help command data_set run found".split())


class SourceError(ValueError):
    """A source cannot be used; the message says why in one line."""


@dataclass(frozen=True)
class Option:
    """An option of a source: `--some-name` on the command line, the keyword argument `some_name` of its `prepare`.

    Attributes:
        name: an identifier in lower case.
        help: one line for `--help`.
        default: what `prepare` gets when the option is left out.
        kind: `str`, `int`, `float`, or `bool` for a flag without a value.
        choices: the values to choose from; any when empty.
        minimum: the smallest number that is accepted.
        metavar: what stands for the value in `--help`; "N" for numbers and "TEXT" for text when empty.
    """

    name: str
    help: str
    default: Any = None
    kind: type = str
    choices: tuple[str, ...] = ()
    minimum: float = 0
    metavar: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name) or self.name in RESERVED:
            raise SourceError(
                f"name={self.name!r} of an option must be an identifier in lower case, none of {sorted(RESERVED)}"
            )
        if self.kind not in (str, int, float, bool):
            raise SourceError(f"kind={self.kind!r} of the option {self.name!r} must be str, int, float or bool")


@dataclass(frozen=True)
class Source:
    """Where a data set comes from.

    Attributes:
        description: one line for `--help`.
        prepare: "package.module:function", imported when the source is chosen. It is called with `out` and `num_proc`, with `raw` and
            `jumps` ("leave_out" or "keep") if there is a raw folder, and with the options, all by keyword.
        options: what it takes besides.
        genres: the genres that its data sets can have, as far as it knows them beforehand. Recipes may name them in `data.genres`
            whatever the data; a name that neither the data nor any source has is taken for a slip.
        has_raw: whether it reads a raw folder; False where clips are computed.
    """

    description: str
    prepare: str
    options: tuple[Option, ...] = ()
    has_raw: bool = True
    genres: tuple[str, ...] = ()


@dataclass(frozen=True)
class InstalledSource:
    """A registered source: its name, the package that registers it, and the source, or else the `problem` with it in one line."""

    name: str
    package: str
    source: Source | None
    problem: str = ""

    def load(self) -> Callable[..., Any]:
        """The function `prepare` of the source.

        Raises:
            SourceError: it cannot be imported.
        """
        if self.source is None:
            raise SourceError(self.problem)
        return _load(EntryPoint(self.name, self.source.prepare, GROUP), self.package)


def find_sources() -> list[InstalledSource]:
    """Every registered source: ours, then those of other packages by name. A broken one is listed with its problem."""
    registered = {name: {PACKAGE: EntryPoint(name, value, GROUP)} for name, value in OWN.items()}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        package = (entry.dist.name if entry.dist else None) or "an unnamed package"
        registered.setdefault(entry.name, {})[re.sub(r"[-_.]+", "-", package).lower()] = entry
    return [_find(name, packages) for name, packages in registered.items()]


def _find(name: str, packages: dict[str, EntryPoint]) -> InstalledSource:
    (package, entry), *others = packages.items()
    if others:
        both = " and ".join(packages)
        return InstalledSource(name, both, None, f"the source {name!r} is in {both}: uninstall all but one of them")
    try:
        source = _load(entry, package)
    except SourceError as error:
        return InstalledSource(name, package, None, str(error))
    if isinstance(source, Source):
        return InstalledSource(name, package, source)
    problem = f"the source {name!r} of {package}: {entry.value} is a {type(source).__name__}, not a Source"
    return InstalledSource(name, package, None, problem)


def _load(entry: EntryPoint, package: str) -> Any:
    try:
        return entry.load()
    except Exception as error:  # whatever is wrong with one package must not stop the others
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise SourceError(
            f"the source {entry.name!r} of {package}: {entry.value} cannot be imported ({reason}); mend or uninstall it"
        ) from error
