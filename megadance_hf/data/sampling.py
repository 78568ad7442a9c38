"""The order of segments in an epoch, and batches of them."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from .segments import Segments


class EpochSampler(Sampler[int]):
    """Every index once, in an order derived from (seed, epoch); `set_epoch` also sets the epoch of the segments.

    With `genre_run` N, segments come in runs of N of one genre, so that a batch has at most `batch_size / N` genres and each expert gets
    larger groups (see `benchmarks/mixed_batches.py`). The rest of each genre, less than a run, comes last in the epoch. 1 mixes freely;
    more than 1 needs segments with `genre_ids`.
    """

    def __init__(self, segments: Segments, seed: int = 0, genre_run: int = 1):
        if genre_run < 1 or (genre_run > 1 and segments.genre_ids is None):
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
        # the extra number keeps this stream apart from that of item `index`
        generator = np.random.default_rng((self.seed, self.epoch, 0, 1))
        order = generator.permutation(len(self.segments))
        if self.genre_run > 1 and (genres := self.segments.genre_ids) is not None:
            order = _in_runs(order, genres[order], self.genre_run, generator)
        return iter(order.tolist())


def _in_runs(order: np.ndarray, genres: np.ndarray, run: int, generator: np.random.Generator) -> np.ndarray:
    """`order` rearranged into shuffled runs of one genre, with what is left of each genre at the end."""
    runs, left = [], []
    for genre in np.unique(genres):
        own = order[genres == genre]
        whole = len(own) // run * run
        runs.extend(own[:whole].reshape(-1, run))
        left.append(own[whole:])
    return np.concatenate([*(runs[index] for index in generator.permutation(len(runs))), *left])


def collate(items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Stacks items of equal shapes into a batch."""
    return {key: torch.stack([item[key] for item in items]) for key in items[0]}
