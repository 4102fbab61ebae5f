"""Where the goal of a dreamed game stands is decided at its start, once."""

from collections.abc import Sequence

import numpy as np

from latentcraft.model.place import Place
from latentcraft.model.scene import Scene

STREAM = 0x60A1
"""Of a game's seed, from which it is decided."""


def decide_goal(
    scene: Scene | None, place: Place | None, task: int, seen: Sequence[tuple[np.ndarray, np.ndarray]], seed: int
) -> None:  # fmt: skip
    """Let the goal of a ``task`` stand in ``place`` where its start tells, or may have it; see
    :meth:`latentcraft.model.whereabouts.WhereaboutsNet.draw`. Nothing is decided where nobody knows what goals are, or
    where the eye is.

    Args:
        scene: the nets.
        place: of the game.
        task: number of the game's task.
        seen: pictures ``uint8 (H, W, 3)`` of its start and the eyes ``(5,)`` they were seen from.
        seed: of the game's noise.
    """
    net = None if scene is None else scene.whereabouts
    if net is None or place is None or not seen or not net.by_place[task]:
        return
    pictures, eyes = (np.stack(parts) for parts in zip(*seen, strict=True))
    place.set_goal(net.draw(pictures, eyes, np.random.default_rng([STREAM, seed])))
