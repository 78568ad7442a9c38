"""Cost of a batch of many genres against a batch of one, since each genre has experts of its own; JSON out.

    python benchmarks/mixed_batches.py [--hidden 128] [--layers 2] [--batch 32] [--genres 16] [--runs 5]

A step is forward, backward, clipping and Adam. `runs_of_N` is what `EpochSampler(genre_run=N)` gives: at most batch / N genres.
The ratios are medians over rounds that run every kind of batch once.
"""

import statistics
import time

import torch
from timing import make_parser, median, median_ratio, print_report

from megadance_hf.modeling.configuration_megadance import MegaDanceConfig
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration


def main(argv: list[str] | None = None) -> dict:
    parser = make_parser(__doc__)
    for name, value in (("hidden", 128), ("layers", 2), ("batch", 32), ("genres", 16), ("codes", 30), ("runs", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--expand", type=int, default=2, help="width of the Mambas; the ballroom model has 1")
    parser.add_argument("--state", type=int, default=16, help="states of the Mambas; the ballroom model has 8")
    parser.add_argument("--run-lengths", type=int, nargs="*", default=[4, 8], help="segments of one genre in a row")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(argv)
    if options.device == "cpu":
        torch.set_num_threads(1)

    config = MegaDanceConfig(
        codebook_size=875,
        hidden_size=options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=4,
        intermediate_size=4 * options.hidden,
        expand=options.expand,
        state_size=options.state,
        dropout=0.0,
        id2label={number: f"genre{number}" for number in range(options.genres)},
    )
    torch.manual_seed(0)
    model = MegaDanceForMotionGeneration(config).to(options.device).train()
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    codes = torch.randint(config.codebook_size, (options.batch, options.codes), device=options.device)
    features = torch.randn(options.batch, options.codes * config.frames_per_code, 35, device=options.device)

    def step(genre_ids: torch.Tensor) -> float:
        began = time.perf_counter()
        output = model(features, codes, codes, genre_ids, upper_labels=codes, lower_labels=codes)
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if options.device != "cpu":
            torch.accelerator.synchronize()
        return time.perf_counter() - began

    index = torch.arange(options.batch, device=options.device)
    batches = {"one_genre": index * 0, "mixed": index % options.genres}
    batches |= {f"runs_of_{length}": index // length % options.genres for length in options.run_lengths}
    seconds: dict[str, list[float]] = {name: [] for name in batches}
    for number in range(options.runs + 1):
        for name, genre_ids in batches.items():
            duration = step(genre_ids)
            if number:  # the first round allocates memory and Adam's state
                seconds[name].append(duration)
    report: dict = {f"{name}_seconds": median(found, 4) for name, found in seconds.items()}
    report |= {
        f"{name}_windows_per_second": round(options.batch / statistics.median(s), 1) for name, s in seconds.items()
    }
    for name in list(batches)[1:]:
        report[f"{name}_over_one_genre"] = median_ratio(seconds[name], seconds["one_genre"])
    report |= {name: getattr(options, name) for name in ("hidden", "layers", "batch", "genres", "expand", "state")}
    report |= {"device": options.device, "runs": options.runs}
    return print_report(report)


if __name__ == "__main__":
    main()
