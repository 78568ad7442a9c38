"""Attention across the streams, with a sliding window (paper, section 3.3.3, Eq. 4)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .cache_megadance import ExpertCache
from .configuration_megadance import MegaDanceConfig


def sliding_window_mask(query_positions: torch.Tensor, key_positions: torch.Tensor, context: int) -> torch.Tensor:
    """Boolean [queries, keys], True where a query at position i may look: i - context + 1 to i (section 3.3.3)."""
    distance = query_positions[:, None] - key_positions[None, :]
    return (distance >= 0) & (distance < context)


def mask_of_new_positions(
    steps: int, past: int, context: int, streams: int, device: torch.device, cached: bool = False
) -> torch.Tensor | None:
    """The mask of positions that follow `past` others: [steps * streams, (cached positions + steps) * streams].

    Cached positions are in the order of the cache's ring; the streams of a position are neighbours, and all see the same. None for a single
    position, from which nothing is hidden, unless it is `cached` under `torch.compile`: then it gets the whole ring.
    """
    if steps == 1:
        if not (cached and torch.compiler.is_compiling()):
            return None
        filled = torch.arange(context, device=device) <= past
        return filled.repeat_interleave(streams).expand(streams, -1)
    queries = torch.arange(past, past + steps, device=device)
    ring = torch.arange(min(past, context), device=device)
    if past > context:  # slot s holds the latest position p < past with p % context == s
        ring = past - 1 - (past - 1 - ring) % context
    block = sliding_window_mask(queries, torch.cat((ring, queries)), context)
    return block.repeat_interleave(streams, 0).repeat_interleave(streams, 1)


def eager_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention as it is written down, with its weights, in the form of transformers' attention functions.

    query, key, value: [batch, heads, positions, head size] -> [batch, queries, heads, head size], [batch, heads, queries, keys].
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = query @ key.mT * scale
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, -torch.inf)
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    dropped = F.dropout(weights, dropout, module.training)
    return (dropped @ value).transpose(1, 2).contiguous(), weights


class SlidingWindowAttention(nn.Module):
    """Attention over all three streams, each of the 3x3 blocks masked by the same sliding window (Eq. 4).

    The mask belongs inside the softmax; Eq. 4 prints it before the division, which is the same for 0 and minus infinity.
    `config._attn_implementation` chooses how it is computed: "sdpa", "eager", or a function that is registered with transformers'
    `AttentionInterface`.
    """

    is_causal = False  # transformers' functions would hide streams from each other where there is no mask

    def __init__(self, config: MegaDanceConfig):
        super().__init__()
        self.config = config
        self.num_heads = config.num_attention_heads
        self.dropout = config.dropout
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self,
        hidden_states: torch.Tensor,
        mask: torch.Tensor | None,
        cache: ExpertCache | None = None,
        keep: int = 0,
        attentions: list[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """[batch, 3, time, hidden] -> same, or the last `keep` positions.

        `mask` as `mask_of_new_positions` makes it, for at least the queries that are kept. The attention weights are added to
        `attentions` where that is given.
        """
        query = self.q_proj(hidden_states[:, :, -keep:])  # -0: all
        return self.attend(query, self.k_proj(hidden_states), self.v_proj(hidden_states), mask, cache, attentions)

    def attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        cache: ExpertCache | None = None,
        attentions: list[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """What follows the projections to queries, keys and values, each [batch, 3, time, hidden]."""

        def heads(x: torch.Tensor) -> torch.Tensor:
            # [batch, heads, time, streams, head size]: with streams innermost the cache is a plain ring of positions
            return x.unflatten(-1, (self.num_heads, -1)).permute(0, 3, 2, 1, 4)

        batch, streams, steps, hidden = query.shape
        query, key, value = heads(query), heads(key), heads(value)
        if cache is not None:
            key, value = cache.extend(key, value)
        # only the written-down way has weights to show
        function = eager_attention if attentions is not None else self._function()
        attended, weights = function(
            self,
            query.flatten(2, 3),
            key.flatten(2, 3),
            value.flatten(2, 3),
            None if mask is None else mask[-steps * streams :],
            dropout=self.dropout if self.training else 0.0,
            scaling=(hidden // self.num_heads) ** -0.5,
        )
        if attentions is not None:
            # streams one after the other, as the paper writes them, instead of neighbours
            weights = weights.unflatten(-1, (-1, streams)).unflatten(-3, (-1, streams))
            attentions.append(weights.permute(0, 1, 3, 2, 5, 4).flatten(-2).flatten(-3, -2))
        return self.o_proj(attended.view(batch, steps, streams, hidden).transpose(1, 2))

    def _function(self) -> Callable:
        return ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
