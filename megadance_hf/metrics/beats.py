"""Whether a dance keeps time: beat alignment (BAS), foot landings, and a dance against itself moved in time, by beat and by bar.

Joints are `(T, 24, 3)`, metres. Beats are frames, not necessarily whole ones.
"""

from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from megadance_hf.modeling.kinematics_megadance import FOOT_JOINTS

BEAT_SPREAD = 3.0  # frames at 30 frames/s, sigma of a beat's tolerance
BEAT_PARTS, BAR_PARTS = 8, 12  # a dance is moved by k/8 of a beat, or by j/12 of a bar
STEP_SPEED, LANDED_SPEED = 0.5, 0.25  # m/s: a foot that steps is faster than the one, and has landed below the other
LANDING_TOLERANCE = 1 / 8  # of a beat, on either side: by chance a quarter of all landings are so near


def motion_beats(joints: np.ndarray, smoothing: float = 5.0) -> np.ndarray:
    """Frames in which the dance pauses: strict local minima of the smoothed mean joint speed. May be none."""
    speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1).mean(1)
    if len(speed) < 3:
        return np.zeros(0, dtype=np.int64)
    speed = gaussian_filter1d(speed.astype(np.float64), smoothing)
    return np.flatnonzero((speed[1:-1] < speed[:-2]) & (speed[1:-1] < speed[2:])) + 1


def beat_alignment(joints: np.ndarray, music_beats: np.ndarray, over: str = "music") -> float:
    """Beat align score, 0 to 1: mean over beats of exp(-d^2 / 18), d frames to the nearest beat of the other kind.

    `over="music"` averages over the music's beats, as the released code of MEGADance (and Bailando) does: every beat of the
    song wants a pause. `over="motion"` averages over the motion's, as Li et al. 2021 define it: every pause wants a beat.
    The two are not comparable. 0 when either has no beats (the released code fails then).
    """
    if over not in ("music", "motion"):
        raise ValueError(f"over={over!r} is neither 'music' nor 'motion'")
    danced, played = motion_beats(joints), np.asarray(music_beats)
    if len(danced) == 0 or len(played) == 0:
        return 0.0
    distance = np.abs(played[:, None] - danced[None]).min(1 if over == "music" else 0)
    return float(np.exp(-(distance**2) / (2 * BEAT_SPREAD**2)).mean())


def shift_beats(beats: np.ndarray, part: float, frames: int) -> np.ndarray:
    """Two or more beats, each moved by `part` of the way to the next; those outside 0 to `frames` are dropped.

    Before the first and after the last beat the tempo there is extrapolated.
    """
    beats = np.asarray(beats, dtype=np.float64)
    beats = np.concatenate(([2 * beats[0] - beats[1]], beats, [2 * beats[-1] - beats[-2]]))
    moved = beats[:-1] + part * np.diff(beats)
    return moved[(moved >= 0) & (moved < frames)]


def beat_synchrony(joints: np.ndarray, beats: np.ndarray) -> dict[str, dict[str, float]] | None:
    """Beat alignment of a dance, and the mean of the same dance moved against its music by k/8 of a beat, k = 1 ... 7.

    Both conventions of `beat_alignment`: {"music": {"own", "moved"}, "motion": {...}}. A dance that pauses on the beats
    scores higher than itself moved; one that pauses anywhere scores the same. None with fewer than two beats.
    """
    if len(beats) < 2:
        return None
    scores = {}
    for over in ("music", "motion"):
        moved = [
            beat_alignment(joints, shift_beats(beats, part / BEAT_PARTS, len(joints)), over)
            for part in range(1, BEAT_PARTS)
        ]
        scores[over] = {"own": beat_alignment(joints, beats, over), "moved": float(np.mean(moved))}
    return scores


def foot_landings(joints: np.ndarray, fps: float = 30) -> np.ndarray:
    """Frames in which a foot lands, ascending: the speed of a foot joint falls below 0.25 m/s, having been above 0.5.

    The speed is the mean over three frames.
    """
    if len(joints) < 2:
        return np.zeros(0, dtype=np.int64)
    speed = np.linalg.norm(np.diff(joints[:, list(FOOT_JOINTS)].astype(np.float64), axis=0), axis=-1) * fps
    landings = []
    for foot in uniform_filter1d(speed, 3, axis=0, mode="nearest").T:
        state = np.select([foot > STEP_SPEED, foot < LANDED_SPEED], [1, -1])
        frames = np.flatnonzero(state)  # those in between change nothing
        landings.append(frames[1:][(state[frames][1:] == -1) & (state[frames][:-1] == 1)])
    return np.sort(np.concatenate(landings))


def landing_synchrony(joints: np.ndarray, beats: np.ndarray, fps: float = 30) -> dict[str, Any] | None:
    """Foot landings within an eighth of a beat of a beat: {"own": share, "moved": the mean share with beats moved by a quarter,
    half and three quarters of a beat, "landings": their number}; chance is a quarter.

    Before the first and after the last beat the tempo there is extrapolated. None with fewer than two beats, or without a landing.
    """
    landings, beats = foot_landings(joints, fps), np.asarray(beats, dtype=np.float64)
    if len(beats) < 2 or len(landings) == 0:
        return None
    index = np.clip(np.searchsorted(beats, landings, side="right") - 1, 0, len(beats) - 2)
    phase = (landings - beats[index]) / (beats[index + 1] - beats[index])
    shares = [float((np.abs((phase - k / 4 + 0.5) % 1 - 0.5) <= LANDING_TOLERANCE).mean()) for k in range(4)]
    return {"own": shares[0], "moved": float(np.mean(shares[1:])), "landings": len(landings)}


def bar_profile(joints: np.ndarray, phase: np.ndarray, bins: int = 16, fps: float = 30) -> np.ndarray:
    """How the speed of a dance rises and falls within a bar: (bins,) m/s about their mean.

    The mean speed of all joints, horizontally relative to the pelvis, averaged over all frames of a bin. `phase` (T,) in
    [0, 1) is each frame's position in its bar. Dances in time with their music have profiles that correlate; the profile of
    a dance that does not keep time is flat or leans on another beat. Sharper than beat alignment where motion is smooth.
    """
    steps = np.diff(joints - joints[:, :1] * [1, 0, 1], axis=0)
    speed = np.linalg.norm(steps, axis=-1).mean(1) * fps
    index = (phase[: len(speed)] * bins).astype(int) % bins
    counts = np.bincount(index, minlength=bins)
    sums = np.bincount(index, weights=speed, minlength=bins)
    profile = np.where(counts > 0, sums / np.maximum(counts, 1), speed.mean() if len(speed) else 0.0)
    return profile - profile.mean()


def profile_correlation(profile: np.ndarray, reference: np.ndarray) -> float:
    """Correlation of two bar profiles, -1 to 1; 0 when one of them is flat."""
    norm = np.linalg.norm(profile) * np.linalg.norm(reference)
    return float(profile @ reference / norm) if norm > 1e-12 else 0.0


def bar_synchrony(joints: np.ndarray, phase: np.ndarray, reference: np.ndarray) -> dict[str, Any]:
    """Correlation of a dance's bar profile with a reference profile: "own" of the dance as it is, "moved" the mean of the
    same dance moved by j/12 of a bar, j = 1 ... 11; with the "profile" itself.

    Over a whole bar a profile's moved correlations nearly cancel: "moved" is about -own / 11, so testing one against the other
    asks little more than whether "own" is above zero. Dances to wrong music are the harder comparison.
    """
    profile = bar_profile(joints, phase)
    moved = [
        profile_correlation(bar_profile(joints, (phase + part / BAR_PARTS) % 1), reference)
        for part in range(1, BAR_PARTS)
    ]
    own = profile_correlation(profile, reference)
    return {"own": own, "moved": float(np.mean(moved)), "profile": profile.tolist()}
