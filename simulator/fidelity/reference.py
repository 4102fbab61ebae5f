"""One game of the reference world, opened up: any view of it, with any block changed in thought.

Studies walk beside a subject with it: the same seed, the same warm-up and the same actions, so that at every tick the
true state is at hand, and pictures of what would have been otherwise.
"""

import copy
import math
import threading
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from latentcraft.model import actions as action_space
from latentcraft.simulator.protocol import WARMUP_CHUNKS
from latentcraft.simulator.voxel import physics
from latentcraft.simulator.voxel.blocks import AIR, WATER
from latentcraft.simulator.voxel.game import Game, Pose, warmup_actions
from latentcraft.simulator.voxel.render import Renderer
from latentcraft.simulator.voxel.terrain import MAP_HEIGHT, MAP_SIZE

Cell = tuple[int, int, int]
"""A block's (x, y, z)."""
AnyPose = Sequence[float] | np.ndarray
"""Feet (x, y, z) in blocks, yaw and pitch in degrees, as five numbers of any kind."""
FREE_TASK = "free"
_EDITING = [action_space.BUTTON_INDEX["attack"], action_space.BUTTON_INDEX["use"]]


class _Drawing(threading.local):
    """What each thread draws with: a renderer has buffers of its own."""

    def __init__(self) -> None:
        self.renderers: dict[tuple[int, int], Renderer] = {}

    def renderer(self, frame_size: tuple[int, int]) -> Renderer:
        if frame_size not in self.renderers:
            self.renderers[frame_size] = Renderer(frame_size)
        return self.renderers[frame_size]


_drawing = _Drawing()


class Reference:
    """The game of one seed after its warm-up, at the moment at which every world starts from that seed."""

    def __init__(self, seed: int, *, chunk: int = 4, task: str = FREE_TASK) -> None:
        """Start the game and play its warm-up.

        Args:
            seed: of the game.
            chunk: frames in a chunk of the subject; the warm-up is so many chunks long.
            task: sets up the map (markers, beacons).
        """
        self.game = Game(seed, task)
        self.play(warmup_actions(seed, WARMUP_CHUNKS * chunk))

    @property
    def pose(self) -> Pose:
        """Feet (x, y, z), yaw and pitch now."""
        return self.game.pose

    def play(self, actions: np.ndarray) -> np.ndarray:
        """Play actions ``(T, 20)``; returns the poses after each tick, ``float64 (T, 5)``."""
        poses = np.empty((len(actions), 5))
        for action, pose in zip(actions, poses, strict=True):
            self.game.advance(action)
            pose[:] = self.game.body[:5]
        return poses

    def rehearse(self, actions: np.ndarray) -> np.ndarray:
        """Return the poses ``float64 (T, 5)`` that actions without attack and use would lead to; nothing changes."""
        assert not actions[:, _EDITING].any(), "a rehearsal must leave the blocks alone"
        game, poses = self.game, np.empty((len(actions), 5))
        body, status, events = game.body.copy(), game.status.copy(), np.empty_like(game.events)
        for action, pose in zip(actions, poses, strict=True):
            physics.tick(game.grid, body, status, action, events)
            pose[:] = body[:5]
        return poses

    def fork(self) -> "Reference":
        """Return an independent copy of the game as it is now."""
        return copy.deepcopy(self)

    def block(self, cell: Cell) -> int:
        """Block id at a cell; air above and below the map."""
        x, y, z = cell
        return int(self.game.grid.blocks[x % MAP_SIZE, z % MAP_SIZE, y]) if 0 <= y < MAP_HEIGHT else AIR

    def without(self, cell: Cell) -> int:
        """Return what would be at a cell if its block were dug: air, or water where some stands beside or over it."""
        x, y, z = cell
        beside = [(x, y + 1, z), (x + 1, y, z), (x - 1, y, z), (x, y, z + 1), (x, y, z - 1)]
        return WATER if any(self.block(other) == WATER for other in beside) else AIR

    def inside(self, pose: AnyPose) -> bool:
        """Whether the eye of a player at ``pose`` is within a solid block."""
        x, y, z = pose[:3]
        eye = math.floor(x), math.floor(y + physics.EYE), math.floor(z)
        return bool(physics.is_solid(self.game.grid, *eye))

    def touches(self, cell: Cell) -> bool:
        """Whether a block at ``cell`` would stand in the player's body."""
        x, y, z = self.pose[:3]
        away_x, away_z = wrap_blocks(cell[0] + 0.5 - x), wrap_blocks(cell[2] + 0.5 - z)
        near = 0.5 + physics.WIDTH / 2
        return max(abs(away_x), abs(away_z)) < near and y - 1 < cell[1] < y + physics.HEIGHT

    def aim(self, pose: AnyPose) -> tuple[Cell, Cell] | None:
        """Return the solid block under the crosshair from ``pose`` and the cell before its face; None out of reach."""
        body, status = self.game.body.copy(), self.game.status.copy()
        body[:5] = pose
        physics.aim(self.game.grid, body, status)
        if not status[physics.HAS_TARGET]:
            return None
        x, y, z = (int(value) for value in status[physics.TARGET_X : physics.TARGET_Z + 1])
        normal = status[physics.NORMAL_X : physics.NORMAL_Z + 1]
        return (x, y, z), ((x + int(normal[0])) % MAP_SIZE, y + int(normal[1]), (z + int(normal[2])) % MAP_SIZE)

    def flat(self, cell: Cell) -> int:
        """Index of a cell in the flattened map, as :attr:`Game.edits` has it."""
        return (cell[0] * MAP_SIZE + cell[2]) * MAP_HEIGHT + cell[1]

    def draw(
        self, frame_size: tuple[int, int], pose: AnyPose | None = None, edits: Mapping[Cell, int] | None = None
    ) -> np.ndarray:
        """Draw the player's own view, crosshair and held block included, as if it stood elsewhere or blocks differed.

        Args:
            frame_size: (H, W) in pixels.
            pose: feet, yaw and pitch; None takes the player's.
            edits: block ids by cell, put in for this picture only.

        Returns:
            ``uint8 (H, W, 3)``.
        """
        game, edits = self.game, edits or {}
        body, status = game.body.copy(), game.status.copy()
        before = {cell: self.block(cell) for cell in edits}
        try:
            self._set(edits.items())
            if pose is not None:
                game.body[:5] = pose
                game.body[[physics.X, physics.Z]] %= MAP_SIZE
            physics.aim(game.grid, game.body, game.status)
            out = np.empty((*frame_size, 3), np.uint8)
            game.draw(_drawing.renderer(frame_size), out)
        finally:
            self._set(before.items())
            game.body[:], game.status[:] = body, status
        return out

    def _set(self, edits: Iterable[tuple[Cell, int]]) -> None:
        for (x, y, z), block in edits:
            physics.set_block(self.game.grid, x, y, z, block)


def press(*buttons: str, ticks: int = 1, pitch: float = 0.0, yaw: float = 0.0) -> np.ndarray:
    """Return ``ticks`` equal actions ``float32 (ticks, 20)``: buttons held, the camera moving by degrees a tick."""
    held = {button: 1 for button in buttons} | {"camera": (pitch, yaw)}
    return np.repeat(action_space.to_vector(held)[None], ticks, 0)


def turn(pitch: float, yaw: float, speed: float) -> np.ndarray:
    """Return actions ``(T, 20)`` that turn the view by exactly (pitch, yaw), at most ``speed`` degrees a tick."""
    ticks = max(1, int(np.ceil(max(abs(pitch), abs(yaw)) / speed)))
    return press(ticks=ticks, pitch=pitch / ticks, yaw=yaw / ticks)


def wrap_degrees(angle: float) -> float:
    """Return an angle the short way round, -180 to 180."""
    return (angle + 180.0) % 360.0 - 180.0


def wrap_blocks(offset: float) -> float:
    """Return an offset in x or z the short way round the map."""
    return (offset + MAP_SIZE / 2) % MAP_SIZE - MAP_SIZE / 2
