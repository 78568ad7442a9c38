"""A model's page on the Hub: what it is, how to use it, and the numbers of its evaluation."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData, hf_hub_url
from transformers.configuration_utils import PreTrainedConfig
from yaml import YAMLError

from megadance_hf.evaluation import reports
from megadance_hf.modeling.configuration_megadance import (
    MegaDanceClassifierConfig,
    MegaDanceConfig,
    MegaDanceTokenizerConfig,
)
from megadance_hf.modeling.remote_code_megadance import TASK
from megadance_hf.models import describe_arrangement

from . import handler
from .connection import HubError

GENERATED = "<!-- What follows is made by `megadance push`. -->"
PAPER = "[MEGADance](https://arxiv.org/abs/2505.17543), 2025"
KINDS = {
    MegaDanceConfig.model_type: "MEGADance generator: music and a genre in, 3D dance out",
    MegaDanceTokenizerConfig.model_type: "MEGADance motion tokenizer: SMPL motion to codes and back",
    MegaDanceClassifierConfig.model_type: "MEGADance genre classifier: SMPL motion to its dance genre",
}
# What a column of a table calls shorter.
MORE_TITLES = {"toe_90": "toe on the floor, 90 % m/s", "landings_moved": "landings on the beat, moved"}
SHORT_TITLES = {
    "toe_median": "toe on the floor, median",
    "toe_90": "toe on the floor, 90 %",
    "mean_speed": "mean speed",
    "pelvis_bob": "bob of the pelvis",
    "jerk": "jerk",
}
LIMITS = (
    "One dancer, 24 SMPL joints: no fingers, no face, no partner.",
    "Only the genres above; another name is an error.",
    "Dances are generated to the music, step by step: nobody has checked that they are safe to repeat.",
)


def model_card(
    config: PreTrainedConfig,
    *,
    repo: str | None = None,
    report: Mapping[str, Any] | None = None,
    licence: str | None = None,
    datasets: Sequence[str] = (),
    own: str | os.PathLike | None = None,
    sample: bool = False,
) -> ModelCard:
    """A model's page: what it is, how to use it, genres, data, licence, numbers as a model-index, limits.

    Args:
        config: of the model.
        repo, report, licence, datasets: see `save_for_hub`.
        own: `card` of `save_for_hub`.
        sample: whether there is a sample.mp4.

    Raises:
        HubError: `own` has metadata that cannot be read.
    """
    known, text = _own_card(own)
    title = (repo or f"{config.model_type}").rpartition("/")[2]
    data = {"library_name": "transformers", "pipeline_tag": "other", **known}
    data["tags"] = list(dict.fromkeys([*known.get("tags", []), TASK, "motion-generation", "smpl"]))
    data["license"] = licence or known.get("license", "other")
    if data["license"] == "other":
        data.setdefault("license_name", "unstated")
    if datasets:
        data["datasets"] = list(dict.fromkeys([*known.get("datasets", []), *datasets]))
    if report is not None:
        data.pop("model-index", None)
        data |= {"model_name": title, "eval_results": eval_results(config, report, datasets)}
    parts = [text, GENERATED] if text else [GENERATED, f"# {title}\n\n{KINDS[config.model_type]} ({PAPER})."]
    if sample:
        video = hf_hub_url(repo, "sample.mp4") if repo else "sample.mp4"
        parts.append(f'<video controls src="{video}"></video>\n\n![Moments of a dance](sample.png)')
    parts.append(_usage(config, repo or "OWNER/NAME"))
    if not text:
        parts.append(_about(config, data))
    if report is not None:
        parts += _results(config, report)
    if not text and isinstance(config, MegaDanceConfig):
        limits = [*_measured_limits(report), *LIMITS]
        parts.append("## Limits\n\n" + "\n".join(f"- {line}" for line in limits))
    page = "\n\n".join(parts)
    return ModelCard(f"---\n{ModelCardData(**data).to_yaml()}\n---\n\n{page}\n")


def _own_card(own: str | os.PathLike | None) -> tuple[dict[str, Any], str]:
    """Metadata and text of somebody's own page. What an earlier push generated below it is left out, and generated anew."""
    if own is None:
        return {}, ""
    try:
        page = ModelCard.load(own)
        return page.data.to_dict(), page.text.partition(GENERATED)[0].strip()
    except (OSError, ValueError, KeyError, TypeError, YAMLError) as error:
        raise HubError(f"card={os.fspath(own)!r} cannot be read ({' '.join(str(error).split())}): fix it") from error


def eval_results(config: PreTrainedConfig, report: Mapping[str, Any], datasets: Sequence[str] = ()) -> list[EvalResult]:
    """The numbers that an evaluation's report has for this kind of model.

    Raises:
        HubError: it has none.
    """
    settings = report["settings"]
    name = Path(str(settings["data"])).name  # not the path, which is private
    results = [
        EvalResult(
            task_type=TASK,
            task_name="Music to dance",
            dataset_type=datasets[0] if datasets else name,
            dataset_name=name,
            dataset_split="+".join(settings["splits"]),
            metric_type=key.lower(),
            metric_name=title,
            metric_value=float(value),
        )
        for key, title, value in _numbers(config, report)
        if value is not None and math.isfinite(value)
    ]
    if not results:
        raise HubError(f"report has no numbers of a {config.model_type!r}: evaluate with one, or leave the report out")
    return results


def _numbers(config: PreTrainedConfig, report: Mapping[str, Any]) -> list[tuple[str, str, float | None]]:
    """(name, title, value): a generator's metrics of the paper and of physics, a tokenizer's errors, a classifier's accuracy."""
    if isinstance(config, MegaDanceTokenizerConfig):
        numbers = [(key, title, report["tokenizer"][key]) for key, (title, _) in reports.TOKENIZER.items()]
        errors = report["tokenizer_errors"]["megadance"]
        return numbers + [(key, key.replace("_", " "), value) for key, value in errors.items()]
    if isinstance(config, MegaDanceClassifierConfig):
        scores = report["genres"].get("scores", {}).get("ground_truth", {})
        return [(key, f"{key} on real dances, %", scores.get(f"{key}_right")) for key in ("ACC", "F1")]
    rows = (row for table in report["tables"].values() for row in table["rows"] if row["row"] == "megadance")
    numbers = {key: value for row in rows for key, value in row["values"].items()}
    row = report["rows"]["megadance"]
    paper = [(key, key.replace("_", " "), value) for key, value in numbers.items()]
    titles = {key: title for key, (title, _) in {**reports.DANCES, **reports.PHYSICAL}.items()} | MORE_TITLES
    dances = [(key, title, row.get(key)) for key, title in titles.items()]  # an older report lacks some
    counts = [(f"dances_with_{name}", f"dances with {name}", n) for name, n in row.get("dances_with", {}).items()]
    worst = [
        (f"worst_{key}", f"worst dance: {title}", row.get("worst", {}).get(key))
        for key, (title, _) in reports.WORST_CASES.items()
    ]
    return paper + dances + counts + worst + _genre_numbers(report)


def _genre_numbers(report: Mapping[str, Any]) -> list[tuple[str, str, float | None]]:
    """Of each genre: landings and bar, and what is given as a share of the truth's."""
    numbers = []
    for genre, truth in report.get("genre_truth", {}).items():
        found = report["rows"]["megadance"]["by_genre"].get(genre)
        if found is None:
            continue
        for key in ("landings_on_beat", "bar"):
            numbers.append((f"{key}_{genre}", f"{genre}: {reports.OF_A_GENRE[key][0]}", found[key]))
        for key in reports.COMPARED_WITH_TRUTH:
            share = found[key] / truth[key] if found[key] is not None and truth[key] else None
            numbers.append((f"{key}_ratio_{genre}", f"{genre}: {SHORT_TITLES[key]}, of the truth's", share))
    return numbers


def _usage(config: PreTrainedConfig, repo: str) -> str:
    if not isinstance(config, MegaDanceConfig):
        return f"""## Use

```python
from transformers import AutoModel

model = AutoModel.from_pretrained("{repo}", trust_remote_code=True)
```"""
    genre = config.built_genres[0]
    return f"""## Use

With transformers, `soundfile`, `soxr` and `av` alone:

```python
from transformers import pipeline

pipe = pipeline("{TASK}", model="{repo}", trust_remote_code=True)
dance = pipe("song.mp3", genre="{genre}", seed=0)
dance["poses"], dance["translation"]  # (T, 24, 3) axis-angle of the SMPL joints; (T, 3) metres; 30 frames per second
```

Step by step:

```python
from transformers import AutoModelForCausalLM, AutoProcessor

processor = AutoProcessor.from_pretrained("{repo}", trust_remote_code=True)
model = AutoModelForCausalLM.from_pretrained("{repo}", trust_remote_code=True)
output = model.generate(**processor("song.mp3", genre="{genre}"), seed=0)
dance = processor.decode(output)
```

With megadance-hf installed, a dance can be saved as a video or in other formats:

```python
from megadance_hf import MusicToDancePipeline

dance = MusicToDancePipeline.from_pretrained("{repo}")("song.mp3", genre="{genre}", seed=0)
dance.save("dance.mp4", music="song.mp3")
```

`model_kwargs={{"active_genres": ["{genre}"]}}`, or `active_genres=` of `from_pretrained`, downloads one genre only.

An Inference Endpoint takes `{{"inputs": "<a sound file, base64>", "parameters": {{"genre": "{genre}"}}}}` and answers with
`{{"data": "<the file, base64>", ...}}`. Its parameters, for at most {handler.MAX_SECONDS:g} s of music and {handler.MAX_MEGABYTES:g} MB:

{handler.parameter_table(tuple(config.built_genres))}"""


def _about(config: PreTrainedConfig, data: Mapping[str, Any]) -> str:
    lines = []
    if genres := getattr(config, "built_genres", None) or getattr(config, "genres", None):
        lines.append(f"**Genres.** {', '.join(genres)}.")
    if isinstance(config, MegaDanceConfig):
        if config.attributes:
            lines.append(f"**Attributes** that a dance can be asked for. {', '.join(config.attributes)}.")
        arrangement, *switches = describe_arrangement(config).items()
        details = "; ".join(f"{name}: {value}" for name, value in switches)
        lines.append(f"**Arrangement.** {arrangement[1]} ({details}).")
    trained = ", ".join(f"[{name}](https://huggingface.co/datasets/{name})" for name in data.get("datasets", ()))
    lines.append(f"**Data.** {trained or 'Not stated'}.")
    licence = data["license"] if data["license"] != "other" else data["license_name"]
    lines.append(f"**Licence.** {licence}.")
    return "\n\n".join(lines)


def _results(config: PreTrainedConfig, report: Mapping[str, Any]) -> list[str]:
    settings = report["settings"]
    heading = (
        f"## Results\n\nOn `{Path(str(settings['data'])).name}` ({', '.join(settings['splits'])}), "
        f"{settings['protocol']['name']} protocol, {len(report['excerpts'])} excerpts, {settings['seeds']} dances to each."
    )
    if isinstance(config, MegaDanceConfig):
        tables = [reports.paper_table(number, table, report) for number, table in report["tables"].items()]
        tables.append(reports.physical_table(report))
        if "genre_truth" in report:  # an older report lacks it
            tables.append(reports.genre_tables(report))
    elif isinstance(config, MegaDanceTokenizerConfig):
        tables = [reports.tokenizer_table(report)]
    else:
        numbers = ", ".join(
            f"{title}: {value:.1f}" for _, title, value in _numbers(config, report) if value is not None
        )
        tables = [f"{numbers}."]
    return [heading, *(table.replace("## ", "### ", 1) for table in tables)]


def _measured_limits(report: Mapping[str, Any] | None) -> list[str]:
    if report is None:
        return ["Not measured yet."]
    row = report["rows"]["megadance"]
    sentences = {
        "toe_median": "A toe below 3 cm moves at {:.2f} m/s (median).",
        "foot_skating_ratio": "Feet skate in {:.0%} of the frames.",
        "foot_speed_on_floor": "A foot on the floor moves at {:.2f} m/s.",
        "frozen_share": "{:.0%} of the time is frozen.",
        "largest_step": "The largest step of a joint between two frames is {:.2f} m.",
    }
    lines = [text.format(row[name]) for name, text in sentences.items() if row.get(name) is not None]
    if counts := row.get("dances_with"):
        spins, jumps = counts["spins"], counts["jumps"]
        lines.append(f"Of {row['dances']} dances {spins} have a spin within a frame, and {jumps} a jump of a joint.")
    if "clean" in report["settings"]:
        lines.append(f"Measured {'after' if report['settings']['clean'] else 'before'} the clean-up.")
    return lines
