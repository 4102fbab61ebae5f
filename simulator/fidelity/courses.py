"""Courses for geometry and physics, found in the reference world: where to stroll, walk, jump, run into walls, fall.

All are functions of seeds. The start of a seed is searched for a direction in which the course can be run; a seed
without one is passed over.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np

from latentcraft.model.actions import BUTTON_INDEX, PITCH, noop
from latentcraft.simulator.fidelity.pose import displacement
from latentcraft.simulator.fidelity.reference import Reference, press, turn, wrap_degrees
from latentcraft.simulator.voxel import physics
from latentcraft.simulator.voxel.blocks import AIR, PASSABLE, WATER

CourseKind = Literal["jump", "walk", "wall", "fall"]
COURSES: tuple[CourseKind, ...] = ("jump", "walk", "wall", "fall")

TICKS = 60
"""Length of every course."""
REST = 4
"""Ticks to come to rest after the warm-up."""
READY = 16
"""Tick at which the player looks where it will walk."""
_STILL = 4
"""Ticks at rest at the end."""
_WALK = TICKS - READY - _STILL
JUMP_END = 20
"""Tick by which the player has landed; the full turn follows."""
HALF_TURN = JUMP_END + (TICKS - JUMP_END - _STILL) // 2
"""Tick at which the player looks the other way."""
_JUMP, _JUMP_HELD = 1.2, 3
"""Blocks of a jump that meets no ceiling, and ticks for which the button is held."""
PACE = (36, 56)
"""Ticks between which walking is timed: it has reached its speed by the first."""
_SPEED = 10.0
"""Degrees a tick of a turn."""
_IN_VIEW = 30.0
"""Degrees aside at which a course begins at most: inside the first view, which is 70 degrees wide. A world that was
never shown a wall cannot be asked where it stands."""
_HEADINGS = 15
"""Degrees between headings that are tried."""
_FREE_WAY = 10.9
"""Blocks walked in the time of a course and half a second more, if nothing is in the way."""
_NEAREST_WALL, _FARTHEST_WALL = 1.5, 7.0
"""Blocks to a wall: time to start walking, and to push on against it."""
_DROP = 2.0
"""Blocks of a fall at least."""
_STROLL_TURN, _SHARP, _GAZE, _HOP = 6.0, 45.0, 6.0, 4
"""Of a stroll: degrees a tick of a turn, degrees left to turn up to which one walks on, pitch, ticks of a hop."""
_DEEP = 8
"""Blocks down to which ground or water is looked for ahead."""
_SEARCH = 200
"""Seeds searched for each course at most."""


@dataclass(frozen=True)
class Course:
    """Actions from the start of a seed, and where they lead."""

    seed: int
    kind: CourseKind
    actions: np.ndarray
    """``float32 (TICKS, 20)``."""
    poses: np.ndarray = field(repr=False)
    """``float64 (TICKS + 1, 5)``: entry ``k`` is the reference's pose after ``k`` actions."""

    @property
    def way(self) -> np.ndarray:
        """Blocks (x, y, z) from where the player was ready to where it ended."""
        return displacement(self.poses[READY], self.poses[-1])


@lru_cache(maxsize=8)
def find_courses(first_seed: int, count: int, chunk: int) -> tuple[Course, ...]:
    """Return ``count`` courses of each kind, in the order of :data:`COURSES`, each kind on its own first seeds."""
    missing = dict.fromkeys(COURSES, count)
    found: dict[CourseKind, list[Course]] = {kind: [] for kind in COURSES}
    for seed in range(first_seed, first_seed + _SEARCH * count):
        if not any(missing.values()):
            return tuple(course for kind in COURSES for course in found[kind])
        start = Reference(seed, chunk=chunk)
        for kind in COURSES:
            course = find_course(start, kind) if missing[kind] else None
            if course is not None:
                found[kind].append(course)
                missing[kind] -= 1
    raise AssertionError("the reference world has hardly any courses")


def find_course(start: Reference, kind: CourseKind) -> Course | None:
    """Return the course of a game at its start that needs the least turning, None if there is none."""
    if kind == "jump":
        jump = np.concatenate([press("jump", ticks=_JUMP_HELD), press(ticks=JUMP_END - REST - _JUMP_HELD)])
        round_trip = TICKS - JUMP_END - _STILL
        level = _turned(start, 0.0, REST)
        actions = np.concatenate([level, jump, turn(0.0, 360.0, 360.0 / round_trip), press(ticks=_STILL)])
        course = _course(start, kind, actions)
        return course if np.ptp(course.poses[:, 1]) > _JUMP else None
    fits: dict[CourseKind, Callable[[Reference, float], np.ndarray | None]]
    fits = {"walk": _walk, "wall": _walk_into_wall, "fall": _walk_over_edge}
    yaw_now = start.pose[3]
    for offset in sorted((wrap_degrees(heading - yaw_now) for heading in range(0, 360, _HEADINGS)), key=abs):
        if abs(offset) <= _IN_VIEW:
            found = fits[kind](start, offset)
            if found is not None:
                return _course(start, kind, found)
    return None


def _course(start: Reference, kind: CourseKind, actions: np.ndarray) -> Course:
    assert len(actions) == TICKS
    return Course(start.game.seed, kind, actions, np.concatenate([[start.pose], start.rehearse(actions)]))


def _turned(start: Reference, yaw: float, ticks: int) -> np.ndarray:
    """Return actions that wait and then turn by ``yaw`` to a level view, ``ticks`` in all."""
    turning = turn(-start.pose[4], yaw, _SPEED)
    return np.concatenate([press(ticks=ticks - len(turning)), turning])


def _walk(start: Reference, yaw: float) -> np.ndarray | None:
    """Walk straight on over level ground, with room to walk on."""
    ready = _turned(start, yaw, READY)
    poses = start.rehearse(np.concatenate([ready, press("forward", ticks=_WALK + 12)]))[READY - 1 :]
    if np.ptp(poses[:, 1]) > 0 or np.hypot(*displacement(poses[0], poses[-1])[[0, 2]]) < _FREE_WAY:
        return None
    return np.concatenate([ready, press("forward", ticks=_WALK), press(ticks=_STILL)])


def _walk_into_wall(start: Reference, yaw: float) -> np.ndarray | None:
    """Walk straight at a wall of two blocks and push on.

    Along an axis, since a player slides along a wall it meets at an angle.
    """
    if abs(wrap_degrees(4 * (start.pose[3] + yaw))) > 1e-6:
        return None
    ready = _turned(start, yaw, READY)
    actions = np.concatenate([ready, press("forward", ticks=_WALK + _STILL)])
    poses = start.rehearse(actions)[READY - 1 :]
    way = np.hypot(*displacement(poses[0], poses[-1])[[0, 2]])
    stopped = np.abs(poses[-len(poses) // 4 :, :3] - poses[-1, :3]).max() < 1e-3
    x, y, z, heading, _ = poses[-1]
    dx, _, dz = physics.look_direction(heading, 0.0)
    in_wall = math.floor(x + 0.5 * dx), math.floor(y), math.floor(z + 0.5 * dz)
    tall = all(not PASSABLE[start.block((in_wall[0], in_wall[1] + up, in_wall[2]))] for up in (0, 1))
    fits = stopped and tall and np.ptp(poses[:, 1]) == 0 and _NEAREST_WALL < way < _FARTHEST_WALL
    return actions if fits else None


def _walk_over_edge(start: Reference, yaw: float) -> np.ndarray | None:
    """Walk over an edge, let go while falling, land on dry ground."""
    ready = _turned(start, yaw, READY)
    heights = start.rehearse(np.concatenate([ready, press("forward", ticks=_WALK)]))[READY - 1 :, 1]
    falling = np.flatnonzero(heights < heights[0] - 0.5)
    if not len(falling):
        return None
    walked = int(falling[0])
    actions = np.concatenate([ready, press("forward", ticks=walked), press(ticks=TICKS - READY - walked)])
    poses = start.rehearse(actions)
    landed = np.ptp(poses[-_STILL - 8 :, :3], axis=0).max() == 0
    x, y, z = (math.floor(value) for value in poses[-1, :3])
    if not landed or poses[-1, 1] > heights[0] - _DROP or start.block((x, y, z)) == WATER:
        return None
    return actions


def stroll(start: Reference, ticks: int) -> np.ndarray:
    """Return actions ``float32 (ticks, 20)`` of someone who walks about in the open.

    Winding ways, hops up steps, a turn to another side before walls and water; nothing is dug or placed. A function of
    the game's seed.
    """
    game, rng = start.fork(), np.random.default_rng(start.game.seed)
    wind, tilt = _smooth_noise(rng, ticks, 1.2), _smooth_noise(rng, ticks, 0.4)
    actions = noop(ticks)
    hop, blocked, turning = 0, 0, 0.0
    for tick in range(ticks):
        if not turning and tick % 4 == 0 and (blocked > 8 or not _open(game, 0.0)):
            turning, blocked = _way_out(game, rng), 0
        yaw = math.copysign(min(abs(turning), _STROLL_TURN), turning) if turning else float(wind[tick])
        turning = turning - yaw if turning else 0.0
        ahead = abs(turning) < _SHARP
        if blocked > 1 and not hop:
            hop = _HOP
        actions[tick, BUTTON_INDEX["forward"]] = ahead
        actions[tick, BUTTON_INDEX["jump"]] = hop > 0 or game.game.view().in_water
        hop = max(0, hop - 1)
        # The view wavers about a little below the horizon.
        actions[tick, PITCH:] = tilt[tick] + 0.05 * (_GAZE - game.pose[4]), yaw
        before = game.pose
        game.play(actions[tick : tick + 1])
        moved = np.hypot(*displacement(before, game.pose)[[0, 2]])
        blocked = blocked + 1 if ahead and moved < 0.05 else 0
    return actions


def _smooth_noise(rng: np.random.Generator, ticks: int, size: float) -> np.ndarray:
    """Return ``(ticks,)`` values that wander about 0 within about a second, of standard deviation ``size``."""
    width = 15
    noise = np.convolve(rng.normal(0.0, 1.0, ticks + width), np.ones(width) / width, "same")[:ticks]
    return size * math.sqrt(width) * noise


def _way_out(game: Reference, rng: np.random.Generator) -> float:
    """Return by how many degrees to turn to the nearest open side; any side if none is."""
    side = float(rng.choice((-1.0, 1.0)))
    for angle in range(30, 181, 30):
        for sign in (side, -side):
            if _open(game, sign * angle):
                return sign * angle
    return side * float(rng.uniform(60, 180))


def _open(game: Reference, turned: float) -> bool:
    """Whether, after a turn, nothing stands near before the eyes and no water lies before the feet."""
    x, y, z, yaw, _ = game.pose
    if game.aim((x, y, z, yaw + turned, 0.0)) is not None:
        return False
    dx, _, dz = physics.look_direction(yaw + turned, 0.0)
    for away in (1.0, 2.0, 3.0):
        column = math.floor(x + away * dx), math.floor(z + away * dz)
        below = (game.block((column[0], math.floor(y) - down, column[1])) for down in range(_DEEP))
        if next((block for block in below if block != AIR), AIR) == WATER:
            return False
    return True
