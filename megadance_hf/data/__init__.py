"""Prepared data sets: their one schema, and the windows, augmentations and samplers that training draws from them."""

from megadance_hf._lazy import lazy_names

__getattr__, __all__ = lazy_names(
    __name__,
    {
        ".schema": (
            "Card",
            "Clip",
            "ClipError",
            "DataError",
            "RawClip",
            "music_features",
            "prepare_clips",
            "read_info",
            "read_prepared",
            "write_prepared",
        ),
        ".windows": (
            "CodeWindows",
            "EncodedClip",
            "EpochSampler",
            "MotionWindows",
            "MusicAugmentation",
            "RhythmWindows",
            "collate",
            "encode_clips",
        ),
    },
)
