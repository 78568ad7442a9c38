"""The `megadance` command: a module for each subcommand."""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    from .command import main as run

    return run(argv)
