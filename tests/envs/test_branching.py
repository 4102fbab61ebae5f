"""Saving, restoring and branching an environment, as a search does."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from fake_world import END_TICK, FakeWorld
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode

from latentcraft.envs.env import WorldEnv
from latentcraft.envs.vector import WorldVectorEnv
from latentcraft.errors import UserError
from latentcraft.model.checkpoint import load_checkpoint

SIZE = (32, 48)


@pytest.fixture(params=["voxel", "dream"])
def arguments(request: pytest.FixtureRequest, tiny_checkpoint: Path) -> dict[str, Any]:
    return {
        "world": request.param, "frame_size": SIZE, "checkpoint": tiny_checkpoint, "steps": 2,
        "task": "navigate-shaped" if request.param == "voxel" else "free",  # random heads end at random
    }  # fmt: skip


def batched(actions: list[dict]) -> dict[str, np.ndarray]:
    return {name: np.stack([action[name] for action in actions]) for name in actions[0]}


def test_branches_are_what_the_game_would_become(arguments: dict):
    # In fp32: random nets make much of the last bits of bf16.
    env = WorldEnv(**{**arguments, "checkpoint": load_checkpoint(arguments["checkpoint"])})
    env.reset(seed=3)
    env.action_space.seed(1)
    env.step(env.action_space.sample())
    state = env.save()
    branches = env.branch(3)
    assert isinstance(branches, WorldVectorEnv) and branches.num_envs == 3
    plans = [[env.action_space.sample() for _ in range(2)] for _ in range(3)]
    imagined = [branches.step(batched([plan[step] for plan in plans])) for step in range(2)]
    for index, plan in enumerate(plans):
        env.restore(state)
        for step, action in enumerate(plan):
            observation, reward, *_ = env.step(action)
            # Matrix products of another batch size round differently, in the dream.
            error = np.abs(observation.astype(int) - imagined[step][0][index]).mean()
            assert error <= (0 if arguments["world"] == "voxel" else 1)
            np.testing.assert_allclose(imagined[step][1][index], reward, atol=1e-6 if error == 0 else 0.1)
    assert len({futures.tobytes() for futures in imagined[1][0]}) == 3


def test_branches_that_do_the_same_see_the_same(arguments: dict):
    env = WorldEnv(**arguments)
    env.reset(seed=3)
    branches = env.branch(2, observation="none")
    seen = branches.branch(2, index=1, observation="rgb").step({})[0]
    np.testing.assert_equal(seen[0], seen[1])
    assert branches.step({})[0].shape == (2, 0)


def test_branching_leaves_the_game_alone_and_shares_the_nets(tiny_checkpoint: Path):
    env = WorldEnv("dream", checkpoint=tiny_checkpoint, steps=1, observation="latent")
    env.reset(seed=3)
    state = env.save()
    expected = env.step({"forward": 1})[0]
    env.restore(state)
    branches = env.branch(2)
    assert branches.world.model is env.world.model and branches.world.steps == 1
    assert branches.single_observation_space == env.observation_space
    branches.step({})
    branches.close()
    np.testing.assert_equal(env.step({"forward": 1})[0], expected)


def test_all_branches_go_back_to_another_moment():
    env = WorldEnv(FakeWorld())
    env.reset(seed=1)
    first = env.save()
    walked = env.step({"forward": 1})[0]
    branches = env.branch(4)
    second = branches.step({})[0]
    branches.restore_all(first)
    np.testing.assert_equal(branches.step({"forward": np.ones(4, int)})[0][2], walked)
    branches.restore_all(env.save())
    np.testing.assert_equal(branches.step({})[0], second)


def test_ended_branches_stay_ended_and_pay_nothing():
    env = WorldEnv(FakeWorld(task="navigate"))
    env.reset(seed=1)
    branches = env.branch(2)
    assert branches.autoreset_mode is AutoresetMode.DISABLED
    walk = {"forward": np.ones(2, int)}
    results = [branches.step(walk) for _ in range(5)]
    assert [step[1].tolist() for step in results] == [[4, 4], [4, 4], [END_TICK - 8] * 2, [0, 0], [0, 0]]
    assert [step[2].all() for step in results] == [False, False, True, True, True]
    assert not any(step[3].any() for step in results)
    branches.restore_all(env.save())
    assert branches.step(walk)[1].tolist() == [4, 4]


def test_branching_through_gymnasiums_wrappers():
    env = gymnasium.make("latentcraft/Voxel-v0", frame_size=SIZE)
    env.reset(seed=1)
    assert env.unwrapped.branch(2).num_envs == 2
    vector = gymnasium.make_vec("latentcraft/Voxel-v0", num_envs=2, frame_size=SIZE)
    vector.reset(seed=1)
    branches = vector.branch(3, 1)
    np.testing.assert_equal(branches.save(2).arrays["body"], vector.save(1).arrays["body"])


def test_what_cannot_be_branched_is_named():
    env = WorldEnv(FakeWorld())
    with pytest.raises(ResetNeeded):
        env.branch(2)
    env.reset(seed=1)
    for count in (0, -1, 1.5, True):
        with pytest.raises(UserError, match=str(count)):
            env.branch(count)
    with pytest.raises(UserError, match="'pixels'"):
        env.branch(2, observation="pixels")
    with pytest.raises(UserError, match="no game 7"):
        WorldVectorEnv(FakeWorld(2)).branch(2, 7)
    with pytest.raises(UserError, match="stay_ended"):
        WorldVectorEnv(FakeWorld(2), stay_ended=True)

    class Plain(FakeWorld):
        like = None

    env = WorldEnv(Plain())
    env.reset(seed=1)
    with pytest.raises(UserError, match="'fake' cannot be branched"):
        env.branch(2)
