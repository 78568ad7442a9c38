"""Making a study: the same song, body, camera and length for every system, distorted clips for catch trials, names that tell nothing.

new_study("my_study", songs="songs", systems={"ours": "ballroom", "truth": "captured"}, reference="truth")
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from megadance_hf.data.songs import SUFFIXES
from megadance_hf.modeling.audio_megadance import load_audio
from megadance_hf.modeling.files_megadance import whole
from megadance_hf.modeling.genres_megadance import match_genre
from megadance_hf.modeling.progress_megadance import progress_bar
from megadance_hf.motion.motion import Motion
from megadance_hf.render.video import render_video

from .design import DISTORTIONS, KEY, PAGE, PRACTICE, VIDEOS, Clip, Design, StudyError

FPS = 30.0
LOUDNESS = -23.0  # LUFS, EBU R128
TRUE_PEAK = -1.0  # dBTP, EBU R128
SOUND_RATE = 48000  # Hz
SIZE = (720, 720)  # pixels; two fit beside each other, and one fits a phone
READABLE = (".npz", ".pkl", ".npy", ".json", ".bvh")
NEAREST = "nearest:"  # before a prepared data set: a system that retrieves dances from it
DISTORTED_SONGS = 3  # songs with a clip of each distortion
# How strong the distortions are; docs/study.md names these numbers.
JITTER = (0.12, 0.02)  # radians of each joint, metres of the pelvis: deviations of each frame
SHIFT_SECONDS = 0.7
SLIDE = (0.8, 4.0)  # metres to each side, seconds of a period
_BLOCK = 1 << 16  # sizes are multiples of it


# --- sound -----------------------------------------------------------------------------------------------------------


def excerpt_at_loudness(song: Path, seconds: float) -> tuple[np.ndarray, int]:
    """The first `seconds` of a song at `LOUDNESS`, or softer where its peaks would exceed `TRUE_PEAK`: (samples, channels), rate.

    Raises:
        StudyError: it is shorter, or silent. AudioError: it cannot be read.
    """
    import pyloudnorm
    import soxr

    waveform, _ = load_audio(song, sampling_rate=SOUND_RATE, duration=seconds, mono=False)
    if len(waveform) < round(seconds * SOUND_RATE) - SOUND_RATE // 30:
        raise StudyError(
            f"{song} lasts {len(waveform) / SOUND_RATE:.1f} s: give songs of {seconds:g} s or more, or shorter clips"
        )
    if waveform.shape[1] > 2:
        waveform = waveform.mean(1, keepdims=True)
    waveform = np.pad(waveform, ((0, max(round(seconds * SOUND_RATE) - len(waveform), 0)), (0, 0)))
    loudness = pyloudnorm.Meter(SOUND_RATE, block_size=min(0.4, seconds)).integrated_loudness(waveform)
    if not np.isfinite(loudness):
        raise StudyError(f"{song} is silent in its first {seconds:g} s: choose another song")
    between = soxr.resample(waveform, SOUND_RATE, 4 * SOUND_RATE)  # where peaks between the samples show
    peak = max(np.abs(waveform).max(), np.abs(between).max())
    gain = min(10 ** ((LOUDNESS - loudness) / 20), 10 ** (TRUE_PEAK / 20) / peak)
    return (waveform * gain).astype(np.float32), SOUND_RATE


# --- dances ----------------------------------------------------------------------------------------------------------


def placed(motion: Motion, seconds: float) -> Motion | None:
    """The first `seconds` of a dance at `FPS`, beginning in the middle of the floor; None where it is shorter."""
    frames = round(seconds * FPS)
    if motion.fps != FPS:
        motion = motion.resampled(FPS)
    if len(motion) < frames - 1:  # a frame may be missing: rounding
        return None
    translation, poses = (np.concatenate([array, array[-1:]])[:frames] for array in (motion.translation, motion.poses))
    return Motion(poses, translation - translation[0] * [1, 0, 1], fps=FPS).grounded()


def distorted(motion: Motion, kind: str, generator: np.random.Generator) -> Motion:
    """A dance made worse for a catch trial: one of `DISTORTIONS`.

    jitter: every joint trembles. shift: it begins late, so its steps miss the beat. frozen: one pose is held. slide: the dancer drifts
    to both sides while the feet do what they did.
    """
    poses, translation = motion.poses.copy(), motion.translation.copy()
    if kind == "jitter":
        poses += generator.normal(0, JITTER[0], poses.shape)
        translation += generator.normal(0, JITTER[1], translation.shape)
    elif kind == "shift":
        late = min(round(SHIFT_SECONDS * FPS), len(poses) - 1)
        poses, translation = (
            np.concatenate([np.repeat(array[:1], late, 0), array[: len(array) - late]])
            for array in (poses, translation)
        )
    elif kind == "frozen":
        poses, translation = (np.repeat(array[len(array) // 2][None], len(array), 0) for array in (poses, translation))
    elif kind == "slide":
        width, period = SLIDE
        translation[:, 0] += width * np.sin(2 * np.pi * np.arange(len(poses)) / (FPS * period))
    else:
        raise StudyError(f"kind={kind!r}: give one of {', '.join(DISTORTIONS)}")
    return Motion(poses, translation, fps=motion.fps)


def _folder_of_motions(name: str, folder: Path, songs: Sequence[Path]) -> Callable[[Path, float], Motion]:
    """Reads the dances of a system from files named as the songs."""
    found, missing = {}, []
    for song in songs:
        files = [folder / f"{song.stem}{suffix}" for suffix in READABLE]
        files = [file for file in files if file.is_file()]
        if files:
            found[song] = files[0]
        else:
            missing.append(song.stem)
    if missing:
        raise StudyError(
            f"system {name} lacks {len(missing)} of {len(songs)} songs ({', '.join(missing[:5])}{' ...' * (len(missing) > 5)}): put "
            f"a motion named as the song, such as {missing[0]}.npz, into {folder}"
        )
    return lambda song, seconds: Motion.load(found[song])


def _model(source: str, genres: Mapping[str, str], seed: int) -> Callable[[Path, float], Motion]:
    """Lets a model dance. The genre is what `genres` says of the song, else what the song's file name begins with, else the model's first."""
    from megadance_hf.pipeline import MusicToDancePipeline

    pipe = MusicToDancePipeline.from_pretrained(source)

    def dance(song: Path, seconds: float) -> Motion:
        given = genres.get(song.stem, genres.get(""))
        begins = [genre for genre in pipe.genres if song.stem.lower().startswith(genre.lower())]
        genre = match_genre(given, pipe.genres) if given else (begins or pipe.genres)[0]
        if not given and not begins and len(pipe.genres) > 1:
            print(f"{song.name}: dancing {genre}, the first genre of {source}; --genre {song.stem}=GENRE chooses")
        return pipe(str(song), genre, seed=seed, duration=seconds)

    return dance


def _nearest(source: str) -> Callable[[Path, float], Motion]:
    """Retrieval from the training split of a prepared data set (`evaluation.baselines.NearestMusic`)."""
    from megadance_hf.data.prepared import read_prepared
    from megadance_hf.evaluation.baselines import NearestMusic
    from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE
    from megadance_hf.modeling.feature_extraction_megadance import MegaDanceFeatureExtractor

    nearest, extractor = NearestMusic(read_prepared(source, "train")), MegaDanceFeatureExtractor()

    def dance(song: Path, seconds: float) -> Motion:
        features = extractor.listen(song, 0.0, seconds + FRAMES_PER_CODE / FPS)
        return Motion(*nearest(features[: len(features) // FRAMES_PER_CODE * FRAMES_PER_CODE]), fps=FPS)

    return dance


def _dancer(
    name: str, source: str, songs: Sequence[Path], genres: Mapping[str, str], seed: int
) -> Callable[[Path, float], Motion]:
    if source.startswith(NEAREST):
        return _nearest(source.removeprefix(NEAREST))
    folder = Path(source).expanduser()
    if folder.is_dir() and not (folder / "config.json").is_file():
        return _folder_of_motions(name, folder, songs)
    return _model(source, genres, seed)


# --- the folder ------------------------------------------------------------------------------------------------------


def find_songs(folder: Path) -> list[Path]:
    """The sound files of a folder, by name."""
    songs = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if len(songs) < 2:
        raise StudyError(
            f"songs={str(folder)!r} holds {len(songs)} songs: give a folder with two or more ({', '.join(SUFFIXES)})"
        )
    if twice := [a.stem for a, b in zip(songs, songs[1:], strict=False) if a.stem == b.stem]:
        raise StudyError(f"songs={str(folder)!r} has two files named {twice[0]}: rename one")
    return songs


def new_study(
    folder: str | os.PathLike,
    songs: str | os.PathLike,
    systems: Mapping[str, str],
    *,
    reference: str,
    size: tuple[int, int] = SIZE,
    body: str = "mannequin",
    genres: Mapping[str, str] | None = None,
    progress: bool = False,
    **settings: Any,
) -> Path:
    """Write a study folder.

    Args:
        folder: a new one, or an empty one.
        songs: folder of sound files; the first `seconds` of each are danced to.
        systems: for each name a folder of motions named as the songs, a model (folder, Hub id, name of a bundled one), or
            `nearest:DIR`, retrieval from a prepared data set. In the order of the table.
        reference: the system whose dances the catch trials distort, usually ground truth.
        size: (width, height) of the videos in pixels, both even.
        body: "mannequin" or "smooth".
        genres: genre of a song by its name, "" for all others; models are asked for it.
        progress: show a progress bar.
        settings: other fields of `Design`.

    Returns:
        The folder. It appears whole or not at all.

    Raises:
        StudyError: a song is too short, a system lacks songs, a setting is wrong, or the folder is not empty.
        AudioError, MotionError, ModelError, RenderError: a file or a model cannot be used.
    """
    folder, files = Path(folder), find_songs(Path(songs))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StudyError(f"{folder} exists already: give the name of a new folder")
    settings.setdefault("seed", 0)
    design = Design(systems=list(systems), reference=reference, songs=[song.stem for song in files], **settings)
    seconds, generator = design.seconds, np.random.default_rng(design.seed)
    dancers = {name: _dancer(name, source, files, genres or {}, design.seed) for name, source in systems.items()}
    sounds = [excerpt_at_loudness(song, seconds) for song in files]

    dances: dict[tuple[int, int], Motion] = {}
    for system, (name, dancer) in enumerate(dancers.items()):
        short = []
        for index, song in enumerate(files):
            motion = placed(dancer(song, seconds), seconds)
            if motion is None:
                short.append(song.stem)
            else:
                dances[index, system] = motion
        if short:
            raise StudyError(
                f"system {name} has dances of less than {seconds:g} s ({', '.join(short)}): give longer ones, or --seconds"
            )

    wanted = [(song, system, None, motion) for (song, system), motion in dances.items()]
    truth = design.systems.index(reference)
    if design.catch:
        for turn, kind in enumerate(DISTORTIONS):
            for step in range(min(DISTORTED_SONGS, len(files))):
                song = (turn + step * max(len(files) // DISTORTED_SONGS, 1)) % len(files)
                wanted.append((song, truth, kind, distorted(dances[song, truth], kind, generator)))
    for system in (truth, (truth + 1) % len(systems)):  # unlike every other clip, so that nobody recognises it later
        wanted.append((0, system, PRACTICE, dances[0, system].mirrored()))
    generator.shuffle(wanted)  # when a clip was made says nothing

    with whole(folder, StudyError) as made:
        (made / VIDEOS).mkdir(parents=True)
        clips = []
        bar = progress_bar(total=len(wanted), desc="videos", unit="video", disable=not progress)
        with bar:
            for song, system, distortion, motion in wanted:
                file = f"{secrets.token_hex(8)}.mp4"  # not of the seed, which study.yaml tells
                options = {"size": size, "fps": FPS, "title": False, "body": body, "progress": False}
                waveform, rate = sounds[song]
                render_video(motion, made / VIDEOS / file, (waveform, rate), **options)
                clips.append(Clip(file, song, system, distortion))
                bar.update()
        even_out(made / VIDEOS)
        shutil.copytree(Path(__file__).parent / PAGE, made / PAGE)
        design.save(made)
        rows = [vars(clip) for clip in sorted(clips, key=lambda clip: clip.file)]
        (made / KEY).write_text(json.dumps({"clips": rows}, indent=1), encoding="utf-8")
    return folder


def even_out(folder: Path) -> None:
    """Give all videos one size, by a box of zeros that players skip, and one date: both would tell dances with little motion."""
    paths = sorted(folder.iterdir())
    size = (max(path.stat().st_size for path in paths) + 8 + _BLOCK - 1) // _BLOCK * _BLOCK
    for path in paths:
        missing = size - path.stat().st_size
        with path.open("ab") as file:
            file.write(missing.to_bytes(4, "big") + b"free" + bytes(missing - 8))
        os.utime(path, (0, 0))
