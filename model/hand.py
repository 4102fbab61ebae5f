"""Hand: what the player's hand does to the world, tick by tick: whether something breaks under it or is placed.

When a block breaks depends on how long the button has been held on it, what it is made of and whether it is in reach:
events that are rare, sudden, and change everything after them. A net that denoises four frames at once would have to
find out all of that by itself, and where it cannot tell, squared error makes it draw half a block. So a small recurrent
net, which sees the middle of the last picture and the actions, says the events first, and the judge and the transformer
are told them: discrete latent events in front of continuous frames (cf. the discrete dynamics of DreamerV3, arXiv
2301.04104). It is taught by worlds that tell what the hand did (:data:`latentcraft.model.actions.CHANGES`).

It is always computed in fp32: its state is carried on through a whole game.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentcraft.model.actions import CHANGES, NUM_BUTTONS

IDLE = 0.02
"""Probability of an event in a tick below which nothing is under way."""
DUE = math.log(2)
"""Accumulated hazard from which on an event happens: it is then more likely than not to have happened by now."""


@dataclass(frozen=True)
class HandConfig:
    """Shape of the hand net."""

    chunk: int = 4
    """Frames in a chunk, ``f``."""
    channels: int = 8
    """Latent channels ``c``, equal to the autoencoder's."""
    width: int = 128
    """Width of its state."""
    window: int = 6
    """Latent positions per side that it sees, in the middle of the picture."""


class Grip(NamedTuple):
    """What some hands are at, and all that their next tick depends on besides what is seen; leading axis ``k``."""

    hidden: Tensor
    """State of the net, fp32 ``(k, width)``."""
    hazard: Tensor
    """Accumulated since the last event of each kind, or since nothing was under way, fp32 ``(k, 2)``."""
    changes: Tensor
    """Events of the last tick, fp32 ``(k, 2)``."""

    @classmethod
    def loose(cls, hands: int, width: int, device: torch.device | str = "cpu") -> "Grip":
        """Return hands that hold nothing."""
        hidden = torch.zeros(hands, width, device=device)
        return cls(hidden, hidden.new_zeros(hands, len(CHANGES)), hidden.new_zeros(hands, len(CHANGES)))


def middle_of(latents: Tensor, window: int) -> Tensor:
    """Cut the middle out of pictures ``(..., h, w, c)``, zeros beyond their border; ``(..., window, window, c)``."""
    for axis in (-3, -2):
        size = latents.shape[axis]
        if size < window:
            before = (window - size) // 2
            pad = [0] * (2 * -axis)
            pad[-2:] = [before, window - size - before]
            latents = F.pad(latents, pad)
        else:
            latents = latents.narrow(axis, (size - window) // 2, window)
    return latents


class HandNet(nn.Module):
    """A GRU over ticks, from the middle of the last picture, the action and the last event to the coming event."""

    def __init__(self, config: HandConfig = HandConfig()):  # noqa: B008 (frozen)
        super().__init__()
        self.config = config
        width = config.width
        self.glance = nn.Sequential(
            nn.Linear(config.window**2 * config.channels, width), nn.SiLU(), nn.Linear(width, width)
        )  # fmt: skip
        self.told = nn.Linear(NUM_BUTTONS + 4 + len(CHANGES), width)
        self.cell = nn.GRU(width, width, batch_first=True)
        self.final = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, len(CHANGES)))

    def middle(self, latents: Tensor) -> Tensor:
        """Cut the middle out of pictures ``(..., h, w, c)``, zeros beyond their border; ``(..., window**2 * c)``."""
        return middle_of(latents, self.config.window).flatten(-3)

    def forward(self, middle: Tensor, actions: Tensor, before: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Go through ticks.

        Args:
            middle: of the last picture that was finished before each tick, ``(k, t, window**2 * c)``.
            actions: ``(k, t, a)``.
            before: events of the tick before each, ``(k, t, 2)``.
            hidden: the state before the first, ``(k, width)``.

        Returns:
            Logits of the events, ``(k, t, 2)``, and the state after the last tick.
        """
        camera = actions[..., NUM_BUTTONS:]
        told = torch.cat([actions[..., :NUM_BUTTONS], camera / 10, torch.tanh(camera / 2), before], -1).float()
        seen = self.glance(middle.float())
        out, last = self.cell(F.silu(seen + self.told(told)), hidden[None].contiguous())
        return self.final(torch.cat([out, seen], -1)), last[0]


@torch.no_grad()
def work(net: HandNet, grip: Grip, latents: Tensor, actions: Tensor) -> tuple[Tensor, Grip]:
    """Let hands work for a chunk.

    An event happens when it is more likely than not to have happened by now, so that the same moves do the same again.

    Args:
        net: the hand net.
        grip: the hands.
        latents: of the last pictures, ``(k, h, w, c)``.
        actions: ``(k, f, a)``.

    Returns:
        The events of each tick, fp32 ``(k, f, 2)``, 0 or 1, and the hands after them.
    """
    middle, ticks = net.middle(latents)[:, None], []
    for action in actions.split(1, 1):
        logits, hidden = net(middle, action, grip.changes[:, None], grip.hidden)
        hazard = F.softplus(logits[:, 0])  # -log(1 - p)
        due = torch.where(hazard < -math.log1p(-IDLE), 0.0, grip.hazard + hazard)
        happens = due >= DUE
        grip = Grip(hidden, torch.where(happens, 0.0, due), happens.float())
        ticks.append(grip.changes)
    return torch.stack(ticks, 1), grip
