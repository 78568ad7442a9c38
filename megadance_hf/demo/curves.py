"""What is plotted below a dance over the time of its song: onsets, beats, speed, and the probability of each genre.

    curves = song_curves(features)                     # onset envelope, beats, tempo
    curves = dance_curves(pipe, dance, features)       # speed, and a probability for each genre

The page draws them (`export/web/stage.js`).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d

from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE, MOTION_FPS
from megadance_hf.modeling.kinematics_megadance import poses_to_motion
from megadance_hf.modeling.music_features_megadance import BEAT, ONSET_ENVELOPE
from megadance_hf.motion.motion import Motion
from megadance_hf.pipeline import MusicToDancePipeline

GENRE_SIGMA = 2.0  # codes (2 are half a second): of the Gaussian that smooths the log-likelihoods
SPEED_SIGMA = 2.0  # frames
BATCH_SIZE = 64  # segments


def song_curves(features: np.ndarray) -> dict[str, Any]:
    """From music features (frames, 35): `onset` (frames,) from 0 to 1, `beats` in seconds, `tempo` in beats per minute or None."""
    onset = np.asarray(features[:, ONSET_ENVELOPE], dtype=np.float64)
    beats = np.flatnonzero(features[:, BEAT] > 0.5) / MOTION_FPS
    # a percentile, so that a single loud onset does not flatten the rest
    highest = np.percentile(onset, 99.5) or onset.max() or 1.0
    tempo = 60 / float(np.median(np.diff(beats))) if len(beats) > 1 else None
    return {"onset": np.clip(onset / highest, 0, 1), "beats": beats, "tempo": tempo}


def speed_curve(dance: Motion) -> np.ndarray:
    """Mean speed of all joints (frames,), m/s, slightly smoothed; 0 for a dance of one frame."""
    if len(dance) < 2:
        return np.zeros(len(dance))
    speed = np.linalg.norm(np.diff(dance.joints().astype(np.float64), axis=0), axis=-1).mean(1) * dance.fps
    return gaussian_filter1d(np.append(speed, speed[-1]), SPEED_SIGMA)


@torch.no_grad()
def genre_curve(
    pipe: MusicToDancePipeline,
    dance: Motion,
    features: np.ndarray,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, np.ndarray]:
    """The probability of each genre at each code of a dance, according to the generator: genre -> (codes,), 0 to 1.

    The dance is encoded, and the likelihood of its codes, given the music and the codes before, is computed with the experts of
    every genre. With equal priors, Bayes' rule turns these into probabilities of genres. They are those of a single code, from
    log-likelihoods that are averaged with `GENRE_SIGMA`: with their sum, nearly all probabilities would be 0 or 1. The first code has
    no codes before it and gets the probabilities of the second.

    Args:
        features: (frames, 35) of the dance's song, at least as long as the dance's whole codes.
        progress: called with the share that is done, 0 to 1; it may raise to stop.

    Returns:
        an empty dictionary for a dance shorter than two codes.
    """
    model, config = pipe.model, pipe.model.config
    total = min(len(dance), len(features)) // FRAMES_PER_CODE
    if total < 2:
        return {}
    motion = poses_to_motion(torch.from_numpy(dance.poses), torch.from_numpy(dance.translation))
    codes = pipe.tokenizer.encode(motion[None, : total * FRAMES_PER_CODE].to(pipe.tokenizer.device))
    streams = [stream[0].to(model.device) for stream in (codes.upper_codes, codes.lower_codes)]
    music = torch.from_numpy(np.ascontiguousarray(features[None, : total * FRAMES_PER_CODE])).to(model.device)
    rhythm = model.model.encode_rhythm(music)

    # Overlapping segments of the training length; of each but the first only the last `stride` codes count, which have a full context.
    length = min(config.training_codes, total)
    stride = max(1, length - config.context_codes)
    starts = sorted({*range(0, total - length + 1, stride), total - length})
    scores = torch.zeros(len(pipe.genres), total - 1)
    for row, genre in enumerate(pipe.genres):
        progress(row / len(pipe.genres))
        for first in range(0, len(starts), BATCH_SIZE):
            batch = starts[first : first + BATCH_SIZE]
            upper, lower = (torch.stack([stream[s : s + length] for s in batch]) for stream in streams)
            music_segments, rhythm_segments = (
                None
                if sequence is None
                else torch.stack([sequence[0, FRAMES_PER_CODE * s : FRAMES_PER_CODE * (s + length)] for s in batch])
                for sequence in (music, rhythm)
            )
            ids = torch.full((len(batch),), model.genre_id(genre), device=model.device)
            output = model(music_segments, upper, lower, genre_ids=ids, rhythm=rhythm_segments)
            likelihoods = 0
            for logits, labels in ((output.upper_logits, upper), (output.lower_logits, lower)):
                likelihoods = likelihoods - model.output_mlp.cross_entropy(logits[:, :-1], labels[:, 1:])
            for start, segment in zip(batch, likelihoods.cpu(), strict=True):  # segment: [length - 1]
                skipped = 0 if start == 0 else length - 1 - stride
                scores[row, start + skipped : start + length - 1] = segment[skipped:]
    smoothed = gaussian_filter1d(scores.double().numpy(), GENRE_SIGMA, axis=1)
    probabilities = np.exp(smoothed - smoothed.max(0))
    probabilities /= probabilities.sum(0)
    return {genre: np.concatenate((row[:1], row)) for genre, row in zip(pipe.genres, probabilities, strict=True)}


def dance_curves(
    pipe: MusicToDancePipeline,
    dance: Motion,
    features: np.ndarray,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """`speed` (frames,) in m/s and `genres`, see `speed_curve` and `genre_curve`."""
    return {"speed": speed_curve(dance), "genres": genre_curve(pipe, dance, features, progress)}
