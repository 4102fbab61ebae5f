"""Action sequences for evaluation: what the scripted explorer does in held-out games of the reference world."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from latentcraft.agents.explorer import Explorer
from latentcraft.simulator.protocol import Start
from latentcraft.simulator.voxel.world import VoxelWorld

SMALLEST_FRAME = (16, 16)
"""The explorer reads the game's state, and nothing is drawn for it."""


def explore(seeds: Sequence[int], ticks: int, *, chunk: int = 4) -> np.ndarray:
    """Let an explorer play each game; returns its actions ``float32 (b, ticks, 20)``.

    A function of its arguments. The games start as every world starts them for that chunk, and the explorer sees the
    effect of every single action, as in recordings.

    Args:
        seeds: one for each game.
        ticks: length.
        chunk: frames in a chunk of the worlds that will be given the actions: their warm-up depends on it.
    """
    return np.stack([_explore_one(seed, ticks, chunk) for seed in seeds])


def _explore_one(seed: int, ticks: int, chunk: int) -> np.ndarray:
    warmed = VoxelWorld(frame_size=SMALLEST_FRAME, chunk=chunk, frames="none")
    warmed.reset([Start(seed=seed)])
    state = warmed.save()
    world = VoxelWorld(frame_size=SMALLEST_FRAME, chunk=1, frames="none")
    world.restore(replace(state, meta=state.meta | {"chunk": 1}))  # the warm-up is done: the rest goes tick by tick
    explorer = Explorer(seed)
    actions = []
    for _ in range(ticks):
        actions.append(explorer.act(world)[0])
        world.step(actions[-1][None, None])
    return np.array(actions, np.float32).reshape(ticks, -1)
