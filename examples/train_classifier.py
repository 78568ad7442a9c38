"""Train the genre classifier, which style features, accuracy and F1 are measured with, on a prepared data set.

python examples/train_classifier.py --config examples/configs/ballroom_classifier.yaml --data DIR --output DIR
accelerate launch examples/train_classifier.py ...             # on several GPUs
torchrun --nproc_per_node 2 examples/train_classifier.py ...   # in several processes without any
"""

import torch
from common import (
    argument_parser,
    fit_batch,
    fit_windows,
    publish,
    read_data,
    read_settings,
    run,
    tell,
    while_training,
)

from megadance_hf.data.sampling import EpochSampler, collate
from megadance_hf.data.segments import SEGMENT_FRAMES, MotionSegments
from megadance_hf.data.statistics import segment_statistics
from megadance_hf.modeling.configuration_megadance import MegaDanceClassifierConfig
from megadance_hf.modeling.modeling_megadance_classifier import MegaDanceForGenreClassification
from megadance_hf.training.loop import check_output, train
from megadance_hf.training.recipes import DataSettings
from megadance_hf.training.tasks import ClassifierTask


def main(argv: list[str] | None = None) -> dict[str, float]:
    parser = argument_parser(__doc__, "model, data, windows, training")
    parser.add_argument("--data", required=True, help="prepared folder")
    arguments = parser.parse_args(argv)
    recipe, training = read_settings(arguments, "classifier")
    with recipe.using("data"):
        settings = DataSettings(**recipe.section("data"))
    data = read_data(arguments.data, settings, genre=True)
    genres, clips = data.genres, data.train
    with recipe.using("model"):
        sizes = {"num_outputs": len(genres), **recipe.section("model")}
        config = MegaDanceClassifierConfig(id2label=dict(enumerate(genres)), **sizes)
    check_output(arguments.output, arguments.resume, config)
    options = fit_windows(recipe.section("windows"), SEGMENT_FRAMES, clips)
    with recipe.using("windows"):
        windows = MotionSegments(clips, seed=training.seed, genres=genres, **options)
    held_out = None
    if data.held_out:  # however short a clip is, it is looked at
        whole = options | {"random": False, "mirror": False, "short": "reflect"}
        held_out = MotionSegments(data.held_out, genres=genres, **whole)
    training = fit_batch(training, windows)
    torch.manual_seed(training.seed)
    model = MegaDanceForGenreClassification(config)
    model.set_statistics(*segment_statistics(MotionSegments(clips, **(options | {"random": False}), genres=genres)))
    if arguments.dry_run:
        return tell(arguments, model, [data], model)
    report = train(
        model,
        ClassifierTask(held_out),
        windows,
        EpochSampler(windows, training.seed),
        collate,
        training,
        arguments.output,
        resume=arguments.resume,
        sample=while_training(arguments),
    )
    publish(arguments)
    return report


if __name__ == "__main__":
    run(main)
