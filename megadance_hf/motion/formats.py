"""The formats that `Motion.save` writes, and what shows a motion in 3D: the place for another export format.

A format of this package is one function in `megadance_hf/export/` (or `render/`) and one line in `_WRITERS` below. A format from
outside needs neither:

    from megadance_hf.motion import register_format

    def save_c3d(motion, path, units="mm"):
        ...

    register_format(".c3d", save_c3d)
    motion.save("dance.c3d", units="m")

Writers are named here as "module:function" and imported on first use: a pose file must not need a video encoder, and `motion` must
not depend on the rooms that depend on it. What `Motion.load` reads is in `files.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

_WRITERS: dict[str, str | Callable[..., Any]] = {
    ".npz": "megadance_hf.export.poses:save_npz",
    ".pkl": "megadance_hf.export.poses:save_pkl",
    ".bvh": "megadance_hf.export.bvh:save_bvh",
    ".glb": "megadance_hf.export.gltf:save_glb",
    ".vrma": "megadance_hf.export.gltf:save_vrma",
    ".smplx.npz": "megadance_hf.export.poses:save_smplx",
    ".joints.npz": "megadance_hf.export.poses:save_joints",
    ".json": "megadance_hf.export.poses:save_joints",
    ".mp4": "megadance_hf.render.video:render_video",
}
SHOW = "megadance_hf.export.notebook:show"  # Motion.show
NOTEBOOK_HTML = "megadance_hf.export.notebook:notebook_html"  # Motion._repr_html_

KNOWN_SUFFIXES = _WRITERS.keys()  # a view: registered formats are in it


def register_format(suffix: str, writer: Callable[..., Any]) -> None:
    """Make `Motion.save` write names that end in `suffix` with `writer`; an earlier writer of that suffix is replaced.

    Args:
        suffix: begins with a dot, such as ".c3d"; upper and lower case are the same. The longest suffix that fits a name is taken.
        writer: called as `writer(motion, path, **options)` with the options of `Motion.save`. One that has a parameter `music` is
            given the song, or None. It should write through `atomic_path(path)`, so that a file appears whole or not at all.

    Raises:
        ValueError: `suffix` is not one, or `writer` cannot be called.
    """
    if not (isinstance(suffix, str) and suffix.startswith(".") and len(suffix) > 1 and "/" not in suffix):
        raise ValueError(f"suffix={suffix!r}: give the end of a file name with its dot, such as '.c3d'")
    if not callable(writer):
        raise ValueError(f"writer={writer!r}: give a function (motion, path, **options)")
    _WRITERS[suffix.lower()] = writer


def suffix_of(name: str) -> str | None:
    """The longest known suffix that a file name ends in; None without one."""
    return max((suffix for suffix in _WRITERS if name.lower().endswith(suffix)), key=len, default=None)


def write(motion: Any, path: Any, suffix: str, music: Any, options: dict[str, Any]) -> None:
    """Write `motion` to `path` with the writer of `suffix`, with the song if that writer takes one."""
    writer = _WRITERS[suffix]
    writer = resolve(writer) if isinstance(writer, str) else writer
    if "music" in inspect.signature(writer).parameters:
        options = {**options, "music": music}
    writer(motion, path, **options)


def resolve(reference: str) -> Callable[..., Any]:
    """The function that "module:function" names."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
