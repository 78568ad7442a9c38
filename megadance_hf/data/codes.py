"""Clips as codes, the generator's training data: encoded once with a trained tokenizer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE
from megadance_hf.modeling.progress_megadance import progress_bar

from .attributes import clip_attributes
from .augmentation import MotionCorruption, mirror_motion, stretched_frames, time_stretch
from .clip import Clip, clip_motion
from .windows import cut_clip, noise_of


@dataclass(frozen=True)
class EncodedClip:
    """A clip as codes.

    Attributes:
        clip: without audio; stretched by the factor `stretch`, its motion mirrored if `mirrored`.
        upper, lower: for each frame o = 0 .. 7 at which encoding begins, the codes (N,) int64.
        rhythm: output (T, 4) of a rhythm encoder for the music; None without encoder or music.
        start: where the clip begins in the whole one, if it is a window.
        noisy: frames (T,) bool that are noise; codes that have one are no labels. None if noise is not masked.
        attributes: how the dance moves around each frame, (T, 7), see `clip_attributes`; None where they were not wanted.
        inputs: `upper` and `lower` of a corrupted copy, whose codes are given where those above are to be predicted; None without.
    """

    clip: Clip
    upper: tuple[np.ndarray, ...]
    lower: tuple[np.ndarray, ...]
    mirrored: bool = False
    stretch: float = 1.0
    rhythm: np.ndarray | None = None
    start: int = 0
    noisy: np.ndarray | None = None
    inputs: tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]] | None = None
    attributes: np.ndarray | None = None


@torch.no_grad()
def encode_clips(
    tokenizer: Any,
    clips: Sequence[Clip],
    *,
    mirror: bool = True,
    stretches: Sequence[float] = (1.0,),
    windows: Mapping[str, Any] | None = None,
    encode_rhythm: Callable[[Tensor], Tensor | None] | None = None,
    mask_noise: bool = False,
    corruption: MotionCorruption | None = None,
    attributes: bool = False,
    seed: int = 0,
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
        mask_noise: mark frames of noise (`noise_of`).
        corruption: faults of a recording, for the copies that `EncodedClip.inputs` has; each mirrored and stretched variant has others.
        attributes: also measure how the dance moves (`clip_attributes`).
        seed: of the corruption.
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

    def streams_of(motion: np.ndarray) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        upper, lower = [], []
        for offset in range(FRAMES_PER_CODE if windows is None else 1):
            frames = (len(motion) - offset) // FRAMES_PER_CODE * FRAMES_PER_CODE
            codes = encode(torch.from_numpy(motion[None, offset : offset + frames]).to(device))
            upper.append(codes.upper_codes[0].cpu().numpy())
            lower.append(codes.lower_codes[0].cpu().numpy())
        return tuple(upper), tuple(lower)

    result: list[EncodedClip] = []
    for clip in progress_bar(clips, unit="clip", desc="encoding", disable=not progress):
        noise = noise_of(clip) if mask_noise else None
        for factor in stretches:
            noisy = noise
            if noise is not None and factor != 1.0:
                before, _ = stretched_frames(len(clip), factor)
                noisy = noise[before] | noise[before + 1]  # both are blended
            whole = replace(clip, audio=None) if factor == 1.0 else time_stretch(clip, factor)
            for start, variant in [(0, whole)] if windows is None else cut_clip(whole, **windows):
                motion, rhythm = clip_motion(variant, "moving" if windows is None else "still"), None
                moves = clip_attributes(variant) if attributes else None
                if encode_rhythm is not None and variant.input_features is not None:
                    output = encode_rhythm(torch.from_numpy(variant.input_features[None]).to(device))
                    rhythm = None if output is None else output[0].float().cpu().numpy()
                for mirrored in (False, True) if mirror else (False,):
                    if mirrored:
                        motion = mirror_motion(motion)
                    streams, inputs = streams_of(motion), None
                    if corruption:
                        generator = np.random.default_rng((seed, len(result)))
                        inputs = streams_of(corruption(motion, generator)[0])
                    own_noise = None if noisy is None else noisy[start : start + len(variant)]
                    result.append(
                        EncodedClip(variant, *streams, mirrored, float(factor), rhythm, start, own_noise, inputs, moves)
                    )
    return result
