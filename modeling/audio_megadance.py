"""Loading songs: sound of any kind becomes a waveform, with a clear error for what cannot be used.

    waveform, rate = load_audio("song.mp3")            # a file, a pipe, an address, (array, rate), a row of a data set, ...
    waveform, rows = load_excerpt("song.mp3", start=30, duration=10)

`open_sound` defines what can be passed as a song; `sound_files_megadance.py` decodes files. This module imports nothing heavy, so that
a song can be read while torch and transformers are still being imported.
"""

import io
import math
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from .errors_megadance import reading, reason_of
from .music_features_megadance import HOP_LENGTH, SAMPLING_RATE, num_rows, sound_library
from .sound_files_megadance import (
    MAX_FILE,
    MAX_WAVEFORM,
    AudioError,
    BeyondEnd,
    CutShort,
    as_floats,
    check_rate,
    check_size,
    decode,
    length,
)

MIN_SECONDS = 0.25  # less than one motion code (8 frames) cannot be danced to
SILENCE = 1e-4  # peak, -80 dB: below this there is only dither
LOUDEST = 16.0  # peak, 24 dB above full scale: louder samples are not scaled to [-1, 1], or broken
SURROUNDINGS = 90.0  # seconds analysed before and after an excerpt, so that its tempo is the song's
SHORT_REST = 0.5  # seconds: an excerpt that leaves out no more than this has the song's beginning, or end
ARRAY_CHANNELS = 8  # an array whose shorter side is longer is no song
# Channels cancel each other if the power of their mean is below this share of what independent channels have.
_OPPOSED = 0.05
_PIECE = 2**18  # samples of an array processed at once
_ADDRESS_SECONDS, _CONNECT_SECONDS = 120.0, 20.0

# What can be passed as a song, see `open_sound`.
AudioSource = str | os.PathLike | bytes | BinaryIO | tuple | Mapping


def load_audio(
    source: AudioSource,
    *,
    sampling_rate: int | None = SAMPLING_RATE,
    start: float = 0.0,
    duration: float | None = None,
    mono: bool = True,
    audible: bool = True,
    addresses: bool = True,
) -> tuple[np.ndarray, int]:
    """Load a song, or `duration` seconds of it from `start` on.

    Args:
        source: any playable file, by its path, http(s) address, bytes, or as an open binary file or pipe; (array, rate); or
            anything else that `open_sound` takes.
        sampling_rate: rate to resample to (soxr), in Hz; None keeps the sound's own.
        start: first second to read.
        duration: seconds to read; None, or more than there are, reads to the end.
        mono: average the channels, or take the louder one where they cancel each other; otherwise they are kept.
        audible: refuse a sound that is silent or shorter than 0.25 s.
        addresses: whether `source` may be an http(s) address. Use False for untrusted input.

    Returns:
        float32 waveform `(samples,)`, or `(samples, channels)` without `mono`, and its sampling rate in Hz.

    Raises:
        AudioError: the file is missing, empty, cut short, no audio, silent, shorter than 0.25 s, or holds NaN or peaks far
            beyond full scale; `start` or `duration` is out of range; a limit is exceeded: 1 to 768 kHz, 64 channels, 3 hours,
            1.6 GB of waveform. The existing part of a truncated file can still be read, with `duration`.
    """
    start, duration = _check_excerpt(start, duration)
    with opened(source, addresses=addresses) as sound:
        return _read(sound, sampling_rate, start, duration, 0.0, mono, audible)


def load_excerpt(
    source: AudioSource,
    start: float = 0.0,
    duration: float | None = None,
    *,
    sampling_rate: int = SAMPLING_RATE,
    hop_length: int = HOP_LENGTH,
    addresses: bool = True,
) -> tuple[np.ndarray, slice]:
    """Load an excerpt together with its surroundings, since a few seconds alone give unreliable tempi.

        waveform, rows = load_excerpt("song.mp3", start=30, duration=10)
        features = song_features(waveform, rows=rows)      # (300, 35)

    Up to 90 s before and after the excerpt are loaded as well.

    Args:
        source: what `load_audio` takes.
        start, duration: the excerpt, in seconds; to the end when None.
        sampling_rate, hop_length: of the features, in Hz and samples.
        addresses: whether `source` may be an http(s) address.

    Returns:
        mono float32 waveform `(samples,)` at `sampling_rate`, and the rows of its features that belong to the excerpt, as many as
        the excerpt alone would have.

    Raises:
        AudioError: as `load_audio`, about the excerpt.
    """
    start, duration = _check_excerpt(start, duration)
    second = sampling_rate / hop_length  # rows
    before = int(min(start, SURROUNDINGS) * second)  # whole rows, so that rows of both are the same instants
    with opened(source, addresses=addresses) as sound:
        wanted = None if duration is None else duration + before / second
        try:
            waveform, _ = _read(sound, sampling_rate, start - before / second, wanted, SURROUNDINGS, True, False)
        except BeyondEnd as error:
            raise BeyondEnd(start, sound.name, error.ends) from None
        excerpt = waveform[before * hop_length :]
        if start and len(excerpt) == 0:
            raise BeyondEnd(start, sound.name, start - before / second + len(waveform) / sampling_rate)
        rows = num_rows(len(excerpt), hop_length)
        if duration is not None:
            rows = min(rows, math.floor(duration * second + 0.5))
            excerpt = excerpt[: round(duration * sampling_rate)]
        inspection = Inspection()
        inspection.add(excerpt)
        inspection.conclude(sampling_rate, _excerpt_name(sound, start, duration))
    return waveform, slice(before, before + rows)


def begins_and_ends(start: float, rows: slice, count: int, frame_rate: float) -> tuple[bool, bool]:
    """Whether a song begins and ends with its excerpt, up to half a second.

    Args:
        start: second at which the excerpt begins.
        rows, count: rows of the excerpt, and number of rows of what `load_excerpt` loaded.
        frame_rate: rows per second.
    """
    return start <= SHORT_REST, count - rows.stop <= SHORT_REST * frame_rate


class Inspection:
    """Checks a sound piece by piece and raises an error at the end if it is not usable."""

    def __init__(self) -> None:
        self.samples, self.broken, self.first_broken, self.peak, self.peak_at = 0, 0, 0, 0.0, 0

    def add(self, piece: np.ndarray) -> None:
        """Check the next piece, (samples,) or (samples, channels)."""
        peak = max(float(piece.max()), -float(piece.min())) if piece.size else 0.0
        if not math.isfinite(peak):
            fine = np.isfinite(piece).all(axis=tuple(range(1, piece.ndim)))
            if not self.broken:
                self.first_broken = self.samples + int(fine.argmin())
            self.broken += int((~fine).sum())
            peak = 0.0
        if peak > max(self.peak, LOUDEST):
            self.peak_at = self.samples + int(np.abs(piece).reshape(len(piece), -1).max(axis=1).argmax())
        self.peak = max(self.peak, peak)
        self.samples += len(piece)

    def conclude(self, sampling_rate: int, name: str, audible: bool = True) -> None:
        """Raises AudioError unless the sound is finite, within [-16, 16], and (if `audible`) 0.25 s long and not silent."""
        seconds = self.samples / sampling_rate
        if self.samples == 0:
            raise AudioError(f"{name} holds no samples: give a sound of at least {MIN_SECONDS} s")
        if self.broken:
            raise AudioError(
                f"{name} holds NaN or infinity in {self.broken / self.samples:.0%} of its samples, first at"
                f" {self.first_broken / sampling_rate:.2f} s: export the sound again"
            )
        if self.peak > LOUDEST:
            raise AudioError(
                f"{name} has a peak of {self.peak:.3g} times full scale at {self.peak_at / sampling_rate:.2f} s: floats go"
                " from -1 to 1; divide PCM numbers by their largest (32768 for 16 bits), or export the sound again"
            )
        if audible and self.samples + 1 < MIN_SECONDS * sampling_rate:  # one less is rounding
            raise AudioError(f"{name} lasts {seconds:.3g} s, which is too short: give at least {MIN_SECONDS} s")
        if audible and self.peak < SILENCE:
            raise AudioError(f"{name} is silent (peak {self.peak:.1g} of full scale 1): give a sound that can be heard")


def _check_excerpt(start: float, duration: float | None) -> tuple[float, float | None]:
    start = _seconds("start", start, positive=False)
    return start, None if duration is None else _seconds("duration", duration, positive=True)


def _seconds(argument: str, value: Any, positive: bool) -> float:
    usable = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    number = float(value) if usable else float("nan")
    if not np.isfinite(number) or number < 0 or (positive and number == 0):
        raise AudioError(f"{argument}={value!r}: give {'more than 0' if positive else '0 or more'} seconds")
    return number


# --- sources of sound --------------------------------------------------------------------------------------------------


class Sound:
    """An open sound, which can be read several times and from any second on. It has either a stream, or a waveform with its rate.

    Attributes:
        name: for messages.
        title: name of the file, or None.
        rate: of a waveform, in Hz; None for files, whose pieces come with it.
        source: what `open_sound` was given.
    """

    def __init__(
        self,
        name: str,
        title: str | None = None,
        stream: BinaryIO | None = None,
        waveform: np.ndarray | None = None,
        rate: int | None = None,
        own: bool = True,
    ) -> None:
        self.name, self.title, self.rate, self.source = name, title, rate, None
        self._stream, self._waveform, self._own = stream, waveform, own

    def pieces(self, start: float = 0.0, duration: float | None = None) -> Iterator[tuple[np.ndarray, int]]:
        """`[start, start + duration)`, in seconds, as float32 `(samples, channels)`, piece by piece, each with the sound's rate in Hz."""
        if self._stream is not None:
            return decode(self._stream, self.name, start, duration)
        return self._slices(start, duration)

    def seconds(self) -> float:
        """Its length in seconds."""
        if self._stream is not None:
            return length(self._stream, self.name)
        waveform, rate = self._array()
        return len(waveform) / rate

    def _array(self) -> tuple[np.ndarray, int]:
        assert self._waveform is not None and self.rate is not None
        return self._waveform, self.rate

    def _slices(self, start: float, duration: float | None) -> Iterator[tuple[np.ndarray, int]]:
        waveform, rate = self._array()
        first, last = round(start * rate), len(waveform)
        if first >= last > 0:
            raise BeyondEnd(start, self.name, last / rate)
        last = last if duration is None else min(last, first + round(duration * rate))
        check_size(self.name, rate, waveform.shape[1], last - first)
        for begin in range(first, max(last, first + 1), _PIECE):
            yield as_floats(waveform[begin : min(begin + _PIECE, last)]), rate

    def close(self) -> None:
        if self._own and self._stream is not None:
            self._stream.close()


def open_sound(
    source: Any, sampling_rate: int | None = None, *, argument: str = "audio", addresses: bool = True
) -> Sound:
    """Open a song that is given in any of these ways.

    Args:
        source:
            - any playable file: its path, its bytes, an open binary file; a pipe, which is read to its end at once; an
              http(s) address;
            - `(array, rate)` or `(rate, array)`, as torchaudio, scipy and gradio give it;
            - an array or tensor alone, with `sampling_rate`;
            - {"array" or "raw", "sampling_rate"}, as transformers' pipelines take it, and {"bytes", "path"}: the rows of
              `datasets`' Audio columns; one of the two may be None;
            - the decoders of `datasets` 4 and torchcodec (`get_all_samples`) and their samples;
            - an open `Sound`, which is returned as it is.

            Arrays are (samples,), (channels, samples) or (samples, channels), at most 8 channels: floats of any size from -1 to
            1, or PCM as int8, uint8 (128 is silence), int16, uint16 or int32; on any device, with or without gradients.
        sampling_rate: of an array given without it, in Hz.
        argument: name of the argument, for messages.
        addresses: whether an address may be fetched. Use False for untrusted input.

    Raises:
        AudioError: it is none of these, or cannot be opened.
    """
    if isinstance(source, Sound):
        return source
    sound = _open(source, sampling_rate, argument, addresses)
    if sampling_rate is not None and sound.rate not in (None, check_rate(sampling_rate)):
        raise AudioError(
            f"sampling_rate={sampling_rate}: {sound.name} comes with its own, {sound.rate} Hz; leave it out"
        )
    sound.source = source
    return sound


def _open(source: Any, sampling_rate: int | None, argument: str, addresses: bool) -> Sound:
    if isinstance(source, Mapping):
        return _open_row(source, argument, addresses)
    if callable(getattr(source, "get_all_samples", None)):
        with reading(f"{argument} of type {type(source).__name__}", "give a sound file that plays", AudioError):
            source = source.get_all_samples()
    if hasattr(source, "data") and hasattr(source, "sample_rate"):
        return _open_array(source.data, source.sample_rate, argument)
    if isinstance(source, (bytes, bytearray)) or (isinstance(source, memoryview) and source.format in ("B", "b", "c")):
        return Sound(f"{argument} of {len(source)} bytes", stream=io.BytesIO(source))
    if hasattr(source, "read"):
        return _open_stream(source, argument)
    if isinstance(source, (str, os.PathLike)):
        return _open_path(source, argument, addresses)
    if is_pair(source):
        values, rate = source if _is_number(source[1]) else source[::-1]
        return _open_array(values, rate, argument)
    if hasattr(source, "__array__") or hasattr(source, "detach") or isinstance(source, (list, tuple)):
        if sampling_rate is None:
            raise AudioError(f"{argument} is an array and sampling_rate=None: give its rate in Hz, or (array, rate)")
        return _open_array(source, sampling_rate, argument)
    raise AudioError(
        f"{argument} source of type {type(source).__name__}: give a path, bytes, an open binary file or (array, rate)"
    )


def is_same_file(path: str | os.PathLike, source: Any) -> bool:
    """Whether `path` is the file that a song comes from, by any name or link, so that writing it would replace the song."""
    if isinstance(source, Sound):
        source = source.source
    if isinstance(source, Mapping):
        source = source.get("path")
    try:
        if isinstance(source, (str, os.PathLike)):
            return os.path.samefile(path, source)
        return os.path.samestat(os.stat(path), os.fstat(source.fileno()))
    except (OSError, ValueError, AttributeError):  # one of them is no file
        return False


@contextmanager
def opened(source: Any, sampling_rate: int | None = None, **options: Any) -> Iterator[Sound]:
    """`open_sound` as a context that closes the sound; a `Sound` that was already open stays open."""
    sound = open_sound(source, sampling_rate, **options)
    try:
        yield sound
    finally:
        if sound is not source:
            sound.close()


def as_songs(audio: Any) -> tuple[list[Any], bool]:
    """A list of the songs in `audio`, and whether `audio` was a batch: a list or tuple that is neither (array, rate) nor the
    samples of one waveform."""
    if not isinstance(audio, (list, tuple)) or is_pair(audio) or len(audio) == 0 or _is_number(audio[0]):
        return [audio], False
    return list(audio), True


def is_pair(source: Any) -> bool:
    """Whether `source` is (array, rate) or (rate, array)."""
    return (
        isinstance(source, tuple)
        and len(source) == 2
        and sum(map(_is_number, source)) == 1
        and not any(isinstance(part, (str, bytes, os.PathLike, Mapping)) or hasattr(part, "read") for part in source)
    )


def _is_number(value: Any) -> bool:
    if isinstance(value, (int, float, np.number)):
        return True
    return getattr(value, "shape", None) == () and hasattr(value, "item")  # an array or tensor of one number


def _open_row(row: Mapping, argument: str, addresses: bool) -> Sound:
    for key in ("array", "raw"):
        if row.get(key) is not None and row.get("sampling_rate") is not None:
            return _open_array(row[key], row["sampling_rate"], argument)
    content, path = row.get("bytes"), row.get("path")
    if content is not None:
        sound = open_sound(content, argument=argument)
        if isinstance(path, (str, os.PathLike)):
            sound.title = Path(path).name
        return sound
    if path is not None:
        return open_sound(path, argument=argument, addresses=addresses)
    raise AudioError(
        f"{argument} has the keys {sorted(map(str, row))}: give 'array' (or 'raw') and 'sampling_rate', or 'bytes' or 'path'"
    )


def _open_array(values: Any, rate: Any, argument: str) -> Sound:
    rate = check_rate(rate)
    wrong = f"{argument} of type {type(values).__name__} is no array of numbers: give a waveform"
    try:
        if hasattr(values, "detach"):  # a tensor, without importing torch
            values = values.detach().cpu()
            values = values.float() if "bfloat16" in str(values.dtype) else values
        waveform = np.asarray(values)
    except Exception as error:  # ragged lists, tensors without memory, foreign objects
        raise AudioError(f"{wrong} ({reason_of(error)})") from error
    if waveform.dtype.kind == "i" and waveform.dtype.itemsize == 8 and isinstance(values, (list, tuple)):
        raise AudioError(f"{argument} is a list of whole numbers: give floats from -1 to 1, or an int16 array")
    try:
        as_floats(waveform[:0])
    except (TypeError, IndexError):
        if waveform.dtype.kind not in "iu" or waveform.ndim == 0:
            raise AudioError(wrong) from None
        raise AudioError(
            f"{argument} is an array of {waveform.dtype}, whose full scale is not known: give floats from -1 to 1, or PCM as"
            " int16 or int32"
        ) from None
    shape = waveform.shape
    if waveform.size == 0:
        waveform = np.zeros((0, 1), np.float32)
    elif waveform.ndim == 2 and 1 <= min(shape) <= ARRAY_CHANNELS:
        # the shorter side is the channels: no song has 8 samples
        waveform = waveform.T if shape[0] < shape[1] or shape[0] == 1 else waveform
    elif waveform.ndim == 1:
        waveform = waveform[:, None]
    else:
        raise AudioError(
            f"{argument} has shape {shape}: give (samples,), (channels, samples) or (samples, channels), with at most"
            f" {ARRAY_CHANNELS} channels, and a batch as a list"
        )
    return Sound(argument, waveform=waveform, rate=rate)


def _open_path(source: str | os.PathLike, argument: str, addresses: bool) -> Sound:
    path = os.fspath(source)
    if isinstance(path, str) and re.match(r"https?://", path, re.IGNORECASE):
        if not addresses:
            raise AudioError(f"{argument} {path!r} is an address: give the sound itself")
        return _open_address(path, argument)
    name = f"{argument} {path!r}"
    try:
        stream = Path(os.fsdecode(path)).open("rb")
    except FileNotFoundError:
        raise AudioError(f"{name} does not exist: give the path of a sound file") from None
    except IsADirectoryError:
        raise AudioError(f"{name} is a folder: give the path of a sound file") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise AudioError(f"{name} cannot be opened ({reason_of(error)}): check the path and its permissions") from None
    title = Path(os.fsdecode(path)).name
    if stream.seekable() and os.path.isfile(path):
        return Sound(name, title, stream)
    with stream:  # a pipe or a device
        return Sound(name, title, _read_all(stream, name))


def _open_stream(source: Any, argument: str) -> Sound:
    given = getattr(source, "name", None)
    title = Path(given).name if isinstance(given, str) else None
    name = f"{argument} {given!r}" if isinstance(given, str) else f"{argument} file object"
    source = getattr(source, "buffer", source)  # of a stream opened as text, such as sys.stdin
    try:
        source.seek(0)
        source.seek(0, os.SEEK_END)
        if isinstance(source.read(0), bytes):
            return Sound(name, title, source, own=False)
        source.seek(0)
    except (OSError, ValueError, AttributeError, TypeError):  # a pipe, or anything else that cannot seek
        pass
    return Sound(name, title, _read_all(source, name))


def _open_address(address: str, argument: str) -> Sound:
    from urllib import parse, request
    from urllib.error import HTTPError

    shown = re.sub(r"//[^/@]*@", "//", address)  # without a password
    name = f"{argument} {shown!r}"
    # http(s) only, also after redirects; urllib would open files and ftp as well
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler,
        request.HTTPHandler,
        request.HTTPSHandler,
        request.HTTPDefaultErrorHandler,
        request.HTTPRedirectHandler,
        request.HTTPErrorProcessor,
        request.UnknownHandler,
    ):
        opener.add_handler(handler())
    try:
        query = request.Request(address, headers={"User-Agent": "megadance-hf", "Accept": "*/*"})
        with opener.open(query, timeout=_CONNECT_SECONDS) as response:
            stream = _read_all(response, name, time.monotonic() + _ADDRESS_SECONDS)
    except AudioError:
        raise
    except HTTPError as error:
        raise AudioError(f"{name} cannot be fetched (status {error.code}): check the address") from None
    except Exception as error:  # URLError, HTTPException, timeouts, wrong addresses
        reason = reason_of(getattr(error, "reason", error) if isinstance(error, OSError) else error)
        raise AudioError(f"{name} cannot be fetched ({reason}): check the address and the network") from None
    title = Path(parse.unquote(parse.urlsplit(address).path)).name
    return Sound(name, title or None, stream)


def _read_all(source: Any, name: str, deadline: float | None = None) -> BinaryIO:
    """Copy a stream that cannot seek to a temporary file."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 (the Sound closes it)
    read = getattr(source, "read1", source.read)  # returns what is available; `read` would wait for a full block
    size = 0
    try:
        with reading(name, "give a file that is open for reading", AudioError):
            while block := read(2**18):
                if isinstance(block, str):
                    raise AudioError(f"{name} was opened as text: open it with mode 'rb'")
                size += len(block)
                if size > MAX_FILE:
                    raise AudioError(
                        f"{name} has more than {MAX_FILE / 1e6:.0f} MB: save a part of it to a file and give that"
                    )
                if deadline is not None and time.monotonic() > deadline:
                    raise AudioError(
                        f"{name} has not come in {_ADDRESS_SECONDS:.0f} s ({size / 1e6:.1f} MB have): fetch it to a file"
                    )
                file.write(block)
    except BaseException:
        file.close()
        raise
    return cast(BinaryIO, file)


class LiveMix:
    """Mixes blocks of a stream to mono, as `load_audio` mixes whole sounds. Whether channels cancel each other is decided for each
    sample from all samples so far, so that the result does not depend on the size of the blocks."""

    def __init__(self, rate: int) -> None:
        self.rate, self._samples = rate, 0
        self._power = np.zeros((1, 0))  # of each channel and of their mean, summed over the samples so far

    def __call__(self, block: Any) -> np.ndarray:
        """A block, an array as `open_sound` takes it -> float32 (samples,).

        Raises:
            AudioError: it is no array of samples, or holds NaN, infinity or peaks far beyond full scale.
        """
        sound = _open_array(block, self.rate, "block")
        values = np.concatenate([piece for piece, _ in sound.pieces()])
        if not np.isfinite(values).all():
            second = (self._samples + int((~np.isfinite(values)).any(axis=1).argmax())) / self.rate
            raise AudioError(f"block holds NaN or infinity at {second:.2f} s of the stream: give finite samples")
        if np.abs(values).max(initial=0.0) > LOUDEST:
            raise AudioError(f"block has a peak of {np.abs(values).max():.3g} times full scale: floats go from -1 to 1")
        self._samples += len(values)
        mixed, channels = _mean(values), values.shape[1]
        if channels == 1 or len(values) == 0:
            return mixed
        if self._power.shape[1] != channels + 1:
            self._power = np.zeros((1, channels + 1))
        squares = np.square(np.column_stack((values, mixed)), dtype=np.float64)
        power = np.concatenate((self._power, squares)).cumsum(axis=0)
        self._power = power[-1:]
        power = power[1:]
        opposed = power[:, -1] < power[:, :-1].mean(axis=1) * _OPPOSED / channels
        louder = values[np.arange(len(values)), power[:, :-1].argmax(axis=1)]
        return np.where(opposed, louder, mixed)


# --- reading -----------------------------------------------------------------------------------------------------------


def _excerpt_name(sound: Sound, start: float, duration: float | None) -> str:
    return sound.name if start == 0 and duration is None else f"{sound.name} from {start:g} s on"


def _read(
    sound: Sound,
    sampling_rate: int | None,
    start: float,
    duration: float | None,
    beyond: float,
    mono: bool,
    audible: bool,
    channel: int | None = None,
) -> tuple[np.ndarray, int]:
    """`load_audio` of an open sound, with up to `beyond` seconds after the excerpt, as far as they exist, if `duration` is given.

    `channel` selects one channel instead of the mean of all.
    """
    target = None if sampling_rate is None else check_rate(sampling_rate)
    name = _excerpt_name(sound, start, duration)
    inspection, store, resampler, rate = Inspection(), _Store(name), None, 0
    power, mixed_power = np.zeros(0), 0.0
    try:
        for piece, rate in sound.pieces(start, None if duration is None else duration + beyond):
            if mono and piece.shape[1] > 1 and channel is None:
                with np.errstate(over="ignore", invalid="ignore"):  # the inspection reports broken samples
                    mixed = _mean(piece)
                    squares = np.array([np.dot(values, values) for values in piece.T], np.float64)
                    power = power + squares if len(power) else squares
                    mixed_power += float(np.dot(mixed, mixed))
                piece = mixed
            elif mono:
                piece = piece[:, channel or 0]
            inspection.add(piece)
            if target is not None and target != rate:
                if resampler is None:
                    width = 1 if mono else piece.shape[1]
                    resampler = sound_library("soxr").ResampleStream(rate, target, width, dtype="float32")
                piece = resampler.resample_chunk(np.ascontiguousarray(piece))
            store.add(piece)
    except CutShort:
        if duration is None or inspection.samples < round(duration * rate) or not rate:
            raise
    if len(power) and mixed_power < power.mean() * _OPPOSED / len(power):
        loudest = int(np.argmax(power))  # left and right in opposite phase are not silence
        return _read(sound, sampling_rate, start, duration, beyond, mono, audible, loudest)
    inspection.conclude(rate, name, audible)
    if resampler is None or target is None:
        return store.all(), rate
    store.add(resampler.resample_chunk(store.values[:0], last=True))
    return store.all(), target


def _mean(piece: np.ndarray) -> np.ndarray:
    """`piece.mean(axis=1)` of (samples, channels), but faster."""
    total = piece[:, 0].copy()
    for channel in piece.T[1:]:
        total += channel
    total /= piece.shape[1]
    return total


class _Store:
    """A waveform that grows in place, up to a limit."""

    def __init__(self, name: str) -> None:
        self.name, self.values, self._used = name, np.zeros(0, np.float32), 0

    def add(self, piece: np.ndarray) -> None:
        if self._used == 0:
            self.values = np.zeros((0, *piece.shape[1:]), np.float32)
        needed = self._used + len(piece)
        if needed * math.prod(piece.shape[1:]) * 4 > MAX_WAVEFORM:
            raise AudioError(
                f"{self.name} needs more than {MAX_WAVEFORM / 1e6:.0f} MB as a waveform: give a duration, a lower"
                " sampling_rate, or mono=True"
            )
        if needed > len(self.values):
            largest = MAX_WAVEFORM // (4 * math.prod(piece.shape[1:]))
            size = max(needed, min(len(self.values) * 5 // 4, largest))
            self.values.resize((size, *piece.shape[1:]), refcheck=False)
        self.values[self._used : needed] = piece
        self._used = needed

    def all(self) -> np.ndarray:
        self.values.resize((self._used, *self.values.shape[1:]), refcheck=False)
        return self.values
