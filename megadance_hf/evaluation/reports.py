"""An evaluation's report as files: report.json with everything, tables.md laid out as in the paper, and plots.

Takes the dictionary that `evaluate.evaluate` makes; computes nothing.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from megadance_hf.motion.motion import atomic_path
from megadance_hf.training.log import load_pyplot

# Which way is better, as the paper's tables mark it.
ARROWS = {"FID": "↓", "DIV": "↑", "BAS": "↑", "ACC": "↑", "F1": "↑", "SMPL": "↓", "joint": "↓", "world": "↓"}
TABLE_NAMES = {"1": "Table 1", "2": "Table 2", "3": "Table 3", "4a": "Table 4 (a)", "4b": "Table 4 (b)"}
# How the paper writes a column, and how many decimals it gives.
DECIMALS = {"BAS": 3, "SMPL": 4, "joint": 4, "world": 4}
CONDITIONS = {
    "right": "right",
    "shifted": "shifted by 1.5 beats",
    "swapped": "another song's",
    "zeroed": "none (mean of the data)",
}
MEASURES = {
    "bar": "speed folded on the bar, correlation with the training clips'",
    "bar_of_the_song": "speed folded on the bar, correlation with the song's real dance",
    "beat_over_music": "beat alignment, over the music's beats",
    "beat_over_motion": "beat alignment, over the motion's beats",
    "landings": "foot landings within an eighth of a beat",
}
PHYSICAL = {
    "mean_speed": ("mean speed, m/s", 2),
    "jerk": ("jerk, m/s^3", 0),
    "frozen_share": ("frozen share", 3),
    "foot_skating_ratio": ("foot skating ratio", 3),
    "foot_speed_on_floor": ("foot speed on the floor, m/s", 2),
    "physical_foot_contact": ("PFC", 2),
    "largest_step": ("largest step, m", 2),
    "bas_over_music": ("BAS over music's beats", 3),
    "bas_over_motion": ("BAS over motion's beats", 3),
    "bas_over_music_known_beats": ("BAS over music's, known grid", 3),
    "bas_over_motion_known_beats": ("BAS over motion's, known grid", 3),
}
# Means over dances, and the worst dance of all.
DANCES = {
    "largest_turn": ("largest turn in a frame, degrees", 0),
    "largest_step": ("largest step, m", 2),
    "toe_median": ("toe on the floor, median m/s", 2),
    "toe_90": ("90 %", 2),
    "depth_below_floor": ("below the floor, m", 3),
    "frozen_share": ("frozen share", 3),
    "landings_on_beat": ("landings on the beat", 2),
    "landings_moved": ("moved", 2),
    "known_run": ("longest run of training motion, s", 1),
    "new_joins": ("new joins of units", 2),
    "in_units": ("time in known units", 2),
}
# The same dances as they were decoded and after the clean-up.
VERSIONS = ("raw", "cleaned")
OF_A_VERSION = {
    "toe_median": ("toe on the floor, median m/s", 2),
    "toe_90": ("90 %", 2),
    "landings_on_beat": ("landings on the beat", 2),
    "landings_moved": ("moved", 2),
    "jerk": ("jerk, m/s^3", 0),
    "mean_speed": ("mean speed, m/s", 2),
    "FID_k": ("FID k", 2),
    "FID_g": ("FID g", 2),
}
OF_A_GENRE = {
    "bar": ("bar", 2),
    "landings_on_beat": ("landings on the beat", 2),
    "landings_moved": ("moved", 2),
    "bas_over_music": ("BAS", 3),
    "toe_median": ("toe, median m/s", 2),
    "toe_90": ("90 %", 2),
    "mean_speed": ("speed, m/s", 2),
    "pelvis_bob": ("bob, m", 3),
    "jerk": ("jerk, m/s^3", 0),
}
COMPARED_WITH_TRUTH = ("toe_median", "toe_90", "mean_speed", "pelvis_bob", "jerk")
WORST_CASES = {
    "depth_below_floor": ("below the floor, m", 3),
    "frozen_share": ("frozen share", 3),
}
TOKENIZER = {
    "joint_error": ("joint error relative to the pelvis, m", 4),
    "joint_error_rotation_aligned": ("joint error, pelvis' rotation aligned, m", 4),
    "joint_error_world": ("joint error in the world, m", 3),
    "root_error_30s": ("root path off after 30 s, m", 2),
    "jerk_ratio": ("jerk, of the truth's", 2),
    "bob_ratio": ("rise and fall of the pelvis, of the truth's", 2),
    "upper_codes_used": ("upper codes in use on these clips", 3),
    "lower_codes_used": ("lower codes in use on these clips", 3),
    "upper_codes_used_all_clips": ("upper codes in use on the whole data set", 3),
    "lower_codes_used_all_clips": ("lower codes in use on the whole data set", 3),
}
BLUE, GREY, RED, GREEN = "#2b6cb0", "#a0aec0", "#c53030", "#2f855a"


def write_report(report: Mapping[str, Any], out: str | Path) -> list[Path]:
    """Write report.json, tables.md and the plots into the folder `out`, each whole or not at all; returns the files.

    Raises:
        MotionError: a file cannot be written.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    plots: dict[str, Callable[[], Any]] = {
        f"table_{n}.png": lambda t=t: _plot_table(t) for n, t in report["tables"].items()
    }
    plots["cross_entropy.png"] = lambda: _plot_cross_entropy(report["cross_entropy"])
    plots["synchrony.png"] = lambda: _plot_synchrony(report["rows"])
    if report["genres"]:
        plots["genres.png"] = lambda: _plot_confusions(report["genres"])
    if report["bar_profiles"]:
        plots["bar_profiles.png"] = lambda: _plot_profiles(report["bar_profiles"])
    files = [out / "report.json", out / "tables.md"]
    for file, text in zip(files, (json.dumps(report, indent=2) + "\n", markdown(report)), strict=True):
        with atomic_path(file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    for name, plot in plots.items():
        with atomic_path(out / name) as temporary:
            figure = plot()
            figure.tight_layout(rect=(0, 0, 1, 0.9 if figure.legends else 1))
            figure.savefig(temporary, dpi=90)
            load_pyplot().close(figure)
        files.append(out / name)
    return files


# --- Markdown ------------------------------------------------------------------------------------------------------------


def _number(value: float | None, decimals: int) -> str:
    if value is None:
        return "-"
    return f"{value:.{decimals}f}" if abs(value) < 1e5 else f"{value:.1e}"


def _p(value: float) -> str:
    return "< .0001" if value < 1e-4 else f"{value:.4f}"


def _rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def markdown(report: Mapping[str, Any]) -> str:
    """All tables of a report, with what is needed to read them."""
    parts = ["# Evaluation", _settings(report)]
    parts += [paper_table(number, table, report) for number, table in report["tables"].items()]
    parts += [physical_table(report), tokenizer_table(report), _cross_entropy(report), _synchrony(report)]
    parts.append(genre_tables(report))
    if report.get("attributes"):  # of a model that has some
        parts.append(attribute_table(report))
    if report["notes"]:
        parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in report["notes"]))
    return "\n\n".join(parts) + "\n"


def _settings(report: Mapping[str, Any]) -> str:
    settings, excerpts = report["settings"], report["excerpts"]
    protocol = settings["protocol"]
    stride = protocol["clip_stride"]
    frames = sorted({item["frames"] for item in excerpts})
    lengths = f"{frames[0]}" if len(frames) == 1 else f"{frames[0]} to {frames[-1]}"
    where = f"one every {stride} frames" if stride else "one per song, from its beginning"
    songs = len({item["song"] for item in excerpts})
    return (
        f"Model `{settings['model']}` on `{settings['data']}` ({', '.join(settings['splits'])}), {protocol['name']} protocol: "
        f"{len(excerpts)} excerpts of {songs} songs, {lengths} frames ({where}); "
        f"{settings['seeds']} dances to each, seed {settings['seed']}{', cleaned up' if settings['clean'] else ''}. Versions: "
        + ", ".join(f"{name} {version}" for name, version in report["versions"].items())
        + "."
    )


def _heading(column: str) -> str:
    name, _, part = column.partition("_")
    return f"{name} {part.replace('_', ' ')}".strip() + f" {ARROWS[name]}"


def paper_table(number: str, table: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """One of the paper's tables, `report["tables"][number]`, with its heading and how it was measured."""
    columns = table["columns"]
    rows = [
        [row["label"], *(_number(row["values"][c], DECIMALS.get(c.partition("_")[0], 2)) for c in columns)]
        for row in table["rows"]
    ]
    return (
        f"## {TABLE_NAMES[number]}: {table['title']}\n\n{_caption(columns, report)}\n\n"
        f"{_rows(['', *map(_heading, columns)], rows)}"
    )


def _caption(columns: Sequence[str], report: Mapping[str, Any]) -> str:
    names, sentences = {column.partition("_")[0] for column in columns}, []
    reference = report["reference"]
    if "FID" in names:
        what = "the same excerpts' ground truth" if reference["set"] == "test" else "excerpts of every split"
        sentences.append(
            f"FID against {what} ({reference['excerpts']} excerpts); FID and DIV of features normalised by it, "
            "released kinetic convention, the mean over seeds."
        )
        dropped = [f"{count} {kind}" for kind, count in reference["constant_features_left_out"].items() if count]
        if dropped:
            sentences.append(f"Features that are constant in the reference are left out ({', '.join(dropped)}).")
        if any(c.endswith("_s") for c in columns) and not report["genres"]:
            sentences.append("No style features: no classifier was given.")
    if "BAS" in names:
        sentences.append("BAS averaged over the music's beats, those of the input features (released convention).")
    if "ACC" in names:
        sentences.append(
            "ACC and F1 over dances with the right and with forced wrong genres, then of each by itself, percent."
        )
    if "SMPL" in names:
        sentences.append(
            "Windows of 240 frames. SMPL: the 147 numbers of a frame (root velocity in metres per frame, 6D rotations), not "
            "normalised. joint: positions in metres with the pelvis at the origin; world: with the root path from its true start."
        )
    return " ".join(sentences)


def physical_table(report: Mapping[str, Any]) -> str:
    """Physical numbers of the dances, a row for each kind of dance."""
    rows = [
        [row["label"], *(_number(row[name], decimals) for name, (_, decimals) in PHYSICAL.items())]
        for row in report["rows"].values()
    ]
    header = ["", *(title for title, _ in PHYSICAL.values())]
    parts = [f"## Beyond the paper: the dances themselves\n\nMeans over dances.\n\n{_rows(header, rows)}"]
    if "versions" in report["rows"]["ground_truth"]:  # an earlier version's report lacks them
        parts += [_dances_table(report), _versions_table(report)]
    return "\n\n".join(parts)


def _dances_table(report: Mapping[str, Any]) -> str:
    """Spins, jumps, feet, landings and novelty: means, and the worst dance."""
    worst_of = [name for name in DANCES if name in report["rows"]["ground_truth"]["worst"]]
    mean_rows, worst_rows = [], []
    for row in report["rows"].values():
        counts = [f"{row['dances_with'][name]} of {row['dances']}" for name in ("spins", "jumps")]
        codes = row["codes_in_use"] or {"upper": None, "lower": None}
        numbers = {name: _number(row[name], decimals) for name, (_, decimals) in DANCES.items()}
        if row["joins"]:
            numbers["new_joins"] += f" of {row['joins']}"
        mean_rows.append([row["label"], *counts, *numbers.values(), *(_number(share, 2) for share in codes.values())])
        frames = [_number(row["worst"][name], 0) for name in ("spins", "jumps")]
        worst_rows.append([row["label"], *frames, *(_number(row["worst"][name], DANCES[name][1]) for name in worst_of)])
    titles = {name: title for name, (title, _) in DANCES.items()}
    codes = ["upper codes in use", "lower codes in use"]
    return (
        "### Spins, jumps, feet and novelty\n\nDances with a spin (the body turns about the vertical by more than 45 degrees within a "
        "frame) or a jump (a joint moves more than 0.4 m); means over dances, of landings over all landings. A landing is on the beat "
        "within an eighth of it; moved: with the beats a quarter, half and three quarters later. Codes in use: share of those of the "
        "training clips. New joins: a dance is read as a sequence of the training clips' units; share of the changes from one to another "
        "that no training choreography has.\n\n"
        + _rows(["", "dances with a spin", "with a jump", *titles.values(), *codes], mean_rows)
        + "\n\n### The worst dance in each\n\nFrames that spin or jump; of landings the dance with the fewest on the beat, of ten or more.\n\n"
        + _rows(["", "spins", "jumps", *(titles[name] for name in worst_of)], worst_rows)
    )


def _versions_table(report: Mapping[str, Any]) -> str:
    """The same dances before and after the clean-up."""
    rows = []
    for row in report["rows"].values():
        for version, found in row["versions"].items():
            counts = [f"{found['dances_with'][name]} of {found['dances']}" for name in ("spins", "jumps")]
            numbers = [_number(found[name], decimals) for name, (_, decimals) in OF_A_VERSION.items()]
            worst = [_number(found["worst"][name], decimals) for name, (_, decimals) in WORST_CASES.items()]
            rows.append([row["label"], version, *counts, *numbers, *worst])
    header = ["", "", "dances with a spin", "with a jump", *(title for title, _ in OF_A_VERSION.values())]
    header += [f"worst: {title}" for title, _ in WORST_CASES.values()]
    shown = "after the clean-up" if report["settings"]["clean"] else "as they were decoded"
    return (
        f"### Before and after the clean-up\n\nThe other tables are of generated dances {shown}. Captured dances are cleaned here only.\n\n"
        + _rows(header, rows)
    )


def tokenizer_table(report: Mapping[str, Any]) -> str:
    """How well the tokenizer reconstructs motion, a row for each measure."""
    rows = [[title, _number(report["tokenizer"][name], n)] for name, (title, n) in TOKENIZER.items()]
    rows += [
        [name.replace("_", " "), _number(value, 4)] for name, value in report["tokenizer_errors"]["megadance"].items()
    ]
    return f"## Tokenizer\n\nWhole clips of the evaluated splits.\n\n{_rows(['', 'tokenizer'], rows)}"


def _cross_entropy(report: Mapping[str, Any]) -> str:
    losses, rows = report["cross_entropy"], []
    for condition, mean in losses["mean"].items():
        tests = losses["tests"].get(condition)
        shown = (
            ["", ""] if tests is None else [f"{_p(tests[k]['p'])} ({tests[k]['pairs']})" for k in ("songs", "windows")]
        )
        numbers = [_number(mean[k], 3) for k in ("sum", "upper", "lower")]
        perplexities = [_number(mean[f"perplexity_{k}"], 1) for k in ("upper", "lower")]
        rows.append([CONDITIONS[condition], *numbers, *perplexities, *shown])
    header = [
        "music",
        "cross-entropy",
        "upper",
        "lower",
        "perplexity upper",
        "lower",
        "p over songs (n)",
        "over windows (n)",
    ]
    return (
        "## Does it use the music: cross-entropy\n\nOf the real dances' codes, nats, mean over songs. p: the wrong music's is "
        f"not above the right music's (one-sided Wilcoxon, paired).\n\n{_rows(header, rows)}"
    )


def _synchrony(report: Mapping[str, Any]) -> str:
    parts = [
        "## Does it keep time\n\nEach dance as it is, against the same dance moved in time (means over k/8 of a beat, or j/12 of "
        "a bar). p: it is not better as it is (one-sided Wilcoxon, paired; over dances, and over songs)."
    ]
    for measure, title in MEASURES.items():
        rows = []
        for row in report["rows"].values():
            found = row["synchrony"][measure]
            if found is not None:
                tests = [f"{_p(found[k]['p'])} ({found[k]['pairs']})" for k in ("dances", "songs")]
                rows.append([row["label"], _number(found["own"], 3), _number(found["moved"], 3), *tests])
        if rows:
            header = ["", "as it is", "moved", "p over dances (n)", "p over songs (n)"]
            parts.append(f"### {title[0].upper() + title[1:]}\n\n{_rows(header, rows)}")
    rows = [
        [CONDITIONS[condition], MEASURES[m], _number(test["difference"], 3), f"{_p(test['p'])} ({test['pairs']})"]
        for condition, tests in report["against_wrong_music"].items()
        for m, test in tests.items()
        if test is not None
    ]
    if rows:
        header = ["wrong music", "measure", "right minus wrong", "p (n)"]
        parts.append(f"### Dances to the right music against dances to wrong music\n\n{_rows(header, rows)}")
    return "\n\n".join(parts)


def genre_tables(report: Mapping[str, Any]) -> str:
    """A table for each genre, the ground truth first; and how well the genres that were asked for are danced."""
    header = ["", "dances", "with a spin", "with a jump", *(title for title, _ in OF_A_GENRE.values())]
    header += [f"worst: {title}" for title, _ in WORST_CASES.values()]
    parts = [
        "## By genre\n\nbar: speed folded on the bar and correlated with the training clips'. In brackets: of the truth's. bob: the rise and "
        "fall of the pelvis. Genre forced: dances to songs of other genres. A genre without songs has its truth from clips without music."
    ]
    for genre in report["genre_truth"]:
        truth, rows = report["genre_truth"][genre], []
        for label, found in _rows_of_a_genre(report, genre):
            counts = [str(found["dances"]), *(str(found["dances_with"][name]) for name in ("spins", "jumps"))]
            numbers = [
                _number(found[name], decimals)
                + (_share_of(found[name], truth[name]) if name in COMPARED_WITH_TRUTH else "")
                for name, (_, decimals) in OF_A_GENRE.items()
            ]
            worst = [_number(found["worst"][name], decimals) for name, (_, decimals) in WORST_CASES.items()]
            rows.append([label, *counts, *numbers, *worst])
        parts.append(f"### {genre}\n\n{_rows(header, rows)}")
    parts.append(_genres_asked_for(report))
    return "\n\n".join(parts)


def _rows_of_a_genre(report: Mapping[str, Any], genre: str) -> list[tuple[str, Mapping[str, Any]]]:
    """Labels and numbers: all rows that dance the genre, then MEGADance and the tokenizer in the other version, then the genre forced."""
    found = [("ground truth", report["genre_truth"][genre])]
    found += [(r["label"], r["by_genre"].get(genre)) for n, r in report["rows"].items() if n != "ground_truth"]
    version, other = VERSIONS[::-1] if report["settings"]["clean"] else VERSIONS
    for name in ("tokenizer", "megadance"):
        row = report["rows"][name]
        found.append((f"{row['label']}, {other}", row["versions"][other]["by_genre"].get(genre)))
    forced = report["forced"].get(version)
    if forced is not None:
        found.append(("MEGADance, genre forced", forced["by_genre"].get(genre)))
    return [(label, numbers) for label, numbers in found if numbers is not None]


def _share_of(value: float | None, truth: float | None) -> str:
    return f" ({value / truth:.2f})" if value is not None and truth else ""


def _genres_asked_for(report: Mapping[str, Any]) -> str:
    """Of each genre, danced to its own songs and to others: how often it is recognised, speed and bob as shares of its truth's."""
    confusion, names = report["genres"].get("confusion", {}), report["genres"].get("names", [])
    versions = {
        "right": report["rows"]["megadance"]["by_genre"],
        "forced": report["forced"].get("cleaned" if report["settings"]["clean"] else "raw", {}).get("by_genre", {}),
    }
    rows = []
    for genre, truth in report["genre_truth"].items():
        cells = []
        for part, found in versions.items():
            counts = confusion.get(f"megadance, {part}")
            answers = np.array(counts[names.index(genre)]) if counts and genre in names else np.zeros(1)
            seen = float(answers[names.index(genre)] / answers.sum()) if answers.sum() else None
            numbers = found.get(genre, {"dances": 0})
            shares = [
                numbers[name] / truth[name] if numbers.get(name) is not None and truth[name] else None
                for name in ("mean_speed", "pelvis_bob")
            ]
            cells += [str(numbers["dances"]), *(_number(value, 2) for value in (seen, *shares))]
        rows.append([genre, *cells])
    header = ["dances", "recognised", "speed, of the truth's", "bob, of the truth's"]
    header = ["", *(f"{part}: {title}" for part in ("right genre", "forced") for title in header)]
    return f"### Genres as they were asked for\n\n{_rows(header, rows)}"


def attribute_table(report: Mapping[str, Any]) -> str:
    """Attributes asked against attributes found, a row for each."""
    rows = []
    for name, found in report["attributes"].items():
        genres = [_number(found["by_genre"].get(genre), 2) for genre in report["genre_truth"]]
        levels = [_number(value, 2) for value in found["found"].values()]
        seen = found.get("genre_recognised")
        cells = [str(found["dances"]), _number(found["rank_correlation"], 2), *genres, *levels, _number(seen, 3)]
        rows.append([name.replace("_", " "), *cells])
    levels = next(iter(report["attributes"].values()))["found"]
    header = ["", "dances", "rank correlation", *report["genre_truth"], *(f"asked {level}" for level in levels)]
    return (
        "## As it was asked for\n\nEach attribute asked for by itself, as quantiles of the genre's training data. Rank correlation of asked "
        "and found, over all dances and by genre; the quantile found, mean over dances, at each level; share of dances whose genre is "
        "recognised.\n\n" + _rows([*header, "genre recognised"], rows)
    )


# --- plots ---------------------------------------------------------------------------------------------------------------


def _plot_table(table: Mapping[str, Any]) -> Any:
    """A panel of bars for each column."""
    columns = table["columns"]
    wide = min(4, len(columns))
    high = math.ceil(len(columns) / wide)
    height = high * (0.7 + 0.3 * len(table["rows"]))
    figure, axes = load_pyplot().subplots(high, wide, figsize=(1.8 + 3 * wide, height), squeeze=False, sharey=True)
    labels = [row["label"] for row in table["rows"]]
    for axis in axes.flat[len(columns) :]:
        axis.axis("off")
    for axis, column in zip(axes.flat, columns, strict=False):
        values = [row["values"][column] for row in table["rows"]]
        colours = [{"megadance": BLUE, "ground_truth": GREEN}.get(row["row"], GREY) for row in table["rows"]]
        bars = axis.barh(labels, [0 if v is None else v for v in values], color=colours)
        decimals = DECIMALS.get(column.partition("_")[0], 2)
        axis.bar_label(bars, [_number(value, decimals) for value in values], padding=3, fontsize=8)
        axis.set_title(_heading(column), fontsize=10)
        axis.margins(x=0.3)
        axis.set_xticks([])
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    axes[0, 0].invert_yaxis()  # shared: for all
    figure.suptitle(table["title"])
    return figure


def _plot_cross_entropy(losses: Mapping[str, Any]) -> Any:
    """Cross-entropy over the conditions: a line for each song, and their mean."""
    conditions = list(losses["mean"])
    figure, axis = load_pyplot().subplots(figsize=(6.5, 4))
    for row in losses["songs"]:
        axis.plot(conditions, [row[c]["sum"] for c in conditions], color=GREY, marker=".", linewidth=1)
    means = [losses["mean"][c]["sum"] for c in conditions]
    axis.plot(conditions, means, color=BLUE, marker="o", linewidth=2.5, label="mean")
    for index, value in enumerate(means):
        axis.annotate(
            f"{value:.2f}", (index, value), xytext=(0, 8), textcoords="offset points", ha="center", color=BLUE
        )
    axis.set(xlabel="music", ylabel="cross-entropy, nats (both streams)", title="Codes of real dances; grey: each song")
    axis.legend()
    axis.grid(alpha=0.3)
    return figure


def _plot_synchrony(rows: Mapping[str, Any]) -> Any:
    """For each measure the dances as they are, next to the same dances moved in time."""
    measures = [m for m in MEASURES if any(row["synchrony"][m] is not None for row in rows.values())]
    figure, axes = load_pyplot().subplots(
        1,
        max(1, len(measures)),
        figsize=(2.2 + 3.2 * max(1, len(measures)), 1.2 + 0.36 * len(rows)),
        squeeze=False,
        sharey=True,
    )
    labels, heights = [row["label"] for row in rows.values()], np.arange(len(rows))
    for axis, measure in zip(axes[0], measures, strict=False):
        found = [row["synchrony"][measure] for row in rows.values()]
        for offset, key, colour in ((-0.2, "own", BLUE), (0.2, "moved", GREY)):
            values = [0 if item is None else item[key] for item in found]
            axis.barh(
                heights + offset, values, height=0.38, color=colour, label={"own": "as it is"}.get(key, "moved in time")
            )
        axis.set_title(MEASURES[measure].replace(", ", "\n"), fontsize=9)
        axis.axvline(0, color="black", linewidth=0.6)
        axis.set_yticks(heights, labels)
        axis.grid(alpha=0.3, axis="x")
    axes[0, 0].invert_yaxis()
    if measures:
        axes[0, 0].legend(fontsize=8)
    return figure


def _plot_confusions(genres: Mapping[str, Any]) -> Any:
    """Confusion matrices of genres asked for and recognised: ground truth, right genre, forced genre."""
    titles = {
        "ground_truth, right": "ground truth",
        "megadance, right": "right genre",
        "megadance, forced": "forced genre",
    }
    wanted = [name for name in titles if name in genres["confusion"]]
    size = 1.6 + 0.4 * len(genres["names"])
    figure, axes = load_pyplot().subplots(
        1, len(wanted), figsize=(0.8 + (size + 0.3) * len(wanted), size + 0.9), squeeze=False
    )
    for axis, name in zip(axes[0], wanted, strict=True):
        counts = np.array(genres["confusion"][name])
        names = [*genres["names"], "other"]
        if not counts[:, -1].any():
            counts, names = counts[:, :-1], names[:-1]
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axis.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
        axis.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        axis.set_yticks(range(len(counts)), genres["names"], fontsize=8)
        axis.set_title(titles[name], fontsize=10)
        axis.set_xlabel("seen")
    axes[0, 0].set_ylabel("asked for")
    return figure


def _plot_profiles(profiles: Mapping[str, Mapping[str, Sequence[float]]]) -> Any:
    """How fast the dancers move within a bar: training clips, real dances, to the right music and to shifted music."""
    styles = {
        "training": ("training clips", "black", "--"),
        "ground_truth": ("real dances", GREEN, "-"),
        "megadance": ("MEGADance", BLUE, "-"),
        "shifted": ("MEGADance, music shifted", RED, "-"),
        "zeroed": ("MEGADance, no music", GREY, "-"),
    }
    figure, axes = load_pyplot().subplots(1, len(profiles), figsize=(1 + 4.5 * len(profiles), 3.6), squeeze=False)
    for axis, (genre, found) in zip(axes[0], profiles.items(), strict=True):
        for name, (label, colour, line) in styles.items():
            if name in found:
                positions = (np.arange(len(found[name])) + 0.5) / len(found[name])
                axis.plot(positions, found[name], line, color=colour, label=label, linewidth=2 if line == "-" else 1.5)
        axis.set(title=genre, xlabel="place in the bar", xlim=(0, 1))
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("speed about its mean, m/s")
    handles = {label: line for axis in axes[0] for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), fontsize=8, ncols=3, loc="upper center")
    return figure
