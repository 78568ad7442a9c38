"""Processes and devices: what Accelerate knows about them, and how it is set up for a training."""

import atexit
import os
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from .config import TrainingConfig, TrainingError

# The other processes wait while one evaluates and draws samples.
TIMEOUT = timedelta(hours=2)


def processes() -> Any:
    """Accelerate's `PartialState`: this process among all, and its device. Processes without a GPU are joined as well."""
    from accelerate import PartialState

    state = PartialState(cpu=not torch.accelerator.is_available(), timeout=TIMEOUT)
    atexit.register(state.destroy_process_group)
    return state


def is_main_process() -> bool:
    """Whether this process is the one that prints and writes."""
    return processes().is_main_process


def is_first_process() -> bool:
    """The same by the launcher's variables, before the processes are joined and where they cannot be."""
    return int(os.environ.get("RANK") or 0) == 0


def print_once(text: str) -> None:
    """Print a line in the main process only."""
    if is_main_process():
        print(text, flush=True)


def make_accelerator(config: TrainingConfig, output_dir: Path, unused_parameters: bool) -> Any:
    """An `Accelerator` with the precision and the trackers of `config`.

    Args:
        unused_parameters: a step may leave some parameters without a gradient.

    Raises:
        TrainingError: a tracker that is unknown or not installed, or a precision that this machine does not have.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState, is_initialized
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
    from accelerate.utils import ProjectConfiguration

    for name in config.trackers:
        if name not in LOGGER_TYPE_TO_CLASS:
            known = ", ".join(sorted(str(known) for known in LOGGER_TYPE_TO_CLASS))
            raise TrainingError(f"training.trackers: {name!r} is unknown; Accelerate knows {known}")
        if name not in [str(tracker) for tracker in get_available_trackers()]:
            raise TrainingError(f"training.trackers: {name!r} is not installed; pip install {name}, or leave it out")
    cpu = not torch.accelerator.is_available()
    if config.mixed_precision == "fp16" and (cpu or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true")):
        raise TrainingError("training.mixed_precision='fp16' needs a GPU; use 'bf16' or 'no' on a CPU")
    if is_initialized():  # an earlier training in this process may have had another precision
        AcceleratorState._reset_state()
    processes()
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision=config.mixed_precision,
        log_with=list(config.trackers) or None,
        project_config=ProjectConfiguration(project_dir=str(output_dir)),
        kwargs_handlers=[
            # Every process computes the same buffers, so there is nothing to broadcast.
            DistributedDataParallelKwargs(find_unused_parameters=unused_parameters, broadcast_buffers=False)
        ],
    )
    if config.trackers:
        accelerator.init_trackers("megadance", config={k: str(v) for k, v in asdict(config).items()})
    return accelerator


def is_sharded(accelerator: Any) -> bool:
    """Whether no process has all weights (FSDP)."""
    return str(accelerator.distributed_type).endswith("FSDP")
