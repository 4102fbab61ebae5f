"""Evidence: what a memory tells of each cell around an eye; the map of blocks is made of it (completion.py)."""

import numpy as np

from latentcraft.model.camera import BOX, all_axes
from latentcraft.model.memory import Memory
from latentcraft.model.points import compiled

BELOW = 13
"""Cells of those under the eye's own."""
EVIDENCE = 10
"""Numbers that tell what is remembered in a cell, see :func:`evidence`."""
CLEAR = 0.5
"""Clearness (:attr:`latentcraft.model.memory.Memory.clear`) from which on pixels tell of what is there."""
EVERY = 2
"""Of so many rows and columns one ray tells what is free."""
PUSHED = 0.15
"""Metres by which remembered points are pushed on, into what they are the surface of."""
SHORT = 0.3
"""Metres before a remembered point up to which nothing is in the way."""


def corner_of(eye: np.ndarray) -> np.ndarray:
    """Return the lower corner ``int64 (3,)`` of the :data:`BOX` around ``eye (5,)``."""
    return np.floor(eye[:3]).astype(np.int64) - np.array([BOX[0] // 2, BELOW, BOX[2] // 2])


def evidence(memory: Memory, corner: np.ndarray) -> np.ndarray:
    """Return what is remembered in the :data:`BOX` of cells from ``corner (3,)``, as far as it is clear: how much
    surface, its mean colour (0 to 1), where in the cell it is (mean, -0.5 to 0.5), how much brightness varies, from how
    far it was seen (mean logarithm), and how much was seen through; ``float32 (EVIDENCE, *BOX)``.
    """
    eyes = memory.eyes[: memory.count]
    turns, places = all_axes(eyes), eyes[:, :3] - corner

    sums = np.zeros((*BOX, EVIDENCE), np.float32)
    collect_all(
        memory.distances, memory.own, memory.pictures, memory.clear, CLEAR, memory.rays, turns, places, memory.focal,
        sums,
    )  # fmt: skip
    surface = sums[..., :1]
    means = sums[..., 1:9] / np.maximum(surface, 1e-6)
    means[..., 6] = np.sqrt(np.maximum(means[..., 6] - np.square(means[..., :3].mean(-1)), 0))
    means *= surface > 0
    seen = np.concatenate([np.log1p(8 * surface), means, np.log1p(8 * sums[..., 9:])], -1)
    return np.ascontiguousarray(seen.transpose(3, 0, 1, 2))


@compiled
def collect(distances, own, picture, clear, least, rays, turn, place, focal, sums):
    """Add what the own pixels of a picture tell of cells, where they are clear enough.

    Args:
        distances: of the picture, ``float32 (H, W)``.
        own: its own pixels, ``bool (H, W)``.
        picture: ``uint8 (H, W, 3)``.
        clear: how clear it is, ``float32 (h, w)``.
        least: how clear it is to be.
        rays: ``float32 (3, H, W)``.
        turn: from its camera's axes to the world's, ``(3, 3)``.
        place: of its lens, from the corner of the box, ``(3,)``.
        focal: pixels.
        sums: ``float32 (X, Y, Z, EVIDENCE)``: surface; times it red, green, blue, x, y, z, squared brightness and
            logarithm of distance; and cross-section that is free.
    """
    height, width = own.shape
    sides, side = sums.shape, height // clear.shape[0]
    reach = 2.0 * max(sides[0], max(sides[1], sides[2])) + abs(place[0]) + abs(place[1]) + abs(place[2])
    for row in range(height):
        for column in range(width):
            d = distances[row, column]
            if not own[row, column] or d <= 0 or clear[row // side, column // side] < least:
                continue
            a, b, c = rays[0, row, column], rays[1, row, column], rays[2, row, column]
            dx = turn[0, 0] * a + turn[0, 1] * b + turn[0, 2] * c
            dy = turn[1, 0] * a + turn[1, 1] * b + turn[1, 2] * c
            dz = turn[2, 0] * a + turn[2, 1] * b + turn[2, 2] * c
            if d < reach:
                x, y, z = place[0] + (d + PUSHED) * dx, place[1] + (d + PUSHED) * dy, place[2] + (d + PUSHED) * dz
                i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
                if 0 <= i < sides[0] and 0 <= j < sides[1] and 0 <= k < sides[2]:
                    weight = (d / focal) ** 2
                    red, green, blue = picture[row, column, 0], picture[row, column, 1], picture[row, column, 2]
                    red, green, blue = red / 255.0, green / 255.0, blue / 255.0
                    bright = (red + green + blue) / 3
                    cell = sums[i, j, k]
                    cell[0] += weight
                    cell[1] += weight * red
                    cell[2] += weight * green
                    cell[3] += weight * blue
                    cell[4] += weight * (x - i - 0.5)
                    cell[5] += weight * (y - j - 0.5)
                    cell[6] += weight * (z - k - 0.5)
                    cell[7] += weight * bright * bright
                    cell[8] += weight * np.log(d + 0.1)
            if row % EVERY or column % EVERY:
                continue
            # From where the ray comes into the box to where it leaves it, or is stopped.
            t, end = 0.0, min(d - SHORT, reach)
            for axis in range(3):
                way = dx if axis == 0 else (dy if axis == 1 else dz)
                if abs(way) < 1e-9:
                    if place[axis] < 0 or place[axis] >= sides[axis]:
                        end = -1.0
                    continue
                one, other = -place[axis] / way, (sides[axis] - place[axis]) / way
                t, end = max(t, min(one, other)), min(end, max(one, other))
            if t >= end:
                continue
            t += 1e-4
            i, j, k = int(place[0] + t * dx), int(place[1] + t * dy), int(place[2] + t * dz)
            while t < end and 0 <= i < sides[0] and 0 <= j < sides[1] and 0 <= k < sides[2]:
                sums[i, j, k, 9] += EVERY * EVERY * ((t + 0.3) / focal) ** 2
                tx = (i + (dx > 0) - place[0]) / dx if abs(dx) > 1e-9 else 1e9
                ty = (j + (dy > 0) - place[1]) / dy if abs(dy) > 1e-9 else 1e9
                tz = (k + (dz > 0) - place[2]) / dz if abs(dz) > 1e-9 else 1e9
                if tx <= ty and tx <= tz:
                    t, i = tx, i + (1 if dx > 0 else -1)
                elif ty <= tz:
                    t, j = ty, j + (1 if dy > 0 else -1)
                else:
                    t, k = tz, k + (1 if dz > 0 else -1)
    i, j, k = int(np.floor(place[0])), int(np.floor(place[1])), int(np.floor(place[2]))
    for below in range(2):  # there is a body
        if 0 <= i < sides[0] and 0 <= j - below < sides[1] and 0 <= k < sides[2]:
            sums[i, j - below, k, 9] += 1.0


@compiled
def collect_all(distances, own, pictures, clear, least, rays, turns, places, focal, sums):
    """Add what pictures tell; see :func:`collect`, whose arguments have an axis more here."""
    for number in range(len(turns)):
        collect(
            distances[number], own[number], pictures[number], clear[number], least, rays, turns[number], places[number],
            focal, sums,
        )  # fmt: skip
