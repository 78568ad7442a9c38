"""Files that other tools read: poses, BVH, glTF, VRM, joints, SMPL meshes, a 3D stage for notebooks, a folder for Blender."""

from megadance_hf._lazy import lazy_names

__getattr__, __all__ = lazy_names(
    __name__,
    {
        ".poses": ("save_joints", "save_npz", "save_pkl", "save_smplx"),
        ".bvh": ("save_bvh",),
        ".gltf": ("save_glb", "save_vrma"),
        ".smpl_mesh": ("save_smpl_mesh",),
        ".notebook": ("show",),
        ".bundle": ("save_bundle",),
    },
)
