"""An expert and what it is made of: three Mambas, attention with a sliding window, a feed-forward net, and their cache.

Tensors keep the streams apart as [batch, 3, time, hidden]; attention joins them to [batch, 3 * time, hidden], which is the
paper's concatenation along time (section 3.3).
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_megadance import MegaDanceConfig
from .kernels_megadance import ExpertStep, expert_step, run_expert, run_steps, usable
from .linear_megadance import SMALLEST_PACKED, Linear
from .mamba_megadance import Mamba, mamba_weights, run_mambas

STREAMS = ("upper", "lower", "music")
NUM_STREAMS = len(STREAMS)


# --------------------------------------------------------------------------------------------------------------------
# Cache
# --------------------------------------------------------------------------------------------------------------------


class ExpertCache(NamedTuple):
    """What one expert remembers: views into a [`MegaDanceCache`], of which it writes its rows in place."""

    rows: slice  # its part of the batch
    conv: torch.Tensor  # [3, batch, conv_kernel - 1, inner]  last inputs of the convolutions, float32
    ssm: torch.Tensor  # [3, batch, state, inner]  float32
    keys: torch.Tensor  # [batch, heads, context, 3, head size]  a ring: position p lies in slot p % context
    values: torch.Tensor
    position: int  # positions seen before this call
    arranged: dict  # weights in the order in which steps need them; empty before the first call


class MegaDanceCache:
    """The state of generation, allocated once and written in place: its size does not depend on the length.

    An item uses one genre, so a layer has at most two experts' worth of state an item, however many genres there are.
    Rows are kept in the order in which the batch is sorted by genre.

    Args:
        config: sizes are read from it.
        genre_ids: [batch], fixed for the life of the cache. So are the weights: after a change of them make a new one.
        dtype: type of keys and values (the model's); the states of the Mambas are float32.
    """

    def __init__(self, config: MegaDanceConfig, genre_ids: torch.Tensor, dtype: torch.dtype):
        device, batch = genre_ids.device, genre_ids.shape[0]
        self.genre_ids = genre_ids.clone()
        self.position = 0
        experts = (config.num_hidden_layers, int(config.use_universal_experts) + int(config.use_genre_experts))
        mamba = (*experts, NUM_STREAMS, batch)
        heads = config.num_attention_heads
        ring = (*experts, batch, heads, config.context_codes, NUM_STREAMS, config.hidden_size // heads)
        self.conv = torch.zeros(*mamba, config.conv_kernel - 1, config.inner_size, device=device)
        self.ssm = torch.zeros(*mamba, config.state_size, config.inner_size, device=device)
        self.keys = torch.zeros(ring, device=device, dtype=dtype)
        self.values = torch.zeros(ring, device=device, dtype=dtype)
        self._arranged = defaultdict(dict)
        self._experts = {}
        self.groups = None  # how the batch is sorted by genre
        self.steps = None  # what `step_through` prepares
        self.head = {}  # the output layers' weights, as `feed_forward_step` arranges them

    def get_seq_length(self) -> int:
        """Positions seen so far (of each stream)."""
        return self.position

    def reset(self, genre_ids: torch.Tensor | None = None) -> None:
        """Forget everything; `genre_ids` of the same batch size may change."""
        self.position = 0
        self.conv.zero_()
        self.ssm.zero_()
        if genre_ids is not None:
            self.genre_ids = genre_ids.clone()
            self.groups = self.steps = None

    def expert(self, layer: int, slot: int, rows: slice, key: str = "") -> ExpertCache:
        """Views of one expert's state; slot 0 is the first expert of the layer, `key` the genre's."""
        place = (layer, slot, rows.start, rows.stop, key)
        if place not in self._experts:  # every step asks for all of them
            self._experts[place] = ExpertCache(
                slice(*rows.indices(len(self.genre_ids))),
                *(state[layer, slot] for state in (self.conv, self.ssm, self.keys, self.values)),
                self.position,
                self._arranged[layer, key],
            )
        return self._experts[place]._replace(position=self.position)


# --------------------------------------------------------------------------------------------------------------------
# Parts of an expert
# --------------------------------------------------------------------------------------------------------------------


class Dropout(nn.Dropout):
    """Dropout that draws a byte instead of eight of them for each number where the drawing is slow: on a CPU.

    The probability is rounded to 1/256 there.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0 or x.device.type != "cpu":
            return super().forward(x)
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        dropped = round(self.p * 256)
        kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= dropped
        return x * kept * (256 / (256 - dropped))


def _calls_take_the_time(linear: nn.Module) -> bool:
    """Whether a product with this layer's weight takes less time than calling it, so that one call for several pays."""
    return isinstance(linear, nn.Linear) and linear.weight.numel() < SMALLEST_PACKED and not torch.is_grad_enabled()


def sliding_window_mask(query_positions: torch.Tensor, key_positions: torch.Tensor, context: int) -> torch.Tensor:
    """Boolean [queries, keys], True where a query at position i may look: i - context + 1 to i (section 3.3.3)."""
    distance = query_positions[:, None] - key_positions[None, :]
    return (distance >= 0) & (distance < context)


class SlidingWindowAttention(nn.Module):
    """Attention over all three streams, each of the 3x3 blocks masked by the same sliding window (Eq. 4).

    The mask belongs inside the softmax; Eq. 4 prints it before the division, which is the same for 0 and minus infinity.
    """

    def __init__(self, config: MegaDanceConfig):
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.context = config.context_codes
        self.dropout = Dropout(config.dropout)
        self.q_proj = Linear(config.hidden_size, config.hidden_size)
        self.k_proj = Linear(config.hidden_size, config.hidden_size)
        self.v_proj = Linear(config.hidden_size, config.hidden_size)
        self.o_proj = Linear(config.hidden_size, config.hidden_size)

    def _attend(self, query, key, value, mask):
        """[batch, heads, length, head size] each; mask [queries, keys] or None."""
        if query.device.type == "cpu" and query.requires_grad:
            # torch's fused kernel has a slow masked backward on CPUs
            scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
            if mask is not None:  # added, not filled in: an addition costs nothing on the way back
                scores = scores.add_(torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, -torch.inf))
            return self.dropout(scores.softmax(-1)) @ value
        dropout = self.dropout.p if self.training else 0.0
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)

    def forward(
        self, hidden_states: torch.Tensor, mask: torch.Tensor | None, cache: ExpertCache | None = None, keep: int = 0
    ) -> torch.Tensor:
        """[batch, 3, time, hidden] -> same, or the last `keep` positions. `mask` [time * 3, (past + time) * 3], streams
        innermost."""
        batch, streams, steps, hidden = hidden_states.shape

        def heads(x: torch.Tensor) -> torch.Tensor:
            # [batch, heads, time, streams, head size]: the order of keys is free, this one makes the cache a plain ring
            return x.unflatten(-1, (self.num_heads, -1)).permute(0, 3, 2, 1, 4)

        if cache is not None and _calls_take_the_time(self.q_proj):
            if "qkv" not in cache.arranged:
                layers = (self.q_proj, self.k_proj, self.v_proj)
                cache.arranged["qkv"] = [
                    torch.cat([getattr(layer, name) for layer in layers]) for name in ("weight", "bias")
                ]
            query, key, value = (heads(x) for x in F.linear(hidden_states, *cache.arranged["qkv"]).chunk(3, dim=-1))
            query = query[:, :, -keep:]  # -0: all
        else:
            query = heads(self.q_proj(hidden_states[:, :, -keep:]))
            key, value = heads(self.k_proj(hidden_states)), heads(self.v_proj(hidden_states))
        if mask is not None and keep:
            mask = mask[-keep * streams :]
        if cache is not None:
            keys, values = cache.keys[cache.rows], cache.values[cache.rows]
            past = min(cache.position, self.context)
            # only the last `context` positions can ever be looked at again
            kept = min(steps, self.context)
            first = (cache.position + steps - kept) % self.context
            until_end = min(kept, self.context - first)
            new_key, new_value = key[:, :, steps - kept :].detach(), value[:, :, steps - kept :].detach()
            if steps == 1:
                keys[:, :, first], values[:, :, first] = new_key[:, :, 0], new_value[:, :, 0]
                seen = min(cache.position + 1, self.context)
                key, value = keys[:, :, :seen], values[:, :, :seen]
            else:
                if past > 0:
                    key = torch.cat((keys[:, :, :past], key), dim=2)
                    value = torch.cat((values[:, :, :past], value), dim=2)
                for ring, new in ((keys, new_key), (values, new_value)):
                    ring[:, :, first : first + until_end] = new[:, :, :until_end]
                    ring[:, :, : kept - until_end] = new[:, :, until_end:]
        result = self._attend(query.flatten(2, 3), key.flatten(2, 3), value.flatten(2, 3), mask)
        result = result.view(batch, self.num_heads, -1, streams, hidden // self.num_heads).permute(0, 3, 2, 1, 4)
        return self.o_proj(result.reshape(batch, streams, -1, hidden))


class FeedForward(nn.Module):
    """Two linear layers with an activation, or nothing, between them."""

    def __init__(self, input_size: int, middle_size: int, output_size: int, activation: str):
        super().__init__()
        self.fc1 = Linear(input_size, middle_size)
        self.act = nn.GELU() if activation == "gelu" else nn.Identity()  # the exact GELU
        self.fc2 = Linear(middle_size, output_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.act(self.fc1(hidden_states)))


class Expert(nn.Module):
    """Mamba-Transformer block: three Mambas for what happens inside a stream, attention for what joins them."""

    def __init__(self, config: MegaDanceConfig):
        super().__init__()
        norm = {"normalized_shape": config.hidden_size, "eps": config.layer_norm_eps}
        self.use_mamba = config.use_mamba
        if self.use_mamba:
            self.mambas = nn.ModuleDict({stream: Mamba(config) for stream in STREAMS})
            self.mamba_norms = nn.ModuleDict({stream: nn.LayerNorm(**norm) for stream in STREAMS})
        self.attention_norm = nn.LayerNorm(**norm)
        self.attention = SlidingWindowAttention(config)
        self.mlp_norm = nn.LayerNorm(**norm)
        self.mlp = FeedForward(config.hidden_size, config.intermediate_size, config.hidden_size, "gelu")
        self.dropout = Dropout(config.dropout)

    def forward(
        self, hidden_states: torch.Tensor, mask: torch.Tensor | None, cache: ExpertCache | None = None, keep: int = 0
    ) -> torch.Tensor:
        """[batch, 3, time, hidden] -> same, or only the last `keep` positions when that is not 0."""
        if cache is not None and usable(hidden_states):
            computed = run_expert(self, hidden_states, cache, keep)
            if computed is not None:
                return computed
        if self.use_mamba:
            hidden_states = self._mix_time(hidden_states, cache)
        attended = self.attention(self.attention_norm(hidden_states), mask, cache, keep)
        hidden_states = hidden_states[:, :, -keep:] + self.dropout(attended)
        return hidden_states + self.dropout(self.mlp(self.mlp_norm(hidden_states)))

    def _mix_time(self, hidden_states: torch.Tensor, cache: ExpertCache | None) -> torch.Tensor:
        """The three Mambas."""
        states, arranged = (None, None), {}
        if cache is not None:
            states, arranged = (cache.conv[:, cache.rows], cache.ssm[:, cache.rows]), cache.arranged
        mambas, norms = ([modules[stream] for stream in STREAMS] for modules in (self.mambas, self.mamba_norms))
        if "mambas" not in arranged:
            arranged["mambas"] = mamba_weights(mambas, projections=_calls_take_the_time(mambas[0].in_proj))
            arranged["norms"] = [
                torch.stack([getattr(norm, name) for norm in norms])[:, None, None] for name in ("weight", "bias")
            ]
        x = hidden_states.transpose(0, 1)  # streams first
        # the norm comes after the sum here (released code; the paper does not say)
        mixed = x + run_mambas(mambas, x, *states, arranged["mambas"])
        weight, bias = arranged["norms"]
        return torch.addcmul(bias, F.layer_norm(mixed, mixed.shape[-1:], eps=norms[0].eps), weight).transpose(0, 1)


def genre_key(genre: str) -> str:
    """Name of a genre's modules: prefixed, because `nn.ModuleDict` refuses names such as "pop", and without dots."""
    return "genre_" + re.sub(r"\W", "_", genre)


class GenreGroup(NamedTuple):
    """Neighbouring rows of the sorted batch that share a genre."""

    key: str
    rows: slice


class MegaDanceLayer(GradientCheckpointingLayer):
    """Universal expert and genre experts (section 3.3.1); whole sequences are routed by their genre."""

    def __init__(self, config: MegaDanceConfig, index: int):
        super().__init__()
        self.index = index
        # Sharded training (FSDP) needs a gradient of every weight from every process, also where a genre is absent.
        self.every_expert_joins = False
        self.parallel = config.expert_composition == "parallel"
        self.universal_expert = Expert(config) if config.use_universal_experts else None
        self.genre_experts = None
        if config.use_genre_experts:
            self.genre_experts = nn.ModuleDict({genre_key(genre): Expert(config) for genre in config.built_genres})

    def forward(
        self,
        hidden_states: torch.Tensor,
        groups: Sequence[GenreGroup],
        mask: torch.Tensor | None = None,
        cache: MegaDanceCache | None = None,
        keep: int = 0,
    ) -> torch.Tensor:
        """[batch sorted by genre, 3, time, hidden] -> same, or only the last `keep` positions when that is not 0."""
        universal = hidden_states
        if self.universal_expert is not None:
            state = None if cache is None else cache.expert(self.index, 0, slice(None))
            last = self.parallel or self.genre_experts is None
            universal = self.universal_expert(hidden_states, mask, state, keep if last else 0)
        if self.genre_experts is None:
            return universal
        slot = int(self.universal_expert is not None)
        source = hidden_states if self.parallel else universal
        parts = []
        for key, rows in groups:
            state = None if cache is None else cache.expert(self.index, slot, rows, key)
            parts.append(self.genre_experts[key](source[rows], mask, state, keep))
        special = parts[0] if len(parts) == 1 else torch.cat(parts)
        if self.every_expert_joins and self.training:
            used = {key for key, _ in groups}
            absent = [expert for key, expert in self.genre_experts.items() if key not in used]
            special = special + 0 * sum(weight.sum() for expert in absent for weight in expert.parameters())
        if self.parallel and self.universal_expert is not None:
            # The paper does not say how the two results join. Their average keeps the scale of one expert.
            return (universal + special) / 2
        return special


def step_through(
    layers: Sequence[MegaDanceLayer],
    hidden_states: torch.Tensor,
    groups: Sequence[GenreGroup],
    cache: MegaDanceCache,
    keep: int = 0,
) -> torch.Tensor | None:
    """New positions through all layers in compiled code: [batch sorted by genre, 3, time, hidden] -> same, or only the last `keep`
    positions when that is not 0.

    None where that is not the faster way, or experts do not simply follow each other.
    """
    if not usable(hidden_states):
        return None
    if cache.steps is None:
        cache.steps = [] if any(layer.parallel for layer in layers) else _expert_steps(layers, groups, cache)
    if not cache.steps:
        return None
    return run_steps(cache.steps, hidden_states, cache.position, keep)


def _expert_steps(
    layers: Sequence[MegaDanceLayer], groups: Sequence[GenreGroup], cache: MegaDanceCache
) -> list[list[ExpertStep]]:
    """The experts one after the other, those of the genres side by side; none at all if one can't be compiled."""
    places = []
    for layer in layers:
        if layer.universal_expert is not None:
            places.append([(layer.universal_expert, cache.expert(layer.index, 0, slice(None)))])
        if layer.genre_experts is not None:
            slot = int(layer.universal_expert is not None)
            places.append(
                [(layer.genre_experts[key], cache.expert(layer.index, slot, rows, key)) for key, rows in groups]
            )
    steps = [[expert_step(expert, state) for expert, state in place] for place in places]
    return [] if any(None in place for place in steps) else steps


__all__ = ["Expert", "ExpertCache", "FeedForward", "GenreGroup", "MegaDanceCache", "MegaDanceLayer", "step_through"]
