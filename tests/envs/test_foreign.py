import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from latentcraft.agents.record import RecordConfig, record
from latentcraft.envs.foreign import ActionTable, ForeignEnv
from latentcraft.errors import UserError
from latentcraft.model.actions import BUTTON_INDEX, BUTTONS, PITCH, YAW, noop
from latentcraft.model.episodes import list_episodes, read_all

IMAGE = spaces.Box(0, 255, (40, 20, 3), np.uint8)
SPACES = [
    spaces.Discrete(2),
    spaces.Discrete(5, start=-2),
    spaces.Discrete(1000),
    spaces.MultiBinary(7),
    spaces.MultiBinary((2, 3)),
    spaces.MultiDiscrete([3, 2, 5]),
    spaces.MultiDiscrete([[3, 2], [4, 9]]),
    spaces.Box(-1, 1, (1,), np.float32),
    spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32)),
    spaces.Box(np.array([-1, 0, 0], np.float32), np.ones(3, np.float32)),
]


class Toy(gymnasium.Env):
    """Shows the number of steps as a grey level; ends after ``life`` steps."""

    def __init__(self, action_space=None, observation_space=IMAGE, life=1000):
        self.action_space = action_space or spaces.Discrete(3)
        self.observation_space = observation_space
        self.life, self.count, self.actions = life, 0, []

    def _observe(self):
        space = self.observation_space
        if isinstance(space, spaces.Dict):
            return {key: self._fill(entry) for key, entry in space.spaces.items()}
        return self._fill(space)

    def _fill(self, space):
        return np.full(space.shape, self.count / 255 if space.dtype != np.uint8 else self.count, space.dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self._observe(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.count += 1
        self.actions.append(action)
        return self._observe(), 1.0, self.count >= self.life, False, {}


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_the_table_is_invertible_on_its_vectors(space):
    table = ActionTable(space)
    space.seed(0)
    for _ in range(50):
        action = space.sample()
        vector = table.encode(action)
        assert vector.shape == (20,) and vector.dtype == np.float32
        played = table.decode(vector)
        assert space.contains(played)
        np.testing.assert_array_equal(table.encode(played), vector)
        if isinstance(space, spaces.Box):
            np.testing.assert_allclose(played[:2], action[:2], atol=1e-4)
        else:
            np.testing.assert_array_equal(played, action)


def test_every_number_of_a_discrete_space_has_its_own_vector():
    table = ActionTable(spaces.Discrete(37, start=5))
    vectors = [table.encode(action) for action in range(5, 42)]
    assert len({vector.tobytes() for vector in vectors}) == 37
    assert not vectors[0].any() and vectors[3][[0, 1]].all()
    beyond = noop()
    beyond[:6] = 1
    assert table.decode(beyond) == 41


def test_atari_actions_go_by_their_names():
    meanings = ["NOOP", "FIRE", "UP", "DOWNLEFT", "UPRIGHTFIRE"]
    table = ActionTable(spaces.Discrete(5), meanings)
    pressed = [{BUTTONS[i] for i in np.flatnonzero(table.encode(action))} for action in range(5)]
    assert pressed == [set(), {"attack"}, {"forward"}, {"back", "left"}, {"forward", "right", "attack"}]
    assert [table.decode(table.encode(action)) for action in range(5)] == list(range(5))
    other = noop()
    other[[BUTTON_INDEX["back"], BUTTON_INDEX["left"], BUTTON_INDEX["jump"]]] = 1
    assert table.decode(other) == 3
    # Other names do not go by words.
    assert ActionTable(spaces.Discrete(2), ["JUMP", "NOOP"]).encode(1)[0] == 1


def test_box_components():
    space = spaces.Box(np.array([-1, 0, 0], np.float32), np.ones(3, np.float32))
    vector = ActionTable(space).encode(np.array([1, 0.5, 0.2], np.float32))
    assert vector[YAW] == 30 and vector[PITCH] == 0 and not vector[:PITCH].any()


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(2**18 + 1), spaces.MultiBinary(19), spaces.MultiDiscrete([300, 300, 300]),
        spaces.Box(-np.inf, np.inf, (2,)), spaces.Box(0, 1, (2, 2)), spaces.Box(0, 1, (21,)),
        spaces.Tuple([spaces.Discrete(2)]), spaces.Dict({"a": spaces.Discrete(2)}),
    ],
    ids=str,
)  # fmt: skip
def test_spaces_that_cannot_be_carried_are_named(space):
    with pytest.raises(UserError, match="action space"):
        ActionTable(space)


@pytest.mark.parametrize(
    "space",
    [
        IMAGE, spaces.Box(0, 255, (40, 20), np.uint8), spaces.Box(0, 255, (40, 20, 1), np.uint8),
        spaces.Box(0, 255, (3, 40, 20), np.uint8), spaces.Box(0, 1, (40, 20, 3), np.float32),
        spaces.Box(0, 255, (40, 20, 4), np.uint8),
    ],
    ids=str,
)  # fmt: skip
def test_frames_are_fitted_and_padded(space):
    env = ForeignEnv(Toy(observation_space=space), frame_size=(32, 48))
    assert not env.reset(0).any()
    for _ in range(100):
        frame, reward, terminated, truncated = env.step(env.sample())
    assert frame.shape == (32, 48, 3) and frame.dtype == np.uint8
    assert (frame[:, 16:32] == 100).all() and not frame[:, :16].any() and not frame[:, 32:].any()
    assert (reward, terminated, truncated) == (1, False, False)


def test_after_its_end_the_game_stands_still():
    env = ForeignEnv(Toy(life=3), frame_size=(32, 48))
    env.reset(0)
    steps = [env.step(env.sample()) for _ in range(5)]
    assert [step[1] for step in steps] == [1, 1, 1, 0, 0]
    assert [step[2] for step in steps] == [False, False, True, True, True]
    np.testing.assert_array_equal(steps[2][0], steps[4][0])


def test_sampled_actions_are_held_and_a_function_of_the_seed():
    def sampled(seed):
        env = ForeignEnv(Toy(spaces.Discrete(50)), frame_size=(32, 48))
        env.reset(seed)
        return np.array([env.sample() for _ in range(200)])

    first = sampled(1)
    np.testing.assert_array_equal(first, sampled(1))
    assert (first != sampled(2)).any()
    changes = (np.diff(first, axis=0) != 0).any(1).sum()
    assert 12 < changes < 80


def test_where_the_pixels_are_must_be_told():
    both = spaces.Dict({"screen": IMAGE, "inventory": spaces.Box(0, 64, (9,))})
    with pytest.raises(UserError, match="screen"):
        ForeignEnv(Toy(observation_space=both), frame_size=(32, 48))
    assert ForeignEnv(Toy(observation_space=both), frame_size=(32, 48), image_key="screen").reset(0).shape == (
        32,
        48,
        3,
    )
    with pytest.raises(UserError, match="render=true"):
        ForeignEnv(Toy(observation_space=spaces.Box(0, 1, (4,))), frame_size=(32, 48))
    with pytest.raises(UserError, match="rgb_array"):
        ForeignEnv(Toy(), frame_size=(32, 48), render=True)
    with pytest.raises(UserError, match="Nope-v0"):
        ForeignEnv("Nope-v0", frame_size=(32, 48))


def test_records_breakout(tmp_path):
    pytest.importorskip("ale_py")
    stats = record(RecordConfig(out=tmp_path, episodes=1, env="ALE/Breakout-v5", ticks=60, workers=0))
    assert [path.name for path in list_episodes(tmp_path)] == ["ale-breakout-v5-free-0000000.jsonl"]
    _, episode = next(iter(read_all(tmp_path)))
    assert episode.frames.shape == (61, 96, 160, 3) and stats.frames == 61
    assert episode.caption == episode.world == "ALE/Breakout-v5" and episode.task == "free"
    assert episode.frames[:, :, :40].max() < 20 and episode.frames[:, :, 50:110].max() > 100
    pressed = {BUTTONS[i] for i in np.flatnonzero(episode.actions.any(0))}
    assert pressed <= {"left", "right", "attack"} and pressed


def test_records_what_render_draws(tmp_path):
    record(RecordConfig(out=tmp_path, episodes=1, env="CartPole-v1", render=True, ticks=40, workers=0))
    _, episode = next(iter(read_all(tmp_path)))
    assert len(episode) == 41 and episode.frames.max() > 200 and episode.rewards.sum() > 0
