"""What came out of a closed study: whose answers count, the user-study part of the paper's table 1, and what stands behind it.

results = report("my_study", "my_study/report")     # report.md, report.json, means.png, ratings.png
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from megadance_hf.modeling.files_megadance import all_or_none

from . import statistics
from .answers import Answer, Answers
from .design import DISTORTIONS, SCALE, Study, StudyError

REASONS = ("catch trials", "too fast", "not played")
WORDS = ("Terrible", "Bad", "Fair", "Good", "Great")
# Colours that are told apart by everybody, from bad to good.
COLOURS = ("#b2182b", "#ef8a62", "#d9d9d9", "#67a9cf", "#2166ac")


# --- exclusions ------------------------------------------------------------------------------------------------------


def catch_score(study: Study, answers: Sequence[Answer]) -> float:
    """How well a rater tells the reference from its distorted versions; NaN where nothing was asked.

    ratings: mean over catch trials of (mean rating of the rater's undistorted reference clips) - (rating of the distorted clip), in the
    questions that the distortion harms. pairs: share of those answers that prefer the undistorted clip.
    """
    design, clips = study.design, study.clips
    reference = design.systems.index(design.reference)
    good = [
        answer.content["values"]
        for answer in answers
        if not answer.trial.catch and len(answer.trial.clips) == 1 and clips[answer.trial.clips[0]].system == reference
    ]
    scores = []
    for answer in answers:
        if not answer.trial.catch:
            continue
        values = answer.content["values"]
        worse = next(side for side, clip in enumerate(answer.trial.clips) if clips[clip].distortion)
        harmed = [name for name in DISTORTIONS[clips[answer.trial.clips[worse]].distortion] if name in design.questions]
        if design.mode == "pairs":
            scores += [float(values[name] != worse + 1) for name in harmed]
        elif good:
            scores += [float(np.mean([one[name] for one in good]) - values[name]) for name in harmed]
    return float(np.mean(scores)) if scores else math.nan


def exclusions(study: Study, answers: Sequence[Answer]) -> tuple[dict[int, list[str]], list[Answer]]:
    """Reasons to exclude each rater that gave answers (none: he counts), and the answers that count."""
    design, rules = study.design, study.design.exclusions
    least = rules.catch_share if design.mode == "pairs" else rules.catch_margin
    of_rater: dict[int, list[Answer]] = {}
    for answer in answers:
        of_rater.setdefault(answer.rater, []).append(answer)
    reasons: dict[int, list[str]] = {}
    counted = []
    for rater, own in of_rater.items():
        played = [answer for answer in own if answer.content["played"] >= rules.played_share * design.seconds]
        fast = sum(answer.content["seconds"] < rules.fastest_seconds for answer in own)
        found = [
            catch_score(study, own) < least,
            fast / len(own) > rules.fast_share,
            1 - len(played) / len(own) > rules.unplayed_share,
        ]
        reasons[rater] = [reason for reason, applies in zip(REASONS, found, strict=True) if applies]
        counted += played if not reasons[rater] else []
    return reasons, counted


# --- numbers ---------------------------------------------------------------------------------------------------------


def _ratings(study: Study, answers: Sequence[Answer], question: str) -> statistics.Ratings:
    rows = [
        (answer.rater, clip.song, clip.system, answer.content["values"][question])
        for answer in answers
        for clip in [study.clips[answer.trial.clips[0]]]
    ]
    columns = np.array(rows, int).reshape(-1, 4).T
    return statistics.Ratings(np.unique(columns[0], return_inverse=True)[1], *columns[1:])


def _choices(study: Study, answers: Sequence[Answer], question: str) -> statistics.Choices:
    rows = []
    for answer in answers:
        left, right = (study.clips[clip] for clip in answer.trial.clips)
        winner, loser = (left, right) if answer.content["values"][question] == 1 else (right, left)
        rows.append((answer.rater, left.song, winner.system, loser.system))
    columns = np.array(rows, int).reshape(-1, 4).T
    return statistics.Choices(np.unique(columns[0], return_inverse=True)[1], *columns[1:])


def analyse(study: Study, answers: Sequence[Answer], draws: int = statistics.DRAWS) -> dict[str, Any]:
    """All numbers from some answers; catch trials are left out. NaN is None, as JSON has it."""
    answers = [answer for answer in answers if not answer.trial.catch]
    design = study.design
    result: dict[str, Any] = {
        "raters": len({answer.rater for answer in answers}),
        "answers": len(answers),
        "questions": {},
    }
    if not answers:
        return result
    for question in design.questions:
        own = _of_pairs if design.mode == "pairs" else _of_ratings
        result["questions"][question] = own(study, answers, question, draws)
    rows = [row for question in result["questions"].values() for row in question["comparisons"]]
    for row, adjusted in zip(rows, statistics.holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = adjusted
    return _plain(result)


def _of_ratings(study: Study, answers: Sequence[Answer], question: str, draws: int) -> dict[str, Any]:
    systems, ratings = study.design.systems, _ratings(study, answers, question)
    means, drawn = statistics.means(ratings, len(systems)), statistics.bootstrap_means(ratings, len(systems), draws)
    count = statistics.smaller_sample(ratings.rater, ratings.song)
    model = statistics.ordinal_model(ratings, len(systems))
    rows, comparisons = {}, []
    for index, name in enumerate(systems):
        own = ratings.value[ratings.system == index]
        low, high = statistics.expanded_interval(drawn[:, index], count)
        shares = np.bincount(own, minlength=SCALE + 1)[1:] / max(len(own), 1)
        rows[name] = {"mean": means[index], "low": low, "high": high, "ratings": len(own), "shares": shares.tolist()}
    for first, second in combinations(range(len(systems)), 2):
        low, high = statistics.expanded_interval(drawn[:, first] - drawn[:, second], count)
        odds, error, p = model.compare(first, second) if model else (math.nan,) * 3
        row = {
            "first": systems[first],
            "second": systems[second],
            "difference": means[first] - means[second],
            "low": low,
        }
        comparisons.append(row | {"high": high, "log_odds": odds, "error": error, "p": p})
    deviations = dict(zip(statistics.EFFECTS, model.deviations.tolist(), strict=True)) if model else None
    spread = dict(zip(("rater", "song", "noise"), statistics.spread(ratings, len(systems)), strict=True))
    return {
        "systems": rows,
        "alpha": statistics.agreement(ratings),
        "comparisons": comparisons,
        "deviations_in_logits": deviations,
        "deviations_in_points": spread,
    }


def _of_pairs(study: Study, answers: Sequence[Answer], question: str, draws: int) -> dict[str, Any]:
    systems, choices = study.design.systems, _choices(study, answers, question)
    strengths, drawn = statistics.bradley_terry(choices, len(systems), draws)
    count = statistics.smaller_sample(choices.rater, choices.song)
    rows, comparisons = {}, []
    for index, name in enumerate(systems):
        asked = (choices.winner == index) | (choices.loser == index)
        low, high = statistics.expanded_interval(drawn[:, index], count)
        won = float((choices.winner[asked] == index).mean()) if asked.any() else math.nan
        rows[name] = {"mean": strengths[index], "low": low, "high": high, "ratings": int(asked.sum()), "preferred": won}
    for first, second in combinations(range(len(systems)), 2):
        difference, draws_of = strengths[first] - strengths[second], drawn[:, first] - drawn[:, second]
        low, high = statistics.expanded_interval(draws_of, count)
        p = statistics.bootstrap_p(difference, draws_of, count)
        row = {"first": systems[first], "second": systems[second], "difference": difference, "low": low, "high": high}
        comparisons.append(row | {"p": p})
    return {"systems": rows, "comparisons": comparisons}


def _plain(value: Any) -> Any:
    """Numbers as JSON has them."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


# --- the report ------------------------------------------------------------------------------------------------------


def report(folder: Path | str, out: Path | str | None = None, draws: int = statistics.DRAWS) -> dict[str, Any]:
    """Report a closed study.

    Args:
        folder: of the study.
        out: folder for report.md, report.json, means.png and, of ratings, ratings.png; None: `report` in the study's folder.
        draws: of the bootstrap.

    Returns:
        what report.json holds.

    Raises:
        StudyError: the study is still open, its folder was changed after the first rater came, or nobody answered.
    """
    study = Study(folder)
    with closing(Answers(study)) as database:
        raters, answers = database.results()
        database.check_unchanged()
        progress = database.progress()
    if not answers:
        raise StudyError(f"nobody has answered anything in {study.folder}: there is nothing to report")
    reasons, counted = exclusions(study, answers)
    kinds = Counter(reason for own in reasons.values() for reason in own)
    design = study.design
    seconds = [answer.content["seconds"] for answer in answers]
    results = {
        "title": design.title,
        "mode": design.mode,
        "systems": design.systems,
        "songs": len(design.songs),
        "seconds": design.seconds,
        "raters": progress | {"answered": len(reasons), "excluded": sum(bool(own) for own in reasons.values())},
        "reasons": {reason: kinds[reason] for reason in REASONS},
        "experience": dict(Counter(rater["experience"] for rater in raters)),
        "language": dict(Counter(rater["language"] for rater in raters)),
        "answers": {
            "median_seconds": float(np.median(seconds)),
            "with_loss_of_focus": float(np.mean([answer.content["focus"] > 0 for answer in answers])),
        },
        "included": analyse(study, counted, draws),
        "everyone": analyse(study, answers, draws),
    }
    out = Path(out) if out is not None else study.folder / "report"
    out.mkdir(parents=True, exist_ok=True)
    with all_or_none(StudyError) as beside:
        beside(out / "report.json").write_text(json.dumps(results, indent=1, ensure_ascii=False), encoding="utf-8")
        beside(out / "report.md").write_text(markdown(results), encoding="utf-8")
        if results["included"]["questions"]:
            _plot_means(results, beside(out / "means.png"))
            if design.mode == "ratings":
                _plot_ratings(results, beside(out / "ratings.png"))
    return results


def _number(value: float | None, form: str = ".2f") -> str:
    return "-" if value is None else format(value, form)


def _p(value: float | None) -> str:
    return "-" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _table(results: dict[str, Any], part: str) -> list[str]:
    """The right part of table 1: a row for each system, a column for each question, with intervals."""
    questions = results[part]["questions"]
    lines = [f"| | {' | '.join(f'{name} ↑' for name in questions)} |", f"|---|{'---|' * len(questions)}"]
    for system in results["systems"]:
        cells = []
        for question in questions.values():
            row = question["systems"][system]
            cells.append(f"{_number(row['mean'])} [{_number(row['low'])}, {_number(row['high'])}]")
        lines.append(f"| {system} | {' | '.join(cells)} |")
    return lines


def markdown(results: dict[str, Any]) -> str:
    """The report as Markdown."""
    raters, pairs = results["raters"], results["mode"] == "pairs"
    lines = [f"# {results['title']}", ""]
    lines += [
        f"{raters['answered']} raters, {results['songs']} songs of {results['seconds']:g} s, {len(results['systems'])} systems. "
        f"Excluded: {raters['excluded']} raters ({', '.join(f'{reason} {count}' for reason, count in results['reasons'].items())}; a rater "
        f"may have several reasons). {raters['withdrawn']} withdrew. Median time of an answer "
        f"{results['answers']['median_seconds']:.1f} s; the page lost focus in {results['answers']['with_loss_of_focus']:.0%} of them.",
        "",
        "Experience with dance: "
        + ", ".join(f"{name} {count}" for name, count in sorted(results["experience"].items()))
        + ".",
    ]
    what = (
        "Strengths of Bradley-Terry: a difference of 1 is odds of 2.7 of being preferred"
        if pairs
        else "Mean ratings from 1 (Terrible) to 5 (Great)"
    )
    for part, heading in (("included", "Without excluded raters"), ("everyone", "All raters, no exclusions")):
        found = results[part]
        lines += ["", f"## {heading}", "", f"{found['raters']} raters, {found['answers']} answers."]
        if not found["questions"]:
            continue
        lines += [f"{what}; 95 % intervals of a bootstrap over raters and songs.", "", *_table(results, part), ""]
        if not pairs:
            alphas = ", ".join(f"{name} {_number(one['alpha'])}" for name, one in found["questions"].items())
            lines += [f"Agreement (ordinal Krippendorff's alpha): {alphas}.", ""]
        test = "bootstrap" if pairs else "ordinal mixed model, log odds with standard error"
        lines += [
            f"Comparisons ({test}; p by Holm's method over all rows):",
            "",
            "| question | systems | difference | log odds | p | p (Holm) |",
            "|---|---|---|---|---|---|",
        ]
        for name, one in found["questions"].items():
            for row in one["comparisons"]:
                odds = (
                    f"{_number(row['log_odds'])} ± {_number(row['error'])}" if row.get("log_odds") is not None else "-"
                )
                difference = f"{_number(row['difference'], '+.2f')} [{_number(row['low'])}, {_number(row['high'])}]"
                lines.append(
                    f"| {name} | {row['first']} - {row['second']} | {difference} | {odds} | {_p(row['p'])} | {_p(row['p_holm'])} |"
                )
    return "\n".join(lines) + "\n"


def _figure(width: float, height: float, columns: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns, sharey=True, squeeze=False)[0]


def _plot_means(results: dict[str, Any], path: os.PathLike) -> None:
    questions, systems = results["included"]["questions"], results["systems"]
    figure, parts = _figure(3.2 * len(questions) + 1, 0.45 * len(systems) + 1.4, len(questions))
    for axes, (name, question) in zip(parts, questions.items(), strict=True):
        for row, system in enumerate(systems):
            one = question["systems"][system]
            if one["mean"] is not None:
                axes.plot(one["mean"], row, "o", color="#1c5d99")
            if one["low"] is not None:
                axes.plot([one["low"], one["high"]], [row, row], color="#1c5d99")
        axes.set_title(name)
        axes.set_yticks(range(len(systems)), systems)
        axes.grid(axis="x", alpha=0.3)
        axes.set_xlabel("strength" if results["mode"] == "pairs" else "mean rating")
    parts[0].invert_yaxis()
    figure.savefig(path, dpi=120, format="png")


def _plot_ratings(results: dict[str, Any], path: os.PathLike) -> None:
    questions, systems = results["included"]["questions"], results["systems"]
    figure, parts = _figure(3.2 * len(questions) + 1, 0.45 * len(systems) + 1.8, len(questions))
    for axes, (name, question) in zip(parts, questions.items(), strict=True):
        left = np.zeros(len(systems))
        for value, (word, colour) in enumerate(zip(WORDS, COLOURS, strict=True)):
            share = np.array([question["systems"][system]["shares"][value] for system in systems])
            axes.barh(range(len(systems)), share, left=left, color=colour, label=word)
            left += share
        axes.set_title(name)
        axes.set_yticks(range(len(systems)), systems)
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of ratings")
    parts[0].invert_yaxis()
    handles, labels = parts[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, dpi=120, format="png")
