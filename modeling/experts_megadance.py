"""An expert: three Mambas for what happens inside a stream, attention for what joins the streams, a feed-forward net (section 3.3.3).

Tensors keep the streams apart as [batch, 3, time, hidden]; attention joins them, which is the paper's concatenation along time.
"""

from collections.abc import Sequence

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention_megadance import SlidingWindowAttention
from .cache_megadance import STREAMS, ExpertCache, MegaDanceCache
from .configuration_megadance import MegaDanceConfig
from .mamba_megadance import Mamba
from .routing_megadance import GenreGroup, genre_key


class FeedForward(nn.Module):
    """Two linear layers with an activation, or nothing, between them."""

    def __init__(self, input_size: int, middle_size: int, output_size: int, activation: str):
        super().__init__()
        self.fc1 = nn.Linear(input_size, middle_size)
        self.act = nn.GELU() if activation == "gelu" else nn.Identity()  # the exact GELU
        self.fc2 = nn.Linear(middle_size, output_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.act(self.fc1(hidden_states)))


class Expert(nn.Module):
    """A Mamba-Transformer block."""

    def __init__(self, config: MegaDanceConfig):
        super().__init__()

        def norm() -> nn.LayerNorm:
            return nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

        self.use_mamba = config.use_mamba
        if self.use_mamba:
            self.mambas = nn.ModuleDict({stream: Mamba(config) for stream in STREAMS})
            self.mamba_norms = nn.ModuleDict({stream: norm() for stream in STREAMS})
        self.attention_norm = norm()
        self.attention = SlidingWindowAttention(config)
        self.mlp_norm = norm()
        self.mlp = FeedForward(config.hidden_size, config.intermediate_size, config.hidden_size, "gelu")
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, hidden_states: torch.Tensor, mask: torch.Tensor | None, cache: ExpertCache | None = None, keep: int = 0
    ) -> torch.Tensor:
        """[batch, 3, time, hidden] -> same, or only the last `keep` positions when that is not 0."""
        if self.use_mamba:
            streams = []
            for index, (stream, x) in enumerate(zip(STREAMS, hidden_states.unbind(1), strict=True)):
                mixed = self.mambas[stream](x, None if cache is None else cache.mamba(index))
                # the norm comes after the sum here (released code; the paper does not say)
                streams.append(self.mamba_norms[stream](x + mixed))
            hidden_states = torch.stack(streams, dim=1)
        attended = self.attention(self.attention_norm(hidden_states), mask, cache, keep)
        hidden_states = hidden_states[:, :, -keep:] + self.dropout(attended)
        return hidden_states + self.dropout(self.mlp(self.mlp_norm(hidden_states)))


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
            is_last = self.parallel or self.genre_experts is None
            universal = self.universal_expert(hidden_states, mask, state, keep if is_last else 0)
        if self.genre_experts is None:
            return universal
        slot = int(self.universal_expert is not None)
        source = hidden_states if self.parallel else universal
        outputs = []
        for key, rows in groups:
            state = None if cache is None else cache.expert(self.index, slot, rows)
            outputs.append(self.genre_experts[key](source[rows], mask, state, keep))
        special = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        if self.every_expert_joins and self.training:
            used = {key for key, _ in groups}
            absent = [expert for key, expert in self.genre_experts.items() if key not in used]
            special = special + 0 * sum(weight.sum() for expert in absent for weight in expert.parameters())
        if self.parallel and self.universal_expert is not None:
            # The paper does not say how the two results join. Their average keeps the scale of one expert.
            return (universal + special) / 2
        return special
