"""Everything of a take as one zip: figure, skeletons, poses, sound, video, the project."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from megadance_hf.export.bundle import save_bundle
from megadance_hf.export.bvh import save_bvh
from megadance_hf.modeling.files_megadance import scratch
from megadance_hf.motion.motion import Motion

from .reports import Report

_README = """\
A dance by megadance, to "{name}", from second {start:g} on.
dance.mp4 is a video with the song (if you asked for it); dance.glb the figure; dance.bvh the skeleton, dance_mixamo.bvh with Mixamo's names;
dance.vrma the dance for VRM avatars; dance.npz SMPL poses; song.wav the sound, as long as the dance. HOWTO.txt says how to go on in
Blender. project.json is what the page opens again, with the song.
"""
_LOOP = "The dance ends where it begins: played again and again it goes on without a jump.\n"
_WRITTEN = 0.6  # share of the time that the files take; the rest is for packing them


def pack(
    target: Path,
    name: str,
    motions: Sequence[Motion],
    music: Path,
    videos: Sequence[Path],
    project: Mapping[str, Any],
    about: Mapping[str, Any],
    body: str,
    report: Report,
) -> None:
    """Write the zip; it appears whole or not at all. Each dance is a folder as `save_bundle` makes it, and more.

    Args:
        name: of the folder in the zip.
        music: the sound, as long as the dances.
        videos: of each dance, or none.
        project: what the page opens again.
        about: `name` of the song, `start` in it, whether the dance is a `loop`, for the README.
    """
    with scratch(target.parent) as home:
        written = home / target.name
        with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr(f"{name}/README.txt", _README.format(**about) + (_LOOP if about["loop"] else ""))
            file.writestr(f"{name}/project.json", json.dumps(project, indent=1))
            for index, motion in enumerate(motions):
                report.begin("Packing")
                inner = name if len(motions) == 1 else f"{name}/{index + 1}-{plain_name(motion.genre or 'dance')}"
                folder = save_bundle(motion, home / str(index), music, body=body)
                save_bvh(motion, folder / "dance_mixamo.bvh", bones="mixamo")
                for suffix in (".vrma", ".npz"):
                    motion.save(folder / f"dance{suffix}")
                if videos:
                    shutil.copyfile(videos[index], folder / "dance.mp4")
                report.at(_WRITTEN)
                for path in sorted(folder.iterdir()):
                    compression = zipfile.ZIP_STORED if path.suffix in (".mp4", ".npz") else None
                    file.write(path, f"{inner}/{path.name}", compression)
        report.check()
        os.replace(written, target)


def plain_name(name: str) -> str:
    """A name for a file: letters, digits, hyphens."""
    return re.sub(r"[^\w-]+", "_", name).strip("_")[:60] or "song"
