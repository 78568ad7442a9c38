"""The motion tokenizer of the first stage (paper, section 3.2): dance clips to two streams of codes and back.

Upper and lower body each have a convolutional encoder, a quantizer and a decoder of their own (`BodyPartCodec`); the root
velocity goes with the lower body. Raw motion goes in and comes out: normalisation by the saved statistics is done here.
"""

import math
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import ModelOutput

from .arguments_megadance import need_tensors
from .checkpoints_megadance import HUB_ARGUMENTS, TOKENIZER_FOLDER
from .configuration_megadance import MegaDanceConfig, MegaDanceTokenizerConfig
from .errors_megadance import one_line
from .folders_megadance import ChecksFolder
from .forks_megadance import warn_after_fork
from .kinematics_megadance import (
    LOWER_JOINTS,
    MOTION_SIZE,
    ROOT_SIZE,
    ROTATION_SIZE,
    UPPER_JOINTS,
    check_motion_statistics,
    integrate_root_velocity,
    motion_to_joints,
)

# --- outputs -------------------------------------------------------------------------------------------------------


@dataclass
class MegaDanceTokenizerEncoderOutput(ModelOutput):
    """Codes of a motion, each (batch, frames / 8), integers from 0 to codebook size - 1."""

    upper_codes: torch.LongTensor | None = None
    lower_codes: torch.LongTensor | None = None


@dataclass
class MegaDanceTokenizerOutput(ModelOutput):
    """A reconstruction and what it cost.

    Attributes:
        loss: Eq. 2 and, where configured, the root path and commitment terms.
        motion: (batch, frames, 147), raw.
        upper_codes, lower_codes: (batch, frames / 8).
        losses: each term by name, detached.
    """

    loss: torch.FloatTensor | None = None
    motion: torch.FloatTensor | None = None
    upper_codes: torch.LongTensor | None = None
    lower_codes: torch.LongTensor | None = None
    losses: dict[str, Tensor] | None = None


# --- body parts ----------------------------------------------------------------------------------------------------


def _rotation_columns(joints: tuple[int, ...]) -> list[int]:
    return [ROOT_SIZE + ROTATION_SIZE * joint + number for joint in joints for number in range(ROTATION_SIZE)]


# Columns of the 147 numbers that belong to each part, in the order the codecs read them.
UPPER_COLUMNS = _rotation_columns(UPPER_JOINTS)
LOWER_COLUMNS = [*range(ROOT_SIZE), *_rotation_columns(LOWER_JOINTS)]
_FROM_PARTS = [(UPPER_COLUMNS + LOWER_COLUMNS).index(column) for column in range(MOTION_SIZE)]


def split_body(motion: Tensor) -> tuple[Tensor, Tensor]:
    """Motion (..., 147) -> upper (..., 90) and lower (..., 57)."""
    return motion[..., UPPER_COLUMNS], motion[..., LOWER_COLUMNS]


def join_body(upper: Tensor, lower: Tensor) -> Tensor:
    """Inverse of `split_body`."""
    return torch.cat([upper, lower], dim=-1)[..., _FROM_PARTS]


# --- quantizers ----------------------------------------------------------------------------------------------------


def codebook_utilization(codes: Tensor, codebook_size: int) -> float:
    """Share of the codebook that occurs in `codes` (any shape): 1.0 when every code is in use (paper, section 1)."""
    return torch.unique(codes).numel() / codebook_size


def _processes() -> int:
    """How many processes train this model together."""
    distributed = torch.distributed
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes, of which each has a share in the loss."""

    @staticmethod
    def forward(ctx, values):
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient):
        total = gradient.clone()
        torch.distributed.all_reduce(total)
        return total


class ScalarNorm(nn.BatchNorm1d):
    """Batch normalisation over the batches of all processes, so that two train as one with the batch of both does.

    torch's own SyncBatchNorm needs GPUs. While training, all processes must run the model together.
    """

    def forward(self, scalars: Tensor) -> Tensor:
        """[batch, scalars, steps] -> same."""
        if not self.training or _processes() == 1:
            return super().forward(scalars)
        own = scalars.new_full((1,), scalars.shape[0] * scalars.shape[2])
        count, total = _SumOverProcesses.apply(torch.cat((own, scalars.sum((0, 2))))).split([1, scalars.shape[1]])
        mean = total / count
        centred = scalars - mean[:, None]
        variance = _SumOverProcesses.apply(centred.square().sum((0, 2))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        return centred * (variance[:, None] + self.eps).rsqrt()


class FiniteScalarQuantizer(nn.Module):
    """Finite scalar quantization (Mentzer et al. 2023; paper, Eq. 1): a few bounded scalars, each rounded to a level.

    A code is the mixed-radix number of its digits, least significant first; a digit d of L levels stands for the value
    (d - L//2) / (L//2) in [-1, 1]. Levels are odd, so that zero is a value.
    """

    # The released code widens the tanh by this, so that the outermost levels are reached by finite inputs.
    _WIDEN = 1.001

    def __init__(self, config: MegaDanceTokenizerConfig):
        super().__init__()
        self.levels = tuple(config.levels)
        self.bound_kind = config.bound
        self.project_in = nn.Linear(config.code_size, len(self.levels))
        self.project_out = nn.Linear(len(self.levels), config.code_size)
        # Without it Adam drives the scalars of a small model to where the bound is flat within twenty steps, and the
        # codebook collapses for good (docs/LOG.md). Not in the paper, off by default.
        self.norm = ScalarNorm(len(self.levels), affine=False, momentum=0.02) if config.normalize_scalars else None
        # Share of the values that pass unrounded while training; the training loop brings it from 1 to 0.
        self.soft_share = 0.0
        self.random: Callable[..., Tensor] = torch.rand  # what chooses them

    def _levels(self, like: Tensor) -> Tensor:
        # made when needed: a buffer would hold garbage after loading through the meta device
        return torch.tensor(self.levels, device=like.device)

    def _radix(self, like: Tensor) -> Tensor:
        return torch.tensor([math.prod(self.levels[:place]) for place in range(len(self.levels))], device=like.device)

    def scalars(self, hidden: Tensor) -> Tensor:
        """Vectors (batch, steps, code_size) -> the scalars (batch, steps, digits) that are bounded and rounded."""
        scalars = self.project_in(hidden).float()
        return scalars if self.norm is None else self.norm(scalars.transpose(1, 2)).transpose(1, 2)

    def bound(self, scalars: Tensor) -> Tensor:
        """Scalars (..., digits) -> numbers whose rounding is digit - L//2, within half a level of the ends."""
        half = (self._levels(scalars) - 1) / 2
        if self.bound_kind == "sigmoid":  # Eq. 1
            return (2 * torch.sigmoid(scalars) - 1) * half
        return torch.tanh(scalars) * (half * self._WIDEN)

    def digits_to_codes(self, digits: Tensor) -> Tensor:
        """Digits (..., n) of 0 to L-1 -> codes (...)."""
        return (digits.long() * self._radix(digits)).sum(-1)

    def codes_to_digits(self, codes: Tensor) -> Tensor:
        """Codes (...) -> digits (..., n)."""
        return (codes[..., None] // self._radix(codes)) % self._levels(codes)

    def digits_to_values(self, digits: Tensor) -> Tensor:
        """Digits (..., n) -> values in [-1, 1]."""
        half = self._levels(digits) // 2
        return (digits - half) / half

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (batch, steps) -> vectors (batch, steps, code_size)."""
        values = self.digits_to_values(self.codes_to_digits(codes))
        return self.project_out(values.to(self.project_out.weight.dtype))

    def encode(self, hidden: Tensor) -> Tensor:
        """Vectors (batch, steps, code_size) -> codes (batch, steps)."""
        return self._to_codes(self.bound(self.scalars(hidden)))

    def _to_codes(self, bounded: Tensor) -> Tensor:
        return self.digits_to_codes(bounded.round() + self._levels(bounded) // 2)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors -> quantized vectors (gradient straight through the rounding), codes, and a loss of zero."""
        bounded = self.bound(self.scalars(hidden))
        rounded = bounded + (bounded.round() - bounded).detach()
        if self.training and self.soft_share > 0:
            soft = self.random(*bounded.shape[:-1], device=bounded.device)[..., None] < self.soft_share
            rounded = torch.where(soft, bounded, rounded)
        values = rounded / (self._levels(bounded) // 2)
        quantized = self.project_out(values.to(self.project_out.weight.dtype))
        return quantized, self._to_codes(bounded.detach()), bounded.new_zeros(())


class VectorQuantizer(nn.Module):
    """Vector quantization with a moving-average codebook: the twin that FSQ is compared with in the paper's Table 4b."""

    def __init__(self, config: MegaDanceTokenizerConfig):
        super().__init__()
        self.decay = config.vq_decay
        self.commitment = config.vq_commitment
        size = config.codebook_size
        self.register_buffer("codebook", torch.randn(size, config.code_size))
        self.register_buffer("cluster_size", torch.ones(size))
        self.register_buffer("cluster_sum", self.codebook.clone())

    def decode(self, codes: Tensor) -> Tensor:
        return F.embedding(codes, self.codebook)

    def encode(self, hidden: Tensor) -> Tensor:
        return torch.cdist(hidden.float(), self.codebook.float()[None]).argmin(-1)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        codes = self.encode(hidden)
        if self.training:
            self._update(hidden.detach().flatten(0, -2).float(), codes.flatten())
        nearest = self.decode(codes)
        loss = self.commitment * F.mse_loss(hidden, nearest.detach())
        return hidden + (nearest - hidden).detach(), codes, loss

    @torch.no_grad()
    def _update(self, vectors: Tensor, codes: Tensor) -> None:
        counts = torch.bincount(codes, minlength=len(self.codebook)).to(vectors.dtype)
        sums = torch.zeros_like(self.cluster_sum).index_add_(0, codes, vectors)
        if _processes() > 1:  # every process keeps the same codebook: that of the whole batch
            torch.distributed.all_reduce(counts)
            torch.distributed.all_reduce(sums)
        self.cluster_size.lerp_(counts, 1 - self.decay)
        self.cluster_sum.lerp_(sums, 1 - self.decay)
        self.codebook.copy_(self.cluster_sum / self.cluster_size.clamp_min(1e-5)[:, None])

    @torch.no_grad()
    def calibrate(self, hidden: Tensor) -> None:
        """Begin with codebook entries that are encoder outputs, as is usual for VQ-VAEs."""
        vectors = hidden.flatten(0, -2)
        chosen = torch.randint(len(vectors), (len(self.codebook),), device=vectors.device)
        self.codebook.copy_(vectors[chosen])
        self.cluster_sum.copy_(self.codebook)
        self.cluster_size.fill_(1.0)


# --- convolutions --------------------------------------------------------------------------------------------------


class ResidualBlock(nn.Module):
    """x + Conv1(ReLU(dilated Conv3(ReLU(x))))."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.dilated = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.pointwise = nn.Conv1d(width, width, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.pointwise(F.relu(self.dilated(F.relu(hidden))))


def _residual_blocks(config: MegaDanceTokenizerConfig, reverse: bool) -> nn.Sequential:
    dilations = [config.residual_dilation**depth for depth in range(config.residual_depth)]
    return nn.Sequential(
        *(ResidualBlock(config.hidden_size, d) for d in (reversed(dilations) if reverse else dilations))
    )


class LinearUpsample(nn.Module):
    """Twice the frames by linear interpolation, then a convolution: no checkerboard, hence no jitter."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, 3, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.conv(F.interpolate(hidden, scale_factor=2, mode="linear", align_corners=False))


def _upsample(config: MegaDanceTokenizerConfig, inputs: int, outputs: int) -> nn.Module:
    if config.upsampling == "linear":
        return LinearUpsample(inputs, outputs)
    return nn.ConvTranspose1d(inputs, outputs, 4, stride=2, padding=1)


class ResidualEncoder(nn.Module):
    """Released arrangement: strided convolutions, each followed by dilated residual blocks."""

    def __init__(self, config: MegaDanceTokenizerConfig, size: int):
        super().__init__()
        width = config.hidden_size
        inputs = [size] + [width] * (config.num_downsamples - 1)
        self.down = nn.ModuleList(nn.Conv1d(n, width, 4, stride=2, padding=1) for n in inputs)
        self.blocks = nn.ModuleList(_residual_blocks(config, reverse=False) for _ in inputs)
        self.out = nn.Conv1d(width, config.code_size, 3, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:  # [batch, size, frames] -> [batch, code_size, frames / 8]
        for down, blocks in zip(self.down, self.blocks, strict=True):
            hidden = blocks(down(hidden))
        return self.out(hidden)


class ResidualDecoder(nn.Module):
    """Mirror image of `ResidualEncoder`."""

    def __init__(self, config: MegaDanceTokenizerConfig, size: int):
        super().__init__()
        width = config.hidden_size
        outputs = [width] * (config.num_downsamples - 1) + [config.code_size]
        self.into = nn.Conv1d(config.code_size, width, 3, padding=1)
        self.blocks = nn.ModuleList(_residual_blocks(config, reverse=True) for _ in outputs)
        self.up = nn.ModuleList(_upsample(config, width, n) for n in outputs)
        self.out = nn.Conv1d(config.code_size, size, 3, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:  # [batch, code_size, steps] -> [batch, size, 8 * steps]
        hidden = self.into(hidden)
        for blocks, up in zip(self.blocks, self.up, strict=True):
            hidden = up(blocks(hidden))
        return self.out(hidden)


class PlainEncoder(nn.Module):
    """The paper's text (section 3.2): a strided CNN (three layers) and a two-layer MLP."""

    def __init__(self, config: MegaDanceTokenizerConfig, size: int):
        super().__init__()
        inputs = [size] + [config.hidden_size] * (config.num_downsamples - 1)
        self.down = nn.ModuleList(nn.Conv1d(n, config.hidden_size, 4, stride=2, padding=1) for n in inputs)
        self.mlp = nn.Sequential(
            nn.Conv1d(config.hidden_size, config.code_size, 1),
            nn.ReLU(),
            nn.Conv1d(config.code_size, config.code_size, 1),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        for down in self.down:
            hidden = F.relu(down(hidden))
        return self.mlp(hidden)


class PlainDecoder(nn.Module):
    """The paper's text: a two-layer MLP and a transposed CNN (three layers)."""

    def __init__(self, config: MegaDanceTokenizerConfig, size: int):
        super().__init__()
        outputs = [config.hidden_size] * (config.num_downsamples - 1) + [size]
        self.mlp = nn.Sequential(
            nn.Conv1d(config.code_size, config.hidden_size, 1),
            nn.ReLU(),
            nn.Conv1d(config.hidden_size, config.hidden_size, 1),
        )
        self.up = nn.ModuleList(_upsample(config, config.hidden_size, n) for n in outputs)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = self.mlp(hidden)
        for up in self.up:
            hidden = up(F.relu(hidden))
        return hidden


class BodyPartCodec(nn.Module):
    """Encoder, quantizer and decoder of one body part."""

    def __init__(self, config: MegaDanceTokenizerConfig, size: int):
        super().__init__()
        residual = config.codec == "residual"
        self.encoder = (ResidualEncoder if residual else PlainEncoder)(config, size)
        self.quantizer = (FiniteScalarQuantizer if config.quantizer == "fsq" else VectorQuantizer)(config)
        self.decoder = (ResidualDecoder if residual else PlainDecoder)(config, size)

    def hidden(self, part: Tensor) -> Tensor:
        """Normalised part (batch, frames, size) -> vectors before the quantizer (batch, frames / 8, code_size)."""
        return self.encoder(part.transpose(1, 2)).transpose(1, 2)

    def encode(self, part: Tensor) -> Tensor:
        return self.quantizer.encode(self.hidden(part))

    def decode(self, codes: Tensor) -> Tensor:
        return self._decode(self.quantizer.decode(codes))

    def _decode(self, quantized: Tensor) -> Tensor:
        return self.decoder(quantized.transpose(1, 2)).transpose(1, 2)

    def forward(self, part: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        quantized, codes, loss = self.quantizer(self.hidden(part))
        return self._decode(quantized), codes, loss


# --- the model -----------------------------------------------------------------------------------------------------


def dynamics_l1(predicted: Tensor, target: Tensor, velocity: float, acceleration: float) -> Tensor:
    """Eq. 3 and 4: mean absolute error of values, first and second differences along time (dimension 1), weighted."""
    error = predicted - target  # differences are linear: the error's difference is the difference's error
    loss = error.abs().mean()
    if velocity and error.shape[1] > 1:
        loss = loss + velocity * error.diff(dim=1).abs().mean()
    if acceleration and error.shape[1] > 2:
        loss = loss + acceleration * error.diff(n=2, dim=1).abs().mean()
    return loss


class MegaDanceTokenizer(ChecksFolder, PreTrainedModel):
    """Motion <-> two streams of codes.

    ```python
    codes = tokenizer.encode(motion)                                  # (B, T, 147) -> (B, T / 8) twice
    motion = tokenizer.decode(codes.upper_codes, codes.lower_codes)   # and back
    ```
    """

    config_class = MegaDanceTokenizerConfig
    base_model_prefix = "tokenizer"
    main_input_name = "motion"
    _no_split_modules = ["BodyPartCodec"]

    def __init__(self, config: MegaDanceTokenizerConfig):
        super().__init__(config)
        self.upper = BodyPartCodec(config, len(UPPER_COLUMNS))
        self.lower = BodyPartCodec(config, len(LOWER_COLUMNS))
        # Persistent, so that weights and statistics can't part company (the released statistics are separate files).
        self.register_buffer("motion_mean", torch.zeros(MOTION_SIZE))
        self.register_buffer("motion_std", torch.ones(MOTION_SIZE))
        self._dynamics_share = 1.0
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, *args, **kwargs):
        """As in transformers; of a generator's folder or repository it is the tokenizer that belongs to it."""
        source, place = pretrained_model_name_or_path, {n: kwargs[n] for n in HUB_ARGUMENTS if n in kwargs}
        if source is not None and not place.get("subfolder") and kwargs.get("config") is None:
            with one_line(source) if os.path.isdir(source) else nullcontext():
                content, _ = PreTrainedConfig.get_config_dict(source, **place)
            if content.get("model_type") == MegaDanceConfig.model_type:
                kwargs["subfolder"] = TOKENIZER_FOLDER
        return super().from_pretrained(source, *args, **kwargs)

    def get_input_embeddings(self) -> None:
        """There is no single one; FSDP asks for it."""

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d | nn.Linear):
            # torch's own default, repeated here because loading builds modules without running their constructors
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            fan_in = (
                module.weight[0].numel() if not isinstance(module, nn.ConvTranspose1d) else module.weight[:, 0].numel()
            )
            init.uniform_(module.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))
        elif isinstance(module, nn.BatchNorm1d):
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
            init.zeros_(module.num_batches_tracked)
        elif isinstance(module, VectorQuantizer):
            init.normal_(module.codebook)
            init.copy_(module.cluster_sum, module.codebook)
            init.ones_(module.cluster_size)
        elif isinstance(module, MegaDanceTokenizer):
            init.zeros_(module.motion_mean)
            init.ones_(module.motion_std)

    # statistics and training aids

    @torch.no_grad()
    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set the normalisation: `mean` and `std` of the raw motion, each (147,)."""
        check_motion_statistics(mean, std)
        self.motion_mean.copy_(mean)
        self.motion_std.copy_(std)

    @torch.no_grad()
    def calibrate(self, motion: Tensor) -> None:
        """Begin training: a vector quantizer's codebook is made of a batch of motion (B, T, 147); FSQ needs nothing."""
        for codec, part in zip((self.upper, self.lower), split_body(self.normalize(motion)), strict=True):
            if isinstance(codec.quantizer, VectorQuantizer):
                codec.quantizer.calibrate(codec.hidden(part))

    def set_training_progress(self, soft_share: float, dynamics_share: float) -> None:
        """Warm-up against codebook collapse, not in the paper: share of unrounded values, share of the velocity and
        acceleration weights. A trained model has (0, 1)."""
        for codec in (self.upper, self.lower):
            codec.quantizer.soft_share = soft_share
        self._dynamics_share = dynamics_share

    def set_random(self, random: Callable[..., Tensor]) -> None:
        """What chooses the unrounded values: called like `torch.rand`, which it is unless a training loop sets another."""
        for codec in (self.upper, self.lower):
            codec.quantizer.random = random

    def normalize(self, motion: Tensor) -> Tensor:
        return (motion - self.motion_mean) / self.motion_std

    def denormalize(self, motion: Tensor) -> Tensor:
        return motion * self.motion_std + self.motion_mean

    # the interface

    def _check_motion(self, motion: Tensor) -> None:
        need_tensors("give motion (batch, frames, 147), as poses_to_motion makes it of poses and path", motion=motion)
        step = self.config.frames_per_code
        if motion.ndim != 3 or motion.shape[-1] != MOTION_SIZE:
            raise ValueError(f"motion must be (batch, frames, {MOTION_SIZE}), got {tuple(motion.shape)}")
        if motion.shape[1] == 0 or motion.shape[1] % step:
            raise ValueError(
                f"motion has {motion.shape[1]} frames; give a multiple of {step}, the frames of a code "
                f"(crop to {motion.shape[1] // step * step} or repeat the last frame)"
            )

    def encode(self, motion: Tensor | None = None) -> MegaDanceTokenizerEncoderOutput:
        """Raw motion (B, T, 147), T a multiple of 8 -> `upper_codes`, `lower_codes`, each (B, T / 8)."""
        warn_after_fork()
        self._check_motion(motion)
        upper, lower = split_body(self.normalize(motion))
        return MegaDanceTokenizerEncoderOutput(
            upper_codes=self.upper.encode(upper), lower_codes=self.lower.encode(lower)
        )

    def decode(self, upper_codes: Tensor | None = None, lower_codes: Tensor | None = None) -> Tensor:
        """Codes, each (B, N) of 0 to codebook size - 1 -> raw motion (B, 8 N, 147)."""
        remedy = "give both streams, decode(output.upper_codes, output.lower_codes); processor.batch_decode(output) gives poses"
        need_tensors(remedy, upper_codes=upper_codes, lower_codes=lower_codes)
        for name, codes in (("upper_codes", upper_codes), ("lower_codes", lower_codes)):
            if codes.ndim != 2 or codes.shape != upper_codes.shape:
                raise ValueError(f"{name} must be (batch, steps) like upper_codes, got {tuple(codes.shape)}")
            if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.config.codebook_size:
                raise ValueError(f"{name} has numbers outside 0 to {self.config.codebook_size - 1}, the codebook")
        return self.denormalize(join_body(self.upper.decode(upper_codes), self.lower.decode(lower_codes)))

    def forward(self, motion: Tensor | None = None, target_joints: Tensor | None = None) -> MegaDanceTokenizerOutput:
        """Reconstruct raw motion (B, T, 147) and measure it (Eq. 2-4).

        Args:
            motion: (B, T, 147), T a multiple of 8.
            target_joints: (B, T, 24, 3), metres; made from `motion` by forward kinematics when None.
        """
        self._check_motion(motion)
        target = self.normalize(motion)
        upper, lower = split_body(target)
        upper_hat, upper_codes, upper_commitment = self.upper(upper)
        lower_hat, lower_codes, lower_commitment = self.lower(lower)
        predicted = self.denormalize(join_body(upper_hat, lower_hat))

        config = self.config
        velocity = config.velocity_weight * self._dynamics_share
        acceleration = config.acceleration_weight * self._dynamics_share
        losses = {"commitment": upper_commitment + lower_commitment}
        # one mean a part, then their sum, as released; the paper writes one norm over both
        losses["smpl"] = dynamics_l1(upper_hat, upper, velocity, acceleration) + dynamics_l1(
            lower_hat, lower, velocity, acceleration
        )
        if config.joint_loss_weight:
            if target_joints is None:
                with torch.no_grad():
                    target_joints = self._loss_joints(motion)
            losses["joint"] = dynamics_l1(self._loss_joints(predicted), target_joints, velocity, acceleration)
        if config.root_path_weight:
            path_error = integrate_root_velocity(predicted[..., :ROOT_SIZE] - motion[..., :ROOT_SIZE])
            losses["root_path"] = path_error.abs().mean()
        weights = {
            "smpl": config.smpl_loss_weight,
            "joint": config.joint_loss_weight,
            "root_path": config.root_path_weight,
            "commitment": 1.0,
        }
        loss = sum(weights[name] * value for name, value in losses.items())
        return MegaDanceTokenizerOutput(
            loss=loss,
            motion=predicted,
            upper_codes=upper_codes,
            lower_codes=lower_codes,
            losses={name: value.detach() for name, value in losses.items()},
        )

    def _loss_joints(self, motion: Tensor) -> Tensor:
        """Joints for the joint loss, placed as `joint_loss_root` says."""
        root = motion[..., :ROOT_SIZE]
        placed = {
            "none": torch.zeros_like,
            "velocity": lambda velocity: velocity,  # as released: the velocity itself stands for the position
            "integrated": integrate_root_velocity,
        }[self.config.joint_loss_root](root)
        offsets = self.config.rest_offsets
        rest = None if offsets is None else torch.tensor(offsets, dtype=motion.dtype, device=motion.device)
        return motion_to_joints(motion, placed, rest)
