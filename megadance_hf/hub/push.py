"""What a repository of the Hub holds, and the way there.

    save_for_hub(pipe, "folder", report="report.json")   # everything a repository holds, as a folder
    push_to_hub("runs/generator", "OWNER/NAME")          # the same, uploaded: `megadance push`

A generator's repository:

    config.json, generation_config.json                  with a flat auto_map
    model-shared.safetensors, model-genre_*.safetensors  one file a genre, and their index
    tokenizer/                                           the motion tokenizer
    preprocessor_config.json, processor_config.json
    *_megadance*.py                                      the code, so that nothing but transformers is needed
    handler.py, requirements.txt                         for Inference Endpoints
    README.md, sample.mp4, sample.png                    the card

A tokenizer's and a classifier's: config.json, model.safetensors, the code, the card.
"""

import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, HfApi, ModelCard, ModelCardData, hf_hub_url
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)
from huggingface_hub.utils import get_session, validate_repo_id
from torch import nn
from transformers.configuration_utils import PreTrainedConfig
from yaml import YAMLError

from megadance_hf.data.schema import iter_prepared, read_info
from megadance_hf.evaluation import reports
from megadance_hf.modeling.audio_megadance import AudioSource, opened
from megadance_hf.modeling.configuration_megadance import (
    MegaDanceClassifierConfig,
    MegaDanceConfig,
    MegaDanceTokenizerConfig,
)
from megadance_hf.modeling.errors_megadance import one_line, read_json, reading, reason_of
from megadance_hf.modeling.files_megadance import readable_size, scratch, whole
from megadance_hf.modeling.kinematics_megadance import NUM_JOINTS
from megadance_hf.modeling.modeling_megadance_classifier import MegaDanceForGenreClassification
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizer
from megadance_hf.modeling.pipeline_megadance import load_weights
from megadance_hf.modeling.remote_code_megadance import TASK
from megadance_hf.motion.motion import Motion
from megadance_hf.pipeline import MusicToDancePipeline

from . import handler
from .datasets import copy_for_hub, push_prepared

Model = MusicToDancePipeline | MegaDanceTokenizer | MegaDanceForGenreClassification

CARD = "README.md"
SAMPLE_SECONDS = 8
COMPOSED = "composed"
PICTURE = (160, 240)
# What the handler needs beside torch and transformers, which an Endpoint has.
REQUIREMENTS = "soundfile>=0.13\nsoxr>=0.5\nav>=14\n"
# Files of an earlier upload that would be in the way of the new ones: transformers reads model.safetensors rather than shards.
REPLACED = ["*.safetensors", "*.safetensors.index.json", "*_megadance*.py", "sample.*"]
# What else of a trained model's folder is worth showing.
KEPT = ("curves.png", "metrics.jsonl", "LICENSE")
MADE = "<!-- What follows is made by `megadance push`. -->"
PAPER = "[MEGADance](https://arxiv.org/abs/2505.17543), 2025"
KINDS = {
    MegaDanceConfig.model_type: "MEGADance generator: music and a genre in, 3D dance out",
    MegaDanceTokenizerConfig.model_type: "MEGADance motion tokenizer: SMPL motion to codes and back",
    MegaDanceClassifierConfig.model_type: "MEGADance genre classifier: SMPL motion to its dance genre",
}
LIMITS = (
    "One dancer, 24 SMPL joints: no fingers, no face, no partner.",
    "Only the genres above; another name is an error.",
    "Dances are made up to the music, step by step: nobody has checked that they are safe to repeat.",
)


class HubError(ValueError):
    """Something cannot be saved for or uploaded to the Hub; the message is one line with the value and the remedy."""


# --- what a repository holds ---------------------------------------------------------------------------------------


def open_model(folder: str | os.PathLike) -> Model:
    """The model of a folder, whichever of the three kinds it is; of a generator the pipeline with all its parts.

    Raises:
        HubError: no such model. ModelError: files are missing or broken.
    """
    kind = _kind_of(folder)
    if kind == MegaDanceConfig.model_type:
        return MusicToDancePipeline.from_pretrained(folder, device="cpu")
    (cls,) = (
        cls for cls in (MegaDanceTokenizer, MegaDanceForGenreClassification) if kind == cls.config_class.model_type
    )
    with one_line(folder):
        return load_weights(cls, os.fspath(folder))


def _kind_of(folder: str | os.PathLike) -> str:
    content: Mapping[str, Any] = {}
    if Path(folder, "config.json").is_file():
        with one_line(folder):
            content = read_json(Path(folder, "config.json"))
    kind = content.get("model_type")
    if kind not in KINDS:
        raise HubError(
            f"{os.fspath(folder)!r} holds no model of this package (model_type={kind!r}): give the folder of a trained or "
            "converted generator, tokenizer or classifier, or of a prepared data set"
        )
    return kind


def save_for_hub(
    model: Model,
    directory: str | os.PathLike,
    *,
    repo: str | None = None,
    report: str | os.PathLike | Mapping[str, Any] | None = None,
    song: AudioSource | None = None,
    licence: str | None = None,
    datasets: Sequence[str] = (),
    card: str | os.PathLike | None = None,
) -> Path:
    """Write a folder that is a repository of the Hub; see the top of this file.

    Args:
        model: a `MusicToDancePipeline` (generator, tokenizer, feature extractor), a tokenizer, or a classifier.
        directory: new, or empty; it appears whole or not at all.
        repo: "OWNER/NAME", for the addresses in the card.
        report: `report.json` of `megadance evaluate`, or what is in it: the card's numbers.
        song: of a generator a sample is danced to it, video and pictures, in the first genre; it must be free to be shared.
            `COMPOSED` makes one up.
        licence: the Hub's name of it ("apache-2.0", "cc-by-nc-4.0", ...).
        datasets: Hub ids of what it was trained on.
        card: a page of your own; it stays as it is, metadata and numbers are added.

    Returns:
        `directory`.

    Raises:
        HubError: not such a model, a directory that is in use, a report or card that cannot be read.
    """
    if not isinstance(model, Model):
        raise HubError(
            f"model of type {type(model).__name__} is not a whole model: give a MusicToDancePipeline (with generator, "
            "tokenizer and feature extractor), a MegaDanceTokenizer or a MegaDanceForGenreClassification"
        )
    directory = Path(directory)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise HubError(f"directory={str(directory)!r} is in use: give a new or an empty one")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with whole(directory, HubError) as folder:
        model.save_pretrained(folder)
        model.prepare_for_hub(folder)
        is_generator = isinstance(model, MusicToDancePipeline)
        if is_generator:
            shutil.copyfile(handler.__file__, folder / "handler.py")
            (folder / "requirements.txt").write_text(REQUIREMENTS, encoding="utf-8")
            if song is not None:
                _save_sample(model, song, folder)
        page = model_card(
            model.model.config if is_generator else model.config,
            repo=repo,
            report=_read_report(report),
            licence=licence,
            datasets=datasets,
            own=card,
            sample=is_generator and song is not None,
        )
        (folder / CARD).write_text(str(page), encoding="utf-8")
    return directory


def _save_sample(pipe: MusicToDancePipeline, song: AudioSource, folder: Path) -> None:
    from megadance_hf.render.video import filmstrip
    from megadance_hf.synthetic.composer import STYLES, compose

    if isinstance(song, str) and song == COMPOSED:
        style = {"style": pipe.genres[0]} if pipe.genres[0] in STYLES else {}
        song = (compose(SAMPLE_SECONDS, **style).render(), 44100)
    with opened(song) as sound:  # once: it may be a pipe
        dance = pipe(sound, seed=0, duration=SAMPLE_SECONDS)
        dance.save(folder / "sample.mp4", music=sound)
    filmstrip(dance, folder / "sample.png", size=PICTURE)


def _read_report(report: str | os.PathLike | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if report is None or isinstance(report, Mapping):
        return report
    with reading(f"report={os.fspath(report)!r}", "give a report.json", HubError):
        found = json.loads(Path(report).read_text(encoding="utf-8"))
    if not isinstance(found, dict) or not {"rows", "tables", "settings"} <= found.keys():
        raise HubError(f"report={os.fspath(report)!r} is no report of `megadance evaluate`: give its report.json")
    return found


# --- the card ------------------------------------------------------------------------------------------------------


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
        config: of the model. The others are those of `save_for_hub`; `sample`: whether there is sample.mp4.

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
    parts = [text, MADE] if text else [MADE, f"# {title}\n\n{KINDS[config.model_type]} ({PAPER})."]
    if sample:
        video = hf_hub_url(repo, "sample.mp4") if repo else "sample.mp4"
        parts.append(f'<video controls src="{video}"></video>\n\n![Moments of a dance](sample.png)')
    parts += _use(config, repo or "OWNER/NAME")
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
    """Metadata of a page, and what somebody wrote in it: a page that was made here and came back is made anew."""
    if own is None:
        return {}, ""
    try:
        page = ModelCard.load(own)
        return page.data.to_dict(), page.text.partition(MADE)[0].strip()
    except (OSError, ValueError, KeyError, TypeError, YAMLError) as error:
        raise HubError(f"card={os.fspath(own)!r} cannot be read ({' '.join(str(error).split())}): mend it") from error


def eval_results(config: PreTrainedConfig, report: Mapping[str, Any], datasets: Sequence[str] = ()) -> list[EvalResult]:
    """What an evaluation's report says about this kind of model, numbers only.

    Raises:
        HubError: it says nothing.
    """
    settings = report["settings"]
    name = Path(str(settings["data"])).name  # not the path: it is nobody's business
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
    """(name, title, value): of a generator the paper's tables and the dances themselves, of the others what they are for."""
    if isinstance(config, MegaDanceTokenizerConfig):
        numbers = [(key, title, report["tokenizer"][key]) for key, (title, _) in reports.TOKENIZER.items()]
        errors = report["tokenizer_errors"]["megadance"]
        return numbers + [(key, key.replace("_", " "), value) for key, value in errors.items()]
    if isinstance(config, MegaDanceClassifierConfig):
        scores = report["genres"].get("scores", {}).get("ground_truth", {})
        return [(key, f"{key} on real dances, %", scores.get(f"{key}_right")) for key in ("ACC", "F1")]
    numbers = {}
    for table in report["tables"].values():
        for row in table["rows"]:
            if row["row"] == "megadance":
                numbers |= row["values"]
    row = report["rows"]["megadance"]
    return [(key, key.replace("_", " "), value) for key, value in numbers.items()] + [
        (key, title, row[key]) for key, (title, _) in reports.PHYSICAL.items()
    ]


def _use(config: PreTrainedConfig, repo: str) -> list[str]:
    if isinstance(config, MegaDanceConfig):
        genre = config.built_genres[0]
        return [
            f"""## Use

With transformers, `soundfile`, `soxr` and `av` alone:

```python
from transformers import pipeline

pipe = pipeline("{TASK}", model="{repo}", trust_remote_code=True)
dance = pipe("song.mp3", genre="{genre}", seed=0)
dance["poses"], dance["translation"]  # (T, 24, 3) axis-angle of the SMPL joints; (T, 3) metres; 30 frames a second
```

Step by step:

```python
from transformers import AutoModel, AutoProcessor

processor = AutoProcessor.from_pretrained("{repo}", trust_remote_code=True)
model = AutoModel.from_pretrained("{repo}", trust_remote_code=True)
output = model.generate(**processor("song.mp3", genre="{genre}"), seed=0)
dance = processor.decode(output)
```

Where megadance-hf is installed, a dance saves itself:

```python
from megadance_hf import MusicToDancePipeline

dance = MusicToDancePipeline.from_pretrained("{repo}")("song.mp3", genre="{genre}", seed=0)
dance.save("dance.mp4", music="song.mp3")
```

`model_kwargs={{"active_genres": ["{genre}"]}}`, or `active_genres=` of `from_pretrained`, downloads one genre only.

An Inference Endpoint takes `{{"inputs": "<a sound file, base64>", "parameters": {{"genre": "{genre}"}}}}` and answers with
`{{"data": "<the file, base64>", ...}}`. Its parameters, for at most {handler.MAX_SECONDS:g} s of music and {handler.MAX_MEGABYTES:g} MB:

{handler.parameter_table(tuple(config.built_genres))}"""
        ]
    return [
        f"""## Use

```python
from transformers import AutoModel

model = AutoModel.from_pretrained("{repo}", trust_remote_code=True)
```"""
    ]


def _about(config: PreTrainedConfig, data: Mapping[str, Any]) -> str:
    lines = []
    if genres := getattr(config, "built_genres", None) or getattr(config, "genres", None):
        lines.append(f"**Genres.** {', '.join(genres)}.")
    trained = ", ".join(f"[{name}](https://huggingface.co/datasets/{name})" for name in data.get("datasets", ()))
    lines.append(f"**Data.** {trained or 'Not stated'}.")
    licence = data["license"] if data["license"] != "other" else data["license_name"]
    lines.append(f"**Licence.** {licence}.")
    return "\n\n".join(lines)


def _results(config: PreTrainedConfig, report: Mapping[str, Any]) -> list[str]:
    settings = report["settings"]
    said = (
        f"## Results\n\nOn `{Path(str(settings['data'])).name}` ({', '.join(settings['splits'])}), "
        f"{settings['protocol']['name']} protocol, {len(report['excerpts'])} excerpts, {settings['seeds']} dances to each."
    )
    if isinstance(config, MegaDanceConfig):
        tables = [reports.paper_table(number, table, report) for number, table in report["tables"].items()]
        tables.append(reports.physical_table(report))
    elif isinstance(config, MegaDanceTokenizerConfig):
        tables = [reports.tokenizer_table(report)]
    else:
        numbers = ", ".join(
            f"{title}: {value:.1f}" for _, title, value in _numbers(config, report) if value is not None
        )
        tables = [f"{numbers}."]
    return [said, *(table.replace("## ", "### ", 1) for table in tables)]


def _measured_limits(report: Mapping[str, Any] | None) -> list[str]:
    if report is None:
        return ["Not measured yet."]
    row = report["rows"]["megadance"]
    said = {
        "foot_skating_ratio": "Feet skate in {:.0%} of the frames.",
        "foot_speed_on_floor": "A foot on the floor moves at {:.2f} m/s.",
        "frozen_share": "{:.0%} of the time is frozen.",
        "largest_step": "The largest step of a joint between two frames is {:.2f} m.",
    }
    return [text.format(row[name]) for name, text in said.items() if row[name] is not None]


# --- the way there -------------------------------------------------------------------------------------------------


@contextmanager
def _refusals(repo: str) -> Iterator[None]:
    """What the Hub, or the way to it, refuses becomes a HubError of one line."""
    try:
        yield
    except HubError:
        raise
    except (HfHubHTTPError, HTTPError, HFValidationError, OfflineModeIsEnabled, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise HubError(f"repo={repo!r}: the Hub did not take it ({reason}); log in with `hf auth login`") from error


def check_hub(repo: str, token: str | bool | None = None) -> None:
    """Whether the Hub can be reached and knows who we are; for callers that want to know before anything slow.

    Raises:
        HubError: it cannot, or it does not, or there can be no repository of that name.
    """
    try:
        validate_repo_id(repo)
        api = HfApi(token=token)
        try:
            api.whoami()
        except LocalTokenNotFoundError:  # said before the network was asked
            get_session().get(f"{api.endpoint}/api/whoami-v2", timeout=20)
            raise
    except HFValidationError as error:
        raise HubError(f"repo={repo!r} is no name of a repository ({reason_of(error)}): give OWNER/NAME") from error
    except (HfHubHTTPError, LocalTokenNotFoundError) as error:
        raise HubError(
            f"repo={repo!r}: the Hub does not know you ({reason_of(error)}); log in with `hf auth login`"
        ) from error
    except (HTTPError, OfflineModeIsEnabled, OSError, RuntimeError) as error:
        raise HubError(
            f"repo={repo!r}: the Hub cannot be reached ({reason_of(error)}); nothing was done: connect this machine, and unset "
            "HF_HUB_OFFLINE where it is set"
        ) from error


def listing(folder: str | os.PathLike, repo: str, kind: str, private: bool | None = None) -> str:
    """What an upload of a folder would put where: a line a file with its size, and the sum."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    sizes = [path.stat().st_size for path in files]
    names = [path.relative_to(folder).as_posix() for path in files]
    width = max(map(len, names), default=0)
    lines = [f"  {name:<{width}}  {readable_size(size)}" for name, size in zip(names, sizes, strict=True)]
    seen = "" if private is None else " (private)" if private else " (public)"
    return "\n".join(
        [
            f"would upload to the {kind} repository {repo}{seen}:",
            *lines,
            f"  {len(files)} files, {readable_size(sum(sizes))}",
        ]
    )


def push_to_hub(
    model: Model | str | os.PathLike,
    repo: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    message: str = "Upload with megadance",
    dry_run: bool = False,
    **contents: Any,
) -> str:
    """Upload a model with all it needs, in one commit; its address.

    That the Hub can be reached is seen first, before the model is opened and danced with.

    Args:
        model: see `save_for_hub`; or its folder, whose README.md, report.json and curves go along.
        repo: "NAME" or "OWNER/NAME"; made when missing.
        private: of a repository that is made.
        revision: branch to push to, made when missing; "main" when None.
        token: of the Hub; that of `hf auth login` when None.
        message: of the commit.
        dry_run: upload nothing; what would be uploaded is returned as text.
        contents: `report`, `song`, `licence`, `datasets`, `card` of `save_for_hub`.

    Raises:
        HubError: the Hub refused, or what `save_for_hub` raises.
    """
    if isinstance(model, str | os.PathLike):
        _kind_of(model)
    if not dry_run:
        check_hub(repo, token)
    folder = None
    if isinstance(model, str | os.PathLike):
        folder, model = Path(model), open_model(model)
        for name, file in (("card", folder / CARD), ("report", folder / "report.json")):
            if contents.get(name) is None and file.is_file():
                contents[name] = file
    api, name = HfApi(token=token), repo
    if not dry_run:
        with _refusals(repo):
            address = api.create_repo(repo, private=private, exist_ok=True)
            name = address.repo_id
    with scratch() as temporary:
        target = save_for_hub(model, temporary / "repository", repo=name, **contents)
        for name in KEPT if folder is not None else ():
            if (folder / name).is_file():
                shutil.copyfile(folder / name, target / name)
        if dry_run:
            return listing(target, repo, "model", private)
        with _refusals(repo):
            if revision is not None:
                api.create_branch(address.repo_id, branch=revision, exist_ok=True)
            try:
                api.upload_folder(
                    repo_id=address.repo_id,
                    folder_path=target,
                    revision=revision,
                    commit_message=message,
                    delete_patterns=REPLACED,
                )
            except ValueError as error:  # the card's metadata
                raise HubError(f"repo={repo!r}: the Hub did not take it ({' '.join(str(error).split())})") from error
    return str(address)


def push_dataset(folder: str | os.PathLike, repo: str, dry_run: bool = False) -> str:
    """Upload a prepared data set with a sample of it, video and pictures, to a private repository; its address.

    What its licence does not let pass stays here: see `megadance_hf/hub/datasets.py`, whose errors these are. With `dry_run` nothing is
    uploaded; what would be is returned as text.

    Raises:
        HubError: the Hub cannot be reached. DataError: it refused, or this is no prepared data set.
    """
    from megadance_hf.render.video import filmstrip

    info = read_info(folder)
    if not dry_run:
        check_hub(repo)
    clip = next(iter_prepared(folder, audio=True))
    frames = round(SAMPLE_SECONDS * clip.fps)
    dance = Motion(clip.poses[:frames].reshape(-1, NUM_JOINTS, 3), clip.translation[:frames], clip.fps, clip.genre)
    with scratch() as temporary:
        video, pictures = temporary / "sample.mp4", temporary / "sample.png"
        dance.save(video, music=clip.audio if info.get("share_audio") else None)
        filmstrip(dance, pictures, size=PICTURE)
        if dry_run:
            files = temporary / "repository"
            files.mkdir()
            copy_for_hub(folder, files, repo, [video, pictures])
            return listing(files, repo, "data set", private=True)
        return push_prepared(folder, repo, samples=[video, pictures])


def push_while_training(
    repo: str, whole: Callable[[nn.Module], Model] | None = None, **hub: Any
) -> Callable[[nn.Module, int], None]:
    """What `train(..., sample=...)` calls to push what there is so far. A push that fails is told of and does not end a training.

    Args:
        repo: "OWNER/NAME".
        whole: from the model that is trained to what `push_to_hub` takes; the model itself when None.
        hub: `private`, `revision`, `token`, ... of `push_to_hub`.
    """

    def push(model: nn.Module, epoch: int) -> None:
        try:
            push_to_hub(model if whole is None else whole(model), repo, message=f"Training, epoch {epoch}", **hub)
        except HubError as error:
            logging.getLogger(__name__).warning("epoch %d was not pushed: %s", epoch, error)

    return push
