"""Does a model use its music: cross-entropy of real dances given the right music, wrong music and none."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from megadance_hf.data.clip import Clip, clip_motion
from megadance_hf.metrics import paired_test
from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE

from .dances import MUSIC, music_as

SEGMENTS_AT_ONCE = 64


@torch.no_grad()
def cross_entropy(
    model: Any,
    tokenizer: Any,
    songs: Sequence[Clip],
    others: Sequence[int | None],
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Mean cross-entropy (nats) of a generator on the codes of real dances, with the music as in `MUSIC`, teacher-forced.

    Whole songs are cut into segments of the training's length that overlap by one code, so every code is scored once (the
    rest at the end, shorter than a segment, is left out). A rhythm encoder reads the whole song, and gives zeros without
    music, as in training.

    Args:
        others: for each song the index of another one, or None (`dances.other_songs`).

    Returns:
        `songs`: for each song and condition the two streams' mean and their sum; `mean` of those over songs with the
        perplexity of each stream; `windows`: the sum of each segment; `tests`: is it higher with wrong music than with the
        right one, paired over segments ("windows") and over songs.
    """
    conditions = MUSIC if all(other is not None for other in others) else tuple(c for c in MUSIC if c != "swapped")
    per_song: list[dict[str, Any]] = []
    sums: dict[str, list[float]] = {condition: [] for condition in conditions}
    mean = music_mean(model)
    for song, other in zip(songs, others, strict=True):
        frames = len(song) // FRAMES_PER_CODE * FRAMES_PER_CODE
        codes = tokenizer.encode(torch.from_numpy(clip_motion(song)[None, :frames]).to(tokenizer.device))
        row: dict[str, Any] = {"song": song.id, "genre": song.genre}
        for condition in conditions:
            music = music_as(condition, song, None if other is None else songs[other], mean)
            features = torch.from_numpy(np.ascontiguousarray(music[None, :frames])).to(model.device)
            rhythm = model.model.encode_rhythm(features)
            if condition == "zeroed" and rhythm is not None:
                rhythm = torch.zeros_like(rhythm)
            losses = _segment_losses(model, codes, features, rhythm, model.genre_id(song.genre))
            upper, lower = (float(value) for value in losses.mean(0))
            row[condition] = {"upper": upper, "lower": lower, "sum": upper + lower}
            sums[condition].extend(losses.sum(1).tolist())
        per_song.append(row)
        progress()
    means = {}
    for condition in conditions:
        upper, lower = (float(np.mean([row[condition][part] for row in per_song])) for part in ("upper", "lower"))
        means[condition] = {"upper": upper, "lower": lower, "sum": upper + lower}
        means[condition] |= {"perplexity_upper": float(np.exp(upper)), "perplexity_lower": float(np.exp(lower))}
    right = [row["right"]["sum"] for row in per_song]
    tests = {
        condition: {
            "windows": paired_test(sums[condition], sums["right"]),
            "songs": paired_test([row[condition]["sum"] for row in per_song], right),
        }
        for condition in conditions[1:]
    }
    return {"songs": per_song, "mean": means, "windows": sums, "tests": tests}


def music_mean(model: Any) -> np.ndarray:
    """Mean music features (35,) of a generator's training data."""
    return model.model.music_mean.float().cpu().numpy()


def _segment_losses(
    model: Any, codes: Any, features: torch.Tensor, rhythm: torch.Tensor | None, genre_id: int
) -> np.ndarray:
    """Cross-entropy (segments, 2) of the upper and lower codes of one song."""
    upper, lower = (c[0].to(model.device) for c in (codes.upper_codes, codes.lower_codes))
    length = min(model.config.training_codes, len(upper))
    stride, step, losses = max(1, length - 1), FRAMES_PER_CODE, []
    streams = [stream.unfold(0, length, stride).split(SEGMENTS_AT_ONCE) for stream in (upper, lower)]
    music, beat = (
        None if x is None else x[0].unfold(0, step * length, step * stride).mT.contiguous().split(SEGMENTS_AT_ONCE)
        for x in (features, rhythm)
    )
    for number, pieces in enumerate(zip(*streams, strict=True)):
        genre_ids = torch.full((len(pieces[0]),), genre_id, device=model.device)
        now = None if beat is None else beat[number]
        output, scores = model(music[number], *pieces, genre_ids=genre_ids, rhythm=now), []
        for logits, labels in zip((output.upper_logits, output.lower_logits), pieces, strict=True):
            scores.append(model.output_mlp.cross_entropy(logits[:, :-1], labels[:, 1:]).mean(1))
        losses.append(torch.stack(scores, dim=1).cpu().numpy())
    return np.concatenate(losses)
