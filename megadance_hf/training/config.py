"""The settings of a training."""

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_type_hints


class TrainingError(ValueError):
    """Training cannot be done as asked; the message is one line naming the setting and the remedy."""


@dataclass
class TrainingConfig:
    """How to train. The paper says "fixed" of the learning rate, without a number; the rest of its recipe is in `examples/configs`.

    A step is one update of the weights. It takes `batch_size * gradient_accumulation_steps` segments in each process.

    Attributes:
        epochs: passes over the segments.
        batch_size: segments per batch and process.
        max_steps: end after this many steps, even within an epoch, and finish as after the last epoch; 0 for no limit.
        optimizer: "adamw", "adam" (the paper's; with weight_decay it adds an L2 penalty to the gradients) or "adan" (the 2026
            release's; see `adan.py`).
        learning_rate, weight_decay, eps: of the optimizer.
        betas: of the optimizer: two numbers, the share of the old value, for Adam and AdamW, three for Adan, the share of the new value.
        missing_gradients: what becomes of weights that get no gradient in a step, such as the experts of genres that the batch lacks:
            "skip" leaves them as they are; "zero" takes a gradient of zero, so that weight decay and momentum move them, as in the 2026
            release.
        schedule: "constant" (the paper's), "cosine" or "linear" (both decay to 2 % of the learning rate), or "step": times
            `step_factor` every `step_epochs` epochs; see `schedule.py`.
        warmup_steps: steps over which the learning rate grows to its full size.
        max_grad_norm: gradient clipping; 0 for none.
        gradient_accumulation_steps: batches per step.
        gradient_checkpointing: recompute the activations of each layer in the backward pass: less memory, more time, the same
            gradients. Only the generator supports it.
        mixed_precision: "no", "bf16", "fp16" (which needs a GPU; gradients are scaled, and a step in which they overflow is left out, by
            the schedule and the average as well), or "auto": bf16 on a GPU that computes with it, else "no"; a resumed run keeps what
            it had.
        compile: compile the experts of a generator (`torch.compile`), which then take fewer launches; the first steps take minutes.
        ema_decay: decay of the moving average of the weights, which is then evaluated and saved instead of them; 0 for none.
        keep_best: save the weights with the best "score" instead of the last ones.
        keep_epoch: save the weights after this epoch, if it is reached, instead of the last ones; 0 for the last ones.
        drop_last: leave out the segments of an epoch that do not fill a batch; False needs a single process.
        seed: of data, augmentation, dropout and the initial weights.
        num_workers: processes that load batches, per training process; 0 loads them in the training process itself, which is
            enough for data in memory. None: up to four where there is a GPU, else 0. It changes no number.
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
    optimizer: Literal["adam", "adamw", "adan"] = "adamw"
    learning_rate: float = 3e-4
    betas: tuple[float, ...] | list[float] = (0.9, 0.99)
    weight_decay: float = 0.0
    eps: float = 1e-8
    missing_gradients: Literal["skip", "zero"] = "skip"
    schedule: Literal["constant", "cosine", "linear", "step"] = "constant"
    step_epochs: int = 5
    step_factor: float = 0.33
    warmup_steps: int = 0
    max_grad_norm: float = 1.0
    gradient_accumulation_steps: int = 1
    gradient_checkpointing: bool = False
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    compile: bool = False
    ema_decay: float = 0.0
    keep_best: bool = False
    keep_epoch: int = 0
    drop_last: bool = True
    seed: int = 0
    num_workers: int | None = None
    evaluate_every: int = 1
    save_every: int = 1
    save_every_steps: int = 0
    sample_every: int = 0
    keep_checkpoints: int = 2
    trackers: list[str] | tuple[str, ...] = ()

    def __post_init__(self) -> None:
        at_least_one = {"epochs", "batch_size", "gradient_accumulation_steps", "evaluate_every", "save_every"}
        at_least_one |= {"keep_checkpoints", "step_epochs"}
        for name, kind in get_type_hints(type(self)).items():
            value = getattr(self, name)
            if kind == int | None and value is None:
                continue
            if kind in (int, int | None):
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
        numbers = all(isinstance(beta, int | float) and not isinstance(beta, bool) for beta in self.betas)
        if self.optimizer == "adan":
            fits = numbers and len(self.betas) == 3 and all(0 < beta <= 1 for beta in self.betas)
            self._require(fits, "betas", "adan takes three numbers above 0, to 1, such as [0.02, 0.08, 0.01]")
        else:
            fits = numbers and len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
            self._require(fits, "betas", f"{self.optimizer} takes two numbers from 0 to below 1")
        self._require(
            not (self.keep_best and self.keep_epoch), "keep_epoch", "keep_best keeps another one; give one of them"
        )
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
