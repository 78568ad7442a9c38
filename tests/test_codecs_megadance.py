"""The codecs of the motion tokenizer: how many codes a decoded frame depends on."""

import pytest
import torch

from megadance_hf.modeling.codecs_megadance import decoder_reach
from megadance_hf.modeling.configuration_megadance import MegaDanceTokenizerConfig
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizer


@pytest.mark.parametrize(
    "options",
    [
        {"residual_depth": 1},
        {"residual_depth": 2, "residual_dilation": 2, "upsampling": "linear"},
        {"residual_depth": 3, "residual_dilation": 3},
        {"codec": "plain"},
        {"codec": "plain", "upsampling": "linear"},
    ],
)
@torch.no_grad()
def test_the_reach_of_the_decoder(options):
    config = MegaDanceTokenizerConfig(levels=[3, 3, 3], hidden_size=8, code_size=8, **options)
    tokenizer, reach = MegaDanceTokenizer(config).eval(), decoder_reach(config)
    codes = torch.randint(26, (2, 1, 2 * reach + 9))
    other = codes.clone()
    other[..., reach + 4] += 1
    changed = (tokenizer.decode(*codes) - tokenizer.decode(*other))[0].abs().amax(1) > 0
    where = changed.nonzero()[:, 0] // 8 - (reach + 4)
    assert -reach <= where.min() < 0 < where.max() <= reach
    assert where.max() >= reach / 2, "and not much too far"
