"""What a policy is paid in games it has never seen, one number a game."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from latentcraft.agents.explorer import Explorer
from latentcraft.agents.learning.moves import MOVES, held_moves
from latentcraft.agents.learning.network import PolicyNet
from latentcraft.agents.learning.policy import choose_moves, load_policy_file
from latentcraft.agents.learning.sight import Sight
from latentcraft.agents.planner import Planner, PlannerConfig
from latentcraft.envs.vector import WorldVectorEnv
from latentcraft.errors import UserError
from latentcraft.model.actions import vectors_to_batch
from latentcraft.simulator.protocol import World

RANDOM, EXPLORER, PLANNER = "random", "explorer", "planner"
"""Players that are no files: moves drawn evenly; the recorder's explorer, which reads the reference world's state; a
search in branches of the game (:mod:`latentcraft.agents.planner`), which sees the world's own future."""


class Crowd(Protocol):
    """Plays ``n`` games at once; what it does in one depends on that game and its seed alone."""

    def act(self, frames: np.ndarray, over: np.ndarray) -> np.ndarray:
        """Return the next chunk's actions ``float32 (n, f, 20)``.

        Args:
            frames: last seen, ``uint8 (n, H, W, 3)``.
            over: ``bool (n,)``: games that are decided, where it does not matter what is done.
        """
        ...


class RandomCrowd:
    """Draws moves evenly."""

    def __init__(self, seeds: Sequence[int], chunk: int) -> None:
        self._rngs = [np.random.default_rng([seed, 0xE7]) for seed in seeds]
        self._chunk = chunk

    def act(self, frames: np.ndarray, over: np.ndarray) -> np.ndarray:
        """See :class:`Crowd`."""
        return _hold(np.array([rng.integers(len(MOVES)) for rng in self._rngs]), self._chunk)


class LearnedCrowd:
    """Draws moves as a network says."""

    def __init__(self, net: PolicyNet, seeds: Sequence[int], chunk: int, temperature: float) -> None:
        self._net, self._chunk, self._temperature = net, chunk, temperature
        self._rngs = [np.random.default_rng([seed, 0xE7]) for seed in seeds]
        self._sight, self._begun = Sight(net.config.sight, len(seeds)), False

    def act(self, frames: np.ndarray, over: np.ndarray) -> np.ndarray:
        """See :class:`Crowd`."""
        seen = self._sight.see(frames) if self._begun else self._sight.begin(frames)
        self._begun = True
        chances = np.array([rng.random() for rng in self._rngs])
        return _hold(choose_moves(self._net, seen, chances, self._temperature), self._chunk)


class ExplorerCrowd:
    """One explorer a game."""

    def __init__(self, world: World, seeds: Sequence[int]) -> None:
        self._world = world
        self._explorers = [Explorer(seed, task=world.spec.task) for seed in seeds]

    def act(self, frames: np.ndarray, over: np.ndarray) -> np.ndarray:
        """See :class:`Crowd`."""
        return np.stack([explorer.act(self._world, i) for i, explorer in enumerate(self._explorers)])


class PlannerCrowd:
    """Searches in one game after the other; the candidates of each are one batch."""

    def __init__(self, world: World, seeds: Sequence[int], config: PlannerConfig | None) -> None:
        self._planner, self._chunk = Planner(world, seeds, config), world.spec.chunk

    def act(self, frames: np.ndarray, over: np.ndarray) -> np.ndarray:
        """See :class:`Crowd`."""
        moves = [0 if done else self._planner.act(index) for index, done in enumerate(over)]
        return _hold(np.array(moves), self._chunk)

    def close(self) -> None:
        """Close the games it imagined in."""
        self._planner.close()


@dataclass(frozen=True)
class Played:
    """What ``n`` games came to."""

    returns: np.ndarray
    """``float64 (n,)``: undiscounted sum of rewards."""
    lengths: np.ndarray
    """``int64 (n,)``: steps until the task ended or the time was up."""
    ended: np.ndarray
    """``bool (n,)``: whether the task ended."""


def check_player(name: str) -> PolicyNet | None:
    """Return the network of a policy's file, None for a player that is none.

    Raises:
        UserError: no such player, or a bad file.
    """
    if name in (RANDOM, EXPLORER, PLANNER):
        return None
    if Path(name).suffix != ".safetensors":
        known = f"{RANDOM}, {EXPLORER}, {PLANNER}, a policy.safetensors or a training's folder"
        raise UserError(f"no player {name!r}; give {known}")
    return load_policy_file(name).net


def play_games(
    player: str | PolicyNet,
    seeds: Sequence[int],
    *,
    world: str | World = "voxel",
    task: str,
    length: int,
    batch: int = 16,
    checkpoint: Path | None = None,
    denoising: int = 2,
    recall: bool = False,
    temperature: float = 1.0,
    planner: PlannerConfig | None = None,
) -> Played:
    """Play one game from each seed.

    Args:
        player: ``random``, ``explorer``, ``planner``, a policy's file or a network.
        seeds: of the games.
        world: ``voxel``, ``dream``, or a World of as many games as there are seeds, which the caller closes.
        task: what pays.
        length: steps until a game is cut off.
        batch: games at the same time; a planner plays one after the other.
        checkpoint: the dream's; None takes the shipped one.
        denoising: steps of the dream.
        recall: whether the dream recalls recorded places.
        temperature: of a network's moves; 0 takes the likeliest.
        planner: how far the planner looks; None takes its defaults.

    Raises:
        UserError: there is no such player, or its file is bad.
    """
    if isinstance(player, str):
        player = check_player(player) or player
    if player == PLANNER and isinstance(world, str):
        batch = 1  # its candidates are a batch already, and taking them from game to game costs more than planning
    parts = []
    for first in range(0, len(seeds), batch):
        some = list(seeds[first : first + batch])
        env = WorldVectorEnv(
            world, num_envs=len(some), task=task, checkpoint=checkpoint, steps=denoising, recall=recall,
            info_frames=False, per_frame_actions=True, autoreset_mode="Disabled", max_episode_steps=length,
            stay_ended=True,
        )  # fmt: skip
        crowd = _gather(player, env.world, some, temperature, planner)
        try:
            parts.append(_play(env, crowd, some, length))
        finally:
            if isinstance(crowd, PlannerCrowd):
                crowd.close()
            if isinstance(world, str):
                env.close()
    names = ("returns", "lengths", "ended")
    return Played(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _gather(
    player: str | PolicyNet, world: World, seeds: Sequence[int], temperature: float, planner: PlannerConfig | None
) -> Crowd:
    if isinstance(player, PolicyNet):
        return LearnedCrowd(player, seeds, world.spec.chunk, temperature)
    if player == PLANNER:
        return PlannerCrowd(world, seeds, planner)
    return RandomCrowd(seeds, world.spec.chunk) if player == RANDOM else ExplorerCrowd(world, seeds)


def _play(env: WorldVectorEnv, crowd: Crowd, seeds: list[int], length: int) -> Played:
    frames, _ = env.reset(seed=seeds)
    returns, lengths = np.zeros(len(seeds)), np.zeros(len(seeds), np.int64)
    over = ended = np.zeros(len(seeds), bool)
    for _ in range(length):
        lengths += ~over
        frames, rewards, terminated, truncated, _ = env.step(vectors_to_batch(crowd.act(frames, over)))
        returns += rewards  # an ended game pays 0
        ended, over = ended | terminated, over | terminated | truncated
        if over.all():
            break
    return Played(returns, lengths, ended)


def _hold(moves: np.ndarray, chunk: int) -> np.ndarray:
    return np.repeat(held_moves(moves, chunk)[:, None], chunk, axis=1)
