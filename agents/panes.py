"""What stands next to what in the window: the game, the truth, where they differ, another future."""

from typing import NamedTuple

import numpy as np

from latentcraft.agents.curve import Curve
from latentcraft.agents.shot import BRANCH, BRANCH_TRUTH, PLAYED, TRUTH, Shot

GLOW = np.array([(0, 0, 0), (60, 10, 90), (190, 30, 60), (250, 140, 20), (255, 245, 180)], np.float32)
"""Colours of the error from none to :data:`WHITE_HOT`."""
WHITE_HOT = 96.0
"""Mean difference of a pixel's colours, of 255, from which on the heat map is brightest."""


class Pane(NamedTuple):
    """One picture in the window."""

    label: str
    picture: np.ndarray
    """``uint8 (H, W, 3)``."""


def panes_of(shot: Shot, *, world: str, truth: bool, other: str, curve: Curve) -> list[list[Pane]]:
    """Return rows of panes, each as long as the others: one for each future.

    Args:
        shot: what is shown.
        world: the played world's name.
        truth: show the reference world and the error too, where there is one.
        other: what the other future does.
        curve: of the error so far; it has room where there is one future.
    """
    views = {**shot.beside, PLAYED: shot.frame}
    rows = []
    for name, truth_name, label in ((PLAYED, TRUTH, ""), (BRANCH, BRANCH_TRUTH, f"other: {other}")):
        if name not in views:
            continue
        alone = len(views) == 1 or (BRANCH not in views and not truth)
        row = [Pane("" if alone else label or (world if BRANCH not in views else "you"), views[name])]
        if truth and truth_name in views:
            row.append(Pane("reference", views[truth_name]))
            decibel = psnr(views[name], views[truth_name])
            row.append(Pane(f"error, {decibel:.1f} dB", heat_map(views[name], views[truth_name])))
            if BRANCH not in views:
                row.append(Pane("error, 8 s: 10, 20, 30 dB", curve.picture(*shot.frame.shape[:2])))
        rows.append(row)
    return rows


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of two pictures in dB, at most 99."""
    error = float(np.square(one.astype(np.float32) - other).mean())
    return min(99.0, 10 * float(np.log10(255**2 / max(error, 1e-9))))


def heat_map(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return where two pictures ``uint8 (H, W, 3)`` differ: dark where not, glowing where much."""
    error = np.abs(one.astype(np.int16) - other).mean(-1, dtype=np.float32)
    level = np.minimum(error / WHITE_HOT, 1) * (len(GLOW) - 1)
    below = np.minimum(level.astype(np.intp), len(GLOW) - 2)
    share = (level - below)[..., None]
    return (GLOW[below] * (1 - share) + GLOW[below + 1] * share).astype(np.uint8)


def arrange(rows: list[list[Pane]], frame_size: tuple[int, int], room: tuple[int, int]) -> list[list[Pane]]:
    """Return ``rows`` arranged so that pictures can be largest.

    Args:
        rows: from :func:`panes_of`; several stay as they are.
        frame_size: (H, W) of the pictures.
        room: (width, height) of the window.
    """
    if len(rows) != 1 or len(rows[0]) == 1:
        return _turned(rows, frame_size, room) if len(rows) == 2 and len(rows[0]) == 1 else rows
    row = rows[0]
    choices = [[row[at : at + columns] for at in range(0, len(row), columns)] for columns in range(1, len(row) + 1)]
    return max(choices, key=lambda choice: _room_for(choice, frame_size, room))


def factor_of(rows: list[list[Pane]], frame_size: tuple[int, int], room: tuple[int, int]) -> int:
    """Return the whole factor by which pictures in ``rows`` can be enlarged, at least 1."""
    return max(1, int(_room_for(rows, frame_size, room)))


def _room_for(rows: list[list[Pane]], frame_size: tuple[int, int], room: tuple[int, int]) -> float:
    height, width = frame_size
    return min(room[0] / (width * len(rows[0])), room[1] / (height * len(rows)))


def _turned(rows: list[list[Pane]], frame_size: tuple[int, int], room: tuple[int, int]) -> list[list[Pane]]:
    """Return two futures side by side, or one above the other where that shows them larger, or whole at all."""
    beside = [[row[0] for row in rows]]
    return max(
        (beside, rows),
        key=lambda choice: (factor_of(choice, frame_size, room), min(1.0, _room_for(choice, frame_size, room))),
    )


def montage(rows: list[list[Pane]]) -> np.ndarray:
    """Lay panes out as one picture ``uint8 (H', W', 3)``, without words."""
    return np.concatenate([np.concatenate([pane.picture for pane in row], axis=1) for row in rows])
