"""The motion tokenizer: body parts, losses, statistics, saving and loading."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from megadance_hf.modeling.configuration_megadance import MegaDanceTokenizerConfig
from megadance_hf.modeling.kinematics_megadance import (
    BODY_PARTS,
    integrate_root_velocity,
    motion_to_joints,
    poses_to_motion,
)
from megadance_hf.modeling.modeling_megadance_tokenizer import (
    MegaDanceTokenizer,
    dynamics_l1,
    join_body,
    split_body,
)

TINY = {"hidden_size": 16, "code_size": 8, "levels": (5, 3, 3)}
SWITCHES = [
    {},
    {"bound": "sigmoid"},
    {"normalize_scalars": True},
    {"codec": "plain"},
    {"upsampling": "linear"},
    {"codec": "plain", "upsampling": "linear", "bound": "sigmoid"},
    {"quantizer": "vq"},
    {"residual_depth": 1, "num_downsamples": 2},
]


def tiny(**overrides) -> MegaDanceTokenizer:
    torch.manual_seed(0)
    return MegaDanceTokenizer(MegaDanceTokenizerConfig(**{**TINY, **overrides})).eval()


def some_motion(batch: int = 2, frames: int = 32) -> torch.Tensor:
    steps = torch.randn(batch, frames, 24, 3).cumsum(1) * 0.05
    return poses_to_motion(steps, torch.randn(batch, frames, 3).cumsum(1) * 0.01)


# --- body parts ----------------------------------------------------------------------------------------------------


def test_body_parts_cover_every_joint_once():
    assert sorted(sum(BODY_PARTS.values(), ())) == list(range(24))
    motion = torch.arange(147.0).expand(2, 3, 147)
    upper, lower = split_body(motion)
    assert upper.shape[-1] == 90 and lower.shape[-1] == 57
    assert lower[0, 0, :3].tolist() == [0, 1, 2]  # the root velocity goes first, with the lower body
    assert upper[0, 0, :6].tolist() == [3 + 6 * 3 + k for k in range(6)]
    assert torch.equal(join_body(upper, lower), motion)


# --- the model -----------------------------------------------------------------------------------------------------


def test_a_vector_quantizer_begins_with_vectors_of_the_data():
    model = tiny(quantizer="vq")
    motion = some_motion(4)
    model.calibrate(motion)
    hidden = model.upper.hidden(split_body(model.normalize(motion))[0]).flatten(0, 1)
    assert torch.cdist(model.upper.quantizer.codebook, hidden).min(1).values.max() < 1e-3


@pytest.mark.versions
@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_encode_decode_and_forward_agree(switches):
    model = tiny(**switches)
    motion = some_motion(frames=40)
    codes = model.encode(motion)
    steps = 40 // model.config.frames_per_code
    assert codes.upper_codes.shape == codes.lower_codes.shape == (2, steps)
    decoded = model.decode(codes.upper_codes, codes.lower_codes)
    output = model(motion)
    assert decoded.shape == motion.shape
    assert torch.equal(output.upper_codes, codes.upper_codes) and torch.equal(output.lower_codes, codes.lower_codes)
    torch.testing.assert_close(output.motion, decoded, rtol=1e-4, atol=1e-5)
    output.loss.backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)


def test_body_parts_are_independent():
    model = tiny()
    codes = torch.randint(0, 45, (1, 6))
    one = model.decode(codes, codes)
    other = model.decode(codes, (codes + 1) % 45)
    assert torch.equal(split_body(one)[0], split_body(other)[0])
    assert not torch.allclose(split_body(one)[1], split_body(other)[1])


def test_loss_is_equations_2_to_4():
    model = tiny(joint_loss_root="integrated", root_path_weight=2.0)
    model.set_statistics(torch.randn(147), torch.rand(147) + 0.5)
    motion = some_motion()
    output = model(motion)

    def norm(x):
        velocity, acceleration = x[:, 1:] - x[:, :-1], x[:, 2:] - 2 * x[:, 1:-1] + x[:, :-2]
        return x.abs().mean() + 0.5 * velocity.abs().mean() + 0.25 * acceleration.abs().mean()

    error = model.normalize(output.motion) - model.normalize(motion)
    smpl = sum(norm(part) for part in split_body(error))
    paths = [integrate_root_velocity(m[..., :3]) for m in (output.motion, motion)]
    joints = [motion_to_joints(m, p) for m, p in zip((output.motion, motion), paths, strict=True)]
    joint = norm((joints[0] - joints[1]).flatten(2))
    path = (paths[0] - paths[1]).abs().mean()
    torch.testing.assert_close(output.losses["smpl"], smpl, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.losses["joint"], joint, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.loss, smpl + joint + 2 * path, rtol=1e-4, atol=1e-5)


def test_dynamics_l1_leaves_out_what_is_too_short():
    one = torch.randn(2, 1, 5)
    assert dynamics_l1(one, torch.zeros_like(one), 0.5, 0.25) == one.abs().mean()


def test_joint_loss_can_be_left_out_and_placed():
    motion = some_motion()
    assert "joint" not in tiny(joint_loss_weight=0.0)(motion).losses
    losses = {root: tiny(joint_loss_root=root)(motion).losses["joint"] for root in ("none", "velocity", "integrated")}
    assert len({round(float(value), 6) for value in losses.values()}) == 3


def test_statistics_survive_saving_and_reject_nonsense(tmp_path):
    model = tiny()
    mean, std = torch.randn(147), torch.rand(147) + 0.1
    model.set_statistics(mean, std)
    model.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = MegaDanceTokenizer.from_pretrained(tmp_path)
    assert torch.equal(loaded.motion_mean, mean) and torch.equal(loaded.motion_std, std)
    with pytest.raises(ValueError, match="mean must be 147"):
        model.set_statistics(torch.zeros(3), std)
    with pytest.raises(ValueError, match="std must be positive"):
        model.set_statistics(mean, std * 0)


@pytest.mark.versions
@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_saving_and_loading_is_bit_for_bit(tmp_path, switches):
    model = tiny(**switches)
    model.save_pretrained(tmp_path)
    loaded, info = MegaDanceTokenizer.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    motion = some_motion()
    first, second = model.encode(motion), loaded.encode(motion)
    assert torch.equal(first.upper_codes, second.upper_codes)
    assert torch.equal(
        model.decode(first.upper_codes, first.lower_codes), loaded.decode(first.upper_codes, first.lower_codes)
    )


@pytest.mark.versions
def test_no_state_is_left_behind_on_the_meta_device():
    with torch.device("meta"):
        model = MegaDanceTokenizer(MegaDanceTokenizerConfig(**TINY))
    names = set(model.state_dict())
    held = {name for name, _ in model.named_parameters()} | {name for name, _ in model.named_buffers()}
    assert names == held  # nothing non-persistent that loading would leave as garbage


def test_full_size_is_that_of_the_released_code():
    with torch.device("meta"):
        model = MegaDanceTokenizer(MegaDanceTokenizerConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) == 39_368_349
    assert model.config.codebook_size == 4375 and model.config.frames_per_code == 8


@pytest.mark.parametrize("frames", [0, 7, 33])
def test_frames_that_fill_no_code_are_an_error(frames):
    with pytest.raises(ValueError, match=f"motion has {frames} frames; give a multiple of 8"):
        tiny().encode(torch.zeros(1, frames, 147))


def test_wrong_shapes_and_codes_are_errors():
    model = tiny()
    with pytest.raises(ValueError, match=r"motion must be \(batch, frames, 147\)"):
        model.encode(torch.zeros(8, 147))
    codes = torch.zeros(1, 2, dtype=torch.long)
    with pytest.raises(ValueError, match="lower_codes must be"):
        model.decode(codes, codes[:, :1])
    with pytest.raises(ValueError, match="upper_codes has numbers outside 0 to 44"):
        model.decode(codes + 45, codes)


@given(steps=st.integers(1, 12))
@settings(max_examples=6, deadline=None)
def test_any_number_of_codes(steps):
    model = tiny()
    codes = torch.randint(0, model.config.codebook_size, (1, steps))
    assert model.decode(codes, codes).shape == (1, 8 * steps, 147)


def test_what_is_missing_is_named():
    tokenizer = MegaDanceTokenizer(
        MegaDanceTokenizerConfig(levels=[3, 3], hidden_size=8, code_size=8, residual_depth=1)
    )
    for call in (tokenizer, tokenizer.encode):
        with pytest.raises(ValueError, match="motion is missing: give motion .batch, frames, 147."):
            call()
        with pytest.raises(ValueError, match="motion of type ndarray is no tensor"):
            call(np.zeros((1, 8, 147)))
    with pytest.raises(ValueError, match="lower_codes is missing: give both streams, decode.output.upper_codes"):
        tokenizer.decode(torch.zeros(1, 2, dtype=torch.long))
    with pytest.raises(ValueError, match="upper_codes and lower_codes are missing"):
        tokenizer.decode()
