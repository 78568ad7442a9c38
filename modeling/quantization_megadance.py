"""Linear layers with eight-bit weights: a quarter of the memory, and of what a code step has to read.

    model.quantize("int8")                                     # or from_pretrained(..., quantization="int8")

Each output has its own scale. One position at a time is computed with the exact eight-bit weights in float32
(`kernels_megadance.py`); many positions at once with torch's quantized products, which round the inputs to eight bits as well.
For inference only.
"""

import warnings

import torch
import torch.nn.functional as F
from torch import nn

METHODS = ("int8",)


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
        self._packed = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., inputs] -> [..., outputs], in the type of `x`."""
        packed = self._pack() if x.device.type == "cpu" else None
        if packed is None:
            bias = None if self.bias is None else self.bias.to(x.dtype)
            return F.linear(x, dense_weight(self).to(x.dtype), bias)
        # with this instruction sums of eight-bit products cannot overflow; without it inputs get seven bits
        wide = getattr(torch.cpu, "_is_vnni_supported", bool)()
        return torch.ops.quantized.linear_dynamic(x.float(), packed, reduce_range=not wide).to(x.dtype)

    def _pack(self):
        """The weight in the order of torch's quantized products; None where this torch has none."""
        if self._packed is None and torch.backends.quantized.engine != "none":
            zeros = torch.zeros(len(self.scale), dtype=torch.long)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # quantized tensors are deprecated, their products are not
                weight = torch._make_per_channel_quantized_tensor(self.weight, self.scale.double(), zeros, 0)
                self._packed = torch.ops.quantized.linear_prepack(weight, self.bias)
        return self._packed


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


__all__ = ["METHODS", "Int8Linear", "dense_weight", "quantize_linears"]
