"""Mamba: the convolution, the state, names and shapes of mamba_ssm."""

import torch

from megadance_hf.modeling.cache_megadance import MambaState
from megadance_hf.modeling.configuration_megadance import MegaDanceConfig
from megadance_hf.modeling.mamba_megadance import Mamba, causal_convolution
from megadance_hf.modeling.modeling_megadance import MegaDanceModel


def tiny_config(**overrides) -> MegaDanceConfig:
    return MegaDanceConfig(hidden_size=16, num_attention_heads=2, state_size=4, **overrides)


def test_mamba_convolution_equals_conv1d():
    mamba = Mamba(tiny_config())
    with torch.no_grad():
        mamba.init_weights()
        x = torch.randn(2, 9, 32)
        expected = torch.nn.Conv1d.forward(mamba.conv1d, x.transpose(1, 2))[..., :9].transpose(1, 2)
        torch.testing.assert_close(mamba.conv1d(x), expected, atol=1e-6, rtol=1e-5)
        weights = mamba.conv1d.weight[:, 0].t(), mamba.conv1d.bias
        torch.testing.assert_close(causal_convolution(x, *weights), expected, atol=1e-6, rtol=1e-5)
        history = torch.zeros(2, 3, 32)
        pieces = [causal_convolution(piece, *weights, history) for piece in x.split((1, 2, 1, 5), dim=1)]
        torch.testing.assert_close(torch.cat(pieces, 1), expected, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(history, x[:, -3:])


def test_a_state_carries_a_sequence_on():
    mamba = Mamba(tiny_config())
    mamba.init_weights()
    x = torch.randn(2, 9, 16)
    with torch.no_grad():
        expected = mamba(x)
        state = MambaState(torch.zeros(2, 3, 32), torch.zeros(2, 4, 32))
        pieces = [mamba(piece, state) for piece in x.split((1, 2, 1, 5), dim=1)]
    torch.testing.assert_close(torch.cat(pieces, 1), expected, atol=1e-6, rtol=1e-5)


def test_mamba_has_the_shapes_of_mamba_ssm():
    shapes = {name: tuple(value.shape) for name, value in Mamba(tiny_config()).state_dict().items()}
    assert shapes == {
        "A_log": (32, 4),
        "D": (32,),
        "in_proj.weight": (64, 16),
        "conv1d.weight": (32, 1, 4),
        "conv1d.bias": (32,),
        "x_proj.weight": (9, 32),
        "dt_proj.weight": (32, 1),
        "dt_proj.bias": (32,),
        "out_proj.weight": (16, 32),
    }


def test_mamba_initialisation_survives_the_model():
    model = MegaDanceModel(tiny_config(num_hidden_layers=2, intermediate_size=24, codebook_size=15))
    for module in (module for module in model.modules() if isinstance(module, Mamba)):
        steps = torch.nn.functional.softplus(module.dt_proj.bias)
        assert steps.min() >= 0.00099 and steps.max() <= 0.101 and steps.std() > 0
        torch.testing.assert_close(module.A_log.exp(), torch.arange(1.0, 5.0).expand(32, 4))
        assert (module.D == 1).all()
        assert module.in_proj.weight.abs().max() <= 0.25
