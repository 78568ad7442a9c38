"""Does a dance use its music: cross-entropy with right and wrong music, synchrony with beat and bar, tests of significance.

What is compared is always paired: the same song and seed, once as it is and once with something moved in time or taken from
another song. Then what makes one song easier than another drops out, and a signed rank test needs no normal distribution.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from megadance_hf import metrics
from megadance_hf.data.beats import ESTIMATED
from megadance_hf.data.clip import Clip, clip_motion
from megadance_hf.data.rhythm import bar_phase, beat_phase
from megadance_hf.data.splits import begin_alike
from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE, MOTION_FPS
from megadance_hf.modeling.kinematics_megadance import NUM_JOINTS, axis_angle_to_matrix, forward_kinematics
from megadance_hf.modeling.music_features_megadance import BEAT

# How a model hears a song: as it is; moved on by one and a half beats; another song; none (the mean of the data).
MUSIC = ("right", "shifted", "swapped", "zeroed")
SHIFT_BEATS = 1.5
SHIFT_SECONDS = 0.7  # where no beat is known
BEAT_PARTS = 8
BAR_PARTS = 12
# Tempos nearer than this are the same: a dance to one song then fits the other but for its phase.
SAME_TEMPO = 0.05
WINDOWS_AT_ONCE = 64


def joints_of(poses: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Axis-angle poses (T, 24, 3) or (T, 72) and root path (T, 3) -> joint positions (T, 24, 3), metres."""
    matrices = axis_angle_to_matrix(torch.from_numpy(np.ascontiguousarray(poses)).reshape(-1, NUM_JOINTS, 3))
    return forward_kinematics(matrices, torch.from_numpy(translation)).numpy()


def paired_test(higher: Sequence[float], lower: Sequence[float]) -> dict[str, float]:
    """Are the numbers of `higher` higher than their partners in `lower`: one-sided Wilcoxon signed rank test.

    Returns `pairs`, the mean `difference`, and `p`: 1 where there is nothing to compare or no difference at all.
    """
    from scipy.stats import wilcoxon

    difference = np.asarray(higher, dtype=np.float64) - np.asarray(lower, dtype=np.float64)
    p = float(wilcoxon(difference, alternative="greater").pvalue) if difference.any() else 1.0
    return {"pairs": len(difference), "difference": float(difference.mean()) if len(difference) else 0.0, "p": p}


# --- music as it is heard ----------------------------------------------------------------------------------------------


def heard_beats(clip: Clip) -> np.ndarray:
    """Frames with a beat in the music features: what a model can know, and what the released code measures with."""
    return np.flatnonzero(clip.input_features[:, BEAT] > 0.5)


def known_beats(clip: Clip) -> np.ndarray | None:
    """Beats of the data set's own grid, in frames (not whole ones); None where it is unknown or only a guess."""
    if beat_phase(clip) is None or clip.beat_source == ESTIMATED:
        return None
    first, period = clip.first_beat_s * MOTION_FPS, clip.beat_period_s * MOTION_FPS
    return np.arange(first % period, len(clip) - 1e-6, period)


def beat_period(clip: Clip) -> float | None:
    """Seconds from one beat to the next: from the data set, else the median of the features' beats, None without any."""
    if clip.beat_period_s is not None:
        return clip.beat_period_s
    intervals = np.diff(heard_beats(clip))
    return float(np.median(intervals)) / MOTION_FPS if len(intervals) else None


def same_track(first: Clip, second: Clip) -> bool:
    """Whether two clips have the same music (several dances of AIST++ do): their MFCC begin alike."""
    return begin_alike(first, second, frames=300)


def other_songs(clips: Sequence[Clip], frames: Sequence[int]) -> list[int | None]:
    """For each clip the index of another one to its music's contrary; None where all have the same track.

    Never the same track; then, in this order, one that has as many `frames` as are needed, and one of another tempo. Among
    equals it is the next in order, so that all are used alike.
    """
    partners: list[int | None] = []
    for index, clip in enumerate(clips):
        period, best = beat_period(clip), None
        for step in range(1, len(clips)):
            candidate = (index + step) % len(clips)
            other = clips[candidate]
            if same_track(clip, other):
                continue
            its = beat_period(other)
            differs = period is not None and its is not None and abs(its / period - 1) > SAME_TEMPO
            rank = (len(other) >= frames[index], differs)
            if best is None or rank > best[0]:
                best = (rank, candidate)
        partners.append(None if best is None else best[1])
    return partners


def music_as(condition: str, song: Clip, other: Clip | None, mean: np.ndarray) -> np.ndarray:
    """Features (T, 35) of a whole song as in `MUSIC`; `mean` (35,) is that of the training data.

    Shifted music is heard later than it is, and what falls out at the end is heard first. A shorter other song is repeated.
    """
    features = song.input_features
    if condition == "shifted":
        period = beat_period(song)
        seconds = SHIFT_SECONDS if period is None else SHIFT_BEATS * period
        return np.roll(features, round(seconds * MOTION_FPS), axis=0)
    if condition == "swapped":
        return np.resize(other.input_features, features.shape)
    if condition == "zeroed":
        return np.broadcast_to(mean.astype(np.float32), features.shape).copy()
    return features


# --- cross-entropy -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def cross_entropy(
    model: Any,
    tokenizer: Any,
    songs: Sequence[Clip],
    others: Sequence[int | None],
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Mean cross-entropy (nats) of a generator on the codes of real dances, with the music as in `MUSIC`.

    Codes so far are the real ones. Whole songs are cut into windows of the training's length that share one code, so every
    code is scored once (the rest at the end, shorter than a window, is left out). A rhythm encoder reads the whole song, and
    without music gives zeros, as in training.

    Returns:
        `songs`: for each song and condition the two streams' mean and their sum; `mean` of those over songs with the
        perplexity of each stream; `windows`: the sums of each window; `tests`: is the wrong music's above the right
        music's, paired over windows, and over songs.
    """
    conditions = MUSIC if all(other is not None for other in others) else tuple(c for c in MUSIC if c != "swapped")
    per_song: list[dict[str, Any]] = []
    windows: dict[str, list[float]] = {condition: [] for condition in conditions}
    mean = model.model.music_mean.float().cpu().numpy()
    for song, other in zip(songs, others, strict=True):
        frames = len(song) // FRAMES_PER_CODE * FRAMES_PER_CODE
        codes = tokenizer.encode(torch.from_numpy(clip_motion(song)[None, :frames]).to(tokenizer.device))
        row: dict[str, Any] = {"song": song.id, "genre": song.genre}
        for condition in conditions:
            heard = music_as(condition, song, None if other is None else songs[other], mean)
            features = torch.from_numpy(np.ascontiguousarray(heard[None, :frames])).to(model.device)
            rhythm = model.model.encode_rhythm(features)
            if condition == "zeroed" and rhythm is not None:
                rhythm = torch.zeros_like(rhythm)
            losses = _window_losses(model, codes, features, rhythm, model.genre_id(song.genre))
            upper, lower = (float(value) for value in losses.mean(0))
            row[condition] = {"upper": upper, "lower": lower, "sum": upper + lower}
            windows[condition].extend(losses.sum(1).tolist())
        per_song.append(row)
        progress()
    means = {}
    for condition in conditions:
        upper, lower = (float(np.mean([row[condition][part] for row in per_song])) for part in ("upper", "lower"))
        means[condition] = {"upper": upper, "lower": lower, "sum": upper + lower}
        means[condition] |= {"perplexity_upper": float(np.exp(upper)), "perplexity_lower": float(np.exp(lower))}
    right = [row["right"]["sum"] for row in per_song]
    tests = {
        condition: {
            "windows": paired_test(windows[condition], windows["right"]),
            "songs": paired_test([row[condition]["sum"] for row in per_song], right),
        }
        for condition in conditions[1:]
    }
    return {"songs": per_song, "mean": means, "windows": windows, "tests": tests}


def _window_losses(
    model: Any, codes: Any, features: torch.Tensor, rhythm: torch.Tensor | None, genre_id: int
) -> np.ndarray:
    """Cross-entropy (windows, 2) of the upper and lower codes of one song, teacher-forced."""
    upper, lower = (c[0].to(model.device) for c in (codes.upper_codes, codes.lower_codes))
    length = min(model.config.training_codes, len(upper))
    starts, found = list(range(0, len(upper) - length + 1, max(1, length - 1))), []
    for first in range(0, len(starts), WINDOWS_AT_ONCE):
        batch = starts[first : first + WINDOWS_AT_ONCE]
        pieces = [torch.stack([stream[s : s + length] for s in batch]) for stream in (upper, lower)]
        step = FRAMES_PER_CODE
        cut = [
            torch.stack([x[0, step * s : step * (s + length)] for s in batch])
            for x in (features, rhythm)
            if x is not None
        ]
        output = model(
            cut[0],
            *pieces,
            genre_ids=torch.full((len(batch),), genre_id, device=model.device),
            rhythm=cut[1] if rhythm is not None else None,
        )
        scores = []
        for logits, labels in zip((output.upper_logits, output.lower_logits), pieces, strict=True):
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), reduction="none")
            scores.append(loss.view(len(batch), -1).mean(1))
        found.append(torch.stack(scores, dim=1).cpu().numpy())
    return np.concatenate(found)


# --- beat and bar ----------------------------------------------------------------------------------------------------------


def shift_beats(beats: np.ndarray, part: float, frames: int) -> np.ndarray:
    """Beats (in frames) moved on by a `part` of the way to the next; those outside 0 to `frames` are left out.

    Before the first and after the last beat the tempo goes on as it is there. Two beats or more.
    """
    beats = np.asarray(beats, dtype=np.float64)
    beats = np.concatenate(([2 * beats[0] - beats[1]], beats, [2 * beats[-1] - beats[-2]]))
    moved = beats[:-1] + part * np.diff(beats)
    return moved[(moved >= 0) & (moved < frames)]


def beat_synchrony(joints: np.ndarray, beats: np.ndarray) -> dict[str, dict[str, float]] | None:
    """Beat alignment of a dance, and the mean of the same dance moved against its music by k/8 of a beat, k = 1 ... 7.

    Both conventions of `metrics.beat_alignment`: {"music": {"own", "moved"}, "motion": {...}}. A dance that pauses on the
    beats is better than itself moved; one that pauses anywhere is as good. None with fewer than two beats.
    """
    if len(beats) < 2:
        return None
    found = {}
    for over in ("music", "motion"):
        moved = [
            metrics.beat_alignment(joints, shift_beats(beats, part / BEAT_PARTS, len(joints)), over)
            for part in range(1, BEAT_PARTS)
        ]
        found[over] = {"own": metrics.beat_alignment(joints, beats, over), "moved": float(np.mean(moved))}
    return found


def training_profiles(clips: Sequence[Clip]) -> dict[str, np.ndarray]:
    """For each genre the mean bar profile (`metrics.bar_profile`) of its clips whose bars are known."""
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    for clip in clips:
        phase = bar_phase(clip) if clip.paired else None
        if phase is not None and clip.genre is not None:
            found[clip.genre].append(metrics.bar_profile(joints_of(clip.poses, clip.translation), phase))
    return {genre: np.mean(profiles, axis=0) for genre, profiles in found.items()}


def bar_synchrony(joints: np.ndarray, phase: np.ndarray, reference: np.ndarray) -> dict[str, Any]:
    """How far a dance's speed, folded on the bar, goes with a reference profile: correlation of the dance as it is
    ("own"), and the mean of the same dance moved by j/12 of a bar, j = 1 ... 11 ("moved"); with the "profile" itself.

    Over a whole bar a profile's moved correlations nearly cancel: "moved" is about -own / 11, so a test of one against the other
    asks little more than whether "own" is above zero. Wrong music (`MUSIC`) is the harder comparison.
    """
    profile = metrics.bar_profile(joints, phase)
    moved = [
        metrics.profile_correlation(metrics.bar_profile(joints, (phase + part / BAR_PARTS) % 1), reference)
        for part in range(1, BAR_PARTS)
    ]
    own = metrics.profile_correlation(profile, reference)
    return {"own": own, "moved": float(np.mean(moved)), "profile": profile.tolist()}


def synchrony_tests(dances: Sequence[dict[str, Any]], measure: str) -> dict[str, Any] | None:
    """Sum up one measure of many dances: rows with `song` and `measure` ({"own", "moved"} or None where not known).

    Means, and whether the dances are better as they are than moved: over all dances, and over songs with the mean of a
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
        "dances": paired_test(pairs[:, 0], pairs[:, 1]),
        "songs": paired_test(means[:, 0], means[:, 1]),
    }


def against(right: Sequence[dict[str, Any]], wrong: Sequence[dict[str, Any]], measure: str) -> dict[str, Any] | None:
    """Whether dances to the right music have a higher `measure` ("own") than those to wrong music, paired by excerpt and seed.

    None where there is no such pair.
    """
    values = {(dance["excerpt"], dance["seed"]): dance[measure]["own"] for dance in wrong if dance.get(measure)}
    keys = [(dance["excerpt"], dance["seed"]) for dance in right]
    pairs = [(d[measure]["own"], values[k]) for d, k in zip(right, keys, strict=True) if d.get(measure) and k in values]
    return paired_test(*zip(*pairs, strict=True)) if pairs else None
