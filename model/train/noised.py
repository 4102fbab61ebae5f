"""A training batch: a clean copy of each clip and several noised ones, with everything the net is conditioned on."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from latentcraft.model.dit import Prediction
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

    @classmethod
    def make(
        cls, clips: Clips, signal: Tensor, step: Tensor, context_signal: Tensor, has_actions: Tensor,
        generator: torch.Generator,
    ) -> "Noised":  # fmt: skip
        """Noise ``clips`` once at ``context_signal (b, t)`` and as often as ``signal (b, k, t)`` says."""
        device = clips.latents.device
        levels = torch.cat([context_signal[:, None].to(device), signal], 1)
        b, g, t = levels.shape
        noise = torch.randn((b, g, *clips.latents.shape[1:]), generator=generator).to(device)
        steps = torch.cat([torch.zeros(b, 1, t, dtype=torch.int64, device=device), step], 1)
        latents = add_noise(clips.latents[:, None], noise, levels)
        return cls(latents, levels, steps, clips.actions, has_actions.to(device), clips.task)

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
            self.latents, self.signal, self.step, self.actions, has_actions=self.has_actions, task=self.task
        )
