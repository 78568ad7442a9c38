"""Train the genre classifier, which style features, accuracy and F1 are measured with, on a prepared data set.

python examples/train_classifier.py --config examples/configs/ballroom_classifier.yaml --data DIR --output DIR
accelerate launch examples/train_classifier.py ...             # on several GPUs
torchrun --nproc_per_node 2 examples/train_classifier.py ...   # in several processes without any
"""

import torch
from common import argument_parser, publish, read_settings, while_training

from megadance_hf.data import EpochSampler, MotionWindows, collate, window_statistics
from megadance_hf.datasets_scripts.schema import read_info, read_prepared
from megadance_hf.modeling.configuration_megadance import MegaDanceClassifierConfig
from megadance_hf.modeling.modeling_megadance_classifier import MegaDanceForGenreClassification
from megadance_hf.tasks import ClassifierTask
from megadance_hf.training import train


def main(argv: list[str] | None = None) -> dict[str, float]:
    parser = argument_parser(__doc__, "model, windows, training")
    parser.add_argument("--data", required=True, help="prepared folder")
    arguments = parser.parse_args(argv)
    settings, training = read_settings(arguments)
    options = settings.get("windows", {})

    genres = read_info(arguments.data)["genres"]
    clips = read_prepared(arguments.data, "train")
    windows = MotionWindows(clips, seed=training.seed, genres=genres, **options)
    held_out = MotionWindows(
        read_prepared(arguments.data, "validation"), **(options | {"random": False, "mirror": False}), genres=genres
    )
    torch.manual_seed(training.seed)
    config = MegaDanceClassifierConfig(
        **{"id2label": dict(enumerate(genres)), "num_outputs": len(genres), **settings.get("model", {})}
    )
    model = MegaDanceForGenreClassification(config)
    model.set_statistics(*window_statistics(MotionWindows(clips, **(options | {"random": False}), genres=genres)))
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
    main()
