"""The music of clips: features of audio files, songs of raw folders, and the excerpts that a prepared set keeps.

A song may belong to one clip (FineDance) or to dozens (AIST++: 60 songs for 1408 dances). Its features are computed from the whole
file, once per process. A row of the prepared set keeps only the excerpt that is danced to, mono Ogg Vorbis at the file's own
sampling rate: about a thirtieth of the wav.
"""

import io
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np

from megadance_hf.modeling.audio_megadance import load_audio
from megadance_hf.modeling.feature_extraction_megadance import MegaDanceFeatureExtractor
from megadance_hf.modeling.music_features_megadance import BEAT, PEAK

from .clip import FPS, MIN_FRAMES, Clip, ClipError
from .raw_files import check_exists

SUFFIXES = (".wav", ".mp3", ".flac", ".ogg", ".m4a", ".aac", ".opus", ".aiff", ".aif", ".wma")
# Music may end this many frames before the motion (rounding of encoders); the last row is then repeated.
MAX_MISSING_ROWS = 3


def find_song(folders: list[Path], name: str) -> Path:
    """The file `name` with any of the known suffixes, in the first folder that has one; otherwise the path where it should be."""
    candidates = [folder / f"{name}{suffix}" for folder in folders for suffix in SUFFIXES]
    return next((file for file in candidates if file.is_file()), candidates[0])


def add_song(clip: Clip, song: Path) -> Clip:
    """Adds the music to the clip and returns it. Both begin together and are cut to the shorter of the two.

    Raises:
        ClipError: the file is missing, or too short for a clip.
        AudioError: it cannot be read.
    """
    check_exists(song)
    state = song.stat()
    cut_to_music(clip, _whole_song(song, state.st_mtime_ns, state.st_size))
    clip.audio = excerpt(song, len(clip) / FPS)
    return clip


def add_excerpt(clip: Clip, song: Path, start: float) -> Clip:
    """Adds the music that plays from second `start` of a song on, heard in the context of the song; returns the clip.

    Raises:
        ClipError: the file is missing, or ends before the clip.
        AudioError: it cannot be read.
    """
    check_exists(song)
    seconds = len(clip) / FPS
    clip.input_features = fit_rows(_extractor().listen(song, start, seconds), len(clip))
    clip.audio = excerpt(song, seconds, start)
    return clip


def cut_to_music(clip: Clip, features: np.ndarray) -> Clip:
    """Adds music features (rows, 35) to the clip, both cut to the shorter; a motion cut by more than a second is noted in `source`."""
    before, frames = len(clip), min(len(clip), len(features))
    if frames < MIN_FRAMES:
        raise ClipError(
            f"motion ({before} frames) and music ({len(features)} rows) share less than {MIN_FRAMES} frames"
        )
    clip.poses, clip.translation = clip.poses[:frames], clip.translation[:frames]
    clip.input_features = features[:frames].copy()
    if before - frames > FPS:
        clip.source += f"; motion cut from {before} to {frames} frames, where the music ends"
    return clip


@lru_cache(maxsize=128)
def _whole_song(song: Path, changed: int, size: int) -> np.ndarray:
    features = song_features(song)
    features.setflags(write=False)  # shared between clips
    return features


def excerpt(song: Path, seconds: float, start: float = 0.0) -> bytes:
    """So many `seconds` of a song from second `start` on, mono, as an Ogg Vorbis file."""
    return encode_ogg(*load_audio(song, sampling_rate=None, start=start, duration=seconds))


def fit_rows(features: np.ndarray, frames: int) -> np.ndarray:
    """Music features (N, 35) cut or padded to `frames` rows.

    Up to `MAX_MISSING_ROWS` rows are added by repeating the last one without its beat and peak flags, which would add beats. Raises
    `ClipError` if more are missing.
    """
    missing = frames - len(features)
    if missing > MAX_MISSING_ROWS or len(features) == 0:
        raise ClipError(f"the music ends {missing} frames before the motion of {frames} frames")
    if missing <= 0:
        return features[:frames]
    tail = np.repeat(features[-1:], missing, axis=0)
    tail[:, [BEAT, PEAK]] = 0
    return np.concatenate([features, tail])


_extractor = lru_cache(maxsize=1)(MegaDanceFeatureExtractor)


def song_features(audio: bytes | str | Path) -> np.ndarray:
    """Music features (rows, 35) float32 of a whole audio file, given by its path or its content."""
    extractor = _extractor()
    waveform, rate = load_audio(audio, sampling_rate=extractor.sampling_rate)
    return np.asarray(extractor(waveform, sampling_rate=rate)["input_features"][0], dtype=np.float32)


def music_features(audio: bytes | str | Path, frames: int) -> np.ndarray:
    """Music features (frames, 35) float32 of an audio file that is as long as a motion of `frames` frames, see `fit_rows`."""
    return fit_rows(song_features(audio), frames)


def encode_ogg(waveform: np.ndarray, rate: int) -> bytes:
    """A mono waveform (samples,) as an Ogg Vorbis file; deterministic."""
    import soundfile

    with io.BytesIO() as memory:
        with soundfile.SoundFile(memory, "w", rate, 1, format="OGG", subtype="VORBIS") as file:
            for start in range(0, len(waveform), rate):  # libsndfile's Vorbis encoder crashes on one large block
                file.write(waveform[start : start + rate])
        return _with_serial_number_0(memory.getvalue())


def _with_serial_number_0(ogg: bytes) -> bytes:
    """The file with the random serial number of its stream set to 0 in each page header, and the page checksums renewed (RFC 3533)."""
    content, page = bytearray(ogg), 0
    while page < len(content):
        segments = content[page + 26]
        end = page + 27 + segments + sum(content[page + 27 : page + 27 + segments])
        content[page + 14 : page + 18] = bytes(4)
        content[page + 22 : page + 26] = bytes(4)
        content[page + 22 : page + 26] = _ogg_checksum(bytes(content[page:end])).to_bytes(4, "little")
        page = end
    return bytes(content)


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _ogg_checksum(page: bytes) -> int:
    """CRC-32 with zlib's polynomial, but not reflected, and without its initial and final complement."""
    value = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{value:032b}"[::-1], 2)
