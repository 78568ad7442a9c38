"""Tiny checkpoints under the names of the authors' code, with random weights."""

import pickle
from pathlib import Path

import numpy as np
import torch


def block() -> dict[str, tuple[int, ...]]:
    """One expert of hidden size 16 (8 heads of 2), under official names."""
    shapes = {"attn.mask": (1, 1, 29, 29)}
    for norm in ("ln1", "ln2", "mamba.norm1", "mamba.norm2", "mamba.norm3"):
        shapes |= {f"{norm}.weight": (16,), f"{norm}.bias": (16,)}
    for linear, size in {
        "attn.key": (16, 16),
        "attn.query": (16, 16),
        "attn.value": (16, 16),
        "attn.proj": (16, 16),
    }.items():
        shapes |= {f"{linear}.weight": size, f"{linear}.bias": size[:1]}
    shapes |= {"mlp.0.weight": (24, 16), "mlp.0.bias": (24,), "mlp.2.weight": (16, 24), "mlp.2.bias": (16,)}
    for mamba in ("mamba.mamba1", "mamba.mamba2", "mamba.mamba3"):
        shapes |= {
            f"{mamba}.A_log": (32, 4),
            f"{mamba}.D": (32,),
            f"{mamba}.in_proj.weight": (64, 16),
            f"{mamba}.conv1d.weight": (32, 1, 4),
            f"{mamba}.conv1d.bias": (32,),
            f"{mamba}.x_proj.weight": (9, 32),
            f"{mamba}.dt_proj.weight": (32, 1),
            f"{mamba}.dt_proj.bias": (32,),
            f"{mamba}.out_proj.weight": (16, 32),
        }
    return shapes


def linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def fill(shapes: dict[str, tuple[int, ...]], prefix: str = "") -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {prefix + name: torch.randn(shape) * 0.1 for name, shape in shapes.items()}


def official_generator(prefix: str = "", codes: int = 27, genres: int = 2) -> dict[str, torch.Tensor]:
    """Two layers of width 16."""
    shapes = {f"dance_decoder.pose_{part}_emb.weight": (codes, 16) for part in ("up", "down")}
    shapes |= linear("dance_decoder.music_MLP.0", 35, 8) | linear("dance_decoder.music_MLP.1", 8, 16)
    shapes |= linear("dance_decoder.MLP_Output.0", 16, 12) | linear("dance_decoder.MLP_Output.1", 12, codes)
    for layer in range(2):
        for expert in ("global_swab", *(f"genre_swab.{genre}" for genre in range(genres))):
            shapes |= {
                f"dance_decoder.decoder_layers.{layer}.{expert}.{name}": shape for name, shape in block().items()
            }
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
