"""Does a model dance in time with its music? Measured on a prepared data set whose songs have known bars, as JSON.

    python benchmarks/keeps_time.py PREPARED [--model DIR] [--splits validation test] [--seeds 3] [--seconds 40] [--out FILE]

A dance's speed is folded on the song's bars (`metrics.bar_profile`) and correlated with the mean profile of its genre's
training clips. Four rows for each genre, each the mean over dances:

    truth       the real dance of that song
    tokenizer   the same, encoded and decoded: the best that codes can do
    music       generated from the song
    shifted     generated from the song moved on by one and a half beats, still folded on where the bars were

Music that is heard makes `music` high and `shifted` low or negative; a dance that keeps any time of its own has both near
zero. Mean speed (m/s) and jerk (m/s^3) stand beside it.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from megadance_hf import metrics
from megadance_hf.data import bar_phase, clip_motion
from megadance_hf.datasets_scripts.schema import Clip, read_prepared
from megadance_hf.modeling.kinematics_megadance import axis_angle_to_matrix, forward_kinematics
from megadance_hf.pipeline import DEFAULT_MODEL, MusicToDancePipeline


def joints_of(poses: np.ndarray, translation: np.ndarray) -> np.ndarray:
    matrices = axis_angle_to_matrix(torch.from_numpy(poses).reshape(-1, 24, 3))
    return forward_kinematics(matrices, torch.from_numpy(translation)).numpy()


def training_profiles(clips: list[Clip]) -> dict[str, np.ndarray]:
    found = defaultdict(list)
    for clip in clips:
        if clip.paired and bar_phase(clip) is not None:
            found[clip.genre].append(metrics.bar_profile(joints_of(clip.poses, clip.translation), bar_phase(clip)))
    return {genre: np.mean(profiles, axis=0) for genre, profiles in found.items()}


@torch.no_grad()
def dances(pipe: MusicToDancePipeline, clip: Clip, frames: int, seeds: int) -> dict[str, list[np.ndarray]]:
    """Joints of each row's dances."""
    truth = joints_of(clip.poses[:frames], clip.translation[:frames])
    codes = pipe.tokenizer.encode(torch.from_numpy(clip_motion(clip)[None, :frames]))
    rows = {"truth": [truth], "tokenizer": finished(pipe, codes, frames)}
    shift = round(1.5 * clip.beat_period_s * clip.fps)
    genre_ids = torch.tensor([pipe.processor.genre_id(clip.genre)])
    for name, features in (("music", clip.input_features), ("shifted", np.roll(clip.input_features, shift, axis=0))):
        features = torch.from_numpy(features[None, :frames].copy())
        outputs = pipe.model.generate(features, genre_ids, num_return_sequences=seeds, seed=0, do_sample=True)
        rows[name] = finished(pipe, outputs, frames)
    return rows


def finished(pipe: MusicToDancePipeline, codes, frames: int) -> list[np.ndarray]:
    dances = pipe.processor.post_process_motion(codes, pipe.tokenizer, frames)
    return [joints_of(dance["poses"], dance["translation"]) for dance in dances]


def main(argv: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="prepared folder")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--splits", nargs="+", default=["validation", "test"])
    parser.add_argument("--seeds", type=int, default=3, help="dances a song and row")
    parser.add_argument("--seconds", type=float, default=40, help="of each song")
    parser.add_argument("--out", help="file for the report")
    arguments = parser.parse_args(argv)
    pipe = MusicToDancePipeline.from_pretrained(arguments.model)
    profiles = training_profiles(read_prepared(arguments.data, "train"))
    values = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for split in arguments.splits:
        for clip in read_prepared(arguments.data, split):
            if not clip.paired or clip.genre not in profiles or bar_phase(clip) is None:
                continue
            frames = min(int(arguments.seconds * clip.fps), len(clip)) // 8 * 8
            for row, motions in dances(pipe, clip, frames, arguments.seeds).items():
                for joints in motions:
                    profile = metrics.bar_profile(joints, bar_phase(clip))
                    found = values[clip.genre][row]
                    found["bar_correlation"].append(metrics.profile_correlation(profile, profiles[clip.genre]))
                    found["mean_speed"].append(metrics.mean_speed(joints))
                    found["jerk"].append(metrics.jerk(joints))
    report = {
        genre: {
            row: {k: float(np.mean(v)) for k, v in found.items()} | {"dances": len(found["jerk"])}
            for row, found in rows.items()
        }
        for genre, rows in values.items()
    }
    text = json.dumps(report, indent=2)
    print(text)
    if arguments.out:
        Path(arguments.out).write_text(text + "\n", encoding="utf-8")
    return report


if __name__ == "__main__":
    main()
