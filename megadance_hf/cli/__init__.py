"""The `megadance` command: `command.py` is its entry point; each subcommand has a module with its options and what it does."""

from megadance_hf._lazy import lazy_names

__getattr__, __all__ = lazy_names(__name__, {".command": ("main",)})
