"""Outcomes: what each frame of a chunk pays and whether the task ends with it, as logits, and how they are read."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

REWARD_BINS: tuple[float, ...] = (-1.0, -0.5, -0.2, -0.1, -0.05, -0.02, 0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Values of the reward head's classes; a reward in between is split over its two neighbours (two-hot, DreamerV3)."""
NEVER = 20.0
"""Logit of what is certain, its negative of what never is."""


class Outcomes(NamedTuple):
    """Logits read off a finished chunk."""

    reward: Tensor
    """``(..., f, len(REWARD_BINS))``."""
    terminated: Tensor
    """``(..., f)``."""

    @classmethod
    def of_nothing(cls, shape: tuple[int, ...], device: torch.device) -> "Outcomes":
        """Return those of frames ``shape (..., f)`` in which nothing is paid and nothing ends."""
        paid = torch.full((*shape, len(REWARD_BINS)), -NEVER, device=device)
        paid[..., REWARD_BINS.index(0.0)] = NEVER
        return cls(paid, torch.full(shape, -NEVER, device=device))


def two_hot(rewards: Tensor) -> Tensor:
    """Split rewards ``(...)`` over their neighbouring bins, ``(..., len(REWARD_BINS))``."""
    bins = torch.tensor(REWARD_BINS, device=rewards.device)
    rewards = rewards.float().clamp(bins[0], bins[-1])
    upper = torch.searchsorted(bins, rewards.contiguous()).clamp(1, len(bins) - 1)
    share = (rewards - bins[upper - 1]) / (bins[upper] - bins[upper - 1])
    low = F.one_hot(upper - 1, len(bins)) * (1 - share)[..., None]
    return low + F.one_hot(upper, len(bins)) * share[..., None]


def expected_reward(logits: Tensor) -> Tensor:
    """Mean of the reward head's distribution, ``(..., bins) -> (...)``."""
    return logits.float().softmax(-1) @ torch.tensor(REWARD_BINS, device=logits.device)
