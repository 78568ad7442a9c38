"""The order of an epoch: reproducible, resumable, in runs of a genre."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from toy_clips import dance, same

from megadance_hf.data.sampling import EpochSampler, collate
from megadance_hf.data.segments import MotionSegments


def epoch_of(segments, epoch, **values):
    sampler = EpochSampler(segments, seed=1)
    sampler.set_epoch(epoch)
    return list(DataLoader(segments, batch_size=4, sampler=sampler, collate_fn=collate, **values))


def test_an_epoch_is_the_same_however_it_is_loaded():
    clips = [dance("a", 100, 1), dance("b", 130, 2)]
    segments = MotionSegments(clips, 32, seed=5)
    first = epoch_of(segments, 2)
    assert len(first) == -(-len(segments) // 4)
    segments.set_epoch(7)  # something else happens in between
    for again in (epoch_of(MotionSegments(clips, 32, seed=5), 2), epoch_of(segments, 2, num_workers=2)):
        assert all(same(left, right) for left, right in zip(first, again, strict=True))
    order = [list(EpochSampler(segments, seed)) for seed in (1, 2)]
    assert sorted(order[0]) == list(range(len(segments))) and order[0] != order[1]
    assert not same(first[0], epoch_of(segments, 3)[0])


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(2, 8), st.integers(0, 3))
def test_runs_of_a_genre_visit_every_segment_once(counts, run, epoch):
    class Counted(list):
        epoch, set_epoch = 0, lambda self, epoch: None

    segments = Counted(range(sum(counts)))
    segments.genre_ids = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    sampler = EpochSampler(segments, 1, genre_run=run)
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert sorted(order) == list(segments) and order == list(sampler)
    whole = sum(count // run for count in counts)
    for first in range(0, whole * run, run):
        assert len(set(segments.genre_ids[order[first : first + run]])) == 1
    if whole > 6:  # another epoch has another order, of runs and inside them
        sampler.set_epoch(epoch + 1)
        assert list(sampler) != order


def test_runs_need_genres():
    with pytest.raises(ValueError, match="genre_run=4: give 1, or more with segments that know their genres"):
        EpochSampler(MotionSegments([dance("a", 60, seed=1)], 32), genre_run=4)


def test_accelerate_passes_the_epoch_on_and_skips_batches():
    from accelerate import Accelerator, skip_first_batches

    clips = [dance("a", 200, 1)]
    segments = MotionSegments(clips, 32, seed=5)
    expected = epoch_of(segments, 3)
    segments.set_epoch(0)
    loader = DataLoader(segments, batch_size=4, sampler=EpochSampler(segments, seed=1), collate_fn=collate)
    loader = Accelerator(cpu=True).prepare(loader)
    loader.set_epoch(3)
    assert all(same(left, right) for left, right in zip(expected, loader, strict=True))
    # a run resumed after one batch sees the rest
    loader.set_epoch(3)
    rest = list(skip_first_batches(loader, 1))
    assert all(same(left, right) for left, right in zip(expected[1:], rest, strict=True))
