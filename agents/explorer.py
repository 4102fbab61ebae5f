"""The scripted explorer: mixes behaviours so that recordings show what a world model has to learn.

It walks, looks about, digs, builds, climbs, swims, turns away from what it changed and comes back, and plays its task
well enough that rewards and ends are common. It reads the reference world's state; in the dream, which has none to
read, it presses the same buttons blindly. Everything it does is a function of its seed and of what it sees.
"""

from collections.abc import Callable

import numpy as np

from latentcraft.agents import digging, moving, playing
from latentcraft.agents.senses import Senses
from latentcraft.model.actions import BUTTON_INDEX, noop
from latentcraft.simulator.protocol import World

Behaviour = Callable[[Senses, np.random.Generator], moving.Actions]

MIX: dict[Behaviour, float] = {
    moving.walk: 20, moving.wander_far: 4, moving.strafe: 11, moving.sneak: 2, moving.jump_about: 2,
    moving.walk_into_wall: 2, moving.swim: 2, moving.look_around: 4, moving.full_circle: 3, moving.stand: 2,
    moving.jerk: 26,
    digging.dig_about: 40, digging.place_about: 13, digging.build_wall: 4, digging.dig_down: 2, digging.tunnel: 4,
    digging.tower: 2, playing.change_and_return: 8, playing.leave_and_return: 1.5, playing.noise: 9,
}  # fmt: skip
"""Weights of the behaviours when no task calls. By number of choices, not by time: some last longer than others."""
HANDS: dict[Behaviour, float] = {
    digging.dig_about: 50, digging.place_about: 25, digging.build_wall: 4, digging.tunnel: 8, moving.walk: 8,
    playing.change_and_return: 10,
}  # fmt: skip
"""Those of a player who does little but dig and place."""
TASK_SHARE = 0.62
"""Share of choices that serve the task, where there is one, unless told otherwise."""
TASKS: dict[str, Behaviour] = {
    "chop": playing.chop, "navigate": playing.navigate, "navigate-shaped": playing.navigate, "build": playing.build,
    "explore": moving.wander_far,
}  # fmt: skip
STUCK_TICKS = 160
"""After so long (8 s) of walking without getting anywhere the explorer tries another way."""
STUCK_DISTANCE = 1.5
"""Blocks within which one is not getting anywhere."""


class Explorer:
    """Chooses actions for one game; give every game its own explorer."""

    def __init__(self, seed: int, *, task: str = "free", hands: bool = False, task_share: float = TASK_SHARE) -> None:
        """Seed the choices.

        Args:
            seed: the same seed in the same world makes the same episode.
            task: what to play besides exploring, one of :data:`latentcraft.model.tasks.TASKS`.
            hands: do little but dig and place (:data:`HANDS`), whatever the task.
            task_share: share of choices that serve the task, where there is one.
        """
        self.hands, self.task_share = hands, task_share
        self.rng = np.random.default_rng([seed, 0xE8])
        self.task = task
        self.senses = Senses()
        self._plan: moving.Actions = iter(())
        self._walked = 0
        self._anchor: tuple[float, float] | None = None

    def act(self, world: World, index: int = 0) -> np.ndarray:
        """Return the next chunk's actions ``float32 (f, 20)`` for game ``index`` of ``world``."""
        view = world.game(index) if hasattr(world, "game") else None
        self.senses.update(view)
        if self._stuck():
            self._plan = self._break_free()
        actions = noop(world.spec.chunk)
        for tick in range(len(actions)):
            actions[tick] = self._next()
            self.senses.follow(actions[tick])
            self._walked += bool(actions[tick, BUTTON_INDEX["forward"]])
        return actions

    def pose(self, world: World, index: int = 0) -> tuple[float, ...] | None:
        """Return the pose of game ``index`` now, None where the world has none to tell."""
        return tuple(world.game(index).pose) if hasattr(world, "game") else None

    def _next(self) -> np.ndarray:
        """Return the running behaviour's next action; begin another when it is done."""
        for _ in range(20):  # a behaviour may find nothing to do (no water near) and end at once
            action = next(self._plan, None)
            if action is not None:
                return action
            self._plan = self._choose()(self.senses, self.rng)
        return noop()

    def _choose(self) -> Behaviour:
        me, rng = self.senses, self.rng
        if abs(me.pitch - moving.RESTING_PITCH) > 25 and rng.random() < 0.6:
            return moving.level_view
        if me.sees and rng.random() < 0.7:
            if me.in_water:
                return moving.leave_water
            if me.enclosed():
                return digging.climb_out
            if me.free_way(me.yaw, me.pitch) < 1.0:  # nothing to see but the block before one's nose
                return _turn_to_the_open
        if not self.hands and self.task in TASKS and rng.random() < self.task_share:
            return TASKS[self.task]
        mix = HANDS if self.hands else MIX
        behaviours, weights = list(mix), np.array(list(mix.values()))
        return behaviours[rng.choice(len(behaviours), p=weights / weights.sum())]

    def _stuck(self) -> bool:
        """Whether the explorer has long walked without getting anywhere."""
        me = self.senses
        if not me.sees:
            return False
        if self._anchor is None or np.hypot(*me.offset(*self._anchor)) > STUCK_DISTANCE:
            self._anchor, self._walked = (me.x, me.z), 0
        return self._walked > STUCK_TICKS

    def _break_free(self) -> moving.Actions:
        me, rng = self.senses, self.rng
        self._walked = 0
        pitch, yaw = moving.RESTING_PITCH - me.pitch, float(rng.uniform(120, 240))
        yield from moving.turn(me, pitch, yaw, moving.turning_speed(rng))
        yield from digging.climb_out(me, rng) if me.enclosed() else moving.walk(me, rng, 40)


def _turn_to_the_open(me: Senses, rng: np.random.Generator) -> moving.Actions:
    yield from moving.look(me, me.open_yaw(rng), float(rng.normal(moving.RESTING_PITCH, 8)), moving.turning_speed(rng))
    yield from moving.walk(me, rng, 25)
