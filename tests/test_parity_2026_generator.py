"""The same numbers as the authors' release of 2026: its generator, and its whole chain. Everything else did not change: test_parity.py."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from test_parity import Generator, check_chain, close, filled_state

from megadance_hf.hub.convert import (
    convert_released_classifier,
    convert_released_generator,
    convert_released_tokenizer,
    generator_name,
)
from megadance_hf.modeling.genres_megadance import FINEDANCE_GENRES
from megadance_hf.modeling.kinematics_megadance import NUM_JOINTS, matrix_to_rotation_6d, root_velocity
from megadance_hf.modeling.quantizers_megadance import digits_to_codes

LEVELS = (7, 5, 5, 5, 5)


class Generator2026(Generator):
    """Codes are digits there and indices here."""

    def array(self, name: str) -> torch.Tensor:
        array = super().array(name)
        return digits_to_codes(array, LEVELS) if array.dtype == torch.long and array.shape[-1:] == (5,) else array

    def check_codes(self, case: str, result) -> None:
        super().check_codes(case, result)
        assert torch.equal(result.upper_codes, self.array(f"{case}_flat_up"))
        assert torch.equal(result.lower_codes, self.array(f"{case}_flat_down"))

    def check_logits(self, case: str) -> None:
        with torch.no_grad():
            outputs = self.forward(case)
        close(outputs.upper_logits, self.array(f"{case}_logits_up"))
        close(outputs.lower_logits, self.array(f"{case}_logits_down"))

    def check_margins(self, case: str, result) -> None:
        """The gap between the best and the second digit, the smallest of the batch, both streams and all levels."""
        levels = torch.stack((result.upper_logits, result.lower_logits)).split(LEVELS, dim=-1)
        gaps = [best - second for best, second in (level.topk(2).values.unbind(-1) for level in levels)]
        smallest = torch.stack(gaps).amin((0, 1, 2))
        torch.testing.assert_close(smallest, self.array(f"{case}_step_margin"), atol=2e-4, rtol=0)

    def hooks(self, keep):
        layer = self.model.model.layers[0]
        expert = layer.universal_expert
        return [
            layer.mambas["upper"].register_forward_hook(keep("layer0_mamba1_raw")),
            layer.mamba_norms.register_forward_hook(keep("layer0_after_mamba")),
            expert.attention_norm.register_forward_hook(keep("layer0_global_ln1")),
            expert.attention.register_forward_hook(keep("layer0_global_attn_raw")),
            expert.register_forward_hook(keep("layer0_global_out")),
        ]


# ------------------------------------------------------------------------------------------------- reduced generator


@pytest.fixture(scope="module")
def reduced(parity) -> Iterator[Generator2026]:
    yield Generator2026(parity, "2026/gpt2026_reduced")


@pytest.mark.slow
def test_parameters(reduced):
    model, expected = reduced.model, reduced.info["parameters"]
    layer = model.model.layers[0]
    parts = {
        "total": [model],
        "attention_block": [layer.universal_expert],
        "mamba_block": [layer.mambas, layer.mamba_norms],
    }
    for name, modules in parts.items():
        found = sum(parameter.numel() for module in modules for parameter in module.parameters())
        assert found == expected[name], name
    assert model.num_active_parameters() == expected["used_per_genre"]
    assert model.config.arrangement == "released_2026" and model.config.levels == list(LEVELS)


@pytest.mark.versions
@pytest.mark.slow
@pytest.mark.parametrize("case", ["t22", "t29", "t5", "t1"])
def test_logits(reduced, case):
    reduced.check_logits(case)


@pytest.mark.slow
def test_hidden_values(reduced):
    reduced.check_hidden()


@pytest.mark.slow
def test_mask(reduced):
    reduced.check_mask()


@pytest.mark.versions
@pytest.mark.slow
def test_loss_and_gradients(reduced):
    expected, model = reduced.info["cases"]["loss30"], reduced.model  # in evaluation mode: no dropout
    labels = {"upper_labels": reduced.array("loss30_up"), "lower_labels": reduced.array("loss30_down")}
    model.zero_grad()
    outputs = reduced.forward("loss30", **labels)
    outputs.loss.backward()
    assert outputs.loss.item() == pytest.approx(expected["loss"], abs=1e-4)
    for name, logits in (("up", outputs.upper_logits), ("down", outputs.lower_logits)):
        close(logits[:, :-1], reduced.array(f"loss30_logits_{name}"))
        digits = torch.from_numpy(reduced.arrays[f"loss30_{name}"]).long()[:, 1:].unbind(-1)
        terms = [
            torch.nn.functional.cross_entropy(scores.flatten(0, 1), digit.flatten()).item()
            for scores, digit in zip(logits[:, :-1].split(LEVELS, dim=-1), digits, strict=True)
        ]
        assert terms == pytest.approx(expected[f"cross_entropy_by_level_{name}"], abs=1e-4)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    for official, norm in expected["gradient_l2"].items():
        if not official.endswith("attn.key.bias"):  # its true gradient is zero
            ours = gradients[generator_name(official)]
            assert (0.0 if ours is None else ours.norm().item()) == pytest.approx(norm, rel=1e-3), official


@pytest.mark.versions
@pytest.mark.slow
@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("case", ["gen61", "gen29"])
def test_codes(reduced, case, use_cache):
    result = reduced.generate(case, use_cache=use_cache, output_logits=True)
    reduced.check_codes(case, result)
    reduced.check_margins(case, result)


# ---------------------------------------------------------------------------------------------------- full generator


@pytest.fixture(scope="module")
def full(parity) -> Iterator[Generator2026]:
    yield Generator2026(parity, "2026/gpt2026_full")


@pytest.mark.slow
@pytest.mark.parametrize("case", ["t22", "t29", "genres"])
def test_full_size_logits(full, case):
    assert sum(parameter.numel() for parameter in full.model.parameters()) == 470_492_187
    full.check_logits(case)


@pytest.mark.slow
def test_full_size_hidden_values(full):
    full.check_hidden()


@pytest.mark.slow
@pytest.mark.parametrize("case", ["gen61", "gen29"])
def test_full_size_codes(full, case):
    result = full.generate(case, output_logits=True)
    full.check_codes(case, result)
    full.check_margins(case, result)


# --------------------------------------------------------------------------------------------------------- pipeline


@pytest.mark.versions
@pytest.mark.slow
def test_the_whole_chain(parity, reduced):
    """A start motion and music in; codes, motion, joints, features and scores out. One checkpoint holds all three networks."""
    arrays, info = parity("2026/pipeline2026_reduced")
    state = {f"gpt.{name}": value for name, value in filled_state(reduced.info).items()}
    for prefix, kind, shapes in (
        ("fsq.", "fsq", "fsq_reduced"),
        ("cls_model.", "style_classifier", "style_classifier"),
    ):
        names = parity(shapes)[1]["state_dict"]
        checks = {name: info["fill_checks"][name] for name, *_ in names if name in info["fill_checks"]}
        part = filled_state({"fill": info["fill"][kind], "state_dict": names, "fill_checks": checks})
        state |= {prefix + name: value for name, value in part.items()}
    for prefix, count in info["checkpoint_prefixes"].items():
        assert sum(name.startswith(f"{prefix}.") for name in state) == count
    kinds = ("mean", "std")
    own = tuple(
        {k: v for k, v in arrays.items() if k.startswith(("smpl", "music")) and k.endswith(kind)} for kind in kinds
    )
    classifiers = tuple(
        {k.removeprefix("classifier_"): v for k, v in arrays.items() if k.startswith("classifier") and k.endswith(kind)}
        for kind in kinds
    )
    rest = torch.from_numpy(arrays["rest_joints"])
    offsets = rest - rest[[max(parent, 0) for parent in arrays["parents"]]]
    offsets[0] = rest[0]
    generator = convert_released_generator(state, own, id2label=dict(enumerate(FINEDANCE_GENRES[:3])))
    tokenizer = convert_released_tokenizer(state, own, rest_offsets=offsets.tolist())
    classifier = convert_released_classifier(state, classifiers)

    flat = {
        name: digits_to_codes(torch.from_numpy(arrays[name]).long(), LEVELS)
        for name in arrays
        if "codes_" in name and "flat" not in name
    }
    # the released code reads the 72 numbers as Euler angles, which scipy does here
    angles = Rotation.from_euler("xyz", arrays["init_angles72"].reshape(-1, 3)).as_matrix()
    pose = matrix_to_rotation_6d(torch.from_numpy(angles).float().view(2, -1, NUM_JOINTS, 3, 3)).flatten(2)
    start = tokenizer.encode(torch.cat((root_velocity(torch.from_numpy(arrays["init_trans"])), pose), dim=-1))
    assert torch.equal(start.upper_codes, flat["init_codes_up"]) and torch.equal(
        start.lower_codes, flat["init_codes_down"]
    )
    arrays = arrays | {name: codes.numpy() for name, codes in flat.items()}
    for part in ("up", "down"):
        np.testing.assert_array_equal(arrays[f"codes_{part}"], arrays[f"codes_flat_{part}"])
    check_chain(arrays, info, generator, tokenizer, classifier)
