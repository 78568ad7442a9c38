"""One Accelerate loop that trains all models.

What differs between the models is a `Task` (`tasks.py`). This loop does what is common: batches over processes, precision,
gradient accumulation and clipping, learning rate, average of the weights, evaluation, log and checkpoints.

A run that is stopped and resumed ends bit for bit as one that was not: order and augmentation of the data derive from (seed, epoch,
index), dropout from (seed, step, process), and a checkpoint holds everything else.

Several processes (torchrun, `accelerate launch`) train to the weights of one process with the batches of all of them, up to
rounding: a step takes the same segments in the same order, with the same random numbers of data, augmentation and task (`Draws`),
and batch statistics are those of the whole step. Only dropout inside a model differs: each process draws its own.
"""

import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from megadance_hf.modeling.errors_megadance import reading
from megadance_hf.modeling.files_megadance import whole
from megadance_hf.modeling.progress_megadance import progress_bar

from .adan import Adan
from .checkpoints import (
    CHECKPOINTS,
    Progress,
    WeightAverage,
    check_output,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
from .config import TrainingConfig, TrainingError
from .log import METRICS, Means, append_row, plot_curves, truncate_rows
from .processes import decide, is_sharded, make_accelerator, write_settings
from .schedule import learning_rate_at
from .tasks import Draws, Task, idle_biases

BEST = "best.safetensors"


def _seed_of(*key: int) -> int:
    # a seed for each step: a resumed run draws the same numbers, whatever was drawn before
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimizer of the weights of `model` that are trained."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    common = {
        "lr": config.learning_rate,
        "betas": tuple(config.betas),
        "eps": config.eps,
        "weight_decay": config.weight_decay,
    }
    if config.optimizer == "adan":
        return Adan(trained, **common)
    optimizer_class = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    # One launch for all weights, and on a CPU four times as fast. With scaled gradients it would leave out a step by itself, unnoticed.
    return optimizer_class(trained, **common, fused=config.mixed_precision != "fp16")


class _Trainer:
    """State of one training; `train` is its interface."""

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        segments: Dataset,
        sampler: Sampler,
        collate: Callable,
        config: TrainingConfig,
        output_dir: Path,
        resume: bool = False,
    ) -> None:
        config = decide(config, output_dir, resume and newest_checkpoint(output_dir) is not None)
        self.model, self.task, self.segments, self.sampler, self.collate = model, task, segments, sampler, collate
        self.config, self.output_dir = config, output_dir
        # a batch without a genre leaves that genre's experts without gradients
        experts = any("genre_experts" in name for name, p in model.named_parameters() if p.requires_grad)
        self.accelerator = make_accelerator(config, output_dir, unused_parameters=experts)
        self.main, self.sharded = self.accelerator.is_main_process, is_sharded(self.accelerator)
        self.batch = config.batch_size * self.accelerator.num_processes
        self.segments_per_step = self.batch * config.gradient_accumulation_steps
        if not config.drop_last and self.accelerator.num_processes > 1:
            raise TrainingError(
                f"training.drop_last=False: {self.accelerator.num_processes} processes take whole batches only; set it to true"
            )
        self.batches_per_epoch = len(sampler) // self.batch
        if not config.drop_last:
            self.batches_per_epoch = math.ceil(len(sampler) / self.batch)
        if self.batches_per_epoch == 0:
            raise TrainingError(
                f"{len(segments)} segments do not fill a batch of batch_size={config.batch_size} in each of "
                f"{self.accelerator.num_processes} processes; use a smaller batch_size"
            )
        self.steps_per_epoch = math.ceil(self.batches_per_epoch / config.gradient_accumulation_steps)
        self.total_steps = min(config.epochs * self.steps_per_epoch, config.max_steps or math.inf)
        if config.gradient_checkpointing:
            if not getattr(model, "supports_gradient_checkpointing", False):
                raise TrainingError(
                    f"training.gradient_checkpointing=True: {type(model).__name__} can't; set it to false"
                )
            # transformers' name for it, and the one before that
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable({"use_reentrant": False})
        self.compiled = [module for module in model.modules() if config.compile and hasattr(module, "compiled")]
        if config.compile and not self.compiled:
            raise TrainingError(f"training.compile=True: {type(model).__name__} can't; set it to false")
        for module in self.compiled:
            module.compiled = True
        self.idle = [] if self.sharded else idle_biases(model)
        for module in model.modules():
            if hasattr(module, "every_expert_joins"):
                module.every_expert_joins = self.sharded
        self.wrapped, self.optimizer = self.accelerator.prepare(model, make_optimizer(model, config))
        self.parameters = list(self.wrapped.parameters())  # to look for them takes time in each step
        self.progress = Progress()
        self.accelerator.register_for_checkpointing(self.progress)
        self.average = WeightAverage(self.wrapped, config.ema_decay) if config.ema_decay else None
        self.means = Means({})

    # one step

    def _batches(self, first: int) -> Iterator[dict[str, Tensor]]:
        """This process's batches of the epoch from step `first` on. Segments that do not fill a batch of all processes are left out."""
        config, processes = self.config, self.accelerator.num_processes
        batches = list(BatchSampler(self.sampler, config.batch_size, drop_last=config.drop_last))
        own = batches[self.accelerator.process_index : len(batches) // processes * processes : processes]
        # A loader for each epoch: its workers then have the epoch of the segments, and begin where a resumed run does.
        loader = DataLoader(
            self.segments,
            batch_sampler=own[first * config.gradient_accumulation_steps :],
            collate_fn=self.collate,
            num_workers=config.num_workers,
            prefetch_factor=4 if config.num_workers else None,
            pin_memory=self.accelerator.device.type == "cuda",
            generator=torch.Generator().manual_seed(_seed_of(config.seed, self.progress.epoch)),
        )
        return iter(loader)

    def _step(self, batches: Iterator[dict[str, Tensor]]) -> int:
        """One update of the weights; how many segments all processes took for it."""
        config, progress, accelerator = self.config, self.progress, self.accelerator
        self.task.advance(self.model, progress.step / self.total_steps)
        for group in self.optimizer.param_groups:
            taken = progress.step - progress.skipped
            group["lr"] = learning_rate_at(config, taken, self.total_steps, progress.epoch)
        left = self.batches_per_epoch - progress.epoch_step * config.gradient_accumulation_steps
        count, seen = (
            min(config.gradient_accumulation_steps, left),
            0,
        )  # the last step of an epoch may have fewer batches
        for number in range(count):
            slot = number * accelerator.num_processes + accelerator.process_index
            torch.manual_seed(_seed_of(config.seed, progress.step, slot))
            shared = torch.Generator().manual_seed(_seed_of(config.seed, progress.step, 0, 1))
            draws = Draws(shared, slot * config.batch_size, count * self.batch)
            batch = {
                name: value if name in self.task.on_host else value.to(accelerator.device, non_blocking=True)
                for name, value in next(batches).items()
            }
            with nullcontext() if number + 1 == count else accelerator.no_sync(self.wrapped):
                loss, values = self.task.loss(self.wrapped, batch, draws)
                accelerator.backward(loss / count)
            self.means.add({"loss": loss, **values})
            seen += len(next(iter(batch.values()))) * accelerator.num_processes
        if config.missing_gradients == "zero":
            missing = [p for p in self.parameters if p.requires_grad and p.grad is None]
            for parameter in missing:
                parameter.grad = torch.empty_like(parameter)
            if missing:
                torch._foreach_zero_([parameter.grad for parameter in missing])
        idle = [bias.grad[part] for bias, part in self.idle if bias.grad is not None]
        if idle:
            torch._foreach_zero_(idle)
        norm = accelerator.clip_grad_norm_(self.parameters, config.max_grad_norm) if config.max_grad_norm else None
        self.optimizer.step()
        self.optimizer.zero_grad()
        progress.step += 1
        progress.epoch_step += 1
        if accelerator.optimizer_step_was_skipped:  # scaled gradients overflowed: their scale is halved now
            progress.skipped += 1
            return seen
        if norm is not None:
            self.means.add({"gradient_norm": norm})
        if self.average is not None:
            self.average.update()
        return seen

    # between epochs

    def _weights(self) -> dict[str, Tensor] | None:
        """All weights by the model's own names. Under FSDP every process must ask, and only the main one gets them."""
        return self.accelerator.get_state_dict(self.wrapped) if self.sharded else self.model.state_dict()

    def _whole_model(self, weights: dict[str, Tensor] | None) -> nn.Module:
        """The model to call on the main process outside of training steps."""
        if not self.sharded:
            return self.model
        twin = type(self.model)(self.model.config)
        twin.load_state_dict(weights)
        return twin.to(self.accelerator.device)

    def _evaluate(self, row: dict[str, Any], sample: Callable[[nn.Module, int], None] | None) -> None:
        """Evaluate, keep the best weights and draw samples, all with the average of the weights."""
        from accelerate.utils import broadcast_object_list

        config, progress, last = self.config, self.progress, self._is_last()
        measure = last or progress.epoch % config.evaluate_every == 0
        keep = progress.epoch == config.keep_epoch
        draw = sample is not None and config.sample_every and (last or progress.epoch % config.sample_every == 0)
        if not (measure or draw or keep):
            return
        with nullcontext() if self.average is None else self.average.applied():
            weights = self._weights()
            report: list[Any] = [{}]
            if self.main:
                model = self._whole_model(weights)
                self.task.advance(model, 1.0 if last else progress.step / self.total_steps)
                model.eval()
                with torch.no_grad():
                    if measure:
                        report[0] = self.task.evaluate(model)
                    if draw:
                        sample(model, progress.epoch)
            broadcast_object_list(report)
            if measure:
                progress.evaluation = report[0]
                row.update(report[0])
                score = report[0].get("score", math.inf)
                if config.keep_best and score < progress.best_score:
                    progress.best_score, progress.best_epoch, keep = score, progress.epoch, True
            if keep and self.main:
                with whole(self.output_dir / BEST) as temporary:
                    save_file({name: value.contiguous() for name, value in weights.items()}, str(temporary))

    def _is_last(self) -> bool:
        return self.progress.epoch == self.config.epochs or self.progress.step >= self.total_steps

    # checkpoints

    def begin(self, resume: bool) -> None:
        """From the newest checkpoint, or from nothing."""
        check_output(self.output_dir, resume, self.model.config)
        newest = newest_checkpoint(self.output_dir) if resume else None
        self.accelerator.wait_for_everyone()  # nobody removes anything before all have looked
        if newest is not None:
            load_checkpoint(newest, self.accelerator, self.average)
            done, now = self.progress, self.segments_per_step
            if done.epoch_step and done.segments_per_step != now:
                raise TrainingError(
                    f"training.batch_size={self.config.batch_size}: {newest.name} was made in the middle of an epoch with "
                    f"{done.segments_per_step} segments per step, now there are {now}; resume with as many"
                )
            self.means = Means(done.sums)
        if self.main:
            folder = self.output_dir / CHECKPOINTS
            for left in folder.glob("partial-*") if newest else [folder]:  # what a killed run was writing or deleting
                shutil.rmtree(left, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            if newest is None:
                for name in (METRICS, BEST):
                    (self.output_dir / name).unlink(missing_ok=True)
            else:
                truncate_rows(self.output_dir / METRICS, self.progress.epoch)
            write_settings(self.config, self.output_dir, self.accelerator.device)
        self.task.on_train_begin(self.model, self.segments)
        self.accelerator.wait_for_everyone()

    def save(self) -> None:
        progress, keep = self.progress, self.config.keep_checkpoints
        progress.sums, progress.segments_per_step = self.means.reduce(self.accelerator), self.segments_per_step
        self.means = Means(progress.sums)
        save_checkpoint(self.output_dir, progress.step, self.accelerator, self.average, self.model.config, keep)

    # all of it

    def run(self, stop_after_steps: int | None, sample: Callable[[nn.Module, int], None] | None) -> bool:
        """Train to the end; False when `stop_after_steps` came first."""
        config, progress, steps = self.config, self.progress, self.steps_per_epoch
        bar = progress_bar(
            desc="training",
            total=self.total_steps,
            initial=progress.step,
            unit="step",
            disable=not self.accelerator.is_local_main_process,
            dynamic_ncols=True,
        )
        # a run that max_steps ended within an epoch has yet to finish as after the last epoch
        while progress.epoch < config.epochs and (progress.step < self.total_steps or progress.epoch_step):
            self.sampler.set_epoch(progress.epoch)
            started, first, seen = time.perf_counter(), progress.epoch_step, 0
            batches = self._batches(first)
            self.wrapped.train()
            while progress.epoch_step < steps and progress.step < self.total_steps:
                seen += self._step(batches)
                bar.update()
                if progress.step % 10 == 0:
                    total, count = self.means.sums["loss"]
                    bar.set_postfix(epoch=progress.epoch, loss=f"{float(total) / count:.4f}")
                if stop_after_steps is not None and progress.step >= stop_after_steps:
                    bar.close()
                    return False
                due = config.save_every_steps and progress.step % config.save_every_steps == 0
                if due and progress.epoch_step < steps:
                    self.save()
            seconds = time.perf_counter() - started
            cut = progress.epoch_step < steps
            if cut and progress.epoch_step > first:  # resumed with more steps allowed, it continues within the epoch
                self.save()
            means = self.means.reduce(self.accelerator)
            if not all(math.isfinite(total) for name, (total, _) in means.items() if name == "loss"):
                raise TrainingError(
                    f"the loss is no number any more (step {progress.step}): use a smaller training.learning_rate"
                    + ("" if config.mixed_precision == "no" else ", or training.mixed_precision=no")
                )
            progress.epoch += 1
            progress.epoch_step, self.means = 0, Means({})
            row: dict[str, Any] = {"epoch": progress.epoch, "step": progress.step}
            row.update({f"train_{name}": total / count for name, (total, count) in means.items()})
            row["windows_per_second"] = seen / seconds
            row["learning_rate"] = self.optimizer.param_groups[0]["lr"]
            self._evaluate(row, sample)
            if self.main:
                append_row(self.output_dir / METRICS, row)
                shown = {k: v for k, v in row.items() if isinstance(v, float) and not k.startswith("train_gradient")}
                bar.write(f"epoch {row['epoch']:4d}  " + "  ".join(f"{k} {v:.4g}" for k, v in shown.items()))
            self.accelerator.log({k: v for k, v in row.items() if k != "step"}, step=progress.step)
            if cut:
                break
            due = config.save_every_steps and progress.step % config.save_every_steps == 0
            if self._is_last() or due or progress.epoch % config.save_every == 0:
                self.save()
        bar.close()
        return True

    def finish(self) -> None:
        """Put the weights to keep into the model and save it."""
        best, model = self.output_dir / BEST, self.model
        self.accelerator.wait_for_everyone()
        if self.average is not None:
            self.average.swap()
        weights = self._weights()
        if (self.config.keep_best or self.config.keep_epoch) and best.exists():
            with reading(best, "train again from the last checkpoint (--resume), without it", TrainingError):
                weights = load_file(str(best))
                if not self.sharded:
                    model.load_state_dict(weights)
        self.accelerator.unwrap_model(self.wrapped, keep_fp32_wrapper=False)
        if self.config.gradient_checkpointing:
            (getattr(model, "activation_checkpointing_disable", None) or model.gradient_checkpointing_disable)()
        for module in self.compiled:
            module.compiled = False
        self.task.advance(model, 1.0)
        model.eval()
        if self.main:
            model.save_pretrained(self.output_dir, **({"state_dict": weights} if self.sharded else {}))
            plot_curves(self.output_dir / METRICS, self.output_dir / "curves.png")
        self.accelerator.wait_for_everyone()


def train(
    model: nn.Module,
    task: Task,
    segments: Dataset,
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
        model: a PreTrainedModel. It is trained in place and ends with the weights that were saved (under FSDP it stays sharded:
            load what was saved).
        task: see `Task`.
        segments, sampler, collate: see `megadance_hf.data`; the sampler's `set_epoch` is called before each epoch.
        config: see `TrainingConfig`.
        output_dir: made when missing; without `resume` it must hold no training yet.
        resume: continue from the newest checkpoint there; from the start when there is none.
        stop_after_steps: return after this many steps in all without a final save, as if the run were killed.
        sample: called with the model and the epoch every `config.sample_every` epochs, to show what it can do so far.

    Returns:
        The last evaluation.

    Raises:
        TrainingError: a setting that cannot be used with this model, these segments or this machine.
    """
    trainer = _Trainer(model, task, segments, sampler, collate, config, Path(output_dir), resume)
    trainer.begin(resume)
    if trainer.run(stop_after_steps, sample):
        trainer.finish()
    for tracker in trainer.accelerator.trackers:
        tracker.finish()
    return trainer.progress.evaluation
