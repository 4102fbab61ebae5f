"""Geometry and physics: where a dream thinks the player is, and whether bodies in it move as they should.

All of it is read off the frames, by finding the pose that shows them in the reference world (:mod:`pose`): over time
under a stroll, after a full turn, while walking, jumping, pushing against a wall and falling off an edge.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from latentcraft.simulator.fidelity.bodies import LOOKS, measure
from latentcraft.simulator.fidelity.courses import COURSES, find_courses
from latentcraft.simulator.fidelity.drift import drift, find_strolls
from latentcraft.simulator.fidelity.figures import Column, Figure, Subject, bootstrap, share
from latentcraft.simulator.fidelity.lanes import side_by_side
from latentcraft.simulator.fidelity.pose import PoseFitter
from latentcraft.simulator.fidelity.reference import FREE_TASK
from latentcraft.simulator.fidelity.replay import film, make_subject, name_of, ticks_of
from latentcraft.simulator.protocol import HELD_OUT_SEED

GEOMETRY_NOTE = (
    "Poses are found by drawing the reference world, as it is at that tick, from the true pose and many around it "
    "until one fits the frame. Direction and place: error after strolling for the time named, median over games; a "
    "frame that fits nowhere (lost) counts as 40 degrees and 3 blocks, the bounds of both. Moments at which not even "
    "the reference's own frame says where it was taken (nose to a wall) are left out. Full turn: error of the "
    "direction after 360 degrees (lost, or not turned at all: 40); and by how much the subject's own first view is "
    "liker (PSNR) to that after 360 degrees than to that after 180. Walls, edges and ways are in view from the start "
    "of the game, at most 30 degrees aside: what was never seen no world can know. Wall: ends up within a block of "
    "where the reference stops. Falls: ends up within 0.75 blocks of the ground below the edge. The true jump is 1.25"
    " blocks high with 0.5 s in the air (over 0.25 blocks up), walking 4.32 blocks/s; a walk that is lost counts as "
    "an error of that speed. Intervals: Wilson's for shares, else by bootstrap; over games."
)
_BATCH = 16
"""Games in a world at once."""
_SHARES = ("wall_stops", "falls")
"""Quantities that are true or false of a course."""


@dataclass(frozen=True)
class GeometryPlan:
    """How much is strolled and how many courses are run."""

    games: int
    """Strolls."""
    horizons: tuple[float, ...]
    """Seconds of strolling after which the pose is looked for."""
    courses: int
    """Of each kind."""
    first_seed: int = HELD_OUT_SEED

    @classmethod
    def quick(cls, first_seed: int = HELD_OUT_SEED) -> "GeometryPlan":
        """Return the plan of ``mode=quick``."""
        return cls(2, (0.2, 1.0, 3.0), 2, first_seed)

    @classmethod
    def full(cls, first_seed: int = HELD_OUT_SEED) -> "GeometryPlan":
        """Return the plan of ``mode=full``."""
        return cls(8, (0.2, 1.0, 3.0, 10.0), 6, first_seed)

    def columns(self) -> list[Column]:
        """Return the table's columns."""
        groups = [("degrees", "Direction, error", "°", 1), ("blocks", "Place, error", "blocks", 2),
                  ("lost", "Lost", "%", 0)]  # fmt: skip
        return [
            *(
                Column(f"{key}@{name_of(time)}", f"{title}, {time:g} s", unit, "lower", digits)
                for key, title, unit, digits in groups
                for time in self.horizons
            ),
            Column("turn_degrees", "Full turn, error", "°", "lower", 1),
            Column("turn_gain", "Full turn, first view again", "dB", "higher", 1),
            Column("wall_stops", "Wall stops", "%", "higher", 0),
            Column("wall_error", "Wall, error of the place", "blocks", "lower", 2),
            Column("jump_height", "Jump", "blocks", "neither", 2),
            Column("jump_error", "Jump, error", "blocks", "lower", 2),
            Column("air_time", "In the air", "s", "neither", 2),
            Column("air_error", "In the air, error", "s", "lower", 2),
            Column("walk_speed", "Walking", "blocks/s", "neither", 2),
            Column("walk_error", "Walking, error", "blocks/s", "lower", 2),
            Column("falls", "Falls", "%", "higher", 0),
            Column("fall_error", "Fall, error of the height", "blocks", "lower", 2),
        ]


GEOMETRY_COLUMNS = GeometryPlan.full().columns()


def geometry_study(subject: Subject, plan: GeometryPlan) -> dict[str, Figure]:
    """Return the subject's geometry figures, keyed as :meth:`GeometryPlan.columns`."""
    return drift_figures(subject, plan) | course_figures(subject, plan)


def drift_figures(subject: Subject, plan: GeometryPlan) -> dict[str, Figure]:
    """Return how far the pose shown is from the true one over time."""
    ticks = [ticks_of(horizon) for horizon in plan.horizons]
    errors: list[np.ndarray] = []
    for first in range(0, plan.games, _BATCH):
        world = make_subject(subject, min(_BATCH, plan.games - first), FREE_TASK)
        spec = world.spec
        try:
            strolls = find_strolls(plan.first_seed, plan.games, tuple(ticks), spec.frame_size, spec.chunk)
            strolls = strolls[first : first + _BATCH]
            actions = np.stack([each.actions for each in strolls])
            frames, _ = film(world, [each.seed for each in strolls], actions, ticks, label=f"{subject.name}: stroll")
        finally:
            world.close()
        error = partial(drift, PoseFitter(spec.frame_size), ticks=ticks, chunk=spec.chunk)
        errors += side_by_side(error, strolls, frames)
    figures: dict[str, Figure] = {}
    for number, horizon in enumerate(plan.horizons):
        degrees, blocks, lost = np.stack(errors)[:, number].T
        figures[f"degrees@{name_of(horizon)}"] = bootstrap(degrees, np.median)
        figures[f"blocks@{name_of(horizon)}"] = bootstrap(blocks, np.median)
        figures[f"lost@{name_of(horizon)}"] = share(lost)
    return figures


def course_figures(subject: Subject, plan: GeometryPlan) -> dict[str, Figure]:
    """Return how bodies move."""
    results: dict[str, list[float]] = {}
    games = len(COURSES) * plan.courses
    for first in range(0, games, _BATCH):
        world = make_subject(subject, min(_BATCH, games - first), FREE_TASK)
        spec = world.spec
        try:
            courses = find_courses(plan.first_seed, plan.courses, spec.chunk)[first : first + _BATCH]
            seeds, actions = [course.seed for course in courses], np.stack([course.actions for course in courses])
            frames, _ = film(world, seeds, actions, LOOKS, label=f"{subject.name}: courses")
        finally:
            world.close()
        seen = partial(measure, PoseFitter(spec.frame_size), chunk=spec.chunk)
        for values in side_by_side(seen, courses, frames):
            for key, value in values.items():
                results.setdefault(key, []).append(value)
    return {key: share(values) if key in _SHARES else bootstrap(values) for key, values in results.items()}
