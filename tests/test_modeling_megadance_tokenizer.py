"""The motion tokenizer: body parts, losses, statistics, saving and loading."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from megadance_hf.modeling.codecs_megadance import decoder_reach
from megadance_hf.modeling.configuration_megadance import MegaDanceTokenizerConfig
from megadance_hf.modeling.errors_megadance import ModelError
from megadance_hf.modeling.kinematics_megadance import (
    BODY_PARTS,
    CONTACT_JOINTS,
    foot_contacts,
    from_body_motion,
    integrate_root_velocity,
    motion_to_joints,
    poses_to_motion,
    root_heading,
    to_body_motion,
    turn_motion,
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
    {"heading": "turn"},
    {"heading": "turn", "contacts": True, "upsampling": "linear"},
    {"contacts": True, "codec": "plain"},
]


def tiny(**overrides) -> MegaDanceTokenizer:
    torch.manual_seed(0)
    return MegaDanceTokenizer(MegaDanceTokenizerConfig(**{**TINY, **overrides})).eval()


def some_motion(batch: int = 2, frames: int = 32) -> torch.Tensor:
    steps = torch.randn(batch, frames, 24, 3).cumsum(1) * 0.05
    return poses_to_motion(steps, torch.randn(batch, frames, 3).cumsum(1) * 0.01)


def standing_motion() -> torch.Tensor:
    """Two bodies that sway while now one foot stands, now the other."""
    torch.manual_seed(1)
    poses = torch.randn(2, 32, 24, 3).cumsum(1) * 0.002
    poses[:, :16, 4, 0] += 1.0  # a knee is bent
    poses[:, 16:, 5, 0] += 1.0
    return poses_to_motion(poses, torch.zeros(2, 32, 3))


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
    decoded = model.decode(codes.upper_codes, codes.lower_codes, root_heading(motion[:, 0]))
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
    model = tiny(joint_loss_root="integrated", root_path_weight=2.0, root_height_weight=3.0)
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
    height = (paths[0] - paths[1])[..., 1].abs().mean()
    torch.testing.assert_close(output.loss, smpl + joint + 2 * path + 3 * height, rtol=1e-4, atol=1e-5)


def test_losses_on_feet_are_those_of_their_paths():
    weights = {
        "foot_path_weight": 2.0,
        "foot_velocity_weight": 3.0,
        "foot_slide_weight": 5.0,
        "contact_loss_weight": 7.0,
    }
    model = tiny(contacts=True, heading="turn", **weights)
    motion = standing_motion()
    output = model(motion)
    made, true = (
        motion_to_joints(m, integrate_root_velocity(m[..., :3]))[:, :, list(CONTACT_JOINTS)]
        for m in (output.motion, motion)
    )
    lowest = true[:, :, 2:, 1].amin(-1).sort(1).values[:, 32 // 20]
    stands = foot_contacts(true - torch.stack([torch.zeros(2), lowest, torch.zeros(2)], -1)[:, None, None])
    assert 0.1 < stands.float().mean() < 0.9
    speeds = [(feet[:, 1:] - feet[:, :-1]) * 30 for feet in (made, true)]
    probability = output.contacts.clamp(1e-7, 1 - 1e-7)
    expected = {
        "foot_path": (made - true).abs().mean(),
        "foot_velocity": (speeds[0] - speeds[1]).abs().mean(),
        "foot_slide": speeds[0].abs()[stands[:, :-1]].mean(),
        "contact": -torch.where(stands, probability, 1 - probability).log().mean(),
    }
    for name, value in expected.items():
        torch.testing.assert_close(output.losses[name], value, rtol=1e-3, atol=1e-5)
    others = sum(tiny(contacts=True, heading="turn", contact_loss_weight=0.0)(motion).losses.values())
    others = others - output.losses["contact"]
    total = 2 * expected["foot_path"] + 3 * expected["foot_velocity"] + 5 * expected["foot_slide"]
    torch.testing.assert_close(output.loss, others + total + 7 * expected["contact"], rtol=1e-3, atol=1e-4)
    model.set_training_progress(0.0, 0.0)
    still = 2 * expected["foot_path"] + 7 * expected["contact"]
    slow = model(motion)
    torch.testing.assert_close(slow.loss, slow.losses["smpl"] + slow.losses["joint"] + still, rtol=1e-3, atol=1e-4)


FEET = {
    "foot_path_weight": 2.0,
    "foot_velocity_weight": 3.0,
    "foot_slide_weight": 5.0,
    "root_path_weight": 1.0,
    "root_height_weight": 1.0,
}


@pytest.mark.parametrize(
    "switches", [*SWITCHES, {"joint_loss_root": "velocity"}, {"heading": "turn", "contacts": True, **FEET}], ids=str
)
def test_a_mask_without_noise_changes_no_bit(switches):
    model, motion = tiny(**switches), standing_motion()
    losses = []
    for options in ({}, {"loss_mask": torch.ones(2, 32, dtype=torch.bool)}, {"input_motion": motion.clone()}):
        model.zero_grad()
        output = model(motion, **options)
        output.loss.backward()
        losses.append((output, [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    (plain, gradients), *others = losses
    for output, found in others:
        assert torch.equal(output.loss, plain.loss) and torch.equal(output.motion, plain.motion)
        assert all(torch.equal(output.losses[name], value) for name, value in plain.losses.items())
        assert all(torch.equal(left, right) for left, right in zip(found, gradients, strict=True))


@settings(max_examples=8)
@given(st.integers(0, 1000), st.integers(1, 20), st.integers(1, 8))
@pytest.mark.parametrize("heading", ["absolute", "turn"])
@pytest.mark.parametrize("root", ["none", "integrated"])
def test_what_is_masked_does_not_matter(heading, root, seed, first, length):
    model = tiny(heading=heading, joint_loss_root=root, **FEET | {"foot_slide_weight": 0.0})
    generator = torch.Generator().manual_seed(seed)
    motion = some_motion()
    noisy, mask = motion.clone(), torch.ones(2, 32, dtype=torch.bool)
    frames = slice(first + 1, first + 1 + length)
    noise = torch.randn(noisy[:, frames, 3:].unflatten(-1, (24, 6))[..., :3].shape, generator=generator)
    noisy[:, frames] = poses_to_motion(noise, torch.zeros(*noise.shape[:2], 3))
    noisy[:, frames, :3] = torch.randn(2, noise.shape[1], 3, generator=generator)
    mask[:, first : first + 1 + length] = False  # with the frame whose turn leads there
    clean, masked = (model(target, input_motion=motion, loss_mask=mask) for target in (motion, noisy))
    for name, value in clean.losses.items():
        torch.testing.assert_close(masked.losses[name], value, rtol=1e-3, atol=1e-4)
    unmasked = model(noisy, input_motion=motion).losses["smpl"]
    assert abs(unmasked - model(motion).losses["smpl"]) > 0.01


def test_masked_losses_are_those_of_the_frames_that_are_left():
    error, mask = torch.randn(2, 9, 5, 3), torch.rand(2, 9) < 0.7
    frames = [(row, t) for row in range(2) for t in range(9)]

    def total(values, order):
        kept = [(row, t) for row, t in frames if t + order < 9 and mask[row, t : t + order + 1].all()]
        return sum(values[row, t].abs().sum() for row, t in kept) / values.numel()

    speed = error[:, 1:] - error[:, :-1]
    slow = total(error, 0) + 0.5 * total(speed, 1) + 0.25 * total(speed[:, 1:] - speed[:, :-1], 2)
    torch.testing.assert_close(dynamics_l1(error, torch.zeros_like(error), 0.5, 0.25, mask), slow)


def test_masked_contacts_and_slides_have_no_loss():
    model, motion = tiny(contacts=True, heading="turn", **FEET), standing_motion()
    mask = torch.zeros(2, 32, dtype=torch.bool)
    output = model(motion, loss_mask=mask)
    assert {float(value) for value in output.losses.values()} == {0.0}
    output.loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())
    mask[:, 5:9] = True  # a window of its own, but for the floor, whose contacts it has
    contact = model(motion, loss_mask=mask).losses["contact"]
    mask[:, 5:9] = False
    mask[:, 20:24] = True
    both = mask.clone()
    both[:, 5:9] = True
    whole = model(motion, loss_mask=both).losses["contact"]
    torch.testing.assert_close(contact + model(motion, loss_mask=mask).losses["contact"], whole)


def test_a_corrupted_input_has_the_clean_motion_as_its_target():
    model, motion = tiny(), some_motion()
    seen = some_motion()
    output = model(motion, input_motion=seen)
    assert torch.equal(output.upper_codes, model.encode(seen).upper_codes)
    torch.testing.assert_close(output.motion, model(seen).motion)
    error = (model.normalize(output.motion) - model.normalize(motion)).abs()
    slow = tiny(joint_loss_weight=0.0, velocity_weight=0.0, acceleration_weight=0.0)(motion, input_motion=seen)
    torch.testing.assert_close(slow.losses["smpl"], sum(part.mean() for part in split_body(error)))


def test_masks_and_inputs_have_the_shape_of_the_motion():
    with pytest.raises(ValueError, match=r"loss_mask must be \(2, 32\), as motion is, got \(2, 31\)"):
        tiny()(some_motion(), loss_mask=torch.ones(2, 31, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"input_motion must be \(2, 32, 147\), as motion is, got \(2, 40, 147\)"):
        tiny()(some_motion(), input_motion=some_motion(frames=40))


def test_only_their_own_loss_teaches_the_contacts():
    model = tiny(contacts=True, contact_loss_weight=0.0, foot_path_weight=1.0, root_path_weight=1.0)
    model(standing_motion()).loss.backward()
    out = model.lower.decoder.out.weight.grad
    assert not out[-4:].any() and out[:-4].abs().amin() > 0


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


# --- headings and contacts ------------------------------------------------------------------------------------------


def turning(**overrides) -> MegaDanceTokenizer:
    """In float64, so that no number is rounded to another level by chance, and with scalars that reach several levels."""
    model = tiny(heading="turn", **overrides).double()
    for codec in model.codecs.values():
        codec.quantizer.project_in.weight.data *= 20
    body = to_body_motion(some_motion(8).double())
    model.set_statistics(body.mean((0, 1)), body.std((0, 1)) + 0.05)
    return model


@given(angles=st.lists(st.floats(-7, 7), min_size=2, max_size=2), contacts=st.booleans())
@settings(max_examples=10, deadline=None)
def test_codes_do_not_know_where_the_body_faces(angles, contacts):
    model = turning(contacts=contacts)
    motion, angle = some_motion().double(), torch.tensor(angles, dtype=torch.double)
    codes, turned = model.encode(motion), model.encode(turn_motion(motion, angle[:, None]))
    assert torch.equal(codes.upper_codes, turned.upper_codes) and torch.equal(codes.lower_codes, turned.lower_codes)
    assert min(len(codes.upper_codes.unique()), len(codes.lower_codes.unique())) > 3
    heading = root_heading(motion[:, 0])
    decoded, other = (model.decode(codes.upper_codes, codes.lower_codes, h) for h in (heading, heading + angle))
    torch.testing.assert_close(other, turn_motion(decoded, angle[:, None]))
    torch.testing.assert_close(root_heading(decoded[:, 0]).cos(), heading.cos())
    assert torch.equal(model.decode(codes.upper_codes, codes.lower_codes, heading * 0), model.decode(*codes.values()))


def test_losses_of_bodies_do_not_know_it_either():
    model, motion = turning(joint_loss_root="none"), some_motion().double()
    losses = [model(m).losses for m in (motion, turn_motion(motion, torch.ones(2, 1, dtype=torch.double)))]
    for name in ("smpl", "joint"):
        torch.testing.assert_close(*(each[name] for each in losses))


@pytest.mark.parametrize("contacts", [False, True])
@pytest.mark.parametrize("upsampling", ["transposed", "linear"])
def test_pieces_with_the_heading_at_their_start_are_the_whole(contacts, upsampling):
    model = turning(contacts=contacts, upsampling=upsampling, residual_depth=1)
    codes = torch.randint(45, (2, 1, 60))
    whole = model.decode(*codes, output_contacts=True)
    reach = decoder_reach(model.config)
    first, last = 20, 24
    piece = slice(first - reach, last + reach)
    heading = root_heading(whole.motion[:, 8 * piece.start])
    part = model.decode(*codes[..., piece], heading, output_contacts=True)
    own = slice(8 * reach, 8 * (reach + last - first))
    # the piece's first turns are others, since the decoder knows nothing of what was before: it begins turned
    off = root_heading(whole.motion[:, 8 * first]) - root_heading(part.motion[:, 8 * reach])
    torch.testing.assert_close(turn_motion(part.motion, off)[:, own], whole.motion[:, 8 * first : 8 * last])
    assert (part.contacts is None) == (not contacts)
    if contacts:
        torch.testing.assert_close(part.contacts[:, own], whole.contacts[:, 8 * first : 8 * last])
        assert whole.contacts.shape == (1, 480, 4) and 0 < whole.contacts.min() and whole.contacts.max() < 1


def test_statistics_of_turns_have_a_column_more():
    model = tiny(heading="turn")
    assert model.motion_mean.shape == (148,)
    with pytest.raises(ValueError, match="mean must be 148 finite numbers"):
        model.set_statistics(torch.zeros(147), torch.ones(147))
    assert sum(part.shape[-1] for part in split_body(torch.zeros(2, 148))) == 148
    numbers = torch.randn(3, 148)
    assert torch.equal(join_body(*split_body(numbers)), numbers)


def test_the_decoded_root_is_planted_by_the_decoded_contacts():
    plain = tiny(heading="turn", contacts=True)
    codes = torch.randint(45, (2, 1, 6))
    with torch.no_grad():
        plain.lower.decoder.out.bias[-4:] = torch.tensor([-30.0, -30.0, -30.0, 30.0])
        standing = plain.decode(*codes, output_contacts=True)
        assert standing.contacts[..., :3].max() < 1e-9 and standing.contacts[..., 3].min() > 1 - 1e-6
        joints = motion_to_joints(standing.motion, integrate_root_velocity(standing.motion[..., :3]))
        assert (joints[..., 11, :] - joints[:, :1, 11]).abs().max() < 1e-4
        plain.lower.decoder.out.bias[-4:] = -30.0
        free = plain.decode(*codes)
    numbers = plain.denormalize(join_body(plain.upper.decode(codes[0]), plain.lower.decode(codes[1])[..., :-4]))
    torch.testing.assert_close(free, from_body_motion(numbers, torch.zeros(1)), rtol=1e-4, atol=1e-5)


def test_half_precision_sums_angles_and_paths_in_full():
    codes = torch.randint(45, (2, 1, 40))
    full = tiny(heading="turn", contacts=True)
    half = tiny(heading="turn", contacts=True).to(torch.bfloat16)
    motion = half.decode(*codes)
    assert motion.dtype == torch.bfloat16
    assert half(some_motion().to(torch.bfloat16)).motion.dtype == torch.bfloat16
    assert motion[..., 3:9].float().norm(dim=-1).sub(2**0.5).abs().max() < 0.01, "rotations, to the last frame"
    assert full.decode(*codes).shape == motion.shape


def test_the_variance_of_a_scalar_may_be_large(tmp_path):
    model = tiny(normalize_scalars=True)
    # nothing holds the size of what a norm divides by its own size: it grows in training
    model.upper.quantizer.norm.running_var.fill_(1e7)
    model.save_pretrained(tmp_path)
    assert float(MegaDanceTokenizer.from_pretrained(tmp_path).upper.quantizer.norm.running_var[0]) == 1e7
    model.upper.quantizer.norm.running_var.fill_(1e13)
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"running_var have NaN or numbers beyond 1e\+12"):
        MegaDanceTokenizer.from_pretrained(tmp_path)
