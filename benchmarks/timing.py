"""What the benchmarks share: options, seconds, medians, new processes, and the report as JSON."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any


def make_parser(description: str | None, runs: int = 0, threads: int = 0) -> argparse.ArgumentParser:
    """A parser that has --runs and --threads where a default is given."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("--runs", runs), ("--threads", threads)):
        if default:
            parser.add_argument(name, type=int, default=default)
    return parser


def seconds_of(function: Callable, *arguments: Any) -> float:
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def median(values: Sequence[float], decimals: int | None = 2) -> float:
    return round(statistics.median(values), decimals)


def median_ratio(over: Sequence[float], under: Sequence[float], decimals: int = 2) -> float:
    """The median of the ratios of runs that were measured in turn."""
    return median([a / b for a, b in zip(over, under, strict=True)], decimals)


def run_python(code: str, *arguments: Any, **environment: Any) -> Any:
    """The JSON in the last line that a new process prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    variables = {**os.environ, **{name: str(value) for name, value in environment.items()}}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=variables)
    return json.loads(done.stdout.splitlines()[-1])


def print_report(report: dict[str, Any]) -> dict[str, Any]:
    print(json.dumps(report, indent=2))
    return report
