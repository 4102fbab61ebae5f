"""The block in the hand: which of the player's it is, and how a corner of the picture changes with it.

It moves with the lens, so neither memory nor motion ever changes it; it is put there when another one is chosen.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentcraft.model.actions import BUTTON_INDEX, HOTBAR_SLOTS
from latentcraft.model.matter import MatterNet
from latentcraft.model.scene import UNKNOWN, Place

CHOOSING = [BUTTON_INDEX[f"hotbar.{slot + 1}"] for slot in range(HOTBAR_SLOTS)]


class Held(NamedTuple):
    """What is in the hands of some worlds in the coming chunk."""

    slots: np.ndarray
    """Which of the player's blocks, ``int64 (k, f)``; :data:`latentcraft.model.scene.UNKNOWN` where nobody knows."""
    looks: Tensor
    """How that looks in the hand, ``(k, f, 3, H, W)``; anything where nothing is new."""
    new: np.ndarray | None
    """Where it is another one than in the last picture, ``bool (k, f, H, W)``; None if nowhere."""

    def shown_in(self, pictures: Tensor) -> Tensor:
        """Return ``pictures (k, f, 3, H, W)`` with what is new in the hand."""
        if self.new is None:
            return pictures
        return torch.where(torch.from_numpy(self.new).to(pictures.device)[:, :, None], self.looks, pictures)


def in_hand(
    net: MatterNet | None, places: Sequence[Place | None], picture: Tensor, actions: Tensor
) -> Held | None:  # fmt: skip
    """Return what is in the hands, None where nobody knows what there could be.

    Args:
        net: knows the looks.
        places: of the worlds, which note the block; None: it is looked for.
        picture: the last frames, ``(k, 3, H, W)``.
        actions: ``(k, f, a)``, which choose.
    """
    if net is None:
        return None
    seen = net.recognised(picture).cpu().numpy()
    before = [UNKNOWN if place is None else place.slot for place in places]
    before = [found if slot == UNKNOWN else slot for slot, found in zip(before, seen.tolist(), strict=True)]
    pressed = actions[..., CHOOSING].cpu().numpy() > 0
    slots = np.empty(pressed.shape[:2], np.int64)
    for index, first in enumerate(before):
        slot = first
        for frame, chosen in enumerate(pressed[index]):
            slots[index, frame] = slot = int(chosen.argmax()) if chosen.any() else slot
        place = places[index]
        if place is not None:
            place.slot = slot
    # Also where it was dreamed away in the meantime.
    other = (slots != seen[:, None]) & (slots != UNKNOWN)
    if not other.any():
        return Held(slots, picture[:, None], None)
    shape, looks = net.in_frame((picture.shape[2], picture.shape[3]))
    new = other[:, :, None, None] & shape.cpu().numpy()
    return Held(slots, looks[torch.from_numpy(slots).clamp(min=0)].to(picture.dtype), new)
