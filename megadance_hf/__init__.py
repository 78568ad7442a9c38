"""megadance-hf: music in, 3D dance out.

    from megadance_hf import MusicToDancePipeline
    dance = MusicToDancePipeline.from_pretrained()("song.mp3", genre="waltz", seed=0)
    dance.save("dance.mp4", music="song.mp3")

Every name is imported when it is first used, so that `import megadance_hf` stays light.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from ._lazy import lazy_names

__version__ = "0.1.0"

# In a checkout `modeling/` and `datasets_scripts/` lie beside this folder (the top level is what the Hub and the reader
# see); `setup.py` installs them inside it. Looking beside as well makes `import megadance_hf.modeling` work in both.
_root = Path(__file__).resolve().parent.parent
if (_root / "setup.py").is_file() and (_root / "modeling").is_dir():
    __path__.append(str(_root))

from .cpu_kernels import register as _register_backends  # noqa: E402  (found by the path above)

_register_backends()

_find, _names = lazy_names(
    __name__,
    {
        ".modeling.audio_megadance": ("load_audio",),
        ".modeling.configuration_megadance": (
            "MegaDanceClassifierConfig",
            "MegaDanceConfig",
            "MegaDanceTokenizerConfig",
        ),
        ".modeling.genres_megadance": ("AISTPP_GENRES", "FINEDANCE_GENRES"),
        ".modeling.quantizers_megadance": ("Quantizer", "register_quantizer"),
        ".modeling.feature_extraction_megadance": ("MegaDanceFeatureExtractor",),
        ".modeling.modeling_megadance": ("MegaDanceForMotionGeneration", "MegaDanceModel"),
        ".modeling.modeling_megadance_classifier": ("MegaDanceForGenreClassification",),
        ".modeling.modeling_megadance_tokenizer": ("MegaDanceTokenizer",),
        ".models": ("find_model",),
        ".motion.motion": ("Motion",),
        ".pipeline": ("MusicToDancePipeline",),
        ".processor": ("MegaDanceProcessor",),
    },
)
# All other names register transformers' Auto classes first (auto.py), which takes the import of all models.
_WITHOUT_AUTO = ("Motion", "MegaDanceFeatureExtractor", "load_audio")
__all__ = ["__version__", *_names]


def __getattr__(name: str) -> Any:
    if name in _names and name not in _WITHOUT_AUTO:
        import_module(".auto", __name__)
    return _find(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_names})
