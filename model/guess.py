"""What is known of the coming chunk before it is dreamed: a normal distribution, and what is news against it."""

from typing import NamedTuple

import torch
from torch import Tensor

from latentcraft.model.actions import CHANGES
from latentcraft.model.cells import no_holds

FORESEEN = 0.5
"""Largest spread by which news is measured. Two pictures that have nothing to do with each other differ by 2. Of the
positions in which something really broke or appeared under the hand 75 % are news so, and 29 % without the bound."""


class Guess(NamedTuple):
    """A normal distribution over the next chunk, fp32, independent at each entry."""

    mean: Tensor
    """``(..., f, h, w, c)``."""
    spread: Tensor
    """Standard deviation ``(..., f, h, w, 1)``, 0.14 to 1."""
    carried: Tensor
    """The mean as it would be if the judge had corrected nothing, ``(..., f, h, w, c)``: what memory and motion say."""
    changes: Tensor
    """What the hand does to the world in each frame, ``(..., f, 2)``, 0 or 1; see hand.py."""
    holds: Tensor
    """Which cells it has changed by each frame, ``(..., f, 2, 6)``, see :func:`latentcraft.model.cells.hold`; NaN where
    none was, or nobody knows which."""
    settled: Tensor
    """Where what the hand does is seen to already, ``(..., f, h, w, 1)``, 0 or 1; see handiwork.py. The touch draws the
    rest."""

    def draw(self, noise: Tensor) -> Tensor:
        """Turn standard normal ``noise`` into a sample."""
        return self.mean + self.spread * noise

    def add_axis(self, axis: int) -> "Guess":
        """Insert an axis of length 1."""
        return Guess(*(part.unsqueeze(axis) for part in self))

    @classmethod
    def of_nothing(cls, chunks: Tensor) -> "Guess":
        """Return standard normals for ``chunks`` ``(..., f, h, w, c)``: the guess of who knows nothing."""
        mean = torch.zeros_like(chunks, dtype=torch.float32)
        changes = mean.new_zeros(*mean.shape[:-3], len(CHANGES))
        nowhere = torch.zeros_like(mean[..., :1])
        return cls(mean, torch.ones_like(nowhere), mean, changes, no_holds(changes), nowhere)


def surprise(latents: Tensor, guess: Guess) -> Tensor:
    """Return how far ``latents (..., f, h, w, c)`` are from what was there before, carried to where it is now, in the
    variances that ``guess`` expected, ``(..., f, h, w)``. A block that breaks is news also where the judge foresaw it:
    what was carried there is the old block, and a spread beyond :data:`FORESEEN` is no excuse.
    """
    error = (latents.float() - guess.carried).square().mean(-1)
    return error / guess.spread[..., 0].clamp(max=FORESEEN).square()
