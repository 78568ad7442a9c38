"""Hearing: which of the model's genres a song is for, and how sure that is. Not in the paper.

A dance to a song has a tempo, a number of beats a bar, and accents that return with beat and bar. So a song is described by some forty
numbers (`STATISTICS`), most of them about its rhythm as the model's rhythm encoder hears it: they tell a cha-cha from a tango, but not
one recording from another. A linear softmax over the genres, and one class more for whatever is none of them, makes probabilities;
what falls to that class is shared by all genres, so that a song that is none of them is equally likely for each.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import initialization as init

from .configuration_megadance import MegaDanceConfig
from .music_features_megadance import MFCC, ONSET_ENVELOPE, mel_bands
from .rhythm_megadance import steady_rhythm

AUTO = "auto"  # in place of a genre: the one that is heard
SURE = 0.6  # a genre that is less likely is said to be a guess

# Tempos (beats per minute) near which a song is, and how near: standard deviation in octaves.
_TEMPOS, _NEAR = (60, 70, 82, 96, 112, 128, 150, 176), 0.12
_BANDS = ("low", "mid", "high", "all")  # whose onsets are folded on beat and bar; all: the onset envelope
_MELS = (0, 14, 56, 128)  # of the first three, up to about 460, 2400 and 7680 Hz
_LAGS = (2, 3, 4)  # beats after which timbre and accents return
STATISTICS = (
    *(f"tempo near {tempo}" for tempo in _TEMPOS),
    *("beat certainty", "bar certainty", "3 beats a bar", "4 beats a bar"),
    *(f"{what} return after {lag} beats" for what in ("accents", "timbres") for lag in _LAGS),
    *(f"{band} onsets {part} beat" for band in _BANDS for part in ("on", "behind", "on half", "behind half")),
    *(f"{band} onsets in {part}" for band in _BANDS for part in ("bar", "half bar")),
)
LEAST_FRAMES = 60  # nothing is heard in shorter music


def song_statistics(features: torch.Tensor, rhythm: torch.Tensor) -> torch.Tensor:
    """What is heard of a song: raw features [frames, 35] and its rhythm as `read_rhythm` gives it, [frames, 4] -> float64 [statistics].

    Needs `LEAST_FRAMES` frames.
    """
    features, rhythm = features.double().cpu(), rhythm.double().cpu()
    steady = _complex(steady_rhythm(rhythm[None])[0])
    (beat, bar), certainty = _unit(steady).unbind(-1), steady.abs().mean(0)
    turn = (beat[1:] * beat[:-1].conj()).angle()
    tempo = (turn.median() / (2 * math.pi) * 60 * 30).clamp(min=20).log2()
    near = [torch.exp(-0.5 * ((tempo - math.log2(other)) / _NEAR) ** 2) for other in _TEMPOS]
    # as the encoder reads them, whatever the number of beats a bar that was fitted
    read_beat, read_bar = _complex(rhythm).unbind(-1)
    metres = [(_unit(read_bar).pow(number) * read_beat.conj()).mean().abs() for number in (3, 4)]

    onsets = _onsets(features)
    beats = torch.cat((turn.new_zeros(1), turn.cumsum(0))) / (2 * math.pi) + float(beat[0].angle()) / (2 * math.pi)
    quarters = _mean_in(onsets, (4 * beats + 0.5).floor())
    accents = quarters[: len(quarters) // 4 * 4].unflatten(0, (-1, 4)).flatten(1)
    timbres = _mean_in(features[:, MFCC][:, 1:13], (beats + 0.5).floor())
    returns = [value for rows in (accents, timbres) for value in _returns(rows)]

    folded = []
    for band in range(len(_BANDS)):
        for harmonic in (1, 2):
            strength = (onsets[:, band] * beat.conj().pow(harmonic)).mean()
            folded += [strength.real, strength.imag]
    bars = [
        (onsets[:, band] * bar.conj().pow(harmonic)).mean().abs() for band in range(len(_BANDS)) for harmonic in (1, 2)
    ]
    return torch.stack([*near, *certainty, *metres, *returns, *folded, *bars])


def _complex(vectors: torch.Tensor) -> torch.Tensor:
    return torch.view_as_complex(vectors.unflatten(-1, (2, 2)).contiguous())


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return vectors / vectors.abs().clamp(min=1e-6)


def _onsets(features: torch.Tensor) -> torch.Tensor:
    """By how much low, middle, high bands and all of them grow, [frames, 4], each with the mean 1."""
    decibels = features[:, MFCC] @ torch.from_numpy(mel_bands(_MELS)).double()
    growth = decibels.diff(dim=0, prepend=decibels[:1]).clamp(min=0)
    onsets = torch.cat((growth, features[:, [ONSET_ENVELOPE]]), dim=1)
    return onsets / onsets.mean(0).clamp(min=1e-6)


def _mean_in(rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Means of the rows [frames, n] that have the same place (frames,), whole numbers, by place."""
    places = (places - places.min()).long()
    sums = rows.new_zeros(int(places.max()) + 1, rows.shape[1]).index_add_(0, places, rows)
    return sums / torch.bincount(places, minlength=len(sums)).clamp(min=1)[:, None]


def _returns(rows: torch.Tensor) -> list[torch.Tensor]:
    """How much more alike beats [beats, n] are that are 2, 3 or 4 beats (or twice as many) apart, than others."""
    rows = rows - rows.mean(0)
    rows = rows / rows.std(0, correction=0).clamp(min=1e-6)
    rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-6)
    alike = [
        (rows[lag:] * rows[:-lag]).sum(1).mean() if len(rows) > lag + 2 else rows.new_zeros(()) for lag in range(1, 9)
    ]

    def more(lags: Sequence[int], others: Sequence[int]) -> torch.Tensor:
        first, second = (torch.stack([alike[lag - 1] for lag in some]).mean() for some in (lags, others))
        return first - second

    return [more((2,), (1, 3)), more((3, 6), (2, 4, 5, 7, 8)), more((4, 8), (2, 3, 5, 6, 7))]


class GenreHearing(nn.Module):
    """Probabilities of the genres by a song's statistics. Fitted by `megadance_hf.training.hearing`, which has no gradients: buffers."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, config: MegaDanceConfig) -> None:
        super().__init__()
        # one class more than genres: none of them
        self.register_buffer("weight", torch.zeros(len(config.genres) + 1, len(STATISTICS)))
        self.register_buffer("bias", torch.zeros(len(config.genres) + 1))

    @torch.no_grad()
    def init_weights(self) -> None:
        """Every genre is equally likely, whatever the song."""
        init.zeros_(self.weight)
        init.zeros_(self.bias)

    def add_genre(self) -> None:
        """Room for one more genre, which is never heard until it is fitted."""
        self.weight = torch.cat((self.weight[:-1], torch.zeros_like(self.weight[:1]), self.weight[-1:]))
        self.bias = torch.cat((self.bias[:-1], torch.full_like(self.bias[:1], -100.0), self.bias[-1:]))

    def forward(self, features: torch.Tensor, rhythm: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Raw features [batch, frames, 35] and rhythm as read, [batch, frames, 4] -> float32 [batch, genres], each row with the sum 1.

        `mask` [batch, frames] is 1 for music and 0 for the padding after it.
        """
        lengths = [features.shape[1]] * len(features) if mask is None else mask.sum(1).int().tolist()
        rows = [self._hear(*one) for one in zip(features, rhythm, lengths, strict=True)]
        return torch.stack(rows).float().to(features.device)

    def _hear(self, features: torch.Tensor, rhythm: torch.Tensor, frames: int) -> torch.Tensor:
        genres = len(self.bias) - 1
        if frames < LEAST_FRAMES:
            return torch.full((genres,), 1 / genres, dtype=torch.float64)
        statistics = song_statistics(features[:frames], rhythm[:frames])
        scores = self.weight.double().cpu() @ statistics + self.bias.double().cpu()
        return share_none(scores.softmax(-1))


def share_none(probabilities: torch.Tensor) -> torch.Tensor:
    """Probabilities of the genres and of none of them, [..., genres + 1] -> of the genres, [..., genres]: what is none of them is equally
    likely for each."""
    genres, none = probabilities[..., :-1], probabilities[..., -1:]
    return genres + none / genres.shape[-1]


def is_auto(genre: Any, genres: Sequence[str]) -> bool:
    """Whether the genre is to be heard: "auto", unless a genre has this name."""
    return isinstance(genre, str) and genre.strip().casefold() == AUTO and AUTO not in map(str.casefold, genres)


def replace_auto(plan: Sequence[tuple[Any, float]], genre: str) -> list[tuple[Any, float]]:
    """A plan with the genre that was heard in place of "auto"."""
    return [(genre if danced == AUTO else danced, second) for danced, second in plan]


def describe_hearing(heard: Mapping[str, float], option: str = "genre=") -> str:
    """Probabilities of genres, the likeliest first, in one line; `option` is what can be given instead."""
    (best, share), *others = heard.items()
    if share >= SURE or not others:
        return f"heard: {best} ({100 * share:.0f} %)"
    second, less = others[0]
    return f"not sure: {best} {100 * share:.0f} %, {second} {100 * less:.0f} %; give {option} if that is wrong"
