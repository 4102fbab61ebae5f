"""``latentcraft env soak``: very many random steps in the vector environment, every one held against its promises.

What ``gymnasium.utils.env_checker`` looks at once is looked at in every step: observations in their space and of its
type, rewards finite, ends boolean, infos complete and saying the same as what was returned. Memory and open files are
printed as it goes, and growth after the first half counts as a leak.
"""

import gc
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gymnasium import spaces

from latentcraft.agents.bench import peak_memory
from latentcraft.agents.vitals import open_handles, resident_bytes
from latentcraft.envs.promises import Broken, Promises
from latentcraft.envs.registration import ENV_IDS
from latentcraft.errors import UserError
from latentcraft.model.tasks import TASKS

_IDS = {world: env_id for env_id, world in ENV_IDS.items()}


@dataclass(frozen=True)
class SoakConfig:
    """Keys of ``latentcraft env soak``."""

    world: Literal["voxel", "dream"] = "voxel"
    """``voxel`` (the reference world) or ``dream``."""
    steps: int = 1_000_000
    """Steps of all games together; a step is a chunk of four frames."""
    minutes: float | None = None
    """End earlier, after so much time; null does not."""
    games: int = 16
    """Games at the same time."""
    tasks: tuple[str, ...] = TASKS
    """Tasks played, one after the other, each in an environment of its own: ``rounds`` times all of them."""
    rounds: int = 2
    """How often every task has its turn, so that environments are closed and made again too."""
    observation: Literal["rgb", "latent", "both", "none"] = "rgb"
    """What is observed."""
    length: int = 600
    """Steps until a game is cut off."""
    sticky: float = 0.75
    """Chance that a game does in a step what it did in the last: who always changes his mind gets nowhere."""
    denoising: int = 1
    """Steps of the dream: 1, 2, 4 or 8."""
    checkpoint: Path | None = None
    """Dream only: the checkpoint; null takes the shipped one. One of ``train preset=smoke`` plays far faster."""
    frame_size: tuple[int, int] | None = None
    """(H, W) in pixels, multiples of 16; null: the world's own. A smaller picture is played so much faster."""
    seed: int = 0
    """Of games and actions."""
    growth_mb: float = 64.0
    """Memory that may come on top of what the first half took."""
    threads: int | None = None
    """Threads of the networks; null leaves that to torch."""

    def __post_init__(self) -> None:
        if min(self.steps, self.games, self.rounds, self.length) < 1 or not self.tasks:
            raise UserError("steps, games, rounds and length must be 1 or more, and tasks not empty")
        unknown = [task for task in self.tasks if task not in TASKS]
        if unknown:
            raise UserError(f"unknown task {unknown[0]!r}; known: {', '.join(TASKS)}")
        if not 0 <= self.sticky <= 1 or (self.minutes is not None and self.minutes <= 0):
            raise UserError("sticky must be from 0 to 1 and minutes above zero")


class Watch:
    """Prints how things are at the start, every tenth of the way and at the end.

    Args:
        config: how long the way is.
    """

    def __init__(self, config: SoakConfig) -> None:
        self._config, self._began = config, time.perf_counter()
        self._next = 0.0
        self.taken: list[tuple[float, int | None, int | None]] = []
        """(share of the way, resident bytes, open handles)."""

    def share(self, steps: int) -> float:
        """Return how much of the way is behind, by steps or by time, whichever is more; 1 at its end."""
        done = steps / self._config.steps
        if self._config.minutes is not None:
            done = max(done, (time.perf_counter() - self._began) / (60 * self._config.minutes))
        return min(done, 1.0)

    def look(self, steps: int) -> None:
        """Note how much is held, if it is time again."""
        if (share := self.share(steps)) < self._next:
            return
        self._next = share + 0.1 if share < 0.9 else 1.0
        gc.collect()  # what nobody holds is no leak
        memory, handles = resident_bytes(), open_handles()
        self.taken.append((share, memory, handles))
        seconds = time.perf_counter() - self._began
        words = [f"{share:4.0%}", f"{steps} steps", f"{steps / seconds:.4g} steps/s"]
        if memory is not None:
            words.append(f"{memory / 1e6:.0f} MB")
        if (peak := peak_memory()) is not None:
            words.append(f"peak {peak:.0f} MB")
        if handles is not None:
            words.append(f"{handles} open files")
        print(", ".join(words), flush=True)

    def leaks(self) -> list[str]:
        """Return in words what grew over the second half."""
        middle = [each for each in self.taken[:-1] if 0.3 <= each[0] <= 0.6]
        if not middle:
            return []
        found = []
        *_, last_memory, last_handles = self.taken[-1]
        # The most that was held: where an environment was just closed, it is less for a moment.
        memory = max((held for _, held, _ in middle if held is not None), default=None)
        handles = max((held for _, _, held in middle if held is not None), default=None)
        if memory is not None and last_memory is not None and last_memory - memory > 1e6 * self._config.growth_mb:
            found.append(f"memory grew by {(last_memory - memory) / 1e6:.0f} MB over the second half")
        if handles is not None and last_handles is not None and last_handles > handles + 2:
            found.append(f"open files grew from {handles} to {last_handles} over the second half")
        return found


def main(config: SoakConfig) -> int:
    """Run ``latentcraft env soak``; 1 where a promise is broken or something leaks."""
    if config.threads is not None:
        import torch

        torch.set_num_threads(config.threads)
    watch, steps, episodes = Watch(config), 0, 0
    turns = list(config.tasks) * config.rounds
    try:
        for turn, task in enumerate(turns):
            part, ended = _soak(config, watch, task, turn, steps, (turn + 1) / len(turns))
            steps, episodes = part, episodes + ended
    except Broken as error:
        print(f"broken after {steps} steps and more, {config.world}, task {task}: {error}", file=sys.stderr)
        return 1
    for leak in (leaks := watch.leaks()):
        print(leak, file=sys.stderr)
    print(
        f"{config.world}: {steps} steps in {episodes} episodes, every promise kept; {'leaks' if leaks else 'no leak'}"
    )
    return 1 if leaks else 0


def sticky_actions(
    space: spaces.Dict, last: dict[str, np.ndarray] | None, rng: np.random.Generator, sticky: float
) -> dict[str, np.ndarray]:
    """Return random actions of ``space`` ``(n, ...)``; each game does again what it did last with chance ``sticky``."""
    actions: dict[str, np.ndarray] = space.sample()
    if last is None:
        return actions
    again = rng.random(len(actions["camera"])) < sticky
    return {name: np.where(again.reshape(-1, *(1,) * (new.ndim - 1)), last[name], new) for name, new in actions.items()}


def _soak(config: SoakConfig, watch: Watch, task: str, turn: int, steps: int, until: float) -> tuple[int, int]:
    """Play one task until ``until`` of the way; returns all steps so far and the episodes that ended in this part."""
    import gymnasium

    env: Any = gymnasium.make_vec(
        _IDS[config.world], num_envs=config.games, task=task, observation=config.observation, steps=config.denoising,
        checkpoint=config.checkpoint, max_episode_steps=config.length, info_frames=False, frame_size=config.frame_size,
    )  # fmt: skip
    rng = np.random.default_rng([config.seed, turn])
    env.action_space.seed(int(rng.integers(2**31)))
    episodes = 0
    try:
        promises = Promises(env, config.world, task)
        seeds: Sequence[int] = rng.integers(900_000, size=config.games).tolist()
        promises.check_reset(*env.reset(seed=seeds))
        actions = None
        while watch.share(steps) < until:
            watch.look(steps)
            actions = sticky_actions(env.action_space, actions, rng, config.sticky)
            episodes += promises.check_step(env.step(actions))
            steps += config.games
        watch.look(steps)
    finally:
        env.close()
    return steps, episodes
