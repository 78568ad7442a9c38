"""What each model's training is about: how a batch becomes a loss, what changes on the way, what is measured in between.

The loop that all of them train with is `training.py`.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from megadance_hf.modeling.codecs_megadance import BodyPartCodec
from megadance_hf.modeling.experts_megadance import SlidingWindowAttention


@dataclass(frozen=True)
class Draws:
    """Random numbers for the rows that this process has of a step's windows.

    They are drawn for all windows of the step, so a window meets the same numbers however many processes share the step.

    Attributes:
        generator: the same state in every process.
        first, total: this process's first row, and the rows of all.
    """

    generator: torch.Generator
    first: int
    total: int

    def rand(self, rows: int, *shape: int, device: Any = None) -> Tensor:
        """Numbers in [0, 1), (rows, *shape) float32."""
        drawn = torch.rand(self.total, *shape, generator=self.generator)
        return drawn[self.first : self.first + rows].to(device)

    def randint(self, high: int, rows: int, *shape: int, device: Any = None) -> Tensor:
        """Integers from 0 to high - 1, (rows, *shape) int64."""
        drawn = torch.randint(high, (self.total, *shape), generator=self.generator)
        return drawn[self.first : self.first + rows].to(device)


class Task(Protocol):
    """What one model's training is about."""

    def loss(self, model: nn.Module, batch: dict[str, Tensor], draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise, the mean over the batch's windows, and numbers to log. Random numbers come from `draws`."""

    def advance(self, model: nn.Module, progress: float) -> None:
        """Called before every step with the share of training that is done, 0 to 1."""

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Numbers on held-out data; "score" (lower is better) among them chooses the best weights."""


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, without what spreads it over processes."""
    return getattr(model, "module", model)


def mean_over_processes(number: Tensor) -> Tensor:
    """The mean of a tensor over all processes, which all must ask for; the tensor itself where there is one."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return number
    total = number.clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


def idle_biases(model: nn.Module) -> list[tuple[nn.Parameter, slice]]:
    """Biases, and the part of them, that nothing depends on: the softmax or a normalisation takes them away again.

    Their gradients are rounding errors, which Adam would blow up to whole steps, others in each number of processes.
    """
    found = []
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_bias is not None:
            found.append((module.in_proj_bias, slice(module.embed_dim, 2 * module.embed_dim)))  # of the keys
        elif isinstance(module, SlidingWindowAttention):
            found.append((module.k_proj.bias, slice(None)))
        elif isinstance(module, BodyPartCodec) and getattr(module.quantizer, "norm", None) is not None:
            last = module.encoder.out if hasattr(module.encoder, "out") else module.encoder.mlp[-1]
            found += [(last.bias, slice(None)), (module.quantizer.project_in.bias, slice(None))]
    return [(bias, part) for bias, part in found if bias.requires_grad]


def _require_shares(task: Any, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(task, name) <= 1:
            raise ValueError(f"{name}={getattr(task, name)!r} is a share: give 0 to 1")


@dataclass
class TokenizerTask:
    """Training of [`MegaDanceTokenizer`] (paper, section 3.2).

    Attributes:
        clips: held-out clips that are reconstructed whole; without any nothing is measured.
        soft_share: share of training over which unrounded values fade out (see `Quantizer.soft_share`).
        ramp_share: share of training over which the velocity and acceleration weights grow to their full size.
    """

    clips: list
    soft_share: float = 0.0
    ramp_share: float = 0.0

    def __post_init__(self) -> None:
        _require_shares(self, "soft_share", "ramp_share")

    def loss(self, model: nn.Module, batch: dict[str, Tensor], draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        unwrapped(model).set_random(draws.rand)
        output = model(batch["motion"])
        return output.loss, output.losses

    def advance(self, model: nn.Module, progress: float) -> None:
        soft = max(0.0, 1 - progress / self.soft_share) if self.soft_share else 0.0
        dynamics = min(1.0, progress / self.ramp_share) if self.ramp_share else 1.0
        model.set_training_progress(soft, dynamics)
        model.set_random(torch.rand)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        return reconstruction_report(model, self.clips) if self.clips else {}


def reconstruction_report(model: nn.Module, clips: list) -> dict[str, float]:
    """How well a tokenizer reconstructs whole clips, averaged over clips; see `metrics.py` for the definitions.

    `score` is the joint error relative to the pelvis. `root_error_30s` is how far the integrated root path is off after 30 s;
    `jerk_ratio` and `bob_ratio` compare with the clips themselves (1 is right), means over clips first: a clip may not bob at all.
    """
    from megadance_hf import metrics
    from megadance_hf.data.clip import clip_motion
    from megadance_hf.modeling.kinematics_megadance import ROOT_SIZE, integrate_root_velocity, motion_to_joints
    from megadance_hf.modeling.quantizers_megadance import codebook_utilization

    step, rows, compared, upper, lower = model.config.frames_per_code, [], [], [], []
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
            }
        )
        compared.append([(measure(rebuilt), measure(truth)) for measure in (metrics.jerk, metrics.pelvis_bob)])
    report = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    for name, (made, true) in zip(("jerk_ratio", "bob_ratio"), np.mean(compared, axis=0), strict=True):
        report[name] = float(made / max(true, 1e-9))
    report["upper_codes_used"] = codebook_utilization(torch.cat(upper), model.config.codebook_size)
    report["lower_codes_used"] = codebook_utilization(torch.cat(lower), model.config.codebook_size)
    return report


@dataclass
class ClassifierTask:
    """Training of [`MegaDanceForGenreClassification`].

    Attributes:
        windows: held-out `MotionSegments` with genres; when None nothing is measured.
        batch_size: windows at once in evaluation.
    """

    windows: Any
    batch_size: int = 64

    def loss(self, model: nn.Module, batch: dict[str, Tensor], draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        output = model(**batch)
        return output.loss, {"accuracy": (output.logits.argmax(-1) == batch["labels"]).float().mean()}

    def advance(self, model: nn.Module, progress: float) -> None:
        pass

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Cross-entropy ("score"), accuracy and macro F1 on held-out windows."""
        from megadance_hf import metrics
        from megadance_hf.data.sampling import collate

        if self.windows is None:
            return {}
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

    def loss(self, model: nn.Module, batch: dict[str, Tensor], draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        labels = batch["rhythm_labels"]
        # The model's loss is the mean over known phases, and one process's windows may have more of them than another's.
        known = (~labels.isnan()).sum().clamp(min=1).float()
        weight = known / mean_over_processes(known)
        return model(batch["input_features"], rhythm_labels=labels).loss * weight, {}

    def advance(self, model: nn.Module, progress: float) -> None:
        pass

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Mean cosine of the error of the beat's and the bar's phase over clips, 1 is right, -1 half a beat or bar off."""
        from megadance_hf.data.rhythm import rhythm_labels

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
        windows: held-out `CodeSegments`; the cross-entropy on them is the "score". When None nothing is measured.
        code_noise: up to this share of a window's input codes is replaced by random ones, the share drawn anew for each
            window. Not in the paper; where the codes so far say less, the music has to say more, small data sets are not
            learned by heart, and generation recovers from its own mistakes.
        batch_size: windows at once in evaluation.
    """

    windows: Any
    code_noise: float = 0.0
    batch_size: int = 64

    def __post_init__(self) -> None:
        _require_shares(self, "code_noise")

    def loss(self, model: nn.Module, batch: dict[str, Tensor], draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        inputs = {name: batch[name] for name in ("upper_codes", "lower_codes")}
        if self.code_noise:
            size = unwrapped(model).config.codebook_size
            rows, steps = batch["upper_codes"].shape
            device = batch["upper_codes"].device
            share = draws.rand(rows, 1, device=device) * self.code_noise
            for name, codes in inputs.items():
                swapped = draws.rand(rows, steps, device=device) < share
                inputs[name] = torch.where(swapped, draws.randint(size, rows, steps, device=device), codes)
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
        from megadance_hf.data.sampling import collate

        if self.windows is None:
            return {}
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
        return {name: float(np.mean(values)) for name, values in losses.items() if values}


@dataclass
class NewGenreTask(GeneratorTask):
    """Training of one added genre: like `GeneratorTask`, and the genre embedding's other rows stay as they are.

    They get no gradient, but weight decay is on whole tensors: they are put back before whatever follows a step.

    Attributes:
        rows: (known genres, hidden), the rows to keep; None for a model without genre embedding.
    """

    rows: Tensor | None = None

    @torch.no_grad()
    def advance(self, model: nn.Module, progress: float) -> None:
        if self.rows is not None:
            weight = unwrapped(model).base_model.genre_embedding.weight
            weight[: len(self.rows)] = self.rows.to(weight)
