"""`Motion`: a dance as SMPL poses and a path of the pelvis; the files and skeletons it is read from, the bodies that show it."""

from megadance_hf._lazy import lazy_names

__getattr__, __all__ = lazy_names(
    __name__,
    {
        ".motion": ("Motion", "MotionError"),
        ".formats": ("KNOWN_SUFFIXES", "register_format"),
        ".bodies": ("BODIES", "body_mesh"),
        ".up_axis": ("LayoutError",),
    },
)
