"""Checks of a model's folder before it is loaded, so that damaged files cost no memory and no time, and the error names the file.

transformers trusts what it reads: a configuration without a number of heads gets the default and dances differently, an unreadable
`generation_config.json` is skipped silently, a billion layers are built until the memory is full, and NaN loads like any weight.
The checks: JSON files are objects, the configuration is complete and in range, the weights are those it asks for, and finite.
"""

import os
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, cast

import torch

# transformers has no public function that reads the shapes in a file without its tensors
from safetensors import safe_open
from torch import nn
from transformers.configuration_utils import PreTrainedConfig
from transformers.generation.configuration_utils import GenerationConfig
from transformers.modeling_utils import PreTrainedModel

from .errors_megadance import EXTRACTOR_FILES, SAVE_AGAIN, ModelError, one_line, read_json, reading, short
from .generation_megadance import MODES
from .remote_code_megadance import PushesCode

CONFIG, GENERATION = "config.json", "generation_config.json"
INDEX, WEIGHTS = "model.safetensors.index.json", "model.safetensors"
_JSON = (CONFIG, GENERATION, INDEX, *EXTRACTOR_FILES)  # JSON files that a model's folder may have
_MAX_WEIGHT = 1e6  # larger weights are damage: sums overflow
_MAX_NEW_WEIGHTS = 1 << 24  # weights that a model may have beyond those in its files: new output layers


def check_config(config_class: type[PreTrainedConfig], folder: str | os.PathLike, name: str = CONFIG) -> Any:
    """Load the configuration in a folder.

    Raises:
        ModelError: it cannot be read, lacks a field that the weights do not determine, or has values out of range.
    """
    path = Path(folder, name)
    content = read_json(path)
    with reading(path, SAVE_AGAIN, ModelError):
        kind = content.get("model_type")
        if kind != config_class.model_type:
            what = config_class.model_type.partition("_")[2] or "generator"
            raise ModelError(f"{path} is of type {kind!r}: give a {config_class.model_type!r} {what}")
        lacking = [field for field in config_class.needed() if field not in content]
        if lacking:
            raise ValueError(f"it lacks {', '.join(lacking)}")
        for key in content:
            own = getattr(config_class, key, None)
            if key.startswith("__") or callable(own) or isinstance(own, property):
                raise ValueError(f"it sets {key[:40]!r}, which is no field")
        config = config_class.from_dict(content)
        dtype = content.get("dtype", content.get("torch_dtype"))
        if dtype is not None and not getattr(getattr(torch, str(dtype), None), "is_floating_point", False):
            raise ValueError(f"dtype={dtype!r} is no type of weights")
        return config


def check_generation_file(folder: str | os.PathLike, config: Any) -> None:
    """Raises ModelError if a generator's `generation_config.json` cannot be read or holds impossible values."""
    path = Path(folder, GENERATION)
    if not path.exists():
        return
    content = read_json(path)
    with reading(path, SAVE_AGAIN, ModelError):
        GenerationConfig.from_dict(content).validate()
        for name, kinds, low, high in (
            ("do_sample", bool, 0, 1),
            ("temperature", (int, float), 1e-3, 1e3),
            ("top_k", int, 0, 1e9),
            ("top_p", (int, float), 0, 1),
            ("num_return_sequences", int, 1, 1000),
        ):
            value = content.get(name)
            wrong = isinstance(value, bool) is not (kinds is bool) or not isinstance(value, kinds)
            if value is not None and (wrong or not low <= value <= high):
                raise ValueError(f"{name}={value!r} is not possible: use {low:g} to {high:g}")
        if content.get("mode") not in (None, *MODES):
            raise ValueError(f"mode={content['mode']!r} is unknown")
        codes = content.get("start_codes") or {}
        if not isinstance(codes, dict):
            raise ValueError("start_codes is no object {genre: [[upper, lower], ...]}")
        for genre, pairs in codes.items():
            if genre not in config.genres:
                raise ValueError(f"start_codes has {genre!r}, which is no genre of {', '.join(config.genres)}")
            for pair in pairs if isinstance(pairs, list) else [pairs]:
                if not (
                    isinstance(pair, list)
                    and len(pair) == 2
                    and all(type(code) is int and 0 <= code < config.codebook_size for code in pair)
                ):
                    raise ValueError(
                        f"start_codes[{genre!r}] has {short(pair)}: each is [upper, lower], 0 to {config.codebook_size - 1}"
                    )


def weights_of(folder: str | os.PathLike) -> dict[str, tuple[Path, list[int]]]:
    """The name of each tensor in a folder, with its file and shape; empty if there are no safetensors.

    Raises:
        ModelError: the index or a file cannot be read, or they do not match.
    """
    index, single = Path(folder, INDEX), Path(folder, WEIGHTS)
    if single.exists() or not index.exists():  # as transformers chooses
        return _header(single) if single.exists() else {}
    files = read_index(index)
    with reading(index, SAVE_AGAIN, ModelError):
        found: dict[str, tuple[Path, list[int]]] = {}
        for file in sorted(set(files.values())):
            header = _header(Path(folder, file))
            for name in (name for name, other in files.items() if other == file):
                if name not in header:
                    raise ValueError(f"it places {name[:80]!r} into {file}, which lacks it")
                found[name] = header[name]
        return found


def read_index(path: str | os.PathLike) -> dict[str, str]:
    """The file of each tensor. Raises ModelError if the index cannot be read or names files in other folders."""
    content = read_json(path)
    with reading(path, SAVE_AGAIN, ModelError):
        files = content.get("weight_map")
        if not isinstance(files, dict) or not files or not isinstance(content.get("metadata", {}), dict):
            raise ValueError("it has no weight_map {tensor: file}")
        for file in files.values():
            if not isinstance(file, str) or Path(file).name != file:
                raise ValueError(f"it names the file {str(file)[:80]!r}, which is none beside it")
        return files


def _header(path: Path) -> dict[str, tuple[Path, list[int]]]:
    with reading(path, SAVE_AGAIN, ModelError), safe_open(path, framework="pt") as file:
        parts = {name: file.get_slice(name) for name in file.keys()}
        if not parts:
            raise ValueError("it holds no tensors")
        return {name: (path, part.get_shape()) for name, part in parts.items()}


def check_weights(model_class: type[PreTrainedModel], config: Any, folder: str | os.PathLike) -> None:
    """Raises ModelError if the weights in a folder do not match a model with this configuration. Nothing is loaded."""
    found = weights_of(folder)
    if not found:
        return  # another format, which is left to transformers
    file = next(iter(found.values()))[0]
    parts = getattr(config, "num_parts", 1)  # a model of too many takes minutes to build, even without memory
    if parts > len(found):
        raise ModelError(
            f"{Path(folder, CONFIG)} asks for {parts:,} layers and experts, but {file} has {len(found):,} tensors: {SAVE_AGAIN}"
        )
    with reading(Path(folder, CONFIG), SAVE_AGAIN, ModelError), torch.device("meta"):
        model = model_class(config)
    prefix, missing = model_class.base_model_prefix + ".", 0
    for name, tensor in model.state_dict().items():
        # a head's checkpoint for a base model, or the other way round
        entry = next((found[n] for n in (name, prefix + name, name.removeprefix(prefix)) if n in found), None)
        if entry is None:
            missing += tensor.numel()
        elif list(tensor.shape) != list(entry[1]):
            raise ModelError(
                f"{entry[0]} has other sizes than its {CONFIG} for {name}: {tuple(entry[1])} instead of "
                f"{tuple(tensor.shape)}; {SAVE_AGAIN}"
            )
    if missing > _MAX_NEW_WEIGHTS:
        raise ModelError(f"{file} lacks {missing:,} numbers that {CONFIG} beside it asks for: {SAVE_AGAIN}")


def check_numbers(model: nn.Module, source: str | os.PathLike) -> None:
    """Raises ModelError if a weight is NaN, infinite or absurdly large, or if a standard deviation is not above 0."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not tensor.is_floating_point() or tensor.is_meta or not tensor.numel():
            continue
        low, high = (float(value) for value in torch.aminmax(tensor.detach()))
        most = _MAX_WEIGHT**2 if name.endswith("running_var") else _MAX_WEIGHT  # a variance is a square
        if not (-most <= low and high <= most):  # also if they are NaN
            problem = f"the weights {name} have NaN or numbers beyond {most:g}"
        elif name.endswith(("_std", "running_var")) and low < 0 or name.endswith("_std") and low == 0:
            problem = f"{name} is not above 0"
        else:
            continue
        files: dict[str, tuple[Path, list[int]]] = {}
        with suppress(ModelError):
            files = weights_of(source) if os.path.isdir(source) else {}
        file = files[name][0] if name in files else WEIGHTS
        raise ModelError(f"model={os.fspath(source)!r}: {problem} ({file}): {SAVE_AGAIN}")


def check_parts(source: str | os.PathLike, generator: Any, tokenizer: Any, extractor: Any) -> None:
    """Raises ModelError if a generator's and a tokenizer's configuration and a feature extractor do not fit together."""
    for what, found, wanted in (
        ("codes", tokenizer.codebook_size, generator.codebook_size),
        ("frames per code", tokenizer.frames_per_code, generator.frames_per_code),
        ("frames per second", tokenizer.fps, generator.fps),
    ):
        if found != wanted:
            raise ModelError(
                f"model={os.fspath(source)!r}: the tokenizer has {found} {what} and the generator {wanted}; "
                "they must come from one training"
            )
    if abs(extractor.frame_rate - generator.fps) > 1e-6 * generator.fps:
        raise ModelError(
            f"model={os.fspath(source)!r}: {EXTRACTOR_FILES[0]} makes {extractor.frame_rate:g} rows per second and the "
            f"generator takes {generator.fps}; they must come from one training"
        )


class ChecksFolder(PushesCode):
    """Mixin of models: `from_pretrained` of a folder checks it first, and any error becomes a ModelError of one line."""

    config_class: type[PreTrainedConfig]

    def get_input_embeddings(self) -> Any:
        """None: there is no single one. FSDP asks for it."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike | None, *args: Any, **kwargs: Any) -> Any:
        """As in transformers.

        Raises:
            ModelError: a folder's files are damaged, incomplete or do not match.
        """
        source = pretrained_model_name_or_path
        if source is None:
            return super().from_pretrained(source, *args, **kwargs)
        folder = os.path.join(source, kwargs.get("subfolder") or "")
        # errors of the Hub (private, gated, no such revision) stay those of transformers, whose classes users know
        with one_line(source) if os.path.isdir(source) else nullcontext():
            if os.path.isdir(folder):
                cls._check_folder(folder, kwargs)
            loaded = super().from_pretrained(source, *args, **kwargs)
            check_numbers(loaded[0] if isinstance(loaded, tuple) else loaded, folder)
        return loaded

    @classmethod
    def _check_folder(cls, folder: str, kwargs: dict[str, Any]) -> None:
        config = kwargs.get("config")
        if not isinstance(config, cls.config_class):
            config = check_config(cls.config_class, folder)
            for name in kwargs.keys() & set(config.to_dict()):
                setattr(config, name, kwargs[name])
        for name in _JSON:
            if os.path.exists(path := os.path.join(folder, name)):
                read_json(path)
        model_class = cast(type[PreTrainedModel], cls)
        if model_class.can_generate():
            check_generation_file(folder, config)
        if not kwargs.get("ignore_mismatched_sizes"):
            check_weights(model_class, config, folder)
