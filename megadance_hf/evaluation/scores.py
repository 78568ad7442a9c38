"""The numbers of an evaluation: all of one dance, FID and diversity of many, how often their genre is recognised, means.

Where the released code and the paper leave things open: features of all three kinds are normalised by the reference set, as
the diversities of the paper's ground truth show (10.98, 7.45 and 6.07 lie just below the square root of twice 72, 32 and 20
columns, which is what normalised features give). Features that do not vary in the reference are left out and counted: the
released code divides their differences by 1e-10, which makes any FID astronomical when test songs are few.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from megadance_hf import metrics
from megadance_hf.data.clip import Clip
from megadance_hf.data.rhythm import bar_phase
from megadance_hf.metrics.dance_features import geometric_features, kinetic_features
from megadance_hf.modeling.kinematics_megadance import ground_translation
from megadance_hf.modeling.modeling_megadance_classifier import MegaDanceForGenreClassification, classifier_motion
from megadance_hf.motion.motion import Motion

from . import synchrony
from .dances import DANCES_AT_ONCE, Dance, Excerpt
from .reconstruction import KnownMotion

# Below this a feature does not vary within the reference set: kinetic ones are m^2/s^2 and m/s^2, geometric ones shares.
SMALLEST_SPREAD = 1e-6
NUMBERS = (
    "foot_skating_ratio foot_speed_on_floor physical_foot_contact frozen_share mean_speed jerk largest_step bas_over_music "
    "bas_over_motion bas_over_music_known_beats bas_over_motion_known_beats pelvis_bob spins largest_turn jumps toe_median toe_90 "
    "depth_below_floor landings_on_beat landings_moved known_run new_joins in_units"
).split()
# The dance of many that is the worst in a number: the largest, or the smallest of those with so many landings.
WORST = (
    "spins",
    "largest_turn",
    "jumps",
    "largest_step",
    "toe_median",
    "toe_90",
    "depth_below_floor",
    "frozen_share",
    "known_run",
)
FEWEST_LANDINGS = 10
# What is compared with a genre's truth.
OF_A_GENRE = (
    "mean_speed",
    "pelvis_bob",
    "jerk",
    "toe_median",
    "toe_90",
    "landings_on_beat",
    "landings_moved",
    "bas_over_music",
    "frozen_share",
    "known_run",
    "new_joins",
)
MEASURES = ("beat_over_music", "beat_over_motion", "landings", "bar", "bar_of_the_song")

# --- one dance -------------------------------------------------------------------------------------------------------------


def physical_numbers(dance: Dance) -> dict[str, float]:
    """What no distribution shows. Feet are judged with the lowest joint put on the floor in every row, as in generated dances:
    data sets differ in where their floor is."""
    joints = dance.joints
    floor = ground_translation(torch.from_numpy(dance.poses), torch.from_numpy(dance.translation)).numpy()
    standing = joints + (floor - dance.translation)[:, None]
    feet = (metrics.foot_skating_ratio, metrics.foot_speed_on_floor, metrics.physical_foot_contact)
    body = (metrics.frozen_share, metrics.mean_speed, metrics.jerk, metrics.largest_step, metrics.pelvis_bob)
    numbers = {m.__name__: m(standing) for m in feet} | {m.__name__: m(joints) for m in body}
    numbers["toe_median"], numbers["toe_90"] = metrics.toe_speeds(standing)
    return numbers | {
        "depth_below_floor": metrics.depth_below_floor(joints),
        "spins": metrics.count_spins(dance.poses),
        "largest_turn": metrics.largest_turn(dance.poses),
        "jumps": metrics.count_jumps(joints),
    }


def measure_dance(
    dance: Dance,
    excerpt: Excerpt,
    profiles: Mapping[str, np.ndarray],
    known: KnownMotion | None = None,
    decoded: Dance | None = None,
) -> dict[str, Any]:
    """All numbers of one dance: physical, beat alignment with the features' beats and the data set's, landings, beat and bar, novelty.

    Args:
        profiles: for each genre the mean bar profile of its training clips (`synchrony.training_profiles`).
        known: training motion to look for in the dance.
        decoded: the dance before the clean-up, to look for it there instead: training motion is not cleaned up either.
    """
    clip = excerpt.clip
    beats, grid = synchrony.feature_beats(clip), synchrony.known_beats(clip)
    row: dict[str, Any] = {"song": excerpt.song.id, "excerpt": clip.id, "seed": dance.seed, "genre": dance.genre}
    row |= physical_numbers(dance)
    for over in ("music", "motion"):
        row[f"bas_over_{over}"] = metrics.beat_alignment(dance.joints, beats, over)
        row[f"bas_over_{over}_known_beats"] = None if grid is None else metrics.beat_alignment(dance.joints, grid, over)
    beats = beats if grid is None else grid
    in_time = metrics.beat_synchrony(dance.joints, beats)
    for over in ("music", "motion"):
        row[f"beat_over_{over}"] = None if in_time is None else in_time[over]
    row["landings"] = metrics.landing_synchrony(dance.joints, beats)
    joints = dance.joints if decoded is None else decoded.joints
    row["known_run"] = None if known is None else known.clips.longest_run(joints)
    units = None if known is None else known.units.get(dance.genre or "")
    row["joins"] = None if units is None else units.joins(joints)
    row["in_units"] = None if row["joins"] is None else row["joins"]["in_units"]
    phase = bar_phase(clip)
    row["bar"] = row["bar_of_the_song"] = None
    if phase is not None and dance.genre in (None, clip.genre):  # a forced genre has another bar
        if clip.genre in profiles:
            row["bar"] = metrics.bar_synchrony(dance.joints, phase, profiles[clip.genre])
        real = metrics.bar_profile(Motion(clip.poses, clip.translation).joints(), phase)
        row["bar_of_the_song"] = metrics.bar_synchrony(dance.joints, phase, real)
    return row


def without_profiles(row: Mapping[str, Any]) -> dict[str, Any]:
    """A dance's numbers without its bar profiles, which are long."""
    short = {n: None if row[n] is None else {k: v for k, v in row[n].items() if k != "profile"} for n in MEASURES}
    return {**row, **short}


# --- distributions ---------------------------------------------------------------------------------------------------------


class DanceFeatures:
    """Feature rows of dances: kinetic ("k"), geometric ("g") and, with a genre classifier, style ("s": its logits)."""

    def __init__(self, classifier: MegaDanceForGenreClassification | None):
        self.classifier = classifier
        self.kinds = ("k", "g", "s") if classifier is not None else ("k", "g")

    @torch.no_grad()
    def __call__(self, dances: Sequence[Dance]) -> dict[str, np.ndarray]:
        """{"k": (N, 72), "g": (N, 32), "s": (N, outputs)}; dances of one length are computed together."""
        lengths: dict[int, list[int]] = defaultdict(list)
        for index, dance in enumerate(dances):
            lengths[len(dance.joints)].append(index)
        features: dict[str, list[Any]] = {name: [None] * len(dances) for name in self.kinds}
        for same in lengths.values():
            for first in range(0, len(same), DANCES_AT_ONCE):
                part = same[first : first + DANCES_AT_ONCE]
                joints = np.stack([dances[index].joints for index in part])
                rows = {"k": kinetic_features(joints), "g": geometric_features(joints)}
                if self.classifier is not None:
                    rows["s"] = self._style([dances[index] for index in part])
                for name, values in rows.items():
                    for index, value in zip(part, values, strict=True):
                        features[name][index] = value
        return {name: np.stack(values) for name, values in features.items()}

    def _style(self, dances: Sequence[Dance]) -> np.ndarray:
        poses = torch.from_numpy(np.stack([dance.poses for dance in dances]))
        path = np.stack([dance.translation for dance in dances])
        path = path - path[:, :1] * [1, 0, 1]  # as in training: it begins at x = z = 0
        motion = classifier_motion(poses, torch.from_numpy(path.astype(np.float32)))
        return self.classifier(motion.to(self.classifier.device)).logits.float().cpu().numpy()


@dataclass
class ReferenceSet:
    """Feature rows that FIDs compare with and by which features are normalised."""

    rows: dict[str, np.ndarray]

    def __post_init__(self) -> None:
        self.varies = {name: rows.std(0) > SMALLEST_SPREAD for name, rows in self.rows.items()}
        self.normal = {name: self.normalize(name, rows) for name, rows in self.rows.items()}

    def normalize(self, name: str, rows: np.ndarray) -> np.ndarray:
        varies = self.varies[name]
        if len(self.rows[name]) < 2:
            return rows
        return metrics.normalize_features(rows[:, varies], self.rows[name][:, varies])

    def scores(self, features: Mapping[str, np.ndarray], seeds: np.ndarray) -> dict[str, float | None]:
        """FID and DIV of each kind, computed per seed (both depend on the number of dances) and averaged over seeds."""
        result: dict[str, float | None] = {}
        for name, rows in features.items():
            normal = self.normalize(name, rows)
            parts = [normal[seeds == seed] for seed in np.unique(seeds)]
            enough = len(self.normal[name]) > 1 and self.varies[name].any() and min(map(len, parts)) > 1
            fids = [metrics.frechet_distance(part, self.normal[name]) for part in parts] if enough else []
            result[f"FID_{name}"] = float(np.mean(fids)) if enough else None
            result[f"FID_{name}_spread"] = float(np.std(fids)) if enough else None
            result[f"DIV_{name}"] = float(np.mean([metrics.diversity(part) for part in parts])) if enough else None
        return result


# --- genres (Table 3) ------------------------------------------------------------------------------------------------------


def genre_report(
    rows: Mapping[str, list[Dance]],
    features: Mapping[str, Mapping[str, np.ndarray]],
    forced: Mapping[str, list[Dance]],
    features_of: DanceFeatures,
    genres: Sequence[str],
) -> dict[str, Any]:
    """ACC and F1 of each row: with the right genre, with wrong ones, and over both as in the paper; confusion matrices.

    Args:
        rows, features: the dances to the right genre and their features.
        forced: dances to wrong genres.
        genres: that the classifier knows, in its order.
    """
    scores: dict[str, dict[str, float]] = {}
    confusions: dict[str, list[list[int]]] = {}
    for name in ("ground_truth", "nearest_music", "frozen_pose", "tokenizer", *forced):
        if not rows.get(name):
            continue
        right = (rows[name], features[name]["s"])
        parts = {"right": [right]}
        if forced.get(name):
            wrong = (forced[name], features_of(forced[name])["s"])
            parts |= {"forced": [wrong], "both": [right, wrong]}
        scores[name] = {}
        for part, groups in parts.items():
            values, confusion = _genre_scores(groups, genres)
            scores[name] |= {f"{key}_{part}": value for key, value in values.items()}
            confusions[f"{name}, {part}"] = confusion.tolist()
        for key in ("ACC", "F1"):
            scores[name][key] = scores[name].get(f"{key}_both", scores[name][f"{key}_right"])
    return {"names": list(genres), "scores": scores, "confusion": confusions}


def genre_recognised(dances: Sequence[Dance], style: np.ndarray, genres: Sequence[str]) -> float:
    """Share of dances whose genre is recognised, by the style features of a classifier that knows `genres`."""
    return float(
        np.mean([genres.index(dance.genre) == seen for dance, seen in zip(dances, style.argmax(1), strict=True)])
    )


def _genre_scores(
    groups: Sequence[tuple[Sequence[Dance], np.ndarray]], genres: Sequence[str]
) -> tuple[dict[str, float], np.ndarray]:
    """ACC and F1 in percent, the mean over seeds, and the confusion (genres asked for, genres recognised or none of them)."""
    confusion = np.zeros((len(genres), len(genres) + 1), dtype=int)
    answers: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for dances, style in groups:
        for dance, recognised in zip(dances, style.argmax(1), strict=True):
            wanted = genres.index(dance.genre)
            answers[dance.seed].append((int(recognised), wanted))
            confusion[wanted, min(int(recognised), len(genres))] += 1
    pairs = [tuple(zip(*found, strict=True)) for found in answers.values()]
    scores = {
        "ACC": 100 * float(np.mean([metrics.genre_accuracy(*pair) for pair in pairs])),
        "F1": 100 * float(np.mean([metrics.genre_f1(*pair) for pair in pairs])),
    }
    return scores, confusion


# --- means over dances -----------------------------------------------------------------------------------------------------


def summarize(rows: Sequence[dict[str, Any]], scores: Mapping[str, float | None]) -> dict[str, Any]:
    """Means over the numbers of many dances (`measure_dance`), with their FID and DIV."""
    return {
        **summarize_version(rows, scores),
        "synchrony": {measure: synchrony.synchrony_tests(rows, measure) for measure in MEASURES},
    }


def summarize_version(rows: Sequence[dict[str, Any]], scores: Mapping[str, float | None]) -> dict[str, Any]:
    """As `summarize`, without the tests of synchrony: what the same dances are like before or after the clean-up."""
    return {
        "dances": len(rows),
        **scores,
        "BAS": _mean(rows, "bas_over_music"),
        **_means(rows, NUMBERS),
        "worst": _worst(rows),
        "dances_with": _dances_with(rows),
        "joins": sum(row["joins"]["joins"] for row in rows if row.get("joins") is not None),
        "by_genre": {genre: _genre_summary(rows, genre) for genre in sorted({row["genre"] for row in rows})},
    }


def _genre_summary(rows: Sequence[dict[str, Any]], genre: str) -> dict[str, Any]:
    own = [row for row in rows if row["genre"] == genre]
    bars = [row["bar"]["own"] for row in own if row.get("bar") is not None]
    return {
        "dances": len(own),
        "bar": float(np.mean(bars)) if bars else None,
        **_means(own, OF_A_GENRE),
        "worst": _worst(own),
        "dances_with": _dances_with(own),
    }


def _dances_with(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Number of dances with a spin, and with a jump."""
    return {name: sum(row[name] > 0 for row in rows) for name in ("spins", "jumps")}


def genre_truth(
    rows: Sequence[dict[str, Any]], others: Sequence[Sequence[Clip]], genres: Sequence[str], length: int
) -> dict[str, dict[str, Any]]:
    """What captured dances of each genre are like: those of the excerpts, or of other clips where a genre has none, such as one without music.

    Args:
        rows: numbers of the excerpts' real dances.
        others: sets of clips whose first `length` frames serve for the other genres; the first set that has the genre is taken. A genre
            without any is left out.
    """
    found = {genre: _genre_summary(rows, genre) for genre in genres if any(row["genre"] == genre for row in rows)}
    for genre in (genre for genre in genres if genre not in found):
        clips = next((own for found_in in others if (own := [c for c in found_in if c.genre == genre])), [])
        dances = [Dance(-1, clip.poses[:length], clip.translation[:length], genre) for clip in clips]
        if dances:
            found[genre] = _genre_summary([physical_numbers(dance) | {"genre": genre} for dance in dances], genre)
    return found


def _means(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, float | None]:
    """Means over dances; of landings and joins over all of all dances, since some dances have few."""
    landings = [row["landings"] for row in rows if row.get("landings") is not None]
    weights = [found["landings"] for found in landings]
    joins = [row["joins"] for row in rows if row.get("joins") is not None]
    count = sum(found["joins"] for found in joins)
    means = {name: _mean(rows, name) for name in names if not name.startswith("landings_")}
    if "new_joins" in names:
        means["new_joins"] = sum(found["new"] for found in joins) / count if count else None
    for name, key in (("landings_on_beat", "own"), ("landings_moved", "moved")):
        if name in names:
            means[name] = float(np.average([f[key] for f in landings], weights=weights)) if landings else None
    return {name: means[name] for name in names}


def _worst(rows: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """The worst of many dances in each number."""
    values = {name: [row[name] for row in rows if row.get(name) is not None] for name in WORST}
    many = [row["landings"] for row in rows if row.get("landings") is not None]
    shares = [found["own"] for found in many if found["landings"] >= FEWEST_LANDINGS]
    worst = {name: float(max(found)) if found else None for name, found in values.items()}
    return worst | {"landings_on_beat": min(shares, default=None)}


def codes_in_use(dances: Sequence[Dance], training: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, float] | None:
    """Which share of the codes of training motion the dances use, of the upper and the lower body; None where they have no codes.

    Args:
        training: codes of the two of each training clip.
    """
    used = [dance.codes for dance in dances if dance.codes is not None]
    if not used or not training:
        return None
    shares = {}
    for stream, name in enumerate(("upper", "lower")):
        known, found = (np.unique(np.concatenate([codes[stream] for codes in group])) for group in (training, used))
        shares[name] = len(np.intersect1d(known, found)) / len(known)
    return shares


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [row[name] for row in rows if row.get(name) is not None]
    return float(np.mean(values)) if values else None


def mean_profiles(
    measured: Mapping[str, list[dict[str, Any]]], excerpts: Sequence[Excerpt], profiles: Mapping[str, np.ndarray]
) -> dict[str, dict[str, list[float]]]:
    """For each genre of the songs the mean bar profile of its training clips, and of each row's dances."""
    genre_of = {item.clip.id: item.clip.genre for item in excerpts}
    result = {}
    for genre in sorted(set(genre_of.values()) & set(profiles)):
        means = {"training": profiles[genre].tolist()}
        for name, rows in measured.items():
            own = [row["bar"]["profile"] for row in rows if row["bar"] and genre_of[row["excerpt"]] == genre]
            if own:
                means[name] = np.mean(own, axis=0).tolist()
        result[genre] = means
    return result
