"""The `megadance` command: `command.py` is its entry point, and each subcommand has a module with its options and what it does."""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    from .command import main as run

    return run(argv)
