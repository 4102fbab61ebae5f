"""Rollouts on many processes or machines: Ray actors that each own a batch of games and play it by given weights.

Ray schedules, ships weights and results, and restarts; nothing of that is ours. A :class:`Collector` is a plain class
that works without Ray, too, and an actor is nothing but one in another process: the same seed and weights give the same
rollout in both.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from latentcraft.agents.learning.games import Finished, Games, GamesConfig
from latentcraft.agents.learning.network import PolicyConfig, PolicyNet
from latentcraft.agents.learning.policy import choose_moves
from latentcraft.errors import UserError


class Rollout(NamedTuple):
    """What ``n`` games came to in ``t`` steps."""

    observations: np.ndarray
    """``uint8 (t + 1, n, 3 * stack, h, w)``; the last is what comes next."""
    moves: np.ndarray
    """``int64 (t, n)``: rows of :data:`latentcraft.agents.learning.moves.MOVES`."""
    rewards: np.ndarray
    """``float32 (t, n)``."""
    terminated: np.ndarray
    """``bool (t, n)``."""
    truncated: np.ndarray
    """``bool (t, n)``."""
    finals: dict[tuple[int, int], np.ndarray]
    """Last observation of each episode that is over, by step and game; the next of ``observations`` is of another."""
    finished: list[Finished]
    """Those episodes."""


def weights_of(net: PolicyNet) -> dict[str, np.ndarray]:
    """Return a network's weights as arrays, which every process can read."""
    return {name: value.detach().cpu().numpy().copy() for name, value in net.state_dict().items()}


class Collector:
    """A batch of games and a policy for it, which go on from call to call.

    Args:
        config: which games.
        num_games: batch ``n``.
        policy: shape of the network whose weights will be given.
        seed: decides starts and moves.
        threads: of the networks; None leaves that to torch.
    """

    def __init__(
        self, config: GamesConfig, num_games: int, policy: PolicyConfig, seed: int, threads: int | None = None
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self._games = Games(config, num_games, policy.sight, seed)
        self._net = PolicyNet(policy).eval()
        self._rng = np.random.default_rng([seed, 0xC0])
        self._seen = self._games.reset()

    def collect(self, weights: dict[str, np.ndarray], steps: int) -> Rollout:
        """Play ``steps`` steps of all games by ``weights`` of :func:`weights_of`.

        Raises:
            UserError: weights of another shape, or no steps.
        """
        if steps < 1:
            raise UserError(f"a rollout takes 1 step or more, got {steps}")
        try:
            self._net.load_state_dict({name: torch.from_numpy(each.copy()) for name, each in weights.items()})
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(f"these weights are of another policy ({reason}); give both the same config") from error
        observations, moves, rewards, ends, cuts = [self._seen], [], [], [], []
        finals: dict[tuple[int, int], np.ndarray] = {}
        finished: list[Finished] = []
        for step in range(steps):
            moves.append(choose_moves(self._net, self._seen, self._rng.random(len(self._seen)), 1.0))
            outcome = self._games.step(moves[-1])
            self._seen = outcome.observations
            observations.append(self._seen)
            rewards.append(outcome.rewards)
            ends.append(outcome.terminated)
            cuts.append(outcome.truncated)
            finals |= {(step, game): last for game, last in outcome.finals.items()}
            finished += outcome.finished.values()
        return Rollout(
            np.stack(observations), np.stack(moves), np.stack(rewards), np.stack(ends), np.stack(cuts), finals, finished
        )

    def close(self) -> None:
        """Close the games."""
        self._games.close()


class Collectors:
    """Collectors on a Ray cluster, one actor for each seed.

    Joins the cluster that ``ray.init`` has connected this process to; else starts a local one, which stays until
    ``ray.shutdown()``.

    Args:
        config: which games.
        num_games: batch of each.
        policy: shape of the network.
        seeds: one for each actor.
        options: of the actors as ``ray.remote`` takes them, for instance ``num_cpus`` or ``max_restarts``.
    """

    def __init__(
        self, config: GamesConfig, num_games: int, policy: PolicyConfig, seeds: Sequence[int], **options: Any
    ) -> None:
        try:
            import ray
        except ImportError as error:
            raise UserError("ray is not installed; pip install 'latentcraft[ray]'") from error
        if not seeds:
            raise UserError("give a seed for each collector, at least one")
        if not ray.is_initialized():
            ray.init(include_dashboard=False)
        self._ray: Any = ray
        threads = max(1, int(options.setdefault("num_cpus", 1)))
        actor: Any = ray.remote(**options)(Collector)
        self._actors = [actor.remote(config, num_games, policy, seed, threads) for seed in seeds]

    def collect(self, weights: dict[str, np.ndarray], steps: int) -> list[Rollout]:
        """Let all of them play at the same time; returns a rollout for each seed, in order.

        Raises:
            UserError: as :meth:`Collector.collect`.
        """
        ray = self._ray
        shared = ray.put(weights)  # once, however many read it
        try:
            return ray.get([actor.collect.remote(shared, steps) for actor in self._actors])
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from error
            raise

    def close(self) -> None:
        """End the actors; the cluster goes on."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors = []
