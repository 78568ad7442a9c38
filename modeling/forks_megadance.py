"""Processes that are forked after torch has computed: torch's threads exist in the parent alone, and a child that waits for them hangs.

`multiprocessing` forks on Linux before Python 3.14, and so does a `DataLoader` with workers; so do servers that load a model and then start
workers. Here a forked child gets one thread, which needs no others, and no compiled loops, whose threads end a forked process. Its dances
are the same, and slower. Processes that are started ("spawn", "forkserver") have all threads.
"""

import os
import warnings

import torch

_forked = _warned = False


def _after_fork() -> None:
    global _forked
    _forked = True
    torch.set_num_threads(1)


def in_forked_process() -> bool:
    """Whether this process was forked after this module was imported."""
    return _forked


def warn_after_fork() -> None:
    """In a forked process, say once why it is slow."""
    global _warned
    if _forked and not _warned:
        _warned = True
        warnings.warn(
            "this process was forked, where torch's threads are not: it dances with one thread; start processes with "
            "multiprocessing.get_context('spawn') to have all of them",
            stacklevel=3,
        )


if hasattr(os, "register_at_fork"):  # Windows has no forks
    os.register_at_fork(after_in_child=_after_fork)
