"""What the other of two futures does: the same under other noise, nothing, what was done before, or as it likes."""

import numpy as np

from latentcraft.agents.players import EXPLORER, Player, make_player
from latentcraft.model.actions import noop
from latentcraft.simulator.protocol import World

SAME, NOTHING, RECORDED = "the same", "nothing", "what you did before"
OTHERS = (SAME, NOTHING, RECORDED, EXPLORER)
"""All there is; :data:`RECORDED` only where something is left of it."""


class Other:
    """Chooses the other future's actions."""

    def __init__(self) -> None:
        """Begin with doing the same."""
        self.name = SAME
        """One of :data:`OTHERS`."""
        self.recorded: list[np.ndarray] = []
        """Actions ``float32 (f, 20)`` that going back cut off and that are still to come, oldest first."""
        self._explorer: Player | None = None

    def do(self, name: str) -> None:
        """Do ``name`` from now on."""
        self.name, self._explorer = name, None

    def next_name(self) -> str:
        """Return what comes after what it does now."""
        names = [name for name in OTHERS if name != RECORDED or self.recorded]
        return names[(names.index(self.name) + 1) % len(names)] if self.name in names else names[0]

    def act(self, played: np.ndarray, world: World, frames: np.ndarray, seed: int) -> np.ndarray:
        """Return the next actions ``float32 (f, 20)``.

        Args:
            played: the played future's.
            world: the other one's.
            frames: last seen there, ``uint8 (f, H, W, 3)``.
            seed: of the explorer's choices.
        """
        if self.name == SAME:
            return played
        if self.name == RECORDED and self.recorded:
            return self.recorded.pop(0)
        if self.name == EXPLORER:
            self._explorer = self._explorer or make_player(EXPLORER, world, seed)
            actions = self._explorer.act(world, frames)
            if actions is not None:
                return actions
        return noop(len(played))
