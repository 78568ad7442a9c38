"""Dance to a sound file as to a microphone: it is heard at the pace it is played, and poses come out while it sounds.

    python examples/stream_dance.py song.mp3 --genre waltz -o dance.mp4

Prints how long after its music each piece of the dance was there, and writes the whole dance at the end. For a microphone, replace
`played` by blocks of your sound library, (samples,) or (samples, channels), such as those of `sounddevice.InputStream`.
"""

import argparse
import time
from collections.abc import Iterator

import numpy as np

from megadance_hf import Motion, MusicToDancePipeline, load_audio


def played(sound: np.ndarray, rate: int, fast: bool, block: int = 1024) -> Iterator[np.ndarray]:
    """Blocks of a waveform, each when its last sample has sounded."""
    began = time.monotonic()
    for first in range(0, len(sound), block):
        end = min(first + block, len(sound))
        if not fast:
            time.sleep(max(0.0, began + end / rate - time.monotonic()))
        yield sound[first:end]


def main(argv: list[str] | None = None) -> Motion:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("song")
    parser.add_argument("--model", default="ballroom", help="bundled model, folder or Hub id")
    parser.add_argument("--genre")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--wait-codes", type=int, default=0, help="smoother motion, each 0.267 s later")
    parser.add_argument("--fast", action="store_true", help="as fast as possible instead of as it sounds")
    parser.add_argument("-o", "--output", help="the whole dance: .mp4, .glb, .bvh, .npz")
    arguments = parser.parse_args(argv)

    pipe = MusicToDancePipeline.from_pretrained(arguments.model)
    sound, rate = load_audio(arguments.song, sampling_rate=None)
    chunks = []
    for chunk in pipe.stream(
        played(sound, rate, arguments.fast),
        rate,
        arguments.genre,
        seed=arguments.seed,
        wait_codes=arguments.wait_codes,
    ):
        chunks.append(chunk)
        about = chunk.metadata
        print(f"frames {about['first_frame']} to {about['first_frame'] + len(chunk) - 1}:", end=" ")
        print(f"{about['heard']:.2f} s of music heard, {about['compute_seconds']:.3f} s computed", flush=True)
    dance = Motion(
        np.concatenate([chunk.poses for chunk in chunks]),
        np.concatenate([chunk.translation for chunk in chunks]),
        chunks[0].fps,
        chunks[0].genre,
    )
    if arguments.output:
        print(dance.save(arguments.output, music=arguments.song))
    return dance


if __name__ == "__main__":
    main()
