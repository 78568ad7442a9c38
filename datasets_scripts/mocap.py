"""Motion-captured dance without music: CMU subject 05 (modern dance) and one Bandai Namco clip, as SMPL motion.

The raw folder holds `motions/ID.npz` (`smpl_poses` (T, 72), `smpl_trans` (T, 3), 30 fps) and `metadata.jsonl`. There is no
music: the clips help the tokenizer, and any statistics of motion.

    megadance prepare mocap RAW OUT
"""

from pathlib import Path
from typing import Any

from megadance_hf.data.card import Card
from megadance_hf.data.clip import Clip
from megadance_hf.data.preparation import RawClip, Report, prepare_clips
from megadance_hf.data.raw_files import read_records

from . import MOCAP
from .ballroom import read_motion

GENRES = MOCAP.genres
# Takes of the same or similar phrases, which must never be divided between splits.
GROUPS = (
    ("cmu_05_09", "cmu_05_10"),
    ("cmu_05_14", "cmu_05_15"),
    ("cmu_05_16", "cmu_05_17"),
    ("cmu_05_18", "cmu_05_19", "cmu_05_20"),
)
# The raw folder has no splits. One group and two single clips, 31 of 190 seconds.
TEST = ("cmu_05_09", "cmu_05_10", "cmu_05_03", "cmu_05_12")
CARD = Card(
    title="Motion-captured dance without music (SMPL, 30 fps)",
    description="Modern dance of the CMU Graphics Lab Motion Capture Database (subject 05) and one dance of the Bandai-Namco-Research-"
    "Motiondataset, retargeted to the 24-joint SMPL skeleton. The data used in this project was obtained from mocap.cs.cmu.edu. The "
    "database was created with funding from NSF EIA-0196217. There is no music.",
    licence="Mixed, see the `licence` of each clip: CMU is free for all uses, but the data itself may not be resold; the Bandai Namco "
    "clip is CC BY-NC 4.0 (changed: converted).",
)


def list_raw(raw: str | Path) -> list[RawClip]:
    """Every clip of `metadata.jsonl`."""
    raw = Path(raw)
    return [
        RawClip(name, "test" if name in TEST else "train", (raw / "motions" / f"{name}.npz",), record)
        for name, record in read_records(raw).items()
    ]


def make(raw: RawClip) -> Clip:
    """Reads one raw clip; its genre is None if the source names none."""
    poses, translation = read_motion(raw.files[0])
    texts = {name: raw.record.get(name, "") for name in ("source", "licence")}
    song = next((group[0] for group in GROUPS if raw.id in group), raw.id)  # keeps a group together
    genre = raw.record.get("genre") if raw.record.get("genre") in GENRES else None
    return Clip(raw.id, poses, translation, genre=genre, split=raw.split, song=song, **texts)


def prepare(raw: str | Path, out: str | Path, **options: Any) -> Report:
    """Raw folder -> prepared data set with the splits train and test; `options` are those of `prepare_clips`."""
    return prepare_clips(list_raw(raw), make, out, card=CARD, genres=GENRES, **options)
