"""A passage of a dance danced anew, while the rest stays as it is, to the last bit: `redo` of the pipeline.

Codes outside the passage are known to `generate()`. Of the new dance only the passage and a few codes around it are decoded and cleaned up,
and put into the old dance (`joining_megadance.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .arguments_megadance import MOST_DANCES, real_number, whole_number
from .configuration_megadance import MegaDanceTokenizerConfig
from .holds_megadance import encode_held, free_ends, held_seconds, place_hold, read_hold
from .joining_megadance import FADE, drift, put_passage
from .kinematics_megadance import BODY_PARTS, ROOT_PART, motion_to_poses
from .plans_megadance import DirectionError
from .threads_megadance import own_threads, use_one_thread

if TYPE_CHECKING:
    from .pipeline_megadance import DancePipeline

_AROUND_PASSAGE = 6  # codes before and after a passage that are decoded and cleaned up with it
_AFTER_PASSAGE = 8  # codes after it by which candidates are ranked, too
# Of a passage that is led elsewhere, per second: so much weighs as much as half a nat, and more as its square.
_USUAL_TURN, _USUAL_WAY = 0.15, 0.05  # radians, metres


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
    # frames of the dance that are made anew, so that the passage is as it would be within the whole
    begin, end = max(first - _AROUND_PASSAGE, 0), min(last + _AROUND_PASSAGE, known.shape[2])
    cut = slice(begin * step, min(end * step, frames))
    there = (poses[cut], translation[cut])
    passage = (passage[0] - cut.start, passage[1] - cut.start)
    leads = part in ("all", ROOT_PART)
    best = _best_passages(pipe, results, slice(begin, end), there, passage if leads else None, scored, num)
    codes = [stream[best] for stream in results["codes"]]
    cleaned = notes.get("clean_up")
    eased = [not isinstance(cleaned, Mapping) or bool(cleaned.get(name)) for name in ("entrance", "ending")]
    free = free_ends(held, frames, fps)
    whole = (
        prepared["whole"][0][0] and begin == 0 and eased[0] and free[0],
        prepared["whole"][0][1] and end == known.shape[2] and eased[1] and free[1],
    )
    if results["likelihoods"] is not None:
        results["likelihoods"] = [results["likelihoods"][0][best]]
    results |= {
        "inputs": {**results["inputs"], "num_frames": [len(there[0])]},
        "codes": [stream[:, begin:end] for stream in codes],
        "num_frames": torch.full((num,), len(there[0])),
        "whole": [whole],
        "held": [([(frame - cut.start, pose) for frame, pose in held], False)],
    }
    again = {"start": first * step / fps, "end": min(last * step, frames) / fps, "part": part}
    again = {name: round(value, 4) if isinstance(value, float) else value for name, value in again.items()}

    def put(dance: dict[str, Any]) -> dict[str, Any]:
        new = (torch.from_numpy(dance["poses"]), torch.from_numpy(dance["translation"]))
        half = None if part == "all" else part
        arrays = put_passage(there, new, *passage, float(fps), half, postprocess["clean"])
        whole_poses, whole_path = poses.numpy().copy(), translation.numpy().copy()
        whole_poses[cut], whole_path[cut] = (array.numpy() for array in arrays)
        made = dance["metadata"]
        metadata = {**made, **notes}
        metadata |= {name: made[name] for name in ("compute_seconds", "index")}
        metadata.pop("log_likelihood", None)
        metadata |= {name: made[name] for name in ("log_likelihood",) if name in made}
        metadata["codes"] = {
            name: stream[made["index"]].tolist() for name, stream in zip(BODY_PARTS, codes, strict=True)
        }
        # what was asked of the passage alone is told of the passage
        asked = {name: made[name] for name in ("prompt", "attributes") if name in made}
        metadata = {name: value for name, value in metadata.items() if name in notes or name not in asked}
        metadata.pop("hold", None)
        metadata |= _hold_notes(notes.get("hold", []), held, (again["start"], again["end"]), fps)
        metadata["redone"] = [*notes.get("redone", []), {**again, "seed": made["seed"], **asked}]
        return {**dance, "poses": whole_poses, "translation": whole_path, "metadata": metadata}

    return next(pipe._results(results, **postprocess, edit=put, cut=(begin > 0, end < known.shape[2])))


def _place_in_passage(
    hold: Mapping[float | str, torch.Tensor], passage: tuple[int, int], frames: int, fps: int, step: int
) -> list[tuple[int, torch.Tensor]]:
    """First frame and poses of what is held in a passage, of a first frame and an end, and not where it passes over from the old dance."""
    held, near = place_hold(hold, frames, fps, step), round(FADE * fps)
    begin, end = passage[0] + (near if passage[0] else 0), passage[1] - (near if passage[1] < frames else 0)
    for first, poses in held:
        if not begin <= first <= end - len(poses):
            raise DirectionError(
                f"hold has poses from {first / fps:.2f} to {(first + len(poses)) / fps:.2f} s: give some within {begin / fps:.2f} and "
                f"{end / fps:.2f} s, or a longer passage; it passes over from the rest of the dance within {FADE} s"
            )
    return held


def _hold_notes(
    old: Sequence[Sequence[float]], held: Sequence[tuple[int, torch.Tensor]], passage: tuple[float, float], fps: int
) -> dict[str, Any]:
    """What the metadata say of what is held, [[second, end], ...]: what was held outside the passage, and what is held now."""
    kept = [list(ends) for ends in old if ends[1] <= passage[0] or ends[0] >= passage[1]]
    entries = sorted(kept + held_seconds(held, fps))
    return {"hold": entries} if entries else {}


def _attributes_again(pipe: "DancePipeline", old: Any, prompt: str | None, attributes: Any) -> Any:
    """What was asked of a dance, without what a prompt asks for anew, and with what is asked by number."""
    if not old or not isinstance(attributes, Mapping | None):
        return attributes
    found = None if prompt is None else pipe._read_prompt(prompt).directions
    named = set() if found is None else {*found.attributes, *(name for name, *_ in found.timed)}
    return {name: value for name, value in old.items() if name not in named} | dict(attributes or {})


@torch.no_grad()
def _best_passages(
    pipe: "DancePipeline",
    results: dict[str, Any],
    codes: slice,
    old: tuple[torch.Tensor, torch.Tensor],
    passage: tuple[int, int] | None,
    scored: tuple[int, int],
    num: int,
) -> list[int]:
    """Rows of the `num` best of several dances that differ in a passage, the best first: likely, and led little.

    Args:
        codes, old: what is decoded, and the dance there. passage: first frame and end in it; None where nothing is led.
        scored: first and end of the codes that were scored.
    """
    rows = len(results["codes"][0])
    if rows == 1:
        return [0]
    scores = results["likelihoods"][0].double() * (scored[1] - scored[0])
    if passage is not None:
        motions = pipe.tokenizer.decode(*(stream[:, codes].to(pipe.device) for stream in results["codes"]))
        seconds = (passage[1] - passage[0]) / pipe.tokenizer.config.fps
        for row, motion in enumerate(motions.float().cpu()):
            new = motion_to_poses(motion[: len(old[0])])
            turn, way = (value / seconds for value in drift(old, new, *passage))
            scores[row] -= (turn / _USUAL_TURN) ** 2 / 2 + (way / _USUAL_WAY) ** 2 / 2
    return scores.argsort(descending=True, stable=True)[:num].tolist()


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
