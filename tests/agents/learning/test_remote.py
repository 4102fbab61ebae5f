"""Rollouts in other processes are those of this one, for the same seeds and weights."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from latentcraft.agents.learning.games import GamesConfig
from latentcraft.agents.learning.network import PolicyConfig, PolicyNet
from latentcraft.agents.learning.remote import Collector, Collectors, Rollout, weights_of
from latentcraft.agents.learning.sight import SightConfig
from latentcraft.errors import UserError

TINY = PolicyConfig(SightConfig((16, 24), 2), (4, 4, 4), 16)
GAMES = GamesConfig(task="explore", length=3)


def weights(seed: int) -> dict[str, np.ndarray]:
    torch.manual_seed(seed)
    return weights_of(PolicyNet(TINY))


def assert_same(one: Rollout, other: Rollout) -> None:
    for name in ("observations", "moves", "rewards", "terminated", "truncated"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.finals.keys() == other.finals.keys() and one.finished == other.finished
    for key in one.finals:
        np.testing.assert_array_equal(one.finals[key], other.finals[key])


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A local Ray cluster of two workers."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'latentcraft[ray]'")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield ray
    ray.shutdown()


def test_a_rollout_in_this_process():
    collector = Collector(GAMES, 2, TINY, seed=0)
    one = collector.collect(weights(1), 4)
    assert one.observations.shape == (5, 2, 6, 16, 24) and one.moves.shape == one.rewards.shape == (4, 2)
    assert one.truncated.tolist() == [[False] * 2, [False] * 2, [True] * 2, [False] * 2] and not one.terminated.any()
    assert set(one.finals) == {(2, 0), (2, 1)} and [each.length for each in one.finished] == [3, 3]
    two = collector.collect(weights(1), 4)
    np.testing.assert_array_equal(two.observations[0], one.observations[-1])  # it goes on
    assert two.truncated.any(1).tolist() == [False, True, False, False]
    collector.close()
    with pytest.raises(UserError, match="another policy"):
        collector.collect({"moves.bias": np.zeros(3, np.float32)}, 1)
    with pytest.raises(UserError, match="1 step or more"):
        collector.collect(weights(1), 0)


@pytest.mark.filterwarnings("ignore")  # Ray's own, of which there are many
def test_two_workers_play_what_this_process_plays(cluster: Any):
    here = torch.get_num_threads()
    torch.set_num_threads(1)  # as an actor of one core has
    try:
        crew = Collectors(GAMES, 2, TINY, seeds=[3, 4])
        alone = [Collector(GAMES, 2, TINY, seed) for seed in (3, 4)]
        for turn in range(2):
            theirs = crew.collect(weights(turn), 4)
            for rollout, collector in zip(theirs, alone, strict=True):
                assert_same(rollout, collector.collect(weights(turn), 4))
        assert (theirs[0].observations != theirs[1].observations).any()
        with pytest.raises(UserError, match="another policy"):
            crew.collect({}, 1)
        crew.close()
    finally:
        torch.set_num_threads(here)


def test_no_seeds_no_collectors():
    pytest.importorskip("ray", reason="ray is not installed: pip install 'latentcraft[ray]'")
    with pytest.raises(UserError, match="at least one"):
        Collectors(GAMES, 2, TINY, seeds=[])
