"""AIST++ (Li et al., ICCV 2021): ten street dances as SMPL motion, to the songs of the AIST Dance Video Database.

The raw folder is as downloaded: `motions/SEQ.pkl` (`smpl_poses` (N, 72), `smpl_scaling` (1,), `smpl_trans` (N, 3), 60 fps),
`splits/crossmodal_{train,val,test}.txt`, `ignore_list.txt`, and in `music/` (or `wav/`, `all_musics/`, or another folder) one file per
song, `mBR0.wav` or `.mp3`. A name such as `gBR_sBM_cAll_d04_mBR0_ch01` gives the genre and the song.

    megadance prepare aistpp RAW OUT [--music FOLDER]

Every other frame is kept, which gives 30 fps. Paths are divided by their scaling; they are those of the SMPL *model*, and are moved to
its pelvis. The origin is that of the camera calibration, about a metre above the floor: each dance is put on y = 0, and its `source`
notes how far it was moved. Without `ignore_list.txt` nothing is ignored, and the report says so.
"""

from pathlib import Path
from typing import Any

import numpy as np

from megadance_hf.data.card import Card
from megadance_hf.data.clip import Clip, ClipError, put_on_the_floor
from megadance_hf.data.preparation import RawClip, Report, prepare_clips
from megadance_hf.data.prepared import MissingDataError
from megadance_hf.data.raw_files import read_arrays, read_names
from megadance_hf.data.songs import add_song, find_song
from megadance_hf.modeling.genres_megadance import AISTPP_GENRES as GENRES
from megadance_hf.motion.layouts import SMPL_PELVIS

GENRE_OF_CODE = dict(zip(("BR", "HO", "JB", "JS", "KR", "LH", "LO", "MH", "PO", "WA"), GENRES, strict=True))
SPLIT_FILES = {"train": "crossmodal_train.txt", "validation": "crossmodal_val.txt", "test": "crossmodal_test.txt"}
IGNORE_LIST = "ignore_list.txt"
MUSIC_FOLDERS = ("music", "wav", "all_musics")
RAW_FPS = 60
_REMEDY = "fetch it from the AIST++ site"
LICENCE = (
    "motion: CC BY 4.0 (AIST++, Google LLC); music: AIST Dance Video Database, research only, not to be redistributed"
)
CARD = Card(
    title="AIST++ (SMPL, 30 fps)",
    description="Street dances of the AIST++ data set (R. Li, S. Yang, D. A. Ross and A. Kanazawa, *AI Choreographer*, ICCV 2021), its "
    "cross-modal splits, every other frame of 60 per second, the path of the pelvis in metres, the floor at y = 0. Sequences of the "
    "ignore list, whose tracking is broken, are not in it where the raw folder has that list. Each row has the excerpt of its song that is danced to.",
    licence="Motion: CC BY 4.0, AIST++ (changed: 30 frames per second, metres). Music: AIST Dance Video Database, for research; do not "
    "redistribute it.",
)


def list_raw(raw: str | Path, music: str | Path | None = None) -> tuple[list[RawClip], dict[str, str]]:
    """Every clip that the splits name, train first, and the reason for each id that is ignored."""
    raw = Path(raw)
    listed = {split: read_names(raw, f"splits/{file}", _REMEDY) for split, file in SPLIT_FILES.items()}
    has_list = (raw / IGNORE_LIST).is_file()
    bad = set(read_names(raw, IGNORE_LIST, _REMEDY)) if has_list else set()
    folders = [Path(music)] if music is not None else [raw / name for name in MUSIC_FOLDERS]
    if not any(folder.is_dir() for folder in folders):
        where = f"{str(music)!r} is no folder" if music is not None else f"{str(raw)!r} has no folder music/"
        raise MissingDataError(f"{where}; name the folder with mBR0.wav and the others by --music")
    clips: dict[str, RawClip] = {}
    no_list = "missing in the raw folder; sequences with broken tracking are not left out"
    ignored = {} if has_list else {IGNORE_LIST: no_list}
    for split, names in listed.items():
        for name in names:
            if name in bad:
                ignored[name] = f"in {IGNORE_LIST}"
            elif name not in clips:
                song = (name.split("_") + [""] * 5)[4]
                clips[name] = RawClip(name, split, (raw / "motions" / f"{name}.pkl", find_song(folders, song)))
    for file in sorted((raw / "motions").glob("*.pkl")):
        if file.stem not in clips:
            ignored.setdefault(file.stem, f"in {IGNORE_LIST}" if file.stem in bad else "in no cross-modal split")
    return list(clips.values()), ignored


def make(raw: RawClip) -> Clip:
    """Reads one raw clip."""
    genre, (motion, song) = _genre(raw.id), raw.files
    terms = {"source": f"AIST++ {raw.id}", "licence": LICENCE}
    clip = Clip(raw.id, *read_motion(motion), genre=genre, split=raw.split, song=song.stem, **terms)
    clip.check(GENRES, jumps="keep")  # a bad motion is found before its song is analysed, which takes seconds
    put_on_the_floor(clip)
    return add_song(clip, song)


def _genre(name: str) -> str:
    code = name.split("_")[0].removeprefix("g")
    if code not in GENRE_OF_CODE or len(name.split("_")) != 6:
        raise ClipError("its name is not of the form gBR_sBM_cAll_d04_mBR0_ch01")
    return GENRE_OF_CODE[code]


def read_motion(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Poses (T, 72) and the path of the pelvis (T, 3) in metres at 30 fps from a pickle of 60 fps; the floor as stored."""
    arrays = read_arrays(file, "smpl_poses", "smpl_trans", "smpl_scaling")
    poses, translation, scaling = (array.astype(np.float64) for array in arrays.values())
    scaling = scaling.reshape(-1)
    if scaling.size != 1 or not np.isfinite(scaling[0]) or scaling[0] <= 0:
        raise ClipError(f"{file.name} has smpl_scaling {scaling.tolist()[:4]}, expected one number above 0")
    if poses.ndim == 0 or translation.ndim != 2:
        raise ClipError(
            f"poses have shape {poses.shape}, translation {translation.shape}; expected (frames, 72), (frames, 3)"
        )
    step = RAW_FPS // 30
    if translation.shape[-1] != 3:
        return poses[::step], translation[::step]  # `check` says what is wrong with it
    return poses[::step].astype(np.float32), (translation[::step] / scaling[0] + SMPL_PELVIS).astype(np.float32)


def prepare(raw: str | Path, out: str | Path, music: str | Path | None = None, **options: Any) -> Report:
    """Raw folder -> prepared data set with the cross-modal splits train, validation and test; see `prepare_clips`.

    Args:
        raw, out: folders.
        music: the folder with the songs, if they are not in the raw folder.
        options: `jumps`, `num_proc`, `progress` of `prepare_clips`.

    Raises:
        MissingDataError: the raw folder lacks its splits or its music.
    """
    clips, ignored = list_raw(raw, music)
    return prepare_clips(clips, make, out, card=CARD, genres=GENRES, ignored=ignored, **options)
