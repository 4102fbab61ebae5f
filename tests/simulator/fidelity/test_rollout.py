"""One rollout, several studies: what each sees is what it would have seen alone."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torchmetrics")

from latentcraft.model.actions import BUTTON_INDEX, YAW, noop
from latentcraft.model.checkpoint import load_checkpoint
from latentcraft.simulator.fidelity import long_run as long_module
from latentcraft.simulator.fidelity.figures import Subject
from latentcraft.simulator.fidelity.knobs import TunedDream
from latentcraft.simulator.fidelity.long_run import LongPlan, _play
from latentcraft.simulator.fidelity.replay import film, play, play_on
from latentcraft.simulator.fidelity.rollout import Rollout
from latentcraft.simulator.protocol import HELD_OUT_SEED, Start, World
from latentcraft.simulator.voxel.world import VoxelWorld

SEEDS = (HELD_OUT_SEED, HELD_OUT_SEED + 1, HELD_OUT_SEED + 2)


def walking(ticks: int, games: int = len(SEEDS)) -> np.ndarray:
    actions = noop(games, ticks)
    actions[..., BUTTON_INDEX["forward"]] = 1
    actions[..., YAW] = np.arange(1, games + 1)[:, None]
    return actions


class Counted:
    """A subject that notes how often its world is made, and of how many games."""

    def __init__(self, path: Path) -> None:
        self.model = load_checkpoint(path)
        self.made: list[int] = []
        self.subject = Subject("dream", self.make)

    def make(self, games: int, task: str) -> World:
        self.made.append(games)
        return TunedDream(self.model, num_worlds=games, task=task)


@pytest.fixture
def counted(tiny_checkpoint: Path) -> Counted:
    return Counted(tiny_checkpoint)


def test_several_look_and_it_is_played_once(counted: Counted):
    rollout = Rollout(SEEDS, walking(40))
    rollout.want(lambda chunk: [0, 13])
    rollout.want(lambda chunk: range(1 - chunk, 9))
    played = rollout.of(counted.subject)
    assert rollout.of(counted.subject) is played and counted.made == [3]
    alone, _ = film(counted.make(3, "free"), SEEDS, walking(40), [-3, 4, 13])
    assert (played.at([-3, 4, 13]) == alone).all(), "as if nobody else had looked"
    assert len(played.seconds) == 4 and np.isnan(played.seconds[2]), "no longer than needed, and unseen chunks skipped"


def test_who_looks_at_more_has_it_played_again(counted: Counted):
    rollout = Rollout(SEEDS, walking(8))
    looks = LongPlan(SEEDS, walking(8), (8, 3), edges=(0.2,)).shared_looks
    rollout.want(looks)
    first = rollout.of(counted.subject)
    rollout.want(looks)
    assert rollout.of(counted.subject) is first
    rollout.want(lambda chunk: [8])
    assert rollout.of(counted.subject) is not first and (rollout.of(counted.subject).at([4]) == first.at([4])).all()


def test_the_reference_world_is_remembered_beside_the_subject(counted: Counted):
    rollout = Rollout(SEEDS, walking(8))
    rollout.want(lambda chunk: [5])
    true = rollout.true((32, 48), 4)
    rollout.of(counted.subject)
    assert rollout.true((32, 48), 4) is true
    world = VoxelWorld(3, "free", (32, 48))
    world.reset([Start(seed=seed) for seed in SEEDS])
    world.step(walking(4))
    assert (true.at([5])[:, 0] == world.step(walking(4)).frames[:, 0]).all()


def test_a_long_run_goes_on_from_where_the_rollout_left_its_games(counted: Counted):
    actions = walking(24)
    plan = LongPlan(SEEDS[:2], actions[:2], (12, 3), edges=(0.6, 0.8, 1.2), clips=3, poses=1)
    rollout = Rollout(SEEDS, actions[:, :16])  # others look further than the states are kept
    rollout.want(lambda chunk: [16])
    plan.ask(rollout)
    run = _play(counted.subject, plan, rollout)
    assert counted.made == [3, 2] and len(run.seconds) == 6

    seen: dict[int, np.ndarray] = {}

    def watch(first: int, frames: np.ndarray) -> None:
        seen.update({first + offset: frames[:2, offset].copy() for offset in range(4)})

    together, alone = counted.make(3, "free"), counted.make(2, "free")
    play(together, SEEDS, actions[:, :12], watch)
    alone.reset([Start(seed=1), Start(seed=1)])
    for index in range(2):
        alone.restore(together.save(index), index)
    play_on(alone, actions[:2, 12:], watch, first=12)
    ticks = plan.sampling(4).ticks()
    assert (run.frames == np.stack([seen[tick] for tick in ticks], 1)).all()
    assert set(run.memory) >= {12, 24}


def test_a_long_run_as_long_as_the_rollout_plays_nothing_of_its_own(counted: Counted, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(long_module, "play_on", lambda *_, **__: pytest.fail("played on"))
    plan = LongPlan(SEEDS[:2], walking(12, 2), (12, 3), edges=(0.6,), clips=2, poses=1)
    rollout = Rollout(SEEDS, walking(12))
    plan.ask(rollout)
    run = _play(counted.subject, plan, rollout)
    assert (run.frames == rollout.of(counted.subject).at(plan.sampling(4).ticks())[:2]).all()
