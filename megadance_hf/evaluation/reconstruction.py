"""How well a tokenizer reconstructs motion: the errors of Table 4b, and which share of its codes is in use; what it makes of the
training motion."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from megadance_hf import metrics
from megadance_hf.data.augmentation import mirror_motion
from megadance_hf.data.clip import Clip, clip_motion
from megadance_hf.data.segments import SEGMENT_FRAMES
from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE, MOTION_FPS
from megadance_hf.modeling.kinematics_megadance import (
    ROOT_SIZE,
    integrate_root_velocity,
    motion_to_joints,
    root_heading,
    turn_motion,
)
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizer, MegaDanceTokenizerEncoderOutput
from megadance_hf.modeling.quantizers_megadance import codebook_utilization
from megadance_hf.training.tasks import reconstruction_report

from .tables import TOKENIZER_COLUMNS

PERFORMANCES = 3  # of each training unit that dances are compared with
PAUSE = "HOLD"  # stands between two units of a choreography, which follow each other all the same


def _encode(tokenizer: MegaDanceTokenizer, clip: Clip) -> tuple[torch.Tensor, MegaDanceTokenizerEncoderOutput]:
    """Motion (T, 147) of all whole codes of a clip, and the codes (1, T / 8)."""
    motion = torch.from_numpy(clip_motion(clip)[: len(clip) // FRAMES_PER_CODE * FRAMES_PER_CODE])
    return motion, tokenizer.encode(motion[None].to(tokenizer.device))


@torch.no_grad()
def tokenizer_errors(tokenizer: MegaDanceTokenizer, clips: Sequence[Clip]) -> dict[str, float]:
    """Table 4b: errors of reconstructed motion, over segments of 240 frames of whole clips.

    "SMPL" compares the 147 numbers of a frame as the model gives them, not normalised: three of root velocity (metres per
    frame) and 24 x 6 of rotation. "joint" compares joint positions in metres with the pelvis at the origin: the released joint
    loss has it within millimetres of there. "world" compares them with the root path, integrated from the velocities of each
    segment and starting at the true root position (and heading, where only turns are coded): that is mostly how far the path has drifted.
    """
    sums, frames = np.zeros(len(TOKENIZER_COLUMNS)), 0
    for clip in clips:
        motion, codes = _encode(tokenizer, clip)
        frames += len(motion)
        rebuilt = tokenizer.decode(codes.upper_codes, codes.lower_codes)[0].float().cpu()
        for first in range(0, len(motion), SEGMENT_FRAMES):
            start = torch.from_numpy(clip.translation[first])
            pieces = [whole[first : first + SEGMENT_FRAMES] for whole in (rebuilt, motion)]
            if tokenizer.config.heading == "turn":
                pieces[0] = turn_motion(pieces[0], root_heading(pieces[1][0]) - root_heading(pieces[0][0]))
            joints = [motion_to_joints(m, torch.zeros(len(m), 3)) for m in pieces]
            world = [motion_to_joints(m, integrate_root_velocity(m[:, :ROOT_SIZE], start)) for m in pieces]
            for column, (made, true) in enumerate((pieces, joints, world)):
                errors = metrics.reconstruction_errors(made.numpy(), true.numpy())
                sums[2 * column : 2 * column + 2] += np.array([errors["mse"], errors["mae"]]) * len(made)
    return dict(zip(TOKENIZER_COLUMNS, (sums / frames).tolist(), strict=True))


@dataclass
class KnownMotion:
    """Training motion to look for in dances: all of it, and for each genre the units of its choreographies, where clips name them."""

    clips: metrics.TrainingMotion
    units: Mapping[str, metrics.TrainingUnits]


@torch.no_grad()
def training_motion(
    tokenizer: MegaDanceTokenizer, clips: Sequence[Clip]
) -> tuple[KnownMotion, KnownMotion, list[tuple[np.ndarray, np.ndarray]]]:
    """Motion of training clips, each also mirrored: as captured, and through the tokenizer; and their codes, not mirrored.

    A dance that is made of a clip's codes follows the clip as the tokenizer reconstructs it, not as it was captured.
    """
    captured, coded, used = [], [], []
    for clip in clips:
        whole = clip_motion(clip)[: len(clip) // FRAMES_PER_CODE * FRAMES_PER_CODE]
        for number, motion in enumerate((whole, np.ascontiguousarray(mirror_motion(whole)))):
            codes = tokenizer.encode(torch.from_numpy(motion[None]).to(tokenizer.device))
            rebuilt = tokenizer.decode(codes.upper_codes, codes.lower_codes)[0].float().cpu()
            for library, poses in ((captured, torch.from_numpy(motion)), (coded, rebuilt)):
                library.append(motion_to_joints(poses, torch.zeros(len(poses), 3)).numpy())
            if number == 0:
                used.append((codes.upper_codes[0].cpu().numpy(), codes.lower_codes[0].cpu().numpy()))
    known = [
        KnownMotion(metrics.TrainingMotion(joints), _training_units(clips, joints)) for joints in (captured, coded)
    ]
    return *known, used


def _training_units(clips: Sequence[Clip], joints: Sequence[np.ndarray]) -> dict[str, metrics.TrainingUnits]:
    """The units of each genre: three performances of each unit, evenly spread over its training clips, and which follows which.

    Args:
        joints: of each clip as it is, and mirrored. Mirrored units are units of their own.
    """
    performances: dict[str, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    pairs: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for number, clip in enumerate(clips):
        if not clip.units or clip.genre is None:
            continue
        for side, motion in zip(("", " mirrored"), joints[2 * number : 2 * number + 2], strict=True):
            units = [unit for unit in clip.units if unit["name"] != PAUSE]
            names = [unit["name"] + side for unit in units]
            pairs[clip.genre].update(pairwise(names))
            ends = [unit["start_s"] for unit in clip.units[1:]] + [len(clip) / MOTION_FPS]
            for unit, end in zip(clip.units, ends, strict=True):
                if clip.beat_period_s is not None:  # in takes, what follows may have no name
                    end = min(end, unit["start_s"] + (unit["beats"] + 0.2) * clip.beat_period_s)
                piece = motion[round(unit["start_s"] * MOTION_FPS) : round(end * MOTION_FPS)]
                if unit["name"] != PAUSE and len(piece):
                    performances[clip.genre][unit["name"] + side].append(piece)
    return {
        genre: metrics.TrainingUnits(
            [
                (name, found[index])
                for name, found in by_name.items()
                for index in np.unique(np.linspace(0, len(found) - 1, PERFORMANCES).round().astype(int))
            ],
            pairs[genre],
        )
        for genre, by_name in performances.items()
    }


@torch.no_grad()
def tokenizer_report(
    tokenizer: MegaDanceTokenizer, clips: Sequence[Clip], all_clips: Sequence[Clip]
) -> dict[str, float]:
    """What `reconstruction_report` measures on the evaluated clips, and the share of codes in use on all of the data set."""
    report = reconstruction_report(tokenizer, list(clips))
    report["joint_error"] = report.pop("score")
    codes = [_encode(tokenizer, clip)[1] for clip in all_clips]
    for stream in ("upper_codes", "lower_codes"):
        used = torch.cat([getattr(output, stream)[0] for output in codes])
        report[f"{stream}_used_all_clips"] = codebook_utilization(used, tokenizer.config.codebook_size)
    return report
