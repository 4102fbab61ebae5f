"""PPO inside a dream, begun from recorded episodes: no frame of the reference world but those."""

from pathlib import Path

import numpy as np
import pytest
import torch

from latentcraft.agents.learning.games import Games, GamesConfig, recorded_starts
from latentcraft.agents.learning.network import PolicyConfig, PolicyNet
from latentcraft.agents.learning.policy import load_policy_file, save_policy
from latentcraft.agents.learning.sight import SightConfig
from latentcraft.agents.learning.train import AgentTrainConfig, PPOConfig
from latentcraft.errors import UserError
from latentcraft.model.actions import noop
from latentcraft.model.episode_writer import EpisodeWriter

TINY = PolicyConfig(SightConfig((16, 24), 2), (4, 4, 4), 16)
ROLLOUT = PPOConfig(games=2, rollout=4, batch=8, epochs=1, learning_rate=3e-3)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for task, end in (("chop", None), ("navigate", 20), ("chop", 12)):
        name = f"{task}-{end}"
        with EpisodeWriter(tmp_path / "data" / name, task=task, seed=1) as writer:
            writer.first(np.zeros((32, 48, 3), np.uint8))
            for tick in range(1, 33):
                frame = rng.integers(0, 256, (32, 48, 3), np.uint8)
                writer.add(noop(), frame, terminated=end is not None and tick >= end)
    return tmp_path / "data"


def test_a_dream_is_trained_in_and_gone_on_with(tmp_path: Path, data: Path, tiny_checkpoint: Path):
    pytest.importorskip("stable_baselines3")
    from latentcraft.agents.learning.ppo import train

    torch.manual_seed(0)
    save_policy(tmp_path / "begin.safetensors", PolicyNet(TINY), {})
    keys = dict(world="dream", checkpoint=tiny_checkpoint, denoising=1, starts=data, length=3, ppo=ROLLOUT)
    nets = []
    for name, stops in (("whole", (24,)), ("broken", (8, 24))):
        for steps in stops:
            config = AgentTrainConfig(out=tmp_path / name, begin=tmp_path / "begin.safetensors", steps=steps, **keys)
            done = train(config)
        assert (done.steps, done.frames) == (24, 24 * 4)  # the context's frames are the episodes'
        nets.append(load_policy_file(tmp_path / name / "policy.safetensors").net.state_dict())
    assert all(torch.equal(nets[0][key], nets[1][key]) for key in nets[0])


@pytest.mark.parametrize("moments", [None, 2])
def test_games_go_on_where_their_state_was_taken(data: Path, tiny_checkpoint: Path, moments: int | None):
    config = GamesConfig("dream", "chop", tiny_checkpoint, 1, False, 3, starts=data, moments=moments)
    games = Games(config, 2, TINY.sight, seed=4)
    games.reset()
    games.step(np.array([1, 2]))
    state = games.state()
    first = [games.step(np.array([3, 4])) for _ in range(4)]
    other = Games(config, 2, TINY.sight, seed=9)
    other.restore(state)
    for one, two in zip(first, (other.step(np.array([3, 4])) for _ in range(4)), strict=True):
        assert np.array_equal(one.observations, two.observations) and np.array_equal(one.rewards, two.rewards)
        assert np.array_equal(one.truncated, two.truncated) and one.finished == two.finished
    assert any(each.finished for each in first)
    few = Games(config, 1, TINY.sight)
    with pytest.raises(UserError, match="the state holds 2 games, not 1"):
        few.restore(state)
    for each in (games, other, few):
        each.close()


def test_kept_moments_are_begun_at_again_with_other_noise(data: Path, tiny_checkpoint: Path, monkeypatch):
    config = GamesConfig("dream", "chop", tiny_checkpoint, 1, False, 2, starts=data, moments=1, frame_size=(48, 64))
    games = Games(config, 2, TINY.sight, seed=4)
    assert games.env.world.spec.frame_size == (48, 64)
    first = games.reset()
    assert np.array_equal(first[0], first[1])
    monkeypatch.setattr("latentcraft.model.episodes.read_episode", lambda *_, **__: pytest.fail("read again"))
    games.step(np.array([3, 3]))
    over = games.step(np.array([3, 3]))
    assert set(over.finished) == {0, 1} and np.array_equal(over.observations, first)
    assert not np.array_equal(over.finals[0], over.finals[1])  # the same moves from the same moment
    games.close()
    for keys in ({"moments": 3}, {"moments": 0, "starts": data}):
        with pytest.raises(UserError, match="moments"):
            GamesConfig("dream", "chop", **keys)


def test_recorded_starts_are_of_the_task_and_before_its_end(data: Path):
    def found(task: str, context: int) -> list[tuple[str, int]]:
        return [(path.stem, count) for path, count in recorded_starts(data, task, context)]

    assert found("chop", 12) == [("chop-12", 12), ("chop-None", 33)]
    assert found("chop", 13) == [("chop-None", 33)]
    assert found("navigate-shaped", 16) == [("navigate-20", 20)]
    with pytest.raises(UserError, match="no episode of task build"):
        recorded_starts(data, "build")
