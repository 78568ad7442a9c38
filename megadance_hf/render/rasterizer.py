"""Loops over the pixels of one frame: the floor with its shadow, the surface of a body, its light.

A picture is three planes: red, green and blue (`RGB`), or luma and two chroma planes at half the size (`VIDEO`: Y'CbCr 4:2:0, as
H.264 stores it). Every operation on a colour here is affine, so the same loops draw both, and a video needs no conversion. The
loops are plain Python, compiled by numba; they release the GIL.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np


@dataclass(frozen=True)
class ColourSpace:
    """Three planes of a picture as affine functions of red, green and blue (0..255).

    Attributes:
        matrix: one row per plane, applied to (red, green, blue).
        zero: the value of black in each plane.
        subsampling: pixels per sample of the second and third plane, along rows and along columns.
    """

    matrix: tuple[tuple[float, float, float], ...]
    zero: tuple[float, float, float]
    subsampling: int

    def planes_of(self, rgb: np.ndarray) -> np.ndarray:
        """RGB colours (..., 3) -> colours (..., 3) of this space, floating point."""
        return rgb @ np.array(self.matrix).T + self.zero

    def empty(self, width: int, height: int) -> tuple[np.ndarray, ...]:
        """The planes (rows, columns) of a new picture, uninitialised."""
        small = (-(-height // self.subsampling), -(-width // self.subsampling))
        return tuple(np.empty(shape, np.uint8) for shape in ((height, width), small, small))

    def subsampled(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A picture (height, width, 3) in this space -> its planes; subsampled ones hold means over their pixels."""
        if self.subsampling == 1:
            return tuple(np.ascontiguousarray(picture[..., channel]) for channel in range(3))
        rows, columns = (size % self.subsampling for size in picture.shape[:2])
        padded = np.pad(picture, ((0, rows), (0, columns), (0, 0)), mode="edge")
        corners = [
            padded[i :: self.subsampling, j :: self.subsampling, 1:]
            for i in range(self.subsampling)
            for j in range(self.subsampling)
        ]
        mean = sum(corner / len(corners) for corner in corners)
        return tuple(np.ascontiguousarray(plane) for plane in (picture[..., 0], mean[..., 0], mean[..., 1]))


RGB = ColourSpace(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), (0.0, 0.0, 0.0), 1)
# BT.601, limited range: what players assume of files that do not say.
_RED, _BLUE = 0.299, 0.114
_GREEN = 1 - _RED - _BLUE
VIDEO = ColourSpace(
    (
        tuple(219 / 255 * share for share in (_RED, _GREEN, _BLUE)),
        tuple(112 / 255 * share / (1 - _BLUE) for share in (-_RED, -_GREEN, 1 - _BLUE)),
        tuple(112 / 255 * share / (1 - _RED) for share in (1 - _RED, -_GREEN, -_BLUE)),
    ),
    (16.0, 128.0, 128.0),
    2,
)


@cache
def compiled(function: Callable) -> Callable:
    """One of the loops below, compiled by numba."""
    from numba import njit

    options = {"fastmath": True, "error_model": "numpy", "nogil": True}
    try:
        return njit(function, cache=True, **options)
    except RuntimeError:  # numba finds no writable cache folder: each process compiles anew, which takes seconds
        return njit(function, **options)


def draw_floor(background, zero, subsampling, top, paths, strength, fade, shadow, scale, box, corner, picture):
    """Darken the background below row `top` by the tiles and the shadow.

    Args:
        background, picture: three planes each; `subsampling` and `zero` as in ColourSpace.
        paths: [4, rows], in tiles: position to the right at column 0, width of a pixel, position to the back, depth of a pixel.
        strength: [rows] contrast of the tiles; `fade` [columns] float32: the share of it that is left.
        shadow: darkness 0..255 on the floor, 0 outside of `box` (left, top, right, bottom); `scale` pixels per tile.
        corner: (right, back) of the shadow's first pixel, in tiles.
    """
    width = picture[0].shape[1]
    light, coarse = np.empty(width, np.float32), np.empty(picture[1].shape[1], np.float32)
    dark, rise = np.zeros((2, shadow.shape[1]), np.float32)
    one, half = np.float32(1.0), np.float32(0.5)
    for row in range(top, picture[0].shape[0]):
        start, metres, back, depth = paths[0, row], paths[1, row], paths[2, row], paths[3, row]
        # Tile edges are blurred by one pixel: far away, where tiles are smaller than pixels, they fade to their mean.
        sharpness = np.float32(min(1.0 / metres, 60.0))
        wave = abs(back - 2.0 * np.floor(back / 2.0) - 1.0) - 0.5
        swing = np.float32(2.0 * strength[row] * min(max(wave * min(1.0 / depth, 60.0), -0.5), 0.5))
        base = np.float32(-0.5 * strength[row])
        offset = np.float32((start - 2.0 * np.floor(start * 0.5)) * 0.5)  # in pairs of tiles
        along = np.float32(metres * 0.5)
        for column in range(width):
            across = offset + along * np.float32(column)
            wave32 = abs((across - np.floor(across)) * np.float32(2.0) - one) - half
            light[column] = one + fade[column] * (base + swing * min(max(wave32 * sharpness, -half), half))
        y = (paths[2, row] - corner[1]) * scale
        y0 = int(np.floor(y))
        if box[1] <= y0 < box[3] - 1:
            upper, lower, fy = shadow[y0], shadow[y0 + 1], np.float32(y - y0)
            for i in range(len(dark)):
                dark[i] = (upper[i] + fy * (np.float32(lower[i]) - upper[i])) * np.float32(1.0 / 255.0)
            low, high = box[0], box[2] - 1
            while low < high and dark[low + 1] == 0.0:
                low += 1
            while low < high and dark[high - 1] == 0.0:
                high -= 1
            for i in range(len(dark) - 1):
                rise[i] = dark[i + 1] - dark[i]
            pixels, first = metres * scale, (corner[0] - start) * scale
            begin = max(0, int(np.ceil((first + low) / pixels)))
            end = max(begin, min(width, int(np.ceil((first + high) / pixels))))
            x0, pixels32, part = np.float32(begin * pixels - first), np.float32(pixels), light[begin:end]
            for i in range(len(part)):
                x = x0 + pixels32 * np.float32(i)
                whole = np.uint32(x)
                part[i] *= one - (dark[whole] + (x - np.float32(whole)) * rise[whole])
        black, under, over = np.float32(zero[0]), background[0][row], picture[0][row]
        for i in range(len(over)):
            over[i] = np.uint8(np.int32((np.float32(under[i]) - black) * light[i] + (black + half)))
        if row % subsampling == 0:
            for i in range(len(coarse)):
                coarse[i] = light[subsampling * i]
            for channel in range(1, 3):
                black = np.float32(zero[channel])
                under, over = background[channel][row // subsampling], picture[channel][row // subsampling]
                for i in range(len(over)):
                    over[i] = np.uint8(np.int32((np.float32(under[i]) - black) * coarse[i] + (black + half)))


def capsules(first: np.ndarray, last: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Spheres of changing radius swept from first to last (n, 3) (pixels; z towards the viewer), ready for `rasterise`.

    At the pixel (u, v) relative to a, the sphere at t in 0..1 covers the pixel if q(t) = C + 2 B t - n t^2 > 0 and its surface is
    at z = az + t dz + sqrt(q(t)), with C = ra^2 - u^2 - v^2, B = ra dr + u dx + v dy, n = dx^2 + dy^2 - dr^2. z(t) is
    concave; it is highest at t = B/n + k sqrt((B/n)^2 + C/n), k = dz / sqrt(n + dz^2), and clamping t to 0..1 keeps that exact.

    Returns:
        (n, 10): ax, ay, az, dx, dy, dz, ra, dr, n, k
    """
    ra, rb = radii[:, 0], radii[:, 1]
    dx, dy, dz = (last - first).T
    length = np.hypot(dx, dy)
    # Where one end is hidden inside the other's outline, enlarging it a little changes nothing visible.
    grown, other = np.maximum(ra, rb - 0.95 * length), np.maximum(rb, ra - 0.95 * length)
    dr = other - grown
    n = length**2 - dr**2
    # Seen end on, or a sphere: the end nearer to the viewer hides the rest.
    point = length < 0.1 * np.maximum(ra, rb)
    nearer = np.where((first[:, 2] + ra >= last[:, 2] + rb)[:, None], first, last)
    n = np.where(point, 1.0, n)
    x, y, z = np.where(point[:, None], nearer, first).T
    moves = [np.where(point, 0.0, value) for value in (dx, dy, dz)]
    radius, dr = np.where(point, np.maximum(ra, rb), grown), np.where(point, 0.0, dr)
    return np.stack([x, y, z, *moves, radius, dr, n, moves[2] / np.sqrt(n + moves[2] ** 2)], 1)


def rasterise(capsules, fronts, boxes, depth, cover, owner, right, down, inside):
    """Draw every capsule into the depth buffer, inside its box (left, top, right, bottom).

    Args:
        fronts: (n, 3), the direction that each capsule's front faces: right, down, towards the viewer.
        depth, cover: float32; the highest z, and the share of the pixel that is covered.
        owner: uint8; index of the visible capsule, plus n where its surface faces away from its front.
        right, down: uint8; its normal, 128 is 0.
        inside: uint8; 255 where the body is.
    """
    zero, one, half, most8 = np.float32(0.0), np.float32(1.0), np.float32(0.5), np.float32(127.0)
    for index in range(len(capsules)):
        x, y, z = capsules[index, 0], capsules[index, 1], capsules[index, 2]
        dx, dy, dz = capsules[index, 3], capsules[index, 4], capsules[index, 5]
        radius, dr, n, k = capsules[index, 6], capsules[index, 7], capsules[index, 8], capsules[index, 9]
        per_n = 1.0 / n
        sharpness = 0.5 / max(0.5, radius + dr / 2)  # q / (2 radius) is about the distance to the outline in pixels
        margin = 1.5
        for row in range(boxes[index, 1], boxes[index, 3]):
            v = row - y
            # The spheres with |v - t dy| <= radius reach this row: t from t0 to t1. Their left and right ends are linear in t.
            t0, t1 = 0.0, 1.0
            for sign in (-1.0, 1.0):  # sign * (v - t dy) - t dr <= radius + margin
                slope, room = sign * dy + dr, radius + margin - sign * v  # slope * t >= -room
                if slope > 1e-9:
                    t0 = max(t0, -room / slope)
                elif slope < -1e-9:
                    t1 = min(t1, -room / slope)
                elif room < 0.0:
                    t1 = -1.0
            if t0 > t1:
                continue
            reach = radius + margin
            low = x - reach + min(t0 * (dx - dr), t1 * (dx - dr))
            high = x + reach + max(t0 * (dx + dr), t1 * (dx + dr))
            begin = max(boxes[index, 0], int(np.floor(low)))
            end = min(boxes[index, 2], int(np.ceil(high)) + 1)
            if begin >= end:
                continue
            depths, covers, owners = depth[row, begin:end], cover[row, begin:end], owner[row, begin:end]
            rights, downs, insides = right[row, begin:end], down[row, begin:end], inside[row, begin:end]
            u0, kind, other = np.float32(begin - x), np.uint8(index), np.uint8(index + len(capsules))
            fx, fy, fz = (np.float32(fronts[index, 0]), np.float32(fronts[index, 1]), np.float32(fronts[index, 2]))
            c0, b0 = np.float32(radius * radius - v * v), np.float32((radius * dr + v * dy) * per_n)
            along, z32, dz32 = np.float32(dx * per_n), np.float32(z), np.float32(dz)
            k32, n32, r32, dr32 = np.float32(k), np.float32(n), np.float32(radius), np.float32(dr)
            per_n32, sharpness32 = np.float32(per_n), np.float32(sharpness)
            v32, dx32, dy32 = np.float32(v), np.float32(dx), np.float32(dy)
            for i in range(len(depths)):
                u = u0 + np.float32(i)
                c = c0 - u * u
                b = b0 + u * along
                best = b * b + c * per_n32  # the maximum of q / n for unclamped t
                t = min(max(b, zero), one)  # where q is largest: how far inside the outline
                share = min((c + n32 * t * (b + b - t)) * sharpness32 + half, one)
                t = min(max(b + k32 * np.sqrt(max(best, zero)), zero), one)  # where z is largest: the visible surface
                q = c + n32 * t * (b + b - t)
                bulge, across, along_y = np.sqrt(max(q, zero)), u - t * dx32, v32 - t * dy32
                surface = z32 + t * dz32 + bulge
                scale = most8 / (r32 + t * dr32)
                nx = min(max(across * scale, -most8), most8) + np.float32(128.5)
                ny = min(max(along_y * scale, -most8), most8) + np.float32(128.5)
                side = kind if across * fx + along_y * fy + bulge * fz > zero else other
                covers[i] = max(covers[i], share)
                seen = share > zero and surface > depths[i]
                depths[i] = surface if seen else depths[i]
                owners[i] = side if seen else owners[i]
                rights[i] = np.uint8(np.int32(nx)) if seen else rights[i]
                downs[i] = np.uint8(np.int32(ny)) if seen else downs[i]
                insides[i] = np.uint8(255) if seen else insides[i]


# Sample points in a pixel for a mesh's coverage, one bit each: no two share a row or column.
SAMPLES = (np.array([[0, 5], [1, 2], [2, 7], [3, 0], [4, 4], [5, 6], [6, 1], [7, 3]]) - 3.5) / 8
COVER = np.array(
    [bin(bits).count("1") / 8 for bits in range(256)], np.float32
)  # coverage by the `bits` of `rasterise_mesh`


def rasterise_mesh(points, normals, faces, kinds, samples, depth, bits, owner, right, down, inside):
    """Draw a triangle mesh into the depth buffer.

    Args:
        points: [vertices, 3] float32; column, row, and z towards the viewer, positive.
        normals: [vertices, 2] float32; to the right and down.
        faces: [triangles, 3]; `kinds` [triangles] uint8 is written to `owner`.
        samples: `SAMPLES`; the covered ones are set in `bits` (uint8).
        depth, owner, right, down, inside: as in `rasterise`.
    """
    for face in range(len(faces)):
        a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
        ax, ay, bx, by, cx, cy = points[a, 0], points[a, 1], points[b, 0], points[b, 1], points[c, 0], points[c, 1]
        area = (cx - ax) * (by - ay) - (bx - ax) * (cy - ay)  # rows go down: positive when it faces the viewer
        if area <= 1e-9:
            continue
        per_area = 1.0 / area
        # Change of the barycentric coordinates of a and b per pixel.
        ux, uy = (by - cy) * -per_area, (cx - bx) * -per_area
        vx, vy = (cy - ay) * -per_area, (ax - cx) * -per_area
        top, bottom = max(min(ay, by, cy) - 0.5, 0.0), min(max(ay, by, cy) + 1.5, float(depth.shape[0]))
        left, end = max(min(ax, bx, cx) - 0.5, 0.0), min(max(ax, bx, cx) + 1.5, float(depth.shape[1]))
        # Largest change of the barycentric coordinates from a pixel's centre to its edge.
        far_u, far_v = 0.5 * (abs(ux) + abs(uy)), 0.5 * (abs(vx) + abs(vy))
        far_w = 0.5 * (abs(ux + vx) + abs(uy + vy))
        for row in range(int(top), int(bottom)):
            for column in range(int(left), int(end)):
                u = (column - cx) * ux + (row - cy) * uy
                v = (column - cx) * vx + (row - cy) * vy
                w = 1.0 - u - v
                if u < -far_u or v < -far_v or w < -far_w:
                    continue
                covered = 255 if u > far_u and v > far_v and w > far_w else 0
                for sample in range(0 if covered == 255 else 8):
                    x, y = samples[sample, 0], samples[sample, 1]
                    su, sv = u + x * ux + y * uy, v + x * vx + y * vy
                    if su >= -1e-5 and sv >= -1e-5 and su + sv <= 1.00001:
                        covered |= 1 << sample
                if covered == 0:
                    continue
                bits[row, column] |= np.uint8(covered)
                u, v = min(max(u, 0.0), 1.0), min(max(v, 0.0), 1.0)
                w = max(1.0 - u - v, 0.0)
                per = 1.0 / (u + v + w)
                u, v, w = u * per, v * per, w * per
                z = u * points[a, 2] + v * points[b, 2] + w * points[c, 2]
                if z > depth[row, column]:
                    nx = u * normals[a, 0] + v * normals[b, 0] + w * normals[c, 0]
                    ny = u * normals[a, 1] + v * normals[b, 1] + w * normals[c, 1]
                    depth[row, column], owner[row, column], inside[row, column] = z, kinds[face], 255
                    right[row, column] = np.uint8(min(max(127.0 * nx, -127.0), 127.0) + 128.5)
                    down[row, column] = np.uint8(min(max(127.0 * ny, -127.0), 127.0) + 128.5)


def shade_body(lighting, zero, colours, owner, right, down, inside, depth, around, halo, cover, lit):
    """Look up the lit colour of every pixel of the body.

    Args:
        lighting: [colours, y level, x level, 3] uint8; `colours` maps owners to its first index. Black is `zero`.
        right, down, inside: as from `rasterise`, blurred.
        around: blurred depth; what lies behind it is darkened by `halo` per pixel.
        lit: [4, rows, columns] uint8; the three planes of the colour, and 255 where the body is.
    """
    most = lighting.shape[1] - 1
    lookups, shades = np.empty(cover.shape[1], np.int32), np.empty(cover.shape[1], np.float32)
    table, size = lighting.reshape(-1), 3 * lighting.shape[1] ** 2
    most32, one, half, none = np.float32(most), np.float32(1.0), np.float32(0.5), np.float32(0.0)
    halo32, deepest, wide = np.float32(halo), np.float32(0.45), np.int32(lighting.shape[1])
    black = np.array([zero[0], zero[1], zero[2]], np.float32)
    for row in range(cover.shape[0]):
        covers, owners = cover[row], owner[row]
        first, second, third, body = lit[0, row], lit[1, row], lit[2, row], lit[3, row]
        rights, downs, insides, depths, arounds = right[row], down[row], inside[row], depth[row], around[row]
        for i in range(len(lookups)):
            scale = most32 / max(np.float32(insides[i]), one)  # normalised to the part of the blur inside the outline
            x = min(np.float32(rights[i]) * scale + half, most32)
            y = min(np.float32(downs[i]) * scale + half, most32)
            lookups[i] = np.int32(3) * (np.int32(y) * wide + np.int32(x))
            shades[i] = one - min(max((arounds[i] - depths[i]) * halo32, none), deepest)
        for i in range(len(lookups)):
            if covers[i] > none:
                at, shade = colours[owners[i]] * size + lookups[i], shades[i]
                first[i] = np.uint8(np.int32((table[at] - black[0]) * shade + black[0] + half))
                second[i] = np.uint8(np.int32((table[at + 1] - black[1]) * shade + black[1] + half))
                third[i] = np.uint8(np.int32((table[at + 2] - black[2]) * shade + black[2] + half))
                body[i] = np.uint8(255)


def composite(lit, soft, cover, subsampling, top, left, picture):
    """Blend the body over the picture from row `top` and column `left` on (multiples of `subsampling`), by its coverage.

    Inside, the softened colours are used, for smooth inner edges; at the outline they would mix with nothing.
    """
    half, none = np.float32(0.5), np.float32(0.0)
    rows, columns = cover.shape
    shares, seconds, thirds = np.zeros((3, columns), np.float32)  # summed over the rows of one subsampled row
    part = np.float32(1.0 / (subsampling * subsampling))
    for row in range(rows):
        share, inside, over = cover[row], soft[3, row], picture[0][top + row, left : left + columns]
        hard, smooth = lit[0, row], soft[0, row]
        for i in range(len(over)):
            colour = np.float32(smooth[i] if inside[i] == 255 else hard[i])
            under = np.float32(over[i])
            over[i] = np.uint8(np.int32(under + (colour - under) * share[i] + half))
        hard, smooth, hard3, smooth3 = lit[1, row], soft[1, row], lit[2, row], soft[2, row]
        for i in range(len(shares)):
            kept = share[i] * part
            shares[i] += kept
            seconds[i] += kept * np.float32(smooth[i] if inside[i] == 255 else hard[i])
            thirds[i] += kept * np.float32(smooth3[i] if inside[i] == 255 else hard3[i])
        if (row + 1) % subsampling == 0:
            for channel in range(1, 3):
                over = picture[channel][
                    (top + row) // subsampling, left // subsampling : (left + columns) // subsampling
                ]
                sums = seconds if channel == 1 else thirds
                for i in range(len(over)):
                    covered, colour = none, half
                    for column in range(subsampling * i, subsampling * i + subsampling):
                        covered += shares[column]
                        colour += sums[column]
                    under = np.float32(over[i])
                    over[i] = np.uint8(np.int32(under - under * covered + colour))
            shares[:], seconds[:], thirds[:] = none, none, none


def blend(plane, top, left, colour, opacity):
    """Blend one value over a part of a plane, by its opacity 0..1 [rows, columns]."""
    colour32, half = np.float32(colour), np.float32(0.5)
    for row in range(opacity.shape[0]):
        share, over = opacity[row], plane[top + row, left : left + opacity.shape[1]]
        for i in range(len(over)):
            under = np.float32(over[i])
            over[i] = np.uint8(np.int32(under + (colour32 - under) * share[i] + half))
