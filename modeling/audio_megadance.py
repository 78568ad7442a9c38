"""Reading sound files: any format libsndfile knows, piece by piece, with clear words about what cannot be used.

Nothing heavy is imported here, so that a song can be read while the networks' libraries are still loading.
"""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .music_features_megadance import SAMPLING_RATE, sound_library

MIN_SECONDS = 0.25  # less than one motion code (8 frames) cannot be danced to
SILENCE = 1e-4  # peak, -80 dB below full scale: under this there is dither and nothing else
_PIECE = 2**18  # samples of a file that are decoded at once

AudioSource = str | os.PathLike | bytes | BinaryIO


class AudioError(ValueError):
    """Sound that cannot be used; the message is one line naming the argument, its value and the remedy."""


def load_audio(
    source: AudioSource,
    *,
    sampling_rate: int | None = SAMPLING_RATE,
    start: float = 0.0,
    duration: float | None = None,
    mono: bool = True,
) -> tuple[np.ndarray, int]:
    """Reads a song, or `duration` seconds of it from `start` on.

    Args:
        source: path, the bytes of a file, or an open binary file; any format libsndfile knows (wav, mp3, ogg, flac, ...).
        sampling_rate: rate to resample to (soxr), in Hz; None keeps the file's own.
        start: first second to read.
        duration: seconds to read; None, or more than there are, reads to the end.
        mono: average the channels; otherwise they are kept.

    Returns:
        float32 waveform `(samples,)`, or `(samples, channels)` without `mono`, and its sampling rate in Hz.

    Raises:
        AudioError: the file is missing, empty, cut short, no audio, silent, shorter than 0.25 s, or holds NaN; `start` or
            `duration` is out of range. A file that was cut short can still be read as far as it goes, with `duration`.
    """
    start = _seconds("start", start, positive=False)
    if duration is not None:
        duration = _seconds("duration", duration, positive=True)
    stream, name = _open(source)
    inspection, resampler, pieces = Inspection(), None, []
    try:
        for piece, rate in _pieces(stream, name, start, duration):
            piece = piece.mean(axis=1) if mono else piece
            inspection.add(piece)
            if sampling_rate not in (None, rate):
                if resampler is None:
                    channels = 1 if mono else piece.shape[1]
                    resampler = sound_library("soxr").ResampleStream(rate, sampling_rate, channels, dtype="float32")
                piece = resampler.resample_chunk(piece)
            pieces.append(piece)
    finally:
        if stream is not source:
            stream.close()
    inspection.conclude(rate, name if start == 0 and duration is None else f"{name} from {start:g} s on")
    if resampler is not None:
        pieces.append(resampler.resample_chunk(pieces[0][:0], last=True))
        rate = sampling_rate
    return np.concatenate(pieces), rate


class Inspection:
    """Looks at a sound piece by piece and says at the end what makes it unusable; time is the first axis."""

    def __init__(self) -> None:
        self.samples, self.broken, self.first_broken, self.peak = 0, 0, 0, 0.0

    def add(self, piece: np.ndarray) -> None:
        fine = np.isfinite(piece).all(axis=tuple(range(1, piece.ndim)))
        if not fine.all():
            if not self.broken:
                self.first_broken = self.samples + int(fine.argmin())
            self.broken += int((~fine).sum())
        elif len(piece):
            self.peak = max(self.peak, float(np.abs(piece).max()))
        self.samples += len(piece)

    def conclude(self, sampling_rate: int, name: str) -> None:
        """Raises AudioError unless the sound is finite, audible and at least 0.25 s long."""
        seconds = self.samples / sampling_rate
        if self.samples == 0:
            raise AudioError(f"{name} holds no samples: give a sound of at least {MIN_SECONDS} s")
        if self.broken:
            raise AudioError(
                f"{name} holds NaN or infinity in {self.broken / self.samples:.0%} of its samples, first at"
                f" {self.first_broken / sampling_rate:.2f} s: export the sound again"
            )
        if seconds < MIN_SECONDS:
            raise AudioError(f"{name} lasts {seconds:.3g} s, which is too short: give at least {MIN_SECONDS} s")
        if self.peak < SILENCE:
            raise AudioError(f"{name} is silent (peak {self.peak:.1g} of full scale 1): give a sound that can be heard")


def _seconds(argument: str, value: Any, positive: bool) -> float:
    number = float(value) if isinstance(value, (int, float, np.number)) else float("nan")
    if not np.isfinite(number) or number < 0 or (positive and number == 0):
        raise AudioError(f"{argument}={value!r}: give {'more than 0' if positive else '0 or more'} seconds")
    return number


def _open(source: AudioSource) -> tuple[BinaryIO, str]:
    """The source as an open binary file at its beginning, and how messages name it."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return io.BytesIO(source), f"audio of {len(source)} bytes"
    if hasattr(source, "read"):
        name = getattr(source, "name", None)
        source.seek(0)
        return source, f"audio {name!r}" if isinstance(name, str) else "audio file object"
    if not isinstance(source, (str, os.PathLike)):
        raise AudioError(f"audio source of type {type(source).__name__}: give a path, bytes or an open binary file")
    name = f"audio {os.fspath(source)!r}"
    try:
        return Path(source).open("rb"), name
    except FileNotFoundError:
        raise AudioError(f"{name} does not exist: give the path of a sound file") from None
    except IsADirectoryError:
        raise AudioError(f"{name} is a folder: give the path of a sound file") from None
    except OSError as error:
        raise AudioError(f"{name} cannot be opened ({error.strerror}): check the path and its permissions") from None


def _pieces(stream: BinaryIO, name: str, start: float, duration: float | None) -> Iterator[tuple[np.ndarray, int]]:
    """Decodes `[start, start + duration)` piece by piece: float32 `(samples, channels)` at the file's own rate, which it
    gives as well. A minute of stereo sound is 21 MB; so a song is never in memory as it was recorded."""
    soundfile = sound_library("soundfile")
    size = stream.seek(0, os.SEEK_END)
    if size == 0:
        raise AudioError(f"{name} is empty (0 bytes): give a sound file")
    damage = _cut_short(stream, size)
    if damage and duration is None:  # a dance to half a song helps nobody
        raise AudioError(f"{name} is cut short ({damage}): fetch it again, or pass a duration that is still there")
    stream.seek(0)
    try:
        file = soundfile.SoundFile(stream)
    except (soundfile.LibsndfileError, TypeError):  # TypeError: named *.raw, which has no header
        if damage:
            raise AudioError(f"{name} is cut short ({damage}): fetch it again") from None
        raise AudioError(f"{name} is not audio, or of an unknown format: give a wav, mp3, ogg or flac file") from None
    with file:
        rate, frames = file.samplerate, file.frames
        first = round(start * rate)
        if frames and first >= frames:
            raise AudioError(f"start={start:g}: {name} ends at {frames / rate:.2f} s; give an earlier start")
        wanted = frames - first if duration is None else min(round(duration * rate), frames - first)
        read, asked = 0, 1
        while asked:
            asked = max(0, min(_PIECE, wanted - read))
            try:
                if read == 0:
                    file.seek(first)
                piece = file.read(asked, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError:
                raise AudioError(
                    f"{name} is cut short or damaged (decoding stops before {(first + wanted) / rate:.2f} s):"
                    " fetch the file again, or pass a smaller duration"
                ) from None
            yield piece, rate
            read += len(piece)
            if len(piece) < asked:
                break
    # libsndfile ends early without a word. Without `damage`, only the header's promise (flac, mp3) tells.
    end = (first + read) / rate
    if read < wanted - rate // 10 or (damage and start + duration > end + 0.1):
        raise AudioError(
            f"{name} is cut short ({damage or f'its header promises {frames / rate:.2f} s'}, {end:.2f} s are there):"
            " fetch it again, or pass a smaller duration"
        )


def _cut_short(stream: BinaryIO, size: int) -> str | None:
    """How one sees from a file's bytes that its end is missing; None if one does not."""
    stream.seek(0)
    head = stream.read(10)
    promised = None
    if head[:4] in (b"RIFF", b"FORM"):  # wav, aiff: the length stands behind the name
        promised = 8 + int.from_bytes(head[4:8], "little" if head[:4] == b"RIFF" else "big")
        if promised in (8, 8 + 0xFFFFFFFF):  # written to a pipe, where the length was not known
            promised = None
    elif head[:4] == b"OggS":
        tail_start = max(0, size - 70_000)  # a page has at most 65307 bytes
        stream.seek(tail_start)
        tail = stream.read()
        page = tail.rfind(b"OggS")
        segments = tail[page + 26] if page >= 0 and page + 26 < len(tail) else 0
        body = sum(tail[page + 27 : page + 27 + segments])
        if page >= 0 and page + 27 + segments + body > len(tail):
            return "its last page is incomplete"
    else:  # mp3: behind the tags, the first frame may be a Xing/Info header that counts bytes
        offset = 0
        if head[:3] == b"ID3":
            offset = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        stream.seek(offset)
        frame = stream.read(256)
        tag = max(frame.find(b"Xing", 0, 64), frame.find(b"Info", 0, 64))
        if frame[:1] == b"\xff" and tag > 0 and frame[tag + 7] & 3 == 3:
            promised = offset + int.from_bytes(frame[tag + 12 : tag + 16], "big")
    if promised is not None and size < promised - max(64, promised // 200):  # padding and tags may be miscounted
        return f"its header promises {promised} bytes and the file has {size}"
    return None


__all__ = ["AudioError", "AudioSource", "Inspection", "load_audio"]
