"""The motion tokenizer of the first stage (paper, section 3.2): motion to one stream of codes per body part, and back.

Upper and lower body each have a convolutional encoder, a quantizer and a decoder of their own (`BodyPartCodec`); the root
velocity goes with the lower body. Raw motion goes in and comes out: the model normalises it with its saved statistics.

Two additions, not in the paper and off by default: `heading="turn"` codes the body's turns instead of where it faces, and `contacts`
decodes which feet stand, by which the root is planted.
"""

import math
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import ModelOutput

from .arguments_megadance import need_tensors
from .checkpoints_megadance import HUB_ARGUMENTS, TOKENIZER_FOLDER
from .codecs_megadance import BodyPartCodec
from .configuration_megadance import MegaDanceConfig, MegaDanceTokenizerConfig
from .errors_megadance import one_line
from .folders_megadance import ChecksFolder
from .forks_megadance import warn_after_fork
from .kinematics_megadance import (
    BODY_MOTION_SIZE,
    BODY_PARTS,
    CONTACT_JOINTS,
    FOOT_JOINTS,
    MOTION_SIZE,
    ROOT_PART,
    ROOT_SIZE,
    ROTATION_SIZE,
    check_motion_statistics,
    foot_contacts,
    foot_positions,
    from_body_motion,
    integrate_root_velocity,
    motion_to_joints,
    plant_root,
    root_heading,
    to_body_motion,
)
from .quantizers_megadance import Quantizer, ScalarNorm

# --- outputs -------------------------------------------------------------------------------------------------------


@dataclass
class MegaDanceTokenizerEncoderOutput(ModelOutput):
    """Codes of a motion, one stream per body part: (batch, frames / 8), integers from 0 to codebook size - 1."""

    upper_codes: Tensor | None = None
    lower_codes: Tensor | None = None


@dataclass
class MegaDanceTokenizerDecoderOutput(ModelOutput):
    """Decoded motion (batch, frames, 147), not normalised, and the probability that each of `CONTACT_JOINTS` stands on the floor until
    the next frame, (batch, frames, 4); None for a tokenizer without contacts."""

    motion: Tensor | None = None
    contacts: Tensor | None = None


@dataclass
class MegaDanceTokenizerOutput(ModelOutput):
    """A reconstruction and its losses.

    Attributes:
        loss: Eq. 2, plus root path, feet, contacts and the quantizer's loss where configured; a scalar.
        motion, contacts: as `MegaDanceTokenizerDecoderOutput`.
        upper_codes, lower_codes: (batch, frames / 8).
        losses: each term by name ("smpl", "joint", "root_path", "root_height", "foot_path", "foot_velocity", "foot_slide", "contact", "commitment"),
            unweighted and detached.
    """

    loss: Tensor | None = None
    motion: Tensor | None = None
    upper_codes: Tensor | None = None
    lower_codes: Tensor | None = None
    losses: dict[str, Tensor] | None = None
    contacts: Tensor | None = None


# --- body parts ----------------------------------------------------------------------------------------------------


# Columns of the motion vector that belong to each body part, in the order the codecs read them.
_ROTATIONS = np.arange(ROOT_SIZE, MOTION_SIZE).reshape(-1, ROTATION_SIZE)
PART_COLUMNS = {
    part: [*range(ROOT_SIZE if part == ROOT_PART else 0), *_ROTATIONS[list(joints)].ravel().tolist()]
    for part, joints in BODY_PARTS.items()
}
_FROM_PARTS = [sum(PART_COLUMNS.values(), []).index(column) for column in range(MOTION_SIZE)]


def split_body(motion: Tensor) -> tuple[Tensor, ...]:
    """Motion (..., 147) -> the columns of each body part: upper (..., 90) and lower (..., 57), to which a turn (..., 148) is added."""
    turn = list(range(MOTION_SIZE, motion.shape[-1]))
    return tuple(motion[..., columns + turn * (part == ROOT_PART)] for part, columns in PART_COLUMNS.items())


def join_body(*parts: Tensor) -> Tensor:
    """Inverse of `split_body`."""
    columns = torch.cat(parts, dim=-1)
    return columns[..., [*_FROM_PARTS, *range(MOTION_SIZE, columns.shape[-1])]]


# --- the model -----------------------------------------------------------------------------------------------------


def _full(numbers: Tensor) -> Tensor:
    """At least float32: angles and paths are sums over a whole dance."""
    return numbers if numbers.dtype == torch.float64 else numbers.float()


def dynamics_l1(
    predicted: Tensor, target: Tensor, velocity: float, acceleration: float, mask: Tensor | None = None
) -> Tensor:
    """Eq. 3 and 4: mean absolute error of values, first and second differences along time (dimension 1), weighted.

    With a `mask` (B, T), differences count where all of their frames are True.
    """
    error = predicted - target  # differences are linear: the error's difference is the difference's error
    loss = _masked_mean(error.abs(), mask)
    if velocity and error.shape[1] > 1:
        loss = loss + velocity * _masked_mean(error.diff(dim=1).abs(), mask, 1)
    if acceleration and error.shape[1] > 2:
        loss = loss + acceleration * _masked_mean(error.diff(n=2, dim=1).abs(), mask, 2)
    return loss


def _masked_mean(values: Tensor, mask: Tensor | None, order: int = 0) -> Tensor:
    """Mean of values (B, T - order, ...), differences of that order, as zeros where one of their frames is False in `mask` (B, T).

    The mean is over all frames: each True frame counts the same, whatever else is in its batch, or in another process.
    """
    if mask is not None:
        kept = mask.unfold(1, order + 1, 1).all(-1)
        values = values * kept.view(*kept.shape, *[1] * (values.ndim - 2))
    return values.mean()


class MegaDanceTokenizer(ChecksFolder, PreTrainedModel):
    """Motion to one stream of codes per body part, and back.

    ```python
    codes = tokenizer.encode(motion)                                  # (B, T, 147) -> (B, T / 8) per body part
    motion = tokenizer.decode(codes.upper_codes, codes.lower_codes)   # and back
    ```
    """

    config: MegaDanceTokenizerConfig
    motion_mean: Tensor
    motion_std: Tensor

    config_class = MegaDanceTokenizerConfig
    base_model_prefix = "tokenizer"
    main_input_name = "motion"
    _no_split_modules = ["BodyPartCodec"]

    def __init__(self, config: MegaDanceTokenizerConfig):
        super().__init__(config)
        size = BODY_MOTION_SIZE if config.heading == "turn" else MOTION_SIZE
        for part, columns in PART_COLUMNS.items():
            root = part == ROOT_PART
            contacts = len(CONTACT_JOINTS) if root and config.contacts else 0
            self.add_module(part, BodyPartCodec(config, len(columns) + root * (size - MOTION_SIZE), contacts))
        # Persistent, so that weights and statistics stay together (the released statistics are separate files).
        self.register_buffer("motion_mean", torch.zeros(size))
        self.register_buffer("motion_std", torch.ones(size))
        self._dynamics_share = 1.0
        self.post_init()

    @property
    def codecs(self) -> dict[str, BodyPartCodec]:
        """The codec of each body part, in the order of `BODY_PARTS`."""
        return {part: getattr(self, part) for part in BODY_PARTS}

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike | None, *args: Any, **kwargs: Any) -> Any:
        """As in transformers. Given a generator's folder or repository, it loads the tokenizer that belongs to it.

        Raises:
            ModelError: there is no such folder, or its files are damaged, incomplete or do not match.
        """
        source, hub = pretrained_model_name_or_path, {name: kwargs[name] for name in HUB_ARGUMENTS if name in kwargs}
        if source is not None and not hub.get("subfolder") and kwargs.get("config") is None:
            with one_line(source) if os.path.isdir(source) else nullcontext():
                content, _ = PreTrainedConfig.get_config_dict(source, **hub)
            if content.get("model_type") == MegaDanceConfig.model_type:
                kwargs["subfolder"] = TOKENIZER_FOLDER
        return super().from_pretrained(source, *args, **kwargs)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d | nn.Linear):
            # torch's own default, repeated here because loading builds modules without running their constructors
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            inputs = module.weight[:, 0] if isinstance(module, nn.ConvTranspose1d) else module.weight[0]
            init.uniform_(module.bias, -1 / math.sqrt(inputs.numel()), 1 / math.sqrt(inputs.numel()))
        elif isinstance(module, ScalarNorm):
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
            init.zeros_(module.num_batches_tracked)
        elif isinstance(module, Quantizer):
            module.init_weights()
        elif isinstance(module, MegaDanceTokenizer):
            init.zeros_(module.motion_mean)
            init.ones_(module.motion_std)

    # statistics and training aids

    @torch.no_grad()
    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set the normalisation: `mean` and `std` of the raw motion, each (147,); with `heading="turn"` of body motion, (148,)."""
        check_motion_statistics(mean, std, len(self.motion_mean))
        self.motion_mean.copy_(mean)
        self.motion_std.copy_(std)

    @torch.no_grad()
    def calibrate(self, motion: Tensor) -> None:
        """Prepare the quantizers for training with a batch of motion (B, T, 147)."""
        for codec, part in zip(self.codecs.values(), self._parts(motion), strict=True):
            codec.quantizer.calibrate(codec.hidden(part))

    def set_training_progress(self, soft_share: float, dynamics_share: float) -> None:
        """Warm-up against codebook collapse, not in the paper: the share of unrounded values (see `Quantizer.soft_share`), and
        the share of the velocity and acceleration weights in use, both 0 to 1. A trained model has (0, 1)."""
        for codec in self.codecs.values():
            codec.quantizer.soft_share = soft_share
        self._dynamics_share = dynamics_share

    def set_random(self, random: Callable[..., Tensor]) -> None:
        """Set the function that chooses the unrounded values, called like `torch.rand`, which is the default."""
        for codec in self.codecs.values():
            codec.quantizer.random = random

    def normalize(self, motion: Tensor) -> Tensor:
        """Raw motion (..., 147), or with `heading="turn"` body motion (..., 148) -> normalised, same shape."""
        return (motion - self.motion_mean) / self.motion_std

    def denormalize(self, motion: Tensor) -> Tensor:
        """Inverse of `normalize`."""
        return motion * self.motion_std + self.motion_mean

    def _numbers(self, motion: Tensor) -> Tensor:
        """What is coded: raw motion (B, T, 147), or with `heading="turn"` body motion (B, T, 148)."""
        return to_body_motion(_full(motion)).to(motion.dtype) if self.config.heading == "turn" else motion

    def _parts(self, motion: Tensor) -> tuple[Tensor, ...]:
        return split_body(self.normalize(self._numbers(motion)))

    def _rest_offsets(self, motion: Tensor) -> Tensor | None:
        offsets = self.config.rest_offsets
        return None if offsets is None else torch.tensor(offsets, dtype=motion.dtype, device=motion.device)

    def _assemble(
        self, decoded: Sequence[Tensor], heading: Tensor, known: tuple[Tensor, Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Decoded body parts -> the numbers that are coded, raw motion with its root planted, and logits of the contacts.

        `known`: a mask (B, T), numbers and raw motion, from which the motion has its turns and steps where the mask is False, so that
        heading and path after a masked frame are not off by what nobody should learn.

        Gradients pass through the planted root into legs and velocity, but not into the contacts: only their own loss teaches them, or
        they would be bent to where a root path fits better.
        """
        *others, root_part = decoded
        contacts = None
        if self.config.contacts:
            sizes = [root_part.shape[-1] - len(CONTACT_JOINTS), len(CONTACT_JOINTS)]
            root_part, contacts = root_part.split(sizes, dim=-1)
        motion = numbers = self.denormalize(join_body(*others, root_part))
        if self.config.heading == "turn":
            if known is not None:
                turn = torch.where(known[0], numbers[..., MOTION_SIZE], known[1][..., MOTION_SIZE])
                motion = torch.cat([numbers[..., :MOTION_SIZE], turn[..., None]], dim=-1)
            motion = from_body_motion(_full(motion), heading)
        if contacts is not None:
            motion = _full(motion)
            feet = foot_positions(motion, self._rest_offsets(motion))
            velocity = plant_root(motion[..., :ROOT_SIZE], feet, contacts.detach().to(feet.dtype).sigmoid())
            motion = torch.cat([velocity, motion[..., ROOT_SIZE:]], dim=-1)
        if known is not None:
            velocity = torch.where(known[0][..., None], motion[..., :ROOT_SIZE], known[2][..., :ROOT_SIZE])
            motion = torch.cat([velocity, motion[..., ROOT_SIZE:]], dim=-1)
        return numbers, motion.to(numbers.dtype), contacts

    # the interface

    def _check_motion(self, motion: Tensor | None) -> Tensor:
        need_tensors(
            f"give motion (batch, frames, {MOTION_SIZE}), as poses_to_motion makes it of poses and path", motion=motion
        )
        assert motion is not None
        step = self.config.frames_per_code
        if motion.ndim != 3 or motion.shape[-1] != MOTION_SIZE:
            raise ValueError(f"motion must be (batch, frames, {MOTION_SIZE}), got {tuple(motion.shape)}")
        if motion.shape[1] == 0 or motion.shape[1] % step:
            raise ValueError(
                f"motion has {motion.shape[1]} frames; give a multiple of {step}, the frames of a code "
                f"(crop to {motion.shape[1] // step * step} or repeat the last frame)"
            )
        return motion

    def encode(self, motion: Tensor | None = None) -> MegaDanceTokenizerEncoderOutput:
        """Raw motion (B, T, 147), T a multiple of 8 -> `upper_codes`, `lower_codes`, each (B, T / 8).

        Raises:
            ValueError: `motion` is missing or has another shape.
        """
        warn_after_fork()
        parts = self._parts(self._check_motion(motion))
        return MegaDanceTokenizerEncoderOutput(
            *(codec.encode(part) for codec, part in zip(self.codecs.values(), parts, strict=True))
        )

    def decode(
        self,
        upper_codes: Tensor | None = None,
        lower_codes: Tensor | None = None,
        heading: Tensor | None = None,
        output_contacts: bool = False,
    ) -> Any:
        """Codes, each (B, N) of 0 to codebook size - 1 -> raw motion (B, 8 N, 147).

        Args:
            heading: (B,) radians, where the body faces in the first frame (see `root_heading`); +Z when None. Only of interest with
                `config.heading="turn"`: otherwise the codes themselves say it.
            output_contacts: return a `MegaDanceTokenizerDecoderOutput`, which also has the contacts, instead of the motion.

        Raises:
            ValueError: a stream is missing, they differ in shape, or a code is not in the codebook.
        """
        remedy = "give both streams, decode(output.upper_codes, output.lower_codes); processor.batch_decode(output) gives poses"
        need_tensors(remedy, upper_codes=upper_codes, lower_codes=lower_codes)
        assert upper_codes is not None and lower_codes is not None
        streams = {"upper": upper_codes, "lower": lower_codes}
        for part, codes in streams.items():
            if codes.ndim != 2 or codes.shape != upper_codes.shape:
                raise ValueError(f"{part}_codes must be (batch, steps) like upper_codes, got {tuple(codes.shape)}")
            if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.config.codebook_size:
                raise ValueError(f"{part}_codes has numbers outside 0 to {self.config.codebook_size - 1}, the codebook")
        decoded = [codec.decode(streams[part]) for part, codec in self.codecs.items()]
        if heading is None:
            heading = self.motion_mean.new_zeros(len(upper_codes))
        _, motion, contacts = self._assemble(decoded, heading)
        if not output_contacts:
            return motion
        return MegaDanceTokenizerDecoderOutput(motion, None if contacts is None else contacts.sigmoid())

    def forward(
        self,
        motion: Tensor | None = None,
        target_joints: Tensor | None = None,
        input_motion: Tensor | None = None,
        loss_mask: Tensor | None = None,
    ) -> MegaDanceTokenizerOutput:
        """Reconstruct raw motion (B, T, 147) and compute the loss (Eq. 2-4).

        Args:
            motion: (B, T, 147), T a multiple of 8.
            target_joints: (B, T, 24, 3), metres, for the joint loss; made from `motion` by forward kinematics when None.
            input_motion: (B, T, 147), a corrupted copy that is encoded instead of `motion`, which stays the target. Not in the paper.
            loss_mask: (B, T) bool, False for frames that are noise and no target (paper, appendix A.4, names the noise). All losses but
                the quantizer's are zero there, those of velocities and accelerations also where a neighbouring frame is False. The
                motion of the output has the target's steps and turns there. With True everywhere nothing changes.

        Raises:
            ValueError: `motion` is missing, or one of them has another shape.
        """
        motion = self._check_motion(motion)
        for name, given, shape in (
            ("input_motion", input_motion, motion.shape),
            ("loss_mask", loss_mask, motion.shape[:2]),
        ):
            if given is not None and given.shape != shape:
                raise ValueError(f"{name} must be {tuple(shape)}, as motion is, got {tuple(given.shape)}")
        config = self.config
        target_numbers = self._numbers(motion)
        parts = split_body(self.normalize(target_numbers))
        inputs = parts if input_motion is None else self._parts(input_motion)
        results = [codec(part) for codec, part in zip(self.codecs.values(), inputs, strict=True)]
        decoded, codes, commitments = zip(*results, strict=True)
        known = None if loss_mask is None else (loss_mask, target_numbers, motion)
        numbers, predicted, contacts = self._assemble(decoded, root_heading(_full(motion[:, 0])), known)

        velocity = config.velocity_weight * self._dynamics_share
        acceleration = config.acceleration_weight * self._dynamics_share
        zero = motion.new_zeros(())
        # one mean per body part, then their sum, as released; the paper writes one norm over both
        errors = (
            dynamics_l1(x[..., : y.shape[-1]], y, velocity, acceleration, loss_mask)
            for x, y in zip(decoded, parts, strict=True)
        )
        losses = {"commitment": sum(commitments, zero), "smpl": sum(errors, zero)}
        if config.joint_loss_weight:
            if target_joints is None:
                with torch.no_grad():
                    target_joints = self._loss_joints(target_numbers, motion)
            joints = self._loss_joints(numbers, predicted)
            losses["joint"] = dynamics_l1(joints, target_joints, velocity, acceleration, loss_mask)
        if config.root_path_weight or config.root_height_weight:
            path_error = integrate_root_velocity(predicted[..., :ROOT_SIZE] - motion[..., :ROOT_SIZE]).abs()
            losses["root_path"] = _masked_mean(path_error, loss_mask)
            losses["root_height"] = _masked_mean(path_error[..., 1:2].contiguous(), loss_mask)
        losses |= self._foot_losses(predicted, motion, contacts, loss_mask)
        weights = {
            "smpl": config.smpl_loss_weight,
            "joint": config.joint_loss_weight,
            "root_path": config.root_path_weight,
            "root_height": config.root_height_weight,
            "foot_path": config.foot_path_weight,
            "foot_velocity": config.foot_velocity_weight * self._dynamics_share,
            "foot_slide": config.foot_slide_weight * self._dynamics_share,
            "contact": config.contact_loss_weight,
            "commitment": 1.0,
        }
        loss = sum((weights[name] * value for name, value in losses.items()), zero)
        detached = {name: value.detach() for name, value in losses.items()}
        streams = {f"{part}_codes": stream for part, stream in zip(BODY_PARTS, codes, strict=True)}
        probability = None if contacts is None else contacts.detach().sigmoid()
        return MegaDanceTokenizerOutput(loss=loss, motion=predicted, **streams, losses=detached, contacts=probability)

    def _loss_joints(self, numbers: Tensor, motion: Tensor) -> Tensor:
        """Joints for the joint loss (B, T, 24, 3), with the pelvis where `joint_loss_root` puts it.

        Bodies without a path are compared as they are coded: a heading that is off would otherwise twist the spine.
        """
        if self.config.joint_loss_root == "integrated":
            root = integrate_root_velocity(motion[..., :ROOT_SIZE])
        else:
            motion = numbers[..., :MOTION_SIZE]
            root = motion[..., :ROOT_SIZE]
        if self.config.joint_loss_root == "none":
            root = torch.zeros_like(root)
        # "velocity": as released, the velocity itself stands for the position
        return motion_to_joints(motion, root, self._rest_offsets(motion))

    def _foot_losses(
        self, predicted: Tensor, motion: Tensor, contacts: Tensor | None, mask: Tensor | None
    ) -> dict[str, Tensor]:
        """The losses on ankles and feet that are configured, by name; windows begin at the origin."""
        config = self.config
        if not (config.foot_path_weight or config.foot_velocity_weight or config.foot_slide_weight or config.contacts):
            return {}
        made, true = (
            foot_positions(each, self._rest_offsets(each))
            + integrate_root_velocity(each[..., :ROOT_SIZE])[..., None, :]
            for each in (predicted, motion)
        )
        # the floor of a window: nearly the lowest that a foot gets
        lowest = true[..., -len(FOOT_JOINTS) :, 1].amin(-1)
        floor = lowest.kthvalue(1 + lowest.shape[1] // 20, dim=1).values
        stands = foot_contacts(true - F.pad(floor[:, None, None, None], (1, 1)), config.fps)
        losses = {}
        if contacts is not None:
            wrong = F.binary_cross_entropy_with_logits(contacts, stands.to(contacts.dtype), reduction="none")
            losses["contact"] = _masked_mean(wrong, mask)
        if config.foot_path_weight:
            losses["foot_path"] = _masked_mean((made - true).abs(), mask)
        if made.shape[1] > 1:
            speed, true_speed = (feet.diff(dim=1) * config.fps for feet in (made, true))
            if config.foot_velocity_weight:
                losses["foot_velocity"] = _masked_mean((speed - true_speed).abs(), mask, 1)
            if config.foot_slide_weight:
                still = stands[:, :-1, :, None]
                if mask is not None:
                    still = still & (mask[:, 1:] & mask[:, :-1])[:, :, None, None]
                losses["foot_slide"] = (speed.abs() * still).sum() / (3 * still.sum().clamp(min=1))
        return losses
