"""Faster ways to compute a dance than the modules of torch, and weights of eight bits: see README.md beside this file.

Registered when `megadance_hf` is imported; nothing else is imported until a dance begins.
"""

from typing import TYPE_CHECKING

from megadance_hf.modeling.backends_megadance import Backend, Stepper, register_backend, register_quantization

if TYPE_CHECKING:
    from megadance_hf.modeling.cache_megadance import MegaDanceCache
    from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration

LARGE = 2**20  # parameters of an expert from which on reading its weights takes the time, and not the calls


def _expert_size(model: "MegaDanceForMotionGeneration") -> int:
    layer = model.base_model.layers[0]
    expert = next(expert for expert in (layer.universal_expert, *(layer.genre_experts or {}).values()) if expert)
    return sum(weight.numel() for name, weight in expert.state_dict().items() if name.endswith("weight"))


def _is_large(model: "MegaDanceForMotionGeneration") -> bool:
    return _expert_size(model) >= LARGE


def _is_small(model: "MegaDanceForMotionGeneration") -> bool:
    return not _is_large(model)


def _compiled(model: "MegaDanceForMotionGeneration", cache: "MegaDanceCache") -> Stepper | None:
    from .compiled_steps import prepare

    return prepare(model, cache)


def _stacked(model: "MegaDanceForMotionGeneration", cache: "MegaDanceCache") -> Stepper | None:
    from .stacked_steps import prepare

    return prepare(model, cache)


def _int8_config():
    from .int8 import Int8Config

    return Int8Config()


def register() -> None:
    """Make the backends "cpu" and "stacked" and the quantization "int8" known."""
    register_backend("cpu", Backend(_compiled, _is_large))
    register_backend("stacked", Backend(_stacked, _is_small))
    register_quantization("int8", _int8_config)
