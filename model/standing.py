"""Standing: blocks that stand in one place for good and are seen from anywhere, over whatever else is known of a view.

The goal of a task (whereabouts.py) is drawn so: from near and far, block by block, whether there is a map of blocks or
none. What remembered pictures show of it makes room: they have it at other distances.
"""

from typing import NamedTuple

import numpy as np

from latentcraft.model.blockmap import FACES, Looks
from latentcraft.model.blockrays import TEXELS, texel_of
from latentcraft.model.camera import axes
from latentcraft.model.memory import Memory, View, widened
from latentcraft.model.points import compiled

SHAPE = (5, 24, 5)
"""Cells along x, y and z in which a goal's blocks are."""
BASE = (2, 1, 2)
"""That of its lowest one."""
BEFORE = 0.1
"""Share by which what is known of a view may be nearer and is covered all the same: how far away it is is rough."""


class Goal(NamedTuple):
    """What a goal looks like."""

    shape: np.ndarray
    """Its blocks, ``bool SHAPE``; the lowest one is in cell :data:`BASE`."""
    textures: np.ndarray
    """Of their faces, in all sizes, 0 to 1, ``float32 (FACES, TEXTURE, 3)``."""
    lit: float
    """How much of the light they are, see :class:`latentcraft.model.blockmap.Looks`."""

    @classmethod
    def of(cls, shape: np.ndarray, palette: np.ndarray, lit: float) -> "Goal":
        """Return one with the textures ``palette (FACES, TEXELS, TEXELS, 3)``."""
        assert palette.shape == (FACES, TEXELS, TEXELS, 3)
        return cls(np.ascontiguousarray(shape), Looks.of(palette[None]).textures[0], lit)

    def show(
        self, view: View, cell: np.ndarray, eye: np.ndarray, rays: np.ndarray, focal: float, gain: np.ndarray
    ) -> None:  # fmt: skip
        """Draw it in a ``view`` from ``eye (5,)``, where nothing known is before it.

        Args:
            view: changed.
            cell: in which its lowest block is, ``int64 (3,)``.
            eye: where it is seen from.
            rays: of the pixels, ``float32 (3, H, W)``.
            focal: pixels.
            gain: of the light, ``(3,)``.
        """
        met, texel = self.cast(cell, eye, rays, focal)
        there = met < (1 + BEFORE) * view.distance  # infinite where it is not
        if there.any():
            colours = self.textures.reshape(-1, 3)[texel[there]] * gain**self.lit
            view.picture[there] = (255 * colours + 0.5).clip(0, 255).astype(np.uint8)
            view.distance[there], view.coarseness[there] = met[there], 1.0
            view.source[there], view.mapped[there] = -1, True

    def cast(self, cell: np.ndarray, eye: np.ndarray, rays: np.ndarray, focal: float) -> tuple[np.ndarray, np.ndarray]:
        """Return how far away its blocks are along ``rays (3, H, W)`` from ``eye (5,)``, metres, infinite where there
        is none, ``float32 (H, W)``; and which of ``FACES * TEXTURE`` texels is seen, ``int32 (H, W)``.
        """
        height, width = rays.shape[1:]
        met, texel = np.full((height, width), np.inf, np.float32), np.zeros((height, width), np.int32)
        corner = (cell - np.array(BASE) - eye[:3]).astype(np.float64)
        turn = axes(eye[3], eye[4])
        middle = corner + np.array(SHAPE) / 2
        if middle @ turn[:, 2] > -np.linalg.norm(SHAPE) / 2:  # else it is behind the eye as a whole
            stand(self.shape, corner, turn, rays, focal, met, texel)
        return met, texel

    def give_room(self, memory: Memory, cell: np.ndarray) -> None:
        """Let remembered pictures disown what shows it, and what is right beside it in them: how far away that is they
        do not know.
        """
        for number, eye in enumerate(memory.eyes[: memory.count]):
            met, _ = self.cast(cell, eye, memory.rays, memory.focal)
            if (there := np.isfinite(met)).any():
                memory.disown(number, around(there))

    def shown(self, cell: np.ndarray, eye: np.ndarray, memory: Memory, distance: np.ndarray) -> np.ndarray:
        """Return where it is what a view from ``eye (5,)`` shows, by its ``distance (H, W)``, ``bool (H, W)``."""
        met, _ = self.cast(cell, eye, memory.rays, memory.focal)
        same: np.ndarray = np.isfinite(met) & (met == distance)
        return same


def around(mask: np.ndarray) -> np.ndarray:
    """Return a ``mask (H, W)`` with what has a bit of its colours."""
    return widened(widened(mask))


@compiled
def stand(shape, corner, turn, rays, focal, met, texel):
    """Do :meth:`Goal.cast`; ``corner (3,)`` is of its cells, from the eye, ``turn (3, 3)`` from the camera's axes to
    the world's. The last two are overwritten where a block is met.
    """
    height, width = met.shape
    for row in range(height):
        for column in range(width):
            a, b, c = rays[0, row, column], rays[1, row, column], rays[2, row, column]
            enters, leaves, axis = 0.0, np.inf, -1
            for along in range(3):
                way = turn[along, 0] * a + turn[along, 1] * b + turn[along, 2] * c
                way = way if abs(way) > 1e-9 else 1e-9
                one, other = corner[along] / way, (corner[along] + shape.shape[along]) / way
                if min(one, other) > enters:
                    enters, axis = min(one, other), along
                leaves = min(leaves, max(one, other))
            if enters >= leaves:
                continue
            dx = turn[0, 0] * a + turn[0, 1] * b + turn[0, 2] * c
            dy = turn[1, 0] * a + turn[1, 1] * b + turn[1, 2] * c
            dz = turn[2, 0] * a + turn[2, 1] * b + turn[2, 2] * c
            dx = dx if abs(dx) > 1e-9 else 1e-9
            dy = dy if abs(dy) > 1e-9 else 1e-9
            dz = dz if abs(dz) > 1e-9 else 1e-9
            t = enters
            i = min(max(int(np.floor((t + 1e-6) * dx - corner[0])), 0), shape.shape[0] - 1)
            j = min(max(int(np.floor((t + 1e-6) * dy - corner[1])), 0), shape.shape[1] - 1)
            k = min(max(int(np.floor((t + 1e-6) * dz - corner[2])), 0), shape.shape[2] - 1)
            tx = (i + (dx > 0) + corner[0]) / dx
            ty = (j + (dy > 0) + corner[1]) / dy
            tz = (k + (dz > 0) + corner[2]) / dz
            inside = True
            while inside and (axis < 0 or not shape[i, j, k]):
                if tx <= ty and tx <= tz:
                    t, axis = tx, 0
                    i += 1 if dx > 0 else -1
                    tx += abs(1 / dx)
                elif ty <= tz:
                    t, axis = ty, 1
                    j += 1 if dy > 0 else -1
                    ty += abs(1 / dy)
                else:
                    t, axis = tz, 2
                    k += 1 if dz > 0 else -1
                    tz += abs(1 / dz)
                inside = 0 <= i < shape.shape[0] and 0 <= j < shape.shape[1] and 0 <= k < shape.shape[2]
            if inside:
                x, y, z = t * dx - corner[0] - i, t * dy - corner[1] - j, t * dz - corner[2] - k
                met[row, column] = t
                texel[row, column] = texel_of(axis, dx, dy, dz, x, y, z, t, focal)
