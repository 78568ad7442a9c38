"""A folder for animators: the dance, its song cut to length, and a script that opens both in Blender."""

from __future__ import annotations

import io
import os
import shutil
from fractions import Fraction
from pathlib import Path

import soundfile

from megadance_hf.motion.motion import Motion, MotionError, atomic_path
from megadance_hf.render.video import Music, cut_music

from .bvh import save_bvh
from .gltf import save_glb

_HOWTO = """\
All at once: `blender --python open_in_blender.py` in this folder (Blender 3.4 or newer); for an FBX `blender --background \
--python open_in_blender.py -- --fbx dance.fbx`.
dance.glb by hand: first set Output > Format > Frame Rate to {fps}, then File > Import > glTF 2.0; it is life size (1 unit = 1 \
metre) and dances from frame 0 to {last}: set Start 0 and End {last}, and in the Video Sequencer Add > Sound song.wav with its \
Start Frame at 0.
dance.bvh by hand: File > Import > Motion Capture (.bvh) with Scale 1, Start Frame 1 and Update Scene FPS ticked; it is life \
size and dances from frame 1 to {count}: set Start 1 and End {count}, and Add > Sound song.wav with its Start Frame at 1.
"""


def save_bundle(
    motion: Motion,
    directory: str | os.PathLike,
    music: Music,
    music_start: float = 0.0,
    bones: str = "smpl",
    body: str = "mannequin",
) -> Path:
    """Write a new folder with everything needed to continue in Blender; it appears whole or not at all.

    - `dance.glb`, `dance.bvh`: the figure and the skeleton, life size;
    - `song.wav`: the song during the dance, exactly as long, 16 bit, without decoder delay: frame 0 is sample 0;
    - `open_in_blender.py`: run by Blender, imports the .glb, sets frame rate and range, places the sound at the first frame;
      `-- --fbx FILE` converts;
    - `HOWTO.txt`: how to do the same by hand.

    Args:
        directory: name of the folder, which must not exist yet.
        music: a file (path or bytes), or (waveform, rate), as in `render_video`.
        music_start: position in the song, in seconds, of frame 0. Where the song ends before the dance, silence follows.
        bones: of the .bvh, as in `save_bvh`.
        body: of the .glb, as in `save_glb`.

    Raises:
        MotionError: `directory` exists or cannot be written; `motion.fps` is not whole, which Blender cannot import.
        AudioError, RenderError: the song cannot be used.
    """
    directory = Path(directory)
    check_bundle(directory)
    if motion.fps != round(motion.fps):
        raise MotionError(
            f"fps={motion.fps!r}: Blender needs a whole number of frames per second; give motion.resampled(30)"
        )
    sound, rate = cut_music(music, music_start, Fraction(len(motion), round(motion.fps)))
    with atomic_path(directory) as folder:
        folder.mkdir()
        save_glb(motion, folder / "dance.glb", body)
        save_bvh(motion, folder / "dance.bvh", bones=bones)
        memory = io.BytesIO()  # soundfile cannot open every file name, and hides the reason when a disk is full
        soundfile.write(memory, sound.T, rate, subtype="PCM_16", format="WAV")
        (folder / "song.wav").write_bytes(memory.getbuffer())
        shutil.copyfile(Path(__file__).with_name("open_in_blender.py"), folder / "open_in_blender.py")
        numbers = {"fps": round(motion.fps), "count": len(motion), "last": len(motion) - 1}
        (folder / "HOWTO.txt").write_text(_HOWTO.format(**numbers), encoding="utf-8")
    return directory


def check_bundle(directory: Path) -> None:
    """Raises MotionError if `save_bundle` could not make this folder: call it before a long computation."""
    if directory.exists():
        raise MotionError(f"directory={str(directory)!r} exists: give the name of a new folder")
    if not directory.parent.is_dir():
        raise MotionError(
            f"directory={str(directory)!r}: the folder {str(directory.parent)!r} does not exist; create it first"
        )
