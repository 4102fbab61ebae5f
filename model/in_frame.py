"""Places of a frame's grid: where they lie, and what the hand's changes are to them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from latentcraft.model.cells import meetings

CENTRES = (0.05, 0.12, 0.3)
"""Widths, in frame heights, of the bumps at the middle of the frame that tell a place how near to it it lies."""
AROUND = 4 + len(CENTRES)
"""Numbers by which a place tells the hand's changes how near to the middle it lies, see :func:`changed_places`."""
REACH = 0.6
"""How far from the middle of the picture a hand changes it, in frame heights: a block close by fills that."""


def coordinates(h: int, w: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return y and x ``(h, w)`` of the grid's centres, 0 in the middle, in units of the frame's height."""
    y = (torch.arange(h, device=device) + 0.5) / h - 0.5
    x = ((torch.arange(w, device=device) + 0.5) - w / 2) / h
    return y[:, None].expand(h, w), x[None].expand(h, w)


def place_features(h: int, w: int, device: torch.device) -> Tensor:
    """Return what tokens of a grid are told of their place in the frame, ``(h * w, 3 + len(CENTRES))``: y and x from
    the middle in frame heights, which any aspect has, the squared distance, and :data:`CENTRES`.
    """
    y, x = coordinates(h, w, device)
    distance = y.square() + x.square()
    bumps = [torch.exp(-distance / (2 * width**2)) for width in CENTRES]
    return torch.stack([y, x, distance, *bumps], -1).flatten(0, 1)


def has_happened(changes: Tensor) -> Tensor:
    """Return in which frames the hand has changed something in their chunk, ``(..., f, 2) -> bool (..., f)``."""
    return (changes.cumsum(-2) > 0).any(-1)


def hand_region(changes: Tensor, holds: Tensor, h: int, w: int) -> Tensor:
    """Return where the hand may have changed a picture, ``bool (..., f, h, w, 1)``: in the frames that
    :func:`has_happened` names, within :data:`REACH` of its middle and where the changed cells are (``holds``, see
    :class:`Guess`).
    """
    y, x = coordinates(h, w, changes.device)
    near = (y.square() + x.square() < REACH**2) | meetings(holds, h, w).any(-1)
    return (has_happened(changes)[..., None, None] & near)[..., None]


def some_at_once(chosen: Tensor) -> Sequence[Tensor]:
    """Return the indices of the ``chosen``, ``bool (k,)``: together where a net learns from them, else one by one, so
    that what comes of one does not hang on how many others there are, not even in the last bit.
    """
    if chosen.is_meta:  # where only sizes are counted nothing happens
        return ()
    rows = chosen.nonzero()[:, 0]
    return () if not len(rows) else (rows,) if torch.is_grad_enabled() else rows.split(1)


def changed_places(changes: Tensor, h: int, w: int) -> Tensor:
    """Return what places of a grid are told of the hand's ``changes (..., f, 2)``: whether each kind has happened in
    the chunk by each frame, alone and times :func:`place_features`, ``(..., f, h * w, 2 * AROUND)``.
    """
    happened = (changes.cumsum(-2) > 0).float()
    place = place_features(h, w, changes.device)
    place = torch.cat([torch.ones_like(place[:, :1]), place], -1)
    return (happened[..., None, :, None] * place[:, None, :]).flatten(-2)
