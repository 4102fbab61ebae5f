import warnings

import gymnasium
import numpy as np
import pytest
from fake_world import END_TICK, FakeWorld
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils.env_checker import check_env

from latentcraft.envs.env import WorldEnv
from latentcraft.envs.spaces import action_space
from latentcraft.envs.wrappers import (
    ACTION_FACTORS,
    DISCRETE_ACTIONS,
    DiscreteActions,
    MultiDiscreteActions,
)
from latentcraft.errors import UserError
from latentcraft.model.actions import BUTTONS
from latentcraft.simulator.protocol import HELD_OUT_SEED, Start, WorldState

ENV_IDS = ("latentcraft/Voxel-v0", "latentcraft/Dream-v0")
FORWARD = {"forward": 1}


@pytest.fixture
def env():
    env = WorldEnv(FakeWorld())
    yield env
    env.close()


@pytest.fixture(params=ENV_IDS)
def env_id(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module", autouse=True)
def fake_id():
    gymnasium.register(
        "latentcraft/Fake-v0",
        entry_point=lambda task="free", **kwargs: WorldEnv(FakeWorld(task=task), **kwargs),
        max_episode_steps=20,
    )
    yield
    del gymnasium.registry["latentcraft/Fake-v0"]


def check(env: gymnasium.Env) -> None:
    """Gymnasium's full check, with warnings as errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # A recommendation to agents' authors, not a fault: our camera is in MineRL's unit, degrees per tick.
        warnings.filterwarnings("ignore", message=".*we recommend using a symmetric and normalized space.*")
        check_env(env)


# --- both real worlds -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [{}, {"per_frame_observations": True, "per_frame_actions": True}])
def test_check_env_is_clean(env_id: str, arguments: dict):
    env = gymnasium.make(env_id, render_mode="rgb_array", **arguments)
    check(env.unwrapped)
    env.close()


def test_both_worlds_have_the_same_spaces_and_obey_the_passive_checker(env_id: str):
    env = gymnasium.make(env_id, task="chop")
    assert env.action_space == action_space(4)
    assert env.observation_space == gymnasium.spaces.Box(0, 255, (96, 160, 3), np.uint8)
    env.reset(seed=HELD_OUT_SEED)
    env.action_space.seed(1)
    for _ in range(2):  # the passive checker of make() warns, and warnings are errors here
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    assert info["frames"].shape == (4, 96, 160, 3) and (info["frames"][-1] == observation).all()
    env.close()


def test_same_seed_and_actions_give_the_same_bits(env_id: str):
    runs = []
    for _ in range(2):
        env = gymnasium.make(env_id)
        env.action_space.seed(5)
        first, _ = env.reset(seed=HELD_OUT_SEED + 3)
        steps = [env.step(env.action_space.sample()) for _ in range(3)]
        runs.append((first, [step[0] for step in steps], [step[1] for step in steps]))
        env.close()
    np.testing.assert_equal(runs[0], runs[1])


def test_save_and_restore_through_the_env(env_id: str):
    env = gymnasium.make(env_id).unwrapped
    env.reset(seed=HELD_OUT_SEED)
    env.step(FORWARD)
    state = env.save()
    expected = [env.step(FORWARD)[0] for _ in range(2)]
    env.reset(seed=7)
    env.restore(state)
    np.testing.assert_equal([env.step(FORWARD)[0] for _ in range(2)], expected)
    env.close()


def test_unknown_task_is_named(env_id: str):
    with pytest.raises(UserError, match="swim"):
        gymnasium.make(env_id, task="swim")


def test_worlds_start_from_the_same_moment():
    envs = [gymnasium.make(env_id) for env_id in ENV_IDS]
    (voxel, _), (dream, _) = [env.reset(seed=HELD_OUT_SEED + 1) for env in envs]
    # The dream's context is those very frames; decoding them loses some detail at most.
    assert np.abs(voxel.astype(int) - dream.astype(int)).mean() < 25
    for env in envs:
        env.close()


# --- the env's own rules, on a fake world ---------------------------------------------------------------------------


def test_check_env_in_every_mode():
    for arguments in ({}, {"per_frame_observations": True}, {"per_frame_actions": True}, {"render_mode": "human"}):
        check(gymnasium.make("latentcraft/Fake-v0", **arguments).unwrapped)


def test_held_and_per_frame_actions_agree():
    held, each = WorldEnv(FakeWorld()), WorldEnv(FakeWorld(), per_frame_actions=True)
    held.reset(seed=1)
    each.reset(seed=1)
    one = held.step({"forward": 1, "camera": np.array([1, -2], np.float32)})
    four = each.step({"forward": np.ones(4, int), "camera": np.array([[1, -2]] * 4, np.float32)})
    np.testing.assert_equal(one, four)
    assert one[1] == 4.0
    assert each.step({"forward": np.array([1, 0, 0, 1])})[1] == 2.0


def test_chunk_observation_is_all_frames():
    env = WorldEnv(FakeWorld(), per_frame_observations=True)
    observation, info = env.reset(seed=1)
    assert observation in env.observation_space and observation.shape == (4, 16, 32, 3)
    observation, _, _, _, info = env.step({})
    np.testing.assert_equal(observation, info["frames"])


def test_reward_counts_up_to_the_ending_tick():
    env = WorldEnv(FakeWorld(task="navigate"))
    env.reset(seed=1)
    results = [env.step(FORWARD) for _ in range(3)]
    assert [step[1] for step in results] == [4.0, 4.0, END_TICK - 8.0]
    assert [step[2] for step in results] == [False, False, True]
    assert results[-1][4]["ticks"] == END_TICK - 8
    with pytest.raises(ResetNeeded, match="ended"):
        env.step(FORWARD)
    env.reset()
    assert env.step(FORWARD)[2] is False


def test_time_limit_truncates():
    env = gymnasium.make("latentcraft/Fake-v0", max_episode_steps=2)
    env.reset(seed=1)
    assert [env.step(env.unwrapped.action_space.sample())[3] for _ in range(2)] == [False, True]


def test_seeding(env: WorldEnv):
    first, info = env.reset(seed=HELD_OUT_SEED + 5)
    assert info["seed"] == HELD_OUT_SEED + 5
    drawn = [env.reset()[1]["seed"] for _ in range(20)]
    assert len(set(drawn)) == 20 and max(drawn) < HELD_OUT_SEED
    env.reset(seed=HELD_OUT_SEED + 5)
    assert [env.reset()[1]["seed"] for _ in range(20)] == drawn
    env.reset(seed=1)
    before = env.np_random.bit_generator.state
    observation, info = env.reset(options={"seed": HELD_OUT_SEED + 5})
    assert env.np_random.bit_generator.state == before
    np.testing.assert_equal(observation, first)


def test_start_options_reach_the_world(env: WorldEnv, monkeypatch: pytest.MonkeyPatch, tmp_path):
    starts = []
    monkeypatch.setattr(env.world, "reset", lambda given: starts.append(given[0]) or np.zeros((1, 4, 16, 32, 3), "u1"))
    env.reset(seed=3, options={"episode": str(tmp_path / "a.mp4"), "frame": 8})
    env.reset(seed=3, options={"media": tmp_path / "b.png"})
    env.reset(seed=4, options={"seed": None})
    _, info = env.reset(options={"seed": None})
    assert starts == [
        Start(noise_seed=3, episode=tmp_path / "a.mp4", frame=8),
        Start(noise_seed=3, media=tmp_path / "b.png"),
        Start(noise_seed=4),
        Start(noise_seed=starts[-1].noise_seed),
    ]
    assert starts[-1].noise_seed not in (None, 0, 4)
    assert info["seed"] == -1


def test_state_option_restarts_wrappers_too():
    env = gymnasium.make("latentcraft/Fake-v0", max_episode_steps=2)
    env.reset(seed=1)
    action = action_space(4).sample()
    env.step(action)
    state = env.unwrapped.save()
    expected = env.step(action)
    assert expected[3]
    env.reset(options={"state": state})
    again = env.step(action)
    np.testing.assert_equal(again[0], expected[0])
    assert not again[3]


@pytest.mark.parametrize(
    "options, named",
    [
        ({"sed": 1}, "'sed'"),
        ({"episode": "a", "media": "b"}, "episode and media"),
        ({"frame": 3}, "'frame'"),
        ({"media": "b", "frame": "x"}, "'frame'"),
        ({"episode": 5}, "'episode'"),
        ({"seed": "x"}, "'seed'"),
        ({"seed": -1}, "'seed'"),
        ({"state": {}}, "save()"),
        ({"state": WorldState("voxel")}, "'voxel'"),
        ({"state": WorldState("fake"), "seed": 1}, "stands alone"),
        ({"media": "b"}, "seeds only"),
    ],
)
def test_bad_reset_options(env: WorldEnv, options: dict, named: str):
    with pytest.raises(UserError) as caught:
        env.reset(options=options)
    assert named in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "action, named",
    [
        ({"fly": 1}, "'fly'"),
        ({"jump": 2}, "'jump'"),
        ({"jump": [1, 0]}, "'jump'"),
        ({"camera": (1, 2, 3)}, "'camera'"),
        ({"camera": (np.nan, 0)}, "camera"),
        (3, "int"),
    ],
)
def test_bad_actions(env: WorldEnv, action: object, named: str):
    env.reset(seed=1)
    with pytest.raises(UserError) as caught:
        env.step(action)
    assert named in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments", [{"render_mode": "ascii"}, {"observation": "frame"}, {"world": FakeWorld(2)}, {"world": "nether"}]
)
def test_bad_arguments(arguments: dict):
    with pytest.raises(UserError):
        WorldEnv(**{"world": FakeWorld(), **arguments})


def test_out_of_order_calls(env: WorldEnv):
    for call in (lambda: env.step({}), env.save):
        with pytest.raises(ResetNeeded):
            call()
    env.reset(seed=1)
    env.close()
    env.close()
    assert env.world.closed
    for call in (env.reset, lambda: env.step({}), env.save):
        with pytest.raises(ClosedEnvironmentError):
            call()


def test_render_modes():
    env = WorldEnv(FakeWorld(), render_mode="rgb_array")
    with pytest.raises(ResetNeeded):
        env.render()
    observation, _ = env.reset(seed=1)
    np.testing.assert_equal(env.render(), observation)
    assert env.metadata["render_fps"] == 5
    env = WorldEnv(FakeWorld(), render_mode="rgb_array_list")
    env.reset(seed=1)
    info = env.step({})[4]
    frames = env.render()
    np.testing.assert_equal(np.stack(frames[1:]), info["frames"])
    assert env.render() == [] and env.metadata["render_fps"] == 20


def test_human_window_shows_every_frame(monkeypatch: pytest.MonkeyPatch):
    import pygame

    flips = []
    env = WorldEnv(FakeWorld(), render_mode="human")
    monkeypatch.setattr(pygame.display, "flip", lambda: flips.append(1))
    env.reset(seed=1)
    assert len(flips) == 1
    env.step({})
    assert len(flips) == 5 and env.render() is None
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    env.step({})
    assert len(flips) == 6  # closing the window ends the view, not the environment
    env.step({})
    env.close()
    assert len(flips) == 6


def test_human_without_a_display_says_so(monkeypatch: pytest.MonkeyPatch):
    import pygame

    pygame.display.quit()
    monkeypatch.setenv("SDL_VIDEODRIVER", "no-such-driver")
    with pytest.raises(UserError, match="rgb_array"):
        WorldEnv(FakeWorld(), render_mode="human").reset(seed=1)


# --- action wrappers ------------------------------------------------------------------------------------------------


def test_discrete_actions(env: WorldEnv):
    wrapped = DiscreteActions(env, turn=15.0)
    assert wrapped.action_space == gymnasium.spaces.Discrete(len(DISCRETE_ACTIONS))
    names = [name for name, _ in DISCRETE_ACTIONS]
    for number in range(len(names)):
        assert wrapped.action(number) in env.action_space
    np.testing.assert_allclose(wrapped.action(names.index("turn right"))["camera"] * 4, [0, 15])
    np.testing.assert_allclose(wrapped.action(names.index("look up"))["camera"] * 4, [-15, 0])
    assert wrapped.action(names.index("jump forward"))["jump"] == 1
    wrapped.reset(seed=1)
    assert wrapped.step(np.int64(names.index("forward")))[1] == 4.0
    for wrong in (-1, len(names), 1.5):
        with pytest.raises(UserError):
            wrapped.step(wrong)


def test_multi_discrete_actions(env: WorldEnv):
    wrapped = MultiDiscreteActions(env)
    names = [name for name, _ in ACTION_FACTORS]
    wrapped.action_space.seed(1)
    for _ in range(50):
        assert wrapped.action(wrapped.action_space.sample()) in env.action_space
    action = np.zeros(len(names), int)
    action[names.index("walk")], action[names.index("jump")], action[names.index("yaw")] = 1, 1, 2
    given = wrapped.action(action)
    assert [name for name in BUTTONS if given[name]] == ["forward", "jump"]
    np.testing.assert_allclose(given["camera"] * 4, [0, 15])
    wrapped.reset(seed=1)
    wrapped.step(action)


def test_wrappers_refuse_other_envs():
    with pytest.raises(UserError):
        DiscreteActions(WorldEnv(FakeWorld(), per_frame_actions=True))
    with pytest.raises(UserError):
        DiscreteActions(gymnasium.make("CartPole-v1"))
    with pytest.raises(UserError, match="turn"):
        DiscreteActions(WorldEnv(FakeWorld()), turn=500)
