"""Every task through Gymnasium: same spaces, honest rewards, the rules of the passive checker."""

from pathlib import Path

import gymnasium
import numpy as np
import pytest

import latentcraft  # noqa: F401  (registers the environments)
from latentcraft.envs.spaces import action_space
from latentcraft.model.tasks import TASKS
from latentcraft.simulator.protocol import HELD_OUT_SEED
from latentcraft.simulator.voxel.tasks import BEACON_REACH, SHAPING

SMALL = {"frame_size": (32, 48)}
INFO = {
    "navigate": {"beacon", "distance"}, "navigate-shaped": {"beacon", "distance"}, "build": {"filled", "cells"},
    "explore": {"patches"},
}  # fmt: skip
"""What a task's state says of itself in the reference world."""


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_an_argument(task: str):
    env = gymnasium.make("latentcraft/Voxel-v0", task=task, **SMALL)
    assert env.action_space == action_space(4) and env.observation_space.shape == (32, 48, 3)
    env.action_space.seed(3)
    env.reset(seed=HELD_OUT_SEED)
    for _ in range(20):  # the passive checker of make() warns, and warnings are errors here
        _, reward, _, _, info = env.step(env.action_space.sample())
        assert reward == pytest.approx(info["tick_rewards"].sum()) and info["task"] == task
        assert INFO.get(task, set()) <= info.keys()
        assert task != "free" or reward == 0
    env.close()


def test_shaped_navigation_pays_for_the_way_and_takes_back():
    """What is paid is the way made good, whatever the way was; plain navigation pays nothing for it."""
    shaped, plain = (
        gymnasium.make("latentcraft/Voxel-v0", task=task, **SMALL) for task in ("navigate-shaped", "navigate")
    )
    for env in (shaped, plain):
        env.reset(seed=HELD_OUT_SEED + 1)
    still = shaped.step({})[4]["distance"]
    plain.step({})
    shaped.action_space.seed(5)
    rewards, distances = [], [still]
    for step in range(30):
        action = shaped.action_space.sample() | {
            "forward": 1,
            "back": 0,
            "camera": np.array([0, 8 * (step > 15)], "f4"),
        }
        _, reward, ended, _, info = shaped.step(action)
        assert not ended and plain.step(action)[1] == 0
        rewards.append(reward)
        distances.append(info["distance"])
    np.testing.assert_allclose(rewards, -SHAPING * np.diff(distances), atol=1e-5)
    assert min(rewards) < 0 < max(rewards)
    assert sum(rewards) == pytest.approx(SHAPING * (still - distances[-1]), abs=1e-4)


def test_walking_to_the_beacon_ends_the_task():
    """Who knows where it is, turns to it and walks and jumps straight ahead gets there, unless a tree is in the way."""
    env = gymnasium.make("latentcraft/Voxel-v0", task="navigate", max_episode_steps=120, **SMALL)
    reached = 0
    for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + 6):
        env.reset(seed=seed)
        info, over, paid = env.step({})[4], False, 0.0
        while not over:
            x, _, z, yaw, _ = info["pose"]
            dx, dz = ((to + 0.5 - at + 128) % 256 - 128 for to, at in zip(info["beacon"][::2], (x, z), strict=True))
            turn = (np.degrees(np.arctan2(-dx, dz)) - yaw + 180) % 360 - 180
            camera = np.array([0, np.clip(turn / 4, -30, 30)], np.float32)
            _, reward, ended, truncated, info = env.step({"forward": 1, "jump": 1, "camera": camera})
            paid, over = paid + reward, ended or truncated
        reached += ended
        assert paid == float(ended) and (info["distance"] <= BEACON_REACH) == ended
    assert reached >= 2
    env.close()


def test_a_dream_takes_every_task(tiny_checkpoint: Path):
    for task in TASKS:
        env = gymnasium.make_vec("latentcraft/Dream-v0", num_envs=1, task=task, steps=1, checkpoint=tiny_checkpoint)
        env.reset(seed=HELD_OUT_SEED)
        _, rewards, _, _, infos = env.step({})
        assert np.isfinite(rewards).all() and infos["task"][0] == task
        assert ("end_probability" in infos) == (task != "free")
        env.close()
