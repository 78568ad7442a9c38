"""Checkpoints: what they hold beside weights and optimizer (progress, average of the weights), how they are written and found, whether an output can be used.

    OUTPUT/checkpoints/step-00001200/     Accelerate's files, the average of the weights, the model's configuration

Accelerate writes and reads the state, but does not name and rotate the folders: its rotation writes a checkpoint in place, so a run
killed meanwhile would resume from half of one, and deletes the oldest before the newest is written.
"""

import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from megadance_hf.modeling.errors_megadance import reading

from .config import TrainingError
from .log import METRICS
from .processes import is_sharded

CHECKPOINTS = "checkpoints"
# The model's configuration. In a checkpoint it tells whether a resumed run has the same model.
CONFIG = "config.json"
# Settings of the model that may differ in a resumed run.
IRRELEVANT = ("transformers_version", "dtype", "auto_map", "custom_pipelines", "architectures")


class Progress:
    """Where training stands; Accelerate saves it with each checkpoint."""

    def __init__(self) -> None:
        self.epoch = self.step = self.epoch_step = 0  # epoch_step: steps done in the current epoch
        self.skipped = 0  # steps that were left out because scaled gradients overflowed
        self.segments_per_step = 0
        self.best_score, self.best_epoch = math.inf, -1
        self.sums: dict[str, tuple[float, int]] = {}  # see `Means`, of the current epoch
        self.evaluation: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        renamed = {"windows_a_step": "segments_per_step"}  # in checkpoints of earlier versions
        self.__dict__.update({renamed.get(name, name): value for name, value in state.items()})


class WeightAverage:
    """Exponential moving average (EMA) of the trained weights, of this process's part of them.

    torch's `AveragedModel` keeps it, of a list of parameters instead of the model: of a frozen model with few trained weights it
    then copies only those, and a model that FSDP has sharded cannot be copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.sharded = any(hasattr(parameter, "to_local") for parameter in self.trained)
        self.weights = self._local()
        self.average = AveragedModel(self.weights, multi_avg_fn=get_ema_multi_avg_fn(decay))

    def _local(self) -> nn.ParameterList:
        """The weights themselves, not copies; under FSDP the part that this process has."""
        weights = (p.to_local() if hasattr(p, "to_local") else p.data for p in self.trained)
        return nn.ParameterList(nn.Parameter(weight, requires_grad=False) for weight in weights)

    def update(self) -> None:
        # thousands of parameters: a list of them in each step would take longer than the update
        self.average.update_parameters(self._local() if self.sharded else self.weights)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within this block the model has the average."""
        self.swap()
        yield
        self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange average and weights."""
        for average, weight in zip(self.average.module, self._local(), strict=True):
            kept = weight.clone()
            weight.copy_(average)
            average.copy_(kept)

    def save(self, path: Path) -> None:
        torch.save([average.data for average in self.average.module], path)

    @torch.no_grad()
    def load(self, path: Path) -> None:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        for average, value in zip(self.average.module, loaded, strict=True):
            average.copy_(value)
        self.average.n_averaged.fill_(1)  # else the next update would copy the weights


def newest_checkpoint(output_dir: Path) -> Path | None:
    return max((output_dir / CHECKPOINTS).glob("step-*"), default=None)


def _average_file(accelerator: Any) -> str:
    return f"average-{accelerator.process_index if is_sharded(accelerator) else 0}.pt"


def load_checkpoint(checkpoint: Path, accelerator: Any, average: WeightAverage | None) -> None:
    with reading(checkpoint, "remove it: the one before is gone on from", TrainingError):
        accelerator.load_state(str(checkpoint))
        if average is not None:
            average.load(checkpoint / _average_file(accelerator))


def save_checkpoint(
    output_dir: Path, step: int, accelerator: Any, average: WeightAverage | None, config: Any, keep: int
) -> None:
    """Write a checkpoint under another name, then rename it; only the newest `keep` stay. A killed run leaves no half checkpoint.

    Not by `whole`, since several processes write into one folder; a resumed run removes what a killed one was writing.
    """
    folder, main = output_dir / CHECKPOINTS, accelerator.is_main_process
    partial = folder / f"partial-{step:08d}"
    try:
        if main:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(partial))
        if average is not None and (main or is_sharded(accelerator)):
            average.save(partial / _average_file(accelerator))
        accelerator.wait_for_everyone()
        if main:
            text = json.dumps(config.to_dict(), indent=2, default=str)
            (partial / CONFIG).write_text(text + "\n", encoding="utf-8")
            os.replace(partial, folder / f"step-{step:08d}")
            for old in sorted(folder.glob("step-*"))[:-keep]:
                os.replace(old, partial)  # half a deleted checkpoint is no checkpoint either
                shutil.rmtree(partial)
    except BaseException:
        if main:
            shutil.rmtree(partial, ignore_errors=True)
        raise


def check_output(output_dir: str | Path, resume: bool, config: Any = None) -> None:
    """Check that a training can write there, before anything slow.

    Args:
        output_dir, resume: see `train`.
        config: of the model; a resumed training must have the same.

    Raises:
        TrainingError: it holds a training and `resume` is False, or one of another model, or nothing can be written there.
    """
    folder = Path(output_dir)
    if folder.exists() and not folder.is_dir():
        raise TrainingError(f"output={str(folder)!r} is a file: give a folder")
    if not resume:
        for name in (CHECKPOINTS, METRICS, CONFIG):
            if (folder / name).exists():
                raise TrainingError(
                    f"output={str(folder)!r} holds a training already ({name}): give another folder, or resume it (--resume)"
                )
    above = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise TrainingError(f"output={str(folder)!r} cannot be written ({above}): give another folder")
    newest = newest_checkpoint(folder) if resume else None
    if newest is not None and config is not None and (path := newest / CONFIG).is_file():
        with reading(path, "give another folder, and train anew", TrainingError):
            before = json.loads(path.read_text(encoding="utf-8"))
        _check_same_model(before, json.loads(json.dumps(config.to_dict(), default=str)), folder)


def _check_same_model(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Compare the settings that decide on the sizes of the weights and on their meaning."""
    for name in sorted(set(before) | set(now)):
        if name.startswith("_") or name in IRRELEVANT or before.get(name) == now.get(name):
            continue
        shown = "genres" if name == "id2label" else f"model.{name}"
        values = [", ".join(v.values()) if isinstance(v, dict) else repr(v) for v in (before.get(name), now.get(name))]
        raise TrainingError(
            f"output={str(folder)!r} was begun with {shown}={values[0]}, now it is {values[1]}: resume with the same, or "
            "give another folder"
        )
