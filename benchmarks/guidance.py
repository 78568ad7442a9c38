"""Does guidance help the music: dances and likelihoods at several scales of `guidance_scale`.

    python benchmarks/guidance.py --data PREPARED [--model DIR] [--scales 1 1.5 2 3 4] [--seeds 2] [--frames 320] [--excerpts N] [--out FILE]

Excerpts of the songs of --splits are danced to at every scale, in their own genre, heard with their whole songs, and cleaned up. Of each:

- landings: foot landings within an eighth of a beat of a beat (chance .25), bar: correlation of the speed folded on the bar with that of the
  training clips of the genre, both as `megadance evaluate` measures them, by genre and over all dances; `moved` is the same of
  the dances moved in time.
- FID_k, FID_g: against the captured dances of the same excerpts, the mean over seeds. Spins, jumps (dances with one), toes, frozen, speed, jerk.
- true codes: the mean log-probability, in nats a code (both halves of the body), that the guided distribution gives the codes of the captured
  dances, with the right music, the song shifted by a beat and a half, and another song. The other pass, without music, is the same for all.
  `gain` is right music over the others.

About five minutes on one core for the bundled model and 40 excerpts. The JSON goes to --out, a table is printed.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import make_parser

from megadance_hf.data.clip import Clip, clip_motion
from megadance_hf.data.prepared import read_info, read_prepared
from megadance_hf.evaluation import scores
from megadance_hf.evaluation.cross_entropy import music_mean
from megadance_hf.evaluation.dances import MUSIC, Dance, Dancer, evenly, excerpts_of, music_as, other_songs, own_music
from megadance_hf.evaluation.synchrony import training_profiles
from megadance_hf.modeling.conditions_megadance import Conditions, genre_weights, pass_weights
from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE
from megadance_hf.modeling.generation_megadance import Windows
from megadance_hf.models import DEFAULT_MODEL
from megadance_hf.pipeline import MusicToDancePipeline

WHOLE = ("mean_speed", "jerk", "pelvis_bob", "toe_median", "toe_90", "frozen_share", "largest_turn", "largest_step")


def measure_dances(
    pipe: Any, excerpts: Sequence[Any], scale: float, seeds: int, profiles: Any, truth: Any
) -> dict[str, Any]:
    """Numbers of the cleaned dances to all excerpts at a scale."""
    own = pipe.model.generation_config.guidance_scale
    pipe.model.generation_config.guidance_scale = scale
    try:
        began = time.process_time()
        dances = [dance.cleaned for dance in Dancer(pipe, seeds, 0)("guidance", own_music(excerpts))]
    finally:
        pipe.model.generation_config.guidance_scale = own
    seconds = (time.process_time() - began) / sum(len(dance.joints) / 30 for dance in dances)
    rows = [scores.measure_dance(dance, excerpts[dance.excerpt], profiles) for dance in dances]
    features = scores.DanceFeatures(None)(dances)
    summary = scores.summarize(rows, truth.scores(features, np.array([dance.seed for dance in dances])))
    return {"dances": len(dances), "seconds_per_second": round(seconds, 4), **chosen_numbers(rows, summary)}


def chosen_numbers(rows: Sequence[dict[str, Any]], summary: dict[str, Any]) -> dict[str, Any]:
    """Of the numbers of dances and their summary those that are reported."""
    found: dict[str, Any] = {name: summary[name] for name in ("FID_k", "FID_g", "dances_with", *WHOLE)}
    for measure in ("landings", "bar"):
        tests = summary["synchrony"][measure]
        found[measure] = None if tests is None else {name: tests[name] for name in ("own", "moved")}
        values = {
            name: [row[measure]["own"] for row in rows if row["genre"] == name and row[measure]]
            for name in sorted({row["genre"] for row in rows})
        }
        found[f"{measure}_by_genre"] = {name: float(np.mean(some)) for name, some in values.items() if some}
    return found


@torch.no_grad()
def true_codes(pipe: Any, songs: Sequence[Clip], scales: Sequence[float]) -> dict[str, dict[str, float]]:
    """Mean guided log-probability of the codes of captured dances: for each scale that of each condition of music."""
    model, sums, count = pipe.model.eval(), {scale: dict.fromkeys(MUSIC[:3], 0.0) for scale in scales}, 0
    others = other_songs(songs, [len(song) for song in songs])
    for song, other in zip(songs, others, strict=True):
        frames = len(song) // FRAMES_PER_CODE * FRAMES_PER_CODE
        encoded = pipe.tokenizer.encode(torch.from_numpy(clip_motion(song)[None, :frames]).to(pipe.tokenizer.device))
        codes = torch.cat((encoded.upper_codes, encoded.lower_codes)).to(model.device)
        length = codes.shape[1]
        count += length - 1
        genres = genre_weights(torch.tensor([model.genre_id(song.genre)]), 1, length, model.config)
        for condition in MUSIC[:3]:
            if condition == "swapped" and other is None:
                continue
            music = music_as(condition, song, None if other is None else songs[other], music_mean(model))
            features = torch.from_numpy(np.ascontiguousarray(music[None, :frames])).to(model.device)
            heard = model.base_model.encode_music(features, model.base_model.encode_rhythm(features))
            for scale in scales:
                conditions = Conditions(pass_weights(genres, scale), 1, model.device)
                windows = Windows(model, heard, codes, conditions, "paper", "auto")
                index, most = 1, model._codes_at_once(1, conditions)
                while index < length:
                    stop = windows.same_until(index, min(index + most, length))
                    sums[scale][condition] += float(model._score_known(windows, index, stop).sum())
                    index = stop
    found = {}
    for scale, totals in sums.items():
        means = {condition: total / count for condition, total in totals.items() if total}
        gains = {f"gain_{name}": means["right"] - means[name] for name in MUSIC[1:3] if name in means}
        found[f"{scale:g}"] = means | gains
    return found


def table(report: dict[str, Any]) -> str:
    def names(values: dict[str, float]) -> str:
        return " ".join(f"{value:.2f}" for value in values.values())

    genres = " ".join(report["truth"]["landings_by_genre"])
    head = [
        "scale",
        "FID_k",
        "FID_g",
        "landings",
        genres,
        "bar",
        genres,
        "spins",
        "jumps",
        "toe 90 %",
        "speed",
        "jerk",
        "s/s",
    ]
    lines = [[*head, "right", "shifted", "another's", "gains"]]
    for scale, row in (("truth", report["truth"]), *report["scales"].items()):
        line = [scale, f"{row['FID_k']:.1f}", f"{row['FID_g']:.1f}"]
        for measure in ("landings", "bar"):
            line += ["-" if row[measure] is None else f"{row[measure]['own']:.3f}", names(row[f"{measure}_by_genre"])]
        line += [str(row["dances_with"][name]) for name in ("spins", "jumps")]
        line += [
            f"{row['toe_90']:.2f}",
            f"{row['mean_speed']:.2f}",
            f"{row['jerk']:.0f}",
            f"{row.get('seconds_per_second', 0):.3f}",
        ]
        if found := report["true_codes"].get(scale):
            line += [f"{found[name]:.3f}" for name in MUSIC[:3] if name in found]
            line.append(" ".join(f"{found[f'gain_{name}']:.3f}" for name in MUSIC[1:3] if name in found))
        lines.append(line)
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], ["---"] * len(lines[0]), *lines[1:]])


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = make_parser(__doc__, threads=1)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="folder or Hub id (default: the bundled model)")
    parser.add_argument("--data", required=True, help="prepared data set")
    parser.add_argument("--splits", nargs="+", default=["validation"])
    parser.add_argument("--scales", nargs="+", type=float, default=[1.0, 1.5, 2.0, 3.0, 4.0])
    parser.add_argument("--seeds", type=int, default=2, help="dances to each excerpt and scale (default 2)")
    parser.add_argument("--frames", type=int, default=320, help="of each excerpt (default 320)")
    parser.add_argument("--excerpts", type=int, default=40, help="at most so many, evenly spread (default 40)")
    parser.add_argument("--out", help="file for the JSON")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    pipe = MusicToDancePipeline.from_pretrained(arguments.model)
    clips = [clip for split in arguments.splits for clip in read_prepared(arguments.data, split)]
    clips = [clip for clip in clips if clip.paired and clip.genre in pipe.genres]
    if not clips:
        parser.error(f"--data {arguments.data}: no song of the model's genres in {', '.join(arguments.splits)}")
    excerpts = evenly(excerpts_of(clips, arguments.frames, arguments.frames), arguments.excerpts)
    training = read_prepared(arguments.data, "train") if "train" in read_info(arguments.data)["splits"] else []
    profiles = training_profiles(training)
    captured = [Dance(n, one.clip.poses, one.clip.translation, one.clip.genre) for n, one in enumerate(excerpts)]
    truth = scores.ReferenceSet(scores.DanceFeatures(None)(captured))
    rows = [scores.measure_dance(dance, excerpts[dance.excerpt], profiles) for dance in captured]
    own = scores.summarize(rows, truth.scores(truth.rows, np.zeros(len(captured), dtype=int)))
    known = chosen_numbers(rows, own)
    report: dict[str, Any] = {
        "model": str(arguments.model),
        "excerpts": len(excerpts),
        "seeds": arguments.seeds,
        "truth": known,
    }
    report["scales"] = {
        f"{scale:g}": measure_dances(pipe, excerpts, scale, arguments.seeds, profiles, truth)
        for scale in arguments.scales
    }
    report["true_codes"] = true_codes(pipe, clips, arguments.scales)
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(table(report))
    return report


if __name__ == "__main__":
    main()
