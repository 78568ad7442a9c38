"""What all steppers share: the way of new positions through the experts of each layer."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from megadance_hf.modeling.cache_megadance import MegaDanceCache
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration

# hidden states [its rows, 3, time, hidden], positions to keep -> same; of compiled steps both are numpy's
ExpertStep = Callable[[Any, int], Any]


class LayerSteps(NamedTuple):
    """The experts of a layer that this batch needs."""

    universal: ExpertStep | None
    genres: list[tuple[slice, ExpertStep]]  # and their rows of the batch
    parallel: bool
    join: Callable  # outputs of the genres' experts to a batch

    def __call__(self, x: Any, keep: int) -> Any:
        """As `MegaDanceLayer.forward`."""
        is_last = self.parallel or not self.genres
        universal = x if self.universal is None else self.universal(x, keep if is_last else 0)
        if not self.genres:
            return universal
        source = x if self.parallel else universal
        outputs = [step(source[rows], keep) for rows, step in self.genres]
        special = outputs[0] if len(outputs) == 1 else self.join(outputs)
        return (universal + special) / 2 if self.parallel and self.universal is not None else special


def layer_steps(
    model: MegaDanceForMotionGeneration, cache: MegaDanceCache, step_of: Callable, join: Callable = torch.cat
) -> list[LayerSteps]:
    """The layers of a model, each expert as `step_of` prepares it."""
    layers = []
    for layer in model.base_model.layers:
        universal, genres = layer.universal_expert, []
        if layer.genre_experts is not None:
            slot = int(universal is not None)
            for key, rows in cache.routing.groups:
                genres.append((rows, step_of(layer.genre_experts[key], cache.expert(layer.index, slot, rows))))
        whole = None if universal is None else step_of(universal, cache.expert(layer.index, 0, slice(None)))
        layers.append(LayerSteps(whole, genres, layer.parallel, join))
    return layers


def walk(layers: list[LayerSteps], x: Any, keep: int) -> Any:
    """New positions [batch, 3, time, hidden] through all layers; only the last `keep` come out when that is not 0."""
    for layer in layers[:-1]:
        x = layer(x, 0)
    return layers[-1](x, keep)
