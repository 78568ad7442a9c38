"""A passage of a dance danced anew, while the rest stays as it is, to the last bit: `redo` of the pipeline.

Codes outside the passage are known to `generate()`. Of the new dance only the passage and a few codes around it are decoded and cleaned up,
and put into the old dance (`joining_megadance.py`).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from .arguments_megadance import LENGTH_OPTIONS, MOST_DANCES, real_number, whole_number
from .clean_up_megadance import clean_rotations
from .configuration_megadance import MegaDanceTokenizerConfig
from .holds_megadance import encode_held, free_ends, held_seconds, place_hold, read_hold, room_in_passage
from .joining_megadance import FADE, meet_poses, price_of_leading, put_passage
from .kinematics_megadance import (
    BODY_PARTS,
    ROOT_PART,
    axis_angle_to_matrix,
    forward_kinematics,
    ground_path,
    matrix_to_axis_angle,
    motion_to_rotations,
)
from .modeling_megadance_tokenizer import MegaDanceTokenizer
from .plans_megadance import DirectionError
from .threads_megadance import own_threads, use_one_thread

if TYPE_CHECKING:
    from .pipeline_megadance import DancePipeline

_AROUND_PASSAGE = 6  # codes before and after a passage that are decoded and cleaned up with it
_AFTER_PASSAGE = 8  # codes after it by which candidates are ranked, too


@own_threads()
def redo_passage(
    pipe: "DancePipeline",
    dance: Any,
    song: Any,
    between: tuple[float, float],
    part: str,
    *,
    candidates: int,
    num: int,
    prompt: str | None,
    attributes: Mapping[str, float | Sequence[tuple[float, float]]] | None,
    hold: Mapping[float | str, Any] | None,
    seed: int | None,
    sampling_rate: int | None,
    progress: bool | Callable[[int, int], None] | None,
    **generate_kwargs: Any,
) -> Any:
    """A dance with a passage `between` two seconds danced anew; `redo` of the pipeline `pipe` says what the arguments are."""
    for name in ("genre", "plan", "changes", "mode", "start_motion", "loop", "clean", "duration"):
        if name in generate_kwargs:
            raise ValueError(f"{name}: what is redone is danced as the dance was; leave it out")
    for name in (*LENGTH_OPTIONS, "stopping_criteria"):
        if generate_kwargs.get(name) is not None:
            raise ValueError(f"{name}: a passage is danced to its end; leave it out, or choose a shorter passage")
    old = pipe._check_start_motion(dance, "dance")
    notes = _metadata_of(dance)
    poses, translation = (torch.from_numpy(np.array(old[name], np.float32)) for name in ("poses", "translation"))
    known = _codes_of(notes, len(poses), pipe.tokenizer.config)
    if part not in ("all", *BODY_PARTS):
        raise DirectionError(f"part={part!r} is unknown: give one of all, {', '.join(BODY_PARTS)}")
    fps, step = pipe.tokenizer.config.fps, pipe.tokenizer.config.frames_per_code
    seconds = [
        real_number(name, value, "a second of the dance", lambda x: x >= 0)
        for name, value in zip(("start", "end"), between, strict=True)
    ]
    first, last = (min(round(second * fps / step), known.shape[2]) for second in seconds)
    if first >= last:
        raise DirectionError(
            f"start={between[0]}, end={between[1]}: there is no code between them; the dance lasts {len(poses) / fps:.2f} s, a code {step / fps:.2f} s"
        )
    if notes.get("loop") and (first == 0 or last == known.shape[2]):
        inner = ((known.shape[2] - 1) * step) / fps
        raise DirectionError(
            f"start={between[0]}, end={between[1]}: the dance ends where it begins; give a passage within {step / fps:.2f} and {inner:.2f} s"
        )
    mask = torch.ones_like(known, dtype=torch.bool)
    new_streams = [part in ("all", name) for name in BODY_PARTS]
    mask[:, new_streams, first:last] = False
    passage = (first * step, min(last * step, len(poses)))
    held = (
        []
        if hold is None
        else _place_in_passage(read_hold(hold, pipe._check_start_motion), passage, len(poses), fps, step)
    )
    for places, streams in encode_held(pipe.tokenizer, held):
        known[:, new_streams, places], mask[:, new_streams, places] = streams[:, new_streams], True
    num = whole_number("num", num, 1, MOST_DANCES)
    candidates = whole_number("candidates", candidates, num, MOST_DANCES)
    use_one_thread(pipe.model, candidates)
    options = {
        "plan": notes.get("plan") or [(notes.get("genre") or pipe.genres[0], 0.0)],
        "mode": notes.get("mode"),
        "seed": seed,
        "candidates": candidates if candidates > 1 else None,
        "num": candidates,
        "sampling_rate": sampling_rate,
        "progress": progress,
        "clean": "clean_up" in notes,
        "prompt": prompt,
        "attributes": _attributes_again(pipe, notes.get("attributes"), prompt, attributes),
    }
    if not (isinstance(song, Mapping) and "input_features" in song):
        options |= {"start": notes.get("start", 0.0), "duration": len(poses) / fps}
    given = {name: value for name, value in options.items() if value is not None}
    if prompt is not None:
        directions = pipe._read_prompt(prompt).directions
        if directions.genres or directions.parts or directions.not_genres:
            raise DirectionError(
                f"prompt={prompt!r} names genres: what is redone is danced as the dance was; leave them out"
            )
    preprocess, forward, postprocess = pipe._sanitize_parameters(**given, **generate_kwargs)
    prepared = pipe.preprocess(song, **preprocess)
    frames = prepared["inputs"]["num_frames"][0]
    if frames != len(poses):
        raise DirectionError(
            f"dance has {len(poses)} frames, but the song has {frames}: give the song that it was made to"
        )
    prepared["inputs"] |= {"known_codes": known, "known_mask": mask}
    scored = (max(first, 1), min(last + _AFTER_PASSAGE, known.shape[2]))
    results = pipe.forward(prepared, **forward, scored=scored)
    use_one_thread(pipe.tokenizer, 1)
    # codes and frames of the dance that are made anew, so that the passage is as it would be within the whole
    around = slice(max(first - _AROUND_PASSAGE, 0), min(last + _AROUND_PASSAGE, known.shape[2]))
    cut = slice(around.start * step, min(around.stop * step, frames))
    there, within = (poses[cut], translation[cut]), (passage[0] - cut.start, passage[1] - cut.start)
    news = _decode(pipe.tokenizer, [stream[:, around] for stream in results["codes"]], cut.stop - cut.start)
    likelihoods = [] if results["likelihoods"] is None else results["likelihoods"][0].tolist()
    best = [0]  # of one
    if likelihoods:
        ranks = torch.tensor(likelihoods, dtype=torch.double) * (scored[1] - scored[0])
        if part in ("all", ROOT_PART):
            ranks -= torch.tensor([price_of_leading(there, new[:2], *within, fps) for new in news], dtype=torch.double)
        best = ranks.argsort(descending=True, stable=True)[:num].tolist()

    ends = (around.start == 0, around.stop == known.shape[2])
    eased = zip(prepared["whole"][0], ends, free_ends(held, frames, fps), _was_eased(notes), strict=True)
    clean, floor = postprocess["clean"], postprocess.get("floor", True)
    held_there = [(frame - cut.start, pose) for frame, pose in held]
    begins, finishes = map(all, eased)
    begin, end = round(first * step / fps, 4), round(passage[1] / fps, 4)
    again = {"start": begin, "end": end, "part": part}
    made = results["metadata"][0]
    dances = []
    for index, row in enumerate(best):
        rotations, path, contacts = _meet(news[row], held_there, fps)
        if clean:
            cut_off = (not ends[0], not ends[1])
            rotations, path, *_ = clean_rotations(rotations, path, fps, floor, contacts, begins, finishes, cut_off)
        elif floor:
            path = ground_path(rotations, path, fps)
        half = None if part == "all" else part
        joined = put_passage(there, (rotations, path), *within, float(fps), half, clean)
        arrays = [whole.numpy().copy() for whole in (poses, translation)]
        for whole, piece in zip(arrays, joined, strict=True):
            whole[cut] = piece.numpy()
        metadata = _metadata(made, notes, again) | {"index": index}
        metadata["compute_seconds"] = round(time.perf_counter() - prepared["began"][0], 3)
        if likelihoods:
            metadata["log_likelihood"] = round(likelihoods[row], 4)
        metadata["codes"] = {
            name: stream[row].tolist() for name, stream in zip(BODY_PARTS, results["codes"], strict=True)
        }
        if entries := _held_entries(notes.get("hold", []), held, (begin, end), fps):
            metadata["hold"] = entries
        form = {"poses": arrays[0], "translation": arrays[1], "fps": fps, "genre": made["genre"], "metadata": metadata}
        dances.append(pipe._dance(form, song))
    return dances if num > 1 else dances[0]


class _New(NamedTuple):
    """Some frames of a dance: rotations [T, 24, 3, 3], path [T, 3], and the probabilities of contact [T, 2 or 4], if they are decoded."""

    rotations: torch.Tensor
    path: torch.Tensor
    contacts: torch.Tensor | None


@torch.no_grad()
def _decode(tokenizer: MegaDanceTokenizer, streams: Sequence[torch.Tensor], frames: int) -> list[_New]:
    """The dances of two streams of codes [dances, codes], on the CPU, beginning with the lowest joint at y = 0."""
    upper, lower = (stream.to(tokenizer.device) for stream in streams)
    decoded = tokenizer.decode(upper, lower, output_contacts=True)
    rotations, paths = motion_to_rotations(decoded.motion[:, :frames].float().cpu())
    lowest = forward_kinematics(rotations[:, 0], paths[:, 0])[..., 1].amin(-1)
    paths = paths - F.pad(lowest[:, None, None], (1, 1))
    contacts = [None] * len(paths) if decoded.contacts is None else decoded.contacts[:, :frames].float().cpu()
    return [_New(*new) for new in zip(rotations, paths, contacts, strict=True)]


@torch.no_grad()
def _meet(new: _New, held: Sequence[tuple[int, torch.Tensor]], fps: int) -> _New:
    """The dance that meets what is held, by the first of its frames."""
    if not held:
        return new
    poses = meet_poses(matrix_to_axis_angle(new.rotations), held, fps)
    return new._replace(rotations=axis_angle_to_matrix(poses))


def _was_eased(notes: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether a dance leaves a standing position, and comes to one; also where nothing is known of it."""
    report = notes.get("clean_up")
    if not isinstance(report, Mapping):
        return True, True
    return bool(report.get("entrance")), bool(report.get("ending"))


def _metadata(made: Mapping[str, Any], notes: Mapping[str, Any], again: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of the whole dance, whose `notes` stay; what was asked of the passage alone is told of the passage."""
    asked = {name: made[name] for name in ("prompt", "attributes") if name in made}
    others = {name: value for name, value in made.items() if name not in asked}
    metadata = {name: value for name, value in {**others, **notes}.items() if name not in ("hold", "log_likelihood")}
    return {**metadata, "redone": [*notes.get("redone", []), {**again, "seed": made["seed"], **asked}]}


def _place_in_passage(
    hold: Mapping[float | str, torch.Tensor], passage: tuple[int, int], frames: int, fps: int, step: int
) -> list[tuple[int, torch.Tensor]]:
    """First frame and poses of what is held in a passage, of a first frame and an end, and not where it passes over from the old dance."""
    held, (begin, end) = place_hold(hold, frames, fps, step), room_in_passage(*passage, frames, fps)
    for first, poses in held:
        if not begin <= first <= end - len(poses):
            raise DirectionError(
                f"hold has poses from {first / fps:.2f} to {(first + len(poses)) / fps:.2f} s: give some within {begin / fps:.2f} and "
                f"{end / fps:.2f} s, or a longer passage; it passes over from the rest of the dance within {FADE} s"
            )
    return held


def _held_entries(
    old: Sequence[Sequence[float]], held: Sequence[tuple[int, torch.Tensor]], passage: tuple[float, float], fps: int
) -> list[list[float]]:
    """What the metadata say of what is held: what was held outside the passage, and what is held now."""
    kept = [list(ends) for ends in old if ends[1] <= passage[0] or ends[0] >= passage[1]]
    return sorted(kept + held_seconds(held, fps))


def _attributes_again(pipe: "DancePipeline", old: Any, prompt: str | None, attributes: Any) -> Any:
    """What was asked of a dance, without what a prompt asks for anew, and with what is asked by number."""
    if not old or not isinstance(attributes, Mapping | None):
        return attributes
    found = None if prompt is None else pipe._read_prompt(prompt).directions
    named = set() if found is None else {*found.attributes, *(name for name, *_ in found.timed)}
    return {name: value for name, value in old.items() if name not in named} | dict(attributes or {})


def _codes_of(notes: Mapping[str, Any], frames: int, config: MegaDanceTokenizerConfig) -> torch.Tensor:
    """The codes of a dance of so many frames, [1, 2, codes], by its metadata."""
    codes, size = notes.get("codes"), config.codebook_size
    if not isinstance(codes, Mapping) or not set(BODY_PARTS) <= codes.keys():
        raise DirectionError(
            "dance has no codes in its metadata: give one as the pipeline made it, whole, or saved as .npz, .pkl or .json"
        )
    count = -(-frames // config.frames_per_code)
    rows = [codes[part] for part in BODY_PARTS]
    fits = all(
        isinstance(row, list) and len(row) == count and all(isinstance(code, int) and 0 <= code < size for code in row)
        for row in rows
    )
    if not fits:
        raise DirectionError(
            f"dance has codes that do not fit: give {count} of 0 to {size - 1} for each half of the body, or another dance"
        )
    return torch.tensor(rows)[None]


def _metadata_of(dance: Any) -> Mapping[str, Any]:
    metadata = dance.get("metadata") if isinstance(dance, Mapping) else getattr(dance, "metadata", None)
    return metadata if isinstance(metadata, Mapping) else {}
