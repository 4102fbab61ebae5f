"""How bodies move, read off the frames of a course: jump, full turn, walk, wall, fall."""

from collections.abc import Callable, Sequence

import numpy as np

from latentcraft.simulator.fidelity.courses import (
    HALF_TURN,
    JUMP_END,
    PACE,
    READY,
    REST,
    TICKS,
    Course,
    CourseKind,
)
from latentcraft.simulator.fidelity.metrics import psnr
from latentcraft.simulator.fidelity.pose import Fit, PoseFitter, Reach, displacement, fit_along, pose_offset
from latentcraft.simulator.fidelity.reference import Reference
from latentcraft.simulator.protocol import TICKS_PER_SECOND

LOST_DEGREES = Reach().yaw
"""What a view that fits nowhere counts as: as far as was searched."""
_AIRBORNE = 0.25
"""Blocks over the ground from which on a jump counts as in the air: above the noise of a fit."""
_SAME = 25.0
"""Decibels from which on the view after half a turn is the first one still: a world that shows the same all the way has
not turned."""
_STOPPED, _LANDED = 1.0, 0.75
"""Blocks from the true place within which a wall has stopped the player, and a fall has ended."""
_FINE, _RISE = 0.25, 0.1
"""Spacing of the places tried on a way, and of the heights of a jump, blocks."""
_LOWEST, _HIGHEST = -0.4, 2.0
"""Heights of a jump that are tried, blocks."""
_BEYOND, _BEFORE, _OVER = 4.0, 0.5, 1.5
"""How far beyond the wall and before the start, and over and under the true height of a fall, places are tried."""
_JUMP_TICKS = tuple(range(REST + 1, JUMP_END + 1))
LOOKS = sorted({REST, *_JUMP_TICKS, READY, *PACE, HALF_TURN, TICKS})
"""Ticks of a course whose frames are looked at."""
UP = np.array([0.0, 1.0, 0.0])


def measure(fitter: PoseFitter, course: Course, frames: np.ndarray, chunk: int) -> dict[str, float]:
    """Return what a course shows, by the keys of the geometry study's columns.

    Args:
        fitter: finds poses.
        course: what was played.
        frames: ``uint8 (len(LOOKS), H, W, 3)``.
        chunk: frames in a chunk.
    """
    return _MEASURES[course.kind](_Look(fitter, course, dict(zip(LOOKS, frames, strict=True)), chunk))


class _Look:
    """A course's frames beside the reference, tick by tick."""

    def __init__(self, fitter: PoseFitter, course: Course, frames: dict[int, np.ndarray], chunk: int) -> None:
        self.fitter, self.course, self.frames = fitter, course, frames
        self.game, self._tick = Reference(course.seed, chunk=chunk), 0
        self.offset = np.zeros(5)
        """By how much the subject's pose differed from the true one when last found."""

    def true(self, tick: int) -> np.ndarray:
        """The reference's pose, ``(5,)``."""
        return self.course.poses[tick]

    def fit(self, tick: int) -> Fit:
        """Find the pose of the frame at a tick, and note how far off it is."""
        self._play_to(tick)
        guesses = [self.true(tick)] if not self.offset.any() else [self.true(tick), self.true(tick) + self.offset]
        fit = self.fitter.fit(self.game, self.frames[tick], guesses)
        if fit.found:
            self.offset = pose_offset(self.true(tick), fit.pose)
        return fit

    def along(self, tick: int, start: np.ndarray, way: np.ndarray, values: np.ndarray) -> float:
        """Find how many blocks from ``start`` along ``way`` (x, y, z) the frame at a tick was taken."""
        self._play_to(tick)
        poses = np.repeat((start + self.offset)[None], len(values), 0)
        poses[:, :3] += values[:, None] * way
        return fit_along(self.game, self.frames[tick], poses, values)

    def _play_to(self, tick: int) -> None:
        assert tick >= self._tick, "the reference does not go back"
        self.game.play(self.course.actions[self._tick : tick])
        self._tick = tick


def _jump(look: _Look) -> dict[str, float]:
    """Jump height and air time; and the full turn that follows."""
    look.fit(REST)
    base = look.true(REST)
    heights = np.arange(_LOWEST, _HIGHEST + _RISE / 2, _RISE)
    shown = [look.along(tick, base, UP, heights) for tick in _JUMP_TICKS]
    true = [look.true(tick)[1] - base[1] for tick in _JUMP_TICKS]
    (height, air), (true_height, true_air) = jump_of(shown), jump_of(true)
    fit = look.fit(TICKS)
    first = np.repeat(look.frames[JUMP_END][None], 2, 0)
    half, full = psnr(np.stack([look.frames[HALF_TURN], look.frames[TICKS]]), first)
    turned = fit.found and half < _SAME
    degrees = min(fit.error(look.true(TICKS))[0], LOST_DEGREES) if turned else LOST_DEGREES
    return {
        "jump_height": height, "jump_error": abs(height - true_height),
        "air_time": air, "air_error": abs(air - true_air),
        "turn_degrees": degrees, "turn_gain": float(full - half),
    }  # fmt: skip


def jump_of(heights: Sequence[float]) -> tuple[float, float]:
    """Return the height (blocks) and the air time (s) of a jump from heights at successive ticks.

    The median of three ticks is taken first, so that one frame that was fitted wrongly makes no jump.
    """
    padded = np.pad(np.asarray(heights, float), 1, mode="edge")
    steady = np.median([padded[:-2], padded[1:-1], padded[2:]], axis=0)
    return float(steady.max()), float((steady > _AIRBORNE).sum() / TICKS_PER_SECOND)


def _walk(look: _Look) -> dict[str, float]:
    """Speed over level ground."""
    first, last = PACE
    seconds = (last - first) / TICKS_PER_SECOND
    true = displacement(look.true(first), look.true(last))
    true_speed = float(np.linalg.norm(true)) / seconds
    fits = look.fit(first), look.fit(last)
    if not all(fit.found for fit in fits):
        return {"walk_speed": np.nan, "walk_error": true_speed}
    moved = displacement(fits[0].pose, fits[1].pose)
    speed = float(moved @ true / np.linalg.norm(true)) / seconds
    return {"walk_speed": speed, "walk_error": abs(speed - true_speed)}


def _wall(look: _Look) -> dict[str, float]:
    """Where pushing on against a wall leads."""
    look.fit(READY)
    way = look.course.way
    length = float(np.linalg.norm(way))
    reached = look.along(TICKS, look.true(READY), way / length, np.arange(-_BEFORE, length + _BEYOND, _FINE))
    error = abs(reached - length)
    return {"wall_stops": float(error <= _STOPPED), "wall_error": error}


def _fall(look: _Look) -> dict[str, float]:
    """How high the player is after walking over an edge."""
    look.fit(READY)
    drop = -float(look.course.way[1])
    heights = np.arange(-_OVER, drop + _OVER, _FINE)
    error = abs(look.along(TICKS, look.true(TICKS), UP, heights))
    return {"falls": float(error <= _LANDED), "fall_error": error}


_MEASURES: dict[CourseKind, Callable[[_Look], dict[str, float]]] = {
    "jump": _jump, "walk": _walk, "wall": _wall, "fall": _fall,
}  # fmt: skip
