"""Compose songs to dance to: drums, bass, chords and a tune, whose beats and downbeats are known exactly.

    python -m megadance_hf.synthetic.composer song.wav --style waltz --seconds 30 --seed 7

A song is a pure function of its arguments: the same style, seed and options give the same samples. So it is music that may
be shipped (`make demo`), a test of anything that detects beats, and material for synthetic training data: tempo, key,
progression, energy and tune all follow the seed. `synthesizer.py` makes it sound.

    score = compose(seconds=20, style="disco", seed=0)
    waveform = score.render()        # (samples, 2) float32 at 44100 Hz
    score.beat_times                 # (beats,) seconds
"""

import argparse
import io
import os
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from megadance_hf.data.beats import KNOWN
from megadance_hf.data.clip import Clip
from megadance_hf.modeling.feature_extraction_megadance import MegaDanceFeatureExtractor
from megadance_hf.modeling.files_megadance import whole

from .synthesizer import SAMPLING_RATE, Note, render_notes

STEPS_PER_BEAT = 4  # patterns are written in sixteenths
SECTION_BARS = 4
_SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
_KEYS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
_VELOCITY = {"X": 1.0, "x": 0.72, "o": 0.4}


@dataclass(frozen=True)
class Style:
    """What makes a dance rhythm. A pattern is a string with one character per sixteenth, one or two bars long: `X` loud,
    `x` medium, `o` soft, `.` nothing; in the bass `r` root, `5` fifth, `o` octave.
    """

    tempo: tuple[int, int]  # beats per minute, lowest and highest
    scale: str
    progressions: tuple[tuple[int, ...], ...]  # scale degrees 0..6, one chord per bar
    drums: tuple[tuple[str, float, str], ...]  # instrument, least energy at which it plays, pattern
    bass: str
    chords: str
    chord_voice: str
    tune_voice: str
    tune_rhythms: tuple[str, ...]  # two bars each
    beats_per_bar: int = 4
    duck: float = 0.15  # how far bass and chords give way to the kick drum, 0 to 1


STYLES: dict[str, Style] = {
    "disco": Style(
        tempo=(114, 124),
        scale="minor",
        progressions=((0, 5, 2, 6), (0, 3, 5, 4), (0, 0, 5, 6), (3, 6, 2, 5)),
        drums=(
            ("kick", 0.0, "X...X...X...X..."),
            ("clap", 0.2, "....X.......X..."),
            ("open_hat", 0.3, "..x...x...x...x."),
            ("hat", 0.0, "X.o.X.o.X.o.X.o."),
            ("shaker", 0.7, "xooxxoxoxooxxoxo"),
        ),
        bass="r.o.r.o.r.o.5.o.",
        chords="..X...x...X..x..",
        chord_voice="epiano",
        tune_voice="bell",
        tune_rhythms=(
            "X..x..x...x.x...X..x..x.....x.x.",
            "x.x.X...x...x...x.x.X.......x...",
            "X.....x.x...X...X.....x.x.......",
        ),
        duck=0.45,
    ),
    "pop": Style(
        tempo=(98, 112),
        scale="major",
        progressions=((0, 4, 5, 3), (5, 3, 0, 4), (0, 5, 3, 4), (3, 4, 5, 0)),
        drums=(
            ("kick", 0.0, "X.....x.X......."),
            ("snare", 0.2, "....X.......X..."),
            ("hat", 0.0, "X.o.x.o.X.o.x.o."),
            ("shaker", 0.65, "xoooxoooxoooxooo"),
        ),
        bass="r.....r.r...5.r.",
        chords="X.....x...x.....",
        chord_voice="piano",
        tune_voice="flute",
        tune_rhythms=(
            "X...x.x.X.......x.x.x...X.......",
            "..x.x.X...x.x.....x.x.X.....x...",
            "X.....x.X...x...X.....x.X.......",
        ),
        duck=0.3,
    ),
    "chacha": Style(
        tempo=(118, 128),
        scale="minor",
        progressions=((0, 3, 4, 0), (0, 6, 5, 4), (0, 0, 3, 4), (3, 0, 4, 0)),
        drums=(
            ("kick", 0.0, "x.......o......."),
            ("cowbell", 0.2, "X...x...X...x..."),
            ("guiro", 0.0, "X...x.x.X...x.x."),
            ("conga_slap", 0.3, "....x..........."),
            ("conga_open", 0.0, "............X.x."),  # the four-and of "cha-cha-cha", which ends on one
            ("rim", 0.6, "X.....X.....X.......X...X......."),
        ),
        bass="r.....5.....o...",
        chords="X...x.x...x.x.x.",
        chord_voice="piano",
        tune_voice="flute",
        tune_rhythms=(
            "X.......x.x.X.......x...x.x.X...",
            "..x.x...X.......x.x.x...X.......",
            "X...X...x.x.X...............x.x.",
        ),
    ),
    "rumba": Style(
        tempo=(86, 100),
        scale="minor",
        progressions=((0, 6, 5, 4), (0, 3, 6, 2), (0, 3, 4, 0), (5, 6, 0, 0)),
        drums=(
            ("kick", 0.0, "x.......o......."),
            ("shaker", 0.0, "X.o.x.o.X.o.x.o."),
            ("conga_slap", 0.2, "....x..........."),
            ("conga_open", 0.0, "........x...X.x."),
            ("rim", 0.35, "X.....X.....X.......X...X......."),
        ),
        bass="r.....5.o...5...",
        chords="X.o.x.o.x.o.x.o.",
        chord_voice="guitar",
        tune_voice="flute",
        tune_rhythms=(
            "X.....x.x.......X.....x.........",
            "..x.x.x.X...........x.x.X.......",
            "X...x...x.x.X...............x...",
        ),
    ),
    "waltz": Style(
        beats_per_bar=3,
        tempo=(84, 96),
        scale="major",
        progressions=((0, 5, 3, 4), (0, 3, 4, 0), (0, 2, 3, 4), (5, 1, 4, 0)),
        drums=(
            ("kick", 0.0, "x..........."),
            ("brush", 0.0, "....X...x..."),
            ("hat", 0.5, "..o...o...o."),
        ),
        bass="r...........5...........",
        chords="....X...x...",
        chord_voice="guitar",
        tune_voice="strings",
        tune_rhythms=("X.......x...X...........", "X...x...x...X.......x...", "X.......x.x.X...x......."),
    ),
}


@dataclass(frozen=True)
class Score:
    """A composed song: its notes and its exact beats."""

    style: str
    seconds: float
    tempo: float  # beats per minute
    beats_per_bar: int
    key: str
    energy: float
    seed: int
    first_beat: float  # seconds; it is a downbeat
    notes: tuple[Note, ...]

    @property
    def beat_times(self) -> np.ndarray:
        """Seconds of every beat, (beats,)."""
        beats = self.first_beat + np.arange(int(self.seconds * self.tempo / 60) + 2) * 60 / self.tempo
        return beats[beats < self.seconds]

    @property
    def downbeat_times(self) -> np.ndarray:
        """Seconds of the first beat of every bar, (bars,)."""
        return self.beat_times[:: self.beats_per_bar]

    def render(self) -> np.ndarray:
        """The sound: float32 (samples, 2) at 44100 Hz, `round(seconds * 44100)` samples, peak at most 0.9."""
        return render_notes(self.notes, self.seconds, STYLES[self.style].duck)


def compose(
    seconds: float = 20.0,
    *,
    style: str = "disco",
    tempo: float | None = None,
    key: str | None = None,
    energy: float | None = None,
    first_beat: float = 0.0,
    seed: int = 0,
) -> Score:
    """Compose a song. Arguments that are None follow the seed.

    Args:
        seconds: length, 1 to 600.
        style: one of `STYLES`; it fixes the metre (waltz has 3 beats per bar, the others 4).
        tempo: beats per minute, 40 to 240; by default within the style's own range.
        key: tonic, `C`, `C#`, `D`, `Eb`, ... `B`; major or minor goes with the style.
        energy: 0 (bare) to 1 (every instrument).
        first_beat: seconds of silence before the first beat.
        seed: any non-negative integer.

    Raises:
        ValueError: an argument outside these ranges.
    """
    if style not in STYLES:
        raise ValueError(f"style={style!r}: give one of {', '.join(STYLES)}")
    _check("seconds", seconds, 1, 600)
    _check("first_beat", first_beat, 0, seconds)
    _check("seed", seed, 0, 2**63)
    form = STYLES[style]
    rng = np.random.default_rng([seed, zlib.crc32(style.encode())])
    # Every choice is drawn, whether used or not: giving one argument leaves the others as they were.
    drawn_tempo, drawn_key, drawn_energy = (
        rng.integers(form.tempo[0], form.tempo[1] + 1),
        rng.integers(12),
        rng.random(),
    )
    tempo = float(drawn_tempo if tempo is None else _check("tempo", tempo, 40, 240))
    energy = float(round(0.5 + 0.5 * drawn_energy, 2) if energy is None else _check("energy", energy, 0, 1))
    key = _KEYS[drawn_key] if key is None else key
    if key not in _KEYS:
        raise ValueError(f"key={key!r}: give one of {', '.join(_KEYS)}")
    notes = _Writer(form, seconds, tempo, _KEYS.index(key), energy, first_beat, rng).write()
    return Score(style, float(seconds), tempo, form.beats_per_bar, key, energy, seed, float(first_beat), notes)


def write_song(path: str | os.PathLike, seconds: float = 20.0, **options) -> Score:
    """Compose a song (options as for `compose`) and write it to a .wav, .flac, .ogg or .mp3 file, whole or not at all.

    Raises:
        ValueError: an option out of range, another suffix, no such folder. FileError: the file cannot be written.
    """
    import soundfile

    path = Path(path)
    if path.suffix.lower() not in (".wav", ".flac", ".ogg", ".mp3"):
        raise ValueError(f"path={str(path)!r}: end it in .wav, .flac, .ogg or .mp3")
    if not path.parent.is_dir():
        raise ValueError(f"path={str(path)!r}: there is no folder {str(path.parent)!r}; make it first")
    score = compose(seconds, **options)
    waveform = score.render()
    memory, kind = io.BytesIO(), path.suffix[1:].upper()
    with soundfile.SoundFile(memory, "w", SAMPLING_RATE, 2, format=kind) as file:
        for block in range(0, len(waveform), SAMPLING_RATE):  # libsndfile's Vorbis encoder crashes on one large block
            file.write(waveform[block : block + SAMPLING_RATE])
    with whole(path) as temporary:
        temporary.write_bytes(memory.getbuffer())
    return score


def composed_clip(seed: int, seconds: float = 40.0) -> Clip:
    """A song and its features as a clip in the rest pose: training data for the rhythm encoder, whose beats and bars are known.

    Style, tempo (75 to 150 beats per minute), silence before the first beat and all else follow the seed.
    """
    rng = np.random.default_rng([seed, 1])
    style = list(STYLES)[rng.integers(len(STYLES))]
    score = compose(
        seconds, style=style, tempo=float(rng.uniform(75, 150)), first_beat=float(rng.uniform(0, 1)), seed=seed
    )
    inputs = MegaDanceFeatureExtractor()(score.render().mean(1), sampling_rate=SAMPLING_RATE, return_tensors="np")
    features = inputs["input_features"][0].astype(np.float32)
    return Clip(
        id=f"composed_{seed}",
        poses=np.zeros((len(features), 72), np.float32),
        translation=np.zeros((len(features), 3), np.float32),
        input_features=features,
        source="composed by megadance_hf",
        licence="Apache-2.0",
        song=f"composed_{seed}",
        beat_source=KNOWN,
        beat_period_s=60 / score.tempo,
        first_beat_s=score.first_beat,
        beats_per_bar=score.beats_per_bar,
        first_beat_is_downbeat=True,
        phase_confidence="high",
    )


def _check(name: str, value: float, low: float, high: float) -> float:
    if not low <= value <= high:  # also refuses NaN
        raise ValueError(f"{name}={value!r}: give a number from {low:g} to {high:g}")
    return value


# --- writing the notes -----------------------------------------------------------------------------------------------


class _Writer:
    """Writes the notes of a song bar by bar, from a style and a random generator."""

    def __init__(self, form: Style, seconds, tempo, tonic: int, energy, first_beat, rng: np.random.Generator) -> None:
        self.form, self.seconds, self.energy, self.first_beat, self.rng = form, seconds, energy, first_beat, rng
        self.step = 60 / tempo / STEPS_PER_BEAT
        self.steps = form.beats_per_bar * STEPS_PER_BEAT
        self.bars = int(np.ceil((seconds - first_beat) / (self.step * self.steps)))
        self.tonic = tonic
        self.scale = [(tonic + interval) % 12 for interval in _SCALES[form.scale]]
        self.progression = form.progressions[rng.integers(len(form.progressions))]
        self.rhythms = [form.tune_rhythms[i] for i in rng.permutation(len(form.tune_rhythms))[:2]]
        self.contours = [np.clip(np.cumsum(rng.integers(-2, 3, 40)), -4, 5) for _ in range(2)]
        self.notes: list[Note] = []

    def write(self) -> tuple[Note, ...]:
        for bar in range(self.bars):
            chord, following = self.chord(bar), self.chord(bar + 1)
            fill = bar % SECTION_BARS == SECTION_BARS - 1
            self.drums(bar, fill)
            self.bass(bar, chord, following)
            self.harmony(bar, chord)
            if self.energy >= 0.25 and bar >= 2:  # two bars of introduction, then the tune
                self.tune(bar, chord)
        return tuple(sorted(self.notes, key=lambda note: (note.time, note.instrument, note.pitch)))

    def add(self, bar: int, step: float, instrument: str, pitch: int, steps: float, velocity: float) -> None:
        time = self.first_beat + (bar * self.steps + step) * self.step
        if time < self.seconds:
            human = 1 + 0.06 * self.rng.uniform(-1, 1)
            self.notes.append(Note(time, instrument, int(pitch), steps * self.step, min(1.0, velocity * human)))

    def bar_of(self, pattern: str, bar: int) -> list[tuple[int, str, int]]:
        """(step, character, steps to the next one) of one bar of a pattern of one or two bars."""
        offset = bar * self.steps % len(pattern)
        signs = pattern[offset : offset + self.steps]
        hits = [step for step, sign in enumerate(signs) if sign != "."]
        return [(s, signs[s], e - s) for s, e in zip(hits, [*hits[1:], self.steps], strict=True)]

    def chord(self, bar: int) -> list[int]:
        """Pitch classes of a bar's seventh chord, root first. In minor the dominant gets its leading tone."""
        degree = self.progression[bar % len(self.progression)]
        chord = [self.scale[(degree + 2 * third) % 7] for third in range(4)]
        if self.form.scale == "minor" and degree == 4:
            chord[1] = (chord[1] + 1) % 12
        return chord

    def drums(self, bar: int, fill: bool) -> None:
        for instrument, least, pattern in self.form.drums:
            if self.energy >= least:
                for step, sign, _ in self.bar_of(pattern, bar):
                    self.add(bar, step, instrument, 0, 1, _VELOCITY[sign])
        if fill and self.energy >= 0.4:
            for step, velocity in ((4, 0.5), (3, 0.6), (2, 0.7), (1, 0.85)):
                if step != 3 or self.rng.random() < 0.5:
                    self.add(bar, self.steps - step, "tom", 50 - 2 * (4 - step), 1, velocity)
        if bar and bar % SECTION_BARS == 0 and self.energy >= 0.4:
            self.add(bar, 0, "crash", 0, 8, 0.7)

    def bass(self, bar: int, chord: list[int], following: list[int]) -> None:
        root = 33 + (chord[0] - 33) % 12  # A1 and up
        pitches = {"r": root, "5": root + (chord[2] - chord[0]) % 12, "o": root + 12}
        line = self.bar_of(self.form.bass, bar)
        for step, sign, steps in line:
            pitch = pitches[sign]
            if step == line[-1][0] and step >= self.steps // 2 and self.rng.random() < 0.4:  # lead into the next root
                pitch = 33 + (following[0] - 33) % 12 + self.rng.choice([-1, 2])
            self.add(bar, step, "bass", pitch, min(0.9 * steps, 8), 1.0 if step == 0 else 0.8)

    def harmony(self, bar: int, chord: list[int]) -> None:
        voicing = sorted(55 + (pitch - 55) % 12 for pitch in chord)  # within one octave: smooth voice leading
        arpeggio = self.form.chord_voice == "guitar" and self.form.beats_per_bar == 4
        for index, (step, sign, steps) in enumerate(self.bar_of(self.form.chords, bar)):
            pitches = [voicing[(0, 2, 1, 3, 2, 1, 3, 2)[index % 8]]] if arpeggio else voicing
            for pitch in pitches:
                self.add(bar, step, self.form.chord_voice, pitch, steps * (3 if arpeggio else 0.9), _VELOCITY[sign])
        if self.energy >= 0.6 and bar >= SECTION_BARS:
            for pitch in voicing[:3]:
                self.add(bar, 0, "pad", pitch, self.steps, 0.6)

    def tune(self, bar: int, chord: list[int]) -> None:
        """Two phrases of two bars, A A B A: a rhythm and a contour each, snapped to chord (on the beat) or scale."""
        phrase = 1 if bar // 2 % 4 == 2 else 0
        scale = [*self.scale, chord[1]]  # with the leading tone where the chord has it
        played = [h for b in range(2) for h in self.bar_of(self.rhythms[phrase], b)]
        first = 0 if bar % 2 == 0 else len(self.bar_of(self.rhythms[phrase], 0))
        for index, (step, sign, steps) in enumerate(self.bar_of(self.rhythms[phrase], bar)):
            target = 74 + 2 * int(self.contours[phrase][(first + index) % len(played)])
            allowed = chord[:3] if step % STEPS_PER_BEAT == 0 else scale
            pitch = min(range(62, 90), key=lambda p: (p % 12 not in allowed, abs(p - target), p))  # noqa: B023
            self.add(bar, step, self.form.tune_voice, pitch, min(0.95 * steps, 8), 0.9 * _VELOCITY[sign])


# --- command line ----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m megadance_hf.synthetic.composer OUT [options]`; returns the exit status."""
    styles = "\n".join(
        f"  {n:8}{s.beats_per_bar}/4, {s.tempo[0]}-{s.tempo[1]} beats per minute" for n, s in STYLES.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m megadance_hf.synthetic.composer",
        description="Compose a song to dance to: drums, bass, chords and a tune.\nThe same options give the same song.",
        epilog=f"styles:\n{styles}\n\nexample:\n  %(prog)s song.ogg --style waltz --seconds 30 --seed 7 --beats song.beats",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", metavar="OUT", help="file to write: .wav, .flac, .ogg or .mp3")
    parser.add_argument("--seconds", type=float, default=20.0, help="length (default: 20)")
    parser.add_argument("--style", choices=STYLES, default="disco", help="default: disco")
    parser.add_argument("--tempo", type=float, help="beats per minute (default: the style's own, chosen by the seed)")
    parser.add_argument("--key", choices=_KEYS, help="tonic (default: chosen by the seed)")
    parser.add_argument("--energy", type=float, help="0 bare ... 1 every instrument (default: chosen by the seed)")
    parser.add_argument("--seed", type=int, default=0, help="another number, another song (default: 0)")
    parser.add_argument(
        "--beats", metavar="FILE", help="also write the beats: seconds, a tab, the beat's number in its bar"
    )
    options = vars(parser.parse_args(arguments))
    out, beats = Path(options.pop("out")), options.pop("beats")
    try:
        score = write_song(out, **options)
        if beats is not None:
            numbers = np.arange(len(score.beat_times)) % score.beats_per_bar + 1
            lines = [f"{time:.6f}\t{number}\n" for time, number in zip(score.beat_times, numbers, strict=True)]
            with whole(beats) as part:
                part.write_text("".join(lines), encoding="utf-8")
    except (ValueError, OSError) as error:
        print(f"composer: {error}", file=sys.stderr)
        return 2
    print(
        f"{out}: {score.seconds:g} s of {score.style} in {score.key} {STYLES[score.style].scale}, {score.tempo:g} beats"
        f" per minute, {score.beats_per_bar}/4, energy {score.energy:g}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
