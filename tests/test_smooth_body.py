"""How the smooth body is made, on shapes whose answer is known; what comes out of it is tested in test_bodies.py."""

import numpy as np
import pytest

from megadance_hf.modeling.kinematics_megadance import MIRROR_JOINTS
from megadance_hf.motion import smooth_body
from megadance_hf.motion.mannequin import REST_JOINTS

FLIP = np.array([-1.0, 1.0, 1.0])


def box(half_width: float, cells: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """A closed cube of quads that look outward, the same on both sides of x = 0."""
    steps = np.linspace(-half_width, half_width, cells + 1)
    places, quads = {}, []

    def number(point):
        return places.setdefault(tuple(np.round(point, 9)), len(places))

    for axis in range(3):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        for side in (-half_width, half_width):
            for i in range(cells):
                for j in range(cells):
                    corners = []
                    for a, b in ((i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)):
                        point = np.zeros(3)
                        point[axis], point[first], point[second] = side, steps[a], steps[b]
                        corners.append(number(point))
                    quads.append(corners if side > 0 else corners[::-1])
    return np.array(list(places)), np.array(quads)


def edges(quads: np.ndarray) -> list[tuple[int, int]]:
    triangles = smooth_body.triangulate(quads)
    return [tuple(edge) for pair in ((0, 1), (1, 2), (2, 0)) for edge in triangles[:, pair].tolist()]


def test_hidden_faces_are_removed_and_holes_closed():
    outer, outer_quads = box(0.2)
    inner, inner_quads = box(0.1, 4)
    centres = outer[outer_quads].mean(1)
    hole = (centres[:, 2] > 0.19) & (np.abs(centres[:, :2]).max(1) < 0.03)  # four cells in front, like a mouth
    vertices = np.concatenate([outer, inner])
    quads = np.concatenate([outer_quads[~hole], inner_quads + len(outer)])
    seen = smooth_body.visible_from_outside(vertices, smooth_body.triangulate(outer_quads[~hole]), 60)
    assert seen.mean() > 0.99

    partners = smooth_body.mirror_partners(vertices)
    np.testing.assert_allclose(vertices[partners], vertices * FLIP, atol=1e-12)
    made, faces, new = smooth_body.close_holes(vertices, quads, partners)
    used = edges(faces)
    assert len(used) == len(set(used)) and set(used) == {(last, first) for first, last in used}, "closed"
    assert not np.isin(np.arange(len(outer), len(vertices)), faces).any(), "the inner box is gone"
    assert new[: len(vertices)].sum() == 8 and new[len(vertices) :].all(), "the rim of the hole, and what fills it"
    np.testing.assert_allclose(made[len(vertices) :], [[0, 0, 0.2]], atol=1e-12)
    a, b, c = (made[smooth_body.triangulate(faces)[:, corner]] for corner in range(3))
    assert (np.cross(a, b) * c).sum() / 6 == pytest.approx(0.4**3), "all look outward"


def test_a_minimal_surface_over_a_flat_rim_is_flat():
    vertices, quads = box(0.2)
    tip = (vertices[:, 2] > 0.19) & (np.abs(vertices[:, :2]).max(1) < 0.12)
    bumpy = vertices + tip[:, None] * np.random.default_rng(0).uniform(0, 0.05, vertices.shape)
    mean = smooth_body.neighbour_means(smooth_body.triangulate(quads), len(vertices))
    flat = smooth_body.minimal_surface(bumpy, mean, tip)
    np.testing.assert_allclose(flat[tip, 2], 0.2, atol=1e-12)
    assert np.array_equal(flat[~tip], vertices[~tip])
    ironed = smooth_body.smooth_region(bumpy, mean, tip, 1)
    assert ironed[tip, 2].std() < 0.3 * bumpy[tip, 2].std()


def test_the_trunk_s_weights_are_distributed_upwards():
    heights = np.linspace(-0.2, 0.6, 81)
    weights = np.zeros((81, 24))
    weights[:, 0], weights[:, 12] = 0.8, 0.2
    shared = smooth_body.trunk_weights(weights, heights)
    np.testing.assert_allclose(shared.sum(1), 1)
    np.testing.assert_allclose(shared[:, 12], 0.2)
    assert shared.min() >= 0
    strongest = shared[:, [0, 3, 6, 9]].argmax(1)
    assert strongest[0] == 0 and strongest[-1] == 3 and (np.diff(strongest) >= 0).all()
    for joint, above in ((3, [3, 6, 9]), (6, [6, 9]), (9, [9])):  # half of it at the joint itself
        at = np.interp(smooth_body.REST[joint, 1], heights, shared[:, above].sum(1))
        assert at == pytest.approx(0.4, abs=0.02)


def test_the_skeleton_it_is_fitted_to_is_ours_made_symmetric():
    rest = smooth_body.REST
    np.testing.assert_allclose(rest, rest[list(MIRROR_JOINTS)] * FLIP, atol=1e-12)
    assert np.abs(rest - REST_JOINTS).max() < 0.01
