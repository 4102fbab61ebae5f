"""Goals: what is paid for the way to somewhere, and where it ends, told by the pictures on the way.

Some tasks pay for coming nearer to a place, or for reaching it, and for nothing else. The transformer's head learns
that along recorded clips, dreamed anew, by players that know where the place is: going pays, it learns, whatever is
seen (what it paid had a correlation of 0.1 to 0.3 with what the same moves were paid in truth). Here what is paid is a
picture's word on a direction times the way that the eye goes, which a dream knows as well as its picture: only where
in the picture it pays to go is left to learn. That may be anywhere and small, so the net finds features first and only
then asks where they are (spatial soft-argmax, Finn et al. 2016, arXiv 1509.06113).

Nothing here knows what is paid: for which tasks the way is all that pays is seen in the recordings, too. It is always
computed in fp32.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentcraft.model.outcomes import Outcomes, two_hot
from latentcraft.model.tasks import TASKS

SURE = 1e-9
"""Least probability of a bin, so that logits stay finite."""


@dataclass(frozen=True)
class GoalConfig:
    """Shape of the goal net."""

    channels: int = 8
    """Latent channels ``c``, equal to the autoencoder's."""
    width: int = 32
    """Of its convolutions."""
    finds: int = 24
    """Features whose strength and place in the picture are read."""
    features: int = 48
    """Of the layer behind them."""
    dropout: float = 0.1
    """Share of features that are left out while it learns."""


class GoalNet(nn.Module):
    """From a picture and where the eye goes from there to what that pays, and whether the task ends by it."""

    by_goals: Tensor
    """Tasks that pay for the way or its end only, ``bool (tasks,)``."""
    prize: Tensor
    """What the end of each pays, ``(tasks,)``."""
    unit: Tensor
    """Usual pay of a tick on the way, ``()``."""
    pace: Tensor
    """Usual way of a tick, metres, ``()``."""

    def __init__(self, config: GoalConfig = GoalConfig()):  # noqa: B008 (frozen)
        super().__init__()
        self.config = config
        self.look = nn.Conv2d(config.channels, config.width, 3, padding=1)
        self.see = nn.Conv2d(config.width, config.width, 3, padding=1)
        self.find = nn.Conv2d(config.width, config.finds, 1)
        self.read = nn.Linear(3 * config.finds, config.features)
        self.told = nn.Linear(len(TASKS), config.features)
        self.pay = nn.Linear(config.features, 6)
        self.dropout = nn.Dropout(config.dropout)
        self.register_buffer("by_goals", torch.zeros(len(TASKS), dtype=torch.bool))
        self.register_buffer("prize", torch.zeros(len(TASKS)))
        self.register_buffer("unit", torch.ones(()))
        self.register_buffer("pace", torch.ones(()))

    def forward(self, seen: Tensor, moved: Tensor, task: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the way pays and logits of the end, ``(k,)`` each.

        Args:
            seen: pictures before, ``(k, h, w, c)``, of any size.
            moved: where the eye goes from there in a tick, metres to its right and ahead, see :func:`moved_by`,
                ``(k, 2)``.
            task: ``int64 (k,)``.
        """
        x = self.find(F.silu(self.see(F.silu(self.look(seen.float().permute(0, 3, 1, 2))))))
        across = torch.linspace(-1, 1, x.shape[-1], device=x.device)
        down = torch.linspace(-1, 1, x.shape[-2], device=x.device)
        there = x.flatten(2).softmax(-1).view_as(x)
        strength = x.flatten(2).logsumexp(-1) - math.log(x.shape[-2] * x.shape[-1])
        found = torch.cat([strength, (there.sum(-2) * across).sum(-1), (there.sum(-1) * down).sum(-1)], -1)
        told = self.told(F.one_hot(task, len(TASKS)).float())
        said = self.pay(self.dropout(F.silu(self.read(found) + told)))
        moved = moved.float() / self.pace
        going = torch.cat([moved, moved.norm(dim=-1, keepdim=True)], -1)
        return self.unit * (said[:, :3] * going).sum(-1), said[:, 3] + (said[:, 4:] * moved).sum(-1)

    @torch.no_grad()
    def settled(self, outcomes: Outcomes, past: Tensor, latents: Tensor, moved: Tensor, task: Tensor) -> Outcomes:
        """Return ``outcomes`` of chunks with what the way pays, and where it ends, in place of them, in worlds whose
        task pays for that only.

        Args:
            outcomes: what the transformer's head says, ``(b, f, ...)``.
            past: the chunks before, ``(b, f, h, w, c)``.
            latents: the chunks.
            moved: where the eye goes in each tick, ``(b, f, 2)``; NaN where nobody knows: there the head's word stays.
            task: ``int64 (b,)``.
        """
        ours = self.by_goals[task] & ~moved.isnan().any(-1).any(-1)
        if not ours.any():
            return outcomes
        reward, terminated = outcomes.reward.clone(), outcomes.terminated.clone()
        before = torch.cat([past[:, -1:], latents[:, :-1]], 1)
        for world in ours.nonzero()[:, 0].tolist():
            # One by one, so that no world's bits depend on what others do.
            way, end = self(before[world], moved[world], task[world].expand(before.shape[1]))
            paid = way + self.prize[task[world]] * end.sigmoid()
            reward[world] = two_hot(paid).clamp_min(SURE).log().to(reward.dtype)
            terminated[world] = end.to(terminated.dtype)
        return Outcomes(reward, terminated)


def moved_by(eyes: Tensor) -> Tensor:
    """Return where eyes go, metres to the right and ahead of where each looked before, ``(..., t - 1, 2)`` for
    ``float64 (..., t, 5)``; see :mod:`latentcraft.model.camera`.
    """
    step, yaw = eyes[..., 1:, :3] - eyes[..., :-1, :3], torch.deg2rad(eyes[..., :-1, 3])
    right = -yaw.cos() * step[..., 0] - yaw.sin() * step[..., 2]
    ahead = -yaw.sin() * step[..., 0] + yaw.cos() * step[..., 2]
    return torch.stack([right, ahead], -1).float()
