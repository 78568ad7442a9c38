"""Clips as codes, the generator's training data: encoded once with a trained tokenizer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE
from megadance_hf.modeling.progress_megadance import progress_bar

from .augmentation import mirror_motion, time_stretch
from .clip import Clip, clip_motion
from .windows import cut_clip


@dataclass(frozen=True)
class EncodedClip:
    """A clip as codes.

    Attributes:
        clip: without audio; stretched by the factor `stretch`, its motion mirrored if `mirrored`.
        upper, lower: for each frame o = 0 .. 7 at which encoding begins, the codes (N,) int64.
        rhythm: output (T, 4) of a rhythm encoder for the music; None without encoder or music.
        start: where the clip begins in the whole one, if it is a window.
    """

    clip: Clip
    upper: tuple[np.ndarray, ...]
    lower: tuple[np.ndarray, ...]
    mirrored: bool = False
    stretch: float = 1.0
    rhythm: np.ndarray | None = None
    start: int = 0


@torch.no_grad()
def encode_clips(
    tokenizer: Any,
    clips: Sequence[Clip],
    *,
    mirror: bool = True,
    stretches: Sequence[float] = (1.0,),
    windows: Mapping[str, Any] | None = None,
    encode_rhythm: Callable[[Tensor], Tensor | None] | None = None,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> list[EncodedClip]:
    """Codes of whole clips, for each of the 8 frames at which the first code may begin; or with `windows` of each window by itself.

    Args:
        tokenizer: has `encode`, or is itself a function: motion (1, T, 147), T a multiple of 8 -> an output with
            `upper_codes` and `lower_codes` (1, T/8).
        clips: at least 16 frames each.
        mirror: also encode mirror images.
        stretches: factors by which each clip is stretched before encoding (see `time_stretch`); 1.0 is the clip itself.
        windows: cut the clips into windows first, by these arguments of `window_starts`. Codes then know nothing of what is before and
            after the window, whose last velocity is zero, as in the released loaders, and begin at its first frame only.
        encode_rhythm: a generator's `model.encode_rhythm`: music features (1, T, 35) -> (1, T, 4).
        device: of the tokenizer and the rhythm encoder.
        progress: show a progress bar.

    Raises:
        ValueError: no stretches, or factors outside 0.5 to 2.
    """
    if not stretches or not all(0.5 <= factor <= 2 for factor in stretches):
        raise ValueError(
            f"stretches={list(stretches)!r}: give factors from 0.5 to 2, 1.0 among them for the clips themselves"
        )
    encode: Callable[[Tensor], Any] = getattr(tokenizer, "encode", tokenizer)
    result = []
    for clip in progress_bar(clips, unit="clip", desc="encoding", disable=not progress):
        for factor in stretches:
            whole = replace(clip, audio=None) if factor == 1.0 else time_stretch(clip, factor)
            for start, variant in [(0, whole)] if windows is None else cut_clip(whole, **windows):
                motion, rhythm = clip_motion(variant, "moving" if windows is None else "still"), None
                if encode_rhythm is not None and variant.input_features is not None:
                    output = encode_rhythm(torch.from_numpy(variant.input_features[None]).to(device))
                    rhythm = None if output is None else output[0].float().cpu().numpy()
                for mirrored in (False, True) if mirror else (False,):
                    if mirrored:
                        motion = mirror_motion(motion)
                    upper, lower = [], []
                    for offset in range(FRAMES_PER_CODE if windows is None else 1):
                        frames = (len(motion) - offset) // FRAMES_PER_CODE * FRAMES_PER_CODE
                        codes = encode(torch.from_numpy(motion[None, offset : offset + frames]).to(device))
                        upper.append(codes.upper_codes[0].cpu().numpy())
                        lower.append(codes.lower_codes[0].cpu().numpy())
                    streams = (tuple(upper), tuple(lower))
                    result.append(EncodedClip(variant, *streams, mirrored, float(factor), rhythm, start))
    return result
