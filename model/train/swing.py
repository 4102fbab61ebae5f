"""How a hand swings is learned by looking for the block in it: how far it is from where it rests, tick after tick.

Of the rules by which a swing may go on (so many ticks, begun by striking only or also by placing) that one is taken
under which the block is always in the same place in the same tick of it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentcraft.model.episodes import Episode, read_all
from latentcraft.model.held import ATTACK, PLACED, phases_of, slots_of

EPISODES, TICKS = 40, 200
"""That are looked at: as many episodes, and as many ticks of each, those in which the hand strikes or did soon before.
"""
SOON = 8
"""Ticks after a stroke in which a swing may go on."""
FARTHEST = 3
"""A block is looked for up to this part of its height from where it rests."""
PERIODS = range(2, 13)
"""Ticks that a swing may take."""
LIKE = 0.08
"""Share of a picture's square up to which it may miss a block that is there."""
BETTER = 0.9
"""Share of the mean distance under the best rule by now that another one must stay under to be the better one."""


def learn_swing(
    paths: Sequence[Path], shape: Tensor, looks: Tensor, frame_size: tuple[int, int]
) -> tuple[Tensor, bool]:  # fmt: skip
    """Return by how many pixels the block in the hand is lower and farther right in each tick of a swing, ``(ticks,
    2)``, and whether one begins also when something is placed; ``(1, 2)`` where it does not move.

    Args:
        paths: of recorded episodes.
        shape: where the block rests, ``bool (H, W)``.
        looks: what it looks like, 0 to 1, ``(HOTBAR_SLOTS, 3, H, W)``.
        frame_size: (H, W).
    """
    still = torch.zeros(1, 2), False
    if not shape.any():
        return still
    seen = list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]()
    for _, episode in read_all(list(paths)[:: max(1, len(paths) // EPISODES)], frame_size=frame_size):
        strikes = np.asarray(episode.actions[:, ATTACK] > 0)
        placed = np.zeros_like(strikes) if episode.changes is None else np.asarray(episode.changes[:, PLACED] > 0)
        soon = np.convolve(strikes | placed, np.ones(SOON), "full")[: len(strikes)] > 0
        ticks = np.flatnonzero(soon)[:TICKS]
        if len(ticks):
            offsets, found = looked_for(episode, ticks, shape.numpy(), looks.numpy())
            seen.append((strikes, placed, ticks[found], offsets[found]))
    if not sum(len(ticks) for _, _, ticks, _ in seen):
        return still
    every = np.concatenate([offsets for *_, offsets in seen]).astype(np.float64)
    best = float(np.abs(every).mean())
    moves, by_placing = np.zeros((1, 2)), False
    for placing in (False, True):
        for period in PERIODS:
            phase = np.concatenate([
                phases_of(strikes, placed & placing, period)[ticks] for strikes, placed, ticks, _ in seen
            ])  # fmt: skip
            middle = np.zeros((period, 2))
            for at in set(phase.tolist()) - {0}:
                middle[at] = np.median(every[phase == at], 0)
            if (missed := float(np.abs(every - middle[phase]).mean())) < BETTER * best:
                best, moves, by_placing = missed, middle, placing
    return torch.from_numpy(np.rint(moves)).float(), by_placing


def looked_for(
    episode: Episode, ticks: np.ndarray, shape: np.ndarray, looks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return how far down and right of where it rests the block in the hand is in some ``ticks`` of an episode,
    ``int64 (k, 2)``, and whether it was found at all, ``bool (k,)``.
    """
    rows, columns = shape.nonzero()
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    tall, wide = bottom - top, right - left
    far = max(1, int(tall // FARTHEST))
    room = np.pad(episode.frames[ticks] / np.float32(255), ((0, 0), (far, far), (far, far), (0, 0)))
    there = np.pad(np.ones(shape.shape, np.float32), far)
    own = looks[slots_of(episode.actions)[ticks]].transpose(0, 2, 3, 1)[:, top:bottom, left:right]
    inside = shape[top:bottom, left:right].astype(np.float32)
    best, offsets = np.full(len(ticks), np.inf), np.zeros((len(ticks), 2), np.int64)
    for down in range(-far, far + 1):
        for across in range(-far, far + 1):
            row, column = top + far + down, left + far + across
            at = slice(row, row + tall), slice(column, column + wide)
            weight = (inside * there[at])[None, :, :, None]
            picture, look = room[:, at[0], at[1]], own * weight
            square, common = (picture * picture * weight).sum((1, 2, 3)), (picture * look).sum((1, 2, 3))
            left_over = 1 - common**2 / np.maximum(square * (look * look).sum((1, 2, 3)), 1e-9)
            better = left_over < best
            best[better], offsets[better] = left_over[better], (down, across)
    return offsets, best < LIKE
