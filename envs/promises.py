"""What a vector environment of ours promises of every reset and step, looked at one by one.

``gymnasium.utils.env_checker`` looks at one step of one game; this looks at all of them, for as long as somebody steps.
"""

from typing import Any

import numpy as np
from gymnasium import spaces

from latentcraft.envs.vector import WorldVectorEnv

_ALWAYS = ("caption", "task", "tick_rewards", "tick_terminated", "ticks")
_BY_WORLD = {"voxel": ("pose", "poses"), "dream": ("uncertainty",)}
_BY_TASK = {
    "navigate": ("beacon", "distance"), "navigate-shaped": ("beacon", "distance"), "build": ("filled", "cells"),
    "explore": ("patches",),
}  # fmt: skip
"""What the reference world tells of a task."""


class Broken(Exception):
    """A promise was not kept; the message says which, and by which game."""


class Promises:
    """Watches an environment in Gymnasium's ``NEXT_STEP`` mode.

    Args:
        env: a :class:`~latentcraft.envs.vector.WorldVectorEnv`, wrapped or not.
        world: its world's name.
        task: its task.
    """

    def __init__(self, env: Any, world: str, task: str) -> None:
        inner: WorldVectorEnv = env.unwrapped
        self._space, self._count, self._chunk = env.observation_space, env.num_envs, inner.chunk
        self._task = task
        self._keys = (*_ALWAYS, *_BY_WORLD.get(world, ()))
        if world == "voxel":
            self._keys += _BY_TASK.get(task, ())
        elif world == "dream" and task != "free":
            self._keys += ("end_probability",)
        self._over = np.zeros(self._count, bool)

    def check_reset(self, observations: Any, infos: dict[str, Any]) -> None:
        """Look at what a reset of all games returned."""
        self._check_observations(self._space, observations, "observation")
        self._check_begun(infos, np.ones(self._count, bool))
        self._over[:] = False

    def check_step(self, result: tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]) -> int:
        """Look at what a step returned; returns how many episodes ended in it.

        Raises:
            Broken: something is not as promised.
        """
        observations, rewards, terminated, truncated, infos = result
        self._check_observations(self._space, observations, "observation")
        for name, array, kind in (
            ("rewards", rewards, np.float64), ("terminated", terminated, np.bool_), ("truncated", truncated, np.bool_)
        ):  # fmt: skip
            if not isinstance(array, np.ndarray) or array.shape != (self._count,) or array.dtype != kind:
                raise Broken(f"{name} must be {np.dtype(kind)} ({self._count},), got {_describe(array)}")
        self._none("rewards that are not finite", ~np.isfinite(rewards))
        self._none("both terminated and truncated", terminated & truncated)
        stale = self._over  # whose reset this step was
        self._none("paid, or over, in the step that only began it", stale & ((rewards != 0) | terminated | truncated))
        self._check_begun(infos, stale)
        self._check_infos(infos, ~stale, rewards, terminated)
        self._over = terminated | truncated
        return int(self._over.sum())

    def _check_observations(self, space: spaces.Space[Any], seen: Any, name: str) -> None:
        if isinstance(space, spaces.Dict):
            if not isinstance(seen, dict) or seen.keys() != set(space):
                raise Broken(f"{name} must be a dict of {', '.join(space)}")
            for part in space:
                self._check_observations(space[part], seen[part], f"{name} {part}")
            return
        if not isinstance(seen, np.ndarray) or seen.shape != space.shape or seen.dtype != space.dtype:
            raise Broken(f"{name} must be {space.dtype} {space.shape}, got {_describe(seen)}")
        if not space.contains(seen):
            raise Broken(f"{name} is not in its space: from {seen.min()} to {seen.max()}")

    def _check_begun(self, infos: dict[str, Any], begun: np.ndarray) -> None:
        """Games that began say from which seed; the others do not."""
        has = infos.get("_seed", np.zeros(self._count, bool))
        self._none("whose info must say its seed, when and only when it begins", has != begun)
        if begun.any():
            self._none("begun from no seed", begun & (infos["seed"] < 0))

    def _check_infos(self, infos: dict[str, Any], played: np.ndarray, rewards: np.ndarray, ended: np.ndarray) -> None:
        for key in self._keys:
            has = infos.get(f"_{key}", np.zeros(self._count, bool))
            self._none(f"whose info lacks {key}, or has it though it was not played", has != played)
        if not played.any():
            return
        ticks, f = infos["ticks"], self._chunk
        paid, over = np.stack(infos["tick_rewards"]), np.stack(infos["tick_terminated"])
        if paid.shape != (self._count, f) or over.shape != (self._count, f):
            raise Broken(f"tick_rewards and tick_terminated must be ({self._count}, {f})")
        self._none(f"with ticks not from 1 to {f}", played & ((ticks < 1) | (ticks > f)))
        counted = np.where(np.arange(f) < ticks[:, None], paid, 0).sum(1, dtype=np.float64)
        self._none("whose tick_rewards are not its reward", played & ~np.isclose(counted, rewards, atol=1e-5))
        self._none("whose tick_terminated is not its end", played & (over.any(1) != ended))
        self._none("that ended early without having ended", played & (ticks < f) & ~ended)
        self._none("of another task", played & (np.asarray(infos["task"], object) != self._task))
        for key in ("uncertainty", "end_probability"):
            if key in self._keys:
                value = np.asarray(infos[key], np.float64)
                self._none(f"with {key} not from 0 to 1", played & ~((value >= 0) & (value <= 1 + 1e-6)))
        if "poses" in self._keys:
            finite = np.isfinite(np.stack(infos["poses"]).reshape(self._count, -1)).all(1)
            self._none("with a pose that is not finite", played & ~finite)

    def _none(self, what: str, games: np.ndarray) -> None:
        if games.any():
            raise Broken(f"game {int(np.flatnonzero(games)[0])}: {what}")


def _describe(value: Any) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
