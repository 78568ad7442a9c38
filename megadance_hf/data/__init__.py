"""Prepared data sets: the clip, the files, making them from raw data, and the segments and batches that training draws from them."""

from megadance_hf._lazy import lazy_names

__getattr__, __all__ = lazy_names(
    __name__,
    {
        ".augmentation": ("MotionCorruption", "MusicAugmentation"),
        ".card": ("Card",),
        ".clip": ("Clip", "ClipError"),
        ".codes": ("EncodedClip", "encode_clips"),
        ".preparation": ("RawClip", "prepare_clips"),
        ".prepared": ("DataError", "read_info", "read_prepared", "write_prepared"),
        ".sampling": ("EpochSampler", "collate"),
        ".segments": ("CodeSegments", "MotionSegments", "RhythmSegments"),
        ".songs": ("music_features",),
        ".sources": ("Option", "Source"),
        ".statistics": ("Statistics",),
    },
)
