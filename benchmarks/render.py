"""Speed of the video writer: frames per second drawn, encoded and written, against a plain loop; cold start. Prints JSON.

    python benchmarks/render.py [--frames 900] [--size 1280 720] [--runs 3]

`plain` is the obvious loop: one frame after the other, drawn in RGB, converted by PyAV, encoded by x264 with the same settings and
its own threads. Both write a song, too. Quality is the PSNR (decibels) of the luma against the frames as drawn. The cold start is a
new process that makes a video of one frame, without and with compiled loops in numba's cache.
"""

import statistics
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
from timing import make_parser, median_ratio, print_report, run_python, seconds_of

from megadance_hf.motion.motion import Motion
from megadance_hf.render import video as writer
from megadance_hf.render.rasterizer import VIDEO
from megadance_hf.render.stage import Stage
from megadance_hf.render.video import render_video
from megadance_hf.synthetic.choreographer import choreograph
from megadance_hf.synthetic.composer import compose
from megadance_hf.synthetic.synthesizer import SAMPLING_RATE

RATE = 30  # frames per second
CHILD = """
import sys, time
import numpy as np
from megadance_hf.motion import Motion
from megadance_hf.render import render_video
began = time.perf_counter()
dance = Motion(np.zeros((1, 72), np.float32), np.array([[0, 0.9, 0]]), fps=30, genre="waltz")
render_video(dance, sys.argv[1], size=(64, 36), progress=False)
print(time.perf_counter() - began)
"""


def plain_video(motion: Motion, path: Path, sound: np.ndarray, size: tuple[int, int]) -> None:
    import av

    stage = Stage(motion, size)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=RATE, options=writer._X264)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLING_RATE, layout="stereo", bit_rate=192_000)
        for index in range(len(stage)):
            frame = av.VideoFrame.from_ndarray(stage.draw(index), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(video.encode(frame))
        for sent in range(0, len(sound), 1024):
            block = np.ascontiguousarray(sound[sent : sent + 1024].T)
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = SAMPLING_RATE, sent, Fraction(1, SAMPLING_RATE)
            container.mux(audio.encode(frame))
        for stream in (video, audio):
            container.mux(stream.encode(None))


def encode_again(planes: list[tuple[np.ndarray, ...]], size: tuple[int, int]) -> None:
    """Encode drawn frames as one thread of the writer does."""
    import av

    context = av.CodecContext.create("libx264", "w")
    writer._configure(context, size, Fraction(RATE))
    context.options = writer._X264
    for index, frame_planes in enumerate(planes):
        content = np.concatenate([plane.reshape(-1) for plane in frame_planes]).reshape(-1, size[0])
        frame = av.VideoFrame.from_ndarray(content, format="yuv420p")
        frame.pts, frame.time_base = index, Fraction(1, RATE)
        context.encode(frame)
    context.encode(None)


def psnr(path: Path, motion: Motion, size: tuple[int, int]) -> float:
    import av

    stage, errors = Stage(motion, size), []
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index % 10 == 0:
                shown = frame.to_ndarray()[: size[1]].astype(float)
                errors.append(((shown - stage.draw_planes(index, VIDEO)[0]) ** 2).mean())
    return float(10 * np.log10(255**2 / np.mean(errors)))


def main(argv: list[str] | None = None) -> dict:
    parser = make_parser(__doc__, runs=3)
    parser.add_argument("--frames", type=int, default=900)
    parser.add_argument("--size", type=int, nargs=2, default=(1280, 720), metavar=("WIDTH", "HEIGHT"))
    arguments = parser.parse_args(argv)
    size, frames = tuple(arguments.size), arguments.frames
    seconds = frames / RATE
    dance, song = choreograph("march", max(1.0, seconds), tempo=96), compose(max(1.0, seconds), tempo=96)
    sound = song.render()[: round(seconds * SAMPLING_RATE)]
    motion = Motion(dance.poses[:frames], dance.translation[:frames], fps=RATE, genre="march")
    stage = Stage(motion, size)
    stage.draw(0), stage.draw_planes(0)  # compile the loops

    times = {name: [] for name in ("plain", "ours", "draw", "encode")}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {"plain": folder / "plain.mp4", "ours": folder / "ours.mp4"}
        few = range(0, frames, max(1, frames // 100))
        planes = [stage.draw_planes(index) for index in range(min(frames, 100))]
        for _ in range(arguments.runs):  # alternating, so that a busy moment hits all
            times["plain"].append(seconds_of(plain_video, motion, files["plain"], sound, size))
            ours = {"music": (sound, SAMPLING_RATE), "size": size, "progress": False}
            times["ours"].append(seconds_of(lambda ours=ours: render_video(motion, files["ours"], **ours)))
            times["draw"].append(seconds_of(lambda: [stage.draw_planes(index) for index in few]) * frames / len(few))
            times["encode"].append(seconds_of(encode_again, planes, size) * frames / len(planes))
        sizes = {name: path.stat().st_size for name, path in files.items()}
        quality = psnr(files["ours"], motion, size)
        cold = [run_python(CHILD, folder / "cold.mp4", NUMBA_CACHE_DIR=folder / "cache") for _ in range(2)]
    report = {
        "frames_per_second": round(frames / statistics.median(times["ours"]), 1),
        "plain_frames_per_second": round(frames / statistics.median(times["plain"]), 1),
        "plain_over_ours": median_ratio(times["plain"], times["ours"]),
        "drawn_per_second_one_thread": round(frames / statistics.median(times["draw"]), 1),
        "encoded_per_second_one_thread": round(frames / statistics.median(times["encode"]), 1),
        "bytes_a_frame": round(sizes["ours"] / frames),
        "plain_bytes_a_frame": round(sizes["plain"] / frames),
        "psnr": round(quality, 2),
        "first_video_seconds_compiling": round(cold[0], 2),
        "first_video_seconds": round(cold[1], 2),
        "size": list(size),
        "frames": frames,
        "cores": writer._cores(),
        "runs": arguments.runs,
    }
    return print_report(report)


if __name__ == "__main__":
    main()
