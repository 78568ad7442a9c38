"""Poses that a dance holds: read, placed in the dance, and as codes that `generate()` knows. `joining_megadance.py` leads the dance to them."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from typing import Any

import numpy as np
import torch

from .arguments_megadance import real_number
from .joining_megadance import FADE
from .kinematics_megadance import BODY_PARTS, NUM_JOINTS, poses_to_motion
from .modeling_megadance_tokenizer import MegaDanceTokenizer
from .plans_megadance import DirectionError

_NEAR_END = 2.0  # seconds from the beginning or end of a dance
_AROUND = 2  # codes before and after held poses, with the first and the last of them, to encode them in


def read_hold(
    hold: Any, read_motion: Callable[[Any, str], Mapping[str, np.ndarray]]
) -> dict[float | str, torch.Tensor]:
    """Poses [F, 24, 3] to hold, by the second at which they begin, or "end"."""
    if not isinstance(hold, Mapping) or not hold:
        raise ValueError(f"hold of type {type(hold).__name__}: give poses by their seconds, such as {{12.0: pose}}")
    checked: dict[float | str, torch.Tensor] = {}
    for second, motion in hold.items():
        if second != "end":
            second = float(real_number("hold", second, "seconds of 0 or more, or 'end'", lambda number: number >= 0))
        if isinstance(motion, np.ndarray | torch.Tensor | list):
            poses = torch.as_tensor(np.asarray(motion, np.float32))
        else:
            poses = torch.as_tensor(np.asarray(read_motion(motion, "hold")["poses"], np.float32))
        if poses.numel() == NUM_JOINTS * 3:
            poses = poses.view(1, NUM_JOINTS, 3)
        if poses.dim() != 3 or poses.shape[1:] != (NUM_JOINTS, 3) or not len(poses) or not torch.isfinite(poses).all():
            raise DirectionError(
                f"hold has poses of shape {tuple(poses.shape)} at {second}: give finite axis-angle poses ({NUM_JOINTS}, 3), or a motion"
            )
        checked[second] = poses
    return checked


def place_hold(
    hold: Mapping[float | str, torch.Tensor], frames: int, fps: int, step: int
) -> list[tuple[int, torch.Tensor]]:
    """First frame and poses of what is held in a dance of so many frames, in their order; a code is `step` frames."""
    placed = []
    for second, poses in hold.items():
        first = frames - len(poses) if isinstance(second, str) else round(second * fps)
        if not 0 <= first <= frames - len(poses):
            raise DirectionError(
                f"hold has {len(poses)} frames at {second!r}, but the dance has {frames} ({frames / fps:.2f} s): give less, or sooner"
            )
        placed.append((first, poses))
    placed.sort(key=lambda one: one[0])
    for (one, poses), (other, _) in itertools.pairwise(placed):
        if (one + len(poses) - 1) // step >= other // step:
            raise DirectionError(
                f"hold has poses at {one / fps:.2f} s and {other / fps:.2f} s that meet in one code ({step / fps:.2f} s): leave more between"
            )
    return placed


def free_ends(held: Sequence[tuple[int, torch.Tensor]], frames: int, fps: int) -> tuple[bool, bool]:
    """Whether a dance of so many frames holds nothing near its beginning, and near its end: entrance and ending would move it."""
    near = round(_NEAR_END * fps)
    return (
        all(first >= near for first, _ in held),
        all(first + len(poses) <= frames - near for first, poses in held),
    )


def room_in_passage(first: int, last: int, frames: int, fps: int) -> tuple[int, int]:
    """First frame and end of what can be held in frames `first` to `last` - 1 that are danced anew, of a dance of so many: not where they
    pass over from what stays."""
    near = round(FADE * fps)
    return first + (near if first else 0), last - (near if last < frames else 0)


def held_seconds(held: Sequence[tuple[int, Sized]], fps: int) -> list[list[float]]:
    """What the metadata say of what is held, as `place_hold` gives it: seconds at which each begins and ends."""
    return [[round(first / fps, 4), round((first + len(poses)) / fps, 4)] for first, poses in held]


@torch.no_grad()
def encode_held(
    tokenizer: MegaDanceTokenizer, held: Sequence[tuple[int, torch.Tensor]]
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Of all that is held, its codes' places in the dance, and the codes [1, 2, places]."""
    step = tokenizer.config.frames_per_code
    for first, poses in held:
        begins, ends = first // step, -(-(first + len(poses)) // step)
        rows = torch.arange((begins - _AROUND) * step, (ends + _AROUND) * step) - first
        around = poses[rows.clamp(0, len(poses) - 1)]
        vectors = poses_to_motion(around, torch.zeros(len(around), 3))[None]
        codes = tokenizer.encode(vectors.to(tokenizer.device))
        assert codes.upper_codes is not None and codes.lower_codes is not None
        yield (
            slice(begins, ends),
            torch.stack((codes.upper_codes, codes.lower_codes), 1)[:, :, _AROUND:-_AROUND].cpu(),
        )


@torch.no_grad()
def with_known_codes(
    tokenizer: MegaDanceTokenizer, inputs: dict[str, Any], held: list[tuple[int, torch.Tensor]]
) -> dict[str, Any]:
    """The inputs of one song with `known_codes` and `known_mask`: those of a start motion and of what is held."""
    step, inputs = tokenizer.config.frames_per_code, dict(inputs)
    known = torch.zeros(1, len(BODY_PARTS), inputs["input_features"].shape[1] // step, dtype=torch.long)
    mask = torch.zeros_like(known, dtype=torch.bool)
    begin = [inputs.pop(name, None) for name in ("upper_codes", "lower_codes")]
    if begin[0] is not None:
        codes = torch.stack(begin, 1).cpu()
        known[:, :, : codes.shape[2]], mask[:, :, : codes.shape[2]] = codes, True
    for places, codes in encode_held(tokenizer, held):
        known[:, :, places], mask[:, :, places] = codes, True
    return {**inputs, "known_codes": known, "known_mask": mask}
