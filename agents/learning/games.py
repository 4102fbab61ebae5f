"""A batch of task episodes as a learner wants them: small observations in, numbers of moves out, ends resolved.

Around :class:`latentcraft.envs.vector.WorldVectorEnv`, for any way of learning: PPO by Stable-Baselines3, Ray workers
and the measuring of returns all play these games.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from latentcraft.agents.learning.moves import held_moves
from latentcraft.agents.learning.sight import Sight, SightConfig
from latentcraft.envs.vector import WorldVectorEnv
from latentcraft.errors import UserError
from latentcraft.model.actions import vectors_to_batch
from latentcraft.model.episodes import list_episodes
from latentcraft.simulator.protocol import HELD_OUT_SEED, WARMUP_CHUNKS, World

Task = Literal["chop", "navigate", "navigate-shaped", "build", "explore"]
ALIKE = {"navigate": ("navigate", "navigate-shaped"), "navigate-shaped": ("navigate", "navigate-shaped")}
"""Tasks whose recorded episodes serve each other, since they differ in nothing but what is paid on the way."""
FROM_THE_BEGINNING = 0.5
"""Share of recorded starts that are an episode's first moment, which is what a game of the task begins with."""


@dataclass(frozen=True)
class GamesConfig:
    """Which games are played."""

    world: Literal["dream", "voxel"] = "voxel"
    """``dream`` or ``voxel``, the reference world."""
    task: Task = "chop"
    """What pays."""
    checkpoint: Path | None = None
    """The dream's checkpoint file; null takes the shipped one."""
    denoising: int = 2
    """Steps of the dream: 1, 2, 4 or 8; fewer are faster."""
    length: int = 100
    """Steps until an episode is cut off (four ticks each: 100 are 20 seconds)."""
    max_uncertainty: float | None = None
    """Dream only: cut an episode off where the dream is less sure than this, 0 to 1; null never does."""
    starts: Path | None = None
    """Dream only: recorded episodes of the task to start from, so that training needs no frame beyond those the dream
    was trained on; null starts from seeds, for each of which the reference world plays 16 frames."""

    def __post_init__(self) -> None:
        if self.length < 1:
            raise UserError(f"length must be 1 step or more, got {self.length}")
        if self.starts is not None and self.world != "dream":
            raise UserError("starts=DIR begins dreams only; the reference world starts from seeds, leave it out")


class Finished(NamedTuple):
    """One episode that is over."""

    reward: float
    """Undiscounted sum."""
    length: int
    """Steps."""
    ended: bool
    """Whether the task ended, rather than the time."""


class Outcome(NamedTuple):
    """What a step of all games came to."""

    observations: np.ndarray
    """``uint8 (n, 3 * stack, h, w)``; of a game that is over, the first of its next episode."""
    rewards: np.ndarray
    """``float32 (n,)``."""
    terminated: np.ndarray
    """``bool (n,)``."""
    truncated: np.ndarray
    """``bool (n,)``."""
    finals: dict[int, np.ndarray]
    """Last observation of each episode that is over, by game."""
    finished: dict[int, Finished]
    """Those episodes."""


class Games:
    """``num_games`` games that begin anew by themselves.

    Args:
        config: which games.
        num_games: batch ``n``.
        sight: what is seen of them.
        seed: decides the starts. With it everything is a function of the moves.
        world: played instead of the world ``config`` names, for tests.
    """

    def __init__(
        self, config: GamesConfig, num_games: int, sight: SightConfig, seed: int = 0, world: World | None = None
    ) -> None:
        self.config, self.num_games = config, num_games
        self.env = WorldVectorEnv(
            config.world if world is None else world, num_envs=num_games, task=config.task,
            checkpoint=config.checkpoint, steps=config.denoising, info_frames=False, autoreset_mode="Disabled",
            max_episode_steps=config.length, max_uncertainty=config.max_uncertainty,
        )  # fmt: skip
        self.frames = 0
        """Frames of the world played so far, warm-ups of the reference world included."""
        self._recorded = None if config.starts is None else recorded_starts(config.starts, config.task)
        self._rng = np.random.default_rng([seed, 0x6A])
        self._sight = Sight(sight, num_games)
        self._rewards, self._lengths = np.zeros(num_games), np.zeros(num_games, int)

    def reset(self) -> np.ndarray:
        """Begin all games anew; returns observations."""
        frames = None
        for index in range(self.num_games):
            frames = self._begin(index)
        assert frames is not None
        return self._sight.begin(frames)

    def step(self, moves: np.ndarray) -> Outcome:
        """Play moves ``int (n,)``."""
        actions = vectors_to_batch(held_moves(moves, self.env.chunk))
        frames, rewards, terminated, truncated, _ = self.env.step(actions)
        self.frames += self.num_games * self.env.chunk
        observations = self._sight.see(frames)
        self._rewards += rewards
        self._lengths += 1
        finals, finished = {}, {}
        over = terminated | truncated
        for index in map(int, np.flatnonzero(over)):
            finals[index] = observations[index]
            ended = bool(terminated[index])
            finished[index] = Finished(float(self._rewards[index]), int(self._lengths[index]), ended)
            frames = self._begin(index)
        if finished:
            observations = self._sight.begin(frames, over)
        return Outcome(observations, rewards.astype(np.float32), terminated, truncated, finals, finished)

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def _begin(self, index: int) -> np.ndarray:
        """Begin game ``index``; returns what all games show ``uint8 (n, H, W, 3)``."""
        mask = np.zeros(self.num_games, bool)
        mask[index] = True
        options: dict[str, Any] = {"seed": int(self._rng.integers(HELD_OUT_SEED))}
        if self._recorded is not None:
            path, frames = self._recorded[self._rng.integers(len(self._recorded))]
            latest = max(0, frames - WARMUP_CHUNKS * self.env.chunk - 1)
            first = 0 if self._rng.random() < FROM_THE_BEGINNING else int(self._rng.integers(latest + 1))
            options |= {"episode": path, "frame": first}
        else:
            self.frames += WARMUP_CHUNKS * self.env.chunk
        observations, _ = self.env.reset(options={"reset_mask": mask, **options})
        self._rewards[index] = self._lengths[index] = 0
        return observations


def recorded_starts(directory: Path, task: str) -> list[tuple[Path, int]]:
    """Return the episodes of ``task`` in ``directory`` and how many frames of each come before its task's end.

    Raises:
        UserError: there are none.
    """
    found = []
    for path in list_episodes(directory):
        with path.open(encoding="utf-8") as file:
            # Rows are parsed only where needed: a task is named in every line, an end is rare.
            first = file.readline()
            try:
                if json.loads(first).get("task") not in ALIKE.get(task, (task,)):
                    continue
            except (json.JSONDecodeError, AttributeError):
                continue
            length = 1 + next((i for i, line in enumerate(file) if '"terminated":true' in line), 10**9)
            if length > 10**8:
                file.seek(0)
                length = sum(1 for _ in file)
        found.append((path, length))
    if not found:
        raise UserError(f"no episode of task {task} in {directory}; record some (latentcraft record task={task})")
    return found
