"""How many training segments per second one process makes, so that no GPU waits for them; JSON out.

    python benchmarks/segments.py [--runs 5]

The plain twin builds each segment from the clip's poses instead of slicing what was computed once.
"""

import time

import numpy as np
import torch
from timing import make_parser, median, median_ratio, print_report

from megadance_hf.data.augmentation import MusicAugmentation
from megadance_hf.data.clip import Clip
from megadance_hf.data.codes import encode_clips
from megadance_hf.data.sampling import collate
from megadance_hf.data.segments import CodeSegments, MotionSegments
from megadance_hf.data.statistics import Statistics
from megadance_hf.modeling.kinematics_megadance import poses_to_motion


def some_clip(number: int, frames: int = 1800) -> Clip:
    generator = np.random.default_rng(number)
    return Clip(
        id=str(number),
        poses=generator.normal(size=(frames, 72)).astype(np.float32),
        translation=generator.normal(size=(frames, 3)).astype(np.float32),
        input_features=generator.random((frames, 35), dtype=np.float32),
        genre="waltz",
    )


def fake_codes(motion: torch.Tensor):
    codes = torch.zeros(1, motion.shape[1] // 8, dtype=torch.long)
    return type("Codes", (), {"upper_codes": codes, "lower_codes": codes})


def rate(make, count: int) -> float:
    began = time.perf_counter()
    for first in range(0, count - 31, 32):
        collate([make(index) for index in range(first, first + 32)])
    return count // 32 * 32 / (time.perf_counter() - began)


def main(argv: list[str] | None = None) -> dict:
    parser = make_parser(__doc__, runs=5)
    runs = parser.parse_args(argv).runs
    torch.set_num_threads(1)
    clips = [some_clip(number) for number in range(4)]
    motion = MotionSegments(clips)
    codes = CodeSegments(
        encode_clips(fake_codes, clips), ["waltz"], Statistics.from_clips(clips), augmentation=MusicAugmentation()
    )

    def plain(index: int) -> dict[str, torch.Tensor]:
        frames = slice(16 * index, 16 * index + 240)
        poses = torch.from_numpy(clips[0].poses[frames]).unflatten(-1, (24, 3))
        return {"motion": poses_to_motion(poses, torch.from_numpy(clips[0].translation[frames]))}

    rates: dict[str, list[float]] = {"motion": [], "codes": [], "plain_motion": []}
    for _ in range(runs):  # all three in turn, so that a busy moment strikes all of them
        rates["motion"].append(rate(motion.__getitem__, len(motion)))
        rates["codes"].append(rate(codes.__getitem__, len(codes)))
        rates["plain_motion"].append(rate(plain, 96))
    report: dict = {f"{name}_segments_per_second": median(found, None) for name, found in rates.items()}
    report |= {"motion_over_plain": median_ratio(rates["motion"], rates["plain_motion"], 1), "runs": runs}
    return print_report(report)


if __name__ == "__main__":
    main()
