"""The feature extractor: songs to batches of `input_features` (paper, section 3.1).

    extractor = MegaDanceFeatureExtractor()
    features = extractor("song.mp3", return_tensors="pt")         # or extractor(waveform, sampling_rate=44100)
    features["input_features"]                                    # [batch, frames, 35]
    features["input_features"][..., ONSET_ENVELOPE]               # [batch, frames]
    excerpt = extractor.listen("song.mp3", start=30, duration=10) # (300, 35)

The 35 columns are those of `music_features_megadance.py`, raw: the model normalises them.

n samples give `round(n / 512)` rows, so that t seconds of music give 30 t rows, as many as a dance of t seconds has frames. The
released code keeps one row more (`1 + n // 512`, frames centred on both ends): `music_features` returns that array,
`song_features` and the extractor its first rows.
"""

import os
from typing import Any

import numpy as np
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor
from transformers.feature_extraction_utils import BatchFeature

from .audio_megadance import as_songs, begins_and_ends, load_excerpt, opened
from .errors_megadance import EXTRACTOR_FILES, SAVE_AGAIN, ModelError, read_json, reading
from .music_features_megadance import HOP_LENGTH, MUSIC_FEATURE_SIZE, SAMPLING_RATE, num_rows, song_features
from .remote_code_megadance import NamesCode
from .sound_files_megadance import MAX_RATE


class MegaDanceFeatureExtractor(NamesCode, SequenceFeatureExtractor):
    """Songs to `input_features` `[batch, frames, 35]` at `sampling_rate / hop_length` frames per second.

    Args:
        feature_size: number of columns; cannot be changed.
        sampling_rate: rate the features are computed at, in Hz; other sounds are resampled.
        hop_length: samples per row.
        padding_value: pads the shorter songs of a batch (the attention mask is 0 there).

    Raises:
        ValueError: an argument is out of range.
    """

    model_input_names = ["input_features", "attention_mask"]
    _auto_classes = {
        "AutoFeatureExtractor": "feature_extraction_megadance.MegaDanceFeatureExtractor",
        "AutoProcessor": "processing_megadance.MegaDanceProcessor",
    }

    def __init__(
        self,
        feature_size: int = MUSIC_FEATURE_SIZE,
        sampling_rate: int = SAMPLING_RATE,
        hop_length: int = HOP_LENGTH,
        padding_value: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if feature_size != MUSIC_FEATURE_SIZE:
            raise ValueError(
                f"feature_size={feature_size}: the music features have {MUSIC_FEATURE_SIZE} columns; leave it out"
            )
        for name, value, most in (("sampling_rate", sampling_rate, MAX_RATE), ("hop_length", hop_length, 65_536)):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise ValueError(f"{name}={value!r} is not possible: use a whole number from 1 to {most}")
        if (
            isinstance(padding_value, bool)
            or not isinstance(padding_value, int | float)
            or not abs(padding_value) < 1e6
        ):
            raise ValueError(f"padding_value={padding_value!r} is not possible: use a number")
        super().__init__(feature_size, sampling_rate, padding_value, **kwargs)
        self.hop_length = hop_length

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """As in transformers.

        Raises:
            ModelError: a folder's file is damaged; the message names it.
        """
        folder = os.path.join(pretrained_model_name_or_path, kwargs.get("subfolder") or "")
        if not os.path.isdir(folder):
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        for name in EXTRACTOR_FILES:
            if os.path.exists(path := os.path.join(folder, name)):
                read_json(path)
        names = " or ".join(EXTRACTOR_FILES)
        with reading(os.path.join(folder, names), SAVE_AGAIN, ModelError):
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    @property
    def frame_rate(self) -> float:
        """Rows per second."""
        return self.sampling_rate / self.hop_length

    def num_frames(self, num_samples: int) -> int:
        """Rows of `num_samples` at the extractor's rate: the nearest whole number, halves rounded up."""
        return num_rows(num_samples, self.hop_length)

    def __call__(
        self,
        raw_speech: Any = None,
        sampling_rate: int | None = None,
        padding: bool | str = True,
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        audio: Any = None,
    ) -> BatchFeature:
        """Computes the features of one song or of a list of songs.

        Args:
            raw_speech: a song, or a list of songs (a batch is always a list): a waveform with `sampling_rate`, `(samples,)` mono
                or `(channels, samples)` / `(samples, channels)`; or a file, a pair, a row of a data set, and whatever else
                `open_sound` takes. Channels are averaged.
            sampling_rate: rate of waveforms given without it, in Hz. No default: a wrong guess would go unnoticed.
            padding, max_length, truncation, pad_to_multiple_of: as in every transformers feature extractor, in frames.
                `pad_to_multiple_of=8` pads to whole motion codes.
            return_attention_mask: False leaves it out.
            return_tensors: "pt", "np" or None (lists of arrays).
            audio: another name for `raw_speech`.

        Returns:
            `input_features` `[batch, frames, 35]` float32, frames = round(samples / hop_length); `attention_mask`
            `[batch, frames]`, 1 where there is music.

        Raises:
            AudioError: a song cannot be read, is empty, silent, shorter than 0.25 s, holds NaN, or is no sound; a waveform has no
                sampling rate.
            ValueError: neither or both of `raw_speech` and `audio` are given.
        """
        if (raw_speech is None) == (audio is None):
            raise ValueError("give raw_speech or audio, which are the same: a song, or a list of songs")
        raw_speech = audio if raw_speech is None else raw_speech
        songs, is_batch = as_songs(raw_speech)
        rows = []
        for index, song in enumerate(songs):
            name = f"raw_speech[{index}]" if is_batch else "raw_speech"
            with opened(song, sampling_rate, argument=name) as sound:
                rows.append(self.listen(sound))
        return self.pad(
            BatchFeature({"input_features": rows}),
            padding=padding,
            max_length=max_length,
            truncation=truncation,
            pad_to_multiple_of=pad_to_multiple_of,
            return_attention_mask=return_attention_mask,
            return_tensors=return_tensors,
        )

    def listen(
        self, song: Any, start: float = 0.0, duration: float | None = None, *, addresses: bool = True
    ) -> np.ndarray:
        """The features of a song, or of an excerpt in the context of the song: `(frames, 35)` float32.

        Args:
            song: what `load_audio` takes.
            start, duration: the excerpt, in seconds; the whole song when left out. Up to 90 s before and after it are analysed as
                well: a few seconds alone often give double the tempo, and loudness is relative to the loudest moment.
            addresses: whether `song` may be an http(s) address.

        Raises:
            AudioError: the excerpt is empty, silent, shorter than 0.25 s, ...; see `load_audio`.
        """
        return self.listen_to_excerpt(song, start, duration, addresses=addresses)["input_features"]

    def listen_to_excerpt(
        self, song: Any, start: float = 0.0, duration: float | None = None, *, addresses: bool = True
    ) -> dict[str, Any]:
        """As `listen`, with what is around the excerpt: {"input_features", "begins", "ends", "before", "after"}.

        This is a song for the pipeline. It lets the dancer stand where the song `begins` and `ends` with the excerpt, and reads beat and bar
        from the features of up to 90 s `before` and `after` it as well, each (frames, 35).
        """
        rates = {"sampling_rate": self.sampling_rate, "hop_length": self.hop_length}
        waveform, rows = load_excerpt(song, start, duration, **rates, addresses=addresses)
        begins, ends = begins_and_ends(start, rows, num_rows(len(waveform), self.hop_length), self.frame_rate)
        features = song_features(waveform, **rates)
        around = {"before": features[: rows.start], "after": features[rows.stop :]}
        return {"input_features": features[rows], "begins": begins, "ends": ends, **around}

    @staticmethod
    def seconds(song: Any, *, addresses: bool = True) -> float:
        """Length of a song in seconds; `song` is what `load_audio` takes. It is decoded to its end if its header is not reliable."""
        with opened(song, argument="song", addresses=addresses) as sound:
            return sound.seconds()
