"""The same numbers as the released code: inputs and outputs recorded with it, weights filled by a rule."""

import math
import re
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from megadance_hf.modeling.configuration_megadance import FINEDANCE_GENRES, MegaDanceConfig
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration, MegaDanceModel

# Official name -> name here, applied in this order to names without the leading "dance_decoder."
GENERATOR_NAMES = (
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


def generator_name(official: str) -> str:
    name = official.removeprefix("dance_decoder.")
    name = re.sub(r"\.genre_swab\.(\d+)\.", lambda m: f".genre_experts.genre_{FINEDANCE_GENRES[int(m[1])]}.", name)
    for pattern, replacement in GENERATOR_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def filler(info: dict) -> Callable[[str, list[int]], np.ndarray]:
    """The fill rule of the fixtures: official name and shape -> values."""
    salt, rules = info["fill"]["salt"], info["fill"]["rules"]

    def fill(name: str, shape: list[int]) -> np.ndarray:
        bits = np.random.PCG64(zlib.crc32(f"{salt}:{name}".encode()))
        z = np.random.Generator(bits).standard_normal(shape, dtype=np.float32)
        rule = next(rule for rule in rules if re.search(rule["pattern"], name))
        kind, c = rule["kind"], rule["c"]
        if kind == "plain":
            return z * np.float32(c)
        if kind == "one_plus":
            return 1 + z * np.float32(c)
        if kind == "fan_in":
            return z * np.float32(c / math.sqrt(math.prod(shape[1:])))
        if kind == "a_log":
            return np.log(np.arange(1, shape[1] + 1)).astype(np.float32) + z * np.float32(c)
        assert kind == "dt_bias", kind
        u = 1 / (1 + np.exp(-1.7 * z.astype(np.float64)))
        dt = np.exp(math.log(0.001) + u * math.log(100))
        return (dt + np.log(-np.expm1(-dt))).astype(np.float32)

    return fill


def fill_generator(info: dict, num_layers: int, num_genres: int) -> MegaDanceForMotionGeneration:
    """A model in the released arrangement with the fixtures' weights; each of its parameters is filled."""
    config = MegaDanceConfig.released(
        num_hidden_layers=num_layers, id2label=dict(enumerate(FINEDANCE_GENRES[:num_genres]))
    )
    with torch.device("meta"):  # never initialised: every number comes from the rule
        model = MegaDanceForMotionGeneration(config)
    fill = filler(info)
    shapes = {name: shape for name, shape, _, kind in info["state_dict"] if kind == "parameter"}
    for name, expected in info["fill_checks"].items():
        np.testing.assert_allclose(fill(name, shapes[name]).ravel()[:4], expected["first4"], rtol=1e-6, atol=1e-7)
    state = {generator_name(name): torch.from_numpy(fill(name, shape)) for name, shape in shapes.items()}
    statistics = {"model.music_mean": torch.zeros(35), "model.music_std": torch.ones(35)}
    model.load_state_dict({**state, **statistics}, strict=True, assign=True)
    return model.eval()


class Generator:
    """A filled model and its fixtures."""

    def __init__(self, parity, name: str, num_layers: int, num_genres: int):
        self.arrays, self.info = parity(name)
        self.model = fill_generator(self.info, num_layers, num_genres)

    def array(self, name: str) -> torch.Tensor:
        array = torch.from_numpy(self.arrays[name])
        return array.long() if array.dtype == torch.int32 else array

    def features(self, case: str) -> torch.Tensor:
        # the fixtures hold the music of each code step; of 8 frames only the first one counts in this arrangement
        return self.array(f"{case}_music").repeat_interleave(8, 1)

    def forward(self, case: str, **kwargs):
        codes = (self.array(f"{case}_up"), self.array(f"{case}_down"))
        return self.model(self.features(case), *codes, self.array(f"{case}_genre"), **kwargs)

    def generate(self, case: str, **kwargs):
        codes = (self.array(f"{case}_first_up"), self.array(f"{case}_first_down"))
        return self.model.generate(
            self.features(case), self.array(f"{case}_genre"), *codes, mode="released", do_sample=False, **kwargs
        )

    def check_codes(self, case: str, result) -> None:
        assert torch.equal(result.upper_codes, self.array(f"{case}_codes_up"))
        assert torch.equal(result.lower_codes, self.array(f"{case}_codes_down"))

    def check_hidden(self) -> None:
        """Values inside the first layer, and what leaves the last one, of one item."""
        caught = {}

        def keep(name):
            return lambda module, args, output: caught.__setitem__(name, output)

        expert = self.model.model.layers[0].universal_expert
        # attention's input is normalised, so what it normalises is caught at the norm
        hooks = [
            expert.mambas["upper"].register_forward_hook(keep("layer0_global_mamba1_raw")),
            expert.attention_norm.register_forward_pre_hook(
                lambda module, args: caught.__setitem__("layer0_global_after_mamba_norm", args[0])
            ),
            expert.attention.register_forward_hook(keep("layer0_global_attn_raw")),
            expert.register_forward_hook(keep("layer0_global_out")),
        ]
        row = int((self.array("t22_genre") < self.array("t22_genre")[0]).sum())  # place of item 0 when sorted by genre
        with torch.no_grad():
            hidden = self.forward("t22", output_hidden_states=True).hidden_states
        for hook in hooks:
            hook.remove()
        values = {name: value[row : row + 1] for name, value in caught.items()}
        values |= {"layer0_in": hidden[0][:1], "layer0_out": hidden[1][:1], "last_layer_out": hidden[-1][:1]}
        for name, value in values.items():
            value = value.flatten(1, 2) if value.dim() == 4 else value
            torch.testing.assert_close(value, self.array(f"t22_item0_{name}"), atol=1e-4, rtol=0, msg=name)


# ------------------------------------------------------------------------------------------------- reduced generator


@pytest.fixture(scope="module")
def reduced(parity) -> Iterator[Generator]:
    yield Generator(parity, "gpt_reduced", num_layers=2, num_genres=3)


@pytest.mark.slow
def test_reduced_generator_parameters(reduced):
    assert sum(parameter.numel() for parameter in reduced.model.parameters()) == 74_225_943
    assert reduced.model.num_active_parameters() == reduced.info["parameters"]["used_per_genre"]
    expert = reduced.model.model.layers[0].universal_expert
    assert sum(parameter.numel() for parameter in expert.parameters()) == reduced.info["parameters"]["per_block"]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["t22", "t29", "t5"])
def test_reduced_generator_logits(reduced, case):
    with torch.no_grad():
        outputs = reduced.forward(case)
    for name, logits in (("up", outputs.upper_logits), ("down", outputs.lower_logits)):
        torch.testing.assert_close(logits, reduced.array(f"{case}_logits_{name}"), atol=1e-4, rtol=0)
        assert torch.equal(logits.topk(10).indices, reduced.array(f"{case}_top10_{name}"))


@pytest.mark.slow
def test_reduced_generator_hidden_values(reduced):
    reduced.check_hidden()


@pytest.mark.slow
def test_reduced_generator_mask(reduced):
    mask = MegaDanceModel._mask(reduced.model.model, 29, 0, torch.device("cpu"))
    assert torch.equal(mask, ~reduced.array("attention_mask_29"))  # theirs says what is hidden


@pytest.mark.slow
def test_reduced_generator_loss_and_gradients(reduced):
    expected = reduced.info["cases"]["loss30"]
    model = reduced.model  # in evaluation mode: no dropout
    codes = {"upper_labels": reduced.array("loss30_up"), "lower_labels": reduced.array("loss30_down")}
    model.zero_grad()
    outputs = reduced.forward("loss30", **codes)
    outputs.loss.backward()
    assert abs(outputs.loss.item() - expected["loss"]) < 1e-4
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    for official, norm in expected["gradient_l2"].items():
        if not official.endswith("attn.key.bias"):  # its true gradient is zero
            ours = gradients[generator_name(official)]
            assert (0.0 if ours is None else ours.norm().item()) == pytest.approx(norm, rel=1e-3), official


@pytest.mark.slow
@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("case", ["gen26", "gen60"])
def test_reduced_generator_codes(reduced, case, use_cache):
    reduced.check_codes(case, reduced.generate(case, use_cache=use_cache))


# ---------------------------------------------------------------------------------------------------- full generator


@pytest.fixture(scope="module")
def full(parity) -> Iterator[Generator]:
    yield Generator(parity, "gpt_full", num_layers=6, num_genres=16)


@pytest.mark.slow
def test_full_generator(full):
    assert sum(parameter.numel() for parameter in full.model.parameters()) == 848_749_847
    for case in ("t22", "t29", "genres"):
        with torch.no_grad():
            outputs = full.forward(case)
        for name, logits in (("up", outputs.upper_logits), ("down", outputs.lower_logits)):
            compared = {"last_logits": logits[:, -1], "strided_logits": logits[:, :, ::35]}
            compared["last_strided_logits"] = logits[:, -1, ::35]
            found = [f"{case}_{kind}_{name}" for kind in compared]
            assert any(key in full.arrays for key in found)
            for key, value in zip(found, compared.values(), strict=True):
                if key in full.arrays:
                    torch.testing.assert_close(value, full.array(key), atol=1e-4, rtol=0, msg=key)
            assert torch.equal(logits.topk(10).indices, full.array(f"{case}_top10_{name}"))


@pytest.mark.slow
def test_full_generator_hidden_values(full):
    full.check_hidden()


@pytest.mark.slow
def test_full_generator_codes(full):
    full.check_codes("gen60", full.generate("gen60"))
