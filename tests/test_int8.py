"""int8 weights are close to those that were quantized."""

import pytest
import torch
from torch import nn

from megadance_hf.cpu_kernels.int8 import Int8Config, Int8Linear, Int8Quantizer
from megadance_hf.modeling.configuration_megadance import MegaDanceConfig
from megadance_hf.modeling.modeling_megadance import MegaDanceForMotionGeneration


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = MegaDanceConfig(
        hidden_size=32,
        num_attention_heads=2,
        state_size=4,
        num_hidden_layers=2,
        intermediate_size=48,
        codebook_size=15,
        id2label={0: "waltz", 1: "rumba"},
    )
    return MegaDanceForMotionGeneration(config).eval()


@pytest.mark.parametrize("bias", [True, False])
def test_layer(bias):
    linear = nn.Linear(64, 40, bias=bias)
    quantized = Int8Linear(linear)
    assert quantized.weight.dtype == torch.int8 and quantized.weight.abs().amax() == 127
    scale = linear.weight.abs().amax(1, keepdim=True) / 127
    assert ((quantized.dense_weight() - linear.weight).abs() <= 0.501 * scale).all()
    for x in (torch.randn(3, 5, 64), torch.randn(200, 64)):
        exact = linear(x)
        assert (quantized(x) - exact).norm() < 0.01 * exact.norm()
        torch.testing.assert_close(quantized(x), nn.functional.linear(x, quantized.dense_weight(), linear.bias))


def test_model_is_close_and_generates(model, tmp_path):
    model.save_pretrained(tmp_path)
    quantized = MegaDanceForMotionGeneration.from_pretrained(tmp_path, quantization_config=Int8Config())
    music, genres = torch.randn(2, 96, 35), torch.tensor([0, 1])
    codes = torch.randint(0, 15, (2, 2, 12))
    with torch.no_grad():
        exact = model(music, *codes, genres).upper_logits
        close = quantized(music, *codes, genres).upper_logits
    assert 0.001 * exact.norm() < (close - exact).norm() < 0.05 * exact.norm()
    dance = quantized.generate(music, genres, do_sample=False)
    assert dance.upper_codes.shape == (2, 12)
    assert torch.equal(
        quantized.generate(music, genres, do_sample=False, backend="torch").upper_codes, dance.upper_codes
    )
    assert not [layer for layer in quantized.model.layers.modules() if isinstance(layer, nn.Linear)]


def test_shared_mambas_are_quantized_and_a_factorised_head_is_not():
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 48}
    model = MegaDanceForMotionGeneration(MegaDanceConfig.released_2026(**sizes, active_genres=["Popping"]))
    Int8Quantizer(Int8Config())._process_model_after_weight_loading(model)
    assert not [layer for layer in model.model.layers.modules() if isinstance(layer, nn.Linear)]
    assert isinstance(model.model.layers[0].mambas["music"].in_proj, Int8Linear)
    assert isinstance(model.output_mlp.fc1, nn.Linear) and isinstance(model.output_mlp.fc2, nn.Linear)


def test_from_pretrained(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = MegaDanceForMotionGeneration.from_pretrained(tmp_path, quantization="int8", active_genres=["waltz"])
    loaded.load_genres(tmp_path, ["rumba"])
    music, codes, genres = torch.randn(2, 96, 35), torch.randint(0, 15, (2, 2, 12)), torch.tensor([0, 1])
    with torch.no_grad():
        whole = MegaDanceForMotionGeneration.from_pretrained(tmp_path, quantization="int8")
        expected = whole(music, *codes, genres).upper_logits
        torch.testing.assert_close(loaded(music, *codes, genres).upper_logits, expected)
    with pytest.raises(ValueError, match="genre='tango': this model is quantized and can't be trained"):
        loaded.add_genre("tango")
    with pytest.raises(ValueError, match="not serializable"):
        loaded.save_pretrained(tmp_path / "again")
    with pytest.raises(ValueError, match="quantization='int3' is unknown; use one of int8"):
        MegaDanceForMotionGeneration.from_pretrained(tmp_path, quantization="int3")
