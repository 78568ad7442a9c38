"""Opens the dance of this folder in Blender (3.4 or newer), with its sound: dance.glb and song.wav.

    blender --python open_in_blender.py
    blender --background --python open_in_blender.py -- --fbx dance.fbx     # only convert

`bundle.py` copies it beside those two files; it runs without megadance_hf.
"""

import argparse
import json
import struct
import sys
from pathlib import Path

import bpy
import numpy

if not hasattr(numpy, "bool"):
    # Blender 3.4's glTF importer uses this name, which numpy 1.24 removed; Debian 12 combines the two.
    numpy.bool = bool
FOLDER = Path(__file__).resolve().parent


def frame_rate(path: Path) -> int:
    """The frames per second in the file's extras; glTF itself has only seconds."""
    with open(path, "rb") as file:
        file.seek(12)
        (length, _) = struct.unpack("<I4s", file.read(8))
        return round(json.loads(file.read(length))["extras"]["fps"])


def open_dance() -> list:
    """Import the dance, set the scene to it, place the sound at its first frame; returns the imported objects."""
    scene = bpy.context.scene
    # Before the import, which turns seconds into frames at the scene's rate.
    scene.render.fps, scene.render.fps_base = frame_rate(FOLDER / "dance.glb"), 1.0
    if cube := bpy.data.objects.get("Cube"):  # of Blender's default scene, in the dancer's place
        bpy.data.objects.remove(cube)
    earlier = set(bpy.data.objects)
    bpy.ops.import_scene.gltf(filepath=str(FOLDER / "dance.glb"))
    imported = [item for item in bpy.data.objects if item not in earlier]
    (armature,) = (item for item in imported if item.type == "ARMATURE")
    first, last = (round(frame) for frame in armature.animation_data.action.frame_range)
    scene.frame_start, scene.frame_end = first, last
    editor = scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences  # renamed in Blender 4.4
    strips.new_sound(name="song", filepath=str(FOLDER / "song.wav"), channel=1, frame_start=first)
    scene.sync_mode = "AUDIO_SYNC"  # the picture follows the sound, dropping frames where it must
    scene.frame_set(first)
    return [item for item in imported if item == armature or item.parent == armature]


def save_fbx(objects: list, path: Path) -> None:
    """Export the armature and its body, with a key in every frame."""
    for item in bpy.context.scene.objects:
        item.select_set(item in objects)
    bpy.ops.export_scene.fbx(
        filepath=str(path),
        use_selection=True,
        add_leaf_bones=False,
        bake_anim_use_nla_strips=False,
        bake_anim_use_all_actions=False,
        bake_anim_simplify_factor=0.0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="blender --background --python open_in_blender.py --")
    parser.add_argument("--fbx", metavar="FILE", type=Path, help="also write the dance as FBX")
    arguments = parser.parse_args(sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else [])
    objects = open_dance()
    if arguments.fbx:
        save_fbx(objects, arguments.fbx.resolve())


main()
