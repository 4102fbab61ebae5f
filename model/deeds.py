"""Deeds: what is paid for what a hand does, told by the pictures in front of it.

Some tasks pay for nothing but deeds: a block dug, a block placed. The transformer's head learns what is paid along
recorded clips, dreamed anew; but after a second or two a dream goes its own ways, and the block that breaks there is
not the one that broke in truth. The head can only learn to doubt everything, and an agent that dreams finds nothing
worth doing (in chop it was told a twentieth to a fifth of what such games pay). Whatever a dream shows, though, it pays
for as the world that it was learned from would: which block breaks is seen in the middle of the picture just before. A
small net learns that from recordings, where picture and pay belong together.

Nothing here knows what is paid: for which tasks deeds are all that pays is seen in the recordings, too. It is always
computed in fp32.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentcraft.model.actions import CHANGES
from latentcraft.model.hand import middle_of
from latentcraft.model.outcomes import REWARD_BINS, Outcomes
from latentcraft.model.tasks import TASKS

FRAMES = 2
"""Pictures before a deed that are looked at."""


@dataclass(frozen=True)
class DeedConfig:
    """Shape of the deed net."""

    channels: int = 8
    """Latent channels ``c``, equal to the autoencoder's."""
    window: int = 6
    """Latent positions per side that it sees, in the middle of the picture."""
    width: int = 48
    """Of its convolutions."""
    features: int = 64
    """Of the layer behind them."""
    dropout: float = 0.3
    """Share of features that are left out while it learns: deeds are few."""


class DeedNet(nn.Module):
    """From the pictures before a deed to what it pays."""

    by_deeds: Tensor
    """Tasks that pay for deeds only, ``bool (tasks,)``."""

    def __init__(self, config: DeedConfig = DeedConfig()):  # noqa: B008 (frozen)
        super().__init__()
        self.config = config
        width, self.window = config.width, config.window
        self.look = nn.Conv2d(FRAMES * config.channels, width, 3, padding=1)
        self.see = nn.Conv2d(width, width, 3, padding=1)
        self.read = nn.Linear(width * self.window**2, config.features)
        self.told = nn.Linear(len(TASKS) + len(CHANGES), config.features)
        self.pay = nn.Linear(config.features, len(REWARD_BINS))
        self.dropout = nn.Dropout(config.dropout)
        self.register_buffer("by_deeds", torch.zeros(len(TASKS), dtype=torch.bool))

    def forward(self, seen: Tensor, changes: Tensor, task: Tensor) -> Tensor:
        """Return logits over :data:`latentcraft.model.outcomes.REWARD_BINS`, ``(k, bins)``.

        Args:
            seen: middles of the :data:`FRAMES` pictures before, ``(k, FRAMES, window, window, c)``.
            changes: what was done, see :data:`latentcraft.model.actions.CHANGES`, ``(k, 2)``.
            task: ``int64 (k,)``.
        """
        x = seen.float().permute(0, 1, 4, 2, 3).flatten(1, 2)
        x = F.silu(self.see(F.silu(self.look(x)))).flatten(1)
        told = torch.cat([F.one_hot(task, len(TASKS)), changes], -1).float()
        out: Tensor = self.pay(self.dropout(F.silu(self.read(self.dropout(x)) + self.told(told))))
        return out

    @torch.no_grad()
    def settled(self, reward: Tensor, past: Tensor, latents: Tensor, changes: Tensor, task: Tensor) -> Tensor:
        """Return logits ``reward (b, f, bins)`` of chunks with what deeds pay in place of them, in worlds whose task
        pays for deeds only.

        Args:
            reward: what the transformer's head says.
            past: the chunks before, ``(b, f, h, w, c)``.
            latents: the chunks.
            changes: what hands do in them, ``(b, f, 2)``.
            task: ``int64 (b,)``.
        """
        ours = self.by_deeds[task]
        if not ours.any():
            return reward
        nothing = Outcomes.of_nothing(tuple(reward.shape[:-1]), reward.device).reward.to(reward.dtype)
        reward = torch.where(ours[:, None, None], nothing, reward)
        before = middle_of(torch.cat([past[:, -FRAMES:], latents], 1), self.window)
        for world, tick in (ours[:, None] & (changes > 0).any(-1)).nonzero().tolist():
            # One by one, so that no world's bits depend on what others do.
            seen = before[world, tick : tick + FRAMES][None]
            said = self(seen, changes[world, tick][None], task[world][None])
            reward[world, tick] = said[0].to(reward.dtype)
        return reward
