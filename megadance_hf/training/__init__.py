"""Training with Accelerate: recipes, a task for each model, one loop for all of them."""

from megadance_hf._lazy import lazy_names

__getattr__, __all__ = lazy_names(
    __name__,
    {
        ".config": ("TrainingConfig", "TrainingError"),
        ".loop": ("train",),
        ".recipes": ("Recipe", "read_recipe"),
        ".samples": ("dance_sampler",),
        ".training_data": ("TrainingData", "read_data"),
        ".tasks": ("ClassifierTask", "GeneratorTask", "NewGenreTask", "RhythmTask", "Task", "TokenizerTask"),
    },
)
