"""What a GPU makes of the paper's sizes, against the limits of that card and against the plain loop: JSON and a table, in under ten minutes.

On a fresh machine, in the repository's folder (`--budget` is for what follows the installation):

    python3 -m venv gpu && gpu/bin/pip install -q . && gpu/bin/python benchmarks/gpu.py --out gpu.json

    python benchmarks/gpu.py [--device cuda] [--size full|tiny] [--only WORD ...] [--skip WORD ...] [--budget 400] [--cell 150] [--out gpu.json]

Random weights. Both releases' arrangements, 2025 (107 M parameters for one genre) and 2026 (92 M). Cells in order of value, as many as fit
into the budget; `--only generation 2025` takes those whose names have all these words, `--skip compiled` those without any of these.

- `limits`: bytes a second (a large tensor is summed), floating-point operations a second of square matrix products by type (float32 without
  TF32), microseconds of one small launch.
- `parity`: float32 on the device against float32 on the CPU: error of the logits of given codes as a share of their spread, and the greedy
  codes of `generate` (mode `paper`, beyond a slide of the window) until the first that differs, with the error of their scores.
- `generation_ARRANGEMENT_TYPE_MODE_xBATCH_WAY`: seconds for a second of dance, all dances of a batch together. Ways: `default`, what
  `generate` does by itself; `static` and `compiled`, with `cache_implementation="static"` and with a `compile_config`; `torch`, the modules;
  `plain`, every window anew, which is the obvious loop. Where `generate` refuses a way, "not supported".
- `training_ARRANGEMENT_TYPE_WAY`: windows a second, 32 of 30 codes from four genres, forward, backward, clipping and Adam; `bfloat16` is autocast.

A limit is the larger of the time to read the weights once for each code and that of the matrix products of the linear layers (three times
those of the forward pass in training), at the measured speeds; `over_limit` is the time over it. The report is written whole after each cell.
A process of its own computes; where one cell ends it, or takes longer than `--cell` seconds, the next one goes on with the others.
"""

import json
import os
import platform
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from timing import make_parser

MARK = "@cell "  # before a line of the child that is for its parent
ARRANGEMENTS, TYPES, MODES, BATCHES = (
    ("2025", "2026"),
    ("bfloat16", "float32"),
    ("paper", "stream", "released"),
    (1, 16, 64),
)
WAYS = ("default", "torch", "plain", "static", "compiled")
SIZES = {
    # seconds of a dance, and of it in `parity` codes; rows of matrices and bytes of the tensor of the limits; windows and codes of a training
    # batch; runs that are measured
    "full": {"seconds": 20.0, "parity": 45, "matrix": 8192, "bytes": 2**32, "windows": 32, "codes": 30, "runs": 3},
    "tiny": {"seconds": 3.2, "parity": 12, "matrix": 256, "bytes": 2**20, "windows": 8, "codes": 6, "runs": 1},
}


def all_cells() -> list[str]:
    """Names of cells, those first that tell most."""

    def generation(arrangement: str, kind: str, mode: str, batch: int, ways: Iterable[str]) -> list[str]:
        return [f"generation_{arrangement}_{kind}_{mode}_x{batch}_{way}" for way in ways]

    cells = ["limits", "parity_2025"]
    cells += generation("2025", "bfloat16", "paper", 1, ("default", "torch", "plain"))
    cells += generation("2025", "bfloat16", "paper", 16, ("default", "torch"))
    cells += ["training_2025_bfloat16_eager", "training_2025_float32_eager", "parity_2026"]
    cells += generation("2026", "bfloat16", "paper", 1, ("default", "torch"))
    cells += generation("2026", "bfloat16", "paper", 16, ("default",))
    cells += generation("2025", "bfloat16", "paper", 1, ("static", "compiled"))
    cells += ["training_2025_bfloat16_compiled", "training_2026_bfloat16_eager"]
    cells += generation("2025", "int8", "paper", 1, ("default",)) + generation(
        "2025", "int8", "paper", 16, ("default",)
    )
    for kind in ("float32", "bfloat16"):
        for mode in MODES:
            for batch in BATCHES:
                for arrangement in ARRANGEMENTS:
                    cells += generation(arrangement, kind, mode, batch, ("default",))
    for batch in (16, 64):
        cells += generation("2025", "bfloat16", "paper", batch, ("plain", "torch", "static", "compiled"))
    cells += ["training_2025_float32_compiled", "training_2026_float32_eager", "training_2026_bfloat16_compiled"]
    cells += [cell for a in ARRANGEMENTS for cell in generation(a, "float32", "paper", 1, WAYS[1:])]
    cells += [cell for mode in MODES[1:] for cell in generation("2025", "bfloat16", mode, 1, WAYS[1:])]
    return list(dict.fromkeys(cells))


# --- the parent: what it needs is quickly imported -----------------------------------------------------------------------


def write_whole(path: Path, report: dict[str, Any]) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def lines_of(stream: Any) -> "queue.Queue[str | None]":
    """The lines of a process as they come, then None."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in stream:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    return lines


def run_cells(cells: list[str], options: Any, deadline: float, found: Callable[[str, dict[str, Any]], None]) -> None:
    """Compute cells in processes of their own, until the deadline; `found` gets each cell's result."""
    left = list(cells)
    while left and time.monotonic() < deadline:
        command = [sys.executable, __file__, "--child", *left, "--device", options.device, "--size", options.size]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        lines, reason = lines_of(child.stdout), ""
        try:
            while left:
                wait = min(options.cell, deadline - time.monotonic())
                try:
                    line = lines.get(timeout=max(wait, 0.01))
                except queue.Empty:
                    over = time.monotonic() >= deadline
                    reason = "" if over else f"failed: took longer than {options.cell:g} s"
                    break
                if line is None:
                    reason = f"failed: the process ended with {child.wait()}"
                    break
                if not line.startswith(MARK):
                    print(line, end="", flush=True)
                    continue
                name, result = json.loads(line[len(MARK) :])
                left.remove(name)
                found(name, result)
        finally:
            child.kill()
            child.wait()
        if left and reason:
            found(left.pop(0), {"note": reason})


def add_ratios(cells: dict[str, dict[str, Any]]) -> None:
    """What a cell is against the plain loop, the modules, and a batch of one, in the same run."""
    for name, cell in cells.items():
        if "seconds" not in cell:
            continue
        head, _, way = name.rpartition("_")
        plain = ("eager",) if name.startswith("training") else ("plain", "torch")
        for other in plain:
            seconds = cells.get(f"{head}_{other}", {}).get("seconds")
            if other != way and seconds:
                cell[f"faster_than_{other}"] = round(seconds / cell["seconds"], 2)
        head, x, batch = head.rpartition("_x")
        one = cells.get(f"{head}_x1_{way}", {}).get("seconds")
        if x and batch != "1" and one:
            cell["throughput_over_one"] = round(int(batch) * one / cell["seconds"], 2)


def table(report: dict[str, Any]) -> str:
    """The report's cells as lines of text."""
    cells, lines = report["cells"], []
    limits = cells.get("limits", {})
    if "read_gb_per_s" in limits:
        flops = ", ".join(f"{kind} {value:.3g}" for kind, value in limits["teraflops"].items())
        lines.append(
            f"{limits['name']}: {limits['read_gb_per_s']:.4g} GB/s; 10^12 operations/s: {flops}; launch {limits['launch_us']:.3g} us"
        )
    for name, cell in cells.items():
        if name.startswith("parity") and "logit_error" in cell:
            lines.append(
                f"{name}: logits differ by {cell['logit_error']:.1e} of their spread; greedy codes: "
                + ", ".join(f"{way} {found}" for way, found in cell["greedy"].items())
            )
    for kind, ways, key in (
        ("generation", WAYS, "seconds_per_second"),
        ("training", ("eager", "compiled"), "windows_per_second"),
    ):
        rows = dict.fromkeys(name.rpartition("_")[0] for name in cells if name.startswith(kind))
        if rows:
            lines += ["", f"{key.replace('_', ' '):42}" + "".join(f"{way:>14}" for way in ways) + f"{'limit':>14}"]
        for row in rows:
            own = [cells.get(f"{row}_{way}", {}) for way in ways]
            values = [f"{cell[key]:.3g}" if key in cell else cell.get("note", "").split(":")[0] for cell in own]
            limit = next((f"{cell['limit']:.3g}" for cell in own if "limit" in cell), "")
            lines.append(f"{row:42}" + "".join(f"{value:>14}" for value in [*values, limit]))
    reasons: dict[str, list[str]] = {}
    for name, cell in cells.items():
        if "note" in cell:
            reasons.setdefault(cell["note"], []).append(name)
    notes = [
        f"{names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}: {note}" for note, names in reasons.items()
    ]
    if report["left_out"]:
        notes.append(f"no time for {len(report['left_out'])} cells, the first {report['left_out'][0]}")
    return "\n".join([*lines, "", *notes]).strip()


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = make_parser(__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", choices=tuple(SIZES), default="full")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD")
    parser.add_argument("--skip", nargs="+", default=[], metavar="WORD")
    parser.add_argument("--budget", type=float, default=400.0, help="seconds for all of it")
    parser.add_argument("--cell", type=float, default=150.0, help="most seconds of one cell, with what it compiles")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument(
        "--child", nargs="+", default=None, help="cells that this process computes; for the script itself"
    )
    options = parser.parse_args(argv)
    if options.child is not None:
        return Bench(options.device, SIZES[options.size], options.size == "tiny").run(options.child)
    began = time.monotonic()
    deadline = began + options.budget
    only, skip = set(options.only), set(options.skip)
    cells = [name for name in all_cells() if only <= set(name.split("_")) and not skip & set(name.split("_"))]
    cells = list(dict.fromkeys(["limits", *cells]))  # without which nothing can be compared
    if len(cells) == 1 and only - {"limits"}:
        raise SystemExit(
            f"--only {' '.join(options.only)}: no cell has all these words; words are those of {', '.join(all_cells()[:3])}, ..."
        )
    report: dict[str, Any] = {
        "device": options.device,
        "size": options.size,
        "only": options.only,
        "skip": options.skip,
        "python": platform.python_version(),
    }
    report |= {"complete": False, "cells": {}, "left_out": list(cells), "run_seconds": 0.0}

    def found(name: str, result: dict[str, Any]) -> None:
        report["cells"][name] = result
        report["left_out"].remove(name)
        report["complete"] = not report["left_out"]
        report["run_seconds"] = round(time.monotonic() - began, 1)
        add_ratios(report["cells"])
        write_whole(options.out, report)
        value = {key: result[key] for key in ("seconds_per_second", "windows_per_second", "note") if key in result}
        print(f"{report['run_seconds']:6.1f} s  {name}  {' '.join(map(str, value.values()))}", flush=True)

    run_cells(cells, options, deadline, found)
    report["run_seconds"] = round(time.monotonic() - began, 1)
    write_whole(options.out, report)
    print(table(report))
    return report


# --- the child -----------------------------------------------------------------------------------------------------------


class Bench:
    """Computes cells on one device."""

    def __init__(self, device: str, sizes: dict[str, Any], tiny: bool):
        import torch
        import transformers

        transformers.logging.set_verbosity_error()
        self.torch, self.device, self.sizes, self.tiny = torch, torch.device(device), sizes, tiny
        torch.backends.cudnn.allow_tf32 = False  # float32 means float32; matrix products do by default
        self.limits: dict[str, Any] = {}
        self.models: dict[tuple[str, str], Any] = {}

    def run(self, cells: list[str]) -> dict[str, Any]:
        found = {}
        if "limits" not in cells:  # an earlier process was ended
            self.measure_limits()
        for name in cells:
            kind, *words = name.split("_")
            function = {"limits": self.measure_limits, "parity": self.parity}.get(kind) or getattr(self, kind)
            try:
                found[name] = function(*words)
            except Exception as error:
                line = f"{type(error).__name__}: {error}".splitlines()[0]
                refused = kind == "generation" and isinstance(error, ValueError | TypeError | NotImplementedError)
                found[name] = {"note": ("not supported: " if refused else "failed: ") + line[:300]}
            print(MARK + json.dumps([name, found[name]]), flush=True)
            self.clear()
        return found

    def wait(self) -> None:
        if self.device.type != "cpu":
            self.torch.accelerator.synchronize()

    def clear(self) -> None:
        """Free what a cell has compiled, and memory that nobody uses."""
        import gc

        gc.collect()
        self.torch.compiler.reset()
        if self.device.type == "cuda":
            self.torch.cuda.empty_cache()

    def seconds_of(self, function: Callable[[], Any], runs: int, most: float = 5.0) -> list[float]:
        """Of each run after a first one; fewer runs where they take long."""
        found: list[float] = []
        function()
        while len(found) < runs and sum(found) < most:
            self.wait()
            began = time.perf_counter()
            function()
            self.wait()
            found.append(time.perf_counter() - began)
        return found

    # limits

    def measure_limits(self) -> dict[str, Any]:
        torch, device, size = self.torch, self.device, self.sizes["matrix"]
        numbers = torch.ones(self.sizes["bytes"] // 4, device=device)
        read = numbers.numel() * 4 / min(self.seconds_of(numbers.sum, 10))
        flops = {}
        for kind in TYPES:
            a, b = torch.randn(2, size, size, device=device).to(getattr(torch, kind)).unbind()
            flops[kind] = 2 * size**3 / min(self.seconds_of(lambda a=a, b=b: a @ b, 10))
        small = torch.zeros(1, device=device)
        launch = min(self.seconds_of(lambda: [small.add_(1) for _ in range(1000)], 5)) / 1000
        self.limits = {"read": read, "flops": flops}
        is_cuda = device.type == "cuda"
        name = torch.cuda.get_device_name(device) if is_cuda else platform.processor() or platform.machine()
        from transformers import __version__ as transformers_version

        return {
            "name": name,
            "torch": torch.__version__,
            "transformers": transformers_version,
            "memory_gb": round(torch.cuda.get_device_properties(device).total_memory / 1e9, 1) if is_cuda else None,
            "read_gb_per_s": round(read / 1e9, 2),
            "teraflops": {kind: round(value / 1e12, 3) for kind, value in flops.items()},
            "launch_us": round(1e6 * launch, 2),
        }

    def limit_of(self, kind: str, read: float, operations: float) -> float:
        return max(read / self.limits["read"], operations / self.limits["flops"][kind])

    def weights_and_operations(self, model: Any) -> tuple[float, float, float]:
        """Of a model with one genre: numbers in the matrices that a code reads; floating-point operations of a position up to the
        head, and of the head."""
        weights = layers = head = 0
        for name, module in model.named_modules():
            if not hasattr(module, "out_features") or "rhythm" in name:
                continue
            size = module.weight.numel()
            weights += size
            if "output_mlp" in name:
                head += 2 * 2 * size  # two streams of codes
            else:
                layers += 2 * size * (1 if ".mambas." in name or "music_mlp" in name else 3)
        return weights, layers, head

    # models

    def config(self, arrangement: str, genres: int) -> Any:
        from megadance_hf import MegaDanceConfig

        sizes = {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64} if self.tiny else {}
        sizes |= {"context_codes": 6, "slide_codes": 2} if self.tiny else {}
        config = MegaDanceConfig(**sizes) if arrangement == "2025" else MegaDanceConfig.released_2026(**sizes)
        config.active_genres = config.genres[:genres]
        return config

    def model(self, arrangement: str, kind: str) -> Any:
        """For generation, with one genre; the same weights in each type."""
        if (arrangement, kind) not in self.models:
            from megadance_hf import MegaDanceForMotionGeneration

            self.torch.manual_seed(0)
            model = MegaDanceForMotionGeneration(self.config(arrangement, 1)).eval()
            if kind == "int8":
                from megadance_hf.cpu_kernels.int8 import Int8Config, Int8Quantizer

                model = Int8Quantizer(Int8Config())._process_model_after_weight_loading(model).to(self.device)
            else:
                model = model.to(self.device, getattr(self.torch, kind))
            self.models[arrangement, kind] = model
        return self.models[arrangement, kind]

    def music(self, batch: int, codes: int, config: Any) -> Any:
        """Random features, of each dance others; how long a step takes does not depend on them."""
        frames = codes * config.frames_per_code
        generator = self.torch.Generator().manual_seed(0)
        return self.torch.randn(batch, frames, config.music_feature_size, generator=generator)

    def options_of(self, way: str) -> dict[str, Any]:
        if way == "compiled":
            from transformers import CompileConfig

            return {"compile_config": CompileConfig()}
        ways = {
            "torch": {"backend": "torch"},
            "plain": {"use_cache": False},
            "static": {"cache_implementation": "static"},
        }
        return ways.get(way, {})

    # cells

    def parity(self, arrangement: str) -> dict[str, Any]:
        import copy

        torch, codes = self.torch, self.sizes["parity"]
        model = self.model(arrangement, "float32")
        reference = copy.deepcopy(model).cpu()
        features, genres = self.music(1, codes, model.config), torch.zeros(1, dtype=torch.long)
        upper, lower = torch.randint(
            model.config.codebook_size, (2, 1, codes), generator=torch.Generator().manual_seed(1)
        )

        def logits(model: Any) -> Any:
            to = [x.to(model.device) for x in (features, upper, lower, genres)]
            with torch.no_grad():
                return model(*to, use_cache=False).upper_logits.cpu()

        def dance(model: Any, **options: Any) -> Any:
            output = model.generate(
                features.to(model.device), genres.to(model.device), do_sample=False, output_scores=True, **options
            )
            both = (
                torch.cat((output.upper_codes, output.lower_codes)).cpu(),
                torch.cat((output.upper_scores, output.lower_scores)),
            )
            return both[0], both[1].float().cpu()

        exact = logits(reference)
        found: dict[str, Any] = {
            "logit_error": float((logits(model) - exact).abs().max() / exact.std()),
            "greedy": {},
            "score_error": {},
        }
        expected, scores = dance(reference, backend="torch")
        for way in ("default", "torch", "static"):
            try:
                got, own = dance(model, **self.options_of(way))
            except (ValueError, TypeError, NotImplementedError) as error:
                found["greedy"][way] = f"not supported: {str(error).splitlines()[0][:200]}"
                continue
            same = (got == expected).all(0)
            until = codes if bool(same.all()) else int(same.logical_not().nonzero()[0])
            # the scores of the first code that differs still have the same codes before them; the first code has none
            known = min(until, codes - 1)
            found["greedy"][way] = f"{until} of {codes} the same"
            found["score_error"][way] = float((own[:, :known] - scores[:, :known]).abs().max() / scores.std())
        return found

    def generation(self, arrangement: str, kind: str, mode: str, times: str, way: str) -> dict[str, Any]:
        import statistics

        from megadance_hf.modeling.generation_megadance import window_start

        model, batch, seconds = self.model(arrangement, kind), int(times[1:]), self.sizes["seconds"]
        config = model.config
        codes = round(seconds * config.fps / config.frames_per_code)
        features = self.music(batch, codes, config).to(self.device)
        genres = self.torch.zeros(batch, dtype=self.torch.long, device=self.device)
        options = self.options_of(way)
        began = time.perf_counter()
        found = self.seconds_of(
            lambda: model.generate(features, genres, do_sample=True, seed=0, mode=mode, **options).upper_codes.cpu(),
            self.sizes["runs"],
        )
        first = time.perf_counter() - began - sum(found)
        weights, of_position, of_head = self.weights_and_operations(model)
        limit, before = 0.0, -1
        for index in range(1, codes):
            start = window_start(mode, index, config.context_codes, config.slide_codes)
            positions, before = (1 if start == before else index - start), start
            read = weights * getattr(self.torch, kind).itemsize
            # a product of bytes is not measured here: that of bfloat16 is a stricter limit only where dances are many
            limit += self.limit_of(
                "bfloat16" if kind == "int8" else kind, read, batch * (positions * of_position + of_head)
            )
        taken = statistics.median(found)
        return {
            "seconds_per_second": float(f"{taken / seconds:.4g}"),
            "seconds_per_second_each": float(f"{taken / seconds / batch:.4g}"),
            "limit": float(f"{limit / seconds:.4g}"),
            "over_limit": round(taken / limit, 2),
            "seconds": taken,
            "first_seconds": round(first, 3),  # with what is compiled or captured
            "runs": len(found),
            "codes": codes,
        }

    def compiled(self, model: Any) -> Any:
        """As the setting `training.compile` does it: the experts, as one graph for all layers; where there is none, the model."""
        parts = [module for module in model.modules() if hasattr(module, "compiled")]
        for module in parts:
            module.compiled = True
        return model if parts else self.torch.compile(model)

    def training(self, arrangement: str, kind: str, way: str) -> dict[str, Any]:
        import statistics

        from megadance_hf import MegaDanceForMotionGeneration

        torch, device, codes, windows = self.torch, self.device, self.sizes["codes"], self.sizes["windows"]
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        torch.manual_seed(0)
        model = MegaDanceForMotionGeneration(self.config(arrangement, 4)).to(device).train()
        config = model.config
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.99), fused=True)
        features = self.music(windows, codes, config).to(device)
        upper, lower = torch.randint(config.codebook_size, (2, windows, codes), device=device)
        genres = torch.arange(windows, device=device) // (windows // 4)
        called = self.compiled(model) if way == "compiled" else model
        losses = []

        def step() -> None:
            with torch.autocast(device.type, torch.bfloat16, enabled=kind == "bfloat16"):
                loss = called(
                    features, upper, lower, genres, upper_labels=upper, lower_labels=lower, use_cache=False
                ).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach())

        began = time.perf_counter()
        step()
        self.wait()
        first = time.perf_counter() - began
        taken = statistics.median(self.seconds_of(step, 10))
        one = MegaDanceForMotionGeneration(self.config(arrangement, 1))
        _, of_position, of_head = self.weights_and_operations(one)
        limit = self.limit_of(kind, 0, 3 * windows * codes * (of_position + of_head))
        report = {
            "windows_per_second": float(f"{windows / taken:.4g}"),
            "limit": float(f"{windows / limit:.4g}"),
            "over_limit": round(taken / limit, 2),
            "share_of_products": round(limit / taken, 3),
            "seconds": taken,
            "first_seconds": round(first, 3),
            "memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2) if device.type == "cuda" else None,
            "loss": [round(float(losses[0]), 3), round(float(losses[-1]), 3)],
        }
        return report


if __name__ == "__main__":
    main()
