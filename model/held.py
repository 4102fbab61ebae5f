"""The block in the hand: which of the player's it is, and how a corner of the picture changes with it.

It moves with the lens, so neither memory nor motion ever changes it; it is drawn there, and swings as the hand strikes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentcraft.model.actions import BUTTON_INDEX, CHANGES, HOTBAR_SLOTS
from latentcraft.model.matter import MatterNet
from latentcraft.model.place import UNKNOWN, Place

STRANGE = 0.3
"""Difference (of 2) from which on what is in the hand is none of the player's blocks."""
ATTACK, PLACED = BUTTON_INDEX["attack"], CHANGES.index("placed")
CHOOSING = [BUTTON_INDEX[f"hotbar.{slot + 1}"] for slot in range(HOTBAR_SLOTS)]


class Held(NamedTuple):
    """What is in the hands of some worlds in the coming chunk."""

    slots: np.ndarray
    """Which of the player's blocks, ``int64 (k, f)``; :data:`latentcraft.model.place.UNKNOWN` where nobody knows."""
    looks: Tensor
    """How that looks in the hand, ``(k, f, 3, H, W)``; anything where nothing is shown."""
    new: np.ndarray | None
    """Where it is shown, ``bool (k, f, H, W)``; None if nowhere."""
    around: np.ndarray | None = None
    """Where it may have been in the last picture, ``bool (k, H, W)``; None where it was where it is."""

    def shown_in(self, pictures: Tensor) -> Tensor:
        """Return ``pictures (k, f, 3, H, W)`` with what is in the hand."""
        if self.new is None:
            return pictures
        return torch.where(torch.from_numpy(self.new).to(pictures.device)[:, :, None], self.looks, pictures)

    def pixels(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return where it is shown in a world, ``bool (f, H, W)``, and how, ``uint8 (f, H, W, 3)``; None if nowhere."""
        if self.new is None or not self.new[index].any():
            return None
        looks = (self.looks[index] * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
        return self.new[index], looks.permute(0, 2, 3, 1).cpu().numpy()


def slots_of(actions: np.ndarray, before: int = 0) -> np.ndarray:
    """Return which block is in the hand after each of ``actions (t, a)``, ``int64 (t,)``; ``before`` the first of them,
    by default what a recording begins with.
    """
    slot, slots = before, np.empty(len(actions), np.int64)
    for tick, pressed in enumerate(actions[:, CHOOSING] > 0):
        slots[tick] = slot = int(pressed.argmax()) if pressed.any() else slot
    return slots


def phases_of(strikes: np.ndarray, starts: np.ndarray, period: int, before: int = 0) -> np.ndarray:
    """Return how far a hand's swing is in each tick, ``int64 (t,)``, 0 to ``period - 1``; 0 is at rest. A swing that
    has begun is finished.

    Args:
        strikes: whether the hand is made to swing in each tick, ``bool (t,)``.
        starts: whether a swing begins in it anew, ``bool (t,)``.
        period: ticks that a swing takes.
        before: the phase before the first.
    """
    phase, phases = before, np.empty(len(strikes), np.int64)
    for tick, (strike, start) in enumerate(zip(strikes, starts, strict=True)):
        phase = (phase + 1) % period if phase or strike else 0
        phases[tick] = phase = 1 % period if start else phase
    return phases


def in_hand(
    net: MatterNet | None, places: Sequence[Place | None], picture: Tensor, actions: Tensor,
    shown: np.ndarray | None = None, there: Tensor | None = None, changes: Tensor | None = None,
) -> Held | None:  # fmt: skip
    """Return what is in the hands, None where nobody knows what there could be.

    Args:
        net: knows the looks.
        places: of the worlds, which note the block and the swing; None: it is looked for, and shown only where it
            changes.
        picture: the last frames as decoded, ``(k, 3, H, W)``.
        actions: ``(k, f, a)``, which choose and strike.
        shown: the last frames as they were shown, ``uint8 (k, H, W, 3)``: of a real start these tell blocks apart that
            are alike as decoded.
        there: whether there is a last frame at all, ``bool (k,)``; None: there is.
        changes: what the hand does, ``(k, f, 2)``; None: nothing.
    """
    if net is None:
        return None
    before = [UNKNOWN if place is None else place.slot for place in places]
    size = (picture.shape[2], picture.shape[3])
    around = net.around(size)
    if UNKNOWN in before and around.any():
        real = picture.float()
        if shown is not None:
            real = torch.from_numpy(shown).to(picture.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        unlike, lights = (part.cpu().numpy() for part in net.unlike(real))
        past = [True] * len(before) if there is None else there.tolist()
        for index, place in enumerate(places):
            slot = int(unlike[index].argmin())
            if before[index] == UNKNOWN and past[index] and unlike[index, slot] < STRANGE:
                before[index] = slot
                if place is not None:
                    place.light = float(lights[index, slot])
    acted = actions.cpu().numpy()
    slots = np.stack([slots_of(*each) for each in zip(acted, before, strict=True)])
    starts = np.zeros(slots.shape, np.bool_)
    if changes is not None and net.config.placing_swings:
        starts = changes[..., PLACED].cpu().numpy() > 0
    new = np.zeros((*slots.shape, *size), np.bool_)
    drawn = torch.zeros(*slots.shape, 3, *size, device=picture.device)
    whole, period = np.zeros((len(places), *size), np.bool_), len(net.swing)
    for index, place in enumerate(places):
        phases = np.zeros(len(slots[index]), np.int64)
        if place is not None:
            phases = phases_of(acted[index, :, ATTACK] > 0, starts[index], period, place.swing)
            place.slot, place.swing = int(slots[index, -1]), int(phases[-1])
            if (slots[index] != UNKNOWN).any():
                whole[index] = around
        for frame, (slot, phase) in enumerate(zip(slots[index], phases, strict=True)):
            if slot != UNKNOWN and (place is not None or slot != before[index]):
                where, look = net.held(size, int(slot), int(phase))
                new[index, frame] = where
                drawn[index, frame] = (look * (1.0 if place is None else place.light) - 1).clamp(max=1)
    return Held(slots, drawn.to(picture.dtype), new if new.any() else None, whole)
