"""Training with Accelerate: recipes, the tasks of each model, one loop for all of them."""

from megadance_hf._lazy import lazy_names

__getattr__, __all__ = lazy_names(
    __name__,
    {
        ".loop": ("TrainingConfig", "TrainingError", "train"),
        ".recipes": ("Recipe", "read_recipe"),
        ".tasks": ("ClassifierTask", "GeneratorTask", "NewGenreTask", "RhythmTask", "Task", "TokenizerTask"),
    },
)
