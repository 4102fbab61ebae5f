"""Play fixed actions, or let players play, in any world and keep everything that happens."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latentcraft.agents.players import Player
from latentcraft.errors import UserError
from latentcraft.model.actions import ACTION_SIZE, noop
from latentcraft.simulator.protocol import TICKS_PER_SECOND, Start, World

MAX_BYTES = 4 << 30
"""Most memory for the frames of one rollout."""


@dataclass(frozen=True)
class RolloutResult:
    """What happened in ``b`` games over ``T`` ticks."""

    start: np.ndarray
    """``uint8 (b, H, W, 3)``: what was seen before the first action."""
    frames: np.ndarray
    """``uint8 (b, T, H, W, 3)``: frame i shows the effect of action i."""
    actions: np.ndarray
    """``float32 (b, T, 20)``, as played (padded to whole chunks)."""
    rewards: np.ndarray
    """``float32 (b, T)``."""
    terminated: np.ndarray
    """``bool (b, T)``: true from the tick on at which the task ended."""
    infos: list[list[dict[str, Any]]]
    """``infos[chunk][world]``, as the world gave them."""
    chunk_seconds: np.ndarray
    """``float64 (T / f,)``: time each step took."""
    poses: np.ndarray | None = None
    """``float32 (b, T + 1, 5)``: x, y, z (metres), yaw, pitch (degrees) at the start and after each action; None where
    the world does not tell them."""

    @property
    def chunk(self) -> int:
        """Ticks in a step."""
        return self.frames.shape[1] // len(self.chunk_seconds)

    def film(self, index: int = 0) -> np.ndarray:
        """Return game ``index`` with its start in front, ``uint8 (T + 1, H, W, 3)``: entry i is i ticks in."""
        return np.concatenate([self.start[index][None], self.frames[index]])

    def pictures(self, index: int = 0) -> Iterator[np.ndarray]:
        """Yield what :meth:`film` holds, without a copy of it."""
        yield self.start[index]
        yield from self.frames[index]


def rollout(world: World, actions: np.ndarray, starts: Sequence[Start], *, progress: bool = False) -> RolloutResult:
    """Reset every game of ``world`` and play ``actions``.

    Args:
        world: any world of ``b`` games.
        actions: ``float32 (T, 20)``, the same for every game, or ``(b, T, 20)``. Padded with no-ops to whole chunks.
        starts: one for each game.
        progress: show a progress bar on a terminal.

    Raises:
        UserError: shapes that do not fit the world, bad values, more frames than memory should hold.
    """
    games, chunk = world.spec.num_worlds, world.spec.chunk
    actions = pad_to_chunks(actions, chunk)
    if actions.ndim == 2:
        actions = np.broadcast_to(actions, (games, *actions.shape))
    if actions.ndim != 3 or actions.shape[0] != games or actions.shape[2] != ACTION_SIZE or not actions.shape[1]:
        raise UserError(f"actions must be (T, {ACTION_SIZE}) or ({games}, T, {ACTION_SIZE}), got {actions.shape}")
    actions = np.ascontiguousarray(actions)
    return _rollout(world, starts, actions.shape[1], lambda first, _: actions[:, first : first + chunk], progress)


def rollout_players(
    world: World, players: Sequence[Player], starts: Sequence[Start], ticks: int, *, progress: bool = False
) -> RolloutResult:
    """Reset every game of ``world`` and let players play, each by what it sees.

    Args:
        world: any world of ``b`` games.
        players: one for each game; who has nothing more to do stands still.
        starts: one for each game.
        ticks: length, rounded up to whole chunks.
        progress: show a progress bar on a terminal.

    Raises:
        UserError: other numbers of players or starts than games, bad actions, more frames than memory should hold.
    """
    games, chunk = world.spec.num_worlds, world.spec.chunk
    if len(players) != games or ticks < 1:
        raise UserError(f"{len(players)} players for {games} games, {ticks} ticks; give one each, and a tick or more")

    def choose(first: int, frames: np.ndarray) -> np.ndarray:
        chosen = [player.act(world, frames[index], index) for index, player in enumerate(players)]
        return np.stack([noop(chunk) if each is None else each for each in chosen])

    return _rollout(world, starts, -(-ticks // chunk) * chunk, choose, progress)


def _rollout(
    world: World,
    starts: Sequence[Start],
    ticks: int,
    choose: Callable[[int, np.ndarray], np.ndarray],
    progress: bool,
) -> RolloutResult:
    """Play what ``choose`` returns, ``float32 (b, f, 20)``, given a chunk's first tick and the last chunk's frames."""
    games, chunk, shape = world.spec.num_worlds, world.spec.chunk, (*world.spec.frame_size, 3)
    if len(starts) != games:
        raise UserError(f"{len(starts)} starts for {games} games; give one for each")
    needed = games * ticks * int(np.prod(shape))
    if needed > MAX_BYTES:
        raise UserError(
            f"{games} games of {ticks / TICKS_PER_SECOND:g}s make {needed / 2**30:.1f} GB of frames, more than "
            f"{MAX_BYTES >> 30}; take fewer seeds, less time or smaller frames"
        )

    last = world.reset(list(starts))
    start = last[:, -1].copy()
    first_poses = [world.game(i).pose for i in range(games)] if hasattr(world, "game") else None
    frames = np.empty((games, ticks, *shape), np.uint8)
    actions = np.empty((games, ticks, ACTION_SIZE), np.float32)
    rewards = np.empty((games, ticks), np.float32)
    terminated = np.empty((games, ticks), bool)
    infos, seconds = [], []
    for first in _progress(range(0, ticks, chunk), world.spec.name, progress):
        part = slice(first, first + chunk)
        actions[:, part] = choose(first, last)
        began = time.perf_counter()
        frames[:, part], rewards[:, part], terminated[:, part], info = world.step(actions[:, part])
        seconds.append(time.perf_counter() - began)
        last = frames[:, part]
        infos.append(info)
    return RolloutResult(
        start, frames, actions, rewards, terminated, infos, np.array(seconds), _poses(first_poses, infos)
    )


def pad_to_chunks(actions: np.ndarray, chunk: int) -> np.ndarray:
    """Append no-ops to ``(..., T, 20)`` until T is a multiple of ``chunk``."""
    actions = np.asarray(actions, np.float32)
    if actions.ndim < 2:
        return actions
    missing = -actions.shape[-2] % chunk
    return np.pad(actions, [(0, 0)] * (actions.ndim - 2) + [(0, missing), (0, 0)])  # a no-op is all zeros


def _poses(first: list[tuple[float, ...]] | None, infos: list[list[dict[str, Any]]]) -> np.ndarray | None:
    """Return the poses of every game at the start and after each tick, if the world told them."""
    if first is None or any("poses" not in info for chunk in infos for info in chunk):
        return None
    from latentcraft.simulator.voxel.seam import unwrapped

    after = [np.concatenate([chunk[game]["poses"] for chunk in infos]) for game in range(len(first))]
    # A path has no seam where the map has one.
    return np.stack([unwrapped(np.vstack(path)) for path in zip(first, after, strict=True)]).astype(np.float32)


def _progress(chunks: range, label: str, show: bool) -> Any:
    if not show:
        return chunks
    from tqdm import tqdm

    return tqdm(chunks, desc=label, unit="chunk", disable=None, leave=False)
