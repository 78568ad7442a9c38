"""Waveforms become `input_features`: resampling, checks, batches (paper, section 3.1).

    waveform, rate = load_audio("song.mp3")
    features = MegaDanceFeatureExtractor()(waveform, sampling_rate=rate, return_tensors="pt")
    features["input_features"]                        # [batch, frames, 35]
    features["input_features"][..., ONSET_ENVELOPE]   # [batch, frames]

The 35 columns are those of `music_features_megadance.py`. They come out raw; normalising them is the model's business.

One rule for the length: n samples give `round(n / 512)` rows, so that s seconds of music give 30 s rows and stay aligned
with a dance of s seconds. The released code keeps one row more (`1 + n // 512`, frames centred on both ends):
`music_features` returns that array, and `song_features` and the extractor its first rows.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor
from transformers.feature_extraction_utils import BatchFeature

from .audio_megadance import AudioError, Inspection
from .music_features_megadance import HOP_LENGTH, NUM_FEATURES, SAMPLING_RATE, num_rows, song_features, sound_library
from .remote_code_megadance import NamesCode


def _resample(waveform: np.ndarray, rate: int, target: int) -> np.ndarray:
    return np.asarray(sound_library("soxr").resample(waveform, rate, target), dtype=np.float32)


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
        return num_rows(num_samples, self.hop_length)

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
            inspection = Inspection()
            inspection.add(waveform)
            inspection.conclude(sampling_rate, name)
            if sampling_rate != self.sampling_rate:
                waveform = _resample(waveform, sampling_rate, self.sampling_rate)
            rows.append(song_features(waveform, self.sampling_rate, self.hop_length))
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
