"""The authors' released checkpoints -> a model folder of this package.

    megadance convert output OUT_DIR --mean Pretrained/mean.pt --std Pretrained/std.pt

Both releases are recognised by the names of their generators' tensors (`_RELEASES`); tokenizer and classifier are the same in both. A stage-2
checkpoint of theirs is `{"model": state_dict}` of a trainer that holds all three networks, so names begin with
`gpt.`, `fsq.` or `cls_model.`. State dicts under other names (`state_dict` of Lightning, ...), or with the prefixes of DDP and
torch.compile (`module.`, `_orig_mod.`), are found as well. Every name is translated, ignored on purpose (`_IGNORED`), or listed in
an error. Sizes are inferred from the shapes. Nothing in a file is executed: checkpoints are opened with
`torch.load(weights_only=True)`, and memory-mapped, so that converting needs little more memory than the size of the file.
"""

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import PreTrainedModel

from megadance_hf.modeling.cache_megadance import STREAMS
from megadance_hf.modeling.configuration_megadance import (
    MegaDanceClassifierConfig,
    MegaDanceConfig,
    MegaDanceTokenizerConfig,
)
from megadance_hf.modeling.errors_megadance import reading, reason_of
from megadance_hf.modeling.feature_extraction_megadance import MegaDanceFeatureExtractor
from megadance_hf.modeling.files_megadance import whole
from megadance_hf.modeling.genres_megadance import AISTPP_GENRES, FINEDANCE_GENRES
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration, genre_key
from megadance_hf.modeling.modeling_megadance_classifier import MegaDanceForGenreClassification
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizer
from megadance_hf.models import describe_arrangement
from megadance_hf.motion.safe_files import load_npz, load_pickle, load_torch, text_in_pickle

Statistics = tuple[Mapping[str, Any], Mapping[str, Any]]

PREFIXES = GENERATOR_PREFIX, TOKENIZER_PREFIX, CLASSIFIER_PREFIX = "gpt.", "fsq.", "cls_model."
# Sizes of the parts of a frame; music has as many columns as the generator takes.
_PARTS = {"smpl_root_vel": 3, "smpl_trans": 3, "smpl_poses": 144}
RELEASED_HEADS = 8  # the number of attention heads cannot be inferred from the shapes
RELEASED_LEVELS = {5: (7, 5, 5, 5, 5), 4: (7, 5, 5, 5)}  # by the number of scalars in a code


class ConversionError(ValueError):
    """A checkpoint that cannot be converted; the message says what is wrong with it."""


# --- names -----------------------------------------------------------------------------------------------------------


def _stream(match: re.Match) -> str:
    return STREAMS[int(match[2]) - 1]


_MAMBA_PARTS = {"mamba": "mambas", "norm": "mamba_norms"}
# Official name -> name here, applied in this order.
_GENERATOR_NAMES = (
    (r"^dance_decoder\.", ""),
    (r"^pose_up_emb", "model.upper_embedding"),
    (r"^pose_down_emb", "model.lower_embedding"),
    (r"^music_MLP\.0", "model.music_mlp.fc1"),
    (r"^music_MLP\.1", "model.music_mlp.fc2"),
    (r"^MLP_Output\.0", "output_mlp.fc1"),
    (r"^MLP_Output\.1", "output_mlp.fc2"),
    (r"^decoder_layers", "model.layers"),
    (r"\.global_swab\.", ".universal_expert."),
    (r"\.attn\.query\.", ".attention.q_proj."),
    (r"\.attn\.key\.", ".attention.k_proj."),
    (r"\.attn\.value\.", ".attention.v_proj."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.2\.", ".mlp.fc2."),
    # 2026: a norm for each stream, and one Mamba a layer; 2025: neither
    (r"\.ln([12])\.ln([123])\.", lambda m: f".ln{m[1]}.{_stream(m)}."),
    (r"\.ln1\.", ".attention_norm."),
    (r"\.ln2\.", ".mlp_norm."),
    (r"\.(?:global_)?mamba\.(mamba|norm)([123])\.", lambda m: f".{_MAMBA_PARTS[m[1]]}.{_stream(m)}."),
)
# Their layers are numbered: layer n of an encoder has its strided convolution as `n.0` and its blocks as `n.1`; layer n of a decoder,
# counted from 1, has its blocks as `n.0` and its upsampling as `n.1`.
_TOKENIZER_NAMES = (
    (r"^Pose_UP_", "upper."),
    (r"^Pose_DOWN_", "lower."),
    (r"Quantizer\.bottleneck", "quantizer"),
    (r"Encoder\.encoders\.0\.level_blocks\.0\.model\.", "encoder."),
    (r"Decoder\.decoders\.0\.(level_blocks\.0\.model\.)?", "decoder."),
    (r"encoder\.(\d+)\.0\.", r"encoder.down.\1."),
    (r"encoder\.(\d+)\.1\.model\.", r"encoder.blocks.\1."),
    (r"encoder\.(\d+)\.(weight|bias)$", r"encoder.out.\2"),
    (r"decoder\.0\.", "decoder.into."),
    (r"decoder\.(\d+)\.0\.model\.", lambda m: f"decoder.blocks.{int(m[1]) - 1}."),
    (r"decoder\.(\d+)\.1\.", lambda m: f"decoder.up.{int(m[1]) - 1}."),
    (r"\.model\.1\.", ".dilated."),
    (r"\.model\.3\.", ".pointwise."),
)
_CLASSIFIER_NAMES = (
    (r"^dance_encoder\.", ""),
    (r"^MLP_input\.", "input_mlp."),
    (r"^MLP_output\.", "output_mlp."),
    (r"^dance_encoder\.Dance_Former_(\d+)\.layer\.layers\.0\.", r"layers.\1."),
)
# Ignored on purpose: mask buffers (computed here), the licensed body model's entries, an input layer that their classifier has but
# never uses.
_IGNORED = (r"\.attn\.mask$", r"^smpl\.", r"(^|\.)MLP_keypoint\.")


def _translate(name: str, table: tuple) -> str:
    for pattern, replacement in table:
        name = re.sub(pattern, replacement, name)
    return name


def generator_name(official: str, genres: list[str] | tuple[str, ...] = FINEDANCE_GENRES) -> str:
    """Our name of a generator's tensor; their genre experts are numbered, ours are named."""
    name = re.sub(r"\.genre_swab\.(\d+)\.", lambda m: f".genre_experts.{genre_key(genres[int(m[1])])}.", official)
    return _translate(name, _GENERATOR_NAMES)


def tokenizer_name(official: str) -> str:
    """Our name of a tokenizer's tensor."""
    return _translate(official, _TOKENIZER_NAMES)


def classifier_name(official: str) -> str:
    """Our name of a classifier's tensor."""
    return _translate(official, _CLASSIFIER_NAMES)


# --- the three networks ------------------------------------------------------------------------------------------------


def convert_released_generator(
    state_dict: Mapping[str, Tensor], statistics: Statistics | None = None, **overrides: Any
) -> MegaDanceForMotionGeneration:
    """The generator of either release as a model in evaluation mode. It generates in mode `released` and greedily, as theirs.

    Args:
        state_dict: official names, with or without the trainer's prefix `gpt.` (with it, other names are ignored). Tensors are
            shared, not copied.
        statistics: the authors' mean and std dictionaries, each with `<part>_mean` or `<part>_std`: a row, or one number for all of it.
            Identity when None.
        overrides: of the configuration, such as `num_attention_heads` (8 when not given) and `id2label` (FineDance's names for 16
            genres, AIST++'s for 10, else `genre0`, `genre1`, ...).

    Raises:
        ConversionError: missing, unknown, misshapen or non-finite tensors, all of them listed.
    """
    state = _network(state_dict, GENERATOR_PREFIX)
    layer = "dance_decoder.decoder_layers"
    if _release_of(state) == "2026":
        make, mamba = MegaDanceConfig.released_2026, f"{layer}.0.global_mamba.mamba1"
        levels = _count(state, r"^dance_decoder\.pose_up_emb\.(\d+)\.weight$")
        tables = [_shape(state, f"dance_decoder.pose_up_emb.{level}.weight", 2) for level in range(levels)]
        head = {"levels": [rows for rows, _ in tables], "codebook_size": math.prod(rows for rows, _ in tables)}
    else:
        make, mamba = MegaDanceConfig.released_2025, f"{layer}.0.global_swab.mamba.mamba1"
        tables = [_shape(state, "dance_decoder.pose_up_emb.weight", 2)]
        head = {"codebook_size": tables[0][0]}
    hidden = tables[0][1]
    inner, state_size = _shape(state, f"{mamba}.A_log", 2)
    music_hidden, music = _shape(state, "dance_decoder.music_MLP.0.weight", 2)
    num_genres = _count(state, rf"^{re.escape(layer)}\.\d+\.genre_swab\.(\d+)\.")
    known = {len(names): names for names in (FINEDANCE_GENRES, AISTPP_GENRES)}
    names = known.get(num_genres, tuple(f"genre{index}" for index in range(num_genres)))
    config = _config(
        make,
        **{
            **head,
            "hidden_size": hidden,
            "num_hidden_layers": _count(state, rf"^{re.escape(layer)}\.(\d+)\."),
            "num_attention_heads": RELEASED_HEADS,
            "intermediate_size": _shape(state, f"{layer}.0.global_swab.mlp.0.weight", 2)[0],
            "state_size": state_size,
            "conv_kernel": _shape(state, f"{mamba}.conv1d.weight", 3)[-1],
            "expand": inner // max(hidden, 1),
            "time_step_rank": _shape(state, f"{mamba}.x_proj.weight", 2)[0] - 2 * state_size,
            "music_feature_size": music,
            "music_hidden_size": music_hidden,
            "output_hidden_size": _shape(state, "dance_decoder.MLP_Output.0.weight", 2)[0],
            "id2label": dict(enumerate(names)),
            **_context(state, f"{layer}.0.global_swab.attn.mask"),
            **overrides,
        },
    )
    if len(config.genres) != num_genres:
        raise ConversionError(f"{len(config.genres)} genres are named, but the checkpoint has {num_genres}: name each")
    mean, std = _mean_and_std(statistics, {"music_librosa": music})
    model = _loaded(
        MegaDanceForMotionGeneration,
        config,
        state,
        lambda name: generator_name(name, config.genres),
        {"model.music_mean": mean, "model.music_std": std},
    )
    model.generation_config.mode = "released"
    model.generation_config.do_sample = False
    return model


def convert_released_tokenizer(
    state_dict: Mapping[str, Tensor], statistics: Statistics | None = None, **overrides: Any
) -> MegaDanceTokenizer:
    """The released tokenizer. Arguments and errors as for the generator; the prefix is `fsq.`.

    `levels` are (7, 5, 5, 5, 5) for codes of five scalars unless given: they cannot be inferred from its shapes, but from those of a
    generator of 2026.
    """
    state = _network(state_dict, TOKENIZER_PREFIX)
    encoder = "Pose_UP_Encoder.encoders.0.level_blocks.0.model"
    scalars, code = _shape(state, "Pose_UP_Quantizer.bottleneck.project_in.weight", 2)
    config = _config(
        MegaDanceTokenizerConfig,
        **{
            "levels": RELEASED_LEVELS.get(scalars, (5,) * scalars),
            "hidden_size": _shape(state, f"{encoder}.0.0.weight", 3)[0],
            "code_size": code,
            "num_downsamples": _count(state, rf"^{re.escape(encoder)}\.(\d+)\.0\."),
            "residual_depth": _count(state, rf"^{re.escape(encoder)}\.0\.1\.model\.(\d+)\."),
            **overrides,
        },
    )
    mean, std = _mean_and_std(statistics, {part: _PARTS[part] for part in ("smpl_root_vel", "smpl_poses")})
    return _loaded(MegaDanceTokenizer, config, state, tokenizer_name, {"motion_mean": mean, "motion_std": std})


def convert_released_classifier(
    state_dict: Mapping[str, Tensor], statistics: Statistics | None = None, **overrides: Any
) -> MegaDanceForGenreClassification:
    """The released genre classifier. Arguments and errors as for the generator; the prefix is `cls_model.`.

    `statistics` are its own in the 2026 release (`cls/mean.pt`, `cls/std.pt`).
    """
    state = _network(state_dict, CLASSIFIER_PREFIX)
    former = "dance_encoder.dance_encoder.Dance_Former_"
    config = _config(
        MegaDanceClassifierConfig,
        **{
            "hidden_size": _shape(state, "dance_encoder.MLP_input.0.weight", 2)[0],
            "num_hidden_layers": _count(state, rf"^{re.escape(former)}(\d+)\."),
            "num_attention_heads": RELEASED_HEADS,
            "intermediate_size": _shape(state, f"{former}0.layer.layers.0.linear1.weight", 2)[0],
            "output_hidden_size": _shape(state, "dance_encoder.MLP_output.0.weight", 2)[0],
            "num_outputs": _shape(state, "dance_encoder.MLP_output.1.weight", 2)[0],
            **overrides,
        },
    )
    mean, std = _mean_and_std(statistics, {part: _PARTS[part] for part in ("smpl_trans", "smpl_poses")})
    return _loaded(
        MegaDanceForGenreClassification, config, state, classifier_name, {"motion_mean": mean, "motion_std": std}
    )


def _network(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors of one network, without the trainer's prefix; all of them when none is prefixed."""
    if not any(name.startswith(prefix) for name in state_dict):
        return dict(state_dict)
    if unknown := [name for name in state_dict if not name.startswith(PREFIXES)]:
        raise ConversionError(f"the checkpoint has names of none of the three networks: {_listed(unknown)}")
    return {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}


# Names of tensors that one release of the generator has and the other has not.
_RELEASES = {
    "2025": r"\.pose_(up|down)_emb\.weight$|_swab(\.\d+)?\.(mamba\.|ln[12]\.(weight|bias)$)",
    "2026": r"\.pose_(up|down)_emb\.\d+\.weight$|\.global_mamba\.|_swab(\.\d+)?\.ln[12]\.ln[123]\.",
}


def _release_of(state: Mapping[str, Tensor]) -> str:
    """Which release a generator is of."""
    found = {release: [name for name in state if re.search(names, name)] for release, names in _RELEASES.items()}
    if all(found.values()):
        parts = "; ".join(f"{release}: {_listed(names, 3)}" for release, names in found.items())
        raise ConversionError(f"the checkpoint mixes the authors' two releases of the generator ({parts})")
    if not any(found.values()):
        lacking = "dance_decoder.pose_up_emb.weight (release of 2025) and dance_decoder.pose_up_emb.0.weight (2026)"
        raise ConversionError(f"the checkpoint lacks {lacking}: it is not of this network, or not complete")
    return "2026" if found["2026"] else "2025"


def _config(make: Callable[..., Any], **values: Any) -> Any:
    """A configuration, if such sizes are possible."""
    try:
        return make(**values)
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise ConversionError(f"no such network is possible: {reason_of(error)}") from error


def _shape(state: Mapping[str, Tensor], name: str, dimensions: int) -> tuple[int, ...]:
    if name not in state:
        raise ConversionError(f"the checkpoint lacks {name}: it is not of this network, or not complete")
    shape = tuple(state[name].shape)
    if len(shape) != dimensions:
        raise ConversionError(f"the checkpoint has {name} of shape {shape} instead of {dimensions} dimensions")
    return shape


def _context(state: Mapping[str, Tensor], name: str) -> dict[str, int]:
    """How many codes attention sees, if a mask (True: hidden) tells; one of a short training window does not."""
    mask = state.get(name)
    if mask is None or mask.dtype != torch.bool or mask.dim() != 4 or not mask.numel():
        return {}
    visible = int((~mask[0, 0, -1]).sum())
    return {"context_codes": visible} if 0 < visible < mask.shape[-1] else {}


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many different numbers the pattern's group matches; they must count from 0."""
    numbers = {int(match[1]) for match in map(re.compile(pattern).match, state) if match}
    if numbers != set(range(len(numbers))) or not numbers:
        raise ConversionError(
            f"the checkpoint's numbering {sorted(numbers)} of {pattern} has gaps, or there is nothing"
        )
    return len(numbers)


def _listed(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(sorted(names)[:most]) + more


def _loaded(
    cls: type[PreTrainedModel],
    config: Any,
    state: Mapping[str, Tensor],
    rename: Callable[[str], str],
    buffers: dict[str, Tensor],
) -> Any:
    """A model with the checkpoint's tensors, each of them checked."""
    with torch.device("meta"):  # without initial weights: all come from the checkpoint
        model = cls(config)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items() if name not in buffers}
    ours: dict[str, Tensor] = {}
    problems: dict[str, list[str]] = {kind: [] for kind in ("unknown", "misshapen", "not floating-point", "not finite")}
    for official, tensor in state.items():
        if any(re.search(pattern, official) for pattern in _IGNORED):
            continue
        name = rename(official)
        if name not in expected or name in ours or not isinstance(tensor, Tensor):
            problems["unknown"].append(official)
        elif tuple(tensor.shape) != expected[name]:
            problems["misshapen"].append(f"{official} {tuple(tensor.shape)} instead of {expected[name]}")
        elif not tensor.is_floating_point():
            problems["not floating-point"].append(official)
        elif tensor.numel() and not torch.stack(tensor.aminmax()).isfinite().all():  # faster than isfinite of all
            problems["not finite"].append(official)
        else:
            ours[name] = tensor
    if not any(problems.values()):
        problems["missing"] = [name for name in expected if name not in ours]
    text = "; ".join(f"{kind}: {_listed(names)}" for kind, names in problems.items() if names)
    if text:
        raise ConversionError(f"the checkpoint does not fit {cls.__name__}: {text}")
    model.load_state_dict({**ours, **buffers}, strict=True, assign=True)
    return model.eval()


# --- statistics ----------------------------------------------------------------------------------------------------------


def _mean_and_std(statistics: Statistics | None, parts: Mapping[str, int]) -> tuple[Tensor, Tensor]:
    """Mean and std, concatenated from `<part>_mean` and `<part>_std`; `parts` has the size of each part."""
    if statistics is None:
        return torch.zeros(sum(parts.values())), torch.ones(sum(parts.values()))
    tables = zip(statistics, ("mean", "std"), strict=True)
    mean, std = (torch.cat([_row(table, part, kind, size) for part, size in parts.items()]) for table, kind in tables)
    return mean, std


def _row(table: Mapping[str, Any], part: str, kind: str, size: int) -> Tensor:
    """(size,) from a row, or from one number for all of it."""
    name = f"{part}_{kind}"
    if name not in table:
        raise ConversionError(f"the {kind} file lacks {name}; it has {_listed(list(table))}")
    try:
        row = torch.from_numpy(_array(table[name]).astype(np.float32).ravel())
    except (TypeError, ValueError):
        row = torch.empty(0)
    if len(row) not in (1, size) or not torch.isfinite(row).all() or (kind == "std" and not (row > 0).all()):
        what = "finite numbers above 0" if kind == "std" else "finite numbers"
        raise ConversionError(f"{name} must be {size} {what}, or one for all")
    return row.expand(size).clone()


def _array(value: Any) -> np.ndarray:
    return value.detach().float().numpy() if isinstance(value, Tensor) else np.asarray(value)


def read_statistics(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """One of the authors' mean and std files: a dictionary of arrays, tensors or numbers in `.npz`, `.npy`, `.pkl` or `.pt`.

    Raises:
        ConversionError: not such a file, or a pickle that holds more than arrays and plain containers.
    """
    path = Path(path)
    with reading(path, error=ConversionError):
        loaders = {".npz": load_npz, ".pt": load_torch, ".pth": load_torch}
        table = loaders.get(path.suffix.lower(), load_pickle)(path)
        if not isinstance(table, Mapping):
            raise ConversionError(f"{path} holds {type(table).__name__}, not a dictionary of arrays")
        return {str(name): _array(value) for name, value in table.items()}


# --- a whole checkpoint ----------------------------------------------------------------------------------------------------


def read_checkpoint(path: str | os.PathLike) -> dict[str, Tensor]:
    """The state dict of an authors' checkpoint, its tensors memory-mapped. Nothing in the file is executed.

    Raises:
        ConversionError: not there, not readable, or no checkpoint of theirs; the message says what it seems to be.
    """
    try:
        with reading(path, error=ConversionError):
            content = load_torch(path)
    except ConversionError as error:
        raise ConversionError(f"{error}{_looks_like(text_in_pickle(path))}") from error
    state = _find_state_dict(content)
    keys = list(map(str, content)) if isinstance(content, Mapping) else []
    if state is None:
        has = f"; it has {_listed(keys)}" if keys else ""
        containers = ", ".join(_CONTAINERS)
        raise ConversionError(
            f"{path} holds no state dict, neither at its top nor under one of {containers}{has}{_looks_like(keys)}"
        )
    state = _without_wrappers(state)
    if not any(name.startswith(_BEGINNINGS) for name in state):
        begins = _listed(list(state), 3)
        raise ConversionError(
            f"{path} has none of the three networks; its names begin with {begins}{_looks_like([*keys, *state])}"
        )
    return state


# What other files are known by: names in them, and what such a file is.
_OTHER_FILES = (
    (
        r"(gpt\.|fsq\.|cls_model\.)?(dance_decoder|Pose_|dance_encoder)",
        "the authors' own, with more in it than tensors",
    ),
    (r"(smpl|music)_\w+_(mean|std)$", "statistics, which --mean and --std take"),
    (r"(v_template|shapedirs|J_regressor|kintree_table)$", "the body model (SMPL), which is not needed"),
    (r"smpl_(poses|trans)$", "a motion"),
    (r"model\.layers\.\d+\.(universal_expert|genre_experts)\.", "a model of this package, which needs no conversion"),
    (r"(\w+\.)*(seqTransDecoder|null_cond_embed|cond_projection)\b", "a checkpoint of EDGE"),
    (r"pytorch-lightning_version$", "a checkpoint of another model's Lightning trainer"),
    (r"(optimizer|optimizer_state_dict|param_groups)$", "the state of an optimizer"),
)


def _looks_like(names: Iterable[str]) -> str:
    """What a file with these names seems to be, as the end of a message; nothing if that is not known."""
    names = list(map(str, names))
    known = (kind for pattern, kind in _OTHER_FILES if any(re.match(pattern, name) for name in names))
    return next((f": it looks like {kind}" for kind in known), "")


# Keys under which trainers store a state dict, beside optimizer and epoch.
_CONTAINERS = ("model", "state_dict", "model_state_dict", "model_state", "module", "net", "weights")
# What DDP, torch.compile and FSDP insert into names.
_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module")
# Attributes in which Lightning and others hold the whole network.
_OUTER = ("model.", "net.", "network.")


def _find_state_dict(content: Any) -> Mapping[str, Tensor] | None:
    """The state dict in what was loaded, at its top or inside up to three containers; None if there is none."""
    for _ in range(4):
        if not isinstance(content, Mapping) or not content:
            return None
        if all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()):
            return content
        content = next((content[name] for name in _CONTAINERS if isinstance(content.get(name), Mapping)), None)
    return None


def _without_wrappers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict without what wrappers added to its names."""
    result: dict[str, Tensor] = {}
    for name, value in state.items():
        plain = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
        if plain in result:
            raise ConversionError(f"the checkpoint has {plain} twice, once within a wrapper: save it without")
        result[plain] = value
    for prefix in _OUTER:
        if all(name.startswith(prefix) for name in result):
            result = {name.removeprefix(prefix): value for name, value in result.items()}
    return result


# The trainer's prefix of each network, how its own names begin, and its converter.
_NETWORKS: dict[str, tuple[str, str, Callable[..., PreTrainedModel]]] = {
    "generator": (GENERATOR_PREFIX, "dance_decoder.", convert_released_generator),
    "tokenizer": (TOKENIZER_PREFIX, "Pose_", convert_released_tokenizer),
    "classifier": (CLASSIFIER_PREFIX, "dance_encoder.", convert_released_classifier),
}
_BEGINNINGS = (*PREFIXES, *(own for _, own, _ in _NETWORKS.values()))


def _find_networks(checkpoints: Sequence[str | os.PathLike]) -> dict[str, tuple[Path, dict[str, Tensor]]]:
    """The file and the tensors of each network that these files and folders hold.

    A generator's file also holds the tokenizer and the classifier that it was trained with; these come before others.
    """
    found: dict[str, list[tuple[Path, dict[str, Tensor]]]] = {name: [] for name in _NETWORKS}
    for path in map(Path, checkpoints):
        files = sorted(path.rglob("model.pth")) if path.is_dir() else [path]
        if not files:
            raise ConversionError(
                f"{path} is a folder without a model.pth: give the checkpoint, or the authors' output/"
            )
        for file in files:
            state = read_checkpoint(file)
            prefixed = any(name.startswith(PREFIXES) for name in state)
            for name, (prefix, own, _) in _NETWORKS.items():
                if any(tensor.startswith(prefix if prefixed else own) for tensor in state):
                    found[name].append((file, _network(state, prefix)))
    result = {}
    for name, parts in found.items():
        parts = [part for part in parts if "generator" in result and part[0] == result["generator"][0]] or parts
        if len(parts) > 1:
            files = " and ".join(str(file) for file, _ in parts)
            raise ConversionError(f"there is a {name} in {files}: give one of them")
        if parts:
            result[name] = parts[0]
    return result


def _read_pair(option: str, mean: str | os.PathLike | None, std: str | os.PathLike | None) -> Statistics | None:
    if (mean is None) != (std is None):
        raise ConversionError(f"--{option}mean and --{option}std belong together: give both files, or neither")
    return None if mean is None or std is None else (read_statistics(mean), read_statistics(std))


def convert_checkpoint(
    checkpoint: str | os.PathLike | Sequence[str | os.PathLike],
    output_dir: str | os.PathLike,
    *,
    mean: str | os.PathLike | None = None,
    std: str | os.PathLike | None = None,
    classifier_mean: str | os.PathLike | None = None,
    classifier_std: str | os.PathLike | None = None,
    genres: list[str] | None = None,
) -> list[str]:
    """Convert checkpoints and write a model folder: the generator, `tokenizer/`, `classifier/`, the feature extractor.

    Args:
        checkpoint: the authors' file, which may hold one, two or all three networks; or several; or a folder, such as their
            `output/`, in which each `model.pth` is taken.
        output_dir: must not exist yet, or be empty. All of it is written, or nothing.
        mean, std: the authors' files; both or none.
        classifier_mean, classifier_std: the classifier's own; those in the folder `cls` beside the others when None, and where
            there is no such folder, the others.
        genres: names of the generator's genres in the order of their ids, when they are not FineDance's or AIST++'s.

    Returns:
        a line for each network that was written.

    Raises:
        ConversionError: anything that does not fit; nothing is written then.
    """
    output_dir = Path(output_dir)
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise ConversionError(f"OUT_DIR={str(output_dir)!r} is not empty; choose a new folder")
    if mean is not None and std is not None and classifier_mean is None and classifier_std is None:
        beside = [Path(path).parent / "cls" / Path(path).name for path in (mean, std)]
        if all(path.is_file() for path in beside):
            classifier_mean, classifier_std = beside
    pairs = dict.fromkeys(_NETWORKS, (mean, _read_pair("", mean, std)))
    if (own := _read_pair("classifier-", classifier_mean, classifier_std)) is not None:
        pairs["classifier"] = (classifier_mean, own)
    networks = _find_networks([checkpoint] if isinstance(checkpoint, str | os.PathLike) else checkpoint)
    options: dict[str, dict[str, Any]] = {name: {} for name in _NETWORKS}
    if genres is not None:
        options["generator"]["id2label"] = dict(enumerate(genres))
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    with whole(output_dir, ConversionError) as partial:
        lines = []
        for name, (file, state) in networks.items():
            source, statistics = pairs[name]
            try:
                model = _NETWORKS[name][-1](state, statistics, **options[name])
            except ConversionError as error:
                raise ConversionError(f"{file}: {error}") from error
            notes = [f"{name}: {type(model).__name__}, {model.num_parameters():,} parameters"]
            if name != "generator":
                model.save_pretrained(partial / name)
            else:
                model.save_pretrained(partial, shard_by_genre=True)
                MegaDanceFeatureExtractor().save_pretrained(partial)
                notes += [f"{key}: {value}" for key, value in describe_arrangement(model.config).items()]
                if model.config.levels is not None:
                    options["tokenizer"]["levels"] = model.config.levels
            lines.append("; ".join([*notes, "no statistics" if source is None else f"statistics of {source}"]))
            del model
    return lines
