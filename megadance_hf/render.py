"""Pictures of a dance: a lit mannequin on a floor with its shadow, a slow camera that follows, the song as sound.

    render_video(motion, "dance.mp4", music="song.mp3")        # H.264 + AAC, 30 frames a second, 720p
    filmstrip(motion, "dance.png")                             # eight frames side by side
    for frame in render_frames(motion): ...                    # (height, width, 3) uint8 RGB

No graphics card and no graphics library is needed. The body is the set of tapered capsules of `mannequin.SEGMENTS`; under a
parallel projection the depth of such a capsule has a closed form (`_capsule`), so each pixel of the body is found and lit
exactly. Seen from the front the dancer's left is on the right of the picture, as with a camera.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import torch

from .mannequin import PART_COLOURS, SEGMENTS, SOLE_THICKNESS
from .modeling.kinematics_megadance import axis_angle_to_matrix, global_rotations
from .motion import Motion, atomic_path

Music = str | os.PathLike | bytes | tuple[np.ndarray, int]

FOCAL = 1.9  # focal length in picture heights: a vertical view of 30 degrees, a portrait lens
PITCH = math.radians(8.5)  # the camera looks down on the dancer by so much
LOOK_AT_HEIGHT = 0.92  # metres: about the pelvis of a standing dancer
USUAL_DISTANCE = 4.7  # metres from camera to dancer when nothing asks for more
MARGINS = (0.05, 0.07, 0.11)  # free share of the picture: left and right, top, bottom (caption and time bar)
BODY_REACH = (0.14, 0.22, 0.07)  # metres from a joint to the body's edge at most: sideways, up (crown), down (sole)
LIGHT = np.array([-0.38, 0.80, 0.464])  # unit vector towards the lamp: picture right, up, towards the viewer

TILE = 0.5  # metres
SHADOW_SIZE, SHADOW_SCALE = 160, 40  # pixels of the shadow map, pixels a metre
NORMAL_LEVELS = 128  # the lighting table knows so many values of each normal component

LEFT_TINT, RIGHT_TINT = ((0.20, 0.47, 0.66), 0.50), ((0.80, 0.30, 0.24), 0.38)  # colour of the limbs, its share
INK = np.array([52, 60, 74], np.float32)  # of the caption

_MP4 = {"movflags": "+faststart"}  # the index goes to the front: a browser plays before all is loaded
# mbtree is off because its output depends on the threads' timing (1 file in 50 differed on busy cores, 0 of 3,400 without); at this
# crf files and PSNR are what mbtree gave at 20. The last three save a third of the time for a tenth more bytes.
_X264 = {"preset": "veryfast", "crf": "25", "x264-params": "mbtree=0:subme=1:me=dia:partitions=none"}
_AAC_RATES = (44100, 48000)  # every player knows these, and an AAC block is shorter than a frame of the picture
_AAC_BLOCK = 1024  # samples


class RenderError(ValueError):
    """Something in the arguments keeps the picture from being made; the message names it and the remedy."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks at a moving target from the front, at a fixed pitch and heading.

    Attributes:
        size: picture (width, height) in pixels.
        heading: radians about Y from +Z to the direction in which the camera stands, seen from the dancer.
        targets: (frames, 3) the looked-at points, metres.
        distances: (frames,) from the target, metres.
    """

    size: tuple[int, int]
    heading: float
    targets: np.ndarray
    distances: np.ndarray

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return FOCAL * self.size[1]

    @property
    def horizon(self) -> float:
        """Picture row of the horizon; the same in every frame, because the pitch is."""
        return (self.size[1] - 1) / 2 - self.focal * math.tan(PITCH)

    def axes(self) -> np.ndarray:
        """(3, 3): rows are picture right, picture up and towards the viewer, in world coordinates."""
        s, c = math.sin(self.heading), math.cos(self.heading)
        turn = np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
        s, c = math.sin(PITCH), math.cos(PITCH)
        return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]]) @ turn.T

    def view(self, points: np.ndarray, frame: int | slice) -> np.ndarray:
        """World points [..., 3] -> (right, up, depth in front of the camera) in metres, same shape.

        With a slice of frames, `points` has the frames as its first dimension.
        """
        targets, distances = self.targets[frame], self.distances[frame]
        lead = (...,) if targets.ndim == 1 else (slice(None), *([None] * (points.ndim - 2)))
        seen = (points - targets[lead]) @ self.axes().T
        seen[..., 2] = np.asarray(distances)[lead] - seen[..., 2]
        return seen

    def project(self, points: np.ndarray, frame: int | slice) -> np.ndarray:
        """World points [..., 3] -> [..., 3]: picture column, picture row (pixels), depth (metres)."""
        seen = self.view(np.asarray(points, dtype=float), frame)
        depth = np.maximum(seen[..., 2], 1e-3)
        column = (self.size[0] - 1) / 2 + self.focal * seen[..., 0] / depth
        row = (self.size[1] - 1) / 2 - self.focal * seen[..., 1] / depth
        return np.stack([column, row, depth], -1)


def follow_camera(motion: Motion, size: tuple[int, int] = (1280, 720)) -> Camera:
    """A calm camera for a whole dance, from the front (the mean facing of the first second).

    It glides after the pelvis (Gaussian, 0.8 s) and steps back in time so that the whole body stays inside the margins.
    """
    import cv2

    joints = np.asarray(motion.joints(), dtype=np.float64)  # [frames, 24, 3]
    fps = float(motion.fps)
    first_second = torch.from_numpy(np.array(motion.poses[: max(1, round(fps)), 0], dtype=np.float64))
    facing = axis_angle_to_matrix(first_second)[:, :, 2].sum(0).numpy()  # where the pelvis' +Z points
    heading = math.atan2(facing[0], facing[2]) if math.hypot(facing[0], facing[2]) > 1e-6 else 0.0

    path = joints[:, 0].copy()
    path[:, 1] = LOOK_AT_HEIGHT + SOLE_THICKNESS
    sigma = 0.8 * fps
    window = 2 * math.ceil(3 * sigma) + 1
    targets = cv2.GaussianBlur(path, (1, window), sigmaX=1, sigmaY=sigma, borderType=cv2.BORDER_REPLICATE)
    camera = Camera(size, heading, targets, np.zeros(len(joints)))

    # A point at (right, up, towards) from the target is inside when |right| * focal <= room * (distance - towards).
    seen = camera.view(joints, slice(None))
    right, up, towards = seen[..., 0], seen[..., 1], -seen[..., 2]
    side, top, bottom = MARGINS
    room = np.array([(0.5 - side) * size[0], (0.5 - top) * size[1], (0.5 - bottom) * size[1]]) / camera.focal
    needed = np.stack([np.abs(right), up, -up], -1) + BODY_REACH  # [frames, 24, 3]
    needed = np.maximum((needed / room + towards[..., None]).max((1, 2)), USUAL_DISTANCE)[:, None]
    # The mean over a window of maxima over the same window is never below any frame's own need, and changes slowly.
    window = 2 * round(1.5 * fps) + 1
    kernel = np.ones((window, 1), np.uint8)
    distances = cv2.dilate(needed, kernel, borderType=cv2.BORDER_REPLICATE)
    distances = cv2.blur(distances, (1, window), borderType=cv2.BORDER_REPLICATE)
    return Camera(size, heading, targets, distances[:, 0])


class Stage:
    """Everything that is needed to draw any frame of one dance; the frames do not depend on each other."""

    def __init__(self, motion: Motion, size: tuple[int, int] = (1280, 720), title: str | None = None):
        self.motion, self.size = motion, size
        self.camera = follow_camera(motion, size)
        self.joints = np.asarray(motion.joints(), dtype=np.float64)  # [frames, 24, 3]
        self._block: tuple[int, np.ndarray] | None = None
        self._prepare_body()
        self._prepare_floor()
        self.title = motion.genre if title is None else title
        self._caption = _text(self.title, size[1]) if self.title else None

    def __len__(self) -> int:
        return len(self.joints)

    def draw(self, frame: int, overlay: bool = True) -> np.ndarray:
        """One frame: (height, width, 3) uint8 RGB, a new array. `overlay`: with caption and time bar."""
        ends = self.capsule_ends(frame)
        picture = self.draw_floor(frame, ends)
        self.draw_body(picture, frame, ends)
        if overlay:
            self.draw_overlay(picture, frame)
        return picture

    def capsule_ends(self, frame: int) -> np.ndarray:
        """(segments, 2, 3): both ends of every capsule in the world, soles on y = 0 where a foot joint is at y = 0."""
        size = 128  # rotations are made for a block of frames at a time: fast, and flat in memory for a long dance
        start = frame - frame % size
        if self._block is None or self._block[0] != start:
            poses = torch.from_numpy(np.array(self.motion.poses[start : start + size], dtype=np.float64))
            rotations = global_rotations(axis_angle_to_matrix(poses)).numpy()
            ends = np.einsum("fsij,sej->fsei", rotations[:, self._joint_of], self._offsets)
            ends += self.joints[start : start + size, self._joint_of, None]
            ends[..., 1] += SOLE_THICKNESS
            self._block = (start, ends)
        return self._block[1][frame - start]

    def _prepare_body(self) -> None:
        self._joint_of = np.array([s.joint for s in SEGMENTS])
        self._offsets = np.array([(s.start, s.end) for s in SEGMENTS])  # [segments, 2, 3]
        self._radii = np.array([(s.start_radius, s.end_radius) for s in SEGMENTS])  # [segments, 2]
        self._shadow_widths = np.maximum(1, np.rint(1.8 * SHADOW_SCALE * self._radii.mean(1))).astype(int).tolist()
        colours = []
        for segment in SEGMENTS:
            colour = np.array(PART_COLOURS[segment.part])
            tint, share = {"left": LEFT_TINT, "right": RIGHT_TINT}.get(segment.name.partition("_")[0], (colour, 0.0))
            if segment.part != "torso":  # left and right limbs can be told apart at a glance
                colour = colour + share * (np.array(tint) * colour.mean() / np.mean(tint) - colour)
            colours.append(colour)
        palette, self._colour_of = np.unique(np.array(colours), axis=0, return_inverse=True)
        self._lighting = _lighting_table(palette)  # [colours, levels, levels, 3]

    def _prepare_floor(self) -> None:
        (width, height), camera = self.size, self.camera
        rows, columns = np.arange(float(height))[:, None], np.arange(float(width))[None]
        below = rows - camera.horizon  # pixels below the horizon; the distance on the floor goes as 1 / below
        horizon_haze = np.exp(-np.maximum(below, 0.0) / (0.13 * height))[..., None]
        wall_height = np.clip(-below / max(camera.horizon, 1.0), 0.0, 1.0)[..., None]
        haze, wall, floor = (np.array(c, dtype=float) for c in ((226, 230, 235), (176, 188, 204), (158, 165, 176)))
        near, far = floor + (haze - floor) * horizon_haze, haze + (wall - haze) * wall_height**0.8
        picture = np.where(below[..., None] < 0, far, near)
        across = (columns - width / 2) / width
        pool = np.exp(-((across / 0.36) ** 2) - ((rows / height - 0.72) / 0.45) ** 2)[..., None]  # light on the dancer
        picture = picture * (0.94 + 0.12 * pool)
        # Half a grey level of fixed noise keeps the wide gradients from showing steps.
        picture += np.random.default_rng(0).uniform(-0.5, 0.5, (height, width, 1))
        self._background = np.clip(np.rint(picture), 0, 255).astype(np.uint8)

        self._floor_top = min(max(0, math.ceil(camera.horizon + 1)), height)
        down = (rows[:, 0] - camera.horizon) / height
        self._tile_strength = 0.09 * (1 - np.exp(-((np.maximum(down, 0.0) / 0.22) ** 2)))  # [height]

    def draw_floor(self, frame: int, ends: np.ndarray) -> np.ndarray:
        """The empty stage with the shadow of the capsules: (height, width, 3) uint8."""
        width, height = self.size
        axes = self.camera.axes()
        flat = np.array([axes[0], [0.0, 1.0, 0.0], [-axes[0, 2], 0.0, axes[0, 0]]])  # heading frame: right, up, back
        eye = flat @ (self.camera.targets[frame] + self.camera.distances[frame] * axes[2])
        # The ray of a pixel is right * u + up * v - towards, u and v linear in column and row. It meets y = 0 at
        # eye + ray * eye_y / -ray_y, where ray_y and ray_back are the same along a row: the camera does not roll.
        _, up, towards = axes @ flat.T
        v = ((height - 1) / 2 - np.arange(height)) / self.camera.focal
        with np.errstate(divide="ignore", invalid="ignore"):  # at the horizon
            reach = eye[1] / (towards[1] - v * up[1])  # [height]
            back = eye[2] + (v * up[2] - towards[2]) * reach
            depth = np.abs(np.gradient(back))  # metres of floor in a pixel's height
        step = reach / self.camera.focal  # metres to the right from a pixel to the next
        start = eye[0] - step * (width - 1) / 2

        centre = flat @ ends[0].mean(0)
        corner = centre[[0, 2]] - SHADOW_SIZE / SHADOW_SCALE / 2
        shadow, box = self._shadow_map(ends @ flat.T - [corner[0], 0.0, corner[1]])
        picture = np.empty_like(self._background)
        picture[: self._floor_top] = self._background[: self._floor_top]
        paths, background = np.stack([start, step, back, depth]), self._background
        _compiled(_lay_floor)(background, self._floor_top, paths, self._tile_strength, shadow, box, corner, picture)
        return picture

    def _shadow_map(self, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Capsules [segments, 2, 3] (right, height, back from the map's corner) -> darkness 0..255 seen from above, and
        the box (left, top, right, bottom) outside of which it is 0.

        Two shadows: the lamp's, sharper the nearer a limb is to the floor, and the dark contact under whatever is low.
        """
        import cv2

        slant = ends[..., 1, None] * (-LIGHT[[0, 2]] / LIGHT[1])
        under = np.rint(ends[..., [0, 2]] * (SHADOW_SCALE * 16)).clip(-(2**20), 2**20).astype(int)  # 4 binary places
        cast = np.rint((ends[..., [0, 2]] + slant) * (SHADOW_SCALE * 16)).clip(-(2**20), 2**20).astype(int)
        margin = 8 + math.ceil(self._radii.max() * SHADOW_SCALE)
        both = np.concatenate([under, cast]).reshape(-1, 2) // 16
        box = np.concatenate([both.min(0) - margin, both.max(0) + margin]).clip(0, SHADOW_SIZE)
        shadow = np.zeros((SHADOW_SIZE, SHADOW_SIZE), np.uint8)
        lifted = np.maximum(ends[..., 1] - self._radii, 0.0).mean(1)  # metres between a capsule and the floor
        low = (lifted < 0.5).tolist()
        touch = np.rint(255 * np.exp(-lifted / 0.035)).astype(int).tolist()
        near, far, contact = np.zeros((3, *shadow.shape), np.uint8)
        cast, under = cast.tolist(), under.tolist()
        for i, thickness in enumerate(self._shadow_widths):
            cv2.line(near if low[i] else far, *cast[i], 255, thickness, cv2.LINE_AA, 4)
        for i in sorted((i for i in range(len(ends)) if touch[i] > 8), key=touch.__getitem__):
            cv2.line(contact, *under[i], touch[i], self._shadow_widths[i], cv2.LINE_AA, 4)
        part = np.s_[box[1] : box[3], box[0] : box[2]]
        for layer, window in ((near, 3), (far, 7), (contact, 2)):
            for _ in range(2):  # two box filters are close to a Gaussian, and much faster
                layer[part] = cv2.blur(layer[part], (window, window), borderType=cv2.BORDER_REPLICATE)
        shadow[part] = cv2.addWeighted(cv2.max(near[part], far[part]), 0.36, contact[part], 0.42, 0)
        return shadow, box

    def draw_body(self, picture: np.ndarray, frame: int, ends: np.ndarray) -> None:
        """Draw the lit mannequin into `picture`."""
        import cv2

        width, height = self.size
        projected = self.camera.project(ends, frame)  # [segments, 2, 3]
        radii = self._radii * self.camera.focal / projected[..., 2]  # [segments, 2] pixels
        low, high = projected[..., :2] - radii[..., None] - 2, projected[..., :2] + radii[..., None] + 3
        boxes = np.concatenate([low.min(1), high.max(1)], 1).clip(0, [width, height, width, height]).astype(np.int64)
        left, top = boxes[:, :2].min(0)
        shape = tuple(boxes[:, :1:-1].max(0) - [top, left])  # rows, columns
        boxes -= [left, top, left, top]
        # Depth becomes pixels (`unit` a metre) towards the viewer, positive for all that can be seen.
        unit = self.camera.focal / self.camera.distances[frame]
        projected -= [left, top, 2 * self.camera.distances[frame]]
        projected[..., 2] *= -unit
        ends_and_radii = zip(projected.tolist(), radii.tolist(), strict=True)
        capsules = np.array([_capsule(*a, *b, *r) for (a, b), r in ends_and_radii])  # [segments, 10]

        depth = np.zeros(shape, np.float32)
        cover = np.zeros(shape, np.float32)  # share of the pixel that the body covers
        owner = np.zeros(shape, np.uint8)  # whose surface is visible
        normals = np.zeros((*shape, 4), np.uint8)  # right and down (128 is 0), unused, 255 where the body is
        _compiled(_rasterise)(capsules, boxes, depth, cover, owner, normals)
        smooth = cv2.blur(normals, (_odd(0.020 * unit),) * 2)  # over 2 cm, so that limbs grow out of each other
        # Darken what lies behind its surroundings (Luft, Colditz, Deussen 2006): an arm stands out from the chest.
        window = (_odd(0.030 * unit),) * 2  # in a quarter of the size
        inside = np.ascontiguousarray(normals[::4, ::4, 3])
        surface, share = (cv2.blur(plane, window) for plane in (np.ascontiguousarray(depth[::4, ::4]), inside))
        around = cv2.resize(surface / np.maximum(share, 1) * 255, shape[::-1], interpolation=cv2.INTER_LINEAR)
        lit, halo = np.zeros((*shape, 4), np.uint8), 1.0 / (0.35 * unit)
        _compiled(_light)(self._lighting, self._colour_of, owner, smooth, depth, around, halo, cover, lit)
        soft = cv2.GaussianBlur(lit, (3, 3), 0)
        _compiled(_lay_over)(lit, soft, cover, picture[top : top + shape[0], left : left + shape[1]])

    def draw_overlay(self, picture: np.ndarray, frame: int) -> None:
        """Caption at the lower left, thin bar of elapsed time along the bottom."""
        width, height = self.size
        if self._caption is not None:
            _write(picture, self._caption, round(0.022 * width), round(0.95 * height))
        thick = max(1, round(height / 180))
        done = round(width * (frame + 1) / len(self))
        bar = picture[height - thick :]
        bar[:, done:] -= bar[:, done:] // 8
        bar[:, :done] = (70, 108, 140)


@cache
def _compiled(function: Callable) -> Callable:
    """Machine code for one of the loops over pixels below, which are plain Python (numba comes with librosa)."""
    from numba import njit

    try:
        return njit(function, cache=True, fastmath=True, error_model="numpy")
    except RuntimeError:  # no folder can hold the machine code: it is made anew in each process, which takes seconds
        return njit(function, fastmath=True, error_model="numpy")


def _lay_floor(background, top, paths, strength, shadow, box, corner, picture):
    """Darken the background below row `top` by the tiles and the shadow.

    paths [4, rows]: metres right at column 0, metres a column, metres back, metres back to the next row.
    """
    width = picture.shape[1]
    light, lights = np.empty(width, np.float32), np.empty(3 * width, np.float32)
    for row in range(top, picture.shape[0]):
        start, step, back, depth = (
            paths[0, row] / TILE,
            paths[1, row] / TILE,
            paths[2, row] / TILE,
            paths[3, row] / TILE,
        )
        # A tile's edge is as soft as a pixel is wide: where tiles are smaller than pixels, far away, they fade to their mean.
        sharp = min(1.0 / step, 60.0)
        wave = abs(back - 2.0 * np.floor(back / 2.0) - 1.0) - 0.5
        swing = 2.0 * strength[row] * min(max(wave * min(1.0 / depth, 60.0), -0.5), 0.5)
        base = 1.0 - 0.5 * strength[row]
        for column in range(width):
            across = start + step * column
            wave = abs(across - 2.0 * np.floor(across * 0.5) - 1.0) - 0.5
            light[column] = base + swing * min(max(wave * sharp, -0.5), 0.5)
        y = (paths[2, row] - corner[1]) * SHADOW_SCALE
        y0 = int(np.floor(y))
        if box[1] <= y0 < box[3] - 1:
            metres = paths[1, row] * SHADOW_SCALE
            first = (corner[0] - paths[0, row]) * SHADOW_SCALE
            begin = max(0, int(np.ceil((first + box[0]) / metres)))
            end = min(width, int(np.floor((first + box[2] - 1) / metres)))
            fy = y - y0
            for column in range(begin, end):
                x = column * metres - first
                x0 = int(x)
                upper = shadow[y0, x0] + (x - x0) * (float(shadow[y0, x0 + 1]) - shadow[y0, x0])
                lower = shadow[y0 + 1, x0] + (x - x0) * (float(shadow[y0 + 1, x0 + 1]) - shadow[y0 + 1, x0])
                light[column] *= 1.0 - (upper + fy * (lower - upper)) / 255.0
        for column in range(width):
            lights[3 * column] = lights[3 * column + 1] = lights[3 * column + 2] = light[column]
        under, over = background[row].reshape(-1), picture[row].reshape(-1)
        for place in range(3 * width):
            over[place] = np.uint8(under[place] * lights[place])


def _capsule(ax, ay, az, bx, by, bz, ra, rb) -> tuple[float, ...]:
    """A sphere of changing radius swept from a to b (pixels; z towards the viewer), ready for `_rasterise`.

    At the pixel (u, v) from a, the sphere at t in 0..1 covers the pixel when q(t) = C + 2 B t - n t^2 > 0 and its surface is
    at z = az + t dz + sqrt(q(t)), with C = ra^2 - u^2 - v^2, B = ra dr + u dx + v dy, n = dx^2 + dy^2 - dr^2. z(t) is
    concave; it is highest at t = B/n + k sqrt((B/n)^2 + C/n), k = dz / sqrt(n + dz^2), and clamping t to 0..1 keeps that exact.

    Returns:
        ax, ay, az, dx, dy, dz, ra, dr, n, k
    """
    dx, dy, dz = bx - ax, by - ay, bz - az
    length = math.hypot(dx, dy)
    if length < 0.1 * max(ra, rb):  # end on, or a sphere: the end nearer to the viewer hides the rest
        x, y, z = (ax, ay, az) if az + ra >= bz + rb else (bx, by, bz)
        return x, y, z, 0.0, 0.0, 0.0, max(ra, rb), 0.0, 1.0, 0.0
    most = (
        0.95 * length
    )  # where one end hides inside the other's outline, a somewhat larger small end changes nothing seen
    ra, rb = max(ra, rb - most), max(rb, ra - most)
    dr = rb - ra
    n = length * length - dr * dr
    return ax, ay, az, dx, dy, dz, ra, dr, n, dz / math.sqrt(n + dz * dz)


def _rasterise(capsules, boxes, depth, cover, owner, normals):
    """Every capsule into the depth buffer, inside its box (left, top, right, bottom)."""
    for index in range(len(capsules)):
        x, y, z = capsules[index, 0], capsules[index, 1], capsules[index, 2]
        dx, dy, dz = capsules[index, 3], capsules[index, 4], capsules[index, 5]
        radius, dr, n, k = capsules[index, 6], capsules[index, 7], capsules[index, 8], capsules[index, 9]
        per_n = 1.0 / n
        sharp = 0.5 / max(0.5, radius + dr / 2)  # q / (2 radius) is about the distance to the outline in pixels
        for row in range(boxes[index, 1], boxes[index, 3]):
            v = row - y
            for column in range(boxes[index, 0], boxes[index, 2]):
                u = column - x
                c = radius * radius - u * u - v * v
                b = (radius * dr + u * dx + v * dy) * per_n
                most = b * b + c * per_n  # q at its highest, were t not held to 0..1, over n
                if most * n * sharp <= -0.5:
                    continue
                t = min(max(b, 0.0), 1.0)  # where q is highest: how far inside the outline
                share = (c + n * t * (2 * b - t)) * sharp + 0.5
                if share <= 0.0:
                    continue
                t = min(max(b + k * math.sqrt(max(most, 0.0)), 0.0), 1.0)  # where z is highest: what is seen
                q = c + n * t * (2 * b - t)
                if share > cover[row, column]:
                    cover[row, column] = min(share, 1.0)
                surface = z + t * dz + math.sqrt(max(q, 0.0))
                if surface > depth[row, column]:
                    depth[row, column] = surface
                    owner[row, column] = index
                    scale = 127.0 / (radius + t * dr)
                    normals[row, column, 0] = int(min(max((u - t * dx) * scale, -127.0), 127.0) + 128.5)
                    normals[row, column, 1] = int(min(max((v - t * dy) * scale, -127.0), 127.0) + 128.5)
                    normals[row, column, 3] = 255


def _light(lighting, colours, owner, normals, depth, around, halo, cover, lit):
    """Look up the lit colour of every pixel of the body; the fourth channel of `lit` is 255 there."""
    most = lighting.shape[1] - 1
    for row in range(cover.shape[0]):
        for column in range(cover.shape[1]):
            if cover[row, column] > 0.0:
                scale = most / max(float(normals[row, column, 3]), 1.0)  # the mean is of the part inside the outline
                x = min(int(normals[row, column, 0] * scale + 0.5), most)
                y = min(int(normals[row, column, 1] * scale + 0.5), most)
                behind = (around[row, column] - depth[row, column]) * halo
                shade = 1.0 - min(max(behind, 0.0), 0.45)
                colour = colours[owner[row, column]]
                for channel in range(3):
                    lit[row, column, channel] = int(lighting[colour, y, x, channel] * shade + 0.5)
                lit[row, column, 3] = 255


def _lay_over(lit, soft, cover, picture):
    """Lay the body over the picture by the share of each pixel that it covers.

    Inside, the colours softened by one pixel are taken, for smooth inner edges; at the outline they would mix with nothing.
    """
    for row in range(cover.shape[0]):
        for column in range(cover.shape[1]):
            share = cover[row, column]
            if share > 0.0:
                inside = soft[row, column, 3] == 255
                for channel in range(3):
                    colour = soft[row, column, channel] if inside else lit[row, column, channel]
                    under = picture[row, column, channel]
                    picture[row, column, channel] = int(under + (float(colour) - under) * share + 0.5)


def _lighting_table(palette: np.ndarray) -> np.ndarray:
    """Colours [n, 3] (sRGB 0..1) -> lit colour 0..255 of each normal [n, y level, x level, 3]."""
    levels = np.linspace(-1.0, 1.0, NORMAL_LEVELS)
    x, y = np.meshgrid(levels, -levels)  # picture rows go down, normals up
    length = np.maximum(np.hypot(x, y), 1e-9)
    inside = np.minimum(length, 0.999)
    x, y, z = x / length * inside, y / length * inside, np.sqrt(1.0 - inside**2)
    normal = np.stack([x, y, z], -1)
    s, c = math.sin(PITCH), math.cos(PITCH)
    lamp = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ LIGHT  # as the camera sees it
    half = (lamp + [0, 0, 1]) / np.linalg.norm(lamp + [0, 0, 1])
    diffuse = np.clip((normal @ lamp + 0.25) / 1.25, 0.0, 1.0) ** 1.3  # wrapped a little round, as a large lamp does
    sky = 0.5 + 0.5 * y
    gloss = np.clip(normal @ half, 0.0, 1.0) ** 28
    rim = (1.0 - z) ** 3 * sky
    warm, cool, bounce = np.array([1.0, 0.96, 0.90]), np.array([0.62, 0.74, 0.92]), np.array([0.62, 0.56, 0.52])
    light = diffuse[..., None] * warm * 0.92 + sky[..., None] * cool * 0.26 + (1 - sky[..., None]) * bounce * 0.20
    linear = palette[:, None, None] ** 2.2 * light + 0.10 * gloss[..., None] * warm + 0.12 * rim[..., None] * cool
    return np.rint(255.0 * np.clip(linear, 0.0, 1.0) ** (1 / 2.2)).astype(np.uint8)


def _odd(value: float) -> int:
    return 2 * int(value / 2) + 1


def _text(text: str, height: int) -> np.ndarray:
    """A line of text for a picture of so many rows, as opacity 0..1: (rows, columns, 1) float32."""
    import cv2

    fine = 4  # OpenCV's strokes are whole pixels wide: drawn large and reduced they come out even
    font, scale, thickness = cv2.FONT_HERSHEY_DUPLEX, fine * height / 1000, max(1, round(fine * height / 720))
    ((columns, rows), base), pad = cv2.getTextSize(text, font, scale, thickness), 2 * fine
    canvas = np.zeros((rows + base + 2 * pad, columns + 2 * pad), np.uint8)
    cv2.putText(canvas, text, (pad, pad + rows), font, scale, 255, thickness, cv2.LINE_AA)
    small = cv2.resize(canvas, None, fx=1 / fine, fy=1 / fine, interpolation=cv2.INTER_AREA)
    return small[..., None] * np.float32(0.85 / 255)


def _write(picture: np.ndarray, text: np.ndarray, left: int, bottom: int) -> None:
    top = max(0, bottom - text.shape[0])
    part = picture[top:bottom, left : left + text.shape[1]]
    opacity = text[: part.shape[0], : part.shape[1]]
    part[:] = (part + (INK - part) * opacity + np.float32(0.5)).astype(np.uint8)


def render_frames(
    motion: Motion, *, size: tuple[int, int] = (1280, 720), fps: float = 30.0, title: str | None = None
) -> Iterator[np.ndarray]:
    """The frames of a dance, one after the other: (height, width, 3) uint8, RGB. Arguments and errors: `render_video`."""
    stage = _stage(motion, size, fps, title)
    return (stage.draw(frame) for frame in range(len(stage)))


def filmstrip(
    motion: Motion,
    path: str | os.PathLike,
    count: int = 8,
    *,
    size: tuple[int, int] = (320, 480),
    title: str | None = None,
) -> Path:
    """One PNG with `count` moments of a dance side by side, evenly spaced from the first frame to the last.

    Args:
        motion: the dance.
        path: where to write; ends in .png.
        count: how many pictures.
        size: (width, height) of each picture in pixels.
        title: caption of the first picture; None shows the genre, "" nothing. Each carries its time.

    Returns:
        The path. The file appears whole or not at all; errors are those of `render_video`.
    """
    import cv2

    path = _target(path, ".png")
    if not (isinstance(count, int | np.integer) and count >= 1):
        raise RenderError(f"count={count!r}: give a whole number of pictures, 1 or more")
    stage = _stage(motion, size, motion.fps, title)
    pictures = []
    for frame in np.linspace(0, len(stage) - 1, count).round().astype(int).tolist():
        picture = stage.draw(frame, overlay=False)
        label = f"{frame / motion.fps:.1f} s"
        if not pictures and stage.title:
            label = f"{stage.title}  {label}"
        _write(picture, _text(label, round(size[1] * 1.3)), round(0.03 * size[0]), round(0.97 * size[1]))
        picture[:, -1:] = 255
        pictures.append(picture)
    strip = cv2.cvtColor(np.concatenate(pictures, 1), cv2.COLOR_RGB2BGR)
    with atomic_path(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", strip)[1].tobytes())
    return path


def render_video(
    motion: Motion,
    path: str | os.PathLike,
    music: Music | None = None,
    *,
    music_start: float = 0.0,
    size: tuple[int, int] = (1280, 720),
    fps: float = 30.0,
    title: str | None = None,
    progress: bool = True,
) -> Path:
    """A video of a dance with its song: H.264 (yuv420p) and AAC in an .mp4 that starts to play before it is loaded whole.

    Args:
        motion: the dance; y = 0 is the floor. It is resampled when its rate is not `fps`.
        path: where to write; ends in .mp4.
        music: the sound: a file (path or bytes) of any format soundfile reads, or (waveform, rate) with a waveform of shape
            (samples,), (samples, channels) or (channels, samples). None: a silent film.
        music_start: seconds of the song that belong to frame 0. The sound is exactly as long as the picture; where the song
            ends earlier, silence follows.
        size: (width, height) in pixels, both even (H.264 keeps colour for squares of four).
        fps: frames a second.
        title: caption; None shows the genre, "" nothing.
        progress: show a progress bar.

    Returns:
        The path. The file appears whole or not at all.

    Raises:
        RenderError: odd size, no frames, music that is not as described.
        AudioError: the song cannot be read.
        MotionError: the path cannot be written.
    """
    import av
    import cv2
    from tqdm.auto import tqdm

    path = _target(path, ".mp4")
    stage = _stage(motion, size, fps, title, even=True)
    rate = Fraction(fps).limit_denominator(1001)
    sound, sound_rate = (None, 0) if music is None else _sound(music, music_start, len(stage) / rate)

    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4", options=_MP4) as container:
        video = container.add_stream("libx264", rate=rate, options=_X264)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        context = video.codec_context
        context.thread_type, context.time_base = "FRAME", 1 / rate  # by frames: it encodes while the next is drawn
        # What cv2's conversion makes: BT.601 in the limited range; sRGB's primaries are BT.709's.
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = 1, 6, 1, 1
        if sound is not None:
            layout = "mono" if len(sound) == 1 else "stereo"
            audio = container.add_stream("aac", rate=sound_rate, layout=layout, bit_rate=96_000 * len(sound))
        sent = 0
        for index in tqdm(range(len(stage)), desc="video", unit="frame", disable=not progress):
            planes = cv2.cvtColor(stage.draw(index), cv2.COLOR_RGB2YUV_I420)
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(video.encode(frame))
            while sound is not None and sent < min(sound.shape[1], (index + 1) / rate * sound_rate):
                block = sound[:, sent : sent + _AAC_BLOCK]  # sound and picture side by side, for players that stream
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout=layout)
                frame.sample_rate, frame.pts, frame.time_base = sound_rate, sent, Fraction(1, sound_rate)
                container.mux(audio.encode(frame))
                sent += block.shape[1]
        container.mux(video.encode(None))
        if sound is not None:
            container.mux(audio.encode(None))
    return path


def _target(path: str | os.PathLike, suffix: str) -> Path:
    path = Path(path)
    if path.suffix.lower() != suffix:
        raise RenderError(f"path={str(path)!r}: end the name in {suffix}")
    if path.is_dir():
        raise RenderError(f"path={str(path)!r} is a folder: give the name of a file in it")
    if not path.parent.is_dir():
        raise RenderError(f"path={str(path)!r}: the folder {str(path.parent)!r} does not exist; create it first")
    return path


def _stage(motion: Motion, size: tuple[int, int], fps: float, title: str | None, even: bool = False) -> Stage:
    if len(motion) == 0:
        raise RenderError("motion has no frames: give one with at least one")
    try:
        width, height = (operator.index(number) for number in size)
    except (TypeError, ValueError):
        width = height = 0
    if not (32 <= width <= 8192 and 32 <= height <= 8192):
        raise RenderError(f"size={size!r}: give (width, height) in pixels, each from 32 to 8192")
    if even and (width % 2 or height % 2):
        rounded = (width + width % 2, height + height % 2)
        raise RenderError(f"size={(width, height)}: H.264 needs even numbers of pixels; give size={rounded}")
    if not (isinstance(fps, int | float | Fraction) and math.isfinite(fps) and 1 <= fps <= 240):
        raise RenderError(f"fps={fps!r}: give frames a second, from 1 to 240")
    return Stage(motion if motion.fps == fps else motion.resampled(float(fps)), (width, height), title)


def _sound(music: Music, start: float, seconds: Fraction) -> tuple[np.ndarray, int]:
    """The song from `start` on, cut or filled up with silence to `seconds`: [channels (1 or 2), samples] float32, rate."""
    if not (isinstance(start, int | float | np.number) and math.isfinite(start) and start >= 0):
        raise RenderError(f"music_start={start!r}: give seconds, 0 or more")
    if isinstance(music, tuple):
        try:
            waveform, rate = np.array(music[0], dtype=np.float32, ndmin=2), operator.index(music[1])
        except (TypeError, ValueError, IndexError):
            waveform, rate = np.zeros((0, 0)), 0
        if len(music) != 2 or waveform.ndim != 2 or not waveform.size or rate < 1:
            raise RenderError("music: give (waveform, rate), an array of 1 or 2 dimensions and a whole rate in Hz")
        if not np.isfinite(waveform).all():
            raise RenderError("music: the waveform holds NaN or infinity; export the sound again")
        if waveform.shape[0] < waveform.shape[1]:
            waveform = waveform.T  # [samples, channels]
        if round(start * rate) >= len(waveform):
            raise RenderError(
                f"music_start={start!r}: music ends at {len(waveform) / rate:.2f} s; give an earlier start"
            )
        waveform = waveform[round(start * rate) :]
    else:
        from .modeling.feature_extraction_megadance import load_audio

        # [samples, channels]. At least a second is read: shorter sounds are refused there.
        duration = max(float(seconds), 1.0)
        waveform, rate = load_audio(music, sampling_rate=None, start=start, duration=duration, mono=False)
    if waveform.shape[1] > 2:
        waveform = waveform.mean(1, keepdims=True)
    if rate not in _AAC_RATES:
        import soxr

        waveform, rate = soxr.resample(waveform, rate, 48000), 48000
    samples = round(seconds * rate)
    sound = np.zeros((waveform.shape[1], samples), np.float32)
    sound[:, : len(waveform)] = waveform[:samples].T
    return sound, rate
