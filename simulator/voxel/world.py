"""The reference world: games of the voxel world behind the World protocol.

A game is a pure function of its seed and the actions taken: same seed, same actions, same frames to the bit. Its state
is the seed, the blocks changed since, the player and a few counters, so a saved state is a few kilobytes beside the
last frames.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from latentcraft.errors import UserError
from latentcraft.model import actions as action_space
from latentcraft.model.tasks import TASKS
from latentcraft.simulator.protocol import TICKS_PER_SECOND, WARMUP_CHUNKS, Chunk, Start, WorldSpec, WorldState
from latentcraft.simulator.voxel import caption, physics, terrain
from latentcraft.simulator.voxel.blocks import DIG_TICKS
from latentcraft.simulator.voxel.render import Overlay, Renderer
from latentcraft.simulator.voxel.sky import CLEAR, OVERCAST, RAIN, Sky, sky_at
from latentcraft.simulator.voxel.tasks import Task, mix, set_up, uniform

NAME = "voxel"
DAY_TICKS = 10 * 60 * TICKS_PER_SECOND
"""A day lasts ten minutes."""
_SKY_STEP = 10
"""Ticks between changes of the light: less than eyes tell apart, and the sky is computed once for them."""
_CLEAR_SHARE, _OVERCAST_SHARE, _NIGHT_SHARE = 0.6, 0.2, 0.2
"""Shares of games that start under a clear sky, an overcast one (it rains in the rest), and at night."""
_SNOWFALL = {terrain.SNOWY: True, terrain.SNOWY_FOREST: True, terrain.DESERT: None}
"""What falls where it rains: snow, or nothing; rain elsewhere."""

Pose = tuple[float, float, float, float, float]
"""Feet (x, y, z) in blocks, yaw and pitch in degrees."""


@dataclass(frozen=True)
class GameView:
    """Read-only look at one game, for scripted policies and evaluation."""

    blocks: np.ndarray
    """``uint8 (256, 256, 64)`` block ids ``[x, z, y]``; it changes as the game goes on."""
    pose: Pose
    in_water: bool
    slot: int
    """Selected hotbar slot, 0 to 8."""
    target: tuple[int, int, int] | None
    """Block (x, y, z) under the crosshair within reach."""
    task: str
    done: bool
    """Whether the task has ended."""
    beacon: tuple[int, int, int] | None
    """Lowest block of the beacon, if the task has one."""
    markers: np.ndarray
    """Marked cells ``int64 (k, 3)`` (x, y, z), filled or not."""
    time_of_day: float
    """0 dawn, 0.25 noon, 0.5 dusk, 0.75 midnight."""
    weather: int
    """Index into :data:`latentcraft.simulator.voxel.sky.WEATHER`."""
    biome: int
    """Index into :data:`latentcraft.simulator.voxel.terrain.BIOMES`, where the player is."""


_generate = lru_cache(maxsize=4)(terrain.generate)


@lru_cache(maxsize=64)
def _sky(step: int, weather: int) -> Sky:
    return sky_at(step * _SKY_STEP / DAY_TICKS, weather)


def warmup_actions(seed: int, ticks: int) -> np.ndarray:
    """Return the warm-up of a seed, ``float32 (ticks, 20)``: look aside, walk a few steps, look back."""
    script = action_space.noop(ticks)
    aside, walk = ticks * 3 // 8, ticks * 3 // 4
    speed = (1.0 + 3.0 * uniform(seed, 10)) * (1 if mix(seed, 11) & 1 else -1)
    script[:aside, action_space.YAW] = speed
    script[aside:walk, action_space.BUTTON_INDEX["forward"]] = 1
    script[walk:, action_space.YAW] = -speed * aside / max(1, ticks - walk)
    return script


class Game:
    """One running game."""

    def __init__(self, seed: int, task: str) -> None:
        """Set up the map, the task and the player of ``seed``, before the warm-up."""
        land = _generate(seed)
        blocks = land.blocks.copy()
        self.seed = seed
        self.biome = land.biome
        self.task, (x, z, yaw) = set_up(task, land, blocks, seed, terrain.find_spawn(land, seed))
        self.grid = physics.build_grid(blocks)
        self.body, self.status = physics.new_player(x + 0.5, float(land.surface[x, z]) + 1, z + 0.5, yaw)
        self.task.begin(self.body)
        self.events = np.full(4, -1, np.int64)
        self.edits: dict[int, int] = {}
        """Flat index -> block now there, for every cell ever changed by the player."""
        self.tick = 0
        night = uniform(seed, 20) < _NIGHT_SHARE
        start = 0.56 + 0.38 * uniform(seed, 21) if night else 0.96 + 0.58 * uniform(seed, 21)
        self.start_tick = int(start * DAY_TICKS)
        sky = uniform(seed, 22)
        self.weather = CLEAR if sky < _CLEAR_SHARE else OVERCAST if sky < _CLEAR_SHARE + _OVERCAST_SHARE else RAIN
        self.frames = np.zeros((0, 0, 0, 3), np.uint8)
        """Last chunk shown."""

    @property
    def pose(self) -> Pose:
        """Feet, yaw and pitch now."""
        x, y, z, yaw, pitch = self.body[:5].tolist()
        return x, y, z, yaw, pitch

    @property
    def time_of_day(self) -> float:
        """In [0, 1), 0 at dawn."""
        return (self.start_tick + self.tick) % DAY_TICKS / DAY_TICKS

    def biome_at(self, x: float, z: float) -> int:
        """Biome of a column."""
        return int(self.biome[math.floor(x) % terrain.MAP_SIZE, math.floor(z) % terrain.MAP_SIZE])

    def advance(self, action: np.ndarray) -> float:
        """Play one tick; returns its reward."""
        physics.tick(self.grid, self.body, self.status, action, self.events)
        self.tick += 1
        dug, placed = int(self.events[physics.DUG_CELL]), int(self.events[physics.PLACED_CELL])
        reward = self.task.score(self.grid, self.body, self.events, natural=dug not in self.edits)
        for cell in (dug, placed):
            if cell >= 0:
                self.edits[cell] = int(self.grid.blocks.reshape(-1)[cell])
        return reward

    def draw(self, renderer: Renderer, out: np.ndarray, pose: Pose | None = None, *, bare_handed: bool = False) -> None:
        """Draw the player's view, or the bare view from another ``pose``, into ``out`` (H, W, 3).

        With ``bare_handed`` the player's view lacks the crosshair and the held block.
        """
        overlay, eye = Overlay(), physics.EYE
        if pose is None:
            pose = self.pose
            eye = physics.EYE_SNEAKING if self.status[physics.SNEAKING] else physics.EYE
            overlay = Overlay(self.target, self._dig_progress(),
                              None if bare_handed else int(self.status[physics.SLOT]),
                              int(self.status[physics.SWING]))  # fmt: skip
        step = (self.start_tick + self.tick) % DAY_TICKS // _SKY_STEP
        renderer.draw(
            out, self.grid, pose=pose, sky=_sky(step, self.weather), clear=self.weather == CLEAR, tick=self.tick,
            eye=eye, snowing=_SNOWFALL.get(self.biome_at(pose[0], pose[2]), False), overlay=overlay,
        )  # fmt: skip

    def distances(self, renderer: Renderer) -> np.ndarray:
        """Return the distances of the player's view ``float32 (H, W)``, see :meth:`VoxelWorld.distances`."""
        with_overlay, without = (np.empty((*renderer.frame_size, 3), np.uint8) for _ in range(2))
        self.draw(renderer, with_overlay)
        self.draw(renderer, without, bare_handed=True)
        out = renderer.distances()
        out[(with_overlay != without).any(-1)] = 0
        return out

    @property
    def target(self) -> tuple[int, int, int] | None:
        """Block under the crosshair."""
        status = self.status.tolist()
        if not status[physics.HAS_TARGET]:
            return None
        return status[physics.TARGET_X], status[physics.TARGET_Y], status[physics.TARGET_Z]

    def _dig_progress(self) -> float:
        ticks = int(self.status[physics.DIG_PROGRESS])
        target = self.target
        if not ticks or target is None:
            return 0.0
        return ticks / float(DIG_TICKS[self.grid.blocks[target[0], target[2], target[1]]])

    def describe(self) -> str:
        """Caption of where and when the player is."""
        x, _, z, _, _ = self.pose
        return caption.describe(self.biome_at(x, z), self.time_of_day, self.weather, task=self.task.name)

    def view(self) -> GameView:
        """Read-only look at the game."""
        blocks = self.grid.blocks.view()
        markers = self.task.markers.view()
        blocks.flags.writeable = markers.flags.writeable = False
        status, pose = self.status.tolist(), self.pose
        return GameView(
            blocks=blocks,
            pose=pose,
            in_water=bool(status[physics.IN_WATER]),
            slot=status[physics.SLOT],
            target=self.target,
            task=self.task.name,
            done=self.task.done,
            beacon=self.task.beacon,
            markers=markers,
            time_of_day=self.time_of_day,
            weather=self.weather,
            biome=self.biome_at(pose[0], pose[2]),
        )

    def save(self) -> WorldState:
        """Everything that the seed does not already say."""
        task = self.task
        meta = {"seed": self.seed, "task": task.name, "tick": self.tick, "distance": task.distance,
                "filled": task.filled, "done": task.done}  # fmt: skip
        arrays = {
            "body": self.body.copy(),
            "status": self.status.copy(),
            "edit_cells": np.array(list(self.edits.keys()), np.int64),
            "edit_blocks": np.array(list(self.edits.values()), np.uint8),
            "visited": np.packbits(task.visited),
            "frames": self.frames.copy(),
        }
        return WorldState(NAME, meta, arrays)

    @classmethod
    def load(cls, state: WorldState) -> "Game":
        """Build the game of a saved state."""
        meta, arrays = state.meta, state.arrays
        game = cls(int(meta["seed"]), meta["task"])
        game.tick = int(meta["tick"])
        task: Task = game.task
        task.distance, task.filled, task.done = float(meta["distance"]), int(meta["filled"]), bool(meta["done"])
        task.visited = np.unpackbits(arrays["visited"]).astype(bool).reshape(task.visited.shape)
        for cell, block in zip(arrays["edit_cells"].tolist(), arrays["edit_blocks"].tolist(), strict=True):
            column, y = divmod(cell, terrain.MAP_HEIGHT)
            x, z = divmod(column, terrain.MAP_SIZE)
            physics.set_block(game.grid, x, y, z, block)
            game.edits[cell] = block
        game.body, game.status = arrays["body"].copy(), arrays["status"].copy()
        game.frames = arrays["frames"].copy()
        return game


class VoxelWorld:
    """A batch of voxel games; see :class:`latentcraft.simulator.protocol.World` for the methods' contracts."""

    def __init__(
        self, num_worlds: int = 1, task: str = "free", frame_size: tuple[int, int] = (96, 160), chunk: int = 4
    ) -> None:
        """Prepare ``num_worlds`` games of ``task``; they begin with :meth:`reset`.

        Raises:
            UserError: a frame size that is not two multiples of 16, an unknown task, a number that is not positive.
        """
        if len(frame_size) != 2 or any(side < 16 or side % 16 for side in frame_size):
            raise UserError(f"frame size {tuple(frame_size)} must be (H, W) in multiples of 16, such as (96, 160)")
        if task not in TASKS:
            raise UserError(f"unknown task {task!r}; known: {', '.join(TASKS)}")
        if num_worlds < 1 or chunk < 1:
            raise UserError(f"num_worlds and chunk must be 1 or more, got {num_worlds} and {chunk}")
        height, width = frame_size
        self._spec = WorldSpec(NAME, num_worlds, (int(height), int(width)), chunk, task)
        self._renderer = Renderer((int(height), int(width)))
        self._games: list[Game | None] = [None] * num_worlds
        self._histories: list[tuple[np.ndarray, np.ndarray] | None] = [None] * num_worlds

    @property
    def spec(self) -> WorldSpec:
        """Shapes and names."""
        return self._spec

    def reset(self, starts: Sequence[Start | None]) -> np.ndarray:
        """Begin the given games anew and play their warm-up; returns its last chunk ``uint8 (b, f, H, W, 3)``."""
        if len(starts) != self.spec.num_worlds:
            raise UserError(f"reset needs a start (or None) for each world ({self.spec.num_worlds}), not {len(starts)}")
        for index, start in enumerate(starts):
            if start is None:
                self._running(index)
            elif start.seed is None or start.episode is not None or start.media is not None:
                raise UserError(f"the voxel world starts from a seed only, got {start}; give Start(seed=...)")
        # All warm-ups are played first, so that a bad seed leaves every game as it was.
        begun = {i: self._warm_up(start.seed) for i, start in enumerate(starts) if start and start.seed is not None}
        for index, (game, history) in begun.items():
            self._games[index], self._histories[index] = game, history
        return np.stack([self._running(index).frames for index in range(self.spec.num_worlds)])

    def step(self, actions: np.ndarray) -> Chunk:
        """Advance every game by one chunk of ``actions`` ``float32 (b, f, 20)``."""
        b, f = self.spec.num_worlds, self.spec.chunk
        actions = action_space.check_vectors(actions, (b, f, action_space.ACTION_SIZE))
        games = [self._running(index) for index in range(b)]
        frames = np.empty((b, f, *self.spec.frame_size, 3), np.uint8)
        rewards, terminated = np.zeros((b, f), np.float32), np.zeros((b, f), bool)
        infos: list[dict[str, Any]] = []
        for index, game in enumerate(games):
            poses = np.empty((f, 5), np.float32)
            for i in range(f):
                rewards[index, i] = game.advance(actions[index, i])
                terminated[index, i] = game.task.done
                poses[i] = game.body[:5]
                game.draw(self._renderer, frames[index, i])
            game.frames = frames[index].copy()
            infos.append(
                {"pose": game.pose, "poses": poses, "caption": game.describe(), "task": game.task.name}
                | game.task.info()
            )
        return Chunk(frames, rewards, terminated, infos)

    def save(self, index: int = 0) -> WorldState:
        """Return the exact state of game ``index``."""
        return self._running(index).save()

    def restore(self, state: WorldState, index: int = 0) -> np.ndarray:
        """Put game ``index`` into ``state``; returns its last frames ``uint8 (f, H, W, 3)``."""
        self._check_index(index)
        if state.world != NAME:
            raise UserError(f"this state was saved by world {state.world!r}; restore it there, not in {NAME!r}")
        if state.meta["task"] != self.spec.task:
            raise UserError(f"this state is of task {state.meta['task']!r}; restore it in a world of that task")
        shape = (self.spec.chunk, *self.spec.frame_size, 3)
        if state.arrays["frames"].shape != shape:
            raise UserError(f"this state has frames {state.arrays['frames'].shape}; this world's are {shape}")
        game = Game.load(state)
        self._games[index], self._histories[index] = game, None
        return game.frames.copy()

    def close(self) -> None:
        """Forget all games."""
        self._games = [None] * self.spec.num_worlds

    def history(self, index: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Return the warm-up of game ``index``: frames ``uint8 (WARMUP_CHUNKS * f, H, W, 3)`` and the actions
        ``float32 (WARMUP_CHUNKS * f, 20)`` whose effects they show. The dream takes both as its context.
        """
        game, history = self._running(index), self._histories[index]
        if history is None:  # restored: a warm-up is a function of the seed
            history = self._histories[index] = self._warm_up(game.seed)[1]
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
        self._running(index).draw(self._renderer, out, (x % terrain.MAP_SIZE, y, z % terrain.MAP_SIZE, yaw, pitch))
        return out

    def distances(self, index: int = 0) -> np.ndarray:
        """Return how far everything in game ``index``'s last frame is, metres along each ray, ``float32 (H, W)``.

        The crosshair and the held block are 0, the sky is :data:`latentcraft.model.episodes.SKY`.
        """
        return self._running(index).distances(self._renderer)

    def _warm_up(self, seed: int) -> tuple[Game, tuple[np.ndarray, np.ndarray]]:
        """Start the game of ``seed`` and play its warm-up."""
        f = self.spec.chunk
        game = Game(seed, self.spec.task)
        script = warmup_actions(seed, WARMUP_CHUNKS * f)
        frames = np.empty((len(script), *self.spec.frame_size, 3), np.uint8)
        for action, frame in zip(script, frames, strict=True):
            game.advance(action)
            game.draw(self._renderer, frame)
        game.frames = frames[-f:].copy()
        return game, (frames, script)

    def _check_index(self, index: int) -> None:
        if not 0 <= index < self.spec.num_worlds:
            raise UserError(f"no world {index}; this batch has worlds 0 to {self.spec.num_worlds - 1}")

    def _running(self, index: int) -> Game:
        self._check_index(index)
        game = self._games[index]
        if game is None:
            raise UserError(f"world {index} has not begun; call reset with a Start(seed=...) for it first")
        return game
