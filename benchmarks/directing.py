"""Is a dance danced as it was directed: plans, redone passages, held poses, loops, and what they cost.

    python benchmarks/directing.py --data PREPARED --classifier DIR [--model DIR] [--out FILE] [--only plan redo hold loop speed worst]

Songs are those of --splits that no training saw, one clip of each. What is measured of each:

- plan: three genres, a third of the dance each, from a different one in each song. Windows of --window seconds, one each second, from a
  second after a change to the next one: how many of them does the classifier take for their genre? Beside it the same windows of dances in
  one genre, and of captured ones. Steps: the farthest that a joint moves between two frames, within half a second of a change and elsewhere.
- redo: four seconds in the middle, of all of the body and of each half. Exact: whether everything else is the same to the last bit, codes
  too. Jerk at a join: of the third differences that reach over it, the largest; as their mean over joints, and of the joint that has most;
  over the 95 % quantile of the dance before it was redone. `anywhere` is the same at every code of that dance: what a place is like by itself.
- hold: a pose in the middle, a clip of 1.5 s, and a pose at the end, captured and of another genre: mean distance of the joints about
  the pelvis, turned to face alike. loop: the same of the first and the last frame, and the jerk over the seam.
- speed: processor time for a second of dance, of plans, redone passages and guidance, over plain generation of as much, in turn. Redone are
  four seconds and up to sixteen, so plain is a dance of as many; four once more with four candidates.
- worst: many plans to all songs: spins, jumps, frozen seconds, floating and sliding, of the worst dance, cleaned.

The JSON goes to --out, a table is printed.
"""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import make_parser, median, median_ratio

from megadance_hf import metrics
from megadance_hf.data.clip import Clip
from megadance_hf.data.prepared import read_info, read_prepared
from megadance_hf.evaluation.dances import same_track
from megadance_hf.modeling.kinematics_megadance import (
    axis_angle_to_matrix,
    forward_kinematics,
    rotation_heading,
    turn_matrix,
)
from megadance_hf.modeling.modeling_megadance_classifier import MegaDanceForGenreClassification, classifier_motion
from megadance_hf.models import DEFAULT_MODEL
from megadance_hf.motion.motion import Motion
from megadance_hf.pipeline import MusicToDancePipeline

KINDS = ("plan", "redo", "hold", "loop", "speed", "worst")
UNSEEN = ("validation", "new_song")  # splits whose songs no training sees
NEAR = 15  # frames before and after a change
WORST = (
    "spins",
    "largest_turn",
    "jumps",
    "largest_step",
    "frozen_share",
    "toe_median",
    "toe_90",
    "floating",
    "depth_below_floor",
)


def find_songs(data: str, splits: Sequence[str], count: int, genres: Sequence[str], frames: int) -> list[Clip]:
    """The first clip of each song, of the genres that the model knows, as long as is needed; all genres are among them."""
    songs: list[Clip] = []
    for clip in (clip for split in splits for clip in read_prepared(data, split)):
        known = clip.paired and clip.genre in genres and len(clip) >= frames
        if known and not any(same_song(clip, other) for other in songs):
            songs.append(clip)
    rank = {clip.id: sum(other.genre == clip.genre for other in songs[:index]) for index, clip in enumerate(songs)}
    songs.sort(key=lambda clip: rank[clip.id])
    return songs[:count]


def same_song(first: Clip, second: Clip) -> bool:
    return (first.song is not None and first.song == second.song) or same_track(first, second)


def song_of(clip: Clip, frames: int) -> dict[str, Any]:
    """Its first frames, with the rest of the song after them."""
    features = clip.input_features
    return {"input_features": features[:frames], "after": features[frames:], "ends": len(features) == frames}


# --- plans ---------------------------------------------------------------------------------------------------------------


def three_genres(genres: Sequence[str], number: int) -> list[str]:
    """Three different genres, in another order for each number."""
    order = np.random.default_rng(number).permutation(len(genres))[:3]
    return [genres[index] for index in np.roll(order, number)]


@torch.no_grad()
def recognised(
    classifier: MegaDanceForGenreClassification,
    poses: np.ndarray,
    path: np.ndarray,
    spans: Sequence[tuple[str, int, int]],
    window: int,
) -> list[tuple[str, str]]:
    """(genre asked for, genre found) of windows of so many frames, one each second, within spans (genre, first frame, end)."""
    found = []
    for genre, first, end in spans:
        starts = range(first, max(end - window, first) + 1, 30)
        pieces = []
        for start in starts:
            place = path[start : start + window] - path[start] * [1, 0, 1]
            pieces.append(
                classifier_motion(
                    *map(torch.from_numpy, (poses[start : start + window].reshape(-1, 24, 3), place.astype(np.float32)))
                )
            )
        logits = classifier(torch.stack(pieces)).logits
        found += [(genre, classifier.config.genres[index]) for index in logits.argmax(1).tolist()]
    return found


def measure_plans(
    pipe: Any, clips: Sequence[Clip], frames: int, classifier: Any, window: int, seeds: int
) -> dict[str, Any]:
    changes = "bar" if pipe.model.config.rhythm_size else "code"
    third, rows, answers = frames / 3 / 30, [], {"plan": [], "alone": [], "captured": []}
    for number, clip in enumerate(clips):
        song = song_of(clip, frames)
        piece = (clip.poses.reshape(-1, 24, 3)[:frames], clip.translation[:frames])
        answers["captured"] += recognised(classifier, *piece, [(clip.genre, 0, frames)], window)
        for seed in range(seeds):
            names = three_genres(pipe.genres, number + seed)
            dance = pipe(
                song, plan=[(name, third * place) for place, name in enumerate(names)], changes=changes, seed=seed
            )
            begins = [round(second * 30) for _, second in dance.metadata["plan"]]
            ends = [*begins[1:], frames]
            spans = [
                (name, begin + 30 * (begin > 0), end) for name, begin, end in zip(names, begins, ends, strict=True)
            ]
            found = recognised(classifier, dance.poses, dance.translation, spans, window)
            answers["plan"] += found
            # what the classifier makes of these genres to this song, without a change
            for name, begin, end in spans:
                alone = pipe(song, name, seed=seed)
                answers["alone"] += recognised(classifier, alone.poses, alone.translation, [(name, begin, end)], window)
            steps = np.linalg.norm(np.diff(dance.joints(), axis=0), axis=-1).max(-1)
            near = np.zeros(len(steps), bool)
            for begin in begins[1:]:
                near[max(0, begin - NEAR) : begin + NEAR] = True
            rows.append(
                {
                    "song": clip.id,
                    "seed": seed,
                    "plan": dance.metadata["plan"],
                    "recognised": share(found),
                    "largest_step": {"at_changes": float(steps[near].max()), "elsewhere": float(steps[~near].max())},
                }
            )
    right = {f"recognised_{name}": share(pairs) for name, pairs in answers.items()}
    by_genre = {name: share([pair for pair in answers["plan"] if pair[0] == name]) for name in pipe.genres}
    larger = sum(row["largest_step"]["at_changes"] > row["largest_step"]["elsewhere"] for row in rows)
    return {
        **right,
        "windows": len(answers["plan"]),
        "by_genre": by_genre,
        "largest_step": {
            where: max(row["largest_step"][where] for row in rows) for where in ("at_changes", "elsewhere")
        },
        "dances_with_larger_steps_at_changes": larger,
        "dances": rows,
    }


def share(pairs: Sequence[tuple[str, str]]) -> float:
    return float(np.mean([wanted == found for wanted, found in pairs])) if pairs else float("nan")


# --- redone passages ---------------------------------------------------------------------------------------------------------


def jerks(joints: np.ndarray) -> np.ndarray:
    """m/s^3 [T - 3, 2]: mean over joints, and of the joint that has most."""
    sizes = np.linalg.norm(np.diff(joints, n=3, axis=0), axis=-1) * 27000
    return np.stack((sizes.mean(-1), sizes.max(-1)), 1)


def measure_redo(pipe: Any, clips: Sequence[Clip], frames: int, seeds: int, candidates: int) -> dict[str, Any]:
    rows, middle = [], frames / 60
    for clip in clips:
        song = song_of(clip, frames)
        for seed in range(seeds):
            dance = pipe(song, clip.genre, seed=seed)
            own = jerks(dance.joints())
            usual = np.quantile(own, 0.95, axis=0)
            places = np.stack([own[frame - 3 : frame].max(0) for frame in range(24, frames - 24, 8)]) / usual
            for part in ("all", "upper", "lower"):
                redone = pipe.redo(dance, song, middle - 2, middle + 2, part, candidates=candidates, seed=seed + 1000)
                begin, end = (round(redone.metadata["redone"][-1][name] * 30) for name in ("start", "end"))
                joints = redone.joints()
                found, inside = jerks(joints), slice(begin, end)
                joins = np.stack([found[frame - 3 : frame].max(0) for frame in (begin, end)]) / usual
                before = np.stack([own[frame - 3 : frame].max(0) for frame in (begin, end)]) / usual
                row = {"song": clip.id, "seed": seed, "part": part, "exact": is_exact(dance, redone, begin, end, part)}
                row |= {
                    "joins": joins.tolist(),
                    "there_before": before.tolist(),
                    "anywhere_above": (places > 1).mean(0).tolist(),
                }
                row["zones"] = (np.quantile(found[begin - 3 : begin + 18], 0.95, axis=0) / usual).tolist()
                row["largest_step"] = [
                    metrics.largest_step(one) for one in (joints[begin - 2 : end + 2], dance.joints())
                ]
                toes = [metrics.toe_speeds(one) for one in (joints[inside], dance.joints())]
                row["toe_90"] = [one[1] for one in toes]
                row["jumps"], row["spins"] = (
                    metrics.count_jumps(joints[inside]),
                    metrics.count_spins(redone.poses[inside]),
                )
                row["largest_turn"] = metrics.largest_turn(redone.poses[inside])
                rows.append(row)
    report: dict[str, Any] = {"exact": all(row["exact"] for row in rows)}
    for part in ("all", "upper", "lower"):
        of_part = [row for row in rows if row["part"] == part]
        joins = np.array([row["joins"] for row in of_part])  # dances, ends, mean and largest
        before = np.array([row["there_before"] for row in of_part])
        report[part] = {
            "jerk_median": np.median(joins, axis=(0, 1)).round(3).tolist(),
            "jerk_largest": joins.max((0, 1)).round(3).tolist(),
            "share_above_95": (joins > 1).mean((0, 1)).round(3).tolist(),
            "share_above_95_and_rougher_than_before": ((joins > 1) & (joins > before)).mean((0, 1)).round(3).tolist(),
            "anywhere_above_95": np.mean([row["anywhere_above"] for row in of_part], axis=0).round(3).tolist(),
            "toe_90": np.mean([row["toe_90"] for row in of_part], axis=0).round(3).tolist(),
            "spins": sum(row["spins"] for row in of_part),
            "jumps": sum(row["jumps"] for row in of_part),
        }
    return {**report, "dances": rows}


def is_exact(dance: Motion, redone: Motion, begin: int, end: int, part: str) -> bool:
    """Whether all that was not asked for is the same to the last bit: poses, path and codes."""
    from megadance_hf.modeling.kinematics_megadance import BODY_PARTS

    poses, path = dance.poses.copy(), dance.translation.copy()
    new = [joint for name in BODY_PARTS if part in ("all", name) for joint in BODY_PARTS[name]]
    poses[begin:end, new] = redone.poses[begin:end, new]
    if part != "upper":
        path[begin:end] = redone.translation[begin:end]
    same = np.array_equal(poses, redone.poses) and np.array_equal(path, redone.translation)
    for name in BODY_PARTS:
        codes, others = (list(one.metadata["codes"][name]) for one in (dance, redone))
        if part in ("all", name):
            codes[begin // 8 : -(-end // 8)] = others[begin // 8 : -(-end // 8)]
        same &= codes == others
    return same


# --- poses and loops -----------------------------------------------------------------------------------------------------------


def about_the_pelvis(poses: np.ndarray) -> np.ndarray:
    """Joints [F, 24, 3] about the pelvis, of poses that face +Z in the first frame."""
    rotations = axis_angle_to_matrix(torch.from_numpy(np.ascontiguousarray(poses)).reshape(-1, 24, 3))
    rotations[:, 0] = turn_matrix(-rotation_heading(rotations[0, 0])) @ rotations[:, 0]
    return forward_kinematics(rotations, torch.zeros(len(rotations), 3)).numpy()


def pose_error(poses: np.ndarray, goal: np.ndarray) -> float:
    """Mean distance of the joints, centimetres."""
    return float(np.linalg.norm(about_the_pelvis(poses) - about_the_pelvis(goal), axis=-1).mean() * 100)


def measure_hold(pipe: Any, clips: Sequence[Clip], frames: int, seeds: int) -> dict[str, Any]:
    rows = []
    for number, clip in enumerate(clips):
        song, captured = song_of(clip, frames), clips[(number + 1) % len(clips)].poses.reshape(-1, 24, 3)
        for seed in range(seeds):
            at = (30 + 97 * seed) % (len(captured) - 80)
            pose, held, last = captured[at], captured[at + 20 : at + 65], captured[at + 75]
            first, second = (frames // 90 * 30 * place for place in (1, 2))
            goals: dict[float | str, Any] = {first / 30: pose, "end": last}
            goals[second / 30] = {"poses": held, "translation": np.zeros((45, 3), np.float32)}
            dance = pipe(song, clip.genre, seed=seed, hold=goals, candidates=4)
            plain = jerks(pipe(song, clip.genre, seed=seed).joints())
            found = jerks(dance.joints())
            errors = {
                "pose": pose_error(dance.poses[first : first + 1], pose),
                "clip": pose_error(dance.poses[second : second + 45], held),
                "end": pose_error(dance.poses[-1:], last),
            }
            near = found[first - 21 : first + 19]
            jerk = (np.quantile(near, 0.95, axis=0) / np.quantile(plain, 0.95, axis=0)).round(3).tolist()
            rows.append({"song": clip.id, "seed": seed, "errors_cm": errors, "jerk_near_over_95": jerk})
    return {
        "largest_error_cm": {name: max(row["errors_cm"][name] for row in rows) for name in ("pose", "clip", "end")},
        "dances": rows,
    }


def measure_loops(pipe: Any, clips: Sequence[Clip], frames: int, seeds: int) -> dict[str, Any]:
    rows = []
    for clip in clips:
        for seed in range(seeds):
            dance = pipe(song_of(clip, frames), clip.genre, seed=seed, loop=True)
            joints = dance.joints()
            seam = jerks(np.concatenate((joints[-4:], joints[1:4]))).max(0) / np.quantile(jerks(joints), 0.95, axis=0)
            apart = float(np.linalg.norm(joints[-1] - joints[0], axis=-1).mean() * 100)
            rows.append(
                {"song": clip.id, "seed": seed, "apart_cm": apart, "jerk_at_seam_over_95": seam.round(3).tolist()}
            )
    seams = np.array([row["jerk_at_seam_over_95"] for row in rows])
    largest = {
        "largest_distance_cm": max(row["apart_cm"] for row in rows),
        "jerk_at_seam_over_95": seams.max(0).tolist(),
    }
    return {**largest, "jerk_at_seam_median": np.median(seams, axis=0).tolist(), "dances": rows}


# --- time ------------------------------------------------------------------------------------------------------------------------


def measure_speed(pipe: Any, clip: Clip, frames: int, runs: int) -> dict[str, Any]:
    whole, short = song_of(clip, frames), song_of(clip, 120)
    third, middle, genre = frames / 3 / 30, frames / 60, clip.genre
    names = three_genres(pipe.genres, pipe.genres.index(genre))
    dance = pipe(whole, genre, seed=0)
    plan = [(name, third * place) for place, name in enumerate(names)]
    around, half = (
        (middle - 2, middle + 2),
        min(8.0, middle - 2),
    )  # seconds of a longer passage, on both sides of the middle
    cases: dict[str, tuple[Callable[[int], Any], float, str]] = {
        "plain": (lambda seed: pipe(whole, genre, seed=seed), frames / 30, ""),
        "plan": (lambda seed: pipe(whole, plan=plan, seed=seed), frames / 30, "plain"),
        "unguided": (lambda seed: pipe(whole, genre, seed=seed, guidance_scale=1.0), frames / 30, ""),
        "guidance": (lambda seed: pipe(whole, genre, seed=seed, guidance_scale=2.0), frames / 30, "unguided"),
        "plain_short": (lambda seed: pipe(short, genre, seed=seed), 4.0, ""),
        "redo": (lambda seed: pipe.redo(dance, whole, *around, candidates=1, seed=seed), 4.0, "plain_short"),
        "plain_long": (lambda seed: pipe(song_of(clip, round(60 * half)), genre, seed=seed), 2 * half, ""),
        "redo_long": (
            lambda seed: pipe.redo(dance, whole, middle - half, middle + half, candidates=1, seed=seed),
            2 * half,
            "plain_long",
        ),
        "plain_short_4": (lambda seed: pipe(short, genre, seed=seed, candidates=4), 4.0, ""),
        "redo_4": (lambda seed: pipe.redo(dance, whole, *around, candidates=4, seed=seed), 4.0, "plain_short_4"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for run in range(runs + 1):  # the first warms up
        for name, (make, length, _) in cases.items():
            began = time.process_time()
            make(run)
            if run:
                seconds[name].append((time.process_time() - began) / length)
    report: dict[str, Any] = {name: median(values, 4) for name, values in seconds.items()}
    return report | {
        f"{name}_over": median_ratio(seconds[name], seconds[over], 3) for name, (_, _, over) in cases.items() if over
    }


# --- the worst of many -----------------------------------------------------------------------------------------------------------


def numbers_of(dance: Motion) -> dict[str, float]:
    joints = dance.joints()
    toes = metrics.toe_speeds(joints)
    lowest = joints[..., 1].min(-1)
    return {
        "spins": metrics.count_spins(dance.poses),
        "largest_turn": metrics.largest_turn(dance.poses),
        "jumps": metrics.count_jumps(joints),
        "largest_step": metrics.largest_step(joints),
        "frozen_share": metrics.frozen_share(joints),
        "toe_median": toes[0],
        "toe_90": toes[1],
        "floating": float((lowest > 0.1).mean()),
        "depth_below_floor": metrics.depth_below_floor(joints),
    }


def measure_worst(pipe: Any, clips: Sequence[Clip], frames: int, plans: int) -> dict[str, Any]:
    rows = []
    for number in range(plans):
        clip = clips[number % len(clips)]
        names = three_genres(pipe.genres, number)
        plan = [(name, frames / 90 * place) for place, name in enumerate(names)]
        song = song_of(clip, frames)
        dance, plain = pipe(song, plan=plan, seed=100 + number), pipe(song, clip.genre, seed=100 + number)
        changes = [round(second * 30) for _, second in dance.metadata["plan"]][1:]
        speed = np.linalg.norm(np.diff(dance.joints(), axis=0), axis=-1).mean(1) * 30
        slowest = min(speed[change - NEAR : change + 30].mean() for change in changes) if changes else None
        row = {"song": clip.id, "plan": dance.metadata["plan"], **numbers_of(dance)}
        rows.append(row | {"slowest_at_changes": slowest, "plain": numbers_of(plain)})
    worst = {name: max(row[name] for row in rows) for name in WORST}
    usual = {name: max(row["plain"][name] for row in rows) for name in WORST}
    slowest = [row["slowest_at_changes"] for row in rows if row["slowest_at_changes"] is not None]
    return {
        "plans": plans,
        "worst": worst,
        "worst_plain": usual,
        "slowest_at_changes": min(slowest, default=None),
        "dances": rows,
    }


# --- the report ------------------------------------------------------------------------------------------------------------------


def table(report: dict[str, Any]) -> str:
    lines = [("", "")]
    if plan := report.get("plan"):
        shares = ", ".join(f"{name} {found:.0%}" for name, found in plan["by_genre"].items())
        lines.append(("windows of a plan recognised", f"{plan['recognised_plan']:.1%} of {plan['windows']} ({shares})"))
        lines.append(
            ("one genre alone, captured", f"{plan['recognised_alone']:.1%}, {plan['recognised_captured']:.1%}")
        )
        lines.append(
            (
                "dances with larger steps at changes",
                f"{plan['dances_with_larger_steps_at_changes']} of {len(plan['dances'])}",
            )
        )
        steps = plan["largest_step"]
        lines.append(
            ("largest step of a joint at changes, elsewhere, m", f"{steps['at_changes']:.3f}, {steps['elsewhere']:.3f}")
        )
    if redo := report.get("redo"):
        lines.append(("all else is the same to the last bit", str(redo["exact"])))
        for part in ("all", "upper", "lower"):
            found = redo[part]
            text = "mean {:.2f} (largest {:.2f}), one joint {:.2f} ({:.2f})".format(
                *(x for pair in zip(found["jerk_median"], found["jerk_largest"], strict=True) for x in pair)
            )
            lines.append((f"jerk at joins over the dance's 95 %, {part}", text))
            text = "{:.0%}, {:.0%}; anywhere in the dance {:.0%}, {:.0%}".format(
                *found["share_above_95"], *found["anywhere_above_95"]
            )
            lines.append(("... above it: mean, one joint", text))
    if hold := report.get("hold"):
        lines.append(
            ("held poses, largest error in cm", ", ".join(f"{k} {v:.2f}" for k, v in hold["largest_error_cm"].items()))
        )
    if loop := report.get("loop"):
        text = "{:.2f}; jerk over it, median {:.2f} and {:.2f}, largest {:.2f} and {:.2f} of the 95 %"
        lines.append(
            (
                "loop, ends apart in cm",
                text.format(loop["largest_distance_cm"], *loop["jerk_at_seam_median"], *loop["jerk_at_seam_over_95"]),
            )
        )
    if speed := report.get("speed"):
        for name in ("plan", "redo", "redo_long", "redo_4", "guidance"):
            lines.append(
                (f"processor time, {name} over without", f"{speed[f'{name}_over']:.2f} ({speed[name]:.4f} s a second)")
            )
    if worst := report.get("worst"):
        for name in WORST:
            lines.append(
                (
                    f"worst of {worst['plans']} plans: {name}",
                    f"{worst['worst'][name]:.3g} (plain {worst['worst_plain'][name]:.3g})",
                )
            )
        lines.append(("slowest at a change, m/s", f"{worst['slowest_at_changes']:.2f}"))
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:{width}}  {text}" for name, text in lines)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = make_parser(__doc__, runs=7, threads=1)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="folder or Hub id (default: the bundled model)")
    parser.add_argument("--data", required=True, help="prepared data set")
    parser.add_argument("--classifier", help="folder of a genre classifier, for plans")
    parser.add_argument("--splits", nargs="+", help="default: validation and new_song, if it is there")
    parser.add_argument("--songs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=36.0, help="of each song (default 36)")
    parser.add_argument("--window", type=float, default=4.0, help="seconds that the classifier sees (default 4)")
    parser.add_argument("--seeds", type=int, default=2, help="dances to each song (default 2)")
    parser.add_argument("--candidates", type=int, default=4, help="of redone passages (default 4)")
    parser.add_argument("--plans", type=int, default=20, help="of which the worst is taken (default 20)")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--out", help="file for the JSON")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    pipe = MusicToDancePipeline.from_pretrained(arguments.model)
    frames = round(arguments.seconds * 30) // 8 * 8
    splits = arguments.splits or [name for name in UNSEEN if name in read_info(arguments.data)["splits"]]
    clips = find_songs(arguments.data, splits, arguments.songs, pipe.genres, frames)
    if not clips:
        parser.error(f"--data {arguments.data}: no song of {arguments.seconds:g} s in {', '.join(splits)}")
    if "plan" in arguments.only and not arguments.classifier:
        parser.error("--classifier: plans are recognised by one: give its folder, or leave plan out of --only")
    report: dict[str, Any] = {
        "model": str(arguments.model),
        "songs": [clip.id for clip in clips],
        "seconds": frames / 30,
    }
    for kind in arguments.only:
        if kind == "plan":
            classifier = MegaDanceForGenreClassification.from_pretrained(arguments.classifier).eval()
            window = round(arguments.window * 30)
            report[kind] = measure_plans(pipe, clips, frames, classifier, window, arguments.seeds)
        elif kind == "redo":
            report[kind] = measure_redo(pipe, clips, frames, arguments.seeds, arguments.candidates)
        elif kind == "hold":
            report[kind] = measure_hold(pipe, clips, frames, arguments.seeds)
        elif kind == "loop":
            report[kind] = measure_loops(pipe, clips, frames, arguments.seeds)
        elif kind == "speed":
            report[kind] = measure_speed(pipe, clips[0], frames, arguments.runs)
        else:
            report[kind] = measure_worst(pipe, clips, frames, arguments.plans)
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(report, indent=1, default=float) + "\n", encoding="utf-8")
    print(table(report))
    return report


if __name__ == "__main__":
    main()
