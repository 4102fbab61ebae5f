"""Outcomes: worlds that pay as the reference does, late or never, and that know their errors or do not."""

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torchmetrics")

from latentcraft.agents.heldout import find_paid
from latentcraft.errors import UserError
from latentcraft.simulator.fidelity.adapters import CopyLastWorld, WorldAround
from latentcraft.simulator.fidelity.figures import Figure, Subject
from latentcraft.simulator.fidelity.knobs import TunedDream
from latentcraft.simulator.fidelity.outcomes import (
    OUTCOME_COLUMNS,
    Errand,
    Judged,
    OutcomePlan,
    auroc,
    f1,
    outcome_study,
    precision,
    rank_correlation,
    recall,
    spread,
)
from latentcraft.simulator.protocol import HELD_OUT_SEED, Chunk, Start, World
from latentcraft.simulator.voxel.world import VoxelWorld

SIZE = (32, 48)
GAMES, TICKS = 3, 80


@pytest.fixture(scope="module")
def plan() -> OutcomePlan:
    errands = []
    for task in ("explore", "build"):
        seeds, actions = find_paid(task, HELD_OUT_SEED, GAMES, TICKS)
        errands.append(Errand(task, tuple(seeds), actions))
    return OutcomePlan(tuple(errands))


def figures_of(make: Any, plan: OutcomePlan) -> dict[str, Figure]:
    return outcome_study(Subject("test", make), plan)


def reference(games: int, task: str) -> World:
    return VoxelWorld(games, task, SIZE)


class Delayed(WorldAround):
    """Says what happened so many chunks ago; how unsure it is grows with how wrong its pictures are."""

    def __init__(self, inner: World, chunks: int) -> None:
        super().__init__(inner, "delayed")
        self.before: list[Chunk] = []
        self.chunks = chunks

    def step(self, actions: np.ndarray) -> Chunk:
        chunk = self.inner.step(actions)
        self.before.append(chunk)
        noise = len(self.before)
        frames = np.clip(chunk.frames.astype(int) + noise, 0, 255).astype(np.uint8)
        infos = [info | {"uncertainty": noise / 100} for info in chunk.infos]
        old = self.before[-1 - self.chunks] if len(self.before) > self.chunks else None
        rewards = np.zeros_like(chunk.rewards) if old is None else old.rewards
        return chunk._replace(frames=frames, infos=infos, rewards=rewards)


def test_the_explorer_is_paid_in_the_games_that_are_chosen(plan: OutcomePlan):
    for errand in plan.errands:
        assert errand.actions.shape == (GAMES, TICKS, 20) and len(set(errand.seeds)) == GAMES
        world = VoxelWorld(GAMES, errand.task, SIZE, frames="none")
        world.reset([Start(seed=seed) for seed in errand.seeds])
        chunks = [world.step(errand.actions[:, at : at + 4]).rewards.sum(1) for at in range(0, TICKS, 4)]
        assert (np.abs(chunks).max(0) >= 0.5).all()


def test_the_reference_is_right_and_says_nothing_of_itself(plan: OutcomePlan):
    figures = figures_of(reference, plan)
    assert figures["reward_precision"].value == figures["reward_recall"].value == figures["reward_f1"].value == 1
    assert figures["reward_f1"].count == 2 * GAMES and "uncertainty_rank" not in figures
    assert set(figures) <= {column.key for column in OUTCOME_COLUMNS}


def test_a_little_late_is_right_and_much_later_is_not(plan: OutcomePlan):
    late, much = (figures_of(lambda g, t, n=n: Delayed(reference(g, t), n), plan) for n in (1, 7))
    assert late["reward_recall"].value > 0.85 > 0.6 > much["reward_recall"].value
    assert late["uncertainty_rank"].value > 0.95, "here the error grows as it says"


def test_a_still_picture_pays_nothing(plan: OutcomePlan):
    figures = figures_of(lambda games, task: CopyLastWorld(reference(games, task)), plan)
    assert figures["reward_recall"].value == figures["reward_precision"].value == figures["reward_f1"].value == 0


def test_a_dream_is_judged_the_same_twice_and_says_how_probable_an_end_is(tiny_checkpoint, plan: OutcomePlan):
    from latentcraft.model.checkpoint import load_checkpoint

    model = load_checkpoint(tiny_checkpoint)
    plan = OutcomePlan(plan.errands[1:])

    def make(games: int, task: str) -> World:
        return TunedDream(model, num_worlds=games, task=task)

    first = figures_of(make, plan)
    assert first == figures_of(make, plan) and first["uncertainty_rank"].count == GAMES
    dream = make(GAMES, "build")
    dream.reset([Start(seed=seed) for seed in plan.errands[0].seeds])
    infos = dream.step(plan.errands[0].actions[:, :4]).infos
    assert all(0 <= info["end_probability"] <= 1 for info in infos)


def test_tasks_a_world_refuses_are_left_out(plan: OutcomePlan):
    def make(games: int, task: str) -> World:
        if task == "build":
            raise UserError("never saw it")
        return reference(games, task)

    assert figures_of(make, plan)["reward_f1"].count == GAMES
    assert figures_of(make, OutcomePlan(plan.errands[1:])) == {}


def test_counting():
    none = np.zeros(0)
    games = [Judged(2, 4, 3, 3, none, none > 0), Judged(0, 0, 0, 1, none, none > 0)]
    assert precision(games) == 0.5 and recall(games) == 0.75 and f1(games) == pytest.approx(0.6)
    assert f1(games[1:]) == precision(games[1:]) == 0
    assert spread(np.array([0, 0, 0, 1, 0, 0], bool)).tolist() == [False, False, True, True, True, False]
    assert spread(np.array([1, 0, 0], bool)).tolist() == [True, True, False]


def test_areas_and_ranks():
    assert auroc(np.array([0.1, 0.9, 0.2]), np.array([False, True, False])) == 1
    assert auroc(np.array([0.5, 0.5]), np.array([False, True])) == 0.5
    assert np.isnan(auroc(np.array([0.5]), np.array([True])))
    assert rank_correlation(np.array([1.0, 5.0, 2.0]), np.array([10.0, 90.0, 11.0])) == pytest.approx(1)
    assert rank_correlation(np.array([3.0, 2.0, 1.0]), np.array([0.0, 1.0, 7.0])) == pytest.approx(-1)
    assert np.isnan(rank_correlation(np.array([1.0, 1.0]), np.array([1.0, 2.0])))
    assert np.isnan(rank_correlation(np.array([np.nan, 1.0]), np.array([1.0, 2.0])))
