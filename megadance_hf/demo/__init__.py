"""The web page: a song in, a dancer in 3D who moves to it in the browser, files to download."""

from megadance_hf._lazy import lazy_names

__getattr__, __all__ = lazy_names(__name__, {".server": ("launch",), ".limits": ("Limits",)})
