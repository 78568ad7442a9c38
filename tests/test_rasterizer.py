"""The loops over pixels, each against an obvious slow twin."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from megadance_hf.render.rasterizer import (
    RGB,
    VIDEO,
    blend,
    capsules,
    compiled,
    composite,
    draw_floor,
    rasterise,
    shade_body,
)


def some_bytes(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# --- colours ---------------------------------------------------------------------------------------------------------


def test_video_colours_are_bt601():
    """Against OpenCV's conversion, which rounds to whole numbers."""
    for colour in some_bytes(200, 3):
        expected = cv2.cvtColor(np.full((2, 2, 3), colour), cv2.COLOR_RGB2YUV_I420).ravel()[[0, 4, 5]]
        assert np.abs(VIDEO.planes_of(colour.astype(float)) - expected).max() < 1.01


def test_grey_has_no_colour():
    grey = VIDEO.planes_of(np.linspace(0, 255, 5)[:, None] * np.ones(3))
    np.testing.assert_allclose(grey[:, 1:], 128, atol=1e-9)
    np.testing.assert_allclose(grey[[0, -1], 0], [16, 235])
    assert np.array_equal(RGB.planes_of(np.array([1.0, 2.0, 3.0])), [1, 2, 3])


@pytest.mark.parametrize("size", [(6, 4), (7, 5)])
def test_subsampled_planes_hold_means(size):
    picture = some_bytes(*size, 3).astype(float)
    for space in (RGB, VIDEO):
        planes = space.subsampled(picture)
        assert [plane.shape for plane in planes] == [plane.shape for plane in space.empty(size[1], size[0])]
    np.testing.assert_allclose(planes[0], picture[..., 0])
    np.testing.assert_allclose(planes[1][1, 0], picture[2:4, :2, 1].mean())


# --- the floor -------------------------------------------------------------------------------------------------------


def floor_light(shape, top, paths, strength, fade, shadow, scale, box, corner):
    """How much of the background's light is left, pixel by pixel."""
    rows, columns = np.mgrid[top : shape[0], : shape[1]]
    start, step, back, depth = (path[top:, None] for path in paths)
    right = start + step * columns
    halves = []
    for place, width in ((right, step), (back + 0 * right, depth)):
        tile = np.rint(place)
        inside = np.where(tile % 2 == 0, 1, -1) * (0.5 - np.abs(place - tile))  # signed, to the next edge
        halves.append(np.clip(inside / width.clip(1 / 60), -0.5, 0.5))
    light = 1 + fade * strength[top:, None] * (2 * halves[0] * halves[1] - 0.5)
    x, y = (right - corner[0]) * scale, (back - corner[1]) * scale + 0 * right
    dark = cv2.remap(shadow.astype(np.float32), x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)
    within = (x >= box[0]) & (x < box[2] - 1) & (y >= box[1]) & (y < box[3] - 1)
    return light * (1 - np.where(within, dark, 0) / 255)


@pytest.mark.parametrize("space", [RGB, VIDEO], ids=["rgb", "video"])
def test_floor(space):
    height, width, top, size = 90, 160, 30, 40
    down = np.arange(height) + 5.0
    paths = np.stack([-300 / down, 4 / down, 400 / down - 9, 400 / down**2])
    strength, fade = np.linspace(0, 0.09, height), np.linspace(0.2, 1, width, dtype=np.float32)
    shadow, box = np.zeros((size, size), np.uint8), np.array([6, 4, 36, 34])
    shadow[4:34, 6:36] = cv2.resize(some_bytes(6, 6), (30, 30))
    shadow[4:34, 6:36][:, [0, -1]] = shadow[4:34, 6:36][[0, -1]] = 0
    corner = np.array([-2.0, -6.0])
    background, picture = (tuple(some_bytes(*p.shape) for p in space.empty(width, height)) for _ in range(2))
    untouched = [plane.copy() for plane in picture]
    arguments = (top, paths, strength, fade, shadow, 8.0, box, corner)
    compiled(draw_floor)(background, space.zero, space.subsampling, *arguments, picture)
    left = floor_light((height, width), *arguments)
    assert left.min() < 0.6 and left.max() - np.median(left) > 0.01  # there is a shadow, and there are tiles
    for channel, (plane, under, before) in enumerate(zip(picture, background, untouched, strict=True)):
        step = space.subsampling if channel else 1
        zero = space.zero[channel]
        expected = (under[top // step :] - zero) * left[::step, ::step] + zero
        assert np.abs(plane[top // step :] - expected).max() < 1.2
        assert np.array_equal(plane[: top // step], before[: top // step])


# --- the body --------------------------------------------------------------------------------------------------------

finite = st.floats(-8, 8)


@settings(max_examples=25)
@given(
    st.tuples(finite, finite, finite),
    st.tuples(finite, finite, finite),
    st.floats(2, 6),
    st.floats(2, 6),
    st.sampled_from([(0.0, 0.0, 1.0), (0.0, 0.0, -1.0), (1.0, 0.0, 0.0), (0.0, 0.6, -0.8)]),
)
def test_a_capsule_is_the_spheres_it_is_swept_from(a, b, ra, rb, front):
    """The closed form against a thousand spheres, pixel by pixel; which surface faces the front, too."""
    size = 31
    start, end = np.array(a) + [15, 15, 60], np.array(b) + [15, 15, 60]
    length = math.hypot(*(end - start)[:2])
    if length < max(0.1 * max(ra, rb), abs(ra - rb) / 0.95):
        return  # seen end on: simplified on purpose
    kinds = (np.float32, np.float32, np.uint8, np.uint8, np.uint8, np.uint8)
    planes = [np.zeros((size, size), kind) for kind in kinds]
    capsule = capsules(start[None], end[None], np.array([[ra, rb]]))
    compiled(rasterise)(capsule, np.array([front]), np.array([[0, 0, size, size]]), *planes)
    t = np.linspace(0, 1, 1001, dtype=np.float32)[:, None, None]
    rows, columns = np.mgrid[:size, :size]
    square = (ra + t * (rb - ra)) ** 2
    square = square - (columns - start[0] - t * (end - start)[0]) ** 2 - (rows - start[1] - t * (end - start)[1]) ** 2
    surfaces = np.where(square > 0, start[2] + t * (end - start)[2] + np.sqrt(np.maximum(square, 0)), 0)
    surface, nearest = surfaces.max(0), surfaces.argmax(0)
    hit = square.max(0) > 0.5
    np.testing.assert_allclose(planes[0][hit], surface[hit], atol=0.02)
    centres = start + t[nearest, 0] * (end - start)
    facing = (np.stack([columns, rows, surface], -1) - centres) @ np.array(front)
    clear = hit & (np.abs(facing) > 0.3)
    assert np.array_equal(planes[2][clear], np.where(facing > 0, 0, 1)[clear])
    assert (planes[1][square.max(0) > 2 * max(ra, rb)] == 1).all()
    assert (planes[1][square.max(0) < -2 * max(ra, rb)] == 0).all()


def test_a_box_cuts_a_capsule_off():
    """The rows' narrow bounds change nothing: drawn in two boxes it is what it is in one."""
    start, end, radii = np.array([[9.0, 8.0, 50.0]]), np.array([[30.0, 33.0, 58.0]]), np.array([[7.0, 3.0]])
    results = []
    for boxes in ([[0, 0, 40, 40]], [[0, 0, 17, 40], [17, 0, 40, 40]]):
        planes = [np.zeros((40, 40), kind) for kind in (np.float32, np.float32, *[np.uint8] * 4)]
        capsule = np.repeat(capsules(start, end, radii), len(boxes), 0)
        fronts = np.tile([0.6, 0.0, 0.8], (len(boxes), 1))
        compiled(rasterise)(capsule, fronts, np.array(boxes), *planes)
        results.append(planes)
    for index in (0, 1, 3, 4, 5):
        np.testing.assert_allclose(results[0][index].astype(float), results[1][index], atol=1e-3 if index < 2 else 1)
    assert (results[0][1] > 0).sum() > 300


@pytest.mark.parametrize("space", [RGB, VIDEO], ids=["rgb", "video"])
def test_shading_and_compositing(space):
    """Pixel by pixel with fractions, rounded at the end."""
    rows, columns, top, left, levels = 12, 10, 4, 6, 16
    rng = np.random.default_rng(3)
    table, colours = some_bytes(2, levels, levels, 3), np.array([1, 0, 1])
    owner = rng.integers(0, 3, (rows, columns)).astype(np.uint8)
    right, down, inside = some_bytes(3, rows, columns, seed=4)
    inside = np.maximum(inside, 1)
    depth, around = rng.uniform(0, 9, (2, rows, columns)).astype(np.float32)
    cover = np.where(rng.uniform(size=(rows, columns)) < 0.3, 0, rng.uniform(size=(rows, columns))).astype(np.float32)
    lit = np.zeros((4, rows, columns), np.uint8)
    compiled(shade_body)(table, space.zero, colours, owner, right, down, inside, depth, around, 0.1, cover, lit)
    x, y = (np.minimum(normal * (levels - 1.0) / inside + 0.5, levels - 1).astype(int) for normal in (right, down))
    shade = 1 - ((around - depth) * 0.1).clip(0, 0.45)
    colour = (table[colours[owner], y, x] - np.array(space.zero)) * shade[..., None] + space.zero
    body = cover > 0
    assert np.abs(lit[:3].transpose(1, 2, 0) - colour)[body].max() < 0.51 and (lit[:, ~body] == 0).all()
    assert np.array_equal(lit[3] == 255, body)

    soft = some_bytes(4, rows, columns, seed=5)
    soft[3] = np.where(rng.uniform(size=(rows, columns)) < 0.5, 255, 40)
    picture = tuple(some_bytes(*plane.shape, seed=6) for plane in space.empty(24, 20))
    before = [plane.copy() for plane in picture]
    compiled(composite)(lit, soft, cover, space.subsampling, top, left, picture)
    chosen = np.where(soft[3] == 255, soft[:3], lit[:3])
    for channel, (plane, under) in enumerate(zip(picture, before, strict=True)):
        step = space.subsampling if channel else 1
        large = under.astype(float).repeat(step, 0).repeat(step, 1)
        part = large[top : top + rows, left : left + columns]
        part += (chosen[channel] - part) * cover
        expected = large.reshape(len(plane), step, -1, step).mean((1, 3))
        assert np.abs(plane - expected).max() < 0.51


def test_blend():
    plane, opacity = some_bytes(9, 12), np.random.default_rng(1).uniform(0, 1, (3, 5)).astype(np.float32)
    expected = plane.astype(float)
    expected[2:5, 4:9] += (60.5 - expected[2:5, 4:9]) * opacity
    compiled(blend)(plane, 2, 4, 60.5, opacity)
    assert np.abs(plane - expected).max() < 0.51
