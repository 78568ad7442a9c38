"""Quantizers of the motion tokenizer: vectors to integer codes and back (paper, section 3.2).

`MegaDanceTokenizerConfig(quantizer=NAME)` chooses one: "fsq", "vq", or one of your own.

    class SignQuantizer(Quantizer):                          # implements encode, decode and forward
        @classmethod
        def codebook_size(cls, config):
            return 2 ** config.quantizer_options["bits"]

    register_quantizer("sign", SignQuantizer)
    config = MegaDanceTokenizerConfig(quantizer="sign", quantizer_options={"bits": 8})
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init

if TYPE_CHECKING:  # the configuration asks the quantizers about their size
    from .configuration_megadance import MegaDanceTokenizerConfig


class Quantizer(nn.Module):
    """Base class of all quantizers. The constructor takes the tokenizer's configuration; each body part has its own quantizer.

    Subclasses implement `encode`, `decode` and `forward`. Weights and buffers are saved with the model. Loading builds modules
    without running their constructors' initialisation: a buffer needs `init_weights`, or must be made when it is used.

    Attributes:
        soft_share: share of the values, 0 to 1, that pass unrounded while training; a warm-up brings it from 1 to 0. A quantizer
            may ignore it.
        random: chooses these values; called like `torch.rand`.
    """

    def __init__(self, config: "MegaDanceTokenizerConfig"):
        super().__init__()
        self.soft_share = 0.0
        self.random: Callable[..., Tensor] = torch.rand

    @classmethod
    def codebook_size(cls, config: "MegaDanceTokenizerConfig") -> int:
        """Number of codes; unless overridden, the product of `config.levels`."""
        return math.prod(config.levels)

    @classmethod
    def check_config(cls, config: "MegaDanceTokenizerConfig") -> None:
        """Raise ValueError for settings that are not possible; `config.quantizer_options` holds those of a quantizer of your own."""

    def encode(self, hidden: Tensor) -> Tensor:
        """Vectors (batch, steps, code_size) -> codes (batch, steps), integers from 0 to codebook size - 1."""
        raise NotImplementedError

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (batch, steps) -> vectors (batch, steps, code_size)."""
        raise NotImplementedError

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors (batch, steps, code_size) -> quantized vectors of the same shape, through which gradients pass; their codes
        (batch, steps); and a loss, a scalar that is added to the reconstruction loss."""
        raise NotImplementedError

    def calibrate(self, hidden: Tensor) -> None:
        """Called once before training with encoder outputs (batch, steps, code_size), without gradients."""

    def init_weights(self) -> None:
        """Fill the buffers, and the parameters that are not in a submodule, with functions of `transformers.initialization`."""


# --- quantizers by name ------------------------------------------------------------------------------------------------

BUILT_IN = ("fsq", "vq")
_quantizers: dict[str, type[Quantizer]] = {}


def register_quantizer(name: str, quantizer: type[Quantizer]) -> None:
    """Make `MegaDanceTokenizerConfig(quantizer=name)` build this class. Do so before a model that uses it is loaded.

    Raises:
        ValueError: the name is empty or that of a built-in quantizer, or the class is no `Quantizer`.
    """
    if not isinstance(name, str) or not name.strip() or (name in BUILT_IN and name in _quantizers):
        raise ValueError(f"name={name!r} is not possible: give a name other than {', '.join(BUILT_IN)}")
    if not (isinstance(quantizer, type) and issubclass(quantizer, Quantizer)):
        raise ValueError(f"quantizer={quantizer!r} is no quantizer: give a subclass of Quantizer")
    _quantizers[name] = quantizer


def find_quantizer(name: str) -> type[Quantizer]:
    """The class registered under a name.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    if name not in _quantizers:
        raise ValueError(
            f"quantizer={name!r} is unknown: give one of {', '.join(_quantizers)}, or register your own with register_quantizer"
        )
    return _quantizers[name]


# --- several processes -------------------------------------------------------------------------------------------------


def _num_processes() -> int:
    """How many processes train this model together."""
    distributed = torch.distributed
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; the gradient is summed as well, since each process has a share in the loss."""

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


# --- finite scalar quantization ----------------------------------------------------------------------------------------


class ScalarNorm(nn.BatchNorm1d):
    """Batch normalisation over the batches of all processes, so that two processes train as one with the batch of both.

    torch's own SyncBatchNorm needs GPUs. While training, all processes must run the model together.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, scalars: Tensor) -> Tensor:
        """[batch, scalars, steps] -> same."""
        if not self.training or _num_processes() == 1:
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


def _radix(levels: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor([math.prod(levels[:digit]) for digit in range(len(levels))], device=device)


def digits_to_codes(digits: Tensor, levels: Sequence[int]) -> Tensor:
    """Digits (..., n) of 0 to L-1 -> codes (...), mixed-radix numbers, least significant digit first."""
    return (digits.long() * _radix(levels, digits.device)).sum(-1)


def codes_to_digits(codes: Tensor, levels: Sequence[int]) -> Tensor:
    """Codes (...) -> digits (..., n)."""
    if codes.device.type == "cpu":
        return (codes[..., None] // _radix(levels, codes.device)) % torch.tensor(tuple(levels), device=codes.device)
    return _digits_one_by_one(codes, levels)


def _digits_one_by_one(codes: Tensor, levels: Sequence[int]) -> Tensor:
    """The same without numbers from the host, which could not be copied while a CUDA graph is recorded."""
    digits = []
    for level in levels:
        digits.append(codes % level)
        codes = codes // level
    return torch.stack(digits, dim=-1)


class FiniteScalarQuantizer(Quantizer):
    """Finite scalar quantization (Mentzer et al. 2023; paper, Eq. 1): a few bounded scalars, each rounded to a level.

    A code is the mixed-radix number of its digits, least significant first; a digit d of L levels stands for the value
    (d - L//2) / (L//2) in [-1, 1]. Levels are odd, so that zero is a value.
    """

    # The released code widens the tanh by this, so that finite inputs reach the outermost levels.
    _WIDEN = 1.001

    def __init__(self, config: "MegaDanceTokenizerConfig"):
        super().__init__(config)
        self.levels = tuple(config.levels)
        self.bound_kind = config.bound
        self.project_in = nn.Linear(config.code_size, len(self.levels))
        self.project_out = nn.Linear(len(self.levels), config.code_size)
        # Without it Adam drives the scalars of a small model to where the bound is flat within twenty steps, and the
        # codebook collapses for good (docs/LOG.md). Not in the paper, off by default.
        self.norm = ScalarNorm(len(self.levels), affine=False, momentum=0.02) if config.normalize_scalars else None

    def _levels(self, device: torch.device) -> Tensor:
        # made when needed: a buffer would hold garbage after loading through the meta device
        return torch.tensor(self.levels, device=device)

    def scalars(self, hidden: Tensor) -> Tensor:
        """Vectors (batch, steps, code_size) -> scalars (batch, steps, digits) before they are bounded and rounded."""
        scalars = self.project_in(hidden).float()
        return scalars if self.norm is None else self.norm(scalars.transpose(1, 2)).transpose(1, 2)

    def bound(self, scalars: Tensor) -> Tensor:
        """Scalars (..., digits) -> numbers whose rounding is digit - L//2, within half a level of the ends."""
        half = (self._levels(scalars.device) - 1) / 2
        if self.bound_kind == "sigmoid":  # Eq. 1
            return (2 * torch.sigmoid(scalars) - 1) * half
        return torch.tanh(scalars) * (half * self._WIDEN)

    def digits_to_codes(self, digits: Tensor) -> Tensor:
        """Digits (..., n) of 0 to L-1 -> codes (...)."""
        return digits_to_codes(digits, self.levels)

    def codes_to_digits(self, codes: Tensor) -> Tensor:
        """Codes (...) -> digits (..., n)."""
        return codes_to_digits(codes, self.levels)

    def digits_to_values(self, digits: Tensor) -> Tensor:
        """Digits (..., n) -> values in [-1, 1]."""
        half = self._levels(digits.device) // 2
        return (digits - half) / half

    def decode(self, codes: Tensor) -> Tensor:
        values = self.digits_to_values(self.codes_to_digits(codes))
        return self.project_out(values.to(self.project_out.weight.dtype))

    def encode(self, hidden: Tensor) -> Tensor:
        return self._to_codes(self.bound(self.scalars(hidden)))

    def _to_codes(self, bounded: Tensor) -> Tensor:
        return self.digits_to_codes(bounded.round() + self._levels(bounded.device) // 2)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As in the base class; gradients go straight through the rounding, and the loss is zero."""
        bounded = self.bound(self.scalars(hidden))
        rounded = bounded + (bounded.round() - bounded).detach()
        if self.training and self.soft_share > 0:
            soft = self.random(*bounded.shape[:-1], device=bounded.device)[..., None] < self.soft_share
            rounded = torch.where(soft, bounded, rounded)
        values = rounded / (self._levels(bounded.device) // 2)
        quantized = self.project_out(values.to(self.project_out.weight.dtype))
        return quantized, self._to_codes(bounded.detach()), bounded.new_zeros(())


# --- vector quantization -----------------------------------------------------------------------------------------------


class VectorQuantizer(Quantizer):
    """Vector quantization with a moving-average codebook, with which the paper's Table 4b compares FSQ."""

    codebook: Tensor
    cluster_size: Tensor
    cluster_sum: Tensor

    def __init__(self, config: "MegaDanceTokenizerConfig"):
        super().__init__(config)
        self.decay = config.vq_decay
        self.commitment = config.vq_commitment
        size = config.codebook_size
        self.register_buffer("codebook", torch.randn(size, config.code_size))
        self.register_buffer("cluster_size", torch.ones(size))
        self.register_buffer("cluster_sum", self.codebook.clone())

    def init_weights(self) -> None:
        init.normal_(self.codebook)
        init.copy_(self.cluster_sum, self.codebook)
        init.ones_(self.cluster_size)

    def decode(self, codes: Tensor) -> Tensor:
        return F.embedding(codes, self.codebook)

    def encode(self, hidden: Tensor) -> Tensor:
        return torch.cdist(hidden.float(), self.codebook.float()[None]).argmin(-1)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As in the base class; the loss is the commitment loss, and training moves the codebook."""
        codes = self.encode(hidden)
        if self.training:
            self._update(hidden.detach().flatten(0, -2).float(), codes.flatten())
        nearest = self.decode(codes)
        loss = self.commitment * F.mse_loss(hidden, nearest.detach())
        return hidden + (nearest - hidden).detach(), codes, loss

    @torch.no_grad()
    def _update(self, vectors: Tensor, codes: Tensor) -> None:
        # `bincount` would have to ask the device how long its result is
        counts = torch.zeros_like(self.cluster_size).index_add_(0, codes, torch.ones_like(vectors[:, 0]))
        sums = torch.zeros_like(self.cluster_sum).index_add_(0, codes, vectors)
        if _num_processes() > 1:  # every process keeps the same codebook: that of the whole batch
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


register_quantizer("fsq", FiniteScalarQuantizer)
register_quantizer("vq", VectorQuantizer)


# --- measure -----------------------------------------------------------------------------------------------------------


def codebook_utilization(codes: Tensor, codebook_size: int) -> float:
    """Share of the codebook that occurs in `codes` (any shape): 1.0 when every code is in use (paper, section 1)."""
    return torch.unique(codes).numel() / codebook_size
