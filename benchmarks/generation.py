"""Seconds of compute per second of dance: backends, modes, types of weights, batches, lengths; JSON out.

    python benchmarks/generation.py [--size full|bundled] [--runs 5] [--threads 2] [--device cpu]
        [--cases paper_bfloat16 paper_bfloat16_x64 ...]

`full` is the paper's size with random weights (849 M parameters, 107 M of them for one genre), `bundled` the model that comes
with the package. A case is a way and a type of weights:

- `paper`, `released`, `stream`: the modes of `generate`, with the backend that "auto" chooses;
- `torch`: mode "paper" with the modules of torch and the cache, which is the plain way; `compile`: the same modules through `torch.compile`;
- `plain`: mode "paper" without a cache: every window anew, which is the obvious loop.

Then `x8` for eight dances at once (its seconds are those of the eight divided by eight), or `600s` for ten minutes of music instead of
`--seconds`. Each run measures all cases one after the other; medians over the runs. `over_short` is the time of ten minutes over that of
as many minutes of short dances, half of them before it and half after: no machine is the same for long.

`agreement` compares the types with float32, each step given the same codes before it: how often the likeliest code is the same,
and the error of the logits as a share of their spread.
"""

import copy
import statistics
import time

import torch
import transformers
from timing import make_parser, median, print_report
from transformers import LogitsProcessor

from megadance_hf import MegaDanceConfig, MegaDanceForMotionGeneration
from megadance_hf.cpu_kernels.compiled_steps import loops
from megadance_hf.cpu_kernels.int8 import Int8Config, Int8Quantizer
from megadance_hf.modeling.experts_megadance import FeedForward
from megadance_hf.modeling.mamba_megadance import Mamba
from megadance_hf.models import DEFAULT_MODEL

TYPES = ("float32", "bfloat16", "int8")
CASES = (
    *(f"paper_{kind}{more}" for kind in TYPES for more in ("", "_x4", "_x8", "_x16")),
    *("torch_float32", "torch_bfloat16", "compile_float32", "compile_bfloat16"),
    *("plain_float32", "released_float32", "stream_float32", "stream_bfloat16", "stream_int8", "paper_int8_600s"),
)


def build(size: str, tiny: bool) -> MegaDanceForMotionGeneration:
    if size == "bundled":
        return MegaDanceForMotionGeneration.from_pretrained(DEFAULT_MODEL).eval()
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64, "codebook_size": 63} if tiny else {}
    config = MegaDanceConfig(**sizes)
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


def measure(model: MegaDanceForMotionGeneration, case: str, seconds: float) -> float:
    mode, _, *more = case.split("_")
    batch = next((int(word[1:]) for word in more if word.startswith("x")), 1)
    seconds = next((float(word[:-1]) for word in more if word.endswith("s")), seconds)
    arguments = {
        "plain": {"mode": "paper", "use_cache": False},
        "torch": {"mode": "paper", "backend": "torch"},
        "compile": {"mode": "paper", "backend": "torch"},
    }.get(mode, {"mode": mode})
    music, genres = music_for(batch, seconds), torch.full((batch,), model.config.label2id[model.config.built_genres[0]])
    began = time.perf_counter()
    model.generate(music, genres, do_sample=True, seed=0, **arguments).upper_codes.cpu()  # waits for a GPU
    return (time.perf_counter() - began) / (batch * seconds)


class Follow(LogitsProcessor):
    """Chooses the codes of a given dance, [2 * batch, codes]."""

    def __init__(self, codes: torch.Tensor):
        self.codes = codes

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        chosen = self.codes[:, input_ids.shape[1], None]
        return torch.full_like(scores, -torch.inf).scatter(1, chosen, 0.0)


def agreement(models: dict[str, MegaDanceForMotionGeneration], seconds: float) -> dict[str, dict[str, float]]:
    """Step by step as in generation, along the dance of the float32 model."""
    first = models["float32"]
    music, genres = music_for(1, seconds), torch.tensor([first.config.label2id[first.config.built_genres[0]]])
    dance = first.generate(music, genres, do_sample=True, seed=0, mode="paper")
    follow = [Follow(torch.cat((dance.upper_codes, dance.lower_codes)))]
    prompt = {"upper_codes": dance.upper_codes[:, :1], "lower_codes": dance.lower_codes[:, :1]}
    found = {}
    for kind, model in models.items():
        output = model.generate(
            music, genres, **prompt, mode="paper", do_sample=False, output_logits=True, logits_processor=follow
        )
        found[kind] = torch.cat((output.upper_logits, output.lower_logits))
    exact = found.pop("float32")
    return {
        kind: {
            "same_likeliest_code": float((logits.argmax(-1) == exact.argmax(-1)).float().mean()),
            "logit_error": float((logits - exact).std() / exact.std()),
        }
        for kind, logits in found.items()
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

    model = build(arguments.size, arguments.tiny).to(arguments.device)
    models = {kind: of_type(model, kind) for kind in TYPES}
    of_case = {
        case: compile_modules(models[case.split("_")[1]]) if case.startswith("compile") else models[case.split("_")[1]]
        for case in arguments.cases
    }
    times = {case: [] for case in arguments.cases}
    for case in arguments.cases:  # compiles, and brings the weights to memory
        measure(of_case[case], case.split("_x")[0].split("_6")[0], 10.0)
    over_short: dict[str, list[float]] = {}
    for _ in range(arguments.runs):
        for case, found in times.items():
            model, (short, more) = of_case[case], case.rsplit("_", 1)
            halves = round(float(more[:-1]) / arguments.seconds / 2) if more.endswith("s") else 0
            around = [measure(model, short, arguments.seconds) for _ in range(halves)]
            found.append(measure(model, case, arguments.seconds))
            around += [measure(model, short, arguments.seconds) for _ in range(halves)]
            if around:
                over_short.setdefault(case, []).append(found[-1] / statistics.mean(around))
    seconds = {case: statistics.median(found) for case, found in times.items()}
    report = {"size": arguments.size, "device": arguments.device, "threads": arguments.threads, "runs": arguments.runs}
    report["seconds_per_second"] = {case: float(f"{value:.3g}") for case, value in seconds.items()}
    for way in ("torch", "compile", "plain"):
        baselines = {kind: seconds.get(f"{way}_{kind}", seconds.get(f"{way}_float32")) for kind in TYPES}
        over = {case: baselines[case.split("_")[1]] for case in seconds if baselines[case.split("_")[1]]}
        report[f"{way}_over"] = {case: round(baseline / seconds[case], 2) for case, baseline in over.items()}
    for case in seconds:
        alone = case.split("_x")[0]
        if alone != case and alone in seconds:
            report.setdefault("batch_throughput", {})[case] = round(seconds[alone] / seconds[case], 2)
    if over_short:
        report["over_short"] = {case: median(ratios, 3) for case, ratios in over_short.items()}
    report["agreement_with_float32"] = agreement(models, 3 * arguments.seconds)
    return print_report(report)


if __name__ == "__main__":
    main()
