"""The rhythm encoder: phases, padding, reach, and that it can learn to count."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from megadance_hf.modeling.configuration_megadance import MegaDanceConfig
from megadance_hf.modeling.rhythm_megadance import RHYTHM_SIZE, RhythmEncoder, phase_vectors


def encoder(layers: int = 3, **overrides) -> RhythmEncoder:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "rhythm_size": 8, "rhythm_layers": layers}
    module = RhythmEncoder(MegaDanceConfig(**{**sizes, **overrides})).eval()
    module.init_weights()
    return module


@given(beat=st.floats(0, 1, exclude_max=True), bar=st.floats(0, 1, exclude_max=True))
def test_phases_become_points_on_two_circles_and_come_back(beat, bar):
    vector = phase_vectors(torch.tensor([beat]), torch.tensor([bar]))
    assert vector.shape == (1, RHYTHM_SIZE)
    for phase, (cosine, sine) in ((beat, vector[0, :2].tolist()), (bar, vector[0, 2:].tolist())):
        assert math.hypot(cosine, sine) == pytest.approx(1, abs=1e-6)
        difference = (math.atan2(sine, cosine) / (2 * math.pi) - phase + 0.5) % 1 - 0.5
        assert abs(difference) < 1e-5


def test_padding_has_no_influence():
    module, features = encoder(), torch.randn(2, 60, 35)
    mask = torch.arange(60) < torch.tensor([[60], [41]])
    with torch.no_grad():
        together = module(features, mask)
        torch.testing.assert_close(together[1, :41], module(features[1:, :41])[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(together[0], module(features[:1])[0], atol=1e-6, rtol=0)
    assert together[1, 41:].eq(0).all()


def test_a_frame_depends_on_its_reach_and_nothing_more():
    module = encoder()
    assert module.reach == 2 * (1 + 2 + 4)
    features = torch.randn(1, 80, 35, requires_grad=True)
    module(features)[0, 40].sum().backward()
    heard = features.grad[0].abs().sum(-1).nonzero()[:, 0]
    assert (heard.min(), heard.max()) == (40 - module.reach, 40 + module.reach)


def test_it_learns_to_count_to_three():
    """Clicks on every beat, louder on the first of three: the bar can only be read from what is around a frame."""
    module = encoder(layers=4, rhythm_size=16, rhythm_dropout=0.0, music_feature_size=1).train()
    generator = torch.Generator().manual_seed(1)

    def clicks(count):
        start = torch.randint(18, (count, 1), generator=generator)
        frames = torch.arange(96) - start
        loud = torch.where(frames % 18 == 0, 2.0, 1.0)
        return (loud * (frames % 6 == 0))[..., None], phase_vectors(frames % 6 / 6, frames % 18 / 18)

    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    for _ in range(150):
        music, truth = clicks(16)
        loss = (module(music) - truth).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    music, truth = clicks(16)
    with torch.no_grad():
        read = module.eval()(music)
    for part in (slice(0, 2), slice(2, 4)):
        assert torch.cosine_similarity(read[..., part], truth[..., part], dim=-1).mean() > 0.95
