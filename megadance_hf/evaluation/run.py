"""Evaluate a model on a prepared data set (section 4 of the paper): the run, from data and models to the report.

    evaluate("runs/generator", "prepared/ballroom", "finedance", classifier="runs/classifier").write("runs/report")

The model and baselines that need no model dance to excerpts of the test songs; every dance is measured in the same way. The
other modules of this folder say how, `evaluation/__init__.py` which is which.
"""

import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
import transformers

from megadance_hf import __version__
from megadance_hf.data.clip import MIN_FRAMES, Clip
from megadance_hf.data.prepared import read_info, read_prepared
from megadance_hf.modeling.configuration_megadance import MegaDanceConfig
from megadance_hf.modeling.genres_megadance import match_genre
from megadance_hf.modeling.modeling_megadance_classifier import MegaDanceForGenreClassification
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizer
from megadance_hf.modeling.progress_megadance import progress_bar
from megadance_hf.models import DEFAULT_MODEL, find_model
from megadance_hf.pipeline import MusicToDancePipeline

from . import scores
from .baselines import baselines
from .cross_entropy import cross_entropy, music_mean
from .dances import (
    DANCES_AT_ONCE,
    MUSIC,
    Dance,
    Dancer,
    Excerpt,
    Request,
    evenly,
    excerpts_of,
    other_songs,
    own_music,
    wrong_genres,
    wrong_music,
)
from .obedience import attribute_requests, found_quantile, obedience
from .reconstruction import tokenizer_errors, tokenizer_report, training_motion
from .synchrony import compare_music, training_profiles
from .tables import (
    ABLATIONS,
    LABELS,
    EvaluationError,
    Protocol,
    check_ablation,
    choose_tables,
    find_protocol,
    paper_tables,
)

# Baselines in which training motion is looked for, beside the dances of generators; it takes a second per dance.
REPEATING = ("ground_truth", "nearest_music", "tokenizer")


@dataclass
class Evaluation:
    """What was measured: `report` is all of it, as JSON can hold it."""

    report: dict[str, Any]

    def write(self, out: str | Path) -> list[Path]:
        """Write report.json, tables.md and plots to the folder `out`; returns the files."""
        from .reports import write_report

        return write_report(self.report, out)


def evaluate(
    model: str | Path | MusicToDancePipeline = DEFAULT_MODEL,
    data: str | Path = "",
    protocol: str | Protocol = "finedance",
    *,
    tables: Sequence[str] | None = None,
    classifier: str | Path | MegaDanceForGenreClassification | None = None,
    ablations: Mapping[str, str | Path] | None = None,
    reference: str = "test",
    splits: Sequence[str] = ("test",),
    seeds: int = 3,
    seed: int = 0,
    clean: bool = False,
    clip_frames: int | None = None,
    clip_stride: int | None = None,
    songs: int | None = None,
    device: Any = None,
    progress: bool = False,
) -> Evaluation:
    """Measure a model on a prepared data set.

    Args:
        model: folder, Hub id or name of a generator with its tokenizer; or a pipeline.
        data: prepared folder. Songs are taken from `splits`; bar profiles and retrieval use its training split.
        protocol: "finedance", "aistpp", or a `Protocol` of your own.
        tables: of `tables.TABLES`; None makes all for which there is what they need.
        classifier: a trained genre classifier, for style features and Table 3.
        ablations: names of `tables.ABLATIONS` -> folder of a generator (4a) or tokenizer (4b).
        reference: what FIDs compare with: "test", the same excerpts' ground truth, as the zeros in the paper's ground truth
            rows show; or "all", excerpts of every split.
        splits: whose songs are danced to.
        seeds: number of dances to each song and genre.
        seed: of all randomness.
        clean: all tables are of the generated dances after the clean-up, which is part of the pipeline but not of the paper's
            protocol. Without it, only the tables that have both say what they are like then.
        clip_frames, clip_stride, songs: instead of the protocol's.
        device: see `MusicToDancePipeline.from_pretrained`.
        progress: show progress bars.

    Raises:
        EvaluationError: an argument that cannot be used, a model that is not what it is given as, no songs.
        ModelError: the generator cannot be loaded.
    """
    protocol = find_protocol(protocol, clip_frames, clip_stride, songs)
    for name, value, least in (("seeds", seeds, 1), ("seed", seed, 0)):
        if value < least:
            raise EvaluationError(f"{name}={value} must be {least} or more")
    if reference not in ("test", "all"):
        raise EvaluationError(f"reference={reference!r} is neither 'test' nor 'all'")
    ablations = dict(ablations or {})
    for name in ablations:
        if name not in ABLATIONS:
            raise EvaluationError(f"ablation {name!r} is none of {', '.join(ABLATIONS)}")
    wanted = choose_tables(tables, protocol, classifier, ablations)
    ablations = {name: value for name, value in ablations.items() if ABLATIONS[name][0] in wanted}

    def bar(total: int, unit: str, doing: str) -> Any:
        return progress_bar(total=total, unit=unit, desc=doing, disable=not progress, dynamic_ncols=True)

    # data and models
    with _naming("data", data, "a prepared data set"):
        info = read_info(data)
    evaluated = _read(data, splits)
    candidates = [clip for clip in evaluated if clip.paired and len(clip) >= MIN_FRAMES]
    if not candidates:
        raise EvaluationError(f"data={str(data)!r} has no clip with music in {', '.join(splits)}: give other splits")
    training = _read(data, ["train"]) if "train" in info["splits"] else []
    selected = evenly(candidates, protocol.songs)
    excerpts = excerpts_of(selected, protocol.clip_frames, protocol.clip_stride)
    if not excerpts:
        raise EvaluationError(
            f"data={str(data)!r}: every excerpt of {protocol.clip_frames} frames has a marked frame: give a smaller --clip-frames"
        )
    pipe = (
        model if isinstance(model, MusicToDancePipeline) else MusicToDancePipeline.from_pretrained(model, device=device)
    )
    _check_genres(excerpts, pipe, data)
    if classifier is not None:
        classifier = _open_classifier(classifier, excerpts, pipe.device)
    generators, tokenizers = {"megadance": pipe}, {}
    for name, value in ablations.items():
        if ABLATIONS[name][0] == "4a":
            generators[name] = MusicToDancePipeline.from_pretrained(value, device=pipe.device)
            check_ablation(name, generators[name].model.config, value)
            _check_genres(excerpts, generators[name], data)
        else:
            remedy = "the folder of a trained tokenizer, or of a generator with its subfolder tokenizer"
            tokenizers[name] = _open(MegaDanceTokenizer, f"ablation {name}", value, remedy, pipe.device)
            check_ablation(name, tokenizers[name].config, value)

    # dances
    others = other_songs([item.song for item in excerpts], [len(item.clip) for item in excerpts])
    rows, notes = baselines(pipe, excerpts, others, training)
    style_names = list(classifier.config.genres) if classifier is not None else []
    forced = wrong_genres(excerpts, [genre for genre in pipe.genres if genre in style_names], seed)
    wrong = {condition: wrong_music(excerpts, others, condition, music_mean(pipe.model)) for condition in MUSIC[1:]}
    wrong = {condition: requests for condition, requests in wrong.items() if requests}
    forced_dances: dict[str, list[Dance]] = {}
    asked = attribute_requests(excerpts, pipe.model.config)
    asked_dances: dict[str, list[Dance]] = {}
    count = len(generators) * (len(excerpts) + len(forced)) + sum(map(len, wrong.values()))
    with bar(count * seeds + sum(map(len, asked.values())), "dance", "dancing") as shown:
        for name, generator in generators.items():
            dancer = Dancer(generator, seeds, seed, shown.update)
            rows[name] = dancer("right", own_music(excerpts))
            forced_dances[name] = dancer("forced", forced)
        dancer = Dancer(pipe, seeds, seed, shown.update)
        for condition, requests in wrong.items():
            rows[condition] = dancer(condition, requests)
        dancer = Dancer(pipe, 1, seed, shown.update)
        for name, requests in asked.items():
            asked_dances[name] = dancer(name, requests)

    # the version that the tables are of, beside which some say both
    both = {name: _both_versions(dances) for name, dances in {**rows, "forced": forced_dances["megadance"]}.items()}
    if clean:
        rows, forced_dances = (
            {name: [_generated_cleaned(dance) for dance in dances] for name, dances in made.items()}
            for made in (rows, forced_dances)
        )
        asked_dances = {name: [_generated_cleaned(dance) for dance in dances] for name, dances in asked_dances.items()}

    # numbers
    features_of = scores.DanceFeatures(classifier)
    all_clips = _read(data, list(info["splits"]))
    compared = scores.ReferenceSet(
        features_of(_reference_dances(all_clips, protocol) if reference == "all" else rows["ground_truth"])
    )
    profiles = training_profiles(training)
    captured, coded, codes = training_motion(pipe.tokenizer, training) if training else (None, None, [])
    features: dict[str, dict[str, np.ndarray]] = {}
    measured: dict[str, list[dict[str, Any]]] = {}
    summaries: dict[str, dict[str, Any]] = {}

    def measure(dances: list[Dance], known: tuple[Any, Any] = (None, None), raw: Any = None) -> list[dict[str, Any]]:
        return [
            scores.measure_dance(dance, excerpts[dance.excerpt], profiles, known[dance.codes is not None], decoded)
            for dance, decoded in zip(dances, raw or dances, strict=True)
        ]

    with bar(len(rows), "row", "measuring") as shown:
        for name, dances in rows.items():
            features[name] = features_of(dances)
            seen = (captured, coded) if name in (*REPEATING, *generators) else (None, None)
            measured[name] = measure(dances, seen, both[name].get("raw"))
            for row, style in zip(measured[name], features[name].get("s", ()), strict=False):
                row["genre_seen"] = [*style_names, "none"][min(int(style.argmax()), len(style_names))]
            distances = compared.scores(features[name], np.array([dance.seed for dance in dances]))
            if name == "other_song":  # the ground truth's own distribution, but for songs that stand in twice
                distances = dict.fromkeys(distances)
            summaries[name] = {"label": LABELS[name], **scores.summarize(measured[name], distances)}
            summaries[name]["codes_in_use"] = scores.codes_in_use(dances, codes)
            summaries[name]["versions"] = {}
            for version, others in both[name].items():
                if others[0] is dances[0]:  # measured already
                    found, seen = measured[name], features[name]
                else:
                    found, seen = measure(others), features_of(others)
                distances = compared.scores(seen, np.array([dance.seed for dance in others]))
                summaries[name]["versions"][version] = scores.summarize_version(found, distances)
            shown.update()
    forced_summary = {
        version: scores.summarize_version(measure(dances), {}) for version, dances in both["forced"].items() if dances
    }
    names = list(dict.fromkeys([*pipe.genres, *(item.clip.genre for item in excerpts)]))  # may differ in case
    truth = scores.genre_truth(measured["ground_truth"], (evaluated, training), names, protocol.clip_frames)
    genres = (
        scores.genre_report(rows, features, forced_dances, features_of, style_names) if classifier is not None else {}
    )
    obeyed = _obedience(asked, asked_dances, pipe.model.config)
    if obeyed and classifier is not None:
        for name, dances in asked_dances.items():
            obeyed[name]["genre_recognised"] = scores.genre_recognised(dances, features_of(dances)["s"], style_names)
    whole_songs = list({item.song.id: item.song for item in excerpts}.values())
    partners = other_songs(whole_songs, [len(song) for song in whole_songs])
    with bar(len(whole_songs), "song", "listening") as shown:
        losses = cross_entropy(pipe.model, pipe.tokenizer, whole_songs, partners, shown.update)
    errors = {
        name: tokenizer_errors(item, evaluated) for name, item in {"megadance": pipe.tokenizer, **tokenizers}.items()
    }

    left_out = [
        clip.id for clip in selected if clip.marked_frames and clip.id not in {item.song.id for item in excerpts}
    ]
    notes += [f"{name} has a marked frame in every excerpt, and is left out" for name in left_out]
    notes += [
        f"{item.clip.id} ({len(item.clip)} frames) is shorter than {protocol.clip_frames} frames"
        for item in excerpts
        if len(item.clip) < protocol.clip_frames
    ]
    report = {
        "settings": {
            "model": str(pipe.model.name_or_path) if model is pipe else str(model),
            "data": str(data),
            "protocol": asdict(protocol) | {"columns": list(protocol.columns)},
            "tables": wanted,
            "classifier": None if classifier is None else str(classifier.name_or_path),
            "ablations": {name: str(value) for name, value in ablations.items()},
            "reference": reference,
            "splits": list(splits),
            "seeds": seeds,
            "clean": clean,
            "seed": seed,
            "dances_at_once": DANCES_AT_ONCE,
            "device": str(pipe.device),
            "generation": pipe.model.generation_config.to_diff_dict() | {"start_codes": "the model's own"},
        },
        "versions": {
            "megadance_hf": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
        "notes": list(dict.fromkeys(notes)),
        "excerpts": [
            {"id": i.clip.id, "song": i.song.id, "start": i.start, "frames": len(i.clip), "genre": i.clip.genre}
            for i in excerpts
        ],
        "reference": {
            "set": reference,
            "excerpts": len(compared.rows["k"]),
            "constant_features_left_out": {name: int((~varies).sum()) for name, varies in compared.varies.items()},
        },
        "rows": summaries,
        "tables": paper_tables(wanted, protocol, summaries, genres.get("scores", {}), errors),
        "genres": genres,
        "genre_truth": truth,
        "forced": forced_summary,
        "attributes": obeyed,
        "tokenizer": tokenizer_report(pipe.tokenizer, evaluated, all_clips),
        "tokenizer_errors": errors,
        "cross_entropy": losses,
        "against_wrong_music": {
            condition: {m: compare_music(measured["megadance"], measured[condition], m) for m in scores.MEASURES}
            for condition in wrong
        },
        "bar_profiles": scores.mean_profiles(measured, excerpts, profiles),
        "dances": {name: [scores.without_profiles(row) for row in numbers] for name, numbers in measured.items()},
    }
    return Evaluation(report)


def _obedience(
    asked: Mapping[str, Sequence[Request]], dances: Mapping[str, Sequence[Dance]], config: MegaDanceConfig
) -> dict[str, dict[str, Any]]:
    """For each attribute what was asked against what is found; `dances` are those to the requests, in their order."""
    result = {}
    for name, requests in asked.items():
        column = config.attributes.index(name)
        levels = [request.attributes[column] for request in requests]
        found = [found_quantile(dance, name, config) for dance in dances[name]]
        result[name] = obedience(levels, found, [request.genre for request in requests])
    return result


# --- before and after the clean-up ---------------------------------------------------------------------------------------


def _both_versions(dances: Sequence[Dance]) -> dict[str, list[Dance]]:
    """Dances as they are ("raw") and after the clean-up ("cleaned"); nothing where there is no such version."""
    if any(dance.cleaned is None for dance in dances):
        return {}
    return {"raw": list(dances), "cleaned": [dance.cleaned for dance in dances]}


def _generated_cleaned(dance: Dance) -> Dance:
    """A dance that was decoded from codes after the clean-up; captured motion as it is."""
    return dance if dance.codes is None else dance.cleaned


# --- excerpts ------------------------------------------------------------------------------------------------------------


def _read(data: str | Path, splits: Sequence[str]) -> list[Clip]:
    try:
        return [clip for split in splits for clip in read_prepared(data, split)]
    except (FileNotFoundError, ValueError) as error:
        raise EvaluationError(f"data={str(data)!r}: {error}") from error


def _reference_dances(clips: Sequence[Clip], protocol: Protocol) -> list[Dance]:
    excerpts = excerpts_of(clips, protocol.clip_frames, protocol.clip_stride or protocol.clip_frames)
    return [Dance(-1, item.clip.poses, item.clip.translation) for item in excerpts]


def _check_genres(excerpts: Sequence[Excerpt], pipe: MusicToDancePipeline, data: str | Path) -> None:
    for item in excerpts:
        if item.clip.genre is None:
            raise EvaluationError(f"data={str(data)!r}: clip {item.clip.id} has no genre: give another split")
        match_genre(item.clip.genre, pipe.genres)


# --- opening models ------------------------------------------------------------------------------------------------------


@contextmanager
def _naming(argument: str, value: Any, remedy: str) -> Iterator[None]:
    try:
        yield
    except EvaluationError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise EvaluationError(f"{argument}={str(value)!r} cannot be loaded ({reason}): give {remedy}") from error


def _open(cls: type, argument: str, value: Any, remedy: str, device: Any) -> Any:
    """Missing weights are an error: transformers would only warn and initialise them at random."""
    with _naming(argument, value, remedy):
        model, info = cls.from_pretrained(find_model(value), output_loading_info=True)
        if info["missing_keys"]:
            raise EvaluationError(f"{argument}={str(value)!r} lacks {len(info['missing_keys'])} weights: give {remedy}")
    return model.eval().to(device)


def _open_classifier(classifier: Any, excerpts: Sequence[Excerpt], device: Any) -> MegaDanceForGenreClassification:
    if not isinstance(classifier, MegaDanceForGenreClassification):
        remedy = "the folder of a trained genre classifier"
        classifier = _open(MegaDanceForGenreClassification, "classifier", classifier, remedy, device)
    for item in excerpts:
        if item.clip.genre not in classifier.config.genres:
            raise EvaluationError(f"classifier does not know {item.clip.genre!r}, the genre of {item.clip.id}")
    return classifier
