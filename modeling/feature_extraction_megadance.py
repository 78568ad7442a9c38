"""Sound files and waveforms become `input_features`: reading, resampling, checks, batches (paper, section 3.1).

    waveform, rate = load_audio("song.mp3")
    features = MegaDanceFeatureExtractor()(waveform, sampling_rate=rate, return_tensors="pt")
    features["input_features"]                        # [batch, frames, 35]
    features["input_features"][..., ONSET_ENVELOPE]   # [batch, frames]

The 35 columns are those of `music_features_megadance.py`. They come out raw; normalising them is the model's business.

One rule for the length: n samples give `round(n / 512)` rows, so that s seconds of music give 30 s rows and stay aligned
with a dance of s seconds. The released code keeps one row more (`1 + n // 512`, frames centred on both ends):
`music_features` returns that array, and the extractor its first rows.
"""

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor
from transformers.feature_extraction_utils import BatchFeature

from .music_features_megadance import HOP_LENGTH, NUM_FEATURES, SAMPLING_RATE, music_features, sound_library
from .remote_code_megadance import NamesCode

MIN_SECONDS = 0.25  # less than one motion code (8 frames) cannot be danced to
SILENCE = 1e-4  # peak, -80 dB below full scale: under this there is dither and nothing else
_PIECE = 2**18  # samples of a file that are decoded at once

AudioSource = str | os.PathLike | bytes | BinaryIO


class AudioError(ValueError):
    """Sound that cannot be used; the message is one line naming the argument, its value and the remedy."""


# --- reading ---------------------------------------------------------------------------------------------------------


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
    inspection, resampler, pieces = _Inspection(), None, []
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


class _Inspection:
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


def _resample(waveform: np.ndarray, rate: int, target: int) -> np.ndarray:
    return np.asarray(sound_library("soxr").resample(waveform, rate, target), dtype=np.float32)


# --- extractor -------------------------------------------------------------------------------------------------------


class MegaDanceFeatureExtractor(NamesCode, SequenceFeatureExtractor):
    """Waveforms to `input_features` `[batch, frames, 35]` at `sampling_rate / hop_length` frames a second.

    Args:
        sampling_rate: rate the features are computed at, in Hz; other sounds are resampled.
        hop_length: samples a row.
        padding_value: what shorter songs of a batch are filled up with (the attention mask is 0 there).
    """

    model_input_names = ["input_features", "attention_mask"]
    _auto_classes = {
        "AutoFeatureExtractor": "feature_extraction_megadance.MegaDanceFeatureExtractor",
        "AutoProcessor": "processing_megadance.MegaDanceProcessor",
    }

    def __init__(
        self,
        feature_size: int = NUM_FEATURES,
        sampling_rate: int = SAMPLING_RATE,
        hop_length: int = HOP_LENGTH,
        padding_value: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if feature_size != NUM_FEATURES:
            raise ValueError(
                f"feature_size={feature_size}: the music features have {NUM_FEATURES} columns; leave it out"
            )
        super().__init__(feature_size, sampling_rate, padding_value, **kwargs)
        self.hop_length = hop_length

    @property
    def frame_rate(self) -> float:
        """Rows a second."""
        return self.sampling_rate / self.hop_length

    def num_frames(self, num_samples: int) -> int:
        """Rows that `num_samples` at the extractor's own rate give: the nearest whole number, halves upwards."""
        return (num_samples + self.hop_length // 2) // self.hop_length

    def __call__(
        self,
        raw_speech: np.ndarray | Sequence[float] | Sequence[np.ndarray],
        sampling_rate: int | None = None,
        padding: bool | str = True,
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Computes the features of one song or of a list of songs.

        Args:
            raw_speech: a waveform, `(samples,)` mono or `(channels, samples)` / `(samples, channels)`, averaged to mono; or
                a list of waveforms (a batch is always a list). Floats in [-1, 1], or PCM as int16 or int32.
            sampling_rate: rate of the waveforms in Hz. No default: a wrong guess would go unnoticed.
            padding, max_length, truncation, pad_to_multiple_of: as in every transformers feature extractor, in frames.
                `pad_to_multiple_of=8` fills up to whole motion codes.
            return_attention_mask: None gives it.
            return_tensors: "pt", "np" or None (lists of arrays).

        Returns:
            `input_features` `[batch, frames, 35]` float32, frames = round(samples / hop_length); `attention_mask`
            `[batch, frames]`, 1 where there is music.

        Raises:
            AudioError: a waveform is empty, silent, shorter than 0.25 s, holds NaN, or is no waveform; no sampling rate.
        """
        if sampling_rate is None or not sampling_rate > 0:
            raise AudioError(f"sampling_rate={sampling_rate}: give the waveform's rate in Hz, as load_audio returns it")
        if isinstance(raw_speech, (str, bytes, os.PathLike)):
            raise AudioError("raw_speech is a file, not a waveform: read it with load_audio first")
        is_batch = isinstance(raw_speech, (list, tuple)) and len(raw_speech) > 0 and np.ndim(raw_speech[0]) > 0
        waveforms = list(raw_speech) if is_batch else [raw_speech]
        rows = []
        for index, values in enumerate(waveforms):
            name = f"raw_speech[{index}]" if is_batch else "raw_speech"
            waveform = _to_mono(values, name)
            inspection = _Inspection()
            inspection.add(waveform)
            inspection.conclude(sampling_rate, name)
            if sampling_rate != self.sampling_rate:
                waveform = _resample(waveform, sampling_rate, self.sampling_rate)
            features = music_features(waveform, self.sampling_rate, self.hop_length)
            rows.append(features[: self.num_frames(len(waveform))])
        return self.pad(
            BatchFeature({"input_features": rows}),
            padding=padding,
            max_length=max_length,
            truncation=truncation,
            pad_to_multiple_of=pad_to_multiple_of,
            return_attention_mask=return_attention_mask,
            return_tensors=return_tensors,
        )


def _to_mono(values: Any, name: str) -> np.ndarray:
    """Any array-like to a float32 `(samples,)` waveform."""
    try:
        waveform = np.asarray(values)
        if waveform.dtype in (np.int16, np.int32):  # PCM
            waveform = waveform / -float(np.iinfo(waveform.dtype).min)
        waveform = waveform.astype(np.float32)
    except (TypeError, ValueError):
        raise AudioError(f"{name} of type {type(values).__name__} is no array of numbers: give a waveform") from None
    if waveform.ndim == 2 and 1 <= min(waveform.shape) <= 8:  # the short axis is the channels: no song has 8 samples
        waveform = waveform.mean(axis=int(np.argmin(waveform.shape)))
    if waveform.ndim != 1:
        raise AudioError(
            f"{name} has shape {waveform.shape}: give (samples,), (channels, samples) or (samples, channels),"
            " and a batch as a list"
        )
    return waveform
