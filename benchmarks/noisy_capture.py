"""What noise in the training motion costs a tokenizer, without and with masks and corrupted inputs; JSON out.

    python benchmarks/noisy_capture.py --data PREPARED [--shares 0.05 0.1 0.2] [--steps 800] [--minutes 30] [--runs-in DIR]

Clips of a prepared data set get jumps of the root, dropped frames and frozen arms, a third of the share each (`MotionCorruption`). A small
tokenizer is trained on the clean clips, on the noisy ones as they are ("plain"), and on the noisy ones with `windows.mask_noise` and
section `corruption` ("robust"), with the same steps and seed. `joint_error_mm` is that of the clean validation clips, relative to the
pelvis; `growth` is what of the plain growth over the clean error is left. `recall` is how much of the noise `noisy_frames` finds,
`false_alarms` the share of clean frames that it marks.
"""

import dataclasses
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from timing import make_parser, print_report

from megadance_hf.data.augmentation import MotionCorruption
from megadance_hf.data.clip import Clip, clip_motion
from megadance_hf.data.prepared import read_prepared
from megadance_hf.data.sampling import EpochSampler, collate
from megadance_hf.data.segments import MotionSegments
from megadance_hf.data.statistics import Statistics
from megadance_hf.data.windows import noise_of
from megadance_hf.modeling.configuration_megadance import MegaDanceTokenizerConfig
from megadance_hf.modeling.kinematics_megadance import ROOT_SIZE, integrate_root_velocity, motion_to_poses
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizer
from megadance_hf.training.loop import train
from megadance_hf.training.recipes import Recipe, read_recipe
from megadance_hf.training.tasks import TokenizerTask, reconstruction_report

RECIPE = Path(__file__).parents[1] / "examples" / "configs" / "small_tokenizer.yaml"


def main(argv: list[str] | None = None) -> dict:
    parser = make_parser(__doc__)
    parser.add_argument("--data", required=True, help="prepared folder with a validation split")
    parser.add_argument("--recipe", default=str(RECIPE))
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE", help="change the recipe")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.05, 0.1, 0.2], help="of the training frames")
    parser.add_argument("--augmentation", type=float, default=0.05, help="share of the inputs' frames to corrupt")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--minutes", type=float, default=30.0, help="of training motion, the first in a random order")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs-in", metavar="DIR", help="keep the trained tokenizers here")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)

    recipe = read_recipe(options.recipe, "tokenizer", options.set)
    clean, held_out = choose(read_prepared(options.data, "train"), options), read_prepared(options.data, "validation")
    report: dict = {name: getattr(options, name) for name in ("steps", "augmentation", "seed")}
    report["minutes"] = round(sum(map(len, clean)) / 1800, 1)
    with TemporaryDirectory() as temporary:
        folder = Path(options.runs_in or temporary)
        report["clean"] = measure(clean, held_out, recipe, options, folder / "clean")
        for share in options.shares:
            clips, touched = corrupt(clean, share, options.seed)
            found = np.concatenate([noise_of(clip) for clip in clips])
            row = {
                "frames": share_of(touched),
                "recall": share_of(found[touched]),
                "false_alarms": share_of(found[~touched]),
            }
            row["plain"] = measure(clips, held_out, recipe, options, folder / f"plain_{share}")
            row["robust"] = measure(clips, held_out, recipe, options, folder / f"robust_{share}", robust=True)
            growth = [row[kind]["joint_error_mm"] - report["clean"]["joint_error_mm"] for kind in ("robust", "plain")]
            row["growth"] = round(growth[0] / growth[1], 2) if growth[1] > 0 else None
            report[f"noise_{share}"] = row
    return print_report(report)


def share_of(marks: np.ndarray) -> float:
    return round(float(marks.mean()), 4) if len(marks) else 0.0


def choose(clips: list[Clip], options) -> list[Clip]:
    """Clips in a random order, until there are so many minutes of them."""
    order = np.random.default_rng(options.seed).permutation(len(clips))
    chosen: list[Clip] = []
    for index in order:
        if sum(map(len, chosen)) >= options.minutes * 1800:
            break
        chosen.append(dataclasses.replace(clips[index], audio=None, input_features=None))
    return chosen


def corrupt(clips: list[Clip], share: float, seed: int) -> tuple[list[Clip], np.ndarray]:
    """The clips with noise in about this share of their frames, and which frames of all of them were touched."""
    corruption, made, touched = MotionCorruption(share / 3, share / 3, share / 3), [], []
    for number, clip in enumerate(clips):
        motion, marks = corruption(clip_motion(clip), np.random.default_rng((seed, number)))
        columns = torch.from_numpy(motion)
        path = integrate_root_velocity(columns[:, :ROOT_SIZE], torch.from_numpy(clip.translation[0]))
        poses = motion_to_poses(columns)[0].flatten(-2)
        made.append(dataclasses.replace(clip, poses=poses.numpy(), translation=path.numpy()))
        touched.append(marks)
    return made, np.concatenate(touched)


def measure(
    clips: list[Clip], held_out: list[Clip], recipe: Recipe, options, folder: Path, robust: bool = False
) -> dict:
    """Train a tokenizer and reconstruct the validation clips."""
    third = options.augmentation / 3
    windows = recipe.section("windows")
    if robust:
        windows |= {"mask_noise": True, "corruption": MotionCorruption(third, third, third)}
    config = MegaDanceTokenizerConfig(**recipe.section("model"))
    segments = MotionSegments(clips, seed=options.seed, **windows)
    statistics = Statistics.from_clips(clips, segments.mirror, config.heading, robust)
    steps = max(1, len(segments) // recipe.training().batch_size)
    epochs = -(-options.steps // steps)
    training = dataclasses.replace(
        recipe.training(),
        epochs=epochs,
        max_steps=options.steps,
        evaluate_every=epochs,
        save_every=epochs,
        seed=options.seed,
    )
    torch.manual_seed(options.seed)
    model = MegaDanceTokenizer(config)
    model.set_statistics(statistics.motion_mean, statistics.motion_std)
    model.calibrate(collate([segments[i] for i in range(0, len(segments), max(1, len(segments) // 64))])["motion"])
    task = TokenizerTask([], **recipe.section("task"))
    train(model, task, segments, EpochSampler(segments, options.seed), collate, training, folder)
    model = MegaDanceTokenizer.from_pretrained(folder).eval()
    with torch.no_grad():
        scores = reconstruction_report(model, held_out)
    result = {
        "joint_error_mm": round(1000 * scores["score"], 2),
        "root_error_30s_m": round(scores["root_error_30s"], 3),
        "jerk_ratio": round(scores["jerk_ratio"], 3),
    }
    print(folder.name, result, file=sys.stderr, flush=True)
    return result


if __name__ == "__main__":
    main()
