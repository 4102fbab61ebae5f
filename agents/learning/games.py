"""A batch of task episodes as a learner wants them: small observations in, numbers of moves out, ends resolved.

Around :class:`latentcraft.envs.vector.WorldVectorEnv`, for any way of learning: PPO by Stable-Baselines3, Ray workers
and the measuring of returns all play these games.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from latentcraft.agents.learning.moves import held_moves
from latentcraft.agents.learning.sight import Sight, SightConfig
from latentcraft.envs.vector import WorldVectorEnv
from latentcraft.errors import UserError
from latentcraft.model.actions import vectors_to_batch
from latentcraft.model.episodes import list_episodes
from latentcraft.simulator.protocol import HELD_OUT_SEED, WARMUP_CHUNKS, World, WorldState

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
    recall: bool = False
    """Let the dream recall recorded places where it knows too little, and map the blocks close by: slower, but what is
    dug in a map is gone. Heads have learned to pay in dreams without; what deeds pay is the same in both."""
    length: int = 100
    """Steps until an episode is cut off (four ticks each: 100 are 20 seconds)."""
    max_uncertainty: float | None = None
    """Dream only: cut an episode off where the dream is less sure than this, 0 to 1; null never does."""
    starts: Path | None = None
    """Dream only: recorded episodes of the task to start from, so that training needs no frame beyond those the dream
    was trained on; null starts from seeds, for each of which the reference world plays 16 frames."""
    moments: int | None = None
    """With ``starts``: begin at so many moments of them, again and again with other noise. Each is read and remembered
    once (half a second of a core, where 12 steps of a game take 1.3) and then kept (4 MB); null takes a new moment for
    every game."""
    frame_size: tuple[int, int] | None = None
    """[height, width] of the world's pictures; null takes its own. Players see 48 x 80 pixels of them; a dream of no
    more takes a third of the time, of one with a map of blocks less than half."""

    def __post_init__(self) -> None:
        if self.length < 1:
            raise UserError(f"length must be 1 step or more, got {self.length}")
        if self.starts is not None and self.world != "dream":
            raise UserError("starts=DIR begins dreams only; the reference world starts from seeds, leave it out")
        if self.moments is not None and (self.moments < 1 or self.starts is None):
            raise UserError(f"moments={self.moments} must be 1 or more, and of recorded episodes: give starts=DIR, too")


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
            frame_size=config.frame_size, checkpoint=config.checkpoint, steps=config.denoising, recall=config.recall,
            info_frames=False, autoreset_mode="Disabled", max_uncertainty=config.max_uncertainty,
        )  # fmt: skip
        self.frames = 0
        """Frames of the world played so far, warm-ups of the reference world included."""
        self._recorded = None if config.starts is None else recorded_starts(
            config.starts, config.task, WARMUP_CHUNKS * self.env.chunk
        )
        self._rng = np.random.default_rng([seed, 0x6A])
        self._seed, self._kept = seed, dict[int, WorldState]()
        self._sight = Sight(sight, num_games)
        self._rewards, self._lengths = np.zeros(num_games), np.zeros(num_games, int)

    def reset(self) -> np.ndarray:
        """Begin all games anew; returns observations."""
        # All at once first: a world does not let games wait that have never begun.
        frames = self._begin(np.ones(self.num_games, bool))
        if self._recorded is not None:  # that was one start for all
            for index in range(1, self.num_games):
                frames = self._begin(self._only(index))
        return self._sight.begin(frames)

    def step(self, moves: np.ndarray) -> Outcome:
        """Play moves ``int (n,)``."""
        actions = vectors_to_batch(held_moves(moves, self.env.chunk))
        frames, rewards, terminated, truncated, _ = self.env.step(actions)
        self.frames += self.num_games * self.env.chunk
        observations = self._sight.see(frames)
        self._rewards += rewards
        self._lengths += 1
        truncated |= (self._lengths >= self.config.length) & ~terminated  # counted here, so that it can be resumed
        finals, finished = {}, {}
        over = terminated | truncated
        for index in map(int, np.flatnonzero(over)):
            finals[index] = observations[index]
            ended = bool(terminated[index])
            finished[index] = Finished(float(self._rewards[index]), int(self._lengths[index]), ended)
            frames = self._begin(self._only(index))
        if finished:
            observations = self._sight.begin(frames, over)
        return Outcome(observations, rewards.astype(np.float32), terminated, truncated, finals, finished)

    def state(self) -> dict[str, Any]:
        """Return everything that decides what comes next: a text ``meta`` (JSON), and arrays by name."""
        states = [self.env.save(index) for index in range(self.num_games)]
        meta = {
            "worlds": [[state.world, state.meta] for state in states], "frames": self.frames,
            "random": self._rng.bit_generator.state, "seed": self._seed,
        }  # fmt: skip
        arrays = {f"{i}.{name}": array for i, state in enumerate(states) for name, array in state.arrays.items()}
        counts = {"rewards": self._rewards.copy(), "lengths": self._lengths.copy()}
        return {"meta": json.dumps(meta), **arrays, "sight": self._sight.save(), **counts}

    def restore(self, state: dict[str, Any]) -> np.ndarray:
        """Go on from what :meth:`state` returned; returns observations as the last step did.

        Raises:
            UserError: the state is of other games.
        """
        meta = json.loads(state["meta"])
        if len(meta["worlds"]) != self.num_games:
            raise UserError(f"the state holds {len(meta['worlds'])} games, not {self.num_games}")
        for index, (world, facts) in enumerate(meta["worlds"]):
            prefix = f"{index}."
            arrays = {name.removeprefix(prefix): each for name, each in state.items() if name.startswith(prefix)}
            self.env.restore(WorldState(world, facts, arrays), index)
        self._rng.bit_generator.state = meta["random"]
        if meta.get("seed", self._seed) != self._seed:
            self._seed, self._kept = meta["seed"], {}
        self.frames = meta["frames"]
        self._rewards, self._lengths = state["rewards"].copy(), state["lengths"].copy()
        return self._sight.restore(state["sight"])

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def _begin(self, games: np.ndarray) -> np.ndarray:
        """Begin the chosen ``games`` ``bool (n,)``; returns what all games show ``uint8 (n, H, W, 3)``.

        Each from a seed of its own; those from a recorded episode all from the same moment.
        """
        options: dict[str, Any] = {"reset_mask": games}
        seeds = None
        if self._recorded is not None and self.config.moments is not None and games.sum() == 1:
            return self._begin_again(games, self.config.moments)
        if self._recorded is not None:
            options |= self._moment(self._rng)
        else:
            seeds = [int(self._rng.integers(HELD_OUT_SEED)) if chosen else None for chosen in games]
            self.frames += int(games.sum()) * WARMUP_CHUNKS * self.env.chunk
        observations, _ = self.env.reset(seed=seeds, options=options)
        self._rewards[games] = self._lengths[games] = 0
        return observations

    def _begin_again(self, games: np.ndarray, moments: int) -> np.ndarray:
        """Begin the one chosen game of ``games`` at one of ``moments`` moments, which is kept from then on."""
        number, noise = int(self._rng.integers(moments)), int(self._rng.integers(HELD_OUT_SEED))
        if number not in self._kept:
            rng = np.random.default_rng([self._seed, 0x6B, number])
            self.env.reset(options={"reset_mask": games, **self._moment(rng)})
            self._kept[number] = self.env.save(int(games.argmax()))
        state = replace(self._kept[number], meta=self._kept[number].meta | {"seed": noise})
        observations, _ = self.env.reset(options={"reset_mask": games, "state": state})
        self._rewards[games] = self._lengths[games] = 0
        return observations

    def _moment(self, rng: np.random.Generator) -> dict[str, Any]:
        """Draw a moment of the recorded episodes; returns options of a reset to it."""
        assert self._recorded is not None
        path, frames = self._recorded[rng.integers(len(self._recorded))]
        latest = frames - WARMUP_CHUNKS * self.env.chunk
        first = 0 if rng.random() < FROM_THE_BEGINNING else int(rng.integers(latest + 1))
        return {"episode": path, "frame": first, "seed": int(rng.integers(HELD_OUT_SEED))}

    def _only(self, index: int) -> np.ndarray:
        return np.arange(self.num_games) == index


def recorded_starts(directory: Path, task: str, context: int = 16) -> list[tuple[Path, int]]:
    """Return the episodes of ``task`` in ``directory`` and how many frames of each come before its task's end.

    Those with fewer than ``context``, the frames a dream begins with, are left out: it would begin after the end.

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
            count = 1
            for line in file:
                count += 1
                if '"terminated":true' in line:  # the action of this line leads to the end
                    break
        if count >= context:
            found.append((path, count))
    if not found:
        raise UserError(f"no episode of task {task} in {directory}; record some (latentcraft record task={task})")
    return found
