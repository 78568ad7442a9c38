"""First training of a generator's rhythm encoder, on songs whose beats are known; see `rhythm_megadance.py`. Not in the paper."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from megadance_hf.data.augmentation import MusicAugmentation
from megadance_hf.data.clip import Clip
from megadance_hf.data.rhythm import beat_position
from megadance_hf.data.sampling import EpochSampler, collate
from megadance_hf.data.segments import RhythmSegments, fitting_length
from megadance_hf.data.statistics import Statistics
from megadance_hf.modeling.configuration_megadance import MegaDanceConfig
from megadance_hf.modeling.errors_megadance import ModelError
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration
from megadance_hf.modeling.progress_megadance import progress_bar
from megadance_hf.synthetic.composer import composed_clip

from .checkpoints import check_output
from .loop import train
from .processes import is_main_process, print_once, processes
from .recipes import Recipe, RecipeError
from .tasks import RhythmTask
from .training_data import TrainingData, fit_batch

# Composed songs that stand in where the data have none with clear beats.
COMPOSED_SONGS, COMPOSED_SECONDS = 24, 20.0
MOST_SONGS = 1000
# Frames of music in which a bar can be heard.
SHORTEST_RHYTHM = 64


def check_rhythm(
    recipe: Recipe, config: MegaDanceConfig, teacher: MegaDanceForMotionGeneration | None, source: str
) -> None:
    """Check that a generator with a rhythm encoder has a recipe to train it, or a `teacher` with one of the same size.

    Raises:
        RecipeError, ModelError: it has not.
    """
    if teacher is None:
        if config.rhythm_size and "rhythm" not in recipe:
            raise RecipeError(
                f"{recipe.source}: model.rhythm_size={config.rhythm_size} needs a section rhythm, by which its encoder is "
                "trained: add one (see examples/configs/small_generator.yaml), or set model.rhythm_size=0"
            )
        if not config.rhythm_size and "rhythm" in recipe:
            print_once("model.rhythm_size=0: no rhythm encoder, section rhythm is not used")
        return
    for name in ("rhythm_size", "rhythm_layers", "music_feature_size"):
        theirs, ours = getattr(teacher.config, name), getattr(config, name)
        if not teacher.config.rhythm_size or theirs != ours:
            raise ModelError(
                f"--rhythm {source}: its {name} is {theirs}, the recipe's {ours}: set model.{name}={theirs}"
            )


def train_rhythm(
    model: MegaDanceForMotionGeneration,
    data: TrainingData,
    statistics: Statistics,
    recipe: Recipe,
    output: Path,
    *,
    resume: bool = False,
    max_steps: int | None = None,
) -> MegaDanceForMotionGeneration:
    """Train only the rhythm encoder, as section `rhythm` of the recipe says; the model returned has it frozen."""
    training = recipe.training("rhythm.training")
    training = replace(training, max_steps=max_steps or training.max_steps)
    check_output(output, resume, model.config)
    with recipe.using("rhythm.augmentation"):
        augmentation = MusicAugmentation(**recipe.section("rhythm.augmentation"))
    songs, options = _songs(recipe, data)
    with recipe.using("rhythm.windows"):
        segments = RhythmSegments(songs, statistics, augmentation=augmentation, seed=training.seed, **options)
    training = fit_batch(training, segments, "rhythm.training")
    model.requires_grad_(False)
    model.model.rhythm_encoder.requires_grad_(True)
    task, sampler = RhythmTask(_clear(data.held_out)), EpochSampler(segments, training.seed)
    train(model, task, segments, sampler, collate, training, output, resume=resume)
    model = MegaDanceForMotionGeneration.from_pretrained(output)  # under FSDP the one that was trained is sharded
    model.model.rhythm_encoder.requires_grad_(False)
    return model.to(processes().device)


def _clear(clips: Sequence[Clip]) -> list[Clip]:
    """Clips with music whose beats are known or clearly audible."""
    return [clip for clip in clips if clip.paired and beat_position(clip) is not None]


def _songs(recipe: Recipe, data: TrainingData) -> tuple[list[Clip], dict[str, Any]]:
    """Songs with beats to learn from, the data's and composed ones, and the options of their segments."""
    options, composed = recipe.section("rhythm.windows"), recipe.section("rhythm").get("composed_songs", 0)
    with recipe.using("rhythm"):
        if not 0 <= composed <= MOST_SONGS:
            raise ValueError(f"composed_songs={composed} is not possible: give 0 to {MOST_SONGS}")
    repeats = recipe.repeats("rhythm", data.genres)
    clear = _clear(data.train)
    known = sum(clip.beat_source == "known" for clip in clear)
    print_once(f"rhythm: beats of {known} clips are known, of {len(clear) - known} clearly heard, of {len(data.train)}")
    wanted, tempo, seconds = options.get("length", 320), max(1.0, options.get("tempo", 1.0)), 40.0
    # one frame more than the fastest segment has, as segments take it
    length = fitting_length([math.floor((len(clip) - 1) / tempo) for clip in clear], wanted, least=SHORTEST_RHYTHM)
    if length is None and not composed:
        composed, seconds = COMPOSED_SONGS, COMPOSED_SECONDS
        print_once(f"rhythm: too few or too short to learn from; {composed} composed songs stand in")
    elif length is not None and length < wanted:
        print_once(f"rhythm.windows.length={length} instead of {wanted}: most clips are shorter")
        options["length"] = length
    seeds = progress_bar(range(composed), desc="composing", unit="song", disable=not is_main_process())
    songs = [composed_clip(seed, seconds) for seed in seeds]
    if length is None:
        return songs, options
    return [clip for clip in clear for _ in range(repeats.get(clip.genre, 1))] + songs, options
