"""The paper's tables on any prepared data set, with baselines, physical numbers and tests of whether the music is used."""

from megadance_hf._lazy import lazy_names

__getattr__, __all__ = lazy_names(
    __name__,
    {
        ".evaluate": ("EvaluationError", "PROTOCOLS", "Protocol", "evaluate"),
        ".reports": ("write_report",),
    },
)
