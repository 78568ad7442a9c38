"""One Accelerate loop that all models train with.

What differs between the models is a `Task` (`tasks.py`). What is common lives here: devices and processes, precision,
accumulation, clipping, schedules, the moving average of the weights, progress bars, curves, checkpoints.

A run that is stopped and resumed ends bit-identical to one that was not: the order and the augmentation of the data derive
from (seed, epoch, index), dropout from (seed, step, process), and a checkpoint holds all else.

Several processes (torchrun, `accelerate launch`) train to the weights of one process with the batches of all of them, up to
rounding: a step takes the same windows in the same order, with the same random numbers of data, augmentation and task
(`Draws`), and batch statistics are those of the whole step. Only dropout inside a model differs: each process draws its own.
"""

import atexit
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler

from megadance_hf.modeling.errors_megadance import reading
from megadance_hf.modeling.files_megadance import whole
from megadance_hf.modeling.progress_megadance import progress_bar

from .tasks import Draws, Task, idle_biases

CHECKPOINTS = "checkpoints"
METRICS = "metrics.jsonl"
# The model's configuration; in a checkpoint it tells a resumed run that it is the same model.
CONFIG = "config.json"
BEST = "best.safetensors"
# One process evaluates and draws while the others wait for it.
PATIENCE = timedelta(hours=2)


class TrainingError(ValueError):
    """Training cannot be done as asked; the message is one line naming the setting and the remedy."""


@dataclass
class TrainingConfig:
    """How to train. The paper leaves the learning rate open ("fixed"); the rest of its recipe is in `examples/configs`.

    Attributes:
        epochs: passes over the windows.
        batch_size: windows a batch and process; a step takes `batch_size * gradient_accumulation_steps` of each process.
        max_steps: end after so many steps, even within an epoch, with all that comes at an end; 0 for none.
        learning_rate, betas, weight_decay: of Adam (AdamW when weight_decay > 0).
        schedule: "constant" (the paper's), "cosine" or "linear" (both to 2 % of the learning rate), after `warmup_steps`.
        max_grad_norm: gradient clipping; 0 for none.
        gradient_accumulation_steps: batches a step.
        gradient_checkpointing: compute each layer again on the way back instead of keeping what it computed: less memory,
            more time, the same gradients. Only the generator has layers that can.
        mixed_precision: "no", "bf16" or "fp16" (which needs a GPU).
        ema_decay: moving average of the weights that is evaluated and saved; 0 for none.
        keep_best: save the weights with the best "score" instead of the last ones.
        seed: of data, augmentation, dropout and the initial weights.
        evaluate_every, save_every: epochs between evaluations and checkpoints.
        save_every_steps: also write a checkpoint every so many steps, for long epochs; 0 for none.
        sample_every: epochs between samples (see `train`); 0 for none.
        keep_checkpoints: how many of the newest checkpoints stay.
        trackers: names that Accelerate knows ("tensorboard", "trackio", "wandb"); `metrics.jsonl` is always written.

    Raises:
        TrainingError: a value that cannot be used.
    """

    epochs: int = 80
    batch_size: int = 64
    max_steps: int = 0
    learning_rate: float = 3e-4
    betas: tuple[float, float] | list[float] = (0.9, 0.99)
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    warmup_steps: int = 0
    max_grad_norm: float = 1.0
    gradient_accumulation_steps: int = 1
    gradient_checkpointing: bool = False
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    ema_decay: float = 0.0
    keep_best: bool = False
    seed: int = 0
    evaluate_every: int = 1
    save_every: int = 1
    save_every_steps: int = 0
    sample_every: int = 0
    keep_checkpoints: int = 2
    trackers: list[str] | tuple[str, ...] = ()

    def __post_init__(self) -> None:
        at_least_one = {"epochs", "batch_size", "gradient_accumulation_steps", "evaluate_every", "save_every"}
        at_least_one.add("keep_checkpoints")
        for name, kind in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if kind is int:
                lowest = int(name in at_least_one)
                good = isinstance(value, int) and not isinstance(value, bool) and value >= lowest
                self._require(good, name, f"give a whole number of {lowest} or more")
            elif kind is float:
                good = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
                # YAML reads 1e-3 as text
                self._require(good, name, "give a number of 0 or more; in YAML write 1.0e-3, not 1e-3")
            elif kind is bool:
                self._require(isinstance(value, bool), name, "give true or false")
            elif choices := [choice for choice in get_args(kind) if isinstance(choice, str)]:
                # YAML reads a bare `no` as false
                if name == "mixed_precision" and value is False:
                    self.mixed_precision = value = "no"
                self._require(value in choices, name, f"give one of {', '.join(choices)}")
        self._require(self.ema_decay < 1, "ema_decay", "give a number from 0 to below 1")
        self._require(len(self.betas) == 2, "betas", "give two numbers")
        self._require(not isinstance(self.trackers, str), "trackers", "give a list of names")

    def _require(self, condition: bool, name: str, remedy: str) -> None:
        if not condition:
            raise TrainingError(f"training.{name}={getattr(self, name)!r}: {remedy}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainingConfig":
        """From a YAML file's mapping; an unknown name is an error that lists the known ones."""
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise TrainingError(f"training.{name} is not a setting; the settings are {', '.join(known)}")
        return cls(**values)

    def learning_rate_at(self, step: int, total_steps: int) -> float:
        """Learning rate of step `step` of `total_steps`, counted from 0."""
        factor = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        done = min(1.0, step / max(1, total_steps))
        if self.schedule == "cosine":
            factor *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))
        elif self.schedule == "linear":
            factor *= 0.02 + 0.98 * (1 - done)
        return self.learning_rate * factor


# --- processes -----------------------------------------------------------------------------------------------------


def processes() -> Any:
    """Accelerate's `PartialState`: this process among all, and its device. Processes without a GPU are joined as well."""
    from accelerate import PartialState

    atexit.register(_leave_processes)
    return PartialState(cpu=not torch.accelerator.is_available(), timeout=PATIENCE)


def _leave_processes() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _accelerator(config: TrainingConfig, output_dir: Path, unused_parameters: bool) -> Any:
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
            # Buffers are computed from what all processes have, so there is nothing to send round.
            DistributedDataParallelKwargs(find_unused_parameters=unused_parameters, broadcast_buffers=False)
        ],
    )
    if config.trackers:
        accelerator.init_trackers("megadance", config={k: str(v) for k, v in asdict(config).items()})
    return accelerator


def _is_sharded(accelerator: Any) -> bool:
    """Whether no process has all weights (FSDP)."""
    return str(accelerator.distributed_type).endswith("FSDP")


# --- what a checkpoint holds beside weights and optimizer ------------------------------------------------------------


class _Progress:
    """Where training stands; saved with each checkpoint by Accelerate."""

    def __init__(self) -> None:
        self.epoch = self.step = self.epoch_step = 0  # epoch_step: steps of the epoch that has begun
        self.windows_a_step = 0
        self.best_score, self.best_epoch = math.inf, -1
        self.sums: dict[str, tuple[float, int]] = {}  # of the numbers logged in this epoch, and how many they were
        self.evaluation: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class _Log:
    """Means of what is logged, kept on the device: to ask for a number at every step would make a GPU wait."""

    def __init__(self, sums: dict[str, tuple[float, int]]) -> None:
        self._set(sums)

    def _set(self, sums: dict[str, tuple[float, int]]) -> None:
        self.sums = {name: [torch.tensor(total, dtype=torch.float64), count] for name, (total, count) in sums.items()}

    def add(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            value = torch.as_tensor(value).detach()
            if hasattr(value, "full_tensor"):  # FSDP: every process has a part of it
                value = value.full_tensor()
            value = value.double() if value.device.type != "mps" else value.cpu().double()
            entry = self.sums.setdefault(name, [torch.zeros((), dtype=torch.float64), 0])
            entry[0] = entry[0].to(value.device) + value
            entry[1] += 1

    def over_processes(self, accelerator: Any) -> dict[str, tuple[float, int]]:
        """Sums averaged over processes; this process goes on from them, as one that is resumed does."""
        names = sorted(self.sums)
        totals = torch.stack([self.sums[name][0].to(accelerator.device) for name in names])
        totals = accelerator.reduce(totals, "mean").tolist()
        sums = {name: (total, self.sums[name][1]) for name, total in zip(names, totals, strict=True)}
        self._set(sums)
        return sums


class _WeightAverage:
    """Exponential moving average of the weights that are trained, this process's part of them."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.trained, self.decay = [p for p in model.parameters() if p.requires_grad], decay
        self.weights: list[Tensor] = []

    def _local(self) -> list[Tensor]:
        return [p.to_local() if hasattr(p, "to_local") else p.data for p in self.trained]

    @torch.no_grad()
    def update(self) -> None:
        if self.weights:
            torch._foreach_lerp_(self.weights, self._local(), 1 - self.decay)
        else:
            self.weights = [weight.clone() for weight in self._local()]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the average meanwhile."""
        self.swap()
        yield
        self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Average and weights change places."""
        for average, weight in zip(self.weights, self._local(), strict=True):
            kept = weight.clone()
            weight.copy_(average)
            average.copy_(kept)

    def save(self, path: Path) -> None:
        torch.save(self.weights, path)

    def load(self, path: Path) -> None:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        self.weights = [value.to(weight.device) for value, weight in zip(loaded, self._local(), strict=True)]


# --- the loop --------------------------------------------------------------------------------------------------------


def _steps_of_epoch(order: Sequence[int], batch: int, accumulation: int) -> list[list[Sequence[int]]]:
    """The windows of each step as batches of all processes; what does not fill a batch is left out in this epoch."""
    batches = [order[first : first + batch] for first in range(0, len(order) - batch + 1, batch)]
    return [batches[first : first + accumulation] for first in range(0, len(batches), accumulation)]


def _seed_step(*key: int) -> int:
    # dropout then does not depend on what ran before: a resumed run draws the same numbers
    return int(np.random.SeedSequence(key).generate_state(1)[0])


class _Trainer:
    """State of one training; `train` is its interface."""

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        windows: Dataset,
        sampler: Sampler,
        collate: Callable,
        config: TrainingConfig,
        output_dir: Path,
    ) -> None:
        self.model, self.task, self.windows, self.sampler, self.collate = model, task, windows, sampler, collate
        self.config, self.output_dir = config, output_dir
        # a batch without a genre leaves that genre's experts without gradients
        experts = any("genre_experts" in name for name, p in model.named_parameters() if p.requires_grad)
        self.accelerator = _accelerator(config, output_dir, unused_parameters=experts)
        self.main = self.accelerator.is_main_process
        self.batch = config.batch_size * self.accelerator.num_processes
        steps = len(_steps_of_epoch(range(len(sampler)), self.batch, config.gradient_accumulation_steps))
        if steps == 0:
            raise TrainingError(
                f"{len(windows)} windows do not fill a batch of batch_size={config.batch_size} in each of "
                f"{self.accelerator.num_processes} processes; use a smaller batch_size"
            )
        self.total_steps = min(config.epochs * steps, config.max_steps or math.inf)
        if config.gradient_checkpointing:
            if not getattr(model, "supports_gradient_checkpointing", False):
                raise TrainingError(
                    f"training.gradient_checkpointing=True: {type(model).__name__} can't; set it to false"
                )
            # transformers' name for it, and the one before that
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable({"use_reentrant": False})
        optimizer_class = torch.optim.AdamW if config.weight_decay else torch.optim.Adam
        optimizer = optimizer_class(
            [parameter for parameter in model.parameters() if parameter.requires_grad],
            lr=config.learning_rate,
            betas=tuple(config.betas),
            weight_decay=config.weight_decay,
            fused=True,  # on a CPU four times as fast
        )
        self.idle = [] if _is_sharded(self.accelerator) else idle_biases(model)
        for module in model.modules():
            if hasattr(module, "every_expert_joins"):
                module.every_expert_joins = _is_sharded(self.accelerator)
        self.wrapped, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.progress = _Progress()
        self.accelerator.register_for_checkpointing(self.progress)
        self.average = _WeightAverage(self.wrapped, config.ema_decay) if config.ema_decay else None
        self.log = _Log({})

    # one step

    def _batch(self, rows: Sequence[int]) -> dict[str, Tensor]:
        own = self.config.batch_size
        first = self.accelerator.process_index * own
        batch = self.collate([self.windows[index] for index in rows[first : first + own]])
        return {name: value.to(self.accelerator.device, non_blocking=True) for name, value in batch.items()}

    def _step(self, batches: list[Sequence[int]]) -> None:
        config, progress, accelerator = self.config, self.progress, self.accelerator
        self.task.advance(self.model, progress.step / self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate_at(progress.step, self.total_steps)
        for number, rows in enumerate(batches):
            place = number * accelerator.num_processes + accelerator.process_index
            torch.manual_seed(_seed_step(config.seed, progress.step, place))
            shared = torch.Generator().manual_seed(_seed_step(config.seed, progress.step, 0, 1))
            draws = Draws(shared, place * config.batch_size, len(batches) * self.batch)
            last = number + 1 == len(batches)
            with nullcontext() if last else accelerator.no_sync(self.wrapped):
                loss, values = self.task.loss(self.wrapped, self._batch(rows), draws)
                accelerator.backward(loss / len(batches))
            self.log.add({"loss": loss, **values})
        for bias, part in self.idle:
            if bias.grad is not None:
                bias.grad[part] = 0
        if config.max_grad_norm:
            norm = accelerator.clip_grad_norm_(self.wrapped.parameters(), config.max_grad_norm)
            self.log.add({"gradient_norm": norm})
        self.optimizer.step()
        self.optimizer.zero_grad()
        progress.step += 1
        progress.epoch_step += 1
        if self.average is not None:
            self.average.update()

    # between epochs

    def _weights(self) -> dict[str, Tensor] | None:
        """All weights by the model's own names; under FSDP every process must ask and only the main one is answered."""
        if _is_sharded(self.accelerator):
            return self.accelerator.get_state_dict(self.wrapped)
        return self.model.state_dict()

    def _whole_model(self, weights: dict[str, Tensor] | None) -> nn.Module:
        """The model to call on the main process outside of training steps."""
        if not _is_sharded(self.accelerator):
            return self.model
        twin = type(self.model)(self.model.config)
        twin.load_state_dict(weights)
        return twin.to(self.accelerator.device)

    def _evaluate(self, row: dict[str, Any], sample: Callable[[nn.Module, int], None] | None) -> None:
        """Measure, keep the best weights, draw samples, all with the average of the weights."""
        config, progress = self.config, self.progress
        last = self._is_last()
        measure = last or progress.epoch % config.evaluate_every == 0
        draw = sample is not None and config.sample_every and (last or progress.epoch % config.sample_every == 0)
        if not (measure or draw):
            return
        with nullcontext() if self.average is None else self.average.applied():
            weights = self._weights()
            found: list[Any] = [{}]
            if self.main:
                model = self._whole_model(weights)
                self.task.advance(model, 1.0 if last else progress.step / self.total_steps)
                model.eval()
                with torch.no_grad():
                    if measure:
                        found[0] = self.task.evaluate(model)
                    if draw:
                        sample(model, progress.epoch)
            self._broadcast(found)
            if not measure:
                return
            progress.evaluation = found[0]
            row.update(found[0])
            score = found[0].get("score", math.inf)
            if config.keep_best and score < progress.best_score:
                progress.best_score, progress.best_epoch = score, progress.epoch
                if self.main:
                    _save_weights(weights, self.output_dir / BEST)

    def _is_last(self) -> bool:
        return self.progress.epoch == self.config.epochs or self.progress.step >= self.total_steps

    def _broadcast(self, objects: list[Any]) -> None:
        if self.accelerator.num_processes > 1:
            from accelerate.utils import broadcast_object_list

            broadcast_object_list(objects)

    def _report(self, row: dict[str, Any], bar: Any) -> None:
        if self.main:
            path = self.output_dir / METRICS
            before = path.read_text(encoding="utf-8") if path.exists() else ""
            _write_whole(path, before + json.dumps(row) + "\n")
            shown = {k: v for k, v in row.items() if isinstance(v, float) and not k.startswith("train_gradient")}
            bar.write(f"epoch {row['epoch']:4d}  " + "  ".join(f"{k} {v:.4g}" for k, v in shown.items()))
        self.accelerator.log({k: v for k, v in row.items() if k != "step"}, step=self.progress.step)

    # checkpoints

    def begin(self, resume: bool) -> None:
        """From the newest checkpoint, or from nothing."""
        folder = self.output_dir / CHECKPOINTS
        check_output(self.output_dir, resume, self.model.config)
        newest = _newest_checkpoint(self.output_dir) if resume else None
        self.accelerator.wait_for_everyone()  # nobody removes anything before all have looked
        if newest is not None:
            with reading(newest, "remove it: the one before is gone on from", TrainingError):
                self.accelerator.load_state(str(newest))
                if self.average is not None:
                    self.average.load(newest / self._average_file())
            done = self.progress
            if done.epoch_step and done.windows_a_step != self._windows_a_step():
                raise TrainingError(
                    f"training.batch_size={self.config.batch_size}: {newest.name} was made in the middle of an epoch with "
                    f"{done.windows_a_step} windows a step, now there are {self._windows_a_step()}; resume with as many"
                )
            self.log = _Log(done.sums)
        if self.main:
            if newest is None:
                shutil.rmtree(folder, ignore_errors=True)
                for name in (METRICS, BEST):
                    (self.output_dir / name).unlink(missing_ok=True)
            else:
                _truncate_metrics(self.output_dir / METRICS, self.progress.epoch)
            folder.mkdir(parents=True, exist_ok=True)
            for left in folder.glob("partial-*"):
                shutil.rmtree(left)
        self.accelerator.wait_for_everyone()

    def _windows_a_step(self) -> int:
        return self.batch * self.config.gradient_accumulation_steps

    def _average_file(self) -> str:
        return f"average-{self.accelerator.process_index if _is_sharded(self.accelerator) else 0}.pt"

    def save(self) -> None:
        """Write beside, then rename: a killed run never leaves half a checkpoint that would be resumed from.

        Not by `whole`, since several processes write into one folder; what was killed here, `begin` removes.
        """
        partial = self.output_dir / CHECKPOINTS / f"partial-{self.progress.step:08d}"
        try:
            self._save(partial)
        except BaseException:
            if self.main:
                shutil.rmtree(partial, ignore_errors=True)
            raise

    def _save(self, partial: Path) -> None:
        accelerator, progress = self.accelerator, self.progress
        progress.sums = self.log.over_processes(accelerator) if self.log.sums else {}
        progress.windows_a_step = self._windows_a_step()
        folder = partial.parent
        final = folder / f"step-{progress.step:08d}"
        if self.main:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(partial))
        if self.average is not None and (self.main or _is_sharded(accelerator)):
            self.average.save(partial / self._average_file())
        accelerator.wait_for_everyone()
        if self.main:
            config = json.dumps(self.model.config.to_dict(), indent=2, default=str)
            (partial / CONFIG).write_text(config + "\n", encoding="utf-8")
            os.replace(partial, final)
            for old in sorted(folder.glob("step-*"))[: -self.config.keep_checkpoints]:
                os.replace(old, partial)  # half a deleted checkpoint is no checkpoint either
                shutil.rmtree(partial)

    # all of it

    def run(self, stop_after_steps: int | None, sample: Callable[[nn.Module, int], None] | None) -> bool:
        """Train to the end; False when `stop_after_steps` came first."""
        config, progress = self.config, self.progress
        bar = progress_bar(
            desc="training",
            total=self.total_steps,
            initial=progress.step,
            unit="step",
            disable=not self.accelerator.is_local_main_process,
            dynamic_ncols=True,
        )
        # a run that max_steps ended within an epoch has that end still to tell
        while progress.epoch < config.epochs and (progress.step < self.total_steps or progress.epoch_step):
            self.sampler.set_epoch(progress.epoch)
            steps = _steps_of_epoch(list(self.sampler), self.batch, config.gradient_accumulation_steps)
            began, first = time.perf_counter(), progress.epoch_step
            self.wrapped.train()
            for batches in steps[first:]:
                if progress.step >= self.total_steps:
                    break
                self._step(batches)
                bar.update()
                if progress.step % 10 == 0:
                    total, count = self.log.sums["loss"]
                    bar.set_postfix(epoch=progress.epoch, loss=f"{float(total) / count:.4f}")
                if stop_after_steps is not None and progress.step >= stop_after_steps:
                    bar.close()
                    return False
                due = config.save_every_steps and progress.step % config.save_every_steps == 0
                if due and progress.epoch_step < len(steps):
                    self.save()
            seen = sum(self.batch * len(batches) for batches in steps[first : progress.epoch_step])
            seconds = time.perf_counter() - began
            cut = progress.epoch_step < len(steps)
            if cut and progress.epoch_step > first:  # with more steps allowed, a resumed run goes on within the epoch
                self.save()
            means = self.log.over_processes(self.accelerator)
            if not all(math.isfinite(total) for name, (total, _) in means.items() if name == "loss"):
                raise TrainingError(
                    f"the loss is no number any more (step {progress.step}): use a smaller training.learning_rate"
                    + ("" if config.mixed_precision == "no" else ", or training.mixed_precision=no")
                )
            progress.epoch += 1
            progress.epoch_step, self.log = 0, _Log({})
            row: dict[str, Any] = {"epoch": progress.epoch, "step": progress.step}
            row.update({f"train_{name}": total / count for name, (total, count) in means.items()})
            row["windows_per_second"] = seen / seconds
            row["learning_rate"] = self.optimizer.param_groups[0]["lr"]
            self._evaluate(row, sample)
            self._report(row, bar)
            if cut:
                break
            last = self._is_last()
            due = config.save_every_steps and progress.step % config.save_every_steps == 0
            if last or due or progress.epoch % config.save_every == 0:
                self.save()
        bar.close()
        return True

    def finish(self) -> None:
        """Put the weights that are wanted into the model and save it."""
        best, model, sharded = self.output_dir / BEST, self.model, _is_sharded(self.accelerator)
        self.accelerator.wait_for_everyone()
        if self.average is not None:
            self.average.swap()
        weights = self._weights()
        if self.config.keep_best and best.exists():
            from safetensors.torch import load_file

            with reading(best, "train again from the last checkpoint (--resume), without it", TrainingError):
                weights = load_file(str(best))
                if not sharded:
                    model.load_state_dict(weights)
        self.accelerator.unwrap_model(self.wrapped, keep_fp32_wrapper=False)
        if self.config.gradient_checkpointing:
            (getattr(model, "activation_checkpointing_disable", None) or model.gradient_checkpointing_disable)()
        self.task.advance(model, 1.0)
        model.eval()
        if self.main:
            model.save_pretrained(self.output_dir, **({"state_dict": weights} if sharded else {}))
            plot_curves(self.output_dir / METRICS, self.output_dir / "curves.png")
        self.accelerator.wait_for_everyone()


def train(
    model: nn.Module,
    task: Task,
    windows: Dataset,
    sampler: Sampler,
    collate: Callable,
    config: TrainingConfig,
    output_dir: str | Path,
    *,
    resume: bool = False,
    stop_after_steps: int | None = None,
    sample: Callable[[nn.Module, int], None] | None = None,
) -> dict[str, float]:
    """Train `model`, write checkpoints, `metrics.jsonl` and `curves.png` to `output_dir`, and save the model there.

    Parameters that do not require gradients stay as they are, bit for bit.

    Args:
        model: a PreTrainedModel; trained in place and, at the end, holding the weights that were saved (under FSDP it
            stays in pieces: load what was saved).
        task: see `Task`.
        windows, sampler, collate: see `data.py`; the sampler's `set_epoch` is called before each epoch.
        config: see `TrainingConfig`.
        output_dir: made when missing; without `resume` it must hold no training yet.
        resume: go on from the newest checkpoint there; from the start when there is none.
        stop_after_steps: leave early after this many steps in all, without a final save, as a kill would.
        sample: called with the model and the epoch every `config.sample_every` epochs, to show what it can do so far.

    Returns:
        The last evaluation.

    Raises:
        TrainingError: a setting that cannot be used with this model, these windows or this machine.
    """
    trainer = _Trainer(model, task, windows, sampler, collate, config, Path(output_dir))
    trainer.begin(resume)
    if trainer.run(stop_after_steps, sample):
        trainer.finish()
    for tracker in trainer.accelerator.trackers:
        tracker.finish()
    return trainer.progress.evaluation


# --- files ---------------------------------------------------------------------------------------------------------


def check_output(output_dir: str | Path, resume: bool, config: Any = None) -> None:
    """Whether a training can write there; for callers that want to know before anything slow.

    Args:
        output_dir, resume: see `train`.
        config: of the model, which must be that of the training that is gone on with.

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
    above = folder
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise TrainingError(f"output={str(folder)!r} cannot be written ({above}): give another folder")
    newest = _newest_checkpoint(folder) if resume else None
    if newest is not None and config is not None and (before := newest / CONFIG).is_file():
        with reading(before, "give another folder, and train anew", TrainingError):
            was = json.loads(before.read_text(encoding="utf-8"))
        _check_same(was, json.loads(json.dumps(config.to_dict(), default=str)), folder)


def _check_same(was: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Settings of the model, by which the sizes of its weights and their meaning are decided."""
    for name in sorted(set(was) | set(now)):
        if name.startswith("_") or name in (
            "transformers_version",
            "dtype",
            "auto_map",
            "custom_pipelines",
            "architectures",
        ):
            continue
        if was.get(name) != now.get(name):
            shown = "genres" if name == "id2label" else f"model.{name}"
            values = [", ".join(v.values()) if isinstance(v, dict) else repr(v) for v in (was.get(name), now.get(name))]
            raise TrainingError(
                f"output={str(folder)!r} was begun with {shown}={values[0]}, now it is {values[1]}: resume with the same, or "
                "give another folder"
            )


def _newest_checkpoint(output_dir: Path) -> Path | None:
    found = sorted((output_dir / CHECKPOINTS).glob("step-*"))
    return found[-1] if found else None


def _save_weights(weights: dict[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    with whole(path) as temporary:
        save_file({name: value.contiguous() for name, value in weights.items()}, str(temporary))


def _write_whole(path: Path, text: str) -> None:
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _truncate_metrics(path: Path, epoch: int) -> None:
    if path.exists():
        with reading(path, "remove it: the curves begin anew", TrainingError):
            lines = path.read_text(encoding="utf-8").splitlines()
            rows = [line for line in lines if json.loads(line)["epoch"] <= epoch]
        _write_whole(path, "".join(row + "\n" for row in rows))


def plot_curves(metrics: Path, picture: Path) -> None:
    """Draw every number of `metrics.jsonl` over the epochs into one PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with reading(metrics, error=TrainingError):
        rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    names = sorted({name for row in rows for name in row} - {"epoch", "step"})
    columns = 4
    lines = math.ceil(len(names) / columns)
    figure, axes = pyplot.subplots(lines, columns, figsize=(4 * columns, 2.6 * lines), squeeze=False)
    for axis in axes.flat[len(names) :]:
        axis.axis("off")
    for axis, name in zip(axes.flat, names, strict=False):
        points = [(row["epoch"], row[name]) for row in rows if name in row]
        axis.plot(*zip(*points, strict=True), marker="." if len(points) < 30 else None)
        axis.set_title(name, fontsize=9)
        axis.grid(alpha=0.3)
    figure.tight_layout()
    with whole(picture) as temporary:
        figure.savefig(temporary, dpi=80)
    pyplot.close(figure)
