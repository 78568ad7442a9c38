"""Raw folders of FineDance and AIST++ in exactly the layouts that users have, made from real dances and their songs.

clips = real_clips(ballroom_dir, 4, seconds=3)
make_finedance(folder, dict(zip(["001", "002", "063", "132"], clips)))
make_aistpp(folder, dict(zip(AISTPP_NAMES, clips)))
"""

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import torch

from megadance_hf.modeling.kinematics_megadance import axis_angle_to_rotation_6d
from megadance_hf.motion.layouts import SMPL_PELVIS, SMPLX_PELVIS
from megadance_hf.motion.motion import Motion

# Three train sequences (two to one song), one for validation, two for testing.
AISTPP_NAMES = (
    "gBR_sBM_cAll_d04_mBR0_ch01",
    "gBR_sFM_cAll_d05_mBR0_ch07",
    "gHO_sBM_cAll_d20_mHO3_ch02",
    "gPO_sBM_cAll_d10_mPO1_ch03",
    "gLH_sBM_cAll_d16_mLH4_ch04",
    "gJB_sFM_cAll_d08_mJB2_ch05",
)
AISTPP_SPLITS = {"train": AISTPP_NAMES[:3], "val": AISTPP_NAMES[3:4], "test": AISTPP_NAMES[4:]}
FINEDANCE_STYLES = ("Breaking", "jazz", "Tai", "Uighur", "Hmong", "HanTang", "Hiphop", "DunHuang")
SCALING = 93.77  # AIST++ stores paths in units of about a centimetre
HANGING = 0.9  # metres: AIST++'s origin is so far above its floor
MIDDLE, INDEX = (25, 40), (22, 37)  # joints of SMPL-H


@dataclass(frozen=True)
class RealClip:
    """A piece of a real dance at 30 frames per second, and the sound to it."""

    poses: np.ndarray  # (T, 72)
    translation: np.ndarray  # (T, 3)
    waveform: np.ndarray  # (samples,)
    rate: int

    def __len__(self) -> int:
        return len(self.poses)

    def cut(self, frames: int | None = None, sound_frames: int | None = None) -> "RealClip":
        """Only the first `frames` of the motion, and as much of the sound as lasts `sound_frames`."""
        samples = None if sound_frames is None else round(sound_frames / 30 * self.rate)
        return replace(
            self,
            poses=self.poses[:frames],
            translation=self.translation[:frames],
            waveform=self.waveform[:samples],
        )


def real_clips(ballroom_dir: Path, count: int, seconds: float = 3.0) -> list[RealClip]:
    """The first `seconds` of `count` ballroom dances with music."""
    lines = (ballroom_dir / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    names = [record["id"] for record in map(json.loads, lines) if record["paired"]]
    clips = []
    for name in names[:count]:
        frames = round(30 * seconds)
        with np.load(ballroom_dir / "motions" / f"{name}.npz") as motion:
            poses, translation = motion["smpl_poses"][:frames], motion["smpl_trans"][:frames]
        info = soundfile.info(ballroom_dir / "music" / f"{name}.ogg")
        waveform, rate = soundfile.read(
            ballroom_dir / "music" / f"{name}.ogg", round(seconds * info.samplerate), dtype="float32"
        )
        clips.append(RealClip(poses, translation, waveform, rate))
    return clips


def write_pickle(path: Path, content: object, protocol: int = 2) -> None:
    with path.open("wb") as file:
        pickle.dump(content, file, protocol=protocol)


# --- FineDance -----------------------------------------------------------------------------------------------------


def finger_poses(frames: int) -> np.ndarray:
    """Axis-angle (T, 30, 3) of the fingers, all different."""
    time = np.arange(frames)[:, None, None] / 30
    joint, axis = np.arange(30)[None, :, None], np.arange(3)[None, None]
    return (0.4 * np.sin(time * (1 + 0.1 * joint) + joint + axis)).astype(np.float32)


def finedance_motion(clip: RealClip, columns: int = 315) -> np.ndarray:
    """Motion (T, columns) of FineDance: see `datasets_scripts/finedance.py`. The 6D rows are not quite orthonormal."""
    body = clip.poses.reshape(len(clip), 24, 3)[:, :22]
    contacts, path = np.ones((len(clip), 4)), clip.translation - np.array(SMPLX_PELVIS)
    if columns == 168:  # SMPL-X: jaw and eyes, which must not end up in the hands
        face = np.full((len(clip), 3, 3), 0.7)
        axis_angle = np.concatenate([body, face, finger_poses(len(clip))], axis=1)
        return np.concatenate([path, axis_angle.reshape(len(clip), -1)], axis=1)
    joints = body if columns == 139 else np.concatenate([body, finger_poses(len(clip))], axis=1)
    rotations = axis_angle_to_rotation_6d(torch.from_numpy(joints).double()).numpy()
    first, second = rotations[..., :3], rotations[..., 3:]
    rotations = np.concatenate([1.02 * first, 0.97 * second + 0.05 * first], axis=-1).reshape(len(clip), -1)
    motion = np.concatenate([path, rotations], axis=1)
    return motion if columns == 315 else np.concatenate([contacts, motion], axis=1)


def make_finedance(
    folder: Path, clips: Mapping[str, RealClip], styles: Mapping[str, str] | None = None, columns: int = 315
) -> Path:
    """`motion/NNN.npy`, `music_wav/NNN.wav`, `label_json/NNN.json` for clips by number ("001")."""
    for name in ("motion", "music_wav", "label_json"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index, (number, clip) in enumerate(clips.items()):
        style = (styles or {}).get(number, FINEDANCE_STYLES[index % len(FINEDANCE_STYLES)])
        np.save(folder / "motion" / f"{number}.npy", finedance_motion(clip, columns))
        soundfile.write(folder / "music_wav" / f"{number}.wav", np.stack([clip.waveform] * 2, axis=1), clip.rate)
        label = {"name": f"song {number}", "style1": "Classic", "style2": style}
        (folder / "label_json" / f"{number}.json").write_text(json.dumps(label), encoding="utf-8")
    return folder


def make_finedance_processed(
    folder: Path,
    clips: Mapping[str, RealClip],
    features: Mapping[str, np.ndarray],
    muq: Mapping[str, int] | None = None,
    marked: Mapping[str, str] | None = None,
    styles: Mapping[str, str] | None = None,
) -> Path:
    """The authors' preprocessed layout, the last quarter of the clips for testing; `features` (rows, 35) by name.

    With `muq`, numbers of rows, and `marked`, texts of anomaly/, it is their download of 2026: all but the lists is in FineDance/.
    """
    lists, folder = folder, folder if muq is None else folder / "FineDance"
    for name in ("motion", "librosa", "label", *(() if muq is None else ("muq", "anomaly"))):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, rows in (muq or {}).items():
        write_pickle(folder / "muq" / f"{name}.pkl", {"music": np.zeros((rows, 4), np.float32)})
    for name, text in (marked or {}).items():
        (folder / "anomaly" / f"{name}.txt").write_text(text, encoding="utf-8")
    for index, (name, clip) in enumerate(clips.items()):
        write_pickle(folder / "motion" / f"{name}.pkl", {"smpl_poses": clip.poses, "smpl_trans": clip.translation})
        write_pickle(folder / "librosa" / f"{name}.pkl", {"music": features[name]})
        style = (styles or {}).get(name, FINEDANCE_STYLES[index % len(FINEDANCE_STYLES)])
        label = {"style1": "Street", "style2": style}
        (folder / "label" / f"{name}.json").write_text(json.dumps(label), encoding="utf-8")
    names = list(clips)
    last = len(names) - max(1, len(names) // 4)
    for split, part in (("train", names[:last]), ("test", names[last:])):
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in part), encoding="utf-8")
    return lists


# --- AIST++ --------------------------------------------------------------------------------------------------------


def make_aistpp(
    folder: Path,
    clips: Mapping[str, RealClip],
    splits: Mapping[str, tuple[str, ...]] = AISTPP_SPLITS,
    ignored: tuple[str, ...] = (),
) -> Path:
    """`motions/SEQ.pkl` at 60 frames per second, `splits/crossmodal_*.txt`, `ignore_list.txt`, `music/mXXn.wav` for clips by name.

    A song is that of its first clip.
    """
    for name in ("motions", "splits", "music"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, clip in clips.items():
        twice = Motion(clip.poses.reshape(-1, 24, 3), clip.translation, fps=30).resampled(60)
        content = {
            "smpl_loss": 0.01,
            "smpl_poses": twice.poses.reshape(len(twice), 72),
            "smpl_scaling": np.array([SCALING], np.float32),
            "smpl_trans": (twice.translation - np.array(SMPL_PELVIS) + [0, HANGING, 0]).astype(np.float32)
            * np.float32(SCALING),
        }
        write_pickle(folder / "motions" / f"{name}.pkl", content)
        song = folder / "music" / f"{name.split('_')[4]}.wav"
        if not song.exists():
            soundfile.write(song, clip.waveform, clip.rate)
    for split in ("train", "val", "test"):
        names = "".join(f"{name}\n" for name in splits.get(split, ()))
        (folder / "splits" / f"crossmodal_{split}.txt").write_text(names, encoding="utf-8")
    (folder / "ignore_list.txt").write_text("".join(f"{name}\n" for name in ignored), encoding="utf-8")
    return folder
