"""Cloning: recorded play read as what was seen and done, and a policy that plays like it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from latentcraft.agents.learning.clone import MOST_WEIGHT, CloneConfig, advantage_weights, clone
from latentcraft.agents.learning.examples import examples_of, read_examples
from latentcraft.agents.learning.moves import MOVES, move_vectors
from latentcraft.agents.learning.network import PolicyConfig
from latentcraft.agents.learning.policy import LearnedPolicy, load_policy_file
from latentcraft.agents.learning.sight import Sight, SightConfig, shrink
from latentcraft.errors import UserError
from latentcraft.model.actions import BUTTON_INDEX, noop
from latentcraft.model.episode_writer import EpisodeWriter
from latentcraft.model.episodes import Episode

SIGHT = SightConfig((16, 24), 2)
TINY = PolicyConfig(SIGHT, (4, 8, 8), 16)
NAMES = [name for name, _ in MOVES]
BRIGHT, DARK = NAMES.index("attack"), NAMES.index("turn +36")


def episode_of(ticks: int, *, end: int | None = None) -> Episode:
    """Frame i is of brightness i; attacks where i is 20 or more; a reward of 1 comes with every 8th frame."""
    frames = np.zeros((ticks, 32, 48, 3), np.uint8) + np.arange(ticks, dtype=np.uint8)[:, None, None, None]
    actions, rewards = noop(ticks), np.zeros(ticks, np.float32)
    actions[21:, BUTTON_INDEX["attack"]] = 1
    rewards[8::8] = 1
    terminated = np.zeros(ticks, bool)
    if end is not None:
        terminated[end:] = True
    spots = np.full((ticks, 2, 3), np.nan, np.float32)
    return Episode(frames, actions, rewards, terminated, None, None, spots, "chop", "", 1, "voxel")


def test_what_was_seen_and_what_was_done_next():
    episode = episode_of(41)
    examples = examples_of(episode, SIGHT, every=2, gamma=0.5)
    assert len(examples.moves) == 19  # frames 0, 2, ... 36: four ticks are left after each
    sight = Sight(SIGHT, 1)
    played = [sight.begin(episode.frames[:1])] + [sight.see(episode.frames[t : t + 1]) for t in range(4, 37, 4)]
    small = shrink(episode.frames, SIGHT.size)
    assert small.shape == (41, 3, 16, 24)
    seen = examples.pictures[examples.seen][:, :, 0, 0, 0]
    assert seen[:4].tolist() == [[0, 0], [0, 2], [0, 4], [2, 6]]
    assert [pair.tolist() for pair in seen[::2]] == [each[0, ::3, 0, 0].tolist() for each in played]
    assert [NAMES[move] for move in examples.moves[:11]] == ["noop"] * 10 + ["attack"]  # half is not enough
    paid = [0, 1] * 5  # with the frames 1 to 4, 5 to 8, ...
    assert examples.returns[::2].tolist() == [sum(0.5**k * each for k, each in enumerate(paid[i:])) for i in range(10)]


def test_nothing_is_learned_from_after_the_end():
    examples = examples_of(episode_of(41, end=16), SIGHT, every=4, gamma=1.0)
    assert len(examples.moves) == 4 and examples.returns[0] == 2  # frames 8 and 16; not 24 and 32


def record(folder: Path, task: str, count: int, ticks: int = 33) -> None:
    """Episodes that attack when it is bright and turn when it is dark."""
    vectors = move_vectors(4)
    for number in range(count):
        rng = np.random.default_rng(number)
        with EpisodeWriter(folder / f"{task}-{number}", task=task, seed=number) as writer:
            bright = False
            writer.first(np.full((32, 48, 3), 40, np.uint8))
            for tick in range(1, ticks):
                action = vectors[BRIGHT if bright else DARK]
                if tick % 4 == 0:
                    bright = bool(rng.random() < 0.5)
                level = 200 if bright else 40
                writer.add(action, np.full((32, 48, 3), level, np.uint8), reward=float(bright))


def test_a_clone_does_what_was_done(tmp_path: Path):
    record(tmp_path / "data", "chop", 6)
    keys = dict(every=4, epochs=30, batch=8, learning_rate=4e-3, policy=TINY, mirror=False)  # both ways look alike here
    done = clone(CloneConfig(tmp_path / "data", tmp_path / "out", **keys))
    assert done.examples == 5 * 8 and done.accuracy == 1.0 and done.loss < 0.2 < done.guessing
    path = tmp_path / "out" / "policy.safetensors"
    story = load_policy_file(path).provenance
    assert (story["made"], story["task"], story["accuracy"]) == ("clone", "chop", 1.0)
    player = LearnedPolicy(load_policy_file(path).net, temperature=0)
    for level, move in ((200, BRIGHT), (40, DARK)) * 3:
        actions = player.act(np.full((4, 96, 160, 3), level, np.uint8))
        assert actions.shape == (4, 20) and actions.dtype == np.float32
        assert np.array_equal(actions, np.repeat(move_vectors(4)[[move]], 4, 0))


def test_moves_that_paid_count_more(tmp_path: Path):
    """In one and the same place a player does one thing or another, and only one of them pays."""
    for number in range(8):
        good = number % 2 == 0
        with EpisodeWriter(tmp_path / "data" / f"chop-{number}", task="chop", seed=number) as writer:
            writer.first(np.full((32, 48, 3), 40, np.uint8))
            for tick in range(1, 33):
                writer.add(
                    move_vectors(4)[BRIGHT if good else DARK], np.full((32, 48, 3), 40, np.uint8),
                    reward=float(good and tick % 4 == 0),
                )  # fmt: skip
    shares = []
    for beta in (0.0, 2.0):
        keys = dict(every=4, epochs=30, batch=8, learning_rate=4e-3, policy=TINY, mirror=False, shift=0, beta=beta)
        clone(CloneConfig(tmp_path / "data", tmp_path / str(beta), **keys))
        net = load_policy_file(tmp_path / str(beta) / "policy.safetensors").net
        chances = net.logits(torch.full((1, *TINY.sight.shape), 40, dtype=torch.uint8)).softmax(1)[0]
        shares.append(float(chances[BRIGHT] / chances[DARK]))
    assert shares[0] < 2 and shares[1] > 3 * shares[0]


def test_weights_of_moves():
    assert torch.equal(advantage_weights(torch.tensor([1.0, -3.0, 2.0]), 0.0), torch.ones(3))
    weights = advantage_weights(torch.tensor([0.0, 1.0, 100.0]), 9.0)
    assert weights.mean() == pytest.approx(1) and weights[2] / weights[0] == pytest.approx(MOST_WEIGHT)
    assert advantage_weights(torch.zeros(2), 1.0).tolist() == [1, 1]


def test_the_same_seed_makes_the_same_clone(tmp_path: Path):
    record(tmp_path / "data", "chop", 3)
    nets = []
    for name in ("one", "other"):
        clone(CloneConfig(tmp_path / "data", tmp_path / name, every=4, epochs=2, batch=8, policy=TINY))
        nets.append(load_policy_file(tmp_path / name / "policy.safetensors").net.state_dict())
    assert all(torch.equal(nets[0][key], nets[1][key]) for key in nets[0])


def test_episodes_are_chosen_by_task_and_bad_ones_are_named(tmp_path: Path):
    record(tmp_path, "navigate", 3)
    record(tmp_path, "build", 2)
    (tmp_path / "navigate-1.mp4").write_bytes(b"torn")
    said: list[str] = []
    keys = dict(every=4, gamma=1.0, report=said.append)
    examples = read_examples(tmp_path, "navigate-shaped", SIGHT, **keys)
    assert len(examples.moves) == 16 and len(said) == 1 and "navigate-1" in said[0]
    assert examples.held_out.sum() == 8
    assert len(read_examples(tmp_path, "any", SIGHT, **keys).moves) == 32
    with pytest.raises(UserError, match="0 episodes of task chop"):
        read_examples(tmp_path, "chop", SIGHT, **keys)


def test_bad_keys(tmp_path: Path):
    with pytest.raises(UserError, match="every must be 1, 2 or 4, got 3"):
        CloneConfig(tmp_path, tmp_path, every=3)
    with pytest.raises(UserError, match="beta must be 0 to 10, got -1"):
        CloneConfig(tmp_path, tmp_path, beta=-1)
    with pytest.raises(UserError, match="epochs"):
        CloneConfig(tmp_path, tmp_path, epochs=0)
