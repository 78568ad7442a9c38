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
    _refuse(generate_kwargs)
    old = _read_dance(pipe, dance)
    passage = _find_passage(old, between, part)
    held = [] if hold is None else _place_in_passage(read_hold(hold, pipe._check_start_motion), passage)
    known, mask = _known_codes(pipe.tokenizer, old.codes, passage, held)
    num = whole_number("num", num, 1, MOST_DANCES)
    candidates = whole_number("candidates", candidates, num, MOST_DANCES)
    use_one_thread(pipe.model, candidates)
    options = _options_of(pipe, old, song) | {
        "seed": seed,
        "candidates": candidates if candidates > 1 else None,
        "num": candidates,
        "sampling_rate": sampling_rate,
        "progress": progress,
        "prompt": prompt,
        "attributes": _attributes_again(pipe, old.notes.get("attributes"), prompt, attributes),
    }
    given = {name: value for name, value in options.items() if value is not None}
    preprocess, forward, postprocess = pipe._sanitize_parameters(**given, **generate_kwargs)
    prepared = pipe.preprocess(song, **preprocess)
    frames = prepared["inputs"]["num_frames"][0]
    if frames != len(old.poses):
        raise DirectionError(
            f"dance has {len(old.poses)} frames, but the song has {frames}: give the song that it was made to"
        )
    prepared["inputs"] |= {"known_codes": known, "known_mask": mask}
    results = pipe.forward(prepared, **forward, scored=passage.scored)
    use_one_thread(pipe.tokenizer, 1)
    news = _decode(pipe.tokenizer, [stream[:, passage.around] for stream in results["codes"]], passage)
    likelihoods = [] if results["likelihoods"] is None else results["likelihoods"][0].tolist()
    best = _rank(old, passage, news, likelihoods)[:num] if likelihoods else [0]
    made, again = results["metadata"][0], dict(zip(("start", "end"), passage.seconds, strict=True)) | {"part": part}
    held_there = [(frame - passage.cut.start, pose) for frame, pose in held]
    eases = _eases(old, passage, held, prepared["whole"][0])
    dances = []
    for index, row in enumerate(best):
        new = _meet(news[row], held_there, passage.fps)
        poses, translation = _join(old, new, passage, postprocess, eases)
        metadata = _metadata(made, old.notes, again) | {"index": index}
        metadata["compute_seconds"] = round(time.perf_counter() - prepared["began"][0], 3)
        if likelihoods:
            metadata["log_likelihood"] = round(likelihoods[row], 4)
        metadata["codes"] = {
            name: stream[row].tolist() for name, stream in zip(BODY_PARTS, results["codes"], strict=True)
        }
        if entries := _held_entries(old.notes.get("hold", []), held, passage):
            metadata["hold"] = entries
        form = {"poses": poses, "translation": translation, "fps": passage.fps, "genre": made["genre"]}
        dances.append(pipe._dance(form | {"metadata": metadata}, song))
    return dances if num > 1 else dances[0]


# --- what is asked ---------------------------------------------------------------------------------------------------


class _Old(NamedTuple):
    """A dance of which a passage is danced anew: poses [T, 24, 3], translation [T, 3], codes [1, 2, codes] and metadata."""

    poses: torch.Tensor
    translation: torch.Tensor
    codes: torch.Tensor
    notes: Mapping[str, Any]
    config: MegaDanceTokenizerConfig


class _Passage(NamedTuple):
    """Codes `first` to `last` - 1 of a dance of so many `codes` and `frames`, of all the body or a part of it."""

    first: int
    last: int
    part: str
    codes: int
    frames: int
    fps: int
    step: int  # frames of a code

    @property
    def ends(self) -> tuple[int, int]:
        """Its first frame, and the one after its last."""
        return self.first * self.step, min(self.last * self.step, self.frames)

    @property
    def seconds(self) -> tuple[float, float]:
        begin, end = self.ends
        return round(begin / self.fps, 4), round(end / self.fps, 4)

    @property
    def scored(self) -> tuple[int, int]:
        """The codes by which candidates are ranked."""
        return max(self.first, 1), min(self.last + _AFTER_PASSAGE, self.codes)

    @property
    def around(self) -> slice:
        """The codes that are made motion anew, so that the passage is as it would be within the whole dance."""
        return slice(max(self.first - _AROUND_PASSAGE, 0), min(self.last + _AROUND_PASSAGE, self.codes))

    @property
    def cut(self) -> slice:
        """Their frames."""
        return slice(self.around.start * self.step, min(self.around.stop * self.step, self.frames))

    @property
    def within(self) -> tuple[int, int]:
        """`ends` in these frames."""
        begin, end = self.ends
        return begin - self.cut.start, end - self.cut.start

    @property
    def at_ends(self) -> tuple[bool, bool]:
        """Whether these frames have the beginning, and the end, of the dance."""
        return self.around.start == 0, self.around.stop == self.codes


def _refuse(options: Mapping[str, Any]) -> None:
    """Raises ValueError for options of `generate()` that a redone passage cannot have."""
    for name in ("genre", "plan", "changes", "mode", "start_motion", "loop", "clean", "duration"):
        if name in options:
            raise ValueError(f"{name}: what is redone is danced as the dance was; leave it out")
    for name in (*LENGTH_OPTIONS, "stopping_criteria"):
        if options.get(name) is not None:
            raise ValueError(f"{name}: a passage is danced to its end; leave it out, or choose a shorter passage")


def _read_dance(pipe: "DancePipeline", dance: Any) -> _Old:
    arrays, config, notes = pipe._check_start_motion(dance, "dance"), pipe.tokenizer.config, _metadata_of(dance)
    poses, translation = (torch.from_numpy(np.array(arrays[name], np.float32)) for name in ("poses", "translation"))
    return _Old(poses, translation, _codes_of(notes, len(poses), config), notes, config)


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


def _find_passage(old: _Old, between: tuple[float, float], part: str) -> _Passage:
    """The passage `between` two seconds, whose ends are moved to the nearest beginning of a code."""
    if part not in ("all", *BODY_PARTS):
        raise DirectionError(f"part={part!r} is unknown: give one of all, {', '.join(BODY_PARTS)}")
    fps, step, codes, frames = old.config.fps, old.config.frames_per_code, old.codes.shape[2], len(old.poses)
    seconds = [
        real_number(name, value, "a second of the dance", lambda x: x >= 0)
        for name, value in zip(("start", "end"), between, strict=True)
    ]
    first, last = (min(round(second * fps / step), codes) for second in seconds)
    named = f"start={between[0]}, end={between[1]}"
    if first >= last:
        raise DirectionError(
            f"{named}: there is no code between them; the dance lasts {frames / fps:.2f} s, a code {step / fps:.2f} s"
        )
    if old.notes.get("loop") and (first == 0 or last == codes):
        inner = (codes - 1) * step / fps
        raise DirectionError(
            f"{named}: the dance ends where it begins; give a passage within {step / fps:.2f} and {inner:.2f} s"
        )
    return _Passage(first, last, part, codes, frames, fps, step)


def _known_codes(
    tokenizer: MegaDanceTokenizer, codes: torch.Tensor, passage: _Passage, held: Sequence[tuple[int, torch.Tensor]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """`known_codes` and `known_mask` of `generate()`: all that is outside the passage, and what is held in it."""
    known, mask = codes.clone(), torch.ones_like(codes, dtype=torch.bool)
    new_streams = [passage.part in ("all", name) for name in BODY_PARTS]
    mask[:, new_streams, passage.first : passage.last] = False
    for places, streams in encode_held(tokenizer, held):
        known[:, new_streams, places], mask[:, new_streams, places] = streams[:, new_streams], True
    return known, mask


def _options_of(pipe: "DancePipeline", old: _Old, song: Any) -> dict[str, Any]:
    """The options of the pipeline with which the dance was made."""
    notes = old.notes
    options = {
        "plan": notes.get("plan") or [(notes.get("genre") or pipe.genres[0], 0.0)],
        "mode": notes.get("mode"),
        "clean": "clean_up" in notes,
    }
    if not (isinstance(song, Mapping) and "input_features" in song):
        options |= {"start": notes.get("start", 0.0), "duration": len(old.poses) / old.config.fps}
    return options


def _place_in_passage(hold: Mapping[float | str, torch.Tensor], passage: _Passage) -> list[tuple[int, torch.Tensor]]:
    """First frame and poses of what is held in a passage, and not where it passes over from the old dance."""
    frames, fps = passage.frames, passage.fps
    held, (begin, end) = place_hold(hold, frames, fps, passage.step), room_in_passage(*passage.ends, frames, fps)
    for first, poses in held:
        if not begin <= first <= end - len(poses):
            raise DirectionError(
                f"hold has poses from {first / fps:.2f} to {(first + len(poses)) / fps:.2f} s: give some within {begin / fps:.2f} and "
                f"{end / fps:.2f} s, or a longer passage; it passes over from the rest of the dance within {FADE} s"
            )
    return held


def _attributes_again(pipe: "DancePipeline", old: Any, prompt: str | None, attributes: Any) -> Any:
    """What was asked of a dance, without what a prompt asks for anew, and with what is asked by number."""
    found = None if prompt is None else pipe._read_prompt(prompt).directions
    if found is not None and (found.genres or found.parts or found.not_genres):
        raise DirectionError(
            f"prompt={prompt!r} names genres: what is redone is danced as the dance was; leave them out"
        )
    if not old or not isinstance(attributes, Mapping | None):
        return attributes
    named = set() if found is None else {*found.attributes, *(name for name, *_ in found.timed)}
    return {name: value for name, value in old.items() if name not in named} | dict(attributes or {})


# --- what is made of it ----------------------------------------------------------------------------------------------


class _New(NamedTuple):
    """Some frames of a dance: rotations [T, 24, 3, 3], path [T, 3], and the probabilities of contact [T, 2 or 4], if they are decoded."""

    rotations: torch.Tensor
    path: torch.Tensor
    contacts: torch.Tensor | None


@torch.no_grad()
def _decode(tokenizer: MegaDanceTokenizer, streams: Sequence[torch.Tensor], passage: _Passage) -> list[_New]:
    """The dances around a passage of two streams of codes [dances, codes], on the CPU, beginning with the lowest joint at y = 0."""
    frames = passage.cut.stop - passage.cut.start
    upper, lower = (stream.to(tokenizer.device) for stream in streams)
    decoded = tokenizer.decode(upper, lower, output_contacts=True)
    rotations, paths = motion_to_rotations(decoded.motion[:, :frames].float().cpu())
    lowest = forward_kinematics(rotations[:, 0], paths[:, 0])[..., 1].amin(-1)
    paths = paths - F.pad(lowest[:, None, None], (1, 1))
    contacts = [None] * len(paths) if decoded.contacts is None else decoded.contacts[:, :frames].float().cpu()
    return [_New(*new) for new in zip(rotations, paths, contacts, strict=True)]


def _rank(old: _Old, passage: _Passage, news: Sequence[_New], likelihoods: Sequence[float]) -> list[int]:
    """Rows of candidates, the best first: likely codes, a mean log-likelihood each, and little to be led to where the dance goes on."""
    first, last = passage.scored
    ranks = torch.tensor(likelihoods, dtype=torch.double) * (last - first)
    if passage.part in ("all", ROOT_PART):
        there = (old.poses[passage.cut], old.translation[passage.cut])
        prices = [price_of_leading(there, new[:2], *passage.within, passage.fps) for new in news]
        ranks -= torch.tensor(prices, dtype=torch.double)
    return ranks.argsort(descending=True, stable=True).tolist()


@torch.no_grad()
def _meet(new: _New, held: Sequence[tuple[int, torch.Tensor]], fps: int) -> _New:
    """The dance that meets what is held, by the first of its frames."""
    if not held:
        return new
    poses = meet_poses(matrix_to_axis_angle(new.rotations), held, fps)
    return new._replace(rotations=axis_angle_to_matrix(poses))


def _join(
    old: _Old, new: _New, passage: _Passage, clean_up: Mapping[str, Any], eases: tuple[bool, bool]
) -> tuple[np.ndarray, np.ndarray]:
    """Poses and translation of the old dance with the passage of the new one, which is cleaned up as the old one was."""
    (rotations, path, contacts), fps = new, passage.fps
    clean, floor = clean_up["clean"], clean_up.get("floor", True)
    if clean:
        begins, ends = passage.at_ends
        rotations, path, *_ = clean_rotations(rotations, path, fps, floor, contacts, *eases, (not begins, not ends))
    elif floor:
        path = ground_path(rotations, path, fps)
    there = (old.poses[passage.cut], old.translation[passage.cut])
    part = None if passage.part == "all" else passage.part
    joined = put_passage(there, (rotations, path), *passage.within, float(fps), part, clean)
    poses, translation = old.poses.numpy().copy(), old.translation.numpy().copy()
    poses[passage.cut], translation[passage.cut] = (piece.numpy() for piece in joined)
    return poses, translation


def _eases(
    old: _Old, passage: _Passage, held: Sequence[tuple[int, torch.Tensor]], whole: tuple[bool, bool]
) -> tuple[bool, bool]:
    """Whether the new dance leaves a standing position, and comes to one, as the old one did."""
    free = free_ends(held, passage.frames, passage.fps)
    begins, ends = map(all, zip(whole, passage.at_ends, free, _was_eased(old.notes), strict=True))
    return begins, ends


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


def _held_entries(
    old: Sequence[Sequence[float]], held: Sequence[tuple[int, torch.Tensor]], passage: _Passage
) -> list[list[float]]:
    """What the metadata say of what is held: what was held outside the passage, and what is held now."""
    begin, end = passage.seconds
    kept = [list(ends) for ends in old if ends[1] <= begin or ends[0] >= end]
    return sorted(kept + held_seconds(held, passage.fps))
