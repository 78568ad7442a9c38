"""Codes to poses: seconds of compute per minute of dance, at once and segment by segment; JSON out.

    python benchmarks/decode.py [--size full|bundled] [--lengths 20 180 600] [--runs 5] [--threads 2]

`whole` is what the pipeline does: the decoder's convolutions over the dance at once, then rotations and the root path.
`plain` decodes segments of 30 codes one by one, as the authors' training does, which would also leave seams between them.
`full` is the paper's tokenizer with random weights. Medians of the runs, measured in turn.
"""

import statistics

import torch
from timing import make_parser, print_report, seconds_of

from megadance_hf import MegaDanceProcessor, MegaDanceTokenizer, MegaDanceTokenizerConfig
from megadance_hf.modeling.generation_megadance import MegaDanceGenerateOutput
from megadance_hf.models import DEFAULT_MODEL

SEGMENT = 30  # codes


def build(size: str) -> MegaDanceTokenizer:
    if size == "bundled":
        return MegaDanceTokenizer.from_pretrained(DEFAULT_MODEL).eval()
    torch.manual_seed(0)
    tiny = {"hidden_size": 16, "code_size": 16, "residual_depth": 1} if size == "tiny" else {}
    return MegaDanceTokenizer(MegaDanceTokenizerConfig(**tiny)).eval()


def main(argv: list[str] | None = None) -> dict:
    parser = make_parser(__doc__, runs=5, threads=2)
    parser.add_argument("--size", choices=("full", "bundled", "tiny"), default="full")
    parser.add_argument("--lengths", type=float, nargs="+", default=[20.0, 180.0, 600.0], help="seconds of dance")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    tokenizer = build(arguments.size)
    processor = MegaDanceProcessor.from_pretrained(DEFAULT_MODEL)
    step, fps = tokenizer.config.frames_per_code, tokenizer.config.fps

    def whole(codes: torch.Tensor) -> None:
        processor.post_process_motion(MegaDanceGenerateOutput(*codes), tokenizer, clean=False)

    def plain(codes: torch.Tensor) -> None:
        for part in codes.split(SEGMENT, dim=-1):
            whole(part)

    times = {}
    for run in range(arguments.runs + 1):  # the first one warms up
        for seconds in arguments.lengths:
            codes = torch.randint(0, tokenizer.config.codebook_size, (2, 1, int(seconds * fps) // step))
            for name, decode in (("whole", whole), ("plain", plain)):
                taken = seconds_of(decode, codes)
                if run:
                    times.setdefault(f"{name}_{seconds:g}s", []).append(60 * taken / seconds)
    report = {
        "size": arguments.size,
        "threads": arguments.threads,
        "runs": arguments.runs,
        "seconds_per_minute": {name: float(f"{statistics.median(found):.3g}") for name, found in times.items()},
    }
    return print_report(report)


if __name__ == "__main__":
    main()
