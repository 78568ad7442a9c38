"""Ballroom2: tango, cha-cha, rumba and salsa as SMPL motion fitted to marker data, with songs and the beats of both.

The raw folder holds `motions/ID.npz` as `ballroom`, `music/SONG.ogg` (one file per song), `metadata.jsonl` (`music`, `music_start_s`,
`beats_s`, `downbeats_s`, `units`, `kind`, ...) and `splits/`: `train.txt`, `val.txt` (units that are not in train), `val_new_song.txt`
(train's units on val's songs) and perhaps `test.txt`. It has no waltz with music; `--waltz` takes that of the `ballroom` folder, whose
other genres hold test units of this one.

    megadance prepare ballroom2 RAW OUT --waltz BALLROOM_RAW
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from megadance_hf.data.beats import KNOWN
from megadance_hf.data.card import Card
from megadance_hf.data.clip import Clip, ClipError
from megadance_hf.data.preparation import RawClip, Report, prepare_clips
from megadance_hf.data.prepared import DataError
from megadance_hf.data.raw_files import is_clip_name, read_names, read_records
from megadance_hf.data.songs import add_excerpt
from megadance_hf.modeling.clean_up_megadance import clean_motion

from . import BALLROOM2, ballroom

GENRES = BALLROOM2.genres
SPLIT_FILES = {"train": "train", "val": "validation", "val_new_song": "new_song", "test": "test"}
CHOREONET, CMU = "ChoreoNet", "CMU Graphics Lab Motion Capture Database"
LICENCES = {CHOREONET: ballroom.LICENCE, CMU: "free for all uses, but the data itself may not be resold"}
CARD = Card(
    title="Ballroom dance from marker data, with music (SMPL, 30 fps)",
    description="Tango, cha-cha and rumba fitted with the 24-joint SMPL skeleton to the marker data of Z. Ye et al., *ChoreoNet: Towards "
    "Music to Dance Synthesis with Choreographic Action Unit*, ACM Multimedia 2020, and set to songs beat by beat: choreographies as the "
    "source has them (`kind` as_written), new orders of their units (rearranged), and takes without music (take). Salsa without music is "
    "from subjects 60 and 61 of the CMU Graphics Lab Motion Capture Database; the data used in this project was obtained from "
    "mocap.cs.cmu.edu, and the database was created with funding from NSF EIA-0196217. Waltz with music, if there is any, is from T. Tang, "
    "J. Jia and H. Mao, *Dance with Melody*, ACM Multimedia 2018, with feet that slide less (`clean_motion`). Splits are by unit and song: validation has other units than train, "
    "new_song has train's units on validation's songs.",
    licence="ChoreoNet and *Dance with Melody* state no licence: research and testing only, do not redistribute the audio. CMU is free for "
    "all uses, but the data itself may not be resold.",
    licence_name="unstated",
)


def list_raw(raw: str | Path, waltz: str | Path | None = None) -> list[RawClip]:
    """Every clip that the splits of the raw folder name, train first, and the waltzes of the `ballroom` folder `waltz`."""
    raw = Path(raw)
    records = read_records(raw)
    clips = []
    for listed, split in SPLIT_FILES.items():
        if listed != "train" and not (raw / "splits" / f"{listed}.txt").is_file():
            continue
        for name in read_names(raw, f"splits/{listed}.txt"):
            record = records.get(name, {"missing": True})
            files = [raw / "motions" / f"{name}.npz"]
            if record.get("paired") and is_clip_name(song := record.get("music")):
                files.append(raw / "music" / song)
            clips.append(RawClip(name, split, tuple(files), record))
    if waltz is not None:
        old = [clip for clip in ballroom.list_raw(waltz) if clip.record.get("genre") == "waltz"]
        if not old:
            raise DataError(f"waltz={str(waltz)!r} has no waltz: give the raw folder of ballroom")
        clips += [RawClip(clip.id, clip.split, clip.files, clip.record | {"set": "ballroom"}) for clip in old]
    return clips


def make(raw: RawClip) -> Clip:
    """Reads one raw clip; its genre is None if the source knows none."""
    record = raw.record
    if record.get("set") == "ballroom":
        return with_standing_feet(ballroom.make(raw))
    if "missing" in record:
        raise ClipError("metadata.jsonl has no line for it")
    genre = None if record.get("genre") == "unknown" else record.get("genre")
    origin = CMU if genre == "salsa" else CHOREONET
    clip = Clip(raw.id, *ballroom.read_motion(raw.files[0]), genre=genre, split=raw.split, licence=LICENCES[origin])
    clip.source = f"{origin}, {record.get('source', raw.id)}"
    clip.kind = record.get("kind")
    clip.units = [dict(zip(("name", "start_s", "beats"), unit, strict=False)) for unit in record.get("units") or []]
    add_beats(clip, record)
    if not record.get("paired"):
        return clip
    clip.check(GENRES, jumps="keep")  # a bad motion is found before its song is analysed, which takes seconds
    if len(raw.files) < 2:
        raise ClipError(f"music={str(record.get('music'))[:80]!r} in metadata.jsonl is no name of a file")
    clip.song = record.get("source")
    return add_excerpt(clip, raw.files[1], record.get("music_start_s", 0.0))


def with_standing_feet(clip: Clip) -> Clip:
    """The clip after `clean_motion`: the waltz's feet slide in its source, and a model would learn that."""
    poses = torch.from_numpy(clip.poses).unflatten(-1, (-1, 3))
    cleaned, translation, _ = clean_motion(poses, torch.from_numpy(clip.translation), clip.fps)
    clip.poses, clip.translation = cleaned.flatten(1).numpy(), translation.numpy()
    return clip


def add_beats(clip: Clip, record: dict[str, Any]) -> None:
    """The beats and downbeats of a record as a grid, which they lie on within 0.1 ms: that is how they are rounded.

    A downbeat is beat 0, so the first beats of a clip that begins in the middle of a bar have negative numbers. What the source calls
    the confidence in the phase is, here, that in the place in the bar; its beats are sure.
    """
    beats = np.asarray(record.get("beats_s") or [], dtype=np.float64)
    if len(beats) < 2:
        return
    period, first = (beats[-1] - beats[0]) / (len(beats) - 1), beats[0]
    if np.abs(first + period * np.arange(len(beats)) - beats).max() > 0.001:
        raise ClipError("beats_s in metadata.jsonl are not evenly spaced")
    downbeats = record.get("downbeats_s") or []
    if downbeats:
        first += period * round((downbeats[0] - first) / period)
    clip.beat_source, clip.beat_period_s, clip.first_beat_s = KNOWN, float(period), float(first)
    clip.beats_per_bar, clip.bar_confidence = record.get("beats_per_bar"), record.get("phase_confidence")
    clip.first_beat_is_downbeat = bool(downbeats)


def prepare(raw: str | Path, out: str | Path, waltz: str | Path | None = None, **options: Any) -> Report:
    """Raw folder -> prepared data set with the splits train, validation and new_song, and test where the folder or `waltz` has one.

    Args:
        waltz: raw folder of `ballroom`, for its waltz; its own splits are kept.
        options: those of `prepare_clips`.
    """
    return prepare_clips(list_raw(raw, waltz), make, out, card=CARD, genres=GENRES, **options)
