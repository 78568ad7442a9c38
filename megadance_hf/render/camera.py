"""The camera: in front of the dancer, following smoothly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from megadance_hf.modeling.kinematics_megadance import JOINT_INDEX, axis_angle_to_matrix
from megadance_hf.motion.mannequin import SOLE_THICKNESS

if TYPE_CHECKING:
    from megadance_hf.motion.motion import Motion

FOCAL = 1.9  # focal length in picture heights: a vertical field of view of 30 degrees, a portrait lens
PITCH = math.radians(8.5)  # the camera looks down by this angle
MIN_DISTANCE = 4.4  # metres from camera to dancer: a standing figure is three quarters of the picture's height
MARGINS = (0.04, 0.035, 0.05)  # free share of the picture: left and right, top, bottom (time bar)
STANDING = 1.75  # metres: the picture has room for this height, also while the dancer bends down
FOLLOW = 0.5  # seconds: sigma of the Gaussian with which the camera follows the path
AHEAD = 1.2  # seconds before a raised hand (and after it) in which the camera makes room
# Largest distance from a joint to the body's outline, metres: sideways, up, down; of the head up to its crown.
BODY_REACH, CROWN = (0.14, 0.13, 0.07), 0.20


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks at a moving target from the front, at a fixed pitch and heading.

    Attributes:
        size: picture (width, height) in pixels.
        heading: direction from the dancer to the camera, radians about Y from +Z.
        targets: (frames, 3) the points in the centre of the picture, metres.
        distances: (frames,) from camera to target, metres.
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
        """Picture row of the horizon, constant because the pitch is."""
        return (self.size[1] - 1) / 2 - self.focal * math.tan(PITCH)

    def axes(self) -> np.ndarray:
        """The unit vectors picture right, picture up and towards the viewer in world coordinates, as rows (3, 3)."""
        s, c = math.sin(self.heading), math.cos(self.heading)
        turn = np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
        s, c = math.sin(PITCH), math.cos(PITCH)
        return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]]) @ turn.T

    def view(self, points: np.ndarray, frame: int | slice) -> np.ndarray:
        """World points [..., 3] -> (right, up, depth in front of the camera) in metres, same shape.

        With a slice of frames, the first dimension of `points` is the frames.
        """
        targets, distances = self.targets[frame], self.distances[frame]
        lead = (...,) if targets.ndim == 1 else (slice(None), *([None] * (points.ndim - 2)))
        viewed = (points - targets[lead]) @ self.axes().T
        viewed[..., 2] = np.asarray(distances)[lead] - viewed[..., 2]
        return viewed

    def project(self, points: np.ndarray, frame: int | slice) -> np.ndarray:
        """World points [..., 3] -> [..., 3]: picture column, picture row (pixels), depth (metres)."""
        viewed = self.view(np.asarray(points, dtype=float), frame)
        depth = np.maximum(viewed[..., 2], 1e-3)
        column = (self.size[0] - 1) / 2 + self.focal * viewed[..., 0] / depth
        row = (self.size[1] - 1) / 2 - self.focal * viewed[..., 1] / depth
        return np.stack([column, row, depth], -1)


def follow_camera(motion: Motion, size: tuple[int, int] = (1280, 720)) -> Camera:
    """A calm camera for a whole dance, in front of the dancer (the mean facing of the first second).

    It follows the pelvis, smoothed, looks higher for raised hands, and moves back early enough that the whole body stays inside the
    margins. A standing figure is three quarters of the picture's height wherever it dances, if its arms fit the width.
    """
    import cv2

    joints = np.asarray(motion.joints(), dtype=np.float64)  # [frames, 24, 3]
    fps = float(motion.fps)
    first_second = torch.from_numpy(np.array(motion.poses[: max(1, round(fps)), 0], dtype=np.float64))
    facing = axis_angle_to_matrix(first_second)[:, :, 2].sum(0).numpy()  # where the pelvis' +Z points
    heading = math.atan2(facing[0], facing[2]) if math.hypot(facing[0], facing[2]) > 1e-6 else 0.0

    side, top, bottom = MARGINS
    window = 2 * round(AHEAD * fps) + 1

    def hold(values: np.ndarray) -> np.ndarray:
        """The moving mean of a moving maximum over the same window: never below the values (frames,), and slow to change."""
        held = cv2.dilate(values[:, None], np.ones((window, 1), np.uint8), borderType=cv2.BORDER_REPLICATE)
        return cv2.blur(held, (1, window), borderType=cv2.BORDER_REPLICATE)[:, 0]

    # The highest point and the floor (or what is below it) share the room between the margins.
    reach = np.tile(BODY_REACH, (joints.shape[1], 1))
    reach[JOINT_INDEX["head"], 1] = CROWN
    heights = joints[..., 1] + SOLE_THICKNESS
    highest = hold(np.maximum((heights + reach[:, 1]).max(1), STANDING))
    lowest = -hold(np.maximum((reach[:, 2] - heights).max(1), 0.0))
    path = joints[:, 0].copy()
    path[:, 1] = lowest + (highest - lowest) * (0.5 - bottom) / (1 - top - bottom)
    sigma = FOLLOW * fps
    blur = 2 * math.ceil(3 * sigma) + 1
    targets = cv2.GaussianBlur(path, (1, blur), sigmaX=1, sigmaY=sigma, borderType=cv2.BORDER_REPLICATE)
    camera = Camera(size, heading, targets, np.zeros(len(joints)))

    # A point at (right, up, towards) from the target is inside if |right| * focal <= room * (distance - towards).
    viewed = camera.view(joints + [0.0, SOLE_THICKNESS, 0.0], slice(None))
    right, up, towards = viewed[..., 0], viewed[..., 1], -viewed[..., 2]
    room = np.array([(0.5 - side) * size[0], (0.5 - top) * size[1], (0.5 - bottom) * size[1]]) / camera.focal
    needed = np.stack([np.abs(right), up, -up], -1) + reach  # [frames, 24, 3]
    distances = hold(np.maximum((needed / room + towards[..., None]).max((1, 2)), MIN_DISTANCE))
    return Camera(size, heading, targets, distances)
