"""The coming pictures as far as they are known, put together of what was moved, remembered and is in the hand."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from latentcraft.model.held import Held
from latentcraft.model.motion import Flow, Found, sample
from latentcraft.model.scene import Seen
from latentcraft.model.views import Views


def compose(
    picture: Tensor, flow: Flow, views: Sequence[Views | None], seen: Seen | None, held: Held | None = None
) -> Found:  # fmt: skip
    """Return the coming pictures as far as they are known.

    Args:
        picture: the last frames, ``(k, 3, H, W)``.
        flow: where the motion net looks in them.
        views: what is remembered of the coming ones.
        seen: depth of the last frames; what moves with the lens stays where it was.
        held: what is in the hand, where that changes.
    """
    moved, inside = sample(picture, flow.flow)
    remembered = torch.zeros_like(inside)
    coarseness = torch.ones(inside.shape, device=inside.device)
    if seen is not None and any(view is not None for view in views):
        shape = inside.shape[1:]
        empty = np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.bool_), np.ones(shape, np.float32)
        parts = [empty if view is None else (view.pictures, view.known, view.coarseness) for view in views]
        pixels, known, coarse = (
            torch.from_numpy(np.stack(part)).to(picture.device) for part in zip(*parts, strict=True)
        )
        attached = torch.from_numpy(seen.distances == 0).to(picture.device)[:, None]
        any_view = torch.tensor([view is not None for view in views], device=picture.device)[:, None, None, None]
        attached = attached & any_view
        if held is not None and held.around is not None:  # what is behind it may come into view
            around = torch.from_numpy(held.around).to(picture.device)[:, None]
            attached, inside = attached & ~around, inside & ~around
        remembered, coarseness = known & ~attached, torch.where(known, coarse, 1.0)
        shown = pixels.permute(0, 1, 4, 2, 3).float() / 127.5 - 1
        moved = torch.where(remembered[:, :, None], shown, moved)
        moved = torch.where(attached[:, :, None], picture[:, None], moved)
        inside = inside | remembered | attached
    if held is not None and held.new is not None:
        moved, hand = held.shown_in(moved), torch.from_numpy(held.new).to(picture.device)
        inside, remembered = inside | hand, remembered & ~hand
    return Found(moved, inside, remembered, coarseness)
