"""What a frame looks like: a lit figure on a floor with its shadow, seen by a camera that follows slowly.

No graphics card or graphics library is needed. The mannequin is the set of tapered capsules in `mannequin.SEGMENTS`: under parallel
projection the depth of a capsule has a closed form (`rasterizer.capsules`), so each pixel of the body is found and lit exactly.
Other bodies are triangle meshes. Seen from the front the dancer's left is on the right of the picture, as with a camera.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from typing import Literal

import numpy as np
import torch

from megadance_hf.modeling.kinematics_megadance import axis_angle_to_matrix, global_rotations
from megadance_hf.motion.bodies import Body, body_mesh, skin
from megadance_hf.motion.mannequin import (
    RADII,
    SEGMENT_COLOURS,
    SEGMENT_FRONTS,
    SEGMENT_JOINTS,
    SOLE_THICKNESS,
    pose_segments,
)
from megadance_hf.motion.motion import Motion

from .camera import PITCH, follow_camera
from .rasterizer import (
    COVER,
    RGB,
    SAMPLES,
    VIDEO,
    ColourSpace,
    blend,
    capsules,
    compiled,
    composite,
    draw_floor,
    rasterise,
    rasterise_mesh,
    shade_body,
)

LIGHT = np.array([-0.38, 0.80, 0.464])  # unit vector towards the lamp: picture right, up, towards the viewer

TILE = 0.5  # metres
SHADOW_SIZE, SHADOW_SCALE = 160, 40  # pixels of the shadow map, pixels per metre
NORMAL_LEVELS = 128  # values of each normal component in the lighting table

INK, BAR = (52, 60, 74), (70, 108, 140)  # of the caption and of the time bar
_BLOCK = 128  # frames whose rotations are computed at once


class RenderError(ValueError):
    """An argument keeps the picture from being made; the message names it and the remedy."""


class Stage:
    """Draws any frame of one dance. Frames do not depend on each other, and drawing is thread-safe."""

    def __init__(
        self,
        motion: Motion,
        size: tuple[int, int] = (1280, 720),
        title: str | Literal[False] | None = None,
        body: str = "mannequin",
    ):
        self.motion, self.size = motion, size
        self.camera = follow_camera(motion, size)
        self.joints = np.asarray(motion.joints(), dtype=np.float64)  # [frames, 24, 3]
        self.title = motion.genre if title is None else title
        self._mesh: Body | None = None if body == "mannequin" else body_mesh(body)
        self._prepare_body()
        self._prepare_floor()
        # Rotations are computed for a block of frames at once: fast, with bounded memory for a long dance.
        self._block = lru_cache(maxsize=32)(self._make_block)
        self._paint = cache(self._make_paint)

    def __len__(self) -> int:
        return len(self.joints)

    def draw(self, frame: int, overlay: bool = True) -> np.ndarray:
        """One frame, (height, width, 3) uint8 RGB, a new array; `overlay` adds caption and time bar."""
        return np.stack(self.draw_planes(frame, RGB, overlay), -1)

    def draw_planes(self, frame: int, space: ColourSpace = VIDEO, overlay: bool = True) -> tuple[np.ndarray, ...]:
        """The same frame as the planes of a colour space."""
        ends = self.capsule_ends(frame)
        planes = self.draw_floor(frame, ends, space)
        self.draw_body(planes, frame, ends, space)
        if overlay:
            self.draw_overlay(planes, frame, space)
        return planes

    def capsule_ends(self, frame: int) -> np.ndarray:
        """Both ends of every capsule, (segments, 2, 3) metres; raised, so that soles are at y = 0 where foot joints are."""
        return self._block(frame // _BLOCK)[0][frame % _BLOCK]

    def _make_block(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Capsule ends (frames, segments, 2, 3) and global rotations (frames, 24, 3, 3) of a block of frames."""
        part = slice(number * _BLOCK, (number + 1) * _BLOCK)
        poses = torch.from_numpy(np.array(self.motion.poses[part], dtype=np.float64))
        rotations = global_rotations(axis_angle_to_matrix(poses)).numpy()
        ends = pose_segments(self.joints[part], rotations)
        ends[..., 1] += SOLE_THICKNESS
        return ends, rotations

    def _prepare_body(self) -> None:
        self._shadow_widths = np.maximum(1, np.rint(1.8 * SHADOW_SCALE * RADII.mean(1))).astype(int)
        colours = SEGMENT_COLOURS.swapaxes(0, 1).reshape(-1, 3)  # all in front, then all behind: as `rasterise` counts
        if self._mesh is not None:
            colours = np.round(32 * self._mesh.colours[self._mesh.faces].mean(1)) / 32
        self._palette, self._colour_of = np.unique(np.array(colours), axis=0, return_inverse=True)

    def _prepare_floor(self) -> None:
        width, height = self.size
        self._floor_top = min(max(0, math.ceil(self.camera.horizon + 1)), height)
        down = (np.arange(float(height)) - self.camera.horizon) / height
        self._tile_strength = 0.15 * (1 - np.exp(-((np.maximum(down, 0.0) / 0.30) ** 2)))  # [height]
        across = (np.arange(float(width)) - (width - 1) / 2) / height
        self._tile_fade = np.exp(-((across / 0.62) ** 2)).astype(
            np.float32
        )  # [width]: the floor is seen around the dancer

    def _make_paint(self, space: ColourSpace) -> _Paint:
        """Background, lighting table, caption and bar in the planes of a colour space."""
        (width, height), camera = self.size, self.camera
        rows, columns = np.arange(float(height))[:, None], np.arange(float(width))[None]
        below = rows - camera.horizon  # pixels below the horizon; the distance on the floor goes as 1 / below
        horizon_haze = np.exp(-np.maximum(below, 0.0) / (0.17 * height))[..., None]
        wall_height = np.clip(-below / max(camera.horizon, 1.0), 0.0, 1.0)[..., None]
        haze, wall, floor = (np.array(c, dtype=float) for c in ((204, 211, 221), (128, 142, 165), (150, 158, 171)))
        near, far = floor + (haze - floor) * horizon_haze, haze + (wall - haze) * wall_height**0.8
        picture = np.where(below[..., None] < 0, far, near)
        across = (columns - width / 2) / height
        pool = np.exp(-((across / 0.62) ** 2) - ((rows / height - 0.66) / 0.5) ** 2)[..., None]  # light on the dancer
        picture = picture * (0.80 + 0.30 * pool)
        # Half a level of fixed noise hides the banding of the wide gradients: grey in RGB, its own in each subsampled plane.
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, (height, width))
        background = []
        for channel, plane in enumerate(space.subsampled(space.planes_of(picture))):
            rows, columns = plane.shape
            background.append(plane + (noise[-rows:, -columns:] if channel == 2 else noise[:rows, :columns]))
        caption = None
        if self.title:
            text = _text_opacity(self.title, height)
            top, left = round(0.95 * height) - text.shape[0], round(0.022 * width)
            opacity = np.zeros((height, width, 3), np.float32)
            part = opacity[max(top, 0) : top + text.shape[0], left : left + text.shape[1]]
            part[:] = text[: part.shape[0], : part.shape[1]]
            caption = []
            for plane in space.subsampled(opacity):
                used = [np.flatnonzero(plane.any(axis)) for axis in (1, 0)]
                (top, bottom), (left, right) = ((int(i[0]), int(i[-1]) + 1) if len(i) else (0, 0) for i in used)
                caption.append((top, left, np.ascontiguousarray(plane[top:bottom, left:right])))
        return _Paint(
            background=tuple(np.clip(np.rint(plane), 0, 255).astype(np.uint8) for plane in background),
            lighting=np.clip(np.rint(space.planes_of(_lighting_table(self._palette))), 0, 255).astype(np.uint8),
            ink=space.planes_of(np.array(INK)).tolist(),
            bar=np.rint(space.planes_of(np.array(BAR))).astype(int).tolist(),
            caption=caption,
        )

    def draw_floor(self, frame: int, ends: np.ndarray, space: ColourSpace = RGB) -> tuple[np.ndarray, ...]:
        """The empty stage with the shadow of the capsules, as `draw_planes` gives it."""
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
        step = reach / self.camera.focal  # metres to the right per pixel
        start = eye[0] - step * (width - 1) / 2

        centre = flat @ ends[0].mean(0)
        corner = centre[[0, 2]] - SHADOW_SIZE / SHADOW_SCALE / 2
        shadow, box = self._shadow_map(ends @ flat.T - [corner[0], 0.0, corner[1]])
        planes = space.empty(width, height)
        background, top = self._paint(space).background, self._floor_top
        for plane, under in zip(planes, background, strict=True):
            above = -(-top * len(plane) // height)
            plane[:above] = under[:above]
        paths = np.stack([start, step, back, depth]) / TILE
        scale = SHADOW_SCALE * TILE
        compiled(draw_floor)(
            *(background, space.zero, space.subsampling, top, paths, self._tile_strength, self._tile_fade),
            *(shadow, scale, box, corner / TILE, planes),
        )
        return planes

    def _shadow_map(self, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Capsules [segments, 2, 3] (right, height, back from the map's corner) -> darkness 0..255 from above, and the box
        (left, top, right, bottom) outside of which it is 0.

        Two shadows: the lamp's, sharper the nearer a limb is to the floor, and a dark contact shadow under what touches it.
        """
        import cv2

        slant = ends[..., 1, None] * (-LIGHT[[0, 2]] / LIGHT[1])

        def fixed_point(points: np.ndarray) -> np.ndarray:  # pixels with 4 fractional bits, as OpenCV's lines take them
            return np.rint(points * (SHADOW_SCALE * 16)).clip(-(2**20), 2**20).astype(np.int32)

        under, cast = fixed_point(ends[..., [0, 2]]), fixed_point(ends[..., [0, 2]] + slant)
        margin = 8 + math.ceil(RADII.max() * SHADOW_SCALE)
        both = np.concatenate([under, cast]).reshape(-1, 2) // 16
        box = np.concatenate([both.min(0) - margin, both.max(0) + margin]).clip(0, SHADOW_SIZE)
        shadow = np.zeros((SHADOW_SIZE, SHADOW_SIZE), np.uint8)
        lifted = np.maximum(ends[..., 1] - RADII, 0.0).mean(1)  # metres between a capsule and the floor
        low = lifted < 0.5
        touch = np.rint(255 * np.exp(-lifted / 0.035)).astype(int)
        near, far, contact = np.zeros((3, *shadow.shape), np.uint8)
        widths = self._shadow_widths
        for layer, members in ((near, low), (far, ~low)):
            for width in np.unique(widths[members]).tolist():  # one call for all lines of equal width
                lines = list(cast[members & (widths == width)])
                cv2.polylines(layer, lines, False, 255, width, cv2.LINE_AA, 4)
        for i in sorted(np.flatnonzero(touch > 8).tolist(), key=touch.__getitem__):
            cv2.line(contact, *under[i].tolist(), int(touch[i]), int(widths[i]), cv2.LINE_AA, 4)
        part = np.s_[box[1] : box[3], box[0] : box[2]]
        for layer, window in ((near, 3), (far, 7), (contact, 2)):
            for _ in range(2):  # two box filters are close to a Gaussian and much faster
                layer[part] = cv2.blur(layer[part], (window, window), borderType=cv2.BORDER_REPLICATE)
        shadow[part] = cv2.addWeighted(cv2.max(near[part], far[part]), 0.42, contact[part], 0.50, 0)
        return shadow, box

    def draw_body(self, planes: tuple[np.ndarray, ...], frame: int, ends: np.ndarray, space: ColourSpace = RGB) -> None:
        """Draw the lit figure into the planes of a picture."""
        import cv2

        (width, height), paint = self.size, self._paint(space)
        projected = self.camera.project(ends, frame)  # [segments, 2, 3]
        radii = RADII * self.camera.focal / projected[..., 2]  # [segments, 2] pixels
        if self._mesh is not None:
            points, slopes = self._posed_mesh(frame)
            projected, radii = points[:, None], np.zeros((1, 1))
        low, high = projected[..., :2] - radii[..., None] - 2, projected[..., :2] + radii[..., None] + 3
        boxes = np.concatenate([low.min(1), high.max(1)], 1).clip(0, [width, height, width, height]).astype(np.int64)
        outer = [boxes[:, 0].min(), boxes[:, 1].min(), boxes[:, 2].max(), boxes[:, 3].max()]
        left, top = (edge - edge % space.subsampling for edge in outer[:2])
        right, bottom = (edge + -edge % space.subsampling for edge in outer[2:])
        shape = (bottom - top, right - left)  # rows, columns
        used = np.s_[outer[1] - top : outer[3] - top, outer[0] - left : outer[2] - left]
        boxes -= [left, top, left, top]
        # Depth in pixels (`unit` per metre) towards the viewer, positive for everything visible.
        unit = self.camera.focal / self.camera.distances[frame]
        projected -= [left, top, 2 * self.camera.distances[frame]]
        projected[..., 2] *= -unit

        depth, cover = np.zeros((2, *shape), np.float32)  # cover: share of the pixel that the body covers
        owner, *normals = np.zeros((4, *shape), np.uint8)  # whose surface is visible; right, down, where the body is
        colour_of = self._colour_of
        window = (_odd(0.020 * unit),) * 2  # normals are smoothed over 2 cm, so that limbs blend into each other
        if self._mesh is None:
            bodies = capsules(projected[:, 0], projected[:, 1], radii)
            rotations = self._block(frame // _BLOCK)[1][frame % _BLOCK]
            faces = np.einsum("sij,sj->si", rotations[SEGMENT_JOINTS], SEGMENT_FRONTS) @ self.camera.axes().T
            compiled(rasterise)(bodies, faces * [1.0, -1.0, 1.0], boxes, depth, cover, owner, *normals)
        else:
            points, bits, window = projected[:, 0].astype(np.float32), np.zeros(shape, np.uint8), (1, 1)
            kinds, colour_of = self._colour_of.astype(np.uint8), np.arange(len(self._palette))
            compiled(rasterise_mesh)(points, slopes, self._mesh.faces, kinds, SAMPLES, depth, bits, owner, *normals)
            cover = COVER[bits]
        smooth = [cv2.blur(plane, window) for plane in normals]
        # Darken what lies behind its surroundings (Luft, Colditz, Deussen 2006): an arm stands out from the chest.
        window = (_odd(0.030 * unit),) * 2  # at a quarter of the resolution
        small = (np.ascontiguousarray(plane[used][::4, ::4]) for plane in (depth, normals[2]))
        surface, share = (cv2.blur(plane, window) for plane in small)
        around, inner = np.zeros(shape, np.float32), depth[used].shape[::-1]
        around[used] = cv2.resize(surface / np.maximum(share, 1) * 255, inner, interpolation=cv2.INTER_LINEAR)
        lit, halo = np.zeros((4, *shape), np.uint8), 1.0 / (0.35 * unit)
        compiled(shade_body)(paint.lighting, space.zero, colour_of, owner, *smooth, depth, around, halo, cover, lit)
        soft = np.empty_like(lit)
        for plane, target in zip(lit, soft, strict=True):
            cv2.GaussianBlur(plane, (3, 3), 0, dst=target)
        compiled(composite)(lit, soft, cover, space.subsampling, top, left, planes)

    def _posed_mesh(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Vertices as `Camera.project` gives them, and their normals [vertices, 2], to the picture's right and down."""
        rotations = self._block(frame // _BLOCK)[1][frame % _BLOCK]
        vertices, normals = skin(self._mesh, self.joints[frame], rotations)
        slopes = normals @ (self.camera.axes()[:2] * [[1.0], [-1.0]]).T
        return self.camera.project(vertices + [0.0, SOLE_THICKNESS, 0.0], frame), slopes.astype(np.float32)

    def draw_overlay(self, planes: tuple[np.ndarray, ...], frame: int, space: ColourSpace = RGB) -> None:
        """Caption at the lower left, thin bar of elapsed time along the bottom edge."""
        width, height = self.size
        thick = max(1, round(height / 180))
        done = round(width * (frame + 1) / len(self))
        paint, paste = self._paint(space), compiled(blend)
        for channel, (plane, zero) in enumerate(zip(planes, space.zero, strict=True)):
            step = space.subsampling if channel else 1
            if paint.caption is not None:
                top, left, opacity = paint.caption[channel]
                paste(plane, top, left, paint.ink[channel], opacity)
            top, left = -(-(height - thick) // step), done // step
            shape = (len(plane) - top, plane.shape[1] - left)
            paste(plane, top, left, zero, np.full(shape, 1 / 8, np.float32))
            plane[top:, :left] = paint.bar[channel]


@dataclass(frozen=True)
class _Paint:
    background: tuple[np.ndarray, ...]  # planes
    lighting: np.ndarray  # [colours, y level, x level, 3]: the lit colour of each normal
    ink: list[float]
    bar: list[int]
    caption: list[tuple[int, int, np.ndarray]] | None  # top, left and opacity in each plane


def _lighting_table(palette: np.ndarray) -> np.ndarray:
    """Colours [n, 3] (sRGB 0..1) -> the lit colour 0..255 for each normal: [n, y level, x level, 3]."""
    levels = np.linspace(-1.0, 1.0, NORMAL_LEVELS)
    x, y = np.meshgrid(levels, -levels)  # picture rows go down, normals up
    length = np.maximum(np.hypot(x, y), 1e-9)
    inside = np.minimum(length, 0.999)
    x, y, z = x / length * inside, y / length * inside, np.sqrt(1.0 - inside**2)
    normal = np.stack([x, y, z], -1)
    s, c = math.sin(PITCH), math.cos(PITCH)
    lamp = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ LIGHT  # as the camera sees it
    half = (lamp + [0, 0, 1]) / np.linalg.norm(lamp + [0, 0, 1])
    diffuse = np.clip((normal @ lamp + 0.25) / 1.25, 0.0, 1.0) ** 1.3  # wrapped diffuse, as from a large lamp
    sky = 0.5 + 0.5 * y
    gloss = np.clip(normal @ half, 0.0, 1.0) ** 28
    rim = (1.0 - z) ** 3 * sky
    warm, cool, bounce = np.array([1.0, 0.96, 0.90]), np.array([0.62, 0.74, 0.92]), np.array([0.62, 0.56, 0.52])
    light = diffuse[..., None] * warm * 0.92 + sky[..., None] * cool * 0.26 + (1 - sky[..., None]) * bounce * 0.20
    linear = palette[:, None, None] ** 2.2 * light + 0.10 * gloss[..., None] * warm + 0.12 * rim[..., None] * cool
    return np.rint(255.0 * np.clip(linear, 0.0, 1.0) ** (1 / 2.2)).astype(np.uint8)


def _odd(value: float) -> int:
    """The largest odd number up to about `value`, as blurs need it."""
    return 2 * int(value / 2) + 1


def _text_opacity(text: str, height: int) -> np.ndarray:
    """A line of text, sized for a picture of `height` rows, as opacity 0..1: (rows, columns, 1) float32."""
    import cv2

    fine = 4  # OpenCV's strokes are whole pixels wide: drawn larger and scaled down, they look even
    font, scale, thickness = cv2.FONT_HERSHEY_DUPLEX, fine * height / 1000, max(1, round(fine * height / 720))
    ((columns, rows), base), pad = cv2.getTextSize(text, font, scale, thickness), 2 * fine
    canvas = np.zeros((rows + base + 2 * pad, columns + 2 * pad), np.uint8)
    cv2.putText(canvas, text, (pad, pad + rows), font, scale, 255, thickness, cv2.LINE_AA)
    small = cv2.resize(canvas, None, fx=1 / fine, fy=1 / fine, interpolation=cv2.INTER_AREA)
    return small[..., None] * np.float32(0.85 / 255)


def write_text(picture: np.ndarray, text: str, height: int, left: int, bottom: int) -> None:
    """Write a line of text into a picture (rows, columns, 3) uint8, in the size for a picture of `height` rows."""
    opacity = _text_opacity(text, height)
    top = max(0, bottom - len(opacity))
    part = picture[top:bottom, left : left + opacity.shape[1]]
    opacity = opacity[: part.shape[0], : part.shape[1]]
    part[:] = (part + (np.array(INK, np.float32) - part) * opacity + np.float32(0.5)).astype(np.uint8)


def make_stage(
    motion: Motion,
    size: tuple[int, int],
    fps: float,
    title: str | Literal[False] | None,
    body: str = "mannequin",
    even: bool = False,
) -> Stage:
    """A stage from the public arguments: checked, the dance at `fps`. `even`: the size must suit H.264. Raises RenderError."""
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
        raise RenderError(f"fps={fps!r}: give frames per second, from 1 to 240")
    if not (title is None or title is False or isinstance(title, str)):
        raise RenderError(f"title={title!r}: give a text, None for the genre, or False for none")
    try:
        body_mesh(body)
    except ValueError as error:
        raise RenderError(str(error)) from None
    return Stage(motion if motion.fps == fps else motion.resampled(float(fps)), (width, height), title, body)
