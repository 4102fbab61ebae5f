"""What a game pays for.

======================  ==================================================  =========================================
task                    reward per tick                                     ends
======================  ==================================================  =========================================
``free``                0                                                   never
``chop``                +1 for each log dug that the map came with (one     never
                        placed by the player, also in the place of such a
                        log, pays nothing); the player starts near a tree
``navigate``            +1 on coming within 2.5 blocks (horizontally) of    on reaching it
                        the beacon, 12 to 40 blocks from the start
``navigate-shaped``     as ``navigate``, and 0.1 a block come nearer        on reaching it
                        (-0.1 a block gone away)
``build``               +1 for each marked cell filled with a solid block,  when all 4 to 8 are filled
                        -1 when it is dug out again
``explore``             +1 for each 4 x 4 patch of ground first entered     never
======================  ==================================================  =========================================

After its end a task pays nothing more; the world itself plays on. Where a map has no good site for a task, the
nearest possible one is taken: a reset never fails.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from latentcraft.errors import UserError
from latentcraft.simulator.voxel import physics
from latentcraft.simulator.voxel.blocks import AIR, LOG, MARKER, PASSABLE
from latentcraft.simulator.voxel.physics import Grid
from latentcraft.simulator.voxel.terrain import MAP_HEIGHT, MAP_SIZE, SEA_LEVEL, Terrain, beacon_site, place_beacon

BEACON_REACH = 2.5
"""Horizontal distance (blocks) at which a beacon counts as reached."""
PATCH = 4
"""Side of an ``explore`` patch, blocks."""
SHAPING = 0.1
"""Reward per block of ``navigate-shaped``."""
_BEACON_DISTANCES = (12, 40)
_WALLS = ((4, 1), (2, 2), (5, 1), (3, 2), (4, 2))
"""Width and height of the marked walls."""
_WRAP = MAP_SIZE - 1


def mix(seed: int, stream: int) -> int:
    """Return 32 well-mixed bits of a seed and a stream number (splitmix64's finaliser)."""
    h = (seed * 0x9E3779B97F4A7C15 + stream * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) & 0xFFFFFFFFFFFFFFFF
    h = ((h ^ (h >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    h = ((h ^ (h >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return (h ^ (h >> 31)) >> 32


def uniform(seed: int, stream: int) -> float:
    """Return :func:`mix` as a float in [0, 1)."""
    return mix(seed, stream) / 2.0**32


def horizontal_distance(x: float, z: float, to_x: float, to_z: float) -> float:
    """Distance on the ground in blocks, the short way round the map."""
    dx = (to_x - x + MAP_SIZE / 2) % MAP_SIZE - MAP_SIZE / 2
    dz = (to_z - z + MAP_SIZE / 2) % MAP_SIZE - MAP_SIZE / 2
    return math.hypot(dx, dz)


@dataclass
class Task:
    """One game's task and how far it is. Sites are functions of the seed; only the rest changes and is saved."""

    name: str
    beacon: tuple[int, int, int] | None = None
    """Lowest block of the beacon tower."""
    markers: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    """Marked cells ``int64 (k, 3)``: x, y, z."""
    distance: float = 0.0
    """Blocks to the beacon at the last tick."""
    filled: int = 0
    """Marked cells that hold a solid block."""
    visited: np.ndarray = field(default_factory=lambda: np.zeros((MAP_SIZE // PATCH, MAP_SIZE // PATCH), bool))
    """Patches entered so far."""
    done: bool = False

    def begin(self, body: np.ndarray) -> None:
        """Take the player's start as the reference for what comes."""
        self.visited[int(body[physics.X]) % MAP_SIZE // PATCH, int(body[physics.Z]) % MAP_SIZE // PATCH] = True
        if self.beacon is not None:
            self.distance = self._to_beacon(body)

    def score(self, grid: Grid, body: np.ndarray, events: np.ndarray, *, natural: bool) -> float:
        """Return the reward of one tick and note whether the task ended.

        Args:
            grid: the map after the tick; a marked cell that was dug out is marked again.
            body: the player after the tick.
            events: what the tick dug and placed.
            natural: whether the dug cell had never been changed before.
        """
        if self.name == "build":
            self._mark_again(grid, events)
        if self.done:
            return 0.0
        if self.name == "chop":
            return float(events[physics.DUG_CELL] >= 0 and events[physics.DUG_BLOCK] == LOG and natural)
        if self.name in ("navigate", "navigate-shaped"):
            before, self.distance = self.distance, self._to_beacon(body)
            self.done = self.distance <= BEACON_REACH
            shaped = SHAPING * (before - self.distance) if self.name == "navigate-shaped" else 0.0
            return float(self.done) + shaped
        if self.name == "build":
            before_filled, self.filled = self.filled, self._count_filled(grid)
            self.done = self.filled == len(self.markers)
            return float(self.filled - before_filled)
        if self.name == "explore":
            patch = int(body[physics.X]) % MAP_SIZE // PATCH, int(body[physics.Z]) % MAP_SIZE // PATCH
            new = not self.visited[patch]
            self.visited[patch] = True
            return float(new)
        return 0.0

    def info(self) -> dict[str, Any]:
        """Return the task's state for a step's info."""
        if self.beacon is not None:
            return {"beacon": self.beacon, "distance": self.distance}
        if self.name == "build":
            return {"filled": self.filled, "cells": len(self.markers)}
        if self.name == "explore":
            return {"patches": int(self.visited.sum())}
        return {}

    def _to_beacon(self, body: np.ndarray) -> float:
        assert self.beacon is not None
        return horizontal_distance(body[physics.X], body[physics.Z], self.beacon[0] + 0.5, self.beacon[2] + 0.5)

    def _count_filled(self, grid: Grid) -> int:
        blocks = grid.blocks[self.markers[:, 0], self.markers[:, 2], self.markers[:, 1]]
        return int((~PASSABLE[blocks]).sum())

    def _mark_again(self, grid: Grid, events: np.ndarray) -> None:
        """Turn a marked cell that was dug out into a marker again."""
        if events[physics.DUG_CELL] < 0:
            return
        rest, y = divmod(int(events[physics.DUG_CELL]), MAP_HEIGHT)
        x, z = divmod(rest, MAP_SIZE)
        if (self.markers == (x, y, z)).all(-1).any():
            physics.set_block(grid, x, y, z, MARKER)


def set_up(
    name: str, terrain: Terrain, blocks: np.ndarray, seed: int, spawn: tuple[int, int, float]
) -> tuple[Task, tuple[int, int, float]]:
    """Prepare a task on a fresh copy of the map; a function of its arguments alone.

    Args:
        name: one of :data:`latentcraft.model.tasks.TASKS`.
        terrain: the pristine map.
        blocks: copy of its blocks, in which beacons and markers are placed.
        seed: the game's seed.
        spawn: (x, z, yaw) found for it.

    Returns:
        The task and where the player starts, as ``spawn``.
    """
    if name == "chop":
        return Task(name), _near_tree(terrain, seed, spawn)
    if name in ("navigate", "navigate-shaped"):
        beacon = _find_beacon(terrain, seed, spawn)
        place_beacon(blocks, *beacon)
        return Task(name, beacon=beacon), spawn
    if name == "build":
        markers = _find_wall(terrain, seed, spawn)
        blocks[markers[:, 0], markers[:, 2], markers[:, 1]] = MARKER
        return Task(name, markers=markers), spawn
    return Task(name), spawn


def _find_beacon(terrain: Terrain, seed: int, spawn: tuple[int, int, float]) -> tuple[int, int, int]:
    """Return a reachable site at the seed's distance, else at another, else any place 12 blocks away."""
    low, high = _BEACON_DISTANCES
    # Rings are up to 50 % wide, so keep the wanted distance a little inside the bounds.
    wanted = 15 + mix(seed, 1) % 20
    for distance in (wanted, *range(low, high + 1, 4), 60, 90, 120):
        try:
            site = beacon_site(terrain, spawn[0], spawn[1], seed, distance)
        except UserError:
            continue
        away = horizontal_distance(spawn[0], spawn[1], site[0], site[2])
        if distance > high or low <= away <= high:
            return site
    x, z = (spawn[0] + low) & _WRAP, spawn[1]
    return x, min(int(terrain.surface[x, z]) + 1, MAP_HEIGHT - 4), z


def _stands_free(terrain: Terrain, x: int, z: int, height: int = 2) -> bool:
    """Whether ``height`` cells over dry ground are air."""
    y = int(terrain.surface[x, z])
    return y >= SEA_LEVEL and bool((terrain.blocks[x, z, y + 1 : y + 1 + height] == AIR).all())


def _near_tree(terrain: Terrain, seed: int, spawn: tuple[int, int, float]) -> tuple[int, int, float]:
    """Return a free place 3 to 6 blocks from the tree nearest to ``spawn``, roughly facing it."""
    above = np.clip(terrain.surface.astype(np.int64) + 1, 0, MAP_HEIGHT - 1)
    trunks = np.argwhere(np.take_along_axis(terrain.blocks, above[..., None], 2)[..., 0] == LOG)  # (trees, 2)
    away = np.hypot(*((trunks - spawn[:2] + MAP_SIZE // 2) % MAP_SIZE - MAP_SIZE // 2).T)
    for tree in np.argsort(away, kind="stable")[:16]:
        tree_x, tree_z = int(trunks[tree, 0]), int(trunks[tree, 1])
        for attempt in range(48):
            angle = 2 * math.pi * uniform(seed, 100 + attempt)
            radius = 3.0 + 3.0 * uniform(seed, 200 + attempt)
            x = math.floor(tree_x + 0.5 + radius * math.cos(angle)) & _WRAP
            z = math.floor(tree_z + 0.5 + radius * math.sin(angle)) & _WRAP
            level = abs(int(terrain.surface[x, z]) - int(terrain.surface[tree_x, tree_z])) <= 1
            if level and _stands_free(terrain, x, z, 3) and _clear_walk(terrain, x, z, tree_x, tree_z):
                # From (x, z) to the tree is -(cos, sin) of the angle; yaw 0 looks along +z, yaw 90 along -x.
                yaw = math.degrees(math.atan2(math.cos(angle), -math.sin(angle)))
                return x, z, yaw + 40.0 * (uniform(seed, 2) - 0.5)
    return spawn


def _clear_walk(terrain: Terrain, x: int, z: int, to_x: int, to_z: int) -> bool:
    """Whether every column between two places is free to walk through and at most a step higher or lower."""
    dx = (to_x - x + MAP_SIZE // 2) % MAP_SIZE - MAP_SIZE // 2
    dz = (to_z - z + MAP_SIZE // 2) % MAP_SIZE - MAP_SIZE // 2
    steps = 2 * max(abs(dx), abs(dz))
    before = int(terrain.surface[x, z])
    for step in range(1, steps):
        column = math.floor(x + 0.5 + dx * step / steps) & _WRAP, math.floor(z + 0.5 + dz * step / steps) & _WRAP
        if column == (to_x, to_z):
            continue
        level = int(terrain.surface[column])
        if abs(level - before) > 1 or not _stands_free(terrain, *column):
            return False
        before = level
    return True


def _find_wall(terrain: Terrain, seed: int, spawn: tuple[int, int, float]) -> np.ndarray:
    """Return the cells of a low wall 3 to 8 blocks from ``spawn``, in front of it if the ground allows."""
    width, height = _WALLS[mix(seed, 3) % len(_WALLS)]
    base = spawn[2] + 60.0 * (uniform(seed, 4) - 0.5)
    nearest = 3 + mix(seed, 5) % 3
    feet = int(terrain.surface[spawn[0], spawn[1]])
    for radius in (nearest, nearest + 1, nearest + 2, 3, 4, 7, 8, *range(9, 33)):
        for turn in (0, 30, -30, 60, -60, 90, -90, 120, -120, 150, -150, 180):
            columns = _wall_columns(spawn, base + turn, radius, width)
            levels = [int(terrain.surface[column]) for column in columns]
            even = max(levels) - min(levels) <= 1 and all(abs(level - feet) <= 2 for level in levels)
            if even and all(_stands_free(terrain, *column, height + 1) for column in columns):
                return _wall_cells(columns, levels, height)
    # Nothing fits: mark whatever lies ahead, on the ground or just over what stands there.
    columns = _wall_columns(spawn, base, 4, width)
    levels = []
    for column in columns:
        level = int(terrain.surface[column])
        while level < MAP_HEIGHT - 3 and not PASSABLE[terrain.blocks[*column, level + 1 : level + 1 + height]].all():
            level += 1
        levels.append(level)
    return _wall_cells(columns, levels, height)


def _wall_columns(spawn: tuple[int, int, float], yaw: float, radius: float, width: int) -> list[tuple[int, int]]:
    """Return ``width`` neighbouring columns (x, z) ``radius`` blocks ahead, along x or z, whichever is across."""
    ahead_x, ahead_z = -math.sin(math.radians(yaw)), math.cos(math.radians(yaw))
    x, z = round(spawn[0] + radius * ahead_x), round(spawn[1] + radius * ahead_z)
    along_x = abs(ahead_z) >= abs(ahead_x)
    offsets = range(-(width // 2), width - width // 2)
    return [((x + k) & _WRAP, z & _WRAP) if along_x else (x & _WRAP, (z + k) & _WRAP) for k in offsets]


def _wall_cells(columns: list[tuple[int, int]], levels: list[int], height: int) -> np.ndarray:
    """Return the cells ``int64 (k, 3)`` on the ground ``levels`` of ``columns``."""
    return np.array(
        [(x, level + 1 + k, z) for (x, z), level in zip(columns, levels, strict=True) for k in range(height)], np.int64
    )
