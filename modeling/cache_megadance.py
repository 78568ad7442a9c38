"""The state of generation: what the Mambas and the attention of each expert remember of the positions before."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from transformers.cache_utils import Cache

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


State = torch.Tensor | tuple[torch.Tensor, ...]  # of all layers, or of each


def _zeros(devices: Sequence[torch.device], shape: tuple[int, ...], dtype: torch.dtype | None = None) -> State:
    if len(set(devices)) <= 1:
        return torch.zeros(len(devices), *shape, dtype=dtype, device=devices[0] if devices else None)
    return tuple(torch.zeros(shape, dtype=dtype, device=device) for device in devices)


def _each(state: State, function: Callable[[torch.Tensor], torch.Tensor]) -> State:
    return function(state) if isinstance(state, torch.Tensor) else tuple(map(function, state))


def _parts(state: State) -> tuple[torch.Tensor, ...]:
    return (state,) if isinstance(state, torch.Tensor) else state


class MegaDanceCache(Cache):
    """The state of a batch of dances, allocated once and written in place: its size does not depend on their length.

    A dance uses one genre, so a layer keeps the state of at most two experts, however many genres there are; of Mambas that experts share,
    one state. Rows are in the order in which the batch is sorted by genre. Where a `device_map` has spread the layers, what a layer
    remembers is on its device.

    Args:
        config: of the model.
        genre_ids: [batch], fixed for the life of the cache. So are the weights: after a change of them make a new one.
        dtype: type of keys and values (the model's); the states of the Mambas are float32.
        backend: what computes with it, see `generate`.
        devices: of each layer; `device` when None. device: where the genres are kept; that of `genre_ids` when None.

    Attributes (a tensor where all layers are on one device, else a tuple of each layer's, without the first dimension):
        conv: [layers, experts or 1, 3, batch, conv_kernel - 1, inner]. ssm: [layers, experts or 1, 3, batch, state, inner].
        keys, values: [layers, experts, batch, heads, context, 3, head size], rings: position p lies in slot p % context.
        position: positions seen so far.
    """

    def __init__(
        self,
        config: MegaDanceConfig,
        genre_ids: torch.Tensor,
        dtype: torch.dtype,
        backend: str = "auto",
        devices: Sequence[torch.device] | None = None,
        device: torch.device | None = None,
    ):
        super().__init__(layers=[])  # transformers' layers hold keys and values alone
        batch, streams, heads = genre_ids.shape[0], len(STREAMS), config.num_attention_heads
        self.config, self.backend = config, backend
        self._device = genre_ids.device if device is None else device
        experts = int(config.use_universal_experts) + int(config.use_genre_experts)
        mambas = experts if config.mamba_placement == "experts" else 1
        ring = (experts, batch, heads, config.context_codes, streams, config.hidden_size // heads)
        of_layers = [self._device] * config.num_hidden_layers if devices is None else list(devices)
        self.conv = _zeros(of_layers, (mambas, streams, batch, config.conv_kernel - 1, config.inner_size))
        self.ssm = _zeros(of_layers, (mambas, streams, batch, config.state_size, config.inner_size))
        self.keys = _zeros(of_layers, ring, dtype)
        self.values = _zeros(of_layers, ring, dtype)
        self.position = 0
        self._begin(genre_ids)

    def _begin(self, genre_ids: torch.Tensor) -> None:
        self.genre_ids = genre_ids.to(self._device, copy=True)
        on_host = genre_ids.tolist() if genre_ids.device.type == "cpu" else None  # then no device is waited for
        self.routing = route(self.genre_ids, self.config, on_host)
        self._make_views()
        self._stepper: Stepper | None = None
        self._prepared_by = -1  # the process that has asked the backends

    def __len__(self) -> int:
        return self.config.num_hidden_layers

    def _make_views(self) -> None:
        parts = [
            (0, slice(None)),
            *((slot, rows) for slot in range(self.keys[0].shape[0]) for _, rows in self.routing.groups),
        ]
        self._experts = {
            (layer, slot, rows.start, rows.stop): ExpertCache(self, layer, slot, rows)
            for layer in range(len(self))
            for slot, rows in parts
        }

    def __getstate__(self) -> dict:
        # a copy makes its own views, and asks the backends itself
        return {**vars(self), "_experts": {}, "_stepper": None, "_prepared_by": -1}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._make_views()

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions seen so far (of each stream)."""
        return self.position

    def get_max_cache_shape(self, layer_idx: int = 0) -> int:
        """-1: there is no longest dance."""
        return -1

    get_max_length = get_max_cache_shape  # its name in later versions of transformers

    @property
    def is_initialized(self) -> bool:
        return True

    @property
    def is_sliding(self) -> list[bool]:
        return [True] * len(self)

    @property
    def is_compileable(self) -> bool:
        return True

    @property
    def max_batch_size(self) -> int:
        return len(self.genre_ids)

    @property
    def max_cache_len(self) -> int:
        """Positions whose keys and values are kept."""
        return self.config.context_codes

    def update(self, *args, **kwargs):
        raise ValueError("this cache is filled by the model: give it as `cache` of forward")

    def crop(self, *args, **kwargs):
        raise ValueError("the state of a Mamba can't be taken back: copy the cache before, with copy.deepcopy")

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows of the batch, in this order."""
        device = self.genre_ids.device
        chosen = torch.arange(len(self.genre_ids), device=device)[indices.to(device)]
        rows = chosen if self.routing.inverse is None else self.routing.inverse[chosen]
        rows = route(self.genre_ids[chosen], self.config).sort(rows)
        self.conv, self.ssm = (
            _each(state, lambda one: one.index_select(-3, rows.to(one.device))) for state in (self.conv, self.ssm)
        )
        self.keys, self.values = (
            _each(state, lambda one: one.index_select(-5, rows.to(one.device))) for state in (self.keys, self.values)
        )
        self._begin(self.genre_ids[chosen])

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Take each row from the row that `beam_idx` [batch] names."""
        self.batch_select_indices(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row, the copies beside each other."""
        rows = torch.arange(len(self.genre_ids), device=self.genre_ids.device)
        self.batch_select_indices(rows.repeat_interleave(repeats))

    def reset(self, genre_ids: torch.Tensor | None = None) -> None:
        """Forget everything; `genre_ids` of the same batch size may change."""
        self.position = 0
        _each(self.conv, torch.Tensor.zero_)
        _each(self.ssm, torch.Tensor.zero_)
        if genre_ids is not None:
            self._begin(genre_ids)

    def snapshot(self) -> tuple[int, list[State]]:
        """A copy of what is remembered, for `restore`."""
        return self.position, [_each(state, torch.clone) for state in (self.conv, self.ssm, self.keys, self.values)]

    def restore(self, snapshot: tuple[int, list[State]]) -> None:
        """Remember again what a snapshot has; written in place."""
        self.position, states = snapshot
        for state, saved in zip((self.conv, self.ssm, self.keys, self.values), states, strict=True):
            for one, other in zip(_parts(state), _parts(saved), strict=True):
                one.copy_(other)

    def expert(self, layer: int, slot: int, rows: slice) -> "ExpertCache":
        """The part of one expert: `slot` 0 is the first expert of the layer, `rows` its part of the batch."""
        return self._experts[layer, slot, rows.start, rows.stop]

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
        mamba = min(slot, len(cache.conv[layer]) - 1)  # one for all experts of a layer where they share it
        self.whole = (
            cache.conv[layer][mamba],
            cache.ssm[layer][mamba],
            cache.keys[layer][slot],
            cache.values[layer][slot],
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
        may attend to. The order of past positions is that of the ring. Of a single position under `torch.compile` it returns the whole
        ring, for a mask to choose from: its shape is then the same at every position."""
        context, steps = self.keys.shape[2], key.shape[2]
        if steps == 1 and torch.compiler.is_compiling():
            is_new = (torch.arange(context, device=key.device) == self.position % context).view(-1, 1, 1)
            for ring, new in ((self.keys, key), (self.values, value)):
                ring.copy_(torch.where(is_new, new.detach(), ring))
            return self.keys, self.values
        past = min(self.position, context)
        kept = min(steps, context)  # of the new ones, only the last `context` can ever be attended to again
        first = (self.position + steps - kept) % context
        until_end = min(kept, context - first)
        joined = []
        for ring, new in ((self.keys, key), (self.values, value)):
            last = new[:, :, steps - kept :].detach()
            if steps == 1:
                ring[:, :, first] = last[:, :, 0]
                seen = ring[:, :, : min(self.position + 1, context)]
                if new.requires_grad:  # the ring has no gradient
                    seen = torch.cat((seen[:, :, :first], new, seen[:, :, first + 1 :]), dim=2)
                joined.append(seen)
            else:
                joined.append(torch.cat((ring[:, :, :past], new), dim=2) if past > 0 else new)
                ring[:, :, first : first + until_end] = last[:, :, :until_end]
                ring[:, :, : kept - until_end] = last[:, :, until_end:]
        return joined[0], joined[1]
