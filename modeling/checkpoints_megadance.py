"""Checkpoints with one weight file per genre, so that loading one genre reads, or downloads, one genre.

    model-shared.safetensors                  everything that all genres use
    model-genre_Popping.safetensors           the experts of one genre, one per layer
    model.safetensors.index.json              which tensor is in which file (transformers' own format)

transformers reads such a folder as it reads any sharded one; this module only chooses the files.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

# transformers has no public function that reads some tensors of a file, or that writes a file of tensors
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.utils import cached_file
from transformers.utils.hub import extract_commit_hash

from .errors_megadance import ModelError, reading
from .files_megadance import all_or_none, scratch
from .folders_megadance import CONFIG, GENERATION, INDEX, WEIGHTS, read_index

SHARED = "shared"
# the subfolder of a generator's folder or repository that holds its motion tokenizer
TOKENIZER_FOLDER = "tokenizer"
# the arguments of from_pretrained that say where to look
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder", "proxies")


# Where models were loaded from, with the token; not an attribute, which pickling a model would save.
_sources: WeakKeyDictionary[nn.Module, tuple[str, dict[str, Any]]] = WeakKeyDictionary()


def remember_source(model: nn.Module, source: str | os.PathLike, hub: dict[str, Any]) -> None:
    """Note the folder or Hub id that a model was loaded from, and the `HUB_ARGUMENTS` that led to it."""
    _sources[model] = (os.fspath(source), {key: value for key, value in hub.items() if key in HUB_ARGUMENTS})


def source_of(model: nn.Module) -> tuple[str, dict[str, Any]]:
    """Folder or Hub id that a model was loaded from, and the arguments of `from_pretrained` that load its other parts."""
    source, hub = _sources.get(model, (str(model.name_or_path), {}))
    return source, {key: value for key, value in hub.items() if key != "subfolder"}


def genre_of(name: str) -> str | None:
    """The genre's key in a tensor's name, such as `genre_Popping`; None for shared tensors."""
    match = re.search(r"(?:^|\.)genre_experts\.(genre_\w+)\.", name)
    return match[1] if match else None


def save_by_genre(state_dict: dict[str, Tensor], folder: str | os.PathLike) -> None:
    """Write the weights in the files above: all of them appear, the index last, or none."""
    folder = Path(folder)
    shards: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state_dict.items():
        shards.setdefault(genre_of(name) or SHARED, {})[name] = tensor
    weight_map = {name: f"model-{key}.safetensors" for key, tensors in shards.items() for name in tensors}
    size = sum(tensor.numel() * tensor.element_size() for tensor in state_dict.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
    with all_or_none() as beside:
        for key, tensors in shards.items():
            temporary = beside(folder / f"model-{key}.safetensors")
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, {"format": "pt"})
        beside(folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _find(source: str | os.PathLike, name: str, hub: dict[str, Any], required: bool = False) -> Path | None:
    found = cached_file(
        os.fspath(source),
        name,
        _raise_exceptions_for_missing_entries=required,
        **{key: value for key, value in hub.items() if key in HUB_ARGUMENTS},
    )
    return None if found is None else Path(found)


def _pinned(hub: dict[str, Any], file: Path) -> dict[str, Any]:
    """The same arguments for the commit that `file` came from, so that all files are of one commit even while others push."""
    commit = extract_commit_hash(file.as_posix(), None)
    return hub if commit is None else {**hub, "revision": commit}


@contextmanager
def only_genres(source: str | os.PathLike, keys: Sequence[str], **hub: Any) -> Iterator[str | None]:
    """A temporary folder with the model `source` reduced to these genres' files; None if the model has no file per genre.

    `source` is a folder or a Hub id; of a Hub id only the files that are needed are downloaded.
    """
    index_file = _find(source, INDEX, hub)
    if index_file is None:
        yield None
        return
    hub = _pinned(hub, index_file)
    kept = {name: file for name, file in read_index(index_file).items() if genre_of(name) in (None, *keys)}
    with scratch() as folder:
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": kept}), encoding="utf-8")
        shards = sorted(set(kept.values()))
        for name in (CONFIG, GENERATION, *shards):
            file = _find(source, name, hub, required=name in shards)
            if file is not None:
                (folder / name).symlink_to(file.resolve())
        yield os.fspath(folder)


def read_experts(source: str | os.PathLike, keys: Sequence[str], **hub: Any) -> dict[str, Tensor]:
    """The tensors of these genres' experts, by name. Nothing else is read from the files."""
    index_file = _find(source, INDEX, hub)
    if index_file is None:
        files = [_find(source, WEIGHTS, hub)]
    else:
        hub = _pinned(hub, index_file)
        weight_map = read_index(index_file)
        names = sorted({file for name, file in weight_map.items() if genre_of(name) in keys})
        files = [_find(source, name, hub, required=True) for name in names]
    tensors = {}
    for path in filter(None, files):
        with reading(path, error=ModelError), safe_open(path, framework="pt") as file:
            tensors.update({name: file.get_tensor(name) for name in file.keys() if genre_of(name) in keys})
    return tensors
