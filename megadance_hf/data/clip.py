"""A dance clip, the checks that every clip passes, and its motion as the rows that models read."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from megadance_hf.modeling.configuration_megadance import MOTION_FPS as FPS
from megadance_hf.modeling.configuration_megadance import MUSIC_FEATURE_SIZE
from megadance_hf.modeling.kinematics_megadance import NUM_JOINTS, ROOT_SIZE, poses_to_motion
from megadance_hf.modeling.modeling_megadance_classifier import classifier_motion
from megadance_hf.motion.up_axis import on_the_floor

from .beats import ESTIMATED, KNOWN, estimate_beats
from .noise import find_jumps

POSE_SIZE = NUM_JOINTS * 3
# "new_song": motion that training knows, to songs that it does not. Training reads the first two, or only the first.
SPLITS = ("train", "validation", "test", "new_song")
# Two codes: a shorter clip has not even one transition to learn from.
MIN_FRAMES = 16
# Names and licences are shorter, and messages repeat them.
MAX_LETTERS = 2000
TEXT_FIELDS = (
    *("id", "genre", "split", "source", "licence", "phase_confidence", "song", "beat_source", "bar_confidence", "kind"),
)
NUMBER_FIELDS = {
    "fps": "float32",
    "beat_period_s": "float64",
    "first_beat_s": "float64",
    "beats_per_bar": "int32",
    "first_beat_is_downbeat": "bool",
    "beat_confidence": "float32",
    "muq_frames": "int32",
}
# Frame numbers are smaller: a day of dance has fewer frames.
MOST_FRAMES = 30 * 86400
# What happens to a clip that jumps (see noise.py): it is left out, or kept and reported.
Jumps = Literal["leave_out", "keep"]


class ClipError(ValueError):
    """One clip cannot be used; the message says why in one line."""


@dataclass
class Clip:
    """One dance clip.

    Attributes:
        id: unique in its data set.
        poses: (T, 72) float32, axis-angle of the 24 SMPL joints, radians.
        translation: (T, 3) float32, position of the pelvis joint, metres, Y up.
        input_features: (T, 35) float32 music features, None without music.
        audio: the encoded music file; None without music, or when it was not read.
        genre: None if the source names none.
        split: one of `SPLITS`.
        source, licence: where the clip comes from, and on which terms.
        beat_period_s, first_beat_s, beats_per_bar: the known beat grid, beat k at `first_beat_s + k * beat_period_s`; of estimated
            beats the mean period and the first one.
        first_beat_is_downbeat: True when k = 0 begins a bar, False when the place in the bar is not known.
        phase_confidence: what the source states about how well motion and music are aligned; "low" means that its beats are not used.
        song: name of the music; clips with the same name are never divided between training and validation. None if the source does
            not name it: clips whose music begins alike then count as one song.
        beat_source: "known" or "estimated" (from the features, see `beats.py`); None without beats.
        beat_confidence: of estimated beats, 0 to 1.
        muq_frames: rows of the MuQ features that the authors' preprocessing made of the music; no model reads these features, but
            the released loaders end their windows where they end (`windows.py`). None where the source has none.
        marked_frames: frames that the source marks as bad, ascending; some may lie beyond the end of the clip. None where the source
            marks nothing. (What this package finds in the motion by itself is in `noise.py`.)
        bar_confidence: what the source states about how sure the place in the bar is; of no consequence.
        kind: how the source calls what the clip is, such as a choreography as written or a take; None where it does not.
        units: the figures that the clip is made of, {"name", "start_s", "beats"} each: text, seconds in the clip, and beats that it
            lasts. None where the source names none.
    """

    id: str
    poses: np.ndarray
    translation: np.ndarray
    input_features: np.ndarray | None = None
    audio: bytes | None = None
    genre: str | None = None
    split: str = "train"
    source: str = ""
    licence: str = ""
    fps: float = FPS
    beat_period_s: float | None = None
    first_beat_s: float | None = None
    beats_per_bar: int | None = None
    first_beat_is_downbeat: bool | None = None
    phase_confidence: str | None = None
    song: str | None = None
    beat_source: str | None = None
    beat_confidence: float | None = None
    muq_frames: int | None = None
    marked_frames: list[int] | None = None
    bar_confidence: str | None = None
    kind: str | None = None
    units: list[dict[str, Any]] | None = None

    def __len__(self) -> int:
        return len(self.poses)

    @property
    def paired(self) -> bool:
        """Whether the clip has music."""
        return self.input_features is not None

    def check(self, genres: Sequence[str] | None = None, jumps: Jumps = "leave_out") -> "Clip":
        """Converts the arrays to float32 and returns the clip itself.

        Raises:
            ClipError: wrong shapes, NaN, jumps (unless `jumps` is "keep"), an unknown split, a genre that is not in `genres`, fields of
                another type, or impossible beats.
        """
        self.poses, self.translation = check_motion(self.poses, self.translation, jumps)
        if self.input_features is not None:
            self.input_features = np.ascontiguousarray(self.input_features, dtype=np.float32)
            if self.input_features.shape != (len(self), MUSIC_FEATURE_SIZE):
                raise ClipError(
                    f"music features have shape {self.input_features.shape}, expected {(len(self), MUSIC_FEATURE_SIZE)}"
                )
            if not np.isfinite(self.input_features).all():
                raise ClipError("music features hold NaN or infinite numbers")
        self._check_fields()
        if self.split not in SPLITS:
            raise ClipError(f"split {self.split!r} is none of {', '.join(SPLITS)}")
        if genres is not None and self.genre is not None and self.genre not in genres:
            raise ClipError(f"genre {self.genre!r} is none of {', '.join(genres)}")
        if self.beat_period_s is not None and not 0 < self.beat_period_s < np.inf:
            raise ClipError(f"beat_period_s={self.beat_period_s!r} must be seconds above 0, or None")
        if self.first_beat_s is not None and not np.isfinite(self.first_beat_s):
            raise ClipError(f"first_beat_s={self.first_beat_s!r} must be a number of seconds, or None")
        if self.beat_source not in (None, KNOWN, ESTIMATED):
            raise ClipError(f"beat_source={self.beat_source!r} must be {KNOWN!r}, {ESTIMATED!r} or None")
        return self

    def _check_fields(self) -> None:
        """Raises `ClipError` for a field of another type, text that is too long, and numbers out of range."""
        for name in TEXT_FIELDS:
            value = getattr(self, name)
            if value is None and name not in ("id", "split", "source", "licence"):
                continue
            # without unpaired surrogates, which no file can hold
            if not isinstance(value, str) or len(value) > MAX_LETTERS or re.search("[\0\ud800-\udfff]", value):
                raise ClipError(f"{name}={str(value)[:80]!r} must be text of {MAX_LETTERS} letters at most")
        if not self.id or not self.id.isprintable():
            raise ClipError(f"id={self.id[:80]!r} must be a name of printable letters")
        for name in NUMBER_FIELDS:
            value = getattr(self, name)
            kinds = {"bool": bool, "int32": int}.get(NUMBER_FIELDS[name], (int, float))
            if value is not None and (not isinstance(value, kinds) or isinstance(value, bool) is not (kinds is bool)):
                raise ClipError(
                    f"{name}={str(value)[:80]!r} must be {'True or False' if kinds is bool else 'a number'}, or None"
                )
        if self.fps != FPS:
            raise ClipError(f"fps={self.fps!r} must be {FPS}, the rate of every prepared clip")
        if self.beats_per_bar is not None and not 1 <= self.beats_per_bar <= 64:
            raise ClipError(f"beats_per_bar={self.beats_per_bar!r} must be 1 to 64, or None")
        if self.muq_frames is not None and not 1 <= self.muq_frames <= MOST_FRAMES:
            raise ClipError(f"muq_frames={self.muq_frames!r} must be 1 to {MOST_FRAMES}, or None")
        if (marked := self.marked_frames) is not None:
            numbers = isinstance(marked, list) and all(type(frame) is int for frame in marked)
            if not numbers or marked != sorted(set(marked)) or not all(0 <= frame < MOST_FRAMES for frame in marked):
                raise ClipError(f"marked_frames={str(marked)[:80]} must be an ascending list of frame numbers, or None")

        self.units = self.units or None
        if self.units is not None and not (isinstance(self.units, list) and all(map(_is_unit, self.units))):
            raise ClipError(f"units={str(self.units)[:80]} must be a list of {{'name', 'start_s', 'beats'}}, or None")

    def with_beats(self) -> "Clip":
        """The clip itself; beats that the source does not state are estimated from the music features."""
        if self.beat_source is None and self.beat_period_s is not None:
            self.beat_source = KNOWN
        elif self.beat_source is None and self.input_features is not None:
            if (beats := estimate_beats(self.input_features)) is not None:
                self.beat_period_s, self.first_beat_s = beats.period_s, beats.first_s
                self.beat_source, self.beat_confidence = ESTIMATED, beats.confidence
        return self


def _is_unit(unit: Any) -> bool:
    if not isinstance(unit, dict) or set(unit) != {"name", "start_s", "beats"} or not isinstance(unit["name"], str):
        return False
    numbers = (unit["start_s"], unit["beats"])
    return len(unit["name"]) <= MAX_LETTERS and all(type(n) in (int, float) and np.isfinite(n) for n in numbers)


def as_float32(name: str, values: Any) -> np.ndarray:
    """An array of real numbers as float32; numpy would also parse text, and drop imaginary parts. `name` begins the error message."""
    try:
        array = np.asarray(values)
        if array.dtype.kind in "cSUMmb":
            raise TypeError(f"it is one of {array.dtype}")
        with np.errstate(over="ignore"):  # infinite then, which is an error of its own
            return np.asarray(array, dtype=np.float32, order="C")
    except (TypeError, ValueError, MemoryError) as error:
        raise ClipError(f"{name} is not an array of numbers ({error})") from error


def check_motion(poses: Any, translation: Any, jumps: Jumps = "leave_out") -> tuple[np.ndarray, np.ndarray]:
    """Poses (T, 72) and translation (T, 3) as float32; raises `ClipError` for the first thing wrong with them."""
    poses, translation = as_float32("poses", poses), as_float32("translation", translation)
    if poses.ndim != 2 or poses.shape[1] != POSE_SIZE:
        raise ClipError(f"poses have shape {poses.shape}, expected (frames, {POSE_SIZE})")
    if translation.shape != (len(poses), 3):
        raise ClipError(f"translation has shape {translation.shape}, expected {(len(poses), 3)}")
    if len(poses) < MIN_FRAMES:
        raise ClipError(f"only {len(poses)} frames, at least {MIN_FRAMES} are needed")
    for name, array in (("poses", poses), ("translation", translation)):
        bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
        if bad.size:
            raise ClipError(f"{name} hold NaN or infinite numbers, first in frame {bad[0]}")
    if jumps == "leave_out":
        for jump in find_jumps(poses, translation):
            raise ClipError(jump)
    return poses, translation


def put_on_the_floor(clip: Clip) -> None:
    """Moves a clip whose floor is unknown up or down until it stands on y = 0, and notes in `source` how far."""
    poses = clip.poses.reshape(len(clip), NUM_JOINTS, 3)
    translation, notes = on_the_floor(poses, clip.translation)
    clip.translation = np.asarray(translation, np.float32)
    clip.source = "; ".join([clip.source, *notes])


def clip_motion(clip: Clip, end: Literal["moving", "still"] = "moving") -> np.ndarray:
    """Motion (T, 147) float32 of a whole clip, so that every segment cut from it has true root velocities.

    The velocity after the last frame is unknown. It repeats the one before, or with `end="still"` it is zero as in the released
    code, which is a stop.
    """
    poses = torch.from_numpy(clip.poses).unflatten(-1, (NUM_JOINTS, 3))
    motion = poses_to_motion(poses, torch.from_numpy(clip.translation))
    if end == "moving":
        motion[-1, :ROOT_SIZE] = motion[-2, :ROOT_SIZE]
    return motion.numpy()


def clip_positions(clip: Clip) -> np.ndarray:
    """Motion (T, 147) float32 with root positions in place of velocities, the input of the genre classifier."""
    return classifier_motion(torch.from_numpy(clip.poses), torch.from_numpy(clip.translation)).numpy()
