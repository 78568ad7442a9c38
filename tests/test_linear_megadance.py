"""Linear layers for inference: the packed ones equal torch's, the eight-bit ones are near them."""

import copy

import pytest
import torch
from torch import nn

from megadance_hf.modeling.configuration_megadance import MegaDanceConfig
from megadance_hf.modeling.linear_megadance import SMALLEST_PACKED, Int8Linear, Linear, dense_weight
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
def test_packed_layer_is_the_layer(bias):
    layer = Linear(512, SMALLEST_PACKED // 512, bias=bias).eval()
    for shape in ((6, 512), (2, 3, 22, 512), (1, 512), (300, 512)):
        x = torch.randn(shape)
        with torch.no_grad():
            torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
    assert layer._packed is not None
    x = torch.randn(30, 512)
    with torch.no_grad():
        layer.weight.mul_(2)  # noticed
        torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
        layer.weight.data = layer.weight.data.clone().neg_()
        torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
        torch.testing.assert_close(copy.deepcopy(layer)(x), layer(x))
        assert torch.equal(layer.double()(x.double()), nn.functional.linear(x.double(), layer.weight, layer.bias))
    layer.float().train()(x).sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize("bias", [True, False])
def test_layer(monkeypatch, bias):
    linear = nn.Linear(64, 40, bias=bias)
    rounded = Int8Linear(linear)
    assert rounded.weight.dtype == torch.int8 and rounded.weight.abs().amax() == 127
    step = linear.weight.abs().amax(1, keepdim=True) / 127
    assert ((dense_weight(rounded) - linear.weight).abs() <= 0.501 * step).all()
    for x in (torch.randn(3, 5, 64), torch.randn(200, 64)):
        exact = linear(x)
        assert (rounded(x) - exact).norm() < 0.02 * exact.norm()
    monkeypatch.setattr(Int8Linear, "_pack", lambda self, rows: None)  # where torch has no quantized products
    torch.testing.assert_close(rounded(x), nn.functional.linear(x, dense_weight(rounded), linear.bias))


def test_model_is_near_and_dances(model):
    music, genres = torch.randn(2, 96, 35), torch.tensor([0, 1])
    codes = torch.randint(0, 15, (2, 2, 12))
    with torch.no_grad():
        exact = model(music, *codes, genres).upper_logits
        assert model.quantize("int8") is model and model.quantization == "int8"
        near = model(music, *codes, genres).upper_logits
    assert 0 < (near - exact).norm() < 0.05 * exact.norm()
    dance = model.generate(music, genres, do_sample=False)
    assert dance.upper_codes.shape == (2, 12)
    assert torch.equal(model.generate(music, genres, do_sample=False).upper_codes, dance.upper_codes)
    assert not [layer for layer in model.model.layers.modules() if isinstance(layer, nn.Linear)]


def test_from_pretrained(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = MegaDanceForMotionGeneration.from_pretrained(tmp_path, quantization="int8", active_genres=["waltz"])
    loaded.load_genres(tmp_path, ["rumba"])
    music, codes, genres = torch.randn(2, 96, 35), torch.randint(0, 15, (2, 2, 12)), torch.tensor([0, 1])
    with torch.no_grad():
        expected = model.quantize()(music, *codes, genres).upper_logits
        torch.testing.assert_close(loaded(music, *codes, genres).upper_logits, expected)
    with pytest.raises(ValueError, match="can't be saved"):
        loaded.save_pretrained(tmp_path / "again")
    with pytest.raises(ValueError, match="quantization='int3' is unknown; use one of int8"):
        MegaDanceForMotionGeneration.from_pretrained(tmp_path, quantization="int3")
