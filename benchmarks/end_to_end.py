"""From the file of a song to the file of a dance, as a user starts it: seconds and memory of new processes; JSON out.

    python benchmarks/end_to_end.py [--seconds 180] [--long 600] [--runs 5]

`npz` and `mp4` are `megadance generate SONG -o ...` with the bundled model on a song of `--seconds`, imports and loading
included. `first_npz` is the same with numba's cache empty, as in a fresh installation. `import` is `import megadance_hf`, `help` is
`megadance --help`, `genres` is `megadance genres`. Memory is the peak of the process of the same command, for a song of 20 s and
one of `--long` (Linux only). Medians of the runs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def seconds_of(command: list[str], **environment: str) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **environment})
    return time.perf_counter() - began


def peak_mb(arguments: list[str]) -> float:
    done = subprocess.run([sys.executable, "-c", WITH_PEAK, *arguments], check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1]) / 1024


def main(argv: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--long", type=float, default=600.0)
    parser.add_argument("--runs", type=int, default=5)
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
            seconds_of(command)
        times = {name: [] for name in [*commands, "first_npz"]}
        for run in range(arguments.runs):
            for name, command in commands.items():
                times[name].append(seconds_of(command))
            times["first_npz"].append(seconds_of(commands["npz"], NUMBA_CACHE_DIR=str(cache / str(run))))
        peaks = {
            name: statistics.median(peak_mb(dance(name, "npz")) for _ in range(arguments.runs))
            for name in ("short", "long")
        }
    report = {
        "song_seconds": arguments.seconds,
        "runs": arguments.runs,
        **{f"{name}_seconds": round(statistics.median(found), 2) for name, found in times.items()},
        "peak_mb_20_s": round(peaks["short"]),
        f"peak_mb_{arguments.long:g}_s": round(peaks["long"]),
    }
    print(json.dumps(report, indent=2))
    return report


if __name__ == "__main__":
    main()
