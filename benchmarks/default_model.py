"""How a model dances: one dance for each of its genres and seeds to the given songs, measured, as JSON and filmstrips.

    python benchmarks/default_model.py SONG [SONG ...] [--model DIR] [--seeds 3] [--out DIR]

The numbers are those of the table in the docs: seconds of compute per second of dance (features, generation, decoding), share of
frozen seconds, speed of the feet while on the floor, root drift per minute, mean speed, jerk, the largest step of any joint.
"""

import json
import time
from pathlib import Path

import numpy as np
from timing import make_parser, print_report

from megadance_hf import metrics
from megadance_hf.models import DEFAULT_MODEL
from megadance_hf.pipeline import MusicToDancePipeline
from megadance_hf.render.video import filmstrip

MEASURES = {
    "frozen_share": metrics.frozen_share,
    "foot_speed_on_floor": metrics.foot_speed_on_floor,
    "root_drift_per_minute": metrics.root_drift,
    "mean_speed": metrics.mean_speed,
    "jerk": metrics.jerk,
    "pelvis_bob": metrics.pelvis_bob,
    "largest_step": metrics.largest_step,
}


def main(argv: list[str] | None = None) -> dict:
    parser = make_parser(__doc__)
    parser.add_argument("songs", nargs="+")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--seeds", type=int, default=3, help="dances per song and genre")
    parser.add_argument("--duration", type=float, help="seconds of each song")
    parser.add_argument("--out", help="folder for report.json and a filmstrip per genre")
    arguments = parser.parse_args(argv)
    pipe = MusicToDancePipeline.from_pretrained(arguments.model)
    report = {}
    for genre in pipe.genres:
        rows = []
        for song in arguments.songs:
            for seed in range(arguments.seeds):
                began = time.perf_counter()
                dance = pipe(song, genre=genre, seed=seed, duration=arguments.duration)
                seconds = time.perf_counter() - began
                measured = {name: measure(dance.joints()) for name, measure in MEASURES.items()}
                rows.append({"compute_per_second": seconds / dance.seconds, **measured})
                if arguments.out and len(rows) == 1:
                    Path(arguments.out).mkdir(parents=True, exist_ok=True)
                    filmstrip(dance, Path(arguments.out) / f"{genre}.png", count=8)
        report[genre] = {name: float(np.median([row[name] for row in rows])) for name in rows[0]} | {
            "dances": len(rows)
        }
    if arguments.out:
        (Path(arguments.out) / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return print_report(report)


if __name__ == "__main__":
    main()
