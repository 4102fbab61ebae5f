"""The planner: it finds what pays, leaves the game as it was, and plans the same from the same seed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_world import FakeWorld

from latentcraft.__main__ import main
from latentcraft.agents.learning.moves import MOVES, held_moves, move_vectors
from latentcraft.agents.learning.returns import play_games
from latentcraft.agents.planner import Planner, PlannerConfig, search
from latentcraft.envs.env import WorldEnv
from latentcraft.errors import UserError
from latentcraft.model.actions import BUTTON_INDEX
from latentcraft.simulator.protocol import Chunk, Frames, Start, WorldState

NOTHING = np.zeros(0, np.int64)
PAYS = np.flatnonzero(move_vectors(4)[:, BUTTON_INDEX["forward"]])
"""Moves that walk forward, for which the fake world pays."""


def fake(num_worlds: int = 1, **arguments: Any) -> FakeWorld:
    world = FakeWorld(num_worlds, **arguments)
    world.reset([Start(seed=index) for index in range(num_worlds)])
    return world


def same(one: WorldState, other: WorldState) -> bool:
    return (
        one.meta == other.meta
        and one.arrays.keys() == other.arrays.keys()
        and all(np.array_equal(one.arrays[name], other.arrays[name]) for name in one.arrays)
    )


def test_it_finds_what_pays():
    planner = Planner(fake(), [5], PlannerConfig(candidates=48, rounds=4, horizon=3, hold=1))
    assert np.isin(planner.plan(), PAYS).all()


def test_later_rounds_are_drawn_after_what_paid():
    secret = np.array([3, 17, 8, 20])
    config = PlannerConfig(candidates=64, rounds=8, horizon=4, hold=1)

    def right(moves: np.ndarray) -> np.ndarray:
        return (moves == secret).sum(1).astype(float)

    def found(rounds: int, candidates: int) -> list[int]:
        shape = PlannerConfig(candidates=candidates, rounds=rounds, horizon=4, hold=1)
        plans = [search(right, shape, np.random.default_rng(seed), NOTHING) for seed in range(8)]
        return [int(right(plan[None])[0]) for plan in plans]

    assert min(found(config.rounds, config.candidates)) >= 3
    assert sum(found(config.rounds, config.candidates)) > sum(found(1, config.rounds * config.candidates)) + 4


def test_a_plan_goes_on_where_nothing_pays():
    rest = np.array([4, 2])
    plan = search(lambda moves: np.zeros(len(moves)), PlannerConfig(horizon=3), np.random.default_rng(0), rest)
    assert plan[:2].tolist() == rest.tolist() and plan.shape == (3,)


class PaysOnce(FakeWorld):
    """Pays for the first chunk that walks forward, and never again."""

    def restore(self, state: WorldState, index: int = 0) -> np.ndarray:
        self.paid = np.zeros(self.spec.num_worlds, bool)
        return super().restore(state, index)

    def step(self, actions: np.ndarray) -> Chunk:
        chunk = super().step(actions)
        rewards = chunk.rewards * ~self.paid[:, None]
        self.paid |= rewards.any(1)
        return chunk._replace(rewards=rewards)

    def like(self, num_worlds: int = 1, *, frames: Frames | None = None) -> "PaysOnce":
        return PaysOnce(num_worlds)


def test_sooner_is_better():
    config = PlannerConfig(candidates=64, rounds=1, horizon=4, hold=1)
    world = PaysOnce()
    world.reset([Start(seed=1)])
    assert Planner(world, [1], config).plan()[0] in PAYS
    # Without the discount the first candidate of many that walk at some time is as good as any.
    config = PlannerConfig(candidates=64, rounds=1, horizon=4, hold=1, discount=1)
    assert any(Planner(world, [seed], config).plan()[0] not in PAYS for seed in range(8))


def test_moves_are_held_and_planned_anew():
    world = fake()
    planner = Planner(world, [3], PlannerConfig(candidates=4, elite=1, rounds=1, horizon=3, hold=2))
    moves = []
    for _ in range(6):
        moves.append(planner.act())
        world.step(held_moves(np.array(moves[-1:]), 4)[:, None].repeat(4, 1))
    assert moves[0] == moves[1] and moves[2] == moves[3] and moves[4] == moves[5]


def test_all_candidates_are_one_batch(monkeypatch: pytest.MonkeyPatch):
    batches: list[int] = []
    step = FakeWorld.step

    def counted(world: FakeWorld, actions: np.ndarray) -> Any:
        batches.append(len(actions))
        return step(world, actions)

    monkeypatch.setattr(FakeWorld, "step", counted)
    world = fake(2)
    planner = Planner(world, [3, 4], PlannerConfig(candidates=6, elite=2, rounds=2, horizon=3, hold=2))
    planner.plan(1)
    assert batches == [6] * (2 * 3 * 2)


def test_games_plan_apart_and_the_same_seed_plans_the_same():
    config = PlannerConfig(candidates=8, rounds=1, horizon=4, hold=1)

    def plans(seeds: list[int]) -> list[list[int]]:
        planner = Planner(fake(2), seeds, config)
        return [planner.plan(index).tolist() for index in range(2)]

    one, other = plans([7, 8])
    assert one != other and plans([7, 8]) == [one, other]
    assert plans([8, 7]) == [other, one]  # the fake world pays both games alike


@pytest.mark.parametrize("name", ["voxel", "dream"])
def test_planning_leaves_the_game_as_it_was(name: str, tiny_checkpoint: Path):
    # Heads of random weights end a dream at random; a free one never ends.
    task = "navigate-shaped" if name == "voxel" else "free"
    env = WorldEnv(name, task=task, frame_size=(32, 48), checkpoint=tiny_checkpoint, steps=1, observation="both")
    env.reset(seed=900000)
    env.step({"forward": 1, "camera": (0, 5)})
    before = env.save()
    expected = env.step({"forward": 1})[:2]
    config = PlannerConfig(candidates=3, elite=1, rounds=2, horizon=2, hold=1)
    plans = []
    for _ in range(2):
        env.restore(before)
        planner = Planner(env.world, [0], config)
        plans.append(planner.plan().tolist())
        planner.close()
        assert same(before, env.save())
        observation, reward = env.step({"forward": 1})[:2]
        assert reward == expected[1]
        for part in ("rgb", "latent"):
            np.testing.assert_equal(observation[part], expected[0][part])
    assert plans[0] == plans[1] and all(0 <= move < len(MOVES) for move in plans[0])


def test_it_is_paid_more_than_random_in_the_reference_world():
    config = PlannerConfig(candidates=16, elite=4, rounds=1, horizon=3, hold=2)
    seeds = [900000, 900001, 900002]
    planned = play_games("planner", seeds, task="navigate-shaped", length=10, planner=config)
    drawn = play_games("random", seeds, task="navigate-shaped", length=10)
    assert (planned.returns > drawn.returns + 0.2).all()


def test_decided_games_are_not_planned_for():
    played = play_games("planner", [1, 2], world=fake(2, task="navigate"), task="navigate", length=9,
                        planner=PlannerConfig(candidates=2, elite=1, rounds=1, horizon=1, hold=1))  # fmt: skip
    assert played.lengths.tolist() == [3, 3] and played.ended.all()


def test_the_command(tiny_checkpoint: Path, capsys: pytest.CaptureFixture):
    words = ["policies=[random,planner]", "worlds=[voxel,dream]", "task=explore", "seeds=900000-900001", "length=2"]
    shape = ["planner.candidates=2", "planner.elite=1", "planner.horizon=1", f"checkpoint={tiny_checkpoint}"]
    assert main(["agent", "evaluate", *words, *shape, "denoising=1"]) == 0
    assert capsys.readouterr().out.count("planner  ") == 2


@pytest.mark.parametrize(
    "key, named",
    [
        ("planner.candidates=0", "candidates"),
        ("planner.elite=65", "elite=65"),
        ("planner.discount=0", "discount"),
        ("planner.doubt=2", "doubt"),
        ("planner.depth=3", "depth"),
    ],
)
def test_bad_keys_are_one_line(key: str, named: str, capsys: pytest.CaptureFixture):
    assert main(["agent", "evaluate", "policies=[planner]", key]) == 2
    error = capsys.readouterr().err
    assert named in error and error.count("\n") == 1


def test_a_seed_for_each_game():
    with pytest.raises(UserError, match="2 games, got 1"):
        Planner(fake(2), [0])
