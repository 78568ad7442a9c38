"""Rotations between directions."""

import numpy as np
import pytest

from megadance_hf.motion.rotations import shortest_rotations, unit


def test_shortest_rotations():
    first, last = np.array([0.3, -1.0, 0.2]), np.array([[0.1, 0.4, 2.0], [0.6, -2.0, 0.4], [-0.3, 1.0, -0.2]])
    matrices = shortest_rotations(first, last)
    np.testing.assert_allclose(matrices @ unit(first), unit(last), atol=1e-12)
    axis = np.cross(first, last[0])
    np.testing.assert_allclose(matrices[0] @ axis, axis, atol=1e-12)  # the shortest way
    np.testing.assert_allclose(matrices[1], np.eye(3), atol=1e-12)
    assert np.trace(matrices[2]) == pytest.approx(-1)  # opposite directions: half a turn
    assert np.array_equal(shortest_rotations(first, last[0]), matrices[0])
