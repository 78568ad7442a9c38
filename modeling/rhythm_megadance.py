"""The rhythm encoder: beat phase and bar phase of the music, predicted from its features.

Not in the paper: a deviation for models trained on little data. Beat flags tell when beats are, not which of them begins a
bar, and a model trained on half an hour of dance memorises the dances before it learns to count. Beat and bar phase can be
learned separately from the same half hour, and a generator that is given the phase keeps time. See `rhythm_size` in
`configuration_megadance.py`; 0 is the paper's arrangement.

Dance songs keep their tempo. `rhythm_tempo="steady"` makes use of it: what the encoder reads is fitted to a tempo that hardly changes.
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


def find_downbeats(rhythm: torch.Tensor) -> list[int]:
    """The frames nearest to where bars begin, of the rhythm of a song, [frames, 4]."""
    phase = torch.atan2(rhythm[:, 3], rhythm[:, 2]).float() / (2 * math.pi) % 1
    passes = ((phase[:-1] > 0.75) & (phase[1:] < 0.25)).nonzero()[:, 0]
    return (passes + (phase[passes + 1] < 1 - phase[passes])).tolist()


# Tempos to look for, beats per frame at 30 frames/s: 42 to 210 beats per minute, nearer to each other than a memory can resolve.
_TEMPOS = torch.logspace(math.log10(0.7 / 30), math.log10(3.5 / 30), 448, dtype=torch.float64)
_BEATS_PER_BAR = (3, 4)
_BLOCK = 8  # frames in which tempo and phase are constant
# Frames, standard deviations: over 15 s for the tempo, over 5 s for the phase.
_TEMPO_MEMORY, _PHASE_MEMORY = 450, 150
_FEW_BLOCKS = 256  # up to so many a matrix smooths faster than a Fourier transform


def _smooth(values: torch.Tensor, weights: torch.Tensor, memory: float) -> torch.Tensor:
    """Weighted mean over time, [batch, blocks, n] and [batch, blocks], with Gaussian weights; `memory` in frames."""
    blocks = weights.shape[1]
    distances = torch.arange(2 * blocks, dtype=weights.dtype, device=weights.device)
    distances = torch.minimum(distances, 2 * blocks - distances)  # on a circle that is long enough for nothing to meet
    kernel = (distances * _BLOCK / memory).square().div(-2).exp()
    if blocks <= _FEW_BLOCKS:
        index = torch.arange(blocks, device=weights.device)
        matrix = kernel[(index[:, None] - index).abs()] * weights[:, None]
        return matrix / matrix.sum(-1, keepdim=True).clamp(min=1e-9) @ values
    transform = torch.fft.rfft(kernel)
    sums, total = (
        torch.fft.irfft(torch.fft.rfft(rows.mT, 2 * blocks) * transform, 2 * blocks)[..., :blocks].mT.contiguous()
        for rows in (values * weights[..., None], weights[..., None])
    )
    return sums / total.clamp(min=1e-9)


def _standing(vectors: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Vectors [batch, blocks, frames] seen from rates at which they may turn (per frame, (n,)): means of blocks [batch, blocks, n].

    Those that turn at a rate stand still when seen from it.
    """
    blocks, frames = vectors.shape[1:]

    def back(first: int, last: int, step: int) -> torch.Tensor:
        angles = -2 * math.pi * torch.arange(first, last, step, dtype=turns.dtype, device=turns.device)[:, None] * turns
        return torch.polar(torch.ones_like(angles), angles)

    # every block's is the product of that of a group of sixteen blocks and that within the group: far fewer sines
    group = 16 * frames
    turned = (back(0, blocks * frames, group)[:, None] * back(0, group, frames)).flatten(0, 1)[:blocks]
    return vectors @ back(0, frames, 1) / frames * turned


def _length(vectors: torch.Tensor) -> torch.Tensor:
    """`vectors.abs()`, in half the time: nothing is so large that its square would be too large."""
    return torch.addcmul(vectors.real.square(), vectors.imag, vectors.imag).sqrt()


def steady_rhythm(rhythm: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Beat and bar of songs whose tempo hardly changes: [batch, frames, 4] of the encoder -> the same, with each frame's surroundings heard.

    Where the encoder is unsure for some seconds, or takes the half beat for the beat, the rest of the song tells. The tempo of a moment
    is the one at which beat and bar together turn most evenly in the half minute around it; their phases are those that agree best with
    it in ten seconds. Vectors are shorter where there is little agreement. `mask` [batch, frames] is 1 for music and 0 for padding.
    """
    frames = rhythm.shape[1]
    music = rhythm.new_ones(rhythm.shape[:2]) if mask is None else mask.to(rhythm)
    padded = F.pad(torch.cat((rhythm * music[..., None], music[..., None]), -1).double(), (0, 0, 0, -frames % _BLOCK))
    padded = padded.unflatten(1, (-1, _BLOCK))
    weights = padded[..., 4].mean(-1)  # [batch, blocks]
    # means over the music of a block, so that half a block of it counts half
    vectors = padded[..., :4] / weights.clamp(min=1 / _BLOCK)[..., None, None]
    beat, bar = torch.view_as_complex(vectors.unflatten(-1, (2, 2)).contiguous()).unbind(-1)
    tempos = _TEMPOS.to(rhythm.device)
    time = torch.arange(beat.shape[1] * _BLOCK, dtype=tempos.dtype, device=rhythm.device).view(beat.shape[1:])

    def phases(vectors: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
        parts = torch.view_as_real(_standing(vectors, turns)).flatten(-2)
        return torch.view_as_complex(_smooth(parts, weights, _PHASE_MEMORY).unflatten(-1, (-1, 2)))

    beats = phases(beat, tempos)
    beat_lengths = _length(beats)
    best, result = torch.full_like(weights[:, 0], -1), None
    for number in _BEATS_PER_BAR:
        bars = phases(bar, tempos / number)
        evenness, index = _smooth(beat_lengths + _length(bars), weights, _TEMPO_MEMORY).max(-1)  # [batch, blocks]
        angles = 2 * math.pi * tempos[index][..., None] * time
        lines = [
            phase.gather(-1, index[..., None]) * torch.polar(torch.ones_like(angles), angles / part)
            for phase, part in ((beats, 1), (bars, number))
        ]
        found, total = torch.stack(lines, dim=-1), (evenness * weights).sum(1)
        result = found if result is None else torch.where((total > best)[:, None, None, None], found, result)
        best = torch.maximum(best, total)
    assert result is not None
    return torch.view_as_real(result).flatten(-2).flatten(1, 2)[:, :frames].to(rhythm) * music[..., None]


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
