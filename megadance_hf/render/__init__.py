"""Pictures of a dance: video and filmstrip."""

from megadance_hf._lazy import lazy_names

__getattr__, __all__ = lazy_names(
    __name__,
    {
        ".stage": ("RenderError",),
        ".video": ("cut_music", "filmstrip", "render_frames", "render_video"),
    },
)
