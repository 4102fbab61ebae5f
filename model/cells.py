"""Cells: which block of the world the hand works on, and what of the picture it fills.

Worlds of blocks are grids of cubes a metre wide. Where the eye is and how far away what it looks at lies is known in a
dream (scene.py), and so the middle of the view meets the face of one cell: behind it is the block that breaks, before
it the one that is placed. The nets are told where the rays of the picture enter that cell and where they leave it, so
they need not find out from dreamed pixels how large a block is and how it stands.

Training takes the cell from the recording where the world tells (``spots``); play always guesses it.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from latentcraft.model.actions import CHANGES
from latentcraft.model.camera import EYE_HEIGHT, axes

REACH = 5.0
"""Metres that a hand reaches, with some slack for distances that are guessed."""
WINDOW = 24
"""Pixels either way from the middle over which seen distances are compared with a face's."""
NEAR = 0.05
"""How fast they count less away from the middle, in units of the picture's slope (right over ahead)."""
MOST_OFF = 0.3
"""Largest difference of two distances, in their logarithm, that counts: beyond it another surface is seen."""
FEWEST = 12
"""Known pixels around the middle without which nothing is said."""
HALF, TALL = 0.3, 1.8
"""Half the width of a body, and its height, metres."""
STEP = 0.3
"""How far a block may reach above where the feet are thought to be and yet be under them."""
HOLD = 6
"""Numbers that tell a picture of a cell, see :func:`hold`."""
SAMPLES = 2
"""Rays per side of a part of a latent position, of which there are as many; see :func:`meetings`."""
MEETING = SAMPLES**2 * 6
"""Numbers that a position is told of a cell: by which axis rays enter and leave it, at each of its parts."""


class Face(NamedTuple):
    """A face of the grid that the middle of the view meets."""

    distance: float
    """Metres from the eye."""
    axis: int
    """It stands across x, y or z."""
    behind: np.ndarray
    """Lower corner (x, y, z) of the cell that lies behind it, ``int64 (3,)``."""
    before: np.ndarray
    """Of the one in front of it."""


def faces_ahead(eye: np.ndarray) -> list[Face]:
    """Return the faces that the middle of the view from ``eye (5,)`` meets within :data:`REACH`, nearest first."""
    ahead, found = axes(eye[3], eye[4])[:, 2], []
    for axis in range(3):
        if abs(ahead[axis]) < 1e-6:
            continue
        step = 1 if ahead[axis] > 0 else -1
        plane = math.floor(eye[axis]) + (step > 0)
        while (distance := (plane - eye[axis]) / ahead[axis]) <= REACH:
            behind = np.floor(eye[:3] + distance * ahead).astype(np.int64)
            before = behind.copy()
            behind[axis], before[axis] = (plane, plane - 1) if step > 0 else (plane - 1, plane)
            found.append(Face(distance, axis, behind, before))
            plane += step
    return sorted(found, key=lambda face: face.distance)


def has_room(face: Face, eye: np.ndarray) -> bool:
    """Return whether a block before ``face`` would leave room for the body of who looks from ``eye (5,)``."""
    low = face.before - np.array([eye[0], eye[1] - EYE_HEIGHT, eye[2]])
    beside = abs(low[0] + 0.5) > 0.5 + HALF or abs(low[2] + 0.5) > 0.5 + HALF
    return bool(beside or low[1] + 1 < STEP or low[1] > TALL)


def face_seen(distances: np.ndarray, rays: np.ndarray, eye: np.ndarray) -> Face | None:
    """Return the face that lies where something is seen in the middle of the view, None if too little is known there.

    Args:
        distances: of the view, ``float32 (H, W)``; 0 or infinite where unknown.
        rays: of its pixels, see :func:`latentcraft.model.camera.pixel_rays`.
        eye: where it is seen from, ``(5,)``.
    """
    rows, columns = (slice(max(0, n // 2 - WINDOW), n // 2 + WINDOW) for n in distances.shape)
    near, seen = rays[:, rows, columns], distances[rows, columns]
    known = np.isfinite(seen) & (seen > 0)
    if known.sum() < FEWEST:
        return None
    near, seen = near[:, known], seen[known]
    ways, weight = axes(eye[3], eye[4]) @ near, np.exp(-(near[:2] ** 2).sum(0) / near[2] ** 2 / (2 * NEAR**2))

    def misfit(face: Face) -> float:
        enters, _, axis = passage(face.behind - eye[:3], ways)
        on = np.isfinite(enters) & (enters > 0) & (axis == face.axis)
        if on.sum() < 3:
            return MOST_OFF
        off = np.minimum(np.abs(np.log(enters[on] / seen[on])), MOST_OFF)
        return float(np.average(off, weights=weight[on] + 1e-12))

    return min(faces_ahead(eye), key=misfit, default=None)


def passage(corner: np.ndarray, ways: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how far along each of ``ways (3, ...)`` a cell begins and ends, infinite where they do not meet it, and
    across which axis the face stands through which they enter it.

    Args:
        corner: from the eye to the cell's lower corner, ``(3,)`` metres.
        ways: unit vectors in the world's axes.
    """
    first, last = slabs(corner, ways)
    enters, leaves = first.max(0), last.min(0)
    meets = (enters < leaves) & (leaves > 0)
    return np.where(meets, enters, np.inf), np.where(meets, leaves, np.inf), first.argmax(0)


def slabs(corner: np.ndarray, ways: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far along each of ``ways`` it comes between a cell's two planes across each axis, and how far out from
    between them again, ``(3, ...)``; arguments as for :func:`passage`.
    """
    ways = np.where(np.abs(ways) < 1e-9, 1e-9, ways)
    low = corner.reshape(3, *[1] * (ways.ndim - 1))
    sides = np.stack([low / ways, (low + 1) / ways])
    return sides.min(0), sides.max(0)


def hold(spot: np.ndarray, eye: np.ndarray, field_of_view: float) -> np.ndarray:
    """Return what tells a picture of a cell, ``float32 (6,)``: from the eye to its lower corner (x, y, z) in metres,
    the eye's yaw and pitch and the horizontal field of view in degrees.

    Args:
        spot: lower corner of the cell, ``(3,)``.
        eye: where the picture is taken, ``(5,)``.
        field_of_view: of the camera.
    """
    return np.array([*(spot - eye[:3]), eye[3], eye[4], field_of_view], np.float32)


def distances_to(told: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far along each of ``rays (3, H, W)`` a cell begins and ends, ``float (H, W)`` in metres; infinite
    where a ray does not meet it.

    Args:
        told: see :func:`hold`.
        rays: see :func:`latentcraft.model.camera.pixel_rays`.
    """
    enters, leaves, _ = passage(told[:3], np.einsum("ij,jhw->ihw", axes(told[3], told[4]), rays))
    return enters, leaves


def no_holds(changes: Tensor) -> Tensor:
    """Return holds that tell of nothing for ``changes (..., 2)``: ``(..., 2, 6)``."""
    return torch.full((*changes.shape, HOLD), math.nan, device=changes.device)


def meetings(holds: Tensor, h: int, w: int) -> Tensor:
    """Return where the rays of pictures meet cells: what share of the rays through each part of a latent position
    enters the cell through a face across x, y, z, and what share leaves it through one.

    Args:
        holds: see :func:`hold`, fp32 ``(..., 2, 6)``, one for each of :data:`CHANGES`; NaN: there is no cell.
        h: latent positions from top to bottom.
        w: from left to right.

    Returns:
        ``(..., h, w, 2 * MEETING)``, 0 to 1.
    """
    *outer, kinds, _ = holds.shape
    assert kinds == len(CHANGES)
    flat = holds.reshape(-1, HOLD)
    out = flat.new_zeros(len(flat), h, w, MEETING)
    if not flat.is_meta:  # where only sizes are counted nothing happens
        rows = (~flat[:, 0].isnan()).nonzero()[:, 0]
        out[rows] = _met(flat[rows], h, w)
    return rearrange(out.unflatten(0, (*outer, kinds)), "... n h w e -> ... h w (n e)")


def _met(holds: Tensor, h: int, w: int) -> Tensor:
    """Do :func:`meetings` for cells that are there, ``(k, 6)``; returns ``(k, h, w, MEETING)``."""
    corner, (yaw, pitch, lens) = holds[:, None, None, :3], torch.deg2rad(holds[:, 3:]).unbind(-1)
    fine = SAMPLES**2
    down = ((torch.arange(h * fine, device=holds.device) + 0.5) * 2 / fine - h) / w
    right = (torch.arange(w * fine, device=holds.device) + 0.5) * 2 / (w * fine) - 1
    plane = torch.stack([right.expand(h * fine, -1), -down[:, None].expand(-1, w * fine)], -1)
    zero = torch.zeros_like(yaw)
    turn = torch.stack([  # see latentcraft.model.camera.axes
        -yaw.cos(), -yaw.sin() * pitch.sin(), -yaw.sin() * pitch.cos(),
        zero, pitch.cos(), -pitch.sin(),
        -yaw.sin(), yaw.cos() * pitch.sin(), yaw.cos() * pitch.cos(),
    ], -1).unflatten(-1, (3, 3))  # fmt: skip
    ahead = turn[..., 2] / torch.tan(lens / 2)[:, None]
    ways = torch.einsum("kij,hwj->khwi", turn[..., :2], plane) + ahead[:, None, None]
    ways = torch.where(ways.abs() < 1e-6, 1e-6, ways)
    one, other = corner / ways, (corner + 1) / ways
    (enters, first), (leaves, last) = torch.minimum(one, other).max(-1), torch.maximum(one, other).min(-1)
    meets = (enters < leaves) & (leaves > 0)
    axis = torch.arange(3, device=holds.device)
    met = torch.cat([(part[..., None] == axis) & meets[..., None] for part in (first, last)], -1).float()
    parts = F.avg_pool2d(met.permute(0, 3, 1, 2), SAMPLES)
    return rearrange(parts, "k e (h p) (w q) -> k h w (p q e)", p=SAMPLES, q=SAMPLES)
