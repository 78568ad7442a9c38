"""Processes and devices: what Accelerate knows about them, and how it is set up for a training."""

import atexit
import json
import os
import sys
import time
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from megadance_hf.modeling.errors_megadance import reading
from megadance_hf.modeling.files_megadance import whole

from .config import TrainingConfig, TrainingError

# The settings of a run as they are used, with those that the device decided, and what it ran on.
SETTINGS = "training.json"

# The other processes wait while one evaluates and draws samples.
TIMEOUT = timedelta(hours=2)
GRACE = 10.0  # seconds after which a process that has failed tells of it, if the first one has not


def processes() -> Any:
    """Accelerate's `PartialState`: this process among all, and its device. Processes without a GPU are joined as well."""
    from accelerate import PartialState

    # Every process makes or reads the whole model. Left to itself, `accelerate launch --use_fsdp` has weights read in the first process
    # alone, also those of parts that are not trained, and fails at a model with buffers.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    state = PartialState(cpu=not torch.accelerator.is_available(), timeout=TIMEOUT)
    atexit.register(state.destroy_process_group)
    return state


def is_main_process() -> bool:
    """Whether this process is the one that prints and writes."""
    return processes().is_main_process


def is_first_process() -> bool:
    """The same by the launcher's variables, before the processes are joined and where they cannot be."""
    return int(os.environ.get("RANK") or 0) == 0


def print_failure(line: str) -> None:
    """Print on stderr why this process ends. What goes wrong in all of them the first one tells, and then its launcher ends the others,
    which wait for that. What went wrong in one of these alone, it tells itself."""
    if not is_first_process():
        time.sleep(GRACE)
    print(line, file=sys.stderr, flush=True)


def print_once(text: str) -> None:
    """Print a line in the main process only."""
    if is_main_process():
        print(text, flush=True)


def decide(config: TrainingConfig, output_dir: Path, resumes: bool) -> TrainingConfig:
    """The settings with those that depend on the device; where a run is resumed they are the ones that it had.

    Args:
        resumes: there is a checkpoint in `output_dir` to go on from.
    """
    device = processes().device
    precision, workers = config.mixed_precision, config.num_workers
    if precision == "auto" and resumes:
        precision, file = "no", output_dir / SETTINGS  # earlier versions wrote none, and computed in full precision
        if file.exists():
            with reading(file, "remove it and set training.mixed_precision", TrainingError):
                precision = json.loads(file.read_text(encoding="utf-8"))["training"]["mixed_precision"]
    elif precision == "auto":
        precision = "bf16" if _computes_in_bf16(device) else "no"
    if workers is None:
        workers = min(4, _cores() // int(os.environ.get("LOCAL_WORLD_SIZE") or 1)) if device.type == "cuda" else 0
    config = replace(config, mixed_precision=precision, num_workers=workers)
    if device.type != "cpu":
        print_once(
            f"training on {_device_name(device)}: training.mixed_precision={config.mixed_precision}, "
            f"training.num_workers={config.num_workers}, training.compile={str(config.compile).lower()}"
        )
    return config


def write_settings(config: TrainingConfig, output_dir: Path, device: torch.device) -> None:
    """Keep with a run what it was trained with."""
    ran_on = {"device": _device_name(device), "processes": processes().num_processes, "torch": torch.__version__}
    with whole(output_dir / SETTINGS) as temporary:
        temporary.write_text(json.dumps({"training": asdict(config), **ran_on}, indent=2) + "\n", encoding="utf-8")


def _computes_in_bf16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


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
