import gymnasium
import numpy as np
import pytest
from fake_world import END_TICK, FakeWorld
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit

from latentcraft.envs.env import WorldEnv
from latentcraft.envs.vector import WorldVectorEnv
from latentcraft.envs.wrappers import DISCRETE_ACTIONS, VectorDiscreteActions, VectorMultiDiscreteActions
from latentcraft.errors import UserError
from latentcraft.simulator.protocol import HELD_OUT_SEED


def make(num_envs: int = 3, task: str = "navigate", **arguments) -> WorldVectorEnv:
    return WorldVectorEnv(FakeWorld(num_envs, task), **arguments)


def make_sync(num_envs: int = 3, task: str = "navigate", limit: int | None = None, mode=None, **arguments):
    def make_one() -> gymnasium.Env:
        env = WorldEnv(FakeWorld(task=task), **arguments)
        return TimeLimit(env, limit) if limit else env

    return SyncVectorEnv([make_one] * num_envs, autoreset_mode=mode or AutoresetMode.NEXT_STEP)


def assert_same(ours, theirs) -> None:
    """Compare two results of reset or step."""
    *values, infos = ours
    *their_values, their_infos = theirs
    for value, their_value in zip(values, their_values, strict=True):
        np.testing.assert_array_equal(value, their_value)
        assert value.dtype == their_value.dtype
    assert data_equivalence(infos, their_infos, exact=True)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize(
    "arguments",
    [{}, {"per_frame_observations": True}, {"per_frame_actions": True}, {"limit": 2}],
    ids=["default", "chunk", "per-frame", "limit"],
)
def test_equals_gymnasiums_own_vector_env(mode: AutoresetMode, arguments: dict):
    """The batch is what SyncVectorEnv makes of single games: spaces, seeding, autoreset, infos."""
    limit = arguments.get("limit")
    options = {key: value for key, value in arguments.items() if key != "limit"}
    ours = make(autoreset_mode=mode, max_episode_steps=limit, **options)
    theirs = make_sync(limit=limit, mode=mode, **options)
    assert ours.action_space == theirs.action_space and ours.observation_space == theirs.observation_space
    assert ours.single_action_space == theirs.single_action_space
    assert ours.metadata["autoreset_mode"] is mode is theirs.metadata["autoreset_mode"]
    assert_same(ours.reset(seed=[5, 1, 9]), theirs.reset(seed=[5, 1, 9]))
    ours.action_space.seed(3)
    for _ in range(9):
        actions = ours.action_space.sample()
        result = ours.step(actions)
        assert result[0] in ours.observation_space
        assert_same(result, theirs.step(actions))
    assert_same(ours.reset(seed=4), theirs.reset(seed=4))
    assert_same(ours.reset(), theirs.reset())
    mask = np.array([False, True, False])
    assert_same(ours.reset(options={"reset_mask": mask}), theirs.reset(options={"reset_mask": mask}))


def test_games_end_at_different_steps():
    env, single = make(2), make_sync(2)
    for each in (env, single):
        each.reset(seed=1)
        each.step(each.action_space.sample() | {})
        each.reset(seed=[8, 8], options={"reset_mask": np.array([True, False])})
    env.action_space.seed(2)
    ended = []
    for _ in range(8):
        actions = env.action_space.sample()
        result = env.step(actions)
        theirs = single.step(actions)
        np.testing.assert_array_equal(result[2], theirs[2])
        ended.append(result[2].tolist())
    assert [False, True] in ended and [True, False] in ended


def test_position_in_the_batch_does_not_matter():
    env = make(3, "free")
    first, _ = env.reset(seed=[7, 8, 9])
    action = {"forward": np.array([1, 0, 1]), "camera": np.array([[0, 1], [2, 3], [4, 5]], np.float32)}
    observations = env.step(action)[0]
    turned = [2, 0, 1]
    env = make(3, "free")
    again, _ = env.reset(seed=[9, 7, 8])
    np.testing.assert_equal(again, first[turned])
    np.testing.assert_equal(env.step({key: value[turned] for key, value in action.items()})[0], observations[turned])


def test_unseeded_resets_draw_training_seeds():
    env = make(3)
    drawn = np.concatenate([env.reset()[1]["seed"] for _ in range(10)])
    assert len(set(drawn.tolist())) == 30 and drawn.max() < HELD_OUT_SEED


def test_games_from_nothing_differ_in_their_noise(monkeypatch: pytest.MonkeyPatch):
    env, given = make(3), []
    monkeypatch.setattr(env.world, "reset", lambda starts: given.extend(starts) or np.zeros((3, 4, 16, 32, 3), "u1"))
    env.reset(options={"seed": None})
    assert len({start.noise_seed for start in given}) == 3 and all(start.seed is None for start in given)


def test_same_step_keeps_the_final_observation():
    env = make(1, autoreset_mode="SameStep")
    env.reset(seed=1)
    results = [env.step({"forward": np.ones(1, int)}) for _ in range(3)]
    observation, reward, terminated, _, infos = results[-1]
    assert terminated.all() and reward == [END_TICK - 8]
    np.testing.assert_equal(infos["final_obs"][0], infos["final_info"]["frames"][0, -1])
    assert (observation[0] != infos["final_obs"][0]).any()
    assert not env.step({})[2].any()


def test_disabled_asks_for_a_reset():
    env = make(2, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=1)
    for _ in range(3):
        _, _, terminated, _, _ = env.step({})
    assert terminated.all()
    with pytest.raises(ResetNeeded):
        env.step({})
    env.reset(options={"reset_mask": terminated})
    env.step({})


def test_save_and_restore_one_game():
    env = make(2, "free")
    env.reset(seed=1)
    state = env.save(0)
    expected = env.step({})[0][0]
    env.reset(seed=50)
    env.restore(state, 1)
    np.testing.assert_equal(env.step({})[0][1], expected)
    _, infos = env.reset(options={"state": state})
    np.testing.assert_equal(env.step({})[0], np.stack([expected] * 2))


def test_wrappers():
    env = VectorDiscreteActions(make(3, "free"))
    env.reset(seed=1)
    assert env.action_space == gymnasium.spaces.MultiDiscrete([len(DISCRETE_ACTIONS)] * 3)
    assert env.step(np.array([0, 1, 0]))[1].tolist() == [0, 4, 0]
    env = VectorMultiDiscreteActions(make(3, "free"))
    env.reset(seed=1)
    actions = env.action_space.sample()
    actions[:, 0] = [1, 2, 0]
    assert env.step(actions)[1].tolist() == [4, 0, 0]


def test_errors():
    env = make(2)
    with pytest.raises(ResetNeeded):
        env.step({})
    for bad in (
        {"seed": [1, 2, 3]}, {"seed": "x"}, {"seed": [1, "x"]}, {"seed": -1}, {"options": {"sed": 1}},
        {"options": {"reset_mask": [True, True]}}, {"options": {"reset_mask": np.zeros(2, bool)}},
    ):  # fmt: skip
        with pytest.raises(UserError):
            env.reset(**bad)
    env.reset(seed=1)
    with pytest.raises(UserError, match="'forward'"):
        env.step({"forward": np.ones(3, int)})
    with pytest.raises(UserError, match="render_mode"):
        make(2, render_mode="human")
    with pytest.raises(UserError, match="'foo'"):
        make(2, autoreset_mode="foo")
    with pytest.raises(UserError, match="no game 9"):
        env.save(9)
    with pytest.raises(UserError, match="no game -1"):
        env.restore(env.save(0), -1)
    env.close()
    env.close()
    with pytest.raises(ClosedEnvironmentError):
        env.reset()


def test_render():
    env = make(2, render_mode="rgb_array")
    observations, _ = env.reset(seed=1)
    np.testing.assert_equal(np.stack(env.render()), observations)
    assert make(2).render() is None


@pytest.mark.parametrize("env_id", ["latentcraft/Voxel-v0", "latentcraft/Dream-v0"])
def test_make_vec_batches_natively_and_equals_single_games(env_id: str):
    seeds = [HELD_OUT_SEED + 2, HELD_OUT_SEED]
    env = gymnasium.make_vec(env_id, num_envs=2, task="chop")
    assert isinstance(env, WorldVectorEnv) and env.max_episode_steps
    first, _ = env.reset(seed=seeds)
    action = {"forward": np.array([1, 0]), "camera": np.array([[0, 0], [0, 5]], np.float32)}
    results = [env.step(action) for _ in range(2)]
    env.close()

    def compare(ours: np.ndarray, theirs: np.ndarray) -> None:
        # Matrix products of another batch size may round differently: a few pixels of a dream then move by some steps.
        apart = np.abs(ours.astype(int) - theirs.astype(int)).mean()
        assert apart <= (4 if "Dream" in env_id else 0), apart

    for index, seed in enumerate(seeds):
        single = gymnasium.make(env_id, task="chop")
        compare(single.reset(seed=seed)[0], first[index])
        for result in results:
            step = single.step({name: value[index] for name, value in action.items()})
            compare(step[0], result[0][index])
            np.testing.assert_allclose(step[1], result[1][index], atol=0.1)
        single.close()
