"""How the scripted explorer looks and walks: each behaviour is a generator of action vectors, one a tick.

Behaviours read :class:`Senses` between ticks and work without them too (``me.sees`` False: in the dream there is no
state to read, so they press the same buttons blindly). They are joined with ``yield from``. Camera movement is smooth
and at a person's speeds; nothing here is white noise, since a model learns little from a view that trembles.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from latentcraft.agents.senses import Senses, wrap
from latentcraft.model.actions import BUTTON_INDEX, CAMERA_LIMIT, PITCH, YAW, noop
from latentcraft.simulator.voxel.blocks import DIRT, GRASS, SAND, SNOW, STONE, WATER

Actions = Iterator[np.ndarray]
Rng = np.random.Generator

RESTING_PITCH = 9.0
"""Degrees below the horizon where the view rests on average: ground and sky both show."""

SHORE = (GRASS, SAND, SNOW, DIRT, STONE)
"""Blocks one climbs out of the water on."""
SIDEWAYS = (("left",), ("right",), ("back",), ("forward", "left"), ("forward", "right"), ("back", "left"),
            ("back", "right"))  # fmt: skip
LONGEST_TURN = 40
"""Ticks a turn takes at most: nobody turns round at a degree a tick."""


def press(*buttons: str, pitch: float = 0.0, yaw: float = 0.0) -> np.ndarray:
    """Return one action vector with ``buttons`` held and the camera moving."""
    action = noop()
    for button in buttons:
        action[BUTTON_INDEX[button]] = 1
    action[PITCH], action[YAW] = pitch, yaw
    return action


def turning_speed(rng: Rng) -> float:
    """Return a peak speed, degrees a tick: log-uniform over a person's 0.8 to 8, now and then a flick."""
    return float(rng.uniform(8, 25)) if rng.random() < 0.04 else float(np.exp(rng.uniform(np.log(0.8), np.log(8))))


def aiming_speed(rng: Rng) -> float:
    """Return a peak speed for aiming at something near, degrees a tick: people are quick at that."""
    return float(rng.uniform(2, 9))


def arc(pitch: float, yaw: float, speed: float) -> np.ndarray:
    """Return camera moves ``(n, 2)`` that turn by exactly (pitch, yaw): gathering speed, holding it, slowing down."""
    size = math.hypot(pitch, yaw)
    if size < 1e-3:
        return np.zeros((0, 2))
    speed = max(speed, size / LONGEST_TURN)
    ramp = 3 if size > 4 * speed else 1
    ticks = max(1, math.ceil(size / speed) + ramp - 1, math.ceil(1.5 * size / CAMERA_LIMIT))
    index = np.arange(ticks)
    weights = np.minimum(1.0, np.minimum(index + 1, ticks - index) / ramp)
    moves: np.ndarray = weights[:, None] / weights.sum() * np.array([pitch, yaw])
    return moves


def turn(me: Senses, pitch: float, yaw: float, speed: float, *buttons: str) -> Actions:
    """Turn by (pitch, yaw) degrees at up to ``speed`` a tick; the pitch stops short of straight up and down."""
    pitch = min(88.0, max(-88.0, me.pitch + pitch)) - me.pitch
    for pitch_move, yaw_move in arc(pitch, yaw, speed):
        yield press(*buttons, pitch=pitch_move, yaw=yaw_move)


def look(me: Senses, yaw: float, pitch: float, speed: float) -> Actions:
    """Turn to an absolute direction the short way."""
    yield from turn(me, pitch - me.pitch, wrap(yaw - me.yaw, 360), speed)


def gaze(me: Senses, rng: Rng) -> Iterator[tuple[float, float]]:
    """Yield camera moves (pitch, yaw) for ever, as someone who looks about: rest, glance, pan, tilt."""
    while True:
        kind, speed = rng.choice(4, p=(0.46, 0.29, 0.10, 0.15)), turning_speed(rng)
        level = float(rng.normal(RESTING_PITCH, 16)) - me.pitch
        if kind == 0:
            yield from [(0.0, 0.0)] * int(rng.integers(5, 30))
        elif kind == 1:
            angle = float(rng.gamma(2.0, 22.0)) * rng.choice((-1, 1))
            for pitch, yaw in arc(level if rng.random() < 0.4 else 0.0, angle, speed):
                yield pitch, yaw
        elif kind == 2:
            yaw = min(speed, 4.0) * rng.choice((-1, 1))
            yield from [(0.0, yaw)] * int(rng.integers(8, 36))
        else:
            for pitch, _ in arc(level, 0.0, speed):
                yield pitch, 0.0


def look_around(me: Senses, rng: Rng) -> Actions:
    """Stand and look about."""
    camera = gaze(me, rng)
    for _ in range(rng.integers(30, 90)):
        pitch, yaw = next(camera)
        yield press(pitch=pitch, yaw=yaw)


def jerk(me: Senses, rng: Rng) -> Actions:
    """Look and walk about as scripts and quick hands do: the camera starts and stops at once and turns evenly between.

    Everywhere else turns gather speed and slow down, so that what a view did last tells what it does next, and a model
    that learned only that goes on turning when the hand has stopped.
    """
    camera, camera_until, walking, walking_until = (0.0, 0.0), 0, False, 0
    for tick in range(rng.integers(40, 120)):
        if tick >= camera_until:
            camera_until = tick + int(rng.integers(2, 17))
            pitch_goal = 0.12 * (float(rng.normal(RESTING_PITCH, 14)) - me.pitch)
            sideways = turning_speed(rng) * rng.choice((-1, 1))
            camera = ((0.0, 0.0), (0.0, sideways), (pitch_goal, 0.0), (pitch_goal, sideways))[
                rng.choice(4, p=(0.42, 0.36, 0.12, 0.1))
            ]
        if tick >= walking_until:
            walking_until, walking = tick + int(rng.integers(4, 25)), bool(rng.random() < 0.5)
        yield press(*(("forward",) if walking else ()), pitch=camera[0], yaw=camera[1])


def stand(me: Senses, rng: Rng) -> Actions:
    """Do nothing."""
    yield from (press() for _ in range(rng.integers(8, 45)))


def full_circle(me: Senses, rng: Rng) -> Actions:
    """Turn once round (sometimes twice) at one speed, sometimes walking."""
    buttons = ("forward",) if rng.random() < 0.25 else ()
    if abs(me.pitch) > 30:
        yield from look(me, me.yaw, float(rng.normal(RESTING_PITCH, 8)), turning_speed(rng))
    rounds = 2 if rng.random() < 0.1 else 1
    yield from turn(me, 0.0, 360.0 * rounds * rng.choice((-1, 1)), float(rng.uniform(3, 10)), *buttons)


def level_view(me: Senses, rng: Rng) -> Actions:
    """Bring the pitch back to where the world shows."""
    yield from look(me, me.yaw, float(rng.normal(RESTING_PITCH, 8)), turning_speed(rng))


def walk(me: Senses, rng: Rng, ticks: int | None = None, bold: bool = False) -> Actions:
    """Walk about with a wandering view; jump up steps; turn away from walls after a while (``bold``: not at all)."""
    ticks = int(rng.integers(30, 110)) if ticks is None else ticks
    buttons = ["forward", "sprint"] if rng.random() < 0.35 else ["forward"]
    hops = rng.random() < 0.15
    camera, blocked, hop, veer, side = gaze(me, rng), 0, 0, 0, "left"
    for _ in range(ticks):
        meets = me.ahead(me.yaw) if me.sees else "free"
        blocked = blocked + 1 if meets == "wall" else 0
        if blocked > 12 and not bold:
            yield from look(me, me.open_yaw(rng), float(rng.normal(RESTING_PITCH, 8)), turning_speed(rng))
            blocked = 0
        hop_rate = (0.05 if hops else 0.005) if me.sees else 0.03
        if not hop and (meets == "step" or rng.random() < hop_rate):
            hop = int(rng.integers(2, 6))
        if not veer and rng.random() < 0.015:
            veer, side = int(rng.integers(5, 20)), str(rng.choice(("left", "right")))
        jump = ["jump"] if hop or me.in_water else []
        hop, veer, sideways = max(0, hop - 1), max(0, veer - 1), [side] if veer else []
        pitch, yaw = next(camera)
        yield press(*buttons, *jump, *sideways, pitch=pitch, yaw=yaw)


def strafe(me: Senses, rng: Rng) -> Actions:
    """Walk sideways, backwards or on a diagonal while looking about or at one thing."""
    for _ in range(rng.integers(1, 4)):
        buttons = SIDEWAYS[rng.choice(len(SIDEWAYS), p=(0.24, 0.24, 0.2, 0.1, 0.1, 0.06, 0.06))]
        camera = gaze(me, rng)
        # Half of the time circle round what is in front: the turn then answers the step.
        circling = rng.uniform(0.5, 3.0) * (-1 if "right" in buttons else 1) if rng.random() < 0.5 else None
        for _ in range(rng.integers(12, 45)):
            pitch, yaw = next(camera) if circling is None else (0.0, circling)
            jump = ("jump",) if me.in_water else ()
            yield press(*buttons, *jump, pitch=pitch, yaw=yaw)


def sneak(me: Senses, rng: Rng) -> Actions:
    """Creep, or only crouch."""
    buttons = ("sneak", "forward") if rng.random() < 0.6 else ("sneak",)
    camera = gaze(me, rng)
    for _ in range(rng.integers(15, 60)):
        pitch, yaw = next(camera)
        yield press(*buttons, pitch=pitch, yaw=yaw)


def jump_about(me: Senses, rng: Rng) -> Actions:
    """Jump on the spot or forward a few times."""
    legs = (("forward", "sprint"), ("forward",), ())[rng.integers(3)]
    camera = gaze(me, rng)
    for _ in range(rng.integers(2, 6)):
        for tick in range(rng.integers(11, 16)):
            pitch, yaw = next(camera)
            yield press(*legs, *(("jump",) if tick < 4 else ()), pitch=pitch, yaw=yaw)


def walk_into_wall(me: Senses, rng: Rng) -> Actions:
    """Find a wall near by, walk into it, push on for a moment, back off."""
    if me.sees:
        ways = [(me.free_way(yaw), yaw) for yaw in np.arange(-180, 180, 30) + rng.uniform(-15, 15)]
        near = [yaw for way, yaw in ways if way < 10]
        if not near:
            return
        yield from look(me, float(rng.choice(near)), float(rng.normal(5, 8)), turning_speed(rng))
        for _ in range(60):
            meets = me.ahead(me.yaw, 0.5)
            if meets == "wall":
                break
            yield press("forward", *(("jump",) if meets == "step" or me.in_water else ()))
    for _ in range(rng.integers(6, 25)):
        yield press("forward")
    yield from (press("back") for _ in range(rng.integers(4, 14)))
    yield from turn(me, 0.0, float(rng.uniform(60, 180) * rng.choice((-1, 1))), turning_speed(rng))


def go_to(
    me: Senses, rng: Rng, target: Sequence[float], reach: float, timeout: int = 400, hurry: bool = False
) -> Actions:
    """Walk to within ``reach`` blocks of (x, z) along a path on foot, jumping and swimming where it asks for it."""
    legs = ("forward", "sprint") if hurry or rng.random() < 0.4 else ("forward",)
    pitch_goal, yaw_speed, correcting, stalled = me.pitch, 0.0, True, 0
    path = me.path(target, reach)
    last = (me.x, me.z)
    for tick in range(timeout):
        if math.hypot(*me.offset(*target)) <= reach:
            return
        while len(path) > 1 and math.hypot(*me.offset(path[0][0] + 0.5, path[0][2] + 0.5)) < 0.8:
            path.pop(0)
            # Cut the corners of the grid where one can walk straight; else the view would swing at every cell.
            while len(path) > 1 and me.can_walk_straight(path[1]):
                path.pop(0)
        if len(path) == 1 and math.hypot(*me.offset(path[0][0] + 0.5, path[0][2] + 0.5)) < 0.5:
            path = me.path(target, reach)  # the search ended short of the target: go on from here
            if len(path) < 2:
                return
        if tick % 20 == 19:
            moved = math.hypot(*me.offset(*last))
            last = (me.x, me.z)
            stalled = stalled + 1 if moved < 0.5 else 0
            if stalled == 2:
                yield from walk(me, rng, 12)  # shaken loose by other feet than the planner's
                path = me.path(target, reach)
            elif stalled > 4:
                return
        if tick % 40 == 0:
            pitch_goal = float(rng.normal(RESTING_PITCH, 9))
        away_x, away_z = me.offset(path[0][0] + 0.5, path[0][2] + 0.5)
        error = wrap(math.degrees(math.atan2(-away_x, away_z)) - me.yaw, 360)
        # A hand on a mouse, not a servo: it corrects when the error shows, softly, and then rests.
        away = max(0.1, math.hypot(away_x, away_z))
        correcting = abs(error) > (2 if correcting else min(25.0, max(4.0, 16 / away)))
        wanted = min(10.0, max(-10.0, 0.35 * error)) if correcting else 0.0
        yaw_speed = yaw_speed + min(3.0, max(-3.0, wanted - yaw_speed)) if correcting else 0.0
        tilt = pitch_goal - me.pitch
        pitch_speed = 0.0 if abs(tilt) < 2 else min(3.0, max(-3.0, 0.2 * tilt))
        up = path[0][1] > me.feet[1] and away < 1.4 or me.ahead(me.yaw, 0.6) == "step"
        jump = ("jump",) if me.in_water or up and abs(error) < 50 else ()
        yield press(*(legs if abs(error) < 55 else ()), *jump, pitch=pitch_speed, yaw=yaw_speed)


def wander_far(me: Senses, rng: Rng, heading: float | None = None) -> Actions:
    """Go to a place 20 to 45 blocks away."""
    if not me.sees:
        yield from walk(me, rng)
        return
    yaw = math.radians(me.open_yaw(rng) if heading is None else heading)
    away = rng.uniform(20, 45)
    target = (me.x - math.sin(yaw) * away, me.z + math.cos(yaw) * away)
    yield from go_to(me, rng, target, 2.0, timeout=int(rng.integers(80, 200)), hurry=rng.random() < 0.6)


def leave_water(me: Senses, rng: Rng) -> Actions:
    """Swim to the nearest shore."""
    shores = [cell for block in SHORE for cell in me.nearest(block, 20, low=-1, high=4, limit=2)] if me.sees else []
    shores = [(x, y, z) for x, y, z in shores if not me.solid(x, y + 1, z) and me.block(x, y + 1, z) != WATER]
    if not shores:
        yield from swim(me, rng)
        return
    shore = min(shores, key=lambda cell: math.hypot(*me.offset(cell[0], cell[2])))
    yield from go_to(me, rng, (shore[0] + 0.5, shore[2] + 0.5), 0.6, timeout=160)


def swim(me: Senses, rng: Rng) -> Actions:
    """Go to water near by and swim or wade in it."""
    shores = me.nearest(WATER, 24, low=-4, high=1, limit=1) if me.sees else []
    if not shores:
        return
    yield from go_to(me, rng, (shores[0][0] + 0.5, shores[0][2] + 0.5), 0.8, timeout=160)
    camera = gaze(me, rng)
    for _ in range(rng.integers(30, 90)):
        pitch, yaw = next(camera)
        jump = ("jump",) if rng.random() < 0.8 else ()
        yield press("forward", *jump, pitch=pitch, yaw=yaw)
