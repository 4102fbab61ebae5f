"""Pictures of a recalled place that wait until an eye looks their way, see recall.py."""

from typing import NamedTuple

import numpy as np

TURN, WAY = 55.0, 12.0
"""Degrees and metres from the eye within which a picture of a recalled place shows some of the same."""


class Awaited(NamedTuple):
    """Pictures of the last recalled place that were not needed yet, see :mod:`latentcraft.model.recall`."""

    rows: np.ndarray
    """Their numbers in the bank, ``int64 (k,)``."""
    eyes: np.ndarray
    """Where they are put, ``float64 (k, 5)``."""
    gain: np.ndarray
    """By how much their red, green and blue are scaled, ``float32 (3,)``."""
    sky: np.ndarray
    """By how much those of their sky are, ``float32 (3,)``: there is but one in a world."""
    mirrored: np.ndarray
    """Whether left and right are exchanged, ``bool ()``."""

    @classmethod
    def nothing(cls) -> "Awaited":
        """Return none at all."""
        ones = np.ones(3, np.float32)
        return cls(np.zeros(0, np.int64), np.zeros((0, 5)), ones, ones, np.array(False))

    def nearest(self, eye: np.ndarray) -> int | None:
        """Return which of them shows most of what ``eye (5,)`` sees, None if none does."""
        turned = np.abs((self.eyes[:, 3:] - eye[3:] + 180) % 360 - 180)  # of heading and pitch
        away = np.linalg.norm(self.eyes[:, :3] - eye[:3], axis=1)
        useful = (turned < TURN).all(1) & (away < WAY)
        if not useful.any():
            return None
        return int(np.where(useful, turned.sum(1) / TURN + away / WAY, np.inf).argmin())

    def without(self, at: int) -> "Awaited":
        """Return all but one."""
        return self._replace(rows=np.delete(self.rows, at), eyes=np.delete(self.eyes, at, 0))
