"""Seconds of compute per second of dance: arrangements, backends, modes, types of weights, batches, lengths; JSON out.

    python benchmarks/generation.py [--size full|bundled] [--runs 5] [--threads 2] [--device cpu]
        [--cases paper_bfloat16 paper_bfloat16_x64 paper_2026_float32 ...]

`full` is a release's size with random weights and one genre (2025: 107 M parameters, 849 M with all sixteen genres; 2026: 92 M and
470 M), `bundled` the model that comes with the package. A case is words, joined by `_`:

- a mode of `generate`, `paper`, `released` or `stream`, computed by the backend that "auto" chooses;
- before it, or alone for mode `paper`, a plainer way: `torch`, the modules of torch with the cache; `compile`, the same modules
  through `torch.compile`; `plain`, without a cache: every window anew, which is the obvious loop;
- `2026` for the arrangement of the release of 2026 instead of that of 2025;
- the type of the weights;
- `x8` for eight dances at once (its seconds are those of the eight divided by eight), or `600s` for ten minutes of music instead of
  `--seconds`.

Each run measures all cases one after the other; medians over the runs. `over_short` is the time of ten minutes over that of as many
minutes of short dances, half of them before it and half after: no machine is the same for long.

`agreement` compares the types with float32, each step given the same codes before it: how often the likeliest code is the same,
and the error of the logits as a share of their spread.
"""

import copy
import statistics
import time
from collections.abc import Iterable
from typing import NamedTuple

import torch
import transformers
from timing import make_parser, median, print_report
from transformers import LogitsProcessor

from megadance_hf import MegaDanceConfig, MegaDanceForMotionGeneration
from megadance_hf.cpu_kernels.compiled_steps import loops
from megadance_hf.cpu_kernels.int8 import Int8Config, Int8Quantizer
from megadance_hf.modeling.experts_megadance import FeedForward
from megadance_hf.modeling.generation_megadance import MODES
from megadance_hf.modeling.mamba_megadance import Mamba
from megadance_hf.models import DEFAULT_MODEL

TYPES = ("float32", "bfloat16", "int8")
WAYS = {"torch": {"backend": "torch"}, "compile": {"backend": "torch"}, "plain": {"use_cache": False}}
CASES = (
    *(f"paper_{kind}{more}" for kind in TYPES for more in ("", "_x4", "_x8", "_x16")),
    *("torch_float32", "torch_bfloat16", "compile_float32", "compile_bfloat16"),
    *("plain_float32", "released_float32", "stream_float32", "stream_bfloat16", "stream_int8", "paper_int8_600s"),
    *(f"{mode}_2026_{kind}" for mode in ("paper", "released") for kind in TYPES),
    *("torch_2026_float32", "torch_2026_bfloat16", "torch_released_2026_float32", "plain_2026_float32"),
)


class Case(NamedTuple):
    """What the words of a case's name say."""

    way: str
    mode: str
    arrangement: str
    kind: str
    batch: int
    seconds: float | None

    @classmethod
    def read(cls, name: str) -> "Case":
        words = name.split("_")

        def one_of(known: Iterable[str], default: str) -> str:
            return next((word for word in words if word in known), default)

        batch = next((int(word[1:]) for word in words if word[0] == "x"), 1)
        seconds = next((float(word[:-1]) for word in words if word[-1] == "s" and word[:-1].isdigit()), None)
        year = one_of(("2026",), "2025")
        return cls(one_of(WAYS, ""), one_of(MODES, "paper"), year, one_of(TYPES, "float32"), batch, seconds)

    @property
    def alone(self) -> "Case":
        """One dance of the usual length."""
        return self._replace(batch=1, seconds=None)


def build(size: str, arrangement: str, tiny: bool) -> MegaDanceForMotionGeneration:
    if size == "bundled":
        return MegaDanceForMotionGeneration.from_pretrained(DEFAULT_MODEL).eval()
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64} if tiny else {}
    config = MegaDanceConfig(**sizes) if arrangement == "2025" else MegaDanceConfig.released_2026(**sizes)
    config.active_genres = config.genres[:1]
    torch.manual_seed(0)
    return MegaDanceForMotionGeneration(config).eval()


def of_type(model: MegaDanceForMotionGeneration, kind: str) -> MegaDanceForMotionGeneration:
    model = copy.deepcopy(model)
    if kind == "int8":
        return Int8Quantizer(Int8Config())._process_model_after_weight_loading(model)
    return model.to(getattr(torch, kind))


def compile_modules(model: MegaDanceForMotionGeneration) -> MegaDanceForMotionGeneration:
    """The same weights with Mambas and feed-forward nets through `torch.compile`. Not whole experts: the ring of the cache is indexed by the
    position, for each of which they would be compiled anew."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, Mamba | FeedForward):
            module.compile()
    return model


def music_for(batch: int, seconds: float) -> torch.Tensor:
    """Random features; how long a step takes does not depend on them."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, round(30 * seconds), 35, generator=generator).repeat(batch, 1, 1)


def measure(model: MegaDanceForMotionGeneration, case: Case, seconds: float) -> float:
    seconds = case.seconds or seconds
    genres = torch.full((case.batch,), model.config.label2id[model.config.built_genres[0]])
    music, arguments = music_for(case.batch, seconds), {"mode": case.mode, **WAYS.get(case.way, {})}
    began = time.perf_counter()
    model.generate(music, genres, do_sample=True, seed=0, **arguments).upper_codes.cpu()  # waits for a GPU
    return (time.perf_counter() - began) / (case.batch * seconds)


class Follow(LogitsProcessor):
    """Chooses the codes of a given dance, [2 * batch, codes], and keeps what each was scored with."""

    def __init__(self, codes: torch.Tensor):
        self.codes, self.scores = codes, []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.scores.append(scores)
        chosen = self.codes[:, input_ids.shape[1], None]
        return torch.full_like(scores, -torch.inf).scatter(1, chosen, 0.0)


def agreement(models: dict[str, MegaDanceForMotionGeneration], seconds: float) -> dict[str, dict[str, float]]:
    """Step by step as in generation, along the dance of the float32 model."""
    first = models["float32"]
    music, genres = music_for(1, seconds), torch.tensor([first.config.label2id[first.config.built_genres[0]]])
    dance = first.generate(music, genres, do_sample=True, seed=0, mode="paper")
    prompt = {"upper_codes": dance.upper_codes[:, :1], "lower_codes": dance.lower_codes[:, :1]}
    found = {}
    for kind, model in models.items():
        follow = Follow(torch.cat((dance.upper_codes, dance.lower_codes)))
        model.generate(music, genres, **prompt, mode="paper", do_sample=False, logits_processor=[follow])
        found[kind] = torch.stack(follow.scores)
    exact = found.pop("float32")
    return {
        kind: {
            "same_likeliest_code": float((scores.argmax(-1) == exact.argmax(-1)).float().mean()),
            "logit_error": float((scores - exact).std() / exact.std()),
        }
        for kind, scores in found.items()
    }


def main(argv: list[str] | None = None) -> dict:
    parser = make_parser(__doc__, runs=5, threads=2)
    parser.add_argument("--size", choices=("full", "bundled"), default="full")
    parser.add_argument("--tiny", action="store_true", help="a model of no use, to try this out")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    if loops() is not None:
        import numba

        numba.set_num_threads(min(arguments.threads, numba.config.NUMBA_NUM_THREADS))
    transformers.logging.set_verbosity_error()

    cases = {name: Case.read(name) for name in arguments.cases}
    models: dict[str, dict[str, MegaDanceForMotionGeneration]] = {}
    for arrangement in dict.fromkeys(case.arrangement for case in cases.values()):
        model = build(arguments.size, arrangement, arguments.tiny).to(arguments.device)
        models[arrangement] = {kind: of_type(model, kind) for kind in TYPES}
    model_of = {}
    for name, case in cases.items():
        model = models[case.arrangement][case.kind]
        model_of[name] = compile_modules(model) if case.way == "compile" else model
        measure(
            model_of[name], case._replace(seconds=10.0, batch=1), 10.0
        )  # compiles, and brings the weights to memory
    times = {name: [] for name in cases}
    over_short: dict[str, list[float]] = {}
    for _ in range(arguments.runs):
        for name, case in cases.items():
            model = model_of[name]
            halves = 0 if case.seconds is None else round(case.seconds / arguments.seconds / 2)
            around = [measure(model, case.alone, arguments.seconds) for _ in range(halves)]
            times[name].append(measure(model, case, arguments.seconds))
            around += [measure(model, case.alone, arguments.seconds) for _ in range(halves)]
            if around:
                over_short.setdefault(name, []).append(times[name][-1] / statistics.mean(around))
    seconds = {name: statistics.median(found) for name, found in times.items()}
    by_case = {case: seconds[name] for name, case in cases.items()}
    report = {"size": arguments.size, "device": arguments.device, "threads": arguments.threads, "runs": arguments.runs}
    report["seconds_per_second"] = {name: float(f"{value:.3g}") for name, value in seconds.items()}
    for way in WAYS:
        over = {}
        for name, case in cases.items():
            baseline = case.alone._replace(way=way)
            baseline = by_case.get(baseline, by_case.get(baseline._replace(kind="float32")))
            if baseline is not None:
                over[name] = round(baseline / seconds[name], 2)
        report[f"{way}_over"] = over
    for name, case in cases.items():
        if case.batch > 1 and case.alone in by_case:
            report.setdefault("batch_throughput", {})[name] = round(by_case[case.alone] / seconds[name], 2)
    if over_short:
        report["over_short"] = {case: median(ratios, 3) for case, ratios in over_short.items()}
    report["agreement_with_float32"] = {
        kind if arrangement == "2025" else f"{arrangement}_{kind}": found
        for arrangement, of_types in models.items()
        for kind, found in agreement(of_types, 3 * arguments.seconds).items()
    }
    return print_report(report)


if __name__ == "__main__":
    main()
