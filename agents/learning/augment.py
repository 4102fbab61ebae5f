"""Recorded play seen otherwise: mirrored, and a little aside. A clone that has seen few games then remembers them less.

Random shifts are what makes reinforcement learning from pixels work with few frames (DrQ, arXiv 2004.13649). Mirrored,
a game is as true as before, with left and right exchanged.
"""

from functools import cache

import numpy as np

from latentcraft.agents.learning.moves import MOVES, move_vectors
from latentcraft.model.actions import BUTTON_INDEX, YAW


@cache
def mirrored_moves() -> np.ndarray:
    """Return for each row of :data:`~latentcraft.agents.learning.moves.MOVES` its mirror image, ``int64 (k,)``."""
    rows = move_vectors(1)
    seen = rows.copy()
    left, right = BUTTON_INDEX["left"], BUTTON_INDEX["right"]
    seen[:, [left, right]] = rows[:, [right, left]]
    seen[:, YAW] *= -1
    same = (seen[:, None] == rows[None]).all(-1)
    assert (same.sum(1) == 1).all(), f"a row of {[name for name, _ in MOVES]} has no mirror image"
    return same.argmax(1)


def augmented(
    pictures: np.ndarray, moves: np.ndarray, rng: np.random.Generator, *, shift: int, mirror: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures and moves as they might have been as well.

    Args:
        pictures: ``uint8 (n, c, h, w)``.
        moves: rows, ``int (n,)``.
        rng: decides.
        shift: at most so many pixels to each side; what comes in at the edge repeats it.
        mirror: whether half of them are seen in a mirror.

    Returns:
        New arrays of the same shapes.
    """
    n, _, h, w = pictures.shape
    pictures, moves = pictures.copy(), moves.copy()
    if mirror:
        turned = rng.random(n) < 0.5
        pictures[turned] = pictures[turned, :, :, ::-1]
        moves[turned] = mirrored_moves()[moves[turned]]
    if shift:
        padded = np.pad(pictures, ((0, 0), (0, 0), (shift, shift), (shift, shift)), mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (h, w), (2, 3))
        down, across = rng.integers(0, 2 * shift + 1, (2, n))
        pictures = windows[np.arange(n), :, down, across]
    return pictures, moves
