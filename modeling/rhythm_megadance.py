"""The rhythm encoder: beat phase and bar phase of the music, predicted from its features.

Not in the paper: a deviation for models trained on little data. Beat flags tell when beats are, not which of them begins a
bar, and a model trained on half an hour of dance memorises the dances before it learns to count. Beat and bar phase can be
learned separately from the same half hour, and a generator that is given the phase keeps time. See `rhythm_size` in
`configuration_megadance.py`; 0 is the paper's arrangement.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init

from .configuration_megadance import RHYTHM_SIZE, MegaDanceConfig


def phase_vectors(beat_phase: torch.Tensor, bar_phase: torch.Tensor) -> torch.Tensor:
    """Phases in [0, 1), each [..., frames] -> [..., frames, 4]: points on two unit circles."""
    angles = 2 * math.pi * torch.stack((beat_phase, bar_phase), dim=-1)
    return torch.stack((angles.cos(), angles.sin()), dim=-1).flatten(-2)


class RhythmEncoder(nn.Module):
    """Dilated convolutions over music features, as far ahead as back: only what follows makes a beat clear.

    The length of each of the two vectors is its certainty: trained with a squared error, it shrinks towards zero where the phase
    is ambiguous. A frame depends on `reach` frames before and after it.
    """

    kernel_size = 5

    def __init__(self, config: MegaDanceConfig):
        super().__init__()
        size = config.rhythm_size
        dilations = [2**layer for layer in range(config.rhythm_layers)]
        self.reach = self.kernel_size // 2 * sum(dilations)
        self.into = nn.Linear(config.music_feature_size, size)
        self.convs = nn.ModuleList(
            nn.Conv1d(size, size, self.kernel_size, padding=self.kernel_size // 2 * dilation, dilation=dilation)
            for dilation in dilations
        )
        self.mixes = nn.ModuleList(nn.Linear(size, size) for _ in dilations)
        self.dropout = nn.Dropout(config.rhythm_dropout)
        self.out = nn.Linear(size, RHYTHM_SIZE)

    @torch.no_grad()
    def init_weights(self) -> None:
        """Initialise the convolutions; the model initialises the other layers."""
        for conv in self.convs.children():
            assert isinstance(conv, nn.Conv1d) and conv.bias is not None
            init.kaiming_uniform_(conv.weight, a=math.sqrt(5))
            init.zeros_(conv.bias)

    def forward(self, features: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Normalised features [batch, frames, features] -> [batch, frames, 4].

        `mask` [batch, frames], 1 for music and 0 for padding: padding has no influence on the music before it.
        """
        music = 1 if mask is None else mask[..., None].to(features.dtype)
        hidden = self.into(features)
        # no normalisation of frames: it would remove their loudness, and a bar begins where it is loudest
        for conv, mix in zip(self.convs, self.mixes, strict=True):
            x = conv((hidden * music).mT).mT
            hidden = hidden + mix(self.dropout(F.gelu(x)))
        return self.out(F.gelu(hidden)) * music
