"""Codes in and out of the generator: embeddings of codes, and scores of the next one.

A code of finite scalar quantization is one number or several digits, one for each level of the quantizer (`quantizers_megadance.py`):

| `code_head` | embedding | scores of the next code |
|---|---|---|
| `joint` (paper, A.1; 2025 release) | a row for each code | one softmax over the codebook |
| `factorised` (2026 release) | the sum of a row for each digit | one softmax for each level |

The digits of a code are independent given the past (`level_decoding="independent"`, as released), or each sees the digits before it
(`"sequential"`), which can express every distribution that the joint softmax can.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from .configuration_megadance import MegaDanceConfig
from .experts_megadance import FeedForward
from .quantizers_megadance import codes_to_digits

IGNORED = -100  # a label without loss, as everywhere in torch


class LevelEmbedding(nn.ModuleList):
    """The sum of a vector for each digit of a code."""

    def __init__(self, levels: Sequence[int], size: int):
        super().__init__(nn.Embedding(level, size) for level in levels)
        self.levels = tuple(levels)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """[...] -> [..., size]"""
        digits = codes_to_digits(codes, self.levels)
        embedded = [table(digits[..., index]) for index, table in enumerate(self)]
        return torch.stack(embedded).sum(0)


def code_embedding(config: MegaDanceConfig) -> nn.Module:
    """Codes [...] -> vectors [..., hidden_size]."""
    if config.code_head == "factorised":
        assert config.levels is not None
        return LevelEmbedding(config.levels, config.hidden_size)
    return nn.Embedding(config.codebook_size, config.hidden_size)


class JointHead(FeedForward):
    """One softmax over the codebook; the base of the other heads."""

    def __init__(self, config: MegaDanceConfig, outputs: int | None = None):
        sizes = (config.hidden_size, config.output_hidden_size, outputs or config.codebook_size)
        super().__init__(*sizes, config.mlp_activation)

    def forward(self, hidden_states: torch.Tensor, next_codes: torch.Tensor | None = None) -> torch.Tensor:
        """Logits, [..., hidden_size] -> [..., codebook_size], or of the levels side by side, [..., sum(levels)].

        `next_codes` [...] are the codes to score, negative where unknown; only the sequential head asks for them.
        """
        return super().forward(hidden_states)

    def over_codes(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Scores of whole codes, [..., hidden_size] -> [..., codebook_size]; their softmax is the distribution of the next code."""
        return self(hidden_states)

    def cross_entropy(self, logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
        """Of each code in nats, [...]; 0 where the label is -100. `logits` is what `forward` gives for these codes.

        `label_smoothing` is the share of the label that is spread over all codes, or over each level's digits.
        """
        flat = F.cross_entropy(
            logits.flatten(0, -2).float(),
            labels.flatten().to(logits.device),
            reduction="none",
            ignore_index=IGNORED,
            label_smoothing=label_smoothing,
        )
        return flat.view(labels.shape)


class FactorisedHead(JointHead):
    """One softmax for each level; digits are independent given the past."""

    def __init__(self, config: MegaDanceConfig):
        assert config.levels is not None
        super().__init__(config, sum(config.levels))
        self.levels = tuple(config.levels)

    def over_codes(self, hidden_states: torch.Tensor) -> torch.Tensor:
        scores = self(hidden_states).float().split(self.levels, dim=-1)  # sums in bfloat16 would tie
        joint = scores[0]
        for level in scores[1:]:  # later digits change more slowly in a code's number
            joint = (level[..., :, None] + joint[..., None, :]).flatten(-2)
        return joint

    def cross_entropy(self, logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
        """The sum over levels; a code that is guessed evenly costs as much as with one softmax."""
        digits = codes_to_digits(labels, self.levels)
        digits = torch.where(labels[..., None] == IGNORED, IGNORED, digits)
        of_levels = zip(logits.split(self.levels, dim=-1), digits.unbind(-1), strict=True)
        losses = [super(FactorisedHead, self).cross_entropy(*level, label_smoothing) for level in of_levels]
        return torch.stack(losses).sum(0)


class SequentialHead(FactorisedHead):
    """One softmax for each level, which sees the digits before it. Neither in the paper nor in a release.

    The vector between the two layers gets a vector for each digit that is known; a GELU lets them interact.
    """

    def __init__(self, config: MegaDanceConfig):
        super().__init__(config)
        tables = (nn.Embedding(level, config.output_hidden_size) for level in self.levels[:-1])
        self.level_embeddings = nn.ModuleList(tables)

    def _scores(self, middle: torch.Tensor, level: int, gelu: Callable = F.gelu) -> torch.Tensor:
        return self.fc2(gelu(middle)).split(self.levels, dim=-1)[level]

    def forward(self, hidden_states: torch.Tensor, next_codes: torch.Tensor | None = None) -> torch.Tensor:
        """Each level's logits given the digits of the next code before it; where that is unknown, given the likeliest digits."""
        middle = self.fc1(hidden_states)
        if next_codes is None:
            next_codes = torch.full(hidden_states.shape[:-1], -1, device=hidden_states.device)
        digits, unknown = codes_to_digits(next_codes, self.levels), next_codes < 0
        logits = [self._scores(middle, 0)]
        for index, table in enumerate(self.level_embeddings):
            digit = torch.where(unknown, logits[-1].argmax(-1), digits[..., index])
            middle = middle + table(digit)
            logits.append(self._scores(middle, index + 1))
        return torch.cat(logits, dim=-1)

    def over_codes(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """By the chain rule: each level for all digits that may come before it, 1093 times for levels 7, 5, 5, 5, 5."""
        middle = self.fc1(hidden_states)[..., None, :]  # [..., codes so far, size]
        joint = hidden_states.new_zeros(*hidden_states.shape[:-1], 1, dtype=torch.float32)
        for index in range(len(self.levels)):
            is_last = index + 1 == len(self.levels)
            # the last level has most of the vectors: in place they need half the memory
            gelu = torch.ops.aten.gelu_ if is_last else F.gelu
            scores = self._scores(middle, index, gelu).float().log_softmax(-1)
            joint = (scores.mT + joint[..., None, :]).flatten(-2)
            if not is_last:
                digits = torch.arange(self.levels[index], device=middle.device)
                table = self.level_embeddings[index](digits)  # called, so that offloaded weights come
                middle = (middle[..., None, :, :] + table[:, None]).flatten(-3, -2)
        return joint


def code_head(config: MegaDanceConfig) -> JointHead:
    """The head that a configuration asks for."""
    if config.code_head == "joint":
        return JointHead(config)
    return SequentialHead(config) if config.level_decoding == "sequential" else FactorisedHead(config)
