"""Attributes of dances: measured on motions whose answer is known, as quantiles, as an embedding, and in a training task."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from megadance_hf import MegaDanceConfig
from megadance_hf.modeling.attributes_megadance import (
    ATTRIBUTES,
    KNOTS,
    QUANTILES,
    AttributeEmbedding,
    attribute_signals,
    frame_attributes,
    quantile_table,
    table_of,
    to_quantiles,
)
from megadance_hf.modeling.kinematics_megadance import JOINT_INDEX, forward_kinematics

FPS, FRAMES = 30.0, 300
TIME = torch.arange(FRAMES) / FPS


def standing(path=None, turn=None, shoulder=0.0):
    """Joints of somebody in the rest pose who goes along a path [frames, 3], turned by angles [frames] about the vertical, the arms lifted
    sideways by an angle."""
    rotations = torch.eye(3).repeat(FRAMES, 24, 1, 1)
    if turn is not None:
        cos, sin = turn.cos(), turn.sin()
        rotations[:, 0, 0, 0] = rotations[:, 0, 2, 2] = cos
        rotations[:, 0, 0, 2], rotations[:, 0, 2, 0] = sin, -sin
    for side, sign in (("left", 1), ("right", -1)):
        cos, sin = math.cos(shoulder), sign * math.sin(shoulder)
        rotations[:, JOINT_INDEX[f"{side}_shoulder"], :2, :2] = torch.tensor([[cos, -sin], [sin, cos]])
    return forward_kinematics(rotations, torch.zeros(FRAMES, 3) if path is None else path)


def means(joints):
    return dict(zip(ATTRIBUTES, attribute_signals(joints, FPS)[30:-30].mean(0).tolist(), strict=True))


def path(x=None, y=None):
    zero = torch.zeros(FRAMES)
    return torch.stack((zero if x is None else x, zero if y is None else y, zero), 1)


def test_somebody_who_stands_moves_in_no_way():
    found = means(standing())
    still = ("energy", "speed", "travel", "turns", "bounce")
    assert all(abs(found[name]) < 1e-4 for name in still)
    higher = means(standing(shoulder=math.pi / 4))
    assert abs(higher["arm_height"] - found["arm_height"] - 0.5 * math.sqrt(0.5)) < 0.05  # an arm is half a metre
    assert higher["expansion"] < found["expansion"]  # the rest pose has them wide


def test_each_motion_has_its_attribute():
    still = means(standing())
    walking = means(standing(path(x=0.8 * TIME)))
    assert abs(walking["travel"] - 0.8) < 1e-3 and abs(walking["speed"]) < 1e-3
    swaying = means(standing(path(x=0.1 * (2 * math.pi * TIME).sin())))
    assert swaying["travel"] < 0.03, "swaying over the feet once a second is no travel"
    turning = means(standing(turn=torch.deg2rad(50 * TIME)))
    assert abs(turning["turns"] - 50) < 0.1 and turning["speed"] > 0.1 and turning["travel"] < 0.02
    assert abs(means(standing(turn=torch.deg2rad(-50 * TIME)))["turns"] - 50) < 0.1
    bouncing = means(standing(path(y=0.05 * (4 * math.pi * TIME).sin())))
    assert 0.3 < bouncing["bounce"] < 4 * 0.05 * 2 and bouncing["travel"] < 1e-4  # a little is smoothed away
    for other in (walking, turning, bouncing):
        assert abs(other["arm_height"] - still["arm_height"]) < 1e-3
        assert abs(other["expansion"] - still["expansion"]) < 1e-2
    slow, fast = (means(standing(turn=0.5 * (rate * TIME).sin())) for rate in (2.0, 4.0))
    assert 1.8 < fast["speed"] / slow["speed"] < 2.1 and 3 < fast["energy"] / slow["energy"] < 4.1


@given(seed=st.integers(0, 100), frames=st.integers(1, 40))
@settings(max_examples=10)
def test_direction_place_and_length_do_not_matter(seed, frames):
    joints = torch.randn(frames, 24, 3, generator=torch.Generator().manual_seed(seed)) * 0.1
    found = frame_attributes(joints, FPS)
    assert found.shape == (frames, 7) and torch.isfinite(found).all()
    turned = joints @ torch.tensor([[0.6, 0.0, -0.8], [0.0, 1.0, 0.0], [0.8, 0.0, 0.6]]).T
    torch.testing.assert_close(
        frame_attributes(turned + torch.tensor([3.0, 0.0, -2.0]), FPS), found, atol=2e-3, rtol=2e-3
    )


def test_around_a_frame_are_four_seconds():
    signals = attribute_signals(standing(path(x=0.5 * (TIME - 5).clamp(min=0))), FPS)
    around = frame_attributes(standing(path(x=0.5 * (TIME - 5).clamp(min=0))), FPS)
    torch.testing.assert_close(around[150], signals[90:211].mean(0))
    torch.testing.assert_close(around[0], signals[:61].mean(0))


@given(seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_quantiles_are_those_of_the_data(seed):
    values = torch.randn(200, 3, generator=torch.Generator().manual_seed(seed)) * torch.tensor([1.0, 10.0, 0.0])
    table = torch.tensor(quantile_table(values))
    assert table.shape == (3, QUANTILES) and (table.diff(dim=1) >= 0).all()
    found = to_quantiles(values, table)
    assert 0 <= found.min() and found.max() <= 1
    ranks = values.argsort(0).argsort(0) / 199
    assert (found[:, :2] - ranks[:, :2]).abs().max() < 0.05
    assert torch.equal(found[:, 0].argsort(), values[:, 0].argsort()) or len(values[:, 0].unique()) < 200
    far = to_quantiles(torch.tensor([[-99.0, 999.0, 1.0]]), table)
    assert far[0, 0] == 0 and far[0, 1] == 1


def test_tables_of_genres():
    tables = table_of({"tango": [[0.0] * QUANTILES]}, ["waltz", "tango"])
    assert tables.shape == (2, 1, QUANTILES) and tables[0].isnan().all() and (tables[1] == 0).all()


def test_the_embedding_blends_its_two_nearest_vectors():
    torch.manual_seed(0)
    embedding = AttributeEmbedding(2, 6)
    vectors = embedding.vectors.weight.T.view(2, KNOTS, 6)
    nan = torch.nan
    found = embedding(torch.tensor([[nan, nan], [0.0, nan], [nan, 1.0], [0.3, 0.5]]))
    assert (found[0] == 0).all()
    torch.testing.assert_close(found[1], vectors[0, 0])
    torch.testing.assert_close(found[2], vectors[1, -1])
    torch.testing.assert_close(found[3], 0.8 * vectors[0, 1] + 0.2 * vectors[0, 2] + vectors[1, 2])


def test_bad_configurations():
    for wrong, message in (
        ({"attributes": ["grace"]}, "attributes"),
        ({"attributes": ["speed", "speed"]}, "name each once"),
        ({"attributes": ["speed"], "attribute_quantiles": {"Jazz": [[0.0] * 3]}}, "needs 1 rows of 21 numbers"),
    ):
        with pytest.raises(Exception, match=message):
            MegaDanceConfig(**wrong)
    config = MegaDanceConfig(attributes=("speed",), attribute_quantiles={"Jazz": [list(np.linspace(0, 1, 21))]})
    assert MegaDanceConfig.from_dict(config.to_dict()).attributes == ["speed"] and config.arrangement == "own"
