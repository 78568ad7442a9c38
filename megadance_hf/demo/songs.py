"""Songs that visitors have given: what is heard in them, the sound that the page plays, their waveform.

song = listen(pipe, file, "my.mp3", visitor, 600.0)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from megadance_hf.modeling.audio_megadance import load_audio
from megadance_hf.modeling.configuration_megadance import MOTION_FPS
from megadance_hf.modeling.rhythm_megadance import find_downbeats
from megadance_hf.pipeline import MusicToDancePipeline

from .curves import song_curves

PEAKS = 1000  # values of a song's waveform
HIGHEST_RATE = 48000  # Hz of the sound that the page plays
_SOUND = "sound.wav"


@dataclass
class Song:
    """A song that a visitor has given.

    Attributes:
        file: as it was given; `sound` beside it is what the page plays.
        seconds: its length, or what is used of it.
        beats, bars: seconds of the song.
        heard: probability of each genre, the likeliest first; None where the model cannot hear.
    """

    id: str
    visitor: str
    folder: Path
    file: Path
    name: str
    seconds: float
    sha256: str
    peaks: list[float]
    beats: np.ndarray
    bars: np.ndarray
    tempo: float | None
    heard: dict[str, float] | None
    notice: str | None

    def shown(self) -> dict[str, Any]:
        """As JSON for the page; addresses are relative to it."""
        return {
            "song": self.id,
            "name": self.name,
            "seconds": self.seconds,
            "sound": f"songs/{self.id}.wav",
            "peaks": self.peaks,
            "beats": rounded(self.beats),
            "bars": rounded(self.bars),
            "tempo": self.tempo,
            "heard": self.heard,
            "notice": self.notice,
        }

    def excerpt(self, start: float, seconds: float) -> Path:
        """A part of the sound that the page plays as a file beside it; takes of an excerpt share it."""
        with soundfile.SoundFile(self.folder / _SOUND) as sound:
            first = round(start * sound.samplerate)
            count = min(round(seconds * sound.samplerate), sound.frames - first)
            file = self.folder / f"{first}-{count}.wav"
            if not file.is_file():
                sound.seek(first)
                soundfile.write(file, sound.read(count, dtype="int16"), sound.samplerate, subtype="PCM_16")
        return file


def listen(pipe: MusicToDancePipeline, file: Path, name: str, visitor: str, longest: float) -> Song:
    """Read a song in a folder of its own, and write the sound that the page plays beside it.

    Args:
        name: what the visitor calls it.
        longest: seconds; of a longer song the beginning is used.

    Raises:
        AudioError: it cannot be used.
    """
    extractor, whole = pipe.processor.feature_extractor, {"mono": False, "duration": longest, "addresses": False}
    lasts = extractor.seconds(file, addresses=False)
    waveform, rate = load_audio(file, sampling_rate=None, **whole)
    peaks = _peaks(waveform)
    if rate > HIGHEST_RATE:
        waveform, rate = load_audio(file, sampling_rate=HIGHEST_RATE, **whole)
    seconds = len(waveform) / rate
    # wav: the very samples that are danced to (a browser's mp3 decoder may begin some milliseconds later), with jumps to any of them
    # (in flac they sometimes fail in Chromium)
    sound = waveform if waveform.shape[1] <= 2 else waveform.mean(1, keepdims=True)
    soundfile.write(file.parent / _SOUND, np.clip(sound, -1, 1), rate, subtype="PCM_16")
    del waveform, sound
    features = extractor.listen(file, 0.0, longest, addresses=False)
    curves = song_curves(features)
    notice = None
    if lasts > longest + 1:
        notice = f"The song lasts {_clock(lasts)}; the first {_clock(longest)} of it are used."
    return Song(
        id=file.parent.name,
        visitor=visitor,
        folder=file.parent,
        file=file,
        name=name,
        seconds=seconds,
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        peaks=peaks,
        beats=curves["beats"],
        bars=_bars(pipe, features),
        tempo=curves["tempo"],
        heard=pipe.hear_genre({"input_features": features}),
        notice=notice,
    )


@torch.no_grad()
def _bars(pipe: MusicToDancePipeline, features: np.ndarray) -> np.ndarray:
    """Seconds at which bars begin, as the model's rhythm encoder hears them; none without one."""
    music = torch.from_numpy(np.ascontiguousarray(features))[None].to(pipe.model.device)
    rhythm = pipe.model.base_model.encode_rhythm(music)
    return np.array([]) if rhythm is None else np.array(find_downbeats(rhythm[0].cpu())) / MOTION_FPS


def _peaks(waveform: np.ndarray) -> list[float]:
    """The largest sample of each of `PEAKS` pieces, 0 to 1."""
    loudest = np.abs(waveform).max(1)
    starts = np.linspace(0, len(loudest), min(PEAKS, len(loudest)), endpoint=False).astype(int)
    return rounded(np.maximum.reduceat(loudest, starts) / max(float(loudest.max()), 1e-6))


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"


def rounded(values: np.ndarray) -> list[float]:
    """Numbers for JSON, with three digits after the point."""
    return np.round(np.asarray(values, dtype=np.float64), 3).tolist()
