"""A dream whose context can be shortened or noised otherwise than in play, and whose frames can be left undecoded."""

import copy
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from latentcraft.errors import UserError
from latentcraft.model.checkpoint import WorldModel
from latentcraft.model.objective import CONTEXT_SIGNAL
from latentcraft.simulator.dream.world import DreamWorld


@dataclass(frozen=True)
class Knobs:
    """What can be changed about a checkpoint's dream without training."""

    steps: int = 4
    """Denoising steps a chunk: 1, 2, 4 or 8."""
    context: int | None = None
    """Chunks a query sees, itself included; None takes the checkpoint's."""
    noise: float = round(1 - CONTEXT_SIGNAL, 6)
    """Share of noise in finished chunks as they are fed back, 0 to 1."""

    def __post_init__(self) -> None:
        if not 0 <= self.noise <= 1:
            raise UserError(f"context_noise must be between 0 and 1, got {self.noise:g}")

    @property
    def name(self) -> str:
        """What differs from play, in words; empty if nothing does."""
        usual = Knobs()
        parts = [
            f"{self.steps} step" + "s" * (self.steps != 1) if self.steps != usual.steps else "",
            f"context of {self.context}" if self.context is not None else "",
            f"context noise {self.noise:g}" if self.noise != usual.noise else "",
        ]
        return ", ".join(part for part in parts if part)


class TunedDream(DreamWorld):
    """The dream with :class:`Knobs`; with the usual ones it is :class:`DreamWorld` to the bit."""

    def __init__(self, model: WorldModel, *, num_worlds: int = 1, task: str = "free", knobs: Knobs | None = None):
        """Allocate the cache.

        Args:
            model: the loaded checkpoint; it is not changed.
            num_worlds: batch ``b``.
            task: what rewards and ends are read for.
            knobs: None takes the usual ones.
        """
        self.knobs = Knobs() if knobs is None else knobs
        self._drawn = True
        if self.knobs.context is not None:
            dit = copy.copy(model.dit)  # shares every weight; only the config differs
            dit.config = replace(dit.config, context=self.knobs.context)
            model = replace(model, dit=dit)
        super().__init__(num_worlds=num_worlds, task=task, checkpoint=model, steps=self.knobs.steps)
        if self.knobs.noise != Knobs().noise:  # 1 - (1 - 0.9) is not 0.9 to the bit
            self._context_signal = 1 - self.knobs.noise

    def skip(self, actions: np.ndarray) -> None:
        """Dream one chunk that nobody will see: without decoding it, which is half of the time.

        A dream with a memory of places remembers what it showed, and is decoded all the same.
        """
        self._drawn = False
        try:
            self.step(actions)
        finally:
            self._drawn = True

    def _decode(self, latents: Tensor) -> np.ndarray:
        if self._drawn or self.model.scene is not None:
            return super()._decode(latents)
        return np.zeros((*latents.shape[:2], 0, 0, 3), np.uint8)
