"""Stable-Baselines3's side: our games as its ``VecEnv``, our network as its stock policy class.

Nothing of SB3 is changed; only weights are carried between its policy and ours, so that what PPO trains is a
:class:`~latentcraft.agents.learning.network.PolicyNet` like any other. :class:`AnchoredPolicy` alone is more than that.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor
from torch.distributions import Categorical
from torch.nn.functional import kl_div

from latentcraft.agents.learning.games import Games
from latentcraft.agents.learning.moves import MOVES
from latentcraft.agents.learning.network import PolicyConfig, PolicyNet, Trunk
from latentcraft.agents.learning.sight import SightConfig

_PARTS = {"features_extractor.trunk.": "trunk.", "action_net.": "moves.", "value_net.": "value."}
"""Prefixes of SB3's ``ActorCriticPolicy`` and of ours for the same weights."""


def spaces_of(sight: SightConfig) -> tuple[spaces.Box, spaces.Discrete]:
    """Return what is observed and what can be done, as spaces."""
    return spaces.Box(0, 255, sight.shape, np.uint8), spaces.Discrete(len(MOVES))


class TrunkExtractor(BaseFeaturesExtractor):
    """Our trunk as SB3 builds it."""

    def __init__(self, observation_space: spaces.Box, config: PolicyConfig) -> None:
        super().__init__(observation_space, config.features)
        self.trunk = Trunk(config)

    def forward(self, observations: Tensor) -> Tensor:
        return self.trunk(observations)


class AnchoredPolicy(ActorCriticPolicy):
    """Tells PPO, where it asks for the entropy, minus the KL divergence from another policy; see
    :attr:`latentcraft.agents.learning.train.PPOConfig.near`. SB3 logs it as ``train/entropy_loss``.
    """

    anchor: list[PolicyNet]
    """The other policy, alone in a list, so that it is no part of this module: neither saved nor trained."""

    def evaluate_actions(self, obs: Tensor | dict[str, Tensor], actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return values, log-probabilities of ``actions``, and minus the divergence, each ``(n,)``."""
        values, log_probabilities, _ = super().evaluate_actions(obs, actions)
        drawn = self.get_distribution(obs).distribution
        assert isinstance(obs, Tensor) and isinstance(drawn, Categorical)
        mine = drawn.logits  # normalised: log-probabilities
        theirs = self.anchor[0].logits(obs).log_softmax(1)
        return values, log_probabilities, -kl_div(theirs, mine, reduction="none", log_target=True).sum(1)


def policy_arguments(config: PolicyConfig) -> dict[str, Any]:
    """Return SB3's ``policy_kwargs`` that make its ``ActorCriticPolicy`` have the layers of :class:`PolicyNet`."""
    return {
        "features_extractor_class": TrunkExtractor, "features_extractor_kwargs": {"config": config},
        "net_arch": [], "normalize_images": False, "ortho_init": False,
    }  # fmt: skip


def put_weights(net: PolicyNet, policy: torch.nn.Module, *, value: bool = True) -> None:
    """Copy the weights of ``net`` into SB3's ``policy``; without its ``value`` head, which then says 0."""
    ours = net.state_dict()
    if not value:
        ours |= {name: torch.zeros_like(each) for name, each in ours.items() if name.startswith("value.")}
    theirs = {}
    for their_name in policy.state_dict():
        for their_prefix, prefix in _PARTS.items():
            if their_name.startswith(their_prefix):
                theirs[their_name] = ours[prefix + their_name.removeprefix(their_prefix)]
    # Shared extractors appear under several names in SB3; strict=False passes those over, the check below does not.
    policy.load_state_dict(theirs, strict=False)
    assert len(theirs) == len(ours), "SB3 has changed the layout of its policies"


def take_weights(policy: torch.nn.Module, config: PolicyConfig) -> PolicyNet:
    """Return a :class:`PolicyNet` with the weights of SB3's ``policy``, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):  # saving must not change what a training draws next
        net = PolicyNet(config)
    weights = {}
    for name, value in policy.state_dict().items():
        for their_prefix, prefix in _PARTS.items():
            if name.startswith(their_prefix):
                weights[prefix + name.removeprefix(their_prefix)] = value.detach().clone()
    net.load_state_dict(weights)
    return net.eval()


class GamesVecEnv(VecEnv):
    """:class:`Games` as SB3 steps it: moves come in one call and go out in the next."""

    def __init__(self, games: Games, sight: SightConfig) -> None:
        self.games = games
        super().__init__(games.num_games, *spaces_of(sight))
        self._moves = np.zeros(games.num_games, np.int64)

    def reset(self) -> np.ndarray:
        return self.games.reset()

    def step_async(self, actions: np.ndarray) -> None:
        self._moves = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        outcome = self.games.step(self._moves)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for index, final in outcome.finals.items():
            episode = outcome.finished[index]
            infos[index] = {
                "terminal_observation": final, "TimeLimit.truncated": not episode.ended,
                "episode": {"r": episode.reward, "l": episode.length, "t": 0.0},
            }  # fmt: skip
        return outcome.observations, outcome.rewards, outcome.terminated | outcome.truncated, infos

    def close(self) -> None:
        self.games.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.games.env, attr_name, None)] * self.num_envs  # SB3 asks for render_mode

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError("the games are one batch; they have no attributes of their own")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        raise NotImplementedError("the games are one batch; they have no methods of their own")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs

    def seed(self, seed: int | None = None) -> Sequence[None | int]:
        return [None] * self.num_envs  # Games is seeded when made
