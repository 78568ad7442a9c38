"""The learning-rate schedule."""

import math

from .config import TrainingConfig


def learning_rate_at(config: TrainingConfig, step: int, total_steps: int, epoch: int = 0) -> float:
    """Learning rate of step `step` of `total_steps`, which is in epoch `epoch`, all counted from 0.

    Not transformers' `get_scheduler`: its warm-up begins with a step at rate 0 and it decays only after the warm-up. Here the
    decay runs over all steps and the warm-up is a factor on top, up to 12 % of the learning rate away from it. And a rate
    that depends on nothing but the step needs no state in checkpoints, also when a run resumes with more epochs.
    """
    factor = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    done = min(1.0, step / max(1, total_steps))
    if config.schedule == "cosine":
        factor *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))
    elif config.schedule == "linear":
        factor *= 0.02 + 0.98 * (1 - done)
    elif config.schedule == "step":
        factor *= config.step_factor ** (epoch // config.step_epochs)
    return config.learning_rate * factor
