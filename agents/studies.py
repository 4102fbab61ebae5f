"""The studies of an evaluation with their plans: which games, how long, how closely looked at."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from latentcraft.agents.heldout import explore, find_paid
from latentcraft.simulator.fidelity.figures import Column
from latentcraft.simulator.fidelity.parts import Part
from latentcraft.simulator.fidelity.replay import ticks_of
from latentcraft.simulator.fidelity.rollout import Rollout
from latentcraft.simulator.fidelity.subjects import Row, Shape

Mode = Literal["quick", "full"]
StudyName = Literal["replay", "action", "persistence", "geometry", "long", "outcomes"]
STUDIES: tuple[StudyName, ...] = ("replay", "action", "persistence", "geometry", "long", "outcomes")
TASKS = ("chop", "navigate", "build", "explore")
"""Of the outcomes: those whose payments are events."""
PAID_GAMES = {"quick": 3, "full": 8}
"""Of each task."""
PAID_SECONDS = 10.0


@dataclass(frozen=True)
class Size:
    """How much a mode plays."""

    games: int
    """Of the replay, and of action following."""
    seconds: float
    """Of the replay."""
    long_games: int
    long_seconds: float


SIZES: dict[Mode, Size] = {"quick": Size(3, 10.0, 2, 10.0), "full": Size(7, 60.0, 2, 300.0)}
"""Meant for 2.5 and 15 minutes in all on two cores with AVX512-BF16."""


@dataclass(frozen=True)
class Study:
    """One table of the report and how a row of it is made."""

    key: StudyName
    title: str
    note: str
    columns: list[Column]
    plan: Any
    """Everything the figures depend on besides the world, as plain values, arrays or a dataclass."""
    run: Callable[[Row], Part]
    timing_columns: list[Column] = field(default_factory=list)
    perfect: tuple[str, ...] = ()
    """Worlds whose scores are known (the reference replayed against itself) and not worth the time."""


@dataclass(frozen=True)
class Settings:
    """What plans are made from."""

    mode: Mode
    seed: int
    """First of the held-out seeds."""
    shape: Shape
    size: Size
    features: str

    def seeds(self, games: int) -> tuple[int, ...]:
        """Return the first held-out seeds."""
        return tuple(range(self.seed, self.seed + games))

    @cached_property
    def rollout(self) -> Rollout:
        """What replay, action following and the long run have in common: the explorer in the first games."""
        seeds = self.seeds(self.size.games)
        return Rollout(seeds, explore(seeds, ticks_of(self.size.seconds), chunk=self.shape.chunk))


def make_study(name: StudyName, settings: Settings) -> Study:
    """Make a study and its plan, recording the explorer where it needs actions."""
    makers = {
        "replay": _replay, "action": _action, "persistence": _persistence, "geometry": _geometry, "long": _long,
        "outcomes": _outcomes,
    }  # fmt: skip
    return makers[name](settings)


def _replay(settings: Settings) -> Study:
    from latentcraft.simulator.fidelity.replay_study import REPLAY_NOTE, ReplayPlan, replay

    rollout = settings.rollout
    plan = getattr(ReplayPlan, settings.mode)(rollout.seeds, rollout.actions, settings.features)
    rollout.want(plan.looks)

    def run(row: Row) -> Part:
        found = replay(row.subject, plan, rollout)
        # Strips are of what is tested, not of the marks on the scale.
        modelled = row.knobs is not None or ":" in row.kind
        return Part(found.figures, pictures={"shown": found.shown, "true": found.true} if modelled else {})

    return Study("replay", "Replay fidelity", REPLAY_NOTE, plan.columns(), plan, run, perfect=("reference",))


def _long(settings: Settings) -> Study:
    from latentcraft.simulator.fidelity.long_run import LONG_NOTE, LongPlan, long_run

    rollout, chunk = settings.rollout, settings.shape.chunk
    seeds = settings.seeds(min(settings.size.long_games, len(rollout.seeds)))
    actions = explore(seeds, ticks_of(settings.size.long_seconds), chunk=chunk)
    shared = min(actions.shape[1], rollout.actions.shape[1])
    together = shared - shared % chunk, len(rollout.seeds)
    plan = getattr(LongPlan, settings.mode)(seeds, actions, together, settings.features)
    plan.ask(rollout)

    def run(row: Row) -> Part:
        found = long_run(row.subject, plan, rollout)
        return Part(found.figures, timings=found.timings)

    columns, timing_columns = plan.columns(), plan.timing_columns()
    return Study("long", "Long run", LONG_NOTE, columns, plan, run, timing_columns, perfect=("reference",))


def _action(settings: Settings) -> Study:
    from latentcraft.simulator.fidelity import action_study as module
    from latentcraft.simulator.fidelity.inverse_dynamics import load_inverse_dynamics

    load_inverse_dynamics()  # a missing network should be known before anything is played
    rollout = settings.rollout
    ticks = ticks_of(min(settings.size.seconds, module.SECONDS[settings.mode]))
    plan = getattr(module.ActionPlan, settings.mode)(rollout.seeds, rollout.actions[:, :ticks])
    rollout.want(plan.looks)

    def run(row: Row) -> Part:
        # The reference is not replayed against itself, so it need not be played for longer than this study looks.
        return Part(module.action_study(row.subject, plan, rollout=None if row.kind == "reference" else rollout))

    return Study("action", "Action following", module.ACTION_NOTE, list(module.ACTION_COLUMNS), plan, run)


def _persistence(settings: Settings) -> Study:
    from latentcraft.simulator.fidelity import persistence as module

    plan = getattr(module.PersistencePlan, settings.mode)(settings.seed)

    def run(row: Row) -> Part:
        return Part(module.persistence_study(row.subject, plan))

    return Study("persistence", "Persistence", module.PERSISTENCE_NOTE, plan.columns(), plan, run)


def _geometry(settings: Settings) -> Study:
    from latentcraft.simulator.fidelity import geometry as module

    plan = getattr(module.GeometryPlan, settings.mode)(settings.seed)

    def run(row: Row) -> Part:
        return Part(module.geometry_study(row.subject, plan))

    return Study("geometry", "Geometry and physics", module.GEOMETRY_NOTE, plan.columns(), plan, run)


def _outcomes(settings: Settings) -> Study:
    from latentcraft.simulator.fidelity import outcomes as module

    chunk = settings.shape.chunk
    ticks = ticks_of(PAID_SECONDS) // chunk * chunk
    errands = []
    for task in TASKS:
        seeds, actions = find_paid(task, settings.seed, PAID_GAMES[settings.mode], ticks, chunk=chunk)
        errands.append(module.Errand(task, tuple(seeds), actions))
    plan = module.OutcomePlan(tuple(errands))

    def run(row: Row) -> Part:
        return Part(module.outcome_study(row.subject, plan))

    columns = list(module.OUTCOME_COLUMNS)
    return Study("outcomes", "Outcomes", module.OUTCOME_NOTE, columns, plan, run, perfect=("reference",))


def timed(study: Study, row: Row) -> Part:
    """Run a study on a row; the part says how long it took."""
    began = time.perf_counter()
    part = study.run(row)
    return part._replace(seconds=time.perf_counter() - began)
