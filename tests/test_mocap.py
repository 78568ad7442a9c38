"""Motion capture without music: a small folder of the real layout, and the real one."""

import json

import numpy as np

from megadance_hf.data.prepared import read_info, read_prepared
from megadance_hf.datasets_scripts.mocap import GENRES, GROUPS, TEST, list_raw, prepare


def write_raw(root, sequences):
    (root / "motions").mkdir(parents=True)
    lines = []
    for name, (genre, frames) in sequences.items():
        poses = np.zeros((frames, 72), np.float32)
        np.savez(root / "motions" / f"{name}.npz", smpl_poses=poses, smpl_trans=poses[:, :3], fps=np.array(30))
        lines.append(json.dumps({"id": name, "genre": genre, "music": None, "source": f"from {name}", "licence": "L"}))
    (root / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return root


def test_a_small_folder(tmp_path):
    sequences = {
        "bandai_dance_short_001": ("unspecified", 40),
        "cmu_05_01": ("walk", 30),
        "cmu_05_09": ("modern_dance", 50),
        "cmu_05_16": ("modern_dance", 12),
    }
    raw = write_raw(tmp_path / "raw", sequences)
    report = prepare(raw, tmp_path / "out", progress=False)
    assert report.left_out == {"cmu_05_16": "only 12 frames, at least 16 are needed"}
    clips = {clip.id: clip for clip in read_prepared(tmp_path / "out", audio=True)}
    assert {name: (clip.genre, clip.split, len(clip)) for name, clip in clips.items()} == {
        "bandai_dance_short_001": (None, "train", 40),
        "cmu_05_01": ("walk", "train", 30),
        "cmu_05_09": ("modern_dance", "test", 50),
    }
    for name, clip in clips.items():
        assert not clip.paired and clip.audio is None and clip.beat_period_s is None
        assert clip.source == f"from {name}" and clip.licence == "L"


def test_takes_of_one_phrase_stay_in_one_split(mocap_dir):
    split = {raw.id: raw.split for raw in list_raw(mocap_dir)}
    assert len(split) == 18 and set(TEST) == {name for name in split if split[name] == "test"}
    for group in GROUPS:
        assert len({split[name] for name in group}) == 1


def test_the_real_folder(mocap_dir, tmp_path):
    report = prepare(mocap_dir, tmp_path / "out", progress=False)
    assert len(report.made) == 18 and report.left_out == {}
    info = read_info(tmp_path / "out")
    assert info["genres"] == list(GENRES)
    assert sum(split["frames"] for split in info["splits"].values()) == 5687
    assert all(split["paired_clips"] == 0 for split in info["splits"].values())
