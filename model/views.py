"""What one world remembers of the coming chunk's views."""

from typing import NamedTuple

import numpy as np

from latentcraft.model.actions import CHANGES
from latentcraft.model.aim import AimNet
from latentcraft.model.autoencoder import DOWNSAMPLING
from latentcraft.model.blockmap import BlockMap
from latentcraft.model.camera import axes, pixel_rays
from latentcraft.model.cells import HOLD, REACH, face_seen, faces_ahead, has_room, hold, passage
from latentcraft.model.memory import widened

OFF = 0.12
"""Share by which what is seen in the middle of a view may be off a face that is there."""
DRAWN, OPEN = 1, 2
"""What the hand's work in a view may be: drawn as matter, or laid open what was seen behind it."""


def share_of(mask: np.ndarray) -> np.ndarray:
    """Return which share of every latent position is in a ``mask (f, H, W)``, ``(f, h, w)``."""
    f, height, width = mask.shape
    cells = (f, height // DOWNSAMPLING, DOWNSAMPLING, width // DOWNSAMPLING, DOWNSAMPLING)
    share: np.ndarray = mask.reshape(cells).mean((2, 4))
    return share


class Views(NamedTuple):
    """What one world remembers of the coming chunk's views."""

    pictures: np.ndarray
    """``uint8 (f, H, W, 3)``."""
    known: np.ndarray
    """``bool (f, H, W)``."""
    coarseness: np.ndarray
    """``float32 (f, H, W)``, see :class:`latentcraft.model.memory.View`."""
    distances: np.ndarray
    """Metres, ``float32 (f, H, W)``, infinite where nothing is known."""
    eyes: np.ndarray
    """Where each is seen from, ``float64 (f, 5)``."""
    recalled: np.ndarray | None = None
    """Which of the known pixels were just recalled, ``bool (f, H, W)``; None where none was, see
    :mod:`latentcraft.model.recall`."""
    worked: np.ndarray | None = None
    """Where the hand has just changed what is seen, ``uint8 (f, H, W)``: 0, :data:`DRAWN` or :data:`OPEN`; None where
    it has not, or nobody knows where, see :mod:`latentcraft.model.handiwork`."""

    mapped: np.ndarray | None = None
    """What of it is shown from a map of blocks, ``bool (f, H, W)``; None where there is none."""
    bare: np.ndarray | None = None
    """The pictures without the marks of a hand at work (marks.py), which are nothing to remember; None: there are none.
    """

    def seams(self) -> np.ndarray | None:
        """Return which cells of the latents were just recalled right beside what was known, ``bool (f, h, w)``; None
        where none was.
        """
        if self.recalled is None:
            return None
        recalled = self.recalled if self.mapped is None else self.recalled & ~self.mapped  # blocks need no seams
        old, new = (share_of(part) > 0.25 for part in (self.known & ~self.recalled, recalled))
        return np.stack([widened(left) & right for left, right in zip(old, new, strict=True)])

    def certain(self) -> np.ndarray:
        """Return where pixels are of a map of blocks, or have marks on them, ``bool (f, H, W)``."""
        mapped = np.zeros_like(self.known) if self.mapped is None else self.mapped
        return mapped if self.bare is None else mapped | (self.bare != self.pictures).any(-1)

    def last(self) -> "Views":
        """Return that of the last frame alone, ``f = 1``."""
        told = (self.recalled, self.worked, self.mapped, self.bare)
        recalled, worked, mapped, bare = (None if part is None else part[-1:] for part in told)
        return Views(
            self.pictures[-1:], self.known[-1:], self.coarseness[-1:], self.distances[-1:], self.eyes[-1:], recalled,
            worked, mapped, bare,
        )  # fmt: skip

    def _maps_middle(self, frame: int) -> bool:
        """Return whether the middle of a frame is shown from a map of blocks."""
        _, height, width = self.known.shape
        return self.mapped is not None and bool(self.mapped[frame, height // 2, width // 2])

    def aimed(
        self, frame: int, kind: int, rays: np.ndarray, field_of_view: float, aim: AimNet | None = None,
        blocks: BlockMap | None = None,
    ) -> np.ndarray | None:  # fmt: skip
        """Return the likeliest cell in the middle of a frame for a hand to change, its lower corner ``(3,)``; None
        where nobody knows of any.

        Args:
            frame: which.
            kind: of the change: what is dug is seen, what is placed comes before it.
            rays: see :func:`latentcraft.model.camera.pixel_rays`.
            field_of_view: horizontal, degrees.
            aim: says what is seen in the middle of the view; None goes by distances alone.
            blocks: knows it where they are what is seen there.
        """
        eye, dug = self.eyes[frame], CHANGES[kind] == "dug"
        if blocks is not None and self._maps_middle(frame) and (met := blocks.aimed(eye, REACH)) is not None:
            return met[0 if dug else 1]
        face = face_seen(self.distances[frame], rays, eye)
        if face is not None and aim is not None:
            faces = [one for one in faces_ahead(eye) if dug or has_room(one, eye)]
            if not faces:
                return None
            face = aim.chosen(faces, self.pictures[frame], self.distances[frame], eye, field_of_view)
        if face is None:
            return None
        return face.behind if dug else face.before

    def in_reach(
        self, frame: int, rays: np.ndarray, field_of_view: float, blocks: BlockMap, reach: float, aim: AimNet | None,
        struck: tuple[int, ...] | None = None,
    ) -> np.ndarray | None:  # fmt: skip
        """Return the cell in the middle of a frame if a hand that reaches ``reach`` metres can strike it: by the map,
        where that agrees with what is seen; where something else is, the one that was ``struck`` before, as long as it
        may be the one, or as :meth:`aimed` has it if there is an ``aim``.
        """
        eye, (_, height, width) = self.eyes[frame], self.known.shape
        seen = float(self.distances[frame, height // 2, width // 2])
        if not 0 < seen < (1 + OFF) * reach:
            return None

        def is_seen(cell: np.ndarray | None) -> bool:
            if cell is None:
                return False
            away, _, _ = passage(cell - eye[:3], axes(eye[3], eye[4])[:, 2])
            return bool(away <= reach and abs(away - seen) < OFF * seen)

        met = blocks.aimed(eye, reach)
        cell = None if met is None else met[0]
        if aim is not None and not self._maps_middle(frame):
            cell = None if struck is None else np.array(struck)
            if not is_seen(cell):
                cell = self.aimed(frame, CHANGES.index("dug"), rays, field_of_view, aim)
        return cell if is_seen(cell) else None

    def holds(
        self, changes: np.ndarray, spots: np.ndarray | None, field_of_view: float, aim: AimNet | None = None,
        blocks: BlockMap | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Return which cells the hand has changed by each frame, see :func:`latentcraft.model.cells.hold`: ``float32
        (f, 2, 6)``, NaN where it has changed none, or nobody knows which.

        Args:
            changes: what it does, ``(f, 2)``, 0 or 1.
            spots: where, ``(f, 2, 3)``, NaN where that is not known. There, and by default, it is what is seen in the
                middle of the view.
            field_of_view: horizontal, degrees.
            aim: says what is seen in the middle of the view; None goes by distances alone.
            blocks: knows it where they are what is seen there.
        """
        out = np.full((*changes.shape, HOLD), np.nan, np.float32)
        _, height, width = self.known.shape
        rays = pixel_rays(height, width, field_of_view)
        for kind in np.flatnonzero(changes.any(0)):
            spot = None
            for frame, eye in enumerate(self.eyes):
                if changes[frame, kind]:
                    spot = None if spots is None or np.isnan(spots[frame, kind]).any() else spots[frame, kind]
                    spot = self.aimed(frame, int(kind), rays, field_of_view, aim, blocks) if spot is None else spot
                if spot is not None:
                    out[frame, kind] = hold(spot, eye, field_of_view)
        return out
