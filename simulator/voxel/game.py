"""One game of the reference world: map, player, task, and what is seen of them.

A game is a pure function of its seed and the actions taken: same seed, same actions, same frames to the bit. Its state
is the seed, the blocks changed since, the player and a few counters, so a saved state is a few kilobytes beside the
last frames.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from latentcraft.model import actions as action_space
from latentcraft.simulator.protocol import TICKS_PER_SECOND, WorldState
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


class Site(NamedTuple):
    """Where the games of one seed and task begin. Shared: only ever copied from."""

    grid: physics.Grid
    biome: np.ndarray
    """``uint8 (256, 256)``."""
    task: Task
    spawn: tuple[float, float, float, float]
    """Feet (x, y, z) and yaw."""


@lru_cache(maxsize=4)
def prepare(seed: int, task: str) -> Site:
    """Generate the map of ``seed`` and set up ``task`` on it; takes some 50 ms, so the last few (5 MB each) are kept:
    both worlds, a restored game and all branches of one begin alike.
    """
    land = terrain.generate(seed)
    blocks = land.blocks.copy()
    chosen, (x, z, yaw) = set_up(task, land, blocks, seed, terrain.find_spawn(land, seed))
    spawn = x + 0.5, float(land.surface[x, z]) + 1, z + 0.5, yaw
    return Site(physics.build_grid(blocks), land.biome, chosen, spawn)


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
        site = prepare(seed, task)
        self.seed = seed
        self.biome = site.biome
        self.task = replace(site.task, visited=site.task.visited.copy())
        self.grid = physics.Grid(*(part.copy() for part in site.grid))
        self.body, self.status = physics.new_player(*site.spawn)
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
        """What was shown of the last chunk."""

    @property
    def pose(self) -> Pose:
        """Feet, yaw and pitch now."""
        x, y, z, yaw, pitch = self.body[:5].tolist()
        return x, y, z, yaw, pitch

    @property
    def changes(self) -> tuple[bool, bool]:
        """Whether something was dug, and whether something was placed, in the last tick."""
        return bool(self.events[physics.DUG_CELL] >= 0), bool(self.events[physics.PLACED_CELL] >= 0)

    @property
    def spots(self) -> np.ndarray:
        """Lower corners of the blocks that were dug and placed in the last tick, ``float32 (2, 3)``, 0 where none
        was; on the player's side of the map's seam.
        """
        spots = np.zeros((2, 3), np.float32)
        for kind, event in enumerate((physics.DUG_CELL, physics.PLACED_CELL)):
            cell = int(self.events[event])
            if cell >= 0:
                column, y = divmod(cell, terrain.MAP_HEIGHT)
                x, z = divmod(column, terrain.MAP_SIZE)
                spots[kind] = x, y, z
                away = spots[kind] - self.body[:3]
                spots[kind, [0, 2]] -= terrain.MAP_SIZE * np.round(away[[0, 2]] / terrain.MAP_SIZE)
        return spots

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

    def draw(
        self, renderer: Renderer, out: np.ndarray, pose: Pose | None = None, *, bare_handed: bool = False,
        outlines: bool = True,
    ) -> None:  # fmt: skip
        """Draw the player's view, or the bare view from another ``pose``, into ``out`` (H, W, 3).

        With ``bare_handed`` the player's view lacks the crosshair and the held block, without ``outlines`` the outline
        of the targeted block and its cracks.
        """
        overlay, eye = Overlay(), physics.EYE
        if pose is None:
            pose = self.pose
            eye = physics.EYE_SNEAKING if self.status[physics.SNEAKING] else physics.EYE
            overlay = Overlay(self.target if outlines else None, self._dig_progress() if outlines else 0.0,
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
        game = cls(int(state.meta["seed"]), state.meta["task"])
        game.restore(state)
        return game

    def restore(self, state: WorldState) -> None:
        """Go on from a state of the same seed and task: a matter of the changed blocks alone."""
        meta, arrays, task = state.meta, state.arrays, self.task
        assert (self.seed, task.name) == (meta["seed"], meta["task"])
        self.tick = int(meta["tick"])
        task.distance, task.filled, task.done = float(meta["distance"]), int(meta["filled"]), bool(meta["done"])
        task.visited = np.unpackbits(arrays["visited"]).astype(bool).reshape(task.visited.shape)
        edits = dict(zip(arrays["edit_cells"].tolist(), arrays["edit_blocks"].tolist(), strict=True))
        pristine = prepare(self.seed, task.name).grid.blocks.reshape(-1)
        undone = {cell: int(pristine[cell]) for cell in self.edits if cell not in edits}
        for cell, block in (undone | edits).items():
            column, y = divmod(cell, terrain.MAP_HEIGHT)
            x, z = divmod(column, terrain.MAP_SIZE)
            physics.set_block(self.grid, x, y, z, block)
        self.edits = edits
        self.body, self.status = arrays["body"].copy(), arrays["status"].copy()
        self.frames = arrays["frames"].copy()
