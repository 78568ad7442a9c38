"""Does a dance keep time with its music: beats and bars of a clip, and tests over many dances.

What is compared is always paired: the same song and seed, once as it is and once moved in time or danced to wrong music.
Then what makes one song easier than another drops out, and a signed-rank test needs no normal distribution.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from megadance_hf import metrics
from megadance_hf.data.beats import ESTIMATED
from megadance_hf.data.clip import Clip
from megadance_hf.data.rhythm import bar_phase, beat_phase
from megadance_hf.modeling.configuration_megadance import MOTION_FPS
from megadance_hf.modeling.music_features_megadance import BEAT
from megadance_hf.motion.motion import Motion


def feature_beats(clip: Clip) -> np.ndarray:
    """Frames with a beat in the music features: what a model can know, and what the released code measures with."""
    return np.flatnonzero(clip.input_features[:, BEAT] > 0.5)


def known_beats(clip: Clip) -> np.ndarray | None:
    """Beats of the data set's own grid, in frames (not whole ones); None where it is unknown or only estimated."""
    if beat_phase(clip) is None or clip.beat_source == ESTIMATED:
        return None
    first, period = clip.first_beat_s * MOTION_FPS, clip.beat_period_s * MOTION_FPS
    first -= period * np.floor(first / period + 1e-6)  # rounding must not lose a beat in frame 0
    return np.arange(first, len(clip) - 1e-6, period)


def training_profiles(clips: Sequence[Clip]) -> dict[str, np.ndarray]:
    """For each genre the mean bar profile (`metrics.bar_profile`) of its clips whose bars are known."""
    by_genre: dict[str, list[np.ndarray]] = defaultdict(list)
    for clip in clips:
        phase = bar_phase(clip) if clip.paired else None
        if phase is not None and clip.genre is not None:
            by_genre[clip.genre].append(metrics.bar_profile(Motion(clip.poses, clip.translation).joints(), phase))
    return {genre: np.mean(profiles, axis=0) for genre, profiles in by_genre.items()}


def synchrony_tests(dances: Sequence[dict[str, Any]], measure: str) -> dict[str, Any] | None:
    """Summary of one measure over many dances: rows with `song` and `measure` ({"own", "moved"}, or None where unknown).

    Means, and whether the dances score higher as they are than moved: over all dances, and over songs with the mean of a
    song's dances as one (dances to one song are not independent). None where no dance has the measure.
    """
    known = [dance for dance in dances if dance.get(measure) is not None]
    if not known:
        return None
    songs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for dance in known:
        songs[dance["song"]].append((dance[measure]["own"], dance[measure]["moved"]))
    pairs = np.array([pair for found in songs.values() for pair in found])
    means = np.array([np.mean(found, axis=0) for found in songs.values()])
    return {
        "own": float(pairs[:, 0].mean()),
        "moved": float(pairs[:, 1].mean()),
        "dances": metrics.paired_test(pairs[:, 0], pairs[:, 1]),
        "songs": metrics.paired_test(means[:, 0], means[:, 1]),
    }


def compare_music(
    right: Sequence[dict[str, Any]], wrong: Sequence[dict[str, Any]], measure: str
) -> dict[str, Any] | None:
    """Whether dances to the right music have a higher `measure` ("own") than those to wrong music, paired by excerpt and seed.

    None where there is no such pair.
    """
    values = {(dance["excerpt"], dance["seed"]): dance[measure]["own"] for dance in wrong if dance.get(measure)}
    keys = [(dance["excerpt"], dance["seed"]) for dance in right]
    pairs = [(d[measure]["own"], values[k]) for d, k in zip(right, keys, strict=True) if d.get(measure) and k in values]
    return metrics.paired_test(*zip(*pairs, strict=True)) if pairs else None
