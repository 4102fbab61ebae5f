"""Relief: the remembered surfaces close by, as a body meets them: the ground under the feet, steps, walls, water.

Remembered pixels are gathered into boxes around the eye once a chunk (:func:`fill`). From there any place and heading
close by is described in a microsecond a column (:func:`describe`), so that every frame of a chunk has its own
description. A pixel is shared between the two boxes above and below it, and weighs as much as the surface it covers:
the height of level ground can be read off to a few centimetres, and near and far pictures say the same.
"""

from typing import NamedTuple

import numpy as np

from latentcraft.model.camera import EYE_HEIGHT
from latentcraft.model.points import carry, compiled

LINES, LEVELS = 26, 36
"""Boxes ahead and to the right, and boxes upward."""
SIZE = 0.2
"""Metres a box measures each way."""
LOWEST = -6.0
"""Metres over the eye at which the lowest box begins."""
COVERED = 64.0
"""Weight of a box whose whole side is covered."""
SURFACE = 8.0
"""Weight from which on something is a surface and not a stray pixel."""
TINTED = -1.0
"""Metres over the eye below which pixels count for a column's tint: the ground's."""
CELLS, APART = 7, 0.25
"""Columns described ahead and to the right, the eye's own being the middle one, and metres between them: as far as a
body and its next step reach."""
BOTTOM, BANDS = -3.1, 19
"""Metres over the eye of the lowest band of a column that is described, and bands, each :data:`SIZE` high."""
HEAD = -0.3
"""Metres over the eye below which the highest surface of a column is looked for: about as high as one can jump."""
AIR, GUESSED, ENTRY = 1, 32, 63
"""Of a map's entries (:mod:`latentcraft.model.blockmap`): air, what is added where nothing was seen, and both with any
kind of block."""
FEATURES = BANDS + 6
"""Of a column: how full its bands are, the height over the feet of its highest surface and whether there is one, red,
green and blue of the ground and whether they are known."""


class Nearby(NamedTuple):
    """What some memories hold around some eyes."""

    boxes: np.ndarray
    """Weights, ``uint8 (k, LINES, LINES, LEVELS)``: ahead, right, up."""
    tints: np.ndarray
    """Mean colour of the ground and its weight, ``uint8 (k, LINES, LINES, 4)``."""
    eyes: np.ndarray
    """In whose middle, and along whose yaw, ``float64 (k, 5)``."""

    def columns(self, eyes: np.ndarray) -> np.ndarray:
        """Describe the surroundings of other ``eyes (k, 5)`` close by, ``float32 (k, CELLS * CELLS, FEATURES)``."""
        out = np.zeros((len(eyes), CELLS * CELLS, FEATURES), np.float32)
        describe(self.boxes, self.tints, self.eyes, np.ascontiguousarray(eyes, np.float64), out)
        return out


def empty() -> tuple[np.ndarray, np.ndarray]:
    """Return boxes ``float32 (LINES, LINES, LEVELS)`` and tints ``float32 (LINES, LINES, 4)`` to :func:`fill`."""
    return np.zeros((LINES, LINES, LEVELS), np.float32), np.zeros((LINES, LINES, 4), np.float32)


def rounded(boxes: np.ndarray, tints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what was filled in as ``uint8``, colours as means."""
    mean = tints.copy()
    mean[..., :3] /= np.maximum(tints[..., 3:], 1e-3)
    return tuple(np.rint(part).clip(0, 255).astype(np.uint8) for part in (boxes, mean))  # type: ignore[return-value]


@compiled
def fill(distances, own, picture, sure, least, rays, turn, shift, focal, boxes, tints):
    """Add one picture, see :func:`fill_all`."""
    height, width = own.shape
    away = np.sqrt(shift[0] * shift[0] + shift[1] * shift[1] + shift[2] * shift[2])
    reach, side = 7.1, height // sure.shape[0]
    scale = COVERED / (focal * SIZE) ** 2
    for row in range(height):
        for column in range(width):
            d = distances[row, column]
            if not own[row, column] or d > away + reach or d < away - reach:
                continue
            if sure[row // side, column // side] < least:
                continue
            x, y, z = carry(rays, row, column, d, turn, shift)
            i, j = int(np.floor(z / SIZE + LINES / 2)), int(np.floor(x / SIZE + LINES / 2))
            level = (y - LOWEST) / SIZE - 0.5
            k = int(np.floor(level))
            if i < 0 or j < 0 or k < 0 or i >= LINES or j >= LINES or k >= LEVELS - 1:
                continue
            weight = min(d * d * scale, 0.5 * COVERED)
            boxes[i, j, k] += weight * (k + 1 - level)
            boxes[i, j, k + 1] += weight * (level - k)
            if y < TINTED:
                for channel in range(3):
                    tints[i, j, channel] += weight * picture[row, column, channel]
                tints[i, j, 3] += weight


@compiled
def fill_all(distances, own, pictures, sure, least, rays, turns, shifts, focal, boxes, tints):
    """Add the own pixels of pictures, where they are at least so ``sure (k, h, w)``, to :func:`empty` boxes; the other
    arguments as for :func:`latentcraft.model.points.draw_all`, the view being a level one.
    """
    for number in range(len(turns)):
        fill(
            distances[number], own[number], pictures[number], sure[number], least, rays, turns[number], shifts[number],
            focal, boxes, tints,
        )  # fmt: skip


@compiled
def fill_cells(cells, colours, eye, level_axes, boxes, tints):
    """Add the faces of a map's blocks that border on air to :func:`empty` boxes, but of no block that was not seen.

    Args:
        cells: see :class:`latentcraft.model.blockmap.BlockMap`.
        colours: of the kinds' faces, 0 to 255, ``(kinds, 6, 3)``.
        eye: whose surroundings these are, ``(3,)``.
        level_axes: from its level view's axes to the world's, ``(3, 3)``.
        boxes: overwritten.
        tints: overwritten.
    """
    mask_x, mask_y, mask_z = cells.shape[0] - 1, cells.shape[1] - 1, cells.shape[2] - 1
    reach, per = int(np.ceil(0.71 * LINES * SIZE)), int(round(1 / SIZE))
    x0, y0, z0 = int(np.floor(eye[0])), int(np.floor(eye[1])), int(np.floor(eye[2]))
    for i in range(x0 - reach, x0 + reach + 1):
        for j in range(y0 + int(LOWEST) - 1, y0 + int(LEVELS * SIZE + LOWEST) + 2):
            for k in range(z0 - reach, z0 + reach + 1):
                entry = cells[i & mask_x, j & mask_y, k & mask_z] & ENTRY
                if entry <= AIR or entry & GUESSED:
                    continue
                for face in range(6):
                    axis, upper = face // 2, face % 2
                    step = 2 * upper - 1
                    a, b, c = i + step * (axis == 0), j + step * (axis == 1), k + step * (axis == 2)
                    if cells[a & mask_x, b & mask_y, c & mask_z] & ENTRY != AIR:
                        continue
                    for one in range(per):
                        for other in range(per):
                            u, v = (one + 0.5) / per, (other + 0.5) / per
                            x = i + (upper if axis == 0 else u) - eye[0]
                            y = j + (upper if axis == 1 else (u if axis == 0 else v)) - eye[1]
                            z = k + (upper if axis == 2 else v) - eye[2]
                            right = level_axes[0, 0] * x + level_axes[1, 0] * y + level_axes[2, 0] * z
                            ahead = level_axes[0, 2] * x + level_axes[1, 2] * y + level_axes[2, 2] * z
                            p = int(np.floor(ahead / SIZE + LINES / 2))
                            q = int(np.floor(right / SIZE + LINES / 2))
                            level = (y - LOWEST) / SIZE - 0.5
                            r = int(np.floor(level))
                            if p < 0 or q < 0 or r < 0 or p >= LINES or q >= LINES or r >= LEVELS - 1:
                                continue
                            boxes[p, q, r] += COVERED * (r + 1 - level)
                            boxes[p, q, r + 1] += COVERED * (level - r)
                            if y < TINTED:
                                for channel in range(3):
                                    tints[p, q, channel] += COVERED * colours[entry - 1, face, channel]
                                tints[p, q, 3] += COVERED


@compiled
def describe(boxes, tints, origins, eyes, out):
    """See :meth:`Nearby.columns`; ``out`` is zero before."""
    profile = np.zeros(LEVELS)
    for index in range(len(eyes)):
        heading, turned = np.deg2rad(origins[index, 3]), np.deg2rad(eyes[index, 3] - origins[index, 3])
        x, z = eyes[index, 0] - origins[index, 0], eyes[index, 2] - origins[index, 2]
        up = eyes[index, 1] - origins[index, 1]
        right = -np.cos(heading) * x - np.sin(heading) * z
        ahead = -np.sin(heading) * x + np.cos(heading) * z
        sin, cos = np.sin(turned), np.cos(turned)
        for cell in range(CELLS * CELLS):
            a, r = (cell // CELLS - CELLS // 2) * APART, (cell % CELLS - CELLS // 2) * APART
            i = (ahead - sin * r + cos * a) / SIZE + LINES / 2 - 0.5
            j = (right + cos * r + sin * a) / SIZE + LINES / 2 - 0.5
            line, row = int(np.floor(i)), int(np.floor(j))
            if line < 0 or row < 0 or line >= LINES - 1 or row >= LINES - 1:
                continue
            profile[:] = 0
            for p in range(2):
                for q in range(2):
                    weight = (1 - abs(i - line - p)) * (1 - abs(j - row - q))
                    for level in range(LEVELS):
                        profile[level] += weight * boxes[index, line + p, row + q, level]
            features = out[index, cell]
            for band in range(BANDS):
                level = (up + BOTTOM + band * SIZE - LOWEST) / SIZE - 0.5
                k = int(np.floor(level))
                if 0 <= k < LEVELS - 1:
                    weight = (k + 1 - level) * profile[k] + (level - k) * profile[k + 1]
                    features[band] = weight / (weight + COVERED / 4)
            highest = min(LEVELS - 1, int(np.floor((up + HEAD - LOWEST) / SIZE - 0.5)))
            for level in range(highest, 0, -1):
                if profile[level] + profile[level - 1] < SURFACE:
                    continue
                peak = level
                for below in range(level - 1, max(level - 3, -1), -1):
                    if profile[below] > profile[peak]:
                        peak = below
                mass, moment = 0.0, 0.0
                for k in range(max(peak - 1, 0), min(peak + 1, highest) + 1):
                    mass += profile[k]
                    moment += profile[k] * k
                features[BANDS] = LOWEST + (moment / mass + 0.5) * SIZE - up + EYE_HEIGHT
                features[BANDS + 1] = 1
                break
            line, row = int(np.floor(i + 0.5)), int(np.floor(j + 0.5))
            if tints[index, line, row, 3] > 0:
                for channel in range(3):
                    features[BANDS + 2 + channel] = tints[index, line, row, channel] / 255 - 0.5
                features[BANDS + 5] = 1
