"""The reference world: a batch of voxel games (game.py) behind the World protocol.

The games of a batch are dealt out over threads, as many as numba would use (``NUMBA_NUM_THREADS``, by default one a
core): what is compiled holds no lock. No game knows of another, so their number changes no picture.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple

import numba
import numpy as np

from latentcraft.errors import UserError
from latentcraft.model import actions as action_space
from latentcraft.model.camera import BOX
from latentcraft.model.tasks import TASKS
from latentcraft.simulator.protocol import (
    WARMUP_CHUNKS,
    Chunk,
    Frames,
    Start,
    WorldSpec,
    WorldState,
    check_frames,
    last_frames,
    warm_up_of,
)
from latentcraft.simulator.voxel import terrain
from latentcraft.simulator.voxel.blocks import AIR, BEDROCK
from latentcraft.simulator.voxel.game import NAME, Game, GameView, Pose, warmup_actions
from latentcraft.simulator.voxel.render import Renderer


class History(NamedTuple):
    """How a game got where it begins."""

    frames: np.ndarray
    """``uint8 (k * f, H, W, 3)``, of ``WARMUP_CHUNKS`` chunks and the lead's."""
    actions: np.ndarray
    """``float32 (k * f, 20)``, whose effects they show."""
    poses: np.ndarray
    """Of the player in each frame, feet (x, y, z), yaw and pitch, ``float64 (k * f, 5)``."""


class VoxelWorld:
    """A batch of voxel games; see :class:`latentcraft.simulator.protocol.World` for the methods' contracts."""

    def __init__(
        self,
        num_worlds: int = 1,
        task: str = "free",
        frame_size: tuple[int, int] = (96, 160),
        chunk: int = 4,
        frames: Frames = "all",
    ) -> None:
        """Prepare ``num_worlds`` games of ``task``; they begin with :meth:`reset`.

        Args:
            num_worlds: batch ``b``.
            task: one of :data:`latentcraft.model.tasks.TASKS`.
            frame_size: (H, W) in pixels.
            chunk: ticks in a step, ``f``.
            frames: which frames of a chunk are drawn; drawing is nearly all the work.

        Raises:
            UserError: a frame size that is not two multiples of 16, an unknown task or choice of frames, a number that
                is not positive.
        """
        if len(frame_size) != 2 or any(side < 16 or side % 16 for side in frame_size):
            raise UserError(f"frame size {tuple(frame_size)} must be (H, W) in multiples of 16, such as (96, 160)")
        if task not in TASKS:
            raise UserError(f"unknown task {task!r}; known: {', '.join(TASKS)}")
        if num_worlds < 1 or chunk < 1:
            raise UserError(f"num_worlds and chunk must be 1 or more, got {num_worlds} and {chunk}")
        check_frames(frames)
        height, width = frame_size
        self._spec = WorldSpec(NAME, num_worlds, (int(height), int(width)), chunk, task, frames)
        threads = min(num_worlds, numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
        self._renderers = [Renderer(self._spec.frame_size) for _ in range(threads)]  # each draws for one thread
        self._pool: ThreadPoolExecutor | None = None
        self.outlines = True
        """Whether the targeted block is outlined, and cracks while it is dug; may be changed at any time."""
        self._games: list[Game | None] = [None] * num_worlds
        self._histories: list[History | None] = [None] * num_worlds
        self._starts: list[Start | None] = [None] * num_worlds

    @property
    def spec(self) -> WorldSpec:
        """Shapes and names."""
        return self._spec

    def reset(self, starts: Sequence[Start | None]) -> np.ndarray:
        """Begin the given games anew and play their warm-up; returns its last frames ``uint8 (b, f, H, W, 3)``."""
        if len(starts) != self.spec.num_worlds:
            raise UserError(f"reset needs a start (or None) for each world ({self.spec.num_worlds}), not {len(starts)}")
        for index, start in enumerate(starts):
            if start is None:
                self._running(index)
            elif start.seed is None or start.episode is not None or start.media is not None:
                raise UserError(f"the voxel world starts from a seed only, got {start}; give Start(seed=...)")
        # All warm-ups are played first, so that a bad seed leaves every game as it was.
        begun: dict[int, Game] = {}

        def begin(index: int, renderer: Renderer) -> None:
            begun[index] = self._warm_up(new[index], renderer, self.spec.shown)[0]

        new = {index: start for index, start in enumerate(starts) if start is not None}
        self._each(list(new), begin)
        for index, game in begun.items():
            self._games[index], self._histories[index], self._starts[index] = game, None, new[index]
        return np.stack([self._running(index).frames for index in range(self.spec.num_worlds)])

    def step(self, actions: np.ndarray) -> Chunk:
        """Advance every game by one chunk of ``actions`` ``float32 (b, f, 20)``."""
        b, f = self.spec.num_worlds, self.spec.chunk
        actions = action_space.check_vectors(actions, (b, f, action_space.ACTION_SIZE))
        games = [self._running(index) for index in range(b)]
        unseen = f - self.spec.shown
        frames = np.empty((b, self.spec.shown, *self.spec.frame_size, 3), np.uint8)
        rewards, terminated = np.zeros((b, f), np.float32), np.zeros((b, f), bool)
        poses, changes = np.empty((b, f, 5), np.float32), np.zeros((b, f, 2), np.bool_)
        spots = np.empty((b, f, 2, 3), np.float32)

        def play(index: int, renderer: Renderer) -> None:
            game = games[index]
            for i in range(f):
                rewards[index, i] = game.advance(actions[index, i])
                terminated[index, i] = game.task.done
                poses[index, i] = game.body[:5]
                changes[index, i], spots[index, i] = game.changes, game.spots
                if i >= unseen:
                    game.draw(renderer, frames[index, i - unseen], outlines=self.outlines)
            game.frames = frames[index].copy()

        self._each(range(b), play)
        infos: list[dict[str, Any]] = [
            {
                "pose": game.pose, "poses": path, "changes": done, "spots": where, "caption": game.describe(),
                "task": game.task.name, **game.task.info(),
            }
            for game, path, done, where in zip(games, poses, changes, spots, strict=True)
        ]
        return Chunk(frames, rewards, terminated, infos)

    def skip(self, actions: np.ndarray) -> None:
        """Advance by one chunk that nobody will see: only its last frame is drawn, and counts as standing still."""
        spec = self._spec
        self._spec = replace(spec, frames="last" if spec.shown else "none")
        try:
            self.step(actions)
        finally:
            self._spec = spec
        for index in range(spec.num_worlds):
            game = self._running(index)
            game.frames = last_frames(game.frames, spec.shown)

    def save(self, index: int = 0) -> WorldState:
        """Return the exact state of game ``index``."""
        state = self._running(index).save()
        state.meta.update(chunk=self.spec.chunk, frame_size=list(self.spec.frame_size))
        return state

    def restore(self, state: WorldState, index: int = 0) -> np.ndarray:
        """Put game ``index`` into ``state``; returns its last frames ``uint8 (f, H, W, 3)``."""
        self._check_index(index)
        if state.world != NAME:
            raise UserError(f"this state was saved by world {state.world!r}; restore it there, not in {NAME!r}")
        if state.meta["task"] != self.spec.task:
            raise UserError(f"this state is of task {state.meta['task']!r}; restore it in a world of that task")
        first, *size, _ = state.arrays["frames"].shape
        saved = {"chunk": first, "frame_size": size} | state.meta  # version 0.1.0 saw every frame and wrote neither
        for key, mine in (("chunk", self.spec.chunk), ("frame_size", list(self.spec.frame_size))):
            if saved[key] != mine:
                raise UserError(f"this state has {key} {saved[key]}, this world {mine}; build the world alike")
        game = self._games[index]
        if game is not None and (game.seed, game.task.name) == (state.meta["seed"], state.meta["task"]):
            game.restore(state)
        else:
            game = Game.load(state)
        if not len(game.frames) and self.spec.shown:  # saved where nobody looked
            game.frames = np.empty((1, *self.spec.frame_size, 3), np.uint8)
            game.draw(self._renderers[0], game.frames[0], outlines=self.outlines)
        game.frames = last_frames(game.frames, self.spec.shown).copy()
        self._games[index], self._histories[index], self._starts[index] = game, None, None
        return game.frames.copy()

    def like(self, num_worlds: int = 1, *, frames: Frames | None = None) -> "VoxelWorld":
        """Return another world of this kind; see :class:`latentcraft.simulator.protocol.Branching`."""
        spec = self.spec
        world = VoxelWorld(num_worlds, spec.task, spec.frame_size, spec.chunk, frames or spec.frames)
        world.outlines = self.outlines
        return world

    def close(self) -> None:
        """Forget all games."""
        self._games = [None] * self.spec.num_worlds
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def history(self, index: int = 0) -> History:
        """Return the warm-up of game ``index`` and its lead, which the dream takes as its context; of a game that was
        restored the warm-up only.
        """
        game, history = self._running(index), self._histories[index]
        if history is None:  # played again: a warm-up is a function of the start
            start = self._starts[index] or Start(seed=game.seed)
            history = self._histories[index] = self._warm_up(start, self._renderers[0], None)[1]
        return history

    def game(self, index: int = 0) -> GameView:
        """Read-only look at game ``index``."""
        return self._running(index).view()

    def render_pose(self, index: int, pose: Pose) -> np.ndarray:
        """Draw game ``index`` as it is now from feet (x, y, z), yaw and pitch, standing; ``uint8 (H, W, 3)``, without
        crosshair and held block.
        """
        if len(pose) != 5 or not all(math.isfinite(value) for value in pose):
            raise UserError(f"a pose is five finite numbers (x, y, z, yaw, pitch), got {pose!r}")
        out = np.empty((*self.spec.frame_size, 3), np.uint8)
        x, y, z, yaw, pitch = map(float, pose)
        self._running(index).draw(self._renderers[0], out, (x % terrain.MAP_SIZE, y, z % terrain.MAP_SIZE, yaw, pitch))
        return out

    def distances(self, index: int = 0) -> np.ndarray:
        """Return how far everything in game ``index``'s last frame is, metres along each ray, ``float32 (H, W)``.

        The crosshair and the held block are 0, the sky is :data:`latentcraft.model.camera.SKY`.
        """
        return self._running(index).distances(self._renderers[0])

    def surroundings(self, index: int = 0, size: tuple[int, int, int] = BOX) -> tuple[np.ndarray, np.ndarray]:
        """Return the blocks around game ``index``'s player, in a box of ``size`` cells along x, y and z: its lower
        corner ``int64 (3,)`` and their kinds ``uint8 (X, Y, Z)``, see :mod:`latentcraft.simulator.voxel.blocks`. Below
        the map is bedrock, above it air.
        """
        game = self._running(index)
        x, y, z = (math.floor(value) for value in game.pose[:3])
        corner = np.array([x - size[0] // 2, y - size[1] // 2, z - size[2] // 2], np.int64)
        along, up, across = (low + np.arange(count) for low, count in zip(corner, size, strict=True))
        columns = game.view().blocks[(along % terrain.MAP_SIZE)[:, None], (across % terrain.MAP_SIZE)[None]]
        cells = columns[:, :, up.clip(0, terrain.MAP_HEIGHT - 1)].transpose(0, 2, 1)
        above, below = (up >= terrain.MAP_HEIGHT)[:, None], (up < 0)[:, None]
        return corner, np.where(below, np.uint8(BEDROCK), np.where(above, np.uint8(AIR), cells))

    def _warm_up(self, start: Start, renderer: Renderer, shown: int | None) -> tuple[Game, History]:
        """Start the game of a seed and play its warm-up and lead; returns also how, with its last frames only.

        Args:
            start: of the game.
            renderer: draws.
            shown: how many frames; None shows all.
        """
        assert start.seed is not None
        game = Game(start.seed, self.spec.task)
        script = warm_up_of(start, warmup_actions(start.seed, WARMUP_CHUNKS * self.spec.chunk), self.spec.chunk)
        shown = len(script) if shown is None else shown
        frames, poses = np.empty((shown, *self.spec.frame_size, 3), np.uint8), np.empty((len(script), 5))
        for tick, action in enumerate(script):
            game.advance(action)
            poses[tick] = game.pose
            if tick >= len(script) - shown:
                game.draw(renderer, frames[tick - len(script) + shown], outlines=self.outlines)
        game.frames = frames[shown - self.spec.shown :].copy()
        return game, History(frames, script, poses)

    def _each(self, games: Sequence[int], work: Callable[[int, Renderer], None]) -> None:
        """Do ``work`` for every game, dealt out over the threads."""
        lanes = [games[first :: len(self._renderers)] for first in range(len(self._renderers))]

        def along(lane: Sequence[int], renderer: Renderer) -> None:
            for index in lane:
                work(index, renderer)

        if len(games) < 2 or len(lanes) < 2:
            along(games, self._renderers[0])
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(len(lanes), thread_name_prefix="voxel")
        list(self._pool.map(along, lanes, self._renderers))

    def _check_index(self, index: int) -> None:
        if not 0 <= index < self.spec.num_worlds:
            raise UserError(f"no world {index}; this batch has worlds 0 to {self.spec.num_worlds - 1}")

    def _running(self, index: int) -> Game:
        self._check_index(index)
        game = self._games[index]
        if game is None:
            raise UserError(f"world {index} has not begun; call reset with a Start(seed=...) for it first")
        return game
