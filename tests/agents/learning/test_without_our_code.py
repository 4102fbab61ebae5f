"""Our environments are anybody's: Stable-Baselines3 and a plain Gymnasium loop use them as they use any other."""

import gymnasium
import numpy as np
import pytest

import latentcraft  # noqa: F401  (registers the environments)
from latentcraft.envs.wrappers import DISCRETE_ACTIONS, DiscreteActions


def test_stable_baselines3_learns_in_the_environment_as_it_is():
    sb3 = pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.env_checker import check_env
    from stable_baselines3.common.vec_env import DummyVecEnv

    def make() -> gymnasium.Env:
        env = gymnasium.make("latentcraft/Voxel-v0", task="chop", max_episode_steps=5)
        return DiscreteActions(env)

    env = make()
    check_env(env, warn=True)
    env.close()
    batch = DummyVecEnv([make, make])
    learner = sb3.PPO("CnnPolicy", batch, n_steps=4, batch_size=8, n_epochs=1, seed=0, device="cpu")
    learner.learn(16)
    assert learner.num_timesteps == 16
    moves, _ = learner.predict(batch.reset(), deterministic=True)
    assert moves.shape == (2,) and (moves < len(DISCRETE_ACTIONS)).all()
    batch.close()


def test_a_plain_loop_plays_a_batch():
    batch = gymnasium.make_vec("latentcraft/Voxel-v0", num_envs=2, task="explore", max_episode_steps=3)
    batch.action_space.seed(0)
    frames, _ = batch.reset(seed=900000)
    assert frames.shape == (2, 96, 160, 3) and frames.dtype == np.uint8
    ends = 0
    for _ in range(9):
        frames, rewards, terminated, truncated, _ = batch.step(batch.action_space.sample())
        assert frames in batch.observation_space and np.isfinite(rewards).all()
        ends += int((terminated | truncated).sum())
    assert ends == 4  # steps 3 and 7; the step after an end begins anew
    batch.close()
