"""What the training scripts share beyond `megadance_hf.training`: the end of a script, mistakes as one line, and the way to the Hub."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn
from torch.utils.data import Dataset, Sampler
from transformers.utils.logging import disable_progress_bar

from megadance_hf import training as library
from megadance_hf.cli.console import status_of, stoppable
from megadance_hf.data import EpochSampler, collate
from megadance_hf.hub.push import check_hub, listing, push_to_hub, push_while_training, save_for_hub
from megadance_hf.modeling.errors_megadance import reason_of
from megadance_hf.modeling.files_megadance import scratch
from megadance_hf.training.processes import is_first_process, is_main_process, print_failure, print_once, processes


def run(main: Callable[[], Any]) -> NoReturn:
    """Run a script: what goes wrong is one line on stderr, from one process, and exit status 2."""
    status = 0
    if not sys.stderr.isatty():  # transformers' bars; ours look for themselves
        disable_progress_bar()
    try:
        with stoppable():
            main()
    except KeyboardInterrupt as stop:
        status = status_of(stop)
        if is_first_process():
            print(
                f"{Path(sys.argv[0]).stem}: stopped; the same line with --resume goes on from the last checkpoint",
                file=sys.stderr,
            )
    except Exception as error:
        # on a CPU torch raises a plain RuntimeError
        full = isinstance(error, RuntimeError) and "allocate memory" in str(error)
        if full or isinstance(error, MemoryError | torch.OutOfMemoryError):
            message = f"out of memory ({reason_of(error, 120)}): use a smaller training.batch_size or model"
        elif isinstance(error, OSError) or type(error).__module__.partition(".")[0] == "megadance_hf":
            message = " ".join(str(error).split())
        else:
            raise  # a bug: its traceback tells where
        status = 2
        print_failure(f"{Path(sys.argv[0]).stem}: error: {message}")
    raise SystemExit(status)


def check_repository(arguments: argparse.Namespace) -> None:
    """Check before hours of training that the Hub can be reached and knows the user."""
    if arguments.push_to_hub and not arguments.dry_run and is_main_process():
        check_hub(arguments.push_to_hub)


def dry_run(arguments: argparse.Namespace, model: nn.Module, data: Sequence[library.TrainingData], whole: Any) -> dict:
    """Print what would be trained on what, and what would be uploaded: `whole`, a model or a pipeline."""
    train, held_out = sum(len(one.train) for one in data), len(data[0].held_out)
    print_once(
        f"would train {type(model).__name__}, {model.num_parameters():,} parameters, on {train} clips, measured by {held_out}"
    )
    print_once(f"would write to {arguments.output}")
    if arguments.push_to_hub and is_main_process():
        with scratch() as temporary:
            folder = save_for_hub(whole, temporary / "repository", repo=arguments.push_to_hub)
            print(listing(folder, arguments.push_to_hub, "model"))
    return {}


def train_and_publish(
    arguments: argparse.Namespace,
    model: nn.Module,
    task: library.Task,
    segments: Dataset,
    training: library.TrainingConfig,
    *parts: tuple[Any, Path],
    sampler: Sampler | None = None,
    draw: Callable[[nn.Module, int], None] | None = None,
    whole: Callable[[nn.Module], Any] | None = None,
) -> dict[str, float]:
    """Train with samples by `draw`, and pushes with --push-to-hub (for `whole` see `push_while_training`); then `publish`."""
    callbacks = [] if draw is None else [draw]
    if arguments.push_to_hub:
        callbacks.append(push_while_training(arguments.push_to_hub, whole))

    def sample(model: nn.Module, epoch: int) -> None:
        for callback in callbacks:
            callback(model, epoch)

    sampler = EpochSampler(segments, training.seed) if sampler is None else sampler
    output, resume = arguments.output, arguments.resume
    report = library.train(model, task, segments, sampler, collate, training, output, resume=resume, sample=sample)
    publish(arguments, *parts)
    return report


def publish(arguments: argparse.Namespace, *parts: tuple[Any, Path]) -> None:
    """Save the other parts of a model beside it, and upload the folder with --push-to-hub; in one process of several."""
    if is_main_process():
        for part, folder in parts:
            part.save_pretrained(folder)
        if arguments.push_to_hub:
            print(push_to_hub(arguments.output, arguments.push_to_hub))
    processes().wait_for_everyone()
