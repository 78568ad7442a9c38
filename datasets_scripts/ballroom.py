"""Ballroom: cha-cha, rumba and waltz as SMPL motion with their songs (converted from Tang, Jia and Mao, ACM Multimedia 2018).

The raw folder holds `motions/ID.npz` (`smpl_poses` (T, 72), `smpl_trans` (T, 3), 30 fps), `music/ID.ogg` of exactly T/30
seconds for paired clips, `metadata.jsonl` and `splits/{train,test}.txt`.

    megadance prepare ballroom RAW OUT
"""

from pathlib import Path
from typing import Any

import numpy as np

from megadance_hf.data.card import Card
from megadance_hf.data.clip import Clip, ClipError
from megadance_hf.data.preparation import RawClip, Report, prepare_clips
from megadance_hf.data.raw_files import check_exists, read_names, read_records
from megadance_hf.data.songs import music_features
from megadance_hf.modeling.errors_megadance import reading, short
from megadance_hf.motion.safe_files import load_npz

from . import BALLROOM

GENRES = BALLROOM.genres
# Train songs held out for early stopping. The raw folder has no validation split; its test split stays as it is. One waltz at each of
# the two tempi (87 and 84 BPM) and the shortest rumba that starts on a downbeat; cha-cha has only one paired train song.
VALIDATION = ("rumba_3", "waltz_21", "waltz_25")
LICENCE = "none stated by the source: research and testing only, do not redistribute the audio"
CARD = Card(
    title="Ballroom dance with music (SMPL, 30 fps)",
    description="Cha-cha, rumba and waltz sequences fitted with the 24-joint SMPL skeleton and mapped to the beats of their songs. "
    "Source: the public Music-to-Dance-Motion-Synthesis data set of T. Tang, J. Jia and H. Mao, *Dance with Melody*, ACM Multimedia "
    "2018. Sequences are assembled from a common stock of units: 53 to 93 % of the frames of a test sequence also occur in train. "
    "Clips without music are in train.",
    licence="The source states no licence. Research and testing only; do not redistribute the audio.",
    licence_name="unstated",
)


def list_raw(raw: str | Path) -> list[RawClip]:
    """Every clip that the splits of the raw folder name, train first, with its line of `metadata.jsonl`."""
    raw = Path(raw)
    records = read_records(raw)
    clips = []
    for split in ("train", "test"):
        for name in read_names(raw, f"splits/{split}.txt"):
            record = records.get(name, {"missing": True})
            files = [raw / "motions" / f"{name}.npz"]
            if record.get("paired"):
                files.append(raw / "music" / f"{name}.ogg")
            target = "validation" if split == "train" and name in VALIDATION else split
            clips.append(RawClip(name, target, tuple(files), record))
    return clips


def read_motion(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """`smpl_poses` and `smpl_trans` of one .npz at 30 fps, also of `mocap`."""
    check_exists(file)
    with reading(file, error=ClipError):
        keys = ("smpl_poses", "smpl_trans", "fps")
        data = load_npz(file, keys)
        if lacking := [key for key in keys if key not in data]:
            raise ClipError(f"{file.name} lacks an array: {lacking[0]}")
        poses, translation, fps = (data[key] for key in keys)
        if fps.size != 1 or fps.dtype.kind not in "iuf" or fps.item() != 30:
            raise ClipError(f"{file.name} has {short(fps, 40)} frames per second, expected 30")
    return poses, translation


def make(raw: RawClip) -> Clip:
    """Reads one raw clip."""
    record = raw.record
    if "missing" in record:
        raise ClipError("metadata.jsonl has no line for it")
    if not record.get("genre"):
        raise ClipError("metadata.jsonl names no genre for it")
    clip = Clip(raw.id, *read_motion(raw.files[0]), genre=record["genre"], split=raw.split, licence=LICENCE)
    clip.song = record.get("source")
    clip.source = f"Music-to-Dance-Motion-Synthesis, {record.get('source', raw.id)}"
    if not record.get("paired"):
        return clip
    clip.check(GENRES, jumps="keep")  # a bad motion is found before its song is analysed, which takes seconds
    check_exists(raw.files[1])
    clip.audio = raw.files[1].read_bytes()
    clip.input_features = music_features(clip.audio, len(clip))
    for name in ("beat_period_s", "first_beat_s", "beats_per_bar", "phase_confidence"):
        setattr(clip, name, record.get(name))
    clip.first_beat_is_downbeat = record.get("start_anchor") == "downbeat" and clip.first_beat_s == 0
    return clip


def prepare(raw: str | Path, out: str | Path, **options: Any) -> Report:
    """Raw folder -> prepared data set with the splits train, validation and test; `options` are those of `prepare_clips`."""
    return prepare_clips(list_raw(raw), make, out, card=CARD, genres=GENRES, **options)
