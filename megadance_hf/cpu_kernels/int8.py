"""Weights of eight bits: a quarter of the memory, and of what a code step has to read.

    MegaDanceForMotionGeneration.from_pretrained(DIR, quantization="int8")     # or quantization_config=Int8Config()

The linear layers of the experts and of a joint head are rounded when they are loaded; each output has a scale of its own. A factorised
head is small and stays as it is. The backend "cpu" computes with the eight-bit weights as they are, and so does a GPU with products of
bytes (`multiply_bytes`). Elsewhere weights are converted to the type of the activations for each call, which saves memory and no time.
"""

from functools import cache, cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.quantizers import HfQuantizer, register_quantization_config, register_quantizer
from transformers.utils import logging
from transformers.utils.quantization_config import QuantizationConfigMixin

METHOD = "megadance_int8"
_HIGH, _LEAST_ROWS, _MULTIPLE = 128, 32, 8  # cuBLAS multiplies bytes from 17 rows on, in multiples of 8

logger = logging.get_logger(__name__)


def multiply_bytes(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """x [rows, inputs] times the transposed `weight`, int8 [outputs, inputs] with `scale` [outputs]: float32 [rows, outputs].

    Rows of `x` are rounded to fifteen bits, as the backend "cpu" does: two bytes, whose products are two halves of the same call. So each
    weight is read once, as a byte, and the error of eight-bit activations is spared.
    """
    rows = x.float()
    largest = rows.abs().amax(dim=1, keepdim=True).clamp(min=1e-30)
    whole = (rows * (127 * _HIGH / largest)).round()
    high = (whole / _HIGH).round()
    count = len(x)
    padding = max(_LEAST_ROWS, -(-2 * count // _MULTIPLE) * _MULTIPLE) - 2 * count
    bytes_ = F.pad(torch.cat((high, whole - _HIGH * high)), (0, 0, 0, padding)).to(torch.int8)
    products = torch._int_mm(bytes_, weight.t()).float()
    return (products[:count] * _HIGH + products[count : 2 * count]) * (largest / (127 * _HIGH)) * scale


@cache
def has_byte_products(device: torch.device) -> bool:
    """Whether `multiply_bytes` works on this GPU; tried once. torch's function for it has no public name."""
    if device.type != "cuda":
        return False
    try:
        weight = (torch.arange(32 * 32, device=device) % 255 - 127).to(torch.int8).view(32, 32)
        x, scale = torch.sin(torch.arange(3.0 * 32, device=device)).view(3, 32), torch.ones(32, device=device)
        exact = x.double() @ weight.double().t()
        torch.testing.assert_close(multiply_bytes(x, weight, scale).double(), exact, atol=0.3, rtol=0)
    except Exception as error:  # the card, driver or torch may lack it, each in its own way
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        logger.warning_once(f"int8: {device} multiplies no bytes, so weights are converted in each call ({reason})")
        return False
    return True


class Int8Linear(nn.Module):
    """What `linear` computes, with its weight rounded to eight bits.

    Attributes:
        weight: int8 [outputs, inputs]. scale: float32 [outputs]; their product is the weight. bias: float32 [outputs] or None.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weight = linear.weight.detach().float()
        scale = weight.abs().amax(dim=1).clamp(min=1e-12) / 127
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_buffer("weight", (weight / scale[:, None]).round().to(torch.int8))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().float())

    @cached_property
    def sums(self) -> Tensor:
        """int32 [outputs]: sums of the weights of each output; inputs that are rounded to bytes have a zero point."""
        return self.weight.sum(1, dtype=torch.int32)

    def dense_weight(self) -> Tensor:
        """float32 [outputs, inputs]."""
        return self.weight.float() * self.scale[:, None]

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs], in the type of `x`."""
        bias, device = None if self.bias is None else self.bias.to(x.dtype), x.device
        if device.type == "cpu":
            return F.linear(x, self.dense_weight().to(x.dtype), bias)
        scale = self.scale.float()
        fits = self.in_features % _MULTIPLE == self.out_features % _MULTIPLE == 0 and x.numel() > 0
        if fits and (has_byte_products(device) if not torch.compiler.is_compiling() else device.type == "cuda"):
            y = multiply_bytes(x.reshape(-1, self.in_features), self.weight, scale).view(*x.shape[:-1], -1)
        else:  # the scale after the product, so that no float32 weight is made; a share of it before, since float16 ends at 65504
            y = F.linear(x / _HIGH, self.weight.to(x.dtype)).float() * (scale * _HIGH)
        return y.to(x.dtype) if bias is None else y.to(x.dtype) + bias


@register_quantization_config(METHOD)
class Int8Config(QuantizationConfigMixin):
    """`quantization_config` of `from_pretrained`; there is nothing to set."""

    def __init__(self, **kwargs):
        self.quant_method = METHOD


@register_quantizer(METHOD)
class Int8Quantizer(HfQuantizer):
    """Rounds a model's linear layers after its weights are loaded; for inference only. What is rounded can't be saved."""

    requires_calibration = False

    def _process_model_before_weight_loading(self, model: nn.Module, **kwargs) -> nn.Module:
        return model

    def _process_model_after_weight_loading(self, model: nn.Module, **kwargs) -> nn.Module:
        self.quantize(model.base_model.layers)
        if hasattr(model, "output_mlp") and model.config.code_head == "joint":
            self.quantize(model.output_mlp)
        return model

    @torch.no_grad()
    def quantize(self, module: nn.Module) -> None:
        """Replace every linear layer below `module`. Embeddings, norms and biases stay as they are."""
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                if child.weight.is_meta:
                    raise ValueError(
                        "quantization='int8': device_map leaves weights on the CPU or the disk of a GPU's model; give them all a device"
                    )
                setattr(module, name, Int8Linear(child))
            else:
                self.quantize(child)

    def is_serializable(self, safe_serialization: bool | None = None) -> bool:
        return False

    @property
    def is_trainable(self) -> bool:
        return False


__all__ = ["Int8Config", "Int8Linear", "Int8Quantizer"]
