"""megadance-hf: music in, 3D dance out.

    from megadance_hf import MusicToDancePipeline
    dance = MusicToDancePipeline.from_pretrained()("song.mp3", genre="waltz", seed=0)
    dance.save("dance.mp4", music="song.mp3")

Everything below is imported when it is first used, so that `import megadance_hf` stays light.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

# In a checkout `modeling/` and `datasets_scripts/` lie beside this folder (the top level is what the Hub and the reader
# see); `setup.py` installs them inside it. Looking beside as well makes `import megadance_hf.modeling` work in both.
_root = Path(__file__).resolve().parent.parent
if (_root / "setup.py").is_file() and (_root / "modeling").is_dir():
    __path__.append(str(_root))

from .cpu_kernels import register as _register_backends  # noqa: E402  (found by the path above)

_register_backends()

_EXPORTS = {
    "MegaDanceTokenizerConfig": ".modeling.configuration_megadance",
    "MegaDanceConfig": ".modeling.configuration_megadance",
    "MegaDanceClassifierConfig": ".modeling.configuration_megadance",
    "FINEDANCE_GENRES": ".modeling.configuration_megadance",
    "AISTPP_GENRES": ".modeling.configuration_megadance",
    "MegaDanceTokenizer": ".modeling.modeling_megadance_tokenizer",
    "MegaDanceModel": ".modeling.modeling_megadance",
    "MegaDanceForMotionGeneration": ".modeling.modeling_megadance",
    "MegaDanceForGenreClassification": ".modeling.modeling_megadance_classifier",
    "MegaDanceFeatureExtractor": ".modeling.feature_extraction_megadance",
    "load_audio": ".modeling.audio_megadance",
    "MegaDanceProcessor": ".processor",
    "Motion": ".motion.motion",
    "MusicToDancePipeline": ".pipeline",
    "find_model": ".models",
}
# Names that don't make transformers' Auto classes known (see auto.py): features alone should not wait for all models.
_PLAIN = ("Motion", "MegaDanceFeatureExtractor", "load_audio")
__all__ = ["__version__", *sorted(_EXPORTS)]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        if name not in _PLAIN:
            import_module(".auto", __name__)
        value = getattr(import_module(_EXPORTS[name], __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_EXPORTS))
