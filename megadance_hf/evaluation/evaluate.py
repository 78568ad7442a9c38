"""The paper's tables on any prepared data set (section 4), with baselines, physical numbers, and whether the music is used.

    evaluate("runs/generator", "prepared/ballroom", "finedance", classifier="runs/classifier").write("runs/report")

Excerpts of the test songs are danced by the model and by baselines that need no model; every dance is measured in the same
way. `synchrony.py` says how the use of the music is measured, `reports.py` writes tables and plots.

Where the released code and the paper leave things open: features of all three kinds are normalised by the reference set, as
the diversities of the paper's ground truth show (10.98, 7.45 and 6.07 lie just below the square root of twice 72, 32 and 20
columns, which is what normalised features give). Features that do not vary in the reference are left out and counted: the
released code divides their differences by 1e-10, which makes any FID astronomical when test songs are few.
"""

import platform
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
import transformers

from megadance_hf import __version__, metrics
from megadance_hf.data.clip import MIN_FRAMES, Clip, clip_motion
from megadance_hf.data.prepared import read_info, read_prepared
from megadance_hf.data.segments import SEGMENT_FRAMES
from megadance_hf.metrics.dance_features import geometric_features, kinetic_features
from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE, match_genre
from megadance_hf.modeling.kinematics_megadance import ROOT_SIZE, integrate_root_velocity, motion_to_joints
from megadance_hf.modeling.modeling_megadance_classifier import MegaDanceForGenreClassification, classifier_motion
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizer, codebook_utilization
from megadance_hf.modeling.progress_megadance import progress_bar
from megadance_hf.models import DEFAULT_MODEL, find_model
from megadance_hf.pipeline import MusicToDancePipeline
from megadance_hf.training.tasks import reconstruction_report

from . import synchrony
from .dances import (
    DANCES_AT_ONCE,
    Dance,
    Dancer,
    Excerpt,
    baselines,
    excerpts_of,
    measure_dance,
    own_music,
    wrong_genres,
    wrong_music,
)

# Below this a feature does not vary within the reference set: kinetic ones are m^2/s^2 and m/s^2, geometric ones shares.
SMALLEST_SPREAD = 1e-6


class EvaluationError(ValueError):
    """Something asked for cannot be evaluated; the message is one line with the argument, its value and the remedy."""


@dataclass(frozen=True)
class Protocol:
    """How a data set is evaluated.

    Attributes:
        name, table: of the data set, and of the paper's table that compares methods on it.
        clip_frames: frames of an excerpt, at 30 a second; a shorter song is taken whole.
        songs: at most so many songs, spread evenly over the split.
        columns: of that table.
        clip_stride: frames between excerpts of a song; None takes one, from the song's beginning, as section 4.1 reads.
            The released code takes excerpts of 1024 frames every 512.
    """

    name: str
    table: str
    clip_frames: int
    songs: int
    columns: tuple[str, ...]
    clip_stride: int | None = None


PROTOCOLS = {
    "finedance": Protocol("finedance", "1", 1024, 20, ("FID_k", "FID_g", "FID_s", "DIV_k", "DIV_g", "DIV_s", "BAS")),
    # 1200 frames at 60 a second in the paper
    "aistpp": Protocol("aistpp", "2", 600, 40, ("FID_k", "FID_g", "DIV_g", "DIV_s", "BAS")),
}

# What each ablation must have in its configuration, and of which table it is.
ABLATIONS: dict[str, tuple[str, Callable[[Any], bool], str]] = {
    "no_genre_experts": ("4a", lambda c: not c.use_genre_experts, "use_genre_experts=False"),
    "no_universal_experts": ("4a", lambda c: not c.use_universal_experts, "use_universal_experts=False"),
    "no_mamba": ("4a", lambda c: not c.use_mamba, "use_mamba=False"),
    "no_kinematic_loss": ("4b", lambda c: c.joint_loss_weight == 0, "joint_loss_weight=0"),
    "no_dynamic_loss": (
        "4b",
        lambda c: c.velocity_weight == 0 and c.acceleration_weight == 0,
        "velocity_weight=0 and acceleration_weight=0",
    ),
    "vq": ("4b", lambda c: c.quantizer == "vq", "quantizer='vq'"),
}
TABLES = ("1", "2", "3", "4a", "4b")
# of table 4b; the paper has the first four
TOKENIZER_COLUMNS = ("SMPL_MSE", "SMPL_MAE", "joint_MSE", "joint_MAE", "world_MSE", "world_MAE")


@dataclass
class Evaluation:
    """What was measured: `report` is all of it, as JSON can hold it."""

    report: dict[str, Any]

    def write(self, out: str | Path) -> list[Path]:
        """Write report.json, tables.md and plots to the folder `out`; returns the files."""
        from .reports import write_report

        return write_report(self.report, out)


# --- excerpts ------------------------------------------------------------------------------------------------------------


def _read(data: str | Path, splits: Sequence[str]) -> list[Clip]:
    try:
        return [clip for split in splits for clip in read_prepared(data, split)]
    except (FileNotFoundError, ValueError) as error:
        raise EvaluationError(f"data={str(data)!r}: {error}") from error


def _select(clips: list[Clip], count: int) -> list[Clip]:
    """At most `count`, evenly spread: a set that is sorted by genre keeps all its genres."""
    if len(clips) <= count:
        return clips
    return [clips[index] for index in np.linspace(0, len(clips) - 1, count).round().astype(int)]


# --- measures ------------------------------------------------------------------------------------------------------------


class _Features:
    """Kinetic, geometric and style rows of dances, and the genres the classifier sees in them."""

    def __init__(self, classifier: MegaDanceForGenreClassification | None):
        self.classifier = classifier

    @torch.no_grad()
    def __call__(self, dances: Sequence[Dance]) -> dict[str, np.ndarray]:
        """{"k": (N, 72), "g": (N, 32), "s": (N, outputs)}, "s" only with a classifier; dances of one length at once."""
        lengths: dict[int, list[int]] = defaultdict(list)
        for index, dance in enumerate(dances):
            lengths[len(dance.joints)].append(index)
        found: dict[str, list[Any]] = {name: [None] * len(dances) for name in self.kinds}
        for same in lengths.values():
            for first in range(0, len(same), DANCES_AT_ONCE):
                part = same[first : first + DANCES_AT_ONCE]
                joints = np.stack([dances[index].joints for index in part])
                rows = {"k": kinetic_features(joints), "g": geometric_features(joints)}
                if self.classifier is not None:
                    rows["s"] = self._style([dances[index] for index in part])
                for name, values in rows.items():
                    for index, value in zip(part, values, strict=True):
                        found[name][index] = value
        return {name: np.stack(values) for name, values in found.items()}

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("k", "g", "s") if self.classifier is not None else ("k", "g")

    def _style(self, dances: Sequence[Dance]) -> np.ndarray:
        poses = torch.from_numpy(np.stack([dance.poses for dance in dances]))
        path = np.stack([dance.translation for dance in dances])
        path = path - path[:, :1] * [1, 0, 1]  # as in training: it begins at x = z = 0
        motion = classifier_motion(poses, torch.from_numpy(path.astype(np.float32)))
        return self.classifier(motion.to(self.classifier.device)).logits.float().cpu().numpy()


@dataclass
class _Reference:
    """What FIDs compare with, and by what features are normalised."""

    rows: dict[str, np.ndarray]

    def __post_init__(self) -> None:
        self.varies = {name: rows.std(0) > SMALLEST_SPREAD for name, rows in self.rows.items()}
        self.normal = {name: self.normalize(name, rows) for name, rows in self.rows.items()}

    def normalize(self, name: str, rows: np.ndarray) -> np.ndarray:
        varies = self.varies[name]
        if len(self.rows[name]) < 2:
            return rows
        return metrics.normalize_features(rows[:, varies], self.rows[name][:, varies])

    def scores(self, features: Mapping[str, np.ndarray], seeds: np.ndarray) -> dict[str, float | None]:
        """FID and DIV of each kind: of each seed's dances by themselves, since both depend on how many there are; their mean."""
        result: dict[str, float | None] = {}
        for name, rows in features.items():
            normal = self.normalize(name, rows)
            parts = [normal[seeds == seed] for seed in np.unique(seeds)]
            enough = len(self.normal[name]) > 1 and self.varies[name].any() and min(map(len, parts)) > 1
            fids = [metrics.frechet_distance(part, self.normal[name]) for part in parts] if enough else []
            result[f"FID_{name}"] = float(np.mean(fids)) if enough else None
            result[f"FID_{name}_spread"] = float(np.std(fids)) if enough else None
            result[f"DIV_{name}"] = float(np.mean([metrics.diversity(part) for part in parts])) if enough else None
        return result


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [row[name] for row in rows if row[name] is not None]
    return float(np.mean(values)) if values else None


NUMBERS = (
    "foot_skating_ratio foot_speed_on_floor physical_foot_contact frozen_share mean_speed jerk largest_step bas_over_music "
    "bas_over_motion bas_over_music_known_beats bas_over_motion_known_beats"
).split()
MEASURES = ("beat_over_music", "beat_over_motion", "bar", "bar_of_the_song")


def _summary(rows: Sequence[dict[str, Any]], scores: Mapping[str, float | None]) -> dict[str, Any]:
    return {
        "dances": len(rows),
        **scores,
        "BAS": _mean(rows, "bas_over_music"),
        **{name: _mean(rows, name) for name in NUMBERS},
        "synchrony": {measure: synchrony.synchrony_tests(rows, measure) for measure in MEASURES},
        "by_genre": {genre: _genre_summary(rows, genre) for genre in sorted({row["genre"] for row in rows})},
    }


def _genre_summary(rows: Sequence[dict[str, Any]], genre: str) -> dict[str, Any]:
    own = [row for row in rows if row["genre"] == genre]
    bars = [row["bar"]["own"] for row in own if row["bar"] is not None]
    numbers = {name: _mean(own, name) for name in ("mean_speed", "jerk", "bas_over_music")}
    return {"dances": len(own), "bar": float(np.mean(bars)) if bars else None, **numbers}


# --- genres --------------------------------------------------------------------------------------------------------------


def _genre_scores(
    groups: Sequence[tuple[Sequence[Dance], np.ndarray]], genres: Sequence[str]
) -> tuple[dict[str, float], np.ndarray]:
    """ACC and F1 in percent, the mean over seeds, and the confusion (genres asked for, genres seen or none of them)."""
    confusion = np.zeros((len(genres), len(genres) + 1), dtype=int)
    answers: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for dances, style in groups:
        for dance, seen in zip(dances, style.argmax(1), strict=True):
            wanted = genres.index(dance.genre)
            answers[dance.seed].append((int(seen), wanted))
            confusion[wanted, min(int(seen), len(genres))] += 1
    pairs = [tuple(zip(*found, strict=True)) for found in answers.values()]
    scores = {
        "ACC": 100 * float(np.mean([metrics.genre_accuracy(*pair) for pair in pairs])),
        "F1": 100 * float(np.mean([metrics.genre_f1(*pair) for pair in pairs])),
    }
    return scores, confusion


# --- the tokenizer -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def tokenizer_errors(tokenizer: MegaDanceTokenizer, clips: Sequence[Clip]) -> dict[str, float]:
    """Table 4b: errors of reconstructed motion, over windows of 240 frames of whole clips.

    "SMPL" compares the 147 numbers a frame as the model gives them, not normalised: three of root velocity (metres a frame)
    and 24 x 6 of rotation. "joint" compares joint positions in metres with the pelvis at the origin: the released joint loss
    has it within millimetres of there. "world" compares them with each window's root path put together from the
    velocities, from where the root really is in its first frame: that is mostly how far the path has drifted.
    """
    sums, counts = np.zeros(len(TOKENIZER_COLUMNS)), np.zeros(len(TOKENIZER_COLUMNS))
    for clip in clips:
        frames = len(clip) // FRAMES_PER_CODE * FRAMES_PER_CODE
        motion = torch.from_numpy(clip_motion(clip)[:frames])
        codes = tokenizer.encode(motion[None].to(tokenizer.device))
        rebuilt = tokenizer.decode(codes.upper_codes, codes.lower_codes)[0].float().cpu()
        for first in range(0, frames, SEGMENT_FRAMES):
            start = torch.from_numpy(clip.translation[first])
            pieces = [whole[first : first + SEGMENT_FRAMES] for whole in (rebuilt, motion)]
            joints = [motion_to_joints(m, torch.zeros(len(m), 3)) for m in pieces]
            world = [motion_to_joints(m, integrate_root_velocity(m[:, :ROOT_SIZE], start)) for m in pieces]
            for column, (made, true) in enumerate((pieces, joints, world)):
                errors = metrics.reconstruction_errors(made.numpy(), true.numpy())
                sums[2 * column : 2 * column + 2] += np.array([errors["mse"], errors["mae"]]) * len(made)
                counts[2 * column : 2 * column + 2] += len(made)
    return dict(zip(TOKENIZER_COLUMNS, (sums / counts).tolist(), strict=True))


@torch.no_grad()
def _codes_used(tokenizer: MegaDanceTokenizer, clips: Sequence[Clip]) -> dict[str, float]:
    upper, lower = [], []
    for clip in clips:
        frames = len(clip) // FRAMES_PER_CODE * FRAMES_PER_CODE
        codes = tokenizer.encode(torch.from_numpy(clip_motion(clip)[None, :frames]).to(tokenizer.device))
        upper.append(codes.upper_codes[0])
        lower.append(codes.lower_codes[0])
    size = tokenizer.config.codebook_size
    return {
        "upper_codes_used_all_clips": codebook_utilization(torch.cat(upper), size),
        "lower_codes_used_all_clips": codebook_utilization(torch.cat(lower), size),
    }


def _tokenizer_report(tokenizer: MegaDanceTokenizer, clips: Sequence[Clip], every: Sequence[Clip]) -> dict[str, float]:
    with torch.no_grad():
        report = reconstruction_report(tokenizer, list(clips))
    report["joint_error"] = report.pop("score")
    return report | _codes_used(tokenizer, every)


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
    """Weights that the files lack are an error: transformers would only warn and invent them."""
    with _naming(argument, value, remedy):
        model, info = cls.from_pretrained(find_model(value), output_loading_info=True)
        if info["missing_keys"]:
            raise EvaluationError(f"{argument}={str(value)!r} lacks {len(info['missing_keys'])} weights: give {remedy}")
    return model.eval().to(device)


def _open_tokenizer(argument: str, value: Any, device: Any) -> MegaDanceTokenizer:
    remedy = "the folder of a trained tokenizer, or of a generator with its subfolder tokenizer"
    return _open(MegaDanceTokenizer, argument, value, remedy, device)


def _check_ablation(name: str, config: Any, value: Any) -> None:
    _, holds, wanted = ABLATIONS[name]
    if not holds(config):
        raise EvaluationError(f"ablation {name}={str(value)!r} was not trained so: its configuration needs {wanted}")


def _choose_tables(
    tables: Sequence[str] | None, protocol: Protocol, classifier: Any, ablations: Mapping[str, Any]
) -> list[str]:
    """Tables to make: those asked for, or all for which what they need was given."""
    lacking = {}
    for table in ("1", "2"):
        if table != protocol.table:
            name = next(p.name for p in PROTOCOLS.values() if p.table == table)
            lacking[table] = f"it belongs to protocol={name!r}"
    if classifier is None:
        lacking["3"] = "it needs a genre classifier (--classifier), see examples/train_classifier.py"
    for table in ("4a", "4b"):
        names = [name for name, (where, *_) in ABLATIONS.items() if where == table]
        if not set(names) & set(ablations):
            lacking[table] = f"it needs a model of at least one of {', '.join(names)} (--ablation NAME=DIR)"
    for table in tables or ():
        if table not in TABLES:
            raise EvaluationError(f"tables={table!r} is none of {', '.join(TABLES)}")
        if table in lacking:
            raise EvaluationError(f"tables={table!r} cannot be made: {lacking[table]}")
    return [table for table in TABLES if (table in tables if tables else table not in lacking)]


# --- the evaluation ------------------------------------------------------------------------------------------------------

LABELS = {
    "ground_truth": "ground truth",
    "other_song": "ground truth of another song",
    "nearest_music": "nearest music",
    "frozen_pose": "frozen pose",
    "tokenizer": "tokenizer",
    "megadance": "MEGADance",
    "shifted": "MEGADance, music shifted",
    "swapped": "MEGADance, another song's music",
    "zeroed": "MEGADance, no music",
    "no_genre_experts": "w/o SE",
    "no_universal_experts": "w/o UE",
    "no_mamba": "w/o Mamba",
    "no_kinematic_loss": "w/o Kin. Loss",
    "no_dynamic_loss": "w/o Dyn. Loss",
    "vq": "FSQ -> VQ-VAE",
}
COMPARED = ("ground_truth", "other_song", "nearest_music", "frozen_pose", "tokenizer", "megadance")
GENRE_COLUMNS = ("FID_s", "DIV_s", "ACC", "F1", "ACC_right", "F1_right", "ACC_forced", "F1_forced")


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
    clip_frames: int | None = None,
    clip_stride: int | None = None,
    songs: int | None = None,
    device: Any = None,
    progress: bool = False,
) -> Evaluation:
    """Measure a model on a prepared data set.

    Args:
        model: folder, Hub id or name of a generator with its tokenizer; or a pipeline.
        data: prepared folder. Songs are taken from `splits`; profiles of bars and retrieval use its training split.
        protocol: "finedance", "aistpp", or a `Protocol` of your own.
        tables: of `TABLES`; all for which there is what they need when None.
        classifier: a trained genre classifier, for style features and Table 3.
        ablations: names of `ABLATIONS` -> folder of a generator (4a) or tokenizer (4b).
        reference: what FIDs compare with: "test", the same excerpts' ground truth, as the zeros in the paper's ground truth
            rows show; or "all", excerpts of every split.
        splits: whose songs are danced to.
        seeds: dances to each song and genre.
        seed: of all randomness.
        clip_frames, clip_stride, songs: instead of the protocol's.
        device: see `MusicToDancePipeline.from_pretrained`.
        progress: show a progress bar.

    Raises:
        EvaluationError: an argument that cannot be used, a model that is not what it is given as, no songs.
        ModelError: the generator cannot be loaded.
    """
    protocol = _protocol(protocol, clip_frames, clip_stride, songs)
    for name, value, least in (("seeds", seeds, 1), ("seed", seed, 0)):
        if value < least:
            raise EvaluationError(f"{name}={value} must be {least} or more")
    if reference not in ("test", "all"):
        raise EvaluationError(f"reference={reference!r} is neither 'test' nor 'all'")
    ablations = dict(ablations or {})
    for name in ablations:
        if name not in ABLATIONS:
            raise EvaluationError(f"ablation {name!r} is none of {', '.join(ABLATIONS)}")
    wanted = _choose_tables(tables, protocol, classifier, ablations)
    ablations = {name: value for name, value in ablations.items() if ABLATIONS[name][0] in wanted}

    with _naming("data", data, "a prepared data set"):
        info = read_info(data)
    candidates = [clip for clip in _read(data, splits) if clip.paired and len(clip) >= MIN_FRAMES]
    if not candidates:
        raise EvaluationError(f"data={str(data)!r} has no clip with music in {', '.join(splits)}: give other splits")
    training = _read(data, ["train"]) if "train" in info["splits"] else []
    excerpts = excerpts_of(_select(candidates, protocol.songs), protocol.clip_frames, protocol.clip_stride)
    pipe = (
        model if isinstance(model, MusicToDancePipeline) else MusicToDancePipeline.from_pretrained(model, device=device)
    )
    _check_genres(excerpts, pipe, data)
    if classifier is not None and not isinstance(classifier, MegaDanceForGenreClassification):
        remedy = "the folder of a trained genre classifier"
        classifier = _open(MegaDanceForGenreClassification, "classifier", classifier, remedy, pipe.device)
    if classifier is not None:
        for item in excerpts:
            if item.clip.genre not in classifier.config.genres:
                raise EvaluationError(f"classifier does not know {item.clip.genre!r}, the genre of {item.clip.id}")
    generators, tokenizers = {"megadance": pipe}, {}
    for name, value in ablations.items():
        if ABLATIONS[name][0] == "4a":
            generators[name] = MusicToDancePipeline.from_pretrained(value, device=pipe.device)
            _check_ablation(name, generators[name].model.config, value)
            _check_genres(excerpts, generators[name], data)
        else:
            tokenizers[name] = _open_tokenizer(f"ablation {name}", value, pipe.device)
            _check_ablation(name, tokenizers[name].config, value)

    others = synchrony.other_songs([item.song for item in excerpts], [len(item.clip) for item in excerpts])
    rows, notes = baselines(pipe, excerpts, others, training)
    forced = wrong_genres(excerpts, _shared_genres(pipe, classifier), seed) if classifier is not None else []
    wrong = {c: wrong_music(excerpts, others, c, _music_mean(pipe)) for c in synchrony.MUSIC[1:]}
    wrong = {condition: wishes for condition, wishes in wrong.items() if wishes}
    forced_dances: dict[str, list[Dance]] = {}
    count = len(generators) * (len(excerpts) + len(forced)) + sum(map(len, wrong.values()))
    with progress_bar(
        total=count * seeds, unit="dance", desc="dancing", disable=not progress, dynamic_ncols=True
    ) as bar:
        for name, generator in generators.items():
            dancer = Dancer(generator, seeds, seed, bar.update)
            rows[name] = dancer("right", own_music(excerpts))
            forced_dances[name] = dancer("forced", forced)
        dancer = Dancer(pipe, seeds, seed, bar.update)
        for condition, wishes in wrong.items():
            rows[condition] = dancer(condition, wishes)

    features = _Features(classifier)
    style_names = list(classifier.config.genres) if classifier is not None else []
    every = _read(data, list(info["splits"])) if reference == "all" else []
    compared = _Reference(features(_reference_dances(every, protocol) if every else rows["ground_truth"]))
    profiles = synchrony.training_profiles(training)
    made: dict[str, dict[str, np.ndarray]] = {}
    measured: dict[str, list[dict[str, Any]]] = {}
    summaries: dict[str, dict[str, Any]] = {}
    for name, dances in progress_bar(
        rows.items(), unit="row", desc="measuring", disable=not progress, dynamic_ncols=True
    ):
        made[name] = features(dances)
        measured[name] = [measure_dance(dance, excerpts[dance.excerpt], profiles) for dance in dances]
        for row, style in zip(measured[name], made[name].get("s", ()), strict=False):
            row["genre_seen"] = [*style_names, "none"][min(int(style.argmax()), len(style_names))]
        scores = compared.scores(made[name], np.array([dance.seed for dance in dances]))
        if name == "other_song":  # the ground truth's own distribution, but for songs that stand in twice
            scores = dict.fromkeys(scores)
        summaries[name] = {"label": LABELS[name], **_summary(measured[name], scores)}

    genres = _genre_report(rows, made, forced_dances, features, style_names) if classifier is not None else {}
    songs_heard = list({item.song.id: item.song for item in excerpts}.values())
    partners = synchrony.other_songs(songs_heard, [len(song) for song in songs_heard])
    with progress_bar(
        total=len(songs_heard), unit="song", desc="listening", disable=not progress, dynamic_ncols=True
    ) as bar:
        losses = synchrony.cross_entropy(pipe.model, pipe.tokenizer, songs_heard, partners, bar.update)
    evaluated = _read(data, splits)
    errors = {
        name: tokenizer_errors(item, evaluated) for name, item in {"megadance": pipe.tokenizer, **tokenizers}.items()
    }

    notes += [
        f"{item.clip.id} ({len(item.clip)} frames) is shorter than {protocol.clip_frames} frames"
        for item in excerpts
        if len(item.clip) < protocol.clip_frames
    ]
    left_out = {name: int((~varies).sum()) for name, varies in compared.varies.items()}
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
        "reference": {"set": reference, "excerpts": len(compared.rows["k"]), "constant_features_left_out": left_out},
        "rows": summaries,
        "tables": _tables(wanted, protocol, summaries, genres, errors),
        "genres": genres,
        "tokenizer": _tokenizer_report(pipe.tokenizer, evaluated, _read(data, list(info["splits"]))),
        "tokenizer_errors": errors,
        "cross_entropy": losses,
        "against_wrong_music": {
            condition: {m: synchrony.against(measured["megadance"], measured[condition], m) for m in MEASURES}
            for condition in wrong
        },
        "bar_profiles": _mean_profiles(measured, excerpts, profiles),
        "dances": {name: [_without_profiles(row) for row in found] for name, found in measured.items()},
    }
    return Evaluation(report)


def _protocol(protocol: str | Protocol, frames: int | None, stride: int | None, songs: int | None) -> Protocol:
    if isinstance(protocol, str):
        if protocol not in PROTOCOLS:
            raise EvaluationError(f"protocol={protocol!r} is none of {', '.join(PROTOCOLS)}")
        protocol = PROTOCOLS[protocol]
    given = {"clip_frames": frames, "clip_stride": stride, "songs": songs}
    protocol = replace(protocol, **{name: value for name, value in given.items() if value is not None})
    if protocol.clip_frames < MIN_FRAMES or protocol.clip_frames % FRAMES_PER_CODE:
        raise EvaluationError(
            f"clip_frames={protocol.clip_frames} must be a multiple of {FRAMES_PER_CODE}, {MIN_FRAMES} or more"
        )
    for name in ("clip_stride", "songs"):
        value = getattr(protocol, name)
        if value is not None and value < 1:
            raise EvaluationError(f"{name}={value} must be 1 or more")
    return protocol


def _check_genres(excerpts: Sequence[Excerpt], pipe: MusicToDancePipeline, data: str | Path) -> None:
    for item in excerpts:
        if item.clip.genre is None:
            raise EvaluationError(f"data={str(data)!r}: clip {item.clip.id} has no genre: give another split")
        match_genre(item.clip.genre, pipe.genres)


def _shared_genres(pipe: MusicToDancePipeline, classifier: MegaDanceForGenreClassification) -> list[str]:
    return [genre for genre in pipe.genres if genre in classifier.config.genres]


def _music_mean(pipe: MusicToDancePipeline) -> np.ndarray:
    return pipe.model.model.music_mean.float().cpu().numpy()


def _reference_dances(clips: Sequence[Clip], protocol: Protocol) -> list[Dance]:
    excerpts = excerpts_of(clips, protocol.clip_frames, protocol.clip_stride or protocol.clip_frames)
    return [Dance(-1, item.clip.poses, item.clip.translation) for item in excerpts]


def _genre_report(
    rows: Mapping[str, list[Dance]],
    made: Mapping[str, dict[str, np.ndarray]],
    forced: Mapping[str, list[Dance]],
    features: _Features,
    genres: list[str],
) -> dict[str, Any]:
    """ACC and F1 of each row: with the right genre, with wrong ones, and over both as in the paper; confusions."""
    scores: dict[str, dict[str, float]] = {}
    confusions: dict[str, list[list[int]]] = {}
    for name in ("ground_truth", "nearest_music", "frozen_pose", "tokenizer", *forced):
        if not rows.get(name):
            continue
        right = (rows[name], made[name]["s"])
        parts = {"right": [right]}
        if forced.get(name):
            wrong = (forced[name], features(forced[name])["s"])
            parts |= {"forced": [wrong], "both": [right, wrong]}
        scores[name] = {}
        for part, groups in parts.items():
            found, confusion = _genre_scores(groups, genres)
            scores[name] |= {f"{key}_{part}": value for key, value in found.items()}
            confusions[f"{name}, {part}"] = confusion.tolist()
        for key in ("ACC", "F1"):
            scores[name][key] = scores[name].get(f"{key}_both", scores[name][f"{key}_right"])
    return {"names": genres, "scores": scores, "confusion": confusions}


def _tables(
    wanted: Sequence[str],
    protocol: Protocol,
    summaries: Mapping[str, dict[str, Any]],
    genres: Mapping[str, Any],
    errors: Mapping[str, dict[str, float]],
) -> dict[str, Any]:
    """Each table as the paper has it: columns, and rows of label and values (None: not measured)."""

    def table(
        title: str, columns: Sequence[str], names: Sequence[str], values: Mapping[str, Mapping[str, Any]]
    ) -> dict:
        rows = []
        for name in names:
            if name in values:
                label = "Ours" if name == "megadance" and title.startswith("Ablation") else LABELS[name]
                rows.append({"row": name, "label": label, "values": {c: values[name].get(c) for c in columns}})
        return {"title": title, "columns": list(columns), "rows": rows}

    generators = [name for name in ABLATIONS if ABLATIONS[name][0] == "4a"]
    tokenizers = [name for name in ABLATIONS if ABLATIONS[name][0] == "4b"]
    made = {}
    for number in wanted:
        if number in ("1", "2"):
            made[number] = table(f"Comparison, {protocol.name} protocol", protocol.columns, COMPARED, summaries)
        elif number == "3":
            both = {name: {**summaries[name], **scores} for name, scores in genres["scores"].items()}
            made[number] = table("Genre controllability", GENRE_COLUMNS, list(both), both)
        elif number == "4a":
            columns = ("FID_k", "FID_g", "FID_s", "BAS")
            names = ["ground_truth", *generators, "megadance"]
            made[number] = table("Ablation of the generator", columns, names, summaries)
        else:
            made[number] = table("Ablation of the tokenizer", TOKENIZER_COLUMNS, [*tokenizers, "megadance"], errors)
    return made


def _mean_profiles(
    measured: Mapping[str, list[dict[str, Any]]], excerpts: Sequence[Excerpt], profiles: Mapping[str, np.ndarray]
) -> dict[str, dict[str, list[float]]]:
    """For each genre of the songs the mean bar profile of its training clips, and of each row's dances."""
    genre_of = {item.clip.id: item.clip.genre for item in excerpts}
    result = {}
    for genre in sorted(set(genre_of.values()) & set(profiles)):
        found = {"training": profiles[genre].tolist()}
        for name, rows in measured.items():
            own = [row["bar"]["profile"] for row in rows if row["bar"] and genre_of[row["excerpt"]] == genre]
            if own:
                found[name] = np.mean(own, axis=0).tolist()
        result[genre] = found
    return result


def _without_profiles(row: Mapping[str, Any]) -> dict[str, Any]:
    short = {n: None if row[n] is None else {k: v for k, v in row[n].items() if k != "profile"} for n in MEASURES}
    return {**row, **short}
