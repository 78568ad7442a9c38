"""The sound of composed songs: drums and pitched instruments synthesised, mixed to stereo with a little room, and limited."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import minimum_filter1d, uniform_filter1d
from scipy.signal import butter, fftconvolve, sosfilt

SAMPLING_RATE = 44100  # Hz


@dataclass(frozen=True)
class Note:
    """One sound: when (seconds), what, pitch (MIDI number; 0 for drums), how long (seconds) and how loud (0..1)."""

    time: float
    instrument: str
    pitch: int
    seconds: float
    velocity: float


def _time(seconds: float) -> np.ndarray:
    return np.arange(round(seconds * SAMPLING_RATE)) / SAMPLING_RATE


def _noise(name: str, seconds: float, low: float, high: float) -> np.ndarray:
    """Band-passed noise of unit standard deviation, always the same for a name."""
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(round(seconds * SAMPLING_RATE))
    noise = sosfilt(butter(2, (low, high), "bandpass", fs=SAMPLING_RATE, output="sos"), noise)
    return noise / noise.std()


def _drop(t: np.ndarray, start: float, end: float, fall: float) -> np.ndarray:
    """A sine that falls from one frequency (Hz) to another: a drum skin."""
    return np.sin(2 * np.pi * (end * t + (start - end) * fall * (1 - np.exp(-t / fall))))


def _drum(name: str) -> np.ndarray:
    t = _time({"crash": 2.5, "open_hat": 0.5, "kick": 0.5}.get(name, 0.35))

    def hiss(low: float, high: float) -> np.ndarray:
        return _noise(name, len(t) / SAMPLING_RATE, low, high)

    def fall(seconds: float, start: float = 0.0) -> np.ndarray:
        return np.where(t >= start, np.exp(-(t - start).clip(0) / seconds), 0)

    def sine(hertz: float) -> np.ndarray:
        return np.sin(2 * np.pi * hertz * t)

    return {
        "kick": lambda: _drop(t, 170, 48, 0.035) * fall(0.16) + 0.3 * hiss(700, 9000) * fall(0.006),
        "snare": lambda: 0.6 * _drop(t, 240, 180, 0.03) * fall(0.07) + 0.3 * hiss(1200, 9000) * fall(0.09),
        "clap": lambda: 0.35 * hiss(900, 4500) * (fall(0.006) + fall(0.006, 0.011) + fall(0.07, 0.022)),
        "hat": lambda: 0.3 * hiss(7000, 16000) * fall(0.025),
        "open_hat": lambda: 0.3 * hiss(7000, 16000) * fall(0.13),
        "shaker": lambda: 0.3 * hiss(4500, 11000) * (1 - fall(0.006)) * fall(0.03),
        "brush": lambda: 0.35 * hiss(1500, 7000) * (1 - fall(0.004)) * fall(0.08),
        "crash": lambda: 0.25 * hiss(3500, 15000) * fall(0.4),
        "guiro": lambda: 0.4 * hiss(2500, 7500) * (0.5 + 0.5 * sine(95)) ** 3 * fall(0.07),  # a stick over ridges
        "rim": lambda: (sine(2450) + 0.5 * sine(1720)) * fall(0.02),
        "cowbell": lambda: (
            0.5 * sum(np.sin(2 * np.pi * f * k * t) / k for f in (562, 845) for k in (1, 3, 5)) * fall(0.07)
        ),
        "conga_slap": lambda: 0.6 * _drop(t, 380, 330, 0.02) * fall(0.035) + 0.15 * hiss(1500, 6000) * fall(0.015),
        "conga_open": lambda: _drop(t, 235, 205, 0.04) * fall(0.12) + 0.06 * hiss(800, 4000) * fall(0.01),
    }[name]()


def _string(t: np.ndarray, hertz: float, bright: float, damping: float, pluck: float) -> np.ndarray:
    """A struck or plucked string as a sum of partials; higher ones decay first. `pluck`: where it is struck, 0..0.5."""
    sound = np.zeros_like(t)
    for k in range(1, min(20, int(9000 / hertz)) + 1):
        loudness = np.sin(np.pi * k * pluck) / k**bright
        stretch = k * np.sqrt(1 + 1e-4 * k * k)  # stiffness
        sound += loudness * np.exp(-t * damping * (1 + 0.35 * k)) * np.sin(2 * np.pi * hertz * stretch * t)
    return sound


def _tone(name: str, pitch: int, seconds: float) -> np.ndarray:
    """One pitched note (MIDI number), held for `seconds` and then released."""
    hertz = 440 * 2 ** ((pitch - 69) / 12)
    attack, release = {"strings": (0.07, 0.25), "pad": (0.25, 0.5), "flute": (0.04, 0.1)}.get(name, (0.003, 0.08))
    t = _time(seconds + release)
    vibrato = 0.004 * np.sin(2 * np.pi * 5.2 * t) * np.clip((t - 0.2) / 0.3, 0, 1)
    turn = 2 * np.pi * hertz * (t + np.cumsum(vibrato) / SAMPLING_RATE)

    def fall(seconds: float) -> np.ndarray:
        return np.exp(-t / seconds)

    def bowed(top: float) -> np.ndarray:
        """Three bowed strings, slightly out of tune with each other, with partials up to `top` Hz."""
        partials = range(1, max(2, int(top / hertz)) + 1)
        return sum(np.sin(k * turn * d + k * d) / k**1.3 for d in (0.9975, 1.0, 1.0026) for k in partials) / 3

    sound = {
        "tom": lambda: _drop(t, 1.5 * hertz, hertz, 0.03) * fall(0.15),
        "bass": lambda: _string(t, hertz, 1.1, 1.6, 0.22),
        "guitar": lambda: _string(t, hertz, 1.0, 1.7, 0.17),
        "piano": lambda: _string(t, hertz, 1.2, 1.1, 0.12) + _string(t, 1.0009 * hertz, 1.2, 1.2, 0.12),
        # frequency modulation, its index decays as after a hammer's strike
        "epiano": lambda: (
            np.sin(turn + 1.4 * fall(0.35) * np.sin(turn)) * fall(0.9) + 0.1 * np.sin(14 * turn) * fall(0.04)
        ),
        "bell": lambda: np.sin(turn + 1.8 * fall(0.12) * np.sin(3 * turn)) * fall(0.35),
        "flute": lambda: (
            np.sin(turn)
            + 0.25 * np.sin(2 * turn)
            + 0.08 * np.sin(3 * turn)
            + 0.015 * _noise("flute", len(t) / SAMPLING_RATE, 1500, 6000)
        ),
        "strings": lambda: bowed(6000),
        "pad": lambda: bowed(2500),
    }[name]()
    return sound * np.minimum(1, t / attack) * np.clip((seconds + release - t) / release, 0, 1)


# instrument: volume, pan from left (-1) to right (1), share sent to the reverb
_MIX: dict[str, tuple[float, float, float]] = {
    "kick": (0.8, 0.0, 0.02),
    "snare": (0.75, 0.0, 0.2),
    "clap": (0.5, 0.05, 0.25),
    "hat": (0.48, 0.3, 0.05),
    "open_hat": (0.34, 0.3, 0.08),
    "shaker": (0.45, -0.4, 0.08),
    "brush": (0.6, 0.2, 0.2),
    "crash": (0.18, -0.2, 0.3),
    "guiro": (0.4, -0.45, 0.1),
    "rim": (0.22, 0.4, 0.25),
    "cowbell": (0.26, 0.25, 0.12),
    "conga_slap": (0.5, -0.25, 0.15),
    "conga_open": (0.55, -0.25, 0.15),
    "tom": (0.6, 0.15, 0.15),
    "bass": (0.5, 0.0, 0.0),
    "guitar": (0.22, -0.3, 0.25),
    "piano": (0.13, 0.3, 0.2),
    "epiano": (0.11, -0.25, 0.25),
    "pad": (0.09, 0.0, 0.4),
    "bell": (0.22, 0.15, 0.35),
    "flute": (0.21, 0.1, 0.35),
    "strings": (0.28, 0.15, 0.4),
}
_DUCKED = ("bass", "pad", "epiano", "piano", "guitar")  # give way to the kick drum


def render_notes(notes: Sequence[Note], seconds: float, duck: float) -> np.ndarray:
    """The sound of notes: float32 (samples, 2) at 44100 Hz, `round(seconds * 44100)` samples, peak at most 0.9.

    `duck`: how far bass and chords give way to the kick drum, 0 to 1.
    """
    length = round(seconds * SAMPLING_RATE)
    direct, ducked, room = (np.zeros((2, length)) for _ in range(3))
    sounds: dict[tuple, np.ndarray] = {}
    kicks = np.zeros(length)
    for note in notes:
        key = (note.instrument, note.pitch, round(note.seconds, 4) if note.pitch else 0)
        if key not in sounds:
            sounds[key] = _tone(*key) if note.pitch else _drum(note.instrument)
        begin = round(note.time * SAMPLING_RATE)
        sound = sounds[key][: length - begin]
        volume, pan, send = _MIX[note.instrument]
        angle = (pan + 1) * np.pi / 4
        stereo = volume * note.velocity * np.outer((np.cos(angle), np.sin(angle)), sound)
        bus = ducked if note.instrument in _DUCKED else direct
        bus[:, begin : begin + len(sound)] += stereo
        room[:, begin : begin + len(sound)] += send * stereo
        if note.instrument == "kick":
            dip = np.exp(-_time(0.5)[: length - begin] / 0.11)
            kicks[begin : begin + len(dip)] = np.maximum(kicks[begin : begin + len(dip)], dip)
    mix = direct + ducked * (1 - duck * kicks) + _reverberate(room)
    mix *= 0.17 / np.sqrt(np.mean(mix**2) + 1e-12)  # about -15 dB below full scale
    mix = _limit(mix, 0.9)
    fade = min(1.5, seconds / 10)
    mix *= np.clip((seconds - np.arange(length) / SAMPLING_RATE) / fade, 0, 1) ** 1.5
    return np.ascontiguousarray(mix.T, dtype=np.float32)


def _reverberate(dry: np.ndarray) -> np.ndarray:
    """Reverb of a small hall: noise that decays in a second, different for each ear, 15 ms after the sound. (2, samples)"""
    t = _time(1.1)
    delay = np.zeros(round(0.015 * SAMPLING_RATE))
    wet = []
    for channel, ear in zip(dry, ("left", "right"), strict=True):
        echo = np.concatenate([delay, _noise(ear, 1.1, 200, 6000) * np.exp(-t / 0.25)])
        wet.append(fftconvolve(channel, echo / np.sqrt(np.sum(echo**2)))[: len(channel)])
    return 1.6 * np.stack(wet)


def _limit(mix: np.ndarray, ceiling: float, reach: int = 900) -> np.ndarray:
    """Look-ahead limiter: turn loud moments down smoothly, from 20 ms before, so that no sample exceeds the ceiling. (2, samples)

    The minimum of the gain within reach, averaged over the same reach, is never above the gain that any sample needs.
    """
    needed = np.minimum(1, ceiling / np.maximum(np.abs(mix).max(axis=0), 1e-9))
    return mix * uniform_filter1d(minimum_filter1d(needed, 2 * reach + 1), 2 * reach + 1)
