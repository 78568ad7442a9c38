"""The genre classifier: shapes, saving, learning. Its numbers are compared with the released code's in test_parity.py."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoModel

import megadance_hf.auto  # noqa: F401  (registers)
from megadance_hf import MegaDanceClassifierConfig, MegaDanceForGenreClassification
from megadance_hf.modeling.kinematics_megadance import axis_angle_to_matrix
from megadance_hf.modeling.modeling_megadance_classifier import classifier_motion


def tiny(**overrides) -> MegaDanceForGenreClassification:
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
    labels = {"id2label": {0: "waltz", 1: "rumba"}, "num_outputs": 3, "output_hidden_size": 8}
    return MegaDanceForGenreClassification(MegaDanceClassifierConfig(**{**sizes, **labels, **overrides})).eval()


def test_full_size():
    with torch.device("meta"):
        model = MegaDanceForGenreClassification(MegaDanceClassifierConfig())
    assert model.num_parameters() == 25_625_748  # the released one has 300,032 more that it never uses
    assert model.config.genres[6] == "Popping" and model.config.num_outputs == 20


def test_its_motion_is_where_the_root_is_and_the_first_two_rows():
    poses, translation = torch.randn(2, 5, 24, 3) * 0.5, torch.randn(2, 5, 3)
    motion = classifier_motion(poses, translation)
    assert motion.shape == (2, 5, 147) and torch.equal(motion[..., :3], translation)
    rows = axis_angle_to_matrix(poses)[..., :2, :].flatten(-3)
    torch.testing.assert_close(motion[..., 3:], rows)
    torch.testing.assert_close(classifier_motion(poses.flatten(-2), translation), motion)


@pytest.mark.parametrize("frames", [1, 2, 7, 240])
def test_any_length_and_each_item_for_itself(frames):
    model, motion = tiny(), torch.randn(3, frames, 147)
    with torch.no_grad():
        logits = model(motion).logits
        assert logits.shape == (3, 3)
        torch.testing.assert_close(model(motion[1:2]).logits, logits[1:2])


def test_normalises_by_its_statistics():
    model, motion = tiny(), torch.randn(1, 20, 147)
    mean, std = torch.randn(147), torch.rand(147) + 0.5
    with torch.no_grad():
        expected = model(motion).logits
        model.set_statistics(mean, std)
        torch.testing.assert_close(model(motion * std + mean).logits, expected, atol=1e-5, rtol=1e-4)
    for bad in ((mean[:3], std), (mean, std * 0), (mean * torch.nan, std)):
        with pytest.raises(ValueError, match="mean|std"):
            model.set_statistics(*bad)


@pytest.mark.versions
def test_saved_and_loaded_it_is_the_same(tmp_path):
    model, motion = tiny(), torch.randn(2, 30, 147)
    model.set_statistics(torch.randn(147), torch.rand(147) + 0.5)
    model.save_pretrained(tmp_path)
    for cls in (MegaDanceForGenreClassification, AutoModel):
        loaded = cls.from_pretrained(tmp_path).eval()
        with torch.no_grad():
            assert torch.equal(loaded(motion).logits, model(motion).logits)


def test_it_learns_to_tell_two_dances_apart():
    torch.manual_seed(0)
    model = tiny(dropout=0.0).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    time = torch.arange(32)[None, :, None] / 30

    def batch(count):
        labels = torch.randint(2, (count,))
        speed = torch.where(labels == 0, 1.0, 3.0)[:, None, None]
        return torch.sin(6.28 * speed * time + torch.rand(count, 1, 147) * 6.28), labels

    for _ in range(120):
        motion, labels = batch(16)
        loss = model(motion, labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    motion, labels = batch(64)
    with torch.no_grad():
        assert (model.eval()(motion).logits.argmax(-1) == labels).float().mean() > 0.9


def test_wrong_shapes_and_sizes_are_named():
    with pytest.raises(ValueError, match=r"motion has shape \(2, 147\)"):
        tiny()(torch.randn(2, 147))
    with pytest.raises(StrictDataclassError, match="num_outputs"):
        tiny(num_outputs=1)


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="motion is missing: give classifier_motion.poses, translation."):
        tiny()()
    with pytest.raises(ValueError, match="labels has shape .3,.; expected genre ids, .2,."):
        tiny()(torch.zeros(2, 8, 147), labels=torch.zeros(3, dtype=torch.long))
