"""What a repository of the Hub holds.

A generator's:

    config.json, generation_config.json                  with a flat auto_map
    model-shared.safetensors, model-genre_*.safetensors  one file per genre, and their index
    tokenizer/                                           the motion tokenizer
    preprocessor_config.json, processor_config.json
    *_megadance*.py                                      the code, so that nothing but transformers is needed
    handler.py, requirements.txt                         for Inference Endpoints
    README.md, sample.mp4, sample.png                    the card

A tokenizer's and a classifier's: config.json, model.safetensors, the code, the card.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from megadance_hf.modeling.audio_megadance import AudioSource, opened
from megadance_hf.modeling.configuration_megadance import MegaDanceConfig
from megadance_hf.modeling.errors_megadance import one_line, read_json, reading
from megadance_hf.modeling.files_megadance import readable_size, whole
from megadance_hf.modeling.loading_megadance import load_weights
from megadance_hf.modeling.modeling_megadance_classifier import MegaDanceForGenreClassification
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizer
from megadance_hf.pipeline import MusicToDancePipeline

from . import handler
from .card import KINDS, model_card
from .connection import HubError

Model = MusicToDancePipeline | MegaDanceTokenizer | MegaDanceForGenreClassification

CARD = "README.md"
SAMPLE_SECONDS = 8
SAMPLE_SIZE = (160, 240)  # pixels of each picture in sample.png
COMPOSED = "composed"
# What the handler needs beside torch and transformers, which an Endpoint has.
REQUIREMENTS = "soundfile>=0.13\nsoxr>=0.5\nav>=14\n"


def open_model(folder: str | os.PathLike) -> Model:
    """The model of a folder, whichever of the three kinds it is; of a generator, the pipeline with all its parts.

    Raises:
        HubError: no such model. ModelError: files are missing or broken.
    """
    kind = model_type_of(folder)
    if kind == MegaDanceConfig.model_type:
        return MusicToDancePipeline.from_pretrained(folder, device="cpu")
    is_tokenizer = kind == MegaDanceTokenizer.config_class.model_type
    cls = MegaDanceTokenizer if is_tokenizer else MegaDanceForGenreClassification
    with one_line(folder):
        return load_weights(cls, os.fspath(folder))


def model_type_of(folder: str | os.PathLike) -> str:
    """`model_type` of the configuration in a folder.

    Raises:
        HubError: it is none of this package's.
    """
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
        directory: new, or empty; all of it is written, or nothing.
        repo: "OWNER/NAME", for the addresses in the card.
        report: `report.json` of `megadance evaluate`, or its content: the card's numbers.
        song: a generator's sample, a video and pictures, is danced to it in the first genre; it must be free to share. `COMPOSED`
            composes one.
        licence: the Hub's name for it ("apache-2.0", "cc-by-nc-4.0", ...).
        datasets: Hub ids of the data sets that it was trained on.
        card: a page of your own; it is kept as it is, metadata and numbers are added.

    Returns:
        `directory`.

    Raises:
        HubError: not such a model, a directory that is not empty, a report or card that cannot be read.
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
    filmstrip(dance, folder / "sample.png", size=SAMPLE_SIZE)


def _read_report(report: str | os.PathLike | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if report is None or isinstance(report, Mapping):
        return report
    with reading(f"report={os.fspath(report)!r}", "give a report.json", HubError):
        content = json.loads(Path(report).read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not {"rows", "tables", "settings"} <= content.keys():
        raise HubError(f"report={os.fspath(report)!r} is no report of `megadance evaluate`: give its report.json")
    return content


def listing(folder: str | os.PathLike, repo: str, kind: str, private: bool | None = None) -> str:
    """What an upload of a folder would put where: a line for each file with its size, and the sum."""
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    sizes = [path.stat().st_size for path in files]
    names = [path.relative_to(folder).as_posix() for path in files]
    width = max(map(len, names), default=0)
    lines = [f"  {name:<{width}}  {readable_size(size)}" for name, size in zip(names, sizes, strict=True)]
    visibility = "" if private is None else " (private)" if private else " (public)"
    title = f"would upload to the {kind} repository {repo}{visibility}:"
    return "\n".join([title, *lines, f"  {len(files)} files, {readable_size(sum(sizes))}"])
