"""The page (dataset card) of a prepared data set, and the tables in it, from its `info.json`."""

import json
from dataclasses import dataclass
from statistics import median
from typing import Any

from megadance_hf.modeling.configuration_megadance import MUSIC_FEATURE_SIZE as FEATURE_SIZE

from .beats import KNOWN, MIN_CONFIDENCE
from .clip import FPS, POSE_SIZE

# What the card's example loads until the set has a repository.
PLACE = '"PATH"'
# Noisy clips beyond this number are only counted.
NAMED_CLIPS = 10


@dataclass(frozen=True)
class Card:
    """The texts of a data set's page.

    Attributes:
        title, description, licence: free text.
        licence_id: the Hub's id of the licence; "other" if it has none, and then `licence_name` names it.
        share_audio: whether the licence permits redistribution of the music; otherwise it is left out when the set is pushed.
    """

    title: str
    description: str
    licence: str
    licence_id: str = "other"
    licence_name: str = "see-card"
    share_audio: bool = False


def genre_table(info: dict[str, Any]) -> list[list[str]]:
    """Clips and minutes per genre and split as rows of cells; the first row is the header, the last the sum."""
    splits = info["splits"]
    present = {genre for n in splits.values() for genre in n["clips_by_genre"]}
    rows = [["genre", *splits]]
    for genre in [*info["genres"], "none"]:
        if genre in present:
            counts = [(n["clips_by_genre"].get(genre, 0), n["frames_by_genre"].get(genre, 0)) for n in splits.values()]
            rows.append([genre, *(_clips_and_minutes(*count) for count in counts)])
    return [*rows, ["all", *(_clips_and_minutes(n["clips"], n["frames"]) for n in splits.values())]]


def _clips_and_minutes(clips: int, frames: int) -> str:
    return f"{clips} ({frames / FPS / 60:.1f} min)" if clips else "-"


def noisy_clips(info: dict[str, Any]) -> list[str]:
    """One line per clip with jumps or discontinuities, the worst first."""
    noisy = [(name, n) for name, n in info["noise"].items() if n["jumps"] or n["discontinuities"]]
    noisy.sort(key=lambda clip: (-clip[1]["jumps"], -clip[1]["discontinuities"], clip[0]))
    return [
        f"{name}: {n['jumps']} jumps, {n['discontinuities']} discontinuities; the root's largest step is "
        f"{n['largest_root_step_m']:.2f} m (frame {n['root_frame']}), the largest turn {n['largest_turn_degrees']:.0f} degrees "
        f"({n['turn_joint']}, frame {n['turn_frame']})"
        for name, n in noisy
    ]


def marked_clips(info: dict[str, Any]) -> list[str]:
    """One line per clip with frames that its source marks as bad, most of them first."""
    marked = sorted(info.get("marked", {}).items(), key=lambda clip: (-clip[1]["frames"], clip[0]))
    beyond = (f", {n['beyond_end']} beyond its end" if n["beyond_end"] else "" for _, n in marked)
    return [f"{name}: {n['frames']} marked frames{rest}" for (name, n), rest in zip(marked, beyond, strict=True)]


def beats_line(info: dict[str, Any]) -> str:
    """How many clips with music have known and estimated beats, and the confidence of these; empty without music."""
    beats = info.get("beats", {}).values()
    if not beats:
        return ""
    estimated = sorted(value for value in beats if isinstance(value, int | float))
    known, without = sum(value == KNOWN for value in beats), sum(value is None for value in beats)
    line = f"beats of {len(beats)} clips with music: {known} known, {len(estimated)} estimated from the features"
    if estimated:
        weak = sum(value < MIN_CONFIDENCE for value in estimated)
        line += (
            f" (confidence {estimated[0]:.2f} to {estimated[-1]:.2f}, median {median(estimated):.2f}; {weak} below {MIN_CONFIDENCE}, which "
            "training does not use)"
        )
    return line + (f", {without} without" if without else "")


def card_text(card: Card, info: dict[str, Any]) -> str:
    """The page as Markdown with YAML metadata, as the Hub wants it."""
    splits, beats = info["splits"], beats_line(info)
    clips, limits = sum(n["clips"] for n in splits.values()), {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K"}
    size_category = next((name for limit, name in limits.items() if clips < limit), "100K<n<1M")
    data_files = "\n".join(f"  - split: {split}\n    path: {split}.parquet" for split in splits)
    rows = "\n".join(
        f"| {split} | {n['clips']} | {n['frames'] / FPS / 60:.1f} | {n['paired_clips']} | {n['paired_frames'] / FPS / 60:.1f} |"
        for split, n in splits.items()
    )
    table = genre_table(info)
    by_genre = "\n".join(f"| {' | '.join(cells)} |" for cells in [table[0], ["---"] * len(table[0]), *table[1:]])
    noisy = noisy_clips(info)
    noise = "\n".join(f"- {line}" for line in noisy[:NAMED_CLIPS])
    marked = "\n".join(f"- {line}" for line in marked_clips(info))
    licence_name = f"\nlicense_name: {card.licence_name}" if card.licence_id == "other" else ""
    left_out = "\n".join(f"- {name}: {reason}" for name, reason in info.get("left_out", {}).items())
    return f"""---
pretty_name: {json.dumps(card.title)}
license: {card.licence_id}{licence_name}
task_categories:
- other
size_categories:
- {size_category}
tags:
- music-to-dance
- motion
- smpl
configs:
- config_name: default
  data_files:
{data_files}
---

# {card.title}

{card.description}

**Licence.** {card.licence}

| split | clips | minutes | with music | minutes with music |
| --- | --- | --- | --- | --- |
{rows}

Genres in the order of their ids: {", ".join(info["genres"]) or "none"}.

{by_genre}

**Noise.** {len(noisy)} of {len(info["noise"])} clips have a step between two frames that no body can do (a jump) or that stands out from its
neighbours (a discontinuity); `info.json` has the numbers of every clip.{" The worst:" if noise else ""}

{noise}

**Marked frames.** {len(info.get("marked", {}))} of {len(info["noise"])} clips have frames that the source marks as bad.

{marked}

**Beats.** {beats[:1].upper() + beats[1:] or "There is no music"}.

**Left out.** {len(info.get("left_out", {}))} clips could not be used.

{left_out}

One row is one clip at {FPS} frames per second: `poses` (T, {POSE_SIZE}) axis-angle of the 24 SMPL joints in radians, `translation` (T, 3) of the
pelvis joint in metres (Y up), `audio` (the encoded file), `input_features` (T, {FEATURE_SIZE}; null without music), `genre`, `split`, `source`,
`licence`, `song`; `beat_source` ("known" or "estimated", then with `beat_confidence` from 0 to 1), `beat_period_s`, `first_beat_s`, and for known
beats `beats_per_bar`, `first_beat_is_downbeat`, `phase_confidence`; `marked_frames`, frames that the source marks as bad, `muq_frames`, rows of
MuQ features, `kind` and `units` (figures), `bar_confidence`, where the source has these.

```python
from datasets import load_dataset

clip = load_dataset({PLACE}, split="train").with_format("numpy")[0]
clip["poses"].shape  # (T, {POSE_SIZE})
```
"""
