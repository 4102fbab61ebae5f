"""A dream whose context can be shortened or noised otherwise than in play, and which can leave frames undecoded."""

import copy
from dataclasses import dataclass, replace

import numpy as np

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
        if self.knobs.context is not None:
            dit = copy.copy(model.dit)  # shares every weight; only the config differs
            dit.config = replace(dit.config, context=self.knobs.context)
            model = replace(model, dit=dit)
        super().__init__(num_worlds=num_worlds, task=task, checkpoint=model, steps=self.knobs.steps)
        if self.knobs.noise != Knobs().noise:  # 1 - (1 - 0.9) is not 0.9 to the bit
            self._context_signal = 1 - self.knobs.noise

    def skip(self, actions: np.ndarray) -> None:
        """Dream one chunk that nobody will see: only its last frame is decoded, which the next chunk needs.

        The game goes on by the same bits as if all had been. As the last frames count that one, standing still.
        """
        spec = self._spec
        self._spec = replace(spec, frames="none")
        try:
            self.step(actions)
        finally:
            self._spec = spec
        self._frames = np.repeat(self._frames[:, -1:], max(1, spec.shown), axis=1)
