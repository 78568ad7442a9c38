"""Weights of eight bits: a quarter of the memory, and of what a code step has to read.

    MegaDanceForMotionGeneration.from_pretrained(DIR, quantization="int8")     # or quantization_config=Int8Config()

The linear layers of the experts and of a joint head are rounded when they are loaded; each output has a scale of its own. A factorised
head is small and stays as it is. The backend "cpu" computes with the eight-bit weights as they are; elsewhere they are multiplied with
their scales first, which saves memory and no time.
"""

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.quantizers import HfQuantizer, register_quantization_config, register_quantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

METHOD = "megadance_int8"


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
        return F.linear(x, self.dense_weight().to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))


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
                setattr(module, name, Int8Linear(child))
            else:
                self.quantize(child)

    def is_serializable(self, safe_serialization: bool | None = None) -> bool:
        return False

    @property
    def is_trainable(self) -> bool:
        return False


__all__ = ["Int8Config", "Int8Linear", "Int8Quantizer"]
