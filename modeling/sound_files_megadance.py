"""Decoding sound files, to their real end.

The length in a header is only a hint: it is wrong in files of interrupted recordings, of programs that write to pipes, and in files
joined from several. Therefore

- libsndfile decodes a file whose header states a length that agrees with its bytes (`_check_length`);
- PyAV decodes everything else, to the end: mp3 without a valid count of frames or after junk, wav of unknown size, m4a, aac, webm,
  mp4, mkv, wma, the sound of a film.

A truncated file is reported if that can be detected, and limits are checked before anything is allocated.
"""

import io
import itertools
import os
import warnings
from collections.abc import Iterator
from typing import Any, BinaryIO, Literal

import numpy as np

from .errors_megadance import reading
from .music_features_megadance import sound_library

# Limits of every sound: in Python, at the command line, on the page and in the handler.
MIN_RATE, MAX_RATE = 1000, 768_000  # Hz
MAX_CHANNELS = 64
MAX_SECONDS = 3 * 3600.0  # read at once
MAX_SAMPLES = 2**30  # decoded at once, of all channels: 3.4 hours of stereo at 44.1 kHz
MAX_WAVEFORM = 3 * 2**29  # bytes of the resulting waveform: 1.6 GB, more than an hour of stereo
MAX_FILE = 2**30  # bytes read from a pipe or an address

_PIECE = 2**18  # samples of a file decoded at once
_UNKNOWN = 0x7F000000  # programs that do not know a size yet write 0, or a size from here on
_MAX_PARTS = 1000  # files joined into one, chunks of a wav: more are damage
_MAX_BAD_PACKETS = 0.05  # share of packets that cannot be decoded, above which a file counts as damaged
_AV_CHANNELS = 8  # of PyAV: frames of more are damage
_AV_NUMBERS = {"u8": "u1", "s16": "i2", "s32": "i4", "flt": "f4", "dbl": "f8"}
_FORMATS = (  # of PyAV: containers that hold sound, none that refers to other files (playlists, scripts)
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,eac3,flac,flv,matroska,mov,mp3,mpeg,mpegts,ogg,tta,w64,wav,webm,wv,"
    "mov,mp4,m4a,3gp,3g2,mj2"
)
_ASF = bytes.fromhex("3026b2758e66cf11")  # wma, wmv
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_STATED_LENGTH = ("mov", "matroska")  # containers that store their length, which is not estimated


class AudioError(ValueError):
    """Sound that cannot be used; the message is one line naming the argument, its value and the remedy."""


class AudioWarning(UserWarning):
    """Sound that is used although something may be wrong with it."""


class CutShort(AudioError):
    """The end of a file is missing. Raised after the existing part was yielded."""


class BeyondEnd(AudioError):
    """`start` is after the end.

    Attributes:
        ends: length of the sound in seconds.
    """

    def __init__(self, start: float, name: str, ends: float) -> None:
        super().__init__(f"start={start:g}: {name} ends at {ends:.2f} s; give an earlier start")
        self.ends = ends


def check_rate(rate: Any, name: str = "sampling_rate") -> int:
    """A sampling rate in Hz as an int.

    Raises:
        AudioError: it is no whole number from 1000 to 768000.
    """
    number = rate.item() if getattr(rate, "shape", None) in ((), (1,)) else rate  # numpy's or torch's
    if isinstance(number, bool) or not isinstance(number, int | float) or number != number:
        raise AudioError(f"{name}={rate!r}: give the rate in Hz, from {MIN_RATE} to {MAX_RATE}, such as 44100")
    if not MIN_RATE <= number <= MAX_RATE or number != int(number):
        raise AudioError(f"{name}={number!r}: give a whole number of Hz from {MIN_RATE} to {MAX_RATE}, such as 44100")
    return int(number)


def check_size(name: str, rate: int, channels: int, samples: int) -> None:
    """Raises AudioError if a sound of so many samples (per channel) cannot be decoded at once; called before it is."""
    check_rate(rate, f"{name}: sampling_rate")
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(f"{name} has {channels} channels: give a sound of 1 to {MAX_CHANNELS}")
    largest = min(int(MAX_SECONDS * rate), MAX_SAMPLES // channels)
    if samples > largest:
        raise AudioError(
            f"{name} is longer than the {largest / rate / 60:.0f} minutes that are read at once ({channels} channels at"
            f" {rate} Hz): give a duration"
        )


def decode(stream: BinaryIO, name: str, start: float, duration: float | None) -> Iterator[tuple[np.ndarray, int]]:
    """Decode `[start, start + duration)`, in seconds, of a file that can seek, piece by piece.

    Yields:
        float32 `(samples, channels)` and the file's rate in Hz. In pieces, since a minute of stereo takes 21 MB.

    Raises:
        AudioError: the file has no sound, is too large, or is damaged. CutShort: a part of the excerpt is missing.
    """
    with reading(name, "give a sound file that plays", AudioError):
        size = stream.seek(0, os.SEEK_END)
        if size == 0:
            raise AudioError(f"{name} is empty (0 bytes): give a sound file")
        parts = _find_parts(stream, size)
        if len(parts) > _MAX_PARTS:
            raise AudioError(f"{name} was joined of more than {_MAX_PARTS} sounds: export it again as one")
        if len(parts) > 1:
            files = (_FilePart(stream, *part) for part in parts)
            pieces = itertools.chain.from_iterable(_decode_one(file, name, 0.0, None) for file in files)
            yield from _excerpt(pieces, name, start, duration)
        else:
            yield from _decode_one(stream if parts[0][0] == 0 else _FilePart(stream, *parts[0]), name, start, duration)


def length(stream: BinaryIO, name: str) -> float:
    """Length of a file in seconds: from its header if that is reliable, otherwise by decoding it. Raises AudioError as `decode`."""
    with reading(name, "give a sound file that plays", AudioError):
        size = stream.seek(0, os.SEEK_END)
        if size and len(_find_parts(stream, size)) == 1 and _check_length(stream, size) == (True, None):
            stream.seek(0)
            file = _open_soundfile(stream)
            if file is not None:
                with file:
                    return file.frames / check_rate(file.samplerate, f"{name}: sampling_rate")
        return sum(len(piece) / rate for piece, rate in decode(stream, name, 0.0, None))


def _decode_one(stream: Any, name: str, start: float, duration: float | None) -> Iterator[tuple[np.ndarray, int]]:
    reliable, damage = _check_length(stream, stream.seek(0, os.SEEK_END))
    if damage and duration is None:  # a dance to half a song is useless
        raise CutShort(f"{name} is cut short ({damage}): fetch it again, or pass a duration that is still there")
    stream.seek(0)
    file = None if reliable is False else _open_soundfile(stream)
    # libsndfile only estimates the length of an mp3, and fails on the last block of GSM 6.10
    if file is None or (reliable is None and file.format == "MP3") or file.subtype == "GSM610":
        yield from _excerpt(_decode_with_av(stream, name, damage), name, start, duration)
    else:
        with file:
            yield from _decode_with_soundfile(file, name, start, duration, damage)


# --- libsndfile --------------------------------------------------------------------------------------------------------


def _open_soundfile(stream: BinaryIO) -> Any:
    """The file as a `soundfile.SoundFile`, or None if libsndfile does not know its format."""
    soundfile = sound_library("soundfile")
    try:
        return soundfile.SoundFile(stream)
    except (soundfile.LibsndfileError, TypeError):  # TypeError: named *.raw, which has no header
        return None


def _decode_with_soundfile(
    file: Any, name: str, start: float, duration: float | None, damage: str | None
) -> Iterator[tuple[np.ndarray, int]]:
    soundfile = sound_library("soundfile")
    rate, frames = file.samplerate, file.frames
    first = round(start * rate)
    if frames and first >= frames:
        raise BeyondEnd(start, name, frames / rate)
    wanted = frames - first if duration is None else min(round(duration * rate), frames - first)
    check_size(name, rate, file.channels, wanted)
    # the same size always: mpg123 rounds differently in pieces of another size
    piece_size = _PIECE if file.channels <= 8 else _PIECE * 8 // file.channels
    read, requested = 0, 1
    while requested:
        requested = max(0, min(piece_size, wanted - read))
        try:
            if read == 0:
                file.seek(first)
            piece = file.read(requested, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            raise CutShort(
                f"{name} is cut short or damaged (decoding stops before {(first + wanted) / rate:.2f} s):"
                " fetch the file again, or pass a smaller duration"
            ) from None
        yield piece, rate
        read += len(piece)
        if len(piece) < requested:
            break
    # libsndfile ends early without an error. Without `damage`, only the header's length (flac, mp3) shows it.
    end = (first + read) / rate
    if read < wanted - rate // 10 or (damage and duration is not None and start + duration > end + 0.1):
        raise _cut_short(name, damage or f"its header promises {frames / rate:.2f} s", end)


def _cut_short(name: str, why: str, end: float) -> CutShort:
    return CutShort(f"{name} is cut short ({why}, {end:.2f} s are there): fetch it again, or pass a smaller duration")


# --- PyAV --------------------------------------------------------------------------------------------------------------


def _decode_with_av(stream: BinaryIO, name: str, damage: str | None) -> Iterator[tuple[np.ndarray, int]]:
    """The first audio track of any format that FFmpeg knows, from its first packet to its last."""
    av = sound_library("av")
    stream.seek(0)
    try:
        # ignore the sizes in a wav's header; allow no protocol, so that a file cannot make us open others
        options = {"ignore_length": "1", "format_whitelist": _FORMATS, "protocol_whitelist": "none"}
        # before PyAV 19, a title in an unknown encoding keeps a song from being opened unless its letters are replaced
        replaced = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
        container = av.open(stream, options=options, **replaced)
    except (av.error.FFmpegError, ValueError) as error:
        size = stream.seek(0, os.SEEK_END)
        for _, end, kind in _boxes(stream):  # of an mp4
            if end > size and not damage:
                damage = f"its part {kind.decode('ascii', 'replace')!r} ends at byte {end} and the file has {size}"
        if damage:
            raise CutShort(f"{name} is cut short ({damage}): fetch it again") from error
        raise AudioError(
            f"{name} is not audio, or of an unknown format: give a wav, mp3, ogg or flac file, or another that plays"
        ) from error
    with container:
        if not container.streams.audio:
            raise AudioError(f"{name} has no sound in it ({container.format.long_name}): give a file with a song")
        track = container.streams.audio[0]
        if track.codec_context.channels > _AV_CHANNELS:
            raise AudioError(
                f"{name} has {track.codec_context.channels} channels: give a sound of 1 to {_AV_CHANNELS} (of this format)"
            )
        decoded, packets, bad, reached = 0, 0, 0, 0.0
        for packet in container.demux():
            if packet.pts is not None and packet.duration:
                reached = max(reached, float((packet.pts + packet.duration) * packet.time_base))
            if packet.stream_index != track.index:
                continue
            packets += 1
            try:
                frames = packet.decode()
            except av.error.FFmpegError:  # players skip it as well
                bad += 1
                continue
            for frame in frames:
                if not 1 <= len(frame.layout.channels) <= _AV_CHANNELS:
                    bad += 1
                    continue
                decoded += frame.samples
                yield _values(frame), frame.sample_rate
        if decoded == 0:
            raise AudioError(f"{name} holds nothing that can be decoded as sound: give a file that plays")
        if bad > 1 + _MAX_BAD_PACKETS * packets:
            raise CutShort(
                f"{name} is damaged ({bad} of its {packets} packets cannot be decoded): fetch it again, or pass a duration"
            )
        stated = container.format.name.split(",")[0] in _STATED_LENGTH and container.duration
        promised = container.duration / av.time_base if stated else 0.0
        if reached < promised - max(0.5, 0.01 * promised):
            damage = damage or f"its header promises {promised:.2f} s"
        if damage:
            raise _cut_short(name, damage, reached)
        if container.format.name in ("mp3", "aac") and _ends_inside_a_frame(stream):  # as recorded broadcasts do
            warnings.warn(
                f"{name} ends within a frame of sound: it may have been cut short", AudioWarning, stacklevel=2
            )


def _values(frame: Any) -> np.ndarray:
    """A frame of PyAV as float32 (samples, channels)."""
    channels, kind = len(frame.layout.channels), _AV_NUMBERS[frame.format.name.rstrip("p")]
    # not its `to_ndarray`, which reads beyond the last of eight channels
    planes = frame.planes[: channels if frame.format.is_planar else 1]
    count = frame.samples * channels // len(planes)
    values = np.stack([np.frombuffer(plane, kind, count) for plane in planes], axis=-1)
    return as_floats(values.reshape(frame.samples, channels))


def as_floats(values: np.ndarray) -> np.ndarray:
    """Samples of any type as float32, full scale 1; unsigned integers are PCM centred on half their range.

    Raises:
        TypeError: the full scale of the type is not known.
    """
    kind, bits = values.dtype.kind, 8 * values.dtype.itemsize
    if kind == "f" or values.dtype.name == "bfloat16":
        with np.errstate(over="ignore"):  # infinity is refused later, with its position
            return values.astype(np.float32)
    half = np.float32(2.0 ** (bits - 1))  # a power of two: dividing by it does not round
    if kind == "i" and bits <= 32:
        return values.astype(np.float32) / half
    if kind == "u" and bits <= 16:
        return (values.astype(np.float32) - half) / half
    raise TypeError(f"numbers of type {values.dtype}")


class _Converter:
    """Converts pieces to the rate and the number of channels of the first one; these can change in files joined from several."""

    def __init__(self, rate: int, channels: int) -> None:
        self.rate, self.channels = rate, channels
        self._input_rate = rate
        self._resampler: Any = None

    def __call__(self, values: np.ndarray, rate: int) -> np.ndarray:
        if values.shape[1] != self.channels:
            values = np.repeat(values.mean(axis=1, keepdims=True), self.channels, axis=1)
        before = values[:0]
        if rate != self._input_rate:
            before, self._input_rate = self.flush(), rate
            check_rate(rate)
            if rate != self.rate:
                stream = sound_library("soxr").ResampleStream
                self._resampler = stream(rate, self.rate, self.channels, dtype="float32")
        if self._resampler is not None:
            values = self._resampler.resample_chunk(np.ascontiguousarray(values))
        return np.concatenate((before, values)) if len(before) else values

    def flush(self) -> np.ndarray:
        """The samples that the resampler still holds back."""
        empty = np.zeros((0, self.channels), np.float32)
        resampler, self._resampler = self._resampler, None
        return empty if resampler is None else resampler.resample_chunk(empty, last=True)


def _excerpt(
    pieces: Iterator[tuple[np.ndarray, int]], name: str, start: float, duration: float | None
) -> Iterator[tuple[np.ndarray, int]]:
    """`[start, start + duration)`, in seconds, of a sound that is decoded from its beginning, in pieces of useful size."""
    convert, rate, first, last = None, 0, 0, None
    done, kept, count, problem = 0, 0, 0, None
    waiting: list[np.ndarray] = []
    try:
        for values, piece_rate in pieces:
            if convert is None:
                rate, convert = piece_rate, _Converter(piece_rate, values.shape[1])
                first = round(start * rate)
                last = None if duration is None else first + round(duration * rate)
            values = convert(values, piece_rate)
            begin, done = done, done + len(values)
            values = values[max(0, first - begin) : None if last is None else max(0, last - begin)]
            kept += len(values)
            check_size(name, rate, convert.channels, kept)
            if done * convert.channels > 4 * MAX_SAMPLES:
                raise AudioError(f"start={start:g} is too far into {name}: cut the file first")
            waiting.append(values)
            count += len(values)
            if count * convert.channels >= _PIECE:
                yield np.concatenate(waiting), rate
                waiting, count = [], 0
            if last is not None and done >= last:
                break
        else:
            if convert is not None:
                rest = convert.flush()
                waiting.append(rest[max(0, first - done) : None if last is None else max(0, last - done)])
                done += len(rest)
    except CutShort as cut:  # the existing part comes first
        problem = cut
    if convert is not None:
        if done <= first:
            raise BeyondEnd(start, name, done / rate) from problem
        yield np.concatenate(waiting), rate
    if problem is not None:
        raise problem


# --- the length of a file according to its bytes -----------------------------------------------------------------------


def _check_length(stream: BinaryIO, size: int) -> tuple[bool | None, str | None]:
    """Whether the length in a file's header agrees with its bytes (None for a format without a check, perhaps an mp3 after junk),
    and the evidence that its end is missing, if any."""
    offset = _end_of_id3(stream)
    stream.seek(offset)
    head = stream.read(256)
    if _is_wav(head):
        return _wav_length(stream, offset, size)[1:]
    if head[:4] == b"FORM":
        promised = 8 + int.from_bytes(head[4:8], "big")
        return True, _too_few_bytes(promised, size) if 8 < promised < _UNKNOWN else None
    if head[:4] == b"OggS":
        return True, None if _ogg_pages(stream, size)[1] else "its last page is incomplete"
    if head[:4] == b"fLaC":
        return int.from_bytes(head[21:26], "big") & (2**36 - 1) > 0, None
    if head[:4] == b".snd":
        promised, known = (int.from_bytes(head[at : at + 4], "big") for at in (4, 8))
        if promised + known + 64 < size:
            return False, None
        return True, _too_few_bytes(promised + known, size) if known < _UNKNOWN else None
    if head[:4] == b"caff":
        return _caf_length(stream, size)
    if head[:8] == b"riff\x2e\x91\xcf\x11":  # w64
        promised = int.from_bytes(head[16:24], "little")
        return True, _too_few_bytes(promised, size) if promised < 2**48 else None
    if head[:8] == _ASF:
        stream.seek(0)
        head = stream.read(65536)
        at = head.find(_ASF_PROPERTIES) + 40
        promised = int.from_bytes(head[at : at + 8], "little")
        return False, _too_few_bytes(promised, size) if at > 40 else None
    if _mp3_frame(head):
        return _mp3_length(stream, offset, size, head)
    return None, None


def _end_of_id3(stream: BinaryIO) -> int:
    """Where the sound begins, after an ID3 tag if there is one."""
    stream.seek(0)
    head = stream.read(10)
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))


def _is_wav(head: bytes) -> bool:
    return head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE"


def _too_few_bytes(promised: int, size: int) -> str | None:
    if size < promised - max(64, promised // 200):  # padding and tags may be miscounted
        return f"its header promises {promised} bytes and the file has {size}"
    return None


def _wav_length(stream: BinaryIO, begin: int, size: int) -> tuple[int, bool, str | None]:
    """Of a wav that begins at a byte: where it ends, whether its sizes are right, the evidence that its end is missing."""
    stream.seek(begin)
    head = stream.read(12)
    order: Literal["big", "little"] = "big" if head[:4] == b"RIFX" else "little"
    position, wide, rate = begin + 12, None, 1
    for _ in range(_MAX_PARTS):
        stream.seek(position)
        chunk = stream.read(40)
        if len(chunk) < 8:
            return size, True, None  # no sound, which libsndfile reports
        length = int.from_bytes(chunk[4:8], order)
        if chunk[:4] == b"ds64":
            wide = int.from_bytes(chunk[16:24], "little")
        elif chunk[:4] == b"fmt ":
            rate = max(1, int.from_bytes(chunk[16:20], order))
        elif chunk[:4] == b"data":
            break
        position += 8 + length + length % 2
    else:
        return size, True, None
    position += 8
    length = wide if wide is not None and length == 0xFFFFFFFF else length
    end = position + length
    if end > size:
        known = length < (_UNKNOWN if wide is None else 2**48)
        return size, known, _too_few_bytes(end, size) if known else None
    # Chunks, another wav or nothing follow; anything else is sound that the header does not count.
    for position in (end + length % 2, end):
        for _ in range(_MAX_PARTS):
            if position + 8 > size:
                return size, True, None
            stream.seek(position)
            chunk = stream.read(12)
            if chunk[:4] in (b"RIFF", b"RIFX", b"RF64") and chunk[8:] == b"WAVE":
                return position, True, None
            length = int.from_bytes(chunk[4:8], order)
            if not all(32 <= byte < 127 for byte in chunk[:4]) or position + 8 + length > size + 1:
                break
            position += 8 + length + length % 2
    return size, size - end < rate // 10, None


def _caf_length(stream: BinaryIO, size: int) -> tuple[bool, str | None]:
    """Of a caf: whether the size of its sound is right, the evidence that its end is missing."""
    position = 8
    for _ in range(_MAX_PARTS):
        stream.seek(position)
        chunk = stream.read(12)
        if len(chunk) < 12:
            break
        length = int.from_bytes(chunk[4:12], "big")
        if chunk[:4] == b"data":
            end = position + 12 + length
            return True, _too_few_bytes(end, size) if length < 2**48 else None  # -1: to the end
        position += 12 + length
    return True, None


def _find_parts(stream: BinaryIO, size: int) -> list[tuple[int, int]]:
    """Begin and end of each file that a file was joined of, usually one. (FFmpeg itself handles joined mp3 and aac.)"""
    offset = _end_of_id3(stream)
    stream.seek(offset)
    head = stream.read(12)
    starts = [offset]
    if head[:4] == b"OggS":
        starts = _ogg_pages(stream, size)[0]
    elif _is_wav(head):
        while (end := _wav_length(stream, starts[-1], size)[0]) < size and len(starts) <= _MAX_PARTS:
            starts.append(end)
    elif head[:4] == b"FORM":
        while (position := _next_aiff(stream, starts[-1])) and len(starts) <= _MAX_PARTS:
            starts.append(position)
    elif head[:4] == b"fLaC":
        while (position := _find(stream, b"fLaC\0\0\0\x22", starts[-1] + 4)) > 0 and len(starts) <= _MAX_PARTS:
            starts.append(position)
    elif head[4:8] == b"ftyp":
        starts = [position for position, _, kind in _boxes(stream, offset) if kind == b"ftyp"] or starts
    else:
        starts = [0]
    return list(zip(starts, [*starts[1:], size], strict=True))


def _next_aiff(stream: BinaryIO, begin: int) -> int:
    """Where the aiff after the one at `begin` starts; 0 if there is none."""
    stream.seek(begin + 4)
    length = int.from_bytes(stream.read(4), "big")
    position = begin + 8 + length + length % 2
    stream.seek(position)
    head = stream.read(12)
    return position if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC") else 0


def _ogg_pages(stream: BinaryIO, size: int) -> tuple[list[int], bool]:
    """Where the chained streams of an Ogg file begin, and whether its last page is complete."""
    starts: list[int] = []
    position, opening = 0, False
    while position < size:
        stream.seek(position)
        page = stream.read(27 + 255)
        if page[:4] != b"OggS":  # junk
            position = _find(stream, b"OggS", position)
            if position < 0:
                return starts or [0], True
            continue
        if len(page) < 27 or len(page) < 27 + page[26]:
            return starts or [0], False
        if page[5] & 2 and not opening:
            starts.append(position)
        opening = bool(page[5] & 2)
        position += 27 + page[26] + sum(page[27 : 27 + page[26]])
    return starts or [0], position == size


_MP3_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_MP3_KBITS = (
    (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),  # version 1, layer 1
    (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),  # layer 2
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # layer 3
    (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),  # version 2, layer 1
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # layers 2 and 3
)


def _mp3_frame(head: bytes) -> int:
    """Length in bytes of the MPEG frame with this header; 0 if it is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer, index, rate = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3), head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or rate == 3 or index in (0, 15):
        return 0
    kbits = _MP3_KBITS[layer - 1 if version == 3 else 3 if layer == 1 else 4][index]
    padding = head[2] >> 1 & 1
    if layer == 1:
        return 4 * (12_000 * kbits // _MP3_RATES[version][rate] + padding)
    samples = 72_000 if layer == 3 and version != 3 else 144_000
    return samples * kbits // _MP3_RATES[version][rate] + padding


def _mp3_length(stream: BinaryIO, offset: int, size: int, head: bytes) -> tuple[bool, str | None]:
    """Of an mp3: whether its first frame counts the others correctly, the evidence that its end is missing."""
    tag = max(head.find(b"Xing", 0, 64), head.find(b"Info", 0, 64))
    if tag < 0 or head[tag + 7] & 3 != 3:
        return False, None
    counted, promised = (int.from_bytes(head[tag + at : tag + at + 4], "big") for at in (8, 12))
    if damage := _too_few_bytes(offset + promised, size):
        return True, damage
    frames, position = -1, offset  # the first one is the count
    while length := _mp3_frame(head):
        frames, position = frames + (position + length <= size), position + length
        stream.seek(position)
        head = stream.read(11)
    rest = head == bytes(len(head)) or head.startswith((b"TAG", b"APETAGEX", b"LYRICSBEGIN"))
    return rest and abs(frames - counted) <= 1, None


def _ends_inside_a_frame(stream: BinaryIO) -> bool:
    """Whether the last frame of an mp3 or aac without a count of frames is incomplete."""
    size = stream.seek(0, os.SEEK_END)
    position = _end_of_id3(stream)
    while position < size:
        stream.seek(position)
        head = stream.read(6)
        length = _mp3_frame(head)
        if head[:1] == b"\xff" and len(head) == 6 and head[1] & 0xF6 == 0xF0:  # aac: ADTS
            length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        if length < 7:
            return False
        position += length
    return position > size


def _find(stream: BinaryIO, signature: bytes, position: int) -> int:
    """Where the bytes next occur in a file from a position on; -1 if they do not."""
    stream.seek(position)
    before = b""
    while block := stream.read(2**20):
        block = before + block
        if (found := block.find(signature)) >= 0:
            return position - len(before) + found
        position += len(block) - len(before)
        before = block[-len(signature) + 1 :]
    return -1


def _boxes(stream: BinaryIO, position: int = 0) -> Iterator[tuple[int, int, bytes]]:
    """Begin, end and kind of each box of an mp4."""
    first = position
    for _ in range(100 * _MAX_PARTS):
        stream.seek(position)
        head = stream.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if len(kind) < 4 or length < 8 or (position == first and kind != b"ftyp"):
            return
        yield position, position + length, kind
        position += length


class _FilePart(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, stream: BinaryIO, begin: int, end: int) -> None:
        self._stream, self._begin, self._size, self._position = stream, begin, end - begin, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        self._stream.seek(self._begin + self._position)
        data = self._stream.read(max(0, min(len(buffer), self._size - self._position)))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
