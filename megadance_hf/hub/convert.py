"""The authors' released checkpoint -> a model folder of this package.

    megadance convert checkpoint.pt OUT_DIR --mean mean.pkl --std std.pkl

A stage-2 checkpoint of theirs is `{"model": state_dict}` of a trainer that holds all three networks, so names begin with
`gpt.`, `fsq.` or `cls_model.`. State dicts under other names (`state_dict` of Lightning, ...), or with the prefixes of DDP and
torch.compile (`module.`, `_orig_mod.`), are found as well. Every name is translated, ignored on purpose (`_IGNORED`), or listed in
an error. Sizes are inferred from the shapes. Nothing in a file is executed: checkpoints are opened with
`torch.load(weights_only=True)`, and memory-mapped, so that converting needs little more memory than the size of the file.
"""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from megadance_hf.modeling.configuration_megadance import (
    MegaDanceClassifierConfig,
    MegaDanceConfig,
    MegaDanceTokenizerConfig,
)
from megadance_hf.modeling.errors_megadance import reading
from megadance_hf.modeling.feature_extraction_megadance import MegaDanceFeatureExtractor
from megadance_hf.modeling.files_megadance import whole
from megadance_hf.modeling.genres_megadance import AISTPP_GENRES, FINEDANCE_GENRES
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration, genre_key
from megadance_hf.modeling.modeling_megadance_classifier import MegaDanceForGenreClassification
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizer
from megadance_hf.motion.safe_files import load_npz, load_pickle, load_torch

Statistics = tuple[Mapping[str, Any], Mapping[str, Any]]

PREFIXES = GENERATOR_PREFIX, TOKENIZER_PREFIX, CLASSIFIER_PREFIX = "gpt.", "fsq.", "cls_model."
RELEASED_HEADS = 8  # the number of attention heads cannot be inferred from the shapes
RELEASED_LEVELS = {5: (7, 5, 5, 5, 5), 4: (7, 5, 5, 5)}  # by the number of scalars in a code


class ConversionError(ValueError):
    """A checkpoint that cannot be converted; the message says what is wrong with it."""


# --- names -----------------------------------------------------------------------------------------------------------

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
    (r"\.ln1\.", ".attention_norm."),
    (r"\.ln2\.", ".mlp_norm."),
    (r"\.attn\.query\.", ".attention.q_proj."),
    (r"\.attn\.key\.", ".attention.k_proj."),
    (r"\.attn\.value\.", ".attention.v_proj."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.2\.", ".mlp.fc2."),
    (r"\.mamba\.mamba1\.", ".mambas.upper."),
    (r"\.mamba\.mamba2\.", ".mambas.lower."),
    (r"\.mamba\.mamba3\.", ".mambas.music."),
    (r"\.mamba\.norm1\.", ".mamba_norms.upper."),
    (r"\.mamba\.norm2\.", ".mamba_norms.lower."),
    (r"\.mamba\.norm3\.", ".mamba_norms.music."),
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
    """The released generator as a model in evaluation mode. It generates in mode `released` and greedily, as theirs.

    Args:
        state_dict: official names, with or without the trainer's prefix `gpt.` (with it, other names are ignored). Tensors are
            shared, not copied.
        statistics: the authors' mean and std dictionaries; identity when None.
        overrides: of the configuration, such as `num_attention_heads` (8 when not given) and `id2label` (FineDance's names for 16
            genres, AIST++'s for 10, else `genre0`, `genre1`, ...).

    Raises:
        ConversionError: missing, unknown, misshapen or non-finite tensors, all of them listed.
    """
    state = _network(state_dict, GENERATOR_PREFIX)
    embedding = _shape(state, "dance_decoder.pose_up_emb.weight")
    layer = "dance_decoder.decoder_layers"
    block = f"{layer}.0.global_swab"
    inner, state_size = _shape(state, f"{block}.mamba.mamba1.A_log")
    hidden, music, output = embedding[1], "dance_decoder.music_MLP.0.weight", "dance_decoder.MLP_Output.0.weight"
    num_genres = _count(state, rf"^{re.escape(layer)}\.\d+\.genre_swab\.(\d+)\.")
    known = {len(names): names for names in (FINEDANCE_GENRES, AISTPP_GENRES)}
    names = known.get(num_genres, tuple(f"genre{index}" for index in range(num_genres)))
    config = MegaDanceConfig.released(
        **{
            "codebook_size": embedding[0],
            "hidden_size": hidden,
            "num_hidden_layers": _count(state, rf"^{re.escape(layer)}\.(\d+)\."),
            "num_attention_heads": RELEASED_HEADS,
            "intermediate_size": _shape(state, f"{block}.mlp.0.weight")[0],
            "state_size": state_size,
            "conv_kernel": _shape(state, f"{block}.mamba.mamba1.conv1d.weight")[-1],
            "expand": inner // hidden,
            "time_step_rank": _shape(state, f"{block}.mamba.mamba1.x_proj.weight")[0] - 2 * state_size,
            "music_feature_size": _shape(state, music)[1],
            "music_hidden_size": _shape(state, music)[0],
            "output_hidden_size": _shape(state, output)[0],
            "id2label": dict(enumerate(names)),
            **overrides,
        }
    )
    mean, std = _mean_and_std(statistics, ("music_librosa",), config.music_feature_size)
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

    `levels` are (7, 5, 5, 5, 5) for codes of five scalars unless given: they cannot be inferred from the shapes.
    """
    state = _network(state_dict, TOKENIZER_PREFIX)
    encoder = "Pose_UP_Encoder.encoders.0.level_blocks.0.model"
    scalars, code = _shape(state, "Pose_UP_Quantizer.bottleneck.project_in.weight")
    config = MegaDanceTokenizerConfig(
        **{
            "levels": RELEASED_LEVELS.get(scalars, (5,) * scalars),
            "hidden_size": _shape(state, f"{encoder}.0.0.weight")[0],
            "code_size": code,
            "num_downsamples": _count(state, rf"^{re.escape(encoder)}\.(\d+)\.0\."),
            "residual_depth": _count(state, rf"^{re.escape(encoder)}\.0\.1\.model\.(\d+)\."),
            **overrides,
        }
    )
    mean, std = _mean_and_std(statistics, ("smpl_root_vel", "smpl_poses"), 147)
    return _loaded(MegaDanceTokenizer, config, state, tokenizer_name, {"motion_mean": mean, "motion_std": std})


def convert_released_classifier(
    state_dict: Mapping[str, Tensor], statistics: Statistics | None = None, **overrides: Any
) -> MegaDanceForGenreClassification:
    """The released genre classifier. Arguments and errors as for the generator; the prefix is `cls_model.`."""
    state = _network(state_dict, CLASSIFIER_PREFIX)
    former = "dance_encoder.dance_encoder.Dance_Former_"
    config = MegaDanceClassifierConfig(
        **{
            "hidden_size": _shape(state, "dance_encoder.MLP_input.0.weight")[0],
            "num_hidden_layers": _count(state, rf"^{re.escape(former)}(\d+)\."),
            "num_attention_heads": RELEASED_HEADS,
            "intermediate_size": _shape(state, f"{former}0.layer.layers.0.linear1.weight")[0],
            "output_hidden_size": _shape(state, "dance_encoder.MLP_output.0.weight")[0],
            "num_outputs": _shape(state, "dance_encoder.MLP_output.1.weight")[0],
            **overrides,
        }
    )
    mean, std = _mean_and_std(statistics, ("smpl_trans", "smpl_poses"), 147)
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


def _shape(state: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    if name not in state:
        raise ConversionError(f"the checkpoint lacks {name}: it is not of this network, or not complete")
    return tuple(state[name].shape)


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
    problems: dict[str, list[str]] = {"unknown": [], "misshapen": [], "not finite": []}
    for official, tensor in state.items():
        if any(re.search(pattern, official) for pattern in _IGNORED):
            continue
        name = rename(official)
        if name not in expected or name in ours or not isinstance(tensor, Tensor):
            problems["unknown"].append(official)
        elif tuple(tensor.shape) != expected[name]:
            problems["misshapen"].append(f"{official} {tuple(tensor.shape)} instead of {expected[name]}")
        elif not torch.isfinite(tensor).all():
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


def _mean_and_std(statistics: Statistics | None, parts: tuple[str, ...], size: int) -> tuple[Tensor, Tensor]:
    """Mean and std (size,), concatenated from `<part>_mean` and `<part>_std`."""
    if statistics is None:
        return torch.zeros(size), torch.ones(size)
    result = []
    for table, kind in zip(statistics, ("mean", "std"), strict=True):
        values = []
        for part in parts:
            name = f"{part}_{kind}"
            if name not in table:
                raise ConversionError(f"the {kind} file lacks {name}; it has {_listed(list(table))}")
            values.append(np.asarray(table[name], dtype=np.float32).ravel())
        row = torch.from_numpy(np.concatenate(values))
        if len(row) != size or not torch.isfinite(row).all() or (kind == "std" and not (row > 0).all()):
            what = "finite numbers above 0" if kind == "std" else "finite numbers"
            raise ConversionError(f"{' and '.join(f'{part}_{kind}' for part in parts)} must be {size} {what}")
        result.append(row)
    return result[0], result[1]


def read_statistics(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """One of the authors' mean and std files: a dictionary of arrays in `.npz`, `.npy`, `.pkl` or `.pt`.

    Raises:
        ConversionError: not such a file, or a pickle that holds more than arrays and plain containers.
    """
    path = Path(path)
    with reading(path, error=ConversionError):
        loaders = {".npz": load_npz, ".pt": load_torch, ".pth": load_torch}
        table = loaders.get(path.suffix.lower(), load_pickle)(path)
    if not isinstance(table, Mapping):
        raise ConversionError(f"{path} holds {type(table).__name__}, not a dictionary of arrays")
    return {str(name): np.asarray(value) for name, value in table.items()}


# --- a whole checkpoint ----------------------------------------------------------------------------------------------------


def read_checkpoint(path: str | os.PathLike) -> dict[str, Tensor]:
    """The state dict of an authors' checkpoint, its tensors memory-mapped. Nothing in the file is executed.

    Raises:
        ConversionError: not there, not readable, or not a checkpoint.
    """
    with reading(path, error=ConversionError):
        content = load_torch(path)
    state = _find_state_dict(content)
    if state is None:
        keys = f"; it has {_listed(list(map(str, content)))}" if isinstance(content, Mapping) and content else ""
        containers = ", ".join(_CONTAINERS)
        raise ConversionError(f"{path} holds no state dict, neither at its top nor under one of {containers}{keys}")
    return _without_wrappers(state)


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


def convert_checkpoint(
    checkpoint: str | os.PathLike,
    output_dir: str | os.PathLike,
    *,
    mean: str | os.PathLike | None = None,
    std: str | os.PathLike | None = None,
    genres: list[str] | None = None,
) -> list[str]:
    """Convert a file and write a model folder: the generator, `tokenizer/`, `classifier/`, the feature extractor.

    Args:
        checkpoint: the authors' file; it may hold one, two or all three networks.
        output_dir: must not exist yet, or be empty. All of it is written, or nothing.
        mean, std: the authors' files; both or none.
        genres: names of the generator's genres in the order of their ids, when they are not FineDance's or AIST++'s.

    Returns:
        a line for each network that was written.

    Raises:
        ConversionError: anything that does not fit; nothing is written then.
    """
    output_dir = Path(output_dir)
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise ConversionError(f"OUT_DIR={str(output_dir)!r} is not empty; choose a new folder")
    if (mean is None) != (std is None):
        raise ConversionError("--mean and --std belong together: give both files, or neither")
    statistics = None if mean is None else (read_statistics(mean), read_statistics(std))
    state = read_checkpoint(checkpoint)
    options = {} if genres is None else {"id2label": dict(enumerate(genres))}
    prefixed = any(name.startswith(PREFIXES) for name in state)
    kinds = (
        ("", GENERATOR_PREFIX, "dance_decoder.", convert_released_generator, options),
        ("tokenizer", TOKENIZER_PREFIX, "Pose_", convert_released_tokenizer, {}),
        ("classifier", CLASSIFIER_PREFIX, "dance_encoder.", convert_released_classifier, {}),
    )
    present = [kind for kind in kinds if any(name.startswith(kind[1] if prefixed else kind[2]) for name in state)]
    if not present:
        raise ConversionError(
            f"{checkpoint} has none of the three networks; its names begin with {_listed(list(state), 3)}"
        )
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    with whole(output_dir, ConversionError) as partial:
        lines = []
        for folder, _, _, convert, extra in present:
            model = convert(state, statistics, **extra)
            model.save_pretrained(partial / folder, **({} if folder else {"shard_by_genre": True}))
            if not folder:
                MegaDanceFeatureExtractor().save_pretrained(partial)
            lines.append(f"{folder or 'generator'}: {type(model).__name__}, {model.num_parameters():,} parameters")
            del model
    return lines
