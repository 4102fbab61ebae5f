"""The steps of a script as they are played: a tree of frozen parts that turn chance into action vectors.

Whatever the draws, a step lasts from 1 to ``most`` ticks, so a script that could be read can be played with any seed.
Chance is Python's ``random.Random.random``, the one sequence that is promised to stay the same from version to version.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Protocol

import numpy as np

from latentcraft.agents.script_values import Angle, Span
from latentcraft.model.actions import BUTTON_INDEX, CAMERA_LIMIT, PITCH, YAW, noop
from latentcraft.simulator.protocol import TICKS_PER_SECOND

TURN_SPEED = 90.0
"""Degrees a second of a turn or look without ``for``: a calm hand."""
CAMERA_GRID = 1024
"""Camera positions along a turn lie on multiples of 1/1024 degree, so that float32 sums of them stay exact."""


class Step(Protocol):
    """Anything that can be played."""

    @property
    def most(self) -> int:
        """Ticks it lasts at most."""
        ...

    def play(self, chance: Random) -> np.ndarray:
        """Return its actions ``float32 (T, 20)``, T from 1 to ``most``."""
        ...


@dataclass(frozen=True)
class Act:
    """Keys and camera for a time; nothing at all is a wait."""

    ticks: Span | None
    """How long; None for as long as the camera takes at :data:`TURN_SPEED`."""
    hold: tuple[int, ...] = ()
    """Buttons down all the time, as places in the action vector."""
    press: tuple[int, ...] = ()
    """Buttons down for the first tick."""
    select: Span | None = None
    """Hotbar slot, 1 to 9, pressed in the first tick."""
    look: Angle | None = None
    turn: Angle | None = None

    @property
    def most(self) -> int:
        """Ticks it lasts at most."""
        angles = [angle.degrees.high for angle in (self.look, self.turn) if angle]
        return int(self.ticks.high) if self.ticks else calm_ticks(angles)

    def play(self, chance: Random) -> np.ndarray:
        """Return its actions ``float32 (T, 20)``."""
        turns = {axis: _turn(angle, chance) for axis, angle in ((PITCH, self.look), (YAW, self.turn)) if angle}
        ticks = _whole(self.ticks, chance) if self.ticks else calm_ticks(list(turns.values()))
        actions = noop(ticks)
        for axis, degrees in turns.items():
            actions[:, axis] = spread_turn(degrees, ticks)
        actions[:, list(self.hold)] = 1
        actions[0, list(self.press)] = 1
        if self.select:
            actions[0, BUTTON_INDEX[f"hotbar.{_whole(self.select, chance)}"]] = 1
        return actions


@dataclass(frozen=True)
class Series:
    """Steps one after the other."""

    steps: tuple[Step, ...]

    @cached_property
    def most(self) -> int:
        """Ticks it lasts at most."""
        return sum(step.most for step in self.steps)

    def play(self, chance: Random) -> np.ndarray:
        """Return its actions ``float32 (T, 20)``."""
        return np.concatenate([step.play(chance) for step in self.steps])


@dataclass(frozen=True)
class Repeat:
    """A series several times over; chance is asked anew each time."""

    times: Span
    body: Series

    @property
    def most(self) -> int:
        """Ticks it lasts at most."""
        return int(self.times.high) * self.body.most

    def play(self, chance: Random) -> np.ndarray:
        """Return its actions ``float32 (T, 20)``."""
        return np.concatenate([self.body.play(chance) for _ in range(_whole(self.times, chance))])


@dataclass(frozen=True)
class Choose:
    """One of several series, each as likely as the others."""

    branches: tuple[Series, ...]

    @cached_property
    def most(self) -> int:
        """Ticks it lasts at most."""
        return max(branch.most for branch in self.branches)

    def play(self, chance: Random) -> np.ndarray:
        """Return its actions ``float32 (T, 20)``."""
        return self.branches[_whole(Span(0, len(self.branches) - 1), chance)].play(chance)


def calm_ticks(degrees: list[float]) -> int:
    """Return the ticks of a camera movement without ``for``, at least one."""
    return max(1, math.ceil(max(map(abs, degrees)) / TURN_SPEED * TICKS_PER_SECOND))


def spread_turn(degrees: float, ticks: int) -> np.ndarray:
    """Return per-tick turns ``float32 (ticks,)`` that are even and sum to ``degrees``.

    Multiples of 1/1024 degree sum exactly even in float32; anything finer is left to the last tick.
    """
    reached = np.round(degrees * np.arange(ticks + 1) / ticks * CAMERA_GRID) / CAMERA_GRID
    reached[-1] = degrees
    return np.clip(np.diff(reached), -CAMERA_LIMIT, CAMERA_LIMIT).astype(np.float32)


def _whole(span: Span, chance: Random) -> int:
    """Draw a whole number; what leaves no choice costs no draw."""
    low, high = int(span.low), int(span.high)
    return low if low == high else low + int(chance.random() * (high - low + 1))


def _turn(angle: Angle, chance: Random) -> float:
    """Draw signed degrees."""
    sign = angle.signs[_whole(Span(0, len(angle.signs) - 1), chance)]
    low, high = angle.degrees.low, angle.degrees.high
    if low == high:
        return sign * low
    return sign * min(high, round((low + chance.random() * (high - low)) * CAMERA_GRID) / CAMERA_GRID)
