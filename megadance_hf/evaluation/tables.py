"""How the paper evaluates (section 4.1): which excerpts of which songs; and its Tables 1 to 4: what each needs, its rows and columns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from megadance_hf.data.clip import MIN_FRAMES
from megadance_hf.modeling.configuration_megadance import FRAMES_PER_CODE

TABLES = ("1", "2", "3", "4a", "4b")
# For each ablation: its table, whether a configuration has it, and what the configuration must say.
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
COMPARED = ("ground_truth", "other_song", "nearest_music", "frozen_pose", "tokenizer", "megadance")  # Tables 1 and 2
GENRE_COLUMNS = ("FID_s", "DIV_s", "ACC", "F1", "ACC_right", "F1_right", "ACC_forced", "F1_forced")  # Table 3
GENERATOR_COLUMNS = ("FID_k", "FID_g", "FID_s", "BAS")  # Table 4a
# Table 4b; the paper has the first four
TOKENIZER_COLUMNS = ("SMPL_MSE", "SMPL_MAE", "joint_MSE", "joint_MAE", "world_MSE", "world_MAE")


class EvaluationError(ValueError):
    """Something asked for cannot be evaluated; the message is one line with the argument, its value and the remedy."""


@dataclass(frozen=True)
class Protocol:
    """How a data set is evaluated.

    Attributes:
        name, table: of the data set, and of the paper's table that compares methods on it.
        clip_frames: frames of an excerpt, at 30 per second; a shorter song is taken whole.
        songs: at most this many songs, spread evenly over the split.
        columns: of that table.
        clip_stride: frames between the starts of a song's excerpts; None takes one, from the song's beginning, as section 4.1
            reads. The released code takes excerpts of 1024 frames every 512.
    """

    name: str
    table: str
    clip_frames: int
    songs: int
    columns: tuple[str, ...]
    clip_stride: int | None = None


PROTOCOLS = {
    "finedance": Protocol("finedance", "1", 1024, 20, ("FID_k", "FID_g", "FID_s", "DIV_k", "DIV_g", "DIV_s", "BAS")),
    # 1200 frames at 60 per second in the paper
    "aistpp": Protocol("aistpp", "2", 600, 40, ("FID_k", "FID_g", "DIV_g", "DIV_s", "BAS")),
}


def find_protocol(
    protocol: str | Protocol, clip_frames: int | None = None, clip_stride: int | None = None, songs: int | None = None
) -> Protocol:
    """A protocol by its name or as it is, with the other arguments instead of its own where they are not None.

    Raises:
        EvaluationError: no such protocol, or numbers that are impossible.
    """
    if isinstance(protocol, str):
        if protocol not in PROTOCOLS:
            raise EvaluationError(f"protocol={protocol!r} is none of {', '.join(PROTOCOLS)}")
        protocol = PROTOCOLS[protocol]
    changes = {"clip_frames": clip_frames, "clip_stride": clip_stride, "songs": songs}
    protocol = replace(protocol, **{name: value for name, value in changes.items() if value is not None})
    if protocol.clip_frames < MIN_FRAMES or protocol.clip_frames % FRAMES_PER_CODE:
        raise EvaluationError(
            f"clip_frames={protocol.clip_frames} must be a multiple of {FRAMES_PER_CODE}, {MIN_FRAMES} or more"
        )
    for name in ("clip_stride", "songs"):
        value = getattr(protocol, name)
        if value is not None and value < 1:
            raise EvaluationError(f"{name}={value} must be 1 or more")
    return protocol


def choose_tables(
    tables: Sequence[str] | None, protocol: Protocol, classifier: Any, ablations: Mapping[str, Any]
) -> list[str]:
    """The tables asked for, or all that can be made of what was given.

    Raises:
        EvaluationError: one that is asked for does not exist or cannot be made.
    """
    lacking = {}
    for table in ("1", "2"):
        if table != protocol.table:
            name = next(p.name for p in PROTOCOLS.values() if p.table == table)
            lacking[table] = f"it belongs to protocol={name!r}"
    if classifier is None:
        lacking["3"] = "it needs a genre classifier (--classifier), see examples/train_classifier.py"
    for table in ("4a", "4b"):
        names = ablations_of(table)
        if not set(names) & set(ablations):
            lacking[table] = f"it needs a model of at least one of {', '.join(names)} (--ablation NAME=DIR)"
    for table in tables or ():
        if table not in TABLES:
            raise EvaluationError(f"tables={table!r} is none of {', '.join(TABLES)}")
        if table in lacking:
            raise EvaluationError(f"tables={table!r} cannot be made: {lacking[table]}")
    return [table for table in TABLES if (table in tables if tables else table not in lacking)]


def ablations_of(table: str) -> list[str]:
    """Names of a table's ablations."""
    return [name for name, (home, *_) in ABLATIONS.items() if home == table]


def check_ablation(name: str, config: Any, model: Any) -> None:
    """Raise EvaluationError if the model's configuration is not that of the ablation."""
    _, holds, wanted = ABLATIONS[name]
    if not holds(config):
        raise EvaluationError(f"ablation {name}={str(model)!r} was not trained so: its configuration needs {wanted}")


def paper_tables(
    wanted: Sequence[str],
    protocol: Protocol,
    summaries: Mapping[str, dict[str, Any]],
    genre_scores: Mapping[str, Mapping[str, float]],
    tokenizer_errors: Mapping[str, dict[str, float]],
) -> dict[str, Any]:
    """Each table as the paper has it: title, columns, and rows of label and values (None: not measured).

    Args:
        wanted: numbers of the tables.
        summaries: for each row what `scores.summarize` gives.
        genre_scores: for each row of Table 3 ACC and F1.
        tokenizer_errors: for each row of Table 4b what `reconstruction.tokenizer_errors` gives.
    """

    def table(
        title: str, columns: Sequence[str], names: Sequence[str], values: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        rows = []
        for name in names:
            if name in values:
                label = "Ours" if name == "megadance" and title.startswith("Ablation") else LABELS[name]
                rows.append({"row": name, "label": label, "values": {c: values[name].get(c) for c in columns}})
        return {"title": title, "columns": list(columns), "rows": rows}

    made = {}
    for number in wanted:
        if number in ("1", "2"):
            made[number] = table(f"Comparison, {protocol.name} protocol", protocol.columns, COMPARED, summaries)
        elif number == "3":
            both = {name: {**summaries[name], **scores} for name, scores in genre_scores.items()}
            made[number] = table("Genre controllability", GENRE_COLUMNS, list(both), both)
        elif number == "4a":
            names = ["ground_truth", *ablations_of("4a"), "megadance"]
            made[number] = table("Ablation of the generator", GENERATOR_COLUMNS, names, summaries)
        else:
            names = [*ablations_of("4b"), "megadance"]
            made[number] = table("Ablation of the tokenizer", TOKENIZER_COLUMNS, names, tokenizer_errors)
    return made
