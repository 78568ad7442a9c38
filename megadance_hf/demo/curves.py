"""What can be drawn under a dance over the time of its song: beats, speed, and the genre that a model sees in it.

curves = song_curves(features)                     # onset envelope, beats, tempo
curves = dance_curves(pipe, dance, features)       # speed, and a probability for each genre
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter1d

from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE, MOTION_FPS
from megadance_hf.modeling.kinematics_megadance import poses_to_motion
from megadance_hf.modeling.music_features_megadance import BEAT, ONSET_ENVELOPE
from megadance_hf.motion.motion import Motion
from megadance_hf.pipeline import MusicToDancePipeline

GENRE_SPREAD = 2.0  # codes: sigma of the window over which the evidence is averaged; 2 are half a second
SPEED_SPREAD = 2.0  # frames
WINDOWS_AT_ONCE = 64


def song_curves(features: np.ndarray) -> dict[str, Any]:
    """Of music features (frames, 35): `onset` (frames,) from 0 to 1, `beats` in seconds, `tempo` in beats a minute or None."""
    onset = np.asarray(features[:, ONSET_ENVELOPE], dtype=np.float64)
    beats = np.flatnonzero(features[:, BEAT] > 0.5) / MOTION_FPS
    # a single bang must not flatten the rest
    highest = np.percentile(onset, 99.5) or onset.max() or 1.0
    tempo = 60 / float(np.median(np.diff(beats))) if len(beats) > 1 else None
    return {"onset": np.clip(onset / highest, 0, 1), "beats": beats, "tempo": tempo}


def speed_curve(dance: Motion) -> np.ndarray:
    """Mean speed of all joints (frames,), m/s, a little smoothed. A dance of one frame stands still."""
    if len(dance) < 2:
        return np.zeros(len(dance))
    speed = np.linalg.norm(np.diff(dance.joints().astype(np.float64), axis=0), axis=-1).mean(1) * dance.fps
    return gaussian_filter1d(np.append(speed, speed[-1]), SPEED_SPREAD)


@torch.no_grad()
def genre_curve(pipe: MusicToDancePipeline, dance: Motion, features: np.ndarray) -> dict[str, np.ndarray]:
    """How probable each genre is at each code of a dance, as the generator itself judges: genre -> (codes,), 0 to 1.

    The dance is written as codes again, and their probability, given the music and the codes before, is computed with the
    experts of every genre. With all genres equally likely beforehand, Bayes' rule makes probabilities of genres of that. What
    is judged is one code, an average one of those within about `GENRE_SPREAD`: all of them together would say 0 or 1 nearly
    always. The first code has nothing before it and gets what the second has.

    Args:
        features: (frames, 35) of the dance's song, at least as long as the dance's whole codes.

    Returns:
        nothing (`{}`) for a dance shorter than two codes.
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

    # Windows of the training's length; of each but the first only what the window before has not judged counts.
    length = min(config.training_codes, total)
    fresh = max(1, length - config.context_codes)
    starts = sorted({*range(0, total - length + 1, fresh), total - length})
    scores = torch.zeros(len(pipe.genres), total - 1)
    for row, genre in enumerate(pipe.genres):
        for first in range(0, len(starts), WINDOWS_AT_ONCE):
            batch = starts[first : first + WINDOWS_AT_ONCE]
            upper, lower = (torch.stack([stream[s : s + length] for s in batch]) for stream in streams)
            heard = [
                None
                if course is None
                else torch.stack([course[0, FRAMES_PER_CODE * s : FRAMES_PER_CODE * (s + length)] for s in batch])
                for course in (music, rhythm)
            ]
            ids = torch.full((len(batch),), model.genre_id(genre), device=model.device)
            output = model(heard[0], upper, lower, genre_ids=ids, rhythm=heard[1])
            found = 0
            for logits, labels in ((output.upper_logits, upper), (output.lower_logits, lower)):
                chances = F.log_softmax(logits[:, :-1].float(), -1)
                found = found + chances.gather(-1, labels[:, 1:, None])[..., 0]  # [windows, length - 1]
            for start, window in zip(batch, found.cpu(), strict=True):
                known = 0 if start == 0 else length - 1 - fresh
                scores[row, start + known : start + length - 1] = window[known:]
    evidence = gaussian_filter1d(scores.double().numpy(), GENRE_SPREAD, axis=1)
    chances = np.exp(evidence - evidence.max(0))
    chances /= chances.sum(0)
    return {genre: np.concatenate((row[:1], row)) for genre, row in zip(pipe.genres, chances, strict=True)}


def dance_curves(pipe: MusicToDancePipeline, dance: Motion, features: np.ndarray) -> dict[str, Any]:
    """`speed` (frames,) in m/s and `genres`, see `speed_curve` and `genre_curve`."""
    return {"speed": speed_curve(dance), "genres": genre_curve(pipe, dance, features)}
