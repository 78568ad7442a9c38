"""The log of a training: means of what is measured at each step, one row per epoch in `metrics.jsonl`, curves as a picture."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from megadance_hf.modeling.errors_megadance import reading
from megadance_hf.modeling.files_megadance import whole

from .config import TrainingError

METRICS = "metrics.jsonl"


class Means:
    """Means over an epoch's batches, kept on the device: to read a number at every step would make a GPU wait.

    Args:
        sums: the sum and the count of each number so far, where a run resumes within an epoch.
    """

    def __init__(self, sums: dict[str, tuple[float, int]]) -> None:
        self.sums = {name: [torch.tensor(total, dtype=torch.float64), count] for name, (total, count) in sums.items()}

    def add(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            value = torch.as_tensor(value).detach()
            if hasattr(value, "full_tensor"):  # FSDP: every process has a part of it
                value = value.full_tensor()
            value = value.double() if value.device.type != "mps" else value.cpu().double()
            entry = self.sums.setdefault(name, [torch.zeros((), dtype=torch.float64), 0])
            entry[0] = entry[0].to(value.device) + value
            entry[1] += 1

    def reduce(self, accelerator: Any) -> dict[str, tuple[float, int]]:
        """Sums averaged over processes, and counts: what a checkpoint holds and a resumed run begins with."""
        names = sorted(self.sums)
        if not names:
            return {}
        totals = torch.stack([self.sums[name][0].to(accelerator.device) for name in names])
        totals = accelerator.reduce(totals, "mean").tolist()
        return {name: (total, self.sums[name][1]) for name, total in zip(names, totals, strict=True)}


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Add a row to `metrics.jsonl`; a killed run leaves no half row."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    with whole(path) as temporary:
        temporary.write_text(before + json.dumps(row) + "\n", encoding="utf-8")


def truncate_rows(path: Path, epoch: int) -> None:
    """Remove the rows after `epoch`, which a resumed run will write again."""
    if path.exists():
        with reading(path, "remove it: the curves begin anew", TrainingError):
            lines = path.read_text(encoding="utf-8").splitlines()
            rows = [line for line in lines if json.loads(line)["epoch"] <= epoch]
        with whole(path) as temporary:
            temporary.write_text("".join(row + "\n" for row in rows), encoding="utf-8")


def load_pyplot() -> Any:
    """matplotlib's `pyplot`, which draws without a screen."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def plot_curves(metrics: Path, picture: Path) -> None:
    """Draw every number of `metrics.jsonl` over the epochs, all in one PNG."""
    with reading(metrics, error=TrainingError):
        rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    names = sorted({name for row in rows for name in row} - {"epoch", "step"})
    pyplot, columns = load_pyplot(), 4
    lines = math.ceil(len(names) / columns)
    figure, axes = pyplot.subplots(lines, columns, figsize=(4 * columns, 2.6 * lines), squeeze=False)
    for axis in axes.flat[len(names) :]:
        axis.axis("off")
    for axis, name in zip(axes.flat, names, strict=False):
        points = [(row["epoch"], row[name]) for row in rows if name in row]
        axis.plot(*zip(*points, strict=True), marker="." if len(points) < 30 else None)
        axis.set_title(name, fontsize=9)
        axis.grid(alpha=0.3)
    # margins in inches: to measure all labels for a tight layout takes as long as to draw them
    width, height = figure.get_size_inches()
    figure.subplots_adjust(0.65 / width, 0.35 / height, 1 - 0.15 / width, 1 - 0.35 / height, wspace=0.25, hspace=0.35)
    with whole(picture) as temporary:
        figure.savefig(temporary, dpi=80)
    pyplot.close(figure)
