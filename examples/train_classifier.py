"""Train the genre classifier, by which evaluation gets style features, accuracy and F1, on a prepared data set.

python examples/train_classifier.py --config examples/configs/ballroom_classifier.yaml --data DIR --output DIR
accelerate launch examples/train_classifier.py ...             # on several GPUs
torchrun --nproc_per_node 2 examples/train_classifier.py ...   # in several processes without any
"""

import torch
from common import check_repository, dry_run, run, train_and_publish

from megadance_hf import MegaDanceClassifierConfig, MegaDanceForGenreClassification
from megadance_hf.data.segments import SEGMENT_FRAMES, MotionSegments
from megadance_hf.data.statistics import segment_statistics
from megadance_hf.training import ClassifierTask, read_data
from megadance_hf.training.arguments import read_settings, recipe_parser
from megadance_hf.training.checkpoints import check_output
from megadance_hf.training.recipes import ValidationSettings
from megadance_hf.training.training_data import cut_held_out, fit_batch, fit_length, report_dropped


def main(argv: list[str] | None = None) -> dict[str, float]:
    parser = recipe_parser(__doc__, "model, data, windows, validation, training")
    parser.add_argument("--data", required=True, help="prepared folder")
    arguments, recipe, training, settings = read_settings(parser, "classifier", argv)
    check_repository(arguments)

    # data
    data = read_data(arguments.data, settings, needs_genre=True)
    genres = data.genres
    with recipe.using("model"):
        sizes = {"num_outputs": len(genres), **recipe.section("model")}
        config = MegaDanceClassifierConfig(id2label=dict(enumerate(genres)), **sizes)
    check_output(arguments.output, arguments.resume, config)
    options = fit_length(recipe.section("windows"), SEGMENT_FRAMES, data.train)
    report_dropped(data.train, options)
    with recipe.using("windows"):
        segments = MotionSegments(data.train, seed=training.seed, genres=genres, **options)
    training = fit_batch(training, segments)
    validation = None
    with recipe.using("validation"):
        held_out, windows = cut_held_out(data.held_out, ValidationSettings(**recipe.section("validation")))
    if held_out:  # all of them, however short, unless the recipe says which windows
        whole = options | {"short": "reflect"} if windows is None else windows
        validation = MotionSegments(held_out, genres=genres, **whole | {"random": False, "mirror": False})

    # model
    torch.manual_seed(training.seed)
    model = MegaDanceForGenreClassification(config)
    every = MotionSegments(data.train, genres=genres, **options | {"random": False})
    model.set_statistics(*segment_statistics(every, released=settings.statistics == "released"))
    if arguments.dry_run:
        return dry_run(arguments, model, [data], model)
    return train_and_publish(arguments, model, ClassifierTask(validation), segments, training)


if __name__ == "__main__":
    run(main)
