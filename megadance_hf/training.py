"""One Accelerate loop that all models train with.

What differs between the models is a `Task`: how a batch becomes a loss, what changes over the course of training, what is
measured in between. What is common lives here: devices and processes, precision, accumulation, clipping, schedules, the
moving average of the weights, progress bars, curves, checkpoints.

A run that is stopped and resumed ends bit-identical to one that was not: the order and the augmentation of the data derive
from (seed, epoch, index), dropout from (seed, step, process), and a checkpoint holds all else.
"""

import json
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

CHECKPOINTS = "checkpoints"
METRICS = "metrics.jsonl"


class Task(Protocol):
    """What one model's training is about."""

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise, and numbers to log."""

    def advance(self, model: nn.Module, progress: float) -> None:
        """Called before every step with the share of training that is done, 0 to 1."""

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Numbers on held-out data; "score" (lower is better) among them chooses the best weights."""


@dataclass
class TrainingConfig:
    """How to train. The paper leaves the learning rate open ("fixed"); the rest of its recipe is in `examples/configs`.

    Attributes:
        epochs: passes over the windows.
        batch_size: windows a step and process.
        learning_rate, betas, weight_decay: of Adam (AdamW when weight_decay > 0).
        schedule: "constant" (the paper's) or "cosine" (to 2 % of the learning rate), both after `warmup_steps`.
        max_grad_norm: gradient clipping; 0 for none.
        gradient_accumulation_steps: batches a step.
        mixed_precision: "no", "bf16" or "fp16".
        ema_decay: moving average of the weights that is evaluated and saved; 0 for none.
        keep_best: save the weights with the best "score" instead of the last ones.
        seed: of data, augmentation, dropout and the initial weights.
        evaluate_every, save_every: epochs between evaluations and checkpoints.
        keep_checkpoints: how many of the newest checkpoints stay.
        trackers: names that Accelerate knows ("tensorboard", "trackio", "wandb"); `metrics.jsonl` is always written.
    """

    epochs: int = 80
    batch_size: int = 64
    learning_rate: float = 3e-4
    betas: tuple[float, float] | list[float] = (0.9, 0.99)
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0
    max_grad_norm: float = 1.0
    gradient_accumulation_steps: int = 1
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    ema_decay: float = 0.0
    keep_best: bool = False
    seed: int = 0
    evaluate_every: int = 1
    save_every: int = 1
    keep_checkpoints: int = 2
    trackers: list[str] | tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainingConfig":
        """From a YAML file's mapping; an unknown name is an error that lists the known ones."""
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise ValueError(f"training.{name} is not a setting; the settings are {', '.join(known)}")
        return cls(**values)


class _Progress:
    """Where training stands; saved with each checkpoint by Accelerate."""

    def __init__(self) -> None:
        self.epoch = self.step = 0
        self.best_score, self.best_epoch = math.inf, -1

    def state_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def _learning_rate_factor(config: TrainingConfig, total_steps: int) -> Callable[[int], float]:
    def factor(step: int) -> float:
        warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
        if config.schedule == "constant":
            return warmup
        return warmup * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, total_steps)))))

    return factor


def _seed_step(seed: int, step: int, process: int) -> None:
    # dropout and soft quantization then do not depend on what ran before: a resumed run draws the same numbers
    torch.manual_seed(int(np.random.SeedSequence((seed, step, process)).generate_state(1)[0]))


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
) -> dict[str, float]:
    """Train `model`, write checkpoints, `metrics.jsonl` and `curves.png` to `output_dir`, and save the model there.

    Args:
        model: a PreTrainedModel; trained in place and, at the end, holding the weights that were saved.
        task: see `Task`.
        windows, sampler, collate: see `data.py`; the sampler's `set_epoch` is called before each epoch.
        config: see `TrainingConfig`.
        output_dir: made when missing.
        resume: go on from the newest checkpoint there; from the start when there is none.
        stop_after_steps: leave early after this many steps in all, without a final save, as a kill would.

    Returns:
        The last evaluation.
    """
    from accelerate import Accelerator
    from accelerate.utils import ProjectConfiguration

    output_dir = Path(output_dir)
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        log_with=list(config.trackers) or None,
        project_config=ProjectConfiguration(project_dir=str(output_dir)),
    )
    if config.trackers:
        accelerator.init_trackers("megadance", config={k: str(v) for k, v in asdict(config).items()})
    loader = DataLoader(windows, batch_size=config.batch_size, sampler=sampler, collate_fn=collate, drop_last=True)
    if len(loader) == 0:
        raise ValueError(
            f"{len(windows)} windows do not fill a batch of batch_size={config.batch_size}; use a smaller batch_size"
        )
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer_class = torch.optim.AdamW if config.weight_decay else torch.optim.Adam
    optimizer = optimizer_class(
        parameters, lr=config.learning_rate, betas=tuple(config.betas), weight_decay=config.weight_decay
    )
    steps_per_epoch = math.ceil(len(loader) / accelerator.num_processes / config.gradient_accumulation_steps)
    total_steps = config.epochs * steps_per_epoch
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, _learning_rate_factor(config, total_steps))
    wrapped, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    progress = _Progress()
    accelerator.register_for_checkpointing(scheduler, progress)
    average = None
    if config.ema_decay:
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
        accelerator.register_for_checkpointing(average)
    best_file = output_dir / "best.safetensors"

    if resume and (newest := _newest_checkpoint(output_dir)) is not None:
        accelerator.load_state(str(newest))
        if accelerator.is_main_process:
            _truncate_metrics(output_dir / METRICS, progress.epoch)
    elif accelerator.is_main_process:
        output_dir.mkdir(parents=True, exist_ok=True)
        (output_dir / METRICS).unlink(missing_ok=True)
        best_file.unlink(missing_ok=True)
        shutil.rmtree(output_dir / CHECKPOINTS, ignore_errors=True)
    accelerator.wait_for_everyone()

    evaluation: dict[str, float] = {}
    bar = tqdm(
        total=total_steps,
        initial=progress.step,
        unit="step",
        disable=not accelerator.is_local_main_process,
        dynamic_ncols=True,
    )
    while progress.epoch < config.epochs:
        loader.set_epoch(progress.epoch)  # the prepared loader counts epochs itself and tells the sampler
        began, logs, steps = time.perf_counter(), {}, 0
        wrapped.train()
        for batch in loader:
            with accelerator.accumulate(wrapped):
                task.advance(model, progress.step / total_steps)
                _seed_step(config.seed, progress.step, accelerator.process_index)
                loss, values = task.loss(wrapped, batch)
                accelerator.backward(loss)
                if accelerator.sync_gradients and config.max_grad_norm:
                    values["gradient_norm"] = accelerator.clip_grad_norm_(parameters, config.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad()
            for name, value in {"loss": loss.detach(), **values}.items():
                logs.setdefault(name, []).append(float(value))
            if accelerator.sync_gradients:
                scheduler.step()
                progress.step += 1
                steps += 1
                if average is not None:
                    average.update_parameters(model)
                bar.update()
                if steps % 10 == 0:
                    bar.set_postfix(epoch=progress.epoch, loss=f"{np.mean(logs['loss'][-50:]):.4f}")
                if stop_after_steps is not None and progress.step >= stop_after_steps:
                    bar.close()
                    accelerator.end_training()
                    return evaluation
        progress.epoch += 1
        seconds = time.perf_counter() - began
        windows_seen = steps * config.batch_size * config.gradient_accumulation_steps * accelerator.num_processes
        row: dict[str, Any] = {"epoch": progress.epoch, "step": progress.step}
        row.update({f"train_{name}": float(np.mean(v)) for name, v in logs.items()})
        row["windows_per_second"] = windows_seen / seconds
        row["learning_rate"] = optimizer.param_groups[0]["lr"]

        last = progress.epoch == config.epochs
        if last or progress.epoch % config.evaluate_every == 0:
            task.advance(model, 1.0 if last else progress.step / total_steps)
            subject = model if average is None else average.module
            subject.eval()
            with torch.no_grad():
                evaluation = task.evaluate(subject)
            row.update(evaluation)
            if config.keep_best and evaluation.get("score", math.inf) < progress.best_score:
                progress.best_score, progress.best_epoch = evaluation["score"], progress.epoch
                if accelerator.is_main_process:
                    _save_weights(subject, best_file)
        if accelerator.is_main_process:
            with (output_dir / METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            shown = {k: v for k, v in row.items() if isinstance(v, float) and not k.startswith("train_gradient")}
            bar.write(f"epoch {progress.epoch:4d}  " + "  ".join(f"{k} {v:.4g}" for k, v in shown.items()))
        accelerator.log({k: v for k, v in row.items() if k != "step"}, step=progress.step)
        if last or progress.epoch % config.save_every == 0:
            _save_checkpoint(accelerator, output_dir, progress.epoch, config.keep_checkpoints)
    bar.close()

    accelerator.wait_for_everyone()
    if average is not None:
        model.load_state_dict(average.module.state_dict())
    if config.keep_best and best_file.exists():
        from safetensors.torch import load_file

        model.load_state_dict(load_file(str(best_file)))
    task.advance(model, 1.0)
    model.eval()
    if accelerator.is_main_process:
        model.save_pretrained(output_dir)
        plot_curves(output_dir / METRICS, output_dir / "curves.png")
    accelerator.end_training()
    return evaluation


# --- files ---------------------------------------------------------------------------------------------------------


def _newest_checkpoint(output_dir: Path) -> Path | None:
    found = sorted((output_dir / CHECKPOINTS).glob("epoch-*"))
    return found[-1] if found else None


def _save_checkpoint(accelerator: Any, output_dir: Path, epoch: int, keep: int) -> None:
    """Write beside, then rename: a killed run never leaves half a checkpoint that would be resumed from."""
    final = output_dir / CHECKPOINTS / f"epoch-{epoch:06d}"
    partial = final.with_name(f"partial-{epoch:06d}")
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        for old in sorted((output_dir / CHECKPOINTS).glob("epoch-*"))[:-keep]:
            shutil.rmtree(old)


def _save_weights(model: nn.Module, path: Path) -> None:
    from safetensors.torch import save_file

    partial = path.with_suffix(".partial")
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, str(partial))
    os.replace(partial, path)


def _truncate_metrics(path: Path, epoch: int) -> None:
    if path.exists():
        rows = [line for line in path.read_text(encoding="utf-8").splitlines() if json.loads(line)["epoch"] <= epoch]
        partial = path.with_suffix(".partial")
        partial.write_text("".join(row + "\n" for row in rows), encoding="utf-8")
        os.replace(partial, path)


def plot_curves(metrics: Path, picture: Path) -> None:
    """Draw every number of `metrics.jsonl` over the epochs into one PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

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
    partial = picture.with_name("partial-" + picture.name)
    figure.savefig(partial, dpi=80)
    pyplot.close(figure)
    os.replace(partial, picture)


# --- the tasks -----------------------------------------------------------------------------------------------------


@dataclass
class TokenizerTask:
    """Training of [`MegaDanceTokenizer`] (paper, section 3.2).

    Attributes:
        clips: held-out clips that are reconstructed whole.
        soft_share: share of training over which unrounded values fade out (see `FiniteScalarQuantizer.soft_share`).
        ramp_share: share of training over which the velocity and acceleration weights grow to their full size.
    """

    clips: list
    soft_share: float = 0.0
    ramp_share: float = 0.0

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        output = model(batch["motion"])
        return output.loss, output.losses

    def advance(self, model: nn.Module, progress: float) -> None:
        soft = max(0.0, 1 - progress / self.soft_share) if self.soft_share else 0.0
        dynamics = min(1.0, progress / self.ramp_share) if self.ramp_share else 1.0
        model.set_training_progress(soft, dynamics)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        return reconstruction_report(model, self.clips)


def reconstruction_report(model: nn.Module, clips: list) -> dict[str, float]:
    """How well a tokenizer reconstructs whole clips, averaged over clips; see `metrics.py` for the definitions.

    `score` is the joint error relative to the pelvis. `root_error_30s` is how far the integrated root path is off after 30 s;
    `jerk_ratio` and `bob_ratio` compare with the clip itself (1 is right).
    """
    from megadance_hf import metrics
    from megadance_hf.data import clip_motion
    from megadance_hf.modeling.kinematics_megadance import ROOT_SIZE, integrate_root_velocity, motion_to_joints
    from megadance_hf.modeling.modeling_megadance_tokenizer import codebook_utilization

    step, rows, upper, lower = model.config.frames_per_code, [], [], []
    device = model.motion_mean.device
    for clip in clips:
        motion = torch.from_numpy(clip_motion(clip)[None, : len(clip) // step * step]).to(device)
        codes = model.encode(motion)
        decoded = model.decode(codes.upper_codes, codes.lower_codes)
        upper.append(codes.upper_codes.flatten())
        lower.append(codes.lower_codes.flatten())
        start = torch.from_numpy(clip.translation[:1]).to(device)
        paths = [integrate_root_velocity(m[..., :ROOT_SIZE], start) for m in (motion, decoded)]
        truth, rebuilt = (
            motion_to_joints(m, path)[0].cpu().numpy() for m, path in zip((motion, decoded), paths, strict=True)
        )
        offsets = (paths[1] - paths[0])[0].cpu().numpy()
        horizon = min(30 * 30, len(offsets) - 1)
        drift = np.linalg.norm(offsets[horizon:] - offsets[: len(offsets) - horizon], axis=-1).mean()
        rows.append(
            {
                "score": metrics.joint_error(rebuilt, truth),
                "joint_error_rotation_aligned": metrics.joint_error(rebuilt, truth, "rotation"),
                "joint_error_world": metrics.joint_error(rebuilt, truth, "none"),
                "root_error_30s": float(drift) * 900 / max(1, horizon),
                "jerk_ratio": metrics.jerk(rebuilt) / max(metrics.jerk(truth), 1e-9),
                "bob_ratio": metrics.pelvis_bob(rebuilt) / max(metrics.pelvis_bob(truth), 1e-9),
            }
        )
    report = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    report["upper_codes_used"] = codebook_utilization(torch.cat(upper), model.config.codebook_size)
    report["lower_codes_used"] = codebook_utilization(torch.cat(lower), model.config.codebook_size)
    return report


@dataclass
class ClassifierTask:
    """Training of [`MegaDanceForGenreClassification`].

    Attributes:
        windows: held-out `MotionWindows` with genres.
        batch_size: windows at once in evaluation.
    """

    windows: Any
    batch_size: int = 64

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        output = model(**batch)
        return output.loss, {"accuracy": (output.logits.argmax(-1) == batch["labels"]).float().mean()}

    def advance(self, model: nn.Module, progress: float) -> None:
        pass

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Cross-entropy ("score"), accuracy and macro F1 on held-out windows."""
        from megadance_hf import metrics
        from megadance_hf.data import collate

        losses, answers, labels = [], [], []
        device = next(model.parameters()).device
        for begin in range(0, len(self.windows), self.batch_size):
            indices = range(begin, min(begin + self.batch_size, len(self.windows)))
            batch = {name: value.to(device) for name, value in collate([self.windows[i] for i in indices]).items()}
            output = model(**batch)
            losses.extend([float(output.loss)] * len(indices))
            answers.extend(output.logits.argmax(-1).tolist())
            labels.extend(batch["labels"].tolist())
        accuracy, f1 = metrics.genre_accuracy(answers, labels), metrics.genre_f1(answers, labels)
        return {"score": float(np.mean(losses)), "accuracy": accuracy, "f1": f1}


@dataclass
class RhythmTask:
    """Training of a generator's rhythm encoder alone, before its other parts; see `rhythm_megadance.py`.

    Attributes:
        clips: held-out clips with music whose beats are known, heard whole.
    """

    clips: list

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return model(batch["input_features"], rhythm_labels=batch["rhythm_labels"]).loss, {}

    def advance(self, model: nn.Module, progress: float) -> None:
        pass

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Mean cosine of the error of the beat's and the bar's phase over clips, 1 is right, -1 half a beat or bar off."""
        from megadance_hf.data import rhythm_labels

        cosines: dict[str, list[float]] = {"beat_cosine": [], "bar_cosine": []}
        device = next(model.parameters()).device
        for clip in self.clips:
            truth = torch.from_numpy(rhythm_labels(clip))
            read = model.model.encode_rhythm(torch.from_numpy(clip.input_features)[None].to(device))[0].cpu()
            for name, part in (("beat_cosine", slice(0, 2)), ("bar_cosine", slice(2, 4))):
                if not truth[:, part].isnan().any():
                    cosines[name].append(float(torch.cosine_similarity(read[:, part], truth[:, part], dim=-1).mean()))
        report = {name: float(np.mean(values)) for name, values in cosines.items() if values}
        return {"score": 1 - float(np.mean(list(report.values()))), **report} if report else {}


@dataclass
class GeneratorTask:
    """Training of [`MegaDanceForMotionGeneration`] (paper, section 3.3).

    Attributes:
        windows: held-out `CodeWindows`; the cross-entropy on them is the "score".
        code_noise: up to this share of a window's input codes is replaced by random ones, the share drawn anew for each
            window. Not in the paper; where the codes so far say less, the music has to say more, small data sets are not
            learned by heart, and generation recovers from its own mistakes.
        batch_size: windows at once in evaluation.
    """

    windows: Any
    code_noise: float = 0.0
    batch_size: int = 64

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        inputs = {name: batch[name] for name in ("upper_codes", "lower_codes")}
        if self.code_noise:
            size = getattr(model, "module", model).config.codebook_size
            share = torch.rand(len(batch["upper_codes"]), 1, device=batch["upper_codes"].device) * self.code_noise
            for name, codes in inputs.items():
                swapped = torch.rand(codes.shape, device=codes.device) < share
                inputs[name] = torch.where(swapped, torch.randint_like(codes, size), codes)
        output = model(
            input_features=batch["input_features"],
            genre_ids=batch["genre_ids"],
            upper_labels=batch["upper_codes"],
            lower_labels=batch["lower_codes"],
            rhythm=batch.get("rhythm"),
            **inputs,
        )
        return output.loss, {}

    def advance(self, model: nn.Module, progress: float) -> None:
        pass

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Cross-entropy (sum of both streams) on held-out windows: with their music, another window's, and none."""
        from megadance_hf.data import collate

        losses: dict[str, list[float]] = {"score": [], "loss_swapped_music": [], "loss_without_music": []}
        device = next(model.parameters()).device
        paired = [i for i in range(len(self.windows)) if bool(self.windows[i]["has_music"])]
        for begin in range(0, len(paired), self.batch_size):
            batch = collate([self.windows[i] for i in paired[begin : begin + self.batch_size]])
            batch = {name: value.to(device) for name, value in batch.items()}
            features, rhythm = batch["input_features"], batch.get("rhythm")
            silence = self.windows.statistics.input_mean.to(features).expand_as(features)
            variants = {
                "score": (features, rhythm),
                "loss_swapped_music": (features.flip(0), None if rhythm is None else rhythm.flip(0)),
                "loss_without_music": (silence, None if rhythm is None else torch.zeros_like(rhythm)),
            }
            for name, (heard, beat) in variants.items():
                output = model(
                    input_features=heard,
                    rhythm=beat,
                    genre_ids=batch["genre_ids"],
                    upper_codes=batch["upper_codes"],
                    lower_codes=batch["lower_codes"],
                    upper_labels=batch["upper_codes"],
                    lower_labels=batch["lower_codes"],
                )
                losses[name].extend([float(output.loss)] * len(features))
        return {name: float(np.mean(values)) for name, values in losses.items()}
