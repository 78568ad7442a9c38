"""Rows of the tables that need no generator: ground truth, another song's dance, nearest music, frozen pose, tokenizer."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from megadance_hf.data.clip import Clip, clip_motion
from megadance_hf.data.segments import SEGMENT_FRAMES
from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE
from megadance_hf.modeling.kinematics_megadance import (
    axis_angle_to_matrix,
    forward_kinematics,
    ground_translation,
    motion_to_poses,
)
from megadance_hf.motion.motion import Motion

from .dances import Dance, Excerpt, cut, decoded_dance

RETRIEVAL_STRIDE = 16  # frames


class NearestMusic:
    """Retrieval: each eight seconds of a song are danced as the eight seconds of the training set with the nearest music.

    Music features are standardised, averaged over the frames of each code and stacked; the distance is Euclidean. The motions
    are concatenated; the root path goes on, poses jump where they meet.
    """

    def __init__(self, clips: Sequence[Clip]):
        self._clips = [clip for clip in clips if clip.paired and len(clip) >= SEGMENT_FRAMES]
        if not self._clips:
            raise ValueError(f"no training clip with music has {SEGMENT_FRAMES} frames to be retrieved")
        features = np.concatenate([clip.input_features for clip in self._clips])
        self._mean, self._std = features.mean(0), np.maximum(features.std(0), 1e-3)
        self._slots: list[tuple[int, int]] = []  # (clip, first frame) of each row
        rows = []
        steps = SEGMENT_FRAMES // FRAMES_PER_CODE
        for index, clip in enumerate(self._clips):
            described = self._describe(clip.input_features)
            for start in range(0, len(clip) - SEGMENT_FRAMES + 1, RETRIEVAL_STRIDE):
                self._slots.append((index, start))
                first = start // FRAMES_PER_CODE
                rows.append(described[first : first + steps].ravel())
        self._rows = np.stack(rows)

    def _describe(self, features: np.ndarray) -> np.ndarray:
        """Standardised features (T, 35) averaged over each code: (T / 8, 35)."""
        steps = len(features) // FRAMES_PER_CODE
        normal = (features[: steps * FRAMES_PER_CODE] - self._mean) / self._std
        return normal.reshape(steps, FRAMES_PER_CODE, -1).mean(1).astype(np.float32)

    def __call__(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Music (T, 35), T a multiple of 8 -> poses (T, 24, 3) and root path (T, 3)."""
        described, pieces = self._describe(features), []
        for first in range(0, len(described), SEGMENT_FRAMES // FRAMES_PER_CODE):
            wanted = described[first : first + SEGMENT_FRAMES // FRAMES_PER_CODE].ravel()
            rows = self._rows[:, : wanted.size]
            index, start = self._slots[int(((rows - wanted) ** 2).sum(1).argmin())]
            length = wanted.size // features.shape[1] * FRAMES_PER_CODE
            pieces.append(clip_motion(self._clips[index])[start : start + length])
        poses, translation = motion_to_poses(torch.from_numpy(np.concatenate(pieces)))
        # on the floor, as generated dances are
        first = forward_kinematics(axis_angle_to_matrix(poses[0]), torch.zeros(3))
        translation = translation - torch.tensor([0.0, float(first[:, 1].min()), 0.0])
        return poses.numpy(), ground_translation(poses, translation).numpy()


def baselines(
    pipe: Any, excerpts: Sequence[Excerpt], others: Sequence[int | None], training: Sequence[Clip]
) -> tuple[dict[str, list[Dance]], list[str]]:
    """The dances of each baseline, and notes on those that are missing.

    Args:
        others: for each excerpt the index of another one whose dance it gets as well, or None (`dances.other_songs`).
        training: clips to retrieve from.
    """
    rows: dict[str, list[Dance]] = defaultdict(list)
    notes: list[str] = []
    nearest = None
    try:
        nearest = NearestMusic(training)
    except ValueError as error:
        notes.append(f"nearest music is left out: {error}")
    for index, (item, other) in enumerate(zip(excerpts, others, strict=True)):
        clip, genre = item.clip, item.clip.genre
        rows["ground_truth"].append(_captured(index, clip.poses, clip.translation, genre))
        if other is not None and len(excerpts[other].song) >= len(clip):
            song = excerpts[other].song
            start = min(item.start, len(song) - len(clip))
            piece = cut(song, start, len(clip))
            rows["other_song"].append(Dance(index, piece.poses, piece.translation, genre))
        else:
            notes.append(f"ground truth of another song leaves out {clip.id}: no other song is as long")
        if nearest is not None:
            rows["nearest_music"].append(_captured(index, *nearest(clip.input_features), genre))
        still = (np.repeat(clip.poses[:1], len(clip), 0), np.repeat(clip.translation[:1], len(clip), 0))
        rows["frozen_pose"].append(Dance(index, *still, genre))
        with torch.no_grad():
            codes = pipe.tokenizer.encode(torch.from_numpy(clip_motion(clip)[None]).to(pipe.tokenizer.device))
        versions = (
            pipe.processor.post_process_motion(codes, pipe.tokenizer, len(clip), clean=clean, begins=False, ends=False)[
                0
            ]
            for clean in (False, True)
        )
        used = (codes.upper_codes[0].cpu().numpy(), codes.lower_codes[0].cpu().numpy())
        rows["tokenizer"].append(decoded_dance(index, *versions, genre, 0, used))
    return rows, notes


def _captured(index: int, poses: np.ndarray, translation: np.ndarray, genre: str) -> Dance:
    """A dance of captured motion, and what the clean-up makes of it."""
    cleaned = Motion(poses, translation).cleaned()
    dance = Dance(index, poses, translation, genre)
    dance.cleaned = Dance(index, cleaned.poses, cleaned.translation, genre)
    return dance
