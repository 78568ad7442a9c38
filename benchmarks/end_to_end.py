"""From the file of a song to the file of a dance, as a user starts it: seconds and memory of new processes; JSON out.

    python benchmarks/end_to_end.py [--seconds 180] [--long 600] [--runs 5]

`npz` and `mp4` are `megadance generate SONG -o ...` with the bundled model on a song of `--seconds`, imports and loading
included. `first_npz` is the same with numba's cache empty, as in a fresh installation. `import` is `import megadance_hf`, `help` is
`megadance --help`, `genres` is `megadance genres`. Memory is the peak of the process of the same command, for a song of 20 s and
one of `--long` (Linux only). Medians of the runs.
"""

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from timing import make_parser, median, print_report, run_python, seconds_of

from megadance_hf.synthetic.composer import write_song

MEGADANCE = [sys.executable, "-m", "megadance_hf.cli"]
WITH_PEAK = """
import pathlib, sys
from megadance_hf.cli import main
code = main(sys.argv[1:])
# not ru_maxrss, which starts from the parent's
print(next(line for line in pathlib.Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")).split()[1])
sys.exit(code)
"""


def start(command: list[str], **environment: str) -> None:
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **environment})


def main(argv: list[str] | None = None) -> dict:
    parser = make_parser(__doc__, runs=5)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--long", type=float, default=600.0)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        songs = {}
        for name, seconds in (("song", arguments.seconds), ("short", 20.0), ("long", arguments.long)):
            songs[name] = str(Path(folder, f"{name}.wav"))
            write_song(songs[name], seconds)
        cache = Path(folder, "numba")

        def dance(song: str, kind: str) -> list[str]:
            return ["generate", songs[song], *"--genre waltz --seed 0 -o".split(), str(Path(folder, f"dance.{kind}"))]

        commands = {
            "import": [sys.executable, "-c", "import megadance_hf"],
            "help": [*MEGADANCE, "--help"],
            "genres": [*MEGADANCE, "genres"],
            "npz": [*MEGADANCE, *dance("song", "npz")],
            "mp4": [*MEGADANCE, *dance("song", "mp4")],
        }
        for command in commands.values():  # warms up the caches
            start(command)
        times = {name: [] for name in [*commands, "first_npz"]}
        for run in range(arguments.runs):
            for name, command in commands.items():
                times[name].append(seconds_of(start, command))
            first = partial(start, commands["npz"], NUMBA_CACHE_DIR=str(cache / str(run)))
            times["first_npz"].append(seconds_of(first))
        peaks = {
            name: median([run_python(WITH_PEAK, *dance(name, "npz")) / 1024 for _ in range(arguments.runs)], None)
            for name in ("short", "long")
        }
    report = {
        "song_seconds": arguments.seconds,
        "runs": arguments.runs,
        **{f"{name}_seconds": median(found) for name, found in times.items()},
        "peak_mb_20_s": peaks["short"],
        f"peak_mb_{arguments.long:g}_s": peaks["long"],
    }
    return print_report(report)


if __name__ == "__main__":
    main()
