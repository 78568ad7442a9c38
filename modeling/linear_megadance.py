"""Linear layers as inference wants them.

`Linear` is torch's, but keeps large weights in the order of the CPU's matrix products a second time, for windows of some
twenty positions: putting them into that order takes as long as the product, and torch does it in each call.

`Int8Linear` has eight-bit weights: a quarter of the memory, and of what a code step has to read.

    model.quantize("int8")                                     # or from_pretrained(..., quantization="int8")

Each output has its own scale. Generation of large models computes with the exact eight-bit weights (`kernels_megadance.py`): steps with
inputs of sixteen bits, windows with inputs of eight where the processor multiplies bytes. Everything else are torch's quantized products,
whose inputs have eight bits.
"""

import warnings
from functools import cache, cached_property

import torch
import torch.nn.functional as F
from torch import nn

METHODS = ("int8",)
SMALLEST_PACKED = 2**17  # weights; smaller layers are quick anyway
# for more rows the order matters less
PACKED_ROWS = {torch.float32: range(4, 128), torch.bfloat16: range(4, 1024)}


class Linear(nn.Linear):
    """`nn.Linear`, faster for a few dozen rows without gradients on a CPU; its weights then take twice their memory."""

    _packed = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., inputs] -> [..., outputs]."""
        packed = None if self.training else self._pack(x.numel() // x.shape[-1], x.dtype)
        return super().forward(x) if packed is None else _packed_product(x, packed, self.bias)

    def _pack(self, rows: int, dtype: torch.dtype) -> torch.Tensor | None:
        weight = self.weight
        if rows not in PACKED_ROWS.get(dtype, ()) or weight.numel() < SMALLEST_PACKED or torch.is_grad_enabled():
            return None
        if weight.dtype != dtype or weight.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return None
        # an in-place change counts the version up; tensors made in inference mode have none, and can't be changed outside it
        version = (weight.data_ptr(), None if weight.is_inference() else weight._version)
        if self._packed is None or self._packed[0] != version:
            try:  # what torch's own compiler uses; where a build has no oneDNN, nothing is lost
                packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), 64)
                _packed_product(weight.new_zeros(1, weight.shape[1]), packed, self.bias)  # not every type on every CPU
            except (AttributeError, NotImplementedError, RuntimeError):
                packed = None
            self._packed = version, packed
        return self._packed[1]

    def __getstate__(self) -> dict:  # a copy packs its own
        return {name: value for name, value in self.__dict__.items() if name != "_packed"}


def _packed_product(x: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


class Int8Linear(nn.Module):
    """What `linear` computes, with its weight rounded to eight bits.

    Attributes:
        weight: int8 [outputs, inputs]. scale: float32 [outputs]; their product is the weight. bias: float32 [outputs] or None.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weight = linear.weight.detach().float()
        scale = weight.abs().amax(dim=1).clamp(min=1e-12) / 127
        self.register_buffer("weight", (weight / scale[:, None]).round().to(torch.int8))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().float())
        self._packed = {}

    @cached_property
    def sums(self) -> torch.Tensor:
        """int32 [outputs]: what the weights of an output add up to; inputs that are rounded to bytes do not begin with zero."""
        return self.weight.sum(1, dtype=torch.int32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., inputs] -> [..., outputs], in the type of `x`."""
        packed = self._pack(x.numel() // x.shape[-1]) if x.device.type == "cpu" else None
        if packed is None:
            bias = None if self.bias is None else self.bias.to(x.dtype)
            return F.linear(x, dense_weight(self).to(x.dtype), bias)
        return _quantized_product(x.float(), packed).to(x.dtype)

    def _pack(self, rows: int):
        """The weight in the order of torch's quantized products; None where this torch has none."""
        engines = torch.backends.quantized
        engine = "onednn" if rows > 128 and "onednn" in engines.supported_engines else engines.engine
        if engine not in self._packed and engine != "none":
            zeros, usual = torch.zeros(len(self.scale), dtype=torch.long), engines.engine
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # quantized tensors are deprecated, their products are not
                weight = torch._make_per_channel_quantized_tensor(self.weight, self.scale.double(), zeros, 0)
                try:
                    engines.engine = engine
                    self._packed[engine] = torch.ops.quantized.linear_prepack(weight, self.bias)
                finally:
                    engines.engine = usual
        return self._packed.get(engine)


def _quantized_product(x: torch.Tensor, packed) -> torch.Tensor:
    return torch.ops.quantized.linear_dynamic(x, packed, reduce_range=not _sums_are_wide())


@cache
def _sums_are_wide() -> bool:
    """With this instruction sums of eight-bit products cannot overflow; without it inputs get seven bits."""
    return getattr(torch.cpu, "_is_vnni_supported", bool)()


def dense_weight(linear: nn.Module) -> torch.Tensor:
    """The weight of a linear layer, quantized or not, as floats."""
    if isinstance(linear, Int8Linear):
        return linear.weight.float() * linear.scale[:, None]
    return linear.weight


def quantize_linears(module: nn.Module) -> None:
    """Replace every linear layer below `module`."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, Int8Linear(child))
        else:
            quantize_linears(child)


__all__ = ["METHODS", "SMALLEST_PACKED", "Int8Linear", "Linear", "dense_weight", "quantize_linears"]
