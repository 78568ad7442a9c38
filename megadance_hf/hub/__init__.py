"""The Hub: what a repository holds and how it is uploaded, the handler of Inference Endpoints; the authors' checkpoints."""

from megadance_hf._lazy import lazy_names

__getattr__, __all__ = lazy_names(
    __name__,
    {
        ".card": ("model_card",),
        ".connection": ("HubError", "check_hub"),
        ".convert": ("convert_checkpoint",),
        ".datasets": ("push_dataset",),
        ".push": ("push_to_hub", "push_while_training"),
        ".repository": ("save_for_hub",),
    },
)
