"""How the scripted explorer digs and places: single blocks, walls, pillars, holes, tunnels, and the way out of them."""

import math
from collections.abc import Callable

from latentcraft.agents.moving import (
    RESTING_PITCH,
    Actions,
    Rng,
    aiming_speed,
    full_circle,
    go_to,
    level_view,
    look,
    look_around,
    press,
    turn,
    turning_speed,
    walk,
)
from latentcraft.agents.senses import EYE, REACH, Cell, Senses, wrap
from latentcraft.model.actions import HOTBAR_SLOTS
from latentcraft.simulator.voxel.blocks import DIG_TICKS

REACTION = (1, 7)
"""Ticks after a block broke until the button is let go, from and below. A hand that let go in the very tick would teach
a net that letting go is what breaks a block, and that one that stays down never does."""
HOLDS_ON = 0.35
"""Share of blocks dug without a plan after which the button stays down for longer, into whatever is behind."""


def select(me: Senses, rng: Rng, slot: int) -> Actions:
    """Take hotbar slot 0 to 8 in hand, sometimes by way of others."""
    for through in (*rng.integers(HOTBAR_SLOTS, size=int(rng.integers(1, 5)) * (rng.random() < 0.4)), slot):
        if through != me.slot:
            me.slot = int(through)
            yield press(f"hotbar.{through + 1}")
            yield from (press() for _ in range(rng.integers(0, 6)))


def dig(me: Senses, rng: Rng, cell: Cell) -> Actions:
    """Aim at a block in reach and dig until it is gone, whatever hides it first; gives up after a few blocks."""
    for _ in range(5):
        if not me.solid(*cell):
            return
        centre = (cell[0] + 0.5, cell[1] + 0.5, cell[2] + 0.5)
        if me.distance(centre) > REACH + 0.5:
            return
        yield from look(me, *me.angles_to(centre), aiming_speed(rng))
        hit = me.ray(me.yaw, me.pitch)
        if hit is None or not me.breakable(hit.cell):
            return
        yield from break_block(me, rng, hit.cell)


def break_block(me: Senses, rng: Rng, cell: Cell) -> Actions:
    """Hold attack until the block at ``cell``, which the crosshair is on, breaks, and for a moment longer."""
    for _ in range(int(DIG_TICKS[me.block(*cell)]) + 6):
        yield press("attack")
        if not me.solid(*cell):
            yield from (press("attack") for _ in range(rng.integers(*REACTION)))
            return


def dig_about(me: Senses, rng: Rng, count: int | None = None) -> Actions:
    """Dig a few blocks in front."""
    for _ in range(int(rng.integers(1, 6)) if count is None else count):
        if not me.sees:
            yield from look(me, me.yaw + float(rng.normal(0, 25)), float(rng.uniform(15, 60)), aiming_speed(rng))
            yield from (press("attack") for _ in range(rng.integers(8, 20)))
            continue
        aim = spot(me, rng, lambda cell: me.breakable(cell))
        if aim is None:
            return
        yield from look(me, *aim, aiming_speed(rng))
        hit = me.ray(me.yaw, me.pitch)
        if hit is not None and me.breakable(hit.cell):
            yield from break_block(me, rng, hit.cell)
            if rng.random() < HOLDS_ON:
                yield from (press("attack") for _ in range(rng.integers(4, 40)))
        yield from (press() for _ in range(rng.integers(0, 5)))


def spot(me: Senses, rng: Rng, good: Callable[[Cell], bool], tries: int = 16) -> tuple[float, float] | None:
    """Return (yaw, pitch) of something solid and ``good`` within reach, near where one looks; None if none is found."""
    for attempt in range(tries):
        yaw = me.yaw + float(rng.normal(0, 20 + 4 * attempt))
        pitch = min(80.0, max(-50.0, float(rng.normal(25, 20))))
        hit = me.ray(yaw, pitch)
        # At first not what fills the whole view from close by.
        if hit is not None and hit.distance > (2.0 if attempt < tries // 2 else 1.0) and good(hit.cell):
            return wrap(yaw, 360), pitch
    return None


def place_about(me: Senses, rng: Rng, count: int | None = None) -> Actions:
    """Place a few blocks of one slot on what is in front: single ones, a row, a wall as it falls out."""
    yield from select(me, rng, int(rng.integers(HOTBAR_SLOTS)))
    for _ in range(int(rng.integers(1, 6)) if count is None else count):
        if me.sees:
            aim = spot(me, rng, lambda cell: True)
            if aim is None:
                return
            yield from look(me, *aim, aiming_speed(rng))
        else:
            yield from look(me, me.yaw + float(rng.normal(0, 25)), float(rng.uniform(25, 55)), aiming_speed(rng))
        yield from (press("use") for _ in range(rng.integers(1, 4)))
        yield from (press() for _ in range(rng.integers(1, 8)))


def build_wall(me: Senses, rng: Rng) -> Actions:
    """Put up a small wall in front, bottom row first."""
    if not me.sees:
        yield from place_about(me, rng)
        return
    yield from select(me, rng, int(rng.integers(HOTBAR_SLOTS)))
    x, level, z = me.feet
    ahead = round(me.yaw / 90) * 90
    dx, dz = -round(math.sin(math.radians(ahead))), round(math.cos(math.radians(ahead)))
    away, width = int(rng.integers(2, 4)), int(rng.integers(1, 3))
    for height in range(int(rng.integers(1, 4))):
        for side in range(-width, width + 1):
            cell = (x + dx * away - dz * side, level + height, z + dz * away + dx * side)
            yield from place_at(me, rng, cell)


def place_at(me: Senses, rng: Rng, cell: Cell) -> Actions:
    """Place the block in hand in a free cell, from a jump if its support cannot be seen from the ground."""
    if me.solid(*cell):
        return
    aim = face_towards(me, cell)
    if aim is not None:
        yield from look(me, *aim, aiming_speed(rng))
        for _ in range(3):
            yield press("use")
            if me.solid(*cell):
                break
    else:
        aim = face_towards(me, cell, lift=1.1)
        if aim is None:
            return
        yield from look(me, *aim, aiming_speed(rng))
        # A jump passes 1.0 blocks at its third tick, its top (1.25) at the fifth, and 1.0 again at the eighth.
        yield from (press("jump") for _ in range(4))
        yield from (press("use") for _ in range(4))
        yield from (press() for _ in range(4))
    yield from (press() for _ in range(rng.integers(0, 4)))


def face_towards(me: Senses, cell: Cell, lift: float = 0.0) -> tuple[float, float] | None:
    """Return (yaw, pitch) of a visible face of a solid neighbour of ``cell``: a block placed there fills ``cell``.

    Args:
        me: the player.
        cell: to be filled.
        lift: blocks to raise the eye by, for placing from a jump.
    """
    eye = (me.x, me.y + EYE + lift, me.z)
    for dx, dy, dz in ((0, -1, 0), (1, 0, 0), (-1, 0, 0), (0, 0, 1), (0, 0, -1), (0, 1, 0)):
        support = (cell[0] + dx, cell[1] + dy, cell[2] + dz)
        if not me.solid(*support):
            continue
        for slide in (0.0, 0.3, -0.3):  # the middle of a face may be hidden where its sides are not
            point = [cell[0] + 0.5 + 0.48 * dx, cell[1] + 0.5 + 0.48 * dy, cell[2] + 0.5 + 0.48 * dz]
            point[0] += slide * (dx == 0)
            point[2] += slide * (dz == 0)
            yaw, pitch = me.angles_to((point[0], point[1] - lift, point[2]))
            hit = me.ray(yaw, pitch, eye=eye)
            if hit is not None and me.same(hit.cell, support) and me.same(hit.before, cell):
                return yaw, pitch
    return None


def dig_down(me: Senses, rng: Rng) -> Actions:
    """Dig one to three blocks into the ground below and look at the sky from there."""
    yield from look(me, me.yaw, 85.0, turning_speed(rng))
    for _ in range(rng.integers(1, 4)):
        yield from (press("attack") for _ in range(rng.integers(9, 17)))
    yield from look(me, me.yaw, float(rng.uniform(-60, 10)), turning_speed(rng))
    yield from climb_out(me, rng)


def climb_out(me: Senses, rng: Rng) -> Actions:
    """Leave a hole by digging up what is overhead and placing blocks underfoot until there is somewhere to go."""
    if not me.sees:
        yield from pillar(me, rng)
        return
    for _ in range(14):
        way = max((me.free_way(yaw, reach=3.0), yaw) for yaw in range(-180, 180, 45))
        steps = [yaw for yaw in range(-180, 180, 45) if me.ahead(yaw) != "wall"]
        if way[0] >= 2.5 or steps and rng.random() < 0.7:
            yaw = way[1] if way[0] >= 2.5 else float(rng.choice(steps))
            yield from look(me, yaw, float(rng.normal(RESTING_PITCH, 8)), turning_speed(rng))
            yield from walk(me, rng, 20, bold=True)
            if not me.enclosed():
                return
        x, level, z = me.feet
        for above in (2, 3):
            if me.solid(x, level + above, z):
                yield from dig(me, rng, (x, level + above, z))
        yield from pillar(me, rng, 1)


def pillar(me: Senses, rng: Rng, count: int | None = None) -> Actions:
    """Jump and place a block underfoot, a few times."""
    yield from look(me, me.yaw, 87.0, turning_speed(rng))
    for _ in range(int(rng.integers(2, 6)) if count is None else count):
        yield from (press("jump") for _ in range(4))
        yield from (press("jump", "use") for _ in range(5))
        yield from (press() for _ in range(4))


def tower(me: Senses, rng: Rng) -> Actions:
    """Raise a pillar, look round from its top, walk off."""
    yield from select(me, rng, int(rng.integers(HOTBAR_SLOTS)))
    yield from pillar(me, rng)
    yield from level_view(me, rng)
    yield from (full_circle if rng.random() < 0.3 else look_around)(me, rng)
    yield from walk(me, rng, 30, bold=True)


def tunnel(me: Senses, rng: Rng) -> Actions:
    """Dig a way two high into the hill or wall in front, then turn round and come out."""
    if not me.sees:
        yield from look(me, me.yaw, 5.0, turning_speed(rng))
        yield from (press("attack", "forward") for _ in range(rng.integers(20, 50)))
        return
    ways = [(me.free_way(yaw, 5.0, 10.0), yaw) for yaw in (-180, -90, 0, 90)]
    distance, yaw = min(ways)
    if distance >= 10:
        return
    yield from look(me, yaw, 5.0, turning_speed(rng))
    for _ in range(60):
        if me.ahead(me.yaw, 1.0) == "wall":
            break
        yield press("forward", *(("jump",) if me.ahead(me.yaw) == "step" or me.in_water else ()))
    start = (me.x, me.z)
    dx, dz = -round(math.sin(math.radians(yaw))), round(math.cos(math.radians(yaw)))
    for _ in range(8):  # stand in the middle of the lane: a tunnel is hardly wider than its digger
        side = (math.floor(me.x) + 0.5 - me.x) * -dz + (math.floor(me.z) + 0.5 - me.z) * dx
        if abs(side) < 0.15:
            break
        yield press("right" if side > 0 else "left")
    for _ in range(rng.integers(2, 5)):
        x, level, z = me.feet
        for height in (1, 0):
            cell = (x + dx, level + height, z + dz)
            if me.solid(*cell):
                yield from dig(me, rng, cell)
        yield from look(me, yaw, float(rng.uniform(5, 35)), turning_speed(rng))
        yield from (press("forward") for _ in range(6))
    yield from turn(me, RESTING_PITCH - me.pitch, 180.0 * rng.choice((-1, 1)), turning_speed(rng))
    yield from go_to(me, rng, start, 0.8, timeout=60)
