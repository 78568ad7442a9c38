"""Dance to a sound file as if it came from a microphone: it arrives in real time, and poses come out while it plays.

    python examples/stream_dance.py song.mp3 --genre waltz -o dance.mp4

Prints for each piece of the dance how much music had arrived, and writes the whole dance at the end. For a microphone, replace
`real_time` by the blocks of your audio library, (samples,) or (samples, channels), such as those of `sounddevice.InputStream`.
"""

import argparse
import time
from collections.abc import Iterator

import numpy as np

from megadance_hf import Motion, MusicToDancePipeline, load_audio


def real_time(sound: np.ndarray, rate: int, fast: bool, block: int = 1024) -> Iterator[np.ndarray]:
    """Blocks of a waveform, each when its last sample has been played; without waiting when `fast`."""
    start = time.monotonic()
    for first in range(0, len(sound), block):
        end = min(first + block, len(sound))
        if not fast:
            time.sleep(max(0.0, start + end / rate - time.monotonic()))
        yield sound[first:end]


def main(argv: list[str] | None = None) -> Motion:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("song")
    parser.add_argument("--model", default="ballroom", help="bundled model, folder or Hub id")
    parser.add_argument("--genre")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--wait-codes", type=int, default=0, help="smoother motion, each 0.267 s later")
    parser.add_argument("--fast", action="store_true", help="as fast as possible instead of in real time")
    parser.add_argument("-o", "--output", help="the whole dance: .mp4, .glb, .bvh, .npz")
    arguments = parser.parse_args(argv)

    pipe = MusicToDancePipeline.from_pretrained(arguments.model)
    sound, rate = load_audio(arguments.song, sampling_rate=None)
    blocks, chunks = real_time(sound, rate, arguments.fast), []
    for chunk in pipe.stream(blocks, rate, arguments.genre, seed=arguments.seed, wait_codes=arguments.wait_codes):
        chunks.append(chunk)
        first, metadata = chunk.metadata["first_frame"], chunk.metadata
        print(f"frames {first} to {first + len(chunk) - 1}:", end=" ")
        print(f"{metadata['heard']:.2f} s of music heard, {metadata['compute_seconds']:.3f} s computed", flush=True)
    poses, translation = (np.concatenate([getattr(c, name) for c in chunks]) for name in ("poses", "translation"))
    dance = Motion(poses, translation, chunks[0].fps, chunks[0].genre)
    if arguments.output:
        print(dance.save(arguments.output, music=arguments.song))
    return dance


if __name__ == "__main__":
    main()
