"""Finding models and reading their configurations, without importing the networks, which takes seconds."""

import os
from pathlib import Path
from typing import Any

from transformers.configuration_utils import PreTrainedConfig

from .modeling.configuration_megadance import MegaDanceConfig
from .modeling.errors_megadance import ModelError, one_line
from .modeling.folders_megadance import CONFIG, check_config

PRETRAINED = Path(__file__).parent / "pretrained"  # the models that come with the package, a folder each
DEFAULT_MODEL = str(PRETRAINED / "ballroom")


def bundled_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in PRETRAINED.glob("*/config.json"))


def find_model(model: str | os.PathLike = DEFAULT_MODEL) -> str:
    """A bundled model's name, a folder or a Hub id -> what transformers' `from_pretrained` takes: a folder or a Hub id.

        AutoModelForCausalLM.from_pretrained(find_model())     # the bundled model
        AutoProcessor.from_pretrained(find_model("ballroom"))  # the same, by its name

    Raises:
        ModelError: it looks like a folder, and there is none.
    """
    name = os.fspath(model)
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return str(folder)
    if name in bundled_models():
        return str(PRETRAINED / name)
    if folder.is_file() or folder.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1 or " " in name:
        found = "is a file" if folder.is_file() else "is no folder here"
        raise ModelError(
            f"model={name!r} {found}, nor one of the bundled models ({', '.join(bundled_models()) or 'none'}): give the "
            "folder that holds config.json and model.safetensors, or a Hub id such as 'owner/name'"
        )
    return name


def load_config(model: str | os.PathLike = DEFAULT_MODEL, **hub: Any) -> MegaDanceConfig:
    """Configuration of a generator, without its weights. `hub`: `revision`, `token`, ... as for `from_pretrained`.

    Raises:
        ModelError: there is none, or it belongs to another kind of model.
    """
    source = find_model(model)
    with one_line(model):
        if os.path.isdir(source):
            if not Path(source, CONFIG).exists():
                raise ModelError(
                    f"model={os.fspath(model)!r} has no config.json: give a folder that a model was saved in"
                )
            return check_config(MegaDanceConfig, source)
        content, _ = PreTrainedConfig.get_config_dict(source, **hub)
        kind = content.get("model_type")
        if kind != MegaDanceConfig.model_type:
            raise ModelError(
                f"model={os.fspath(model)!r} is of type {kind!r}: give a {MegaDanceConfig.model_type!r} generator"
            )
        return MegaDanceConfig.from_pretrained(source, **hub)


# How texts name the arrangements of a `MegaDanceConfig`.
ARRANGEMENTS = {
    "paper": "as in the paper",
    "released_2025": "as in the authors' release of 2025",
    "released_2026": "as in the authors' release of 2026",
    "own": "unlike the paper and both releases of its authors",
}


def describe_arrangement(config: MegaDanceConfig) -> dict[str, str]:
    """The switches in which the paper and the authors' two releases differ, in words."""
    head = f"one softmax over {config.codebook_size} codes"
    if config.levels is not None:
        levels = ", ".join(map(str, config.levels))
        head = f"one softmax per level of the quantizer ({levels}), {config.level_decoding}"
    mamba = {"experts": "in every expert", "layers": "one per layer and stream, shared by all genres"}
    return {
        "arrangement": f"{config.arrangement}, {ARRANGEMENTS[config.arrangement]}",
        "code head": head,
        "Mamba": mamba[config.mamba_placement] if config.use_mamba else "none",
    }
