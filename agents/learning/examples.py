"""Recorded play as examples for cloning: what was seen, what was done next, and what it came to pay."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latentcraft.agents.learning.games import ALIKE
from latentcraft.agents.learning.moves import nearest_moves
from latentcraft.agents.learning.sight import SightConfig
from latentcraft.errors import UserError
from latentcraft.model.episodes import Episode, list_episodes, read_all

CHUNK = 4
"""Ticks of a move, as in the worlds."""
HELD_OUT_EVERY = 10
"""One episode in so many is not learned from but asked about."""


@dataclass(frozen=True)
class Examples:
    """``m`` moments of play."""

    pictures: np.ndarray
    """``uint8 (k, 3, h, w)``: all that was seen."""
    seen: np.ndarray
    """``int64 (m, stack)``: which of these a player sees at each moment, the newest last."""
    moves: np.ndarray
    """``int64 (m,)``: what was done next, a row of :data:`latentcraft.agents.learning.moves.MOVES`."""
    returns: np.ndarray
    """``float32 (m,)``: discounted reward from there on, to the end of the episode."""
    held_out: np.ndarray
    """``bool (m,)``: of an episode that is not to be learned from."""

    def observations(self, index: np.ndarray) -> np.ndarray:
        """Return what is seen at moments ``int (n,)``, ``uint8 (n, 3 * stack, h, w)``."""
        pictures = self.pictures[self.seen[index]]
        return pictures.reshape(len(index), -1, *pictures.shape[-2:])


def read_examples(
    directory: Path,
    task: str,
    sight: SightConfig,
    *,
    every: int,
    gamma: float,
    episodes: int | None = None,
    report: Callable[[str], None],
) -> Examples:
    """Read the episodes of ``task`` (of every task for ``any``) in ``directory``.

    Args:
        directory: recorded episodes; bad ones are skipped and reported.
        task: whose episodes; those of an equal task serve too.
        sight: what a policy will see.
        every: ticks between two moments, a divisor of :data:`CHUNK`.
        gamma: discount a chunk.
        episodes: at most so many, evenly spread over the directory; None for all.
        report: gets lines about what is skipped.

    Raises:
        UserError: no such episode.
    """
    paths = [path for path in list_episodes(directory) if task == "any" or task_of(path) in ALIKE.get(task, (task,))]
    if episodes is not None and episodes < len(paths):
        paths = [paths[i] for i in np.linspace(0, len(paths) - 1, episodes).round().astype(int)]
    parts: list[Examples] = []
    first = 0
    for number, (_, episode) in enumerate(read_all(paths, frame_size=sight.size, report=report)):
        part = examples_of(episode, sight, every=every, gamma=gamma, held_out=number % HELD_OUT_EVERY == 0, first=first)
        first += len(part.pictures)
        parts.append(part)
    if len(parts) < 2:
        raise UserError(f"{len(parts)} episodes of task {task} in {directory}; cloning needs 2 at least, record some "
                        f"(latentcraft record task={task})")  # fmt: skip
    return Examples(
        *(np.concatenate([getattr(part, name) for part in parts])
          for name in ("pictures", "seen", "moves", "returns", "held_out"))
    )  # fmt: skip


def examples_of(
    episode: Episode, sight: SightConfig, *, every: int, gamma: float, held_out: bool = False, first: int = 0
) -> Examples:
    """Return the moments of one episode, its pictures counted from ``first``; nothing after the task's end."""
    ended = np.flatnonzero(episode.terminated)
    last = min(len(episode) - CHUNK, int(ended[0]) if len(ended) else len(episode))
    ticks = np.arange(0, max(last, 0), every)
    pictures = np.ascontiguousarray(episode.frames[: max(last, 1) : every].transpose(0, 3, 1, 2))
    # A step back is a chunk; before the beginning everything is taken to have looked the same, as Sight takes it.
    back = np.arange(sight.stack - 1, -1, -1) * (CHUNK // every)
    seen = np.maximum(np.arange(len(ticks))[:, None] - back, 0) + first
    after = ticks[:, None] + np.arange(1, CHUNK + 1)
    paid = np.where(np.cumsum(episode.terminated) <= 1, episode.rewards, 0)[after].sum(1)
    returns = np.zeros(len(ticks) + CHUNK // every, np.float32)
    for index in range(len(ticks) - 1, -1, -1):
        returns[index] = paid[index] + gamma * returns[index + CHUNK // every]
    return Examples(
        pictures, seen, nearest_moves(episode.actions[after]), returns[: len(ticks)], np.full(len(ticks), held_out)
    )


def task_of(path: Path) -> str | None:
    """Return the task an episode's first line names, None if it cannot be read."""
    try:
        with path.open(encoding="utf-8") as file:
            return json.loads(file.readline()).get("task")
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, AttributeError):
        return None
