"""The state of generation: what the Mambas and the attention of each expert remember of the positions before."""

import os
from typing import TYPE_CHECKING, NamedTuple

import torch

from .backends_megadance import Stepper, prepare_stepper
from .configuration_megadance import MegaDanceConfig
from .kinematics_megadance import BODY_PARTS
from .routing_megadance import route

if TYPE_CHECKING:
    from .modeling_megadance import MegaDanceForMotionGeneration

STREAMS = (*BODY_PARTS, "music")  # the order of streams in every tensor


class MambaState(NamedTuple):
    """What one Mamba remembers; written in place."""

    conv: torch.Tensor  # [batch, conv_kernel - 1, inner], the last inputs of the convolution
    ssm: torch.Tensor  # [batch, state, inner]


class MegaDanceCache:
    """The state of a batch of dances, allocated once and written in place: its size does not depend on their length.

    A dance uses one genre, so a layer keeps the state of at most two experts, however many genres there are; of Mambas that experts share,
    one state. Rows are in the order in which the batch is sorted by genre.

    Args:
        config: of the model.
        genre_ids: [batch], fixed for the life of the cache. So are the weights: after a change of them make a new one.
        dtype: type of keys and values (the model's); the states of the Mambas are float32.
        backend: what computes with it, see `generate`.

    Attributes:
        conv: [layers, experts or 1, 3, batch, conv_kernel - 1, inner]. ssm: [layers, experts or 1, 3, batch, state, inner].
        keys, values: [layers, experts, batch, heads, context, 3, head size], rings: position p lies in slot p % context.
        position: positions seen so far.
    """

    def __init__(self, config: MegaDanceConfig, genre_ids: torch.Tensor, dtype: torch.dtype, backend: str = "auto"):
        device, batch, streams = genre_ids.device, genre_ids.shape[0], len(STREAMS)
        self.config, self.backend = config, backend
        experts = (config.num_hidden_layers, int(config.use_universal_experts) + int(config.use_genre_experts))
        heads = config.num_attention_heads
        ring = (*experts, batch, heads, config.context_codes, streams, config.hidden_size // heads)
        mambas = experts if config.mamba_placement == "experts" else (config.num_hidden_layers, 1)
        self.conv = torch.zeros(*mambas, streams, batch, config.conv_kernel - 1, config.inner_size, device=device)
        self.ssm = torch.zeros(*mambas, streams, batch, config.state_size, config.inner_size, device=device)
        self.keys = torch.zeros(ring, device=device, dtype=dtype)
        self.values = torch.zeros(ring, device=device, dtype=dtype)
        self.position = 0
        self._begin(genre_ids)

    def _begin(self, genre_ids: torch.Tensor) -> None:
        self.genre_ids, self.routing = genre_ids.clone(), route(genre_ids, self.config)
        self._experts: dict[tuple, ExpertCache] = {}
        self._stepper: Stepper | None = None
        self._prepared_by = -1  # the process that has asked the backends

    def get_seq_length(self) -> int:
        """Positions seen so far (of each stream)."""
        return self.position

    def reset(self, genre_ids: torch.Tensor | None = None) -> None:
        """Forget everything; `genre_ids` of the same batch size may change."""
        self.position = 0
        self.conv.zero_()
        self.ssm.zero_()
        if genre_ids is not None:
            self._begin(genre_ids)

    def expert(self, layer: int, slot: int, rows: slice) -> "ExpertCache":
        """The part of one expert: `slot` 0 is the first expert of the layer, `rows` its part of the batch."""
        key = (layer, slot, rows.start, rows.stop)
        if key not in self._experts:
            self._experts[key] = ExpertCache(self, layer, slot, rows)
        return self._experts[key]

    def stepper(self, model: "MegaDanceForMotionGeneration") -> Stepper | None:
        """What a backend computes with; None: the modules do. Asked once, and once more in a process that is forked."""
        if self._prepared_by != os.getpid():
            self._stepper, self._prepared_by = prepare_stepper(model, self, self.backend), os.getpid()
        return self._stepper


class ExpertCache:
    """What one expert remembers: views into a [`MegaDanceCache`].

    Attributes:
        conv: [3, batch, conv_kernel - 1, inner]. ssm: [3, batch, state, inner].
        keys, values: [batch, heads, context, 3, head size].
        rows: its part of the batch. whole: the same four tensors for the whole batch.
    """

    def __init__(self, cache: MegaDanceCache, layer: int, slot: int, rows: slice):
        self._cache = cache
        self.rows = slice(*rows.indices(len(cache.genre_ids)))
        mamba = min(slot, cache.conv.shape[1] - 1)  # one for all experts of a layer where they share it
        self.whole = (
            cache.conv[layer, mamba],
            cache.ssm[layer, mamba],
            cache.keys[layer, slot],
            cache.values[layer, slot],
        )
        self.conv, self.ssm = (state[:, self.rows] for state in self.whole[:2])
        self.keys, self.values = (state[self.rows] for state in self.whole[2:])

    @property
    def position(self) -> int:
        """Positions seen before this call."""
        return self._cache.position

    def mamba(self, stream: int) -> MambaState:
        """The state of one stream's Mamba."""
        return MambaState(self.conv[stream], self.ssm[stream])

    def extend(self, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Remember the keys and values of new positions, [batch, heads, time, 3, head size]; returns those of all positions that these
        may attend to. The order of past positions is that of the ring."""
        context, steps = self.keys.shape[2], key.shape[2]
        past = min(self.position, context)
        kept = min(steps, context)  # of the new ones, only the last `context` can ever be attended to again
        first = (self.position + steps - kept) % context
        until_end = min(kept, context - first)
        joined = []
        for ring, new in ((self.keys, key), (self.values, value)):
            last = new[:, :, steps - kept :].detach()
            if steps == 1:
                ring[:, :, first] = last[:, :, 0]
                joined.append(ring[:, :, : min(self.position + 1, context)])
            else:
                joined.append(torch.cat((ring[:, :, :past], new), dim=2) if past > 0 else new)
                ring[:, :, first : first + until_end] = last[:, :, :until_end]
                ring[:, :, : kept - until_end] = last[:, :, until_end:]
        return joined[0], joined[1]
