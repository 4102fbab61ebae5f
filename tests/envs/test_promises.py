"""Promises: kept by an honest environment, and each broken one is seen and named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from fake_world import FakeWorld

from latentcraft.envs.promises import Broken, Promises
from latentcraft.envs.vector import WorldVectorEnv


def soaked(env: Any, world: str, task: str, steps: int) -> int:
    promises = Promises(env, world, task)
    env.action_space.seed(0)
    promises.check_reset(*env.reset(seed=1))
    return sum(promises.check_step(env.step(env.action_space.sample())) for _ in range(steps))


@pytest.mark.parametrize("observation", ["rgb", "none"])
def test_an_honest_environment_keeps_them(observation: Any):
    env = WorldVectorEnv(FakeWorld(3, "navigate"), observation=observation, max_episode_steps=2)
    # The fake world does not name its task.
    env.world.step, step = None, env.world.step
    env.world.step = lambda actions: (chunk := step(actions))._replace(
        infos=[info | {"task": "navigate"} for info in chunk.infos]
    )
    assert soaked(env, "fake", "navigate", 12) == 12  # two steps and one that begins anew, three games


@pytest.mark.parametrize("world", ["voxel", "dream"])
def test_both_worlds_keep_them(world: str, tiny_checkpoint: Path):
    for task in ("free", "build"):
        env = gymnasium.make_vec(
            f"latentcraft/{world.capitalize()}-v0", num_envs=2, task=task, observation="both", frame_size=(32, 48),
            checkpoint=tiny_checkpoint, steps=1, max_episode_steps=3,
        )  # fmt: skip
        assert soaked(env, world, task, 8) >= 4
        env.close()


def spoil(change: Callable[[list[Any]], None]) -> str:
    """Return what is said of a step's result after ``change``."""
    env = gymnasium.make_vec("latentcraft/Voxel-v0", num_envs=2, task="explore", frame_size=(32, 48))
    promises = Promises(env, "voxel", "explore")
    promises.check_reset(*env.reset(seed=1))
    result = list(env.step({}))
    promises.check_step(tuple(result))  # as it is, it is right
    change(result)
    with pytest.raises(Broken) as caught:
        promises.check_step(tuple(result))
    env.close()
    return str(caught.value)


def change(index: int, value: Any) -> Callable[[list[Any]], None]:
    def apply(result: list[Any]) -> None:
        result[index] = value

    return apply


def change_info(key: str, value: Any) -> Callable[[list[Any]], None]:
    def apply(result: list[Any]) -> None:
        if value is None:
            del result[4][key], result[4][f"_{key}"]
        else:
            result[4][key] = value

    return apply


@pytest.mark.parametrize(
    "spoiled, named",
    [
        (change(0, np.zeros((2, 32, 48, 3), np.float32)), "observation must be uint8"),
        (change(0, np.zeros((32, 48, 3), np.uint8)), "observation must be uint8 (2, 32, 48, 3)"),
        (change(1, np.array([np.nan, 0])), "game 0: rewards that are not finite"),
        (change(1, np.zeros(2, np.float32)), "rewards must be float64 (2,), got float32 (2,)"),
        (change(1, np.array([0.0, 5.0])), "game 1: whose tick_rewards are not its reward"),
        (change(2, np.zeros(2, np.int64)), "terminated must be bool"),
        (change(2, np.array([True, False])), "game 0: whose tick_terminated is not its end"),
        (change_info("ticks", np.array([4, 9])), "game 1: with ticks not from 1 to 4"),
        (change_info("patches", None), "lacks patches"),
        (change_info("_pose", np.array([True, False])), "game 1: whose info lacks pose"),
        (change_info("_seed", np.array([True, False])), "game 0: whose info must say its seed"),
        (change_info("task", np.array(["explore", "chop"], object)), "game 1: of another task"),
        (change_info("poses", np.full((2, 4, 5), np.nan)), "game 0: with a pose that is not finite"),
    ],
)
def test_what_is_broken_is_named(spoiled: Callable[[list[Any]], None], named: str):
    assert named in spoil(spoiled)


def test_an_observation_outside_its_space_is_seen():
    env = gymnasium.make_vec("latentcraft/Voxel-v0", num_envs=1, frame_size=(32, 48), observation="rgb")
    promises = Promises(env, "voxel", "free")
    promises._space = gymnasium.spaces.Box(0, 1, (1, 32, 48, 3), np.uint8)
    with pytest.raises(Broken, match="not in its space"):
        promises.check_reset(*env.reset(seed=1))
    env.close()
