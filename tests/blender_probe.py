"""Run by Blender in test_blender.py, not by pytest: what is in its scene, as JSON in the file that PROBE_OUT names.

PROBE_IMPORT names a file to open first; without it the scene is what a script before this one has made.
"""

import builtins
import json
import os
from pathlib import Path

import bpy
import numpy


def import_bvh(path: str) -> None:
    if bpy.app.version < (3, 6):
        import io_anim_bvh.import_bvh as importer

        # Debian 12 runs Blender 3.4 with Python 3.11, which no longer knows the mode "rU" its importer opens files with.
        importer.open = lambda name, mode="r": builtins.open(name, mode.replace("U", ""))
    # The options that HOWTO.txt names.
    bpy.context.scene.render.fps = 24  # what Blender starts with
    bpy.ops.import_anim.bvh(filepath=path, global_scale=1.0, frame_start=1, update_scene_fps=True)


def places(armature, frame: int) -> dict[str, list[float]]:
    """World position of the start of each bone, in Blender's axes (Z up), at a frame."""
    bpy.context.scene.frame_set(frame)
    return {bone.name: list(armature.matrix_world @ bone.head) for bone in armature.pose.bones}


def describe() -> dict:
    scene = bpy.context.scene
    (armature,) = (item for item in scene.objects if item.type == "ARMATURE")
    first, last = (round(frame) for frame in armature.animation_data.action.frame_range)
    frames = sorted({first + round(index * (last - first) / 9) for index in range(10)})
    sounds = []
    if scene.sequence_editor is not None:
        editor = scene.sequence_editor
        strips = editor.strips if hasattr(editor, "strips") else editor.sequences
        sounds = [[strip.frame_final_start, strip.frame_final_duration, strip.sound.filepath] for strip in strips]
    return {
        "fps": scene.render.fps / scene.render.fps_base,
        "range": [scene.frame_start, scene.frame_end],
        "action": [first, last],
        "current": scene.frame_current,
        "sync": scene.sync_mode,
        "sounds": sounds,
        "objects": sorted(
            item.type for item in scene.objects if item.visible_get() and item.type not in ("CAMERA", "LIGHT")
        ),
        "places": {frame - first: places(armature, frame) for frame in frames},
    }


def main() -> None:
    if path := os.environ.get("PROBE_IMPORT"):
        for item in list(bpy.data.objects):
            bpy.data.objects.remove(item)
        bpy.context.scene.render.fps = 30
        if path.endswith(".bvh"):
            import_bvh(path)
        elif path.endswith(".fbx"):
            bpy.ops.import_scene.fbx(filepath=path)
        else:
            if not hasattr(numpy, "bool"):
                numpy.bool = bool  # see open_in_blender.py
            bpy.ops.import_scene.gltf(filepath=path)
    Path(os.environ["PROBE_OUT"]).write_text(json.dumps(describe()))


main()
