"""Threads of torch on a CPU: one thread where a second one has next to nothing to do.

OpenMP's threads wait for each other after each operation, and do so by looking again and again. Where another program uses one of the cores,
each of the thousands of small operations of a dance then lasts until the system has given that program its turn: half a minute instead of
one second on two cores, one of which is busy. One dance of a small model takes as long with one thread as with two of idle cores; eight
dances take a fifth longer, which is little beside what they would take on busy ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

WIDE = 256  # hidden size from which on the products of one dance are worth a second thread
MANY = 9  # dances at once from which on those of any model are: not the candidates that somebody waits for


@contextmanager
def own_threads() -> Iterator[None]:
    """A block, or function, that sets torch's threads for itself: at its end there are as many as before."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


def use_one_thread(model: Any, dances: int) -> None:
    """Where one thread is enough: for a small model, or tokenizer, on a CPU that computes few dances. To be used within `own_threads`."""
    is_enough = dances < MANY and model.device.type == "cpu" and model.config.hidden_size < WIDE
    if is_enough and torch.get_num_threads() > 1:
        torch.set_num_threads(1)
