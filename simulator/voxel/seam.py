"""The map begins anew where it ends; a path across that seam goes on."""

import numpy as np

from latentcraft.simulator.voxel.terrain import MAP_SIZE


def unwrapped(poses: np.ndarray) -> np.ndarray:
    """Return poses ``(t, 5)`` of the reference world with x and z going on where its map begins anew."""
    out = np.array(poses, np.float64)
    leaps = -MAP_SIZE * np.round(np.diff(out[:, [0, 2]], axis=0) / MAP_SIZE)
    out[1:, [0, 2]] += np.cumsum(leaps, axis=0)
    return out
