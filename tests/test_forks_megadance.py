"""A pipeline that was used before a fork dances in the child, too, where torch's threads are not."""

import os
import subprocess
import sys

import pytest

# A model whose experts go through numba's loops, in two processes of a pool; what is printed comes from the parent.
CODE = """
import multiprocessing, warnings
import numpy as np
import torch
from megadance_hf import cpu_kernels
cpu_kernels.LARGE = 1
from megadance_hf import MusicToDancePipeline

torch.set_num_threads(2)
pipe = MusicToDancePipeline.from_pretrained()
time = np.arange(33075) / 22050
song = np.sin(1400 * time) * np.exp(-10 * (time % 0.5)), 22050
expected = pipe(song, seed=0)

def dance(number):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        poses = [pipe(song, seed=0).poses for _ in range(2)]
    return float(max(abs(one - expected.poses).max() for one in poses)), torch.get_num_threads(), [str(one.message) for one in said]

with multiprocessing.get_context("fork").Pool(1) as pool:
    ((apart, threads, said),) = pool.map_async(dance, range(1)).get(120)
assert apart < 1e-3 and threads == 1 and torch.get_num_threads() == 2, (apart, threads)
assert len(said) == 1 and "this process was forked, where torch's threads are not" in said[0], said
assert pipe(song, seed=0) is not None
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_child_does_not_wait_for_threads_of_its_parent():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
