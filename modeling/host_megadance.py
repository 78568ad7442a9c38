"""What generation asks a device for without waiting for it. A CPU answers at once, and nothing is put off there."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_LOOK_EVERY = 64  # codes after which faults are looked for, where looking is waiting

NUMBERS_TOO_LARGE, NO_CODE_LEFT, NOT_FINITE = range(3)
_FAULTS = (
    "dtype=float16: numbers of this model are too large for it; use bfloat16 or float32",
    "no code is left to choose: forbid fewer of them with suppress_tokens, bad_words_ids, no_repeat_ngram_size, "
    "sequence_bias or logits_processor",
    "the scores of codes are NaN or infinite: give a temperature and a repetition_penalty nearer to 1, and finite "
    "numbers as sequence_bias and from logits_processor",
)


def answers_at_once(device: torch.device) -> bool:
    """Whether asking this device for a number is no waiting for what it was given to compute."""
    return device.type == "cpu"


def copy_later(tensor: Tensor) -> Callable[[], Tensor]:
    """Begin to copy a tensor to the host; what is returned waits for the copy and gives it."""
    if tensor.device.type != "cuda":
        copied = tensor.cpu()
        return lambda: copied
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    pinned.copy_(tensor, non_blocking=True)
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(tensor.device))

    def wait() -> Tensor:
        event.synchronize()
        return pinned

    return wait


class Faults:
    """Faults of scores. On a CPU each is raised where it is found; elsewhere they are collected on the device, and raised some codes
    later or at the end.

    Attributes:
        found: [faults], which of them were found, on the device.
    """

    def __init__(self, device: torch.device, at_once: bool = False):
        self.at_once = at_once or answers_at_once(device)
        self.found = torch.zeros(len(_FAULTS), dtype=torch.bool, device=device)
        self._looks = 0

    def look(self, fault: int, is_found: Tensor) -> None:
        """Raises ValueError, now or later, if `is_found`."""
        if not self.at_once:
            self.found[fault].logical_or_(is_found)
        elif bool(is_found):
            raise ValueError(_FAULTS[fault])

    def check(self, at_end: bool = True) -> None:
        """Raises ValueError for what was found so far; unless `at_end` only now and then."""
        self._looks += 1
        if at_end or self._looks % _LOOK_EVERY == 0:
            for fault, is_found in enumerate(self.found.tolist()):
                if is_found:
                    raise ValueError(_FAULTS[fault])


class Streamed:
    """Codes for a streamer: at once from a CPU; from elsewhere a code later, so that nothing waits for them.

    Args:
        streamer: None: nothing is done.
    """

    def __init__(self, streamer: Any):
        self.streamer = streamer
        self._kept: Callable[[], Tensor] | None = None

    def put(self, codes: Tensor) -> None:
        if self.streamer is None:
            return
        self._hand_over()
        self._kept = copy_later(codes)
        if answers_at_once(codes.device):
            self._hand_over()

    def end(self) -> None:
        if self.streamer is not None:
            self._hand_over()
            self.streamer.end()

    def _hand_over(self) -> None:
        if self._kept is not None:
            self.streamer.put(self._kept())
        self._kept = None
