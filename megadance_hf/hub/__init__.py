"""What a repository of the Hub holds and the way there; the handler of Inference Endpoints; the authors' checkpoints."""

from megadance_hf._lazy import lazy_names

__getattr__, __all__ = lazy_names(
    __name__,
    {
        ".push": (
            "HubError",
            "check_hub",
            "model_card",
            "push_dataset",
            "push_to_hub",
            "push_while_training",
            "save_for_hub",
        ),
        ".convert": ("convert_checkpoint",),
    },
)
