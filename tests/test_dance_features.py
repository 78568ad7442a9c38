"""Kinetic and geometric features against a plain loop, and where there is little to measure. Parity is in test_parity.py."""

import numpy as np
import pytest

from megadance_hf.metrics.dance_features import (
    GEOMETRIC,
    JOINT,
    geometric_features,
    kinetic_features,
    kinetic_features_aistpp,
)


def walk(clips: int = 2, frames: int = 40, seed: int = 0) -> np.ndarray:
    steps = np.random.default_rng(seed).normal(size=(clips, frames, 24, 3)) * 0.02
    return np.cumsum(steps, axis=1) + np.random.default_rng(1).normal(size=(1, 1, 24, 3)) * 0.4 + [0, 1, 0]


def test_kinetic_features_frame_by_frame():
    """Against a plain loop: lists with zeros at both ends, a mean of five for each frame."""

    def smooth(rows):
        padded = [np.zeros((24, 3))] * 2 + list(rows) + [np.zeros((24, 3))] * 2
        return [sum(padded[i : i + 5]) / 5 for i in range(len(rows))]

    joints = walk(1)
    steps = [(b - a) * 30 for a, b in zip(joints[0], joints[0][1:], strict=False)]
    velocity = smooth([steps[0], *steps])
    changes = [(b - a) * 30 for a, b in zip(velocity, velocity[1:], strict=False)]
    acceleration = smooth([changes[0], *changes])
    expected = []
    for joint in range(24):
        expected.append(np.mean([v[joint, 0] ** 2 + v[joint, 2] ** 2 for v in velocity]))
        expected.append(np.mean([v[joint, 1] ** 2 for v in velocity]))
        expected.append(np.mean([np.linalg.norm(a[joint]) for a in acceleration]))
    np.testing.assert_allclose(kinetic_features(joints)[0], expected, rtol=1e-5)


def test_where_the_dance_is_does_not_matter():
    joints = walk()
    for features in (kinetic_features, kinetic_features_aistpp):
        np.testing.assert_allclose(features(joints + [3, 0, -2]), features(joints), rtol=1e-4)
    np.testing.assert_array_equal(geometric_features(joints + [3, 0, -2]), geometric_features(joints))


def test_a_geometric_feature_is_the_share_of_frames_in_which_it_holds():
    joints = np.repeat(walk(1, 1), 21, axis=1)
    arm = [JOINT[name] for name in ("rshoulder", "relbow", "rwrist")]
    joints[0, :, arm[1]], joints[0, :, arm[0]] = [0, 1, 0], [0, 1.3, 0]
    joints[0, :, arm[2]] = [0, 0.7, 0]  # stretched
    joints[0, 1:6, arm[2]] = [0.3, 1, 0]  # bent by 90 degrees, in 5 of the 20 frames that count
    assert GEOMETRIC[6][0] == "angle" and geometric_features(joints)[0, 6] == pytest.approx(0.25)


def test_standing_still():
    still = np.repeat(walk(1, 1), 30, axis=1)
    assert not kinetic_features(still).any()
    assert np.isfinite(kinetic_features_aistpp(still)).all()
    collapsed = geometric_features(np.zeros((1, 5, 24, 3)))  # no direction has a length
    assert np.isfinite(collapsed).all()


@pytest.mark.parametrize("features", [kinetic_features, kinetic_features_aistpp, geometric_features])
def test_wrong_shapes_are_named(features):
    for bad in (walk()[0], walk()[:, :1], walk()[..., :2], walk() * np.nan):
        with pytest.raises(ValueError, match="joints has"):
            features(bad)
    assert features(walk(1, 3)).shape[0] == 1
