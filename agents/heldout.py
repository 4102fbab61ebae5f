"""Action sequences for evaluation: what the scripted explorer does in held-out games of the reference world."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from latentcraft.agents.explorer import Explorer
from latentcraft.simulator.fidelity.outcomes import PAID
from latentcraft.simulator.protocol import Start
from latentcraft.simulator.voxel.world import VoxelWorld

SMALLEST_FRAME = (16, 16)
"""The explorer reads the game's state, and nothing is drawn for it."""


SEARCHED = 40
"""Seeds searched for each game that is paid, at most."""


def explore(seeds: Sequence[int], ticks: int, *, chunk: int = 4) -> np.ndarray:
    """Let an explorer play each game; returns its actions ``float32 (b, ticks, 20)``.

    A function of its arguments. The games start as every world starts them for that chunk, and the explorer sees the
    effect of every single action, as in recordings.

    Args:
        seeds: one for each game.
        ticks: length.
        chunk: frames in a chunk of the worlds that will be given the actions: their warm-up depends on it.
    """
    return np.stack([_explore_one(seed, ticks, chunk)[0] for seed in seeds])


def find_paid(task: str, first_seed: int, count: int, ticks: int, *, chunk: int = 4) -> tuple[list[int], np.ndarray]:
    """Return the first ``count`` seeds in which an explorer at ``task`` is paid within the time, and its actions
    ``float32 (count, ticks, 20)``.

    Args:
        task: one of the explorer's.
        first_seed: where to begin.
        count: how many.
        ticks: length.
        chunk: see :func:`explore`.
    """
    seeds, games = [], []
    for seed in range(first_seed, first_seed + SEARCHED * count):
        actions, rewards = _explore_one(seed, ticks, chunk, task)
        if (np.abs(rewards) >= PAID).any():
            seeds.append(seed)
            games.append(actions)
        if len(seeds) == count:
            return seeds, np.stack(games)
    raise AssertionError(f"the explorer is hardly ever paid for {task}")


def _explore_one(seed: int, ticks: int, chunk: int, task: str = "free") -> tuple[np.ndarray, np.ndarray]:
    """Return the actions of one game, and what each was paid."""
    warmed = VoxelWorld(1, task, SMALLEST_FRAME, chunk, frames="none")
    warmed.reset([Start(seed=seed)])
    state = warmed.save()
    world = VoxelWorld(1, task, SMALLEST_FRAME, chunk=1, frames="none")
    world.restore(replace(state, meta=state.meta | {"chunk": 1}))  # the warm-up is done: the rest goes tick by tick
    explorer = Explorer(seed, task=task)
    actions, rewards = [], np.zeros(ticks)
    for tick in range(ticks):
        actions.append(explorer.act(world)[0])
        rewards[tick] = world.step(actions[-1][None, None]).rewards[0, 0]
    return np.array(actions, np.float32).reshape(ticks, -1), rewards
