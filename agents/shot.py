"""What the player sees at one tick, and what is known of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from latentcraft.simulator.protocol import Start

PLAYED, TRUTH = "played", "truth"
"""The game that is played, and the reference world under the same actions."""
BRANCH, BRANCH_TRUTH = "branch", "branch truth"
"""The other future since a branch, and the reference world under that one's actions."""


@dataclass(frozen=True)
class Facts:
    """What is known of the played game after a chunk."""

    start: Start = field(default_factory=Start)
    """Where the game began."""
    ticks: int = 0
    """Played since then."""
    reward: float = 0.0
    """Sum of rewards since then."""
    terminated: bool = False
    """Whether its task has ended (the world plays on)."""
    uncertainty: float | None = None
    """Of the dream's chunk, 0 to 1; None where the world does not say."""
    player: str = "you"
    """Who chose the chunk's actions."""


class Shot(NamedTuple):
    """One tick as it is shown."""

    frame: np.ndarray
    """``uint8 (H, W, 3)``: the game that is played."""
    beside: Mapping[str, np.ndarray] = {}
    """What runs beside it: :data:`TRUTH`, :data:`BRANCH`, :data:`BRANCH_TRUTH` -> ``uint8 (H, W, 3)``."""
    action: np.ndarray | None = None
    """``float32 (20,)``: the action that led here; None at a start."""
    facts: Facts = Facts()
