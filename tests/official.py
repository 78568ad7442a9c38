"""Tiny checkpoints under the names of the authors' code, with random weights."""

import pickle
from pathlib import Path

import numpy as np
import torch


def attention_block(*norms: str) -> dict[str, tuple[int, ...]]:
    """Attention, norms and feed-forward net of hidden size 16 (8 heads of 2), under official names."""
    shapes = {"attn.mask": (1, 1, 29, 29)}
    for norm in norms:
        shapes |= {f"{norm}.weight": (16,), f"{norm}.bias": (16,)}
    for part in ("key", "query", "value", "proj"):
        shapes |= linear(f"attn.{part}", 16, 16)
    return shapes | linear("mlp.0", 16, 24) | linear("mlp.2", 24, 16)


def mambas(name: str) -> dict[str, tuple[int, ...]]:
    """One for each stream, and the norms behind them."""
    shapes = {}
    for stream in (1, 2, 3):
        mamba = f"{name}.mamba{stream}"
        shapes |= {f"{name}.norm{stream}.weight": (16,), f"{name}.norm{stream}.bias": (16,)}
        shapes |= {f"{mamba}.A_log": (32, 4), f"{mamba}.D": (32,), f"{mamba}.in_proj.weight": (64, 16)}
        shapes |= {f"{mamba}.conv1d.weight": (32, 1, 4), f"{mamba}.conv1d.bias": (32,)}
        shapes |= {f"{mamba}.x_proj.weight": (9, 32), **linear(f"{mamba}.dt_proj", 1, 32)}
        shapes |= {f"{mamba}.out_proj.weight": (16, 32)}
    return shapes


def linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def fill(shapes: dict[str, tuple[int, ...]], prefix: str = "") -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {prefix + name: torch.randn(shape) * 0.1 for name, shape in shapes.items()}


def official_generator(prefix: str = "", codes: int = 27, genres: int = 2) -> dict[str, torch.Tensor]:
    """Two layers of width 16, as in the release of 2025."""
    shapes = {f"dance_decoder.pose_{part}_emb.weight": (codes, 16) for part in ("up", "down")}
    return _generator(prefix, shapes, codes, genres, attention_block("ln1", "ln2") | mambas("mamba"), {})


def official_generator_2026(
    prefix: str = "", levels: tuple[int, ...] = (3, 3, 3), genres: int = 2, layers: int = 2
) -> dict[str, torch.Tensor]:
    """Layers of width 16, as in the release of 2026."""
    tables = [(part, index, level) for part in ("up", "down") for index, level in enumerate(levels)]
    shapes = {f"dance_decoder.pose_{part}_emb.{index}.weight": (level, 16) for part, index, level in tables}
    norms = [f"ln{norm}.ln{stream}" for norm in (1, 2) for stream in (1, 2, 3)]
    return _generator(prefix, shapes, sum(levels), genres, attention_block(*norms), mambas("global_mamba"), layers)


def _generator(
    prefix: str, shapes: dict, outputs: int, genres: int, expert: dict, layer_parts: dict, layers: int = 2
) -> dict:
    shapes |= linear("dance_decoder.music_MLP.0", 35, 8) | linear("dance_decoder.music_MLP.1", 8, 16)
    shapes |= linear("dance_decoder.MLP_Output.0", 16, 12) | linear("dance_decoder.MLP_Output.1", 12, outputs)
    for layer in range(layers):
        parts = dict(layer_parts)
        for name in ("global_swab", *(f"genre_swab.{genre}" for genre in range(genres))):
            parts |= {f"{name}.{part}": shape for part, shape in expert.items()}
        shapes |= {f"dance_decoder.decoder_layers.{layer}.{name}": shape for name, shape in parts.items()}
    return fill(shapes, prefix)


def official_classifier(prefix: str = "") -> dict[str, torch.Tensor]:
    shapes = linear("dance_encoder.MLP_input.0", 147, 16) | linear("dance_encoder.MLP_input.1", 16, 16)
    shapes |= linear("dance_encoder.MLP_keypoint.0", 72, 16) | linear("dance_encoder.MLP_keypoint.1", 16, 16)
    shapes |= linear("dance_encoder.MLP_output.0", 16, 8) | linear("dance_encoder.MLP_output.1", 8, 20)
    for layer in range(2):
        former = f"dance_encoder.dance_encoder.Dance_Former_{layer}.layer.layers.0"
        shapes |= {f"{former}.self_attn.in_proj_weight": (48, 16), f"{former}.self_attn.in_proj_bias": (48,)}
        shapes |= linear(f"{former}.self_attn.out_proj", 16, 16)
        shapes |= linear(f"{former}.linear1", 16, 24) | linear(f"{former}.linear2", 24, 16)
        shapes |= {f"{former}.norm{n}.{kind}": (16,) for n in (1, 2) for kind in ("weight", "bias")}
    return fill(shapes, prefix)


def official_tokenizer(prefix: str = "") -> dict[str, torch.Tensor]:
    """Width 8, code 6, three strided layers of one residual block."""
    shapes = {}

    def conv(name, inputs, outputs, kernel):
        shapes.update({f"{name}.weight": (outputs, inputs, kernel), f"{name}.bias": (outputs,)})

    for part, size in (("UP", 90), ("DOWN", 57)):
        encoder = f"Pose_{part}_Encoder.encoders.0.level_blocks.0.model"
        decoder = f"Pose_{part}_Decoder.decoders.0.level_blocks.0.model"
        conv(f"{decoder}.0", 6, 8, 3)
        for layer in range(3):
            conv(f"{encoder}.{layer}.0", size if layer == 0 else 8, 8, 4)
            conv(f"{encoder}.{layer}.1.model.0.model.1", 8, 8, 3)
            conv(f"{encoder}.{layer}.1.model.0.model.3", 8, 8, 1)
            conv(f"{decoder}.{layer + 1}.0.model.0.model.1", 8, 8, 3)
            conv(f"{decoder}.{layer + 1}.0.model.0.model.3", 8, 8, 1)
            # transposed, so inputs come first; the last one leaves the code's width
            shapes[f"{decoder}.{layer + 1}.1.weight"] = (8, 6 if layer == 2 else 8, 4)
            shapes[f"{decoder}.{layer + 1}.1.bias"] = (6 if layer == 2 else 8,)
        conv(f"{encoder}.3", 8, 6, 3)
        conv(f"Pose_{part}_Decoder.decoders.0.out", 6, size, 3)
        quantizer = f"Pose_{part}_Quantizer.bottleneck"
        shapes.update(linear(f"{quantizer}.project_in", 6, 5) | linear(f"{quantizer}.project_out", 5, 6))
    return fill(shapes, prefix)


def statistics() -> tuple[dict, dict]:
    """The authors' mean and std dictionaries, made up."""
    sizes = {"smpl_trans": 3, "smpl_root_vel": 3, "smpl_poses": 144, "music_librosa": 35}
    generator = np.random.default_rng(0)
    mean = {f"{name}_mean": generator.normal(size=size) for name, size in sizes.items()}
    return mean, {f"{name}_std": generator.random(size) + 0.5 for name, size in sizes.items()}


def write_statistics(folder: Path) -> dict[str, Path]:
    """Their two files."""
    files = {}
    for name, table in zip(("mean", "std"), statistics(), strict=True):
        files[name] = folder / f"{name}.pkl"
        files[name].write_bytes(pickle.dumps(table))
    return files


def write_checkpoint(path: Path) -> Path:
    """All three networks in one file, of FineDance's sixteen genres and the full codebook."""
    state = official_generator("gpt.", 4375, 16) | official_tokenizer("fsq.") | official_classifier("cls_model.")
    torch.save({"model": state}, path)
    return path


def write_download_2026(folder: Path) -> None:
    """The folders `output` and `Pretrained` of the release of 2026, with sixteen genres and the full codebook."""
    tokenizer, classifier = official_tokenizer(), official_classifier()
    generator = official_generator_2026("gpt.", (7, 5, 5, 5, 5), 16)
    for part, prefix in ((tokenizer, "fsq."), (classifier, "cls_model.")):
        generator |= {prefix + name: value for name, value in part.items()}
    for name, state in {"gpt/90": generator, "fsq/120": tokenizer, "cls/30": classifier}.items():
        (folder / "output" / name / "Model").mkdir(parents=True)
        torch.save({"model": state}, folder / "output" / name / "Model" / "model.pth")
    for number, part in enumerate(("", "cls")):
        (folder / "Pretrained" / part).mkdir(parents=True, exist_ok=True)
        motion = ("smpl_trans", "smpl_poses") if part else ("smpl_trans", "smpl_root_vel", "smpl_poses")
        for kind, value in (("mean", 0.25 + number), ("std", 2.0 + number)):
            table = {f"{name}_{kind}": torch.tensor(value) for name in motion}
            table[f"music_librosa_{kind}"] = torch.arange(1.0, 36)
            torch.save(table, folder / "Pretrained" / part / f"{kind}.pt")
