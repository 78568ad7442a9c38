"""int8 weights are close to those that were quantized."""

import pytest
import torch
from torch import nn

from megadance_hf.cpu_kernels import int8
from megadance_hf.cpu_kernels.int8 import Int8Config, Int8Linear, Int8Quantizer, multiply_bytes
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


@pytest.mark.parametrize("rows", [1, 3, 16, 17, 200])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_products_of_bytes(rows, dtype):
    """What a GPU computes, with torch's product of bytes for CPUs: of activations that are rounded to fifteen bits."""
    quantized, x = Int8Linear(nn.Linear(64, 40)), torch.randn(rows, 64).to(dtype)
    x[0, 5:] *= 1e-3  # one large number in a row costs the others little
    x[-1] *= 1e4
    exact = x.double() @ quantized.dense_weight().double().t()
    error = (multiply_bytes(x, quantized.weight, quantized.scale) - exact).norm(dim=1) / exact.norm(dim=1)
    assert (error < 1e-3).all() and error.median() < 2e-4
    assert (multiply_bytes(x * 0, quantized.weight, quantized.scale) == 0).all()


@pytest.mark.parametrize("has_products", [True, False])
def test_off_the_cpu(monkeypatch, has_products):
    """The branches for other devices, on tensors that say they are on one; a large weight is never made of floats with its scale."""

    class Elsewhere(torch.Tensor):
        device = torch.device("cuda", 0)

    monkeypatch.setattr(int8, "has_byte_products", lambda device: has_products)
    monkeypatch.setattr(Int8Linear, "dense_weight", None)
    linear = nn.Linear(64, 40)
    quantized, x = Int8Linear(linear), torch.randn(2, 3, 64)
    expected = nn.functional.linear(x, quantized.weight * quantized.scale[:, None], linear.bias)
    got = quantized(x.as_subclass(Elsewhere)).as_subclass(torch.Tensor)
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=1e-3)
    odd = Int8Linear(nn.Linear(9, 5, bias=False))(
        torch.ones(2, 9).as_subclass(Elsewhere)
    )  # no product of bytes for these
    assert odd.shape == (2, 5)


def test_weights_that_are_offloaded_are_refused():
    with torch.device("meta"):
        layers = nn.Sequential(nn.Linear(8, 8))
    with pytest.raises(ValueError, match="quantization='int8': device_map leaves weights"):
        Int8Quantizer(Int8Config()).quantize(layers)
