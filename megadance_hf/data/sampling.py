"""In which order segments come in an epoch, and how they become a batch."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from .segments import CodeSegments, MotionSegments, RhythmSegments


class EpochSampler(Sampler[int]):
    """Every index once, in an order derived from (seed, epoch); `set_epoch` also sets the epoch of the segments.

    With `genre_run`, every so many segments in a row are of one genre, so that a batch of `batch_size` segments has at most
    `batch_size / genre_run` genres and the experts get more segments each (see `benchmarks/mixed_batches.py`). What is left
    over of each genre, less than a run, comes last in the epoch. 1 mixes freely; above needs segments with `genre_ids`.
    """

    def __init__(self, segments: MotionSegments | CodeSegments | RhythmSegments, seed: int = 0, genre_run: int = 1):
        if genre_run < 1 or (genre_run > 1 and not hasattr(segments, "genre_ids")):
            raise ValueError(
                f"genre_run={genre_run}: give 1, or more with segments that know their genres (CodeSegments)"
            )
        self.segments, self.seed, self.epoch, self.genre_run = segments, seed, segments.epoch, genre_run

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.segments.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.segments)

    def __iter__(self) -> Iterator[int]:
        # a third number keeps the order apart from the random numbers of item `index`
        generator = np.random.default_rng((self.seed, self.epoch, 0, 1))
        order = generator.permutation(len(self.segments))
        if self.genre_run > 1:
            order = _in_runs(order, self.segments.genre_ids[order], self.genre_run, generator)
        return iter(order.tolist())


def _in_runs(order: np.ndarray, genres: np.ndarray, run: int, generator: np.random.Generator) -> np.ndarray:
    runs, left = [], []
    for genre in np.unique(genres):
        own = order[genres == genre]
        whole = len(own) // run * run
        runs.extend(own[:whole].reshape(-1, run))
        left.append(own[whole:])
    return np.concatenate([*(runs[index] for index in generator.permutation(len(runs))), *left])


def collate(items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Items of equal shapes -> a batch."""
    return {key: torch.stack([item[key] for item in items]) for key in items[0]}
