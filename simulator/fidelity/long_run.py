"""Long runs: what is left of the world after minutes, and whether a step still costs what it cost at first.

A few games of the replay are dreamed on for five minutes. In each slice of time their frames and clips are held as sets
against the reference's (Fréchet distance), and some frames are searched for the pose they show.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from latentcraft.simulator.fidelity.clips import Footage, Sampling, frechet_by_slice
from latentcraft.simulator.fidelity.features import DEFAULT, load_features
from latentcraft.simulator.fidelity.figures import Column, Figure, Subject, bootstrap
from latentcraft.simulator.fidelity.lanes import side_by_side
from latentcraft.simulator.fidelity.pose import PoseFitter
from latentcraft.simulator.fidelity.reference import Reference
from latentcraft.simulator.fidelity.replay import Reel, film, make_subject, name_of, play, play_on, ticks_of
from latentcraft.simulator.fidelity.rollout import Rollout, resident_memory
from latentcraft.simulator.protocol import WorldSpec
from latentcraft.simulator.voxel.world import VoxelWorld

LONG_QUANTITIES = (
    Column("frames_fd", "Fréchet distance, frames", "", "lower", 2),
    Column("clips_fd", "Fréchet distance, clips", "", "lower", 2),
    Column("found", "Frames that fit a pose", "%", "higher", 0),
    Column("view", "Direction, error", "°", "lower", 1),
    Column("place", "Place, error", "blocks", "lower", 2),
)
TIMING_QUANTITIES = (
    Column("step", "Time of a step", "ms", "lower", 0),
    Column("memory", "Memory of the process", "MB", "lower", 0),
)
"""What depends on the machine and its other work, and so is no figure of the checkpoint."""
LONG_NOTE = (
    "By slice of time, each ending at the time named. Fréchet distances as under replay. Pose: the reference world is "
    "drawn, as it is at that tick, from poses around the true one and the last one found until it fits the frame; "
    "errors are the median over those frames of a game that fit any pose, averaged over games; intervals by bootstrap. "
    "The replay's length is taken from the replay, whose games are played together; then these go on by themselves."
)
TIMING_NOTE = (
    "Median time of a step of all games together (the replay's, and after its length those of the long run alone), "
    "decoding included, and what the process holds at the end of the slice. Measured, hence not the same twice; no "
    "interval."
)


@dataclass(frozen=True, eq=False)
class LongPlan:
    """What is played for long."""

    seeds: tuple[int, ...]
    """One for each game."""
    actions: np.ndarray
    """``float32 (b, T, 20)``."""
    together: tuple[int, int] = (0, 0)
    """Ticks for which these games are the first of a larger rollout, whole chunks, and how many games that has; no
    ticks: they are played by themselves from the start."""
    edges: tuple[float, ...] = (10.0, 60.0, 120.0, 180.0, 240.0, 300.0)
    """Seconds at which slices end; those beyond the actions are left out."""
    clips: int = 16
    """Clips in each game and slice, at most."""
    poses: int = 2
    """Frames in each game and slice whose pose is searched for, the last of that many clips."""
    features: str = DEFAULT
    """See :func:`latentcraft.simulator.fidelity.features.load_features`."""

    @classmethod
    def quick(
        cls, seeds: tuple[int, ...], actions: np.ndarray, together: tuple[int, int] = (0, 0), features: str = DEFAULT
    ) -> "LongPlan":
        """Return the plan of ``mode=quick``, made for 2 games of 10 s."""
        return cls(seeds, actions, together, edges=(5.0, 10.0), clips=6, poses=2, features=features)

    @classmethod
    def full(
        cls, seeds: tuple[int, ...], actions: np.ndarray, together: tuple[int, int] = (0, 0), features: str = DEFAULT
    ) -> "LongPlan":
        """Return the plan of ``mode=full``, made for 2 games of 300 s."""
        return cls(seeds, actions, together, features=features)

    @property
    def shown(self) -> tuple[float, ...]:
        """Edges within the actions."""
        return tuple(edge for edge in self.edges if ticks_of(edge) <= self.actions.shape[1])

    def sampling(self, chunk: int) -> Sampling:
        """Return which frames are looked at."""
        return Sampling(tuple(map(ticks_of, self.shown)), self.clips, chunk)

    def shared_looks(self, chunk: int) -> list[int]:
        """Return the ticks of the larger rollout whose frames are wanted, ascending."""
        return [tick for tick in self.sampling(chunk).ticks() if tick <= self.together[0]]

    def ask(self, rollout: Rollout) -> None:
        """Say what is wanted of the larger rollout."""
        rollout.want(self.shared_looks)
        rollout.keep(len(self.seeds), self.together[0])

    def columns(self) -> list[Column]:
        """Return the table's columns: a quantity at all times, then the next."""
        return self._at_edges(LONG_QUANTITIES)

    def timing_columns(self) -> list[Column]:
        """Return the columns of the table of times."""
        return self._at_edges(TIMING_QUANTITIES)

    def _at_edges(self, quantities: Sequence[Column]) -> list[Column]:
        return [
            Column(f"{q.key}@{name_of(edge)}", f"{q.title}, {edge:g} s", q.unit, q.better, q.digits)
            for q in quantities
            for edge in self.shown
        ]


class LongRun(NamedTuple):
    """What one long run gives."""

    figures: dict[str, Figure]
    timings: dict[str, Figure]


def long_study(subject: Subject, plan: LongPlan) -> dict[str, Figure]:
    """Return the subject's figures over a long run, keyed as :meth:`LongPlan.columns`."""
    return long_run(subject, plan).figures


def long_run(subject: Subject, plan: LongPlan, rollout: Rollout | None = None) -> LongRun:
    """Play the plan in the subject's world; measure it against the reference world, and its steps.

    Args:
        subject: the world under test.
        plan: what is played.
        rollout: the larger rollout that the plan's games begin in; None if they are played by themselves.
    """
    net = load_features(plan.features)
    assert rollout is not None or not plan.together[0], "a plan that begins in a rollout needs it"
    if rollout is not None:
        plan.ask(rollout)
    run = _play(subject, plan, rollout)
    chunk = run.spec.chunk
    sampling = plan.sampling(chunk)
    ticks = sampling.ticks()
    shown, true = Footage.of(net, ticks, run.frames), _reference(plan, run.spec.frame_size, chunk)
    figures: dict[str, Figure] = {}
    for key, clips in (("frames_fd", False), ("clips_fd", True)):
        for edge, figure in zip(plan.shown, frechet_by_slice(sampling, shown, true, clips=clips), strict=True):
            figures[f"{key}@{name_of(edge)}"] = figure
    figures |= _pose_figures(plan, sampling, shown)
    timings: dict[str, Figure] = {}
    for edge, before, after in zip(plan.shown, (0, *sampling.edges), sampling.edges, strict=False):
        held = [mb for tick, mb in run.memory.items() if before < tick <= after]
        timings[f"step@{name_of(edge)}"] = _measured(1000 * run.seconds[before // chunk : after // chunk])
        timings[f"memory@{name_of(edge)}"] = _measured(held[-1:])
    return LongRun(figures, timings)


class _Run(NamedTuple):
    """The plan's games as one world played them."""

    spec: WorldSpec
    frames: np.ndarray
    """``uint8 (b, k, H, W, 3)``: those the sampling asks for."""
    seconds: np.ndarray
    memory: dict[int, float]


def _play(subject: Subject, plan: LongPlan, rollout: Rollout | None) -> _Run:
    """Take what the rollout has, and play the games on by themselves."""
    label, games, at = f"{subject.name}: long run", len(plan.seeds), plan.together[0]
    played = rollout.of(subject) if rollout is not None and at else None
    world = make_subject(subject, games)
    try:
        reel, memory = Reel(plan.sampling(world.spec.chunk).ticks(), world.spec), dict(played.memory if played else {})

        def watch(first: int, frames: np.ndarray) -> None:
            reel.watch(first, frames)
            memory[first + frames.shape[1] - 1] = resident_memory()

        rest = plan.actions[:, at : ticks_of(plan.shown[-1])]
        if played is None:
            seconds = play(world, plan.seeds, rest, watch, wanted=reel.places, label=label)
            return _Run(world.spec, reel.frames, seconds, memory)
        for tick in plan.shared_looks(world.spec.chunk):
            reel.watch(tick, played.at([tick])[:games])
        seconds = played.seconds[: at // world.spec.chunk]
        if rest.shape[1]:
            for index, state in enumerate(played.states):
                world.restore(state, index)
            later = play_on(world, rest, watch, first=at, wanted=reel.places, label=label)
            seconds = np.concatenate([seconds, later])
        return _Run(world.spec, reel.frames, seconds, memory)
    finally:
        world.close()


def _pose_figures(plan: LongPlan, sampling: Sampling, shown: Footage) -> dict[str, Figure]:
    """Search for the poses that the last clips' last frames of each slice show."""
    slices, games = range(len(sampling.edges)), range(len(plan.seeds))
    fitter = PoseFitter((shown.frames.shape[2], shown.frames.shape[3]))
    errors = np.full((len(slices), len(games), plan.poses, 2), np.nan)  # degrees, blocks; NaN where nothing fits

    def search(game: int) -> None:
        reference, tick, last = Reference(plan.seeds[game], chunk=sampling.chunk), 0, None
        for index in slices:
            for number, end in enumerate(sampling.ends(index)[-plan.poses :]):
                reference.play(plan.actions[game, tick:end])
                tick = end
                frame = shown.frames[game, shown.at([end])[0]]
                guesses = [reference.pose] if last is None else [reference.pose, last]
                fit = fitter.fit(reference, frame, guesses)
                if fit.found:
                    last = fit.pose
                    errors[index, game, number] = fit.error(reference.pose)

    side_by_side(search, games)
    figures: dict[str, Figure] = {}
    for index, edge in enumerate(plan.shown):
        looked = min(plan.poses, len(sampling.ends(index)))
        found = np.isfinite(errors[index, :, :looked, 0])
        figures[f"found@{name_of(edge)}"] = bootstrap(100 * found.mean(1))
        for place, key in enumerate(("view", "place")):
            medians = [np.nanmedian(each[ok]) if ok.any() else np.nan
                       for each, ok in zip(errors[index, :, :looked, place], found, strict=True)]  # fmt: skip
            figures[f"{key}@{name_of(edge)}"] = bootstrap(medians)
    return figures


def _measured(values: Sequence[float] | np.ndarray) -> Figure:
    """Return the median of what was measured, without an interval."""
    known = [value for value in values if np.isfinite(value)]
    value = float(np.median(known)) if known else float("nan")
    return Figure(value, float("nan"), float("nan"), len(known))


@lru_cache(maxsize=1)
def _reference(plan: LongPlan, frame_size: tuple[int, int], chunk: int) -> Footage:
    """Film the reference world; the next subjects of the same plan need it again."""
    world = VoxelWorld(len(plan.seeds), "free", frame_size, chunk)
    ticks = plan.sampling(chunk).ticks()
    frames, _ = film(world, plan.seeds, plan.actions, ticks, label="reference: long run")
    return Footage.of(load_features(plan.features), ticks, frames)
