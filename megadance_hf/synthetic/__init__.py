"""Composed songs and choreographed dances to them, whose beats and genres are known exactly."""

from megadance_hf._lazy import lazy_names

__getattr__, __all__ = lazy_names(
    __name__,
    {
        ".composer": ("STYLES", "compose", "write_song"),
        ".choreographer": ("choreograph",),
    },
)
