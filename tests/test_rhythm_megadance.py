"""The rhythm encoder: phases, padding, reach, and that it can learn to count."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from megadance_hf.modeling import rhythm_megadance
from megadance_hf.modeling.configuration_megadance import MegaDanceConfig
from megadance_hf.modeling.rhythm_megadance import (
    RHYTHM_SIZE,
    RhythmEncoder,
    find_downbeats,
    phase_vectors,
    steady_rhythm,
)


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


@given(first=st.floats(1, 20), length=st.floats(20, 90))
def test_downbeats_are_where_the_phase_of_the_bar_is_zero(first, length):
    time = torch.arange(200)
    found = find_downbeats(phase_vectors(time / 15 % 1, (time - first) / length % 1))
    exact = torch.tensor([first + length * bar for bar in range(-1, 12)])
    distances = (torch.tensor(found)[:, None] - exact).abs()
    assert distances.amin(1).max() < 0.51, "each is one"
    assert distances.amin(0)[(exact > 1) & (exact < 198)].max() < 0.51, "none is missing"


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


def played(beats_per_minute: float, beats_per_bar: int, frames: int = 900, phase: float = 0.3) -> torch.Tensor:
    beats = torch.arange(frames) / 30 * beats_per_minute / 60 + phase
    return phase_vectors(beats % 1, beats / beats_per_bar % 1)


def phase_errors(found: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Angles [frames, 2] between the vectors of beat and bar, in turns."""
    pairs = (torch.cosine_similarity(found[:, part], true[:, part], dim=-1) for part in (slice(0, 2), slice(2, 4)))
    return torch.stack([pair.clamp(-1, 1).arccos() for pair in pairs], -1) / (2 * math.pi)


@given(tempo=st.floats(50, 190), number=st.sampled_from((3, 4)), phase=st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_a_steady_rhythm_stays_what_it_is(tempo, number, phase):
    true = played(tempo, number, phase=phase)
    assert phase_errors(steady_rhythm(true[None])[0], true).max() < 0.03


@pytest.mark.parametrize("number", (3, 4))
def test_the_rest_of_a_song_tells_where_the_encoder_errs(number):
    true = played(97, number)
    heard = true + torch.randn(true.shape, generator=torch.Generator().manual_seed(0)) * 0.3
    heard[200:290, :2] *= -1  # the half beat for the beat
    heard[500:600] = 0  # nothing
    assert phase_errors(heard, true)[200:290, 0].mean() > 0.4
    steady = steady_rhythm(heard[None])[0]
    assert phase_errors(steady, true).max() < 0.05
    lengths = steady[:, :2].norm(dim=-1)
    assert lengths[245] < lengths[700] - 0.2, "shorter where there is little agreement"


@pytest.mark.parametrize("frames", [5, 8, 61, 900])
def test_a_matrix_smooths_as_a_fourier_transform_does(frames, monkeypatch):
    rhythm, mask = torch.randn(2, frames, 4), torch.arange(frames) < torch.tensor([[frames], [frames - 3]])
    expected = steady_rhythm(rhythm, mask)
    monkeypatch.setattr(rhythm_megadance, "_FEW_BLOCKS", 0)
    torch.testing.assert_close(steady_rhythm(rhythm, mask), expected, rtol=0, atol=1e-6)


def test_a_tempo_may_change_slowly_and_songs_of_a_batch_are_read_alone():
    beats = torch.cumsum(torch.linspace(90, 96, 1200) / 60 / 30, 0)
    slow = phase_vectors(beats % 1, beats / 4 % 1)
    steady = steady_rhythm(slow[None])[0]
    assert phase_errors(steady, slow).mean() < 0.05
    short = played(120, 3, 421)
    rows = torch.stack((slow, torch.nn.functional.pad(short, (0, 0, 0, 1200 - 421), value=7.0)))
    mask = torch.arange(1200) < torch.tensor([[1200], [421]])
    together = steady_rhythm(rows, mask)
    torch.testing.assert_close(together[0], steady, rtol=0, atol=1e-6)
    torch.testing.assert_close(together[1, :421], steady_rhythm(short[None])[0], rtol=0, atol=1e-5)
    assert together[1, 421:].eq(0).all()
