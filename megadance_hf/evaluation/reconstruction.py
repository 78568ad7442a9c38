"""How well a tokenizer reconstructs motion: the errors of Table 4b, and which share of its codes is in use; what it makes of the
training motion."""

from collections.abc import Sequence

import numpy as np
import torch

from megadance_hf import metrics
from megadance_hf.data.augmentation import mirror_motion
from megadance_hf.data.clip import Clip, clip_motion
from megadance_hf.data.segments import SEGMENT_FRAMES
from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE
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


@torch.no_grad()
def training_motion(
    tokenizer: MegaDanceTokenizer, clips: Sequence[Clip]
) -> tuple[metrics.TrainingMotion, metrics.TrainingMotion, list[tuple[np.ndarray, np.ndarray]]]:
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
    return metrics.TrainingMotion(captured), metrics.TrainingMotion(coded), used


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
