"""What the scripted explorer knows of a game: the reference world's state where it can be read, dead reckoning else.

Geometry only, no decisions: rays, angles, what stands ahead, where a block is, which way is open, a path on foot.
Positions are (x, y, z) in blocks, y up; angles in degrees, yaw 0 along +z and 90 along -x, pitch positive downward.
"""

import math
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any, NamedTuple, Protocol

import numpy as np

from latentcraft.model.actions import PITCH, YAW
from latentcraft.simulator.voxel.blocks import PASSABLE, UNBREAKABLE, WATER

REACH = 4.3
"""Blocks from the eye within which a block is aimed at: a little under the world's 4.5, so that it is surely hit."""
EYE = 1.62
_PASSABLE: list[bool] = PASSABLE.tolist()
_UNBREAKABLE: list[bool] = UNBREAKABLE.tolist()

Cell = tuple[int, int, int]
Point = tuple[float, float, float]


class GameView(Protocol):
    """What is read of the reference world's game (``VoxelWorld.game``)."""

    @property
    def blocks(self) -> np.ndarray: ...
    @property
    def pose(self) -> Any: ...
    @property
    def in_water(self) -> bool: ...
    @property
    def beacon(self) -> Any: ...
    @property
    def markers(self) -> np.ndarray: ...


class Hit(NamedTuple):
    """Where a ray met something solid."""

    cell: Cell
    """The solid block."""
    before: Cell
    """The free cell in front of the face that was hit."""
    distance: float
    """Blocks from the eye."""


class Senses:
    """One player's view of its game; without a game (``view`` None) only its own turns are known."""

    def __init__(self) -> None:
        """Begin knowing nothing, looking ahead."""
        self.view: GameView | None = None
        self.x = self.y = self.z = self.yaw = self.pitch = 0.0
        self.slot = 0
        self._blocks = np.zeros((1, 1, 1), np.uint8)

    def update(self, view: GameView | None) -> None:
        """Take in the state at the start of a chunk."""
        self.view = view
        if view is not None:
            self.x, self.y, self.z, self.yaw, self.pitch = (float(value) for value in view.pose)
            self._blocks = view.blocks

    def follow(self, action: np.ndarray) -> None:
        """Reckon where the view points after ``action``; exact, since nothing else turns the player."""
        self.yaw = wrap(self.yaw + float(action[YAW]), 360)
        self.pitch = min(90.0, max(-90.0, self.pitch + float(action[PITCH])))

    @property
    def sees(self) -> bool:
        """Whether the game's state is known."""
        return self.view is not None

    @property
    def in_water(self) -> bool:
        """Whether the player is known to be in water."""
        return self.view is not None and bool(self.view.in_water)

    @property
    def eye(self) -> Point:
        """Where rays start."""
        return self.x, self.y + EYE, self.z

    @property
    def feet(self) -> Cell:
        """The cell the player's feet are in."""
        return math.floor(self.x), math.floor(self.y + 0.01), math.floor(self.z)

    def block(self, x: int, y: int, z: int) -> int:
        """Block id; bedrock-like 1 below the map is never needed, so cells outside its height are air (0)."""
        side_x, side_z, height = self._blocks.shape
        return int(self._blocks[x % side_x, z % side_z, y]) if 0 <= y < height else 0

    def solid(self, x: int, y: int, z: int) -> bool:
        """Whether a body cannot enter the cell."""
        return not _PASSABLE[self.block(x, y, z)]

    def breakable(self, cell: Cell) -> bool:
        """Whether digging the cell's block does anything."""
        return not _UNBREAKABLE[self.block(*cell)]

    def offset(self, x: float, z: float) -> tuple[float, float]:
        """Horizontal way (dx, dz) from the player, the short way round the map."""
        side_x, side_z = self._blocks.shape[:2]
        return wrap(x - self.x, side_x), wrap(z - self.z, side_z)

    def distance(self, point: Sequence[float]) -> float:
        """Blocks from the eye to (x, y, z)."""
        dx, dz = self.offset(point[0], point[2])
        return math.hypot(dx, point[1] - self.y - EYE, dz)

    def angles_to(self, point: Sequence[float]) -> tuple[float, float]:
        """Return (yaw, pitch) at which the crosshair is on a point."""
        dx, dz = self.offset(point[0], point[2])
        return math.degrees(math.atan2(-dx, dz)), -math.degrees(math.atan2(point[1] - self.y - EYE, math.hypot(dx, dz)))

    def ray(self, yaw: float, pitch: float, reach: float = REACH, eye: Point | None = None) -> Hit | None:
        """Return the first solid block along a view within ``reach`` blocks (Amanatides and Woo's traversal)."""
        start = eye or self.eye
        ry, rp = math.radians(yaw), math.radians(pitch)
        direction = (-math.sin(ry) * math.cos(rp), -math.sin(rp), math.cos(ry) * math.cos(rp))
        cell = [math.floor(value) for value in start]
        step = [1 if d > 0 else -1 for d in direction]
        gap = [1 / max(abs(d), 1e-9) for d in direction]
        ahead = [
            ((c + 1 - s) if d > 0 else (s - c)) * g
            for c, s, d, g in zip(cell, start, direction, gap, strict=True)
        ]  # fmt: skip
        while True:
            axis = ahead.index(min(ahead))
            distance = ahead[axis]
            if distance > reach:
                return None
            before = (cell[0], cell[1], cell[2])
            cell[axis] += step[axis]
            ahead[axis] += gap[axis]
            if self.solid(*cell):
                return Hit((cell[0], cell[1], cell[2]), before, distance)

    def same(self, a: Cell, b: Cell) -> bool:
        """Whether two cells are one, the map wrapping round."""
        side_x, side_z = self._blocks.shape[:2]
        return a[1] == b[1] and (a[0] - b[0]) % side_x == 0 and (a[2] - b[2]) % side_z == 0

    def free_way(self, yaw: float, pitch: float = 0.0, reach: float = 12.0) -> float:
        """Blocks one can see along a direction, at most ``reach``."""
        hit = self.ray(yaw, pitch, reach)
        return reach if hit is None else hit.distance

    def ahead(self, heading: float, distance: float = 0.75) -> str:
        """Return what a walker meets: ``free``, ``step`` (one jump up) or ``wall``."""
        x = math.floor(self.x - math.sin(math.radians(heading)) * distance)
        z = math.floor(self.z + math.cos(math.radians(heading)) * distance)
        here_x, level, here_z = self.feet
        if self.solid(x, level + 1, z):
            return "wall"
        if not self.solid(x, level, z):
            return "free"
        return "wall" if self.solid(x, level + 2, z) or self.solid(here_x, level + 2, here_z) else "step"

    def open_yaw(self, rng: np.random.Generator) -> float:
        """Return a direction drawn in favour of a far view."""
        yaws = self.yaw + np.arange(0, 360, 45) + rng.uniform(-20, 20)
        ways = np.array([self.free_way(yaw, 5) for yaw in yaws]) ** 2
        return wrap(float(rng.choice(yaws, p=ways / ways.sum())), 360)

    def enclosed(self) -> bool:
        """Whether there is a roof and little to see in any direction: a cave, a shaft, a hole."""
        x, level, z = self.feet
        roof = any(self.solid(x, y, z) for y in range(level + 2, self._blocks.shape[2]))
        ways = [self.free_way(yaw, reach=6.0) for yaw in range(0, 360, 60)]
        return (roof and max(ways) < 5) or max(ways) < 2

    def nearest(self, block: int, radius: int, low: int = -3, high: int = 4, limit: int = 6) -> list[Cell]:
        """Return up to ``limit`` nearest cells holding ``block``, between ``low`` and ``high`` of the feet's level."""
        here_x, level, here_z = self.feet
        span = np.arange(-radius, radius + 1)
        bottom, top = max(0, level + low), min(self._blocks.shape[2], level + high + 1)
        side_x, side_z = self._blocks.shape[:2]
        box = self._blocks[np.ix_((here_x + span) % side_x, (here_z + span) % side_z, np.arange(bottom, top))]
        found = np.argwhere(box == block)
        order = np.argsort(np.abs(found - [radius, radius, level - bottom]).sum(1), kind="stable")[:limit]
        return [(here_x + int(x) - radius, int(y) + bottom, here_z + int(z) - radius) for x, z, y in found[order]]

    def path(self, target: Sequence[float], reach: float, budget: int = 5000) -> list[Cell]:
        """Return cells to walk through towards (x, z) until within ``reach`` blocks of it, by A* on foot.

        Steps are to the eight neighbours: level, one up by a jump, up to four down; water can be swum at a cost. When
        ``budget`` cells do not suffice, the way to the cell nearest the target is returned.
        """
        sx, sy, sz = self.feet
        goal_x, goal_z = self.x + self.offset(target[0], 0)[0], self.z + self.offset(0, target[1])[1]

        def remaining(cell: Cell) -> float:
            return math.hypot(cell[0] + 0.5 - goal_x, cell[2] + 0.5 - goal_z)

        start = (sx, sy, sz)
        cost: dict[Cell, float] = {start: 0.0}
        came: dict[Cell, Cell] = {}
        queue = [(remaining(start), start)]
        best, closed = start, set[Cell]()
        while queue and len(closed) < budget:
            _, cell = heappop(queue)
            if cell in closed:
                continue
            closed.add(cell)
            if remaining(cell) < remaining(best):
                best = cell
            if remaining(cell) <= reach:
                break
            for neighbour, step in self._steps(cell):
                price = cost[cell] + step
                if price < cost.get(neighbour, math.inf):
                    cost[neighbour], came[neighbour] = price, cell
                    # 1.2: greedy enough to stay in budget, and a player does not walk shortest paths either.
                    heappush(queue, (price + 1.2 * remaining(neighbour), neighbour))
        way = [best]
        while way[-1] in came:
            way.append(came[way[-1]])
        return way[::-1]

    def can_walk_straight(self, cell: Cell) -> bool:
        """Whether the straight way to a cell is level, free and has ground under it."""
        dx, dz = self.offset(cell[0] + 0.5, cell[2] + 0.5)
        length, level = math.hypot(dx, dz), self.feet[1]
        if cell[1] != level or length > 8:
            return False
        for step in range(1, int(length / 0.4) + 1):
            x, z = self.x + dx * 0.4 * step / length, self.z + dz * 0.4 * step / length
            for side in (-0.3, 0.3):  # both shoulders
                place = math.floor(x - dz / length * side), math.floor(z + dx / length * side)
                if not self.solid(place[0], level - 1, place[1]):
                    return False
                if self.solid(place[0], level, place[1]) or self.solid(place[0], level + 1, place[1]):
                    return False
        return True

    def _steps(self, cell: Cell) -> list[tuple[Cell, float]]:
        """Return the cells one can walk to from ``cell``, with costs."""
        x, y, z = cell
        steps: list[tuple[Cell, float]] = []
        flat: dict[tuple[int, int], bool] = {}
        head_room = not self.solid(x, y + 2, z)
        for dx, dz in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            if dx and dz and not (flat.get((dx, 0)) and flat.get((0, dz))):
                continue  # corners are cut only over level ground
            nx, nz = x + dx, z + dz
            flat[dx, dz] = False
            if self.solid(nx, y + 1, nz):
                continue
            length = 1.4 if dx and dz else 1.0
            if self.solid(nx, y, nz):
                if head_room and not self.solid(nx, y + 2, nz) and not (dx and dz):
                    steps.append(((nx, y + 1, nz), length + 0.8))
                continue
            for drop in range(5):
                below = self.block(nx, y - drop - 1, nz)
                if below == WATER:
                    # Float at the surface: the feet are in the top water cell or just above it.
                    steps.append(((nx, y - drop, nz), length + drop + 2.0))
                    flat[dx, dz] = drop == 0
                    break
                if not _PASSABLE[below]:
                    steps.append(((nx, y - drop, nz), length + 0.5 * drop))
                    flat[dx, dz] = drop == 0
                    break
        return steps


def wrap(value: float, period: float) -> float:
    """Return ``value`` in [-period / 2, period / 2)."""
    return (value + period / 2) % period - period / 2
