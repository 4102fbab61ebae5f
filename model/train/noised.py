"""A training batch: a clean copy of each clip and several noised ones, with everything the net is conditioned on."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from latentcraft.model.dit import Prediction
from latentcraft.model.guess import Guess
from latentcraft.model.latents import Clips
from latentcraft.model.objective import add_noise


class Noised(NamedTuple):
    """Arguments of :meth:`latentcraft.model.dit.SpacetimeDiT.forward`; copy 0 is the context."""

    latents: Tensor
    """``(b, g, t, f, h, w, c)``."""
    signal: Tensor
    """``(b, g, t)``."""
    step: Tensor
    """``int64 (b, g, t)``."""
    actions: Tensor
    """``(b, t, f, a)``."""
    has_actions: Tensor
    """``bool (b,)``."""
    task: Tensor
    """``int64 (b,)``."""
    past: Tensor
    """The chunk before each, ``(b, t, f, h, w, c)``."""
    guess: Guess
    """What motion says of each chunk, ``(b, t, ...)``, without gradient."""

    @classmethod
    def make(
        cls, clips: Clips, finished: Tensor, past: Tensor, guess: Guess, signal: Tensor, step: Tensor,
        context_signal: Tensor, has_actions: Tensor, noise: Tensor,
    ) -> "Noised":  # fmt: skip
        """Noise the context once at ``context_signal (b, t)`` and the clips as often as ``signal (b, k, t)`` says.

        Args:
            clips: the truth.
            finished: what the context shows, ``(b, t, f, h, w, c)``: the truth, or the net's own attempts at it.
            past: see :attr:`past`.
            guess: see :attr:`guess`; noised copies lie between a draw from it and the truth.
            signal: of the noised copies.
            step: of the noised copies, ``int64 (b, k, t)``.
            context_signal: of the context copy.
            has_actions: see :meth:`latentcraft.model.dit.SpacetimeDiT.forward`.
            noise: standard normal, ``(b, 1 + k, t, f, h, w, c)``.
        """
        device = clips.latents.device
        b, _, t = signal.shape
        noise, context_signal = noise.to(device), context_signal.to(device)
        context = add_noise(finished, noise[:, 0], context_signal)
        source = guess.mean[:, None] + guess.spread[:, None] * noise[:, 1:]
        copies = add_noise(clips.latents[:, None], source, signal)
        return cls(
            torch.cat([context[:, None], copies], 1), torch.cat([context_signal[:, None], signal], 1),
            torch.cat([torch.zeros(b, 1, t, dtype=torch.int64, device=device), step], 1), clips.actions,
            has_actions.to(device), clips.task, past, guess,
        )  # fmt: skip

    def replace_copies(self, latents: Tensor, signal: Tensor, step: Tensor) -> "Noised":
        """Return the batch with other noised copies ``(b, k, ...)`` beside the same context."""
        return self._replace(
            latents=torch.cat([self.latents[:, :1], latents], 1),
            signal=torch.cat([self.signal[:, :1], signal], 1),
            step=torch.cat([self.step[:, :1], step], 1),
        )

    def run(self, forward: Callable[..., Prediction]) -> Prediction:
        """Call a transformer on it."""
        return forward(
            self.latents, self.signal, self.step, self.actions, has_actions=self.has_actions, task=self.task,
            past=self.past, guess=self.guess,
        )  # fmt: skip
