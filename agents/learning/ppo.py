"""The training itself: SB3's PPO, with a callback that saves, keeps and logs."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.policies import ActorCriticPolicy

from latentcraft.agents.learning.games import Games
from latentcraft.agents.learning.network import PolicyConfig, PolicyNet
from latentcraft.agents.learning.policy import load_policy_file, save_policy
from latentcraft.agents.learning.progress import Progress, cut_log, load_state, save_state
from latentcraft.agents.learning.sb3 import AnchoredPolicy, GamesVecEnv, policy_arguments, put_weights, take_weights
from latentcraft.agents.learning.train import AgentTrainConfig
from latentcraft.model.train.journal import Journal
from latentcraft.simulator.protocol import World

LOG = "agent"
"""Name of the log, ``agent.log.jsonl``."""
POLICY, STATE, KEPT = "policy.safetensors", "state.pt", "checkpoints"
"""Files and folder of a training."""
ENDINGS = ("steps", "minutes", "out", "save_every", "keep_every", "threads")
"""Keys that may change when a training goes on."""


def train(
    config: AgentTrainConfig, *, world: World | None = None, report: Callable[[str], None] = lambda line: None
) -> Progress:
    """Train, or go on, until ``config.steps`` or ``config.minutes``.

    A training that stopped and went on ends with the same weights as one that did not.

    Args:
        config: what to train.
        world: played instead of the world ``config`` names, for tests.
        report: gets a line now and then.

    Returns:
        How far the training is.

    Raises:
        UserError: bad keys, a bad policy or checkpoint, a folder of another training.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    identity = identity_of(config)
    # Trainings from before there was a choice kept the value head.
    defaults = identity_of(AgentTrainConfig(out=config.out)) | {"keep_value": True}
    found = load_state(config.out / STATE, identity, defaults)
    progress = found[0] if found else Progress()
    if found and spent(config, progress):
        return progress
    net = load_policy_file(config.begin).net if config.begin is not None else None
    policy_config = PolicyConfig() if net is None else net.config
    games = Games(config, config.ppo.games, policy_config.sight, config.seed, world)
    try:
        learner = make_learner(config, policy_config, games)
        if isinstance(learner.policy, AnchoredPolicy):
            assert net is not None
            learner.policy.anchor = [net]
        if found:
            _go_on(learner, games, progress, found[1])
            cut_log(config.out / f"{LOG}.log.jsonl", progress.steps)
        elif net is not None:
            put_weights(net, learner.policy, value=config.keep_value)
        config.out.mkdir(parents=True, exist_ok=True)
        learner.set_logger(Logger(str(config.out), [_ToJournal(Journal(config.out, LOG))]))
        keeper = _Keeper(config, policy_config, games, progress, identity, report)
        if not spent(config, progress):
            learner.learn(config.steps - progress.steps, keeper, reset_num_timesteps=False)
    finally:
        games.close()
    return progress


def make_learner(config: AgentTrainConfig, policy: PolicyConfig, games: Games) -> PPO:
    """Return SB3's PPO, which plays ``games``."""
    ppo = config.ppo
    return PPO(
        AnchoredPolicy if ppo.near else ActorCriticPolicy, GamesVecEnv(games, policy.sight), n_steps=ppo.rollout,
        learning_rate=ppo.learning_rate, batch_size=ppo.batch, n_epochs=ppo.epochs, gamma=ppo.gamma,
        gae_lambda=ppo.gae_lambda, clip_range=ppo.clip, ent_coef=ppo.near or ppo.entropy, vf_coef=ppo.value,
        target_kl=ppo.target_kl, policy_kwargs=policy_arguments(policy), seed=config.seed, device="cpu",
    )  # fmt: skip


def spent(config: AgentTrainConfig, progress: Progress) -> bool:
    """Whether a training has used up its steps or its minutes."""
    late = config.minutes is not None and progress.cpu_seconds >= 60 * config.minutes
    return progress.steps >= config.steps or late


def identity_of(config: AgentTrainConfig) -> dict[str, Any]:
    """Return the keys, as JSON values, that make a training this one."""
    keys = {key: value for key, value in asdict(config).items() if key not in ENDINGS}
    return json.loads(json.dumps(keys, default=str))


def _state_of(learner: PPO, games: Games) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return tensors and games for :func:`save_state`; between two rollouts this is all there is."""
    policy = learner.policy
    tensors = {
        "policy": policy.state_dict(), "optimizer": policy.optimizer.state_dict(), "torch": torch.get_rng_state()
    }  # fmt: skip
    _, keys, position, *_ = np.random.get_state()  # SB3 shuffles minibatches by it
    more = {"numpy": np.asarray(keys), "position": int(position), "begun": np.asarray(learner._last_episode_starts)}
    return tensors, games.state() | more


def _go_on(learner: PPO, games: Games, progress: Progress, state: dict[str, Any]) -> None:
    """Put learner and games where :func:`_state_of` left them."""
    learner.policy.load_state_dict(state["policy"])
    learner.policy.optimizer.load_state_dict(state["optimizer"])
    played = state["games"]
    learner._last_obs = games.restore(played)
    learner._last_episode_starts = played["begun"]
    learner.num_timesteps = progress.steps
    torch.set_rng_state(state["torch"])
    np.random.set_state(("MT19937", played["numpy"], played["position"], 0, 0.0))  # no half of a normal pair is kept


class _ToJournal(KVWriter):
    """Sends what SB3 logs to our journal: one line an update, and TensorBoard."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        figures = {key: float(value) for key, value in key_values.items() if isinstance(value, (int, float, np.number))}
        self._journal.write({"step": step, **figures})

    def close(self) -> None:
        pass


class _Keeper(BaseCallback):
    """Counts, saves and keeps; an update is over when the next rollout begins."""

    def __init__(
        self, config: AgentTrainConfig, policy: PolicyConfig, games: Games, progress: Progress,
        identity: dict[str, Any], report: Callable[[str], None],
    ) -> None:  # fmt: skip
        super().__init__()
        self.config, self.policy_config, self.games, self.progress = config, policy, games, progress
        self.identity, self.report = identity, report
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        self._saved = self._kept = progress.steps

    def _on_training_start(self) -> None:
        if not self.progress.steps:  # what training began with is a point of every curve
            self._keep()

    def _on_rollout_start(self) -> None:
        if self.num_timesteps > self.progress.steps:
            self._count()
            if spent(self.config, self.progress) or self.progress.steps - self._saved >= self.config.save_every:
                self._save()
            if self.progress.steps - self._kept >= self.config.keep_every:
                self._keep()

    def _on_step(self) -> bool:
        # The step just played is not counted: what was saved before it is where a next run goes on.
        if spent(self.config, self.progress):
            return False
        self.progress.returns.extend(info["episode"]["r"] for info in self.locals["infos"] if "episode" in info)
        return True

    def _on_rollout_end(self) -> None:
        mean, seconds = self.progress.mean_return(), self._cpu_seconds()
        if self.progress.returns:
            self.logger.record("agent/return", mean)
        self.logger.record("agent/cpu_seconds", seconds)
        self.logger.record("agent/frames", self.games.frames)
        self.report(f"{self.num_timesteps} steps: return {mean:.3g}, {seconds:.0f} s")

    def _on_training_end(self) -> None:
        if not spent(self.config, self.progress):  # the last update came after the last rollout began
            self._count()
            self._save()
        if self.progress.steps > self._kept:
            self._keep()

    def _count(self) -> None:
        """Take the steps so far as learned from."""
        self.progress.steps, self.progress.frames = self.num_timesteps, self.games.frames
        self.progress.cpu_seconds = self._cpu_seconds()
        self._cpu = time.process_time()
        now = time.perf_counter()
        self.progress.wall_seconds += now - self._wall
        self._wall = now

    def _cpu_seconds(self) -> float:
        return self.progress.cpu_seconds + time.process_time() - self._cpu

    def _net(self) -> PolicyNet:
        return take_weights(self.model.policy, self.policy_config)

    def _provenance(self) -> dict[str, Any]:
        progress = self.progress
        return {
            "made": "ppo", **self.identity, "steps": progress.steps, "frames": progress.frames,
            "cpu_seconds": round(progress.cpu_seconds, 1), "wall_seconds": round(progress.wall_seconds, 1),
            "return": progress.mean_return() if progress.returns else None,
        }  # fmt: skip

    def _keep(self) -> None:
        self._kept = self.progress.steps
        save_policy(self.config.out / KEPT / f"{self._kept:09}.safetensors", self._net(), self._provenance())

    def _save(self) -> None:
        self._saved = self.progress.steps
        save_policy(self.config.out / POLICY, self._net(), self._provenance())
        tensors, games = _state_of(self.model, self.games)  # type: ignore[arg-type]
        save_state(self.config.out / STATE, self.progress, self.identity, tensors, games)
