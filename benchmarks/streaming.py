"""Delay of a streamed dance: music comes in at the pace it is played; JSON out.

    python benchmarks/streaming.py [--model ballroom|full] [--dtype float32|bfloat16] [--seconds 30] [--guess-codes 4]

`full` is the paper's size with random weights and one genre. Three numbers per chunk, their median and 95th percentile:

- `after_music_seconds`: from the last sample of the chunk's music to the chunk;
- `delay_seconds`: from the music of an instant to its pose, for the first pose of the chunk, which waits longest;
- `compute_seconds`: the time to compute the chunk.

Below 1 `compute_per_second_of_music` keeps up with the music. `--fast` does not wait for the music to be played.
"""

import time
from collections.abc import Iterator

import numpy as np
import torch
import transformers
from timing import make_parser, print_report

from megadance_hf import (
    MegaDanceConfig,
    MegaDanceFeatureExtractor,
    MegaDanceForMotionGeneration,
    MegaDanceProcessor,
    MegaDanceTokenizer,
    MegaDanceTokenizerConfig,
    MusicToDancePipeline,
)
from megadance_hf.synthetic.composer import compose
from megadance_hf.synthetic.synthesizer import SAMPLING_RATE

BLOCK = 1024  # samples


def build(model: str, dtype: torch.dtype) -> MusicToDancePipeline:
    if model not in ("full", "tiny"):
        return MusicToDancePipeline.from_pretrained(model, device="cpu", dtype=dtype)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64} if model == "tiny" else {}
    config = MegaDanceConfig(**sizes)
    config.active_genres = config.genres[:1]
    torch.manual_seed(0)
    generator = MegaDanceForMotionGeneration(config).to(dtype).eval()
    widths = {"hidden_size": 16, "code_size": 16} if model == "tiny" else {}
    tokenizer = MegaDanceTokenizer(MegaDanceTokenizerConfig(**widths)).eval()
    processor = MegaDanceProcessor(MegaDanceFeatureExtractor(), config.genres, config.frames_per_code)
    return MusicToDancePipeline(generator, tokenizer, processor, device="cpu")


class Player:
    """Blocks of music in real time: each comes when its last sample has been played."""

    def __init__(self, sound: np.ndarray, fast: bool):
        self.sound, self.fast, self.began = sound, fast, 0.0

    def __iter__(self) -> Iterator[np.ndarray]:
        self.began = time.perf_counter()  # when the first block is asked for; before that is preparation
        for first in range(0, len(self.sound), BLOCK):
            block = self.sound[first : first + BLOCK]
            if not self.fast:
                time.sleep(max(0.0, self.began + (first + len(block)) / SAMPLING_RATE - time.perf_counter()))
            yield block


def main(argv: list[str] | None = None) -> dict:
    parser = make_parser(__doc__)
    parser.add_argument("--model", default="ballroom", help="a folder, a bundled model's name, or full")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--threads", type=int, default=1, help="torch's; 2 are slower for a small model")
    parser.add_argument("--wait-codes", type=int, default=0)
    parser.add_argument("--guess-codes", type=int, default=4)
    parser.add_argument("--fast", action="store_true")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    transformers.logging.set_verbosity_error()

    pipe = build(arguments.model, getattr(torch, arguments.dtype))
    player = Player(compose(arguments.seconds, style="waltz").render().mean(1), arguments.fast)
    codes = {"wait_codes": arguments.wait_codes, "guess_codes": arguments.guess_codes}
    began = time.perf_counter()
    after_music, delay, compute, frames = [], [], [], 0
    for chunk in pipe.stream(player, SAMPLING_RATE, seed=0, **codes):
        now = time.perf_counter() - player.began
        if not frames:
            preparation = player.began - began
        frames += len(chunk)
        compute.append(chunk.metadata["compute_seconds"])
        after_music.append(now - min(chunk.metadata["heard"], arguments.seconds))
        delay.append(now - chunk.metadata["first_frame"] / chunk.fps)
    report = {"model": arguments.model, "dtype": arguments.dtype, "threads": arguments.threads, **codes}
    report |= {"seconds": arguments.seconds, "chunks": len(compute), "frames": frames}
    report["preparation_seconds"] = round(preparation, 3)
    measured = (
        {"compute": compute} if arguments.fast else {"after_music": after_music, "delay": delay, "compute": compute}
    )
    for name, values in measured.items():
        report[f"{name}_seconds"] = {
            "first": round(values[0], 3),
            "median": round(float(np.median(values)), 3),
            "p95": round(float(np.percentile(values, 95)), 3),
        }
    report["compute_per_second_of_music"] = round(sum(compute) / arguments.seconds, 3)
    return print_report(report)


if __name__ == "__main__":
    main()
