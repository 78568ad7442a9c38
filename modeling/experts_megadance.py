"""An expert: three Mambas for what happens inside a stream, attention for what joins the streams, a feed-forward net (section 3.3.3).

Tensors keep the streams apart as [batch, 3, time, hidden]; attention joins them, which is the paper's concatenation along time.
"""

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention_megadance import SlidingWindowAttention
from .batched_experts_megadance import (
    compute_groups,
    compute_side_by_side,
    computes_side_by_side,
    join_absent,
    mix_side_by_side,
)
from .cache_megadance import STREAMS, ExpertCache, MegaDanceCache
from .configuration_megadance import MegaDanceConfig
from .mamba_megadance import Mamba
from .routing_megadance import Routing, genre_key


class FeedForward(nn.Module):
    """Two linear layers with an activation, or nothing, between them."""

    def __init__(self, input_size: int, middle_size: int, output_size: int, activation: str):
        super().__init__()
        self.fc1 = nn.Linear(input_size, middle_size)
        self.act = nn.GELU() if activation == "gelu" else nn.Identity()  # the exact GELU
        self.fc2 = nn.Linear(middle_size, output_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.act(self.fc1(hidden_states)))


class StreamNorms(nn.ModuleDict):
    """A norm of its own for each stream (2026 release)."""

    def __init__(self, config: MegaDanceConfig):
        super().__init__({stream: nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) for stream in STREAMS})

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """[batch, 3, time, hidden] -> same."""
        streams = zip(STREAMS, hidden_states.unbind(1), strict=True)
        return torch.stack([self[stream](x) for stream, x in streams], dim=1)


def stream_mambas(config: MegaDanceConfig) -> nn.ModuleDict:
    """A Mamba for each stream."""
    return nn.ModuleDict({stream: Mamba(config) for stream in STREAMS})


def mix_in_time(
    mambas: nn.ModuleDict,
    norms: StreamNorms,
    hidden_states: torch.Tensor,
    cache: ExpertCache | None,
    compiled: bool = False,
) -> torch.Tensor:
    """Each stream through its own Mamba: [batch, 3, time, hidden] -> same."""
    if cache is None and computes_side_by_side(hidden_states, (mambas, norms), compiled):
        return mix_side_by_side(mambas, norms, hidden_states, compiled)
    mixed = [
        mambas[stream](x, None if cache is None else cache.mamba(index))
        for index, (stream, x) in enumerate(zip(STREAMS, hidden_states.unbind(1), strict=True))
    ]
    # the norm comes after the sum here (released code; the paper does not say)
    return norms(hidden_states + torch.stack(mixed, dim=1))


class Expert(nn.Module):
    """A Mamba-Transformer block; without Mambas where the layer has them (`mamba_placement`)."""

    def __init__(self, config: MegaDanceConfig):
        super().__init__()

        def norm() -> nn.Module:
            per_stream = config.norm_per_stream
            return StreamNorms(config) if per_stream else nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

        self.compiled = False  # whether `torch.compile` makes its kernels in training
        self.use_mamba = config.use_mamba and config.mamba_placement == "experts"
        if self.use_mamba:
            self.mambas = stream_mambas(config)
            self.mamba_norms = StreamNorms(config)
        self.attention_norm = norm()
        self.attention = SlidingWindowAttention(config)
        self.mlp_norm = norm()
        self.mlp = FeedForward(config.hidden_size, config.intermediate_size, config.hidden_size, "gelu")
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        hidden_states: torch.Tensor,
        mask: torch.Tensor | None,
        cache: ExpertCache | None = None,
        keep: int = 0,
        attentions: list[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """[batch, 3, time, hidden] -> same, or only the last `keep` positions when that is not 0.

        The attention weights are added to `attentions` where that is given.
        """
        whole = cache is None and keep == 0 and attentions is None
        if whole and computes_side_by_side(hidden_states, (self,), self.compiled):
            return compute_side_by_side([self], hidden_states.unsqueeze(0), mask, self.compiled).squeeze(0)
        if self.use_mamba:
            hidden_states = mix_in_time(self.mambas, self.mamba_norms, hidden_states, cache)
        attended = self.attention(self.attention_norm(hidden_states), mask, cache, keep, attentions=attentions)
        hidden_states = hidden_states[:, :, -keep:] + self.dropout(attended)
        return hidden_states + self.dropout(self.mlp(self.mlp_norm(hidden_states)))


class MegaDanceLayer(GradientCheckpointingLayer):
    """Universal expert and genre experts (section 3.3.1); whole sequences are routed by their genre.

    With `mamba_placement="layers"` one Mamba for each stream, shared by all genres, comes before both (2026 release).
    """

    def __init__(self, config: MegaDanceConfig, index: int):
        super().__init__()
        self.index = index
        # Sharded training (FSDP) needs a gradient of every weight from every process, also where a genre is absent.
        self.every_expert_joins = False
        self.compiled = False  # see `Expert`
        self.parallel = config.expert_composition == "parallel"
        self.use_mamba = config.use_mamba and config.mamba_placement == "layers"
        if self.use_mamba:
            self.mambas = stream_mambas(config)
            self.mamba_norms = StreamNorms(config)
        self.universal_expert = Expert(config) if config.use_universal_experts else None
        self.genre_experts = None
        if config.use_genre_experts:
            self.genre_experts = nn.ModuleDict({genre_key(genre): Expert(config) for genre in config.built_genres})

    def forward(
        self,
        hidden_states: torch.Tensor,
        routing: Routing,
        mask: torch.Tensor | None = None,
        cache: MegaDanceCache | None = None,
        keep: int = 0,
        attentions: list[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """[batch sorted by genre, 3, time, hidden] -> same, or only the last `keep` positions when that is not 0.

        The layer's attention weights, [batch, experts, heads, queries, keys], are added to `attentions` where that is given.
        """
        universal_state = None if cache is None else cache.expert(self.index, 0, slice(None))
        if self.use_mamba:
            mixers = self.mambas, self.mamba_norms
            hidden_states = mix_in_time(*mixers, hidden_states, universal_state, self.compiled)
        weights: list[torch.Tensor] | None = None if attentions is None else []
        universal, special = hidden_states, None
        if self.universal_expert is not None:
            is_last = self.parallel or self.genre_experts is None
            kept = keep if is_last else 0
            universal = self.universal_expert(hidden_states, mask, universal_state, kept, attentions=weights)
        if self.genre_experts is not None:
            source = hidden_states if self.parallel else universal
            special = self._genre_experts(source, routing, mask, cache, keep, weights)
        if attentions is not None and weights is not None:
            attentions.append(torch.stack(weights, dim=1))
        if special is None:
            return universal
        if self.parallel and self.universal_expert is not None:
            # The paper does not say how the two results join. Their average keeps the scale of one expert.
            return (universal + special) / 2
        return special

    def _genre_experts(
        self,
        hidden_states: torch.Tensor,
        routing: Routing,
        mask: torch.Tensor | None,
        cache: MegaDanceCache | None,
        keep: int,
        attentions: list[torch.Tensor] | None,
    ) -> torch.Tensor:
        """Each genre's expert on its rows."""
        assert self.genre_experts is not None
        slot = int(self.universal_expert is not None)
        outputs: list[torch.Tensor] = []
        weights: list[torch.Tensor] | None = None if attentions is None else []
        if cache is None and keep == 0 and attentions is None and isinstance(routing.groups[0].rows, slice):
            experts = [self.genre_experts[key] for key, _ in routing.groups]
            if computes_side_by_side(hidden_states, experts, self.compiled):
                sizes = [rows.stop - rows.start for _, rows in routing.groups]
                joined = compute_groups(experts, sizes, hidden_states, mask, self.compiled)
                return self._with_absent(joined, routing)
        for key, rows in routing.groups:
            state = None if cache is None else cache.expert(self.index, slot, rows)
            chosen = routing.select(hidden_states, rows)
            outputs.append(self.genre_experts[key](chosen, mask, state, keep, attentions=weights))
        joined = routing.join(outputs)
        if attentions is not None and weights is not None:
            attentions.append(routing.join(weights))
        return self._with_absent(joined, routing)

    def _with_absent(self, joined: torch.Tensor, routing: Routing) -> torch.Tensor:
        """The same numbers; where every expert has to join, the absent ones get gradients of zero."""
        if not (self.every_expert_joins and self.training and self.genre_experts is not None):
            return joined
        used = {key for key, _ in routing.groups}
        return join_absent(joined, [expert for key, expert in self.genre_experts.items() if key not in used])
