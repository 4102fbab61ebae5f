"""The player's body: movement, collision, digging and placing, one tick (1/20 s) at a time, compiled with numba.

The constants are Minecraft's, in blocks and ticks, so that speeds (walk 4.3 m/s, sprint 5.6, sneak 1.3) and the jump
(1.25 blocks) come out as players and VPT recordings know them. Everything is float64 and free of random numbers: the
same grid, player and action give the same bits.

Besides the block ids the grid keeps, for every column, one 64-bit word whose bit ``y`` says whether block ``y`` is
there. A whole column (or the part of it a ray or a body passes) is then tested with one load and one mask.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from latentcraft.model import actions
from latentcraft.simulator.voxel import blocks as block_types
from latentcraft.simulator.voxel.compiling import njit
from latentcraft.simulator.voxel.terrain import MAP_HEIGHT, MAP_SIZE

assert MAP_HEIGHT == 64, "a column must fit one 64-bit word"
assert MAP_SIZE & (MAP_SIZE - 1) == 0, "wrapping is a bit mask"
WRAP = MAP_SIZE - 1
COARSE = 8
"""Columns per side of a coarse cell, whose word is the OR of its columns' (the renderer skips empty ones whole)."""

WIDTH, HEIGHT = 0.6, 1.8
EYE, EYE_SNEAKING = 1.62, 1.5
REACH = 4.5
PLACE_COOLDOWN = 4
SWING_TICKS = 6
GRAVITY, DRAG = 0.08, 0.98
JUMP_SPEED = 0.42
GROUND_ACCELERATION, GROUND_FRICTION = 0.098, 0.546
AIR_ACCELERATION, AIR_FRICTION = 0.0196, 0.91
SPRINT_FACTOR, SNEAK_FACTOR = 1.3, 0.3
SPRINT_JUMP_BOOST = 0.2
WATER_ACCELERATION, WATER_DRAG, WATER_GRAVITY, SWIM_UP, WATER_EXIT_SPEED = 0.0196, 0.8, 0.02, 0.04, 0.3
EDGE_STEP, EDGE_DROP = 0.05, 0.6
SKIN = 1e-7
"""Bodies this close (blocks) to a face touch it without being inside."""

X, Y, Z, BODY_YAW, BODY_PITCH, VX, VY, VZ = range(8)
"""Entries of the body, ``float64 (8,)``: feet centre (blocks), yaw and pitch (degrees), velocity (blocks a tick)."""
(ON_GROUND, IN_WATER, SNEAKING, SLOT, DIG_X, DIG_Y, DIG_Z, DIG_PROGRESS, COOLDOWN, SWING,
 HAS_TARGET, TARGET_X, TARGET_Y, TARGET_Z, NORMAL_X, NORMAL_Y, NORMAL_Z) = range(17)  # fmt: skip
STATUS_SIZE = 17
"""Entries of the status, ``int64 (17,)``: flags, hotbar slot 0-8, block being dug and ticks spent on it, ticks until
the next block may be placed, phase of the arm's swing, targeted block and the outward normal of its targeted face."""
DUG_CELL, DUG_BLOCK, PLACED_CELL, PLACED_BLOCK = range(4)
"""Entries of the events of a tick, ``int64 (4,)``: flat index of the dug cell (or -1) and what was there, flat index
of the placed cell (or -1) and the block that is there now."""

_FORWARD, _BACK, _LEFT, _RIGHT, _JUMP, _SNEAK, _SPRINT, _ATTACK, _USE = range(9)
_HOTBAR = actions.BUTTON_INDEX["hotbar.1"]
_PASSABLE, _UNBREAKABLE, _DIG_TICKS = block_types.PASSABLE, block_types.UNBREAKABLE, block_types.DIG_TICKS
_HOTBAR_BLOCKS = np.array(block_types.HOTBAR, np.int64)
_AIR, _WATER = block_types.AIR, block_types.WATER
assert actions.BUTTONS[:9] == ("forward", "back", "left", "right", "jump", "sneak", "sprint", "attack", "use")


class Grid(NamedTuple):
    """A map and the column words derived from it; change it only through :func:`set_block`."""

    blocks: np.ndarray
    """``uint8 (X, Z, Y)`` block ids."""
    solid: np.ndarray
    """``uint64 (X, Z)``: what bodies collide with and the crosshair targets (not air, water or markers)."""
    visible: np.ndarray
    """``uint64 (X, Z)``: everything but air."""
    coarse: np.ndarray
    """``uint64 (X / 8, Z / 8)``: OR of ``visible`` over 8 x 8 columns."""


def build_grid(blocks: np.ndarray) -> Grid:
    """Return the grid of a map ``uint8 (256, 256, 64)``; it owns ``blocks`` from then on."""
    solid, visible = np.zeros((2, MAP_SIZE, MAP_SIZE), np.uint64)
    coarse = np.zeros((MAP_SIZE // COARSE, MAP_SIZE // COARSE), np.uint64)
    _fill_words(blocks, solid, visible, coarse)
    return Grid(blocks, solid, visible, coarse)


@njit(cache=True)
def _fill_words(blocks, solid, visible, coarse):
    """Set the bits of a grid's words, which are zero."""
    for x in range(MAP_SIZE):
        for z in range(MAP_SIZE):
            for y in range(MAP_HEIGHT):
                block = blocks[x, z, y]
                if block != _AIR:
                    bit = np.uint64(1) << np.uint64(y)
                    visible[x, z] |= bit
                    if not _PASSABLE[block]:
                        solid[x, z] |= bit
            coarse[x // COARSE, z // COARSE] |= visible[x, z]


@njit(cache=True)
def set_block(grid: Any, x: int, y: int, z: int, block: int) -> None:
    """Write one block (x and z wrap) and keep the column words in step."""
    x, z = x & WRAP, z & WRAP
    grid.blocks[x, z, y] = block
    bit = np.uint64(1) << np.uint64(y)
    grid.solid[x, z] &= ~bit
    grid.visible[x, z] &= ~bit
    if not _PASSABLE[block]:
        grid.solid[x, z] |= bit
    if block != _AIR:
        grid.visible[x, z] |= bit
    left, near = x // COARSE * COARSE, z // COARSE * COARSE
    word = np.uint64(0)
    for column_x in range(left, left + COARSE):
        for column_z in range(near, near + COARSE):
            word |= grid.visible[column_x, column_z]
    grid.coarse[left // COARSE, near // COARSE] = word


@njit(cache=True)
def is_solid(grid: Any, x: int, y: int, z: int) -> bool:
    """Whether a body cannot enter this cell: below the map is solid, above it is air."""
    if y < 0:
        return True
    if y >= MAP_HEIGHT:
        return False
    return (grid.solid[x & WRAP, z & WRAP] >> np.uint64(y)) & np.uint64(1) != 0


@njit(cache=True)
def block_at(grid: Any, x: float, y: float, z: float) -> int:
    """Block id at a point; air above and below the map."""
    level = math.floor(y)
    if level < 0 or level >= MAP_HEIGHT:
        return _AIR
    return grid.blocks[math.floor(x) & WRAP, math.floor(z) & WRAP, level]


@njit(cache=True)
def _collides(grid, x, y, z):
    """Whether a body with its feet's centre at (x, y, z) overlaps anything solid."""
    half = WIDTH / 2 - SKIN
    for cell_x in range(math.floor(x - half), math.floor(x + half) + 1):
        for cell_z in range(math.floor(z - half), math.floor(z + half) + 1):
            for cell_y in range(math.floor(y + SKIN), math.floor(y + HEIGHT - SKIN) + 1):
                if is_solid(grid, cell_x, cell_y, cell_z):
                    return True
    return False


@njit(cache=True)
def _slide(grid, x, y, z, axis, delta):
    """How far (signed) a body at (x, y, z) gets along ``axis`` (0 x, 1 y, 2 z) before it touches something solid.

    Only cells the leading face newly enters count, so a body that starts inside a block can walk out of it.
    """
    if delta == 0.0:
        return 0.0
    half = WIDTH / 2
    low_x, high_x = math.floor(x - half + SKIN), math.floor(x + half - SKIN)
    low_y, high_y = math.floor(y + SKIN), math.floor(y + HEIGHT - SKIN)
    low_z, high_z = math.floor(z - half + SKIN), math.floor(z + half - SKIN)
    position = (x, y, z)[axis]
    before, after = (0.0, HEIGHT) if axis == 1 else (half, half)
    step = 1 if delta > 0 else -1
    face = position + after if delta > 0 else position - before
    cell = math.floor(face - SKIN) if delta > 0 else math.floor(face + SKIN)
    last = math.floor(face + delta - SKIN) if delta > 0 else math.floor(face + delta + SKIN)
    while cell != last:
        cell += step
        if axis == 0:
            low_x = high_x = cell
        elif axis == 1:
            low_y = high_y = cell
        else:
            low_z = high_z = cell
        for cell_x in range(low_x, high_x + 1):
            for cell_z in range(low_z, high_z + 1):
                for cell_y in range(low_y, high_y + 1):
                    if is_solid(grid, cell_x, cell_y, cell_z):
                        return (cell if delta > 0 else cell + 1) - face
    return delta


@njit(cache=True)
def look_direction(yaw: float, pitch: float) -> tuple[float, float, float]:
    """Unit vector (x, y, z) of a view: yaw 0 is +z, yaw 90 is -x, pitch 90 is down."""
    yaw, pitch = math.radians(yaw), math.radians(pitch)
    return -math.sin(yaw) * math.cos(pitch), -math.sin(pitch), math.cos(yaw) * math.cos(pitch)


@njit(cache=True)
def aim(grid: Any, body: np.ndarray, status: np.ndarray) -> None:
    """Find the solid block under the crosshair within reach and write it into ``status``."""
    eye_x, eye_z = body[X], body[Z]
    eye_y = body[Y] + (EYE_SNEAKING if status[SNEAKING] else EYE)
    dx, dy, dz = look_direction(body[BODY_YAW], body[BODY_PITCH])
    x, y, z = math.floor(eye_x), math.floor(eye_y), math.floor(eye_z)
    step_x, step_y, step_z = (1 if dx > 0 else -1), (1 if dy > 0 else -1), (1 if dz > 0 else -1)
    gap_x = 1.0 / max(abs(dx), 1e-9)
    gap_y = 1.0 / max(abs(dy), 1e-9)
    gap_z = 1.0 / max(abs(dz), 1e-9)
    next_x = (x + 1 - eye_x if dx > 0 else eye_x - x) * gap_x
    next_y = (y + 1 - eye_y if dy > 0 else eye_y - y) * gap_y
    next_z = (z + 1 - eye_z if dz > 0 else eye_z - z) * gap_z
    status[HAS_TARGET:] = 0
    while True:
        normal_x = normal_y = normal_z = 0
        if next_x <= next_y and next_x <= next_z:
            distance, x, next_x, normal_x = next_x, x + step_x, next_x + gap_x, -step_x
        elif next_y <= next_z:
            distance, y, next_y, normal_y = next_y, y + step_y, next_y + gap_y, -step_y
        else:
            distance, z, next_z, normal_z = next_z, z + step_z, next_z + gap_z, -step_z
        if distance > REACH or y < 0:
            return
        if is_solid(grid, x, y, z):
            status[HAS_TARGET] = 1
            status[TARGET_X], status[TARGET_Y], status[TARGET_Z] = x & WRAP, y, z & WRAP
            status[NORMAL_X], status[NORMAL_Y], status[NORMAL_Z] = normal_x, normal_y, normal_z
            return


@njit(cache=True)
def _move(grid, body, status, action):
    """Turn the movement buttons into a velocity, move with collisions, wrap the position."""
    forward, strafe = action[_FORWARD] - action[_BACK], action[_RIGHT] - action[_LEFT]
    jump, sneak = action[_JUMP] > 0, action[_SNEAK] > 0
    sprint = action[_SPRINT] > 0 and forward > 0 and not sneak
    length = max(1.0, math.sqrt(forward * forward + strafe * strafe))
    forward, strafe = forward / length, strafe / length
    in_water, on_ground = status[IN_WATER] != 0, status[ON_GROUND] != 0
    if in_water:
        acceleration = WATER_ACCELERATION
    else:
        acceleration = GROUND_ACCELERATION if on_ground else AIR_ACCELERATION
    if sprint:
        acceleration *= SPRINT_FACTOR
    if sneak:
        acceleration *= SNEAK_FACTOR
    yaw = math.radians(body[BODY_YAW])
    ahead_x, ahead_z = -math.sin(yaw), math.cos(yaw)
    body[VX] += (ahead_x * forward - ahead_z * strafe) * acceleration
    body[VZ] += (ahead_z * forward + ahead_x * strafe) * acceleration
    if jump and in_water:
        body[VY] += SWIM_UP
    elif jump and on_ground:
        body[VY] = JUMP_SPEED
        if sprint:
            body[VX] += ahead_x * SPRINT_JUMP_BOOST
            body[VZ] += ahead_z * SPRINT_JUMP_BOOST

    x, y, z = body[X], body[Y], body[Z]
    want_x, want_y, want_z = body[VX], body[VY], body[VZ]
    if sneak and on_ground and want_y <= 0:  # a sneaking player stops at an edge instead of falling
        while want_x != 0.0 and not _collides(grid, x + want_x, y - EDGE_DROP, z):
            want_x = 0.0 if abs(want_x) < EDGE_STEP else want_x - math.copysign(EDGE_STEP, want_x)
        while want_z != 0.0 and not _collides(grid, x + want_x, y - EDGE_DROP, z + want_z):
            want_z = 0.0 if abs(want_z) < EDGE_STEP else want_z - math.copysign(EDGE_STEP, want_z)
    moved_y = _slide(grid, x, y, z, 1, want_y)
    y += moved_y
    moved_x = _slide(grid, x, y, z, 0, want_x)
    x += moved_x
    moved_z = _slide(grid, x, y, z, 2, want_z)
    z += moved_z
    blocked = moved_x != want_x or moved_z != want_z
    status[ON_GROUND] = moved_y != want_y and want_y < 0
    status[SNEAKING] = sneak
    body[X], body[Y], body[Z] = x % MAP_SIZE, y, z % MAP_SIZE
    body[VX], body[VZ] = moved_x, moved_z
    if moved_y != want_y:
        body[VY] = 0.0

    friction = GROUND_FRICTION if on_ground else AIR_FRICTION
    if in_water:
        friction = WATER_DRAG
        body[VY] = body[VY] * WATER_DRAG - WATER_GRAVITY
        if blocked and jump:  # climb out of the water at a bank
            body[VY] = WATER_EXIT_SPEED
    else:
        body[VY] = (body[VY] - GRAVITY) * DRAG
    body[VX] *= friction
    body[VZ] *= friction
    if abs(body[VX]) < 0.003:  # Minecraft's cut-off: a player who lets go comes to a true rest
        body[VX] = 0.0
    if abs(body[VZ]) < 0.003:
        body[VZ] = 0.0
    status[IN_WATER] = block_at(grid, body[X], body[Y] + 0.4, body[Z]) == _WATER


@njit(cache=True)
def _dig(grid, status, events):
    """Work on the targeted block; break it when enough ticks were spent on it."""
    x, y, z = status[TARGET_X], status[TARGET_Y], status[TARGET_Z]
    block = grid.blocks[x, z, y]
    if _UNBREAKABLE[block]:
        status[DIG_PROGRESS] = 0
        return
    if status[DIG_PROGRESS] > 0 and status[DIG_X] == x and status[DIG_Y] == y and status[DIG_Z] == z:
        status[DIG_PROGRESS] += 1
    else:
        status[DIG_X], status[DIG_Y], status[DIG_Z], status[DIG_PROGRESS] = x, y, z, 1
    if status[DIG_PROGRESS] < _DIG_TICKS[block]:
        return
    status[DIG_PROGRESS] = 0
    # Water does not flow, but a hole beside or under it fills: an air pocket in a lake would look broken.
    wet = y + 1 < MAP_HEIGHT and grid.blocks[x, z, y + 1] == _WATER
    for side_x, side_z in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        wet |= grid.blocks[(x + side_x) & WRAP, (z + side_z) & WRAP, y] == _WATER
    set_block(grid, x, y, z, _WATER if wet else _AIR)
    events[DUG_CELL] = (x * MAP_SIZE + z) * MAP_HEIGHT + y
    events[DUG_BLOCK] = block


@njit(cache=True)
def _place(grid, body, status, events):
    """Put the selected block against the targeted face, unless a body or a block is there."""
    x = (status[TARGET_X] + status[NORMAL_X]) & WRAP
    y = status[TARGET_Y] + status[NORMAL_Y]
    z = (status[TARGET_Z] + status[NORMAL_Z]) & WRAP
    if y < 0 or y >= MAP_HEIGHT or not _PASSABLE[grid.blocks[x, z, y]]:
        return
    away_x = abs((x + 0.5 - body[X] + MAP_SIZE / 2) % MAP_SIZE - MAP_SIZE / 2)
    away_z = abs((z + 0.5 - body[Z] + MAP_SIZE / 2) % MAP_SIZE - MAP_SIZE / 2)
    near = 0.5 + WIDTH / 2 - SKIN
    if away_x < near and away_z < near and body[Y] + SKIN < y + 1 and y < body[Y] + HEIGHT - SKIN:
        return
    block = _HOTBAR_BLOCKS[status[SLOT]]
    set_block(grid, x, y, z, block)
    status[COOLDOWN] = PLACE_COOLDOWN
    status[SWING] = 1
    events[PLACED_CELL] = (x * MAP_SIZE + z) * MAP_HEIGHT + y
    events[PLACED_BLOCK] = block


@njit(cache=True)
def tick(grid: Any, body: np.ndarray, status: np.ndarray, action: np.ndarray, events: np.ndarray) -> None:
    """Advance one player by one tick, in place.

    Args:
        grid: the :class:`Grid` the player is in.
        body: ``float64 (8,)``.
        status: ``int64 (17,)``.
        action: one checked action vector ``float32 (20,)``.
        events: ``int64 (4,)``, overwritten with what was dug and placed.
    """
    events[:] = -1
    yaw = body[BODY_YAW] + action[actions.YAW]
    body[BODY_YAW] = (yaw + 180.0) % 360.0 - 180.0
    body[BODY_PITCH] = min(90.0, max(-90.0, body[BODY_PITCH] + action[actions.PITCH]))
    for slot in range(actions.HOTBAR_SLOTS):
        if action[_HOTBAR + slot] > 0:
            status[SLOT] = slot
    _move(grid, body, status, action)
    aim(grid, body, status)

    attack, use = action[_ATTACK] > 0, action[_USE] > 0
    # The arm swings while a button is held and finishes its swing after it: the frame shows what the player does.
    if status[SWING] > 0 or attack:
        status[SWING] = (status[SWING] + 1) % SWING_TICKS
    if attack and status[HAS_TARGET]:
        _dig(grid, status, events)
    else:
        status[DIG_PROGRESS] = 0
    status[COOLDOWN] = max(0, status[COOLDOWN] - 1) if use else 0
    if use and status[COOLDOWN] == 0 and status[HAS_TARGET] and events[DUG_CELL] < 0:
        _place(grid, body, status, events)
    if events[DUG_CELL] >= 0 or events[PLACED_CELL] >= 0:
        aim(grid, body, status)


def new_player(x: float, y: float, z: float, yaw: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (body, status) of a player standing at rest."""
    body = np.array([x % MAP_SIZE, y, z % MAP_SIZE, (yaw + 180.0) % 360.0 - 180.0, 0, 0, 0, 0], np.float64)
    status = np.zeros(STATUS_SIZE, np.int64)
    status[ON_GROUND] = 1
    return body, status
