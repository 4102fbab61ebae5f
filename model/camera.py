"""A pinhole camera, as first-person games have it: no roll, square pixels.

Axes are the reference world's: y points up; at yaw 0 the camera looks along +z and its right is -x. Yaw and pitch are
degrees, pitch positive downward. An *eye* is ``(x, y, z, yaw, pitch)``, the place being the lens's. A camera's own
axes are right, up, ahead.
"""

import math

import numpy as np

EYE_HEIGHT, SNEAKING_DROP = 1.62, 0.12
"""Of the eye over the feet, which poses name, in metres, and how far it sinks in sneaking: Minecraft's."""
FIELD_OF_VIEW = 70.0
"""Horizontal, degrees, of the reference world."""
BOX = (32, 24, 32)
"""Cells along x, y and z, a metre each, in the surroundings of an eye that are told and looked at together."""
SKY = 1000.0
"""Distance of the sky, metres."""


def eyes_of(poses: np.ndarray, sneaking: np.ndarray) -> np.ndarray:
    """Return the eyes ``float64 (t, 5)`` of players at ``poses (t, 5)``: feet (x, y, z), yaw, pitch.

    Args:
        poses: of the players.
        sneaking: whether they do, ``(t,)``.
    """
    eyes = np.array(poses, np.float64)
    eyes[:, 1] += EYE_HEIGHT - SNEAKING_DROP * sneaking
    return eyes


def focal_length(width: int, field_of_view: float = FIELD_OF_VIEW) -> float:
    """Return the focal length in pixels of frames ``width`` pixels wide."""
    return width / 2 / math.tan(math.radians(field_of_view / 2))


def pixel_rays(height: int, width: int, field_of_view: float = FIELD_OF_VIEW) -> np.ndarray:
    """Return the unit vectors ``float32 (3, H, W)`` (right, up, ahead) through the pixels' centres."""
    rays = np.empty((3, height, width))
    rays[0] = (np.arange(width) + 0.5 - width / 2)[None, :]
    rays[1] = -(np.arange(height) + 0.5 - height / 2)[:, None]
    rays[2] = focal_length(width, field_of_view)
    return (rays / np.linalg.norm(rays, axis=0)).astype(np.float32)


def axes(yaw: float, pitch: float) -> np.ndarray:
    """Return the camera's right, up and ahead as the columns of ``float64 (3, 3)``."""
    sin_yaw, cos_yaw = math.sin(math.radians(yaw)), math.cos(math.radians(yaw))
    sin_pitch, cos_pitch = math.sin(math.radians(pitch)), math.cos(math.radians(pitch))
    return np.array([
        [-cos_yaw, -sin_yaw * sin_pitch, -sin_yaw * cos_pitch],
        [0.0, cos_pitch, -sin_pitch],
        [-sin_yaw, cos_yaw * sin_pitch, cos_yaw * cos_pitch],
    ])  # fmt: skip


def between(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ``turn (3, 3)`` and ``shift (3,)`` that take a point from one eye's camera axes to another's:
    ``turn @ point + shift``.
    """
    to_target = axes(target[3], target[4]).T
    return to_target @ axes(source[3], source[4]), to_target @ (np.asarray(source[:3]) - np.asarray(target[:3]))


def all_axes(eyes: np.ndarray) -> np.ndarray:
    """Return what :func:`axes` does for each of ``eyes (k, 5)``: ``float64 (k, 3, 3)``."""
    (sin_yaw, sin_pitch), (cos_yaw, cos_pitch) = (wave(np.radians(eyes[:, 3:5].T)) for wave in (np.sin, np.cos))
    nothing = np.zeros_like(sin_yaw)
    rows = [
        -cos_yaw, -sin_yaw * sin_pitch, -sin_yaw * cos_pitch,
        nothing, cos_pitch, -sin_pitch,
        -sin_yaw, cos_yaw * sin_pitch, cos_yaw * cos_pitch,
    ]  # fmt: skip
    return np.stack(rows, 1).reshape(-1, 3, 3)


def all_between(sources: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what :func:`between` does for each of ``sources (k, 5)``: ``(k, 3, 3)`` and ``(k, 3)``."""
    here = axes(target[3], target[4])
    return here.T @ all_axes(sources), (sources[:, :3] - target[:3]) @ here
