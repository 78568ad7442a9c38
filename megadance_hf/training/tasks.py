"""One task per model: how a batch becomes a loss, what changes during training, what is evaluated on held-out data.

The loop that trains all of them is `loop.py`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from megadance_hf import metrics
from megadance_hf.data.clip import Clip, clip_motion
from megadance_hf.data.rhythm import beat_position, rhythm_labels
from megadance_hf.data.sampling import collate
from megadance_hf.modeling.attention_megadance import SlidingWindowAttention
from megadance_hf.modeling.attributes_megadance import ATTRIBUTES, table_of, to_quantiles
from megadance_hf.modeling.codecs_megadance import BodyPartCodec
from megadance_hf.modeling.kinematics_megadance import (
    ROOT_SIZE,
    ground_translation,
    integrate_root_velocity,
    motion_to_joints,
    motion_to_poses,
    root_heading,
    turn_motion,
)
from megadance_hf.modeling.quantizers_megadance import codebook_utilization

from .start_codes import start_codes


@dataclass(frozen=True)
class Draws:
    """Random numbers for this process's rows of a step's segments.

    They are drawn for all segments of the step, so a segment gets the same numbers however many processes share the step.

    Attributes:
        generator: in the same state in every process.
        first: index of this process's first row.
        total: number of rows of all processes.
    """

    generator: torch.Generator
    first: int
    total: int

    def rand(self, rows: int, *shape: int, device: Any = None) -> Tensor:
        """Numbers in [0, 1), (rows, *shape) float32."""
        drawn = torch.rand(self.total, *shape, generator=self.generator)
        return drawn[self.first : self.first + rows].to(device, non_blocking=True)

    def randint(self, high: int, rows: int, *shape: int, device: Any = None) -> Tensor:
        """Integers from 0 to high - 1, (rows, *shape) int64."""
        drawn = torch.randint(high, (self.total, *shape), generator=self.generator)
        return drawn[self.first : self.first + rows].to(device, non_blocking=True)


class Task:
    """What is special about training one model. A task of your own overrides `loss`, and what else it needs.

    Attributes:
        on_host: names of the batch's tensors that stay on the CPU, because something else than the model reads their numbers.
    """

    on_host: tuple[str, ...] = ()

    def on_train_begin(self, model: nn.Module, segments: Any) -> None:
        """Called once, before the first step, with the segments to train on: for what a model takes from its data besides weights."""

    def loss(self, model: nn.Module, batch: dict[str, Tensor], draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise, a mean over the batch's segments, and numbers to log. Random numbers come from `draws`."""
        raise NotImplementedError

    def advance(self, model: nn.Module, progress: float) -> None:
        """Called before every step with the share of training that is done, 0 to 1."""

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Numbers on held-out data. "score" (lower is better) among them chooses the best weights."""
        return {}


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, without the wrapper that distributes it over processes."""
    return getattr(model, "module", model)


def mean_over_processes(number: Tensor) -> Tensor:
    """The mean of a tensor over all processes, all of which must call this; with one process the tensor itself."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return number
    total = number.clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


def idle_biases(model: nn.Module) -> list[tuple[nn.Parameter, slice]]:
    """Biases, and which part of each, without any effect: the softmax or a normalisation cancels them.

    Their gradients are rounding errors. Adam would scale these up to full steps, different ones for each number of processes.
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


def _batches(segments: Any, indices: Sequence[int], size: int, model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Batches of some segments, in their order, on the model's device."""
    device = next(model.parameters()).device
    for first in range(0, len(indices), size):
        batch = collate([segments[index] for index in indices[first : first + size]])
        yield {name: value.to(device) for name, value in batch.items()}


def _predict(model: nn.Module, batch: dict[str, Tensor], **changed: Tensor | None) -> Any:
    """A generator's output for a batch, whose codes are the labels unless it has some; `changed` inputs are instead of the batch's."""
    names = ("input_features", "genre_ids", "upper_codes", "lower_codes", "rhythm")
    inputs: dict[str, Any] = {name: batch.get(name) for name in names} | changed
    if batch["genre_ids"].device != batch["upper_codes"].device:
        # `on_host`: the model need not ask its device for them
        inputs["genre_ids"] = batch["genre_ids"].tolist()
    labels = {f"{part}_labels": batch.get(f"{part}_labels", batch[f"{part}_codes"]) for part in ("upper", "lower")}
    if "upper_labels" in batch:
        # a mean over all codes, also those that are no labels: each label counts the same, whatever else is in its batch
        inputs["num_items_in_batch"] = 2 * labels["upper_labels"][:, 1:].numel()
    return model(**inputs, **labels)


def _require_shares(task: Any, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(task, name) <= 1:
            raise ValueError(f"{name}={getattr(task, name)!r} is a share: give 0 to 1")


@dataclass
class TokenizerTask(Task):
    """Training of [`MegaDanceTokenizer`] (paper, section 3.2).

    Attributes:
        clips: held-out clips, which are reconstructed whole; without any nothing is evaluated.
        soft_share: share of training over which unrounded values fade out (see `Quantizer.soft_share`).
        ramp_share: share of training over which the weights of velocity and acceleration loss grow to their full size.
    """

    clips: list
    soft_share: float = 0.0
    ramp_share: float = 0.0

    def __post_init__(self) -> None:
        _require_shares(self, "soft_share", "ramp_share")

    def loss(self, model: nn.Module, batch: dict[str, Tensor], draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        unwrapped(model).set_random(draws.rand)
        given = {name: batch[name] for name in ("input_motion", "loss_mask") if name in batch}
        output = model(batch["motion"], **given)
        return output.loss, output.losses

    def advance(self, model: nn.Module, progress: float) -> None:
        soft = max(0.0, 1 - progress / self.soft_share) if self.soft_share else 0.0
        dynamics = min(1.0, progress / self.ramp_share) if self.ramp_share else 1.0
        model.set_training_progress(soft, dynamics)
        model.set_random(torch.rand)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        return reconstruction_report(model, self.clips) if self.clips else {}


def reconstruction_report(model: nn.Module, clips: list) -> dict[str, float]:
    """How well a tokenizer reconstructs whole clips, averaged over clips; `megadance_hf.metrics` has the definitions.

    Returns:
        `score`, `joint_error_rotation_aligned`, `joint_error_world` (metres): joint errors relative to the pelvis, with each frame
        rotated to fit as well, and in the world. `root_error_30s` (metres): distance of the integrated root paths after
        30 s. With `heading="turn"`, where turns add up as steps do, the score is that of bodies that face the same way, and
        `heading_error_30s` (degrees) says how far they do not after 30 s. `jerk_ratio`, `bob_ratio`: mean over the reconstructions by mean over the clips (1 is right; a ratio per clip would
        divide by zero where a clip does not bob). `upper_codes_used`, `lower_codes_used`: share of the codebook that occurs.
        `toe_median`, `toe_90` (m/s): `toe_speeds`, once the path is on the floor. `landings`: share of all landings of feet that are
        within an eighth of a beat of one, by chance a quarter (`landing_synchrony`); left out where no clip has known beats and
        landings. The same with `_truth` are those of the clips.
    """
    step, rows, compared, upper, lower = model.config.frames_per_code, [], [], [], []
    landings: dict[str, list[dict[str, Any]]] = {"landings_truth": [], "landings": []}
    device = model.motion_mean.device
    for clip in clips:
        motion = torch.from_numpy(clip_motion(clip)[None, : len(clip) // step * step]).to(device)
        codes = model.encode(motion)
        decoded = model.decode(codes.upper_codes, codes.lower_codes, root_heading(motion[:, 0]))
        upper.append(codes.upper_codes.flatten())
        lower.append(codes.lower_codes.flatten())
        start = torch.from_numpy(clip.translation[:1]).to(device)
        paths = [integrate_root_velocity(m[..., :ROOT_SIZE], start) for m in (motion, decoded)]
        truth, rebuilt = (
            motion_to_joints(m, path)[0].cpu().numpy() for m, path in zip((motion, decoded), paths, strict=True)
        )
        feet: dict[str, float] = {}
        beats = _beat_frames(clip)
        for suffix, m, path, joints in (("_truth", motion, paths[0], truth), ("", decoded, paths[1], rebuilt)):
            lift = ground_translation(motion_to_poses(m[0])[0], path[0], model.config.fps) - path[0]
            toes = metrics.toe_speeds(joints + lift[:, None].cpu().numpy())
            feet[f"toe_median{suffix}"], feet[f"toe_90{suffix}"] = toes
            if (synchrony := metrics.landing_synchrony(joints, beats)) is not None:
                landings[f"landings{suffix}"].append(synchrony)
        offsets = (paths[1] - paths[0])[0].cpu().numpy()
        horizon = min(30 * 30, len(offsets) - 1)
        drift = np.linalg.norm(offsets[horizon:] - offsets[: len(offsets) - horizon], axis=-1).mean()
        facing, turned = rebuilt, {}
        if model.config.heading == "turn":
            off = root_heading(motion) - root_heading(decoded)
            change = off[0, horizon:] - off[0, : len(offsets) - horizon]
            change = (torch.remainder(change + math.pi, 2 * math.pi) - math.pi).abs().mean()
            turned["heading_error_30s"] = math.degrees(change) * 900 / max(1, horizon)
            facing = motion_to_joints(turn_motion(decoded, off), paths[0])[0].cpu().numpy()
        rows.append(
            {
                "score": metrics.joint_error(facing, truth),
                **turned,
                "joint_error_rotation_aligned": metrics.joint_error(rebuilt, truth, "rotation"),
                "joint_error_world": metrics.joint_error(rebuilt, truth, "none"),
                "root_error_30s": float(drift) * 900 / max(1, horizon),
                **feet,
            }
        )
        compared.append([(measure(rebuilt), measure(truth)) for measure in (metrics.jerk, metrics.pelvis_bob)])
    report = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    for name, (made, true) in zip(("jerk_ratio", "bob_ratio"), np.mean(compared, axis=0), strict=True):
        report[name] = float(made / max(true, 1e-9))
    for name, found in landings.items():
        if found:
            counts = [one["landings"] for one in found]
            report[name] = float(np.average([one["own"] for one in found], weights=counts))
    report["upper_codes_used"] = codebook_utilization(torch.cat(upper), model.config.codebook_size)
    report["lower_codes_used"] = codebook_utilization(torch.cat(lower), model.config.codebook_size)
    return report


def _beat_frames(clip: Clip) -> np.ndarray:
    """Frames, not necessarily whole ones, of the beats of a clip; none where they are unknown."""
    position = beat_position(clip)
    if position is None:
        return np.zeros(0)
    beats = np.arange(np.ceil(position[0]), np.floor(position[-1]) + 1)
    return np.interp(beats, position, np.arange(len(position)))


@dataclass
class ClassifierTask(Task):
    """Training of [`MegaDanceForGenreClassification`].

    Attributes:
        segments: held-out `MotionSegments` with genres; when None nothing is evaluated.
        batch_size: segments per batch in evaluation.
    """

    segments: Any
    batch_size: int = 64

    def loss(self, model: nn.Module, batch: dict[str, Tensor], draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        output = model(**batch)
        return output.loss, {"accuracy": (output.logits.argmax(-1) == batch["labels"]).float().mean()}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Cross-entropy ("score"), accuracy and macro F1 on held-out segments."""
        if self.segments is None:
            return {}
        losses, answers, labels = [], [], []
        for batch in _batches(self.segments, range(len(self.segments)), self.batch_size, model):
            output = model(**batch)
            losses.extend([float(output.loss)] * len(batch["labels"]))
            answers.extend(output.logits.argmax(-1).tolist())
            labels.extend(batch["labels"].tolist())
        accuracy, f1 = metrics.genre_accuracy(answers, labels), metrics.genre_f1(answers, labels)
        return {"score": float(np.mean(losses)), "accuracy": accuracy, "f1": f1}


@dataclass
class RhythmTask(Task):
    """Training of a generator's rhythm encoder alone, before its other parts; see `rhythm_megadance.py`.

    Attributes:
        clips: held-out clips with music whose beats are known; each is evaluated whole.
    """

    clips: list

    def loss(self, model: nn.Module, batch: dict[str, Tensor], draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        labels = batch["rhythm_labels"]
        # The model's loss is a mean over known phases, and the processes' segments may differ in how many they have.
        known = (~labels.isnan()).sum().clamp(min=1).float()
        weight = known / mean_over_processes(known)
        return model(batch["input_features"], rhythm_labels=labels).loss * weight, {}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Cosine of the phase error of beat and bar, mean over clips: 1 is right, -1 is half a beat or bar off."""
        cosines: dict[str, list[float]] = {"beat_cosine": [], "bar_cosine": []}
        device = next(model.parameters()).device
        for clip in self.clips:
            truth = torch.from_numpy(rhythm_labels(clip))
            rhythm = model.model.encode_rhythm(torch.from_numpy(clip.input_features)[None].to(device))[0].cpu()
            for name, part in (("beat_cosine", slice(0, 2)), ("bar_cosine", slice(2, 4))):
                if not truth[:, part].isnan().any():
                    cosines[name].append(float(torch.cosine_similarity(rhythm[:, part], truth[:, part], dim=-1).mean()))
        report = {name: float(np.mean(values)) for name, values in cosines.items() if values}
        return {"score": 1 - float(np.mean(list(report.values()))), **report} if report else {}


@dataclass
class GeneratorTask(Task):
    """Training of [`MegaDanceForMotionGeneration`] (paper, section 3.3). It also sets the model's start codes.

    Attributes:
        segments: held-out `CodeSegments`; the cross-entropy on them is the "score". When None nothing is evaluated.
        code_noise: up to this share of a segment's input codes is replaced by random ones; the share is drawn anew for each
            segment. Not in the paper (section 3.3): the model then relies less on the codes so far and more on the music, overfits
            less on small data sets, and recovers from its own mistakes in generation. Noise of capture is something else: codes of a
            held or displaced body, several in a row, which `MotionCorruption` makes.
        label_smoothing: share of each label that is spread over all codes (over the digits of each level with a factorised head).
            Not in the paper (section 3.3): where dances are few, a model that knows them by heart is too sure on any other music.
        attribute_dropout: share of segments for which no attributes are asked, by a model that has some. For each of the others the share of
            attributes that are left out is drawn anew, so that any number of them can be asked for; in every second one they are those
            of the whole segment, as a slider's are, and not of each code.
        batch_size: segments per batch in evaluation.
    """

    on_host = ("genre_ids",)  # they decide which experts are called

    segments: Any
    code_noise: float = 0.0
    label_smoothing: float = 0.0
    attribute_dropout: float = 0.2
    batch_size: int = 64

    def __post_init__(self) -> None:
        _require_shares(self, "code_noise", "label_smoothing", "attribute_dropout")

    def on_train_begin(self, model: nn.Module, segments: Any) -> None:
        """Set `generation_config.start_codes` from the training clips; genres that have none keep theirs."""
        known = getattr(model.generation_config, "start_codes", None) or {}
        found = start_codes(segments.encoded, segments.genres)
        model.generation_config.start_codes = {genre: codes or known.get(genre, []) for genre, codes in found.items()}

    def loss(self, model: nn.Module, batch: dict[str, Tensor], draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        inputs = {name: batch[name] for name in ("upper_codes", "lower_codes")}
        if self.code_noise:
            size = unwrapped(model).config.codebook_size
            rows, steps = batch["upper_codes"].shape
            device = batch["upper_codes"].device
            share = draws.rand(rows, 1, device=device) * self.code_noise
            for name, codes in inputs.items():
                replaced = draws.rand(rows, steps, device=device) < share
                inputs[name] = torch.where(replaced, draws.randint(size, rows, steps, device=device), codes)
        if unwrapped(model).config.attributes:
            inputs["attributes"] = self._asked_attributes(unwrapped(model).config, batch, draws)
        output = _predict(model, batch, **inputs)
        if not self.label_smoothing:
            return output.loss, {}
        head, smoothed = unwrapped(model).output_mlp, []
        for part, logits in (("upper", output.upper_logits), ("lower", output.lower_logits)):
            labels = batch.get(f"{part}_labels", batch[f"{part}_codes"])[:, 1:]
            smoothed.append(head.cross_entropy(logits[:, :-1], labels, self.label_smoothing).mean())
        return sum(smoothed), {"unsmoothed_loss": output.loss}

    def _asked_attributes(self, config: Any, batch: dict[str, Tensor], draws: Draws) -> Tensor:
        """Attributes of a batch as quantiles [rows, codes, attributes], NaN where nothing is asked."""
        quantiles = attributes_of(config, batch)
        rows, _, size = quantiles.shape
        whole = draws.rand(rows, 1, 1, device=quantiles.device) < 0.5
        quantiles = torch.where(whole, quantiles.mean(1, keepdim=True), quantiles)
        share = draws.rand(rows, 1, device=quantiles.device)  # is left out
        share = share.masked_fill(draws.rand(rows, 1, device=quantiles.device) < self.attribute_dropout, 1.0)
        left_out = draws.rand(rows, size, device=quantiles.device) < share
        return quantiles.masked_fill(left_out[:, None], torch.nan)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Cross-entropy (sum of both streams) on held-out segments: with their own music, another segment's, and none; and with their
        music and attributes, by a model that has some."""
        if self.segments is None:
            return {}
        names = ("score", "loss_swapped_music", "loss_without_music", "loss_with_attributes")
        losses: dict[str, list[float]] = {name: [] for name in names}
        paired = [i for i in range(len(self.segments)) if bool(self.segments[i]["has_music"])]
        for batch in _batches(self.segments, paired, self.batch_size, model):
            features, rhythm = batch["input_features"], batch.get("rhythm")
            silence = self.segments.statistics.input_mean.to(features).expand_as(features)
            variants: dict[str, dict[str, Tensor | None]] = {
                "score": {},
                "loss_swapped_music": {
                    "input_features": features.flip(0),
                    "rhythm": None if rhythm is None else rhythm.flip(0),
                },
                "loss_without_music": {
                    "input_features": silence,
                    "rhythm": None if rhythm is None else torch.zeros_like(rhythm),
                },
            }
            if model.config.attributes:
                variants["loss_with_attributes"] = {"attributes": attributes_of(model.config, batch)}
            for name, changed in variants.items():
                loss = float(_predict(model, batch, **changed).loss)
                losses[name].extend([loss] * len(features))
        return {name: float(np.mean(values)) for name, values in losses.items() if values}


def attributes_of(config: Any, batch: dict[str, Tensor]) -> Tensor:
    """Measured attributes of a batch as quantiles of their genres, [rows, codes, attributes], for a model with this configuration."""
    columns = [list(ATTRIBUTES).index(name) for name in config.attributes]
    measured = batch["attributes"][..., columns]
    tables = table_of(config.attribute_quantiles, config.genres)[batch["genre_ids"].cpu()]
    return to_quantiles(measured, tables.to(measured, non_blocking=True)[:, None])


@dataclass
class NewGenreTask(GeneratorTask):
    """Training of one added genre: a `GeneratorTask` in which the other rows of the genre embedding stay as they are.

    Their gradient is zero, but weight decay changes whole tensors: the rows are restored before whatever follows a step.

    Attributes:
        rows: (known genres, hidden), the rows to keep; None for a model without genre embedding.
    """

    rows: Tensor | None = None

    @torch.no_grad()
    def advance(self, model: nn.Module, progress: float) -> None:
        if self.rows is not None:
            weight = unwrapped(model).base_model.genre_embedding.weight
            self.rows = self.rows.to(weight)
            weight[: len(self.rows)] = self.rows
