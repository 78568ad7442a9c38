"""What all steppers share: the way of new positions through the Mambas and experts of each layer."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from megadance_hf.modeling.cache_megadance import ExpertCache, MegaDanceCache
from megadance_hf.modeling.experts_megadance import Expert
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration

# hidden states [its rows, 3, time, hidden], positions to keep -> same; of compiled steps both are numpy's
ExpertStep = Callable[[Any, int], Any]
MambaStep = Callable[[Any], Any]  # all positions are kept


class LayerSteps(NamedTuple):
    """The Mambas and experts of a layer that this batch needs."""

    mambas: MambaStep | None  # of the layer, shared by its experts
    universal: ExpertStep | None
    genres: list[tuple[slice, ExpertStep]]  # and their rows of the batch
    parallel: bool
    join: Callable  # outputs of the genres' experts to a batch

    def __call__(self, x: Any, keep: int) -> Any:
        """As `MegaDanceLayer.forward`."""
        if self.mambas is not None:
            x = self.mambas(x)
        is_last = self.parallel or not self.genres
        universal = x if self.universal is None else self.universal(x, keep if is_last else 0)
        if not self.genres:
            return universal
        source = x if self.parallel else universal
        outputs = [step(source[rows], keep) for rows, step in self.genres]
        special = outputs[0] if len(outputs) == 1 else self.join(outputs)
        return (universal + special) / 2 if self.parallel and self.universal is not None else special


def layer_steps(
    model: MegaDanceForMotionGeneration,
    cache: MegaDanceCache,
    mamba_step: Callable[..., MambaStep],
    attention_step: Callable[..., ExpertStep],
    join: Callable = torch.cat,
) -> list[LayerSteps]:
    """The layers of a model. `mamba_step` prepares the Mambas of all streams and their norms, for an expert or a layer;
    `attention_step` what follows in an expert."""

    def expert_step(expert: Expert, state: ExpertCache) -> ExpertStep:
        attention = attention_step(expert, state)
        if not expert.use_mamba:
            return attention
        mambas = mamba_step(expert.mambas, expert.mamba_norms, state)
        return lambda x, keep: attention(mambas(x), keep)

    layers = []
    for layer in model.base_model.layers:
        first = cache.expert(layer.index, 0, slice(None))
        mambas = mamba_step(layer.mambas, layer.mamba_norms, first) if layer.use_mamba else None
        universal, genres = layer.universal_expert, []
        if layer.genre_experts is not None:
            slot = int(universal is not None)
            for key, rows in cache.routing.groups:
                genres.append((rows, expert_step(layer.genre_experts[key], cache.expert(layer.index, slot, rows))))
        whole = None if universal is None else expert_step(universal, first)
        layers.append(LayerSteps(mambas, whole, genres, layer.parallel, join))
    return layers


def walk(layers: list[LayerSteps], x: Any, keep: int) -> Any:
    """New positions [batch, 3, time, hidden] through all layers; only the last `keep` come out when that is not 0."""
    for layer in layers[:-1]:
        x = layer(x, 0)
    return layers[-1](x, keep)
