"""The quantizers of the motion tokenizer, and one that is added from outside the package."""

import re

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import initialization as init

from megadance_hf.modeling import quantizers_megadance
from megadance_hf.modeling.configuration_megadance import MegaDanceTokenizerConfig
from megadance_hf.modeling.errors_megadance import ModelError
from megadance_hf.modeling.modeling_megadance_tokenizer import MegaDanceTokenizer
from megadance_hf.modeling.quantizers_megadance import (
    FiniteScalarQuantizer,
    Quantizer,
    VectorQuantizer,
    _digits_one_by_one,
    codebook_utilization,
    codes_to_digits,
    register_quantizer,
)

TINY = {"hidden_size": 16, "code_size": 8, "levels": (5, 3, 3)}


@given(
    levels=st.lists(st.sampled_from([3, 5, 7, 9]), min_size=1, max_size=4), bound=st.sampled_from(["tanh", "sigmoid"])
)
@settings(max_examples=20, deadline=None)
def test_codes_digits_and_values_are_one_to_one(levels, bound):
    config = MegaDanceTokenizerConfig(**{**TINY, "levels": levels, "bound": bound})
    quantizer = FiniteScalarQuantizer(config)
    codes = torch.arange(config.codebook_size)
    digits = quantizer.codes_to_digits(codes)
    assert torch.equal(quantizer.digits_to_codes(digits), codes)
    assert digits.min() == 0 and all(int(digits[:, i].max()) == level - 1 for i, level in enumerate(levels))
    values = quantizer.digits_to_values(digits)
    assert values.min() == -1 and values.max() == 1 and len(torch.unique(values, dim=0)) == len(codes)


@pytest.mark.parametrize("bound", ["tanh", "sigmoid"])
def test_every_level_is_reached_and_bounds_hold(bound):
    quantizer = FiniteScalarQuantizer(MegaDanceTokenizerConfig(**{**TINY, "bound": bound}))
    scalars = torch.linspace(-8, 8, 1001)[:, None].expand(-1, 3)
    digits = quantizer.bound(scalars).round() + torch.tensor(quantizer.levels) // 2
    for place, level in enumerate(quantizer.levels):
        assert torch.unique(digits[:, place]).tolist() == list(range(level))
    assert (digits.diff(dim=0) >= 0).all()


def test_paper_bound_is_the_sigmoid_of_equation_1():
    quantizer = FiniteScalarQuantizer(MegaDanceTokenizerConfig(**{**TINY, "bound": "sigmoid"}))
    scalars = torch.randn(50, 3)
    expected = torch.round(torch.sigmoid(scalars) * (torch.tensor(quantizer.levels) - 1))
    assert torch.equal(quantizer.bound(scalars).round() + torch.tensor(quantizer.levels) // 2, expected)


def test_gradient_goes_straight_through_the_rounding():
    quantizer = FiniteScalarQuantizer(MegaDanceTokenizerConfig(**TINY)).double()
    hidden = torch.randn(1, 4, 8, dtype=torch.float64, requires_grad=True)
    quantized, _, _ = quantizer(hidden)
    weight = torch.randn_like(quantized)
    (through,) = torch.autograd.grad((quantized * weight).sum(), hidden)
    # the slow twin: the same without any rounding
    values = quantizer.bound(quantizer.project_in(hidden)) / (torch.tensor(quantizer.levels) // 2)
    (smooth,) = torch.autograd.grad((quantizer.project_out(values) * weight).sum(), hidden)
    torch.testing.assert_close(through, smooth, rtol=1e-5, atol=1e-7)


def test_soft_share_is_for_training_only_and_fades():
    quantizer = FiniteScalarQuantizer(MegaDanceTokenizerConfig(**TINY))
    hidden = torch.randn(1, 64, 8)
    hard = quantizer.eval()(hidden)[0]
    quantizer.soft_share = 1.0
    assert torch.equal(quantizer(hidden)[0], hard)
    soft = quantizer.train()(hidden)[0]
    assert not torch.allclose(soft, hard)
    quantizer.soft_share = 0.0
    torch.testing.assert_close(quantizer(hidden)[0], hard)


def test_normalized_scalars_keep_their_spread_whatever_the_encoder_does():
    quantizer = FiniteScalarQuantizer(MegaDanceTokenizerConfig(**{**TINY, "normalize_scalars": True})).train()
    hidden = torch.randn(4, 64, 8) * 1000 + 500
    scalars = quantizer.scalars(hidden).flatten(0, 1)
    torch.testing.assert_close(scalars.std(0, correction=0), torch.ones(3), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(scalars.mean(0), torch.zeros(3), atol=1e-3, rtol=0)
    for _ in range(400):
        quantizer.scalars(hidden)
    # and in use, with the statistics that training left, the same
    torch.testing.assert_close(quantizer.eval().scalars(hidden).flatten(0, 1), scalars, rtol=0.05, atol=0.05)


def test_vector_quantizer_takes_the_nearest_entry_and_moves_it_towards_its_vectors():
    quantizer = VectorQuantizer(MegaDanceTokenizerConfig(**{**TINY, "quantizer": "vq", "vq_decay": 0.8})).train()
    hidden = torch.randn(1, 40, 8)
    distances = (hidden[0][:, None] - quantizer.codebook[None]).norm(dim=-1)
    codes = quantizer.encode(hidden)
    assert torch.equal(codes[0], distances.argmin(-1))
    before = quantizer.codebook.clone()
    for _ in range(200):
        quantized, codes, loss = quantizer(hidden)
    used = torch.unique(codes)
    assert not torch.equal(before[used], quantizer.codebook[used])
    torch.testing.assert_close(loss, 0.25 * (hidden - quantized).square().mean())  # the commitment
    for code in used:  # each settles in the middle of its vectors
        members = hidden[0][codes[0] == code]
        torch.testing.assert_close(quantizer.codebook[code], members.mean(0), rtol=1e-3, atol=1e-3)
    frozen = quantizer.codebook.clone()
    quantizer.eval()(hidden)
    assert torch.equal(frozen, quantizer.codebook)


def test_codebook_utilization():
    assert codebook_utilization(torch.tensor([[0, 1], [1, 2]]), 6) == 0.5


# --- a quantizer of one's own ------------------------------------------------------------------------------------------


class SignQuantizer(Quantizer):
    """Lookup-free quantization (Yu et al. 2023): a code is the signs of a few scalars. Defined outside the package, as a user would."""

    def __init__(self, config):
        super().__init__(config)
        bits = config.quantizer_options["bits"]
        self.project_in, self.project_out = nn.Linear(config.code_size, bits), nn.Linear(bits, config.code_size)
        self.register_buffer("scale", torch.ones(bits))

    @classmethod
    def codebook_size(cls, config):
        return 2 ** config.quantizer_options["bits"]

    @classmethod
    def check_config(cls, config):
        if set(config.quantizer_options or {}) != {"bits"}:
            raise ValueError(f"quantizer_options={config.quantizer_options!r}: give {{'bits': NUMBER}}")

    def init_weights(self):
        init.ones_(self.scale)

    @torch.no_grad()
    def calibrate(self, hidden):
        self.scale.copy_(self.project_in(hidden).abs().mean((0, 1)))

    def _codes(self, scalars):
        return ((scalars > 0).long() << torch.arange(len(self.scale))).sum(-1)

    def encode(self, hidden):
        return self._codes(self.project_in(hidden))

    def decode(self, codes):
        bits = (codes[..., None] >> torch.arange(len(self.scale))) & 1
        return self.project_out((2.0 * bits - 1) * self.scale)

    def forward(self, hidden):
        scalars = self.project_in(hidden)
        signs = torch.where(scalars > 0, self.scale, -self.scale)
        loss = (scalars - signs).square().mean()
        return self.project_out(scalars + (signs - scalars).detach()), self._codes(scalars), loss


@pytest.fixture
def sign_quantizer(monkeypatch):
    monkeypatch.setattr(quantizers_megadance, "_quantizers", dict(quantizers_megadance._quantizers))
    register_quantizer("sign", SignQuantizer)
    return {**TINY, "quantizer": "sign", "quantizer_options": {"bits": 5}}


def test_an_own_quantizer_trains_saves_loads_and_decodes(sign_quantizer, tmp_path):
    torch.manual_seed(0)
    model = MegaDanceTokenizer(MegaDanceTokenizerConfig(**sign_quantizer)).train()
    assert model.config.codebook_size == 32
    motion = torch.randn(4, 32, 147) * 0.1
    model.calibrate(motion)
    assert not torch.equal(model.upper.quantizer.scale, torch.ones(5))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(8):
        output = model(motion)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append(output.loss.item())
    assert losses[-1] < 0.95 * losses[0]
    torch.testing.assert_close(output.loss.detach(), sum(output.losses.values()))  # with the quantizer's own

    model.eval().save_pretrained(tmp_path)
    loaded, info = MegaDanceTokenizer.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert type(loaded.lower.quantizer) is SignQuantizer
    assert torch.equal(loaded.upper.quantizer.scale, model.upper.quantizer.scale)
    codes, again = model.encode(motion), loaded.encode(motion)
    assert torch.equal(codes.upper_codes, again.upper_codes) and torch.equal(codes.lower_codes, again.lower_codes)
    decoded = loaded.decode(codes.upper_codes, codes.lower_codes)
    torch.testing.assert_close(decoded, model(motion).motion, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="lower_codes has numbers outside 0 to 31"):
        loaded.decode(codes.upper_codes, codes.lower_codes + 32)


def test_a_folder_whose_quantizer_is_not_registered_names_it(sign_quantizer, tmp_path):
    MegaDanceTokenizer(MegaDanceTokenizerConfig(**sign_quantizer)).save_pretrained(tmp_path)
    del quantizers_megadance._quantizers["sign"]
    with pytest.raises(ModelError, match="(?s)quantizer='sign' is unknown: give one of fsq, vq, or register your own"):
        MegaDanceTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"quantizer": "rvq"}, "quantizer='rvq' is unknown: give one of fsq, vq, sign"),
        ({"quantizer_options": {"depth": 5}}, "quantizer_options={'depth': 5}: give {'bits': NUMBER}"),
        ({"quantizer_options": {"bits": 40}}, "codebook_size=1099511627776 is not possible"),
        ({"quantizer": "fsq"}, "quantizer_options={'bits': 5} is not possible: 'fsq' has none"),
    ],
    ids=str,
)
def test_settings_that_are_not_possible_are_named(sign_quantizer, values, words):
    with pytest.raises(StrictDataclassError, match=f"(?s){re.escape(words)}"):
        MegaDanceTokenizerConfig(**{**sign_quantizer, **values})


def test_only_quantizers_can_be_registered_and_the_own_ones_stay():
    with pytest.raises(ValueError, match="name='fsq' is not possible: give a name other than fsq, vq"):
        register_quantizer("fsq", SignQuantizer)
    with pytest.raises(ValueError, match="is no quantizer: give a subclass of Quantizer"):
        register_quantizer("linear", nn.Linear)


def test_digits_are_the_same_one_by_one():
    codes = torch.arange(-200, 200).view(20, 20)
    for levels in ([3, 9], [7, 5, 5]):
        assert torch.equal(_digits_one_by_one(codes, levels), codes_to_digits(codes, levels))
