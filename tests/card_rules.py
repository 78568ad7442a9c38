"""What the Hub checks in the metadata of a page, as far as its documentation says; its own checker answers only at its own address.

Where a rule is from: `hub-docs` `modelcard.md` and `datasetcard.md` (which fields, what model-index and configs need; license, datasets
and model-index are verified when a page is pushed), "Licenses" (identifiers; `other` with a name), "Spaces Configuration Reference",
"Dataset Cards" (size categories), `huggingface.js` `packages/tasks` (tasks). Identifiers are those documented at the time of
writing; the Hub knows newer ones as well.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml

LICENCES = frozenset(
    """apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m afl-3.0
    artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0
    cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
    cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0
    eupl-1.1 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-by odbl openrail++ osl-3.0
    postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license llama2 gemma unknown other""".split()
)
SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B")
# Those of sound, pictures in motion and bodies, and the one for all else: no page of ours is about the others.
TASKS = (
    "audio-to-audio",
    "audio-classification",
    "text-to-audio",
    "text-to-video",
    "image-to-3d",
    "text-to-3d",
    "other",
)
COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
SDKS = ("gradio", "streamlit", "docker", "static")
# "OWNER/NAME", or a name alone for the oldest repositories.
_ID = r"(?:[\w.-]{1,96}/)?[\w.-]{1,96}"
_TEXTS = (
    "title",
    "pretty_name",
    "library_name",
    "pipeline_tag",
    "license_name",
    "license_link",
    "short_description",
    "app_file",
)
_LISTS = ("tags", "task_categories", "size_categories", "datasets", "metrics", "models")


def card_errors(content: str, repo_type: str) -> list[str]:
    """What the Hub would object to in a page (`README.md`) of a "model", "dataset" or "space"."""
    match = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
    if match is None:
        return ["a space needs metadata"] if repo_type == "space" else []
    try:
        data = yaml.safe_load(match[1])
    except yaml.YAMLError as error:
        return [f"not YAML: {error}"]
    if not isinstance(data, dict):
        return ["metadata must be a mapping"]
    special = {"model": _model_errors, "dataset": _dataset_errors, "space": _space_errors}
    return [*_common_errors(data), *special[repo_type](data)]


def _common_errors(data: dict[str, Any]) -> Iterator[str]:
    for name in _TEXTS:
        if not isinstance(data.get(name, ""), str):
            yield f'"{name}" must be a string'
    for name in _LISTS:
        value = data.get(name, [])
        if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            yield f'"{name}" must be a list of strings'
    licences = data.get("license", [])
    for licence in licences if isinstance(licences, list) else [licences]:
        if licence not in LICENCES:
            yield f'"license" must be one of {sorted(LICENCES)}'
    if data.get("license") == "other" and not data.get("license_name"):
        yield '"license_name" is required with license: other'
    if not re.fullmatch(r"[a-z0-9-.]+", str(data.get("license_name", "x"))):
        yield '"license_name" must be of a-z, 0-9, - and .'
    link = str(data.get("license_link", "LICENSE"))
    if link not in ("LICENSE", "LICENSE.md") and not link.startswith("https://"):
        yield '"license_link" must be LICENSE, LICENSE.md or an address'
    languages = data.get("language", [])
    for language in languages if isinstance(languages, list) else [languages]:
        if not (isinstance(language, str) and re.fullmatch(r"[a-z]{2,3}|code|multilingual", language)):
            yield '"language" must be an ISO 639 code'
    for name in ("datasets", "models"):
        if not all(re.fullmatch(_ID, str(item)) for item in data.get(name) or []):
            yield f'"{name}" must hold ids of the Hub'


def _model_errors(data: dict[str, Any]) -> Iterator[str]:
    if data.get("pipeline_tag", "other") not in TASKS:
        yield f'"pipeline_tag" must be one of {TASKS}'
    index = data.get("model-index", [])
    if not isinstance(index, list):
        yield '"model-index" must be a list'
        return
    for number, model in enumerate(index):
        place = f'"model-index[{number}]'
        if not isinstance(model.get("name"), str) or not model.get("results"):
            yield f'{place}" needs a name and results'
        for result in model.get("results") or []:
            task, dataset = result.get("task") or {}, result.get("dataset") or {}
            if not task.get("type") or not (dataset.get("name") and dataset.get("type")):
                yield f'{place}.results" needs task.type, dataset.name, dataset.type'
            if not result.get("metrics"):
                yield f'{place}.results" needs metrics'
            for metric in result.get("metrics") or []:
                value = metric.get("value")
                if not metric.get("type") or isinstance(value, bool) or not isinstance(value, int | float):
                    yield f'{place}.results.metrics" need a type and a value that is a number'


def _dataset_errors(data: dict[str, Any]) -> Iterator[str]:
    if not set(data.get("size_categories", [])) <= set(SIZES):
        yield f'"size_categories" must be of {SIZES}'
    if not set(data.get("task_categories", [])) <= set(TASKS):
        yield f'"task_categories" must be of {TASKS}'
    names = [config.get("config_name") for config in data.get("configs", [])]
    if not all(names) or len(set(names)) < len(names):
        yield '"configs" need a config_name each'
    for config in data.get("configs", []):
        files = config.get("data_files")
        if not files or not all(file.get("split") and file.get("path") for file in files):
            yield '"configs" need data_files with split and path'
        elif len({file["split"] for file in files}) < len(files):
            yield '"configs" have a split twice'


def _space_errors(data: dict[str, Any]) -> Iterator[str]:
    if data.get("sdk") not in SDKS:
        yield f'"sdk" must be one of {SDKS}'
    for name in ("colorFrom", "colorTo"):
        if data.get(name, COLOURS[0]) not in COLOURS:
            yield f'"{name}" must be one of {COLOURS}'
    if re.search(r"[\w\s]", str(data.get("emoji", "\N{DANCER}"))):
        yield '"emoji" must be an emoji'
    if data.get("sdk") == "gradio" and not re.fullmatch(r"\d+\.\d+(\.\d+)?", str(data.get("sdk_version"))):
        yield '"sdk_version" must be a version'
    if not re.fullmatch(r"3\.\d+(\.\d+)?", str(data.get("python_version", "3.11"))):
        yield '"python_version" must be a version (in quotes: 3.10 is a number)'
    if data.get("sdk") != "docker" and not data.get("app_file"):
        yield '"app_file" is missing'
    if len(data.get("short_description", "")) > 60:
        yield '"short_description" must be at most 60 characters'
