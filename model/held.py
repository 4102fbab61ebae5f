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

STRANGE = 0.3
"""Difference (of 2) from which on what is in the hand is none of the player's blocks."""
FADED = 0.05
"""By how much it may be less like the block that it is than like another one until that is shown again."""
AT_REST = 6
"""Ticks after the last stroke from which on the hand rests."""
DARKEST, LIGHTEST = 0.4, 1.3
"""Bounds of the light in which a block is held, beside the average one."""
STRIKING = [BUTTON_INDEX["attack"], BUTTON_INDEX["use"]]
CHOOSING = [BUTTON_INDEX[f"hotbar.{slot + 1}"] for slot in range(HOTBAR_SLOTS)]


class Held(NamedTuple):
    """What is in the hands of some worlds in the coming chunk."""

    slots: np.ndarray
    """Which of the player's blocks, ``int64 (k, f)``; :data:`latentcraft.model.scene.UNKNOWN` where nobody knows."""
    looks: Tensor
    """How that looks in the hand, ``(k, f, 3, H, W)``; anything where nothing is new."""
    new: np.ndarray | None
    """Where it is shown anew, ``bool (k, f, H, W)``: it is another one than in the last picture, or rests, when nothing
    but dreaming could change it; None if nowhere."""

    def shown_in(self, pictures: Tensor) -> Tensor:
        """Return ``pictures (k, f, 3, H, W)`` with what is new in the hand."""
        if self.new is None:
            return pictures
        return torch.where(torch.from_numpy(self.new).to(pictures.device)[:, :, None], self.looks, pictures)


def slots_of(actions: np.ndarray, before: int = 0) -> np.ndarray:
    """Return which block is in the hand after each of ``actions (t, a)``, ``int64 (t,)``; ``before`` the first of them,
    by default what a recording begins with.
    """
    slot, slots = before, np.empty(len(actions), np.int64)
    for tick, pressed in enumerate(actions[:, CHOOSING] > 0):
        slots[tick] = slot = int(pressed.argmax()) if pressed.any() else slot
    return slots


def in_hand(
    net: MatterNet | None, places: Sequence[Place | None], picture: Tensor, actions: Tensor,
    shown: np.ndarray | None = None, there: Tensor | None = None,
) -> Held | None:  # fmt: skip
    """Return what is in the hands, None where nobody knows what there could be.

    Args:
        net: knows the looks.
        places: of the worlds, which note the block; None: it is looked for.
        picture: the last frames as decoded, ``(k, 3, H, W)``.
        actions: ``(k, f, a)``, which choose.
        shown: the last frames as they were shown, ``uint8 (k, H, W, 3)``: of a real start these tell blocks apart that
            are alike as decoded.
        there: whether there is a last frame at all, ``bool (k,)``; None: there is.
    """
    if net is None:
        return None
    unlike = net.unlike(picture).cpu().numpy()
    before = [UNKNOWN if place is None else place.slot for place in places]
    if UNKNOWN in before:
        real = picture.float()
        if shown is not None:
            real = torch.from_numpy(shown).to(picture.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        first = unlike if shown is None else net.unlike(real).cpu().numpy()
        past = [True] * len(before) if there is None else there.tolist()
        shape, looks = net.in_frame((picture.shape[2], picture.shape[3]))
        for place, off, seen, one in zip(places, first, past, real, strict=True):
            if place is not None and place.slot == UNKNOWN and seen and off.min() < STRANGE and shape.any():
                share = (one[:, shape] + 1).mean() / (looks[int(off.argmin())][:, shape] + 1).mean().clamp(min=1e-3)
                place.light = float(share.clamp(DARKEST, LIGHTEST))
        before = [
            known if known != UNKNOWN or not seen else int(off.argmin()) if off.min() < STRANGE else UNKNOWN
            for known, off, seen in zip(before, first, past, strict=True)
        ]
    slots = np.stack([slots_of(*each) for each in zip(actions.cpu().numpy(), before, strict=True)])
    for place, row in zip(places, slots, strict=True):
        if place is not None:
            place.slot = int(row[-1])
    own = np.take_along_axis(unlike, np.maximum(slots, 0), 1)
    faded = own > unlike.min(1, keepdims=True) + FADED  # it was dreamed away in the meantime
    other = (slots != np.array(before)[:, None]) | faded | resting(places, actions)
    other &= slots != UNKNOWN
    if not other.any():
        return Held(slots, picture[:, None], None)
    shape, looks = net.in_frame((picture.shape[2], picture.shape[3]))
    light = torch.tensor([1.0 if place is None else place.light for place in places], device=picture.device)
    lit = (looks[torch.from_numpy(slots).clamp(min=0)] + 1) * light[:, None, None, None, None] - 1
    new = other[:, :, None, None] & shape.cpu().numpy()
    return Held(slots, lit.clamp(-1, 1).to(picture.dtype), new)


def resting(places: Sequence[Place | None], actions: Tensor) -> np.ndarray:
    """Return in which frames hands rest that were last seen at rest, ``bool (k, f)``; places note how long."""
    struck = actions[..., STRIKING].gt(0).any(-1).cpu().numpy()
    out = np.zeros(struck.shape, np.bool_)
    for place, row, strokes in zip(places, out, struck, strict=True):
        if place is not None:
            for frame, stroke in enumerate(strokes):
                place.rests = 0 if stroke else place.rests + 1
                row[frame] = place.rests > AT_REST
    return out
