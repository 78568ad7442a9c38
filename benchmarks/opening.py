"""Cost of loading a model: seconds and resident memory for one genre, for all, and for one more, as JSON.

    python benchmarks/opening.py [MODEL_DIR] [--genre Popping] [--more Wei] [--repeats 5]

MODEL_DIR as `megadance convert` writes it; without it random weights of the paper's size (3.4 GB in a temporary folder). Each
model is loaded in a new process, whose memory is read after the imports and again with the model loaded (Linux only); medians of
the repeats. The first time, which reads from the disk, is left out.
"""

import statistics
import tempfile

from timing import make_parser, print_report, run_python

from megadance_hf import MegaDanceConfig, MegaDanceForMotionGeneration

CHILD = """
import json, sys, time
import torch
from megadance_hf import MegaDanceForMotionGeneration

def resident():
    fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(fields["VmRSS"].split()[0]) / 1024, int(fields["VmHWM"].split()[0]) / 1024

folder, genre, more, dtype = sys.argv[1:]
before, began = resident()[0], time.perf_counter()
model = MegaDanceForMotionGeneration.from_pretrained(folder, active_genres=[genre] if genre else None, dtype=dtype)
sum(float(parameter.sum()) for parameter in model.parameters())  # mapped pages count once they are read
seconds = time.perf_counter() - began
after, peak = resident()
report = {"seconds": seconds, "added_mb": after - before, "peak_added_mb": peak - before}
report["parameters"] = model.num_parameters()
if more:
    began = time.perf_counter()
    model.load_genres(folder, [more])
    report["one_more_genre_seconds"] = time.perf_counter() - began
print(json.dumps(report))
"""


def measure(folder: str, genre: str, more: str, dtype: str, repeats: int) -> dict[str, float]:
    runs = [run_python(CHILD, folder, genre, more, dtype) for _ in range(repeats + 1)]
    return {name: statistics.median(run[name] for run in runs[1:]) for name in runs[0]}


def main(argv: list[str] | None = None) -> dict:
    parser = make_parser(__doc__)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--genre", default="Popping")
    parser.add_argument("--more", default="Wei", help="genre to add to the first")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.model is None:
            MegaDanceForMotionGeneration(MegaDanceConfig()).save_pretrained(folder, shard_by_genre=True)
        model = arguments.model or folder
        report = {
            f"{name}, {dtype}": measure(model, genre, more, dtype, arguments.repeats)
            for dtype in ("float32", "bfloat16")
            for name, genre, more in (("one genre", arguments.genre, arguments.more), ("all genres", "", ""))
        }
    return print_report(report)


if __name__ == "__main__":
    main()
