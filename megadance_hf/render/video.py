"""Files with pictures of a dance: a video with its song, a filmstrip; and its frames as arrays.

    render_video(motion, "dance.mp4", music="song.mp3")        # H.264 + AAC, 30 frames per second, 720p
    filmstrip(motion, "dance.png")                             # eight frames side by side
    for frame in render_frames(motion): ...                    # (height, width, 3) uint8 RGB

What a frame looks like is in `stage.py`.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from megadance_hf.modeling.audio_megadance import AudioSource, BeyondEnd, is_same_file, load_audio, opened
from megadance_hf.modeling.progress_megadance import progress_bar
from megadance_hf.motion.motion import Motion, atomic_path

from .stage import RenderError, Stage, make_stage, write_text

if TYPE_CHECKING:
    import av

Music = AudioSource
_LONG = 3600  # seconds of sound beyond which it is loaded as mono

_MP4 = {"movflags": "+faststart"}  # the index comes first: browsers play while they load
# Constant quantizer (qp): a constant rate factor spends half of the time on lookahead, for scenes that are all alike here. Only the
# first frame of each part is a key frame.
_X264 = {
    "preset": "veryfast",
    "qp": "21",
    "x264-params": "keyint=infinite:scenecut=0:rc-lookahead=0:mbtree=0:b-adapt=0:weightp=0:weightb=0:trellis=0"
    ":subme=0:me=dia:partitions=none",
}
_WATCH_SECONDS = 0.2  # between two calls of a function that watches
_PART = 120  # frames per independently encoded part; players can seek to the first of each
_AAC = {"aac_coder": "fast"}  # takes half the time of the default search
_AAC_RATES = (44100, 48000)  # every player supports these, and an AAC block is shorter than a video frame
_AAC_BLOCK = 1024  # samples


def render_frames(
    motion: Motion,
    *,
    size: tuple[int, int] = (1280, 720),
    fps: float = 30.0,
    title: str | Literal[False] | None = None,
    body: str = "mannequin",
) -> Iterator[np.ndarray]:
    """The frames of a dance, one by one: (height, width, 3) uint8, RGB. Arguments and errors as in `render_video`."""
    stage = make_stage(motion, size, fps, title, body)
    return (stage.draw(frame) for frame in range(len(stage)))


def filmstrip(
    motion: Motion,
    path: str | os.PathLike,
    count: int = 8,
    *,
    size: tuple[int, int] = (320, 480),
    title: str | Literal[False] | None = None,
    body: str = "mannequin",
) -> Path:
    """One PNG with `count` frames of a dance side by side, evenly spaced from the first to the last.

    Args:
        motion: the dance.
        path: the file to write; ends in .png.
        count: number of pictures.
        size: (width, height) of each picture in pixels.
        title: caption of the first picture; None shows the genre, False nothing. Each picture shows its time.
        body: "mannequin" or "smooth".

    Returns:
        The path. The file appears whole or not at all; errors are those of `render_video`.
    """
    import cv2

    path = _check_path(path, ".png")
    if not (isinstance(count, int | np.integer) and count >= 1):
        raise RenderError(f"count={count!r}: give a whole number of pictures, 1 or more")
    stage = make_stage(motion, size, motion.fps, title, body)
    pictures = []
    for frame in np.linspace(0, len(stage) - 1, count).round().astype(int).tolist():
        picture = stage.draw(frame, overlay=False)
        label = f"{frame / motion.fps:.1f} s"
        if not pictures and stage.title:
            label = f"{stage.title}  {label}"
        write_text(picture, label, round(size[1] * 1.3), round(0.03 * size[0]), round(0.97 * size[1]))
        picture[:, -1:] = 255
        pictures.append(picture)
    strip = cv2.cvtColor(np.concatenate(pictures, 1), cv2.COLOR_RGB2BGR)
    with atomic_path(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", strip)[1].tobytes())
    return path


def render_video(
    motion: Motion,
    path: str | os.PathLike,
    music: Music | None = None,
    *,
    music_start: float = 0.0,
    size: tuple[int, int] = (1280, 720),
    fps: float = 30.0,
    title: str | Literal[False] | None = None,
    body: str = "mannequin",
    progress: bool | Callable[[int, int], None] = True,
) -> Path:
    """A video of a dance with its song: H.264 (yuv420p) and AAC in an .mp4 that plays while it is still being loaded.

    Args:
        motion: the dance; y = 0 is the floor. It is resampled when its rate is not `fps`.
        path: the file to write; ends in .mp4.
        music: any sound file, (waveform, rate), or what else `load_audio` takes. None: no sound.
        music_start: position in the song, in seconds, of frame 0. The sound is exactly as long as the picture; where the song
            ends earlier, silence follows.
        size: (width, height) in pixels, both even (H.264 stores one colour sample per 2x2 pixels).
        fps: frames per second, 1 to 240.
        title: caption at the lower left; None shows the genre, False nothing.
        body: "mannequin" or "smooth" (a human figure in a bodysuit; see `megadance_hf.motion.bodies`).
        progress: show a progress bar; or a function called with (frames done, frames in all), which may raise to stop.

    Returns:
        The path. The file appears whole or not at all.

    Raises:
        RenderError: an argument is not as described.
        AudioError: the song cannot be read.
        MotionError: the path cannot be written.
    """
    import av

    path = _check_path(path, ".mp4")
    if is_same_file(path, music):
        raise RenderError(f"path={str(path)!r} is the music itself, which the video would replace: give another name")
    stage = make_stage(motion, size, fps, title, body, even=True)
    rate = Fraction(fps).limit_denominator(1001)
    sound, sound_rate = (None, 0) if music is None else cut_music(music, music_start, len(stage) / rate, _AAC_RATES)
    progress_shown = progress_bar(total=len(stage), desc="video", unit="frame", disable=progress is not True)

    with (
        progress_shown,
        atomic_path(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options=_MP4) as container,
    ):
        video = container.add_stream("libx264", rate=rate, options=_X264)
        _configure(video.codec_context, size, rate)
        if sound is not None:
            layout = "mono" if len(sound) == 1 else "stereo"
            options = {"rate": sound_rate, "layout": layout, "bit_rate": 96_000 * len(sound)}
            audio = container.add_stream("aac", **options, options=_AAC)
        sent = 0  # samples of the sound
        watch = (lambda done: progress(done, len(stage))) if callable(progress) else None
        for first, packets in _encode_parts(stage, rate, watch):
            for index, packet in enumerate(packets, start=first):
                packet.stream = video
                container.mux(packet)
                while sound is not None and sent < min(sound.shape[1], (index + 1) / rate * sound_rate):
                    block = sound[:, sent : sent + _AAC_BLOCK]  # interleaved with the picture, for players that stream
                    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout=layout)
                    frame.sample_rate, frame.pts, frame.time_base = sound_rate, sent, Fraction(1, sound_rate)
                    container.mux(audio.encode(frame))
                    sent += block.shape[1]
            progress_shown.update(len(packets))
        if sound is not None:
            container.mux(audio.encode(None))
    return path


def _configure(context: av.VideoCodecContext, size: tuple[int, int], rate: Fraction) -> None:
    context.width, context.height, context.pix_fmt = *size, "yuv420p"
    context.framerate, context.time_base, context.thread_count = rate, 1 / rate, 1
    # BT.601 in the limited range; sRGB's primaries are BT.709's.
    context.color_range, context.colorspace, context.color_primaries, context.color_trc = 1, 6, 1, 1


def _encode_parts(
    stage: Stage, rate: Fraction, watch: Callable[[int], None] | None = None
) -> Iterator[tuple[int, list[av.Packet]]]:
    """The video in parts, in order: index of the first frame, one packet per frame.

    Each part is drawn and encoded by one thread, as a stream of its own that starts with a key frame. So all cores are busy, and
    the result depends neither on their number nor on their timing. `watch` is called with the number of frames that are done, now and then;
    what it raises ends everything.
    """
    import av
    import cv2

    width, height = stage.size

    def encode(first: int, last: int) -> tuple[int, list[av.Packet]]:
        context = av.CodecContext.create("libx264", "w")
        _configure(context, stage.size, rate)
        context.options = _X264
        context.flags |= int(av.codec.context.Flags.global_header)  # the file's header has the stream's
        frame = av.VideoFrame(width, height, "yuv420p")  # reused: the encoder copies what it keeps
        buffers = [np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width] for plane in frame.planes]
        packets = []
        for index in range(first, last):
            if ended.is_set():
                return first, []
            for buffer, plane in zip(buffers, stage.draw_planes(index), strict=True):
                buffer[:] = plane
            frame.pts, frame.time_base = index, 1 / rate
            packets += context.encode(frame)
            drawn[first] = index + 1 - first
        return first, packets + context.encode(None)

    # No part of one frame: H.264 wants two adjacent key frames numbered.
    starts = list(range(0, max(len(stage) - 1, 1), _PART))
    drawn, ended = dict.fromkeys(starts, 0), threading.Event()
    stage.draw_planes(0)  # fills the caches that all threads share
    cv_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # OpenCV's own threads would compete with ours, busy waiting
    with ThreadPoolExecutor(min(_cores(), len(starts)), "video") as pool:
        try:
            parts = [pool.submit(encode, *part) for part in zip(starts, [*starts[1:], len(stage)], strict=True)]
            for part in parts:
                waiting = watch is not None
                while watch is not None and waiting:
                    waiting = bool(wait([part], _WATCH_SECONDS).not_done)
                    watch(sum(drawn.values()))
                yield part.result()
        finally:
            ended.set()
            pool.shutdown(cancel_futures=True)
            cv2.setNumThreads(cv_threads)


def _cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_path(path: str | os.PathLike, suffix: str) -> Path:
    path = Path(path)
    if path.suffix.lower() != suffix:
        raise RenderError(f"path={str(path)!r}: end the name in {suffix}")
    if path.is_dir():
        raise RenderError(f"path={str(path)!r} is a folder: give the name of a file in it")
    if not path.parent.is_dir():
        raise RenderError(f"path={str(path)!r}: the folder {str(path.parent)!r} does not exist; create it first")
    return path


def cut_music(
    music: Music, start: float, seconds: Fraction, rates: tuple[int, ...] | None = None
) -> tuple[np.ndarray, int]:
    """A song from `start` on, cut or padded with silence to `seconds`: [channels (1 or 2), samples] float32, and its rate in Hz.

    It keeps its own rate if `rates` has it (or is None), else it is resampled to 48000 Hz. To save memory, more than an hour is
    loaded as mono at 32000 Hz.

    Raises:
        RenderError: `start` is not a number of seconds, or lies beyond the end of the song.
        AudioError: the song cannot be read.
    """
    if not (isinstance(start, int | float | np.number) and math.isfinite(start) and start >= 0):
        raise RenderError(f"music_start={start!r}: give seconds, 0 or more")
    long = seconds > _LONG
    excerpt = {
        "sampling_rate": 32000 if long else None,
        "start": start,
        "duration": max(float(seconds), 1e-3),
        "audible": False,  # silence and short sounds are music, too
    }
    with opened(music, argument="music") as song:
        try:
            waveform, rate = load_audio(song, mono=long, **excerpt)  # [samples, channels]
        except BeyondEnd as error:
            raise RenderError(
                f"music_start={start!r}: music ends at {error.ends:.2f} s; give an earlier start"
            ) from None
        if long:
            waveform = waveform[:, None]
        elif waveform.shape[1] > 2:
            waveform = load_audio(song, **excerpt)[0][:, None]
    if rates and rate not in rates:
        import soxr

        waveform, rate = soxr.resample(waveform, rate, 48000), 48000
    samples = round(seconds * rate)
    sound = np.zeros((waveform.shape[1], samples), np.float32)
    sound[:, : len(waveform)] = waveform[:samples].T
    return sound, rate
