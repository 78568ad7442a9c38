"""Weights in one file a genre, so that whoever wants one genre reads, or downloads, one genre.

    model-shared.safetensors                  everything that all genres use
    model-genre_Popping.safetensors           the experts of one genre, one in each layer
    model.safetensors.index.json              which tensor lies in which file (transformers' own format)

transformers reads such a folder as it reads any sharded one; only the choice of the files is made here.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.utils import cached_file
from transformers.utils.hub import extract_commit_hash

from .errors_megadance import ModelError, reading
from .files_megadance import all_or_none, scratch
from .folders_megadance import CONFIG, GENERATION, INDEX, WEIGHTS, read_index

SHARED = "shared"
# where a generator's folder or repository has its motion tokenizer
TOKENIZER_FOLDER = "tokenizer"
# what of from_pretrained's arguments says where to look
HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder", "proxies")


# Where models were loaded from, with the token; not an attribute, which would be saved with a pickled model.
_sources: WeakKeyDictionary[nn.Module, tuple[str, dict[str, Any]]] = WeakKeyDictionary()


def remember_source(model: nn.Module, source: str | os.PathLike, hub: dict[str, Any]) -> None:
    """Note the folder or Hub id that a model was loaded from, and the `HUB_ARGUMENTS` that led to it."""
    _sources[model] = (os.fspath(source), {key: value for key, value in hub.items() if key in HUB_ARGUMENTS})


def source_of(model: nn.Module) -> tuple[str, dict[str, Any]]:
    """Folder or Hub id, and arguments of `from_pretrained`, with which other parts of the same model can be loaded."""
    source, hub = _sources.get(model, (str(model.name_or_path), {}))
    return source, {key: value for key, value in hub.items() if key != "subfolder"}


def genre_of(name: str) -> str | None:
    """The genre's key in a tensor's name, `genre_Popping`; None for what is shared."""
    match = re.search(r"(?:^|\.)genre_experts\.(genre_\w+)\.", name)
    return match[1] if match else None


def save_by_genre(state_dict: dict[str, Tensor], folder: str | os.PathLike) -> None:
    """Write the files above: all of them appear, the index last, or none."""
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
    """The same arguments for the commit that `file` came from: all files are of one state, also while others push."""
    commit = extract_commit_hash(file.as_posix(), None)
    return hub if commit is None else {**hub, "revision": commit}


@contextmanager
def only_genres(source: str | os.PathLike, keys: Sequence[str], **hub: Any) -> Iterator[str | None]:
    """A folder that looks like the model `source` with only these genres' files; None where there are no such files.

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
    """The tensors of these genres' experts, by name; nothing else of the files is read."""
    index_file = _find(source, INDEX, hub)
    if index_file is None:
        single = _find(source, WEIGHTS, hub)
        files = [] if single is None else [single]
    else:
        hub = _pinned(hub, index_file)
        weight_map = read_index(index_file)
        names = sorted({file for name, file in weight_map.items() if genre_of(name) in keys})
        files = [_find(source, name, hub, required=True) for name in names]
    tensors = {}
    for path in files:
        with reading(path, error=ModelError), safe_open(path, framework="pt") as file:
            tensors.update({name: file.get_tensor(name) for name in file.keys() if genre_of(name) in keys})
    return tensors


__all__ = [
    "HUB_ARGUMENTS",
    "TOKENIZER_FOLDER",
    "genre_of",
    "only_genres",
    "read_experts",
    "remember_source",
    "save_by_genre",
    "source_of",
]
