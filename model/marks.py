"""Marks: what a game draws on the block that is aimed at, an outline, and on one that is struck, cracks.

The map of blocks (blockmap.py) shows faces as they are. What is drawn on them while a hand is at work is a second
texture, learned like the first (train/marks.py): by how much each part of a face is darker than otherwise, when the
block is aimed at only, and after each share of the time that its kind takes to break.
"""

from typing import NamedTuple

import numpy as np

from latentcraft.model.actions import BUTTON_INDEX, CHANGES
from latentcraft.model.aim import AimNet
from latentcraft.model.blockmap import FACES, BlockMap
from latentcraft.model.camera import axes
from latentcraft.model.cells import passage
from latentcraft.model.points import compiled
from latentcraft.model.relief import AIR
from latentcraft.model.views import Views

STAGES = 11
"""Of a block: aimed at, and each tenth of the time until it breaks."""
PARTS = 32
"""Along a side of a face, finer than its texture: an outline is thin."""
EXACT, ROUGH = 0.02, 0.15
"""Share by which a pixel's distance may differ from that of the face it belongs to, on a map and in a memory."""
ALL_FACES = np.ones(FACES, np.bool_)
NO_PART = -1
"""For pixels that show something else."""
ATTACK, DUG = BUTTON_INDEX["attack"], CHANGES.index("dug")


class Marks(NamedTuple):
    """What is drawn on blocks that a hand works on."""

    dims: np.ndarray
    """By what a face's colours are multiplied, ``float32 (STAGES, PARTS, PARTS)``, rows from its top."""
    lasts: np.ndarray
    """Ticks until each kind breaks, ``float32 (kinds,)``; 0: nobody has seen it break. Of some one has."""
    reach: float
    """Metres that a hand reaches."""

    def stage(self, kind: int, ticks: int) -> int:
        """Return in which of the stages a block of ``kind`` is that has been struck for so many ticks; where nobody
        knows how long it lasts, which may be no kind at all, it is taken for one of the others.
        """
        lasts = self.lasts[kind] if kind >= 0 and self.lasts[kind] else np.median(self.lasts[self.lasts > 0])
        return 0 if not ticks else 1 + min(int((STAGES - 1) * ticks / lasts), STAGES - 2)


class Strike(NamedTuple):
    """What a hand is at."""

    cell: tuple[int, ...] | None
    """That is aimed at; None: nothing in reach."""
    ticks: int
    """For how long it has been struck."""

    @classmethod
    def of(cls, array: np.ndarray) -> "Strike":
        """Undo :attr:`array`."""
        cell = tuple(int(part) for part in array[:3])
        return cls(cell if array[4] else None, int(array[3]))

    @property
    def array(self) -> np.ndarray:
        """Everything there is, ``int64 (5,)``."""
        return np.array([*(self.cell or (0, 0, 0)), self.ticks, self.cell is not None], np.int64)

    def going_on(self, cell: np.ndarray | None, *, strikes: bool) -> "Strike":
        """Return what it is at a tick later, when a ``cell (3,)`` is aimed at and the hand ``strikes`` or does not."""
        if cell is None:
            return NOTHING
        now = tuple(int(part) for part in cell)
        return Strike(now, (self.ticks if now == self.cell else 0) + 1 if strikes else 0)


NOTHING = Strike(None, 0)


def mark(
    views: Views, frames: range, marks: Marks, strike: Strike, actions: np.ndarray, rays: np.ndarray,
    field_of_view: float, blocks: BlockMap, aim: AimNet | None = None,
) -> tuple[Views, Strike]:  # fmt: skip
    """Draw marks on what is in the middle of some ``frames`` of views.

    Args:
        views: of the coming chunk.
        frames: which of them.
        marks: what to draw.
        strike: what the hand was at before.
        actions: that led to all of the views, ``(f, a)``.
        rays: of the pixels, ``float32 (3, H, W)``.
        field_of_view: of the camera.
        blocks: the map.
        aim: says what a hand strikes where the map is not what is seen.

    Returns:
        The views with marks, and what the hand is at then.
    """
    if views.mapped is None or not len(frames):
        return views, strike
    pictures = views.pictures.copy()
    bare = views.pictures.copy() if views.bare is None else views.bare.copy()
    for frame in frames:
        bare[frame] = views.pictures[frame]
        eye, strikes = views.eyes[frame], bool(actions[frame, ATTACK] > 0)
        struck = strike.cell if strike.ticks else None
        cell = views.in_reach(frame, rays, field_of_view, blocks, marks.reach, aim if strikes else None, struck)
        strike = strike.going_on(cell, strikes=strikes)
        if cell is None:
            continue
        mapped, distance = views.mapped[frame], views.distances[frame]
        exact, rough = (np.where(part, distance, 0) for part in (mapped, views.known[frame] & ~mapped))
        part = np.maximum(
            parts_of(cell, eye, rays, exact), parts_of(cell, eye, rays, rough, ROUGH, open_faces(cell, eye, blocks))
        )
        shown = part != NO_PART
        dims = marks.dims[marks.stage(blocks.at(cell) - AIR, strike.ticks)].reshape(-1)[part[shown]]
        pictures[frame][shown] = (pictures[frame][shown] * dims[:, None] + 0.5).clip(0, 255).astype(np.uint8)
    return views._replace(pictures=pictures, bare=bare), strike


def open_faces(cell: np.ndarray, eye: np.ndarray, blocks: BlockMap) -> np.ndarray:
    """Return which faces of a ``cell (3,)`` are to be seen from ``eye (5,)``, ``bool (FACES,)``: beside them is air, or
    the middle of the view is on them.
    """
    steps = np.repeat(np.eye(3, dtype=np.int64), 2, axis=0) * np.tile([-1, 1], 3)[:, None]
    faces = np.array([blocks.at(cell + step) == AIR for step in steps])
    ahead = axes(eye[3], eye[4])[:, 2]
    _, _, axis = passage(cell - eye[:3], ahead)
    faces[2 * axis + (ahead[axis] < 0)] = True
    return faces


def parts_of(
    cell: np.ndarray, eye: np.ndarray, rays: np.ndarray, far: np.ndarray, off: float = EXACT,
    faces: np.ndarray = ALL_FACES,
) -> np.ndarray:  # fmt: skip
    """Return which of the ``PARTS ** 2`` parts of a face of a ``cell (3,)`` each pixel shows from ``eye (5,)``,
    whatever face that is, ``int32 (H, W)``; :data:`NO_PART` where something else is seen.

    Args:
        cell: lower corner.
        eye: where it is seen from.
        rays: see :func:`mark`.
        far: how far away it is what pixels show, ``float32 (H, W)``; 0 for those that are not asked for.
        off: share by which that may be wrong.
        faces: which can be seen at all, ``bool (FACES,)``.
    """
    out = np.full(far.shape, NO_PART, np.int32)
    divide(axes(eye[3], eye[4]), cell - eye[:3], rays, far, off, faces, out)
    return out


@compiled
def divide(turn, corner, rays, far, off, faces, out):
    """Do :func:`parts_of`; ``turn (3, 3)`` is from the camera's axes to the world's, ``corner (3,)`` from the eye."""
    height, width = far.shape
    for row in range(height):
        for column in range(width):
            if far[row, column] <= 0:
                continue
            a, b, c = rays[0, row, column], rays[1, row, column], rays[2, row, column]
            enters, leaves, axis = 0.0, np.inf, -1
            for along in range(3):
                way = turn[along, 0] * a + turn[along, 1] * b + turn[along, 2] * c
                way = way if abs(way) > 1e-9 else 1e-9
                one, other = corner[along] / way, (corner[along] + 1) / way
                if min(one, other) > enters:
                    enters, axis = min(one, other), along
                leaves = min(leaves, max(one, other))
            if axis < 0 or enters >= leaves or abs(enters - far[row, column]) > off * enters:
                continue
            if not faces[2 * axis + (turn[axis, 0] * a + turn[axis, 1] * b + turn[axis, 2] * c < 0)]:
                continue
            x = enters * (turn[0, 0] * a + turn[0, 1] * b + turn[0, 2] * c) - corner[0]
            y = enters * (turn[1, 0] * a + turn[1, 1] * b + turn[1, 2] * c) - corner[1]
            z = enters * (turn[2, 0] * a + turn[2, 1] * b + turn[2, 2] * c) - corner[2]
            u, v = (z if axis == 0 else x), (z if axis == 1 else 1 - y)
            u, v = min(max(u, 0.0), 0.9999), min(max(v, 0.0), 0.9999)
            out[row, column] = int(v * PARTS) * PARTS + int(u * PARTS)
