"""What the scripted explorer plays at: the tasks, coming back to what it changed, and plain human-like noise."""

import math

import numpy as np

from latentcraft.agents.digging import build_wall, dig, dig_about, face_towards, place_about, place_at, select
from latentcraft.agents.moving import (
    RESTING_PITCH,
    Actions,
    Rng,
    aiming_speed,
    go_to,
    level_view,
    look,
    press,
    turn,
    turning_speed,
    walk,
    wander_far,
)
from latentcraft.agents.senses import REACH, Cell, Senses, wrap
from latentcraft.model.actions import BUTTON_INDEX, HOTBAR_SLOTS
from latentcraft.simulator.voxel.blocks import BEACON, LOG
from latentcraft.simulator.voxel.terrain import BEACON_HEIGHT

SEEN_ASIDE, SEEN_ABOVE = 30.0, 19.0
"""Degrees from the middle of the view, sideways and up or down, within which a thing is well inside the picture."""
LOOKING = 9.0
"""Degrees a tick while looking about for a beacon, always to the right: a clone sees too little to know which way it
was turning, and one of a player that turns either way turns to and fro."""
GLANCES = 0.01
"""Glances aside a tick on the way to a beacon."""


def change_and_return(me: Senses, rng: Rng) -> Actions:
    """Change something, turn away, wait, turn back exactly: what was changed must still be there."""
    yield from (dig_about if rng.random() < 0.5 else place_about)(me, rng, int(rng.integers(1, 4)))
    yield from (press() for _ in range(rng.integers(2, 10)))
    yaw, pitch, speed = float(rng.uniform(60, 180) * rng.choice((-1, 1))), 0.0, turning_speed(rng)
    if rng.random() < 0.3:
        pitch = float(rng.uniform(-40, 10)) - me.pitch
    before = (me.yaw, me.pitch)
    yield from turn(me, pitch, yaw, speed)
    yield from (press() for _ in range(rng.integers(6, 61)))
    if rng.random() < 0.2:  # on round the other way
        yield from turn(me, before[1] - me.pitch, math.copysign(360, yaw) - yaw, turning_speed(rng))
    else:
        yield from look(me, *before, turning_speed(rng))
    yield from (press() for _ in range(rng.integers(5, 20)))


def leave_and_return(me: Senses, rng: Rng) -> Actions:
    """Change something, walk off, come back and look at it."""
    if not me.sees:
        yield from change_and_return(me, rng)
        return
    yield from (dig_about if rng.random() < 0.3 else build_wall)(me, rng)
    x, y, z = me.x, me.y, me.z
    hit = me.ray(me.yaw, me.pitch)
    thing = hit.cell if hit else (math.floor(x), math.floor(y), math.floor(z))
    yield from look(me, me.open_yaw(rng), RESTING_PITCH, turning_speed(rng))
    yield from walk(me, rng, int(rng.integers(30, 70)))
    yield from go_to(me, rng, (x, z), 1.0, timeout=120)
    yield from look(me, *me.angles_to((thing[0] + 0.5, thing[1] + 0.5, thing[2] + 0.5)), turning_speed(rng))
    yield from (press() for _ in range(rng.integers(5, 20)))


def noise(me: Senses, rng: Rng) -> Actions:
    """Hold random buttons for random times while the camera drifts: combinations no plan would press."""
    rates = {"forward": 0.45, "back": 0.12, "left": 0.15, "right": 0.15, "jump": 0.2, "sneak": 0.08,
             "sprint": 0.2, "attack": 0.3, "use": 0.12}  # fmt: skip
    held: dict[str, int] = dict.fromkeys(rates, 0)
    down: dict[str, bool] = dict.fromkeys(rates, False)
    speed, goal, until = np.zeros(2), np.zeros(2), 0
    for tick in range(rng.integers(40, 120)):
        for name, rate in rates.items():
            if held[name] == 0:
                held[name], down[name] = int(rng.integers(4, 21)), bool(rng.random() < rate)
            held[name] -= 1
        if tick >= until:
            until = tick + int(rng.integers(6, 25))
            goal = np.zeros(2) if rng.random() < 0.35 else rng.normal(0, (1.5, 4.0))
            goal[0] -= 0.05 * (me.pitch - RESTING_PITCH)
        speed += np.clip(goal - speed, -2, 2)
        action = press(*(name for name in rates if down[name]), pitch=float(speed[0]), yaw=float(speed[1]))
        if rng.random() < 0.03:
            slot = int(rng.integers(HOTBAR_SLOTS))
            me.slot = slot
            action[BUTTON_INDEX[f"hotbar.{slot + 1}"]] = 1
        yield action


def chop(me: Senses, rng: Rng) -> Actions:
    """Walk to the nearest tree and dig its trunk as far as one reaches."""
    logs = me.nearest(LOG, 28, low=-4, high=3) if me.sees else []
    if not logs:
        yield from wander_far(me, rng)
        return
    target = logs[0] if rng.random() < 0.8 else logs[int(rng.integers(len(logs)))]
    yield from go_to(me, rng, (target[0] + 0.5, target[2] + 0.5), 1.9, timeout=240)
    for _ in range(rng.integers(3, 7)):
        near = [cell for cell in me.nearest(LOG, 4, -2, 6, limit=12) if me.distance(_centre(cell)) < REACH - 0.2]
        if not near:
            break
        yield from dig(me, rng, near[0])
        yield from (press() for _ in range(rng.integers(0, 4)))
    yield from level_view(me, rng)


def navigate(me: Senses, rng: Rng) -> Actions:
    """Look for the beacon as one does who does not know where it stands, and walk to it once it is in the picture.

    A player that knew the way at once could not be cloned: which way to turn first is in no frame that a clone sees
    (the imitation gap, Weihs et al. 2021).
    """
    beacon = me.view.beacon if me.view is not None else None
    if beacon is None:
        yield from walk(me, rng)
        return
    if abs(me.pitch - RESTING_PITCH) > 12:
        yield from level_view(me, rng)
    for _ in range(math.ceil(360 / LOOKING)):
        if in_sight(me, beacon):
            break
        yield press(yaw=LOOKING)
    else:
        yield from look(me, me.open_yaw(rng), RESTING_PITCH, aiming_speed(rng))
        yield from walk(me, rng, int(rng.integers(20, 50)))
        return
    target = (float(beacon[0]) + 0.5, float(beacon[2]) + 0.5)
    yield from glancing(me, rng, go_to(me, rng, target, 1.6, timeout=300, hurry=rng.random() < 0.7))


def glancing(me: Senses, rng: Rng, way: Actions) -> Actions:
    """Follow ``way`` and now and then turn aside, so that recordings show how one comes back to it.

    A clone strays, and of a player that never does it cannot learn what to do then (DART, Laskey et al. 2017).
    """
    for action in way:
        yield action
        if rng.random() < GLANCES:
            yield from turn(me, 0.0, float(rng.uniform(10, 70)) * rng.choice((-1, 1)), aiming_speed(rng))


def in_sight(me: Senses, beacon: Cell) -> bool:
    """Whether a part of the tower on the block ``beacon`` is well inside the picture with nothing before it."""
    x, y, z = (float(value) for value in beacon)
    for height in range(0, BEACON_HEIGHT, 2):
        yaw, pitch = me.angles_to(point := (x + 0.5, y + height + 0.5, z + 0.5))
        if abs(wrap(yaw - me.yaw, 360)) < SEEN_ASIDE and abs(pitch - me.pitch) < SEEN_ABOVE:
            hit = me.ray(yaw, pitch, me.distance(point))
            if hit is None or me.block(*hit.cell) == BEACON:
                return True
    return False


def build(me: Senses, rng: Rng) -> Actions:
    """Place a block on each marked cell."""
    markers = [] if me.view is None else [(int(x), int(y), int(z)) for x, y, z in me.view.markers]
    cells = [cell for cell in markers if not me.solid(*cell)]
    if not cells:
        yield from (walk if rng.random() < 0.5 else place_about)(me, rng)
        return
    yield from select(me, rng, int(rng.integers(HOTBAR_SLOTS)))
    cells.sort(key=lambda cell: (cell[1], me.distance(_centre(cell))))
    for cell in cells[: int(rng.integers(2, 7))]:
        centre = _centre(cell)
        if math.hypot(*me.offset(centre[0], centre[2])) > 3.2:
            yield from go_to(me, rng, (centre[0], centre[2]), 2.6, timeout=200)
        for _ in range(25):  # nobody can build where they stand
            dx, dz = me.offset(centre[0], centre[2])
            if max(abs(dx), abs(dz)) > 1.0:
                break
            yield press("back")
        yield from (press() for _ in range(3))
        if me.solid(*cell):
            continue
        for _ in range(2):
            if face_towards(me, cell) or face_towards(me, cell, lift=1.1):
                break
            angle = rng.uniform(0, 2 * math.pi)  # have a look from another side
            yield from go_to(
                me, rng, (centre[0] + 2.5 * math.cos(angle), centre[2] + 2.5 * math.sin(angle)), 0.7, timeout=60
            )  # fmt: skip
            yield from (press() for _ in range(3))
        yield from place_at(me, rng, cell)


def _centre(cell: Cell) -> tuple[float, float, float]:
    return cell[0] + 0.5, cell[1] + 0.5, cell[2] + 0.5
